//! The only place that constructs actors: read it to see the graph and the supervision table.
//!
//! | supervisor | strategy | gives up after | children, in order of start |
//! |---|---|---|---|
//! | root | one-for-all | 2 restarts in 10 min: the process ends | storage, chain, network |
//! | storage | one-for-one | 20 in 1 min | StorageActor |
//! | chain | one-for-one | 30 in 1 min | ValidationActor, EngineActor, ChainActor, TxPoolActor |
//! | network | rest-for-one | 20 in 1 min | NetworkActor, PeerActor |
//!
//! An actor that panics, fails, or is longer at one message than `handle_within` is made anew after its pace. Both
//! together are below five seconds for each of them, which is how long a node may take to heal.
//!
//! | actor | path | pace | handle_within | memory |
//! |---|---|---|---|---|
//! | StorageActor | storage/store | backoff 50 ms to 500 ms | 2 s: two syncs of a bad disk | 256 messages; the engine's cache; four bytes for each 4 KiB of its file |
//! | ValidationActor | chain/validation | backoff 50 ms to 500 ms | 2 s: it computes and waits for nobody | 1024 messages |
//! | EngineActor | chain/engine | breaker: 3 in 10 s, open 500 ms to 1 s | 3 s: the execution client has 2.5 s for each message, and what takes longer (the replay of lost blocks) goes over many messages | 64 messages; hashes of the blocks to replay |
//! | ChainActor | chain/agreement | backoff 100 ms to 1 s | 3.5 s: half a second of inputs and the two writes of the last one, each as long as the storage may take | 1024 messages; the blocks above the last final one |
//! | TxPoolActor | chain/tx_pool | backoff 50 ms to 500 ms | 3.5 s: a second of calls, the last of which may take two | 256 messages; 16384 hashes |
//! | NetworkActor | network/service | breaker: 3 in 10 s, open 500 ms to 2 s | 2 s: it waits for nobody | 1024 messages; the service's own limits |
//! | PeerActor | network/peers | backoff 50 ms to 500 ms | 2 s: it waits for nobody | 256 messages; one entry a peer |
//!
//! Nobody has a memory budget: what each holds is bounded by the limits that its room names, and a restart would not
//! empty a mailbox. While a breaker is open, what is sent to the engine or the network is refused, and who sends takes
//! that for "not now": the chain asks again at its next tick and says again after the slot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{
    Backoff, Breaker, ChildSpec, Intensity, Pace, Strategy, SupervisorSpec, System, mailbox,
};
use alys_integrations::execution::{ExecutionClient, HttpEngine};
use alys_integrations::http::ClientConfig;
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
use crate::rights::Rights;

/// Records and look-ups of all other actors; each asks once at a time.
const STORAGE_MAILBOX: usize = 256;
/// A slot of a federation of 15 brings 30 votes and a proposal, re-sent by whoever has no finality.
const CHAIN_MAILBOX: usize = 1024;
const VALIDATION_MAILBOX: usize = 1024;
const ENGINE_MAILBOX: usize = 64;
const NETWORK_MAILBOX: usize = 1024;
const PEER_MAILBOX: usize = 256;
const TX_POOL_MAILBOX: usize = 256;

/// How long the execution client has for one call. What takes longer is too late for its slot; the client goes on with
/// it all the same, and has the answer when it is asked again.
const EXECUTION_CALL: Duration = Duration::from_secs(2);

/// Calls of the execution client at once: one of the engine's and one of the pool's, and some that were given up.
const ENGINE_CONNECTIONS: usize = 8;

// How long each may be at one message, see the table.
const STORAGE_HANDLES: Duration = Duration::from_secs(2);
const VALIDATION_HANDLES: Duration = Duration::from_secs(2);
const ENGINE_HANDLES: Duration = Duration::from_secs(3);
const CHAIN_HANDLES: Duration = Duration::from_millis(3_500);
const TX_POOL_HANDLES: Duration = Duration::from_millis(3_500);
const NETWORK_HANDLES: Duration = Duration::from_secs(2);
const PEERS_HANDLE: Duration = Duration::from_secs(2);

/// A failure every few seconds is healed for as long as it lasts; one that comes back at once is not.
const STORAGE_GIVES_UP: Intensity = Intensity {
    restarts: 20,
    within: Duration::from_secs(60),
};
/// More than the storage: a failure of the storage is one of the chain and of the engine too.
const CHAIN_GIVES_UP: Intensity = Intensity {
    restarts: 30,
    within: Duration::from_secs(60),
};
const NETWORK_GIVES_UP: Intensity = Intensity {
    restarts: 20,
    within: Duration::from_secs(60),
};
/// The whole tree twice: what is still there then does not go away without somebody's help.
const ROOT_GIVES_UP: Intensity = Intensity {
    restarts: 2,
    within: Duration::from_secs(600),
};

/// A wait that doubles up to `max`.
fn backoff(initial_ms: u64, max_ms: u64) -> Backoff {
    let (initial, max) = (
        Duration::from_millis(initial_ms),
        Duration::from_millis(max_ms),
    );
    Backoff {
        initial,
        max,
        ..Backoff::default()
    }
}

/// At once, but for three failures in ten seconds. It is not open for long: whoever is behind it is told at each message
/// anyway when the world outside does not answer, and a node that waits for its own breaker does not heal.
fn breaker(max_ms: u64) -> Pace {
    Pace::CircuitBreaker(Breaker {
        open_for: backoff(500, max_ms),
        ..Breaker::default()
    })
}

/// Opens the storage and the port, so that their errors are the operator's, then starts the tree.
pub(crate) async fn start(config: NodeConfig) -> Result<Node, StartError> {
    let (listen, peer_id) = prepare(&config).await?;
    let NodeConfig {
        name,
        genesis,
        key,
        observer,
        ..
    } = config.clone();
    let key = key.map(Arc::new);
    let clock = chain::Clock::start();

    let (storage_addr, storage_slot) = mailbox(STORAGE_MAILBOX);
    let (chain_addr, chain_slot) = mailbox(CHAIN_MAILBOX);
    let (validation_addr, validation_slot) = mailbox(VALIDATION_MAILBOX);
    let (engine_addr, engine_slot) = mailbox(ENGINE_MAILBOX);
    let (network_addr, network_slot) = mailbox(NETWORK_MAILBOX);
    let (peers_addr, peers_slot) = mailbox(PEER_MAILBOX);
    let (tx_pool_addr, tx_pool_slot) = mailbox(TX_POOL_MAILBOX);
    let storage = storage::Handle(storage_addr);
    let http = HttpEngine::with_config(ClientConfig {
        auth: Some(config.jwt_secret.clone()),
        deadline: EXECUTION_CALL,
        connect_timeout: EXECUTION_CALL,
        max_connections: if alys_runtime::buggify!("node.wiring.one_engine_connection") {
            1
        } else {
            ENGINE_CONNECTIONS
        },
        ..ClientConfig::new(config.engine.clone())
    });
    let client: Arc<dyn ExecutionClient> = Arc::new(http.clone());

    let root = SupervisorSpec {
        intensity: ROOT_GIVES_UP,
        backoff: backoff(500, 5_000),
        ..SupervisorSpec::new(name.clone(), Strategy::OneForAll)
    };
    let system = System::with_root(root);
    let rights = Rights::new()?;

    let storage_supervisor = system.supervisor(SupervisorSpec {
        intensity: STORAGE_GIVES_UP,
        ..SupervisorSpec::new("storage", Strategy::OneForOne)
    })?;
    let (dir, engine, chain_genesis) = (config.datadir.clone(), config.storage, genesis.clone());
    let spec = ChildSpec::new("store")
        .pace(Pace::Backoff(backoff(50, 500)))
        .handle_within(STORAGE_HANDLES);
    storage_supervisor.start(spec, storage_slot, move || {
        let (dir, genesis) = (dir.clone(), chain_genesis.clone());
        async move { open_storage(&dir, engine, &genesis) }
    })?;

    let chain_supervisor = system.supervisor(SupervisorSpec {
        intensity: CHAIN_GIVES_UP,
        ..SupervisorSpec::new("chain", Strategy::OneForOne)
    })?;
    let (validation_genesis, validation_chain) = (genesis.clone(), chain_addr.clone());
    let spec = ChildSpec::new("validation")
        .pace(Pace::Backoff(backoff(50, 500)))
        .handle_within(VALIDATION_HANDLES);
    chain_supervisor.start(spec, validation_slot, move || {
        let actor = ValidationActor::new(validation_genesis.clone(), validation_chain.clone());
        async move { Ok::<_, std::convert::Infallible>(actor) }
    })?;
    let (engine_genesis, engine_chain, engine_storage) =
        (genesis.clone(), chain_addr.clone(), storage.clone());
    let (engine_client, cancun_time) = (client.clone(), config.cancun_time);
    let spec = ChildSpec::new("engine")
        .pace(breaker(1_000))
        .handle_within(ENGINE_HANDLES);
    chain_supervisor.start(spec, engine_slot, move || {
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
    let spec = ChildSpec::new("agreement")
        .pace(Pace::Backoff(backoff(100, 1_000)))
        .handle_within(CHAIN_HANDLES);
    chain_supervisor.start(spec, chain_slot, move || {
        ChainActor::restore(
            chain_genesis.clone(),
            key.clone(),
            doors.clone(),
            chain_observer.clone(),
            clock.clone(),
        )
    })?;
    let (pool_client, pool_network) = (client, rights.grant("tx_pool", "network", &network_addr)?);
    let spec = ChildSpec::new("tx_pool")
        .pace(Pace::Backoff(backoff(50, 500)))
        .handle_within(TX_POOL_HANDLES);
    chain_supervisor.start(spec, tx_pool_slot, move || {
        let actor = TxPoolActor::new(pool_client.clone(), pool_network.clone());
        async move { Ok::<_, std::convert::Infallible>(actor) }
    })?;

    let network_supervisor = system.supervisor(SupervisorSpec {
        intensity: NETWORK_GIVES_UP,
        ..SupervisorSpec::new("network", Strategy::RestForOne)
    })?;
    let network_doors = network::Doors {
        validation: rights.grant("network", "validation", &validation_addr)?,
        chain: rights.grant("network", "chain", &chain_addr)?,
        peers: rights.grant("network", "peers", &peers_addr)?,
        storage: storage::Handle(rights.grant("network", "storage", &storage.0)?),
        tx_pool: rights.grant("network", "tx_pool", &tx_pool_addr)?,
    };
    let net_config = network_config(&NodeConfig {
        listen,
        ..config.clone()
    })?;
    let bending = config.bending.clone();
    let spec = ChildSpec::new("service")
        .pace(breaker(2_000))
        .handle_within(NETWORK_HANDLES);
    network_supervisor.start(spec, network_slot, move || {
        NetworkActor::bind(net_config.clone(), network_doors.clone(), bending.clone())
    })?;
    let peers_chain = rights.grant("peers", "chain", &chain_addr)?;
    let peers_network = rights.grant("peers", "network", &network_addr)?;
    let spec = ChildSpec::new("peers")
        .pace(Pace::Backoff(backoff(50, 500)))
        .handle_within(PEERS_HANDLE);
    network_supervisor.start(spec, peers_slot, move || {
        let actor = PeerActor::new(peers_network.clone(), peers_chain.clone(), observer.clone());
        async move { Ok::<_, std::convert::Infallible>(actor) }
    })?;

    // Nobody looks others up: all addresses are handed out here. What was refused is in the system's audit.
    system.enforce(rights.into_access());
    Ok(Node {
        system,
        client: http,
        chain: chain::Handle(chain_addr),
        listen,
        peer_id,
    })
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
        let probe = probe.map_err(|source| alys_net::SetupError::Listen {
            addr: config.listen,
            source,
        })?;
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
    let peers = config
        .bootnodes
        .iter()
        .map(|text| text.parse::<PeerAddr>())
        .collect::<Result<Vec<_>, _>>()?;
    let chain = ChainTag {
        genesis: config.genesis.hash().0,
        fork: config.genesis.fork_id().0,
    };
    let mut net = alys_net::Config::new(
        NodeKey::from_bytes(config.identity),
        chain,
        config.listen,
        peers,
    );
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
