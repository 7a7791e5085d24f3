//! Signals from a supervisor, and from an actor's own tasks, to the actor's task: a few orders and
//! a few flags, looked at between messages at the cost of one load.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

use crate::{actor::orders::Order, lock};

/// Orders queued for one child: stops that it has not answered yet, and the start or retirement
/// that follows.
const ORDERS: usize = 8;

/// An order waits.
pub(crate) const ORDER: u32 = 1;
/// A task or timer of the incarnation failed.
pub(crate) const FAILED: u32 = 1 << 1;
/// The actor asked to be stopped.
pub(crate) const STOP: u32 = 1 << 2;
/// The actor's configuration was replaced.
pub(crate) const CONFIG: u32 = 1 << 3;
/// There are timers.
pub(crate) const TIMERS: u32 = 1 << 4;
/// Faults may be injected.
pub(crate) const FAULTS: u32 = 1 << 5;
/// The supervisor is gone or the task has ended: there will be no further order.
const CLOSED: u32 = 1 << 6;

/// Those that make an actor look up before its next message.
pub(crate) const ATTENTION: u32 = ORDER | FAILED | STOP | CONFIG | TIMERS | CLOSED;

#[derive(Default)]
pub(crate) struct Control {
    flags: AtomicU32,
    orders: Mutex<VecDeque<Order>>,
    waker: AtomicWaker,
}

impl Control {
    /// Hands an order over. False if the task is gone or does not take its orders.
    pub fn order(&self, order: Order) -> bool {
        let mut orders = lock(&self.orders);
        if orders.len() >= ORDERS || self.flags() & CLOSED != 0 {
            return false;
        }
        orders.push_back(order);
        // Under the lock, so that the task that takes the order also finds the flag and clears it:
        // raised afterwards the flag would stand over an empty queue, and an idle actor would look
        // again and again.
        self.flags.fetch_or(ORDER, AcqRel);
        drop(orders);
        self.waker.wake();
        true
    }

    /// The next order; none after the last one. For the child's task alone.
    pub fn poll_order(&self, cx: &Context<'_>) -> Poll<Option<Order>> {
        self.waker.register(cx.waker());
        let mut orders = lock(&self.orders);
        if let Some(order) = orders.pop_front() {
            if orders.is_empty() {
                self.clear(ORDER);
            }
            return Poll::Ready(Some(order));
        }
        if self.flags() & CLOSED != 0 {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// As [`poll_order`](Self::poll_order).
    pub fn next(&self) -> impl Future<Output = Option<Order>> + Send + '_ {
        poll_fn(|cx| self.poll_order(cx))
    }

    /// Nothing more is ordered, or nothing more is taken.
    pub fn close(&self) {
        self.raise(CLOSED);
        // Dropping the queued orders tells their senders that there is no answer.
        let orders = std::mem::take(&mut *lock(&self.orders));
        drop(orders);
    }

    pub fn raise(&self, flag: u32) {
        self.flags.fetch_or(flag, AcqRel);
        self.waker.wake();
    }

    pub fn clear(&self, flag: u32) {
        self.flags.fetch_and(!flag, AcqRel);
    }

    pub fn flags(&self) -> u32 {
        self.flags.load(Acquire)
    }

    /// Wakes the calling task at the next flag.
    pub fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}
