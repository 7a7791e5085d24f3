//! Streams: two pipes between two sides, each a queue of segments with the time of their arrival.
//!
//! Nothing here runs by itself. Whoever reads looks at the front of the queue and has itself woken when that
//! arrives; a blocked link leaves segments without an arrival until it heals. So an idle stream costs nothing.
//!
//! What TCP does and this does too: a full window makes the writer wait; data that stays unacknowledged for
//! [`Patience::send`], because either direction is blocked, ends the connection at its sender and only there; a
//! segment to a side that is gone is answered by a reset, if that gets through; a closed side's last bytes
//! still arrive. Acknowledgements take no time where nothing is blocked.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::home::Home;
use super::link::{Link, LinkState};
use super::state::State;
use super::{NodeId, with};

/// How long sent bytes may stay unacknowledged before the sender gives the connection up, unless the world says otherwise.
pub const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long connecting waits for an answer, unless the world says otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The first port that is given out for port 0 and for the near end of connections.
pub const FIRST_FREE_PORT: u16 = 32_768;

/// Bytes that are sent within one moment travel together up to this.
const SEGMENT: usize = 16 << 10;

/// A connection's number.
pub type ConnId = u64;

/// All links, listeners and connections.
pub struct Net {
    pub default_link: Link,
    pub links: BTreeMap<(IpAddr, IpAddr), LinkState>,
    pub listeners: BTreeMap<(NodeId, u16), Backlog>,
    pub conns: BTreeMap<ConnId, Box<Conn>>,
    /// What machines do with silence.
    pub patience: Patience,
    next_conn: ConnId,
}

/// How long machines wait for answers of the other end, before they tell the application that it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// While connecting.
    pub connect: Duration,
    /// After sending.
    pub send: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            send: USER_TIMEOUT,
        }
    }
}

impl Net {
    pub fn new() -> Self {
        Self {
            default_link: Link::default(),
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            patience: Patience::default(),
            next_conn: 1,
        }
    }
}

/// A listening port.
pub struct Backlog {
    pub home: Home,
    pub ip: IpAddr,
    /// Connections that nobody took yet, and when their last handshake packet arrives.
    pub waiting: VecDeque<(Duration, ConnId)>,
    pub waiter: Waiter,
}

/// A connection. Side 0 made it, side 1 took it.
pub struct Conn {
    pub sides: [Side; 2],
}

/// One end of a connection.
pub struct Side {
    pub home: Home,
    /// What the application sees.
    pub addr: SocketAddr,
    /// The machine's address, by which links are found.
    pub ip: IpAddr,
    pub life: Life,
    /// An application, or a backlog, still has a handle of it.
    pub is_held: bool,
    /// Why it is gone, for the application that still holds it.
    pub error: Option<io::ErrorKind>,
    /// A reset is on its way and arrives then.
    pub reset_at: Option<Duration>,
    /// What it sends.
    pub out: Pipe,
    pub reader: Waiter,
    pub writer: Waiter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// In the hands of an application.
    Open,
    /// Given up by the application; what it sent is still delivered.
    Closed,
    /// Forgotten: segments to it are answered by a reset.
    Gone,
}

/// One direction of a connection.
#[derive(Default)]
pub struct Pipe {
    segments: VecDeque<Segment>,
    /// Bytes in `segments`.
    queued: usize,
    /// Bytes that were read, but whose acknowledgement does not get through.
    unacked: usize,
    /// Nothing follows the last segment.
    ended: bool,
    /// Since when something has been sent without being acknowledged because a direction is blocked.
    stalled_since: Option<Duration>,
    /// How long that may be so.
    patience: Duration,
    /// The answer to the last segment was a reset that got lost.
    reset_owed: bool,
}

struct Segment {
    /// When it was accepted, for joining small ones.
    sent: Duration,
    /// When it arrives; none while the link is blocked.
    at: Option<Duration>,
    bytes: VecDeque<u8>,
    /// It is the end of the stream and carries nothing.
    is_end: bool,
}

/// A task that waits, and the earliest timer that was set for it.
#[derive(Default)]
pub struct Waiter {
    waker: Option<Waker>,
    armed: Option<Duration>,
}

impl Waiter {
    pub fn wait(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *self = Self {
                waker: Some(cx.waker().clone()),
                armed: None,
            };
        }
    }

    pub fn done(&mut self) {
        self.waker = None;
        self.armed = None;
    }

    /// Sees to it that the task is woken at `at`, or now if that is past.
    pub fn arm(&mut self, state: &mut State, at: Option<Duration>) {
        let (Some(at), Some(waker)) = (at, &self.waker) else {
            return;
        };
        let now = state.now();
        if at <= now {
            self.wake(state);
        } else if self.armed.is_none_or(|armed| armed <= now || armed > at) {
            state.wake_at(at, waker);
            self.armed = Some(at);
        }
    }

    pub fn wake(&mut self, state: &mut State) {
        self.armed = None;
        state.wake(self.waker.take());
    }
}

impl Pipe {
    /// When the front of the queue arrives.
    fn front_at(&self) -> Option<Duration> {
        self.segments.front().and_then(|segment| segment.at)
    }

    fn has_arrived(&self, now: Duration) -> bool {
        self.front_at().is_some_and(|at| at <= now)
    }

    /// Keeps only the segments that arrive by `at`.
    fn cut_after(&mut self, at: Duration) {
        self.segments
            .retain(|segment| segment.at.is_some_and(|arrives| arrives <= at));
        self.recount();
    }

    fn recount(&mut self) {
        self.queued = self
            .segments
            .iter()
            .map(|segment| segment.bytes.len())
            .sum();
    }

    fn gives_up_at(&self) -> Option<Duration> {
        self.stalled_since.map(|since| since + self.patience)
    }
}

impl Conn {
    fn new(ends: [(Home, SocketAddr, IpAddr); 2], patience: Duration) -> Self {
        let sides = ends.map(|(home, addr, ip)| Side {
            home,
            addr,
            ip,
            life: Life::Open,
            is_held: true,
            error: None,
            reset_at: None,
            out: Pipe {
                patience,
                ..Pipe::default()
            },
            reader: Waiter::default(),
            writer: Waiter::default(),
        });
        Self { sides }
    }

    /// The way from a side to the other one.
    pub fn way(&self, side: usize) -> (IpAddr, IpAddr) {
        (self.sides[side].ip, self.sides[1 - side].ip)
    }

    fn is_over(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.life != Life::Open && !side.is_held)
    }

    /// The next moment at which something happens to a side by itself.
    fn next_for_writer(&self, side: usize) -> Option<Duration> {
        let this = &self.sides[side];
        [this.reset_at, this.out.gives_up_at()]
            .into_iter()
            .flatten()
            .min()
    }

    fn next_for_reader(&self, side: usize) -> Option<Duration> {
        let front = self.sides[1 - side].out.front_at();
        front.into_iter().chain(self.next_for_writer(side)).min()
    }

    /// Forgets a side. What it sent and did not get out is lost with it.
    pub fn forget(&mut self, side: usize, error: Option<io::ErrorKind>) {
        let this = &mut self.sides[side];
        this.life = Life::Gone;
        this.error = error.or(this.error);
        this.reset_at = None;
        this.out.segments.retain(|segment| segment.at.is_some());
        this.out.recount();
        this.out.stalled_since = None;
        this.out.unacked = 0;
        this.out.reset_owed = false;
    }
}

impl State {
    pub fn add_conn(&mut self, ends: [(Home, SocketAddr, IpAddr); 2]) -> ConnId {
        let id = self.net.next_conn;
        self.net.next_conn += 1;
        self.net
            .conns
            .insert(id, Box::new(Conn::new(ends, self.net.patience.send)));
        id
    }

    /// Runs `f` on a connection, if it still exists, and lets those who wait on it know what changed.
    pub fn with_conn<T>(
        &mut self,
        id: ConnId,
        f: impl FnOnce(&mut Self, &mut Conn) -> T,
    ) -> Option<T> {
        // Taken out meanwhile, because links and timers are needed at the same time.
        let mut conn = self.net.conns.remove(&id)?;
        self.refresh(id, &mut conn);
        let result = f(self, &mut conn);
        if !conn.is_over() {
            for side in 0..2 {
                let (reader, writer) = (conn.next_for_reader(side), conn.next_for_writer(side));
                conn.sides[side].reader.arm(self, reader);
                conn.sides[side].writer.arm(self, writer);
            }
            self.net.conns.insert(id, conn);
        } else {
            for side in &mut conn.sides {
                side.reader.wake(self);
                side.writer.wake(self);
            }
        }
        Some(result)
    }

    /// Lets the resets and timeouts happen that were due.
    fn refresh(&mut self, id: ConnId, conn: &mut Conn) {
        let now = self.now();
        for side in 0..2 {
            let this = &conn.sides[side];
            let node = this.home.node;
            let is_reset = this.reset_at.is_some_and(|at| at <= now);
            let is_timed_out = this.out.gives_up_at().is_some_and(|at| at <= now);
            if this.life == Life::Gone || !(is_reset || is_timed_out) {
                continue;
            }
            if is_reset {
                conn.forget(side, Some(io::ErrorKind::ConnectionReset));
                self.note(node, "net.was_reset", &id.to_le_bytes(), || {
                    format!("connection {id}")
                });
            } else {
                conn.forget(side, Some(io::ErrorKind::TimedOut));
                self.count("link.user_timeout");
                self.note(node, "net.timed_out", &id.to_le_bytes(), || {
                    format!("connection {id}")
                });
            }
            conn.sides[side].reader.wake(self);
            conn.sides[side].writer.wake(self);
            self.answer(id, conn, 1 - side);
        }
    }

    /// Takes what it can of `bytes` from a side.
    pub fn send(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        side: usize,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let (from, to) = conn.way(side);
        let this = &mut conn.sides[side];
        if let Some(error) = this.error {
            return Poll::Ready(Err(error.into()));
        }
        if this.life != Life::Open || this.out.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let window = self.link_config(from, to).window.max(1);
        let room = window.saturating_sub(this.out.queued + this.out.unacked);
        if room == 0 {
            this.writer.wait(cx);
            self.count("link.backpressure");
            return Poll::Pending;
        }
        this.writer.done();
        let taken = self.part(from, to, bytes.len().min(room), "link.partial_write");
        let node = this.home.node;
        self.note(node, "net.send", &bytes[..taken], || {
            format!("{taken} bytes on connection {id} to {to}")
        });
        self.enqueue(conn, side, &bytes[..taken], false);
        self.answer(id, conn, side);
        Poll::Ready(Ok(taken))
    }

    fn enqueue(&mut self, conn: &mut Conn, side: usize, bytes: &[u8], is_end: bool) {
        let now = self.now();
        let (from, to) = conn.way(side);
        let (is_blocked, is_unheard) = (self.is_blocked(from, to), self.is_blocked(to, from));
        let mut at = (!is_blocked).then(|| self.arrival(from, to, bytes.len()));
        let out = &mut conn.sides[side].out;
        out.queued += bytes.len();
        out.ended |= is_end;
        if is_blocked || is_unheard {
            out.stalled_since.get_or_insert(now);
        }
        if let Some(last) = out.segments.back_mut() {
            // A stream stays in order: a segment waits for the ones before it.
            at = at.zip(last.at).map(|(at, before)| at.max(before));
            let can_join =
                last.sent == now && !last.is_end && !is_end && last.bytes.len() < SEGMENT;
            if can_join {
                last.bytes.extend(bytes);
                last.at = at;
                return;
            }
        }
        out.segments.push_back(Segment {
            sent: now,
            at,
            bytes: VecDeque::from(bytes.to_vec()),
            is_end,
        });
    }

    /// Gives a side what has arrived for it, as much as fits into `room` bytes, through `take`.
    pub fn receive(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        side: usize,
        room: usize,
        cx: &Context<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        let now = self.now();
        let (from, to) = conn.way(1 - side);
        let [first, second] = &mut conn.sides;
        let (this, peer) = if side == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let out = &mut peer.out;
        let arrived = out
            .segments
            .iter()
            .take_while(|s| s.at.is_some_and(|at| at <= now));
        let ready: usize = arrived.map(|segment| segment.bytes.len()).sum();
        if ready > 0 && room > 0 {
            this.reader.done();
            let wanted = self.part(from, to, ready.min(room), "link.partial_read");
            let mut left = wanted;
            while let Some(segment) = out.segments.front_mut().filter(|_| left > 0) {
                let taken = left.min(segment.bytes.len());
                let (head, tail) = segment.bytes.as_slices();
                take(&head[..taken.min(head.len())]);
                take(&tail[..taken.saturating_sub(head.len())]);
                segment.bytes.drain(..taken);
                left -= taken;
                if segment.bytes.is_empty() {
                    out.segments.pop_front();
                }
            }
            out.queued -= wanted;
            if self.is_blocked(to, from) && peer.life == Life::Open {
                out.unacked += wanted;
            }
            // Waking the writer for each byte would make both sides run for each byte.
            let used = out.queued + out.unacked;
            if used <= self.link_config(from, to).window / 2 {
                peer.writer.wake(self);
            }
            let node = this.home.node;
            self.note(node, "net.receive", &(wanted as u64).to_le_bytes(), || {
                format!("{wanted} bytes on connection {id} from {from}")
            });
            return Poll::Ready(Ok(()));
        }
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = this.error {
            return Poll::Ready(Err(error.into()));
        }
        let at_end =
            out.segments.front().is_some_and(|segment| segment.is_end) && out.has_arrived(now);
        if at_end || this.life != Life::Open {
            this.reader.done();
            return Poll::Ready(Ok(()));
        }
        this.reader.wait(cx);
        Poll::Pending
    }

    /// Ends what a side sends; it can still receive.
    pub fn finish(&mut self, conn: &mut Conn, side: usize, id: ConnId) {
        let this = &conn.sides[side];
        if this.life == Life::Open && !this.out.ended {
            let node = this.home.node;
            self.note(node, "net.finish", &id.to_le_bytes(), || {
                format!("connection {id}")
            });
            self.enqueue(conn, side, &[], true);
            self.answer(id, conn, side);
        }
    }

    /// A side is given up by its application, or by the kernel of a process that ended.
    pub fn close(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        if conn.sides[side].life != Life::Open {
            return;
        }
        let now = self.now();
        let peer_out = &conn.sides[1 - side].out;
        let is_unread =
            peer_out.has_arrived(now) && peer_out.segments.front().is_some_and(|s| !s.is_end);
        if is_unread {
            self.abort(id, conn, side);
        } else {
            self.finish(conn, side, id);
            let this = &mut conn.sides[side];
            this.life = Life::Closed;
            this.reader.done();
            this.writer.done();
            self.answer(id, conn, 1 - side);
        }
    }

    /// Nobody has a handle of this side any more.
    pub fn release(&mut self, id: ConnId, side: usize) {
        self.with_conn(id, |state, conn| {
            state.close(id, conn, side);
            conn.sides[side].is_held = false;
        });
    }

    /// Ends a side with a reset to the other one.
    pub fn abort(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        conn.forget(side, None);
        conn.sides[side].reader.done();
        conn.sides[side].writer.done();
        self.send_reset(id, conn, 1 - side);
        self.answer(id, conn, 1 - side);
    }

    /// A reset leaves for `side`; it is lost if the way is blocked.
    pub fn send_reset(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        let (from, to) = conn.way(1 - side);
        if self.is_blocked(from, to) {
            return;
        }
        let at = self.arrival(from, to, 0);
        let node = conn.sides[side].home.node;
        self.count("link.reset");
        self.note(node, "net.reset", &id.to_le_bytes(), || {
            format!("to connection {id}")
        });
        let this = &mut conn.sides[side];
        this.reset_at = Some(this.reset_at.map_or(at, |earlier| earlier.min(at)));
        // What is slower than the reset finds nobody any more.
        conn.sides[1 - side].out.cut_after(at);
    }

    /// What a side has sent to one that is not there any more is answered by a reset when it arrives.
    fn answer(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        if conn.sides[1 - side].life == Life::Open || conn.sides[side].life != Life::Open {
            return;
        }
        let Some(arrives) = conn.sides[side].out.front_at() else {
            return;
        };
        let is_only_end = conn.sides[side]
            .out
            .segments
            .iter()
            .all(|segment| segment.is_end);
        if is_only_end && conn.sides[1 - side].life == Life::Closed {
            // Both ends closing is the good way to end.
            return;
        }
        let (from, to) = conn.way(side);
        conn.sides[side].out.segments.clear();
        conn.sides[side].out.queued = 0;
        if self.is_blocked(to, from) {
            conn.sides[side].out.reset_owed = true;
            let now = self.now();
            conn.sides[side].out.stalled_since.get_or_insert(now);
            return;
        }
        let travel = self.arrival(to, from, 0).saturating_sub(self.now());
        let at = arrives.max(self.now()) + travel;
        let this = &mut conn.sides[side];
        this.reset_at = Some(this.reset_at.map_or(at, |earlier| earlier.min(at)));
        self.count("link.reset");
        self.note(this.home.node, "net.reset", &id.to_le_bytes(), || {
            format!("to connection {id}")
        });
    }

    /// Adapts a connection to links that have been blocked or have healed. `is_lost` says that what is sent
    /// again needs to be noticed as lost first.
    pub fn adapt(&mut self, id: ConnId, conn: &mut Conn, is_lost: bool) {
        let now = self.now();
        for side in 0..2 {
            let (from, to) = conn.way(side);
            let (is_blocked, is_unheard) = (self.is_blocked(from, to), self.is_blocked(to, from));
            let delay = match is_lost && !is_blocked {
                true if conn.sides[side].out.segments.iter().any(|s| s.at.is_none()) => {
                    self.retry_delay(from, to)
                }
                _ => Duration::ZERO,
            };
            let mut held = 0;
            let mut before = Duration::ZERO;
            let mut segments = std::mem::take(&mut conn.sides[side].out.segments);
            let is_pending = segments.iter().any(|s| s.at.is_none_or(|at| at > now));
            for segment in &mut segments {
                if is_blocked && segment.at.is_some_and(|at| at > now) {
                    segment.at = None;
                    held += 1;
                } else if !is_blocked && segment.at.is_none() {
                    segment.at = Some(self.arrival(from, to, segment.bytes.len()) + delay);
                }
                before = segment.at.unwrap_or(before).max(before);
                segment.at = segment.at.map(|at| at.max(before));
            }
            self.count_n("link.held_segments", held);
            let peer = &mut conn.sides[1 - side];
            if is_blocked && peer.reset_at.is_some_and(|at| at > now) {
                // The reset is lost as well. If it was an answer, what it answered is sent again.
                peer.reset_at = None;
                peer.out.reset_owed = true;
            }
            let this = &mut conn.sides[side];
            this.out.segments = segments;
            if is_blocked || is_unheard {
                if is_pending || this.out.reset_owed {
                    this.out.stalled_since.get_or_insert(now);
                }
                continue;
            }
            this.out.stalled_since = None;
            this.out.unacked = 0;
            this.writer.wake(self);
            if std::mem::take(&mut this.out.reset_owed) && this.life == Life::Open {
                self.send_reset(id, conn, side);
            }
        }
        for side in 0..2 {
            self.answer(id, conn, side);
        }
    }
}

/// The connection's side as the application holds it.
pub struct Held {
    pub id: ConnId,
    pub side: usize,
    pub home: Home,
}

impl Held {
    /// Runs `f` on the connection; what a dead process does, or somebody else's connection, is an error.
    pub fn with<T>(
        &self,
        f: impl FnOnce(&mut State, &mut Conn) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        with(|state| {
            if !state.is_alive(self.home) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let done = state.with_conn(self.id, f);
            done.unwrap_or_else(|| Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())))
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        super::try_with(|state| {
            if state.is_alive(self.home) {
                state.release(self.id, self.side);
            }
        });
    }
}
