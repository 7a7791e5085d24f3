//! Rule 3.14 (docs/protocol.md): a vote is on disk before its message leaves, together with the
//! data that it depends on.

use alys_types::wire::CertifiedHeader;
use alys_types::{Slot, VoteTarget};

use super::PlantedBug;
use crate::input::{Broadcast, Effect, Record, VoteState};

/// The vote state as the next record holds it: whole, as it is in memory. `written` is the one
/// written before.
pub(crate) fn votes_to_write(
    mut votes: VoteState,
    written: &VoteState,
    bug: &PlantedBug,
) -> Option<VoteState> {
    if bug.active("votes-not-persisted") {
        return None;
    }
    if bug.active("approved-slot-not-persisted") {
        votes.approved_slot = written.approved_slot;
    }
    if bug.active("lock-not-persisted") {
        votes.locked = written.locked;
    }
    Some(votes)
}

/// One write, then the messages that it makes safe to send.
///
/// # Panics
/// If the record does not hold what the messages say, which is a bug of this crate.
pub(crate) fn persist_then_broadcast(
    record: Record,
    messages: Vec<Broadcast>,
    bug: &PlantedBug,
) -> Vec<Effect> {
    if !bug.is_planted() {
        messages
            .iter()
            .for_each(|message| assert_covers(&record, message));
    }
    let sends_first = messages.first().is_some_and(|message| match message {
        Broadcast::Proposal { .. } => bug.active("proposal-before-write"),
        Broadcast::Confirmation { .. } => bug.active("confirmation-before-write"),
        Broadcast::Approval { .. } | Broadcast::Certificate(_) => false,
    });
    let write = std::iter::once(Effect::Persist(Box::new(record)));
    let send = messages.into_iter().map(Effect::Broadcast);
    if sends_first {
        return send.chain(write).collect();
    }
    write.chain(send).collect()
}

/// The record of a new certificate holds the header and certificate of the block and of the
/// ancestors that it certifies, and the highest certified block where that has moved.
pub(crate) fn certificate_record(mut record: Record, bug: &PlantedBug) -> Record {
    if bug.active("certificate-not-persisted") {
        record.certified.clear();
        record.highest = None;
    }
    record
}

/// The write of the body of a certified block.
pub(crate) fn persist_body(record: Record, bug: &PlantedBug) -> Option<Effect> {
    (!bug.active("fetched-not-written")).then(|| Effect::Persist(Box::new(record)))
}

/// True when a stored certified block takes the place of the highest one at a start.
pub(crate) fn restores_highest(slot: Slot, highest: Slot, bug: &PlantedBug) -> bool {
    slot > highest && !bug.active("highest-not-restored")
}

/// Asserts that everything promised so far was given to the disk.
///
/// # Panics
/// If not, which is a bug of this crate.
pub(crate) fn assert_written(votes: &VoteState, written: &VoteState, bug: &PlantedBug) {
    if !bug.is_planted() {
        assert_eq!(votes, written, "a change of the vote state was not written");
    }
}

fn assert_covers(record: &Record, message: &Broadcast) {
    let votes = || {
        record
            .votes
            .expect("the write before a vote holds the vote state")
    };
    let wrote_body = |target: &VoteTarget| {
        record
            .blocks
            .iter()
            .any(|block| block.header.hash() == target.hash)
    };
    match message {
        Broadcast::Proposal { target, .. } => {
            assert_eq!(votes().latest.proposal, Some(*target));
            assert_eq!(votes().approved_slot, target.slot);
            assert!(wrote_body(target));
        }
        Broadcast::Approval { target, .. } => {
            assert_eq!(votes().latest.approval, Some(*target));
            assert_eq!(votes().approved_slot, target.slot);
            assert!(wrote_body(target));
        }
        Broadcast::Confirmation { target, .. } => {
            assert_eq!(votes().latest.confirmation, Some(*target));
            assert_eq!(votes().locked.hash, target.hash);
            let holds =
                |certified: &CertifiedHeader| certified.certificate.target.hash == target.hash;
            assert!(record.certified.iter().any(holds));
        }
        // A certificate promises nothing.
        Broadcast::Certificate(_) => {}
    }
}
