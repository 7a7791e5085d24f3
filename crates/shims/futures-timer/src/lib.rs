//! A replacement of `futures-timer` on the runtime's timer.
//!
//! The published crate starts a helper thread, which is impossible in a simulation. libp2p uses
//! only [`Delay`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A future that completes after a duration.
pub struct Delay {
    sleep: Pin<Box<tokio::time::Sleep>>,
    /// The waker of the timer. Each poll of madsim's timer adds a heap entry, so it is polled again
    /// only for another waker.
    armed: Option<Waker>,
}

impl Delay {
    /// A delay that completes `after` from now.
    pub fn new(after: Duration) -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(after)),
            armed: None,
        }
    }

    /// Restarts the delay, which then completes `after` from now and wakes a waiting task.
    pub fn reset(&mut self, after: Duration) {
        self.sleep = Box::pin(tokio::time::sleep(after));
        if let Some(waker) = self.armed.take() {
            let mut cx = Context::from_waker(&waker);
            match self.sleep.as_mut().poll(&mut cx) {
                Poll::Ready(()) => waker.wake(),
                Poll::Pending => self.armed = Some(waker),
            }
        }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.is_elapsed() {
            return Poll::Ready(());
        }
        if self.armed.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let polled = self.sleep.as_mut().poll(cx);
        self.armed = polled.is_pending().then(|| cx.waker().clone());
        polled
    }
}

impl std::fmt::Debug for Delay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delay").finish_non_exhaustive()
    }
}
