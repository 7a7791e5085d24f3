//! The clocks of a process, and what is trusted of them: that outlives the actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use alys_consensus::Now;
use alys_types::mutant::{self, Mutant};

/// Nothing is trusted yet. No clock is that far off.
const UNKNOWN: i64 = i64::MIN;

/// One for a process; all incarnations of the chain actor share it.
#[derive(Clone)]
pub struct Clock {
    epoch: Instant,
    trusted_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The monotonic clock begins here.
    pub fn start() -> Clock {
        Clock {
            epoch: alys_runtime::time::now(),
            trusted_ms: Arc::new(AtomicI64::new(UNKNOWN)),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall_ms: alys_runtime::clock::wall_ms(),
            mono_ms: alys_runtime::time::now()
                .duration_since(self.epoch)
                .as_millis() as u64,
        }
    }

    /// What the state machine trusted last.
    pub(super) fn trusted_ms(&self) -> Option<i64> {
        let trusted_ms = self.trusted_ms.load(Ordering::SeqCst);
        let is_known = trusted_ms != UNKNOWN && !mutant::active(Mutant::ClockTrustedAnew);
        is_known.then_some(trusted_ms)
    }

    /// Keeps it for the next incarnation.
    pub(super) fn keep(&self, trusted_ms: Option<i64>) {
        self.trusted_ms
            .store(trusted_ms.unwrap_or(UNKNOWN), Ordering::SeqCst);
    }
}
