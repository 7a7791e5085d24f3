//! The embedded execution client: methods of its public port, all of its Engine API, and a few that
//! it does not have, with parameters of any kind, on a chain that grows meanwhile. It answers each
//! call, its store stays usable, and the chain still grows afterwards.

use std::sync::Arc;

use alloy_rpc_types_engine::ExecutionPayload;
use alys_integrations::embedded::execution::CoreConfig;
use alys_integrations::embedded::rpc::{ENGINE_METHODS, EXCHANGE_CAPABILITIES, PUBLIC_METHODS};
use alys_integrations::embedded::{ExecutionServer, ExecutionServerConfig};
use alys_integrations::http::{Access, CallError, ClientConfig, HttpClient, JwtSecret};
use alys_storage::MemoryStore;
use serde_json::{Value, json};

use super::{LOCAL, MAX_STEPS};
use crate::choices::Choices;
use crate::in_world;

/// A method of Geth that the client does not have.
const ABSENT: &str = "eth_newPendingTransactionFilter";

/// The id of the chain, which the client still answers at the end.
const CHAIN_ID: u64 = 1337;

pub fn run(data: &[u8]) {
    let data = data.to_vec();
    in_world(async move {
        let mut choices = Choices::new(&data);
        let mut client = Client::start(choices.flag()).await;
        for _ in 0..MAX_STEPS {
            if choices.is_over() {
                break;
            }
            client.step(&mut choices).await;
        }
        client.end().await;
    });
}

struct Client {
    server: ExecutionServer,
    public: HttpClient,
    engine: HttpClient,
    is_cancun: bool,
    /// The last payload that the client built.
    built: Option<Value>,
    timestamp: u64,
}

impl Client {
    async fn start(is_cancun: bool) -> Client {
        let mut genesis = json!({
            "config": {
                "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
                "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0,
                "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0,
                "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
                "shanghaiTime": 0,
            },
            "difficulty": "0x0", "gasLimit": "0x1c9c380", "nonce": "0x0", "timestamp": "0x0",
            "alloc": {
                "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266": {
                    "balance": "0x21e19e0c9bab2400000",
                },
                "0x00000000000000000000000000000000000000aa": {
                    "balance": "0x0",
                    "code": "0x36601a57602a600055602a600052600760206000a160206000f3\
                             5b60003560005260206000fd",
                },
            },
        });
        if is_cancun {
            genesis["config"]["cancunTime"] = 0.into();
        }
        let secret = JwtSecret::new([3; 32]);
        let server = ExecutionServer::start(ExecutionServerConfig {
            http_addr: Some(LOCAL),
            engine_addr: LOCAL,
            jwt_secret: secret.clone(),
            genesis: serde_json::from_value(genesis).expect("a genesis of this file"),
            store: Arc::new(MemoryStore::new()),
            core: CoreConfig::default(),
            limits: Default::default(),
            access: Access::default(),
        });
        let server = server.await.expect("an empty store and free ports");
        let public = server.http_addr().expect("it was configured");
        let engine = ClientConfig {
            auth: Some(secret),
            ..ClientConfig::new(server.engine_addr())
        };
        Client {
            public: HttpClient::new(ClientConfig::new(public)),
            engine: HttpClient::new(engine),
            server,
            is_cancun,
            built: None,
            timestamp: 0,
        }
    }

    async fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 8 {
            0..=3 => {
                let methods = [PUBLIC_METHODS, &[ABSENT][..]].concat();
                let method = choices.pick(&methods).copied().unwrap_or_default();
                let params = choices.json_array();
                call(&self.public, method, params).await;
            }
            4 => {
                let methods = [ENGINE_METHODS, &[EXCHANGE_CAPABILITIES][..]].concat();
                let method = choices.pick(&methods).copied().unwrap_or_default();
                let params = choices.json_array();
                call(&self.engine, method, params).await;
            }
            5 => self.damaged_payload(choices).await,
            _ => self.next_block().await,
        }
    }

    /// Builds, executes and follows a block on the head.
    async fn next_block(&mut self) {
        let head = call(
            &self.public,
            "eth_getBlockByNumber",
            json!(["latest", false]),
        )
        .await;
        let head = head.map(|head| head["hash"].clone()).unwrap_or_default();
        self.timestamp += 1;
        let zero = format!("0x{}", "00".repeat(32));
        let mut attributes = json!({
            "timestamp": format!("{:#x}", self.timestamp),
            "prevRandao": zero,
            "suggestedFeeRecipient": format!("0x{}", "00".repeat(20)),
            "withdrawals": [],
        });
        let [forkchoice, get, new] = if self.is_cancun {
            attributes["parentBeaconBlockRoot"] = zero.clone().into();
            [
                "engine_forkchoiceUpdatedV3",
                "engine_getPayloadV3",
                "engine_newPayloadV3",
            ]
        } else {
            [
                "engine_forkchoiceUpdatedV2",
                "engine_getPayloadV2",
                "engine_newPayloadV2",
            ]
        };
        let state = choice(&head);
        let Some(started) = call(&self.engine, forkchoice, json!([state, attributes])).await else {
            return;
        };
        let id = started["payloadId"].clone();
        let Some(built) = call(&self.engine, get, json!([id])).await else {
            return;
        };
        let payload = built["executionPayload"].clone();
        let hash = payload["blockHash"].clone();
        call(&self.engine, new, self.params_of(payload.clone())).await;
        call(&self.engine, forkchoice, json!([choice(&hash), null])).await;
        self.built = Some(payload);
    }

    fn params_of(&self, payload: Value) -> Value {
        if self.is_cancun {
            json!([payload, [], format!("0x{}", "00".repeat(32))])
        } else {
            json!([payload])
        }
    }

    /// A payload as the client understands it; `None` when it is malformed.
    fn content(&self, payload: &Value) -> Option<ExecutionPayload> {
        let payload = payload.clone();
        if self.is_cancun {
            serde_json::from_value(payload)
                .ok()
                .map(ExecutionPayload::V3)
        } else {
            serde_json::from_value(payload)
                .ok()
                .map(ExecutionPayload::V2)
        }
    }

    /// The last payload with one field of another value: the hash shows that it is not the same.
    async fn damaged_payload(&mut self, choices: &mut Choices<'_>) {
        let Some(Value::Object(mut payload)) = self.built.clone() else {
            return;
        };
        let names: Vec<String> = payload.keys().cloned().collect();
        let Some(name) = choices.pick(&names).cloned() else {
            return;
        };
        let before = self.content(&Value::Object(payload.clone()));
        payload.insert(name, choices.json());
        // Another text of the same value is no damage.
        let is_same = self.content(&Value::Object(payload.clone())) == before;
        let method = if self.is_cancun {
            "engine_newPayloadV3"
        } else {
            "engine_newPayloadV2"
        };
        let params = self.params_of(Value::Object(payload));
        let answer = call(&self.engine, method, params).await;
        let is_valid = answer.is_some_and(|answer| answer["status"] == "VALID");
        assert!(
            is_same || !is_valid,
            "a payload with another content is valid"
        );
    }

    /// A block after everything, and the same id as before.
    async fn end(mut self) {
        let before = call(&self.public, "eth_blockNumber", json!([])).await;
        self.next_block().await;
        let after = call(&self.public, "eth_blockNumber", json!([])).await;
        assert!(before.is_some() && after.is_some(), "no block number");
        assert!(!self.server.has_failed(), "the store cannot be written");
        let id = call(&self.public, "eth_chainId", json!([])).await;
        assert_eq!(id, Some(format!("{CHAIN_ID:#x}").into()));
        self.server.stop().await;
    }
}

/// A fork choice with only a head.
fn choice(head: &Value) -> Value {
    let zero = format!("0x{}", "00".repeat(32));
    json!({ "headBlockHash": head, "safeBlockHash": zero, "finalizedBlockHash": zero })
}

/// The result; `None` when the call is refused.
///
/// # Panics
/// The server does not answer, or with something else than JSON-RPC.
async fn call(client: &HttpClient, method: &str, params: Value) -> Option<Value> {
    match client.call::<Value>(method, params).await {
        Ok(value) => Some(value),
        Err(CallError::Rpc { .. }) => None,
        Err(error) => panic!("{method}: {error}"),
    }
}
