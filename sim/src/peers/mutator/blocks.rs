//! Alterations of headers and bodies.

use alys_types::bls::{PublicKeyBytes, Signature};
use alys_types::limits::{
    MAX_BODY_CERTIFICATES, MAX_BODY_ORDERS, MAX_EXTRA_DATA_BYTES, MAX_GAS_LIMIT,
};
use alys_types::order::Halt;
use alys_types::peg::PayoutVersion;
use alys_types::{
    Address, AuxPowHeader, BlobGas, Body, Certificate, FederationChange, FeeRate, Hash, Header,
    Height, Order, OrderContent, PayoutProposal, PegIn, Sats, SetChange, Settlement, Slot,
    VoteKind, VoteTarget, Withdrawal, WithdrawalKind,
};

use super::certificates::flip_hash;
use super::workshop::Workshop;
use crate::invariants::Tolerance;
use crate::invariants::Tolerance::{NotVotedFor, Refused, Valid};

/// An alteration of a header.
pub type HeaderChange = fn(&mut Header, &mut Workshop);
/// An alteration of a body.
pub type BodyChange = fn(&mut Body, &mut Workshop);

/// The fields of a header. The tolerance is that of a proposal whose leader signs the altered
/// header; without a new signature none is valid.
pub const HEADER: &[(&str, Tolerance, HeaderChange)] = &[
    ("version", Refused, |header, _| header.version += 1),
    ("evm-chain-id", Refused, |header, _| {
        header.evm_chain_id += 1
    }),
    ("genesis-hash", Refused, |header, _| {
        flip_hash(&mut header.genesis_hash);
    }),
    ("height", Refused, |header, _| {
        header.height = Height(header.height.0 + 1);
    }),
    // The next slot of the same leader.
    ("slot", Refused, |header, shop| {
        header.slot = Slot(header.slot.0 + u64::from(shop.nodes));
    }),
    ("proposer", Refused, |header, shop| {
        header.proposer = shop.other(header.proposer);
    }),
    ("parent-hash", Refused, |header, _| {
        flip_hash(&mut header.parent_hash);
    }),
    ("parent-certificate.missing", Refused, |header, _| {
        header.parent_certificate = None;
    }),
    ("execution-hash", Refused, |header, _| {
        flip_hash(&mut header.execution_hash);
    }),
    ("body-hash", Refused, |header, _| {
        flip_hash(&mut header.body_hash);
    }),
    // Rules of the branch, which are checked after the proposal is forwarded.
    ("set-hash", NotVotedFor, |header, _| {
        flip_hash(&mut header.set_hash);
    }),
    ("ledger-hash", NotVotedFor, |header, _| {
        flip_hash(&mut header.ledger_hash);
    }),
];

/// The fields of a body. The first tolerance is that of a proposal whose header commits to the
/// altered body and whose payload keeps its hash, the second that of one whose payload's hash
/// follows too.
pub const BODY: &[(&str, Tolerance, Tolerance, BodyChange)] = &[
    ("payload.parent-hash", Refused, Refused, |body, _| {
        flip_hash(&mut body.payload.parent_hash);
    }),
    ("payload.fee-recipient", Refused, Refused, |body, _| {
        body.payload.fee_recipient = Address([9; 20]);
    }),
    ("payload.state-root", NotVotedFor, NotVotedFor, |body, _| {
        flip_hash(&mut body.payload.state_root);
    }),
    (
        "payload.receipts-root",
        NotVotedFor,
        NotVotedFor,
        |body, _| flip_hash(&mut body.payload.receipts_root),
    ),
    ("payload.logs-bloom", NotVotedFor, NotVotedFor, |body, _| {
        body.payload.logs_bloom[7] ^= 1;
    }),
    ("payload.prev-randao", Refused, Refused, |body, _| {
        flip_hash(&mut body.payload.prev_randao);
    }),
    ("payload.block-number", Refused, Refused, |body, _| {
        body.payload.block_number += 1;
    }),
    ("payload.gas-limit.above", Refused, Refused, |body, _| {
        body.payload.gas_limit = MAX_GAS_LIMIT + 1;
    }),
    // More than the 1,024th part of the parent's.
    (
        "payload.gas-limit.jump",
        NotVotedFor,
        NotVotedFor,
        |body, _| body.payload.gas_limit /= 2,
    ),
    ("payload.gas-used", NotVotedFor, NotVotedFor, |body, _| {
        body.payload.gas_used += 1;
    }),
    ("payload.timestamp", Refused, Refused, |body, _| {
        body.payload.timestamp += 1;
    }),
    ("payload.extra-data", NotVotedFor, Valid, |body, shop| {
        body.payload.extra_data = format!("another {}", shop.rng.below(1_000)).into_bytes();
    }),
    ("payload.extra-data.long", Refused, Refused, |body, _| {
        body.payload.extra_data = vec![b'x'; MAX_EXTRA_DATA_BYTES + 1];
    }),
    ("payload.base-fee", NotVotedFor, NotVotedFor, |body, _| {
        body.payload.base_fee_per_gas[31] ^= 1;
    }),
    ("payload.block-hash", Refused, Refused, |body, _| {
        flip_hash(&mut body.payload.block_hash);
    }),
    (
        "payload.transactions.junk",
        NotVotedFor,
        NotVotedFor,
        |body, _| body.payload.transactions.push(vec![2, 0]),
    ),
    (
        "payload.transactions.foreign-type",
        Refused,
        Refused,
        |body, _| body.payload.transactions.push(vec![3, 0xc0]),
    ),
    (
        "payload.transactions.repeated",
        NotVotedFor,
        NotVotedFor,
        |body, _| {
            if let Some(first) = body.payload.transactions.first().cloned() {
                body.payload.transactions.push(first);
            }
        },
    ),
    (
        "payload.transactions.dropped",
        NotVotedFor,
        NotVotedFor,
        |body, _| drop(body.payload.transactions.pop()),
    ),
    (
        "payload.withdrawals",
        NotVotedFor,
        NotVotedFor,
        |body, _| {
            body.payload.withdrawals.push(Withdrawal {
                index: 0,
                validator_index: 0,
                address: Address([9; 20]),
                amount_gwei: 1,
            });
        },
    ),
    ("payload.blob-gas.used", Refused, Refused, |body, _| {
        body.payload.blob_gas = Some(BlobGas {
            used: 1 << 17,
            excess: 0,
        });
    }),
    (
        "payload.blob-gas.excess",
        NotVotedFor,
        NotVotedFor,
        |body, _| {
            body.payload.blob_gas = Some(BlobGas { used: 0, excess: 1 });
        },
    ),
    (
        "payload.blob-gas.absent",
        NotVotedFor,
        NotVotedFor,
        |body, _| body.payload.blob_gas = None,
    ),
    ("withdrawal-kinds", NotVotedFor, NotVotedFor, |body, _| {
        body.withdrawal_kinds.push(WithdrawalKind::Fee);
    }),
    ("peg-ins", Refused, Refused, |body, _| {
        body.peg_ins.push(PegIn {
            txid: Hash([1; 32]),
            vout: 0,
            amount: Sats(1),
            script_epoch: 0,
            address: Address([9; 20]),
            bitcoin_block: Hash([2; 32]),
        });
    }),
    ("settlements", Refused, Refused, |body, _| {
        body.settlements.push(Settlement {
            payout: 0,
            txid: Hash([1; 32]),
            bitcoin_block: Hash([2; 32]),
        });
    }),
    ("payout-proposal", Refused, Refused, |body, _| {
        body.payout_proposal = Some(PayoutProposal {
            payout: None,
            sweep: None,
            versions: vec![PayoutVersion {
                payout: 0,
                version: 1,
                payments: Vec::new(),
                transaction: vec![1],
            }],
        });
    }),
    ("auxpow", NotVotedFor, NotVotedFor, |body, _| {
        body.auxpow = Some(AuxPowHeader {
            range_start: Hash([1; 32]),
            range_end: Hash([2; 32]),
            bits: 0x207f_ffff,
            chain_id: 1,
            sequence: 0,
            auxpow: vec![1],
            miner: Address([9; 20]),
        });
    }),
    // Rules of the branch, which are checked after the proposal is forwarded.
    ("orders.federation", NotVotedFor, NotVotedFor, |body, _| {
        body.orders.push(unsigned_removal(1_000));
    }),
    ("finality", NotVotedFor, NotVotedFor, |body, shop| {
        body.finality.push(unsigned_finality(shop));
    }),
    // The second of two equal certificates serves no purpose, even if the first one does.
    ("finality.twice", NotVotedFor, NotVotedFor, |body, shop| {
        let genuine = shop.finality().unwrap_or_else(|| unsigned_finality(shop));
        body.finality = vec![genuine; MAX_BODY_CERTIFICATES];
    }),
    ("orders.halt", Refused, Refused, |body, _| {
        body.orders.push(Order {
            number: 1,
            content: OrderContent::Halt(Halt {
                deposits: true,
                payouts: true,
            }),
            signatures: Vec::new(),
        });
    }),
    ("orders.many", Refused, Refused, |body, _| {
        body.orders = vec![unsigned_removal(1_000); MAX_BODY_ORDERS + 1];
    }),
    ("fee-estimate", Refused, Refused, |body, _| {
        body.fee_estimate = Some(FeeRate(1_000));
    }),
];

/// A finality certificate of a block that does not exist.
fn unsigned_finality(shop: &Workshop) -> Certificate {
    let target = VoteTarget {
        kind: VoteKind::Confirmation,
        height: Height(1),
        slot: Slot(1),
        hash: Hash([9; 32]),
    };
    Certificate {
        target,
        signers: shop.bitmap(0..shop.nodes),
        signature: Signature([1; 96]),
    }
}

/// A federation change without a valid signature.
pub fn unsigned_removal(effective: u64) -> Order {
    Order {
        number: 1,
        content: OrderContent::Federation(SetChange {
            change: FederationChange::Remove(PublicKeyBytes([1; 48])),
            effective_height: Height(effective),
        }),
        signatures: vec![(0, Signature([1; 96]))],
    }
}
