//! ValidationActor: decodes gossip and checks signatures outside of the ChainActor's task.
//!
//! Owns the configuration of the rules, and the messages of strangers that wait for their turn.
//! Sends at most one answer to each message, a decoded or checked value or a refusal, which an
//! overloaded ChainActor loses, and a [`ChainMessage::ChecksLost`] after a restart, which may have
//! lost answers. Known peers never wait for strangers, which get a share of its time, in which
//! proofs of an authority's key come first. Never decides relevance: the ChainActor drops known
//! messages and names the authority set of each check.

mod error;
mod metrics;
mod strangers;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_consensus::rules::check_certificate;
use alys_consensus::verify::{CertifiedError, ProposalError};
use alys_consensus::{
    CertifiedBlock, Config, ProposalContext, VerifiedBody, VerifiedProposal, VerifiedVote,
};
use alys_net::{GossipId, PeerId, Topic};
use alys_runtime::time;
use alys_types::bls::PublicKeyBytes;
use alys_types::wire::{
    AuthorityProof, BlockRange, CertifiedHeader, Confirmation, Message as Wire, Proposal,
};
use alys_types::{AuthoritySet, Block, Certificate, Height, Vote, VoteKind, VoteTarget};

use crate::actors::chain::{ChainMessage, Counted};
use crate::interceptor;

pub use error::{Blame, CheckError};
pub use metrics::Metrics;
use strangers::Strangers;

pub enum ValidationMessage {
    /// Gossip as it arrived.
    Decode {
        source: Source,
        topic: Topic,
        payload: Vec<u8>,
    },
    /// A decoded message with the authority set to check it against. With `is_set_known` false the
    /// set is an assumption, and a failure is [`CheckError::AssumedSet`].
    Check {
        source: Source,
        job: Job,
        is_set_known: bool,
    },
    /// The turn of the next message of a stranger: the actor's own timer.
    Strangers,
}

impl Message for ValidationMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Decode { .. } => "decode",
            Self::Check { .. } => "check",
            Self::Strangers => "strangers",
        }
    }
}

impl ValidationMessage {
    fn source(&self) -> Option<&Source> {
        match self {
            Self::Decode { source, .. } | Self::Check { source, .. } => Some(source),
            Self::Strangers => None,
        }
    }
}

/// A gossip message that needs a verdict.
#[derive(Debug, Clone)]
pub struct GossipRef {
    pub topic: Topic,
    pub id: GossipId,
}

/// Origin of received data.
#[derive(Debug, Clone)]
pub struct Source {
    /// The sending peer; `None` for data of this node.
    pub peer: Option<PeerId>,
    /// `None` for answers to requests.
    pub gossip: Option<GossipRef>,
    /// False for gossip and statuses of a peer that is neither configured nor an authority.
    pub is_known: bool,
    /// False when the message is not forwarded even if it is valid.
    pub may_forward: bool,
    /// The vote of a known peer whose check the ChainActor counts as under way.
    pub counted: Option<Counted>,
}

impl Source {
    /// Data of this node.
    pub const LOCAL: Source = Source {
        peer: None,
        gossip: None,
        is_known: true,
        may_forward: true,
        counted: None,
    };

    /// An answer of `peer` to a request for blocks.
    pub fn answer(peer: PeerId) -> Source {
        Source {
            peer: Some(peer),
            ..Source::LOCAL
        }
    }

    /// The status of `peer`. It comes with every connection, so those of strangers wait for each
    /// other.
    pub fn status(peer: PeerId, is_known: bool) -> Source {
        Source {
            is_known,
            ..Source::answer(peer)
        }
    }

    /// Gossip that `peer` forwarded.
    pub fn gossip(peer: PeerId, is_known: bool, gossip: GossipRef) -> Source {
        Source {
            peer: Some(peer),
            gossip: Some(gossip),
            is_known,
            ..Source::LOCAL
        }
    }
}

/// Decoded gossip.
#[derive(Debug)]
pub enum Gossip {
    Proposal(Box<Proposal>),
    Approval(Vote),
    Confirmation(Box<Confirmation>),
    Certificate(Box<CertifiedHeader>),
}

/// A check, with everything that it needs.
#[derive(Debug)]
pub enum Job {
    Proposal {
        proposal: Box<Proposal>,
        context: Box<ProposalContext>,
    },
    Vote {
        vote: Vote,
        set: Arc<AuthoritySet>,
    },
    /// A vote of this node that a peer holds.
    HeldVote {
        vote: Vote,
        set: Arc<AuthoritySet>,
    },
    Confirmation {
        confirmation: Box<Confirmation>,
        set: Arc<AuthoritySet>,
    },
    Certified {
        certified: Box<CertifiedHeader>,
        set: Arc<AuthoritySet>,
    },
    /// The certificate of an unknown parent, taken from a proposal on it.
    Parent {
        certificate: Certificate,
        set: Arc<AuthoritySet>,
    },
    /// Consecutive blocks; `set` decides on them up to the first change of the federation.
    Range {
        range: Box<BlockRange>,
        set: Arc<AuthoritySet>,
    },
    /// Blocks that were requested by hash.
    Bodies {
        blocks: Vec<Block>,
    },
    /// The proof of a peer that it holds an authority's key.
    Authority {
        peer: PeerId,
        proof: AuthorityProof,
        set: Arc<AuthoritySet>,
    },
}

/// Result of a check.
#[derive(Debug)]
pub enum Checked {
    Proposal(VerifiedProposal),
    Vote(VerifiedVote),
    HeldVote(VerifiedVote),
    Confirmation(VerifiedVote, CertifiedBlock),
    Certified(CertifiedBlock),
    Parent(Certificate),
    /// Ascending blocks, certified up to `tip`, and the last final block of the sender.
    Range {
        bodies: Vec<VerifiedBody>,
        tip: Option<CertifiedBlock>,
        finalized: Option<CertifiedBlock>,
    },
    Bodies(Vec<VerifiedBody>),
    /// The peer holds an authority's key.
    Authority {
        peer: PeerId,
        key: PublicKeyBytes,
    },
    Refused(CheckError),
}

impl Job {
    /// The height that is certified, should the certificates be valid.
    fn claimed_height(&self) -> Option<Height> {
        match self {
            Job::Confirmation { confirmation, .. } => Some(confirmation.certified.header.height),
            Job::Certified { certified, .. } => Some(certified.header.height),
            Job::Parent { certificate, .. } => Some(certificate.target.height),
            Job::Proposal { .. }
            | Job::Vote { .. }
            | Job::HeldVote { .. }
            | Job::Range { .. }
            | Job::Bodies { .. }
            | Job::Authority { .. } => None,
        }
    }
}

pub struct ValidationActor {
    config: Config,
    chain: Addr<ChainMessage>,
    strangers: Strangers<ValidationMessage>,
    metrics: Metrics,
}

impl ValidationActor {
    pub fn new(config: Config, chain: Addr<ChainMessage>, metrics: Metrics) -> ValidationActor {
        ValidationActor {
            config,
            chain,
            strangers: Strangers::default(),
            metrics,
        }
    }

    fn check(&self, job: Job) -> Result<Checked, CheckError> {
        let config = &self.config;
        let genesis = &config.genesis;
        Ok(match job {
            Job::Proposal { proposal, context } => {
                Checked::Proposal(VerifiedProposal::check(*proposal, &context, config)?)
            }
            Job::Vote { vote, set } => Checked::Vote(VerifiedVote::check(vote, &set, genesis)?),
            Job::HeldVote { vote, set } => {
                Checked::HeldVote(VerifiedVote::check(vote, &set, genesis)?)
            }
            Job::Confirmation { confirmation, set } => {
                let Confirmation { vote, certified } = *confirmation;
                // The certificate first, because most forgeries fail by its bitmap, before any
                // signature.
                let certified = CertifiedBlock::check(certified, &set, config)?;
                let vote = VerifiedVote::check(vote, &set, genesis)?;
                Checked::Confirmation(vote, certified)
            }
            Job::Certified { certified, set } => {
                Checked::Certified(CertifiedBlock::check(*certified, &set, config)?)
            }
            Job::Parent { certificate, set } => {
                check_certificate(&certificate, &set, config)?;
                Checked::Parent(certificate)
            }
            Job::Range { range, set } => self.check_range(*range, &set)?,
            Job::Bodies { blocks } => Checked::Bodies(check_bodies(blocks)?),
            Job::Authority { peer, proof, set } => {
                proof
                    .verify(&set, &genesis.chain_id(), &peer.to_bytes())
                    .map_err(CheckError::Authority)?;
                let key = proof.key;
                Checked::Authority { peer, key }
            }
        })
    }

    /// Checks that the blocks are consecutive and that the last one that `set` decides on is
    /// certified, which certifies all below it. Blocks after a change of the federation are left
    /// out, because they are requested again once their set is known.
    fn check_range(
        &self,
        range: BlockRange,
        set: &Arc<AuthoritySet>,
    ) -> Result<Checked, CheckError> {
        let BlockRange {
            mut blocks,
            tip,
            finalized,
        } = range;
        let is_consecutive = blocks.windows(2).all(|pair| {
            pair[1].header.parent_hash == pair[0].header.hash()
                && pair[1].header.height == pair[0].header.height.next()
        });
        if !is_consecutive {
            return Err(CheckError::RangeNotConsecutive);
        }
        let changed = blocks.iter().position(|b| b.header.set_hash != set.hash());
        let certificate = match changed {
            Some(last) if interceptor::range_goes_on(last, blocks.len()) => {
                let certificate = blocks[last + 1].header.parent_certificate;
                blocks.truncate(last + 1);
                certificate
            }
            Some(_) | None => tip,
        };
        let tip = match blocks.last() {
            Some(last) => Some(self.check_tip(last, certificate, set)?),
            None => None,
        };
        // The sender's last final block may be beyond a change of the federation: no fault of the
        // sender.
        let finalized = finalized.and_then(|f| CertifiedBlock::check(f, set, &self.config).ok());
        Ok(Checked::Range {
            bodies: check_bodies(blocks)?,
            tip,
            finalized,
        })
    }

    fn check_tip(
        &self,
        last: &Block,
        certificate: Option<Certificate>,
        set: &Arc<AuthoritySet>,
    ) -> Result<CertifiedBlock, CheckError> {
        let certificate = certificate.ok_or(CheckError::RangeUncertified)?;
        if certificate.target.kind != VoteKind::Approval {
            return Err(CheckError::RangeCertificateKind {
                found: certificate.target.kind,
            });
        }
        let certified = CertifiedHeader {
            header: last.header.clone(),
            certificate,
        };
        Ok(CertifiedBlock::check(certified, set, &self.config)?)
    }
}

impl AlysActor for ValidationActor {
    type Message = ValidationMessage;
    type Error = std::convert::Infallible;
    type Config = ();
    const NAME: &'static str = "ValidationActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Self::Error> {
        // The check in hand was lost with the last incarnation. Votes and proposals are rebroadcast
        // by their authors, but the PeerActor has to be told about a lost range. This wait for room
        // ends, because the ChainActor never waits for this actor.
        if ctx.incarnation() > 1 && self.chain.send(ChainMessage::ChecksLost).await.is_err() {
            tracing::debug!("the ChainActor is stopping");
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        msg: ValidationMessage,
        ctx: &Context<Self>,
    ) -> Result<(), Self::Error> {
        alys_runtime::buggify_pause!("node.validation.slow", 50_000, 150);
        match msg {
            ValidationMessage::Strangers => {
                let begun = time::now();
                let spent = self.strangers.pop().map(|msg| {
                    self.process(msg);
                    time::now().saturating_duration_since(begun)
                });
                self.count_strangers();
                if let Some(pause) = self.strangers.next_turn(spent) {
                    ctx.send_after(pause, ValidationMessage::Strangers);
                }
            }
            msg if msg.source().is_some_and(|source| !source.is_known) => {
                self.queue_stranger(msg, ctx);
            }
            msg => self.process(msg),
        }
        Ok(())
    }
}

impl ValidationActor {
    /// Queues a message of a stranger, or answers that there is no room.
    fn queue_stranger(&mut self, msg: ValidationMessage, ctx: &Context<Self>) {
        let (pushed, limit) = if is_proof(&msg) {
            (self.strangers.push_proof(msg), strangers::MAX_PROOFS)
        } else {
            let bytes = match &msg {
                ValidationMessage::Decode { payload, .. } => payload.len(),
                // The decoded message was counted before, and its turn follows soon.
                ValidationMessage::Check { .. } | ValidationMessage::Strangers => 0,
            };
            (self.strangers.push(msg, bytes), strangers::MAX_QUEUED)
        };
        self.count_strangers();
        match pushed {
            Ok(true) => {
                ctx.send_after(Duration::ZERO, ValidationMessage::Strangers);
            }
            Ok(false) => {}
            Err(msg) => {
                alys_runtime::trace::reached("state.validation.strangers_full");
                if let Some(source) = msg.source().cloned() {
                    let error = CheckError::TooManyStrangers { limit };
                    self.answer(ChainMessage::Checked {
                        source,
                        checked: Box::new(Checked::Refused(error)),
                    });
                }
            }
        }
    }

    fn count_strangers(&self) {
        let tables = &self.metrics.tables;
        tables.set("strangers", self.strangers.len());
        tables.set("strangers_bytes", self.strangers.bytes());
    }

    /// Decodes or checks a message.
    fn process(&self, msg: ValidationMessage) {
        let answer = match msg {
            ValidationMessage::Decode {
                source,
                topic,
                payload,
            } => match decode(topic, &payload) {
                Ok(gossip) => ChainMessage::GossipReceived { source, gossip },
                Err(error) => ChainMessage::Checked {
                    source,
                    checked: Box::new(Checked::Refused(error)),
                },
            },
            ValidationMessage::Check {
                source,
                job,
                is_set_known,
            } => {
                let claimed = job.claimed_height();
                self.metrics.on_check(&job);
                let checked = alys_runtime::blocking(|| self.check(job));
                let checked = checked.unwrap_or_else(|error| {
                    if is_set_known {
                        Checked::Refused(error)
                    } else {
                        let error = Box::new(error);
                        Checked::Refused(CheckError::AssumedSet { error, claimed })
                    }
                });
                ChainMessage::Checked {
                    source,
                    checked: Box::new(checked),
                }
            }
            ValidationMessage::Strangers => return,
        };
        self.answer(answer);
    }

    fn answer(&self, answer: ChainMessage) {
        // An overloaded ChainActor loses nothing for good: authors rebroadcast, and it asks again
        // itself.
        if self.chain.tell(answer).is_err() {
            tracing::debug!("the ChainActor is busy: a message is dropped");
        }
    }
}

/// True for the proof of an authority's key.
fn is_proof(msg: &ValidationMessage) -> bool {
    matches!(
        msg,
        ValidationMessage::Check {
            job: Job::Authority { .. },
            ..
        }
    )
}

fn check_bodies(blocks: Vec<Block>) -> Result<Vec<VerifiedBody>, CheckError> {
    let checked = alys_runtime::par_map(blocks, |block| VerifiedBody::check(Arc::new(block)));
    Ok(checked.into_iter().collect::<Result<Vec<_>, _>>()?)
}

/// Decodes gossip. The kind of a vote must be that of its topic, because one kind never stands for
/// another.
fn decode(topic: Topic, payload: &[u8]) -> Result<Gossip, CheckError> {
    let (gossip, expected, found) = match topic {
        Topic::Blocks => {
            let proposal = Proposal::decode(payload)?;
            check_leaders_vote(&proposal)?;
            let found = proposal.vote.target.kind;
            (
                Gossip::Proposal(Box::new(proposal)),
                VoteKind::Proposal,
                found,
            )
        }
        Topic::Approvals => {
            let vote = Vote::decode(payload)?;
            (Gossip::Approval(vote), VoteKind::Approval, vote.target.kind)
        }
        Topic::Confirmations => {
            let confirmation = Confirmation::decode(payload)?;
            check_confirmed_block(&confirmation)?;
            let found = confirmation.vote.target.kind;
            (
                Gossip::Confirmation(Box::new(confirmation)),
                VoteKind::Confirmation,
                found,
            )
        }
        Topic::Finality => {
            let certified = CertifiedHeader::decode(payload)?;
            check_certificates_block(&certified)?;
            return Ok(Gossip::Certificate(Box::new(certified)));
        }
        Topic::Work | Topic::Transactions => return Err(CheckError::Misrouted { topic }),
    };
    if found != expected {
        return Err(CheckError::VoteKind { expected, found });
    }
    Ok(gossip)
}

/// Checks that the vote of a proposal is its leader's vote for the block. This function and the two
/// below only compare values that a message must contain twice, so they run before any signature
/// check.
fn check_leaders_vote(proposal: &Proposal) -> Result<(), CheckError> {
    let header = &proposal.block.header;
    let target = VoteTarget {
        kind: proposal.vote.target.kind,
        height: header.height,
        slot: header.slot,
        hash: header.hash(),
    };
    if proposal.vote.target != target || proposal.vote.signer != header.proposer {
        return Err(ProposalError::NotTheLeadersVote.into());
    }
    Ok(())
}

/// Checks that a certificate is about the header beside it.
fn check_certificates_block(certified: &CertifiedHeader) -> Result<(), CheckError> {
    let CertifiedHeader {
        header,
        certificate,
    } = certified;
    let target = certificate.target;
    if (target.hash, target.height, target.slot) != (header.hash(), header.height, header.slot) {
        return Err(CertifiedError::OtherBlock.into());
    }
    Ok(())
}

/// Checks that the vote of a confirmation is for the block of the certificate beside it.
fn check_confirmed_block(confirmation: &Confirmation) -> Result<(), CheckError> {
    let Confirmation { vote, certified } = confirmation;
    check_certificates_block(certified)?;
    let (of_vote, of_certificate) = (vote.target, certified.certificate.target);
    if of_certificate.kind != VoteKind::Approval {
        return Err(CheckError::ConfirmationCertificateKind {
            found: of_certificate.kind,
        });
    }
    let expected = VoteTarget {
        kind: of_vote.kind,
        ..of_certificate
    };
    if of_vote != expected {
        return Err(CheckError::ConfirmationOfOther);
    }
    Ok(())
}
