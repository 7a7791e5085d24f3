//! The clocks of the process, and the wall clock's offset that the state machine trusts. Both
//! outlive the actor, because a restart of the actor must not make a jumped clock trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use alys_consensus::Now;

use crate::interceptor;

/// No offset is trusted yet; no real clock is this far off.
const UNKNOWN: i64 = i64::MIN;

/// One per process, shared by all incarnations of the actor.
#[derive(Clone)]
pub struct Clock {
    epoch: Instant,
    trusted_ms: Arc<AtomicI64>,
}

impl Clock {
    /// A clock whose monotonic time starts now.
    pub fn start() -> Clock {
        Clock {
            epoch: alys_runtime::time::now(),
            trusted_ms: Arc::new(AtomicI64::new(UNKNOWN)),
        }
    }

    pub(super) fn now(&self) -> Now {
        let elapsed = alys_runtime::time::now().duration_since(self.epoch);
        Now {
            wall_ms: alys_runtime::clock::wall_ms(),
            mono_ms: elapsed.as_millis() as u64,
        }
    }

    /// The offset that the last incarnation trusted.
    pub(super) fn trusted_ms(&self) -> Option<i64> {
        let trusted_ms = self.trusted_ms.load(Ordering::SeqCst);
        interceptor::kept_clock((trusted_ms != UNKNOWN).then_some(trusted_ms))
    }

    /// Keeps the trusted offset for the next incarnation.
    pub(super) fn keep(&self, trusted_ms: Option<i64>) {
        self.trusted_ms
            .store(trusted_ms.unwrap_or(UNKNOWN), Ordering::SeqCst);
    }
}
