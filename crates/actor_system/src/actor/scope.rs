//! Tasks and timers of one incarnation, whose lifetime they share.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use alys_runtime::{
    sync::Notify,
    time::{self, Instant},
};
use futures::{
    FutureExt,
    future::{AbortHandle, abortable},
};

use crate::{
    actor::cell::Cell,
    actor::control,
    actor::error::{Failure, TooManyTasks, panic_text},
    after, interceptor, lock,
};

/// Maximum concurrent tasks of one incarnation, so that its background work does not grow with its
/// input.
pub const MAX_TASKS: usize = 1024;

/// Maximum pending timers of one incarnation.
pub const MAX_TIMERS: usize = 4096;

/// Time that a new incarnation waits for aborted tasks of the previous one. Only a task that
/// computes without awaiting exceeds it, because an aborted task ends at its next await.
const TASKS_END_TIMEOUT: Duration = Duration::from_secs(1);

/// The tasks of one incarnation, and its first failure.
pub(crate) struct Scope {
    cell: Arc<Cell>,
    tasks: Mutex<Tasks>,
    idle: Notify,
    failure: Mutex<Option<Failure>>,
}

#[derive(Default)]
struct Tasks {
    running: BTreeMap<u64, AbortHandle>,
    next: u64,
}

/// Handle of a task of [`Context::spawn`](crate::Context::spawn). Dropping it does not abort the
/// task.
#[derive(Debug, Clone)]
pub struct Task(AbortHandle);

impl Task {
    /// Aborts the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl Scope {
    pub fn new(cell: Arc<Cell>) -> Self {
        cell.control
            .clear(control::FAILED | control::STOP | control::TIMERS | control::CONFIG);
        Self {
            cell,
            tasks: Mutex::default(),
            idle: Notify::new(),
            failure: Mutex::default(),
        }
    }

    pub fn spawn<F>(self: &Arc<Self>, name: &'static str, task: F) -> Result<Task, TooManyTasks>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = lock(&self.tasks);
        if tasks.running.len() >= MAX_TASKS {
            return Err(TooManyTasks { limit: MAX_TASKS });
        }
        let id = tasks.next;
        tasks.next += 1;
        let (mut task, abort) = abortable(Box::pin(task));
        tasks.running.insert(id, abort.clone());
        drop(tasks);

        let member = Member {
            scope: self.clone(),
            id,
        };
        alys_runtime::spawn(name, async move {
            let ran = AssertUnwindSafe(&mut task).catch_unwind().await;
            let dropped = catch_unwind(AssertUnwindSafe(move || drop(task)));
            if let Err(panic) = ran.map(drop).and(dropped) {
                member.scope.fail(Failure::TaskPanicked {
                    task: name,
                    message: panic_text(&*panic),
                });
            }
            drop(member);
        });
        Ok(Task(abort))
    }

    /// Records a failure. Only the first is kept, because later ones are its consequences.
    pub fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
        self.cell.control.raise(control::FAILED);
    }

    pub fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    pub fn request_stop(&self) {
        self.cell.control.raise(control::STOP);
    }

    fn abort(&self) {
        if !lock(&self.tasks).running.is_empty() && interceptor::tasks_outlive_their_incarnation() {
            return;
        }
        for task in lock(&self.tasks).running.values() {
            task.abort();
        }
    }

    /// Aborts all tasks and waits until they have ended. False if one has not within
    /// [`TASKS_END_TIMEOUT`].
    pub async fn end(&self) -> bool {
        self.abort();
        if interceptor::tasks_outlive_their_incarnation() {
            return true;
        }
        let gone = async {
            loop {
                let idle = self.idle.notified();
                if lock(&self.tasks).running.is_empty() {
                    return;
                }
                idle.await;
            }
        };
        time::timeout(TASKS_END_TIMEOUT, gone).await.is_ok()
    }
}

/// Aborts the tasks of an incarnation on drop, because the actor's task may be dropped at any
/// await.
pub(crate) struct Owner(pub Arc<Scope>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Membership of a task in its scope, which ends on drop also after an abort or a panic.
struct Member {
    scope: Arc<Scope>,
    id: u64,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut tasks = lock(&self.scope.tasks);
        tasks.running.remove(&self.id);
        if tasks.running.is_empty() {
            self.scope.idle.notify_waiters();
        }
    }
}

/// The timers of one incarnation, sorted by due time, then by the order in which they were set.
pub(crate) struct Timers<M> {
    queue: Mutex<Queue<M>>,
    scope: Arc<Scope>,
}

struct Queue<M> {
    /// Messages, each with the incarnation that set the timer.
    due: BTreeMap<(Instant, u64), (u64, M)>,
    next: u64,
}

impl<M: Send + 'static> Timers<M> {
    pub fn new(scope: Arc<Scope>) -> Self {
        Self {
            queue: Mutex::new(Queue {
                due: BTreeMap::new(),
                next: 0,
            }),
            scope,
        }
    }

    pub fn set(this: &Arc<Self>, incarnation: u64, delay: Duration, msg: M) -> Timer {
        let mut queue = lock(&this.queue);
        let key = (after(delay), queue.next);
        queue.next += 1;
        if queue.due.len() >= MAX_TIMERS {
            this.scope
                .fail(Failure::TooManyTimers { limit: MAX_TIMERS });
        } else {
            queue.due.insert(key, (incarnation, msg));
            this.scope.cell.control.raise(control::TIMERS);
        }
        let timers: Weak<dyn Cancel> = Arc::downgrade(&(this.clone() as Arc<dyn Cancel>));
        Timer { key, timers }
    }

    /// Takes over the pending timers of an earlier incarnation, as only a planted bug does.
    pub fn adopt(&self, earlier: &Self) {
        let mut from = lock(&earlier.queue);
        let due = std::mem::take(&mut from.due);
        if due.is_empty() {
            return;
        }
        let mut queue = lock(&self.queue);
        queue.next = from.next;
        queue.due = due;
        self.scope.cell.control.raise(control::TIMERS);
    }

    /// Due time of the next timer; clears the flag [`control::TIMERS`] if there is none.
    pub fn next_due(&self) -> Option<Instant> {
        let queue = lock(&self.queue);
        let due = queue.due.first_key_value().map(|((due, _), _)| *due);
        if due.is_none() {
            self.scope.cell.control.clear(control::TIMERS);
        }
        due
    }

    /// Takes the next timer that is due at `now`, with the incarnation that set it.
    pub fn pop(&self, now: Instant) -> Option<(u64, M)> {
        let mut queue = lock(&self.queue);
        let first = queue.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

trait Cancel: Send + Sync {
    fn cancel(&self, key: (Instant, u64)) -> bool;
}

impl<M: Send> Cancel for Timers<M> {
    fn cancel(&self, key: (Instant, u64)) -> bool {
        // The message is dropped after the lock is released, because its destructor is foreign
        // code.
        let cancelled = lock(&self.queue).due.remove(&key);
        cancelled.is_some()
    }
}

/// Handle of a pending timer. Dropping it does not cancel the timer; the end of the incarnation
/// does.
pub struct Timer {
    key: (Instant, u64),
    timers: Weak<dyn Cancel>,
}

impl Timer {
    /// Cancels the timer. False if its message has been handed to the actor or its incarnation has
    /// ended.
    pub fn cancel(self) -> bool {
        self.timers
            .upgrade()
            .is_some_and(|timers| timers.cancel(self.key))
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("due", &self.key.0)
            .finish_non_exhaustive()
    }
}
