//! Errors between node and execution client, classified by who has to act.

use alloy_rpc_types_engine::PayloadId;

use crate::http::{CallError, RpcError};

/// A failed call to the execution client.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// External: the client is not running, restarting, overloaded or unreachable. Retry after a
    /// delay.
    #[error("the execution client cannot be reached: {source}")]
    Transport {
        #[source]
        source: CallError,
    },
    /// Misconfiguration: the operator must act, and a retry does not help.
    #[error(
        "the execution client does not accept our token: {source}. Compare the JWT secret files \
         of both sides, and their clocks (60 s apart at most)"
    )]
    Auth {
        #[source]
        source: CallError,
    },
    /// The client never had the payload or has dropped it. Start a new build.
    #[error("the execution client does not know payload {id}")]
    UnknownPayload { id: PayloadId },
    /// The client answered with a JSON-RPC error.
    #[error("the execution client refuses {method}: {error}")]
    Rpc {
        method: &'static str,
        #[source]
        error: RpcError,
    },
    /// A fault of the client: its answer violates the specification of the method.
    #[error("the execution client sent an invalid answer to {method}: {reason}")]
    Invalid {
        method: &'static str,
        reason: String,
    },
    /// Misconfiguration: the transactions that this client gets do not reach other leaders.
    #[error(
        "the execution client serves its pool on this port neither by \
         eth_newPendingTransactionFilter and eth_getRawTransactionByHash nor by txpool_content, so \
         the transactions that it gets reach other leaders only through its own network: give the \
         URL of its public JSON-RPC as pool_url in [execution], and enable eth there (Reth: --http \
         --http.api eth,txpool; ethrex: --http.api eth,txpool)"
    )]
    PoolNotServed,
    /// Misconfiguration: without receipts the node can neither propose nor approve.
    #[error(
        "the execution client serves receipts neither by eth_getBlockReceipts nor by \
         eth_getTransactionReceipt: give the URL of its public JSON-RPC as pool_url in \
         [execution], and enable eth there (Reth, ethrex: --http --http.api eth,txpool; \
         EthereumJS: --rpc)"
    )]
    ReceiptsNotServed,
    /// A fault of the node: no supported method accepts a payload of this version.
    #[error("the payload version is not supported: only Capella and Deneb are")]
    UnsupportedPayload,
}

/// "Unknown payload" of the Engine API.
const UNKNOWN_PAYLOAD: i64 = -38001;
/// "Unknown payload" of EthereumJS.
const UNKNOWN_PAYLOAD_ETHEREUMJS: i64 = -32001;
/// "Invalid forkchoice state" of the Engine API: unknown or inconsistent blocks.
const INVALID_FORKCHOICE_STATE: i64 = -38002;
/// "Unsupported fork" of the Engine API: the fields of a payload are not those of its fork.
const UNSUPPORTED_FORK: i64 = -38005;
/// "Invalid params" of JSON-RPC.
const INVALID_PARAMS: i64 = -32602;

impl ExecutionError {
    /// True when the same call may succeed later without intervention.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Transport { .. })
    }

    /// True when the client refused the fork choice because a safe or finalized block is unknown or
    /// inconsistent.
    pub fn is_invalid_forkchoice(&self) -> bool {
        matches!(self, Self::Rpc { error, .. } if error.code == INVALID_FORKCHOICE_STATE)
    }

    /// True when the client refused the fields of a call, so that the same call cannot succeed: a
    /// payload has the fields of another fork, for instance.
    pub fn is_unfit(&self) -> bool {
        matches!(
            self,
            Self::Rpc { error, .. } if matches!(error.code, UNSUPPORTED_FORK | INVALID_PARAMS)
        )
    }

    pub(super) fn from_call(method: &'static str, error: CallError) -> Self {
        match error {
            source @ (CallError::Connect { .. }
            | CallError::Broken { .. }
            | CallError::Timeout { .. }
            | CallError::Ended { .. }) => Self::Transport { source },
            source @ CallError::Unauthorized { .. } => Self::Auth { source },
            // Request timeout, too many requests, and server errors.
            source @ CallError::Status {
                status: 408 | 429 | 500..,
                ..
            } => Self::Transport { source },
            CallError::Rpc { error, .. } => Self::Rpc { method, error },
            error @ (CallError::Status { .. }
            | CallError::TooLarge { .. }
            | CallError::Invalid { .. }) => Self::Invalid {
                method,
                reason: error.to_string(),
            },
        }
    }

    /// Maps both codes for "unknown payload" to [`Self::UnknownPayload`].
    pub(super) fn for_payload(self, id: PayloadId) -> Self {
        match self {
            Self::Rpc { error, .. }
                if matches!(error.code, UNKNOWN_PAYLOAD | UNKNOWN_PAYLOAD_ETHEREUMJS) =>
            {
                Self::UnknownPayload { id }
            }
            other => other,
        }
    }
}
