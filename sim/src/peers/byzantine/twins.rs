//! Twins: two running nodes with one authority's key, each connected to a part of the others. Every
//! correct node sees one of the two.

use alys_runtime::sim::World;
use alys_runtime::spawn;

use crate::cluster::{Authority, Seat, node_ip};
use crate::faults::Faults;
use crate::params::{Conduct, MachineRole, WorldPlan};

/// Slots between two splits: the minimum, and the most that are added to it.
const SPLIT_SLOTS: (u64, u64) = (2, 6);

/// Splits the other nodes between the two twins, with a new random split every few slots, until
/// everything heals. No correct node is connected to both twins at a time.
pub fn split(faults: &Faults, plan: &WorldPlan, seat: Seat, twin: Authority) {
    faults.add_twin(twin);
    let faults = faults.clone();
    let others: Vec<u8> = (0..plan.nodes)
        .filter(|other| *other != seat.index)
        .collect();
    let slot_ms = plan.slot_ms;
    let mut rng = World::current().rng(&format!("twins {}", seat.index));
    spawn("twins", async move {
        loop {
            let mut side = |other: &u8| (*other, rng.below(2) == 0);
            let sides: Vec<(u8, bool)> = others.iter().map(&mut side).collect();
            let slots = SPLIT_SLOTS.0 + rng.below(SPLIT_SLOTS.1 + 1);
            cut_sides(&faults, seat, &sides, true);
            faults.count(Conduct::Twins.counter());
            if !faults.wait(slots * slot_ms).await {
                return;
            }
            cut_sides(&faults, seat, &sides, false);
        }
    });
}

/// Cuts each other node from one of the twins, or reconnects it.
fn cut_sides(faults: &Faults, seat: Seat, sides: &[(u8, bool)], on: bool) {
    for (other, of_twin) in sides {
        let away = Seat {
            is_twin: !of_twin,
            ..seat
        };
        faults.cut_pair(away.ip(MachineRole::Node), node_ip(*other), on);
    }
}
