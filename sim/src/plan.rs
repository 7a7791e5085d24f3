//! Plans: everything that makes a run, besides its seed and the code. Plain data, the same in every process.

use std::fmt;
use std::str::FromStr;

use alys_types::FaultModel;
use alys_types::limits::MAX_GAS_LIMIT;
use serde::{Deserialize, Serialize};

use crate::workload::Behaviour;

/// Most authorities of a world; the protocol's limit.
pub const MAX_NODES: u8 = 15;
/// Most steps of a plan.
pub const MAX_STEPS: usize = 1_000;
/// Longest chaos, in milliseconds: the heap of timers grows with it.
pub const MAX_UNTIL_MS: u64 = 3_600_000;

/// A run, without its seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The scenario's name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// Rules of the protocol (`3.2`) and failures of V1 (`S1`) that it is about.
    pub covers: Vec<String>,
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

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldPlan {
    /// Authorities, each with an execution client of its own.
    pub nodes: u8,
    /// What the federation tolerates.
    pub fault_model: FaultModel,
    /// Milliseconds.
    pub slot_ms: u64,
    /// How far clocks may be apart, in milliseconds.
    pub drift_ms: u64,
    /// Between machines of different authorities.
    pub link: LinkPlan,
    /// The authority whose key somebody else has too, who forges certificates with it.
    pub forger: Option<u8>,
    /// Authorities that stay down when everything else heals.
    pub left_dead: Vec<u8>,
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

    /// Votes that make a certificate.
    pub fn quorum(&self) -> usize {
        usize::from(self.nodes) - self.tolerated()
    }
}

/// The quality of links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Least time one way, in milliseconds.
    pub latency_ms: u64,
    /// Added to it, uniformly up to this, in milliseconds.
    pub jitter_ms: u64,
    /// How often, in a million, something is lost and sent again.
    pub loss_ppm: u32,
    /// Kilobytes a second; 0 is no limit.
    pub kbytes_per_s: u64,
}

impl Default for LinkPlan {
    fn default() -> Self {
        Self { latency_ms: 5, jitter_ms: 5, loss_ppm: 0, kbytes_per_s: 12_500 }
    }
}

/// What users do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadPlan {
    /// Accounts that send transactions; 0 is no workload.
    pub users: u8,
    /// Most transactions that an account has under way.
    pub burst: u8,
    /// Pause of an account between two bursts, in milliseconds.
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
        Self { users: 3, burst: 3, pause_ms: 700, behaviours, pool: 64, block_gas: MAX_GAS_LIMIT }
    }
}

/// What must hold in the end, besides all invariants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// Final blocks on every node when the chaos ends.
    pub min_final: u64,
    /// Final blocks on every node, above the highest of that moment, within [`Expect::within_ms`] after everything healed.
    pub progress: u64,
    /// Milliseconds.
    pub within_ms: u64,
}

impl Default for Expect {
    fn default() -> Self {
        Self { min_final: 0, progress: 3, within_ms: 60_000 }
    }
}

/// A fault with its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// A moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum When {
    /// Milliseconds from the start.
    At(u64),
    /// Milliseconds into a slot; slot 1 is the first that begins after the start.
    Slot(u64, u64),
}

/// An authority, named directly or by its part in the slot in which the fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NodeRef {
    /// By number, from 1.
    Number(u8),
    /// The leader of the slot so many slots after the present one.
    Leader(i8),
    /// Anybody, drawn when the fault begins; several in one step are different ones.
    Any,
    /// Everybody.
    All,
    /// Everybody whom the rest of the list does not name.
    Others,
}

/// Which machine of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// The node's.
    Node,
    /// Its execution client's.
    Client,
    /// Both at once.
    Both,
}

/// Which direction is hit, seen from the nodes that are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Nothing gets in.
    In,
    /// Nothing gets out.
    Out,
    /// Neither.
    Both,
}

/// A kind of vote, as plans name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vote {
    /// A leader's own block.
    Proposal,
    /// Rule 2.
    Approval,
    /// Rule 4.
    Confirmation,
}

/// An actor of a node, as plans name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The one owner of the block store.
    Store,
    /// Checks signatures.
    Validation,
    /// Talks to the execution client.
    Engine,
    /// The state machine of agreement.
    Agreement,
    /// Passes users' transactions on.
    TxPool,
    /// The libp2p service.
    Service,
    /// Who is connected, and catching up with them.
    Peers,
    /// One of them, drawn as the fault begins.
    Any,
}

impl Actor {
    /// All that a node has.
    pub const ALL: [Self; 7] = [
        Self::Store,
        Self::Validation,
        Self::Engine,
        Self::Agreement,
        Self::TxPool,
        Self::Service,
        Self::Peers,
    ];

    /// Itself, or one that is drawn: `below` gives a number below another.
    pub fn drawn(self, below: impl FnOnce(u64) -> u64) -> Self {
        match self {
            Self::Any => Self::ALL[below(Self::ALL.len() as u64) as usize],
            named => named,
        }
    }

    /// Its path below the root of the node's supervision tree.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Store => "storage/store",
            Self::Validation => "chain/validation",
            Self::Engine => "chain/engine",
            Self::Agreement => "chain/agreement",
            Self::TxPool => "chain/tx_pool",
            Self::Service => "network/service",
            Self::Peers => "network/peers",
            Self::Any => "",
        }
    }

    /// The name of the counter of its strikes.
    pub const fn struck(self) -> &'static str {
        match self {
            Self::Store => "actor.struck.store",
            Self::Validation => "actor.struck.validation",
            Self::Engine => "actor.struck.engine",
            Self::Agreement => "actor.struck.agreement",
            Self::TxPool => "actor.struck.tx_pool",
            Self::Service => "actor.struck.service",
            Self::Peers => "actor.struck.peers",
            Self::Any => "actor.struck.any",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Any { "any" } else { self.path() })
    }
}

/// What an actor suffers at a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// Its handler panics.
    Panic,
    /// Its handler returns an error.
    Fail,
    /// Its handler never ends.
    Hang,
    /// Its handler begins so many milliseconds later.
    Slow { ms: u64 },
    /// It handles the message, and the answers are lost.
    LoseReply,
}

impl Harm {
    /// The word in scenario files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "actor-panic",
            Self::Fail => "actor-fail",
            Self::Hang => "actor-hang",
            Self::Slow { .. } => "actor-slow",
            Self::LoseReply => "actor-lose-reply",
        }
    }

    /// Whether the actor does not survive it: it must be made anew.
    pub const fn is_deadly(self) -> bool {
        match self {
            Self::Panic | Self::Fail | Self::Hang => true,
            Self::Slow { .. } | Self::LoseReply => false,
        }
    }
}

/// A fault inside of a running node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// Who.
    pub actor: Actor,
    /// What.
    pub harm: Harm,
    /// At how many of its next messages.
    pub count: u32,
    /// It comes at a moment, drawn for each node, up to so many milliseconds after the step begins.
    pub spread_ms: u64,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The named nodes and the rest do not reach each other. `held`: what is sent meanwhile arrives all at once.
    Partition { way: Way, held: bool },
    /// All links of the named nodes are of this quality.
    SlowLinks(LinkPlan),
    /// All connections of the named nodes are reset.
    Reset,
    /// The process dies; with `power` the machine loses what was not synced.
    Kill { machine: Machine, power: bool },
    /// The process is asked to end.
    Stop,
    /// The process stands still.
    Pause { machine: Machine },
    /// The wall clock steps by so many milliseconds, and back when the fault ends.
    Clock { ms: i64 },
    /// The wall clock gains so many microseconds a second.
    Drift { ppm: i64 },
    /// Each sync takes so many milliseconds longer.
    SlowDisk { machine: Machine, ms: u64 },
    /// So many syncs fail; what they should have written stays in doubt.
    FailSyncs { machine: Machine, count: u32 },
    /// The power goes in place of the k-th disk operation.
    PowerAtOperation { machine: Machine, operation: u64 },
    /// The link to the execution client is slow by so many milliseconds one way.
    SlowClient { ms: u64 },
    /// The link to the execution client is cut.
    CutClient,
    /// Whenever a named node signs a vote of this kind, what it sends is held back for so many milliseconds: the kinds of
    /// votes share connections, so a kind is delayed by the moment at which it is sent.
    HoldVotes { vote: Vote, ms: u64 },
    /// A named node dies as it signs a vote of this kind, the vote on its disk and not yet on its way, and comes back after
    /// `down_ms`; each of them once.
    KillOnVote { vote: Vote, power: bool, down_ms: u64 },
    /// As [`Fault::KillOnVote`], but everybody dies at once when so many of the named nodes have signed such a vote for the
    /// same block.
    KillAllOnVotes { vote: Vote, count: u8, power: bool, down_ms: u64 },
    /// An actor of the named nodes is struck at its next messages, and must be well again soon after.
    Actor(Strike),
}

impl Fault {
    /// The word in scenario files and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Partition { .. } => "partition",
            Self::SlowLinks(_) => "slow-links",
            Self::Reset => "reset",
            Self::Kill { .. } => "kill",
            Self::Stop => "stop",
            Self::Pause { .. } => "pause",
            Self::Clock { .. } => "clock",
            Self::Drift { .. } => "drift",
            Self::SlowDisk { .. } => "slow-disk",
            Self::FailSyncs { .. } => "fail-syncs",
            Self::PowerAtOperation { .. } => "power-at-operation",
            Self::SlowClient { .. } => "slow-client",
            Self::CutClient => "cut-client",
            Self::HoldVotes { .. } => "hold-votes",
            Self::KillOnVote { .. } => "kill-on-vote",
            Self::KillAllOnVotes { .. } => "kill-all-on-votes",
            Self::Actor(strike) => strike.harm.name(),
        }
    }
}

/// A word of a plan that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {expected}")]
pub struct WordError {
    /// What was given.
    pub text: String,
    /// What would be understood.
    pub expected: &'static str,
}

/// Reads `250ms`, `12s`, `1.5s`, `2min`, as milliseconds.
pub fn parse_duration(text: &str) -> Result<u64, WordError> {
    let error = || WordError { text: text.to_owned(), expected: "a duration is 250ms, 12s, 1.5s or 2min" };
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        _ => return Err(error()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 3 {
        return Err(error());
    }
    let parse = |digits: &str| digits.parse::<u64>().map_err(|_| error());
    let scale = 10u64.pow(fraction.len() as u32);
    let parts = parse(whole)?.checked_mul(unit_ms).zip(parse(fraction)?.checked_mul(unit_ms));
    let (whole, fraction) = parts.ok_or_else(error)?;
    whole.checked_add(fraction / scale).filter(|ms| *ms <= MAX_UNTIL_MS).ok_or_else(error)
}

fn duration(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}

impl FromStr for When {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let expected = "a moment is a duration from the start (12s), or a slot with or without an offset (slot 7 + 300ms)";
        let error = || WordError { text: text.to_owned(), expected };
        let Some(rest) = text.trim().strip_prefix("slot") else {
            return parse_duration(text).map(Self::At).map_err(|_| error());
        };
        let (slot, offset) = match rest.split_once('+') {
            Some((slot, offset)) => (slot, parse_duration(offset).map_err(|_| error())?),
            None => (rest, 0),
        };
        Ok(Self::Slot(slot.trim().parse().map_err(|_| error())?, offset))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(ms) => f.write_str(&duration(*ms)),
            Self::Slot(slot, 0) => write!(f, "slot {slot}"),
            Self::Slot(slot, ms) => write!(f, "slot {slot} + {}", duration(*ms)),
        }
    }
}

impl FromStr for NodeRef {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let expected = "a node is a number from 1, leader, leader+1, leader-1, any, all or others";
        let error = || WordError { text: text.to_owned(), expected };
        match text.trim() {
            "leader" => Ok(Self::Leader(0)),
            "any" => Ok(Self::Any),
            "all" => Ok(Self::All),
            "others" => Ok(Self::Others),
            text => match text.strip_prefix("leader") {
                Some(offset) => offset.parse().map(Self::Leader).map_err(|_| error()),
                None => match text.parse() {
                    Ok(number) if (1..=MAX_NODES).contains(&number) => Ok(Self::Number(number)),
                    _ => Err(error()),
                },
            },
        }
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Leader(0) => f.write_str("leader"),
            Self::Leader(offset) => write!(f, "leader{offset:+}"),
            Self::Any => f.write_str("any"),
            Self::All => f.write_str("all"),
            Self::Others => f.write_str("others"),
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = WordError;

            fn try_from(text: String) -> Result<Self, WordError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(When, NodeRef);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(NodeRef::to_string).collect();
        write!(f, "{}: {:?} on {}", self.at, self.fault, nodes.join(", "))?;
        match self.for_ms {
            Some(ms) => write!(f, " for {}", duration(ms)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let good = [
            ("0ms", 0),
            ("250ms", 250),
            ("12s", 12_000),
            ("1.5s", 1_500),
            ("0.25s", 250),
            ("2 min", 120_000),
        ];
        for (text, ms) in good {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in ["", "12", "s", "1h", "-1s", "1.s", "1.2345s", "1.5.5s", "61min", "99999999999999999999s"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_and_nodes_are_written_as_they_are_read() {
        for text in ["12s", "250ms", "slot 7", "slot 7 + 300ms", "slot 12 + 2s"] {
            assert_eq!(text.parse::<When>().map(|when| when.to_string()), Ok(text.to_owned()));
        }
        for text in ["1", "15", "leader", "leader+1", "leader-2", "any", "all", "others"] {
            assert_eq!(text.parse::<NodeRef>().map(|node| node.to_string()), Ok(text.to_owned()));
        }
        for text in ["slot", "slot x", "slot 7 + 3", "7"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
        for text in ["0", "16", "leaders", "leader+", "none", ""] {
            assert!(text.parse::<NodeRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn quorums_are_what_the_protocol_says() {
        let table =
            [(1, 1, 1), (2, 2, 2), (3, 3, 2), (4, 3, 3), (5, 4, 3), (7, 5, 4), (10, 7, 6), (15, 11, 8)];
        for (nodes, byzantine, crash) in table {
            let quorum = |fault_model| {
                let link = LinkPlan::default();
                let (slot_ms, drift_ms) = (1_000, 250);
                WorldPlan { nodes, fault_model, slot_ms, drift_ms, link, forger: None, left_dead: Vec::new() }
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
