//! `cargo sim mutants`: searches for each planted bug, and reports the invariant that found it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{FAILED, INTERRUPTED, MutantsArgs, PASSED, job, jobs};
use crate::fleet::process::{self, is_interrupted};
use crate::fleet::sweep;
use crate::params::Stack;
use crate::plan::format;
use crate::plan::mutants::{self, Planted};
use crate::run::outcome::Outcome;

/// Counter of executions of the active bug's sites.
pub const REACHED: &str = "mutant.reached";

/// The result of the search for one bug.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Hunt {
    name: &'static str,
    area: &'static str,
    scenario: String,
    must_be_found_by: &'static [&'static str],
    /// Executions of the bug's sites, summed over all runs.
    reached: u64,
    found_by: Option<String>,
    is_as_named: bool,
    seed: Option<u64>,
    seeds: u64,
    seconds: f64,
}

/// Searches for all planted bugs, or those of `--only`, one after the other.
pub fn mutants(args: &MutantsArgs) -> anyhow::Result<u8> {
    process::listen();
    let chosen: Vec<&Planted> = mutants::ALL
        .iter()
        .filter(|planted| args.only.is_empty() || args.only.iter().any(|n| n == planted.name))
        .collect();
    let mut hunts = Vec::new();
    for planted in chosen {
        let hunt = if planted.name == mutants::LEAKS {
            compare(planted, args)?
        } else {
            hunt(planted, args)?
        };
        if is_interrupted() {
            return Ok(INTERRUPTED);
        }
        if args.json {
            println!("{}", serde_json::to_string(&hunt)?);
        } else {
            println!("{}", line(&hunt));
        }
        hunts.push(hunt);
        if args.write {
            write(&table_file(), &hunts)?;
        }
    }
    let good = hunts.iter().filter(|hunt| hunt.is_as_named).count();
    if !args.json {
        println!(
            "{good} of {} found by an expected invariant; median of {} seeds",
            hunts.len(),
            median(&hunts)
        );
    }
    Ok(if good == hunts.len() { PASSED } else { FAILED })
}

/// Runs seeds until one finds the bug, or the seeds or the time run out.
fn hunt(planted: &'static Planted, args: &MutantsArgs) -> anyhow::Result<Hunt> {
    let scenario = format::load(args.scenario.as_deref().unwrap_or(planted.scenario))?;
    let limit = Duration::try_from_secs_f64(args.minutes_each * 60.0)?;
    let began = Instant::now();
    let mut seeds = args.seeds.0.clone();
    let mut first: Option<Outcome> = None;
    let mut reached: u64 = 0;
    let mut runs: u64 = 0;
    let next = || {
        if began.elapsed() >= limit {
            return None;
        }
        seeds
            .next()
            .map(|seed| job(&scenario, seed, Some(args.stack), Some(planted.name)))
    };
    sweep::run(jobs(args.jobs), next, |_, _, outcome| {
        runs += 1;
        reached += outcome.counters.get(REACHED).copied().unwrap_or(0);
        // A run that timed out has no finding.
        let is_found = outcome.found.is_some();
        if is_found {
            first = Some(outcome);
        }
        !is_found
    })?;
    let found_by = first
        .as_ref()
        .and_then(|outcome| outcome.found.as_ref())
        .map(|found| found.violation.name());
    let is_as_named = found_by
        .as_ref()
        .is_some_and(|name| planted.found_by.contains(&name.as_str()));
    let seed = first.map(|outcome| outcome.seed);
    Ok(end(
        planted,
        scenario.plan.name,
        (reached, runs),
        found_by,
        is_as_named,
        seed,
        began,
    ))
}

/// Runs one seed twice with the leaking canary, whose two runs must differ.
fn compare(planted: &'static Planted, args: &MutantsArgs) -> anyhow::Result<Hunt> {
    let scenario = format::load(planted.scenario)?;
    let began = Instant::now();
    let seed = args.seeds.0.start;
    let mut hashes: Vec<String> = Vec::new();
    let mut reached = 0;
    let mut twice = [seed, seed].into_iter();
    let next = || {
        twice
            .next()
            .map(|seed| job(&scenario, seed, Some(args.stack), Some(planted.name)))
    };
    sweep::run(jobs(args.jobs), next, |_, _, outcome| {
        reached += outcome.counters.get(REACHED).copied().unwrap_or(0);
        hashes.push(outcome.trace_hash);
        true
    })?;
    let differs = hashes.len() == 2 && hashes[0] != hashes[1];
    let found_by = differs.then(|| "differs".to_owned());
    let name = scenario.plan.name;
    Ok(end(
        planted,
        name,
        (reached, 1),
        found_by,
        differs,
        differs.then_some(seed),
        began,
    ))
}

fn end(
    planted: &'static Planted,
    scenario: String,
    (reached, seeds): (u64, u64),
    found_by: Option<String>,
    is_as_named: bool,
    seed: Option<u64>,
    began: Instant,
) -> Hunt {
    Hunt {
        name: planted.name,
        area: planted.area,
        scenario,
        must_be_found_by: planted.found_by,
        reached,
        found_by,
        is_as_named,
        seed,
        seeds,
        seconds: (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
    }
}

fn line(hunt: &Hunt) -> String {
    let Hunt {
        name,
        scenario,
        reached,
        seeds,
        seconds,
        ..
    } = hunt;
    let reached = if *reached > 0 {
        format!("reached {reached} times")
    } else {
        "NOT REACHED".to_owned()
    };
    let found = match (&hunt.found_by, hunt.seed) {
        (Some(by), Some(seed)) if hunt.is_as_named => format!("found by {by} at seed {seed}"),
        (Some(by), Some(seed)) => {
            format!(
                "found by {by} at seed {seed}, NOT BY {}",
                hunt.must_be_found_by.join(" or ")
            )
        }
        _ => "MISSED".to_owned(),
    };
    format!("{name:<28} {found}, {reached}, {seeds} seeds of {scenario}, {seconds:.1} s")
}

/// Returns the median number of seeds until a bug is found; a missed bug counts as `u64::MAX`.
fn median(hunts: &[Hunt]) -> u64 {
    let mut seeds: Vec<u64> = hunts
        .iter()
        .map(|hunt| {
            if hunt.is_as_named {
                hunt.seeds
            } else {
                u64::MAX
            }
        })
        .collect();
    seeds.sort_unstable();
    seeds.get(seeds.len() / 2).copied().unwrap_or(0)
}

/// Returns the path of `docs/mutants.md` in the repository.
fn table_file() -> PathBuf {
    format::directory().join("../docs/mutants.md")
}

const HEAD: &str = "\
# Planted bugs

Written by `cargo sim mutants --write`. Each row is a real mistake, planted in the code behind a \
switch that production
builds do not have (`sim/src/plan/mutants.rs` lists them). The invariant that must find it was \
named before it was looked for; where
more than one is named, the schedule decides which of the bug's consequences comes first. \
*Reached* counts how often the
broken code ran with the bug switched on. *Seeds* and *seconds* say how long the search took on \
the machine that wrote the
row; other work was going on beside it.

";

const COLUMNS: &str = "\
| bug | area | what is broken | must be found by | scenario | reached | found by | seed | seeds | \
seconds |
|---|---|---|---|---|---|---|---|---|---|
";

/// Updates the rows of the bugs in `hunts`, and keeps the other rows of the table.
fn write(file: &Path, hunts: &[Hunt]) -> anyhow::Result<()> {
    let before = std::fs::read_to_string(file).unwrap_or_default();
    let mut rows: BTreeMap<String, String> = before
        .lines()
        .filter_map(|row| {
            Some((
                row.strip_prefix("| `")?.split('`').next()?.to_owned(),
                row.to_owned(),
            ))
        })
        .collect();
    rows.extend(hunts.iter().map(|hunt| (hunt.name.to_owned(), row(hunt))));
    let mut text = format!("{HEAD}{COLUMNS}");
    for planted in mutants::ALL {
        if let Some(row) = rows.get(planted.name) {
            text += row;
            text.push('\n');
        }
    }
    Ok(std::fs::write(file, text)?)
}

fn row(hunt: &Hunt) -> String {
    let Hunt {
        name,
        area,
        scenario,
        reached,
        seeds,
        seconds,
        ..
    } = hunt;
    let planted = mutants::ALL.iter().find(|planted| planted.name == *name);
    let broken = planted.map_or("", |planted| planted.broken);
    let named = hunt.must_be_found_by.join(", ");
    let by = match &hunt.found_by {
        Some(by) if hunt.is_as_named => by.clone(),
        Some(by) => format!("**{by}**"),
        None => "**missed**".to_owned(),
    };
    let seed = hunt.seed.map_or(String::new(), |seed| seed.to_string());
    format!(
        "| `{name}` | {area} | {broken} | {named} | {scenario} | {reached} | {by} | {seed} | \
         {seeds} | {seconds:.0} |"
    )
}

/// Default stack of `cargo sim mutants`: the planted bugs do not depend on real signatures.
pub const STACK: Stack = Stack::Fast;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Violation;
    use std::collections::BTreeSet;

    /// Checks that each planted bug has a site and an existing scenario, and that each site's name
    /// is in the table.
    #[test]
    fn every_bug_is_planted_and_has_a_scenario() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut code = String::new();
        for dir in ["crates", "storage", "net", "integrations", "node", "sim"] {
            read(&root.join(dir), &mut code);
        }
        let scenarios = format::list().expect("they can be read");
        for planted in mutants::ALL {
            let site = format!("active(\"{}\")", planted.name);
            assert!(
                planted.is_canary() || code.contains(&site),
                "{} has no site",
                planted.name
            );
            assert!(
                scenarios.contains_key(planted.scenario),
                "{}: no {}",
                planted.name,
                planted.scenario
            );
        }
        let named: BTreeSet<&str> = code
            .split("active(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|name| !name.contains('{'))
            .collect();
        for name in named {
            assert!(
                mutants::ALL.iter().any(|planted| planted.name == name),
                "{name} is not in the list"
            );
        }
    }

    fn read(dir: &Path, code: &mut String) {
        let entries = std::fs::read_dir(dir).expect("a directory of the workspace");
        for entry in entries {
            let path = entry.expect("it can be read").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                read(&path, code);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&std::fs::read_to_string(&path).expect("it can be read"));
            }
        }
    }

    #[test]
    fn the_median_counts_what_is_missed_as_the_most() {
        let planted = mutants::find("quorum-off-by-one").expect("planted");
        let hunt = |seeds, is_as_named| Hunt {
            is_as_named,
            ..end(
                planted,
                "steady".to_owned(),
                (1, seeds),
                None,
                false,
                None,
                Instant::now(),
            )
        };
        assert_eq!(median(&[hunt(1, true), hunt(9, true), hunt(4, true)]), 4);
        assert_eq!(
            median(&[hunt(1, true), hunt(9, false), hunt(4, false)]),
            u64::MAX
        );
        assert_eq!(Violation::Canary.name(), "canary");
    }

    #[test]
    fn rows_keep_the_order_of_the_list() {
        let dir = std::env::temp_dir().join(format!("alys-mutants-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        let file = dir.join("mutants.md");
        let of = |name: &str| {
            let planted = mutants::find(name).expect("planted");
            end(
                planted,
                "steady".to_owned(),
                (1, 1),
                Some("no-progress".to_owned()),
                false,
                Some(1),
                Instant::now(),
            )
        };
        write(&file, &[of("quorum-unchecked")]).expect("written");
        write(&file, &[of("approve-ignores-lock")]).expect("written");
        let text = std::fs::read_to_string(&file).expect("it is there");
        let names: Vec<&str> = text
            .lines()
            .filter_map(|row| row.strip_prefix("| `")?.split('`').next())
            .collect();
        assert_eq!(names, ["approve-ignores-lock", "quorum-unchecked"]);
        assert!(
            text.contains("**no-progress**"),
            "found by another invariant than was named"
        );
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
