//! Work of merged mining (rules 4.1 and 4.2): the bundle of blocks that a proof makes final, and
//! the values that miners read.

use alys_types::hash::tagged;
use alys_types::{Address, Hash};

use crate::hashing::{merkle_root, reversed};
use crate::rules::Demand;
use crate::target::Bits;

/// Most blocks of a bundle (`max_range`, protocol section 10).
pub const MAX_BUNDLE_BLOCKS: usize = 4096;
/// Domain of commitments.
const TAG: &str = "alys/auxpow";

/// The blocks that a proof makes final, and its miner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundle {
    pub genesis_hash: Hash,
    /// AuxPoW chain id of the spec.
    pub chain_id: u16,
    /// Number of the proof, from 1.
    pub sequence: u64,
    /// Oldest block.
    pub start: Hash,
    /// Newest block.
    pub end: Hash,
    /// Number of blocks. Lists of different lengths may have one root (CVE-2012-2459).
    pub count: u32,
    /// Bitcoin's Merkle root of the block hashes, oldest first.
    pub root: Hash,
    /// The miner's EVM address.
    pub miner: Address,
}

/// The reason for which blocks are no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("a bundle has at least one block")]
    Empty,
    #[error("a bundle has at most {MAX_BUNDLE_BLOCKS} blocks, found {found}")]
    TooLong { found: usize },
}

/// Work for miners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub bundle: Bundle,
    pub bits: Bits,
    /// The bundle's commitment, in internal order.
    pub commitment: Hash,
}

impl Bundle {
    /// The bundle of the blocks with hashes `range`, oldest first.
    ///
    /// # Errors
    /// When the range is empty or too long.
    pub fn new(
        genesis_hash: Hash,
        chain_id: u16,
        sequence: u64,
        range: &[Hash],
        miner: Address,
    ) -> Result<Bundle, BundleError> {
        let found = range.len();
        let count = u32::try_from(found)
            .ok()
            .filter(|_| found <= MAX_BUNDLE_BLOCKS)
            .ok_or(BundleError::TooLong { found })?;
        let (Some(start), Some(end), Some(root)) =
            (range.first(), range.last(), merkle_root(range))
        else {
            return Err(BundleError::Empty);
        };
        Ok(Bundle {
            genesis_hash,
            chain_id,
            sequence,
            start: *start,
            end: *end,
            count,
            root,
            miner,
        })
    }

    /// Rule 4.1: the hash that a proof commits to, in internal order.
    pub fn commitment(&self) -> Hash {
        tagged(
            TAG,
            &[
                &self.genesis_hash.0,
                &self.chain_id.to_le_bytes(),
                &self.sequence.to_le_bytes(),
                &self.start.0,
                &self.end.0,
                &self.count.to_le_bytes(),
                &self.root.0,
                &self.miner.0,
            ],
        )
    }
}

impl Work {
    /// The work of a bundle.
    pub fn new(bundle: Bundle, bits: Bits) -> Work {
        let commitment = bundle.commitment();
        Work {
            bundle,
            bits,
            commitment,
        }
    }

    /// The facts that a proof of this work must agree with.
    pub fn demand(&self) -> Demand {
        Demand {
            chain_id: self.bundle.chain_id,
            commitment: self.commitment,
            target: self.bits.target(),
        }
    }

    /// `hash` of `createauxblock`: the commitment as 64 hex digits, reversed.
    pub fn hash(&self) -> String {
        hex::encode(reversed(self.commitment).0)
    }

    /// `target` and `_target` of `createauxblock`: 64 hex digits, the least significant byte first.
    pub fn target(&self) -> String {
        self.bits.target().to_little_endian_hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(count: usize) -> Vec<Hash> {
        (0..count)
            .map(|n| tagged("test", &[&n.to_le_bytes()]))
            .collect()
    }

    fn bundle(range: &[Hash]) -> Result<Bundle, BundleError> {
        Bundle::new(Hash([1; 32]), 21_212, 7, range, Address([2; 20]))
    }

    #[test]
    fn ranges_have_one_to_4096_blocks() {
        for (count, expected) in [
            (0, Err(BundleError::Empty)),
            (1, Ok(1)),
            (4096, Ok(4096)),
            (4097, Err(BundleError::TooLong { found: 4097 })),
        ] {
            assert_eq!(bundle(&blocks(count)).map(|bundle| bundle.count), expected);
        }
    }

    #[test]
    fn every_field_is_in_the_commitment() {
        let range = blocks(3);
        let base = bundle(&range).expect("a bundle");
        let other = Hash([9; 32]);
        let changed = [
            Bundle {
                genesis_hash: other,
                ..base
            },
            Bundle {
                chain_id: 1,
                ..base
            },
            Bundle {
                sequence: 8,
                ..base
            },
            Bundle {
                start: other,
                ..base
            },
            Bundle { end: other, ..base },
            Bundle { count: 4, ..base },
            Bundle {
                root: other,
                ..base
            },
            Bundle {
                miner: Address([3; 20]),
                ..base
            },
        ];
        for bundle in changed {
            assert_ne!(bundle.commitment(), base.commitment(), "{bundle:?}");
        }
        // CVE-2012-2459: the last block twice has the same root and ends, and another commitment.
        let twice = [range.as_slice(), &range[2..]].concat();
        let twice = bundle(&twice).expect("a bundle");
        assert_eq!((twice.root, twice.end), (base.root, base.end));
        assert_ne!(twice.commitment(), base.commitment());
    }

    /// The bytes of rule 4.1, written out.
    #[test]
    fn the_commitment_has_the_bytes_of_the_protocol() {
        let range = blocks(2);
        let base = bundle(&range).expect("a bundle");
        let mut bytes = vec![11];
        bytes.extend(b"alys/auxpow");
        bytes.extend([1; 32]);
        bytes.extend([0xdc, 0x52]);
        bytes.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(range[0].0);
        bytes.extend(range[1].0);
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(crate::sha256d(&[&range[0].0, &range[1].0]).0);
        bytes.extend([2; 20]);
        assert_eq!(base.commitment(), crate::sha256d(&[&bytes]));
    }

    #[test]
    fn miners_read_the_hash_reversed_and_the_target_little_endian() {
        let bits = Bits::new(0x1d00_ffff).expect("canonical");
        let work = Work::new(bundle(&blocks(5)).expect("a bundle"), bits);
        let mut hash = hex::decode(work.hash()).expect("hex");
        hash.reverse();
        assert_eq!(hash, work.commitment.0);
        let target = format!("{}ffff00000000", "00".repeat(26));
        assert_eq!(work.target(), target);
        let demand = Demand {
            chain_id: 21_212,
            commitment: work.bundle.commitment(),
            target: bits.target(),
        };
        assert_eq!(work.demand(), demand);
    }
}
