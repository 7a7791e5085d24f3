//! The whole tree: made, looked at, and shut down.

pub mod metrics;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use alys_runtime::{
    sync::{Notify, mpsc, oneshot},
    time::{self, Instant},
};
use futures::{
    FutureExt,
    future::{AbortHandle, abortable, join_all},
};

use crate::{
    actor::cell::{Cell, Snapshot},
    actor::config::ConfigHandle,
    actor::faults::Faults,
    actor::orders::{Abandoned, Line, Order, Start, Stop, StopKind, StopReport},
    actor::shared::{Entry, Shared},
    actor::{AlysActor, Health, find_all, find_unchecked},
    after,
    bus::Bus,
    error::{Failure, LookupError, StartError},
    lock,
    mailbox::access::{Access, Audit},
    mailbox::address::Addr,
    mailbox::dead_letters::DeadLetters,
    mailbox::message::Message,
    supervision::monitor,
    supervision::policy::{Backoff, Intensity, Strategy},
    supervision::{Supervisor, SupervisorSpec, survived},
    system::metrics::Metrics,
};

/// A tree of supervisors and actors with one root. Dropping it aborts everything in it; see
/// [`System::shutdown`].
pub struct System {
    cell: Arc<Cell>,
    root: Supervisor,
    task: AbortHandle,
    monitor: AbortHandle,
    metrics: Metrics,
}

/// What happened to an actor that others may want to know of: published on the system's [bus](System::bus).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemEvent {
    /// It failed and will be restarted.
    Restarting {
        /// Its path.
        path: Arc<str>,
        /// The failure with its sources.
        reason: String,
        /// How long it stays down.
        delay: Duration,
        /// Whether its circuit breaker is open meanwhile.
        is_open: bool,
    },
    /// It failed and stays down; the rest goes on.
    GivenUp {
        /// Its path.
        path: Arc<str>,
    },
}

impl SystemEvent {
    pub(crate) fn given_up(path: Arc<str>) -> Self {
        Self::GivenUp { path }
    }
}

/// Why the root gave up, for all who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    reason: Mutex<Option<Failure>>,
    given: Notify,
}

impl Verdict {
    pub fn give(&self, reason: Failure) {
        lock(&self.reason).get_or_insert(reason);
        self.given.notify_waiters();
    }

    #[cfg(test)]
    pub fn is_given(&self) -> bool {
        lock(&self.reason).is_some()
    }
}

/// What a shutdown came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// How long it took.
    pub took: Duration,
    /// Paths of the actors that ended, in order.
    pub stopped: Vec<String>,
    /// What was left undone, by actor.
    pub abandoned: Vec<Abandoned>,
    /// Those who depend on others, stopped before them: paths of those that were stopped together, first level
    /// first. What is in none was stopped after, in the reverse order of its start.
    pub levels: Vec<Vec<String>>,
}

impl ShutdownReport {
    /// Whether nothing was left undone.
    pub fn is_clean(&self) -> bool {
        self.abandoned.is_empty()
    }
}

impl System {
    /// A system whose root restarts everything when one of its children gives up, twice in ten minutes, and
    /// gives up then.
    ///
    /// Must be called inside the runtime.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_root(SupervisorSpec {
            intensity: Intensity {
                restarts: 2,
                within: Duration::from_secs(600),
            },
            backoff: Backoff {
                initial: Duration::from_millis(500),
                ..Backoff::default()
            },
            ..SupervisorSpec::new(name, Strategy::OneForAll)
        })
    }

    /// A system with a root of one's own; its `parent` means nothing.
    ///
    /// Must be called inside the runtime.
    pub fn with_root(spec: SupervisorSpec) -> Self {
        let shared = Arc::<Shared>::default();
        let cell = Arc::new(Cell::root(&spec.name, shared));
        let (root, keeper) = Supervisor::make(cell.clone(), spec, true);
        // The root gives its verdict instead of a report, so nobody reads these.
        let (reports, _) = mpsc::channel(1);
        let line = Line {
            child: 0,
            cell: cell.clone(),
            reports,
        };
        let start = Start {
            life: 1,
            delay: Duration::ZERO,
            is_open: false,
            after: None,
            started: None,
        };
        cell.control.order(Order::Start(start));
        let top = cell.clone();
        let run = survived(cell.path.to_string(), keeper(line).run());
        let (task, abort) = abortable(run.map(move |lost| {
            if let Some(failure) = lost {
                tracing::error!(system = %top.path, reason = failure.chain(), "gave up");
                top.shared.verdict.give(failure);
            }
        }));
        alys_runtime::spawn("root supervisor", task.map(drop));
        let (watching, monitor) = abortable(monitor::watch(cell.clone()));
        alys_runtime::spawn("monitor", watching.map(drop));
        alys_runtime::spawn("deadlines", cell.shared.deadlines.clone().watch());
        Self {
            metrics: Metrics::new(&cell),
            cell,
            root,
            task: abort,
            monitor,
        }
    }

    /// The supervisor at the top.
    pub fn root(&self) -> &Supervisor {
        &self.root
    }

    /// Adds a supervisor under its `parent`, or under the root.
    ///
    /// # Errors
    /// The name is taken or no name, there are too many children, or the parent has been shut down.
    pub fn supervisor(&self, spec: SupervisorSpec) -> Result<Supervisor, StartError> {
        let parent = spec.parent.clone().unwrap_or_else(|| self.root.clone());
        parent.nest(spec)
    }

    /// The address of an actor, by its path below the system (`"storage/store"`).
    ///
    /// # Errors
    /// There is no such actor, or it understands other messages.
    pub fn find<M: Message>(&self, path: &str) -> Result<Addr<M>, LookupError> {
        find_unchecked(self.shared(), &self.full(path))
    }

    /// The addresses of all actors of a type, by path.
    pub fn find_all<A: AlysActor>(&self) -> Vec<Addr<A::Message>> {
        find_all::<A>(self.shared())
    }

    /// The configuration of an actor, by its path below the system, to be read and replaced.
    ///
    /// # Errors
    /// There is no such actor, or its configuration is another.
    pub fn config<C: Send + Sync + 'static>(
        &self,
        path: &str,
    ) -> Result<ConfigHandle<C>, LookupError> {
        let path = self.full(path);
        let entry = self.shared().registry.find(&path);
        let entry = entry.ok_or_else(|| LookupError::Unknown { path: path.clone() })?;
        entry
            .config
            .downcast_ref::<ConfigHandle<C>>()
            .cloned()
            .ok_or(LookupError::OtherConfig { path })
    }

    /// Sets the rules about who may send what to whom, for actors with a role that look others up
    /// ([`Context::find`](crate::Context::find)). False if there were rules already: they cannot be changed.
    pub fn enforce(&self, access: Access) -> bool {
        self.shared().access.set(access).is_ok()
    }

    /// What the rules refused so far; none without rules.
    pub fn audit(&self) -> Option<Audit> {
        self.shared().access.get().map(Access::audit)
    }

    /// The system's bus, on which events are published and subscribed to by their type. The system itself
    /// publishes each [`SystemEvent`].
    pub fn bus(&self) -> &Bus {
        &self.shared().bus
    }

    /// The whole tree as it is now. Each part is true at its own moment: actors run on meanwhile.
    pub fn snapshot(&self) -> Snapshot {
        self.cell.snapshot()
    }

    /// The worst of all: what does not run as it should is seen from the top.
    pub fn health(&self) -> Health {
        self.snapshot().health
    }

    /// Messages that nobody handled.
    pub fn dead_letters(&self) -> DeadLetters {
        self.shared().graveyard.look()
    }

    /// What goes wrong from now on, for tests. Nothing does until it is planned.
    pub fn faults(&self) -> &Arc<Faults> {
        let faults = self.shared().faults.get_or_init(Arc::default);
        Faults::arm(&self.cell);
        faults
    }

    /// Turns the histograms of waiting and handling times on or off. They are off at first, because a message
    /// then costs three reads of the clock.
    pub fn measure(&self, is_timed: bool) {
        self.shared().is_timed.store(is_timed, Relaxed);
        for cell in self.cell.family() {
            cell.set_timed(is_timed);
        }
    }

    /// The metrics of the system's actors, and those that are registered beside them.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until the root gives up, and says why. The process must then end: nothing runs any more. It never
    /// ends otherwise.
    pub async fn failed(&self) -> Failure {
        let verdict = &self.shared().verdict;
        loop {
            let given = verdict.given.notified();
            if let Some(reason) = lock(&verdict.reason).clone() {
                return reason;
            }
            given.await;
        }
    }

    /// Stops everything for good: first those who depend on others, level by level, then the rest, children in
    /// the reverse order of their start. Each takes nothing new, handles what it had taken, and has its
    /// `stopped` called; what is not done within its share of `deadline` is cut off and reported. A second call
    /// finds nothing.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let begun = time::now();
        let until = after(deadline);
        let levels = levels(self.shared().registry.all());
        let mut report = ShutdownReport::default();
        for (index, level) in levels.iter().enumerate() {
            // The rest of the tree is one level more.
            let shares = u32::try_from(levels.len() - index)
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            let share = until.saturating_duration_since(time::now()) / shares;
            let stopped = stop_level(level, after(share)).await;
            report.levels.push(
                level
                    .iter()
                    .map(|entry| entry.cell.path.to_string())
                    .collect(),
            );
            report.stopped.extend(stopped.stopped);
            report.abandoned.extend(stopped.abandoned);
        }
        let (done, answer) = oneshot::channel();
        let rest = match self.cell.control.order(Order::Stop(Stop {
            until,
            kind: StopKind::Drain,
            done,
        })) {
            true => answer.await.unwrap_or_default(),
            false => StopReport::default(),
        };
        self.monitor.abort();
        self.shared().bus.close();
        report.stopped.extend(rest.stopped);
        report.abandoned.extend(rest.abandoned);
        ShutdownReport {
            took: time::now().saturating_duration_since(begun),
            ..report
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.cell.shared
    }

    fn full(&self, path: &str) -> String {
        format!("{}/{path}", self.cell.path)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.task.abort();
        self.monitor.abort();
        self.shared().deadlines.close();
        self.shared().bus.close();
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Those who depend on others, by how far they are from those on whom nobody depends: each level can be stopped
/// once the one before is.
fn levels(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut waiting: BTreeMap<Arc<str>, Entry> = entries
        .into_iter()
        .filter(|entry| !entry.depends_on.is_empty())
        .map(|entry| (entry.cell.path.clone(), entry))
        .collect();
    let mut levels = Vec::new();
    while !waiting.is_empty() {
        let needed: BTreeSet<Arc<str>> = waiting
            .values()
            .flat_map(|entry| entry.depends_on.iter().cloned())
            .collect();
        let (free, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = waiting
            .into_iter()
            .partition(|(path, _)| !needed.contains(path));
        if free.is_empty() {
            // Dependencies are started before their dependents, so there is no circle.
            tracing::error!(actors = ?rest.keys(), "a circle of dependencies");
            break;
        }
        levels.push(free.into_values().collect());
        waiting = rest;
    }
    levels
}

/// Stops actors together, those of one supervisor one after the other.
async fn stop_level(level: &[Entry], until: Instant) -> StopReport {
    let mut siblings = BTreeMap::<&Arc<str>, (&Supervisor, Vec<u64>)>::new();
    for Entry {
        supervisor, child, ..
    } in level
    {
        let of_one = siblings
            .entry(supervisor.path())
            .or_insert_with(|| (supervisor, Vec::new()));
        of_one.1.push(*child);
    }
    let stops = siblings
        .into_values()
        .map(async |(supervisor, children)| supervisor.drain(&children, until).await);
    let mut total = StopReport::default();
    for report in join_all(stops).await {
        total.add(report);
    }
    total
}
