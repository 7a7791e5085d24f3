//! ChainActor: runs the state machine of agreement.
//!
//! Owns `alys_consensus::State` of this incarnation and the signing key. Guarantees that effects
//! are carried out in order, that a record is durable before the next effect, and that all effects
//! of an input are done before the next input. Never decides: agreement is decided by the state
//! machine, catching up by [`catchup`], whether a signature is worth its check by [`screen`], and
//! whether data is well-formed and signed by the ValidationActor.

mod actor;
mod catchup;
mod clock;
mod effects;
mod gossip;
mod messages;
mod metrics;
mod mining;
pub(crate) mod screen;
mod status;

pub use actor::{ChainActor, ChainError, Mailboxes};
pub use clock::Clock;
pub use messages::{ChainMessage, Handle};
pub use metrics::Metrics;
pub use screen::Counted;

#[cfg(test)]
mod tests;
