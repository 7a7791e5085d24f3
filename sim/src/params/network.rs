//! The network of a run: authorities, links, and participants without a vote.

use std::collections::{BTreeMap, BTreeSet};

use alys_types::FaultModel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LimitsPlan, Ms, Stack, time};

// In the schema it stands for the type of the protocol, which has none.
/// Fault model of a federation, by its name in files.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultModelWord {
    /// Fewer than a third of the authorities behave arbitrarily.
    Byzantine,
    /// Fewer than half of the authorities crash, and restart with their disks intact.
    Crash,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorldPlan {
    /// Number of nodes with an authority's key, each with its own execution client.
    pub nodes: u8,
    /// Number of the last nodes that are not in the first federation; they follow the chain as full
    /// nodes until governance adds them.
    pub candidates: u8,
    /// The spec has keys of governance, which orders the changes of the fault `change-federation`.
    /// One seat may be vacant, so faulty authorities are as few as one authority less tolerates.
    pub governance: bool,
    /// Fault model of the federation.
    #[schemars(with = "FaultModelWord")]
    pub fault_model: FaultModel,
    /// Length of a slot, at least one second.
    #[serde(rename = "slot", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub slot_ms: u64,
    /// Maximum difference between clocks.
    #[serde(rename = "drift", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub drift_ms: u64,
    /// Links between machines of different authorities; the table `[links]` in scenario files.
    #[serde(skip)]
    pub link: LinkPlan,
    /// Number of slots in which an authority does not vote after it lost its vote state.
    pub rejoin_margin: u64,
    /// Number of the authority whose key a thief uses to forge certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forger: Option<u8>,
    /// Adds a light client, which follows the chain by its headers.
    pub light_client: bool,
    /// Adds a peer that requests more than nodes serve.
    pub greedy_peers: bool,
    /// Adds two peers that announce the chain in turn and answer no request for blocks.
    pub silent_peers: bool,
    /// Strangers that attack the nodes, each at the rate of one machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<Stranger>,
    /// Authorities whose address is in no configuration but those of later ones of this list. They
    /// have the addresses of all others, and dial in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<u8>,
    /// Number of strangers that connect to every node, send nothing, and return whenever they lose
    /// their place.
    pub crowd: u8,
    /// Places for strangers at each node in place of production's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub places: Option<usize>,
    /// Events that the network service of a node queues in place of production's 1,024; beyond them
    /// it drops gossip, and refuses requests as busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_events: Option<usize>,
    /// Each node publishes each of its messages a second time, after a time of at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_again: Option<Ms>,
    /// TCP timeout of connecting and of sending on all machines; 20 s and 30 s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_timeout: Option<Ms>,
    /// Capacities of the mailboxes of actors, by name, in place of production's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mailboxes: BTreeMap<String, usize>,
    /// Limits in place of production's.
    #[serde(skip_serializing_if = "LimitsPlan::is_empty")]
    pub limits: LimitsPlan,
    /// Final blocks without proof of work after which the gate closes; 0: no gate. A gate needs a
    /// miner.
    #[serde(skip_serializing_if = "is_zero")]
    pub gate: u64,
    /// Most blocks of a range in place of [`Self::USUAL_RANGE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pow_range: Option<u32>,
    /// Byzantine authorities. Together with the one whose key was stolen and those that stay down,
    /// they are at most as many as the fault model tolerates.
    pub byzantine: Vec<Byzantine>,
    /// Faults at the first starts of nodes, at most one for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_starts: Vec<FirstStart>,
    /// Authorities that stay down after the end of the chaos.
    pub left_dead: Vec<u8>,
    /// Enables permitted but rare behaviour of nodes and execution clients.
    pub buggify: bool,
    /// Signatures and links, unless the command line selects them. By default, they are drawn for
    /// generated plans and those of the production stack for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<Stack>,
}

impl Default for WorldPlan {
    fn default() -> Self {
        Self {
            nodes: 4,
            candidates: 0,
            governance: false,
            fault_model: FaultModel::Byzantine,
            slot_ms: 1_000,
            drift_ms: 250,
            link: LinkPlan::default(),
            rejoin_margin: 1_800,
            forger: None,
            light_client: false,
            greedy_peers: false,
            silent_peers: false,
            strangers: Vec::new(),
            unlisted: Vec::new(),
            crowd: 0,
            places: None,
            queued_events: None,
            publish_again: None,
            tcp_timeout: None,
            mailboxes: BTreeMap::new(),
            limits: LimitsPlan::default(),
            gate: 0,
            pow_range: None,
            byzantine: Vec::new(),
            first_starts: Vec::new(),
            left_dead: Vec::new(),
            buggify: false,
            stack: None,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl WorldPlan {
    /// Most blocks of a range without [`Self::pow_range`].
    pub const USUAL_RANGE: u32 = 4_096;

    /// Most blocks of a range.
    pub fn max_range(&self) -> u32 {
        self.pow_range.unwrap_or(Self::USUAL_RANGE)
    }

    /// Returns the size of the first federation.
    pub fn authorities(&self) -> u8 {
        self.nodes.saturating_sub(self.candidates)
    }

    /// Returns the size of the smallest federation of the run.
    pub fn least_authorities(&self) -> u8 {
        self.authorities().saturating_sub(u8::from(self.governance))
    }

    /// Returns the number of faulty authorities that the fault model allows at every height.
    pub fn tolerated(&self) -> usize {
        tolerated(self.fault_model, usize::from(self.least_authorities()))
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

    /// Returns the addresses in the configurations of the nodes.
    pub fn addresses(&self) -> KnownAddresses {
        let unlisted = self.unlisted.iter();
        KnownAddresses {
            unlisted: unlisted.map(|number| number.saturating_sub(1)).collect(),
        }
    }

    /// Returns a number of votes that makes a certificate of the first federation: the least one
    /// without governance.
    pub fn quorum(&self) -> usize {
        usize::from(self.authorities()) - self.tolerated()
    }
}

/// The addresses in the configurations of the nodes, by number from 0.
#[derive(Debug, Clone, Default)]
pub struct KnownAddresses {
    unlisted: Vec<u8>,
}

impl KnownAddresses {
    /// Returns true if `node` has the address of `other`. Of each two nodes at least one has the
    /// address of the other.
    pub fn has(&self, node: u8, other: u8) -> bool {
        let place_of = |index: u8| self.unlisted.iter().position(|one| *one == index);
        match (place_of(node), place_of(other)) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(of_other)) => of_other < own,
        }
    }
}

/// Returns the number of `authorities` that may be faulty. It does not use the node's function,
/// because that is under test.
pub fn tolerated(fault_model: FaultModel, authorities: usize) -> usize {
    let others = authorities.saturating_sub(1);
    match fault_model {
        FaultModel::Byzantine => others / 3,
        FaultModel::Crash => others / 2,
    }
}

/// An attack of a peer without a vote.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stranger {
    /// Opens connections to every node and sends nothing on them.
    Idle,
    /// Gossips transactions that pay less than any base fee to one node, one in each message.
    Dust,
    /// Claims a height with a forged certificate and returns with another identity, several times a
    /// second.
    Vanish,
    /// Signs approvals of blocks that do not exist with the key of the forger.
    Votes,
    /// Gossips forged certificates of blocks far ahead.
    Certificates,
    /// Alters single fields of the messages that it hears, without any key, and sends odd requests.
    Forgeries,
    /// Replays the signed messages of another chain with the same authorities.
    OtherChain,
    /// Accepts connections at two addresses that every node dials, and closes them at once: at the
    /// first before the handshake, at the second after it.
    HangUp,
    /// Gossips finality certificates of blocks far below the last final one, a hundred in a second.
    OldFinality,
}

impl Stranger {
    /// All attacks. The generator draws among the first [`Self::DRAWN`] by index, so their order is
    /// part of every seed's plan.
    pub const ALL: [Self; 9] = [
        Self::Idle,
        Self::Dust,
        Self::Vanish,
        Self::Votes,
        Self::Certificates,
        Self::Forgeries,
        Self::OtherChain,
        Self::HangUp,
        Self::OldFinality,
    ];
    /// Number of attacks that are drawn. The later ones are for scenarios only: a held link makes
    /// the times of dials unknown, and a limit of signature checks is an expectation of a file.
    pub const DRAWN: usize = 7;
}

/// A Byzantine authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Byzantine {
    /// Number of the authority, from 1.
    pub node: u8,
    /// Its misbehaviour.
    pub conduct: Conduct,
}

/// A fault at the first start of a node, which starts again a second later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstStart {
    /// Number of the node, from 1.
    pub node: u8,
    /// The changing disk operation of its first process that does not happen, from 1. The vote
    /// state is complete with about the 37th.
    pub operation: u64,
    /// The operation fails, and the process exits; otherwise the machine loses power.
    #[serde(default)]
    pub fails: bool,
}

/// Misbehaviour of a Byzantine authority. Except for the twins, it is the real node with changed
/// messages.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Conduct {
    /// Runs two nodes with one key, each connected to a part of the others.
    Twins,
    /// Signs two proposals and two approvals in one slot.
    Equivocate,
    /// Withholds its proposals, approvals or confirmations of some slots.
    Withhold,
    /// Delays its messages until the edge of the slot.
    Delay,
    /// Proposes blocks that do not execute, and approves them.
    InvalidPayload,
    /// Declares blocks certified and final with its own signature alone.
    BadCertificate,
    /// Flips, truncates or appends bytes of some messages, or publishes them on the wrong topic.
    Mutate,
    /// Lies in its answers to status and range requests, and alters single fields of answers.
    Lie,
    /// Alters single fields of messages, adjusts the hashes that depend on them, and signs the
    /// result.
    Forge,
    /// Follows each of its approvals by hundreds of others, of blocks that do not exist.
    Flood,
    /// Alters single fields of the orders of governance in its blocks, and keeps their signatures.
    AlterOrders,
    /// Alters the proof of work, the fees or the ledger hash of its blocks, and finds the proofs
    /// for it.
    AlterWork,
}

impl Conduct {
    /// All kinds of conduct with the counters of their acts. The generator draws among the first
    /// [`Self::DRAWN`] by index, so their order is part of every seed's plan.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::Twins, "byzantine.twins"),
        (Self::Equivocate, "byzantine.equivocate"),
        (Self::Withhold, "byzantine.withhold"),
        (Self::Delay, "byzantine.delay"),
        (Self::InvalidPayload, "byzantine.invalid-payload"),
        (Self::BadCertificate, "byzantine.bad-certificate"),
        (Self::Mutate, "byzantine.mutate"),
        (Self::Lie, "byzantine.lie"),
        (Self::Forge, "byzantine.forge"),
        (Self::Flood, "byzantine.flood"),
        (Self::AlterOrders, "byzantine.alter-orders"),
        (Self::AlterWork, "byzantine.alter-work"),
    ];
    /// Number of kinds that are drawn for every world. A flood has a scenario of its own, because
    /// it would make every other world with it slow; orders are altered where there are
    /// some, and work where miners are.
    pub const DRAWN: usize = 9;

    /// Returns the name of the counter of this conduct's acts.
    pub fn counter(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(conduct, _)| *conduct == self)
            .map_or("byzantine", |(_, counter)| counter)
    }
}

/// Quality of links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkPlan {
    /// Minimum one-way latency.
    #[serde(rename = "latency", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub latency_ms: u64,
    /// Maximum of the additional latency, which is uniform from zero.
    #[serde(rename = "jitter", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub jitter_ms: u64,
    /// Probability of a long delay, in parts per million.
    pub tail_ppm: u32,
    /// Maximum of a long delay, which is uniform from zero.
    #[serde(rename = "tail", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub tail_ms: u64,
    /// Probability of a loss and a retransmission, in parts per million.
    pub loss_ppm: u32,
    /// Bandwidth in kilobytes per second; 0 is unlimited.
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
    fn of_two_nodes_one_has_the_address_of_the_other() {
        let world = WorldPlan {
            unlisted: vec![4, 2],
            ..WorldPlan::default()
        };
        let addresses = world.addresses();
        for node in 0..world.nodes {
            for other in (0..world.nodes).filter(|other| *other != node) {
                assert!(addresses.has(node, other) || addresses.has(other, node));
            }
        }
        assert!(addresses.has(3, 0) && !addresses.has(0, 3));
        assert!(addresses.has(1, 3) && !addresses.has(3, 1));
        assert!(addresses.has(0, 2) && addresses.has(2, 0));
    }

    #[test]
    fn quorums_follow_the_protocol() {
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
