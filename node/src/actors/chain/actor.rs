//! The actor: messages become inputs of the state machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, AlysActor, AskError, Context, Health};
use alys_consensus::{BlockRef, Config, Effect, Input, Now, Sizes, State, Summary};
use alys_net::{Command, GossipVerdict, PeerId, Vouched};
use alys_runtime::log_limit::LogLimit;
use alys_runtime::trace::reached;
use alys_runtime::{buggify, buggify_pause};
use alys_sync_planner::Goal;
use alys_types::bls::SecretKey;
use alys_types::wire::{AuthorityProof, BlockRange, Status};
use alys_types::{AuthoritySet, Certificate, Genesis, Hash, Header};

use super::catchup::{Catchup, MAX_PARENTS, Orphan, Position};
use super::mining::Mining;
use super::screen::Screen;
use super::{ChainMessage, Clock, Metrics};
use crate::actors::auxpow::AuxPowMessage;
use crate::actors::engine::EngineMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage;
use crate::actors::validation::{Job, Source, ValidationMessage};
use crate::events::NodeEvent;
use crate::interceptor;
use crate::node::Observer;

/// Longest time between two ticks.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// Time spent on queued inputs per message. A range import takes minutes on a slow disk; without a
/// budget the supervisor would consider the actor hung.
const INPUT_BUDGET: Duration = Duration::from_millis(500);
/// Queued inputs, a few ranges of blocks. With more, a message takes as long as they do.
const MAX_QUEUED_INPUTS: usize = 512;

/// A fault of the actor itself. The supervisor restarts it from the storage.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("storage: {0}")]
    Storage(#[from] AskError),
    #[error("the stored chain cannot be restored: {0}")]
    Restore(#[from] alys_consensus::RestoreError),
}

/// Addresses of the actors that the chain sends to.
#[derive(Clone)]
pub struct Mailboxes {
    pub storage: storage::Handle,
    pub engine: Addr<EngineMessage>,
    pub validation: Addr<ValidationMessage>,
    pub network: Addr<NetworkMessage>,
    pub peers: Addr<PeerMessage>,
    pub auxpow: Addr<AuxPowMessage>,
}

/// An entry of the queue.
pub(super) enum Queued {
    Input(Input),
    /// All blocks of a peer's range are imported; `before` is the summary of before the first one.
    RangeEnd {
        peer: PeerId,
        before: Box<Summary>,
    },
}

pub struct ChainActor {
    pub(super) state: State,
    pub(super) genesis: Arc<Genesis>,
    pub(super) key: Option<Arc<SecretKey>>,
    pub(super) mailboxes: Mailboxes,
    pub(super) observer: Option<Observer>,
    /// Inputs that follow from effects. They wait until all effects before them are done, and
    /// precede the queue.
    pub(super) follow_ups: VecDeque<Input>,
    /// Inputs of messages, in their order.
    pub(super) queue: VecDeque<Queued>,
    /// A [`ChainMessage::Resume`] is in the mailbox.
    is_resume_scheduled: bool,
    /// Effects of the restore, carried out at the start.
    start_effects: Vec<Effect>,
    clock: Clock,
    /// The status that the network has.
    pub(super) published: Option<Status>,
    /// The authorities that the network has.
    pub(super) authorities: Option<Arc<AuthoritySet>>,
    pub(super) catchup: Catchup,
    pub(super) screen: Screen,
    pub(super) mining: Mining,
    /// Proof for peers that this node holds its authority's key.
    pub(super) proof: Option<AuthorityProof>,
    /// Peers that proved an authority's key while this network service runs.
    pub(super) vouched: Vouched,
    /// Limits the lines about evidence, because the holder of a key can sign contradicting votes in
    /// every slot.
    pub(super) evidence_lines: LogLimit,
    /// Limits the lines about proposals that do not fit the ledger, of which a Byzantine leader can
    /// make one in each of its slots.
    pub(super) unfit_lines: LogLimit,
    /// Evidence against the own key was logged by this incarnation.
    pub(super) is_own_evidence_logged: bool,
    pub(super) metrics: Metrics,
}

impl ChainActor {
    /// Restores the chain from the storage.
    pub async fn restore(
        config: Config,
        key: Option<Arc<SecretKey>>,
        peer_id: PeerId,
        mailboxes: Mailboxes,
        observer: Option<Observer>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<ChainActor, ChainError> {
        let stored = mailboxes.storage.load().await?;
        let genesis = config.genesis.clone();
        let peer = peer_id.to_bytes();
        let proof = key
            .as_ref()
            .map(|key| AuthorityProof::sign(key, &genesis.chain_id(), &peer));
        let (state, start_effects) =
            State::restore(config, stored, clock.now(), clock.trusted_ms())?;
        Ok(ChainActor {
            state,
            genesis,
            key,
            mailboxes,
            observer,
            follow_ups: VecDeque::new(),
            queue: VecDeque::new(),
            is_resume_scheduled: false,
            start_effects,
            clock,
            published: None,
            authorities: None,
            catchup: Catchup::default(),
            screen: Screen::default(),
            mining: Mining::default(),
            proof,
            vouched: Vouched::default(),
            evidence_lines: LogLimit::default(),
            unfit_lines: LogLimit::default(),
            is_own_evidence_logged: false,
            metrics,
        })
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Queues an input and processes the queue.
    pub(super) async fn input(&mut self, input: Input) -> Result<(), ChainError> {
        self.queue.push_back(Queued::Input(input));
        self.process_queue().await
    }

    /// Processes queued inputs, at least one, within [`INPUT_BUDGET`].
    pub(super) async fn process_queue(&mut self) -> Result<(), ChainError> {
        let begun = alys_runtime::time::now();
        while let Some(queued) = self.next_queued() {
            match queued {
                Queued::Input(input) => self.handle_input(input).await?,
                Queued::RangeEnd { peer, before } => self.on_range_end(peer, &before),
            }
            let is_over = alys_runtime::time::now().saturating_duration_since(begun)
                >= INPUT_BUDGET
                || buggify!("node.chain.short_turn");
            if is_over && self.queue.len() < MAX_QUEUED_INPUTS {
                break;
            }
        }
        self.screen
            .forget_until(self.state.summary().finalized.slot);
        self.publish_authorities();
        self.publish_status();
        self.mining.publish(&self.mailboxes.auxpow);
        self.update_metrics();
        Ok(())
    }

    fn update_metrics(&self) {
        let goal = self.catchup.goal(&self.position());
        let slot = self.state.slot_at(self.now());
        let summary = self.state.summary();
        self.metrics
            .on_progress(&summary, slot, goal.map(|goal| goal.to));
    }

    fn next_queued(&mut self) -> Option<Queued> {
        let follow_up = self.follow_ups.pop_front().map(Queued::Input);
        follow_up.or_else(|| self.queue.pop_front())
    }

    async fn handle_input(&mut self, input: Input) -> Result<(), ChainError> {
        if let Input::Vote(vote) = &input {
            self.report_vote(vote);
        }
        let locked = alys_runtime::is_simulated().then(|| self.state.summary().votes.locked);
        let effects = self.state.handle(input, self.now());
        self.clock.keep(self.state.trusted_clock_ms());
        if let Some(locked) = locked {
            self.mark_lock(locked);
        }
        self.carry_out(effects).await
    }

    /// Marks in the simulator's coverage that the lock moved, and that it moved to another branch.
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

    /// Schedules another [`ChainMessage::Resume`] while inputs are queued.
    fn schedule_resume(&mut self, ctx: &Context<Self>) {
        let is_idle = self.follow_ups.is_empty() && self.queue.is_empty();
        if !is_idle && !self.is_resume_scheduled {
            self.is_resume_scheduled = true;
            ctx.send_after(Duration::ZERO, ChainMessage::Resume);
        }
    }

    /// Schedules the next tick: at the start of the next slot, or after [`TICK_INTERVAL`].
    fn schedule_tick(&self, ctx: &Context<Self>) {
        let now = self.now();
        let next_slot = self.state.slot_at(now).next();
        let start_ms = next_slot.start_ms(self.genesis.spec().slot_duration_ms);
        let until_slot = Duration::from_millis(start_ms.saturating_sub(now.wall_ms).max(1));
        let longest = if buggify!("node.chain.early_tick") {
            TICK_INTERVAL / 10
        } else {
            TICK_INTERVAL
        };
        let delay = interceptor::tick_delay(until_slot.min(longest));
        ctx.send_after(delay, ChainMessage::Tick);
    }

    async fn on_tick(&mut self, ctx: &Context<Self>) -> Result<(), ChainError> {
        self.schedule_tick(ctx);
        self.fetch_parents();
        self.request_clocks();
        if buggify!("node.chain.tick_twice") {
            self.input(Input::Tick).await?;
        }
        self.input(Input::Tick).await?;
        if self.catchup.is_rebroadcast_due(self.now().mono_ms) {
            self.input(Input::PeerConnected).await?;
        }
        self.count_entries();
        Ok(())
    }

    fn count_entries(&self) {
        let Sizes {
            blocks,
            bodies,
            asked_executions,
            buffered_votes,
            latest_votes,
            remembered_votes,
            sets,
        } = self.state.sizes();
        let tables = &self.metrics.tables;
        tables.set("blocks", blocks);
        tables.set("bodies", bodies);
        tables.set("asked_executions", asked_executions);
        tables.set("buffered_votes", buffered_votes);
        tables.set("latest_votes", latest_votes);
        tables.set("remembered_votes", remembered_votes);
        tables.set("sets", sets);
        tables.set("screened_votes", self.screen.entries());
        tables.set("checks_under_way", self.screen.checks_under_way());
        tables.set("sought_parents", self.catchup.sought_parents());
        tables.set("vouched_peers", self.vouched.entries());
        tables.set("queue", self.queue.len() + self.follow_ups.len());
    }

    // Catching up.

    pub(super) fn position(&self) -> Position {
        let summary = self.state.summary();
        let goal = self
            .state
            .sync_gap()
            .map(|(final_height, highest, to)| Goal {
                final_height,
                highest,
                to,
            });
        Position {
            final_height: summary.final_height,
            highest_height: summary.highest_height,
            highest_slot: summary.highest.slot,
            goal,
        }
    }

    pub(super) fn on_orphan(&mut self, source: &Source, header: &Header) {
        match self.catchup.on_orphan(header, &self.position()) {
            Orphan::Ignore => self.judge(source, GossipVerdict::Ignore),
            Orphan::Refuse(error) => self.refuse(source, error),
            Orphan::CheckParent(certificate) => {
                let set = self.state.newest_set();
                self.check(source.clone(), Job::Parent { certificate, set }, false);
            }
        }
    }

    pub(super) fn on_parent(&mut self, certificate: Certificate) {
        reached("state.chain.parent_sought");
        let limit = if buggify!("node.chain.few_parents") {
            1
        } else {
            MAX_PARENTS
        };
        self.catchup.add_parent(certificate, limit);
        self.fetch_parents();
    }

    fn fetch_parents(&mut self) {
        let highest = self.state.summary().highest.slot;
        let is_known = |hash: &Hash| self.state.knows(hash);
        let missing: Vec<Hash> = self.catchup.missing_parents(highest, is_known).collect();
        for hash in missing {
            self.tell_peers(PeerMessage::Fetch { hash });
        }
    }

    /// A range that does not connect to a known block cannot be checked; no fault of the peer.
    fn on_range(&mut self, peer: PeerId, range: Box<BlockRange>) {
        let first = range.blocks.first();
        match first.and_then(|first| self.state.known_set(&first.header)) {
            Some(set) => self.check(Source::answer(peer), Job::Range { range, set }, true),
            None => {
                let start = first.map(|first| first.header.height.0);
                tracing::debug!(%peer, start, "a range is empty or follows no known block");
                self.on_range_taken(peer, false);
            }
        }
    }

    fn on_range_end(&mut self, peer: PeerId, before: &Summary) {
        let after = self.state.summary();
        let has_progress = (after.highest_height, after.final_height)
            > (before.highest_height, before.final_height)
            || after.entries > before.entries;
        self.on_range_taken(peer, has_progress);
    }

    fn on_range_taken(&mut self, peer: PeerId, has_progress: bool) {
        reached(if has_progress {
            "state.chain.range_taken"
        } else {
            "state.chain.range_useless"
        });
        self.tell_peers(PeerMessage::RangeTaken { peer, has_progress });
        self.catchup.on_range_taken(has_progress);
        self.set_sync_target();
    }

    /// Tells the PeerActor up to which height blocks are missing.
    pub(super) fn set_sync_target(&self) {
        if let Some(goal) = self.catchup.goal(&self.position()) {
            self.tell_peers(PeerMessage::SyncTo(goal));
        }
    }

    // Messages to other actors.

    /// Returns false when the network did not take the command.
    pub(super) fn command(&self, command: Command) -> bool {
        self.tell_network(NetworkMessage::Command(Box::new(command)))
    }

    /// Returns false when the network did not take the message.
    pub(super) fn tell_network(&self, message: NetworkMessage) -> bool {
        if buggify!("node.chain.lost_command", 10_000) {
            return false;
        }
        // Lost broadcasts are rebroadcast after the slot.
        let is_taken = self.mailboxes.network.tell(message).is_ok();
        if !is_taken {
            tracing::debug!("the NetworkActor is busy or restarting: a message is dropped");
        }
        is_taken
    }

    pub(super) fn tell_peers(&self, message: PeerMessage) {
        if buggify!("node.chain.lost_peer_message", 10_000) {
            return;
        }
        if self.mailboxes.peers.tell(message).is_err() {
            tracing::debug!("the PeerActor is busy or restarting: a message is dropped");
        }
    }
}

impl AlysActor for ChainActor {
    type Message = ChainMessage;
    type Error = ChainError;
    type Config = ();
    const NAME: &'static str = "ChainActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), ChainError> {
        let incarnation = ctx.incarnation();
        self.observe(NodeEvent::Restored { incarnation });
        if incarnation > 1 {
            self.tell_peers(PeerMessage::RangeLost);
        }
        let effects = std::mem::take(&mut self.start_effects);
        self.carry_out(effects).await?;
        self.schedule_tick(ctx);
        self.input(Input::Tick).await?;
        self.schedule_resume(ctx);
        Ok(())
    }

    async fn handle(&mut self, msg: ChainMessage, ctx: &Context<Self>) -> Result<(), ChainError> {
        buggify_pause!("node.chain.slow", 50_000, 100);
        self.on_message(msg, ctx).await?;
        self.schedule_resume(ctx);
        Ok(())
    }

    fn health_check(&self) -> Health {
        if self.state.disputes_certified() {
            Health::Degraded("the execution client calls a certified block invalid")
        } else {
            Health::Healthy
        }
    }
}

impl ChainActor {
    async fn on_message(
        &mut self,
        msg: ChainMessage,
        ctx: &Context<Self>,
    ) -> Result<(), ChainError> {
        match msg {
            ChainMessage::Tick => self.on_tick(ctx).await?,
            ChainMessage::Resume => {
                self.is_resume_scheduled = false;
                self.process_queue().await?;
            }
            ChainMessage::GossipReceived { source, gossip } => {
                self.on_gossip(source, gossip).await?;
            }
            ChainMessage::Checked { source, checked } => self.on_checked(source, *checked).await?,
            ChainMessage::ChecksLost => {
                self.screen.forget_checks();
                self.tell_peers(PeerMessage::RangeLost);
            }
            ChainMessage::Executed { hash, verdict } => {
                self.input(Input::Executed { hash, verdict }).await?;
            }
            ChainMessage::Accounted { hash, additions } => {
                self.input(Input::Accounted { hash, additions }).await?;
            }
            ChainMessage::NotStored { hash } => {
                // The state machine forgets a block of an abandoned branch before the storage does.
                if self.state.has_body(&hash) {
                    tracing::error!(%hash, "a stored block is missing in the storage");
                }
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
                .await?;
            }
            ChainMessage::BuildFailed { slot, parent } => {
                self.input(Input::BuildFailed { slot, parent }).await?;
            }
            ChainMessage::ExecutionRestarted => self.input(Input::ExecutionRestarted).await?,
            ChainMessage::NetworkStarted => {
                self.published = None;
                if interceptor::forgets_vouched() {
                    self.vouched.clear();
                }
                self.publish_status();
            }
            ChainMessage::AuxPowStarted => {
                self.mining.forget_sent();
                self.mining.publish(&self.mailboxes.auxpow);
            }
            ChainMessage::Proof(proof) => {
                self.input(Input::Proof(proof)).await?;
            }
            ChainMessage::PeerListens => self.catchup.on_new_peer(),
            ChainMessage::StatusRequested {
                id,
                peer,
                is_known,
                payload,
            } => {
                self.on_status_request(id, peer, is_known, &payload).await?;
            }
            ChainMessage::StatusReceived {
                peer,
                is_known,
                answer,
            } => {
                self.on_status_answer(peer, is_known, *answer).await?;
            }
            ChainMessage::RangeReceived { peer, range } => self.on_range(peer, range),
            ChainMessage::BodiesReceived { peer, blocks } => {
                self.check(Source::answer(peer), Job::Bodies { blocks }, true);
            }
            ChainMessage::Order(order) => self.input(Input::Order(order)).await?,
            ChainMessage::ConfirmClock => self.input(Input::ClockConfirmed).await?,
            ChainMessage::GetSummary { reply } => {
                reply.send(self.state.summary());
            }
        }
        Ok(())
    }
}
