//! The worker that every contender wraps into an actor, and the counters by which a scenario
//! follows it.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Release},
        },
    },
};

use tokio::sync::Notify;

use crate::contender::Contender;

/// The state of an actor under test, the same in every framework.
pub struct Worker<C: Contender> {
    pub tally: Tally,
    pub latch: Arc<Latch>,
    /// The actor that this one asks or passes tokens to.
    pub next: Option<C::Addr>,
}

impl<C: Contender> Worker<C> {
    /// A worker that neither counts messages nor knows another worker.
    pub fn new() -> Self {
        Self {
            tally: Tally::new(&Milestones::unreachable()),
            latch: Latch::new(0),
            next: None,
        }
    }

    /// A worker that asks another one.
    pub fn with_next(next: C::Addr) -> Self {
        Self {
            next: Some(next),
            ..Self::new()
        }
    }

    /// Passes a token on; one without hops left counts the latch down.
    pub fn pass_on(&self, hops: u64) {
        if hops == 0 {
            self.latch.count_down();
        } else {
            let next = self.next.as_ref();
            C::pass(
                next.expect("a token with hops left is sent to a ring only"),
                hops - 1,
            );
        }
    }
}

// A derived `Clone` would ask for `C: Clone`.
impl<C: Contender> Clone for Worker<C> {
    fn clone(&self) -> Self {
        Self {
            tally: self.tally.clone(),
            latch: self.latch.clone(),
            next: self.next.clone(),
        }
    }
}

/// The failure of a worker that was sent one of the messages which make it fail.
#[derive(Debug, thiserror::Error)]
#[error("asked to fail")]
pub struct Failed;

/// Wakes one waiting task once it has been counted down to zero.
pub struct Latch {
    left: AtomicU64,
    open: Notify,
}

impl Latch {
    pub fn new(count: u64) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(count),
            open: Notify::new(),
        })
    }

    /// Sets the count of an open latch again. No task may count down or wait meanwhile.
    pub fn close(&self, count: u64) {
        self.left.store(count, Release);
    }

    pub fn count_down(&self) {
        if self.left.fetch_sub(1, AcqRel) == 1 {
            // Stores a permit if no task waits yet.
            self.open.notify_one();
        }
    }

    pub async fn wait(&self) {
        self.open.notified().await;
    }
}

/// Messages handled by one actor. It is part of the actor's state, so that counting touches no
/// shared memory.
#[derive(Clone)]
pub struct Tally {
    handled: u64,
    sum: u64,
    milestones: Arc<Milestones>,
}

impl Tally {
    pub fn new(milestones: &Arc<Milestones>) -> Self {
        Self {
            handled: 0,
            sum: 0,
            milestones: milestones.clone(),
        }
    }

    pub fn add(&mut self, value: u64) {
        self.handled += 1;
        self.sum = black_box(self.sum.wrapping_add(value));
        if self.handled == self.milestones.warm {
            self.milestones.is_warm.notify_one();
        } else if self.handled == self.milestones.total {
            self.milestones.is_done.notify_one();
        }
    }
}

/// Counts of handled messages at which a tally wakes the scenario: after the warm-up, and at the
/// end.
pub struct Milestones {
    warm: u64,
    total: u64,
    is_warm: Notify,
    is_done: Notify,
}

impl Milestones {
    pub fn new(warm: u64, measured: u64) -> Arc<Self> {
        Arc::new(Self {
            warm,
            total: warm + measured,
            is_warm: Notify::new(),
            is_done: Notify::new(),
        })
    }

    /// For an actor whose messages are not counted.
    pub fn unreachable() -> Arc<Self> {
        Self::new(u64::MAX, 0)
    }

    pub async fn warm(&self) {
        self.is_warm.notified().await;
    }

    pub async fn done(&self) {
        self.is_done.notified().await;
    }
}
