//! The only place that constructs actors, by the [`table`] of the supervision tree.

pub mod table;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, Slot, Supervisor, SupervisorSpec, System};
use alys_integrations::execution::{ExecutionClient, HttpEngine};
use alys_integrations::http::{ClientConfig, Endpoint};
use alys_net::{ChainTag, NodeKey, PeerAddr};
use alys_runtime::disk::Dir;

use crate::actors::auxpow::{self, AuxPowActor, AuxPowMessage, PeerProofs};
use crate::actors::chain::{self, ChainActor, ChainMessage};
use crate::actors::engine::{EngineActor, EngineMessage, MeteredClient, PeerReceipts};
use crate::actors::network::{self, NetworkActor, NetworkError, NetworkMessage};
use crate::actors::peers::{PeerActor, PeerMessage};
use crate::actors::storage::{self, StorageActor, StorageMessage};
use crate::actors::tx_pool::{TxPoolActor, TxPoolMessage};
use crate::actors::validation::{ValidationActor, ValidationMessage};
use crate::interceptor;
use crate::metrics::{NodeMetrics, register_refusals};
use crate::mining::{BlockReads, Miners};
use crate::node::{FRESH_VOTES_FILE, Limits, Node, NodeConfig, StartError};
use crate::rights::Rights;
use table::{
    AUXPOW, CHAIN, CHAIN_GROUP, ENGINE, ENGINE_TIMEOUTS, NETWORK, NETWORK_GROUP, PEERS, ROOT,
    STORAGE, STORAGE_GROUP, TX_POOL, VALIDATION, backoff,
};

/// Maximum concurrent calls to the execution client: one of the EngineActor, one of the
/// TxPoolActor, and calls that timed out while the client still executes them.
const ENGINE_CONNECTIONS: usize = 8;

/// The values from which the actors of a node are constructed.
struct Wiring {
    config: NodeConfig,
    system: System,
    rights: Rights,
    client: HttpEngine,
    metrics: NodeMetrics,
    storage: storage::Handle,
    chain: Addr<ChainMessage>,
    validation: Addr<ValidationMessage>,
    engine: Addr<EngineMessage>,
    network: Addr<NetworkMessage>,
    peers: Addr<PeerMessage>,
    tx_pool: Addr<TxPoolMessage>,
    auxpow: Addr<AuxPowMessage>,
}

/// Opens and closes the storage and the port, so that their errors reach the operator, then starts
/// the tree. Each actor gets the addresses that it needs; no actor looks another one up.
pub(crate) async fn start(config: NodeConfig) -> Result<Node, StartError> {
    let (listen, peer_id) = prepare(&config).await?;
    let config = NodeConfig { listen, ..config };
    let root = SupervisorSpec {
        backoff: backoff(500, 5_000),
        ..ROOT.spec(config.name.clone())
    };
    let sizes = &config.mailboxes;
    let (storage, storage_slot) = STORAGE.mailbox(sizes);
    let (validation, validation_slot) = VALIDATION.mailbox(sizes);
    let (engine, engine_slot) = ENGINE.mailbox(sizes);
    let (chain, chain_slot) = CHAIN.mailbox(sizes);
    let (auxpow, auxpow_slot) = AUXPOW.mailbox(sizes);
    let (tx_pool, tx_pool_slot) = TX_POOL.mailbox(sizes);
    let (network, network_slot) = NETWORK.mailbox(sizes);
    let (peers, peers_slot) = PEERS.mailbox(sizes);
    let wiring = Wiring {
        client: execution_client(&config),
        metrics: NodeMetrics::default(),
        system: System::with_root(root),
        rights: Rights::new()?,
        config,
        storage: storage::Handle(storage),
        chain,
        validation,
        engine,
        network,
        peers,
        tx_pool,
        auxpow,
    };
    let metrics = wiring.system.metrics();
    metrics.register(|registry| wiring.metrics.register(registry));
    let group = STORAGE_GROUP.start(&wiring.system)?;
    wiring.start_storage(&group, storage_slot)?;
    let group = CHAIN_GROUP.start(&wiring.system)?;
    wiring.start_validation(&group, validation_slot)?;
    wiring.start_engine(&group, engine_slot)?;
    wiring.start_chain(&group, chain_slot)?;
    wiring.start_auxpow(&group, auxpow_slot)?;
    wiring.start_tx_pool(&group, tx_pool_slot)?;
    let group = NETWORK_GROUP.start(&wiring.system)?;
    wiring.start_network(&group, network_slot)?;
    wiring.start_peers(&group, peers_slot)?;
    let mining = Miners {
        genesis: wiring.config.genesis.clone(),
        desk: auxpow::Handle::new(wiring.auxpow.clone()),
        blocks: BlockReads::new(wiring.storage_of_miners()?),
    };
    wiring.system.enforce(wiring.rights.into_access());
    let system = Arc::new(wiring.system);
    register_refusals(&system);
    let is_validator = wiring.config.key.is_some();
    let needs_peers = wiring.config.needs_peers();
    Ok(Node {
        system,
        client: wiring.client,
        metrics: wiring.metrics,
        is_validator,
        needs_peers,
        chain: chain::Handle(wiring.chain),
        mining,
        listen,
        peer_id,
    })
}

impl Wiring {
    /// The configuration of the rules of agreement.
    fn rules(&self) -> alys_consensus::Config {
        let key = self.config.key.as_ref();
        let me = key.map(|key| key.public_key().to_bytes());
        alys_consensus::Config {
            planted_bug: self.config.planted_bug.clone(),
            max_uncertified: self.config.limits.uncertified,
            ..alys_consensus::Config::new(self.config.genesis.clone(), me)
        }
    }

    fn start_storage(
        &self,
        group: &Supervisor,
        slot: Slot<StorageMessage>,
    ) -> Result<(), StartError> {
        let NodeConfig {
            datadir,
            storage,
            genesis,
            limits,
            ..
        } = self.config.clone();
        let metrics = self.metrics.storage.clone();
        group.start(STORAGE.child(&self.rights)?, slot, move || {
            let datadir = datadir.clone();
            let genesis = genesis.clone();
            let metrics = metrics.clone();
            async move { open_storage(&datadir, storage, &genesis, limits, metrics) }
        })?;
        Ok(())
    }

    fn start_validation(
        &self,
        group: &Supervisor,
        slot: Slot<ValidationMessage>,
    ) -> Result<(), StartError> {
        let rules = self.rules();
        let chain = self.chain.clone();
        let metrics = self.metrics.validation.clone();
        let make =
            always(move || ValidationActor::new(rules.clone(), chain.clone(), metrics.clone()));
        group.start(VALIDATION.child(&self.rights)?, slot, make)?;
        Ok(())
    }

    fn start_engine(
        &self,
        group: &Supervisor,
        slot: Slot<EngineMessage>,
    ) -> Result<(), StartError> {
        let client = self.metered_client();
        let genesis = self.config.genesis.clone();
        let cancun_time = self.config.cancun_time;
        let chain = self.chain.clone();
        let storage = self.storage.clone();
        let peers = self.peers.clone();
        let metrics = self.metrics.engine.clone();
        let make = always(move || {
            EngineActor::new(
                client.clone(),
                genesis.clone(),
                cancun_time,
                ENGINE_TIMEOUTS,
                chain.clone(),
                storage.clone(),
                peers.clone(),
                metrics.clone(),
            )
        });
        group.start(ENGINE.child(&self.rights)?, slot, make)?;
        Ok(())
    }

    fn start_chain(&self, group: &Supervisor, slot: Slot<ChainMessage>) -> Result<(), StartError> {
        let mailboxes = chain::Mailboxes {
            storage: self.storage.clone(),
            engine: self.engine.clone(),
            validation: self.validation.clone(),
            network: self.network.clone(),
            peers: self.peers.clone(),
            auxpow: self.auxpow.clone(),
        };
        let rules = self.rules();
        let NodeConfig {
            key,
            observer,
            identity,
            ..
        } = self.config.clone();
        let key = key.map(Arc::new);
        let peer_id = NodeKey::from_bytes(*identity).peer_id();
        let clock = chain::Clock::start();
        let metrics = self.metrics.chain.clone();
        group.start(CHAIN.child(&self.rights)?, slot, move || {
            ChainActor::restore(
                rules.clone(),
                key.clone(),
                peer_id,
                mailboxes.clone(),
                observer.clone(),
                clock.clone(),
                metrics.clone(),
            )
        })?;
        Ok(())
    }

    /// The AuxPowActor's storage, which serves the miners' JSON-RPC as well.
    fn storage_of_miners(&self) -> Result<storage::Handle, StartError> {
        let storage = self.rights.grant("auxpow", "storage", &self.storage.0)?;
        Ok(storage::Handle(storage))
    }

    fn start_auxpow(
        &self,
        group: &Supervisor,
        slot: Slot<AuxPowMessage>,
    ) -> Result<(), StartError> {
        let mailboxes = auxpow::Mailboxes {
            storage: self.storage_of_miners()?,
            chain: self.rights.grant("auxpow", "chain", &self.chain)?,
            network: self.rights.grant("auxpow", "network", &self.network)?,
        };
        let genesis = self.config.genesis.clone();
        let key = self.config.key.as_ref();
        let key = key.map(|key| key.public_key().to_bytes());
        let fee_address = auxpow::default_address(self.config.fee_address, &genesis, key.as_ref());
        let metrics = self.metrics.auxpow.clone();
        group.start(AUXPOW.child(&self.rights)?, slot, move || {
            let genesis = genesis.clone();
            let mailboxes = mailboxes.clone();
            let metrics = metrics.clone();
            async move { AuxPowActor::restore(&genesis, fee_address, mailboxes, metrics).await }
        })?;
        Ok(())
    }

    fn start_tx_pool(
        &self,
        group: &Supervisor,
        slot: Slot<TxPoolMessage>,
    ) -> Result<(), StartError> {
        let client = self.metered_client();
        let metrics = self.metrics.tx_pool.clone();
        let network = self.rights.grant("tx_pool", "network", &self.network)?;
        let make =
            always(move || TxPoolActor::new(client.clone(), network.clone(), metrics.clone()));
        group.start(TX_POOL.child(&self.rights)?, slot, make)?;
        Ok(())
    }

    fn start_network(
        &self,
        group: &Supervisor,
        slot: Slot<NetworkMessage>,
    ) -> Result<(), StartError> {
        let rights = &self.rights;
        let storage = rights.grant("network", "storage", &self.storage.0)?;
        let engine = rights.grant("network", "engine", &self.engine)?;
        let mailboxes = network::Mailboxes {
            validation: rights.grant("network", "validation", &self.validation)?,
            chain: rights.grant("network", "chain", &self.chain)?,
            peers: rights.grant("network", "peers", &self.peers)?,
            storage: storage::PeerReads::new(storage),
            receipts: PeerReceipts::new(engine),
            tx_pool: rights.grant("network", "tx_pool", &self.tx_pool)?,
            proofs: PeerProofs::new(rights.grant("network", "auxpow", &self.auxpow)?),
        };
        let net_config = network_config(&self.config)?;
        let needs_peers = self.config.needs_peers();
        let interceptor = self.config.interceptor.clone();
        let metrics = self.metrics.network.clone();
        group.start(NETWORK.child(rights)?, slot, move || {
            NetworkActor::bind(
                net_config.clone(),
                needs_peers,
                mailboxes.clone(),
                interceptor.clone(),
                metrics.clone(),
            )
        })?;
        Ok(())
    }

    fn start_peers(&self, group: &Supervisor, slot: Slot<PeerMessage>) -> Result<(), StartError> {
        let chain = self.rights.grant("peers", "chain", &self.chain)?;
        let network = self.rights.grant("peers", "network", &self.network)?;
        let engine = self.rights.grant("peers", "engine", &self.engine)?;
        let observer = self.config.observer.clone();
        let metrics = self.metrics.peers.clone();
        let make = always(move || {
            PeerActor::new(
                network.clone(),
                chain.clone(),
                engine.clone(),
                observer.clone(),
                metrics.clone(),
            )
        });
        group.start(PEERS.child(&self.rights)?, slot, make)?;
        Ok(())
    }
}

impl Wiring {
    fn metered_client(&self) -> Arc<dyn ExecutionClient> {
        Arc::new(MeteredClient {
            client: Arc::new(self.client.clone()),
            metrics: self.metrics.engine.clone(),
        })
    }
}

/// A factory that cannot fail.
fn always<A>(make: impl Fn() -> A) -> impl FnMut() -> Ready<Result<A, Infallible>> {
    move || ready(Ok(make()))
}

fn execution_client(config: &NodeConfig) -> HttpEngine {
    let limits = |endpoint: Endpoint| ClientConfig {
        deadline: ENGINE_TIMEOUTS.call,
        connect_timeout: ENGINE_TIMEOUTS.call,
        ..ClientConfig::new(endpoint)
    };
    let engine = HttpEngine::with_config(ClientConfig {
        auth: Some(config.execution.secret.clone()),
        max_connections: if alys_runtime::buggify!("node.wiring.one_engine_connection") {
            1
        } else {
            ENGINE_CONNECTIONS
        },
        ..limits(config.execution.url.clone())
    });
    match config.execution.pool.clone() {
        Some(pool) => engine.with_pool(limits(pool)),
        None => engine,
    }
}

/// Reports configuration mistakes before any actor runs: a storage that does not open, a port in
/// use, a malformed address of a bootnode. Creates the vote state of a new key, then removes the
/// marker file that requested it.
async fn prepare(config: &NodeConfig) -> Result<(SocketAddr, alys_net::PeerId), StartError> {
    let net_config = network_config(config)?;
    let peer_id = net_config.key.peer_id();
    let store = open_storage(
        &config.datadir,
        config.storage,
        &config.genesis,
        config.limits,
        storage::Metrics::default(),
    )?;
    if config.fresh_votes {
        if interceptor::removes_marker_first() {
            config.datadir.remove(FRESH_VOTES_FILE)?;
        }
        store.create_votes(&config.genesis)?;
        config.datadir.remove(FRESH_VOTES_FILE)?;
    } else if config.key.is_some() && !store.has_votes()? {
        tracing::warn!(
            datadir = %config.datadir.path().display(),
            "the data directory has no votes of this key, so they count as lost; only if the key \
             has never voted, stop the node, copy {FRESH_VOTES_FILE} into the data directory (`alys \
             keys new` wrote it beside the keystore), and start again"
        );
    }
    drop(store);
    let probe = alys_runtime::net::Listener::bind(config.listen).await;
    let probe = probe.map_err(|source| alys_net::SetupError::Listen {
        addr: config.listen,
        source,
    })?;
    Ok((probe.local_addr(), peer_id))
}

fn open_storage(
    dir: &Dir,
    engine: alys_storage::Engine,
    genesis: &alys_types::Genesis,
    limits: Limits,
    metrics: storage::Metrics,
) -> Result<StorageActor, alys_storage::Error> {
    let dir = dir.sub("chain").map_err(|error| alys_storage::Error::Io {
        operation: "create directory",
        reason: error.to_string(),
    })?;
    let actor = StorageActor::open(&dir, engine, genesis, metrics)?;
    Ok(actor.with_range_limit(limits.range_bytes))
}

fn network_config(config: &NodeConfig) -> Result<alys_net::Config, StartError> {
    let peers = config
        .bootnodes
        .iter()
        .map(|text| text.parse::<PeerAddr>())
        .collect::<Result<Vec<_>, _>>()?;
    let chain = ChainTag {
        genesis: config.genesis.hash().0,
    };
    let mut net = alys_net::Config::new(
        NodeKey::from_bytes(*config.identity),
        chain,
        config.listen,
        peers,
    );
    net.limits.max_range_bytes = config.limits.range_bytes;
    // Messages rebroadcast after a slot must pass the repeat filter.
    let slot = Duration::from_millis(config.genesis.spec().slot_duration_ms);
    net.timing.repeat_window = net.timing.repeat_window.min(slot / 2);
    if let Some(places) = config.stranger_places {
        net.limits.max_peers = places;
    }
    if let Some(events) = config.queued_events {
        net.limits.max_queued_events = events;
    }
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
