//! The whole tree: made, looked at, and shut down.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use alys_runtime::{
    sync::{Notify, mpsc, oneshot},
    time,
};
use futures::{
    FutureExt,
    future::{AbortHandle, abortable},
};

use crate::{
    after,
    error::{Failure, StartError},
    lock,
    policy::{Backoff, Intensity, Strategy},
    protocol::{Abandoned, Line, ORDERS, Order, Start, Stop, StopKind},
    supervisor::{Supervisor, SupervisorSpec},
    tree::{Cell, Snapshot},
};

/// A tree of supervisors and actors with one root. Dropping it aborts everything in it; see
/// [`System::shutdown`].
pub struct System {
    cell: Arc<Cell>,
    root: Supervisor,
    orders: mpsc::Sender<Order>,
    verdict: Arc<Verdict>,
    task: AbortHandle,
}

/// Why the root gave up, for all who wait for it.
#[derive(Default)]
pub(crate) struct Verdict {
    reason: Mutex<Option<Failure>>,
    given: Notify,
}

impl Verdict {
    pub fn give(&self, reason: Failure) {
        lock(&self.reason).get_or_insert(reason);
        self.given.notify_waiters();
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
            intensity: Intensity { restarts: 2, within: Duration::from_secs(600) },
            backoff: Backoff { initial: Duration::from_millis(500), ..Backoff::default() },
            ..SupervisorSpec::new(name, Strategy::OneForAll)
        })
    }

    /// A system with a root of one's own; its `parent` means nothing.
    ///
    /// Must be called inside the runtime.
    pub fn with_root(spec: SupervisorSpec) -> Self {
        let cell = Arc::new(Cell::supervisor(&spec.name, None));
        let verdict = Arc::<Verdict>::default();
        let (root, keeper) = Supervisor::make(cell.clone(), spec, Some(verdict.clone()));
        let (orders, received) = mpsc::channel(ORDERS);
        // The root gives its verdict instead of a report, so nobody reads these.
        let (reports, _) = mpsc::channel(1);
        let start = Start { life: 1, delay: Duration::ZERO, after: None, started: None };
        orders.try_send(Order::Start(start)).expect("the channel is new and has room");
        let (task, abort) = abortable(keeper(Line { child: 0, orders: received, reports }).run());
        alys_runtime::spawn("root supervisor", task.map(drop));
        Self { cell, root, orders, verdict, task: abort }
    }

    /// The supervisor at the top.
    pub fn root(&self) -> &Supervisor {
        &self.root
    }

    /// Adds a supervisor under its `parent`, or under the root.
    ///
    /// # Errors
    /// The name is taken, there are too many children, or the parent has been shut down.
    pub fn supervisor(&self, spec: SupervisorSpec) -> Result<Supervisor, StartError> {
        let parent = spec.parent.clone().unwrap_or_else(|| self.root.clone());
        parent.nest(spec)
    }

    /// The whole tree as it is now. Each part is true at its own moment: actors run on meanwhile.
    pub fn snapshot(&self) -> Snapshot {
        self.cell.snapshot()
    }

    /// Waits until the root gives up, and says why. The process must then end: nothing runs any more. It never
    /// ends otherwise.
    pub async fn failed(&self) -> Failure {
        loop {
            let given = self.verdict.given.notified();
            if let Some(reason) = lock(&self.verdict.reason).clone() {
                return reason;
            }
            given.await;
        }
    }

    /// Stops everything for good, children in the reverse order of their start. Each takes nothing new, handles
    /// what it had taken, and has its `stopping` called; what is not done within its share of `deadline` is cut
    /// off and reported. A second call finds nothing.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let begun = time::now();
        let (done, answer) = oneshot::channel();
        let stop = Order::Stop(Stop { until: after(deadline), kind: StopKind::Drain, done });
        let report = match self.orders.send(stop).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Default::default(),
        };
        let took = time::now().saturating_duration_since(begun);
        ShutdownReport { took, stopped: report.stopped, abandoned: report.abandoned }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("root", &self.root).finish_non_exhaustive()
    }
}
