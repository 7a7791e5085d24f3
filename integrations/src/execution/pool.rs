//! Reads the pool of an execution client by the methods that it serves, within a budget of bytes.
//!
//! | client | port | methods |
//! |---|---|---|
//! | Geth | either | `eth_newPendingTransactionFilter`, `eth_getRawTransactionByHash` |
//! | Reth | public | the same |
//! | ethrex, EthereumJS | public | `txpool_content` |
//! | embedded | either | `txpool_content`, which it bounds |
//!
//! A filter reports the hashes of new transactions, each of which is fetched once, so the cost of a
//! read depends on the transactions that have arrived since the last one and not on the whole pool.
//!
//! Transactions whose fee cap is below the base fee of the next block are not offered: to send them
//! costs nothing while no block can include them, so a flood of them would spend the budgets of the
//! gossip. They are offered once the base fee has fallen. The base fee is read by
//! `eth_feeHistory`; if the client does not serve it, every transaction is offered.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{B256, Bytes, U256, keccak256};
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
/// Bytes fetched per read: as many as the node may broadcast until the next read.
const FETCHED_BYTES: usize = 1 << 20;
/// Time spent on fetching per read; the rest follows at the next one.
const FETCH_BUDGET: Duration = Duration::from_millis(500);

/// Source of the pool's transactions.
#[derive(Debug, Default)]
enum Source {
    /// Not determined yet.
    #[default]
    Unknown,
    /// The filter with this id.
    Filter(Value),
    /// The whole content at each read.
    Content,
}

/// A transaction of the pool.
#[derive(Debug)]
struct Pooled {
    hash: B256,
    raw: Bytes,
    /// Largest base fee at which a block can include it, in wei.
    fee_cap: u128,
}

impl Pooled {
    fn new(transaction: &TxEnvelope, raw: Bytes) -> Self {
        Self {
            hash: *transaction.tx_hash(),
            raw,
            fee_cap: transaction.max_fee_per_gas(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct PoolReader {
    source: Source,
    /// Hashes to fetch, oldest first.
    backlog: VecDeque<B256>,
    /// Fetched transactions, oldest first.
    recent: VecDeque<Pooled>,
    recent_bytes: usize,
}

impl PoolReader {
    /// At most `limit` transactions of the pool that can pay the base fee of the next block,
    /// EIP-2718 encoded.
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
                if self.recent.is_empty() {
                    return Ok(Vec::new());
                }
                let base_fee = next_base_fee(http).await?;
                let payers = self.recent.iter().filter(|tx| tx.fee_cap >= base_fee);
                let payers: Vec<Bytes> = payers.map(|tx| tx.raw.clone()).collect();
                let skipped = payers.len().saturating_sub(limit);
                Ok(payers[skipped..].to_vec())
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
            // The filter reports later transactions only. The pending block of the client, if it
            // has one, includes the best of the earlier ones.
            let pending = call::<PendingBlock>(http, "eth_getBlockByNumber", ("pending", false));
            if let Ok(mut block) = pending.await {
                let is_fetched = |hash: &B256| self.recent.iter().any(|tx| tx.hash == *hash);
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
            // Mined or dropped in the meantime, or in another form, as those with blobs are. Peers
            // would refuse a transaction of an unknown type as malformed.
            let raw = raw.filter(|raw| keccak256(raw) == hash).unwrap_or_default();
            fetched += raw.len();
            if let Ok(transaction) = TxEnvelope::decode_2718_exact(&raw) {
                self.keep(Pooled::new(&transaction, raw));
            }
        }
        Ok(())
    }

    fn keep(&mut self, transaction: Pooled) {
        self.recent_bytes += transaction.raw.len();
        self.recent.push_back(transaction);
        while (self.recent_bytes > RECENT_BYTES || self.recent.len() > RECENT)
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_bytes -= oldest.raw.len();
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
        if content.pending.is_empty() {
            return Ok(Vec::new());
        }
        let base_fee = next_base_fee(http).await?;
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
            let can_pay = tx.inner.max_fee_per_gas() >= base_fee;
            can_pay.then(|| Bytes::from(tx.inner.encoded_2718()))
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

/// The base fee of the next block in wei; 0 if the client does not report it.
async fn next_base_fee(http: &HttpClient) -> Result<u128, ExecutionError> {
    let no_rewards: [f64; 0] = [];
    match call::<FeeHistory>(http, "eth_feeHistory", ("0x1", "latest", no_rewards)).await {
        Ok(history) => {
            let next = history.base_fee_per_gas.last().copied().unwrap_or_default();
            Ok(next.saturating_to())
        }
        Err(ExecutionError::Rpc { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &ExecutionError) -> bool {
    matches!(error, ExecutionError::Rpc { error, .. } if error.code == RpcError::METHOD_NOT_FOUND)
}

/// The base fees of the newest block and of the next one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FeeHistory {
    base_fee_per_gas: Vec<U256>,
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

    use alloy_consensus::{SignableTransaction as _, TxEip1559};
    use alloy_primitives::Signature;
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
        /// Transactions that the filter has reported.
        reported: usize,
        filter: Option<u64>,
        filters: u64,
        /// Of the next block; `None` for a client that does not report it.
        base_fee: Option<u128>,
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
                    client.reported = client.pool.len();
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
                    let reported = std::mem::replace(&mut client.reported, total);
                    let new = client.pool[reported..].iter();
                    Ok(json!(new.map(|(hash, _)| *hash).collect::<Vec<B256>>()))
                }
                "eth_getRawTransactionByHash" => {
                    let hash: B256 = Args::new(params, 1)?.required()?;
                    let found = client.pool.iter().find(|(known, _)| *known == hash);
                    Ok(json!(found.map(|(_, raw)| raw)))
                }
                "eth_feeHistory" => match client.base_fee {
                    Some(next) => Ok(json!({ "baseFeePerGas": ["0x1", format!("{next:#x}")] })),
                    None => Err(RpcError::method_not_found(method)),
                },
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

    /// A server with this handler, and its client.
    async fn serve(handler: impl RpcHandler) -> (HttpServer, HttpClient) {
        let config = ServerConfig::new("pool");
        let server = HttpServer::bind(LOCAL, config, Arc::new(handler)).await;
        let server = server.unwrap();
        let http = HttpClient::new(ClientConfig::new(server.local_addr()));
        (server, http)
    }

    /// A transaction of this size.
    fn raw(mark: u8, bytes: usize) -> Bytes {
        let with_input = |length: usize| encoded(1, vec![mark; length].into());
        let rest = with_input(bytes).len() - bytes;
        with_input(bytes - rest)
    }

    fn encoded(fee_cap: u128, input: Bytes) -> Bytes {
        let transaction = TxEip1559 {
            max_fee_per_gas: fee_cap,
            input,
            ..TxEip1559::default()
        };
        let signature = Signature::new(U256::from(1), U256::from(2), false);
        let transaction = TxEnvelope::from(transaction.into_signed(signature));
        transaction.encoded_2718().into()
    }

    #[test]
    fn a_filter_reports_new_transactions_and_each_is_fetched_once() {
        block_on_main(async {
            let geth = Geth::default();
            let (_server, http) = serve(geth.clone()).await;
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
            let (_server, http) = serve(geth.clone()).await;
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

    /// A flood that no block can include is not passed on.
    #[test]
    fn transactions_below_the_next_base_fee_are_not_offered() {
        block_on_main(async {
            let geth = Geth::default();
            let (_server, http) = serve(geth.clone()).await;
            let mut reader = PoolReader::default();
            let of = |fee_cap: u128| encoded(fee_cap, Bytes::new());
            for transaction in [of(6), of(7), of(8)] {
                geth.add(transaction);
            }
            // Of a type that peers refuse.
            geth.add(vec![0x7e; 100].into());
            for (base_fee, limit, offered) in [
                (Some(7), 10, vec![of(7), of(8)]),
                (Some(9), 10, vec![]),
                (Some(0), 10, vec![of(6), of(7), of(8)]),
                (Some(7), 1, vec![of(8)]),
                (None, 10, vec![of(6), of(7), of(8)]),
            ] {
                geth.0.lock().unwrap().base_fee = base_fee;
                let read = reader.read(&http, limit).await.unwrap();
                assert_eq!(read, offered, "{base_fee:?}");
            }
        });
    }

    #[test]
    fn a_client_that_serves_no_pool_is_named_with_the_remedy() {
        block_on_main(async {
            let (_server, http) = serve(Silent).await;
            let error = PoolReader::default().read(&http, 10).await.unwrap_err();
            assert!(matches!(error, ExecutionError::PoolNotServed), "{error}");
            assert!(error.to_string().contains("pool_url"), "{error}");
        });
    }
}
