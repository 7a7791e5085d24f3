//! The canonical encoding, pinned. A changed file is a changed protocol: it needs a decision in
//! `docs/adr`, then `ALYS_BLESS=1 cargo test -p alys-types --test golden` rewrites it.

use std::path::PathBuf;

use alys_types::bls::{PublicKeyBytes, SecretKey, Signature};
use alys_types::limits::MAX_BLOCK_BYTES;
use alys_types::spec::{AuxPowSpec, ChainSpec, GovernanceSpec, PegSpec, transaction_type};
use alys_types::wire::{
    AuthorityProof, BlockRange, CertifiedHeader, Confirmation, HeldVotes, Message, Proposal,
    RangeRequest, Status, StatusAnswer,
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
        peg_out: Some(PegOutProposal {
            transactions: vec![vec![25; 5]],
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
        federation_change: Some(FederationOrder {
            number: 31,
            change: FederationChange::Add(Authority {
                public_key: PublicKeyBytes([32; 48]),
                proof_of_possession: Signature([33; 96]),
                fee_address: Address([34; 20]),
            }),
            effective_height: Height(35),
            signatures: vec![(0, Signature([36; 96])), (2, Signature([37; 96]))],
        }),
        governance_orders: vec![GovernanceOrder {
            number: 38,
            content: vec![39; 4],
            signatures: vec![(1, Signature([40; 96]))],
        }],
        finality: vec![certificate(VoteKind::Confirmation, 41)],
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
        evm_chain_id: 121_212,
        start_slot: Slot(850_000_000),
        slot_duration_ms: 2000,
        fault_model: FaultModel::Byzantine,
        drift_allowance_ms: 500,
        rejoin_margin: 1800,
        execution_genesis_hash: hash(60),
        authorities,
        governance: GovernanceSpec::default(),
        peg: PegSpec::default(),
        auxpow: AuxPowSpec::default(),
    }
}

fn status() -> Status {
    Status {
        genesis: hash(61),
        fork_id: hash(62),
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
    let range = BlockRange {
        blocks: vec![block],
        tip: Some(certificate(VoteKind::Approval, 70)),
        finalized: Some(certified(VoteKind::Confirmation)),
    };
    check("block-range", &range);
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
             vault {}\nempty ledger {}\norder {}\n",
            block.header.hash(),
            block.body.hash(),
            genesis.hash(),
            genesis.set().hash(),
            genesis.fork_id(),
            target.message(&genesis.chain_id()),
            alys_types::spec::prev_randao(&hash(1), Slot(2)),
            alys_types::spec::vault_address(),
            alys_types::spec::empty_ledger_hash(),
            block
                .body
                .federation_change
                .as_ref()
                .expect("is there")
                .message(&genesis.hash()),
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
    let order = full_block().body.federation_change.expect("is there");
    let order = order.message(&genesis.hash());
    pin(
        "signed-messages",
        &format!(
            "{}authority peer {}\nfederation order {order} {}\npossession {} {}\n",
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

    let full = full_block().body.federation_change.expect("is there");
    let changes: [fn(&mut FederationOrder); 4] = [
        |_| {},
        |order| order.number += 1,
        |order| order.effective_height = order.effective_height.next(),
        |order| order.change = FederationChange::Remove(PublicKeyBytes([32; 48])),
    ];
    messages.extend(changes.map(|change| {
        let mut order = full.clone();
        change(&mut order);
        order.message(&hash(2))
    }));
    messages.push(full.message(&hash(3)));

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
fn bad_specs_are_refused_with_the_field_named() {
    let check = |change: fn(&mut ChainSpec), field: &str| {
        let mut spec = spec();
        change(&mut spec);
        let error = Genesis::new(spec).expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    };
    check(|s| s.slot_duration_ms = 999, "slot_duration_ms");
    check(|s| s.drift_allowance_ms = 2000, "drift_allowance_ms");
    check(|s| s.auxpow.chain_id = 8192, "auxpow.chain_id");
    check(|s| s.governance.threshold = 1, "governance.threshold");
    check(|s| s.authorities.clear(), "authorities");
    check(
        |s| s.authorities[1] = s.authorities[0].clone(),
        "authorities[1].public_key",
    );
    check(
        |s| s.authorities[2].public_key = PublicKeyBytes([0; 48]),
        "authorities[2].public_key",
    );
    // Another's proof: a rogue key cannot be proven.
    check(
        |s| s.authorities[3].proof_of_possession = s.authorities[0].proof_of_possession,
        "authorities[3].proof_of_possession",
    );
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
