//! The rules of agreement, each as one pure function, and the only place where its comparison is
//! made.
//!
//! | file | rules of docs/protocol.md |
//! |---|---|
//! | `votes` | 3.1 propose, 3.2 approve, 3.4 confirm, 3.8 lost vote state |
//! | `certificates` | 1.1 leader, 1.3 and 1.4 quorum, 3.3 certify, 3.5 final, 3.13 equivocation |
//! | `time` | 1.2 timestamp, the slot in 3.2, 3.9 clocks |
//! | `validity` | 3.6 valid |
//! | `durability` | 3.14: votes are durable before they are sent |
//!
//! A rule returns a typed refusal. Callers trace the refusal and, before they sign, lock or
//! persist, assert what the rule has established about the node's own state (the `assert_*`
//! functions here, in release builds too). No assertion depends on bytes of a peer. Planted bugs of
//! this crate live in this folder and nowhere else, see [`PlantedBug`].

mod certificates;
mod durability;
mod planted;
#[cfg(test)]
mod tests;
mod time;
pub mod validity;
mod votes;

use alys_types::{Hash, Slot};

pub use certificates::{CertificateError, check_certificate};
pub(crate) use certificates::{
    VoteKey, aggregate, clock_confirmations, counted_as, equivocation, leader, makes_final,
};
pub(crate) use durability::{
    assert_written, certificate_record, persist_body, persist_then_broadcast, restores_highest,
    votes_to_write,
};
pub use planted::PlantedBug;
pub(crate) use time::{block_timestamp, has_clock_jumped, is_too_early, may_sign_in};
pub(crate) use votes::{
    Candidate, Proposing, assert_approved, assert_confirmed, is_lost_vote, is_rejoining,
    may_approve, may_confirm, may_propose, may_vote, rejoin_slot,
};

/// The reason for which a node does not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The wall clock jumped and neither peers nor the operator confirmed it.
    #[error("the wall clock jumped and is not confirmed")]
    ClockDistrusted,
    /// The vote state was lost and the rejoin margin is not final yet.
    #[error("the vote state was lost: no vote until a block after slot {until} is final")]
    VotesLost { until: Slot },
    /// The node has no key in the set that decides on the block.
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
    /// The leader's signature under the block is not known.
    #[error("the block of slot {slot} is known without the proposal of its leader")]
    NotProposed { slot: Slot },
    /// The execution layer did not say VALID, or the federation's change is not checked.
    #[error("the block of slot {slot} is not known to be valid")]
    NotValid { slot: Slot },
    /// The wall clock is outside of the block's slot and the drift allowance around it.
    #[error("the wall clock is in slot {current}, outside of slot {slot} and its drift allowance")]
    OutOfSlot { slot: Slot, current: Slot },
    /// The block to confirm is not above the lock.
    #[error("slot {slot} is not above slot {locked} of the lock")]
    NotAboveLock { slot: Slot, locked: Slot },
    /// A later slot than that of the block to confirm was approved.
    #[error("slot {slot} is below slot {approved}, the highest approved")]
    BelowApproval { slot: Slot, approved: Slot },
}
