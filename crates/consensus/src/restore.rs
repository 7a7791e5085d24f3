//! Restoring a node's state from its store.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_peg::{Additions, Ledger, LedgerError};
use alys_types::wire::CertifiedHeader;
use alys_types::{Authority, AuthoritySet, Block, Certificate, Genesis, Hash, Header, Height};

use crate::config::Config;
use crate::federation::{FederationError, FederationRecord, FederationState};
use crate::input::{Effect, Now, Record, VoteState};
use crate::rules;
use crate::state::{Settled, State};
use crate::tree::{BodyState, Entry, Tree};
use crate::verify::CertifiedBlock;

/// The contents of the store at a start.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The vote state. `None` on an authority is a loss.
    pub votes: Option<VoteState>,
    /// The last final block with the federation after it; `None` while it is genesis.
    pub finalized: Option<(CertifiedHeader, FederationRecord)>,
    /// Final headers below the last final one, genesis excluded, descending, at most
    /// [`crate::federation::FINALITY_WINDOW`].
    pub window: Vec<Header>,
    /// Blocks above the last final one, and that one itself, because a child carries its approvals.
    pub blocks: Vec<StoredBlock>,
    /// Sets that were in force or may come into force.
    pub sets: Vec<Vec<Authority>>,
    /// The ledger; `None` while it is that of genesis.
    pub ledger: Option<StoredLedger>,
}

/// The ledger after the last final block whose additions are known.
#[derive(Debug, Clone)]
pub struct StoredLedger {
    pub height: Height,
    pub hash: Hash,
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A block above the last final one.
#[derive(Debug, Clone)]
pub struct StoredBlock {
    pub header: Header,
    /// Header and body; `None` if the body is not stored.
    pub block: Option<Arc<Block>>,
    /// Approvals; `None` if the block is not known to be certified.
    pub certificate: Option<Certificate>,
    /// The block's additions to the ledger, if they were known.
    pub additions: Option<Additions>,
}

/// The reason for which a store does not make a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The federation record does not check.
    #[error("stored federation: {0}")]
    Federation(#[from] FederationError),
    /// A set does not check.
    #[error("stored authority set: {0}")]
    Set(#[from] alys_types::federation::Error),
    /// The ledger does not check.
    #[error("stored ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The set that decided on a block is not stored.
    #[error("the authority set of height {height} is not stored")]
    SetMissing { height: Height },
}

/// Authority sets by hash.
type Sets = BTreeMap<Hash, Arc<AuthoritySet>>;

impl State {
    /// A node as it was when it stopped or crashed. An authority without a vote state has lost it.
    ///
    /// `trusted_ms` is the [`State::trusted_clock_ms`] of an earlier state whose monotonic clock
    /// continues in `now`: a new state is no reason to trust a clock that jumped. `None` at the
    /// start of a process.
    pub fn restore(
        config: Config,
        stored: Stored,
        now: Now,
        trusted_ms: Option<i64>,
    ) -> Result<(State, Vec<Effect>), RestoreError> {
        let genesis = config.genesis.clone();
        let sets = restore_sets(stored.sets, &genesis)?;
        let finality = stored.finalized.as_ref().map(|(f, _)| f.certificate);
        let tree = match stored.finalized {
            None => genesis_tree(&genesis),
            Some((certified, record)) => {
                let federation = FederationState::from_record(record, &genesis)?;
                final_tree(
                    certified.header,
                    federation,
                    &stored.window,
                    &sets,
                    &genesis,
                )?
            }
        };
        let has_lost_votes = stored.votes.is_none() && config.me.is_some();
        let mut state = State::assemble(config, tree, stored.votes, now, trusted_ms);
        state.root_finality = finality;
        for set in sets.into_values() {
            state.remember_set(set);
        }
        if let Some(federation) = state.tree.root_entry().federation.clone() {
            state.remember_set(federation.set().clone());
            if let Some(next) = federation.pending_set() {
                state.remember_set(next.clone());
            }
        }
        if let Some(StoredLedger {
            height,
            hash,
            entries,
        }) = stored.ledger
        {
            state.settled = Settled::new(height, hash, Ledger::from_entries(entries)?);
        }
        state.restore_blocks(stored.blocks);
        let mut effects = Vec::new();
        state.update_ledgers(state.settled.hash, &mut effects);
        // Only now the set whose authorities confirm a jump is known.
        state.observe_clock(now, &mut effects);
        if has_lost_votes {
            state.on_votes_lost(now, &mut effects);
        }
        // The loss may have been noticed before this start, while the clock was not trusted.
        state.end_silence(now, &mut effects);
        Ok((state, effects))
    }

    fn restore_blocks(&mut self, mut blocks: Vec<StoredBlock>) {
        blocks.sort_by_key(|b| b.header.height);
        let unconnected: Vec<StoredBlock> = blocks
            .into_iter()
            .filter_map(|b| self.restore_block(b))
            .collect();
        let highest = self.highest;
        // The record is dropped: its content comes from the disk.
        self.certify_ancestors(&highest, &mut Record::default());
        for block in unconnected {
            self.restore_unconnected(block);
        }
    }

    /// Makes a certified block whose ancestors are not stored the sync target, like one that a peer
    /// sent.
    fn restore_unconnected(&mut self, stored: StoredBlock) {
        let Some(certificate) = stored.certificate else {
            return;
        };
        let certified = CertifiedHeader {
            header: stored.header,
            certificate,
        };
        if let Ok(block) = CertifiedBlock::check(certified, &self.newest_set(), &self.config) {
            // The first tick requests the range.
            self.set_sync_target(block, &mut Vec::new());
        }
    }

    /// Adds a stored block to the tree; returns it if it is above the last final one and does not
    /// connect.
    fn restore_block(&mut self, stored: StoredBlock) -> Option<StoredBlock> {
        let hash: Hash = stored.header.hash();
        if hash == self.tree.root()
            && let Some(root) = self.tree.get_mut(&hash)
        {
            root.certificate = stored.certificate;
        }
        if stored.header.height <= self.tree.root_entry().header.height {
            return None;
        }
        if !self.insert_header(hash, &stored.header) {
            return Some(stored);
        }
        if let Some(entry) = self.tree.get_mut(&hash) {
            entry.certificate = stored.certificate;
            if let Some(block) = &stored.block {
                entry.body = BodyState::Memory(block.clone());
            }
            entry.additions = stored.additions;
        }
        if let Some(block) = &stored.block {
            self.keep_claims(&hash, block);
        }
        if stored.certificate.is_some() {
            self.trust_child_set(&hash);
        }
        self.apply_federation(hash);
        let highest_slot = self.highest_slot();
        if let Some(entry) = self.tree.get_mut(&hash) {
            if entry.federation.is_some() {
                entry.body = BodyState::Stored;
            }
            let slot = entry.header.slot;
            if entry.certificate.is_some()
                && rules::restores_highest(slot, highest_slot, &self.config.planted_bug)
            {
                self.highest = hash;
            }
        }
        if self.votes.latest.proposal.is_some_and(|t| t.hash == hash) {
            self.own_proposal = stored.block;
        }
        None
    }
}

/// The stored sets and that of genesis.
fn restore_sets(stored: Vec<Vec<Authority>>, genesis: &Genesis) -> Result<Sets, RestoreError> {
    let first = genesis.set().clone();
    let mut sets = Sets::from([(first.hash(), Arc::new(first))]);
    for authorities in stored {
        let set = AuthoritySet::new(authorities, genesis.spec().fault_model)?;
        sets.insert(set.hash(), Arc::new(set));
    }
    Ok(sets)
}

/// The tree of a node for which no block but genesis is final.
fn genesis_tree(genesis: &Genesis) -> Tree {
    let federation = FederationState::genesis(genesis);
    let mut root = Entry::new(genesis.header().clone(), federation.set().clone());
    root.child_set = Some(federation.set().clone());
    root.federation = Some(federation);
    Tree::new(root)
}

/// The tree with the last final block as its root, and the final headers of `window` below it.
fn final_tree(
    header: Header,
    federation: FederationState,
    window: &[Header],
    sets: &Sets,
    genesis: &Genesis,
) -> Result<Tree, RestoreError> {
    let set_after = |parent: Option<&Header>, height: Height| {
        let hash = parent.map_or(genesis.set().hash(), |p| p.set_hash);
        sets.get(&hash)
            .cloned()
            .ok_or(RestoreError::SetMissing { height })
    };
    let set = set_after(window.first(), header.height)?;
    let mut root = Entry::new(header, set);
    root.child_set = Some(federation.set().clone());
    root.federation = Some(federation);
    root.body = BodyState::Stored;
    let mut tree = Tree::new(root);
    let parents = window.iter().skip(1).map(Some).chain([None]);
    for (below, parent) in window.iter().zip(parents) {
        let set = set_after(parent, below.height)?;
        tree.prepend_final(below.hash(), below.clone(), set);
    }
    Ok(tree)
}
