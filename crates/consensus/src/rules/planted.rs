//! A planted bug as a value: carried in [`crate::Config`], passed to the rules.

#[cfg(feature = "mutants")]
use std::sync::Arc;
#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicU64, Ordering};

/// The planted bug that the rules of a node have, if any; the simulator shows with it that it would
/// find such a mistake.
///
/// Without the feature `mutants` the value is zero-sized, never active, and the compiler removes
/// the sites.
#[derive(Debug, Clone, Default)]
pub struct PlantedBug {
    #[cfg(feature = "mutants")]
    active: Option<Active>,
}

#[cfg(feature = "mutants")]
#[derive(Debug, Clone)]
struct Active {
    name: &'static str,
    reached: Arc<AtomicU64>,
}

impl PlantedBug {
    /// The rules as they should be.
    pub const NONE: PlantedBug = PlantedBug {
        #[cfg(feature = "mutants")]
        active: None,
    };
}

#[cfg(feature = "mutants")]
impl PlantedBug {
    /// Activates the bug of this name. `reached` counts how often its sites are reached.
    pub fn new(name: &'static str, reached: Arc<AtomicU64>) -> PlantedBug {
        PlantedBug {
            active: Some(Active { name, reached }),
        }
    }

    /// True when the bug of this name is active; counts the site as reached.
    pub(super) fn active(&self, name: &str) -> bool {
        let active = self.active.as_ref().filter(|active| active.name == name);
        if let Some(active) = active {
            active.reached.fetch_add(1, Ordering::Relaxed);
        }
        active.is_some()
    }

    /// True when any bug is active. Assertions are off then: the simulator's invariants have to
    /// find the bug.
    pub fn is_planted(&self) -> bool {
        self.active.is_some()
    }
}

#[cfg(not(feature = "mutants"))]
impl PlantedBug {
    pub(super) const fn active(&self, _: &str) -> bool {
        false
    }

    pub const fn is_planted(&self) -> bool {
        false
    }
}

#[cfg(not(feature = "mutants"))]
const _: () = assert!(size_of::<PlantedBug>() == 0);
