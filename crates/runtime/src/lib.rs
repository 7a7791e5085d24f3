//! The seam: the only access of Alys to the operating system.
//!
//! **Owns** tasks, timers, the two clocks, randomness, TCP streams, files and the shutdown signal.
//! Two implementations share one interface and are selected at compile time: a real one on tokio
//! and the operating system, and, under `--cfg madsim`, a simulated one in which one thread, one
//! seed and a virtual clock determine everything.
//!
//! | module | in production | in simulation |
//! |---|---|---|
//! | [`task`](spawn) | tokio tasks, rayon for [`par_map`] | tasks of one thread, random order |
//! | [`time`] | monotonic clock, tokio timers | virtual clock, the same for all nodes |
//! | [`clock`] | the system's wall clock | per node: offset, drift, steps |
//! | [`rand`] | the operating system's generator | the seed |
//! | [`net`] | TCP | directed links with latency, loss, bandwidth, partitions |
//! | [`disk`] | files | sectors that an unsynced write can lose, failing and slow syncs |
//! | [`mod@buggify`] | no effect | permitted but rare behaviour |
//! | [`trace`] | no effect | a rolling hash of all events |
//! | [`signal`] | SIGINT and SIGTERM | stop requests of the world |
//! | [`mutant`] | no effect | a planted bug, active for one run |
//!
//! **Promises**
//! - The same source runs on both implementations; `tests/conformance.rs` is one suite for both.
//! - In simulation the same seed gives the same run, byte for byte. Faults draw from separate
//!   random streams.
//! - Bytes of a stream arrive once and in order, or the stream ends. A write returns before its
//!   bytes arrive.
//! - Data confirmed by [`disk::File::sync`] survives a power loss, and so do names after
//!   [`disk::Dir::write_atomic`]. Unsynced data may be lost completely or in part.
//! - Repeated polls of a timer cost nothing, and an idle stream causes no event.
//!
//! **Never** reads a clock, a random number, a file or a socket unless called to; never starts a
//! thread in simulation; never retries.
//!
//! There are two kinds of time. [`time::Instant`] measures durations and orders timers. Times in
//! blocks and votes come from [`clock::wall_ms`], which may jump and differs between nodes.

pub mod buggify;
pub mod clock;
pub mod disk;
pub mod io;
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

pub use task::{JoinError, JoinHandle, block_on_main, blocking, par_map, spawn, yield_now};
pub use tokio::{join, select, try_join};

/// True in the simulator. For components that cannot run there, such as sled, which starts threads.
pub const fn is_simulated() -> bool {
    cfg!(madsim)
}
