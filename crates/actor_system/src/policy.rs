//! What a supervisor decides, without time and chance of its own: whom a failure takes along, how long to wait,
//! when to give up.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

/// Whom a failure takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only the child that failed is restarted.
    OneForOne,
    /// All children are stopped in reverse order and restarted in order.
    OneForAll,
    /// So are the child that failed and those that were started after it.
    RestForOne,
}

impl Strategy {
    /// The children, by their place in the order of start, that are restarted when the one at `failed` of `len`
    /// fails.
    pub fn affected(self, failed: usize, len: usize) -> Range<usize> {
        match self {
            Self::OneForOne => failed..failed + 1,
            Self::OneForAll => 0..len,
            Self::RestForOne => failed..len,
        }
    }
}

/// Whether a child comes back after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// After a failure, but not when it ended itself.
    Transient,
    /// Never. It does not come back with its siblings either.
    Temporary,
}

/// The restarts a supervisor makes before it gives up and fails itself: more than `restarts` in any span of
/// `within`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts in the span.
    pub restarts: usize,
    /// Length of the span.
    pub within: Duration,
}

impl Default for Intensity {
    /// Five in a minute.
    fn default() -> Self {
        Self { restarts: 5, within: Duration::from_secs(60) }
    }
}

/// The wait before a restart. It grows with each failure of a child, and begins anew once the child has run as
/// long as the intensity's span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Before the first restart. Zero: at once, always.
    pub initial: Duration,
    /// Never longer than this.
    pub max: Duration,
    /// Factor from one restart to the next, at least 1.
    pub factor: f64,
    /// Part of the wait, from 0 to 1, that chance takes away, so that what failed together does not come back
    /// together.
    pub jitter: f64,
}

impl Default for Backoff {
    /// 100 ms, doubled up to 5 s, minus up to a fifth.
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(5), factor: 2.0, jitter: 0.2 }
    }
}

impl Backoff {
    /// No wait.
    pub const NONE: Self = Self { initial: Duration::ZERO, max: Duration::ZERO, factor: 1.0, jitter: 0.0 };

    /// The wait after `failures` failures before this one; `chance` is from 0 to 1.
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        let growth = self.factor.max(1.0).powi(i32::try_from(failures).unwrap_or(i32::MAX));
        let full = (self.initial.as_secs_f64() * growth).min(self.max.as_secs_f64());
        let kept = 1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(full * kept).unwrap_or(self.max)
    }
}

/// The restarts of the last span, at most as many as the intensity allows.
#[derive(Debug, Default)]
pub(crate) struct RestartLog(VecDeque<Instant>);

impl RestartLog {
    /// Notes a restart. False, without a note, if it is one too many.
    pub fn admit(&mut self, now: Instant, intensity: Intensity) -> bool {
        while self.0.front().is_some_and(|first| now.duration_since(*first) >= intensity.within) {
            self.0.pop_front();
        }
        let is_admitted = self.0.len() < intensity.restarts;
        if is_admitted {
            self.0.push_back(now);
        }
        is_admitted
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn strategies_take_along_whom_they_say() {
        for (strategy, failed, affected) in [
            (Strategy::OneForOne, 0, 0..1),
            (Strategy::OneForOne, 3, 3..4),
            (Strategy::OneForAll, 0, 0..4),
            (Strategy::OneForAll, 3, 0..4),
            (Strategy::RestForOne, 0, 0..4),
            (Strategy::RestForOne, 2, 2..4),
        ] {
            assert_eq!(strategy.affected(failed, 4), affected, "{strategy:?} {failed}");
        }
    }

    #[test]
    fn backoff_grows_to_its_limit_and_jitter_only_shortens_it() {
        let backoff = Backoff { initial: ms(100), max: ms(1000), factor: 2.0, jitter: 0.5 };
        for (failures, chance, delay) in [
            (0, 0.0, 100),
            (1, 0.0, 200),
            (3, 0.0, 800),
            (4, 0.0, 1000),
            (u32::MAX, 0.0, 1000),
            (0, 1.0, 50),
            (4, 0.5, 750),
        ] {
            assert_eq!(backoff.delay(failures, chance), ms(delay), "{failures} {chance}");
        }
        assert_eq!(Backoff::NONE.delay(u32::MAX, 1.0), Duration::ZERO);
        let shrinking = Backoff { factor: 0.1, jitter: -3.0, ..backoff };
        assert_eq!(shrinking.delay(9, 1.0), ms(100));
    }

    #[test]
    fn intensity_counts_within_a_sliding_span() {
        let start = alys_runtime::time::now();
        let intensity = Intensity { restarts: 2, within: ms(100) };
        let mut log = RestartLog::default();
        for (at, admitted) in
            [(0, true), (60, true), (99, false), (100, true), (150, false), (160, true), (161, false)]
        {
            assert_eq!(log.admit(start + ms(at), intensity), admitted, "at {at}");
        }
        assert!(!RestartLog::default().admit(start, Intensity { restarts: 0, within: ms(100) }));
    }
}
