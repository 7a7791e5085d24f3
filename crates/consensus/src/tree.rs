//! The blocks above the last final one, and the window of final headers below it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alys_types::bls::Signature as Sig;
use alys_types::{AuthoritySet, Block, Certificate, Hash, Header, Height, Slot, VoteKind};

use crate::federation::{Ancestor, FINALITY_WINDOW, FederationState};

/// Uncertified blocks that are kept; the lowest slots go first. Leaders can make two a slot at most before evidence is
/// out, and what is older than a few slots is not approved any more.
const MAX_UNCERTIFIED: usize = 64;

/// What is known of a block.
#[derive(Debug)]
pub(crate) struct Entry {
    pub header: Header,
    /// The set of its own height.
    pub set: Arc<AuthoritySet>,
    /// The set of the next height, once known.
    pub child_set: Option<Arc<AuthoritySet>>,
    /// The federation after it, once its body and its parent's were seen.
    pub federation: Option<FederationState>,
    pub certificate: Option<Certificate>,
    pub finality: Option<Certificate>,
    pub approvals: BTreeMap<u8, Sig>,
    pub confirmations: BTreeMap<u8, Sig>,
    pub body: BodyState,
    pub execution: Execution,
    /// True when its leader's proposal was checked: only then it may be approved.
    pub proposed: bool,
}

/// Where a body is.
#[derive(Debug, Clone)]
pub(crate) enum BodyState {
    Missing,
    /// Here, not yet written.
    Memory(Arc<Block>),
    /// In the store.
    Stored,
}

/// What the execution layer is known to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    Unknown,
    Asked,
    Valid,
    Invalid,
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
            proposed: false,
        }
    }

    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.body, BodyState::Missing)
    }

    pub(crate) fn votes(&mut self, kind: VoteKind) -> &mut BTreeMap<u8, Sig> {
        match kind {
            VoteKind::Confirmation => &mut self.confirmations,
            _ => &mut self.approvals,
        }
    }
}

/// Entries by hash. The last final block is always one of them and the root of all.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: BTreeMap<Hash, Entry>,
    root: Hash,
    /// Final blocks, the root included, oldest first; consecutive heights.
    finals: VecDeque<(Hash, Header, Arc<AuthoritySet>)>,
}

impl Tree {
    pub(crate) fn new(root: Entry) -> Tree {
        let hash = root.header.hash();
        let finals = VecDeque::from([(hash, root.header.clone(), root.set.clone())]);
        Tree {
            entries: BTreeMap::from([(hash, root)]),
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

    /// Adds a block whose parent is an entry. Keeps what is there.
    pub(crate) fn insert(&mut self, hash: Hash, entry: Entry) {
        self.entries.entry(hash).or_insert(entry);
        self.shed();
    }

    /// Drops uncertified childless blocks of the lowest slots over the limit.
    fn shed(&mut self) {
        let mut uncertified: Vec<(Slot, Hash)> = self
            .entries
            .iter()
            .filter(|(h, e)| e.certificate.is_none() && **h != self.root)
            .map(|(h, e)| (e.header.slot, *h))
            .collect();
        if uncertified.len() <= MAX_UNCERTIFIED {
            return;
        }
        uncertified.sort();
        for (_, hash) in uncertified.iter().take(uncertified.len() - MAX_UNCERTIFIED) {
            if self.children(hash).next().is_none() {
                self.entries.remove(hash);
            }
        }
    }

    pub(crate) fn children<'a>(
        &'a self,
        parent: &'a Hash,
    ) -> impl Iterator<Item = (&'a Hash, &'a Entry)> {
        self.entries
            .iter()
            .filter(move |(_, e)| e.header.parent_hash == *parent)
    }

    /// The blocks after the root down to `hash`, ascending. `None` when `hash` does not descend from the root.
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
        let mut at = *parent;
        while let Some(entry) = self.entries.get(&at) {
            if height.0.saturating_sub(entry.header.height.0) >= FINALITY_WINDOW {
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
        let (_, header, set) = self.finals.iter().rev().find(|(h, _, _)| h == wanted)?;
        (height.0.saturating_sub(header.height.0) < FINALITY_WINDOW).then(|| Ancestor {
            header: header.clone(),
            set: set.clone(),
        })
    }

    /// The final block at a height, while it is in the window.
    pub(crate) fn final_at(&self, height: Height) -> Option<Hash> {
        let first = self.finals.front()?.1.height;
        let index = height.0.checked_sub(first.0)?;
        self.finals
            .get(usize::try_from(index).ok()?)
            .map(|(h, _, _)| *h)
    }

    /// The set that decided on the final block beside a header: the one at its height, if it has the same parent.
    pub(crate) fn final_set_beside(&self, header: &Header) -> Option<Arc<AuthoritySet>> {
        let first = self.finals.front()?.1.height;
        let index = header.height.0.checked_sub(first.0)?;
        let (_, beside, set) = self.finals.get(usize::try_from(index).ok()?)?;
        (beside.parent_hash == header.parent_hash).then(|| set.clone())
    }

    /// Puts an older final block below the oldest one of the window; for restoring.
    pub(crate) fn prepend_final(&mut self, hash: Hash, header: Header, set: Arc<AuthoritySet>) {
        if (self.finals.len() as u64) < FINALITY_WINDOW {
            self.finals.push_front((hash, header, set));
        }
    }

    /// Makes `hash` the root. Returns the newly final hashes, ascending, and those that are dropped: blocks that do not
    /// descend from it.
    pub(crate) fn finalize(&mut self, hash: &Hash) -> Option<(Vec<Hash>, Vec<Hash>)> {
        let path = self.path(hash)?;
        for h in &path {
            let entry = self.entries.get(h)?;
            self.finals
                .push_back((*h, entry.header.clone(), entry.set.clone()));
        }
        while self.finals.len() as u64 > FINALITY_WINDOW {
            self.finals.pop_front();
        }
        self.root = *hash;
        let kept: Vec<Hash> = self
            .entries
            .keys()
            .filter(|h| self.path(h).is_some())
            .copied()
            .collect();
        let all: Vec<Hash> = self.entries.keys().copied().collect();
        let mut dropped = Vec::new();
        for h in all {
            if !kept.contains(&h) {
                self.entries.remove(&h);
                if !path.contains(&h) {
                    dropped.push(h);
                }
            }
        }
        dropped.retain(|h| {
            self.finals
                .iter()
                .rev()
                .take(path.len() + 1)
                .all(|(f, _, _)| f != h)
        });
        Some((path, dropped))
    }
}

impl Tree {
    /// The slot of a final block in the window.
    pub(crate) fn final_slot(&self, hash: &Hash) -> Option<Slot> {
        self.finals
            .iter()
            .rev()
            .find(|(h, _, _)| h == hash)
            .map(|(_, header, _)| header.slot)
    }
}
