//! The command that says what seeds came through.

use serde_json::json;

use super::runs::code;
use super::summary::Summary;
use super::{CoverageArgs, INTERRUPTED, job};
use crate::coverage::Coverage;
use crate::process::{self, is_interrupted};
use crate::{scenario, sweep};

/// Runs the seeds and prints the table. Fails when something was never reached, or a run failed.
pub fn run(args: &CoverageArgs) -> anyhow::Result<u8> {
    process::listen();
    let scenarios = args.scenario.iter().map(|name| scenario::load(name)).collect::<Result<Vec<_>, _>>()?;
    let total = (args.seeds.0.end - args.seeds.0.start) * scenarios.len() as u64;
    let mut summary = Summary::new(Some(total), false);
    let mut coverage = Coverage::default();
    let seeds = &args.seeds.0;
    let mut jobs = scenarios.iter().flat_map(|one| seeds.clone().map(move |seed| job(one, seed, None, None)));
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
    let missing = coverage.missing();
    if args.json {
        let failed: Vec<u64> = summary.failures().iter().map(|(_, outcome)| outcome.seed).collect();
        let text =
            json!({ "runs": coverage.runs(), "failed": failed, "rows": coverage.rows(), "missing": missing });
        println!("{}", serde_json::to_string_pretty(&text)?);
        return Ok(code(missing.is_empty() && failed.is_empty()));
    }
    print!("{}", coverage.table());
    let passed = summary.finish();
    for (kind, names) in &missing {
        println!("never reached, {}: {}", kind.title(), names.join(", "));
    }
    Ok(code(passed && missing.is_empty()))
}
