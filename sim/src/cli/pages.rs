//! The commands that write HTML reports, and `merge`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::summary::Summary;
use super::{FAILED, INTERRUPTED, MergeArgs, PASSED, ReportArgs, runs};
use crate::fleet;
use crate::fleet::ledger::{self, Entry};
use crate::fleet::process::is_interrupted;
use crate::fleet::sweep;
use crate::plan::format;
use crate::report::{self, page_name};

/// Most reports about runs of one group of failures.
const PAGES_OF_GROUP: usize = 3;
/// Most reports about single runs of one sweep.
const MAX_PAGES: usize = 60;

/// `cargo sim report`: writes a report about one run, or about the runs of a ledger.
pub fn report(args: &ReportArgs) -> Result<u8> {
    let Some(which) = &args.which else {
        let path = args
            .ledger
            .as_deref()
            .context("neither a scenario nor a ledger is given")?;
        let lines = ledger::read(path)?;
        let file = args
            .output
            .clone()
            .unwrap_or_else(|| PathBuf::from("sweep.html"));
        write_index(&file, &lines.entries, lines.torn)?;
        tell(&file);
        return Ok(PASSED);
    };
    let (job, plan) = which.job()?;
    let name = || page_name(&plan.name, job.seed, job.mutant.as_deref());
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from(name()));
    // Removes an old report, because it could be mistaken for the new one if the run dies.
    remove(&file)?;
    let mut job = job.with_page(&file, args.messages.as_deref());
    job.patience = runs::PATIENCE_ALONE;
    let Some(outcome) = runs::alone(job, plan)? else {
        return Ok(INTERRUPTED);
    };
    println!("{outcome}");
    anyhow::ensure!(file.exists(), "the run ended before it wrote its report");
    tell(&file);
    // The command passes even if the run failed, because the report was the request.
    Ok(PASSED)
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| file.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Prints the path and size of a report.
pub fn tell(file: &Path) {
    if let Ok(about) = std::fs::metadata(file) {
        println!(
            "wrote {} ({:.1} MB)",
            file.display(),
            about.len() as f64 / 1e6
        );
    }
}

fn write_index(file: &Path, entries: &[Entry], torn: usize) -> Result<()> {
    let dir = file.parent().unwrap_or(Path::new(""));
    let page = report::sweep_page(entries, dir, torn)?;
    fleet::write_file(file, page.as_bytes()).with_context(|| file.display().to_string())
}

/// Writes the reports of a sweep: one for each of the first failing seeds of each group, which are
/// run again for it, and the index.
pub fn of_sweep(dir: &Path, summary: &Summary, entries: &[Entry], at_once: usize) -> Result<()> {
    let groups = summary.groups();
    let chosen = groups
        .values()
        .flat_map(|those| those.iter().take(PAGES_OF_GROUP))
        .take(MAX_PAGES);
    let mut chosen =
        Vec::from_iter(chosen.map(|failure| (failure.0.clone(), failure.1.clone()))).into_iter();
    let mut first = Vec::new();
    let next = || {
        let (job, outcome) = chosen.next()?;
        let plan = format::load(&job.scenario.display().to_string())
            .ok()?
            .plan(job.seed);
        let file = dir.join(page_name(
            &outcome.scenario,
            outcome.seed,
            outcome.mutant.as_deref(),
        ));
        let job = job.with_page(&file, None);
        first.push((file, outcome));
        Some((job, plan))
    };
    let mut again = Vec::new();
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    sweep::run(at_once, next, |number, _, outcome| {
        again.push((number, outcome));
        true
    })?;
    for (number, outcome) in again {
        let Some((file, before)) = first.get(number) else {
            continue;
        };
        match (file.exists(), before.trace_hash == outcome.trace_hash) {
            (false, _) => eprintln!(
                "no report about {} seed {}: the run ended before it wrote it",
                outcome.scenario, outcome.seed
            ),
            (true, true) => {}
            // The report shows a different run than the one that failed, so the reader needs a
            // warning.
            (true, false) => {
                println!(
                    "{} seed {}: the second run, for the report, differs from the first",
                    outcome.scenario, outcome.seed
                )
            }
        }
    }
    let index = dir.join("index.html");
    write_index(&index, entries, 0)?;
    if !is_interrupted() {
        eprintln!("pages: {}", index.display());
    }
    Ok(())
}

/// `cargo sim merge`: fails if two ledgers disagree about a run.
pub fn merge(args: &MergeArgs) -> Result<u8> {
    let merged = ledger::merge(&args.ledgers)?;
    ledger::write(&args.output, &merged.entries)?;
    println!(
        "{} runs of {} ledgers, {} of them in more than one, {} torn lines skipped",
        merged.entries.len(),
        args.ledgers.len(),
        merged.repeated,
        merged.torn
    );
    for (first, second) in &merged.differing {
        let hash = |entry: &Entry| {
            entry
                .outcome
                .trace_hash
                .get(..16)
                .unwrap_or("none")
                .to_owned()
        };
        println!(
            "{} seed {} has two results: {} with hash {}, and {} with hash {}",
            first.outcome.scenario,
            first.outcome.seed,
            first.verdict.name(),
            hash(first),
            second.verdict.name(),
            hash(second)
        );
    }
    Ok(if merged.differing.is_empty() {
        PASSED
    } else {
        FAILED
    })
}
