//! The embedded execution client as a service: a core and its two ports.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use alloy_genesis::Genesis;
use alloy_primitives::B256;
use alys_storage::Store;

use super::node_view::{NodeSlot, NodeView};
use super::requests::Requests;
use super::shared::{EnginePort, PublicPort, Shared};
use crate::embedded::execution::{CoreConfig, Error, ExecutionCore};
use crate::http::{Access, HttpServer, JwtSecret, Pages, Pending, ServeError, ServerConfig};

/// Largest body of the public port, as in Geth: calls carry transactions and filters, not blocks.
pub(super) const PUBLIC_BODY_BYTES: usize = 5 << 20;
/// Bytes of all requests and answers in progress at the public port, whose callers need no
/// authentication.
pub(super) const PUBLIC_PENDING_BYTES: usize = 64 << 20;
/// Largest answer of the port of the Engine API: the receipts of a block with 80,000 logs (30 M
/// gas) take about 30 MB as JSON, and without them the node cannot go on.
pub(super) const ENGINE_RESPONSE_BYTES: usize = 64 << 20;
/// Connections to the Engine API: those of one node, and some tools.
const ENGINE_CONNECTIONS: usize = 32;

/// Configuration of an embedded execution client.
#[derive(Clone)]
pub struct ExecutionServerConfig {
    /// Address of the public port; `None` for no public port. Port 0 selects a free port.
    pub http_addr: Option<SocketAddr>,
    /// Address of the Engine API. Port 0 selects a free port.
    pub engine_addr: SocketAddr,
    /// Shared with the consensus node.
    pub jwt_secret: JwtSecret,
    pub genesis: Genesis,
    /// Web pages that may call the public port.
    pub access: Access,
    /// Storage of the chain, which no other component may write.
    pub store: Store,
    pub core: CoreConfig,
    pub limits: PublicLimits,
}

/// Limits of the public port that a simulation makes small, because its few callers would never
/// meet those of production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicLimits {
    /// Bytes of all requests and answers in progress.
    pub max_pending_bytes: usize,
}

impl Default for PublicLimits {
    fn default() -> Self {
        Self {
            max_pending_bytes: PUBLIC_PENDING_BYTES,
        }
    }
}

/// The embedded execution client could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The genesis or the store is not usable.
    #[error("the embedded execution client cannot open its chain: {0}")]
    Core(#[from] Error),
    /// A port is in use.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// The parts of a server that outlive it when another one is opened in its place.
#[derive(Clone, Default)]
pub struct Lasting {
    requests: Arc<Requests>,
    node: NodeSlot,
}

impl Lasting {
    /// The numbers of requests to the public port.
    pub fn requests(&self) -> Arc<Requests> {
        self.requests.clone()
    }

    /// Connects the client with its node, whose peers and sync state the public port then reports.
    pub fn set_node(&self, view: Arc<dyn NodeView>) {
        self.node.set(view);
    }
}

impl std::fmt::Debug for Lasting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lasting").finish_non_exhaustive()
    }
}

/// A running embedded execution client. Dropping it breaks its connections,
/// [`ExecutionServer::stop`] is orderly. Both keep the chain intact, because acknowledged changes
/// are durable as documented for the core.
pub struct ExecutionServer {
    public: Option<HttpServer>,
    engine: HttpServer,
    shared: Arc<Shared>,
    lasting: Lasting,
    genesis_hash: B256,
}

impl ExecutionServer {
    /// Opens the chain and its ports.
    pub async fn start(config: ExecutionServerConfig) -> Result<Self, StartError> {
        Self::start_again(config, Lasting::default()).await
    }

    /// As [`start`](Self::start), with the lasting parts of an earlier server.
    pub async fn start_again(
        config: ExecutionServerConfig,
        lasting: Lasting,
    ) -> Result<Self, StartError> {
        #[cfg(madsim)]
        return Self::start_faulty(config, lasting, Default::default()).await;
        #[cfg(not(madsim))]
        Self::start_with(config, lasting, |shared| EnginePort { shared }).await
    }

    /// As [`start`](Self::start), with faults injected into the Engine API.
    #[cfg(madsim)]
    pub async fn start_with_faults(
        config: ExecutionServerConfig,
        injector: super::ExecutionFaultInjector,
    ) -> Result<Self, StartError> {
        Self::start_faulty(config, Lasting::default(), injector).await
    }

    #[cfg(madsim)]
    async fn start_faulty(
        config: ExecutionServerConfig,
        lasting: Lasting,
        injector: super::ExecutionFaultInjector,
    ) -> Result<Self, StartError> {
        Self::start_with(config, lasting, |shared| EnginePort {
            shared,
            injector,
            gas_limit_target: std::sync::atomic::AtomicU64::new(0),
        })
        .await
    }

    async fn start_with(
        config: ExecutionServerConfig,
        lasting: Lasting,
        engine_port: impl FnOnce(Arc<Shared>) -> EnginePort,
    ) -> Result<Self, StartError> {
        let ExecutionServerConfig {
            http_addr,
            engine_addr,
            jwt_secret,
            genesis,
            access,
            store,
            core,
            limits: public_limits,
        } = config;
        let core = alys_runtime::blocking(|| ExecutionCore::open(store, &genesis, core))?;
        let genesis_hash = core.genesis_hash();
        let shared = Arc::new(Shared::new(core, lasting.node.clone()));
        let engine_config = ServerConfig {
            auth: Some(jwt_secret),
            max_connections: ENGINE_CONNECTIONS,
            max_response_bytes: ENGINE_RESPONSE_BYTES,
            ..ServerConfig::new("engine")
        };
        let engine_port = Arc::new(engine_port(shared.clone()));
        let engine = HttpServer::bind(engine_addr, engine_config, engine_port).await?;
        let public = match http_addr {
            Some(addr) => {
                let limits = ServerConfig {
                    pages: Pages::Allowed(access),
                    max_body_bytes: PUBLIC_BODY_BYTES,
                    max_pending_bytes: public_limits.max_pending_bytes,
                    ..ServerConfig::new("json-rpc")
                };
                let public_port = PublicPort::new(shared.clone(), lasting.requests());
                Some(HttpServer::bind(addr, limits, Arc::new(public_port)).await?)
            }
            None => None,
        };
        Ok(Self {
            public,
            engine,
            shared,
            lasting,
            genesis_hash,
        })
    }

    /// The bound address of the public port.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.public.as_ref().map(HttpServer::local_addr)
    }

    /// The bound address of the Engine API.
    pub fn engine_addr(&self) -> SocketAddr {
        self.engine.local_addr()
    }

    /// The memory of requests and answers in progress at each port, by the name of the port.
    pub fn pending(&self) -> Vec<(&'static str, Pending)> {
        let engine = ("engine", self.engine.pending());
        let public = self.public.as_ref();
        let public = public.map(|public| ("json-rpc", public.pending()));
        [Some(engine), public].into_iter().flatten().collect()
    }

    /// Connects the client with its node, whose peers and sync state the public port then reports.
    pub fn set_node(&self, view: Arc<dyn NodeView>) {
        self.lasting.set_node(view);
    }

    /// The numbers of requests to the public port.
    pub fn requests(&self) -> Arc<Requests> {
        self.lasting.requests()
    }

    /// The hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    /// A weak handle for observing the client in tests.
    pub fn observer(&self) -> ExecutionObserver {
        ExecutionObserver(Arc::downgrade(&self.shared))
    }

    /// Rows of the pool's journal in memory that its last write deleted on disk, for tests.
    #[cfg(madsim)]
    pub async fn journal_left(&self) -> usize {
        self.shared.core.lock().await.journal_left()
    }

    /// Saves the pool as an orderly stop does, and returns the hashes of its transactions, for
    /// tests. `None` if the store failed.
    #[cfg(madsim)]
    pub async fn save_pool(&self) -> Option<Vec<B256>> {
        let saved = self.shared.write(|core| {
            core.save_pool()?;
            let content = core.pool_content();
            let all = content.pending.values().chain(content.queued.values());
            let hashes = all.flat_map(|of_sender| of_sender.values());
            Ok(hashes
                .map(|transaction| *transaction.tx_hash())
                .collect::<Vec<B256>>())
        });
        saved.await.ok()
    }

    /// True when a write to the store failed. Every call is refused with -32603 until a new server
    /// has reopened the store.
    pub fn has_failed(&self) -> bool {
        self.shared.has_failed()
    }

    /// Waits until a write to the store fails; see [`Self::has_failed`].
    pub async fn failure(&self) {
        self.shared.failure().await;
    }

    /// Finishes the requests in progress, closes the ports, saves the pool and releases the store.
    pub async fn stop(self) {
        if let Some(public) = self.public {
            public.stop().await;
        }
        self.engine.stop().await;
        if let Err(error) = self.shared.write(|core| core.save_pool()).await {
            tracing::warn!(%error, "transactions that are not mined yet are lost by the stop");
        }
    }
}

/// Observes an execution client without keeping it alive, for tests.
#[derive(Clone)]
pub struct ExecutionObserver(Weak<Shared>);

impl ExecutionObserver {
    /// True when the client has executed this block and found it valid. `None` when the client has
    /// ended or its store cannot be read.
    pub fn has_executed(&self, block: B256) -> Option<bool> {
        self.0.upgrade()?.has_executed(block)
    }
}

impl std::fmt::Debug for ExecutionObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutionObserver")
            .field("is_running", &(self.0.strong_count() > 0))
            .finish()
    }
}

impl std::fmt::Debug for ExecutionServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutionServer")
            .field("http", &self.http_addr())
            .field("engine", &self.engine_addr())
            .finish_non_exhaustive()
    }
}
