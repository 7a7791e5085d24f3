//! The wall clock, the only time that is comparable between processes.
//!
//! In simulation each node has its own, with an offset, a drift and steps that the world sets. It
//! may go backwards, in production too (NTP).

/// Milliseconds since the Unix epoch on this node's clock; zero before the epoch.
#[cfg(not(madsim))]
pub fn wall_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Milliseconds since the Unix epoch on this node's clock; zero before the epoch.
#[cfg(madsim)]
pub fn wall_ms() -> u64 {
    crate::sim::wall_ms_of_this_node()
}
