//! One node with its execution client in this process: what `alys node` and each validator of `alys dev` are.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_integrations::embedded::execution::CoreConfig;
use alys_integrations::embedded::rpc::{
    ExecutionServer, ExecutionServerConfig, StartError as ExecutionStartError,
};
use alys_integrations::http::{Endpoint, JwtSecret, ServeError};
use alys_net::SetupError;
use alys_runtime::disk::Dir;
use alys_runtime::time::timeout;
use alys_storage::Engine;
use alys_types::bls::SecretKey;

use crate::genesis::ChainFiles;
use crate::keys::{self, KeysError};
use crate::node::{Node, NodeConfig, Observer, StartError};

/// How long the embedded execution client may take to answer what it has begun.
const EXECUTION_STOP: Duration = Duration::from_secs(6);

/// What a host needs. The datadir's lock is the caller's.
#[derive(Clone)]
pub struct HostConfig {
    /// For logs.
    pub name: String,
    /// The chain.
    pub chain: ChainFiles,
    /// The block-signing key; `None` for a full node.
    pub key: Option<SecretKey>,
    /// Where to listen for peers.
    pub listen: SocketAddr,
    /// Peers.
    pub bootnodes: Vec<String>,
    /// Where everything is kept, the network identity too.
    pub datadir: Dir,
    /// Storage engine of the chain and of the embedded execution client.
    pub storage: Engine,
    /// The execution client.
    pub execution: HostExecution,
    /// See [`NodeConfig::observer`].
    pub observer: Option<Observer>,
}

/// The execution client of a host.
#[derive(Clone)]
pub enum HostExecution {
    /// Our own, started and stopped with the node.
    Embedded {
        /// Where wallets connect.
        http: Option<SocketAddr>,
        /// Where the node connects. Port 0 picks one.
        engine: SocketAddr,
        /// None: one that nobody else knows.
        jwt_secret: Option<JwtSecret>,
    },
    /// Another process.
    Remote {
        /// Its Engine API.
        endpoint: Endpoint,
        /// Shared with it.
        jwt_secret: JwtSecret,
    },
}

/// Why a host does not start. Each names what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A port is taken.
    #[error(
        "cannot listen on {addr} for {purpose}: another program uses this port; stop it, or use another port"
    )]
    PortInUse { addr: SocketAddr, purpose: &'static str },
    /// Keys or identity.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The embedded execution client's store.
    #[error("embedded execution client: {0}")]
    Storage(#[from] alys_storage::Error),
    /// The data directory.
    #[error("data directory: {0}")]
    Datadir(#[from] io::Error),
    /// The embedded execution client.
    #[error(transparent)]
    Execution(ExecutionStartError),
    /// The node.
    #[error(transparent)]
    Node(StartError),
}

/// A running node with its execution client.
pub struct Host {
    node: Node,
    execution: Option<ExecutionServer>,
}

impl Host {
    /// Starts the execution client, then the node.
    ///
    /// # Errors
    /// See [`HostError`]. Nothing is left running.
    pub async fn start(config: HostConfig) -> Result<Host, HostError> {
        let HostConfig { name, chain, key, listen, bootnodes, datadir, storage, execution, observer } =
            config;
        let identity = keys::identity_or_new(&datadir)?;
        let fresh_votes = match &key {
            Some(key) => keys::is_new(&datadir, &key.public_key().to_bytes())?,
            None => false,
        };
        let cancun_time = chain.execution.config.cancun_time;
        let (execution, engine, jwt_secret) = match execution {
            HostExecution::Remote { endpoint, jwt_secret } => (None, endpoint, jwt_secret),
            HostExecution::Embedded { http, engine, jwt_secret } => {
                let jwt_secret = jwt_secret.unwrap_or_else(random_secret);
                let dir = datadir.sub(keys::EXECUTION_STORE)?;
                let store = alys_runtime::blocking(|| alys_storage::open(storage, &dir))?;
                let server = ExecutionServer::start(ExecutionServerConfig {
                    http_addr: http,
                    engine_addr: engine,
                    jwt_secret: jwt_secret.clone(),
                    genesis: chain.execution,
                    store,
                    core: CoreConfig::default(),
                });
                let server = server.await.map_err(execution_error)?;
                let endpoint = Endpoint::new(server.engine_addr());
                (Some(server), endpoint, jwt_secret)
            }
        };
        let started = Node::start(NodeConfig {
            name,
            genesis: Arc::clone(&chain.genesis),
            cancun_time,
            key,
            identity,
            listen,
            bootnodes,
            datadir,
            storage,
            engine,
            jwt_secret,
            fresh_votes,
            observer,
        });
        match started.await {
            Ok(node) => Ok(Host { node, execution }),
            Err(error) => {
                stop_execution(execution).await;
                Err(node_error(error))
            }
        }
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where wallets connect, if anywhere.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.execution.as_ref().and_then(ExecutionServer::http_addr)
    }

    /// Stops the node within `deadline`, then the execution client. True when nothing was left undone.
    pub async fn stop(self, deadline: Duration) -> bool {
        let report = self.node.shutdown(deadline).await;
        for abandoned in &report.abandoned {
            tracing::warn!(?abandoned, "left undone at the stop");
        }
        stop_execution(self.execution).await && report.is_clean()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("node", &self.node).finish_non_exhaustive()
    }
}

async fn stop_execution(execution: Option<ExecutionServer>) -> bool {
    let Some(execution) = execution else { return true };
    let stopped = timeout(EXECUTION_STOP, execution.stop()).await.is_ok();
    if !stopped {
        tracing::warn!("the embedded execution client did not finish its requests in time");
    }
    stopped
}

fn random_secret() -> JwtSecret {
    let mut bytes = [0; 32];
    alys_runtime::rand::fill(&mut bytes);
    JwtSecret::new(bytes)
}

fn execution_error(error: ExecutionStartError) -> HostError {
    match error {
        ExecutionStartError::Serve(ServeError::Bind { name, addr, source })
            if source.kind() == io::ErrorKind::AddrInUse =>
        {
            HostError::PortInUse { addr, purpose: name }
        }
        error => HostError::Execution(error),
    }
}

fn node_error(error: StartError) -> HostError {
    match error {
        StartError::Network(SetupError::Listen { addr, source })
            if source.kind() == io::ErrorKind::AddrInUse =>
        {
            HostError::PortInUse { addr, purpose: "peers" }
        }
        error => HostError::Node(error),
    }
}
