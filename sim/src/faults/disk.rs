//! Disks that are emptied or put back to what they were. A node whose vote state is lost counts as faulty until it votes
//! again, and one whose disk was put back for the rest of the run, though it is judged again once it votes: a fault that
//! would leave less than a quorum of others, or that the fault model rules out, is downgraded to a crash, and counted as such.

use std::collections::BTreeSet;
use std::time::Duration;

use alys_runtime::{spawn, time};
use alys_types::FaultModel;

use crate::events::Announcement;

use super::Faults;
use super::Machine;

impl Faults {
    /// Empties disks while their processes are down. Execution clients get everything back from their nodes.
    pub(super) fn wipe(&self, nodes: &BTreeSet<u8>, machine: Machine) {
        for node in nodes {
            let is_allowed = machine == Machine::Client || self.may_be_faulty(*node);
            let machines = self.look().machines(&BTreeSet::from([*node]), machine);
            for machine in machines {
                self.fell(machine, !is_allowed);
                if is_allowed {
                    self.world().wipe_disk(machine);
                }
            }
            match (is_allowed, machine) {
                (false, _) => self.count("downgraded.wipe"),
                (true, Machine::Client) => {}
                (true, Machine::Node | Machine::Both) => self.judge().look().lost_votes(*node),
            }
        }
    }

    /// Keeps an image of each disk, and puts it back `age_ms` later. A node of the crash model would contradict itself
    /// before anybody could tell it: there the disk stays as it is.
    pub(super) fn restore(
        &self,
        nodes: &BTreeSet<u8>,
        machine: Machine,
        age_ms: u64,
        down_ms: u64,
    ) {
        for node in nodes.iter().copied() {
            let machines = self.look().machines(&BTreeSet::from([node]), machine);
            let images: Vec<_> = machines
                .iter()
                .map(|m| (*m, self.world().disk_image(*m)))
                .collect();
            let faults = self.clone();
            spawn("restore", async move {
                let world = faults.world();
                time::sleep(Duration::from_millis(age_ms)).await;
                if faults.look().is_healed {
                    return;
                }
                let is_crash_model = faults.look().plan.fault_model == FaultModel::Crash;
                let is_allowed =
                    machine == Machine::Client || !is_crash_model && faults.may_distrust(node);
                for (machine, image) in images {
                    faults.fell(machine, false);
                    if is_allowed {
                        world.restore_disk(machine, image);
                    }
                }
                match (is_allowed, machine) {
                    (false, _) => faults.count("downgraded.restore"),
                    (true, Machine::Client) => {}
                    (true, Machine::Node | Machine::Both) => faults.judge().look().put_back(node),
                }
                let restored = Announcement::DiskRestored {
                    node: format!("node{}", node + 1),
                };
                restored.announce(world);
                time::sleep(Duration::from_millis(down_ms)).await;
                machines.iter().for_each(|m| faults.raise(*m));
            });
        }
    }
}
