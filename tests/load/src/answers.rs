//! The answers to callers, as the callers see them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Width of a class of times.
const STEP: Duration = Duration::from_micros(100);
/// Classes of times, up to 30 s; longer times are in the last one.
const STEPS: usize = 300_000;

/// The answers of a load so far.
#[derive(Debug)]
pub struct Answers {
    /// Numbers of answers by time.
    times: Vec<AtomicU64>,
    pub no_work: AtomicU64,
    pub accepted: AtomicU64,
    pub stale: AtomicU64,
    pub refused: AtomicU64,
    pub unknown: AtomicU64,
    pub wrong: AtomicU64,
}

/// The answers of a load at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    pub p50_us: u64,
    pub p99_us: u64,
    pub slowest_us: u64,
    /// Answers that there is no work.
    pub no_work: u64,
    /// Proofs that were accepted.
    pub accepted: u64,
    /// Proofs of stale work.
    pub stale: u64,
    /// Proofs of other work, refused by a rule.
    pub refused: u64,
    /// Proofs of work that the node does not know, although it handed it out.
    pub unknown: u64,
    /// Answers of other kinds, which are mistakes of the node.
    pub wrong: u64,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers {
            times: (0..STEPS).map(|_| AtomicU64::new(0)).collect(),
            no_work: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
        }
    }
}

impl Answers {
    /// Another answer, after this time.
    pub fn after(&self, time: Duration) {
        let step = time.as_micros() / STEP.as_micros();
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        add(&self.times[step.min(STEPS - 1)]);
    }

    /// The figures; none without an answer.
    pub fn figures(&self) -> Option<Answered> {
        let times = self.times.iter().map(|count| count.load(Ordering::Relaxed));
        let times: Vec<u64> = times.collect();
        let all: u64 = times.iter().sum();
        if all == 0 {
            return None;
        }
        // The upper end of the class of the answer with this number.
        let time_of = |number: u64| {
            let mut left = number;
            let class = times.iter().position(|count| {
                let is_here = left < *count;
                left = left.saturating_sub(*count);
                is_here
            });
            let class = class.unwrap_or(STEPS - 1) as u64;
            (class + 1) * STEP.as_micros() as u64
        };
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Some(Answered {
            p50_us: time_of(all / 2),
            p99_us: time_of((all * 99 / 100).min(all - 1)),
            slowest_us: time_of(all - 1),
            no_work: of(&self.no_work),
            accepted: of(&self.accepted),
            stale: of(&self.stale),
            refused: of(&self.refused),
            unknown: of(&self.unknown),
            wrong: of(&self.wrong),
        })
    }
}

/// Counts one more.
pub fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_upper_ends_of_classes() {
        let answers = Answers::default();
        assert_eq!(answers.figures(), None);
        for number in 0..200 {
            answers.after(Duration::from_micros(100 * number + 50));
        }
        add(&answers.stale);
        let figures = answers.figures().expect("some");
        let times = [figures.p50_us, figures.p99_us, figures.slowest_us];
        assert_eq!(times, [10_100, 19_900, 20_000]);
        assert_eq!((figures.stale, figures.accepted), (1, 0));
        answers.after(Duration::from_secs(100));
        let figures = answers.figures().expect("some");
        assert_eq!(figures.slowest_us, 30_000_000);
    }
}
