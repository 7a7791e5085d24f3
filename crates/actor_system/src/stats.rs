//! What became of the messages of one mailbox, counted.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{mailbox::add, metrics::Histogram};

/// Kinds that are counted by name; those beyond are counted together as [`OTHER`].
pub(crate) const MAX_KINDS: usize = 32;
const OTHER: &str = "other";

/// Counts of one mailbox and its actor, over all incarnations. What senders do is written under the mailbox's
/// lock, the rest by the actor's task alone.
#[derive(Default)]
pub(crate) struct Stats {
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub coalesced: AtomicU64,
    pub dropped: AtomicU64,
    pub timers: AtomicU64,
    pub handled: AtomicU64,
    pub failed: AtomicU64,
    pub redelivered: AtomicU64,
    pub expired: AtomicU64,
    pub abandoned: AtomicU64,
    pub interrupted: AtomicU64,
    kinds: OnceLock<Box<Kinds>>,
}

#[derive(Default)]
struct Kinds {
    slots: [Kind; MAX_KINDS],
    other: Kind,
}

/// Figures of one kind of message.
#[derive(Default)]
pub(crate) struct Kind {
    name: OnceLock<&'static str>,
    pub handled: AtomicU64,
    pub failed: AtomicU64,
    times: OnceLock<Box<Times>>,
}

/// Taken only while metrics are on.
#[derive(Default)]
pub(crate) struct Times {
    /// From being sent to being begun.
    pub waited: Histogram,
    /// From being begun to being done.
    pub handled: Histogram,
}

impl Kind {
    pub fn times(&self) -> &Times {
        self.times.get_or_init(Box::default)
    }
}

impl Stats {
    /// The figures of a kind. Called by the actor's task alone.
    pub fn kind(&self, name: &'static str) -> &Kind {
        let kinds = self.kinds.get_or_init(Box::default);
        for kind in &kinds.slots {
            let slot = kind.name.get_or_init(|| name);
            // Names are constants: the same text is nearly always at the same place.
            if std::ptr::eq(*slot, name) || *slot == name {
                return kind;
            }
        }
        kinds.other.name.get_or_init(|| OTHER);
        &kinds.other
    }

    pub fn count(&self, name: &'static str) {
        add(&self.handled, 1);
        add(&self.kind(name).handled, 1);
    }

    pub fn count_failed(&self, name: &'static str) {
        add(&self.failed, 1);
        add(&self.kind(name).failed, 1);
    }

    /// The kinds seen so far: name, handled, failed, times.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64, u64, Option<&Times>)> {
        let kinds = self.kinds.get().into_iter();
        kinds
            .flat_map(|kinds| kinds.slots.iter().chain([&kinds.other]))
            .filter_map(|kind| {
                let name = kind.name.get()?;
                let times = kind.times.get().map(|times| &**times);
                Some((
                    *name,
                    kind.handled.load(Relaxed),
                    kind.failed.load(Relaxed),
                    times,
                ))
            })
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
            .map(|(name, handled, failed, _)| (name, handled, failed))
            .collect();
        assert_eq!(kinds.len(), MAX_KINDS + 1);
        assert_eq!(kinds[3], ("kind3", 4, 1));
        assert_eq!(kinds[MAX_KINDS], (OTHER, (33..=40).sum::<u64>(), 0));
        assert_eq!(stats.handled.load(Relaxed), (1..=40).sum::<u64>());
        assert_eq!(stats.failed.load(Relaxed), 1);
    }
}
