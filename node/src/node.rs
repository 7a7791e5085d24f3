//! A node as a value: configuration in, events out, orderly shutdown.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_actor_system::access::Audit;
use alys_actor_system::metrics::Metrics;
use alys_actor_system::{Faults, ShutdownReport, Snapshot, System};
use alys_consensus::{MAX_UNCERTIFIED, PlantedBug, Summary};
use alys_integrations::execution::HttpEngine;
use alys_integrations::http::{Endpoint, JwtSecret};
use alys_runtime::disk::Dir;
use alys_types::bls::SecretKey;
use alys_types::limits::MAX_RANGE_BYTES;
use alys_types::{Address, Genesis, Order};
use zeroize::Zeroizing;

use crate::actors::chain;
use crate::interceptor::{self, NetworkInterceptor};
use crate::metrics::{Footprint, MetricsView, Monitor, NodeMetrics};
use crate::mining::Miners;
use crate::wiring::{self, table::MailboxSizes};

pub use crate::events::{Ending, FinalBlock, NodeEvent, Notice, Observer, PeerEvent, Wanted};

/// File in the datadir that marks a key that never voted; see [`NodeConfig::fresh_votes`].
pub const FRESH_VOTES_FILE: &str = "votes.new";

/// The Engine API of an execution client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionEndpoint<Secret = JwtSecret> {
    pub url: Endpoint,
    /// Shared with the execution client. The path of its file in a configuration.
    pub secret: Secret,
    /// The public JSON-RPC of a client that does not serve its pool beside the Engine API.
    pub pool: Option<Endpoint>,
}

/// Limits that a simulation makes small, because its short runs would never meet those of
/// production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Uncertified blocks that are kept.
    pub uncertified: usize,
    /// Bytes of an answer with blocks. A part of the protocol: alike on all nodes of a chain.
    pub range_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            uncertified: MAX_UNCERTIFIED,
            range_bytes: MAX_RANGE_BYTES,
        }
    }
}

/// Everything that a node needs. [`crate::config`] reads it from the operator's files.
#[derive(Clone)]
pub struct NodeConfig {
    /// Name in logs, and of the root supervisor.
    pub name: String,
    pub genesis: Arc<Genesis>,
    /// Activation time of Cancun (payloads of Deneb), in seconds; `None` for never.
    pub cancun_time: Option<u64>,
    /// The block-signing key; `None` for a full node.
    pub key: Option<SecretKey>,
    /// Seed of the libp2p identity.
    pub identity: Zeroizing<[u8; 32]>,
    /// Listen address for peers. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Peers: `ip:port`, `ip:port/p2p/ID` or a multiaddress.
    pub bootnodes: Vec<String>,
    /// Address of miners who name none; `None` for the fee address of the key's authority.
    pub fee_address: Option<Address>,
    /// Directory of everything that is kept. The caller holds its lock.
    pub datadir: Dir,
    pub storage: alys_storage::Engine,
    pub execution: ExecutionEndpoint,
    /// The key is new and never voted: a missing vote state is created instead of counted as lost.
    /// The marker [`FRESH_VOTES_FILE`] is removed once the state is durable, before any vote.
    pub fresh_votes: bool,
    pub observer: Option<Observer>,
    /// A simulation's changes to the messages of the node; empty in production.
    pub interceptor: NetworkInterceptor,
    /// Capacities of mailboxes in place of the table's; none in production.
    pub mailboxes: MailboxSizes,
    /// Places for connected strangers in place of the default; a simulation fills few.
    pub stranger_places: Option<usize>,
    /// The default in production; a simulation makes them small.
    pub limits: Limits,
    /// Events that the network service queues in place of the default; a simulation queues few.
    pub queued_events: Option<usize>,
    /// The mistake in the rules of agreement that a simulation plants; none in production.
    pub planted_bug: PlantedBug,
}

impl NodeConfig {
    /// The chain has other nodes: those that a full node follows, or other authorities.
    pub(crate) fn needs_peers(&self) -> bool {
        self.key.is_none() || self.genesis.set().len() > 1
    }
}

/// Reason for which a node does not start. Each one names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Storage(#[from] alys_storage::Error),
    #[error("bootnodes: {0}")]
    Bootnode(#[from] alys_net::AddrError),
    #[error(transparent)]
    Network(#[from] alys_net::SetupError),
    #[error("data directory: {0}")]
    Datadir(#[from] std::io::Error),
    #[error("cannot start the actors: {0}")]
    Actors(#[from] alys_actor_system::StartError),
    #[error(transparent)]
    Rights(#[from] crate::rights::RightsError),
}

/// A running node.
pub struct Node {
    pub(crate) system: Arc<System>,
    pub(crate) client: HttpEngine,
    pub(crate) metrics: NodeMetrics,
    pub(crate) is_validator: bool,
    /// The chain has other nodes.
    pub(crate) needs_peers: bool,
    pub(crate) chain: chain::Handle,
    pub(crate) mining: Miners,
    pub(crate) listen: SocketAddr,
    pub(crate) peer_id: alys_net::PeerId,
}

impl Node {
    /// Opens the storage and starts the actors.
    ///
    /// # Errors
    /// Any [`StartError`]; nothing is left running.
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        wiring::start(config).await
    }

    /// Listen address for peers, with the actual port.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// The libp2p identity.
    pub fn peer_id(&self) -> String {
        self.peer_id.to_string()
    }

    /// Position of the chain; `None` while the ChainActor starts or restarts.
    pub async fn summary(&self) -> Option<Summary> {
        self.chain.summary().await
    }

    /// Submits a change of the federation, signed by governance; false when the ChainActor is
    /// overloaded or stopping. Any leader that has the order may include it.
    pub fn order(&self, order: Order) -> bool {
        self.chain.order(order)
    }

    /// Trusts the wall clock after a jump; false when the ChainActor is overloaded or stopping.
    pub fn confirm_clock(&self) -> bool {
        self.chain.confirm_clock()
    }

    /// The owner's access to the chain, for servers of this process.
    pub fn chain(&self) -> chain::Handle {
        self.chain.clone()
    }

    /// The miners' access to the node, for a [`MiningServer`](crate::mining::MiningServer).
    pub fn miners(&self) -> Miners {
        self.mining.clone()
    }

    /// The supervision tree: states, restarts, queues.
    pub fn actors(&self) -> Snapshot {
        self.system.snapshot()
    }

    /// The metrics of all actors, and the registry for further ones.
    pub fn metrics(&self) -> &Metrics {
        self.system.metrics()
    }

    /// The view of the node for a [`MetricsServer`](crate::metrics::MetricsServer). `label` tells
    /// several nodes of one process apart.
    pub fn monitor(&self, label: Option<String>) -> Monitor {
        Monitor {
            label,
            is_validator: self.is_validator,
            metrics: self.metrics.clone(),
            system: self.system.clone(),
            chain: self.chain.clone(),
            progress: Mutex::default(),
        }
    }

    /// The sizes of the node's tables and its work so far.
    pub fn footprint(&self) -> Footprint {
        self.metrics.footprint()
    }

    /// The view of the node for its embedded execution client.
    pub fn view(&self) -> MetricsView {
        MetricsView::new(self.metrics.clone(), self.needs_peers)
    }

    /// Messages that actors were not permitted to send.
    pub fn audit(&self) -> Option<Audit> {
        self.system.audit()
    }

    /// Failures to inject into actors, by full path (`name/chain/engine`): for tests.
    pub fn faults(&self) -> &Arc<Faults> {
        self.system.faults()
    }

    /// Resolves with the reason once the root supervisor gave up: the process must stop.
    pub async fn failed(&self) -> String {
        self.system.failed().await.chain()
    }

    /// Stops the actors in reverse order within `deadline`. Calls of the execution client get a
    /// tenth of it, so that an unreachable client does not delay the stop.
    pub async fn shutdown(self, deadline: Duration) -> ShutdownReport {
        if interceptor::shutdown_limits_calls() {
            self.client.end_within(deadline / 10);
        }
        self.system.shutdown(deadline).await
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
