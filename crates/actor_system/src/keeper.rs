//! The task of a supervisor: it carries out what [`policy`](crate::policy) decides.

use std::{ops::Range, pin::pin, sync::Arc, time::Duration};

use alys_runtime::{
    rand,
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use futures::future::{AbortHandle, Either, select};

use crate::{
    after,
    error::Failure,
    lifecycle::State,
    policy::{Restart, RestartLog},
    protocol::{Abandoned, Exit, Exited, Inbox, Line, Order, Start, Stop, StopKind, StopReport},
    supervisor::{Supervisor, SupervisorSpec},
    system::Verdict,
    tree::Cell,
};

/// Added to a child's time for its answer to arrive, once for each actor in it.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// Ends a task with what owns it, so that nothing outlives its supervisor.
struct AbortOnDrop(Option<AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A child as its supervisor knows it.
pub(crate) struct Entry {
    id: u64,
    cell: Arc<Cell>,
    orders: mpsc::Sender<Order>,
    restart: Restart,
    stop_within: Duration,
    /// Number of the last start order.
    life: u64,
    /// Whether that incarnation has neither reported its end nor answered a stop.
    is_live: bool,
    /// Failures in a row.
    failures: u32,
    since: Instant,
    task: AbortOnDrop,
}

impl Entry {
    pub fn new(
        id: u64,
        cell: Arc<Cell>,
        orders: mpsc::Sender<Order>,
        restart: Restart,
        stop_within: Duration,
        task: AbortHandle,
    ) -> Self {
        let task = AbortOnDrop(Some(task));
        Self {
            id,
            cell,
            orders,
            restart,
            stop_within,
            life: 0,
            is_live: false,
            failures: 0,
            since: time::now(),
            task,
        }
    }

    async fn order(&self, order: Order) {
        if self.orders.send(order).await.is_err() {
            tracing::error!(actor = %self.cell.path, "its task is gone");
        }
    }

    async fn start(
        &mut self,
        delay: Duration,
        after: Option<oneshot::Receiver<()>>,
        started: Option<oneshot::Sender<()>>,
    ) {
        self.life += 1;
        self.is_live = true;
        self.since = time::now() + delay;
        self.order(Order::Start(Start { life: self.life, delay, after, started })).await;
    }

    async fn stop(&mut self, until: Instant, kind: StopKind) -> StopReport {
        let (done, answer) = oneshot::channel();
        let grace = ANSWER_WITHIN * (self.cell.weight() + 1);
        let answered = async {
            self.order(Order::Stop(Stop { until, kind, done })).await;
            answer.await.ok()
        };
        let answered = time::timeout(until.saturating_duration_since(time::now()) + grace, answered).await;
        self.is_live = false;
        match answered {
            Ok(Some(report)) => report,
            Ok(None) | Err(_) => {
                let actor = self.cell.path.to_string();
                tracing::warn!(actor, "does not answer a stop");
                let left = Abandoned { actor, unresponsive: true, ..Abandoned::default() };
                StopReport { stopped: Vec::new(), abandoned: vec![left] }
            }
        }
    }

    /// Lets a child that is down end by itself.
    async fn retire(mut self) {
        self.order(Order::Retire).await;
        self.task.0 = None;
    }
}

/// A supervisor's task.
pub(crate) struct Keeper {
    cell: Arc<Cell>,
    line: Line,
    inbox: mpsc::Receiver<Inbox>,
    /// Keeps the inbox open while there are no children and no handles.
    _open: Supervisor,
    spec: SupervisorSpec,
    /// In the order of start.
    entries: Vec<Entry>,
    log: RestartLog,
    /// The start order that it lives by; none while it is down.
    life: Option<u64>,
    /// What was heard while it was busy.
    next: Option<Heard>,
    /// Where the root puts what it cannot report to anybody.
    verdict: Option<Arc<Verdict>>,
}

/// What a supervisor hears next.
enum Heard {
    Order(Order),
    Inbox(Inbox),
    /// Whatever is above it is gone.
    Nothing,
}

impl Keeper {
    pub fn new(
        cell: Arc<Cell>,
        line: Line,
        inbox: mpsc::Receiver<Inbox>,
        open: Supervisor,
        spec: SupervisorSpec,
        verdict: Option<Arc<Verdict>>,
    ) -> Self {
        let (entries, log) = (Vec::new(), RestartLog::default());
        Self { cell, line, inbox, _open: open, spec, entries, log, life: None, next: None, verdict }
    }

    pub async fn run(mut self) {
        loop {
            let heard = match self.next.take() {
                Some(heard) => heard,
                None => self.hear().await,
            };
            let order = match heard {
                Heard::Nothing => return,
                Heard::Order(order) => order,
                Heard::Inbox(Inbox::Add(entry)) => {
                    self.added(entry).await;
                    continue;
                }
                Heard::Inbox(Inbox::Exited(exited)) => {
                    self.exited(exited).await;
                    continue;
                }
            };
            match order {
                Order::Start(mut start) => match self.line.ready(&mut start, &self.cell).await {
                    Ok(stop) => {
                        self.start_all(start).await;
                        self.next = stop.map(|stop| Heard::Order(Order::Stop(stop)));
                    }
                    Err(None) => return,
                    Err(Some(order)) => self.next = Some(Heard::Order(order)),
                },
                Order::Stop(stop) => {
                    let is_last = stop.kind == StopKind::Drain;
                    let report = self.stop_all(stop.until, stop.kind).await;
                    let _ = stop.done.send(report);
                    if is_last {
                        return;
                    }
                }
                Order::Retire => return,
            }
        }
    }

    /// Orders from above come first.
    async fn hear(&mut self) -> Heard {
        match select(pin!(self.line.orders.recv()), pin!(self.inbox.recv())).await {
            Either::Left((Some(order), _)) => Heard::Order(order),
            Either::Right((Some(inbox), _)) => Heard::Inbox(inbox),
            Either::Left((None, _)) | Either::Right((None, _)) => Heard::Nothing,
        }
    }

    async fn start_all(&mut self, start: Start) {
        let is_first = self.cell.begin() == 1;
        self.life = Some(start.life);
        self.log.clear();
        for entry in &mut self.entries {
            entry.failures = 0;
        }
        if is_first {
            // Like those that are added later, they do not wait for each other.
            for entry in &mut self.entries {
                entry.start(Duration::ZERO, None, None).await;
            }
        } else {
            self.start_range(0..self.entries.len(), Duration::ZERO, start.started).await;
        }
        self.cell.advance(State::Running);
    }

    /// Starts children one after the other, each once the one before runs, and says so at `started` after the
    /// last.
    async fn start_range(
        &mut self,
        range: Range<usize>,
        delay: Duration,
        mut started: Option<oneshot::Sender<()>>,
    ) {
        let last = range.end.saturating_sub(1);
        let (mut delay, mut after) = (delay, None);
        for index in range {
            let (sender, receiver) = oneshot::channel();
            let sender = if index == last { started.take() } else { Some(sender) };
            self.entries[index].start(delay, after.take(), sender).await;
            (delay, after) = (Duration::ZERO, Some(receiver));
        }
        if let Some(started) = started {
            let _ = started.send(());
        }
    }

    async fn added(&mut self, mut entry: Entry) {
        if self.life.is_some() {
            entry.start(Duration::ZERO, None, None).await;
        }
        self.entries.push(entry);
    }

    /// An incarnation ended without having been told to.
    async fn exited(&mut self, exited: Exited) {
        let current = |entry: &Entry| entry.id == exited.child && entry.life == exited.life && entry.is_live;
        // Reports from before a stop or a later start order are history.
        let Some(index) = self.entries.iter().position(current) else { return };
        let entry = &mut self.entries[index];
        entry.is_live = false;
        let comes_back = match (entry.restart, &exited.exit) {
            (Restart::Permanent, _) | (Restart::Transient, Exit::Failed(_)) => true,
            (Restart::Transient, Exit::Normal) | (Restart::Temporary, _) => false,
        };
        let failure = match exited.exit {
            Exit::Normal => None,
            Exit::Failed(failure) => Some(failure),
        };
        if !comes_back {
            if let Some(failure) = failure {
                tracing::warn!(actor = %entry.cell.path, reason = failure.chain(), "failed, and is not restarted");
            }
            self.retire(index).await;
            return;
        }
        let failure = failure.unwrap_or(Failure::EndedItself);
        let now = time::now();
        if now.saturating_duration_since(entry.since) >= self.spec.intensity.within {
            entry.failures = 0;
        }
        if !self.log.admit(now, self.spec.intensity) {
            self.give_up(index, failure).await;
            return;
        }
        let delay = self.spec.backoff.delay(entry.failures, chance());
        entry.failures = entry.failures.saturating_add(1);
        let (reason, delay_ms) = (failure.chain(), delay.as_millis());
        tracing::warn!(actor = %entry.cell.path, reason, delay_ms, strategy = ?self.spec.strategy, "restart");
        self.restart_with(index, delay).await;
    }

    /// Restarts the child at `index` and those that the strategy takes along.
    async fn restart_with(&mut self, index: usize, delay: Duration) {
        let affected = self.spec.strategy.affected(index, self.entries.len());
        if affected.len() == 1 {
            self.entries[index].start(delay, None, None).await;
            return;
        }
        if !self.pause(affected.clone()).await {
            return;
        }
        let mut end = affected.end;
        for index in affected.clone().rev() {
            if self.entries[index].restart == Restart::Temporary {
                self.retire(index).await;
                end -= 1;
            }
        }
        self.start_range(affected.start..end, delay, None).await;
    }

    /// Stops children in reverse order; their queues wait. False if an order from above came first: it is about
    /// all children, and must not wait for one that takes its time.
    async fn pause(&mut self, range: Range<usize>) -> bool {
        for entry in self.entries[range].iter_mut().rev() {
            let stopped = pin!(entry.stop(after(entry.stop_within), StopKind::Pause));
            if let Either::Right((order, _)) = select(stopped, pin!(self.line.orders.recv())).await {
                self.next = Some(order.map_or(Heard::Nothing, Heard::Order));
                return false;
            }
        }
        true
    }

    async fn retire(&mut self, index: usize) {
        let entry = self.entries.remove(index);
        self.cell.retire(&entry.cell);
        entry.retire().await;
    }

    /// The intensity is used up: all children are stopped, and it is for the parent to decide.
    async fn give_up(&mut self, index: usize, failure: Failure) {
        let failure = Failure::Escalated {
            supervisor: self.cell.path.to_string(),
            child: self.entries[index].cell.name.to_string(),
            restarts: self.spec.intensity.restarts,
            within: self.spec.intensity.within,
            source: Box::new(failure),
        };
        self.cell.failed(&failure);
        self.cell.advance(State::Crashed);
        let life = self.life.take();
        if let Some(verdict) = &self.verdict {
            tracing::error!(system = %self.cell.path, reason = failure.chain(), "gave up");
            self.cell.advance(State::Failed);
            verdict.give(failure.clone());
        } else {
            tracing::warn!(actor = %self.cell.path, reason = failure.chain(), "gave up");
        }
        let is_paused = self.pause(0..self.entries.len()).await;
        if let (true, None, Some(life)) = (is_paused, &self.verdict, life) {
            self.line.report(life, Exit::Failed(failure));
        }
    }

    /// Stops all children in reverse order. Each has the share of the remaining time that its size gives it, so
    /// that one that hangs does not use up the time of the others.
    async fn stop_all(&mut self, until: Instant, kind: StopKind) -> StopReport {
        self.life = None;
        if kind == StopKind::Drain {
            self.cell.close();
            self.take_the_last().await;
        }
        if self.cell.state() == State::Running {
            self.cell.advance(State::Stopping);
        }
        let mut total = StopReport::default();
        let mut weight_left: u32 = self.entries.iter().map(|entry| entry.cell.weight()).sum();
        for entry in self.entries.iter_mut().rev() {
            let weight = entry.cell.weight();
            let share = until.saturating_duration_since(time::now()) * weight / weight_left.max(weight);
            weight_left -= weight.min(weight_left);
            let report = entry.stop(after(share), kind).await;
            total.stopped.extend(report.stopped);
            total.abandoned.extend(report.abandoned);
        }
        self.cell.rest();
        total
    }

    /// Children that were added before the supervisor was closed are started, so that what they were sent is
    /// handled.
    async fn take_the_last(&mut self) {
        while let Ok(last) = self.inbox.try_recv() {
            if let Inbox::Add(mut entry) = last {
                entry.start(Duration::ZERO, None, None).await;
                self.entries.push(entry);
            }
        }
    }
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    const STEPS: u32 = 1 << 20;
    let drawn = u32::try_from(rand::below(u64::from(STEPS))).unwrap_or(0);
    f64::from(drawn) / f64::from(STEPS)
}
