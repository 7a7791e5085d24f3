//! Interruption of a query from outside.

use std::fmt;
use std::sync::Arc;

use revm::Inspector;
use revm::interpreter::{Interpreter, InterpreterTypes};

/// Instructions between two checks of the meter. One costs at most some microseconds of gas, so a
/// call ends some milliseconds after its deadline.
const STEPS_PER_CHECK: u32 = 512;

/// Reason for which a query was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// The query took longer than its time limit.
    TimedOut,
    /// The caller has left.
    Cancelled,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "time limit exceeded",
            Self::Cancelled => "the caller has left",
        })
    }
}

/// Decides about the end of a query. The core has no clock, so the caller provides the decision.
#[derive(Clone, Default)]
pub struct Meter(Option<Arc<dyn Fn() -> Option<Interrupted> + Send + Sync>>);

impl Meter {
    /// A meter that ends the query once `check` returns a reason.
    pub fn new(check: impl Fn() -> Option<Interrupted> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(check)))
    }

    pub(crate) fn interrupted(&self) -> Option<Interrupted> {
        self.0.as_ref().and_then(|check| check())
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.0.is_some()).finish()
    }
}

/// Ends an execution when its meter says so: every frame runs out of gas at its next instruction.
pub(crate) struct MeterInspector {
    meter: Meter,
    steps: u32,
    pub(crate) interrupted: Option<Interrupted>,
}

impl MeterInspector {
    pub(crate) fn new(meter: Meter) -> Self {
        Self {
            meter,
            steps: 0,
            interrupted: None,
        }
    }
}

impl<CTX, INTR: InterpreterTypes> Inspector<CTX, INTR> for MeterInspector {
    fn step(&mut self, interp: &mut Interpreter<INTR>, _: &mut CTX) {
        self.steps = self.steps.wrapping_add(1);
        if self.interrupted.is_none() && self.steps.is_multiple_of(STEPS_PER_CHECK) {
            self.interrupted = self.meter.interrupted();
        }
        if self.interrupted.is_some() {
            interp.halt_oog();
        }
    }
}
