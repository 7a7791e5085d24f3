//! Errors of an actor ([`Failure`]), a look-up ([`LookupError`]) and a change of the tree
//! ([`StartError`]).

use std::{any::Any, error::Error, fmt, sync::Arc, time::Duration};

use crate::actor::lifecycle::State;

/// Code of an actor that was running when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The factory.
    Creating,
    /// [`AlysActor::pre_start`](crate::AlysActor::pre_start),
    /// [`AlysActor::post_restart`](crate::AlysActor::post_restart) or
    /// [`AlysActor::started`](crate::AlysActor::started).
    Starting,
    /// [`AlysActor::handle`](crate::AlysActor::handle) with a message of this kind.
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

/// Failure of an incarnation, a supervisor or a system. Cheap to clone; [`Failure::chain`] formats
/// it with its sources.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// Code of the actor panicked.
    #[error("panic while {phase}: {message}")]
    Panicked {
        /// Code that was running.
        phase: Phase,
        /// Text of the panic.
        message: String,
    },
    /// Code of the actor returned an error.
    #[error("error while {phase}")]
    Errored {
        /// Code that was running.
        phase: Phase,
        /// The returned error.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A task of [`Context::spawn`](crate::Context::spawn) panicked.
    #[error("panic in task {task}: {message}")]
    TaskPanicked {
        /// Name of the task.
        task: &'static str,
        /// Text of the panic.
        message: String,
    },
    /// The incarnation set more pending timers than allowed, as happens when timers are set in a
    /// loop or never cancelled.
    #[error("more than {limit} timers at once")]
    TooManyTimers {
        /// [`MAX_TIMERS`](crate::MAX_TIMERS).
        limit: usize,
    },
    /// The code took longer than its time limit
    /// ([`ChildSpec::start_timeout`](crate::ChildSpec::start_timeout),
    /// [`ChildSpec::handle_timeout`](crate::ChildSpec::handle_timeout)).
    #[error("hung while {phase}: not done after {after:?}")]
    Hung {
        /// Code that was running.
        phase: Phase,
        /// The time limit.
        after: Duration,
    },
    /// The actor and its queued messages exceed the memory budget.
    #[error("holds {bytes} bytes, {budget} are allowed")]
    OverBudget {
        /// Memory of the actor and its queued messages, in bytes.
        bytes: usize,
        /// [`ChildSpec::memory_budget`](crate::ChildSpec::memory_budget).
        budget: usize,
    },
    /// A handler has not yielded for minutes: it computes without awaiting, or blocks on a lock.
    /// Only the end of the process stops it.
    #[error("{actor} has not come back for {after:?}")]
    Unresponsive {
        /// Full path of the actor.
        actor: String,
        /// Time that the monitor has seen it in the same poll.
        after: Duration,
    },
    /// The task of an actor or supervisor panicked outside of the actor's code. Only a new process
    /// can restart it.
    #[error("the task of {actor} is lost: {message}")]
    TaskLost {
        /// Full path of the actor.
        actor: String,
        /// Text of the panic.
        message: String,
    },
    /// A permanent child stopped itself, which counts as a failure towards the restart intensity.
    #[error("ended by itself")]
    EndedItself,
    /// A supervisor gave up, because the restart intensity was exceeded.
    #[error(
        "{supervisor} gave up: {child} failed again after {restarts} restarts within {within:?}"
    )]
    Escalated {
        /// Full path of the supervisor.
        supervisor: String,
        /// Name of the child whose failure exceeded the intensity.
        child: String,
        /// Restarts that the intensity allows in the window.
        restarts: usize,
        /// Length of the window.
        within: Duration,
        /// Failure of that child.
        source: Box<Failure>,
    },
}

impl Failure {
    /// Formats the failure with all its sources on one line, separated by `": "`.
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

/// The text of a caught panic; a placeholder for payloads that are not strings.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

/// Error of a look-up by path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No actor has this path, or it has terminated.
    #[error("there is no actor {path}")]
    Unknown {
        /// Full path.
        path: String,
    },
    /// The message type of the actor is not the requested one.
    #[error("{path} does not understand these messages")]
    OtherMessage {
        /// Full path.
        path: String,
    },
    /// The configuration type of the actor is not the requested one.
    #[error("{path} has another configuration")]
    OtherConfig {
        /// Full path.
        path: String,
    },
    /// No access rule allows the calling actor to send to this one.
    #[error("{path}: {reason}")]
    Denied {
        /// Full path.
        path: String,
        /// The missing rule.
        reason: String,
    },
}

/// Error of a handler with an injected [`Fault::Fail`](crate::Fault::Fail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an injected failure")]
pub(crate) struct InjectedFailure;

/// Error of adding a child or supervisor to the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The supervisor already has a child with this name.
    #[error("{supervisor} has a child named {name} already")]
    NameTaken {
        /// Full path of the supervisor.
        supervisor: String,
        /// The requested name.
        name: String,
    },
    /// The name is empty or contains a slash, which separates the names in a path.
    #[error(
        "{name:?} is no name for a child of {supervisor}: it must not be empty or contain a slash"
    )]
    BadName {
        /// Full path of the supervisor.
        supervisor: String,
        /// The requested name.
        name: String,
    },
    /// A dependency has not been started. Dependencies must be started before their dependents, so
    /// that they have no cycles.
    #[error("{actor} depends on {dependency}, which has not been started")]
    UnknownDependency {
        /// Full path of the actor.
        actor: String,
        /// Path of the dependency, below the system.
        dependency: String,
    },
    /// The supervisor already has the maximum number of children.
    #[error("{supervisor} has {limit} children already")]
    TooManyChildren {
        /// Full path of the supervisor.
        supervisor: String,
        /// [`MAX_CHILDREN`](crate::MAX_CHILDREN).
        limit: usize,
    },
    /// The supervisor has been shut down.
    #[error("{supervisor} is shut down")]
    ShutDown {
        /// Full path of the supervisor.
        supervisor: String,
    },
}

/// Error of spawning more tasks than an incarnation may have at the same time. The future was
/// dropped unpolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more than {limit} tasks at once")]
pub struct TooManyTasks {
    /// [`MAX_TASKS`](crate::MAX_TASKS).
    pub limit: usize,
}

/// Error of a transition that the lifecycle does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{from} cannot become {to}")]
pub struct IllegalTransition {
    /// Current state.
    pub from: State,
    /// Requested state.
    pub to: State,
}
