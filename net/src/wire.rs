//! The wire format: names, limits and envelopes. Payloads belong to the node.

use alys_types::limits::{
    MAX_BLOCK_BYTES, MAX_RANGE_BYTES, MAX_STATUS_BYTES, MAX_TRANSACTIONS_BYTES, MAX_VOTE_BYTES,
};

use crate::handshake::{ChainTag, TAG_BYTES};

/// The version in every protocol id and topic. A change of any encoding increments it.
pub const WIRE_VERSION: u32 = 1;

const KIB: usize = 1024;

/// A gossip topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Proposed blocks.
    Blocks,
    /// Votes of the first phase.
    Approvals,
    /// Votes of the second phase, each with the certificate of its block.
    Confirmations,
    /// Proof of work for finished ranges.
    Work,
    /// New finality certificates.
    Finality,
    /// Users' transactions, because execution clients need not have a network of their own.
    Transactions,
}

impl Topic {
    pub const ALL: [Self; 6] = [
        Self::Blocks,
        Self::Approvals,
        Self::Confirmations,
        Self::Work,
        Self::Finality,
        Self::Transactions,
    ];

    /// The name inside the full topic.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Approvals => "approvals",
            Self::Confirmations => "confirmations",
            Self::Work => "work",
            Self::Finality => "finality",
            Self::Transactions => "transactions",
        }
    }

    /// Longest payload in bytes.
    pub const fn max_payload(self) -> usize {
        match self {
            Self::Blocks => MAX_BLOCK_BYTES,
            Self::Approvals | Self::Confirmations => MAX_VOTE_BYTES,
            Self::Work | Self::Finality => 64 * KIB,
            Self::Transactions => MAX_TRANSACTIONS_BYTES,
        }
    }

    /// `/alys/<genesis>/<name>/<version>`
    pub fn full_name(self, chain: &ChainTag) -> String {
        full_name(chain, self.name())
    }
}

/// A request/response protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Chain and progress of a node. Requested on every new connection.
    Status,
    /// Headers of a range of heights.
    HeadersByRange,
    /// Blocks of a range of heights.
    BlocksByRange,
    /// Blocks by hash.
    BlocksByHash,
}

impl Protocol {
    pub const ALL: [Self; 4] = [
        Self::Status,
        Self::HeadersByRange,
        Self::BlocksByRange,
        Self::BlocksByHash,
    ];

    /// The name inside the protocol id.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::HeadersByRange => "headers_by_range",
            Self::BlocksByRange => "blocks_by_range",
            Self::BlocksByHash => "blocks_by_hash",
        }
    }

    /// Longest request payload in bytes.
    pub const fn max_request(self) -> usize {
        match self {
            Self::Status => MAX_STATUS_BYTES,
            Self::HeadersByRange | Self::BlocksByRange => KIB,
            Self::BlocksByHash => 16 * KIB,
        }
    }

    /// Longest response payload in bytes. A range answer has room for at least one block of the
    /// largest size with its certificates; the responder shortens a range that would exceed the
    /// limit.
    pub const fn max_response(self) -> usize {
        match self {
            Self::Status => MAX_STATUS_BYTES,
            Self::HeadersByRange => MAX_BLOCK_BYTES,
            Self::BlocksByRange | Self::BlocksByHash => MAX_RANGE_BYTES,
        }
    }

    /// Longest payload on the wire, which includes the chain tag of a status message.
    pub(crate) const fn max_frame(self, payload: usize) -> usize {
        match self {
            Self::Status => payload + TAG_BYTES,
            Self::HeadersByRange | Self::BlocksByRange | Self::BlocksByHash => payload,
        }
    }

    /// Rate limit of the requests of one peer: (burst, per second).
    pub const fn rate(self) -> (u32, u32) {
        match self {
            Self::Status => (8, 1),
            Self::HeadersByRange | Self::BlocksByRange | Self::BlocksByHash => (64, 32),
        }
    }

    /// `/alys/<genesis>/<name>/<version>`
    pub fn full_name(self, chain: &ChainTag) -> String {
        full_name(chain, self.name())
    }
}

fn full_name(chain: &ChainTag, name: &str) -> String {
    format!("/alys/{}/{name}/{WIRE_VERSION}", chain.short())
}

/// Bytes of the nonce in front of a gossip payload.
pub const ENVELOPE_BYTES: usize = 8;

/// Prepends the nonce to a payload. gossipsub forwards a message once, and the nonce makes every
/// sending of the same payload a distinct message. It has no other meaning and is not signed.
pub fn seal(nonce: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + payload.len());
    bytes.extend_from_slice(&nonce.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A malformed envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than a nonce.
    #[error("{length} bytes are too short for a gossip envelope")]
    Short { length: usize },
    #[error("the payload on topic {topic:?} has {length} bytes, more than the limit of {limit}")]
    Long {
        topic: Topic,
        length: usize,
        limit: usize,
    },
}

/// Strips the nonce and checks the size of the payload.
pub fn open(topic: Topic, mut bytes: Vec<u8>) -> Result<Vec<u8>, EnvelopeError> {
    if bytes.len() < ENVELOPE_BYTES {
        return Err(EnvelopeError::Short {
            length: bytes.len(),
        });
    }
    let length = bytes.len() - ENVELOPE_BYTES;
    let limit = topic.max_payload();
    if length > limit {
        return Err(EnvelopeError::Long {
            topic,
            length,
            limit,
        });
    }
    bytes.drain(..ENVELOPE_BYTES);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_genesis_and_version() {
        let chain = ChainTag {
            genesis: [0x0f; 32],
            fork: [0; 32],
        };
        assert_eq!(Topic::Blocks.full_name(&chain), "/alys/0f0f0f0f/blocks/1");
        assert_eq!(
            Protocol::BlocksByHash.full_name(&chain),
            "/alys/0f0f0f0f/blocks_by_hash/1"
        );
    }

    #[test]
    fn envelopes_round_trip_within_limits() {
        for topic in Topic::ALL {
            let limit = topic.max_payload();
            assert_eq!(open(topic, seal(7, b"vote")), Ok(b"vote".to_vec()));
            assert!(open(topic, seal(u64::MAX, &vec![1; limit])).is_ok());
            assert_eq!(
                open(topic, seal(0, &vec![1; limit + 1])),
                Err(EnvelopeError::Long {
                    topic,
                    length: limit + 1,
                    limit
                })
            );
        }
        assert_eq!(
            open(Topic::Work, vec![0; 7]),
            Err(EnvelopeError::Short { length: 7 })
        );
        assert_ne!(seal(1, b"vote"), seal(2, b"vote"));
    }

    proptest::proptest! {
        #[test]
        fn opening_never_panics(bytes in proptest::collection::vec(0u8.., 0..2000)) {
            for topic in Topic::ALL {
                let _ = open(topic, bytes.clone());
            }
        }
    }
}
