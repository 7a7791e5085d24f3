//! Streams: two pipes between two sides, each a queue of segments with their arrival times.
//!
//! No task runs here. A reader checks the front of the queue and is woken at its arrival. On a
//! blocked link segments have no arrival time until it heals. An idle stream therefore costs
//! nothing.
//!
//! Modelled behaviour of TCP: a full window blocks the writer. Data that stays unacknowledged for
//! [`TcpTimeouts::send`], because either direction is blocked, ends the connection at its sender
//! only. A segment to a missing side is answered by a reset, if the link permits. The last bytes of
//! a closed side still arrive. Acknowledgements are immediate unless a direction is blocked.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::link::{Link, LinkState};
use super::process::Process;
use super::state::WorldState;
use super::{Detail, NodeId, with};

/// Default of [`TcpTimeouts::send`].
pub const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Default of [`TcpTimeouts::connect`].
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The first port for port 0 and for the local end of connections.
pub const FIRST_FREE_PORT: u16 = 32_768;

/// Size up to which bytes sent at the same moment are joined into one segment.
const SEGMENT: usize = 16 << 10;

/// The number of a connection.
pub type ConnId = u64;

/// All links, listeners and connections.
pub struct Net {
    pub default_link: Link,
    pub links: BTreeMap<(IpAddr, IpAddr), LinkState>,
    pub listeners: BTreeMap<(NodeId, u16), Backlog>,
    pub conns: BTreeMap<ConnId, Box<Conn>>,
    pub timeouts: TcpTimeouts,
    next_conn: ConnId,
}

/// Timeouts after which a machine reports a silent remote side to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpTimeouts {
    /// Time without an answer while connecting.
    pub connect: Duration,
    /// Time for which sent data may stay unacknowledged.
    pub send: Duration,
}

impl Default for TcpTimeouts {
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
            timeouts: TcpTimeouts::default(),
            next_conn: 1,
        }
    }
}

/// A listening port.
pub struct Backlog {
    pub process: Process,
    pub ip: IpAddr,
    /// Connections that were not accepted yet, with the arrival times of their last handshake
    /// packets.
    pub waiting: VecDeque<(Duration, ConnId)>,
    pub waiter: Waiter,
}

/// A connection. Side 0 connected, side 1 accepted.
pub struct Conn {
    pub sides: [Side; 2],
}

/// One end of a connection.
pub struct Side {
    pub process: Process,
    /// The address that the application sees.
    pub addr: SocketAddr,
    /// The machine's address, which selects the link.
    pub ip: IpAddr,
    pub state: SideState,
    /// An application or a backlog has a handle to it.
    pub is_held: bool,
    /// The reason of its end, for an application that still has a handle.
    pub error: Option<io::ErrorKind>,
    /// Arrival time of a reset in flight.
    pub reset_at: Option<Duration>,
    /// The direction in which it sends.
    pub out: Pipe,
    pub reader: Waiter,
    pub writer: Waiter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideState {
    /// In use by an application.
    Open,
    /// Closed by the application; sent data is still delivered.
    Closed,
    /// Dropped: segments to it are answered by a reset.
    Gone,
}

/// One direction of a connection.
#[derive(Default)]
pub struct Pipe {
    segments: VecDeque<Segment>,
    /// Bytes in `segments`.
    queued: usize,
    /// Bytes that were read but cannot be acknowledged.
    unacked: usize,
    /// The stream ends with the last segment.
    ended: bool,
    /// Time since which data is unacknowledged because a direction is blocked.
    stalled_since: Option<Duration>,
    /// Limit of the stall, see [`TcpTimeouts::send`].
    send_timeout: Duration,
    /// The reset that answered the last segment was lost and must be repeated.
    reset_owed: bool,
}

struct Segment {
    /// When it was accepted; segments of the same moment are joined.
    sent: Duration,
    /// Arrival time; `None` while the link is blocked.
    at: Option<Duration>,
    bytes: VecDeque<u8>,
    /// Marks the end of the stream and carries no bytes.
    is_end: bool,
}

/// A waiting task with the earliest timer set for it.
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

    /// Wakes the task at `at`, or now if that has passed.
    pub fn arm(&mut self, state: &mut WorldState, at: Option<Duration>) {
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

    pub fn wake(&mut self, state: &mut WorldState) {
        self.armed = None;
        state.wake(self.waker.take());
    }
}

impl Pipe {
    /// Arrival time of the first segment.
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

    fn times_out_at(&self) -> Option<Duration> {
        self.stalled_since.map(|since| since + self.send_timeout)
    }
}

impl Conn {
    fn new(ends: [(Process, SocketAddr, IpAddr); 2], send_timeout: Duration) -> Self {
        let sides = ends.map(|(process, addr, ip)| Side {
            process,
            addr,
            ip,
            state: SideState::Open,
            is_held: true,
            error: None,
            reset_at: None,
            out: Pipe {
                send_timeout,
                ..Pipe::default()
            },
            reader: Waiter::default(),
            writer: Waiter::default(),
        });
        Self { sides }
    }

    /// The addresses of a side and its remote side.
    pub fn direction(&self, side: usize) -> (IpAddr, IpAddr) {
        (self.sides[side].ip, self.sides[1 - side].ip)
    }

    fn is_over(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.state != SideState::Open && !side.is_held)
    }

    /// The time of the next reset or timeout of a side.
    fn next_for_writer(&self, side: usize) -> Option<Duration> {
        let this = &self.sides[side];
        [this.reset_at, this.out.times_out_at()]
            .into_iter()
            .flatten()
            .min()
    }

    fn next_for_reader(&self, side: usize) -> Option<Duration> {
        let front = self.sides[1 - side].out.front_at();
        front.into_iter().chain(self.next_for_writer(side)).min()
    }

    /// Drops a side, with its sent data that is held up at a blocked link.
    pub fn forget(&mut self, side: usize, error: Option<io::ErrorKind>) {
        let this = &mut self.sides[side];
        this.state = SideState::Gone;
        this.error = error.or(this.error);
        this.reset_at = None;
        this.out.segments.retain(|segment| segment.at.is_some());
        this.out.recount();
        this.out.stalled_since = None;
        this.out.unacked = 0;
        this.out.reset_owed = false;
    }
}

impl WorldState {
    pub fn add_conn(&mut self, ends: [(Process, SocketAddr, IpAddr); 2]) -> ConnId {
        let id = self.net.next_conn;
        self.net.next_conn += 1;
        self.net
            .conns
            .insert(id, Box::new(Conn::new(ends, self.net.timeouts.send)));
        id
    }

    /// Runs `f` on a connection, if it exists, and wakes the tasks that wait for its changes.
    pub fn with_conn<T>(
        &mut self,
        id: ConnId,
        f: impl FnOnce(&mut Self, &mut Conn) -> T,
    ) -> Option<T> {
        // Removed from the map meanwhile, because `f` needs links and timers as well.
        let mut conn = self.net.conns.remove(&id)?;
        self.refresh(id, &mut conn);
        let result = f(self, &mut conn);
        if !conn.is_over() {
            for side in 0..2 {
                let reader_at = conn.next_for_reader(side);
                let writer_at = conn.next_for_writer(side);
                conn.sides[side].reader.arm(self, reader_at);
                conn.sides[side].writer.arm(self, writer_at);
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

    /// Applies the due resets and timeouts.
    fn refresh(&mut self, id: ConnId, conn: &mut Conn) {
        let now = self.now();
        for side in 0..2 {
            let this = &conn.sides[side];
            let node = this.process.node;
            let is_reset = this.reset_at.is_some_and(|at| at <= now);
            let is_timed_out = this.out.times_out_at().is_some_and(|at| at <= now);
            if this.state == SideState::Gone || !(is_reset || is_timed_out) {
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

    /// Accepts as many of `bytes` from a side as the window allows.
    pub fn send(
        &mut self,
        id: ConnId,
        conn: &mut Conn,
        side: usize,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let (from, to) = conn.direction(side);
        let this = &mut conn.sides[side];
        if let Some(error) = this.error {
            return Poll::Ready(Err(error.into()));
        }
        if this.state != SideState::Open || this.out.ended {
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
        let node = this.process.node;
        self.note(node, "net.send", &bytes[..taken], || Detail::Sent {
            bytes: taken as u64,
            connection: id,
            to,
        });
        self.enqueue(conn, side, &bytes[..taken], false);
        self.answer(id, conn, side);
        Poll::Ready(Ok(taken))
    }

    fn enqueue(&mut self, conn: &mut Conn, side: usize, bytes: &[u8], is_end: bool) {
        let now = self.now();
        let (from, to) = conn.direction(side);
        let is_blocked = self.is_blocked(from, to);
        let is_unacknowledged = self.is_blocked(to, from);
        let mut at = (!is_blocked).then(|| self.arrival(from, to, bytes.len()));
        let out = &mut conn.sides[side].out;
        out.queued += bytes.len();
        out.ended |= is_end;
        if is_blocked || is_unacknowledged {
            out.stalled_since.get_or_insert(now);
        }
        if let Some(last) = out.segments.back_mut() {
            // Segments arrive in order.
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

    /// Passes at most `room` bytes that have arrived for a side to `take`.
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
        let (from, to) = conn.direction(1 - side);
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
            if self.is_blocked(to, from) && peer.state == SideState::Open {
                out.unacked += wanted;
            }
            // Wakes the writer only at a half-empty window, because waking it for each byte would
            // make both sides run for each byte.
            let used = out.queued + out.unacked;
            if used <= self.link_config(from, to).window / 2 {
                peer.writer.wake(self);
            }
            let node = this.process.node;
            self.note(node, "net.receive", &(wanted as u64).to_le_bytes(), || {
                Detail::Received {
                    bytes: wanted as u64,
                    connection: id,
                    from,
                }
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
        if at_end || this.state != SideState::Open {
            this.reader.done();
            return Poll::Ready(Ok(()));
        }
        this.reader.wait(cx);
        Poll::Pending
    }

    /// Shuts down the sending direction of a side.
    pub fn finish(&mut self, conn: &mut Conn, side: usize, id: ConnId) {
        let this = &conn.sides[side];
        if this.state == SideState::Open && !this.out.ended {
            let node = this.process.node;
            self.note(node, "net.finish", &id.to_le_bytes(), || {
                format!("connection {id}")
            });
            self.enqueue(conn, side, &[], true);
            self.answer(id, conn, side);
        }
    }

    /// Closes a side for its application, or for the kernel of an ended process.
    pub fn close(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        if conn.sides[side].state != SideState::Open {
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
            this.state = SideState::Closed;
            this.reader.done();
            this.writer.done();
            self.answer(id, conn, 1 - side);
        }
    }

    /// Closes a side whose handle was dropped.
    pub fn release(&mut self, id: ConnId, side: usize) {
        self.with_conn(id, |state, conn| {
            state.close(id, conn, side);
            conn.sides[side].is_held = false;
        });
    }

    /// Drops a side and sends a reset to the remote one.
    pub fn abort(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        conn.forget(side, None);
        conn.sides[side].reader.done();
        conn.sides[side].writer.done();
        self.send_reset(id, conn, 1 - side);
        self.answer(id, conn, 1 - side);
    }

    /// Sends a reset to `side`; it is lost on a blocked link.
    pub fn send_reset(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        let (from, to) = conn.direction(1 - side);
        if self.is_blocked(from, to) {
            return;
        }
        let at = self.arrival(from, to, 0);
        let node = conn.sides[side].process.node;
        self.count("link.reset");
        self.note(node, "net.reset", &id.to_le_bytes(), || {
            format!("to connection {id}")
        });
        let this = &mut conn.sides[side];
        this.reset_at = Some(this.reset_at.map_or(at, |earlier| earlier.min(at)));
        // Segments that arrive after the reset are dropped.
        conn.sides[1 - side].out.cut_after(at);
    }

    /// Answers the data that an open side has sent to a missing one by a reset at its arrival.
    fn answer(&mut self, id: ConnId, conn: &mut Conn, side: usize) {
        let is_remote_open = conn.sides[1 - side].state == SideState::Open;
        if is_remote_open || conn.sides[side].state != SideState::Open {
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
        if is_only_end && conn.sides[1 - side].state == SideState::Closed {
            // Both sides close in an orderly way.
            return;
        }
        let (from, to) = conn.direction(side);
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
        self.note(this.process.node, "net.reset", &id.to_le_bytes(), || {
            format!("to connection {id}")
        });
    }

    /// Adapts a connection to blocked or healed links. With `is_lost` the held-up data was lost,
    /// and the sender retransmits it after a delay.
    pub fn adapt(&mut self, id: ConnId, conn: &mut Conn, is_lost: bool) {
        let now = self.now();
        for side in 0..2 {
            let (from, to) = conn.direction(side);
            let is_blocked = self.is_blocked(from, to);
            let is_unacknowledged = self.is_blocked(to, from);
            let has_held = conn.sides[side].out.segments.iter().any(|s| s.at.is_none());
            let delay = if is_lost && !is_blocked && has_held {
                self.retry_delay(from, to)
            } else {
                Duration::ZERO
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
                // The reset is lost. It is repeated after healing, as if the data that it answered
                // was retransmitted.
                peer.reset_at = None;
                peer.out.reset_owed = true;
            }
            let this = &mut conn.sides[side];
            this.out.segments = segments;
            if is_blocked || is_unacknowledged {
                if is_pending || this.out.reset_owed {
                    this.out.stalled_since.get_or_insert(now);
                }
                continue;
            }
            this.out.stalled_since = None;
            this.out.unacked = 0;
            this.writer.wake(self);
            if std::mem::take(&mut this.out.reset_owed) && this.state == SideState::Open {
                self.send_reset(id, conn, side);
            }
        }
        for side in 0..2 {
            self.answer(id, conn, side);
        }
    }
}

/// An application's handle to a side of a connection.
pub struct SideHandle {
    pub id: ConnId,
    pub side: usize,
    pub process: Process,
}

impl SideHandle {
    /// Runs `f` on the connection. An error when the process is dead or the connection no longer
    /// exists.
    pub fn with<T>(
        &self,
        f: impl FnOnce(&mut WorldState, &mut Conn) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        with(|state| {
            if !state.is_alive(self.process) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let done = state.with_conn(self.id, f);
            done.unwrap_or_else(|| Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())))
        })
    }
}

impl Drop for SideHandle {
    fn drop(&mut self) {
        super::try_with(|state| {
            if state.is_alive(self.process) {
                state.release(self.id, self.side);
            }
        });
    }
}
