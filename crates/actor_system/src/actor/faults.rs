//! Fault injection for tests: faults at chosen messages of an actor.
//!
//! Messages are checked for faults only after the first call of
//! [`System::faults`](crate::System::faults).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{actor::cell::Cell, actor::control, lock};

/// Maximum pending faults of one actor.
pub const MAX_PLANNED: usize = 1024;

/// Maximum recorded messages of one watched actor; older ones are dropped.
pub const MAX_SEEN: usize = 4096;

/// Fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The handler panics.
    Panic,
    /// The handler returns an error.
    Fail,
    /// The handler never completes.
    Hang,
    /// The handler starts after this delay.
    Slow(Duration),
    /// The message is handled, but its replies are lost.
    LoseReply,
    /// The message is dropped unhandled.
    Drop,
}

/// A fault and the messages that trigger it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Fault to inject.
    pub fault: Fault,
    /// Kind of the matching messages; all kinds if none.
    pub kind: Option<&'static str>,
    /// Matching messages to skip first.
    pub after: u64,
    /// Matching messages to hit after that; a fault with zero is not planned.
    pub times: u64,
}

impl From<Fault> for Planned {
    /// Triggers at the next message of any kind.
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            kind: None,
            after: 0,
            times: 1,
        }
    }
}

impl Planned {
    /// Restricts the fault to messages of this kind.
    pub fn at(self, kind: &'static str) -> Self {
        Self {
            kind: Some(kind),
            ..self
        }
    }

    /// Skips this many matching messages first.
    pub fn after(self, messages: u64) -> Self {
        Self {
            after: messages,
            ..self
        }
    }

    /// Hits this many matching messages.
    pub fn times(self, messages: u64) -> Self {
        Self {
            times: messages,
            ..self
        }
    }
}

/// The planned faults of a system, and counts of the messages that they hit.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    planned: BTreeMap<Arc<str>, VecDeque<Planned>>,
    watched: BTreeMap<Arc<str>, VecDeque<&'static str>>,
    hits: BTreeMap<(Arc<str>, &'static str), u64>,
}

impl Faults {
    /// Plans a fault for the actor with this full path (`system/supervisor/actor`), which need not
    /// exist yet. False if [`MAX_PLANNED`] faults are pending for it.
    pub fn plan(&self, path: &str, planned: impl Into<Planned>) -> bool {
        let planned = planned.into();
        let mut state = lock(&self.0);
        let queue = state.planned.entry(path.into()).or_default();
        let has_room = queue.len() < MAX_PLANNED;
        if has_room && planned.times > 0 {
            queue.push_back(planned);
        }
        has_room
    }

    /// Removes all pending faults.
    pub fn clear(&self) {
        lock(&self.0).planned.clear();
    }

    /// Removes the pending faults of this actor.
    pub fn withdraw(&self, path: &str) {
        lock(&self.0).planned.remove(path);
    }

    /// Number of faults of this actor with remaining hits.
    pub fn waiting(&self, path: &str) -> usize {
        lock(&self.0).planned.get(path).map_or(0, VecDeque::len)
    }

    /// Records the kinds of the messages that this actor handles from now on, at most the last
    /// [`MAX_SEEN`].
    pub fn watch(&self, path: &str) {
        lock(&self.0).watched.entry(path.into()).or_default();
    }

    /// Recorded kinds of the messages of a watched actor, oldest first.
    pub fn seen(&self, path: &str) -> Vec<&'static str> {
        lock(&self.0)
            .watched
            .get(path)
            .map(|seen| seen.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Number of injected faults, by path of the actor and kind of message.
    pub fn hits(&self) -> BTreeMap<(Arc<str>, &'static str), u64> {
        lock(&self.0).hits.clone()
    }

    /// Records a message whose handler is about to start, and returns its fault, if any.
    pub(crate) fn strike(&self, path: &Arc<str>, kind: &'static str) -> Option<Fault> {
        let mut state = lock(&self.0);
        if let Some(seen) = state.watched.get_mut(path) {
            if seen.len() == MAX_SEEN {
                seen.pop_front();
            }
            seen.push_back(kind);
        }
        let queue = state.planned.get_mut(path)?;
        let mut struck = None;
        for planned in queue
            .iter_mut()
            .filter(|planned| planned.kind.is_none_or(|wanted| wanted == kind))
        {
            if planned.after > 0 {
                planned.after -= 1;
            } else if struck.is_none() {
                planned.times -= 1;
                struck = Some(planned.fault);
            }
        }
        queue.retain(|planned| planned.times > 0);
        if struck.is_some() {
            *state.hits.entry((path.clone(), kind)).or_default() += 1;
        }
        struck
    }

    /// Makes all current actors check for faults.
    pub(crate) fn arm(root: &Arc<Cell>) {
        for cell in root.family() {
            cell.control.raise(control::FAULTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_hit_the_messages_that_they_are_for() {
        let faults = Faults::default();
        let path: Arc<str> = "s/a".into();
        faults.watch("s/a");
        assert!(faults.plan("s/a", Planned::from(Fault::Panic).at("b").after(1)));
        assert!(faults.plan("s/a", Planned::from(Fault::Drop).after(2).times(2)));
        let struck: Vec<_> = ["a", "b", "b", "a", "a"]
            .map(|kind| faults.strike(&path, kind))
            .into();
        assert_eq!(
            struck,
            [
                None,
                None,
                Some(Fault::Panic),
                Some(Fault::Drop),
                Some(Fault::Drop)
            ]
        );
        assert_eq!(faults.waiting("s/a"), 0);
        assert_eq!(faults.seen("s/a"), ["a", "b", "b", "a", "a"]);
        assert_eq!(faults.hits().into_values().sum::<u64>(), 3);
        assert_eq!(faults.strike(&"s/b".into(), "a"), None);
    }

    #[test]
    fn planned_faults_are_bounded_and_can_be_cleared() {
        let faults = Faults::default();
        for _ in 0..MAX_PLANNED {
            assert!(faults.plan("a", Fault::Hang));
        }
        assert!(!faults.plan("a", Fault::Hang));
        faults.clear();
        assert_eq!(faults.strike(&"a".into(), "k"), None);
        assert!(faults.plan("a", Fault::Hang) && faults.plan("b", Fault::Panic));
        faults.withdraw("a");
        assert_eq!(faults.strike(&"a".into(), "k"), None);
        assert_eq!(faults.strike(&"b".into(), "k"), Some(Fault::Panic));
    }
}
