//! A token bucket with integer arithmetic.

use std::{fmt, time::Instant};

/// Units per token. At `n` tokens a second a nanosecond adds exactly `n` units, so nothing is
/// rounded.
const UNITS: u64 = 1_000_000_000;

/// Limit on the rate of messages: a burst, then a sustained rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateLimit {
    /// Maximum messages at one instant.
    pub burst: u32,
    /// Sustained messages per second.
    pub per_second: u32,
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} a second in bursts of {}",
            self.per_second, self.burst
        )
    }
}

/// A token bucket for a [`RateLimit`]. Starts full.
///
/// In any closed interval of `t` seconds it admits at most `burst + per_second * t` messages, and
/// it refuses a message only if it would exceed that bound.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    limit: RateLimit,
    /// Current level in units, from zero to `burst * UNITS`, which fits because both factors are
    /// below 2^32.
    level: u64,
    /// Latest time seen; none before the first message.
    last: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket. A zero burst admits nothing; a zero rate admits one burst in total.
    pub fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            level: Self::full(limit),
            last: None,
        }
    }

    /// The limit that it enforces.
    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes a token. False if there is none at `now`. A time before the latest one seen counts as
    /// the latest, because senders on several threads read the clock before they reach the lock.
    pub fn admit(&mut self, now: Instant) -> bool {
        self.refill(now);
        match self.level.checked_sub(UNITS) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, now: Instant) {
        let last = *self.last.get_or_insert(now);
        let elapsed_ns = now.saturating_duration_since(last).as_nanos();
        // A duration has less than 2^94 nanoseconds, so the product fits a u128.
        let gained = elapsed_ns * u128::from(self.limit.per_second);
        let missing = Self::full(self.limit) - self.level;
        self.level += u64::try_from(gained).map_or(missing, |gained| gained.min(missing));
        self.last = Some(last.max(now));
    }

    fn full(limit: RateLimit) -> u64 {
        u64::from(limit.burst) * UNITS
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// The dual formulation (GCRA): each message moves the time, in units, at which the bucket is
    /// full again, and is refused if that would be more than a burst away.
    struct Model {
        limit: RateLimit,
        full_at: u128,
    }

    impl Model {
        fn admit(&mut self, at_ns: u128) -> bool {
            let now = at_ns * u128::from(self.limit.per_second);
            let full_at = self.full_at.max(now) + u128::from(UNITS);
            let admitted = full_at <= now + u128::from(self.limit.burst) * u128::from(UNITS);
            if admitted {
                self.full_at = full_at;
            }
            admitted
        }
    }

    /// Gaps between arrivals at which errors are likely: zero, one nanosecond, the time of a token
    /// and its neighbours, long ones.
    fn gaps(per_second: u32) -> impl Strategy<Value = Vec<u64>> {
        let token = UNITS / u64::from(per_second.max(1));
        let gap = prop_oneof![
            4 => Just(0),
            2 => Just(1),
            4 => token.saturating_sub(1)..=token + 1,
            2 => 0..=token.saturating_mul(3),
            1 => 0..100 * UNITS,
        ];
        prop::collection::vec(gap, 1..200)
    }

    fn cases() -> impl Strategy<Value = (RateLimit, Vec<u64>)> {
        let rate = prop_oneof![0..5u32, 1..2000u32, any::<u32>()];
        let burst = prop_oneof![0..5u32, any::<u32>()];
        (burst, rate).prop_flat_map(|(burst, per_second)| {
            gaps(per_second).prop_map(move |gaps| (RateLimit { burst, per_second }, gaps))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_bucket_decides_as_the_model_does((limit, gaps) in cases()) {
            let start = alys_runtime::time::now();
            let mut bucket = TokenBucket::new(limit);
            let mut model = Model { limit, full_at: 0 };
            let mut at_ns = 0;
            for gap in gaps {
                at_ns += gap;
                let admitted = bucket.admit(start + Duration::from_nanos(at_ns));
                prop_assert_eq!(admitted, model.admit(at_ns.into()), "at {} ns", at_ns);
            }
        }

        #[test]
        fn no_span_holds_more_than_a_burst_and_the_rate(
            burst in 1..6u32,
            per_second in 1..2000u32,
            gaps in gaps(50),
        ) {
            let start = alys_runtime::time::now();
            let mut bucket = TokenBucket::new(RateLimit { burst, per_second });
            let mut admitted: Vec<u128> = Vec::new();
            let mut at_ns = 0;
            for gap in gaps {
                at_ns += gap;
                if bucket.admit(start + Duration::from_nanos(at_ns)) {
                    admitted.push(at_ns.into());
                }
            }
            for (first, begin) in admitted.iter().enumerate() {
                for (last, end) in admitted.iter().enumerate().skip(first) {
                    let gained = (end - begin) * u128::from(per_second);
                    let allowed = u128::from(burst) * u128::from(UNITS) + gained;
                    prop_assert!((last - first + 1) as u128 * u128::from(UNITS) <= allowed);
                }
            }
        }
    }

    #[test]
    fn thirds_of_a_second_do_not_drift_in_a_million_steps() {
        let start = alys_runtime::time::now();
        let mut bucket = TokenBucket::new(RateLimit {
            burst: 2,
            per_second: 3,
        });
        let mut admitted = 0u64;
        for step in 0..1_000_000u64 {
            // Far more attempts than tokens, so that rounding errors would accumulate.
            admitted +=
                u64::from(bucket.admit(start + Duration::from_micros(step * 1_000 + step % 7)));
        }
        // 999.999 seconds at three tokens per second, and the burst.
        assert_eq!(admitted, 2 + 2999);
    }

    #[test]
    fn an_earlier_time_brings_nothing_and_takes_nothing() {
        let start = alys_runtime::time::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(RateLimit {
            burst: 1,
            per_second: 1,
        });
        let second = Duration::from_secs(1);
        for (now, admitted) in [
            (start, true),
            (start - second, false),
            (start, false),
            (start + second, true),
            (start, false),
            (start + 2 * second, true),
        ] {
            assert_eq!(bucket.admit(now), admitted, "{now:?}");
        }
    }

    #[test]
    fn a_bucket_without_burst_or_rate_lets_through_nothing_or_one_burst() {
        let start = alys_runtime::time::now();
        let far = start + Duration::from_secs(1_000_000_000);
        let mut shut = TokenBucket::new(RateLimit {
            burst: 0,
            per_second: u32::MAX,
        });
        assert!(!shut.admit(start) && !shut.admit(far));
        let mut once = TokenBucket::new(RateLimit {
            burst: 2,
            per_second: 0,
        });
        assert_eq!(
            [start, far, far, far].map(|now| once.admit(now)),
            [true, true, false, false]
        );
    }
}
