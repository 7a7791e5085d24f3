//! The embedded execution client of a host, opened again after a failure of its store.
//!
//! After a failed write the state of the store is unknown, so the client refuses every call. The
//! consensus node sees a client that restarts: it continues when the client is back, and resends
//! the blocks that the client lost.

use std::net::SocketAddr;
use std::time::Duration;

use alys_integrations::embedded::rpc::{ExecutionServer, Lasting};
use alys_runtime::JoinHandle;
use alys_runtime::sync::oneshot;
use alys_runtime::time::{self, timeout};

use crate::host::HostError;

/// Time in which the client finishes its requests at a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);
/// Delay before the store is opened again. A read in progress may hold the store for its time
/// limit.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Largest delay. A full or failing disk needs a person, who should not wait long afterwards.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// The addresses of a client, and the other parts that outlive an incarnation.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) engine: SocketAddr,
    pub(crate) lasting: Lasting,
}

/// A running embedded execution client. It also stops when this is dropped.
pub(crate) struct EmbeddedClient {
    ports: Ports,
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<bool>,
}

impl EmbeddedClient {
    /// Opens the client with `open`, now and after each failure of its store, on the same ports.
    ///
    /// # Errors
    /// The error of the first opening. Later ones are logged, and the opening is repeated.
    pub(crate) async fn start<O, F>(ports: Ports, open: O) -> Result<Self, HostError>
    where
        O: Fn(Ports) -> F + Send + Sync + 'static,
        F: Future<Output = Result<ExecutionServer, HostError>> + Send + 'static,
    {
        let server = open(ports.clone()).await?;
        let ports = Ports {
            http: server.http_addr(),
            engine: server.engine_addr(),
            lasting: ports.lasting,
        };
        let (stop, stopped) = oneshot::channel();
        let supervisor = supervise(server, ports.clone(), open, stopped);
        Ok(Self {
            ports,
            stop,
            supervisor: alys_runtime::spawn("execution-supervisor", supervisor),
        })
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Finishes the requests in progress. True when no work was abandoned.
    pub(crate) async fn stop(self) -> bool {
        // The supervisor has ended only if it panicked.
        let _ = self.stop.send(());
        self.supervisor.await.unwrap_or(false)
    }
}

async fn supervise<O, F>(
    mut server: ExecutionServer,
    ports: Ports,
    open: O,
    mut stopped: oneshot::Receiver<()>,
) -> bool
where
    O: Fn(Ports) -> F + Send + Sync + 'static,
    F: Future<Output = Result<ExecutionServer, HostError>> + Send + 'static,
{
    let mut delay = FIRST_DELAY;
    let mut opened = time::now();
    loop {
        alys_runtime::select! {
            _ = &mut stopped => return stop_server(server).await,
            () = server.failure() => {}
        }
        if time::now().saturating_duration_since(opened) > MAX_DELAY {
            delay = FIRST_DELAY;
        }
        tracing::warn!(
            again_in = ?delay,
            "the embedded execution client closes after a failure of its store, and opens again"
        );
        stop_server(server).await;
        server = loop {
            alys_runtime::select! {
                _ = &mut stopped => return true,
                () = time::sleep(delay) => {}
            }
            delay = delay.saturating_mul(2).min(MAX_DELAY);
            match open(ports.clone()).await {
                Ok(server) => break server,
                Err(error) => tracing::warn!(
                    %error, again_in = ?delay,
                    "the embedded execution client cannot open again yet"
                ),
            }
        };
        opened = time::now();
        tracing::info!("the embedded execution client is open again");
    }
}

async fn stop_server(server: ExecutionServer) -> bool {
    let is_clean = timeout(STOP_TIMEOUT, server.stop()).await.is_ok();
    if !is_clean {
        tracing::warn!("the embedded execution client did not finish its requests in time");
    }
    is_clean
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use alloy_primitives::B256;
    use alloy_rpc_types_engine::{ForkchoiceState, PayloadAttributes};
    use alys_integrations::embedded::ExecutionServerConfig;
    use alys_integrations::execution::{ExecutionClient, HttpEngine, PayloadFork};
    use alys_integrations::http::JwtSecret;
    use alys_runtime::disk::Dir;
    use alys_storage::{Batch, Direction, Durability, Error, KeyValue, MemoryStore, Store, Table};

    use super::*;
    use crate::dev::layout::{self, Wanted, loopback};

    /// A store whose disk is full for a while.
    #[derive(Debug)]
    struct FullDisk {
        inner: MemoryStore,
        is_full: AtomicBool,
    }

    impl KeyValue for FullDisk {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
            self.inner.get(table, key)
        }

        fn range(
            &self,
            table: Table,
            start: &[u8],
            end: &[u8],
            direction: Direction,
            limit: usize,
        ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
            self.inner.range(table, start, end, direction, limit)
        }

        fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(Error::Io {
                    operation: "write",
                    reason: "No space left on device".to_owned(),
                });
            }
            self.inner.write(batch, durability)
        }
    }

    #[test]
    fn a_client_whose_store_failed_is_opened_again_on_its_ports() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("dev");
        alys_runtime::block_on_main(async move {
            let dir = Dir::open(path).expect("a directory");
            let network = layout::open_or_make(&dir, Wanted::default()).await;
            let genesis = network.expect("an empty directory").chain.execution.clone();
            let is_deneb = genesis.config.cancun_time.is_some();
            let store = Arc::new(FullDisk {
                inner: MemoryStore::new(),
                is_full: AtomicBool::new(false),
            });
            let openings = Arc::new(AtomicU32::new(0));
            let secret = JwtSecret::new([1; 32]);
            let open = {
                let (store, openings) = (store.clone(), openings.clone());
                let secret = secret.clone();
                move |ports: Ports| {
                    let config = ExecutionServerConfig {
                        http_addr: ports.http,
                        engine_addr: ports.engine,
                        jwt_secret: secret.clone(),
                        genesis: genesis.clone(),
                        access: Default::default(),
                        store: store.clone() as Store,
                        core: Default::default(),
                        limits: Default::default(),
                    };
                    // The second opening finds the disk still full.
                    let opening = openings.fetch_add(1, Ordering::SeqCst);
                    store.is_full.fetch_and(opening == 1, Ordering::SeqCst);
                    async move {
                        if opening == 1 {
                            return Err(HostError::Storage(Error::Io {
                                operation: "open",
                                reason: "No space left on device".to_owned(),
                            }));
                        }
                        let server = ExecutionServer::start_again(config, ports.lasting).await;
                        server.map_err(HostError::Execution)
                    }
                }
            };
            let ports = Ports {
                http: None,
                engine: loopback(0),
                lasting: Lasting::default(),
            };
            let client = EmbeddedClient::start(ports, open).await.expect("opens");
            let engine = HttpEngine::new(client.ports().engine, secret);
            let head = engine.genesis_hash().await.expect("block 0");
            let root = B256::with_last_byte(1);
            let attributes = PayloadAttributes {
                timestamp: alys_runtime::clock::wall_ms() / 1000 + 60,
                withdrawals: Some(Vec::new()),
                parent_beacon_block_root: is_deneb.then_some(root),
                ..PayloadAttributes::default()
            };
            let fork = PayloadFork::of_attributes(&attributes);
            let state = ForkchoiceState::same_hash(head);
            let started = engine.forkchoice_updated(state, Some(attributes)).await;
            let id = started.expect("a build").payload_id.expect("a build");
            let payload = engine.get_payload(fork, id).await.expect("built").payload;

            store.is_full.store(true, Ordering::SeqCst);
            let failed = engine.new_payload(payload.clone(), root).await;
            assert!(failed.is_err(), "{failed:?}");
            let healed = async {
                loop {
                    match engine.new_payload(payload.clone(), root).await {
                        Ok(status) => return status,
                        Err(_) => time::sleep(Duration::from_millis(100)).await,
                    }
                }
            };
            let status = timeout(Duration::from_secs(30), healed).await;
            assert!(status.expect("it heals").is_valid());
            assert_eq!(openings.load(Ordering::SeqCst), 3);
            assert!(client.stop().await);
        });
    }
}
