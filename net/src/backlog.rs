//! Bytes that a peer has not read. A peer that answers pings and reads nothing else would keep
//! all that is queued for it in this node's memory. gossipsub bounds its queue by messages and
//! checks their age only when it takes one out; therefore this module counts bytes.
//!
//! [`Backlog`] is the pure decision; [`Meters`] measure connections for it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::core::transport::Boxed;
use libp2p::{PeerId, Transport};

use crate::addr::to_socket;

/// Time for the last bytes of a connection to leave before it is dropped. A peer that reads takes
/// them in the time of one way; one that does not read would keep the connection for ever.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Estimates the bytes that wait for one peer. While no stream waits for the peer to read, the
/// queues are empty; otherwise they hold the bytes queued less those written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    unread: u64,
    /// Queued since the last observation.
    queued: u64,
    /// Written to the connection in all, at the last observation.
    written: u64,
}

impl Backlog {
    /// A message is queued for the peer.
    pub(crate) fn add(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.queued = self.queued.saturating_add(bytes);
    }

    /// Takes the state of the connection into account, and returns the bytes that wait.
    pub(crate) fn observe(&mut self, written: u64, is_waiting: bool) -> u64 {
        let progress = written.saturating_sub(self.written);
        self.written = written;
        let queued = std::mem::take(&mut self.queued);
        self.unread = if is_waiting {
            self.unread.saturating_add(queued).saturating_sub(progress)
        } else {
            0
        };
        self.unread
    }
}

/// Counts the bytes that all streams of a connection have written, and the streams that wait until
/// the peer reads.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    written: AtomicU64,
    waiting: AtomicU64,
}

impl Meter {
    /// Bytes written in all, and whether a stream waits.
    pub(crate) fn read(&self) -> (u64, bool) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        (self.written.load(Ordering::Relaxed), waiting > 0)
    }
}

/// The meters of all connections, by remote address. A meter lives as long as its connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meters(Arc<Mutex<BTreeMap<SocketAddr, Weak<Meter>>>>);

impl Meters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Weak<Meter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The meter of a connection; `None` if it has ended.
    pub(crate) fn get(&self, socket: &SocketAddr) -> Option<Arc<Meter>> {
        self.lock().get(socket)?.upgrade()
    }

    fn register(&self, socket: Option<SocketAddr>) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        let mut meters = self.lock();
        meters.retain(|_, meter| meter.strong_count() > 0);
        if let Some(socket) = socket {
            meters.insert(socket, Arc::downgrade(&meter));
        }
        meter
    }

    /// Measures all connections of `transport`.
    pub(crate) fn measure(
        &self,
        transport: Boxed<(PeerId, StreamMuxerBox)>,
    ) -> Boxed<(PeerId, StreamMuxerBox)> {
        let meters = self.clone();
        transport
            .map(move |(peer, inner), endpoint| {
                let meter = meters.register(to_socket(endpoint.get_remote_address()));
                let muxer = StreamMuxerBox::new(MeteredMuxer {
                    inner,
                    meter,
                    close_deadline: None,
                });
                (peer, muxer)
            })
            .boxed()
    }
}

struct MeteredMuxer {
    inner: StreamMuxerBox,
    meter: Arc<Meter>,
    /// Ends [`CLOSE_TIMEOUT`] after the start of the close.
    close_deadline: Option<BoxFuture<'static, ()>>,
}

impl MeteredMuxer {
    fn metered(&self, inner: SubstreamBox) -> MeteredStream {
        MeteredStream {
            inner,
            meter: self.meter.clone(),
            is_waiting: false,
        }
    }
}

impl StreamMuxer for MeteredMuxer {
    type Substream = MeteredStream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<MeteredStream>> {
        let stream = futures::ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.metered(stream)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<MeteredStream>> {
        let stream = futures::ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.metered(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.inner).poll_close(cx) {
            return Poll::Ready(result);
        }
        let deadline = self
            .close_deadline
            .get_or_insert_with(|| alys_runtime::time::sleep(CLOSE_TIMEOUT).boxed());
        deadline.poll_unpin(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        StreamMuxer::poll(Pin::new(&mut self.inner), cx)
    }
}

struct MeteredStream {
    inner: SubstreamBox,
    meter: Arc<Meter>,
    /// The last write found no room.
    is_waiting: bool,
}

impl MeteredStream {
    fn set_waiting(&mut self, is_waiting: bool) {
        match (self.is_waiting, is_waiting) {
            (false, true) => {
                self.meter.waiting.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.meter.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            (true, true) | (false, false) => {}
        }
        self.is_waiting = is_waiting;
    }
}

impl Drop for MeteredStream {
    fn drop(&mut self) {
        self.set_waiting(false);
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.set_waiting(result.is_pending());
        if let Poll::Ready(Ok(written)) = &result {
            let written = u64::try_from(*written).unwrap_or(u64::MAX);
            self.meter.written.fetch_add(written, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_while_a_stream_waits() {
        // (bytes queued, written in all, does a stream wait, bytes that wait)
        let table = [
            (0, 0, false, 0),
            (100, 100, false, 0),
            (100, 100, true, 100),
            (50, 120, true, 130),
            // Other streams write as well, such as pings.
            (0, 500, true, 0),
            (40, 500, true, 40),
            (40, 500, true, 80),
            (40, 500, false, 0),
            (7, 500, true, 7),
        ];
        let mut backlog = Backlog::default();
        for (row, (queued, written, is_waiting, expected)) in table.into_iter().enumerate() {
            backlog.add(queued);
            let unread = backlog.observe(written, is_waiting);
            assert_eq!(unread, expected, "row {row}");
        }
    }

    #[test]
    fn meters_of_ended_connections_are_forgotten() {
        let meters = Meters::default();
        let socket = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let first = meters.register(Some(socket(1)));
        assert!(meters.get(&socket(1)).is_some());
        drop(first);
        assert!(meters.get(&socket(1)).is_none());
        let _second = meters.register(Some(socket(2)));
        assert_eq!(meters.lock().len(), 1);
    }
}
