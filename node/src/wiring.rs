//! The only place that constructs actors: read it to see the graph and the supervision table.
//!
//! | supervisor | strategy | children, in order of start |
//! |---|---|---|
//! | root | one-for-all | storage, chain, network |
//! | storage | one-for-one | StorageActor |
//! | chain | one-for-one | ValidationActor, EngineActor, ChainActor, TxPoolActor |
//! | network | rest-for-one | NetworkActor, PeerActor |

use std::net::SocketAddr;
use std::sync::Arc;

use alys_actor_system::{ChildSpec, Strategy, SupervisorSpec, System, mailbox};
use alys_integrations::execution::{ExecutionClient, HttpEngine};
use alys_net::{ChainTag, NodeKey, PeerAddr};
use alys_runtime::disk::Dir;

use crate::actors::chain::{self, ChainActor};
use crate::actors::engine::EngineActor;
use crate::actors::network::{self, NetworkActor, NetworkError};
use crate::actors::peers::PeerActor;
use crate::actors::storage::{self, StorageActor};
use crate::actors::tx_pool::TxPoolActor;
use crate::actors::validation::ValidationActor;
use crate::node::{FRESH_VOTES_FILE, Node, NodeConfig, StartError};

/// Records and look-ups of all other actors; each asks once at a time.
const STORAGE_MAILBOX: usize = 256;
/// A slot of a federation of 15 brings 30 votes and a proposal, re-sent by whoever has no finality.
const CHAIN_MAILBOX: usize = 1024;
const VALIDATION_MAILBOX: usize = 1024;
const ENGINE_MAILBOX: usize = 64;
const NETWORK_MAILBOX: usize = 1024;
const PEER_MAILBOX: usize = 256;
const TX_POOL_MAILBOX: usize = 256;

/// Opens the storage and the port, so that their errors are the operator's, then starts the tree.
pub(crate) async fn start(config: NodeConfig) -> Result<Node, StartError> {
    let (listen, peer_id) = prepare(&config).await?;
    let NodeConfig { name, genesis, key, observer, .. } = config.clone();
    let key = key.map(Arc::new);
    let epoch = alys_runtime::time::now();

    let (storage_addr, storage_slot) = mailbox(STORAGE_MAILBOX);
    let (chain_addr, chain_slot) = mailbox(CHAIN_MAILBOX);
    let (validation_addr, validation_slot) = mailbox(VALIDATION_MAILBOX);
    let (engine_addr, engine_slot) = mailbox(ENGINE_MAILBOX);
    let (network_addr, network_slot) = mailbox(NETWORK_MAILBOX);
    let (peers_addr, peers_slot) = mailbox(PEER_MAILBOX);
    let (tx_pool_addr, tx_pool_slot) = mailbox(TX_POOL_MAILBOX);
    let storage = storage::Handle(storage_addr);
    let client: Arc<dyn ExecutionClient> =
        Arc::new(HttpEngine::new(config.engine.clone(), config.jwt_secret.clone()));

    let root = SupervisorSpec::new(name.clone(), Strategy::OneForAll);
    let system = System::with_root(root);

    let storage_supervisor = system.supervisor(SupervisorSpec::new("storage", Strategy::OneForOne))?;
    let (dir, engine, chain_genesis) = (config.datadir.clone(), config.storage, genesis.clone());
    storage_supervisor.start(ChildSpec::new("store"), storage_slot, move || {
        let (dir, genesis) = (dir.clone(), chain_genesis.clone());
        async move { open_storage(&dir, engine, &genesis) }
    })?;

    let chain_supervisor = system.supervisor(SupervisorSpec::new("chain", Strategy::OneForOne))?;
    let (validation_genesis, validation_chain) = (genesis.clone(), chain_addr.clone());
    chain_supervisor.start(ChildSpec::new("validation"), validation_slot, move || {
        let actor = ValidationActor::new(validation_genesis.clone(), validation_chain.clone());
        async move { Ok::<_, std::convert::Infallible>(actor) }
    })?;
    let (engine_genesis, engine_chain, engine_storage) =
        (genesis.clone(), chain_addr.clone(), storage.clone());
    let (engine_client, cancun_time) = (client.clone(), config.cancun_time);
    chain_supervisor.start(ChildSpec::new("engine"), engine_slot, move || {
        let client = engine_client.clone();
        let actor = EngineActor::new(
            client,
            engine_genesis.clone(),
            cancun_time,
            engine_chain.clone(),
            engine_storage.clone(),
        );
        async move { Ok::<_, std::convert::Infallible>(actor) }
    })?;
    let doors = chain::Doors {
        storage: storage.clone(),
        engine: engine_addr,
        validation: validation_addr.clone(),
        network: network_addr.clone(),
        peers: peers_addr.clone(),
    };
    let (chain_genesis, chain_observer) = (genesis.clone(), observer.clone());
    chain_supervisor.start(ChildSpec::new("agreement"), chain_slot, move || {
        ChainActor::restore(chain_genesis.clone(), key.clone(), doors.clone(), chain_observer.clone(), epoch)
    })?;
    let (pool_client, pool_network) = (client, network_addr.clone());
    chain_supervisor.start(ChildSpec::new("tx_pool"), tx_pool_slot, move || {
        let actor = TxPoolActor::new(pool_client.clone(), pool_network.clone());
        async move { Ok::<_, std::convert::Infallible>(actor) }
    })?;

    let network_supervisor = system.supervisor(SupervisorSpec::new("network", Strategy::RestForOne))?;
    let network_doors = network::Doors {
        validation: validation_addr,
        chain: chain_addr.clone(),
        peers: peers_addr,
        storage,
        tx_pool: tx_pool_addr,
    };
    let net_config = network_config(&NodeConfig { listen, ..config.clone() })?;
    network_supervisor.start(ChildSpec::new("service"), network_slot, move || {
        NetworkActor::bind(net_config.clone(), network_doors.clone())
    })?;
    let peers_chain = chain_addr.clone();
    network_supervisor.start(ChildSpec::new("peers"), peers_slot, move || {
        let actor = PeerActor::new(network_addr.clone(), peers_chain.clone(), observer.clone());
        async move { Ok::<_, std::convert::Infallible>(actor) }
    })?;

    Ok(Node { system, chain: chain::Handle(chain_addr), listen, peer_id })
}

/// What an operator can get wrong shows here, before any actor runs: the storage opens, the port is free, the peers are
/// addresses. The vote state of a new key is made, and its marker removed, before anything can vote.
async fn prepare(config: &NodeConfig) -> Result<(SocketAddr, alys_net::PeerId), StartError> {
    let net_config = network_config(config)?;
    let peer_id = net_config.key.peer_id();
    let store = open_storage(&config.datadir, config.storage, &config.genesis)?;
    if config.fresh_votes {
        store.create_votes(&config.genesis)?;
        config.datadir.remove(FRESH_VOTES_FILE)?;
    }
    drop(store);
    let listen = {
        let probe = alys_runtime::net::Listener::bind(config.listen).await;
        let probe = probe.map_err(|source| alys_net::SetupError::Listen { addr: config.listen, source })?;
        probe.local_addr()
    };
    Ok((listen, peer_id))
}

fn open_storage(
    dir: &Dir,
    engine: alys_storage::Engine,
    genesis: &alys_types::Genesis,
) -> Result<StorageActor, alys_storage::Error> {
    let dir = dir.sub("chain").map_err(|error| alys_storage::Error::Io {
        operation: "create directory",
        reason: error.to_string(),
    })?;
    StorageActor::open(&dir, engine, genesis)
}

fn network_config(config: &NodeConfig) -> Result<alys_net::Config, StartError> {
    let peers =
        config.bootnodes.iter().map(|text| text.parse::<PeerAddr>()).collect::<Result<Vec<_>, _>>()?;
    let chain = ChainTag { genesis: config.genesis.hash().0, fork: config.genesis.fork_id().0 };
    let mut net = alys_net::Config::new(NodeKey::from_bytes(config.identity), chain, config.listen, peers);
    // What is said again after a slot must pass.
    let slot = std::time::Duration::from_millis(config.genesis.spec().slot_duration_ms);
    net.timing.repeat_window = net.timing.repeat_window.min(slot / 2);
    Ok(net)
}

impl From<NetworkError> for StartError {
    fn from(error: NetworkError) -> StartError {
        match error {
            NetworkError::Setup(setup) => StartError::Network(setup),
            other => StartError::Datadir(std::io::Error::other(other)),
        }
    }
}
