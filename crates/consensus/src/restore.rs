//! Coming back from what was stored.

use std::sync::Arc;

use alys_types::mutant::{self, Mutant};
use alys_types::wire::CertifiedHeader;
use alys_types::{Authority, AuthoritySet, Block, Certificate, Hash, Header, Height};

use crate::federation::{FederationError, FederationRecord, FederationState};
use crate::input::{Effect, Now, Record, VoteState};
use crate::state::{Config, State};
use crate::tree::{BodyState, Entry, Tree};
use crate::verify::CertifiedBlock;

/// What the store gives back at a start.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The vote state. None on an authority is a loss.
    pub votes: Option<VoteState>,
    /// The last final block with the federation after it; none while that is genesis.
    pub finalized: Option<(CertifiedHeader, FederationRecord)>,
    /// Final headers below the last final one, genesis excluded, descending, at most
    /// [`crate::federation::FINALITY_WINDOW`].
    pub window: Vec<Header>,
    /// Blocks above the last final one, and that one itself: its approvals are what a child carries.
    pub blocks: Vec<StoredBlock>,
    /// Sets that were in force or may come.
    pub sets: Vec<Vec<Authority>>,
}

/// A block above the last final one.
#[derive(Debug, Clone)]
pub struct StoredBlock {
    /// Its header.
    pub header: Header,
    /// With its body, when that is stored.
    pub block: Option<Arc<Block>>,
    /// Its approvals, when it is known to be certified.
    pub certificate: Option<Certificate>,
}

/// Why stored data is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The federation record does not check.
    #[error("stored federation: {0}")]
    Federation(#[from] FederationError),
    /// A set does not check.
    #[error("stored authority set: {0}")]
    Set(#[from] alys_types::federation::Error),
    /// The set that decided on a block is not stored.
    #[error("the authority set of height {height} is not stored")]
    SetMissing { height: Height },
}

impl State {
    /// A node as it was when it stopped or crashed. An authority without a vote state has lost it.
    ///
    /// `trusted_ms` is the [`State::trusted_clock_ms`] of an earlier state whose monotonic clock goes on in `now`: that
    /// the state is made anew is no reason to trust a clock that jumped. None at the start of a process.
    pub fn restore(
        config: Config,
        stored: Stored,
        now: Now,
        trusted_ms: Option<i64>,
    ) -> Result<(State, Vec<Effect>), RestoreError> {
        let genesis = config.genesis.clone();
        let mut sets = std::collections::BTreeMap::from([(
            genesis.set().hash(),
            Arc::new(genesis.set().clone()),
        )]);
        for authorities in stored.sets {
            let set = AuthoritySet::new(authorities, genesis.spec().fault_model)?;
            sets.insert(set.hash(), Arc::new(set));
        }
        let set_of = |parent: Option<&Header>, height: Height| {
            let hash = parent.map_or(genesis.set().hash(), |p| p.set_hash);
            sets.get(&hash)
                .cloned()
                .ok_or(RestoreError::SetMissing { height })
        };
        let (tree, finality) = match stored.finalized {
            None => {
                let federation = FederationState::genesis(&genesis);
                let mut root = Entry::new(genesis.header().clone(), federation.set().clone());
                root.child_set = Some(federation.set().clone());
                root.federation = Some(federation);
                (Tree::new(root), None)
            }
            Some((certified, record)) => {
                let federation = FederationState::from_record(record, &genesis)?;
                let header = certified.header;
                let mut root = Entry::new(
                    header.clone(),
                    set_of(stored.window.first(), header.height)?,
                );
                root.child_set = Some(federation.set().clone());
                root.federation = Some(federation);
                root.body = BodyState::Stored;
                let mut tree = Tree::new(root);
                for (i, below) in stored.window.iter().enumerate() {
                    let set = set_of(stored.window.get(i + 1), below.height)?;
                    tree.prepend_final(below.hash(), below.clone(), set);
                }
                (tree, Some(certified.certificate))
            }
        };
        let highest = tree.root();
        let (mut state, mut effects) = State::assemble(
            config,
            tree,
            finality,
            stored.votes,
            highest,
            now,
            trusted_ms,
        );
        for set in sets.into_values() {
            state.remember_set(set);
        }
        let federation = state.tree.root_entry().federation.clone();
        for set in federation
            .iter()
            .flat_map(|f| [Some(f.set()), f.pending_set()])
            .flatten()
        {
            state.remember_set(set.clone());
        }
        let mut blocks = stored.blocks;
        blocks.sort_by_key(|b| b.header.height);
        let loose: Vec<StoredBlock> = blocks
            .into_iter()
            .filter_map(|b| state.restore_block(b))
            .collect();
        // What is on the disk already needs no writing.
        let highest = state.highest;
        state.certify_ancestors(&highest, &mut Record::default());
        for block in loose {
            state.restore_loose(block);
        }
        // Who has to confirm a jump is known now.
        state.look_at_clock(now, &mut effects);
        Ok((state, effects))
    }

    /// A certified block whose ancestors are not stored: it is looked for like one that a peer told of.
    fn restore_loose(&mut self, stored: StoredBlock) {
        let Some(certificate) = stored.certificate else {
            return;
        };
        let certified = CertifiedHeader {
            header: stored.header,
            certificate,
        };
        if let Ok(block) =
            CertifiedBlock::check(certified, &self.newest_set(), &self.config.genesis)
        {
            // The first tick asks for it.
            self.aim(block, &mut Vec::new());
        }
    }

    /// Puts a block back; returns it if it is above the last final one and does not connect.
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
        }
        if stored.certificate.is_some() {
            self.believe_header(&hash);
        }
        self.settle_federation(hash);
        let highest_slot = self.tree.get(&self.highest).map(|e| e.header.slot);
        if let Some(entry) = self.tree.get_mut(&hash) {
            if entry.federation.is_some() {
                entry.body = BodyState::Stored;
            }
            if entry.certificate.is_some()
                && Some(entry.header.slot) > highest_slot
                && !mutant::active(Mutant::HighestNotRestored)
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
