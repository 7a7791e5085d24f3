//! A worker that obeys its messages and writes a diary, because tests wait for events and never for
//! time.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use alys_actor_system::{
    Addr, AlysActor, Backoff, ChildSpec, Context, Extension, Intensity, MailboxSnapshot, Message,
    Reply, Slot, Snapshot, State, Strategy, Supervisor, SupervisorSpec, System, SystemEvent,
    mailbox, testkit::unaccounted,
};
use alys_runtime::{
    sync::{Notify, oneshot},
    time,
};

/// Longer than any test takes, in either mode.
pub const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Started(u64),
    Noted(u64),
    TaskGone,
    Stopping,
    Dropped,
}

/// The events of a test in order, with their actors.
pub struct Record<E> {
    entries: Mutex<Vec<(String, E)>>,
    written: Notify,
}

/// The record of [`Worker`]s.
pub type Diary = Record<Event>;

impl<E> Default for Record<E> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            written: Notify::new(),
        }
    }
}

impl<E: Clone + PartialEq + fmt::Debug> Record<E> {
    pub fn write(&self, who: &str, what: impl Into<E>) {
        let entry = (who.to_owned(), what.into());
        self.entries.lock().unwrap().push(entry);
        self.written.notify_waiters();
    }

    pub fn all(&self) -> Vec<(String, E)> {
        self.entries.lock().unwrap().clone()
    }

    pub fn of(&self, who: &str) -> Vec<E> {
        let mut all = self.all();
        all.retain(|(other, _)| other == who);
        all.into_iter().map(|(_, what)| what).collect()
    }

    pub async fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waited = time::timeout(LONG, async {
            loop {
                let written = self.written.notified();
                if is_so(self) {
                    return;
                }
                written.await;
            }
        });
        if waited.await.is_err() {
            panic!("{what} never happened: {:?}", self.all());
        }
    }

    pub async fn wait_for(&self, who: &str, what: impl Into<E>) {
        let what = what.into();
        let text = format!("{who} {what:?}");
        self.wait(&text, |record| record.of(who).contains(&what))
            .await;
    }
}

impl Diary {
    /// The numbers noted by an actor, in order.
    pub fn notes(&self, actor: &str) -> Vec<u64> {
        let events = self.of(actor).into_iter();
        let note = |event| match event {
            Event::Noted(n) => Some(n),
            _ => None,
        };
        events.filter_map(note).collect()
    }

    /// Starts and stops of all actors from entry `from` on: `a+1` is the start of a's first
    /// incarnation, `a-` its stop.
    pub fn moves(&self, from: usize) -> Vec<String> {
        let entries = self.all().into_iter().skip(from);
        let text = |(who, event)| match event {
            Event::Started(n) => Some(format!("{who}+{n}")),
            Event::Stopping => Some(format!("{who}-")),
            _ => None,
        };
        entries.filter_map(text).collect()
    }
}

/// Blocks a handler until it is opened, and tells the test when the handler has reached it.
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    reached: AtomicBool,
    changed: Notify,
}

impl Gate {
    pub async fn pass(&self) {
        self.reached.store(true, SeqCst);
        self.changed.notify_waiters();
        self.when(&self.open).await;
    }

    pub fn open(&self) {
        self.open.store(true, SeqCst);
        self.changed.notify_waiters();
    }

    pub async fn reached(&self) {
        time::timeout(LONG, self.when(&self.reached))
            .await
            .expect("nobody came to the gate");
    }

    pub async fn opened(&self) {
        self.when(&self.open).await;
    }

    async fn when(&self, flag: &AtomicBool) {
        loop {
            let changed = self.changed.notified();
            if flag.load(SeqCst) {
                return;
            }
            changed.await;
        }
    }
}

pub enum Told {
    Note(u64),
    Panic,
    Fail,
    Echo { n: u64, reply: Reply<u64> },
    Forget { reply: Reply<u64> },
    Wait(Arc<Gate>),
    Hang,
    End,
    SpawnPanic,
    SpawnForever,
    After(Duration, u64),
    AfterCancelled(u64),
    CountTasks { reply: Reply<usize> },
    CountTimers(usize),
}

impl Message for Told {
    fn kind(&self) -> &'static str {
        match self {
            Self::Note(_) => "note",
            Self::Panic => "panic",
            Self::Fail => "fail",
            Self::Echo { .. } => "echo",
            Self::Forget { .. } => "forget",
            Self::Wait(_) => "wait",
            Self::Hang => "hang",
            Self::End => "end",
            Self::SpawnPanic => "spawn_panic",
            Self::SpawnForever => "spawn_forever",
            Self::After(..) => "after",
            Self::AfterCancelled(_) => "after_cancelled",
            Self::CountTasks { .. } => "count_tasks",
            Self::CountTimers(_) => "count_timers",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
pub struct ToldToFail;

/// Failures of a worker's next starts and stops.
#[derive(Default)]
pub struct Faults {
    pub factory_errors: AtomicU32,
    pub factory_panics: AtomicU32,
    pub start_errors: AtomicU32,
    pub start_panics: AtomicU32,
    pub stopping_panics: AtomicU32,
    pub drop_panics: AtomicU32,
    /// The gate of the second start.
    pub second_start: Option<Arc<Gate>>,
}

fn take(count: &AtomicU32) -> bool {
    count
        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

pub struct Worker {
    name: String,
    diary: Arc<Diary>,
    faults: Arc<Faults>,
    alive: Arc<AtomicU32>,
}

impl Worker {
    fn new(name: &str, diary: &Arc<Diary>, faults: &Arc<Faults>, alive: &Arc<AtomicU32>) -> Self {
        assert_eq!(alive.fetch_add(1, SeqCst), 0, "two incarnations of {name}");
        Self {
            name: name.to_owned(),
            diary: diary.clone(),
            faults: faults.clone(),
            alive: alive.clone(),
        }
    }

    fn write(&self, event: Event) {
        self.diary.write(&self.name, event);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
        self.write(Event::Dropped);
        if take(&self.faults.drop_panics) {
            panic!("told to panic when dropped");
        }
    }
}

/// Records the drop of the task that holds it.
struct TaskGone(String, Arc<Diary>);

impl Drop for TaskGone {
    fn drop(&mut self) {
        self.1.write(&self.0, Event::TaskGone);
    }
}

impl AlysActor for Worker {
    type Message = Told;
    type Error = ToldToFail;
    type Config = ();
    const NAME: &'static str = "Worker";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        if take(&self.faults.start_panics) {
            panic!("told to panic at start");
        }
        if take(&self.faults.start_errors) {
            return Err(ToldToFail);
        }
        if let (2, Some(gate)) = (ctx.incarnation(), &self.faults.second_start) {
            gate.pass().await;
        }
        self.write(Event::Started(ctx.incarnation()));
        Ok(())
    }

    async fn handle(&mut self, msg: Told, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        match msg {
            Told::Note(n) => self.write(Event::Noted(n)),
            Told::Panic => panic!("told to panic"),
            Told::Fail => return Err(ToldToFail),
            Told::Echo { n, reply } => {
                reply.send(n);
            }
            Told::Forget { reply } => drop(reply),
            Told::Wait(gate) => gate.pass().await,
            Told::Hang => pending().await,
            Told::End => ctx.stop(),
            Told::SpawnPanic => {
                ctx.spawn("panics", async { panic!("told to panic in a task") })
                    .unwrap();
            }
            Told::SpawnForever => {
                let gone = TaskGone(self.name.clone(), self.diary.clone());
                ctx.spawn("forever", async move {
                    let _gone = gone;
                    pending().await
                })
                .unwrap();
            }
            Told::After(delay, n) => {
                ctx.send_after(delay, Told::Note(n));
            }
            Told::AfterCancelled(n) => {
                let timer = ctx.send_after(Duration::from_millis(5), Told::Note(n));
                let other = ctx.send_after(Duration::ZERO, Told::Note(n + 1));
                assert!(timer.cancel());
                drop(other);
            }
            Told::CountTasks { reply } => {
                let spawned = (0..)
                    .take_while(|_| ctx.spawn("one of many", pending()).is_ok())
                    .count();
                reply.send(spawned);
            }
            Told::CountTimers(count) => {
                for n in 0..count {
                    ctx.send_after(LONG, Told::Note(n as u64));
                }
            }
        }
        Ok(())
    }

    async fn stopped(&mut self, _: &Context<Self>) {
        self.write(Event::Stopping);
        if take(&self.faults.stopping_panics) {
            panic!("told to panic while stopping");
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail at making")]
pub struct NotMade;

/// A queue of the events of a system.
#[derive(Default)]
pub struct Events {
    waiting: Mutex<VecDeque<SystemEvent>>,
    changed: Notify,
}

impl Extension for Events {
    fn on_event(&self, event: &SystemEvent) {
        self.waiting.lock().unwrap().push_back(event.clone());
        self.changed.notify_waiters();
    }
}

impl Events {
    pub async fn next(&self) -> SystemEvent {
        let next = async {
            loop {
                let changed = self.changed.notified();
                if let Some(event) = self.waiting.lock().unwrap().pop_front() {
                    return event;
                }
                changed.await;
            }
        };
        time::timeout(LONG, next).await.expect("no event")
    }
}

/// A system with the diary of its workers.
pub struct World {
    pub system: System,
    pub diary: Arc<Diary>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.system)
    }
}

pub fn fast() -> Backoff {
    Backoff {
        initial: Duration::from_millis(1),
        max: Duration::from_millis(4),
        factor: 2.0,
        jitter: 0.5,
    }
}

pub fn restarts(restarts: usize) -> Intensity {
    Intensity {
        restarts,
        within: Duration::from_secs(60),
    }
}

impl World {
    /// A system whose root gives up at the first failure that reaches it.
    pub fn new() -> Self {
        Self::with_root(0)
    }

    pub fn with_root(root_restarts: usize) -> Self {
        let root = SupervisorSpec {
            intensity: restarts(root_restarts),
            backoff: fast(),
            ..SupervisorSpec::new("world", Strategy::OneForAll)
        };
        Self {
            system: System::with_root(root),
            diary: Arc::default(),
        }
    }

    pub fn supervisor(
        &self,
        name: &str,
        strategy: Strategy,
        intensity: usize,
        parent: Option<&Supervisor>,
    ) -> Supervisor {
        let spec = SupervisorSpec {
            intensity: restarts(intensity),
            backoff: fast(),
            parent: parent.cloned(),
            ..SupervisorSpec::new(name, strategy)
        };
        self.system.supervisor(spec).unwrap()
    }

    pub fn worker(&self, supervisor: &Supervisor, name: &str) -> Addr<Told> {
        self.worker_as(supervisor, ChildSpec::new(name), 64)
    }

    pub fn worker_as(
        &self,
        supervisor: &Supervisor,
        spec: ChildSpec,
        slot: impl Into<Slot<Told>>,
    ) -> Addr<Told> {
        self.faulty_worker(supervisor, spec, slot, Arc::default())
    }

    pub fn faulty_worker(
        &self,
        supervisor: &Supervisor,
        spec: ChildSpec,
        slot: impl Into<Slot<Told>>,
        faults: Arc<Faults>,
    ) -> Addr<Told> {
        let (name, diary, alive) = (spec.name.clone(), self.diary.clone(), Arc::default());
        let factory = move || {
            let (name, diary, faults, alive) = (
                name.clone(),
                diary.clone(),
                faults.clone(),
                Arc::clone(&alive),
            );
            async move {
                if take(&faults.factory_panics) {
                    panic!("told to panic at making");
                }
                if take(&faults.factory_errors) {
                    return Err(NotMade);
                }
                Ok(Worker::new(&name, &diary, &faults, &alive))
            }
        };
        supervisor.start(spec, slot, factory).unwrap()
    }

    /// The present state of the actor or supervisor of this path.
    pub fn child(&self, path: &str) -> Snapshot {
        let tree = self.system.snapshot();
        let child = tree.find(path);
        child.unwrap_or_else(|| panic!("no {path}")).clone()
    }

    /// The present counters of the actor of this path.
    pub fn mailbox(&self, path: &str) -> MailboxSnapshot {
        self.child(path).mailbox.unwrap()
    }

    /// Waits until the actor of this path has handled exactly `messages`.
    pub async fn handled(&self, path: &str, messages: u64) {
        self.wait("the count", |_| self.mailbox(path).handled == messages)
            .await;
    }

    /// Waits until the actor or supervisor of this path is in `state`.
    pub async fn reaches(&self, path: &str, state: State) {
        let is_there = |tree: &Snapshot| tree.find(path).is_some_and(|node| node.state == state);
        self.wait(&format!("{path} {state:?}"), is_there).await;
    }

    /// Waits until a snapshot satisfies `is_so`; panics with `what` after [`LONG`].
    pub async fn wait(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        let waited = time::timeout(LONG, async {
            while !is_so(&self.system.snapshot()) {
                time::sleep(Duration::from_millis(1)).await;
            }
        });
        if waited.await.is_err() {
            panic!("{what} never came: {:#?}", self.system.snapshot());
        }
    }

    pub async fn end(&self) {
        let report = self.system.shutdown(LONG).await;
        assert!(report.is_clean(), "{:?}", report.abandoned);
        accounts_balance(&self.system);
    }
}

/// Asserts that each accepted message and each timer has exactly one outcome. The system must be
/// idle.
pub fn accounts_balance(system: &System) {
    for node in system.snapshot().all() {
        if let Some(mailbox) = &node.mailbox {
            assert_eq!(unaccounted(mailbox), 0, "{node:#?}");
        }
    }
}

/// Waits until all messages queued before have been handled.
pub async fn settled(addr: &Addr<Told>) {
    let (reply, answer) = Reply::channel();
    addr.send(Told::Echo { n: 0, reply }).await.unwrap();
    answered(answer).await;
}

/// The answer to a question whose reply was sent along.
pub async fn answered<T>(answer: oneshot::Receiver<T>) -> T {
    let answer = time::timeout(LONG, answer).await.expect("no answer");
    answer.expect("dropped")
}

/// Runs a test in either mode, with a time limit.
pub fn run<F: Future<Output = ()> + Send + 'static>(test: F) {
    alys_runtime::block_on_main(async move {
        let limited = time::timeout(LONG * 10, test).await;
        limited.expect("the test hangs");
    });
}

/// Runs a test in a [`World`], and then ends the world.
pub fn in_world<F>(test: impl FnOnce(Arc<World>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    run(async move {
        let world = Arc::new(World::new());
        test(world.clone()).await;
        world.end().await;
    });
}

/// Runs a test in a [`World`] with a supervisor `s` that restarts one child at a time, at most so
/// many times, and then ends the world.
pub fn supervised<F>(
    restarts: usize,
    test: impl FnOnce(Arc<World>, Supervisor) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    in_world(move |world| {
        let supervisor = world.supervisor("s", Strategy::OneForOne, restarts, None);
        test(world, supervisor)
    });
}

pub fn slot(capacity: usize) -> (Addr<Told>, Slot<Told>) {
    mailbox(capacity)
}

/// The error of a factory that cannot fail.
pub type Never = Infallible;
