//! What the measures of all contenders have in common: counting, waiting, timing, and the tokio runtime.

use std::{
    future::Future,
    hint::black_box,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Release},
        },
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::sync::Notify;

/// Threads of the tokio runtime, unless the command line says otherwise.
pub const WORKERS: usize = 2;

/// What the command line says.
static WORKERS_HERE: OnceLock<usize> = OnceLock::new();

/// Sets the threads of every runtime of this process. Only the first call counts.
pub fn set_workers(workers: usize) {
    let _ = WORKERS_HERE.set(workers);
}

/// Messages that may wait in a mailbox, where a contender's mailboxes are bounded.
pub const CAPACITY: usize = 1024;

/// One part in so many of the work is done once more before the clock starts.
pub const WARM_UP_PART: u64 = 10;

/// How long freed memory and tasks that are about to end have before live bytes are read.
const SETTLE: Duration = Duration::from_millis(100);

/// Opens when as many have counted down as it was made for. One task waits.
pub struct Latch {
    left: AtomicU64,
    open: Notify,
}

impl Latch {
    pub fn new(count: u64) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(count),
            open: Notify::new(),
        })
    }

    /// Closes it again, for `count`. Only while nobody counts down or waits.
    pub fn close(&self, count: u64) {
        self.left.store(count, Release);
    }

    pub fn count_down(&self) {
        if self.left.fetch_sub(1, AcqRel) == 1 {
            // Stores a permit if nobody waits yet.
            self.open.notify_one();
        }
    }

    pub async fn wait(&self) {
        self.open.notified().await;
    }
}

/// Notes handled by one actor. It belongs to the actor, so that counting costs no shared memory.
#[derive(Clone)]
pub struct Tally {
    seen: u64,
    sum: u64,
    goals: Arc<Goals>,
}

/// How many notes are to be handled before somebody is told: after warming up, and in all.
pub struct Goals {
    warm: u64,
    total: u64,
    is_warm: Notify,
    is_done: Notify,
}

impl Goals {
    pub fn new(warm: u64, measured: u64) -> Arc<Self> {
        Arc::new(Self {
            warm,
            total: warm + measured,
            is_warm: Notify::new(),
            is_done: Notify::new(),
        })
    }

    /// For an actor that gets no notes.
    pub fn none() -> Arc<Self> {
        Self::new(u64::MAX, 0)
    }

    pub async fn warm(&self) {
        self.is_warm.notified().await;
    }

    pub async fn done(&self) {
        self.is_done.notified().await;
    }
}

impl Tally {
    pub fn new(goals: &Arc<Goals>) -> Self {
        Self {
            seen: 0,
            sum: 0,
            goals: goals.clone(),
        }
    }

    pub fn note(&mut self, value: u64) {
        self.seen += 1;
        self.sum = black_box(self.sum.wrapping_add(value));
        if self.seen == self.goals.warm {
            self.goals.is_warm.notify_one();
        } else if self.seen == self.goals.total {
            self.goals.is_done.notify_one();
        }
    }
}

/// Runs `driver` as a task on a new runtime, so that it is on a worker like everything that it talks to: the
/// main thread would be a third one, and each wake of it would cross threads.
pub fn on_workers<F>(driver: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(*WORKERS_HERE.get_or_init(|| WORKERS))
        .enable_all()
        .build()
        .expect("a process that cannot start threads cannot run at all");
    runtime.block_on(async {
        tokio::spawn(driver)
            .await
            .expect("a measure that panicked has no result")
    })
}

/// Asks `asks` times, one after the other, after warming up, and returns how long each took, in nanoseconds.
pub async fn latencies<F, Fut>(asks: u64, mut ask: F) -> Histogram<u64>
where
    F: FnMut(u64) -> Fut,
    Fut: Future<Output = u64>,
{
    for value in 0..asks / WARM_UP_PART {
        black_box(ask(value).await);
    }
    let mut histogram = histogram();
    let mut begun = Instant::now();
    for value in 0..asks {
        let answer = ask(value).await;
        let ended = Instant::now();
        assert_eq!(answer, value + 1, "the answer is to this question");
        record(&mut histogram, ended - begun);
        begun = ended;
    }
    histogram
}

/// How long `tokens` take to go round a ring of `actors`, `laps` times, after one token has gone round some laps
/// to warm up. `put` hands the first actor a token with so many hops before it, without waiting; whoever gets
/// it with none left counts down `latch`.
pub async fn go_round(
    latch: &Latch,
    actors: u64,
    tokens: u64,
    laps: u64,
    mut put: impl FnMut(u64),
) -> Duration {
    latch.close(1);
    put(actors * (laps / WARM_UP_PART));
    latch.wait().await;
    latch.close(tokens);
    let begun = Instant::now();
    for _ in 0..tokens {
        put(actors * laps);
    }
    latch.wait().await;
    begun.elapsed()
}

/// A histogram of nanoseconds, exact to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within the histogram's bounds")
}

pub fn record(histogram: &mut Histogram<u64>, took: Duration) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    histogram
        .record(nanos)
        .expect("a histogram that resizes itself takes every value");
}

/// Live bytes that `actors` idle actors cost, each. `spawn(n)` makes `n` of them, waits until each has handled
/// a message, and returns what keeps them alive. A tenth is made first, so that what a framework makes once is
/// not counted.
pub async fn bytes_each<F, Fut, T>(actors: u64, mut spawn: F) -> f64
where
    F: FnMut(u64) -> Fut,
    Fut: Future<Output = T>,
{
    let first = spawn(actors / WARM_UP_PART).await;
    tokio::time::sleep(SETTLE).await;
    let before = crate::ALLOCATOR.live();
    let second = spawn(actors).await;
    tokio::time::sleep(SETTLE).await;
    let after = crate::ALLOCATOR.live();
    drop((first, second));
    (after - before) as f64 / actors as f64
}
