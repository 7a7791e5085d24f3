//! Orders of governance (protocol section 9).

use serde::{Deserialize, Serialize};

use crate::bls::{PublicKeyBytes, Signature};
use crate::hash::{tagged, tags};
use crate::limits::{
    MAX_AUTHORITIES, MAX_GOVERNANCE_KEYS, MAX_ORDER_BURNS, MAX_ORDER_BYTES, MAX_ORDER_PAYOUTS,
};
use crate::peg::{BurnId, ConfirmedTransaction, FederationScript, OutPoint};
use crate::spec::GovernanceSpec;
use crate::{Address, Authority, Hash, Height, LimitError, Slot, bounded, codec};

/// An order with its signatures, unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawOrder")]
pub struct Order {
    /// Consecutive over all orders that blocks carry; halts have numbers of their own.
    pub number: u64,
    pub content: OrderContent,
    /// Index of the governance key and its signature over [`Self::message`], ascending.
    pub signatures: Vec<(u8, Signature)>,
}

#[derive(Deserialize)]
struct RawOrder {
    number: u64,
    content: OrderContent,
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_GOVERNANCE_KEYS>")]
    signatures: Vec<(u8, Signature)>,
}

/// The kinds of orders. One list, so that a signature for one kind never counts for another: the
/// signed encoding begins with the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderContent {
    /// Rule 1.7.
    Federation(SetChange),
    /// Rule 5.5: the script of the next epoch.
    ScriptEpoch(ScriptEpoch),
    /// Rule 5.6: the end of an epoch.
    Close(Close),
    /// Rule 5.8: the address that an unclaimed output lacks.
    Credit(Credit),
    /// Rule 5.23: burns that are not paid.
    Exclude(Exclude),
    /// Rule 5.11: the outcome on Bitcoin after a deep reorganisation.
    Correct(Correction),
    /// Rule 9.1: the keys that sign from the next order on.
    GovernanceKeys(GovernanceSpec),
    /// Rule 9.2. Not carried by blocks.
    Halt(Halt),
    /// Rule 9.3. Not carried by blocks.
    RestartAnchor(RestartAnchor),
}

/// A change of one authority, and the first height of the new set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChange {
    pub change: FederationChange,
    pub effective_height: Height,
}

/// A change of one authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationChange {
    /// Appends an authority.
    Add(Authority),
    /// Removes the authority with this key.
    Remove(PublicKeyBytes),
}

/// The script of an epoch, with the proof that its keys can sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptEpoch {
    /// One more than the newest epoch.
    pub epoch: u32,
    pub script: FederationScript,
    /// A transaction that spends an output of exactly this script.
    pub proof: ConfirmedTransaction,
}

/// The end of an epoch that is not the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    pub epoch: u32,
    /// Numbers of payouts in flight that were never fully signed, and become void.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_ORDER_PAYOUTS>")]
    pub never_signed: Vec<u64>,
}

/// An unclaimed outpoint and its EVM address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    pub outpoint: OutPoint,
    pub address: Address,
}

/// Accepted burns that are not to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclude {
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_ORDER_BURNS>")]
    pub burns: Vec<BurnId>,
}

/// The actual outcome on Bitcoin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Correction {
    /// A transaction that is not ours spends the outpoint, or conflicts with its origin.
    Lost {
        outpoint: OutPoint,
        spent_by: ConfirmedTransaction,
    },
    /// Bitcoin has another version of a settled payout, or none.
    Resettled {
        payout: u64,
        version: Option<ConfirmedTransaction>,
    },
}

/// Both switches of the bridge; true stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// No deposit is listed.
    pub deposits: bool,
    /// No payout is proposed or signed.
    pub payouts: bool,
}

/// The block from which a federation continues that lost more vote states than it tolerates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartAnchor {
    pub height: Height,
    pub hash: Hash,
    pub slot: Slot,
    /// The set of the next height.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_AUTHORITIES>")]
    pub authorities: Vec<Authority>,
}

impl Order {
    /// The message that governance signs: a hash of genesis hash, number and content.
    pub fn message(&self, genesis: &Hash) -> Hash {
        tagged(
            tags::ORDER,
            &[
                &genesis.0,
                &self.number.to_le_bytes(),
                &codec::encode(&self.content),
            ],
        )
    }

    /// The federation change, if the order is one.
    pub fn set_change(&self) -> Option<&SetChange> {
        match &self.content {
            OrderContent::Federation(change) => Some(change),
            OrderContent::ScriptEpoch(_)
            | OrderContent::Close(_)
            | OrderContent::Credit(_)
            | OrderContent::Exclude(_)
            | OrderContent::Correct(_)
            | OrderContent::GovernanceKeys(_)
            | OrderContent::Halt(_)
            | OrderContent::RestartAnchor(_) => None,
        }
    }

    /// Checks the length of the encoding, which the lists inside bound only roughly.
    pub fn check_size(&self) -> Result<(), LimitError> {
        let found = codec::encoded_len(self);
        if found > MAX_ORDER_BYTES {
            return Err(LimitError {
                what: "bytes in an order",
                limit: MAX_ORDER_BYTES,
                found,
            });
        }
        Ok(())
    }
}

impl OrderContent {
    /// The kind, for messages to operators.
    pub fn kind(&self) -> &'static str {
        match self {
            OrderContent::Federation(_) => "federation change",
            OrderContent::ScriptEpoch(_) => "script epoch",
            OrderContent::Close(_) => "close",
            OrderContent::Credit(_) => "credit",
            OrderContent::Exclude(_) => "exclude",
            OrderContent::Correct(_) => "correct",
            OrderContent::GovernanceKeys(_) => "governance keys",
            OrderContent::Halt(_) => "halt",
            OrderContent::RestartAnchor(_) => "restart anchor",
        }
    }
}

impl TryFrom<RawOrder> for Order {
    type Error = LimitError;

    fn try_from(raw: RawOrder) -> Result<Order, LimitError> {
        let RawOrder {
            number,
            content,
            signatures,
        } = raw;
        let order = Order {
            number,
            content,
            signatures,
        };
        order.check_size()?;
        Ok(order)
    }
}
