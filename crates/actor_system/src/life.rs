//! One incarnation at work: what it does next, and how the actor's own code is run so that nothing of it gets
//! out.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
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
    protocol::{Order, Stop},
    scope::Timers,
    tree::Cell,
};

/// Messages after which an actor lets others run: its queue never empties in the simulator if it sends to
/// itself, and time would stand still.
const MESSAGES_A_TURN: u32 = 16;

/// What the actor is to do next.
pub(crate) enum Next<M> {
    Order(Option<Order>),
    Failure,
    Timer(M),
    Message(M),
}

/// How a piece of the actor's work came out.
pub(crate) enum Attended<T> {
    Done(Result<T, Failure>),
    /// A stop's time was up.
    Cut,
    Orphaned,
}

/// An incarnation at work.
pub(crate) struct Life<A: AlysActor> {
    pub actor: A,
    pub ctx: Context<A>,
    health: Health,
    nap: Option<Sleep>,
    /// Whether the mailbox is served before a due timer: they take turns, so that neither starves the other.
    queue_first: bool,
    turn: u32,
    /// Reused for trace events: path, a zero, kind.
    note: Vec<u8>,
}

impl<A: AlysActor> Life<A> {
    pub fn new(actor: A, ctx: Context<A>, cell: &Cell) -> Self {
        let mut note = cell.path.as_bytes().to_vec();
        note.push(0);
        Self { actor, ctx, health: Health::Healthy, nap: None, queue_first: false, turn: 0, note }
    }

    /// Waits for something to do. Orders and failures come before messages.
    pub async fn next(
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

    pub fn note(&mut self, kind: &'static str) {
        let prefix = self.ctx.path.len() + 1;
        self.note.truncate(prefix);
        self.note.extend_from_slice(kind.as_bytes());
        trace::event("actor", &self.note);
    }

    pub fn judge(&mut self, cell: &Cell) {
        let health = self.actor.health();
        if health != self.health {
            self.health = health;
            cell.set_health(health);
        }
    }

    pub async fn give_way(&mut self) {
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
pub(crate) async fn next_before<M>(deadline: Instant, queue: &mut mpsc::Receiver<M>) -> Option<M> {
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
pub(crate) async fn say_goodbye<A: AlysActor>(life: &mut Life<A>, within: Duration) -> Result<bool, Failure> {
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
pub(crate) async fn caught<T, E>(phase: Phase, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Errored { phase, source: Arc::new(error) }),
        Err(panic) => Err(Failure::Panicked { phase, message: panic_text(&*panic) }),
    }
}

/// Sees a piece of work through. A stop that arrives meanwhile is kept in `stop`, and the work has until then;
/// a later stop takes the place of an earlier one, for which nobody waits any more.
pub(crate) async fn attend<T>(
    orders: &mut mpsc::Receiver<Order>,
    stop: &mut Option<Stop>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Attended<T> {
    let mut work = pin!(work);
    loop {
        let order = pin!(orders.recv());
        let ordered = select(work.as_mut(), order);
        let heard = match stop {
            None => ordered.await,
            Some(stop) => {
                let remaining = stop.until.saturating_duration_since(time::now());
                match time::timeout(remaining, ordered).await {
                    Ok(heard) => heard,
                    Err(_) => return Attended::Cut,
                }
            }
        };
        match heard {
            Either::Left((done, _)) => return Attended::Done(done),
            Either::Right((None, _)) => return Attended::Orphaned,
            Either::Right((Some(Order::Stop(ordered)), _)) => *stop = Some(ordered),
            Either::Right((Some(Order::Start(_) | Order::Retire), _)) => {
                tracing::error!("ordered to start or retire while running");
            }
        }
    }
}
