//! The Alys node: actors, wiring, configuration and command line
pub mod actors;
pub mod cli;
pub mod config;
pub mod dev;
pub mod files;
pub mod genesis;
pub mod host;
pub mod keys;
pub mod node;
pub mod telemetry;
pub mod toml_text;
mod wiring;
