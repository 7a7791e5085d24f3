//! AuxPoW of Alys, pure: format, verification, difficulty and work of merged mining (protocol,
//! rules 4.1 to 4.5).
//!
//! Owns the rules of a proof ([`rules`]), one function each, and their reasons. Promises that
//! [`AuxPow::decode`] accepts one encoding of a proof within [`MAX_BYTES`] and allocates in
//! proportion to the bytes that are there; that a [`VerifiedAuxPow`] has passed every rule; and
//! that [`explain`] and verification call the same functions. Never does IO, waits, reads a clock
//! or draws randomness.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

mod asert;
mod auxpow;
mod explain;
mod hashing;
mod refusal;
pub mod rules;
mod target;
mod template;
mod work;

pub use asert::Schedule;
pub use auxpow::{AuxPow, Branch, FormatError, MAX_BYTES};
pub use explain::{Explanation, Question, Row, Status, explain};
pub use hashing::{merkle_root, reversed, sha256d};
pub use refusal::{Place, Refusal, Rule};
pub use rules::{Demand, VerifiedAuxPow};
pub use target::{Bits, BitsError, Target};
pub use template::Template;
pub use work::{Bundle, BundleError, MAX_BUNDLE_BLOCKS, Work};
