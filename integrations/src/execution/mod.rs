//! The node's interface to its execution client: the Engine API, and the block look-ups that a
//! replay needs.
//!
//! [`ExecutionClient`] is the interface. [`HttpEngine`] implements it over HTTP with JWT for any
//! client: Geth, Reth, EthereumJS, or [`crate::embedded`].
//!
//! **Guarantees** that the method version matches the payload's fork (V2 for Capella, V3 for
//! Deneb), that deviations of clients from the specification are normalised here, and that
//! [`ExecutionError`] names who has to act.
//!
//! **Never** retries, remembers a fork choice, or interprets a status. It remembers how the client
//! serves its pool and its receipts.

mod convert;
mod engine;
mod error;
mod pool;
mod receipts;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_engine::{
    ExecutionPayload, ForkchoiceState, ForkchoiceUpdated, PayloadAttributes, PayloadId,
    PayloadStatus,
};
use futures::future::BoxFuture;

pub use convert::{from_wire, to_wire, withdrawals_to_wire};
pub use engine::HttpEngine;
pub use error::ExecutionError;

/// The fork that determines a payload's fields and the version of each method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadFork {
    /// Withdrawals; `V2` methods.
    Capella,
    /// Blob gas fields and the parent beacon block root; `V3` methods.
    Deneb,
}

impl PayloadFork {
    /// The fork of the payload that is built from `attributes`.
    pub fn of_attributes(attributes: &PayloadAttributes) -> Self {
        match attributes.parent_beacon_block_root {
            Some(_) => Self::Deneb,
            None => Self::Capella,
        }
    }

    /// The fork of a payload; `None` for versions that Alys does not use.
    pub fn of_payload(payload: &ExecutionPayload) -> Option<Self> {
        match payload {
            ExecutionPayload::V2(_) => Some(Self::Capella),
            ExecutionPayload::V3(_) => Some(Self::Deneb),
            ExecutionPayload::V1(_) | ExecutionPayload::V4(_) => None,
        }
    }
}

/// The methods that a client announces, including unknown ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities(pub BTreeSet<String>);

impl Capabilities {
    /// The required methods of `fork` that the client does not announce.
    pub fn missing(&self, fork: PayloadFork) -> Vec<&'static str> {
        let needed = match fork {
            PayloadFork::Capella => [
                "engine_forkchoiceUpdatedV2",
                "engine_getPayloadV2",
                "engine_newPayloadV2",
            ],
            PayloadFork::Deneb => [
                "engine_forkchoiceUpdatedV3",
                "engine_getPayloadV3",
                "engine_newPayloadV3",
            ],
        };
        needed
            .into_iter()
            .filter(|method| !self.0.contains(*method))
            .collect()
    }
}

/// The fields of an execution block that the node uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionBlock {
    pub hash: B256,
    pub parent_hash: B256,
    #[serde(with = "quantity")]
    pub number: u64,
    /// Unix time in seconds.
    #[serde(with = "quantity")]
    pub timestamp: u64,
    /// Root of the state after the block.
    pub state_root: B256,
}

/// Selects the block of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockTag {
    /// The canonical block at this height.
    Number(u64),
    /// The head of the canonical chain.
    Latest,
    /// The safe block of the last fork choice.
    Safe,
    /// The finalized block of the last fork choice.
    Finalized,
}

/// A payload that the client has built.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltPayload {
    pub payload: ExecutionPayload,
    /// Income of the fee recipient in wei.
    pub block_value: alloy_primitives::U256,
}

/// The Engine API. Every call has a deadline, is idempotent, and may be cancelled at any time.
pub trait ExecutionClient: Send + Sync + 'static {
    /// Exchanges the lists of supported methods and returns the client's.
    fn exchange_capabilities(&self) -> BoxFuture<'_, Result<Capabilities, ExecutionError>>;

    /// Sets head, safe and finalized block. With attributes it also starts to build a payload on
    /// the head.
    fn forkchoice_updated(
        &self,
        state: ForkchoiceState,
        attributes: Option<PayloadAttributes>,
    ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>>;

    /// As [`forkchoice_updated`](Self::forkchoice_updated) with attributes, for a payload without
    /// transactions. The Engine API has no such call: the attribute `noTxPool` of OP clients asks
    /// for it, which the embedded client knows too. A client that does not know the attribute
    /// ignores it, or refuses it and is asked without it, so the payload may contain transactions.
    fn begin_empty_payload(
        &self,
        state: ForkchoiceState,
        attributes: PayloadAttributes,
    ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>>;

    /// Returns the payload whose build was started under `id`.
    fn get_payload(
        &self,
        fork: PayloadFork,
        id: PayloadId,
    ) -> BoxFuture<'_, Result<BuiltPayload, ExecutionError>>;

    /// Sends a payload for execution. `parent_beacon_block_root` is used from Deneb on.
    fn new_payload(
        &self,
        payload: ExecutionPayload,
        parent_beacon_block_root: B256,
    ) -> BoxFuture<'_, Result<PayloadStatus, ExecutionError>>;

    /// A block by hash, canonical or not; `None` when the client does not have it.
    fn block_by_hash(
        &self,
        hash: B256,
    ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>>;

    /// A canonical block; `None` when the client does not have it.
    fn block_by_tag(
        &self,
        tag: BlockTag,
    ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>>;

    /// The receipts of a block by hash, canonical or not, in the order of its transactions. `None`
    /// when the client does not have them: it does not have the block (yet), or no longer its
    /// receipts. They are not checked here: the block's receipts root decides.
    /// [`ExecutionError::ReceiptsNotServed`] for a client without a method for it.
    fn receipts(
        &self,
        block: B256,
    ) -> BoxFuture<'_, Result<Option<Vec<ReceiptEnvelope>>, ExecutionError>>;

    /// The chain id of EIP-155 signatures.
    fn chain_id(&self) -> BoxFuture<'_, Result<u64, ExecutionError>>;

    /// Name and version, for logs.
    fn client_version(&self) -> BoxFuture<'_, Result<String, ExecutionError>>;

    /// Adds a signed transaction to the client's pool and returns its hash.
    fn send_raw_transaction(
        &self,
        transaction: Bytes,
    ) -> BoxFuture<'_, Result<B256, ExecutionError>>;

    /// At most `limit` executable transactions of the client's pool that can pay the base fee of
    /// the next block, EIP-2718 encoded, within a budget of bytes. A large pool is read in parts:
    /// each read has the transactions that arrived last, or those that pay best.
    /// [`ExecutionError::PoolNotServed`] for a client without a method for it.
    fn pending_transactions(
        &self,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ExecutionError>>;

    /// The hash of block 0, which reveals a client that was initialised with another genesis.
    fn genesis_hash(&self) -> BoxFuture<'_, Result<B256, ExecutionError>> {
        Box::pin(async {
            match self.block_by_tag(BlockTag::Number(0)).await? {
                Some(block) => Ok(block.hash),
                None => Err(ExecutionError::Invalid {
                    method: "eth_getBlockByNumber",
                    reason: "the client has no block 0".to_owned(),
                }),
            }
        })
    }
}

/// Deserialises JSON-RPC quantities such as `0x1f`.
mod quantity {
    use alloy_primitives::U64;
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Ok(U64::deserialize(deserializer)?.to())
    }
}
