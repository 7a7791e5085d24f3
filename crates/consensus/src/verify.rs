//! Checked types. Each is made only by its check, so that unverified data never reaches the state
//! machine. The checks are pure and take the sets as arguments: they can run in another actor, or
//! in parallel.

use std::sync::Arc;

use alys_types::wire::{CertifiedHeader, Proposal};
use alys_types::{
    AuthoritySet, Block, Certificate, Genesis, Hash, Header, Vote, VoteKind, VoteTarget, bls,
};

use crate::config::Config;
use crate::rules::validity::{self, Invalid};
use crate::rules::{self, CertificateError};
use crate::state::ProposalContext;

/// A proposal that is well-formed, fits its parent, carries the parent's certificate and is signed
/// by its leader. Not checked yet, because they need the execution layer and the branch: the
/// payload's execution, the federation's change.
#[derive(Debug, Clone)]
pub struct VerifiedProposal {
    block: Arc<Block>,
    hash: Hash,
    vote: Vote,
    set_hash: Hash,
}

impl VerifiedProposal {
    /// Checks a proposal against its parent. The cheapest checks come first: a block of the largest
    /// size is hashed only after its leader's signature was verified.
    pub fn check(
        proposal: Proposal,
        context: &ProposalContext,
        config: &Config,
    ) -> Result<Self, ProposalError> {
        let Proposal { block, vote } = proposal;
        validity::check_header(&block.header, context, config)?;
        let hash = block.header.hash();
        let target = VoteTarget {
            kind: VoteKind::Proposal,
            height: block.header.height,
            slot: block.header.slot,
            hash,
        };
        if vote.target != target || vote.signer != block.header.proposer {
            return Err(ProposalError::NotTheLeadersVote);
        }
        let vote = VerifiedVote::check(vote, &context.set, &config.genesis)?.vote;
        validity::check_contents(&block, context, config)?;
        if let Some(certificate) = &block.header.parent_certificate {
            rules::check_parents_votes(certificate, &context.parent_set, config)?;
        }
        Ok(VerifiedProposal {
            block: Arc::new(block),
            hash,
            vote,
            set_hash: context.set.hash(),
        })
    }

    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Block hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The leader's signature.
    pub fn vote(&self) -> &Vote {
        &self.vote
    }

    /// Hash of the set that the leader's signature was checked against.
    pub fn set_hash(&self) -> Hash {
        self.set_hash
    }
}

/// The reason for which a proposal is refused. Always the fault of its maker: of the leader, or of
/// a forger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    #[error("invalid block: {0}")]
    Invalid(#[from] Invalid),
    #[error("the vote under the proposal is not the leader's vote for this block")]
    NotTheLeadersVote,
    #[error(transparent)]
    Vote(#[from] VoteError),
    #[error("parent's certificate: {0}")]
    Certificate(#[from] CertificateError),
}

/// A vote whose signature belongs to a member of the set.
#[derive(Debug, Clone, Copy)]
pub struct VerifiedVote {
    vote: Vote,
    set_hash: Hash,
}

impl VerifiedVote {
    /// Checks a vote against the set that presumably decides on its height; [`Self::set_hash`]
    /// tells which it was.
    pub fn check(vote: Vote, set: &AuthoritySet, genesis: &Genesis) -> Result<Self, VoteError> {
        let key = set.key(vote.signer).ok_or(VoteError::NoSuchSigner {
            signer: vote.signer,
            of: set.len(),
        })?;
        bls::verify(
            &[key],
            &vote.target.message(&genesis.chain_id()).0,
            &vote.signature,
        )?;
        Ok(VerifiedVote {
            vote,
            set_hash: set.hash(),
        })
    }

    pub fn vote(&self) -> &Vote {
        &self.vote
    }

    /// Hash of the set that the vote was checked against.
    pub fn set_hash(&self) -> Hash {
        self.set_hash
    }
}

/// The reason for which a vote is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    #[error("signer {signer} is outside the set of {of}")]
    NoSuchSigner { signer: u8, of: usize },
    #[error(transparent)]
    Signature(#[from] bls::Error),
}

/// A header with a quorum's certificate, of approvals or of confirmations.
#[derive(Debug, Clone)]
pub struct CertifiedBlock {
    header: Header,
    hash: Hash,
    certificate: Certificate,
    set: Arc<AuthoritySet>,
}

impl CertifiedBlock {
    /// Checks that the certificate is about this header, and holds against the set of its height.
    pub fn check(
        certified: CertifiedHeader,
        set: &Arc<AuthoritySet>,
        config: &Config,
    ) -> Result<Self, CertifiedError> {
        let CertifiedHeader {
            header,
            certificate,
        } = certified;
        let hash = header.hash();
        let target = certificate.target;
        if (target.hash, target.height, target.slot) != (hash, header.height, header.slot) {
            return Err(CertifiedError::OtherBlock);
        }
        if header.genesis_hash != config.genesis.hash() {
            return Err(CertifiedError::OtherChain {
                genesis: header.genesis_hash,
            });
        }
        rules::check_certificate(&certificate, set, config)?;
        Ok(CertifiedBlock {
            header,
            hash,
            certificate,
            set: set.clone(),
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Block hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Header and certificate, to pass them on.
    pub fn certified(&self) -> CertifiedHeader {
        CertifiedHeader {
            header: self.header.clone(),
            certificate: self.certificate,
        }
    }

    pub(crate) fn set(&self) -> &Arc<AuthoritySet> {
        &self.set
    }
}

/// The reason for which a certified header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertifiedError {
    #[error("the certificate is about another block than the header beside it")]
    OtherBlock,
    #[error("header of another chain, genesis {genesis}")]
    OtherChain { genesis: Hash },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A body that belongs to its header.
#[derive(Debug, Clone)]
pub struct VerifiedBody {
    block: Arc<Block>,
    hash: Hash,
}

impl VerifiedBody {
    /// Checks that the body is within limits and the one that the header commits to.
    pub fn check(block: Arc<Block>) -> Result<Self, Invalid> {
        validity::check_body_belongs(&block)?;
        let hash = block.header.hash();
        Ok(VerifiedBody { block, hash })
    }

    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Block hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

impl VerifiedVote {
    /// A vote that was checked as a part of something else.
    pub(crate) fn trusted(vote: Vote, set_hash: Hash) -> VerifiedVote {
        VerifiedVote { vote, set_hash }
    }
}
