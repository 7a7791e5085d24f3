//! The blocks above the last final one, and the window of final headers below it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alys_peg::{Additions, Changes, Ledger};
use alys_types::bls::Signature;
use alys_types::{AuthoritySet, Block, Certificate, Hash, Header, Height, Slot, Vote, VoteKind};

use crate::config::Config;
use crate::federation::{Ancestor, FINALITY_WINDOW, FederationState};
use crate::input::{BlockRef, PowFinal};
use crate::rules;
use crate::rules::work::Claims;

/// A block above the last final one, as far as it is known.
#[derive(Debug)]
pub(crate) struct Entry {
    pub header: Header,
    /// The set of the block's own height.
    pub set: Arc<AuthoritySet>,
    /// The set of the next height, once known.
    pub child_set: Option<Arc<AuthoritySet>>,
    /// The federation after the block, once its body and its ancestors' bodies were applied.
    pub federation: Option<FederationState>,
    pub certificate: Option<Certificate>,
    pub finality: Option<Certificate>,
    /// Signatures by signer.
    pub approvals: BTreeMap<u8, Signature>,
    /// Signatures by signer.
    pub confirmations: BTreeMap<u8, Signature>,
    pub body: BodyState,
    pub execution: Execution,
    /// Times that the execution layer called the block invalid, without a VALID since.
    pub invalid_answers: u32,
    /// Monotonic time from which on the execution layer is asked again, in milliseconds.
    pub ask_again_ms: u64,
    /// The leader's proposal was checked: only then the block may be approved.
    pub proposed: bool,
    /// The part of the body that the ledger judges, once the body is known.
    pub claims: Option<Claims>,
    /// The body fits the ledger after the parent.
    pub is_judged: bool,
    /// The block's additions to the ledger, once its receipts are known.
    pub additions: Option<Additions>,
    /// The execution layer was asked for the receipts, and has not answered.
    pub is_account_asked: bool,
    /// The ledger after the block, once the ledger after the parent and the additions are known.
    pub ledger: Option<LedgerAfter>,
}

/// The ledger after a block.
#[derive(Debug, Clone)]
pub(crate) struct LedgerAfter {
    pub ledger: Ledger,
    /// The entries that differ from the ledger after the parent.
    pub changes: Changes,
    /// The range of the proof that the block carries.
    pub range: Option<PowFinal>,
}

/// Where the body of a block is.
#[derive(Debug, Clone)]
pub(crate) enum BodyState {
    Missing,
    /// In memory, not written yet.
    Memory(Arc<Block>),
    /// In the store.
    Stored,
}

/// The execution layer's verdict, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    Unknown,
    Asked,
    Valid,
    /// Called invalid by the execution layer, which is asked again if the block is certified (rule
    /// 6.2).
    Invalid,
    /// The federation change of the block, its proof of work or its ledger hash breaks a rule: no
    /// answer of the execution layer matters.
    Refused,
}

impl Execution {
    pub(crate) fn is_invalid(self) -> bool {
        matches!(self, Execution::Invalid | Execution::Refused)
    }
}

impl Entry {
    pub(crate) fn new(header: Header, set: Arc<AuthoritySet>) -> Entry {
        Entry {
            header,
            set,
            child_set: None,
            federation: None,
            certificate: None,
            finality: None,
            approvals: BTreeMap::new(),
            confirmations: BTreeMap::new(),
            body: BodyState::Missing,
            execution: Execution::Unknown,
            invalid_answers: 0,
            ask_again_ms: 0,
            proposed: false,
            claims: None,
            is_judged: false,
            additions: None,
            is_account_asked: false,
            ledger: None,
        }
    }

    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.body, BodyState::Missing)
    }

    /// True when the body was executed and applied, so that a child can be built on the block.
    pub(crate) fn is_applied(&self) -> bool {
        self.execution == Execution::Valid && self.federation.is_some()
    }

    /// The votes of a kind; `None` for proposals, which are not counted.
    pub(crate) fn votes(&self, kind: VoteKind) -> Option<&BTreeMap<u8, Signature>> {
        match kind {
            VoteKind::Proposal => None,
            VoteKind::Approval => Some(&self.approvals),
            VoteKind::Confirmation => Some(&self.confirmations),
        }
    }

    /// As [`Self::votes`], to count one more.
    pub(crate) fn votes_mut(&mut self, kind: VoteKind) -> Option<&mut BTreeMap<u8, Signature>> {
        match kind {
            VoteKind::Proposal => None,
            VoteKind::Approval => Some(&mut self.approvals),
            VoteKind::Confirmation => Some(&mut self.confirmations),
        }
    }

    /// True when exactly this signature was counted.
    pub(crate) fn has_vote(&self, vote: &Vote) -> bool {
        let votes = self.votes(vote.target.kind);
        votes.and_then(|votes| votes.get(&vote.signer)) == Some(&vote.signature)
    }

    /// The certificate of votes of a kind; `None` for proposals, which have none.
    pub(crate) fn certificate_of(&self, kind: VoteKind) -> Option<&Certificate> {
        match kind {
            VoteKind::Proposal => None,
            VoteKind::Approval => self.certificate.as_ref(),
            VoteKind::Confirmation => self.finality.as_ref(),
        }
    }
}

/// Most blocks that are remembered after they gave way in memory: a day of slots of 2 s with room
/// to spare, and 4 MiB. The store forgets the others at its next start.
const MAX_EVICTED: usize = 65_536;

/// Entries by hash. The last final block is always one of them and the root of all.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: BTreeMap<Hash, Entry>,
    /// Heights of blocks that gave way in memory. They stay in the store until finality passes
    /// them, because an approver may be the only one that can still serve the body of a block
    /// whose certificate comes late.
    evicted: BTreeMap<Hash, Height>,
    root: Hash,
    /// Final blocks, the root included, oldest first; consecutive heights.
    finals: VecDeque<FinalHeader>,
}

#[derive(Debug)]
struct FinalHeader {
    hash: Hash,
    header: Header,
    /// The set of the block's own height.
    set: Arc<AuthoritySet>,
}

impl FinalHeader {
    fn of(hash: Hash, entry: &Entry) -> FinalHeader {
        FinalHeader {
            hash,
            header: entry.header.clone(),
            set: entry.set.clone(),
        }
    }
}

/// The change that [`Tree::finalize`] made.
#[derive(Debug)]
pub(crate) struct NewlyFinal {
    /// Ascending.
    pub chain: Vec<(Height, BlockRef)>,
    /// Blocks beside the final chain.
    pub dropped: Vec<Hash>,
}

impl Tree {
    pub(crate) fn new(root: Entry) -> Tree {
        let hash = root.header.hash();
        let finals = VecDeque::from([FinalHeader::of(hash, &root)]);
        Tree {
            entries: BTreeMap::from([(hash, root)]),
            evicted: BTreeMap::new(),
            root: hash,
            finals,
        }
    }

    pub(crate) fn root(&self) -> Hash {
        self.root
    }

    pub(crate) fn root_entry(&self) -> &Entry {
        self.entries
            .get(&self.root)
            .expect("the root is always an entry")
    }

    pub(crate) fn get(&self, hash: &Hash) -> Option<&Entry> {
        self.entries.get(hash)
    }

    pub(crate) fn get_mut(&mut self, hash: &Hash) -> Option<&mut Entry> {
        self.entries.get_mut(hash)
    }

    pub(crate) fn contains(&self, hash: &Hash) -> bool {
        self.entries.contains_key(hash)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Hash, &Entry)> {
        self.entries.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a block whose parent is an entry. An entry that exists stays.
    pub(crate) fn insert(&mut self, hash: Hash, entry: Entry, config: &Config) {
        self.entries.entry(hash).or_insert(entry);
        self.evicted.remove(&hash);
        self.drop_excess(&hash, config);
    }

    /// Drops uncertified childless blocks of the lowest slots over the limit. The newest entry
    /// stays, because it may be a certified block that this node missed while it proposed alone:
    /// its slot is then lower than those of all own proposals since, and its certificate is
    /// recorded right after this insertion.
    fn drop_excess(&mut self, newest: &Hash, config: &Config) {
        let mut uncertified: Vec<(Slot, Hash)> = self
            .entries
            .iter()
            .filter(|(h, e)| e.certificate.is_none() && **h != self.root)
            .map(|(h, e)| (e.header.slot, *h))
            .collect();
        let excess = uncertified.len().saturating_sub(config.max_uncertified);
        if excess == 0 {
            return;
        }
        uncertified.sort();
        let bug = &config.planted_bug;
        let excess = rules::first_to_drop(&mut uncertified, excess, bug);
        for (_, hash) in excess {
            let is_kept = hash == newest && rules::keeps_newest(bug);
            if !is_kept && self.children(hash).next().is_none() {
                self.evict(hash);
            }
        }
    }

    fn evict(&mut self, hash: &Hash) {
        if let Some(entry) = self.entries.remove(hash)
            && self.evicted.len() < MAX_EVICTED
        {
            self.evicted.insert(*hash, entry.header.height);
        }
    }

    /// The evicted blocks that can no longer become final, which are forgotten.
    fn take_passed(&mut self, floor: Height) -> Vec<Hash> {
        let mut passed = Vec::new();
        self.evicted.retain(|hash, height| {
            let is_open = *height > floor;
            if !is_open {
                passed.push(*hash);
            }
            is_open
        });
        passed
    }

    pub(crate) fn children<'a>(
        &'a self,
        parent: &'a Hash,
    ) -> impl Iterator<Item = (&'a Hash, &'a Entry)> {
        self.entries
            .iter()
            .filter(move |(_, e)| e.header.parent_hash == *parent)
    }

    /// The blocks after the root down to `hash`, ascending. `None` when `hash` does not descend
    /// from the root.
    pub(crate) fn path(&self, hash: &Hash) -> Option<Vec<Hash>> {
        let mut path = Vec::new();
        let mut at = *hash;
        while at != self.root {
            let entry = self.entries.get(&at)?;
            path.push(at);
            at = entry.header.parent_hash;
        }
        path.reverse();
        Some(path)
    }

    /// A proper ancestor of a child of `parent`, within the window.
    pub(crate) fn ancestor(&self, parent: &Hash, wanted: &Hash) -> Option<Ancestor> {
        let height = self.entries.get(parent)?.header.height;
        let is_within = |header: &Header| height.saturating_since(header.height) < FINALITY_WINDOW;
        let mut at = *parent;
        while let Some(entry) = self.entries.get(&at) {
            if !is_within(&entry.header) {
                return None;
            }
            if at == *wanted {
                return Some(Ancestor {
                    header: entry.header.clone(),
                    set: entry.set.clone(),
                });
            }
            if at == self.root {
                break;
            }
            at = entry.header.parent_hash;
        }
        let found = self.finals.iter().rev().find(|f| f.hash == *wanted)?;
        is_within(&found.header).then(|| Ancestor {
            header: found.header.clone(),
            set: found.set.clone(),
        })
    }

    /// The final block at a height, while it is in the window.
    pub(crate) fn final_at(&self, height: Height) -> Option<Hash> {
        self.final_header_at(height).map(|found| found.hash)
    }

    /// The set of the final block at a height, while it is in the window.
    pub(crate) fn final_set_at(&self, height: Height) -> Option<Arc<AuthoritySet>> {
        self.final_header_at(height).map(|found| found.set.clone())
    }

    /// The set that decided on the final block beside a header: the one at its height, if it has
    /// the same parent.
    pub(crate) fn final_set_beside(&self, header: &Header) -> Option<Arc<AuthoritySet>> {
        let beside = self.final_header_at(header.height)?;
        (beside.header.parent_hash == header.parent_hash).then(|| beside.set.clone())
    }

    fn final_header_at(&self, height: Height) -> Option<&FinalHeader> {
        let first = self.finals.front()?.header.height;
        let index = height.0.checked_sub(first.0)?;
        self.finals.get(usize::try_from(index).ok()?)
    }

    /// Adds an older final block below the oldest one of the window, when the tree is restored.
    pub(crate) fn prepend_final(&mut self, hash: Hash, header: Header, set: Arc<AuthoritySet>) {
        if (self.finals.len() as u64) < FINALITY_WINDOW {
            self.finals.push_front(FinalHeader { hash, header, set });
        }
    }

    /// Makes `hash` the root, and drops all blocks that do not descend from it. `None` when it does
    /// not descend from the root.
    pub(crate) fn finalize(&mut self, hash: &Hash) -> Option<NewlyFinal> {
        let path = self.path(hash)?;
        let mut chain = Vec::with_capacity(path.len());
        for hash in &path {
            let entry = self.entries.get(hash)?;
            let slot = entry.header.slot;
            chain.push((entry.header.height, BlockRef { slot, hash: *hash }));
            self.finals.push_back(FinalHeader::of(*hash, entry));
        }
        while self.finals.len() as u64 > FINALITY_WINDOW {
            self.finals.pop_front();
        }
        let old_root = std::mem::replace(&mut self.root, *hash);
        let kept: BTreeSet<Hash> = self
            .entries
            .keys()
            .filter(|h| self.path(h).is_some())
            .copied()
            .collect();
        let is_beside = |h: &&Hash| !kept.contains(*h) && !path.contains(*h) && **h != old_root;
        let mut dropped: Vec<Hash> = self.entries.keys().filter(is_beside).copied().collect();
        self.entries.retain(|h, _| kept.contains(h));
        let floor = self.root_entry().header.height;
        dropped.extend(self.take_passed(floor));
        Some(NewlyFinal { chain, dropped })
    }
}
