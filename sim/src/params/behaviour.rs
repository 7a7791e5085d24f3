//! What users do, as words of plans.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A thing that users do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// A burst of transfers, in every form of transaction.
    Transfer,
    /// Deploys a contract, or calls one: a counter, one that reverts, one that logs, one that uses up its gas.
    Contract,
    /// Two transactions with one nonce, the second with a higher fee.
    Replace,
    /// A transfer, and one to oneself with the same nonce and a higher fee.
    Cancel,
    /// More transfers at once than a client takes of one sender.
    Flood,
    /// Leaves a gap in the nonces and fills it later.
    Gap,
    /// Offers too little, waits, and offers enough.
    Underprice,
    /// Hands in what can never be valid.
    SignBadly,
    /// Reads state at final blocks, from one client and another.
    Read,
}

impl Behaviour {
    /// All of them.
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

    /// What users do when a plan says nothing: mostly what most users do.
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
