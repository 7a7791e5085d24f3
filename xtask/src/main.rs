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
    /// The rules of the house: dependency arrows, pure crates, the seam, contracts. `cargo test -p xtask` runs it too.
    Tidy,
    /// rustfmt over all tracked Rust files, and clippy over the workspace and over what runs in simulations, with warnings as errors.
    Lint,
    /// The benches, one after the other; what stands after `--` goes to each of them.
    Bench {
        /// Only the benches whose name contains this.
        name: Option<String>,
        /// For criterion.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Everything that decides whether a change lands.
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
                0 => println!("tidy: nothing to say"),
                count => eprintln!("tidy: {count} finding(s)"),
            }
            Ok(findings.is_empty())
        }
        Task::Lint => steps::run(steps::lint()),
        Task::Bench { name, arguments } => steps::run(steps::benches(name.as_deref(), &arguments)?),
        Task::Ci { only, skip } => steps::run(steps::select(steps::ci(), &only, &skip)?),
    }
}
