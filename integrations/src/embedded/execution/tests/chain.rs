//! Import, fork choice and restart.

use super::super::*;
use super::kit::*;
use alloy_consensus::{Block, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bloom, U256};
use alloy_rpc_types_engine::{
    ExecutionPayload, ExecutionPayloadSidecar, ForkchoiceState, PayloadId, PayloadStatusEnum,
};
use alloy_rpc_types_eth::BlockId;

fn consensus(payload: &ExecutionPayload) -> Block<TxEnvelope> {
    payload
        .clone()
        .try_into_block_with_sidecar(&sidecar(payload))
        .expect("decodes")
}

/// The payload after a change of its block, with the matching hash.
fn forged(
    payload: &ExecutionPayload,
    change: impl FnOnce(&mut Block<TxEnvelope>),
) -> ExecutionPayload {
    let mut block = consensus(payload);
    change(&mut block);
    ExecutionPayload::from_block_slow(&block).0
}

type Change = fn(&mut Block<TxEnvelope>);

/// Changes that make a block invalid, each with a fragment of the validation error.
const INVALIDATING_CHANGES: &[(&str, Change)] = &[
    ("block number", |block| block.header.number += 1),
    ("timestamp", |block| block.header.timestamp = 0),
    ("gas limit", |block| {
        block.header.gas_limit += block.header.gas_limit / 1024
    }),
    ("gas limit", |block| {
        (block.header.gas_limit, block.header.gas_used) = (4_999, 0)
    }),
    ("gasUsed", |block| {
        block.header.gas_used = block.header.gas_limit + 1
    }),
    ("baseFee", |block| block.header.base_fee_per_gas = Some(1)),
    ("gas used", |block| block.header.gas_used += 1),
    ("bloom", |block| {
        block.header.logs_bloom = Bloom::repeat_byte(1)
    }),
    ("receipt root", |block| {
        block.header.receipts_root = B256::repeat_byte(1)
    }),
    ("merkle root", |block| {
        block.header.state_root = B256::repeat_byte(1)
    }),
    ("blobGasUsed", |block| {
        block.header.blob_gas_used = Some(131_072)
    }),
    ("excessBlobGas", |block| {
        block.header.excess_blob_gas = Some(131_072)
    }),
    ("could not apply tx 0", |block| {
        block.body.transactions = vec![Tx::transfer(0, 7, Address::ZERO, 1).sign()];
    }),
    ("could not apply tx 0", |block| {
        block.body.transactions = vec![Tx::transfer(2, 0, Address::ZERO, 1).sign()];
    }),
    ("could not apply tx 0", |block| {
        let wrong_chain = Tx {
            chain_id: 5,
            ..Tx::transfer(0, 0, Address::ZERO, 1)
        };
        block.body.transactions = vec![wrong_chain.sign()];
    }),
    ("could not apply tx 0", |block| {
        let too_much = Tx {
            gas: block.header.gas_limit + 1,
            ..Tx::transfer(0, 0, Address::ZERO, 1)
        };
        block.body.transactions = vec![too_much.sign()];
    }),
    ("merkle root", |block| {
        let gift = alloy_eips::eip4895::Withdrawal {
            amount: 1,
            ..Default::default()
        };
        block.body.withdrawals = Some(vec![gift].into());
        block.header.withdrawals_root = block.body.calculate_withdrawals_root();
    }),
];

#[test]
fn every_kind_of_invalid_payload_is_refused_with_its_parent_as_latest_valid_hash() {
    let mut client = TestClient::new(Fork::Cancun);
    client.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let parent = client.core.genesis_hash();
    let good = client.build_on(parent, 1);
    for (expected, change) in INVALIDATING_CHANGES {
        let bad = forged(&good, |block| {
            change(block);
            block.header.transactions_root =
                alloy_consensus::proofs::calculate_transaction_root(&block.body.transactions);
        });
        let status = client
            .core
            .new_payload(bad.clone(), sidecar(&good))
            .expect("answers");
        let PayloadStatusEnum::Invalid { validation_error } = &status.status else {
            panic!("{expected}: {status:?}");
        };
        assert!(
            validation_error.contains(expected),
            "{expected}: {validation_error}"
        );
        assert_eq!(status.latest_valid_hash, Some(parent), "{expected}");
        // The verdict is remembered, also for a fork choice and for descendants.
        assert!(
            client
                .core
                .new_payload(bad.clone(), sidecar(&good))
                .expect("answers")
                .is_invalid()
        );
        let updated = client
            .core
            .forkchoice_updated(head(bad.block_hash()), None)
            .expect("answers");
        assert!(updated.is_invalid(), "{expected}");
        let child = forged(&good, |block| {
            block.header.parent_hash = bad.block_hash();
            block.header.number += 1;
        });
        let status = client.import(&child);
        assert!(status.is_invalid(), "{expected}: {status:?}");
        assert_eq!(status.latest_valid_hash, Some(parent));
    }
    client.must_import(&good);
    client.set_head(good.block_hash());
    assert_eq!(client.core.head().number, 1);
}

#[test]
fn payloads_with_a_wrong_hash_are_invalid_without_a_latest_valid_hash() {
    let mut client = TestClient::new(Fork::Shanghai);
    client.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let good = client.build_on(client.core.genesis_hash(), 1);
    let mut wrong_hash = good.clone();
    wrong_hash.as_v1_mut().block_hash = B256::repeat_byte(1);
    let mut wrong_field = good.clone();
    wrong_field.as_v1_mut().state_root = B256::repeat_byte(1);
    let mut garbage = good.clone();
    garbage.as_v1_mut().transactions = vec![vec![2, 0xc1, 1].into()];
    let mut long = good.clone();
    long.as_v1_mut().extra_data = vec![0; 33].into();
    for bad in [wrong_hash, wrong_field, garbage, long] {
        let status = client.import(&bad);
        assert!(status.is_invalid(), "{status:?}");
        assert_eq!(status.latest_valid_hash, None);
    }
    client.must_import(&good);
}

#[test]
fn blob_transactions_and_versioned_hashes_are_refused() {
    let mut client = TestClient::new(Fork::Cancun);
    let payload = client.build_on(client.core.genesis_hash(), 1);
    let fields = alloy_rpc_types_engine::CancunPayloadFields::new(beacon_root(1), vec![B256::ZERO]);
    let status = client
        .core
        .new_payload(payload, ExecutionPayloadSidecar::v3(fields))
        .expect("answers");
    assert!(status.is_invalid(), "{status:?}");
}

#[test]
fn a_payload_with_an_unknown_parent_is_syncing_until_the_parent_arrives() {
    let mut builder = TestClient::new(Fork::Shanghai);
    let payloads = builder.branch(builder.core.genesis_hash(), 3, 1);
    let mut client = TestClient::new(Fork::Shanghai);
    assert!(client.import(&payloads[2]).is_syncing());
    let updated = client
        .core
        .forkchoice_updated(head(payloads[2].block_hash()), None)
        .expect("answers");
    assert!(updated.is_syncing());
    for payload in &payloads {
        client.must_import(payload);
    }
    client.set_head(payloads[2].block_hash());
    assert_eq!(client.core.head().number, 3);
}

#[test]
fn a_reorganisation_of_several_blocks_updates_state_index_and_pool() {
    let mut client = TestClient::new(Fork::Shanghai);
    let (a, b) = (Address::repeat_byte(0xa), Address::repeat_byte(0xb));
    let base = client.block().block_hash();
    let first = client.must_send(&Tx::transfer(0, 0, a, 1).sign());
    let long: Vec<_> = (0..3).map(|_| client.block()).collect();
    let second = client.must_send(&Tx::transfer(0, 1, b, 2).sign());
    let last = client.block().block_hash();
    assert_eq!(client.core.head().number, 5);
    assert_eq!(
        (client.balance(a), client.balance(b)),
        (U256::from(1), U256::from(2))
    );

    // The other branch has a different first transaction.
    let mut other = TestClient::new(Fork::Shanghai);
    let common = consensus(&long[0]).header.parent_hash;
    assert_eq!(common, base);
    let shared = other.block();
    assert_eq!(shared.block_hash(), base);
    let rival = other.must_send(&Tx::transfer(1, 0, a, 10).sign());
    let branch = other.branch(base, 6, 5);
    for payload in &branch {
        client.must_import(payload);
        assert_eq!(client.core.head().hash, last, "an import moves no head");
    }
    client.set_head(branch[5].block_hash());
    assert_eq!(client.core.head().number, 7);
    assert_eq!(
        (client.balance(a), client.balance(b)),
        (U256::from(10), U256::ZERO)
    );
    assert!(client.core.rpc_receipt(first).expect("reads").is_none());
    assert!(client.core.rpc_receipt(rival).expect("reads").is_some());
    let third = client
        .core
        .header(BlockId::number(3))
        .expect("reads")
        .expect("is there");
    assert_eq!(third.hash, branch[1].block_hash());
    // The orphaned transactions return to the pool and enter the next block.
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 2,
            queued: 0
        }
    );
    assert_eq!(
        client
            .core
            .nonce(account(0), BlockId::pending())
            .expect("reads"),
        2
    );
    client.block();
    assert_eq!(
        (client.balance(a), client.balance(b)),
        (U256::from(11), U256::from(2))
    );
    assert!(client.core.rpc_receipt(second).expect("reads").is_some());

    // Back to the shorter branch.
    client.set_head(last);
    assert_eq!(client.core.head().number, 5);
    assert_eq!(
        (client.balance(a), client.balance(b)),
        (U256::from(1), U256::from(2))
    );
    assert!(
        client
            .core
            .header(BlockId::number(6))
            .expect("reads")
            .is_none()
    );
    assert!(client.core.rpc_receipt(rival).expect("reads").is_none());
}

#[test]
fn the_head_may_go_back_to_an_ancestor_but_not_below_finality() {
    let mut client = TestClient::new(Fork::Shanghai);
    let blocks: Vec<B256> = (0..4).map(|_| client.block().block_hash()).collect();
    let to = |head, finalized| ForkchoiceState {
        head_block_hash: head,
        safe_block_hash: finalized,
        finalized_block_hash: finalized,
    };
    client.set_head(blocks[2]);
    assert_eq!(client.core.head().number, 3);
    assert!(
        client
            .core
            .header(BlockId::number(4))
            .expect("reads")
            .is_none()
    );
    assert!(
        client
            .core
            .forkchoice_updated(to(blocks[3], blocks[1]), None)
            .expect("moves")
            .is_valid()
    );
    assert_eq!(
        (client.core.finalized().number, client.core.safe().number),
        (2, 2)
    );
    // A node that lost blocks names an older head: it is valid, and nothing moves.
    let attributes = client.attributes(90);
    let older = client
        .core
        .forkchoice_updated(to(blocks[0], B256::ZERO), Some(attributes))
        .expect("answers");
    assert!(older.is_valid() && older.payload_id.is_none(), "{older:?}");
    assert_eq!(client.core.head().number, 4);
    // Repeated or older finality changes nothing.
    assert!(
        client
            .core
            .forkchoice_updated(to(blocks[3], blocks[0]), None)
            .expect("answers")
            .is_valid()
    );
    assert_eq!(client.core.finalized().number, 2);
}

#[test]
fn inconsistent_fork_choices_are_refused_and_change_nothing() {
    let mut client = TestClient::new(Fork::Shanghai);
    let genesis = client.core.genesis_hash();
    let a = client.branch(genesis, 2, 1);
    client.set_head(genesis);
    let b = client.branch(genesis, 2, 9);
    client.set_head(a[1].block_hash());
    let before = client.core.head();
    let (a1, b1) = (a[1].block_hash(), b[1].block_hash());
    for (safe, finalized) in [
        (B256::ZERO, b1),
        (b1, B256::ZERO),
        (B256::repeat_byte(1), B256::ZERO),
        (B256::ZERO, B256::repeat_byte(1)),
    ] {
        let state = ForkchoiceState {
            head_block_hash: a1,
            safe_block_hash: safe,
            finalized_block_hash: finalized,
        };
        let error = client
            .core
            .forkchoice_updated(state, None)
            .expect_err("does not fit");
        assert_eq!(error.code(), -38002, "{error}");
        assert_eq!(client.core.head(), before);
    }
    // Once a branch is final, the other one is refused and pruned.
    let state = ForkchoiceState {
        head_block_hash: a1,
        safe_block_hash: a1,
        finalized_block_hash: a1,
    };
    assert!(
        client
            .core
            .forkchoice_updated(state, None)
            .expect("moves")
            .is_valid()
    );
    assert!(
        client.core.block(b1.into()).expect("reads").is_none(),
        "side blocks below finality are dropped"
    );
    assert!(client.core.block(a1.into()).expect("reads").is_some());
    assert!(
        client
            .core
            .forkchoice_updated(head(b1), None)
            .expect("answers")
            .is_syncing()
    );
    let before = client.core.head();
    let below = client.core.forkchoice_updated(head(genesis), None);
    assert!(below.expect("answers").is_valid());
    assert_eq!(client.core.head(), before, "a final block stays");
}

#[test]
fn attributes_are_checked_and_determine_the_payload_id() {
    let mut client = TestClient::new(Fork::Cancun);
    let genesis = client.core.genesis_hash();
    let good = client.attributes(5);
    let id = |client: &mut TestClient, attributes| {
        let updated = client
            .core
            .forkchoice_updated(head(genesis), Some(attributes));
        updated.map(|updated| updated.payload_id.expect("a build"))
    };
    let first = id(&mut client, good.clone()).expect("builds");
    assert_eq!(
        id(&mut client, good.clone()).expect("builds"),
        first,
        "the same build"
    );
    let mut other = good.clone();
    other.timestamp = 6;
    other.parent_beacon_block_root = Some(beacon_root(6));
    assert_ne!(id(&mut client, other).expect("builds"), first);
    let mut late = good.clone();
    late.timestamp = 0;
    let mut no_withdrawals = good.clone();
    no_withdrawals.withdrawals = None;
    let mut no_root = good;
    no_root.parent_beacon_block_root = None;
    for bad in [late, no_withdrawals, no_root] {
        assert_eq!(id(&mut client, bad).expect_err("is wrong").code(), -38003);
    }
    let unknown = client
        .core
        .get_payload(PayloadId::new([9; 8]))
        .expect_err("was never started");
    assert_eq!(unknown.code(), -38001);
}

#[test]
fn a_build_includes_transactions_that_arrived_after_its_start() {
    let mut client = TestClient::new(Fork::Shanghai);
    let attributes = client.attributes(5);
    let genesis = client.core.genesis_hash();
    let updated = client
        .core
        .forkchoice_updated(head(genesis), Some(attributes))
        .expect("updates");
    let id = updated.payload_id.expect("a build");
    let empty = client.core.get_payload(id).expect("builds");
    assert!(empty.payload.transactions().is_empty());
    assert_eq!(empty.block_value, U256::ZERO);
    let tx = Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign();
    client.must_send(&tx);
    let full = client.core.get_payload(id).expect("builds");
    assert_eq!(
        full.payload.transactions(),
        &vec![alloy_primitives::Bytes::from(tx.encoded_2718())]
    );
    assert_eq!(full.block_value, U256::from(21_000 * GWEI));
    let again = client.core.get_payload(id).expect("builds");
    assert_eq!(again.payload, full.payload);
    client.must_import(&empty.payload);
    client.must_import(&full.payload);
}

#[test]
fn an_empty_payload_leaves_the_pool_out() {
    let mut client = TestClient::new(Fork::Cancun);
    let genesis = client.core.genesis_hash();
    client.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let attributes = client.attributes(5);
    let updated = client
        .core
        .begin_empty_payload(head(genesis), attributes)
        .expect("updates");
    let id = updated.payload_id.expect("a build");
    let empty = client.core.get_payload(id).expect("builds").payload;
    assert!(empty.transactions().is_empty());
    let full = client.build_on(genesis, 5);
    assert_eq!(full.transactions().len(), 1, "the build has another id");
    client.must_import(&empty);
}

#[test]
fn builds_and_remembered_invalid_blocks_are_bounded() {
    let mut client = TestClient::new(Fork::Shanghai);
    let genesis = client.core.genesis_hash();
    let start = |client: &mut TestClient, time| {
        let attributes = client.attributes(time);
        let updated = client
            .core
            .forkchoice_updated(head(genesis), Some(attributes))
            .expect("updates");
        updated.payload_id.expect("a build")
    };
    let ids: Vec<_> = (1..=limits::PAYLOAD_JOBS as u64 + 1)
        .map(|time| start(&mut client, time))
        .collect();
    assert_eq!(
        client
            .core
            .get_payload(ids[0])
            .expect_err("was forgotten")
            .code(),
        -38001
    );
    assert!(client.core.get_payload(ids[1]).is_ok());
}

#[test]
fn the_pool_survives_a_restart() {
    let pending = |client: &TestClient| {
        let content = client.core.pool_content();
        let nonces = content
            .pending
            .values()
            .flat_map(|by_nonce| by_nonce.keys().copied());
        nonces.collect::<Vec<u64>>()
    };
    let mut client = TestClient::new(Fork::Cancun);
    // Mined, so that only the others are kept. The gap is kept as well.
    client.must_send(&Tx::transfer(0, 0, account(1), 1).sign());
    client.block();
    for nonce in [1, 2, 4] {
        client.must_send(&Tx::transfer(0, nonce, account(1), 1).sign());
    }
    client.core.save_pool().expect("the store works");
    client.store.lose_power();
    client.restart();
    let status = client.core.pool_status();
    assert_eq!((status.pending, status.queued), (2, 1));
    assert_eq!(pending(&client), [1, 2]);

    // A transaction that is mined after the restart does not come back.
    client.block();
    client.core.save_pool().expect("the store works");
    client.restart();
    let status = client.core.pool_status();
    assert_eq!((status.pending, status.queued), (0, 1));
    client.must_send(&Tx::transfer(0, 3, account(1), 1).sign());
    assert_eq!(pending(&client), [3, 4]);
}

#[test]
fn a_fork_choice_saves_the_pool_for_a_killed_process() {
    let mut client = TestClient::new(Fork::Cancun);
    // Below the base fee, so that no block includes it.
    let cheap = Tx {
        cap: 2,
        tip: 1,
        ..Tx::transfer(0, 0, account(1), 1)
    };
    let hash = client.must_send(&cheap.sign());
    client.restart();
    assert!(
        client.core.pool_transaction(hash).is_none(),
        "not saved yet"
    );
    let cheap = Tx {
        cap: 3,
        tip: 1,
        ..Tx::transfer(0, 0, account(1), 1)
    };
    let hash = client.must_send(&cheap.sign());
    client.block();
    client.restart();
    assert!(client.core.pool_transaction(hash).is_some());
}

#[test]
fn a_damaged_row_of_the_pool_is_dropped() {
    let mut client = TestClient::new(Fork::Cancun);
    client.must_send(&Tx::transfer(0, 0, account(1), 1).sign());
    client.core.save_pool().expect("the store works");
    client.store.corrupt("el_pool");
    client.restart();
    let sender = client.core.pool_content_within(Some(account(0)));
    assert!(sender.pending.is_empty() && sender.queued.is_empty());
}

#[test]
fn a_restart_continues_from_the_store() {
    let mut client = TestClient::new(Fork::Cancun);
    client.must_send(&Tx::deploy(0, 0, COUNTER).sign());
    let a = client.block().block_hash();
    let hash = client.must_send(&Tx::call(0, 1, CONTRACT, []).sign());
    let b = client.block().block_hash();
    let state = ForkchoiceState {
        head_block_hash: b,
        safe_block_hash: a,
        finalized_block_hash: a,
    };
    assert!(
        client
            .core
            .forkchoice_updated(state, None)
            .expect("updates")
            .is_valid()
    );
    let before = (
        client.core.head(),
        client.core.safe(),
        client.core.finalized(),
        client.balance(account(0)),
    );
    let block = client.core.rpc_block(b.into(), true).expect("reads");
    let receipts = client.core.receipts(b.into()).expect("reads");
    client.restart();
    assert_eq!(client.core.rpc_block(b.into(), true).expect("reads"), block);
    assert_eq!(client.core.receipts(b.into()).expect("reads"), receipts);
    let after = (
        client.core.head(),
        client.core.safe(),
        client.core.finalized(),
        client.balance(account(0)),
    );
    assert_eq!(before, after);
    assert!(
        client
            .core
            .rpc_receipt(hash)
            .expect("reads")
            .expect("is there")
            .status()
    );
    client.must_send(&Tx::call(0, 2, CONTRACT, []).sign());
    client.block();
    let count = client
        .core
        .storage_at(CONTRACT, U256::ZERO, BlockId::latest())
        .expect("reads");
    assert_eq!(count, B256::with_last_byte(2));
}

#[test]
fn a_power_loss_keeps_the_head_and_its_ancestors() {
    let mut client = TestClient::new(Fork::Shanghai);
    client.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let kept = client.block();
    let lost = client.build_on(kept.block_hash(), 100);
    client.must_import(&lost);
    let writes = client.store.durable_writes();
    client.store.lose_power();
    client.restart();
    assert_eq!(client.core.head().hash, kept.block_hash());
    assert_eq!(client.balance(Address::repeat_byte(1)), U256::from(1));
    assert!(
        client
            .core
            .block(lost.block_hash().into())
            .expect("reads")
            .is_none()
    );
    assert!(
        client
            .core
            .forkchoice_updated(head(lost.block_hash()), None)
            .expect("answers")
            .is_syncing()
    );
    // The node resends the block.
    client.must_import(&lost);
    client.set_head(lost.block_hash());
    assert_eq!(
        client.store.durable_writes(),
        writes + 1,
        "a moved head waits for the disk once"
    );
    client.set_head(lost.block_hash());
    assert_eq!(
        client.store.durable_writes(),
        writes + 1,
        "a repeated head does not"
    );
}

#[test]
fn a_long_catch_up_needs_one_durable_write() {
    let mut builder = TestClient::new(Fork::Shanghai);
    let payloads = builder.branch(builder.core.genesis_hash(), 2 * limits::ROUTE_STEP + 3, 1);
    let mut client = TestClient::new(Fork::Shanghai);
    for payload in &payloads {
        client.must_import(payload);
    }
    let writes = client.store.durable_writes();
    let last = payloads.last().expect("many").block_hash();
    client.set_head(last);
    assert_eq!(client.store.durable_writes(), writes + 1);
    for (number, payload) in (1u64..).zip(&payloads) {
        let header = client
            .core
            .header(BlockId::number(number))
            .expect("reads")
            .expect("is there");
        assert_eq!(header.hash, payload.block_hash());
    }
    client.restart();
    assert_eq!(client.core.head().hash, last);
}

#[test]
fn another_genesis_and_a_corrupt_store_are_named_in_the_error() {
    let client = TestClient::new(Fork::Shanghai);
    let open = |genesis| ExecutionCore::open(client.store.clone(), &genesis, CoreConfig::default());
    let error = open(genesis(Fork::Cancun)).err().expect("another chain");
    assert!(matches!(error, Error::GenesisMismatch { .. }), "{error}");
    client.store.corrupt("el_header");
    let error = open(genesis(Fork::Shanghai)).err().expect("corrupt");
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn geneses_with_unsupported_features_are_refused() {
    let cases: &[(&str, fn(&mut alloy_genesis::Genesis))] = &[
        ("after Cancun", |genesis| {
            genesis.config.prague_time = Some(0)
        }),
        ("London", |genesis| genesis.config.london_block = None),
        ("London", |genesis| genesis.config.berlin_block = Some(3)),
        ("needs Shanghai", |genesis| {
            genesis.config.shanghai_time = None
        }),
        ("before Shanghai", |genesis| {
            genesis.config.shanghai_time = Some(7)
        }),
        ("number 0", |genesis| genesis.number = Some(1)),
        ("merge", |genesis| {
            genesis.config.terminal_total_difficulty_passed = false;
            genesis.config.terminal_total_difficulty = None;
        }),
    ];
    for (expected, change) in cases {
        let mut genesis = genesis(Fork::Cancun);
        change(&mut genesis);
        let error = ChainRules::new(&genesis).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// The RPC shares the core between tasks.
#[test]
fn the_core_can_be_sent_and_shared() {
    fn check<T: Send + Sync>(_: &T) {}
    check(&TestClient::new(Fork::Shanghai).core);
}

/// After a crash between any two writes the store opens and holds one complete chain up to its
/// head: states, bodies, receipts and look-ups, and no block above.
#[test]
fn a_crash_between_any_two_writes_leaves_a_complete_chain() {
    let mut client = TestClient::new(Fork::Cancun);
    client.must_send(&Tx::deploy(0, 0, COUNTER).sign());
    let base = client.block();
    let mut other = TestClient::new(Fork::Cancun);
    other.must_import(&base);
    let branch = other.branch(base.block_hash(), limits::ROUTE_STEP + 2, 3);
    for nonce in 1..3 {
        client.must_send(&Tx::call(0, nonce, CONTRACT, []).sign());
        client.block();
    }
    for payload in &branch {
        client.must_import(payload);
    }
    let last = branch.last().expect("many").block_hash();
    let safe = branch[3].block_hash();
    let state = ForkchoiceState {
        head_block_hash: last,
        safe_block_hash: safe,
        finalized_block_hash: safe,
    };
    assert!(
        client
            .core
            .forkchoice_updated(state, None)
            .expect("moves")
            .is_valid()
    );
    client.block();
    let mut heads = std::collections::BTreeSet::new();
    for store in client.store.all_prefixes() {
        let core =
            ExecutionCore::open(store, &client.genesis, CoreConfig::default()).expect("opens");
        let head = core.head();
        if !heads.insert(head.hash) {
            continue;
        }
        let mut parent = core.genesis_hash();
        for number in 1..=head.number {
            let block = core
                .block(BlockId::number(number))
                .expect("reads")
                .expect("is there");
            assert_eq!(block.block.header.parent_hash, parent);
            parent = block.hash;
            for transaction in &block.block.body.transactions {
                assert!(
                    core.rpc_receipt(*transaction.tx_hash())
                        .expect("reads")
                        .is_some()
                );
            }
        }
        assert_eq!(parent, head.hash);
        assert!(
            core.header(BlockId::number(head.number + 1))
                .expect("reads")
                .is_none()
        );
        assert!(core.safe().number <= head.number && core.finalized().number <= core.safe().number);
        let count = core
            .storage_at(CONTRACT, U256::ZERO, BlockId::latest())
            .expect("state is there");
        assert!(U256::from_be_bytes(count.0) <= U256::from(2));
        core.balance(account(0), BlockId::latest())
            .expect("state is there");
    }
    // Genesis, three blocks, the intermediate step and the end of the route to the other branch,
    // and the block after it.
    assert_eq!(heads.len(), 7);
}
