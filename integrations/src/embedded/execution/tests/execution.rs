//! Effects of blocks on the state.

use super::super::*;
use super::kit::*;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, U256, address, keccak256};
use alloy_rpc_types_eth::BlockId;

#[test]
fn a_transfer_moves_the_value_and_pays_tip_and_base_fee() {
    let mut client = TestClient::new(Fork::Shanghai);
    let (from, to) = (account(0), Address::repeat_byte(9));
    let before = client.balance(from);
    client.must_send(&Tx::transfer(0, 0, to, 5).sign());
    let payload = client.block();
    assert_eq!(payload.transactions().len(), 1);
    assert_eq!(client.balance(to), U256::from(5));
    let base_fee = payload.as_v1().base_fee_per_gas.to::<u128>();
    assert_eq!(client.balance(client.recipient), U256::from(21_000 * GWEI));
    assert_eq!(
        client.balance(from),
        before - U256::from(5 + 21_000 * (GWEI + base_fee))
    );
    assert_eq!(
        client.core.nonce(from, BlockId::latest()).expect("reads"),
        1
    );
    let old = client
        .core
        .balance(from, BlockId::earliest())
        .expect("old states stay readable");
    assert_eq!(old, before);
}

#[test]
fn all_transaction_types_execute_and_another_client_agrees() {
    for fork in [Fork::Paris, Fork::Shanghai, Fork::Cancun] {
        let mut client = TestClient::new(fork);
        let mut payloads = Vec::new();
        client.must_send(&Tx::deploy(0, 0, COUNTER).sign());
        client.must_send(&Tx::transfer(1, 0, Address::repeat_byte(3), 1).legacy());
        payloads.push(client.block());
        client.must_send(&Tx::call(0, 1, CONTRACT, []).with_access_list());
        client.must_send(&Tx::call(1, 1, CONTRACT, []).sign());
        client.must_send(&Tx::call(1, 2, CONTRACT, U256::from(1).to_be_bytes_vec()).legacy());
        payloads.push(client.block());
        assert_eq!(
            payloads[0].transactions().len() + payloads[1].transactions().len(),
            5,
            "{fork:?}"
        );
        let count = client
            .core
            .storage_at(CONTRACT, U256::ZERO, BlockId::latest())
            .expect("reads");
        assert_eq!(U256::from_be_bytes(count.0), U256::from(2));
        client.replay_into(&mut TestClient::new(fork), &payloads);
    }
}

#[test]
fn receipts_report_status_gas_and_logs() {
    let mut client = TestClient::new(Fork::Shanghai);
    let deploy = client.must_send(&Tx::deploy(0, 0, COUNTER).sign());
    let count = client.must_send(&Tx::call(0, 1, CONTRACT, []).sign());
    let fail = client.must_send(&Tx::call(0, 2, CONTRACT, U256::from(1).to_be_bytes_vec()).sign());
    let payload = client.block();
    let receipt = |hash: B256| {
        client
            .core
            .rpc_receipt(hash)
            .expect("reads")
            .expect("is mined")
    };
    let deployed = receipt(deploy);
    assert!(deployed.status());
    assert_eq!(deployed.contract_address, Some(CONTRACT));
    let counted = receipt(count);
    assert!(counted.status());
    assert_eq!(counted.block_hash, Some(payload.block_hash()));
    assert_eq!(counted.transaction_index, Some(1));
    let logs = counted.inner.logs();
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].inner.address, CONTRACT);
    assert_eq!(logs[0].inner.topics(), [B256::with_last_byte(0x42)]);
    assert_eq!(
        logs[0].inner.data.data.as_ref(),
        B256::with_last_byte(1).as_slice()
    );
    assert_eq!(
        counted.gas_used,
        counted.inner.cumulative_gas_used() - deployed.gas_used
    );
    let failed = receipt(fail);
    assert!(!failed.status());
    assert!(failed.inner.logs().is_empty());
    let header = client
        .core
        .header(BlockId::latest())
        .expect("reads")
        .expect("is there");
    assert_eq!(header.header.gas_used, failed.inner.cumulative_gas_used());
    assert_eq!(header.header.logs_bloom, *counted.inner.logs_bloom());
}

#[test]
fn withdrawals_credit_gwei_and_empty_ones_create_no_account() {
    let mut client = TestClient::new(Fork::Shanghai);
    let (rich, none) = (Address::repeat_byte(1), Address::repeat_byte(2));
    client.withdrawals = vec![
        Withdrawal {
            index: 0,
            validator_index: 0,
            address: rich,
            amount: 1_000_000_000,
        },
        Withdrawal {
            index: 1,
            validator_index: 1,
            address: none,
            amount: 0,
        },
        Withdrawal {
            index: 2,
            validator_index: 1,
            address: rich,
            amount: 1,
        },
    ];
    let payload = client.block();
    assert_eq!(client.balance(rich), eth(1) + U256::from(GWEI));
    let proof = client
        .core
        .proof(none, &[], BlockId::latest())
        .expect("proves");
    let key = alloy_trie::Nibbles::unpack(keccak256(none));
    let root = payload.as_v1().state_root;
    assert!(
        alloy_trie::proof::verify_proof(root, key, None, &proof.account_proof).is_ok(),
        "is absent"
    );
    client.replay_into(&mut TestClient::new(Fork::Shanghai), &[payload]);
}

/// EIP-4895: credits follow the transactions, and belong to their block alone.
#[test]
fn withdrawals_follow_the_transactions_and_the_branch() {
    let mut client = TestClient::new(Fork::Cancun);
    let credit = |index, address, amount| Withdrawal {
        index,
        validator_index: 0,
        address,
        amount,
    };
    let (new, poor) = (Address::repeat_byte(1), account(2));
    client.withdrawals = vec![credit(0, new, 7), credit(1, poor, 1_000_000_000)];
    client.must_send(&Tx::transfer(0, 0, poor, 5).sign());
    let first = client.block();
    // The credit of the block before pays for it.
    client.must_send(&Tx::transfer(2, 0, new, GWEI).sign());
    client.withdrawals = vec![credit(2, new, 1)];
    let second = client.block();
    assert_eq!(second.as_v1().transactions.len(), 1);
    assert_eq!(client.balance(new), U256::from(9 * GWEI));
    let pending = BlockId::pending();
    assert_eq!(
        client.core.balance(new, pending).expect("reads"),
        U256::from(9 * GWEI)
    );
    let call = alloy_rpc_types_eth::TransactionRequest {
        from: Some(new),
        to: Some(poor.into()),
        value: Some(U256::from(9 * GWEI)),
        ..Default::default()
    };
    assert!(client.core.call(&call, pending).is_ok());

    // Another branch with another credit.
    client.withdrawals = vec![credit(2, new, 100)];
    let other = client.build_on(first.block_hash(), client.time_of(first.block_hash()) + 9);
    client.must_import(&other);
    for (head, expected) in [(&other, 108), (&second, 9), (&first, 7), (&other, 108)] {
        client.set_head(head.block_hash());
        assert_eq!(client.balance(new), U256::from(expected * GWEI));
    }
    let touched = [account(0), account(1), poor, new, client.recipient];
    assert_eq!(state_root(&client, &touched), other.as_v1().state_root);
    let mut copy = TestClient::new(Fork::Cancun);
    client.replay_into(&mut copy, &[first, other]);
    assert_eq!(state_root(&copy, &touched), state_root(&client, &touched));
}

/// The state root of these accounts and the contract of EIP-4788, by alloy's computation from a
/// complete, sorted set. Their balances are checked by hand where they matter.
fn state_root(client: &TestClient, accounts: &[Address]) -> B256 {
    let beacon = address!("0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02");
    let mut all = std::collections::BTreeMap::new();
    for address in accounts.iter().copied().chain([beacon]) {
        let proof = client.core.proof(address, &[], BlockId::latest());
        let proof = proof.expect("proves");
        let account = alloy_consensus::TrieAccount::new(
            proof.nonce,
            proof.balance,
            proof.storage_hash,
            proof.code_hash,
        );
        all.insert(address, account);
    }
    alloy_trie::root::state_root_unhashed(all)
}

#[test]
fn beacon_roots_are_stored_at_the_start_of_a_cancun_block() {
    let mut client = TestClient::new(Fork::Cancun);
    let beacon = address!("0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02");
    let payload = client.block();
    let timestamp = payload.timestamp();
    let slot = |n: u64| {
        let value = client
            .core
            .storage_at(beacon, U256::from(n), BlockId::latest())
            .expect("reads");
        U256::from_be_bytes(value.0)
    };
    assert_eq!(slot(timestamp % 8191), U256::from(timestamp));
    assert_eq!(
        B256::from(slot(timestamp % 8191 + 8191)),
        beacon_root(timestamp)
    );
    // The root is readable by contracts.
    let request = alloy_rpc_types_eth::TransactionRequest {
        to: Some(beacon.into()),
        input: B256::from(U256::from(timestamp)).0.to_vec().into(),
        ..Default::default()
    };
    let answer = client
        .core
        .call(&request, BlockId::latest())
        .expect("calls");
    assert_eq!(answer.as_ref(), beacon_root(timestamp).as_slice());
}

#[test]
fn cancun_activates_at_its_time() {
    let mut genesis = genesis(Fork::Cancun);
    genesis.config.cancun_time = Some(3);
    let mut client = TestClient::with(genesis.clone(), CoreConfig::default());
    let payloads: Vec<_> = (0..4).map(|_| client.block()).collect();
    assert!(payloads[1].as_v3().is_none() && payloads[2].as_v3().is_some());
    client.replay_into(
        &mut TestClient::with(genesis, CoreConfig::default()),
        &payloads,
    );
}

#[test]
fn self_destructed_and_recreated_contracts_lose_their_storage() {
    // Init code that stores 7 in slot 0 and returns self-destructing code (in Shanghai,
    // permanently).
    let code = alloy_primitives::hex!("60076000556002601160003960026000f333ff");
    let mut client = TestClient::new(Fork::Shanghai);
    client.must_send(&Tx::deploy(0, 0, &code).sign());
    let first = client.block();
    let stored = client
        .core
        .storage_at(CONTRACT, U256::ZERO, BlockId::latest())
        .expect("reads");
    assert_eq!(stored, B256::with_last_byte(7));
    client.must_send(&Tx::call(0, 1, CONTRACT, []).sign());
    let second = client.block();
    assert!(
        client
            .core
            .code(CONTRACT, BlockId::latest())
            .expect("reads")
            .is_empty()
    );
    let after = client
        .core
        .storage_at(CONTRACT, U256::ZERO, BlockId::latest())
        .expect("reads");
    assert_eq!(after, B256::ZERO);
    client.replay_into(&mut TestClient::new(Fork::Shanghai), &[first, second]);
}

#[test]
fn contracts_can_read_the_hashes_of_ancestors() {
    // Returns BLOCKHASH(input).
    let mut client = TestClient::new(Fork::Shanghai);
    let code = alloy_primitives::hex!("600c80600b6000396000f36000354060005260206000f3");
    client.must_send(&Tx::deploy(0, 0, &code).sign());
    client.block();
    for _ in 0..5 {
        client.block();
    }
    let ask = |number: u64| {
        let request = alloy_rpc_types_eth::TransactionRequest {
            to: Some(CONTRACT.into()),
            input: B256::from(U256::from(number)).0.to_vec().into(),
            ..Default::default()
        };
        B256::from_slice(
            &client
                .core
                .call(&request, BlockId::latest())
                .expect("calls"),
        )
    };
    assert_eq!(ask(0), client.core.genesis_hash());
    let third = client
        .core
        .header(BlockId::number(3))
        .expect("reads")
        .expect("is there");
    assert_eq!(ask(3), third.hash);
    assert_eq!(ask(6), B256::ZERO, "a block does not know its own hash");
}

/// The state root after many random blocks equals the root computed from all accounts.
#[test]
fn state_root_after_many_blocks_equals_the_root_of_all_accounts() {
    let mut client = TestClient::new(Fork::Shanghai);
    let mut touched: Vec<Address> = vec![account(0), account(1), client.recipient, CONTRACT];
    client.must_send(&Tx::deploy(0, 0, COUNTER).sign());
    client.block();
    let mut nonces = [1, 0];
    for round in 0u64..40 {
        for (index, nonce) in nonces.iter_mut().enumerate() {
            for n in 0..round % 5 {
                let to = Address::from_slice(&keccak256([round as u8, index as u8, n as u8])[12..]);
                touched.push(to);
                client.must_send(&Tx::transfer(index, *nonce, to, 1 + u128::from(n)).sign());
                client.must_send(&Tx::call(index, *nonce + 1, CONTRACT, []).sign());
                *nonce += 2;
            }
        }
        client.block();
    }
    let latest = BlockId::latest();
    let accounts = touched.iter().map(|address| {
        let proof = client
            .core
            .proof(*address, &[B256::ZERO], latest)
            .expect("proves");
        let count = proof.storage_proof[0].value;
        let storage_root = if count.is_zero() {
            alloy_trie::EMPTY_ROOT_HASH
        } else {
            alloy_trie::root::storage_root_unhashed([(B256::ZERO, count)])
        };
        assert_eq!(proof.storage_hash, storage_root);
        let account = alloy_consensus::TrieAccount::new(
            proof.nonce,
            proof.balance,
            storage_root,
            proof.code_hash,
        );
        (*address, account)
    });
    let all: std::collections::BTreeMap<_, _> = accounts.collect();
    let root = alloy_trie::root::state_root_unhashed(all);
    let header = client
        .core
        .header(latest)
        .expect("reads")
        .expect("is there");
    assert_eq!(header.header.state_root, root);
}
