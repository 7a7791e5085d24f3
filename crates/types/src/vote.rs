//! Votes and certificates (protocol section 3).

use serde::{Deserialize, Serialize};

use crate::bls::{self, Signature};
use crate::hash::{Hash, tagged, tags};
use crate::limits::MAX_AUTHORITIES;
use crate::{AuthoritySet, Height, Slot};

/// The purpose of a signature. One kind never counts as another, because the signed message
/// contains the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VoteKind {
    /// The leader's own signature under its block.
    Proposal,
    /// "I will not approve at this or an earlier slot again"; q of them certify.
    Approval,
    /// "I am locked on this block"; q of them make it final.
    Confirmation,
}

/// The block that a vote is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VoteTarget {
    pub kind: VoteKind,
    pub height: Height,
    pub slot: Slot,
    pub hash: Hash,
}

/// The chain that votes belong to. Part of every signed message, so that a vote counts on no other
/// chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainId {
    /// EVM chain id.
    pub evm: u64,
    /// Genesis hash.
    pub genesis: Hash,
}

/// A signed vote of one authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub target: VoteTarget,
    /// Index in the set of the block's height.
    pub signer: u8,
    /// Over [`VoteTarget::message`].
    pub signature: Signature,
}

impl VoteTarget {
    /// The message that is signed: a hash of kind, EVM chain id, genesis hash, height, slot and
    /// block hash.
    pub fn message(&self, chain: &ChainId) -> Hash {
        tagged(
            tags::VOTE,
            &[
                &[self.kind as u8],
                &chain.evm.to_le_bytes(),
                &chain.genesis.0,
                &self.height.0.to_le_bytes(),
                &self.slot.0.to_le_bytes(),
                &self.hash.0,
            ],
        )
    }
}

/// The authorities of a set that signed, one bit each: exactly `n` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawBitmap", into = "RawBitmap")]
pub struct Bitmap {
    len: u8,
    bits: u16,
}

#[derive(Serialize, Deserialize)]
struct RawBitmap {
    len: u8,
    bits: u16,
}

impl Bitmap {
    /// An empty bitmap of `len` bits, at most 15.
    pub fn empty(len: usize) -> Bitmap {
        Bitmap {
            len: len.min(MAX_AUTHORITIES) as u8,
            bits: 0,
        }
    }

    /// Sets a bit. An index outside of the bitmap is ignored.
    pub fn set(&mut self, index: u8) {
        if index < self.len {
            self.bits |= 1 << index;
        }
    }

    /// The number of bits, set or not.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// True when no bit is set.
    pub fn is_empty(&self) -> bool {
        self.bits == 0
    }

    /// The number of bits that are set.
    pub fn count(&self) -> usize {
        self.bits.count_ones() as usize
    }

    /// The indices of the set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..self.len).filter(|i| self.bits & (1 << i) != 0)
    }

    /// True when bit `index` is set.
    pub fn contains(&self, index: u8) -> bool {
        index < self.len && self.bits & (1 << index) != 0
    }
}

impl TryFrom<RawBitmap> for Bitmap {
    type Error = &'static str;

    fn try_from(raw: RawBitmap) -> Result<Bitmap, Self::Error> {
        if usize::from(raw.len) > MAX_AUTHORITIES {
            return Err("a bitmap has at most 15 bits");
        }
        if raw.bits >> raw.len != 0 {
            return Err("a bit is set beyond the length of the bitmap");
        }
        Ok(Bitmap {
            len: raw.len,
            bits: raw.bits,
        })
    }
}

impl From<Bitmap> for RawBitmap {
    fn from(bitmap: Bitmap) -> RawBitmap {
        RawBitmap {
            len: bitmap.len,
            bits: bitmap.bits,
        }
    }
}

/// Votes of one kind for one block, aggregated. Unchecked: `alys_consensus::rules` has the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The target of each vote. Approvals certify, confirmations make final; proposals are not
    /// aggregated.
    pub target: VoteTarget,
    /// The signers, by index in the set of the block's height.
    pub signers: Bitmap,
    /// The aggregate of their signatures over [`VoteTarget::message`].
    pub signature: Signature,
}

impl Certificate {
    /// Aggregates verified votes for one target. Signers outside of the set and repeated ones are
    /// left out; `None` when no signature remains, or one is malformed. The number of signers is
    /// not compared with a quorum.
    pub fn aggregate(
        target: VoteTarget,
        votes: &[(u8, Signature)],
        set: &AuthoritySet,
    ) -> Option<Certificate> {
        let mut signers = Bitmap::empty(set.len());
        let mut signatures = Vec::with_capacity(votes.len());
        for (signer, signature) in votes {
            if usize::from(*signer) < set.len() && !signers.contains(*signer) {
                signers.set(*signer);
                signatures.push(*signature);
            }
        }
        let signature = bls::aggregate(&signatures).ok()?;
        Some(Certificate {
            target,
            signers,
            signature,
        })
    }

    /// Checks the aggregate signature of the signers, and nothing else of the certificate.
    pub fn verify_signature(&self, set: &AuthoritySet, chain: &ChainId) -> Result<(), bls::Error> {
        let keys: Vec<_> = self.signers.iter().filter_map(|i| set.key(i)).collect();
        bls::verify(&keys, &self.target.message(chain).0, &self.signature)
    }
}
