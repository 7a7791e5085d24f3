//! Faults inside of a running node: an actor is struck at its next message ([`super::strikes`]).

use std::fmt;
use std::time::Duration;

use alys_actor_system::Fault as Injected;
use alys_node::wiring::table::{self, ACTORS, ActorSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Faults;
use super::draw::{Draw, Drawing, drawing};
use super::registry::{Fault, Hit, Kind, Place, Words, WrongValue, declare, default, subject};
use super::strikes::Strike;
use crate::params::{Ms, NodeRef, When};

subject![ActorPanic, ActorFail, ActorHang, ActorSlow, ActorLoseReply];

/// Most messages of an actor that one step may hit.
const MAX_STRUCK: u32 = 1_000;
/// Longest drawn delay of a slow actor. It is below the time that any actor may take for a message,
/// so that no supervisor considers the actor hung.
const MOST_SLOW_MS: u64 = 1_200;

/// Declares the actors by their word in plans, each with its row of the node's table.
macro_rules! actors {
    ($($(#[$doc:meta])* $actor:ident = $word:literal, $spec:ident;)*) => {
        /// An actor of a node, by its name in plans.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum Actor {
            $($(#[$doc])* $actor,)*
            /// A random actor, drawn when the fault begins.
            Any,
        }

        impl Actor {
            /// All named actors of a node, in the order of the node's table.
            pub const ALL: [Self; ACTORS.len()] = [$(Self::$actor),*];

            /// The actor in the node's table; `None` for [`Self::Any`].
            const fn spec(self) -> Option<ActorSpec> {
                match self {
                    $(Self::$actor => Some(table::$spec),)*
                    Self::Any => None,
                }
            }

            /// The name of the counter of strikes at this actor.
            pub const fn struck(self) -> &'static str {
                match self {
                    $(Self::$actor => concat!("actor.struck.", $word),)*
                    Self::Any => "actor.struck.any",
                }
            }
        }
    };
}

actors! {
    /// Owns the block store.
    Storage = "storage", STORAGE;
    /// Checks signatures.
    Validation = "validation", VALIDATION;
    /// Communicates with the execution client.
    Engine = "engine", ENGINE;
    /// Runs the state machine of consensus.
    Chain = "chain", CHAIN;
    /// Hands out work to miners and takes their proofs.
    Auxpow = "auxpow", AUXPOW;
    /// Forwards users' transactions.
    TxPool = "tx_pool", TX_POOL;
    /// Runs the libp2p service.
    Network = "network", NETWORK;
    /// Tracks connected peers, and fetches missed blocks from them.
    Peers = "peers", PEERS;
}

impl Actor {
    /// Resolves [`Self::Any`] to a drawn actor; `below` draws a number below its argument.
    pub fn drawn(self, below: impl FnOnce(u64) -> u64) -> Self {
        match self {
            Self::Any => Self::ALL[below(Self::ALL.len() as u64) as usize],
            named => named,
        }
    }

    /// True if a circuit breaker delays its restarts, which do not count then.
    pub(super) fn is_behind_breaker(self) -> bool {
        self.spec().is_some_and(|spec| spec.restart.is_breaker())
    }

    /// The path below the root of the node's supervision tree; empty for [`Self::Any`].
    pub fn path(self) -> String {
        self.spec().map_or(String::new(), |spec| spec.path())
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spec() {
            Some(spec) => f.write_str(&spec.path()),
            None => f.write_str("any"),
        }
    }
}

/// Draws one to three strikes some slots apart, so that a node usually heals in between.
fn strikes<F: Into<Fault>>(draw: &mut Draw<'_>, fault: impl Fn(Actor, Ms) -> F) {
    let slot_ms = draw.slot_ms();
    for turn in 0..draw.between(1, 3) {
        let actor = draw.actor();
        let nodes = if draw.below(4) == 0 {
            vec![NodeRef::All]
        } else {
            draw.someone_else()
        };
        let at = When::Slot(draw.slot + 6 * turn, draw.below(slot_ms));
        draw.push(at, 0, nodes, fault(actor, Ms(2 * slot_ms)));
    }
}

fn check_count(count: u32) -> Result<(), WrongValue> {
    if (1..=MAX_STRUCK).contains(&count) {
        return Ok(());
    }
    let message = format!("count: from 1 to {MAX_STRUCK} messages, found {count}");
    Err(("count", message))
}

declare! {
    "actor-panic": "The handler of the actor panics at its next message."
    ActorPanic {
        pub actor: Actor,
        #[serde(default)]
        pub spread: Ms,
    }
}

impl Kind for ActorPanic {
    const EFFECTS: &'static [&'static str] = &["fault.actor-panic", "fault.actor.healed"];
    const IS_INSTANT: bool = true;
    const DRAWINGS: &'static [Drawing] = &[drawing(
        26,
        "actor-crash",
        "Actors panic or fail.",
        |draw| {
            let panics = draw.flip();
            strikes(draw, |actor, spread| {
                if panics {
                    Fault::from(ActorPanic { actor, spread })
                } else {
                    Fault::from(ActorFail { actor, spread })
                }
            });
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.strike(
            hit,
            Strike::new(Self::NAME, self.actor, self.spread, Injected::Panic),
        );
    }
}

declare! {
    "actor-fail": "The handler of the actor returns an error at its next message."
    ActorFail {
        pub actor: Actor,
        #[serde(default)]
        pub spread: Ms,
    }
}

impl Kind for ActorFail {
    const EFFECTS: &'static [&'static str] = &["fault.actor-fail", "fault.actor.healed"];
    const IS_INSTANT: bool = true;
    /// Drawn along with [`ActorPanic`].
    const DRAWINGS: &'static [Drawing] = &[];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.strike(
            hit,
            Strike::new(Self::NAME, self.actor, self.spread, Injected::Fail),
        );
    }
}

declare! {
    "actor-hang": "The handler of the actor never returns at its next message."
    ActorHang {
        pub actor: Actor,
        #[serde(default)]
        pub spread: Ms,
    }
}

impl Kind for ActorHang {
    const EFFECTS: &'static [&'static str] = &["fault.actor-hang", "fault.actor.healed"];
    const IS_INSTANT: bool = true;
    const DRAWINGS: &'static [Drawing] = &[drawing(27, "actor-hang", "Actors hang.", |draw| {
        strikes(draw, |actor, spread| ActorHang { actor, spread });
    })];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.strike(
            hit,
            Strike::new(Self::NAME, self.actor, self.spread, Injected::Hang),
        );
    }
}

declare! {
    "actor-slow": "The actor begins each of its next `count` messages `delay` later."
    ActorSlow {
        pub actor: Actor,
        #[serde(default)]
        pub spread: Ms,
        pub delay: Ms,
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl Kind for ActorSlow {
    const EFFECTS: &'static [&'static str] = &["fault.actor-slow"];
    const IS_INSTANT: bool = true;
    const DRAWINGS: &'static [Drawing] = &[drawing(28, "actor-slow", "Actors are slow.", |draw| {
        let delay = draw.ms_between(1, MOST_SLOW_MS);
        let count = draw.count(1, 5);
        strikes(draw, |actor, spread| ActorSlow {
            actor,
            spread,
            delay,
            count,
        });
    })];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        check_count(self.count)
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        let slow = Injected::Slow(Duration::from_millis(self.delay.0));
        faults.strike(
            hit,
            Strike::new(Self::NAME, self.actor, self.spread, slow).times(self.count),
        );
    }
}

declare! {
    "actor-lose-reply": "The answers to the next `count` messages of the actor are lost."
    ActorLoseReply {
        pub actor: Actor,
        #[serde(default)]
        pub spread: Ms,
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl Kind for ActorLoseReply {
    const EFFECTS: &'static [&'static str] = &["fault.actor-lose-reply"];
    const IS_INSTANT: bool = true;
    const DRAWINGS: &'static [Drawing] = &[drawing(
        29,
        "lost-replies",
        "Answers of actors are lost.",
        |draw| {
            let count = draw.count(1, 5);
            strikes(draw, |actor, spread| ActorLoseReply {
                actor,
                spread,
                count,
            });
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        check_count(self.count)
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        faults.strike(
            hit,
            Strike::new(Self::NAME, self.actor, self.spread, Injected::LoseReply).times(self.count),
        );
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    let actor = Actor::Any;
    let spread = Ms(0);
    vec![
        // No actor runs on an idle machine; `every_actor_of_a_node_is_struck_and_heals` runs nodes.
        Row::passing(ActorPanic { actor, spread }, 1, &[]),
        Row::passing(ActorFail { actor, spread }, 1, &[]),
        Row::passing(ActorHang { actor, spread }, 1, &[]),
        Row::passing(
            ActorSlow {
                actor,
                spread,
                delay: Ms(5),
                count: 1,
            },
            1,
            &[],
        ),
        Row::passing(
            ActorLoseReply {
                actor,
                spread,
                count: 1,
            },
            1,
            &[],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_actor_of_a_node_has_its_word() {
        for (actor, wired) in Actor::ALL.into_iter().zip(ACTORS) {
            assert_eq!(actor.path(), wired.path());
            assert_eq!(actor.struck(), format!("actor.struck.{}", wired.name));
            let word = serde_json::to_value(actor).expect("a word");
            assert_eq!(word, wired.name);
        }
    }
}
