//! Deadlines of questions: one timer for all questions of a system.
//!
//! Most questions are answered long before their deadline, so a timer of its own would be set and
//! cancelled for nothing. Here a question takes a slot, and one task sleeps until the earliest
//! deadline that it knows; later questions end after that, as a rule, and do not wake it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use alys_runtime::{
    sync::Notify,
    time::{self, Instant},
};

use crate::lock;

#[derive(Default)]
pub(crate) struct Deadlines {
    slots: Mutex<Slots>,
    earlier: Notify,
}

/// As many as there are questions at once.
#[derive(Default)]
struct Slots {
    waiting: Vec<Option<(Instant, Waker)>>,
    free: Vec<usize>,
    /// Time of the next check; none if there was no question at the last one.
    next: Option<Instant>,
    /// True once the system is gone: no question enters any more, and the task ends with the last
    /// one.
    is_closed: bool,
}

impl Deadlines {
    /// Wakes those whose deadline has come, for as long as the system lives, and until the last
    /// that waits is woken.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let earlier = self.earlier.notified();
            let (next, due, is_closed) = {
                let mut slots = lock(&self.slots);
                let (next, due) = slots.look(time::now());
                (next, due, slots.is_closed)
            };
            due.into_iter().for_each(Waker::wake);
            match next {
                Some(next) => {
                    let left = next.saturating_duration_since(time::now());
                    let _earlier_or_due = time::timeout(left, earlier).await;
                }
                None if is_closed => return,
                None => earlier.await,
            }
        }
    }

    /// The system is gone.
    pub fn close(&self) {
        lock(&self.slots).is_closed = true;
        self.earlier.notify_one();
    }

    /// A slot; none once the system is gone.
    fn enter(&self, at: Instant, waker: Waker) -> Option<usize> {
        let mut slots = lock(&self.slots);
        if slots.is_closed {
            return None;
        }
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.waiting[slot] = Some((at, waker));
                slot
            }
            None => {
                slots.waiting.push(Some((at, waker)));
                slots.waiting.len() - 1
            }
        };
        let is_earlier = slots.next.is_none_or(|next| at < next);
        if is_earlier {
            slots.next = Some(at);
        }
        drop(slots);
        if is_earlier {
            self.earlier.notify_one();
        }
        Some(slot)
    }

    fn renew(&self, slot: usize, waker: &Waker) {
        if let Some(Some((_, known))) = lock(&self.slots).waiting.get_mut(slot) {
            known.clone_from(waker);
        }
    }

    fn leave(&self, slot: usize) {
        let mut slots = lock(&self.slots);
        let left = slots.waiting.get_mut(slot).and_then(Option::take);
        slots.free.push(slot);
        drop(slots);
        drop(left);
    }
}

impl Slots {
    /// The earliest deadline to come, and those to be woken now. Theirs is over, but the slot stays
    /// theirs.
    fn look(&mut self, now: Instant) -> (Option<Instant>, Vec<Waker>) {
        let waiting = self.waiting.iter().flatten();
        let due = waiting
            .clone()
            .filter(|(at, _)| *at <= now)
            .map(|(_, waker)| waker.clone())
            .collect();
        self.next = waiting.map(|(at, _)| *at).filter(|at| *at > now).min();
        (self.next, due)
    }
}

/// A pending deadline, among those of the system of the asked actor or by itself.
pub(crate) struct Deadline<'a> {
    at: Instant,
    among: Option<&'a Deadlines>,
    slot: Option<usize>,
    /// Timer of its own, for an actor without a running system.
    alone: Option<time::Sleep>,
}

impl<'a> Deadline<'a> {
    pub fn new(at: Instant, among: Option<&'a Deadlines>) -> Self {
        Self {
            at,
            among,
            slot: None,
            alone: None,
        }
    }

    /// Ready once the moment has come; wakes the task then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(among) = self.among else {
            let at = self.at;
            return Pin::new(self.alone.get_or_insert_with(|| time::sleep_until(at))).poll(cx);
        };
        match self.slot {
            None => {
                self.slot = among.enter(self.at, cx.waker().clone());
                if self.slot.is_none() {
                    self.among = None;
                    return self.poll(cx);
                }
            }
            Some(slot) => {
                if time::now() >= self.at {
                    return Poll::Ready(());
                }
                among.renew(slot, cx.waker());
            }
        }
        Poll::Pending
    }
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        if let (Some(among), Some(slot)) = (self.among, self.slot) {
            among.leave(slot);
        }
    }
}
