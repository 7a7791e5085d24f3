//! Peak memory of a run's process, and its limit.

use crate::invariants::{Found, Violation};

/// Peak resident memory of this process in KiB; 0 where the system does not report it.
pub fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0)
}

/// Limit on the memory of all machines of a run together: several times that of the largest run.
const MAX_MEMORY_MIB: u64 = 2_048;

/// The violation of a run whose process exceeded [`MAX_MEMORY_MIB`].
pub fn too_large(at_ms: u64) -> Option<Found> {
    let mib = peak_kib() / 1_024;
    let violation = Violation::MemoryUnbounded {
        mib,
        limit_mib: MAX_MEMORY_MIB,
    };
    (mib > MAX_MEMORY_MIB).then_some(Found { at_ms, violation })
}
