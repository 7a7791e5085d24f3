//! Types of proof of work that the chain and this actor exchange.

use alys_consensus::BlockRef;
use alys_types::limits::MAX_AUXPOW_BYTES;
use alys_types::{Address, Hash, Height};
use serde::{Deserialize, Serialize};

/// Work to hand out to miners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkOffer {
    /// Number of the proof, from 1.
    pub sequence: u64,
    /// Height of the oldest block.
    pub first: Height,
    /// Hashes of the blocks, oldest first; 1 to 4,096.
    pub range: Vec<Hash>,
    /// Compact target of a proof in the next slot.
    pub bits: u32,
}

/// A verified submission, to be carried by a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldProof {
    pub sequence: u64,
    pub range_start: Hash,
    pub range_end: Hash,
    /// Number of blocks in the range.
    pub count: u32,
    pub miner: Address,
    /// `CAuxPow` in Namecoin's consensus encoding.
    pub auxpow: Vec<u8>,
    /// Hash of the parent header, in internal order, which the target is compared with.
    pub work: Hash,
}

/// A range that became PoW-final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowFinal {
    pub sequence: u64,
    /// Heights of the oldest and the newest block of the range.
    pub first: Height,
    pub end: Height,
    pub end_hash: Hash,
    pub miner: Address,
    /// The final block that carries the proof.
    pub carrier: BlockRef,
}

/// Largest encoded [`HeldProof`]: an AuxPoW and 200 bytes of other fields.
pub const MAX_HELD_PROOF_BYTES: usize = MAX_AUXPOW_BYTES + 256;
