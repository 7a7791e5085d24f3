//! The wire format: names, limits and envelopes. The types and limits of payloads are those of
//! `alys_types::wire`.

use alys_types::wire::{
    BlockRange, BlockReceipts, CertifiedHeader, Confirmation, HeaderRange, Message, Proposal,
    RangeRequest, Status, StatusAnswer, Transactions, WorkProof,
};
use alys_types::{Block, Hash, Vote};

use crate::handshake::{ChainTag, TAG_BYTES};

/// The version in every protocol id and topic. A change of any encoding, or of the list of topics
/// or protocols, increments it, because
/// [`Event::PeerSubscribed`](crate::Event::PeerSubscribed) waits for all topics: a peer with
/// another list would never receive the votes that are rebroadcast on a connection.
pub const WIRE_VERSION: u32 = 5;

/// Declares an enum from a table of variants, each with its name on the wire and its limits.
macro_rules! table {
    (
        $(#[$about:meta])*
        $table:ident: $limits:ty {
            $($(#[$doc:meta])* $variant:ident = $name:literal, $limit:expr;)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $table {
            $($(#[$doc])* $variant,)*
        }

        impl $table {
            /// All variants, in the order of their declaration.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            const fn limits(self) -> $limits {
                match self {
                    $(Self::$variant => $limit,)*
                }
            }
        }
    };
}

table! {
    /// A gossip topic. Its limit is that of its message.
    Topic: usize {
        /// Proposed blocks.
        Blocks = "blocks", Proposal::LIMIT;
        /// Votes of the first phase.
        Approvals = "approvals", Vote::LIMIT;
        /// Votes of the second phase, each with the certificate of its block.
        Confirmations = "confirmations", Confirmation::LIMIT;
        /// Proofs of work over final blocks, until a block carries one.
        Work = "work", WorkProof::LIMIT;
        /// New finality certificates.
        Finality = "finality", CertifiedHeader::LIMIT;
        /// Users' transactions, because execution clients need not have a network of their own.
        Transactions = "transactions", Transactions::LIMIT;
    }
}

impl Topic {
    /// Longest payload in bytes.
    pub const fn max_payload(self) -> usize {
        self.limits()
    }

    /// Rate limits of the gossip of one peer. One peer may forward all messages of a federation of
    /// 15 with slots of one second, which are half of the sustained rate; a burst is the backlog of
    /// a link that was down until the peer was closed as silent.
    pub const fn rate(self) -> GossipRate {
        const MIB: u32 = 1024 * 1024;
        match self {
            // One block of the largest size in each second, rebroadcast or proposed twice.
            Self::Blocks => GossipRate {
                messages: (256, 16),
                bytes: (256 * MIB, 17 * MIB),
            },
            // 15 new votes in each second, and as many rebroadcasts of the slots before.
            Self::Approvals | Self::Confirmations | Self::Finality => GossipRate {
                messages: (2000, 120),
                bytes: (4 * MIB, MIB / 4),
            },
            // A node sends one in two seconds of its own miners, and forwards as many; an AuxPoW has
            // a few KiB.
            Self::Work => GossipRate {
                messages: (8, 1),
                bytes: (4 * MIB, MIB / 2),
            },
            // Only the batches of the peer's own pool, twice in each second.
            Self::Transactions => GossipRate {
                messages: (64, 8),
                bytes: (16 * MIB, 4 * MIB),
            },
        }
    }

    /// `/alys/<genesis>/<name>/<version>`
    pub fn full_name(self, chain: &ChainTag) -> String {
        full_name(chain, self.name())
    }
}

/// Rate limits of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GossipRate {
    /// Burst, and messages per second.
    pub messages: (u32, u32),
    /// Burst, and bytes per second, nonces included.
    pub bytes: (u32, u32),
}

/// Longest payloads of a protocol, in bytes: those of its request and its answer.
struct Limits {
    request: usize,
    response: usize,
}

const fn limits<Request: Message, Response: Message>() -> Limits {
    Limits {
        request: Request::LIMIT,
        response: Response::LIMIT,
    }
}

table! {
    /// A request/response protocol. Its limits are those of its messages.
    Protocol: Limits {
        /// Chain and progress of a node. Requested on every new connection.
        Status = "status", limits::<Status, StatusAnswer>();
        /// Headers of a range of heights.
        HeadersByRange = "headers_by_range", limits::<RangeRequest, HeaderRange>();
        /// Blocks of a range of heights.
        BlocksByRange = "blocks_by_range", limits::<RangeRequest, BlockRange>();
        /// Blocks by hash.
        BlocksByHash = "blocks_by_hash", limits::<Vec<Hash>, Vec<Block>>();
        /// The receipts of a block by its hash.
        Receipts = "receipts", limits::<Hash, Option<BlockReceipts>>();
    }
}

impl Protocol {
    /// Longest request payload in bytes.
    pub const fn max_request(self) -> usize {
        self.limits().request
    }

    /// Longest response payload in bytes. A range answer has room for at least one block of the
    /// largest size with its certificates; the responder shortens a range that would exceed the
    /// limit.
    pub const fn max_response(self) -> usize {
        self.limits().response
    }

    /// Longest payload on the wire, which includes the chain tag of a status message.
    pub(crate) const fn max_frame(self, payload: usize) -> usize {
        match self {
            Self::Status => payload + TAG_BYTES,
            Self::HeadersByRange | Self::BlocksByRange | Self::BlocksByHash | Self::Receipts => {
                payload
            }
        }
    }

    /// Rate limit of the requests of one peer: (burst, per second).
    pub const fn rate(self) -> (u32, u32) {
        match self {
            Self::Status => (8, 1),
            Self::HeadersByRange | Self::BlocksByRange | Self::BlocksByHash => (64, 32),
            // A node asks for those of four blocks at once, each again after half a second.
            Self::Receipts => (32, 8),
        }
    }

    /// Rate limit of the requests of all strangers together: (burst, per second). A status brings
    /// two certificates and a proof to check, about 6 ms; 50 strangers may connect at once. Those
    /// in answers have a budget of the same rate. Receipts cost a call of the execution client,
    /// which may execute the block again.
    pub const fn strangers_rate(self) -> (u32, u32) {
        match self {
            Self::Status => (128, 16),
            Self::HeadersByRange | Self::BlocksByRange | Self::BlocksByHash => (256, 128),
            Self::Receipts => (32, 2),
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_carry_genesis_and_version() {
        let chain = ChainTag {
            genesis: [0x0f; 32],
        };
        assert_eq!(Topic::Blocks.full_name(&chain), "/alys/0f0f0f0f/blocks/5");
        assert_eq!(
            Protocol::BlocksByHash.full_name(&chain),
            "/alys/0f0f0f0f/blocks_by_hash/5"
        );
    }

    #[test]
    fn names_are_distinct() {
        let topics = Topic::ALL.map(Topic::name);
        let protocols = Protocol::ALL.map(Protocol::name);
        let distinct: BTreeSet<_> = topics.iter().chain(&protocols).collect();
        assert_eq!(distinct.len(), topics.len() + protocols.len());
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
