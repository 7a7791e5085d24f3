//! Signals from a supervisor, and from an actor's own tasks, to the actor's task: a short queue of
//! orders and a set of flags. Checking the flags between messages costs one atomic load.

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

/// Capacity of a child's order queue: unanswered stops, and the start or retirement that follows.
const ORDERS: usize = 8;

/// An order is queued.
pub(crate) const ORDER: u32 = 1;
/// A task or timer of the incarnation failed.
pub(crate) const FAILED: u32 = 1 << 1;
/// The actor requested its own stop.
pub(crate) const STOP: u32 = 1 << 2;
/// The actor's configuration was replaced.
pub(crate) const CONFIG: u32 = 1 << 3;
/// The incarnation has pending timers.
pub(crate) const TIMERS: u32 = 1 << 4;
/// Faults may be injected.
pub(crate) const FAULTS: u32 = 1 << 5;
/// The supervisor or the task has ended, so no further order follows.
const CLOSED: u32 = 1 << 6;

/// Flags that an actor's task handles before its next message.
pub(crate) const ATTENTION: u32 = ORDER | FAILED | STOP | CONFIG | TIMERS | CLOSED;

#[derive(Default)]
pub(crate) struct Control {
    flags: AtomicU32,
    orders: Mutex<VecDeque<Order>>,
    waker: AtomicWaker,
}

impl Control {
    /// Queues an order. False if the task has ended or its queue is full.
    pub fn order(&self, order: Order) -> bool {
        let mut orders = lock(&self.orders);
        if orders.len() >= ORDERS || self.flags() & CLOSED != 0 {
            return false;
        }
        // Most children only ever get one order at a time.
        if orders.capacity() == 0 {
            orders.reserve_exact(1);
        }
        orders.push_back(order);
        // Raised under the lock, because a flag raised after the task has taken the order would
        // stay set over an empty queue, and an idle actor would poll in a busy loop.
        self.flags.fetch_or(ORDER, AcqRel);
        drop(orders);
        self.waker.wake();
        true
    }

    /// Polls for the next order; none once closed and empty. Only the child's task may call it.
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

    /// Waits for the next order, see [`poll_order`](Self::poll_order).
    pub fn next(&self) -> impl Future<Output = Option<Order>> + Send + '_ {
        poll_fn(|cx| self.poll_order(cx))
    }

    /// Refuses further orders and drops the queued ones.
    pub fn close(&self) {
        self.raise(CLOSED);
        // Dropping the orders closes their answer channels.
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

    /// Registers the task to be woken at the next flag or order.
    pub fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}
