//! Plans: everything that makes a run, besides its seed and the code. Plain data, the same in every
//! process.
//!
//! A plan has one form, in TOML and JSON: that of scenario files, see [`format`]. Faults are
//! declared in [`crate::faults`].

pub mod format;
pub mod generator;
pub mod mutants;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::faults::Step;
use crate::params::{Ms, WorkloadPlan, WorldPlan};
use format::File;

/// Most steps of a plan.
pub const MAX_STEPS: usize = 1_000;

/// A run, without its seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "File", from = "File")]
pub struct Plan {
    /// The scenario's name.
    pub name: String,
    /// What it is for.
    pub why: String,
    /// Rules of the protocol (`3.2`) and failures of V1 (`S1`) that it is about.
    pub covers: Vec<String>,
    /// The seed that is run when none is given.
    pub seed: Option<u64>,
    /// The planted bug that it is about, by name. It is switched on by whoever runs the plan, not
    /// by the plan.
    pub mutant: Option<String>,
    /// The network.
    pub world: WorldPlan,
    /// What users do.
    pub workload: WorkloadPlan,
    /// The faults, in the order of the file.
    pub steps: Vec<Step>,
    /// When the chaos ends and everything heals, in milliseconds from the start.
    pub until_ms: u64,
    /// What must hold in the end, besides all invariants.
    pub expect: Expect,
}

impl Plan {
    /// Without the steps that lie after the end of the chaos: they never begin, and no file may
    /// have them.
    #[must_use]
    pub fn without_late_steps(mut self) -> Self {
        let slot_ms = self.world.slot_ms;
        let until_ms = self.until_ms;
        self.steps
            .retain(|step| step.at.earliest_ms(slot_ms) < until_ms);
        self
    }
}

/// What must hold in the end, besides all invariants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Final blocks on every node when the chaos ends.
    pub min_final: u64,
    /// Final blocks on every node, above the highest of that moment, after everything healed.
    pub progress: u64,
    /// How long that may take, where it is not three rounds of leaders and 20 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Ms>,
    /// Losses of their votes, by disks that were emptied or put back, that authorities have noticed
    /// when the chaos ends.
    pub losses: u64,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            min_final: 0,
            progress: 3,
            within: None,
            losses: 0,
        }
    }
}
