//! Reads of the state, for the actor around it.

use std::sync::Arc;

use alys_types::bls::PublicKeyBytes;
use alys_types::wire::{CertifiedHeader, HeldVotes};
use alys_types::{AuthoritySet, Hash, Header, Height, Slot, Vote, VoteKind};

use super::{ProposalContext, State};
use crate::input::{BlockRef, Now, VoteState};
use crate::rules;
use crate::tree::{BodyState, Entry, Execution};

/// The position of a node, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The certified block with the highest slot.
    pub highest: BlockRef,
    pub highest_height: Height,
    /// The last final block.
    pub finalized: BlockRef,
    pub final_height: Height,
    /// Height of the last block that is final by proof of work, as far as the receipts of final
    /// blocks are known.
    pub pow_final_height: Height,
    /// Block hash of the execution layer's head.
    pub head: Hash,
    pub head_height: Height,
    pub votes: VoteState,
    /// True while the node may not vote: clock distrusted or votes lost.
    pub silent: bool,
    /// False while the wall clock waits for its confirmation (rule 3.9).
    pub clock_trusted: bool,
    /// True when the head is the highest certified block and executed.
    pub synced: bool,
    /// Blocks above the last final one, and that one itself.
    pub entries: usize,
}

/// The entries of the tables of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The last final block and those above it.
    pub blocks: usize,
    /// Blocks whose bodies are in memory only.
    pub bodies: usize,
    /// Blocks of which the execution layer has not given its verdict yet, though it was asked.
    pub asked_executions: usize,
    /// Votes whose block is unknown.
    pub buffered_votes: usize,
    /// Authorities whose latest votes are kept.
    pub latest_votes: usize,
    /// Votes that are kept to recognise equivocation.
    pub remembered_votes: usize,
    /// Authority sets.
    pub sets: usize,
}

impl State {
    /// The entries of the tables.
    pub fn sizes(&self) -> Sizes {
        let in_memory = |e: &Entry| matches!(e.body, BodyState::Memory(_));
        let is_asked = |e: &Entry| e.execution == Execution::Asked;
        Sizes {
            blocks: self.tree.len(),
            bodies: self.tree.iter().filter(|(_, e)| in_memory(e)).count(),
            asked_executions: self.tree.iter().filter(|(_, e)| is_asked(e)).count(),
            buffered_votes: self.buffered_votes.values().flatten().count(),
            latest_votes: self.latest_votes.len(),
            remembered_votes: self.equivocations.remembered(),
            sets: self.sets.len(),
        }
    }

    /// The position of the node.
    pub fn summary(&self) -> Summary {
        let root = self.tree.root_entry();
        let highest = self.highest_entry();
        let head = self.forkchoice.map_or(self.tree.root(), |(head, ..)| head);
        let head_height = self
            .tree
            .get(&head)
            .map_or(root.header.height, |e| e.header.height);
        Summary {
            highest: BlockRef {
                slot: highest.header.slot,
                hash: self.highest,
            },
            highest_height: highest.header.height,
            finalized: BlockRef {
                slot: root.header.slot,
                hash: self.tree.root(),
            },
            final_height: root.header.height,
            pow_final_height: self.pow_final_height(),
            head,
            head_height,
            votes: VoteState {
                silent_until: self.silent_until(),
                ..self.votes
            },
            silent: self.is_silent(),
            clock_trusted: self.clock.is_trusted(),
            synced: head == self.highest
                && highest.execution == Execution::Valid
                && self.sync_target.is_none(),
            entries: self.tree.len(),
        }
    }

    /// The slot that the wall clock is in.
    pub fn slot_at(&self, now: Now) -> Slot {
        Slot::at(now.wall_ms, self.config.genesis.spec().slot_duration_ms)
    }

    /// The trusted offset of the wall clock, for [`State::restore`] in this process.
    pub fn trusted_clock_ms(&self) -> Option<i64> {
        self.clock.trusted_ms()
    }

    /// True from the start of the process until the clock is confirmed: peers should be asked for
    /// theirs.
    pub fn awaits_clock(&self) -> bool {
        !self.clock.is_confirmed_at_start()
    }

    /// The data to check a proposal on `parent` against; `None` while the parent or its successors'
    /// set is unknown.
    pub fn proposal_context(&self, parent: &Hash) -> Option<ProposalContext> {
        let entry = self.tree.get(parent)?;
        Some(ProposalContext {
            parent: entry.header.clone(),
            parent_hash: *parent,
            parent_set: entry.set.clone(),
            set: entry.child_set.clone()?,
        })
    }

    /// The set that decides on a header; `None` while its parent, or the parent's change of the
    /// set, is unknown.
    pub fn known_set(&self, header: &Header) -> Option<Arc<AuthoritySet>> {
        match self.tree.get(&header.parent_hash) {
            Some(parent) => parent.child_set.clone(),
            None => self.tree.final_set_beside(header),
        }
    }

    /// The set that decides on the block of a vote; `None` while the block is unknown.
    pub fn known_set_for_vote(&self, vote: &Vote) -> Option<Arc<AuthoritySet>> {
        self.tree.get(&vote.target.hash).map(|e| e.set.clone())
    }

    /// The set to check a header's certificate against: [`Self::known_set`], or else a guess, the
    /// newest set that is known. A certificate that does not check against a guess costs no peer.
    pub fn set_for(&self, header: &Header) -> Arc<AuthoritySet> {
        self.known_set(header).unwrap_or_else(|| self.newest_set())
    }

    /// The set to check a vote against: that of its block, or the newest set while the block is
    /// unknown.
    pub fn set_for_vote(&self, vote: &Vote) -> Arc<AuthoritySet> {
        self.known_set_for_vote(vote)
            .unwrap_or_else(|| self.newest_set())
    }

    /// The set of the successors of the highest certified block.
    pub fn newest_set(&self) -> Arc<AuthoritySet> {
        let entry = self.highest_entry();
        entry.child_set.clone().unwrap_or_else(|| entry.set.clone())
    }

    /// True when a certificate of this kind for this block would add nothing.
    pub fn knows_certificate(&self, hash: &Hash, kind: VoteKind) -> bool {
        let Some(entry) = self.tree.get(hash) else {
            return false;
        };
        let is_final = kind == VoteKind::Confirmation && *hash == self.tree.root();
        is_final || entry.certificate_of(kind).is_some()
    }

    /// True when a vote would add nothing: it is counted already, or its block is final or older
    /// than the last final one.
    pub fn knows_vote(&self, vote: &Vote) -> bool {
        let target = vote.target;
        match self.tree.get(&target.hash) {
            Some(_) if target.hash == self.tree.root() => true,
            Some(entry) => entry.has_vote(vote),
            None => target.height <= self.tree.root_entry().header.height,
        }
    }

    /// True when exactly this vote was checked and counted: it may be passed on, though it adds
    /// nothing.
    pub fn has_counted(&self, vote: &Vote) -> bool {
        let target = vote.target;
        self.tree.get(&target.hash).is_some_and(|entry| {
            (entry.header.height, entry.header.slot) == (target.height, target.slot)
                && entry.has_vote(vote)
        })
    }

    /// True when exactly this header and certificate were checked before.
    pub fn has_certificate(&self, certified: &CertifiedHeader) -> bool {
        let certificate = Some(&certified.certificate);
        let Some(entry) = self.tree.get(&certified.certificate.target.hash) else {
            return false;
        };
        entry.header == certified.header
            && (entry.certificate.as_ref() == certificate || entry.finality.as_ref() == certificate)
    }

    /// True when the block is known as its leader proposed it.
    pub fn knows_proposal(&self, hash: &Hash) -> bool {
        self.tree
            .get(hash)
            .is_some_and(|e| e.proposed && e.has_body())
    }

    /// True while the own execution layer calls a certified block invalid, so that the node cannot
    /// follow.
    pub fn disputes_certified(&self) -> bool {
        let entry = self.disputed.and_then(|hash| self.tree.get(&hash));
        entry.is_some_and(|e| e.invalid_answers > 0 || e.execution.is_invalid())
    }

    /// True while a slot is too far ahead of the clock for its proposals to be kept.
    pub fn is_too_early(&self, slot: Slot, now: Now) -> bool {
        rules::is_too_early(slot, self.slot_at(now), self.bug())
    }

    /// The slot of the last final block, and the latest slot that an honest authority may be in.
    /// Votes count in the slots between: above the first, and not above the second.
    pub fn vote_window(&self, now: Now) -> (Slot, Slot) {
        let last_final = self.tree.root_entry().header.slot;
        (last_final, rules::latest_slot(self.slot_at(now)))
    }

    /// True when the block is known with its body.
    pub fn has_body(&self, hash: &Hash) -> bool {
        self.tree.get(hash).is_some_and(Entry::has_body)
    }

    /// True when the header is known.
    pub fn knows(&self, hash: &Hash) -> bool {
        self.tree.contains(hash)
    }

    /// The header of a block that is not below the last final one.
    pub fn header(&self, hash: &Hash) -> Option<&Header> {
        self.tree.get(hash).map(|e| &e.header)
    }

    /// The latest votes seen of an authority, for the answer to its status request.
    pub fn held_votes(&self, key: &PublicKeyBytes) -> HeldVotes {
        self.latest_votes.get(key).cloned().unwrap_or_default()
    }

    /// True for a vote of this node that proves the loss of its vote state (rule 3.8), should its
    /// signature be valid. Its set is [`Self::set_for_vote`].
    pub fn would_prove_loss(&self, vote: &Vote) -> bool {
        self.index_in(&self.set_for_vote(vote)) == Some(vote.signer) && self.is_loss(&vote.target)
    }

    /// The highest certificate with its header, connected or not; `None` while it is genesis.
    pub fn highest_certified(&self) -> Option<CertifiedHeader> {
        match &self.sync_target {
            Some(target) => Some(target.certified()),
            None => self.certified_header(&self.highest),
        }
    }

    /// The last final block with its finality certificate; `None` while it is genesis.
    pub fn last_final(&self) -> Option<CertifiedHeader> {
        let certificate = self.root_finality?;
        Some(CertifiedHeader {
            header: self.tree.root_entry().header.clone(),
            certificate,
        })
    }

    /// The certified chain above the last final block: hashes by height, ascending.
    pub fn certified_path(&self) -> Vec<(Height, Hash)> {
        let path = self.tree.path(&self.highest).unwrap_or_default();
        path.iter()
            .filter_map(|h| Some((self.tree.get(h)?.header.height, *h)))
            .collect()
    }

    /// Heights of the last final block, of the highest certified one, and of a certified one that
    /// does not connect yet; `None` when nothing is missing.
    pub fn sync_gap(&self) -> Option<(Height, Height, Height)> {
        let to = self.sync_target.as_ref()?.header().height;
        let root = self.tree.root_entry().header.height;
        Some((root, self.highest_entry().header.height, to))
    }

    fn pow_final_height(&self) -> Height {
        self.settled.ledger.work(&self.config.genesis).end.height
    }

    pub(super) fn highest_entry(&self) -> &Entry {
        self.tree
            .get(&self.highest)
            .unwrap_or(self.tree.root_entry())
    }

    pub(super) fn certified_header(&self, hash: &Hash) -> Option<CertifiedHeader> {
        let entry = self.tree.get(hash)?;
        Some(CertifiedHeader {
            header: entry.header.clone(),
            certificate: entry.certificate?,
        })
    }
}
