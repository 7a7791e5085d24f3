//! Counterparts of the world outside that a node can carry in its own process: in development, in tests and in
//! simulation there is nothing to install, and what the node says to them goes over the same wire.

pub mod execution;
pub mod rpc;

#[cfg(madsim)]
pub use rpc::{Bend, Bending};
pub use rpc::{
    ExecutionServer, ExecutionServerConfig, RequestCount, Requests, StartError, Witness,
};
