//! Tests of the core through its interface, on a store that can lose power.

mod chain;
mod execution;
mod genesis;
mod kit;
mod pool;
mod queries;
mod view;
