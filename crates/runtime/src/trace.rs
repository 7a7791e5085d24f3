//! The run's rolling hash: two runs of one seed must agree on it. And marks of what a run came through.

/// Notes that something happened. In simulation `kind` and `payload` are folded into the trace hash together
/// with the simulated time and the node; in production this is nothing.
///
/// Events must not depend on addresses, process-wide counters or anything else that differs between processes.
#[inline]
pub fn event(kind: &'static str, payload: &[u8]) {
    #[cfg(madsim)]
    crate::sim::note_event(kind, payload);
    #[cfg(not(madsim))]
    let _ = (kind, payload);
}

/// Counts that a state worth reaching was reached, by its name, which begins with `state.`: nothing in production.
///
/// It is no part of the trace. The names are listed in the simulator's coverage, and a test compares both.
#[inline]
pub fn reached(state: &'static str) {
    #[cfg(madsim)]
    crate::sim::count_reached(state);
    #[cfg(not(madsim))]
    let _ = state;
}
