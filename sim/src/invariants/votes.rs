//! Signatures of authorities: the rules of section 3 of the protocol that are observable from
//! outside, checked across all restarts of a node.

use std::collections::{BTreeMap, BTreeSet};

use alys_types::{Hash, VoteKind, VoteTarget};

use super::{Blocks, Sets, Violation, short};
use crate::params::WorldPlan;

/// All signatures of a run.
#[derive(Debug)]
pub struct Votes {
    /// The federation of each block.
    sets: Sets,
    nodes: u8,
    /// Authorities that may have signed any block, from 0: they are Byzantine, their key was
    /// stolen, or their disk lied.
    faulty: BTreeSet<u8>,
    /// The Byzantine ones among `faulty`.
    byzantine: BTreeSet<u8>,
    /// Authorities with an emptied disk that do not vote yet; true once they reported the loss.
    lost: BTreeMap<u8, bool>,
    /// The signed block by node, kind and slot.
    signed: BTreeMap<(u8, VoteKind, u64), Hash>,
    /// The highest signed slot by node and kind.
    highest: BTreeMap<(u8, VoteKind), u64>,
    /// The signers of a block by kind.
    by_block: BTreeMap<(VoteKind, Hash), BTreeSet<u8>>,
    /// Height and slot of the blocks with a quorum of approvals, and of those with a quorum of
    /// confirmations.
    approved: BTreeMap<Hash, (u64, u64)>,
    confirmed: BTreeMap<Hash, (u64, u64)>,
    /// The last block that each node reported as final without a quorum of confirmations of its
    /// own; a descendant with a quorum must follow.
    pub(super) pending: BTreeMap<u8, Pending>,
}

/// A block reported as final whose quorum is still missing, see [`Votes::finalized`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    since_ms: u64,
    height: u64,
    hash: Hash,
    confirmations: usize,
    quorum: usize,
}

/// The signatures of one kind for a block.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// Reported ones of correct authorities.
    correct: usize,
    /// Those of faulty authorities, each of which may have signed any block without a report.
    forged: usize,
    quorum: usize,
}

impl Count {
    fn is_quorum(&self) -> bool {
        self.correct + self.forged >= self.quorum
    }
}

impl Votes {
    pub fn new(plan: &WorldPlan) -> Self {
        Self {
            sets: Sets::new(plan),
            nodes: plan.nodes,
            faulty: plan.suspects(),
            byzantine: (0..plan.nodes)
                .filter(|index| plan.is_byzantine(*index))
                .collect(),
            lost: BTreeMap::new(),
            signed: BTreeMap::new(),
            highest: BTreeMap::new(),
            by_block: BTreeMap::new(),
            approved: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Judges by these federations, which other invariants share.
    pub(super) fn sharing(self, sets: &Sets) -> Self {
        let sets = sets.clone();
        Self { sets, ..self }
    }

    /// Allows the authority to have signed any block.
    pub(super) fn distrust(&mut self, node: u8) {
        self.faulty.insert(node);
    }

    /// Returns true if the authority is Byzantine, so that its reports must not be judged.
    pub fn is_byzantine(&self, node: u8) -> bool {
        self.byzantine.contains(&node)
    }

    /// Returns the authorities that lost their vote state and do not vote again yet.
    pub fn lost(&self) -> Vec<u8> {
        self.lost.keys().copied().collect()
    }

    /// Records that a node's disk was emptied.
    pub fn lose(&mut self, node: u8) {
        self.lost.insert(node, false);
        self.pending.remove(&node);
    }

    /// Checks whether a node may report its vote state as lost; only an emptied disk is a reason.
    pub fn silent(&mut self, node: u8, is_silent: bool) -> Result<(), Violation> {
        match (self.lost.get_mut(&node), is_silent) {
            (None, true) => return Err(Violation::VotesLost { node: node + 1 }),
            (Some(is_noticed), true) => *is_noticed = true,
            (Some(true), false) => {
                self.lost.remove(&node);
            }
            (Some(false) | None, false) => {}
        }
        Ok(())
    }

    /// Checks a signature of a node. A repeated signature passes, because nodes send their votes
    /// again.
    pub fn signed(
        &mut self,
        node: u8,
        target: &VoteTarget,
        blocks: &Blocks,
    ) -> Result<(), Violation> {
        let kind = target.kind;
        let slot = target.slot.0;
        if self.is_byzantine(node) {
            // A Byzantine signature may be part of a certificate, but proves nothing about the
            // block.
            self.by_block
                .entry((kind, target.hash))
                .or_default()
                .insert(node);
            return Ok(());
        }
        if let Some(first) = self.signed.get(&(node, kind, slot)) {
            if *first == target.hash {
                return Ok(());
            }
            return Err(Violation::SignedTwice {
                node: node + 1,
                kind: word(kind),
                slot,
                first: short(first),
                second: short(&target.hash),
            });
        }
        self.signed.insert((node, kind, slot), target.hash);
        let before = self.highest.get(&(node, kind)).copied().unwrap_or(0);
        if slot < before {
            return Err(Violation::SignedBackwards {
                node: node + 1,
                kind: word(kind),
                slot,
                before,
            });
        }
        self.highest.insert((node, kind), slot);
        let approved = self
            .highest
            .get(&(node, VoteKind::Approval))
            .copied()
            .unwrap_or(0);
        if kind == VoteKind::Confirmation
            && slot < approved
            && self.approved_beside(node, slot, blocks)
        {
            return Err(Violation::ConfirmedBelowApproval {
                node: node + 1,
                slot,
                approved,
            });
        }
        let locked = self
            .highest
            .get(&(node, VoteKind::Confirmation))
            .copied()
            .unwrap_or(0);
        if kind == VoteKind::Approval
            && let Some(parent_slot) = blocks.parent_slot(&target.hash)
            && parent_slot < locked
            // A vote of the locked slot or below was decided before the lock and is only sent
            // again.
            && slot > locked
        {
            return Err(Violation::ApprovedBelowLock {
                node: node + 1,
                slot,
                parent_slot,
                locked,
            });
        }
        let signers = self.by_block.entry((kind, target.hash)).or_default();
        signers.insert(node);
        // A block with an unknown set is not judged.
        let Some(members) = self.sets.of(&target.hash) else {
            return Ok(());
        };
        if kind == VoteKind::Proposal && members.leader(slot) != node {
            return Err(Violation::WrongLeader {
                node: node + 1,
                slot,
            });
        }
        if !members.has(node) {
            return Err(Violation::SignedOutsideSet {
                node: node + 1,
                kind: word(kind),
                slot,
            });
        }
        if members.count(signers) < members.quorum() {
            return Ok(());
        }
        let known = match kind {
            VoteKind::Approval => &mut self.approved,
            VoteKind::Confirmation => &mut self.confirmed,
            VoteKind::Proposal => return Ok(()),
        };
        known.insert(target.hash, (target.height.0, slot));
        self.check_beside(&target.hash)
    }

    /// Returns true if a node approved a block of a slot after `slot` that cannot descend from the
    /// block of `slot`. Approvals of descendants do not count, because a confirmation below them
    /// was decided earlier and is only sent again.
    fn approved_beside(&self, node: u8, slot: u64, blocks: &Blocks) -> bool {
        let later = (node, VoteKind::Approval, slot + 1)..=(node, VoteKind::Approval, u64::MAX);
        self.signed
            .range(later)
            .any(|(_, hash)| blocks.parent_slot(hash).is_none_or(|parent| parent < slot))
    }

    /// Checks the core of the safety argument: once block B has a quorum of confirmations, every
    /// block of a later slot with a quorum of approvals descends from B. A block that is not higher
    /// than B cannot.
    fn check_beside(&self, new: &Hash) -> Result<(), Violation> {
        let beside = |confirmed: (&Hash, &(u64, u64)), approved: (&Hash, &(u64, u64))| {
            let (b, (b_height, b_slot)) = confirmed;
            let (c, (c_height, c_slot)) = approved;
            (b != c && c_slot > b_slot && c_height <= b_height).then(|| {
                Violation::CertifiedBesideFinal {
                    height: *c_height,
                    confirmed: short(b),
                    confirmed_slot: *b_slot,
                    approved: short(c),
                    approved_slot: *c_slot,
                }
            })
        };
        let as_confirmed = self.confirmed.get_key_value(new).into_iter();
        let as_approved = self.approved.get_key_value(new).into_iter();
        let found = as_confirmed
            .flat_map(|b| self.approved.iter().map(move |c| (b, c)))
            .chain(as_approved.flat_map(|c| self.confirmed.iter().map(move |b| (b, c))))
            .find_map(|(b, c)| beside(b, c));
        found.map_or(Ok(()), Err)
    }

    /// Records a block that a node reported as final. Such a block needs a quorum of confirmations
    /// of itself or of a descendant; the node reports a finalized chain from the oldest block on,
    /// so the quorum may be that of a block still to come.
    pub fn finalized(&mut self, at_ms: u64, node: u8, height: u64, hash: Hash) {
        match self.count(VoteKind::Confirmation, &hash) {
            Some(count) if !count.is_quorum() => {
                self.pending.insert(
                    node,
                    Pending {
                        since_ms: at_ms,
                        height,
                        hash,
                        confirmations: count.correct,
                        quorum: count.quorum,
                    },
                );
            }
            _ => drop(self.pending.remove(&node)),
        }
    }

    /// Checks the last final block in a node's summary, requested at `asked_ms`. A summary never
    /// falls between the reports of one finalized chain, so the last block must have a quorum.
    pub fn stands(&mut self, asked_ms: u64, node: u8, last: Hash) -> Result<(), Violation> {
        let Some(pending) = self
            .pending
            .get(&node)
            .filter(|pending| pending.since_ms < asked_ms)
        else {
            return Ok(());
        };
        if pending.hash != last {
            // A restart of the reporting actor cut off the rest of the chain.
            self.pending.remove(&node);
            return Ok(());
        }
        Err(Violation::FinalWithoutQuorum {
            node: node + 1,
            height: pending.height,
            hash: short(&pending.hash),
            confirmations: pending.confirmations,
            quorum: pending.quorum,
        })
    }

    /// Checks evidence of equivocation; the accused must be faulty, because [`Votes::signed`]
    /// reports a real equivocation of a correct authority first. Evidence names an index in a set
    /// that it does not name, so any authority that has had the index may be the accused.
    pub fn accused(&self, node: u8, signer: u8, slot: u64) -> Result<(), Violation> {
        if self.sets.seats(signer).is_disjoint(&self.faulty) {
            return Err(Violation::WronglyAccused {
                node: node + 1,
                signer: signer + 1,
                slot,
            });
        }
        Ok(())
    }

    /// True if a quorum may have signed confirmations of a block.
    pub fn is_confirmed(&self, hash: &Hash) -> bool {
        let count = self.count(VoteKind::Confirmation, hash);
        count.is_none_or(|count| count.is_quorum())
    }

    /// Checks that a block which a node calls certified has a quorum of approvals.
    pub fn certified(&self, node: u8, slot: u64, hash: Hash) -> Result<(), Violation> {
        match self.count(VoteKind::Approval, &hash) {
            Some(count) if !count.is_quorum() => Err(Violation::CertifiedWithoutQuorum {
                node: node + 1,
                slot,
                hash: short(&hash),
                approvals: count.correct,
                quorum: count.quorum,
            }),
            _ => Ok(()),
        }
    }

    /// Returns true if a node has signed a vote of this kind in a slot.
    pub fn has_signed(&self, node: u8, kind: VoteKind, slot: u64) -> bool {
        self.signed.contains_key(&(node, kind, slot))
    }

    /// Returns the highest slot in which a node has signed any vote, or 0 if it has signed none.
    pub fn last_slot(&self, node: u8) -> u64 {
        let kinds = [
            VoteKind::Proposal,
            VoteKind::Approval,
            VoteKind::Confirmation,
        ];
        let slots = kinds
            .iter()
            .filter_map(|kind| self.highest.get(&(node, *kind)));
        slots.copied().max().unwrap_or(0)
    }

    /// Returns the authorities that signed any vote in a slot, each once, and all faulty ones,
    /// because they may sign without a report.
    pub fn signers_in(&self, slot: u64) -> impl Iterator<Item = u8> {
        let kinds = [
            VoteKind::Proposal,
            VoteKind::Approval,
            VoteKind::Confirmation,
        ];
        let has = move |node: &u8| kinds.iter().any(|kind| self.has_signed(*node, *kind, slot));
        (0..self.nodes).filter(move |node| has(node) || self.faulty.contains(node))
    }

    /// Counts the signatures of the members of a block's set; `None` if the set is unknown.
    fn count(&self, kind: VoteKind, hash: &Hash) -> Option<Count> {
        let members = self.sets.of(hash)?;
        let reported = self.by_block.get(&(kind, *hash));
        let is_correct = |node: &&u8| members.has(**node) && !self.faulty.contains(node);
        Some(Count {
            correct: reported.map_or(0, |signers| signers.iter().filter(is_correct).count()),
            forged: members.count(&self.faulty),
            quorum: members.quorum(),
        })
    }
}

fn word(kind: VoteKind) -> String {
    format!("{kind:?}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Byzantine, Conduct};
    use alys_types::{Height, Slot};

    fn votes(forger: Option<u8>) -> Votes {
        Votes::new(&WorldPlan {
            forger,
            ..WorldPlan::default()
        })
    }

    fn none() -> Blocks {
        Blocks::new(&super::super::blocks::tests::plan())
    }

    fn vote(kind: VoteKind, height: u64, slot: u64, mark: u8) -> VoteTarget {
        VoteTarget {
            kind,
            height: Height(height),
            slot: Slot(slot),
            hash: Hash([mark; 32]),
        }
    }

    #[test]
    fn a_kind_of_vote_is_signed_once_a_slot() {
        let mut votes = votes(None);
        assert_eq!(
            votes.signed(0, &vote(VoteKind::Proposal, 1, 100, 1), &none()),
            Ok(())
        );
        assert_eq!(
            votes.signed(0, &vote(VoteKind::Approval, 1, 100, 2), &none()),
            Ok(()),
            "another kind"
        );
        assert_eq!(
            votes.signed(1, &vote(VoteKind::Approval, 1, 100, 1), &none()),
            Ok(()),
            "another authority"
        );
        assert_eq!(
            votes.signed(0, &vote(VoteKind::Approval, 1, 100, 2), &none()),
            Ok(()),
            "sent again"
        );
        assert!(matches!(
            votes.signed(0, &vote(VoteKind::Approval, 1, 100, 3), &none()),
            Err(Violation::SignedTwice {
                node: 1,
                slot: 100,
                ..
            })
        ));
    }

    #[test]
    fn only_the_stolen_key_contradicts_itself() {
        assert_eq!(votes(Some(3)).accused(0, 2, 100), Ok(()));
        let wrong = Err(Violation::WronglyAccused {
            node: 1,
            signer: 2,
            slot: 100,
        });
        assert_eq!(votes(Some(3)).accused(0, 1, 100), wrong);
    }

    #[test]
    fn byzantine_authorities_are_not_judged_and_their_signatures_may_be_anywhere() {
        let one = Byzantine {
            node: 3,
            conduct: Conduct::Twins,
        };
        let mut votes = Votes::new(&WorldPlan {
            byzantine: vec![one],
            ..WorldPlan::default()
        });
        for mark in 1..4 {
            assert_eq!(
                votes.signed(2, &vote(VoteKind::Approval, 1, 100, mark), &none()),
                Ok(())
            );
        }
        assert_eq!(votes.accused(0, 2, 100), Ok(()));
        assert_eq!(
            votes.accused(0, 1, 100),
            Err(Violation::WronglyAccused {
                node: 1,
                signer: 2,
                slot: 100
            })
        );
        assert_eq!(
            votes.signed(0, &vote(VoteKind::Confirmation, 1, 100, 1), &none()),
            Ok(())
        );
        assert_eq!(
            votes.signed(2, &vote(VoteKind::Confirmation, 1, 100, 1), &none()),
            Ok(())
        );
        votes.finalized(10, 0, 1, Hash([1; 32]));
        assert!(
            votes.stands(500, 0, Hash([1; 32])).is_err(),
            "one correct and one faulty signer are no quorum"
        );
        assert_eq!(
            votes.signed(1, &vote(VoteKind::Confirmation, 1, 100, 1), &none()),
            Ok(())
        );
        votes.finalized(600, 0, 1, Hash([1; 32]));
        assert_eq!(votes.stands(700, 0, Hash([1; 32])), Ok(()));
    }

    #[test]
    fn a_node_that_lost_its_votes_may_report_it_and_is_still_judged() {
        let mut votes = votes(None);
        assert_eq!(votes.silent(0, false), Ok(()));
        assert_eq!(votes.silent(0, true), Err(Violation::VotesLost { node: 1 }));
        votes.lose(0);
        assert_eq!(
            (votes.silent(0, false), votes.lost()),
            (Ok(()), vec![0]),
            "not noticed yet"
        );
        assert_eq!(
            (votes.silent(0, true), votes.silent(0, false)),
            (Ok(()), Ok(()))
        );
        assert!(votes.lost().is_empty());
        votes.lose(1);
        assert_eq!(
            votes.signed(1, &vote(VoteKind::Approval, 5, 105, 1), &none()),
            Ok(())
        );
        let twice = votes.signed(1, &vote(VoteKind::Approval, 5, 105, 2), &none());
        assert!(
            matches!(twice, Err(Violation::SignedTwice { .. })),
            "a node with an empty disk must notice at once"
        );
    }

    #[test]
    fn slots_of_votes_rise_and_leaders_propose_in_their_own_slots() {
        let mut votes = votes(None);
        assert_eq!(
            votes.signed(0, &vote(VoteKind::Approval, 5, 105, 1), &none()),
            Ok(())
        );
        let backwards = votes.signed(0, &vote(VoteKind::Approval, 4, 104, 2), &none());
        assert!(matches!(
            backwards,
            Err(Violation::SignedBackwards {
                slot: 104,
                before: 105,
                ..
            })
        ));
        let below = votes.signed(0, &vote(VoteKind::Confirmation, 4, 103, 3), &none());
        assert!(matches!(
            below,
            Err(Violation::ConfirmedBelowApproval {
                slot: 103,
                approved: 105,
                ..
            })
        ));
        assert_eq!(
            votes.signed(1, &vote(VoteKind::Proposal, 6, 109, 4), &none()),
            Ok(())
        );
        let wrong = votes.signed(1, &vote(VoteKind::Proposal, 7, 110, 5), &none());
        assert_eq!(wrong, Err(Violation::WrongLeader { node: 2, slot: 110 }));
    }

    #[test]
    fn no_certificate_conflicts_with_a_confirmed_block() {
        let mut votes = votes(None);
        for node in 0..3 {
            assert_eq!(
                votes.signed(node, &vote(VoteKind::Approval, 3, 100, 1), &none()),
                Ok(())
            );
            assert_eq!(
                votes.signed(node, &vote(VoteKind::Confirmation, 3, 100, 1), &none()),
                Ok(())
            );
            assert_eq!(
                votes.signed(node, &vote(VoteKind::Approval, 4, 101, 2), &none()),
                Ok(()),
                "a child"
            );
        }
        for node in 0..2 {
            assert_eq!(
                votes.signed(node, &vote(VoteKind::Approval, 3, 102, 3), &none()),
                Ok(()),
                "below a quorum"
            );
        }
        let beside = votes.signed(2, &vote(VoteKind::Approval, 3, 102, 3), &none());
        assert!(matches!(
            beside,
            Err(Violation::CertifiedBesideFinal {
                height: 3,
                confirmed_slot: 100,
                approved_slot: 102,
                ..
            })
        ));
    }

    #[test]
    fn finality_takes_a_quorum_of_confirmations_of_the_block_or_of_a_descendant() {
        let mut all = votes(None);
        for node in 0..3 {
            assert_eq!(
                all.signed(node, &vote(VoteKind::Confirmation, 2, 101, 2), &none()),
                Ok(())
            );
        }
        all.finalized(10, 0, 1, Hash([1; 32]));
        all.finalized(10, 0, 2, Hash([2; 32]));
        assert_eq!(
            all.stands(500, 0, Hash([2; 32])),
            Ok(()),
            "reported after its ancestor"
        );
        assert_eq!(
            all.signed(0, &vote(VoteKind::Confirmation, 3, 102, 3), &none()),
            Ok(())
        );
        all.finalized(600, 1, 3, Hash([3; 32]));
        assert_eq!(
            all.stands(600, 1, Hash([3; 32])),
            Ok(()),
            "requested before the report"
        );
        for node in 1..3 {
            assert_eq!(
                all.signed(node, &vote(VoteKind::Confirmation, 3, 102, 3), &none()),
                Ok(()),
                "too late"
            );
        }
        assert!(matches!(
            all.stands(700, 1, Hash([3; 32])),
            Err(Violation::FinalWithoutQuorum {
                node: 2,
                height: 3,
                confirmations: 1,
                quorum: 3,
                ..
            })
        ));
        assert_eq!(
            all.stands(700, 1, Hash([4; 32])),
            Ok(()),
            "a restart cut off the reports"
        );
        let mut forged = votes(Some(3));
        for node in 0..2 {
            assert_eq!(
                forged.signed(node, &vote(VoteKind::Confirmation, 1, 100, 1), &none()),
                Ok(())
            );
        }
        forged.finalized(10, 0, 1, Hash([1; 32]));
        assert_eq!(
            forged.stands(500, 0, Hash([1; 32])),
            Ok(()),
            "the third may be signed with the stolen key"
        );
    }

    #[test]
    fn an_approval_below_the_lock_is_found() {
        use super::super::blocks::tests::block;
        let mut votes = votes(None);
        let mut blocks = none();
        let (low, low_block) = block(1, 100, Hash::ZERO);
        let (high, high_block) = block(2, 101, low);
        let (beside, beside_block) = block(2, 102, low);
        for (hash, block) in [
            (low, &low_block),
            (high, &high_block),
            (beside, &beside_block),
        ] {
            assert_eq!(blocks.proposed(1, 0, hash, block), Ok(()));
        }
        let target = |kind, height, slot, hash| VoteTarget {
            kind,
            height: Height(height),
            slot: Slot(slot),
            hash,
        };
        assert_eq!(
            votes.signed(0, &target(VoteKind::Confirmation, 2, 101, high), &blocks),
            Ok(())
        );
        let below = votes.signed(0, &target(VoteKind::Approval, 2, 102, beside), &blocks);
        let expected = Violation::ApprovedBelowLock {
            node: 1,
            slot: 102,
            parent_slot: 100,
            locked: 101,
        };
        assert_eq!(below, Err(expected));
        assert_eq!(
            votes.signed(1, &target(VoteKind::Approval, 2, 102, beside), &blocks),
            Ok(()),
            "not locked"
        );
        assert!(matches!(
            votes.certified(3, 102, beside),
            Err(Violation::CertifiedWithoutQuorum {
                node: 4,
                approvals: 1,
                quorum: 3,
                ..
            })
        ));
    }
}
