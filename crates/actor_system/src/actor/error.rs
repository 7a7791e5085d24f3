//! Failures of an actor ([`Failure`]), of a look-up ([`LookupError`]) and of a change of the tree
//! ([`StartError`]).

use std::{any::Any, error::Error, fmt, sync::Arc, time::Duration};

use crate::actor::lifecycle::State;

/// Activity of an actor during which it failed.
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
    /// [`AlysActor::pre_stop`](crate::AlysActor::pre_stop),
    /// [`AlysActor::stopped`](crate::AlysActor::stopped) or
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

/// Reason for the end of an incarnation or of a whole supervisor. Cheap to clone;
/// [`Failure::chain`] is the text for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The actor's own code panicked.
    #[error("panic while {phase}: {message}")]
    Panicked {
        /// Its activity.
        phase: Phase,
        /// The panic's text.
        message: String,
    },
    /// The actor's own code returned an error.
    #[error("error while {phase}")]
    Errored {
        /// Its activity.
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
    /// More timers were set at once than an incarnation may have: one is set in a loop, or never
    /// cancelled.
    #[error("more than {limit} timers at once")]
    TooManyTimers {
        /// [`MAX_TIMERS`](crate::MAX_TIMERS).
        limit: usize,
    },
    /// It took longer than the watchdog allows ([`ChildSpec`](crate::ChildSpec)).
    #[error("hung while {phase}: not done after {after:?}")]
    Hung {
        /// Its activity.
        phase: Phase,
        /// The time that it had.
        after: Duration,
    },
    /// The actor and its queued messages hold more memory than its budget.
    #[error("holds {bytes} bytes, {budget} are allowed")]
    OverBudget {
        /// Bytes that the actor and its messages report.
        bytes: usize,
        /// [`ChildSpec::memory_budget`](crate::ChildSpec::memory_budget).
        budget: usize,
    },
    /// It computes without end, or waits on a lock of the operating system: nothing can stop it but
    /// the end of the process.
    #[error("{actor} has not come back for {after:?}")]
    Unresponsive {
        /// Path of the actor.
        actor: String,
        /// Time since the handler began.
        after: Duration,
    },
    /// The task of an actor or of a supervisor panicked. Only a new process can bring it back.
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
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

/// Reason for which a look-up has no address.
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
    /// No rule allows the asking actor to send to this one.
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

/// Reason for which a child or supervisor cannot be added to the tree.
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
    /// It is to depend on an actor that has not been started. What others depend on is started
    /// before them, so that dependencies have no circles.
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

/// An actor asked for one more task than an incarnation may have. The future was dropped without
/// running.
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
