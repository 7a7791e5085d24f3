//! Metrics of the TxPoolActor.

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::gauge::Gauge;
use alys_actor_system::metrics::prometheus_client::registry::Registry;

use crate::metrics::Tables;

#[derive(Clone, Default)]
pub struct Metrics {
    pub(super) pending: Gauge,
    pub(super) queued: Gauge,
    pub(super) broadcast: Counter,
    pub(super) submitted: Counter,
    pub(super) failed_polls: Counter,
    pub(crate) tables: Tables,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        self.tables.register(registry, "tx_pool");
        registry.register(
            "alys_tx_pool_pending_transactions",
            "Executable transactions in the execution client's pool, 4096 at most",
            self.pending.clone(),
        );
        registry.register(
            "alys_tx_pool_queued_transactions",
            "Received transactions that are not submitted yet",
            self.queued.clone(),
        );
        let counters = [
            (
                &self.broadcast,
                "broadcast_transactions",
                "Transactions broadcast to peers",
            ),
            (
                &self.submitted,
                "submitted_transactions",
                "Transactions of peers that the client took",
            ),
            (
                &self.failed_polls,
                "failed_polls",
                "Reads of the execution client's pool that failed",
            ),
        ];
        for (counter, name, help) in counters {
            registry.register(format!("alys_tx_pool_{name}"), help, counter.clone());
        }
    }
}
