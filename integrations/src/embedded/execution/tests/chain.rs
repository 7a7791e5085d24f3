//! Import, fork choice, restart.

use super::super::*;
use super::world::*;
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

/// The payload after a change of its block, with the hash that belongs to it.
fn forged(
    payload: &ExecutionPayload,
    change: impl FnOnce(&mut Block<TxEnvelope>),
) -> ExecutionPayload {
    let mut block = consensus(payload);
    change(&mut block);
    ExecutionPayload::from_block_slow(&block).0
}

#[test]
fn every_kind_of_invalid_payload_is_refused_with_its_parent_as_the_last_valid_one() {
    type Change = fn(&mut Block<TxEnvelope>);
    let cases: &[(&str, Change)] = &[
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
    let mut world = World::new(Fork::Cancun);
    world.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let parent = world.core.genesis_hash();
    let good = world.build_on(parent, 1);
    for (expected, change) in cases {
        let bad = forged(&good, |block| {
            change(block);
            block.header.transactions_root =
                alloy_consensus::proofs::calculate_transaction_root(&block.body.transactions);
        });
        let status = world
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
        // Remembered, also by a fork choice and for what builds on it.
        assert!(
            world
                .core
                .new_payload(bad.clone(), sidecar(&good))
                .expect("answers")
                .is_invalid()
        );
        let updated = world
            .core
            .forkchoice_updated(head(bad.block_hash()), None)
            .expect("answers");
        assert!(updated.is_invalid(), "{expected}");
        let child = forged(&good, |block| {
            block.header.parent_hash = bad.block_hash();
            block.header.number += 1;
        });
        let status = world.import(&child);
        assert!(status.is_invalid(), "{expected}: {status:?}");
        assert_eq!(status.latest_valid_hash, Some(parent));
    }
    world.must_import(&good);
    world.set_head(good.block_hash());
    assert_eq!(world.core.head().number, 1);
}

#[test]
fn payloads_that_are_not_what_they_claim_are_invalid_without_a_last_valid_hash() {
    let mut world = World::new(Fork::Shanghai);
    world.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let good = world.build_on(world.core.genesis_hash(), 1);
    let mut wrong_hash = good.clone();
    wrong_hash.as_v1_mut().block_hash = B256::repeat_byte(1);
    let mut wrong_field = good.clone();
    wrong_field.as_v1_mut().state_root = B256::repeat_byte(1);
    let mut garbage = good.clone();
    garbage.as_v1_mut().transactions = vec![vec![2, 0xc1, 1].into()];
    let mut long = good.clone();
    long.as_v1_mut().extra_data = vec![0; 33].into();
    for bad in [wrong_hash, wrong_field, garbage, long] {
        let status = world.import(&bad);
        assert!(status.is_invalid(), "{status:?}");
        assert_eq!(status.latest_valid_hash, None);
    }
    world.must_import(&good);
}

#[test]
fn blob_transactions_and_versioned_hashes_are_refused() {
    let mut world = World::new(Fork::Cancun);
    let payload = world.build_on(world.core.genesis_hash(), 1);
    let fields = alloy_rpc_types_engine::CancunPayloadFields::new(beacon_root(1), vec![B256::ZERO]);
    let status = world
        .core
        .new_payload(payload, ExecutionPayloadSidecar::v3(fields))
        .expect("answers");
    assert!(status.is_invalid(), "{status:?}");
}

#[test]
fn a_payload_with_an_unknown_parent_is_syncing_until_the_parent_comes() {
    let mut builder = World::new(Fork::Shanghai);
    let payloads = builder.branch(builder.core.genesis_hash(), 3, 1);
    let mut world = World::new(Fork::Shanghai);
    assert!(world.import(&payloads[2]).is_syncing());
    let updated = world
        .core
        .forkchoice_updated(head(payloads[2].block_hash()), None)
        .expect("answers");
    assert!(updated.is_syncing());
    for payload in &payloads {
        world.must_import(payload);
    }
    world.set_head(payloads[2].block_hash());
    assert_eq!(world.core.head().number, 3);
}

#[test]
fn a_reorganisation_of_several_blocks_takes_state_index_and_pool_with_it() {
    let mut world = World::new(Fork::Shanghai);
    let (a, b) = (Address::repeat_byte(0xa), Address::repeat_byte(0xb));
    let base = world.block().block_hash();
    let first = world.must_send(&Tx::transfer(0, 0, a, 1).sign());
    let long: Vec<_> = (0..3).map(|_| world.block()).collect();
    let second = world.must_send(&Tx::transfer(0, 1, b, 2).sign());
    let last = world.block().block_hash();
    assert_eq!(world.core.head().number, 5);
    assert_eq!(
        (world.balance(a), world.balance(b)),
        (U256::from(1), U256::from(2))
    );

    // The other branch has another first transaction.
    let mut other = World::new(Fork::Shanghai);
    let common = consensus(&long[0]).header.parent_hash;
    assert_eq!(common, base);
    let shared = other.block();
    assert_eq!(shared.block_hash(), base);
    let rival = other.must_send(&Tx::transfer(1, 0, a, 10).sign());
    let branch = other.branch(base, 6, 5);
    for payload in &branch {
        world.must_import(payload);
        assert_eq!(world.core.head().hash, last, "an import moves no head");
    }
    world.set_head(branch[5].block_hash());
    assert_eq!(world.core.head().number, 7);
    assert_eq!(
        (world.balance(a), world.balance(b)),
        (U256::from(10), U256::ZERO)
    );
    assert!(world.core.rpc_receipt(first).expect("reads").is_none());
    assert!(world.core.rpc_receipt(rival).expect("reads").is_some());
    let third = world
        .core
        .header(BlockId::number(3))
        .expect("reads")
        .expect("is there");
    assert_eq!(third.hash, branch[1].block_hash());
    // The orphaned transactions wait again and go into the next block.
    assert_eq!(
        world.core.pool_status(),
        PoolStatus {
            pending: 2,
            queued: 0
        }
    );
    assert_eq!(
        world
            .core
            .nonce(account(0), BlockId::pending())
            .expect("reads"),
        2
    );
    world.block();
    assert_eq!(
        (world.balance(a), world.balance(b)),
        (U256::from(11), U256::from(2))
    );
    assert!(world.core.rpc_receipt(second).expect("reads").is_some());

    // And back, to a shorter branch.
    world.set_head(last);
    assert_eq!(world.core.head().number, 5);
    assert_eq!(
        (world.balance(a), world.balance(b)),
        (U256::from(1), U256::from(2))
    );
    assert!(
        world
            .core
            .header(BlockId::number(6))
            .expect("reads")
            .is_none()
    );
    assert!(world.core.rpc_receipt(rival).expect("reads").is_none());
}

#[test]
fn the_head_may_go_back_to_an_ancestor_but_not_below_finality() {
    let mut world = World::new(Fork::Shanghai);
    let blocks: Vec<B256> = (0..4).map(|_| world.block().block_hash()).collect();
    let to = |head, finalized| ForkchoiceState {
        head_block_hash: head,
        safe_block_hash: finalized,
        finalized_block_hash: finalized,
    };
    world.set_head(blocks[2]);
    assert_eq!(world.core.head().number, 3);
    assert!(
        world
            .core
            .header(BlockId::number(4))
            .expect("reads")
            .is_none()
    );
    assert!(
        world
            .core
            .forkchoice_updated(to(blocks[3], blocks[1]), None)
            .expect("moves")
            .is_valid()
    );
    assert_eq!(
        (world.core.finalized().number, world.core.safe().number),
        (2, 2)
    );
    let error = world
        .core
        .forkchoice_updated(head(blocks[0]), None)
        .expect_err("is final");
    assert_eq!(error.code(), -38002);
    // Finality told again, or older than it was, changes nothing.
    assert!(
        world
            .core
            .forkchoice_updated(to(blocks[3], blocks[0]), None)
            .expect("answers")
            .is_valid()
    );
    assert_eq!(world.core.finalized().number, 2);
}

#[test]
fn inconsistent_fork_choices_are_refused_and_change_nothing() {
    let mut world = World::new(Fork::Shanghai);
    let genesis = world.core.genesis_hash();
    let a = world.branch(genesis, 2, 1);
    world.set_head(genesis);
    let b = world.branch(genesis, 2, 9);
    world.set_head(a[1].block_hash());
    let before = world.core.head();
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
        let error = world
            .core
            .forkchoice_updated(state, None)
            .expect_err("does not fit");
        assert_eq!(error.code(), -38002, "{error}");
        assert_eq!(world.core.head(), before);
    }
    // Once a branch is final, the other one is refused and dropped.
    let state = ForkchoiceState {
        head_block_hash: a1,
        safe_block_hash: a1,
        finalized_block_hash: a1,
    };
    assert!(
        world
            .core
            .forkchoice_updated(state, None)
            .expect("moves")
            .is_valid()
    );
    assert!(
        world.core.block(b1.into()).expect("reads").is_none(),
        "side blocks below finality are dropped"
    );
    assert!(world.core.block(a1.into()).expect("reads").is_some());
    assert!(
        world
            .core
            .forkchoice_updated(head(b1), None)
            .expect("answers")
            .is_syncing()
    );
    let error = world
        .core
        .forkchoice_updated(head(genesis), None)
        .expect_err("below finality");
    assert_eq!(error.code(), -38002);
}

#[test]
fn attributes_are_checked_and_name_their_build() {
    let mut world = World::new(Fork::Cancun);
    let genesis = world.core.genesis_hash();
    let good = world.attributes(5);
    let id = |world: &mut World, attributes| {
        let updated = world
            .core
            .forkchoice_updated(head(genesis), Some(attributes));
        updated.map(|updated| updated.payload_id.expect("a build"))
    };
    let first = id(&mut world, good.clone()).expect("builds");
    assert_eq!(
        id(&mut world, good.clone()).expect("builds"),
        first,
        "the same build"
    );
    let mut other = good.clone();
    other.timestamp = 6;
    other.parent_beacon_block_root = Some(beacon_root(6));
    assert_ne!(id(&mut world, other).expect("builds"), first);
    let mut late = good.clone();
    late.timestamp = 0;
    let mut no_withdrawals = good.clone();
    no_withdrawals.withdrawals = None;
    let mut no_root = good;
    no_root.parent_beacon_block_root = None;
    for bad in [late, no_withdrawals, no_root] {
        assert_eq!(id(&mut world, bad).expect_err("is wrong").code(), -38003);
    }
    let unknown = world
        .core
        .get_payload(PayloadId::new([9; 8]))
        .expect_err("was never started");
    assert_eq!(unknown.code(), -38001);
}

#[test]
fn a_build_takes_what_came_into_the_pool_after_it_was_started() {
    let mut world = World::new(Fork::Shanghai);
    let attributes = world.attributes(5);
    let genesis = world.core.genesis_hash();
    let updated = world
        .core
        .forkchoice_updated(head(genesis), Some(attributes))
        .expect("updates");
    let id = updated.payload_id.expect("a build");
    let empty = world.core.get_payload(id).expect("builds");
    assert!(empty.payload.transactions().is_empty());
    assert_eq!(empty.block_value, U256::ZERO);
    let tx = Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign();
    world.must_send(&tx);
    let full = world.core.get_payload(id).expect("builds");
    assert_eq!(
        full.payload.transactions(),
        &vec![alloy_primitives::Bytes::from(tx.encoded_2718())]
    );
    assert_eq!(full.block_value, U256::from(21_000 * GWEI));
    let again = world.core.get_payload(id).expect("builds");
    assert_eq!(again.payload, full.payload);
    world.must_import(&empty.payload);
    world.must_import(&full.payload);
}

#[test]
fn builds_and_memory_of_invalid_blocks_are_bounded() {
    let mut world = World::new(Fork::Shanghai);
    let genesis = world.core.genesis_hash();
    let start = |world: &mut World, time| {
        let attributes = world.attributes(time);
        let updated = world
            .core
            .forkchoice_updated(head(genesis), Some(attributes))
            .expect("updates");
        updated.payload_id.expect("a build")
    };
    let ids: Vec<_> = (1..=limits::PAYLOAD_JOBS as u64 + 1)
        .map(|time| start(&mut world, time))
        .collect();
    assert_eq!(
        world
            .core
            .get_payload(ids[0])
            .expect_err("was forgotten")
            .code(),
        -38001
    );
    assert!(world.core.get_payload(ids[1]).is_ok());
}

#[test]
fn a_restart_goes_on_where_it_stopped() {
    let mut world = World::new(Fork::Cancun);
    world.must_send(&Tx::deploy(0, 0, COUNTER).sign());
    let a = world.block().block_hash();
    let hash = world.must_send(&Tx::call(0, 1, CONTRACT, []).sign());
    let b = world.block().block_hash();
    let state = ForkchoiceState {
        head_block_hash: b,
        safe_block_hash: a,
        finalized_block_hash: a,
    };
    assert!(
        world
            .core
            .forkchoice_updated(state, None)
            .expect("updates")
            .is_valid()
    );
    let before = (
        world.core.head(),
        world.core.safe(),
        world.core.finalized(),
        world.balance(account(0)),
    );
    let block = world.core.rpc_block(b.into(), true).expect("reads");
    let receipts = world.core.receipts(b.into()).expect("reads");
    world.restart();
    assert_eq!(world.core.rpc_block(b.into(), true).expect("reads"), block);
    assert_eq!(world.core.receipts(b.into()).expect("reads"), receipts);
    let after = (
        world.core.head(),
        world.core.safe(),
        world.core.finalized(),
        world.balance(account(0)),
    );
    assert_eq!(before, after);
    assert!(
        world
            .core
            .rpc_receipt(hash)
            .expect("reads")
            .expect("is there")
            .status()
    );
    world.must_send(&Tx::call(0, 2, CONTRACT, []).sign());
    world.block();
    let count = world
        .core
        .storage_at(CONTRACT, U256::ZERO, BlockId::latest())
        .expect("reads");
    assert_eq!(count, B256::with_last_byte(2));
}

#[test]
fn a_power_loss_keeps_the_head_and_loses_only_what_was_no_head() {
    let mut world = World::new(Fork::Shanghai);
    world.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let kept = world.block();
    let lost = world.build_on(kept.block_hash(), 100);
    world.must_import(&lost);
    let writes = world.store.durable_writes();
    world.store.lose_power();
    world.restart();
    assert_eq!(world.core.head().hash, kept.block_hash());
    assert_eq!(world.balance(Address::repeat_byte(1)), U256::from(1));
    assert!(
        world
            .core
            .block(lost.block_hash().into())
            .expect("reads")
            .is_none()
    );
    assert!(
        world
            .core
            .forkchoice_updated(head(lost.block_hash()), None)
            .expect("answers")
            .is_syncing()
    );
    // The node sends it again.
    world.must_import(&lost);
    world.set_head(lost.block_hash());
    assert_eq!(
        world.store.durable_writes(),
        writes + 1,
        "a moved head waits for the disk once"
    );
    world.set_head(lost.block_hash());
    assert_eq!(
        world.store.durable_writes(),
        writes + 1,
        "a head told again does not"
    );
}

#[test]
fn a_long_catch_up_ends_with_one_wait_for_the_disk() {
    let mut builder = World::new(Fork::Shanghai);
    let payloads = builder.branch(builder.core.genesis_hash(), 2 * limits::ROUTE_STEP + 3, 1);
    let mut world = World::new(Fork::Shanghai);
    for payload in &payloads {
        world.must_import(payload);
    }
    let writes = world.store.durable_writes();
    let last = payloads.last().expect("many").block_hash();
    world.set_head(last);
    assert_eq!(world.store.durable_writes(), writes + 1);
    for (number, payload) in (1u64..).zip(&payloads) {
        let header = world
            .core
            .header(BlockId::number(number))
            .expect("reads")
            .expect("is there");
        assert_eq!(header.hash, payload.block_hash());
    }
    world.restart();
    assert_eq!(world.core.head().hash, last);
}

#[test]
fn another_genesis_or_a_corrupt_store_is_named() {
    let world = World::new(Fork::Shanghai);
    let open = |genesis| ExecutionCore::open(world.store.clone(), &genesis, CoreConfig::default());
    let error = open(genesis(Fork::Cancun)).err().expect("another chain");
    assert!(matches!(error, Error::GenesisMismatch { .. }), "{error}");
    world.store.corrupt("el_header");
    let error = open(genesis(Fork::Shanghai)).err().expect("corrupt");
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn geneses_that_ask_for_more_are_refused() {
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

/// The RPC may share it between tasks.
#[test]
fn the_core_can_be_sent_and_shared() {
    fn check<T: Send + Sync>(_: &T) {}
    check(&World::new(Fork::Shanghai).core);
}

/// After a crash between any two writes the store opens, and holds one whole chain below its head: states, bodies,
/// receipts, lookups, and nothing above.
#[test]
fn a_crash_between_any_two_writes_leaves_a_whole_chain() {
    let mut world = World::new(Fork::Cancun);
    world.must_send(&Tx::deploy(0, 0, COUNTER).sign());
    let base = world.block();
    let mut other = World::new(Fork::Cancun);
    other.must_import(&base);
    let branch = other.branch(base.block_hash(), limits::ROUTE_STEP + 2, 3);
    for nonce in 1..3 {
        world.must_send(&Tx::call(0, nonce, CONTRACT, []).sign());
        world.block();
    }
    for payload in &branch {
        world.must_import(payload);
    }
    let last = branch.last().expect("many").block_hash();
    let safe = branch[3].block_hash();
    let state = ForkchoiceState {
        head_block_hash: last,
        safe_block_hash: safe,
        finalized_block_hash: safe,
    };
    assert!(
        world
            .core
            .forkchoice_updated(state, None)
            .expect("moves")
            .is_valid()
    );
    world.block();
    let mut heads = std::collections::BTreeSet::new();
    for store in world.store.all_prefixes() {
        let core =
            ExecutionCore::open(store, &world.genesis, CoreConfig::default()).expect("opens");
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
    // Genesis, three blocks, the step on the long way to the other branch, its end, and the block after it.
    assert_eq!(heads.len(), 7);
}
