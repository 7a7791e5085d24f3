//! One incarnation of an actor: selects the next piece of work and runs the actor's code, whose
//! panics and errors become failures.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use alys_runtime::{
    buggify,
    time::{self, Instant, Sleep},
    trace,
};
use futures::FutureExt;

use crate::{
    actor::cell::Cell,
    actor::control::{self, ATTENTION},
    actor::error::{Failure, Phase, panic_text},
    actor::orders::{Order, Stop},
    actor::scope::Timers,
    actor::{AlysActor, Context, Health},
    interceptor, later,
    mailbox::Reader,
    mailbox::current::{self, Frame},
    mailbox::envelope::{Envelope, Meta, Origin},
    mailbox::message::Message,
};

/// Messages after which an actor yields. It is small in the simulator, because the queue of an
/// actor that sends to itself never empties and time would not advance.
const MESSAGES_A_TURN: u32 = if alys_runtime::is_simulated() {
    32
} else {
    256
};

/// The next piece of work of an actor.
pub(crate) enum Next<M> {
    Order(Option<Order>),
    Failure,
    Stop,
    Config,
    Timer(Envelope<M>),
    Message(Envelope<M>),
}

/// Outcome of a piece of the actor's work.
pub(crate) enum Attended<T> {
    Done(Result<T, Failure>),
    /// The work exceeded its time limit.
    Hung(Duration),
    /// The work was cancelled at the deadline of a stop.
    Cut,
    Orphaned,
}

/// The running incarnation: the actor and the state of its loop.
pub(crate) struct Incarnation<A: AlysActor> {
    pub actor: A,
    pub ctx: Context<A>,
    pub frame: Option<Box<Frame>>,
    health: Health,
    sleep: Option<Sleep>,
    /// True if the mailbox is served before a due timer. The two alternate, so that neither
    /// starves.
    queue_first: bool,
    turn: u32,
    /// Reused buffer of trace events: path, a zero byte, kind.
    note: Vec<u8>,
}

impl<A: AlysActor> Incarnation<A> {
    pub fn new(actor: A, ctx: Context<A>) -> Self {
        let mut note = Vec::new();
        if alys_runtime::is_simulated() {
            note.extend_from_slice(ctx.cell.path.as_bytes());
            note.push(0);
        }
        let frame = Some(Box::new(Frame::new(
            ctx.cell.number,
            ctx.incarnation,
            ctx.cell.shared.tables.clone(),
        )));
        let health = Health::Healthy;
        Self {
            actor,
            ctx,
            frame,
            health,
            sleep: None,
            queue_first: false,
            turn: 0,
            note,
        }
    }

    /// Waits for the next piece of work. Orders and failures precede messages.
    pub async fn next(&mut self, reader: &mut Reader<A::Message>) -> Next<A::Message> {
        poll_fn(|cx| {
            if buggify!("actors.life.spurious_wakeup", 50_000) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let next = self.poll_next(reader, cx);
            if next.is_pending() {
                let control = &self.ctx.cell.control;
                control.register(cx);
                let is_called = control.flags() & ATTENTION & !control::TIMERS != 0;
                if is_called || (reader.poll_ready(cx).is_ready() && !reader.is_empty()) {
                    cx.waker().wake_by_ref();
                }
            }
            next
        })
        .await
    }

    fn poll_next(
        &mut self,
        reader: &mut Reader<A::Message>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Next<A::Message>> {
        let Self {
            ctx,
            sleep,
            queue_first,
            ..
        } = self;
        let control = &ctx.cell.control;
        let flags = control.flags() & ATTENTION;
        if flags & !control::TIMERS != 0 {
            if let Poll::Ready(order) = control.poll_order(cx) {
                return Poll::Ready(Next::Order(order));
            }
            if flags & control::FAILED != 0 {
                return Poll::Ready(Next::Failure);
            }
            if flags & control::STOP != 0 {
                return Poll::Ready(Next::Stop);
            }
            if flags & control::CONFIG != 0 {
                control.clear(control::CONFIG);
                return Poll::Ready(Next::Config);
            }
        }
        if flags & control::TIMERS == 0 {
            return reader.pop().map_or(Poll::Pending, |envelope| {
                Poll::Ready(Next::Message(envelope))
            });
        }
        for take_queue in [*queue_first, !*queue_first] {
            let next = if take_queue {
                reader.pop().map(Next::Message)
            } else {
                poll_timer(&ctx.timers, sleep, cx).map(|(incarnation, msg)| {
                    let sequence = reader.next_timer();
                    let priority = msg.priority();
                    Next::Timer(Envelope {
                        msg,
                        meta: Meta {
                            sequence,
                            origin: Origin::Timer,
                            incarnation,
                            priority,
                            ..Meta::default()
                        },
                    })
                })
            };
            if let Some(next) = next {
                *queue_first = !take_queue;
                return Poll::Ready(next);
            }
        }
        Poll::Pending
    }

    /// Counts a message. True if the task should yield to others.
    pub fn is_turn_over(&mut self) -> bool {
        self.turn = (self.turn + 1) % MESSAGES_A_TURN;
        self.turn == 0 || buggify!("actors.life.short_turn")
    }

    /// Emits the trace event for the start of a handler.
    pub fn note(&mut self, kind: &'static str) {
        if alys_runtime::is_simulated() {
            let path = self.note.len();
            self.note.extend_from_slice(kind.as_bytes());
            trace::event("actor", &self.note);
            self.note.truncate(path);
        }
    }

    /// Calls the actor's health check and publishes a change.
    pub fn judge(&mut self) -> Result<(), Failure> {
        let health = unwound(Phase::Judging, || self.actor.health_check())?;
        if health != self.health {
            self.health = health;
            self.ctx.cell.set_health(health);
        }
        Ok(())
    }
}

/// Pops a due timer, with the incarnation that set it; otherwise registers the task to be woken
/// when the next is due.
fn poll_timer<M: Send + 'static>(
    timers: &Timers<M>,
    sleep: &mut Option<Sleep>,
    cx: &mut TaskContext<'_>,
) -> Option<(u64, M)> {
    loop {
        let due = timers.next_due()?;
        if let Some(timer) = timers.pop(time::now()) {
            return Some(timer);
        }
        match sleep {
            Some(sleep) if sleep.deadline() != due => sleep.reset(due),
            Some(_) => {}
            None => *sleep = Some(time::sleep_until(due)),
        }
        let is_due = sleep
            .as_mut()
            .is_some_and(|sleep| Pin::new(sleep).poll(cx).is_ready());
        if !is_due {
            return None;
        }
    }
}

/// Messages to handle together, see [`AlysActor::handle_batch`].
pub struct Batch<M: Message> {
    waiting: VecDeque<Envelope<M>>,
    taken: Vec<Taken>,
    done: Vec<Taken>,
}

/// Metadata of a message whose handler has started.
pub(crate) struct Taken {
    pub kind: &'static str,
    pub meta: Meta,
}

/// True for the message of a timer.
pub(crate) fn is_timer(meta: &Meta) -> bool {
    meta.origin == Origin::Timer
}

impl<M: Message> Batch<M> {
    pub(crate) fn new(waiting: VecDeque<Envelope<M>>) -> Self {
        Self {
            waiting,
            taken: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Takes the next message; none at the end of the batch. It counts as handled once
    /// [`done`](Self::done) is called or `handle_batch` succeeds, and as failed if `handle_batch`
    /// fails before.
    pub fn take(&mut self) -> Option<M> {
        let Envelope { msg, meta } = self.waiting.pop_front()?;
        let kind = msg.kind();
        current::with(|frame| frame.begin(kind, meta.clone()));
        self.taken.push(Taken { kind, meta });
        Some(msg)
    }

    /// Marks the messages taken so far as handled, regardless of a later failure.
    pub fn done(&mut self) {
        self.done.append(&mut self.taken);
    }

    /// Number of messages not taken yet.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True once all messages are taken.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Splits the batch into messages that are done, taken but not done, and not taken.
    pub(crate) fn into_parts(self) -> (Vec<Taken>, Vec<Taken>, VecDeque<Envelope<M>>) {
        (self.done, self.taken, self.waiting)
    }
}

impl<M: Message> fmt::Debug for Batch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("waiting", &self.waiting.len())
            .field("taken", &self.taken.len())
            .finish()
    }
}

/// Runs the actor's code and converts its panics and errors to failures.
pub(crate) async fn caught<T, E>(
    phase: Phase,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Errored {
            phase,
            source: Arc::new(error),
        }),
        Err(panic) => Err(Failure::Panicked {
            phase,
            message: panic_text(&*panic),
        }),
    }
}

/// Same as [`caught`] for synchronous code that returns no error.
pub(crate) fn unwound<T>(phase: Phase, work: impl FnOnce() -> T) -> Result<T, Failure> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Failure::Panicked {
        phase,
        message: panic_text(&*panic),
    })
}

/// Runs a hook with a time limit. False if the limit cancelled it.
pub(crate) async fn last_word(
    phase: Phase,
    within: Duration,
    hook: impl Future<Output = ()>,
) -> Result<bool, Failure> {
    let hook = async {
        hook.await;
        Ok::<(), std::convert::Infallible>(())
    };
    match time::timeout(within, caught(phase, hook)).await {
        Ok(outcome) => outcome.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// Enforces time limits on the actor's code, and receives orders while it runs.
pub(crate) struct Watch {
    sleep: Option<Sleep>,
    /// An order that arrived after the stop, because the supervisor no longer waits for its answer.
    pub next_order: Option<Order>,
}

impl Watch {
    pub fn new() -> Self {
        Self {
            sleep: None,
            next_order: None,
        }
    }

    /// Runs a piece of work until it completes or is cancelled, by its `limit` or the deadline of a
    /// stop. A stop that arrives during the work is stored in `stop`. A later stop replaces an
    /// earlier one and the order that followed it, because the supervisor no longer waits for
    /// these.
    pub async fn attend<T>(
        &mut self,
        cell: &Cell,
        stop: &mut Option<Stop>,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Attended<T> {
        let mut work = pin!(work);
        let mut begun = None;
        let attended = poll_fn(|cx| {
            // The monitor detects by these fields an actor that stays in one poll and blocks its
            // thread.
            cell.turns
                .store(cell.turns.load(Relaxed).wrapping_add(1), Relaxed);
            cell.is_busy.store(true, Relaxed);
            let polled = work.as_mut().poll(cx);
            cell.is_busy.store(false, Relaxed);
            if let Poll::Ready(done) = polled {
                return Poll::Ready(Attended::Done(done));
            }
            while let Poll::Ready(order) = cell.control.poll_order(cx) {
                match order {
                    None => return Poll::Ready(Attended::Orphaned),
                    Some(Order::Stop(ordered)) => {
                        *stop = Some(ordered);
                        self.next_order = None;
                    }
                    Some(order) if stop.is_some() => self.next_order = Some(order),
                    Some(Order::Start(_) | Order::Retire) => {
                        tracing::error!("ordered to start or retire while running");
                    }
                }
            }
            let now = time::now();
            let begun = *begun.get_or_insert(now);
            if stop.as_ref().is_some_and(|stop| now >= stop.until) {
                return Poll::Ready(Attended::Cut);
            }
            let has_hung = |limit: &Duration| now.saturating_duration_since(begun) >= *limit;
            if let Some(limit) =
                limit.filter(|limit| has_hung(limit) && !interceptor::ignores_hangs())
            {
                return Poll::Ready(Attended::Hung(limit));
            }
            let until = [
                stop.as_ref().map(|stop| stop.until),
                limit.map(|limit| later(begun, limit)),
            ];
            if let Some(until) = until.into_iter().flatten().min() {
                self.wake_at(until, cx);
            }
            cell.is_waiting.store(true, Relaxed);
            Poll::Pending
        })
        .await;
        cell.is_waiting.store(false, Relaxed);
        attended
    }

    /// Wakes the task at `until` or earlier. An earlier timer is kept, so that work with many short
    /// awaits sets a single timer.
    fn wake_at(&mut self, until: Instant, cx: &mut TaskContext<'_>) {
        let sleep = self.sleep.get_or_insert_with(|| time::sleep_until(until));
        if sleep.deadline() > until || sleep.is_elapsed() {
            sleep.reset(until);
        }
        if Pin::new(sleep).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
