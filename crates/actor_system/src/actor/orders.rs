//! Orders of a supervisor to the task of one child, and the reports back. Nested supervisors are
//! children like any other.

use std::{pin::pin, sync::Arc, time::Duration};

use alys_runtime::{
    sync::oneshot,
    time::{self, Instant},
};
use futures::future::{Either, join_all, select};

use crate::{
    actor::{cell::Cell, error::Failure, lifecycle::State},
    interceptor,
};

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
    pub start_id: u64,
    /// Wait this long first.
    pub delay: Duration,
    /// True if the mailbox refuses messages during the delay, because the circuit breaker is open.
    pub is_open: bool,
    /// Then wait until this has come, or was dropped: the sibling before has started, or failed to.
    pub after: Option<oneshot::Receiver<()>>,
    /// Sent once the incarnation runs, dropped if it does not come to that.
    pub started: Option<oneshot::Sender<()>>,
}

/// End the incarnation, if there is one.
pub(crate) struct Stop {
    /// Deadline, after which running code is cut off.
    pub until: Instant,
    pub kind: StopKind,
    pub done: oneshot::Sender<StopReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopKind {
    /// After the current message; the queue waits for the next incarnation.
    Pause,
    /// For good: the mailbox closes, and queued messages are handled.
    Drain,
}

/// Result of stopping a child and all below it.
#[derive(Debug, Default)]
pub(crate) struct StopReport {
    /// Paths of the actors that ended, in order.
    pub stopped: Vec<String>,
    pub abandoned: Vec<Abandoned>,
}

impl StopReport {
    /// Appends the report of a later stop.
    pub fn add(&mut self, later: Self) {
        self.stopped.extend(later.stopped);
        self.abandoned.extend(later.abandoned);
    }
}

/// Work that an actor left undone when it was shut down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Abandoned {
    /// Path of the actor.
    pub actor: String,
    /// Messages that were taken but not handled.
    pub messages: usize,
    /// Kind of the message whose handling was cut off, if one was; the actor's `stopped` was not
    /// called then.
    pub handling: Option<&'static str>,
    /// True if `pre_stop` or `stopped` was cut off.
    pub stopping: bool,
    /// A failure on the way out.
    pub failure: Option<String>,
    /// True if it did not answer at all: it computes without end, or waits on a lock of the
    /// operating system.
    pub unresponsive: bool,
}

impl Abandoned {
    /// True if nothing was left undone.
    pub fn is_empty(&self) -> bool {
        self == &Self {
            actor: self.actor.clone(),
            ..Self::default()
        }
    }
}

/// From a child to its supervisor: the incarnation of the start order `life` ended without having
/// been told to.
pub(crate) struct Exited {
    pub child: u64,
    pub start_id: u64,
    pub exit: Exit,
}

pub(crate) enum Exit {
    Normal,
    Failed(Failure),
}

/// Takes the reports of children: the inbox of their supervisor.
pub(crate) trait Reports: Send {
    /// False if there is no room. A report to a supervisor that is gone counts as taken.
    fn report(&self, exited: Exited) -> bool;
}

/// The connection of a child's task to its supervisor.
pub(crate) struct Line<R> {
    pub child: u64,
    pub cell: Arc<Cell>,
    /// Bounded, because a child reports once for each start order.
    pub reports: R,
}

impl<R> Drop for Line<R> {
    fn drop(&mut self) {
        // Pending orders are dropped, because no answer will come.
        self.cell.control.close();
    }
}

impl<R: Reports> Line<R> {
    /// The next order; none once the supervisor is gone.
    pub async fn order(&mut self) -> Option<Order> {
        self.cell.control.next().await
    }

    /// Reports the end of an incarnation.
    pub fn report(&self, start_id: u64, exit: Exit) {
        let child = self.child;
        if !self.reports.report(Exited {
            child,
            start_id,
            exit,
        }) {
            tracing::error!(
                child,
                "a supervisor's inbox is full, which its size excludes"
            );
        }
    }

    /// Waits for the delay and the dependencies of a start order, or until another order replaces
    /// it. A drain does not replace a start that only waits for its turn, because accepted messages
    /// must be handled.
    pub async fn ready(
        &mut self,
        start: &mut Start,
        needs: &[Arc<Cell>],
    ) -> Result<Option<Stop>, Option<Order>> {
        if !start.delay.is_zero() {
            self.cell.advance(State::Backoff);
            self.cell.refuse(start.is_open);
            let waited = self.unless_ordered(time::sleep(start.delay)).await;
            if !start.is_open || !interceptor::breaker_stays_open() {
                self.cell.refuse(false);
            }
            waited?;
            if start.after.is_some() {
                // Its time has come and not its turn: it is down like those that were stopped with
                // it. One whose turn is before may depend on it, and does not wait for one that is
                // stopped.
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
                    // Accepted messages need the dependencies to be handled: those stop after this
                    // actor.
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
