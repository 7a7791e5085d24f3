//! The trust in the wall clock (rule 3.9, docs/protocol.md).

use alys_types::Slot;
use alys_types::bls::PublicKeyBytes;

use super::State;
use crate::clock::Change;
use crate::input::{Effect, Notice, Now};
use crate::rules;
use crate::verify::VerifiedVote;

impl State {
    pub(crate) fn observe_clock(&mut self, now: Now, out: &mut Vec<Effect>) {
        let is_near_chain = self.clock.is_confirmed_at_start() || self.is_clock_plausible(now);
        let change = self
            .clock
            .observe(now, is_near_chain, &self.config.planted_bug);
        match change {
            Some(Change::Jumped(by_ms)) => {
                out.push(Effect::Notice(Notice::ClockJumped { by_ms }));
                if self.clock_confirmations() == 0 {
                    self.trust_clock(now, out);
                }
            }
            Some(Change::Unconfirmed) => {
                out.push(Effect::Notice(Notice::ClockUnconfirmed {
                    slot: self.slot_at(now),
                    highest: self.highest_slot(),
                }));
            }
            Some(Change::Trusted) => out.push(Effect::Notice(Notice::ClockTrusted)),
            None => {}
        }
        self.report_approved_ahead(now, out);
    }

    /// True when the first reading of the clock needs no confirmation: it is near the chain, a
    /// quorum needs no other authority, or the node does not vote.
    fn is_clock_plausible(&self, now: Now) -> bool {
        let (slot, highest) = (self.slot_at(now), self.highest_slot());
        self.config.me.is_none()
            || rules::is_near_chain(slot, highest, self.config.genesis.spec(), self.bug())
            || self.clock_confirmations() == 0
    }

    /// The number of peers that confirm the clock.
    pub(super) fn clock_confirmations(&self) -> usize {
        rules::clock_confirmations(&self.newest_set(), self.bug())
    }

    pub(super) fn trust_clock(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.clock.trust(now);
        out.push(Effect::Notice(Notice::ClockTrusted));
    }

    /// Counts the vote of a peer in the slot of a clock that is not trusted.
    pub(super) fn confirm_clock(&mut self, vote: &VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        if self.clock.is_trusted() || !self.is_in_slot(vote.vote().target.slot, now) {
            return;
        }
        // The index of an authority may differ between its vote's set and the newest one.
        let set = self.sets.get(&vote.set_hash());
        let signer = usize::from(vote.vote().signer);
        let authority = set.and_then(|set| set.authorities().get(signer));
        let Some(index) = authority.and_then(|one| self.confirming_peer(&one.public_key)) else {
            return;
        };
        let needed = self.clock_confirmations();
        if self.clock.confirm(now, index, needed).is_some() {
            out.push(Effect::Notice(Notice::ClockTrusted));
        }
    }

    /// The index of an authority that may confirm the clock: a peer of the newest set.
    fn confirming_peer(&self, authority: &PublicKeyBytes) -> Option<u8> {
        let me = self.config.me.as_ref();
        rules::confirming_peer(authority, me, &self.newest_set(), self.bug())
    }

    pub(super) fn on_clock_stated(
        &mut self,
        authority: &PublicKeyBytes,
        slot: Slot,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let Some(index) = self.confirming_peer(authority) else {
            return;
        };
        let needed = self.clock_confirmations();
        if rules::is_same_time(slot, self.slot_at(now))
            && self.clock.count_statement(now, index, needed).is_some()
        {
            out.push(Effect::Notice(Notice::ClockTrusted));
        }
    }

    /// Reports, once while it lasts, that the node approved by a clock that was ahead.
    fn report_approved_ahead(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (approved, slot) = (self.votes.approved_slot, self.slot_at(now));
        // A key that never voted is locked on genesis, whose slot may be to come.
        let has_approved = approved > self.config.genesis.header().slot;
        let is_ahead = self.config.me.is_some()
            && has_approved
            && self.clock.is_trusted()
            && rules::is_approval_ahead(approved, slot);
        if is_ahead && !self.is_ahead_reported {
            out.push(Effect::Notice(Notice::ApprovedAhead { approved, slot }));
        }
        self.is_ahead_reported = is_ahead;
    }
}
