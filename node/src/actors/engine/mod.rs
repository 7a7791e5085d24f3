//! EngineActor: the conversation with the execution client.
//!
//! Owns the Engine API connection. Promises one answer for each question, in the order asked: an unreachable or
//! forgetful client is the world's fault, answered as "not yet" and asked again by the chain. What the client lost it is
//! sent again from the storage. Never decides about blocks: only `VALID` is valid.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_rpc_types_engine::{ForkchoiceState, PayloadAttributes, PayloadStatusEnum};
use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_consensus::{PayloadRequest, Verdict};
use alys_integrations::execution::{
    BlockTag, ExecutionClient, ExecutionError, PayloadFork, from_wire, to_wire,
};
use alys_types::{Block, ExecutionPayload, Genesis, Hash};

use crate::actors::chain::ChainMessage;
use crate::actors::storage;

/// Blocks that are sent again in one go, at most; the chain asks again and the rest follows.
const MAX_REPLAY: usize = 100_000;
/// While blocks are sent again, the head is moved every so many, so that clients that execute only below their head go
/// on, and a crash costs no more.
const REPLAY_STEP: usize = 16;

/// What the engine is asked.
pub enum EngineMessage {
    /// Is this block valid?
    Execute { hash: Hash, block: Option<Arc<Block>> },
    /// Set the fork choice.
    Forkchoice { head: (Hash, Hash), safe: Hash, finalized: Hash },
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
        let forkchoice =
            ForkchoiceState { head_block_hash: first, safe_block_hash: first, finalized_block_hash: first };
        EngineActor { client, genesis, cancun_time, chain, storage, reachable: true, forkchoice }
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
                    tracing::info!("the execution client answers again");
                    self.tell(ChainMessage::ExecutionRestarted).await;
                }
                Some(value)
            }
            Err(error) => {
                if self.reachable {
                    tracing::warn!(%error, "the execution client does not answer; asking again");
                }
                if matches!(error, ExecutionError::Transport { .. } | ExecutionError::Auth { .. }) {
                    self.reachable = false;
                }
                None
            }
        }
    }

    async fn execute(&mut self, hash: Hash, block: Option<Arc<Block>>) -> Result<Verdict, EngineError> {
        if hash == self.genesis.hash() {
            return Ok(self.check_genesis().await);
        }
        let block = match block {
            Some(block) => block,
            None => match self.storage.block(hash).await? {
                Some(block) => block,
                None => {
                    tracing::error!(%hash, "a block that was stored is not in the store");
                    return Ok(Verdict::Unknown);
                }
            },
        };
        match self.new_payload(&block).await {
            Verdict::Unknown if self.reachable => {
                if self.replay(&block).await? {
                    Ok(self.new_payload(&block).await)
                } else {
                    Ok(Verdict::Unknown)
                }
            }
            verdict => Ok(verdict),
        }
    }

    async fn check_genesis(&mut self) -> Verdict {
        let found = self.client.block_by_tag(BlockTag::Number(0)).await;
        let Some(found) = self.note(found).await else { return Verdict::Unknown };
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
        let status = self.client.new_payload(payload, block.header.parent_hash.into()).await;
        let Some(status) = self.note(status).await else { return Verdict::Unknown };
        match status.status {
            PayloadStatusEnum::Valid => Verdict::Valid,
            PayloadStatusEnum::Invalid { validation_error } => {
                tracing::warn!(height = %block.header.height, slot = %block.header.slot, reason = %validation_error,
                    "the execution client calls a payload invalid");
                Verdict::Invalid
            }
            PayloadStatusEnum::Syncing | PayloadStatusEnum::Accepted => Verdict::Unknown,
        }
    }

    /// Sends the ancestors that the client lost again, oldest first. True when it has them all.
    async fn replay(&mut self, block: &Block) -> Result<bool, EngineError> {
        let mut missing = VecDeque::new();
        let mut parent = block.header.parent_hash;
        while parent != self.genesis.hash() {
            let Some(ancestor) = self.storage.block(parent).await? else { return Ok(false) };
            let known = self.client.block_by_hash(ancestor.header.execution_hash.into()).await;
            match self.note(known).await {
                None => return Ok(false),
                Some(Some(_)) => break,
                Some(None) => missing.push_back(parent),
            }
            if missing.len() > MAX_REPLAY {
                missing.pop_front(); // The newest: its turn comes when those below it are there.
            }
            parent = ancestor.header.parent_hash;
        }
        if missing.is_empty() {
            return Ok(false);
        }
        tracing::info!(blocks = missing.len(), "sending blocks that the execution client lost");
        for (i, hash) in missing.iter().rev().enumerate() {
            let Some(ancestor) = self.storage.block(*hash).await? else { return Ok(false) };
            if self.new_payload(&ancestor).await != Verdict::Valid {
                return Ok(false);
            }
            if (i + 1) % REPLAY_STEP == 0 || i + 1 == missing.len() {
                let first = self.genesis.header().execution_hash.into();
                let state = ForkchoiceState {
                    head_block_hash: ancestor.header.execution_hash.into(),
                    safe_block_hash: first,
                    finalized_block_hash: first,
                };
                let updated = self.client.forkchoice_updated(state, None).await;
                if self.note(updated).await.is_none() {
                    return Ok(false);
                }
                self.forkchoice = state;
            }
        }
        Ok(true)
    }

    async fn set_forkchoice(&mut self, head: Hash, safe: Hash, finalized: Hash) {
        let state = ForkchoiceState {
            head_block_hash: head.into(),
            safe_block_hash: safe.into(),
            finalized_block_hash: finalized.into(),
        };
        let updated = self.client.forkchoice_updated(state, None).await;
        match self.note(updated).await {
            Some(updated) if updated.payload_status.is_valid() => self.forkchoice = state,
            Some(updated) => {
                tracing::debug!(status = ?updated.payload_status.status, "fork choice is not followed");
                self.tell(ChainMessage::ExecutionRestarted).await;
            }
            // Told again by the chain once the client is back.
            None => {}
        }
    }

    async fn build(&mut self, request: &PayloadRequest) -> Option<ExecutionPayload> {
        let deneb = self.cancun_time.is_some_and(|time| request.timestamp >= time);
        let attributes = PayloadAttributes {
            timestamp: request.timestamp,
            prev_randao: request.prev_randao.into(),
            suggested_fee_recipient: request.fee_recipient.into(),
            withdrawals: Some(Vec::new()),
            parent_beacon_block_root: deneb.then(|| request.parent.into()),
            ..PayloadAttributes::default()
        };
        let fork = PayloadFork::of_attributes(&attributes);
        let state = ForkchoiceState { head_block_hash: request.parent_execution.into(), ..self.forkchoice };
        let updated = self.client.forkchoice_updated(state, Some(attributes)).await;
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
        match msg {
            EngineMessage::Execute { hash, block } => {
                let verdict = self.execute(hash, block).await?;
                self.tell(ChainMessage::Executed { hash, verdict }).await;
            }
            EngineMessage::Forkchoice { head: (_, head), safe, finalized } => {
                self.set_forkchoice(head, safe, finalized).await;
            }
            EngineMessage::Build(request) => {
                let PayloadRequest { slot, parent, .. } = request;
                let message = match self.build(&request).await {
                    Some(payload) => ChainMessage::Built { slot, parent, payload: Box::new(payload) },
                    None => ChainMessage::BuildFailed { slot, parent },
                };
                self.tell(message).await;
            }
        }
        Ok(())
    }
}
