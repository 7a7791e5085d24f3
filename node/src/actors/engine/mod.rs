//! EngineActor: the conversation with the execution client.
//!
//! Owns the Engine API connection. Guarantees one answer to each question, in order: an unreachable
//! or forgetful client is an external failure, answered as "not yet", and the chain asks again.
//! Blocks that the client lost are sent again from the storage, see [`replay`]. Receipts of the
//! client count under the receipts root of their block only, see [`accounts`]. Never decides about
//! blocks: only the client's `VALID` is valid.

mod accounts;
mod actor;
mod backoff;
mod config;
mod metrics;
mod replay;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use alys_actor_system::Message;
use alys_consensus::PayloadRequest;
use alys_types::{Block, Hash};

pub use actor::{EngineActor, EngineError};
pub use config::EngineTimeouts;
pub use metrics::{MeteredClient, Metrics};

pub enum EngineMessage {
    /// Execute a block; from the storage if `block` is none.
    Execute {
        hash: Hash,
        block: Option<Arc<Block>>,
    },
    /// Set the fork choice, by hashes of execution blocks.
    Forkchoice {
        head: Hash,
        safe: Hash,
        finalized: Hash,
    },
    Build(PayloadRequest),
    /// The additions of an executed block to the ledger, from its receipts; the block from the
    /// storage if `block` is none.
    Account {
        hash: Hash,
        block: Option<Arc<Block>>,
    },
    /// Send the last fork choice, which the client did not follow, again: the actor's own timer.
    RetryForkchoice,
}

impl Message for EngineMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Execute { .. } => "execute",
            Self::Forkchoice { .. } => "forkchoice",
            Self::Build(_) => "build",
            Self::Account { .. } => "account",
            Self::RetryForkchoice => "retry_forkchoice",
        }
    }
}
