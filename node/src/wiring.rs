//! The only place that constructs actors. The [`Group`] and [`ActorSpec`] constants below describe
//! the supervision tree as data, and `docs/actors.md` is generated from them.
//!
//! An actor that panics, fails, or spends longer than its message timeout on one message is
//! restarted after its restart delay. The sum of timeout and delay is below five seconds for every
//! actor, the time within which a node must recover. While its circuit breaker is open, the
//! EngineActor or NetworkActor refuses messages. Senders treat that as temporary: the chain retries
//! at its next tick and rebroadcasts after the slot.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{
    Addr, Backoff, Breaker, ChildSpec, Intensity, Message, RestartDelay, Slot, Strategy,
    Supervisor, SupervisorSpec, System, mailbox,
};
use alys_integrations::execution::{ExecutionClient, HttpEngine};
use alys_integrations::http::ClientConfig;
use alys_net::{ChainTag, NodeKey, PeerAddr};
use alys_runtime::disk::Dir;

use crate::actors::chain::{self, ChainActor, ChainMessage};
use crate::actors::engine::{EngineActor, EngineMessage, EngineTimeouts, MeteredClient};
use crate::actors::network::{self, NetworkActor, NetworkError, NetworkMessage};
use crate::actors::peers::{PeerActor, PeerMessage};
use crate::actors::storage::{self, StorageActor, StorageMessage};
use crate::actors::tx_pool::{TxPoolActor, TxPoolMessage};
use crate::actors::validation::{ValidationActor, ValidationMessage};
use crate::metrics::{NodeMetrics, register_refusals};
use crate::node::{FRESH_VOTES_FILE, Node, NodeConfig, StartError};
use crate::rights::Rights;

/// The answer to a call that takes longer than this is too late for its slot. The execution client
/// completes the call nevertheless, so a retry gets its answer at once.
const ENGINE_TIMEOUTS: EngineTimeouts = EngineTimeouts::new(Duration::from_secs(2));

/// Maximum concurrent calls to the execution client: one of the EngineActor, one of the
/// TxPoolActor, and calls that timed out while the client still executes them.
const ENGINE_CONNECTIONS: usize = 8;

/// A supervisor of the tree, and its row in `docs/actors.md`.
struct Group {
    name: &'static str,
    strategy: Strategy,
    /// The number of restarts of its children, per period, above which it gives up.
    intensity: Intensity,
    reason: &'static str,
}

/// When the supervisors below the root give up repeatedly, the root does too, and the process ends.
const ROOT: Group = Group {
    name: "root",
    strategy: Strategy::OneForAll,
    intensity: Intensity {
        restarts: 2,
        within: Duration::from_secs(600),
    },
    reason: "a failure that persists after two restarts of the whole tree needs the operator",
};
const STORAGE_GROUP: Group = Group {
    name: "storage",
    strategy: Strategy::OneForOne,
    intensity: Intensity {
        restarts: 20,
        within: Duration::from_secs(60),
    },
    reason: "one failure every three seconds is tolerated indefinitely",
};
const CHAIN_GROUP: Group = Group {
    name: "chain",
    strategy: Strategy::OneForOne,
    intensity: Intensity {
        restarts: 30,
        within: Duration::from_secs(60),
    },
    reason: "a failure of the storage also fails the chain and the engine",
};
const NETWORK_GROUP: Group = Group {
    name: "network",
    strategy: Strategy::RestForOne,
    intensity: Intensity {
        restarts: 20,
        within: Duration::from_secs(60),
    },
    reason: "a new network service has no connections, so the peers restart with it",
};

/// Delay before a restart.
enum RestartTiming {
    /// Doubles from `initial_ms` up to `max_ms`.
    Backoff { initial_ms: u64, max_ms: u64 },
    /// No delay, but the third failure within ten seconds opens the circuit breaker for 500 ms, and
    /// for up to `max_ms` if failures continue. The times are short, because the node cannot
    /// recover while the breaker refuses messages, and senders handle refusals anyway.
    Breaker { max_ms: u64 },
}

/// An actor of the tree, and its row in `docs/actors.md`.
struct ActorSpec {
    /// The name as a child of its supervisor, and as a role in the access table.
    name: &'static str,
    actor: &'static str,
    group: &'static str,
    restart: RestartTiming,
    message_timeout: Duration,
    timeout_reason: &'static str,
    /// Capacity of the mailbox, in messages.
    mailbox: usize,
    /// Memory in addition to the mailbox. No actor has a memory budget, because every part of its
    /// memory has its own limit, and a restart would not empty the mailbox.
    memory: &'static str,
}

const STORAGE: ActorSpec = ActorSpec {
    name: "storage",
    actor: "StorageActor",
    group: STORAGE_GROUP.name,
    restart: BACKOFF,
    message_timeout: Duration::from_secs(2),
    timeout_reason: "two syncs of a slow disk",
    // The network serves at most 128 requests of peers at once (`alys_net::Limits::max_inbound`);
    // the chain and the engine make one request at a time.
    mailbox: 256,
    memory: "the cache of the engine; four bytes per 4 KiB of its file",
};
const VALIDATION: ActorSpec = ActorSpec {
    name: "validation",
    actor: "ValidationActor",
    group: CHAIN_GROUP.name,
    restart: BACKOFF,
    message_timeout: Duration::from_secs(2),
    timeout_reason: "computation only",
    mailbox: 1024,
    memory: "none",
};
const ENGINE: ActorSpec = ActorSpec {
    name: "engine",
    actor: "EngineActor",
    group: CHAIN_GROUP.name,
    restart: RestartTiming::Breaker { max_ms: 1_000 },
    message_timeout: ENGINE_TIMEOUTS.supervisor,
    timeout_reason: "the actor's own timeout is shorter; a replay takes many messages",
    mailbox: 64,
    memory: "hashes of blocks to replay",
};
const CHAIN: ActorSpec = ActorSpec {
    name: "chain",
    actor: "ChainActor",
    group: CHAIN_GROUP.name,
    restart: RestartTiming::Backoff {
        initial_ms: 100,
        max_ms: 1_000,
    },
    message_timeout: Duration::from_millis(3_500),
    timeout_reason: "the input budget and the two writes of the last input",
    // A slot of a federation of 15 has 30 votes and a proposal, and after a slot without finality
    // every node re-sends its own.
    mailbox: 1024,
    memory: "blocks above the last final one",
};
const TX_POOL: ActorSpec = ActorSpec {
    name: "tx_pool",
    actor: "TxPoolActor",
    group: CHAIN_GROUP.name,
    restart: BACKOFF,
    message_timeout: Duration::from_millis(3_500),
    timeout_reason: "the submit budget and one more call of the execution client",
    mailbox: 256,
    memory: "16384 hashes, 4096 transactions",
};
const NETWORK: ActorSpec = ActorSpec {
    name: "network",
    actor: "NetworkActor",
    group: NETWORK_GROUP.name,
    restart: RestartTiming::Breaker { max_ms: 2_000 },
    message_timeout: Duration::from_secs(2),
    timeout_reason: "it waits for no other actor",
    mailbox: 1024,
    memory: "the limits of the network service",
};
const PEERS: ActorSpec = ActorSpec {
    name: "peers",
    actor: "PeerActor",
    group: NETWORK_GROUP.name,
    restart: BACKOFF,
    message_timeout: Duration::from_secs(2),
    timeout_reason: "it waits for no other actor",
    mailbox: 256,
    memory: "one entry per peer",
};

const BACKOFF: RestartTiming = RestartTiming::Backoff {
    initial_ms: 50,
    max_ms: 500,
};

const GROUPS: [Group; 4] = [ROOT, STORAGE_GROUP, CHAIN_GROUP, NETWORK_GROUP];
const ACTORS: [ActorSpec; 7] = [STORAGE, VALIDATION, ENGINE, CHAIN, TX_POOL, NETWORK, PEERS];

impl Group {
    fn spec(&self, name: impl Into<String>) -> SupervisorSpec {
        SupervisorSpec {
            intensity: self.intensity,
            ..SupervisorSpec::new(name, self.strategy)
        }
    }

    fn start(&self, system: &System) -> Result<Supervisor, StartError> {
        Ok(system.supervisor(self.spec(self.name))?)
    }
}

impl RestartTiming {
    fn delay(&self) -> RestartDelay {
        match self {
            Self::Backoff { initial_ms, max_ms } => {
                RestartDelay::Backoff(backoff(*initial_ms, *max_ms))
            }
            Self::Breaker { max_ms } => RestartDelay::CircuitBreaker(Breaker {
                open_for: backoff(500, *max_ms),
                ..Breaker::default()
            }),
        }
    }
}

impl ActorSpec {
    fn child(&self, rights: &Rights) -> Result<ChildSpec, StartError> {
        Ok(ChildSpec::new(self.name)
            .restart_delay(self.restart.delay())
            .handle_timeout(self.message_timeout)
            .role(rights.role(self.name)?))
    }

    fn mailbox<M: Message>(&self) -> (Addr<M>, Slot<M>) {
        mailbox(self.mailbox)
    }
}

fn backoff(initial_ms: u64, max_ms: u64) -> Backoff {
    Backoff {
        initial: Duration::from_millis(initial_ms),
        max: Duration::from_millis(max_ms),
        ..Backoff::default()
    }
}

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
    let (storage, storage_slot) = STORAGE.mailbox();
    let (validation, validation_slot) = VALIDATION.mailbox();
    let (engine, engine_slot) = ENGINE.mailbox();
    let (chain, chain_slot) = CHAIN.mailbox();
    let (tx_pool, tx_pool_slot) = TX_POOL.mailbox();
    let (network, network_slot) = NETWORK.mailbox();
    let (peers, peers_slot) = PEERS.mailbox();
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
    };
    let metrics = wiring.system.metrics();
    metrics.register(|registry| wiring.metrics.register(registry));
    let group = STORAGE_GROUP.start(&wiring.system)?;
    wiring.start_storage(&group, storage_slot)?;
    let group = CHAIN_GROUP.start(&wiring.system)?;
    wiring.start_validation(&group, validation_slot)?;
    wiring.start_engine(&group, engine_slot)?;
    wiring.start_chain(&group, chain_slot)?;
    wiring.start_tx_pool(&group, tx_pool_slot)?;
    let group = NETWORK_GROUP.start(&wiring.system)?;
    wiring.start_network(&group, network_slot)?;
    wiring.start_peers(&group, peers_slot)?;
    wiring.system.enforce(wiring.rights.into_access());
    let system = Arc::new(wiring.system);
    register_refusals(&system);
    let is_validator = wiring.config.key.is_some();
    Ok(Node {
        system,
        client: wiring.client,
        metrics: wiring.metrics,
        is_validator,
        needs_peers: !is_validator || wiring.config.genesis.set().len() > 1,
        chain: chain::Handle(wiring.chain),
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
            ..
        } = self.config.clone();
        let metrics = self.metrics.storage.clone();
        group.start(STORAGE.child(&self.rights)?, slot, move || {
            let datadir = datadir.clone();
            let genesis = genesis.clone();
            let metrics = metrics.clone();
            async move { open_storage(&datadir, storage, &genesis, metrics) }
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
        let make = always(move || ValidationActor::new(rules.clone(), chain.clone()));
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
        let metrics = self.metrics.engine.clone();
        let make = always(move || {
            EngineActor::new(
                client.clone(),
                genesis.clone(),
                cancun_time,
                ENGINE_TIMEOUTS,
                chain.clone(),
                storage.clone(),
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
        };
        let rules = self.rules();
        let NodeConfig { key, observer, .. } = self.config.clone();
        let key = key.map(Arc::new);
        let clock = chain::Clock::start();
        let metrics = self.metrics.chain.clone();
        group.start(CHAIN.child(&self.rights)?, slot, move || {
            ChainActor::restore(
                rules.clone(),
                key.clone(),
                mailboxes.clone(),
                observer.clone(),
                clock.clone(),
                metrics.clone(),
            )
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
        let mailboxes = network::Mailboxes {
            validation: rights.grant("network", "validation", &self.validation)?,
            chain: rights.grant("network", "chain", &self.chain)?,
            peers: rights.grant("network", "peers", &self.peers)?,
            storage: storage::Handle(rights.grant("network", "storage", &self.storage.0)?),
            tx_pool: rights.grant("network", "tx_pool", &self.tx_pool)?,
        };
        let net_config = network_config(&self.config)?;
        let interceptor = self.config.interceptor.clone();
        let metrics = self.metrics.network.clone();
        group.start(NETWORK.child(rights)?, slot, move || {
            NetworkActor::bind(
                net_config.clone(),
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
        let observer = self.config.observer.clone();
        let metrics = self.metrics.peers.clone();
        let make = always(move || {
            PeerActor::new(
                network.clone(),
                chain.clone(),
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
    HttpEngine::with_config(ClientConfig {
        auth: Some(config.execution.secret.clone()),
        deadline: ENGINE_TIMEOUTS.call,
        connect_timeout: ENGINE_TIMEOUTS.call,
        max_connections: if alys_runtime::buggify!("node.wiring.one_engine_connection") {
            1
        } else {
            ENGINE_CONNECTIONS
        },
        ..ClientConfig::new(config.execution.url.clone())
    })
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
        storage::Metrics::default(),
    )?;
    if config.fresh_votes {
        store.create_votes(&config.genesis)?;
        config.datadir.remove(FRESH_VOTES_FILE)?;
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
    metrics: storage::Metrics,
) -> Result<StorageActor, alys_storage::Error> {
    let dir = dir.sub("chain").map_err(|error| alys_storage::Error::Io {
        operation: "create directory",
        reason: error.to_string(),
    })?;
    StorageActor::open(&dir, engine, genesis, metrics)
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
    // The repeat filter must not drop what is rebroadcast after a slot.
    let slot = Duration::from_millis(config.genesis.spec().slot_duration_ms);
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

/// The supervision tree in Markdown: the content of `docs/actors.md`.
pub fn actors_page() -> String {
    let mut page = String::from(
        "# Actors of a node\n\nGenerated from the tables in `node/src/wiring.rs`; a test there \
         compares them.\n\n\
         | supervisor | strategy | gives up after | because |\n|---|---|---|---|\n",
    );
    let row = |page: &mut String, cells: [&str; 4]| {
        writeln!(page, "| {} |", cells.join(" | ")).expect("writing to a string cannot fail");
    };
    for group in GROUPS {
        let Intensity { restarts, within } = group.intensity;
        let strategy = format!("{:?}", group.strategy);
        let limit = format!("{restarts} restarts in {} s", within.as_secs());
        row(&mut page, [group.name, &strategy, &limit, group.reason]);
    }
    page.push_str(
        "\nSupervisors below the root start their actors in this order and stop them in \
         reverse.\n\n\
         | actor | restart delay, message timeout | mailbox | memory |\n|---|---|---|---|\n",
    );
    for actor in ACTORS {
        let name = format!("`{}/{}` ({})", actor.group, actor.name, actor.actor);
        let restart = match actor.restart {
            RestartTiming::Backoff { initial_ms, max_ms } => {
                format!("{initial_ms} to {max_ms} ms")
            }
            RestartTiming::Breaker { max_ms } => {
                format!("0; circuit breaker open for 500 to {max_ms} ms")
            }
        };
        let timeout = actor.message_timeout.as_millis();
        let times = format!("{restart}; {timeout} ms: {}", actor.timeout_reason);
        let mailbox = format!("{} messages", actor.mailbox);
        row(&mut page, [&name, &times, &mailbox, actor.memory]);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_the_wired_actors() {
        let expected = actors_page();
        assert_eq!(
            include_str!("../../docs/actors.md"),
            expected,
            "docs/actors.md must be:\n{expected}"
        );
    }

    #[test]
    fn every_actor_recovers_within_five_seconds() {
        for actor in ACTORS {
            let delay_ms = match actor.restart {
                RestartTiming::Backoff { max_ms, .. } | RestartTiming::Breaker { max_ms } => max_ms,
            };
            let total = actor.message_timeout + Duration::from_millis(delay_ms);
            assert!(total < Duration::from_secs(5), "{}: {total:?}", actor.name);
        }
    }
}
