//! Looking into a run again: its events through filters, and what nodes are like at a moment, or how they changed between
//! two.
//!
//! Looking changes nothing. Events are heard by a sink; states are taken where the world looks at its oracles anyway, ten
//! times a simulated second, so a state is of the moment that is asked for or up to a tenth of a second later.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use alys_runtime::sim::{Event, NodeId, World};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::{Living, now_ms};
use crate::invariants::Judge;

/// Most moments whose states are taken.
pub const MAX_MOMENTS: usize = 16;

/// What is shown of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Machines by name (`node3`, `client1`, `world`); all when empty.
    pub machines: Vec<String>,
    /// How the kinds of events begin (`said`, `net.`, `disk.sync`); all when empty.
    pub kinds: Vec<String>,
    /// A part of an actor's path (`chain/engine`): only events of such actors.
    pub actor: Option<String>,
    /// From so many simulated milliseconds on.
    pub from_ms: u64,
    /// Up to so many.
    pub to_ms: Option<u64>,
}

impl Filter {
    /// Whether an event of a machine passes.
    pub fn passes(
        &self,
        machine: &str,
        at_ms: u64,
        kind: &str,
        payload: &[u8],
        detail: &str,
    ) -> bool {
        let has =
            |text: &str| detail.contains(text) || String::from_utf8_lossy(payload).contains(text);
        at_ms >= self.from_ms
            && self.to_ms.is_none_or(|to_ms| at_ms <= to_ms)
            && (self.machines.is_empty() || self.machines.iter().any(|known| known == machine))
            && (self.kinds.is_empty()
                || self
                    .kinds
                    .iter()
                    .any(|begin| kind.starts_with(begin.as_str())))
            && self
                .actor
                .as_ref()
                .is_none_or(|actor| kind.starts_with("actor") && has(actor))
    }
}

/// Prints the events that pass, a line each, to the standard error.
pub fn show(world: World, filter: Filter) {
    let mut names: BTreeMap<NodeId, String> = BTreeMap::from([(NodeId::WORLD, "world".to_owned())]);
    world.add_sink(Box::new(move |event: &Event<'_>| {
        if event.kind == "node.start" {
            // Its detail begins with the name.
            let name = event.detail.split(' ').next().unwrap_or_default();
            names.entry(event.node).or_insert_with(|| name.to_owned());
        }
        // What nodes say is noted by the world, with who said it in front.
        let speaker = event.detail.split([' ', ':']).next().unwrap_or_default();
        let is_told = event.node == NodeId::WORLD && names.values().any(|name| name == speaker);
        let name = if is_told {
            speaker
        } else {
            names.get(&event.node).map_or("", String::as_str)
        };
        if filter.passes(
            name,
            event.at.as_millis() as u64,
            event.kind,
            event.payload,
            &event.detail,
        ) {
            let ms = event.at.as_micros() as f64 / 1e3;
            let said = if event.detail.is_empty() {
                text(event.payload)
            } else {
                event.detail.clone()
            };
            eprintln!(
                "{:>8} {ms:>12.3} ms {name:<8} {:<16} {said}",
                event.number, event.kind
            );
        }
    }));
}

/// A payload for people: text where it is text, else hex.
fn text(payload: &[u8]) -> String {
    const SHOWN: usize = 48;
    match std::str::from_utf8(payload) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c == '\0') => text.replace('\0', " "),
        _ => hex::encode(&payload[..payload.len().min(SHOWN)]),
    }
}

/// What all nodes were like at a moment: values by their path, as `node2.actors.chain/engine.restarts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The moment that was asked for.
    pub asked_ms: u64,
    /// The moment that it is of.
    pub at_ms: u64,
    /// Events before it.
    pub events: u64,
    /// Values by path.
    pub values: BTreeMap<String, String>,
}

struct Watch {
    /// In rising order.
    moments: VecDeque<u64>,
    nodes: u8,
    judge: Judge,
    living: Living,
}

thread_local! {
    /// A run has a thread of its own.
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// From now on the states at these moments are told, a JSON object a line on the standard error. The process ends
/// after the last.
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

/// The world looks at its oracles.
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
        for machine in ["node", "client"] {
            let name = format!("{machine}{}", index + 1);
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
            for line in lines(&format!("{summary:#?}")) {
                values.insert(format!("{name}.said.{}", line.0), line.1);
            }
        }
        if let Some(node) = watch.living.find(index) {
            for actor in node.actors().all() {
                // The path begins with the name of the system, which is that of the node.
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

/// The fields of a value that was printed for people, each by its path: enough for a summary, whose form is not a promise.
fn lines(printed: &str) -> Vec<(String, String)> {
    let mut path: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for line in printed.lines().skip(1) {
        let line = line.trim().trim_end_matches(',');
        match line.split_once(": ") {
            Some((word, rest)) if rest.ends_with(['{', '(', '[']) => path.push(word.to_owned()),
            Some((word, rest)) => found.push((join(&path, word), rest.to_owned())),
            None if line.ends_with(['{', '(', '[']) => path.push(String::new()),
            None if line.starts_with(['}', ')', ']']) => {
                path.pop();
            }
            None => found.push((join(&path, ""), line.to_owned())),
        }
    }
    found
}

fn join(path: &[String], word: &str) -> String {
    let words = path
        .iter()
        .map(String::as_str)
        .chain([word])
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(".")
}

/// The leaves of a JSON value, each by its path.
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

/// What changed: the path, what was there before, what is there now.
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
    use super::*;

    #[test]
    fn filters_go_by_machine_kind_actor_and_time() {
        let all = Filter::default();
        assert!(all.passes("node1", 5, "net.send", b"", ""));
        let filter = Filter {
            machines: vec!["node1".into(), "world".into()],
            kinds: vec!["net.".into(), "actor".into()],
            actor: None,
            from_ms: 10,
            to_ms: Some(20),
        };
        assert!(filter.passes("node1", 10, "net.send", b"", ""));
        assert!(filter.passes("world", 20, "net.cut", b"", ""));
        for (machine, at_ms, kind) in [
            ("node2", 15, "net.send"),
            ("node1", 9, "net.send"),
            ("node1", 21, "net.send"),
            ("node1", 15, "disk.sync"),
        ] {
            assert!(
                !filter.passes(machine, at_ms, kind, b"", ""),
                "{machine} {at_ms} {kind}"
            );
        }
        let actor = Filter {
            actor: Some("chain/engine".into()),
            ..Filter::default()
        };
        assert!(actor.passes(
            "node1",
            1,
            "actor.state",
            b"node1/chain/engine\0Running",
            ""
        ));
        assert!(!actor.passes("node1", 1, "actor.state", b"node1/chain/store\0Running", ""));
        assert!(!actor.passes("node1", 1, "said", b"chain/engine", ""));
    }

    #[test]
    fn printed_structures_become_paths() {
        let printed = "Summary {\n    a: 1,\n    b: Ref {\n        slot: Slot(\n            7,\n        ),\n        hash: 0x12,\n    },\n    c: None,\n}";
        let expected = [
            ("a", "1"),
            ("b.slot", "7"),
            ("b.hash", "0x12"),
            ("c", "None"),
        ];
        let expected: Vec<(String, String)> = expected
            .iter()
            .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(lines(printed), expected);
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
