//! Our actors beside actix, ractor, kameo and bare channels, in one table. See the README.

mod allocator;
mod contender;
mod contenders;
mod measure;
mod options;
mod rounds;
mod scenarios;
mod table;
mod worker;

use std::{process::ExitCode, thread, time::Duration};

use crate::{
    allocator::Counting,
    options::{Command, Options},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// A measure takes a second or two; after this long it has lost a message and would never end.
const CHILD_TIMEOUT: Duration = Duration::from_secs(30);

/// Exit code of a child that ran out of time.
const TIMED_OUT: i32 = 3;

fn main() -> ExitCode {
    match options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", options::help());
            ExitCode::SUCCESS
        }
        Ok(Command::Child {
            measure,
            column,
            workers,
        }) => {
            thread::spawn(|| {
                thread::sleep(CHILD_TIMEOUT);
                eprintln!("not finished after {CHILD_TIMEOUT:?}");
                std::process::exit(TIMED_OUT);
            });
            contender::set_workers(workers);
            let values = (column.run)(measure.scenario);
            let values: Vec<_> = values.iter().map(f64::to_string).collect();
            println!("{}", values.join(" "));
            ExitCode::SUCCESS
        }
        Ok(Command::Table(options)) => print_table(&options),
        Err(error) => {
            eprintln!("{error}\n\ncomparison --help lists measures, contenders and options.");
            ExitCode::from(2)
        }
    }
}

fn print_table(options: &Options) -> ExitCode {
    match rounds::run(options) {
        Ok(results) => {
            let table = if options.is_json {
                table::json(options, &results)
            } else {
                table::text(options, &results)
            };
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
