//! The parameters of a node's state machine.

use std::sync::Arc;

use alys_types::Genesis;
use alys_types::bls::PublicKeyBytes;

use crate::rules::PlantedBug;

/// The chain that a node follows, and the key that it signs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The chain.
    pub genesis: Arc<Genesis>,
    /// The authority's key; `None` for a full node.
    pub me: Option<PublicKeyBytes>,
    /// The mistake that the rules have in a simulation; none in production.
    pub planted_bug: PlantedBug,
}

impl Config {
    /// The configuration of production.
    pub fn new(genesis: Arc<Genesis>, me: Option<PublicKeyBytes>) -> Config {
        Config {
            genesis,
            me,
            planted_bug: PlantedBug::default(),
        }
    }
}
