//! Reasons for which received data is refused, and the party at fault.

use alys_consensus::rules::CertificateError;
use alys_consensus::rules::validity::Invalid;
use alys_consensus::verify::{CertifiedError, ProposalError, VoteError};
use alys_net::Topic;
use alys_types::codec::DecodeError;
use alys_types::wire::AuthorityProofError;
use alys_types::{Hash, Height, VoteKind};

/// The party at fault for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The peer that sent the data, because an honest node checks it before it forwards it.
    Sender,
    /// An honest peer can send this to a node that lags behind.
    Nobody,
    /// A bug of this node.
    Us,
}

/// Reason for which received data is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    #[error(transparent)]
    Vote(#[from] VoteError),
    #[error(transparent)]
    Certified(#[from] CertifiedError),
    #[error("parent's certificate: {0}")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Body(#[from] Invalid),
    #[error("a vote of kind {found:?} on the topic of {expected:?}")]
    VoteKind { expected: VoteKind, found: VoteKind },
    #[error("topic {topic:?} does not belong to the ValidationActor")]
    Misrouted { topic: Topic },
    #[error("a proposal without the certificate of its parent")]
    ParentUncertified,
    #[error("the blocks of a range are not consecutive")]
    RangeNotConsecutive,
    #[error("a range without the certificate of its last block")]
    RangeUncertified,
    #[error("the certificate of a range is of kind {found:?}, not of approvals")]
    RangeCertificateKind { found: VoteKind },
    #[error("proof of an authority's key: {0}")]
    Authority(#[source] AuthorityProofError),
    #[error("blocks that were not requested")]
    UnrequestedBlocks,
    #[error("receipts of block {block} that are not those under its receipts root {root}")]
    FalseReceipts { block: Hash, root: Hash },
    #[error("a confirmation beside the certificate of another block")]
    ConfirmationOfOther,
    #[error("a confirmation beside a certificate of kind {found:?}, not of approvals")]
    ConfirmationCertificateKind { found: VoteKind },
    /// The queue of strangers is full.
    #[error("{limit} messages of strangers wait for their check already")]
    TooManyStrangers { limit: usize },
    /// The authority set was assumed: either the data is forged, or it belongs to a federation that
    /// this node has not seen yet.
    #[error("fails against the newest known authority set: {error}")]
    AssumedSet {
        #[source]
        error: Box<CheckError>,
        /// The height that the data says is certified.
        claimed: Option<Height>,
    },
}

impl CheckError {
    pub fn blame(&self) -> Blame {
        match self {
            Self::Decode(_)
            | Self::Proposal(_)
            | Self::Vote(_)
            | Self::Certified(_)
            | Self::Certificate(_)
            | Self::Body(_)
            | Self::VoteKind { .. }
            | Self::ParentUncertified
            | Self::RangeNotConsecutive
            | Self::RangeUncertified
            | Self::RangeCertificateKind { .. }
            | Self::Authority(_)
            | Self::UnrequestedBlocks
            | Self::FalseReceipts { .. }
            | Self::ConfirmationOfOther
            | Self::ConfirmationCertificateKind { .. } => Blame::Sender,
            Self::AssumedSet { .. } | Self::TooManyStrangers { .. } => Blame::Nobody,
            Self::Misrouted { .. } => Blame::Us,
        }
    }

    /// True for data that is probably forged, although its sender may be honest.
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::AssumedSet { .. })
    }

    /// The height that the refused data claims is certified.
    pub fn claimed_height(&self) -> Option<Height> {
        if let Self::AssumedSet { claimed, .. } = self {
            *claimed
        } else {
            None
        }
    }
}
