//! Links: what it takes for bytes to get from one address to another.

use std::net::IpAddr;
use std::time::Duration;

use super::rng::Rng;
use super::state::State;

/// One direction of the way between two addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The least time that anything takes.
    pub latency: Duration,
    /// Added to it, uniformly up to this.
    pub jitter: Duration,
    /// How often, in a million, something is held up for much longer.
    pub tail_ppm: u32,
    /// And for how long then, uniformly up to this.
    pub tail: Duration,
    /// How often, in a million, something is lost. It is sent again after 200 ms, then 400 ms, and so on up to
    /// 3.2 s, at most eight times.
    pub loss_ppm: u32,
    /// Bytes a second, shared by all streams; zero is no limit.
    pub bytes_per_second: u64,
    /// How many bytes of a stream can be under way or unread before its writer has to wait; at least one.
    pub window: usize,
    /// How often, in a million, a read or write moves only a part of what it could.
    pub partial_ppm: u32,
}

impl Default for Link {
    /// A decent wide area: 5 to 10 ms, 100 Mbit/s, now and then a tenth of a second, no loss.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            jitter: Duration::from_millis(5),
            tail_ppm: 1_000,
            tail: Duration::from_millis(100),
            loss_ppm: 0,
            bytes_per_second: 12_500_000,
            window: 256 << 10,
            partial_ppm: 50_000,
        }
    }
}

impl Link {
    /// The way of a machine to itself: no time, no limit but the window.
    pub(crate) fn local(partial_ppm: u32) -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            tail_ppm: 0,
            tail: Duration::ZERO,
            loss_ppm: 0,
            bytes_per_second: 0,
            window: 256 << 10,
            partial_ppm,
        }
    }
}

/// How a link is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Everything is lost. When it heals, senders notice within a second.
    Cut,
    /// Everything is held back. When it heals, it all arrives at once.
    Clog,
}

/// A link as it is now.
pub(crate) struct LinkState {
    /// Its own properties, if they are not the default ones.
    pub own: Option<Link>,
    pub block: Option<Block>,
    /// Until when the bytes accepted so far occupy it.
    busy_until: Duration,
    pub rng: Rng,
}

/// The most time that passes between the healing of a cut link and the next try of a sender.
const RETRY_AFTER_CUT: Duration = Duration::from_millis(700);

impl State {
    /// The link between two addresses, made when it is first asked for.
    pub fn link(&mut self, from: IpAddr, to: IpAddr) -> &mut LinkState {
        let seed = self.fault_seed;
        self.net
            .links
            .entry((from, to))
            .or_insert_with(|| LinkState {
                own: None,
                block: None,
                busy_until: Duration::ZERO,
                rng: Rng::derive(seed, &format!("link {from} {to}")),
            })
    }

    /// The properties of a link.
    pub fn link_config(&mut self, from: IpAddr, to: IpAddr) -> Link {
        if from == to {
            return Link::local(self.net.default_link.partial_ppm);
        }
        let own = self.link(from, to).own.clone();
        own.unwrap_or_else(|| self.net.default_link.clone())
    }

    /// Whether nothing gets from one address to another: the link is blocked, or one machine has no power.
    pub fn is_blocked(&self, from: IpAddr, to: IpAddr) -> bool {
        if from == to {
            return false;
        }
        let has_power = |ip| match self.by_ip.get(&ip) {
            Some(id) => self
                .nodes
                .get(id.0 as usize)
                .is_some_and(|node| node.has_power),
            None => false,
        };
        let link = self.net.links.get(&(from, to));
        link.is_some_and(|link| link.block.is_some()) || !has_power(from) || !has_power(to)
    }

    /// When `bytes` bytes that are sent now arrive, on a link that is not blocked.
    pub fn arrival(&mut self, from: IpAddr, to: IpAddr, bytes: usize) -> Duration {
        let now = self.now();
        if from == to {
            return now;
        }
        let config = self.link_config(from, to);
        let link = self.link(from, to);
        let start = now.max(link.busy_until);
        let occupied = match config.bytes_per_second {
            0 => Duration::ZERO,
            rate => Duration::from_nanos(
                u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX),
            ),
        };
        link.busy_until = start + occupied;
        let mut at = link.busy_until + config.latency + link.rng.duration(config.jitter);
        let is_slow = link.rng.chance(config.tail_ppm);
        if is_slow {
            at += link.rng.duration(config.tail);
        }
        let mut losses = 0;
        while losses < 8 && link.rng.chance(config.loss_ppm) {
            at += Duration::from_millis(200 << losses.min(4));
            losses += 1;
        }
        self.count_n("link.slow", u64::from(is_slow));
        self.count_n("link.loss", losses);
        at
    }

    /// How long a sender needs to notice that a link has healed.
    pub fn retry_delay(&mut self, from: IpAddr, to: IpAddr) -> Duration {
        self.link(from, to).rng.duration(RETRY_AFTER_CUT)
    }

    /// How much of `bytes` one read or write moves.
    pub fn part(&mut self, from: IpAddr, to: IpAddr, bytes: usize, what: &'static str) -> usize {
        let ppm = self.link_config(from, to).partial_ppm;
        let link = self.link(from, to);
        if bytes <= 1 || !link.rng.chance(ppm) {
            return bytes;
        }
        let part = 1 + link.rng.below(bytes as u64 - 1) as usize;
        self.count(what);
        part
    }
}
