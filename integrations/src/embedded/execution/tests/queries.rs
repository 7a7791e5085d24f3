//! Queries of wallets and scripts.

use super::super::*;
use super::kit::*;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rpc_types_eth::{BlockId, BlockNumberOrTag, Filter, TransactionRequest};

fn counted(client: &mut TestClient, calls: u64) {
    client.must_send(&Tx::deploy(0, 0, COUNTER).sign());
    client.block();
    for nonce in 1..=calls {
        client.must_send(&Tx::call(0, nonce, CONTRACT, []).sign());
        client.block();
    }
}

fn ask(word: u64) -> TransactionRequest {
    let input: Bytes = B256::from(U256::from(word)).0.to_vec().into();
    TransactionRequest {
        to: Some(CONTRACT.into()),
        input: input.into(),
        ..Default::default()
    }
}

#[test]
fn calls_execute_at_any_block_and_change_nothing() {
    let mut client = TestClient::new(Fork::Cancun);
    counted(&mut client, 3);
    for number in 1..=4u64 {
        let answer = client
            .core
            .call(&ask(0xff), BlockId::number(number))
            .expect("calls");
        assert_eq!(U256::from_be_slice(&answer), U256::from(number - 1));
    }
    assert!(
        client
            .core
            .call(&ask(0xff), BlockId::number(0))
            .expect("no code there")
            .is_empty()
    );
    let unknown = client
        .core
        .call(&ask(0xff), BlockId::number(99))
        .expect_err("no such block");
    assert_eq!(
        (unknown.code(), unknown.to_string().as_str()),
        (-32000, "header not found")
    );
    let counting = TransactionRequest {
        to: Some(CONTRACT.into()),
        ..Default::default()
    };
    client
        .core
        .call(&counting, BlockId::latest())
        .expect("calls");
    let answer = client
        .core
        .call(&ask(0xff), BlockId::latest())
        .expect("calls");
    assert_eq!(U256::from_be_slice(&answer), U256::from(3));
}

#[test]
fn reverts_carry_their_data_and_reason() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 0);
    for error in [
        client
            .core
            .call(&ask(1), BlockId::latest())
            .expect_err("reverts"),
        client
            .core
            .estimate_gas(&ask(1), BlockId::latest())
            .expect_err("reverts"),
    ] {
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (3, "execution reverted: no")
        );
        let data = error.data().expect("has data");
        assert_eq!(
            (data.len(), &data[..4]),
            (100, &keccak256("Error(string)")[..4])
        );
    }
}

#[test]
fn calls_that_cannot_start_fail_with_known_texts() {
    let client = TestClient::new(Fork::Shanghai);
    let base = TransactionRequest {
        from: Some(account(2)),
        to: Some(Address::repeat_byte(1).into()),
        ..Default::default()
    };
    let cases = [
        (
            "insufficient funds for gas * price + value",
            TransactionRequest {
                value: Some(eth(1)),
                ..base.clone()
            },
        ),
        (
            "intrinsic gas too low",
            TransactionRequest {
                gas: Some(20_000),
                ..base.clone()
            },
        ),
        (
            "max fee per gas less than block base fee",
            TransactionRequest {
                from: Some(account(0)),
                max_fee_per_gas: Some(1),
                ..base.clone()
            },
        ),
        (
            "both gasPrice and",
            TransactionRequest {
                gas_price: Some(1),
                max_fee_per_gas: Some(1),
                ..base.clone()
            },
        ),
        (
            "chainId does not match",
            TransactionRequest {
                chain_id: Some(5),
                ..base.clone()
            },
        ),
        (
            "transaction type not supported",
            TransactionRequest {
                blob_versioned_hashes: Some(vec![B256::ZERO]),
                ..base
            },
        ),
    ];
    for (expected, request) in cases {
        let error = client
            .core
            .call(&request, BlockId::latest())
            .expect_err(expected);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(error.code(), -32000);
    }
}

#[test]
fn a_contract_may_be_the_caller_of_a_call() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 1);
    let request = TransactionRequest {
        from: Some(CONTRACT),
        ..ask(0xff)
    };
    assert!(client.core.call(&request, BlockId::latest()).is_ok());
}

#[test]
fn gas_estimates_are_sufficient_and_tight() {
    let mut client = TestClient::new(Fork::Shanghai);
    let transfer = TransactionRequest {
        from: Some(account(0)),
        to: Some(account(1).into()),
        value: Some(eth(1)),
        ..Default::default()
    };
    assert_eq!(
        client
            .core
            .estimate_gas(&transfer, BlockId::latest())
            .expect("estimates"),
        21_000
    );
    let deploy = TransactionRequest {
        from: Some(account(0)),
        to: Some(TxKind::Create),
        input: Bytes::from_static(COUNTER).into(),
        ..Default::default()
    };
    let gas = client
        .core
        .estimate_gas(&deploy, BlockId::latest())
        .expect("estimates");
    let hash = client.must_send(
        &Tx {
            gas,
            ..Tx::deploy(0, 0, COUNTER)
        }
        .sign(),
    );
    client.block();
    let receipt = client
        .core
        .rpc_receipt(hash)
        .expect("reads")
        .expect("is mined");
    assert!(receipt.status());
    assert!(
        gas - receipt.gas_used <= gas / 50,
        "estimated {gas}, used {}",
        receipt.gas_used
    );
    let count = TransactionRequest {
        from: Some(account(0)),
        to: Some(CONTRACT.into()),
        ..Default::default()
    };
    let gas = client
        .core
        .estimate_gas(&count, BlockId::latest())
        .expect("estimates");
    let hash = client.must_send(
        &Tx {
            gas,
            ..Tx::call(0, 1, CONTRACT, [])
        }
        .sign(),
    );
    client.block();
    assert!(
        client
            .core
            .rpc_receipt(hash)
            .expect("reads")
            .expect("is mined")
            .status()
    );
    // The sender's balance limits the search.
    let poor = TransactionRequest {
        from: Some(account(2)),
        gas_price: Some(GWEI),
        ..count
    };
    let error = client
        .core
        .estimate_gas(&poor, BlockId::latest())
        .expect_err("has nothing");
    assert_eq!(error.to_string(), "gas required exceeds allowance (0)");
}

#[test]
fn proofs_verify_against_the_state_root() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 2);
    let keys = [B256::ZERO, B256::with_last_byte(1)];
    let proof = client
        .core
        .proof(CONTRACT, &keys, BlockId::latest())
        .expect("proves");
    let header = client
        .core
        .header(BlockId::latest())
        .expect("reads")
        .expect("is there");
    let nibbles = |bytes: &[u8]| alloy_trie::Nibbles::unpack(keccak256(bytes));
    let account = alloy_consensus::TrieAccount::new(
        proof.nonce,
        proof.balance,
        proof.storage_hash,
        proof.code_hash,
    );
    alloy_trie::proof::verify_proof(
        header.header.state_root,
        nibbles(CONTRACT.as_slice()),
        Some(alloy_rlp::encode(account)),
        &proof.account_proof,
    )
    .expect("the account is proved");
    for (key, storage) in keys.iter().zip(&proof.storage_proof) {
        let value = (!storage.value.is_zero()).then(|| alloy_rlp::encode(storage.value));
        alloy_trie::proof::verify_proof(
            proof.storage_hash,
            nibbles(key.as_slice()),
            value,
            &storage.proof,
        )
        .expect("the slot is proved");
    }
    assert_eq!(proof.storage_proof[0].value, U256::from(2));
    let error = client.core.proof(
        CONTRACT,
        &[B256::ZERO; limits::PROOF_KEYS + 1],
        BlockId::latest(),
    );
    assert_eq!(error.expect_err("too many").code(), -32602);
}

#[test]
fn logs_are_found_by_block_range_address_and_topic() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 4);
    let topic = B256::with_last_byte(0x42);
    let find = |filter: Filter| client.core.logs(&filter).expect("finds");
    let all = find(
        Filter::new()
            .from_block(0)
            .address(CONTRACT)
            .event_signature(topic),
    );
    assert_eq!(
        all.iter().map(|log| log.block_number).collect::<Vec<_>>(),
        [2, 3, 4, 5].map(Some)
    );
    assert_eq!(all[0].log_index, Some(0));
    assert_eq!(find(Filter::new().from_block(3).to_block(4)).len(), 2);
    assert_eq!(find(Filter::new()).len(), 1, "the newest block alone");
    assert_eq!(
        find(Filter::new().at_block_hash(all[1].block_hash.expect("mined"))),
        [all[1].clone()]
    );
    assert!(find(Filter::new().from_block(0).address(account(0))).is_empty());
    assert!(find(Filter::new().from_block(0).event_signature(B256::ZERO)).is_empty());
    let beyond_the_head = Filter::new().from_block(0).to_block(u64::MAX);
    assert_eq!(find(beyond_the_head).len(), 4);
    let at_limit = std::iter::once(CONTRACT).chain(
        (1..limits::FILTER_CONDITIONS as u64).map(|n| Address::left_padding_from(&n.to_be_bytes())),
    );
    let at_limit: Vec<Address> = at_limit.collect();
    assert_eq!(
        find(Filter::new().from_block(0).address(at_limit.clone())).len(),
        4
    );
    let many = Filter::new()
        .from_block(0)
        .address([at_limit, vec![Address::repeat_byte(9)]].concat());
    assert_eq!(
        client
            .core
            .logs(&many)
            .expect_err("too many addresses")
            .code(),
        -32602
    );
    let reversed = Filter::new().from_block(3).to_block(2);
    assert_eq!(
        client.core.logs(&reversed).expect_err("reversed").code(),
        -32602
    );
    let unknown = Filter::new().at_block_hash(B256::repeat_byte(1));
    assert_eq!(
        client.core.logs(&unknown).expect_err("unknown").code(),
        -32000
    );
}

#[test]
fn transactions_are_found_while_pending_and_when_mined() {
    let mut client = TestClient::new(Fork::Cancun);
    counted(&mut client, 1);
    let hash = client.must_send(&Tx::call(0, 2, CONTRACT, []).sign());
    let waiting = client
        .core
        .rpc_transaction(hash)
        .expect("reads")
        .expect("waits");
    assert_eq!(
        (waiting.block_hash, waiting.inner.signer()),
        (None, account(0))
    );
    client.block();
    let mined = client
        .core
        .rpc_transaction(hash)
        .expect("reads")
        .expect("is mined");
    assert_eq!(
        (mined.block_number, mined.transaction_index),
        (Some(3), Some(0))
    );
    assert_eq!(
        client
            .core
            .rpc_transaction_at(BlockId::latest(), 0)
            .expect("reads"),
        Some(mined)
    );
    assert_eq!(
        client
            .core
            .rpc_transaction_at(BlockId::latest(), 1)
            .expect("reads"),
        None
    );
}

const BLOCK_FIELDS: [&str; 24] = [
    "hash",
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "size",
    "uncles",
    "withdrawals",
];

const RECEIPT_FIELDS: [&str; 9] = [
    "status",
    "cumulativeGasUsed",
    "logs",
    "logsBloom",
    "type",
    "transactionHash",
    "gasUsed",
    "from",
    "to",
];

fn assert_has_fields(json: &serde_json::Value, fields: &[&str]) {
    for field in fields {
        assert!(json.get(field).is_some(), "{field} is missing: {json}");
    }
}

#[test]
fn blocks_and_receipts_have_the_shape_of_the_rpc() {
    let mut client = TestClient::new(Fork::Cancun);
    counted(&mut client, 1);
    let hash = client.must_send(&Tx::call(0, 2, CONTRACT, []).sign());
    client.block();
    let id = BlockId::from(BlockNumberOrTag::Latest);
    let full = client
        .core
        .rpc_block(id, true)
        .expect("reads")
        .expect("is there");
    let json = serde_json::to_value(&full).expect("serialises");
    assert_has_fields(&json, &BLOCK_FIELDS);
    assert_eq!(json["transactions"][0]["hash"], serde_json::json!(hash));
    assert_eq!(
        json["transactions"][0]["from"],
        serde_json::json!(account(0))
    );
    let light = client
        .core
        .rpc_block(id, false)
        .expect("reads")
        .expect("is there");
    assert_eq!(light.transactions.hashes().collect::<Vec<_>>(), [hash]);
    let receipts = client
        .core
        .rpc_block_receipts(id)
        .expect("reads")
        .expect("is there");
    assert_eq!(
        Some(receipts[0].clone()),
        client.core.rpc_receipt(hash).expect("reads")
    );
    let json = serde_json::to_value(&receipts[0]).expect("serialises");
    assert_has_fields(&json, &RECEIPT_FIELDS);
    assert!(
        client
            .core
            .rpc_block(BlockId::number(9), true)
            .expect("reads")
            .is_none()
    );
    assert!(
        client
            .core
            .rpc_receipt(B256::ZERO)
            .expect("reads")
            .is_none()
    );
}

#[test]
fn fees_follow_the_chain() {
    let mut client = TestClient::new(Fork::Shanghai);
    assert_eq!(client.core.max_priority_fee().expect("reads"), GWEI);
    for nonce in 0..3 {
        client.must_send(
            &Tx {
                tip: 3 * GWEI,
                ..Tx::transfer(0, nonce, account(1), 1)
            }
            .sign(),
        );
        client.block();
    }
    assert_eq!(client.core.max_priority_fee().expect("reads"), 3 * GWEI);
    let history = client
        .core
        .fee_history(2, BlockNumberOrTag::Latest, Some(&[0.0, 50.0, 100.0]))
        .expect("reads");
    assert_eq!(
        (history.oldest_block, history.base_fee_per_gas.len()),
        (2, 3)
    );
    assert_eq!(history.gas_used_ratio, [21_000.0 / 30_000_000.0; 2]);
    assert_eq!(history.reward, Some(vec![vec![3 * GWEI; 3]; 2]));
    let header = client
        .core
        .header(BlockId::number(3))
        .expect("reads")
        .expect("is there");
    assert_eq!(
        history.base_fee_per_gas[1],
        u128::from(header.header.base_fee_per_gas.expect("London"))
    );
    assert_eq!(
        client.core.gas_price().expect("reads"),
        history.next_block_base_fee().expect("is there") + 3 * GWEI
    );
    let long = client
        .core
        .fee_history(u64::MAX, BlockNumberOrTag::Latest, None)
        .expect("is cut");
    assert_eq!((long.oldest_block, long.reward), (0, None));
    let wrong = client
        .core
        .fee_history(1, BlockNumberOrTag::Latest, Some(&[50.0, 20.0]));
    assert_eq!(wrong.expect_err("not in order").code(), -32602);
}

#[test]
fn payload_bodies_are_served_up_to_the_head() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 1);
    let bodies = client.core.payload_bodies_by_range(1, 32).expect("reads");
    assert_eq!(bodies.len(), 2);
    assert!(
        bodies
            .iter()
            .flatten()
            .all(|body| body.transactions.len() == 1 && body.withdrawals == Some(vec![]))
    );
    assert_eq!(
        client
            .core
            .payload_body_by_hash(client.core.head().hash)
            .expect("reads"),
        bodies[1]
    );
    assert!(
        client
            .core
            .payload_body_by_hash(B256::ZERO)
            .expect("reads")
            .is_none()
    );
    assert_eq!(
        client
            .core
            .payload_bodies_by_range(0, 1)
            .expect_err("genesis")
            .code(),
        -32602
    );
    assert_eq!(
        client
            .core
            .payload_bodies_by_range(1, 9_999)
            .expect_err("too many")
            .code(),
        -32602
    );
}
