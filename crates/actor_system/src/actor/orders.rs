//! Orders of a supervisor to the task of a child, and the child's reports. A nested supervisor is a
//! child like an actor.

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

/// An order of the supervisor to a child.
pub(crate) enum Order {
    Start(Start),
    Stop(Stop),
    /// Terminates a child that is not running.
    Retire,
}

/// Order to start an incarnation.
pub(crate) struct Start {
    /// Id of this order, which the report of the incarnation's end repeats.
    pub start_id: u64,
    /// Delay before the start.
    pub delay: Duration,
    /// True if the circuit breaker is open, so that the mailbox refuses messages during the delay.
    pub is_open: bool,
    /// Signal of the previous sibling, awaited after the delay; received or dropped once it has
    /// started or failed to.
    pub after: Option<oneshot::Receiver<()>>,
    /// Signal to the next sibling: sent once the incarnation runs, dropped if it does not.
    pub started: Option<oneshot::Sender<()>>,
}

/// Order to stop the incarnation, if there is one.
pub(crate) struct Stop {
    /// Deadline, after which running code is cancelled.
    pub until: Instant,
    pub kind: StopKind,
    pub done: oneshot::Sender<StopReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopKind {
    /// Stops after the current message; the queue is kept for the next incarnation.
    Pause,
    /// Terminates: closes the mailbox and handles the queued messages.
    Drain,
}

/// Result of stopping a child and its descendants.
#[derive(Debug, Default)]
pub(crate) struct StopReport {
    /// Full paths of the stopped actors, in order.
    pub stopped: Vec<String>,
    pub abandoned: Vec<Abandoned>,
}

impl StopReport {
    /// Appends the report of a subsequent stop.
    pub fn add(&mut self, later: Self) {
        self.stopped.extend(later.stopped);
        self.abandoned.extend(later.abandoned);
    }
}

/// Work that an actor did not complete before the deadline of a stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Abandoned {
    /// Full path of the actor.
    pub actor: String,
    /// Number of accepted messages that were not handled.
    pub messages: usize,
    /// Kind of the message whose handler was cancelled, if any; `stopped` did not run in that case.
    pub handling: Option<&'static str>,
    /// True if `pre_stop` or `stopped` was cancelled.
    pub stopping: bool,
    /// Failure during the stop, with its sources.
    pub failure: Option<String>,
    /// True if the actor did not answer the stop, because it computes without awaiting or blocks on
    /// a lock.
    pub unresponsive: bool,
}

impl Abandoned {
    /// True if the actor completed all its work.
    pub fn is_empty(&self) -> bool {
        self == &Self {
            actor: self.actor.clone(),
            ..Self::default()
        }
    }
}

/// Report of a child that the incarnation of the start order `start_id` ended without a stop order.
pub(crate) struct Exited {
    pub child: u64,
    pub start_id: u64,
    pub exit: Exit,
}

pub(crate) enum Exit {
    Normal,
    Failed(Failure),
}

/// Receiver of the reports of children, implemented by a supervisor's inbox.
pub(crate) trait Reports: Send {
    /// Delivers a report. False if the inbox is full; true if the supervisor has ended.
    fn report(&self, exited: Exited) -> bool;
}

/// Connection of a child's task to its supervisor.
pub(crate) struct Line<R> {
    pub child: u64,
    pub cell: Arc<Cell>,
    /// Bounded, because a child reports once for each start order.
    pub reports: R,
}

impl<R> Drop for Line<R> {
    fn drop(&mut self) {
        // Drops the queued orders, because this task will not answer them.
        self.cell.control.close();
    }
}

impl<R: Reports> Line<R> {
    /// Waits for the next order; none once the supervisor has ended.
    pub async fn order(&mut self) -> Option<Order> {
        self.cell.control.next().await
    }

    /// Reports the end of an incarnation to the supervisor.
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

    /// Waits for the delay, the previous sibling and the dependencies of a start order. Another
    /// order replaces the start and is returned as the error. A drain that arrives after the delay
    /// does not replace it but is returned as the value, because the accepted messages must be
    /// handled.
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
                // The delay is over but the previous sibling has not started. The state becomes
                // `Stopped`, because that sibling may depend on this child and would wait for one
                // in `Backoff`.
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
            // A dependency that is failed or stopped may never run, so the dependent starts and
            // handles its absence itself.
            let there = [State::Running, State::Failed, State::Stopped];
            match self.unless_ordered(need.reaches(&there)).await {
                Err(Some(Order::Stop(stop))) if stop.kind == StopKind::Drain => {
                    // The dependencies are still awaited, because handling the accepted messages
                    // needs them, and they stop only after this actor.
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
