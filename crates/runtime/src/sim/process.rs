//! The process to which running code belongs.
//!
//! madsim drops the futures of a killed node later, possibly after its restart, and their
//! destructors run. Therefore every task carries the incarnation of the process that started it,
//! also while it is dropped, and actions of a dead incarnation have no effect on the world.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::NodeId;

/// One incarnation of a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub node: NodeId,
    /// Counts the node's processes from zero.
    pub incarnation: u32,
}

impl Process {
    /// The code that drives the simulation, outside of all nodes.
    pub const WORLD: Self = Self {
        node: NodeId::WORLD,
        incarnation: 0,
    };
}

thread_local! {
    static CURRENT: Cell<Process> = const { Cell::new(Process::WORLD) };
}

/// The process whose code is running.
pub fn here() -> Process {
    CURRENT.get()
}

/// Sets the current process until it is dropped.
pub(crate) struct CurrentGuard(Process);

pub(crate) fn enter(process: Process) -> CurrentGuard {
    CurrentGuard(CURRENT.replace(process))
}

impl Drop for CurrentGuard {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// A future that belongs to a process.
pub(crate) struct ProcessFuture<F> {
    process: Process,
    /// `None` only while it is being dropped.
    inner: Option<Pin<Box<F>>>,
}

impl<F> ProcessFuture<F> {
    pub fn new(process: Process, future: F) -> Self {
        Self {
            process,
            inner: Some(Box::pin(future)),
        }
    }
}

impl<F: Future> Future for ProcessFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _current = enter(self.process);
        super::count_poll();
        match &mut self.inner {
            Some(inner) => inner.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for ProcessFuture<F> {
    fn drop(&mut self) {
        let _current = enter(self.process);
        self.inner = None;
    }
}
