//! EngineActor: the conversation with the execution client.
//!
//! Owns the Engine API connection. Guarantees one answer to each question, in order: an unreachable
//! or forgetful client is an external failure, answered as "not yet", and the chain asks again.
//! Blocks that the client lost are sent again from the storage, see [`replay`]. Receipts of the
//! client count under the receipts root of their block only, see [`accounts`]; those that it lost
//! come from peers, whose questions it answers likewise, see [`serving`]. Never decides about
//! blocks: only the client's `VALID` is valid.

mod accounts;
mod actor;
mod backoff;
mod config;
mod metrics;
mod replay;
mod serving;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use alloy_consensus::ReceiptEnvelope;
use alys_actor_system::{Message, Priority, Reply};
use alys_consensus::PayloadRequest;
use alys_types::{Block, Hash};

pub use actor::{EngineActor, EngineError};
pub use config::EngineTimeouts;
pub use metrics::{MeteredClient, Metrics};
pub(crate) use serving::checked_receipts;
pub use serving::{MAX_PEER_RECEIPTS, PeerReceipts, ReceiptsPlace};

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
    /// From the PeerActor: receipts that the client lacks, under the receipts root of their block.
    ReceiptsReceived {
        hash: Hash,
        receipts: Vec<ReceiptEnvelope>,
    },
    /// The receipts of an execution block for a peer; none if the client does not have them. Beside
    /// other messages, so that nothing of the chain waits for the call.
    GetReceipts {
        execution_hash: Hash,
        place: ReceiptsPlace,
        reply: Reply<Option<Vec<ReceiptEnvelope>>>,
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
            Self::ReceiptsReceived { .. } => "receipts_received",
            Self::GetReceipts { .. } => "get_receipts",
            Self::RetryForkchoice => "retry_forkchoice",
        }
    }

    /// Questions of peers yield to those of the chain.
    fn priority(&self) -> Priority {
        match self {
            Self::GetReceipts { .. } => Priority::Low,
            Self::Execute { .. }
            | Self::Forkchoice { .. }
            | Self::Build(_)
            | Self::Account { .. }
            | Self::ReceiptsReceived { .. }
            | Self::RetryForkchoice => Priority::Normal,
        }
    }
}
