//! The embedded client as a consensus node and a wallet see it: over HTTP, both modes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip4895::Withdrawal;
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, b256, keccak256};
use alloy_rpc_types_engine::{
    ExecutionPayload, ForkchoiceState, PayloadAttributes, PayloadId, PayloadStatusEnum,
};
use alys_runtime::block_on_main;
use alys_storage::{MemoryStore, Store};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

use super::*;
use crate::embedded::execution::CoreConfig;
use crate::execution::{BlockTag, ExecutionClient, ExecutionError, HttpEngine, PayloadFork};
use crate::http::{CallError, ClientConfig, HttpClient, JwtSecret, RpcError};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const CHAIN_ID: u64 = 1337;
/// The account of [`key`].
const SENDER: Address = address!("f39fd6e51aad88f6f4ce6ab8827279cfffb92266");
const RECIPIENT: Address = address!("00000000000000000000000000000000000000aa");
const FEE_RECIPIENT: Address = address!("00000000000000000000000000000000000000fe");
/// What [`deployment`] logs.
const TOPIC: B256 = B256::with_last_byte(7);
const ETHER: u128 = 1_000_000_000_000_000_000;

/// The first account of every development chain.
fn key() -> SigningKey {
    let key = b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
    SigningKey::from_slice(key.as_slice()).unwrap()
}

fn secret() -> JwtSecret {
    JwtSecret::new([3; 32])
}

fn genesis(fork: PayloadFork) -> Genesis {
    let mut genesis = json!({
        "config": {
            "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
            "berlinBlock": 0, "londonBlock": 0, "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": true, "shanghaiTime": 0,
        },
        "difficulty": "0x0", "gasLimit": "0x1c9c380", "nonce": "0x0", "timestamp": "0x0",
        "alloc": { SENDER.to_string(): { "balance": "0x21e19e0c9bab2400000" } },
    });
    if fork == PayloadFork::Deneb {
        genesis["config"]["cancunTime"] = 0.into();
    }
    serde_json::from_value(genesis).unwrap()
}

/// Creates a contract that, called without data, stores 42 in slot 0, logs it and returns it, and that reverts with
/// the first word of its data otherwise.
fn deployment() -> Bytes {
    let runtime = "36601a57602a600055602a600052600760206000a160206000f35b60003560005260206000fd";
    format!("0x6026600c60003960266000f3{runtime}")
        .parse()
        .unwrap()
}

fn transaction(nonce: u64, to: TxKind, value: u128, input: Bytes) -> (Bytes, B256) {
    with_tip(1_000_000_000, nonce, to, value, input)
}

fn with_tip(tip: u128, nonce: u64, to: TxKind, value: u128, input: Bytes) -> (Bytes, B256) {
    let transaction = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: tip,
        to,
        value: U256::from(value),
        access_list: Default::default(),
        input,
    };
    let (signature, recovery) = key()
        .sign_prehash_recoverable(transaction.signature_hash().as_slice())
        .unwrap();
    let signature = Signature::from((signature, recovery));
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    (envelope.encoded_2718().into(), *envelope.tx_hash())
}

/// A client, and what talks to it.
struct World {
    server: ExecutionServer,
    store: Store,
    fork: PayloadFork,
    engine: HttpEngine,
    rpc: HttpClient,
}

impl World {
    async fn new(fork: PayloadFork) -> Self {
        Self::on(Arc::new(MemoryStore::new()), fork).await
    }

    async fn on(store: Store, fork: PayloadFork) -> Self {
        let config = ExecutionServerConfig {
            http_addr: Some(LOCAL),
            engine_addr: LOCAL,
            jwt_secret: secret(),
            genesis: genesis(fork),
            store: store.clone(),
            core: CoreConfig::default(),
        };
        let server = ExecutionServer::start(config).await.unwrap();
        let engine = HttpEngine::new(server.engine_addr(), secret());
        let rpc = HttpClient::new(ClientConfig::new(server.http_addr().unwrap()));
        Self {
            server,
            store,
            fork,
            engine,
            rpc,
        }
    }

    async fn get(&self, method: &str, params: Value) -> Value {
        self.rpc.call(method, params).await.unwrap()
    }

    async fn refused(&self, method: &str, params: Value) -> RpcError {
        match self.rpc.call::<Value>(method, params).await {
            Err(CallError::Rpc { error, .. }) => error,
            other => panic!("{method}: {other:?}"),
        }
    }

    fn attributes(&self, timestamp: u64) -> PayloadAttributes {
        PayloadAttributes {
            timestamp,
            prev_randao: B256::with_last_byte(1),
            suggested_fee_recipient: FEE_RECIPIENT,
            withdrawals: Some(Vec::new()),
            parent_beacon_block_root: (self.fork == PayloadFork::Deneb)
                .then_some(B256::with_last_byte(2)),
            ..PayloadAttributes::default()
        }
    }

    async fn head(&self) -> crate::execution::BlockRef {
        self.engine
            .block_by_tag(BlockTag::Latest)
            .await
            .unwrap()
            .unwrap()
    }

    /// Builds on `parent` and makes the block known, not the head.
    async fn build(&self, parent: B256, attributes: PayloadAttributes) -> ExecutionPayload {
        let started = self
            .engine
            .forkchoice_updated(choice(parent), Some(attributes))
            .await
            .unwrap();
        assert!(started.is_valid(), "{started:?}");
        let built = self
            .engine
            .get_payload(self.fork, started.payload_id.unwrap())
            .await
            .unwrap();
        let root = B256::with_last_byte(2);
        let status = self
            .engine
            .new_payload(built.payload.clone(), root)
            .await
            .unwrap();
        assert_eq!(status.status, PayloadStatusEnum::Valid);
        assert_eq!(
            status.latest_valid_hash,
            Some(built.payload.as_v1().block_hash)
        );
        built.payload
    }

    /// One block on the head, made the head; gives its hash.
    async fn produce(&self) -> B256 {
        let head = self.head().await;
        let payload = self
            .build(head.hash, self.attributes(head.timestamp + 2))
            .await;
        let hash = payload.as_v1().block_hash;
        assert!(
            self.engine
                .forkchoice_updated(choice(hash), None)
                .await
                .unwrap()
                .is_valid()
        );
        hash
    }

    async fn send(&self, nonce: u64, to: TxKind, value: u128, input: Bytes) -> B256 {
        let (raw, hash) = transaction(nonce, to, value, input);
        assert_eq!(
            self.get("eth_sendRawTransaction", json!([raw])).await,
            json!(hash)
        );
        hash
    }

    /// A chain of two blocks: a transfer and a deployment, then a call of what was deployed. Gives the contract.
    async fn with_contract(&self) -> (Address, [B256; 3]) {
        let transfer = self
            .send(0, TxKind::Call(RECIPIENT), ETHER, Bytes::new())
            .await;
        let deploy = self.send(1, TxKind::Create, 0, deployment()).await;
        self.produce().await;
        let contract = SENDER.create(1);
        let call = self.send(2, TxKind::Call(contract), 0, Bytes::new()).await;
        self.produce().await;
        (contract, [transfer, deploy, call])
    }
}

fn choice(head: B256) -> ForkchoiceState {
    ForkchoiceState {
        head_block_hash: head,
        safe_block_hash: B256::ZERO,
        finalized_block_hash: B256::ZERO,
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("no object: {value}"))
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn a_node_drives_it_through_blocks_in_both_forks() {
    for fork in [PayloadFork::Capella, PayloadFork::Deneb] {
        block_on_main(async move {
            let world = World::new(fork).await;
            assert_eq!(world.engine.chain_id().await.unwrap(), CHAIN_ID);
            assert_eq!(
                world.engine.genesis_hash().await.unwrap(),
                world.server.genesis_hash()
            );
            assert!(
                world
                    .engine
                    .client_version()
                    .await
                    .unwrap()
                    .starts_with("Alys/v")
            );
            assert_eq!(
                world
                    .engine
                    .exchange_capabilities()
                    .await
                    .unwrap()
                    .missing(fork),
                [""; 0]
            );

            let hash = world
                .send(0, TxKind::Call(RECIPIENT), ETHER, Bytes::new())
                .await;
            let genesis = world.head().await;
            let withdrawal = Withdrawal {
                index: 0,
                validator_index: 1,
                address: RECIPIENT,
                amount: 1_000_000_000,
            };
            let attributes = PayloadAttributes {
                withdrawals: Some(vec![withdrawal]),
                ..world.attributes(100)
            };
            let payload = world.build(genesis.hash, attributes).await;
            assert_eq!(payload.as_v1().transactions.len(), 1);
            assert_eq!(PayloadFork::of_payload(&payload), Some(fork));
            let block = payload.as_v1().block_hash;

            // Known, but not yet the head.
            assert_eq!(
                world
                    .engine
                    .block_by_hash(block)
                    .await
                    .unwrap()
                    .unwrap()
                    .number,
                1
            );
            assert_eq!(world.get("eth_blockNumber", json!([])).await, json!("0x0"));
            assert_eq!(
                world.get("eth_getTransactionReceipt", json!([hash])).await,
                Value::Null
            );

            let state = ForkchoiceState {
                head_block_hash: block,
                safe_block_hash: block,
                finalized_block_hash: genesis.hash,
            };
            assert!(
                world
                    .engine
                    .forkchoice_updated(state, None)
                    .await
                    .unwrap()
                    .is_valid()
            );
            assert_eq!(world.head().await.hash, block);
            let at = async |tag| {
                world
                    .engine
                    .block_by_tag(tag)
                    .await
                    .unwrap()
                    .map(|block| block.hash)
            };
            assert_eq!(at(BlockTag::Safe).await, Some(block));
            assert_eq!(at(BlockTag::Finalized).await, Some(genesis.hash));
            assert_eq!(at(BlockTag::Number(2)).await, None);
            // One ether by transfer, one by withdrawal.
            let balance = world
                .get("eth_getBalance", json!([RECIPIENT, "latest"]))
                .await;
            assert_eq!(balance, json!(format!("{:#x}", 2 * ETHER)));
            assert_eq!(
                world.get("eth_getTransactionReceipt", json!([hash])).await["status"],
                "0x1"
            );

            // The same payload again, as after a reconnect.
            let again = world
                .engine
                .new_payload(payload, B256::with_last_byte(2))
                .await
                .unwrap();
            assert!(again.is_valid());
            assert_ne!(world.produce().await, block);
            assert_eq!(world.get("eth_blockNumber", json!([])).await, json!("0x2"));
        });
    }
}

#[test]
fn a_chain_is_still_there_after_a_restart() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        world.with_contract().await;
        let head = world.head().await;
        let (engine, store) = (world.engine.clone(), world.store.clone());
        world.server.stop().await;
        assert!(engine.chain_id().await.unwrap_err().is_retryable());

        let world = World::on(store, PayloadFork::Deneb).await;
        assert_eq!(world.head().await, head);
        assert_eq!(
            world
                .get("eth_getTransactionCount", json!([SENDER, "latest"]))
                .await,
            json!("0x3")
        );
        world.produce().await;
    });
}

#[test]
fn the_engine_port_wants_the_secret_and_the_public_port_has_no_engine() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        let stranger = HttpEngine::new(world.server.engine_addr(), JwtSecret::new([4; 32]));
        let error = stranger.chain_id().await.unwrap_err();
        assert!(matches!(error, ExecutionError::Auth { .. }), "{error}");
        let error = world
            .refused("engine_exchangeCapabilities", json!([[]]))
            .await;
        assert_eq!(error.code, RpcError::METHOD_NOT_FOUND);
    });
}

#[test]
fn the_engine_api_refuses_with_the_codes_of_its_specification() {
    block_on_main(async {
        for fork in [PayloadFork::Capella, PayloadFork::Deneb] {
            let world = World::new(fork).await;
            let config = ClientConfig {
                auth: Some(secret()),
                ..ClientConfig::new(world.server.engine_addr())
            };
            let engine = HttpClient::new(config);
            let code = async |method: &str, params: Value| match engine
                .call::<Value>(method, params)
                .await
            {
                Ok(_) => 0,
                Err(CallError::Rpc { error, .. }) => error.code,
                Err(other) => panic!("{other}"),
            };
            let genesis = world.server.genesis_hash();
            let deneb = fork == PayloadFork::Deneb;
            let of = |capella: i64, in_deneb: i64| if deneb { in_deneb } else { capella };
            let attributes = |withdrawals: bool, root: bool| {
                let mut attributes = json!({
                    "timestamp": "0x64", "prevRandao": B256::ZERO, "suggestedFeeRecipient": FEE_RECIPIENT,
                });
                if withdrawals {
                    attributes["withdrawals"] = json!([]);
                }
                if root {
                    attributes["parentBeaconBlockRoot"] = json!(B256::ZERO);
                }
                attributes
            };
            let updated = async |version: u8, attributes: Value| {
                code(
                    &format!("engine_forkchoiceUpdatedV{version}"),
                    json!([choice(genesis), attributes]),
                )
                .await
            };
            for version in 1..=3 {
                assert_eq!(updated(version, Value::Null).await, 0, "V{version}");
            }
            assert_eq!(updated(1, attributes(false, false)).await, -38005);
            assert_eq!(updated(1, attributes(true, false)).await, -38003);
            assert_eq!(
                updated(2, attributes(false, false)).await,
                of(-38003, -38005)
            );
            assert_eq!(updated(2, attributes(true, true)).await, -38003);
            assert_eq!(updated(2, attributes(true, false)).await, of(0, -38005));
            assert_eq!(updated(3, attributes(true, false)).await, -38003);
            assert_eq!(updated(3, attributes(false, true)).await, -38003);
            assert_eq!(updated(3, attributes(true, true)).await, of(-38005, 0));
            let stale = PayloadAttributes {
                timestamp: 0,
                ..world.attributes(0)
            };
            let version = of(2, 3);
            let method = format!("engine_forkchoiceUpdatedV{version}");
            assert_eq!(code(&method, json!([choice(genesis), stale])).await, -38003);
            let unknown_safe = ForkchoiceState {
                safe_block_hash: B256::repeat_byte(9),
                ..choice(genesis)
            };
            assert_eq!(code(&method, json!([unknown_safe, null])).await, -38002);
            assert_eq!(code(&method, json!([])).await, -32602);
            assert_eq!(code(&method, json!([choice(genesis), {}])).await, -32602);
            let syncing = world
                .engine
                .forkchoice_updated(choice(B256::repeat_byte(8)), None)
                .await
                .unwrap();
            assert!(syncing.is_syncing() && syncing.payload_id.is_none());

            assert_eq!(
                code("engine_getPayloadV3", json!(["0x0000000000000009"])).await,
                -38001
            );
            let error = world
                .engine
                .get_payload(fork, PayloadId::new([7; 8]))
                .await
                .unwrap_err();
            assert!(
                matches!(error, ExecutionError::UnknownPayload { .. }),
                "{error}"
            );
            let started = world
                .engine
                .forkchoice_updated(choice(genesis), Some(world.attributes(100)))
                .await
                .unwrap();
            let id = json!([started.payload_id]);
            assert_eq!(code("engine_getPayloadV1", id.clone()).await, -38005);
            assert_eq!(code("engine_getPayloadV2", id.clone()).await, of(0, -38005));
            assert_eq!(code("engine_getPayloadV3", id.clone()).await, of(-38005, 0));

            let built: Value = engine
                .call(&format!("engine_getPayloadV{version}"), &id)
                .await
                .unwrap();
            let payload = &built["executionPayload"];
            let with_root = json!([payload, [], B256::with_last_byte(2)]);
            assert_eq!(
                code("engine_newPayloadV2", json!([payload])).await,
                of(0, -32602)
            );
            assert_eq!(code("engine_newPayloadV3", with_root).await, of(-32602, 0));
            assert_eq!(code("engine_newPayloadV3", json!([payload])).await, -32602);
            assert_eq!(code("engine_newPayloadV1", json!([payload])).await, -38005);
            let mut plain = payload.clone();
            plain
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !key.contains("lob"));
            assert_eq!(
                code("engine_newPayloadV2", json!([plain])).await,
                of(0, -38005)
            );
            plain.as_object_mut().unwrap().remove("withdrawals");
            assert_eq!(
                code("engine_newPayloadV2", json!([plain])).await,
                of(-32602, -38005)
            );
            assert_eq!(code("engine_newPayloadV9", json!([payload])).await, -32601);

            let too_many = vec![B256::ZERO; 1000];
            assert_eq!(
                code("engine_getPayloadBodiesByHashV1", json!([too_many])).await,
                -38004
            );
            assert_eq!(
                code("engine_getPayloadBodiesByRangeV1", json!(["0x1", "0xffff"])).await,
                -38004
            );
            assert_eq!(
                code("engine_getPayloadBodiesByRangeV1", json!(["0x0", "0x1"])).await,
                -32602
            );
            let version: Value = engine
                .call("engine_getClientVersionV1", json!([{}]))
                .await
                .unwrap();
            assert_eq!(version[0]["code"], "AL");
        }
    });
}

fn null() -> Value {
    Value::Null
}

#[test]
fn wrong_payloads_are_invalid_and_unknown_parents_are_not_valid() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        let genesis = world.server.genesis_hash();
        let good = world.build(genesis, world.attributes(100)).await;
        let root = B256::with_last_byte(2);
        let ExecutionPayload::V3(good) = good else {
            panic!("not Deneb")
        };

        let mut wrong_hash = good.clone();
        wrong_hash.payload_inner.payload_inner.gas_limit += 1;
        let status = world
            .engine
            .new_payload(ExecutionPayload::V3(wrong_hash), root)
            .await
            .unwrap();
        assert!(status.is_invalid(), "{status:?}");
        // The root belongs to the hash.
        let status = world
            .engine
            .new_payload(ExecutionPayload::V3(good.clone()), B256::ZERO)
            .await
            .unwrap();
        assert!(status.is_invalid(), "{status:?}");

        // A client that missed the first block.
        let late = World::new(PayloadFork::Deneb).await;
        let first = good.payload_inner.payload_inner.block_hash;
        let second = world.build(first, world.attributes(102)).await;
        let status = late.engine.new_payload(second.clone(), root).await.unwrap();
        assert!(
            matches!(
                status.status,
                PayloadStatusEnum::Syncing | PayloadStatusEnum::Accepted
            ),
            "{status:?}"
        );
        assert!(
            late.engine
                .new_payload(ExecutionPayload::V3(good), root)
                .await
                .unwrap()
                .is_valid()
        );
        assert!(
            late.engine
                .new_payload(second.clone(), root)
                .await
                .unwrap()
                .is_valid()
        );
        let head = choice(second.as_v1().block_hash);
        assert!(
            late.engine
                .forkchoice_updated(head, None)
                .await
                .unwrap()
                .is_valid()
        );
        assert_eq!(late.head().await.number, 2);
    });
}

#[test]
fn blocks_transactions_and_receipts_have_geths_shape() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        let (contract, [transfer, deploy, call]) = world.with_contract().await;

        let block = world
            .get("eth_getBlockByNumber", json!(["0x1", false]))
            .await;
        let block_keys = BTreeSet::from([
            "baseFeePerGas",
            "blobGasUsed",
            "difficulty",
            "excessBlobGas",
            "extraData",
            "gasLimit",
            "gasUsed",
            "hash",
            "logsBloom",
            "miner",
            "mixHash",
            "nonce",
            "number",
            "parentBeaconBlockRoot",
            "parentHash",
            "receiptsRoot",
            "sha3Uncles",
            "size",
            "stateRoot",
            "timestamp",
            "transactions",
            "transactionsRoot",
            "uncles",
            "withdrawals",
            "withdrawalsRoot",
        ]);
        assert_eq!(
            keys(&block).difference(&block_keys).collect::<Vec<_>>(),
            [&""; 0]
        );
        assert_eq!(
            block_keys.difference(&keys(&block)).collect::<Vec<_>>(),
            [&""; 0]
        );
        assert_eq!(block["number"], "0x1");
        assert_eq!(block["nonce"], "0x0000000000000000");
        assert_eq!(block["difficulty"], "0x0");
        assert_eq!(block["uncles"], json!([]));
        assert_eq!(block["miner"], json!(FEE_RECIPIENT));
        assert_eq!(block["transactions"], json!([transfer, deploy]));
        let full = world
            .get("eth_getBlockByHash", json!([block["hash"], true]))
            .await;
        assert_eq!(full["transactions"][1]["hash"], json!(deploy));
        assert_eq!(full["hash"], block["hash"]);
        for (method, params) in [
            ("eth_getBlockByNumber", json!(["0x99", true])),
            ("eth_getBlockByHash", json!([B256::ZERO, true])),
            ("eth_getTransactionByHash", json!([B256::ZERO])),
            ("eth_getTransactionReceipt", json!([B256::ZERO])),
            ("eth_getBlockTransactionCountByNumber", json!(["0x99"])),
            (
                "eth_getTransactionByBlockNumberAndIndex",
                json!(["0x1", "0x7"]),
            ),
            ("eth_getBlockReceipts", json!(["0x99"])),
        ] {
            assert_eq!(world.get(method, params).await, Value::Null, "{method}");
        }
        assert_eq!(
            world
                .get("eth_getBlockTransactionCountByNumber", json!(["0x1"]))
                .await,
            json!("0x2")
        );
        assert_eq!(
            world
                .get("eth_getBlockTransactionCountByHash", json!([block["hash"]]))
                .await,
            json!("0x2")
        );
        assert_eq!(
            world
                .get("eth_getUncleCountByBlockNumber", json!(["0x1"]))
                .await,
            json!("0x0")
        );

        let shown = world
            .get("eth_getTransactionByHash", json!([transfer]))
            .await;
        let transaction_keys = BTreeSet::from([
            "accessList",
            "blockHash",
            "blockNumber",
            "chainId",
            "from",
            "gas",
            "gasPrice",
            "hash",
            "input",
            "maxFeePerGas",
            "maxPriorityFeePerGas",
            "nonce",
            "r",
            "s",
            "to",
            "transactionIndex",
            "type",
            "v",
            "value",
            "yParity",
        ]);
        let mut shown_keys = keys(&shown);
        // Newer Geth has it, too.
        shown_keys.remove("blockTimestamp");
        assert_eq!(shown_keys, transaction_keys);
        assert_eq!(shown["from"], json!(SENDER));
        assert_eq!(shown["value"], json!(format!("{ETHER:#x}")));
        assert_eq!(
            (&shown["type"], &shown["nonce"]),
            (&json!("0x2"), &json!("0x0"))
        );
        assert_eq!(
            (&shown["blockNumber"], &shown["transactionIndex"]),
            (&json!("0x1"), &json!("0x0"))
        );
        for (method, params) in [
            (
                "eth_getTransactionByBlockNumberAndIndex",
                json!(["0x1", "0x0"]),
            ),
            (
                "eth_getTransactionByBlockHashAndIndex",
                json!([block["hash"], "0x0"]),
            ),
        ] {
            assert_eq!(world.get(method, params).await, shown, "{method}");
        }

        let receipt = world
            .get("eth_getTransactionReceipt", json!([deploy]))
            .await;
        let receipt_keys = BTreeSet::from([
            "blockHash",
            "blockNumber",
            "contractAddress",
            "cumulativeGasUsed",
            "effectiveGasPrice",
            "from",
            "gasUsed",
            "logs",
            "logsBloom",
            "status",
            "to",
            "transactionHash",
            "transactionIndex",
            "type",
        ]);
        assert_eq!(keys(&receipt), receipt_keys);
        assert_eq!(receipt["contractAddress"], json!(contract));
        assert_eq!(
            (&receipt["to"], &receipt["status"], &receipt["type"]),
            (&null(), &json!("0x1"), &json!("0x2"))
        );
        let receipt = world.get("eth_getTransactionReceipt", json!([call])).await;
        assert_eq!(receipt["contractAddress"], null());
        let mut log = receipt["logs"][0].clone();
        // Newer Geth has it, too.
        log.as_object_mut().unwrap().remove("blockTimestamp");
        let expected = json!({
            "address": contract, "topics": [TOPIC], "data": B256::with_last_byte(42), "blockHash": receipt["blockHash"],
            "blockNumber": "0x2", "transactionHash": call, "transactionIndex": "0x0", "logIndex": "0x0",
            "removed": false,
        });
        assert_eq!(log, expected);
        assert_eq!(
            world.get("eth_getBlockReceipts", json!(["0x2"])).await,
            json!([receipt])
        );
        let filter = json!({ "fromBlock": "0x0", "toBlock": "latest", "address": contract, "topics": [TOPIC] });
        assert_eq!(
            world.get("eth_getLogs", json!([filter])).await,
            receipt["logs"]
        );
        let none = json!({ "fromBlock": "0x0", "toBlock": "latest", "topics": [B256::ZERO] });
        assert_eq!(world.get("eth_getLogs", json!([none])).await, json!([]));
    });
}

#[test]
fn state_is_read_and_called_as_wallets_do() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        let (contract, _) = world.with_contract().await;
        let storage = B256::with_last_byte(42);
        for (method, params, expected) in [
            ("eth_chainId", json!([]), json!("0x539")),
            ("eth_blockNumber", json!([]), json!("0x2")),
            ("eth_syncing", json!([]), json!(false)),
            ("eth_accounts", json!([]), json!([])),
            ("net_version", json!([]), json!("1337")),
            ("net_listening", json!([]), json!(true)),
            ("net_peerCount", json!([]), json!("0x0")),
            (
                "web3_sha3",
                json!(["0x68656c6c6f"]),
                json!(keccak256("hello")),
            ),
            ("eth_getBalance", json!([RECIPIENT, "0x0"]), json!("0x0")),
            (
                "eth_getBalance",
                json!([RECIPIENT]),
                json!("0xde0b6b3a7640000"),
            ),
            (
                "eth_getTransactionCount",
                json!([SENDER, "latest"]),
                json!("0x3"),
            ),
            (
                "eth_getTransactionCount",
                json!([SENDER, "0x1"]),
                json!("0x2"),
            ),
            ("eth_getCode", json!([RECIPIENT, "latest"]), json!("0x")),
            (
                "eth_getStorageAt",
                json!([contract, "0x0", "latest"]),
                json!(storage),
            ),
            (
                "eth_getStorageAt",
                json!([contract, B256::ZERO, "0x1"]),
                json!(B256::ZERO),
            ),
            (
                "eth_call",
                json!([{ "to": contract }, "latest"]),
                json!(storage),
            ),
            (
                "eth_call",
                json!([{ "to": contract, "from": SENDER, "data": "0x" }]),
                json!(storage),
            ),
            (
                "eth_call",
                json!([{ "to": contract }, { "blockNumber": "0x1" }]),
                json!(storage),
            ),
            (
                "eth_estimateGas",
                json!([{ "to": RECIPIENT, "from": SENDER, "value": "0x1" }]),
                json!("0x5208"),
            ),
        ] {
            assert_eq!(
                world.get(method, params.clone()).await,
                expected,
                "{method} {params}"
            );
        }
        let code = world.get("eth_getCode", json!([contract, "latest"])).await;
        assert!(
            deployment()
                .to_string()
                .ends_with(&code.as_str().unwrap()[2..]),
            "{code}"
        );

        let error = world
            .refused(
                "eth_call",
                json!([{ "to": contract, "input": B256::repeat_byte(7) }]),
            )
            .await;
        assert_eq!(
            (error.code, error.data),
            (3, Some(json!(B256::repeat_byte(7))))
        );
        assert!(
            error.message.starts_with("execution reverted"),
            "{}",
            error.message
        );
        let error = world
            .refused(
                "eth_estimateGas",
                json!([{ "to": contract, "data": "0x01" }]),
            )
            .await;
        assert_eq!(error.code, 3);
        let error = world
            .refused("eth_getBalance", json!([RECIPIENT, "0x99"]))
            .await;
        assert_eq!(error, RpcError::server("header not found"));
        let overrides =
            json!([{ "to": contract }, "latest", { contract.to_string(): { "balance": "0x1" } }]);
        assert_eq!(
            world.refused("eth_call", overrides).await.code,
            RpcError::INVALID_PARAMS
        );
        for (method, params) in [
            ("eth_getBalance", json!([])),
            ("eth_getBalance", json!(["0x12"])),
            ("eth_getBalance", json!([RECIPIENT, "newest"])),
            ("eth_getBalance", json!({ "address": RECIPIENT })),
            ("eth_chainId", json!({})),
        ] {
            if method == "eth_chainId" {
                // Parameters of a method without any are passed over, as everywhere.
                assert_eq!(world.get(method, params).await, json!("0x539"));
                continue;
            }
            let error = world.refused(method, params.clone()).await;
            assert_eq!(
                error.code,
                RpcError::INVALID_PARAMS,
                "{method} {params}: {error}"
            );
        }
        for method in [
            "eth_sign",
            "personal_listAccounts",
            "debug_traceCall",
            "nothing",
        ] {
            assert_eq!(
                world.refused(method, json!([])).await.code,
                RpcError::METHOD_NOT_FOUND,
                "{method}"
            );
        }

        let proof = world
            .get("eth_getProof", json!([contract, ["0x0"], "latest"]))
            .await;
        let expected = [
            "accountProof",
            "address",
            "balance",
            "codeHash",
            "nonce",
            "storageHash",
            "storageProof",
        ];
        assert_eq!(keys(&proof), BTreeSet::from(expected));
        assert_eq!(proof["storageProof"][0]["value"], "0x2a");
        let block = world
            .get("eth_getBlockByNumber", json!(["latest", false]))
            .await;
        let node: Bytes = serde_json::from_value(proof["accountProof"][0].clone()).unwrap();
        assert_eq!(json!(keccak256(&node)), block["stateRoot"]);

        let history = world
            .get("eth_feeHistory", json!(["0x2", "latest", [50.0]]))
            .await;
        assert_eq!(history["oldestBlock"], "0x1");
        assert_eq!(history["baseFeePerGas"].as_array().map(Vec::len), Some(3));
        assert_eq!(history["gasUsedRatio"].as_array().map(Vec::len), Some(2));
        assert_eq!(history["reward"][0], json!(["0x3b9aca00"]));
        for method in ["eth_gasPrice", "eth_maxPriorityFeePerGas"] {
            let price = world.get(method, json!([])).await;
            assert!(
                price.as_str().unwrap().starts_with("0x"),
                "{method}: {price}"
            );
        }
    });
}

#[test]
fn the_price_a_wallet_is_told_is_good_for_an_estimate_while_fees_fall() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        for nonce in 0..4 {
            // The tips of late blocks make the price: with a large one there would be room enough.
            let (raw, _) = with_tip(1, nonce, TxKind::Call(RECIPIENT), 1, Bytes::new());
            world.get("eth_sendRawTransaction", json!([raw])).await;
            world.produce().await;
            let price = world.get("eth_gasPrice", json!([])).await;
            let request =
                json!({ "from": SENDER, "to": RECIPIENT, "value": "0x1", "gasPrice": price });
            assert_eq!(
                world.get("eth_estimateGas", json!([request])).await,
                json!("0x5208")
            );
        }
    });
}

#[test]
fn the_pool_is_shown_and_refuses_in_geths_words() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        let first = world
            .send(0, TxKind::Call(RECIPIENT), 1, Bytes::new())
            .await;
        let third = world
            .send(2, TxKind::Call(RECIPIENT), 1, Bytes::new())
            .await;
        let status = world.get("txpool_status", json!([])).await;
        assert_eq!(status, json!({ "pending": "0x1", "queued": "0x1" }));
        let content = world.get("txpool_content", json!([])).await;
        let sender = SENDER.to_string();
        assert_eq!(content["pending"][&sender]["0"]["hash"], json!(first));
        assert_eq!(content["pending"][&sender]["0"]["blockHash"], null());
        assert_eq!(content["queued"][&sender]["2"]["hash"], json!(third));
        let of_sender = world.get("txpool_contentFrom", json!([SENDER])).await;
        assert_eq!(of_sender["pending"], content["pending"][&sender]);
        let inspected = world.get("txpool_inspect", json!([])).await;
        assert_eq!(
            inspected["pending"][&sender]["0"],
            json!(format!("{RECIPIENT}: 1 wei + 200000 gas × 10000000000 wei"))
        );
        assert_eq!(
            world
                .get("eth_getTransactionCount", json!([SENDER, "pending"]))
                .await,
            json!("0x1")
        );
        assert_eq!(
            world
                .get("eth_getTransactionCount", json!([SENDER, "latest"]))
                .await,
            json!("0x0")
        );
        assert_eq!(
            world.get("eth_getTransactionByHash", json!([first])).await["blockHash"],
            null()
        );

        let (raw, _) = transaction(0, TxKind::Call(RECIPIENT), 1, Bytes::new());
        assert_eq!(
            world.refused("eth_sendRawTransaction", json!([raw])).await,
            RpcError::server("already known")
        );
        world.produce().await;
        let (raw, _) = transaction(0, TxKind::Call(RECIPIENT), 2, Bytes::new());
        let error = world.refused("eth_sendRawTransaction", json!([raw])).await;
        assert_eq!(
            (error.code, error.message.starts_with("nonce too low")),
            (-32000, true),
            "{error}"
        );
        let error = world
            .refused("eth_sendRawTransaction", json!(["0x02c0"]))
            .await;
        assert_eq!(error.code, -32000);
        let (raw, _) = transaction(1, TxKind::Call(RECIPIENT), 1_000_000 * ETHER, Bytes::new());
        let error = world.refused("eth_sendRawTransaction", json!([raw])).await;
        assert!(
            error
                .message
                .starts_with("insufficient funds for gas * price + value"),
            "{error}"
        );
    });
}

#[test]
fn filters_tell_everything_once_and_follow_a_reorganisation() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        let (contract, _) = world.with_contract().await;
        let blocks = world.get("eth_newBlockFilter", json!([])).await;
        let logs = world
            .get("eth_newFilter", json!([{ "address": contract }]))
            .await;
        let changes = async |id: &Value| world.get("eth_getFilterChanges", json!([id])).await;
        assert_eq!(
            (changes(&blocks).await, changes(&logs).await),
            (json!([]), json!([]))
        );

        let parent = world.head().await;
        let call = world.send(3, TxKind::Call(contract), 0, Bytes::new()).await;
        let old = world.produce().await;
        assert_eq!(changes(&blocks).await, json!([old]));
        assert_eq!(changes(&blocks).await, json!([]));
        let told = changes(&logs).await;
        assert_eq!(
            (&told[0]["transactionHash"], &told[0]["removed"]),
            (&json!(call), &json!(false))
        );
        assert_eq!(changes(&logs).await, json!([]));

        // Another block takes the place of the last one.
        let other = world
            .build(parent.hash, world.attributes(parent.timestamp + 10))
            .await;
        let new = other.as_v1().block_hash;
        assert!(
            world
                .engine
                .forkchoice_updated(choice(new), None)
                .await
                .unwrap()
                .is_valid()
        );
        assert_eq!(world.head().await.hash, new);
        assert_eq!(changes(&blocks).await, json!([new]));
        let told = changes(&logs).await;
        assert_eq!(
            (&told[0]["blockHash"], &told[0]["removed"]),
            (&json!(old), &json!(true))
        );
        // The call was in the pool again and went into the new block.
        assert_eq!(
            (&told[1]["blockHash"], &told[1]["removed"]),
            (&json!(new), &json!(false))
        );
        assert_eq!(told[1]["transactionHash"], json!(call));
        assert_eq!(told.as_array().map(Vec::len), Some(2));

        let all = world
            .get(
                "eth_newFilter",
                json!([{ "fromBlock": "0x0", "address": contract }]),
            )
            .await;
        let found = world.get("eth_getFilterLogs", json!([all])).await;
        assert_eq!(found[0]["blockNumber"], "0x2");
        assert_eq!(
            world.get("eth_uninstallFilter", json!([blocks])).await,
            json!(true)
        );
        assert_eq!(
            world.get("eth_uninstallFilter", json!([blocks])).await,
            json!(false)
        );
        for method in ["eth_getFilterChanges", "eth_getFilterLogs"] {
            assert_eq!(
                world.refused(method, json!([blocks])).await,
                RpcError::server("filter not found")
            );
        }
        // The one not asked for the longest makes room.
        for _ in 0..1000 {
            world.get("eth_newBlockFilter", json!([])).await;
        }
        assert_eq!(
            world
                .refused("eth_getFilterChanges", json!([logs]))
                .await
                .message,
            "filter not found"
        );
    });
}

#[test]
fn whatever_the_parameters_every_method_answers() {
    let methods = "engine_exchangeCapabilities engine_forkchoiceUpdatedV1 engine_forkchoiceUpdatedV2 \
        engine_forkchoiceUpdatedV3 engine_getPayloadV1 engine_getPayloadV2 engine_getPayloadV3 engine_newPayloadV1 \
        engine_newPayloadV2 engine_newPayloadV3 engine_getPayloadBodiesByHashV1 engine_getPayloadBodiesByRangeV1 \
        eth_chainId eth_blockNumber eth_getBlockByNumber eth_getBlockByHash eth_getBlockTransactionCountByHash \
        eth_getBlockTransactionCountByNumber eth_getTransactionByHash eth_getTransactionByBlockHashAndIndex \
        eth_getTransactionByBlockNumberAndIndex eth_getTransactionReceipt eth_getBlockReceipts eth_getBalance \
        eth_getTransactionCount eth_getCode eth_getStorageAt eth_getProof eth_call eth_estimateGas eth_gasPrice \
        eth_feeHistory eth_sendRawTransaction eth_getLogs eth_newFilter eth_newBlockFilter eth_getFilterChanges \
        eth_getFilterLogs eth_uninstallFilter eth_syncing web3_sha3 net_version txpool_content txpool_contentFrom";
    let huge = format!("0x{}", "f".repeat(64));
    let address = SENDER.to_string();
    let max = "0xffffffffffffffff";
    let parameters = [
        json!([]),
        json!({}),
        json!([null, null, null, null]),
        json!([[], [], []]),
        json!([{}, {}, {}, {}]),
        json!([-1, 1e300, true]),
        json!([huge, huge, huge]),
        json!([max, max, max]),
        json!([max, "latest", [0.0, 100.0]]),
        json!([max, "earliest", [-1.0]]),
        json!(["0x1", "0x1", "0x1"]),
        json!(["0x", "0x", "0x"]),
        json!(["", "", ""]),
        json!([address, huge, huge]),
        json!([address, max, max]),
        json!([address, [huge, "0x0"], "pending"]),
        json!([address, "pending"]),
        json!([{ "to": address, "gas": max, "gasPrice": huge, "value": huge, "nonce": max }, "latest"]),
        json!([{ "data": format!("0x{}", "5b".repeat(100_000)), "gas": max }, "latest"]),
        json!([{ "from": address, "accessList": [{ "address": address, "storageKeys": [huge] }] }]),
        json!([{ "blobVersionedHashes": [huge], "maxFeePerBlobGas": max, "to": address }]),
        json!([{ "fromBlock": max, "toBlock": "0x0" }]),
        json!([{ "fromBlock": "0x0", "toBlock": max, "topics": [null, [], [huge]] }]),
        json!([{ "blockHash": huge, "fromBlock": "0x0" }]),
        json!([{ "headBlockHash": huge, "safeBlockHash": huge, "finalizedBlockHash": huge }, {}]),
        json!([choice(B256::ZERO), null]),
    ];
    block_on_main(async move {
        let world = World::new(PayloadFork::Deneb).await;
        world.with_contract().await;
        let auth = Some(secret());
        let engine = HttpClient::new(ClientConfig {
            auth,
            ..ClientConfig::new(world.server.engine_addr())
        });
        for method in methods.split_whitespace() {
            for params in &parameters {
                match engine.call::<Value>(method, params).await {
                    Ok(_) => {}
                    // An internal error would be a fault of its own.
                    Err(CallError::Rpc { error, .. }) if error.code != RpcError::INTERNAL => {}
                    other => panic!("{method} {params}: {other:?}"),
                }
            }
        }
        assert!(!world.server.has_failed());
        world.produce().await;
    });
}

#[test]
fn a_start_on_a_used_port_or_another_chain_is_a_clear_error() {
    block_on_main(async {
        let world = World::new(PayloadFork::Deneb).await;
        let config = |engine_addr, store, fork| ExecutionServerConfig {
            http_addr: None,
            engine_addr,
            jwt_secret: secret(),
            genesis: genesis(fork),
            store,
            core: CoreConfig::default(),
        };
        let taken = world.server.engine_addr();
        let error = ExecutionServer::start(config(
            taken,
            Arc::new(MemoryStore::new()),
            PayloadFork::Deneb,
        ))
        .await;
        let error = error.err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {taken} for engine")),
            "{error}"
        );
        let error =
            ExecutionServer::start(config(LOCAL, world.store.clone(), PayloadFork::Capella)).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains("database has genesis"), "{error}");
    });
}
