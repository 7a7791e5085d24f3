//! Byte streams between processes: TCP in production, simulated links in simulation.
//!
//! A stream delivers bytes once and in order, or ends. A successful write means only that the
//! buffer had room. A writer learns of a dead remote side late, so protocols must check liveness
//! themselves and bound every wait.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(not(madsim))]
#[path = "real.rs"]
mod imp;
#[cfg(madsim)]
#[path = "simulated.rs"]
pub(crate) mod imp;

/// A listening socket.
pub struct Listener(imp::Listener);

impl Listener {
    /// Listens on `addr`. Port 0 selects a free port, see [`local_addr`](Self::local_addr). The
    /// address of a process that has ended can be bound again at once.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` (not an address of this machine), and other errors of the
    /// system.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        imp::Listener::bind(addr).await.map(Self)
    }

    /// The bound address, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Accepts a connection and returns it with the remote address. Cancelling the call loses no
    /// connection.
    ///
    /// # Errors
    /// The connection broke before it was accepted, or no file descriptors are left. The listener
    /// stays usable: wait a moment and retry.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Polls [`accept`](Self::accept). Only the last waker is kept.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        self.0
            .poll_accept(cx)
            .map_ok(|(stream, peer)| (Stream(stream), peer))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.local_addr()).finish()
    }
}

/// A connection. Reading and writing from two tasks requires [`split`](crate::io::split).
///
/// Dropping it closes both directions. With unread input this resets the connection, and the remote
/// side may lose bytes that it has not read; otherwise all written bytes arrive, followed by the
/// end of the stream.
pub struct Stream(imp::Stream);

impl Stream {
    /// Connects to `addr`.
    ///
    /// The only time limit is the system's, which is minutes: wrap the call in
    /// [`timeout`](crate::time::timeout).
    ///
    /// # Errors
    /// `ConnectionRefused` when no process listens there, `TimedOut` when the machine does not
    /// answer.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        imp::Stream::connect(addr).await.map(Self)
    }

    /// The remote address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.0.peer_addr()
    }

    /// The local address.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("local", &self.local_addr())
            .field("peer", &self.peer_addr())
            .finish()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
