//! Loss of the vote state, silence, and the return (rule 3.8, docs/protocol.md).

use alys_types::{AuthoritySet, Certificate, Slot, VoteTarget};

use super::State;
use crate::input::{BlockRef, Effect, Notice, Now, Record, VoteState};
use crate::rules;
use crate::verify::VerifiedVote;

impl State {
    pub(crate) fn on_votes_lost(&mut self, now: Now, out: &mut Vec<Effect>) {
        rules::lose_votes(&mut self.votes);
        if self.clock.is_trusted() {
            return self.end_silence(now, out);
        }
        out.push(Effect::Persist(Box::new(self.record())));
        out.push(Effect::Notice(Notice::VotesLost { silent_until: None }));
    }

    /// Sets the end of the silence after a loss, once the clock is trusted. The present slot is
    /// later than those in which the node signed before the loss.
    pub(crate) fn end_silence(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !rules::is_silence_endless(&self.votes) || !self.clock.is_trusted() {
            return;
        }
        let target = self.sync_target.as_ref().map(|t| t.header().slot);
        let certified = self.highest_slot().max(target.unwrap_or_default());
        let seen = self.slot_at(now).max(certified);
        let until = rules::rejoin_slot(seen, self.config.genesis.spec());
        self.votes.silent_until = Some(until);
        out.push(Effect::Persist(Box::new(self.record())));
        out.push(Effect::Notice(Notice::VotesLost {
            silent_until: Some(until),
        }));
    }

    /// The slot until which the node is silent after a loss; while the clock is not trusted, the
    /// earliest slot that this can be.
    pub(super) fn silent_until(&self) -> Option<Slot> {
        if rules::is_silence_endless(&self.votes) {
            let spec = self.config.genesis.spec();
            return Some(rules::rejoin_slot(self.highest_slot(), spec));
        }
        self.votes.silent_until
    }

    pub(super) fn on_held_vote(&mut self, vote: VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        let set = self.sets.get(&vote.set_hash());
        let index = set.and_then(|set| self.index_in(set));
        let target = &vote.vote().target;
        if index == Some(vote.vote().signer) && self.is_loss(target) {
            out.push(Effect::Notice(Notice::UnknownVote { slot: target.slot }));
            self.on_votes_lost(now, out);
        }
    }

    /// Rule 3.8 (docs/protocol.md): a certificate with a signature of ours that is later than the
    /// vote state proves its loss. The certificate was verified, by this node or by the quorum that
    /// approved a descendant of its block. Every peer and the own sync deliver such certificates,
    /// whereas peers forget the votes that they hold when they restart.
    pub(super) fn on_own_signature(
        &mut self,
        certificate: &Certificate,
        set: &AuthoritySet,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let index = self.index_in(set);
        if index.is_some_and(|me| certificate.signers.contains(me))
            && self.is_loss(&certificate.target)
        {
            let slot = certificate.target.slot;
            out.push(Effect::Notice(Notice::UnknownVote { slot }));
            self.on_votes_lost(now, out);
        }
    }

    /// True if a vote of this node for `target` proves a loss that is not known yet.
    pub(super) fn is_loss(&self, target: &VoteTarget) -> bool {
        self.votes.silent_until.is_none() && rules::is_lost_vote(&self.votes, target, self.bug())
    }

    /// A certificate of a slot ahead of the local clock shows that the clock is behind, and that
    /// the lost votes may be of later slots than it suggested: the silence is extended.
    pub(super) fn on_reported_slot(&mut self, slot: Slot, now: Now, out: &mut Vec<Effect>) {
        let Some(until) = self.votes.silent_until else {
            return;
        };
        let spec = self.config.genesis.spec();
        let latest_ms = now.wall_ms.saturating_add(spec.drift_allowance_ms);
        if slot <= Slot::at(latest_ms, spec.slot_duration_ms) {
            return;
        }
        let extended = rules::rejoin_slot(slot, spec);
        if extended > until {
            self.votes.silent_until = Some(extended);
            out.push(Effect::Persist(Box::new(self.record())));
        }
    }

    /// Ends the silence if the final block `block` is beyond the rejoin margin.
    pub(super) fn regain_votes(
        &mut self,
        block: BlockRef,
        record: &mut Record,
        out: &mut Vec<Effect>,
    ) {
        if rules::is_rejoining(&self.votes, block.slot, self.bug()) {
            self.votes = VoteState::fresh(block);
            record.votes = self.votes_to_write();
            out.push(Effect::Notice(Notice::VotesRegained));
        }
    }
}
