//! `cargo sim bench`: measures the speed of the simulator over fixed worlds.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{BenchArgs, INTERRUPTED, PASSED, job, jobs};
use crate::fleet::process::{self, is_interrupted};
use crate::fleet::sweep;
use crate::params::Stack;
use crate::plan::format;
use crate::run::outcome::Outcome;

/// Names of the fixed worlds in `bench/`: 7 nodes, 600 simulated seconds.
const WORLDS: [&str; 2] = ["calm", "chaos"];

/// A row of the table, with medians over the seeds.
#[derive(Debug, Serialize)]
struct Row {
    world: &'static str,
    stack: Stack,
    seeds: usize,
    /// Real seconds of a run that has the machine to itself.
    seconds: f64,
    /// Extrapolated from `seconds` to one process per core, without contention between them.
    seeds_an_hour: f64,
    simulated_to_real: f64,
    events_a_second: f64,
    peak_mib: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn row(world: &'static str, stack: Stack, outcomes: &[Outcome]) -> Row {
    let of = |value: fn(&Outcome) -> f64| median(outcomes.iter().map(value).collect());
    let seconds = of(|outcome| outcome.wall_ms as f64 / 1e3);
    Row {
        world,
        stack,
        seeds: outcomes.len(),
        seconds,
        seeds_an_hour: 3_600.0 / seconds.max(1e-3) * jobs(None) as f64,
        simulated_to_real: of(|outcome| {
            outcome.simulated_ms as f64 / outcome.wall_ms.max(1) as f64
        }),
        events_a_second: of(|outcome| {
            outcome.events as f64 / (outcome.wall_ms.max(1) as f64 / 1e3)
        }),
        peak_mib: of(|outcome| outcome.peak_kib as f64 / 1024.0),
    }
}

/// Runs the seeds one at a time, because parallel runs would distort the times, and prints the
/// table.
pub fn bench(args: &BenchArgs) -> Result<u8> {
    process::listen();
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bench");
    let mut rows = Vec::new();
    for stack in [Stack::Fast, Stack::Full] {
        for world in WORLDS {
            let scenario = format::load(&dir.join(format!("{world}.toml")).display().to_string())?;
            let mut seeds = args.seeds.0.clone();
            let mut outcomes = Vec::new();
            sweep::run(
                1,
                || {
                    seeds
                        .next()
                        .map(|seed| job(&scenario, seed, Some(stack), None))
                },
                |_, _, outcome| {
                    eprintln!("{outcome}");
                    outcomes.push(outcome);
                    true
                },
            )?;
            if is_interrupted() {
                return Ok(INTERRUPTED);
            }
            if let Some(failed) = outcomes.iter().find(|outcome| !outcome.is_passed()) {
                bail!("a failed run is no measure of speed: {failed}");
            }
            rows.push(row(world, stack, &outcomes));
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(PASSED);
    }
    println!(
        "| world | stack | seeds | seconds a seed | seeds an hour, {} cores | simulated : real \
         | events a second | peak memory, MiB |",
        jobs(None)
    );
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        let Row {
            world,
            stack,
            seeds,
            seconds,
            seeds_an_hour,
            simulated_to_real,
            events_a_second,
            peak_mib,
        } = row;
        println!(
            "| {world} | {stack} | {seeds} | {seconds:.1} | {seeds_an_hour:.0} \
             | {simulated_to_real:.0} : 1 | {events_a_second:.0} | {peak_mib:.0} |"
        );
    }
    Ok(PASSED)
}
