//! Budgets of peers: the gossip, the requests and the statuses that a node takes from them, by
//! topic and by protocol, in messages and in bytes. Pure; the time is an argument.
//!
//! A budget belongs to a peer id and outlives its connections, so a reconnect refills nothing. Peer
//! ids cost nothing, so all strangers together have a budget as well. Peers with a known address
//! and authorities have their own budget only. The messages of others that this node forwards have
//! half of the budget that a peer grants it, so that no honest peer refuses them.

use std::collections::BTreeMap;

use libp2p::PeerId;

use crate::rate::TokenBucket;
use crate::wire::{GossipRate, Protocol, Topic};

/// Limit of remembered peers, because a peer can create identities at no cost. A forgotten stranger
/// starts with a full budget, as another identity would.
pub const MAX_REMEMBERED: usize = 1024;
/// Gossip of all strangers together, in budgets of one peer.
const STRANGERS: u32 = 2;
/// The part of a peer's budget that the messages of others may use, as a divisor.
const RELAYED: u32 = 2;

/// The budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The peer's own.
    Peer,
    /// The budget of all strangers, which is no fault of this one.
    Strangers,
}

/// Messages and bytes of one topic.
#[derive(Debug)]
struct TopicBudget {
    messages: TokenBucket,
    bytes: TokenBucket,
}

impl TopicBudget {
    fn new(rate: GossipRate, multiplier: u32, divisor: u32, now_ms: u64) -> Self {
        let scale = |value: u32| value.saturating_mul(multiplier) / divisor;
        let bucket =
            |(burst, per_second)| TokenBucket::new(scale(burst), scale(per_second), now_ms);
        Self {
            messages: bucket(rate.messages),
            bytes: bucket(rate.bytes),
        }
    }

    /// False when the message exceeds the budget. One with too many bytes still counts as a
    /// message.
    fn take(&mut self, bytes: usize, now_ms: u64) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.messages.take(1, now_ms) && self.bytes.take(bytes, now_ms)
    }
}

fn topic_budgets(multiplier: u32, divisor: u32, now_ms: u64) -> BTreeMap<Topic, TopicBudget> {
    Topic::ALL
        .into_iter()
        .map(|topic| {
            let budget = TopicBudget::new(topic.rate(), multiplier, divisor, now_ms);
            (topic, budget)
        })
        .collect()
}

fn bucket((burst, per_second): (u32, u32), now_ms: u64) -> TokenBucket {
    TokenBucket::new(burst, per_second, now_ms)
}

fn buckets(rate: impl Fn(Protocol) -> (u32, u32), now_ms: u64) -> BTreeMap<Protocol, TokenBucket> {
    Protocol::ALL
        .into_iter()
        .map(|protocol| (protocol, bucket(rate(protocol), now_ms)))
        .collect()
}

/// Gossip, requests and statuses of one party.
#[derive(Debug)]
struct Budget {
    gossip: BTreeMap<Topic, TopicBudget>,
    requests: BTreeMap<Protocol, TokenBucket>,
    /// Statuses in answers to this node, at the rate of those in requests, because each brings as
    /// many checks.
    statuses: TokenBucket,
    is_known: bool,
    used_ms: u64,
}

impl Budget {
    fn of_peer(now_ms: u64) -> Self {
        Self {
            gossip: topic_budgets(1, 1, now_ms),
            requests: buckets(Protocol::rate, now_ms),
            statuses: bucket(Protocol::Status.rate(), now_ms),
            is_known: false,
            used_ms: now_ms,
        }
    }

    fn of_strangers(now_ms: u64) -> Self {
        Self {
            gossip: topic_budgets(STRANGERS, 1, now_ms),
            requests: buckets(Protocol::strangers_rate, now_ms),
            statuses: bucket(Protocol::Status.strangers_rate(), now_ms),
            is_known: false,
            used_ms: now_ms,
        }
    }

    fn take_gossip(&mut self, topic: Topic, bytes: usize, now_ms: u64) -> bool {
        self.gossip
            .get_mut(&topic)
            .is_some_and(|budget| budget.take(bytes, now_ms))
    }

    fn take_request(&mut self, protocol: Protocol, now_ms: u64) -> bool {
        self.requests
            .get_mut(&protocol)
            .is_some_and(|bucket| bucket.take(1, now_ms))
    }
}

/// The budgets of all peers.
#[derive(Debug)]
pub struct Budgets {
    peers: BTreeMap<PeerId, Budget>,
    strangers: Budget,
    relayed: BTreeMap<Topic, TopicBudget>,
}

impl Budgets {
    pub fn new(now_ms: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            strangers: Budget::of_strangers(now_ms),
            relayed: topic_budgets(1, RELAYED, now_ms),
        }
    }

    /// Takes a message of `peer` into account. `is_known` is true for peers with a known address
    /// and for authorities.
    pub fn take_gossip(
        &mut self,
        peer: PeerId,
        is_known: bool,
        topic: Topic,
        bytes: usize,
        now_ms: u64,
    ) -> Result<(), Excess> {
        self.take(peer, is_known, now_ms, |budget| {
            budget.take_gossip(topic, bytes, now_ms)
        })
    }

    /// Takes a request of `peer` into account.
    pub fn take_request(
        &mut self,
        peer: PeerId,
        is_known: bool,
        protocol: Protocol,
        now_ms: u64,
    ) -> Result<(), Excess> {
        self.take(peer, is_known, now_ms, |budget| {
            budget.take_request(protocol, now_ms)
        })
    }

    /// Takes a status in an answer of `peer` into account. This node requests one on every new
    /// connection, so a peer that reconnects in a loop sends as many as it likes.
    pub fn take_status(&mut self, peer: PeerId, is_known: bool, now_ms: u64) -> Result<(), Excess> {
        self.take(peer, is_known, now_ms, |budget| {
            budget.statuses.take(1, now_ms)
        })
    }

    /// True if a message of another author may be forwarded. Messages of this node are counted by
    /// the same budget and always sent.
    pub fn take_relayed(&mut self, topic: Topic, bytes: usize, now_ms: u64) -> bool {
        self.relayed
            .get_mut(&topic)
            .is_some_and(|budget| budget.take(bytes, now_ms))
    }

    /// Takes from the budget of `peer`, and for a stranger from that of all strangers too.
    fn take(
        &mut self,
        peer: PeerId,
        is_known: bool,
        now_ms: u64,
        take: impl Fn(&mut Budget) -> bool,
    ) -> Result<(), Excess> {
        if !take(self.peer(peer, is_known, now_ms)) {
            return Err(Excess::Peer);
        }
        if !is_known && !take(&mut self.strangers) {
            return Err(Excess::Strangers);
        }
        Ok(())
    }

    fn peer(&mut self, peer: PeerId, is_known: bool, now_ms: u64) -> &mut Budget {
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_REMEMBERED {
            let oldest = self
                .peers
                .iter()
                .min_by_key(|(_, budget)| (budget.is_known, budget.used_ms))
                .map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.peers.remove(&oldest);
            }
        }
        let budget = self
            .peers
            .entry(peer)
            .or_insert_with(|| Budget::of_peer(now_ms));
        budget.is_known = is_known;
        budget.used_ms = now_ms;
        budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::tests::peer;

    /// Messages of `bytes` that one peer gets through at once, of at most 10,000.
    fn taken(budgets: &mut Budgets, n: u32, is_known: bool, topic: Topic, bytes: usize) -> usize {
        let mut messages = 0;
        while messages < 10_000
            && budgets
                .take_gossip(peer(n), is_known, topic, bytes, 0)
                .is_ok()
        {
            messages += 1;
        }
        messages
    }

    #[test]
    fn messages_and_bytes_are_limited_by_topic() {
        let mut budgets = Budgets::new(0);
        for topic in Topic::ALL {
            let (messages, bytes) = (topic.rate().messages.0, topic.rate().bytes.0);
            let small = taken(&mut budgets, 1, true, topic, 0);
            assert_eq!(
                small, messages as usize,
                "{topic:?}: other topics take nothing"
            );
            let large = taken(&mut budgets, 2, true, topic, topic.max_payload());
            let expected = (bytes as usize / topic.max_payload()).min(messages as usize);
            assert_eq!(large, expected, "{topic:?}");
        }
    }

    #[test]
    fn a_reconnect_refills_nothing_and_time_does() {
        let mut budgets = Budgets::new(0);
        let status = |budgets: &mut Budgets, now_ms| {
            budgets.take_request(peer(1), false, Protocol::Status, now_ms)
        };
        let (burst, per_second) = Protocol::Status.rate();
        for _ in 0..burst {
            assert_eq!(status(&mut budgets, 0), Ok(()));
        }
        assert_eq!(status(&mut budgets, 999), Err(Excess::Peer));
        for _ in 0..per_second {
            assert_eq!(status(&mut budgets, 1000), Ok(()));
        }
        assert_eq!(status(&mut budgets, 1000), Err(Excess::Peer));
    }

    #[test]
    fn many_identities_share_one_budget_and_known_peers_do_not() {
        let mut budgets = Budgets::new(0);
        let topic = Topic::Approvals;
        let burst = topic.rate().messages.0 as usize;
        let strangers: usize = (0..10)
            .map(|n| taken(&mut budgets, n, false, topic, 100))
            .sum();
        assert_eq!(strangers, STRANGERS as usize * burst);
        let known = taken(&mut budgets, 99, true, topic, 100);
        assert_eq!(known, burst);
        let (burst, _) = Protocol::Status.strangers_rate();
        let mut served = 0;
        for n in 0..1000 {
            let request = budgets.take_request(peer(n), false, Protocol::Status, 0);
            served += u32::from(request.is_ok());
        }
        assert_eq!(served, burst);
        assert_eq!(
            budgets.take_request(peer(99), true, Protocol::Status, 0),
            Ok(())
        );
    }

    /// Statuses in answers have budgets, and requests use up nothing of them.
    #[test]
    fn statuses_in_answers_are_limited_over_all_connections_and_strangers() {
        let mut budgets = Budgets::new(0);
        let taken = |budgets: &mut Budgets, n, is_known, now_ms| {
            let take = |_: &i32| budgets.take_status(peer(n), is_known, now_ms).is_ok();
            (0..1000).filter(take).count()
        };
        let (burst, per_second) = Protocol::Status.rate();
        for is_known in [true, false] {
            let n = u32::from(is_known);
            assert_eq!(taken(&mut budgets, n, is_known, 0), burst as usize);
            assert_eq!(taken(&mut budgets, n, is_known, 1000), per_second as usize);
            let request = budgets.take_request(peer(n), is_known, Protocol::Status, 1000);
            assert_eq!(request, Ok(()));
        }
        let (burst, _) = Protocol::Status.strangers_rate();
        let mut budgets = Budgets::new(0);
        let of_strangers: usize = (0..100).map(|n| taken(&mut budgets, n, false, 0)).sum();
        assert_eq!(of_strangers, burst as usize);
        assert_eq!(
            budgets.take_status(peer(200), false, 0),
            Err(Excess::Strangers)
        );
        assert_eq!(budgets.take_status(peer(201), true, 0), Ok(()));
    }

    #[test]
    fn forwarded_messages_fit_into_the_budget_of_an_honest_peer() {
        for topic in Topic::ALL {
            for bytes in [0, topic.max_payload()] {
                let mut sender = Budgets::new(0);
                let mut receiver = Budgets::new(0);
                for now_ms in (0..60_000).step_by(10) {
                    while sender.take_relayed(topic, bytes, now_ms) {
                        let taken = receiver.take_gossip(peer(1), false, topic, bytes, now_ms);
                        assert_eq!(taken, Ok(()), "{topic:?} at {now_ms}");
                    }
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_known_peers_are_kept() {
        let mut budgets = Budgets::new(0);
        let topic = Topic::Work;
        taken(&mut budgets, 0, true, topic, 0);
        for n in 1..(MAX_REMEMBERED as u32 + 50) {
            let _ = budgets.take_gossip(peer(n), false, topic, 0, u64::from(n));
        }
        assert_eq!(budgets.peers.len(), MAX_REMEMBERED);
        assert_eq!(
            budgets.take_gossip(peer(0), true, topic, 0, 0),
            Err(Excess::Peer)
        );
    }
}
