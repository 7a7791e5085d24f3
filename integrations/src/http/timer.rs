//! Deadlines for hyper on the runtime's clock, which is simulated time in a simulation.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alys_runtime::io::{AsyncRead, AsyncWrite, ReadBuf};
use alys_runtime::time::Instant;
use hyper::rt::{Sleep, Timer};

/// hyper's timer, which enforces its header timeout.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuntimeTimer;

impl Timer for RuntimeTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(SyncSleep(Mutex::new(sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }
}

type BoxSleep = Pin<Box<dyn Future<Output = ()> + Send>>;

fn sleep(duration: Duration) -> BoxSleep {
    Box::pin(alys_runtime::time::sleep(duration))
}

/// A sleep of the runtime behind a mutex that is never locked, because hyper requires its sleeps to
/// be `Sync`.
struct SyncSleep(Mutex<BoxSleep>);

impl Sleep for SyncSleep {}

impl Future for SyncSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .poll(cx)
    }
}

/// A stream whose writes fail when the remote side has read nothing for `timeout`. hyper has no
/// write deadline, so a client that requests much and reads nothing would hold its connection and
/// the answer's memory for ever.
pub(super) struct WriteDeadline<S> {
    stream: S,
    timeout: Duration,
    /// Set while a write is blocked.
    deadline: Option<BoxSleep>,
}

impl<S> WriteDeadline<S> {
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            deadline: None,
        }
    }

    fn enforce_deadline<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match progress {
            Poll::Ready(result) => {
                self.deadline = None;
                Poll::Ready(result)
            }
            Poll::Pending => {
                let timeout = self.timeout;
                ready!(
                    self.deadline
                        .get_or_insert_with(|| sleep(timeout))
                        .as_mut()
                        .poll(cx)
                );
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.enforce_deadline(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.enforce_deadline(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.enforce_deadline(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.enforce_deadline(cx, progress)
    }
}
