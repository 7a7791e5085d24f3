//! `cargo xtask`: see `cargo xtask --help`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{fuzz, interop, load, root, steps, tidy};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The repository's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Checks the rules of the house: dependencies, pure crates, the seam, contracts, citations. A
    /// test of xtask runs it too.
    Tidy,
    /// Runs rustfmt, and clippy in both worlds, with warnings as errors.
    Lint,
    /// Runs the benches one after the other; arguments after `--` go to each of them.
    Bench {
        /// Only the benches whose name contains this.
        name: Option<String>,
        /// Arguments for criterion.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Fuzzes decoders and handlers of messages with libFuzzer, one target after the other. Needs
    /// `cargo install --locked cargo-fuzz` and a C++ compiler.
    #[command(after_help = fuzz::HELP)]
    Fuzz {
        /// Only this target.
        target: Option<String>,
        /// Minutes for each target.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        minutes: u32,
        /// Afterwards adds the inputs that reach new code to the committed corpus.
        #[arg(long)]
        keep: bool,
    },
    /// Runs a federation with ethrex beside other execution clients. CI does not.
    #[command(after_help = interop::HELP)]
    Interop,
    /// Measures blocks and memory of a federation of four processes, without a load and under each
    /// load that users, strangers and an authority can make.
    #[command(after_help = load::HELP)]
    Load {
        /// Only this load.
        load: Option<String>,
        /// Prints the names of the loads and measures nothing.
        #[arg(long, conflicts_with = "load")]
        list: bool,
        /// Seconds of each load.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Prints the figures for programs.
        #[arg(long)]
        json: bool,
        /// Builds with the release profile instead of the dev profile of the tests.
        #[arg(long)]
        release: bool,
    },
    /// Runs every check that decides whether a change lands.
    #[command(after_help = steps::help())]
    Ci {
        /// Only these steps.
        #[arg(long, value_delimiter = ',', value_name = "STEPS")]
        only: Vec<String>,
        /// All but these steps.
        #[arg(
            long,
            value_delimiter = ',',
            value_name = "STEPS",
            conflicts_with = "only"
        )]
        skip: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<bool> {
    match task {
        Task::Tidy => {
            let findings = tidy::check(&root())?;
            for finding in &findings {
                eprintln!("{finding}");
            }
            match findings.len() {
                0 => println!("tidy: no findings"),
                count => eprintln!("tidy: {count} finding(s)"),
            }
            Ok(findings.is_empty())
        }
        Task::Lint => steps::run(steps::lint()),
        Task::Bench { name, arguments } => steps::run(steps::benches(name.as_deref(), &arguments)?),
        Task::Fuzz {
            target,
            minutes,
            keep,
        } => fuzz::run(target.as_deref(), minutes, keep),
        Task::Interop => interop::run(),
        Task::Load {
            list: true,
            release,
            ..
        } => load::list(release),
        Task::Load {
            load,
            seconds,
            json,
            release,
            ..
        } => load::run(load.as_deref(), seconds, json, release),
        Task::Ci { only, skip } => steps::run(steps::select(steps::ci(), &only, &skip)?),
    }
}
