//! The handle of a supervisor, through which children are added.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use alys_runtime::sync::mpsc;
use futures::{FutureExt, future::abortable};

use crate::{
    actor::AlysActor,
    child::Child,
    error::StartError,
    keeper::{Entry, Keeper},
    mailbox::{Addr, Slot},
    policy::{Backoff, Intensity, Restart, Strategy},
    protocol::{Inbox, Line, ORDERS},
    system::Verdict,
    tree::{Cell, MAX_CHILDREN},
};

/// Room for what can be in flight: each child is added once and reports twice at most before it is looked at.
const INBOX: usize = 4 * MAX_CHILDREN;

/// How long a supervisor may take to stop all its children when it is stopped because of a sibling.
const SUPERVISOR_STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What a supervisor is to be.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// Unique among its siblings.
    pub name: String,
    /// Whom a failure takes along.
    pub strategy: Strategy,
    /// When it gives up.
    pub intensity: Intensity,
    /// How long it waits before a restart.
    pub backoff: Backoff,
    /// The supervisor above it; the system's root if none.
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
            parent: None,
        }
    }
}

/// What a child is to be.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// Unique among its siblings.
    pub name: String,
    /// Whether it comes back after it ended.
    pub restart: Restart,
    /// How long it may take over its current message and its `stopping` when it is stopped because of a
    /// sibling, or stops itself. A shutdown shares its deadline out instead.
    pub stop_within: Duration,
}

impl ChildSpec {
    /// A child that always runs, and has two seconds to stop.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), restart: Restart::Permanent, stop_within: Duration::from_secs(2) }
    }

    /// The same with another restart policy.
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }
}

/// A handle of a supervisor. Cheap to clone; does not keep it running.
#[derive(Clone)]
pub struct Supervisor {
    cell: Arc<Cell>,
    inbox: mpsc::Sender<Inbox>,
    children: Arc<AtomicU64>,
}

impl Supervisor {
    /// Adds an actor as the last child and starts it at once, in the background. `slot` is a mailbox made
    /// before with [`mailbox`](crate::mailbox()), or the capacity of one. The factory runs in the actor's task
    /// at every start; what is to outlive an incarnation is what the factory holds.
    ///
    /// Must be called inside the runtime.
    ///
    /// # Errors
    /// The name is taken, there are too many children, or the supervisor has been shut down. A failing factory
    /// is no error here: it is retried under the supervisor's policy.
    pub fn start<A, F, Fut, E>(
        &self,
        spec: ChildSpec,
        slot: impl Into<Slot<A::Message>>,
        factory: F,
    ) -> Result<Addr<A::Message>, StartError>
    where
        A: AlysActor,
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let Slot { addr, queue } = slot.into();
        let cell = Arc::new(Cell::actor(&spec.name, &self.cell, &addr));
        let (stop_within, child_addr, child_cell) = (spec.stop_within, addr.clone(), cell.clone());
        self.add(A::NAME, cell, spec.restart, stop_within, move |line| {
            Child { addr: child_addr, queue, factory, cell: child_cell, line, stop_within }.run()
        })?;
        Ok(addr)
    }

    /// Adds a supervisor as the last child and starts it.
    pub(crate) fn nest(&self, spec: SupervisorSpec) -> Result<Self, StartError> {
        let cell = Arc::new(Cell::supervisor(&spec.name, Some(&self.cell)));
        let (handle, keeper) = Self::make(cell.clone(), spec, None);
        self.add("supervisor", cell, Restart::Permanent, SUPERVISOR_STOPS_WITHIN, move |line| {
            keeper(line).run()
        })?;
        Ok(handle)
    }

    /// A supervisor's handle, and its task once there is a line to what is above it.
    pub(crate) fn make(
        cell: Arc<Cell>,
        spec: SupervisorSpec,
        verdict: Option<Arc<Verdict>>,
    ) -> (Self, impl FnOnce(Line) -> Keeper + use<>) {
        let (inbox, received) = mpsc::channel(INBOX);
        let handle = Self { cell: cell.clone(), inbox, children: Arc::default() };
        let open = handle.clone();
        let keeper = move |line| Keeper::new(cell, line, received, open, spec, verdict);
        (handle, keeper)
    }

    fn add<Fut>(
        &self,
        task_name: &'static str,
        cell: Arc<Cell>,
        restart: Restart,
        stop_within: Duration,
        run: impl FnOnce(Line) -> Fut,
    ) -> Result<(), StartError>
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.cell.add(cell.clone())?;
        let (orders, received) = mpsc::channel(ORDERS);
        let id = self.children.fetch_add(1, Relaxed);
        let line = Line { child: id, orders: received, reports: self.inbox.clone() };
        let (task, abort) = abortable(run(line));
        let entry = Entry::new(id, cell, orders, restart, stop_within, abort);
        self.inbox
            .try_send(Inbox::Add(entry))
            .map_err(|_| StartError::ShutDown { supervisor: self.cell.path.to_string() })?;
        alys_runtime::spawn(task_name, task.map(drop));
        Ok(())
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("path", &self.cell.path).finish_non_exhaustive()
    }
}
