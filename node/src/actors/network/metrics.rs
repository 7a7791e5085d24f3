//! Metrics of the NetworkActor.

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::family::Family;
use alys_actor_system::metrics::prometheus_client::registry::Registry;
use alys_net::{GossipVerdict, Protocol, Refusal, Topic};

#[derive(Clone, Default)]
pub struct Metrics {
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
