//! What a sweep came to, for people and for machines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::outcome::Outcome;
use crate::process::Job;

/// Failures that are printed; the rest is counted.
const SHOWN: usize = 10;

/// Counts runs as they end.
pub struct Summary {
    began: Instant,
    bar: ProgressBar,
    json: bool,
    runs: u64,
    failures: Vec<(Job, Outcome)>,
    simulated_ms: u64,
    wall_ms: u64,
    blocks: u64,
    counters: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Totals<'a> {
    runs: u64,
    failed: usize,
    real_ms: u64,
    simulated_ms: u64,
    final_blocks: u64,
    failures: Vec<&'a Outcome>,
    counters: &'a BTreeMap<String, u64>,
}

impl Summary {
    /// Nothing has run yet. `total`: how many runs there will be, if that is known.
    pub fn new(total: Option<u64>, json: bool) -> Self {
        let bar = match total {
            Some(total) => {
                let bar = ProgressBar::new(total);
                let template = "{elapsed_precise} [{bar:40}] {pos}/{len} {msg}";
                bar.set_style(
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
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
            simulated_ms: 0,
            wall_ms: 0,
            blocks: 0,
            counters: BTreeMap::new(),
        }
    }

    /// A run has ended.
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
        if !outcome.is_passed() {
            if !self.json && self.failures.len() < SHOWN {
                self.bar.suspend(|| println!("{outcome}\n    again: {}", job.replay()));
            }
            self.failures.push((job.clone(), outcome));
        }
        self.bar.set_message(format!("{} failed, {} final blocks", self.failures.len(), self.blocks));
        self.bar.inc(1);
    }

    /// Real time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// The runs that failed.
    pub fn failures(&self) -> &[(Job, Outcome)] {
        &self.failures
    }

    /// Prints the whole. True when all runs passed.
    pub fn finish(&self) -> bool {
        self.bar.finish_and_clear();
        let real = self.began.elapsed();
        if self.json {
            let totals = Totals {
                runs: self.runs,
                failed: self.failures.len(),
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
        let (simulated, wall) = (self.simulated_ms as f64 / 1e3, self.wall_ms.max(1) as f64 / 1e3);
        println!(
            "{} runs, {} failed, in {:.0} s: {:.0} s simulated ({:.0} a second and process), {} final blocks, {} transactions",
            self.runs,
            self.failures.len(),
            real.as_secs_f64(),
            simulated,
            simulated / wall,
            self.blocks,
            self.counters.get("transactions.final").copied().unwrap_or(0),
        );
        let faults: Vec<String> = self
            .counters
            .iter()
            .filter_map(|(name, n)| Some(format!("{} {n}", name.strip_prefix("fault.")?)))
            .collect();
        if !faults.is_empty() {
            println!("faults: {}", faults.join(", "));
        }
        let mut by_violation: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (_, outcome) in &self.failures {
            let name = outcome.found.as_ref().map_or("unknown".to_owned(), |found| found.violation.name());
            by_violation.entry(name).or_default().push(outcome.seed);
        }
        for (name, seeds) in by_violation {
            let first: Vec<String> = seeds.iter().take(SHOWN).map(u64::to_string).collect();
            println!("{name}: {} times, seeds {}", seeds.len(), first.join(", "));
        }
        self.failures.is_empty()
    }
}
