//! The behaviour that the crate promises, run in both modes: `cargo test` on tokio, `cargo
//! sim-test` in simulation.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bounds;
mod cycles;
mod dead_letters;
mod dependencies;
mod doer;
mod envelopes;
#[path = "../common/errors.rs"]
mod errors;
mod failing;
mod faulty;
mod hooks;
mod kit;
mod observation;
mod property;
mod queueing;
mod restart_delays;
mod restarts;
mod roles;
mod sending;
mod stopping;
mod testkit;
