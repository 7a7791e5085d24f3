//! Metrics of the calls to the execution client, measured by a wrapper around the client.

use std::sync::Arc;
use std::time::Instant;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_engine::{
    ExecutionPayload, ForkchoiceState, ForkchoiceUpdated, PayloadAttributes, PayloadId,
    PayloadStatus,
};
use alys_actor_system::metrics::prometheus_client::metrics::counter::Counter;
use alys_actor_system::metrics::prometheus_client::metrics::family::Family;
use alys_actor_system::metrics::prometheus_client::metrics::gauge::Gauge;
use alys_actor_system::metrics::prometheus_client::metrics::histogram::Histogram;
use alys_actor_system::metrics::prometheus_client::registry::Registry;
use alys_integrations::execution::{
    BlockTag, BuiltPayload, Capabilities, ExecutionBlock, ExecutionClient, ExecutionError,
    PayloadFork,
};
use alys_runtime::time;
use futures::future::BoxFuture;

use crate::metrics::{Label, Tables};

/// Upper bounds of the buckets, in seconds. A call times out after two.
const CALL_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

#[derive(Clone)]
pub struct Metrics {
    calls: Family<Label, Histogram, fn() -> Histogram>,
    errors: Family<[(&'static str, &'static str); 2], Counter>,
    pub(super) reachable: Gauge,
    pub(super) filled_payloads: Counter,
    pub(super) missing_receipts: Counter,
    pub(super) wrong_receipts: Counter,
    pub(crate) tables: Tables,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            calls: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            errors: Family::default(),
            reachable: Gauge::default(),
            filled_payloads: Counter::default(),
            missing_receipts: Counter::default(),
            wrong_receipts: Counter::default(),
            tables: Tables::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "alys_engine_call_seconds",
            "Duration of calls to the execution client, by method",
            self.calls.clone(),
        );
        registry.register(
            "alys_engine_call_errors",
            "Calls to the execution client that failed, by method and reason",
            self.errors.clone(),
        );
        registry.register(
            "alys_engine_reachable",
            "1 while the execution client answers the EngineActor",
            self.reachable.clone(),
        );
        registry.register(
            "alys_engine_filled_payloads",
            "Payloads with transactions that the execution client was asked to leave empty",
            self.filled_payloads.clone(),
        );
        registry.register(
            "alys_engine_missing_receipts",
            "Questions for the receipts of a block that the execution client does not have",
            self.missing_receipts.clone(),
        );
        registry.register(
            "alys_engine_wrong_receipts",
            "Receipts of the execution client that are not those of their block",
            self.wrong_receipts.clone(),
        );
        self.tables.register(registry, "engine");
    }

    fn on_call<T>(&self, method: &'static str, begun: Instant, result: &Result<T, ExecutionError>) {
        let elapsed = time::now().saturating_duration_since(begun);
        let calls = self.calls.get_or_create(&[("method", method)]);
        calls.observe(elapsed.as_secs_f64());
        if let Err(error) = result {
            let labels = [("method", method), ("reason", reason(error))];
            self.errors.get_or_create(&labels).inc();
        }
    }
}

fn reason(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::Transport { .. } => "unreachable",
        ExecutionError::Auth { .. } => "unauthorized",
        ExecutionError::UnknownPayload { .. } => "unknown_payload",
        ExecutionError::Rpc { .. } => "refused",
        ExecutionError::Invalid { .. } => "malformed",
        ExecutionError::UnsupportedPayload
        | ExecutionError::PoolNotServed
        | ExecutionError::ReceiptsNotServed => "unsupported",
    }
}

/// An execution client that records metrics of its calls. A call that is cancelled by the timeout
/// of its message is not recorded.
pub struct MeteredClient {
    pub client: Arc<dyn ExecutionClient>,
    pub metrics: Metrics,
}

impl MeteredClient {
    fn call<'a, T>(
        &'a self,
        method: &'static str,
        call: BoxFuture<'a, Result<T, ExecutionError>>,
    ) -> BoxFuture<'a, Result<T, ExecutionError>>
    where
        T: Send + 'a,
    {
        Box::pin(async move {
            let begun = time::now();
            let result = call.await;
            self.metrics.on_call(method, begun, &result);
            result
        })
    }
}

impl ExecutionClient for MeteredClient {
    fn exchange_capabilities(&self) -> BoxFuture<'_, Result<Capabilities, ExecutionError>> {
        self.call("exchange_capabilities", self.client.exchange_capabilities())
    }

    fn forkchoice_updated(
        &self,
        state: ForkchoiceState,
        attributes: Option<PayloadAttributes>,
    ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>> {
        let method = if attributes.is_some() {
            "forkchoice_updated_build"
        } else {
            "forkchoice_updated"
        };
        self.call(method, self.client.forkchoice_updated(state, attributes))
    }

    fn begin_empty_payload(
        &self,
        state: ForkchoiceState,
        attributes: PayloadAttributes,
    ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>> {
        let call = self.client.begin_empty_payload(state, attributes);
        self.call("forkchoice_updated_build", call)
    }

    fn get_payload(
        &self,
        fork: PayloadFork,
        id: PayloadId,
    ) -> BoxFuture<'_, Result<BuiltPayload, ExecutionError>> {
        self.call("get_payload", self.client.get_payload(fork, id))
    }

    fn new_payload(
        &self,
        payload: ExecutionPayload,
        parent_beacon_block_root: B256,
    ) -> BoxFuture<'_, Result<PayloadStatus, ExecutionError>> {
        let call = self.client.new_payload(payload, parent_beacon_block_root);
        self.call("new_payload", call)
    }

    fn block_by_hash(
        &self,
        hash: B256,
    ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>> {
        self.call("block_by_hash", self.client.block_by_hash(hash))
    }

    fn block_by_tag(
        &self,
        tag: BlockTag,
    ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>> {
        self.call("block_by_tag", self.client.block_by_tag(tag))
    }

    fn receipts(
        &self,
        block: B256,
    ) -> BoxFuture<'_, Result<Option<Vec<ReceiptEnvelope>>, ExecutionError>> {
        self.call("receipts", self.client.receipts(block))
    }

    fn chain_id(&self) -> BoxFuture<'_, Result<u64, ExecutionError>> {
        self.call("chain_id", self.client.chain_id())
    }

    fn client_version(&self) -> BoxFuture<'_, Result<String, ExecutionError>> {
        self.call("client_version", self.client.client_version())
    }

    fn send_raw_transaction(
        &self,
        transaction: Bytes,
    ) -> BoxFuture<'_, Result<B256, ExecutionError>> {
        let call = self.client.send_raw_transaction(transaction);
        self.call("send_raw_transaction", call)
    }

    fn pending_transactions(
        &self,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ExecutionError>> {
        let call = self.client.pending_transactions(limit);
        self.call("pending_transactions", call)
    }
}
