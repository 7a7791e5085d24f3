//! Byte streams between processes: TCP in production, simulated links in simulation.
//!
//! A stream delivers bytes in order and once, or ends. A successful write means only that there was room in the
//! buffer. Nothing tells a writer that the other side is gone until much later, so liveness is up to the
//! protocol above: bound every wait.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(not(madsim))]
#[path = "real.rs"]
mod half;
#[cfg(madsim)]
#[path = "simulated.rs"]
pub(crate) mod half;

/// A socket that takes in connections.
pub struct Listener(half::Listener);

impl Listener {
    /// Listens on `addr`. Port 0 picks a free one, see [`local_addr`](Self::local_addr). An address whose last
    /// owner has gone can be bound at once.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` (not an address of this machine), and what else the system says.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        half::Listener::bind(addr).await.map(Self)
    }

    /// The address that it listens on, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// The next connection and the address of its other end. Dropping the wait loses no connection.
    ///
    /// # Errors
    /// A connection that broke before it was taken, or no file descriptors left. The listener itself stays
    /// good: wait a little and go on.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`accept`](Self::accept). Only the last waker is kept.
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

/// One connection. Reading and writing from two tasks needs [`split`](crate::io::split).
///
/// Dropping it ends both directions. With unread input that resets the connection, and the other side may lose
/// what it has not read yet; otherwise all written bytes still arrive, then the end.
pub struct Stream(half::Stream);

impl Stream {
    /// Connects to `addr`.
    ///
    /// There is no time limit but the system's, which is minutes: put [`timeout`](crate::time::timeout) around
    /// it.
    ///
    /// # Errors
    /// `ConnectionRefused` when nobody listens there; `TimedOut` when nothing answers.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        half::Stream::connect(addr).await.map(Self)
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.0.peer_addr()
    }

    /// The address of this end.
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
