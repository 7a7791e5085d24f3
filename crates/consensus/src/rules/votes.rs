//! Permission to sign a proposal, an approval or a confirmation, and the silence after the vote
//! state was lost.

use alys_types::{ChainSpec, Hash, Slot, VoteKind, VoteTarget};

use super::{PlantedBug, Refusal, may_sign_in};
use crate::input::{BlockRef, Latest, Now, VoteState};

/// A block that a leader is about to propose, with the facts on which rule 3.1 depends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proposing {
    /// Slot of the block.
    pub(crate) slot: Slot,
    /// Index of the slot's leader in the set of the block's height.
    pub(crate) leader: u8,
    /// The node's index in that set; `None` if it is not a member.
    pub(crate) index: Option<u8>,
    /// The certified block with the highest slot among those whose ancestors are all known.
    pub(crate) parent: BlockRef,
    /// The parent has a certificate, or is genesis.
    pub(crate) is_certified: bool,
    /// The node knows a certificate of a higher slot and lacks ancestors of its block.
    pub(crate) is_behind: bool,
    /// The node has the parent's body, and the execution layer has the parent as its head.
    pub(crate) is_executed: bool,
}

/// A block that a node is about to approve, with the facts on which rule 3.2 depends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Slot of the block.
    pub(crate) slot: Slot,
    /// Slot of the block's parent.
    pub(crate) parent: Slot,
    /// The leader's signature of the block was verified.
    pub(crate) is_proposed: bool,
    /// The execution layer answered VALID, and the block's federation change was checked.
    pub(crate) is_valid: bool,
}

/// Rules 3.8 and 3.9 (docs/protocol.md): an authority that lost its vote state, or whose wall clock
/// is not trusted, is silent.
pub(crate) fn may_vote(
    votes: &VoteState,
    is_clock_trusted: bool,
    bug: &PlantedBug,
) -> Result<(), Refusal> {
    if !is_clock_trusted {
        return Err(Refusal::ClockDistrusted);
    }
    match votes.silent_until {
        Some(until) if !bug.active("votes-while-silent") => Err(Refusal::VotesLost { until }),
        Some(_) | None => Ok(()),
    }
}

/// Rule 3.1 (docs/protocol.md): the leader of a slot proposes on the certified block with the
/// highest slot, in a later slot than any approved, and stays silent while it lacks that block.
/// Returns the index of the leader, which is the node's own.
pub(crate) fn may_propose(
    votes: &VoteState,
    block: &Proposing,
    bug: &PlantedBug,
) -> Result<u8, Refusal> {
    let Proposing {
        slot,
        leader,
        parent,
        ..
    } = *block;
    let index = block.index.ok_or(Refusal::NotAnAuthority { slot })?;
    if index != leader {
        return Err(Refusal::NotTheLeader { slot, leader });
    }
    is_slot_unused(votes, slot, bug)?;
    if slot <= parent.slot {
        return Err(Refusal::SlotNotAfterParent {
            slot,
            parent: parent.slot,
        });
    }
    if parent.slot < votes.locked.slot {
        return Err(below_lock(votes, parent.slot));
    }
    let parent: Hash = parent.hash;
    if !block.is_certified {
        return Err(Refusal::ParentUncertified { parent });
    }
    if block.is_behind {
        return Err(Refusal::BehindCertificate { parent });
    }
    if !block.is_executed {
        return Err(Refusal::ParentNotExecuted { parent });
    }
    Ok(index)
}

/// Rule 3.2 (docs/protocol.md): approve a valid proposal within its slot, in a later slot than any
/// approved, on a parent not below the lock.
pub(crate) fn may_approve(
    votes: &VoteState,
    block: &Candidate,
    spec: &ChainSpec,
    now: Now,
    bug: &PlantedBug,
) -> Result<(), Refusal> {
    let Candidate { slot, parent, .. } = *block;
    if !block.is_proposed {
        return Err(Refusal::NotProposed { slot });
    }
    if !block.is_valid {
        return Err(Refusal::NotValid { slot });
    }
    may_sign_in(slot, spec, now, bug)?;
    is_slot_unused(votes, slot, bug)?;
    if parent < votes.locked.slot && !bug.active("approve-ignores-lock") {
        return Err(below_lock(votes, parent));
    }
    Ok(())
}

/// Rule 3.4 (docs/protocol.md): confirm a certified block above the lock and not below the highest
/// slot approved.
pub(crate) fn may_confirm(votes: &VoteState, slot: Slot, bug: &PlantedBug) -> Result<(), Refusal> {
    if slot <= votes.locked.slot {
        return Err(Refusal::NotAboveLock {
            slot,
            locked: votes.locked.slot,
        });
    }
    if slot < votes.approved_slot && !bug.active("confirm-ignores-approval") {
        return Err(Refusal::BelowApproval {
            slot,
            approved: votes.approved_slot,
        });
    }
    Ok(())
}

/// Postcondition of rules 3.1 and 3.2, before the approval of `target` is written: the approved
/// slot has increased to that of `target`, and the lock is unchanged.
///
/// # Panics
/// If it does not hold, which is a bug of this crate.
pub(crate) fn assert_approved(
    before: &VoteState,
    after: &VoteState,
    target: &VoteTarget,
    bug: &PlantedBug,
) {
    if bug.is_planted() {
        return;
    }
    assert!(before.approved_slot < after.approved_slot);
    assert_eq!(after.approved_slot, target.slot);
    assert_eq!(after.latest.approval, Some(*target));
    assert_eq!(after.locked, before.locked);
    assert_eq!(after.silent_until, None);
}

/// Postcondition of rule 3.4, before the confirmation of `target` is written: the lock has moved up
/// to `target`, whose slot is not below the approved slot, which is unchanged.
///
/// # Panics
/// If it does not hold, which is a bug of this crate.
pub(crate) fn assert_confirmed(
    before: &VoteState,
    after: &VoteState,
    target: &VoteTarget,
    bug: &PlantedBug,
) {
    if bug.is_planted() {
        return;
    }
    assert!(before.locked.slot < after.locked.slot);
    assert!(after.approved_slot <= after.locked.slot);
    assert_eq!(
        (after.locked.slot, after.locked.hash),
        (target.slot, target.hash)
    );
    assert_eq!(after.latest.confirmation, Some(*target));
    assert_eq!(after.approved_slot, before.approved_slot);
    assert_eq!(after.silent_until, None);
}

/// Rule 3.8 (docs/protocol.md): true if a vote of this node that a peer holds, or that a
/// certificate contains, is later than the vote state, which was therefore lost.
pub(crate) fn is_lost_vote(votes: &VoteState, held: &VoteTarget, bug: &PlantedBug) -> bool {
    let is_later = match held.kind {
        VoteKind::Confirmation => held.slot > votes.locked.slot,
        VoteKind::Proposal | VoteKind::Approval => held.slot > votes.approved_slot,
    };
    is_later && !bug.active("held-vote-ignored")
}

/// The end of a silence whose slot is not set yet: no block has a later one. It is stored like any
/// other slot, so that a restart continues the silence.
const NO_END: Slot = Slot(u64::MAX);

/// Rule 3.8 (docs/protocol.md): the silence after a loss that is noticed while the clock is not
/// trusted has no end until the clock is. The node signed nothing by such a clock, so the lost
/// votes are older, and the slot of a clock that is ahead would only prolong the silence.
pub(crate) fn lose_votes(votes: &mut VoteState) {
    votes.silent_until = Some(NO_END);
    votes.latest = Latest::default();
}

/// Rule 3.8 (docs/protocol.md): true while the end of the silence after a loss is to be set, which
/// takes a trusted clock.
pub(crate) fn is_silence_endless(votes: &VoteState) -> bool {
    votes.silent_until == Some(NO_END)
}

/// Rule 3.8 (docs/protocol.md): after a loss the node votes again once a block after this slot is
/// final. `seen` is the later of the local slot and the highest certified slot known.
pub(crate) fn rejoin_slot(seen: Slot, spec: &ChainSpec) -> Slot {
    seen.saturating_add(spec.rejoin_margin)
}

/// Rule 3.8 (docs/protocol.md): true if a final block of this slot ends the silence after a loss.
pub(crate) fn is_rejoining(votes: &VoteState, final_slot: Slot, bug: &PlantedBug) -> bool {
    votes
        .silent_until
        .is_some_and(|until| final_slot > until || bug.active("rejoins-at-once"))
}

fn is_slot_unused(votes: &VoteState, slot: Slot, bug: &PlantedBug) -> Result<(), Refusal> {
    let approved = votes.approved_slot;
    if slot < approved || (slot == approved && !bug.active("approved-slot-compared")) {
        return Err(Refusal::SlotAlreadyApproved { slot, approved });
    }
    Ok(())
}

fn below_lock(votes: &VoteState, parent: Slot) -> Refusal {
    Refusal::ParentBelowLock {
        parent,
        locked: votes.locked.slot,
    }
}
