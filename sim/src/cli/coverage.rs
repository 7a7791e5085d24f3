//! `cargo sim coverage`: reports which listed items the runs of a sweep reached.

use serde_json::json;

use super::runs::code;
use super::summary::Summary;
use super::{CoverageArgs, INTERRUPTED, job};
use crate::fleet::coverage::Coverage;
use crate::fleet::ledger::{self, Entry};
use crate::fleet::process::{self, is_interrupted};
use crate::fleet::sweep;
use crate::plan::format;

/// Runs the seeds, or reads the runs of a ledger, and prints the table. Fails if a listed item was
/// never reached, or a run failed.
pub fn run(args: &CoverageArgs) -> anyhow::Result<u8> {
    let mut coverage = Coverage::default();
    let mut failed = Vec::new();
    if let Some(path) = &args.ledger {
        let all = ledger::read(path)?.entries;
        let newest = all.last().map(|entry| entry.build.clone());
        // Runs of older builds, and runs with a planted bug, are no evidence about the newest
        // build.
        let (those, others): (Vec<Entry>, Vec<Entry>) = all.into_iter().partition(|entry| {
            Some(&entry.build) == newest.as_ref() && entry.outcome.mutant.is_none()
        });
        for Entry { outcome, .. } in those {
            coverage.add(&outcome);
            failed.extend((!outcome.is_passed()).then_some(outcome.seed));
        }
        if !others.is_empty() {
            eprintln!(
                "left out: {} runs of other builds than the newest, or with a planted bug",
                others.len()
            );
        }
        return show(&coverage, &failed, args.json);
    }
    process::listen();
    let scenarios = args
        .scenario
        .iter()
        .map(|name| format::load(name))
        .collect::<Result<Vec<_>, _>>()?;
    let total = (args.seeds.0.end - args.seeds.0.start) * scenarios.len() as u64;
    let mut summary = Summary::new(Some(total), false);
    let seeds = &args.seeds.0;
    let mut jobs = scenarios
        .iter()
        .flat_map(|one| seeds.clone().map(move |seed| job(one, seed, None, None)));
    sweep::run(
        super::jobs(args.jobs),
        || jobs.next(),
        |_, job, outcome| {
            coverage.add(&outcome);
            summary.add(job, outcome);
            true
        },
    )?;
    if is_interrupted() {
        return Ok(INTERRUPTED);
    }
    if !args.json {
        summary.finish();
    }
    failed.extend(summary.failures().iter().map(|(_, outcome)| outcome.seed));
    failed.extend(summary.timeouts().iter().map(|job| job.seed));
    show(&coverage, &failed, args.json)
}

/// Prints the table and the items that were never reached, and returns the exit code.
fn show(coverage: &Coverage, failed: &[u64], as_json: bool) -> anyhow::Result<u8> {
    let missing = coverage.missing();
    if as_json {
        let text = json!({
            "runs": coverage.runs(),
            "failed": failed,
            "rows": coverage.rows(),
            "missing": missing,
        });
        println!("{}", serde_json::to_string_pretty(&text)?);
    } else {
        print!("{}", coverage.table());
        for (kind, names) in &missing {
            println!("never reached, {}: {}", kind.title(), names.join(", "));
        }
        println!("{} runs, {} failed", coverage.runs(), failed.len());
    }
    Ok(code(missing.is_empty() && failed.is_empty()))
}
