//! The outcome of a run, its verdict, and the group of failures that it belongs to.

use std::collections::BTreeMap;
use std::fmt;

use alys_runtime::sim::Snapshot;
use serde::{Deserialize, Serialize};

use crate::invariants::{Found, Violation};
use crate::params::Stack;

/// The outcome of a run. It is a function of plan, seed and code, except for [`Outcome::wall_ms`]
/// and [`Outcome::peak_kib`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The name of the scenario.
    pub scenario: String,
    pub seed: u64,
    /// The share of the production stack that ran.
    #[serde(default)]
    pub stack: Stack,
    /// The active planted bug, if any.
    pub mutant: Option<String>,
    /// The first violation; `None` when all invariants held.
    pub found: Option<Found>,
    /// Real seconds after which the run was aborted, if it was. Such a run has no result, because a
    /// hang and a slow host look the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// The hash over all events of the run, in hex.
    pub trace_hash: String,
    /// Intermediate trace hashes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Mark>,
    /// The number of events in the trace hash.
    pub events: u64,
    /// Simulated duration.
    pub simulated_ms: u64,
    /// The height of the highest final block.
    pub final_height: u64,
    /// Counts by name: faults, their effects, node events, workload features.
    pub counters: BTreeMap<String, u64>,
    /// Real duration.
    pub wall_ms: u64,
    /// Peak resident memory of the run's process, in KiB; 0 where the system does not report it.
    #[serde(default)]
    pub peak_kib: u64,
}

/// The trace hash after a prefix of the run's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The number of events in the prefix.
    pub events: u64,
    /// Simulated time of the last of them.
    pub at_ms: u64,
    /// The first bytes of the hash, in hex.
    pub hash: String,
}

impl From<&Snapshot> for Mark {
    fn from(snapshot: &Snapshot) -> Self {
        let hash = snapshot
            .hash
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            events: snapshot.events,
            at_ms: snapshot.at.as_millis() as u64,
            hash,
        }
    }
}

/// The result of a run as a statement about the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All invariants held.
    Passed,
    /// An invariant was violated.
    Failed,
    /// The run was aborted after its limit of real time, and proves nothing.
    Timeout,
}

impl Verdict {
    /// The verdict's word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        }
    }
}

impl Outcome {
    /// True when the run completed and all invariants held.
    pub fn is_passed(&self) -> bool {
        self.verdict() == Verdict::Passed
    }

    /// [`Verdict::Failed`] takes precedence, because a violation stands even if the run was aborted
    /// later.
    pub fn verdict(&self) -> Verdict {
        match (&self.found, self.timeout_s) {
            (Some(_), _) => Verdict::Failed,
            (None, Some(_)) => Verdict::Timeout,
            (None, None) => Verdict::Passed,
        }
    }

    /// The number of faults that began. Counters whose name contains a dot record the effects of
    /// faults (duration, targets, downgrades) and are excluded.
    pub fn faults(&self) -> u64 {
        let named = self
            .counters
            .iter()
            .filter_map(|(name, n)| Some((name.strip_prefix("fault.")?, n)));
        named
            .filter(|(name, _)| !name.contains('.'))
            .map(|(_, n)| n)
            .sum()
    }

    /// A key shared by failures that probably have one cause: the invariant's name and, for
    /// invariants that cover many causes, the text of the violation without its numbers. `None` for
    /// runs that passed.
    pub fn group(&self) -> Option<String> {
        let Some(found) = &self.found else {
            return self.timeout_s.map(|_| Verdict::Timeout.name().to_owned());
        };
        let name = found.violation.name();
        let text = match &found.violation {
            Violation::ErrorLine { line, .. } => line,
            Violation::ProcessEnded { reason, .. } => reason,
            Violation::Panicked { message } => message,
            Violation::Hung { what }
            | Violation::Escaped { what }
            | Violation::ForgeryAccepted { what, .. }
            | Violation::ForgeryVotedFor { what, .. } => what,
            _ => return Some(name),
        };
        Some(format!("{name}: {}", without_numbers(text)))
    }
}

/// Limit on the text of a group, in characters, because groups are headings in reports.
const MAX_GROUP_CHARS: usize = 100;

/// Replaces every word that contains a digit by `#`, because heights, hashes and times differ
/// between seeds that fail for the same reason.
fn without_numbers(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let words = line.split_whitespace().map(|word| {
        if word.contains(|c: char| c.is_ascii_digit()) {
            "#"
        } else {
            word
        }
    });
    words
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_GROUP_CHARS)
        .collect()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scenario,
            seed,
            final_height,
            simulated_ms,
            wall_ms,
            ..
        } = self;
        let count = |name: &str| self.counters.get(name).copied().unwrap_or(0);
        write!(f, "{scenario} seed {seed} ({}): ", self.stack)?;
        match &self.found {
            None if self.timeout_s.is_some() => write!(f, "TIMEOUT")?,
            None => write!(f, "passed")?,
            Some(found) => {
                write!(
                    f,
                    "FAILED {} at {} ms: {:?}",
                    found.violation.name(),
                    found.at_ms,
                    found.violation
                )?;
            }
        }
        write!(
            f,
            " | {final_height} final blocks, {} transactions, {} faults, {:.1} s simulated in \
             {:.1} s, hash {}",
            count("transactions.final"),
            self.faults(),
            *simulated_ms as f64 / 1e3,
            *wall_ms as f64 / 1e3,
            self.trace_hash.get(..16).unwrap_or(&self.trace_hash),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(violation: Option<Violation>, timeout_s: Option<u64>) -> Outcome {
        Outcome {
            scenario: "steady".to_owned(),
            seed: 1,
            stack: Stack::Full,
            mutant: None,
            found: violation.map(|violation| Found {
                at_ms: 7,
                violation,
            }),
            timeout_s,
            trace_hash: String::new(),
            snapshots: Vec::new(),
            events: 0,
            simulated_ms: 0,
            final_height: 0,
            counters: BTreeMap::new(),
            wall_ms: 0,
            peak_kib: 0,
        }
    }

    #[test]
    fn a_timeout_is_neither_passed_nor_failed() {
        assert_eq!(outcome(None, None).verdict(), Verdict::Passed);
        let late = outcome(None, Some(300));
        assert_eq!(
            (late.verdict(), late.is_passed()),
            (Verdict::Timeout, false)
        );
        assert_eq!(late.group().as_deref(), Some("timeout"));
        assert!(late.to_string().contains("TIMEOUT"));
        assert_eq!(
            outcome(Some(Violation::VotesLost { node: 1 }), None).verdict(),
            Verdict::Failed
        );
    }

    #[test]
    fn faults_are_counted_and_not_what_came_of_them() {
        let counters = [
            ("fault.kill", 3),
            ("fault.actor-panic", 2),
            ("fault.actor.longest-ms", 4_160),
            ("node.kill", 9),
        ];
        let counters = counters.map(|(name, n)| (name.to_owned(), n)).into();
        assert_eq!(
            Outcome {
                counters,
                ..outcome(None, None)
            }
            .faults(),
            5
        );
    }

    #[test]
    fn failures_of_one_cause_have_one_group_whatever_their_numbers() {
        let line = |line: &str| {
            outcome(
                Some(Violation::ErrorLine {
                    node: "node1".to_owned(),
                    line: line.to_owned(),
                }),
                None,
            )
            .group()
        };
        assert_eq!(
            line("store: height 12 is gone hash=ab12"),
            line("store: height 9 is gone hash=cd34")
        );
        assert_ne!(line("store: height 12 is gone"), line("engine: no answer"));
        let lost = |node| outcome(Some(Violation::VotesLost { node }), None).group();
        assert_eq!(lost(1), lost(2));
        assert_eq!(lost(1).as_deref(), Some("votes-lost"));
        assert_eq!(outcome(None, None).group(), None);
    }
}
