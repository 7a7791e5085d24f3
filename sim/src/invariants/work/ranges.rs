//! Finality by proof of work: ranges of the final chain, and the reports of nodes about them.

use std::collections::BTreeMap;

use alys_types::{Address, Hash};

use super::{Range, Work};
use crate::invariants::Violation;

/// The ranges on the final chain.
#[derive(Debug, Default)]
pub struct PowFinality {
    /// Ranges by sequence, with the height of the block that carries each.
    ranges: BTreeMap<u64, (u64, Range)>,
    /// The last sequence that each node reported.
    told: BTreeMap<u8, u64>,
    /// The same by the nodes' summaries, which arrive later.
    stood: BTreeMap<u8, u64>,
}

/// A range that a node reported as final by proof of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub sequence: u64,
    pub first: u64,
    pub end: u64,
    pub end_hash: Hash,
    pub miner: Address,
    /// Hash of the block that carries the proof.
    pub carrier: Hash,
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
        self.finality.stood.remove(&node);
        self.offers.forget(node);
    }

    /// Checks the height up to which a node's summary says that blocks are final by proof of work.
    ///
    /// # Errors
    /// [`Violation::PowFinalityWentBack`].
    pub fn stands(&mut self, node: u8, height: u64) -> Result<(), Violation> {
        let ranges = &self.finality.ranges;
        let found = ranges.iter().find(|(_, (_, range))| range.end == height);
        let sequence = found.map_or(0, |(sequence, _)| *sequence);
        if height > 0 && found.is_none() {
            // The report of the block that carries it may be cut off.
            return Ok(());
        }
        let before = self.finality.stood.insert(node, sequence).unwrap_or(0);
        if sequence < before {
            return Err(Violation::PowFinalityWentBack {
                node: node + 1,
                from: before,
                to: sequence,
            });
        }
        Ok(())
    }

    /// Checks a range that a node reported as final by proof of work. `is_final` says of a block
    /// by its height and hash that it is final.
    ///
    /// # Errors
    /// [`Violation::PowFinalityWentBack`] or [`Violation::WrongPowFinality`].
    pub fn pow_final(
        &mut self,
        node: u8,
        told: &Told,
        is_final: impl Fn(u64, &Hash) -> bool,
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
        // A block that no node reported is not judged.
        let Some(carrier) = self.after.get(&told.carrier) else {
            return Ok(());
        };
        let (height, covers) = (carrier.height, carrier.covers);
        if !is_final(height, &told.carrier) {
            let what = format!("its proof is in a block of height {height}, which is not final");
            return Err(wrong(what));
        }
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
