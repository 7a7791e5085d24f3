//! What can go wrong, as values: with an actor ([`Failure`]), with a message ([`TellError`], [`SendError`],
//! [`AskError`]) and with the tree ([`StartError`]).

use std::{any::Any, error::Error, fmt, sync::Arc, time::Duration};

use crate::{actor::lifecycle::State, mailbox::access::Refusal};

/// What an actor was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its factory was making it.
    Creating,
    /// [`AlysActor::pre_start`](crate::AlysActor::pre_start),
    /// [`AlysActor::post_restart`](crate::AlysActor::post_restart) or
    /// [`AlysActor::started`](crate::AlysActor::started).
    Starting,
    /// [`AlysActor::handle`](crate::AlysActor::handle) of a message of this kind.
    Handling(&'static str),
    /// [`AlysActor::handle_batch`](crate::AlysActor::handle_batch).
    HandlingBatch,
    /// [`AlysActor::reconfigured`](crate::AlysActor::reconfigured).
    Reconfiguring,
    /// [`AlysActor::health_check`](crate::AlysActor::health_check) or
    /// [`AlysActor::memory`](crate::AlysActor::memory).
    Judging,
    /// [`AlysActor::pre_stop`](crate::AlysActor::pre_stop), [`AlysActor::stopped`](crate::AlysActor::stopped) or
    /// [`AlysActor::pre_restart`](crate::AlysActor::pre_restart).
    Stopping,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creating => f.write_str("creating"),
            Self::Starting => f.write_str("starting"),
            Self::Handling(kind) => write!(f, "handling {kind}"),
            Self::HandlingBatch => f.write_str("handling a batch"),
            Self::Reconfiguring => f.write_str("taking a new configuration"),
            Self::Judging => f.write_str("judging itself"),
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
    /// It took longer than the watchdog allows ([`ChildSpec`](crate::ChildSpec)).
    #[error("hung while {phase}: not done after {after:?}")]
    Hung {
        /// What it was doing.
        phase: Phase,
        /// The time that it had.
        after: Duration,
    },
    /// It, or what waits in its mailbox, holds more memory than its budget.
    #[error("holds {bytes} bytes, {budget} are allowed")]
    OverBudget {
        /// What the actor and its messages say that they hold.
        bytes: usize,
        /// [`ChildSpec::memory_budget`](crate::ChildSpec::memory_budget).
        budget: usize,
    },
    /// It computes without end, or waits on a lock of the operating system: nothing can stop it but the end of
    /// the process.
    #[error("{actor} has not come back for {after:?}")]
    Unresponsive {
        /// Path of the actor.
        actor: String,
        /// How long it has been at it.
        after: Duration,
    },
    /// The task that makes an actor's incarnations, or a supervisor's own, panicked: nobody can bring it back but a
    /// new process.
    #[error("the task of {actor} is lost: {message}")]
    TaskLost {
        /// Path of the actor.
        actor: String,
        /// The panic's text.
        message: String,
    },
    /// A child that must always run ended itself, once more than the intensity allows.
    #[error("ended by itself")]
    EndedItself,
    /// A supervisor reached its restart intensity.
    #[error(
        "{supervisor} gave up: {child} failed again after {restarts} restarts within {within:?}"
    )]
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
    /// The actor's circuit breaker is open.
    #[error("circuit breaker open")]
    Unavailable(M),
    /// The holder of this address may not send it, or not so often.
    #[error("{refusal}")]
    Refused {
        /// What was not taken.
        msg: M,
        /// Why.
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

    /// Whether there was no room: a later attempt may succeed.
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

/// Why a message was not taken by `send`. It is given back.
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
        /// What was not taken.
        msg: M,
        /// Why.
        refusal: Refusal,
    },
    /// The actor would never make room: it waits for the one that sends.
    #[error("waiting for room would close a circle: {cycle}")]
    Cycle {
        /// What was not taken.
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

/// Why an `ask` has no answer.
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
        /// Why.
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

impl AskError {
    pub(crate) fn not_taken<M>(error: TellError<M>, kind: &'static str) -> Self {
        match error {
            TellError::Full(_) => Self::Full { kind },
            TellError::Closed(_) => Self::Closed { kind },
            TellError::Unavailable(_) => Self::Unavailable { kind },
            TellError::Refused { refusal, .. } => Self::Refused { refusal },
        }
    }

    /// Whether the same question may be answered if it is put again a little later.
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

/// Why an actor's address was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No actor of this path runs or will be restarted.
    #[error("there is no actor {path}")]
    Unknown {
        /// The full path.
        path: String,
    },
    /// The actor understands other messages than those asked for.
    #[error("{path} does not understand these messages")]
    OtherMessage {
        /// The full path.
        path: String,
    },
    /// The actor has another configuration than the one given.
    #[error("{path} has another configuration")]
    OtherConfig {
        /// The full path.
        path: String,
    },
    /// No rule allows the one who asked to send it anything.
    #[error("{path}: {reason}")]
    Denied {
        /// The full path.
        path: String,
        /// Which rule is missing.
        reason: String,
    },
}

/// A failure that a test put into an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an injected failure")]
pub(crate) struct InjectedFailure;

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
    /// A name is a part of paths: it must not be empty or contain a slash.
    #[error(
        "{name:?} is no name for a child of {supervisor}: it must not be empty or contain a slash"
    )]
    BadName {
        /// Path of the supervisor.
        supervisor: String,
        /// The name asked for.
        name: String,
    },
    /// It is to depend on an actor that has not been started. What others depend on is started before them, so
    /// that dependencies have no circles.
    #[error("{actor} depends on {dependency}, which has not been started")]
    UnknownDependency {
        /// Path of the actor.
        actor: String,
        /// The path asked for.
        dependency: String,
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
