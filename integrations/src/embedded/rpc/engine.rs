//! The Engine API, V1 to V3, with the version rules of its specification (ethereum/execution-apis,
//! `engine/`).

use alloy_primitives::B256;
use alloy_rpc_types_engine::{
    CancunPayloadFields, ExecutionPayload, ExecutionPayloadInputV2, ExecutionPayloadSidecar,
    ExecutionPayloadV1, ExecutionPayloadV3, ForkchoiceState, ForkchoiceUpdated, PayloadAttributes,
    PayloadId, PayloadStatus, PayloadStatusEnum,
};
use alys_runtime::{buggify, buggify_pause};
use serde_json::{Value, json};

use super::methods::{ENGINE_METHODS, EXCHANGE_CAPABILITIES};
use super::shared::{Shared, quantity, to_json};
use crate::embedded::execution::{Error, Fork, limits};
use crate::http::{Args, RpcError};

const INVALID_ATTRIBUTES: i64 = -38003;
const TOO_LARGE: i64 = -38004;
const UNSUPPORTED_FORK: i64 = -38005;

pub(super) async fn call(shared: &Shared, method: &str, params: Value) -> Result<Value, RpcError> {
    match method {
        // The caller's list is not needed.
        EXCHANGE_CAPABILITIES => Ok(json!(ENGINE_METHODS)),
        "engine_getClientVersionV1" => Ok(json!([{
            "code": "AL",
            "name": "Alys embedded execution client",
            "version": env!("CARGO_PKG_VERSION"),
            "commit": "00000000",
        }])),
        "engine_forkchoiceUpdatedV1" => forkchoice_updated(shared, Fork::Paris, params).await,
        "engine_forkchoiceUpdatedV2" => forkchoice_updated(shared, Fork::Shanghai, params).await,
        "engine_forkchoiceUpdatedV3" => forkchoice_updated(shared, Fork::Cancun, params).await,
        "engine_getPayloadV1" => get_payload(shared, Fork::Paris, params).await,
        "engine_getPayloadV2" => get_payload(shared, Fork::Shanghai, params).await,
        "engine_getPayloadV3" => get_payload(shared, Fork::Cancun, params).await,
        "engine_newPayloadV1" | "engine_newPayloadV2" | "engine_newPayloadV3" => {
            new_payload(shared, method, params).await
        }
        "engine_getPayloadBodiesByHashV1" => {
            let hashes: Vec<B256> = Args::new(params, 1)?.required()?;
            if hashes.len() as u64 > limits::PAYLOAD_BODIES {
                return Err(RpcError::new(TOO_LARGE, "Too large request"));
            }
            shared
                .read(|view| {
                    let bodies: Result<Vec<_>, _> = hashes
                        .iter()
                        .map(|hash| view.payload_body_by_hash(*hash))
                        .collect();
                    to_json(bodies?)
                })
                .await
        }
        "engine_getPayloadBodiesByRangeV1" => {
            let mut args = Args::new(params, 2)?;
            let start = args.required::<alloy_primitives::U64>()?.to();
            let count = args.required::<alloy_primitives::U64>()?.to();
            if start == 0 || count == 0 {
                return Err(RpcError::invalid_params("start and count must not be zero"));
            }
            if count > limits::PAYLOAD_BODIES {
                return Err(RpcError::new(TOO_LARGE, "Too large request"));
            }
            shared
                .read(|view| to_json(view.payload_bodies_by_range(start, count)?))
                .await
        }
        _ => Err(RpcError::method_not_found(method)),
    }
}

/// `version` is the fork to whose payload attributes the method version belongs.
async fn forkchoice_updated(
    shared: &Shared,
    version: Fork,
    params: Value,
) -> Result<Value, RpcError> {
    let is_empty = asks_for_empty(&params);
    let mut args = Args::new(params, 2)?;
    let state: ForkchoiceState = args.required()?;
    let attributes: Option<PayloadAttributes> = args.optional()?;
    if let Some(attributes) = &attributes {
        let fork = shared
            .read(|view| Ok(view.fork_at(attributes.timestamp)))
            .await?;
        check_attributes(version, fork, attributes)?;
    }
    if buggify!("execution.engine.forkchoice_syncing", 50_000) {
        return to_json(ForkchoiceUpdated::new(syncing()));
    }
    to_json(
        shared
            .write(|core| match attributes {
                Some(attributes) if is_empty => core.begin_empty_payload(state, attributes),
                attributes => core.forkchoice_updated(state, attributes),
            })
            .await?,
    )
}

/// True if the attributes of a fork choice demand a payload without transactions, by the extension
/// of OP clients.
pub(super) fn asks_for_empty(params: &Value) -> bool {
    let attributes = params
        .get(1)
        .and_then(|attributes| attributes.get("noTxPool"));
    attributes.and_then(Value::as_bool) == Some(true)
}

fn check_attributes(
    version: Fork,
    fork: Fork,
    attributes: &PayloadAttributes,
) -> Result<(), RpcError> {
    let invalid = |reason| {
        Err(RpcError::new(
            INVALID_ATTRIBUTES,
            format!("Invalid payload attributes: {reason}"),
        ))
    };
    let withdrawals = attributes.withdrawals.is_some();
    let root = attributes.parent_beacon_block_root.is_some();
    match version {
        Fork::Paris if withdrawals || root => {
            return invalid("withdrawals and beacon root belong to later versions");
        }
        Fork::Shanghai if root => return invalid("the beacon root belongs to V3"),
        Fork::Cancun if !root => return invalid("the beacon root is missing"),
        Fork::Cancun if !withdrawals => return invalid("withdrawals are missing"),
        Fork::Paris | Fork::Shanghai | Fork::Cancun => {}
    }
    check_fork(version, fork)?;
    if fork >= Fork::Shanghai && !withdrawals {
        return invalid("withdrawals are missing");
    }
    if fork < Fork::Shanghai && withdrawals {
        return invalid("withdrawals before Shanghai");
    }
    Ok(())
}

/// Checks that a method of `version` supports blocks of `fork`. V2 also supports blocks of Paris.
fn check_fork(version: Fork, fork: Fork) -> Result<(), RpcError> {
    match (version, fork) {
        (Fork::Paris, Fork::Paris)
        | (Fork::Shanghai, Fork::Paris | Fork::Shanghai)
        | (Fork::Cancun, Fork::Cancun) => Ok(()),
        (Fork::Paris | Fork::Shanghai | Fork::Cancun, _) => {
            Err(RpcError::new(UNSUPPORTED_FORK, "Unsupported fork"))
        }
    }
}

async fn new_payload(shared: &Shared, method: &str, params: Value) -> Result<Value, RpcError> {
    let (version, payload, sidecar) = match method {
        "engine_newPayloadV1" => {
            let payload: ExecutionPayloadV1 = Args::new(params, 1)?.required()?;
            (
                Fork::Paris,
                ExecutionPayload::V1(payload),
                ExecutionPayloadSidecar::none(),
            )
        }
        "engine_newPayloadV2" => {
            let payload: ExecutionPayloadInputV2 = Args::new(params, 1)?.required()?;
            (
                Fork::Shanghai,
                payload.into_payload(),
                ExecutionPayloadSidecar::none(),
            )
        }
        _ => {
            let mut args = Args::new(params, 3)?;
            let payload: ExecutionPayloadV3 = args.required()?;
            let versioned_hashes: Vec<B256> = args.required()?;
            let parent_beacon_block_root: B256 = args.required()?;
            let fields = CancunPayloadFields {
                parent_beacon_block_root,
                versioned_hashes,
            };
            (
                Fork::Cancun,
                ExecutionPayload::V3(payload),
                ExecutionPayloadSidecar::v3(fields),
            )
        }
    };
    let timestamp = payload.as_v1().timestamp;
    let fork = shared.read(|view| Ok(view.fork_at(timestamp))).await?;
    check_fork(version, fork)?;
    match (&payload, fork) {
        (ExecutionPayload::V1(_), Fork::Shanghai) => {
            return Err(RpcError::invalid_params("withdrawals are missing"));
        }
        (ExecutionPayload::V2(_), Fork::Paris) => {
            return Err(RpcError::invalid_params("withdrawals before Shanghai"));
        }
        _ => {}
    }
    if buggify!("execution.engine.payload_syncing", 50_000) {
        return to_json(syncing());
    }
    if buggify!("execution.engine.payload_syncing_later", 50_000) {
        shared
            .write(|core| core.new_payload(payload, sidecar))
            .await?;
        return to_json(syncing());
    }
    to_json(
        shared
            .write(|core| core.new_payload(payload, sidecar))
            .await?,
    )
}

/// The answer of a client that is busy with other blocks, which a node must expect at any time.
fn syncing() -> PayloadStatus {
    PayloadStatus::new(PayloadStatusEnum::Syncing, None)
}

async fn get_payload(shared: &Shared, version: Fork, params: Value) -> Result<Value, RpcError> {
    let id: PayloadId = Args::new(params, 1)?.required()?;
    buggify_pause!("execution.engine.late_build", 100_000, 400);
    if buggify!("execution.engine.forget_build", 50_000) {
        // A build is dropped when later ones replace it, and by a restart.
        return Err(Error::UnknownPayload { id }.into());
    }
    let built = shared.write(|core| core.get_payload(id)).await?;
    let timestamp = built.payload.as_v1().timestamp;
    let fork = shared.read(|view| Ok(view.fork_at(timestamp))).await?;
    check_fork(version, fork)?;
    if version == Fork::Paris {
        return to_json(built.payload);
    }
    let mut envelope = json!({
        "executionPayload": to_json(built.payload)?,
        "blockValue": quantity(built.block_value),
    });
    if version == Fork::Cancun {
        envelope["blobsBundle"] = json!({ "commitments": [], "proofs": [], "blobs": [] });
        envelope["shouldOverrideBuilder"] = false.into();
    }
    Ok(envelope)
}
