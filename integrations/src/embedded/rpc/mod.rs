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
//! Reads share the core and writes lock it exclusively; neither holds it across an await. After a
//! write that failed in the store the state on disk is unknown, so every later call is refused
//! until a restart.

mod engine;
mod eth;
#[cfg(madsim)]
mod faults;
mod filters;
mod node_view;
mod requests;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod txpool;

#[cfg(madsim)]
pub use faults::{ExecutionFaultInjector, ExecutionFaults};
pub use node_view::{NodeView, SyncState};
pub use requests::{RequestCount, Requests};
pub use server::{ExecutionObserver, ExecutionServer, ExecutionServerConfig, StartError};
