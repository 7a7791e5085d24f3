//! Entries of the ledger: keys, values and their encoding (rule 5.1, docs/protocol.md).

use alloy_primitives::U256;
use alys_types::{Hash, Height, codec};
use serde::{Deserialize, Serialize};

use crate::ledger::LedgerError;

/// Longest value of an entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 16 * 1024;
/// Most bytes of a key that an error shows.
const SHOWN_KEY_BYTES: usize = 64;

/// Key of a block above the last PoW-final one: this, then its height, big-endian.
const BLOCK: &[u8] = b"block/";
/// Key of the last proof.
pub(crate) const PROOF: &[u8] = b"proof";
/// Key of the fees that no withdrawal paid yet.
pub(crate) const REMAINDER: &[u8] = b"remainder";
/// Key of the index of the next withdrawal.
pub(crate) const WITHDRAWAL: &[u8] = b"withdrawal";

/// The last block of a range with proof of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowEnd {
    pub height: Height,
    /// Block hash.
    pub hash: Hash,
    /// Hash of its execution block.
    pub execution_hash: Hash,
}

/// The last proof that a block carried; before the first one, genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastProof {
    /// `pow_end` (section 4 of docs/protocol.md).
    pub end: PowEnd,
    /// 0 before the first proof.
    pub sequence: u64,
    /// Compact target of the proof.
    pub bits: u32,
    /// Time of the carrying block, in seconds since the Unix epoch.
    pub timestamp: u64,
}

/// A block that no range covers yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncovered {
    /// Block hash.
    pub hash: Hash,
    /// Hash of its execution block.
    pub execution_hash: Hash,
    /// Priority fees of its transactions, in wei.
    #[serde(with = "wei")]
    pub tips: U256,
}

/// The sums that the receipts of a block add to the ledger (rule 5.4, docs/protocol.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Additions {
    /// Priority fees of the transactions, in wei.
    #[serde(with = "wei")]
    pub tips: U256,
}

/// A value of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Block(Uncovered),
    Proof(LastProof),
    Remainder(U256),
    Withdrawal(u64),
}

impl Entry {
    /// Decodes the value of a key.
    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Entry, LedgerError> {
        let entry = if is_block_key(key) {
            codec::decode(bytes, MAX_ENTRY_BYTES).map(Entry::Block)
        } else {
            match key {
                PROOF => codec::decode(bytes, MAX_ENTRY_BYTES).map(Entry::Proof),
                REMAINDER => {
                    codec::decode(bytes, MAX_ENTRY_BYTES).map(|Wei(value)| Entry::Remainder(value))
                }
                WITHDRAWAL => codec::decode(bytes, MAX_ENTRY_BYTES).map(Entry::Withdrawal),
                _ => return Err(LedgerError::Key { key: shown(key) }),
            }
        };
        entry.map_err(|source| LedgerError::Value {
            key: shown(key),
            source,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Entry::Block(block) => codec::encode(block),
            Entry::Proof(proof) => codec::encode(proof),
            Entry::Remainder(value) => codec::encode(&Wei(*value)),
            Entry::Withdrawal(index) => codec::encode(index),
        }
    }

    /// True for values that a ledger without the entry has as well: such an entry is left out.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Entry::Block(_) | Entry::Proof(_) => false,
            Entry::Remainder(value) => value.is_zero(),
            Entry::Withdrawal(index) => *index == 0,
        }
    }
}

pub(crate) fn block_key(height: Height) -> Vec<u8> {
    [BLOCK, &height.0.to_be_bytes()].concat()
}

fn is_block_key(key: &[u8]) -> bool {
    key.strip_prefix(BLOCK)
        .is_some_and(|height| height.len() == size_of::<u64>())
}

/// The head of a key as text, for errors.
fn shown(key: &[u8]) -> String {
    let head = key.get(..SHOWN_KEY_BYTES).unwrap_or(key);
    head.escape_ascii().to_string()
}

#[derive(Serialize, Deserialize)]
struct Wei(#[serde(with = "wei")] U256);

/// Serde of an amount in wei: 32 bytes, big-endian.
mod wei {
    use alloy_primitives::U256;
    use alys_types::bytes;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &U256, serializer: S) -> Result<S::Ok, S::Error> {
        bytes::serialize(&value.to_be_bytes::<32>(), serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
        bytes::deserialize::<D, 32>(deserializer).map(U256::from_be_bytes)
    }
}
