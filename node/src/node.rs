//! The node as its owner sees it: configuration in, events out, a way to stop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::access::Audit;
use alys_actor_system::metrics::Metrics;
use alys_actor_system::{Faults, ShutdownReport, Snapshot, System};
use alys_consensus::{BlockRef, Summary};
use alys_integrations::execution::HttpEngine;
use alys_integrations::http::{Endpoint, JwtSecret};
use alys_runtime::disk::Dir;
use alys_types::bls::SecretKey;
use alys_types::mutant::{self, Mutant};
use alys_types::{Block, FederationOrder, Genesis, Hash, Height, Slot, VoteTarget};

use crate::actors::chain;
use crate::bending::Bending;
use crate::wiring;

/// Name of the file in the datadir that marks a key which has never voted; see [`NodeConfig::fresh_votes`].
pub const FRESH_VOTES_FILE: &str = "votes.new";

/// Everything that a node needs. What is read from files and checked by people is in [`crate::config`].
#[derive(Clone)]
pub struct NodeConfig {
    /// For logs.
    pub name: String,
    /// The chain.
    pub genesis: Arc<Genesis>,
    /// When the execution chain switches to Cancun (payloads of Deneb), in seconds; `None`: never.
    pub cancun_time: Option<u64>,
    /// The block-signing key; `None` for a full node.
    pub key: Option<SecretKey>,
    /// The seed of the libp2p identity.
    pub identity: [u8; 32],
    /// Where to listen for peers. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Peers: `ip:port`, `ip:port/p2p/ID` or a multiaddress.
    pub bootnodes: Vec<String>,
    /// Where everything is kept. The caller holds its lock.
    pub datadir: Dir,
    /// Which storage engine.
    pub storage: alys_storage::Engine,
    /// The Engine API of the execution client.
    pub engine: Endpoint,
    /// The secret shared with it.
    pub jwt_secret: JwtSecret,
    /// The key has just been made and never voted: a missing vote state is made, not lost. The marker
    /// [`FRESH_VOTES_FILE`] is removed from the datadir once the state is on the disk, before any vote.
    pub fresh_votes: bool,
    /// Told of everything that happens, from inside the node: must return at once.
    pub observer: Option<Observer>,
    /// What a simulation does to the node's messages; nothing in production.
    pub bending: Bending,
}

/// See [`NodeConfig::observer`].
pub type Observer = Arc<dyn Fn(&NodeEvent) + Send + Sync>;

/// What an observer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// The own vote is about to leave: it is on the disk.
    Signed { target: VoteTarget },
    /// The block of the next proposal or approval, and what it stands on. Left out when that is not kept any more.
    VotesFor { block: BlockRef, parent: BlockRef },
    /// An own block is proposed.
    Proposed {
        height: Height,
        slot: Slot,
        hash: Hash,
        transactions: usize,
        block: Arc<Block>,
    },
    /// The execution head moved.
    Head {
        height: Height,
        slot: Slot,
        hash: Hash,
    },
    /// A block became final.
    Finalized(FinalBlock),
    /// How many peers are connected.
    Peers { connected: usize },
    /// A peer is shut out for a while, by its libp2p identity.
    Banned { peer: String },
    /// An authority contradicted itself.
    Evidence { signer: u8, slot: Slot },
    /// Something for the operator, in words.
    Notice(String),
}

/// A final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalBlock {
    pub height: Height,
    pub slot: Slot,
    pub hash: Hash,
    pub proposer: u8,
    pub execution_hash: Hash,
    pub state_root: Hash,
    pub transactions: usize,
    pub gas_used: u64,
    /// From the start of the slot to finality here, in milliseconds of the local clock.
    pub after_ms: u64,
}

/// Why a node does not start. Each names what to do.
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
    pub(crate) system: System,
    pub(crate) client: HttpEngine,
    pub(crate) chain: chain::Handle,
    pub(crate) listen: SocketAddr,
    pub(crate) peer_id: alys_net::PeerId,
}

impl Node {
    /// Opens the storage and starts the actors.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        wiring::start(config).await
    }

    /// Where the node listens for peers, with the actual port.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Its libp2p identity.
    pub fn peer_id(&self) -> String {
        self.peer_id.to_string()
    }

    /// Where the node stands; `None` while it is starting or restarting its chain.
    pub async fn summary(&self) -> Option<Summary> {
        self.chain.summary().await
    }

    /// Hands in a federation change that governance ordered; false when the chain is too busy or stopping. Any leader that
    /// was told may carry it.
    pub fn order(&self, order: FederationOrder) -> bool {
        self.chain.order(order)
    }

    /// Trusts the wall clock again after a jump; false when the chain is too busy or stopping.
    pub fn confirm_clock(&self) -> bool {
        self.chain.confirm_clock()
    }

    /// The supervision tree: states, restarts, queues.
    pub fn actors(&self) -> Snapshot {
        self.system.snapshot()
    }

    /// The metrics of all actors, and the registry for those of the node.
    pub fn metrics(&self) -> &Metrics {
        self.system.metrics()
    }

    /// What actors tried to send that they may not, see `rights`.
    pub fn audit(&self) -> Option<Audit> {
        self.system.audit()
    }

    /// What goes wrong in the actors from now on, by their full paths (`name/chain/engine`): for tests. Nothing does until
    /// it is planned.
    pub fn faults(&self) -> &Arc<Faults> {
        self.system.faults()
    }

    /// Resolves, with the reason, when the root supervisor gave up: the process must stop.
    pub async fn failed(&self) -> String {
        self.system.failed().await.chain()
    }

    /// Stops the actors in reverse order, within a deadline. The execution client has a tenth of it for what it was asked: one
    /// that is away does not hold the stop up.
    pub async fn shutdown(self, deadline: Duration) -> ShutdownReport {
        if !mutant::active(Mutant::StopWaitsForClient) {
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
