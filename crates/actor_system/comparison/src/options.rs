//! The command line.

use crate::{
    contender::{COLUMNS, Column, DEFAULT_WORKERS},
    measure::{MEASURES, Measure},
};

/// Enough rounds for a stable median.
const DEFAULT_ROUNDS: usize = 5;

pub enum Command {
    Help,
    /// Takes one measure of one contender in this process.
    Child {
        measure: &'static Measure,
        column: &'static Column,
        workers: usize,
    },
    Table(Options),
}

/// Contents of the table and rounds behind it.
pub struct Options {
    pub measures: Vec<&'static Measure>,
    /// At least one.
    pub rounds: usize,
    /// At least one.
    pub workers: usize,
    pub is_json: bool,
}

/// A mistake on the command line.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("unknown option {name}")]
    Unknown { name: String },
    #[error("{option} needs {argument} after it")]
    Missing {
        option: &'static str,
        argument: &'static str,
    },
    #[error("{text} is not a number from 1 on")]
    NotANumber { text: String },
    #[error("unknown measure {name}; the measures are {}", measure_names())]
    UnknownMeasure { name: String },
    #[error("unknown contender {name}; the contenders are {}", column_names())]
    UnknownContender { name: String },
}

pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, OptionsError> {
    let mut options = Options {
        measures: Vec::new(),
        rounds: DEFAULT_ROUNDS,
        workers: DEFAULT_WORKERS,
        is_json: false,
    };
    let mut child = None;
    while let Some(word) = words.next() {
        let mut next = |option, argument| {
            let word = words.next();
            word.ok_or(OptionsError::Missing { option, argument })
        };
        match word.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--json" => options.is_json = true,
            "--only" => options
                .measures
                .push(measure(next("--only", "a measure")?)?),
            "--rounds" => options.rounds = number(next("--rounds", "a number")?)?,
            "--workers" => options.workers = number(next("--workers", "a number")?)?,
            "--child" => {
                let measure = measure(next("--child", "a measure and a contender")?)?;
                let column = column(next("--child", "a measure and a contender")?)?;
                child = Some((measure, column));
            }
            _ => return Err(OptionsError::Unknown { name: word }),
        }
    }
    if options.measures.is_empty() {
        options.measures = MEASURES.iter().collect();
    }
    Ok(match child {
        Some((measure, column)) => Command::Child {
            measure,
            column,
            workers: options.workers,
        },
        None => Command::Table(options),
    })
}

pub fn help() -> String {
    let measures: String = MEASURES
        .iter()
        .map(|measure| format!("    {:<12} {}\n", measure.name, measure.about))
        .collect();
    format!(
        "\
Our actors beside actix, ractor, kameo and bare channels, in one table.

    cargo run --release                      everything, {DEFAULT_ROUNDS} rounds; some minutes
    cargo run --release -- --only ask        one measure
    cargo run --release -- --rounds 1        a first look

Build it in release, and run nothing else on the machine meanwhile. Each round takes each measure of
one contender after the other, each in a process of its own; a cell is the median of the rounds.

Options
    --only MEASURE     this measure; may be given several times
    --rounds N         rounds, {DEFAULT_ROUNDS} if not given
    --workers N        threads of the tokio runtime, {DEFAULT_WORKERS} if not given; 1 shows the
                       cost of a message that crosses no threads. actix always uses one thread,
                       or two with an arbiter
    --json             the table with the values of every round, as JSON
    --child MEASURE CONTENDER
                       takes one measure in this process and prints its values, for perf:
                           perf record -g target/release/comparison --child ask alys
    --help             this text

Measures
{measures}
Contenders
    {}

README.md describes the measures exactly, and the steps taken to be fair.
",
        column_names(),
    )
}

fn measure(name: String) -> Result<&'static Measure, OptionsError> {
    let found = MEASURES.iter().find(|measure| measure.name == name);
    found.ok_or(OptionsError::UnknownMeasure { name })
}

fn column(name: String) -> Result<&'static Column, OptionsError> {
    let found = COLUMNS.iter().find(|column| column.name == name);
    found.ok_or(OptionsError::UnknownContender { name })
}

fn number(text: String) -> Result<usize, OptionsError> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or(OptionsError::NotANumber { text })
}

fn measure_names() -> String {
    MEASURES.each_ref().map(|measure| measure.name).join(", ")
}

fn column_names() -> String {
    COLUMNS.each_ref().map(|column| column.name).join(", ")
}
