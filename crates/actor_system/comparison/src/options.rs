//! The command line.

use crate::{
    gear::WORKERS,
    measure::{CONTENDERS, Contender, Measure},
};

/// Rounds that make a median worth reading.
const ROUNDS: usize = 5;

/// What the command line asks for.
pub enum Wanted {
    Help,
    /// One measure of one contender, here.
    Child {
        measure: Measure,
        contender: &'static dyn Contender,
        workers: usize,
    },
    Table(Options),
}

/// How the table is made.
pub struct Options {
    pub measures: Vec<Measure>,
    /// At least one.
    pub rounds: usize,
    /// At least one.
    pub workers: usize,
    pub is_json: bool,
}

/// What is wrong with the command line.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("there is no option {name}")]
    Unknown { name: String },
    #[error("{option} needs {what} after it")]
    Missing {
        option: &'static str,
        what: &'static str,
    },
    #[error("{text} is not a number from 1 on")]
    NotANumber { text: String },
    #[error("there is no measure {name}; there are {}", measures())]
    NoMeasure { name: String },
    #[error("there is no contender {name}; there are {}", contenders())]
    NoContender { name: String },
}

pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Wanted, OptionsError> {
    let mut options = Options {
        measures: Vec::new(),
        rounds: ROUNDS,
        workers: WORKERS,
        is_json: false,
    };
    let mut child = None;
    while let Some(word) = words.next() {
        let mut next = |option, what| words.next().ok_or(OptionsError::Missing { option, what });
        match word.as_str() {
            "--help" | "-h" => return Ok(Wanted::Help),
            "--json" => options.is_json = true,
            "--only" => options
                .measures
                .push(measure(next("--only", "a measure")?)?),
            "--rounds" => options.rounds = number(next("--rounds", "a number")?)?,
            "--workers" => options.workers = number(next("--workers", "a number")?)?,
            "--child" => {
                let measure = measure(next("--child", "a measure and a contender")?)?;
                child = Some((
                    measure,
                    contender(next("--child", "a measure and a contender")?)?,
                ));
            }
            _ => return Err(OptionsError::Unknown { name: word }),
        }
    }
    if options.measures.is_empty() {
        options.measures = Measure::ALL.to_vec();
    }
    Ok(match child {
        Some((measure, contender)) => Wanted::Child {
            measure,
            contender,
            workers: options.workers,
        },
        None => Wanted::Table(options),
    })
}

pub fn help() -> String {
    format!(
        "\
Our actors beside actix, ractor, kameo and bare channels, in one table.

    cargo run --release                      everything, {ROUNDS} rounds; some minutes
    cargo run --release -- --only ask        one measure
    cargo run --release -- --rounds 1        a first look

Build it in release, and let the machine do nothing else meanwhile. In each round each measure is taken of one
contender after the other, each in a process of its own; a cell is the median of the rounds.

Options
    --only MEASURE     this measure; may be given several times
    --rounds N         rounds, {ROUNDS} if not given
    --workers N        threads of the tokio runtime, {WORKERS} if not given; 1 shows what a message costs without
                       any crossing of threads. actix uses one thread, or two with an arbiter, whatever this says
    --json             the table with the values of every round, as JSON
    --child MEASURE CONTENDER
                       takes one measure here and prints its values: what to put under perf,
                           perf record -g target/release/comparison --child ask alys
    --help             this

Measures
{}
Contenders
    {}

What exactly is measured, and what was done to be fair, is in README.md.
",
        Measure::ALL.map(|measure| format!("    {:<12} {}\n", measure.name(), measure.about())).concat(),
        contenders(),
    )
}

fn measure(name: String) -> Result<Measure, OptionsError> {
    let found = Measure::ALL
        .into_iter()
        .find(|measure| measure.name() == name);
    found.ok_or(OptionsError::NoMeasure { name })
}

fn contender(name: String) -> Result<&'static dyn Contender, OptionsError> {
    let found = CONTENDERS.iter().find(|(other, _)| *other == name);
    found
        .map(|(_, contender)| *contender)
        .ok_or(OptionsError::NoContender { name })
}

fn number(text: String) -> Result<usize, OptionsError> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or(OptionsError::NotANumber { text })
}

fn measures() -> String {
    Measure::ALL.map(Measure::name).join(", ")
}

fn contenders() -> String {
    CONTENDERS.map(|(name, _)| name).join(", ")
}
