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
/// Largest encoded AuxPoW (docs/protocol.md, section 10). Not built: the messages of the topic
/// `work` are refused, so the limit bounds only the bytes to refuse.
pub const MAX_AUXPOW_BYTES: usize = 512 * 1024;
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
/// Highest gas limit of a payload, until the spec has one (docs/protocol.md, rule 2.5): a block
/// full of zero calldata (4 gas a byte) must fit in [`MAX_BLOCK_BYTES`].
pub const MAX_GAS_LIMIT: u64 = 30_000_000;
/// Shortest slot, in milliseconds: a proposal and its approvals cross the network within it.
pub const MIN_SLOT_DURATION_MS: u64 = 1000;
/// Most finality certificates in a body: one for an AuxPoW range's end, one for a federation
/// change.
pub const MAX_BODY_CERTIFICATES: usize = 2;
/// Most governance orders in a body (docs/protocol.md, section 10).
pub const MAX_BODY_ORDERS: usize = 4;
/// Most governance keys of a spec (docs/protocol.md, section 10).
pub const MAX_GOVERNANCE_KEYS: usize = 15;
