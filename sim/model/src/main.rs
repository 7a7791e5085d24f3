//! `alys-model`: explores the worlds and prints the tables of `docs/model.md`.

use std::process::ExitCode;

use alys_model::check::{HEAD, check, check_broken};
use alys_model::worlds;
use clap::Parser;

/// The rule of agreement, explored to the last state in small worlds.
#[derive(Debug, Parser)]
#[command(name = "alys-model")]
struct Arguments {
    /// The larger worlds too: minutes, and gigabytes of memory.
    #[arg(long)]
    big: bool,
    /// Print the way to each violation of the broken rules.
    #[arg(long)]
    ways: bool,
}

fn main() -> ExitCode {
    let Arguments { big, ways } = Arguments::parse();
    let mut all_good = true;
    println!("{HEAD}");
    let mut worlds_to_check = worlds::small();
    if big {
        worlds_to_check.extend(worlds::big());
    }
    for world in &worlds_to_check {
        let report = check(world);
        println!("{report}");
        all_good &= report.is_good();
        for (property, steps) in &report.counterexamples {
            println!("{property} does not hold:\n  {}", steps.join("\n  "));
        }
    }
    println!("\n| broken rule | world | violated | steps | states until then |\n|---|---|---|---|---|");
    for (name, world) in worlds::broken() {
        let report = check_broken(&world);
        all_good &= !report.counterexamples.is_empty();
        for (property, steps) in &report.counterexamples {
            println!("| {name} | {} | {property} | {} | {} |", world.name, steps.len(), report.states);
            if ways {
                println!("\n  {}\n", steps.join("\n  "));
            }
        }
    }
    if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
