//! Evidence of equivocation, the counterpart of [`super::Votes::accused`]: a node that has counted
//! two contradicting votes of one authority must hold evidence at once (rule 3.13).

use std::collections::{BTreeMap, BTreeSet};

use alys_types::{Hash, VoteKind, VoteTarget};

use super::Violation;

/// Slots around the present one whose votes a node remembers in any case. The rule says 256, and
/// clocks differ.
pub const NEAR_SLOTS: u64 = 128;

/// Slot, kind and signer of a vote, and the set that the signer's number refers to.
type Key = (u64, VoteKind, u8, Hash);

/// The votes that one incarnation of a ChainActor has counted.
#[derive(Debug, Default)]
struct Counted {
    first: BTreeMap<Key, Hash>,
    /// Slots and authorities of which the node holds evidence.
    accused: BTreeSet<(u64, u8)>,
    /// Evidence that must follow.
    due: Option<(u64, u8)>,
}

impl Counted {
    fn is_settled(&mut self, node: u8) -> Result<(), Violation> {
        match self.due.take() {
            None => Ok(()),
            Some((slot, signer)) => Err(Violation::NotAccused {
                node: node + 1,
                signer: signer + 1,
                slot,
            }),
        }
    }
}

/// The votes that all nodes have counted.
#[derive(Debug, Default)]
pub struct Accusations {
    nodes: BTreeMap<u8, Counted>,
}

impl Accusations {
    /// Forgets the votes of a node, because its ChainActor restarts, which remembers none.
    pub fn restored(&mut self, node: u8) {
        self.nodes.remove(&node);
    }

    /// Records a vote that a node is about to count; of far slots nothing is demanded.
    ///
    /// # Errors
    /// [`Violation::NotAccused`], about the vote before it.
    pub fn counts(
        &mut self,
        node: u8,
        target: &VoteTarget,
        signer: u8,
        set_hash: Hash,
        is_near: bool,
    ) -> Result<(), Violation> {
        let counted = self.nodes.entry(node).or_default();
        let settled = counted.is_settled(node);
        if is_near {
            let slot = target.slot.0;
            let key = (slot, target.kind, signer, set_hash);
            let first = *counted.first.entry(key).or_insert(target.hash);
            let is_new = !counted.accused.contains(&(slot, signer));
            counted.due = (first != target.hash && is_new).then_some((slot, signer));
        }
        settled
    }

    /// Records evidence that a node holds.
    pub fn accuses(&mut self, node: u8, signer: u8, slot: u64) {
        let counted = self.nodes.entry(node).or_default();
        counted.accused.insert((slot, signer));
        counted.due.take_if(|due| *due == (slot, signer));
    }

    /// Checks a node between two of its inputs.
    ///
    /// # Errors
    /// [`Violation::NotAccused`].
    pub fn stands(&mut self, node: u8) -> Result<(), Violation> {
        let counted = self.nodes.get_mut(&node);
        counted.map_or(Ok(()), |counted| counted.is_settled(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Oracles;
    use crate::invariants::blocks::tests::plan;
    use crate::invariants::quorums::tests::summary;
    use alys_types::{Height, Slot};

    fn vote(kind: VoteKind, slot: u64, mark: u8) -> VoteTarget {
        VoteTarget {
            kind,
            height: Height(1),
            slot: Slot(slot),
            hash: Hash([mark; 32]),
        }
    }

    #[test]
    fn no_evidence_is_demanded_of_a_node_whose_disk_lied() {
        let found = |has_lied: bool| {
            let mut oracles = Oracles::new(&plan());
            if has_lied {
                oracles.distrust(0);
            }
            oracles.accusations.nodes.entry(0).or_default().due = Some((7, 2));
            oracles.stands(5, 0, (4, 0), summary(0, 0));
            oracles.found.map(|found| found.violation.name())
        };
        assert_eq!(found(false), Some("not-accused".to_owned()));
        assert_eq!(found(true), None);
    }

    #[test]
    fn two_votes_of_a_slot_need_evidence_at_once() {
        let missing = |node: u8, slot: u64| {
            Err(Violation::NotAccused {
                node: node + 1,
                signer: 3,
                slot,
            })
        };
        let mut all = Accusations::default();
        let counts = |all: &mut Accusations, kind, slot, mark, is_near| {
            all.counts(0, &vote(kind, slot, mark), 2, Hash::ZERO, is_near)
        };
        let approval = VoteKind::Approval;
        for (kind, slot, mark) in [
            (approval, 7, 1),
            (approval, 7, 1),
            (VoteKind::Confirmation, 7, 2),
            (approval, 8, 2),
        ] {
            assert_eq!(counts(&mut all, kind, slot, mark, true), Ok(()));
        }
        assert_eq!(all.stands(0), Ok(()), "no contradiction");
        assert_eq!(counts(&mut all, approval, 7, 9, true), Ok(()));
        assert_eq!(all.stands(0), missing(0, 7));
        assert_eq!(counts(&mut all, approval, 8, 9, true), Ok(()));
        all.accuses(0, 2, 8);
        assert_eq!(all.stands(0), Ok(()));
        assert_eq!(counts(&mut all, approval, 8, 10, true), Ok(()));
        assert_eq!(all.stands(0), Ok(()), "it is accused already");
        assert_eq!(counts(&mut all, approval, 9, 1, false), Ok(()));
        assert_eq!(counts(&mut all, approval, 9, 2, false), Ok(()));
        assert_eq!(all.stands(0), Ok(()), "far from the present slot");
        assert_eq!(counts(&mut all, approval, 10, 1, true), Ok(()));
        all.restored(0);
        assert_eq!(counts(&mut all, approval, 10, 2, true), Ok(()));
        assert_eq!(all.stands(0), Ok(()), "a restart forgets the first");
    }
}
