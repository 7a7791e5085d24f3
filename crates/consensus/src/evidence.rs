//! Contradictions of authorities.

use std::collections::BTreeMap;

use alys_types::{Hash, Slot, Vote, VoteKind};

/// Slots back from the newest one for which votes are remembered.
const REMEMBERED_SLOTS: u64 = 256;

/// Two votes of one kind, signer and slot for different blocks: self-contained proof of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The first that was seen.
    pub first: Vote,
    /// The contradicting one.
    pub second: Vote,
    /// The set that the signer's index is about.
    pub set_hash: Hash,
}

/// Remembers recent votes to recognise contradictions. Bounded by slots, kinds and signers: one vote each.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: BTreeMap<(Slot, VoteKind, u8, Hash), (Vote, bool)>,
}

impl Watch {
    /// Notes a verified vote; returns evidence the first time a signer contradicts itself in a slot.
    pub(crate) fn note(&mut self, vote: Vote, set_hash: Hash) -> Option<Evidence> {
        let key = (vote.target.slot, vote.target.kind, vote.signer, set_hash);
        let newest = self.seen.last_key_value().map_or(vote.target.slot, |(k, _)| k.0.max(vote.target.slot));
        let oldest = Slot(newest.0.saturating_sub(REMEMBERED_SLOTS));
        if vote.target.slot < oldest {
            return None;
        }
        while self.seen.first_key_value().is_some_and(|(k, _)| k.0 < oldest) {
            self.seen.pop_first();
        }
        match self.seen.get_mut(&key) {
            None => {
                self.seen.insert(key, (vote, false));
                None
            }
            Some((first, reported)) if first.target.hash != vote.target.hash && !*reported => {
                *reported = true;
                Some(Evidence { first: *first, second: vote, set_hash })
            }
            Some(_) => None,
        }
    }
}
