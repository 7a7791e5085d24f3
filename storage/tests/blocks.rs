//! The block store: records read back as written, and no crash separates records of one batch.

mod support;

use std::sync::Arc;

use alloy_primitives::U256;
use alys_peg::Additions;
use alys_storage::redb::{Existing, RedbOptions, RedbStore};
use alys_storage::{Batch, BlockStore, Durability, Error, MemoryStore, Store, schema};
use alys_types::bls::Signature;
use alys_types::limits::{MAX_BLOCK_BYTES, MAX_RANGE_BLOCKS, MAX_RANGE_BYTES};
use alys_types::wire::{Message, RangeRequest};
use alys_types::{
    Address, Block, FederationChange, Hash, Height, Order, OrderContent, SetChange, Slot, VoteKind,
    codec,
};
use serde::{Deserialize, Serialize};
use support::chain::{
    GENESIS, block, block_with, body, certificate, certified, chain, finalize, in_memory, stored,
};
use support::{PowerDisk, Random, seeds};

/// Stands for the vote state of the consensus crate, which is a type parameter of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Votes {
    approved: Slot,
    approved_hash: Hash,
    locked: Slot,
    locked_hash: Hash,
}

#[test]
fn blocks_and_certificates_read_back_as_written() {
    let blocks = chain(5, 100);
    let store = stored(&blocks, 3);
    for (index, block) in blocks.iter().enumerate() {
        let hash = block.header.hash();
        assert_eq!(store.block(&hash).expect("block").as_ref(), Some(block));
        assert_eq!(
            store.header(&hash).expect("header").as_ref(),
            Some(&block.header)
        );
        let approvals = certificate(&block.header, VoteKind::Approval);
        assert_eq!(
            store.certificate(&hash).expect("certificate"),
            Some(approvals)
        );
        let is_final = index < 3;
        assert_eq!(
            store.final_hash(block.header.height).expect("index"),
            is_final.then_some(hash)
        );
        let confirmations = certificate(&block.header, VoteKind::Confirmation);
        assert_eq!(
            store.finality(&hash).expect("finality"),
            (index == 2).then_some(confirmations)
        );
    }
    assert_eq!(
        store.finalized().expect("finalized"),
        Some(certified(&blocks[2], VoteKind::Confirmation))
    );
    assert_eq!(
        store.highest().expect("highest"),
        Some((Slot(5), blocks[4].header.hash()))
    );
    let open: Vec<_> = store
        .open_blocks()
        .expect("open")
        .into_iter()
        .map(|open| open.header)
        .collect();
    assert_eq!(open, [blocks[3].header.clone(), blocks[4].header.clone()]);
    let window = store.final_window(10).expect("window");
    assert_eq!(window, [blocks[1].header.clone(), blocks[0].header.clone()]);
    assert_eq!(
        store.final_window(1).expect("window"),
        [blocks[1].header.clone()]
    );
}

#[test]
fn an_empty_store_has_no_records() {
    let store = in_memory();
    assert_eq!(store.votes::<Votes>().expect("votes"), None);
    assert_eq!(store.federation::<u64>().expect("federation"), None);
    assert_eq!(store.finalized().expect("finalized"), None);
    assert_eq!(store.highest().expect("highest"), None);
    assert!(
        store.open_blocks().expect("open").is_empty() && store.sets().expect("sets").is_empty()
    );
    assert!(store.final_window(5).expect("window").is_empty());
    let range = store
        .block_range(RangeRequest {
            start: Height(1),
            count: 9,
        })
        .expect("range");
    assert!(range.blocks.is_empty() && range.tip.is_none() && range.finalized.is_none());
}

#[test]
fn votes_federation_and_sets_read_back_as_written() {
    let store = in_memory();
    let votes = Votes {
        approved: Slot(7),
        approved_hash: GENESIS,
        locked: Slot(3),
        locked_hash: GENESIS,
    };
    let authority = alys_types::Authority {
        public_key: alys_types::bls::PublicKeyBytes([1; 48]),
        proof_of_possession: Signature([2; 96]),
        fee_address: Address([3; 20]),
    };
    let set = vec![authority.clone(); 15];
    let mut batch = Batch::new();
    BlockStore::batch_votes(&mut batch, &votes);
    BlockStore::batch_federation(&mut batch, &(set.clone(), Some(set.clone()), 4u64));
    BlockStore::batch_set(&mut batch, &set);
    BlockStore::batch_set(&mut batch, &set[..4]);
    BlockStore::batch_set(&mut batch, &set);
    store.write(batch, Durability::Durable).expect("write");
    assert_eq!(store.votes().expect("votes"), Some(votes));
    let federation = store.federation::<(
        Vec<alys_types::Authority>,
        Option<Vec<alys_types::Authority>>,
        u64,
    )>();
    assert_eq!(
        federation.expect("federation"),
        Some((set.clone(), Some(set.clone()), 4))
    );
    let mut lengths: Vec<usize> = store.sets().expect("sets").iter().map(Vec::len).collect();
    lengths.sort();
    assert_eq!(lengths, [4, 15]);
}

#[test]
fn dropped_blocks_leave_nothing_behind() {
    let blocks = chain(3, 10);
    let loser = block(Some(&blocks[0]), 77, 10);
    let store = stored(&blocks, 0);
    let mut batch = Batch::new();
    BlockStore::batch_block(&mut batch, &loser);
    BlockStore::batch_certified(&mut batch, &certified(&loser, VoteKind::Approval));
    store.write(batch, Durability::Durable).expect("write");
    assert_eq!(store.open_blocks().expect("open").len(), 4);
    let mut batch = Batch::new();
    let hash = loser.header.hash();
    finalize(&mut batch, &blocks, 0, 2, &[hash]);
    store.write(batch, Durability::Durable).expect("write");
    assert_eq!(store.block(&hash).expect("block"), None);
    assert_eq!(store.header(&hash).expect("header"), None);
    assert_eq!(store.body(&hash).expect("body"), None);
    assert_eq!(store.certificate(&hash).expect("certificate"), None);
    assert_eq!(store.open_blocks().expect("open").len(), 1);
}

#[test]
fn a_block_that_was_never_dropped_leaves_nothing_behind_at_the_next_start() {
    let blocks = chain(3, 10);
    let loser = block(Some(&blocks[0]), 77, 10);
    let hash = loser.header.hash();
    let engine: Store = Arc::new(MemoryStore::new());
    let store = BlockStore::open(engine.clone(), GENESIS).expect("open");
    let mut batch = Batch::new();
    for block in blocks.iter().chain([&loser]) {
        BlockStore::batch_block(&mut batch, block);
        BlockStore::batch_certified(&mut batch, &certified(block, VoteKind::Approval));
    }
    finalize(&mut batch, &blocks, 0, 3, &[]);
    store.write(batch, Durability::Durable).expect("write");
    let again = BlockStore::open(engine.clone(), GENESIS).expect("open");
    assert_eq!(again.header(&hash).expect("header"), None);
    assert_eq!(again.body(&hash).expect("body"), None);
    assert_eq!(again.certificate(&hash).expect("certificate"), None);
    assert_eq!(engine.get(schema::OPEN, &hash.0).expect("get"), None);
    let kept = again.block(&blocks[1].header.hash()).expect("block");
    assert_eq!(kept.as_ref(), Some(&blocks[1]), "final blocks stay");
}

#[test]
fn a_header_written_again_after_finality_is_no_open_block() {
    let blocks = chain(3, 10);
    let engine: Store = Arc::new(MemoryStore::new());
    let store = BlockStore::open(engine.clone(), GENESIS).expect("open");
    let mut batch = Batch::new();
    blocks
        .iter()
        .for_each(|block| BlockStore::batch_block(&mut batch, block));
    finalize(&mut batch, &blocks, 0, 3, &[]);
    BlockStore::batch_certified(&mut batch, &certified(&blocks[1], VoteKind::Approval));
    store.write(batch, Durability::Durable).expect("write");
    assert!(store.open_blocks().expect("open").is_empty());
    let again = BlockStore::open(engine.clone(), GENESIS).expect("open");
    let listed = engine
        .get(schema::OPEN, &blocks[1].header.hash().0)
        .expect("get");
    assert_eq!(listed, None, "opening prunes the list");
    assert_eq!(
        again
            .certificate(&blocks[1].header.hash())
            .expect("certificate")
            .map(|c| c.signers.count()),
        Some(3)
    );
}

#[test]
fn ranges_follow_the_certified_chain_within_their_limits() {
    let small = chain(300, 10);
    let large = chain(6, 5 * 1024 * 1024);
    let all_final = stored(&small, 300);
    let some_final = stored(&small, 290);
    let none_final = stored(&small, 0);
    let large = stored(&large, 6);
    // (store, request, heights of the answer)
    let table: [(&BlockStore, (u64, u64), std::ops::Range<u64>); 9] = [
        (&all_final, (1, 10), 1..11),
        (&all_final, (1, u64::MAX), 1..1 + MAX_RANGE_BLOCKS),
        (&all_final, (299, 10), 299..301),
        (&all_final, (301, 10), 301..301),
        (&all_final, (u64::MAX, u64::MAX), 0..0),
        // Across the last final block, and among open blocks only.
        (&some_final, (285, 10), 285..295),
        (&some_final, (295, 10), 295..301),
        (&none_final, (1, 4), 1..5),
        (&large, (2, 5), 2..5),
    ];
    for (row, (store, (start, count), wanted)) in table.into_iter().enumerate() {
        let context = format!("row {row}: start {start}, count {count}");
        let request = RangeRequest {
            start: Height(start),
            count,
        };
        let answer = store.block_range(request).expect("range");
        let heights: Vec<u64> = answer
            .blocks
            .iter()
            .map(|block| block.header.height.0)
            .collect();
        assert_eq!(heights, wanted.clone().collect::<Vec<_>>(), "{context}");
        let last = answer
            .blocks
            .last()
            .map(|block| certificate(&block.header, VoteKind::Approval));
        assert_eq!(answer.tip, last, "{context}");
        assert!(answer.encode().len() <= MAX_RANGE_BYTES, "{context}");
        let headers = store.header_range(request).expect("headers");
        let same = headers
            .headers
            .iter()
            .zip(&answer.blocks)
            .all(|(header, block)| *header == block.header);
        assert!(
            same && headers.headers.len() >= answer.blocks.len(),
            "{context}"
        );
        assert_eq!(headers.finalized, answer.finalized, "{context}");
    }
}

#[test]
fn a_range_carries_the_finality_certificate_of_its_highest_block_that_has_one() {
    let blocks = chain(12, 10);
    let store = stored(&blocks, 0);
    for (from, to) in [(0, 2), (2, 5), (5, 9)] {
        let mut batch = Batch::new();
        finalize(&mut batch, &blocks, from, to, &[]);
        store.write(batch, Durability::Durable).expect("write");
    }
    // First height and length of the range, and height of the final block; the last final block,
    // 9, if none of the range has a certificate.
    let table = [
        (1, 1, 9),
        (1, 2, 2),
        (1, 4, 2),
        (1, 5, 5),
        (2, 7, 5),
        (3, 2, 9),
        (1, 9, 9),
        (1, 12, 9),
        (5, 8, 9),
        (10, 3, 9),
    ];
    for (start, count, height) in table {
        let request = RangeRequest {
            start: Height(start),
            count,
        };
        let wanted = Some(certified(&blocks[height - 1], VoteKind::Confirmation));
        let range = store.block_range(request).expect("range");
        assert_eq!(range.finalized, wanted, "{request:?}");
        let headers = store.header_range(request).expect("headers");
        assert_eq!(headers.finalized, wanted, "{request:?}");
    }
}

#[test]
fn a_block_larger_than_half_a_range_is_served_alone() {
    let blocks = chain(2, 8 * 1024 * 1024 - 4096);
    let answer = stored(&blocks, 2)
        .block_range(RangeRequest {
            start: Height(1),
            count: 2,
        })
        .expect("range");
    assert!(!answer.blocks.is_empty());
    assert!(answer.encode().len() <= MAX_RANGE_BYTES);
}

#[test]
fn a_value_that_no_read_accepts_is_not_written() {
    let store = in_memory();
    let write = |table, key: &[u8], bytes| {
        let mut batch = Batch::new();
        batch.put(schema::META, schema::HIGHEST, [7u8; 40]);
        batch.put(table, key, vec![0; bytes]);
        store.write(batch, Durability::Durable)
    };
    let tables: [(_, &[u8]); 13] = [
        (schema::BODIES, &[1; 32]),
        (schema::HEADERS, &[1; 32]),
        (schema::CERTIFICATES, &[1; 32]),
        (schema::FINALITY, &[1; 32]),
        (schema::FINAL, &[1; 8]),
        (schema::OPEN, &[1; 32]),
        (schema::ORDERS, &[1; 32]),
        (schema::SETS, &[1; 32]),
        (schema::VOTES, schema::VOTE_STATE),
        (schema::META, schema::LEDGER_AT),
        (schema::LEDGER, b"block/00000001"),
        (schema::ADDITIONS, &[1; 32]),
        (schema::PROOFS, &[1; 32]),
    ];
    for (table, key) in tables {
        let limit = schema::value_limit(table, key);
        match write(table, key, limit + 1) {
            Err(Error::TooLarge { what, bytes, .. }) => {
                assert_eq!((what, bytes), (table.0, limit + 1));
            }
            other => panic!("{}: {other:?}", table.0),
        }
        let found = store.store().get(schema::META, schema::HIGHEST);
        assert_eq!(found.expect("reads"), None, "{}: nothing of it", table.0);
    }
    let overhead = codec::encode(&body(1, 0)).len();
    let largest = block(None, 1, MAX_BLOCK_BYTES - overhead);
    let mut batch = Batch::new();
    BlockStore::batch_block(&mut batch, &largest);
    store
        .write(batch, Durability::Durable)
        .expect("the handle stays usable");
    let hash = largest.header.hash();
    assert_eq!(store.block(&hash).expect("reads"), Some(largest));
}

#[test]
fn the_certificate_of_a_tip_may_come_from_its_child() {
    let blocks = chain(4, 10);
    let store = in_memory();
    let mut batch = Batch::new();
    blocks
        .iter()
        .for_each(|block| BlockStore::batch_block(&mut batch, block));
    finalize(&mut batch, &blocks, 0, 4, &[]);
    store.write(batch, Durability::Durable).expect("write");
    // Blocks 1 to 3 are certified by their children alone; no certificate of block 4 is stored.
    let answer = store
        .block_range(RangeRequest {
            start: Height(1),
            count: 9,
        })
        .expect("range");
    assert_eq!(answer.blocks.len(), 3);
    assert_eq!(
        answer.tip,
        Some(certificate(&blocks[2].header, VoteKind::Approval))
    );
    assert_eq!(
        store
            .header_range(RangeRequest {
                start: Height(1),
                count: 9
            })
            .expect("headers")
            .headers
            .len(),
        3
    );
}

#[test]
fn header_ranges_carry_the_federation_orders() {
    let mut with_order = body(1, 10);
    let change = FederationChange::Remove(alys_types::bls::PublicKeyBytes([1; 48]));
    let effective_height = Height(9);
    let order = Order {
        number: 1,
        content: OrderContent::Federation(SetChange {
            change,
            effective_height,
        }),
        signatures: vec![],
    };
    with_order.orders = vec![order.clone()];
    let first = block(None, 1, 10);
    let second = block_with(Some(&first), 2, with_order);
    let third = block(Some(&second), 3, 10);
    let store = stored(&[first, second, third], 3);
    let range = |start, count| {
        store
            .header_range(RangeRequest {
                start: Height(start),
                count,
            })
            .expect("headers")
            .changes
    };
    assert_eq!(range(1, 3), [(Height(2), order.clone())]);
    assert_eq!(range(2, 1), [(Height(2), order)]);
    assert!(range(3, 1).is_empty());
}

#[test]
fn another_layout_and_another_chain_are_refused() {
    let engine: Store = Arc::new(MemoryStore::new());
    BlockStore::open(engine.clone(), GENESIS).expect("open");
    let error = BlockStore::open(engine.clone(), Hash([1; 32]))
        .map(drop)
        .expect_err("another chain");
    assert!(
        matches!(&error, Error::OtherChain { found, .. } if *found == GENESIS.to_string()),
        "{error}"
    );
    let mut batch = Batch::new();
    batch.put(schema::META, schema::SCHEMA, 2u32.to_be_bytes());
    engine.write(batch, Durability::Durable).expect("write");
    let error = BlockStore::open(engine, GENESIS)
        .map(drop)
        .expect_err("another layout");
    assert!(
        matches!(
            error,
            Error::Schema {
                found: 2,
                wanted: 3
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("empty data directories"));
}

#[test]
fn entries_that_do_not_decode_are_named() {
    let blocks = chain(1, 10);
    let store = stored(&blocks, 1);
    let hash = blocks[0].header.hash();
    let overwrite = |table, key: &[u8], value: Vec<u8>| {
        let mut batch = Batch::new();
        batch.put(table, key, value);
        store.write(batch, Durability::Durable).expect("write");
    };
    let named = |error: Error, words: &[&str]| {
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(
            words.iter().all(|word| error.to_string().contains(word)),
            "{error}"
        );
    };
    overwrite(schema::VOTES, schema::VOTE_STATE, vec![1, 2, 3]);
    named(
        store.votes::<Votes>().expect_err("votes"),
        &["state", "votes", "does not decode"],
    );
    overwrite(schema::BODIES, &hash.0, vec![0; 5]);
    named(
        store.block(&hash).expect_err("body"),
        &["bodies", &hash.to_string()[2..]],
    );
    let other = alys_types::codec::encode(&block(None, 50, 1).header);
    overwrite(schema::HEADERS, &hash.0, other);
    named(
        store.header(&hash).expect_err("header"),
        &["headers", "another block"],
    );
}

/// A change of a table, a key or an encoding fails here and requires a new `schema::VERSION`;
/// `ALYS_BLESS=1 cargo test -p alys-storage --test blocks` rewrites the file.
#[test]
fn the_layout_matches_its_golden_file() {
    let block = block(None, 1, 1);
    let mut batch = Batch::new();
    BlockStore::batch_block(&mut batch, &block);
    BlockStore::batch_certified(&mut batch, &certified(&block, VoteKind::Approval));
    BlockStore::batch_votes(&mut batch, &7u64);
    BlockStore::batch_highest(&mut batch, Slot(1), block.header.hash());
    BlockStore::batch_set(&mut batch, &[]);
    let additions = Additions {
        tips: U256::from(0x0102_0304),
    };
    BlockStore::batch_additions(&mut batch, &block.header.hash(), &additions);
    BlockStore::batch_proof(&mut batch, &Hash([10; 32]), &[11; 3]);
    BlockStore::batch_proof_removed(&mut batch, &Hash([12; 32]));
    finalize(
        &mut batch,
        std::slice::from_ref(&block),
        0,
        1,
        &[Hash([8; 32])],
    );
    BlockStore::batch_federation(&mut batch, &8u64);
    let changes = vec![(vec![13], None), (vec![14], Some(vec![15]))];
    BlockStore::batch_ledger(&mut batch, Height(1), block.header.hash(), &changes);
    let lines: Vec<String> = batch
        .ops()
        .iter()
        .map(|op| {
            let hex = |bytes: &[u8]| {
                bytes
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            };
            match op {
                alys_storage::Op::Put { table, key, value } => {
                    format!("put {} {} {}", table.0, hex(key), hex(value))
                }
                alys_storage::Op::Delete { table, key } => {
                    format!("delete {} {}", table.0, hex(key))
                }
            }
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/layout.txt");
    if std::env::var_os("ALYS_BLESS").is_some() {
        std::fs::write(path, lines.join("\n") + "\n").expect("writes");
    }
    let golden = std::fs::read_to_string(path).expect("the golden file is there");
    let wanted: Vec<&str> = golden.lines().collect();
    assert_eq!(
        lines, wanted,
        "the layout changed; raise schema::VERSION, explain it in an ADR, and bless the file"
    );
}

/// Writes like a node through power losses: approval with body, lock with certificate, finality
/// with its index.
#[test]
fn no_power_loss_separates_the_records_of_a_batch() {
    let mut losses = 0;
    for seed in seeds(2) {
        let mut random = Random::new(seed);
        let disk = PowerDisk::new(seed);
        let mut opened_once = false;
        let mut acknowledged: Option<Votes> = None;
        let mut chain: Vec<Block> = Vec::new();
        while disk.losses() < 30 {
            disk.cut_after(60 + random.below(500));
            let existing = if opened_once {
                Existing::Required
            } else {
                Existing::Optional
            };
            let options = RedbOptions {
                cache_bytes: 256 * 1024,
            };
            let Ok(engine) = RedbStore::open(disk.file(), "disk", options, existing) else {
                assert!(!disk.is_powered());
                disk.power_cycle();
                continue;
            };
            opened_once = true;
            let engine: Store = Arc::new(engine);
            if let Ok(store) = BlockStore::open(engine.clone(), GENESIS)
                && disk.is_powered()
            {
                disk.cut_after(u64::MAX);
                let finals = check_batches(&store, &chain, acknowledged);
                acknowledged = store.votes().expect("votes");
                // The chain continues from the last block that is stored.
                let stored = chain.iter().take_while(|block| {
                    store.block(&block.header.hash()).expect("block").is_some()
                });
                let stored = stored.count();
                chain.truncate(stored);
                disk.cut_after(random.below(600));
                run(&store, &mut chain, finals, &mut acknowledged, &mut random);
            }
            drop(engine);
            disk.power_cycle();
        }
        losses += disk.losses();
    }
    assert!(losses >= 30 * seeds(2).end);
}

/// Runs slots until the disk fails. The failed write may or may not have survived the power loss.
fn run(
    store: &BlockStore,
    chain: &mut Vec<Block>,
    mut finals: usize,
    acknowledged: &mut Option<Votes>,
    random: &mut Random,
) {
    let fresh = Votes {
        approved: Slot(0),
        approved_hash: GENESIS,
        locked: Slot(0),
        locked_hash: GENESIS,
    };
    loop {
        let mut votes = acknowledged.unwrap_or(fresh);
        let slot = votes
            .approved
            .0
            .max(chain.last().map_or(0, |last| last.header.slot.0))
            + 1
            + random.below(2);
        let next = block(chain.last(), slot, random.below(4000) as usize);
        let hash = next.header.hash();
        chain.push(next);
        let next = &chain[chain.len() - 1];

        let mut batch = Batch::new();
        votes.approved = Slot(slot);
        votes.approved_hash = hash;
        BlockStore::batch_votes(&mut batch, &votes);
        BlockStore::batch_block(&mut batch, next);
        if store.write(batch, Durability::Durable).is_err() {
            return;
        }
        *acknowledged = Some(votes);

        let mut batch = Batch::new();
        BlockStore::batch_certified(&mut batch, &certified(next, VoteKind::Approval));
        BlockStore::batch_highest(&mut batch, Slot(slot), hash);
        if store.write(batch, Durability::Deferred).is_err() {
            return;
        }

        let mut batch = Batch::new();
        votes.locked = Slot(slot);
        votes.locked_hash = hash;
        BlockStore::batch_votes(&mut batch, &votes);
        BlockStore::batch_certified(&mut batch, &certified(next, VoteKind::Approval));
        if store.write(batch, Durability::Durable).is_err() {
            return;
        }
        *acknowledged = Some(votes);

        if random.one_in(2) {
            let mut batch = Batch::new();
            finalize(&mut batch, chain, finals, chain.len(), &[]);
            let entries = chain[finals..].iter().map(|block| {
                let key = block.header.height.0.to_be_bytes().to_vec();
                (key, Some(block.header.hash().0.to_vec()))
            });
            let height = Height(chain.len() as u64);
            BlockStore::batch_ledger(&mut batch, height, hash, &entries.collect());
            let durability = if random.one_in(2) {
                Durability::Durable
            } else {
                Durability::Deferred
            };
            if store.write(batch, durability).is_err() {
                return;
            }
            finals = chain.len();
        }
    }
}

/// Checks that the votes are not older than the acknowledged ones, that the blocks and certificates
/// that they refer to are stored, and that the finality index is complete. Returns the number of
/// final blocks.
fn check_batches(store: &BlockStore, chain: &[Block], acknowledged: Option<Votes>) -> usize {
    let votes: Option<Votes> = store.votes().expect("votes");
    if let Some(acknowledged) = acknowledged {
        let votes = votes.expect("votes were acknowledged");
        assert!(
            votes.approved >= acknowledged.approved && votes.locked >= acknowledged.locked,
            "{votes:?} after {acknowledged:?}"
        );
    }
    if let Some(votes) = votes {
        assert!(
            store.block(&votes.approved_hash).expect("block").is_some(),
            "the approved block is stored"
        );
        if votes.locked.0 > 0 {
            assert!(store.header(&votes.locked_hash).expect("header").is_some());
            assert!(
                store
                    .certificate(&votes.locked_hash)
                    .expect("certificate")
                    .is_some()
            );
        }
    }
    if let Some((slot, hash)) = store.highest().expect("highest") {
        assert_eq!(
            store
                .header(&hash)
                .expect("header")
                .map(|header| header.slot),
            Some(slot)
        );
        assert!(store.certificate(&hash).expect("certificate").is_some());
    }
    let ledger = store.ledger().expect("ledger");
    let Some(last) = store.finalized().expect("finalized") else {
        assert_eq!(ledger, None);
        return 0;
    };
    let ledger = ledger.expect("written with the first final block");
    assert_eq!(ledger.height, last.header.height);
    assert_eq!(ledger.hash, last.header.hash());
    assert_eq!(ledger.entries.len() as u64, last.header.height.0);
    let finals = last.header.height.0 as usize;
    for (index, block) in chain.iter().enumerate() {
        let hash = store.final_hash(block.header.height).expect("index");
        assert_eq!(
            hash,
            (index < finals).then(|| block.header.hash()),
            "height {}",
            index + 1
        );
        // Older blocks were compared after earlier losses.
        if index < finals && index + 40 > finals {
            assert_eq!(
                store.block(&block.header.hash()).expect("block").as_ref(),
                Some(block)
            );
        }
    }
    let open = store.open_blocks().expect("open");
    assert!(
        open.iter()
            .all(|open| open.header.height > last.header.height)
    );
    finals
}
