//! Contradictions of authorities.

use std::collections::BTreeMap;

use alys_types::mutant::{self, Mutant};
use alys_types::{Hash, Slot, Vote, VoteKind};

/// Slots back and ahead of the clock for which votes are remembered. Ahead, because the own clock may be wrong; no
/// further, so that nobody's far slots push out the present ones.
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
    /// Notes a verified vote, the clock being in slot `now`; returns evidence the first time a signer contradicts itself
    /// in a slot.
    pub(crate) fn note(&mut self, vote: Vote, set_hash: Hash, now: Slot) -> Option<Evidence> {
        let key = (vote.target.slot, vote.target.kind, vote.signer, set_hash);
        let oldest = Slot(now.0.saturating_sub(REMEMBERED_SLOTS));
        if vote.target.slot < oldest || vote.target.slot.0 > now.0.saturating_add(REMEMBERED_SLOTS)
        {
            return None;
        }
        while self
            .seen
            .first_key_value()
            .is_some_and(|(k, _)| k.0 < oldest)
        {
            self.seen.pop_first();
        }
        if mutant::active(Mutant::EvidenceByHeight) {
            let (kind, height, hash) = (vote.target.kind, vote.target.height, vote.target.hash);
            let contradicts = |first: &Vote| {
                first.target.kind == kind
                    && first.target.height == height
                    && first.target.hash != hash
            };
            let of_signer = self
                .seen
                .iter()
                .filter(|((.., signer, set), _)| (*signer, *set) == (key.2, set_hash));
            if let Some((_, (first, _))) =
                of_signer.clone().find(|(_, (first, _))| contradicts(first))
            {
                return Some(Evidence {
                    first: *first,
                    second: vote,
                    set_hash,
                });
            }
        }
        match self.seen.get_mut(&key) {
            None => {
                self.seen.insert(key, (vote, false));
                None
            }
            Some((first, reported)) if first.target.hash != vote.target.hash && !*reported => {
                *reported = true;
                Some(Evidence {
                    first: *first,
                    second: vote,
                    set_hash,
                })
            }
            Some(_) => None,
        }
    }
}
