//! The format of plans in files, TOML or JSON.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserializer};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::faults::{Fault, Step};
use crate::params::time::ms;
use crate::params::{LinkPlan, Ms, NodeRef, When, WorkloadPlan, WorldPlan};
use crate::plan::generator::Swarm;
use crate::plan::{Expect, Plan};

/// A scenario file: a plan, and the swarm that adds faults drawn from the seed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scenario")]
pub struct File<S = Step> {
    /// Name of the scenario; the name of the file by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Purpose of the scenario.
    pub why: String,
    /// Covered rules of the protocol (section.rule: 3.2) and failures of V1 (S1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covers: Vec<String>,
    /// Default seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Planted bug that `cargo sim run` enables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// End of the chaos: all faults end, and progress is required.
    #[serde(rename = "until", with = "ms")]
    #[schemars(with = "Ms")]
    pub until_ms: u64,
    /// Authorities and other participants.
    #[serde(default)]
    pub world: WorldPlan,
    /// Links between machines of different authorities.
    #[serde(default)]
    pub links: LinkPlan,
    /// Users and their behaviours.
    #[serde(default)]
    pub workload: WorkloadPlan,
    /// Conditions at the end, in addition to all invariants.
    #[serde(default)]
    pub expect: Expect,
    /// Faults drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<Swarm>,
    /// Scheduled faults.
    #[serde(default = "Vec::<S>::new", skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<S>,
}

impl From<Plan> for File {
    fn from(plan: Plan) -> Self {
        let Plan {
            name,
            why,
            covers,
            seed,
            mutant,
            mut world,
            workload,
            steps,
            until_ms,
            expect,
        } = plan;
        let links = std::mem::take(&mut world.link);
        let name = Some(name);
        let swarm = None;
        let step = steps;
        Self {
            name,
            why,
            covers,
            seed,
            mutant,
            until_ms,
            world,
            links,
            workload,
            expect,
            swarm,
            step,
        }
    }
}

impl From<File> for Plan {
    fn from(file: File) -> Self {
        let File {
            name,
            why,
            covers,
            seed,
            mutant,
            until_ms,
            world,
            links,
            workload,
            expect,
            swarm: _,
            step,
        } = file;
        let world = WorldPlan {
            link: links,
            ..world
        };
        let name = name.unwrap_or_default();
        Self {
            name,
            why,
            covers,
            seed,
            mutant,
            world,
            workload,
            steps: step,
            until_ms,
            expect,
        }
    }
}

/// Writes the fault's values beside `at`, `for`, `nodes` and `fault`, without a table of their own.
impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("at", &self.at)?;
        if let Some(ms) = self.for_ms {
            map.serialize_entry("for", &Ms(ms))?;
        }
        map.serialize_entry("nodes", &self.nodes)?;
        map.serialize_entry("fault", self.fault.name())?;
        for (word, value) in self
            .fault
            .values()
            .into_iter()
            .filter(|(_, value)| !value.is_null())
        {
            map.serialize_entry(&word, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = serde_json::Map::deserialize(deserializer)?;
        let mut nested = serde_json::Map::new();
        for word in STEP_WORDS {
            nested.extend(all.remove_entry(word));
        }
        if let Some(fault) = nested.remove("fault") {
            let name = fault
                .as_str()
                .ok_or_else(|| de::Error::custom("fault: the word of a fault"))?;
            nested.insert("fault".to_owned(), serde_json::json!({ name: all }));
        }
        Nested::deserialize(serde_json::Value::Object(nested))
            .map(Self::from)
            .map_err(de::Error::custom)
    }
}

/// Keys of a step that do not belong to its fault.
pub(super) const STEP_WORDS: [&str; 4] = ["at", "for", "nodes", "fault"];

/// A step with the fault's values in a separate table, so that each value keeps its position in the
/// text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nested {
    at: When,
    #[serde(rename = "for")]
    lasts: Option<Ms>,
    nodes: Vec<NodeRef>,
    fault: Fault,
}

impl From<Nested> for Step {
    fn from(nested: Nested) -> Self {
        let Nested {
            at,
            lasts,
            nodes,
            fault,
        } = nested;
        Self {
            at,
            for_ms: lasts.map(|lasts| lasts.0),
            nodes,
            fault,
        }
    }
}

impl File<Nested> {
    pub(super) fn flat(self) -> File {
        let Self {
            name,
            why,
            covers,
            seed,
            mutant,
            until_ms,
            world,
            links,
            workload,
            expect,
            swarm,
            step,
        } = self;
        let step = step.into_iter().map(Step::from).collect();
        File {
            name,
            why,
            covers,
            seed,
            mutant,
            until_ms,
            world,
            links,
            workload,
            expect,
            swarm,
            step,
        }
    }
}

impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        super::schema::of_step(generator)
    }
}
