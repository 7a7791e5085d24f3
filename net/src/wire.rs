//! Names, limits and envelopes: everything two nodes must agree on to exchange bytes. What is inside the
//! bytes is the node's business.

use alys_types::limits::{
    MAX_BLOCK_BYTES, MAX_RANGE_BYTES, MAX_STATUS_BYTES, MAX_TRANSACTIONS_BYTES, MAX_VOTE_BYTES,
};

use crate::handshake::{ChainTag, TAG_BYTES};

/// Version in every protocol id and topic. A change of any encoding raises it.
pub const WIRE_VERSION: u32 = 1;

const KIB: usize = 1024;

/// A gossip topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Proposed blocks.
    Blocks,
    /// Votes of the first phase.
    Approvals,
    /// Votes of the second phase, each with the certificate it is about.
    Confirmations,
    /// Proof of work for finished ranges.
    Work,
    /// New finality certificates.
    Finality,
    /// Users' transactions, for leaders whose execution clients have no network of their own.
    Transactions,
}

impl Topic {
    /// All topics, in order.
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
    /// Who are you on which chain, and how far? Asked on every new connection.
    Status,
    /// Headers of a range of heights.
    HeadersByRange,
    /// Blocks of a range of heights.
    BlocksByRange,
    /// Blocks by hash.
    BlocksByHash,
}

impl Protocol {
    /// All protocols, in order.
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

    /// Longest response payload in bytes. A range answer holds at least one block of the largest size with
    /// its certificates; whoever answers stops in time rather than exceed it.
    pub const fn max_response(self) -> usize {
        match self {
            Self::Status => MAX_STATUS_BYTES,
            Self::HeadersByRange => MAX_BLOCK_BYTES,
            Self::BlocksByRange | Self::BlocksByHash => MAX_RANGE_BYTES,
        }
    }

    /// Longest payload on the wire: a status message carries the chain tag in front.
    pub(crate) const fn max_frame(self, payload: usize) -> usize {
        match self {
            Self::Status => payload + TAG_BYTES,
            Self::HeadersByRange | Self::BlocksByRange | Self::BlocksByHash => payload,
        }
    }

    /// Requests that one peer may send: (burst, a second).
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

/// Bytes that the envelope adds to a gossip payload.
pub const ENVELOPE_BYTES: usize = 8;

/// Puts a payload into its envelope. `nonce` makes every sending of the same payload a message of its own,
/// because gossipsub forwards a message once; it means nothing besides and is not signed.
pub fn seal(nonce: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + payload.len());
    bytes.extend_from_slice(&nonce.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What is wrong with an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than the envelope itself.
    #[error("{length} bytes are no gossip envelope")]
    Short {
        /// Bytes received.
        length: usize,
    },
    /// A payload above the topic's limit.
    #[error("a payload of {length} bytes on topic {topic:?}, which allows {limit}")]
    Long {
        /// The topic.
        topic: Topic,
        /// Bytes of payload.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

/// Takes a payload out of its envelope and checks its size.
pub fn open(topic: Topic, mut bytes: Vec<u8>) -> Result<Vec<u8>, EnvelopeError> {
    if bytes.len() < ENVELOPE_BYTES {
        return Err(EnvelopeError::Short {
            length: bytes.len(),
        });
    }
    let (length, limit) = (bytes.len() - ENVELOPE_BYTES, topic.max_payload());
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
        fn opening_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
            for topic in Topic::ALL {
                let _ = open(topic, bytes.clone());
            }
        }
    }
}
