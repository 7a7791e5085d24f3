//! The actor: questions of the chain become calls of the Engine API.

use std::sync::Arc;
use std::time::Duration;

use alloy_rpc_types_engine::{ForkchoiceState, PayloadAttributes, PayloadStatusEnum};
use alys_actor_system::{Addr, AlysActor, AskError, Context, Health};
use alys_consensus::{PayloadRequest, Verdict};
use alys_integrations::execution::{
    BlockTag, ExecutionClient, ExecutionError, PayloadFork, from_wire, to_wire, withdrawals_to_wire,
};
use alys_runtime::log_limit::LogLimit;
use alys_runtime::time::{self, Instant, timeout};
use alys_runtime::trace::reached;
use alys_runtime::{buggify, buggify_pause};
use alys_types::{Block, ExecutionPayload, Genesis, Hash, Header};

use super::accounts::{Fetched, Missing};
use super::backoff::Backoff;
use super::replay::{HEAD_INTERVAL, MAX_MISSING, Replay, Step};
use super::{EngineMessage, EngineTimeouts, Metrics};
use crate::actors::chain::ChainMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage;
use crate::interceptor;

/// Interval between log lines about the same fault of the client.
const FAULT_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A fault of the actor itself.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("storage: {0}")]
    Storage(#[from] AskError),
}

pub struct EngineActor {
    pub(super) client: Arc<dyn ExecutionClient>,
    pub(super) genesis: Arc<Genesis>,
    cancun_time: Option<u64>,
    timeouts: EngineTimeouts,
    chain: Addr<ChainMessage>,
    pub(super) storage: storage::Handle,
    pub(super) peers: Addr<PeerMessage>,
    /// The last call was answered; a change is logged and reported to the chain.
    pub(super) is_reachable: bool,
    /// The last fork choice that the client followed.
    forkchoice: ForkchoiceState,
    /// The last fork choice of the chain, while the client does not follow it.
    refused: Option<ForkchoiceState>,
    backoff: Backoff,
    /// An [`EngineMessage::RetryForkchoice`] is scheduled.
    is_retry_scheduled: bool,
    /// Time of the last log line about a refused call.
    refusal_logged: Option<Instant>,
    /// Time of the last log line about an empty payload with transactions.
    filled_logged: Option<Instant>,
    /// Limits the lines about invalid payloads, because a Byzantine leader can propose one in each
    /// of its slots.
    invalid_lines: LogLimit,
    replay: Option<Replay>,
    pub(super) missing: Missing,
    pub(super) fetched: Fetched,
    pub(super) metrics: Metrics,
}

impl EngineActor {
    pub fn new(
        client: Arc<dyn ExecutionClient>,
        genesis: Arc<Genesis>,
        cancun_time: Option<u64>,
        timeouts: EngineTimeouts,
        chain: Addr<ChainMessage>,
        storage: storage::Handle,
        peers: Addr<PeerMessage>,
        metrics: Metrics,
    ) -> EngineActor {
        let forkchoice = ForkchoiceState::same_hash(genesis.header().execution_hash.into());
        EngineActor {
            client,
            genesis,
            cancun_time,
            timeouts,
            chain,
            storage,
            peers,
            is_reachable: true,
            forkchoice,
            refused: None,
            backoff: Backoff::default(),
            is_retry_scheduled: false,
            refusal_logged: None,
            filled_logged: None,
            invalid_lines: LogLimit::default(),
            replay: None,
            missing: Missing::default(),
            fetched: Fetched::default(),
            metrics,
        }
    }

    async fn tell(&self, message: ChainMessage) {
        // This wait for room ends, because the ChainActor never waits for this actor.
        if self.chain.send(message).await.is_err() {
            tracing::debug!("the ChainActor is stopping: an answer is dropped");
        }
    }

    /// Tracks whether the client is reachable.
    pub(super) async fn track<T>(&mut self, result: Result<T, ExecutionError>) -> Option<T> {
        match result {
            Ok(value) => {
                if !self.is_reachable {
                    self.set_reachable(true);
                    reached("state.engine.back");
                    tracing::info!("the execution client answers again");
                    self.tell(ChainMessage::ExecutionRestarted).await;
                }
                Some(value)
            }
            Err(error) => {
                match &error {
                    ExecutionError::Transport { .. } | ExecutionError::Auth { .. } => {
                        if self.is_reachable {
                            tracing::warn!(
                                %error,
                                "the execution client does not answer; asking again"
                            );
                        }
                    }
                    ExecutionError::Rpc { .. }
                    | ExecutionError::Invalid { .. }
                    | ExecutionError::UnknownPayload { .. }
                    | ExecutionError::UnsupportedPayload
                    | ExecutionError::PoolNotServed
                    | ExecutionError::ReceiptsNotServed => self.log_refusal(&error),
                }
                self.on_failure(&error);
                None
            }
        }
    }

    /// Warns the operator of refused calls, once per [`FAULT_LOG_INTERVAL`].
    fn log_refusal(&mut self, error: &ExecutionError) {
        if is_log_due(&mut self.refusal_logged) {
            tracing::warn!(%error, "the execution client refuses a call; asking again");
        } else {
            tracing::debug!(%error, "the execution client refuses a call");
        }
    }

    /// Warns the operator that the client fills a payload which has to be empty. The payload is
    /// proposed all the same: the rules of validity decide about it, and a block with transactions
    /// is better than none where they are not the reason for the request (rule 6.5).
    fn log_filled(&mut self, transactions: usize) {
        self.metrics.filled_payloads.inc();
        if is_log_due(&mut self.filled_logged) {
            tracing::warn!(
                transactions,
                "the execution client puts transactions into a payload that has to be empty, \
                 because it does not know noTxPool; while slots of this node stay without a \
                 block, remove the transactions from its pool"
            );
        }
    }

    /// Warns the operator of payloads that count as invalid: the client refuses their fields, or
    /// executed them.
    fn log_invalid(&mut self, header: &Header, reason: &str) {
        let Header { height, slot, .. } = header;
        if let Some(left_out) = self.invalid_lines.admit(time::now()) {
            tracing::warn!(
                %height, %slot, %reason, left_out,
                "the execution client considers a payload invalid"
            );
        } else {
            tracing::debug!(
                %height, %slot, %reason,
                "the execution client considers a payload invalid"
            );
        }
    }

    fn on_failure(&mut self, error: &ExecutionError) {
        let is_refused = matches!(error, ExecutionError::Auth { .. });
        if is_refused {
            reached("state.engine.refuses_token");
        }
        if is_refused || matches!(error, ExecutionError::Transport { .. }) {
            reached("state.engine.unreachable");
            self.set_reachable(false);
            // A client that comes back may lack other blocks.
            self.replay = None;
        }
    }

    fn message_timeout(&self) -> Duration {
        if buggify!("node.engine.impatient", 50_000) {
            Duration::from_millis(30)
        } else {
            self.timeouts.message
        }
    }

    /// The calls of one message took longer than its timeout: the client counts as unreachable. It
    /// may carry out the last fork choice later, which an earlier one must not follow; the chain
    /// sends the present one once the client is back.
    fn on_timeout(&mut self, limit: Duration) {
        reached("state.engine.late");
        if self.is_reachable {
            tracing::warn!(?limit, "the execution client takes too long; asking again");
        }
        self.set_reachable(false);
        self.refused = None;
    }

    fn set_reachable(&mut self, is_reachable: bool) {
        self.is_reachable = is_reachable;
        self.metrics.reachable.set(i64::from(is_reachable));
    }

    async fn execute(
        &mut self,
        hash: Hash,
        block: Option<Arc<Block>>,
    ) -> Result<Verdict, EngineError> {
        if hash == self.genesis.hash() {
            return Ok(self.check_genesis().await);
        }
        let stored = match block {
            Some(block) => Some(block),
            None => self.storage.block(hash).await?,
        };
        let Some(block) = stored else {
            // Another branch may have become final since the chain asked.
            self.tell(ChainMessage::NotStored { hash }).await;
            return Ok(Verdict::Unknown);
        };
        if buggify!("node.engine.not_yet", 50_000) {
            return Ok(Verdict::Unknown);
        }
        if let Some(replay) = &mut self.replay
            && replay.takes_turn(&hash)
        {
            self.continue_replay().await?;
            return Ok(Verdict::Unknown);
        }
        let verdict = self.new_payload(&block).await;
        let header = &block.header;
        match verdict {
            Verdict::Valid => {
                self.replay
                    .take_if(|replay| replay.is_obsolete(header.height));
            }
            Verdict::Unknown => {
                if self.is_reachable && self.replay.is_none() && interceptor::replays_lost_blocks()
                {
                    let genesis = self.genesis.hash();
                    let replay = Replay::new(hash, header.height, header.parent_hash, genesis);
                    self.replay = Some(replay);
                }
            }
            Verdict::Invalid => {}
        }
        Ok(verdict)
    }

    async fn check_genesis(&mut self) -> Verdict {
        let found = self.client.block_by_tag(BlockTag::Number(0)).await;
        let Some(Some(block)) = self.track(found).await else {
            return Verdict::Unknown;
        };
        let expected = self.genesis.header().execution_hash;
        let found = Hash::from(block.hash);
        if found == expected {
            return Verdict::Valid;
        }
        tracing::warn!(
            %found, %expected,
            "the execution client has another genesis: start it with the genesis of this chain"
        );
        Verdict::Unknown
    }

    async fn new_payload(&mut self, block: &Block) -> Verdict {
        let payload = to_wire(&block.body.payload);
        let parent = block.header.parent_hash.into();
        if buggify!("node.engine.payload_twice") {
            let first = self.client.new_payload(payload.clone(), parent).await;
            self.track(first).await;
        }
        let status = self.client.new_payload(payload, parent).await;
        if let Err(error) = &status
            && error.is_unfit()
        {
            // A Byzantine leader can build such a payload, so the error says nothing about the
            // client.
            reached("state.engine.unfit");
            self.log_invalid(&block.header, &error.to_string());
            return Verdict::Invalid;
        }
        let Some(status) = self.track(status).await else {
            return interceptor::unanswered_payload();
        };
        match status.status {
            PayloadStatusEnum::Valid => Verdict::Valid,
            PayloadStatusEnum::Invalid { validation_error } => {
                reached("state.engine.invalid");
                self.log_invalid(&block.header, &validation_error);
                Verdict::Invalid
            }
            PayloadStatusEnum::Syncing | PayloadStatusEnum::Accepted => {
                reached("state.engine.syncing");
                interceptor::syncing_payload()
            }
        }
    }

    /// Performs steps of the replay within its budget. An unfinished replay continues at a later
    /// message, also when the last call takes too long; one that cannot succeed now is dropped.
    async fn continue_replay(&mut self) -> Result<(), EngineError> {
        let begun = time::now();
        let budget = if buggify!("node.engine.short_replay_turn") {
            Duration::from_millis(1)
        } else {
            self.timeouts.replay
        };
        let head_interval = if buggify!("node.engine.small_replay_step") {
            1
        } else {
            HEAD_INTERVAL
        };
        while let Some(replay) = &self.replay {
            let step = replay.next_step();
            let is_over = time::now().saturating_duration_since(begun) >= budget;
            match step {
                Step::Done => self.replay = None,
                Step::Search(_) | Step::Send(_) if is_over => return Ok(()),
                Step::Search(hash) => {
                    let Some(block) = self.replayed_block(hash).await? else {
                        return Ok(());
                    };
                    if !self.search(&block).await {
                        return Ok(());
                    }
                }
                Step::Send(hash) => {
                    let Some(block) = self.replayed_block(hash).await? else {
                        return Ok(());
                    };
                    if !self.send_again(&block, head_interval).await {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Loads a block of the replay; without it the replay ends.
    async fn replayed_block(&mut self, hash: Hash) -> Result<Option<Arc<Block>>, EngineError> {
        let block = self.storage.block(hash).await?;
        if block.is_none() {
            self.replay = None;
        }
        Ok(block)
    }

    /// Returns false when the client does not answer.
    async fn search(&mut self, block: &Block) -> bool {
        let hash = block.header.execution_hash.into();
        let found = self.client.block_by_hash(hash).await;
        let Some(found) = self.track(found).await else {
            return false;
        };
        if let Some(replay) = &mut self.replay {
            if found.is_some() {
                replay.on_known();
            } else {
                replay.on_missing(block.header.parent_hash, MAX_MISSING);
            }
            if let Some(blocks) = replay.begins_to_send() {
                tracing::info!(
                    blocks,
                    "sending blocks again that the execution client lost"
                );
            }
        }
        true
    }

    /// Returns false when the client does not execute the block or does not answer.
    async fn send_again(&mut self, block: &Block, head_interval: usize) -> bool {
        if self.new_payload(block).await != Verdict::Valid {
            self.replay = None;
            return false;
        }
        reached("state.engine.replayed");
        let is_head_due = match &mut self.replay {
            Some(replay) => replay.on_sent(head_interval),
            None => return false,
        };
        if !is_head_due {
            return true;
        }
        let first = self.genesis.header().execution_hash.into();
        let state = ForkchoiceState {
            head_block_hash: block.header.execution_hash.into(),
            safe_block_hash: first,
            finalized_block_hash: first,
        };
        let updated = self.client.forkchoice_updated(state, None).await;
        let is_answered = self.track(updated).await.is_some();
        if is_answered {
            self.forkchoice = state;
        }
        is_answered
    }

    async fn update_forkchoice(&mut self, state: ForkchoiceState) {
        if buggify!("node.engine.forkchoice_twice") {
            // As if the answer to the first call were lost.
            let first = self.client.forkchoice_updated(state, None).await;
            self.track(first).await;
        }
        let updated = self.client.forkchoice_updated(state, None).await;
        let is_invalid = matches!(&updated, Err(error) if error.is_invalid_forkchoice());
        match self.track(updated).await {
            Some(updated) if updated.payload_status.is_valid() => {
                self.forkchoice = state;
                self.refused = None;
                self.backoff.reset();
                // The client has the head and everything below it.
                self.replay = None;
            }
            Some(updated) => {
                reached("state.engine.not_followed");
                let status = updated.payload_status.status;
                tracing::debug!(?status, "the client does not follow the fork choice");
                self.refused = Some(state);
                self.on_not_followed().await;
            }
            // The chain sends it again once the client is back.
            None if !self.is_reachable => self.refused = None,
            None => {
                reached("state.engine.forkchoice_refused");
                self.refused = Some(state);
                if is_invalid {
                    // A client that lost blocks does not know the safe or the finalized one.
                    self.on_not_followed().await;
                } else {
                    self.backoff.is_due(time::now());
                }
            }
        }
    }

    /// Has the chain request the execution of its blocks again, with a pause after each time,
    /// because the client lost blocks that it had executed.
    async fn on_not_followed(&mut self) {
        if self.backoff.is_due(time::now()) {
            self.tell(ChainMessage::ExecutionRestarted).await;
        }
    }

    /// Schedules another attempt at a fork choice that the client did not follow.
    fn schedule_retry(&mut self, ctx: &Context<Self>) {
        if self.refused.is_some() && !self.is_retry_scheduled {
            self.is_retry_scheduled = true;
            let pause = self.backoff.pause(time::now());
            ctx.send_after(pause, EngineMessage::RetryForkchoice);
        }
    }

    async fn build(&mut self, request: &PayloadRequest) -> Option<ExecutionPayload> {
        if buggify!("node.engine.no_build", 50_000) {
            return None;
        }
        let is_deneb = self
            .cancun_time
            .is_some_and(|time| request.timestamp >= time);
        let attributes = PayloadAttributes {
            timestamp: request.timestamp,
            prev_randao: request.prev_randao.into(),
            suggested_fee_recipient: request.fee_recipient.into(),
            withdrawals: Some(withdrawals_to_wire(&request.withdrawals)),
            parent_beacon_block_root: is_deneb.then(|| request.parent.into()),
            ..PayloadAttributes::default()
        };
        let fork = PayloadFork::of_attributes(&attributes);
        let state = ForkchoiceState {
            head_block_hash: request.parent_execution.into(),
            ..self.forkchoice
        };
        let updated = if request.is_empty {
            reached("state.engine.empty_build");
            self.client.begin_empty_payload(state, attributes).await
        } else {
            self.client
                .forkchoice_updated(state, Some(attributes))
                .await
        };
        let updated = self.track(updated).await?;
        if updated.payload_status.is_valid() {
            // An older fork choice must not follow this one.
            self.refused = None;
            self.backoff.reset();
        } else {
            // The client lost the block to build on; no other call may notice that.
            self.refused = Some(state);
            self.on_not_followed().await;
        }
        let id = updated.payload_id?;
        // Rule 6.5 (docs/protocol.md): a client that does not know empty payloads often has no
        // transactions in a payload that is taken immediately.
        let built = self.client.get_payload(fork, id).await;
        let built = self.track(built).await?;
        match from_wire(built.payload) {
            Ok(payload) => {
                if request.is_empty && !payload.transactions.is_empty() {
                    self.log_filled(payload.transactions.len());
                }
                Some(payload)
            }
            Err(error) => {
                tracing::warn!(%error, "the execution client built an unusable payload");
                None
            }
        }
    }
}

/// True once per [`FAULT_LOG_INTERVAL`]; `logged` is the time of the last log line.
fn is_log_due(logged: &mut Option<Instant>) -> bool {
    let now = time::now();
    let is_recent =
        logged.is_some_and(|logged| now.saturating_duration_since(logged) < FAULT_LOG_INTERVAL);
    if !is_recent {
        *logged = Some(now);
    }
    !is_recent
}

impl AlysActor for EngineActor {
    type Message = EngineMessage;
    type Error = EngineError;
    type Config = ();
    const NAME: &'static str = "EngineActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), EngineError> {
        self.set_reachable(self.is_reachable);
        if ctx.incarnation() > 1 && interceptor::reports_engine_restart() {
            // Questions that the last incarnation had not answered are lost.
            self.tell(ChainMessage::ExecutionRestarted).await;
        }
        Ok(())
    }

    async fn handle(&mut self, msg: EngineMessage, ctx: &Context<Self>) -> Result<(), EngineError> {
        buggify_pause!("node.engine.slow", 100_000, 300);
        let limit = self.message_timeout();
        match msg {
            EngineMessage::Execute { hash, block } => {
                let verdict = match timeout(limit, self.execute(hash, block)).await {
                    Ok(verdict) => verdict?,
                    Err(_) => {
                        self.on_timeout(limit);
                        Verdict::Unknown
                    }
                };
                self.tell(ChainMessage::Executed { hash, verdict }).await;
            }
            EngineMessage::Forkchoice {
                head,
                safe,
                finalized,
            } => {
                let state = ForkchoiceState {
                    head_block_hash: head.into(),
                    safe_block_hash: safe.into(),
                    finalized_block_hash: finalized.into(),
                };
                if timeout(limit, self.update_forkchoice(state)).await.is_err() {
                    self.on_timeout(limit);
                }
                self.schedule_retry(ctx);
            }
            EngineMessage::RetryForkchoice => {
                if interceptor::retry_has_ended(self.refused.is_some()) {
                    self.is_retry_scheduled = false;
                }
                if let Some(state) = self.refused
                    && timeout(limit, self.update_forkchoice(state)).await.is_err()
                {
                    self.on_timeout(limit);
                }
                self.schedule_retry(ctx);
            }
            EngineMessage::Account { hash, block } => {
                // A late answer does not make the client unreachable: other calls show that.
                let additions = match timeout(limit, self.account(hash, block)).await {
                    Ok(additions) => additions?,
                    Err(_) => {
                        reached("state.engine.late_receipts");
                        tracing::debug!(%hash, ?limit, "the receipts take too long; asking again");
                        None
                    }
                };
                self.tell(ChainMessage::Accounted { hash, additions }).await;
            }
            EngineMessage::ReceiptsReceived { hash, receipts } => {
                self.fetched.insert(hash, receipts)
            }
            EngineMessage::GetReceipts {
                execution_hash,
                place,
                reply,
            } => {
                let client = self.client.clone();
                let serving = ctx.spawn("receipts", async move {
                    match client.receipts(execution_hash.into()).await {
                        Ok(found) => {
                            reply.send(found);
                            drop(place);
                        }
                        Err(error) => {
                            tracing::debug!(%error, "a peer gets no receipts");
                            interceptor::free_failed_read(place);
                        }
                    }
                });
                if let Err(error) = serving {
                    tracing::debug!(%error, "a peer gets no receipts");
                }
            }
            EngineMessage::Build(request) => {
                let PayloadRequest { slot, parent, .. } = request;
                let built = timeout(limit, self.build(&request)).await;
                if built.is_err() {
                    self.on_timeout(limit);
                }
                let message = match built.ok().flatten() {
                    Some(payload) => ChainMessage::Built {
                        slot,
                        parent,
                        payload: Box::new(payload),
                    },
                    None => {
                        reached("state.engine.no_build");
                        ChainMessage::BuildFailed { slot, parent }
                    }
                };
                self.tell(message).await;
                self.schedule_retry(ctx);
            }
        }
        let tables = &self.metrics.tables;
        tables.set("refused_forkchoices", usize::from(self.refused.is_some()));
        tables.set("replays", usize::from(self.replay.is_some()));
        self.missing.expire(time::now());
        tables.set("missing_receipts", self.missing.len());
        tables.set("fetched_receipts", self.fetched.len());
        Ok(())
    }

    fn health_check(&self) -> Health {
        if !self.is_reachable {
            Health::Degraded("the execution client does not answer")
        } else if self.refused.is_some() {
            Health::Degraded("the execution client does not follow the fork choice")
        } else {
            Health::Healthy
        }
    }
}
