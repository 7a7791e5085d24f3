//! The start of the miners.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use alys_runtime::sim::World;

use crate::invariants::Judge;
use crate::plan::Plan;
use crate::workload::miners;

/// The miners of the workload, each on a machine of its own. They mine until the end of the run,
/// because a chain with a gate needs them.
pub(super) struct Miners {
    /// True once the faults have ended.
    pub(super) is_healed: Arc<AtomicBool>,
}

impl Miners {
    pub(super) fn start(world: World, plan: &Plan, judge: &Judge) -> Self {
        let is_healed = Arc::new(AtomicBool::new(false));
        for (index, of_plan) in (0..).zip(&plan.workload.miners) {
            let name = format!("miner{}", index + 1);
            let machine = world.node(&name, miners::machine(index), std::future::pending);
            world.exempt_from_buggify(machine);
            let named = of_plan.nodes.iter().map(|number| number.saturating_sub(1));
            let nodes = if of_plan.nodes.is_empty() {
                (0..plan.world.nodes).collect()
            } else {
                named.collect()
            };
            let miner = miners::Miner {
                index,
                plan: of_plan.clone(),
                nodes,
                slot_ms: plan.world.slot_ms,
                rng: world.rng(&format!("miner {index}")),
                judge: judge.clone(),
                is_healed: is_healed.clone(),
                is_over: Arc::default(),
                held: Default::default(),
            };
            world.spawn_on(machine, "miner", miner.run());
        }
        Self { is_healed }
    }
}
