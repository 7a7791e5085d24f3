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

/// `sha256(sha256(len(tag) || tag || parts..))`. The tag separates domains; a part has a fixed
/// length or contains its length.
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
