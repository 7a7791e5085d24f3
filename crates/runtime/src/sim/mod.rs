//! The simulated implementation: a world of machines, links, disks and clocks on one thread and one
//! seed.
//!
//! It exists only under `--cfg madsim`. [`run`] creates a world and passes it to the code that
//! drives the simulation. Nodes run the production code and access the world through the other
//! modules of this crate.
//!
//! **Guarantees**
//! - The same [`Options`] and the same code give the same run and the same [`World::trace_hash`].
//! - A killed process has no further effect, not even by its destructors.
//! - Links never reorder or corrupt bytes within a stream. Data that is not acknowledged within
//!   [`TcpTimeouts::send`] ends the connection at the sender.
//! - A healed link transfers data again within a second.
//! - [`World::counters`] counts the faults that had an effect, not the requested ones.
//!
//! **Never** uses madsim's own TCP and file system, because they lack timeouts, backpressure,
//! half-open connections and data loss.

mod buggify;
pub(crate) mod disk;
mod disk_control;
mod disk_faults;
mod link;
pub(crate) mod net;
mod net_faults;
mod node;
mod process;
mod rng;
pub(crate) mod state;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use madsim::time::TimeHandle;

pub use buggify::DEFAULT_SHARE_PPM;
pub use disk::Image;
pub use disk_faults::{Damage, DiskFaults, Slowness};
pub use link::{Block, Link};
pub use net::{CONNECT_TIMEOUT, TcpTimeouts, USER_TIMEOUT};
pub use node::WORLD_IP;
pub use process::{Process, here};
pub use rng::Rng;
pub use state::{EventHandler, MarkHandler};
pub use trace::{Detail, Event, MAX_SNAPSHOTS, Sink, Snapshot};

pub(crate) use buggify::buggify_fires;
pub(crate) use node::{shutdown, wall_ms_of_this_node};
pub(crate) use process::ProcessFuture;
pub(crate) use state::{count_reached, note_event, try_with, with};

use state::WorldState;

/// The number of a node, from 1 in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The code that drives the simulation, outside of all nodes.
    pub const WORLD: Self = Self(0);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The inputs that, with the code, determine a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Determines the schedule and the randomness of the nodes.
    pub seed: u64,
    /// Determines the effects of faults, by streams independent of the schedule's.
    pub fault_seed: u64,
    /// Simulated time after which the run panics with `time limit exceeded`.
    pub time_limit: Duration,
}

impl Options {
    /// Uses `seed` for both seeds and a time limit of one simulated day.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            fault_seed: seed,
            time_limit: Duration::from_secs(24 * 60 * 60),
        }
    }

    /// The true wall clock at the start in milliseconds since the Unix epoch, drawn from the year
    /// 2024.
    fn epoch_ms(&self) -> u64 {
        const START_OF_2024_MS: u64 = 1_704_067_200_000;
        const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
        START_OF_2024_MS + Rng::derive(self.seed, "epoch").below(YEAR_MS)
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Finished<T> {
    /// The output of the driving future, or the message of the panic that ended the run.
    pub result: Result<T, String>,
    /// True when the time limit ended the run.
    pub is_out_of_time: bool,
    /// See [`World::trace_hash`].
    pub trace_hash: [u8; 32],
    /// Intermediate hashes, at most [`MAX_SNAPSHOTS`].
    pub snapshots: Vec<Snapshot>,
    /// See [`World::counters`].
    pub counters: BTreeMap<&'static str, u64>,
    /// See [`World::events`].
    pub events: u64,
    /// Simulated time of the last event.
    pub elapsed: Duration,
}

/// Runs the simulation that `drive` drives until its future completes, and returns its output.
///
/// # Panics
/// When any task panics, at a deadlock, and when the time limit has passed.
pub fn run<T, F, Fut>(options: Options, drive: F) -> T
where
    T: Send + 'static,
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    match try_run(options, drive).result {
        Ok(value) => value,
        Err(message) => panic!("{message}"),
    }
}

/// As [`run`], but a panic is part of the result.
pub fn try_run<T, F, Fut>(options: Options, drive: F) -> Finished<T>
where
    T: Send + 'static,
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    // A run needs its own thread, because generators and hash seeds of dependencies are
    // thread-local. The stack is at least that of a main thread.
    const STACK_BYTES: usize = 64 << 20;
    let thread = std::thread::Builder::new()
        .name("simulation".into())
        .stack_size(STACK_BYTES);
    let running = thread
        .spawn(move || run_here(&options, drive))
        .expect("the operating system allows another thread");
    match running.join() {
        Ok(finished) => finished,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn run_here<T, F, Fut>(options: &Options, drive: F) -> Finished<T>
where
    F: FnOnce(World) -> Fut,
    Fut: Future<Output = T> + 'static,
{
    let mut runtime =
        madsim::runtime::Runtime::with_seed_and_config(options.seed, Default::default());
    runtime.set_time_limit(options.time_limit);
    let mut clock = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            clock = Some(TimeHandle::current());
            let mut state = WorldState::new(options);
            state.add_world();
            state::install(state);
            drive(World { _private: () }).await
        })
    }));
    let state = state::remove();
    let result = match result {
        Ok(value) => Ok(value),
        Err(panic) => {
            // After a panic, dropping the runtime may panic again or block for ever.
            std::mem::forget(runtime);
            Err(message_of(&*panic))
        }
    };
    // The executor checks the limit after each advance of its clock and before any task runs, so no
    // other panic happens at or after the limit.
    let is_at_limit = clock.is_some_and(|clock| clock.elapsed() >= options.time_limit);
    Finished {
        is_out_of_time: result.is_err() && is_at_limit,
        result,
        trace_hash: state.as_ref().map_or([0; 32], |state| state.trace.hash()),
        snapshots: state
            .as_ref()
            .map_or_else(Vec::new, |state| state.trace.snapshots().to_vec()),
        events: state.as_ref().map_or(0, |state| state.trace.events()),
        elapsed: state
            .as_ref()
            .map_or(Duration::ZERO, |state| state.trace.last_at()),
        counters: state.map_or_else(BTreeMap::new, |state| state.counters),
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        return (*message).to_owned();
    }
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "panicked without a message".to_owned())
}

/// The simulated implementation of [`crate::block_on_main`].
pub(crate) fn run_one_node<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let seed = std::env::var("ALYS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    run(Options::new(seed), |world| async move {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let node = world.node("main", ip, std::future::pending);
        match world.spawn_on(node, "main", future).await {
            Ok(output) => output,
            Err(error) => panic!("{error}"),
        }
    })
}

/// Counts the poll of a task.
pub(crate) fn count_poll() {
    /// madsim keeps a record of every finished task until the number of tasks is queried.
    const POLLS_BETWEEN_PRUNES: u64 = 1 << 16;
    let mut is_due = false;
    try_with(|state| {
        state.polls += 1;
        is_due = state.polls.is_multiple_of(POLLS_BETWEEN_PRUNES);
    });
    if is_due {
        madsim::runtime::Handle::current().metrics().num_tasks();
    }
}

/// The control interface of a simulation. Usable from any task of the run, and only there.
#[derive(Debug, Clone, Copy)]
pub struct World {
    _private: (),
}

impl World {
    /// The world of the current run. For oracles and embedded counterparts, not for the node's
    /// code.
    ///
    /// # Panics
    /// Outside of a simulation.
    pub fn current() -> Self {
        with(|_| Self { _private: () })
    }

    /// Simulated time since the start.
    pub fn now(&self) -> Duration {
        with(|state| state.now())
    }

    /// True when the current process is alive. Log lines between its death and the drop of its
    /// tasks should be ignored.
    pub fn is_here_alive(&self) -> bool {
        with(|state| state.is_alive(here()))
    }

    /// The hash over time, node, kind and payload of all events so far.
    pub fn trace_hash(&self) -> [u8; 32] {
        with(|state| state.trace.hash())
    }

    /// The number of hashed events.
    pub fn events(&self) -> u64 {
        with(|state| state.trace.events())
    }

    /// The number of polls of tasks so far, a measure of a simulation's cost.
    pub fn polls(&self) -> u64 {
        with(|state| state.polls)
    }

    /// Reports all further events to `sink` as well.
    pub fn add_sink(&self, sink: Sink) {
        with(|state| state.trace.add_sink(sink));
    }

    /// Reports all further coverage marks of living processes to `handler`, which replaces an
    /// earlier one. It runs inside of the process, which it may end.
    pub fn on_reached(&self, handler: MarkHandler) {
        with(|state| state.on_reached = Some(handler));
    }

    /// Reports all further events of [`crate::trace::event`] to `handler`, which replaces an
    /// earlier one. Unlike a sink it may read the world; it runs inside of the process.
    pub fn on_event(&self, handler: EventHandler) {
        with(|state| state.on_event = Some(handler));
    }

    /// Records an action of the world as an event.
    pub fn note(&self, kind: &'static str, payload: &[u8], detail: &str) {
        with(|state| state.note(NodeId::WORLD, kind, payload, || detail.to_owned()));
    }

    /// The number of effects by kind of fault.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        with(|state| state.counters.clone())
    }

    /// A generator for the world's choices, independent of the schedule and of all other labels.
    pub fn rng(&self, label: &str) -> Rng {
        with(|state| Rng::derive(state.fault_seed, &format!("world {label}")))
    }
}
