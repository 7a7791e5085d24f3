//! Queries of wallets and scripts.

use super::super::blocks::{BlockStore, Pointer};
use super::super::*;
use super::kit::*;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rpc_types_eth::{BlockId, BlockNumberOrTag, Filter, TransactionRequest};
use alys_storage::{Batch, Durability, KeyValue as _};

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
    let beyond = "block range extends beyond current head block: requested 6, head 5";
    for (from, to, expected) in [
        (0u64, 6u64, beyond),
        (6, 6, beyond),
        (3, 2, "invalid block range params"),
        (6, 5, "invalid block range params"),
    ] {
        let filter = Filter::new().from_block(from).to_block(to);
        let error = client.core.logs(&filter).expect_err(expected);
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (-32602, expected)
        );
    }
    let unknown = Filter::new().at_block_hash(B256::repeat_byte(1));
    assert_eq!(
        client.core.logs(&unknown).expect_err("unknown").code(),
        -32000
    );
}

/// Appends empty blocks to the stored chain up to `height`, without executing them.
fn append_empty_blocks(client: &mut TestClient, height: u64) {
    let blocks = BlockStore::new(client.store.clone());
    let head = client.core.header(BlockId::latest()).expect("reads");
    let mut parent = (*head.expect("is there")).clone();
    let mut batch = Batch::new();
    while parent.header.number < height {
        let header = alloy_consensus::Header {
            parent_hash: parent.hash,
            number: parent.header.number + 1,
            timestamp: parent.header.timestamp + 1,
            logs_bloom: Default::default(),
            gas_used: 0,
            ..parent.header
        };
        parent = SealedHeader::new(header);
        let block = StoredBlock {
            hash: parent.hash,
            block: alloy_consensus::Block::new(parent.header.clone(), Default::default()),
            senders: Vec::new(),
        };
        blocks.put_block(&mut batch, &block, &Vec::new());
        blocks.put_canonical(&mut batch, &block);
    }
    blocks.put_pointer(&mut batch, Pointer::Head, parent.hash);
    let written = client.store.write(batch, Durability::Durable);
    written.expect("memory does not fail");
    client.restart();
}

/// Case A22: a range has no limit, so that wallets and indexers can ask for the whole chain.
#[test]
fn logs_are_found_in_a_range_of_more_than_ten_thousand_blocks() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 1);
    append_empty_blocks(&mut client, 10_001);
    client.must_send(&Tx::call(0, 2, CONTRACT, []).sign());
    client.block();
    assert_eq!(client.core.head().number, 10_002);
    let all = Filter::new().from_block(0u64).address(CONTRACT);
    let logs = client.core.logs(&all).expect("finds");
    let heights: Vec<_> = logs.iter().map(|log| log.block_number).collect();
    assert_eq!(heights, [Some(2), Some(10_002)]);
}

#[test]
fn a_null_topic_matches_every_topic_at_its_place() {
    let mut client = TestClient::new(Fork::Shanghai);
    // Init code that logs the topics 1, 2 and 3.
    let log = alloy_primitives::hex!("60036002600160006000a300");
    client.must_send(&Tx::deploy(0, 0, &log).sign());
    client.block();
    let topic = |number: u8| serde_json::json!(B256::with_last_byte(number));
    let null = serde_json::Value::Null;
    for (topics, count) in [
        (vec![], 1),
        (vec![null.clone(); 3], 1),
        (vec![null.clone(), null.clone(), topic(3)], 1),
        (vec![null.clone(), topic(2)], 1),
        (vec![null.clone(), null.clone(), topic(2)], 0),
        (vec![topic(1), null.clone(), topic(3)], 1),
        (vec![null.clone(), null.clone(), null.clone(), topic(3)], 0),
    ] {
        let filter = serde_json::json!({ "fromBlock": "0x0", "topics": topics });
        let filter: Filter = serde_json::from_value(filter).expect("a filter");
        let found = client.core.logs(&filter).expect("finds");
        assert_eq!(found.len(), count, "{topics:?}");
    }
}

#[test]
fn a_range_with_too_many_logs_is_refused_with_the_part_that_fits() {
    let mut client = TestClient::new(Fork::Shanghai);
    // Init code that logs without topics until its gas is used, then succeeds:
    // JUMPDEST, LOG0 of nothing, and a jump back while more than 5,000 gas are left.
    let logs = alloy_primitives::hex!("5b60006000a06113885a1160005700");
    let full = |nonce| Tx {
        gas: 6_000_000,
        ..Tx::deploy(0, nonce, &logs)
    };
    for nonce in 0..2 {
        client.must_send(&full(nonce).sign());
        client.block();
    }
    let find = |from: u64, to: u64| {
        client
            .core
            .logs(&Filter::new().from_block(from).to_block(to))
    };
    let first = find(0, 1).expect("fits").len();
    assert!(
        first <= limits::LOG_RESULTS && 2 * first > limits::LOG_RESULTS,
        "{first}"
    );
    let error = find(0, 2).expect_err("too many");
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (
            -32602,
            "query exceeds max results 20000, retry with the range 0-1"
        )
    );
    assert_eq!(find(2, 2).expect("one block").len(), first);
}

#[test]
fn pending_is_the_next_block() {
    let mut client = TestClient::new(Fork::Cancun);
    counted(&mut client, 1);
    let head = client.core.header(BlockId::latest()).expect("reads");
    let head = head.expect("is there");
    let pending = client.core.pending_header();
    assert_eq!(pending.number, head.header.number + 1);
    assert_eq!(pending.parent_hash, head.hash);
    assert!(pending.timestamp > head.header.timestamp);
    let next = client.core.fee_history(1, BlockNumberOrTag::Latest, None);
    assert_eq!(
        pending.base_fee_per_gas.map(u128::from),
        next.expect("reads").next_block_base_fee()
    );

    // Code that returns NUMBER, then init code that reverts below the next block.
    let number = TransactionRequest {
        input: Bytes::copy_from_slice(&alloy_primitives::hex!("435f5260205ff3")).into(),
        ..Default::default()
    };
    let number_at = |block: BlockId| {
        let answer = client.core.call(&number, block).expect("calls");
        U256::from_be_slice(&answer).to::<u64>()
    };
    assert_eq!(number_at(BlockId::latest()), head.header.number);
    assert_eq!(number_at(BlockId::number(1)), 1);
    assert_eq!(number_at(BlockId::pending()), head.header.number + 1);
    let mut code = alloy_primitives::hex!("63000000004311600d575f5ffd5b00");
    code[4] = u8::try_from(head.header.number).expect("a short chain");
    let from_next_block = TransactionRequest {
        from: Some(account(0)),
        input: Bytes::copy_from_slice(&code).into(),
        ..Default::default()
    };
    assert!(
        client
            .core
            .estimate_gas(&from_next_block, BlockId::pending())
            .is_ok()
    );
    let error = client
        .core
        .estimate_gas(&from_next_block, BlockId::latest());
    assert_eq!(error.expect_err("one block too early").code(), 3);
    // The state is the head's.
    assert_eq!(
        client
            .core
            .call(&ask(0xff), BlockId::pending())
            .expect("calls"),
        client
            .core
            .call(&ask(0xff), BlockId::latest())
            .expect("calls")
    );
    // BLOCKHASH of the head is known in the next block only.
    let mut code = alloy_primitives::hex!("6000405f5260205ff3");
    code[1] = u8::try_from(head.header.number).expect("a short chain");
    let hash = TransactionRequest {
        input: Bytes::copy_from_slice(&code).into(),
        ..Default::default()
    };
    let hash_at = |block| client.core.call(&hash, block).expect("calls").to_vec();
    assert_eq!(hash_at(BlockId::pending()), head.hash.to_vec());
    assert_eq!(hash_at(BlockId::latest()), B256::ZERO.to_vec());
}

#[test]
fn data_and_input_that_differ_are_refused() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 1);
    let request = |data: &[u8], input: &[u8]| TransactionRequest {
        to: Some(CONTRACT.into()),
        input: alloy_rpc_types_eth::TransactionInput {
            data: Some(Bytes::copy_from_slice(data)),
            input: Some(Bytes::copy_from_slice(input)),
        },
        ..Default::default()
    };
    let latest = BlockId::latest();
    for (data, input, is_equal) in [
        (&[0xff; 32][..], &[0xff; 32][..], true),
        (&[0xff; 32][..], &[][..], false),
        (&[][..], &[0xff; 32][..], false),
        (&[0xff; 32][..], &[0xfe; 32][..], false),
    ] {
        let request = request(data, input);
        let call = client.core.call(&request, latest).map(|_| ());
        let estimate = client.core.estimate_gas(&request, latest).map(|_| ());
        for result in [call, estimate] {
            match result {
                Ok(()) => assert!(is_equal, "{data:?} {input:?}"),
                Err(error) => assert!(
                    !is_equal && error.to_string().starts_with("both \"data\" and \"input\""),
                    "{data:?} {input:?}: {error}"
                ),
            }
        }
    }
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
    // Blocks with room for more need no higher tip than the usual one.
    assert_eq!(client.core.max_priority_fee().expect("reads"), GWEI);
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
    // The base fee falls, so that of the newest block is the higher one.
    assert!(history.base_fee_per_gas[1] > history.base_fee_per_gas[2]);
    assert_eq!(
        client.core.gas_price().expect("reads"),
        history.base_fee_per_gas[1] + GWEI
    );
    let long = client
        .core
        .fee_history(u64::MAX, BlockNumberOrTag::Latest, None)
        .expect("is cut");
    assert_eq!((long.oldest_block, long.reward), (0, None));
    let none = client
        .core
        .fee_history(0, BlockNumberOrTag::Latest, Some(&[50.0]))
        .expect("is empty");
    assert_eq!((none.oldest_block, none.reward), (4, Some(Vec::new())));
    assert!(none.gas_used_ratio.is_empty());
    assert_eq!(
        none.base_fee_per_gas,
        [history.next_block_base_fee().expect("is there")]
    );
    let wrong = client
        .core
        .fee_history(1, BlockNumberOrTag::Latest, Some(&[50.0, 20.0]));
    assert_eq!(wrong.expect_err("not in order").code(), -32602);
}

#[test]
fn the_suggested_tip_follows_full_blocks_and_not_single_senders() {
    // Init code that uses all of its gas at once: INVALID.
    let invalid = [0xfe];
    let block = |gas: u64, tip: u128| {
        move |nonce| Tx {
            gas,
            tip: tip * GWEI,
            cap: 1_000 * GWEI,
            ..Tx::deploy(0, nonce, &invalid)
        }
    };
    let (quiet, full) = (block(100_000, 400), block(16_000_000, 3));
    for (name, blocks, expected) in [
        ("one old tip on a quiet chain", (18, 1, 0), GWEI),
        ("a generous sender in every block", (0, 20, 0), GWEI),
        ("full blocks", (0, 0, 20), 3 * GWEI),
        ("most blocks are quiet", (0, 14, 6), GWEI),
        ("most blocks are full", (0, 4, 16), 3 * GWEI),
    ] {
        let mut client = TestClient::new(Fork::Shanghai);
        let (empty, some, filled) = blocks;
        for nonce in 0..some {
            client.must_send(&quiet(nonce).sign());
            client.block();
        }
        for nonce in some..some + filled {
            client.must_send(&full(nonce).sign());
            client.block();
        }
        for _ in 0..empty {
            client.block();
        }
        assert_eq!(
            client.core.max_priority_fee().expect("reads"),
            expected,
            "{name}"
        );
    }
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

#[test]
fn logs_of_a_block_that_left_the_chain_are_found_until_it_is_pruned() {
    let mut client = TestClient::new(Fork::Shanghai);
    counted(&mut client, 0);
    let parent = client.core.head().hash;
    client.must_send(&Tx::call(0, 1, CONTRACT, []).sign());
    let left = client.block().block_hash();
    let time = client.time_of(parent) + 5;
    let other = client.build_on(parent, time);
    client.must_import(&other);
    let other = other.block_hash();
    client.set_head(other);

    let all = Filter::new();
    let elsewhere = Filter::new().address(Address::repeat_byte(1));
    let found = |filter: &Filter| {
        let logs = client.core.removed_logs(left, filter).expect("reads");
        logs.expect("it is stored").len()
    };
    assert_eq!((found(&all), found(&elsewhere)), (1, 0));

    // The reader has caches of its own, into which damaged receipts do not come.
    let view = client.core.reader().view();
    client.store.corrupt("el_receipts");
    let damaged = view.removed_logs(left, &all);
    assert!(matches!(damaged, Err(Error::Corrupt { .. })), "{damaged:?}");
    client.store.corrupt("el_receipts");

    let mut last = head(other);
    last.safe_block_hash = other;
    last.finalized_block_hash = other;
    let moved = client.core.forkchoice_updated(last, None).expect("moves");
    assert!(moved.is_valid());
    for view in [&view, &*client.core] {
        assert_eq!(view.removed_logs(left, &all).expect("reads"), None);
    }
}
