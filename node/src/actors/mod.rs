//! The actors of a node, one room each. Only [`crate::wiring`] constructs them.
//!
//! ```text
//!                     ┌──────────┐ decoded, checked ┌───────┐ persist, load ┌─────────┐
//!   libp2p ⇄ Network ─▶ Validation ⇄──────────────── Chain ─┼──────────────▶ Storage │
//!               ▲  │  └──────────┘                  └─┬───▲─┘               └───▲─────┘
//!               │  └─▶ Peers ◀── wanted blocks ───────┘   │ verdicts, payloads   │ bodies
//!               └────── ranges, status                  Engine ──────────────────┘
//!                                                         ⇅ Engine API   TxPool ⇄ client's pool
//!   miners ─▶ AuxPow ⇄ Chain: work, proofs; AuxPow ─▶ Storage: held proofs;
//!   AuxPow ⇄ Network: proofs of all miners
//! ```
//!
//! Decisions are in the pure crates and in pure machines of the rooms; the actors are thin. The
//! StorageActor asks no other actor, and all other messages are told, so that actors cannot wait
//! for each other in a cycle.

pub mod auxpow;
pub mod chain;
pub mod engine;
pub mod network;
pub mod peers;
pub mod storage;
#[cfg(test)]
pub(crate) mod testbed;
pub mod tx_pool;
pub mod validation;
