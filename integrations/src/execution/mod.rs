//! The execution client as the node sees it: the Engine API, and the few look-ups that a replay needs.
//!
//! [`ExecutionClient`] is the interface, [`HttpEngine`] speaks it to any client over HTTP with JWT: Geth, Reth,
//! EthereumJS, or our own in [`crate::embedded`]. Promises: the method version follows the payload's fork (V2 for
//! Capella, V3 for Deneb), what clients deviate in is evened out here, and [`ExecutionError`] says who has to act.
//! Never: retries, remembers a fork choice, or decides what a status means.

mod convert;
mod engine;
mod error;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_engine::{
    ExecutionPayload, ForkchoiceState, ForkchoiceUpdated, PayloadAttributes, PayloadId,
    PayloadStatus,
};
use futures::future::BoxFuture;

pub use convert::{from_wire, to_wire, withdrawals_to_wire};
pub use engine::HttpEngine;
pub use error::ExecutionError;

/// Which shape a payload has, and with it which version of each method carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadFork {
    /// Withdrawals; `V2` methods.
    Capella,
    /// Blob gas fields and the parent beacon block root; `V3` methods.
    Deneb,
}

impl PayloadFork {
    /// The fork whose payload the attributes ask for.
    pub fn of_attributes(attributes: &PayloadAttributes) -> Self {
        match attributes.parent_beacon_block_root {
            Some(_) => Self::Deneb,
            None => Self::Capella,
        }
    }

    /// The fork of a payload; `None` for shapes Alys has no use for.
    pub fn of_payload(payload: &ExecutionPayload) -> Option<Self> {
        match payload {
            ExecutionPayload::V2(_) => Some(Self::Capella),
            ExecutionPayload::V3(_) => Some(Self::Deneb),
            ExecutionPayload::V1(_) | ExecutionPayload::V4(_) => None,
        }
    }
}

/// What a client says it can do. Names we do not know are kept: some clients list methods they do not have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities(pub BTreeSet<String>);

impl Capabilities {
    /// The methods of `fork` that the client does not list.
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

/// A block of the execution chain as a look-up names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockRef {
    /// Its hash.
    pub hash: B256,
    /// Its parent's.
    pub parent_hash: B256,
    /// Its number.
    #[serde(with = "quantity")]
    pub number: u64,
    /// Its time, in seconds.
    #[serde(with = "quantity")]
    pub timestamp: u64,
    /// The state after it.
    pub state_root: B256,
}

/// Which block is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockTag {
    /// The canonical block of that number.
    Number(u64),
    /// The head.
    Latest,
    /// The safe block of the last fork choice.
    Safe,
    /// The finalized block of the last fork choice.
    Finalized,
}

/// A payload a client has built.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltPayload {
    /// The block.
    pub payload: ExecutionPayload,
    /// What its fee recipient earns, in wei.
    pub block_value: alloy_primitives::U256,
}

/// The Engine API. Every call has a deadline, may be repeated, and may be dropped at any time.
pub trait ExecutionClient: Send + Sync + 'static {
    /// Which methods the client has.
    fn exchange_capabilities(&self) -> BoxFuture<'_, Result<Capabilities, ExecutionError>>;

    /// Sets head, safe and finalized block; with attributes, also starts to build on the head.
    fn forkchoice_updated(
        &self,
        state: ForkchoiceState,
        attributes: Option<PayloadAttributes>,
    ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>>;

    /// Takes the payload that was started under `id`.
    fn get_payload(
        &self,
        fork: PayloadFork,
        id: PayloadId,
    ) -> BoxFuture<'_, Result<BuiltPayload, ExecutionError>>;

    /// Hands a payload over for execution. `parent_beacon_block_root` belongs to Deneb and is not looked at before.
    fn new_payload(
        &self,
        payload: ExecutionPayload,
        parent_beacon_block_root: B256,
    ) -> BoxFuture<'_, Result<PayloadStatus, ExecutionError>>;

    /// A block by hash, canonical or not; `None` when the client does not have it.
    fn block_by_hash(&self, hash: B256) -> BoxFuture<'_, Result<Option<BlockRef>, ExecutionError>>;

    /// A canonical block; `None` when there is none.
    fn block_by_tag(
        &self,
        tag: BlockTag,
    ) -> BoxFuture<'_, Result<Option<BlockRef>, ExecutionError>>;

    /// The chain id transactions are signed for.
    fn chain_id(&self) -> BoxFuture<'_, Result<u64, ExecutionError>>;

    /// Name and version, for logs.
    fn client_version(&self) -> BoxFuture<'_, Result<String, ExecutionError>>;

    /// Puts a signed transaction into the client's pool; gives its hash.
    fn send_raw_transaction(
        &self,
        transaction: Bytes,
    ) -> BoxFuture<'_, Result<B256, ExecutionError>>;

    /// The transactions of the client's pool that can be executed now, EIP-2718 encoded, at most `limit`, each sender's in
    /// order of their nonces. Empty where the client does not tell.
    fn pending_transactions(
        &self,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ExecutionError>>;

    /// The hash of block 0: that of another chain means the client was set up with another genesis.
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

/// Quantities (`0x1f`) as numbers.
mod quantity {
    use alloy_primitives::U64;
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Ok(U64::deserialize(deserializer)?.to())
    }
}
