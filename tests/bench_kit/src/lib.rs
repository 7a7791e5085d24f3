//! Times for the tables of benches. Works that are measured in turns, in one run, share the load of
//! the machine, so that their ratios do not depend on it.
//!
//! Owns the measurement of works in turns and its medians. Promises that each work runs as often as
//! the others. Never judges a time, prints a table or runs in a product.

use std::time::{Duration, Instant};

/// Time that `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Medians of `works`, each run once a turn.
pub fn in_turns<const N: usize>(turns: usize, works: [&dyn Fn(); N]) -> [Duration; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..turns {
        for (work, times) in works.iter().zip(&mut times) {
            times.push(timed(work));
        }
    }
    times.map(|times| median(&times))
}

/// The time in the middle of `times`; zero without any.
pub fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// The time above `percent` of all; zero without any.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// A time in microseconds.
pub fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let times: Vec<Duration> = (0..100).rev().map(Duration::from_millis).collect();
        let ms = |percent| percentile(&times, percent).as_millis();
        assert_eq!([0, 50, 99, 100].map(ms), [0, 50, 99, 99]);
        assert_eq!(median(&times), Duration::from_millis(50));
        assert_eq!(median(&[]), Duration::ZERO);
        assert_eq!(us(times[0]), 99_000.0);
    }

    #[test]
    fn works_take_turns() {
        let order = RefCell::new(String::new());
        let work = |name| order.borrow_mut().push(name);
        in_turns(2, [&|| work('a'), &|| work('b')]);
        assert_eq!(order.into_inner(), "abab");
    }
}
