//! Faults of execution clients and of the links to them.
//!
//! An authority whose execution client reports valid payloads as invalid counts as faulty, like one
//! whose disk lies.

use alys_integrations::embedded::{BuildFault, ExecutionFaults, ReceiptsFault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::{Drawing, drawing};
use super::registry::{Hit, Kind, declare, default, mirrored, subject};
use super::settings::{Setting, of_build, of_receipts};
use super::{Faults, Machine, lock};
use crate::params::{MachineRole, Ms, NodeRef, SignedMs};

subject![
    SlowExecution,
    ExecutionSyncing,
    ExecutionInvalid,
    ExecutionForgets,
    ExecutionRefuses,
    ExecutionLate,
    ExecutionTwice,
    ExecutionHangsUp,
    ExecutionClock,
    CutExecution,
    ExecutionBuilds,
    ExecutionReceipts,
];

impl Faults {
    /// Clears the faults of all execution clients.
    pub(super) fn heal_execution(&self) {
        for injector in &self.execution_faults {
            *injector.lock() = ExecutionFaults::default();
        }
    }
}

declare! {
    "slow-execution":
        "The latency of the link to the execution client grows by `delay` in each direction."
    SlowExecution { pub delay: Ms }
}

impl SlowExecution {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let mut links = faults.links();
        for node in &hit.nodes {
            links.slow_local(*node, MachineRole::Execution, self.delay.0, on);
        }
    }
}

impl Kind for SlowExecution {
    /// The slower link has no counter.
    const EFFECTS: &'static [&'static str] = &[];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        16,
        "slow-execution",
        "The link to an execution client is slow.",
        |draw| {
            let delay = draw.ms_between(5, draw.slot_ms() / 2);
            draw.push_as_drawn(SlowExecution { delay });
        },
    )];

    mirrored! {}
}

declare! {
    "execution-syncing":
        "The execution client answers SYNCING to all payloads and forkchoice updates."
    ExecutionSyncing {}
}

impl ExecutionSyncing {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let syncing = on.then_some(1);
        faults.set_all(hit, Machine::Execution, Setting::ExecutionSyncing, syncing);
    }
}

impl Kind for ExecutionSyncing {
    const EFFECTS: &'static [&'static str] = &["execution.syncing"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        50,
        "execution-syncing",
        "An execution client is syncing.",
        |draw| {
            let nodes = if draw.below(4) == 0 {
                vec![NodeRef::All]
            } else {
                draw.someone.clone()
            };
            draw.push_on(nodes, ExecutionSyncing {});
        },
    )];

    mirrored! {}
}

declare! {
    "execution-invalid":
        "The execution client answers INVALID to the next `count` payloads. The authority then \
        counts as faulty; authorities beyond those that the federation tolerates are not hit."
    ExecutionInvalid {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl Kind for ExecutionInvalid {
    const EFFECTS: &'static [&'static str] = &["execution.invalid"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        51,
        "execution-invalid",
        "An execution client rejects valid payloads as invalid.",
        |draw| {
            let count = draw.count(1, 5);
            draw.push_as_drawn(ExecutionInvalid { count });
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for authority in faults.authorities(hit) {
            if faults.may_distrust(authority.index) {
                // An invalid certified block is an error for the operator, so the node's complaints
                // are expected.
                lock(&faults.trust).damaged.insert(authority.node);
                let count = Some(self.count.into());
                faults.set(hit, authority.execution, Setting::InvalidPayloads, count);
            }
        }
    }

    /// The node asks again about blocks that are certified, so that it follows without a restart.
    fn end(&self, faults: &Faults, hit: &Hit) {
        for authority in faults.authorities(hit) {
            faults.set(hit, authority.execution, Setting::InvalidPayloads, None);
        }
    }
}

declare! {
    "execution-forgets":
        "The execution client accepts the next `count` forkchoice updates without applying them."
    ExecutionForgets {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl ExecutionForgets {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = on.then_some(self.count.into());
        faults.set_all(
            hit,
            Machine::Execution,
            Setting::ForgottenForkchoices,
            count,
        );
    }
}

impl Kind for ExecutionForgets {
    const EFFECTS: &'static [&'static str] = &["execution.forgotten"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        52,
        "execution-forgets",
        "An execution client forgets or refuses forkchoice updates.",
        |draw| {
            let count = draw.count(1, 20);
            if draw.flip() {
                draw.push_as_drawn(ExecutionForgets { count });
            } else {
                draw.push_as_drawn(ExecutionRefuses { count });
            }
        },
    )];

    mirrored! {}
}

declare! {
    "execution-refuses": "The execution client refuses `count` forkchoice updates as inconsistent."
    ExecutionRefuses {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl ExecutionRefuses {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = on.then_some(self.count.into());
        faults.set_all(hit, Machine::Execution, Setting::RefusedForkchoices, count);
    }
}

impl Kind for ExecutionRefuses {
    const EFFECTS: &'static [&'static str] = &["execution.refused"];
    /// Drawn along with [`ExecutionForgets`].
    const DRAWINGS: &'static [Drawing] = &[];

    mirrored! {}
}

declare! {
    "execution-late": "The execution client delays each answer of its Engine API by `delay`."
    ExecutionLate { pub delay: Ms }
}

impl ExecutionLate {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let late = on.then_some(self.delay.0.cast_signed());
        faults.set_all(hit, Machine::Execution, Setting::AnswerDelay, late);
    }
}

impl Kind for ExecutionLate {
    const EFFECTS: &'static [&'static str] = &["execution.late"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        53,
        "execution-late",
        "An execution client delays its answers.",
        |draw| {
            let delay = draw.ms_between(50, 3_000);
            draw.push_as_drawn(ExecutionLate { delay });
        },
    )];

    mirrored! {}
}

declare! {
    "execution-twice":
        "The execution client executes the next `count` payloads and forkchoice updates twice."
    ExecutionTwice {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl ExecutionTwice {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = on.then_some(self.count.into());
        faults.set_all(hit, Machine::Execution, Setting::RepeatedCalls, count);
    }
}

impl Kind for ExecutionTwice {
    const EFFECTS: &'static [&'static str] = &["execution.twice"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        54,
        "hanging-up",
        "An execution client executes calls twice, or loses answers.",
        |draw| {
            let is_twice = draw.flip();
            let count = draw.count(1, 20);
            if is_twice {
                draw.push_as_drawn(ExecutionTwice { count });
            } else {
                draw.push_as_drawn(ExecutionHangsUp { count });
            }
        },
    )];

    mirrored! {}
}

declare! {
    "execution-hangs-up":
        "The connections of the execution client break as it sends its next `count` answers."
    ExecutionHangsUp {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl ExecutionHangsUp {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = on.then_some(self.count.into());
        faults.set_all(hit, Machine::Execution, Setting::LostAnswers, count);
    }
}

impl Kind for ExecutionHangsUp {
    const EFFECTS: &'static [&'static str] = &["execution.cut"];
    /// Drawn along with [`ExecutionTwice`].
    const DRAWINGS: &'static [Drawing] = &[];

    mirrored! {}
}

declare! {
    "execution-clock":
        "The clock of the execution client's machine steps by `by`, so that it differs from the \
        issue times of the node's tokens."
    ExecutionClock { pub by: SignedMs }
}

impl ExecutionClock {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let by_ms = if on { self.by.0 } else { -self.by.0 };
        for machine in faults.machines(hit, Machine::Execution) {
            faults.world.step_clock(machine, by_ms);
        }
    }
}

impl Kind for ExecutionClock {
    const EFFECTS: &'static [&'static str] = &["clock.step"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        55,
        "execution-clock",
        "An execution client's clock is far off.",
        |draw| {
            let ms = draw.between(50_000, 300_000);
            let by = SignedMs(draw.sign(ms));
            draw.push_as_drawn(ExecutionClock { by });
        },
    )];

    mirrored! {}
}

declare! {
    "cut-execution": "The link to the execution client is cut."
    CutExecution {}
}

impl CutExecution {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let mut links = faults.links();
        for node in &hit.nodes {
            links.cut_local(*node, MachineRole::Execution, on);
        }
    }
}

impl Kind for CutExecution {
    const EFFECTS: &'static [&'static str] = &["link.cut", "link.heal"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        17,
        "cut-execution",
        "An execution client cannot be reached.",
        |draw| draw.push_as_drawn(CutExecution {}),
    )];

    mirrored! {}
}

/// The property of built payloads that the rules of the chain refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Built {
    /// A blob transaction.
    Blobs,
    /// A transaction of a type of a later fork.
    ForeignType,
    /// More bytes than a block may have.
    Oversize,
    /// A gas limit above the highest one.
    GasLimit,
    /// A withdrawal that no fee is the reason of.
    Withdrawals,
}

impl From<Built> for BuildFault {
    fn from(built: Built) -> Self {
        match built {
            Built::Blobs => Self::Blobs,
            Built::ForeignType => Self::ForeignType,
            Built::Oversize => Self::Oversize,
            Built::GasLimit => Self::GasLimit,
            Built::Withdrawals => Self::Withdrawals,
        }
    }
}

declare! {
    "execution-builds":
        "The execution client builds payloads that the rules refuse, as if it were configured for \
        another chain."
    ExecutionBuilds { pub what: Built }
}

impl ExecutionBuilds {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let fault = on.then(|| of_build(self.what.into()));
        faults.set_all(hit, Machine::Execution, Setting::SpoiledBuilds, fault);
    }
}

impl Kind for ExecutionBuilds {
    const EFFECTS: &'static [&'static str] = &["execution.spoiled_build"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        56,
        "execution-builds",
        "Execution clients build payloads that the rules refuse.",
        |draw| {
            // Payloads that are too large take minutes to simulate; a scenario has them.
            let what = draw.pick(&[
                Built::Blobs,
                Built::ForeignType,
                Built::GasLimit,
                Built::Withdrawals,
            ]);
            let nodes = if what == Built::GasLimit {
                draw.someone.clone()
            } else {
                draw.all_or_someone()
            };
            draw.push_on(nodes, ExecutionBuilds { what });
        },
    )];

    mirrored! {}
}

/// The fault of receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Receipts {
    /// There are none.
    Lost,
    /// They are not those of the block.
    False,
}

impl From<Receipts> for ReceiptsFault {
    fn from(receipts: Receipts) -> Self {
        match receipts {
            Receipts::Lost => Self::Lost,
            Receipts::False => Self::False,
        }
    }
}

declare! {
    "execution-receipts":
        "The execution client has lost the receipts of all blocks, or answers with false ones."
    ExecutionReceipts { pub what: Receipts }
}

impl ExecutionReceipts {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let fault = on.then(|| of_receipts(self.what.into()));
        faults.set_all(hit, Machine::Execution, Setting::SpoiledReceipts, fault);
    }
}

impl Kind for ExecutionReceipts {
    const EFFECTS: &'static [&'static str] = &["execution.spoiled_receipts"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        70,
        "execution-receipts",
        "Execution clients lose receipts, or have false ones.",
        |draw| {
            let what = draw.pick(&[Receipts::Lost, Receipts::False]);
            let nodes = draw.all_or_someone();
            draw.push_on(nodes, ExecutionReceipts { what });
        },
    )];

    mirrored! {}
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    vec![
        Row::lasting(
            SlowExecution { delay: Ms(60) },
            &["from execution: latency 60", "to execution: latency 60"],
        ),
        Row::lasting(ExecutionSyncing {}, &["execution2: up, ExecutionSyncing 1"]),
        Row::lasting(
            ExecutionInvalid { count: 2 },
            &["execution2: up, InvalidPayloads 2"],
        ),
        Row::lasting(
            ExecutionForgets { count: 3 },
            &["execution2: up, ForgottenForkchoices 3"],
        ),
        Row::lasting(
            ExecutionRefuses { count: 2 },
            &["execution2: up, RefusedForkchoices 2"],
        ),
        Row::lasting(
            ExecutionLate { delay: Ms(70) },
            &["execution2: up, AnswerDelay 70"],
        ),
        Row::lasting(
            ExecutionTwice { count: 4 },
            &["execution2: up, RepeatedCalls 4"],
        ),
        Row::lasting(
            ExecutionHangsUp { count: 5 },
            &["execution2: up, LostAnswers 5"],
        ),
        Row::lasting(
            ExecutionClock {
                by: SignedMs(60_000),
            },
            &["execution2: up, ahead 60000"],
        ),
        Row::lasting(
            CutExecution {},
            &["from execution: blocked", "to execution: blocked"],
        ),
        Row::lasting(
            ExecutionBuilds {
                what: Built::GasLimit,
            },
            &["execution2: up, SpoiledBuilds 4"],
        ),
        Row::lasting(
            ExecutionReceipts {
                what: Receipts::False,
            },
            &["execution2: up, SpoiledReceipts 2"],
        ),
    ]
}
