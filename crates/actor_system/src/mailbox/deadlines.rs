//! Deadlines of questions, with one timer for all questions of a system.
//!
//! Most questions are answered long before their deadline, so a timer for each would usually be set
//! and cancelled without effect. Here each question takes a slot, and one task sleeps until the
//! earliest known deadline; later questions usually expire after it and do not wake the task.

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

/// Slots, as many as the maximum of concurrent questions so far.
#[derive(Default)]
struct Slots {
    waiting: Vec<Option<(Instant, Waker)>>,
    free: Vec<usize>,
    /// Time of the next check; none if the last one found no pending question.
    next: Option<Instant>,
    /// True once the system is dropped: no question can enter, and the task ends with the last
    /// pending one.
    is_closed: bool,
}

impl Deadlines {
    /// Wakes questions at their deadline. Returns once the system is dropped and no question is
    /// pending.
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

    /// Refuses further questions, because the system is dropped.
    pub fn close(&self) {
        lock(&self.slots).is_closed = true;
        self.earlier.notify_one();
    }

    /// Takes a slot; none once closed.
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
    /// Returns the earliest future deadline and the wakers of those that have passed, whose slots
    /// stay taken until their owners leave.
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

/// A pending deadline, in the slots of the receiver's system or with its own timer.
pub(crate) struct Deadline<'a> {
    at: Instant,
    among: Option<&'a Deadlines>,
    slot: Option<usize>,
    /// Its own timer, for a mailbox without an actor or a dropped system.
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

    /// Ready once the deadline has passed.
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
