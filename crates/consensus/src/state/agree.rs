//! Votes, certificates, lock and finality: rules 2 to 5.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_types::mutant::{self, Mutant};
use alys_types::wire::CertifiedHeader;
use alys_types::{AuthoritySet, Block, Certificate, Hash, Slot, VoteKind, VoteTarget};

use super::State;
use crate::input::{BlockRef, Effect, Finalization, Latest, Notice, Now, Record, Send, VoteState};
use crate::tree::{BodyState, Execution};
use crate::verify::{CertifiedBlock, VerifiedBody, VerifiedProposal, VerifiedVote};

impl State {
    pub(super) fn on_proposal(
        &mut self,
        proposal: VerifiedProposal,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let header = &proposal.block().header;
        // The certificate inside is handled at once, before the proposal.
        if let Some(certificate) = header.parent_certificate {
            self.certify(header.parent_hash, certificate, out);
        }
        if header.slot <= self.tree.root_entry().header.slot {
            return;
        }
        self.note_evidence(
            VerifiedVote::trusted(*proposal.vote(), proposal.set_hash()),
            now,
            out,
        );
        let hash = proposal.hash();
        // What is left out here is fetched should it be certified after all.
        if self.is_too_early(header.slot, now) || self.has_enough_of(header.slot, &hash) {
            return;
        }
        if !self.insert_header(hash, header) {
            return;
        }
        if let Some(entry) = self.tree.get_mut(&hash) {
            entry.proposed = true;
        }
        self.take_body(hash, proposal.block(), out);
        self.release(&hash, now, out);
        self.advance(now, out);
    }

    pub(super) fn on_body(&mut self, body: VerifiedBody, now: Now, out: &mut Vec<Effect>) {
        if !self.insert_header(body.hash(), &body.block().header) {
            return;
        }
        self.take_body(body.hash(), body.block(), out);
        self.release(&body.hash(), now, out);
        self.advance(now, out);
    }

    /// A body has come: keep it until it is written, and derive the federation from it.
    fn take_body(&mut self, hash: Hash, block: &Arc<Block>, out: &mut Vec<Effect>) {
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if matches!(entry.body, BodyState::Missing) {
            entry.body = BodyState::Memory(block.clone());
        }
        let (settled, invalid) = self.settle_federation(hash);
        for invalid in invalid {
            if let Some(entry) = self.tree.get_mut(&invalid) {
                entry.execution = Execution::Invalid;
                if entry.certificate.is_some() {
                    out.push(Effect::Notice(Notice::CertifiedInvalid { hash: invalid }));
                }
            }
        }
        for settled in settled {
            self.keep_certified_body(&settled, out);
        }
        // Its federation may have been known before: then the body had been forgotten.
        self.keep_certified_body(&hash, out);
    }

    /// The body of a certified block goes to the store at once.
    fn keep_certified_body(&mut self, hash: &Hash, out: &mut Vec<Effect>) {
        let Some(entry) = self.tree.get_mut(hash) else {
            return;
        };
        let Some(certificate) = entry.certificate else {
            return;
        };
        let BodyState::Memory(block) = &entry.body else {
            return;
        };
        if entry.federation.is_none() {
            return; // Needed in memory until the parent's body is here.
        }
        let record = Record {
            blocks: vec![block.clone()],
            certified: vec![CertifiedHeader {
                header: entry.header.clone(),
                certificate,
            }],
            ..Record::default()
        };
        entry.body = BodyState::Stored;
        if !mutant::active(Mutant::FetchedNotWritten) {
            out.push(Effect::Persist(Box::new(record)));
        }
    }

    pub(super) fn on_vote(&mut self, vote: VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        self.note_evidence(vote, now, out);
        self.hold(&vote);
        let needed = self.newest_set().quorum().saturating_sub(1);
        if self.in_slot(vote.vote().target.slot, now)
            && self
                .clock
                .confirm(now, vote.vote().signer, needed)
                .is_some()
        {
            out.push(Effect::Notice(Notice::ClockTrusted));
        }
        if self.tree.contains(&vote.vote().target.hash) {
            self.count(vote, now, out);
        } else {
            self.wait(vote);
        }
    }

    fn note_evidence(&mut self, vote: VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        let slot = self.slot_at(now);
        if let Some(evidence) = self.watch.note(*vote.vote(), vote.set_hash(), slot) {
            out.push(Effect::Evidence(Box::new(evidence)));
        }
    }

    /// Counts a vote of a known block; a quorum makes a certificate.
    pub(super) fn count(&mut self, vote: VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        let vote_set = vote.set_hash();
        let vote = vote.vote();
        let target = vote.target;
        let Some(entry) = self.tree.get_mut(&target.hash) else {
            return;
        };
        let same_block = (entry.header.height, entry.header.slot) == (target.height, target.slot);
        if vote_set != entry.set.hash() || !same_block || target.kind == VoteKind::Proposal {
            return;
        }
        entry.votes(target.kind).insert(vote.signer, vote.signature);
        if target.kind == VoteKind::Approval && mutant::active(Mutant::KindsMixed) {
            entry
                .confirmations
                .entry(vote.signer)
                .or_insert(vote.signature);
        }
        let done = match target.kind {
            VoteKind::Confirmation => entry.finality.is_some(),
            _ => entry.certificate.is_some(),
        };
        if done {
            return;
        }
        let votes: Vec<_> = entry
            .votes(target.kind)
            .iter()
            .map(|(i, s)| (*i, *s))
            .collect();
        let set = entry.set.clone();
        if let Some(certificate) = Certificate::aggregate(target, &votes, &set) {
            match target.kind {
                VoteKind::Confirmation => self.finalize(target.hash, certificate, true, out),
                _ => self.certify(target.hash, certificate, out),
            }
            self.advance(now, out);
        }
    }

    pub(super) fn on_certified(&mut self, block: CertifiedBlock, now: Now, out: &mut Vec<Effect>) {
        let (hash, header) = (block.hash(), block.header());
        self.note_reported(header.slot, now, out);
        let root = self.tree.root_entry().header.height;
        if header.height <= root {
            self.check_conflict(&block, out);
            if block.certificate().target.kind == VoteKind::Approval {
                self.certify(hash, *block.certificate(), out);
                self.advance(now, out);
            }
            return;
        }
        let Some(set) = self.known_set(header) else {
            return self.aim(block, out);
        };
        if block.set().hash() != set.hash() || !self.insert_header(hash, header) {
            return; // Checked against a guess that was wrong.
        }
        self.believe_header(&hash);
        if let Some(certificate) = header.parent_certificate {
            // A quorum approved the child, and with it the certificate of its parent.
            self.certify(header.parent_hash, certificate, out);
        }
        match block.certificate().target.kind {
            VoteKind::Confirmation => self.finalize(hash, *block.certificate(), false, out),
            _ if mutant::active(Mutant::ApprovalsFinalize) => {
                self.certify(hash, *block.certificate(), out);
                self.finalize(hash, *block.certificate(), false, out);
            }
            _ => self.certify(hash, *block.certificate(), out),
        }
        self.release(&hash, now, out);
        self.advance(now, out);
    }

    /// A certified block cannot be connected: ask for what lies between. One of a lower slot than the highest certified
    /// block is of a branch that lost, or below it.
    pub(crate) fn aim(&mut self, block: CertifiedBlock, out: &mut Vec<Effect>) {
        let rank = |b: &CertifiedBlock| {
            (
                b.header().slot,
                b.certificate().target.kind == VoteKind::Confirmation,
            )
        };
        let above = block.header().slot > self.highest_slot();
        if above && self.target.as_ref().is_none_or(|t| rank(t) < rank(&block)) {
            let to = block.header().height;
            self.target = Some(block);
            out.push(Effect::Sync {
                from: self.tree.root_entry().header.height.next(),
                to,
            });
        }
    }

    /// Takes the target when it connects, whoever brought what was missing.
    pub(super) fn reach_target(&mut self, now: Now, out: &mut Vec<Effect>) {
        let connects = |t: &mut CertifiedBlock| {
            self.tree
                .get(&t.header().parent_hash)
                .is_some_and(|p| p.child_set.is_some())
        };
        if let Some(target) = self.target.take_if(connects) {
            self.on_certified(target, now, out);
        }
    }

    /// Gives the target up when it is reached or overtaken, or was checked against a set that is not the newest any more:
    /// then it is told again, by others or never.
    fn check_target(&mut self) {
        let (highest, set) = (self.highest_slot(), self.newest_set().hash());
        self.target
            .take_if(|t| t.header().slot <= highest || t.set().hash() != set);
    }

    fn highest_slot(&self) -> Slot {
        self.tree
            .get(&self.highest)
            .unwrap_or(self.tree.root_entry())
            .header
            .slot
    }

    fn check_conflict(&self, block: &CertifiedBlock, out: &mut Vec<Effect>) {
        if block.certificate().target.kind != VoteKind::Confirmation {
            return;
        }
        let height = block.header().height;
        if let Some(ours) = self.tree.final_at(height)
            && ours != block.hash()
        {
            out.push(Effect::Notice(Notice::ConflictingFinality {
                height,
                ours,
                theirs: block.hash(),
            }));
        }
    }

    /// Rule 3 is done, rule 4 follows: a certificate of `hash` is known.
    pub(super) fn certify(&mut self, hash: Hash, certificate: Certificate, out: &mut Vec<Effect>) {
        let root = self.tree.root();
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if entry.certificate.is_some() || hash == self.config.genesis.hash() {
            return;
        }
        if hash == root {
            // Final already, by a certificate of confirmations; the approvals are what a child has to carry.
            entry.certificate = Some(certificate);
            let certified = vec![CertifiedHeader {
                header: entry.header.clone(),
                certificate,
            }];
            return out.push(Effect::Persist(Box::new(Record {
                certified,
                ..Record::default()
            })));
        }
        entry.certificate = Some(certificate);
        let certified = CertifiedHeader {
            header: entry.header.clone(),
            certificate,
        };
        let block = BlockRef {
            slot: entry.header.slot,
            hash,
        };
        let mut record = Record {
            certified: vec![certified.clone()],
            ..Record::default()
        };
        self.believe_header(&hash);
        self.certify_ancestors(&hash, &mut record);
        if mutant::active(Mutant::CertificateNotPersisted) {
            record.certified.clear();
        }
        if block.slot > self.highest_slot() {
            self.highest = hash;
            if !mutant::active(Mutant::CertificateNotPersisted) {
                record.highest = Some(block);
            }
        }
        self.check_target();
        let confirmation = self.lock(block, &certified, &mut record);
        let written = out.len();
        out.push(Effect::Persist(Box::new(record)));
        out.extend(confirmation);
        if out.len() > written + 1 && mutant::active(Mutant::ConfirmationBeforeWrite) {
            out[written..].rotate_left(1);
        }
        self.keep_certified_body(&hash, out);
    }

    /// A quorum approved the block, and with it the certificate of its parent that it carries, and so on down. What is
    /// known of them is written: a lock is worth nothing after a restart without what it stands on.
    pub(crate) fn certify_ancestors(&mut self, hash: &Hash, record: &mut Record) {
        let mut at = *hash;
        while let Some(child) = self.tree.get(&at)
            && let Some(certificate) = child.header.parent_certificate
            && let parent = child.header.parent_hash
            && let Some(entry) = self.tree.get_mut(&parent)
            && entry.certificate.is_none()
        {
            entry.certificate = Some(certificate);
            record.certified.push(CertifiedHeader {
                header: entry.header.clone(),
                certificate,
            });
            if let BodyState::Memory(block) = &entry.body
                && entry.federation.is_some()
            {
                record.blocks.push(block.clone());
                entry.body = BodyState::Stored;
            }
            self.believe_header(&parent);
            at = parent;
        }
    }

    /// Rule 4: confirm a certified block that is above the lock and not below the last approval.
    fn lock(
        &mut self,
        block: BlockRef,
        certified: &CertifiedHeader,
        record: &mut Record,
    ) -> Option<Effect> {
        let entry = self.tree.get(&block.hash)?;
        let signer = self.index_in(&entry.set)?;
        let overtaken = block.slot < self.votes.approved_slot
            && !mutant::active(Mutant::ConfirmIgnoresApproval);
        if self.silent() || block.slot <= self.votes.locked.slot || overtaken {
            return None;
        }
        let target = VoteTarget {
            kind: VoteKind::Confirmation,
            height: entry.header.height,
            slot: block.slot,
            hash: block.hash,
        };
        self.votes.locked = block;
        self.votes.latest.confirmation = Some(target);
        record.votes = self.votes_to_write();
        let certified = Box::new(certified.clone());
        Some(Effect::Send(Send::Confirmation {
            target,
            signer,
            certified,
        }))
    }

    /// Rule 5: `hash` and its ancestors are final.
    fn finalize(
        &mut self,
        hash: Hash,
        certificate: Certificate,
        ours: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if entry.finality.is_some() {
            return;
        }
        entry.finality = Some(certificate);
        let certified = CertifiedHeader {
            header: entry.header.clone(),
            certificate,
        };
        let block = BlockRef {
            slot: entry.header.slot,
            hash,
        };
        // Every body below must be here before the block is the root: what is final can be served and executed.
        let Some(path) = self.tree.path(&hash) else {
            return;
        };
        let ready = |h: &Hash| {
            self.tree
                .get(h)
                .is_some_and(|e| e.federation.is_some() && e.has_body())
        };
        if !path.iter().all(ready) {
            return self.want_bodies(&path, out);
        }
        let blocks_kept = self.keep_bodies(&path);
        // A restart needs the set of every final block in the window.
        let sets: BTreeMap<Hash, Arc<AuthoritySet>> = path
            .iter()
            .filter_map(|h| self.tree.get(h))
            .map(|e| (e.set.hash(), e.set.clone()))
            .collect();
        let sets = sets
            .values()
            .map(|set| set.authorities().to_vec())
            .collect();
        let Some((chain, dropped)) = self.tree.finalize(&hash) else {
            return;
        };
        self.root_finality = Some(certificate);
        self.final_since = true;
        let blocks: Vec<BlockRef> = chain.iter().filter_map(|h| self.final_ref(h)).collect();
        let root = self.tree.root_entry();
        let first = root.header.height.0 + 1 - chain.len() as u64;
        let finalization = Finalization {
            certified: certified.clone(),
            chain: chain
                .iter()
                .enumerate()
                .map(|(i, h)| (alys_types::Height(first + i as u64), *h))
                .collect(),
            federation: root.federation.as_ref().map(|f| f.to_record()),
            dropped,
        };
        let height = root.header.height;
        if self
            .tree
            .get(&self.highest)
            .is_none_or(|e| e.header.slot < block.slot)
        {
            self.highest = hash;
        }
        self.check_target();
        let mut record = Record {
            blocks: blocks_kept,
            finalized: Some(finalization),
            sets,
            ..Record::default()
        };
        self.regain_votes(block, &mut record, out);
        out.push(Effect::Persist(Box::new(record)));
        if ours {
            out.push(Effect::Send(Send::Certificate(Box::new(certified))));
        }
        out.push(Effect::Finalized(blocks, height));
    }

    /// Bodies of a path that are not written yet.
    fn keep_bodies(&mut self, path: &[Hash]) -> Vec<Arc<Block>> {
        let mut kept = Vec::new();
        for hash in path {
            if let Some(entry) = self.tree.get_mut(hash)
                && let BodyState::Memory(block) = &entry.body
            {
                kept.push(block.clone());
                entry.body = BodyState::Stored;
            }
        }
        kept
    }

    fn final_ref(&self, hash: &Hash) -> Option<BlockRef> {
        self.tree
            .final_slot(hash)
            .map(|slot| BlockRef { slot, hash: *hash })
    }

    /// Finality that was known before the bodies below it: look again.
    pub(super) fn retry_finality(&mut self, out: &mut Vec<Effect>) {
        let waiting = self
            .tree
            .iter()
            .filter(|(h, e)| e.finality.is_some() && **h != self.tree.root())
            .max_by_key(|(_, e)| e.header.height)
            .map(|(h, e)| (*h, e.finality));
        if let Some((hash, Some(certificate))) = waiting {
            if let Some(entry) = self.tree.get_mut(&hash) {
                entry.finality = None;
            }
            self.finalize(hash, certificate, false, out);
        }
    }

    /// Rule 2, when everything but the vote itself is settled.
    pub(super) fn try_approve(&mut self, hash: Hash, now: Now, out: &mut Vec<Effect>) {
        let Some(entry) = self.tree.get(&hash) else {
            return;
        };
        let header = &entry.header;
        let Some(parent) = self.tree.get(&header.parent_hash) else {
            return;
        };
        let BodyState::Memory(block) = &entry.body else {
            return;
        };
        let Some(signer) = self.index_in(&entry.set) else {
            return;
        };
        let locked_out = parent.header.slot < self.votes.locked.slot
            && !mutant::active(Mutant::ApproveIgnoresLock);
        if self.silent()
            || !entry.proposed
            || entry.execution != Execution::Valid
            || entry.federation.is_none()
            || !self.in_slot(header.slot, now)
            || self.has_approved_in(header.slot)
            || locked_out
        {
            return;
        }
        let target = VoteTarget {
            kind: VoteKind::Approval,
            height: header.height,
            slot: header.slot,
            hash,
        };
        let block = block.clone();
        self.votes.approved_slot = target.slot;
        self.votes.latest.approval = Some(target);
        let record = Record {
            blocks: vec![block],
            ..self.record()
        };
        if let Some(entry) = self.tree.get_mut(&hash) {
            entry.body = BodyState::Stored;
        }
        out.push(Effect::Persist(Box::new(record)));
        out.push(Effect::Send(Send::Approval { target, signer }));
    }

    /// True when the wall clock is in a slot, give or take the drift allowance.
    pub(super) fn in_slot(&self, slot: Slot, now: Now) -> bool {
        let (start, end) = (
            slot.start_ms(self.slot_ms()),
            slot.next().start_ms(self.slot_ms()),
        );
        let is_in = now.wall_ms.saturating_add(self.drift_ms()) >= start
            && now.wall_ms < end.saturating_add(self.drift_ms());
        is_in || mutant::active(Mutant::ApprovesOutOfSlot)
    }

    // Lost vote state.

    pub(super) fn on_votes_lost(&mut self, now: Now, out: &mut Vec<Effect>) {
        let highest = self
            .tree
            .get(&self.highest)
            .map_or(Slot(0), |e| e.header.slot);
        let seen = self.slot_at(now).max(highest);
        let until = Slot(
            seen.0
                .saturating_add(self.config.genesis.spec().rejoin_margin),
        );
        self.votes.silent_until = Some(self.votes.silent_until.map_or(until, |u| u.max(until)));
        self.votes.latest = Latest::default();
        out.push(Effect::Persist(Box::new(self.record())));
        out.push(Effect::Notice(Notice::VotesLost {
            silent_until: until,
        }));
    }

    pub(super) fn on_held_vote(&mut self, vote: VerifiedVote, now: Now, out: &mut Vec<Effect>) {
        let mine = self
            .sets
            .get(&vote.set_hash())
            .and_then(|set| self.index_in(set))
            .is_some_and(|index| index == vote.vote().signer);
        if !mine || self.votes.silent_until.is_some() || mutant::active(Mutant::HeldVoteIgnored) {
            return;
        }
        let target = vote.vote().target;
        let later = match target.kind {
            VoteKind::Confirmation => target.slot > self.votes.locked.slot,
            _ => target.slot > self.votes.approved_slot,
        };
        if later {
            self.on_votes_lost(now, out);
        }
    }

    /// A certificate from ahead of the local clock shows that the clock was no measure of how far the lost votes can have
    /// gone.
    fn note_reported(&mut self, slot: Slot, now: Now, out: &mut Vec<Effect>) {
        let Some(until) = self.votes.silent_until else {
            return;
        };
        let allowed = Now {
            wall_ms: now.wall_ms.saturating_add(self.drift_ms()),
            ..now
        };
        if slot <= self.slot_at(allowed) {
            return; // Within what the local clock, and with it the end of the silence, already covers.
        }
        let raised = Slot(
            slot.0
                .saturating_add(self.config.genesis.spec().rejoin_margin),
        );
        if raised > until {
            self.votes.silent_until = Some(raised);
            out.push(Effect::Persist(Box::new(self.record())));
        }
    }

    fn regain_votes(&mut self, block: BlockRef, record: &mut Record, out: &mut Vec<Effect>) {
        let is_over = |until| block.slot > until || mutant::active(Mutant::RejoinsAtOnce);
        if self.votes.silent_until.is_some_and(is_over) {
            self.votes = VoteState {
                approved_slot: block.slot,
                locked: block,
                latest: Latest::default(),
                silent_until: None,
            };
            record.votes = self.votes_to_write();
            out.push(Effect::Notice(Notice::VotesRegained));
        }
    }
}
