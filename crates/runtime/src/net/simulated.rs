//! Listeners and streams of the simulated network; its rules are in `sim::net`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::io::{AsyncRead, AsyncWrite, ReadBuf};
use crate::sim::net::{Backlog, ConnId, FIRST_FREE_PORT, Held, Waiter};
use crate::sim::state::State;
use crate::sim::{Home, here, try_with, with};

/// How many connections wait for `accept` before more of them are ignored.
const BACKLOG: usize = 1_024;

/// How often sites of every read and write fire: they cost an event each.
const SELDOM_PPM: u32 = 20_000;

/// Bytes of a short read or write, at most.
const SHORT: u64 = 8;

/// The time between two tries to reach somebody who does not answer.
const CONNECT_RETRY: Duration = Duration::from_secs(1);

pub struct Listener {
    home: Home,
    local: SocketAddr,
}

impl Listener {
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        with(|state| {
            let home = alive(state)?;
            let node = state.node(home.node);
            if !(addr.ip().is_unspecified() || addr.ip().is_loopback() || addr.ip() == node.ip) {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let port = match addr.port() {
                0 => state.free_port(home),
                port => port,
            };
            let key = (home.node, port);
            if state.net.listeners.contains_key(&key) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let backlog = Backlog {
                home,
                ip: addr.ip(),
                waiting: Default::default(),
                waiter: Waiter::default(),
            };
            state.net.listeners.insert(key, backlog);
            let local = SocketAddr::new(addr.ip(), port);
            state.note(home.node, "net.listen", &port.to_le_bytes(), || {
                local.to_string()
            });
            Ok(Self { home, local })
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        if crate::buggify!("runtime.net.spurious_accept") {
            return not_yet(cx);
        }
        with(|state| {
            let key = (self.home.node, self.local.port());
            // Taken out meanwhile, because its timer needs the rest of the state.
            let own = state.net.listeners.remove(&key);
            let Some(mut backlog) = own.filter(|backlog| backlog.home == self.home) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            };
            let now = state.now();
            let taken = match backlog.waiting.front() {
                Some((ready_at, _)) if *ready_at <= now => backlog.waiting.pop_front(),
                first => {
                    let ready_at = first.map(|(ready_at, _)| *ready_at);
                    backlog.waiter.wait(cx);
                    backlog.waiter.arm(state, ready_at);
                    None
                }
            };
            state.net.listeners.insert(key, backlog);
            let Some((_, id)) = taken else {
                return Poll::Pending;
            };
            let stream = Stream::new(state, id, 1, self.home);
            let peer = stream.peer;
            state.note(self.home.node, "net.accept", &id.to_le_bytes(), || {
                format!("connection {id} from {peer}")
            });
            Poll::Ready(Ok((stream, peer)))
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        try_with(|state| {
            let key = (self.home.node, self.local.port());
            if state
                .net
                .listeners
                .get(&key)
                .is_none_or(|backlog| backlog.home != self.home)
            {
                return;
            }
            let backlog = state.net.listeners.remove(&key);
            for (_, id) in backlog.into_iter().flat_map(|backlog| backlog.waiting) {
                state.with_conn(id, |state, conn| state.abort(id, conn, 1));
                state.release(id, 1);
            }
        });
    }
}

pub struct Stream {
    held: Held,
    local: SocketAddr,
    peer: SocketAddr,
}

/// What a request to connect meets where it arrives.
enum Met {
    /// Nobody is there, or the answer cannot leave.
    Silence,
    /// A kernel, but no listener. The answer arrives then.
    Refusal(Duration),
    /// A listener. Its answer arrives then.
    Listener(Duration),
}

impl Stream {
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let (near, far, local, home, deadline) = with(|state| {
            let home = alive(state)?;
            let near = state.node(home.node).ip;
            let is_own = addr.ip().is_loopback() || addr.ip().is_unspecified() || addr.ip() == near;
            let far = if is_own { near } else { addr.ip() };
            let local_ip = if addr.ip().is_loopback() {
                addr.ip()
            } else {
                near
            };
            let local = SocketAddr::new(local_ip, state.free_port(home));
            state.note(
                home.node,
                "net.connect",
                local.to_string().as_bytes(),
                || format!("{local} to {addr}"),
            );
            Ok::<_, io::Error>((
                near,
                far,
                local,
                home,
                state.now() + state.net.patience.connect,
            ))
        })?;
        crate::buggify_pause!("runtime.net.slow_connect", 250_000, 300);
        loop {
            let arrives =
                with(|state| (!state.is_blocked(near, far)).then(|| state.arrival(near, far, 0)));
            if let Some(arrives) = arrives {
                wait_until(arrives).await;
                match with(|state| state.meet(near, far, addr.port())) {
                    Met::Silence => {}
                    Met::Refusal(answered) => {
                        wait_until(answered).await;
                        if with(|state| !state.is_blocked(far, near)) {
                            with(|state| state.count("connect.refused"));
                            return Err(io::ErrorKind::ConnectionRefused.into());
                        }
                    }
                    Met::Listener(answered) => {
                        wait_until(answered).await;
                        if let Some(id) =
                            with(|state| state.establish(home, local, addr, near, far))
                        {
                            return Ok(with(|state| Self::new(state, id, 0, home)));
                        }
                    }
                }
            }
            let now = with(|state| state.now());
            if now >= deadline {
                with(|state| state.count("connect.timeout"));
                return Err(io::ErrorKind::TimedOut.into());
            }
            wait_until((now + CONNECT_RETRY).min(deadline)).await;
        }
    }

    fn new(state: &State, id: ConnId, side: usize, home: Home) -> Self {
        let unknown = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
        let addr = |side: usize| {
            state
                .net
                .conns
                .get(&id)
                .map_or(unknown, |conn| conn.sides[side].addr)
        };
        Self {
            local: addr(side),
            peer: addr(1 - side),
            held: Held { id, side, home },
        }
    }

    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Held { id, side, .. } = self.held;
        if crate::buggify!("runtime.net.spurious_read", SELDOM_PPM) {
            return not_yet(cx);
        }
        let least = crate::buggify_below!("runtime.net.short_read", SELDOM_PPM, SHORT);
        self.held.with(|state, conn| {
            let room = least.map_or(buf.remaining(), |least| {
                buf.remaining().min(1 + least as usize)
            });
            state.receive(id, conn, side, room, cx, |bytes| buf.put_slice(bytes))
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Held { id, side, .. } = self.held;
        if crate::buggify!("runtime.net.spurious_write", SELDOM_PPM) {
            return not_yet(cx);
        }
        let least = crate::buggify_below!("runtime.net.short_write", SELDOM_PPM, SHORT);
        let bytes =
            &bytes[..least.map_or(bytes.len(), |least| bytes.len().min(1 + least as usize))];
        self.held
            .with(|state, conn| state.send(id, conn, side, bytes, cx))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way. Anything else here would make two idle HTTP/2 ends wake each other.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Held { id, side, .. } = self.held;
        self.held.with(|state, conn| {
            state.finish(conn, side, id);
            Poll::Ready(Ok(()))
        })
    }
}

impl State {
    /// A port of the node that nobody listens on. Ports come around only after all others were used.
    fn free_port(&mut self, home: Home) -> u16 {
        loop {
            let node = self.node(home.node);
            let port = node.next_port;
            node.next_port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
            if !self.net.listeners.contains_key(&(home.node, port)) {
                return port;
            }
        }
    }

    /// A request to connect has arrived at `far`.
    fn meet(&mut self, near: IpAddr, far: IpAddr, port: u16) -> Met {
        if self.is_blocked(near, far) || self.is_blocked(far, near) {
            return Met::Silence;
        }
        let Some(node) = self.by_ip.get(&far).copied() else {
            return Met::Silence;
        };
        match self.net.listeners.get(&(node, port)) {
            Some(backlog) if backlog.waiting.len() >= BACKLOG => Met::Silence,
            Some(backlog) if backlog.ip.is_loopback() && near != far => {
                Met::Refusal(self.arrival(far, near, 0))
            }
            Some(_) => Met::Listener(self.arrival(far, near, 0)),
            None => Met::Refusal(self.arrival(far, near, 0)),
        }
    }

    /// The listener's answer has arrived: the connection exists, if the way is still open both ways.
    fn establish(
        &mut self,
        home: Home,
        local: SocketAddr,
        addr: SocketAddr,
        near: IpAddr,
        far: IpAddr,
    ) -> Option<ConnId> {
        if !self.is_alive(home) || self.is_blocked(near, far) || self.is_blocked(far, near) {
            return None;
        }
        let key = (self.by_ip.get(&far).copied()?, addr.port());
        let taker = self.net.listeners.get(&key)?.home;
        let ready_at = self.arrival(near, far, 0);
        let id = self.add_conn([(home, local, near), (taker, addr, far)]);
        let mut backlog = self.net.listeners.remove(&key)?;
        backlog.waiting.push_back((ready_at, id));
        let first = backlog.waiting.front().map(|(ready_at, _)| *ready_at);
        backlog.waiter.arm(self, first);
        self.net.listeners.insert(key, backlog);
        self.note(home.node, "net.connected", &id.to_le_bytes(), || {
            format!("connection {id} to {addr}")
        });
        Some(id)
    }
}

/// The process that runs now, unless it is dead.
fn alive(state: &State) -> io::Result<Home> {
    let home = here();
    match state.is_alive(home) {
        true => Ok(home),
        false => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Wakes the task for nothing: who waits has to ask again.
fn not_yet<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

async fn wait_until(at: Duration) {
    let until = with(|state| (at > state.now()).then(|| state.start + at));
    if let Some(until) = until {
        crate::time::sleep_until(until).await;
    }
}
