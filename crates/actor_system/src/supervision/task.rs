//! The task of a supervisor, which executes the decisions of [`policy`](crate::policy).

use std::{
    ops::Range,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use alys_runtime::{
    rand,
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use futures::future::{AbortHandle, BoxFuture, Either, select};

use crate::{
    actor::cell::Cell,
    actor::error::Failure,
    actor::extension::SystemEvent,
    actor::lifecycle::State,
    actor::orders::{Abandoned, Exit, Exited, Order, Start, Stop, StopKind, StopReport},
    after, interceptor,
    supervision::inbox::Inbox,
    supervision::policy::{Backoff, Circuit, Exhausted, Restart, RestartDelay, RestartLog},
    supervision::{ChildSpec, Supervisor, SupervisorLine, SupervisorSpec},
};

/// Grace period for the answer to a stop order, once for each actor at or under the child.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

/// No delay, and a mailbox that accepts messages: (delay, circuit breaker open).
const AT_ONCE: (Duration, bool) = (Duration::ZERO, false);

/// Aborts a task on drop, so that no child outlives its supervisor.
struct AbortOnDrop(Option<AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A supervisor's record of one child.
pub(crate) struct Entry {
    id: u64,
    cell: Arc<Cell>,
    restart: Restart,
    restart_delay: Option<RestartDelay>,
    stop_timeout: Duration,
    /// Id of the last start order.
    start_id: u64,
    /// True until the incarnation of that order has reported its end or answered a stop.
    is_live: bool,
    /// Consecutive failures.
    failures: u32,
    since: Instant,
    circuit: Circuit,
    task: AbortOnDrop,
}

/// A child that its supervisor has not taken up yet. Dropping it drops the task, which then never
/// runs.
pub(crate) struct NewChild {
    pub entry: Entry,
    pub task_name: &'static str,
    pub task: BoxFuture<'static, ()>,
}

impl NewChild {
    /// Spawns the task, which finds its first order if there is one: a task that is spawned before
    /// its order is polled once more and woken.
    fn spawn(self) -> Entry {
        alys_runtime::spawn(self.task_name, self.task);
        self.entry
    }
}

/// Decision about a failed child whose policy allows a restart.
enum RestartDecision {
    After(Duration),
    /// Restart after the delay; the mailbox refuses messages until then.
    Open(Duration),
    TooOften,
}

impl Entry {
    pub fn new(id: u64, cell: Arc<Cell>, spec: &ChildSpec, task: AbortHandle) -> Self {
        Self {
            id,
            cell,
            restart: spec.restart,
            restart_delay: spec.restart_delay,
            stop_timeout: spec.stop_timeout,
            start_id: 0,
            is_live: false,
            failures: 0,
            since: time::now(),
            circuit: Circuit::default(),
            task: AbortOnDrop(Some(task)),
        }
    }

    fn is_drained(&self) -> bool {
        self.cell.is_drained.load(Relaxed)
    }

    fn order(&self, order: Order) -> bool {
        let taken = self.cell.control.order(order);
        if !taken {
            tracing::error!(actor = %self.cell.path, "its task is gone, or takes no orders");
        }
        taken
    }

    fn start(
        &mut self,
        (delay, is_open): (Duration, bool),
        after: Option<oneshot::Receiver<()>>,
        started: Option<oneshot::Sender<()>>,
    ) {
        if self.is_drained() {
            // Waiters proceed, because `started` is dropped here.
            return;
        }
        self.start_id += 1;
        self.is_live = true;
        self.since = crate::after(delay);
        self.order(Order::Start(Start {
            start_id: self.start_id,
            delay,
            is_open,
            after,
            started,
        }));
    }

    /// Decides about the restart of the child after a failure.
    fn decide_restart(
        &mut self,
        now: Instant,
        spec: &SupervisorSpec,
        log: &mut RestartLog,
    ) -> RestartDecision {
        if let Some(RestartDelay::CircuitBreaker(breaker)) = self.restart_delay {
            return match self.circuit.failed(now, breaker, rand::chance()) {
                Some(open_for) => RestartDecision::Open(open_for),
                None => RestartDecision::After(Duration::ZERO),
            };
        }
        if now.saturating_duration_since(self.since) >= spec.intensity.within {
            self.failures = 0;
        }
        if !log.admit(now, spec.intensity) {
            return RestartDecision::TooOften;
        }
        let delay = match self.restart_delay {
            Some(RestartDelay::Immediate) => Duration::ZERO,
            Some(RestartDelay::Delayed(delay)) => delay,
            Some(RestartDelay::Backoff(backoff)) => backoff.delay(self.failures, chance(backoff)),
            Some(RestartDelay::CircuitBreaker(_)) | None => {
                spec.backoff.delay(self.failures, chance(spec.backoff))
            }
        };
        self.failures = self.failures.saturating_add(1);
        // A late restart is legal, because a start order has no upper bound on its delay.
        let late =
            alys_runtime::buggify_below!("actors.keeper.late_restart", 250_000, 300).unwrap_or(0);
        RestartDecision::After(delay.saturating_add(Duration::from_millis(late)))
    }

    async fn stop(&mut self, until: Instant, kind: StopKind) -> StopReport {
        let (done, answer) = oneshot::channel();
        let grace = ANSWER_TIMEOUT * (self.cell.weight() + 1);
        let answered = async {
            if self.order(Order::Stop(Stop { until, kind, done })) {
                answer.await.ok()
            } else {
                None
            }
        };
        let answered = time::timeout(
            until.saturating_duration_since(time::now()) + grace,
            answered,
        )
        .await;
        self.is_live = false;
        match answered {
            Ok(Some(report)) => report,
            Ok(None) | Err(_) => {
                let actor = self.cell.path.to_string();
                tracing::warn!(actor, "does not answer a stop");
                let left = Abandoned {
                    actor,
                    unresponsive: true,
                    ..Abandoned::default()
                };
                StopReport {
                    stopped: Vec::new(),
                    abandoned: vec![left],
                }
            }
        }
    }

    /// Retires a child that is not running; its task then ends on its own.
    fn retire(mut self) {
        if !self.is_drained() {
            self.order(Order::Retire);
        }
        self.task.0 = None;
    }
}

/// A supervisor's task.
pub(crate) struct SupervisorTask {
    cell: Arc<Cell>,
    line: SupervisorLine,
    inbox: mpsc::Receiver<Inbox>,
    /// Keeps the inbox open while no other handle exists.
    handle: Supervisor,
    spec: SupervisorSpec,
    /// Children in the order of start.
    entries: Vec<Entry>,
    log: RestartLog,
    /// Id of the start order of this incarnation; none while the supervisor is down.
    start_id: Option<u64>,
    /// An input that arrived during an operation; processed next.
    next: Option<Heard>,
    /// An inbox message that arrived before the first start order; processed again after `next`.
    overtook: Option<Inbox>,
    /// True for the root, which reports its failure to the system.
    is_root: bool,
}

/// The next input of a supervisor.
enum Heard {
    Order(Order),
    Inbox(Inbox),
    /// The parent supervisor has ended.
    Nothing,
}

impl SupervisorTask {
    pub fn new(
        cell: Arc<Cell>,
        line: SupervisorLine,
        inbox: mpsc::Receiver<Inbox>,
        handle: Supervisor,
        spec: SupervisorSpec,
        is_root: bool,
    ) -> Self {
        let entries = Vec::new();
        let log = RestartLog::default();
        Self {
            cell,
            line,
            inbox,
            handle,
            spec,
            entries,
            log,
            start_id: None,
            next: None,
            overtook: None,
            is_root,
        }
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
                Heard::Inbox(Inbox::Add(child)) => {
                    self.added(child);
                    continue;
                }
                Heard::Inbox(Inbox::Drain { child, until, done }) => {
                    if !self.cell.has_begun() {
                        // The drain overtook the first start order, without which accepted messages
                        // would not be handled.
                        let left = until.saturating_duration_since(time::now());
                        if let Ok(order) = time::timeout(left, self.line.order()).await {
                            self.next = Some(order.map_or(Heard::Nothing, Heard::Order));
                            self.overtook = Some(Inbox::Drain { child, until, done });
                            continue;
                        }
                    }
                    let _ = done.send(self.drain(child, until).await);
                    continue;
                }
                Heard::Inbox(Inbox::Exited(exited)) => {
                    self.exited(exited).await;
                    continue;
                }
                Heard::Inbox(Inbox::Lost { child, failure }) => {
                    self.lost(child, failure);
                    continue;
                }
            };
            match order {
                Order::Start(mut start) => match self.line.ready(&mut start, &[]).await {
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
                Order::Retire => {
                    // Both this supervisor and its parent gave up, so it will not be restarted.
                    if self.cell.state() == State::Crashed {
                        self.cell.advance(State::Failed);
                    } else {
                        self.cell.rest();
                    }
                    return;
                }
            }
        }
    }

    /// Receives the next input. Orders of the parent take precedence over the inbox.
    async fn hear(&mut self) -> Heard {
        if let Some(inbox) = self.overtook.take() {
            return Heard::Inbox(inbox);
        }
        match select(pin!(self.line.order()), pin!(self.inbox.recv())).await {
            Either::Left((Some(order), _)) => Heard::Order(order),
            Either::Right((Some(inbox), _)) => Heard::Inbox(inbox),
            Either::Left((None, _)) | Either::Right((None, _)) => Heard::Nothing,
        }
    }

    async fn start_all(&mut self, start: Start) {
        let is_first = self.cell.begin() == 1;
        self.start_id = Some(start.start_id);
        if !interceptor::keeps_restart_log() {
            self.log.clear();
        }
        for entry in &mut self.entries {
            entry.failures = 0;
        }
        if is_first {
            // At the first start children do not wait for each other, like children added later.
            for entry in &mut self.entries {
                entry.start(AT_ONCE, None, None);
            }
        } else {
            self.start_range(0..self.entries.len(), None, start.started);
        }
        self.cell.advance(State::Running);
    }

    /// Starts children in sequence, each once the previous one runs, and signals `started` after
    /// the last. The first child waits for the restart delay of the failed child. The failed child
    /// itself also carries the delay, because a shutdown starts children that only wait for a
    /// sibling, and must not start one early whose circuit breaker is open.
    fn start_range(
        &mut self,
        range: Range<usize>,
        failed: Option<(usize, (Duration, bool))>,
        mut started: Option<oneshot::Sender<()>>,
    ) {
        let first = range.start;
        let last = range.end.saturating_sub(1);
        let mut after = None;
        for index in range {
            let (sender, receiver) = oneshot::channel();
            let sender = if index == last {
                started.take()
            } else {
                Some(sender)
            };
            let delay = match failed {
                Some((failed, delay)) if index == failed => delay,
                Some((_, (wait, _))) if index == first => (wait, false),
                Some(_) | None => AT_ONCE,
            };
            self.entries[index].start(delay, after.take(), sender);
            after = Some(receiver);
        }
        if let Some(started) = started {
            let _ = started.send(());
        }
    }

    fn added(&mut self, mut child: NewChild) {
        if self.start_id.is_some() {
            child.entry.start(AT_ONCE, None, None);
        }
        self.entries.push(child.spawn());
    }

    /// Spawns the tasks of added children without an order.
    #[cfg(test)]
    pub fn spawn_added(&mut self) {
        while let Ok(Inbox::Add(child)) = self.inbox.try_recv() {
            self.entries.push(child.spawn());
        }
    }

    /// Handles the end of an incarnation that was not ordered to stop.
    async fn exited(&mut self, exited: Exited) {
        let current = |entry: &Entry| {
            entry.id == exited.child && entry.start_id == exited.start_id && entry.is_live
        };
        // Reports that precede a stop or a later start order are stale.
        let Some(index) = self.entries.iter().position(current) else {
            return;
        };
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
                tracing::warn!(
                    actor = %entry.cell.path,
                    reason = failure.chain(),
                    "failed, and is not restarted"
                );
                self.announce(index, |path| SystemEvent::GivenUp { path });
            }
            self.retire(index);
            return;
        }
        let failure = failure.unwrap_or(Failure::EndedItself);
        entry.cell.count_failure();
        let (delay, is_open) = match entry.decide_restart(time::now(), &self.spec, &mut self.log) {
            RestartDecision::After(delay) => (delay, false),
            RestartDecision::Open(delay) => (delay, true),
            RestartDecision::TooOften if self.spec.exhausted == Exhausted::Degrade => {
                tracing::warn!(
                    actor = %entry.cell.path,
                    reason = failure.chain(),
                    "given up, the rest goes on"
                );
                self.announce(index, |path| SystemEvent::GivenUp { path });
                self.retire(index);
                return;
            }
            RestartDecision::TooOften => {
                alys_runtime::trace::reached("state.actors.gave_up");
                self.give_up(index, failure).await;
                return;
            }
        };
        if is_open && !delay.is_zero() {
            // The mailbox refuses immediately, because siblings may take time to stop before the
            // delay begins.
            entry.cell.refuse(true);
        }
        let reason = failure.chain();
        let delay_ms = delay.as_millis();
        if is_open {
            alys_runtime::trace::reached("state.actors.breaker_open");
            tracing::warn!(actor = %entry.cell.path, reason, delay_ms, "circuit breaker open");
        } else {
            alys_runtime::trace::reached("state.actors.restarted");
            tracing::warn!(
                actor = %entry.cell.path,
                reason,
                delay_ms,
                strategy = ?self.spec.strategy,
                "restart"
            );
        }
        self.announce(index, |path| SystemEvent::Restarting {
            path,
            reason,
            delay,
            is_open,
        });
        self.restart_with(index, (delay, is_open)).await;
    }

    /// Handles a panic of a child's task. Only a new process can restart the child, because its
    /// factory is lost.
    fn lost(&mut self, child: u64, failure: Failure) {
        let Some(index) = self.entries.iter().position(|entry| entry.id == child) else {
            return;
        };
        tracing::error!(
            actor = %self.entries[index].cell.path,
            reason = failure.chain(),
            "its task is lost"
        );
        self.announce(index, |path| SystemEvent::GivenUp { path });
        let entry = self.entries.remove(index);
        entry.cell.lose(&failure);
        self.cell.retire(&entry.cell);
        self.handle.tree().fail(failure);
    }

    /// Notifies the extensions of the system of an event of a child.
    fn announce(&self, index: usize, event: impl FnOnce(Arc<str>) -> SystemEvent) {
        let path = self.entries[index].cell.path.clone();
        self.cell.shared.extensions.notify(&event(path));
    }

    /// Restarts the child at `index` and the siblings that the strategy selects.
    async fn restart_with(&mut self, index: usize, delay: (Duration, bool)) {
        let affected = self.spec.strategy.affected(index, self.entries.len());
        if affected.len() == 1 {
            self.entries[index].start(delay, None, None);
            return;
        }
        if !self.pause(affected.clone()).await {
            self.entries[index].cell.refuse(false);
            return;
        }
        let mut failed = index;
        let mut end = affected.end;
        for other in affected.clone().rev() {
            if self.entries[other].restart == Restart::Temporary {
                self.retire(other);
                end -= 1;
                failed -= usize::from(other < index);
            }
        }
        self.start_range(affected.start..end, Some((failed, delay)), None);
    }

    /// Pauses children in reverse order; their queues are kept. Returns false if an order of the
    /// parent arrives, which takes precedence because it concerns all children and must not wait
    /// for a slow one.
    async fn pause(&mut self, range: Range<usize>) -> bool {
        for entry in self.entries[range]
            .iter_mut()
            .rev()
            .filter(|entry| !entry.is_drained())
        {
            let stopped = pin!(entry.stop(after(entry.stop_timeout), StopKind::Pause));
            if let Either::Right((order, _)) = select(stopped, pin!(self.line.order())).await {
                self.next = Some(order.map_or(Heard::Nothing, Heard::Order));
                return false;
            }
        }
        true
    }

    fn retire(&mut self, index: usize) {
        let entry = self.entries.remove(index);
        self.cell.retire(&entry.cell);
        entry.retire();
    }

    /// Drains one child.
    async fn drain(&mut self, child: u64, until: Instant) -> StopReport {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == child) else {
            return StopReport::default();
        };
        let report = entry.stop(until, StopKind::Drain).await;
        // The ended child stays listed, so that the indexes of its siblings do not change; a second
        // stop of it reports nothing.
        entry.restart = Restart::Temporary;
        entry.cell.is_drained.store(true, Relaxed);
        report
    }

    /// Stops all children and reports the failure to the parent, because the restart intensity is
    /// exceeded.
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
        let start_id = self.start_id.take();
        if self.is_root {
            tracing::error!(system = %self.cell.path, reason = failure.chain(), "gave up");
            self.cell.advance(State::Failed);
            self.handle.tree().fail(failure.clone());
        } else {
            tracing::warn!(actor = %self.cell.path, reason = failure.chain(), "gave up");
        }
        let is_paused = self.pause(0..self.entries.len()).await;
        if let (true, false, Some(start_id)) = (is_paused, self.is_root, start_id) {
            self.line.report(start_id, Exit::Failed(failure));
        }
    }

    /// Stops all children in reverse order. Each gets a share of the remaining time in proportion
    /// to its weight, so that a hung child does not use up the time of the others. A pause returns
    /// early when the parent sends another order, which replaces it.
    async fn stop_all(&mut self, until: Instant, kind: StopKind) -> StopReport {
        self.start_id = None;
        if kind == StopKind::Drain {
            self.cell.close();
            self.take_the_last().await;
        }
        if self.cell.state() == State::Running {
            self.cell.advance(State::Stopping);
        }
        let mut total = StopReport::default();
        let mut weight_left: u32 = self.entries.iter().map(|entry| entry.cell.weight()).sum();
        for entry in self
            .entries
            .iter_mut()
            .rev()
            .filter(|entry| !entry.is_drained())
        {
            let weight = entry.cell.weight();
            let share =
                until.saturating_duration_since(time::now()) * weight / weight_left.max(weight);
            weight_left -= weight.min(weight_left);
            let stopped = pin!(entry.stop(after(share), kind));
            let report = if kind == StopKind::Drain {
                stopped.await
            } else {
                match select(stopped, pin!(self.line.order())).await {
                    Either::Left((report, _)) => report,
                    Either::Right((order, _)) => {
                        self.next = Some(order.map_or(Heard::Nothing, Heard::Order));
                        return total;
                    }
                }
            };
            total.add(report);
        }
        self.cell.rest();
        total
    }

    /// Starts the children that were added before the supervisor closed, because their accepted
    /// messages must be handled.
    async fn take_the_last(&mut self) {
        while let Ok(last) = self.inbox.try_recv() {
            if let Inbox::Add(mut child) = last {
                child.entry.start(AT_ONCE, None, None);
                self.entries.push(child.spawn());
            }
        }
    }
}

/// A random number from 0 to 1; zero, without a draw, if the backoff has no jitter or delay.
fn chance(backoff: Backoff) -> f64 {
    if backoff.initial.is_zero() || backoff.jitter <= 0.0 {
        0.0
    } else {
        rand::chance()
    }
}

#[cfg(test)]
mod tests;
