//! The documented behaviour of the crate, tested on tokio (`cargo test`) and in simulation (`cargo
//! sim-test`).
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bus;
mod cycles;
#[expect(dead_code, reason = "the tests of the core use the rest")]
#[path = "../../../actor_system/tests/actors/doer.rs"]
mod doer;
mod gateway;
mod group;
#[expect(dead_code, reason = "the tests of the core use the rest")]
#[path = "../../../actor_system/tests/actors/kit.rs"]
mod kit;
mod pool;
mod stream;
