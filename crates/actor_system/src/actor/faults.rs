//! Faults that a test puts into a running system: what happens at the next message of an actor.
//!
//! Nothing here costs a message anything until faults are asked for, see
//! [`System::faults`](crate::System::faults).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{actor::cell::Cell, actor::control, lock};

/// Faults that wait for one actor's messages.
pub const MAX_PLANNED: usize = 1024;

/// Messages of one actor that are remembered while it is watched.
pub const MAX_SEEN: usize = 4096;

/// The fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The handler panics.
    Panic,
    /// The handler returns a failure.
    Fail,
    /// The handler never ends.
    Hang,
    /// The handler begins that much later.
    Slow(Duration),
    /// The message is handled, but its answers are lost.
    LoseReply,
    /// The message is not handled.
    Drop,
}

/// A fault that waits for its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The fault.
    pub fault: Fault,
    /// At messages of this kind; of any kind if none.
    pub kind: Option<&'static str>,
    /// Messages that are spared before.
    pub after: u64,
    /// Messages that are hit then, at least one.
    pub times: u64,
}

impl From<Fault> for Planned {
    /// At the next message.
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
    /// Only at messages of this kind.
    pub fn at(self, kind: &'static str) -> Self {
        Self {
            kind: Some(kind),
            ..self
        }
    }

    /// After this many messages.
    pub fn after(self, messages: u64) -> Self {
        Self {
            after: messages,
            ..self
        }
    }

    /// At this many messages.
    pub fn times(self, messages: u64) -> Self {
        Self {
            times: messages,
            ..self
        }
    }
}

/// The faults of a system, and the messages that they hit.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    planned: BTreeMap<Arc<str>, VecDeque<Planned>>,
    watched: BTreeMap<Arc<str>, VecDeque<&'static str>>,
    hits: BTreeMap<(Arc<str>, &'static str), u64>,
}

impl Faults {
    /// Plans a fault in the actor of this full path (`system/supervisor/actor`), which need not
    /// exist yet. False if too many are planned for it already.
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

    /// Removes the faults that have not happened yet.
    pub fn clear(&self) {
        lock(&self.0).planned.clear();
    }

    /// Faults that have not happened yet, or not as often as they are to.
    pub fn waiting(&self, path: &str) -> usize {
        lock(&self.0).planned.get(path).map_or(0, VecDeque::len)
    }

    /// Remembers the kinds of the messages that this actor begins from now on, the last
    /// [`MAX_SEEN`].
    pub fn watch(&self, path: &str) {
        lock(&self.0).watched.entry(path.into()).or_default();
    }

    /// The kinds of the messages that a watched actor has begun, oldest first.
    pub fn seen(&self, path: &str) -> Vec<&'static str> {
        lock(&self.0)
            .watched
            .get(path)
            .map(|seen| seen.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Numbers of faults that happened, by path and kind of message.
    pub fn hits(&self) -> BTreeMap<(Arc<str>, &'static str), u64> {
        lock(&self.0).hits.clone()
    }

    /// The fault, if any, for a message whose handling begins.
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

    /// Makes all actors check for faults from now on.
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
    }
}
