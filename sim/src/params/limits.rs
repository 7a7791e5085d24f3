//! Limits of nodes and execution clients in place of production's, which a short run never reaches:
//! the code that drops blocks or refuses requests at a limit runs only with a small one.

use std::ops::RangeInclusive;

use alys_types::limits::MAX_RANGE_BYTES;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits in place of production's, alike on all machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsPlan {
    /// Uncertified blocks that a node keeps; 64 in production.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertified: Option<usize>,
    /// Bytes of an answer with blocks; 16 MiB in production. The largest block takes half of it at
    /// most, so `block_gas` is small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<usize>,
    /// Bytes of all requests and answers in progress at the public port of an execution client; 64
    /// MiB in production. Callers with large requests arrive at the same time then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<usize>,
}

impl LimitsPlan {
    /// Two slots of leaders that equivocate.
    pub const UNCERTIFIED: RangeInclusive<usize> = 4..=64;
    /// Two blocks of the least gas limit, full of data.
    pub const RANGE: RangeInclusive<usize> = 256 << 10..=MAX_RANGE_BYTES;
    /// The largest answer that the audit needs, with room.
    pub const PENDING: RangeInclusive<usize> = 2 << 20..=64 << 20;
    /// Highest gas limit of blocks with a smaller [`Self::range`]: data costs 16 gas a byte.
    pub const RANGE_GAS: u64 = 2_000_000;

    /// Returns true for production's limits.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
