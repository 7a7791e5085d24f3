//! Configuration of the network, with defaults for a federation of up to fifteen.

use std::net::SocketAddr;
use std::time::Duration;

use alys_types::limits::MAX_RANGE_BYTES;

use crate::addr::{NodeKey, PeerAddr};
use crate::dial::DialPolicy;
use crate::handshake::ChainTag;
use crate::wire::Protocol;

/// Configuration of a [`crate::Service`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's identity.
    pub key: NodeKey,
    pub chain: ChainTag,
    /// Listening address. Port 0 selects a free port.
    pub listen: SocketAddr,
    /// Peers to stay connected with.
    pub peers: Vec<PeerAddr>,
    pub limits: Limits,
    pub timing: Timing,
    pub dial: DialPolicy,
}

impl Config {
    /// Uses the default limits, timing and dial policy.
    pub fn new(key: NodeKey, chain: ChainTag, listen: SocketAddr, peers: Vec<PeerAddr>) -> Self {
        Self {
            key,
            chain,
            listen,
            peers,
            limits: Limits::default(),
            timing: Timing::default(),
            dial: DialPolicy::default(),
        }
    }
}

/// Limits in counts and bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connected strangers. Peers with a known address and authorities are not counted, so that
    /// strangers cannot lock out the federation.
    pub max_peers: usize,
    /// Connections beyond `max_peers` whose peers have [`Timing::handshake_timeout`] to prove that
    /// they are authorities. A newer one takes the place of the oldest.
    pub max_proving: usize,
    /// Incoming connections of unknown hosts in their handshake. Each costs a file descriptor and
    /// two keys; a handshake takes three round trips, so the places admit 16 new peers in each.
    pub max_pending_strangers: usize,
    /// Incoming connections of the hosts of known addresses in their handshake: a federation of 15
    /// may dial at once.
    pub max_pending_known: usize,
    /// Unanswered requests of one peer.
    pub max_inbound_per_peer: usize,
    /// Unanswered requests of all peers.
    pub max_inbound: usize,
    /// Our own outstanding requests.
    pub max_outbound: usize,
    /// Bytes of answers to one peer that it has not read yet: two of the longest.
    pub max_answer_bytes_per_peer: usize,
    /// Bytes of answers to all peers that they have not read yet. Strangers may use half of it.
    pub max_answer_bytes: usize,
    /// Bytes of an answer with blocks, sent or received: a part of the protocol, and smaller only
    /// in simulations.
    pub max_range_bytes: usize,
    /// Bytes of gossip queued for a peer that does not read, until it is disconnected: four of the
    /// largest blocks.
    pub max_unread_bytes: u64,
    /// Checks in a row, one for each heartbeat, at which the queue of messages for a peer is full,
    /// until the peer is disconnected.
    pub max_slow_heartbeats: u32,
    /// Events queued for the node. Beyond it gossip is dropped and requests are refused as busy.
    pub max_queued_events: usize,
    /// Payload bytes of the queued events.
    pub max_queued_bytes: usize,
    /// Commands queued for the network.
    pub max_queued_commands: usize,
}

impl Limits {
    /// Longest response payload of a protocol in bytes.
    pub(crate) fn max_response(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::BlocksByRange | Protocol::BlocksByHash => {
                protocol.max_response().min(self.max_range_bytes)
            }
            Protocol::Status | Protocol::HeadersByRange | Protocol::Receipts => {
                protocol.max_response()
            }
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_peers: 50,
            max_proving: 8,
            max_pending_strangers: 16,
            max_pending_known: 16,
            max_inbound_per_peer: 8,
            max_inbound: 128,
            max_outbound: 256,
            max_answer_bytes_per_peer: 32 * 1024 * 1024,
            max_answer_bytes: 256 * 1024 * 1024,
            max_range_bytes: MAX_RANGE_BYTES,
            max_unread_bytes: 32 * 1024 * 1024,
            max_slow_heartbeats: 4,
            max_queued_events: 1024,
            max_queued_bytes: 64 * 1024 * 1024,
            max_queued_commands: 1024,
        }
    }
}

/// Intervals and timeouts.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub ping_interval: Duration,
    /// Silence after a due ping until the connection counts as dead.
    pub ping_timeout: Duration,
    /// Covers connecting and the handshakes of noise and yamux.
    pub dial_timeout: Duration,
    /// From the connection to a valid status of the peer.
    pub handshake_timeout: Duration,
    /// From a request to the end of its answer.
    pub request_timeout: Duration,
    /// Interval of gossipsub's heartbeat.
    pub heartbeat: Duration,
    /// The same payload passes once per window. Shorter than the shortest slot, so that a
    /// rebroadcast in each slot passes.
    pub repeat_window: Duration,
    /// First ban of a peer; each further one lasts twice as long.
    pub ban: Duration,
    /// Ban of a peer of another chain.
    pub wrong_chain_ban: Duration,
    /// Two connections between the same peers that start within this window are simultaneous dials;
    /// a later second one means that the peer lost the first.
    pub crossing_window: Duration,
    /// Time to close connections at shutdown.
    pub shutdown: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(4),
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_millis(700),
            repeat_window: Duration::from_millis(500),
            ban: Duration::from_secs(60),
            wrong_chain_ban: Duration::from_secs(600),
            crossing_window: Duration::from_secs(3),
            shutdown: Duration::from_secs(1),
        }
    }
}
