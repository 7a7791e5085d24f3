//! Growing delays between attempts.

use std::time::Duration;

/// Exponential backoff before restarts of a child, or between attempts to send a message. A
/// supervisor returns to the initial delay once the child has run for the window of its
/// [`Intensity`](crate::Intensity).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// First delay. Zero disables all delays.
    pub initial: Duration,
    /// Maximum delay.
    pub max: Duration,
    /// Growth factor from one delay to the next; values below 1 count as 1.
    pub factor: f64,
    /// Maximum random reduction, as a fraction of the delay from 0 to 1. It spreads the restarts of
    /// actors that failed at the same time.
    pub jitter: f64,
}

impl Default for Backoff {
    /// 100 ms, doubled up to 5 s, reduced by up to a fifth.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            factor: 2.0,
            jitter: 0.2,
        }
    }
}

impl Backoff {
    /// No delay.
    pub const NONE: Self = Self {
        initial: Duration::ZERO,
        max: Duration::ZERO,
        factor: 1.0,
        jitter: 0.0,
    };

    /// Delay after `failures` earlier failures in a row. `chance` is a random number from 0 to 1
    /// that scales the jitter.
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        if self.initial.is_zero() {
            return Duration::ZERO;
        }
        let growth = self
            .factor
            .max(1.0)
            .powi(i32::try_from(failures).unwrap_or(i32::MAX));
        let full = (self.initial.as_secs_f64() * growth).min(self.max.as_secs_f64());
        let kept = 1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(full * kept).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn backoff_grows_to_its_limit_and_jitter_only_shortens_it() {
        let backoff = Backoff {
            initial: ms(100),
            max: ms(1000),
            factor: 2.0,
            jitter: 0.5,
        };
        for (failures, chance, delay) in [
            (0, 0.0, 100),
            (1, 0.0, 200),
            (3, 0.0, 800),
            (4, 0.0, 1000),
            (u32::MAX, 0.0, 1000),
            (0, 1.0, 50),
            (4, 0.5, 750),
        ] {
            assert_eq!(
                backoff.delay(failures, chance),
                ms(delay),
                "{failures} {chance}"
            );
        }
        assert_eq!(Backoff::NONE.delay(u32::MAX, 1.0), Duration::ZERO);
        // Zero stays zero, although zero times an infinite growth factor is NaN.
        let at_once = Backoff {
            initial: Duration::ZERO,
            ..backoff
        };
        assert_eq!(at_once.delay(2_000, 0.0), Duration::ZERO);
        let shrinking = Backoff {
            factor: 0.1,
            jitter: -3.0,
            ..backoff
        };
        assert_eq!(shrinking.delay(9, 1.0), ms(100));
    }
}
