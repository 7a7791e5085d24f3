//! Alterations of statuses, answers and requests. Their consequences are judged by the other
//! invariants: nodes take the valid part of an answer, and penalize its sender for the rest.

use alys_types::bls::{PublicKeyBytes, Signature};
use alys_types::limits::MAX_RANGE_BLOCKS;
use alys_types::wire::{
    AuthorityProof, BlockRange, BlockReceipts, CertifiedHeader, HeaderRange, RangeRequest, Status,
    StatusAnswer,
};
use alys_types::{Block, Certificate, Hash, Header, Height, Slot, Vote};

use super::blocks::{BODY, HEADER, unsigned_removal};
use super::certificates::{CERTIFICATE, VOTE, flip_hash};
use super::workshop::Workshop;

/// Heights and slots by which false claims exceed the truth.
const AHEAD: u64 = 1_000;
/// Hashes in the longest request.
const MOST_HASHES: usize = 255;

/// An alteration of a message in place.
pub type Change<T> = fn(&mut T, &mut Workshop);

pub const STATUS: &[(&str, Change<Status>)] = &[
    // All of these end the connection for minutes, so that they share one place.
    ("identity", |status, shop| match shop.rng.below(3) {
        0 => flip_hash(&mut status.genesis),
        1 => flip_hash(&mut status.fork_id.hash),
        // An upgrade that the peer would have passed already.
        _ => status.fork_id.next = Some(Height(1)),
    }),
    ("head-height", |status, _| {
        status.head_height = Height(status.head_height.0 + AHEAD);
    }),
    ("head", |status, _| flip_hash(&mut status.head)),
    ("highest.header", |status, shop| {
        alter_header(&mut status.highest, shop);
    }),
    ("highest.certificate", |status, shop| {
        alter_certificate(&mut status.highest, shop);
    }),
    ("highest.missing", |status, _| status.highest = None),
    ("finalized.header", |status, shop| {
        alter_header(&mut status.finalized, shop);
    }),
    ("finalized.certificate", |status, shop| {
        alter_certificate(&mut status.finalized, shop);
    }),
    ("finalized.missing", |status, _| status.finalized = None),
    ("finalized.highest", |status, _| {
        status.finalized = status.highest.clone();
    }),
    ("authority.key", |status, _| {
        if let Some(proof) = &mut status.authority {
            proof.key.0[1] ^= 1;
        }
    }),
    ("authority.signature", |status, _| {
        status.authority = Some(AuthorityProof {
            key: status
                .authority
                .map_or(PublicKeyBytes([1; 48]), |proof| proof.key),
            signature: Signature([1; 96]),
        });
    }),
    ("authority.missing", |status, _| status.authority = None),
    ("slot", |status, _| {
        status.slot = Slot(status.slot.0 + AHEAD)
    }),
];

pub const STATUS_ANSWER: &[(&str, Change<StatusAnswer>)] = &[
    ("held.approval", |answer, shop| {
        alter_vote(&mut answer.held.approval, shop);
    }),
    ("held.confirmation", |answer, shop| {
        alter_vote(&mut answer.held.confirmation, shop);
    }),
    ("held.exchanged", |answer, _| {
        std::mem::swap(&mut answer.held.approval, &mut answer.held.confirmation);
    }),
];

pub const HEADER_RANGE: &[(&str, Change<HeaderRange>)] = &[
    ("headers", |range, shop| {
        alter_items(&mut range.headers, shop)
    }),
    ("headers.header", |range, shop| {
        if let Some(header) = drawn(&mut range.headers, shop) {
            change_header(header, shop);
        }
    }),
    ("tip", |range, shop| alter_tip(&mut range.tip, shop)),
    ("tip.missing", |range, _| range.tip = None),
    ("changes", |range, _| {
        range.changes.push((Height(1), unsigned_removal(AHEAD)));
    }),
    ("finalized.header", |range, shop| {
        alter_header(&mut range.finalized, shop);
    }),
    ("finalized.certificate", |range, shop| {
        alter_certificate(&mut range.finalized, shop);
    }),
    ("finalized.missing", |range, _| range.finalized = None),
];

pub const BLOCK_RANGE: &[(&str, Change<BlockRange>)] = &[
    ("blocks", |range, shop| alter_items(&mut range.blocks, shop)),
    ("blocks.header", |range, shop| {
        if let Some(block) = drawn(&mut range.blocks, shop) {
            change_header(&mut block.header, shop);
        }
    }),
    // A body that does not belong to its header.
    ("blocks.body", |range, shop| {
        if let Some(block) = drawn(&mut range.blocks, shop) {
            change_body(block, shop);
        }
    }),
    ("tip", |range, shop| alter_tip(&mut range.tip, shop)),
    ("tip.missing", |range, _| range.tip = None),
    ("finalized.header", |range, shop| {
        alter_header(&mut range.finalized, shop);
    }),
    ("finalized.certificate", |range, shop| {
        alter_certificate(&mut range.finalized, shop);
    }),
    ("finalized.missing", |range, _| range.finalized = None),
];

pub const BLOCKS: &[(&str, Change<Vec<Block>>)] = &[
    ("items", |blocks, shop| alter_items(blocks, shop)),
    ("header", |blocks, shop| {
        if let Some(block) = drawn(blocks, shop) {
            change_header(&mut block.header, shop);
        }
    }),
    ("body", |blocks, shop| {
        if let Some(block) = drawn(blocks, shop) {
            change_body(block, shop);
        }
    }),
];

pub const RECEIPTS: &[(&str, Change<Option<BlockReceipts>>)] = &[
    ("missing", |answer, _| *answer = None),
    ("items", |answer, shop| {
        if let Some(BlockReceipts(receipts)) = answer {
            alter_items(receipts, shop);
        }
    }),
    ("receipt", |answer, shop| {
        let Some(BlockReceipts(receipts)) = answer else {
            return;
        };
        if let Some(byte) = drawn(receipts, shop).and_then(|bytes| bytes.last_mut()) {
            *byte ^= 1;
        }
    }),
];

pub const RANGE_REQUEST: &[(&str, Change<RangeRequest>)] = &[
    ("start.zero", |request, _| request.start = Height(0)),
    ("start.last", |request, _| request.start = Height(u64::MAX)),
    ("count.zero", |request, _| request.count = 0),
    ("count.above", |request, _| {
        request.count = MAX_RANGE_BLOCKS + 1;
    }),
    ("count.last", |request, _| request.count = u64::MAX),
];

pub const HASHES: &[(&str, Change<Vec<Hash>>)] = &[
    ("none", |hashes, _| hashes.clear()),
    ("unknown", |hashes, _| hashes.push(Hash([0x5a; 32]))),
    ("repeated", |hashes, _| {
        if let Some(first) = hashes.first().copied() {
            hashes.resize(MOST_HASHES, first);
        }
    }),
];

fn draw_below(shop: &mut Workshop, count: usize) -> usize {
    shop.rng.below(count as u64) as usize
}

fn drawn<'a, T>(all: &'a mut [T], shop: &mut Workshop) -> Option<&'a mut T> {
    let at = draw_below(shop, all.len());
    all.get_mut(at)
}

/// Removes one item, exchanges two, repeats one, or removes all.
fn alter_items<T: Clone>(all: &mut Vec<T>, shop: &mut Workshop) {
    if all.is_empty() {
        return;
    }
    let a = draw_below(shop, all.len());
    let b = draw_below(shop, all.len());
    match shop.rng.below(4) {
        0 => drop(all.remove(a)),
        1 if a != b => all.swap(a, b),
        2 => all.clear(),
        _ => all.insert(a, all[b].clone()),
    }
}

fn change_header(header: &mut Header, shop: &mut Workshop) {
    let (_, _, change) = HEADER[draw_below(shop, HEADER.len())];
    change(header, shop);
}

fn change_body(block: &mut Block, shop: &mut Workshop) {
    let (_, _, _, change) = BODY[draw_below(shop, BODY.len())];
    change(&mut block.body, shop);
}

fn changed(certificate: &Certificate, shop: &mut Workshop) -> Option<Certificate> {
    let (_, _, change) = CERTIFICATE[draw_below(shop, CERTIFICATE.len())];
    change(certificate, shop)
}

fn alter_tip(tip: &mut Option<Certificate>, shop: &mut Workshop) {
    if let Some(altered) = tip.and_then(|tip| changed(&tip, shop)) {
        *tip = Some(altered);
    }
}

fn alter_header(certified: &mut Option<CertifiedHeader>, shop: &mut Workshop) {
    if let Some(certified) = certified {
        change_header(&mut certified.header, shop);
    }
}

fn alter_certificate(certified: &mut Option<CertifiedHeader>, shop: &mut Workshop) {
    if let Some(certified) = certified
        && let Some(altered) = changed(&certified.certificate, shop)
    {
        certified.certificate = altered;
    }
}

fn alter_vote(vote: &mut Option<Vote>, shop: &mut Workshop) {
    if let Some(vote) = vote {
        let (_, _, change) = VOTE[draw_below(shop, VOTE.len())];
        change(vote, shop);
    }
}

/// Changes a message by a drawn entry of its table. Returns the name of the alteration.
pub fn draw<T>(
    message: &str,
    table: &[(&str, Change<T>)],
    altered: &mut T,
    shop: &mut Workshop,
) -> String {
    let (field, change) = table[draw_below(shop, table.len())];
    change(altered, shop);
    format!("{message}.{field}")
}
