//! Disks that lie, fail or are full, and execution clients that do.
//!
//! A node whose disk gave it something else than it wrote, without an error, may do anything: it has forgotten votes, or
//! will. So it counts as a faulty authority, and no more of them are hit than the federation tolerates; what is beyond that
//! hits the execution client's disk instead, which holds nothing that its node could not send again, and is counted as
//! `downgraded`. An authority whose client calls valid payloads invalid counts in the same way.

use std::collections::BTreeSet;

use alys_integrations::embedded::ExecutionFaults;
use alys_runtime::sim::NodeId;

use super::Faults;
use super::{Fault, Machine};
use crate::cluster::Authority;
use crate::params::{Ms, SignedMs};

/// Bytes in the unit of plans.
const KBYTE: u64 = 1024;

impl Faults {
    /// Begins a fault of disks or clients, or ends it.
    pub(super) fn damage(&self, fault: &Fault, nodes: &BTreeSet<u8>, on: bool) {
        let world = self.world;
        let machines = |machine: &Machine| self.look().machines(nodes, *machine);
        let count = |count: &u32| if on { *count } else { 0 };
        match fault {
            Fault::Rot { machine, bits } if on => {
                self.silently(nodes, *machine, |m| {
                    world.rot_disk(m, *bits);
                });
            }
            Fault::MisdirectWrites { machine, count } if on => {
                self.silently(nodes, *machine, |m| world.misdirect_writes(m, *count));
            }
            Fault::StaleReads { machine, count } if on => {
                self.silently(nodes, *machine, |m| world.make_reads_stale(m, *count));
            }
            Fault::Rot { .. } => {}
            Fault::MisdirectWrites { .. } => {
                machines(&Machine::Both)
                    .into_iter()
                    .for_each(|m| world.misdirect_writes(m, 0));
            }
            Fault::StaleReads { .. } => {
                machines(&Machine::Both)
                    .into_iter()
                    .for_each(|m| world.make_reads_stale(m, 0));
            }
            Fault::FailReads { machine, count: n } => {
                machines(machine)
                    .into_iter()
                    .for_each(|m| world.fail_reads(m, count(n)));
            }
            Fault::FailWrites { machine, count: n } => {
                machines(machine)
                    .into_iter()
                    .for_each(|m| world.fail_writes(m, count(n)));
            }
            Fault::FullDisk {
                machine,
                free_kbytes,
            } => {
                let free = on.then_some(u64::from(*free_kbytes) * KBYTE);
                machines(machine)
                    .into_iter()
                    .for_each(|m| world.set_room_to_write(m, free));
            }
            Fault::ClientSyncing {} => self.bend(nodes, |faults| faults.is_syncing = on),
            Fault::ClientForgets { count: n } => {
                self.bend(nodes, |faults| faults.forgotten_forkchoices = count(n))
            }
            Fault::ClientLate { delay: Ms(ms) } => {
                let late = std::time::Duration::from_millis(if on { *ms } else { 0 });
                self.bend(nodes, |faults| faults.answer_delay = late);
            }
            Fault::ClientTwice { count: n } => {
                self.bend(nodes, |faults| faults.repeated_calls = count(n))
            }
            Fault::ClientHangsUp { count: n } => {
                self.bend(nodes, |faults| faults.lost_answers = count(n))
            }
            Fault::ClientClock { by: SignedMs(ms) } => {
                let clients = machines(&Machine::Client);
                clients
                    .into_iter()
                    .for_each(|m| world.step_clock(m, if on { *ms } else { -ms }));
            }
            Fault::ClientInvalid { count: n } => self.lie(nodes, *n, on),
            _ => {}
        }
    }

    fn bend(&self, nodes: &BTreeSet<u8>, change: impl Fn(&mut ExecutionFaults)) {
        let inner = self.look();
        let bends = nodes
            .iter()
            .filter_map(|node| inner.bends.get(usize::from(*node)));
        bends.for_each(|bend| change(&mut bend.lock()));
    }

    /// Clients call payloads invalid. Their nodes remember that as long as they run, so whoever runs them starts them again
    /// when the client is in order.
    fn lie(&self, nodes: &BTreeSet<u8>, count: u32, on: bool) {
        for authority in self.named(nodes) {
            let only = BTreeSet::from([authority.index]);
            match on {
                true if self.may_distrust(authority.index) => {
                    // That a certified block is called invalid is for an operator to see.
                    let mut inner = self.look();
                    inner.damaged.insert(authority.node);
                    inner.lied_to.insert(authority.node);
                    drop(inner);
                    self.bend(&only, |faults| faults.invalid_payloads = count);
                }
                true => {}
                false => {
                    self.bend(&only, |faults| faults.invalid_payloads = 0);
                    if self.look().lied_to.remove(&authority.node) {
                        self.fell(authority.node, false);
                        self.raise(authority.node);
                    }
                }
            }
        }
    }

    fn named(&self, nodes: &BTreeSet<u8>) -> Vec<Authority> {
        self.look()
            .authorities
            .iter()
            .filter(|a| nodes.contains(&a.index))
            .copied()
            .collect()
    }

    /// Has disks lie: those of the nodes as far as they may, and those of the clients.
    fn silently(&self, nodes: &BTreeSet<u8>, machine: Machine, harm: impl Fn(NodeId)) {
        for authority in self.named(nodes) {
            let hits_node = machine != Machine::Client && self.may_distrust(authority.index);
            if hits_node {
                self.judge.look().distrust(authority.index);
                harm(authority.node);
            }
            if !hits_node || machine == Machine::Both {
                harm(authority.client);
            }
        }
    }

    /// Whether this authority may be faulty, besides those that are. If so, it counts from now on.
    pub(super) fn may_distrust(&self, node: u8) -> bool {
        let may = self.may_be_faulty(node);
        let mut inner = self.look();
        match may {
            true => {
                inner.distrusted.insert(node);
            }
            false => *inner.counts.entry("downgraded").or_default() += 1,
        }
        may
    }

    /// Whether with this authority no more are faulty than the federation tolerates: by the plan, by lying disks and clients,
    /// or because their vote state is lost. That also keeps every final block on a disk of somebody else, for whoever
    /// votes again has caught up.
    pub(super) fn may_be_faulty(&self, node: u8) -> bool {
        let lost = self.judge.look().votes.lost();
        let inner = self.look();
        let mut faulty: BTreeSet<u8> = inner.plan.suspects();
        faulty.extend(
            inner
                .plan
                .left_dead
                .iter()
                .map(|number| number.saturating_sub(1)),
        );
        faulty.extend(&inner.distrusted);
        faulty.extend(lost);
        faulty.insert(node);
        faulty.len() <= inner.plan.tolerated()
    }

    /// Whoever runs the machines puts a new disk in place of one that lies. True if it did; the process is down then.
    pub(super) fn replace_lying_disk(&self, machine: NodeId) -> bool {
        if !self.world.disk_damage(machine).is_silent() {
            return false;
        }
        self.world.kill(machine);
        self.look().damaged.insert(machine);
        self.world.wipe_disk(machine);
        *self
            .look()
            .counts
            .entry("operator.replaced-disk")
            .or_default() += 1;
        true
    }

    /// All clients do as they should, and nodes that were lied to start anew.
    pub(super) fn heal_clients(&self) {
        let (bends, lied_to) = {
            let mut inner = self.look();
            (inner.bends.clone(), std::mem::take(&mut inner.lied_to))
        };
        bends
            .iter()
            .for_each(|bend| *bend.lock() = ExecutionFaults::default());
        for machine in lied_to {
            self.world.kill(machine);
        }
    }
}
