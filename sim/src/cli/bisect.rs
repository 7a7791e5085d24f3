//! `cargo sim bisect`: finds the first event at which two runs of one seed differ.

use std::io::Read;
use std::process::Child;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{BisectArgs, FAILED, INTERRUPTED, runs};
use crate::fleet::process::{self, Job};
use crate::run::bisect::{self, Parting, Record};
use crate::run::outcome::Outcome;

#[derive(Serialize)]
struct Answer<'a> {
    scenario: &'a str,
    seed: u64,
    hashes: [&'a str; 2],
    before: &'a [Record],
    one: Option<&'a Record>,
    other: Option<&'a Record>,
}

/// Runs a seed in pairs of new processes until a pair differs, and prints the first differing
/// event.
pub fn bisect(args: &BisectArgs) -> Result<u8> {
    process::listen();
    let (job, _) = args.which.job()?;
    for pair in 1..=args.tries.max(1) {
        if process::is_interrupted() {
            return Ok(INTERRUPTED);
        }
        let [one, other] = both(&job)?.map(|(outcome, _)| outcome);
        let is_same = one.trace_hash == other.trace_hash;
        let Some(window) = bisect::window(&one.snapshots, &other.snapshots, is_same) else {
            eprintln!(
                "pair {pair}: equal, hash {} over {} events",
                one.trace_hash, one.events
            );
            continue;
        };
        let from = *window.start();
        let to = *window.end();
        let last = one.events.max(other.events).min(to);
        eprintln!(
            "pair {pair}: the runs diverge between events {from} and {last}; \
             running both again to compare each event"
        );
        // The leaked value can vary from pair to pair. If the recorded pair has no difference, the
        // next pair is tried.
        let again = job.with([
            "--window".to_owned(),
            format!("{from}..{}", to.saturating_add(1)),
        ]);
        let [(one, mine), (other, theirs)] = both(&again)?;
        if let Some(parting) = bisect::first_difference(&mine, &theirs) {
            show(args, [&one, &other], &parting)?;
            return Ok(FAILED);
        }
    }
    let scenario = &args.which.scenario;
    let seed = job.seed;
    println!(
        "{scenario} seed {seed}: no difference found in {} pairs of processes",
        args.tries
    );
    Ok(runs::code(true))
}

fn show(args: &BisectArgs, [one, other]: [&Outcome; 2], parting: &Parting) -> Result<()> {
    let Parting {
        before,
        one: mine,
        other: theirs,
    } = parting;
    if args.json {
        let answer = Answer {
            scenario: &one.scenario,
            seed: one.seed,
            hashes: [&one.trace_hash, &other.trace_hash],
            before,
            one: mine.as_ref(),
            other: theirs.as_ref(),
        };
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    for record in before {
        println!("    {}", record.line());
    }
    let line = |record: &Option<Record>| {
        record
            .as_ref()
            .map_or("no further event".to_owned(), Record::line)
    };
    println!("one:   {}\nother: {}", line(mine), line(theirs));
    Ok(())
}

/// The outcome of a run, and its recorded events.
type Ended = (Outcome, Vec<Record>);

/// Runs a job in two processes at the same time.
fn both(job: &Job) -> Result<[Ended; 2]> {
    let children = [start(job)?, start(job)?];
    let [one, other] = children.map(|child| std::thread::spawn(move || finish(child)));
    let join = |thread: std::thread::JoinHandle<Result<Ended>>| match thread.join() {
        Ok(ended) => ended,
        Err(_) => anyhow::bail!("the thread that reads a run panicked"),
    };
    Ok([join(one)?, join(other)?])
}

fn start(job: &Job) -> Result<Child> {
    job.start()
        .with_context(|| format!("start {}", job.replay()))
}

fn finish(mut child: Child) -> Result<Ended> {
    let mut pipe = child
        .stderr
        .take()
        .context("its standard error is a pipe")?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text)
            .map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .context("its standard output is a pipe")?
        .read_to_string(&mut stdout)?;
    let stderr = match reader.join() {
        Ok(text) => text?,
        Err(_) => anyhow::bail!("the thread that reads a run panicked"),
    };
    let status = child.wait()?;
    let outcome = stdout
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok());
    let outcome = outcome
        .with_context(|| format!("the run ended without an outcome ({status}):\n{stderr}"))?;
    Ok((
        outcome,
        stderr
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
    ))
}
