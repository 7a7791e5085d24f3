//! The Alys node: actors, wiring, configuration and command line.
//!
//! **Owns** a node's process: the actors and their supervision ([`actors`], put together in `wiring`), configuration
//! ([`config`]), keystores ([`keys`]), genesis files ([`genesis`]), the command line ([`cli`]) and the development network
//! ([`dev`]). [`node::Node`] is the whole of it as a value: the same in production and in the simulator.
//!
//! **Promises** that what was signed was on the disk before, that a failed actor is restarted from what is stored, that a
//! mistake of the operator is an error that says what would be right, and that a stop ends in order.
//!
//! **Never** decides about blocks, votes or peers: that is in the pure crates; here are messages, effects and waiting.

pub mod actors;
pub mod bending;
pub mod cli;
pub mod config;
pub mod dev;
pub mod files;
pub mod genesis;
pub mod host;
pub mod keys;
pub mod node;
mod rights;
pub mod telemetry;
pub mod toml_text;
mod wiring;
