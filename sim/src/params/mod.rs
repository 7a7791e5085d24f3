//! The parameters of a run as plain data: the network, its users, moments, targets, accounts.
//!
//! The lowest room, so that every other one can use it. A plan ([`crate::plan`]) is these
//! parameters and faults; it stands above [`crate::faults`] because a fault is declared together
//! with the code that causes it.

pub mod accounts;
mod behaviour;
mod network;
mod stack;
mod targets;
pub(crate) mod time;
pub mod transactions;

use std::ops::RangeInclusive;

use alys_types::limits::MAX_GAS_LIMIT;

pub use behaviour::{Behaviour, WorkloadPlan};
pub use network::{Byzantine, Conduct, LinkPlan, WorldPlan};
pub use stack::Stack;
pub use targets::NodeRef;
pub use time::{Ms, SignedMs, Slots, When, WordError, parse_duration};

/// Most authorities of a world; the protocol's limit.
pub const MAX_NODES: u8 = 15;
/// Longest chaos, in milliseconds: the heap of timers grows with it.
pub const MAX_UNTIL_MS: u64 = 3_600_000;
/// How long machines may wait for the other end of a connection.
pub const TCP_TIMEOUT_MS: RangeInclusive<u64> = 500..=120_000;
/// Most users of a world: each has a machine's worth of connections.
pub const MAX_USERS: u8 = 32;

/// Sizes of pools that all behaviours of users get along with.
pub const POOL: RangeInclusive<usize> = 16..=10_240;
/// Gas limits of blocks: room for the largest transaction of the workload, and what the chain's
/// rules allow.
pub const BLOCK_GAS: RangeInclusive<u64> = 2_000_000..=MAX_GAS_LIMIT;
