//! Merged mining for people: the JSON-RPC of pools and miners (rule 4.7), and a CPU miner for
//! development.
//!
//! Owns the port of miners. Guarantees that its memory and its questions to actors are bounded,
//! that no web page reaches it through a browser, and that every failure is a JSON-RPC error that
//! names the mistake. Works with every execution client, and on nodes that are no authority. Never
//! decides: the AuxPowActor's desk does, from its memory. Blocks are read from the storage.

mod answers;
mod methods;
pub mod miner;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_actor_system::AskError;
use alys_integrations::http::{HttpServer, Login, Pages, ServeError, ServerConfig, Versions};
use alys_runtime::sync::Semaphore;
use alys_types::Genesis;
use alys_types::limits::MAX_AUXPOW_BYTES;

use crate::actors::auxpow;
use crate::actors::storage::{self, BlockQuery, FoundBlock, MAX_BLOCK_READS};

pub use methods::METHODS;
use methods::Methods;

/// The port of V1, at which pools look for the JSON-RPC of miners.
pub const DEFAULT_PORT: u16 = 3000;

/// Largest request: the hex of the largest proof, and as much again as a quarter of it for the rest
/// of a batch.
const MAX_REQUEST_BYTES: usize = 3 * MAX_AUXPOW_BYTES;
/// Largest answer: a block's proof as hex, and a batch of small ones.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// Requests in a batch.
const MAX_BATCH: usize = 100;
/// JSON values in a request: a batch of calls with two parameters has a dozen each.
const MAX_VALUES: usize = 5_000;
/// Bytes of all requests and answers in progress: a dozen of the largest requests.
const MAX_PENDING_BYTES: usize = 24 << 20;
/// Connections: 200 miners, and a few more. With fewer places miners would take them from each
/// other, and a call that is on its way to a closed connection is lost.
const MAX_CONNECTIONS: usize = 256;
/// Lifetime of an idle connection: pools poll every few seconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Settings of the port.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Asked of every caller when set.
    pub login: Option<Login>,
    /// Names under which miners reach the port, beside addresses and localhost.
    pub hosts: Vec<String>,
}

/// A node as miners see it.
#[derive(Clone)]
pub struct Miners {
    pub genesis: Arc<Genesis>,
    pub desk: auxpow::Handle,
    pub blocks: BlockReads,
}

/// Reads of blocks for miners, of a bounded number: further ones wait for their turn.
#[derive(Clone)]
pub struct BlockReads {
    storage: storage::Handle,
    places: Arc<Semaphore>,
}

impl BlockReads {
    pub fn new(storage: storage::Handle) -> BlockReads {
        BlockReads {
            storage,
            places: Arc::new(Semaphore::new(MAX_BLOCK_READS)),
        }
    }

    /// # Errors
    /// The storage does not answer.
    pub async fn find(&self, query: BlockQuery) -> Result<Option<FoundBlock>, AskError> {
        // The semaphore is never closed, and a read without a place would do no harm.
        let _place = self.places.acquire().await.ok();
        self.storage.query_block(query).await
    }
}

/// A running server.
pub struct MiningServer {
    server: HttpServer,
    miners: Arc<Mutex<Option<Miners>>>,
}

impl MiningServer {
    /// Listens on `addr`; port 0 picks a free one. Until [`Self::serve`] the answer to every call
    /// is that the node is starting.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(addr: SocketAddr, settings: Settings) -> Result<MiningServer, ServeError> {
        let Settings { login, hosts } = settings;
        let miners = Arc::<Mutex<Option<Miners>>>::default();
        let config = ServerConfig {
            login,
            versions: Versions::OneAndTwo,
            // A page of any site reaches loopback addresses, and by DNS rebinding reads answers.
            pages: Pages::Refused { hosts },
            max_body_bytes: MAX_REQUEST_BYTES,
            max_response_bytes: MAX_RESPONSE_BYTES,
            max_batch: MAX_BATCH,
            max_values: MAX_VALUES,
            max_pending_bytes: MAX_PENDING_BYTES,
            max_connections: MAX_CONNECTIONS,
            header_timeout: IDLE_TIMEOUT,
            ..ServerConfig::new("mining")
        };
        let methods = Arc::new(Methods::new(miners.clone()));
        let server = HttpServer::bind(addr, config, methods).await?;
        Ok(MiningServer { server, miners })
    }

    /// Serves this node from now on.
    pub fn serve(&self, miners: Miners) {
        *self.miners.lock().unwrap_or_else(PoisonError::into_inner) = Some(miners);
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}
