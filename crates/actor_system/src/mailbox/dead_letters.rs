//! Record of the messages that were not handled.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use alys_runtime::time::{self, Instant};

use crate::lock;

/// Dead letters that are kept with their details. Older ones remain in the counts only.
pub const DEAD_LETTERS_KEPT: usize = 256;

/// Reason why a message was not handled to completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It was dropped for a newer one under [`Overflow::DropOldest`](crate::Overflow::DropOldest).
    DroppedOldest,
    /// It found a full mailbox and was dropped under
    /// [`Overflow::DropNewest`](crate::Overflow::DropNewest).
    DroppedNewest,
    /// Its deadline passed while it was queued.
    Expired,
    /// Its handler failed.
    Killed,
    /// A stop's deadline or the `handle_timeout` limit cancelled its handler; or it is the message
    /// of a timer, in a batch that failed before taking it.
    Interrupted,
    /// The actor terminated while it was queued.
    Abandoned,
    /// An injected fault dropped it.
    Injected,
}

impl Reason {
    /// The value of the label `reason` in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DroppedOldest => "dropped_oldest",
            Self::DroppedNewest => "dropped_newest",
            Self::Expired => "expired",
            Self::Killed => "killed",
            Self::Interrupted => "interrupted",
            Self::Abandoned => "abandoned",
            Self::Injected => "injected",
        }
    }
}

/// Record of a message that was not handled, without the message itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Time at which it was recorded.
    pub at: Instant,
    /// Path of the receiver.
    pub to: Arc<str>,
    /// Path of the sending actor; none if the sender was a task or code outside of an actor.
    pub from: Option<Arc<str>>,
    /// Kind of the message.
    pub kind: &'static str,
    /// Reason why it was not handled.
    pub reason: Reason,
}

/// The dead letters of a system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetters {
    /// The most recent ones, oldest first; at most [`DEAD_LETTERS_KEPT`].
    pub last: Vec<DeadLetter>,
    /// Totals by path of the receiver and reason.
    pub counts: BTreeMap<(Arc<str>, Reason), u64>,
}

impl DeadLetters {
    /// Total number of dead letters.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Number of dead letters with this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.counts
            .iter()
            .filter(|((_, other), _)| *other == reason)
            .map(|(_, count)| count)
            .sum()
    }
}

#[derive(Default)]
pub(crate) struct DeadLetterLog(Mutex<Letters>);

#[derive(Default)]
struct Letters {
    last: VecDeque<DeadLetter>,
    /// Bounded by the paths of the system's actors, because a restarted actor keeps its path.
    counts: BTreeMap<(Arc<str>, Reason), u64>,
}

impl DeadLetterLog {
    pub fn record(
        &self,
        to: &Arc<str>,
        from: Option<Arc<str>>,
        kind: &'static str,
        reason: Reason,
    ) {
        let mut letters = lock(&self.0);
        *letters.counts.entry((to.clone(), reason)).or_default() += 1;
        if letters.last.len() == DEAD_LETTERS_KEPT {
            letters.last.pop_front();
        }
        letters.last.push_back(DeadLetter {
            at: time::now(),
            to: to.clone(),
            from,
            kind,
            reason,
        });
    }

    pub fn read(&self) -> DeadLetters {
        let letters = lock(&self.0);
        DeadLetters {
            last: letters.last.iter().cloned().collect(),
            counts: letters.counts.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_all_are_counted() {
        let log = DeadLetterLog::default();
        let to: Arc<str> = "s/a".into();
        for _ in 0..DEAD_LETTERS_KEPT + 5 {
            log.record(&to, None, "old", Reason::Expired);
        }
        log.record(&to, Some("s/b".into()), "new", Reason::Killed);
        let letters = log.read();
        assert_eq!(letters.last.len(), DEAD_LETTERS_KEPT);
        let last = letters.last.last().expect("some");
        assert_eq!(
            (last.kind, last.reason, last.from.as_deref()),
            ("new", Reason::Killed, Some("s/b"))
        );
        assert_eq!(letters.of(Reason::Expired), DEAD_LETTERS_KEPT as u64 + 5);
        assert_eq!(letters.total(), DEAD_LETTERS_KEPT as u64 + 6);
    }
}
