//! The run's rolling hash: two runs of one seed must agree on it.

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
