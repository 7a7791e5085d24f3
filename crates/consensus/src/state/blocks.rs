//! Headers, bodies, and the sets and federations that follow from them.

use std::sync::Arc;

use alys_types::wire::CertifiedHeader;
use alys_types::{AuthoritySet, Block, Hash, Header, Slot};

use super::State;
use crate::federation::{FederationError, FederationState};
use crate::input::{Effect, Notice, Now, Record};
use crate::rules;
use crate::tree::{BodyState, Entry, Execution};
use crate::verify::{VerifiedBody, VerifiedProposal, VerifiedVote};

/// Proposals of one slot that are kept: an honest leader makes one, and two are evidence.
const MAX_PROPOSALS_PER_SLOT: usize = 2;
/// Sets that are remembered by hash.
const MAX_SETS: usize = 32;

/// Blocks whose federation was derived, or failed to be.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub settled: Vec<Hash>,
    pub invalid: Vec<Hash>,
}

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
            self.certify(header.parent_hash, certificate, now, out);
        }
        if header.slot <= self.tree.root_entry().header.slot {
            return;
        }
        let vote = VerifiedVote::trusted(*proposal.vote(), proposal.set_hash());
        self.report_equivocation(vote, now, out);
        let hash = proposal.hash();
        // A proposal that is not kept here is fetched if it is certified after all.
        if self.is_too_early(header.slot, now) || self.has_enough_proposals(header.slot, &hash) {
            return;
        }
        if !self.insert_header(hash, header) {
            return;
        }
        if let Some(entry) = self.tree.get_mut(&hash) {
            entry.proposed = true;
        }
        self.take_body(hash, proposal.block(), out);
        self.count_buffered_votes(&hash, now, out);
        self.advance(now, out);
    }

    pub(super) fn on_body(&mut self, body: VerifiedBody, now: Now, out: &mut Vec<Effect>) {
        if !self.insert_header(body.hash(), &body.block().header) {
            return;
        }
        self.take_body(body.hash(), body.block(), out);
        self.count_buffered_votes(&body.hash(), now, out);
        self.advance(now, out);
    }

    /// True when another proposal of the slot would exceed the limit.
    fn has_enough_proposals(&self, slot: Slot, hash: &Hash) -> bool {
        let others = self
            .tree
            .iter()
            .filter(|(h, e)| *h != hash && e.proposed && e.header.slot == slot);
        others.count() >= MAX_PROPOSALS_PER_SLOT
    }

    /// Keeps a body in memory until it is written, and derives the federation from it.
    fn take_body(&mut self, hash: Hash, block: &Arc<Block>, out: &mut Vec<Effect>) {
        let Some(entry) = self.tree.get_mut(&hash) else {
            return;
        };
        if matches!(entry.body, BodyState::Missing) {
            entry.body = BodyState::Memory(block.clone());
        }
        self.keep_claims(&hash, block);
        let Applied { settled, invalid } = self.apply_federation(hash);
        for invalid in invalid {
            self.set_invalid(invalid, Execution::Refused, out);
        }
        for settled in settled {
            self.keep_certified_body(&settled, out);
            self.update_ledgers(settled, out);
        }
        // The federation may have been derived earlier, from a body that was dropped since.
        self.keep_certified_body(&hash, out);
    }

    /// Sets the verdict on a block to `execution`, an invalid one. A certified block is reported to
    /// the operator, once; [`Self::report_certified_invalid`] reports one that is certified later.
    pub(super) fn set_invalid(&mut self, hash: Hash, execution: Execution, out: &mut Vec<Effect>) {
        if let Some(entry) = self.tree.get_mut(&hash) {
            entry.execution = execution;
            if entry.certificate.is_some() && entry.invalid_answers <= 1 {
                self.disputed = Some(hash);
                out.push(Effect::Notice(Notice::CertifiedInvalid { hash }));
            }
        }
    }

    /// Reports those of newly certified blocks that were called invalid before.
    pub(super) fn report_certified_invalid(
        &mut self,
        certified: &[CertifiedHeader],
        out: &mut Vec<Effect>,
    ) {
        for hash in certified.iter().map(|c| c.certificate.target.hash) {
            if self
                .tree
                .get(&hash)
                .is_some_and(|e| e.execution.is_invalid())
            {
                self.disputed = Some(hash);
                out.push(Effect::Notice(Notice::CertifiedInvalid { hash }));
            }
        }
    }

    /// Writes the body of a certified block as soon as both are known.
    pub(super) fn keep_certified_body(&mut self, hash: &Hash, out: &mut Vec<Effect>) {
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
            return; // Needed in memory until the parent's body is known.
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
        out.extend(rules::persist_body(record, &self.config.planted_bug));
    }

    /// Adds a header whose parent is an entry with a known successor set. True when it is an entry
    /// afterwards.
    pub(crate) fn insert_header(&mut self, hash: Hash, header: &Header) -> bool {
        if self.tree.contains(&hash) {
            return true;
        }
        let Some(parent) = self.tree.get(&header.parent_hash) else {
            return false;
        };
        let Some(set) = parent.child_set.clone() else {
            return false;
        };
        if header.height != parent.header.height.next() || header.slot <= parent.header.slot {
            return false;
        }
        let mut entry = Entry::new(header.clone(), set.clone());
        // A change of the set is trusted once the body shows it or a certificate vouches for the
        // header.
        entry.child_set = (header.set_hash == set.hash()).then_some(set);
        self.tree.insert(hash, entry, &self.config);
        self.tree.contains(&hash)
    }

    /// Trusts the set that a header names for its children, because a certificate vouches for the
    /// header.
    pub(crate) fn trust_child_set(&mut self, hash: &Hash) {
        if let Some(entry) = self.tree.get_mut(hash)
            && entry.child_set.is_none()
        {
            entry.child_set = self.sets.get(&entry.header.set_hash).cloned();
        }
    }

    /// Derives the federation after a block whose body is known, and after the descendants whose
    /// bodies arrived earlier.
    pub(crate) fn apply_federation(&mut self, hash: Hash) -> Applied {
        let mut applied = Applied::default();
        let mut todo = vec![hash];
        while let Some(hash) = todo.pop() {
            let Some(after) = self.federation_after(&hash) else {
                continue;
            };
            match after {
                Ok(after) => {
                    self.set_federation(&hash, after);
                    applied.settled.push(hash);
                    todo.extend(self.tree.children(&hash).map(|(h, _)| *h));
                }
                Err(_) => applied.invalid.push(hash),
            }
        }
        applied
    }

    /// `None` if the federation is derived already, or the body or the parent's federation is
    /// missing.
    fn federation_after(&self, hash: &Hash) -> Option<Result<FederationState, FederationError>> {
        let entry = self.tree.get(hash)?;
        if entry.federation.is_some() {
            return None;
        }
        let BodyState::Memory(block) = &entry.body else {
            return None;
        };
        let parent = entry.header.parent_hash;
        let before = self.tree.get(&parent)?.federation.as_ref()?;
        let ancestor = |wanted: &Hash| self.tree.ancestor(&parent, wanted);
        Some(before.apply(&self.config, &block.header, &block.body, ancestor))
    }

    /// Records the federation after a block, and remembers its sets.
    pub(super) fn set_federation(&mut self, hash: &Hash, after: FederationState) {
        self.remember_set(after.set().clone());
        if let Some(next) = after.pending_set() {
            self.remember_set(next.clone());
        }
        if let Some(entry) = self.tree.get_mut(hash) {
            entry.child_set = Some(after.set().clone());
            entry.federation = Some(after);
        }
    }

    pub(crate) fn remember_set(&mut self, set: Arc<AuthoritySet>) {
        if self.sets.len() >= MAX_SETS && !self.sets.contains_key(&set.hash()) {
            let in_use: Vec<Hash> = self
                .tree
                .iter()
                .flat_map(|(_, e)| [e.set.hash(), e.header.set_hash])
                .collect();
            let spare = self.sets.keys().find(|h| !in_use.contains(h)).copied();
            if let Some(spare) = spare {
                self.sets.remove(&spare);
            }
        }
        self.sets.insert(set.hash(), set);
    }
}
