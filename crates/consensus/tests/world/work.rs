//! Receipts, the ledger and miners: every ledger is kept outside of the nodes as well.

use std::sync::Arc;

use alloy_primitives::U256;
use alys_consensus::{Input, PowFinal, StoredFinal, WorkOffer};
use alys_peg::{Additions, Ledger};
use alys_types::{Block, Hash, Height};

use super::{Event, SLOT_MS, Violation, World, miner};

/// The tips of a block in wei: any number that its hash determines.
pub(super) fn additions(hash: &Hash) -> Additions {
    let tips = u64::from_le_bytes(hash.0[..8].try_into().expect("eight bytes"));
    Additions {
        tips: U256::from(tips),
    }
}

impl World {
    pub(super) fn ledger_after(&self, hash: &Hash) -> Option<Ledger> {
        if *hash == self.genesis.hash() {
            return Some(Ledger::empty());
        }
        self.ledgers.get(hash).cloned()
    }

    /// Keeps the ledger after a proposed block, whose header has to name the one before.
    pub(super) fn learn_ledger(&mut self, block: &Block) {
        let Some(before) = self.ledger_after(&block.header.parent_hash) else {
            return;
        };
        let hash = block.header.hash();
        if before.root() != block.header.ledger_hash {
            let what = format!("ledger hash of {hash}");
            self.violation = Some(Violation::Refused { node: 0, what });
        }
        let known = match block.body.payload.transactions.is_empty() {
            true => Additions::default(),
            false => additions(&hash),
        };
        let proof = block.body.auxpow.as_ref();
        let set = self.genesis.set();
        if let Ok((after, _)) = before.apply(&self.genesis, set, &block.header, proof, &known) {
            self.ledgers.insert(hash, after);
        }
    }

    pub(super) fn account(&mut self, node: usize, hash: Hash) {
        let is_unknown = !self.calm && self.chance(200);
        let additions = (!is_unknown).then(|| additions(&hash));
        self.input(node, Input::Accounted { hash, additions });
    }

    pub(super) fn load_final(&mut self, node: usize, height: Height) {
        let disk = &self.nodes[node].disk;
        let block = disk.finals.get(&height).and_then(|h| disk.bodies.get(h));
        let stored = block.cloned().map(|block| {
            let parent = disk.bodies.get(&block.header.parent_hash);
            Box::new(StoredFinal {
                set_hash: parent.map(|p| p.header.set_hash),
                additions: disk.additions.get(&block.header.hash()).copied(),
                block,
            })
        });
        self.input(node, Input::FinalLoaded { height, stored });
    }

    /// A miner finds a proof of one offer in ten, and hands it to one node.
    pub(super) fn mine(&mut self, node: usize, offer: Option<Arc<WorkOffer>>) {
        let Some(offer) = offer else { return };
        if self.chance(100) {
            let proof = Arc::new(miner::mine(&self.genesis, &offer));
            let delay = self.below(2 * SLOT_MS);
            self.at(delay, Event::Mined { node, proof });
        }
    }

    /// Ranges are the same for all nodes, and each begins where the one before ended.
    pub(super) fn on_pow_final(&mut self, range: PowFinal) {
        let bounds = (range.first, range.end);
        let known = *self.ranges.entry(range.sequence).or_insert(bounds);
        let before = range.sequence.checked_sub(1);
        let before = before.and_then(|before| self.ranges.get(&before));
        let follows = before.is_none_or(|(_, end)| end.next() == range.first);
        if known != bounds || !follows || range.first > range.end {
            self.violation = Some(Violation::Refused {
                node: 0,
                what: format!("{range:?} contradicts {known:?} or {before:?}"),
            });
        }
    }
}
