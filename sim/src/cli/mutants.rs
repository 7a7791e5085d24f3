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
use crate::plan::mutants::{self, Origin, Planted};
use crate::run::outcome::Outcome;

/// Counter of executions of the active bug's sites.
pub const REACHED: &str = "mutant.reached";

/// The result of the search for one bug.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Hunt {
    name: &'static str,
    origin: Origin,
    area: &'static str,
    scenario: String,
    must_be_found_by: &'static [&'static str],
    /// Executions of the bug's sites, summed over all runs.
    reached: u64,
    found_by: Option<String>,
    /// Found by an invariant that was named, or not found if the bug is harmless.
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
    if !args.json {
        totals(&hunts).iter().for_each(|line| println!("{line}"));
    }
    let is_good = hunts.iter().all(|hunt| hunt.is_as_named);
    Ok(if is_good { PASSED } else { FAILED })
}

/// The totals of the hunts, one line for each origin.
fn totals(hunts: &[Hunt]) -> Vec<String> {
    let mut lines = Vec::new();
    for origin in Origin::ALL {
        let those: Vec<&Hunt> = hunts.iter().filter(|hunt| hunt.origin == origin).collect();
        if those.is_empty() {
            continue;
        }
        let all = those.len();
        let good = those.iter().filter(|hunt| hunt.is_as_named).count();
        let unreached = those.iter().filter(|hunt| hunt.reached == 0).count();
        let title = origin.title();
        if origin == Origin::Harmless {
            lines.push(format!(
                "{title}: {good} of {all} not found, as argued; {unreached} never reached"
            ));
            continue;
        }
        let median = match median(&those) {
            Some(seeds) => format!("median of {seeds} seeds"),
            None => "no median, because half or more were missed".to_owned(),
        };
        lines.push(format!(
            "{title}: {good} of {all} found by an expected invariant, {unreached} never reached; \
             {median}"
        ));
    }
    lines
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
    let is_as_named = match &found_by {
        Some(name) => planted.found_by.contains(&name.as_str()),
        None => planted.origin == Origin::Harmless,
    };
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
        origin: planted.origin,
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
        (None, _) if hunt.is_as_named => "not found, as argued".to_owned(),
        (Some(by), Some(seed)) if hunt.must_be_found_by.is_empty() => {
            format!("found by {by} at seed {seed}, ARGUED TO BE HARMLESS")
        }
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

/// Returns the median number of seeds until a bug is found. A missed bug counts as more seeds than
/// any, so there is no median if half or more of the bugs were missed.
fn median(hunts: &[&Hunt]) -> Option<u64> {
    let found = hunts.iter().filter(|hunt| hunt.is_as_named);
    let mut seeds: Vec<u64> = found.map(|hunt| hunt.seeds).collect();
    seeds.sort_unstable();
    seeds.get(hunts.len() / 2).copied()
}

/// Returns the path of `docs/mutants.md` in the repository.
fn table_file() -> PathBuf {
    format::directory().join("../docs/mutants.md")
}

const HEAD: &str = "\
# Planted bugs

Written by `cargo sim mutants --write`. Each row is a change of the code behind a switch that \
production builds do not have
(`sim/src/plan/mutants.rs` lists them). The invariant that must find it was named before it was \
looked for; where more than
one is named, the schedule decides which of the bug's consequences comes first. *Reached* counts \
how often the broken code ran
with the bug switched on. *Seeds* and *seconds* say how long the search took on the machine that \
wrote the row; other work was
going on beside it.

There are three kinds of planted bugs, each with a table of its own as soon as it has rows:

- **Planted with the simulator in view**: real mistakes whose authors knew the invariants and \
scenarios. They show that the
  invariants still work, and measure only the mistakes that the authors of the invariants thought \
of.
- **Planted blind**: real mistakes whose authors had not read the simulator. Only the first \
count of such mistakes, before any
  invariant is built against them, measures how many other mistakes the simulator finds: 5 of 29 \
were found, each tried in up to
  34 of the runs that reach it, and 3 of ten other mistakes in a second round, each tried in up \
to 46. The rows are 23 of the
  24 that the first round missed, with the situations and invariants that have been built for \
their classes since; the one
  that is left needs hours of traffic. Four of the seven that the second round missed are in code \
that no run of it reached;
  tests of their crates find them. The rows show that \
these invariants work.
- **Equivalent or harmless**: no observer can tell the changed code from correct code, or the \
change has no consequence. The
  table has the argument in place of an invariant, and no run may find such a bug.
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
    let mut text = HEAD.to_owned();
    for origin in Origin::ALL {
        let of_origin = mutants::ALL
            .iter()
            .filter(|planted| planted.origin == origin);
        let those: Vec<&String> = of_origin.filter_map(|one| rows.get(one.name)).collect();
        if those.is_empty() {
            continue;
        }
        text += &format!("\n## {}\n\n{COLUMNS}", origin.title());
        for row in those {
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
    let named = match planted.map_or("", |planted| planted.argument) {
        "" => hunt.must_be_found_by.join(", "),
        argument => format!("nothing: {argument}"),
    };
    let by = match &hunt.found_by {
        None if hunt.is_as_named => "nothing".to_owned(),
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
        let median_of = |hunts: &[Hunt]| median(&hunts.iter().collect::<Vec<_>>());
        let table: [(&[Hunt], Option<u64>); 5] = [
            (&[hunt(1, true), hunt(9, true), hunt(4, true)], Some(4)),
            (&[hunt(1, true), hunt(9, false), hunt(4, true)], Some(4)),
            (&[hunt(1, true), hunt(9, false), hunt(4, false)], None),
            (&[hunt(1, true), hunt(9, false)], None),
            (&[], None),
        ];
        for (hunts, expected) in table {
            assert_eq!(median_of(hunts), expected, "{hunts:?}");
        }
        let lines = totals(&[hunt(1, true), hunt(9, false)]);
        assert_eq!(
            lines,
            [
                "Planted with the simulator in view: 1 of 2 found by an expected invariant, \
                 0 never reached; no median, because half or more were missed"
            ]
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
