//! Buggify sites: places at which the simulator makes the code show permitted but rare behaviour,
//! such as delays, short reads, repetitions and late answers.
//!
//! **Owns** the list of all sites. The code names a site where it acts:
//! [`buggify!`](crate::buggify!) yields a bool, [`buggify_below!`](crate::buggify_below!) a number,
//! [`buggify_pause!`](crate::buggify_pause!) a delay. There are two levels: each run enables a
//! random subset of the sites, and an enabled site fires with its own probability. A rare behaviour
//! is thus frequent in some runs and absent from others.
//!
//! **Guarantees** that production code is unaffected: a site is a constant `false`, no number, or
//! no delay. In simulation sites are disabled unless the world enables them
//! ([`World::set_buggify`](crate::sim)). Each draws from its own random stream, by its name and its
//! node, so that a new site does not affect any other.
//!
//! **Never** violates a documented guarantee: the node must continue whichever sites fire.
//! Behaviour that a node need not survive is a fault, and belongs in a plan.
//!
//! The sorted list is maintained by hand in this file. A list collected by the linker would depend
//! on the binary and on the linker's order. This one is the same everywhere, an unlisted name does
//! not compile, and a test of the simulator finds unused names.

/// Default probability that an enabled site fires, in parts per million.
pub const DEFAULT_PPM: u32 = 250_000;

/// A declared site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteInfo {
    /// Name in the form crate.part.behaviour.
    pub name: &'static str,
    /// Counter of the runs that enable the site.
    pub on: &'static str,
    /// Counter of its firings.
    pub fired: &'static str,
}

macro_rules! sites {
    ($($name:literal,)*) => {
        /// All sites, sorted by name.
        pub const SITES: &[SiteInfo] = &[$(SiteInfo {
            name: $name,
            on: concat!("site.", $name, ".on"),
            fired: concat!("site.", $name, ".fired"),
        },)*];
    };
}

sites! {
    "actors.addr.full",
    "actors.addr.late_answer",
    "actors.addr.late_send",
    "actors.child.slow_start",
    "actors.child.yield_after",
    "actors.child.yield_before",
    "actors.keeper.late_restart",
    "actors.life.short_turn",
    "actors.life.spurious_wakeup",
    "actors.mailbox.hold_one",
    "execution.builder.one_job",
    "execution.builder.stop_early",
    "execution.cache.tiny",
    "execution.chain.prune_one",
    "execution.chain.small_route_step",
    "execution.engine.forget_build",
    "execution.engine.forkchoice_syncing",
    "execution.engine.late_build",
    "execution.engine.payload_syncing",
    "execution.engine.payload_syncing_later",
    "execution.node.slow_read",
    "execution.node.slow_write",
    "execution.pool.small",
    "http.client.forget_connection",
    "http.server.close_after_answer",
    "http.server.late_answer",
    "http.server.late_request",
    "net.codec.small_pieces",
    "net.config.fast_dials",
    "net.config.few_answers",
    "net.config.few_requests",
    "net.config.impatient_requests",
    "net.config.many_pings",
    "net.config.slow_dials",
    "net.gossip.slow_heartbeat",
    "net.gossip.small_mesh",
    "net.gossip.small_queue",
    "net.service.disconnect",
    "net.service.no_room",
    "net.service.one_command",
    "net.service.slow_tick",
    "net.service.small_channel",
    "net.status.late_retry",
    "node.auxpow.slow",
    "node.chain.early_tick",
    "node.chain.few_parents",
    "node.chain.lost_command",
    "node.chain.lost_peer_message",
    "node.chain.no_check",
    "node.chain.short_turn",
    "node.chain.slow",
    "node.chain.tick_twice",
    "node.engine.forkchoice_twice",
    "node.engine.impatient",
    "node.engine.no_build",
    "node.engine.no_receipts",
    "node.engine.not_yet",
    "node.engine.payload_twice",
    "node.engine.short_replay_turn",
    "node.engine.slow",
    "node.engine.small_replay_step",
    "node.network.busy_gossip",
    "node.network.few_hashes",
    "node.network.full_peers",
    "node.network.full_service",
    "node.network.lost_answer",
    "node.network.refuse",
    "node.network.slow",
    "node.network.slow_answer",
    "node.peers.busy_chain",
    "node.peers.few_fetches",
    "node.peers.late_look",
    "node.peers.patient_fetch",
    "node.peers.slow",
    "node.peers.small_range",
    "node.storage.few_blocks",
    "node.storage.slow",
    "node.tx_pool.forget",
    "node.tx_pool.late_look",
    "node.tx_pool.short_turn",
    "node.tx_pool.small_look",
    "node.tx_pool.small_messages",
    "node.validation.slow",
    "node.wiring.one_engine_connection",
    "runtime.disk.slow_sync",
    "runtime.net.short_read",
    "runtime.net.short_write",
    "runtime.net.slow_connect",
    "runtime.net.spurious_accept",
    "runtime.net.spurious_read",
    "runtime.net.spurious_write",
    "runtime.task.late_start",
    "runtime.task.par_map_backwards",
    "runtime.time.late_timer",
    "storage.blocks.forget_one_by_one",
    "storage.blocks.short_header_range",
    "storage.blocks.short_range",
    "storage.open.rewrite_anyway",
    "storage.open.rewrite_in_small_steps",
    "storage.open.sync_twice",
    "storage.open.tiny_cache",
    "storage.redb.compact_at_open",
    "storage.redb.durable_at_once",
    "storage.redb.quick_repair",
    "storage.redb.two_phase_commit",
}

/// A site, by its index in [`SITES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site(usize);

impl Site {
    /// The site with this name.
    ///
    /// # Panics
    /// When it is not declared. The macros evaluate it at compile time, so an unknown name is a
    /// compile error.
    pub const fn named(name: &str) -> Self {
        let mut at = 0;
        while at < SITES.len() {
            if is_same(SITES[at].name, name) {
                return Self(at);
            }
            at += 1;
        }
        panic!("no such site: add its name to the list in crates/runtime/src/buggify.rs");
    }

    /// The index in [`SITES`].
    pub const fn index(self) -> usize {
        self.0
    }

    pub const fn info(self) -> &'static SiteInfo {
        &SITES[self.0]
    }
}

/// Equality of strings in a const context.
const fn is_same(a: &str, b: &str) -> bool {
    let a = a.as_bytes();
    let b = b.as_bytes();
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// True when the site fires. For the macros.
#[cfg(madsim)]
pub fn fires(site: Site, ppm: u32) -> bool {
    crate::sim::buggify_fires(site, ppm, 0).is_some()
}

/// A number below `bound` when the site fires. For the macros.
#[cfg(madsim)]
pub fn below(site: Site, ppm: u32, bound: u64) -> Option<u64> {
    crate::sim::buggify_fires(site, ppm, bound)
}

/// True when the named site fires. Always `false` in production, where the compiler removes the
/// branch.
///
/// An enabled `buggify!("site")` fires with [`DEFAULT_PPM`](crate::buggify::DEFAULT_PPM),
/// `buggify!("site", ppm)` with `ppm` parts per million.
#[macro_export]
macro_rules! buggify {
    ($name:literal) => {
        $crate::buggify!($name, $crate::buggify::DEFAULT_PPM)
    };
    ($name:literal, $ppm:expr) => {{
        const SITE: $crate::buggify::Site = $crate::buggify::Site::named($name);
        #[cfg(madsim)]
        let fires = $crate::buggify::fires(SITE, $ppm);
        #[cfg(not(madsim))]
        let fires = {
            let _ = SITE;
            false
        };
        fires
    }};
}

/// A number below a bound when the named site fires. Always `None` in production.
///
/// `buggify_below!("site", ppm, bound)`.
#[macro_export]
macro_rules! buggify_below {
    ($name:literal, $ppm:expr, $bound:expr) => {{
        const SITE: $crate::buggify::Site = $crate::buggify::Site::named($name);
        #[cfg(madsim)]
        let drawn: Option<u64> = $crate::buggify::below(SITE, $ppm, $bound);
        #[cfg(not(madsim))]
        let drawn: Option<u64> = {
            let _ = SITE;
            None
        };
        drawn
    }};
}

/// Sleeps for 1 to `most_ms` milliseconds when the named site fires. Expands to nothing in
/// production, so that it does not enlarge the future.
///
/// `buggify_pause!("site", ppm, most_ms)`.
#[macro_export]
macro_rules! buggify_pause {
    ($name:literal, $ppm:expr, $most_ms:expr) => {
        #[cfg(madsim)]
        if let Some(ms) = $crate::buggify_below!($name, $ppm, $most_ms) {
            $crate::time::sleep(::std::time::Duration::from_millis(ms + 1)).await;
        }
    };
}

/// Yields once when the named site fires. Expands to nothing in production, so that it does not
/// enlarge the future.
///
/// `buggify_yield!("site", ppm)`.
#[macro_export]
macro_rules! buggify_yield {
    ($name:literal, $ppm:expr) => {
        #[cfg(madsim)]
        if $crate::buggify!($name, $ppm) {
            $crate::yield_now().await;
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_found_at_their_index() {
        assert!(SITES.windows(2).all(|pair| pair[0].name < pair[1].name));
        for (at, site) in SITES.iter().enumerate() {
            assert_eq!(Site::named(site.name).index(), at);
            assert_eq!(Site(at).info(), site);
            assert_eq!(
                (site.on, site.fired),
                (
                    format!("site.{}.on", site.name).as_str(),
                    format!("site.{}.fired", site.name).as_str(),
                )
            );
        }
    }

    #[test]
    fn no_site_fires_outside_of_a_simulation() {
        assert!(!crate::buggify!("runtime.net.short_read", 1_000_000));
        assert_eq!(
            crate::buggify_below!("runtime.net.short_read", 1_000_000, 7),
            None
        );
    }
}
