//! The states of all nodes at chosen moments of a run, and the difference between two of them.
//!
//! Inspection does not change the run: states are taken when the invariants are checked anyway, ten
//! times per simulated second, so a state is up to 100 ms later than the requested moment.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use alys_consensus::Summary;
use alys_runtime::sim::{NodeId, World};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::{Living, now_ms};
use crate::invariants::Judge;
use crate::params::MachineRole;

/// Most moments whose states are taken.
pub const MAX_MOMENTS: usize = 16;

/// The state of all nodes: values by path, as `node2.actors.chain/engine.restarts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The requested moment.
    pub asked_ms: u64,
    /// The actual moment.
    pub at_ms: u64,
    /// The number of events before it.
    pub events: u64,
    /// Leaf values by path.
    pub values: BTreeMap<String, String>,
}

struct Watch {
    /// Sorted.
    moments: VecDeque<u64>,
    nodes: u8,
    judge: Judge,
    living: Living,
}

thread_local! {
    /// Each run has its own thread.
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Prints the states at these moments to the standard error, as one JSON object per line. The
/// process exits after the last.
pub fn watch(mut moments: Vec<u64>, nodes: u8, judge: &Judge, living: &Living) {
    moments.sort_unstable();
    moments.truncate(MAX_MOMENTS);
    let watch = Watch {
        moments: moments.into(),
        nodes,
        judge: judge.clone(),
        living: living.clone(),
    };
    WATCH.set(Some(watch));
}

/// Prints the states that are due. Called at each check of the invariants.
pub fn on_look(world: World) {
    WATCH.with_borrow_mut(|watch| {
        let Some(watch) = watch else { return };
        let at_ms = now_ms(world);
        while let Some(asked_ms) = watch
            .moments
            .front()
            .copied()
            .filter(|asked_ms| *asked_ms <= at_ms)
        {
            watch.moments.pop_front();
            let values = values(world, watch);
            let state = State {
                asked_ms,
                at_ms,
                events: world.events(),
                values,
            };
            if let Ok(line) = serde_json::to_string(&state) {
                eprintln!("{line}");
            }
            if watch.moments.is_empty() {
                std::process::exit(0);
            }
        }
    });
}

fn values(world: World, watch: &Watch) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let true_ms = world.wall_ms(NodeId::WORLD) as i64;
    for index in 0..watch.nodes {
        for role in MachineRole::ALL {
            let name = format!("{}{}", role.word(), index + 1);
            if let Some(id) = world.find(&name) {
                values.insert(format!("{name}.is_up"), world.is_up(id).to_string());
                values.insert(
                    format!("{name}.clock_ahead_ms"),
                    (world.wall_ms(id) as i64 - true_ms).to_string(),
                );
            }
        }
        let name = format!("node{}", index + 1);
        if let Some(summary) = watch.judge.look().summaries.get(&index) {
            let path = format!("{name}.said");
            flatten(&path, &summary_fields(summary), &mut values);
        }
        if let Some(node) = watch.living.find(index) {
            for actor in node.actors().all() {
                // The first component is the name of the actor system, which is the node's.
                let path = actor
                    .path
                    .split_once('/')
                    .map_or(actor.path.as_str(), |(_, path)| path);
                let mut value = serde_json::to_value(actor).unwrap_or_default();
                for word in ["name", "path", "children"] {
                    value.as_object_mut().and_then(|fields| fields.remove(word));
                }
                flatten(&format!("{name}.actors.{path}"), &value, &mut values);
            }
        }
    }
    values
}

fn summary_fields(summary: &Summary) -> Value {
    let Summary {
        highest,
        highest_height,
        finalized,
        final_height,
        pow_final_height,
        head,
        head_height,
        votes,
        silent,
        clock_trusted,
        synced,
        entries,
    } = summary;
    json!({
        "highest": highest,
        "highest_height": highest_height,
        "finalized": finalized,
        "final_height": final_height,
        "pow_final_height": pow_final_height,
        "head": head,
        "head_height": head_height,
        "votes": votes,
        "silent": silent,
        "clock_trusted": clock_trusted,
        "synced": synced,
        "entries": entries,
    })
}

/// Collects the leaves of a JSON value by path.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(word, value)| flatten(&format!("{path}.{word}"), value, into)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, value)| flatten(&format!("{path}.{at}"), value, into));
        }
        Value::String(text) => {
            into.insert(path.to_owned(), text.clone());
        }
        other => {
            into.insert(path.to_owned(), other.to_string());
        }
    }
}

/// The values that differ: path, value before, value after.
pub fn difference<'a>(
    before: &'a State,
    after: &'a State,
) -> Vec<(&'a str, Option<&'a str>, Option<&'a str>)> {
    let mut paths: Vec<&String> = before.values.keys().chain(after.values.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let find = |state: &'a State, path: &String| state.values.get(path).map(String::as_str);
    let all = paths
        .into_iter()
        .map(|path| (path.as_str(), find(before, path), find(after, path)));
    all.filter(|(_, before, after)| before != after).collect()
}

#[cfg(test)]
mod tests {
    use alys_consensus::{BlockRef, VoteState};
    use alys_types::{Hash, Height, Slot};

    use super::*;

    #[test]
    fn a_summary_has_a_value_for_each_path() {
        let block = BlockRef {
            slot: Slot(7),
            hash: Hash::ZERO,
        };
        let summary = Summary {
            highest: block,
            highest_height: Height(3),
            finalized: block,
            final_height: Height(2),
            pow_final_height: Height(1),
            head: Hash::ZERO,
            head_height: Height(3),
            votes: VoteState::fresh(block),
            silent: false,
            clock_trusted: true,
            synced: true,
            entries: 1,
        };
        let mut values = BTreeMap::new();
        flatten("node1.said", &summary_fields(&summary), &mut values);
        let value = |path: &str| values.get(path).map(String::as_str);
        assert_eq!(value("node1.said.final_height"), Some("2"));
        assert_eq!(value("node1.said.votes.locked.slot"), Some("7"));
        assert_eq!(
            value("node1.said.head"),
            Some(Hash::ZERO.to_string().as_str())
        );
        assert_eq!(value("node1.said.votes.silent_until"), Some("null"));
    }

    #[test]
    fn states_differ_in_what_changed_came_and_went() {
        let state = |values: &[(&str, &str)]| State {
            values: values
                .iter()
                .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()))
                .collect(),
            ..State::default()
        };
        let (before, after) = (
            state(&[("a", "1"), ("b", "2"), ("c", "3")]),
            state(&[("b", "2"), ("c", "4"), ("d", "5")]),
        );
        let expected = [
            ("a", Some("1"), None),
            ("c", Some("3"), Some("4")),
            ("d", None, Some("5")),
        ];
        assert_eq!(difference(&before, &after), expected);
        assert_eq!(difference(&before, &before), []);
        let mut flat = BTreeMap::new();
        flatten(
            "n",
            &serde_json::json!({"x": [1, {"y": "z"}], "e": null}),
            &mut flat,
        );
        let flat: Vec<(&str, &str)> = flat
            .iter()
            .map(|(path, value)| (path.as_str(), value.as_str()))
            .collect();
        assert_eq!(flat, [("n.e", "null"), ("n.x.0", "1"), ("n.x.1.y", "z")]);
    }
}
