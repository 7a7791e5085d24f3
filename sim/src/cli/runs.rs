//! The commands that run seeds: `sweep`, `run` and `check`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::summary::Summary;
use super::{
    CheckArgs, FAILED, INTERRUPTED, MISSED, PASSED, RunArgs, SweepArgs, TIMEOUT, job, jobs,
    mutants, pages,
};
use crate::fleet::ledger::{Build, Entry, Ledger, LedgerError, MAX_ENTRIES};
use crate::fleet::process::{self, Job, is_interrupted};
use crate::fleet::shards::{Preset, Shard};
use crate::fleet::sweep;
use crate::params::Stack;
use crate::plan::Plan;
use crate::plan::format::{self, Scenario};
use crate::run::outcome::{Outcome, Verdict};

/// Groups of counters that are printed as their sums: there is one for each forged message. The
/// coverage of a sweep and the JSON of a run name them.
const FORGERIES: [&str; 2] = ["forged.", "refused."];
/// Default time during which a sweep of one scenario starts runs.
const DEFAULT_SWEEP: Duration = Duration::from_secs(60);

/// Real-time limit of a run that was requested by its seed. It is long because the user can stop it
/// with Ctrl-C.
pub const PATIENCE_ALONE: Duration = Duration::from_secs(4 * 60 * 60);

/// Real-time limit of a run of a long scenario: an hour of simulated time takes minutes.
const PATIENCE_LONG: Duration = Duration::from_secs(60 * 60);

/// Returns the exit code of a command whose result is valid only if it was not interrupted.
pub(super) fn code(passed: bool) -> u8 {
    match (is_interrupted(), passed) {
        (true, _) => INTERRUPTED,
        (false, true) => PASSED,
        (false, false) => FAILED,
    }
}

/// Returns the exit code of a sweep or run; a failure stands even if the rest was interrupted.
fn code_of(verdict: Verdict) -> u8 {
    match (is_interrupted(), verdict) {
        (_, Verdict::Failed) => FAILED,
        (true, _) => INTERRUPTED,
        (false, Verdict::Passed) => PASSED,
        (false, Verdict::Timeout) => TIMEOUT,
    }
}

/// First seed of a preset, unless `--from` names another one.
const FIRST_SEED: u64 = 1;

fn first_seed(args: &SweepArgs) -> u64 {
    args.from.unwrap_or(FIRST_SEED)
}

/// Runs every scenario once, then the mixed one until the time is over.
pub fn default_sweep(from: Option<u64>) -> anyhow::Result<u8> {
    println!(
        "running every scenario on the fast stack for a minute; \
         `cargo sim --help` lists other commands"
    );
    if from.is_none() {
        println!("the seeds are the same each time; `cargo sim --from random` draws others");
    }
    let timeout = process::PATIENCE.as_secs();
    let stack = Some(Stack::Fast);
    sweep(&SweepArgs {
        preset: Some(Preset::Smoke),
        stack,
        timeout,
        from,
        ..SweepArgs::default()
    })
}

/// Loads the scenarios of a sweep. A preset has all of them, with the mixed one first so that it is
/// the first generated one; only the preset of long ones has the long ones.
fn chosen(args: &SweepArgs) -> anyhow::Result<Vec<Scenario>> {
    let Some(preset) = args.preset else {
        return Ok(vec![format::load(&args.scenario)?]);
    };
    let names = format::list()?.into_keys();
    let mut all = names
        .map(|name| format::load(&name))
        .collect::<Result<Vec<_>, _>>()?;
    all.retain(|scenario| scenario.plan.is_long() == preset.is_long());
    all.sort_by_key(|scenario| scenario.plan.name != "mixed");
    Ok(all)
}

/// Returns the runs of a sweep in order, each as an index into `scenarios` and a seed.
fn order(args: &SweepArgs, scenarios: &[Scenario]) -> Box<dyn Iterator<Item = (usize, u64)>> {
    let all: Box<dyn Iterator<Item = (usize, u64)>> = match args.preset {
        Some(preset) => {
            let is_drawn: Vec<bool> = scenarios
                .iter()
                .map(|scenario| scenario.swarm.is_some())
                .collect();
            let first = first_seed(args);
            Box::new(
                preset
                    .runs(&is_drawn)
                    .map(move |(at, seed)| (at, seed.saturating_sub(1).saturating_add(first))),
            )
        }
        None => {
            let seeds = args
                .seeds
                .as_ref()
                .map_or(1..u64::MAX, |seeds| seeds.0.clone());
            Box::new(seeds.map(|seed| (0, seed)))
        }
    };
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    Box::new(all.filter(move |run| shard.has(*run)))
}

/// Returns the time after which no more runs are started, or `None` without a limit.
fn limit(args: &SweepArgs) -> anyhow::Result<Option<Duration>> {
    Ok(match (args.minutes, args.preset, &args.seeds) {
        (Some(minutes), ..) => Some(Duration::try_from_secs_f64(minutes * 60.0)?),
        (None, Some(preset), _) => preset.limit(),
        (None, None, Some(_)) => None,
        (None, None, None) => Some(DEFAULT_SWEEP),
    })
}

pub fn sweep(args: &SweepArgs) -> anyhow::Result<u8> {
    process::listen();
    let scenarios = chosen(args)?;
    let limit = limit(args)?;
    let diary = RefCell::new(Diary::open(args)?);
    if let Some(preset) = args.preset
        && !args.json
    {
        println!("{}", seeds_of(preset, first_seed(args)));
    }
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    // The total is counted one by one, because ranges of seeds are short.
    let total = args
        .seeds
        .as_ref()
        .map(|seeds| seeds.0.clone().filter(|seed| shard.has((0, *seed))).count());
    let mut summary = Summary::new(total.map(|total| total as u64), args.json);
    let began = std::time::Instant::now();
    let mut order = order(args, &scenarios);
    let mut owed = owed(args, &scenarios, shard);
    let stops = args.first || args.mutant.is_some();
    let next = || {
        loop {
            let is_late = limit.is_some_and(|limit| began.elapsed() > limit);
            if is_interrupted() || is_late && !owed.contains(&true) {
                return None;
            }
            if stops && diary.borrow().failed.is_some() {
                return None;
            }
            let (at, seed) = order.next()?;
            let was_owed = owed.get_mut(at).is_some_and(std::mem::take);
            if is_late && !was_owed {
                continue;
            }
            let (mut job, plan) = job(scenarios.get(at)?, seed, args.stack, args.mutant.as_deref());
            job.patience = Duration::from_secs(args.timeout);
            if plan.is_long() {
                job.patience = job.patience.max(PATIENCE_LONG);
            }
            if !diary.borrow_mut().is_known(&job, &plan) {
                return Some((job, plan));
            }
        }
    };
    let mut written = Ok(());
    sweep::run(jobs(args.jobs), next, |_, job, outcome| {
        written = diary.borrow_mut().note(&scenarios, job, &outcome);
        let broke = outcome.found.is_some();
        summary.add(job, outcome);
        written.is_ok() && !(broke && stops)
    })?;
    summary.finish();
    written?;
    let diary = diary.into_inner();
    if !args.json {
        diary.tell();
    }
    if let Some(dir) = &args.report {
        pages::of_sweep(dir, &summary, diary.entries(), jobs(args.jobs))?;
    }
    if !args.json
        && let Some(mutant) = &args.mutant
    {
        println!("{}", verdict(mutant, &summary, diary.failed.as_ref()));
    }
    // A failure in the ledger counts, because a resumed sweep would otherwise hide it.
    let verdict = if diary.failed.is_some() {
        Verdict::Failed
    } else {
        summary.verdict()
    };
    Ok(match code_of(verdict) {
        PASSED if args.mutant.is_some() => MISSED,
        code => code,
    })
}

/// The seeds of a preset, and the option that repeats them.
fn seeds_of(preset: Preset, from: u64) -> String {
    let of_fixed = match preset.seeds() {
        Some(1) => format!("handwritten scenarios with seed {from}"),
        Some(seeds) => {
            let last = from.saturating_add(seeds - 1);
            format!("handwritten scenarios with seeds {from} to {last}")
        }
        None => format!("handwritten scenarios with seeds from {from} on"),
    };
    let of_drawn = match preset {
        Preset::Written => String::new(),
        Preset::Smoke | Preset::Change => format!(", then the mixed one from seed {from} on"),
        Preset::Long => format!(", then the generated one from seed {from} on"),
        Preset::Night => format!(", generated ones from seed {from} on"),
    };
    format!("{of_fixed}{of_drawn}; --from {from} repeats them")
}

/// Returns for each scenario if its first run is started even after the time limit: handwritten
/// scenarios with `--every`, if the preset has a run of them in this shard.
fn owed(args: &SweepArgs, scenarios: &[Scenario], shard: Shard) -> Vec<bool> {
    let seeds = args.preset.and_then(Preset::seeds).unwrap_or(u64::MAX);
    // The shards of a scenario's seeds repeat after as many seeds as there are shards.
    let any_seed = |at| {
        let from = first_seed(args);
        (0..seeds.min(shard.count())).any(|nth| shard.has((at, from.saturating_add(nth))))
    };
    let is_owed = |(at, one): (usize, &Scenario)| args.every && one.swarm.is_none() && any_seed(at);
    scenarios.iter().enumerate().map(is_owed).collect()
}

/// The records of a sweep besides the summary: its ledger and the entries for its reports.
struct Diary {
    /// `None` without a ledger and without reports, and then no run is recorded.
    build: Option<Build>,
    ledger: Option<Ledger>,
    /// Entries for the report about the sweep if there is no ledger, at most [`MAX_ENTRIES`].
    entries: Vec<Entry>,
    /// Number of runs that were skipped because the ledger had them.
    known: u64,
    /// Scenario and seed of the first skipped run that had failed.
    failed: Option<(String, u64)>,
}

impl Diary {
    fn open(args: &SweepArgs) -> anyhow::Result<Self> {
        let is_kept = args.ledger.is_some() || args.report.is_some();
        let build = is_kept.then(Build::current).transpose()?;
        let ledger = match (&args.ledger, &build) {
            (Some(path), Some(build)) => Some(Ledger::open(path, build.clone())?),
            _ => None,
        };
        Ok(Self {
            build,
            ledger,
            entries: Vec::new(),
            known: 0,
            failed: None,
        })
    }

    fn is_known(&mut self, job: &Job, plan: &Plan) -> bool {
        let Some(verdict) = self
            .ledger
            .as_ref()
            .and_then(|ledger| ledger.verdict(job, plan))
        else {
            return false;
        };
        self.known += 1;
        if verdict == Verdict::Failed && self.failed.is_none() {
            self.failed = Some((plan.name.clone(), job.seed));
        }
        true
    }

    fn note(
        &mut self,
        scenarios: &[Scenario],
        job: &Job,
        outcome: &Outcome,
    ) -> Result<(), LedgerError> {
        let Some(build) = &self.build else {
            return Ok(());
        };
        let Some(scenario) = scenarios
            .iter()
            .find(|scenario| scenario.path == job.scenario)
        else {
            return Ok(());
        };
        let entry = Entry::new(build, &scenario.plan(job.seed), outcome.clone());
        match &mut self.ledger {
            Some(ledger) => ledger.append(entry)?,
            None if self.entries.len() < MAX_ENTRIES => self.entries.push(entry),
            None => {}
        }
        Ok(())
    }

    fn entries(&self) -> &[Entry] {
        self.ledger.as_ref().map_or(&self.entries, Ledger::entries)
    }

    fn tell(&self) {
        let Some(ledger) = &self.ledger else { return };
        let of = |verdict| {
            ledger
                .entries()
                .iter()
                .filter(|entry| entry.verdict == verdict)
                .count()
        };
        println!(
            "ledger: {} runs, {} failed, {} timed out; \
             {} were there already and were not run again",
            ledger.entries().len(),
            of(Verdict::Failed),
            of(Verdict::Timeout),
            self.known,
        );
        if let Some((scenario, seed)) = &self.failed {
            println!("of the runs skipped, {scenario} seed {seed} had failed");
        }
    }
}

fn verdict(mutant: &str, summary: &Summary, known: Option<&(String, u64)>) -> String {
    let seconds = summary.elapsed().as_secs_f64();
    match summary.failures().first() {
        Some((_, outcome)) => {
            let name = outcome
                .found
                .as_ref()
                .map_or("unknown".to_owned(), |found| found.violation.name());
            let seed = outcome.seed;
            let runs = summary.runs();
            format!(
                "{mutant}: found by {name} at seed {seed}, after {runs} runs and {seconds:.0} s"
            )
        }
        None if known.is_some() => format!("{mutant}: found before, the ledger has the run"),
        None => {
            let runs = summary.runs();
            let reached = match summary.counter(mutants::REACHED) {
                0 => "its code was NEVER REACHED".to_owned(),
                times => format!("its code was reached {times} times"),
            };
            format!("{mutant}: NOT FOUND in {runs} runs and {seconds:.0} s; {reached}")
        }
    }
}

/// `cargo sim run`: runs one seed in its own process, under the same conditions as in a sweep.
pub fn run(args: &RunArgs) -> anyhow::Result<u8> {
    process::listen();
    let (mut first, plan) = args.which.job()?;
    let trace = format!("{:?}", args.trace).to_lowercase();
    if trace != "off" || args.log != tracing::metadata::LevelFilter::OFF {
        first.view = vec![
            "--trace".to_owned(),
            trace,
            "--log".to_owned(),
            args.log.to_string(),
        ];
    }
    first.patience = PATIENCE_ALONE;
    if let Some(file) = &args.report {
        first = first.with_page(file, args.messages.as_deref());
    }
    let again = first.replay();
    let Some(outcome) = alone(first, plan)? else {
        return Ok(INTERRUPTED);
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        println!("{outcome}");
        if outcome.found.is_some() {
            println!("    again: {again}");
        }
        let is_forgery = |name: &str| FORGERIES.iter().any(|prefix| name.starts_with(prefix));
        for (name, n) in outcome
            .counters
            .iter()
            .filter(|(name, _)| !is_forgery(name))
        {
            println!("    {name:<32} {n}");
        }
        for prefix in FORGERIES {
            let of_prefix = outcome.counters.iter();
            let of_prefix = of_prefix.filter(|(name, _)| name.starts_with(prefix));
            let total: u64 = of_prefix.map(|(_, n)| n).sum();
            if total > 0 {
                let name = format!("{prefix}*");
                println!("    {name:<32} {total}");
            }
        }
        args.report.iter().for_each(|file| pages::tell(file));
    }
    Ok(code_of(outcome.verdict()))
}

/// Runs one job, or returns `None` if it was interrupted.
pub fn alone(job: Job, plan: Plan) -> anyhow::Result<Option<Outcome>> {
    let mut ended = None;
    let mut only = Some((job, plan));
    sweep::run(
        1,
        || only.take(),
        |_, _, outcome| {
            ended = Some(outcome);
            true
        },
    )?;
    Ok(ended)
}

/// `cargo sim check`: runs each seed twice and compares the outcomes.
pub fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    process::listen();
    let scenario = format::load(&args.scenario)?;
    let total = args.seeds.0.end - args.seeds.0.start;
    let mut summary = Summary::new(Some(2 * total), false);
    let mut firsts: BTreeMap<u64, Outcome> = BTreeMap::new();
    let mut compared: u64 = 0;
    let mut differing: Vec<(Job, String)> = Vec::new();
    let mut all = args.seeds.0.clone().flat_map(|seed| [seed, seed]);
    let next = || {
        all.next()
            .map(|seed| job(&scenario, seed, None, args.mutant.as_deref()))
    };
    sweep::run(jobs(args.jobs), next, |_, job, mut outcome| {
        let shown = outcome.clone();
        (outcome.wall_ms, outcome.peak_kib) = (0, 0);
        // A run that timed out has no complete outcome to compare.
        if outcome.timeout_s.is_some() {
            summary.add(job, shown);
            return true;
        }
        match firsts.remove(&outcome.seed) {
            None => {
                firsts.insert(outcome.seed, outcome);
            }
            Some(first) => {
                compared += 1;
                if first != outcome {
                    differing.push((job.clone(), difference(&first, &outcome)));
                }
            }
        }
        summary.add(job, shown);
        true
    })?;
    summary.finish();
    println!("{compared} seeds run twice: {} differ", differing.len());
    for (job, what) in &differing {
        println!("seed {}: {what}\n    again: {}", job.seed, job.replay());
    }
    Ok(code_of(if differing.is_empty() {
        summary.verdict()
    } else {
        Verdict::Failed
    }))
}

fn difference(first: &Outcome, second: &Outcome) -> String {
    let counters: Vec<String> = first
        .counters
        .iter()
        .filter(|(name, n)| second.counters.get(*name) != Some(n))
        .take(5)
        .map(|(name, n)| {
            format!(
                "{name} {n} and {}",
                second.counters.get(name).copied().unwrap_or(0)
            )
        })
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
