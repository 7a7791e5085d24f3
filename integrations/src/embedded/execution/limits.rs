//! What the embedded client keeps and answers at most, and why.

/// Trie nodes kept decoded in memory, in two generations of this size. A node is about half a kilobyte.
pub const NODE_CACHE: usize = 16_384;
/// Contract codes kept in memory, two generations. A code is at most 24 KiB.
pub const CODE_CACHE: usize = 128;
/// Headers kept in memory, two generations: covers the 256 ancestors that BLOCKHASH may ask for.
pub const HEADER_CACHE: usize = 512;
/// Blocks with receipts kept in memory, two generations: reorganisations and wallets ask for the newest ones.
pub const BLOCK_CACHE: usize = 16;
/// Hashes of invalid blocks that are remembered, two generations.
pub const INVALID_CACHE: usize = 1_024;
/// Payload builds that can be asked for; the oldest is forgotten first.
pub const PAYLOAD_JOBS: usize = 16;
/// Blocks that one `eth_getLogs` may cover.
pub const LOG_BLOCK_RANGE: u64 = 10_000;
/// Logs in one answer.
pub const LOG_RESULTS: usize = 20_000;
/// Blocks in one `eth_feeHistory`, as in Geth.
pub const FEE_HISTORY_BLOCKS: u64 = 1_024;
/// Percentiles in one `eth_feeHistory`, as in Geth.
pub const FEE_HISTORY_PERCENTILES: usize = 100;
/// Payload bodies in one answer; the Engine API asks for at least 32.
pub const PAYLOAD_BODIES: u64 = 128;
/// Storage keys in one `eth_getProof`.
pub const PROOF_KEYS: usize = 1_024;
/// Encoded size of a transaction in the pool, in bytes, as in Geth.
pub const TRANSACTION_BYTES: usize = 128 * 1024;
/// Side blocks dropped in one step when finality moves past them; the rest goes with the next steps.
pub const PRUNE_BATCH: usize = 256;
/// Transactions in the pool where the simulator makes it small.
pub const SMALL_POOL: usize = 4;
/// Gas of a call when the request states none or more.
pub const CALL_GAS: u64 = 50_000_000;
/// Encoded transactions of a built block, in bytes: the node's block limit is 8 MiB, and the payload travels as hex in JSON.
pub const PAYLOAD_BYTES: usize = 2 * 1024 * 1024;
/// Blocks whose canonical index is written in one batch when the head moves far.
pub const ROUTE_STEP: usize = 128;
/// Ancestors that BLOCKHASH sees.
pub const BLOCK_HASHES: usize = 256;
