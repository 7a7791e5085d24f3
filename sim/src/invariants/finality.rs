//! One final block per height over all nodes and restarts; finality never goes back.

use std::collections::BTreeMap;

use alys_node::node::FinalBlock;
use alys_types::Hash;

use super::{Violation, short};

/// A final block, as the first node reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Final {
    pub hash: Hash,
    pub slot: u64,
    /// Hash of the execution block.
    pub execution_hash: Hash,
    /// State root after the execution block.
    pub state_root: Hash,
    /// Number of transactions.
    pub transactions: usize,
    /// Index of the proposer, from 0.
    pub proposer: u8,
    /// Index of the node that reported the block first, from 0.
    pub node: u8,
}

/// All final blocks.
#[derive(Debug, Default)]
pub struct Finality {
    /// Final blocks by height.
    pub blocks: BTreeMap<u64, Final>,
    /// The highest height that each node reported as final, across restarts.
    pub highest: BTreeMap<u8, u64>,
}

impl Finality {
    /// Records a final block that a node reported.
    ///
    /// # Errors
    /// [`Violation::TwoFinalBlocks`], or [`Violation::StateDiffers`] if the execution gave another
    /// result.
    pub fn reported(&mut self, node: u8, block: &FinalBlock) -> Result<(), Violation> {
        let height = block.height.0;
        let highest = self.highest.entry(node).or_default();
        *highest = height.max(*highest);
        let new = Final {
            hash: block.hash,
            slot: block.slot.0,
            execution_hash: block.execution_hash,
            state_root: block.state_root,
            transactions: block.transactions,
            proposer: block.proposer,
            node,
        };
        let known = self.blocks.entry(height).or_insert_with(|| new.clone());
        if known.hash != new.hash {
            return Err(Violation::TwoFinalBlocks {
                height,
                first: short(&known.hash),
                first_node: known.node + 1,
                second: short(&new.hash),
                second_node: node + 1,
            });
        }
        let same = (known.state_root, known.execution_hash) == (new.state_root, new.execution_hash);
        if !same {
            let what = format!(
                "state root {} here, {} before",
                short(&new.state_root),
                short(&known.state_root)
            );
            return Err(Violation::StateDiffers {
                node: node + 1,
                height,
                what,
            });
        }
        Ok(())
    }

    /// Checks the last final block in a node's summary; `before` is the node's final height at the
    /// time of the request.
    ///
    /// # Errors
    /// [`Violation::FinalityWentBack`] or [`Violation::TwoFinalBlocks`].
    pub fn stands(
        &mut self,
        node: u8,
        before: u64,
        height: u64,
        hash: Hash,
    ) -> Result<(), Violation> {
        if height < before {
            return Err(Violation::FinalityWentBack {
                node: node + 1,
                from: before,
                to: height,
            });
        }
        if let Some(known) = self.blocks.get(&height)
            && known.hash != hash
        {
            return Err(Violation::TwoFinalBlocks {
                height,
                first: short(&known.hash),
                first_node: known.node + 1,
                second: short(&hash),
                second_node: node + 1,
            });
        }
        // A crash may have cut off the report, but the block remains final after the restart.
        let highest = self.highest.entry(node).or_default();
        *highest = height.max(*highest);
        Ok(())
    }

    /// Resets the final height of a node because its disk was emptied or restored.
    pub fn forget(&mut self, node: u8) {
        self.highest.remove(&node);
    }

    /// Returns the slot of the highest final block of a node; 0 for genesis.
    pub fn slot_of(&self, node: u8) -> u64 {
        self.blocks
            .get(&self.of(node))
            .map_or(0, |block| block.slot)
    }

    /// Returns the highest final height over all nodes.
    pub fn top(&self) -> u64 {
        self.highest.values().copied().max().unwrap_or(0)
    }

    /// Returns the highest final height of a node.
    pub fn of(&self, node: u8) -> u64 {
        self.highest.get(&node).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_types::{Height, Slot};

    fn block(height: u64, mark: u8) -> FinalBlock {
        FinalBlock {
            height: Height(height),
            slot: Slot(100 + height),
            hash: Hash([mark; 32]),
            proposer: 0,
            execution_hash: Hash([mark; 32]),
            state_root: Hash([mark; 32]),
            transactions: 0,
            gas_used: 0,
            after_ms: 0,
        }
    }

    #[test]
    fn one_block_a_height_over_all_nodes() {
        let mut finality = Finality::default();
        assert_eq!(finality.reported(0, &block(1, 1)), Ok(()));
        assert_eq!(
            finality.reported(1, &block(1, 1)),
            Ok(()),
            "the same block from another node"
        );
        assert_eq!(
            finality.reported(0, &block(1, 1)),
            Ok(()),
            "the same block after a restart"
        );
        assert!(matches!(
            finality.reported(2, &block(1, 2)),
            Err(Violation::TwoFinalBlocks {
                height: 1,
                first_node: 1,
                second_node: 3,
                ..
            })
        ));
    }

    #[test]
    fn one_result_a_block() {
        let mut finality = Finality::default();
        assert_eq!(finality.reported(0, &block(1, 1)), Ok(()));
        let other = FinalBlock {
            state_root: Hash([9; 32]),
            ..block(1, 1)
        };
        assert!(matches!(
            finality.reported(1, &other),
            Err(Violation::StateDiffers {
                node: 2,
                height: 1,
                ..
            })
        ));
    }

    #[test]
    fn finality_never_goes_back() {
        let mut finality = Finality::default();
        assert_eq!(finality.reported(0, &block(1, 1)), Ok(()));
        assert_eq!(finality.reported(0, &block(2, 2)), Ok(()));
        assert_eq!(finality.stands(0, 2, 2, Hash([2; 32])), Ok(()));
        assert_eq!(
            finality.stands(0, 2, 3, Hash([3; 32])),
            Ok(()),
            "the report was cut off by a crash"
        );
        assert_eq!((finality.of(0), finality.top()), (3, 3));
        let back = Violation::FinalityWentBack {
            node: 1,
            from: 3,
            to: 1,
        };
        assert_eq!(finality.stands(0, 3, 1, Hash([1; 32])), Err(back));
        assert!(matches!(
            finality.stands(1, 0, 2, Hash([7; 32])),
            Err(Violation::TwoFinalBlocks { height: 2, .. })
        ));
    }
}
