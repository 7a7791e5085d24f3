//! Metrics of a node, and the HTTP server that operators scrape.
//!
//! Every actor's room defines its own metrics, named `alys_<actor>_<what>_<unit>`. Labels have a
//! bounded set of values: no peer, address, hash, error text or name from outside becomes a label.

mod collectors;
mod footprint;
mod pages;
mod server;
#[cfg(test)]
mod tests;
mod view;

use alys_actor_system::metrics::prometheus_client::registry::Registry;

use crate::actors::{auxpow, chain, engine, network, peers, storage, tx_pool, validation};

pub use collectors::{register_refusals, register_requests};
pub use footprint::{Costs, Footprint, Tables};
pub use pages::Monitor;
pub use server::{MetricsServer, Monitors};
pub use view::MetricsView;

/// A label set of one label.
pub type Label = [(&'static str, &'static str); 1];

/// The metrics of all actors. Clones share the values.
#[derive(Clone, Default)]
pub struct NodeMetrics {
    pub auxpow: auxpow::Metrics,
    pub chain: chain::Metrics,
    pub engine: engine::Metrics,
    pub network: network::Metrics,
    pub peers: peers::Metrics,
    pub storage: storage::Metrics,
    pub tx_pool: tx_pool::Metrics,
    pub validation: validation::Metrics,
}

impl NodeMetrics {
    pub fn register(&self, registry: &mut Registry) {
        self.auxpow.register(registry);
        self.chain.register(registry);
        self.engine.register(registry);
        self.network.register(registry);
        self.peers.register(registry);
        self.storage.register(registry);
        self.tx_pool.register(registry);
        self.validation.register(registry);
    }
}
