//! Errors of a message that was not accepted ([`TellError`], [`SendError`]) or not answered
//! ([`AskError`]).

use std::{fmt, sync::Arc, time::Duration};

use crate::mailbox::access::Refusal;

/// Error of [`Addr::tell`](crate::Addr::tell). It returns the message, so that the sender can retry
/// or drop it.
#[derive(thiserror::Error)]
pub enum TellError<M> {
    /// The mailbox is full.
    #[error("mailbox full")]
    Full(M),
    /// The actor has terminated.
    #[error("mailbox closed")]
    Closed(M),
    /// The actor's circuit breaker is open.
    #[error("circuit breaker open")]
    Unavailable(M),
    /// The access rules do not allow the holder of this address to send this kind, or not at this
    /// rate.
    #[error("{refusal}")]
    Refused {
        /// The message that was not accepted.
        msg: M,
        /// The rule that refused it.
        refusal: Refusal,
    },
}

impl<M> TellError<M> {
    /// Returns the message that was not accepted.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(msg)
            | Self::Closed(msg)
            | Self::Unavailable(msg)
            | Self::Refused { msg, .. } => msg,
        }
    }

    /// True if the mailbox was full, so that a later attempt may succeed.
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

/// Error of [`Addr::send`](crate::Addr::send) and [`Addr::forward`](crate::Addr::forward). It
/// returns the message.
#[derive(thiserror::Error)]
pub enum SendError<M> {
    /// The mailbox is full, and the message's overflow policy does not wait, or its attempts are
    /// used up.
    #[error("mailbox full")]
    Full(M),
    /// The actor terminated before its mailbox accepted the message.
    #[error("mailbox closed")]
    Closed(M),
    /// The actor's circuit breaker is open.
    #[error("circuit breaker open")]
    Unavailable(M),
    /// The access rules do not allow the holder of this address to send this kind, or not at this
    /// rate.
    #[error("{refusal}")]
    Refused {
        /// The message that was not accepted.
        msg: M,
        /// The rule that refused it.
        refusal: Refusal,
    },
    /// A `send` would wait for room at an actor that waits for the sending handler, or a `forward`
    /// would make the asker wait for an actor that waits for it.
    #[error("would close a cycle: {cycle}")]
    Cycle {
        /// The message that was not accepted.
        msg: M,
        /// The cycle as text: each actor with the kind it sends to the next one.
        cycle: Arc<str>,
    },
}

impl<M> SendError<M> {
    /// Returns the message that was not accepted.
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

/// Error of [`Addr::ask`](crate::Addr::ask).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The mailbox was full: the question was not accepted.
    #[error("{kind}: mailbox full")]
    Full {
        /// Kind of the question.
        kind: &'static str,
    },
    /// The actor has terminated: the question was not accepted.
    #[error("{kind}: mailbox closed")]
    Closed {
        /// Kind of the question.
        kind: &'static str,
    },
    /// The actor's circuit breaker is open: the question was not accepted.
    #[error("{kind}: circuit breaker open")]
    Unavailable {
        /// Kind of the question.
        kind: &'static str,
    },
    /// The access rules do not allow the holder of this address to send this kind, or not at this
    /// rate: the question was not accepted.
    #[error("{refusal}")]
    Refused {
        /// The rule that refused it.
        refusal: Refusal,
    },
    /// The actor waits for the asking handler, directly or through others: the question was not
    /// accepted.
    #[error("{kind} would close a cycle: {cycle}")]
    Cycle {
        /// Kind of the question.
        kind: &'static str,
        /// The cycle as text: each actor with the kind it sends to the next one.
        cycle: Arc<str>,
    },
    /// No answer arrived in time. A handler that has started continues.
    #[error("{kind}: no answer within {deadline:?}")]
    Timeout {
        /// Kind of the question.
        kind: &'static str,
        /// Time limit of the question.
        deadline: Duration,
    },
    /// The question was dropped without an answer: its handler failed, or the actor terminated.
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

    /// True if the error is transient, so that a retry of the question may succeed.
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
