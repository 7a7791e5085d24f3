//! Certificates: the highest certified block, the lock, and the sync target.

use alys_types::wire::CertifiedHeader;
use alys_types::{AuthoritySet, Certificate, Hash, Slot, VoteKind, VoteTarget};

use super::{State, trace};
use crate::input::{BlockRef, Broadcast, Effect, Notice, Now, Record};
use crate::rules;
use crate::tree::BodyState;
use crate::verify::CertifiedBlock;

impl State {
    pub(super) fn on_certified(&mut self, block: CertifiedBlock, now: Now, out: &mut Vec<Effect>) {
        let hash = block.hash();
        let header = block.header();
        self.on_own_signature(block.certificate(), block.set(), now, out);
        self.on_reported_slot(header.slot, now, out);
        if header.height <= self.tree.root_entry().header.height {
            return self.on_certified_below(&block, now, out);
        }
        let Some(set) = self.known_set(header) else {
            return self.set_sync_target(block, out);
        };
        if block.set().hash() != set.hash() || !self.insert_header(hash, header) {
            return; // Checked against a guess that was wrong.
        }
        self.trust_child_set(&hash);
        if let Some(certificate) = header.parent_certificate {
            // A quorum approved the child, and with it the certificate of its parent.
            self.certify(header.parent_hash, certificate, now, out);
        }
        self.take_certificate(hash, *block.certificate(), false, now, out);
        self.count_buffered_votes(&hash, now, out);
        self.advance(now, out);
    }

    /// A certificate of the root, of an older block, or of one beside the final chain.
    fn on_certified_below(&mut self, block: &CertifiedBlock, now: Now, out: &mut Vec<Effect>) {
        match block.certificate().target.kind {
            VoteKind::Approval => {
                self.certify(block.hash(), *block.certificate(), now, out);
                self.advance(now, out);
            }
            VoteKind::Confirmation => self.report_conflict(block, out),
            VoteKind::Proposal => {}
        }
    }

    fn report_conflict(&self, block: &CertifiedBlock, out: &mut Vec<Effect>) {
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

    /// Syncs to a certified block that does not connect, if it is of a higher slot than the highest
    /// one that does: a lower one is below it, or of a branch that lost. At one slot, a final block
    /// is preferred.
    pub(crate) fn set_sync_target(&mut self, block: CertifiedBlock, out: &mut Vec<Effect>) {
        let rank = |b: &CertifiedBlock| {
            let is_final = b.certificate().target.kind == VoteKind::Confirmation;
            (b.header().slot, is_final)
        };
        let is_above = block.header().slot > self.highest_slot();
        let current = self.sync_target.as_ref();
        if is_above && current.is_none_or(|target| rank(target) < rank(&block)) {
            let to = block.header().height;
            self.sync_target = Some(block);
            out.push(Effect::Sync {
                from: self.tree.root_entry().header.height.next(),
                to,
            });
        }
    }

    /// Takes the sync target as certified once it connects.
    pub(super) fn reach_sync_target(&mut self, now: Now, out: &mut Vec<Effect>) {
        let connects = |target: &mut CertifiedBlock| {
            let parent = self.tree.get(&target.header().parent_hash);
            parent.is_some_and(|p| p.child_set.is_some())
        };
        if let Some(target) = self.sync_target.take_if(connects) {
            self.on_certified(target, now, out);
        }
    }

    /// Drops the sync target when it is reached or overtaken, or was checked against a set that is
    /// no longer the newest: peers send it again if it is right.
    pub(super) fn review_sync_target(&mut self) {
        let highest = self.highest_slot();
        let set = self.newest_set().hash();
        self.sync_target
            .take_if(|target| target.header().slot <= highest || target.set().hash() != set);
    }

    pub(crate) fn highest_slot(&self) -> Slot {
        self.highest_entry().header.slot
    }

    /// Rule 3.3 (docs/protocol.md): `certificate` certifies the block `hash`. Rule 3.4 follows: the
    /// block is confirmed in the same write if the rule permits it.
    pub(super) fn certify(
        &mut self,
        hash: Hash,
        certificate: Certificate,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let root = self.tree.root();
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if entry.certificate.is_some() || hash == self.config.genesis.hash() {
            // Other signers than those of the known certificate may include this node.
            let set = entry.set.clone();
            return self.on_own_signature(&certificate, &set, now, out);
        }
        entry.certificate = Some(certificate);
        let certified = CertifiedHeader {
            header: entry.header.clone(),
            certificate,
        };
        let mut record = Record {
            certified: vec![certified.clone()],
            ..Record::default()
        };
        if hash == root {
            // The block is final already; its approvals are needed because a child carries them.
            let set = entry.set.clone();
            out.push(Effect::Persist(Box::new(record)));
            return self.on_own_signature(&certificate, &set, now, out);
        }
        let block = BlockRef {
            slot: entry.header.slot,
            hash,
        };
        self.trust_child_set(&hash);
        self.certify_ancestors(&hash, &mut record);
        self.report_certified_invalid(&record.certified, out);
        for newly in &record.certified {
            let hash = newly.certificate.target.hash;
            self.forget_uncertified(&hash);
            if let Some(set) = self.tree.get(&hash).map(|entry| entry.set.clone()) {
                self.on_own_signature(&newly.certificate, &set, now, out);
            }
        }
        if block.slot > self.highest_slot() {
            self.highest = hash;
            record.highest = Some(block);
        }
        let mut record = rules::certificate_record(record, self.bug());
        self.review_sync_target();
        let confirmation = self.confirm(block, &certified, &mut record, out);
        let messages = confirmation.into_iter().collect();
        out.extend(rules::persist_then_broadcast(record, messages, self.bug()));
        self.keep_certified_body(&hash, out);
    }

    /// A quorum approved the block, and with it the certificate of its parent that it carries, and
    /// so on down to the first ancestor whose certificate is known. The record takes them, because
    /// after a restart a lock needs the chain below it.
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
            self.trust_child_set(&parent);
            at = parent;
        }
    }

    /// Rule 3.4 (docs/protocol.md): locks on a certified block if the rule permits it.
    fn confirm(
        &mut self,
        block: BlockRef,
        certified: &CertifiedHeader,
        record: &mut Record,
        out: &mut Vec<Effect>,
    ) -> Option<Broadcast> {
        let set: &AuthoritySet = &self.tree.get(&block.hash)?.set;
        let signer = self.index_in(set)?;
        let permission = self
            .may_vote()
            .and_then(|()| rules::may_confirm(&self.votes, block.slot, self.bug()));
        if let Err(refusal) = permission {
            trace(&mut self.traced.confirmation, refusal, out);
            return None;
        }
        let target = VoteTarget {
            kind: VoteKind::Confirmation,
            height: certified.header.height,
            slot: block.slot,
            hash: block.hash,
        };
        let before = self.votes;
        self.votes.locked = block;
        self.votes.latest.confirmation = Some(target);
        rules::assert_confirmed(&before, &self.votes, &target, self.bug());
        record.votes = self.votes_to_write();
        Some(Broadcast::Confirmation {
            target,
            signer,
            certified: Box::new(certified.clone()),
        })
    }
}
