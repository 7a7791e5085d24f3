//! What a supervisor and the task of one child say to each other. Nested supervisors are children like any
//! other.

use std::{pin::pin, sync::Arc, time::Duration};

use alys_runtime::{
    mutant,
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use futures::future::{Either, join_all, select};

use crate::{actor::cell::Cell, actor::lifecycle::State, error::Failure, supervision::task::Entry};

/// From the supervisor to a child.
pub(crate) enum Order {
    Start(Start),
    Stop(Stop),
    /// Only to a child that is down: it will not be started again.
    Retire,
}

/// Make an incarnation.
pub(crate) struct Start {
    /// Names this order in the report of its end.
    pub life: u64,
    /// Wait this long first.
    pub delay: Duration,
    /// Whether the mailbox takes nothing while it waits: the circuit breaker is open.
    pub is_open: bool,
    /// Then wait until this has come, or was dropped: the sibling before has started, or failed to.
    pub after: Option<oneshot::Receiver<()>>,
    /// Sent once the incarnation runs, dropped if it does not come to that.
    pub started: Option<oneshot::Sender<()>>,
}

/// End the incarnation, if there is one.
pub(crate) struct Stop {
    /// What still runs at this time is cut off.
    pub until: Instant,
    pub kind: StopKind,
    pub done: oneshot::Sender<StopReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopKind {
    /// After the current message; the queue waits for the next incarnation.
    Pause,
    /// For good: nothing new is taken, what was taken is handled.
    Drain,
}

/// What stopping a child, or all below it, came to.
#[derive(Debug, Default)]
pub(crate) struct StopReport {
    /// Paths of the actors that ended, in order.
    pub stopped: Vec<String>,
    pub abandoned: Vec<Abandoned>,
}

impl StopReport {
    /// What came after.
    pub fn add(&mut self, later: Self) {
        self.stopped.extend(later.stopped);
        self.abandoned.extend(later.abandoned);
    }
}

/// What an actor left undone when it was shut down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Abandoned {
    /// Path of the actor.
    pub actor: String,
    /// Messages that were taken but not handled.
    pub messages: usize,
    /// Kind of the message whose handling was cut off, if one was; the actor's `stopped` was not called then.
    pub handling: Option<&'static str>,
    /// Whether `pre_stop` or `stopped` was cut off.
    pub stopping: bool,
    /// A failure on the way out.
    pub failure: Option<String>,
    /// Whether it did not even answer: it computes without end, or waits on a lock of the operating system.
    pub unresponsive: bool,
}

impl Abandoned {
    /// Whether anything was left undone.
    pub fn is_empty(&self) -> bool {
        self == &Self {
            actor: self.actor.clone(),
            ..Self::default()
        }
    }
}

/// From a child to its supervisor: the incarnation of the start order `life` ended without having been told to.
pub(crate) struct Exited {
    pub child: u64,
    pub life: u64,
    pub exit: Exit,
}

pub(crate) enum Exit {
    Normal,
    Failed(Failure),
}

/// What reaches a supervisor from below and from its handles.
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

/// A child's end of the line.
pub(crate) struct Line {
    pub child: u64,
    pub cell: Arc<Cell>,
    /// Bounded by what is in flight: a child reports once for each start order.
    pub reports: mpsc::Sender<Inbox>,
}

impl Drop for Line {
    fn drop(&mut self) {
        // Orders would wait for an answer that nobody gives.
        self.cell.control.close();
    }
}

impl Line {
    /// The next order; none once the supervisor is gone.
    pub async fn order(&mut self) -> Option<Order> {
        self.cell.control.next().await
    }

    /// Reports the end of an incarnation. If the supervisor is gone there is nobody to tell.
    pub fn report(&self, life: u64, exit: Exit) {
        if let Err(mpsc::error::TrySendError::Full(_)) =
            self.reports.try_send(Inbox::Exited(Exited {
                child: self.child,
                life,
                exit,
            }))
        {
            tracing::error!(
                child = self.child,
                "a supervisor's inbox is full, which its size excludes"
            );
        }
    }

    /// Waits as a start order asks, or until another order comes, which takes its place. Only a drain does not
    /// take the place of a start that merely waits for its turn: what was taken is to be handled.
    pub async fn ready(
        &mut self,
        start: &mut Start,
        needs: &[Arc<Cell>],
    ) -> Result<Option<Stop>, Option<Order>> {
        if !start.delay.is_zero() {
            self.cell.advance(State::Backoff);
            self.cell.refuse(start.is_open);
            let waited = self.unless_ordered(time::sleep(start.delay)).await;
            if !start.is_open || !mutant::active("breaker-stays-open") {
                self.cell.refuse(false);
            }
            waited?;
            if start.after.is_some() {
                // Its time has come and not its turn: it is down like those that were stopped with it. One whose
                // turn is before may depend on it, and does not wait for one that is stopped.
                self.cell.rest();
            }
        }
        if let Some(after) = start.after.take() {
            match self.unless_ordered(after).await {
                Err(Some(Order::Stop(stop))) if stop.kind == StopKind::Drain => {
                    return Ok(Some(stop));
                }
                waited => waited?,
            }
        }
        for need in needs {
            // One that has ended for good will never run: its dependent finds out by its own means.
            let there = [State::Running, State::Failed, State::Stopped];
            match self.unless_ordered(need.reaches(&there)).await {
                Err(Some(Order::Stop(stop))) if stop.kind == StopKind::Drain => {
                    // What was taken is to be handled, but not without those it depends on: they stop after it.
                    let within = stop.until.saturating_duration_since(time::now());
                    let run = join_all(needs.iter().map(|need| need.reaches(&there)));
                    let waited = time::timeout(within, run).await;
                    return if waited.is_ok() {
                        Ok(Some(stop))
                    } else {
                        Err(Some(Order::Stop(stop)))
                    };
                }
                waited => waited?,
            }
        }
        Ok(None)
    }

    async fn unless_ordered<T>(
        &mut self,
        wait: impl Future<Output = T>,
    ) -> Result<(), Option<Order>> {
        match select(pin!(self.order()), pin!(wait)).await {
            Either::Left((order, _)) => Err(order),
            Either::Right(_) => Ok(()),
        }
    }
}
