//! What is measured, how much of it, and what one child process does.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::gear::CAPACITY;

/// Who is compared, in the order of the columns.
pub const CONTENDERS: [(&str, &dyn Contender); 7] = [
    (OURS, &crate::alys::Alys),
    (
        RAW,
        &crate::raw::Raw {
            has_deadline: false,
        },
    ),
    ("raw+deadline", &crate::raw::Raw { has_deadline: true }),
    (FRAMEWORKS[0], &crate::actix::Actix { is_apart: false }),
    ("actix+arbiter", &crate::actix::Actix { is_apart: true }),
    (FRAMEWORKS[1], &crate::ractor::Ractor),
    (FRAMEWORKS[2], &crate::kameo::Kameo),
];

/// The column that is compared with the others.
pub const OURS: &str = "alys";

/// The floor.
pub const RAW: &str = "raw";

/// Among these is the best that ours is compared with.
pub const FRAMEWORKS: [&str; 3] = ["actix", "ractor", "kameo"];

/// The same work, in the words of each framework. Every method warms up first; see `gear`.
pub trait Contender: Sync {
    /// Whether the measure makes a difference to this column. The others' cells stay empty.
    fn takes(&self, measure: Measure) -> bool {
        let _ = measure;
        true
    }
    /// How long until `each` notes from each of `senders` are handled by one actor.
    fn tell(&self, senders: u64, each: u64) -> Duration;
    /// One asker, one ask at a time.
    fn ask(&self, asks: u64) -> Histogram<u64>;
    /// How long `askers` take for `each` asks at once.
    fn ask_at_once(&self, askers: u64, each: u64) -> Duration;
    /// Asks of an actor that asks another one in its handler.
    fn ask_through(&self, asks: u64) -> Histogram<u64>;
    /// How long `tokens` take to go round `actors` in a ring, `laps` times.
    fn ring(&self, actors: u64, tokens: u64, laps: u64) -> Duration;
    /// How long until `actors` new actors have handled a message each.
    fn spawn(&self, actors: u64) -> Duration;
    /// Live heap bytes of an idle actor.
    fn memory(&self, actors: u64) -> f64;
    /// From sending a message that makes a supervised actor fail until its next incarnation has handled one.
    fn restart(&self, times: u64) -> Histogram<u64>;
}

const SENDERS: u64 = 8;
const NOTES: u64 = 1_000_000;
const ASKS: u64 = 200_000;
const ASKS_THROUGH: u64 = 100_000;
const RING: u64 = 1_000;
const LAPS_OF_ONE: u64 = 50;
const TOKENS: u64 = 100;
const LAPS_OF_MANY: u64 = 10;
const ACTORS: u64 = 10_000;
const RESTARTS: u64 = 2_000;

const _: () = assert!(
    TOKENS < CAPACITY as u64,
    "all tokens fit into one mailbox, so no sender ever waits"
);

/// What one child process measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Tell,
    TellMany,
    Ask,
    AskMany,
    AskThrough,
    RingOne,
    RingMany,
    Spawn,
    Memory,
    Restart,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    /// Whether more is better.
    pub is_rate: bool,
}

const fn rate(name: &'static str, unit: &'static str) -> Row {
    Row {
        name,
        unit,
        is_rate: true,
    }
}

const fn cost(name: &'static str, unit: &'static str) -> Row {
    Row {
        name,
        unit,
        is_rate: false,
    }
}

impl Measure {
    pub const ALL: [Self; 10] = [
        Self::Tell,
        Self::TellMany,
        Self::Ask,
        Self::AskMany,
        Self::AskThrough,
        Self::RingOne,
        Self::RingMany,
        Self::Spawn,
        Self::Memory,
        Self::Restart,
    ];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tell => "tell",
            Self::TellMany => "tell-many",
            Self::Ask => "ask",
            Self::AskMany => "ask-many",
            Self::AskThrough => "ask-through",
            Self::RingOne => "ring-one",
            Self::RingMany => "ring-many",
            Self::Spawn => "spawn",
            Self::Memory => "memory",
            Self::Restart => "restart",
        }
    }

    /// For people.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Tell => "a million messages from one sender to one actor, until all are handled",
            Self::TellMany => "the same from eight senders",
            Self::Ask => "how long one ask takes, for an asker that asks one after the other",
            Self::AskMany => "asks answered for eight askers",
            Self::AskThrough => {
                "how long an ask takes that makes the actor ask another one in its handler"
            }
            Self::RingOne => "one token through a ring of a thousand actors, fifty times round",
            Self::RingMany => "a hundred tokens, ten times round",
            Self::Spawn => "ten thousand actors, until each has handled a message",
            Self::Memory => "live heap bytes of one of ten thousand idle actors",
            Self::Restart => {
                "from a message that makes a supervised actor fail until the next one is handled"
            }
        }
    }

    /// The lines that it fills, in the order of the values that [`run`](Self::run) returns.
    pub const fn rows(self) -> &'static [Row] {
        match self {
            Self::Tell => const { &[rate("tell, 1 to 1", "M/s")] },
            Self::TellMany => const { &[rate("tell, 8 to 1", "M/s")] },
            Self::Ask => {
                const {
                    &[
                        cost("ask, p50", "us"),
                        cost("ask, p99", "us"),
                        cost("ask, p99.9", "us"),
                    ]
                }
            }
            Self::AskMany => const { &[rate("ask, 8 at once", "M/s")] },
            Self::AskThrough => {
                const {
                    &[
                        cost("ask through, p50", "us"),
                        cost("ask through, p99", "us"),
                    ]
                }
            }
            Self::RingOne => const { &[cost("ring of 1000, 1 token, 50 laps", "ms")] },
            Self::RingMany => const { &[cost("ring of 1000, 100 tokens, 10 laps", "ms")] },
            Self::Spawn => const { &[rate("spawn to first message", "k/s")] },
            Self::Memory => const { &[cost("memory of an idle actor", "bytes")] },
            Self::Restart => const { &[cost("restart, p50", "us"), cost("restart, p99", "us")] },
        }
    }

    /// Runs it once, in this process. One value for each of [`rows`](Self::rows).
    pub fn run(self, contender: &dyn Contender) -> Vec<f64> {
        match self {
            Self::Tell => vec![per_second(NOTES, contender.tell(1, NOTES)) / 1e6],
            Self::TellMany => {
                vec![per_second(NOTES, contender.tell(SENDERS, NOTES / SENDERS)) / 1e6]
            }
            Self::Ask => micros(&contender.ask(ASKS), &[0.5, 0.99, 0.999]),
            Self::AskMany => {
                vec![per_second(ASKS, contender.ask_at_once(SENDERS, ASKS / SENDERS)) / 1e6]
            }
            Self::AskThrough => micros(&contender.ask_through(ASKS_THROUGH), &[0.5, 0.99]),
            Self::RingOne => vec![contender.ring(RING, 1, LAPS_OF_ONE).as_secs_f64() * 1e3],
            Self::RingMany => vec![contender.ring(RING, TOKENS, LAPS_OF_MANY).as_secs_f64() * 1e3],
            Self::Spawn => vec![per_second(ACTORS, contender.spawn(ACTORS)) / 1e3],
            Self::Memory => {
                crate::ALLOCATOR.count();
                vec![contender.memory(ACTORS)]
            }
            Self::Restart => micros(&contender.restart(RESTARTS), &[0.5, 0.99]),
        }
    }
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn micros(histogram: &Histogram<u64>, quantiles: &[f64]) -> Vec<f64> {
    quantiles
        .iter()
        .map(|quantile| histogram.value_at_quantile(*quantile) as f64 / 1e3)
        .collect()
}
