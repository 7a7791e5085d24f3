//! The service as a whole: a core and its two ports.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use alloy_genesis::Genesis;
use alloy_primitives::B256;
use alys_storage::Store;

use super::node::{EnginePort, Node, PublicPort};
use super::requests::Requests;
use crate::embedded::execution::{CoreConfig, Error, ExecutionCore};
use crate::http::{HttpServer, JwtSecret, ServeError, ServerConfig};

/// What an embedded execution client needs.
#[derive(Clone)]
pub struct ExecutionServerConfig {
    /// Where wallets connect; `None` for no public port. Port 0 picks one.
    pub http_addr: Option<SocketAddr>,
    /// Where the consensus node connects. Port 0 picks one.
    pub engine_addr: SocketAddr,
    /// Shared with the consensus node.
    pub jwt_secret: JwtSecret,
    /// The chain.
    pub genesis: Genesis,
    /// Where the chain is kept; nobody else may write there.
    pub store: Store,
    /// Limits and behaviour of the core.
    pub core: CoreConfig,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The genesis or the store is not usable.
    #[error("the embedded execution client cannot open its chain: {0}")]
    Core(#[from] Error),
    /// A port is not free.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// A running embedded execution client. Dropping it cuts its connections; [`ExecutionServer::stop`] is orderly. Either
/// way the chain is safe: what was answered is durable as the core promises.
pub struct ExecutionServer {
    public: Option<HttpServer>,
    engine: HttpServer,
    node: Arc<Node>,
    requests: Arc<Requests>,
    genesis_hash: B256,
}

impl ExecutionServer {
    /// Opens the chain and its ports.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: ExecutionServerConfig) -> Result<Self, StartError> {
        #[cfg(madsim)]
        return Self::start_bent(config, super::Bend::default()).await;
        #[cfg(not(madsim))]
        Self::start_with(config, |node| EnginePort { node }).await
    }

    /// As [`start`](Self::start); the simulator may bend what the Engine API answers.
    ///
    /// # Errors
    /// See [`StartError`].
    #[cfg(madsim)]
    pub async fn start_bent(
        config: ExecutionServerConfig,
        bend: super::Bend,
    ) -> Result<Self, StartError> {
        Self::start_with(config, |node| EnginePort { node, bend }).await
    }

    async fn start_with(
        config: ExecutionServerConfig,
        port: impl FnOnce(Arc<Node>) -> EnginePort,
    ) -> Result<Self, StartError> {
        let ExecutionServerConfig {
            http_addr,
            engine_addr,
            jwt_secret,
            genesis,
            store,
            core,
        } = config;
        let core = alys_runtime::blocking(|| ExecutionCore::open(store, &genesis, core))?;
        let genesis_hash = core.genesis_hash();
        let node = Arc::new(Node::new(core));
        let engine_config = ServerConfig {
            auth: Some(jwt_secret),
            max_connections: 32,
            ..ServerConfig::new("engine")
        };
        let engine =
            HttpServer::bind(engine_addr, engine_config, Arc::new(port(node.clone()))).await?;
        let requests = Arc::new(Requests::default());
        let public = match http_addr {
            Some(addr) => {
                // Calls of strangers carry transactions and filters, not blocks.
                let limits = ServerConfig {
                    cors: true,
                    max_body_bytes: 5 << 20,
                    ..ServerConfig::new("json-rpc")
                };
                let port = PublicPort::new(node.clone(), requests.clone());
                Some(HttpServer::bind(addr, limits, Arc::new(port)).await?)
            }
            None => None,
        };
        Ok(Self {
            public,
            engine,
            node,
            requests,
            genesis_hash,
        })
    }

    /// Where wallets connect.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.public.as_ref().map(HttpServer::local_addr)
    }

    /// Where the consensus node connects.
    pub fn engine_addr(&self) -> SocketAddr {
        self.engine.local_addr()
    }

    /// The numbers of requests that wallets make.
    pub fn requests(&self) -> Arc<Requests> {
        self.requests.clone()
    }

    /// The hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    /// For whoever watches it from outside.
    pub fn witness(&self) -> Witness {
        Witness(Arc::downgrade(&self.node))
    }

    /// Whether a write to the store failed. Then every call is refused with -32603 until a new server on the same store
    /// has looked at what is there.
    pub fn has_failed(&self) -> bool {
        self.node.has_failed()
    }

    /// Answers what it has begun, closes its ports and lets go of the store.
    pub async fn stop(self) {
        if let Some(public) = self.public {
            public.stop().await;
        }
        self.engine.stop().await;
    }
}

/// Looks at an execution client from outside, without keeping it: for tests.
#[derive(Clone)]
pub struct Witness(Weak<Node>);

impl Witness {
    /// Whether the client has executed this block and found it valid. `None` when it is gone, or at work right now.
    pub fn has_executed(&self, block: B256) -> Option<bool> {
        self.0.upgrade()?.has_executed(block)
    }
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness")
            .field("is_there", &(self.0.strong_count() > 0))
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
