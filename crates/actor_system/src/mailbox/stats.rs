//! Counters of one mailbox and its actor, kept across incarnations.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::metrics::histogram::Histogram;

use crate::mailbox::add;

/// Message kinds with their own counters. Further kinds share those of [`OTHER`].
pub(crate) const MAX_KINDS: usize = 32;
const OTHER: &str = "other";

/// Upper bounds of the histogram buckets, in seconds: two per decade, from 10 µs to 10 s.
const BUCKETS: [f64; 13] = [
    1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// Senders write `accepted`, `refused` and `dropped`; only the actor's task writes the
/// rest.
#[derive(Default)]
pub(crate) struct Stats {
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub dropped: AtomicU64,
    pub timers: AtomicU64,
    pub crossed: AtomicU64,
    pub handled: AtomicU64,
    pub failed: AtomicU64,
    pub expired: AtomicU64,
    pub abandoned: AtomicU64,
    pub interrupted: AtomicU64,
    kinds: NextKind,
}

type NextKind = OnceLock<Box<KindStats>>;

/// Counters of one kind of message.
pub(crate) struct KindStats {
    name: &'static str,
    handled: AtomicU64,
    failed: AtomicU64,
    times: OnceLock<Box<Times>>,
    next: NextKind,
}

/// Histograms of one kind of message, created by the first measurement.
pub(crate) struct Times {
    /// Seconds from sending until the handler starts.
    pub waiting: Histogram,
    /// Seconds from the start of the handler to its end.
    pub handling: Histogram,
}

impl KindStats {
    fn new(name: &'static str) -> Box<Self> {
        Box::new(Self {
            name,
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            times: OnceLock::new(),
            next: OnceLock::new(),
        })
    }

    pub fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Histograms of this kind; none before the first measurement.
    pub fn times(&self) -> Option<&Times> {
        self.times.get().map(|times| &**times)
    }

    pub fn observe_waiting(&self, time: Duration) {
        self.measured().waiting.observe(time.as_secs_f64());
    }

    pub fn observe_handling(&self, time: Duration) {
        self.measured().handling.observe(time.as_secs_f64());
    }

    fn measured(&self) -> &Times {
        self.times.get_or_init(|| {
            let waiting = Histogram::new(BUCKETS);
            let handling = Histogram::new(BUCKETS);
            Box::new(Times { waiting, handling })
        })
    }
}

impl Stats {
    /// The counters of a kind, created at its first message. Called only by the actor's task.
    pub fn kind(&self, name: &'static str) -> &KindStats {
        let mut next = &self.kinds;
        for _ in 0..MAX_KINDS {
            let kind = next.get_or_init(|| KindStats::new(name));
            // Names are constants, so equal texts nearly always have equal addresses, and the
            // pointer comparison is cheaper.
            if std::ptr::eq(kind.name, name) || kind.name == name {
                return kind;
            }
            next = &kind.next;
        }
        next.get_or_init(|| KindStats::new(OTHER))
    }

    pub fn count(&self, name: &'static str) {
        add(&self.handled, 1);
        add(&self.kind(name).handled, 1);
    }

    pub fn count_failed(&self, name: &'static str) {
        add(&self.failed, 1);
        add(&self.kind(name).failed, 1);
    }

    /// The kinds seen so far, in the order of their first message.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &KindStats)> {
        std::iter::successors(self.kinds.get(), |kind| kind.next.get())
            .map(|kind| (kind.name, &**kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_by_name_and_the_rest_together() {
        let stats = Stats::default();
        let names: Vec<&'static str> = (0..40)
            .map(|n| &*Box::leak(format!("kind{n}").into_boxed_str()))
            .collect();
        for (times, name) in names.iter().enumerate() {
            (0..=times).for_each(|_| stats.count(name));
        }
        // The same text at another address is the same kind.
        stats.count_failed(Box::leak(String::from("kind3").into_boxed_str()));
        let kinds: Vec<_> = stats
            .kinds()
            .map(|(name, kind)| (name, kind.handled(), kind.failed()))
            .collect();
        assert_eq!(kinds.len(), MAX_KINDS + 1);
        assert_eq!(kinds[3], ("kind3", 4, 1));
        assert_eq!(kinds[MAX_KINDS], (OTHER, (33..=40).sum::<u64>(), 0));
        assert_eq!(stats.handled.load(Relaxed), (1..=40).sum::<u64>());
        assert_eq!(stats.failed.load(Relaxed), 1);
    }
}
