//! `cargo sim replay`: runs a seed again and prints filtered events and states.

use std::io::BufRead;

use anyhow::{Context, Result, bail};

use super::{ReplayArgs, runs};
use crate::fleet::process;
use crate::params::parse_duration;
use crate::run::inspect::{State, difference};

/// Parses two moments, the first before the second: `10s..12s`, in milliseconds.
pub fn parse_moments(text: &str) -> Result<(u64, u64), String> {
    let error = || format!("{text:?}: two moments are written as 10s..12.5s");
    let (from, to) = text.split_once("..").ok_or_else(error)?;
    let (from, to) = parse_duration(from)
        .ok()
        .zip(parse_duration(to).ok())
        .ok_or_else(error)?;
    if from < to {
        Ok((from, to))
    } else {
        Err(error())
    }
}

/// Replays a seed and prints the requested events, states or differences.
pub fn replay(args: &ReplayArgs) -> Result<u8> {
    process::listen();
    let (job, _) = args.which.job()?;
    if let (Some(from), Some(until)) = (args.from, args.until)
        && from >= until
    {
        bail!("--from: before --until, which is {until}ms");
    }
    let more = words(args);
    let mut child = job
        .with(more)
        .start()
        .with_context(|| format!("start {}", job.replay()))?;
    let complained = child
        .stderr
        .take()
        .context("its standard error is a pipe")?;
    let mut states: Vec<State> = Vec::new();
    let mut shown: u64 = 0;
    for line in std::io::BufReader::new(complained).lines() {
        let line = line?;
        match serde_json::from_str(&line) {
            Ok(state) => states.push(state),
            Err(_) => {
                println!("{line}");
                shown += 1;
            }
        }
    }
    child.wait()?;
    let is_filtered = !args.machine.is_empty() || !args.kind.is_empty() || args.actor.is_some();
    if shown == 0 && is_filtered && args.diff.is_none() {
        eprintln!(
            "no event passed the filters; machines are like node2, execution1, user or world, \
             kinds begin with said, fault, net., disk. or actor"
        );
    }
    let is_shown = |path: &str| {
        let machine = path.split('.').next().unwrap_or_default();
        (args.machine.is_empty() || args.machine.iter().any(|known| known == machine))
            && args
                .actor
                .as_ref()
                .is_none_or(|actor| path.contains(actor.as_str()))
    };
    match (args.diff, states.as_slice()) {
        (Some(_), [before, after]) => {
            println!(
                "from {} to {} ms, events {} to {}:",
                before.at_ms, after.at_ms, before.events, after.events
            );
            for (path, old, new) in difference(before, after)
                .into_iter()
                .filter(|(path, ..)| is_shown(path))
            {
                println!(
                    "    {path:<56} {} -> {}",
                    old.unwrap_or("(not there)"),
                    new.unwrap_or("(not there)")
                );
            }
        }
        (None, [state]) => {
            println!("at {} ms, after {} events:", state.at_ms, state.events);
            for (path, value) in state.values.iter().filter(|(path, _)| is_shown(path)) {
                println!("    {path:<56} {value}");
            }
        }
        (None, []) if args.until.is_none() => {}
        _ => {
            bail!("the run ended before the moment requested; `cargo sim run` prints when and why")
        }
    }
    Ok(runs::code(true))
}

/// Returns the hidden arguments for the process of the run.
fn words(args: &ReplayArgs) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    let is_about_states = args.diff.is_some();
    if !is_about_states || !args.kind.is_empty() {
        word("show", "true".to_owned());
    }
    args.machine
        .iter()
        .for_each(|machine| word("machine", machine.clone()));
    args.kind.iter().for_each(|kind| word("kind", kind.clone()));
    args.actor
        .iter()
        .for_each(|actor| word("actor", actor.clone()));
    args.from
        .iter()
        .for_each(|from_ms| word("from-ms", from_ms.to_string()));
    args.until
        .iter()
        .for_each(|until_ms| word("state", until_ms.to_string()));
    args.diff.iter().for_each(|(before, after)| {
        word("state", before.to_string());
        word("state", after.to_string());
    });
    words
}
