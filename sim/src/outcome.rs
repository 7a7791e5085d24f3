//! What a run comes to.

use std::collections::BTreeMap;
use std::fmt;

use alys_runtime::sim::Snapshot;
use serde::{Deserialize, Serialize};

use crate::oracles::Found;
use crate::stack::Stack;

/// The outcome of a run: the same for the same plan, seed and code, but for [`Outcome::wall_ms`] and
/// [`Outcome::peak_kib`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How much of the production stack it had.
    #[serde(default)]
    pub stack: Stack,
    /// The planted bug that was switched on, if any.
    pub mutant: Option<String>,
    /// The first broken invariant; `None`: the run passed.
    pub found: Option<Found>,
    /// Over all events of the run, hex.
    pub trace_hash: String,
    /// The hash on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Mark>,
    /// How many events went into it.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// The highest final block.
    pub final_height: u64,
    /// How often each thing happened: faults, what they did, what nodes said.
    pub counters: BTreeMap<String, u64>,
    /// Real milliseconds.
    pub wall_ms: u64,
    /// The most memory that its process had, in KiB; 0 where the system does not tell.
    #[serde(default)]
    pub peak_kib: u64,
}

/// The hash after so many events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// How many.
    pub events: u64,
    /// Simulated milliseconds of the last of them.
    pub at_ms: u64,
    /// The first bytes of the hash, hex.
    pub hash: String,
}

impl From<&Snapshot> for Mark {
    fn from(snapshot: &Snapshot) -> Self {
        let hash = snapshot.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { events: snapshot.events, at_ms: snapshot.at.as_millis() as u64, hash }
    }
}

impl Outcome {
    /// Whether all invariants held.
    pub fn is_passed(&self) -> bool {
        self.found.is_none()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, final_height, simulated_ms, wall_ms, .. } = self;
        let count = |name: &str| self.counters.get(name).copied().unwrap_or(0);
        write!(f, "{scenario} seed {seed} ({}): ", self.stack)?;
        match &self.found {
            None => write!(f, "passed")?,
            Some(found) => {
                write!(f, "FAILED {} at {} ms: {:?}", found.violation.name(), found.at_ms, found.violation)?;
            }
        }
        let begun: u64 =
            self.counters.iter().filter(|(name, _)| name.starts_with("fault.")).map(|(_, n)| n).sum();
        write!(
            f,
            " | {final_height} final blocks, {} transactions, {begun} faults, {:.1} s simulated in {:.1} s, hash {}",
            count("transactions.final"),
            *simulated_ms as f64 / 1e3,
            *wall_ms as f64 / 1e3,
            self.trace_hash.get(..16).unwrap_or(&self.trace_hash),
        )
    }
}
