//! Plans: the complete input of a run, except for its seed and the code. A plan is plain data, the
//! same in every process.
//!
//! A plan has one format in TOML and JSON, that of scenario files, see [`format`]. Faults are
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

/// The parameters, faults and expectations of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "File", from = "File")]
pub struct Plan {
    /// Name of the scenario.
    pub name: String,
    /// Purpose of the scenario.
    pub why: String,
    /// The rules of the protocol (`3.2`) and the failures of V1 (`S1`) that the plan covers.
    pub covers: Vec<String>,
    /// Default seed.
    pub seed: Option<u64>,
    /// Name of the planted bug that the plan targets. The caller of the run has to switch it on.
    pub mutant: Option<String>,
    /// Authorities, links and other participants.
    pub world: WorldPlan,
    /// Users and their behaviours.
    pub workload: WorkloadPlan,
    /// The faults, in the order of the file.
    pub steps: Vec<Step>,
    /// End of the chaos, at which every fault heals, in milliseconds after the start.
    pub until_ms: u64,
    /// Conditions at the end, in addition to all invariants.
    pub expect: Expect,
}

/// Length of the chaos from which on a scenario is long, in milliseconds.
const LONG_MS: u64 = 900_000;

impl Plan {
    /// Returns true for a scenario that is too long for ordinary sweeps.
    pub fn is_long(&self) -> bool {
        self.until_ms >= LONG_MS
    }

    /// Removes steps at or after the end of the chaos, because they never begin and are invalid in
    /// a file.
    #[must_use]
    pub fn without_late_steps(mut self) -> Self {
        let slot_ms = self.world.slot_ms;
        let until_ms = self.until_ms;
        self.steps
            .retain(|step| step.at.earliest_ms(slot_ms) < until_ms);
        self
    }
}

/// Conditions at the end, in addition to all invariants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Minimum number of final blocks on every node when the chaos ends.
    pub min_final: u64,
    /// Minimum number of final blocks on every node after the chaos, above the highest one at its
    /// end.
    pub progress: u64,
    /// Time limit of this progress; three rounds of leaders and 20 s by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Ms>,
    /// Minimum number of losses of vote state, through emptied or restored disks, that authorities
    /// have detected when the chaos ends.
    pub losses: u64,
    /// Minimum number of changes of the federation that have taken effect on the final chain when
    /// the chaos ends.
    pub changes: u64,
    /// Exact number of changes of the federation that are void on the final chain when the chaos
    /// ends; any number by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub void: Option<u64>,
    /// Minimum number of ranges that are final by proof of work when the chaos ends.
    #[serde(skip_serializing_if = "is_none")]
    pub ranges: u64,
    /// Maximum number of signature checks of any node for each slot of the chaos; without a limit
    /// by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<u64>,
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            min_final: 0,
            progress: 3,
            within: None,
            losses: 0,
            changes: 0,
            void: None,
            ranges: 0,
            checks: None,
        }
    }
}
