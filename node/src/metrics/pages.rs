//! The content of `/metrics`, `/health` and `/ready`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use alys_actor_system::{Health, Snapshot, State, System};
use alys_consensus::Summary;
use alys_runtime::time::{self, Duration};
use alys_types::Height;

use super::NodeMetrics;
use crate::actors::chain;

/// The answer of the ChainActor to `/health` and `/ready`. A busy one answers within its message
/// timeout.
const SUMMARY_TIMEOUT: Duration = Duration::from_secs(4);
/// A node that is not synced and gains no block for this long is stuck.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(600);

/// A running node, as its operator watches it.
pub struct Monitor {
    /// Value of the label `validator`; `None` where the process has only one node.
    pub label: Option<String>,
    /// The node has a key and is expected to vote.
    pub is_validator: bool,
    pub metrics: NodeMetrics,
    pub system: Arc<System>,
    pub chain: chain::Handle,
    pub progress: Mutex<Progress>,
}

impl Monitor {
    /// Reasons for which the node makes no progress.
    pub(super) async fn faults(&self) -> Vec<String> {
        let mut faults = down(&self.system.snapshot());
        match self.summary().await {
            Some(summary) => {
                let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
                faults.extend(progress.stall(&summary, time::now()));
            }
            None => faults.push(format!(
                "the chain does not answer within {} s",
                SUMMARY_TIMEOUT.as_secs()
            )),
        }
        faults
    }

    /// Reasons for which the node is not synced or does not vote.
    pub(super) async fn obstacles(&self) -> Vec<String> {
        let Some(summary) = self.summary().await else {
            return vec!["the chain does not answer".to_owned()];
        };
        let mut obstacles = obstacles(&summary, self.is_validator);
        if let Some(height) = self.metrics.chain.sync_target() {
            obstacles.push(format!(
                "not synced: blocks up to height {height} are missing"
            ));
        }
        obstacles.extend(degraded(&self.system.snapshot()));
        obstacles
    }

    async fn summary(&self) -> Option<Summary> {
        let summary = time::timeout(SUMMARY_TIMEOUT, self.chain.summary());
        summary.await.ok().flatten()
    }
}

/// The last advance of the chain that a caller of `/health` saw.
#[derive(Debug, Default)]
pub struct Progress(Option<(Height, Instant)>);

impl Progress {
    /// The reason for which a node that is not synced is stuck: no new block for [`STALL_TIMEOUT`].
    pub(super) fn stall(&mut self, summary: &Summary, now: Instant) -> Option<String> {
        let height = summary.highest_height;
        let (last, since) = *self.0.get_or_insert((height, now));
        if summary.synced || height > last {
            self.0 = Some((height, now));
            return None;
        }
        let stalled = now.saturating_duration_since(since);
        (stalled >= STALL_TIMEOUT).then(|| {
            let seconds = stalled.as_secs();
            format!("not synced, and no block above height {height} for {seconds} s")
        })
    }
}

/// Parts of a tree that do not run, or compute without end.
fn down(tree: &Snapshot) -> Vec<String> {
    let parts = tree.all().into_iter();
    parts
        .filter_map(|part| {
            let why = match part.health {
                Health::Unhealthy(why) => why,
                Health::Degraded(why) if part.state != State::Running => why,
                // A running actor that is degraded works as well as its surroundings permit.
                Health::Degraded(_) | Health::Healthy => return None,
            };
            let error = part.last_error.as_deref().unwrap_or("no failure so far");
            Some(format!("{} {why}: {error}", part.path))
        })
        .collect()
}

/// Actors of a tree that are not fully functional. The health of a supervisor only repeats theirs.
fn degraded(tree: &Snapshot) -> Vec<String> {
    let actors = tree.all().into_iter().filter(|part| part.mailbox.is_some());
    actors
        .filter_map(|actor| match actor.health {
            Health::Healthy => None,
            Health::Degraded(why) | Health::Unhealthy(why) => {
                Some(format!("{}: {why}", actor.path))
            }
        })
        .collect()
}

pub(super) fn obstacles(summary: &Summary, is_validator: bool) -> Vec<String> {
    let mut obstacles = Vec::new();
    if !summary.synced {
        obstacles.push(format!(
            "not synced: the head is at height {}, the highest certified block at {}",
            summary.head_height, summary.highest_height
        ));
    }
    if is_validator && !summary.clock_trusted {
        obstacles.push(
            "not voting: the wall clock is not confirmed: if it is right, `alys admin \
             confirm-clock` confirms it, and so do peers whose clocks agree"
                .to_owned(),
        );
    }
    if is_validator && let Some(slot) = summary.votes.silent_until {
        // The slot is set once the clock is trusted.
        let bound = if summary.clock_trusted {
            ""
        } else {
            ", or a later one,"
        };
        obstacles.push(format!(
            "not voting: its votes are lost: it votes once a block after slot {slot}{bound} is \
             final"
        ));
    }
    obstacles
}

/// Merges the metrics of several nodes. A family may have only one header in a scrape, so the
/// samples of all nodes follow it, each with the node's label `validator`.
pub(super) fn merge(texts: &[(Option<String>, String)]) -> String {
    let mut families: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut name = String::new();
    for (label, text) in texts {
        for line in text.lines() {
            let comment = line
                .strip_prefix("# HELP ")
                .or(line.strip_prefix("# TYPE "));
            if let Some(comment) = comment {
                let word = comment.split(' ').next().unwrap_or_default();
                word.clone_into(&mut name);
                let (header, _) = families.entry(name.clone()).or_default();
                if !header.lines().any(|known| known == line) {
                    header.push_str(line);
                    header.push('\n');
                }
            } else {
                let (_, samples) = families.entry(name.clone()).or_default();
                samples.push_str(&labelled(line, label.as_deref()));
                samples.push('\n');
            }
        }
    }
    let families = families.into_values();
    families
        .map(|(header, samples)| header + &samples)
        .collect()
}

/// The sample `name{labels} value` or `name value` with one label more.
fn labelled(sample: &str, label: Option<&str>) -> String {
    let Some(label) = label else {
        return sample.to_owned();
    };
    match sample.find(['{', ' ']) {
        Some(end) if sample[end..].starts_with('{') => {
            let name = &sample[..end];
            let rest = &sample[end + 1..];
            format!("{name}{{validator=\"{label}\",{rest}")
        }
        Some(end) => format!(
            "{}{{validator=\"{label}\"}}{}",
            &sample[..end],
            &sample[end..]
        ),
        None => sample.to_owned(),
    }
}
