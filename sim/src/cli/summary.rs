//! The summary of a sweep, as text or JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::fleet::process::Job;
use crate::run::outcome::{Outcome, Verdict};

/// Most failures printed one by one; the totals count all of them.
const SHOWN: usize = 10;

/// Collects outcomes as runs end, and shows the progress.
pub struct Summary {
    began: Instant,
    bar: ProgressBar,
    json: bool,
    runs: u64,
    failures: Vec<(Job, Outcome)>,
    /// Runs that exceeded their real-time limit.
    timeouts: Vec<Job>,
    simulated_ms: u64,
    wall_ms: u64,
    blocks: u64,
    counters: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Totals<'a> {
    runs: u64,
    failed: usize,
    timeouts: usize,
    real_ms: u64,
    simulated_ms: u64,
    final_blocks: u64,
    failures: Vec<&'a Outcome>,
    counters: &'a BTreeMap<String, u64>,
}

impl Summary {
    /// Creates an empty summary. `total` is the expected number of runs, if known.
    pub fn new(total: Option<u64>, json: bool) -> Self {
        let bar = match total {
            Some(total) => {
                let bar = ProgressBar::new(total);
                let template = "{elapsed_precise} [{bar:40}] {pos}/{len} {msg}";
                bar.set_style(
                    ProgressStyle::with_template(template)
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
                bar
            }
            None => {
                let bar = ProgressBar::new_spinner();
                let template = "{elapsed_precise} {spinner} {pos} runs {msg}";
                bar.set_style(
                    ProgressStyle::with_template(template)
                        .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                bar
            }
        };
        Self {
            began: Instant::now(),
            bar,
            json,
            runs: 0,
            failures: Vec::new(),
            timeouts: Vec::new(),
            simulated_ms: 0,
            wall_ms: 0,
            blocks: 0,
            counters: BTreeMap::new(),
        }
    }

    /// Records a run, and prints it if it did not pass.
    pub fn add(&mut self, job: &Job, outcome: Outcome) {
        self.runs += 1;
        self.simulated_ms += outcome.simulated_ms;
        self.wall_ms += outcome.wall_ms;
        self.blocks += outcome.final_height;
        for (name, n) in &outcome.counters {
            *self.counters.entry(name.clone()).or_default() += n;
        }
        if self.json
            && let Ok(line) = serde_json::to_string(&outcome)
        {
            println!("{line}");
        }
        if outcome.verdict() != Verdict::Passed {
            let shown = self.failures.len() + self.timeouts.len();
            if !self.json && shown < SHOWN {
                self.bar
                    .suspend(|| println!("{outcome}\n    again: {}", job.replay()));
            }
        }
        match outcome.verdict() {
            Verdict::Passed => {}
            Verdict::Failed => self.failures.push((job.clone(), outcome)),
            Verdict::Timeout => self.timeouts.push(job.clone()),
        }
        let timeouts = match self.timeouts.len() {
            0 => String::new(),
            n => format!("{n} timed out, "),
        };
        self.bar.set_message(format!(
            "{} failed, {timeouts}{} final blocks",
            self.failures.len(),
            self.blocks
        ));
        self.bar.inc(1);
    }

    /// Returns the real time since the summary was created.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the number of runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Returns a counter, summed over all runs.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    pub fn failures(&self) -> &[(Job, Outcome)] {
        &self.failures
    }

    /// Returns the jobs of the runs that exceeded their real-time limit.
    pub fn timeouts(&self) -> &[Job] {
        &self.timeouts
    }

    /// Returns the worst verdict of all runs: a failure, else a timeout, else a pass.
    pub fn verdict(&self) -> Verdict {
        match (self.failures.is_empty(), self.timeouts.is_empty()) {
            (false, _) => Verdict::Failed,
            (true, false) => Verdict::Timeout,
            (true, true) => Verdict::Passed,
        }
    }

    /// Groups the failures by probable cause, see [`Outcome::group`]; the run with the fewest
    /// events comes first in each group.
    pub fn groups(&self) -> BTreeMap<String, Vec<&(Job, Outcome)>> {
        let mut groups: BTreeMap<String, Vec<&(Job, Outcome)>> = BTreeMap::new();
        for failure in &self.failures {
            groups
                .entry(failure.1.group().unwrap_or_default())
                .or_default()
                .push(failure);
        }
        groups
            .values_mut()
            .for_each(|those| those.sort_by_key(|(_, outcome)| (outcome.events, outcome.seed)));
        groups
    }

    /// Prints the totals and the groups of failures. Returns true if no run failed.
    pub fn finish(&self) -> bool {
        self.bar.finish_and_clear();
        let real = self.began.elapsed();
        if self.json {
            let totals = Totals {
                runs: self.runs,
                failed: self.failures.len(),
                timeouts: self.timeouts.len(),
                real_ms: real.as_millis() as u64,
                simulated_ms: self.simulated_ms,
                final_blocks: self.blocks,
                failures: self.failures.iter().map(|(_, outcome)| outcome).collect(),
                counters: &self.counters,
            };
            if let Ok(line) = serde_json::to_string(&totals) {
                println!("{line}");
            }
            return self.failures.is_empty();
        }
        let simulated = self.simulated_ms as f64 / 1e3;
        let wall = self.wall_ms.max(1) as f64 / 1e3;
        println!(
            "{} runs, {} failed, {} timed out, in {:.0} s: {:.0} s simulated \
             ({:.0} a second and process), {} final blocks, {} transactions",
            self.runs,
            self.failures.len(),
            self.timeouts.len(),
            real.as_secs_f64(),
            simulated,
            simulated / wall,
            self.blocks,
            self.counter("transactions.final"),
        );
        let faults: Vec<String> = self
            .counters
            .iter()
            .filter_map(|(name, n)| Some(format!("{} {n}", name.strip_prefix("fault.")?)))
            .collect();
        if !faults.is_empty() {
            println!("faults: {}", faults.join(", "));
        }
        for (name, those) in self.groups() {
            let seeds: Vec<String> = those
                .iter()
                .take(SHOWN)
                .map(|(_, outcome)| format!("{} {}", outcome.scenario, outcome.seed))
                .collect();
            println!("{name}: {} times, {}", those.len(), seeds.join(", "));
            if let Some((job, _)) = those.first() {
                println!("    again: {}", job.replay());
            }
        }
        if let Some(job) = self.timeouts.first() {
            println!("timeout: {} times", self.timeouts.len());
            println!("    again: {}", job.replay());
        }
        self.failures.is_empty()
    }
}
