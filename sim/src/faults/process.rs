//! Faults that happen in steps of their own: clocks that step over the edge of a slot and back, nodes that are clogged and
//! released one by one, processes that die again while they recover, networks that are split between twins.

use std::collections::BTreeSet;
use std::time::Duration;

use alys_runtime::sim::NodeId;
use alys_runtime::{spawn, time};

use super::Faults;
use super::{Machine, Way};
use crate::cluster::{Authority, Seat, node_ip, now_ms};
use crate::params::Conduct;

/// For how many slots twins keep the same part of the others, at least, and how many more at most.
const SPLIT_SLOTS: (u64, u64) = (2, 6);

impl Faults {
    /// Splits the others between the two nodes of a twin, again and again until everything heals: each sees a part of the
    /// network, and no correct node sees both.
    pub fn split_twins(&self, seat: Seat, twin: Authority) {
        let faults = self.clone();
        faults.look().twins.extend([twin.node, twin.client]);
        spawn("twins", async move {
            loop {
                let (sides, ms) = {
                    let mut inner = faults.look();
                    let others = (0..inner.plan.nodes).filter(|other| *other != seat.index);
                    let others: Vec<u8> = others.collect();
                    let sides: Vec<(u8, bool)> = others
                        .into_iter()
                        .map(|other| (other, inner.rng.below(2) == 0))
                        .collect();
                    let slots = SPLIT_SLOTS.0 + inner.rng.below(SPLIT_SLOTS.1 + 1);
                    (sides, slots * inner.slots.slot_ms)
                };
                faults.cut_sides(seat, &sides, true);
                faults.count(Conduct::Twins.counter());
                if !faults.until(now_ms(faults.world()) + ms).await {
                    return;
                }
                faults.cut_sides(seat, &sides, false);
            }
        });
    }

    /// Cuts each of the others from one of the twins, or joins them again.
    fn cut_sides(&self, seat: Seat, sides: &[(u8, bool)], on: bool) {
        let links = &mut self.look().links;
        for (other, of_twin) in sides {
            let away = Seat {
                is_twin: !of_twin,
                ..seat
            };
            links.cut_pair(away.node_ip(), node_ip(*other), on);
        }
    }

    /// Waits on the true clock, and says whether the chaos still goes on then.
    async fn until(&self, ms: u64) -> bool {
        let now = now_ms(self.world());
        time::sleep(Duration::from_millis(ms.saturating_sub(now))).await;
        !self.look().is_healed
    }

    /// A number up to `most`.
    fn drawn(&self, most: u64) -> u64 {
        self.look().rng.below(most.saturating_add(1))
    }

    /// The nodes, shuffled.
    fn shuffled(&self, nodes: &BTreeSet<u8>) -> Vec<u8> {
        let mut left: Vec<u8> = nodes.iter().copied().collect();
        let mut inner = self.look();
        let mut order = Vec::new();
        while !left.is_empty() {
            let at = inner.rng.below(left.len() as u64) as usize;
            order.push(left.swap_remove(at));
        }
        order
    }

    /// Clogs the nodes one after the other, or releases them, in an order that is drawn anew.
    pub(super) fn swizzle(&self, nodes: &BTreeSet<u8>, spread_ms: u64, on: bool) {
        let order = self.shuffled(nodes);
        let pause = spread_ms / (order.len() as u64).max(1);
        for (turn, node) in order.into_iter().enumerate() {
            let wait = turn as u64 * pause + self.drawn(pause);
            let faults = self.clone();
            spawn("swizzle", async move {
                let at = now_ms(faults.world()) + wait;
                if faults.until(at).await {
                    faults
                        .look()
                        .links
                        .clog(&BTreeSet::from([node]), Way::Both, on);
                }
            });
        }
    }

    /// Steps the clocks of nodes and clients over the next edge of a slot and back: forward shortly before it, so that the
    /// slot begins twice, or back shortly after it, so that it ends twice.
    pub(super) fn step_over_an_edge(&self, nodes: &BTreeSet<u8>, by_ms: u64, back: bool) {
        let (machines, edge) = {
            let inner = self.look();
            let (slots, now) = (inner.slots, now_ms(self.world()));
            let ends = (slots.at(now) + 1) * slots.slot_ms - slots.start_ms;
            // The next one may be nearer than half of the step.
            let edge = if ends < now + by_ms {
                ends + slots.slot_ms
            } else {
                ends
            };
            (inner.machines(nodes, Machine::Both), edge)
        };
        let (at, by) = match back {
            false => (edge - by_ms / 2, by_ms as i64),
            true => (edge + by_ms / 2, -(by_ms as i64)),
        };
        let faults = self.clone();
        spawn("clock edge", async move {
            if !faults.until(at).await {
                return;
            }
            machines
                .iter()
                .for_each(|m| faults.world().step_clock(*m, by));
            if faults.until(at + by_ms / 4).await {
                machines
                    .iter()
                    .for_each(|m| faults.world().step_clock(*m, -by));
            }
        });
    }

    /// Lets a process die, and again so many times within `within_ms` after each start, or at one of its first disk
    /// operations.
    pub(super) fn crash_again(
        &self,
        machine: NodeId,
        power: bool,
        within_ms: u64,
        operations: u64,
        times: u32,
    ) {
        /// How long the process is down between two lives.
        const DOWN_MS: u64 = 300;
        let faults = self.clone();
        spawn("crash again", async move {
            let world = faults.world();
            faults.fell(machine, power);
            for _ in 0..times {
                if !faults.until(now_ms(world) + faults.drawn(DOWN_MS)).await {
                    return;
                }
                let at_operation = operations > 0 && faults.drawn(1) == 0;
                if at_operation {
                    world.power_off_at_operation(machine, 1 + faults.drawn(operations - 1));
                }
                faults.raise(machine);
                let wait = if at_operation {
                    within_ms
                } else {
                    faults.drawn(within_ms)
                };
                if !faults.until(now_ms(world) + wait).await {
                    return;
                }
                if at_operation && !world.is_up(machine) {
                    faults.count("crashed-at-operation");
                } else {
                    faults.count("crashed-in-recovery");
                }
                // Without power the operation does not wait for a later life.
                faults.fell(machine, power || at_operation);
            }
            if faults.until(now_ms(world) + faults.drawn(DOWN_MS)).await {
                faults.raise(machine);
            }
        });
    }
}
