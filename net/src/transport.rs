//! A libp2p transport over the runtime's streams, which are TCP or simulated links.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use alys_runtime::net::{Listener, Stream};
use alys_runtime::time;
use futures::future::{BoxFuture, FutureExt, Ready, ready};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::{Multiaddr, PeerId, Transport, noise, yamux};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::addr::{NodeKey, to_multiaddr, to_socket};

/// Concurrent streams of one connection: requests of every protocol in both directions, gossip,
/// ping and identify.
const MAX_STREAMS: usize = 256;
/// Delay after a failed accept. The usual cause is a lack of file descriptors, which would fail
/// again at once.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Builds the transport of encrypted and multiplexed connections. `timeout` covers connecting and
/// both handshakes.
pub(crate) fn build(
    key: &NodeKey,
    listener: Listener,
    timeout: Duration,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let mut multiplexing = yamux::Config::default();
    multiplexing.set_max_num_streams(MAX_STREAMS);
    let transport = RuntimeTransport {
        listener,
        listening: None,
        retry_delay: None,
    };
    #[cfg(feature = "plaintext")]
    if crate::plaintext::on() {
        return Ok(transport
            .upgrade(Version::V1)
            .authenticate(libp2p::plaintext::Config::new(key.keypair()))
            .multiplex(multiplexing)
            .timeout(timeout)
            .boxed());
    }
    Ok(transport
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(key.keypair())?)
        .multiplex(multiplexing)
        .timeout(timeout)
        .boxed())
}

/// One listener, bound before the start so that a used port is an error of
/// [`crate::Service::bind`], and any number of dials.
struct RuntimeTransport {
    listener: Listener,
    /// Set by `listen_on`. The flag is true once the address has been announced.
    listening: Option<(ListenerId, bool)>,
    /// Runs after a failed accept.
    retry_delay: Option<time::Sleep>,
}

type Event = TransportEvent<Ready<io::Result<Compat<Stream>>>, io::Error>;

impl Transport for RuntimeTransport {
    type Output = Compat<Stream>;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        if self.listening.is_some() || to_socket(&addr) != Some(self.listener.local_addr()) {
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        self.listening = Some((id, false));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listening.take_if(|(own, _)| *own == id).is_some()
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(socket) = to_socket(&addr) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        Ok(async move {
            Stream::connect(socket)
                .await
                .map(TokioAsyncReadCompatExt::compat)
        }
        .boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let local_addr = to_multiaddr(self.listener.local_addr());
        let listener_id = match &mut self.listening {
            None => return Poll::Pending,
            Some((id, announced @ false)) => {
                *announced = true;
                return Poll::Ready(TransportEvent::NewAddress {
                    listener_id: *id,
                    listen_addr: local_addr,
                });
            }
            Some((id, _)) => *id,
        };
        if let Some(delay) = &mut self.retry_delay {
            if delay.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
            self.retry_delay = None;
        }
        match self.listener.poll_accept(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((stream, peer))) => Poll::Ready(TransportEvent::Incoming {
                listener_id,
                upgrade: ready(Ok(stream.compat())),
                local_addr,
                send_back_addr: to_multiaddr(peer),
            }),
            Poll::Ready(Err(error)) => {
                self.retry_delay = Some(time::sleep(ACCEPT_RETRY_DELAY));
                Poll::Ready(TransportEvent::ListenerError { listener_id, error })
            }
        }
    }
}
