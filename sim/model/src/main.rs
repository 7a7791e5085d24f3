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
    /// Explore the larger worlds too, which takes minutes and gigabytes of memory.
    #[arg(long)]
    big: bool,
    /// Print the steps to a fork for each broken rule.
    #[arg(long)]
    steps: bool,
}

fn main() -> ExitCode {
    let Arguments { big, steps } = Arguments::parse();
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
    let mut broken = worlds::broken();
    if big {
        broken.extend(worlds::broken_big());
    }
    for (name, world) in broken {
        let first = first_violation(&world);
        let fork = check_broken(&world);
        let found = fork
            .counterexamples
            .iter()
            .find(|(property, _)| *property == NO_FORK);
        all_good &= found.is_some();
        let to_fork = found.map_or(0, |(_, steps)| steps.len());
        for (property, to_first) in &first.counterexamples {
            let world = world.name;
            let length = to_first.len();
            let states = fork.states;
            println!("| {name} | {world} | {property} | {length} | {to_fork} | {states} |");
        }
        if let Some((_, found)) = found.filter(|_| steps) {
            println!("\n  {}\n", found.join("\n  "));
        }
    }
    if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
