//! A worker whose messages carry their actions, and whose hooks can be made to fail, hang or wait.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use alys_actor_system::{
    Addr, AlysActor, AskError, ChildSpec, ConfigHandle, Context, Failure, Health, Kept, Message,
    Overflow, Priority, Reply, Slot, Supervisor,
};
use futures::{FutureExt, future::BoxFuture};

use crate::kit::{Gate, Never, Record, ToldToFail, answered};

/// The record of [`Doer`]s.
pub type Log = Record<String>;

impl Log {
    /// The numbers noted by an actor, in order.
    pub fn notes(&self, who: &str) -> Vec<u64> {
        let lines = self.of(who).into_iter();
        lines.filter_map(|line| line.parse().ok()).collect()
    }
}

/// The behaviour of a hook in one call.
#[derive(Clone)]
pub enum Twist {
    Fail,
    Panic,
    Hang,
    Wait(Arc<Gate>),
}

/// Planned behaviour of hooks, and the health and memory that the actor reports.
#[derive(Default)]
pub struct Plan {
    twists: Mutex<BTreeMap<&'static str, VecDeque<Twist>>>,
    health: Mutex<Health>,
    pub memory: AtomicUsize,
}

impl Plan {
    /// Plans a twist for the next call of the hook that has none.
    pub fn at(&self, hook: &'static str, twist: Twist) {
        self.twists
            .lock()
            .unwrap()
            .entry(hook)
            .or_default()
            .push_back(twist);
    }

    pub fn set_health(&self, health: Health) {
        *self.health.lock().unwrap() = health;
    }

    async fn twist(&self, hook: &'static str) -> Result<(), ToldToFail> {
        let twist = self
            .twists
            .lock()
            .unwrap()
            .get_mut(hook)
            .and_then(VecDeque::pop_front);
        match twist {
            None => Ok(()),
            Some(Twist::Fail) => Err(ToldToFail),
            Some(Twist::Panic) => panic!("told to panic in {hook}"),
            Some(Twist::Hang) => pending().await,
            Some(Twist::Wait(gate)) => {
                gate.pass().await;
                Ok(())
            }
        }
    }
}

pub type Outcome<'a> = BoxFuture<'a, Result<(), ToldToFail>>;
type Run = Box<dyn for<'a> FnOnce(&'a Context<Doer>) -> Outcome<'a> + Send>;

pub enum Act {
    Note,
    Panic,
    Fail,
    Hang,
    Wait(Arc<Gate>),
    Answer(Reply<u64>),
    Stop,
    Keep,
    Run(Run),
}

pub struct Job {
    pub kind: &'static str,
    pub n: u64,
    pub priority: Priority,
    pub overflow: Overflow,
    pub size: usize,
    pub expires: bool,
    pub act: Act,
}

impl Job {
    pub fn new(kind: &'static str, n: u64, act: Act) -> Self {
        let (priority, overflow) = (Priority::Normal, Overflow::Block);
        Self {
            kind,
            n,
            priority,
            overflow,
            size: 8,
            expires: true,
            act,
        }
    }

    /// A message whose handler awaits `work`.
    pub fn run(
        kind: &'static str,
        work: impl Future<Output = Result<(), ToldToFail>> + Send + 'static,
    ) -> Self {
        run_in(kind, |_| work.boxed())
    }

    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    pub fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.n)
    }
}

impl Message for Job {
    fn kind(&self) -> &'static str {
        self.kind
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

pub fn note(n: u64) -> Job {
    Job::new("note", n, Act::Note)
}

pub fn wait(gate: &Arc<Gate>) -> Job {
    Job::new("wait", 0, Act::Wait(gate.clone()))
}

pub fn panics() -> Job {
    Job::new("panic", 0, Act::Panic)
}

pub fn fails() -> Job {
    Job::new("fail", 0, Act::Fail)
}

pub fn stop() -> Job {
    Job::new("stop", 0, Act::Stop)
}

/// A question that the actor answers with `n`, for [`Addr::ask`].
pub fn answering(n: u64) -> impl Fn(Reply<u64>) -> Job + Copy {
    move |reply| Job::new("answer", n, Act::Answer(reply))
}

/// Runs `work` in a handler of the actor and returns its output.
pub async fn in_handler<T: Send + 'static>(
    addr: &Addr<Job>,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let (reply, answer) = Reply::channel();
    let does = Job::run("does", async move {
        reply.send(work.await);
        Ok(())
    });
    addr.send(does).await.unwrap();
    answered(answer).await
}

/// The text of the cycle that an ask would have closed.
pub fn cycle<T: fmt::Debug>(answer: Result<T, AskError>) -> String {
    match answer {
        Err(AskError::Cycle { cycle, .. }) => cycle.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A message whose handler executes `run`.
pub fn run_in(
    kind: &'static str,
    run: impl for<'a> FnOnce(&'a Context<Doer>) -> Outcome<'a> + Send + 'static,
) -> Job {
    Job::new(kind, 0, Act::Run(Box::new(run)))
}

pub struct Doer {
    pub name: String,
    pub log: Arc<Log>,
    pub plan: Arc<Plan>,
    pub kept: Kept<u64>,
}

impl Doer {
    async fn hook(&self, hook: &'static str) -> Result<(), ToldToFail> {
        self.log.write(&self.name, hook);
        self.plan.twist(hook).await
    }

    /// Calls a hook that cannot return an error.
    async fn quiet(&self, hook: &'static str) {
        let _no_way_to_say_it = self.hook(hook).await;
    }
}

impl AlysActor for Doer {
    type Message = Job;
    type Error = ToldToFail;
    type Config = u64;
    const NAME: &'static str = "Doer";

    async fn pre_start(&mut self, _: &Context<Self>) -> Result<(), ToldToFail> {
        self.hook("pre_start").await
    }

    async fn post_restart(&mut self, _: &Context<Self>) -> Result<(), ToldToFail> {
        self.hook("post_restart").await
    }

    async fn started(&mut self, _: &Context<Self>) -> Result<(), ToldToFail> {
        self.hook("started").await
    }

    async fn handle(&mut self, job: Job, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        match job.act {
            Act::Note => {
                self.log.write(&self.name, job.n.to_string());
            }
            Act::Panic => panic!("told to panic"),
            Act::Fail => return Err(ToldToFail),
            Act::Hang => pending().await,
            Act::Wait(gate) => gate.pass().await,
            Act::Answer(reply) => {
                reply.send(job.n);
            }
            Act::Stop => ctx.stop(),
            Act::Keep => self.kept.save(self.kept.load() + job.n),
            Act::Run(run) => run(ctx).await?,
        }
        Ok(())
    }

    async fn reconfigured(&mut self, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        self.log
            .write(&self.name, format!("config {}", ctx.config()));
        self.plan.twist("reconfigured").await
    }

    async fn pre_restart(&mut self, failure: &Failure, _: &Context<Self>) {
        self.log
            .write(&self.name, format!("pre_restart: {}", failure.chain()));
        let _no_way_to_say_it = self.plan.twist("pre_restart").await;
    }

    async fn pre_stop(&mut self, _: &Context<Self>) {
        self.quiet("pre_stop").await;
    }

    async fn stopped(&mut self, _: &Context<Self>) {
        self.quiet("stopped").await;
    }

    fn health_check(&self) -> Health {
        *self.plan.health.lock().unwrap()
    }

    fn memory(&self) -> usize {
        self.plan.memory.load(SeqCst)
    }
}

/// A started doer with its address, configuration, log and plan.
pub struct Doing {
    pub addr: Addr<Job>,
    pub config: ConfigHandle<u64>,
    pub log: Arc<Log>,
    pub plan: Arc<Plan>,
    pub kept: Kept<u64>,
}

/// Starts a doer that writes to `log`.
pub fn doer_in(
    log: &Arc<Log>,
    supervisor: &Supervisor,
    spec: ChildSpec,
    slot: impl Into<Slot<Job>>,
) -> Doing {
    let (log, plan, kept) = (log.clone(), Arc::<Plan>::default(), Kept::new(0));
    let held = (spec.name.clone(), log.clone(), plan.clone(), kept.clone());
    let factory = move || {
        let (name, log, plan, kept) = held.clone();
        async move {
            if plan.twist("factory").await.is_err() {
                panic!("told to fail in the factory");
            }
            Ok::<_, Never>(Doer {
                name,
                log,
                plan,
                kept,
            })
        }
    };
    let (addr, config) = supervisor.start_configured(spec, 0, slot, factory).unwrap();
    Doing {
        addr,
        config,
        log,
        plan,
        kept,
    }
}

/// Starts a doer with a log of its own.
pub fn doer_as(supervisor: &Supervisor, spec: ChildSpec, slot: impl Into<Slot<Job>>) -> Doing {
    doer_in(&Arc::default(), supervisor, spec, slot)
}

pub fn doer(supervisor: &Supervisor, name: &str, slot: impl Into<Slot<Job>>) -> Doing {
    doer_as(supervisor, ChildSpec::new(name), slot)
}

impl Doing {
    /// Blocks the actor in a handler until the gate opens.
    pub async fn hold(&self) -> Arc<Gate> {
        let gate = Arc::<Gate>::default();
        self.addr.send(wait(&gate)).await.unwrap();
        gate.reached().await;
        gate
    }

    /// Waits until all messages of normal priority queued before have been handled.
    pub async fn settled(&self) {
        let (reply, received) = Reply::channel();
        self.addr.send(answering(0)(reply)).await.unwrap();
        answered(received).await;
    }
}
