//! ChainActor: the state machine of agreement, with hands and ears.
//!
//! Owns `alys_consensus::State` of this incarnation and the signing key. Promises that effects are carried out in order,
//! that a record is durable before anything after it, and that all effects of one input are done before the next
//! input. Never decides: what to propose, approve, confirm and finalize is the state machine's; what is well-formed
//! and signed is the ValidationActor's.

mod actor;
mod clock;
mod effects;
mod messages;

pub use actor::{ChainActor, ChainError, Doors};
pub use clock::Clock;
pub use messages::{ChainMessage, Handle};

#[cfg(test)]
mod tests;
