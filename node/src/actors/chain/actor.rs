//! The actor: messages become inputs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_actor_system::{Addr, AlysActor, AskError, Context};
use alys_consensus::{Config, Effect, Input, Now, State};
use alys_net::{Command, InboundId, Offence, PeerId, Refusal, Verdict as GossipVerdict};
use alys_sync_planner::Goal;
use alys_types::bls::SecretKey;
use alys_types::wire::{CertifiedHeader, Message as Wire, Status, StatusAnswer};
use alys_types::{Genesis, Vote, VoteKind};

use super::ChainMessage;
use crate::actors::engine::EngineMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage;
use crate::actors::validation::{Checked, Heard, Job, Source, ValidationMessage};
use crate::node::Observer;

/// Longest wait between two ticks.
const TICK: Duration = Duration::from_millis(100);

/// A fault of the chain actor itself. It is restarted from the storage.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("storage: {0}")]
    Storage(#[from] AskError),
    #[error("what is stored is no chain: {0}")]
    Restore(#[from] alys_consensus::RestoreError),
}

/// Whom the chain talks to.
#[derive(Clone)]
pub struct Doors {
    pub storage: storage::Handle,
    pub engine: Addr<EngineMessage>,
    pub validation: Addr<ValidationMessage>,
    pub network: Addr<NetworkMessage>,
    pub peers: Addr<PeerMessage>,
}

/// The actor.
pub struct ChainActor {
    pub(super) state: State,
    pub(super) genesis: Arc<Genesis>,
    pub(super) key: Option<Arc<SecretKey>>,
    pub(super) doors: Doors,
    pub(super) observer: Option<Observer>,
    /// Inputs that effects brought about; they wait until the effects before them are done.
    pub(super) inbox: VecDeque<Input>,
    start: Vec<Effect>,
    epoch: Instant,
    published: Option<Vec<u8>>,
}

impl ChainActor {
    /// Restores the chain from the storage.
    pub async fn restore(
        genesis: Arc<Genesis>,
        key: Option<Arc<SecretKey>>,
        doors: Doors,
        observer: Option<Observer>,
        epoch: Instant,
    ) -> Result<ChainActor, ChainError> {
        let stored = doors.storage.load().await?;
        let me = key.as_ref().map(|k| k.public_key().to_bytes());
        let config = Config { genesis: genesis.clone(), me };
        let (state, start) = State::restore(config, stored, now(epoch))?;
        let inbox = VecDeque::new();
        Ok(ChainActor { state, genesis, key, doors, observer, inbox, start, epoch, published: None })
    }

    pub(super) fn now(&self) -> Now {
        now(self.epoch)
    }

    /// Gives an input to the state machine and carries out what follows, to the end.
    async fn input(&mut self, input: Input) -> Result<(), ChainError> {
        self.inbox.push_back(input);
        while let Some(input) = self.inbox.pop_front() {
            let effects = self.state.handle(input, self.now());
            self.carry_out(effects).await?;
        }
        self.publish_status();
        Ok(())
    }

    /// Ticks at every start of a slot, and often enough within it.
    fn schedule(&self, ctx: &Context<Self>) {
        let now = self.now();
        let next_slot = self.state.slot_at(now).next().start_ms(self.genesis.spec().slot_duration_ms);
        let wait = Duration::from_millis(next_slot.saturating_sub(now.wall_ms).max(1));
        ctx.send_after(wait.min(TICK), ChainMessage::Tick);
    }

    /// Gossip: drops what is known, sends the rest to be checked against the right set.
    fn on_heard(&mut self, source: Source, heard: Heard) {
        let job = match heard {
            Heard::Proposal(proposal) => {
                let header = &proposal.block.header;
                if self.state.has_body(&header.hash()) {
                    return self.judge(&source, GossipVerdict::Ignore);
                }
                match self.state.proposal_context(&header.parent_hash) {
                    Some(context) => Job::Proposal { proposal, context: Box::new(context) },
                    None => {
                        // The certificate of the parent tells how far behind we are, if it checks.
                        self.judge(&source, GossipVerdict::Ignore);
                        return self.fetch_parent_of(&proposal.block.header);
                    }
                }
            }
            Heard::Approval(vote) if self.state.knows_vote(&vote) => {
                let verdict = known(self.state.has_counted(&vote));
                return self.judge(&source, verdict);
            }
            Heard::Approval(vote) => Job::Vote { vote, set: self.state.set_for_vote(&vote) },
            Heard::Confirmation(confirmation) => {
                let certified = &confirmation.certified;
                let known_vote = self.state.knows_vote(&confirmation.vote);
                let certificate_known = self.state.knows_certificate(&certified.certificate.target.hash, VoteKind::Approval);
                match (known_vote, certificate_known) {
                    (true, true) => {
                        let same = self.state.has_counted(&confirmation.vote)
                            && self.state.has_certificate(certified);
                        return self.judge(&source, known(same));
                    }
                    (false, true) => {
                        let vote = confirmation.vote;
                        Job::Vote { vote, set: self.state.set_for_vote(&vote) }
                    }
                    _ => {
                        let set = self.state.set_for(&certified.header);
                        Job::Confirmation { confirmation, set }
                    }
                }
            }
            Heard::Certificate(certified) => {
                let target = certified.certificate.target;
                if self.state.knows_certificate(&target.hash, target.kind) {
                    let verdict = known(self.state.has_certificate(&certified));
                    return self.judge(&source, verdict);
                }
                let set = self.state.set_for(&certified.header);
                Job::Certified { certified, set }
            }
        };
        self.check(source, job);
    }

    fn check(&self, source: Source, job: Job) {
        if let Err(error) = self.doors.validation.tell(ValidationMessage::Check { source, job })
            && let ValidationMessage::Check { source, .. } = error.into_message()
        {
            self.judge(&source, GossipVerdict::Ignore);
        }
    }

    /// A proposal on a block that we do not have: ask for it by hash, it is most often the only one missing.
    fn fetch_parent_of(&self, header: &alys_types::Header) {
        if header.height > self.state.summary().final_height.next() {
            self.tell_peers(PeerMessage::Fetch { hash: header.parent_hash });
        }
    }

    async fn on_checked(&mut self, source: Source, checked: Checked) -> Result<(), ChainError> {
        if let Checked::Refused(reason) = checked {
            return {
                self.refuse(&source, reason);
                Ok(())
            };
        }
        self.judge(&source, GossipVerdict::Accept);
        match checked {
            Checked::Proposal(proposal) => self.input(Input::Proposal(proposal)).await,
            Checked::Vote(vote) => self.input(Input::Vote(vote)).await,
            Checked::HeldVote(vote) => self.input(Input::HeldVote(vote)).await,
            Checked::Confirmation(vote, certified) => {
                self.input(Input::Certified(certified)).await?;
                self.input(Input::Vote(vote)).await
            }
            Checked::Certified(certified) => self.input(Input::Certified(certified)).await,
            Checked::Range { bodies, tip, finalized } => {
                let before = self.state.summary();
                for body in bodies {
                    self.input(Input::Body(body)).await?;
                }
                for certified in tip.into_iter().chain(finalized) {
                    self.input(Input::Certified(certified)).await?;
                }
                let after = self.state.summary();
                let progress = (after.highest_height, after.final_height) > (before.highest_height, before.final_height)
                    || after.entries > before.entries;
                if let Some(peer) = source.peer {
                    self.tell_peers(PeerMessage::RangeTaken { peer, progress });
                }
                self.want();
                Ok(())
            }
            Checked::Bodies(bodies) => {
                for body in bodies {
                    // A block that nobody certified is not taken from an answer: it would cost memory for nothing.
                    if self.state.knows(&body.hash()) || self.is_wanted(&body) {
                        self.input(Input::Body(body)).await?;
                    }
                }
                Ok(())
            }
            Checked::Refused(_) => Ok(()),
        }
    }

    /// A parent that was asked for because of a proposal: taken when it connects.
    fn is_wanted(&self, body: &alys_consensus::VerifiedBody) -> bool {
        let header = &body.block().header;
        self.state.knows(&header.parent_hash) && header.height > self.state.summary().final_height
    }

    fn refuse(&self, source: &Source, reason: String) {
        tracing::debug!(peer = ?source.peer, reason, "refused");
        if source.gossip.is_some() {
            self.judge(source, GossipVerdict::Reject);
        } else if let Some(peer) = source.peer {
            self.tell_peers(PeerMessage::Misbehaved { peer, reason });
        }
    }

    /// Tells the PeerActor what is missing.
    pub(super) fn want(&self) {
        if let Some((final_height, highest, to)) = self.state.wanted() {
            self.tell_peers(PeerMessage::Wanted(Goal { final_height, highest, to }));
        }
    }

    fn judge(&self, source: &Source, verdict: GossipVerdict) {
        if let Some(id) = &source.gossip {
            self.command(Command::Judge { id: id.clone(), verdict });
        }
    }

    pub(super) fn command(&self, command: Command) {
        // What is lost here is said again after the slot.
        if self.doors.network.tell(NetworkMessage::Command(Box::new(command))).is_err() {
            tracing::debug!("the network is busy or restarting: a command is dropped");
        }
    }

    pub(super) fn tell_peers(&self, message: PeerMessage) {
        if self.doors.peers.tell(message).is_err() {
            tracing::debug!("the peer actor is busy or restarting: a message is dropped");
        }
    }

    // Status.

    fn status(&self) -> Status {
        let summary = self.state.summary();
        Status {
            genesis: self.genesis.hash(),
            fork_id: self.genesis.fork_id(),
            head_height: summary.head_height,
            head: summary.head,
            highest: self.state.highest_certified(),
            finalized: self.state.last_final(),
            authority: self.key.as_ref().map(|k| k.public_key().to_bytes()),
        }
    }

    fn publish_status(&mut self) {
        let status = self.status().encode();
        if self.published.as_ref() != Some(&status) {
            self.command(Command::SetStatus { status: status.clone() });
            self.published = Some(status);
        }
    }

    fn on_status_asked(&mut self, id: InboundId, peer: PeerId, payload: &[u8]) {
        match Status::decode(payload) {
            Ok(theirs) => {
                let held = theirs.authority.map(|key| self.state.held_votes(&key));
                let none = alys_types::wire::HeldVotes { approval: None, confirmation: None };
                let answer = StatusAnswer { status: self.status(), held: held.unwrap_or(none) };
                self.command(Command::Respond { id, response: Ok(answer.encode()) });
                self.on_status(peer, theirs);
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "malformed status");
                self.command(Command::Respond { id, response: Err(Refusal::Invalid) });
                self.command(Command::Report { peer, offence: Offence::InvalidRequest });
            }
        }
    }

    fn on_status(&mut self, peer: PeerId, status: Status) {
        let source = Source { peer: Some(peer), gossip: None };
        for certified in status.highest.into_iter().chain(status.finalized) {
            self.check_certified(&source, certified);
        }
    }

    fn check_certified(&self, source: &Source, certified: CertifiedHeader) {
        let target = certified.certificate.target;
        if !self.state.knows_certificate(&target.hash, target.kind) {
            let set = self.state.set_for(&certified.header);
            self.check(source.clone(), Job::Certified { certified: Box::new(certified), set });
        }
    }

    fn on_status_answer(&mut self, peer: PeerId, answer: StatusAnswer) {
        let source = Source { peer: Some(peer), gossip: None };
        let held: Vec<Vote> = answer.held.approval.into_iter().chain(answer.held.confirmation).collect();
        for vote in held {
            let set = self.state.set_for_vote(&vote);
            self.check(source.clone(), Job::HeldVote { vote, set });
        }
        self.on_status(peer, answer.status);
    }
}

impl AlysActor for ChainActor {
    type Message = ChainMessage;
    type Error = ChainError;
    const NAME: &'static str = "ChainActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), ChainError> {
        let effects = std::mem::take(&mut self.start);
        self.carry_out(effects).await?;
        self.schedule(ctx);
        self.input(Input::Tick).await
    }

    async fn handle(&mut self, msg: ChainMessage, ctx: &Context<Self>) -> Result<(), ChainError> {
        match msg {
            ChainMessage::Tick => {
                self.schedule(ctx);
                self.input(Input::Tick).await
            }
            ChainMessage::Heard { source, heard } => {
                self.on_heard(source, heard);
                Ok(())
            }
            ChainMessage::Checked { source, checked } => self.on_checked(source, *checked).await,
            ChainMessage::Executed { hash, verdict } => self.input(Input::Executed { hash, verdict }).await,
            ChainMessage::Built { slot, parent, payload } => {
                self.input(Input::Built { slot, parent, payload }).await
            }
            ChainMessage::BuildFailed { slot, parent } => self.input(Input::BuildFailed { slot, parent }).await,
            ChainMessage::ExecutionRestarted => self.input(Input::ExecutionRestarted).await,
            ChainMessage::NetworkStarted => {
                self.published = None;
                self.publish_status();
                Ok(())
            }
            ChainMessage::PeerListens => self.input(Input::PeerConnected).await,
            ChainMessage::StatusAsked { id, peer, payload } => {
                self.on_status_asked(id, peer, &payload);
                Ok(())
            }
            ChainMessage::StatusAnswer { peer, answer } => {
                self.on_status_answer(peer, *answer);
                Ok(())
            }
            ChainMessage::Range { peer, range } => {
                let set = self.range_set(&range);
                self.check(Source { peer: Some(peer), gossip: None }, Job::Range { range, set });
                Ok(())
            }
            ChainMessage::Bodies { peer, blocks } => {
                self.check(Source { peer: Some(peer), gossip: None }, Job::Bodies { blocks });
                Ok(())
            }
            ChainMessage::Order(order) => self.input(Input::Order(order)).await,
            ChainMessage::ConfirmClock => self.input(Input::ClockConfirmed).await,
            ChainMessage::GetSummary { reply } => {
                reply.send(self.state.summary());
                Ok(())
            }
        }
    }
}

impl ChainActor {
    /// The set that decides on the first block of a range.
    fn range_set(&self, range: &alys_types::wire::BlockRange) -> Arc<alys_types::AuthoritySet> {
        match range.blocks.first() {
            Some(first) => self.state.set_for(&first.header),
            None => self.state.newest_set(),
        }
    }
}

/// The verdict on something that tells nothing new: what was checked before is passed on, so that what is said again
/// reaches everybody; what only looks the same is not.
fn known(checked_before: bool) -> GossipVerdict {
    if checked_before { GossipVerdict::Accept } else { GossipVerdict::Ignore }
}

fn now(epoch: Instant) -> Now {
    Now {
        wall_ms: alys_runtime::clock::wall_ms(),
        mono_ms: alys_runtime::time::now().duration_since(epoch).as_millis() as u64,
    }
}
