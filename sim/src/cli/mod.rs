//! The command line behind `cargo sim`.

mod bench;
mod bisect;
mod coverage;
mod mutants;
mod pages;
mod replay;
mod runs;
mod show;
mod shrink;
mod summary;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing::metadata::LevelFilter;

use crate::events::Filter;
use crate::fleet::process::{self, Job, PATIENCE};
use crate::fleet::shards::{Preset, Shard};
use crate::invariants::Violation;
use crate::params::Stack;
use crate::params::parse_duration;
use crate::plan::Plan;
use crate::plan::format::{self, Scenario};
use crate::plan::mutants as planted;
use crate::run::sandbox::{self, Canary};
use crate::run::{self, Look, Mode, Trace, View};
use crate::{events, fleet, report};

/// Everything passed.
const PASSED: u8 = 0;
/// An invariant broke, or two runs of a seed differ.
const FAILED: u8 = 1;
/// The command line or a scenario file is wrong.
const WRONG: u8 = 2;
/// No invariant broke, and some runs were given up after too much real time.
const TIMEOUT: u8 = 3;
/// Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Whole Alys networks on one thread and one seed. Without a command: one scenario after the other, on the fast stack, for a
/// minute.
#[derive(Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds of a scenario, each in a process of its own.
    ///
    /// With --mutant it stops at the first seed that finds the planted bug, and says which invariant did.
    Sweep(SweepArgs),
    /// Run one seed of a scenario and print what came of it.
    Run(RunArgs),
    /// Run seeds twice, in two processes, and compare everything that came of them.
    Check(CheckArgs),
    /// Run a seed again and look into it: its events through filters, and what its nodes are like.
    ///
    /// With --until it stops there and tells the state of all nodes; with --diff it tells what changed between two moments.
    Replay(ReplayArgs),
    /// Make the plan of a failing seed small, as long as the same invariant breaks, and write it as a scenario file.
    Shrink(ShrinkArgs),
    /// Name the first event at which two runs of one seed differ.
    Bisect(BisectArgs),
    /// Say for each planted bug whether it is reached, and whether it is found by the invariant that was named for it.
    ///
    /// Fails when one is missed, or found by another invariant.
    Mutants(MutantsArgs),
    /// Write a page about a run, or about the runs of a ledger: one HTML file that needs nothing else.
    Report(ReportArgs),
    /// Join the ledgers of several sweeps, as shards write them.
    ///
    /// A run that came out differently in two of them fails the command: the simulator was not deterministic.
    Merge(MergeArgs),
    /// Say what seeds of a scenario came through, and fail if something that is listed was never reached.
    ///
    /// Listed are the sites of buggify, the kinds of faults and what they do, states of the protocol, and features of the
    /// workload. A thousand seeds of the mixed scenario should reach them all.
    Coverage(CoverageArgs),
    /// Measure how fast the simulator is, over two fixed worlds, on both stacks.
    Bench(BenchArgs),
    /// List the scenarios, the rules of the protocol with the scenarios that are about them, or the planted bugs.
    List(ListArgs),
    /// Explain scenario files: faults and their words, nodes, moments, invariants; or show the plan of a scenario.
    Describe(DescribeArgs),
    /// Print a completion script for a shell, for the program `alys-sim` behind `cargo sim`.
    Completions(CompletionArgs),
    #[command(name = process::ONE, hide = true)]
    One(OneArgs),
}

#[derive(Args, Default)]
struct SweepArgs {
    /// Seeds, the last one excluded: 1..200. Without it, as many as --minutes allows.
    #[arg(long, value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// Many scenarios, chosen for an occasion: smoke takes a minute, change five, night goes on until it is stopped.
    #[arg(long, value_enum, conflicts_with_all = ["seeds", "scenario"])]
    preset: Option<Preset>,
    /// Run every scenario that is written by hand once, whatever the time is.
    #[arg(long, requires = "preset")]
    every: bool,
    /// The seed that a preset begins with.
    #[arg(long, value_name = "SEED", default_value_t = 1, requires = "preset")]
    from: u64,
    /// Only a part of the runs, i of n with i from 0: those whose seed modulo n is i (moved on by one from scenario to scenario
    /// of a preset).
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// A file that gets a line of JSON for each run. What it has already of this build is not run again.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// A directory that gets pages about the first few failing seeds of each kind, and index.html about the sweep.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Real seconds after which a run is given up. That is a verdict of its own.
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs())]
    timeout: u64,
    /// The scenario's name or file.
    #[arg(long, default_value = "mixed")]
    scenario: String,
    /// Processes at once; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Real time after which no more seeds are started: 1 when neither --seeds nor --preset is given.
    #[arg(long)]
    minutes: Option<f64>,
    /// How much of the production stack the runs have; without it, drawn for scenarios that are drawn, else full.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// A planted bug (`cargo sim list --mutants`). It is found when the sweep fails: the exit code is 1 then, as for any failure.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
    /// Stop at the first failure.
    #[arg(long)]
    first: bool,
    /// One JSON object per run on the standard output, then the summary.
    #[arg(long)]
    json: bool,
}

/// Which run.
#[derive(Args)]
struct Which {
    /// The scenario's name or file.
    scenario: String,
    /// The seed; without it that of the file, or 1.
    #[arg(long)]
    seed: Option<u64>,
    /// How much of the production stack the run has; without it, as in a sweep.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// A planted bug (`cargo sim list --mutants`); without it that of the file.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
}

impl Which {
    /// The run's job, and its plan with the file's seed, stack and bug replaced by those of the run.
    fn job(&self) -> anyhow::Result<(Job, Plan)> {
        let scenario = format::load(&self.scenario)?;
        let (job, mut plan) = job(
            &scenario,
            scenario.seed(self.seed),
            self.stack,
            self.mutant.as_deref(),
        );
        (plan.seed, plan.mutant) = (Some(job.seed), job.mutant.clone());
        plan.world.stack = Some(job.stack);
        Ok((job, plan))
    }
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    which: Which,
    /// The outcome as JSON.
    #[arg(long)]
    json: bool,
    /// Show what the world does as it happens.
    #[arg(long, value_enum, num_args = 0..=1, default_value = "off", default_missing_value = "faults")]
    trace: Trace,
    /// Show what the nodes log: error, warn, info, debug or trace.
    #[arg(long, default_value = "off")]
    log: LevelFilter,
    /// Write a page about the run: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Put all messages of a part of the run onto the page, as 12s..15s; of the rest there is a sample and the end of the run.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_messages, requires = "report")]
    messages: Option<String>,
}

#[derive(Args)]
struct ReportArgs {
    #[command(flatten)]
    which: Option<Which>,
    /// The page is about the runs of this ledger. Pages about single runs that lie beside it are linked.
    #[arg(long, value_name = "FILE", conflicts_with = "Which")]
    ledger: Option<PathBuf>,
    /// The page; by default SCENARIO-SEED.html, and sweep.html for a ledger.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Put all messages of a part of the run onto the page, as 12s..15s; of the rest there is a sample and the end of the run.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_messages)]
    messages: Option<String>,
}

#[derive(Args)]
struct MergeArgs {
    /// The ledgers.
    #[arg(required = true)]
    ledgers: Vec<PathBuf>,
    /// The joined one.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
struct ListArgs {
    /// The rules of the protocol, covered and not.
    #[arg(long)]
    rules: bool,
    /// The planted bugs: what is broken, the scenario that hunts each, and the invariants that must find it.
    #[arg(long, conflicts_with = "rules")]
    mutants: bool,
    /// One JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[derive(Args)]
struct OneArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Events to be told on the standard error, the last one excluded.
    #[arg(long, value_parser = parse_seeds)]
    window: Option<Seeds>,
    /// Try to escape.
    #[arg(long, value_enum)]
    canary: Option<Canary>,
    /// Let escapes be.
    #[arg(long)]
    not_held: bool,
    /// Show events: those that pass all that follows.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set)]
    show: bool,
    #[arg(long)]
    machine: Vec<String>,
    #[arg(long)]
    kind: Vec<String>,
    #[arg(long)]
    actor: Option<String>,
    #[arg(long, default_value_t = 0)]
    from_ms: u64,
    /// Tell the states at these moments, in milliseconds, and stop.
    #[arg(long)]
    state: Vec<u64>,
}

#[derive(Args)]
struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Only this machine (node2, client1, user, world); may be given several times.
    #[arg(long)]
    machine: Vec<String>,
    /// Only kinds of events that begin so (said, fault, net., disk., actor); may be given several times.
    #[arg(long)]
    kind: Vec<String>,
    /// Only this actor, by a part of its path (chain/engine).
    #[arg(long)]
    actor: Option<String>,
    /// From this moment on (12s).
    #[arg(long, value_parser = parse_moment)]
    from: Option<u64>,
    /// Stop at this moment (12.5s, a tenth of a second is the finest) and tell the state of the nodes, after the events.
    #[arg(long, value_parser = parse_moment, conflicts_with = "diff")]
    until: Option<u64>,
    /// Tell what changed in the nodes between two moments (10s..12.5s). Events are shown only with --kind then.
    #[arg(long, value_parser = replay::parse_moments, value_name = "FROM..TO")]
    diff: Option<(u64, u64)>,
}

#[derive(Args)]
struct ShrinkArgs {
    #[command(flatten)]
    which: Which,
    /// Real time after which the smallest plan so far is taken.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Processes at once; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where the result goes; without it, target/shrunk.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What came of it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct BenchArgs {
    /// Seeds of each world and stack, the last one excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..4")]
    seeds: Seeds,
    /// The table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct BisectArgs {
    #[command(flatten)]
    which: Which,
    /// Pairs of runs until it is believed that there is no difference.
    #[arg(long, default_value_t = 3)]
    tries: u32,
    /// The difference as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CheckArgs {
    /// Seeds, the last one excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..21")]
    seeds: Seeds,
    /// The scenario's name or file.
    #[arg(long, default_value = "mixed")]
    scenario: String,
    /// Processes at once; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// A planted bug.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
}

#[derive(Args)]
struct MutantsArgs {
    /// Only these bugs.
    #[arg(long, value_parser = parse_mutant, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Seeds for each, the last one excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..501")]
    seeds: Seeds,
    /// Real time for each after which no more seeds are started.
    #[arg(long, default_value_t = 15.0)]
    minutes_each: f64,
    /// Look in this scenario, by name or file, and not in the one that each bug names.
    #[arg(long)]
    scenario: Option<String>,
    /// How much of the production stack the runs have.
    #[arg(long, value_enum, default_value_t = mutants::STACK)]
    stack: Stack,
    /// Processes at once; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// One JSON object per bug.
    #[arg(long)]
    json: bool,
    /// Write what was found into docs/mutants.md.
    #[arg(long)]
    write: bool,
}

#[derive(Args)]
struct CoverageArgs {
    /// Run nothing: the runs of this ledger.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "scenario", "jobs"])]
    ledger: Option<PathBuf>,
    /// Seeds, the last one excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..101")]
    seeds: Seeds,
    /// The scenarios' names or files; all seeds of each.
    #[arg(long, default_values = ["mixed"])]
    scenario: Vec<String>,
    /// Processes at once; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// The table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DescribeArgs {
    /// The scenario's name or file.
    scenario: Option<String>,
    /// For scenarios that are drawn: the seed; without it that of the file, or 1.
    #[arg(long)]
    seed: Option<u64>,
    /// The plan as JSON.
    #[arg(long)]
    json: bool,
    /// The plan as a scenario file: also what a seed drew.
    #[arg(long)]
    toml: bool,
    /// The JSON schema of scenario files, for editors.
    #[arg(long)]
    schema: bool,
}

/// A range of seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seeds(std::ops::Range<u64>);

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let error = || format!("{text:?}: seeds are a range as 1..200 (200 is not run), or one number");
    let range = match text.split_once("..") {
        Some((from, to)) => from
            .parse()
            .ok()
            .zip(to.parse().ok())
            .map(|(from, to)| from..to),
        None => text
            .parse()
            .ok()
            .map(|seed: u64| seed..seed.saturating_add(1)),
    };
    range
        .filter(|range| !range.is_empty())
        .map(Seeds)
        .ok_or_else(error)
}

fn parse_messages(text: &str) -> Result<String, String> {
    events::parse_window(text).map(|_| text.to_owned())
}

fn parse_moment(text: &str) -> Result<u64, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn parse_mutant(text: &str) -> Result<String, String> {
    if planted::find(text).is_some() {
        return Ok(text.to_owned());
    }
    let names = planted::ALL.iter().map(|planted| planted.name);
    let meant = format::nearest(text, names.clone())
        .map_or(String::new(), |m| format!("; did you mean {m}?"));
    Err(format!(
        "no planted bug {text:?}; there are {}{meant}",
        names.collect::<Vec<_>>().join(", ")
    ))
}

/// The program.
pub fn main() -> ExitCode {
    process::end_with_the_reader();
    let cli = Cli::parse();
    let result = match cli.command {
        None => runs::default_sweep(),
        Some(Command::Sweep(args)) => runs::sweep(&args),
        Some(Command::Run(args)) => runs::run(&args),
        Some(Command::Check(args)) => runs::check(&args),
        Some(Command::Replay(args)) => replay::replay(&args),
        Some(Command::Shrink(args)) => shrink::shrink(&args),
        Some(Command::Bench(args)) => bench::bench(&args),
        Some(Command::Bisect(args)) => bisect::bisect(&args),
        Some(Command::Mutants(args)) => mutants::mutants(&args),
        Some(Command::Coverage(args)) => coverage::run(&args),
        Some(Command::Report(args)) => pages::report(&args),
        Some(Command::Merge(args)) => pages::merge(&args),
        Some(Command::List(args)) => show::list(&args),
        Some(Command::Describe(args)) => show::describe(&args),
        Some(Command::Completions(args)) => {
            clap_complete::generate(
                args.shell,
                &mut Cli::command(),
                "alys-sim",
                &mut std::io::stdout(),
            );
            Ok(PASSED)
        }
        Some(Command::One(args)) => one(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(WRONG)
        }
    }
}

/// Runs a seed in this process.
fn one(args: &OneArgs) -> anyhow::Result<u8> {
    let OneArgs {
        run: args,
        window,
        canary,
        not_held,
        show,
        machine,
        kind,
        actor,
        from_ms,
        state,
    } = args;
    let (job, plan) = args.which.job()?;
    let (seed, stack) = (job.seed, job.stack);
    let mutant = job.mutant.as_deref().and_then(planted::find);
    let view = View {
        logs: args.log,
        trace: args.trace,
    };
    if !not_held {
        let (job, plan) = (job.clone(), plan.clone());
        sandbox::watch(move |escape| {
            let violation = Violation::Escaped {
                what: escape.to_string(),
            };
            if let Ok(line) = serde_json::to_string(&job.lost(&plan, 0, violation)) {
                println!("{line}");
            }
            std::process::exit(FAILED.into());
        });
    }
    let messages = args
        .messages
        .as_deref()
        .and_then(|text| events::parse_window(text).ok());
    let record = args
        .report
        .is_some()
        .then(|| events::Recorder::new(&plan.world, messages));
    let window = window.as_ref().map(|Seeds(window)| window.clone());
    let to_ms = state.iter().copied().max();
    let filter = Filter {
        machines: machine.clone(),
        kinds: kind.clone(),
        actor: actor.clone(),
        from_ms: *from_ms,
        to_ms,
    };
    let look = Look {
        events: show.then_some(filter),
        states: state.clone(),
    };
    let is_held = !not_held;
    let mode = Mode {
        mutant,
        stack,
        view,
        is_held,
        canary: *canary,
        window,
        record: record.clone(),
        look,
    };
    let outcome = run::run(&plan, seed, mode);
    if let (Some(file), Some(record)) = (&args.report, &record) {
        let page = report::run_page(&plan, &outcome, record, &job.replay())?;
        fleet::write_file(file, page.as_bytes()).with_context(|| file.display().to_string())?;
    }
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(if outcome.is_passed() { PASSED } else { FAILED })
}

/// How much of the production stack a run has if nobody says: all of it where the plan is written by hand.
fn stack_of(scenario: &Scenario, seed: u64) -> Stack {
    let drawn = if scenario.swarm.is_some() {
        Stack::drawn(seed)
    } else {
        Stack::Full
    };
    scenario.plan.world.stack.unwrap_or(drawn)
}

/// A job of this scenario, and its plan. The planted bug is the file's unless another is given.
fn job(scenario: &Scenario, seed: u64, stack: Option<Stack>, mutant: Option<&str>) -> (Job, Plan) {
    let path: PathBuf = scenario.path.clone();
    let stack = stack.unwrap_or_else(|| stack_of(scenario, seed));
    let job = Job {
        scenario: path,
        seed,
        stack,
        mutant: mutant
            .map(str::to_owned)
            .or_else(|| scenario.plan.mutant.clone()),
        view: Vec::new(),
        more: Vec::new(),
        patience: PATIENCE,
    };
    (job, scenario.plan(seed))
}

fn jobs(given: Option<usize>) -> usize {
    given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
