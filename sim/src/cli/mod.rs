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

use std::hash::{BuildHasher, RandomState};
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

/// Exit code: every run passed.
const PASSED: u8 = 0;
/// Exit code: an invariant broke, or two runs of one seed differ.
const FAILED: u8 = 1;
/// Exit code: the command line or a scenario file is invalid.
const WRONG: u8 = 2;
/// Exit code: no invariant broke, and at least one run exceeded its real-time limit.
const TIMEOUT: u8 = 3;
/// Exit code of a sweep with `--mutant` whose runs all passed: the planted bug was not found.
const MISSED: u8 = 4;
/// Exit code after Ctrl-C or SIGTERM.
const INTERRUPTED: u8 = 130;

/// Simulate whole Alys networks, each on one thread and from one seed. Without a command, run the
/// scenarios one after the other on the fast stack for a minute.
#[derive(Parser)]
#[command(
    name = "cargo sim",
    bin_name = "cargo sim",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    /// First seed of the run without a command, 1 by default; random draws one and prints it.
    #[arg(long, value_name = "SEED", value_parser = parse_from)]
    from: Option<u64>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds of a scenario, each in its own process.
    ///
    /// With --mutant, the sweep stops at the first seed that finds the planted bug and names the
    /// invariant that detected it.
    Sweep(SweepArgs),
    /// Run one seed of a scenario and print its outcome.
    Run(RunArgs),
    /// Run each seed twice, in two processes, and compare the outcomes to detect nondeterminism.
    Check(CheckArgs),
    /// Replay a seed and inspect it: print filtered events and the state of its nodes.
    ///
    /// With --until, the replay stops at that moment and prints the state of all nodes; with
    /// --diff, it prints the state that changed between two moments.
    Replay(ReplayArgs),
    /// Minimize the plan of a failing seed while the same invariant breaks, and write it as a
    /// scenario file.
    Shrink(ShrinkArgs),
    /// Find the first event at which two runs of one seed differ.
    Bisect(BisectArgs),
    /// Check that each planted bug is reached, and that its expected invariant finds it.
    ///
    /// Fails if a bug is missed, or found by another invariant.
    Mutants(MutantsArgs),
    /// Write a report about a run, or about all runs of a ledger, as one self-contained HTML file.
    Report(ReportArgs),
    /// Merge the ledgers of several sweeps, such as those written by shards.
    ///
    /// Fails if two ledgers hold different results for the same run, because the simulator was then
    /// not deterministic.
    Merge(MergeArgs),
    /// Report the coverage of a scenario's seeds, and fail if a listed item was never reached.
    ///
    /// The list holds buggify sites, kinds of faults, effects of faults, states of the protocol,
    /// and features of the workload. A thousand seeds of the mixed scenario should reach all of
    /// them.
    Coverage(CoverageArgs),
    /// Measure the simulator's speed over two fixed worlds, on both stacks.
    Bench(BenchArgs),
    /// List the scenarios, the rules of the protocol with the scenarios that cover them, or the
    /// planted bugs.
    List(ListArgs),
    /// Explain the format of scenario files (faults, nodes, moments, invariants), or print the plan
    /// of a scenario.
    Describe(DescribeArgs),
    /// Print a shell completion script for `alys-sim`, the program behind `cargo sim`.
    Completions(CompletionArgs),
    #[command(name = process::ONE, hide = true)]
    One(OneArgs),
}

#[derive(Args, Default)]
struct SweepArgs {
    /// Range of seeds, end excluded: 1..200 runs 199 seeds. Without it, new seeds are started until
    /// --minutes elapse.
    #[arg(long, value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// Run a predefined set of scenarios: smoke takes a minute, change five, night runs until it is
    /// stopped, long has the scenarios of an hour of simulated time, which no other preset has;
    /// written runs every handwritten scenario once and nothing else.
    #[arg(long, value_enum, conflicts_with_all = ["seeds", "scenario"])]
    preset: Option<Preset>,
    /// Run every handwritten scenario at least once, even after the time limit.
    #[arg(long, requires = "preset")]
    every: bool,
    /// First seed of the preset, 1 by default; random draws one. The output names it.
    #[arg(long, value_name = "SEED", value_parser = parse_from, requires = "preset")]
    from: Option<u64>,
    /// Run only shard I of N, with I from 0: the runs whose seed modulo N equals I (in a preset,
    /// shifted by one for each scenario).
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Append one line of JSON per run to this file, and skip the runs that it already holds for
    /// this build.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Write reports about the first failing seeds of each group of failures into this directory,
    /// and an index.html about the sweep.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Real seconds after which a run is aborted and counted as a timeout, which is neither a pass
    /// nor a failure.
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs())]
    timeout: u64,
    /// Scenario, by name or file.
    #[arg(long, default_value = "mixed")]
    scenario: String,
    /// Number of parallel processes; one per core by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Real minutes after which no more seeds are started; defaults to 1 if neither --seeds nor
    /// --preset is given.
    #[arg(long)]
    minutes: Option<f64>,
    /// Signatures and links to use: full is the production stack, fast replaces both. By default
    /// generated scenarios draw it from the seed, and handwritten ones use full.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// Planted bug to enable, see `cargo sim list --mutants`. A sweep that finds the bug exits with
    /// code 1, as for any failure, and one that does not with code 4.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
    /// Stop at the first failure.
    #[arg(long)]
    first: bool,
    /// Print one JSON object per run to standard output, then one with the totals.
    #[arg(long)]
    json: bool,
}

/// Selects one run: scenario, seed, stack and planted bug.
#[derive(Args)]
struct Which {
    /// Scenario, by name or file.
    scenario: String,
    /// Seed; defaults to the seed in the scenario file, or 1.
    #[arg(long)]
    seed: Option<u64>,
    /// Signatures and links to use; the default is the same as in a sweep.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// Planted bug to enable, see `cargo sim list --mutants`; defaults to the bug in the scenario
    /// file.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
}

impl Which {
    /// Returns the job, and the plan with its seed, stack and bug replaced by those of the job.
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
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    /// Print events of the simulation as they happen.
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        default_value = "off",
        default_missing_value = "faults"
    )]
    trace: Trace,
    /// Print log lines of the nodes from this level on: error, warn, info, debug or trace.
    #[arg(long, default_value = "off")]
    log: LevelFilter,
    /// Write a report about the run as one self-contained HTML file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Include every message of this part of the run in the report, as in 12s..15s. Outside of it,
    /// the report has a sample and the end of the run.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_messages, requires = "report")]
    messages: Option<String>,
}

#[derive(Args)]
struct ReportArgs {
    #[command(flatten)]
    which: Option<Which>,
    /// Report on the runs of this ledger, with links to reports about single runs in the same
    /// directory.
    #[arg(long, value_name = "FILE", conflicts_with = "Which")]
    ledger: Option<PathBuf>,
    /// Output file; defaults to SCENARIO-SEED.html, or sweep.html for a ledger.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Include every message of this part of the run in the report, as in 12s..15s. Outside of it,
    /// the report has a sample and the end of the run.
    #[arg(long, value_name = "FROM..TO", value_parser = parse_messages)]
    messages: Option<String>,
}

#[derive(Args)]
struct MergeArgs {
    /// Ledgers to merge.
    #[arg(required = true)]
    ledgers: Vec<PathBuf>,
    /// File for the merged ledger.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
struct ListArgs {
    /// List the rules of the protocol, with the scenarios that cover each or the reason why none
    /// does.
    #[arg(long)]
    rules: bool,
    /// List the planted bugs, each with its mistake, the scenario that searches for it, and the
    /// invariants that must find it.
    #[arg(long, conflicts_with = "rules")]
    mutants: bool,
    /// Print one JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CompletionArgs {
    /// Shell to complete for.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[derive(Args)]
struct OneArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Range of event numbers to record on standard error, end excluded.
    #[arg(long, value_parser = parse_seeds)]
    window: Option<Seeds>,
    /// Escape from the sandbox in this way, to test that the sandbox stops it.
    #[arg(long, value_enum)]
    canary: Option<Canary>,
    /// Run without the sandbox.
    #[arg(long)]
    not_held: bool,
    /// Print the events that pass all of the filters below.
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
    /// Print the states of the nodes at these moments, in milliseconds, and stop at the last one.
    #[arg(long)]
    state: Vec<u64>,
}

#[derive(Args)]
struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Print only events of this machine (node2, execution1, user, world); can be repeated.
    #[arg(long)]
    machine: Vec<String>,
    /// Print only events whose kind begins with this prefix (said, fault, net., disk., actor); can
    /// be repeated.
    #[arg(long)]
    kind: Vec<String>,
    /// Print only events of actors whose path contains this text (chain/engine).
    #[arg(long)]
    actor: Option<String>,
    /// Print only events from this moment on (12s).
    #[arg(long, value_parser = parse_moment)]
    from: Option<u64>,
    /// Stop at this moment and print the state of the nodes after the events (12.5s; the resolution
    /// is a tenth of a second).
    #[arg(long, value_parser = parse_moment, conflicts_with = "diff")]
    until: Option<u64>,
    /// Print the state that changed in the nodes between two moments (10s..12.5s). Events are then
    /// printed only with --kind.
    #[arg(long, value_parser = replay::parse_moments, value_name = "FROM..TO")]
    diff: Option<(u64, u64)>,
}

#[derive(Args)]
struct ShrinkArgs {
    #[command(flatten)]
    which: Which,
    /// Real minutes after which the smallest plan so far is the result.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Number of parallel processes; one per core by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Output file; defaults to a file in target/shrunk.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct BenchArgs {
    /// Range of seeds for each world and stack, end excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..4")]
    seeds: Seeds,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct BisectArgs {
    #[command(flatten)]
    which: Which,
    /// Pairs of runs that must be equal before the command reports no difference.
    #[arg(long, default_value_t = 3)]
    tries: u32,
    /// Print the difference as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CheckArgs {
    /// Range of seeds, end excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..21")]
    seeds: Seeds,
    /// Scenario, by name or file.
    #[arg(long, default_value = "mixed")]
    scenario: String,
    /// Number of parallel processes; one per core by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Planted bug to enable, see `cargo sim list --mutants`.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<String>,
}

#[derive(Args)]
struct MutantsArgs {
    /// Test only these bugs, separated by commas.
    #[arg(long, value_parser = parse_mutant, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Range of seeds for each bug, end excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..501")]
    seeds: Seeds,
    /// Real minutes for each bug after which no more seeds are started.
    #[arg(long, default_value_t = 15.0)]
    minutes_each: f64,
    /// Search in this scenario, by name or file, instead of the scenario that each bug names.
    #[arg(long)]
    scenario: Option<String>,
    /// Signatures and links to use: full is the production stack, fast replaces both.
    #[arg(long, value_enum, default_value_t = mutants::STACK)]
    stack: Stack,
    /// Number of parallel processes; one per core by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print one JSON object per bug.
    #[arg(long)]
    json: bool,
    /// Write the results to docs/mutants.md.
    #[arg(long)]
    write: bool,
}

#[derive(Args)]
struct CoverageArgs {
    /// Run nothing, and report the coverage of the runs in this ledger.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "scenario", "jobs"])]
    ledger: Option<PathBuf>,
    /// Range of seeds, end excluded.
    #[arg(long, value_parser = parse_seeds, default_value = "1..101")]
    seeds: Seeds,
    /// Scenarios, by name or file; every seed is run in each.
    #[arg(long, default_values = ["mixed"])]
    scenario: Vec<String>,
    /// Number of parallel processes; one per core by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DescribeArgs {
    /// Scenario, by name or file.
    scenario: Option<String>,
    /// Seed of a generated scenario; defaults to the seed in the scenario file, or 1.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
    /// Print the plan as a scenario file, including the faults drawn from the seed.
    #[arg(long)]
    toml: bool,
    /// Print the JSON schema of scenario files, for editors.
    #[arg(long)]
    schema: bool,
}

/// A nonempty range of seeds, or of event numbers for `--window`.
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

/// Seeds below this limit are drawn by `--from random`, so that they stay short.
const DRAWN_SEEDS: u64 = 1_000_000_000;

/// Parses the first seed of a sweep; `random` draws one.
fn parse_from(text: &str) -> Result<u64, String> {
    if text == "random" {
        // The keys of a new hasher are random.
        let drawn = RandomState::new().hash_one(std::process::id());
        return Ok(1 + drawn % DRAWN_SEEDS);
    }
    text.parse()
        .map_err(|_| format!("{text:?}: expected a seed, as 7, or random"))
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
    Err(match format::nearest(text, names.clone()) {
        Some(meant) => format!(
            "no planted bug {text:?}; did you mean {meant}? `cargo sim list --mutants` shows all"
        ),
        None => format!(
            "no planted bug {text:?}; there are {}",
            names.collect::<Vec<_>>().join(", ")
        ),
    })
}

/// Parses the command line, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    process::end_with_the_reader();
    let cli = Cli::parse();
    let result = match cli.command {
        None => runs::default_sweep(cli.from),
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
    ExitCode::from(exit_code(result, process::is_interrupted()))
}

/// The exit code of a command. An error after an interruption is a consequence of it, because the
/// processes of the runs are interrupted too.
fn exit_code(result: anyhow::Result<u8>, is_interrupted: bool) -> u8 {
    match result {
        Ok(code) => code,
        Err(_) if is_interrupted => INTERRUPTED,
        Err(error) => {
            eprintln!("error: {error:#}");
            WRONG
        }
    }
}

/// Runs a seed in this process and prints its outcome as one line of JSON.
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
    let seed = job.seed;
    let stack = job.stack;
    let mutant = job.mutant.as_deref().and_then(planted::find);
    let view = View {
        logs: args.log,
        trace: args.trace,
    };
    if !not_held {
        let job = job.clone();
        let plan = plan.clone();
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

/// Returns the default stack of a run: that of the plan, else drawn for a generated scenario, else
/// full.
fn stack_of(scenario: &Scenario, seed: u64) -> Stack {
    let drawn = if scenario.swarm.is_some() {
        Stack::drawn(seed)
    } else {
        Stack::Full
    };
    scenario.plan.world.stack.unwrap_or(drawn)
}

/// Returns a job of this scenario and its plan. `stack` and `mutant` take precedence over the file.
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
