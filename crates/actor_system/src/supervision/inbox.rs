//! Messages to the task of a supervisor, from its children and its handles.

use alys_runtime::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    actor::{
        error::Failure,
        orders::{Exited, Reports, StopReport},
    },
    supervision::task::Entry,
};

/// A message to a supervisor's task.
pub(crate) enum Inbox {
    Add(Entry),
    Exited(Exited),
    /// The child's task itself panicked.
    Lost {
        child: u64,
        failure: Failure,
    },
    /// Stop a child for good because those that depend on it have stopped.
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
