//! The actor: messages become inputs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_actor_system::{Addr, AlysActor, AskError, Context};
use alys_consensus::{BlockRef, Config, Effect, Input, Now, State, Summary};
use alys_net::{Command, InboundId, Offence, PeerId, Refusal, Verdict as GossipVerdict};
use alys_runtime::trace::reached;
use alys_runtime::{buggify, buggify_pause};
use alys_sync_planner::Goal;
use alys_types::bls::SecretKey;
use alys_types::mutant::{self, Mutant};
use alys_types::wire::{BlockRange, CertifiedHeader, Message as Wire, Status, StatusAnswer};
use alys_types::{Certificate, Genesis, Hash, Header, Height, Vote, VoteKind};

use super::{ChainMessage, Clock};
use crate::actors::engine::EngineMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage;
use crate::actors::validation::{Checked, Heard, Job, Source, ValidationMessage};
use crate::node::Observer;

/// Longest wait between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// How often peers that have come are told the latest, however many come: what is said sooner than that peers take for a
/// repetition, and everybody who connects and hangs up would make all of us say everything to all others.
const INTRODUCE: Duration = Duration::from_millis(500);
/// How long inputs are taken at one message. The rest waits for the next one: on a slow disk a range takes minutes, and
/// an actor that is at one message for so long looks like one that hangs.
const TURN: Duration = Duration::from_millis(500);
/// Inputs that may wait, a few ranges; beyond that a message takes as long as they do.
const MAX_WAITING: usize = 512;
/// Unknown parents of proposals that are asked for at once. Most often there is one.
const MAX_PARENTS: usize = 8;

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

/// What waits for its turn.
enum Work {
    Input(Input),
    /// All blocks of a peer's range have been taken; where the chain stood before.
    RangeEnd {
        peer: PeerId,
        before: Box<Summary>,
    },
}

/// The actor.
pub struct ChainActor {
    pub(super) state: State,
    pub(super) genesis: Arc<Genesis>,
    pub(super) key: Option<Arc<SecretKey>>,
    pub(super) doors: Doors,
    pub(super) observer: Option<Observer>,
    /// Inputs that effects brought about; they wait until the effects before them are done, and come before all others.
    pub(super) inbox: VecDeque<Input>,
    /// What messages brought, in their order.
    waiting: VecDeque<Work>,
    /// Whether a [`ChainMessage::Proceed`] is on its way.
    proceeding: bool,
    start: Vec<Effect>,
    clock: Clock,
    published: Option<Status>,
    /// Parents of proposals that are asked for, with the certificates that vouch for them.
    parents: BTreeMap<Hash, Certificate>,
    /// A height above ours of which peers say that it is certified, by a set that we cannot know before we are there.
    claimed: Option<Height>,
    /// Peers have come that were not told the latest.
    has_new_listeners: bool,
    introduced: Option<Instant>,
}

impl ChainActor {
    /// Restores the chain from the storage.
    pub async fn restore(
        genesis: Arc<Genesis>,
        key: Option<Arc<SecretKey>>,
        doors: Doors,
        observer: Option<Observer>,
        clock: Clock,
    ) -> Result<ChainActor, ChainError> {
        let stored = doors.storage.load().await?;
        let me = key.as_ref().map(|k| k.public_key().to_bytes());
        let config = Config {
            genesis: genesis.clone(),
            me,
        };
        let (state, start) = State::restore(config, stored, clock.now(), clock.trusted_ms())?;
        let (inbox, waiting, parents) = (VecDeque::new(), VecDeque::new(), BTreeMap::new());
        let (published, claimed) = (None, None);
        Ok(ChainActor {
            state,
            genesis,
            key,
            doors,
            observer,
            inbox,
            waiting,
            proceeding: false,
            start,
            clock,
            published,
            parents,
            claimed,
            has_new_listeners: false,
            introduced: None,
        })
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Gives an input to the state machine, after those that wait, and carries out what follows.
    async fn input(&mut self, input: Input) -> Result<(), ChainError> {
        self.waiting.push_back(Work::Input(input));
        self.work().await
    }

    /// Takes what waits, at least one, for as long as a turn lasts.
    async fn work(&mut self) -> Result<(), ChainError> {
        let begun = alys_runtime::time::now();
        while let Some(work) = self
            .inbox
            .pop_front()
            .map(Work::Input)
            .or_else(|| self.waiting.pop_front())
        {
            match work {
                Work::Input(input) => {
                    let locked =
                        alys_runtime::is_simulated().then(|| self.state.summary().votes.locked);
                    let effects = self.state.handle(input, self.now());
                    self.clock.keep(self.state.trusted_clock_ms());
                    locked.inspect(|locked| self.mark_lock(*locked));
                    self.carry_out(effects).await?;
                }
                Work::RangeEnd { peer, before } => self.on_range_end(peer, &before),
            }
            let is_over = alys_runtime::time::now().saturating_duration_since(begun) >= TURN
                || buggify!("node.chain.short_turn");
            if is_over && self.waiting.len() < MAX_WAITING {
                break;
            }
        }
        self.publish_status();
        Ok(())
    }

    /// For the simulator: whether the lock has moved, and whether to another branch.
    fn mark_lock(&self, before: BlockRef) {
        let now = self.state.summary().votes.locked;
        if now == before {
            return;
        }
        reached("state.chain.locked");
        let mut at = Some(now.hash);
        while let Some(header) = at.and_then(|hash| self.state.header(&hash))
            && header.slot > before.slot
        {
            at = Some(header.parent_hash);
        }
        if at.is_some_and(|hash| hash != before.hash && self.state.header(&hash).is_some()) {
            reached("state.chain.lock_changed_branch");
        }
    }

    /// Sees that what waits is gone on with.
    fn go_on(&mut self, ctx: &Context<Self>) {
        if !(self.proceeding || self.inbox.is_empty() && self.waiting.is_empty()) {
            self.proceeding = true;
            ctx.send_after(Duration::ZERO, ChainMessage::Proceed);
        }
    }

    /// Ticks at every start of a slot, and often enough within it.
    fn schedule(&self, ctx: &Context<Self>) {
        let now = self.now();
        let next_slot = self
            .state
            .slot_at(now)
            .next()
            .start_ms(self.genesis.spec().slot_duration_ms);
        let wait = Duration::from_millis(next_slot.saturating_sub(now.wall_ms).max(1));
        let most = if buggify!("node.chain.early_tick") {
            TICK / 10
        } else {
            TICK
        };
        ctx.send_after(wait.min(most), ChainMessage::Tick);
    }

    /// Gossip: drops what is known, sends the rest to be checked against the right set.
    fn on_heard(&mut self, source: Source, heard: Heard) {
        let (job, sure) = match heard {
            Heard::Proposal(proposal) => {
                let header = &proposal.block.header;
                if self.state.knows_proposal(&header.hash())
                    || self.state.is_too_early(header.slot, self.now())
                {
                    return self.judge(&source, GossipVerdict::Ignore);
                }
                match self.state.proposal_context(&header.parent_hash) {
                    Some(context) => (
                        Job::Proposal {
                            proposal,
                            context: Box::new(context),
                        },
                        true,
                    ),
                    None => return self.seek_parent(&source, header),
                }
            }
            Heard::Approval(vote) if self.state.knows_vote(&vote) => {
                let verdict = known(self.state.has_counted(&vote));
                return self.judge(&source, verdict);
            }
            Heard::Approval(vote) => {
                let sure = self.state.known_set_for_vote(&vote).is_some();
                if !sure && self.state.wanted().is_some() {
                    // Its block will be final before we are there.
                    return self.judge(&source, GossipVerdict::Ignore);
                }
                (
                    Job::Vote {
                        vote,
                        set: self.state.set_for_vote(&vote),
                    },
                    sure,
                )
            }
            Heard::Confirmation(confirmation) => {
                let certified = &confirmation.certified;
                let known_vote = self.state.knows_vote(&confirmation.vote);
                let known_certificate = self
                    .state
                    .knows_certificate(&certified.certificate.target.hash, VoteKind::Approval);
                let same = self.state.has_certificate(certified);
                if known_vote && known_certificate {
                    let same = same && self.state.has_counted(&confirmation.vote);
                    return self.judge(&source, known(same));
                }
                if same && self.state.known_set_for_vote(&confirmation.vote).is_some() {
                    let vote = confirmation.vote;
                    (
                        Job::Vote {
                            vote,
                            set: self.state.set_for_vote(&vote),
                        },
                        true,
                    )
                } else {
                    // Both parts are checked, though one may be known in another form: we answer for what we pass on.
                    let sure = self.state.known_set(&certified.header).is_some();
                    let set = self.state.set_for(&certified.header);
                    (Job::Confirmation { confirmation, set }, sure)
                }
            }
            Heard::Certificate(certified) => {
                let target = certified.certificate.target;
                if self.state.knows_certificate(&target.hash, target.kind) {
                    let verdict = known(self.state.has_certificate(&certified));
                    return self.judge(&source, verdict);
                }
                let sure = self.state.known_set(&certified.header).is_some();
                let set = self.state.set_for(&certified.header);
                (Job::Certified { certified, set }, sure)
            }
        };
        self.check(source, job, sure);
    }

    /// `sure`: the set of the job is right, so that what does not check is the sender's fault.
    fn check(&self, source: Source, job: Job, sure: bool) {
        if buggify!("node.chain.no_check", 10_000) {
            return self.judge(&source, GossipVerdict::Ignore);
        }
        if let Err(error) =
            self.doors
                .validation
                .tell(ValidationMessage::Check { source, job, sure })
            && let ValidationMessage::Check { source, .. } = error.into_message()
        {
            self.judge(&source, GossipVerdict::Ignore);
        }
    }

    /// A proposal on a block that we do not have: its parent is most often the only one missing. What is asked for is
    /// what a certificate vouches for, never what a stranger names.
    fn seek_parent(&self, source: &Source, header: &Header) {
        if header.height <= self.state.summary().final_height {
            return self.judge(source, GossipVerdict::Ignore);
        }
        let about_parent = |c: &Certificate| {
            c.target.kind == VoteKind::Approval && c.target.hash == header.parent_hash
        };
        let Some(certificate) = header.parent_certificate.filter(about_parent) else {
            return self.refuse(
                source,
                "a proposal without the certificate of its parent".into(),
            );
        };
        let target = certificate.target;
        if target.slot <= self.state.summary().highest.slot
            || self.parents.contains_key(&target.hash)
        {
            return self.judge(source, GossipVerdict::Ignore);
        }
        self.check(
            source.clone(),
            Job::Parent {
                certificate,
                set: self.state.newest_set(),
            },
            false,
        );
    }

    fn on_parent(&mut self, certificate: Certificate) {
        reached("state.chain.parent_sought");
        self.parents.insert(certificate.target.hash, certificate);
        let most = if buggify!("node.chain.few_parents") {
            1
        } else {
            MAX_PARENTS
        };
        while self.parents.len() > most
            && let Some(lowest) = self
                .parents
                .values()
                .min_by_key(|c| c.target.slot)
                .map(|c| c.target.hash)
        {
            self.parents.remove(&lowest);
        }
        self.fetch_parents();
    }

    /// Asks for the parents that have not come yet.
    fn fetch_parents(&mut self) {
        let highest = self.state.summary().highest.slot;
        self.parents
            .retain(|hash, c| c.target.slot > highest && !self.state.knows(hash));
        for hash in self.parents.keys() {
            self.tell_peers(PeerMessage::Fetch { hash: *hash });
        }
    }

    async fn on_checked(&mut self, source: Source, checked: Checked) -> Result<(), ChainError> {
        match &checked {
            Checked::Refused(_) => {}
            Checked::Doubtful { .. } | Checked::Parent(_) => {
                self.judge(&source, GossipVerdict::Ignore)
            }
            _ => self.judge(&source, GossipVerdict::Accept),
        }
        match checked {
            Checked::Refused(reason) => {
                self.refuse(&source, reason);
                Ok(())
            }
            Checked::Doubtful { reason, claimed } => {
                self.doubt(&source, &reason, claimed);
                Ok(())
            }
            Checked::Parent(certificate) => {
                self.on_parent(certificate);
                Ok(())
            }
            Checked::Proposal(proposal) => self.input(Input::Proposal(proposal)).await,
            Checked::Vote(vote) => self.input(Input::Vote(vote)).await,
            Checked::HeldVote(vote) => {
                reached("state.chain.held_vote");
                self.input(Input::HeldVote(vote)).await
            }
            Checked::Confirmation(vote, certified) => {
                self.input(Input::Certified(certified)).await?;
                self.input(Input::Vote(vote)).await
            }
            Checked::Certified(certified) => {
                if source.peer.is_some() {
                    reached("state.chain.certificate_learnt");
                }
                self.input(Input::Certified(certified)).await
            }
            Checked::Range {
                bodies,
                tip,
                finalized,
            } => {
                let before = Box::new(self.state.summary());
                let certified = tip.into_iter().chain(finalized).map(Input::Certified);
                let inputs = bodies.into_iter().map(Input::Body).chain(certified);
                self.waiting.extend(inputs.map(Work::Input));
                self.waiting
                    .extend(source.peer.map(|peer| Work::RangeEnd { peer, before }));
                self.work().await
            }
            Checked::Bodies(bodies) => {
                for body in bodies {
                    // A block that nobody proposed or certified is not taken: it would push out others.
                    if self.state.knows(&body.hash()) {
                        self.input(Input::Body(body)).await?;
                    } else if let Some(certificate) = self.parents.remove(&body.hash()) {
                        let set = self.state.set_for(&body.block().header);
                        let blocks = vec![(**body.block()).clone()];
                        let range = Box::new(BlockRange {
                            blocks,
                            tip: Some(certificate),
                            finalized: None,
                        });
                        self.check(Source::OURSELVES, Job::Range { range, set }, false);
                    }
                }
                Ok(())
            }
        }
    }

    fn on_range_end(&mut self, peer: PeerId, before: &Summary) {
        let after = self.state.summary();
        let progress = (after.highest_height, after.final_height)
            > (before.highest_height, before.final_height)
            || after.entries > before.entries;
        self.range_taken(peer, progress);
    }

    fn range_taken(&mut self, peer: PeerId, progress: bool) {
        reached(if progress {
            "state.chain.range_taken"
        } else {
            "state.chain.range_useless"
        });
        self.tell_peers(PeerMessage::RangeTaken { peer, progress });
        if !progress {
            // Not worth asking for without end, on a mere claim.
            self.claimed = None;
        }
        self.want();
    }

    /// Something did not check against a guess. It may be forged, which is cheap for whom it comes from but, unless blocks
    /// are missing, not without a price; or we do not know the federation yet that decides where others are: then blocks
    /// are missing.
    fn doubt(&mut self, source: &Source, reason: &str, claimed: Option<Height>) {
        reached("state.chain.doubted");
        tracing::debug!(peer = ?source.peer, reason, ?claimed, "does not check against the newest set known");
        // While blocks are missing, what is right does not check either: who passes it on has no part in that.
        let is_behind = self.claimed.is_some() || self.state.wanted().is_some();
        if let (Some(_), Some(peer), false) = (&source.gossip, source.peer, is_behind) {
            self.command(Command::Report {
                peer,
                offence: Offence::GossipFlood,
            });
        }
        let highest = self.state.summary().highest_height;
        if claimed.is_some_and(|height| height > highest) {
            self.claimed = self.claimed.max(claimed);
            self.want();
        }
    }

    fn refuse(&self, source: &Source, reason: String) {
        reached("state.chain.refused");
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
            return self.tell_peers(PeerMessage::Wanted(Goal {
                final_height,
                highest,
                to,
            }));
        }
        let Summary {
            final_height,
            highest_height: highest,
            ..
        } = self.state.summary();
        if let Some(to) = self.claimed.filter(|height| *height > highest) {
            self.tell_peers(PeerMessage::Wanted(Goal {
                final_height,
                highest,
                to,
            }));
        }
    }

    fn judge(&self, source: &Source, verdict: GossipVerdict) {
        if let Some(id) = &source.gossip {
            self.command(Command::Judge {
                id: id.clone(),
                verdict,
            });
        }
    }

    /// Whether the network took it.
    pub(super) fn command(&self, command: Command) -> bool {
        if buggify!("node.chain.lost_command", 10_000) {
            return false;
        }
        // What is lost here is said again after the slot.
        if self
            .doors
            .network
            .tell(NetworkMessage::Command(Box::new(command)))
            .is_err()
        {
            tracing::debug!("the network is busy or restarting: a command is dropped");
            return false;
        }
        true
    }

    pub(super) fn tell_peers(&self, message: PeerMessage) {
        if buggify!("node.chain.lost_peer_message", 10_000) {
            return;
        }
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
        let status = self.status();
        if self.published.as_ref() != Some(&status) {
            // What the network did not take is published again at the next input.
            let is_taken = self.command(Command::SetStatus {
                status: status.encode(),
            });
            self.published = is_taken.then_some(status);
        }
    }

    fn on_status_asked(&mut self, id: InboundId, peer: PeerId, payload: &[u8]) {
        match Status::decode(payload) {
            Ok(theirs) => {
                let held = theirs.authority.map(|key| self.state.held_votes(&key));
                let none = alys_types::wire::HeldVotes {
                    approval: None,
                    confirmation: None,
                };
                let answer = StatusAnswer {
                    status: self.status(),
                    held: held.unwrap_or(none),
                };
                self.command(Command::Respond {
                    id,
                    response: Ok(answer.encode()),
                });
                self.on_status(peer, theirs);
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "malformed status");
                self.command(Command::Respond {
                    id,
                    response: Err(Refusal::Invalid),
                });
                self.command(Command::Report {
                    peer,
                    offence: Offence::InvalidRequest,
                });
            }
        }
    }

    fn on_status(&mut self, peer: PeerId, status: Status) {
        let source = Source {
            peer: Some(peer),
            gossip: None,
        };
        for certified in status.highest.into_iter().chain(status.finalized) {
            self.check_certified(&source, certified);
        }
    }

    fn check_certified(&self, source: &Source, certified: CertifiedHeader) {
        let target = certified.certificate.target;
        if !self.state.knows_certificate(&target.hash, target.kind) {
            let sure = self.state.known_set(&certified.header).is_some();
            if !sure && certified.header.height <= self.state.summary().final_height {
                return; // Long final here, or of a branch that lost: the peer is behind.
            }
            let set = self.state.set_for(&certified.header);
            self.check(
                source.clone(),
                Job::Certified {
                    certified: Box::new(certified),
                    set,
                },
                sure,
            );
        }
    }

    fn on_status_answer(&mut self, peer: PeerId, answer: StatusAnswer) {
        let source = Source {
            peer: Some(peer),
            gossip: None,
        };
        let held: Vec<Vote> = answer
            .held
            .approval
            .into_iter()
            .chain(answer.held.confirmation)
            .collect();
        for vote in held {
            let set = self.state.set_for_vote(&vote);
            let sure = self.state.known_set_for_vote(&vote).is_some();
            self.check(source.clone(), Job::HeldVote { vote, set }, sure);
        }
        self.on_status(peer, answer.status);
    }
}

impl AlysActor for ChainActor {
    type Message = ChainMessage;
    type Error = ChainError;
    type Config = ();
    const NAME: &'static str = "ChainActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), ChainError> {
        if ctx.incarnation() > 1 {
            self.tell_peers(PeerMessage::RangeLost);
        }
        let effects = std::mem::take(&mut self.start);
        self.carry_out(effects).await?;
        self.schedule(ctx);
        self.input(Input::Tick).await?;
        self.go_on(ctx);
        Ok(())
    }

    async fn handle(&mut self, msg: ChainMessage, ctx: &Context<Self>) -> Result<(), ChainError> {
        self.on_message(msg, ctx).await?;
        self.go_on(ctx);
        Ok(())
    }
}

impl ChainActor {
    async fn on_message(
        &mut self,
        msg: ChainMessage,
        ctx: &Context<Self>,
    ) -> Result<(), ChainError> {
        buggify_pause!("node.chain.slow", 50_000, 100);
        match msg {
            ChainMessage::Proceed => {
                self.proceeding = false;
                self.work().await
            }
            ChainMessage::CheckLost => {
                self.tell_peers(PeerMessage::RangeLost);
                Ok(())
            }
            ChainMessage::Tick => {
                self.schedule(ctx);
                self.fetch_parents();
                if buggify!("node.chain.tick_twice") {
                    self.input(Input::Tick).await?;
                }
                self.input(Input::Tick).await?;
                self.introduce().await
            }
            ChainMessage::Heard { source, heard } => {
                self.on_heard(source, heard);
                Ok(())
            }
            ChainMessage::Checked { source, checked } => self.on_checked(source, *checked).await,
            ChainMessage::Executed { hash, verdict } => {
                self.input(Input::Executed { hash, verdict }).await
            }
            ChainMessage::NotStored { hash } => {
                // The state forgets a block that lost before the store does.
                if self.state.has_body(&hash) {
                    tracing::error!(%hash, "a block that was stored is not in the store");
                }
                Ok(())
            }
            ChainMessage::Built {
                slot,
                parent,
                payload,
            } => {
                self.input(Input::Built {
                    slot,
                    parent,
                    payload,
                })
                .await
            }
            ChainMessage::BuildFailed { slot, parent } => {
                self.input(Input::BuildFailed { slot, parent }).await
            }
            ChainMessage::ExecutionRestarted => self.input(Input::ExecutionRestarted).await,
            ChainMessage::NetworkStarted => {
                self.published = None;
                self.publish_status();
                Ok(())
            }
            ChainMessage::PeerListens => {
                self.has_new_listeners = true;
                Ok(())
            }
            ChainMessage::StatusAsked { id, peer, payload } => {
                self.on_status_asked(id, peer, &payload);
                Ok(())
            }
            ChainMessage::StatusAnswer { peer, answer } => {
                self.on_status_answer(peer, *answer);
                Ok(())
            }
            ChainMessage::Range { peer, range } => {
                self.on_range(peer, range);
                Ok(())
            }
            ChainMessage::Bodies { peer, blocks } => {
                self.check(
                    Source {
                        peer: Some(peer),
                        gossip: None,
                    },
                    Job::Bodies { blocks },
                    true,
                );
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

    /// Tells the latest to those that have come, once for all of them.
    async fn introduce(&mut self) -> Result<(), ChainError> {
        let now = alys_runtime::time::now();
        let is_soon = |last: Instant| now.saturating_duration_since(last) < INTRODUCE;
        if !self.has_new_listeners || self.introduced.is_some_and(is_soon) {
            return Ok(());
        }
        self.has_new_listeners = false;
        self.introduced = Some(now);
        self.input(Input::PeerConnected).await
    }

    /// A range that does not connect cannot be checked, and is nobody's fault.
    fn on_range(&mut self, peer: PeerId, range: Box<BlockRange>) {
        match range
            .blocks
            .first()
            .and_then(|first| self.state.known_set(&first.header))
        {
            Some(set) => self.check(
                Source {
                    peer: Some(peer),
                    gossip: None,
                },
                Job::Range { range, set },
                true,
            ),
            None => self.range_taken(peer, false),
        }
    }
}

/// The verdict on something that tells nothing new: what was checked before is passed on, so that what is said again
/// reaches everybody; what only looks the same is not.
fn known(checked_before: bool) -> GossipVerdict {
    match checked_before {
        true => GossipVerdict::Accept,
        false if mutant::active(Mutant::DuplicatesRejected) => GossipVerdict::Reject,
        false => GossipVerdict::Ignore,
    }
}
