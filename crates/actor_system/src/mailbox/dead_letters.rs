//! Messages that nobody handled, and why.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use alys_runtime::time::{self, Instant};

use crate::lock;

/// Dead letters that are kept to be looked at; the counts go on for ever.
pub const DEAD_LETTERS_KEPT: usize = 256;

/// Why a message that was taken, or dropped in place of being taken, was not handled to its end.
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
    /// A stop's deadline, or the watchdog, cut its handling off; or it is a timer's, and its incarnation failed in the
    /// batch before it was taken.
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

/// A message that nobody handled. The message itself is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// When it was given up.
    pub at: Instant,
    /// Path of the actor that it was for.
    pub to: Arc<str>,
    /// Path of the actor that sent it; none if it came from outside, or was sent by a task.
    pub from: Option<Arc<str>>,
    /// What it was.
    pub kind: &'static str,
    /// Why it was given up.
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
pub(crate) struct Graveyard(Mutex<Graves>);

#[derive(Default)]
struct Graves {
    last: VecDeque<DeadLetter>,
    /// Bounded by the actors that the system has had: names are reused over restarts.
    counts: BTreeMap<(Arc<str>, Reason), u64>,
}

impl Graveyard {
    pub fn bury(&self, to: &Arc<str>, from: Option<Arc<str>>, kind: &'static str, reason: Reason) {
        let mut graves = lock(&self.0);
        *graves.counts.entry((to.clone(), reason)).or_default() += 1;
        if graves.last.len() == DEAD_LETTERS_KEPT {
            graves.last.pop_front();
        }
        graves.last.push_back(DeadLetter {
            at: time::now(),
            to: to.clone(),
            from,
            kind,
            reason,
        });
    }

    pub fn look(&self) -> DeadLetters {
        let graves = lock(&self.0);
        DeadLetters {
            last: graves.last.iter().cloned().collect(),
            counts: graves.counts.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_all_are_counted() {
        let graveyard = Graveyard::default();
        let to: Arc<str> = "s/a".into();
        for _ in 0..DEAD_LETTERS_KEPT + 5 {
            graveyard.bury(&to, None, "old", Reason::Expired);
        }
        graveyard.bury(&to, Some("s/b".into()), "new", Reason::Killed);
        let letters = graveyard.look();
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
