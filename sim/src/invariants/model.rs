//! Conformance: each signature of a real node must be a step that the model in `sim/model` allows.
//!
//! The model's state of a node consists of the votes that the node signed before, across restarts,
//! so a node that forgot a vote takes a step that its promises forbid. A certificate can exist once
//! a quorum of signatures was observed; the signatures of faulty authorities count as given.
//!
//! A vote may be observed long after the node decided on it: the vote is persisted, the sending
//! actor restarts, and the next incarnation sends it again after later votes. Such a vote must fit
//! at some position among the observed votes.

use std::collections::{BTreeMap, BTreeSet};

use alys_consensus::{BlockRef, VoteState};
use alys_model::{Faults, Parent, Promises, Rule};
use alys_types::{FaultModel, Hash, VoteKind, VoteTarget};

use super::{Sets, Violation, short};
use crate::params::WorldPlan;

/// Height of the blocks on genesis, which needs no certificate.
const FIRST: u64 = 1;

/// Steps kept per node, for votes that are observed late; a node sends only the latest vote of each
/// kind again.
const HISTORY: usize = 32;

/// An observed step of a node.
#[derive(Debug, Clone, Copy)]
struct Step {
    kind: VoteKind,
    slot: u64,
    /// Slot of the block's parent.
    parent: u64,
    /// Promises of the node before the step.
    before: Promises,
}

impl Step {
    /// Returns the promises of the node after the step.
    fn after(&self) -> Promises {
        match self.kind {
            VoteKind::Confirmation => Promises {
                locked: self.slot,
                ..self.before
            },
            _ => Promises {
                approved: self.slot,
                ..self.before
            },
        }
    }

    /// Returns true if this step may follow a step that was not observed at its time.
    fn may_follow(&self, unseen: &Step) -> bool {
        match (unseen.kind, self.kind) {
            (VoteKind::Confirmation, VoteKind::Confirmation) => self.slot > unseen.slot,
            (VoteKind::Confirmation, _) => self.parent >= unseen.slot,
            (_, VoteKind::Confirmation) => self.slot >= unseen.slot,
            _ => self.slot > unseen.slot,
        }
    }
}

/// The signatures of all nodes as steps of the model.
#[derive(Debug)]
pub struct Conformance {
    rule: Rule,
    /// The federation of each block.
    sets: Sets,
    fault_model: Faults,
    /// Authorities whose signature may be on any block, from 0.
    faulty: BTreeSet<u8>,
    /// Faulty authorities that are not judged, because they may have forgotten their votes.
    distrusted: BTreeSet<u8>,
    promises: BTreeMap<u8, Promises>,
    /// The last steps of each node, in the order of its decisions.
    steps: BTreeMap<u8, Vec<Step>>,
    /// Promises of each node by the time of their growth, in milliseconds. Entries older than those
    /// that the last summary had to cover are dropped.
    grown: BTreeMap<u8, BTreeMap<u64, Promises>>,
    /// Observed signatures; a repeated signature is no new step.
    signed: BTreeSet<(u8, VoteKind, Hash)>,
    approvers: BTreeMap<Hash, BTreeSet<u8>>,
    parents: BTreeMap<Hash, BlockRef>,
    checked: u64,
    refused: u64,
    late: u64,
    orphans: u64,
}

impl Conformance {
    pub fn new(plan: &WorldPlan) -> Self {
        let faults = match plan.fault_model {
            FaultModel::Byzantine => Faults::Byzantine,
            FaultModel::Crash => Faults::Crash,
        };
        Self {
            rule: Rule::of(usize::from(plan.authorities()), faults),
            sets: Sets::new(plan),
            fault_model: faults,
            faulty: plan.suspects(),
            distrusted: BTreeSet::new(),
            promises: BTreeMap::new(),
            steps: BTreeMap::new(),
            grown: BTreeMap::new(),
            signed: BTreeSet::new(),
            approvers: BTreeMap::new(),
            parents: BTreeMap::new(),
            checked: 0,
            refused: 0,
            late: 0,
            orphans: 0,
        }
    }

    /// Judges by these federations, which other invariants share.
    pub(super) fn sharing(self, sets: &Sets) -> Self {
        let sets = sets.clone();
        Self { sets, ..self }
    }

    /// Returns the number of steps that were checked, refused, observed late, and checked without a
    /// known parent.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self {
            checked,
            refused,
            late,
            orphans,
            ..
        } = *self;
        let named = [
            ("model.checked", checked),
            ("model.refused", refused),
            ("model.late", late),
            ("model.orphans", orphans),
        ];
        named.into_iter()
    }

    /// Stops judging a node because its disk lied, was emptied or was restored; its signature may
    /// now be on any block.
    pub fn distrust(&mut self, node: u8) {
        self.faulty.insert(node);
        self.distrusted.insert(node);
    }

    /// Judges a node again that resumed voting after a loss. A block of a slot after `slot` is
    /// final on the node, so its promises cover at least `slot`. Its earlier signatures may still
    /// be on any block.
    pub fn trust(&mut self, node: u8, slot: u64) {
        if self.distrusted.remove(&node) {
            self.promises.insert(
                node,
                Promises {
                    approved: slot,
                    locked: slot,
                },
            );
            self.steps.remove(&node);
            self.grown.remove(&node);
        }
    }

    /// Records the parent of a block that a node is about to vote for.
    ///
    /// # Errors
    /// [`Violation::NotATransition`] if another node reported another parent.
    pub fn votes_for(
        &mut self,
        node: u8,
        block: BlockRef,
        parent: BlockRef,
    ) -> Result<(), Violation> {
        match self.parents.insert(block.hash, parent) {
            Some(before) if before != parent => Err(Violation::NotATransition {
                node: node + 1,
                what: format!("block {} of slot {}", short(&block.hash), block.slot),
                why: format!(
                    "its parent is {} here and {} elsewhere",
                    short(&parent.hash),
                    short(&before.hash)
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Checks a signature as a step of the model; a repeated signature passes.
    ///
    /// # Errors
    /// [`Violation::NotATransition`] with the model's reason.
    pub fn signed(&mut self, at_ms: u64, node: u8, target: &VoteTarget) -> Result<(), Violation> {
        if self.distrusted.contains(&node) || !self.signed.insert((node, target.kind, target.hash))
        {
            return Ok(());
        }
        self.checked += 1;
        let before = self.promises(node);
        let kind = target.kind;
        let slot = target.slot.0;
        // The leader decides on the approval of its block together with the proposal.
        let is_own = kind == VoteKind::Approval
            && before.approved == slot
            && self
                .signed
                .contains(&(node, VoteKind::Proposal, target.hash));
        let parent = match kind {
            VoteKind::Confirmation => Parent {
                slot: 0,
                certified: true,
            },
            _ => self.parent(target, before),
        };
        let certified = self.is_certified(&target.hash);
        // The leader of a block with an unknown set is not judged.
        let members = self.sets.of(&target.hash);
        let leads = members.is_none_or(|members| members.leader(slot) == node);
        let rule = self.rule;
        let decide = |before| match kind {
            VoteKind::Proposal => rule.propose(before, slot, leads, parent),
            VoteKind::Approval => rule.approve(before, slot, parent),
            VoteKind::Confirmation => rule.confirm(before, slot, certified),
        };
        if kind == VoteKind::Approval {
            self.approvers.entry(target.hash).or_default().insert(node);
        }
        let step = Step {
            kind,
            slot,
            parent: parent.slot,
            before,
        };
        let decided = match decide(before) {
            Err(_) if is_own => return Ok(()),
            Err(_) if self.fits_in(node, step, decide) => {
                self.late += 1;
                Ok(())
            }
            decided => decided.map(|_| self.take(node, step)),
        };
        decided.map_err(|refusal| {
            self.refused += 1;
            let kind = format!("{kind:?}").to_lowercase();
            let height = target.height;
            let hash = short(&target.hash);
            Violation::NotATransition {
                node: node + 1,
                what: format!("{kind} of height {height} slot {slot} {hash}"),
                why: refusal.to_string(),
            }
        })?;
        let after = self.promises(node);
        self.grown.entry(node).or_default().insert(at_ms, after);
        Ok(())
    }

    /// Appends a step after all earlier ones.
    fn take(&mut self, node: u8, step: Step) {
        let steps = self.steps.entry(node).or_default();
        if steps.len() >= HISTORY {
            steps.remove(0);
        }
        steps.push(step);
        self.promises.insert(node, step.after());
    }

    /// Inserts a step that is observed late at the last position where the rule allows it and no
    /// later step forbids it. Returns false if there is no such position.
    fn fits_in(
        &mut self,
        node: u8,
        step: Step,
        decide: impl Fn(Promises) -> Result<Promises, alys_model::Refusal>,
    ) -> bool {
        let Some(steps) = self.steps.get_mut(&node) else {
            return false;
        };
        let fits = |place: &usize| {
            decide(steps[*place].before).is_ok()
                && steps[*place..].iter().all(|later| later.may_follow(&step))
        };
        let Some(place) = (0..steps.len()).rev().find(fits) else {
            return false;
        };
        steps.insert(
            place,
            Step {
                before: steps[place].before,
                ..step
            },
        );
        for index in place + 1..steps.len() {
            steps[index].before = steps[index - 1].after();
        }
        if let Some(last) = steps.last() {
            self.promises.insert(node, last.after());
        }
        true
    }

    /// Checks the vote state in a node's summary, requested at `asked_ms`. It may cover more than
    /// was observed, because a persisted vote may never have been sent, but not less. A node that
    /// reports its votes as lost is not judged, because it stays silent.
    ///
    /// # Errors
    /// [`Violation::NotATransition`] if the node remembers less than it signed.
    pub fn stands(&mut self, asked_ms: u64, node: u8, votes: &VoteState) -> Result<(), Violation> {
        let Some(grown) = self.grown.get_mut(&node) else {
            return Ok(());
        };
        let Some((since, promised)) = grown.range(..asked_ms).next_back().map(|(at, p)| (*at, *p))
        else {
            return Ok(());
        };
        *grown = grown.split_off(&since);
        let remembered = Promises {
            approved: votes.approved_slot.0,
            locked: votes.locked.slot.0,
        };
        let less = remembered.approved < promised.approved || remembered.locked < promised.locked;
        if !less || votes.silent_until.is_some() {
            return Ok(());
        }
        self.refused += 1;
        Err(Violation::NotATransition {
            node: node + 1,
            what: format!(
                "remembers approving up to slot {} and the lock of slot {}",
                remembered.approved, remembered.locked
            ),
            why: format!(
                "it signed for slots {} and {}",
                promised.approved, promised.locked
            ),
        })
    }

    fn promises(&self, node: u8) -> Promises {
        self.promises
            .get(&node)
            .copied()
            .unwrap_or(Promises::none(0))
    }

    /// Returns the parent of a block. An unknown parent is assumed to be the most favourable one,
    /// so that it never causes a refusal.
    fn parent(&mut self, target: &VoteTarget, before: Promises) -> Parent {
        let Some(parent) = self.parents.get(&target.hash) else {
            self.orphans += 1;
            return Parent {
                slot: before.locked.min(target.slot.0.saturating_sub(1)),
                certified: true,
            };
        };
        let certified = target.height.0 == FIRST || self.is_certified(&parent.hash);
        Parent {
            slot: parent.slot.0,
            certified,
        }
    }

    fn is_certified(&self, hash: &Hash) -> bool {
        // A block with an unknown set is not judged.
        let Some(members) = self.sets.of(hash) else {
            return true;
        };
        let seen = self.approvers.get(hash);
        let is_correct = |node: &&u8| members.has(**node) && !self.faulty.contains(node);
        let correct = seen.map_or(0, |seen| seen.iter().filter(is_correct).count());
        let rule = Rule::of(members.nodes().len(), self.fault_model);
        rule.certifies(correct + members.count(&self.faulty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_types::{Height, Slot};

    fn conformance(forger: Option<u8>) -> Conformance {
        Conformance::new(&WorldPlan {
            forger,
            ..WorldPlan::default()
        })
    }

    fn block(slot: u64, mark: u8) -> BlockRef {
        BlockRef {
            slot: Slot(slot),
            hash: Hash([mark; 32]),
        }
    }

    fn vote(kind: VoteKind, height: u64, of: BlockRef) -> VoteTarget {
        VoteTarget {
            kind,
            height: Height(height),
            slot: of.slot,
            hash: of.hash,
        }
    }

    /// Blocks 1 (slot 100) on genesis, 2 (slot 101) on 1, and 3 (slot 102) on genesis; nodes 0 to 2
    /// approve block 1.
    fn with_a_certificate(forger: Option<u8>) -> Conformance {
        let mut model = conformance(forger);
        let one = block(100, 1);
        let two = block(101, 2);
        let beside = block(102, 3);
        for (block, parent) in [(one, block(99, 0)), (two, one), (beside, block(99, 0))] {
            assert_eq!(model.votes_for(0, block, parent), Ok(()));
        }
        assert_eq!(
            model.signed(5, 0, &vote(VoteKind::Proposal, 1, one)),
            Ok(())
        );
        for node in 0..3 {
            assert_eq!(
                model.signed(6, node, &vote(VoteKind::Approval, 1, one)),
                Ok(())
            );
        }
        model
    }

    fn why(result: Result<(), Violation>) -> String {
        match result {
            Err(Violation::NotATransition { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn votes_by_the_rule_pass_and_repeated_votes_are_no_steps() {
        let mut model = with_a_certificate(None);
        let one = block(100, 1);
        let two = block(101, 2);
        for _ in 0..2 {
            assert_eq!(
                model.signed(7, 1, &vote(VoteKind::Proposal, 2, two)),
                Ok(())
            );
            assert_eq!(
                model.signed(7, 1, &vote(VoteKind::Approval, 2, two)),
                Ok(())
            );
            assert_eq!(
                model.signed(7, 0, &vote(VoteKind::Confirmation, 1, one)),
                Ok(())
            );
            assert_eq!(
                model.signed(8, 0, &vote(VoteKind::Approval, 2, two)),
                Ok(())
            );
        }
        let counts: BTreeMap<_, _> = model.counts().collect();
        assert_eq!(
            (
                counts["model.checked"],
                counts["model.refused"],
                counts["model.orphans"]
            ),
            (8, 0, 0)
        );
    }

    #[test]
    fn a_vote_observed_late_fits_where_it_was_decided() {
        // The confirmation of block 1 in slot 100 is observed before the approval.
        let mut model = with_a_certificate(None);
        assert_eq!(
            model.signed(7, 3, &vote(VoteKind::Confirmation, 1, block(100, 1))),
            Ok(())
        );
        assert_eq!(
            model.signed(8, 3, &vote(VoteKind::Approval, 1, block(100, 1))),
            Ok(())
        );
        // Block 1 was confirmed before the approval of its child, but the confirmation is observed
        // after it.
        let mut model = with_a_certificate(None);
        assert_eq!(
            model.signed(7, 0, &vote(VoteKind::Approval, 2, block(101, 2))),
            Ok(())
        );
        assert_eq!(
            model.signed(8, 0, &vote(VoteKind::Confirmation, 1, block(100, 1))),
            Ok(())
        );
        assert_eq!(
            model.promises(0),
            Promises {
                approved: 101,
                locked: 100
            }
        );
        let counts: BTreeMap<_, _> = model.counts().collect();
        assert_eq!((counts["model.late"], counts["model.refused"]), (1, 0));
        // A confirmation of block 1 fits nowhere after an approval of a conflicting block.
        let mut model = with_a_certificate(None);
        assert_eq!(
            model.signed(7, 0, &vote(VoteKind::Approval, 1, block(102, 3))),
            Ok(())
        );
        let beside = model.signed(8, 0, &vote(VoteKind::Confirmation, 1, block(100, 1)));
        assert!(why(beside).contains("below slot 102, the highest approved"));
    }

    #[test]
    fn a_lock_forbids_blocks_on_parents_below_it() {
        let mut model = with_a_certificate(None);
        assert_eq!(
            model.signed(7, 0, &vote(VoteKind::Confirmation, 1, block(100, 1))),
            Ok(())
        );
        let beside = vote(VoteKind::Approval, 1, block(102, 3));
        assert!(why(model.signed(8, 0, &beside)).contains("below slot 100 of the lock"));
        assert_eq!(model.signed(8, 1, &beside), Ok(()), "node 2 is not locked");
        let below = vote(VoteKind::Confirmation, 1, block(100, 1));
        assert!(why(model.signed(9, 1, &below)).contains("below slot 102, the highest approved"));
    }

    #[test]
    fn parents_and_confirmed_blocks_are_certified() {
        let mut model = with_a_certificate(None);
        let two = block(101, 2);
        let above = block(104, 4);
        assert_eq!(model.votes_for(0, above, two), Ok(()));
        assert!(
            why(model.signed(7, 3, &vote(VoteKind::Confirmation, 2, two)))
                .contains("no quorum approved")
        );
        let on_nothing = vote(VoteKind::Proposal, 3, above);
        assert!(why(model.signed(7, 0, &on_nothing)).contains("no quorum approved the parent"));
        assert!(
            why(model.signed(7, 2, &vote(VoteKind::Proposal, 2, two))).contains("led by another")
        );
        let mut forged = with_a_certificate(Some(4));
        for node in 0..2 {
            assert_eq!(
                forged.signed(7, node, &vote(VoteKind::Approval, 2, two)),
                Ok(())
            );
        }
        assert_eq!(
            forged.signed(8, 3, &vote(VoteKind::Confirmation, 2, two)),
            Ok(()),
            "with the signature of the stolen key"
        );
    }

    #[test]
    fn a_node_remembers_what_it_signed() {
        let mut model = with_a_certificate(None);
        let genesis = block(99, 0);
        let remembers = |approved: u64, locked: BlockRef| VoteState {
            approved_slot: Slot(approved),
            locked,
            latest: Default::default(),
            silent_until: None,
        };
        assert_eq!(
            model.signed(50, 0, &vote(VoteKind::Confirmation, 1, block(100, 1))),
            Ok(())
        );
        assert_eq!(
            model.stands(40, 0, &remembers(100, genesis)),
            Ok(()),
            "asked before it confirmed"
        );
        assert_eq!(
            model.stands(60, 0, &remembers(101, block(100, 1))),
            Ok(()),
            "it may remember more"
        );
        assert!(
            why(model.stands(61, 0, &remembers(100, genesis)))
                .contains("signed for slots 100 and 100")
        );
        assert!(why(model.stands(61, 0, &remembers(99, block(100, 1)))).contains("signed for"));
        let lost = VoteState {
            silent_until: Some(Slot(2_000)),
            ..remembers(99, genesis)
        };
        assert_eq!(model.stands(62, 0, &lost), Ok(()), "it reports the loss");
        assert_eq!(
            model.stands(62, 3, &remembers(99, genesis)),
            Ok(()),
            "it signed nothing"
        );
    }

    #[test]
    fn a_node_with_a_lying_disk_is_not_judged_and_may_have_signed_any_block() {
        let mut model = with_a_certificate(None);
        model.distrust(3);
        let two = block(101, 2);
        assert_eq!(
            model.signed(7, 3, &vote(VoteKind::Confirmation, 2, two)),
            Ok(()),
            "not judged"
        );
        for node in 0..2 {
            assert_eq!(
                model.signed(8, node, &vote(VoteKind::Approval, 2, two)),
                Ok(())
            );
        }
        assert_eq!(
            model.signed(9, 0, &vote(VoteKind::Confirmation, 2, two)),
            Ok(()),
            "the third may be node 4's"
        );
    }

    #[test]
    fn a_block_has_one_parent() {
        let mut model = with_a_certificate(None);
        assert!(why(model.votes_for(1, block(101, 2), block(99, 0))).contains("elsewhere"));
    }
}
