//! Nouns of the Alys chain: ids, units, blocks, votes, certificates, chain spec, keys, codec and
//! limits.
//!
//! Owns the types that nodes exchange and store, and their one canonical encoding. Promises that
//! what decodes is within its limits and re-encodes to the same bytes. Never does IO, waits, reads
//! a clock or draws randomness.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

pub mod block;
pub mod bls;
mod bounded;
pub mod bytes;
pub mod codec;
pub mod federation;
pub mod forks;
pub mod hash;
pub mod limits;
pub mod order;
pub mod part;
pub mod peg;
pub mod spec;
pub mod units;
pub mod vote;
pub mod wire;

pub use block::{
    AuxPowHeader, BlobGas, Block, Body, ExecutionPayload, Header, LimitError, Withdrawal,
    WithdrawalKind,
};
pub use federation::{Authority, AuthoritySet, FaultModel};
pub use forks::{ForkId, Forks};
pub use hash::{Address, Hash};
pub use order::{FederationChange, Order, OrderContent, SetChange};
pub use part::{Part, PartProof};
pub use peg::{PayoutProposal, PegIn, Settlement};
pub use spec::{ChainSpec, Genesis};
pub use units::{FeeRate, Height, Sats, Slot};
pub use vote::{Bitmap, Certificate, Vote, VoteKind, VoteTarget};
