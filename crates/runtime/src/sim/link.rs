//! Links: latency, loss and bandwidth between two addresses.
//!
//! A link carries the bytes of streams, as TCP does, and knows no messages. It can delay, hold back
//! and cut what passes, but not drop, duplicate or change a single message: the receiver of a
//! stream gets all of its bytes in order, or an error. Faults of single messages need the
//! interceptor between a node and its network.

use std::net::IpAddr;
use std::time::Duration;

use super::rng::Rng;
use super::state::WorldState;

/// The properties of one direction between two addresses. Probabilities are in parts per million.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Minimum delay.
    pub latency: Duration,
    /// Maximum of a uniform additional delay.
    pub jitter: Duration,
    /// Probability of a much longer delay.
    pub tail_ppm: u32,
    /// Maximum of the uniform longer delay.
    pub tail: Duration,
    /// Probability of a loss. Lost data is retransmitted after 200 ms, then 400 ms, and so on up to
    /// 3.2 s, at most eight times.
    pub loss_ppm: u32,
    /// Bandwidth, shared by all streams; zero means unlimited.
    pub bytes_per_second: u64,
    /// Bytes of a stream in flight or unread before its writer blocks; at least one.
    pub window: usize,
    /// Probability that a read or write transfers only a part.
    pub partial_ppm: u32,
}

impl Default for Link {
    /// A good wide-area link: 5 to 10 ms, 100 Mbit/s, rare delays of up to 100 ms, no loss.
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
    /// The loopback link: no delay, limited by the window only.
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

/// The way in which a link is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// All data is lost. After healing, senders retransmit within a second.
    Cut,
    /// All data is held back. After healing, it arrives at once.
    Clog,
}

/// The state of a link.
pub(crate) struct LinkState {
    /// Properties other than the default ones.
    pub own: Option<Link>,
    pub block: Option<Block>,
    /// Time until which accepted bytes occupy the bandwidth.
    busy_until: Duration,
    pub rng: Rng,
}

/// Longest delay between the healing of a cut link and a sender's retransmission.
const RETRY_AFTER_CUT: Duration = Duration::from_millis(700);

impl WorldState {
    /// The link between two addresses, created on first use.
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

    /// The properties in force on a link.
    pub fn link_config(&mut self, from: IpAddr, to: IpAddr) -> Link {
        if from == to {
            return Link::local(self.net.default_link.partial_ppm);
        }
        let own = self.link(from, to).own.clone();
        own.unwrap_or_else(|| self.net.default_link.clone())
    }

    /// True when no data passes from one address to another: the link is blocked, or a machine has
    /// no power.
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

    /// The arrival time of `bytes` bytes sent now on a link that is not blocked.
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

    /// The delay of a sender's retransmission after a link has healed.
    pub fn retry_delay(&mut self, from: IpAddr, to: IpAddr) -> Duration {
        self.link(from, to).rng.duration(RETRY_AFTER_CUT)
    }

    /// The part of `bytes` that one read or write transfers; `counter` counts partial ones.
    pub fn part(&mut self, from: IpAddr, to: IpAddr, bytes: usize, counter: &'static str) -> usize {
        let ppm = self.link_config(from, to).partial_ppm;
        let link = self.link(from, to);
        if bytes <= 1 || !link.rng.chance(ppm) {
            return bytes;
        }
        let part = 1 + link.rng.below(bytes as u64 - 1) as usize;
        self.count(counter);
        part
    }
}
