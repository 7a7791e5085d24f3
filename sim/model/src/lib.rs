//! The rule of agreement (protocol section 3) a second time, in the fewest words that can be executed.
//!
//! **Owns** [`Rule`], which says of a proposal, an approval or a confirmation whether a node with certain promises may sign
//! it, and, with the feature `checker`, [`World`]: small networks of such nodes that Stateright explores to the last state.
//! **Promises** that nothing here is shared with `alys-consensus`: whoever misread the protocol there did not misread it
//! here by copying. The simulator holds each signature of a real node against the same [`Rule`]. **Never** touches a clock,
//! a key, a byte of an encoding, or a block's content: heights and contents play no part in the argument that is checked.

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
