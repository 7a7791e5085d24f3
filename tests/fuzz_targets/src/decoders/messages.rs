//! Messages between nodes: gossip, requests, answers, status, certified headers.
//!
//! The first byte selects the type, the rest is the encoding.

use std::fmt::Debug;
use std::sync::Arc;

use alys_consensus::VerifiedBody;
use alys_net::{ChainTag, Topic, wire};
use alys_types::wire::{
    BlockRange, CertifiedHeader, Confirmation, HeaderRange, Message, Proposal, RangeRequest,
    Status, StatusAnswer, Transactions, WorkProof,
};
use alys_types::{Block, Hash, Vote};

pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 15 {
        0 => proposal(bytes),
        1 => check::<Vote>(bytes),
        2 => check::<Confirmation>(bytes),
        3 => check::<CertifiedHeader>(bytes),
        4 => check::<Status>(bytes),
        5 => check::<StatusAnswer>(bytes),
        6 => check::<RangeRequest>(bytes),
        7 => check::<HeaderRange>(bytes),
        8 => check::<BlockRange>(bytes),
        9 => check::<Vec<Hash>>(bytes),
        10 => check::<Vec<Block>>(bytes),
        11 => check::<Transactions>(bytes),
        12 => tagged_status(bytes),
        13 => envelopes(bytes),
        _ => check::<WorkProof>(bytes),
    }
}

/// Decodes, and checks that the value has no other encoding, is within its limit, and has a text.
fn decode<T: Message + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value = T::decode(bytes).ok()?;
    assert!(
        bytes.len() <= T::LIMIT,
        "{} bytes are accepted",
        bytes.len()
    );
    assert_eq!(value.encode(), bytes, "a second encoding of {value:?}");
    Some(value)
}

fn check<T: Message + PartialEq + Debug>(bytes: &[u8]) {
    let _decoded = decode::<T>(bytes);
}

fn proposal(bytes: &[u8]) {
    let Some(proposal) = decode::<Proposal>(bytes) else {
        return;
    };
    let block = Arc::new(proposal.block);
    let is_whole = VerifiedBody::check(block.clone()).is_ok();
    let is_bound = block.body.hash() == block.header.body_hash;
    assert_eq!(is_whole, is_bound && block.body.check_limits().is_ok());
}

fn tagged_status(bytes: &[u8]) {
    if let Some((tag, status)) = ChainTag::split(bytes) {
        assert_eq!(tag.prefix(status), bytes);
        check::<Status>(status);
    }
}

fn envelopes(bytes: &[u8]) {
    for topic in Topic::ALL {
        if let Ok(payload) = wire::open(topic, bytes.to_vec()) {
            assert!(payload.len() <= topic.max_payload());
            assert_eq!(bytes.get(wire::ENVELOPE_BYTES..), Some(&payload[..]));
        }
    }
}
