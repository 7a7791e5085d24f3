//! The workload of a run: the number of users and their behaviours.

use alys_types::limits::MAX_GAS_LIMIT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ms, time};

/// What users do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadPlan {
    /// Accounts that send transactions; 0 is no workload.
    pub users: u8,
    /// Most transactions that an account has under way.
    pub burst: u8,
    /// Pause of an account between two bursts.
    #[serde(rename = "pause", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub pause_ms: u64,
    /// What users do; a word that comes twice is done twice as often.
    pub behaviours: Vec<Behaviour>,
    /// Transactions that the pool of an execution client holds; half of them of one sender, an
    /// eighth behind a gap.
    pub pool: usize,
    /// Gas limit of blocks.
    pub block_gas: u64,
}

impl Default for WorkloadPlan {
    fn default() -> Self {
        let behaviours = Behaviour::usual();
        Self {
            users: 3,
            burst: 3,
            pause_ms: 700,
            behaviours,
            pool: 64,
            block_gas: MAX_GAS_LIMIT,
        }
    }
}

/// A thing that users do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// A burst of transfers, in every form of transaction.
    Transfer,
    /// Deploys a contract, or calls one: a counter, one that reverts, one that logs, one that uses
    /// up its gas.
    Contract,
    /// Two transactions with one nonce, the second with a higher fee.
    Replace,
    /// A transfer, and one to oneself with the same nonce and a higher fee.
    Cancel,
    /// More transfers at once than an execution client takes of one sender.
    Flood,
    /// Leaves a gap in the nonces and fills it later.
    Gap,
    /// Offers too little, waits, and offers enough.
    Underprice,
    /// Hands in what can never be valid.
    SignBadly,
    /// Reads state at final blocks, from one execution client and another.
    Read,
}

impl Behaviour {
    /// All behaviours. The generator draws by index, so the order is part of every seed's plan.
    pub const ALL: [Self; 9] = [
        Self::Transfer,
        Self::Contract,
        Self::Replace,
        Self::Cancel,
        Self::Flood,
        Self::Gap,
        Self::Underprice,
        Self::SignBadly,
        Self::Read,
    ];

    /// Returns the default behaviours, in which transfers and contract calls are the most frequent.
    pub fn usual() -> Vec<Self> {
        let mut all = vec![
            Self::Transfer,
            Self::Transfer,
            Self::Transfer,
            Self::Contract,
            Self::Contract,
        ];
        all.extend(Self::ALL);
        all
    }
}
