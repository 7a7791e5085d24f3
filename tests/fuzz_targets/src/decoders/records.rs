//! Records of the block store, in any combination: a store is read as it is, or called corrupt.

use std::sync::Arc;

use alys_consensus::{FederationRecord, Now, State};
use alys_node::actors::storage;
use alys_storage::{Batch, BlockStore, Durability, MemoryStore, Store, schema};
use alys_types::wire::RangeRequest;
use alys_types::{Hash, Height, Slot, VoteKind};

use crate::choices::Choices;
use crate::federation::Federation;

/// Records of one input; a store with more shows nothing new.
const MAX_RECORDS: usize = 32;
/// Bytes of a drawn record: larger than a vote state or a certificate.
const MAX_RECORD_BYTES: usize = 1024;

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut federation = Federation::new(Slot(850_000_000));
    let store: Store = Arc::new(MemoryStore::new());
    let genesis = federation.genesis().hash();
    BlockStore::open(store.clone(), genesis).expect("an empty store is opened");
    for _ in 0..MAX_RECORDS {
        if choices.is_over() {
            break;
        }
        let batch = batch(&mut choices, &mut federation);
        // Into the engine itself, as a damaged disk would have it: the block store refuses to write
        // what it cannot read.
        let _ = store.write(batch, Durability::Durable);
    }
    if let Ok(blocks) = BlockStore::open(store, genesis) {
        read(&blocks, &federation);
    }
}

/// A record as the node writes it, or any bytes under any key.
fn batch(choices: &mut Choices<'_>, federation: &mut Federation) -> Batch {
    let mut batch = Batch::new();
    match choices.below(6) {
        0 => {
            let slot = Slot(choices.near(850_000_001));
            BlockStore::batch_block(&mut batch, &federation.make(choices, slot));
        }
        1 => {
            if let Some(block) = federation.block(choices).cloned() {
                let signers = choices.byte();
                let certified = federation.certificate(VoteKind::Approval, &block.header, signers);
                BlockStore::batch_certified(&mut batch, &certified);
                BlockStore::batch_highest(&mut batch, block.header.slot, block.header.hash());
            }
        }
        2 => {
            if let Some(block) = federation.block(choices).cloned() {
                let hash = block.header.hash();
                let certified =
                    federation.certificate(VoteKind::Confirmation, &block.header, choices.byte());
                let chain = [(block.header.height, hash)];
                BlockStore::batch_finalized(&mut batch, &certified, &chain, &[]);
                let authorities = federation.genesis().set().authorities().to_vec();
                let record = FederationRecord {
                    authorities,
                    last_order: choices.near(0),
                    carried: None,
                    settling: choices.flag().then(|| Height(choices.near(1))),
                };
                BlockStore::batch_federation(&mut batch, &record);
            }
        }
        3 => {
            let key = key(choices, federation);
            if let Some(table) = choices.pick(TABLES) {
                batch.delete(*table, key);
            }
        }
        _ => {
            let key = key(choices, federation);
            if let Some(table) = choices.pick(TABLES) {
                batch.put(*table, key, choices.bytes(MAX_RECORD_BYTES));
            }
        }
    }
    batch
}

const TABLES: &[alys_storage::Table] = &[
    schema::META,
    schema::VOTES,
    schema::HEADERS,
    schema::BODIES,
    schema::CERTIFICATES,
    schema::FINALITY,
    schema::FINAL,
    schema::OPEN,
    schema::ORDERS,
    schema::SETS,
];

/// A key that the store reads, or any other.
fn key(choices: &mut Choices<'_>, federation: &Federation) -> Vec<u8> {
    match choices.below(9) {
        0 => schema::SCHEMA.to_vec(),
        1 => schema::GENESIS.to_vec(),
        2 => schema::HIGHEST.to_vec(),
        3 => schema::FINALIZED.to_vec(),
        4 => schema::FEDERATION.to_vec(),
        5 => schema::VOTE_STATE.to_vec(),
        6 => schema::height_key(Height(choices.near(1))).to_vec(),
        7 => choices.bytes(40),
        _ => federation
            .block(choices)
            .map_or(federation.genesis().hash(), |block| block.header.hash())
            .0
            .to_vec(),
    }
}

/// Reads everything, and starts the state machine on it.
fn read(blocks: &BlockStore, federation: &Federation) {
    let hashes: Vec<Hash> = federation
        .blocks()
        .iter()
        .map(|block| block.header.hash())
        .collect();
    for hash in &hashes {
        if let Ok(Some(header)) = blocks.header(hash) {
            assert_eq!(header.hash(), *hash, "a header under another hash");
        }
        let _ = (blocks.body(hash), blocks.block(hash));
        let _ = (blocks.certificate(hash), blocks.finality(hash));
    }
    let _ = (blocks.final_hash(Height(1)), blocks.highest());
    let request = RangeRequest {
        start: Height(0),
        count: u64::MAX,
    };
    if let Ok(range) = blocks.block_range(request) {
        let heights = range.blocks.iter().map(|block| block.header.height);
        assert!(heights.is_sorted(), "a range that is not ascending");
    }
    let _ = blocks.header_range(request);
    if let Ok(stored) = storage::load(blocks) {
        let now = Now {
            wall_ms: 1_700_000_010_000,
            mono_ms: 0,
        };
        // A refusal ends the start of the node; a store that contradicts itself must not panic it.
        let _ = State::restore(federation.config(Some(0)), stored, now, None);
    }
}
