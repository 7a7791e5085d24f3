//! The rules of agreement. Each is one pure function, and no other code makes its comparison.
//!
//! | file | rules of docs/protocol.md |
//! |---|---|
//! | `votes` | 3.1 propose, 3.2 approve, 3.4 confirm, 3.8 lost vote state |
//! | `changes` | 1.7 federation changes, 2.3 certificates in bodies |
//! | `certificates` | 1.1 leader, 1.3 and 1.4 quorum, 3.3 certify, 3.5 final, 3.13 equivocation |
//! | `time` | 1.2 timestamp, 3.2 slot of an approval, 3.9 clocks, 3.15 window, 6.2 pause |
//! | `validity` | 2.5 limits, 3.6 valid |
//! | `work` | 4.4 proofs, 4.5 difficulty, 4.6 gate, 5.1 ledger hash, 5.25 fees |
//! | `durability` | 3.14 votes are durable before they are sent |
//! | `resending` | 3.7 re-sending |
//! | `room` | none: eviction of uncertified blocks over the limit |
//!
//! A rule that permits a signature returns a [`Refusal`] otherwise, which the caller traces. Before
//! a vote is persisted, the caller asserts the postcondition of the rule on the node's own state
//! (the `assert_*` functions, in release builds too). No assertion depends on bytes of a peer.
//! Planted bugs of this crate are in this folder only, see [`PlantedBug`].

mod certificates;
mod changes;
mod durability;
mod planted;
mod resending;
mod room;
#[cfg(test)]
mod tests;
mod time;
pub mod validity;
mod votes;
pub mod work;

use alys_types::{Hash, Height, Slot};

pub use certificates::{CertificateError, check_certificate};
pub(crate) use certificates::{
    VoteKey, aggregate, check_parents_votes, clock_confirmations, counted_as, equivocation, leader,
    makes_final,
};
pub(crate) use changes::{
    check_purpose, may_carry, order_message, shows_range_final, takes_effect,
};
pub(crate) use durability::{
    assert_written, certificate_record, persist_body, persist_then_broadcast, restores_highest,
    votes_to_write,
};
pub use planted::PlantedBug;
pub(crate) use resending::{begins_with_finality, is_resending_due};
pub(crate) use room::{first_to_drop, keeps_newest};
pub(crate) use time::{
    block_timestamp, confirming_peer, has_clock_jumped, is_approval_ahead, is_near_chain,
    is_other_time, is_same_time, is_too_early, latest_slot, may_sign_in, pause_after_invalid,
};
pub(crate) use votes::{
    Candidate, Proposing, assert_approved, assert_confirmed, is_lost_vote, is_rejoining,
    is_silence_endless, lose_votes, may_approve, may_confirm, may_propose, may_vote, rejoin_slot,
};

/// The reason not to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The wall clock jumped, or is far ahead of the chain at the start, and neither peers nor the
    /// operator confirmed it.
    #[error("the wall clock jumped, or is far ahead of the chain, and is not confirmed")]
    ClockDistrusted,
    /// The vote state was lost, and no block beyond the rejoin margin is final yet.
    #[error("the vote state was lost: no vote until a block after slot {until} is final")]
    VotesLost { until: Slot },
    /// The node's key is not in the authority set of the block's height.
    #[error("not an authority in slot {slot}")]
    NotAnAuthority { slot: Slot },
    /// Another authority leads the slot.
    #[error("slot {slot} is led by authority {leader}")]
    NotTheLeader { slot: Slot, leader: u8 },
    /// The slot is not above the highest slot approved.
    #[error("slot {slot} is not above slot {approved}, the highest approved")]
    SlotAlreadyApproved { slot: Slot, approved: Slot },
    /// The slot is not above the parent's.
    #[error("slot {slot} is not above slot {parent} of the parent")]
    SlotNotAfterParent { slot: Slot, parent: Slot },
    /// The parent is below the block that the node is locked on.
    #[error("the parent's slot {parent} is below slot {locked} of the lock")]
    ParentBelowLock { parent: Slot, locked: Slot },
    /// The parent has no certificate.
    #[error("the parent {parent} has no certificate")]
    ParentUncertified { parent: Hash },
    /// A certified block of a higher slot than the parent is known and does not connect yet.
    #[error("a certified block above the parent {parent} is known and not fetched yet")]
    BehindCertificate { parent: Hash },
    /// The body of the parent is missing, or the execution layer does not have the parent as its
    /// head.
    #[error("the execution layer does not have the parent {parent} as its head")]
    ParentNotExecuted { parent: Hash },
    /// The node lacks the leader's signature of the block.
    #[error("the block of slot {slot} is known without the proposal of its leader")]
    NotProposed { slot: Slot },
    /// The execution layer has not answered VALID, or the federation change was not checked.
    #[error("the block of slot {slot} is not known to be valid")]
    NotValid { slot: Slot },
    /// The wall clock is outside of the block's slot by more than the drift allowance.
    #[error("the wall clock is in slot {current}, outside of slot {slot} and its drift allowance")]
    OutOfSlot { slot: Slot, current: Slot },
    /// The ledger after the parent is unknown, because the receipts of a block are.
    #[error("the ledger after the parent {parent} is not known yet")]
    LedgerUnknown { parent: Hash },
    /// The block has no proof of work, and too many final blocks have none (rule 4.6).
    #[error("no proof of work, and {limit} final blocks or more after height {pow_end} have none")]
    GateClosed { pow_end: Height, limit: u64 },
    /// The block to confirm is not above the lock.
    #[error("slot {slot} is not above slot {locked} of the lock")]
    NotAboveLock { slot: Slot, locked: Slot },
    /// The node approved a block of a later slot than the block to confirm.
    #[error("slot {slot} is below slot {approved}, the highest approved")]
    BelowApproval { slot: Slot, approved: Slot },
}
