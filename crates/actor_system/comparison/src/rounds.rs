//! Runs the children, round by round.

use std::{io, process::Command};

use crate::{
    contender::COLUMNS,
    measure::{Measure, Row},
    options::Options,
};

/// One line of the table with the values behind it.
pub struct Line {
    pub measure: &'static Measure,
    pub row: &'static Row,
    /// For each of [`COLUMNS`] one value a round; empty where the column does not cover the
    /// scenario.
    pub values: Vec<Vec<f64>>,
}

impl Line {
    /// The median of a column's rounds.
    pub fn median(&self, column: usize) -> Option<f64> {
        let mut values = self.values.get(column)?.clone();
        values.sort_by(f64::total_cmp);
        let low = values.len().checked_sub(1)? / 2;
        let high = values.len() / 2;
        Some((values[low] + values[high]) / 2.0)
    }

    /// The distance between the highest and the lowest round of the least steady column, as a part
    /// of its median.
    pub fn spread(&self) -> f64 {
        let spread = |column: usize| {
            let values = &self.values[column];
            let low = values.iter().copied().fold(f64::MAX, f64::min);
            let high = values.iter().copied().fold(f64::MIN, f64::max);
            let median = self.median(column);
            median.map_or(0.0, |median| (high - low) / median)
        };
        (0..self.values.len()).map(spread).fold(0.0, f64::max)
    }

    /// The cost of `ours` in units of the least cost of `others`: below one, ours is ahead. Time
    /// and memory are costs; of a rate it is the time for one.
    pub fn cost_against(&self, ours: &str, others: &[&str]) -> Option<f64> {
        let cost = |name: &str| {
            let value = self.median(COLUMNS.iter().position(|column| column.name == name)?)?;
            Some(if self.row.is_rate {
                value.recip()
            } else {
                value
            })
        };
        let best = others
            .iter()
            .filter_map(|name| cost(name))
            .min_by(f64::total_cmp)?;
        Some(cost(ours)? / best)
    }
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot start a process for a measure: {0}")]
    NotStarted(#[from] io::Error),
    #[error("{measure} of {contender} failed ({status}):\n{stderr}")]
    Failed {
        measure: &'static str,
        contender: &'static str,
        status: String,
        stderr: String,
    },
    #[error("{measure} of {contender} printed {stdout:?}, not {expected} numbers")]
    Malformed {
        measure: &'static str,
        contender: &'static str,
        stdout: String,
        expected: usize,
    },
}

pub fn run(options: &Options) -> Result<Vec<Line>, RunError> {
    let mut lines: Vec<Line> = Vec::new();
    for measure in &options.measures {
        lines.extend(measure.rows.iter().map(|row| Line {
            measure,
            row,
            values: vec![Vec::new(); COLUMNS.len()],
        }));
    }
    for round in 0..options.rounds {
        for measure in &options.measures {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                measure.name
            );
            // Each round begins with another column, so that none always runs on a machine that has
            // rested.
            for index in (0..COLUMNS.len()).map(|place| (place + round) % COLUMNS.len()) {
                let column = &COLUMNS[index];
                if !(column.covers)(measure.scenario) {
                    continue;
                }
                let values = run_child(measure, column.name, options.workers)?;
                let of_measure = lines
                    .iter_mut()
                    .filter(|line| line.measure.name == measure.name);
                for (line, value) in of_measure.zip(values) {
                    line.values[index].push(value);
                }
            }
        }
    }
    Ok(lines)
}

/// Takes a measure in a process of its own: no contender sees the heap, threads or statics of
/// another.
fn run_child(
    measure: &Measure,
    contender: &'static str,
    workers: usize,
) -> Result<Vec<f64>, RunError> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--child", measure.name, contender])
        .args(["--workers", &workers.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(RunError::Failed {
            measure: measure.name,
            contender,
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = stdout.split_whitespace();
    let values: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
    let expected = measure.rows.len();
    values
        .filter(|values| values.len() == expected)
        .ok_or(RunError::Malformed {
            measure: measure.name,
            contender,
            stdout,
            expected,
        })
}
