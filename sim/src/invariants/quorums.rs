//! Certificates that a node must make of the votes that it has counted (rules 3.3 and 3.5), the
//! counterpart of [`super::Votes::certified`] and [`super::Votes::stands`]: a quorum of approvals
//! makes a block certified, and a quorum of confirmations makes it final, at once.
//!
//! Demanded for blocks that the node approved in the same incarnation of its ChainActor, because it
//! has their bodies and those of their ancestors, and for votes of the latest slots, because it may
//! drop the votes of older blocks that it does not know yet.

use std::collections::{BTreeMap, BTreeSet};

use alys_consensus::Summary;
use alys_types::{Hash, VoteKind, VoteTarget};

use super::Violation;
use crate::params::WorldPlan;

/// Slots up to the present one whose votes are never dropped: a node keeps eight votes of a signer
/// for unknown blocks, and a correct one signs two in a slot.
pub const RECENT_SLOTS: u64 = 2;

/// A quorum that must show in the next summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    at_ms: u64,
    kind: VoteKind,
    slot: u64,
}

/// The votes of one incarnation of a ChainActor.
#[derive(Debug, Default)]
struct Incarnation {
    approved: BTreeSet<Hash>,
    signers: BTreeMap<(VoteKind, Hash), BTreeSet<u8>>,
    due: Vec<Due>,
}

/// The votes that all nodes have counted.
#[derive(Debug)]
pub struct Quorums {
    quorum: usize,
    /// Authorities that may sign several blocks of a slot, from 0.
    faulty: BTreeSet<u8>,
    /// The first authority set; votes of later ones have other quorums.
    set_hash: Option<Hash>,
    nodes: BTreeMap<u8, Incarnation>,
}

impl Quorums {
    pub fn new(plan: &WorldPlan) -> Self {
        Self {
            quorum: plan.quorum(),
            faulty: plan.suspects(),
            set_hash: None,
            nodes: BTreeMap::new(),
        }
    }

    /// Forgets an incarnation of a node's ChainActor.
    pub fn restored(&mut self, node: u8) {
        self.nodes.remove(&node);
    }

    /// Records a signature of a node.
    pub fn signed(&mut self, at_ms: u64, node: u8, target: &VoteTarget) {
        if target.kind == VoteKind::Approval {
            let incarnation = self.nodes.entry(node).or_default();
            if incarnation.approved.insert(target.hash) {
                for kind in [VoteKind::Approval, VoteKind::Confirmation] {
                    incarnation.reach(self.quorum, at_ms, VoteTarget { kind, ..*target });
                }
            }
        }
    }

    /// Records a vote that a node counts. `is_recent`: its slot is one of the latest.
    pub fn counts(
        &mut self,
        at_ms: u64,
        node: u8,
        target: &VoteTarget,
        signer: u8,
        set_hash: Hash,
        is_recent: bool,
    ) {
        let first = *self.set_hash.get_or_insert(set_hash);
        if !is_recent || set_hash != first || self.faulty.contains(&signer) {
            return;
        }
        let incarnation = self.nodes.entry(node).or_default();
        let signers = incarnation
            .signers
            .entry((target.kind, target.hash))
            .or_default();
        if signers.insert(signer) {
            incarnation.reach(self.quorum, at_ms, *target);
        }
    }

    /// Checks a node's summary, which was requested at `asked_ms`.
    ///
    /// # Errors
    /// [`Violation::QuorumIgnored`].
    pub fn stands(&mut self, asked_ms: u64, node: u8, summary: &Summary) -> Result<(), Violation> {
        let Some(incarnation) = self.nodes.get_mut(&node) else {
            return Ok(());
        };
        let reached = |kind| match kind {
            VoteKind::Confirmation => summary.finalized.slot.0,
            VoteKind::Approval | VoteKind::Proposal => summary.highest.slot.0,
        };
        incarnation.due.retain(|due| reached(due.kind) < due.slot);
        match incarnation.due.iter().find(|due| due.at_ms < asked_ms) {
            None => Ok(()),
            Some(due) => Err(Violation::QuorumIgnored {
                node: node + 1,
                kind: format!("{:?}", due.kind).to_lowercase(),
                slot: due.slot,
                reached: reached(due.kind),
            }),
        }
    }
}

impl Incarnation {
    /// Notes the demand if the node has counted a quorum for a block that it approved.
    fn reach(&mut self, quorum: usize, at_ms: u64, target: VoteTarget) {
        let signers = self.signers.get(&(target.kind, target.hash));
        let has_quorum = signers.is_some_and(|signers| signers.len() >= quorum);
        if has_quorum && self.approved.contains(&target.hash) {
            self.due.push(Due {
                at_ms,
                kind: target.kind,
                slot: target.slot.0,
            });
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::invariants::blocks::tests::plan;
    use alys_consensus::{BlockRef, VoteState};
    use alys_types::{Height, Slot};

    fn vote(kind: VoteKind, slot: u64) -> VoteTarget {
        VoteTarget {
            kind,
            height: Height(1),
            slot: Slot(slot),
            hash: Hash([slot as u8; 32]),
        }
    }

    /// The summary of a node with the slots of its highest certified and its last final block.
    pub fn summary(highest: u64, last: u64) -> Summary {
        let block = |slot| BlockRef {
            slot: Slot(slot),
            hash: Hash::ZERO,
        };
        Summary {
            highest: block(highest),
            highest_height: Height(1),
            finalized: block(last),
            final_height: Height(1),
            pow_final_height: Height(0),
            head: Hash::ZERO,
            head_height: Height(1),
            votes: VoteState::fresh(block(last)),
            silent: false,
            clock_trusted: true,
            synced: true,
            entries: 1,
        }
    }

    /// Counts votes of signers 0.. of a block of slot 7 that the node approves first.
    fn counted(kind: VoteKind, signers: u8, is_recent: bool) -> Quorums {
        let mut quorums = Quorums::new(&plan());
        quorums.signed(5, 0, &vote(VoteKind::Approval, 7));
        for signer in 0..signers {
            quorums.counts(10, 0, &vote(kind, 7), signer, Hash::ZERO, is_recent);
        }
        quorums
    }

    #[test]
    fn a_quorum_of_votes_makes_a_certificate_at_once() {
        let approval = VoteKind::Approval;
        let confirmation = VoteKind::Confirmation;
        // Kind, signers, recent; highest and final slot of the next summary; the verdict.
        let table = [
            (approval, 3, true, 7, 0, true),
            (approval, 3, true, 6, 6, false),
            (approval, 2, true, 6, 6, true),
            (approval, 3, false, 6, 6, true),
            (confirmation, 3, true, 7, 7, true),
            (confirmation, 3, true, 7, 6, false),
            (confirmation, 3, true, 9, 9, true),
        ];
        for (row, (kind, signers, is_recent, highest, last, is_good)) in table.iter().enumerate() {
            let mut quorums = counted(*kind, *signers, *is_recent);
            let judged = quorums.stands(11, 0, &summary(*highest, *last));
            assert_eq!(judged.is_ok(), *is_good, "row {row}: {judged:?}");
        }
        let behind = summary(6, 6);
        let mut quorums = counted(approval, 3, true);
        assert_eq!(quorums.stands(10, 0, &behind), Ok(()), "asked before");
        let ignored = Violation::QuorumIgnored {
            node: 1,
            kind: "approval".to_owned(),
            slot: 7,
            reached: 6,
        };
        assert_eq!(quorums.stands(11, 0, &behind), Err(ignored));
        quorums.restored(0);
        assert_eq!(
            quorums.stands(11, 0, &behind),
            Ok(()),
            "another incarnation"
        );
    }

    #[test]
    fn votes_of_blocks_that_the_node_does_not_have_demand_nothing() {
        let mut quorums = Quorums::new(&plan());
        let behind = summary(6, 6);
        for signer in 0..3 {
            let confirmation = vote(VoteKind::Confirmation, 7);
            quorums.counts(10, 0, &confirmation, signer, Hash::ZERO, true);
        }
        assert_eq!(quorums.stands(11, 0, &behind), Ok(()));
        quorums.signed(12, 0, &vote(VoteKind::Approval, 7));
        assert!(quorums.stands(13, 0, &behind).is_err(), "it has it now");
    }
}
