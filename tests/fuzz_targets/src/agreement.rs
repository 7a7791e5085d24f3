//! The state machines of a federation on the schedule of the fuzzer: delays, losses, partitions,
//! crashes between two effects, equivocation. Final blocks agree, nobody signs twice in a slot, and
//! finality goes on once the faults have ended.
//!
//! The world is that of the tests of the consensus crate, which draw the same choices from seeds.

#[allow(
    dead_code,
    reason = "the tests of the consensus crate read the reports of the world too"
)]
#[path = "../../../crates/consensus/tests/world/mod.rs"]
mod world;

use alys_types::FaultModel;
use world::Plan;

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
        choices: choices.rest().to_vec(),
    };
    if let Err(violation) = world::run(&plan) {
        panic!("{violation:?} with {plan:?}");
    }
}
