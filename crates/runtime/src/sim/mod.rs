//! The simulated half: a world of machines, links, disks and clocks, on one thread and one seed.
//!
//! It exists only under `--cfg madsim`. [`run`] makes a fresh world and hands it to the code that drives the
//! simulation; nodes run the production code and see the world through the other modules of this crate.
//!
//! **Promises**
//! - Same [`Options`], same code: same run, same [`World::trace_hash`].
//! - A killed process changes nothing any more, whatever its destructors do.
//! - Links never reorder or invent bytes within a stream; what is not delivered within
//!   [`Patience::send`] of being sent ends the connection at the sender.
//! - A link that heals goes on within a second.
//! - [`World::counters`] counts the faults that had an effect, not the ones that were asked for.
//!
//! **Never** uses madsim's own TCP and file system: they lack timeouts, backpressure, half-open connections and
//! any loss of data.

mod buggify;
pub(crate) mod disk;
mod disk_faults;
mod home;
mod link;
pub(crate) mod net;
mod net_faults;
mod node;
mod rng;
pub(crate) mod state;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use buggify::USUAL_SHARE_PPM;
pub use disk::Image;
pub use disk_faults::{Damage, Slowness};
pub use home::{Home, here};
pub use link::{Block, Link};
pub use net::{CONNECT_TIMEOUT, Patience, USER_TIMEOUT};
pub use node::WORLD_IP;
pub use rng::Rng;
pub use trace::{Event, MAX_SNAPSHOTS, Sink, Snapshot};

pub(crate) use buggify::buggify_fires;
pub(crate) use home::Scoped;
pub(crate) use node::{shutdown, wall_ms_of_this_node};
pub(crate) use state::{count_reached, note_event, try_with, with};

use state::State;

/// A node's number: 1 for the first that was added.
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

/// What determines a run, besides the code.
#[derive(Debug, Clone)]
pub struct Options {
    /// Determines the schedule and the randomness of the nodes.
    pub seed: u64,
    /// Determines what faults do, by streams apart from the schedule's.
    pub fault_seed: u64,
    /// Simulated time after which the run panics with `time limit exceeded`.
    pub time_limit: Duration,
}

impl Options {
    /// The run of `seed`, limited to a simulated day.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            fault_seed: seed,
            time_limit: Duration::from_secs(24 * 60 * 60),
        }
    }

    /// True wall clock at the start, milliseconds since the Unix epoch: some moment of 2024.
    fn epoch_ms(&self) -> u64 {
        const START_OF_2024_MS: u64 = 1_704_067_200_000;
        const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
        START_OF_2024_MS + Rng::derive(self.seed, "epoch").below(YEAR_MS)
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished<T> {
    /// What the driving future returned, or the message of the panic that ended the run.
    pub result: Result<T, String>,
    /// See [`World::trace_hash`].
    pub trace_hash: [u8; 32],
    /// The hash on the way, at most [`MAX_SNAPSHOTS`] times.
    pub snapshots: Vec<Snapshot>,
    /// See [`World::counters`].
    pub counters: BTreeMap<&'static str, u64>,
    /// See [`World::events`].
    pub events: u64,
    /// Simulated time of the last event.
    pub elapsed: Duration,
}

/// Runs the simulation that `drive` drives, until its future ends, and returns what it returned.
///
/// # Panics
/// When any task panics, when nothing can ever happen again, and when the time limit has passed.
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
    // A thread of its own, because generators and hash seeds of third parties live in thread-local storage; its
    // stack is that of a main thread, or more.
    const STACK_BYTES: usize = 64 << 20;
    let thread = std::thread::Builder::new()
        .name("simulation".into())
        .stack_size(STACK_BYTES);
    let running = thread
        .spawn(move || run_here(&options, drive))
        .expect("the machine has room for one more thread");
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
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut state = State::new(options);
            state.add_world();
            state::install(state);
            drive(World { _private: () }).await
        })
    }));
    let state = state::remove();
    let result = match result {
        Ok(value) => Ok(value),
        Err(panic) => {
            // What unwinding left behind may panic again when it is dropped, or wait for ever.
            std::mem::forget(runtime);
            Err(message_of(&*panic))
        }
    };
    Finished {
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
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "panicked without a message".to_owned(),
    }
}

/// The simulated half of [`crate::block_on_main`].
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

/// A task is about to be polled.
pub(crate) fn count_poll() {
    /// madsim remembers every task that a node ever had, until it is asked how many there are.
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

/// The hand that drives the simulation. It can be used from any task of the run, and only there.
#[derive(Debug, Clone, Copy)]
pub struct World {
    _private: (),
}

impl World {
    /// The world of the run that this code is part of. For oracles and embedded counterparts; the node's own
    /// code has no business with it.
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

    /// Whether the process that runs this code is alive. Between its death and the drop of its tasks, what it
    /// logs should be ignored.
    pub fn is_here_alive(&self) -> bool {
        with(|state| state.is_alive(here()))
    }

    /// The hash over all events so far: time, node, what happened, and the bytes.
    pub fn trace_hash(&self) -> [u8; 32] {
        with(|state| state.trace.hash())
    }

    /// How many events are in the hash.
    pub fn events(&self) -> u64 {
        with(|state| state.trace.events())
    }

    /// How often tasks were polled so far: what a simulation costs.
    pub fn polls(&self) -> u64 {
        with(|state| state.polls)
    }

    /// Has every event from now on reported to `sink`, too.
    pub fn add_sink(&self, sink: Sink) {
        with(|state| state.trace.add_sink(sink));
    }

    /// Notes something that the world did, for the hash and the sink.
    pub fn note(&self, kind: &'static str, payload: &[u8], detail: &str) {
        with(|state| state.note(NodeId::WORLD, kind, payload, || detail.to_owned()));
    }

    /// How often each kind of fault had an effect.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        with(|state| state.counters.clone())
    }

    /// A generator for the world's own choices, apart from the schedule and from all other labels.
    pub fn rng(&self, label: &str) -> Rng {
        with(|state| Rng::derive(state.fault_seed, &format!("world {label}")))
    }
}
