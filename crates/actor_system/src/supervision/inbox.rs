//! Messages to a supervisor's task from its children and handles.

use alys_runtime::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    actor::{
        error::Failure,
        orders::{Exited, Reports, StopReport},
    },
    supervision::task::NewChild,
};

/// A message to a supervisor's task.
pub(crate) enum Inbox {
    Add(NewChild),
    Exited(Exited),
    /// The task of a child panicked outside of the actor's own code.
    Lost {
        child: u64,
        failure: Failure,
    },
    /// Drains a child in a shutdown, once its dependents have stopped.
    Drain {
        child: u64,
        until: Instant,
        done: oneshot::Sender<StopReport>,
    },
}

impl Reports for mpsc::Sender<Inbox> {
    fn report(&self, exited: Exited) -> bool {
        let sent = self.try_send(Inbox::Exited(exited));
        !matches!(sent, Err(mpsc::error::TrySendError::Full(_)))
    }
}
