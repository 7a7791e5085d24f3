//! Hashes and addresses.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bytes;

/// A 32-byte hash. Prints as hex with `0x`. Bitcoin ids are kept in internal order; the code that
/// prints them reverses them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hash(#[serde(with = "bytes")] pub [u8; 32]);

/// An EVM address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Address(#[serde(with = "bytes")] pub [u8; 20]);

impl Hash {
    /// All zeros: the parent of genesis.
    pub const ZERO: Hash = Hash([0; 32]);

    /// The first four bytes as hex, for logs and reports.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

/// All tags that separate the domains of hashes and signatures, in one list, so that a new one is
/// compared with the others.
pub mod tags {
    macro_rules! tags {
        ($($(#[$doc:meta])* $name:ident = $tag:literal;)*) => {
            $($(#[$doc])* pub const $name: &str = $tag;)*

            #[cfg(test)]
            pub(super) const ALL: &[&str] = &[$($name),*];
        };
    }

    tags! {
        /// Block hash.
        HEADER = "alys/header";
        /// Body hash.
        BODY = "alys/body";
        /// Hashes of the parts of a body.
        PART_PAYLOAD = "alys/part/payload";
        PART_WITHDRAWAL_KINDS = "alys/part/withdrawal-kinds";
        PART_PEG_INS = "alys/part/peg-ins";
        PART_SETTLEMENTS = "alys/part/settlements";
        PART_PAYOUT_PROPOSAL = "alys/part/payout-proposal";
        PART_AUXPOW = "alys/part/auxpow";
        PART_ORDERS = "alys/part/orders";
        PART_FINALITY = "alys/part/finality-certificates";
        PART_FEE_ESTIMATE = "alys/part/fee-estimate";
        /// Hash of an authority set.
        SET = "alys/set";
        /// Body hash of genesis.
        SPEC = "alys/spec";
        /// Fork id of a status message.
        FORK_ID = "alys/fork-id";
        /// Message of a vote.
        VOTE = "alys/vote";
        /// Message of an authority's proof of its peer id.
        AUTHORITY_PEER = "alys/authority-peer";
        /// Message of an order of governance.
        ORDER = "alys/order";
        /// `prev_randao` of a payload.
        RANDAO = "alys/randao";
        /// Address of the vault.
        VAULT = "alys/vault";
        /// Hash of the empty ledger.
        LEDGER = "alys/ledger";
        /// Hashes of leaves and of inner nodes of the ledger's tree.
        LEAF = "alys/leaf";
        NODE = "alys/node";
        /// Key of an authority set in the block store; not part of the protocol.
        STORED_SET = "alys/store/set";
        /// BLS signatures of messages.
        BLS_SIGNATURE = "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
        /// BLS proofs of possession.
        BLS_POSSESSION = "BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
        /// Public keys of the simulation's stand-in for BLS.
        STAND_IN_KEY = "stand-in-key";
        /// Signatures of the simulation's stand-in for BLS.
        STAND_IN_SIGNATURE = "stand-in-signature";
        /// Inputs of verifications whose results a simulation remembers.
        STAND_IN_MEMO = "stand-in-memo";
    }
}

/// `sha256(sha256(len(tag) || tag || parts..))` with a tag of [`tags`]; a part has a fixed length
/// or contains its length.
pub fn tagged(tag: &str, parts: &[&[u8]]) -> Hash {
    let mut first = Sha256::new();
    first.update([tag.len() as u8]);
    first.update(tag.as_bytes());
    for part in parts {
        first.update(part);
    }
    Hash(Sha256::digest(first.finalize()).into())
}

macro_rules! hex_type {
    ($name:ident, $alloy:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&bytes::to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = bytes::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                bytes::from_hex(text).map(Self)
            }
        }

        impl From<$alloy> for $name {
            fn from(value: $alloy) -> Self {
                Self(value.0.into())
            }
        }

        impl From<$name> for $alloy {
            fn from(value: $name) -> Self {
                Self::from(value.0)
            }
        }
    };
}

hex_type!(Hash, alloy_primitives::B256);
hex_type!(Address, alloy_primitives::Address);

#[cfg(test)]
mod tests {
    use super::tags;

    #[test]
    fn no_tag_is_a_prefix_of_another() {
        for (index, tag) in tags::ALL.iter().enumerate() {
            assert!(
                !tag.is_empty() && tag.len() <= usize::from(u8::MAX),
                "{tag}"
            );
            for (other, longer) in tags::ALL.iter().enumerate() {
                assert!(
                    index == other || !longer.starts_with(tag),
                    "{tag}, {longer}"
                );
            }
        }
    }
}
