//! Messages between nodes, typed. `net` carries them as bytes; here they get their limits and
//! decoders.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::limits::{
    MAX_BLOCK_BYTES, MAX_CERTIFICATE_BYTES, MAX_RANGE_BYTES, MAX_STATUS_BYTES,
    MAX_TRANSACTIONS_BYTES, MAX_VOTE_BYTES,
};
use crate::{Block, Certificate, Hash, Header, Height, Vote};

/// A proposal: the block and its leader's signature (topic `blocks`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The block.
    pub block: Block,
    /// Kind `Proposal`, by the leader of the block's slot.
    pub vote: Vote,
}

/// A header with a certificate of it: approvals (certified) or confirmations (final).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedHeader {
    /// The header.
    pub header: Header,
    /// About this header; whether it is, is checked.
    pub certificate: Certificate,
}

/// A confirmation with the certificate that it is about (topic `confirmations`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Kind `Confirmation`.
    pub vote: Vote,
    /// The approvals that made the voter confirm.
    pub certified: CertifiedHeader,
}

/// Who we are, exchanged on every new connection and on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Genesis hash; another one ends the connection.
    pub genesis: Hash,
    /// Rules in force; others end the connection.
    pub fork_id: Hash,
    /// Height of the execution head.
    pub head_height: Height,
    /// Hash of the execution head.
    pub head: Hash,
    /// The highest certificate; absent while it is genesis.
    pub highest: Option<CertifiedHeader>,
    /// The last finality certificate; absent while it is genesis.
    pub finalized: Option<CertifiedHeader>,
    /// BLS key of the sender, if it is an authority: who it asks votes of.
    pub authority: Option<crate::bls::PublicKeyBytes>,
}

/// The latest votes held of an authority: how a node that lost its vote state learns of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldVotes {
    /// Latest approval.
    pub approval: Option<Vote>,
    /// Latest confirmation.
    pub confirmation: Option<Vote>,
}

/// Answer to a status request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The answerer's status.
    pub status: Status,
    /// Latest votes held of the asker.
    pub held: HeldVotes,
}

/// Blocks `start ..= start + count - 1` of the answerer's certified chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// First height.
    pub start: Height,
    /// At most [`crate::limits::MAX_RANGE_BLOCKS`].
    pub count: u64,
}

/// Consecutive headers; each is certified by the next one's parent certificate, the last by `tip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRange {
    /// Ascending, without gaps.
    pub headers: Vec<Header>,
    /// Certificate of the last header. Absent only when `headers` is empty.
    pub tip: Option<Certificate>,
    /// Federation changes of the range, by height.
    pub changes: Vec<(Height, crate::FederationOrder)>,
    /// The answerer's highest finality certificate of a header in the range, or its last one.
    pub finalized: Option<CertifiedHeader>,
}

/// Consecutive blocks, certified like a [`HeaderRange`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRange {
    /// Ascending, without gaps.
    pub blocks: Vec<Block>,
    /// Certificate of the last block. Absent only when `blocks` is empty.
    pub tip: Option<Certificate>,
    /// The answerer's highest finality certificate of a block in the range, or its last one.
    pub finalized: Option<CertifiedHeader>,
}

/// Users' transactions, EIP-2718 encoded (topic `transactions`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transactions(pub Vec<Vec<u8>>);

/// A message with a limit of its own.
pub trait Message: Serialize + serde::de::DeserializeOwned {
    /// Largest encoding.
    const LIMIT: usize;

    /// Canonical encoding.
    fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes within [`Self::LIMIT`].
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::LIMIT)
    }
}

macro_rules! message {
    ($($name:ty = $limit:expr),* $(,)?) => {$(
        impl Message for $name {
            const LIMIT: usize = $limit;
        }
    )*};
}

message!(
    Proposal = MAX_BLOCK_BYTES,
    Vote = MAX_VOTE_BYTES,
    Confirmation = MAX_VOTE_BYTES,
    CertifiedHeader = MAX_CERTIFICATE_BYTES,
    Status = MAX_STATUS_BYTES,
    StatusAnswer = MAX_STATUS_BYTES,
    RangeRequest = 64,
    HeaderRange = MAX_BLOCK_BYTES,
    BlockRange = MAX_RANGE_BYTES,
    Vec<Hash> = 8 * 1024,
    Vec<Block> = MAX_RANGE_BYTES,
    Transactions = MAX_TRANSACTIONS_BYTES,
);
