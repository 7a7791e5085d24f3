//! Plans: everything that makes a run, besides its seed and the code. Plain data, the same in every process.
//!
//! A plan has one form, in TOML and JSON: that of scenario files, see [`crate::plan::format`]. Faults are declared in [`fault`].

mod behaviour;
pub mod contracts;
mod fault;
pub mod format;
pub mod generator;
mod stack;
pub(crate) mod time;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use alys_types::FaultModel;
use alys_types::limits::MAX_GAS_LIMIT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use behaviour::Behaviour;
pub use fault::{Actor, Fault, Harm, Machine, Strike, Vote, Way};
pub use stack::Stack;
pub use time::{Ms, NodeRef, SignedMs, When, WordError, parse_duration};

use format::File;

/// Most authorities of a world; the protocol's limit.
pub const MAX_NODES: u8 = 15;
/// Most steps of a plan.
pub const MAX_STEPS: usize = 1_000;
/// Longest chaos, in milliseconds: the heap of timers grows with it.
pub const MAX_UNTIL_MS: u64 = 3_600_000;
/// How long machines may wait for the other end of a connection.
pub const TCP_TIMEOUT_MS: RangeInclusive<u64> = 500..=120_000;
/// Most users of a world: each has a machine's worth of connections.
pub const MAX_USERS: u8 = 32;

/// Sizes of pools that all behaviours of users get along with.
pub const POOL: RangeInclusive<usize> = 16..=10_240;
/// Gas limits of blocks: room for the largest transaction of the workload, and what the chain's rules allow.
pub const BLOCK_GAS: RangeInclusive<u64> = 2_000_000..=MAX_GAS_LIMIT;

/// A run, without its seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "File", from = "File")]
pub struct Plan {
    /// The scenario's name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// Rules of the protocol (`3.2`) and failures of V1 (`S1`) that it is about.
    pub covers: Vec<String>,
    /// The seed that is run when none is given.
    pub seed: Option<u64>,
    /// The planted bug that it is about, by name. It is switched on by whoever runs the plan, not by the plan.
    pub mutant: Option<String>,
    /// The network.
    pub world: WorldPlan,
    /// What users do.
    pub workload: WorkloadPlan,
    /// The faults, in the order of the file.
    pub steps: Vec<Step>,
    /// When the chaos ends and everything heals, in milliseconds from the start.
    pub until_ms: u64,
    /// What must hold in the end, besides all invariants.
    pub expect: Expect,
}

/// What a federation tolerates, as files name it.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "it only stands for the protocol's type in the schema"
)]
enum FaultModelWord {
    /// Up to a third of the authorities do anything.
    Byzantine,
    /// Up to a half of the authorities stop, and come back with their disks.
    Crash,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorldPlan {
    /// Authorities, each with an execution client of its own.
    pub nodes: u8,
    /// What the federation tolerates.
    #[schemars(with = "FaultModelWord")]
    pub fault_model: FaultModel,
    /// The length of a slot, at least a second.
    #[serde(rename = "slot", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub slot_ms: u64,
    /// How far clocks may be apart.
    #[serde(rename = "drift", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub drift_ms: u64,
    /// Between machines of different authorities. In files it is the table `[links]`.
    #[serde(skip)]
    pub link: LinkPlan,
    /// Slots after a loss of its vote state until an authority votes again.
    pub rejoin_margin: u64,
    /// The authority whose key somebody else has too, who forges certificates with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forger: Option<u8>,
    /// Whether somebody without a vote follows the chain by its headers.
    pub light_client: bool,
    /// Whether strangers ask for more than nodes serve.
    pub greedy_peers: bool,
    /// Whether strangers take turns in being asked for blocks, and answer nothing.
    pub silent_peers: bool,
    /// How long machines wait for the other end while connecting and after sending, where it is not the usual: 20 s and
    /// 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_timeout: Option<Ms>,
    /// Authorities that do not keep to the rules. With the forger's and the dead at most as many as are tolerated.
    pub byzantine: Vec<Byzantine>,
    /// Authorities that stay down when everything else heals.
    pub left_dead: Vec<u8>,
    /// Whether nodes and clients do now and then what they may do and seldom do.
    pub buggify: bool,
    /// How much of the production stack there is, if nobody says otherwise. Without it: drawn for plans that are drawn, all
    /// of it for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<Stack>,
}

impl Default for WorldPlan {
    fn default() -> Self {
        Self {
            nodes: 4,
            fault_model: FaultModel::Byzantine,
            slot_ms: 1_000,
            drift_ms: 250,
            link: LinkPlan::default(),
            rejoin_margin: 1_800,
            forger: None,
            light_client: false,
            greedy_peers: false,
            silent_peers: false,
            tcp_timeout: None,
            byzantine: Vec::new(),
            left_dead: Vec::new(),
            buggify: false,
            stack: None,
        }
    }
}

impl Plan {
    /// Without the steps that lie after the end of the chaos: they never begin, and no file may have them.
    #[must_use]
    pub fn without_late_steps(mut self) -> Self {
        let (slot_ms, until_ms) = (self.world.slot_ms, self.until_ms);
        self.steps
            .retain(|step| step.at.earliest_ms(slot_ms) < until_ms);
        self
    }
}

impl WorldPlan {
    /// How many authorities may be faulty. Own arithmetic: the node's is what is under test.
    pub fn tolerated(&self) -> usize {
        let others = usize::from(self.nodes.saturating_sub(1));
        match self.fault_model {
            FaultModel::Byzantine => others / 3,
            FaultModel::Crash => others / 2,
        }
    }

    /// Authorities, from 0, whose signatures may be under anything: those that do not keep to the rules, and the one whose
    /// key was stolen.
    pub fn suspects(&self) -> BTreeSet<u8> {
        let named = self.byzantine.iter().map(|one| one.node).chain(self.forger);
        named.map(|number| number.saturating_sub(1)).collect()
    }

    /// Whether an authority, from 0, is one that does not keep to the rules.
    pub fn is_byzantine(&self, index: u8) -> bool {
        self.byzantine.iter().any(|one| one.node == index + 1)
    }

    /// Votes that make a certificate.
    pub fn quorum(&self) -> usize {
        usize::from(self.nodes) - self.tolerated()
    }
}

/// An authority that does not keep to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Byzantine {
    /// Its number, from 1.
    pub node: u8,
    /// What it does.
    pub conduct: Conduct,
}

/// What an authority does that does not keep to the rules. All but the twins are the real node, with what it says bent.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Conduct {
    /// One key, two running nodes, each with a part of the others.
    Twins,
    /// Two proposals and two approvals in one slot.
    Equivocate,
    /// Proposals, approvals or confirmations of some slots are kept back.
    Withhold,
    /// What it says comes at the edge of the slot.
    Delay,
    /// It proposes blocks that do not execute, and approves them.
    InvalidPayload,
    /// It declares blocks certified and final with its own signature alone.
    BadCertificate,
    /// Some of its messages have bytes turned over, cut off, added, or go to the wrong topic.
    Mutate,
    /// It lies in status and range answers.
    Lie,
}

impl Conduct {
    /// All of them, with the name of the counter of their acts.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Twins, "byzantine.twins"),
        (Self::Equivocate, "byzantine.equivocate"),
        (Self::Withhold, "byzantine.withhold"),
        (Self::Delay, "byzantine.delay"),
        (Self::InvalidPayload, "byzantine.invalid-payload"),
        (Self::BadCertificate, "byzantine.bad-certificate"),
        (Self::Mutate, "byzantine.mutate"),
        (Self::Lie, "byzantine.lie"),
    ];

    /// The name of the counter of its acts.
    pub fn counter(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(conduct, _)| *conduct == self)
            .map_or("byzantine", |(_, counter)| counter)
    }
}

/// The quality of links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkPlan {
    /// Least time one way.
    #[serde(rename = "latency", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub latency_ms: u64,
    /// Added to it, uniformly up to this.
    #[serde(rename = "jitter", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub jitter_ms: u64,
    /// How often, in a million, something is held up for much longer.
    pub tail_ppm: u32,
    /// How much longer then, uniformly up to this.
    #[serde(rename = "tail", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub tail_ms: u64,
    /// How often, in a million, something is lost and sent again.
    pub loss_ppm: u32,
    /// Kilobytes a second; 0 is no limit.
    pub kbytes_per_s: u64,
}

impl LinkPlan {
    /// No worse than any link: what a fault brings is added to it.
    pub const PERFECT: Self = Self {
        latency_ms: 0,
        jitter_ms: 0,
        tail_ppm: 0,
        tail_ms: 0,
        loss_ppm: 0,
        kbytes_per_s: 0,
    };
}

impl Default for LinkPlan {
    fn default() -> Self {
        let (tail_ppm, tail_ms) = (1_000, 100);
        Self {
            latency_ms: 5,
            jitter_ms: 5,
            tail_ppm,
            tail_ms,
            loss_ppm: 0,
            kbytes_per_s: 12_500,
        }
    }
}

/// What users do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadPlan {
    /// Accounts that send transactions; 0 is no workload.
    pub users: u8,
    /// Most transactions that an account has under way.
    pub burst: u8,
    /// Pause of an account between two bursts.
    #[serde(rename = "pause", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub pause_ms: u64,
    /// What users do; a word that comes twice is done twice as often.
    pub behaviours: Vec<Behaviour>,
    /// Transactions that the pool of an execution client holds; half of them of one sender, an eighth behind a gap.
    pub pool: usize,
    /// Gas limit of blocks.
    pub block_gas: u64,
}

impl Default for WorkloadPlan {
    fn default() -> Self {
        let behaviours = Behaviour::usual();
        Self {
            users: 3,
            burst: 3,
            pause_ms: 700,
            behaviours,
            pool: 64,
            block_gas: MAX_GAS_LIMIT,
        }
    }
}

/// What must hold in the end, besides all invariants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Final blocks on every node when the chaos ends.
    pub min_final: u64,
    /// Final blocks on every node, above the highest of that moment, after everything healed.
    pub progress: u64,
    /// How long that may take, where it is not three rounds of leaders and 20 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Ms>,
    /// Losses of their votes, by disks that were emptied or put back, that authorities have noticed when the chaos ends.
    pub losses: u64,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            min_final: 0,
            progress: 3,
            within: None,
            losses: 0,
        }
    }
}

/// A fault with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When it begins.
    pub at: When,
    /// How long it lasts, in milliseconds; `None`: until everything heals.
    pub for_ms: Option<u64>,
    /// Whom it hits.
    pub nodes: Vec<NodeRef>,
    /// What it is.
    pub fault: Fault,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(NodeRef::to_string).collect();
        write!(f, "{}: {} on {}", self.at, self.fault, nodes.join(", "))?;
        match self.for_ms {
            Some(ms) => write!(f, " for {}", Ms(ms)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_are_what_the_protocol_says() {
        let table = [
            (1, 1, 1),
            (2, 2, 2),
            (3, 3, 2),
            (4, 3, 3),
            (5, 4, 3),
            (7, 5, 4),
            (10, 7, 6),
            (15, 11, 8),
        ];
        for (nodes, byzantine, crash) in table {
            let quorum = |fault_model| {
                WorldPlan {
                    nodes,
                    fault_model,
                    ..WorldPlan::default()
                }
                .quorum()
            };
            assert_eq!(
                (quorum(FaultModel::Byzantine), quorum(FaultModel::Crash)),
                (byzantine, crash),
                "{nodes}"
            );
        }
    }
}
