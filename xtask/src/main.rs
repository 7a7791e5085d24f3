//! `cargo xtask`: see `cargo xtask --help`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{root, steps, tidy};

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
        Task::Ci { only, skip } => steps::run(steps::select(steps::ci(), &only, &skip)?),
    }
}
