//! Reasons for which a message was not accepted ([`TellError`], [`SendError`]) or not answered
//! ([`AskError`]).

use std::{fmt, sync::Arc, time::Duration};

use crate::mailbox::access::Refusal;

/// Reason for which `tell` did not deliver a message. The message is given back, so that the sender
/// can decide.
#[derive(thiserror::Error)]
pub enum TellError<M> {
    /// The mailbox has no room now.
    #[error("mailbox full")]
    Full(M),
    /// The actor has ended for good.
    #[error("mailbox closed")]
    Closed(M),
    /// The actor's circuit breaker is open.
    #[error("circuit breaker open")]
    Unavailable(M),
    /// The holder of this address may not send it, or not so often.
    #[error("{refusal}")]
    Refused {
        /// The message.
        msg: M,
        /// Reason.
        refusal: Refusal,
    },
}

impl<M> TellError<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(msg)
            | Self::Closed(msg)
            | Self::Unavailable(msg)
            | Self::Refused { msg, .. } => msg,
        }
    }

    /// True if there was no room, so that a later attempt may succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
            Self::Unavailable(_) => "Unavailable(..)",
            Self::Refused { .. } => "Refused(..)",
        })
    }
}

/// Reason for which `send` did not deliver a message, which is given back.
#[derive(thiserror::Error)]
pub enum SendError<M> {
    /// The mailbox has no room, and the message does not wait for it, or not any longer.
    #[error("mailbox full")]
    Full(M),
    /// The actor ended for good before it took the message.
    #[error("mailbox closed")]
    Closed(M),
    /// The actor's circuit breaker is open.
    #[error("circuit breaker open")]
    Unavailable(M),
    /// The holder of this address may not send it, or not so often.
    #[error("{refusal}")]
    Refused {
        /// The message.
        msg: M,
        /// Reason.
        refusal: Refusal,
    },
    /// The actor would never make room, because it waits for the sender.
    #[error("waiting for room would close a circle: {cycle}")]
    Cycle {
        /// The message.
        msg: M,
        /// The actors, each with what it asks the next one.
        cycle: Arc<str>,
    },
}

impl<M> SendError<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(msg)
            | Self::Closed(msg)
            | Self::Unavailable(msg)
            | Self::Refused { msg, .. }
            | Self::Cycle { msg, .. } => msg,
        }
    }
}

impl<M> From<TellError<M>> for SendError<M> {
    fn from(error: TellError<M>) -> Self {
        match error {
            TellError::Full(msg) => Self::Full(msg),
            TellError::Closed(msg) => Self::Closed(msg),
            TellError::Unavailable(msg) => Self::Unavailable(msg),
            TellError::Refused { msg, refusal } => Self::Refused { msg, refusal },
        }
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
            Self::Unavailable(_) => "Unavailable(..)",
            Self::Refused { .. } => "Refused(..)",
            Self::Cycle { .. } => "Cycle(..)",
        })
    }
}

/// Reason for which an `ask` has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The mailbox had no room: the question was not taken.
    #[error("{kind}: mailbox full")]
    Full {
        /// Kind of the question.
        kind: &'static str,
    },
    /// The actor has ended for good: the question was not taken.
    #[error("{kind}: mailbox closed")]
    Closed {
        /// Kind of the question.
        kind: &'static str,
    },
    /// The actor's circuit breaker is open: the question was not taken.
    #[error("{kind}: circuit breaker open")]
    Unavailable {
        /// Kind of the question.
        kind: &'static str,
    },
    /// The holder of this address may not ask it, or not so often: the question was not taken.
    #[error("{refusal}")]
    Refused {
        /// Reason.
        refusal: Refusal,
    },
    /// The actor waits for the one that asks, itself or through others: the question was not taken.
    #[error("{kind} would close a circle: {cycle}")]
    Cycle {
        /// Kind of the question.
        kind: &'static str,
        /// The actors, each with what it asks the next one.
        cycle: Arc<str>,
    },
    /// No answer came in time. The question may still be handled later.
    #[error("{kind}: no answer within {deadline:?}")]
    Timeout {
        /// Kind of the question.
        kind: &'static str,
        /// Time that the asker waited.
        deadline: Duration,
    },
    /// The question was dropped without an answer: its handler failed, or the actor ended.
    #[error("{kind}: dropped without an answer")]
    Dropped {
        /// Kind of the question.
        kind: &'static str,
    },
}

impl AskError {
    pub(crate) fn not_taken<M>(error: TellError<M>, kind: &'static str) -> Self {
        match error {
            TellError::Full(_) => Self::Full { kind },
            TellError::Closed(_) => Self::Closed { kind },
            TellError::Unavailable(_) => Self::Unavailable { kind },
            TellError::Refused { refusal, .. } => Self::Refused { refusal },
        }
    }

    /// True if the same question may be answered when it is asked again a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Dropped { .. } => true,
            Self::Closed { .. } | Self::Refused { .. } | Self::Cycle { .. } => false,
        }
    }
}
