//! Reads the pool of an execution client by the methods that it serves, within a budget of bytes.
//!
//! | client | port | methods |
//! |---|---|---|
//! | Geth | either | `eth_newPendingTransactionFilter`, `eth_getRawTransactionByHash` |
//! | Reth | public | the same |
//! | EthereumJS, embedded | either | `txpool_content`, which the embedded client bounds |
//!
//! A filter tells hashes of new transactions, each of which is fetched once, so a read costs what
//! has arrived since the last one and not the whole pool.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alloy_eips::Encodable2718;
use alloy_primitives::{B256, Bytes, keccak256};
use alys_runtime::time;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ExecutionError;
use crate::http::{HttpClient, RpcError};

/// Bytes of the transactions that are offered at each read. The node broadcasts them within
/// seconds, so the older ones make room.
const RECENT_BYTES: usize = 4 << 20;
/// Transactions that are offered at each read.
const RECENT: usize = 4096;
/// Hashes to fetch. With more, the client takes transactions faster than peers would; the oldest
/// are dropped, which other clients may have.
const BACKLOG: usize = 16 * 1024;
/// Bytes fetched per read: what the node may broadcast until the next read.
const FETCHED_BYTES: usize = 1 << 20;
/// Time spent on fetching per read; the rest follows at the next one.
const FETCH_BUDGET: Duration = Duration::from_millis(500);

/// Source of the pool's transactions.
#[derive(Debug, Default)]
enum Source {
    /// To be found out.
    #[default]
    Unknown,
    /// The filter with this id.
    Filter(Value),
    /// The whole content at each read.
    Content,
}

#[derive(Debug, Default)]
pub(super) struct PoolReader {
    source: Source,
    /// Hashes to fetch, oldest first.
    backlog: VecDeque<B256>,
    /// Fetched transactions, oldest first.
    recent: VecDeque<(B256, Bytes)>,
    recent_bytes: usize,
}

impl PoolReader {
    /// At most `limit` transactions of the pool, EIP-2718 encoded.
    pub(super) async fn read(
        &mut self,
        http: &HttpClient,
        limit: usize,
    ) -> Result<Vec<Bytes>, ExecutionError> {
        if matches!(self.source, Source::Unknown) {
            self.open(http).await?;
        }
        match &self.source {
            Source::Filter(id) => {
                let id = id.clone();
                self.read_filter(http, id).await?;
                let skipped = self.recent.len().saturating_sub(limit);
                let offered = self.recent.iter().skip(skipped);
                Ok(offered.map(|(_, raw)| raw.clone()).collect())
            }
            Source::Content => self.read_content(http, limit).await,
            Source::Unknown => Ok(Vec::new()),
        }
    }

    /// Opens a filter, or else chooses the content.
    async fn open(&mut self, http: &HttpClient) -> Result<(), ExecutionError> {
        let opened = call(http, "eth_newPendingTransactionFilter", NO_PARAMS).await;
        self.source = match opened {
            Ok(id) => Source::Filter(id),
            Err(error) if is_missing(&error) => Source::Content,
            Err(error) => return Err(error),
        };
        if matches!(self.source, Source::Filter(_)) {
            // The filter tells later transactions only. Of the earlier ones the client includes the
            // best in its pending block, which it may not have.
            let pending = call::<PendingBlock>(http, "eth_getBlockByNumber", ("pending", false));
            if let Ok(mut block) = pending.await {
                let is_fetched = |hash: &B256| self.recent.iter().any(|(known, _)| known == hash);
                block.transactions.retain(|hash| !is_fetched(hash));
                self.backlog.extend(block.transactions);
            }
        }
        Ok(())
    }

    async fn read_filter(&mut self, http: &HttpClient, id: Value) -> Result<(), ExecutionError> {
        match call::<Vec<B256>>(http, "eth_getFilterChanges", (id,)).await {
            Ok(hashes) => self.backlog.extend(hashes),
            // The client restarted and forgot the filter: the next read opens another one.
            Err(ExecutionError::Rpc { .. }) => self.source = Source::Unknown,
            Err(error) => return Err(error),
        }
        let excess = self.backlog.len().saturating_sub(BACKLOG);
        self.backlog.drain(..excess);
        let begun = time::now();
        let mut fetched = 0;
        while fetched < FETCHED_BYTES
            && time::now().saturating_duration_since(begun) < FETCH_BUDGET
            && let Some(hash) = self.backlog.front().copied()
        {
            let raw = call::<Option<Bytes>>(http, "eth_getRawTransactionByHash", (hash,)).await;
            let raw = match raw {
                Ok(raw) => raw,
                Err(error) if is_missing(&error) => {
                    self.source = Source::Content;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            self.backlog.pop_front();
            // Mined or dropped in the meantime, or in another form, as those with blobs are.
            if let Some(raw) = raw.filter(|raw| keccak256(raw) == hash) {
                fetched += raw.len();
                self.keep(hash, raw);
            }
        }
        Ok(())
    }

    fn keep(&mut self, hash: B256, raw: Bytes) {
        self.recent_bytes += raw.len();
        self.recent.push_back((hash, raw));
        while (self.recent_bytes > RECENT_BYTES || self.recent.len() > RECENT)
            && let Some((_, oldest)) = self.recent.pop_front()
        {
            self.recent_bytes -= oldest.len();
        }
    }

    async fn read_content(
        &mut self,
        http: &HttpClient,
        limit: usize,
    ) -> Result<Vec<Bytes>, ExecutionError> {
        let content: WirePool = match call(http, "txpool_content", NO_PARAMS).await {
            Err(error) if is_missing(&error) => {
                // Another client may answer next time.
                self.source = Source::Unknown;
                return Err(ExecutionError::PoolNotServed);
            }
            content => content?,
        };
        let of_senders = content.pending.into_values().flat_map(|by_nonce| {
            let mut ordered: Vec<_> = by_nonce
                .into_iter()
                .filter_map(|(n, tx)| Some((n.parse::<u64>().ok()?, tx)))
                .collect();
            ordered.sort_by_key(|(nonce, _)| *nonce);
            ordered
        });
        // Entries that are not standard transactions are extensions of the client and are skipped.
        let encoded = of_senders.filter_map(|(_, tx)| {
            let tx: alloy_rpc_types_eth::Transaction = serde_json::from_value(tx).ok()?;
            Some(Bytes::from(tx.inner.encoded_2718()))
        });
        Ok(encoded.take(limit).collect())
    }
}

const NO_PARAMS: [u8; 0] = [];

async fn call<R: DeserializeOwned>(
    http: &HttpClient,
    method: &'static str,
    params: impl serde::Serialize,
) -> Result<R, ExecutionError> {
    http.call(method, params)
        .await
        .map_err(|error| ExecutionError::from_call(method, error))
}

fn is_missing(error: &ExecutionError) -> bool {
    matches!(error, ExecutionError::Rpc { error, .. } if error.code == RpcError::METHOD_NOT_FOUND)
}

#[derive(Deserialize)]
struct PendingBlock {
    transactions: Vec<B256>,
}

/// `txpool_content`: transactions by sender and decimal nonce.
#[derive(Deserialize)]
struct WirePool {
    #[serde(default)]
    pending: BTreeMap<String, BTreeMap<String, Value>>,
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use alys_runtime::block_on_main;
    use serde_json::json;

    use super::*;
    use crate::http::{Args, ClientConfig, HttpServer, RpcHandler, ServerConfig};

    const LOCAL: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// A client with a pool, its filter, and the calls that it got.
    #[derive(Default)]
    struct Client {
        pool: Vec<(B256, Bytes)>,
        /// Transactions that the filter has told.
        told: usize,
        filter: Option<u64>,
        filters: u64,
        calls: BTreeMap<String, usize>,
    }

    #[derive(Clone, Default)]
    struct Geth(Arc<Mutex<Client>>);

    impl Geth {
        fn add(&self, raw: Bytes) {
            self.0.lock().unwrap().pool.push((keccak256(&raw), raw));
        }
    }

    impl RpcHandler for Geth {
        async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
            let mut client = self.0.lock().unwrap();
            *client.calls.entry(method.to_owned()).or_default() += 1;
            match method {
                "eth_newPendingTransactionFilter" => {
                    client.filters += 1;
                    client.told = client.pool.len();
                    client.filter = Some(client.filters);
                    Ok(json!(format!("0x{:x}", client.filters)))
                }
                "eth_getBlockByNumber" => {
                    let hashes: Vec<B256> = client.pool.iter().map(|(hash, _)| *hash).collect();
                    Ok(json!({ "transactions": hashes }))
                }
                "eth_getFilterChanges" => {
                    let id: String = Args::new(params, 1)?.required()?;
                    if client.filter.map(|id| format!("0x{id:x}")) != Some(id) {
                        return Err(RpcError::server("filter not found"));
                    }
                    let total = client.pool.len();
                    let told = std::mem::replace(&mut client.told, total);
                    let new = client.pool[told..].iter();
                    Ok(json!(new.map(|(hash, _)| *hash).collect::<Vec<B256>>()))
                }
                "eth_getRawTransactionByHash" => {
                    let hash: B256 = Args::new(params, 1)?.required()?;
                    let found = client.pool.iter().find(|(known, _)| *known == hash);
                    Ok(json!(found.map(|(_, raw)| raw)))
                }
                _ => Err(RpcError::method_not_found(method)),
            }
        }
    }

    /// A client that serves none of the methods, as Reth on the port of its Engine API.
    struct Silent;

    impl RpcHandler for Silent {
        async fn handle(&self, method: &str, _: Value) -> Result<Value, RpcError> {
            Err(RpcError::method_not_found(method))
        }
    }

    fn raw(mark: u8, bytes: usize) -> Bytes {
        vec![mark; bytes].into()
    }

    #[test]
    fn a_filter_tells_new_transactions_and_each_is_fetched_once() {
        block_on_main(async {
            let geth = Geth::default();
            let server = HttpServer::bind(LOCAL, ServerConfig::new("geth"), Arc::new(geth.clone()));
            let server = server.await.unwrap();
            let http = HttpClient::new(ClientConfig::new(server.local_addr()));
            let mut reader = PoolReader::default();
            geth.add(raw(1, 100));
            assert_eq!(reader.read(&http, 10).await.unwrap(), [raw(1, 100)]);
            geth.add(raw(2, 100));
            let both = [raw(1, 100), raw(2, 100)];
            assert_eq!(reader.read(&http, 10).await.unwrap(), both);
            assert_eq!(reader.read(&http, 10).await.unwrap(), both);
            assert_eq!(reader.read(&http, 1).await.unwrap(), both[1..]);
            let fetches = geth.0.lock().unwrap().calls["eth_getRawTransactionByHash"];
            assert_eq!(fetches, 2);
            // The client restarts: another filter replaces the forgotten one.
            geth.0.lock().unwrap().filter = None;
            reader.read(&http, 10).await.unwrap();
            reader.read(&http, 10).await.unwrap();
            geth.add(raw(3, 100));
            let all = [raw(1, 100), raw(2, 100), raw(3, 100)];
            assert_eq!(reader.read(&http, 10).await.unwrap(), all);
            assert!(!geth.0.lock().unwrap().calls.contains_key("txpool_content"));
        });
    }

    #[test]
    fn a_large_pool_is_read_in_parts_and_kept_within_the_budget() {
        block_on_main(async {
            let geth = Geth::default();
            let server = HttpServer::bind(LOCAL, ServerConfig::new("geth"), Arc::new(geth.clone()));
            let server = server.await.unwrap();
            let http = HttpClient::new(ClientConfig::new(server.local_addr()));
            let mut reader = PoolReader::default();
            (0..64).for_each(|mark| geth.add(raw(mark, 128 << 10)));
            let mut reads = 0;
            let mut offered = Vec::new();
            while offered.last() != Some(&raw(63, 128 << 10)) {
                let before = reader.backlog.len();
                offered = reader.read(&http, 10_000).await.unwrap();
                let fetched = before.max(64) - reader.backlog.len();
                assert!(reads > 0 || fetched <= 8, "{fetched} in one read");
                assert!(reader.recent_bytes <= RECENT_BYTES);
                reads += 1;
            }
            assert!(reads >= 8, "8 MiB in {reads} reads");
            assert_eq!(offered.len(), 32);
        });
    }

    #[test]
    fn a_client_that_serves_no_pool_is_named_with_the_remedy() {
        block_on_main(async {
            let server = HttpServer::bind(LOCAL, ServerConfig::new("reth"), Arc::new(Silent));
            let server = server.await.unwrap();
            let http = HttpClient::new(ClientConfig::new(server.local_addr()));
            let error = PoolReader::default().read(&http, 10).await.unwrap_err();
            assert!(matches!(error, ExecutionError::PoolNotServed), "{error}");
            assert!(error.to_string().contains("pool_url"), "{error}");
        });
    }
}
