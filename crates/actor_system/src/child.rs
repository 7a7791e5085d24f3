//! The task of one actor: it owns the mailbox and the factory for good, makes one incarnation after the other as its supervisor orders,
//! and so can never have two at once.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use alys_runtime::{
    sync::mpsc,
    time::{self, Instant, Sleep},
    trace,
};
use futures::{
    FutureExt,
    future::{Either, select},
};

use crate::{
    actor::{AlysActor, Context, Health},
    error::{Failure, Phase, panic_text},
    lifecycle::State,
    mailbox::{Addr, Message},
    protocol::{Abandoned, Exit, Line, Order, Start, Stop, StopKind, StopReport},
    scope::{Owner, Scope, Timers},
    tree::Cell,
};

/// Messages after which an actor lets others run: its queue never empties in the simulator if it sends to itself, and time would
/// stand still.
const MESSAGES_A_TURN: u32 = 16;

pub(crate) struct Child<A: AlysActor, F> {
    pub addr: Addr<A::Message>,
    pub queue: mpsc::Receiver<A::Message>,
    pub factory: F,
    pub cell: Arc<Cell>,
    pub line: Line,
    /// How long an actor that stopped itself has for its `stopping`.
    pub stop_within: Duration,
}

/// How an incarnation ended.
enum End {
    Failed(Failure),
    /// It asked for it.
    Finished,
    Stopped(Stop, Abandoned),
    /// The supervisor is gone.
    Orphaned,
}

/// What the actor is to do next.
enum Next<M> {
    Order(Option<Order>),
    Failure,
    Timer(M),
    Message(M),
}

/// How a piece of the actor's work came out.
enum Attended<T> {
    Done(Result<T, Failure>),
    /// A stop's time was up.
    Cut,
    Orphaned,
}

/// An incarnation at work.
struct Life<A: AlysActor> {
    actor: A,
    ctx: Context<A>,
    health: Health,
    nap: Option<Sleep>,
    /// Whether the mailbox is served before a due timer: they take turns, so that neither starves the other.
    queue_first: bool,
    turn: u32,
    /// Reused for trace events: path, a zero, kind.
    note: Vec<u8>,
}

impl<A, F, Fut, E> Child<A, F>
where
    A: AlysActor,
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<A, E>> + Send,
    E: std::error::Error + Send + Sync + 'static,
{
    pub async fn run(mut self) {
        let mut next = self.line.order().await;
        while let Some(order) = next {
            next = match order {
                Order::Start(start) => self.incarnate(start).await,
                Order::Stop(Stop { kind: StopKind::Pause, done, .. }) => {
                    self.cell.rest();
                    let _ = done.send(StopReport::default());
                    self.line.order().await
                }
                Order::Stop(Stop { kind: StopKind::Drain, done, .. }) => {
                    self.cell.rest();
                    let left = Abandoned { messages: self.close(), ..self.nothing_left() };
                    let _ = done.send(self.report(left));
                    return;
                }
                Order::Retire => {
                    if matches!(self.cell.state(), State::Crashed | State::StartFailed) {
                        self.cell.advance(State::Failed);
                    } else {
                        self.cell.rest();
                    }
                    self.close();
                    return;
                }
            };
        }
    }

    /// One incarnation from its start order to its end. Returns the next order.
    async fn incarnate(&mut self, mut start: Start) -> Option<Order> {
        if let Err(order) = self.line.ready(&mut start, &self.cell).await {
            return order;
        }
        let scope = Arc::<Scope>::default();
        let _owner = Owner(scope.clone());
        let ctx = Context {
            addr: self.addr.clone(),
            path: self.cell.path.clone(),
            incarnation: self.cell.begin(),
            scope: scope.clone(),
            timers: Arc::new(Timers::new(scope.clone())),
        };
        let life = start.life;
        let end = self.live(ctx, start).await;
        if !scope.end().await {
            tracing::warn!(actor = %self.cell.path, "a task of the ended incarnation computes on");
        }
        match end {
            End::Failed(failure) => self.line.report(life, Exit::Failed(failure)),
            End::Finished => self.line.report(life, Exit::Normal),
            End::Orphaned => return None,
            End::Stopped(stop, mut left) => {
                if stop.kind == StopKind::Drain {
                    left.messages = self.close();
                }
                let is_last = stop.kind == StopKind::Drain;
                let _ = stop.done.send(self.report(left));
                if is_last {
                    return None;
                }
            }
        }
        self.line.order().await
    }

    async fn live(&mut self, ctx: Context<A>, start: Start) -> End {
        let mut stop = None;
        let factory = &mut self.factory;
        let made = caught(Phase::Creating, async move { factory().await });
        let actor = match attend(&mut self.line.orders, &mut stop, made).await {
            Attended::Done(Ok(actor)) => actor,
            Attended::Done(Err(failure)) => return self.failed(State::StartFailed, failure, stop),
            Attended::Cut => return self.cut(Abandoned::default(), stop),
            Attended::Orphaned => return End::Orphaned,
        };
        let mut life = Life::new(actor, ctx, &self.cell);
        let end = self.serve(&mut life, start, stop).await;
        let Life { actor, .. } = life;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(actor))) {
            tracing::warn!(actor = %self.cell.path, panic = panic_text(&*panic), "panic while dropping the actor");
        }
        end
    }

    async fn serve(&mut self, life: &mut Life<A>, start: Start, mut stop: Option<Stop>) -> End {
        let started = caught(Phase::Starting, async { life.actor.started(&life.ctx).await });
        match attend(&mut self.line.orders, &mut stop, started).await {
            Attended::Done(Ok(())) => {}
            Attended::Done(Err(failure)) => return self.failed(State::StartFailed, failure, stop),
            Attended::Cut => return self.cut(Abandoned::default(), stop),
            Attended::Orphaned => return End::Orphaned,
        }
        self.cell.advance(State::Running);
        if let Some(started) = start.started {
            let _ = started.send(());
        }
        loop {
            if let Some(failure) = life.ctx.scope.failure() {
                return self.failed(State::Crashed, failure, stop);
            }
            if let Some(stop) = stop.take() {
                return self.stop(life, stop).await;
            }
            if life.ctx.scope.stop_requested() {
                return self.finish(life).await;
            }
            let next = life.next(&mut self.line.orders, &mut self.queue).await;
            let msg = match next {
                Next::Failure => continue,
                Next::Order(None) => return End::Orphaned,
                Next::Order(Some(Order::Stop(ordered))) => {
                    stop = Some(ordered);
                    continue;
                }
                Next::Order(Some(Order::Start(_) | Order::Retire)) => {
                    tracing::error!(actor = %self.cell.path, "ordered to start or retire while running");
                    continue;
                }
                Next::Timer(msg) | Next::Message(msg) => msg,
            };
            if let Err(end) = self.handle(life, msg, &mut stop).await {
                return end;
            }
            life.give_way().await;
        }
    }

    async fn handle(
        &mut self,
        life: &mut Life<A>,
        msg: A::Message,
        stop: &mut Option<Stop>,
    ) -> Result<(), End> {
        let kind = msg.kind();
        life.note(kind);
        let handled = caught(Phase::Handling(kind), async { life.actor.handle(msg, &life.ctx).await });
        match attend(&mut self.line.orders, stop, handled).await {
            Attended::Done(Ok(())) => {
                self.addr.stats.count(kind);
                life.judge(&self.cell);
                Ok(())
            }
            Attended::Done(Err(failure)) => {
                self.addr.stats.failed.fetch_add(1, Relaxed);
                Err(self.failed(State::Crashed, failure, stop.take()))
            }
            Attended::Cut => {
                self.addr.stats.interrupted.fetch_add(1, Relaxed);
                tracing::warn!(actor = %self.cell.path, kind, "handling cut off: it took longer than the stop allows");
                Err(self.cut(Abandoned { handling: Some(kind), ..self.nothing_left() }, stop.take()))
            }
            Attended::Orphaned => Err(End::Orphaned),
        }
    }

    /// Ends the incarnation as ordered: a drain first handles what was taken, in three quarters of its time.
    async fn stop(&mut self, life: &mut Life<A>, stop: Stop) -> End {
        let mut left = self.nothing_left();
        let now = time::now();
        let until = stop.until;
        let drain_until = now + until.saturating_duration_since(now) * 3 / 4;
        let is_drain = stop.kind == StopKind::Drain;
        let mut stop = Some(stop);
        self.cell.advance(State::Stopping);
        if is_drain {
            self.queue.close();
            while let Some(msg) = next_before(drain_until, &mut self.queue).await {
                if let Err(end) = self.handle(life, msg, &mut stop).await {
                    return end;
                }
                life.give_way().await;
            }
        }
        match say_goodbye(life, until.saturating_duration_since(time::now())).await {
            Ok(true) => {}
            Ok(false) => left.stopping = true,
            Err(failure) => {
                self.cell.failed(&failure);
                left.failure = Some(failure.chain());
            }
        }
        self.cell.advance(State::Stopped);
        match stop {
            Some(stop) => End::Stopped(stop, left),
            None => End::Orphaned,
        }
    }

    /// Ends the incarnation because the actor asked for it.
    async fn finish(&mut self, life: &mut Life<A>) -> End {
        self.cell.advance(State::Stopping);
        let goodbye = say_goodbye(life, self.stop_within).await;
        self.cell.advance(State::Stopped);
        match goodbye {
            Ok(in_time) => {
                if !in_time {
                    tracing::warn!(actor = %self.cell.path, "stopping cut off");
                }
                End::Finished
            }
            Err(failure) => {
                self.cell.failed(&failure);
                End::Failed(failure)
            }
        }
    }

    /// A failure while a stop waits is the answer to the stop; otherwise the supervisor decides.
    fn failed(&self, state: State, failure: Failure, stop: Option<Stop>) -> End {
        self.cell.failed(&failure);
        match stop {
            Some(stop) => {
                self.cell.rest();
                End::Stopped(stop, Abandoned { failure: Some(failure.chain()), ..self.nothing_left() })
            }
            None => {
                self.cell.advance(state);
                End::Failed(failure)
            }
        }
    }

    fn cut(&self, left: Abandoned, stop: Option<Stop>) -> End {
        self.cell.rest();
        match stop {
            Some(stop) => End::Stopped(stop, Abandoned { actor: self.cell.path.to_string(), ..left }),
            None => End::Orphaned,
        }
    }

    /// Closes the mailbox for good and drops what waits in it. Returns how much that was.
    fn close(&mut self) -> usize {
        self.queue.close();
        let mut dropped = 0;
        while self.queue.try_recv().is_ok() {
            dropped += 1;
        }
        self.addr.stats.abandoned.fetch_add(dropped as u64, Relaxed);
        dropped
    }

    fn nothing_left(&self) -> Abandoned {
        Abandoned { actor: self.cell.path.to_string(), ..Abandoned::default() }
    }

    fn report(&self, left: Abandoned) -> StopReport {
        StopReport {
            stopped: vec![self.cell.path.to_string()],
            abandoned: if left.is_empty() { Vec::new() } else { vec![left] },
        }
    }
}

impl<A: AlysActor> Life<A> {
    fn new(actor: A, ctx: Context<A>, cell: &Cell) -> Self {
        let mut note = cell.path.as_bytes().to_vec();
        note.push(0);
        Self { actor, ctx, health: Health::Healthy, nap: None, queue_first: false, turn: 0, note }
    }

    /// Waits for something to do. Orders and failures come before messages.
    async fn next(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        queue: &mut mpsc::Receiver<A::Message>,
    ) -> Next<A::Message> {
        let Self { ctx, nap, queue_first, .. } = self;
        poll_fn(|cx| {
            if let Poll::Ready(order) = orders.poll_recv(cx) {
                return Poll::Ready(Next::Order(order));
            }
            if ctx.scope.poll_failed(cx.waker()) {
                return Poll::Ready(Next::Failure);
            }
            for take_queue in [*queue_first, !*queue_first] {
                let next = if take_queue {
                    // None only after the queue was closed, which ends the incarnation anyway.
                    queue.poll_recv(cx).map(|msg| msg.map(Next::Message))
                } else {
                    poll_timer(&ctx.timers, nap, cx).map(|msg| Some(Next::Timer(msg)))
                };
                if let Poll::Ready(Some(next)) = next {
                    *queue_first = !take_queue;
                    return Poll::Ready(next);
                }
            }
            Poll::Pending
        })
        .await
    }

    fn note(&mut self, kind: &'static str) {
        let prefix = self.ctx.path.len() + 1;
        self.note.truncate(prefix);
        self.note.extend_from_slice(kind.as_bytes());
        trace::event("actor", &self.note);
    }

    fn judge(&mut self, cell: &Cell) {
        let health = self.actor.health();
        if health != self.health {
            self.health = health;
            cell.set_health(health);
        }
    }

    async fn give_way(&mut self) {
        self.turn += 1;
        if self.turn == MESSAGES_A_TURN {
            self.turn = 0;
            alys_runtime::yield_now().await;
        }
    }
}

fn poll_timer<M: Send + 'static>(
    timers: &Timers<M>,
    nap: &mut Option<Sleep>,
    cx: &mut std::task::Context<'_>,
) -> Poll<M> {
    loop {
        let Some(due) = timers.next_due() else {
            *nap = None;
            return Poll::Pending;
        };
        if let Some(msg) = timers.pop(time::now()) {
            return Poll::Ready(msg);
        }
        let sleep = match nap {
            Some(sleep) if sleep.deadline() == due => sleep,
            _ => nap.insert(time::sleep_until(due)),
        };
        match Pin::new(&mut *sleep).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(()) => *nap = None,
        }
    }
}

/// The next message of a closed queue; none once it is empty, or the time is up.
async fn next_before<M>(deadline: Instant, queue: &mut mpsc::Receiver<M>) -> Option<M> {
    let remaining = deadline.saturating_duration_since(time::now());
    if remaining.is_zero() {
        return None;
    }
    match queue.try_recv() {
        Ok(msg) => Some(msg),
        Err(mpsc::error::TryRecvError::Disconnected) => None,
        Err(mpsc::error::TryRecvError::Empty) => time::timeout(remaining, queue.recv()).await.ok().flatten(),
    }
}

/// Calls `stopping`. False if it was cut off.
async fn say_goodbye<A: AlysActor>(life: &mut Life<A>, within: Duration) -> Result<bool, Failure> {
    let stopping = async {
        life.actor.stopping(&life.ctx).await;
        Ok::<(), A::Error>(())
    };
    match time::timeout(within, caught(Phase::Stopping, stopping)).await {
        Ok(outcome) => outcome.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// Runs the actor's code and turns its panics and errors into failures.
async fn caught<T, E>(phase: Phase, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Errored { phase, source: Arc::new(error) }),
        Err(panic) => Err(Failure::Panicked { phase, message: panic_text(&*panic) }),
    }
}

/// Sees a piece of work through. A stop that arrives meanwhile is kept in `stop`, and the work has until then.
async fn attend<T>(
    orders: &mut mpsc::Receiver<Order>,
    stop: &mut Option<Stop>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Attended<T> {
    let mut work = pin!(work);
    while stop.is_none() {
        match select(work.as_mut(), pin!(orders.recv())).await {
            Either::Left((done, _)) => return Attended::Done(done),
            Either::Right((None, _)) => return Attended::Orphaned,
            Either::Right((Some(Order::Stop(ordered)), _)) => *stop = Some(ordered),
            Either::Right((Some(Order::Start(_) | Order::Retire), _)) => {
                tracing::error!("ordered to start or retire while running");
            }
        }
    }
    let remaining =
        stop.as_ref().map_or(Duration::ZERO, |stop| stop.until.saturating_duration_since(time::now()));
    match time::timeout(remaining, work).await {
        Ok(done) => Attended::Done(done),
        Err(_) => Attended::Cut,
    }
}
