//! Decisions of a supervisor as pure functions: the set of children to restart, the delay before a
//! restart, and the point at which to give up.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use crate::{interceptor, later};

pub use crate::mailbox::backoff::Backoff;

/// Selects the children that are restarted together after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only the child that failed is restarted.
    OneForOne,
    /// All children are stopped in reverse order of start and restarted in order.
    OneForAll,
    /// The child that failed and those started after it are stopped in reverse order and restarted
    /// in order.
    RestForOne,
}

impl Strategy {
    /// Indexes, in the order of start, of the children to restart when the one at index `failed` of
    /// `len` fails.
    pub fn affected(self, failed: usize, len: usize) -> Range<usize> {
        match self {
            Self::OneForOne => failed..failed + 1,
            Self::OneForAll => 0..len,
            Self::RestForOne => failed..len,
        }
    }
}

/// Selects the terminations after which a child is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// After a failure, but not after the child stopped itself.
    Transient,
    /// Never, not even when a sibling's failure restarts the others.
    Temporary,
}

/// Restart limit of a supervisor: it gives up and fails itself instead of restarting more than
/// `restarts` times in any window of length `within`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Maximum restarts in the window.
    pub restarts: usize,
    /// Length of the sliding window.
    pub within: Duration,
}

impl Default for Intensity {
    /// Five restarts in a minute.
    fn default() -> Self {
        Self {
            restarts: 5,
            within: Duration::from_secs(60),
        }
    }
}

/// Delay between a failure and the restart of the child.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RestartDelay {
    /// No delay.
    Immediate,
    /// A constant delay.
    Delayed(Duration),
    /// A delay that grows with consecutive failures.
    Backoff(Backoff),
    /// No delay until the child fails too often; then a delay during which its mailbox refuses all
    /// messages.
    CircuitBreaker(Breaker),
}

/// A circuit breaker for an actor that depends on an external system. Closed: a failure causes an
/// immediate restart. Open: the actor stays down and its mailbox refuses messages, so askers fail
/// fast. Half open: one incarnation is on trial; if it fails within `proved_after`, the breaker
/// opens again for longer.
///
/// Failures under a breaker do not count towards the supervisor's [`Intensity`], because the
/// breaker itself bounds the restarts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// Failures in the window that open the breaker; zero counts as one.
    pub failures: usize,
    /// Length of the sliding window.
    pub within: Duration,
    /// Time for which the breaker stays open; grows while consecutive trials fail.
    pub open_for: Backoff,
    /// Time that a trial must run without a failure for the breaker to close.
    pub proved_after: Duration,
}

impl Default for Breaker {
    /// Opens after three failures in ten seconds, for one second, doubling up to a minute; closes
    /// after ten seconds without a failure.
    fn default() -> Self {
        let open_for = Backoff {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            ..Backoff::default()
        };
        Self {
            failures: 3,
            within: Duration::from_secs(10),
            open_for,
            proved_after: Duration::from_secs(10),
        }
    }
}

/// Reaction of a supervisor to a failure that exceeds its [`Intensity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exhausted {
    /// The supervisor stops its other children and fails, and its parent decides.
    #[default]
    Escalate,
    /// The child is not restarted and its siblings keep running; the health of the tree shows the
    /// loss.
    Degrade,
}

/// State of a circuit breaker.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    recent: VecDeque<Instant>,
    /// Consecutive openings; zero while the circuit is closed.
    opened: u32,
    /// Start of the last trial, which may be in the future.
    trial: Option<Instant>,
}

impl Circuit {
    /// Records a failure at `now`. Returns the time for which the circuit opens; none if it stays
    /// closed.
    pub fn failed(&mut self, now: Instant, breaker: Breaker, chance: f64) -> Option<Duration> {
        if let Some(trial) = self.trial {
            if now.saturating_duration_since(trial) < breaker.proved_after {
                return Some(self.open(now, breaker, chance));
            }
            *self = Self::default();
        }
        while self
            .recent
            .front()
            .is_some_and(|first| now.saturating_duration_since(*first) >= breaker.within)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        (self.recent.len() >= breaker.failures.max(1)).then(|| self.open(now, breaker, chance))
    }

    fn open(&mut self, now: Instant, breaker: Breaker, chance: f64) -> Duration {
        let wait = breaker.open_for.delay(self.opened, chance);
        self.recent.clear();
        self.opened = self.opened.saturating_add(1);
        self.trial = Some(later(now, wait));
        wait
    }
}

/// The restarts in the current window, at most as many as the intensity allows.
#[derive(Debug, Default)]
pub(crate) struct RestartLog(VecDeque<Instant>);

impl RestartLog {
    /// Records a restart at `now`. False, without recording it, if it would exceed the intensity.
    pub fn admit(&mut self, now: Instant, intensity: Intensity) -> bool {
        while self
            .0
            .front()
            .is_some_and(|first| now.duration_since(*first) >= intensity.within)
        {
            self.0.pop_front();
        }
        let is_admitted = (self.0.len() < intensity.restarts && !interceptor::gives_up_at_once())
            || interceptor::never_gives_up();
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
    fn strategies_select_the_affected_children() {
        for (strategy, failed, affected) in [
            (Strategy::OneForOne, 0, 0..1),
            (Strategy::OneForOne, 3, 3..4),
            (Strategy::OneForAll, 0, 0..4),
            (Strategy::OneForAll, 3, 0..4),
            (Strategy::RestForOne, 0, 0..4),
            (Strategy::RestForOne, 2, 2..4),
        ] {
            assert_eq!(
                strategy.affected(failed, 4),
                affected,
                "{strategy:?} {failed}"
            );
        }
    }

    #[test]
    fn a_breaker_opens_tries_and_closes() {
        let start = alys_runtime::time::now();
        let breaker = Breaker {
            failures: 3,
            within: ms(100),
            open_for: Backoff {
                initial: ms(50),
                max: ms(150),
                factor: 2.0,
                jitter: 0.0,
            },
            proved_after: ms(40),
        };
        let mut circuit = Circuit::default();
        // Time of each failure in ms, and the time for which the circuit then opens.
        for (at, open_for) in [
            (0, None),
            (90, None),
            (110, None), // The first has left the window.
            (120, Some(50)),
            (175, Some(100)), // The trial at 170 fails, as do the next ones.
            (275, Some(150)),
            (425, Some(150)),
            (615, None), // The trial at 575 has run for `proved_after`.
            (616, None),
            (617, Some(50)),
        ] {
            assert_eq!(
                circuit.failed(start + ms(at), breaker, 0.0),
                open_for.map(ms),
                "at {at}"
            );
        }
        let touchy = Breaker {
            failures: 0,
            ..breaker
        };
        assert_eq!(Circuit::default().failed(start, touchy, 0.0), Some(ms(50)));
    }

    #[test]
    fn intensity_counts_within_a_sliding_span() {
        let start = alys_runtime::time::now();
        let intensity = Intensity {
            restarts: 2,
            within: ms(100),
        };
        let mut log = RestartLog::default();
        for (at, admitted) in [
            (0, true),
            (60, true),
            (99, false),
            (100, true),
            (150, false),
            (160, true),
            (161, false),
        ] {
            assert_eq!(log.admit(start + ms(at), intensity), admitted, "at {at}");
        }
        assert!(!RestartLog::default().admit(
            start,
            Intensity {
                restarts: 0,
                within: ms(100)
            }
        ));
    }
}
