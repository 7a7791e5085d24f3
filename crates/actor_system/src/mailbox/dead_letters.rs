//! Messages that were not handled, with the reasons.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use alys_runtime::time::{self, Instant};

use crate::lock;

/// Dead letters that are kept to be looked at; the counts go on for ever.
pub const DEAD_LETTERS_KEPT: usize = 256;

/// Reason for which a message was not handled to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It was dropped for a newer one, as its [`Overflow`](crate::Overflow) says.
    DroppedOldest,
    /// It found no room and was dropped, as its own [`Overflow`](crate::Overflow) says.
    DroppedNewest,
    /// Its deadline had passed before its turn came.
    Expired,
    /// Handling it failed, and it is not repeated.
    Killed,
    /// Handling it failed in each of its tries.
    Poison,
    /// A stop's deadline, or the watchdog, cut its handling off; or it is a timer's, and its
    /// incarnation failed in the batch before it was taken.
    Interrupted,
    /// The actor ended for good before its turn came.
    Abandoned,
    /// A fault of a test took it away.
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
            Self::Poison => "poison",
            Self::Interrupted => "interrupted",
            Self::Abandoned => "abandoned",
            Self::Injected => "injected",
        }
    }
}

/// A message that was not handled. The message itself is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Time at which it was given up.
    pub at: Instant,
    /// Path of the actor that it was for.
    pub to: Arc<str>,
    /// Path of the actor that sent it; none if it came from outside, or was sent by a task.
    pub from: Option<Arc<str>>,
    /// Kind of the message.
    pub kind: &'static str,
    /// Reason.
    pub reason: Reason,
}

/// The dead letters of a system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetters {
    /// The last ones, oldest first, at most [`DEAD_LETTERS_KEPT`].
    pub last: Vec<DeadLetter>,
    /// All of them, by actor and reason.
    pub counts: BTreeMap<(Arc<str>, Reason), u64>,
}

impl DeadLetters {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// All of one reason.
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
    /// Bounded by the actors that the system has had: names are reused over restarts.
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
