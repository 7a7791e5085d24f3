//! The behaviour that the crate promises, run in both modes: `cargo test` on tokio, `cargo sim-test` in
//! simulation.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bounds;
mod circles;
mod doer;
mod envelopes;
#[path = "../common/errors.rs"]
mod errors;
mod failing;
mod faulty;
mod figures;
mod hooks;
mod kit;
mod letters;
mod levels;
mod lives;
mod paces;
mod property;
mod queueing;
mod roles;
mod sending;
mod stopping;
mod testkit;
