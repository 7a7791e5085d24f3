//! gossipsub, configured for a small federation and monitored for malformed frames.
//!
//! Decisions:
//! - **No author, no signature.** Votes, blocks and certificates carry their own signatures. A node
//!   forwards a message only after it has accepted it, so a peer that sends an invalid one is at
//!   fault even if it is not the author.
//! - **The message id** is the hash of topic and data. The data begins with a nonce
//!   ([`crate::wire::seal`]), so a rebroadcast is a new message to gossipsub. [`crate::repeats`]
//!   prevents abuse of the nonce.
//! - **Flood publishing**: a published message goes to every connected subscriber, in the mesh or
//!   not, so that votes arrive before a mesh has formed. Forwarding uses the mesh, which has room
//!   for a whole federation.
//! - **Frames are monitored.** gossipsub closes a stream with a malformed or oversized frame
//!   without an event. A wrapper of its handler reads the incoming stream and reports the peer.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use alys_runtime::buggify;
use futures::StreamExt;
use futures::future;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::gossipsub::{
    self, Config, ConfigBuilder, IdentTopic, IdentityTransform, MessageAuthenticity, MessageId,
    TopicHash, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use sha2::{Digest, Sha256};

use crate::handshake::ChainTag;
use crate::repeats::PayloadKey;
use crate::scores::Offence;
use crate::wire::{ENVELOPE_BYTES, Topic};

/// Protobuf bytes of a message beside its data: topic name, tags and lengths.
const MESSAGE_OVERHEAD: usize = 128;
/// Bytes of an RPC beside its messages, and of the next RPC as far as it was read already.
const RPC_OVERHEAD: usize = 64 * 1024;
/// Messages queued for one slow peer. Beyond it gossipsub drops messages for that peer, and the
/// protocol rebroadcasts them later.
const QUEUE_LENGTH: usize = 512;
/// Queue length when the simulator makes peers slow.
const SMALL_QUEUE: usize = 16;
/// Incoming gossip streams per connection. An honest peer opens one, and another only after that
/// broke.
const MAX_STREAMS_OPENED: u32 = 5;
/// Time for which gossipsub remembers a message id; longer than any message is in flight.
const DUPLICATE_CACHE: Duration = Duration::from_secs(60);
/// Limit of unreported offences. A connection produces at most one per stream, so it is never
/// reached by honest peers.
const MAX_PENDING_OFFENCES: usize = 1024;

type Inner = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;
type InnerHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
type InnerEvent = <InnerHandler as ConnectionHandler>::ToBehaviour;

/// An event of the monitored gossipsub.
#[derive(Debug)]
pub(crate) enum Event {
    Gossipsub(gossipsub::Event),
    /// A peer sent a malformed or oversized frame.
    Offence {
        peer: PeerId,
        offence: Offence,
    },
}

pub(crate) fn topic_hash(topic: Topic, chain: &ChainTag) -> TopicHash {
    IdentTopic::new(topic.full_name(chain)).hash()
}

/// Key of a payload in [`crate::repeats::RepeatFilter`]: the first 16 bytes of a SHA-256.
pub(crate) fn payload_key(topic: Topic, payload: &[u8]) -> PayloadKey {
    let digest = Sha256::new()
        .chain_update([topic as u8])
        .chain_update(payload)
        .finalize();
    let mut key = PayloadKey::default();
    key.copy_from_slice(&digest[..16]);
    key
}

fn message_id(message: &gossipsub::Message) -> MessageId {
    let digest = Sha256::new()
        .chain_update(message.topic.as_str())
        .chain_update([0])
        .chain_update(&message.data)
        .finalize();
    MessageId::new(&digest[..20])
}

/// Peers of a topic's mesh: outbound minimum, lower bound, target, upper bound.
struct MeshSize {
    outbound: usize,
    low: usize,
    target: usize,
    high: usize,
}

impl MeshSize {
    /// The mesh holds a whole federation of 15; with full nodes beside it the mesh is partial.
    const FEDERATION: Self = Self {
        outbound: 2,
        low: 8,
        target: 14,
        high: 24,
    };
    const SMALL: Self = Self {
        outbound: 0,
        low: 1,
        target: 2,
        high: 3,
    };
}

fn config(chain: &ChainTag, heartbeat: Duration) -> Result<Config, gossipsub::ConfigBuilderError> {
    let mut builder = ConfigBuilder::default();
    let mesh = if buggify!("net.gossip.small_mesh") {
        MeshSize::SMALL
    } else {
        MeshSize::FEDERATION
    };
    let queue = if buggify!("net.gossip.small_queue") {
        SMALL_QUEUE
    } else {
        QUEUE_LENGTH
    };
    let heartbeat = if buggify!("net.gossip.slow_heartbeat") {
        heartbeat * 2
    } else {
        heartbeat
    };
    let longest = Topic::ALL.into_iter().map(Topic::max_payload).max();
    let longest = longest.unwrap_or_default();
    builder
        .heartbeat_initial_delay(heartbeat / 4)
        .heartbeat_interval(heartbeat)
        .mesh_outbound_min(mesh.outbound)
        .mesh_n_low(mesh.low)
        .mesh_n(mesh.target)
        .mesh_n_high(mesh.high)
        .gossip_lazy(6)
        .history_length(6)
        .history_gossip(4)
        .flood_publish(true)
        .duplicate_cache_time(DUPLICATE_CACHE)
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(longest + RPC_OVERHEAD)
        .max_publish_messages(256)
        .connection_handler_queue_len(queue)
        // A queued vote expires after about a slot, because it is rebroadcast then.
        .publish_queue_duration(Duration::from_secs(4))
        .forward_queue_duration(Duration::from_secs(2))
        // After a disconnection or a PRUNE the mesh must recover within a slot or two, not within a
        // minute.
        .prune_backoff(Duration::from_secs(4))
        .unsubscribe_backoff(Duration::from_secs(2))
        .graft_flood_threshold(Duration::from_secs(1));
    for topic in Topic::ALL {
        let limit = topic.max_payload() + ENVELOPE_BYTES + MESSAGE_OVERHEAD;
        builder.max_transmit_size_for_topic(limit, topic_hash(topic, chain));
    }
    builder.build()
}

/// gossipsub with the offences that its handlers detected.
pub(crate) struct Behaviour {
    inner: Inner,
    offences: VecDeque<(PeerId, Offence)>,
}

/// gossipsub rejected its configuration, which only a wrong constant in this file can cause.
#[derive(Debug, thiserror::Error)]
#[error("gossipsub rejects its configuration: {reason}")]
pub struct GossipSetupError {
    reason: String,
}

impl Behaviour {
    /// Subscribes to all topics of the chain and ignores all others.
    pub(crate) fn new(chain: &ChainTag, heartbeat: Duration) -> Result<Self, GossipSetupError> {
        let wrong = |reason: String| GossipSetupError { reason };
        let topics: HashSet<TopicHash> = Topic::ALL
            .into_iter()
            .map(|t| topic_hash(t, chain))
            .collect();
        let config = config(chain, heartbeat).map_err(|e| wrong(e.to_string()))?;
        let filter = WhitelistSubscriptionFilter(topics);
        let mut inner =
            Inner::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
                .map_err(|e| wrong(e.to_string()))?;
        for topic in Topic::ALL {
            inner
                .subscribe(&IdentTopic::new(topic.full_name(chain)))
                .map_err(|e| wrong(e.to_string()))?;
        }
        Ok(Self {
            inner,
            offences: VecDeque::new(),
        })
    }

    pub(crate) fn inner_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
            .map(Handler::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, addr, role, port)
            .map(Handler::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            HandlerEvent::Offence(offence) => {
                if self.offences.len() < MAX_PENDING_OFFENCES {
                    self.offences.push_back((peer, offence));
                }
            }
            HandlerEvent::Gossipsub(event) => {
                self.inner.on_connection_handler_event(peer, id, *event)
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer, offence)) = self.offences.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(Event::Offence { peer, offence }));
        }
        self.inner
            .poll(cx)
            .map(|action| action.map_out(Event::Gossipsub))
    }
}

/// An event of the wrapped handler.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    Gossipsub(Box<InnerEvent>),
    Offence(Offence),
}

type Frames = Pin<Box<dyn futures::Stream<Item = io::Result<InnerEvent>> + Send>>;

/// Wraps gossipsub's handler, but reads the incoming stream itself.
pub(crate) struct Handler {
    inner: InnerHandler,
    incoming: Option<Frames>,
    opened: u32,
    pending: VecDeque<HandlerEvent>,
}

impl Handler {
    fn new(inner: InnerHandler) -> Self {
        Self {
            inner,
            incoming: None,
            opened: 0,
            pending: VecDeque::new(),
        }
    }

    fn open(&mut self, frames: Frames) {
        self.opened = self.opened.saturating_add(1);
        if self.opened > MAX_STREAMS_OPENED {
            self.incoming = None;
            self.pending
                .push_back(HandlerEvent::Offence(Offence::MalformedFrame));
        } else {
            self.incoming = Some(frames);
        }
    }

    /// Reads the next frame of the incoming stream.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEvent> {
        let Some(frames) = &mut self.incoming else {
            return Poll::Pending;
        };
        match futures::ready!(frames.poll_next_unpin(cx)) {
            Some(Ok(event)) => {
                if let InnerEvent::Message {
                    invalid_messages, ..
                } = &event
                    && !invalid_messages.is_empty()
                {
                    self.pending
                        .push_back(HandlerEvent::Offence(Offence::MalformedFrame));
                }
                Poll::Ready(HandlerEvent::Gossipsub(Box::new(event)))
            }
            Some(Err(error)) => {
                self.incoming = None;
                match offence_of(&error) {
                    Some(offence) => Poll::Ready(HandlerEvent::Offence(offence)),
                    None => Poll::Pending,
                }
            }
            None => {
                self.incoming = None;
                Poll::Pending
            }
        }
    }
}

/// The offence behind a broken stream. The codec reports rejected frames as `InvalidData`; other
/// errors are the end of the connection and no offence.
fn offence_of(error: &io::Error) -> Option<Offence> {
    match error.kind() {
        io::ErrorKind::InvalidData if error.to_string().contains("exceeds maximum") => {
            Some(Offence::OversizedFrame)
        }
        io::ErrorKind::InvalidData => Some(Offence::MalformedFrame),
        _ => None,
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = <InnerHandler as ConnectionHandler>::FromBehaviour;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = <InnerHandler as ConnectionHandler>::InboundProtocol;
    type OutboundProtocol = <InnerHandler as ConnectionHandler>::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        self.inner.listen_protocol()
    }

    /// Keeps idle connections open, because members stay connected without traffic.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), HandlerEvent>> {
        if let Some(event) = self.pending.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Poll::Ready(event) = self.inner.poll(cx) {
            return Poll::Ready(event.map_custom(|event| HandlerEvent::Gossipsub(Box::new(event))));
        }
        self.poll_incoming(cx)
            .map(ConnectionHandlerEvent::NotifyBehaviour)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: future::Either::Left((frames, _)),
                ..
            }) => self.open(Box::pin(frames.map(|frame| frame.map_err(io::Error::from)))),
            event => self.inner.on_connection_event(event),
        }
    }
}
