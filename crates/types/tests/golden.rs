//! The canonical encoding, pinned. A changed file is a changed protocol: it needs a decision in
//! `docs/adr`, then `ALYS_BLESS=1 cargo test -p alys-types --test golden` rewrites it.

use std::path::PathBuf;

use alys_types::bls::{PublicKeyBytes, SecretKey, Signature};
use alys_types::limits::*;
use alys_types::order::{Close, Correction, Credit, Exclude, Halt, RestartAnchor, ScriptEpoch};
use alys_types::part::PARTS;
use alys_types::peg::{
    BitcoinKey, BurnId, ConfirmedTransaction, FederationScript, OutPoint, Payment, PayoutVersion,
};
use alys_types::spec::{BURN_ADDRESS, GovernanceSpec, transaction_type};
use alys_types::wire::{
    AuthorityProof, BlockRange, BlockReceipts, CertifiedHeader, Confirmation, HeldVotes, Message,
    Proposal, RangeRequest, Status, StatusAnswer,
};
use alys_types::*;
use proptest::prelude::*;

fn hash(n: u8) -> Hash {
    Hash([n; 32])
}

fn certificate(kind: VoteKind, n: u8) -> Certificate {
    let mut signers = Bitmap::empty(4);
    for i in [0, 2, 3] {
        signers.set(i);
    }
    let target = VoteTarget {
        kind,
        height: Height(41),
        slot: Slot(850_000_041),
        hash: hash(n),
    };
    Certificate {
        target,
        signers,
        signature: Signature([n; 96]),
    }
}

fn payout_version(payout: u64, version: u32) -> PayoutVersion {
    PayoutVersion {
        payout,
        version,
        payments: vec![Payment {
            burn: BurnId {
                transaction: hash(46),
                log: 47,
            },
            part: 48,
        }],
        transaction: vec![25; 5],
    }
}

fn authority(n: u8) -> Authority {
    Authority {
        public_key: PublicKeyBytes([n; 48]),
        proof_of_possession: Signature([n + 1; 96]),
        fee_address: Address([n + 2; 20]),
    }
}

fn order(content: OrderContent) -> Order {
    Order {
        number: 31,
        content,
        signatures: vec![(0, Signature([36; 96])), (2, Signature([37; 96]))],
    }
}

/// An order of every kind, each field filled.
fn orders() -> Vec<Order> {
    let outpoint = OutPoint {
        txid: hash(1),
        vout: 2,
    };
    let transaction = ConfirmedTransaction {
        txid: hash(3),
        bitcoin_block: hash(4),
    };
    let burn = BurnId {
        transaction: hash(5),
        log: 6,
    };
    let contents = [
        OrderContent::Federation(SetChange {
            change: FederationChange::Add(authority(32)),
            effective_height: Height(35),
        }),
        OrderContent::Federation(SetChange {
            change: FederationChange::Remove(PublicKeyBytes([32; 48])),
            effective_height: Height(35),
        }),
        OrderContent::ScriptEpoch(ScriptEpoch {
            epoch: 7,
            script: FederationScript {
                threshold: 1,
                keys: vec![BitcoinKey([8; 33])],
            },
            proof: transaction,
        }),
        OrderContent::Close(Close {
            epoch: 9,
            never_signed: vec![10, 11],
        }),
        OrderContent::Credit(Credit {
            outpoint,
            address: Address([12; 20]),
        }),
        OrderContent::Exclude(Exclude { burns: vec![burn] }),
        OrderContent::Correct(Correction::Lost {
            outpoint,
            spent_by: transaction,
        }),
        OrderContent::Correct(Correction::Resettled {
            payout: 13,
            version: Some(transaction),
        }),
        OrderContent::Correct(Correction::Resettled {
            payout: 13,
            version: None,
        }),
        OrderContent::GovernanceKeys(GovernanceSpec {
            threshold: 1,
            keys: vec![PublicKeyBytes([14; 48])],
        }),
        OrderContent::Halt(Halt {
            deposits: true,
            payouts: false,
        }),
        OrderContent::RestartAnchor(RestartAnchor {
            height: Height(15),
            hash: hash(16),
            slot: Slot(17),
            authorities: vec![authority(18)],
        }),
    ];
    contents.map(order).to_vec()
}

/// A block in which every field of every feature is filled.
fn full_block() -> Block {
    let payload = ExecutionPayload {
        parent_hash: hash(1),
        fee_recipient: Address([2; 20]),
        state_root: hash(3),
        receipts_root: hash(4),
        logs_bloom: [5; 256],
        prev_randao: hash(6),
        block_number: 42,
        gas_limit: 30_000_000,
        gas_used: 21_000,
        timestamp: 1_700_000_084,
        extra_data: vec![7; 3],
        base_fee_per_gas: [8; 32],
        block_hash: hash(9),
        transactions: vec![vec![0x02, 10, 11], vec![0xf8]],
        withdrawals: vec![Withdrawal {
            index: 12,
            validator_index: 1,
            address: Address([13; 20]),
            amount_gwei: 14,
        }],
        blob_gas: Some(BlobGas {
            used: 0,
            excess: 15,
        }),
    };
    let body = Body {
        payload,
        withdrawal_kinds: vec![WithdrawalKind::Fee, WithdrawalKind::PegIn],
        peg_ins: vec![PegIn {
            txid: hash(16),
            vout: 17,
            amount: Sats(18),
            script_epoch: 19,
            address: Address([20; 20]),
            bitcoin_block: hash(21),
        }],
        settlements: vec![Settlement {
            payout: 22,
            txid: hash(23),
            bitcoin_block: hash(24),
        }],
        payout_proposal: Some(PayoutProposal {
            payout: Some(payout_version(25, 0)),
            sweep: Some(payout_version(26, 0)),
            versions: vec![payout_version(24, 3)],
        }),
        auxpow: Some(AuxPowHeader {
            range_start: hash(26),
            range_end: hash(27),
            bits: 0x207f_ffff,
            chain_id: 21_212,
            sequence: 28,
            auxpow: vec![29; 7],
            miner: Address([30; 20]),
        }),
        orders: vec![order(OrderContent::Federation(SetChange {
            change: FederationChange::Add(authority(32)),
            effective_height: Height(35),
        }))],
        finality: vec![certificate(VoteKind::Confirmation, 41)],
        fee_estimate: Some(FeeRate(49)),
    };
    let header = Header {
        version: 1,
        evm_chain_id: 121_212,
        genesis_hash: hash(42),
        height: Height(42),
        slot: Slot(850_000_042),
        proposer: 2,
        parent_hash: hash(43),
        parent_certificate: Some(certificate(VoteKind::Approval, 43)),
        execution_hash: hash(9),
        body_hash: body.hash(),
        set_hash: hash(44),
        ledger_hash: hash(45),
    };
    Block { header, body }
}

fn vote(kind: VoteKind) -> Vote {
    let target = VoteTarget {
        kind,
        height: Height(42),
        slot: Slot(850_000_042),
        hash: hash(50),
    };
    Vote {
        target,
        signer: 3,
        signature: Signature([51; 96]),
    }
}

fn certified(kind: VoteKind) -> CertifiedHeader {
    CertifiedHeader {
        header: full_block().header,
        certificate: certificate(kind, 52),
    }
}

fn spec() -> ChainSpec {
    let authorities = (1..=4u8)
        .map(|i| {
            let key = SecretKey::derive(&[i; 32]);
            Authority {
                public_key: key.public_key().to_bytes(),
                proof_of_possession: key.prove_possession(),
                fee_address: Address([i; 20]),
            }
        })
        .collect();
    ChainSpec {
        drift_allowance_ms: 500,
        ..ChainSpec::development(121_212, Slot(850_000_000), 2000, hash(60), authorities)
    }
}

fn status() -> Status {
    Status {
        genesis: hash(61),
        fork_id: ForkId {
            hash: hash(62),
            next: Some(Height(67)),
        },
        head_height: Height(63),
        head: hash(64),
        highest: Some(certified(VoteKind::Approval)),
        finalized: Some(certified(VoteKind::Confirmation)),
        authority: Some(AuthorityProof {
            key: PublicKeyBytes([65; 48]),
            signature: Signature([66; 96]),
        }),
        slot: Slot(850_000_066),
    }
}

/// Compares an encoding with its file, and that it decodes to what it came from within its limit.
fn check<T: Message + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let bytes = value.encode();
    pin(name, &format!("{}\n", hex::encode(&bytes)));
    assert!(
        bytes.len() <= T::LIMIT,
        "{name} of {} bytes fits in {}",
        bytes.len(),
        T::LIMIT
    );
    assert_eq!(&T::decode(&bytes).expect("decodes"), value, "{name}");
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(
        T::decode(&longer).is_err(),
        "{name}: trailing bytes are refused"
    );
}

fn pin(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.txt"));
    if std::env::var_os("ALYS_BLESS").is_some() {
        std::fs::write(&path, text).expect("writes");
    }
    let pinned = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(pinned.trim(), text.trim(), "{name}: the encoding changed");
}

#[test]
fn encodings_are_pinned() {
    let block = full_block();
    check(
        "proposal",
        &Proposal {
            block: block.clone(),
            vote: vote(VoteKind::Proposal),
        },
    );
    check("vote", &vote(VoteKind::Approval));
    let confirmation = Confirmation {
        vote: vote(VoteKind::Confirmation),
        certified: certified(VoteKind::Approval),
    };
    check("confirmation", &confirmation);
    check("certified-header", &certified(VoteKind::Confirmation));
    check("status", &status());
    let held = HeldVotes {
        approval: Some(vote(VoteKind::Approval)),
        confirmation: Some(vote(VoteKind::Confirmation)),
    };
    check(
        "status-answer",
        &StatusAnswer {
            status: status(),
            held,
        },
    );
    check(
        "range-request",
        &RangeRequest {
            start: Height(1),
            count: 256,
        },
    );
    check("receipts-request", &hash(80));
    check(
        "receipts-answer",
        &Some(BlockReceipts(vec![vec![0xc0], vec![0x02, 81]])),
    );
    let range = BlockRange {
        blocks: vec![block],
        tip: Some(certificate(VoteKind::Approval, 70)),
        finalized: Some(certified(VoteKind::Confirmation)),
    };
    check("block-range", &range);
}

#[test]
fn orders_are_pinned() {
    let lines = orders().into_iter().map(|order| {
        let bytes = codec::encode(&order);
        assert_eq!(
            codec::decode::<Order>(&bytes, MAX_ORDER_BYTES),
            Ok(order.clone())
        );
        let kind = order.content.kind();
        let message = order.message(&hash(61));
        format!("{kind} {message} {}\n", hex::encode(&bytes))
    });
    pin("orders", &lines.collect::<String>());
}

#[test]
fn the_hash_of_a_body_follows_from_its_parts() {
    let mut body = full_block().body;
    let hashes = Part::ALL.map(|part| part.hash(&body.encode_part(part)));
    let parts = hashes.map(|hash| format!("{hash}\n")).concat();
    pin("parts", &format!("{parts}body {}\n", body.hash()));
    let encodings = Part::ALL.map(|part| body.encode_part(part)).concat();
    assert_eq!(encodings, codec::encode(&body), "a body is its parts");

    let body_hash = body.hash();
    for (index, part) in Part::ALL.into_iter().enumerate() {
        let proof = body.prove_part(part);
        let encoding = body.encode_part(part);
        assert!(proof.verify(&encoding, &body_hash), "{part:?}");
        assert!(
            !proof.verify(&encoding, &hash(1)),
            "{part:?} of another body"
        );
        let mut other = encoding.clone();
        other[0] ^= 1;
        assert!(!proof.verify(&other, &body_hash), "{part:?} altered");
        for sibling in 0..PARTS - 1 {
            let mut altered = proof.clone();
            altered.siblings[sibling].0[0] ^= 1;
            assert!(
                !altered.verify(&encoding, &body_hash),
                "{part:?}, {sibling}"
            );
        }
        // The same encoding is no other part.
        let another = PartProof {
            part: Part::ALL[(index + 1) % PARTS],
            ..proof.clone()
        };
        assert!(!another.verify(&encoding, &body_hash), "{part:?}");
        assert!(codec::encode(&proof).len() < 300, "a few hundred bytes");
    }
    body.fee_estimate = None;
    assert_ne!(body.hash(), body_hash);
}

/// Lists in remote bytes are bounded by their decoder as well as by the rule.
#[test]
fn longer_lists_do_not_decode() {
    type Change = fn(&mut Body, usize);
    let orders: Change = |body, count| body.orders = vec![body.orders[0].clone(); count];
    let table: [(&str, usize, Change); 9] = [
        ("withdrawals", MAX_WITHDRAWALS, |body, count| {
            body.payload.withdrawals = vec![body.payload.withdrawals[0]; count];
        }),
        ("withdrawal kinds", MAX_WITHDRAWALS, |body, count| {
            body.withdrawal_kinds = vec![WithdrawalKind::Fee; count];
        }),
        ("peg-ins", MAX_WITHDRAWALS, |body, count| {
            body.peg_ins = vec![body.peg_ins[0]; count];
        }),
        ("settlements", MAX_SETTLEMENTS, |body, count| {
            body.settlements = vec![body.settlements[0]; count];
        }),
        ("extra data", MAX_EXTRA_DATA_BYTES, |body, count| {
            body.payload.extra_data = vec![7; count];
        }),
        ("AuxPoW", MAX_AUXPOW_BYTES, |body, count| {
            body.auxpow.as_mut().expect("is there").auxpow = vec![7; count];
        }),
        ("orders", MAX_BODY_ORDERS, orders),
        ("certificates", MAX_BODY_CERTIFICATES, |body, count| {
            body.finality = vec![body.finality[0]; count];
        }),
        ("versions", MAX_PAYOUT_VERSIONS, |body, count| {
            let proposal = body.payout_proposal.as_mut().expect("is there");
            proposal.versions = vec![payout_version(1, 1); count];
        }),
    ];
    for (what, limit, change) in table {
        let mut body = full_block().body;
        change(&mut body, limit);
        let decoded = codec::decode::<Body>(&codec::encode(&body), MAX_BLOCK_BYTES);
        assert_eq!(decoded.as_ref(), Ok(&body), "{what}");
        assert_eq!(body.check_limits(), Ok(()), "{what}");
        change(&mut body, limit + 1);
        let decoded = codec::decode::<Body>(&codec::encode(&body), MAX_BLOCK_BYTES);
        assert!(decoded.is_err(), "{what}");
        let refused = body.check_limits().expect_err(what);
        assert_eq!((refused.limit, refused.found), (limit, limit + 1), "{what}");
    }
}

#[test]
fn an_order_of_more_than_8_kib_does_not_decode() {
    let exclude = |count| {
        let burn = BurnId {
            transaction: hash(5),
            log: 6,
        };
        let burns = vec![burn; count];
        order(OrderContent::Exclude(Exclude { burns }))
    };
    let empty = codec::encoded_len(&exclude(0));
    let most = (MAX_ORDER_BYTES - empty) / 36;
    for (count, fits) in [(most, true), (most + 1, false)] {
        let order = exclude(count);
        let bytes = codec::encode(&order);
        assert_eq!(
            codec::decode::<Order>(&bytes, MAX_BLOCK_BYTES).is_ok(),
            fits
        );
        assert_eq!(order.check_size().is_ok(), fits);
        let mut body = full_block().body;
        body.orders = vec![order];
        assert_eq!(body.check_limits().is_ok(), fits);
    }
}

/// Each of the largest values of its lists, alone, leaves an order within its limit.
#[test]
fn every_kind_of_order_fits_with_the_signatures_of_all_keys() {
    let authorities = vec![authority(1); MAX_AUTHORITIES];
    let contents = [
        OrderContent::GovernanceKeys(GovernanceSpec {
            threshold: 15,
            keys: vec![PublicKeyBytes([1; 48]); MAX_GOVERNANCE_KEYS],
        }),
        OrderContent::RestartAnchor(RestartAnchor {
            height: Height(15),
            hash: hash(16),
            slot: Slot(17),
            authorities,
        }),
        OrderContent::ScriptEpoch(ScriptEpoch {
            epoch: 1,
            script: FederationScript {
                threshold: 15,
                keys: vec![BitcoinKey([2; 33]); MAX_BITCOIN_KEYS],
            },
            proof: ConfirmedTransaction {
                txid: hash(3),
                bitcoin_block: hash(4),
            },
        }),
    ];
    for content in contents {
        let order = Order {
            number: 1,
            content,
            signatures: vec![(0, Signature([1; 96])); MAX_GOVERNANCE_KEYS],
        };
        assert_eq!(order.check_size(), Ok(()));
        let bytes = codec::encode(&order);
        assert_eq!(codec::decode::<Order>(&bytes, MAX_ORDER_BYTES), Ok(order));
    }
}

#[test]
fn hashes_are_pinned() {
    let genesis = Genesis::new(spec()).expect("a good spec");
    let block = full_block();
    let target = vote(VoteKind::Approval).target;
    pin(
        "hashes",
        &format!(
            "header {}\nbody {}\ngenesis {}\nset {}\nfork id {}\nvote message {}\nrandao {}\n\
             vault {}\nburn {}\nempty ledger {}\norder {}\n",
            block.header.hash(),
            block.body.hash(),
            genesis.hash(),
            genesis.set().hash(),
            genesis.fork_id(Height(0)).hash,
            target.message(&genesis.chain_id()),
            alys_types::spec::prev_randao(&hash(1), Slot(2)),
            alys_types::spec::vault_address(),
            BURN_ADDRESS,
            alys_types::spec::empty_ledger_hash(),
            block.body.orders[0].message(&genesis.hash()),
        ),
    );
}

/// One line for each domain of signatures: the message, where it is public, and the signature. The
/// bytes were computed by another implementation of the ciphersuite.
#[test]
fn signed_messages_are_pinned() {
    let genesis = Genesis::new(spec()).expect("a good spec");
    let chain = genesis.chain_id();
    let key = SecretKey::derive(&[1; 32]);
    let kinds = [
        ("proposal", VoteKind::Proposal),
        ("approval", VoteKind::Approval),
        ("confirmation", VoteKind::Confirmation),
    ];
    let votes = kinds.map(|(name, kind)| {
        let message = vote(kind).target.message(&chain);
        format!("{name} {message} {}\n", key.sign(&message.0))
    });
    let proof = AuthorityProof::sign(&key, &chain, b"peer");
    let order = full_block().body.orders[0].message(&genesis.hash());
    pin(
        "signed-messages",
        &format!(
            "{}authority peer {}\norder {order} {}\npossession {} {}\n",
            votes.concat(),
            proof.signature,
            key.sign(&order.0),
            key.public_key().to_bytes(),
            key.prove_possession(),
        ),
    );
}

/// A field that is left out of a signature is left out on all nodes, so that they agree on it.
#[test]
fn each_field_of_a_signed_message_is_signed() {
    let chain = alys_types::vote::ChainId {
        evm: 1,
        genesis: hash(2),
    };
    let target = vote(VoteKind::Approval).target;
    let votes = [
        (target, chain),
        (
            VoteTarget {
                kind: VoteKind::Confirmation,
                ..target
            },
            chain,
        ),
        (
            VoteTarget {
                kind: VoteKind::Proposal,
                ..target
            },
            chain,
        ),
        (
            VoteTarget {
                height: target.height.next(),
                ..target
            },
            chain,
        ),
        (
            VoteTarget {
                slot: target.slot.next(),
                ..target
            },
            chain,
        ),
        (
            VoteTarget {
                hash: hash(51),
                ..target
            },
            chain,
        ),
        (target, alys_types::vote::ChainId { evm: 2, ..chain }),
        (
            target,
            alys_types::vote::ChainId {
                genesis: hash(3),
                ..chain
            },
        ),
    ];
    let mut messages: Vec<Hash> = votes.map(|(target, chain)| target.message(&chain)).to_vec();

    let full = full_block().body.orders[0].clone();
    let mut other_number = full.clone();
    other_number.number += 1;
    messages.extend([full.message(&hash(3)), other_number.message(&hash(2))]);
    messages.extend(orders().iter().map(|order| order.message(&hash(2))));

    let key = SecretKey::derive(&[1; 32]);
    let other = SecretKey::derive(&[2; 32]);
    let proofs = [
        AuthorityProof::sign(&key, &chain, b"peer"),
        AuthorityProof::sign(&key, &chain, b"peers"),
        AuthorityProof::sign(
            &key,
            &alys_types::vote::ChainId { evm: 2, ..chain },
            b"peer",
        ),
        AuthorityProof::sign(
            &key,
            &alys_types::vote::ChainId {
                genesis: hash(3),
                ..chain
            },
            b"peer",
        ),
        AuthorityProof::sign(&other, &chain, b"peer"),
    ];
    let count = messages.len();
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), count, "no two messages are the same");
    let mut signatures: Vec<Signature> = proofs.map(|proof| proof.signature).to_vec();
    signatures.sort();
    signatures.dedup();
    assert_eq!(signatures.len(), proofs.len());
}

#[test]
fn the_largest_block_fits_in_every_message_that_carries_it() {
    let mut block = full_block();
    let room = MAX_BLOCK_BYTES - codec::encoded_len(&block);
    block.body.payload.transactions[0].extend(vec![0; room]);
    assert_eq!(codec::encode(&block).len(), MAX_BLOCK_BYTES);
    assert_eq!(block.check_size(), Ok(()));
    let proposal = Proposal {
        block: block.clone(),
        vote: vote(VoteKind::Proposal),
    };
    assert!(proposal.encode().len() <= Proposal::LIMIT);
    let range = BlockRange {
        blocks: vec![block.clone()],
        tip: Some(certificate(VoteKind::Approval, 70)),
        finalized: Some(certified(VoteKind::Confirmation)),
    };
    assert!(range.encode().len() <= BlockRange::LIMIT);
    block.body.payload.transactions[0].push(0);
    let refused = block.check_size().expect_err("one byte too many");
    assert_eq!(
        (refused.limit, refused.found),
        (MAX_BLOCK_BYTES, MAX_BLOCK_BYTES + 1)
    );
}

#[test]
fn the_type_of_a_transaction_is_its_first_byte() {
    let table: [(&[u8], Option<u8>); 7] = [
        (&[0xf8, 1], Some(0)),
        (&[0xc0], Some(0)),
        (&[1, 2], Some(1)),
        (&[3], Some(3)),
        (&[0x7f], Some(0x7f)),
        (&[0x80], None),
        (&[], None),
    ];
    for (encoded, expected) in table {
        assert_eq!(transaction_type(encoded), expected, "{encoded:?}");
    }
}

#[test]
fn quorum_and_leader_follow_the_fault_model() {
    for (n, byzantine, crash) in [
        (1, 1, 1),
        (2, 2, 2),
        (3, 3, 2),
        (4, 3, 3),
        (5, 4, 3),
        (7, 5, 4),
        (10, 7, 6),
        (15, 11, 8),
    ] {
        assert_eq!(n - FaultModel::Byzantine.tolerated(n), byzantine, "n = {n}");
        assert_eq!(n - FaultModel::Crash.tolerated(n), crash, "n = {n}");
    }
    let genesis = Genesis::new(spec()).expect("a good spec");
    assert_eq!(genesis.set().leader(Slot(7)), 3);
    assert_eq!(genesis.set().quorum(), 3);
}

#[test]
fn aggregate_signatures_verify_for_their_target_chain_and_signers() {
    let genesis = Genesis::new(spec()).expect("a good spec");
    let set = genesis.set();
    let chain = genesis.chain_id();
    let target = VoteTarget {
        kind: VoteKind::Approval,
        height: Height(5),
        slot: Slot(9),
        hash: hash(1),
    };
    let sign = |i: u8| {
        (
            i,
            SecretKey::derive(&[i + 1; 32]).sign(&target.message(&chain).0),
        )
    };
    assert!(Certificate::aggregate(target, &[], set).is_none());
    let votes = [sign(0), sign(1), sign(1), sign(3)];
    let good = Certificate::aggregate(target, &votes, set).expect("three signatures");
    assert_eq!(good.signers.count(), 3, "a signer counts once");
    good.verify_signature(set, &chain).expect("verifies");

    let mut other_kind = good;
    other_kind.target.kind = VoteKind::Confirmation;
    let mut other_signers = good;
    other_signers.signers.set(2);
    let mut infinity = good;
    infinity.signature.0 = [0; 96];
    infinity.signature.0[0] = 0xc0;
    let bad = [
        (other_kind, "the kind is signed"),
        (other_signers, "a bit without a signature"),
        (infinity, "infinity"),
    ];
    for (certificate, reason) in bad {
        let verified = certificate.verify_signature(set, &chain);
        assert!(verified.is_err(), "{reason}");
    }
    let other_chain = alys_types::vote::ChainId {
        evm: chain.evm + 1,
        ..chain
    };
    let verified = good.verify_signature(set, &other_chain);
    assert!(verified.is_err(), "votes of another chain do not count");

    let message = target.message(&chain);
    let keys: Vec<_> = [0u8, 1, 3].iter().filter_map(|i| set.key(*i)).collect();
    let claim = || alys_types::bls::Claim {
        keys: keys.clone(),
        message: &message.0,
        signature: &good.signature,
    };
    alys_types::bls::verify_batch(&[claim(), claim()], &[3, 5]).expect("a batch of good ones");
    let bad = alys_types::bls::Claim {
        keys: keys[..2].to_vec(),
        message: &message.0,
        signature: &good.signature,
    };
    assert!(
        alys_types::bls::verify_batch(&[claim(), bad], &[3, 5]).is_err(),
        "one bad one spoils the batch"
    );
    assert!(
        alys_types::bls::verify_batch(&[claim()], &[0]).is_err(),
        "a zero scalar proves nothing"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes that are nearly a message: never a panic, and what decodes is canonical.
    #[test]
    fn damaged_messages_never_panic(at in 0usize..6000, to in any::<u8>(), cut in 0usize..6000) {
        let block = full_block();
        let mut bytes = Proposal { block, vote: vote(VoteKind::Proposal) }.encode();
        let at = at % bytes.len();
        bytes[at] = to;
        if cut < bytes.len() {
            bytes.truncate(bytes.len() - cut);
        }
        if let Ok(decoded) = Proposal::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
        let _ = Proposal::decode(&bytes);
        let _ = Vote::decode(&bytes);
        let _ = Confirmation::decode(&bytes);
        let _ = CertifiedHeader::decode(&bytes);
        let _ = StatusAnswer::decode(&bytes);
        let _ = BlockRange::decode(&bytes);
        let _ = Vec::<Block>::decode(&bytes);
        let _ = Vec::<Hash>::decode(&bytes);
    }
}
