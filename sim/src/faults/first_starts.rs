//! Faults at the first starts of nodes, while keys, markers, genesis and the vote state are
//! written. They are part of the world, because a step begins after the first start.

use std::time::Duration;

use alys_runtime::{spawn, time};

use super::Faults;
use crate::params::FirstStart;

/// Time within which the operation of a first start comes. A fault that is still pending then is
/// cancelled, and a machine without power is started again.
const PENDING: Duration = Duration::from_millis(1_000);

impl Faults {
    /// Sets the faults of first starts. To be called before any process has run.
    pub fn strike_first_starts(&self) {
        for first in self.plan.first_starts.clone() {
            let index = usize::from(first.node.saturating_sub(1));
            let Some(authority) = self.authorities.get(index) else {
                continue;
            };
            let machine = authority.node;
            if first.fails {
                self.world.fail_operation(machine, first.operation);
            } else {
                self.world.power_off_at_operation(machine, first.operation);
            }
            let faults = self.clone();
            spawn("first start", async move {
                time::sleep(PENDING).await;
                let mut pending = faults.world.disk_faults(machine);
                let is_pending = pending.power_loss_in.take().is_some();
                let is_pending = pending.failure_in.take().is_some() || is_pending;
                if is_pending {
                    faults.world.set_disk_faults(machine, pending);
                } else {
                    faults.count(counter(first));
                }
                if !faults.world.is_up(machine) {
                    faults.respawn(machine);
                }
            });
        }
    }
}

/// The counter of a fault that had its effect.
fn counter(first: FirstStart) -> &'static str {
    if first.fails {
        "first-start-failed"
    } else {
        "first-start-cut"
    }
}
