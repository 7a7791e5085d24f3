//! What the network needs to be told, with defaults for a federation of up to fifteen.

use std::net::SocketAddr;
use std::time::Duration;

use crate::addr::{NodeKey, PeerAddr};
use crate::dial::DialPolicy;
use crate::handshake::ChainTag;

/// Everything to start a [`crate::Service`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's identity.
    pub key: NodeKey,
    /// The chain it is on.
    pub chain: ChainTag,
    /// Where to listen. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Peers to stay connected to.
    pub peers: Vec<PeerAddr>,
    /// How much is allowed.
    pub limits: Limits,
    /// How long is allowed.
    pub timing: Timing,
    /// When to dial again.
    pub dial: DialPolicy,
}

impl Config {
    /// A configuration with the default limits.
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

/// How much is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connected peers. Peers whose address is known may exceed it, so that strangers cannot keep the
    /// federation out.
    pub max_peers: usize,
    /// Incoming connections in their handshake.
    pub max_pending_inbound: usize,
    /// Requests of one peer being worked on.
    pub max_inbound_per_peer: usize,
    /// Requests of all peers being worked on.
    pub max_inbound: usize,
    /// Own requests that wait for an answer.
    pub max_outbound: usize,
    /// Gossip messages from one peer: burst. Holds what piles up behind a link that was down until the peer
    /// is given up.
    pub gossip_burst: u32,
    /// Gossip messages from one peer: a second. A federation of 15 with slots of a second sends 120,
    /// re-sendings included, and all of them may come through one peer.
    pub gossip_per_second: u32,
    /// Events that wait for the node; above it gossip is dropped and requests are refused as busy.
    pub max_queued_events: usize,
    /// Bytes of events that wait for the node.
    pub max_queued_bytes: usize,
    /// Commands that wait for the network.
    pub max_queued_commands: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_peers: 50,
            max_pending_inbound: 32,
            max_inbound_per_peer: 8,
            max_inbound: 128,
            max_outbound: 256,
            gossip_burst: 4000,
            gossip_per_second: 300,
            max_queued_events: 1024,
            max_queued_bytes: 64 * 1024 * 1024,
            max_queued_commands: 1024,
        }
    }
}

/// How long is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two pings.
    pub ping_interval: Duration,
    /// Silence after a ping was due until the connection counts as dead.
    pub ping_timeout: Duration,
    /// Connecting, noise and yamux together.
    pub dial_timeout: Duration,
    /// From the connection to a valid status of the peer.
    pub handshake_timeout: Duration,
    /// From a request to the end of its answer.
    pub request_timeout: Duration,
    /// gossipsub's heartbeat.
    pub heartbeat: Duration,
    /// One payload passes this often, however often it is sent. Shorter than the shortest slot, so that what
    /// is re-sent after each slot passes.
    pub repeat_window: Duration,
    /// First ban of a peer; doubles.
    pub ban: Duration,
    /// Ban of a peer of another chain.
    pub wrong_chain_ban: Duration,
    /// Two connections between the same peers that start within this time of each other cross rather than
    /// replace.
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
