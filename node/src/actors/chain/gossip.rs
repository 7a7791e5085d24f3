//! Received gossip and the results of checks. Known messages are judged at once; the
//! ValidationActor checks all others against the authority set that the state machine names.

use alys_consensus::{Input, ProposalContext, VerifiedBody, VerifiedVote};
use alys_net::{Command, GossipVerdict, Offence};
use alys_runtime::buggify;
use alys_runtime::trace::reached;
use alys_types::wire::{BlockRange, CertifiedHeader, Confirmation, Proposal};
use alys_types::{Height, Vote, VoteKind};

use super::actor::Queued;
use super::screen::{Counted, Screened, Window};
use super::{ChainActor, ChainError};
use crate::actors::network::NetworkMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::validation::{
    Blame, CheckError, Checked, Gossip, Job, Source, ValidationMessage,
};
use crate::interceptor;

/// Next step for a received message.
enum Next {
    /// It needs no check: it is known, early, or refers to a missing block.
    Judge(GossipVerdict),
    /// The vote was checked before, and the state machine may have dropped it since.
    Take {
        vote: VerifiedVote,
        is_set_known: bool,
    },
    /// `is_set_known`: see [`ValidationMessage::Check`]. If the job has a vote, the check counts
    /// for its signer.
    Check {
        job: Job,
        is_set_known: bool,
        counted: Option<Counted>,
    },
    /// Only a part of the message is useful. The message is not forwarded, because the rest of it
    /// is not checked.
    CheckPart { job: Job, is_set_known: bool },
}

impl ChainActor {
    pub(super) async fn on_gossip(
        &mut self,
        source: Source,
        gossip: Gossip,
    ) -> Result<(), ChainError> {
        let next = match gossip {
            Gossip::Proposal(proposal) => {
                let header = &proposal.block.header;
                if self.is_useless(&proposal) {
                    Next::Judge(GossipVerdict::Ignore)
                } else if let Some(context) = self.state.proposal_context(&header.parent_hash) {
                    self.on_proposal(proposal, Box::new(context))
                } else {
                    self.on_orphan(&source, header);
                    return Ok(());
                }
            }
            Gossip::Approval(vote) => self.on_approval(vote),
            Gossip::Confirmation(confirmation) => self.on_confirmation(confirmation),
            Gossip::Certificate(certified) => self.on_certificate(certified),
        };
        match next {
            Next::Judge(verdict) => self.judge(&source, verdict),
            Next::Take { vote, is_set_known } => {
                let verdict = if is_set_known {
                    GossipVerdict::Accept
                } else {
                    GossipVerdict::Ignore
                };
                self.judge(&source, verdict);
                self.input(Input::Vote(vote)).await?;
            }
            Next::Check {
                job,
                is_set_known,
                counted,
            } => self.check_counted(source, job, is_set_known, counted),
            Next::CheckPart { job, is_set_known } => {
                let source = Source {
                    may_forward: false,
                    ..source
                };
                self.check(source, job, is_set_known);
            }
        }
        Ok(())
    }

    /// Checks a message, unless enough checks for its signer and sender are under way.
    fn check_counted(
        &mut self,
        source: Source,
        job: Job,
        is_set_known: bool,
        counted: Option<Counted>,
    ) {
        let counted = counted.filter(|_| source.is_known);
        let now_ms = self.now().mono_ms;
        if let Some(counted) = counted
            && !interceptor::may_check(self.screen.begin(counted, source.peer, now_ms))
        {
            reached("state.chain.screened");
            return self.judge(&source, GossipVerdict::Ignore);
        }
        self.check(Source { counted, ..source }, job, is_set_known);
    }

    fn is_useless(&self, proposal: &Proposal) -> bool {
        let header = &proposal.block.header;
        self.state.knows_proposal(&header.hash())
            || self.state.is_too_early(header.slot, self.now())
    }

    /// Slots whose votes and proposals are checked.
    fn window(&self) -> Window {
        let (last_final, latest) = self.state.vote_window(self.now());
        Window { last_final, latest }
    }

    fn on_proposal(&self, proposal: Box<Proposal>, context: Box<ProposalContext>) -> Next {
        let set = context.set.hash();
        match self.screen.screen(&proposal.vote, set, self.window()) {
            Screened::OutsideWindow | Screened::Excess => {
                reached("state.chain.screened");
                Next::Judge(GossipVerdict::Ignore)
            }
            Screened::Check | Screened::Checked(_) => Next::Check {
                counted: Some(Counted::new(&proposal.vote, set)),
                job: Job::Proposal { proposal, context },
                is_set_known: true,
            },
        }
    }

    fn on_approval(&self, vote: Vote) -> Next {
        if self.state.knows_vote(&vote) {
            return Next::Judge(duplicate(self.state.has_counted(&vote)));
        }
        let is_set_known = self.state.known_set_for_vote(&vote).is_some();
        if !is_set_known && self.state.sync_gap().is_some() {
            // Blocks are missing: the voted block will be final before this node has caught up.
            return Next::Judge(GossipVerdict::Ignore);
        }
        let set = self.state.set_for_vote(&vote);
        match interceptor::screened(self.screen.screen(&vote, set.hash(), self.window())) {
            Screened::OutsideWindow | Screened::Excess => {
                reached("state.chain.screened");
                Next::Judge(GossipVerdict::Ignore)
            }
            Screened::Checked(vote) => Next::Take { vote, is_set_known },
            Screened::Check => Next::Check {
                counted: Some(Counted::new(&vote, set.hash())),
                job: Job::Vote { vote, set },
                is_set_known,
            },
        }
    }

    fn on_confirmation(&self, confirmation: Box<Confirmation>) -> Next {
        let Confirmation { vote, certified } = &*confirmation;
        let hash = certified.certificate.target.hash;
        let is_certificate_checked = self.state.has_certificate(certified);
        let is_certificate_known = self.state.knows_certificate(&hash, VoteKind::Approval);
        if self.state.knows_vote(vote) && is_certificate_known {
            return Next::Judge(duplicate(
                is_certificate_checked && self.state.has_counted(vote),
            ));
        }
        let is_set_known = self.state.known_set(&certified.header).is_some();
        let set = self.state.set_for(&certified.header);
        match interceptor::screened(self.screen.screen(vote, set.hash(), self.window())) {
            Screened::OutsideWindow | Screened::Excess => {
                reached("state.chain.screened");
                if is_certificate_known || self.is_stale(certified) {
                    return Next::Judge(GossipVerdict::Ignore);
                }
                let certified = Box::new(confirmation.certified);
                return Next::CheckPart {
                    job: Job::Certified { certified, set },
                    is_set_known,
                };
            }
            Screened::Checked(vote) if is_certificate_checked => {
                return Next::Take { vote, is_set_known };
            }
            Screened::Checked(_) | Screened::Check => {}
        }
        let counted = Some(Counted::new(vote, set.hash()));
        if is_certificate_checked && self.state.known_set_for_vote(vote).is_some() {
            return Next::Check {
                job: Job::Vote {
                    vote: *vote,
                    set: self.state.set_for_vote(vote),
                },
                is_set_known: true,
                counted,
            };
        }
        // Both parts are checked, even if one is known in another encoding, because this node
        // answers for everything that it forwards.
        Next::Check {
            job: Job::Confirmation { confirmation, set },
            is_set_known,
            counted,
        }
    }

    /// True for the certificate of a block that is not above the last final one and is on no branch
    /// that this node knows.
    pub(super) fn is_stale(&self, certified: &CertifiedHeader) -> bool {
        self.state.known_set(&certified.header).is_none()
            && certified.header.height <= self.state.summary().final_height
    }

    fn on_certificate(&self, certified: Box<CertifiedHeader>) -> Next {
        let target = certified.certificate.target;
        if self.state.knows_certificate(&target.hash, target.kind) {
            return Next::Judge(duplicate(self.state.has_certificate(&certified)));
        }
        if interceptor::is_certificate_stale(self.is_stale(&certified)) {
            reached("state.chain.stale_certificate");
            return Next::Judge(GossipVerdict::Ignore);
        }
        let is_set_known = self.state.known_set(&certified.header).is_some();
        let set = self.state.set_for(&certified.header);
        Next::Check {
            job: Job::Certified { certified, set },
            is_set_known,
            counted: None,
        }
    }

    /// Data that was checked against an assumed set is not forwarded: a peer that knows the set may
    /// refuse it and make this node pay.
    pub(super) fn check(&mut self, mut source: Source, job: Job, is_set_known: bool) {
        source.may_forward &= is_set_known;
        if buggify!("node.chain.no_check", 10_000) {
            self.end_check(&source);
            return self.judge(&source, GossipVerdict::Ignore);
        }
        let check = ValidationMessage::Check {
            source,
            job,
            is_set_known,
        };
        if let Err(error) = self.mailboxes.validation.tell(check)
            && let ValidationMessage::Check { source, .. } = error.into_message()
        {
            self.end_check(&source);
            self.judge(&source, GossipVerdict::Ignore);
        }
    }

    fn end_check(&mut self, source: &Source) {
        if let Some(counted) = source.counted {
            self.screen.end(counted, source.peer);
        }
    }

    pub(super) async fn on_checked(
        &mut self,
        source: Source,
        checked: Checked,
    ) -> Result<(), ChainError> {
        self.end_check(&source);
        match &checked {
            Checked::Refused(_) => {}
            Checked::Parent(_) => self.judge(&source, GossipVerdict::Ignore),
            Checked::Proposal(_)
            | Checked::Vote(_)
            | Checked::HeldVote(_)
            | Checked::Confirmation(..)
            | Checked::Certified(_)
            | Checked::Range { .. }
            | Checked::Bodies(_)
            | Checked::Authority { .. } => self.judge(&source, GossipVerdict::Accept),
        }
        match checked {
            Checked::Refused(error) => self.refuse(&source, error),
            Checked::Parent(certificate) => self.on_parent(certificate),
            Checked::Proposal(proposal) => {
                self.screen
                    .on_proposal(proposal.vote(), proposal.set_hash());
                self.input(Input::Proposal(proposal)).await?;
            }
            Checked::Vote(vote) => {
                self.screen.on_vote(vote);
                self.input(Input::Vote(vote)).await?;
            }
            Checked::HeldVote(vote) => {
                reached("state.chain.held_vote");
                self.input(Input::HeldVote(vote)).await?;
            }
            Checked::Confirmation(vote, certified) => {
                self.screen.on_vote(vote);
                self.input(Input::Certified(certified)).await?;
                self.input(Input::Vote(vote)).await?;
            }
            Checked::Certified(certified) => {
                if source.peer.is_some() {
                    reached("state.chain.certificate_learnt");
                }
                self.input(Input::Certified(certified)).await?;
            }
            Checked::Range {
                bodies,
                tip,
                finalized,
            } => {
                let before = Box::new(self.state.summary());
                let certified = tip.into_iter().chain(finalized).map(Input::Certified);
                let inputs = bodies.into_iter().map(Input::Body).chain(certified);
                self.queue.extend(inputs.map(Queued::Input));
                let end = source.peer.map(|peer| Queued::RangeEnd { peer, before });
                self.queue.extend(end);
                self.process_queue().await?;
            }
            Checked::Bodies(bodies) => self.on_bodies(bodies).await?,
            Checked::Authority { peer, key } => self.on_authority(peer, key),
        }
        Ok(())
    }

    /// Takes blocks that are known to be proposed or certified. Others would push out useful ones.
    async fn on_bodies(&mut self, bodies: Vec<VerifiedBody>) -> Result<(), ChainError> {
        for body in bodies {
            if self.state.knows(&body.hash()) {
                self.input(Input::Body(body)).await?;
            } else if let Some(certificate) = self.catchup.take_parent(&body.hash()) {
                let set = self.state.set_for(&body.block().header);
                let range = Box::new(BlockRange {
                    blocks: vec![(**body.block()).clone()],
                    tip: Some(certificate),
                    finalized: None,
                });
                self.check(Source::LOCAL, Job::Range { range, set }, false);
            }
        }
        Ok(())
    }

    /// Makes the party at fault pay.
    pub(super) fn refuse(&mut self, source: &Source, error: CheckError) {
        tracing::debug!(peer = ?source.peer, %error, blame = ?error.blame(), "refused");
        self.metrics.on_refusal(error.blame());
        match error.blame() {
            Blame::Sender => {
                reached("state.chain.refused");
                if source.gossip.is_some() {
                    self.judge(source, GossipVerdict::Reject);
                } else if let Some(peer) = source.peer {
                    self.tell_peers(PeerMessage::Misbehaved { peer, error });
                }
            }
            Blame::Nobody => {
                self.judge(source, GossipVerdict::Ignore);
                if error.is_doubtful() {
                    self.doubt(source, error.claimed_height());
                }
            }
            Blame::Us => {
                tracing::error!(%error, "a bug of this node refuses valid data");
                self.judge(source, GossipVerdict::Ignore);
            }
        }
    }

    fn doubt(&mut self, source: &Source, claimed: Option<Height>) {
        reached("state.chain.doubted");
        let position = self.position();
        let doubt = self
            .catchup
            .on_doubtful(source.gossip.is_some(), claimed, &position);
        if doubt.is_penalized
            && let Some(peer) = source.peer
        {
            let offence = Offence::GossipFlood;
            self.command(Command::Report { peer, offence });
        }
        if doubt.is_goal_raised {
            self.set_sync_target();
        }
    }

    /// Gives the verdict on a gossip message; answers to requests need none.
    pub(super) fn judge(&self, source: &Source, verdict: GossipVerdict) {
        let verdict = match verdict {
            GossipVerdict::Accept if !source.may_forward => GossipVerdict::Ignore,
            verdict => verdict,
        };
        if let Some(gossip) = source.gossip.clone() {
            self.tell_network(NetworkMessage::Judge { gossip, verdict });
        }
    }
}

/// The verdict on a message without news. A checked one is forwarded, so that rebroadcasts reach
/// all peers; another encoding of it was not checked and is not forwarded.
fn duplicate(is_checked: bool) -> GossipVerdict {
    if is_checked {
        GossipVerdict::Accept
    } else {
        interceptor::unchecked_duplicate(GossipVerdict::Ignore)
    }
}
