//! The behaviour that the crate promises, run in both modes: `cargo test` on tokio, `cargo
//! sim-test` in simulation.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bus;
mod circles;
#[expect(dead_code, reason = "it serves the tests of the core too")]
#[path = "../../../actor_system/tests/actors/doer.rs"]
mod doer;
mod gateway;
mod group;
#[expect(dead_code, reason = "it serves the tests of the core too")]
#[path = "../../../actor_system/tests/actors/kit.rs"]
mod kit;
mod pool;
mod stream;
