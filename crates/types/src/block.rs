//! Blocks (protocol section 2). Golden files pin the encoding of every type here, fields of
//! features that are not built yet included.

use serde::{Deserialize, Serialize};

use crate::bls::Signature;
use crate::hash::{Hash, tagged, tags};
use crate::limits::{
    MAX_BLOCK_BYTES, MAX_BODY_CERTIFICATES, MAX_BODY_ORDERS, MAX_EXTRA_DATA_BYTES, MAX_WITHDRAWALS,
};
use crate::{Address, Authority, Certificate, Height, Sats, Slot, bytes, codec};

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

/// The content of a block; its header commits to it by `body_hash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The execution block, Capella or Deneb.
    pub payload: ExecutionPayload,
    /// The reason for each withdrawal of the payload, in its order.
    pub withdrawal_kinds: Vec<WithdrawalKind>,
    /// Bitcoin deposits credited by this block.
    pub peg_ins: Vec<PegIn>,
    /// Payouts that Bitcoin confirmed.
    pub settlements: Vec<Settlement>,
    /// Payouts that the leader proposes.
    pub peg_out: Option<PegOutProposal>,
    /// Proof of work over a range of final ancestors.
    pub auxpow: Option<AuxPowHeader>,
    /// A federation change that governance ordered.
    pub federation_change: Option<FederationOrder>,
    /// Other orders of governance.
    pub governance_orders: Vec<GovernanceOrder>,
    /// Finality certificates of proper ancestors: for the AuxPoW range's end, for a federation
    /// change.
    pub finality: Vec<Certificate>,
}

impl Body {
    /// A body that holds an execution payload only.
    pub fn of(payload: ExecutionPayload) -> Body {
        Body {
            payload,
            withdrawal_kinds: Vec::new(),
            peg_ins: Vec::new(),
            settlements: Vec::new(),
            peg_out: None,
            auxpow: None,
            federation_change: None,
            governance_orders: Vec::new(),
            finality: Vec::new(),
        }
    }

    /// Hash of the canonical encoding.
    pub fn hash(&self) -> Hash {
        tagged(tags::BODY, &[&codec::encode(self)])
    }

    /// Checks the counts that the encoding itself does not bound.
    pub fn check_limits(&self) -> Result<(), LimitError> {
        let check = |what, found, limit| {
            if found > limit {
                Err(LimitError { what, limit, found })
            } else {
                Ok(())
            }
        };
        check(
            "withdrawals",
            self.payload.withdrawals.len(),
            MAX_WITHDRAWALS,
        )?;
        check(
            "withdrawal kinds",
            self.withdrawal_kinds.len(),
            MAX_WITHDRAWALS,
        )?;
        check("peg-ins", self.peg_ins.len(), MAX_WITHDRAWALS)?;
        check(
            "extra data bytes",
            self.payload.extra_data.len(),
            MAX_EXTRA_DATA_BYTES,
        )?;
        check(
            "governance orders",
            self.governance_orders.len(),
            MAX_BODY_ORDERS,
        )?;
        check(
            "finality certificates",
            self.finality.len(),
            MAX_BODY_CERTIFICATES,
        )
    }
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
        let found = codec::encoded_len(self);
        if found > MAX_BLOCK_BYTES {
            return Err(LimitError {
                what: "encoded bytes",
                limit: MAX_BLOCK_BYTES,
                found,
            });
        }
        Ok(())
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
    pub extra_data: Vec<u8>,
    /// Wei, big-endian.
    #[serde(with = "bytes")]
    pub base_fee_per_gas: [u8; 32],
    pub block_hash: Hash,
    /// EIP-2718 encoded transactions.
    pub transactions: Vec<Vec<u8>>,
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

/// A credited Bitcoin deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PegIn {
    /// Bitcoin transaction id, internal order.
    pub txid: Hash,
    pub vout: u32,
    pub amount: Sats,
    /// Epoch of the federation script that was paid.
    pub script_epoch: u32,
    pub address: Address,
    /// Bitcoin block, internal order.
    pub bitcoin_block: Hash,
}

/// A payout that Bitcoin confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Number of the payout in the ledger.
    pub payout: u64,
    /// Transaction id of the version that confirmed.
    pub txid: Hash,
    /// Bitcoin block, internal order.
    pub bitcoin_block: Hash,
}

/// Unsigned Bitcoin transactions, in Bitcoin's consensus encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PegOutProposal {
    pub transactions: Vec<Vec<u8>>,
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
    pub auxpow: Vec<u8>,
    /// EVM address that the work pays.
    pub miner: Address,
}

/// A change of one authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationChange {
    /// Appends an authority.
    Add(Authority),
    /// Removes the authority with this key.
    Remove(crate::bls::PublicKeyBytes),
}

/// A federation change that governance ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederationOrder {
    /// Consecutive over all orders of governance.
    pub number: u64,
    pub change: FederationChange,
    /// First height of the new set.
    pub effective_height: Height,
    /// Index of the governance key and its signature over [`Self::message`], ascending.
    pub signatures: Vec<(u8, Signature)>,
}

impl FederationOrder {
    /// The message that governance signs: a hash of genesis hash, number, change and height.
    pub fn message(&self, genesis: &Hash) -> Hash {
        let content = codec::encode(&(&self.change, self.effective_height));
        tagged(
            tags::FEDERATION_ORDER,
            &[&genesis.0, &self.number.to_le_bytes(), &content],
        )
    }
}

/// Another order of governance: halt, resume, restart anchor. This version accepts none, and does
/// not read the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GovernanceOrder {
    pub number: u64,
    pub content: Vec<u8>,
    pub signatures: Vec<(u8, Signature)>,
}
