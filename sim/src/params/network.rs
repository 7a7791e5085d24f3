//! The network of a run: authorities, links, and participants without a vote.

use std::collections::BTreeSet;

use alys_types::FaultModel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ms, Stack, time};

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
    /// Links between machines of different authorities; the table `[links]` in scenario files.
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
    /// How long machines wait for the other end while connecting and after sending, where it is not
    /// the usual: 20 s and 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_timeout: Option<Ms>,
    /// Authorities that do not keep to the rules. With the forger's and the dead at most as many as
    /// are tolerated.
    pub byzantine: Vec<Byzantine>,
    /// Authorities that stay down when everything else heals.
    pub left_dead: Vec<u8>,
    /// Whether nodes and clients do now and then what they may do and seldom do.
    pub buggify: bool,
    /// How much of the production stack there is, if nobody says otherwise. Without it: drawn for
    /// plans that are drawn, all of it for the rest.
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

impl WorldPlan {
    /// Returns the number of faulty authorities that the fault model allows. It does not use the
    /// node's function, because that is under test.
    pub fn tolerated(&self) -> usize {
        let others = usize::from(self.nodes.saturating_sub(1));
        match self.fault_model {
            FaultModel::Byzantine => others / 3,
            FaultModel::Crash => others / 2,
        }
    }

    /// Returns the authorities, from 0, whose signatures prove nothing: Byzantine ones, and the one
    /// whose key was stolen.
    pub fn suspects(&self) -> BTreeSet<u8> {
        let named = self.byzantine.iter().map(|one| one.node).chain(self.forger);
        named.map(|number| number.saturating_sub(1)).collect()
    }

    /// Returns true for a Byzantine authority, by number from 0.
    pub fn is_byzantine(&self, index: u8) -> bool {
        self.byzantine.iter().any(|one| one.node == index + 1)
    }

    /// Returns the number of votes in a certificate.
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

/// What an authority does that does not keep to the rules. All but the twins are the real node,
/// with what it says bent.
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
    /// All kinds of conduct with the counters of their acts. The generator draws by index, so the
    /// order is part of every seed's plan.
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

    /// Returns the name of the counter of this conduct's acts.
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
    /// A link without delay, loss or limit, the neutral element when a fault adds to the quality of
    /// a link.
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
        let tail_ppm = 1_000;
        let tail_ms = 100;
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
