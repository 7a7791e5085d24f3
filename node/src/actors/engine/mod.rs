//! EngineActor: the conversation with the execution client.
//!
//! Owns the Engine API connection. Promises one answer for each question, in the order asked: an unreachable or
//! forgetful client is the world's fault, answered as "not yet" and asked again by the chain. What the client lost it is
//! sent again from the storage. Never decides about blocks: only `VALID` is valid.

use std::sync::Arc;
use std::time::Duration;

use alloy_rpc_types_engine::{ForkchoiceState, PayloadAttributes, PayloadStatusEnum};
use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_consensus::{PayloadRequest, Verdict};
use alys_integrations::execution::{
    BlockTag, ExecutionClient, ExecutionError, PayloadFork, from_wire, to_wire,
};
use alys_runtime::time::{self, timeout};
use alys_runtime::trace::reached;
use alys_runtime::{buggify, buggify_pause};
use alys_types::mutant::{self, Mutant};
use alys_types::{Block, ExecutionPayload, Genesis, Hash, Height};

use crate::actors::chain::ChainMessage;
use crate::actors::storage;

/// How long one message may take. An answer that has not come by then is "not yet", and the chain asks again.
const WORK: Duration = Duration::from_millis(2_500);
/// How long blocks are sent again at one message; the chain asks again and it goes on. With one more call, which it may
/// have begun, this is within [`WORK`].
const REPLAY_TURN: Duration = Duration::from_millis(400);
/// Blocks whose hashes are remembered while they are sent again; those above follow afterwards.
const MAX_REPLAY: usize = 100_000;
/// While blocks are sent again, the head is moved every so many, so that clients that execute only below their head go
/// on, and a crash costs no more.
const REPLAY_STEP: usize = 16;

/// What the engine is asked.
pub enum EngineMessage {
    /// Is this block valid?
    Execute {
        hash: Hash,
        block: Option<Arc<Block>>,
    },
    /// Set the fork choice.
    Forkchoice {
        head: (Hash, Hash),
        safe: Hash,
        finalized: Hash,
    },
    /// Build a payload.
    Build(PayloadRequest),
}

impl Message for EngineMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Execute { .. } => "execute",
            Self::Forkchoice { .. } => "forkchoice",
            Self::Build(_) => "build",
        }
    }
}

/// A fault of the engine actor itself.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("storage: {0}")]
    Storage(#[from] alys_actor_system::AskError),
}

/// The actor.
pub struct EngineActor {
    client: Arc<dyn ExecutionClient>,
    genesis: Arc<Genesis>,
    cancun_time: Option<u64>,
    chain: Addr<ChainMessage>,
    storage: storage::Handle,
    /// Whether the last call got through; a change is told to the operator and to the chain.
    reachable: bool,
    /// As last accepted.
    forkchoice: ForkchoiceState,
    /// What is being sent again.
    replay: Option<Replay>,
}

/// Blocks that the client lost, being sent again over as many messages as it takes.
struct Replay {
    /// The block that it is for.
    target: Hash,
    /// Its height.
    height: Height,
    /// The next ancestor to ask the client for; none once one is known to it.
    next: Option<Hash>,
    /// What it does not have, the newest first.
    missing: Vec<Hash>,
    /// Blocks sent.
    sent: usize,
    /// Whether the last message was for this rather than for what it asked.
    is_next: bool,
}

impl EngineActor {
    pub fn new(
        client: Arc<dyn ExecutionClient>,
        genesis: Arc<Genesis>,
        cancun_time: Option<u64>,
        chain: Addr<ChainMessage>,
        storage: storage::Handle,
    ) -> EngineActor {
        let first = genesis.header().execution_hash.into();
        let forkchoice = ForkchoiceState {
            head_block_hash: first,
            safe_block_hash: first,
            finalized_block_hash: first,
        };
        let (reachable, replay) = (true, None);
        EngineActor {
            client,
            genesis,
            cancun_time,
            chain,
            storage,
            reachable,
            forkchoice,
            replay,
        }
    }

    async fn tell(&self, message: ChainMessage) {
        // The chain never waits for this actor, so waiting for room in its mailbox ends.
        if self.chain.send(message).await.is_err() {
            tracing::debug!("the chain is stopping: an answer is dropped");
        }
    }

    /// Keeps track of whether the client is there.
    async fn note<T>(&mut self, result: Result<T, ExecutionError>) -> Option<T> {
        match result {
            Ok(value) => {
                if !self.reachable {
                    self.reachable = true;
                    reached("state.engine.back");
                    tracing::info!("the execution client answers again");
                    self.tell(ChainMessage::ExecutionRestarted).await;
                }
                Some(value)
            }
            Err(error) => {
                if self.reachable {
                    tracing::warn!(%error, "the execution client does not answer; asking again");
                }
                if matches!(error, ExecutionError::Auth { .. }) {
                    reached("state.engine.refuses_token");
                }
                if matches!(
                    error,
                    ExecutionError::Transport { .. } | ExecutionError::Auth { .. }
                ) {
                    reached("state.engine.unreachable");
                    self.reachable = false;
                    // When it is back it may lack other blocks.
                    self.replay = None;
                }
                None
            }
        }
    }

    /// The client took too long over a message: as if it had not answered.
    fn late(&mut self) {
        reached("state.engine.late");
        if self.reachable {
            tracing::warn!(within = ?WORK, "the execution client takes too long; asking again");
        }
        self.reachable = false;
    }

    async fn execute(
        &mut self,
        hash: Hash,
        block: Option<Arc<Block>>,
    ) -> Result<Verdict, EngineError> {
        if hash == self.genesis.hash() {
            return Ok(self.check_genesis().await);
        }
        let block = match block {
            Some(block) => block,
            None => match self.storage.block(hash).await? {
                Some(block) => block,
                None => {
                    // It may have lost to another one that became final since the chain asked; the chain knows.
                    self.tell(ChainMessage::NotStored { hash }).await;
                    return Ok(Verdict::Unknown);
                }
            },
        };
        if buggify!("node.engine.not_yet", 50_000) {
            return Ok(Verdict::Unknown);
        }
        // While blocks are sent again, whichever block it is about: finality moves on meanwhile, and who begins anew at each
        // block never ends. In turns with what is asked, for a message has the time of one of them.
        let is_its_turn = self.replay.as_mut().is_some_and(|replay| {
            replay.is_next = replay.target == hash || !replay.is_next;
            replay.is_next
        });
        if is_its_turn {
            self.go_on_replaying().await?;
            return Ok(Verdict::Unknown);
        }
        let verdict = self.new_payload(&block).await;
        match verdict {
            // A client that has this block lacks nothing below it.
            Verdict::Valid => {
                self.replay
                    .take_if(|replay| replay.height <= block.header.height);
            }
            Verdict::Unknown
                if self.reachable
                    && self.replay.is_none()
                    && !mutant::active(Mutant::LostBlocksNotSent) =>
            {
                let (height, next) = (block.header.height, Some(block.header.parent_hash));
                let missing = Vec::new();
                self.replay = Some(Replay {
                    target: hash,
                    height,
                    next,
                    missing,
                    sent: 0,
                    is_next: false,
                });
            }
            Verdict::Unknown | Verdict::Invalid => {}
        }
        Ok(verdict)
    }

    async fn check_genesis(&mut self) -> Verdict {
        let found = self.client.block_by_tag(BlockTag::Number(0)).await;
        let Some(found) = self.note(found).await else {
            return Verdict::Unknown;
        };
        let expected = self.genesis.header().execution_hash;
        match found {
            Some(block) if Hash::from(block.hash) == expected => Verdict::Valid,
            Some(block) => {
                tracing::warn!(
                    found = %Hash::from(block.hash), %expected,
                    "the execution client has another genesis: start it with the execution genesis of this chain"
                );
                Verdict::Unknown
            }
            None => Verdict::Unknown,
        }
    }

    async fn new_payload(&mut self, block: &Block) -> Verdict {
        let payload = to_wire(&block.body.payload);
        if buggify!("node.engine.payload_twice") {
            let first = self
                .client
                .new_payload(payload.clone(), block.header.parent_hash.into())
                .await;
            self.note(first).await;
        }
        let status = self
            .client
            .new_payload(payload, block.header.parent_hash.into())
            .await;
        let Some(status) = self.note(status).await else {
            return if mutant::active(Mutant::NoAnswerIsValid) {
                Verdict::Valid
            } else {
                Verdict::Unknown
            };
        };
        match status.status {
            PayloadStatusEnum::Valid => Verdict::Valid,
            PayloadStatusEnum::Invalid { validation_error } => {
                reached("state.engine.invalid");
                tracing::warn!(height = %block.header.height, slot = %block.header.slot, reason = %validation_error,
                    "the execution client calls a payload invalid");
                Verdict::Invalid
            }
            PayloadStatusEnum::Syncing | PayloadStatusEnum::Accepted => {
                reached("state.engine.syncing");
                match (
                    mutant::active(Mutant::SyncingIsInvalid),
                    mutant::active(Mutant::SyncingIsValid),
                ) {
                    (true, _) => Verdict::Invalid,
                    (_, true) => Verdict::Valid,
                    (false, false) => Verdict::Unknown,
                }
            }
        }
    }

    /// Sends the ancestors that the client lost again, oldest first, for the length of a turn. What is not done then stays
    /// in the state, also where the last call takes too long; when nothing does, the client has them all, or sending them is
    /// of no use now.
    async fn go_on_replaying(&mut self) -> Result<(), EngineError> {
        let begun = time::now();
        let turn = if buggify!("node.engine.short_replay_turn") {
            Duration::from_millis(1)
        } else {
            REPLAY_TURN
        };
        let step = if buggify!("node.engine.small_replay_step") {
            1
        } else {
            REPLAY_STEP
        };
        let is_over = || time::now().saturating_duration_since(begun) >= turn;
        while let Some(parent) = self.replay.as_ref().and_then(|replay| replay.next) {
            if is_over() {
                return Ok(());
            }
            let mut ancestor = None;
            if parent != self.genesis.hash() {
                let Some(block) = self.storage.block(parent).await? else {
                    self.replay = None;
                    return Ok(());
                };
                let known = self
                    .client
                    .block_by_hash(block.header.execution_hash.into())
                    .await;
                let Some(known) = self.note(known).await else {
                    return Ok(());
                };
                ancestor = known.is_none().then_some(block);
            }
            let Some(replay) = &mut self.replay else {
                return Ok(());
            };
            replay.next = ancestor.map(|ancestor| ancestor.header.parent_hash);
            if replay.next.is_some() {
                if replay.missing.len() == MAX_REPLAY {
                    // The newest: its turn comes when those below it are there.
                    replay.missing.remove(0);
                }
                replay.missing.push(parent);
            }
        }
        if let Some(Replay {
            sent: 0, missing, ..
        }) = &self.replay
            && !missing.is_empty()
        {
            tracing::info!(
                blocks = missing.len(),
                "sending blocks that the execution client lost"
            );
        }
        while let Some(hash) = self
            .replay
            .as_ref()
            .and_then(|replay| replay.missing.last().copied())
        {
            if is_over() {
                return Ok(());
            }
            let Some(ancestor) = self.storage.block(hash).await? else {
                self.replay = None;
                return Ok(());
            };
            if self.new_payload(&ancestor).await != Verdict::Valid {
                self.replay = None;
                return Ok(());
            }
            reached("state.engine.replayed");
            let Some(replay) = &mut self.replay else {
                return Ok(());
            };
            replay.missing.pop();
            replay.sent += 1;
            if replay.sent.is_multiple_of(step) || replay.missing.is_empty() {
                let first = self.genesis.header().execution_hash.into();
                let state = ForkchoiceState {
                    head_block_hash: ancestor.header.execution_hash.into(),
                    safe_block_hash: first,
                    finalized_block_hash: first,
                };
                let updated = self.client.forkchoice_updated(state, None).await;
                if self.note(updated).await.is_none() {
                    return Ok(());
                }
                self.forkchoice = state;
            }
        }
        self.replay = None;
        Ok(())
    }

    async fn set_forkchoice(&mut self, head: Hash, safe: Hash, finalized: Hash) {
        let state = ForkchoiceState {
            head_block_hash: head.into(),
            safe_block_hash: safe.into(),
            finalized_block_hash: finalized.into(),
        };
        if buggify!("node.engine.forkchoice_twice") {
            // As after an answer that was lost.
            let first = self.client.forkchoice_updated(state, None).await;
            self.note(first).await;
        }
        let updated = self.client.forkchoice_updated(state, None).await;
        match self.note(updated).await {
            Some(updated) if updated.payload_status.is_valid() => {
                self.forkchoice = state;
                // It has the head and all that is below it.
                self.replay = None;
            }
            Some(updated) => {
                reached("state.engine.not_followed");
                tracing::debug!(status = ?updated.payload_status.status, "fork choice is not followed");
                self.tell(ChainMessage::ExecutionRestarted).await;
            }
            // Told again by the chain once the client is back.
            None => {}
        }
    }

    async fn build(&mut self, request: &PayloadRequest) -> Option<ExecutionPayload> {
        if buggify!("node.engine.no_build", 50_000) {
            return None;
        }
        let deneb = self
            .cancun_time
            .is_some_and(|time| request.timestamp >= time);
        let attributes = PayloadAttributes {
            timestamp: request.timestamp,
            prev_randao: request.prev_randao.into(),
            suggested_fee_recipient: request.fee_recipient.into(),
            withdrawals: Some(Vec::new()),
            parent_beacon_block_root: deneb.then(|| request.parent.into()),
            ..PayloadAttributes::default()
        };
        let fork = PayloadFork::of_attributes(&attributes);
        let state = ForkchoiceState {
            head_block_hash: request.parent_execution.into(),
            ..self.forkchoice
        };
        let updated = self
            .client
            .forkchoice_updated(state, Some(attributes))
            .await;
        let updated = self.note(updated).await?;
        if !updated.payload_status.is_valid() {
            // It has lost the block to build on, and nobody else may come to notice.
            self.tell(ChainMessage::ExecutionRestarted).await;
        }
        let id = updated.payload_id?;
        let built = self.client.get_payload(fork, id).await;
        let built = self.note(built).await?;
        match from_wire(built.payload) {
            Ok(payload) => Some(payload),
            Err(error) => {
                tracing::warn!(%error, "the execution client built something unusable");
                None
            }
        }
    }
}

impl AlysActor for EngineActor {
    type Message = EngineMessage;
    type Error = EngineError;
    type Config = ();
    const NAME: &'static str = "EngineActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), EngineError> {
        if ctx.incarnation() > 1 {
            // Answers that the last incarnation owed are lost with it.
            self.tell(ChainMessage::ExecutionRestarted).await;
        }
        Ok(())
    }

    async fn handle(&mut self, msg: EngineMessage, _: &Context<Self>) -> Result<(), EngineError> {
        buggify_pause!("node.engine.slow", 100_000, 300);
        let within = if buggify!("node.engine.impatient", 50_000) {
            Duration::from_millis(30)
        } else {
            WORK
        };
        match msg {
            EngineMessage::Execute { hash, block } => {
                let verdict = match timeout(within, self.execute(hash, block)).await {
                    Ok(verdict) => verdict?,
                    Err(_) => {
                        self.late();
                        Verdict::Unknown
                    }
                };
                self.tell(ChainMessage::Executed { hash, verdict }).await;
            }
            EngineMessage::Forkchoice {
                head: (_, head),
                safe,
                finalized,
            } => {
                if timeout(within, self.set_forkchoice(head, safe, finalized))
                    .await
                    .is_err()
                {
                    self.late();
                }
            }
            EngineMessage::Build(request) => {
                let PayloadRequest { slot, parent, .. } = request;
                let message = match timeout(within, self.build(&request)).await {
                    Ok(Some(payload)) => ChainMessage::Built {
                        slot,
                        parent,
                        payload: Box::new(payload),
                    },
                    Ok(None) => {
                        reached("state.engine.no_build");
                        ChainMessage::BuildFailed { slot, parent }
                    }
                    Err(_) => {
                        self.late();
                        ChainMessage::BuildFailed { slot, parent }
                    }
                };
                self.tell(message).await;
            }
        }
        Ok(())
    }
}
