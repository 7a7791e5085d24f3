//! [`ExecutionClient`] over HTTP.
//!
//! It uses our JSON-RPC client with alloy's types in place of alloy's provider. Of the provider's
//! transports, fillers and pollers only the typed calls would be used, while the three requirements
//! here (a token per call, a deadline per call, classified errors) would have to be added below it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{B256, Bytes, U64, U256};
use alloy_rpc_types_engine::{
    ExecutionPayload, ExecutionPayloadFieldV2, ExecutionPayloadV3, ForkchoiceState,
    ForkchoiceUpdated, PayloadAttributes, PayloadId, PayloadStatus, PayloadStatusEnum,
};
use alys_runtime::sync::Mutex;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::pool::PoolReader;
use super::receipts::ReceiptReader;
use super::{
    BlockTag, BuiltPayload, Capabilities, ExecutionBlock, ExecutionClient, ExecutionError,
    PayloadFork,
};
use crate::http::{ClientConfig, Endpoint, HttpClient, JwtSecret, RpcError};

/// The methods that the node uses; clients log the list.
const CAPABILITIES: [&str; 6] = [
    "engine_forkchoiceUpdatedV2",
    "engine_forkchoiceUpdatedV3",
    "engine_getPayloadV2",
    "engine_getPayloadV3",
    "engine_newPayloadV2",
    "engine_newPayloadV3",
];

/// An execution client that is reached over HTTP.
#[derive(Debug, Clone)]
pub struct HttpEngine {
    http: HttpClient,
    /// The port with the pool, if it is another one. Receipts are read there too if the port of the
    /// Engine API does not have them.
    pool_http: Option<HttpClient>,
    pool: Arc<Mutex<PoolReader>>,
    receipts: Arc<ReceiptReader>,
}

impl HttpEngine {
    /// Uses the limits of [`ClientConfig::new`] and connects at the first call.
    pub fn new(endpoint: impl Into<Endpoint>, secret: JwtSecret) -> Self {
        Self::with_config(ClientConfig {
            auth: Some(secret),
            ..ClientConfig::new(endpoint)
        })
    }

    /// `config.auth` must be set for every client except test doubles.
    pub fn with_config(config: ClientConfig) -> Self {
        Self {
            http: HttpClient::new(config),
            pool_http: None,
            pool: Arc::default(),
            receipts: Arc::default(),
        }
    }

    /// Reads the pool, and receipts that the port of the Engine API does not serve, from another
    /// port: the client's public JSON-RPC.
    pub fn with_pool(self, config: ClientConfig) -> Self {
        Self {
            pool_http: Some(HttpClient::new(config)),
            ..self
        }
    }

    /// See [`HttpClient::end_within`].
    pub fn end_within(&self, within: Duration) {
        self.http.end_within(within);
        if let Some(http) = &self.pool_http {
            http.end_within(within);
        }
    }

    async fn call<R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<R, ExecutionError> {
        self.http
            .call(method, params)
            .await
            .map_err(|error| ExecutionError::from_call(method, error))
    }

    async fn update_forkchoice(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<ForkchoiceUpdated, ExecutionError> {
        let answer: WireForkchoiceUpdated = self.call(method, params).await?;
        Ok(ForkchoiceUpdated {
            payload_status: answer.payload_status.into_status(method)?,
            payload_id: answer.payload_id,
        })
    }
}

/// The method of a fork choice with or without attributes. Without attributes all versions are
/// equivalent.
fn forkchoice_method(attributes: Option<&PayloadAttributes>) -> &'static str {
    match attributes.map(PayloadFork::of_attributes) {
        None | Some(PayloadFork::Capella) => "engine_forkchoiceUpdatedV2",
        Some(PayloadFork::Deneb) => "engine_forkchoiceUpdatedV3",
    }
}

impl ExecutionClient for HttpEngine {
    fn exchange_capabilities(&self) -> BoxFuture<'_, Result<Capabilities, ExecutionError>> {
        Box::pin(async {
            let names: BTreeSet<String> = self
                .call("engine_exchangeCapabilities", (CAPABILITIES,))
                .await?;
            Ok(Capabilities(names))
        })
    }

    fn forkchoice_updated(
        &self,
        state: ForkchoiceState,
        attributes: Option<PayloadAttributes>,
    ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>> {
        Box::pin(async move {
            let method = forkchoice_method(attributes.as_ref());
            self.update_forkchoice(method, (state, attributes)).await
        })
    }

    fn begin_empty_payload(
        &self,
        state: ForkchoiceState,
        attributes: PayloadAttributes,
    ) -> BoxFuture<'_, Result<ForkchoiceUpdated, ExecutionError>> {
        Box::pin(async move {
            let method = forkchoice_method(Some(&attributes));
            let marked = WireEmptyAttributes {
                attributes: attributes.clone(),
                no_tx_pool: true,
            };
            match self.update_forkchoice(method, (state, marked)).await {
                // EthereumJS refuses attributes that it does not know.
                Err(error) if error.is_unfit() => {
                    self.update_forkchoice(method, (state, attributes)).await
                }
                updated => updated,
            }
        })
    }

    fn get_payload(
        &self,
        fork: PayloadFork,
        id: PayloadId,
    ) -> BoxFuture<'_, Result<BuiltPayload, ExecutionError>> {
        Box::pin(async move {
            match fork {
                PayloadFork::Capella => {
                    let method = "engine_getPayloadV2";
                    let built: WireEnvelope<ExecutionPayloadFieldV2> = self
                        .call(method, (id,))
                        .await
                        .map_err(|error| error.for_payload(id))?;
                    match built.execution_payload {
                        ExecutionPayloadFieldV2::V2(payload) => Ok(BuiltPayload {
                            payload: ExecutionPayload::V2(payload),
                            block_value: built.block_value,
                        }),
                        ExecutionPayloadFieldV2::V1(_) => Err(ExecutionError::Invalid {
                            method,
                            reason: "the payload has no withdrawals".to_owned(),
                        }),
                    }
                }
                PayloadFork::Deneb => {
                    let built: WireEnvelope<ExecutionPayloadV3> = self
                        .call("engine_getPayloadV3", (id,))
                        .await
                        .map_err(|error| error.for_payload(id))?;
                    Ok(BuiltPayload {
                        payload: ExecutionPayload::V3(built.execution_payload),
                        block_value: built.block_value,
                    })
                }
            }
        })
    }

    fn new_payload(
        &self,
        payload: ExecutionPayload,
        parent_beacon_block_root: B256,
    ) -> BoxFuture<'_, Result<PayloadStatus, ExecutionError>> {
        Box::pin(async move {
            let (method, answer): (_, WireStatus) = match PayloadFork::of_payload(&payload) {
                Some(PayloadFork::Capella) => {
                    let method = "engine_newPayloadV2";
                    (method, self.call(method, (payload,)).await?)
                }
                Some(PayloadFork::Deneb) => {
                    // There are no blob transactions, so no versioned hashes.
                    let blobs: [B256; 0] = [];
                    let method = "engine_newPayloadV3";
                    (
                        method,
                        self.call(method, (payload, blobs, parent_beacon_block_root))
                            .await?,
                    )
                }
                None => return Err(ExecutionError::UnsupportedPayload),
            };
            answer.into_status(method)
        })
    }

    fn block_by_hash(
        &self,
        hash: B256,
    ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>> {
        Box::pin(async move { self.call("eth_getBlockByHash", (hash, false)).await })
    }

    fn block_by_tag(
        &self,
        tag: BlockTag,
    ) -> BoxFuture<'_, Result<Option<ExecutionBlock>, ExecutionError>> {
        Box::pin(async move {
            let tag = match tag {
                BlockTag::Number(number) => format!("{number:#x}"),
                BlockTag::Latest => "latest".to_owned(),
                BlockTag::Safe => "safe".to_owned(),
                BlockTag::Finalized => "finalized".to_owned(),
            };
            let found = self.call("eth_getBlockByNumber", (tag, false)).await;
            match found {
                // Geth answers so while no block is finalized.
                Err(ExecutionError::Rpc { error, .. }) if error.code == UNKNOWN_BLOCK => Ok(None),
                found => found,
            }
        })
    }

    fn receipts(
        &self,
        block: B256,
    ) -> BoxFuture<'_, Result<Option<Vec<ReceiptEnvelope>>, ExecutionError>> {
        let public = self.pool_http.as_ref();
        Box::pin(self.receipts.read(&self.http, public, block))
    }

    fn chain_id(&self) -> BoxFuture<'_, Result<u64, ExecutionError>> {
        Box::pin(async { Ok(self.call::<U64>("eth_chainId", NO_PARAMS).await?.to()) })
    }

    fn client_version(&self) -> BoxFuture<'_, Result<String, ExecutionError>> {
        Box::pin(async {
            match self.call("web3_clientVersion", NO_PARAMS).await {
                // EthereumJS serves this method on its public port only.
                Err(ExecutionError::Rpc { error, .. })
                    if error.code == RpcError::METHOD_NOT_FOUND =>
                {
                    Ok("unknown execution client".to_owned())
                }
                version => version,
            }
        })
    }

    fn send_raw_transaction(
        &self,
        transaction: Bytes,
    ) -> BoxFuture<'_, Result<B256, ExecutionError>> {
        Box::pin(async move { self.call("eth_sendRawTransaction", (transaction,)).await })
    }

    fn pending_transactions(
        &self,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ExecutionError>> {
        Box::pin(async move {
            let http = self.pool_http.as_ref().unwrap_or(&self.http);
            self.pool.lock().await.read(http, limit).await
        })
    }
}

const NO_PARAMS: [u8; 0] = [];

/// Geth's "unknown block", for tags that no block has yet.
const UNKNOWN_BLOCK: i64 = -39001;

/// Attributes of a payload without transactions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireEmptyAttributes {
    #[serde(flatten)]
    attributes: PayloadAttributes,
    no_tx_pool: bool,
}

/// The fields of a built payload that the node uses. Blob bundles, overrides and extensions are
/// ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEnvelope<P> {
    execution_payload: P,
    #[serde(default)]
    block_value: U256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireForkchoiceUpdated {
    payload_status: WireStatus,
    #[serde(default)]
    payload_id: Option<PayloadId>,
}

/// A payload status as clients send it: optional fields may be absent, and `INVALID_BLOCK_HASH` of
/// Paris is allowed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    status: String,
    #[serde(default)]
    latest_valid_hash: Option<B256>,
    #[serde(default)]
    validation_error: Option<String>,
}

impl WireStatus {
    fn into_status(self, method: &'static str) -> Result<PayloadStatus, ExecutionError> {
        let status = match self.status.as_str() {
            "VALID" => PayloadStatusEnum::Valid,
            "INVALID" | "INVALID_BLOCK_HASH" => PayloadStatusEnum::Invalid {
                validation_error: self.validation_error.unwrap_or_else(|| self.status.clone()),
            },
            "SYNCING" => PayloadStatusEnum::Syncing,
            "ACCEPTED" => PayloadStatusEnum::Accepted,
            _ => {
                let reason = format!("unknown status {:.40}", self.status);
                return Err(ExecutionError::Invalid { method, reason });
            }
        };
        Ok(PayloadStatus::new(status, self.latest_valid_hash))
    }
}
