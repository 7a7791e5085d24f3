//! The command line behind `cargo sim`.

mod runs;
mod show;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use alys_types::mutant::Mutant;
use clap::{Args, Parser, Subcommand};
use tracing::metadata::LevelFilter;

use crate::plan::Plan;
use crate::process::{self, Job};
use crate::scenario::{self, Scenario};
use crate::stack::Stack;
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
    /// Say for each planted bug whether and by what the sweep finds it.
    Mutants(MutantsArgs),
    /// List the scenarios, or the rules of the protocol with the scenarios that are about them.
    List(ListArgs),
    /// Explain scenario files: faults and their words, nodes, moments, invariants; or show the plan of a scenario.
    Describe(DescribeArgs),
    #[command(name = process::ONE, hide = true)]
    One(RunArgs),
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
}

#[derive(Args)]
struct MutantsArgs {
    /// Seeds for each, the last one excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..101")]
    seeds: Seeds,
    /// The scenario's name or file.
    #[arg(long, default_value = "mixed")]
    scenario: String,
    /// Processes at once; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Args)]
struct ListArgs {
    /// The rules of the protocol, covered and not.
    #[arg(long)]
    rules: bool,
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
    let names = Mutant::ALL.iter().map(|(name, _)| *name);
    let meant =
        scenario::nearest(text, names.clone()).map_or(String::new(), |m| format!("; did you mean {m}?"));
    Err(format!("no planted bug {text:?}; there are {}{meant}", names.collect::<Vec<_>>().join(", ")))
}

fn mutant(name: &str) -> Option<(&'static str, Mutant)> {
    Mutant::ALL.iter().find(|(known, _)| *known == name).copied()
}

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => runs::default_sweep(),
        Some(Command::Sweep(args)) => runs::sweep(&args),
        Some(Command::Run(args)) => runs::run(&args),
        Some(Command::Check(args)) => runs::check(&args),
        Some(Command::Mutants(args)) => runs::mutants(&args),
        Some(Command::List(args)) => show::list(&args),
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
fn one(args: &RunArgs) -> anyhow::Result<u8> {
    let scenario = scenario::load(&args.scenario)?;
    let seed = scenario.seed(args.seed);
    let mutant = args.mutant.as_deref().and_then(mutant);
    let view = View { logs: args.log, trace: args.trace };
    let stack = args.stack.unwrap_or_else(|| stack_of(&scenario, seed));
    let outcome = world::run(&scenario.plan(seed), seed, Mode { mutant, stack, view });
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
    let job = Job { scenario: path, seed, stack, mutant: mutant.map(str::to_owned), view: Vec::new() };
    (job, scenario.plan(seed))
}

fn jobs(given: Option<usize>) -> usize {
    given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
