//! `alys-model`: explores the worlds and prints the tables of `docs/model.md`.

use std::process::ExitCode;

use alys_model::check::{HEAD, check, check_broken, first_violation};
use alys_model::world::NO_FORK;
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
    println!(
        "\n| broken rule | world | first violated | steps | steps to a fork | states until then |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, world) in worlds::broken() {
        let (first, fork) = (first_violation(&world), check_broken(&world));
        let way = fork
            .counterexamples
            .iter()
            .find(|(property, _)| *property == NO_FORK);
        all_good &= way.is_some();
        let steps = way.map_or(0, |(_, steps)| steps.len());
        for (property, way) in &first.counterexamples {
            let (world, short, states) = (world.name, way.len(), fork.states);
            println!("| {name} | {world} | {property} | {short} | {steps} | {states} |");
        }
        if let Some((_, way)) = way.filter(|_| ways) {
            println!("\n  {}\n", way.join("\n  "));
        }
    }
    if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
