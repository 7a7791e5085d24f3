//! Agreement of Alys, pure: Aura's clock and leaders with two-phase approval and a lock, proofs of
//! work and the ledger along the branches (protocol sections 1 to 5).
//!
//! ```text
//!                 Input + Now                         Effects, in order
//!   proposals ───────┐                        ┌────── Persist     (durable before the next effect)
//!   votes ───────────┤   ┌────────────────┐   ├────── Broadcast   (proposals, votes, certificates)
//!   certificates ────┼──▶│ State::handle  │───┼────── Build, Execute, Forkchoice (execution layer)
//!   EL's answers ────┤   └────────────────┘   ├────── FetchBlock, Sync, Account, LoadFinal
//!   proofs of work ──┤                        ├────── Work, PowFinal
//!   ticks ───────────┘                        └────── Finalized, Evidence, Notice, Trace
//! ```
//!
//! Owns the rules ([`rules`]): leaders, approvals, locks, finality, silence. Promises that a
//! correct node never signs two blocks of one kind in one slot, and that no two final blocks
//! conflict while at most f authorities are faulty. Never does IO, waits, reads a clock or draws
//! randomness, and never receives unverified bytes: the constructors in [`verify`] check
//! signatures, and can run elsewhere.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

mod clock;
mod config;
mod evidence;
pub mod federation;
mod input;
mod restore;
pub mod rules;
mod state;
mod tree;
pub mod verify;

pub use config::{Config, MAX_UNCERTIFIED};
pub use evidence::Evidence;
pub use federation::FederationRecord;
pub use input::{
    BlockRef, Broadcast, Effect, Finalization, HeldProof, Input, Latest, LedgerRecord, Notice, Now,
    PayloadRequest, PowFinal, Record, StoredFinal, Verdict, VoteState, WorkOffer,
};
pub use restore::{RestoreError, Stored, StoredBlock, StoredLedger};
pub use rules::{PlantedBug, Refusal};
pub use state::{ProposalContext, Sizes, State, Summary};
pub use verify::{CertifiedBlock, VerifiedBody, VerifiedProposal, VerifiedVote};
