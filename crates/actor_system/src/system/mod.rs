//! A system of actors: construction, observation and shutdown of the supervision tree.

pub mod metrics;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use alys_runtime::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use futures::{
    FutureExt,
    future::{AbortHandle, abortable, join_all},
};

use crate::{
    actor::cell::{Cell, Snapshot},
    actor::config::ConfigHandle,
    actor::error::{Failure, LookupError, StartError},
    actor::extension::Extension,
    actor::faults::Faults,
    actor::orders::{Abandoned, Line, Order, Start, Stop, StopKind, StopReport},
    actor::shared::Shared,
    actor::{AlysActor, Health, find_all, find_unchecked},
    after,
    mailbox::access::{Access, Audit},
    mailbox::address::Addr,
    mailbox::dead_letters::DeadLetters,
    mailbox::message::Message,
    supervision::monitor,
    supervision::policy::{Backoff, Intensity, Strategy},
    supervision::tree::{Dependent, TreeState},
    supervision::{Supervisor, SupervisorSpec, survived},
    system::metrics::Metrics,
};

/// A tree of supervisors and actors with one root. Dropping it aborts all actors;
/// [`System::shutdown`] stops them in order.
pub struct System {
    cell: Arc<Cell>,
    root: Supervisor,
    task: AbortHandle,
    monitor: AbortHandle,
    metrics: Metrics,
}

/// Result of [`System::shutdown`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Duration of the shutdown.
    pub took: Duration,
    /// Full paths of the stopped actors, in order.
    pub stopped: Vec<String>,
    /// Actors with uncompleted work; empty after a clean shutdown.
    pub abandoned: Vec<Abandoned>,
    /// Full paths of the actors with dependencies, by level; the actors of a level stop together,
    /// before their dependencies. All other actors stop after the last level, in reverse order of
    /// start.
    pub levels: Vec<Vec<String>>,
}

impl ShutdownReport {
    /// True if all actors completed their work.
    pub fn is_clean(&self) -> bool {
        self.abandoned.is_empty()
    }
}

impl System {
    /// Creates a system whose root restarts all its children when one fails, at most twice in ten
    /// minutes, and gives up after that.
    ///
    /// Must be called within the runtime, because it spawns tasks.
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

    /// Creates a system with the given root. `spec.parent` is ignored.
    ///
    /// Must be called within the runtime, because it spawns tasks.
    pub fn with_root(spec: SupervisorSpec) -> Self {
        let shared = Arc::<Shared>::default();
        let tree = Arc::<TreeState>::default();
        let cell = Arc::new(Cell::root(&spec.name, shared));
        let (root, make_task) = Supervisor::make(cell.clone(), tree.clone(), spec, true);
        // The reports have no reader, because the root reports its failure to the system.
        let (reports, _) = mpsc::channel(1);
        let line = Line {
            child: 0,
            cell: cell.clone(),
            reports,
        };
        let start = Start {
            start_id: 1,
            delay: Duration::ZERO,
            is_open: false,
            after: None,
            started: None,
        };
        cell.control.order(Order::Start(start));
        let top = cell.clone();
        let failed = tree.clone();
        let run = survived(cell.path.clone(), make_task(line).run());
        let (task, abort) = abortable(run.map(move |lost| {
            if let Some(failure) = lost {
                tracing::error!(system = %top.path, reason = failure.chain(), "gave up");
                failed.fail(failure);
            }
        }));
        alys_runtime::spawn("root supervisor", task.map(drop));
        let (watching, monitor) = abortable(monitor::watch(cell.clone(), tree));
        alys_runtime::spawn("monitor", watching.map(drop));
        alys_runtime::spawn("deadlines", cell.shared.tables.deadlines.clone().watch());
        Self {
            metrics: Metrics::new(&cell),
            cell,
            root,
            task: abort,
            monitor,
        }
    }

    /// The root supervisor.
    pub fn root(&self) -> &Supervisor {
        &self.root
    }

    /// Adds a supervisor under its `parent`, or under the root.
    ///
    /// # Errors
    /// [`StartError`] if the name is taken or invalid, the parent has the maximum number of
    /// children, or has been shut down.
    pub fn supervisor(&self, spec: SupervisorSpec) -> Result<Supervisor, StartError> {
        let parent = spec.parent.clone().unwrap_or_else(|| self.root.clone());
        parent.nest(spec)
    }

    /// Looks up an actor by its path below the system (`"storage/store"`), without access rules.
    ///
    /// # Errors
    /// [`LookupError`] if there is no such actor, or its message type is not `M`.
    pub fn find<M: Message>(&self, path: &str) -> Result<Addr<M>, LookupError> {
        find_unchecked(self.shared(), &self.full(path)).map(|(addr, _)| addr)
    }

    /// Addresses of all actors of type `A`, sorted by path.
    pub fn find_all<A: AlysActor>(&self) -> Vec<Addr<A::Message>> {
        find_all::<A>(self.shared())
    }

    /// Looks up the configuration of an actor by its path below the system, to read and replace it.
    ///
    /// # Errors
    /// [`LookupError`] if there is no such actor, or its configuration type is not `C`.
    pub fn config<C: Send + Sync + 'static>(
        &self,
        path: &str,
    ) -> Result<ConfigHandle<C>, LookupError> {
        let path = self.full(path);
        let entry = self.shared().directory.find(&path);
        let entry = entry.ok_or_else(|| LookupError::Unknown { path: path.clone() })?;
        entry
            .config
            .downcast_ref::<ConfigHandle<C>>()
            .cloned()
            .ok_or(LookupError::OtherConfig { path })
    }

    /// Sets the access rules for look-ups between actors with a role
    /// ([`Context::find`](crate::Context::find)). False if rules are set already, because they
    /// cannot be changed.
    pub fn enforce(&self, access: Access) -> bool {
        self.shared().access.set(access).is_ok()
    }

    /// Audit trail of the access rules; none without rules.
    pub fn audit(&self) -> Option<Audit> {
        self.shared().access.get().map(Access::audit)
    }

    /// The system's extension of type `T`, created at its first use.
    pub fn extension<T: Extension>(&self) -> Arc<T> {
        self.shared().extensions.get()
    }

    /// Snapshot of the whole tree. It is not atomic, because actors keep running while it is taken.
    pub fn snapshot(&self) -> Snapshot {
        self.cell.snapshot()
    }

    /// Health of the root supervisor. An unhealthy actor degrades its supervisors, because they can
    /// restart it and its siblings still work; the root is unhealthy only once the system has
    /// [failed](Self::failed). The [`snapshot`](Self::snapshot) has the health of each actor.
    pub fn health(&self) -> Health {
        self.snapshot().health
    }

    /// Record of the messages that were not handled.
    pub fn dead_letters(&self) -> DeadLetters {
        self.shared().tables.dead_letters.read()
    }

    /// Fault injection for tests. The first call makes actors check for faults; none are planned
    /// initially.
    pub fn faults(&self) -> &Arc<Faults> {
        let faults = self.shared().faults.get_or_init(Arc::default);
        Faults::arm(&self.cell);
        faults
    }

    /// Turns the histograms of waiting and handling times on or off. They are off by default,
    /// because they cost three clock reads per message.
    pub fn measure(&self, is_timed: bool) {
        self.shared().is_timed.store(is_timed, Relaxed);
        for cell in self.cell.family() {
            cell.set_timed(is_timed);
        }
    }

    /// Metrics of the system's actors and of other code that registers its own.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until the system fails, and returns the reason. The process must then exit, because
    /// the failed actors will not be restarted. Pends forever otherwise.
    pub async fn failed(&self) -> Failure {
        self.root.tree().failure().await
    }

    /// Stops all actors permanently: first those with dependencies, level by level, then the rest
    /// in reverse order of start. Each closes its mailbox, handles its queued messages and runs its
    /// stop hooks; work that exceeds its share of `deadline` is cancelled and reported. A second
    /// call has no effect.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let begun = time::now();
        let until = after(deadline);
        let levels = levels(self.root.tree().dependents());
        let mut report = ShutdownReport::default();
        for (index, level) in levels.iter().enumerate() {
            // The rest of the tree counts as one more level.
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
        let stop = Stop {
            until,
            kind: StopKind::Drain,
            done,
        };
        let rest = if self.cell.control.order(Order::Stop(stop)) {
            answer.await.unwrap_or_default()
        } else {
            StopReport::default()
        };
        self.monitor.abort();
        self.shared().extensions.end();
        self.root.tree().forget_dependents();
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
        self.shared().tables.deadlines.close();
        self.shared().extensions.end();
        self.root.tree().forget_dependents();
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Groups dependents into levels: no actor of a level depends on one of the same or an earlier
/// level.
fn levels(dependents: Vec<Dependent>) -> Vec<Vec<Dependent>> {
    let mut waiting: BTreeMap<Arc<str>, Dependent> = dependents
        .into_iter()
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
            // Unreachable, because dependencies are started before their dependents and so have no
            // cycles.
            tracing::error!(actors = ?rest.keys(), "a cycle of dependencies");
            break;
        }
        levels.push(free.into_values().collect());
        waiting = rest;
    }
    levels
}

/// Stops the actors of a level concurrently, those of one supervisor in sequence.
async fn stop_level(level: &[Dependent], until: Instant) -> StopReport {
    let mut siblings = BTreeMap::<&Arc<str>, (&Supervisor, Vec<u64>)>::new();
    for Dependent {
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
