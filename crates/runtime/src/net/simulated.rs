//! Listeners and streams of the simulated network, whose rules are in `sim::net`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::io::{AsyncRead, AsyncWrite, ReadBuf};
use crate::sim::net::{Backlog, ConnId, FIRST_FREE_PORT, SideHandle, Waiter};
use crate::sim::state::WorldState;
use crate::sim::{Process, here, try_with, with};

/// Connections that wait for `accept`; further ones are ignored.
const BACKLOG: usize = 1_024;

/// Probability of the buggify sites of reads and writes. Low, because each firing costs an event.
const RARE_PPM: u32 = 20_000;

/// Maximum bytes of a short read or write.
const SHORT: u64 = 8;

/// Interval between attempts to reach a machine that does not answer.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub struct Listener {
    process: Process,
    local: SocketAddr,
}

impl Listener {
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        with(|state| {
            let process = current_process(state)?;
            let node = state.node(process.node);
            if !(addr.ip().is_unspecified() || addr.ip().is_loopback() || addr.ip() == node.ip) {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let port = match addr.port() {
                0 => state.free_port(process),
                port => port,
            };
            let key = (process.node, port);
            if state.net.listeners.contains_key(&key) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let backlog = Backlog {
                process,
                ip: addr.ip(),
                waiting: Default::default(),
                waiter: Waiter::default(),
            };
            state.net.listeners.insert(key, backlog);
            let local = SocketAddr::new(addr.ip(), port);
            state.note(process.node, "net.listen", &port.to_le_bytes(), || {
                local.to_string()
            });
            Ok(Self { process, local })
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        if crate::buggify!("runtime.net.spurious_accept") {
            return wake_spuriously(cx);
        }
        with(|state| {
            let key = (self.process.node, self.local.port());
            // Removed from the map meanwhile, because its timer needs the rest of the state.
            let own = state.net.listeners.remove(&key);
            let Some(mut backlog) = own.filter(|backlog| backlog.process == self.process) else {
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
            let stream = Stream::new(state, id, 1, self.process);
            let peer = stream.peer;
            state.note(self.process.node, "net.accept", &id.to_le_bytes(), || {
                format!("connection {id} from {peer}")
            });
            Poll::Ready(Ok((stream, peer)))
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        try_with(|state| {
            let key = (self.process.node, self.local.port());
            if state
                .net
                .listeners
                .get(&key)
                .is_none_or(|backlog| backlog.process != self.process)
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
    handle: SideHandle,
    local: SocketAddr,
    peer: SocketAddr,
}

/// The answer to a request to connect, with its arrival time.
enum ConnectAnswer {
    /// The machine is unreachable or does not answer.
    None,
    /// No process listens at the port.
    Refused(Duration),
    Accepted(Duration),
}

impl Stream {
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let (near, far, local, process, deadline) = with(|state| {
            let process = current_process(state)?;
            let near = state.node(process.node).ip;
            let is_own = addr.ip().is_loopback() || addr.ip().is_unspecified() || addr.ip() == near;
            let far = if is_own { near } else { addr.ip() };
            let local_ip = if addr.ip().is_loopback() {
                addr.ip()
            } else {
                near
            };
            let local = SocketAddr::new(local_ip, state.free_port(process));
            state.note(
                process.node,
                "net.connect",
                local.to_string().as_bytes(),
                || format!("{local} to {addr}"),
            );
            Ok::<_, io::Error>((
                near,
                far,
                local,
                process,
                state.now() + state.net.timeouts.connect,
            ))
        })?;
        crate::buggify_pause!("runtime.net.slow_connect", 250_000, 300);
        loop {
            let arrives =
                with(|state| (!state.is_blocked(near, far)).then(|| state.arrival(near, far, 0)));
            if let Some(arrives) = arrives {
                wait_until(arrives).await;
                match with(|state| state.answer_connect(near, far, addr.port())) {
                    ConnectAnswer::None => {}
                    ConnectAnswer::Refused(answered) => {
                        wait_until(answered).await;
                        if with(|state| !state.is_blocked(far, near)) {
                            with(|state| state.count("connect.refused"));
                            return Err(io::ErrorKind::ConnectionRefused.into());
                        }
                    }
                    ConnectAnswer::Accepted(answered) => {
                        wait_until(answered).await;
                        if let Some(id) =
                            with(|state| state.establish(process, local, addr, near, far))
                        {
                            return Ok(with(|state| Self::new(state, id, 0, process)));
                        }
                    }
                }
            }
            let now = with(|state| state.now());
            if now >= deadline {
                with(|state| state.count("connect.timeout"));
                return Err(io::ErrorKind::TimedOut.into());
            }
            wait_until((now + CONNECT_RETRY_INTERVAL).min(deadline)).await;
        }
    }

    fn new(state: &WorldState, id: ConnId, side: usize, process: Process) -> Self {
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
            handle: SideHandle { id, side, process },
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
        let SideHandle { id, side, .. } = self.handle;
        if crate::buggify!("runtime.net.spurious_read", RARE_PPM) {
            return wake_spuriously(cx);
        }
        let short = crate::buggify_below!("runtime.net.short_read", RARE_PPM, SHORT);
        self.handle.with(|state, conn| {
            let room = short.map_or(buf.remaining(), |short| {
                buf.remaining().min(1 + short as usize)
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
        let SideHandle { id, side, .. } = self.handle;
        if crate::buggify!("runtime.net.spurious_write", RARE_PPM) {
            return wake_spuriously(cx);
        }
        let short = crate::buggify_below!("runtime.net.short_write", RARE_PPM, SHORT);
        let len = short.map_or(bytes.len(), |short| bytes.len().min(1 + short as usize));
        let bytes = &bytes[..len];
        self.handle
            .with(|state, conn| state.send(id, conn, side, bytes, cx))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Written data is already in flight. A wake-up here would make two idle HTTP/2 peers wake
        // each other.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let SideHandle { id, side, .. } = self.handle;
        self.handle.with(|state, conn| {
            state.finish(conn, side, id);
            Poll::Ready(Ok(()))
        })
    }
}

impl WorldState {
    /// An unused port of the node. Ports are reused only after all others were.
    fn free_port(&mut self, process: Process) -> u16 {
        loop {
            let node = self.node(process.node);
            let port = node.next_port;
            node.next_port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
            if !self.net.listeners.contains_key(&(process.node, port)) {
                return port;
            }
        }
    }

    /// Answers a request to connect that has arrived at `far`.
    fn answer_connect(&mut self, near: IpAddr, far: IpAddr, port: u16) -> ConnectAnswer {
        if self.is_blocked(near, far) || self.is_blocked(far, near) {
            return ConnectAnswer::None;
        }
        let Some(node) = self.by_ip.get(&far).copied() else {
            return ConnectAnswer::None;
        };
        match self.net.listeners.get(&(node, port)) {
            Some(backlog) if backlog.waiting.len() >= BACKLOG => ConnectAnswer::None,
            Some(backlog) if backlog.ip.is_loopback() && near != far => {
                ConnectAnswer::Refused(self.arrival(far, near, 0))
            }
            Some(_) => ConnectAnswer::Accepted(self.arrival(far, near, 0)),
            None => ConnectAnswer::Refused(self.arrival(far, near, 0)),
        }
    }

    /// Creates the connection when the listener's answer has arrived and both directions are still
    /// open.
    fn establish(
        &mut self,
        process: Process,
        local: SocketAddr,
        addr: SocketAddr,
        near: IpAddr,
        far: IpAddr,
    ) -> Option<ConnId> {
        if !self.is_alive(process) || self.is_blocked(near, far) || self.is_blocked(far, near) {
            return None;
        }
        let key = (self.by_ip.get(&far).copied()?, addr.port());
        let acceptor = self.net.listeners.get(&key)?.process;
        let ready_at = self.arrival(near, far, 0);
        let id = self.add_conn([(process, local, near), (acceptor, addr, far)]);
        let mut backlog = self.net.listeners.remove(&key)?;
        backlog.waiting.push_back((ready_at, id));
        let first = backlog.waiting.front().map(|(ready_at, _)| *ready_at);
        backlog.waiter.arm(self, first);
        self.net.listeners.insert(key, backlog);
        self.note(process.node, "net.connected", &id.to_le_bytes(), || {
            format!("connection {id} to {addr}")
        });
        Some(id)
    }
}

/// The current process; an error if it is dead.
fn current_process(state: &WorldState) -> io::Result<Process> {
    let process = here();
    if !state.is_alive(process) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(process)
}

/// Returns `Pending` and wakes the task at once.
fn wake_spuriously<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

async fn wait_until(at: Duration) {
    let until = with(|state| (at > state.now()).then(|| state.start + at));
    if let Some(until) = until {
        crate::time::sleep_until(until).await;
    }
}
