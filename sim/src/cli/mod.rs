//! The command line behind `cargo sim`.

mod bisect;
mod coverage;
mod mutants;
mod runs;
mod show;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use alys_types::mutant::Mutant;
use clap::{Args, Parser, Subcommand};
use tracing::metadata::LevelFilter;

use crate::oracles::Violation;
use crate::plan::Plan;
use crate::process::{self, Job};
use crate::scenario::{self, Scenario};
use crate::stack::Stack;
use crate::trap::{self, Canary};
use crate::world::{self, Mode, Trace, View};

/// Everything passed.
const PASSED: u8 = 0;
/// An invariant broke, or two runs of a seed differ.
const FAILED: u8 = 1;
/// The command line or a scenario file is wrong.
const WRONG: u8 = 2;
/// Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Whole Alys networks on one thread and one seed. Without a command: every scenario once, then the mixed one for the rest
/// of a minute.
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
    /// Name the first event at which two runs of one seed differ.
    Bisect(BisectArgs),
    /// Say for each planted bug whether it is reached, and whether it is found by the invariant that was named for it.
    ///
    /// Fails when one is missed, or found by another invariant.
    Mutants(MutantsArgs),
    /// Say what seeds of a scenario came through, and fail if something that is listed was never reached.
    ///
    /// Listed are the sites of buggify, the kinds of faults and what they do, states of the protocol, and features of the
    /// workload. A thousand seeds of the mixed scenario should reach them all.
    Coverage(CoverageArgs),
    /// List the scenarios.
    List,
    /// Explain scenario files: faults and their words, nodes, moments, invariants; or show the plan of a scenario.
    Describe(DescribeArgs),
    #[command(name = process::ONE, hide = true)]
    One(OneArgs),
}

#[derive(Args)]
struct SweepArgs {
    /// Seeds, the last one excluded: 1..200. Without it, as many as --minutes allows.
    #[arg(long, value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// The scenario's name or file.
    #[arg(long, default_value = "mixed")]
    scenario: String,
    /// Processes at once; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Real time after which no more seeds are started.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How much of the production stack the runs have; without it, drawn for scenarios that are drawn, else full.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// A planted bug: the sweep must fail.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
    /// Stop at the first failure.
    #[arg(long)]
    first: bool,
    /// One JSON object per run on the standard output, then the summary.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RunArgs {
    /// The scenario's name or file.
    scenario: String,
    /// The seed; without it that of the file, or 1.
    #[arg(long)]
    seed: Option<u64>,
    /// How much of the production stack the run has; without it, as in a sweep.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// A planted bug; without it that of the file.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
    /// The outcome as JSON.
    #[arg(long)]
    json: bool,
    /// Show what the world does as it happens.
    #[arg(long, value_enum, num_args = 0..=1, default_value = "off", default_missing_value = "faults")]
    trace: Trace,
    /// Show what the nodes log: error, warn, info, debug or trace.
    #[arg(long, default_value = "off")]
    log: LevelFilter,
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
}

#[derive(Args)]
struct BisectArgs {
    /// The scenario's name or file.
    scenario: String,
    /// The seed; without it, the file's.
    #[arg(long)]
    seed: Option<u64>,
    /// How much of the production stack the run has; without it, as in a sweep.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// A planted bug.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
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
        Some((from, to)) => from.parse().ok().zip(to.parse().ok()).map(|(from, to)| from..to),
        None => text.parse().ok().map(|seed: u64| seed..seed.saturating_add(1)),
    };
    range.filter(|range| !range.is_empty()).map(Seeds).ok_or_else(error)
}

fn parse_mutant(text: &str) -> Result<String, String> {
    if mutant(text).is_some() {
        return Ok(text.to_owned());
    }
    let names = Mutant::ALL.iter().map(|planted| planted.name);
    let meant =
        scenario::nearest(text, names.clone()).map_or(String::new(), |m| format!("; did you mean {m}?"));
    Err(format!("no planted bug {text:?}; there are {}{meant}", names.collect::<Vec<_>>().join(", ")))
}

fn mutant(name: &str) -> Option<(&'static str, Mutant)> {
    Mutant::ALL.iter().find(|planted| planted.name == name).map(|planted| (planted.name, planted.mutant))
}

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => runs::default_sweep(),
        Some(Command::Sweep(args)) => runs::sweep(&args),
        Some(Command::Run(args)) => runs::run(&args),
        Some(Command::Check(args)) => runs::check(&args),
        Some(Command::Bisect(args)) => bisect::bisect(&args),
        Some(Command::Mutants(args)) => mutants::mutants(&args),
        Some(Command::Coverage(args)) => coverage::run(&args),
        Some(Command::List) => show::list(),
        Some(Command::Describe(args)) => show::describe(&args),
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
    let OneArgs { run: args, window, canary, not_held } = args;
    let scenario = scenario::load(&args.scenario)?;
    let seed = scenario.seed(args.seed);
    let mutant = args.mutant.as_deref().and_then(mutant);
    let view = View { logs: args.log, trace: args.trace };
    let stack = args.stack.unwrap_or_else(|| stack_of(&scenario, seed));
    let plan = scenario.plan(seed);
    if !not_held {
        let (job, plan) = job(&scenario, seed, Some(stack), args.mutant.as_deref());
        trap::watch(move |escape| {
            let violation = Violation::Escaped { what: escape.to_string() };
            if let Ok(line) = serde_json::to_string(&world::lost(&plan, &job, 0, violation)) {
                println!("{line}");
            }
            std::process::exit(FAILED.into());
        });
    }
    let window = window.as_ref().map(|Seeds(window)| window.clone());
    let mode = Mode { mutant, stack, view, is_held: !not_held, canary: *canary, window };
    let outcome = world::run(&plan, seed, mode);
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(if outcome.is_passed() { PASSED } else { FAILED })
}

/// How much of the production stack a run has if nobody says: all of it where the plan is written by hand.
fn stack_of(scenario: &Scenario, seed: u64) -> Stack {
    if scenario.swarm.is_some() { Stack::drawn(seed) } else { Stack::Full }
}

/// A job of this scenario, and its plan.
fn job(scenario: &Scenario, seed: u64, stack: Option<Stack>, mutant: Option<&str>) -> (Job, Plan) {
    let path: PathBuf = scenario.path.clone();
    let stack = stack.unwrap_or_else(|| stack_of(scenario, seed));
    let job = Job {
        scenario: path,
        seed,
        stack,
        mutant: mutant.map(str::to_owned),
        view: Vec::new(),
        more: Vec::new(),
    };
    (job, scenario.plan(seed))
}

fn jobs(given: Option<usize>) -> usize {
    given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
