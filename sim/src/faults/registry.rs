//! Faults: the one place in which each is declared, with its word, its explanation and its values. Reading and writing of
//! files, the schema, the guide and the tables of coverage all come from here. What a fault does is in [`super`].

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::FaultCategory;
use crate::params::{LinkPlan, Ms, NodeRef, SignedMs, When, WorldPlan};

/// Messages of an actor that one step may hit.
const MAX_STRUCK: u32 = 1_000;
/// Times that a process may die in a row.
const MAX_CRASHES: u32 = 20;
/// The shortest step over the edge of a slot: a quarter of it must be a time that can be waited for.
const LEAST_EDGE_MS: u64 = 8;
/// Bits that one step may turn over.
const MAX_BITS: u32 = 1_000_000;
/// A million millionths: always.
const MILLION: u32 = 1_000_000;

/// Each kind is a word, what it says in the guide, and a variant whose fields are its words in scenario files. A field is
/// optional where it has a default.
macro_rules! faults {
    (
        $(#[$meta:meta])*
        pub enum Fault { $($word:literal: $text:literal $variant:ident { $($fields:tt)* })* }
    ) => {
        $(#[$meta])*
        pub enum Fault {
            $(
                #[doc = $text]
                #[serde(rename = $word)]
                $variant { $($fields)* },
            )*
        }

        impl Fault {
            /// All kinds: the word, and what it says in the guide.
            pub const KINDS: &'static [(&'static str, &'static str)] = &[$(($word, $text)),*];

            /// The word in scenario files and reports.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $word,)*
                }
            }
        }
    };
}

faults! {
    /// What can go wrong.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub enum Fault {
        "partition": "The named nodes and the rest do not reach each other; held: what is sent meanwhile arrives all at once."
        Partition {
            #[serde(default)]
            way: Way,
            #[serde(default)]
            held: bool,
        }

        "slow-links": "All links of the named nodes are of this quality, where it is worse than what they have."
        SlowLinks {
            delay: Ms,
            #[serde(default)]
            jitter: Ms,
            #[serde(default)]
            loss_ppm: u32,
            #[serde(default)]
            kbytes_per_s: u64,
        }

        "latency-spike": "So many in a million of what the named nodes send and receive take up to that much longer."
        LatencySpike {
            delay: Ms,
            #[serde(default = "a_twentieth")]
            share_ppm: u32,
        }

        "loss": "So many in a million of what the named nodes send and receive are lost and sent again."
        Loss { ppm: u32 }

        "reorder": "What the named nodes send and receive within the window arrives in any order, but for that of one connection."
        Reorder { window: Ms }

        "squeeze": "The links of the named nodes are narrow."
        Squeeze { kbytes_per_s: u64 }

        "clog": "What the named nodes send or are sent, by each other too, is held back and arrives all at once in the end."
        Clog {
            #[serde(default)]
            way: Way,
        }

        "swizzle": "The named nodes are clogged one after the other within the spread, and released in another order."
        Swizzle { spread: Ms }

        "half-open": "The named nodes forget their connections and tell nobody."
        HalfOpen {}

        "duplicate": "Gossip that arrives at the named nodes arrives again, up to that much later."
        Duplicate { delay: Ms }

        "reset": "All connections of the named nodes are reset."
        Reset {}

        "kill": "The process dies; with power the machine loses what was not synced."
        Kill {
            #[serde(default)]
            machine: Machine,
            #[serde(default)]
            power: bool,
        }

        "stop": "The process is asked to end, and started again when the fault ends."
        Stop {}

        "pause": "The process stands still."
        Pause {
            #[serde(default)]
            machine: Machine,
        }

        "clock": "The wall clock steps, and back when the fault ends."
        Clock { by: SignedMs }

        "drift": "The wall clock gains so many microseconds a second."
        Drift { ppm: i64 }

        "clock-edge": "The wall clock steps over the edge of a slot and back at once: the slot begins or ends twice; back: the other way."
        ClockEdge {
            by: Ms,
            #[serde(default)]
            back: bool,
        }

        "crash-again": "The process dies, and again within that time after each start, or at one of its first disk operations."
        CrashAgain {
            #[serde(default)]
            machine: Machine,
            #[serde(default)]
            power: bool,
            within: Ms,
            #[serde(default)]
            operations: u64,
            #[serde(default = "one")]
            times: u32,
        }

        "kill-all-at-height": "Everybody dies at once as the block so many above the highest final one becomes final anywhere."
        KillAllAtHeight {
            blocks: u64,
            #[serde(default)]
            power: bool,
            #[serde(default = "half_a_second")]
            down: Ms,
        }

        "wipe": "The process dies and its disk is emptied. A node counts as faulty until it votes again."
        Wipe {
            #[serde(default)]
            machine: Machine,
        }

        "restore": "The process dies, and its disk is as it was that long before. A node counts as faulty until it votes again."
        Restore {
            #[serde(default)]
            machine: Machine,
            age: Ms,
            #[serde(default = "half_a_second")]
            down: Ms,
        }

        "slow-disk": "Each sync takes longer."
        SlowDisk {
            #[serde(default)]
            machine: Machine,
            delay: Ms,
        }

        "fail-syncs": "So many syncs fail; what they should have written stays in doubt."
        FailSyncs {
            #[serde(default)]
            machine: Machine,
            #[serde(default = "one")]
            count: u32,
        }

        "fail-reads": "So many reads of a disk fail."
        FailReads {
            #[serde(default)]
            machine: Machine,
            #[serde(default = "one")]
            count: u32,
        }

        "fail-writes": "So many writes to a disk fail, and write nothing."
        FailWrites {
            #[serde(default)]
            machine: Machine,
            #[serde(default = "one")]
            count: u32,
        }

        "full-disk": "There is room for so many kilobytes more, overwriting counted: the file system writes changes elsewhere."
        FullDisk {
            #[serde(default)]
            machine: Machine,
            #[serde(default)]
            free_kbytes: u32,
        }

        "rot": "So many bits of what is stored turn over. The node is faulty then: beyond the tolerated its client is hit."
        Rot {
            #[serde(default)]
            machine: Machine,
            #[serde(default = "one")]
            bits: u32,
        }

        "misdirect-writes": "So many writes end up elsewhere in their file. Beyond the tolerated the client is hit."
        MisdirectWrites {
            #[serde(default)]
            machine: Machine,
            #[serde(default = "one")]
            count: u32,
        }

        "stale-reads": "So many reads give what was there before the last sync. Beyond the tolerated the client is hit."
        StaleReads {
            #[serde(default)]
            machine: Machine,
            #[serde(default = "one")]
            count: u32,
        }

        "power-at-operation": "The power goes in place of the disk operation of that number from now."
        PowerAtOperation {
            #[serde(default)]
            machine: Machine,
            operation: u64,
        }

        "slow-client": "The link to the execution client is slow by that much one way."
        SlowClient { delay: Ms }

        "client-syncing": "The execution client says of everything that it is syncing."
        ClientSyncing {}

        "client-invalid": "The execution client calls so many payloads invalid. The authority is faulty then: only the tolerated are hit."
        ClientInvalid {
            #[serde(default = "one")]
            count: u32,
        }

        "client-forgets": "The execution client accepts so many fork choices and forgets them."
        ClientForgets {
            #[serde(default = "one")]
            count: u32,
        }

        "client-late": "The execution client answers that much later."
        ClientLate { delay: Ms }

        "client-twice": "The execution client carries so many payloads and fork choices out twice."
        ClientTwice {
            #[serde(default = "one")]
            count: u32,
        }

        "client-hangs-up": "The execution client hangs up so often as its answer leaves."
        ClientHangsUp {
            #[serde(default = "one")]
            count: u32,
        }

        "client-clock": "The clock of the execution client's machine steps, so that tokens are of another time."
        ClientClock { by: SignedMs }

        "cut-client": "The link to the execution client is cut."
        CutClient {}

        "hold-votes": "Whenever a named node signs such a vote, what it sends is held back: kinds of votes share connections."
        HoldVotes { vote: Vote, delay: Ms }

        "kill-on-vote": "A named node dies once as it signs such a vote, with the vote on its disk and not on its way."
        KillOnVote {
            vote: Vote,
            #[serde(default)]
            power: bool,
            #[serde(default = "half_a_second")]
            down: Ms,
        }

        "kill-all-on-votes": "Everybody dies at once when so many of the named nodes have signed such a vote for one block."
        KillAllOnVotes {
            vote: Vote,
            count: u8,
            #[serde(default)]
            power: bool,
            #[serde(default = "half_a_second")]
            down: Ms,
        }

        "actor-panic": "The handler of the actor panics at its next message."
        ActorPanic {
            actor: Actor,
            #[serde(default)]
            spread: Ms,
        }

        "actor-fail": "The handler of the actor returns an error at its next message."
        ActorFail {
            actor: Actor,
            #[serde(default)]
            spread: Ms,
        }

        "actor-hang": "The handler of the actor never ends at its next message."
        ActorHang {
            actor: Actor,
            #[serde(default)]
            spread: Ms,
        }

        "actor-slow": "The next count messages of the actor begin that much later."
        ActorSlow {
            actor: Actor,
            #[serde(default)]
            spread: Ms,
            delay: Ms,
            #[serde(default = "one")]
            count: u32,
        }

        "actor-lose-reply": "The answers to the next count messages of the actor are lost."
        ActorLoseReply {
            actor: Actor,
            #[serde(default)]
            spread: Ms,
            #[serde(default = "one")]
            count: u32,
        }
    }
}

fn one() -> u32 {
    1
}

fn a_twentieth() -> u32 {
    50_000
}

fn half_a_second() -> Ms {
    Ms(500)
}

impl Fault {
    /// Whether the values make sense in a world.
    ///
    /// # Errors
    /// The word and what is wrong with it.
    pub fn check(&self, world: &WorldPlan) -> Result<(), (&'static str, String)> {
        match self {
            Self::KillAllOnVotes { count, .. } if *count > world.nodes => {
                Err(("count", format!("count: at most the {} nodes", world.nodes)))
            }
            Self::ActorSlow { count, .. } | Self::ActorLoseReply { count, .. }
                if !(1..=MAX_STRUCK).contains(count) =>
            {
                Err((
                    "count",
                    format!("count: from 1 to {MAX_STRUCK} messages, found {count}"),
                ))
            }
            Self::Rot { bits, .. } if *bits > MAX_BITS => {
                Err(("bits", format!("bits: at most {MAX_BITS}, found {bits}")))
            }
            Self::SlowLinks { loss_ppm, .. } if *loss_ppm > MILLION => Err((
                "loss_ppm",
                format!("loss_ppm: in a million, found {loss_ppm}"),
            )),
            Self::Loss { ppm } if *ppm > MILLION => {
                Err(("ppm", format!("ppm: in a million, found {ppm}")))
            }
            Self::LatencySpike { share_ppm, .. } if *share_ppm > MILLION => Err((
                "share_ppm",
                format!("share_ppm: in a million, found {share_ppm}"),
            )),
            Self::Squeeze { kbytes_per_s: 0 } => Err((
                "kbytes_per_s",
                "kbytes_per_s: at least 1; a link that takes nothing is a clog".to_owned(),
            )),
            Self::ClockEdge { by, .. } if by.0 < LEAST_EDGE_MS || by.0 > world.slot_ms => Err((
                "by",
                format!(
                    "by: from {LEAST_EDGE_MS}ms to the slot of {}ms, found {by}",
                    world.slot_ms
                ),
            )),
            Self::CrashAgain { times, .. } if !(1..=MAX_CRASHES).contains(times) => Err((
                "times",
                format!("times: from 1 to {MAX_CRASHES}, found {times}"),
            )),
            Self::CrashAgain { within: Ms(0), .. } => {
                Err(("within", "within: at least 1ms".to_owned()))
            }
            Self::KillAllAtHeight { blocks: 0, .. } => {
                Err(("blocks", "blocks: at least 1".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The quality that it gives to links, if that is what it does.
    pub fn quality(&self) -> Option<LinkPlan> {
        Some(match *self {
            Self::SlowLinks {
                delay,
                jitter,
                loss_ppm,
                kbytes_per_s,
            } => LinkPlan {
                latency_ms: delay.0,
                jitter_ms: jitter.0,
                loss_ppm,
                kbytes_per_s,
                ..LinkPlan::PERFECT
            },
            Self::LatencySpike { delay, share_ppm } => LinkPlan {
                tail_ms: delay.0,
                tail_ppm: share_ppm,
                ..LinkPlan::PERFECT
            },
            Self::Loss { ppm } => LinkPlan {
                loss_ppm: ppm,
                ..LinkPlan::PERFECT
            },
            Self::Reorder { window } => LinkPlan {
                jitter_ms: window.0,
                ..LinkPlan::PERFECT
            },
            Self::Squeeze { kbytes_per_s } => LinkPlan {
                kbytes_per_s,
                ..LinkPlan::PERFECT
            },
            _ => return None,
        })
    }

    /// The strike at an actor, if that is what it is.
    pub fn strike(&self) -> Option<Strike> {
        let (actor, spread, harm, count) = match self {
            Self::ActorPanic { actor, spread } => (actor, spread, Harm::Panic, 1),
            Self::ActorFail { actor, spread } => (actor, spread, Harm::Fail, 1),
            Self::ActorHang { actor, spread } => (actor, spread, Harm::Hang, 1),
            Self::ActorSlow {
                actor,
                spread,
                delay,
                count,
            } => (actor, spread, Harm::Slow { ms: delay.0 }, *count),
            Self::ActorLoseReply {
                actor,
                spread,
                count,
            } => (actor, spread, Harm::LoseReply, *count),
            _ => return None,
        };
        Some(Strike {
            actor: *actor,
            harm,
            count,
            spread_ms: spread.0,
        })
    }

    /// The subject of the fault. The match is closed, so that a new kind is given one.
    pub const fn category(&self) -> FaultCategory {
        match self {
            Self::Partition { .. }
            | Self::SlowLinks { .. }
            | Self::LatencySpike { .. }
            | Self::Loss { .. }
            | Self::Reorder { .. }
            | Self::Squeeze { .. }
            | Self::Clog { .. }
            | Self::Swizzle { .. }
            | Self::HalfOpen {}
            | Self::Duplicate { .. }
            | Self::Reset {}
            | Self::HoldVotes { .. } => FaultCategory::Network,
            Self::Clock { .. } | Self::Drift { .. } | Self::ClockEdge { .. } => FaultCategory::Time,
            Self::Kill { .. }
            | Self::Stop {}
            | Self::Pause { .. }
            | Self::CrashAgain { .. }
            | Self::KillAllAtHeight { .. }
            | Self::KillOnVote { .. }
            | Self::KillAllOnVotes { .. } => FaultCategory::Process,
            Self::Wipe { .. }
            | Self::Restore { .. }
            | Self::SlowDisk { .. }
            | Self::FailSyncs { .. }
            | Self::FailReads { .. }
            | Self::FailWrites { .. }
            | Self::FullDisk { .. }
            | Self::Rot { .. }
            | Self::MisdirectWrites { .. }
            | Self::StaleReads { .. }
            | Self::PowerAtOperation { .. } => FaultCategory::Disk,
            Self::SlowClient { .. }
            | Self::ClientSyncing {}
            | Self::ClientInvalid { .. }
            | Self::ClientForgets { .. }
            | Self::ClientLate { .. }
            | Self::ClientTwice { .. }
            | Self::ClientHangsUp { .. }
            | Self::ClientClock { .. }
            | Self::CutClient {} => FaultCategory::Execution,
            Self::ActorPanic { .. }
            | Self::ActorFail { .. }
            | Self::ActorHang { .. }
            | Self::ActorSlow { .. }
            | Self::ActorLoseReply { .. } => FaultCategory::Actor,
        }
    }

    /// The affected machines of its authorities.
    pub fn machine(&self) -> Machine {
        match self {
            Self::Kill { machine, .. }
            | Self::Pause { machine }
            | Self::CrashAgain { machine, .. }
            | Self::Wipe { machine }
            | Self::Restore { machine, .. }
            | Self::SlowDisk { machine, .. }
            | Self::FailSyncs { machine, .. }
            | Self::FailReads { machine, .. }
            | Self::FailWrites { machine, .. }
            | Self::FullDisk { machine, .. }
            | Self::Rot { machine, .. }
            | Self::MisdirectWrites { machine, .. }
            | Self::StaleReads { machine, .. }
            | Self::PowerAtOperation { machine, .. } => *machine,
            Self::Clock { .. } | Self::Drift { .. } => Machine::Both,
            other if other.category() == FaultCategory::Execution => Machine::Client,
            _ => Machine::Node,
        }
    }

    /// True when it has no end besides its beginning.
    pub fn is_instant(&self) -> bool {
        matches!(self, Self::Reset {}) || self.strike().is_some()
    }

    /// Its values by their words, as in a file.
    pub(crate) fn values(&self) -> serde_json::Map<String, serde_json::Value> {
        let value = serde_json::to_value(self).unwrap_or_default();
        value
            .get(self.name())
            .and_then(|values| values.as_object())
            .cloned()
            .unwrap_or_default()
    }
}

impl Fault {
    /// Its values on one line, as `machine both power`.
    pub fn values_text(&self) -> String {
        let words = self
            .values()
            .into_iter()
            .filter_map(|(word, value)| match value {
                serde_json::Value::Bool(false) => None,
                serde_json::Value::Bool(true) => Some(word),
                serde_json::Value::String(text) => Some(format!("{word} {text}")),
                other => Some(format!("{word} {other}")),
            });
        words.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let values = self.values_text();
        if values.is_empty() {
            Ok(())
        } else {
            write!(f, " {values}")
        }
    }
}

/// Which machine of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// The node's.
    #[default]
    Node,
    /// Its execution client's.
    Client,
    /// Both at once.
    Both,
}

/// Which direction is hit, seen from the nodes that are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Nothing gets in.
    In,
    /// Nothing gets out.
    Out,
    /// Neither.
    #[default]
    Both,
}

/// A kind of vote, as plans name it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The one owner of the block store.
    Storage,
    /// Checks signatures.
    Validation,
    /// Talks to the execution client.
    Engine,
    /// The state machine of agreement.
    Chain,
    /// Passes users' transactions on.
    TxPool,
    /// The libp2p service.
    Network,
    /// Who is connected, and catching up with them.
    Peers,
    /// One of them, drawn as the fault begins.
    Any,
}

impl Actor {
    /// All that a node has.
    pub const ALL: [Self; 7] = [
        Self::Storage,
        Self::Validation,
        Self::Engine,
        Self::Chain,
        Self::TxPool,
        Self::Network,
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
            Self::Storage => "storage/storage",
            Self::Validation => "chain/validation",
            Self::Engine => "chain/engine",
            Self::Chain => "chain/chain",
            Self::TxPool => "chain/tx_pool",
            Self::Network => "network/network",
            Self::Peers => "network/peers",
            Self::Any => "",
        }
    }

    /// The name of the counter of its strikes.
    pub const fn struck(self) -> &'static str {
        match self {
            Self::Storage => "actor.struck.storage",
            Self::Validation => "actor.struck.validation",
            Self::Engine => "actor.struck.engine",
            Self::Chain => "actor.struck.chain",
            Self::TxPool => "actor.struck.tx_pool",
            Self::Network => "actor.struck.network",
            Self::Peers => "actor.struck.peers",
            Self::Any => "actor.struck.any",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Any {
            "any"
        } else {
            self.path()
        })
    }
}

/// What an actor suffers at a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// The word in reports: that of the fault.
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

/// A fault inside of a running node: one of the `actor-` kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    fn every_strike_is_called_as_its_fault() {
        let (actor, spread, delay, count) = (Actor::Any, Ms(0), Ms(5), 1);
        let all = [
            Fault::ActorPanic { actor, spread },
            Fault::ActorFail { actor, spread },
            Fault::ActorHang { actor, spread },
            Fault::ActorSlow {
                actor,
                spread,
                delay,
                count,
            },
            Fault::ActorLoseReply {
                actor,
                spread,
                count,
            },
        ];
        for fault in all {
            assert_eq!(
                fault.strike().map(|strike| strike.harm.name()),
                Some(fault.name())
            );
        }
        assert_eq!(Fault::Reset {}.strike(), None);
        let named = Fault::KINDS
            .iter()
            .filter(|(word, _)| word.starts_with("actor-"))
            .count();
        assert_eq!(named, 5, "a new kind of strike needs an arm above");
    }

    #[test]
    fn words_are_all_different_and_explained() {
        for (i, (word, text)) in Fault::KINDS.iter().enumerate() {
            assert!(
                Fault::KINDS[..i].iter().all(|(other, _)| other != word),
                "{word}"
            );
            assert!(text.ends_with('.') && text.len() > 20, "{word}: {text}");
        }
    }

    #[test]
    fn a_fault_is_told_on_a_line() {
        let kill = Fault::Kill {
            machine: Machine::Both,
            power: true,
        };
        assert_eq!(kill.to_string(), "kill machine both power");
        assert_eq!(
            Fault::Clock {
                by: SignedMs(-1_500)
            }
            .to_string(),
            "clock by -1500ms"
        );
        assert_eq!(Fault::Drift { ppm: 7 }.to_string(), "drift ppm 7");
    }
}
