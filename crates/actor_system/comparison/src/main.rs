//! Our actors beside actix, ractor, kameo and bare channels, in one table. See the README.

mod actix;
mod allocator;
mod alys;
mod gear;
mod kameo;
mod measure;
mod options;
mod ractor;
mod raw;
mod rounds;
mod table;

use std::{process::ExitCode, thread, time::Duration};

use crate::{
    allocator::Counting,
    options::{Options, Wanted},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// Measures take a second or two: whoever is still at it has lost a message and waits for ever.
const CHILD_WITHIN: Duration = Duration::from_secs(30);

/// Exit code of a child that ran out of time.
const TOO_LATE: i32 = 3;

fn main() -> ExitCode {
    match options::parse(std::env::args().skip(1)) {
        Ok(Wanted::Help) => {
            print!("{}", options::help());
            ExitCode::SUCCESS
        }
        Ok(Wanted::Child {
            measure,
            contender,
            workers,
        }) => {
            thread::spawn(|| {
                thread::sleep(CHILD_WITHIN);
                eprintln!("not finished after {CHILD_WITHIN:?}");
                std::process::exit(TOO_LATE);
            });
            gear::set_workers(workers);
            let values: Vec<_> = measure.run(contender).iter().map(f64::to_string).collect();
            println!("{}", values.join(" "));
            ExitCode::SUCCESS
        }
        Ok(Wanted::Table(options)) => run(&options),
        Err(error) => {
            eprintln!("{error}\n\ncomparison --help lists what there is.");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> ExitCode {
    match rounds::run(options) {
        Ok(results) => {
            print!(
                "{}",
                if options.is_json {
                    table::json(options, &results)
                } else {
                    table::text(options, &results)
                }
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
