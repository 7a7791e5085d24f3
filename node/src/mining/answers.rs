//! Results and errors of the miners' JSON-RPC. Hashes of work and parents print as Bitcoin's do,
//! reversed and without `0x`; all other hashes in the order of their bytes, with `0x`.

use alys_integrations::http::RpcError;
use alys_pow::reversed;
use alys_types::{Block, Body, Genesis, Hash, Header};
use serde_json::{Map, Value, json};

use crate::actors::auxpow::HeldProof;
use crate::actors::auxpow::desk::{Handed, Refused, Stale, WorkState, WorkStatus};
use crate::actors::storage::FoundBlock;

// Codes of Bitcoin Core (`src/rpc/protocol.h`), which Namecoin and pools use.
/// The node cannot do it.
pub(super) const MISC: i64 = -1;
/// No address, or no block, as in Bitcoin Core.
pub(super) const ADDRESS: i64 = -5;
/// A value of a parameter, and work that is not known.
pub(super) const INVALID_PARAMETER: i64 = -8;
/// There is no work yet: in Bitcoin Core, blocks are missing.
pub(super) const NO_WORK: i64 = -10;
/// The proof cannot be decoded.
pub(super) const DESERIALIZATION: i64 = -22;
/// The proof breaks a rule.
pub(super) const VERIFY: i64 = -25;
/// The work is in the chain already.
pub(super) const IN_CHAIN: i64 = -27;
/// The node is starting.
pub(super) const WARMUP: i64 = -28;

/// `createauxblock`: Namecoin's fields with both names of the target, and the range.
pub(super) fn work(handed: &Handed) -> Value {
    let Handed { work, first, last } = handed;
    let target = work.target();
    json!({
        "hash": work.hash(),
        "chainid": work.bundle.chain_id,
        // The newest block that the work makes final: it changes with the work, as pools expect.
        "previousblockhash": digits(work.bundle.end),
        // Work is paid by fees of the range in the EVM, and not by a coinbase.
        "coinbasevalue": 0,
        "bits": work.bits.to_string(),
        "height": last.0,
        "target": target,
        "_target": target,
        "sequence": work.bundle.sequence,
        "first": first.0,
        "address": work.bundle.miner.to_string(),
    })
}

/// `alys_workStatus`.
pub(super) fn status(status: &WorkStatus) -> Value {
    let WorkStatus {
        sequence,
        start,
        end,
        count,
        miner,
        state,
    } = status;
    let mut fields = object(json!({
        "sequence": sequence,
        "rangestart": start.to_string(),
        "rangeend": end.to_string(),
        "count": count,
        "miner": miner.to_string(),
    }));
    let more = match state {
        WorkState::Open => json!({ "state": "open" }),
        WorkState::Accepted => json!({ "state": "accepted" }),
        WorkState::Stale(why) => json!({ "state": "stale", "reason": why.to_string() }),
        WorkState::Final(range) => json!({
            "state": "final",
            "first": range.first.0,
            "height": range.end.0,
            "carrier": range.carrier.hash.to_string(),
            "carrierslot": range.carrier.slot.0,
        }),
    };
    fields.extend(object(more));
    Value::Object(fields)
}

/// `getqueuedpow`.
pub(super) fn queued(proof: &HeldProof) -> Value {
    json!({
        "sequence": proof.sequence,
        "rangestart": proof.range_start.to_string(),
        "rangeend": proof.range_end.to_string(),
        "count": proof.count,
        "miner": proof.miner.to_string(),
        "parenthash": digits(reversed(proof.work)),
        "auxpow": hex::encode(&proof.auxpow),
    })
}

/// A block.
pub(super) fn block(found: &FoundBlock) -> Value {
    let FoundBlock {
        block,
        hash,
        is_final,
    } = found;
    let Block { header, body } = &**block;
    let mut fields = header_fields(*hash, header, *is_final);
    fields.extend(body_fields(body));
    Value::Object(fields)
}

/// The genesis block, which has no body.
pub(super) fn genesis(genesis: &Genesis) -> Value {
    Value::Object(header_fields(genesis.hash(), genesis.header(), true))
}

fn header_fields(hash: Hash, header: &Header, is_final: bool) -> Map<String, Value> {
    object(json!({
        "hash": hash.to_string(),
        "height": header.height.0,
        "slot": header.slot.0,
        "proposer": header.proposer,
        "previousblockhash": header.parent_hash.to_string(),
        "executionhash": header.execution_hash.to_string(),
        "bodyhash": header.body_hash.to_string(),
        "sethash": header.set_hash.to_string(),
        "ledgerhash": header.ledger_hash.to_string(),
        "final": is_final,
    }))
}

fn body_fields(body: &Body) -> Map<String, Value> {
    let payload = &body.payload;
    let withdrawals = payload.withdrawals.iter().map(|withdrawal| {
        json!({
            "index": withdrawal.index,
            "address": withdrawal.address.to_string(),
            "amountgwei": withdrawal.amount_gwei,
        })
    });
    let auxpow = body.auxpow.as_ref().map(|proof| {
        json!({
            "sequence": proof.sequence,
            "chainid": proof.chain_id,
            "bits": format!("{:08x}", proof.bits),
            "rangestart": proof.range_start.to_string(),
            "rangeend": proof.range_end.to_string(),
            "miner": proof.miner.to_string(),
            "auxpow": hex::encode(&proof.auxpow),
        })
    });
    object(json!({
        "time": payload.timestamp,
        "transactions": payload.transactions.len(),
        "gasused": payload.gas_used,
        "withdrawals": withdrawals.collect::<Vec<_>>(),
        "auxpow": auxpow,
    }))
}

pub(super) fn no_block(message: String) -> RpcError {
    RpcError::new(ADDRESS, message)
}

pub(super) fn stale(stale: &Stale) -> RpcError {
    RpcError::new(IN_CHAIN, stale.to_string()).with_data(json!({
        "sequence": stale.sequence,
        "reason": stale.why.to_string(),
        "ageseconds": stale.age.as_secs(),
    }))
}

/// The rule that a proof breaks, with the commitment in both orders.
pub(super) fn refused(refused: &Refused) -> RpcError {
    let Refused {
        rule,
        source,
        expected,
        found,
        note,
        commitment,
    } = refused;
    let code = if *rule == alys_pow::Rule::Format.name() {
        DESERIALIZATION
    } else {
        VERIFY
    };
    let hash = digits(reversed(*commitment));
    let more = note
        .as_ref()
        .map_or(String::new(), |note| format!("; {note}"));
    let message = format!(
        "rule \"{rule}\" ({source}): expected {expected}, found {found}{more}; the work is {hash} \
         ({} in internal order)",
        digits(*commitment)
    );
    RpcError::new(code, message).with_data(json!({
        "rule": rule,
        "source": source,
        "expected": expected,
        "found": found,
        "note": note,
        "hash": hash,
        "internal": digits(*commitment),
    }))
}

/// `hash` is the text of the caller.
pub(super) fn unknown_work(hash: Hash, is_reversed: bool) -> RpcError {
    let shown = digits(hash);
    let message = if is_reversed {
        format!(
            "block hash unknown: {shown} is the hash of createauxblock in internal byte order; \
             submit it as createauxblock wrote it, {}",
            digits(reversed(hash))
        )
    } else {
        format!(
            "block hash unknown: this node did not hand out work {shown} since its start, or long \
             ago; ask for new work at this node"
        )
    };
    RpcError::new(INVALID_PARAMETER, message)
}

fn digits(hash: Hash) -> String {
    hex::encode(hash.0)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
