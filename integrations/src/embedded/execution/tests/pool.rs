//! Admission, eviction and order of the pool.

use super::super::*;
use super::kit::*;
use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Signature, TxKind, U256, hex};
use alloy_rpc_types_eth::BlockId;

fn small(config: PoolConfig) -> TestClient {
    TestClient::with(
        genesis(Fork::Shanghai),
        CoreConfig {
            pool: config,
            ..CoreConfig::default()
        },
    )
}

/// Transactions that are refused when account 0 has one mined and one pending transaction, each
/// with a fragment of the error.
fn refused_transactions() -> Vec<(&'static str, TxEnvelope)> {
    let to = Address::repeat_byte(1);
    let plain = |nonce| Tx::transfer(0, nonce, to, 1);
    vec![
        ("already known", plain(1).sign()),
        ("nonce too low", plain(0).sign()),
        (
            "replacement transaction underpriced",
            Tx {
                value: U256::from(2),
                ..plain(1)
            }
            .sign(),
        ),
        (
            "insufficient funds for gas * price + value",
            Tx {
                value: U256::MAX >> 10,
                ..plain(2)
            }
            .sign(),
        ),
        (
            "insufficient funds for gas * price + value",
            Tx::transfer(2, 0, to, 1).sign(),
        ),
        (
            "intrinsic gas too low",
            Tx {
                gas: 20_999,
                ..plain(2)
            }
            .sign(),
        ),
        (
            "intrinsic gas too low",
            Tx {
                input: vec![1; 10].into(),
                ..plain(2)
            }
            .sign(),
        ),
        (
            "exceeds block gas limit",
            Tx {
                gas: 30_000_001,
                ..plain(2)
            }
            .sign(),
        ),
        (
            "max priority fee per gas higher than max fee per gas",
            Tx {
                tip: 2 * GWEI,
                cap: GWEI,
                ..plain(2)
            }
            .sign(),
        ),
        ("transaction underpriced", Tx { tip: 0, ..plain(2) }.sign()),
        (
            "invalid chain id for signer",
            Tx {
                chain_id: 1,
                ..plain(2)
            }
            .sign(),
        ),
        ("nonce has max value", plain(u64::MAX).sign()),
        (
            "max initcode size exceeded",
            Tx {
                gas: 3_000_000,
                ..Tx::deploy(0, 2, &[0; 49_153])
            }
            .sign(),
        ),
        (
            "oversized data",
            Tx {
                gas: 9_000_000,
                input: vec![0; 128 * 1024].into(),
                ..plain(2)
            }
            .sign(),
        ),
    ]
}

#[test]
fn refusals_have_the_texts_that_wallets_know() {
    let mut client = TestClient::new(Fork::Shanghai);
    let to = Address::repeat_byte(1);
    let plain = |nonce| Tx::transfer(0, nonce, to, 1);
    client.must_send(&plain(0).sign());
    client.block();
    client.must_send(&plain(1).sign());
    for (expected, tx) in refused_transactions() {
        let error = client.send(&tx).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 1,
            queued: 0
        }
    );
}

#[test]
fn malformed_unprotected_and_foreign_signatures_are_refused() {
    let client = TestClient::new(Fork::Shanghai);
    let tx = Tx::transfer(0, 0, Address::ZERO, 1).sign();
    let refused = |raw: &[u8]| {
        client
            .core
            .add_transaction(raw)
            .expect_err("is refused")
            .to_string()
    };
    let raw = tx.encoded_2718();
    assert!(refused(&raw[..raw.len() - 1]).starts_with("rlp"));
    assert!(refused(&[raw.clone(), vec![0]].concat()).starts_with("rlp"));
    assert!(refused(&[]).starts_with("rlp"));
    assert!(refused(&hex!("05c0")).starts_with("rlp"));
    // The same signature with a high s.
    let signature = tx.signature();
    let order = U256::from_be_slice(&hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let high = Signature::new(signature.r(), order - signature.s(), !signature.v());
    let inner = tx.as_eip1559().expect("its type").tx().clone();
    let forged = TxEnvelope::from(alloy_consensus::SignableTransaction::into_signed(
        inner, high,
    ));
    assert_eq!(refused(&forged.encoded_2718()), "invalid sender");
    let unprotected = alloy_consensus::TxLegacy {
        gas_price: 100 * GWEI,
        gas_limit: 21_000,
        to: TxKind::Call(Address::ZERO),
        ..Default::default()
    };
    assert!(refused(&sign(unprotected, 0).encoded_2718()).contains("EIP-155"));
}

#[test]
fn transactions_beyond_a_gap_are_queued_until_it_is_filled() {
    let mut client = TestClient::new(Fork::Shanghai);
    let to = Address::repeat_byte(1);
    for nonce in [3, 1] {
        client.must_send(&Tx::transfer(0, nonce, to, 1).sign());
    }
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 0,
            queued: 2
        }
    );
    assert_eq!(
        client
            .core
            .nonce(account(0), BlockId::pending())
            .expect("reads"),
        0
    );
    assert!(client.block().transactions().is_empty());
    client.must_send(&Tx::transfer(0, 0, to, 1).sign());
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 2,
            queued: 1
        }
    );
    assert_eq!(
        client
            .core
            .nonce(account(0), BlockId::pending())
            .expect("reads"),
        2
    );
    let content = client.core.pool_content();
    assert_eq!(
        content.pending[&account(0)]
            .keys()
            .copied()
            .collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(
        content.queued[&account(0)]
            .keys()
            .copied()
            .collect::<Vec<_>>(),
        [3]
    );
    assert!(
        client
            .core
            .pool_content_within(Some(account(1)))
            .pending
            .is_empty()
    );
    assert_eq!(client.block().transactions().len(), 2);
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 0,
            queued: 1
        }
    );
    client.must_send(&Tx::transfer(0, 2, to, 1).sign());
    assert_eq!(client.block().transactions().len(), 2);
    assert_eq!(client.balance(to), U256::from(4));
    assert_eq!(client.core.pool_status(), PoolStatus::default());
}

/// A flood of large transactions that pay nothing hides no other from the reader.
#[test]
fn a_read_of_a_flooded_pool_is_bounded_and_has_the_best_first() {
    let mut client = TestClient::new(Fork::Shanghai);
    let dust = Tx {
        gas: 1_000_000,
        cap: 1,
        tip: 1,
        input: vec![0; 100_000].into(),
        ..Tx::transfer(1, 0, Address::repeat_byte(1), 0)
    };
    for nonce in 0..64 {
        let large = Tx {
            nonce,
            ..dust.clone()
        };
        client.must_send(&large.sign());
    }
    let payer = client.must_send(&Tx::transfer(0, 0, Address::repeat_byte(1), 1).sign());
    let content = client.core.pool_content_within(None);
    assert_eq!(content.pending[&account(0)][&0].tx_hash(), &payer);
    let shown: usize = content.pending.values().map(|of| of.len()).sum();
    assert!((10..30).contains(&shown), "{shown} of 65");
    assert_eq!(client.core.pool_status().pending, 65);
}

#[test]
fn a_replacement_must_raise_both_fees_by_ten_percent() {
    let mut client = TestClient::new(Fork::Shanghai);
    let to = Address::repeat_byte(1);
    let with = |tip, cap| {
        Tx {
            tip,
            cap,
            ..Tx::transfer(0, 0, to, 1)
        }
        .sign()
    };
    let old = client.must_send(&with(10 * GWEI, 100 * GWEI));
    for short in [with(11 * GWEI, 109 * GWEI), with(10 * GWEI + 1, 110 * GWEI)] {
        let error = client
            .send(&short)
            .expect_err("pays too little")
            .to_string();
        assert_eq!(error, "replacement transaction underpriced");
    }
    let new = client.must_send(&with(11 * GWEI, 110 * GWEI));
    assert!(client.core.pool_transaction(old).is_none());
    assert!(client.core.pool_transaction(new).is_some());
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 1,
            queued: 0
        }
    );
    assert_eq!(client.block().transactions().len(), 1);
    assert!(client.core.rpc_receipt(new).expect("reads").is_some());
}

#[test]
fn blocks_order_transactions_by_tip_then_arrival_and_keep_nonces_in_order() {
    let mut client = TestClient::new(Fork::Shanghai);
    let to = Address::repeat_byte(1);
    let with = |key, nonce, tip: u128| {
        Tx {
            tip: tip * GWEI,
            ..Tx::transfer(key, nonce, to, 1)
        }
        .sign()
    };
    let expected_last = client.must_send(&with(0, 1, 9));
    let a0 = client.must_send(&with(0, 0, 1));
    let b0 = client.must_send(&with(1, 0, 5));
    let b1 = client.must_send(&with(1, 1, 1));
    let payload = client.block();
    let hashes: Vec<B256> = client
        .core
        .block(payload.block_hash().into())
        .expect("reads")
        .expect("is there")
        .block
        .body
        .transactions
        .iter()
        .map(|tx| *tx.tx_hash())
        .collect();
    // After b0, a0 precedes b1 of the same tip because it is older, and releases its sender's next,
    // which pays more.
    assert_eq!(hashes, [b0, a0, expected_last, b1]);
}

#[test]
fn transactions_below_the_base_fee_stay_in_the_pool() {
    let mut client = TestClient::new(Fork::Shanghai);
    let cheap = Tx {
        tip: 1,
        cap: 10,
        ..Tx::transfer(0, 0, Address::ZERO, 1)
    }
    .sign();
    let hash = client.must_send(&cheap);
    assert!(client.block().transactions().is_empty());
    assert!(client.core.pool_transaction(hash).is_some());
}

#[test]
fn a_full_pool_evicts_the_cheapest_and_refuses_cheaper_ones() {
    let config = PoolConfig {
        max_transactions: 3,
        ..PoolConfig::default()
    };
    let mut client = small(config);
    let to = Address::repeat_byte(1);
    let with = |key, nonce, tip: u128| {
        Tx {
            tip: tip * GWEI,
            ..Tx::transfer(key, nonce, to, 1)
        }
        .sign()
    };
    client.must_send(&with(0, 0, 5));
    let tail = client.must_send(&with(0, 1, 2));
    let gap = client.must_send(&with(1, 7, 50));
    // A transaction beyond a gap is evicted first, regardless of its fee.
    client.must_send(&with(1, 0, 3));
    assert!(client.core.pool_transaction(gap).is_none());
    // Then the cheapest among the last ones of the senders.
    client.must_send(&with(1, 1, 4));
    assert!(client.core.pool_transaction(tail).is_none());
    let error = client
        .send(&with(0, 1, 1))
        .expect_err("pays less than all")
        .to_string();
    assert!(error.contains("transaction underpriced"), "{error}");
    let error = client
        .send(&with(1, 9, 90))
        .expect_err("would wait behind a gap")
        .to_string();
    assert!(error.contains("transaction underpriced"), "{error}");
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 3,
            queued: 0
        }
    );
}

#[test]
fn transactions_of_one_sender_are_limited() {
    let config = PoolConfig {
        max_per_sender: 4,
        max_queued_per_sender: 2,
        ..PoolConfig::default()
    };
    let mut client = small(config);
    let send = |client: &mut TestClient, nonce| {
        client.send(&Tx::transfer(0, nonce, Address::ZERO, 1).sign())
    };
    for nonce in [0, 5, 6] {
        send(&mut client, nonce).expect("is taken");
    }
    let error = send(&mut client, 8)
        .expect_err("a third behind the gap")
        .to_string();
    assert!(error.contains("account limit exceeded"), "{error}");
    send(&mut client, 1).expect("is taken");
    let error = send(&mut client, 2).expect_err("a fifth").to_string();
    assert!(error.contains("account limit exceeded"), "{error}");
    // The balance must cover all transactions of a sender together.
    let mut client = small(PoolConfig::default());
    let half = client.balance(account(0)) / U256::from(2);
    client.must_send(
        &Tx {
            value: half,
            ..Tx::transfer(0, 0, Address::ZERO, 0)
        }
        .sign(),
    );
    let second = Tx {
        value: half,
        ..Tx::transfer(0, 1, Address::ZERO, 0)
    }
    .sign();
    let error = client.send(&second).expect_err("is spent").to_string();
    assert!(error.contains("insufficient funds"), "{error}");
}

#[test]
fn the_bytes_of_the_pool_are_limited() {
    let mut client = small(PoolConfig {
        max_bytes: 1_000,
        ..PoolConfig::default()
    });
    for nonce in 0..100 {
        let _ = client.send(&Tx::call(0, nonce, Address::ZERO, vec![0; 200]).sign());
        let content = client.core.pool_content();
        let waiting = content
            .pending
            .values()
            .chain(content.queued.values())
            .flat_map(|by| by.values());
        let bytes: usize = waiting.map(|tx| tx.encode_2718_len()).sum();
        assert!(bytes <= 1_000, "{bytes}");
    }
    assert_ne!(client.core.pool_status(), PoolStatus::default());
}

#[test]
fn transactions_that_are_not_mined_for_long_leave_the_pool() {
    let mut client = small(PoolConfig {
        max_heads: 3,
        ..PoolConfig::default()
    });
    let to = Address::repeat_byte(1);
    client.must_send(
        &Tx {
            tip: 1,
            cap: 1,
            ..Tx::transfer(0, 0, to, 1)
        }
        .sign(),
    );
    let mut pending = Vec::new();
    for _ in 0..5 {
        client.block();
        pending.push(client.core.pool_status().pending);
    }
    assert_eq!(pending, [1, 1, 1, 0, 0]);
}

#[test]
fn mined_and_unaffordable_transactions_leave_the_pool() {
    let mut client = TestClient::new(Fork::Shanghai);
    let mut other = TestClient::new(Fork::Shanghai);
    let to = Address::repeat_byte(1);
    let shared = Tx::transfer(0, 0, to, 1).sign();
    let all = client.balance(account(1)) - eth(1);
    let drain = Tx {
        value: all,
        ..Tx::transfer(1, 0, to, 0)
    }
    .sign();
    other.must_send(&shared);
    other.must_send(&drain);
    let payload = other.block();
    client.must_send(&shared);
    client.must_send(&Tx::transfer(1, 0, to, 7).sign());
    client.must_send(
        &Tx {
            value: eth(2),
            ..Tx::transfer(1, 1, to, 0)
        }
        .sign(),
    );
    client.must_send(&Tx::transfer(0, 1, to, 2).sign());
    client.must_import(&payload);
    client.set_head(payload.block_hash());
    assert_eq!(
        client.core.pool_status(),
        PoolStatus {
            pending: 1,
            queued: 0
        }
    );
    assert_eq!(client.core.pool_content().pending[&account(0)].len(), 1);
}

mod garbage {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_and_mutated_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at in any::<u16>(),
            flip in 1u8..
        ) {
            let client = TestClient::new(Fork::Shanghai);
            prop_assert!(client.core.add_transaction(&bytes).is_err());
            let mut raw = Tx::deploy(0, 0, COUNTER).sign().encoded_2718();
            let at = usize::from(at) % raw.len();
            raw[at] ^= flip;
            // A changed signature may be valid for another account, which has no funds.
            prop_assert!(client.core.add_transaction(&raw).is_err());
        }
    }
}
