//! The behaviour that the crate promises, run in both modes: `cargo test` on tokio, `cargo sim-test` in
//! simulation.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bounds;
mod bus;
mod doer;
mod failing;
mod group;
mod kit;
mod lives;
mod pool;
mod property;
mod queueing;
mod sending;
mod stopping;
mod stream;
