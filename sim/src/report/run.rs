//! The page about a run.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{MAX_PAGE, page};
use crate::events::{Burst, FaultCategory, LaneKind, Mark, MarkKind, Message, Record, Recorder};
use crate::invariants::explain;
use crate::params::MachineRole;
use crate::plan::Plan;
use crate::run::outcome::Outcome;

/// The script of the page, in this order.
pub(super) const SCRIPTS: &[&str] = &[
    include_str!("run/data.js"),
    include_str!("run/layout.js"),
    include_str!("run/draw.js"),
    include_str!("run/table.js"),
    include_str!("run/input.js"),
    include_str!("run/controls.js"),
];

/// Columns of numbers by name; rows of names and numbers would be twice as long.
#[derive(Debug, Default, Serialize)]
struct Columns(BTreeMap<&'static str, Vec<i64>>);

impl Columns {
    fn new<T>(rows: &[T], columns: &[(&'static str, fn(&T) -> i64)]) -> Self {
        let column = |value: fn(&T) -> i64| rows.iter().map(value).collect();
        let columns = columns.iter().map(|(name, value)| (*name, column(*value)));
        Self(columns.collect())
    }

    /// Replaces the rising values of a column by their differences, which are shorter.
    fn delta(mut self, name: &str) -> Self {
        if let Some(column) = self.0.get_mut(name) {
            let mut last = 0;
            for value in column {
                let delta = *value - last;
                last = *value;
                *value = delta;
            }
        }
        self
    }
}

/// Writes the page of a run. `replay` is the command that repeats the run.
///
/// # Errors
/// The data cannot be written as JSON.
pub fn run_page(
    plan: &Plan,
    outcome: &Outcome,
    recorder: &Recorder,
    replay: &str,
) -> serde_json::Result<String> {
    let verdict = outcome.verdict().name();
    let title = format!("{} seed {}: {verdict}", outcome.scenario, outcome.seed);
    recorder.finished(|record| {
        // A page that is too large drops messages, because only their limit is not tight.
        let mut one_in = 1;
        loop {
            let mut data = run_data(plan, outcome, replay);
            data.extend(record_data(plan, record, one_in));
            let text = page(include_str!("run.html"), &title, SCRIPTS, &data)?;
            if text.len() <= MAX_PAGE || one_in > record.messages.total {
                return Ok(text);
            }
            one_in *= 2;
        }
    })
}

/// The fields of an object of `json!`.
fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The plan and its outcome.
fn run_data(plan: &Plan, outcome: &Outcome, replay: &str) -> Map<String, Value> {
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    fields(json!({
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
        "until_ms": plan.until_ms,
        "steps": steps,
    }))
}

/// The record, with one in `one_in` of its messages.
fn record_data(plan: &Plan, record: &Record, one_in: u64) -> Map<String, Value> {
    let kinds = MarkKind::ALL
        .map(|(kind, group, label)| json!({ "name": kind, "group": group, "label": label }));
    let slot_1_ms = (record.first_slot + 1) * plan.world.slot_ms.max(1);
    let mut messages = record.messages.kept();
    if one_in > 1 {
        let mut numbers = 0..;
        messages.retain(|_| {
            numbers
                .next()
                .is_some_and(|at: u64| at.is_multiple_of(one_in))
        });
    }
    let complete_us = if one_in > 1 {
        i64::MAX
    } else {
        record.messages.complete_from_us() as i64
    };
    fields(json!({
        // The start of slot 1 of plans.
        "slot_1_ms": slot_1_ms.saturating_sub(record.start_ms),
        "first_slot": record.first_slot,
        "categories": FaultCategory::ALL,
        "lanes": record.lanes,
        // The kinds of the lanes of an authority, in their order.
        "roles": MachineRole::ALL.map(LaneKind::from),
        "kinds": kinds,
        "marks": marks(record),
        "texts": record.texts.texts(),
        "hashes": record.hashes.texts(),
        "spans": record.spans,
        "bursts": bursts(record),
        "messages": message_columns(&messages),
        "messages_total": record.messages.total,
        "messages_one_in": record.messages.stride() * one_in,
        "messages_complete_us": complete_us,
        "left_out": record.left_out,
    }))
}

fn marks(record: &Record) -> Columns {
    let columns: [(&str, fn(&Mark) -> i64); 7] = [
        ("t", |mark| mark.at_us as i64),
        ("l", |mark| mark.lane.into()),
        ("k", |mark| mark.kind as i64),
        ("h", |mark| mark.height as i64),
        ("s", |mark| mark.slot as i64),
        ("x", |mark| mark.hash.into()),
        ("d", |mark| mark.text.into()),
    ];
    Columns::new(&record.marks, &columns).delta("t")
}

fn bursts(record: &Record) -> Columns {
    let columns: [(&str, fn(&Burst) -> i64); 6] = [
        ("t", |burst| burst.at_us as i64),
        ("l", |burst| burst.lane.into()),
        ("for", |burst| {
            burst.last_us.saturating_sub(burst.at_us) as i64
        }),
        ("w", |burst| burst.writes.into()),
        ("s", |burst| burst.syncs.into()),
        ("b", |burst| burst.bytes as i64),
    ];
    Columns::new(&record.bursts, &columns).delta("t")
}

fn message_columns(messages: &[Message]) -> Columns {
    let columns: [(&str, fn(&Message) -> i64); 5] = [
        ("t", |message| message.at_us as i64),
        ("f", |message| message.from.into()),
        ("o", |message| message.to.into()),
        ("d", |message| {
            message.delay_us.map_or(-1, |delay| delay as i64)
        }),
        ("b", |message| message.bytes as i64),
    ];
    Columns::new(messages, &columns).delta("t")
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
    json!({
        "at_ms": found.at_ms,
        "name": name,
        "title": title,
        "explanation": explanation,
        "fields": fields,
    })
}
