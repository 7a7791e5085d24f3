//! The actors of a node, one room each. [`crate::wiring`] constructs them; nobody else does.
//!
//! ```text
//!                     ┌──────────┐ decoded, checked ┌───────┐ persist, load ┌─────────┐
//!   libp2p ⇄ Network ─▶ Validation ⇄──────────────── Chain ─┼──────────────▶ Storage │
//!               ▲  │  └──────────┘                  └─┬───▲─┘               └───▲─────┘
//!               │  └─▶ Peers ◀── wanted blocks ───────┘   │ verdicts, payloads   │ bodies
//!               └────── ranges, status                  Engine ──────────────────┘
//!                                                         ⇅ Engine API        TxPool ⇄ execution client's pool
//! ```
//!
//! Decisions are in `alys-consensus` and `alys-sync-planner`; these are thin. Storage is at the bottom and asks
//! nobody; all other messages are told, not asked, so that there are no cycles of waiting.

pub mod chain;
pub mod engine;
pub mod network;
pub mod peers;
pub mod storage;
pub mod tx_pool;
pub mod validation;
