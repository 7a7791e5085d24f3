//! The Alys node: actors, wiring, configuration and command line
pub mod actors;
pub mod node;
mod wiring;
