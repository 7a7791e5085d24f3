//! How long things took: counts in a fixed set of buckets, written without a lock.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets in nanoseconds, from 1 µs to 64 s, about three an octave. Each is from 1.25 to
/// 1.28 times the one before, so that a quantile is too high by 28 % at most. They are decimal, unlike what a
/// shift could compute, so that the bounds of the text format are among them and its counts are exact.
const BOUNDS_NS: [u64; BOUNDS] = bounds();
const BOUNDS: usize = 79;

/// Buckets: one for each bound, and one for what is longer than the last.
pub(super) const BUCKETS: usize = BOUNDS + 1;

/// For each position of a value's highest bit, the first bucket that such a value can be in.
const FIRST: [u8; 64] = first();

const fn bounds() -> [u64; BOUNDS] {
    const STEPS_NS: [u64; 10] = [1000, 1250, 1600, 2000, 2500, 3200, 4000, 5000, 6400, 8000];
    let mut bounds = [0; BOUNDS];
    let (mut index, mut decade) = (0, 1);
    while index < BOUNDS {
        bounds[index] = STEPS_NS[index % STEPS_NS.len()] * decade;
        index += 1;
        if index % STEPS_NS.len() == 0 {
            decade *= 10;
        }
    }
    bounds
}

const fn first() -> [u8; 64] {
    let mut first = [0; 64];
    let mut bit = 0;
    while bit < 64 {
        let mut index = 0;
        while index < BOUNDS && BOUNDS_NS[index] < 1 << bit {
            index += 1;
        }
        // There are fewer than 256 buckets.
        first[bit] = index as u8;
        bit += 1;
    }
    first
}

/// The bounds and as many that nothing exceeds as a look-up may see beyond the last.
const PADDED_NS: [u64; BOUNDS + AN_OCTAVE] = padded();

/// Bounds that lie between one power of two and the next, at most.
const AN_OCTAVE: usize = 4;

const fn padded() -> [u64; BOUNDS + AN_OCTAVE] {
    let mut padded = [u64::MAX; BOUNDS + AN_OCTAVE];
    let mut index = 0;
    while index < BOUNDS {
        padded[index] = BOUNDS_NS[index];
        index += 1;
    }
    padded
}

/// The bucket of a duration: the first whose bound is not below it. Always compares as often: durations are
/// random enough that a branch would be guessed wrong.
fn bucket(ns: u64) -> usize {
    let first = usize::from(FIRST[(ns | 1).ilog2() as usize]);
    first
        + PADDED_NS[first..first + AN_OCTAVE]
            .iter()
            .map(|bound| usize::from(*bound < ns))
            .sum::<usize>()
}

/// Nanoseconds of a duration. What is longer than 584 years counts as that.
fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(duration.subsec_nanos().into())
}

/// Durations, counted in buckets. 648 bytes; an observation is a table look-up and two additions.
///
/// All accesses are relaxed: what a reader sees may lack the last observations, and the sum may be ahead of
/// or behind the buckets by as many. The count is the sum of the buckets, and so never disagrees with them.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds. Full after 584 years of observed time; then it begins again at zero, as readers of
    /// counters expect.
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts a duration. Any number of writers at once.
    pub fn observe(&self, duration: Duration) {
        let ns = nanos(duration);
        self.buckets[bucket(ns)].fetch_add(1, Relaxed);
        self.sum.fetch_add(ns, Relaxed);
    }

    /// Counts a duration, faster: plain loads and stores. Only for a histogram that has one writer at a time,
    /// such as an actor's own. If there are two, observations are lost, but nothing worse happens.
    pub fn observe_alone(&self, duration: Duration) {
        let ns = nanos(duration);
        add_alone(&self.buckets[bucket(ns)], 1);
        add_alone(&self.sum, ns);
    }

    /// Observations so far.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// All durations together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.load(Relaxed))
    }

    /// See [`HistogramSnapshot::quantile`].
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.snapshot().quantile(q)
    }

    /// What it holds now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let buckets = std::array::from_fn(|index| self.buckets[index].load(Relaxed));
        HistogramSnapshot {
            buckets,
            sum_ns: self.sum.load(Relaxed),
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Adds to a number that has one writer at a time.
pub(super) fn add_alone(number: &AtomicU64, n: u64) {
    number.store(number.load(Relaxed).wrapping_add(n), Relaxed);
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            sum_ns: 0,
        }
    }
}

impl HistogramSnapshot {
    /// Observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The mean duration; none without observations.
    pub fn mean(&self) -> Option<Duration> {
        self.sum_ns
            .checked_div(self.count())
            .map(Duration::from_nanos)
    }

    /// A duration that the share `q` (from 0 to 1) of the observations did not exceed: the upper bound of the
    /// bucket in which the one of that rank is. Up to 28 % too long for one over a microsecond;
    /// [`Duration::MAX`] if it was longer than 64 seconds. None without observations.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        // The cast saturates, not a number is zero, and counts are far below 2^53.
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let index = self.buckets.iter().position(|in_bucket| {
            seen += in_bucket;
            seen >= rank
        })?;
        Some(
            BOUNDS_NS
                .get(index)
                .map_or(Duration::MAX, |ns| Duration::from_nanos(*ns)),
        )
    }

    /// Adds the observations of another: several actors, or several kinds of messages, as one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// Observations that were not longer than `bound_ns`, which must be a bound of a bucket.
    pub(super) fn not_longer_than(&self, bound_ns: u64) -> u64 {
        self.buckets
            .iter()
            .zip(BOUNDS_NS)
            .take_while(|(_, ns)| *ns <= bound_ns)
            .map(|(count, _)| count)
            .sum()
    }
}

impl fmt::Debug for HistogramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("sum", &self.sum())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;

    use super::*;

    /// Durations of every size, and those next to the bounds.
    fn any_ns() -> impl Strategy<Value = u64> {
        let near = (0..BOUNDS, 0..3u64).prop_map(|(index, off)| BOUNDS_NS[index] + off - 1);
        let sized = (0..64u32, any::<u64>()).prop_map(|(bits, random)| random >> bits);
        prop_oneof![near, sized, Just(0)]
    }

    #[test]
    fn the_tables_are_what_their_rules_say() {
        assert_eq!((bounds(), first()), (BOUNDS_NS, FIRST));
        for (bit, index) in first().into_iter().enumerate() {
            let below = padded().iter().take_while(|ns| **ns < 1 << bit).count();
            assert_eq!(usize::from(index), below.min(BOUNDS), "2^{bit}");
        }
    }

    #[test]
    fn bounds_rise_by_a_quarter_from_a_microsecond_to_64_seconds() {
        assert_eq!(
            (BOUNDS_NS[0], BOUNDS_NS[BOUNDS - 1]),
            (1_000, 64_000_000_000)
        );
        for pair in BOUNDS_NS.windows(2) {
            assert!(
                pair[1] * 100 >= pair[0] * 125 && pair[1] * 100 <= pair[0] * 128,
                "{pair:?}"
            );
        }
        for bit in 0..63 {
            let between = BOUNDS_NS
                .iter()
                .filter(|ns| (1 << bit..2 << bit).contains(*ns))
                .count();
            assert!(between <= AN_OCTAVE, "{between} bounds from 2^{bit}");
        }
    }

    #[test]
    fn an_empty_histogram_has_no_quantile_and_a_full_one_has_bounds() {
        let histogram = Histogram::default();
        assert_eq!(
            (histogram.count(), histogram.sum(), histogram.quantile(0.5)),
            (0, Duration::ZERO, None)
        );
        assert_eq!(histogram.snapshot().mean(), None);
        for ms in [1, 2, 3, 4, 1000, 100_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let ms = Duration::from_millis;
        for (q, bound) in [
            (-1.0, ms(1)),
            (f64::NAN, ms(1)),
            (0.0, ms(1)),
            (0.2, ms(2)),
            (0.5, Duration::from_micros(3200)),
            (0.6, ms(4)),
            (5.0 / 6.0, ms(1000)),
            (0.99, Duration::MAX),
            (f64::INFINITY, Duration::MAX),
        ] {
            assert_eq!(histogram.quantile(q), Some(bound), "{q}");
        }
        assert_eq!((histogram.count(), histogram.sum()), (6, ms(101_010)));
        assert_eq!(histogram.snapshot().mean(), Some(ms(16_835)));
        let shown = format!("{histogram:?}");
        assert!(
            shown.contains("count: 6") && shown.contains("p50: Some(3.2ms)"),
            "{shown}"
        );
    }

    #[test]
    fn no_observation_of_many_writers_is_lost() {
        const WRITERS: u64 = 4;
        const EACH: u64 = 2_000;
        let histogram = Arc::<Histogram>::default();
        let shared = histogram.clone();
        alys_runtime::block_on_main(async move {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| {
                    let histogram = shared.clone();
                    alys_runtime::spawn("writer", async move {
                        for n in 0..EACH {
                            histogram.observe(Duration::from_micros(n));
                            if n % 64 == 0 {
                                alys_runtime::yield_now().await;
                            }
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
        });
        assert_eq!(histogram.count(), WRITERS * EACH);
        assert_eq!(
            histogram.sum(),
            Duration::from_micros(WRITERS * EACH * (EACH - 1) / 2)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_duration_is_in_the_first_bucket_that_holds_it(ns in any_ns()) {
            prop_assert_eq!(bucket(ns), BOUNDS_NS.partition_point(|bound| *bound < ns));
        }

        #[test]
        fn a_quantile_is_not_below_the_true_one_and_at_most_28_percent_above(
            ns in prop::collection::vec(any_ns(), 1..100),
            q in 0.0..=1.0f64,
        ) {
            let (histogram, alone) = (Histogram::default(), Histogram::default());
            for ns in &ns {
                histogram.observe(Duration::from_nanos(*ns));
                alone.observe_alone(Duration::from_nanos(*ns));
            }
            prop_assert_eq!(histogram.snapshot(), alone.snapshot());
            let mut sorted = ns.clone();
            sorted.sort_unstable();
            let rank = ((q * ns.len() as f64).ceil() as usize).clamp(1, ns.len());
            let exact = Duration::from_nanos(sorted[rank - 1]);
            let found = histogram.quantile(q).unwrap();
            prop_assert!(found >= exact);
            let floor = Duration::from_micros(1);
            let is_over = found == Duration::MAX && exact > Duration::from_secs(64);
            prop_assert!(is_over || found <= exact.max(floor) * 128 / 100);
        }

        #[test]
        fn merged_snapshots_are_one_of_all_observations(
            left in prop::collection::vec(any_ns(), 0..50),
            right in prop::collection::vec(any_ns(), 0..50),
        ) {
            let [mine, theirs, all] = [(); 3].map(|()| Histogram::default());
            for ns in &left {
                mine.observe(Duration::from_nanos(*ns));
                all.observe(Duration::from_nanos(*ns));
            }
            for ns in &right {
                theirs.observe(Duration::from_nanos(*ns));
                all.observe(Duration::from_nanos(*ns));
            }
            let mut merged = mine.snapshot();
            merged.merge(&theirs.snapshot());
            prop_assert_eq!(&merged, &all.snapshot());
            for bound in BOUNDS_NS {
                let exact = left.iter().chain(&right).filter(|ns| **ns <= bound).count() as u64;
                prop_assert_eq!(merged.not_longer_than(bound), exact);
            }
        }
    }
}
