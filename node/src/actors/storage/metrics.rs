//! Metrics of the StorageActor.

use std::time::Duration;

use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::histogram::Histogram;
use alys_actor_system::metrics::prometheus_client::registry::Registry;

/// Bounds in seconds, from a fast SSD to a disk about which the operator has to worry.
const WRITE_SECONDS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

#[derive(Clone)]
pub struct Metrics {
    writes: Histogram,
    pub(super) reads: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            writes: Histogram::new(WRITE_SECONDS),
            reads: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "alys_storage_write_seconds",
            "Time of durable writes",
            self.writes.clone(),
        );
        registry.register(
            "alys_storage_reads",
            "Requests to read blocks or headers",
            self.reads.clone(),
        );
    }

    pub(super) fn on_write(&self, elapsed: Duration) {
        self.writes.observe(elapsed.as_secs_f64());
    }
}
