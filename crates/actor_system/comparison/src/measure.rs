//! The measures: names, amounts of work, and rows of the table.

use crate::contender::CAPACITY;

/// The unit of `--only`: one child process takes one measure of one contender.
pub struct Measure {
    /// As on the command line.
    pub name: &'static str,
    pub about: &'static str,
    pub scenario: Scenario,
    /// The rows of the table that it fills, in the order of the scenario's values.
    pub rows: &'static [Row],
}

/// The work of a measure. Each is a function of [`scenarios`](crate::scenarios).
#[derive(Debug, Clone, Copy)]
pub enum Scenario {
    Tell { senders: u64, each: u64 },
    Ask { asks: u64 },
    AskAtOnce { askers: u64, each: u64 },
    AskThrough { asks: u64 },
    Ring { actors: u64, tokens: u64, laps: u64 },
    Spawn { actors: u64 },
    Memory { actors: u64 },
    Restart { times: u64 },
}

/// One row of the table.
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    /// True if more is better.
    pub is_rate: bool,
}

/// Tokens of a ring at once.
const TOKENS: u64 = 100;

const _: () = assert!(
    TOKENS < CAPACITY as u64,
    "all tokens fit into one mailbox, so passing one on never fails"
);

/// All measures, in the order of the table.
pub static MEASURES: [Measure; 10] = [
    Measure {
        name: "tell",
        about: "a million messages from one sender to one actor, until all are handled",
        scenario: Scenario::Tell {
            senders: 1,
            each: 1_000_000,
        },
        rows: &[rate("tell, 1 to 1", "M/s")],
    },
    Measure {
        name: "tell-many",
        about: "the same from eight senders",
        scenario: Scenario::Tell {
            senders: 8,
            each: 125_000,
        },
        rows: &[rate("tell, 8 to 1", "M/s")],
    },
    Measure {
        name: "ask",
        about: "latency of an ask, for one asker that asks one after the other",
        scenario: Scenario::Ask { asks: 200_000 },
        rows: &[
            cost("ask, p50", "us"),
            cost("ask, p99", "us"),
            cost("ask, p99.9", "us"),
        ],
    },
    Measure {
        name: "ask-many",
        about: "asks answered for eight askers",
        scenario: Scenario::AskAtOnce {
            askers: 8,
            each: 25_000,
        },
        rows: &[rate("ask, 8 at once", "M/s")],
    },
    Measure {
        name: "ask-through",
        about: "latency of an ask whose handler asks another actor",
        scenario: Scenario::AskThrough { asks: 100_000 },
        rows: &[
            cost("ask through, p50", "us"),
            cost("ask through, p99", "us"),
        ],
    },
    Measure {
        name: "ring-one",
        about: "fifty laps of one token through a ring of a thousand actors",
        scenario: Scenario::Ring {
            actors: 1_000,
            tokens: 1,
            laps: 50,
        },
        rows: &[cost("ring of 1000, 1 token, 50 laps", "ms")],
    },
    Measure {
        name: "ring-many",
        about: "ten laps of a hundred tokens",
        scenario: Scenario::Ring {
            actors: 1_000,
            tokens: TOKENS,
            laps: 10,
        },
        rows: &[cost("ring of 1000, 100 tokens, 10 laps", "ms")],
    },
    Measure {
        name: "spawn",
        about: "ten thousand actors, until each has handled a message",
        scenario: Scenario::Spawn { actors: 10_000 },
        rows: &[rate("spawn to first message", "k/s")],
    },
    Measure {
        name: "memory",
        about: "live heap bytes of one of ten thousand idle actors",
        scenario: Scenario::Memory { actors: 10_000 },
        rows: &[cost("memory of an idle actor", "bytes")],
    },
    Measure {
        name: "restart",
        about: "from a message that makes a supervised actor fail until the next one is handled",
        scenario: Scenario::Restart { times: 2_000 },
        rows: &[cost("restart, p50", "us"), cost("restart, p99", "us")],
    },
];

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
