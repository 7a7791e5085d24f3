//! Blocks (protocol section 2). Golden files pin the encoding of every type here, fields of
//! features that are not built yet included.

use serde::{Deserialize, Serialize};

use crate::hash::{Hash, tagged, tags};
use crate::limits::{
    MAX_AUXPOW_BYTES, MAX_BLOCK_BYTES, MAX_BODY_CERTIFICATES, MAX_BODY_ORDERS,
    MAX_EXTRA_DATA_BYTES, MAX_PAYMENTS, MAX_PAYOUT_BYTES, MAX_PAYOUT_VERSIONS, MAX_SETTLEMENTS,
    MAX_WITHDRAWALS,
};
use crate::order::Order;
use crate::peg::{PayoutProposal, PegIn, Settlement};
use crate::units::FeeRate;
use crate::{Address, Certificate, Height, Slot, bounded, bytes, codec};

/// The part of a block that the block hash covers; hashes in it bind everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Header version, from the spec's upgrade table by height.
    pub version: u16,
    pub evm_chain_id: u64,
    /// Hash of the genesis block; zero in genesis itself.
    pub genesis_hash: Hash,
    /// Distance from genesis.
    pub height: Height,
    /// The slot that the block was proposed in.
    pub slot: Slot,
    /// Index of the leader in the set of this height.
    pub proposer: u8,
    /// Hash of the parent; zero in genesis.
    pub parent_hash: Hash,
    /// The approvals of the parent. Empty in genesis and in its children, because genesis counts as
    /// certified without votes.
    pub parent_certificate: Option<Certificate>,
    /// Hash of the execution block in the body.
    pub execution_hash: Hash,
    /// [`Body::hash`].
    pub body_hash: Hash,
    /// [`crate::AuthoritySet::hash`] of the next height.
    pub set_hash: Hash,
    /// Hash of the peg ledger after the parent.
    pub ledger_hash: Hash,
}

impl Header {
    /// The block hash, over the canonical encoding.
    pub fn hash(&self) -> Hash {
        tagged(tags::HEADER, &[&codec::encode(self)])
    }
}

/// The content of a block; its header commits to it by `body_hash`. The order of the fields is that
/// of the parts in [`Body::hash`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The execution block, Capella or Deneb.
    pub payload: ExecutionPayload,
    /// The reason for each withdrawal of the payload, in its order.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_WITHDRAWALS>")]
    pub withdrawal_kinds: Vec<WithdrawalKind>,
    /// Bitcoin deposits credited by this block.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_WITHDRAWALS>")]
    pub peg_ins: Vec<PegIn>,
    /// Payouts that Bitcoin confirmed.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_SETTLEMENTS>")]
    pub settlements: Vec<Settlement>,
    /// Payouts that the leader proposes.
    pub payout_proposal: Option<PayoutProposal>,
    /// Proof of work over a range of final ancestors.
    pub auxpow: Option<AuxPowHeader>,
    /// Orders of governance, by number.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_BODY_ORDERS>")]
    pub orders: Vec<Order>,
    /// Finality certificates of proper ancestors: for the AuxPoW range's end, for a federation
    /// change.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_BODY_CERTIFICATES>")]
    pub finality: Vec<Certificate>,
    /// The leader's estimate of Bitcoin's fee rate; `None` if it has none.
    pub fee_estimate: Option<FeeRate>,
}

impl Body {
    /// A body that holds an execution payload only.
    pub fn of(payload: ExecutionPayload) -> Body {
        Body {
            payload,
            withdrawal_kinds: Vec::new(),
            peg_ins: Vec::new(),
            settlements: Vec::new(),
            payout_proposal: None,
            auxpow: None,
            orders: Vec::new(),
            finality: Vec::new(),
            fee_estimate: None,
        }
    }

    /// The first federation change among the orders.
    pub fn federation_order(&self) -> Option<&Order> {
        self.orders
            .iter()
            .find(|order| order.set_change().is_some())
    }

    /// Checks the counts and lengths that a decoder checks as well, for bodies that were not
    /// decoded: a leader's own, and those made from the payload of an execution client.
    pub fn check_limits(&self) -> Result<(), LimitError> {
        let withdrawals = self.payload.withdrawals.len();
        let extra_data = self.payload.extra_data.len();
        let kinds = self.withdrawal_kinds.len();
        let auxpow = self.auxpow.as_ref().map_or(0, |header| header.auxpow.len());
        let counts = [
            ("withdrawals", withdrawals, MAX_WITHDRAWALS),
            ("withdrawal kinds", kinds, MAX_WITHDRAWALS),
            ("peg-ins", self.peg_ins.len(), MAX_WITHDRAWALS),
            ("settlements", self.settlements.len(), MAX_SETTLEMENTS),
            ("extra data bytes", extra_data, MAX_EXTRA_DATA_BYTES),
            ("bytes of AuxPoW", auxpow, MAX_AUXPOW_BYTES),
            ("governance orders", self.orders.len(), MAX_BODY_ORDERS),
            (
                "finality certificates",
                self.finality.len(),
                MAX_BODY_CERTIFICATES,
            ),
        ];
        for (what, found, limit) in counts {
            check_limit(what, found, limit)?;
        }
        self.orders.iter().try_for_each(Order::check_size)?;
        self.payout_proposal.as_ref().map_or(Ok(()), check_payouts)
    }
}

fn check_payouts(proposal: &PayoutProposal) -> Result<(), LimitError> {
    let versions = proposal.versions.len();
    check_limit("payout versions", versions, MAX_PAYOUT_VERSIONS)?;
    for version in proposal.transactions() {
        check_limit("payments in a payout", version.payments.len(), MAX_PAYMENTS)?;
        let bytes = version.transaction.len();
        check_limit("bytes in a payout", bytes, MAX_PAYOUT_BYTES)?;
    }
    Ok(())
}

fn check_limit(what: &'static str, found: usize, limit: usize) -> Result<(), LimitError> {
    if found > limit {
        return Err(LimitError { what, limit, found });
    }
    Ok(())
}

/// A count or length in a block exceeds its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block has {found} {what}, the limit is {limit}")]
pub struct LimitError {
    /// The items that are counted.
    pub what: &'static str,
    pub limit: usize,
    pub found: usize,
}

/// Header and body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub header: Header,
    /// Unchecked: it may not be the one that the header commits to.
    pub body: Body,
}

impl Block {
    /// Checks the length of the encoding (docs/protocol.md, rule 2.5): proposals, range answers and
    /// the store have no room for a longer block.
    pub fn check_size(&self) -> Result<(), LimitError> {
        check_limit("encoded bytes", codec::encoded_len(self), MAX_BLOCK_BYTES)
    }

    /// Decodes a block of at most [`MAX_BLOCK_BYTES`].
    pub fn decode(bytes: &[u8]) -> Result<Block, codec::DecodeError> {
        codec::decode(bytes, MAX_BLOCK_BYTES)
    }
}

/// An execution payload of the Engine API: Capella's fields, and Deneb's where that fork is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionPayload {
    pub parent_hash: Hash,
    pub fee_recipient: Address,
    pub state_root: Hash,
    pub receipts_root: Hash,
    #[serde(with = "bytes")]
    pub logs_bloom: [u8; 256],
    pub prev_randao: Hash,
    pub block_number: u64,
    pub gas_limit: u64,
    pub gas_used: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_EXTRA_DATA_BYTES>")]
    pub extra_data: Vec<u8>,
    /// Wei, big-endian.
    #[serde(with = "bytes")]
    pub base_fee_per_gas: [u8; 32],
    pub block_hash: Hash,
    /// EIP-2718 encoded transactions.
    pub transactions: Vec<Vec<u8>>,
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_WITHDRAWALS>")]
    pub withdrawals: Vec<Withdrawal>,
    /// `None` before Deneb.
    pub blob_gas: Option<BlobGas>,
}

/// Deneb's blob fields, in gas. Blob transactions are refused, so `used` is always 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobGas {
    pub used: u64,
    pub excess: u64,
}

/// A withdrawal of EIP-4895.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Consecutive over the whole chain.
    pub index: u64,
    /// 0 for fees, 1 for peg-ins.
    pub validator_index: u64,
    pub address: Address,
    pub amount_gwei: u64,
}

/// The reason for a withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WithdrawalKind {
    /// A fee of an AuxPoW range.
    Fee,
    /// A deposit on Bitcoin.
    PegIn,
}

/// Merge-mined proof of work over a range of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuxPowHeader {
    pub range_start: Hash,
    pub range_end: Hash,
    /// Target in compact form.
    pub bits: u32,
    /// The AuxPoW chain id, not the EVM's.
    pub chain_id: u16,
    pub sequence: u64,
    /// `CAuxPow` in Namecoin's consensus encoding.
    #[serde(deserialize_with = "bounded::at_most::<_, _, MAX_AUXPOW_BYTES>")]
    pub auxpow: Vec<u8>,
    /// EVM address that the work pays.
    pub miner: Address,
}
