//! The rule of agreement (protocol section 3) as an executable model, independent of the node.
//!
//! Owns [`Rule`], which decides whether a node with given promises may sign a proposal, an approval
//! or a confirmation, and, with the feature `checker`, [`World`]: small networks of such nodes that
//! Stateright explores to the last state. Promises that it shares no code with `alys-consensus`, so
//! that a misreading of the protocol there is not copied here. The simulator compares each
//! signature of a real node with the same [`Rule`]. Never uses a clock, a key, an encoding, or a
//! block's content, because heights and contents play no part in the argument that is checked.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod rule;

#[cfg(feature = "checker")]
pub mod blocks;
#[cfg(feature = "checker")]
pub mod check;
#[cfg(feature = "checker")]
pub mod world;
#[cfg(feature = "checker")]
pub mod worlds;

pub use rule::{Broken, Faults, Parent, Promises, Refusal, Rule};
#[cfg(feature = "checker")]
pub use world::World;
