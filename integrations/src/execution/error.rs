//! What can go wrong between node and execution client, sorted by who has to act.

use alloy_rpc_types_engine::PayloadId;

use crate::http::{CallError, RpcError};

/// Why a call to the execution client has no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The world's fault: not running, restarting, overloaded, unreachable. Repeat with a pause.
    #[error("the execution client cannot be reached: {source}")]
    Transport {
        /// What happened.
        #[source]
        source: CallError,
    },
    /// The operator's fault: repeating does not help.
    #[error(
        "the execution client does not accept our token: {source}. Compare the JWT secret files of both sides, and \
         their clocks (60 s apart at most)"
    )]
    Auth {
        /// What the client said.
        #[source]
        source: CallError,
    },
    /// The payload is not known (any more): start building again.
    #[error("the execution client does not know payload {id}")]
    UnknownPayload {
        /// The id asked for.
        id: PayloadId,
    },
    /// The client understood the call and refuses it.
    #[error("the execution client refuses {method}: {error}")]
    Rpc {
        /// The call.
        method: &'static str,
        /// Its answer.
        #[source]
        error: RpcError,
    },
    /// The client's fault: its answer is not of the shape the method has.
    #[error("the execution client answers {method} in a way that makes no sense: {reason}")]
    Invalid {
        /// The call.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Our fault: no method carries a payload of this shape.
    #[error("payloads of this version are not supported: only Capella and Deneb are")]
    UnsupportedPayload,
}

/// Unknown payload, by the Engine API.
const UNKNOWN_PAYLOAD: i64 = -38001;
/// Unknown payload, as EthereumJS has it.
const UNKNOWN_PAYLOAD_ETHEREUMJS: i64 = -32001;
/// The fork choice names blocks that do not belong together, or unknown ones.
const INVALID_FORKCHOICE_STATE: i64 = -38002;

impl ExecutionError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Transport { .. })
    }

    /// Whether the client refused the fork choice itself (unknown or unrelated safe or finalized block).
    pub fn is_invalid_forkchoice(&self) -> bool {
        matches!(self, Self::Rpc { error, .. } if error.code == INVALID_FORKCHOICE_STATE)
    }

    pub(super) fn from_call(method: &'static str, error: CallError) -> Self {
        match error {
            source @ (CallError::Connect { .. }
            | CallError::Broken { .. }
            | CallError::Timeout { .. }
            | CallError::Ended { .. }) => Self::Transport { source },
            source @ CallError::Unauthorized { .. } => Self::Auth { source },
            // Request timeout, too many requests, and everything a server calls its own fault.
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

    /// The same error, but with the two ways to say "unknown payload" made one.
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
