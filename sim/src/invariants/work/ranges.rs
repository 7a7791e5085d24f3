//! Finality by proof of work: ranges of the final chain, and the reports of nodes about them.

use std::collections::BTreeMap;

use alys_types::{Address, Hash};

use super::{Range, Work};
use crate::invariants::{Finality, Violation};

/// The ranges on the final chain.
#[derive(Debug, Default)]
pub struct PowFinality {
    /// Ranges by sequence, with the height of the block that carries each.
    ranges: BTreeMap<u64, (u64, Range)>,
    /// The last sequence that each node reported.
    told: BTreeMap<u8, u64>,
}

/// A range that a node reported as final by proof of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub sequence: u64,
    pub first: u64,
    pub end: u64,
    pub end_hash: Hash,
    pub miner: Address,
    /// Height and hash of the block that carries the proof.
    pub carrier: (u64, Hash),
}

impl PowFinality {
    /// The number of ranges.
    pub fn ranges(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// The number of blocks in them.
    pub fn covered(&self) -> u64 {
        self.ranges
            .values()
            .next_back()
            .map_or(0, |(_, range)| range.end)
    }
}

impl Work {
    /// Records a final block.
    pub fn finalized(&mut self, height: u64, hash: &Hash) {
        let covers = self.after.get(hash).and_then(|after| after.covers);
        if let Some(range) = covers {
            let ranges = &mut self.finality.ranges;
            ranges.insert(range.sequence, (height, range));
        }
    }

    /// The number of ranges on the final chain.
    pub fn ranges(&self) -> u64 {
        self.finality.ranges()
    }

    /// The sequence of the last proof on the final chain.
    pub fn sequence(&self) -> u64 {
        let last = self.finality.ranges.keys().next_back();
        last.copied().unwrap_or(0)
    }

    /// Forgets the reports of a node whose disk was emptied or restored, and what it accepted.
    pub fn forget(&mut self, node: u8) {
        self.finality.told.remove(&node);
        self.offers.forget(node);
    }

    /// Checks a range that a node reported as final by proof of work.
    ///
    /// # Errors
    /// [`Violation::PowFinalityWentBack`] or [`Violation::WrongPowFinality`].
    pub fn pow_final(
        &mut self,
        node: u8,
        told: &Told,
        finality: &Finality,
    ) -> Result<(), Violation> {
        let before = self.finality.told.get(&node).copied().unwrap_or(0);
        if told.sequence < before {
            return Err(Violation::PowFinalityWentBack {
                node: node + 1,
                from: before,
                to: told.sequence,
            });
        }
        self.finality.told.insert(node, told.sequence);
        let wrong = |what: String| Violation::WrongPowFinality {
            node: node + 1,
            sequence: told.sequence,
            what,
        };
        let (height, hash) = told.carrier;
        if finality.of(node) < height {
            let what = format!("its proof is in a block of height {height}, which is not final");
            return Err(wrong(what));
        }
        if finality
            .blocks
            .get(&height)
            .is_some_and(|block| block.hash != hash)
        {
            return Err(wrong(format!("another block is final at height {height}")));
        }
        let covers = self.after.get(&hash).map(|after| after.covers);
        // A block that no node reported is not judged.
        let Some(covers) = covers else { return Ok(()) };
        let found = Range {
            first: told.first,
            end: told.end,
            end_hash: told.end_hash,
            sequence: told.sequence,
            miner: told.miner,
        };
        if covers != Some(found) {
            return Err(wrong(format!("{found:?} where the block has {covers:?}")));
        }
        Ok(())
    }
}
