//! Tips from transactions and receipts.

use alloy_consensus::proofs::calculate_receipt_root;
use alloy_consensus::{
    Receipt, ReceiptEnvelope, SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy,
};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Signature, U256};
use alys_peg::ReceiptsError;
use alys_peg::receipts::{tip_per_gas, tips};
use alys_types::{Address, ExecutionPayload, Hash};

const BASE_FEE: u64 = 100;

fn legacy(gas_price: u128) -> TxEnvelope {
    let transaction = TxLegacy {
        chain_id: Some(1),
        gas_price,
        ..TxLegacy::default()
    };
    transaction.into_signed(Signature::test_signature()).into()
}

fn with_access_list(gas_price: u128) -> TxEnvelope {
    let transaction = TxEip2930 {
        chain_id: 1,
        gas_price,
        ..TxEip2930::default()
    };
    transaction.into_signed(Signature::test_signature()).into()
}

fn dynamic(max_fee_per_gas: u128, max_priority_fee_per_gas: u128) -> TxEnvelope {
    let transaction = TxEip1559 {
        chain_id: 1,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        ..TxEip1559::default()
    };
    transaction.into_signed(Signature::test_signature()).into()
}

/// A payload with these transactions, each of which used an amount of gas, and its receipts.
fn executed(transactions: &[(TxEnvelope, u64)]) -> (ExecutionPayload, Vec<ReceiptEnvelope>) {
    let mut gas_used = 0;
    let mut receipts = Vec::new();
    for (transaction, gas) in transactions {
        gas_used += gas;
        let receipt = Receipt {
            status: true.into(),
            cumulative_gas_used: gas_used,
            logs: vec![],
        };
        receipts.push(ReceiptEnvelope::from_typed(
            transaction.tx_type(),
            receipt.with_bloom(),
        ));
    }
    let payload = ExecutionPayload {
        parent_hash: Hash::ZERO,
        fee_recipient: Address::default(),
        state_root: Hash::ZERO,
        receipts_root: calculate_receipt_root(&receipts).into(),
        logs_bloom: [0; 256],
        prev_randao: Hash::ZERO,
        block_number: 1,
        gas_limit: 30_000_000,
        gas_used,
        timestamp: 1,
        extra_data: vec![],
        base_fee_per_gas: U256::from(BASE_FEE).to_be_bytes(),
        block_hash: Hash::ZERO,
        transactions: transactions
            .iter()
            .map(|(transaction, _)| transaction.encoded_2718())
            .collect(),
        withdrawals: vec![],
        blob_gas: None,
    };
    (payload, receipts)
}

#[test]
fn the_tip_of_each_type_of_transaction_follows_its_fields() {
    // Transaction, and its tip for each gas at the base fee of 100.
    let table = [
        (legacy(100), 0),
        (legacy(103), 3),
        (with_access_list(100), 0),
        (with_access_list(107), 7),
        (dynamic(100, 0), 0),
        (dynamic(100, 100), 0),
        (dynamic(150, 20), 20),
        // The cap is below the base fee and the priority fee together.
        (dynamic(150, 90), 50),
        (dynamic(u128::MAX, u128::MAX), u128::MAX - 100),
    ];
    let mut all = U256::ZERO;
    for (row, (transaction, tip)) in table.iter().enumerate() {
        let gas = 21_000 + row as u64;
        let (payload, receipts) = executed(&[(transaction.clone(), gas)]);
        let expected = U256::from(*tip) * U256::from(gas);
        assert_eq!(tips(&payload, &receipts), Ok(expected), "row {row}");
        all += expected;
    }
    // Each has the gas of its own, not the cumulative one.
    let rows = table.iter().enumerate();
    let together: Vec<_> = rows
        .map(|(row, (transaction, _))| (transaction.clone(), 21_000 + row as u64))
        .collect();
    let (payload, receipts) = executed(&together);
    assert_eq!(tips(&payload, &receipts), Ok(all));
}

#[test]
fn a_block_without_transactions_has_no_tips() {
    let (payload, receipts) = executed(&[]);
    assert_eq!(tips(&payload, &receipts), Ok(U256::ZERO));
    let other = ExecutionPayload {
        receipts_root: Hash([1; 32]),
        ..payload
    };
    assert!(matches!(
        tips(&other, &receipts),
        Err(ReceiptsError::Root { expected, .. }) if expected == Hash([1; 32])
    ));
}

#[test]
fn other_receipts_than_those_of_the_payload_are_refused() {
    let (payload, receipts) = executed(&[(legacy(103), 21_000), (dynamic(150, 20), 50_000)]);
    assert_eq!(tips(&payload, &receipts), Ok(U256::from(1_063_000)));
    let mut swapped = receipts.clone();
    swapped.reverse();
    let mut longer = receipts.clone();
    longer.push(receipts[1].clone());
    let (_, cheaper) = executed(&[(legacy(103), 20_000), (dynamic(150, 20), 51_000)]);
    let retyped = vec![
        receipts[0].clone(),
        ReceiptEnvelope::Eip2930(receipts[1].as_receipt_with_bloom().expect("one").clone()),
    ];
    let count = |found| ReceiptsError::Count { expected: 2, found };
    assert_eq!(tips(&payload, &[]), Err(count(0)));
    assert_eq!(tips(&payload, &receipts[..1]), Err(count(1)));
    assert_eq!(tips(&payload, &longer), Err(count(3)));
    for other in [swapped, cheaper, retyped] {
        assert_eq!(
            tips(&payload, &other),
            Err(ReceiptsError::Root {
                expected: payload.receipts_root,
                found: calculate_receipt_root(&other).into(),
            })
        );
    }
}

#[test]
fn faults_of_a_payload_are_errors() {
    let good = [(legacy(103), 21_000), (dynamic(150, 20), 50_000)];
    let (payload, receipts) = executed(&good);

    let mut broken = payload.clone();
    broken.transactions[1].push(0);
    assert!(matches!(
        tips(&broken, &receipts),
        Err(ReceiptsError::Transaction { index: 1, .. })
    ));

    let base_fee = U256::from(104);
    let dearer = ExecutionPayload {
        base_fee_per_gas: base_fee.to_be_bytes(),
        ..payload.clone()
    };
    assert_eq!(
        tips(&dearer, &receipts),
        Err(ReceiptsError::FeeCap {
            index: 0,
            base_fee,
            found: 103,
        })
    );

    let longer = ExecutionPayload {
        gas_used: payload.gas_used + 1,
        ..payload.clone()
    };
    assert_eq!(
        tips(&longer, &receipts),
        Err(ReceiptsError::GasUsed {
            expected: payload.gas_used + 1,
            found: payload.gas_used,
        })
    );

    let mut falling = receipts;
    falling.reverse();
    let disordered = ExecutionPayload {
        receipts_root: calculate_receipt_root(&falling).into(),
        ..payload
    };
    assert_eq!(
        tips(&disordered, &falling),
        Err(ReceiptsError::GasOrder {
            index: 1,
            before: 71_000,
            found: 21_000,
        })
    );
}

#[test]
fn no_product_and_no_sum_reaches_the_end_of_256_bits() {
    let base_fee = U256::ZERO;
    let most = tip_per_gas(u128::MAX, None, base_fee).expect("covers the base fee");
    assert_eq!(most, U256::from(u128::MAX));
    assert_eq!(tip_per_gas(u128::MAX, None, U256::MAX), None);
    // As many transactions as 64 bits of gas pay for.
    assert!(most.checked_mul(U256::from(u64::MAX)).is_some());
}
