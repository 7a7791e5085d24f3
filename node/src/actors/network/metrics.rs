//! Metrics of the NetworkActor.

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::family::Family;
use alys_actor_system::metrics::prometheus_client::registry::Registry;
use alys_net::{GossipVerdict, Protocol, Refusal, Topic};

use crate::metrics::{Label, Tables};

/// Topics with votes and certificates.
const VOTES: [Topic; 3] = [Topic::Approvals, Topic::Confirmations, Topic::Finality];

#[derive(Clone, Default)]
pub struct Metrics {
    published: Family<Label, Counter>,
    received: Family<Label, Counter>,
    received_bytes: Family<Label, Counter>,
    pub(crate) tables: Tables,
    gossip: Family<[(&'static str, &'static str); 2], Counter>,
    requests: Family<[(&'static str, &'static str); 2], Counter>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "alys_network_gossip_messages",
            "Received gossip messages, by topic and verdict",
            self.gossip.clone(),
        );
        registry.register(
            "alys_network_served_requests",
            "Requests of peers, by protocol and outcome",
            self.requests.clone(),
        );
        let by_topic = [
            (
                &self.published,
                "published_messages",
                "Gossip messages of this node, by topic",
            ),
            (
                &self.received,
                "received_messages",
                "Gossip messages of peers that passed the limits, by topic",
            ),
            (
                &self.received_bytes,
                "received_bytes",
                "Bytes of gossip messages of peers that passed the limits, by topic",
            ),
        ];
        for (counter, name, help) in by_topic {
            registry.register(format!("alys_network_{name}"), help, counter.clone());
        }
        self.tables.register(registry, "network");
    }

    pub(super) fn on_published(&self, topic: Topic) {
        of(&self.published, topic).inc();
    }

    pub(super) fn on_received(&self, topic: Topic, bytes: usize) {
        of(&self.received, topic).inc();
        of(&self.received_bytes, topic).inc_by(bytes as u64);
    }

    /// Messages about agreement that this node published.
    pub(crate) fn published(&self) -> u64 {
        sum(&self.published, &VOTES) + of(&self.published, Topic::Blocks).get()
    }

    /// Messages about agreement that this node received.
    pub(crate) fn received(&self) -> u64 {
        sum(&self.received, &VOTES) + of(&self.received, Topic::Blocks).get()
    }

    /// Bytes of the votes and certificates that this node received.
    pub(crate) fn received_bytes(&self) -> u64 {
        sum(&self.received_bytes, &VOTES)
    }

    pub(super) fn on_verdict(&self, topic: Topic, verdict: GossipVerdict) {
        let verdict = match verdict {
            GossipVerdict::Accept => "accept",
            GossipVerdict::Ignore => "ignore",
            GossipVerdict::Reject => "reject",
        };
        let labels = [("topic", topic.name()), ("verdict", verdict)];
        self.gossip.get_or_create(&labels).inc();
    }

    pub(super) fn on_served(&self, protocol: Protocol, response: &Result<Vec<u8>, Refusal>) {
        let outcome = if response.is_ok() {
            "served"
        } else {
            "refused"
        };
        let labels = [("protocol", protocol.name()), ("outcome", outcome)];
        self.requests.get_or_create(&labels).inc();
    }
}

/// The counter of a topic.
fn of(family: &Family<Label, Counter>, topic: Topic) -> Counter {
    family.get_or_create(&[("topic", topic.name())]).clone()
}

fn sum(family: &Family<Label, Counter>, topics: &[Topic]) -> u64 {
    topics.iter().map(|topic| of(family, *topic).get()).sum()
}
