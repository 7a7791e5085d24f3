//! The embedded execution client's two ports: the Engine API with JWT, and everyday Ethereum JSON-RPC.
//!
//! Owns: the JSON shapes, the error codes, filters and the two HTTP servers around one
//! [`ExecutionCore`](super::execution::ExecutionCore). Promises: a wallet or a consensus node cannot tell it from Geth
//! by what it answers to the methods it has; a method it has not is -32601. Never: decides anything about the chain.
//!
//! Reads share the core, writes have it alone; neither is held across an await. A write that fails with the store ends
//! the service: what was written of it is unknown, so every later call is refused until a restart has looked.

#[cfg(madsim)]
mod bend;
mod engine;
mod eth;
mod filters;
mod node;
mod requests;
mod server;
#[cfg(test)]
mod tests;
mod txpool;

#[cfg(madsim)]
pub use bend::{Bend, Bending};
pub use requests::{RequestCount, Requests};
pub use server::{ExecutionServer, ExecutionServerConfig, StartError, Witness};
