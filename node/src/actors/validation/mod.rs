//! ValidationActor: decodes what peers sent and checks signatures, away from the chain's own task.
//!
//! Owns nothing but the genesis. Promises that everything it is given comes back once, decoded or refused, checked or
//! refused, and that the chain is told when a restart may have broken that. Never decides what is relevant: the chain says which set to check against, and drops what it knows.

use std::sync::Arc;

use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_consensus::{
    CertifiedBlock, ProposalContext, VerifiedBody, VerifiedProposal, VerifiedVote,
};
use alys_net::{GossipId, PeerId, Topic};
use alys_types::wire::{BlockRange, CertifiedHeader, Confirmation, Message as Wire, Proposal};
use alys_types::{AuthoritySet, Block, Certificate, Genesis, Height, Vote, VoteKind};

use crate::actors::chain::ChainMessage;

/// What is to be decoded or checked.
pub enum ValidationMessage {
    /// Bytes of a topic.
    Decode {
        source: Source,
        topic: Topic,
        payload: Vec<u8>,
    },
    /// Something decoded, with the set that the chain says is right, or that it guesses: `sure` tells.
    Check {
        source: Source,
        job: Job,
        sure: bool,
    },
}

impl Message for ValidationMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Decode { .. } => "decode",
            Self::Check { .. } => "check",
        }
    }
}

/// Where something came from: who is to blame, and which gossip waits for a verdict.
#[derive(Debug, Clone)]
pub struct Source {
    /// Who sent it to us; `None` for ourselves.
    pub peer: Option<PeerId>,
    /// The gossip message, if it was one.
    pub gossip: Option<GossipId>,
}

impl Source {
    /// Our own words.
    pub const OURSELVES: Source = Source {
        peer: None,
        gossip: None,
    };
}

/// A decoded message.
#[derive(Debug)]
pub enum Heard {
    Proposal(Box<Proposal>),
    Approval(Vote),
    Confirmation(Box<Confirmation>),
    Certificate(Box<CertifiedHeader>),
}

/// A check to be made.
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
    /// A vote of our own that a peer gave back.
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
    /// The certificate of a parent that is not known, out of a proposal on it.
    Parent {
        certificate: Certificate,
        set: Arc<AuthoritySet>,
    },
    /// Consecutive blocks; the set decides on all of them but those after a change.
    Range {
        range: Box<BlockRange>,
        set: Arc<AuthoritySet>,
    },
    /// Single blocks that were asked for by hash.
    Bodies {
        blocks: Vec<Block>,
    },
}

/// What a check gave.
#[derive(Debug)]
pub enum Checked {
    Proposal(VerifiedProposal),
    Vote(VerifiedVote),
    HeldVote(VerifiedVote),
    Confirmation(VerifiedVote, CertifiedBlock),
    Certified(CertifiedBlock),
    Parent(Certificate),
    /// Blocks in order, certified up to the block given with its certificate, and the sender's last finality.
    Range {
        bodies: Vec<VerifiedBody>,
        tip: Option<CertifiedBlock>,
        finalized: Option<CertifiedBlock>,
    },
    Bodies(Vec<VerifiedBody>),
    /// Refused, and why; costs the peer.
    Refused(String),
    /// Does not check against a set that was a guess: forged, or of a federation that we do not know yet. With the height
    /// that it claims is certified, if it claims one.
    Doubtful {
        reason: String,
        claimed: Option<Height>,
    },
}

impl Job {
    /// The height that is certified if the certificates are good.
    fn claimed(&self) -> Option<Height> {
        match self {
            Job::Confirmation { confirmation, .. } => Some(confirmation.certified.header.height),
            Job::Certified { certified, .. } => Some(certified.header.height),
            Job::Parent { certificate, .. } => Some(certificate.target.height),
            Job::Proposal { .. }
            | Job::Vote { .. }
            | Job::HeldVote { .. }
            | Job::Range { .. }
            | Job::Bodies { .. } => None,
        }
    }
}

/// The actor.
pub struct ValidationActor {
    genesis: Arc<Genesis>,
    chain: Addr<ChainMessage>,
}

impl ValidationActor {
    pub fn new(genesis: Arc<Genesis>, chain: Addr<ChainMessage>) -> ValidationActor {
        ValidationActor { genesis, chain }
    }

    fn check(&self, job: Job) -> Result<Checked, String> {
        let genesis = &self.genesis;
        let text = |e: &dyn std::error::Error| e.to_string();
        match job {
            Job::Proposal { proposal, context } => {
                VerifiedProposal::check(*proposal, &context, genesis)
                    .map(Checked::Proposal)
                    .map_err(|e| text(&e))
            }
            Job::Vote { vote, set } => VerifiedVote::check(vote, &set, genesis)
                .map(Checked::Vote)
                .map_err(|e| text(&e)),
            Job::HeldVote { vote, set } => VerifiedVote::check(vote, &set, genesis)
                .map(Checked::HeldVote)
                .map_err(|e| text(&e)),
            Job::Confirmation { confirmation, set } => {
                let Confirmation { vote, certified } = *confirmation;
                let vote = VerifiedVote::check(vote, &set, genesis).map_err(|e| text(&e))?;
                let certified =
                    CertifiedBlock::check(certified, &set, genesis).map_err(|e| text(&e))?;
                Ok(Checked::Confirmation(vote, certified))
            }
            Job::Certified { certified, set } => CertifiedBlock::check(*certified, &set, genesis)
                .map(Checked::Certified)
                .map_err(|e| text(&e)),
            Job::Parent { certificate, set } => match certificate.verify(&set, &genesis.chain_id())
            {
                Ok(()) => Ok(Checked::Parent(certificate)),
                Err(error) => Err(text(&error)),
            },
            Job::Range { range, set } => self.check_range(*range, &set),
            Job::Bodies { blocks } => check_bodies(blocks).map(Checked::Bodies),
        }
    }

    /// The blocks must follow on each other; the certificate of the last one that `set` decides on vouches for all up
    /// to it. What comes after a change of the set is left out: it is asked for again when the set is known.
    fn check_range(&self, range: BlockRange, set: &Arc<AuthoritySet>) -> Result<Checked, String> {
        let BlockRange {
            mut blocks,
            tip,
            finalized,
        } = range;
        let linked = blocks.windows(2).all(|w| {
            w[1].header.parent_hash == w[0].header.hash()
                && w[1].header.height == w[0].header.height.next()
        });
        if !linked {
            return Err("blocks of a range do not follow on each other".into());
        }
        let changed = blocks.iter().position(|b| b.header.set_hash != set.hash());
        let certificate = match changed {
            Some(last) if last + 1 < blocks.len() => {
                let certificate = blocks[last + 1].header.parent_certificate;
                blocks.truncate(last + 1);
                certificate
            }
            _ => tip,
        };
        let tip = match (blocks.last(), certificate) {
            (None, _) => None,
            (Some(_), None) => {
                return Err("a range without the certificate of its last block".into());
            }
            (Some(last), Some(certificate)) => {
                if certificate.target.kind != VoteKind::Approval {
                    return Err("the certificate of a range is not of approvals".into());
                }
                let certified = CertifiedHeader {
                    header: last.header.clone(),
                    certificate,
                };
                Some(
                    CertifiedBlock::check(certified, set, &self.genesis)
                        .map_err(|e| e.to_string())?,
                )
            }
        };
        // The sender's finality may be beyond a change of the set: then it is not its fault that it does not check.
        let finalized = finalized.and_then(|f| CertifiedBlock::check(f, set, &self.genesis).ok());
        Ok(Checked::Range {
            bodies: check_bodies(blocks)?,
            tip,
            finalized,
        })
    }
}

impl AlysActor for ValidationActor {
    type Message = ValidationMessage;
    type Error = std::convert::Infallible;
    type Config = ();
    const NAME: &'static str = "ValidationActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Self::Error> {
        // What the last incarnation was at is lost with it. Votes and proposals are said again; a range is asked for again
        // only when somebody says that it is gone. The chain never waits for this actor, so waiting for room ends.
        if ctx.incarnation() > 1 && self.chain.send(ChainMessage::CheckLost).await.is_err() {
            tracing::debug!("the chain is stopping");
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        msg: ValidationMessage,
        _: &Context<Self>,
    ) -> Result<(), Self::Error> {
        alys_runtime::buggify_pause!("node.validation.slow", 50_000, 150);
        // The chain may have more to do than it can: what is dropped here is sent again by its author, or asked for
        // again by the chain.
        let answer = match msg {
            ValidationMessage::Decode {
                source,
                topic,
                payload,
            } => match decode(topic, &payload) {
                Ok(heard) => ChainMessage::Heard { source, heard },
                Err(reason) => ChainMessage::Checked {
                    source,
                    checked: Box::new(Checked::Refused(reason)),
                },
            },
            ValidationMessage::Check { source, job, sure } => {
                let claimed = job.claimed();
                let checked = alys_runtime::blocking(|| self.check(job));
                let checked = checked.unwrap_or_else(|reason| match sure {
                    true => Checked::Refused(reason),
                    false => Checked::Doubtful { reason, claimed },
                });
                ChainMessage::Checked {
                    source,
                    checked: Box::new(checked),
                }
            }
        };
        if self.chain.tell(answer).is_err() {
            tracing::debug!("the chain is busy: a message is dropped");
        }
        Ok(())
    }
}

fn check_bodies(blocks: Vec<Block>) -> Result<Vec<VerifiedBody>, String> {
    let checked = alys_runtime::par_map(blocks, |block| VerifiedBody::check(Arc::new(block)));
    checked
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())
}

/// Decodes gossip. The kind of a vote must be its topic's: kinds never stand for each other.
pub fn decode(topic: Topic, payload: &[u8]) -> Result<Heard, String> {
    let heard = match topic {
        Topic::Blocks => Proposal::decode(payload).map(|p| Heard::Proposal(Box::new(p))),
        Topic::Approvals => Vote::decode(payload).map(Heard::Approval),
        Topic::Confirmations => {
            Confirmation::decode(payload).map(|c| Heard::Confirmation(Box::new(c)))
        }
        Topic::Finality => {
            CertifiedHeader::decode(payload).map(|c| Heard::Certificate(Box::new(c)))
        }
        Topic::Work => return Err("proof of work is not carried by this version".into()),
        Topic::Transactions => return Err("transactions belong to the pool".into()),
    };
    let heard = heard.map_err(|e| e.to_string())?;
    let kind = match &heard {
        Heard::Proposal(p) => (p.vote.target.kind, VoteKind::Proposal),
        Heard::Approval(v) => (v.target.kind, VoteKind::Approval),
        Heard::Confirmation(c) => (c.vote.target.kind, VoteKind::Confirmation),
        Heard::Certificate(c) => (c.certificate.target.kind, c.certificate.target.kind),
    };
    if kind.0 != kind.1 {
        Err(format!(
            "a vote of kind {:?} on the topic of {:?}",
            kind.0, kind.1
        ))
    } else {
        Ok(heard)
    }
}
