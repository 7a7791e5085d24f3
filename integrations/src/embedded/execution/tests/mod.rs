//! The core as its users see it: payloads in, payloads out, on a store that can lose power.

mod chain;
mod execution;
mod genesis;
mod pool;
mod queries;
mod world;
