//! Execution of a plan: the letters, the actors that obey them, the senders and the run.

// Long, because the letters, the actors that obey them and the senders share one history, which a
// split would have to pass through all of them.

use std::{
    future::pending,
    panic::resume_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use alys_actor_extras::{Bus, Group, Pool, PoolError, PoolSpec, SupervisorExt, SystemExt};
use alys_actor_system::{
    Addr, AlysActor, AskError, Backoff, Batch, ChildSpec, Context, DeadLetters, Failure, Intensity,
    Limits, Message, Overflow, Planned, Priority, Receipt, Reply, Retry, SendError, ShutdownReport,
    Slot, Snapshot, StartError, State, Strategy, Supervisor, SupervisorSpec, System, SystemEvent,
    TellError, mailbox,
};
use alys_runtime::time;
use futures::future::{Either, join_all, select};

use crate::{
    history::{Bounds, Event, History, Hook, Id, Letter as Known, Outcome, kind_of},
    plan::{ActorPlan, BATCH, Deed, Habits, How, LetterPlan, Plan, Start, Step, Stop, ms, place},
};

/// Time limit of a run; only a run that waits for ever reaches it. It is long in simulation, where
/// time costs nothing.
pub const PATIENCE: Duration = Duration::from_secs(if alys_runtime::is_simulated() {
    600
} else {
    30
});

/// Tolerated delay of timed events. It is long on tokio, because the machine may be under load.
pub const GRACE: Duration = Duration::from_millis(if alys_runtime::is_simulated() {
    5
} else {
    5_000
});

/// Time of observation after the end, in which no actor may act.
const QUIET: Duration = Duration::from_millis(if alys_runtime::is_simulated() {
    10_000
} else {
    5
});

const START_TIMEOUT: Duration = ms(20);
pub const STOP_TIMEOUT: Duration = ms(30);

/// First sender numbers of actors and of the tasks that actors start; the tasks outside the system
/// have the numbers below.
const ACTOR_STREAMS: u32 = 1000;
const TASK_STREAMS: u32 = 2000;

pub struct World {
    pub history: History,
    addrs: Mutex<Vec<Addr<Letter>>>,
    pool: Mutex<Option<Pool<Letter>>>,
    bus: Mutex<Option<Bus>>,
    made: Vec<AtomicUsize>,
    next_stream: AtomicU32,
}

/// Observations of a run from outside, taken after its end.
pub struct Seen {
    pub shutdown: ShutdownReport,
    pub deadline: Duration,
    pub tree: Snapshot,
    pub dead: DeadLetters,
    /// True if the root gave up.
    pub gave_up: bool,
    /// Paths of the actors, in the order of the plan; those of the pool follow.
    pub paths: Vec<String>,
    /// Paths of the supervisors, in the order of the plan.
    pub supervisors: Vec<String>,
    /// Pairs of the path of a supervisor and the path of its child, in the order of start.
    pub children: Vec<(String, String)>,
    /// True for actors that handle messages in batches; same order as `paths`.
    pub is_batching: Vec<bool>,
}

pub struct Letter {
    world: Arc<World>,
    pub id: Id,
    priority: Priority,
    overflow: Overflow,
    size: usize,
    expires: bool,
    deed: Deed,
    answers: Vec<(Id, Reply<Id>)>,
    timer_of: Option<u64>,
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.world.history.dropped(self.id);
    }
}

impl Message for Letter {
    fn kind(&self) -> &'static str {
        kind_of(self.id)
    }
    fn priority(&self) -> Priority {
        self.priority
    }
    fn overflow(&self) -> Overflow {
        self.overflow
    }
    fn expires(&self) -> bool {
        self.expires
    }
    fn size(&self) -> usize {
        self.size
    }
}

/// The event that is published on the bus.
#[derive(Clone)]
struct News {
    stream: u32,
    deed: Arc<LetterPlan>,
}

/// A message without a mailbox, because only the conversion of the subscription is of interest: it
/// records the decisions of supervisors.
struct Tick;

impl Message for Tick {
    fn kind(&self) -> &'static str {
        "tick"
    }
    fn overflow(&self) -> Overflow {
        Overflow::DropNewest
    }
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
pub struct ToldToFail;

fn panic_quietly() -> ! {
    // The panic hook is bypassed, because it would print a line for thousands of intended panics.
    resume_unwind(Box::new("told to panic"))
}

impl World {
    fn letter(
        self: &Arc<Self>,
        stream: u32,
        to: Option<usize>,
        plan: &LetterPlan,
        change: impl FnOnce(&mut Known),
    ) -> Option<Letter> {
        let mut known = Known::new(stream, to, plan.priority, plan.overflow, plan.size);
        known.expires = plan.expires;
        change(&mut known);
        let Known {
            overflow, timer_of, ..
        } = known;
        // The letter keeps the priority of its plan; the history records the effective priority
        // after `change`.
        let id = self.history.letter(known)?;
        Some(Letter {
            world: self.clone(),
            id,
            priority: plan.priority,
            overflow,
            size: plan.size,
            expires: plan.expires,
            deed: plan.deed.clone(),
            answers: Vec::new(),
            timer_of,
        })
    }

    fn addr(&self, actor: usize) -> Option<Addr<Letter>> {
        self.addrs.lock().unwrap().get(actor).cloned()
    }

    fn told(&self, id: Id, outcome: Result<Receipt, TellError<Letter>>) {
        let outcome = outcome.map_or(Outcome::NotTaken, Outcome::Taken);
        self.history.note(Event::Sent { id, outcome });
    }

    fn sent(&self, id: Id, outcome: Result<Receipt, SendError<Letter>>) {
        let outcome = outcome.map_or(Outcome::NotTaken, Outcome::Taken);
        self.history.note(Event::Sent { id, outcome });
    }

    fn asked(&self, id: Id, begun: Instant, deadline: Duration, answer: Result<Id, AskError>) {
        let took = time::now().saturating_duration_since(begun);
        self.history.note(Event::Asked { id, deadline, took });
        let outcome = match answer {
            Ok(answer) => {
                if answer != id {
                    self.history
                        .complain(format!("{id} was answered with the answer of {answer}"));
                }
                Outcome::Unknown
            }
            Err(AskError::Timeout { .. } | AskError::Dropped { .. }) => Outcome::Unknown,
            Err(_) => Outcome::NotTaken,
        };
        self.history.note(Event::Sent { id, outcome });
    }

    /// Carries out a step of a sender. `held` are its pending replies.
    async fn perform(self: &Arc<Self>, stream: u32, step: &Step, held: &mut Vec<(Id, Reply<Id>)>) {
        for _ in 0..step.times {
            if step.pause > 0 {
                time::sleep(ms(step.pause)).await;
            }
            self.perform_once(stream, step, held).await;
        }
    }

    async fn perform_once(
        self: &Arc<Self>,
        stream: u32,
        step: &Step,
        held: &mut Vec<(Id, Reply<Id>)>,
    ) {
        let all = self.addrs.lock().unwrap().len();
        let to = place(&step.to, all);
        let Some(addr) = self.addr(to) else { return };
        let plan = &step.letter;
        // An ask returns no receipt, so a message dropped by its overflow policy would look like a
        // lost one.
        let asking = |known: &mut Known| {
            if matches!(known.overflow, Overflow::DropOldest | Overflow::DropNewest) {
                known.overflow = Overflow::Fail;
            }
        };
        match step.how {
            How::Tell => {
                let Some(letter) = self.letter(stream, Some(to), plan, |_| {}) else {
                    return;
                };
                self.told(letter.id, addr.tell(letter));
            }
            How::TellAs(priority) => {
                let as_this = |known: &mut Known| known.priority = priority;
                let Some(letter) = self.letter(stream, Some(to), plan, as_this) else {
                    return;
                };
                self.told(letter.id, addr.tell_as(priority, letter));
            }
            How::Send => {
                let sends = |known: &mut Known| known.is_send = true;
                let Some(letter) = self.letter(stream, Some(to), plan, sends) else {
                    return;
                };
                let id = letter.id;
                self.sent(id, addr.send(letter).await);
            }
            How::Forward => {
                let late = |known: &mut Known| {
                    asking(known);
                    known.deadline = None;
                };
                let Some(mut letter) = self.letter(stream, Some(to), plan, late) else {
                    return;
                };
                letter.answers.append(held);
                self.sent(letter.id, addr.forward(letter));
            }
            How::Ask { deadline } => {
                let (begun, deadline) = (time::now(), ms(deadline));
                let by_then = |known: &mut Known| {
                    asking(known);
                    known.deadline = Some(Some(begun + deadline));
                };
                let Some(mut letter) = self.letter(stream, Some(to), plan, by_then) else {
                    return;
                };
                let id = letter.id;
                let ask = |reply| {
                    letter.answers.push((id, reply));
                    letter
                };
                let answer = addr.ask(ask, deadline).await;
                self.asked(id, begun, deadline, answer);
            }
            How::AskRetrying { each, attempts } => {
                let begun = time::now();
                let max = ms(5);
                let retry = Retry {
                    attempts,
                    each: ms(each),
                    backoff: Backoff {
                        initial: ms(1),
                        max,
                        factor: 2.0,
                        jitter: 0.2,
                    },
                };
                let ask = |reply| {
                    let by_then = |known: &mut Known| {
                        asking(known);
                        known.deadline = None;
                    };
                    let made = self.letter(stream, Some(to), plan, by_then);
                    // The limit on letters was checked above.
                    let mut letter = made.unwrap_or_else(|| self.uncounted());
                    letter.answers.push((letter.id, reply));
                    letter
                };
                let id = self.history.book().letters.len();
                if id + attempts as usize >= crate::history::MAX_LETTERS {
                    return;
                }
                let _ = addr.ask_retrying(ask, retry).await;
                let took = time::now().saturating_duration_since(begun);
                let deadline = (ms(each) + max) * attempts;
                self.history.note(Event::Asked { id, deadline, took });
            }
            How::Broadcast => {
                let mut group = Group::new();
                for at in 0..all {
                    if let Some(addr) = self.addr(at) {
                        group.join(at.to_string(), addr).unwrap();
                    }
                }
                if self.history.book().letters.len() + all >= crate::history::MAX_LETTERS {
                    return;
                }
                let mut ids = Vec::new();
                let told = group.broadcast_with(|at| {
                    // A broadcast reports no receipts, so no letter of it may be dropped silently.
                    let letter = self.letter(stream, Some(at), plan, asking);
                    let letter = letter.unwrap_or_else(|| self.uncounted());
                    ids.push(letter.id);
                    letter
                });
                for (id, (_, told)) in ids.into_iter().zip(told) {
                    let outcome = told.map_or(Outcome::NotTaken, |()| Outcome::Unknown);
                    self.history.note(Event::Sent { id, outcome });
                }
            }
            How::Publish => {
                let Some(bus) = self.bus.lock().unwrap().clone() else {
                    return;
                };
                bus.publish(News {
                    stream,
                    deed: Arc::new(plan.clone()),
                });
            }
            How::PoolTell | How::PoolSend | How::PoolAsk { .. } | How::PoolKeyed { .. } => {
                let Some(pool) = self.pool.lock().unwrap().clone() else {
                    return;
                };
                let Some(letter) = self.letter(stream, None, plan, asking) else {
                    return;
                };
                self.perform_pooled(pool, letter, step.how).await;
            }
        }
    }

    async fn perform_pooled(self: &Arc<Self>, pool: Pool<Letter>, mut letter: Letter, how: How) {
        let id = letter.id;
        let is_taken = match how {
            How::PoolTell => pool.tell(letter).is_ok(),
            How::PoolKeyed { key } => pool.tell_keyed([key], letter).is_ok(),
            How::PoolAsk { deadline } => {
                let (begun, deadline) = (time::now(), ms(deadline));
                self.history.book().letters[id].deadline = Some(Some(begun + deadline));
                let ask = |reply| {
                    letter.answers.push((id, reply));
                    letter
                };
                let answer = pool.ask(ask, deadline).await;
                self.asked(id, begun, deadline, answer);
                return;
            }
            _ => pool.send(letter).await.is_ok(),
        };
        let outcome = if is_taken {
            Outcome::Unknown
        } else {
            Outcome::NotTaken
        };
        self.history.note(Event::Sent { id, outcome });
    }

    /// Never called, because callers check the limit on letters first.
    fn uncounted(&self) -> Letter {
        unreachable!("more letters than a run may have")
    }
}

/// One incarnation of an actor. `B` is the maximum size of its batches.
struct Worker<const B: usize> {
    world: Arc<World>,
    index: usize,
    habits: Arc<Habits>,
    start: Start,
    incarnation: u64,
    grown: usize,
    is_pooled: bool,
}

impl<const B: usize> Drop for Worker<B> {
    fn drop(&mut self) {
        self.note(Hook::Dropped);
        self.world.history.dies(self.index);
    }
}

struct TaskGuard(Arc<World>, usize);

impl TaskGuard {
    fn new(world: &Arc<World>, actor: usize) -> Self {
        world.history.task_begins(actor);
        Self(world.clone(), actor)
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.history.task_ends(self.1);
    }
}

impl<const B: usize> Worker<B> {
    fn note(&self, hook: Hook) {
        let (actor, incarnation) = (self.index, self.incarnation);
        self.world.history.note(Event::Hook {
            actor,
            incarnation,
            hook,
        });
    }

    /// Carries out the deed of a letter.
    async fn work(&mut self, letter: &mut Letter, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        let (actor, incarnation) = (self.index, ctx.incarnation());
        self.world.history.note(Event::Begun {
            id: letter.id,
            actor,
            incarnation,
        });
        if letter.timer_of.is_some_and(|of| of != incarnation) {
            let (id, of) = (letter.id, letter.timer_of);
            self.world.history.complain(format!(
                "timer {id} of incarnation {of:?} reached {incarnation}"
            ));
        }
        let deed = std::mem::replace(&mut letter.deed, Deed::Answer);
        match deed {
            Deed::Answer => {}
            Deed::Forget => letter.answers.clear(),
            Deed::Yield(times) => {
                for _ in 0..times {
                    alys_runtime::yield_now().await;
                }
            }
            Deed::Sleep(time) => time::sleep(ms(time)).await,
            Deed::Panic => panic_quietly(),
            Deed::Fail => return Err(ToldToFail),
            // A worker of a pool does not hang, because its `handle_timeout` is a minute.
            Deed::Hang if self.is_pooled => time::sleep(ms(3)).await,
            Deed::Hang => pending().await,
            Deed::Stop => ctx.stop(),
            Deed::Grow(bytes) => self.grown += bytes,
            Deed::Task { acts, panics } => self.begin_task(acts, panics, ctx),
            Deed::TaskSends(step) => {
                let (world, guard) = (self.world.clone(), TaskGuard::new(&self.world, actor));
                let stream = TASK_STREAMS + world.next_stream.fetch_add(1, Relaxed);
                let _ = ctx.spawn("sends", async move {
                    let _guard = guard;
                    world.perform(stream, &step, &mut Vec::new()).await;
                });
            }
            Deed::Timer {
                delay,
                letter,
                cancelled,
            } => {
                let world = self.world.clone();
                let of_this = |known: &mut Known| known.timer_of = Some(incarnation);
                let stream = ACTOR_STREAMS + u32::try_from(actor).unwrap();
                if let Some(letter) = world.letter(stream, Some(actor), &letter, of_this) {
                    let id = letter.id;
                    let timer = ctx.send_after(ms(delay), letter);
                    if cancelled && timer.cancel() {
                        world.history.note(Event::Sent {
                            id,
                            outcome: Outcome::Cancelled,
                        });
                    }
                }
            }
            Deed::Say(step) => {
                let world = self.world.clone();
                let stream = ACTOR_STREAMS + u32::try_from(actor).unwrap();
                world.perform(stream, &step, &mut letter.answers).await;
            }
        }
        for (id, reply) in letter.answers.drain(..) {
            reply.send(id);
        }
        Ok(())
    }

    fn begin_task(&self, acts: u8, panics: bool, ctx: &Context<Self>) {
        let (actor, incarnation) = (self.index, ctx.incarnation());
        let guard = TaskGuard::new(&self.world, actor);
        let _ = ctx.spawn("acts", async move {
            let guard = guard;
            for _ in 0..acts {
                time::sleep(ms(1)).await;
                guard.0.history.note(Event::TaskActs { actor, incarnation });
            }
            if panics {
                panic_quietly();
            }
            if acts % 2 == 1 {
                pending().await
            }
        });
    }
}

impl<const B: usize> AlysActor for Worker<B> {
    type Message = Letter;
    type Error = ToldToFail;
    type Config = ();
    const NAME: &'static str = "Worker";
    const BATCH: usize = B;

    async fn pre_start(&mut self, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        self.incarnation = ctx.incarnation();
        self.note(Hook::PreStart);
        Ok(())
    }

    async fn post_restart(&mut self, _: &Context<Self>) -> Result<(), ToldToFail> {
        self.note(Hook::PostRestart);
        Ok(())
    }

    async fn started(&mut self, _: &Context<Self>) -> Result<(), ToldToFail> {
        match self.start {
            Start::HookError => return Err(ToldToFail),
            Start::HookPanic => panic_quietly(),
            Start::HookHang => pending().await,
            Start::Well | Start::FactoryError | Start::FactoryPanic => {}
        }
        self.note(Hook::Started);
        Ok(())
    }

    async fn handle(&mut self, mut letter: Letter, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        self.work(&mut letter, ctx).await?;
        self.world.history.note(Event::Done {
            id: letter.id,
            actor: self.index,
        });
        Ok(())
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<Letter>,
        ctx: &Context<Self>,
    ) -> Result<(), ToldToFail> {
        let mut done = Vec::new();
        while let Some(mut letter) = batch.take() {
            self.work(&mut letter, ctx).await?;
            done.push(letter.id);
            if self.habits.commits {
                batch.done();
                done.drain(..).for_each(|id| {
                    self.world.history.note(Event::Done {
                        id,
                        actor: self.index,
                    })
                });
            }
        }
        done.drain(..).for_each(|id| {
            self.world.history.note(Event::Done {
                id,
                actor: self.index,
            })
        });
        Ok(())
    }

    async fn pre_restart(&mut self, _: &Failure, _: &Context<Self>) {
        self.note(Hook::PreRestart);
    }

    async fn pre_stop(&mut self, _: &Context<Self>) {
        self.note(Hook::PreStop);
    }

    async fn stopped(&mut self, _: &Context<Self>) {
        self.note(Hook::Stopped);
        if let Some(addr) = self.world.addr(self.index).filter(Addr::is_closed) {
            self.world.history.note(Event::Drained {
                actor: self.index,
                left: addr.depth(),
            });
        }
        match self.habits.stop {
            Stop::Well => {}
            Stop::Slow(time) => time::sleep(ms(time)).await,
            Stop::Panic => panic_quietly(),
        }
    }

    fn memory(&self) -> usize {
        self.grown
    }
}

/// The factory: makes an incarnation, or fails if the plan says so.
async fn make<const B: usize>(
    world: Arc<World>,
    index: usize,
    habits: Arc<Habits>,
    is_pooled: bool,
) -> Result<Worker<B>, ToldToFail> {
    world.history.note(Event::Made { actor: index });
    let before = world.made[index].fetch_add(1, Relaxed);
    let start = habits.starts.get(before).copied().unwrap_or(Start::Well);
    match start {
        Start::FactoryError => return Err(ToldToFail),
        Start::FactoryPanic => panic_quietly(),
        _ => {}
    }
    world.history.lives(index);
    Ok(Worker {
        world,
        index,
        habits,
        start,
        incarnation: 0,
        grown: 0,
        is_pooled,
    })
}

/// The supervision tree of a plan, under construction.
struct Builder {
    system: System,
    world: Arc<World>,
    supervisors: Vec<Supervisor>,
    seen: Seen,
}

impl Builder {
    fn new(name: &str, plan: &Plan) -> Self {
        let root = SupervisorSpec {
            intensity: Intensity {
                restarts: plan.root_restarts,
                within: Duration::from_secs(60),
            },
            backoff: Backoff {
                initial: ms(1),
                max: ms(4),
                factor: 2.0,
                jitter: 0.5,
            },
            ..SupervisorSpec::new(name, Strategy::OneForAll)
        };
        let workers = plan.pool.as_ref().map_or(0, |pool| pool.size);
        let is_batching = |actor: &ActorPlan| actor.batches && plan.faults.is_empty();
        let slack = match (alys_runtime::is_simulated(), plan.faults.is_empty()) {
            (true, true) => 0,
            (true, false) => 1,
            // On tokio a letter may be accepted before its sender has recorded that; each sender
            // may have one such letter.
            (false, _) => 2 + plan.senders.len() + plan.actors.len(),
        };
        let bounds = |actor: &ActorPlan| {
            let in_hand = if is_batching(actor) { BATCH } else { 0 } + slack;
            const LARGEST: usize = 400;
            // An empty mailbox accepts a letter of any size. Next to letters in hand the history
            // cannot distinguish this case, so the limit includes the largest letter.
            let bytes = actor.bytes.map(|bytes| match in_hand {
                0 => bytes,
                in_hand => bytes.max(LARGEST) + in_hand * LARGEST,
            });
            Bounds {
                messages: actor.capacity + in_hand,
                bytes,
            }
        };
        let pooled = plan.pool.iter().flat_map(|pool| {
            let bounds = Bounds {
                messages: pool.capacity + slack,
                bytes: None,
            };
            std::iter::repeat_n(bounds, pool.size)
        });
        let history = History::new(plan.actors.iter().map(bounds).chain(pooled).collect());
        let world = World {
            history,
            addrs: Mutex::default(),
            pool: Mutex::default(),
            bus: Mutex::default(),
            made: (0..plan.actors.len() + workers)
                .map(|_| AtomicUsize::new(0))
                .collect(),
            next_stream: AtomicU32::new(0),
        };
        let system = System::with_root(root);
        let seen = Seen {
            shutdown: ShutdownReport::default(),
            deadline: ms(plan.shutdown.deadline),
            tree: system.snapshot(),
            dead: DeadLetters::default(),
            gave_up: false,
            paths: Vec::new(),
            supervisors: Vec::new(),
            children: Vec::new(),
            is_batching: plan
                .actors
                .iter()
                .map(is_batching)
                .chain((0..workers).map(|_| false))
                .collect(),
        };
        Self {
            system,
            world: Arc::new(world),
            supervisors: Vec::new(),
            seen,
        }
    }

    fn child(&mut self, supervisor: Option<usize>, name: &str) -> String {
        let parent = supervisor.map_or(self.seen.tree.path.clone(), |at| {
            self.seen.supervisors[at].clone()
        });
        let path = format!("{parent}/{name}");
        self.seen.children.push((parent, path.clone()));
        path
    }

    /// Builds the tree. On tokio this fails if a supervisor gives up before the tree is complete,
    /// because its first children failed too often.
    fn build(&mut self, plan: &Plan) -> Result<(), String> {
        self.supervise(plan)?;
        self.populate(plan)?;
        self.pool(plan)?;
        self.harm(plan);
        Ok(())
    }

    fn supervise(&mut self, plan: &Plan) -> Result<(), String> {
        for (at, of) in plan.supervisors.iter().enumerate() {
            // A supervisor has at most two others above it.
            let depth = |mut at: usize| {
                let mut depth = 1;
                while let Some(parent) = plan.supervisors[at].parent.filter(|_| at > 0) {
                    at = place(&parent, at);
                    depth += 1;
                }
                depth
            };
            let parent = of
                .parent
                .filter(|_| at > 0)
                .map(|parent| place(&parent, at));
            let parent = parent.filter(|parent| depth(*parent) < 3);
            let spec = SupervisorSpec {
                intensity: of.intensity,
                backoff: of.backoff,
                exhausted: of.exhausted,
                parent: parent.map(|parent| self.supervisors[parent].clone()),
                ..SupervisorSpec::new(format!("s{at}"), of.strategy)
            };
            self.supervisors
                .push(self.system.supervisor(spec).map_err(gave_up)?);
            let path = self.child(parent, &format!("s{at}"));
            self.seen.supervisors.push(path);
        }
        Ok(())
    }

    fn populate(&mut self, plan: &Plan) -> Result<(), String> {
        for (index, of) in plan.actors.iter().enumerate() {
            let supervisor = place(&of.supervisor, plan.supervisors.len());
            let name = format!("a{index}");
            let path = self.child(Some(supervisor), &name);
            self.seen.paths.push(path);
            let mut spec = ChildSpec {
                start_timeout: Some(START_TIMEOUT),
                stop_timeout: STOP_TIMEOUT,
                memory_budget: of.memory_budget,
                restart_delay: of.pace,
                ..ChildSpec::new(name)
                    .restart(of.restart)
                    .handle_timeout(ms(of.handle_timeout))
            };
            if let Some(on) = of.depends_on.filter(|_| index > 0) {
                let on = &self.seen.paths[place(&on, index)];
                let below = on.split_once('/').map_or("", |(_, below)| below);
                spec = spec.depends_on(below);
            }
            let limits = Limits {
                messages: of.capacity,
                bytes: of.bytes,
            };
            let supervisor = self.supervisors[supervisor].clone();
            let addr = match self.seen.is_batching[index] {
                true => self.start::<BATCH>(&supervisor, spec, limits, index, of),
                false => self.start::<1>(&supervisor, spec, limits, index, of),
            }?;
            self.world.addrs.lock().unwrap().push(addr.clone());
            let Some(overflow) = of.subscribes else {
                continue;
            };
            let world = self.world.clone();
            let subscription = self.system.bus().subscribe(&addr, move |news: &News| {
                let news_of = |known: &mut Known| {
                    known.overflow = match overflow {
                        Overflow::DropOldest | Overflow::DropNewest => Overflow::Fail,
                        other => other,
                    };
                };
                // A panic of the conversion skips the event, which is the intended result beyond
                // the limit on letters.
                world
                    .letter(news.stream, Some(index), &news.deed, news_of)
                    .unwrap_or_else(|| panic_quietly())
            });
            subscription.unwrap().keep();
        }
        Ok(())
    }

    fn start<const B: usize>(
        &self,
        supervisor: &Supervisor,
        spec: ChildSpec,
        slot: impl Into<Slot<Letter>>,
        index: usize,
        plan: &ActorPlan,
    ) -> Result<Addr<Letter>, String> {
        let (world, habits) = (self.world.clone(), Arc::new(plan.habits.clone()));
        let factory = move || make::<B>(world.clone(), index, habits.clone(), false);
        supervisor.start(spec, slot, factory).map_err(gave_up)
    }

    fn pool(&mut self, plan: &Plan) -> Result<(), String> {
        let Some(of) = &plan.pool else { return Ok(()) };
        let supervisor = place(&of.supervisor, plan.supervisors.len());
        let (world, first) = (self.world.clone(), plan.actors.len());
        for worker in 0..of.size {
            let path = self.child(Some(supervisor), &format!("pool-{worker}"));
            self.seen.paths.push(path);
        }
        let spec = PoolSpec::new("pool", of.size, of.capacity).routing(of.routing);
        let like = Arc::new(Habits {
            commits: false,
            starts: Vec::new(),
            stop: Stop::Well,
        });
        let pool = self.supervisors[supervisor]
            .pool::<Worker<1>, _, _, _>(spec, move |worker| {
                make::<1>(world.clone(), first + worker, like.clone(), true)
            })
            .map_err(|error| match error {
                PoolError::Start { source, .. } => gave_up(source),
                other => panic!("{other}"),
            })?;
        self.world
            .addrs
            .lock()
            .unwrap()
            .extend(pool.addresses().iter().cloned());
        *self.world.pool.lock().unwrap() = Some(pool);
        Ok(())
    }

    fn watch(&self) -> Slot<Tick> {
        let (addr, slot) = mailbox::<Tick>(1);
        let world = self.world.clone();
        let decided = self
            .system
            .bus()
            .subscribe(&addr, move |event: &SystemEvent| {
                world.history.note(match event {
                    SystemEvent::Restarting {
                        path,
                        delay,
                        is_open,
                        ..
                    } => Event::Restarting {
                        path: path.to_string(),
                        delay: *delay,
                        is_open: *is_open,
                    },
                    SystemEvent::GivenUp { path } => Event::GivenUp {
                        path: path.to_string(),
                    },
                });
                Tick
            });
        decided.unwrap().keep();
        slot
    }

    fn harm(&self, plan: &Plan) {
        for of in &plan.faults {
            let path = &self.seen.paths[place(&of.actor, plan.actors.len())];
            self.system.faults().plan(
                path,
                Planned::from(of.fault).after(of.after).times(of.times),
            );
        }
    }
}

/// The only valid reason for which a tree cannot be built: its supervisor gave up.
fn gave_up(error: StartError) -> String {
    assert!(matches!(error, StartError::ShutDown { .. }), "{error}");
    error.to_string()
}

/// Executes a plan. Returns the observations and the world with its history, or the reason for
/// which the tree could not be built.
pub async fn carry_out(
    name: String,
    plan: &Plan,
    hear: impl FnOnce(&Arc<World>),
) -> Result<(Seen, Arc<World>), String> {
    let mut builder = Builder::new(&name, plan);
    hear(&builder.world);
    let _ticks = builder.watch();
    builder.build(plan)?;
    let Builder {
        system,
        world,
        mut seen,
        ..
    } = builder;
    *world.bus.lock().unwrap() = Some(system.bus().clone());
    let mut senders = Vec::new();
    for (stream, steps) in (0..).zip(plan.senders.clone()) {
        let world = world.clone();
        senders.push(alys_runtime::spawn("sender", async move {
            for step in steps {
                world.perform(stream, &step, &mut Vec::new()).await;
            }
        }));
    }
    let are_done = AtomicBool::new(false);
    let mut senders = Box::pin(join_all(senders));
    let ended = {
        let moment = async {
            match plan.shutdown.at {
                Some(at) => time::sleep(ms(at)).await,
                None => {
                    (&mut senders).await;
                    are_done.store(true, Relaxed);
                    settled(&system, &world).await;
                }
            }
        };
        let moment = select(Box::pin(moment), Box::pin(system.failed()));
        time::timeout(PATIENCE, moment)
            .await
            .map(|first| matches!(first, Either::Right(_)))
    };
    match ended {
        Ok(gave_up) => seen.gave_up = gave_up,
        Err(_) => world
            .history
            .complain(format!("does not come to rest: {:?}", system.snapshot())),
    }
    world.history.note(Event::ShutdownBegins);
    match time::timeout(PATIENCE, system.shutdown(seen.deadline)).await {
        Ok(report) => seen.shutdown = report,
        Err(_) => world
            .history
            .complain(format!("does not shut down: {:?}", system.snapshot())),
    }
    world.history.note(Event::ShutdownEnds);
    if !are_done.load(Relaxed) && time::timeout(PATIENCE, senders).await.is_err() {
        world
            .history
            .complain("a sender waits on after the shutdown".to_owned());
    }
    seen.gave_up |= system.snapshot().state == State::Failed;
    watch_the_dead(&world).await;
    (seen.tree, seen.dead) = (system.snapshot(), system.dead_letters());
    drop(system);
    world.addrs.lock().unwrap().clear();
    *world.pool.lock().unwrap() = None;
    *world.bus.lock().unwrap() = None;
    let left = world.history.living();
    if left != (0, 0, 0) {
        world.history.complain(format!(
            "live on when all is over: incarnations, tasks, letters: {left:?}"
        ));
    }
    Ok((seen, world))
}

/// Waits until each actor is idle or has ended.
async fn settled(system: &System, world: &World) {
    loop {
        let tree = system.snapshot();
        let addrs = world.addrs.lock().unwrap().clone();
        let is_settled = addrs.iter().all(|addr| {
            let path = addr.path().unwrap_or_default();
            let state = path
                .split_once('/')
                .and_then(|(_, below)| tree.find(below))
                .map(|seen| seen.state);
            addr.is_closed() || (state == Some(State::Running) && addr.depth() == 0)
        });
        if is_settled {
            return;
        }
        time::sleep(ms(1)).await;
    }
}

/// Checks that no incarnation and no task acts or lives after the shutdown.
async fn watch_the_dead(world: &World) {
    let before = world.history.acts();
    let (incarnations, tasks, _) = world.history.living();
    if (incarnations, tasks) != (0, 0) {
        world.history.complain(format!(
            "{incarnations} incarnations, {tasks} tasks outlive the shutdown"
        ));
    }
    time::sleep(QUIET).await;
    let after = world.history.acts();
    if before != after {
        world
            .history
            .complain(format!("{} acts after the shutdown", after - before));
    }
}
