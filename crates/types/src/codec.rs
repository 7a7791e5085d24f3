//! The one canonical encoding: bincode 2 with fixed-width little-endian integers.
//!
//! No other module names bincode. Decoding has a limit, refuses trailing bytes, and re-encodes to
//! compare, so that two different byte strings never decode to the same value.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::SizeWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Upper bound of every message and record; bounds the allocations of a decoder as well.
const MAX_BYTES: usize = 64 * 1024 * 1024;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_BYTES>> = bincode::config::standard()
    .with_fixed_int_encoding()
    .with_limit::<MAX_BYTES>();

/// Encodes a value.
///
/// # Panics
/// Never for types of this crate: none has a value that bincode cannot encode.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, CONFIG)
        .expect("types of the protocol have no unencodable values")
}

/// Length of the encoding of a value, computed without allocating it.
///
/// # Panics
/// Never, as [`encode`].
pub fn encoded_len<T: Serialize>(value: &T) -> usize {
    let mut size = SizeWriter::default();
    bincode::serde::encode_into_writer(value, &mut size, CONFIG)
        .expect("types of the protocol have no unencodable values");
    size.bytes_written
}

/// Decodes exactly one value from all of `bytes`, at most `limit` bytes long.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong {
            limit,
            found: bytes.len(),
        });
    }
    let (value, used) = bincode::serde::decode_from_slice::<T, _>(bytes, CONFIG).map_err(|e| {
        DecodeError::Malformed {
            reason: e.to_string(),
        }
    })?;
    if used != bytes.len() {
        return Err(DecodeError::Trailing {
            extra: bytes.len().saturating_sub(used),
        });
    }
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

/// The reason for which bytes do not decode. Always the fault of the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the limit of the type.
    #[error("message of {found} bytes exceeds the limit of {limit}")]
    TooLong { limit: usize, found: usize },
    /// Not an encoding of the type.
    #[error("malformed encoding: {reason}")]
    Malformed { reason: String },
    /// Bytes follow the value.
    #[error("{extra} bytes after the end of the value")]
    Trailing { extra: usize },
    /// The value has another encoding, which is the canonical one.
    #[error("encoding is not the canonical one")]
    NotCanonical,
}
