//! Limits of the embedded client. Caches hold two generations of the stated size.

/// Cached trie nodes, decoded. A node has about half a kilobyte.
pub const NODE_CACHE: usize = 16_384;
/// Cached contract codes, of at most 24 KiB each.
pub const CODE_CACHE: usize = 128;
/// Cached headers. Covers the 256 ancestors that BLOCKHASH can read.
pub const HEADER_CACHE: usize = 512;
/// Cached blocks with receipts. Reorganisations and wallets read the newest ones.
pub const BLOCK_CACHE: usize = 16;
/// Cached hashes of invalid blocks.
pub const INVALID_CACHE: usize = 1_024;
/// Payload builds; a new one replaces the oldest.
pub const PAYLOAD_JOBS: usize = 16;
/// Logs in one answer, as in Reth. About 20 MB of JSON at 1 KB a log, below the limit of an answer.
pub const LOG_RESULTS: usize = 20_000;
/// Bytes of the logs in one answer. As JSON they take up to three times as much.
pub const LOG_RESULT_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a log without its data: address, topics, and its place in the chain.
pub const LOG_BYTES: usize = 256;
/// Addresses, and topics, in one filter, as in Geth. A search compares a bloom for each of them in
/// every block.
pub const FILTER_CONDITIONS: usize = 1_000;
/// Blocks in one `eth_feeHistory`, as in Geth.
pub const FEE_HISTORY_BLOCKS: u64 = 1_024;
/// Percentiles in one `eth_feeHistory`, as in Geth.
pub const FEE_HISTORY_PERCENTILES: usize = 100;
/// Payload bodies in one answer. The Engine API requires at least 32.
pub const PAYLOAD_BODIES: u64 = 128;
/// Storage keys in one `eth_getProof`.
pub const PROOF_KEYS: usize = 1_024;
/// Encoded bytes of a transaction in the pool, as in Geth.
pub const TRANSACTION_BYTES: usize = 128 * 1024;
/// Encoded bytes of the pool's transactions that are saved per fork choice. More would delay its
/// answer; the rest is saved by the next.
pub const JOURNAL_BYTES: usize = 1024 * 1024;
/// Bytes of the JSON of the pool in one answer. A node reads the pool several times a second, so
/// more would take a notable share of a core.
pub const POOL_JSON_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of the JSON of a transaction beside the hex of its encoding.
pub const TRANSACTION_JSON_BYTES: usize = 800;
/// Side blocks pruned per fork choice; further ones are pruned by the next.
pub const PRUNE_BATCH: usize = 256;
/// Transactions in the pool when the simulator makes it small.
pub const SMALL_POOL: usize = 4;
/// Maximum and default gas of a call.
pub const CALL_GAS: u64 = 50_000_000;
/// Encoded bytes of the transactions of a built block. The node's block limit is 8 MiB, and JSON
/// doubles the size by hex.
pub const PAYLOAD_BYTES: usize = 2 * 1024 * 1024;
/// Blocks of the canonical index per batch when the head moves far.
pub const ROUTE_STEP: usize = 128;
/// Ancestors that BLOCKHASH can read.
pub const BLOCK_HASHES: usize = 256;
