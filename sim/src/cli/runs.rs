//! The commands that run seeds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::summary::Summary;
use super::{CheckArgs, FAILED, INTERRUPTED, PASSED, RunArgs, SweepArgs, job, jobs};
use crate::outcome::Outcome;
use crate::process::{self, Job, is_interrupted};
use crate::scenario;
use crate::sweep;

/// How long the sweep without arguments starts new runs.
const DEFAULT_SWEEP: Duration = Duration::from_secs(50);

pub(super) fn code(passed: bool) -> u8 {
    match (is_interrupted(), passed) {
        (true, _) => INTERRUPTED,
        (false, true) => PASSED,
        (false, false) => FAILED,
    }
}

/// Every scenario once, then the mixed one until the time is over.
pub fn default_sweep() -> anyhow::Result<u8> {
    process::listen();
    let scenarios =
        scenario::list()?.into_keys().map(|name| scenario::load(&name)).collect::<Result<Vec<_>, _>>()?;
    let mixed = scenario::load("mixed")?;
    println!(
        "every scenario once, then seeds of the mixed one, for a minute; `cargo sim --help` shows what else there is"
    );
    let mut summary = Summary::new(None, false);
    let began = std::time::Instant::now();
    let mut fixed = scenarios.iter().filter(|scenario| scenario.swarm.is_none());
    let mut seed = 0;
    let next = || match fixed.next() {
        Some(scenario) => Some(job(scenario, 1, None, None)),
        None if began.elapsed() < DEFAULT_SWEEP => {
            seed += 1;
            Some(job(&mixed, seed, None, None))
        }
        None => None,
    };
    sweep::run(jobs(None), next, |_, job, outcome| {
        summary.add(job, outcome);
        true
    })?;
    Ok(code(summary.finish()))
}

pub fn sweep(args: &SweepArgs) -> anyhow::Result<u8> {
    process::listen();
    let scenario = scenario::load(&args.scenario)?;
    let limit = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    let total = args.seeds.as_ref().map(|seeds| seeds.0.end - seeds.0.start);
    let mut summary = Summary::new(total, args.json);
    let began = std::time::Instant::now();
    let mut seeds = args.seeds.as_ref().map_or(1..u64::MAX, |seeds| seeds.0.clone());
    let next = || match args.seeds.is_none() && began.elapsed() > limit {
        true => None,
        false => seeds.next().map(|seed| job(&scenario, seed, args.stack, args.mutant.as_deref())),
    };
    let stops = args.first || args.mutant.is_some();
    sweep::run(jobs(args.jobs), next, |_, job, outcome| {
        let passed = outcome.is_passed();
        summary.add(job, outcome);
        passed || !stops
    })?;
    let passed = summary.finish();
    if let (Some(mutant), false) = (&args.mutant, args.json) {
        println!("{}", verdict(mutant, &summary));
    }
    Ok(code(passed))
}

fn verdict(mutant: &str, summary: &Summary) -> String {
    let seconds = summary.elapsed().as_secs_f64();
    match summary.failures().first() {
        Some((_, outcome)) => {
            let name = outcome.found.as_ref().map_or("unknown".to_owned(), |found| found.violation.name());
            let (seed, runs) = (outcome.seed, summary.runs());
            format!("{mutant}: found by {name} at seed {seed}, after {runs} runs and {seconds:.0} s")
        }
        None => format!("{mutant}: NOT FOUND in {} runs and {seconds:.0} s", summary.runs()),
    }
}

/// One seed, in a process of its own so that it is the same as in a sweep.
pub fn run(args: &RunArgs) -> anyhow::Result<u8> {
    process::listen();
    let scenario = scenario::load(&args.scenario)?;
    let mutant = args.mutant.as_ref().or(scenario.plan.mutant.as_ref());
    let seed = scenario.seed(args.seed);
    let (mut first, plan) = job(&scenario, seed, args.stack, mutant.map(String::as_str));
    let trace = format!("{:?}", args.trace).to_lowercase();
    if trace != "off" || args.log != tracing::metadata::LevelFilter::OFF {
        first.view = vec!["--trace".to_owned(), trace, "--log".to_owned(), args.log.to_string()];
    }
    let mut ended = None;
    let mut only = Some((first, plan));
    sweep::run(
        1,
        || only.take(),
        |_, _, outcome| {
            ended = Some(outcome);
            true
        },
    )?;
    let Some(outcome) = ended else { return Ok(INTERRUPTED) };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&outcome)?),
        false => {
            println!("{outcome}");
            for (name, n) in &outcome.counters {
                println!("    {name:<32} {n}");
            }
        }
    }
    Ok(code(outcome.is_passed()))
}

/// Runs seeds twice.
pub fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    process::listen();
    let scenario = scenario::load(&args.scenario)?;
    let total = args.seeds.0.end - args.seeds.0.start;
    let mut summary = Summary::new(Some(2 * total), false);
    let mut firsts: BTreeMap<u64, Outcome> = BTreeMap::new();
    let mut differing: Vec<(Job, String)> = Vec::new();
    let mut all = args.seeds.0.clone().flat_map(|seed| [seed, seed]);
    let next = || all.next().map(|seed| job(&scenario, seed, None, args.mutant.as_deref()));
    sweep::run(jobs(args.jobs), next, |_, job, mut outcome| {
        let shown = outcome.clone();
        (outcome.wall_ms, outcome.peak_kib) = (0, 0);
        match firsts.remove(&outcome.seed) {
            None => {
                firsts.insert(outcome.seed, outcome);
            }
            Some(first) if first == outcome => {}
            Some(first) => differing.push((job.clone(), difference(&first, &outcome))),
        }
        summary.add(job, shown);
        true
    })?;
    summary.finish();
    let compared = summary.runs() / 2;
    println!("{compared} seeds run twice: {} differ", differing.len());
    for (job, what) in &differing {
        println!("seed {}: {what}\n    again: {}", job.seed, job.replay());
    }
    Ok(code(differing.is_empty()))
}

fn difference(first: &Outcome, second: &Outcome) -> String {
    let counters: Vec<String> = first
        .counters
        .iter()
        .filter(|(name, n)| second.counters.get(*name) != Some(n))
        .take(5)
        .map(|(name, n)| format!("{name} {n} and {}", second.counters.get(name).copied().unwrap_or(0)))
        .collect();
    format!(
        "hashes {} and {}, {} and {} events; {}",
        first.trace_hash.get(..16).unwrap_or_default(),
        second.trace_hash.get(..16).unwrap_or_default(),
        first.events,
        second.events,
        counters.join(", ")
    )
}
