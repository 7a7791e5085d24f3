//! Commands and events between the node and the network service.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_runtime::sync::mpsc;
use alys_types::bls::PublicKeyBytes;
use alys_types::forks::ForkMismatch;
use libp2p::PeerId;
use libp2p::gossipsub::MessageId;

use crate::addr::PeerAddr;
use crate::codec::{FrameError, Refusal};
use crate::handshake::Mismatch;
use crate::scores::Offence;
use crate::wire::{Protocol, Topic};

/// Identifies a request of ours; see [`Event::Response`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// Identifies a request of a peer; see [`Command::Respond`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboundId(pub(crate) u64);

/// Identifies a gossip message that awaits its verdict; see [`Command::Judge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipId {
    pub(crate) message: MessageId,
    pub(crate) from: PeerId,
    pub(crate) topic: Topic,
    pub(crate) bytes: usize,
}

/// Ids of no request and no message, for tests that take the place of the service. The service
/// ignores a command that names one, as it ignores one that comes too late.
impl RequestId {
    /// Ids count up from 1 and do not reach these.
    pub const fn unknown(number: u32) -> RequestId {
        RequestId(u64::MAX - number as u64)
    }
}

impl InboundId {
    /// As [`RequestId::unknown`].
    pub const fn unknown(number: u32) -> InboundId {
        InboundId(u64::MAX - number as u64)
    }
}

impl GossipId {
    /// Four bytes; the id of a message has twenty.
    pub fn unknown(number: u32, topic: Topic, from: PeerId) -> GossipId {
        GossipId {
            message: MessageId::new(&number.to_be_bytes()),
            from,
            topic,
            bytes: 0,
        }
    }
}

/// The node's verdict on a gossip message, which is forwarded only after [`Accept`](Self::Accept).
/// A verdict later than three seconds has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GossipVerdict {
    /// Valid: forwarded. Also the verdict on a known message, which was re-sent because some peer
    /// may lack it; the service filters floods of repetitions.
    Accept,
    /// Not forwarded and not the sender's fault: late, or not verifiable now.
    Ignore,
    /// Invalid: not forwarded, and the sender is charged with [`Offence::InvalidGossip`].
    Reject,
}

/// Requests of the node to the network.
#[derive(Debug, Clone)]
pub enum Command {
    /// Sends the payload to every subscriber of the topic. The same bytes may be published
    /// repeatedly.
    Publish {
        topic: Topic,
        /// At most [`Topic::max_payload`] bytes.
        payload: Vec<u8>,
    },
    /// The verdict on a message of [`Event::Gossip`].
    Judge {
        id: GossipId,
        verdict: GossipVerdict,
    },
    /// Sends a request to a connected peer. Exactly one [`Event::Response`] answers it.
    Request {
        /// From [`Handle::next_request_id`].
        id: RequestId,
        peer: PeerId,
        protocol: Protocol,
        /// At most [`Protocol::max_request`] bytes.
        payload: Vec<u8>,
    },
    /// Answers an [`Event::Request`].
    Respond {
        id: InboundId,
        /// At most [`Protocol::max_response`] bytes, or the reason for a refusal.
        response: Result<Vec<u8>, Refusal>,
    },
    /// Sets the status that new peers receive, and sends it to connected peers that have not
    /// received one.
    SetStatus {
        /// At most [`Protocol::max_request`] bytes. The network prepends the chain tag.
        status: Vec<u8>,
    },
    /// Adds a known address, which is dialled whenever its peer is not connected.
    Dial { addr: PeerAddr },
    /// Charges the peer with an offence that only the node can recognise.
    Report { peer: PeerId, offence: Offence },
    /// The peer is on our chain and follows other upgrades: disconnects it like a peer of another
    /// chain.
    Refuse {
        peer: PeerId,
        mismatch: ForkMismatch,
    },
    /// Disconnects the peer and refuses it for `duration`.
    Ban { peer: PeerId, duration: Duration },
    /// The peer has proven that it holds this key of an authority. From now on it has a place that
    /// no stranger can take, and is never banned for load. Beyond four peers of a key its oldest
    /// one becomes a stranger.
    Vouch { peer: PeerId, key: PublicKeyBytes },
    /// Sets the keys of all authorities. Peers that proved another key become strangers.
    SetAuthorities { keys: Vec<PublicKeyBytes> },
    /// Ends a ban and resets the score.
    Pardon { peer: PeerId },
    /// Closes all connections and ends the service.
    Shutdown,
}

/// Events of the network for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of a topic, which the node answers with [`Command::Judge`]. Dropped while the node
    /// lags.
    Gossip {
        id: GossipId,
        /// The peer that forwarded the message; its author may be another.
        from: PeerId,
        topic: Topic,
        payload: Vec<u8>,
    },
    /// A request of a peer, which the node answers with [`Command::Respond`] before the peer's
    /// timeout. A status request carries the peer's status.
    Request {
        id: InboundId,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    },
    /// The outcome of a [`Command::Request`].
    Response {
        id: RequestId,
        peer: PeerId,
        result: Result<Vec<u8>, RequestError>,
    },
    /// A connected peer answered our status with its own.
    Status {
        peer: PeerId,
        /// Without the chain tag.
        status: Vec<u8>,
    },
    /// A peer is connected and on our chain.
    PeerConnected {
        peer: PeerId,
        /// The remote address; with an ephemeral port when the peer dialled.
        addr: SocketAddr,
        /// True when we dialled.
        outbound: bool,
        /// True when the peer belongs to a known address.
        expected: bool,
    },
    /// The peer has subscribed to all topics, so published messages reach it: the moment to
    /// re-send.
    PeerSubscribed { peer: PeerId },
    /// The connection of an earlier [`Event::PeerConnected`] has ended.
    PeerDisconnected {
        peer: PeerId,
        reason: DisconnectReason,
    },
    /// A peer was refused because it is on another chain.
    WrongChain { peer: PeerId, mismatch: Mismatch },
    /// A peer was banned for its score; `offence` is the last one.
    Banned { peer: PeerId, offence: Offence },
}

impl Event {
    /// Bytes that count towards the limit of queued events.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Gossip { payload, .. } | Self::Request { payload, .. } => payload.len(),
            Self::Response {
                result: Ok(payload),
                ..
            }
            | Self::Status {
                status: payload, ..
            } => payload.len(),
            Self::Response { result: Err(_), .. }
            | Self::PeerConnected { .. }
            | Self::PeerSubscribed { .. }
            | Self::PeerDisconnected { .. }
            | Self::WrongChain { .. }
            | Self::Banned { .. } => 0,
        }
    }
}

/// The reason for the end of a connection, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The connection broke or the peer closed it.
    Closed,
    /// The peer did not answer pings.
    Silent,
    /// The peer did not read what this node sent.
    SlowReader,
    /// All places are taken, and the peer has not proven that it is an authority.
    Full,
    /// The peer was banned.
    Banned,
    /// The peer is on another chain.
    WrongChain,
    /// This node shuts down.
    Shutdown,
}

/// A request that got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the peer is not connected")]
    NotConnected,
    /// The limit of outstanding requests is reached.
    #[error("{limit} requests are already outstanding")]
    TooMany { limit: usize },
    /// The payload exceeds the protocol's limit.
    #[error("the request has {length} bytes, more than the limit of {limit}")]
    TooLong { length: usize, limit: usize },
    /// No answer within [`crate::Timing::request_timeout`].
    #[error("no answer in time")]
    Timeout,
    #[error("the connection ended before the answer")]
    Disconnected,
    #[error("the peer does not support the protocol")]
    Unsupported,
    /// The peer refused to answer.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The answer violates the protocol. The peer was charged with an offence.
    #[error("malformed answer: {0}")]
    Malformed(FrameError),
    /// The status in the answer names another chain. The peer is banned.
    #[error("the peer is on another chain")]
    WrongChain,
    /// The status in the answer is dropped. No fault of the peer, because this node asked for it.
    #[error("more statuses than the peer, or all strangers, may send")]
    TooManyStatuses,
    #[error("the network is shutting down")]
    Shutdown,
}

/// A command that was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The network is overloaded; retry later.
    #[error("the network's command queue is full")]
    Full,
    #[error("the network service has ended")]
    Closed,
}

/// Sends commands to a running [`crate::Service`], which ends when its last handle is dropped.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) next_request: Arc<AtomicU64>,
    pub(crate) local: PeerId,
    pub(crate) addr: SocketAddr,
    pub(crate) sizes: Arc<Mutex<Sizes>>,
}

/// Entries of the tables of a service, as it counted them at its last tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Connections, those without a status included.
    pub connections: usize,
    /// Dials in progress.
    pub dials: usize,
    /// Banned peers.
    pub bans: usize,
    /// Requests of peers that the node has not answered.
    pub inbound_requests: usize,
    /// Requests of the node, its status requests included, that peers have not answered.
    pub outbound_requests: usize,
    /// Answers that peers have not read.
    pub unread_answers: usize,
    /// Events for which the node had no room.
    pub queued_events: usize,
}

impl Handle {
    /// The entries of the tables of the service.
    pub fn sizes(&self) -> Sizes {
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of this node.
    pub fn peer_id(&self) -> PeerId {
        self.local
    }

    /// The listening address, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// A new id for [`Command::Request`].
    pub fn next_request_id(&self) -> RequestId {
        RequestId(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// Queues a command, or fails at once.
    pub fn try_send(&self, command: Command) -> Result<(), SendError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::Closed,
            })
    }

    /// Queues a command as soon as the queue has room. Fails only when the service has ended.
    pub async fn send(&self, command: Command) -> Result<(), SendError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| SendError::Closed)
    }

    /// Queues a [`Command::Request`] under a new id, which its [`Event::Response`] carries.
    pub fn request(
        &self,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    ) -> Result<RequestId, SendError> {
        let id = self.next_request_id();
        self.try_send(Command::Request {
            id,
            peer,
            protocol,
            payload,
        })
        .map(|()| id)
    }
}

/// The events of a running [`crate::Service`], in order.
#[derive(Debug)]
pub struct Events(pub(crate) mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` once the service has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}
