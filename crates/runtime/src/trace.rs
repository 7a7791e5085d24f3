//! The rolling hash of a run, on which two runs of one seed must agree, and coverage marks.

/// Records an event. In simulation `kind` and `payload` are folded into the trace hash with the
/// simulated time and the node; in production this has no effect.
///
/// Events must not depend on memory addresses, process-wide counters or other values that differ
/// between processes.
#[inline]
pub fn event(kind: &'static str, payload: &[u8]) {
    #[cfg(madsim)]
    crate::sim::note_event(kind, payload);
    #[cfg(not(madsim))]
    let _ = (kind, payload);
}

/// Counts that a state of interest was reached. Names begin with `state.`; in production this has
/// no effect.
///
/// Marks are not part of the trace. The simulator's coverage lists their names, and a test compares
/// both.
#[inline]
pub fn reached(state: &'static str) {
    #[cfg(madsim)]
    crate::sim::count_reached(state);
    #[cfg(not(madsim))]
    let _ = state;
}
