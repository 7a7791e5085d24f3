//! Receipts, the ledger and miners: every ledger is kept outside of the nodes as well.

use std::sync::Arc;

use alloy_primitives::U256;
use alys_consensus::{HeldProof, Input, PowFinal, StoredFinal, WorkOffer};
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
    /// The lives of a node and of its execution layer.
    pub(super) fn lives(&self, node: usize) -> (u64, u64) {
        let node = &self.nodes[node];
        (node.life, node.execution_life)
    }

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
        let is_lost = self.now_ms < self.nodes[node].receipts_from_ms;
        let is_unknown = is_lost || (!self.calm && self.chance(200));
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

    /// Without a gate, a miner finds a proof of one offer in ten. With one, the node's proofs for
    /// the offered number are given again, as after a restart.
    pub(super) fn on_work(&mut self, node: usize, offer: Option<Arc<WorkOffer>>) {
        self.nodes[node].offer = offer.clone();
        let Some(offer) = offer else { return };
        if self.plan.gate == 0 {
            if self.chance(100) {
                self.find(node, &offer);
            }
            return;
        }
        let held = self.nodes[node].disk.proofs.iter();
        let held = held.filter(|proof| proof.sequence == offer.sequence);
        for proof in held.cloned().collect::<Vec<_>>() {
            self.at(1, Event::Mined { node, proof });
        }
    }

    /// Finds a proof, which is handed in later, maybe when there is another offer.
    fn find(&mut self, node: usize, offer: &WorkOffer) {
        let proof = Arc::new(miner::mine(&self.genesis, offer));
        let delay = self.below(2 * SLOT_MS);
        self.at(delay, Event::Mined { node, proof });
    }

    /// Receipts are lost for some slots, and execution layers restart.
    pub(super) fn plan_lost_receipts(&mut self, chaos_ms: u64) {
        for _ in 0..self.plan.chaos_slots / 8 {
            let node = self.below(self.correct().len() as u64) as usize;
            let at = self.below(chaos_ms);
            self.at(at, Event::ExecutionRestart(node));
            let node = self.below(self.correct().len() as u64) as usize;
            let at = self.below(chaos_ms);
            let for_ms = self.below(8 * SLOT_MS);
            self.at(at, Event::LoseReceipts { node, for_ms });
        }
    }

    /// The miners of a node find a proof of its present work once in ten slots.
    pub(super) fn mine(&mut self, node: usize) {
        let pause = 1 + self.below(20 * SLOT_MS);
        self.at(pause, Event::Mine { node });
        let is_up = self.nodes[node].state.is_some();
        if let Some(offer) = self.nodes[node].offer.clone().filter(|_| is_up) {
            self.find(node, &offer);
        }
    }

    pub(super) fn submit(&mut self, node: usize, proof: Arc<HeldProof>) {
        if self.nodes[node].state.is_none() {
            return;
        }
        let held = &mut self.nodes[node].disk.proofs;
        if !held.contains(&proof) {
            held.push(proof.clone());
        }
        self.input(node, Input::Proof(proof));
    }

    /// Ranges are the same for all nodes, and each begins where the one before ended.
    pub(super) fn on_pow_final(&mut self, node: usize, range: PowFinal) {
        let held = &mut self.nodes[node].disk.proofs;
        held.retain(|proof| proof.sequence > range.sequence);
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
