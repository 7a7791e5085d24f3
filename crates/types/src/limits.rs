//! Limits that are part of the protocol or bound remote input, each with its reason.

/// Largest encoded block: holds a full block of 30 M gas of calldata (4 gas a byte if all are zero:
/// 7.5 MB) with room.
pub const MAX_BLOCK_BYTES: usize = 8 * 1024 * 1024;
/// Largest encoded vote, with the header and certificate beside a confirmation.
pub const MAX_VOTE_BYTES: usize = 1024;
/// Largest encoded proposal: the largest block and its leader's vote.
pub const MAX_PROPOSAL_BYTES: usize = MAX_BLOCK_BYTES + MAX_VOTE_BYTES;
/// Largest encoded certificate with its header.
pub const MAX_CERTIFICATE_BYTES: usize = 1024;
/// Largest encoded AuxPoW: a coinbase transaction of a mining pool with two branches of 30 levels
/// has a few KiB, and a block with one has to leave room for transactions.
pub const MAX_AUXPOW_BYTES: usize = 512 * 1024;
/// Largest message about a proof of work: the AuxPoW and the range, miner and number beside it.
pub const MAX_WORK_PROOF_BYTES: usize = MAX_AUXPOW_BYTES + 256;
/// Largest encoded status message: two headers with certificates, three votes, and the proof of an
/// authority's key.
pub const MAX_STATUS_BYTES: usize = 4096;
/// Largest answer to a range request: room for one block of the largest size beside others.
pub const MAX_RANGE_BYTES: usize = 2 * MAX_BLOCK_BYTES;
/// Largest message of users' transactions: four of the largest that pools accept (128 KiB).
pub const MAX_TRANSACTIONS_BYTES: usize = 512 * 1024;
/// Most blocks in one range answer: one range of the sync (docs/protocol.md, section 8).
pub const MAX_RANGE_BLOCKS: u64 = 256;
/// Most authorities of a federation: V1's bound; a bitmap fits in two bytes.
pub const MAX_AUTHORITIES: usize = 15;
/// Most withdrawals in a block (Ethereum's `MAX_WITHDRAWALS_PER_PAYLOAD`).
pub const MAX_WITHDRAWALS: usize = 16;
/// Most bytes of extra data in an execution payload (Ethereum's rule).
pub const MAX_EXTRA_DATA_BYTES: usize = 32;
/// Highest `max_gas_limit` of a spec: a block full of zero calldata (4 gas a byte) must fit in
/// [`MAX_BLOCK_BYTES`].
pub const MAX_GAS_LIMIT: u64 = 30_000_000;
/// Most transactions in a block: those that use the least gas, 21,000.
pub const MAX_BLOCK_TRANSACTIONS: usize = MAX_GAS_LIMIT as usize / 21_000;
/// Largest encoded receipts of a block: 3.75 MB of log data in a full block (8 gas a byte) with
/// room. Every other byte of a receipt costs more gas.
pub const MAX_RECEIPTS_BYTES: usize = 4 * 1024 * 1024;
/// Lowest `max_gas_limit` of a spec: Ethereum's clients start from it.
pub const MIN_GAS_LIMIT: u64 = 5_000_000;
/// Shortest slot, in milliseconds: a proposal and its approvals cross the network within it.
pub const MIN_SLOT_DURATION_MS: u64 = 1000;
/// Longest slot, in milliseconds: a leader's turn that is missed costs its length.
pub const MAX_SLOT_DURATION_MS: u64 = 60_000;
/// Largest distance, in blocks, between a body and the ancestor whose finality it shows. Nodes keep
/// headers and sets of that many final blocks in memory, so that validity does not depend on
/// pruning.
pub const FINALITY_WINDOW: u64 = 1024;
/// Most finality certificates in a body: one for an AuxPoW range's end, one for a federation
/// change.
pub const MAX_BODY_CERTIFICATES: usize = 2;
/// Most governance orders in a body: governance gives few, and one block a slot follows.
pub const MAX_BODY_ORDERS: usize = 4;
/// Largest encoded order: holds every kind with the signatures of all keys.
pub const MAX_ORDER_BYTES: usize = 8 * 1024;
/// Most burns in an order: as many as [`MAX_ORDER_BYTES`] hold, of 36 bytes each.
pub const MAX_ORDER_BURNS: usize = MAX_ORDER_BYTES / 36;
/// Most payouts in an order: as many as [`MAX_ORDER_BYTES`] hold, of 8 bytes each.
pub const MAX_ORDER_PAYOUTS: usize = MAX_ORDER_BYTES / 8;
/// Most governance keys: as many as authorities.
pub const MAX_GOVERNANCE_KEYS: usize = 15;
/// Most settlements in a body: more than Bitcoin confirms between two blocks.
pub const MAX_SETTLEMENTS: usize = 64;
/// Most versions in a body beside the first ones: payouts in flight come due in turns.
pub const MAX_PAYOUT_VERSIONS: usize = 64;
/// Largest virtual size of a payout (BIP 431 bounds a TRUC transaction so).
pub const MAX_PAYOUT_VBYTES: usize = 10_000;
/// Most bytes of an unsigned payout: it has no witness, so its length is a part of its virtual
/// size.
pub const MAX_PAYOUT_BYTES: usize = MAX_PAYOUT_VBYTES;
/// Most payments in a payout: the highest `peg.max_burns` of a spec.
pub const MAX_PAYMENTS: usize = 100;
/// Smallest change output and highest excess without one, in satoshi: the limit of dust for P2WSH
/// outputs in Bitcoin Core.
pub const MIN_CHANGE_SATS: u64 = 330;
/// Most keys of a script of the federation: those of a standard `OP_CHECKMULTISIG` in P2SH, which
/// wallets know, and as many as authorities.
pub const MAX_BITCOIN_KEYS: usize = 15;
/// Most rows of an upgrade table: more than a chain has in its life.
pub const MAX_UPGRADES: usize = 256;
