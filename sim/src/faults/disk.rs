//! Faults of disks.
//!
//! A node whose disk silently returns other data than it wrote can violate any rule, because it may
//! forget votes. It counts as a faulty authority, and no more of them are hit than the federation
//! tolerates. Beyond that the fault hits the disk of the execution client, whose contents the node
//! can send again, and is counted as `downgraded`. A node with an emptied disk counts as faulty
//! until it votes again, and a node with a restored disk for the rest of the run; where that is too
//! much, the disk stays as it is and the process is only killed.

use std::collections::BTreeSet;
use std::time::Duration;

use alys_runtime::sim::{Image, NodeId};
use alys_runtime::{spawn, time};
use alys_types::FaultModel;

use super::clocks::Clock;
use super::draw::{Draw, Drawing, drawing};
use super::process::Kill;
use super::registry::{Fault, Hit, Kind, Place, WrongValue, declare, default, mirrored, subject};
use super::settings::Setting;
use super::{Faults, Machine, lock};
use crate::cluster::{Authority, now_ms};
use crate::events::Announcement;
use crate::params::{MachineRole, Ms, SignedMs, When};

subject![
    Wipe,
    Restore,
    SlowDisk,
    FailSyncs,
    FailReads,
    FailWrites,
    FullDisk,
    Rot,
    MisdirectWrites,
    StaleReads,
    PowerAtOperation,
];

/// Most bits that one step may flip.
const MAX_BITS: u32 = 1_000_000;
/// Bytes in the unit of plans.
const KBYTE: i64 = 1024;
/// Milliseconds after the end of the chaos during which processes may still report their damaged
/// disks, and end because of them.
const EXCUSED_MS: u64 = 10_000;

/// Machines and authorities that are exempt from some invariants.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Machines of the second nodes of twin authorities.
    pub(super) twins: BTreeSet<NodeId>,
    /// Machines whose disks were made to fail; their processes are expected to report it.
    pub(super) damaged: BTreeSet<NodeId>,
    /// Authorities that count as faulty because their disks or execution clients lie.
    distrusted: BTreeSet<u8>,
}

impl Faults {
    /// Corrupts the disks of the nodes as far as the federation tolerates, and those of the
    /// execution clients.
    fn corrupt(&self, hit: &Hit, machine: Machine, harm: impl Fn(NodeId)) {
        for authority in self.authorities(hit) {
            let hits_node = machine.includes_node() && self.may_distrust(authority.index);
            if hits_node {
                self.judge.look().distrust(authority.index);
            }
            let is_downgraded = machine == Machine::Node && !hits_node;
            let instead = if is_downgraded {
                Machine::Execution
            } else {
                machine
            };
            let roles = instead.roles().iter();
            for role in roles.filter(|role| hits_node || **role != MachineRole::Node) {
                harm(authority.machine(*role));
            }
        }
    }

    /// Marks the authority as faulty if the federation tolerates it. False if it does not.
    pub(super) fn may_distrust(&self, node: u8) -> bool {
        let may = self.may_be_faulty(node);
        if may {
            lock(&self.trust).distrusted.insert(node);
        } else {
            self.count("downgraded");
        }
        may
    }

    /// True if the federation tolerates this authority as a faulty one besides the others:
    /// Byzantine ones of the plan, those left dead, those with lying disks or execution clients,
    /// and those with lost vote state. The limit also keeps every final block on the disk of a
    /// correct authority, because an authority that votes again has caught up.
    fn may_be_faulty(&self, node: u8) -> bool {
        let lost = self.judge.look().votes.lost();
        let mut faulty: BTreeSet<u8> = self.plan.suspects();
        faulty.extend(lock(&self.recovery).left_dead.iter());
        faulty.extend(&lock(&self.trust).distrusted);
        faulty.extend(lost);
        faulty.insert(node);
        faulty.len() <= self.plan.tolerated()
    }

    /// Replaces a disk that lies, as an operator does. True if it did; the process is down then.
    pub(super) fn replace_lying_disk(&self, machine: NodeId) -> bool {
        if !self.world.disk_damage(machine).is_silent() {
            return false;
        }
        self.world.kill(machine);
        lock(&self.trust).damaged.insert(machine);
        self.world.wipe_disk(machine);
        self.count("operator.replaced-disk");
        true
    }

    /// True if the machine's disk was made to fail during the chaos, or its process belongs to a
    /// Byzantine authority. Damage is no excuse from [`EXCUSED_MS`] after the end of the chaos on.
    pub fn is_damaged(&self, machine: NodeId) -> bool {
        let healed_ms = lock(&self.recovery).healed_ms;
        let is_sound = healed_ms.is_some_and(|ms| now_ms(self.world) > ms + EXCUSED_MS);
        let trust = lock(&self.trust);
        let was_hit = self.world.disk_damage(machine).is_any() || trust.damaged.contains(&machine);
        let of_byzantine = |a: &Authority| a.node == machine && self.plan.is_byzantine(a.index);
        was_hit && !is_sound
            || trust.twins.contains(&machine)
            || self.authorities.iter().any(of_byzantine)
    }
}

declare! {
    "wipe":
        "The process is killed and its disk is emptied. A node counts as faulty until it votes \
        again."
    Wipe {
        #[serde(default)]
        pub machine: Machine,
    }
}

impl Kind for Wipe {
    const EFFECTS: &'static [&'static str] = &["disk.wiped"];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(41, "wiped-disk", "A disk is emptied.", |draw| {
            let machine = draw.machine();
            draw.push_as_drawn(Wipe { machine });
        }),
        drawing(
            42,
            "stale-clock-after-wipe",
            "A disk is emptied, and the clock is far behind at the next start.",
            |draw| {
                let slot_ms = draw.slot_ms();
                // The node has a number so that both steps hit the same one. The clock steps while
                // the process is down.
                let nodes = draw.numbered();
                let offset_ms = draw.below(slot_ms);
                let behind_ms = draw.between(5 * slot_ms, 40 * slot_ms);
                let down_ms = draw.between(slot_ms, 4 * slot_ms);
                let machine = Machine::Node;
                draw.push(draw.at(offset_ms), down_ms, nodes.clone(), Wipe { machine });
                let by = SignedMs(-(behind_ms as i64));
                let clock = Clock { by };
                let at = draw.at(offset_ms + down_ms / 2);
                draw.push(at, down_ms / 2 + draw.lasts_ms, nodes, clock);
            },
        ),
    ];

    /// Execution clients need no check because their nodes send them everything again.
    fn begin(&self, faults: &Faults, hit: &Hit) {
        for authority in faults.authorities(hit) {
            let node = authority.index;
            let is_allowed = !self.machine.includes_node() || faults.may_be_faulty(node);
            for machine in self.machine.of(&authority) {
                faults.take_down(machine, !is_allowed);
                if is_allowed {
                    faults.world.wipe_disk(machine);
                }
            }
            if !is_allowed {
                faults.count("downgraded.wipe");
            } else if self.machine.includes_node() {
                faults.judge.look().lost_votes(node);
            }
        }
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        for machine in faults.machines(hit, self.machine) {
            faults.bring_up(machine);
        }
    }
}

declare! {
    "restore":
        "The process is killed, and its disk is restored to its state `age` earlier. A node counts \
        as faulty until it votes again."
    Restore {
        #[serde(default)]
        pub machine: Machine,
        pub age: Ms,
        #[serde(default = "default::half_a_second")]
        pub down: Ms,
    }
}

impl Restore {
    /// Restores the images. In the crash model a restored node would contradict itself before
    /// another node could correct it, so the disk stays as it is.
    async fn put_back(self, faults: Faults, node: u8, images: Vec<(NodeId, Image)>) {
        let world = faults.world;
        time::sleep(Duration::from_millis(self.age.0)).await;
        if faults.is_healed() {
            return;
        }
        let is_crash_model = faults.plan.fault_model == FaultModel::Crash;
        let is_allowed =
            !self.machine.includes_node() || !is_crash_model && faults.may_distrust(node);
        let machines: Vec<NodeId> = images.iter().map(|(machine, _)| *machine).collect();
        for (machine, image) in images {
            faults.take_down(machine, false);
            if is_allowed {
                world.restore_disk(machine, image);
            }
        }
        if !is_allowed {
            faults.count("downgraded.restore");
        } else if self.machine.includes_node() {
            faults.judge.look().put_back(node);
        }
        let restored = Announcement::DiskRestored {
            node: format!("node{}", node + 1),
        };
        restored.announce(world);
        time::sleep(Duration::from_millis(self.down.0)).await;
        for machine in machines {
            faults.bring_up(machine);
        }
    }
}

impl Kind for Restore {
    const EFFECTS: &'static [&'static str] = &["disk.restored"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        43,
        "restored-disk",
        "A disk is restored to an earlier state.",
        |draw| {
            let slot_ms = draw.slot_ms();
            let machine = draw.machine();
            let age = draw.ms_between(slot_ms / 2, 6 * slot_ms);
            let down = draw.ms_between(10, 2 * slot_ms);
            draw.push_for(0, Restore { machine, age, down });
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for authority in faults.authorities(hit) {
            let machines = self.machine.of(&authority).into_iter();
            let images = machines.map(|m| (m, faults.world.disk_image(m))).collect();
            let restore = self
                .clone()
                .put_back(faults.clone(), authority.index, images);
            spawn("restore", restore);
        }
    }
}

declare! {
    "slow-disk": "Each sync takes `delay` longer."
    SlowDisk {
        #[serde(default)]
        pub machine: Machine,
        pub delay: Ms,
    }
}

impl SlowDisk {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let delay = on.then_some(self.delay.0.cast_signed());
        faults.set_all(hit, self.machine, Setting::SyncDelay, delay);
    }
}

impl Kind for SlowDisk {
    const EFFECTS: &'static [&'static str] = &["disk.slow"];
    const DRAWINGS: &'static [Drawing] = &[drawing(18, "slow-disk", "Syncs are slow.", |draw| {
        let machine = draw.machine();
        let delay = draw.ms_between(1, draw.slot_ms() / 3);
        draw.push_as_drawn(SlowDisk { machine, delay });
    })];

    mirrored! {}
}

declare! {
    "fail-syncs": "The next `count` syncs fail, and their data may or may not be on disk."
    FailSyncs {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl FailSyncs {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = on.then_some(self.count.into());
        faults.set_all(hit, self.machine, Setting::FailingSyncs, count);
    }
}

impl Kind for FailSyncs {
    const EFFECTS: &'static [&'static str] = &["disk.sync_failed"];
    const DRAWINGS: &'static [Drawing] = &[drawing(19, "failing-syncs", "Syncs fail.", |draw| {
        let machine = draw.machine();
        let count = draw.count(1, 4);
        draw.push_as_drawn(FailSyncs { machine, count });
    })];

    mirrored! {}
}

declare! {
    "fail-reads": "The next `count` reads of a disk fail."
    FailReads {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl FailReads {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = on.then_some(self.count.into());
        faults.set_all(hit, self.machine, Setting::FailingReads, count);
    }
}

impl Kind for FailReads {
    const EFFECTS: &'static [&'static str] = &["disk.read_failed"];
    const DRAWINGS: &'static [Drawing] = &[drawing(47, "failing-reads", "Reads fail.", |draw| {
        let machine = draw.machine();
        let count = draw.count(1, 10);
        with_a_restart(draw, machine, FailReads { machine, count });
    })];

    mirrored! {}
}

declare! {
    "fail-writes": "The next `count` writes to a disk fail and write nothing."
    FailWrites {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl FailWrites {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = on.then_some(self.count.into());
        faults.set_all(hit, self.machine, Setting::FailingWrites, count);
    }
}

impl Kind for FailWrites {
    const EFFECTS: &'static [&'static str] = &["disk.write_failed"];
    const DRAWINGS: &'static [Drawing] = &[drawing(48, "failing-writes", "Writes fail.", |draw| {
        let machine = draw.machine();
        let count = draw.count(1, 10);
        draw.push_as_drawn(FailWrites { machine, count });
    })];

    mirrored! {}
}

declare! {
    "full-disk":
        "The disk has room for `free_kbytes` more. Overwriting also uses room, because the file \
        system writes changes elsewhere."
    FullDisk {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default)]
        pub free_kbytes: u32,
    }
}

impl FullDisk {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let free = on.then_some(i64::from(self.free_kbytes) * KBYTE);
        faults.set_all(hit, self.machine, Setting::RoomToWrite, free);
    }
}

impl Kind for FullDisk {
    const EFFECTS: &'static [&'static str] = &["disk.full"];
    const DRAWINGS: &'static [Drawing] = &[drawing(49, "full-disk", "A disk is full.", |draw| {
        let machine = draw.machine();
        let free_kbytes = draw.pick(&[0, 4, 64, 512]);
        draw.push_as_drawn(FullDisk {
            machine,
            free_kbytes,
        });
    })];

    mirrored! {}
}

/// Adds a fault of a disk, and in every second case a restart during it, because a running process
/// has most of its data in memory.
fn with_a_restart(draw: &mut Draw<'_>, machine: Machine, fault: impl Into<Fault>) {
    let slot_ms = draw.slot_ms();
    let for_ms = draw.lasts_ms;
    let nodes = draw.numbered();
    let at_ms = draw.below(slot_ms);
    let later_ms = draw.between(1, for_ms.max(1));
    draw.push(draw.at(at_ms), for_ms + slot_ms, nodes.clone(), fault);
    if draw.flip() {
        let power = draw.flip();
        let down_ms = draw.between(10, slot_ms);
        let slot = draw.slot + later_ms / slot_ms;
        let at = When::Slot(slot, at_ms.max(later_ms % slot_ms));
        draw.push(at, down_ms, nodes, Kill { machine, power });
    }
}

declare! {
    "rot":
        "The disk flips `bits` bits of its stored data. A node counts as faulty then; if the \
        federation does not tolerate that, the disk of its execution client is hit instead."
    Rot {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default = "default::one")]
        pub bits: u32,
    }
}

impl Kind for Rot {
    const EFFECTS: &'static [&'static str] = &["disk.rotten_bits"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        44,
        "rotten-disk",
        "Bits of the data on a disk flip.",
        |draw| {
            let machine = draw.machine();
            let bits = draw.pick(&[1, 10, 100, 10_000]);
            with_a_restart(draw, machine, Rot { machine, bits });
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        if self.bits <= MAX_BITS {
            return Ok(());
        }
        Err((
            "bits",
            format!("bits: at most {MAX_BITS}, found {}", self.bits),
        ))
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.corrupt(hit, self.machine, |machine| {
            faults.world.rot_disk(machine, self.bits);
        });
    }
}

declare! {
    "misdirect-writes":
        "The next `count` writes go to another position of their file. A node counts as faulty \
        then; if the federation does not tolerate that, the disk of its execution client is hit \
        instead."
    MisdirectWrites {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl Kind for MisdirectWrites {
    const EFFECTS: &'static [&'static str] = &["disk.misdirected"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        45,
        "misdirected-writes",
        "Writes go to a wrong position.",
        |draw| {
            let machine = draw.machine();
            let count = draw.count(1, 20);
            with_a_restart(draw, machine, MisdirectWrites { machine, count });
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.corrupt(hit, self.machine, |machine| {
            faults.set(
                hit,
                machine,
                Setting::MisdirectedWrites,
                Some(self.count.into()),
            );
        });
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.set_all(hit, Machine::All, Setting::MisdirectedWrites, None);
    }
}

declare! {
    "stale-reads":
        "The next `count` reads return the content from before the last sync. A node counts as \
        faulty then; if the federation does not tolerate that, the disk of its execution client is \
        hit instead."
    StaleReads {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl Kind for StaleReads {
    const EFFECTS: &'static [&'static str] = &["disk.stale_reads"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        46,
        "stale-reads",
        "Reads return outdated content.",
        |draw| {
            let machine = draw.machine();
            let count = draw.count(1, 20);
            with_a_restart(draw, machine, StaleReads { machine, count });
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.corrupt(hit, self.machine, |machine| {
            faults.set(hit, machine, Setting::StaleReads, Some(self.count.into()));
        });
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.set_all(hit, Machine::All, Setting::StaleReads, None);
    }
}

declare! {
    "power-at-operation":
        "The machine loses its power in place of its disk operation number `operation`, counted \
        from the beginning of the fault."
    PowerAtOperation {
        #[serde(default)]
        pub machine: Machine,
        pub operation: u64,
    }
}

impl Kind for PowerAtOperation {
    const EFFECTS: &'static [&'static str] = &["disk.power_off_at_operation"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        20,
        "power-at-operation",
        "The power fails at a disk operation.",
        |draw| {
            let machine = draw.machine();
            let operation = draw.between(1, 60);
            draw.push_as_drawn(PowerAtOperation { machine, operation });
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for machine in faults.machines(hit, self.machine) {
            faults.hold_down(machine);
            let operation = self.operation.max(1).cast_signed();
            faults.set(hit, machine, Setting::PowerLoss, Some(operation));
        }
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        for machine in faults.machines(hit, self.machine) {
            // The operation may never have happened, so the power-off is cancelled.
            faults.set(hit, machine, Setting::PowerLoss, None);
            faults.bring_up(machine);
        }
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    let machine = Machine::Node;
    vec![
        Row::lasting(
            Wipe {
                machine: Machine::Execution,
            },
            &["execution2: down"],
        ),
        Row::passing(
            Restore {
                machine: Machine::Execution,
                age: Ms(300),
                down: Ms(1_000),
            },
            900,
            &["execution2: down"],
        ),
        Row::lasting(
            SlowDisk {
                machine,
                delay: Ms(30),
            },
            &["node2: up, SyncDelay 30"],
        ),
        Row::lasting(
            FailSyncs { machine, count: 2 },
            &["node2: up, FailingSyncs 2"],
        ),
        Row::lasting(
            FailReads { machine, count: 3 },
            &["node2: up, FailingReads 3"],
        ),
        Row::lasting(
            FailWrites { machine, count: 4 },
            &["node2: up, FailingWrites 4"],
        ),
        Row::lasting(
            FullDisk {
                machine,
                free_kbytes: 0,
            },
            &["node2: up, RoomToWrite 0"],
        ),
        Row::passing(Rot { machine, bits: 3 }, 1, &["node2: up, rotten 3"])
            .leaving(&["node2: up, rotten 3"]),
        Row::lasting(
            MisdirectWrites { machine, count: 5 },
            &["node2: up, MisdirectedWrites 5"],
        ),
        Row::lasting(
            StaleReads { machine, count: 6 },
            &["node2: up, StaleReads 6"],
        ),
        Row::lasting(
            PowerAtOperation {
                machine,
                operation: 7,
            },
            &["node2: up, PowerLoss 7"],
        ),
    ]
}
