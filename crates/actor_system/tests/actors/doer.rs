//! A worker whose messages carry their actions, and whose hooks can be made to fail, hang or wait.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
};

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, ConfigHandle, Context, Failure, Health, Kept, Message, Overflow,
    Priority, Reply, Slot, Supervisor,
};
use alys_runtime::{sync::Notify, time};
use futures::future::BoxFuture;

use crate::kit::{Gate, LONG, Never, ToldToFail};

/// The events of a test in order, as pairs of actor and event.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<(String, String)>>,
    written: Notify,
}

impl Log {
    pub fn write(&self, who: &str, what: impl Into<String>) {
        self.lines
            .lock()
            .unwrap()
            .push((who.to_owned(), what.into()));
        self.written.notify_waiters();
    }

    pub fn all(&self) -> Vec<(String, String)> {
        self.lines.lock().unwrap().clone()
    }

    pub fn of(&self, who: &str) -> Vec<String> {
        self.all()
            .into_iter()
            .filter(|(other, _)| other == who)
            .map(|(_, what)| what)
            .collect()
    }

    /// The numbers noted by an actor, in order.
    pub fn notes(&self, who: &str) -> Vec<u64> {
        self.of(who)
            .iter()
            .filter_map(|what| what.parse().ok())
            .collect()
    }

    pub async fn wait_for(&self, who: &str, what: &str) {
        let waited = time::timeout(LONG, async {
            loop {
                let written = self.written.notified();
                if self.of(who).iter().any(|line| line == what) {
                    return;
                }
                written.await;
            }
        });
        if waited.await.is_err() {
            panic!("{who} {what} never happened: {:?}", self.all());
        }
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
    /// Fails while the counter is above zero, and decrements it.
    FailTimes(Arc<AtomicU32>),
    Hang,
    Wait(Arc<Gate>),
    Answer(Reply<u64>),
    Stop,
    Keep,
    Run(Run),
}

impl Act {
    fn again(&self) -> Option<Self> {
        match self {
            Self::Note => Some(Self::Note),
            Self::Panic => Some(Self::Panic),
            Self::Fail => Some(Self::Fail),
            Self::FailTimes(left) => Some(Self::FailTimes(left.clone())),
            Self::Hang => Some(Self::Hang),
            Self::Wait(gate) => Some(Self::Wait(gate.clone())),
            Self::Stop => Some(Self::Stop),
            Self::Keep => Some(Self::Keep),
            Self::Answer(_) | Self::Run(_) => None,
        }
    }
}

pub struct Job {
    pub kind: &'static str,
    pub n: u64,
    pub priority: Priority,
    pub overflow: Overflow,
    pub size: usize,
    pub expires: bool,
    pub repeats: bool,
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
            repeats: false,
            act,
        }
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

    pub fn repeats(self) -> Self {
        Self {
            repeats: true,
            ..self
        }
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
    fn again(&self) -> Option<Self> {
        let act = if self.repeats {
            self.act.again()?
        } else {
            return None;
        };
        let (kind, n) = (self.kind, self.n);
        Some(Self {
            kind,
            n,
            act,
            ..*self
        })
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
            Act::FailTimes(left) => {
                self.log.write(
                    &self.name,
                    format!("attempt {}", ctx.envelope().unwrap().attempt),
                );
                if left
                    .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                    .is_ok()
                {
                    return Err(ToldToFail);
                }
                self.log.write(&self.name, job.n.to_string());
            }
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

pub fn doer(supervisor: &Supervisor, name: &str, slot: impl Into<Slot<Job>>) -> Doing {
    doer_in(&Arc::default(), supervisor, ChildSpec::new(name), slot)
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
        let (reply, answer) = Reply::channel();
        self.addr
            .send(Job::new("answer", 0, Act::Answer(reply)))
            .await
            .unwrap();
        time::timeout(LONG, answer)
            .await
            .expect("no answer")
            .expect("dropped");
    }
}
