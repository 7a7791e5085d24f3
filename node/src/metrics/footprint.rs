//! The sizes of a node's tables and the work that it has done: gauges and counters for operators,
//! and one value for the owner of the node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_actor_system::metrics::prometheus_client::metrics::family::Family;
use alys_actor_system::metrics::prometheus_client::metrics::gauge::Gauge;
use alys_actor_system::metrics::prometheus_client::registry::Registry;

use super::{Label, NodeMetrics};

/// Entries of the tables of one actor. Clones share the values.
#[derive(Clone, Default)]
pub struct Tables {
    entries: Family<Label, Gauge>,
    names: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Tables {
    pub(crate) fn set(&self, table: &'static str, entries: usize) {
        self.names().insert(table);
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.entries.get_or_create(&[("table", table)]).set(entries);
    }

    pub(crate) fn register(&self, registry: &mut Registry, actor: &str) {
        registry.register(
            format!("alys_{actor}_table_entries"),
            "Entries of the actor's tables, by table",
            self.entries.clone(),
        );
    }

    /// The entries by table.
    fn read(&self) -> BTreeMap<&'static str, u64> {
        let names = self.names();
        let entries = |table| {
            let entries = self.entries.get_or_create(&[("table", table)]).get();
            (table, u64::try_from(entries).unwrap_or(0))
        };
        names.iter().copied().map(entries).collect()
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory and the work of a node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Entries by actor and table, as the actors counted them last.
    pub tables: BTreeMap<(&'static str, &'static str), u64>,
    pub costs: Costs,
}

/// The work of a node since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// Gossip messages about agreement that the node published.
    pub published: u64,
    /// Gossip messages about agreement that the node received.
    pub received: u64,
    /// Bytes of the received votes and certificates, without proposals.
    pub received_bytes: u64,
    /// Checks of signatures.
    pub checks: u64,
    /// Requests to peers.
    pub requests: u64,
}

impl NodeMetrics {
    pub fn footprint(&self) -> Footprint {
        let actors = [
            ("auxpow", &self.auxpow.tables),
            ("chain", &self.chain.tables),
            ("engine", &self.engine.tables),
            ("network", &self.network.tables),
            ("peers", &self.peers.tables),
            ("tx_pool", &self.tx_pool.tables),
            ("validation", &self.validation.tables),
        ];
        let tables = actors.into_iter().flat_map(|(actor, tables)| {
            let entries = tables.read().into_iter();
            entries.map(move |(table, entries)| ((actor, table), entries))
        });
        let costs = Costs {
            published: self.network.published(),
            received: self.network.received(),
            received_bytes: self.network.received_bytes(),
            checks: self.validation.checks(),
            requests: self.peers.requests(),
        };
        Footprint {
            tables: tables.collect(),
            costs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footprint_has_the_last_sizes_of_all_tables() {
        let metrics = NodeMetrics::default();
        assert_eq!(metrics.footprint(), Footprint::default());
        metrics.peers.tables.set("requests", 7);
        metrics.peers.tables.set("requests", 2);
        metrics.chain.tables.set("blocks", 3);
        let tables = metrics.footprint().tables;
        let expected = [(("chain", "blocks"), 3), (("peers", "requests"), 2)];
        assert_eq!(tables, BTreeMap::from(expected));
    }
}
