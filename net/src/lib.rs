//! libp2p over the runtime: what a node hears and says, and from whom.
//!
//! **Owns** the connections of one node: its identity, listening and dialling, encryption (noise) and
//! multiplexing (yamux), gossip on five topics, four request/response protocols, and the standing of every
//! peer. The same code runs over TCP and over simulated links.
//!
//! **Promises**
//! - [`Service::run`] is one future; [`Handle`] and [`Events`] are its only doors, both bounded. The service
//!   never waits for the node: gossip that the node does not take is dropped, requests are refused as busy,
//!   everything else is kept.
//! - What is published goes to every connected peer that listens, and to the others through those that accept
//!   it. The same bytes may be published again: they arrive again, once every [`Timing::repeat_window`] at
//!   most.
//! - Gossip is forwarded only after the node's [`Verdict::Accept`].
//! - Every [`Command::Request`] is answered by one [`Event::Response`]: [`Timing::request_timeout`] after the
//!   peer took it, or when its silent connection is given up.
//! - [`Event::PeerConnected`] comes after the peer's status has named our chain; another chain ends the
//!   connection with a WARN that names both. [`Event::PeerListens`] comes when what is published reaches the
//!   peer.
//! - One connection a peer. A silent one is closed after [`Timing::ping_interval`] +
//!   [`Timing::ping_timeout`].
//! - Known addresses are dialled for ever, with a capped wait.
//! - No bytes of a peer panic. What breaks a limit or does not decode costs the peer, and in the end bans it.
//!
//! **Never** looks into payloads, decides about blocks or votes, keeps anything on disk, or reads a clock
//! other than the monotonic one.
//!
//! What is decided about peers is pure and takes the time as an argument: [`scores`] (offences, bans),
//! [`rate`] (token buckets), [`dial`] (when to dial whom), [`repeats`] (re-sent gossip), [`handshake`] (which
//! chain), and the rule for two connections in `gate`. The rest is a thin shell around the swarm (`service`),
//! the transport and gossipsub.
//!
//! Duties of the node: send [`Command::SetStatus`] at the start (peers drop a node without one after
//! [`Timing::handshake_timeout`]), answer [`Event::Request`] of [`Protocol::Status`] like any other, and
//! judge every [`Event::Gossip`] within three seconds.

mod addr;
mod api;
mod behaviour;
mod codec;
mod config;
pub mod dial;
mod gate;
mod gossip;
pub mod handshake;
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
pub mod wire;

pub use addr::{AddrError, NodeKey, PeerAddr};
pub use api::{
    Command, Event, Events, Gone, GossipId, Handle, InboundId, RequestError, RequestId, SendError,
    Verdict,
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
pub use wire::{Protocol, Topic, WIRE_VERSION};
