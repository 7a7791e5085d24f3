//! Faults of processes: kills, stops and pauses, and the restarts by an operating system.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_runtime::sim::NodeId;
use alys_runtime::{spawn, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::{Draw, Drawing, drawing};
use super::reactions::{React, Trigger};
use super::registry::{Hit, Kind, Place, WrongValue, declare, default, mirrored, subject, within};
use super::settings::Setting;
use super::{Faults, lock};
use crate::cluster::{Authority, now_ms};
use crate::params::{MachineRole, Ms, NodeRef, When};

subject![Kill, Stop, Pause, CrashAgain, KillAllAtHeight];

/// Delay before the operating system restarts a process that ended by itself.
const RESPAWN_DELAY: Duration = Duration::from_millis(1_000);
/// Interval between two checks if a process that was asked to stop has ended.
const STOP_POLL: Duration = Duration::from_millis(50);
/// Most deaths of a process in a row.
const MAX_CRASHES: u32 = 20;

/// The machines of an authority that a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// The machine of the node.
    #[default]
    Node,
    /// The machine of its execution client.
    Execution,
    /// All machines of the authority.
    All,
}

impl Machine {
    /// The selections, each equally likely where a drawing chooses one.
    pub const CHOICES: [Self; MachineRole::ALL.len() + 1] =
        [Self::Node, Self::Execution, Self::All];

    /// The roles of the selected machines.
    pub const fn roles(self) -> &'static [MachineRole] {
        match self {
            Self::Node => &[MachineRole::Node],
            Self::Execution => &[MachineRole::Execution],
            Self::All => &MachineRole::ALL,
        }
    }

    /// True if the machine of the node is selected.
    pub fn includes_node(self) -> bool {
        self.roles().contains(&MachineRole::Node)
    }

    /// The selected machines of an authority.
    pub fn of(self, authority: &Authority) -> Vec<NodeId> {
        let roles = self.roles().iter();
        roles.map(|role| authority.machine(*role)).collect()
    }
}

/// Effects of the active faults on processes, counted because faults overlap.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Number of faults that hold each machine down.
    down: BTreeMap<NodeId, u32>,
    /// Processes that were asked to stop and have not ended yet.
    stopping: BTreeSet<NodeId>,
    /// Number of faults that pause each process.
    paused: BTreeMap<NodeId, u32>,
    /// Time at which a process was last paused or resumed, in milliseconds.
    resumed_ms: BTreeMap<NodeId, u64>,
}

impl Processes {
    /// The time since which a process runs without a pause; `None` during a pause.
    pub(super) fn runs_since(&self, machine: NodeId) -> Option<u64> {
        let is_paused = self.paused.get(&machine).is_some_and(|count| *count > 0);
        let since_ms = self.resumed_ms.get(&machine).copied().unwrap_or(0);
        (!is_paused).then_some(since_ms)
    }

    /// Ends all effects at `now_ms`.
    pub(super) fn heal(&mut self, now_ms: u64) {
        self.paused.clear();
        self.resumed_ms.values_mut().for_each(|ms| *ms = now_ms);
        self.down.clear();
    }

    /// Holds a machine down for the rest of the run.
    pub(super) fn keep_down(&mut self, machine: NodeId) {
        self.down.insert(machine, 1);
    }

    /// True if a fault holds a machine down.
    fn is_held(&self, machine: NodeId) -> bool {
        self.down.get(&machine).is_some_and(|count| *count > 0)
    }

    /// Counts a pause, or the end of one. True once no fault pauses the process.
    fn note_pause(&mut self, machine: NodeId, on: bool, now_ms: u64) -> bool {
        let count = self.paused.entry(machine).or_default();
        *count = if on {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        let is_free = *count == 0;
        self.resumed_ms.insert(machine, now_ms);
        is_free
    }
}

impl Faults {
    /// Takes a machine down until each fault that holds it down has called [`Self::bring_up`].
    pub(super) fn take_down(&self, machine: NodeId, power: bool) {
        let at_ms = now_ms(self.world);
        self.judge.look().calm.disturbed(at_ms);
        self.hold_down(machine);
        if power {
            self.world.power_off(machine);
        } else {
            self.world.kill(machine);
        }
    }

    /// Counts a fault that holds a machine down now or soon.
    pub(super) fn hold_down(&self, machine: NodeId) {
        *lock(&self.processes).down.entry(machine).or_default() += 1;
    }

    /// Undoes one [`Self::take_down`]; the last one restarts the process.
    pub(super) fn bring_up(&self, machine: NodeId) {
        let is_free = {
            let mut processes = lock(&self.processes);
            let count = processes.down.entry(machine).or_default();
            *count = count.saturating_sub(1);
            *count == 0 && !self.is_healed()
        };
        if is_free && !self.world.is_up(machine) {
            self.restart(machine);
        }
    }

    /// Restarts a process, which ends the wait for the end of a stop.
    pub(super) fn restart(&self, machine: NodeId) {
        lock(&self.processes).stopping.remove(&machine);
        self.world.restart(machine);
    }

    /// Asks a process to stop. If it takes longer than all faults that hold it down, or ends after
    /// everything healed, it restarts at its end.
    fn stop(&self, machine: NodeId) {
        lock(&self.processes).stopping.insert(machine);
        self.world.stop(machine);
        let faults = self.clone();
        spawn("stop", async move {
            while faults.awaits_end(machine) && faults.world.is_up(machine) {
                time::sleep(STOP_POLL).await;
            }
            let is_free = {
                let mut processes = lock(&faults.processes);
                processes.stopping.remove(&machine) && !processes.is_held(machine)
            };
            if is_free {
                faults.world.restart(machine);
            }
        });
    }

    /// True if a node's process was asked to stop and has not ended yet.
    pub(super) fn is_stopping(&self, index: u8) -> bool {
        self.awaits_end(self.authorities[usize::from(index)].node)
    }

    fn awaits_end(&self, machine: NodeId) -> bool {
        lock(&self.processes).stopping.contains(&machine)
    }

    /// Restarts a process that has ended by itself, as the operating system does.
    pub fn respawn(&self, machine: NodeId) {
        let faults = self.clone();
        spawn("respawn", async move {
            time::sleep(RESPAWN_DELAY).await;
            let is_held = lock(&faults.processes).is_held(machine);
            if !is_held && !faults.world.is_up(machine) {
                faults.replace_lying_disk(machine);
                faults.world.restart(machine);
            }
        });
    }
}

declare! {
    "kill": "The process is killed. With `power`, its machine also loses data that was not synced."
    Kill {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default)]
        pub power: bool,
    }
}

impl Kill {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        for machine in faults.machines(hit, self.machine) {
            if on {
                faults.take_down(machine, self.power);
            } else {
                faults.bring_up(machine);
            }
        }
    }
}

impl Kind for Kill {
    const EFFECTS: &'static [&'static str] = &[
        "node.kill",
        "node.power_off",
        "node.restart",
        "connect.refused",
        "disk.sectors_lost",
    ];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(
            3,
            "leader-restart",
            "The leader crashes and restarts within its slot.",
            |draw| {
                let half_ms = draw.slot_ms() / 2;
                let at = draw.between(0, half_ms);
                let down_ms = draw.between(10, half_ms);
                let power = draw.flip();
                let machine = Machine::Node;
                let leader = vec![NodeRef::Leader(0)];
                draw.push(draw.at(at), down_ms, leader, Kill { machine, power });
            },
        ),
        drawing(
            4,
            "leader-and-approver",
            "The leader and an approver crash and restart within one slot.",
            |draw| {
                let at = draw.between(0, draw.slot_ms() / 2);
                for node in [NodeRef::Leader(0), NodeRef::Leader(1)] {
                    let later_ms = draw.between(0, 100);
                    let down_ms = draw.between(10, draw.slot_ms() / 3);
                    let power = draw.flip();
                    let machine = Machine::Node;
                    let kill = Kill { machine, power };
                    draw.push(draw.at(at + later_ms), down_ms, vec![node], kill);
                }
            },
        ),
        drawing(
            5,
            "power-loss",
            "A node's machine loses its power for seconds.",
            |draw| {
                let machine = draw.machine();
                let power = true;
                draw.push_as_drawn(Kill { machine, power });
            },
        ),
        drawing(
            6,
            "rolling-power-loss",
            "All authorities lose power, one after the other.",
            |draw| {
                let machine = draw.machine();
                for number in 1..=draw.world.nodes {
                    let down_ms = draw.between(100, 2 * draw.slot_ms());
                    let slot = draw.slot + 2 * u64::from(number);
                    let offset_ms = draw.below(draw.slot_ms());
                    let at = When::Slot(slot, offset_ms);
                    let power = true;
                    draw.push(
                        at,
                        down_ms,
                        vec![NodeRef::Number(number)],
                        Kill { machine, power },
                    );
                }
            },
        ),
        drawing(
            14,
            "execution-crash",
            "An execution client's process crashes.",
            |draw| kill_execution_client(draw, false),
        ),
        drawing(
            15,
            "execution-power-loss",
            "An execution client's machine loses its power (S28).",
            |draw| kill_execution_client(draw, true),
        ),
    ];

    mirrored! {}
}

fn kill_execution_client(draw: &mut Draw<'_>, power: bool) {
    let down_ms = draw.between(10, 3 * draw.slot_ms());
    let machine = Machine::Execution;
    draw.push_for(down_ms, Kill { machine, power });
}

declare! {
    "stop": "The process is asked to shut down, and is started again when the fault ends."
    Stop {
        #[serde(default)]
        pub machine: Machine,
    }
}

impl Stop {
    /// The node alone.
    pub const fn of_node() -> Self {
        Self {
            machine: Machine::Node,
        }
    }

    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        if on && self.machine.includes_node() {
            hit.nodes
                .iter()
                .for_each(|index| faults.spare_actors(*index));
        }
        for machine in faults.machines(hit, self.machine) {
            if on {
                faults.hold_down(machine);
                faults.stop(machine);
            } else {
                faults.bring_up(machine);
            }
        }
    }
}

impl Kind for Stop {
    const EFFECTS: &'static [&'static str] = &["node.stop", "node.exit", "node.restart"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        23,
        "stop",
        "A process shuts down gracefully.",
        |draw| {
            let machine = draw.machine();
            draw.push_as_drawn(Stop { machine });
        },
    )];

    mirrored! {}
}

declare! {
    "pause":
        "The process is suspended until the fault ends, and then continues with its memory intact."
    Pause {
        #[serde(default)]
        pub machine: Machine,
    }
}

impl Pause {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        for machine in faults.machines(hit, self.machine) {
            let now = now_ms(faults.world);
            let is_free = lock(&faults.processes).note_pause(machine, on, now);
            if on {
                faults.world.pause(machine);
            } else if is_free {
                faults.world.resume(machine);
            }
        }
    }
}

impl Kind for Pause {
    const EFFECTS: &'static [&'static str] = &["node.pause"];
    const DRAWINGS: &'static [Drawing] =
        &[drawing(22, "pause", "A process is suspended.", |draw| {
            let machine = draw.machine();
            let stall_ms = draw.between(50, 3 * draw.slot_ms());
            draw.push_for(stall_ms, Pause { machine });
        })];

    mirrored! {}
}

declare! {
    "crash-again":
        "The process is killed, and killed again after each of `times` restarts: within the time \
        `within`, or at one of its first `operations` disk operations."
    CrashAgain {
        #[serde(default)]
        pub machine: Machine,
        #[serde(default)]
        pub power: bool,
        pub within: Ms,
        #[serde(default)]
        pub operations: u64,
        #[serde(default = "default::one")]
        pub times: u32,
    }
}

impl CrashAgain {
    /// Takes one process down and up again for the planned number of times.
    async fn crash(self, faults: Faults, hit: Hit, machine: NodeId) {
        /// Longest time in milliseconds between two incarnations of the process.
        const DOWN_MS: u64 = 300;
        let world = faults.world;
        faults.take_down(machine, self.power);
        for _ in 0..self.times {
            let down_ms = hit.draws.up_to(DOWN_MS);
            if !faults.wait_until(now_ms(world) + down_ms).await {
                return;
            }
            let at_operation = self.operations > 0 && hit.draws.up_to(1) == 0;
            if at_operation {
                let operation = 1 + hit.draws.up_to(self.operations - 1);
                let operation = Some(operation.cast_signed());
                faults.set(&hit, machine, Setting::PowerLoss, operation);
            }
            faults.bring_up(machine);
            let up_ms = if at_operation {
                self.within.0
            } else {
                hit.draws.up_to(self.within.0)
            };
            if !faults.wait_until(now_ms(world) + up_ms).await {
                return;
            }
            if at_operation && !world.is_up(machine) {
                faults.count("crashed-at-operation");
            } else {
                faults.count("crashed-in-recovery");
            }
            // A pending power-off would otherwise hit a later incarnation.
            faults.set(&hit, machine, Setting::PowerLoss, None);
            faults.take_down(machine, self.power || at_operation);
        }
        let down_ms = hit.draws.up_to(DOWN_MS);
        if faults.wait_until(now_ms(world) + down_ms).await {
            faults.bring_up(machine);
        }
    }
}

impl Kind for CrashAgain {
    const EFFECTS: &'static [&'static str] = &[
        "fault.crashed-at-operation",
        "fault.crashed-in-recovery",
        "disk.power_off_at_operation",
    ];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        39,
        "crash-again",
        "A process crashes during its recovery.",
        |draw| {
            let machine = draw.machine();
            let power = draw.flip();
            let within = draw.ms_between(20, 2 * draw.slot_ms());
            let operations = draw.between(0, 60);
            let times = draw.count(1, 4);
            let fault = CrashAgain {
                machine,
                power,
                within,
                operations,
                times,
            };
            draw.push_for(0, fault);
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        within("times", self.times.into(), 1..=MAX_CRASHES.into())?;
        if self.within.0 > 0 {
            return Ok(());
        }
        Err(("within", "within: at least 1ms".to_owned()))
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for machine in faults.machines(hit, self.machine) {
            let crash = self.clone().crash(faults.clone(), hit.clone(), machine);
            spawn("crash again", crash);
        }
    }
}

declare! {
    "kill-all-at-height":
        "All nodes and execution clients are killed at once when the block `blocks` above the \
        highest final one becomes final on any named node."
    KillAllAtHeight {
        pub blocks: u64,
        #[serde(default)]
        pub power: bool,
        #[serde(default = "default::half_a_second")]
        pub down: Ms,
    }
}

impl Kind for KillAllAtHeight {
    const EFFECTS: &'static [&'static str] = &["fault.killed-all-on-votes"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        40,
        "all-at-height",
        "All nodes crash as a block becomes final.",
        |draw| {
            let blocks = draw.between(1, 3);
            let power = draw.flip();
            let down = draw.ms_between(10, 2 * draw.slot_ms());
            let fault = KillAllAtHeight {
                blocks,
                power,
                down,
            };
            draw.push(draw.moment, 8 * draw.slot_ms(), vec![NodeRef::All], fault);
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        if self.blocks > 0 {
            return Ok(());
        }
        Err(("blocks", "blocks: at least 1".to_owned()))
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        let height = faults.judge.look().finality.top() + self.blocks;
        let what = React::KillAllNow {
            power: self.power,
            down_ms: self.down.0,
            is_done: false,
        };
        faults.react_to(hit, Trigger::Final(height), what);
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.forget_reaction(hit);
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    vec![
        Row::lasting(
            Kill {
                machine: Machine::Execution,
                power: false,
            },
            &["execution2: down"],
        ),
        Row::lasting(
            Kill {
                machine: Machine::Node,
                power: true,
            },
            &[
                "connected: false",
                "from execution: blocked",
                "from miner: blocked",
                "from peer: blocked",
                "node2: down",
                "to execution: blocked",
                "to miner: blocked",
                "to peer: blocked",
            ],
        ),
        Row::lasting(
            Stop {
                machine: Machine::Node,
            },
            &["connected: false", "node2: down"],
        ),
        Row::lasting(
            Pause {
                machine: Machine::Node,
            },
            &["node2: paused"],
        ),
        // The time until the first restart is drawn.
        Row::passing(
            CrashAgain {
                machine: Machine::Execution,
                power: false,
                within: Ms(100),
                operations: 0,
                times: 2,
            },
            1,
            &["execution2: down"],
        ),
        Row::lasting(
            KillAllAtHeight {
                blocks: 3,
                power: false,
                down: Ms(5),
            },
            &["reactions: Final(3)"],
        ),
    ]
}
