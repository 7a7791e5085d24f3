//! The ledger, additions and proofs in the block store.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::U256;
use alys_peg::{Additions, Changes};
use alys_storage::{
    Batch, BlockStore, Durability, Error, FinalBlock, LedgerRows, MemoryStore, Store, schema,
};
use alys_types::limits::MAX_AUXPOW_BYTES;
use alys_types::{Hash, Height, VoteKind};
use support::chain::{GENESIS, block, certified, chain, finalize, in_memory, stored};

fn tips(wei: u64) -> Additions {
    Additions {
        tips: U256::from(wei),
    }
}

fn written(store: &BlockStore, add: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    add(&mut batch);
    store.write(batch, Durability::Durable).expect("written");
}

#[test]
fn additions_belong_to_open_and_final_blocks_and_leave_with_dropped_ones() {
    let blocks = chain(3, 10);
    let loser = block(Some(&blocks[0]), 77, 10);
    let store = stored(&blocks, 1);
    written(&store, |batch| {
        BlockStore::batch_block(batch, &loser);
        for (wei, block) in (1..).zip([&blocks[0], &blocks[1], &loser]) {
            BlockStore::batch_additions(batch, &block.header.hash(), &tips(wei));
        }
    });
    let open = store.open_blocks().expect("open blocks");
    let known = open.iter().map(|open| (open.hash, open.additions));
    let wanted = [
        (blocks[1].header.hash(), Some(tips(2))),
        (loser.header.hash(), Some(tips(3))),
        (blocks[2].header.hash(), None),
    ];
    assert_eq!(known.collect::<BTreeMap<_, _>>(), wanted.into());

    written(&store, |batch| {
        finalize(batch, &blocks, 1, 3, &[loser.header.hash()]);
    });
    let left = store.additions(&loser.header.hash()).expect("additions");
    assert_eq!(left, None);
    for (height, additions) in [(1, Some(tips(1))), (2, Some(tips(2))), (3, None)] {
        let block = blocks[height - 1].clone();
        let found = store.final_with_additions(Height(height as u64));
        assert_eq!(found.expect("reads"), Some(FinalBlock { block, additions }));
    }
    for height in [0, 4, u64::MAX] {
        let found = store.final_with_additions(Height(height)).expect("reads");
        assert_eq!(found, None);
    }
}

#[test]
fn additions_of_a_block_that_was_never_dropped_leave_at_the_next_start() {
    let blocks = chain(2, 10);
    let loser = block(None, 77, 10);
    let engine: Store = Arc::new(MemoryStore::new());
    let store = BlockStore::open(engine.clone(), GENESIS).expect("open");
    written(&store, |batch| {
        for block in blocks.iter().chain([&loser]) {
            BlockStore::batch_block(batch, block);
            BlockStore::batch_certified(batch, &certified(block, VoteKind::Approval));
            BlockStore::batch_additions(batch, &block.header.hash(), &tips(9));
        }
        finalize(batch, &blocks, 0, 2, &[]);
    });
    let again = BlockStore::open(engine, GENESIS).expect("open");
    let of = |hash| again.additions(&hash).expect("additions");
    assert_eq!(of(loser.header.hash()), None);
    assert_eq!(of(blocks[0].header.hash()), Some(tips(9)));
}

#[test]
fn the_ledger_reads_back_as_its_changes_made_it() {
    let store = in_memory();
    assert_eq!(store.ledger().expect("reads"), None);
    // Two pages and a row, beside a key with which none of the others is read twice or left out.
    let key = |index: u32| [&b"block/"[..], &index.to_be_bytes()].concat();
    let many = 2 * 4096;
    let first: Changes = (0..many)
        .map(|index| (key(index), Some(vec![index as u8])))
        .chain([(b"proof".to_vec(), Some(vec![1, 2, 3]))])
        .collect();
    written(&store, |batch| {
        BlockStore::batch_ledger(batch, Height(7), Hash([7; 32]), &first);
    });
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = first
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
        .collect();
    let found = store.ledger().expect("reads").expect("stored");
    let height = Height(7);
    assert!(found.entries == entries, "{} entries", found.entries.len());
    assert_eq!((found.height, found.hash), (height, Hash([7; 32])));

    // Exactly two pages, and then one of the changes of two blocks in one batch.
    let second = vec![(key(1), None), (key(2), Some(vec![22]))];
    let third = vec![(key(2), None), (b"remainder".to_vec(), Some(vec![5]))];
    written(&store, |batch| {
        BlockStore::batch_ledger(batch, Height(8), Hash([8; 32]), &second);
        BlockStore::batch_ledger(batch, Height(9), Hash([9; 32]), &third);
    });
    entries.retain(|(found, _)| *found != key(1) && *found != key(2));
    entries.push((b"remainder".to_vec(), vec![5]));
    let found = store.ledger().expect("reads").expect("stored");
    let wanted = LedgerRows {
        height: Height(9),
        hash: Hash([9; 32]),
        entries,
    };
    assert!(found == wanted, "{} entries", found.entries.len());
}

#[test]
fn a_record_with_an_entry_that_is_too_long_is_not_written_at_all() {
    let store = in_memory();
    let long = vec![0; schema::value_limit(schema::LEDGER, b"proof") + 1];
    let mut batch = Batch::new();
    BlockStore::batch_additions(&mut batch, &Hash([1; 32]), &tips(1));
    let changes = vec![
        (b"proof".to_vec(), Some(long)),
        (b"remainder".to_vec(), Some(vec![1])),
    ];
    BlockStore::batch_ledger(&mut batch, Height(1), Hash([1; 32]), &changes);
    let refused = store.write(batch, Durability::Durable);
    assert!(
        matches!(refused, Err(Error::TooLarge { what: "ledger", .. })),
        "{refused:?}"
    );
    assert_eq!(store.ledger().expect("reads"), None);
    assert_eq!(store.additions(&Hash([1; 32])).expect("reads"), None);
}

#[test]
fn proofs_are_listed_until_they_are_removed() {
    let store = in_memory();
    assert!(store.proofs().expect("reads").is_empty());
    let proof = |index: u8| (Hash([index; 32]), vec![index; usize::from(index)]);
    let largest = (Hash([4; 32]), vec![4; MAX_AUXPOW_BYTES + 1024]);
    let all = [proof(1), proof(2), proof(3), largest];
    written(&store, |batch| {
        for (commitment, bytes) in all.iter().rev() {
            BlockStore::batch_proof(batch, commitment, bytes);
        }
    });
    assert!(store.proofs().expect("reads") == all);
    written(&store, |batch| {
        BlockStore::batch_proof_removed(batch, &all[1].0);
        BlockStore::batch_proof_removed(batch, &Hash([99; 32]));
        BlockStore::batch_proof(batch, &all[0].0, &[7]);
    });
    let left = store.proofs().expect("reads");
    let kept = (all[0].0, vec![7]);
    assert!(left == [kept, all[2].clone(), all[3].clone()]);
    written(&store, |batch| {
        for index in 0..200 {
            BlockStore::batch_proof(batch, &Hash([index; 32]), &[index]);
        }
    });
    assert_eq!(store.proofs().expect("reads").len(), schema::MAX_PROOFS);
    // Of the largest ones fewer are read.
    written(&store, |batch| {
        for index in 0..100 {
            BlockStore::batch_proof(batch, &Hash([index; 32]), &all[3].1);
        }
    });
    let bytes: usize = store
        .proofs()
        .expect("reads")
        .iter()
        .map(|(_, b)| b.len())
        .sum();
    assert!(bytes <= schema::MAX_PROOFS_BYTES, "{bytes} bytes");
    assert!(bytes > schema::MAX_PROOFS_BYTES - 2 * all[3].1.len());
}

#[test]
fn rows_that_do_not_decode_are_named() {
    let engine: Store = Arc::new(MemoryStore::new());
    let store = BlockStore::open(engine.clone(), GENESIS).expect("open");
    let put = |table, key: &[u8], bytes: usize| {
        let mut batch = Batch::new();
        batch.put(table, key, vec![0; bytes]);
        engine.write(batch, Durability::Durable).expect("written");
    };
    let named = |error: Error, words: &[&str]| {
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(
            words.iter().all(|word| error.to_string().contains(word)),
            "{error}"
        );
    };
    put(schema::ADDITIONS, &[1; 32], 31);
    let error = store.additions(&Hash([1; 32])).expect_err("additions");
    named(error, &["additions", "0101", "does not decode"]);
    put(schema::PROOFS, &[2; 31], 1);
    let error = store.proofs().expect_err("proofs");
    named(error, &["proofs", "0202", "is not a commitment"]);
    put(schema::META, schema::LEDGER_AT, 40);
    put(schema::LEDGER, b"proof", 17 * 1024);
    let error = store.ledger().expect_err("ledger");
    named(error, &["ledger", "proof", "is too long"]);
    put(schema::META, schema::LEDGER_AT, 39);
    let error = store.ledger().expect_err("ledger");
    named(error, &["meta", "ledger_at", "does not decode"]);
}
