//! The task of one actor: it owns the mailbox and the factory for good, makes one incarnation after the other
//! as its supervisor orders, and so can never have two at once.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use alys_runtime::{sync::mpsc, time};

use crate::{
    actor::{AlysActor, Context},
    error::{Failure, Phase, panic_text},
    life::{Attended, Life, Next, attend, caught, next_before, say_goodbye},
    lifecycle::State,
    mailbox::{Addr, Message},
    protocol::{Abandoned, Exit, Line, Order, Start, Stop, StopKind, StopReport},
    scope::{Owner, Scope, Timers},
    tree::Cell,
};

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
        let stop = match self.line.ready(&mut start, &self.cell).await {
            Ok(stop) => stop,
            Err(order) => return order,
        };
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
        let end = self.live(ctx, start, stop).await;
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

    async fn live(&mut self, ctx: Context<A>, start: Start, mut stop: Option<Stop>) -> End {
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
