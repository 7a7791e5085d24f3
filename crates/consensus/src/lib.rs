//! Agreement of Alys, pure: Aura's clock and leaders with two-phase approval and a lock (protocol sections 1 to 3).
//!
//! ```text
//!                 Input + Now                         Effects, in order
//!   proposals ───────┐                        ┌────── Persist   (durable before the next effect)
//!   votes ───────────┤   ┌────────────────┐   ├────── Send      (proposal, approval, confirmation, certificates)
//!   certificates ────┼──▶│ State::handle  │───┼────── Build, Execute, Forkchoice   (execution layer)
//!   EL's answers ────┤   └────────────────┘   ├────── FetchBlock, Sync
//!   ticks ───────────┘                        └────── Finalized, Evidence, Notice
//! ```
//!
//! Owns the rules: who may propose, what may be approved, when to lock, what is final, when to stay silent. Promises
//! that a correct node never signs two blocks of one kind in one slot and that no two final blocks conflict while at
//! most f authorities are faulty. Never does IO, waits, reads a clock or draws randomness; never sees unverified
//! bytes: signatures are checked by the constructors in [`verify`], which can run elsewhere.

mod clock;
mod evidence;
pub mod federation;
mod input;
mod restore;
mod state;
mod tree;
pub mod validity;
pub mod verify;

pub use evidence::Evidence;
pub use federation::FederationRecord;
pub use input::{
    BlockRef, Effect, Finalization, Input, Latest, Notice, Now, PayloadRequest, Record, Send,
    Verdict, VoteState,
};
pub use restore::{RestoreError, Stored, StoredBlock};
pub use state::{Config, ProposalContext, State, Summary};
pub use verify::{CertifiedBlock, VerifiedBody, VerifiedProposal, VerifiedVote};
