//! The Alys node: actors, wiring, configuration and command line.
//!
//! **Owns** the process of a node: the actors ([`actors`]) and their supervision (`wiring`),
//! configuration ([`config`]), keystores ([`keys`]), genesis files ([`genesis`]), the command line
//! ([`cli`]) and the development network ([`dev`]). [`node::Node`] is a whole node as a value, the
//! same in production and in the simulator.
//!
//! **Promises** that a vote is durable before it is sent, that a failed actor restarts from the
//! storage, that an operator's mistake is an error that names the remedy, and that a shutdown is
//! orderly.
//!
//! **Never** decides about blocks, votes or peers: the pure crates do.

pub mod actors;
pub mod cli;
pub mod config;
pub mod dev;
pub mod events;
mod execution_host;
pub mod files;
pub mod genesis;
pub mod host;
pub mod interceptor;
pub mod keys;
pub mod metrics;
pub mod mining;
pub mod node;
pub mod operator;
mod rights;
pub mod telemetry;
pub mod toml_text;
pub mod wiring;
