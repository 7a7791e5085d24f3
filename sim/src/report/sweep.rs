//! The page about a sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::{page, page_name};
use crate::fleet::ledger::Entry;
use crate::fleet::process::replay;
use crate::invariants::explain;
use crate::run::outcome::{Outcome, Verdict};

/// Maximum seeds that the page lists for a group of failures.
const SEEDS_NAMED: usize = 12;

/// Returns the HTML page of a sweep. A run whose page is in `dir` is linked. `torn` is the number
/// of incomplete lines in the ledger.
///
/// # Errors
/// The page's data cannot be serialized as JSON.
pub fn sweep_page(entries: &[Entry], dir: &Path, torn: usize) -> serde_json::Result<String> {
    let mut runs: Vec<&Entry> = entries.iter().collect();
    runs.sort_by_key(|entry| entry.ended_ms);
    let failed = runs
        .iter()
        .filter(|entry| entry.verdict == Verdict::Failed)
        .count();
    let title = format!("{} runs, {failed} failed", runs.len());
    let data = data(&runs, dir, torn);
    page(
        include_str!("sweep.html"),
        &title,
        &[include_str!("sweep.js")],
        &data,
    )
}

/// A table of names, numbered in the order of their first use.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.numbers.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }
}

fn data(runs: &[&Entry], dir: &Path, torn: usize) -> Value {
    let mut scenarios = Names::default();
    let mut mutants = Names::default();
    let mut groups = Names::default();
    let rows: Vec<Value> = runs
        .iter()
        .map(|entry| {
            let outcome = &entry.outcome;
            let group = entry.group.as_ref().map(|group| groups.number(group));
            let mutant = outcome.mutant.as_ref().map(|mutant| mutants.number(mutant));
            let page = page_of(outcome);
            json!([
                scenarios.number(&outcome.scenario),
                outcome.seed,
                match entry.verdict {
                    Verdict::Passed => 0,
                    Verdict::Failed => 1,
                    Verdict::Timeout => 2,
                },
                group,
                mutant,
                outcome.wall_ms,
                outcome.simulated_ms,
                outcome.events,
                outcome.final_height,
                outcome.faults(),
                dir.join(page).is_file(),
                outcome.stack.name(),
            ])
        })
        .collect();
    let groups: Vec<Value> = groups.names.iter().map(|name| group(name, runs)).collect();
    let builds: BTreeSet<(&str, Option<&str>)> = runs
        .iter()
        .map(|entry| (entry.build.as_str(), entry.commit.as_deref()))
        .collect();
    let (growth, counters) = coverage(runs);
    json!({
        "runs": rows,
        "scenarios": scenarios.names,
        "mutants": mutants.names,
        "groups": groups,
        "builds": builds.into_iter().take(8).collect::<Vec<_>>(),
        "torn": torn,
        "growth": growth,
        "counters": counters,
    })
}

fn page_of(outcome: &Outcome) -> String {
    page_name(&outcome.scenario, outcome.seed, outcome.mutant.as_deref())
}

/// A group of failures: their number, at most [`SEEDS_NAMED`] seeds, and the command that replays
/// the run with the fewest events.
fn group(name: &str, runs: &[&Entry]) -> Value {
    let members: Vec<&&Entry> = runs
        .iter()
        .filter(|entry| entry.group.as_deref() == Some(name))
        .collect();
    let seeds: Vec<Value> = members
        .iter()
        .take(SEEDS_NAMED)
        .map(|entry| {
            json!([
                entry.outcome.scenario,
                entry.outcome.seed,
                page_of(&entry.outcome)
            ])
        })
        .collect();
    let shortest = members
        .iter()
        .min_by_key(|entry| (entry.outcome.events, entry.outcome.seed));
    let replay_command = shortest.map(|entry| {
        let outcome = &entry.outcome;
        replay(
            Path::new(&outcome.scenario),
            outcome.seed,
            outcome.stack,
            outcome.mutant.as_deref(),
        )
    });
    let invariant = members
        .iter()
        .find_map(|entry| entry.outcome.found.as_ref())
        .map(|found| found.violation.name());
    let (title, explanation) = invariant.as_deref().map_or_else(
        || {
            (
                "Cancelled at the limit of real time".to_owned(),
                "The runs did not end within their limit of real time.",
            )
        },
        explain,
    );
    json!({
        "name": name,
        "invariant": invariant,
        "title": title,
        "explanation": explanation,
        "count": members.len(),
        "seeds": seeds,
        "replay": replay_command,
    })
}

/// The coverage of the runs, in order. First, for each group of counters (the part of their names
/// before the dot), the points (run, counters seen so far) at which a new counter appeared. Second,
/// for each counter, the number of runs with it, its total and its first run.
fn coverage(runs: &[&Entry]) -> (BTreeMap<String, Vec<(usize, usize)>>, Vec<Value>) {
    let mut seen: BTreeMap<&str, (usize, u64, usize)> = BTreeMap::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut growth: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
    for (at, entry) in (1..).zip(runs) {
        for (name, n) in entry.outcome.counters.iter().filter(|(_, n)| **n > 0) {
            let one = seen.entry(name).or_insert((0, 0, at));
            (one.0, one.1) = (one.0 + 1, one.1.saturating_add(*n));
            if one.0 == 1 {
                let kind = name.split_once('.').map_or("other", |(kind, _)| kind);
                let count = counts.entry(kind.to_owned()).or_default();
                *count += 1;
                let series = growth.entry(kind.to_owned()).or_default();
                match series.last_mut() {
                    Some(last) if last.0 == at => last.1 = *count,
                    _ => series.push((at, *count)),
                }
            }
        }
    }
    let counters = seen
        .into_iter()
        .map(|(name, (runs, total, first))| json!([name, runs, total, first]))
        .collect();
    (growth, counters)
}
