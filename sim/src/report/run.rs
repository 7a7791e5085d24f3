//! The page about a run.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{MAX_PAGE, page};
use crate::events::{Kind, Record, Recorder};
use crate::invariants::explain;
use crate::plan::Plan;
use crate::run::outcome::Outcome;

/// Columns of numbers: a row for each would be twice as long.
#[derive(Debug, Default, Serialize)]
struct Columns(BTreeMap<&'static str, Vec<i64>>);

impl Columns {
    fn of<T>(rows: &[T], columns: &[(&'static str, fn(&T) -> i64)]) -> Self {
        Self(
            columns
                .iter()
                .map(|(name, value)| (*name, rows.iter().map(value).collect()))
                .collect(),
        )
    }

    /// Makes a column that rises one of steps.
    fn steps(mut self, name: &str) -> Self {
        if let Some(column) = self.0.get_mut(name) {
            let mut last = 0;
            for value in column {
                let step = *value - last;
                last = *value;
                *value = step;
            }
        }
        self
    }
}

/// Writes the page of a run. `replay` is the command that runs it again.
///
/// # Errors
/// When the data cannot be written as JSON.
pub fn run_page(
    plan: &Plan,
    outcome: &Outcome,
    recorder: &Recorder,
    replay: &str,
) -> serde_json::Result<String> {
    let mut record = recorder.look();
    record.finish();
    let title = format!(
        "{} seed {}: {}",
        outcome.scenario,
        outcome.seed,
        outcome.verdict().name()
    );
    // Messages are the one thing whose number a page can do with less of.
    let mut thin = 1;
    loop {
        let data = data(plan, outcome, &record, replay, thin);
        let text = page(
            include_str!("run.html"),
            &title,
            include_str!("run.js"),
            &data,
        )?;
        if text.len() <= MAX_PAGE || thin > record.messages.total {
            return Ok(text);
        }
        thin *= 2;
    }
}

fn data(plan: &Plan, outcome: &Outcome, record: &Record, replay: &str, thin: u64) -> Value {
    let lanes: Vec<Value> = record
        .lanes
        .iter()
        .map(|lane| json!({ "name": lane.name, "kind": lane.kind.name(), "node": lane.node }))
        .collect();
    let kinds: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| json!({ "name": format!("{kind:?}"), "group": kind.words().0, "label": kind.words().1 }))
        .collect();
    let marks = Columns::of(
        &record.marks,
        &[
            ("t", |mark| mark.at_us as i64),
            ("l", |mark| mark.lane.into()),
            ("k", |mark| mark.kind as i64),
            ("h", |mark| mark.height as i64),
            ("s", |mark| mark.slot as i64),
            ("x", |mark| mark.hash.into()),
            ("d", |mark| mark.text.into()),
        ],
    );
    let spans: Vec<Value> = record
        .spans
        .iter()
        .map(|span| {
            json!({
                "l": span.lane,
                "a": span.from_us,
                "b": span.to_us,
                "kind": span.kind.name(),
                "fault": span.fault,
                "name": span.name,
                "words": span.words,
                "category": category(&span.name),
            })
        })
        .collect();
    let bursts = Columns::of(
        &record.bursts,
        &[
            ("t", |burst| burst.at_us as i64),
            ("l", |burst| burst.lane.into()),
            ("for", |burst| {
                burst.last_us.saturating_sub(burst.at_us) as i64
            }),
            ("w", |burst| burst.writes.into()),
            ("s", |burst| burst.syncs.into()),
            ("b", |burst| burst.bytes as i64),
        ],
    );
    let mut messages = record.messages.kept();
    if thin > 1 {
        let mut at = 0;
        messages.retain(|_| {
            at += 1;
            (at - 1) % thin == 0
        });
    }
    let shown = messages.len();
    let messages = Columns::of(
        &messages,
        &[
            ("t", |message| message.at_us as i64),
            ("f", |message| message.from.into()),
            ("o", |message| message.to.into()),
            ("d", |message| {
                message.delay_us.map_or(-1, |delay| delay as i64)
            }),
            ("b", |message| message.bytes as i64),
        ],
    );
    let first_slot_ms = (record.first_slot + 1) * plan.world.slot_ms.max(1);
    json!({
        "scenario": outcome.scenario,
        "why": plan.why,
        "covers": plan.covers,
        "seed": outcome.seed,
        "stack": outcome.stack.name(),
        "mutant": outcome.mutant,
        "verdict": outcome.verdict().name(),
        "found": found(outcome),
        "replay": replay,
        "trace_hash": outcome.trace_hash,
        "events": outcome.events,
        "simulated_ms": outcome.simulated_ms,
        "wall_ms": outcome.wall_ms,
        "final_height": outcome.final_height,
        "counters": outcome.counters,
        "nodes": plan.world.nodes,
        "fault_model": plan.world.fault_model,
        "quorum": plan.world.quorum(),
        "slot_ms": plan.world.slot_ms,
        // When slot 1 of plans begins.
        "slot_1_ms": first_slot_ms.saturating_sub(record.start_ms),
        "first_slot": record.first_slot,
        "until_ms": plan.until_ms,
        "steps": plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lanes": lanes,
        "kinds": kinds,
        "marks": marks.steps("t"),
        "texts": record.texts,
        "hashes": record.hashes,
        "spans": spans,
        "bursts": bursts.steps("t"),
        "messages": messages.steps("t"),
        "messages_total": record.messages.total,
        "messages_shown": shown,
        "messages_one_in": record.messages.stride() * thin,
        "messages_complete_us": if thin > 1 { i64::MAX } else { record.messages.complete_from_us() as i64 },
        "left_out": record.left_out,
    })
}

fn found(outcome: &Outcome) -> Value {
    let Some(found) = &outcome.found else {
        return Value::Null;
    };
    let name = found.violation.name();
    let (title, explanation) = explain(&name);
    let fields = serde_json::to_value(&found.violation).unwrap_or_default();
    let fields: Vec<Value> = fields
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(field, _)| *field != "invariant")
        .map(|(field, value)| json!([field.replace('_', " "), value]))
        .collect();
    json!({ "at_ms": found.at_ms, "name": name, "title": title, "explanation": explanation, "fields": fields })
}

/// What a fault is about, for its colour.
fn category(name: &str) -> &'static str {
    const WORDS: [(&str, &[&str]); 7] = [
        ("actor", &["actor"]),
        (
            "client",
            &["client", "syncing", "forkchoice", "payload", "jwt"],
        ),
        (
            "byzantine",
            &["twin", "equivoc", "forg", "lie", "mutat", "withh", "byzan"],
        ),
        (
            "disk",
            &[
                "disk",
                "sync",
                "operation",
                "wipe",
                "restore",
                "rot",
                "torn",
                "space",
                "read",
                "write",
            ],
        ),
        (
            "process",
            &["kill", "stop", "pause", "crash", "restart", "power"],
        ),
        ("time", &["clock", "drift", "skew"]),
        (
            "network",
            &[
                "partition",
                "link",
                "reset",
                "open",
                "clog",
                "swizzle",
                "band",
                "dupl",
                "latency",
                "loss",
                "reorder",
                "hold",
                "squeeze",
            ],
        ),
    ];
    let found = WORDS
        .iter()
        .find(|(_, words)| words.iter().any(|word| name.contains(word)));
    found.map_or("other", |(category, _)| category)
}

#[cfg(test)]
mod tests {
    use super::category;

    #[test]
    fn every_fault_of_today_has_a_category() {
        for (name, _) in crate::faults::Fault::KINDS {
            assert_ne!(category(name), "other", "{name}");
        }
        assert_eq!(
            (
                category("slow-disk"),
                category("slow-client"),
                category("kill")
            ),
            ("disk", "client", "process")
        );
    }
}
