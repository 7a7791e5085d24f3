//! TCP, on tokio.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

pub struct Listener {
    inner: TcpListener,
    local: SocketAddr,
}

impl Listener {
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        // On Unix tokio sets SO_REUSEADDR, so that a restarted node need not wait for old
        // connections to time out.
        let inner = TcpListener::bind(addr).await?;
        let local = inner.local_addr()?;
        Ok(Self { inner, local })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        self.inner.poll_accept(cx).map(|accepted| {
            let (stream, peer) = accepted?;
            Ok((Stream::new(stream, peer)?, peer))
        })
    }
}

pub struct Stream {
    inner: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream {
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        Self::new(stream, addr)
    }

    fn new(inner: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        // Votes and requests are small and urgent; Nagle's algorithm would delay them by a round
        // trip.
        inner.set_nodelay(true)?;
        let local = inner.local_addr()?;
        Ok(Self { inner, local, peer })
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
