//! Ticks of the clock, and rebroadcasting (rule 3.7, docs/protocol.md).

use alys_types::{Hash, Slot};

use super::State;
use crate::input::{Broadcast, Effect, Now};
use crate::rules;
use crate::tree::BodyState;

/// Slots for which the body of an uncertified proposal stays in memory.
const BODY_RETENTION_SLOTS: u64 = 8;

impl State {
    pub(super) fn on_tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        let slot = self.slot_at(now);
        if slot != self.last_slot {
            self.last_slot = slot;
            if rules::is_resending_due(self.has_finalized) {
                self.rebroadcast(now, out);
            }
            self.has_finalized = rules::begins_with_finality(self.has_finalized, self.bug());
            self.drop_old_bodies(slot);
            if let Some((root, _, to)) = self.sync_gap() {
                let from = root.next();
                out.push(Effect::Sync { from, to });
            }
        }
        self.retry_finality(out);
        self.advance(now, out);
    }

    /// Sends the highest certificate, the last finality certificate, and the latest proposal (while
    /// its slot lasts), approval and confirmation.
    pub(super) fn rebroadcast(&mut self, now: Now, out: &mut Vec<Effect>) {
        let certificates = [self.highest_certified(), self.last_final()];
        for certified in certificates.into_iter().flatten() {
            out.push(Effect::Broadcast(Broadcast::Certificate(Box::new(
                certified,
            ))));
        }
        if self.is_silent() {
            return;
        }
        let latest = self.votes.latest;
        if let Some(target) = latest.proposal
            && self.slot_at(now) == target.slot
            && let Some(signer) = self.signer_of(&target.hash)
            && let Some(block) = &self.own_proposal
            && block.header.slot == target.slot
        {
            out.push(Effect::Broadcast(Broadcast::Proposal {
                target,
                signer,
                block: block.clone(),
            }));
        }
        if let Some(target) = latest.approval
            && let Some(signer) = self.signer_of(&target.hash)
        {
            out.push(Effect::Broadcast(Broadcast::Approval { target, signer }));
        }
        if let Some(target) = latest.confirmation
            && let Some(signer) = self.signer_of(&target.hash)
            && let Some(certified) = self.certified_header(&target.hash)
        {
            out.push(Effect::Broadcast(Broadcast::Confirmation {
                target,
                signer,
                certified: Box::new(certified),
            }));
        }
    }

    /// Drops the bodies of proposals that were not certified and whose slot is long over. A block
    /// that is certified after all is fetched.
    fn drop_old_bodies(&mut self, slot: Slot) {
        let is_old = |block: Slot| block.saturating_add(BODY_RETENTION_SLOTS) < slot;
        let old: Vec<Hash> = self
            .tree
            .iter()
            .filter(|(_, e)| e.certificate.is_none() && is_old(e.header.slot))
            .filter(|(_, e)| matches!(e.body, BodyState::Memory(_)))
            .map(|(h, _)| *h)
            .collect();
        for hash in old {
            if let Some(entry) = self.tree.get_mut(&hash) {
                entry.body = BodyState::Missing;
            }
        }
    }

    /// Own index in the set of a known block that is not invalid.
    fn signer_of(&self, hash: &Hash) -> Option<u8> {
        let entry = self.tree.get(hash)?;
        if entry.execution.is_invalid() {
            return None;
        }
        self.index_in(&entry.set)
    }
}
