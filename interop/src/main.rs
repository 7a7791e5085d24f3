//! ethrex as an execution client: the libraries of that project behind its own JSON-RPC server.
//!
//! The project publishes libraries and no program, so this one opens a store, gives it an
//! execution genesis, and serves the public JSON-RPC and the Engine API, without peers. The store
//! is in memory: a restart forgets the chain, as a client does that lost its disk. Of a block in
//! memory, version 24.0.0 finds the receipt of the first transaction only (lambdaclass/ethrex,
//! #7137).

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ethrex_blockchain::Blockchain;
use ethrex_common::types::Genesis;
use ethrex_common::{H256, H512};
use ethrex_crypto::kzg::warm_up_trusted_setup;
use ethrex_p2p::network::P2PContext;
use ethrex_p2p::peer_handler::PeerHandler;
use ethrex_p2p::peer_table::{PeerTableServer, TARGET_PEERS};
use ethrex_p2p::rlpx::initiator::RLPxInitiator;
use ethrex_p2p::sync::SyncMode;
use ethrex_p2p::sync_manager::SyncManager;
use ethrex_p2p::types::{NetworkConfig, Node, NodeRecord};
use ethrex_rpc::{ClientVersion, RpcNamespace, bind_api};
use ethrex_storage::{EngineType, Store};
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: ethrex-node GENESIS HTTP_PORT ENGINE_PORT JWT_SECRET_FILE";

/// Version of the libraries, which `web3_clientVersion` reports.
const VERSION: &str = "24.0.0";
/// The most gas of a block on an Alys chain. ethrex moves the limit of its blocks towards this.
const GAS_CEIL: u64 = 30_000_000;
/// Interval of ethrex's broadcasts and look-ups of peers, which it does not have here.
const PEER_INTERVAL_MS: u64 = 60_000;
/// A key for the node record. It protects nothing, because no peer connects.
const KEY: [u8; 32] = [0xcd; 32];

#[tokio::main]
async fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [genesis, http, engine, secret] = arguments.as_slice() else {
        bail!("{USAGE}");
    };
    let port = |text: &str| -> Result<SocketAddr> {
        let port: u16 = text.parse().with_context(|| format!("port {text}"))?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    };
    let (http, engine) = (port(http)?, port(engine)?);
    // The first blob would otherwise wait some seconds for it, and other requests for the blob.
    warm_up_trusted_setup();
    let secret = read_secret(Path::new(secret))?;
    let store = open_store(Path::new(genesis)).await?;

    let stop = CancellationToken::new();
    let blockchain = Arc::new(Blockchain::default_with_store(store.clone()));
    let peers = Peers::none(&store, &blockchain, &stop).await?;
    let api = bind_api(
        stop.clone(),
        http,
        None,
        engine,
        store,
        blockchain,
        secret,
        peers.node,
        peers.record,
        peers.sync,
        peers.handler,
        version(),
        None,
        GAS_CEIL,
        String::new(),
        // The node reads the pool by `txpool_content`.
        HashSet::from([
            RpcNamespace::Eth,
            RpcNamespace::Net,
            RpcNamespace::Web3,
            RpcNamespace::Mempool,
        ]),
    )
    .await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    println!("ready: JSON-RPC at {http}, Engine API at {engine}");
    let reason = tokio::select! {
        result = api.serve() => {
            result.context("the servers ended")?;
            "the servers ended"
        }
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    println!("stopped: {reason}");
    // Threads of ethrex wait for messages that never come.
    std::process::exit(0);
}

/// Reads 32 bytes in hex.
fn read_secret(path: &Path) -> Result<Bytes> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let digits = text.trim().trim_start_matches("0x");
    ensure!(
        digits.len() == 64,
        "{} has no 32 bytes in hex",
        path.display()
    );
    let secret: H256 = digits.parse().with_context(|| path.display().to_string())?;
    Ok(Bytes::copy_from_slice(secret.as_bytes()))
}

/// A store with the block of an execution genesis in Geth's format.
async fn open_store(path: &Path) -> Result<Store> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let genesis: Genesis = serde_json::from_reader(BufReader::new(file))
        .with_context(|| path.display().to_string())?;
    let mut store = Store::new("", EngineType::InMemory)?;
    store.add_initial_state(genesis).await?;
    Ok(store)
}

/// The parts of a node that talk to peers. The server demands them, and they stay idle.
struct Peers {
    node: Node,
    record: NodeRecord,
    sync: SyncManager,
    handler: PeerHandler,
}

impl Peers {
    async fn none(
        store: &Store,
        blockchain: &Arc<Blockchain>,
        stop: &CancellationToken,
    ) -> Result<Peers> {
        let key = SecretKey::from_byte_array(&KEY)?;
        let public = PublicKey::from_secret_key(&Secp256k1::new(), &key).serialize_uncompressed();
        // Port 0: no peer could reach it.
        let node = Node::new(
            Ipv4Addr::LOCALHOST.into(),
            0,
            0,
            H512::from_slice(&public[1..]),
        );
        let record = NodeRecord::from_node(&node, 1, &key)?;
        let table = PeerTableServer::spawn(H256::zero(), TARGET_PEERS, store.clone());
        let context = P2PContext::new(
            node.clone(),
            NetworkConfig::from_node(&node),
            TaskTracker::default(),
            key,
            table.clone(),
            store.clone(),
            Arc::clone(blockchain),
            version().to_string(),
            None,
            PEER_INTERVAL_MS,
            PEER_INTERVAL_MS as f64,
        )?;
        let handler = PeerHandler::new(table, RLPxInitiator::spawn(context));
        let sync = SyncManager::new(
            handler.clone(),
            &SyncMode::Full,
            stop.clone(),
            Arc::clone(blockchain),
            store.clone(),
            ".".into(),
        )
        .await;
        Ok(Peers {
            node,
            record,
            sync,
            handler,
        })
    }
}

fn version() -> ClientVersion {
    ClientVersion::new(
        "ethrex".to_owned(),
        VERSION.to_owned(),
        "crates.io".to_owned(),
        "00000000".to_owned(),
        format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "unknown".to_owned(),
    )
}
