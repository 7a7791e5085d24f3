//! Tables and keys of the block store, and their version.
//!
//! Owns the layout: a change of a table, a key or an encoding is a new [`VERSION`] and a decision
//! in `docs/adr`.

use alys_peg::MAX_ENTRY_BYTES;
use alys_types::limits::{MAX_AUXPOW_BYTES, MAX_BLOCK_BYTES, MAX_CERTIFICATE_BYTES};
use alys_types::{Hash, Height};

use crate::kv::{MAX_VALUE_BYTES, Table};

/// The version of this layout. [`crate::BlockStore::open`] refuses a store of another version.
pub const VERSION: u32 = 3;

/// Single records, by the keys below.
pub const META: Table = Table("meta");
/// The vote state at [`VOTE_STATE`], in a table of its own so that no other record shares its
/// pages.
pub const VOTES: Table = Table("votes");
/// Block hash to header.
pub const HEADERS: Table = Table("headers");
/// Block hash to body.
pub const BODIES: Table = Table("bodies");
/// Block hash to certificate (approvals).
pub const CERTIFICATES: Table = Table("certificates");
/// Block hash to finality certificate (confirmations), for blocks that have one of their own.
pub const FINALITY: Table = Table("finality");
/// Height to hash of the final block.
pub const FINAL: Table = Table("final");
/// Hashes of blocks that are not final, with empty values: the blocks that a start has to load.
pub const OPEN: Table = Table("open");
/// Block hash to the federation order that the block carries.
pub const ORDERS: Table = Table("orders");
/// Authority sets by the hash of their encoding.
pub const SETS: Table = Table("sets");
/// The ledger after the block at [`LEDGER_AT`]: its keys to its values.
pub const LEDGER: Table = Table("ledger");
/// Block hash to the sums that the receipts of the block add to the ledger.
pub const ADDITIONS: Table = Table("additions");
/// Verified proofs of work that no final block carries yet, by the commitment of their work. The
/// AuxPowActor owns the values.
pub const PROOFS: Table = Table("proofs");

/// In [`META`]: [`VERSION`], four bytes, big-endian.
pub const SCHEMA: &[u8] = b"schema";
/// In [`META`]: the hash of the genesis block.
pub const GENESIS: &[u8] = b"genesis";
/// In [`META`]: slot and hash of the certified block with the highest slot.
pub const HIGHEST: &[u8] = b"highest";
/// In [`META`]: header and finality certificate of the last final block.
pub const FINALIZED: &[u8] = b"finalized";
/// In [`META`]: the federation after the last final block.
pub const FEDERATION: &[u8] = b"federation";
/// In [`META`]: height and hash of the block that [`LEDGER`] is after.
pub const LEDGER_AT: &[u8] = b"ledger_at";
/// In [`VOTES`]: the vote state.
pub const VOTE_STATE: &[u8] = b"state";

/// End of a range over all hashes: sorts after each of them.
pub const AFTER_HASHES: [u8; 33] = [0xff; 33];

/// Largest vote state, federation record, federation order or authority set, in bytes. Two sets of
/// 15 authorities of 144 bytes take 4,320.
const MAX_RECORD_BYTES: usize = 16 * 1024;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Bytes of the additions of a block: tips in wei.
const ADDITIONS_BYTES: usize = 32;
/// Largest record of a proof: the proof itself and, with room, the numbers and hashes beside it.
const MAX_PROOF_BYTES: usize = MAX_AUXPOW_BYTES + 1024;
/// Most records of proofs that a start reads: twice the 64 that the AuxPowActor holds.
pub const MAX_PROOFS: usize = 128;
/// Bytes of those records: the 64 of the largest size.
pub const MAX_PROOFS_BYTES: usize = MAX_PROOFS / 2 * MAX_PROOF_BYTES;

/// Longest value at a key, in bytes. Writes refuse a longer one as well as reads, because a node
/// that cannot read its own entry does not start.
pub fn value_limit(table: Table, key: &[u8]) -> usize {
    match table {
        META => match key {
            SCHEMA => size_of::<u32>(),
            GENESIS => HASH_BYTES,
            // A header and a certificate.
            FINALIZED => 2 * MAX_CERTIFICATE_BYTES,
            LEDGER_AT => size_of::<u64>() + HASH_BYTES,
            _ => MAX_RECORD_BYTES,
        },
        HEADERS | CERTIFICATES | FINALITY => MAX_CERTIFICATE_BYTES,
        BODIES => MAX_BLOCK_BYTES,
        FINAL => HASH_BYTES,
        OPEN => 0,
        VOTES | ORDERS | SETS => MAX_RECORD_BYTES,
        LEDGER => MAX_ENTRY_BYTES,
        ADDITIONS => ADDITIONS_BYTES,
        PROOFS => MAX_PROOF_BYTES,
        // Tables that other parts of the node own.
        _ => MAX_VALUE_BYTES,
    }
}

/// The coverage mark of a written record, at which a simulation can end the process. The indexes
/// [`FINAL`] and [`OPEN`], which share the batch of another record, and the keys of the layout have
/// none.
pub(crate) fn mark(table: Table, key: &[u8]) -> Option<&'static str> {
    Some(match table {
        META => match key {
            HIGHEST => "state.store.wrote_highest",
            FINALIZED => "state.store.wrote_finalized",
            FEDERATION => "state.store.wrote_federation",
            _ => return None,
        },
        VOTES => "state.store.wrote_votes",
        HEADERS => "state.store.wrote_headers",
        BODIES => "state.store.wrote_bodies",
        CERTIFICATES => "state.store.wrote_certificates",
        FINALITY => "state.store.wrote_finality",
        ORDERS => "state.store.wrote_orders",
        SETS => "state.store.wrote_sets",
        LEDGER => "state.store.wrote_ledger",
        ADDITIONS => "state.store.wrote_additions",
        PROOFS => "state.store.wrote_proofs",
        _ => return None,
    })
}

/// Big-endian, so that keys sort by height.
pub fn height_key(height: Height) -> [u8; 8] {
    height.0.to_be_bytes()
}

pub fn hash_key(hash: &Hash) -> [u8; 32] {
    hash.0
}
