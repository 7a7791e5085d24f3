//! The task of one actor. It owns the mailbox and the factory, and runs incarnations in sequence as
//! its supervisor orders, so that two never coexist.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use alys_runtime::{
    sync::oneshot,
    time::{self, Instant},
};

use crate::{
    actor::cell::Cell,
    actor::config::ConfigCell,
    actor::control::{self, ATTENTION},
    actor::error::{Failure, InjectedFailure, Phase, panic_text},
    actor::faults::Fault,
    actor::frame::InFrame,
    actor::incarnation::{
        Attended, Batch, Incarnation, Next, Taken, Watch, caught, is_timer, last_word, unwound,
    },
    actor::lifecycle::State,
    actor::orders::{Abandoned, Exit, Line, Order, Reports, Start, Stop, StopKind, StopReport},
    actor::scope::{Owner, Scope, Timers},
    actor::{AlysActor, Context},
    after, interceptor,
    mailbox::address::Addr,
    mailbox::dead_letters::Reason,
    mailbox::envelope::{Envelope, Meta},
    mailbox::message::Message,
    mailbox::{Reader, add},
};

/// Limits on the time and memory of an actor, from its [`ChildSpec`](crate::ChildSpec).
pub(crate) struct TaskLimits {
    pub start_timeout: Option<Duration>,
    pub handle_timeout: Option<Duration>,
    pub stop_timeout: Duration,
    pub memory_budget: Option<usize>,
}

pub(crate) struct ActorTask<A: AlysActor, F, R> {
    pub addr: Addr<A::Message>,
    pub reader: Reader<A::Message>,
    pub factory: F,
    pub cell: Arc<Cell>,
    pub line: Line<R>,
    pub limits: TaskLimits,
    pub config: Arc<ConfigCell<A::Config>>,
    /// Dependencies, which must run before the actor starts.
    pub needs: Vec<Arc<Cell>>,
    /// The timers of the last incarnation, which only a planted bug keeps.
    pub kept_timers: Option<Arc<Timers<A::Message>>>,
}

/// End of an incarnation.
enum End {
    Failed(Failure),
    /// The actor requested its stop.
    Finished,
    Stopped(Stop, Abandoned),
    /// The supervisor has ended.
    Orphaned,
}

impl<A: AlysActor, F, R> Drop for ActorTask<A, F, R> {
    fn drop(&mut self) {
        self.cell.shared.remove(&self.cell);
    }
}

impl<A, F, Fut, E, R> ActorTask<A, F, R>
where
    A: AlysActor,
    R: Reports,
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<A, E>> + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    /// Runs until the actor terminates. `self` is boxed, because a future stores its argument
    /// twice.
    pub async fn run(mut self: Box<Self>) {
        let mut next = self.line.order().await;
        while let Some(order) = next {
            next = match order {
                Order::Start(start) => self.incarnate(start).await,
                Order::Stop(Stop {
                    kind: StopKind::Pause,
                    done,
                    ..
                }) => {
                    self.cell.rest();
                    let _ = done.send(StopReport::default());
                    self.line.order().await
                }
                Order::Stop(Stop {
                    kind: StopKind::Drain,
                    done,
                    ..
                }) => {
                    self.cell.rest();
                    let left = Abandoned {
                        messages: self.reader.abandon(),
                        ..self.nothing_left()
                    };
                    let _ = done.send(self.report(left));
                    return;
                }
                Order::Retire => {
                    if matches!(self.cell.state(), State::Crashed | State::StartFailed) {
                        self.cell.advance(State::Failed);
                    } else {
                        self.cell.rest();
                    }
                    self.reader.abandon();
                    return;
                }
            };
        }
    }

    /// Runs one incarnation from its start order to its end. Returns the next order.
    async fn incarnate(&mut self, mut start: Start) -> Option<Order> {
        let mut stop = match Box::pin(self.line.ready(&mut start, &self.needs)).await {
            Ok(stop) => stop,
            Err(order) => return order,
        };
        let scope = Arc::new(Scope::new(self.cell.clone()));
        let _owner = Owner(scope.clone());
        let ctx = Context {
            addr: self.addr.clone(),
            cell: self.cell.clone(),
            incarnation: self.cell.begin(),
            scope: scope.clone(),
            timers: Arc::new(Timers::new(scope.clone())),
            config: self.config.clone(),
        };
        if ctx.incarnation > 1 && !self.reader.is_empty() && interceptor::restart_loses_a_message()
        {
            drop(self.reader.pop());
        }
        if interceptor::timers_outlive_their_incarnation() {
            if let Some(earlier) = self.kept_timers.take() {
                ctx.timers.adopt(&earlier);
            }
            self.kept_timers = Some(ctx.timers.clone());
        }
        let mut watch = Watch::new();
        let end = self
            .live(ctx, &mut watch, &mut start.started, &mut stop)
            .await;
        // The next sibling need not wait any longer for an incarnation that did not run.
        start.started = None;
        if !Box::pin(scope.end()).await {
            tracing::warn!(actor = %self.cell.path, "a task of the ended incarnation computes on");
        }
        match end {
            End::Failed(failure) => self.line.report(start.start_id, Exit::Failed(failure)),
            End::Finished => self.line.report(start.start_id, Exit::Normal),
            End::Orphaned => return None,
            End::Stopped(stop, mut left) => {
                if stop.kind == StopKind::Drain {
                    left.messages = self.reader.abandon();
                }
                let is_last = stop.kind == StopKind::Drain;
                let _ = stop.done.send(self.report(left));
                if is_last {
                    return None;
                }
            }
        }
        match watch.next_order {
            Some(order) => Some(order),
            None => self.line.order().await,
        }
    }

    async fn live(
        &mut self,
        ctx: Context<A>,
        watch: &mut Watch,
        started: &mut Option<oneshot::Sender<()>>,
        stop: &mut Option<Stop>,
    ) -> End {
        alys_runtime::buggify_pause!("actors.child.slow_start", 250_000, 200);
        let factory = &mut self.factory;
        let made = caught(Phase::Creating, async move { factory().await });
        let limit = self.limits.start_timeout;
        let made = Box::pin(watch.attend(&self.cell, stop, limit, made)).await;
        let actor = match made {
            Attended::Done(Ok(actor)) => actor,
            Attended::Done(Err(failure)) => {
                return self.failed(State::StartFailed, failure, stop.take());
            }
            Attended::Hung(after) => {
                return self.hung(State::StartFailed, Phase::Creating, after, stop.take());
            }
            Attended::Cut => return self.cut(Abandoned::default(), stop.take()),
            Attended::Orphaned => return End::Orphaned,
        };
        let mut incarnation = Incarnation::new(actor, ctx);
        let end = self.serve(&mut incarnation, watch, started, stop).await;
        let Incarnation { actor, .. } = incarnation;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(actor))) {
            tracing::warn!(
                actor = %self.cell.path,
                panic = panic_text(&*panic),
                "panic while dropping the actor"
            );
        }
        end
    }

    async fn serve(
        &mut self,
        incarnation: &mut Incarnation<A>,
        watch: &mut Watch,
        started: &mut Option<oneshot::Sender<()>>,
        stop: &mut Option<Stop>,
    ) -> End {
        let began = caught(Phase::Starting, async {
            incarnation.actor.pre_start(&incarnation.ctx).await?;
            if incarnation.ctx.incarnation > 1 {
                incarnation.actor.post_restart(&incarnation.ctx).await?;
            }
            incarnation.actor.started(&incarnation.ctx).await
        });
        match Box::pin(watch.attend(&self.cell, stop, self.limits.start_timeout, began)).await {
            Attended::Done(Ok(())) => {}
            Attended::Done(Err(failure)) => {
                return self.failed(State::StartFailed, failure, stop.take());
            }
            Attended::Hung(after) => {
                return self.hung(State::StartFailed, Phase::Starting, after, stop.take());
            }
            Attended::Cut => return self.cut(Abandoned::default(), stop.take()),
            Attended::Orphaned => return End::Orphaned,
        }
        self.cell.advance(State::Running);
        if let Some(started) = started.take() {
            let _ = started.send(());
        }
        loop {
            if let Some(stop) = stop.take() {
                return Box::pin(self.stop(incarnation, watch, stop)).await;
            }
            // Fast path: no pending signals and a queued message.
            let is_calm = self.cell.control.flags() & ATTENTION == 0;
            if is_calm && let Some(envelope) = self.reader.pop() {
                if let Err(end) = self.handle(incarnation, watch, envelope, stop).await {
                    return Box::pin(self.ended(incarnation, end)).await;
                }
                if let Some(failure) = self.over_budget(incarnation) {
                    return Box::pin(self.crashed(incarnation, failure, stop.take())).await;
                }
                if incarnation.is_turn_over() {
                    alys_runtime::yield_now().await;
                }
                continue;
            }
            let envelope = match incarnation.next(&mut self.reader).await {
                Next::Failure => {
                    let failure = incarnation
                        .ctx
                        .scope
                        .failure()
                        .unwrap_or(Failure::EndedItself);
                    return Box::pin(self.crashed(incarnation, failure, stop.take())).await;
                }
                Next::Stop => return Box::pin(self.finish(incarnation)).await,
                Next::Order(None) => return End::Orphaned,
                Next::Order(Some(Order::Stop(ordered))) => {
                    *stop = Some(ordered);
                    continue;
                }
                Next::Order(Some(Order::Start(_) | Order::Retire)) => {
                    tracing::error!(
                        actor = %self.cell.path,
                        "ordered to start or retire while running"
                    );
                    continue;
                }
                Next::Config => {
                    let hook = caught(
                        Phase::Reconfiguring,
                        incarnation.actor.reconfigured(&incarnation.ctx),
                    );
                    let hook = watch.attend(&self.cell, stop, self.limits.handle_timeout, hook);
                    let attended = Box::pin(hook).await;
                    if let Err(end) = self.attended(attended, Phase::Reconfiguring, stop) {
                        return Box::pin(self.ended(incarnation, end)).await;
                    }
                    continue;
                }
                Next::Timer(envelope) | Next::Message(envelope) => envelope,
            };
            if let Err(end) = self.handle(incarnation, watch, envelope, stop).await {
                return Box::pin(self.ended(incarnation, end)).await;
            }
            if let Some(failure) = self.over_budget(incarnation) {
                return Box::pin(self.crashed(incarnation, failure, stop.take())).await;
            }
            if incarnation.is_turn_over() {
                alys_runtime::yield_now().await;
            }
        }
    }

    /// Handles one message or one batch. The error is the end of the incarnation.
    async fn handle(
        &mut self,
        incarnation: &mut Incarnation<A>,
        watch: &mut Watch,
        envelope: Envelope<A::Message>,
        stop: &mut Option<Stop>,
    ) -> Result<(), End> {
        alys_runtime::buggify_yield!("actors.child.yield_before", 100_000);
        if self.is_late(&envelope) {
            return Ok(());
        }
        let may_fault = self.cell.control.flags() & control::FAULTS != 0;
        if A::BATCH > 1 && !may_fault {
            return Box::pin(self.handle_batch(incarnation, watch, envelope, stop)).await;
        }
        self.count_timers([&envelope.meta]);
        self.count_crossed(incarnation.ctx.incarnation, [&envelope.meta]);
        let fault = if may_fault {
            self.fault(envelope.msg.kind())
        } else {
            None
        };
        if fault == Some(Fault::Drop) {
            self.reader
                .mailbox
                .record_dead_letter(Reason::Injected, &envelope);
            add(&self.reader.mailbox.stats.dropped, 1);
            return Ok(());
        }
        let Envelope { msg, meta } = envelope;
        let kind = msg.kind();
        let phase = Phase::Handling(kind);
        incarnation.note(kind);
        let begun = self.begin(kind, &meta);
        let span = self.span(kind, &meta);
        if let Some(fault) = fault.filter(|fault| *fault != Fault::LoseReply) {
            let suffered = caught(phase, suffer(fault));
            let suffered = watch.attend(&self.cell, stop, self.limits.handle_timeout, suffered);
            let suffered = Box::pin(suffered).await;
            if !matches!(suffered, Attended::Done(Ok(()))) {
                return self.undone(
                    suffered,
                    phase,
                    vec![Taken { kind, meta }],
                    VecDeque::new(),
                    stop,
                );
            }
        }
        let attended = {
            let Incarnation {
                actor, ctx, frame, ..
            } = incarnation;
            if let Some(frame) = frame {
                frame.begin(kind, meta);
                frame.loses_replies = fault == Some(Fault::LoseReply);
            }
            let work = pin!(actor.handle(msg, ctx));
            let work = pin!(InFrame {
                frame,
                span,
                phase,
                future: work,
            });
            watch
                .attend(&self.cell, stop, self.limits.handle_timeout, work)
                .await
        };
        alys_runtime::buggify_yield!("actors.child.yield_after", 100_000);
        if let Attended::Done(Ok(())) = attended {
            self.reader.mailbox.stats.count(kind);
            self.end(kind, begun);
            return self.judge(incarnation, stop);
        }
        let meta = incarnation
            .frame
            .as_mut()
            .map(|frame| mem::take(&mut frame.meta))
            .unwrap_or_default();
        let taken = Taken { kind, meta };
        self.undone(attended, phase, vec![taken], VecDeque::new(), stop)
    }

    async fn handle_batch(
        &mut self,
        incarnation: &mut Incarnation<A>,
        watch: &mut Watch,
        first: Envelope<A::Message>,
        stop: &mut Option<Stop>,
    ) -> Result<(), End> {
        let mut waiting = VecDeque::from([first]);
        while waiting.len() < A::BATCH
            && let Some(next) = self.reader.pop()
        {
            if !self.is_late(&next) {
                waiting.push_back(next);
            }
        }
        waiting
            .iter()
            .for_each(|envelope| incarnation.note(envelope.msg.kind()));
        let begun = self.reader.mailbox.is_timed.load(Relaxed).then(time::now);
        let mut batch = Batch::new(waiting);
        let Incarnation {
            actor, ctx, frame, ..
        } = incarnation;
        let attended = {
            let work = pin!(actor.handle_batch(&mut batch, ctx));
            let work = InFrame {
                frame,
                span: None,
                phase: Phase::HandlingBatch,
                future: work,
            };
            watch
                .attend(&self.cell, stop, self.limits.handle_timeout, work)
                .await
        };
        let (mut done, mut taken, waiting) = batch.into_parts();
        self.count_timers(done.iter().chain(&taken).map(|taken| &taken.meta));
        let metas = done.iter().chain(&taken).map(|taken| &taken.meta);
        self.count_crossed(ctx.incarnation, metas);
        let is_done = matches!(attended, Attended::Done(Ok(())));
        if is_done {
            done.append(&mut taken);
        }
        for done in &done {
            self.reader.mailbox.stats.count(done.kind);
            self.end(done.kind, begun);
        }
        if is_done {
            let (timers, waiting): (VecDeque<_>, VecDeque<_>) = waiting
                .into_iter()
                .partition(|envelope| is_timer(&envelope.meta));
            for timer in timers {
                ctx.send_after(Duration::ZERO, timer.msg);
            }
            self.reader.put_back(waiting.into_iter());
            return self.judge(incarnation, stop);
        }
        self.undone(attended, Phase::HandlingBatch, taken, waiting, stop)
    }

    /// Records as dead letters the messages whose handler did not complete. The messages left in a
    /// batch return to the queue.
    fn undone(
        &mut self,
        attended: Attended<()>,
        phase: Phase,
        taken: Vec<Taken>,
        waiting: VecDeque<Envelope<A::Message>>,
        stop: &mut Option<Stop>,
    ) -> Result<(), End> {
        let stats = self.reader.mailbox.stats.clone();
        let kind = taken.last().map(|taken| taken.kind);
        let reason = match attended {
            Attended::Done(_) => Reason::Killed,
            Attended::Hung(_) | Attended::Cut | Attended::Orphaned => Reason::Interrupted,
        };
        // Timer messages are not requeued, because timers end with their incarnation.
        let (timers, waiting): (VecDeque<_>, VecDeque<_>) = waiting
            .into_iter()
            .partition(|envelope| is_timer(&envelope.meta));
        self.count_timers(timers.iter().map(|timer| &timer.meta));
        for timer in &timers {
            self.reader
                .mailbox
                .record_dead_letter(Reason::Interrupted, timer);
            add(&stats.interrupted, 1);
        }
        for Taken { kind, meta } in taken {
            if let Some(home) = self.reader.mailbox.home() {
                home.record_dead_letter(reason, kind, meta.sender);
            }
            if reason == Reason::Killed {
                stats.count_failed(kind);
            } else {
                add(&stats.interrupted, 1);
            }
        }
        if !waiting.is_empty() {
            self.reader.put_back(waiting.into_iter());
        }
        if let (Attended::Cut, Some(kind)) = (&attended, kind) {
            tracing::warn!(
                actor = %self.cell.path,
                kind,
                "handling cut off: it took longer than the stop allows"
            );
        }
        match self.attended(attended, phase, stop) {
            Err(End::Stopped(stop, left)) => Err(End::Stopped(
                stop,
                Abandoned {
                    handling: kind,
                    ..left
                },
            )),
            ended => ended,
        }
    }

    /// Updates the actor's health after a message.
    fn judge(&self, incarnation: &mut Incarnation<A>, stop: &mut Option<Stop>) -> Result<(), End> {
        incarnation
            .judge()
            .map_err(|failure| self.failed(State::Crashed, failure, stop.take()))
    }

    /// Converts the outcome of a piece of work to the end of the incarnation, if it ends it.
    fn attended(
        &self,
        attended: Attended<()>,
        phase: Phase,
        stop: &mut Option<Stop>,
    ) -> Result<(), End> {
        match attended {
            Attended::Done(Ok(())) => Ok(()),
            Attended::Done(Err(failure)) => Err(self.failed(State::Crashed, failure, stop.take())),
            Attended::Hung(after) => Err(self.hung(State::Crashed, phase, after, stop.take())),
            Attended::Cut => Err(self.cut(self.nothing_left(), stop.take())),
            Attended::Orphaned => Err(End::Orphaned),
        }
    }

    /// Counts the timer messages among these.
    fn count_timers<'a>(&self, begun: impl IntoIterator<Item = &'a Meta>) {
        let timers = begun.into_iter().filter(|meta| is_timer(meta)).count();
        if timers > 0 {
            add(&self.reader.mailbox.stats.timers, timers as u64);
        }
    }

    /// Counts the timer messages among these that another incarnation set.
    fn count_crossed<'a>(&self, living: u64, begun: impl IntoIterator<Item = &'a Meta>) {
        let is_of_other = |meta: &&Meta| is_timer(meta) && meta.incarnation != living;
        let crossed = begun.into_iter().filter(is_of_other).count();
        if crossed > 0 {
            add(&self.reader.mailbox.stats.crossed, crossed as u64);
        }
    }

    /// True if the message has expired, in which case it is recorded as a dead letter.
    fn is_late(&self, envelope: &Envelope<A::Message>) -> bool {
        let has_passed = |deadline: Instant| time::now() >= deadline;
        let is_late = envelope.meta.deadline.is_some_and(has_passed) && envelope.msg.expires();
        if is_late {
            add(&self.reader.mailbox.stats.expired, 1);
            self.reader
                .mailbox
                .record_dead_letter(Reason::Expired, envelope);
        }
        is_late
    }

    fn fault(&self, kind: &'static str) -> Option<Fault> {
        self.cell
            .shared
            .faults
            .get()
            .and_then(|faults| faults.strike(&self.cell.path, kind))
    }

    /// Records the waiting time of a message and returns the start of its handler, if times are
    /// measured.
    fn begin(&self, kind: &'static str, meta: &Meta) -> Option<Instant> {
        let mailbox = &self.reader.mailbox;
        if !mailbox.is_timed.load(Relaxed) {
            return None;
        }
        let now = time::now();
        if let Some(sent) = meta.sent() {
            mailbox
                .stats
                .kind(kind)
                .observe_waiting(now.saturating_duration_since(sent));
        }
        Some(now)
    }

    fn end(&self, kind: &'static str, begun: Option<Instant>) {
        if let Some(begun) = begun {
            let took = time::now().saturating_duration_since(begun);
            self.reader.mailbox.stats.kind(kind).observe_handling(took);
        }
    }

    /// The span of a message, which follows from the sender's span; none unless spans are on.
    fn span(&self, kind: &'static str, meta: &Meta) -> Option<tracing::Span> {
        if !crate::spans_are_on() {
            return None;
        }
        let id = meta.id(self.cell.number);
        let correlation = meta.correlation.unwrap_or(id);
        let span =
            tracing::debug_span!("message", actor = %self.cell.path, kind, %id, %correlation);
        if let Some(sender) = meta
            .watched
            .as_ref()
            .and_then(|watched| watched.span.clone())
        {
            span.follows_from(sender);
        }
        Some(span)
    }

    fn over_budget(&self, incarnation: &Incarnation<A>) -> Option<Failure> {
        let budget = self.limits.memory_budget?;
        let memory = match unwound(Phase::Judging, || incarnation.actor.memory()) {
            Ok(memory) => memory,
            Err(failure) => return Some(failure),
        };
        let bytes = memory.saturating_add(self.reader.mailbox.bytes());
        (bytes > budget).then_some(Failure::OverBudget { bytes, budget })
    }

    /// Stops the incarnation as ordered. A drain handles the queued messages first, in at most
    /// three quarters of its time.
    async fn stop(
        &mut self,
        incarnation: &mut Incarnation<A>,
        watch: &mut Watch,
        stop: Stop,
    ) -> End {
        let mut left = self.nothing_left();
        let now = time::now();
        let until = stop.until;
        let drain_until = now + until.saturating_duration_since(now) * 3 / 4;
        let is_drain = stop.kind == StopKind::Drain;
        let mut stop = Some(stop);
        self.cell.advance(State::Stopping);
        let within = until.saturating_duration_since(now);
        self.say(
            incarnation.actor.pre_stop(&incarnation.ctx),
            within,
            &mut left,
        )
        .await;
        if is_drain {
            self.reader.close();
            while time::now() < drain_until
                && let Some(envelope) = self.reader.pop()
            {
                if let Err(end) = self.handle(incarnation, watch, envelope, &mut stop).await {
                    return Box::pin(self.ended(incarnation, end)).await;
                }
                if incarnation.is_turn_over() {
                    alys_runtime::yield_now().await;
                }
            }
        }
        let within = until.saturating_duration_since(time::now());
        self.say(
            incarnation.actor.stopped(&incarnation.ctx),
            within,
            &mut left,
        )
        .await;
        self.cell.advance(State::Stopped);
        match stop {
            Some(stop) => End::Stopped(stop, left),
            None => End::Orphaned,
        }
    }

    /// Stops the incarnation at the actor's own request.
    async fn finish(&mut self, incarnation: &mut Incarnation<A>) -> End {
        let mut left = self.nothing_left();
        self.cell.advance(State::Stopping);
        let within = self.limits.stop_timeout;
        let until = after(within);
        let mut failure = self
            .say(
                incarnation.actor.pre_stop(&incarnation.ctx),
                within,
                &mut left,
            )
            .await;
        let within = until.saturating_duration_since(time::now());
        failure = failure.or(self
            .say(
                incarnation.actor.stopped(&incarnation.ctx),
                within,
                &mut left,
            )
            .await);
        self.cell.advance(State::Stopped);
        if left.stopping {
            tracing::warn!(actor = %self.cell.path, "stopping cut off");
        }
        failure.map_or(End::Finished, End::Failed)
    }

    /// Runs a hook of a stop and records its failure or cancellation.
    async fn say(
        &mut self,
        hook: impl Future<Output = ()>,
        within: Duration,
        left: &mut Abandoned,
    ) -> Option<Failure> {
        match last_word(Phase::Stopping, within, hook).await {
            Ok(in_time) => {
                left.stopping |= !in_time;
                None
            }
            Err(failure) => {
                self.cell.failed(&failure);
                left.failure = Some(failure.chain());
                Some(failure)
            }
        }
    }

    /// Runs `pre_restart` if the incarnation failed.
    async fn ended(&mut self, incarnation: &mut Incarnation<A>, end: End) -> End {
        if let End::Failed(failure) = &end {
            let hook = incarnation.actor.pre_restart(failure, &incarnation.ctx);
            match last_word(Phase::Stopping, self.limits.stop_timeout, hook).await {
                Ok(true) => {}
                Ok(false) => tracing::warn!(actor = %self.cell.path, "pre_restart cut off"),
                Err(failure) => {
                    tracing::warn!(
                        actor = %self.cell.path,
                        reason = failure.chain(),
                        "pre_restart failed"
                    );
                }
            }
        }
        end
    }

    async fn crashed(
        &mut self,
        incarnation: &mut Incarnation<A>,
        failure: Failure,
        stop: Option<Stop>,
    ) -> End {
        let end = self.failed(State::Crashed, failure, stop);
        self.ended(incarnation, end).await
    }

    /// Converts a failure to the end of the incarnation. A failure during a stop answers the stop;
    /// any other is reported to the supervisor.
    fn failed(&self, state: State, failure: Failure, stop: Option<Stop>) -> End {
        self.cell.failed(&failure);
        match stop {
            Some(stop) => {
                self.cell.rest();
                End::Stopped(
                    stop,
                    Abandoned {
                        failure: Some(failure.chain()),
                        ..self.nothing_left()
                    },
                )
            }
            None => {
                if self.cell.state() == State::Stopping {
                    self.cell.rest();
                } else {
                    self.cell.advance(state);
                }
                End::Failed(failure)
            }
        }
    }

    fn hung(&self, state: State, phase: Phase, after: Duration, stop: Option<Stop>) -> End {
        self.failed(state, Failure::Hung { phase, after }, stop)
    }

    fn cut(&self, left: Abandoned, stop: Option<Stop>) -> End {
        self.cell.rest();
        match stop {
            Some(stop) => End::Stopped(
                stop,
                Abandoned {
                    actor: self.cell.path.to_string(),
                    ..left
                },
            ),
            None => End::Orphaned,
        }
    }

    fn nothing_left(&self) -> Abandoned {
        Abandoned {
            actor: self.cell.path.to_string(),
            ..Abandoned::default()
        }
    }

    fn report(&self, left: Abandoned) -> StopReport {
        StopReport {
            stopped: vec![self.cell.path.to_string()],
            abandoned: if left.is_empty() {
                Vec::new()
            } else {
                vec![left]
            },
        }
    }
}

async fn suffer(fault: Fault) -> Result<(), InjectedFailure> {
    match fault {
        Fault::Panic => panic!("an injected panic"),
        Fault::Fail => Err(InjectedFailure),
        Fault::Hang => std::future::pending().await,
        Fault::Slow(delay) => {
            time::sleep(delay).await;
            Ok(())
        }
        Fault::LoseReply | Fault::Drop => Ok(()),
    }
}
