//! Which process a piece of code belongs to.
//!
//! madsim drops the futures of a killed node later, possibly after its restart, and their destructors run. So
//! every task carries the incarnation of the process that started it, also while it is dropped, and whatever
//! a dead incarnation tries to do to the world is without effect.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::NodeId;

/// One life of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Home {
    /// The node.
    pub node: NodeId,
    /// Counts the node's lives, from zero.
    pub incarnation: u32,
}

impl Home {
    /// The code that drives the simulation from outside of all nodes.
    pub const WORLD: Self = Self {
        node: NodeId::WORLD,
        incarnation: 0,
    };
}

thread_local! {
    static HERE: Cell<Home> = const { Cell::new(Home::WORLD) };
}

/// The process whose code is running.
pub fn here() -> Home {
    HERE.get()
}

/// Says where the code is until it is dropped.
pub(crate) struct Entered(Home);

pub(crate) fn enter(home: Home) -> Entered {
    Entered(HERE.replace(home))
}

impl Drop for Entered {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// A future at home in a process.
pub(crate) struct Scoped<F> {
    home: Home,
    /// None only while it is being dropped.
    inner: Option<Pin<Box<F>>>,
}

impl<F> Scoped<F> {
    pub fn new(home: Home, future: F) -> Self {
        Self {
            home,
            inner: Some(Box::pin(future)),
        }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = enter(self.home);
        super::count_poll();
        match &mut self.inner {
            Some(inner) => inner.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Scoped<F> {
    fn drop(&mut self) {
        let _entered = enter(self.home);
        self.inner = None;
    }
}
