//! The parameters of a node's state machine.

use std::sync::Arc;

use alys_types::Genesis;
use alys_types::bls::PublicKeyBytes;

use crate::rules::PlantedBug;

/// Uncertified blocks that are kept in production. Leaders can make two a slot at most before
/// evidence is out, and a block older than a few slots can no longer be approved.
pub const MAX_UNCERTIFIED: usize = 64;

/// The chain that a node follows, and the key that it signs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The chain.
    pub genesis: Arc<Genesis>,
    /// The authority's key; `None` for a full node.
    pub me: Option<PublicKeyBytes>,
    /// Uncertified blocks that are kept; a simulation meets a smaller limit in its short runs.
    pub max_uncertified: usize,
    /// The mistake that the rules have in a simulation; none in production.
    pub planted_bug: PlantedBug,
}

impl Config {
    /// The configuration of production.
    pub fn new(genesis: Arc<Genesis>, me: Option<PublicKeyBytes>) -> Config {
        Config {
            genesis,
            me,
            max_uncertified: MAX_UNCERTIFIED,
            planted_bug: PlantedBug::default(),
        }
    }
}
