//! The wall clock: the only source of time that means something outside of the process.
//!
//! In simulation each node has its own, with an offset, a drift and steps, all set by the world. It may go
//! backwards, in production too (NTP), so nothing may assume that it does not.

/// Milliseconds since the Unix epoch on this node's clock; zero if the clock stands before the epoch.
#[cfg(not(madsim))]
pub fn wall_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Milliseconds since the Unix epoch on this node's clock; zero if the clock stands before the epoch.
#[cfg(madsim)]
pub fn wall_ms() -> u64 {
    crate::sim::wall_ms_of_this_node()
}
