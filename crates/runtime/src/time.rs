//! Durations, timers and timeouts on the monotonic clock.
//!
//! Timers never fire early, and take a millisecond at least. In simulation computing takes no time,
//! so a relevant cost must be slept.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

pub use std::time::{Duration, Instant};

/// About thirty years, beyond every deadline of a node.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Largest delay of a timer in simulation when its site fires, in milliseconds.
#[cfg(madsim)]
const LATE_MS: u64 = 30;

/// The current time of the monotonic clock. Comparable within this process only, unlike
/// [`crate::clock`].
pub fn now() -> Instant {
    Instant::now()
}

/// A timer that fires `duration` from now.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::new(now() + duration.min(FAR))
}

/// A timer that fires at `deadline`, or at once if that has passed.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::new(deadline)
}

/// A timer, see [`sleep`]. Repeated polls cost nothing, so it can be used in a loop's `select!`,
/// and [`reset`](Sleep::reset) reuses it.
pub struct Sleep {
    inner: Pin<Box<tokio::time::Sleep>>,
    deadline: Instant,
    /// The waker of the inner timer. Each poll of madsim's timer adds a heap entry that cannot be
    /// removed, so it is polled again only for another waker.
    armed: Option<Waker>,
}

impl Sleep {
    fn new(deadline: Instant) -> Self {
        let late = crate::buggify_below!("runtime.time.late_timer", 20_000, LATE_MS).unwrap_or(0);
        let inner = Box::pin(raw_sleep_until(deadline + Duration::from_millis(late)));
        Self {
            inner,
            deadline,
            armed: None,
        }
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    pub fn is_elapsed(&self) -> bool {
        now() >= self.deadline
    }

    /// Moves the timer to `deadline`. A waiting task must poll it again to be woken at the new
    /// time.
    pub fn reset(&mut self, deadline: Instant) {
        *self = Self::new(deadline);
    }
}

#[cfg(not(madsim))]
fn raw_sleep_until(deadline: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(deadline.into())
}

#[cfg(madsim)]
fn raw_sleep_until(deadline: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(deadline)
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_armed = self
            .armed
            .as_ref()
            .is_some_and(|armed| armed.will_wake(cx.waker()));
        if is_armed && !self.inner.is_elapsed() && !self.is_elapsed() {
            return Poll::Pending;
        }
        let polled = self.inner.as_mut().poll(cx);
        self.armed = polled.is_pending().then(|| cx.waker().clone());
        polled
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// The time limit passed before the future completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not finished after {} ms", after.as_millis())]
pub struct Elapsed {
    /// The time limit.
    pub after: Duration,
}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `future` for at most `duration`, then drops it. A future that is ready at the deadline
/// completes.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut deadline = sleep(duration);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut deadline)
            .poll(cx)
            .map(|()| Err(Elapsed { after: duration }))
    })
    .await
}

/// Ticks with a fixed period, for the first time one period from now. Missed ticks are skipped:
/// after a pause one tick is immediate, and the next follows the original schedule.
pub fn interval(period: Duration) -> Interval {
    let period = period.max(Duration::from_millis(1));
    Interval {
        period,
        sleep: sleep(period),
    }
}

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    sleep: Sleep,
}

impl Interval {
    /// Waits for the next tick. Cancelling the call loses no tick.
    pub async fn tick(&mut self) {
        std::future::poll_fn(|cx| self.poll_tick(cx)).await;
    }

    /// Polls [`tick`](Self::tick).
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        let due = self.sleep.deadline();
        let late = now().saturating_duration_since(due);
        let missed = u32::try_from(late.as_nanos() / self.period.as_nanos()).unwrap_or(u32::MAX);
        let next = due
            + self
                .period
                .saturating_mul(missed.saturating_add(1))
                .min(FAR);
        self.sleep.reset(next);
        Poll::Ready(())
    }
}
