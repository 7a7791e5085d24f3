//! Peer-to-peer networking: libp2p over the runtime.
//!
//! **Owns** the connections of one node: its identity, listening and dialling, encryption (noise)
//! and multiplexing (yamux), gossip on the topics of [`Topic::ALL`], the request/response protocols
//! of [`Protocol::ALL`], and the score of every peer. The same code runs over TCP and over
//! simulated links.
//!
//! **Promises**
//! - [`Service::run`] is one future. [`Handle`] and [`Events`] are its only interfaces, and both
//!   are bounded. The service never waits for the node: while the node lags, it drops gossip,
//!   refuses requests as busy, and queues the other events, whose number is bounded.
//! - A published message reaches every connected subscriber, and further peers through those that
//!   accept it. The same bytes may be published repeatedly; each peer receives them at most once
//!   per [`Timing::repeat_window`].
//! - Gossip is forwarded only after the node's [`GossipVerdict::Accept`], and not beyond the rate
//!   that other nodes accept from one peer ([`budgets`]).
//! - Every [`Command::Request`] is answered by exactly one [`Event::Response`], at the latest
//!   [`Timing::request_timeout`] after the peer accepted its stream, or when the silent connection
//!   is closed.
//! - [`Event::PeerConnected`] follows once the peer's status has named our chain. A peer of another
//!   chain is disconnected with a WARN that names both chains. [`Event::PeerSubscribed`] follows
//!   once published messages reach the peer.
//! - There is one connection per peer. A silent one is closed after [`Timing::ping_interval`] +
//!   [`Timing::ping_timeout`].
//! - A peer that does not read is disconnected: after [`Limits::max_unread_bytes`], or after
//!   [`Limits::max_slow_heartbeats`] with a full queue.
//! - Known addresses are redialled without end, with a capped backoff.
//! - No input of a peer causes a panic. Malformed and oversized input costs the peer points, until
//!   it is banned.
//! - Peers with a known address and authorities that proved their key ([`Command::Vouch`]) have
//!   places that strangers cannot take, and are throttled but never banned for load. These are at
//!   most four peers for each key, until [`Command::SetAuthorities`] removes the key.
//!
//! **Never** interprets payloads, decides about blocks or votes, writes to disk, or reads a clock
//! other than the monotonic one.
//!
//! Decisions about peers are pure and take the time as an argument: [`scores`] (offences, bans),
//! [`budgets`] (gossip and requests that are taken), [`rate`] (token buckets), [`dial`] (backoff),
//! [`repeats`] (re-sent gossip), [`handshake`] (chain identity), `handshakes` (places of incoming
//! connections), and the rule for duplicate connections in `gate`. The rest is a thin shell around
//! the swarm (`service`), the transport and gossipsub.
//!
//! The node must send [`Command::SetStatus`] at the start (peers drop a node without a status after
//! [`Timing::handshake_timeout`]), answer an [`Event::Request`] of [`Protocol::Status`] like any
//! other, and send a verdict on every [`Event::Gossip`] within three seconds.

mod addr;
mod api;
mod backlog;
mod behaviour;
pub mod budgets;
mod codec;
mod config;
pub mod dial;
mod gate;
mod gossip;
pub mod handshake;
mod handshakes;
mod interceptor;
#[cfg(feature = "plaintext")]
mod plaintext;
pub mod rate;
pub mod repeats;
pub mod scores;
mod service;
#[cfg(test)]
mod tests;
mod transport;
mod vouched;
pub mod wire;

pub use addr::{AddrError, NodeKey, PeerAddr};
pub use api::{
    Command, DisconnectReason, Event, Events, GossipId, GossipVerdict, Handle, InboundId,
    RequestError, RequestId, SendError, Sizes,
};
pub use codec::{FrameError, Refusal};
pub use config::{Config, Limits, Timing};
pub use dial::DialPolicy;
pub use gossip::GossipSetupError;
pub use handshake::{ChainTag, Mismatch};
pub use libp2p::PeerId;
#[cfg(feature = "plaintext")]
pub use plaintext::use_plaintext;
pub use scores::Offence;
pub use service::{Service, SetupError};
pub use vouched::{MAX_VOUCHED, Vouched};
pub use wire::{Protocol, Topic, WIRE_VERSION};
