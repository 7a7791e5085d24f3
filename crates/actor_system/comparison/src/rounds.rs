//! Runs the children, round by round.

use std::{io, process::Command};

use crate::{
    measure::{CONTENDERS, Measure, Row},
    options::Options,
};

/// One line of the table with all that was measured for it.
pub struct Line {
    pub measure: Measure,
    pub row: Row,
    /// For each of [`CONTENDERS`] the values of all rounds, in the order of the rounds; none where the measure
    /// makes no difference to that contender.
    pub values: Vec<Vec<f64>>,
}

impl Line {
    /// The median of a contender's rounds.
    pub fn median(&self, contender: usize) -> Option<f64> {
        let mut values = self.values.get(contender)?.clone();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
        Some((values[low] + values[high]) / 2.0)
    }

    /// How far the rounds of the least steady contender lie apart, as a part of its median.
    pub fn spread(&self) -> f64 {
        let spread = |contender: usize| {
            let values = &self.values[contender];
            let (low, high) = values
                .iter()
                .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
            self.median(contender)
                .map_or(0.0, |median| (high - low) / median)
        };
        (0..self.values.len()).map(spread).fold(0.0, f64::max)
    }

    /// What ours costs in units of what the best of `others` costs: below one, ours is ahead. Time and memory
    /// are costs; of a rate it is the time for one.
    pub fn cost_against(&self, ours: &str, others: &[&str]) -> Option<f64> {
        let of = |name: &str| self.median(CONTENDERS.iter().position(|(other, _)| *other == name)?);
        let cost = |value: f64| {
            if self.row.is_rate {
                value.recip()
            } else {
                value
            }
        };
        let best = others
            .iter()
            .filter_map(|name| of(name))
            .map(cost)
            .min_by(f64::total_cmp)?;
        Some(cost(of(ours)?) / best)
    }
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot start a process for a measure: {0}")]
    NotStarted(#[from] io::Error),
    #[error("{measure} of {contender} failed ({status}):\n{said}")]
    Failed {
        measure: &'static str,
        contender: &'static str,
        status: String,
        said: String,
    },
    #[error("{measure} of {contender} said {said:?}, which is not {expected} numbers")]
    NotUnderstood {
        measure: &'static str,
        contender: &'static str,
        said: String,
        expected: usize,
    },
}

pub fn run(options: &Options) -> Result<Vec<Line>, RunError> {
    let mut lines: Vec<Line> = Vec::new();
    for measure in &options.measures {
        let values = vec![Vec::new(); CONTENDERS.len()];
        lines.extend(measure.rows().iter().map(|row| Line {
            measure: *measure,
            row: *row,
            values: values.clone(),
        }));
    }
    for round in 0..options.rounds {
        for measure in &options.measures {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                measure.name()
            );
            // Each round begins with another contender, so that none always runs on a machine that has rested.
            for index in (0..CONTENDERS.len()).map(|place| (place + round) % CONTENDERS.len()) {
                if !CONTENDERS[index].1.takes(*measure) {
                    continue;
                }
                let taken = child(*measure, CONTENDERS[index].0, options.workers)?;
                let of_measure = lines.iter_mut().filter(|line| line.measure == *measure);
                for (line, value) in of_measure.zip(taken) {
                    line.values[index].push(value);
                }
            }
        }
    }
    Ok(lines)
}

/// Takes a measure in a process of its own: no contender sees the heap, the threads or the statics of another.
fn child(measure: Measure, contender: &'static str, workers: usize) -> Result<Vec<f64>, RunError> {
    let output = Command::new(std::env::current_exe()?)
        .args([
            "--child",
            measure.name(),
            contender,
            "--workers",
            &workers.to_string(),
        ])
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(RunError::Failed {
            measure: measure.name(),
            contender,
            status: output.status.to_string(),
            said,
        });
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let values: Option<Vec<f64>> = said
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    let expected = measure.rows().len();
    values
        .filter(|values| values.len() == expected)
        .ok_or(RunError::NotUnderstood {
            measure: measure.name(),
            contender,
            said,
            expected,
        })
}
