//! The embedded client over HTTP, as consensus nodes and wallets use it, in both worlds.

mod engine;
mod eth;
mod filters;
mod locks;
mod ports;
mod txpool;

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
/// The topic that [`deployment`] logs.
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

pub(super) fn genesis(fork: PayloadFork) -> Genesis {
    let mut genesis = json!({
        "config": {
            "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
            "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "terminalTotalDifficulty": 0,
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

/// Init code of a contract. A call without data stores 42 in slot 0, logs and returns it; a call
/// with data reverts with the first word of the data.
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
    with_fees(10_000_000_000, tip, nonce, to, value, input)
}

fn with_fees(
    cap: u128,
    tip: u128,
    nonce: u64,
    to: TxKind,
    value: u128,
    input: Bytes,
) -> (Bytes, B256) {
    let transaction = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: cap,
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

/// A client with connections to its ports.
struct TestClient {
    server: ExecutionServer,
    store: Store,
    fork: PayloadFork,
    engine: HttpEngine,
    rpc: HttpClient,
}

impl TestClient {
    async fn new(fork: PayloadFork) -> Self {
        Self::on(Arc::new(MemoryStore::new()), fork).await
    }

    async fn on(store: Store, fork: PayloadFork) -> Self {
        let config = ExecutionServerConfig {
            http_addr: Some(LOCAL),
            engine_addr: LOCAL,
            jwt_secret: secret(),
            genesis: genesis(fork),
            access: Default::default(),
            store: store.clone(),
            core: CoreConfig::default(),
            limits: Default::default(),
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

    async fn head(&self) -> crate::execution::ExecutionBlock {
        self.engine
            .block_by_tag(BlockTag::Latest)
            .await
            .unwrap()
            .unwrap()
    }

    /// Builds and imports a block on `parent`, without making it the head.
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

    /// Builds a block on the head, makes it the head and returns its hash.
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

    /// A chain of two blocks: a transfer and a deployment, then a call of the contract. Returns the
    /// contract and the transactions.
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
