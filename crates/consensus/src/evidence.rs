//! Equivocation of authorities (rule 3.13, docs/protocol.md).

use std::collections::{BTreeMap, BTreeSet};

use alys_types::{Hash, Slot, Vote};

use crate::rules::{self, PlantedBug, VoteKey};

/// Slots back and ahead of the clock for which votes are remembered. Ahead, because the own clock
/// may be wrong; no further, because votes of far slots must not push out those of the present.
const REMEMBERED_SLOTS: u64 = 256;

/// Two votes of one kind, signer and slot for different blocks: self-contained proof of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The vote that was seen first.
    pub first: Vote,
    /// The contradicting one.
    pub second: Vote,
    /// Hash of the set that the signer's index refers to.
    pub set_hash: Hash,
}

/// Recent votes, to recognise equivocation. Bounded by slots, kinds and signers: one vote each.
#[derive(Debug, Default)]
pub(crate) struct EquivocationDetector {
    seen: BTreeMap<VoteKey, Vote>,
    /// Keys whose equivocation was reported.
    reported: BTreeSet<VoteKey>,
}

impl EquivocationDetector {
    /// Records a verified vote while the clock is in slot `now`. Returns evidence at the first
    /// equivocation of a signer in a slot.
    pub(crate) fn record(
        &mut self,
        vote: Vote,
        set_hash: Hash,
        now: Slot,
        bug: &PlantedBug,
    ) -> Option<Evidence> {
        let slot = vote.target.slot;
        let oldest = now.saturating_sub(REMEMBERED_SLOTS);
        if slot < oldest || slot > now.saturating_add(REMEMBERED_SLOTS) {
            return None;
        }
        self.forget_before(oldest);
        let key = (slot, vote.target.kind, vote.signer, set_hash);
        let first = rules::equivocation(&self.seen, &vote, set_hash, bug).copied();
        self.seen.entry(key).or_insert(vote);
        let first = first?;
        self.reported.insert(key).then_some(Evidence {
            first,
            second: vote,
            set_hash,
        })
    }

    /// Number of votes that are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.seen.len()
    }

    fn forget_before(&mut self, oldest: Slot) {
        while let Some(entry) = self.seen.first_entry()
            && entry.key().0 < oldest
        {
            self.reported.remove(entry.key());
            entry.remove();
        }
    }
}
