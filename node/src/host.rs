//! A node with its execution client: the unit that `alys node` runs once and `alys dev` once per
//! validator.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_integrations::embedded::execution::CoreConfig;
use alys_integrations::embedded::rpc::{
    ExecutionServer, ExecutionServerConfig, Lasting, StartError as ExecutionStartError,
};
use alys_integrations::execution::{ExecutionClient, ExecutionError, HttpEngine};
use alys_integrations::http::{Access, Endpoint, JwtSecret, ServeError};
use alys_net::SetupError;
use alys_runtime::disk::Dir;
use alys_storage::{Engine, Store};
use alys_types::bls::SecretKey;
use alys_types::{Address, ChainSpec, Hash};

use crate::config::Execution;
use crate::execution_host::{EmbeddedClient, Ports};
use crate::genesis::ChainFiles;
use crate::keys::{self, KeysError};
use crate::metrics::{self, Monitor};
use crate::node::{ExecutionEndpoint, Node, NodeConfig, Observer, StartError};

/// Everything that a host needs. The caller holds the lock of the datadir.
#[derive(Clone)]
pub struct HostConfig {
    /// Name in logs.
    pub name: String,
    pub chain: ChainFiles,
    /// The block-signing key; `None` for a full node.
    pub key: Option<SecretKey>,
    /// Address of miners who name none; `None` for the fee address of the key's authority.
    pub fee_address: Option<Address>,
    /// Listen address for peers.
    pub listen: SocketAddr,
    pub bootnodes: Vec<String>,
    /// Directory of everything that is kept, the network identity included.
    pub datadir: Dir,
    /// Storage engine of the chain and of the embedded execution client.
    pub storage: Engine,
    pub execution: Execution<JwtSecret>,
    pub observer: Option<Observer>,
}

/// Reason for which a host does not start. Each one names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(
        "cannot listen on {addr} for {purpose}: another program uses this port; stop it, or use \
         another port"
    )]
    PortInUse {
        addr: SocketAddr,
        purpose: &'static str,
    },
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("embedded execution client: {0}")]
    Storage(#[from] alys_storage::Error),
    /// A corrupt store of the embedded client, which can be rebuilt without a loss.
    #[error(
        "embedded execution client: {source}; delete {} and it is built again from the chain",
        path.display()
    )]
    Rebuild {
        path: PathBuf,
        source: alys_storage::Error,
    },
    #[error("data directory: {0}")]
    Datadir(#[from] io::Error),
    #[error(transparent)]
    Execution(ExecutionStartError),
    /// The execution client of another process refuses the token.
    #[error(transparent)]
    Remote(ExecutionError),
    /// The execution client has another chain.
    #[error(
        "the execution client at {addr} has another block 0 ({found}) than the chain spec \
         ({expected}): start it with the \
         execution genesis of this chain and an empty data directory"
    )]
    OtherExecution {
        addr: SocketAddr,
        found: Hash,
        expected: Hash,
    },
    /// The execution client has the same block 0, whose hash does not cover the chain id.
    #[error(
        "the execution client at {addr} has chain id {found}, the chain spec has {expected}: \
         start it with the execution genesis of this chain and an empty data directory"
    )]
    OtherChainId {
        addr: SocketAddr,
        found: u64,
        expected: u64,
    },
    #[error(transparent)]
    Node(StartError),
}

/// A running node with its execution client.
pub struct Host {
    node: Node,
    /// The embedded execution client.
    embedded: Option<EmbeddedClient>,
}

impl Host {
    /// Starts the execution client, then the node.
    ///
    /// # Errors
    /// Any [`HostError`]; nothing is left running.
    pub async fn start(config: HostConfig) -> Result<Host, HostError> {
        let HostConfig {
            name,
            chain,
            key,
            fee_address,
            listen,
            bootnodes,
            datadir,
            storage,
            execution,
            observer,
        } = config;
        let identity = keys::identity_or_new(&datadir)?;
        let fresh_votes = match &key {
            Some(key) => keys::is_new(&datadir, &key.public_key().to_bytes())?,
            None => false,
        };
        let cancun_time = chain.execution.config.cancun_time;
        let (embedded, execution) = match execution {
            Execution::Remote(endpoint) => {
                check_remote(&endpoint, chain.genesis.spec()).await?;
                (None, endpoint)
            }
            Execution::Embedded {
                http,
                engine,
                access,
                secret,
            } => {
                let secret = secret.unwrap_or_else(random_secret);
                let template = Template {
                    access,
                    secret: secret.clone(),
                    genesis: chain.execution,
                    datadir: datadir.clone(),
                    storage,
                };
                let ports = Ports {
                    http,
                    engine,
                    lasting: Lasting::default(),
                };
                let open = move |ports| open_execution(template.clone(), ports);
                let embedded = EmbeddedClient::start(ports, open).await?;
                let url = Endpoint::new(embedded.ports().engine);
                let pool = None;
                (Some(embedded), ExecutionEndpoint { url, secret, pool })
            }
        };
        let started = Node::start(NodeConfig {
            name,
            genesis: Arc::clone(&chain.genesis),
            cancun_time,
            key,
            fee_address,
            identity,
            listen,
            bootnodes,
            datadir,
            storage,
            execution,
            fresh_votes,
            observer,
            interceptor: Default::default(),
            mailboxes: Default::default(),
            stranger_places: None,
            limits: Default::default(),
            queued_events: None,
            planted_bug: Default::default(),
        });
        match started.await {
            Ok(node) => {
                if let Some(embedded) = &embedded {
                    let lasting = &embedded.ports().lasting;
                    metrics::register_requests(node.metrics(), lasting.requests());
                    lasting.set_node(Arc::new(node.view()));
                }
                Ok(Host { node, embedded })
            }
            Err(error) => {
                stop_execution(embedded).await;
                Err(node_error(error))
            }
        }
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The view of this host for a metrics server; see [`Node::monitor`].
    pub fn monitor(&self, label: Option<String>) -> Monitor {
        self.node.monitor(label)
    }

    /// Address of the JSON-RPC for wallets, with the actual port.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.embedded
            .as_ref()
            .and_then(|embedded| embedded.ports().http)
    }

    /// Stops the node within `deadline`, then the execution client. True when no work was
    /// abandoned.
    pub async fn stop(self, deadline: Duration) -> bool {
        let report = self.node.shutdown(deadline).await;
        for abandoned in &report.abandoned {
            tracing::warn!(?abandoned, "abandoned at the stop");
        }
        stop_execution(self.embedded).await && report.is_clean()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// The parts of an embedded execution client that all its incarnations share.
#[derive(Clone)]
struct Template {
    access: Access,
    secret: JwtSecret,
    genesis: alloy_genesis::Genesis,
    datadir: Dir,
    storage: Engine,
}

async fn open_execution(template: Template, ports: Ports) -> Result<ExecutionServer, HostError> {
    let config = ExecutionServerConfig {
        http_addr: ports.http,
        engine_addr: ports.engine,
        jwt_secret: template.secret,
        genesis: template.genesis,
        access: template.access,
        store: open_execution_store(&template.datadir, template.storage)?,
        core: CoreConfig::default(),
        limits: Default::default(),
    };
    let server = ExecutionServer::start_again(config, ports.lasting).await;
    server.map_err(execution_error)
}

fn open_execution_store(datadir: &Dir, engine: Engine) -> Result<Store, HostError> {
    let dir = datadir.sub(keys::EXECUTION_STORE)?;
    let opened = alys_runtime::blocking(|| alys_storage::open(engine, &dir));
    opened.map_err(|source| match source {
        alys_storage::Error::Corrupt { .. } => HostError::Rebuild {
            path: dir.path().to_owned(),
            source,
        },
        source => HostError::Storage(source),
    })
}

/// Refuses an execution client of another chain. One that does not answer may still be starting.
async fn check_remote(endpoint: &ExecutionEndpoint, spec: &ChainSpec) -> Result<(), HostError> {
    let client = HttpEngine::new(endpoint.url.clone(), endpoint.secret.clone());
    let addr = endpoint.url.addr();
    let found = async { Ok((client.genesis_hash().await?, client.chain_id().await?)) };
    match found.await {
        Ok((found, _)) if Hash::from(found) != spec.execution_genesis_hash => {
            Err(HostError::OtherExecution {
                addr,
                found: found.into(),
                expected: spec.execution_genesis_hash,
            })
        }
        Ok((_, found)) if found != spec.evm_chain_id => Err(HostError::OtherChainId {
            addr,
            found,
            expected: spec.evm_chain_id,
        }),
        Ok(_) => Ok(()),
        Err(error @ ExecutionError::Auth { .. }) => Err(HostError::Remote(error)),
        Err(error) => {
            tracing::warn!(
                %error,
                "the execution client does not answer yet; the node starts and asks again"
            );
            Ok(())
        }
    }
}

async fn stop_execution(embedded: Option<EmbeddedClient>) -> bool {
    match embedded {
        Some(embedded) => embedded.stop().await,
        None => true,
    }
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
            HostError::PortInUse {
                addr,
                purpose: name,
            }
        }
        error => HostError::Execution(error),
    }
}

fn node_error(error: StartError) -> HostError {
    match error {
        StartError::Network(SetupError::Listen { addr, source })
            if source.kind() == io::ErrorKind::AddrInUse =>
        {
            HostError::PortInUse {
                addr,
                purpose: "peers",
            }
        }
        error => HostError::Node(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::layout::{self, Wanted, loopback};
    use alys_runtime::net::Listener;

    /// The error of starting the only validator of a new chain with the changed configuration.
    fn refusal<F>(change: impl FnOnce(HostConfig) -> F + Send + 'static) -> HostError
    where
        F: Future<Output = (HostConfig, Box<dyn Send>)> + Send,
    {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("dev");
        alys_runtime::block_on_main(async move {
            let dir = Dir::open(path).expect("a directory");
            let wanted = Wanted {
                validators: Some(1),
                ..Wanted::default()
            };
            let network = layout::open_or_make(&dir, wanted)
                .await
                .expect("an empty directory");
            let config = HostConfig {
                name: "test".to_owned(),
                chain: network.chain.clone(),
                key: Some(network.validators[0].key.clone()),
                fee_address: None,
                listen: loopback(0),
                bootnodes: Vec::new(),
                datadir: network.validators[0].dir.clone(),
                storage: Engine::Redb,
                execution: Execution::Embedded {
                    http: None,
                    engine: loopback(0),
                    access: Access::default(),
                    secret: None,
                },
                observer: None,
            };
            let (config, _kept) = change(config).await;
            Host::start(config)
                .await
                .map(|_| ())
                .expect_err("it cannot start")
        })
    }

    async fn execution_client(
        genesis: alloy_genesis::Genesis,
        jwt_secret: JwtSecret,
    ) -> ExecutionServer {
        ExecutionServer::start(ExecutionServerConfig {
            http_addr: None,
            engine_addr: loopback(0),
            jwt_secret,
            genesis,
            access: Default::default(),
            store: Arc::new(alys_storage::MemoryStore::new()),
            core: CoreConfig::default(),
            limits: Default::default(),
        })
        .await
        .expect("a free port and a good genesis")
    }

    #[test]
    fn an_occupied_port_is_named() {
        let error = refusal(|config| async move {
            let listener = Listener::bind(loopback(0)).await.expect("a free port");
            (
                HostConfig {
                    listen: listener.local_addr(),
                    ..config
                },
                Box::new(listener) as _,
            )
        });
        assert!(
            matches!(
                error,
                HostError::PortInUse {
                    purpose: "peers",
                    ..
                }
            ),
            "{error}"
        );
        let error = refusal(|config| async move {
            let listener = Listener::bind(loopback(0)).await.expect("a free port");
            let http = Some(listener.local_addr());
            let execution = Execution::Embedded {
                http,
                engine: loopback(0),
                access: Access::default(),
                secret: None,
            };
            (
                HostConfig {
                    execution,
                    ..config
                },
                Box::new(listener) as _,
            )
        });
        assert!(matches!(error, HostError::PortInUse { .. }), "{error}");
    }

    #[test]
    fn an_execution_client_with_another_secret_is_refused() {
        let error = refusal(|config| async move {
            let server =
                execution_client(config.chain.execution.clone(), JwtSecret::new([1; 32])).await;
            let execution = Execution::Remote(ExecutionEndpoint {
                url: Endpoint::new(server.engine_addr()),
                secret: JwtSecret::new([2; 32]),
                pool: None,
            });
            (
                HostConfig {
                    execution,
                    ..config
                },
                Box::new(server) as _,
            )
        });
        assert!(
            matches!(error, HostError::Remote(ExecutionError::Auth { .. })),
            "{error}"
        );
        assert!(
            error.to_string().contains("Compare the JWT secret files"),
            "{error}"
        );
    }

    #[test]
    fn an_execution_client_of_another_chain_is_refused() {
        let error = refusal(|config| async move {
            let mut genesis = config.chain.execution.clone();
            genesis.nonce += 1;
            let server = execution_client(genesis, JwtSecret::new([1; 32])).await;
            let execution = Execution::Remote(ExecutionEndpoint {
                url: Endpoint::new(server.engine_addr()),
                secret: JwtSecret::new([1; 32]),
                pool: None,
            });
            (
                HostConfig {
                    execution,
                    ..config
                },
                Box::new(server) as _,
            )
        });
        assert!(matches!(error, HostError::OtherExecution { .. }), "{error}");
    }

    #[test]
    fn a_store_of_another_engine_is_refused() {
        // The simulator refuses sled for a reason of its own.
        if alys_runtime::is_simulated() {
            return;
        }
        let error = refusal(|config| async move {
            let dir = config
                .datadir
                .sub(keys::EXECUTION_STORE)
                .expect("a directory");
            drop(alys_storage::open(Engine::Redb, &dir).expect("an empty directory"));
            (
                HostConfig {
                    storage: Engine::Sled,
                    ..config
                },
                Box::new(()) as _,
            )
        });
        assert!(
            matches!(
                error,
                HostError::Storage(alys_storage::Error::WrongEngine { .. })
            ),
            "{error}"
        );
    }
}
