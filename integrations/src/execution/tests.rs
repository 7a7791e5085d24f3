//! The requests of [`HttpEngine`], and its handling of the answers of real clients, in both worlds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, U256};
use alloy_rpc_types_engine::PayloadStatusEnum;
use alys_runtime::block_on_main;
use serde_json::{Value, json};

use super::*;
use crate::http::{ClientConfig, HttpServer, JwtSecret, RpcError, RpcHandler, ServerConfig};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Gives scripted answers and records the requests.
struct Script {
    answer: Result<Value, RpcError>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl RpcHandler for Script {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.asked.lock().unwrap().push((method.to_owned(), params));
        self.answer.clone()
    }
}

fn secret() -> JwtSecret {
    JwtSecret::new([9; 32])
}

/// Runs one call against a server with the given answer, and returns the result and the request.
async fn ask<R>(
    answer: Result<Value, RpcError>,
    call: impl AsyncFnOnce(HttpEngine) -> Result<R, ExecutionError>,
) -> (Result<R, ExecutionError>, String, Value) {
    let script = Arc::new(Script {
        answer,
        asked: Mutex::default(),
    });
    let config = ServerConfig {
        auth: Some(secret()),
        ..ServerConfig::new("script")
    };
    let server = HttpServer::bind(LOCAL, config, script.clone())
        .await
        .unwrap();
    let result = call(HttpEngine::new(server.local_addr(), secret())).await;
    let (method, params) = script.asked.lock().unwrap().pop().unwrap();
    (result, method, params)
}

fn hash(byte: u8) -> B256 {
    B256::repeat_byte(byte)
}

fn state() -> ForkchoiceState {
    ForkchoiceState {
        head_block_hash: hash(1),
        safe_block_hash: hash(2),
        finalized_block_hash: hash(3),
    }
}

fn attributes(root: Option<B256>) -> PayloadAttributes {
    PayloadAttributes {
        timestamp: 0x65,
        prev_randao: hash(4),
        suggested_fee_recipient: Address::repeat_byte(5),
        withdrawals: Some(Vec::new()),
        parent_beacon_block_root: root,
        ..PayloadAttributes::default()
    }
}

/// A payload of EthereumJS, with its extra field.
fn payload(fork: PayloadFork) -> Value {
    let mut payload = json!({
        "parentHash": hash(1), "feeRecipient": Address::ZERO, "stateRoot": hash(2),
        "receiptsRoot": hash(3), "logsBloom": format!("0x{}", "00".repeat(256)),
        "prevRandao": hash(4), "blockNumber": "0x1", "gasLimit": "0x1c9c380", "gasUsed": "0x0",
        "timestamp": "0x65", "extraData": "0x",
        "baseFeePerGas": "0x3b9aca00", "blockHash": hash(5), "transactions": ["0x01"],
        "withdrawals": [{
            "index": "0x0", "validatorIndex": "0x1", "address": Address::ZERO,
            "amount": "0x3b9aca00"
        }],
        "requestsHash": hash(6),
    });
    if fork == PayloadFork::Deneb {
        payload["blobGasUsed"] = "0x0".into();
        payload["excessBlobGas"] = "0x0".into();
    }
    payload
}

fn status(status: &str, hash: Option<B256>, error: Option<&str>) -> Value {
    json!({ "status": status, "latestValidHash": hash, "validationError": error })
}

#[test]
fn the_method_version_follows_the_fork() {
    block_on_main(async {
        let updated = json!({
            "payloadStatus": status("VALID", Some(hash(1)), None),
            "payloadId": "0x0000000000000007"
        });
        for (attributes, method) in [
            (None, "engine_forkchoiceUpdatedV2"),
            (Some(attributes(None)), "engine_forkchoiceUpdatedV2"),
            (
                Some(attributes(Some(hash(6)))),
                "engine_forkchoiceUpdatedV3",
            ),
        ] {
            let sent = attributes.clone();
            let (result, asked, params) = ask(Ok(updated.clone()), async move |engine| {
                engine.forkchoice_updated(state(), sent).await
            })
            .await;
            let result = result.unwrap();
            assert!(result.is_valid());
            assert_eq!(
                result.payload_id,
                Some(PayloadId::new([0, 0, 0, 0, 0, 0, 0, 7]))
            );
            assert_eq!(asked, method);
            assert_eq!(params[0]["headBlockHash"], json!(hash(1)));
            assert_eq!(params[1], serde_json::to_value(attributes).unwrap());
        }
        for (root, method) in [
            (None, "engine_forkchoiceUpdatedV2"),
            (Some(hash(6)), "engine_forkchoiceUpdatedV3"),
        ] {
            let (result, asked, params) = ask(Ok(updated.clone()), async move |engine| {
                engine.begin_empty_payload(state(), attributes(root)).await
            })
            .await;
            assert!(result.unwrap().is_valid());
            assert_eq!(asked, method);
            let mut expected = serde_json::to_value(attributes(root)).unwrap();
            expected["noTxPool"] = true.into();
            assert_eq!(params[1], expected);
        }

        // A client that refuses the attribute is asked without it.
        let refused = RpcError {
            code: -32602,
            message: "PayloadAttributesV3 MUST be used".into(),
            data: None,
        };
        let (result, _, params) = ask(Err(refused), async move |engine| {
            let attributes = attributes(Some(hash(6)));
            engine.begin_empty_payload(state(), attributes).await
        })
        .await;
        assert!(result.is_err());
        let without = serde_json::to_value(attributes(Some(hash(6)))).unwrap();
        assert_eq!(params[1], without);

        for (fork, get, new, params_count) in [
            (
                PayloadFork::Capella,
                "engine_getPayloadV2",
                "engine_newPayloadV2",
                1,
            ),
            (
                PayloadFork::Deneb,
                "engine_getPayloadV3",
                "engine_newPayloadV3",
                3,
            ),
        ] {
            let envelope =
                json!({ "executionPayload": payload(fork), "blockValue": "0x10", "unknown": 1 });
            let id = PayloadId::new([1; 8]);
            let (built, asked, params) = ask(Ok(envelope), async move |engine| {
                engine.get_payload(fork, id).await
            })
            .await;
            let built = built.unwrap();
            assert_eq!(
                (asked.as_str(), params),
                (get, json!(["0x0101010101010101"]))
            );
            assert_eq!(built.block_value, U256::from(16));
            assert_eq!(PayloadFork::of_payload(&built.payload), Some(fork));
            assert_eq!(built.payload.as_v1().block_hash, hash(5));

            let sent = built.payload.clone();
            let (result, asked, params) = ask(
                Ok(status("VALID", Some(hash(5)), None)),
                async move |engine| engine.new_payload(sent, hash(7)).await,
            )
            .await;
            assert!(result.unwrap().is_valid());
            assert_eq!(asked, new);
            let params = params.as_array().unwrap();
            assert_eq!(params.len(), params_count);
            let mut expected = payload(fork);
            expected.as_object_mut().unwrap().remove("requestsHash");
            assert_eq!(params[0], expected);
            if fork == PayloadFork::Deneb {
                assert_eq!(params[1..], [json!([]), json!(hash(7))]);
            }
        }
    });
}

#[test]
fn statuses_are_parsed_in_every_form_of_the_clients() {
    let invalid = |text: &str| PayloadStatusEnum::Invalid {
        validation_error: text.to_owned(),
    };
    let cases = [
        (
            status("VALID", Some(hash(1)), None),
            PayloadStatusEnum::Valid,
            Some(hash(1)),
        ),
        (
            json!({ "status": "SYNCING" }),
            PayloadStatusEnum::Syncing,
            None,
        ),
        (
            status("ACCEPTED", None, None),
            PayloadStatusEnum::Accepted,
            None,
        ),
        (
            status("INVALID", Some(hash(1)), Some("bad root")),
            invalid("bad root"),
            Some(hash(1)),
        ),
        // Geth sends no text for a descendant of an invalid block.
        (
            status("INVALID", Some(hash(1)), None),
            invalid("INVALID"),
            Some(hash(1)),
        ),
        (
            status("INVALID_BLOCK_HASH", None, Some("hash mismatch")),
            invalid("hash mismatch"),
            None,
        ),
    ];
    block_on_main(async move {
        let payload: alloy_rpc_types_engine::ExecutionPayloadV3 =
            serde_json::from_value(payload(PayloadFork::Deneb)).unwrap();
        for (answer, expected, latest_valid) in cases {
            let sent = ExecutionPayload::V3(payload.clone());
            let call = async move |engine: HttpEngine| engine.new_payload(sent, hash(7)).await;
            let (result, ..) = ask(Ok(answer), call).await;
            let result = result.unwrap();
            assert_eq!(
                (result.status, result.latest_valid_hash),
                (expected, latest_valid)
            );
        }
        let sent = ExecutionPayload::V3(payload.clone());
        let call = async move |engine: HttpEngine| engine.new_payload(sent, hash(7)).await;
        let error = ask(Ok(status("MAYBE", None, None)), call)
            .await
            .0
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the execution client sent an invalid answer to engine_newPayloadV3: unknown status \
             MAYBE"
        );
        let unsupported = ExecutionPayload::V1(payload.payload_inner.payload_inner);
        let engine = HttpEngine::new(LOCAL, secret());
        let error = engine.new_payload(unsupported, hash(7)).await.unwrap_err();
        assert!(
            matches!(error, ExecutionError::UnsupportedPayload),
            "{error}"
        );
    });
}

#[test]
fn errors_name_who_has_to_act() {
    block_on_main(async {
        let id = PayloadId::new([1; 8]);
        for code in [-38001, -32001] {
            let call =
                async move |engine: HttpEngine| engine.get_payload(PayloadFork::Deneb, id).await;
            let error = ask(Err(RpcError::new(code, "Unknown payload")), call)
                .await
                .0
                .unwrap_err();
            assert!(
                matches!(error, ExecutionError::UnknownPayload { id: unknown } if unknown == id),
                "{error}"
            );
        }
        let call = async |engine: HttpEngine| engine.forkchoice_updated(state(), None).await;
        let error = ask(Err(RpcError::new(-38002, "Invalid forkchoice state")), call)
            .await
            .0
            .unwrap_err();
        assert!(
            error.is_invalid_forkchoice() && !error.is_retryable(),
            "{error}"
        );
        let call = async |engine: HttpEngine| engine.block_by_tag(BlockTag::Finalized).await;
        assert_eq!(
            ask(Err(RpcError::new(-39001, "Unknown block")), call)
                .await
                .0
                .unwrap(),
            None
        );
        let call = async |engine: HttpEngine| engine.client_version().await;
        let named = ask(Err(RpcError::method_not_found("web3_clientVersion")), call)
            .await
            .0
            .unwrap();
        assert_eq!(named, "unknown execution client");
        let call = async |engine: HttpEngine| engine.chain_id().await;
        let error = ask(Ok(json!("seven")), call).await.0.unwrap_err();
        assert!(
            matches!(
                error,
                ExecutionError::Invalid {
                    method: "eth_chainId",
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn unauthorized_and_unanswered_calls_name_who_has_to_act() {
    block_on_main(async {
        let script = Arc::new(Script {
            answer: Ok(json!("0x1")),
            asked: Mutex::default(),
        });
        let config = ServerConfig {
            auth: Some(secret()),
            ..ServerConfig::new("script")
        };
        let server = HttpServer::bind(LOCAL, config, script.clone())
            .await
            .unwrap();
        let addr = server.local_addr();
        for auth in [None, Some(JwtSecret::new([1; 32]))] {
            let unauthorized = HttpEngine::with_config(ClientConfig {
                auth,
                ..ClientConfig::new(addr)
            });
            let error = unauthorized.chain_id().await.unwrap_err();
            assert!(
                matches!(error, ExecutionError::Auth { .. }) && !error.is_retryable(),
                "{error}"
            );
            assert!(
                error
                    .to_string()
                    .contains("Compare the JWT secret files of both sides"),
                "{error}"
            );
        }
        let engine = HttpEngine::new(addr, secret());
        assert_eq!(engine.chain_id().await.unwrap(), 1);
        server.stop().await;
        let error = engine.chain_id().await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        // A server that accepts connections and does not answer.
        let silent = alys_runtime::net::Listener::bind(LOCAL).await.unwrap();
        let config = ClientConfig {
            deadline: Duration::from_millis(200),
            ..ClientConfig::new(silent.local_addr())
        };
        let error = HttpEngine::with_config(config)
            .chain_id()
            .await
            .unwrap_err();
        assert!(
            error.is_retryable() && error.to_string().contains("no answer to eth_chainId"),
            "{error}"
        );
    });
}

#[test]
fn look_ups_and_capabilities_tolerate_deviations() {
    block_on_main(async {
        let names = json!([
            "engine_forkchoiceUpdatedV3",
            "engine_getPayloadV3",
            "engine_initValidators"
        ]);
        let (capabilities, method, params) = ask(Ok(names), async |engine| {
            engine.exchange_capabilities().await
        })
        .await;
        let capabilities = capabilities.unwrap();
        assert_eq!(
            (method.as_str(), params[0].as_array().unwrap().len()),
            ("engine_exchangeCapabilities", 6)
        );
        assert_eq!(
            capabilities.missing(PayloadFork::Deneb),
            ["engine_newPayloadV3"]
        );
        assert_eq!(capabilities.missing(PayloadFork::Capella).len(), 3);

        let block = json!({
            "hash": hash(1), "parentHash": hash(2), "number": "0x10", "timestamp": "0x65",
            "stateRoot": hash(3),
            "difficulty": "0x0", "transactions": [],
        });
        let expected = ExecutionBlock {
            hash: hash(1),
            parent_hash: hash(2),
            number: 16,
            timestamp: 0x65,
            state_root: hash(3),
        };
        let (found, method, params) = ask(Ok(block.clone()), async |engine| {
            engine.block_by_hash(hash(1)).await
        })
        .await;
        assert_eq!(
            (found.unwrap(), method.as_str()),
            (Some(expected), "eth_getBlockByHash")
        );
        assert_eq!(params, json!([hash(1), false]));
        let (found, _, params) = ask(Ok(block), async |engine| {
            engine.block_by_tag(BlockTag::Number(16)).await
        })
        .await;
        assert_eq!(
            (found.unwrap(), params),
            (Some(expected), json!(["0x10", false]))
        );
        let (found, ..) = ask(Ok(Value::Null), async |engine| {
            engine.block_by_hash(hash(1)).await
        })
        .await;
        assert_eq!(found.unwrap(), None);
    });
}
