//! The seam: the only access of Alys to the operating system.
//!
//! **Owns** tasks, timers, the two clocks, randomness, TCP streams, files and shutdown signals. Its
//! interface has two implementations, selected at compile time: a real one on tokio and the
//! operating system, and, under `--cfg madsim`, a simulated one on one thread, determined by a seed
//! and a virtual clock.
//!
//! | module | in production | in simulation |
//! |---|---|---|
//! | [`task`](spawn) | tokio tasks, rayon for [`par_map`], [`offload`] | one thread, random order |
//! | [`time`] | monotonic clock, tokio timers | virtual clock, the same for all nodes |
//! | [`clock`] | the system's wall clock | per node: offset, drift, steps |
//! | [`rand`] | the operating system's generator | the seed |
//! | [`net`] | TCP | directed links with latency, loss, bandwidth, partitions |
//! | [`disk`] | files | sectors that a power loss drops when unsynced; failing, slow syncs |
//! | [`mod@buggify`] | no effect | permitted but rare behaviour |
//! | [`trace`] | no effect | a rolling hash of all events |
//! | [`signal`] | SIGINT and SIGTERM | the world's request to stop a node |
//! | [`mutant`] | no effect | a planted bug, active for one run |
//! | [`log_limit`] | pure | the same |
//! | [`io`], [`sync`] | tokio's traits, channels and locks | the same |
//!
//! **Promises**
//! - The same source runs on both implementations; the suite `tests/conformance.rs` checks both.
//! - In simulation the same seed gives the same run, byte for byte. Faults draw from random streams
//!   of their own, so that a new fault does not change the draws of others.
//! - Bytes of a stream arrive once and in order, or the stream ends. A write may return before its
//!   bytes arrive.
//! - Data survives a power loss once [`disk::File::sync`] has returned, and a file and its name
//!   once [`disk::Dir::write_atomic`] has. Unsynced data may be lost completely or in part.
//! - A repeated poll of a timer registers nothing new, and an idle stream causes no event.
//!
//! **Never** starts a thread in simulation, and never retries a failed operation.
//!
//! There are two kinds of time. [`time::Instant`] measures durations and orders timers. Times in
//! blocks and votes come from [`clock::wall_ms`], which may jump and differs between nodes.

pub mod buggify;
pub mod clock;
pub mod disk;
pub mod io;
pub mod log_limit;
pub mod mutant;
pub mod net;
pub mod rand;
pub mod signal;
pub mod sync;
mod task;
pub mod time;
pub mod trace;

#[cfg(madsim)]
pub mod sim;

pub use task::{
    JoinError, JoinHandle, Lane, block_on_main, blocking, offload, par_map, spawn, yield_now,
};
pub use tokio::{join, select, try_join};

/// True in the simulator. For code that one of the two cannot run or does not need, such as sled,
/// which starts threads, and coverage marks.
pub const fn is_simulated() -> bool {
    cfg!(madsim)
}
