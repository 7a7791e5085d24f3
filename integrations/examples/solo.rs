//! Drives execution clients through the Engine API and builds a block every second, without
//! consensus.
//!
//! `cargo run -p alys-integrations --example solo` embeds a client with the usual development
//! accounts funded, on 127.0.0.1:8545 (public) and 127.0.0.1:8551 (engine). Arguments select other
//! clients, which must share a genesis with Cancun at time 0: `own`, or `URL SECRET_HEX`, repeated.
//! The first one builds, and all execute.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use alloy_rpc_types_engine::{ForkchoiceState, PayloadAttributes};
use alys_integrations::embedded::execution::CoreConfig;
use alys_integrations::embedded::{ExecutionServer, ExecutionServerConfig};
use alys_integrations::execution::{BlockTag, ExecutionClient, HttpEngine, PayloadFork};
use alys_integrations::http::{Endpoint, JwtSecret};
use alys_storage::MemoryStore;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ACCOUNTS: [&str; 2] = [
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
];

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    alys_runtime::block_on_main(async move {
        let mut servers = Vec::new();
        let mut engines = Vec::new();
        if args.is_empty() {
            servers.push(start().await?);
        }
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "own" {
                servers.push(start().await?);
            } else {
                let endpoint: Endpoint = arg.parse()?;
                let secret = args
                    .next()
                    .ok_or("a URL must be followed by the JWT secret in hex")?;
                engines.push(HttpEngine::new(endpoint, JwtSecret::parse(&secret)?));
            }
        }
        for server in &servers {
            println!(
                "public http://{:?}, engine http://{}",
                server.http_addr(),
                server.engine_addr()
            );
            engines.insert(
                0,
                HttpEngine::new(server.engine_addr(), JwtSecret::new([1; 32])),
            );
        }
        drive(&engines).await
    })
}

async fn start() -> Result<ExecutionServer, Failure> {
    let alloc: serde_json::Map<String, serde_json::Value> = ACCOUNTS
        .into_iter()
        .map(|account| {
            (
                account.to_owned(),
                serde_json::json!({ "balance": "0x21e19e0c9bab2400000" }),
            )
        })
        .collect();
    let genesis = serde_json::from_value(serde_json::json!({
        "config": {
            "chainId": 1337, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
            "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": true, "shanghaiTime": 0, "cancunTime": 0,
        },
        "difficulty": "0x0", "gasLimit": "0x1c9c380", "nonce": "0x0", "timestamp": "0x0",
        "alloc": alloc,
    }))?;
    let config = ExecutionServerConfig {
        http_addr: Some("127.0.0.1:8545".parse()?),
        engine_addr: "127.0.0.1:8551".parse()?,
        jwt_secret: JwtSecret::new([1; 32]),
        genesis,
        access: Default::default(),
        store: Arc::new(MemoryStore::new()),
        core: CoreConfig::default(),
        limits: Default::default(),
    };
    Ok(ExecutionServer::start(config).await?)
}

async fn drive(engines: &[HttpEngine]) -> Result<(), Failure> {
    let builder = engines.first().ok_or("no engine")?;
    for engine in engines {
        let missing = engine
            .exchange_capabilities()
            .await?
            .missing(PayloadFork::Deneb);
        println!(
            "{}, chain {}, missing {missing:?}",
            engine.client_version().await?,
            engine.chain_id().await?
        );
    }
    let genesis = builder.genesis_hash().await?;
    let choice = |hash| ForkchoiceState {
        head_block_hash: hash,
        safe_block_hash: genesis,
        finalized_block_hash: genesis,
    };
    loop {
        let head = builder
            .block_by_tag(BlockTag::Latest)
            .await?
            .ok_or("the client has no head")?;
        let now = alys_runtime::clock::wall_ms() / 1000;
        let attributes = PayloadAttributes {
            timestamp: now.max(head.timestamp + 1),
            prev_randao: B256::ZERO,
            suggested_fee_recipient: Address::ZERO,
            withdrawals: Some(Vec::new()),
            parent_beacon_block_root: Some(head.hash),
            ..PayloadAttributes::default()
        };
        let started = builder
            .forkchoice_updated(choice(head.hash), Some(attributes))
            .await?;
        let id = started
            .payload_id
            .ok_or_else(|| format!("no build was started: {started:?}"))?;
        let payload = builder.get_payload(PayloadFork::Deneb, id).await?.payload;
        let hash = payload.as_v1().block_hash;
        let count = payload.as_v1().transactions.len();
        let mut statuses = String::new();
        for engine in engines {
            let status = engine.new_payload(payload.clone(), head.hash).await?.status;
            let chosen = engine
                .forkchoice_updated(choice(hash), None)
                .await?
                .payload_status
                .status;
            statuses += &format!(", {status}/{chosen}");
        }
        println!(
            "block {} {hash}: {count} transactions{statuses}",
            head.number + 1
        );
        alys_runtime::time::sleep(Duration::from_secs(1)).await;
    }
}
