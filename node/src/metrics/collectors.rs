//! Metrics that are read at every scrape.

use std::fmt;
use std::sync::{Arc, Weak};

use alys_actor_system::System;
use alys_actor_system::metrics::Metrics;
use alys_actor_system::metrics::prometheus_client::collector::Collector;
use alys_actor_system::metrics::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use alys_actor_system::metrics::prometheus_client::metrics::MetricType;
use alys_actor_system::metrics::prometheus_client::metrics::counter::ConstCounter;
use alys_integrations::embedded::Requests;

/// Adds the requests to an embedded execution client.
pub fn register_requests(metrics: &Metrics, requests: Arc<Requests>) {
    let collector = Box::new(RequestCollector(requests));
    metrics.register(|registry| registry.register_collector(collector));
}

#[derive(Debug)]
struct RequestCollector(Arc<Requests>);

impl Collector for RequestCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.0.counts();
        if rows.is_empty() {
            return Ok(());
        }
        let help = "Requests of wallets, by method and outcome; unknown methods are \"other\".";
        let mut family =
            encoder.encode_descriptor("alys_rpc_requests", help, None, MetricType::Counter)?;
        for row in rows {
            let outcome = if row.is_error { "error" } else { "ok" };
            let labels = [("method", &*row.method), ("outcome", outcome)];
            ConstCounter::new(row.count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Adds the audit trail: messages that actors were not permitted to send. Any of them is a bug or
/// an attack.
pub fn register_refusals(system: &Arc<System>) {
    let collector = Box::new(RefusalCollector(Arc::downgrade(system)));
    let metrics = system.metrics();
    metrics.register(|registry| registry.register_collector(collector));
}

/// Weak, because the system owns the registry.
struct RefusalCollector(Weak<System>);

impl fmt::Debug for RefusalCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalCollector").finish_non_exhaustive()
    }
}

impl Collector for RefusalCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(audit) = self.0.upgrade().and_then(|system| system.audit()) else {
            return Ok(());
        };
        if audit.counts.is_empty() {
            return Ok(());
        }
        let help = "Messages that an actor was not permitted to send, by roles and reason.";
        let name = "alys_access_refused_messages";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for ((from, to, why), count) in &audit.counts {
            let labels = [
                ("from", from.name()),
                ("to", to.name()),
                ("reason", why.as_str()),
            ];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
