//! The state machines of a federation on the schedule of the fuzzer: delays, losses, partitions,
//! crashes between two effects, equivocation. Final blocks agree, no node signs twice in a slot,
//! finality advances once the faults have ended, and each signature is a step that the model in
//! `sim/model` allows.
//!
//! The world is that of the tests of the consensus crate, which draw the same choices from seeds.

#[allow(
    dead_code,
    reason = "the tests of the consensus crate read the reports of the world too"
)]
#[path = "../../../crates/consensus/tests/world/mod.rs"]
mod world;

use alys_consensus::BlockRef;
use alys_sim::invariants::Conformance;
use alys_sim::params::WorldPlan;
use alys_types::{FaultModel, VoteKind};
use world::{Plan, Signed};

use crate::choices::Choices;

/// Slots with faults. A decision takes two of them, so that these hold several on each branch.
const CHAOS_SLOTS: u64 = 12;
/// Slots within which finality must advance, as in the tests of the consensus crate.
const CALM_SLOTS: u64 = 40;

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (nodes, fault_model, byzantine, changes) = match choices.byte() % 5 {
        0 => (4, FaultModel::Byzantine, 1, false),
        1 => (7, FaultModel::Byzantine, 2, false),
        2 => (3, FaultModel::Crash, 0, false),
        3 => (4, FaultModel::Crash, 0, false),
        _ => (5, FaultModel::Crash, 0, true),
    };
    let plan = Plan {
        seed: choices.byte().into(),
        nodes,
        fault_model,
        byzantine,
        chaos_slots: CHAOS_SLOTS,
        calm_slots: CALM_SLOTS,
        mutant: None,
        blackout_after_lock: choices.flag(),
        changes,
        gate: 0,
        choices: choices.rest().to_vec(),
    };
    let (result, signatures) = world::run_recorded(&plan);
    if let Err(violation) = result {
        panic!("{violation:?} with {plan:?}");
    }
    // The model has one set of authorities.
    if !plan.changes {
        conform(&plan, &signatures);
    }
}

/// Checks each signature of a correct node against the model.
fn conform(plan: &Plan, signatures: &[Signed]) {
    let number = |node: usize| u8::try_from(node).expect("a federation has at most 15 nodes");
    let mut model = Conformance::new(&WorldPlan {
        nodes: number(plan.nodes),
        fault_model: plan.fault_model,
        slot_ms: world::SLOT_MS,
        ..WorldPlan::default()
    });
    for node in plan.nodes - plan.byzantine..plan.nodes {
        model.distrust(number(node));
    }
    for signed in signatures {
        let Signed {
            at_ms,
            node,
            target,
            parent,
        } = *signed;
        let node = number(node);
        let block = BlockRef {
            slot: target.slot,
            hash: target.hash,
        };
        let is_vote_for_block = target.kind != VoteKind::Confirmation;
        let known = match parent.filter(|_| is_vote_for_block) {
            Some(parent) => model.votes_for(node, block, parent),
            None => Ok(()),
        };
        let allowed = known.and_then(|()| model.signed(at_ms, node, &target));
        if let Err(violation) = allowed {
            panic!("{violation:?} with {plan:?}");
        }
    }
}
