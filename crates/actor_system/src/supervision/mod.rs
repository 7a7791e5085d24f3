//! The handle of a supervisor, which adds children, and the specifications of both.

pub(crate) mod inbox;
pub(crate) mod monitor;
pub mod policy;
pub(crate) mod task;
pub(crate) mod tree;

use std::{
    any::TypeId,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use alys_runtime::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use futures::{FutureExt, future::abortable};

use crate::{
    actor::AlysActor,
    actor::cell::{Cell, MAX_CHILDREN},
    actor::config::{ConfigCell, ConfigHandle},
    actor::control,
    actor::error::{Failure, StartError, panic_text},
    actor::orders::{Line, StopReport},
    actor::shared::Entry as DirectoryEntry,
    actor::task::{ActorTask, TaskLimits},
    after,
    mailbox::Slot,
    mailbox::access::Role,
    mailbox::address::Addr,
    supervision::inbox::Inbox,
    supervision::policy::{Backoff, Exhausted, Intensity, Restart, RestartDelay, Strategy},
    supervision::task::{ANSWER_TIMEOUT, Entry, NewChild, SupervisorTask},
    supervision::tree::{Dependent, TreeState},
};

/// Capacity of a supervisor's inbox. Per child it holds one `Add`, at most two unread `Exited`
/// reports and one `Lost`.
const INBOX: usize = 4 * MAX_CHILDREN;

/// Time limit for a nested supervisor to stop all its children when a sibling's failure stops it.
const SUPERVISOR_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Specification of a supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// Name, unique among its siblings.
    pub name: String,
    /// Selects the children that are restarted together after a failure.
    pub strategy: Strategy,
    /// Restart limit beyond which the supervisor gives up.
    pub intensity: Intensity,
    /// Delay before the restart of a child without its own [`RestartDelay`].
    pub backoff: Backoff,
    /// Reaction to a child that fails more often than the intensity allows.
    pub exhausted: Exhausted,
    /// Parent supervisor; the system's root if none.
    pub parent: Option<Supervisor>,
}

impl SupervisorSpec {
    /// A supervisor under the root with the default intensity and backoff.
    pub fn new(name: impl Into<String>, strategy: Strategy) -> Self {
        Self {
            name: name.into(),
            strategy,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            exhausted: Exhausted::default(),
            parent: None,
        }
    }
}

/// Specification of a child.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// Name, unique among its siblings; the last component of its path.
    pub name: String,
    /// Restart policy.
    pub restart: Restart,
    /// Delay before a restart; the supervisor's [`Backoff`] if none.
    pub restart_delay: Option<RestartDelay>,
    /// Time limit for the factory, and again for the start hooks. No limit if none.
    pub start_timeout: Option<Duration>,
    /// Time limit for one message, or one batch. A handler that awaits for longer is cancelled and
    /// counts as failed ([`Failure::Hung`]). No limit if none.
    pub handle_timeout: Option<Duration>,
    /// Time limit for the current message and the stop hooks when a sibling's failure stops the
    /// actor, or it stops itself. A shutdown divides its own deadline instead.
    pub stop_timeout: Duration,
    /// Limit in bytes on the memory of the actor ([`AlysActor::memory`]) and of its queued messages
    /// together. An actor beyond it fails ([`Failure::OverBudget`]). No limit if none.
    pub memory_budget: Option<usize>,
    /// Role of the actor in the rules of [`access`](crate::access); an actor without a role is not
    /// restricted.
    pub role: Option<Role>,
    /// Paths below the system (`"storage/store"`) of the actors that must run before this one
    /// starts and stop after it. A dependency must already be a child when its dependent is added,
    /// so dependencies have no cycles.
    pub depends_on: Vec<String>,
}

impl ChildSpec {
    /// A permanent child with one minute for its start and for each message, and two seconds to
    /// stop.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            restart: Restart::Permanent,
            restart_delay: None,
            start_timeout: Some(Duration::from_secs(60)),
            handle_timeout: Some(Duration::from_secs(60)),
            stop_timeout: Duration::from_secs(2),
            memory_budget: None,
            role: None,
            depends_on: Vec::new(),
        }
    }

    /// Sets the restart policy.
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }

    /// Sets a restart delay in place of the supervisor's.
    pub fn restart_delay(self, restart_delay: RestartDelay) -> Self {
        Self {
            restart_delay: Some(restart_delay),
            ..self
        }
    }

    /// Sets the time limit of one message; `None` removes it.
    pub fn handle_timeout(self, limit: impl Into<Option<Duration>>) -> Self {
        Self {
            handle_timeout: limit.into(),
            ..self
        }
    }

    /// Sets the memory budget, in bytes.
    pub fn memory_budget(self, bytes: usize) -> Self {
        Self {
            memory_budget: Some(bytes),
            ..self
        }
    }

    /// Sets the role in the access rules.
    pub fn role(self, role: Role) -> Self {
        Self {
            role: Some(role),
            ..self
        }
    }

    /// Adds a dependency on the actor at `path`, relative to the system.
    pub fn depends_on(mut self, path: impl Into<String>) -> Self {
        self.depends_on.push(path.into());
        self
    }
}

/// The connection of a supervisor's task to its parent supervisor.
pub(crate) type SupervisorLine = Line<mpsc::Sender<Inbox>>;

/// A handle of a supervisor. Cheap to clone; does not keep the supervisor running.
#[derive(Clone)]
pub struct Supervisor {
    cell: Arc<Cell>,
    tree: Arc<TreeState>,
    inbox: mpsc::Sender<Inbox>,
    children: Arc<AtomicU64>,
}

impl Supervisor {
    /// Adds an actor as the last child and starts it immediately, in the background. `slot` is a
    /// mailbox created earlier with [`mailbox`](crate::mailbox()), or the capacity of a new one.
    /// The factory runs in the actor's task at every start; state that outlives an incarnation
    /// belongs to the factory.
    ///
    /// # Errors
    /// [`StartError`] if the name is taken or invalid, a dependency has not been started, there are
    /// [`MAX_CHILDREN`] children, or the supervisor has been shut down. A failing factory is not an
    /// error here, because the supervisor retries it under its policy.
    pub fn start<A, F, Fut, E>(
        &self,
        spec: ChildSpec,
        slot: impl Into<Slot<A::Message>>,
        factory: F,
    ) -> Result<Addr<A::Message>, StartError>
    where
        A: AlysActor<Config: Default>,
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        self.start_configured(spec, A::Config::default(), slot, factory)
            .map(|(addr, _)| addr)
    }

    /// Same as [`start`](Self::start), with a configuration that the returned handle can replace
    /// later.
    ///
    /// # Errors
    /// Same as [`start`](Self::start).
    pub fn start_configured<A, F, Fut, E>(
        &self,
        spec: ChildSpec,
        config: A::Config,
        slot: impl Into<Slot<A::Message>>,
        factory: F,
    ) -> Result<(Addr<A::Message>, ConfigHandle<A::Config>), StartError>
    where
        A: AlysActor,
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let Slot { addr, reader } = slot.into();
        let mailbox = addr.mailbox().clone();
        let cell = Arc::new(Cell::actor(
            &spec.name,
            &self.cell,
            spec.role.clone(),
            &mailbox,
        ));
        let shared = self.cell.shared.clone();
        let needs = self.needs(&spec, &cell)?;
        if shared.faults.get().is_some() {
            cell.control.raise(control::FAULTS);
        }
        mailbox
            .is_timed
            .store(shared.is_timed.load(Relaxed), Relaxed);
        let config = Arc::new(ConfigCell::new(config));
        let handle = ConfigHandle {
            cell: cell.clone(),
            config: config.clone(),
        };
        let child = self.children.fetch_add(1, Relaxed);
        self.cell.add(cell.clone())?;
        mailbox.set_home(cell.home());
        shared.insert(DirectoryEntry {
            cell: cell.clone(),
            actor: TypeId::of::<A>(),
            addr: Arc::new(addr.clone()),
            config: Arc::new(handle.clone()),
        });
        if !needs.is_empty() {
            self.tree.add_dependent(Dependent {
                cell: cell.clone(),
                depends_on: needs.iter().map(|need| need.path.clone()).collect(),
                supervisor: self.clone(),
                child,
            });
        }
        let line = Line {
            child,
            cell: cell.clone(),
            reports: self.inbox.clone(),
        };
        let run = Box::new(ActorTask {
            addr: addr.clone(),
            reader,
            factory,
            cell: cell.clone(),
            line,
            limits: TaskLimits {
                start_timeout: spec.start_timeout,
                handle_timeout: spec.handle_timeout,
                stop_timeout: spec.stop_timeout,
                memory_budget: spec.memory_budget,
            },
            config,
            needs,
            kept_timers: None,
        });
        self.enter(A::NAME, cell, &spec, child, run.run())?;
        Ok((addr, handle))
    }

    /// Resolves the dependencies of a child.
    fn needs(&self, spec: &ChildSpec, cell: &Cell) -> Result<Vec<Arc<Cell>>, StartError> {
        let system = self.cell.path.split('/').next().unwrap_or_default();
        let mut needs = Vec::with_capacity(spec.depends_on.len());
        for dependency in &spec.depends_on {
            let found = self
                .cell
                .shared
                .directory
                .find(&format!("{system}/{dependency}"));
            let unknown = || StartError::UnknownDependency {
                actor: cell.path.to_string(),
                dependency: dependency.clone(),
            };
            needs.push(found.ok_or_else(unknown)?.cell);
        }
        Ok(needs)
    }

    /// Drains children in sequence, each in its share of the remaining time. A supervisor that has
    /// not started yet may not process the request in time; the report is then empty, and the
    /// children stop with their supervisor.
    pub(crate) async fn drain(&self, children: &[u64], until: Instant) -> StopReport {
        let mut total = StopReport::default();
        // Each child is asked in turn and may use up its answer timeout.
        let grace = 2 * ANSWER_TIMEOUT * (self.cell.weight() + 1);
        let drained = async {
            for (index, child) in children.iter().enumerate() {
                let shares = u32::try_from(children.len() - index).unwrap_or(u32::MAX);
                let until = after(until.saturating_duration_since(time::now()) / shares);
                let (done, answer) = oneshot::channel();
                let drain = Inbox::Drain {
                    child: *child,
                    until,
                    done,
                };
                if self.inbox.send(drain).await.is_err() {
                    return;
                }
                let Ok(report) = answer.await else { return };
                total.add(report);
            }
        };
        let left = until.saturating_duration_since(time::now());
        let _in_time = time::timeout(left + grace, drained).await;
        total
    }

    pub(crate) fn path(&self) -> &Arc<str> {
        &self.cell.path
    }

    pub(crate) fn tree(&self) -> &Arc<TreeState> {
        &self.tree
    }

    /// Adds a supervisor as the last child and starts it.
    pub(crate) fn nest(&self, spec: SupervisorSpec) -> Result<Self, StartError> {
        let cell = Arc::new(Cell::supervisor(&spec.name, &self.cell));
        let child_spec = ChildSpec {
            stop_timeout: SUPERVISOR_STOP_TIMEOUT,
            ..ChildSpec::new(spec.name.clone())
        };
        let (handle, task) = Self::make(cell.clone(), self.tree.clone(), spec, false);
        let child = self.children.fetch_add(1, Relaxed);
        self.cell.add(cell.clone())?;
        let line = Line {
            child,
            cell: cell.clone(),
            reports: self.inbox.clone(),
        };
        self.enter("supervisor", cell, &child_spec, child, task(line).run())?;
        Ok(handle)
    }

    /// Creates the handle of a supervisor and a constructor of its task, which takes the line to
    /// its parent.
    pub(crate) fn make(
        cell: Arc<Cell>,
        tree: Arc<TreeState>,
        spec: SupervisorSpec,
        is_root: bool,
    ) -> (Self, impl FnOnce(SupervisorLine) -> SupervisorTask + use<>) {
        let (inbox, received) = mpsc::channel(INBOX);
        let handle = Self {
            cell: cell.clone(),
            tree,
            inbox,
            children: Arc::default(),
        };
        let open = handle.clone();
        let task = move |line| SupervisorTask::new(cell, line, received, open, spec, is_root);
        (handle, task)
    }

    fn enter(
        &self,
        task_name: &'static str,
        cell: Arc<Cell>,
        spec: &ChildSpec,
        child: u64,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        let lost = self.inbox.clone();
        let run = survived(cell.path.clone(), run).map(move |failure| {
            if let Some(failure) = failure {
                // A supervisor whose task has ended needs no report.
                let _ = lost.try_send(Inbox::Lost { child, failure });
            }
        });
        let (task, abort) = abortable(run);
        let entry = Entry::new(child, cell, spec, abort);
        self.inbox
            .try_send(Inbox::Add(NewChild {
                entry,
                task_name,
                task: task.map(drop).boxed(),
            }))
            .map_err(|_| StartError::ShutDown {
                supervisor: self.cell.path.to_string(),
            })
    }
}

/// Runs a task to completion. Returns a failure if it panicked. Not an async function, because its
/// future would store `run` twice.
pub(crate) fn survived(
    actor: Arc<str>,
    run: impl Future<Output = ()>,
) -> impl Future<Output = Option<Failure>> {
    AssertUnwindSafe(run).catch_unwind().map(move |ended| {
        let panic = ended.err()?;
        Some(Failure::TaskLost {
            actor: actor.to_string(),
            message: panic_text(&*panic),
        })
    })
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("path", &self.cell.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod child_tests;
