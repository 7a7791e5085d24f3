//! The clock's ticks, and saying things again (protocol section 3, "Re-sending").

use alys_types::{Hash, Slot};

use super::State;
use crate::input::{Effect, Now, Send};
use crate::tree::{BodyState, Execution};

/// Slots for which the body of an uncertified proposal stays in memory.
const KEPT_SLOTS: u64 = 8;

impl State {
    pub(super) fn on_tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        let slot = self.slot_at(now);
        if slot != self.last_slot {
            self.last_slot = slot;
            if !self.final_since {
                self.say_again(now, out);
            }
            self.final_since = false;
            self.forget_old_bodies(slot);
            if let Some(target) = &self.target {
                let to = target.header().height;
                out.push(Effect::Sync {
                    from: self.tree.root_entry().header.height.next(),
                    to,
                });
            }
        }
        self.retry_finality(out);
        self.advance(now, out);
    }

    /// The highest certificate, the last finality certificate, and the latest proposal (while its slot lasts),
    /// approval and confirmation.
    pub(super) fn say_again(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Some(certified) = self.highest_certified() {
            out.push(Effect::Send(Send::Certificate(Box::new(certified))));
        }
        if let Some(certified) = self.last_final() {
            out.push(Effect::Send(Send::Certificate(Box::new(certified))));
        }
        if self.silent() {
            return;
        }
        let latest = self.votes.latest;
        if let Some(target) = latest.proposal
            && self.slot_at(now) == target.slot
            && let Some(signer) = self.signer_of(&target.hash)
            && let Some(block) = &self.own_proposal
            && block.header.slot == target.slot
        {
            out.push(Effect::Send(Send::Proposal {
                target,
                signer,
                block: block.clone(),
            }));
        }
        if let Some(target) = latest.approval
            && let Some(signer) = self.signer_of(&target.hash)
        {
            out.push(Effect::Send(Send::Approval { target, signer }));
        }
        if let Some(target) = latest.confirmation
            && let Some(signer) = self.signer_of(&target.hash)
            && let Some(certified) = self.certified_header(&target.hash)
        {
            out.push(Effect::Send(Send::Confirmation {
                target,
                signer,
                certified: Box::new(certified),
            }));
        }
    }

    /// Bodies of proposals that were not certified and whose slot is long over: should one be certified after all, it
    /// is fetched.
    fn forget_old_bodies(&mut self, slot: Slot) {
        let old: Vec<Hash> = self
            .tree
            .iter()
            .filter(|(_, e)| {
                e.certificate.is_none() && e.header.slot.0.saturating_add(KEPT_SLOTS) < slot.0
            })
            .filter(|(_, e)| matches!(e.body, BodyState::Memory(_)))
            .map(|(h, _)| *h)
            .collect();
        for hash in old {
            if let Some(entry) = self.tree.get_mut(&hash) {
                entry.body = BodyState::Missing;
            }
        }
    }

    /// Own index in the set of a known block.
    fn signer_of(&self, hash: &Hash) -> Option<u8> {
        let entry = self.tree.get(hash)?;
        (entry.execution != Execution::Invalid)
            .then(|| self.index_in(&entry.set))
            .flatten()
    }
}
