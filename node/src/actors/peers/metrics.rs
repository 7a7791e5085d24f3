//! Metrics of the PeerActor. No label names a peer, because strangers can make up any number of
//! identities.

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::gauge::Gauge;
use alys_actor_system::metrics::prometheus_client::registry::Registry;

use crate::metrics::Tables;

#[derive(Clone, Default)]
pub struct Metrics {
    pub(super) connected: Gauge,
    pub(super) connections: Counter,
    pub(super) refused: Counter,
    pub(super) banned: Counter,
    pub(super) misbehaviour: Counter,
    pub(super) requests: Counter,
    pub(super) failed_requests: Counter,
    pub(crate) tables: Tables,
}

impl Metrics {
    /// Connected peers.
    pub fn connected(&self) -> u64 {
        u64::try_from(self.connected.get()).unwrap_or(0)
    }

    /// Requests to peers so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    pub fn register(&self, registry: &mut Registry) {
        self.tables.register(registry, "peers");
        registry.register(
            "alys_peers_connected",
            "Connected peers",
            self.connected.clone(),
        );
        let counters = [
            (
                &self.connections,
                "connections",
                "Connections to peers so far",
            ),
            (
                &self.refused,
                "refused",
                "Peers of another chain or version",
            ),
            (&self.banned, "banned", "Bans of peers"),
            (
                &self.misbehaviour,
                "misbehaviour",
                "Invalid answers of peers",
            ),
            (&self.requests, "requests", "Requests for blocks"),
            (
                &self.failed_requests,
                "failed_requests",
                "Requests for blocks without an answer",
            ),
        ];
        for (counter, name, help) in counters {
            registry.register(format!("alys_peers_{name}"), help, counter.clone());
        }
    }
}
