//! The events that the simulator itself notes: reports of nodes, faults, ends of processes.

use std::fmt;

use alys_runtime::sim::World;
use serde::{Deserialize, Serialize};

use super::node::Report;

/// The subject of a fault. `page.css` has a colour for each, `--c-` and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCategory {
    Network,
    Time,
    Process,
    Disk,
    /// Execution clients.
    Execution,
    Actor,
    /// Changes of the federation.
    Federation,
}

impl FaultCategory {
    /// All categories, in the order of legends.
    pub const ALL: [Self; 7] = [
        Self::Network,
        Self::Time,
        Self::Process,
        Self::Disk,
        Self::Execution,
        Self::Actor,
        Self::Federation,
    ];
}

/// A fault of the plan, at the moment at which it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultBegan {
    /// Number of the plan's step, from 1.
    pub step: u32,
    /// The fault's name in scenario files.
    pub name: String,
    pub category: FaultCategory,
    /// The values, as `machine all power`.
    pub values: String,
    /// The affected authorities, from 1.
    pub nodes: Vec<u8>,
    /// The affected machines, by name.
    pub machines: Vec<String>,
    /// The planned time.
    pub planned: String,
    /// True when no end follows.
    pub is_instant: bool,
}

impl fmt::Display for FaultBegan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(u8::to_string).collect();
        f.write_str(&self.name)?;
        if !self.values.is_empty() {
            write!(f, " {}", self.values)?;
        }
        write!(f, " on {} ({})", nodes.join(","), self.planned)
    }
}

/// An event that the simulator itself notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Announcement {
    Node {
        node: String,
        report: Report,
    },
    FaultBegan(FaultBegan),
    FaultEnded {
        step: u32,
        name: String,
    },
    ActorStruck {
        node: String,
        actor: String,
        harm: String,
    },
    DiskRestored {
        node: String,
    },
    /// A process ended by itself; without a reason it was asked to.
    Exited {
        machine: String,
        reason: Option<String>,
    },
    /// The end of the chaos: faults end, and these authorities, from 1, are repaired.
    Healed {
        authorities: Vec<u8>,
        of: u8,
    },
    /// Final blocks were executed once more on a fresh execution client.
    Reexecuted {
        blocks: u64,
    },
}

impl Announcement {
    /// Their kinds in traces and filters.
    pub(super) const KINDS: [&'static str; 8] = [
        "said",
        "fault.begins",
        "fault.ends",
        "fault.strikes",
        "fault.restores",
        "exit",
        "heal",
        "replayed",
    ];

    pub(super) const fn kind(&self) -> &'static str {
        let at = match self {
            Self::Node { .. } => 0,
            Self::FaultBegan(_) => 1,
            Self::FaultEnded { .. } => 2,
            Self::ActorStruck { .. } => 3,
            Self::DiskRestored { .. } => 4,
            Self::Exited { .. } => 5,
            Self::Healed { .. } => 6,
            Self::Reexecuted { .. } => 7,
        };
        Self::KINDS[at]
    }

    /// Adds the event to the trace.
    pub fn announce(&self, world: World) {
        let payload = serde_json::to_vec(self).expect("an event has no maps with other keys");
        world.note(self.kind(), &payload, &self.to_string());
    }

    /// The machine of the event, if it is about one.
    pub fn machine(&self) -> Option<&str> {
        match self {
            Self::Node { node: name, .. }
            | Self::ActorStruck { node: name, .. }
            | Self::DiskRestored { node: name }
            | Self::Exited { machine: name, .. } => Some(name),
            Self::FaultBegan(_)
            | Self::FaultEnded { .. }
            | Self::Healed { .. }
            | Self::Reexecuted { .. } => None,
        }
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { report, .. } => report.fmt(f),
            Self::FaultBegan(fault) => fault.fmt(f),
            Self::FaultEnded { step, name } => write!(f, "{name} of step {step}"),
            Self::ActorStruck { actor, harm, .. } => write!(f, "{actor} {harm}"),
            Self::DiskRestored { .. } => f.write_str("the disk is an earlier image"),
            Self::Exited { reason, .. } => f.write_str(reason.as_deref().unwrap_or("in order")),
            Self::Healed { authorities, of } => {
                write!(
                    f,
                    "the chaos is over; {} of {of} are repaired",
                    authorities.len()
                )
            }
            Self::Reexecuted { blocks } => write!(f, "{blocks} blocks on a fresh client"),
        }
    }
}
