//! `cargo xtask load`: blocks and memory of a federation of four processes under load.
//!
//! `loads` lists the loads. Each is made by a process of its own with low priority, so that it
//! takes only the processor time that the validators leave. `measure` counts slots with final
//! blocks and reads memory, `report` judges them.

mod answers;
mod chain;
mod connections;
mod forgeries;
mod loads;
mod measure;
mod mining;
mod peers;
mod report;
mod requests;
mod votes;

use std::process::{Command, ExitCode};
use std::time::Duration;

use alys_tests::scenario;
use anyhow::Result;
use clap::Parser;

use crate::loads::{LOADS, Load, Targets};
use crate::measure::measure;

#[derive(Debug, Parser)]
struct Arguments {
    /// Only this load.
    #[arg(value_parser = loads::find)]
    load: Option<&'static Load>,
    /// Prints the names of the loads and measures nothing.
    #[arg(long, conflicts_with = "load")]
    list: bool,
    /// Seconds of each load.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Prints the figures for programs.
    #[arg(long)]
    json: bool,
    /// Makes the load in this process, at these ports.
    #[arg(long, hide = true, requires = "load", value_parser = Targets::parse)]
    make: Option<Targets>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when the loads are listed, the load is made, or all rows have passed.
fn run(arguments: Arguments) -> Result<bool> {
    if arguments.list {
        for load in &LOADS {
            println!("{}", load.name);
        }
        return Ok(true);
    }
    if let (Some(load), Some(targets)) = (arguments.load, &arguments.make) {
        println!("{}", loads::make(load, targets).to_line());
        return Ok(true);
    }
    let all = LOADS.iter().collect();
    let loads = arguments.load.map_or(all, |load| vec![load]);
    let duration = Duration::from_secs(arguments.seconds);
    let own = Command::new(std::env::current_exe()?);
    let mut has_passed = false;
    scenario("load", measure::limit(&loads, duration), |world| {
        let table = measure(world, &loads, duration, &own)?;
        has_passed = table.has_passed();
        if arguments.json {
            println!("{:#}", table.to_json());
        } else {
            print!("{}", table.to_text());
        }
        Ok(())
    });
    Ok(has_passed)
}
