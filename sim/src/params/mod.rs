//! The parameters of a run as plain data: network, users, moments, targets, accounts.
//!
//! This room imports from no other one, so every other one can use it. A plan ([`crate::plan`])
//! combines these parameters with faults; it is above [`crate::faults`] because a fault is declared
//! together with the code that causes it.

pub mod accounts;
mod behaviour;
mod limits;
mod machine_role;
mod miners;
mod network;
mod stack;
mod targets;
pub(crate) mod time;
pub mod transactions;

use std::ops::RangeInclusive;

use alys_types::limits::MAX_GAS_LIMIT;

pub use behaviour::{Behaviour, WorkloadPlan};
pub use limits::LimitsPlan;
pub use machine_role::MachineRole;
pub use miners::{MAX_MINERS, MinerConduct, MinerPlan};
pub use network::{
    Byzantine, Conduct, FaultModelWord, FirstStart, KnownAddresses, LinkPlan, Stranger, WorldPlan,
    tolerated,
};
pub use stack::Stack;
pub use targets::NodeRef;
pub use time::{Ms, SignedMs, Slots, When, WordError, parse_duration};

/// Most authorities of a world, as limited by the protocol.
pub const MAX_NODES: u8 = 15;
/// Longest chaos in milliseconds. The limit is needed because the heap of timers grows with it.
pub const MAX_UNTIL_MS: u64 = 3_600_000;
/// Valid TCP timeouts in milliseconds, see [`WorldPlan::tcp_timeout`].
pub const TCP_TIMEOUT_MS: RangeInclusive<u64> = 500..=120_000;
/// Most users of a world. The limit is needed because each user has connections like a machine.
pub const MAX_USERS: u8 = 32;

/// Valid sizes of the transaction pool, in which every behaviour of users works.
pub const POOL: RangeInclusive<usize> = 16..=10_240;
/// Most bytes of data in a transfer: with it, a transfer fits into a block of the lowest gas limit.
pub const MAX_DATA: u64 = 100_000;
/// Valid gas limits of blocks: at least the largest transaction of the workload, at most the limit
/// of the protocol.
pub const BLOCK_GAS: RangeInclusive<u64> = 2_000_000..=MAX_GAS_LIMIT;
