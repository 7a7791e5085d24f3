//! What can go wrong, as values: with an actor ([`Failure`]), with a message ([`TellError`], [`SendError`],
//! [`AskError`]) and with the tree ([`StartError`]).

use std::{any::Any, error::Error, fmt, sync::Arc, time::Duration};

use crate::lifecycle::State;

/// What an actor was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its factory was making it.
    Creating,
    /// [`AlysActor::started`](crate::AlysActor::started).
    Starting,
    /// [`AlysActor::handle`](crate::AlysActor::handle) of a message of this kind.
    Handling(&'static str),
    /// [`AlysActor::stopping`](crate::AlysActor::stopping).
    Stopping,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creating => f.write_str("creating"),
            Self::Starting => f.write_str("starting"),
            Self::Handling(kind) => write!(f, "handling {kind}"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

/// Why an incarnation of an actor, or a whole supervisor, ended. Cheap to clone; [`Failure::chain`] is the text
/// for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The actor's own code panicked.
    #[error("panic while {phase}: {message}")]
    Panicked {
        /// What it was doing.
        phase: Phase,
        /// The panic's text.
        message: String,
    },
    /// The actor's own code returned an error.
    #[error("error while {phase}")]
    Errored {
        /// What it was doing.
        phase: Phase,
        /// The error it returned.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A task of [`Context::spawn`](crate::Context::spawn) panicked.
    #[error("panic in task {task}: {message}")]
    TaskPanicked {
        /// The task's name.
        task: &'static str,
        /// The panic's text.
        message: String,
    },
    /// More timers were set at once than an incarnation may have: one is set in a loop, or never cancelled.
    #[error("more than {limit} timers at once")]
    TooManyTimers {
        /// [`MAX_TIMERS`](crate::MAX_TIMERS).
        limit: usize,
    },
    /// A child that must always run ended itself, once more than the intensity allows.
    #[error("ended by itself")]
    EndedItself,
    /// A supervisor reached its restart intensity.
    #[error("{supervisor} gave up: {child} failed again after {restarts} restarts within {within:?}")]
    Escalated {
        /// Path of the supervisor.
        supervisor: String,
        /// Name of the child that failed last.
        child: String,
        /// Restarts that the intensity allowed.
        restarts: usize,
        /// The span of the intensity.
        within: Duration,
        /// The last failure of that child.
        source: Box<Failure>,
    },
}

impl Failure {
    /// The failure with all its sources, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// The text of a caught panic. Payloads other than strings have none.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

/// Why a message was not taken by `tell`. It is given back, so that the sender decides what becomes of it.
#[derive(thiserror::Error)]
pub enum TellError<M> {
    /// The mailbox has no room now.
    #[error("mailbox full")]
    Full(M),
    /// The actor has ended for good.
    #[error("mailbox closed")]
    Closed(M),
}

impl<M> TellError<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(msg) | Self::Closed(msg) => msg,
        }
    }

    /// Whether a later attempt may succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// The actor ended for good before it took the message of a `send`, which is given back.
#[derive(thiserror::Error)]
#[error("mailbox closed")]
pub struct SendError<M>(pub M);

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

/// Why an `ask` has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    /// No answer came in time. The question may still be handled later.
    #[error("{kind}: no answer within {deadline:?}")]
    Timeout {
        /// Kind of the question.
        kind: &'static str,
        /// How long the asker waited.
        deadline: Duration,
    },
    /// The question was dropped without an answer: its handler failed, or the actor ended.
    #[error("{kind}: dropped without an answer")]
    Dropped {
        /// Kind of the question.
        kind: &'static str,
    },
}

/// Why a child or supervisor cannot be added to the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The supervisor has another child of this name.
    #[error("{supervisor} has a child named {name} already")]
    NameTaken {
        /// Path of the supervisor.
        supervisor: String,
        /// The name asked for.
        name: String,
    },
    /// The supervisor has as many children as it may have.
    #[error("{supervisor} has {limit} children already")]
    TooManyChildren {
        /// Path of the supervisor.
        supervisor: String,
        /// [`MAX_CHILDREN`](crate::MAX_CHILDREN).
        limit: usize,
    },
    /// The supervisor has been shut down.
    #[error("{supervisor} is shut down")]
    ShutDown {
        /// Path of the supervisor.
        supervisor: String,
    },
}

/// An actor asked for one more task than an incarnation may have. The future was dropped without running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more than {limit} tasks at once")]
pub struct TooManyTasks {
    /// [`MAX_TASKS`](crate::MAX_TASKS).
    pub limit: usize,
}

/// A step of the lifecycle that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{from} cannot become {to}")]
pub struct IllegalTransition {
    /// State before.
    pub from: State,
    /// State that was asked for.
    pub to: State,
}
