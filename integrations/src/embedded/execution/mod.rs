//! The core of the embedded execution client: an EVM chain on revm.
//!
//! **Owns** the chain's blocks, receipts, world state (a Merkle Patricia trie stored by node), fork
//! choice, transaction pool and payload builder. It is synchronous and deterministic, without
//! clock, tasks or sockets, and its only IO is the [`alys_storage::Store`] that it was opened with.
//! Time is part of the payload attributes.
//!
//! **Guarantees** that a block is `VALID` only after it was executed and every field of its header
//! verified; that the store holds a block with its complete state or not at all; and that the head
//! survives a power loss once [`ExecutionCore::forkchoice_updated`] has returned. Every cache,
//! queue and answer has a limit in [`limits`].
//!
//! **Never** uses the network, executes blob transactions, or supports forks after Cancun (a
//! genesis that schedules one is refused).
//!
//! ```text
//! rpc (JSON, HTTP) -> ExecutionCore -> chain (import, fork choice) -> executor (revm)
//!                                   |                                   -> state -> trie -> Store
//!                                   -> builder, pool, queries
//! ```
//!
//! # Interface
//!
//! ```text
//! ExecutionCore::open(store: Store, genesis: &alloy_genesis::Genesis, config: CoreConfig)
//!     -> Result<ExecutionCore, Error>
//! reader() -> ChainReader          // view() -> ChainView: every query below, without the core
//! chain_id() -> u64            genesis_hash() -> B256          fork_at(timestamp: u64) -> Fork
//! head() / safe() / finalized() -> BlockNumHash       // safe and finalized: initially genesis
//!
//! new_payload(&mut self, ExecutionPayload, ExecutionPayloadSidecar)
//!     -> Result<PayloadStatus, Error>
//! forkchoice_updated(&mut self, ForkchoiceState, Option<PayloadAttributes>)
//!     -> Result<ForkchoiceUpdated, Error>
//! begin_empty_payload(&mut self, ForkchoiceState, PayloadAttributes)
//!     -> Result<ForkchoiceUpdated, Error>
//! get_payload(&mut self, PayloadId)                   // Error::UnknownPayload -> -38001
//!     -> Result<BuiltPayload, Error>
//! payload_body_by_hash(B256) / payload_bodies_by_range(start: u64, count: u64)
//!
//! add_transaction(raw: &[u8])                         // Error::Pool(PoolError), Geth's texts
//!     -> Result<B256, Error>
//! pool_status() / pool_content() / pool_content_within(Option<Address>) / pool_transaction(B256)
//! pool_version()
//! save_pool(&mut self)                                // before an orderly stop
//!
//! block(BlockId)                                      // consensus block, hash, senders
//!     -> Result<Option<Arc<StoredBlock>>, Error>
//! header(BlockId) / receipts(BlockId)                 // as stored
//! rpc_block(BlockId, full: bool) -> Result<Option<alloy_rpc_types_eth::Block>, Error>
//! rpc_transaction(B256) / rpc_transaction_at(BlockId, index)
//! rpc_receipt(B256) / rpc_block_receipts(BlockId)
//! balance, nonce, code, storage_at, proof             // nonce(.., pending) counts the pool; the
//!     (Address, .., BlockId)                          // state of `pending` is the head's
//! logs(&Filter) -> Result<Vec<Log>, Error>            // count bounded
//! removed_logs(B256, &Filter)                         // of a block that left the chain; None once
//!     -> Result<Option<Vec<Log>>, Error>              // it is pruned
//! pending_header() -> Header                          // of the next block, as far as known
//! rpc_pending_block() -> alloy_rpc_types_eth::Block   // without transactions; hash zero
//! call(&TransactionRequest, BlockId)                  // Error::Reverted { data } -> code 3
//!     -> Result<Bytes, Error>                         // `pending` runs in the next block
//! estimate_gas(&TransactionRequest, BlockId) -> Result<u64, Error>
//! fee_history(count, newest, percentiles) / gas_price() / max_priority_fee() / blob_base_fee()
//!
//! Error::code() -> i32                                // the JSON-RPC error code
//! ```

mod blocks;
mod builder;
mod cache;
mod calls;
mod chain;
mod error;
mod executor;
mod genesis;
mod header;
mod jobs;
mod journal;
pub mod limits;
mod meter;
mod pool;
mod queries;
mod sender;
mod state;
mod trie;
mod view;

pub use blocks::{SealedHeader, StoredBlock};
pub use builder::BuiltPayload;
pub use chain::{CoreConfig, ExecutionCore};
pub use error::{Error, PoolError};
pub use genesis::{ChainRules, Fork};
pub use meter::{Interrupted, Meter};
pub use pool::{BySender, PoolConfig, PoolContent, PoolStatus};
pub use queries::check_filter;
pub use view::{ChainReader, ChainView};

#[cfg(test)]
mod tests;
