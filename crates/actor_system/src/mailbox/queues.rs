//! The queues of a mailbox, one per priority, and the choice of the next message. Pure: no locks,
//! no time.

use std::{collections::VecDeque, mem};

use crate::{
    interceptor,
    mailbox::envelope::Envelope,
    mailbox::message::{Message, Overflow, Priority},
};

/// Messages that may overtake a lower priority with queued messages before one of these is served.
pub const MAX_OVERTAKES: u32 = 16;

const LANES: usize = Priority::ALL.len();
pub(crate) const NORMAL: usize = Priority::Normal as usize;

/// Queued messages, each in the queue (lane) of its priority, in order of sequence number.
pub(crate) struct PriorityQueues<M> {
    lanes: [VecDeque<Envelope<M>>; LANES],
    /// Number of messages that may be dropped for a newer one, by lane.
    droppable: [usize; LANES],
    len: usize,
    bytes: usize,
}

impl<M> Default for PriorityQueues<M> {
    fn default() -> Self {
        Self {
            lanes: Default::default(),
            droppable: [0; LANES],
            len: 0,
            bytes: 0,
        }
    }
}

impl<M: Message> PriorityQueues<M> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Sum of the sizes of the queued messages, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of messages outside of the normal lane.
    pub fn aside(&self) -> usize {
        self.len - self.lanes[NORMAL].len()
    }

    pub fn push(&mut self, mut envelope: Envelope<M>, overflow: Overflow) {
        let lane = envelope.meta.priority as usize;
        envelope.meta.is_droppable = overflow == Overflow::DropOldest;
        self.droppable[lane] += usize::from(envelope.meta.is_droppable);
        self.len += 1;
        self.bytes += envelope.msg.size();
        let waiting = &mut self.lanes[lane];
        // The mailboxes of most actors are nearly always empty.
        if waiting.capacity() == 0 {
            waiting.reserve_exact(1);
        }
        waiting.push_back(envelope);
        let last = waiting.len() - 1;
        if last > 1 && interceptor::overtakes() {
            waiting.swap(last, last - 1);
        }
    }

    /// Returns a popped message to the front of its lane.
    pub fn put_back(&mut self, envelope: Envelope<M>) {
        let lane = envelope.meta.priority as usize;
        self.droppable[lane] += usize::from(envelope.meta.is_droppable);
        self.len += 1;
        self.bytes += envelope.msg.size();
        self.lanes[lane].push_front(envelope);
    }

    /// Number and total size in bytes of the messages that may be dropped for one of `priority`.
    pub fn droppable(&self, priority: Priority) -> (usize, usize) {
        let lanes = self.lanes[..=priority as usize].iter().zip(self.droppable);
        let droppable = lanes
            .filter(|(_, count)| *count > 0)
            .flat_map(|(lane, _)| lane);
        droppable
            .filter(|waiting| waiting.meta.is_droppable)
            .fold((0, 0), |(count, bytes), waiting| {
                (count + 1, bytes + waiting.msg.size())
            })
    }

    /// Removes the oldest message that may be dropped for one of `priority`, least urgent lane
    /// first.
    pub fn drop_oldest(&mut self, priority: Priority) -> Option<Envelope<M>> {
        let lane = (0..=priority as usize).find(|lane| self.droppable[*lane] > 0)?;
        let at = self.lanes[lane]
            .iter()
            .position(|waiting| waiting.meta.is_droppable)?;
        let dropped = self.lanes[lane].remove(at)?;
        self.forget(lane, &dropped);
        Some(dropped)
    }

    pub fn pop(&mut self, lane: usize) -> Option<Envelope<M>> {
        let envelope = self.lanes[lane].pop_front()?;
        self.forget(lane, &envelope);
        Some(envelope)
    }

    /// The lane to serve next, given `held` messages of the normal lane in the reader's buffer.
    pub fn choose(&self, turns: &mut Turns, held: usize) -> Option<usize> {
        turns.choose(|lane| !self.lanes[lane].is_empty() || (lane == NORMAL && held > 0))
    }

    pub fn take_all(&mut self) -> Vec<Envelope<M>> {
        self.droppable = [0; LANES];
        self.len = 0;
        self.bytes = 0;
        let mut all = Vec::new();
        for lane in self.lanes.iter_mut().rev() {
            all.extend(mem::take(lane));
        }
        all
    }

    fn forget(&mut self, lane: usize, envelope: &Envelope<M>) {
        self.len -= 1;
        self.bytes -= envelope.msg.size();
        self.droppable[lane] -= usize::from(envelope.meta.is_droppable);
    }
}

/// Chooses the next lane: the most urgent one, unless a lower one has been overtaken
/// [`MAX_OVERTAKES`] times.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// By lane, messages that overtook it since it was last served.
    passed: [u32; LANES],
}

impl Turns {
    pub fn choose(&mut self, has: impl Fn(usize) -> bool) -> Option<usize> {
        let urgent = (0..LANES).rev().find(|lane| has(*lane))?;
        let overdue = (0..urgent)
            .rev()
            .filter(|lane| has(*lane) && self.passed[*lane] >= MAX_OVERTAKES);
        let chosen = overdue
            .max_by_key(|lane| self.passed[*lane])
            .unwrap_or(urgent);
        self.passed[chosen] = 0;
        if self.passed.iter().any(|passed| *passed > 0) && interceptor::forgets_overtaken() {
            self.passed = [0; LANES];
        }
        for lane in 0..urgent {
            if lane != chosen && has(lane) {
                self.passed[lane] += 1;
            }
        }
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mailbox::envelope::Meta;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Note {
        n: u64,
        priority: Priority,
        overflow: Overflow,
    }

    impl Message for Note {
        fn kind(&self) -> &'static str {
            "note"
        }
        fn priority(&self) -> Priority {
            self.priority
        }
        fn overflow(&self) -> Overflow {
            self.overflow
        }
        fn size(&self) -> usize {
            usize::try_from(self.n % 7).expect("small")
        }
    }

    fn envelope(n: u64, priority: Priority, overflow: Overflow) -> Envelope<Note> {
        let msg = Note {
            n,
            priority,
            overflow,
        };
        Envelope {
            msg,
            meta: Meta {
                sequence: n,
                priority,
                ..Meta::default()
            },
        }
    }

    /// Reference model of [`PriorityQueues`] as an unordered list.
    #[derive(Default)]
    struct Model(Vec<Note>);

    fn priorities() -> impl Strategy<Value = Priority> {
        (0..LANES).prop_map(|lane| Priority::ALL[lane])
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(Priority, u8),
        Pop,
        DropOldest(Priority),
        PutBack,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (priorities(), 0..4_u8).prop_map(|(p, o)| Step::Push(p, o)),
            3 => Just(Step::Pop),
            1 => priorities().prop_map(Step::DropOldest),
            1 => Just(Step::PutBack),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Compares with the model: no message is lost, lanes are in order, counts and bytes agree.
        #[test]
        fn queues_behave_as_a_list_by_priority(steps in steps()) {
            let mut lanes = PriorityQueues::default();
            let mut model = Model::default();
            let mut turns = Turns::default();
            let mut last: Option<Envelope<Note>> = None;
            for (n, step) in (1_u64..).zip(steps) {
                match step {
                    Step::Push(priority, o) => {
                        let overflow = if o < 3 {
                            Overflow::Block
                        } else {
                            Overflow::DropOldest
                        };
                        let new = envelope(n, priority, overflow);
                        model.0.push(new.msg.clone());
                        lanes.push(new, overflow);
                    }
                    Step::Pop => {
                        let Some(lane) = lanes.choose(&mut turns, 0) else {
                            prop_assert!(model.0.is_empty());
                            continue;
                        };
                        let popped = lanes.pop(lane).expect("chosen");
                        let at = model.0.iter().enumerate()
                            .filter(|(_, w)| w.priority as usize == lane)
                            .min_by_key(|(_, w)| w.n).map(|(at, _)| at).expect("in the model");
                        prop_assert_eq!(&model.0.remove(at), &popped.msg);
                        last = Some(popped);
                    }
                    Step::DropOldest(priority) => {
                        let dropped = lanes.drop_oldest(priority);
                        let at = model.0.iter().enumerate()
                            .filter(|(_, w)| w.overflow == Overflow::DropOldest)
                            .filter(|(_, w)| w.priority <= priority)
                            .min_by_key(|(_, w)| (w.priority, w.n)).map(|(at, _)| at);
                        prop_assert_eq!(
                            dropped.map(|d| d.meta.sequence),
                            at.map(|at| model.0.remove(at).n)
                        );
                    }
                    Step::PutBack => if let Some(back) = last.take() {
                        // Only the oldest message of a lane can have been popped from its front.
                        let is_first = model.0.iter().all(|w| {
                            w.priority != back.meta.priority || w.n > back.meta.sequence
                        });
                        if is_first && back.msg.overflow == Overflow::Block {
                            model.0.push(back.msg.clone());
                            lanes.put_back(back);
                        }
                    },
                }
                prop_assert_eq!(lanes.len(), model.0.len());
                prop_assert_eq!(
                    lanes.aside(),
                    model.0.iter().filter(|w| w.priority != Priority::Normal).count()
                );
            }
            prop_assert_eq!(lanes.take_all().len(), model.0.len());
            prop_assert_eq!((lanes.len(), lanes.bytes()), (0, 0));
        }

        /// A lane with messages is served within a bounded number of messages, regardless of the
        /// others.
        #[test]
        fn nothing_starves(
            busy in prop::collection::vec(prop::collection::vec(any::<bool>(), LANES), 1..500),
        ) {
            let mut turns = Turns::default();
            let mut waited = [0_u32; LANES];
            for has in busy {
                let chosen = turns.choose(|lane| has[lane]);
                prop_assert_eq!(chosen.is_some(), has.contains(&true));
                for lane in 0..LANES {
                    let is_overtaken = has[lane] && chosen != Some(lane);
                    waited[lane] = if is_overtaken { waited[lane] + 1 } else { 0 };
                    prop_assert!(
                        waited[lane] <= MAX_OVERTAKES + 2 * LANES as u32,
                        "lane {} waited {}", lane, waited[lane]
                    );
                }
            }
        }
    }

    #[test]
    fn the_more_urgent_goes_first_and_the_rest_gets_its_share() {
        let mut lanes = PriorityQueues::default();
        for n in 1..=100 {
            let priority = if n <= 50 {
                Priority::Low
            } else {
                Priority::High
            };
            lanes.push(envelope(n, priority, Overflow::Block), Overflow::Block);
        }
        let mut turns = Turns::default();
        let order: Vec<u64> = std::iter::from_fn(|| {
            let lane = lanes.choose(&mut turns, 0)?;
            lanes.pop(lane).map(|envelope| envelope.msg.n)
        })
        .collect();
        assert_eq!(order[..17], (51..=66).chain([1]).collect::<Vec<_>>()[..]);
        assert_eq!(order.len(), 100);
    }

    #[test]
    fn a_message_that_was_put_back_is_still_first() {
        let mut lanes = PriorityQueues::default();
        for n in 1..=3 {
            lanes.push(
                envelope(n, Priority::Normal, Overflow::Block),
                Overflow::Block,
            );
        }
        let first = lanes.pop(NORMAL).expect("some");
        lanes.put_back(first);
        assert_eq!(lanes.pop(NORMAL).map(|e| e.msg.n), Some(1));
        assert_eq!(lanes.len(), 2);
    }
}
