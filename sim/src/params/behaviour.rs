//! The workload of a run: the number of users and their behaviours.

use alys_types::limits::MAX_GAS_LIMIT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MinerPlan, Ms, time};

/// The workload: users and their behaviours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadPlan {
    /// Number of accounts that send transactions; 0 disables the workload.
    pub users: u8,
    /// Number of wallets and indexers that poll filters for blocks and logs, each of another
    /// execution client.
    pub watchers: u8,
    /// Number of accounts, the first ones, that give their transfers to one execution client each
    /// and to no other: the first to that of the last node, the second to that of the node before.
    pub loyal: u8,
    /// Maximum number of transactions in a burst of an account.
    pub burst: u8,
    /// Pause of an account between two bursts.
    #[serde(rename = "pause", with = "time::ms")]
    #[schemars(with = "Ms")]
    pub pause_ms: u64,
    /// Behaviours of users; a repeated entry is chosen proportionally more often.
    pub behaviours: Vec<Behaviour>,
    /// Capacity of an execution client's transaction pool. One sender can use half of it, and an
    /// eighth for transactions behind a gap in the nonces.
    pub pool: usize,
    /// Gas limit of blocks.
    pub block_gas: u64,
    /// Maximum bytes of unused data in a transfer. One transfer in twelve has data, and above the
    /// default each one has.
    pub data: u64,
    /// Machines that mine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub miners: Vec<MinerPlan>,
}

impl Default for WorkloadPlan {
    fn default() -> Self {
        let behaviours = Behaviour::usual();
        Self {
            users: 3,
            watchers: 0,
            loyal: 0,
            burst: 3,
            pause_ms: 700,
            behaviours,
            pool: 64,
            block_gas: MAX_GAS_LIMIT,
            data: Self::USUAL_DATA,
            miners: Vec::new(),
        }
    }
}

impl WorkloadPlan {
    /// The default of [`Self::data`].
    pub const USUAL_DATA: u64 = 20_000;

    /// True if a miner finds and submits valid proofs, also after the faults.
    pub fn is_mined(&self) -> bool {
        self.miners.iter().any(|miner| miner.conduct.is_valid())
    }
}

/// A behaviour of users.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Sends a burst of transfers, with every type of transaction.
    Transfer,
    /// Deploys or calls a contract: a counter, one that reverts, one that logs, or one that
    /// exhausts its gas.
    Contract,
    /// Sends two transactions with the same nonce, the second with a higher fee.
    Replace,
    /// Sends a transfer, then one to its own account with the same nonce and a higher fee.
    Cancel,
    /// Sends more transfers at once than an execution client accepts from one sender.
    Flood,
    /// Leaves a gap in the nonces and fills it later.
    Gap,
    /// Offers a fee that is too low, waits, and offers a sufficient one.
    Underprice,
    /// Submits transactions that can never be valid.
    SignBadly,
    /// Reads state at final blocks from different execution clients.
    Read,
    /// Competes for the first places of blocks, with prices near the base fee.
    Bid,
    /// Sends nothing to accounts that do not exist, and to precompiled contracts.
    Touch,
}

impl Behaviour {
    /// All behaviours. The generator draws by index, so the order is part of every seed's plan.
    pub const ALL: [Self; 11] = [
        Self::Transfer,
        Self::Contract,
        Self::Replace,
        Self::Cancel,
        Self::Flood,
        Self::Gap,
        Self::Underprice,
        Self::SignBadly,
        Self::Read,
        Self::Bid,
        Self::Touch,
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
