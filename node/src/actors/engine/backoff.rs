//! Pauses between reactions to a client that does not follow the fork choice. Pure: the time is an
//! argument.

use alys_runtime::time::{Duration, Instant};

/// The first pause. A client that is busy with earlier blocks follows after about this time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The largest pause, so that a client that was repaired follows within a slot or two.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Without pauses, each refusal would make the chain execute all its open blocks again at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    refusals: u32,
    next: Option<Instant>,
}

impl Backoff {
    /// True when a reaction is due now; the next one is due after a pause that doubles.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        let factor = 1_u32.checked_shl(self.refusals).unwrap_or(u32::MAX);
        let pause = FIRST_PAUSE.saturating_mul(factor).min(MAX_PAUSE);
        self.refusals = self.refusals.saturating_add(1);
        self.next = Some(now + pause);
        true
    }

    /// The time until the next reaction is due.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.next
            .map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// Starts again with the first pause, because the client follows.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_again() {
        let start = alys_runtime::time::now();
        let mut now = start;
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(backoff.is_due(now));
            assert!(!backoff.is_due(now));
            let pause = backoff.pause(now);
            pauses.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        for _ in 0..100 {
            now += MAX_PAUSE;
            assert!(backoff.is_due(now));
        }
        backoff.reset();
        assert_eq!(backoff.pause(now), Duration::ZERO);
        assert!(backoff.is_due(start));
        assert_eq!(backoff.pause(start), FIRST_PAUSE);
    }
}
