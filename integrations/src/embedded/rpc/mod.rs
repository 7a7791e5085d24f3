//! The embedded execution client's two ports: the Engine API with JWT, and the public Ethereum
//! JSON-RPC.
//!
//! **Owns** the JSON shapes, the error codes, filters and the two HTTP servers around one
//! [`ExecutionCore`](super::execution::ExecutionCore).
//!
//! **Guarantees** that its answers have the same shape as Geth's for every method that it
//! implements; other methods fail with -32601.
//!
//! **Never** decides about the chain. Facts of the network (`eth_syncing`, `net_peerCount`) come
//! from the node, through a [`NodeView`].
//!
//! The Engine API changes the core, under its lock. Everything else reads
//! [views](super::execution::ChainView), so neither waits for the other. Reads of the public
//! port run on the few threads of [`alys_runtime::offload`], end after a time limit or when their
//! caller has left, and are limited in number; those of the consensus node run at once. After a
//! write that failed in the store the state on disk is unknown, so every later call is refused
//! until a restart.

mod engine;
mod eth;
#[cfg(madsim)]
mod faults;
mod filters;
mod methods;
mod node_view;
mod requests;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod txpool;

#[cfg(madsim)]
pub use faults::{BuildFault, ExecutionFaultInjector, ExecutionFaults, ReceiptsFault};
pub use methods::{ENGINE_METHODS, EXCHANGE_CAPABILITIES, PUBLIC_METHODS};
pub use node_view::{NodeView, SyncState};
pub use requests::{RequestCount, Requests};
pub use server::{
    ExecutionObserver, ExecutionServer, ExecutionServerConfig, Lasting, PublicLimits, StartError,
};
