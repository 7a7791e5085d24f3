//! `cargo sim shrink`: minimizes the plan of a failing seed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{FAILED, INTERRUPTED, PASSED, ShrinkArgs, jobs, runs};
use crate::fleet::process::{self, Job, is_interrupted};
use crate::fleet::shrink::{self, Lab};
use crate::fleet::sweep;
use crate::plan::Plan;
use crate::plan::format;

/// Runs candidate plans, each written to its own file, and shows the progress.
struct Bench {
    /// Template of all runs; only the scenario file differs.
    job: Job,
    /// Group of the original failure, see `Outcome::group`; a candidate must reproduce it.
    group: Option<String>,
    dir: PathBuf,
    jobs: usize,
    until: Instant,
    runs: u64,
    bar: ProgressBar,
    /// The error that ended the search early, if any.
    failed: Option<anyhow::Error>,
}

impl Bench {
    fn run(&mut self, plans: &[Plan]) -> Result<Option<(usize, u64)>> {
        let mut files = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            let file = self.dir.join(format!("candidate-{number}.toml"));
            std::fs::write(&file, format::to_toml(plan))
                .with_context(|| file.display().to_string())?;
            files.push(file);
        }
        let mut next = files.iter().zip(plans);
        let next = || {
            next.next().map(|(file, plan)| {
                (
                    Job {
                        scenario: file.clone(),
                        ..self.job.clone()
                    },
                    plan.clone(),
                )
            })
        };
        let mut ended: Vec<Option<Option<u64>>> = vec![None; plans.len()];
        let mut runs = 0;
        let group = self.group.clone();
        sweep::run(self.jobs, next, |number, _, outcome| {
            runs += 1;
            let is_same = outcome.found.is_some() && outcome.group() == group;
            ended[number] = Some(is_same.then(|| outcome.found.map_or(0, |found| found.at_ms)));
            // The first failing candidate is the result, so those before it are awaited and those
            // after it are not.
            !is_decided(&ended)
        })?;
        self.runs += runs;
        self.bar.inc(runs);
        Ok(ended
            .iter()
            .enumerate()
            .find_map(|(index, ended)| Some((index, ended.flatten()?))))
    }
}

/// Returns true if a candidate fails and all candidates before it have ended.
fn is_decided(ended: &[Option<Option<u64>>]) -> bool {
    ended
        .iter()
        .take_while(|ended| ended.is_some())
        .any(|ended| ended.flatten().is_some())
}

impl Lab for Bench {
    fn first_failing(&mut self, plans: &[Plan]) -> Option<(usize, u64)> {
        match self.run(plans) {
            Ok(found) => found,
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    fn is_over(&self) -> bool {
        self.failed.is_some() || is_interrupted() || Instant::now() > self.until
    }

    fn smaller(&mut self, plan: &Plan) {
        self.bar.set_message(size(plan));
    }
}

fn size(plan: &Plan) -> String {
    let Plan {
        steps,
        world,
        workload,
        until_ms,
        ..
    } = plan;
    let seconds = *until_ms as f64 / 1e3;
    format!(
        "{} faults, {} nodes, {} users, {seconds} s",
        steps.len(),
        world.nodes,
        workload.users
    )
}

/// Minimizes the plan of a failing seed and writes it as a scenario file.
pub fn shrink(args: &ShrinkArgs) -> Result<u8> {
    process::listen();
    let (first, plan) = args.which.job()?;
    let seed = first.seed;
    let began = Instant::now();
    let Some(outcome) = runs::alone(first.clone(), plan.clone())? else {
        return Ok(INTERRUPTED);
    };
    if let Some(seconds) = outcome.timeout_s {
        bail!(
            "{} seed {seed} timed out after {seconds} s, so there is no failure to reproduce",
            args.which.scenario
        );
    }
    let Some(found) = outcome.found.clone() else {
        bail!(
            "{} seed {seed} passes: there is nothing to shrink \
             (is a --mutant or another --stack missing?)",
            args.which.scenario
        );
    };
    let invariant = found.violation.name();
    eprintln!("{invariant} at {} ms with {}", found.at_ms, size(&plan));
    let dir = tempdir()?;
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {pos} runs; {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let mut bench = Bench {
        job: first,
        group: outcome.group(),
        dir: dir.clone(),
        jobs: jobs(args.jobs),
        until: began + Duration::try_from_secs_f64(args.minutes * 60.0)?,
        runs: 1,
        bar,
        failed: None,
    };
    let (mut small, is_minimal) = shrink::shrink(&plan, found.at_ms, &mut bench);
    bench.bar.finish_and_clear();
    // A failure to remove the directory is harmless, because it is in the system's temporary
    // directory.
    let _ = std::fs::remove_dir_all(&dir);
    if let Some(error) = bench.failed.take() {
        return Err(error);
    }
    let original = plan.name.clone();
    small.why = format!(
        "{invariant}: shrunk from seed {seed} of {original}, {} faults before.",
        plan.steps.len()
    );
    small.covers.clear();
    let file = args.output.clone().unwrap_or_else(|| {
        PathBuf::from(format!("target/shrunk/{original}-{invariant}-{seed}.toml"))
    });
    write(&file, &small)?;
    let seconds = began.elapsed().as_secs();
    let how = match (is_minimal, is_interrupted()) {
        (true, _) => "no single fault can be removed",
        (false, true) => "interrupted",
        (false, false) => "out of time; increase --minutes for a smaller plan",
    };
    if args.json {
        let line = serde_json::json!({
            "invariant": invariant,
            "seed": seed,
            "file": file,
            "runs": bench.runs,
            "seconds": seconds,
            "faults_before": plan.steps.len(),
            "faults": small.steps.len(),
            "nodes": small.world.nodes,
            "users": small.workload.users,
            "until_ms": small.until_ms,
            "one_minimal": is_minimal,
        });
        println!("{line}");
    } else {
        println!(
            "{invariant}: {} after {} runs and {seconds} s; {how}",
            size(&small),
            bench.runs
        );
        println!(
            "{}\n    again: cargo sim run {}",
            file.display(),
            file.display()
        );
    }
    Ok(if is_interrupted() {
        INTERRUPTED
    } else {
        FAILED * u8::from(!is_minimal) + PASSED
    })
}

fn write(file: &Path, plan: &Plan) -> Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    std::fs::write(file, format::to_toml(plan)).with_context(|| file.display().to_string())
}

fn tempdir() -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("alys-shrink-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}
