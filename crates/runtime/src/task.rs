//! Tasks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use tokio::task::yield_now;

/// Starts a task. It runs until it completes, is aborted, or its process ends; dropping the handle
/// detaches it.
///
/// `name` is the kind of task, for errors and for debugging.
///
/// In simulation a panic in a task ends the whole run, so a supervisor must catch panics inside the
/// task.
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
            .spawn(crate::sim::ProcessFuture::new(crate::sim::here(), future))
    };
    JoinHandle { name, inner }
}

/// A task without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The task was aborted, or its process ended.
    #[error("task {name} was aborted")]
    Aborted {
        /// The name given at [`spawn`].
        name: &'static str,
    },
    /// The task panicked. Only in production, because in simulation a panic ends the run.
    #[error("task {name} panicked")]
    Panicked {
        /// The name given at [`spawn`].
        name: &'static str,
    },
}

/// A handle for awaiting and aborting a task.
pub struct JoinHandle<T> {
    name: &'static str,
    inner: tokio::task::JoinHandle<T>,
}

impl<T> JoinHandle<T> {
    #[cfg(madsim)]
    pub(crate) fn simulated(name: &'static str, inner: tokio::task::JoinHandle<T>) -> Self {
        Self { name, inner }
    }

    /// Cancels the task at its next await; its destructors run. No effect on a task that has ended.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// True when the task has completed, panicked or was aborted.
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
        Pin::new(&mut self.inner).poll(cx).map_err(|error| {
            if error.is_panic() {
                JoinError::Panicked { name }
            } else {
                JoinError::Aborted { name }
            }
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

/// Runs `work`, which computes or blocks on the disk, without blocking other tasks: a
/// multi-threaded runtime moves them to another thread. In simulation `work` is simply called.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(not(madsim))]
    {
        use tokio::runtime::{Handle, RuntimeFlavor};
        let is_multi_thread =
            Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
        if is_multi_thread {
            tokio::task::block_in_place(work)
        } else {
            work()
        }
    }
    #[cfg(madsim)]
    work()
}

/// The threads on which [`offload`] runs a computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Computations of milliseconds.
    Short,
    /// Computations of seconds, which must not delay the short ones.
    Long,
}

impl Lane {
    fn name(self) -> &'static str {
        match self {
            Self::Short => "offload-short",
            Self::Long => "offload-long",
        }
    }
}

/// Runs `work` on the few threads of its lane, which all nodes of a process share, and never on a
/// worker of the runtime, so that computations for strangers cannot occupy the workers that
/// agreement needs. The order is first in, first out; the caller bounds the number of queued
/// computations.
///
/// `work` runs to its end even when the returned future is dropped, so a long computation needs a
/// flag that cancels it. In simulation `work` runs in the caller's task.
///
/// # Errors
/// [`JoinError::Panicked`] when `work` panics; in simulation the panic ends the run.
pub async fn offload<T, W>(lane: Lane, work: W) -> Result<T, JoinError>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    #[cfg(not(madsim))]
    {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        let (sender, receiver) = tokio::sync::oneshot::channel();
        lanes::threads(lane).spawn_fifo(move || {
            // A failure to send means that the caller has left.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        });
        match receiver.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(JoinError::Panicked { name: lane.name() }),
        }
    }
    #[cfg(madsim)]
    {
        let _ = lane.name();
        Ok(work())
    }
}

#[cfg(not(madsim))]
mod lanes {
    use std::sync::OnceLock;

    use rayon::{ThreadPool, ThreadPoolBuilder};

    use super::Lane;

    /// The threads of a lane: half of the cores for each of the two, so that the workers of the
    /// runtime keep a share of the machine when both lanes are full.
    pub(super) fn threads(lane: Lane) -> &'static ThreadPool {
        static SHORT: OnceLock<ThreadPool> = OnceLock::new();
        static LONG: OnceLock<ThreadPool> = OnceLock::new();
        let pool = match lane {
            Lane::Short => &SHORT,
            Lane::Long => &LONG,
        };
        pool.get_or_init(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            ThreadPoolBuilder::new()
                .num_threads((cores / 2).max(1))
                .thread_name(move |index| format!("{}-{index}", lane.name()))
                .build()
                .expect("the operating system allows threads")
        })
    }
}

/// Maps `items` in order of their results: on all cores in production, sequentially in simulation.
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
        // The order of execution is unspecified, so it may be reversed.
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

/// Runs `future` on a new multi-threaded runtime until it completes, and then drops all other
/// tasks. For the `main` of a binary and for tests.
///
/// In simulation this is a run of one node with the seed in `ALYS_SEED`, or 1.
///
/// # Panics
/// When called inside a runtime, when the operating system refuses threads, or when `future`
/// panics.
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
            .expect("the operating system allows threads")
            .block_on(future)
    }
    #[cfg(madsim)]
    crate::sim::run_one_node(future)
}
