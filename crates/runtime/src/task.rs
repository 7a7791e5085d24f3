//! Tasks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use tokio::task::yield_now;

/// Starts a task. It runs until it ends, is aborted, or its process ends; dropping the handle lets it run on.
///
/// `name` is the kind of task, for errors and for looking at a running process.
///
/// In simulation a panic inside a task ends the whole run, so whoever supervises must catch it inside the task.
#[track_caller]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(not(madsim))]
    let inner = tokio::spawn(future);
    #[cfg(madsim)]
    let inner = {
        let future = async move {
            if crate::buggify!("runtime.task.late_start", 100_000) {
                yield_now().await;
            }
            future.await
        };
        madsim::task::Builder::new()
            .name(name)
            .spawn(crate::sim::Scoped::new(crate::sim::here(), future))
    };
    JoinHandle { name, inner }
}

/// Why a task gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It was aborted, or its process ended.
    #[error("task {name} was aborted")]
    Aborted {
        /// The name given at [`spawn`].
        name: &'static str,
    },
    /// It panicked. Production only: in simulation a panic ends the run.
    #[error("task {name} panicked")]
    Panicked {
        /// The name given at [`spawn`].
        name: &'static str,
    },
}

/// The right to wait for a task and to abort it.
pub struct JoinHandle<T> {
    name: &'static str,
    inner: tokio::task::JoinHandle<T>,
}

impl<T> JoinHandle<T> {
    #[cfg(madsim)]
    pub(crate) fn simulated(name: &'static str, inner: tokio::task::JoinHandle<T>) -> Self {
        Self { name, inner }
    }

    /// Asks the task to end at its next await. Its destructors run. Nothing happens to a task that has ended.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Whether the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    /// The name given at [`spawn`].
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        Pin::new(&mut self.inner)
            .poll(cx)
            .map_err(|error| match error.is_panic() {
                true => JoinError::Panicked { name },
                false => JoinError::Aborted { name },
            })
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Runs `work`, which computes or waits for the disk for more than a moment, without holding up other tasks:
/// on a multi-threaded runtime they move to another thread meanwhile. In simulation it just runs.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(not(madsim))]
    {
        use tokio::runtime::{Handle, RuntimeFlavor};
        let elsewhere =
            Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
        if elsewhere {
            tokio::task::block_in_place(work)
        } else {
            work()
        }
    }
    #[cfg(madsim)]
    work()
}

/// Maps `items`, keeping their order: on all cores in production, one after the other in simulation.
pub fn par_map<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    map: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    #[cfg(not(madsim))]
    {
        use rayon::iter::{IntoParallelIterator, ParallelIterator};
        let items: Vec<T> = items.into_iter().collect();
        items.into_par_iter().map(map).collect()
    }
    #[cfg(madsim)]
    {
        let mut items: Vec<T> = items.into_iter().collect();
        // In which order they are worked on is nobody's business, so the last may be first.
        let is_backwards = crate::buggify!("runtime.task.par_map_backwards");
        if is_backwards {
            items.reverse();
        }
        let mut results: Vec<R> = items.into_iter().map(map).collect();
        if is_backwards {
            results.reverse();
        }
        results
    }
}

/// Runs `future` on a new multi-threaded runtime until it ends: the `main` of a binary, or a test.
/// Other tasks are dropped then.
///
/// In simulation it is a run of one node with the seed in `ALYS_SEED`, or 1.
///
/// # Panics
/// When called inside a runtime, when the operating system refuses threads, or when `future` panics.
pub fn block_on_main<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(not(madsim))]
    {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a process that cannot start threads cannot run at all")
            .block_on(future)
    }
    #[cfg(madsim)]
    crate::sim::run_one_node(future)
}
