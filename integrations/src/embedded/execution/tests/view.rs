//! Views of readers while the core changes, and the end of queries by their meter.

use super::super::*;
use super::kit::*;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_eth::{BlockId, BlockNumberOrTag, Filter, TransactionRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const RECIPIENT: Address = Address::repeat_byte(0xaa);

fn balance(view: &ChainView, block: BlockId) -> U256 {
    view.balance(RECIPIENT, block).expect("reads")
}

#[test]
fn a_view_stays_at_its_head_while_the_core_imports() {
    let mut client = TestClient::new(Fork::Cancun);
    let reader = client.core.reader();
    client.must_send(&Tx::transfer(0, 0, RECIPIENT, 7).sign());
    let before = reader.view();
    client.block();
    client.must_send(&Tx::transfer(0, 1, RECIPIENT, 7).sign());
    client.block();
    let after = reader.view();
    assert_eq!((before.head().number, after.head().number), (0, 2));
    assert_eq!(balance(&before, BlockId::latest()), U256::ZERO);
    assert_eq!(balance(&after, BlockId::latest()), U256::from(14));
    assert_eq!(balance(&after, BlockId::number(1)), U256::from(7));
    // The index by height already has the block, but this view does not.
    assert!(before.header(BlockId::number(1)).expect("reads").is_none());
    assert!(!before.is_superseded(), "no block of the view was replaced");
}

#[test]
fn a_reorganisation_supersedes_the_views_of_before() {
    let mut client = TestClient::new(Fork::Cancun);
    let reader = client.core.reader();
    let genesis = client.core.genesis_hash();
    client.block();
    let before = reader.view();
    let branch = client.branch(genesis, 2, 5);
    let head = branch.last().expect("two blocks").block_hash();
    client.set_head(head);
    assert!(before.is_superseded());
    let after = reader.view();
    assert!(!after.is_superseded());
    assert_eq!(after.head().hash, head);
}

#[test]
fn a_pool_of_a_later_head_is_not_combined_with_an_older_view() {
    let mut client = TestClient::new(Fork::Cancun);
    let reader = client.core.reader();
    let before = reader.view();
    let mined = client.must_send(&Tx::transfer(0, 0, RECIPIENT, 7).sign());
    client.block();
    let pending = BlockId::Number(BlockNumberOrTag::Pending);
    let stale = before.nonce(account(0), pending).expect_err("stale");
    assert_eq!(stale.code(), Error::SUPERSEDED);
    // The second is in neither of the two: it may have moved from the pool to the chain between the
    // two look-ups.
    let unknown = B256::repeat_byte(9);
    for hash in [mined, unknown] {
        let stale = before.rpc_transaction(hash).expect_err("stale");
        assert_eq!(stale.code(), Error::SUPERSEDED);
    }
    let next = Tx::transfer(0, 1, RECIPIENT, 7).sign();
    let raw = alloy_eips::eip2718::Encodable2718::encoded_2718(&next);
    let stale = before.add_transaction(&raw).expect_err("stale");
    assert_eq!(stale.code(), Error::SUPERSEDED);
    let after = reader.view();
    assert_eq!(after.nonce(account(0), pending).expect("reads"), 1);
    assert!(after.rpc_transaction(mined).expect("reads").is_some());
    assert!(after.rpc_transaction(unknown).expect("reads").is_none());
    after.add_transaction(&raw).expect("is taken");
}

/// A creation whose code jumps until its gas ends.
fn endless() -> TransactionRequest {
    TransactionRequest {
        input: Bytes::from_static(&[0x5b, 0x60, 0x00, 0x56]).into(),
        ..Default::default()
    }
}

#[test]
fn a_meter_ends_calls_and_estimates_in_the_middle_of_the_execution() {
    let client = TestClient::new(Fork::Cancun);
    for reason in [Interrupted::TimedOut, Interrupted::Cancelled] {
        let checks = Arc::new(AtomicU32::new(0));
        let meter = {
            let checks = checks.clone();
            Meter::new(move || (checks.fetch_add(1, Ordering::SeqCst) >= 3).then_some(reason))
        };
        let view = client.core.reader().view().metered(meter);
        let error = view.call(&endless(), BlockId::latest()).expect_err("ends");
        assert!(
            matches!(error, Error::Interrupted { reason: found } if found == reason),
            "{error}"
        );
        assert_eq!(checks.load(Ordering::SeqCst), 4);
        let error = view.estimate_gas(&endless(), BlockId::latest());
        assert_eq!(error.expect_err("ends").code(), -32000);
    }
    // Without a meter the gas limit ends it.
    let error = client.core.call(&endless(), BlockId::latest());
    assert!(matches!(error, Err(Error::Halted { .. })), "{error:?}");
}

#[test]
fn a_meter_ends_searches_fee_histories_and_proofs_between_their_parts() {
    type Query = fn(&ChainView) -> Result<(), Error>;
    let mut client = TestClient::new(Fork::Cancun);
    for _ in 0..4 {
        client.block();
    }
    let table: [(&str, Query); 3] = [
        ("logs", |view| {
            let all = Filter::new().from_block(0u64).to_block(4u64);
            view.logs(&all).map(|_| ())
        }),
        ("fee history", |view| {
            view.fee_history(5, BlockNumberOrTag::Latest, None)
                .map(|_| ())
        }),
        ("proof", |view| {
            view.proof(account(0), &[B256::ZERO; 5], BlockId::latest())
                .map(|_| ())
        }),
    ];
    for (name, query) in table {
        query(&client.core.reader().view()).expect(name);
        let checks = Arc::new(AtomicU32::new(0));
        let meter = {
            let checks = checks.clone();
            Meter::new(move || {
                (checks.fetch_add(1, Ordering::SeqCst) >= 2).then_some(Interrupted::TimedOut)
            })
        };
        let ended = query(&client.core.reader().view().metered(meter));
        assert!(
            matches!(ended, Err(Error::Interrupted { .. })),
            "{name}: {ended:?}"
        );
        assert_eq!(checks.load(Ordering::SeqCst), 3, "{name}");
    }
}

#[test]
fn the_gas_that_a_sender_can_afford_is_paid_from_what_the_value_leaves() {
    const PRICE: u128 = 100 * GWEI;
    const VALUE: u128 = 1_000_000_000 * PRICE;
    // One byte of input, so that the call is no plain transfer (EIP-2028).
    const NEEDED: u64 = 21_016;
    let mut client = TestClient::new(Fork::Cancun);
    // The gas that the balance pays for besides the value, and whether it is enough.
    let table = [
        (NEEDED - 1, false),
        (NEEDED, true),
        (NEEDED + 9_000, true),
        (1_000_000, true),
    ];
    let senders = (0u64..).map(|n| Address::with_last_byte(0xb0 + n as u8));
    for (nonce, (sender, (gas, _))) in (0..).zip(senders.clone().zip(table)) {
        let balance = VALUE + u128::from(gas) * PRICE;
        client.must_send(&Tx::transfer(0, nonce, sender, balance).sign());
    }
    client.block();
    for (sender, (gas, is_enough)) in senders.zip(table) {
        let unpriced = TransactionRequest {
            from: Some(sender),
            to: Some(RECIPIENT.into()),
            value: Some(U256::from(VALUE)),
            input: Bytes::from_static(&[1]).into(),
            ..Default::default()
        };
        let priced = [
            TransactionRequest {
                gas_price: Some(PRICE),
                ..unpriced.clone()
            },
            TransactionRequest {
                max_fee_per_gas: Some(PRICE),
                ..unpriced
            },
        ];
        for request in priced {
            let estimate = client.core.estimate_gas(&request, BlockId::latest());
            let estimate = estimate.map_err(|error| error.to_string());
            if is_enough {
                let estimate = estimate.expect("affordable");
                // An estimate may be too high by 1.5 %, as in Geth.
                let most = gas.min(NEEDED + NEEDED * 15 / 1_000);
                assert!((NEEDED..=most).contains(&estimate), "{estimate} of {gas}");
            } else {
                let refusal = format!("gas required exceeds allowance ({gas})");
                assert_eq!(estimate, Err(refusal), "{request:?}");
            }
        }
    }
}
