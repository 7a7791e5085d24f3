//! Embedded counterparts of external systems, which a node can run in its own process. Development,
//! tests and simulations need no installation, and the node talks to them over the same protocols
//! as to the real systems.

pub mod execution;
pub mod rpc;

#[cfg(madsim)]
pub use rpc::{BuildFault, ExecutionFaultInjector, ExecutionFaults, ReceiptsFault};
pub use rpc::{
    ExecutionObserver, ExecutionServer, ExecutionServerConfig, NodeView, PublicLimits,
    RequestCount, Requests, StartError, SyncState,
};
