//! Votes of authorities: counted, buffered until their block is known, remembered for the authority
//! itself.

use alys_types::wire::HeldVotes;
use alys_types::{Certificate, Hash, VoteKind};

use super::State;
use crate::input::{Effect, Now};
use crate::rules;
use crate::verify::VerifiedVote;

/// Votes of one signer that are buffered until their block is known.
const MAX_BUFFERED_PER_SIGNER: usize = 8;

impl State {
    pub(super) fn on_vote(&mut self, vote: VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        self.report_equivocation(vote, now, out);
        self.record_latest_vote(&vote);
        self.confirm_clock(&vote, now, out);
        if self.tree.contains(&vote.vote().target.hash) {
            self.count(vote, now, out);
        } else {
            self.buffer_vote(vote);
        }
    }

    pub(super) fn report_equivocation(
        &mut self,
        vote: VerifiedVote,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let slot = self.slot_at(now);
        let bug = &self.config.planted_bug;
        let evidence = self
            .equivocations
            .record(*vote.vote(), vote.set_hash(), slot, bug);
        out.extend(evidence.map(|evidence| Effect::Evidence(Box::new(evidence))));
    }

    /// Counts a vote of a known block; a quorum makes a certificate.
    fn count(&mut self, vote: VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        let set_hash = vote.set_hash();
        let vote = vote.vote();
        let target = vote.target;
        let bug = &self.config.planted_bug;
        let Some(entry) = self.tree.get_mut(&target.hash) else {
            return;
        };
        let is_same_block =
            (entry.header.height, entry.header.slot) == (target.height, target.slot);
        if set_hash != entry.set.hash() || !is_same_block {
            return;
        }
        for kind in rules::counted_as(target.kind, bug) {
            if let Some(votes) = entry.votes_mut(*kind) {
                votes.insert(vote.signer, vote.signature);
            }
        }
        if entry.certificate_of(target.kind).is_some() {
            return;
        }
        let certificate = entry
            .votes(target.kind)
            .and_then(|votes| rules::aggregate(target, votes, &entry.set, bug));
        if let Some(certificate) = certificate {
            self.take_certificate(target.hash, certificate, true, now, out);
            self.advance(now, out);
        }
    }

    /// Takes a certificate of a known block. `is_own`: made here of counted votes, so that others
    /// may not have it.
    pub(super) fn take_certificate(
        &mut self,
        hash: Hash,
        certificate: Certificate,
        is_own: bool,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let kind = certificate.target.kind;
        match kind {
            VoteKind::Approval => self.certify(hash, certificate, now, out),
            VoteKind::Proposal | VoteKind::Confirmation => {}
        }
        if rules::makes_final(kind, self.bug()) {
            self.finalize(hash, certificate, is_own, out);
        }
    }

    /// Records the latest votes of an authority, for its status requests.
    fn record_latest_vote(&mut self, vote: &VerifiedVote) {
        let Some(set) = self.sets.get(&vote.set_hash()) else {
            return;
        };
        let vote = vote.vote();
        let Some(authority) = set.authorities().get(usize::from(vote.signer)) else {
            return;
        };
        let latest: &mut HeldVotes = self.latest_votes.entry(authority.public_key).or_default();
        let latest = match vote.target.kind {
            VoteKind::Approval => &mut latest.approval,
            VoteKind::Confirmation => &mut latest.confirmation,
            VoteKind::Proposal => return,
        };
        if latest.is_none_or(|old| old.target.slot < vote.target.slot) {
            *latest = Some(*vote);
        }
    }

    /// Buffers a vote that arrived before its block. Over the limit of its signer, the vote of the
    /// lowest slot gives way.
    fn buffer_vote(&mut self, vote: VerifiedVote) {
        let target = vote.vote().target;
        let signer = vote.vote().signer;
        if target.slot <= self.tree.root_entry().header.slot {
            return;
        }
        let is_same = |v: &VerifiedVote| v.vote().signer == signer && v.vote().target == target;
        let of_block = self.buffered_votes.get(&target.hash);
        if of_block.is_some_and(|votes| votes.iter().any(is_same)) {
            return;
        }
        let of_signer = || {
            let votes = self.buffered_votes.values().flatten();
            votes.filter(|v| v.vote().signer == signer)
        };
        let lowest = of_signer()
            .map(|v| (v.vote().target.slot, v.vote().target.hash))
            .min();
        if of_signer().count() >= MAX_BUFFERED_PER_SIGNER
            && let Some((slot, hash)) = lowest
        {
            if slot >= target.slot {
                return;
            }
            if let Some(votes) = self.buffered_votes.get_mut(&hash) {
                votes.retain(|v| v.vote().signer != signer);
            }
            self.buffered_votes.retain(|_, votes| !votes.is_empty());
        }
        self.buffered_votes
            .entry(target.hash)
            .or_default()
            .push(vote);
    }

    /// Drops the buffered votes of slots that are decided: their block is final, or never will be.
    pub(super) fn drop_decided_votes(&mut self) {
        let root_slot = self.tree.root_entry().header.slot;
        self.buffered_votes.retain(|_, votes| {
            // A Byzantine authority may name another slot for the hash that others voted for.
            votes.retain(|v| v.vote().target.slot > root_slot);
            !votes.is_empty()
        });
    }

    /// Counts the votes that arrived before their block.
    pub(super) fn count_buffered_votes(&mut self, hash: &Hash, now: Now, out: &mut Vec<Effect>) {
        for vote in self.buffered_votes.remove(hash).unwrap_or_default() {
            self.count(vote, now, out);
        }
    }
}
