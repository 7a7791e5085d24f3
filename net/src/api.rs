//! What the node and the network say to each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alys_runtime::sync::mpsc;
use libp2p::PeerId;
use libp2p::gossipsub::MessageId;

use crate::addr::PeerAddr;
use crate::codec::{FrameError, Refusal};
use crate::handshake::Mismatch;
use crate::scores::Offence;
use crate::wire::{Protocol, Topic};

/// Names a request of ours; see [`Event::Response`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// Names a request of a peer; see [`Command::Respond`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboundId(pub(crate) u64);

/// Names a gossip message that waits for its verdict; see [`Command::Judge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipId {
    pub(crate) message: MessageId,
    pub(crate) from: PeerId,
}

/// What the node makes of a gossip message. Until then it is not forwarded; after three seconds it no longer
/// can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good: forwarded. Also when it is known already: it was re-sent because somebody may lack it, and
    /// floods of repetitions never get here.
    Accept,
    /// Not to be forwarded, and nobody's fault: late, or not to be judged now.
    Ignore,
    /// Wrong: not forwarded, and the peer it came from pays for [`Offence::InvalidGossip`].
    Reject,
}

/// What the node asks of the network.
#[derive(Debug, Clone)]
pub enum Command {
    /// Sends the payload to everybody who listens to the topic. The same bytes may be published again and
    /// again.
    Publish {
        /// Where.
        topic: Topic,
        /// What, at most [`Topic::max_payload`] bytes.
        payload: Vec<u8>,
    },
    /// The verdict on a message of [`Event::Gossip`].
    Judge {
        /// Which.
        id: GossipId,
        /// What of it.
        verdict: Verdict,
    },
    /// Asks a connected peer; answered by one [`Event::Response`], always.
    Request {
        /// From [`Handle::next_request_id`].
        id: RequestId,
        /// Whom.
        peer: PeerId,
        /// Which protocol.
        protocol: Protocol,
        /// At most [`Protocol::max_request`] bytes.
        payload: Vec<u8>,
    },
    /// Answers an [`Event::Request`].
    Respond {
        /// Which.
        id: InboundId,
        /// The answer, at most [`Protocol::max_response`] bytes, or why there is none.
        response: Result<Vec<u8>, Refusal>,
    },
    /// Our status from now on: sent to every new peer, and to the connected ones that did not get any yet.
    SetStatus {
        /// At most [`Protocol::max_request`] bytes. The network puts the chain tag in front.
        status: Vec<u8>,
    },
    /// Learns an address and keeps dialling it.
    Dial {
        /// Where, and who.
        addr: PeerAddr,
    },
    /// The peer misbehaved, as only the node can tell.
    Report {
        /// Who.
        peer: PeerId,
        /// How.
        offence: Offence,
    },
    /// Disconnects the peer and refuses it for a while.
    Ban {
        /// Who.
        peer: PeerId,
        /// How long.
        duration: Duration,
    },
    /// Ends a ban and forgets the score.
    Pardon {
        /// Who.
        peer: PeerId,
    },
    /// Closes all connections and ends the service.
    Shutdown,
}

/// What the network tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of a topic, to be answered by [`Command::Judge`]. Dropped when the node does not keep up.
    Gossip {
        /// For the verdict.
        id: GossipId,
        /// Who sent it to us, not who made it.
        from: PeerId,
        /// Where.
        topic: Topic,
        /// What.
        payload: Vec<u8>,
    },
    /// A question of a peer, to be answered by [`Command::Respond`] in time. A status question carries the
    /// peer's status.
    Request {
        /// For the answer.
        id: InboundId,
        /// Who asks.
        peer: PeerId,
        /// Which protocol.
        protocol: Protocol,
        /// The question.
        payload: Vec<u8>,
    },
    /// The answer to a [`Command::Request`].
    Response {
        /// Which.
        id: RequestId,
        /// Who was asked.
        peer: PeerId,
        /// The answer.
        result: Result<Vec<u8>, RequestError>,
    },
    /// A connected peer answered our status with its own.
    Status {
        /// Who.
        peer: PeerId,
        /// Its answer, chain tag taken off.
        status: Vec<u8>,
    },
    /// A peer is connected and on our chain.
    PeerConnected {
        /// Who.
        peer: PeerId,
        /// The other end of the connection; an ephemeral port when the peer dialled.
        addr: SocketAddr,
        /// Whether we dialled.
        outbound: bool,
        /// Whether it is known to live at an address that was configured.
        expected: bool,
    },
    /// The peer now listens to all topics, so that what is published reaches it: the time to re-send.
    PeerListens {
        /// Who.
        peer: PeerId,
    },
    /// A peer of [`Event::PeerConnected`] is gone.
    PeerDisconnected {
        /// Who.
        peer: PeerId,
        /// Why, as far as known.
        reason: Gone,
    },
    /// A peer was refused because it is on another chain.
    WrongChain {
        /// Who.
        peer: PeerId,
        /// What differs.
        mismatch: Mismatch,
    },
    /// A peer was banned.
    Banned {
        /// Who.
        peer: PeerId,
        /// For what.
        offence: Offence,
    },
}

impl Event {
    /// Bytes of payload, for the limits.
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
            | Self::PeerListens { .. }
            | Self::PeerDisconnected { .. }
            | Self::WrongChain { .. }
            | Self::Banned { .. } => 0,
        }
    }
}

/// Why a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The connection broke or the peer closed it.
    Closed,
    /// The peer did not answer pings.
    Silent,
    /// It misbehaved.
    Banned,
    /// It is on another chain.
    WrongChain,
    /// We shut down.
    Shutdown,
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The peer is not connected.
    #[error("the peer is not connected")]
    NotConnected,
    /// Too many requests of ours wait for answers.
    #[error("{limit} requests are already waiting for an answer")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The payload is above the protocol's limit.
    #[error("a request of {length} bytes where {limit} are allowed")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection ended.
    #[error("the connection ended before the answer")]
    Disconnected,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak the protocol")]
    Unsupported,
    /// The peer answered that it does not answer.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The answer breaks the protocol; the peer has paid for it.
    #[error("malformed answer: {0}")]
    Malformed(FrameError),
    /// A status answer of another chain; the peer is banned.
    #[error("the answer is of another chain")]
    WrongChain,
    /// The service ends.
    #[error("the network is shutting down")]
    Shutdown,
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The network has more to do than it can; try again later.
    #[error("the network's command queue is full")]
    Full,
    /// The service has ended.
    #[error("the network service has ended")]
    Closed,
}

/// Sends commands to a running [`crate::Service`]. When the last one is dropped the service ends.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) next_request: Arc<AtomicU64>,
    pub(crate) local: PeerId,
    pub(crate) addr: SocketAddr,
}

impl Handle {
    /// Our own id.
    pub fn peer_id(&self) -> PeerId {
        self.local
    }

    /// Where the service listens, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// A fresh id for [`Command::Request`].
    pub fn next_request_id(&self) -> RequestId {
        RequestId(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// Queues a command without waiting.
    ///
    /// # Errors
    /// When the queue is full or the service has ended.
    pub fn try_send(&self, command: Command) -> Result<(), SendError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::Closed,
            })
    }

    /// Queues a command, waiting for room.
    ///
    /// # Errors
    /// When the service has ended.
    pub async fn send(&self, command: Command) -> Result<(), SendError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| SendError::Closed)
    }

    /// Asks a peer; the id comes back with the [`Event::Response`].
    ///
    /// # Errors
    /// When the queue is full or the service has ended.
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
