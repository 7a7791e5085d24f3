//! The parent of a leader's block: the certified block of the highest slot that the leader knew
//! when its slot began (rule 3.1). A lower one is valid, and a later leader repairs it, so only the
//! choice itself shows the mistake.
//!
//! A node reports certificates after it wrote them, so they outlive its restarts. Certificates that
//! it learnt after the slot had begun are ignored, because the block may have been built before,
//! and sent again later.

use std::collections::BTreeMap;

use super::Violation;

/// Certificates of each node that are kept; only the highest ones before a slot matter.
const KEPT: usize = 32;

/// By node and slot of a certified block: the time at which the node first reported it, in
/// milliseconds.
#[derive(Debug, Default)]
pub struct Choices {
    known: BTreeMap<u8, BTreeMap<u64, u64>>,
}

impl Choices {
    /// Forgets everything about a node, because its disk may lack it.
    pub fn forget(&mut self, node: u8) {
        self.known.remove(&node);
    }

    /// Records that a node knows the certificate of a block.
    pub fn certified(&mut self, at_ms: u64, node: u8, slot: u64) {
        let known = self.known.entry(node).or_default();
        known.entry(slot).or_insert(at_ms);
        if known.len() > KEPT {
            known.pop_first();
        }
    }

    /// Checks the parent of a new block of a node. The slot of the block began after `before_ms` on
    /// the node's clock.
    ///
    /// # Errors
    /// [`Violation::WrongParent`].
    pub fn proposed(
        &self,
        node: u8,
        before_ms: u64,
        slot: u64,
        parent_slot: u64,
    ) -> Result<(), Violation> {
        let known = self.known.get(&node).into_iter().flatten();
        let known = known.filter(|(_, at_ms)| **at_ms < before_ms);
        let known = known.map(|(slot, _)| *slot).max().unwrap_or(0);
        if parent_slot < known {
            return Err(Violation::WrongParent {
                node: node + 1,
                slot,
                parent_slot,
                known,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_builds_on_the_highest_certified_block_that_it_knew() {
        let mut choices = Choices::default();
        choices.certified(70, 0, 7);
        choices.certified(90, 0, 7);
        choices.certified(75, 0, 6);
        assert_eq!(choices.proposed(0, 80, 9, 7), Ok(()));
        assert_eq!(choices.proposed(0, 80, 9, 8), Ok(()), "reported later");
        assert_eq!(choices.proposed(1, 80, 9, 6), Ok(()), "another node");
        assert_eq!(choices.proposed(0, 70, 9, 6), Ok(()), "too late for it");
        let wrong = Violation::WrongParent {
            node: 1,
            slot: 9,
            parent_slot: 6,
            known: 7,
        };
        assert_eq!(choices.proposed(0, 80, 9, 6), Err(wrong));
        choices.forget(0);
        assert_eq!(choices.proposed(0, 80, 9, 6), Ok(()));
    }
}
