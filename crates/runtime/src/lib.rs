//! The seam: everything of the operating system that Alys uses, and nothing else.
//!
//! **Owns** tasks, timers, the two clocks, randomness, TCP streams, files and the shutdown signal. Every other
//! crate reaches them through here. There are two halves behind one interface, chosen at compile time: the real
//! one on tokio and the operating system, and, under `--cfg madsim`, a simulated one where one thread, one seed
//! and a virtual clock decide everything.
//!
//! | module | in production | in simulation |
//! |---|---|---|
//! | [`task`](spawn) | tokio tasks, rayon for [`par_map`] | madsim tasks, one thread, random order |
//! | [`time`] | monotonic clock, tokio timers | virtual clock, the same for all nodes |
//! | [`clock`] | the system's wall clock | per node: offset, drift, steps |
//! | [`rand`] | the operating system's generator | the seed |
//! | [`net`] | TCP | directed links with latency, loss, bandwidth, partitions |
//! | [`disk`] | files | sectors that an unsynced write can lose, failing and slow syncs |
//! | [`mod@buggify`] | nothing | what the code may do and seldom does |
//! | [`trace`] | nothing | a rolling hash of all that happened |
//! | [`signal`] | SIGINT and SIGTERM | what the world sends |
//! | [`mutant`] | nothing | a planted bug, switched on for one run |
//!
//! **Promises**
//! - The same source runs on both halves; `tests/conformance.rs` is one suite run on both.
//! - In simulation, the same seed gives the same run, to the byte; faults draw from a random stream of their own.
//! - Bytes of a stream arrive in order, once, or the stream ends. A write returns before its bytes arrive.
//! - What [`disk::File::sync`] confirmed survives a power loss; so do names after [`disk::Dir::write_atomic`].
//!   What was not synced may be lost wholly or in part.
//! - Polling a timer again costs nothing, and an idle stream costs no event.
//!
//! **Never** reads a clock, a random number, a file or a socket behind the caller's back; never starts a thread
//! in simulation; never retries.
//!
//! Time has two kinds. [`time::Instant`] only measures how long something took and orders timers. What a block
//! or a vote says about time comes from [`clock::wall_ms`], which may jump and differs from node to node.

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

/// True in the simulator. For parts that cannot run there and have to say so (sled starts threads).
pub const fn is_simulated() -> bool {
    cfg!(madsim)
}
