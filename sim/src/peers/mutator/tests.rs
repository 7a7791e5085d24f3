use std::collections::BTreeSet;

use alys_runtime::sim::Rng;
use alys_types::bls::SecretKey;
use alys_types::vote::ChainId;
use alys_types::{
    Address, Authority, AuthoritySet, BlobGas, Body, Certificate, ExecutionPayload, FaultModel,
    Hash, Slot,
};

use super::*;

const CHAIN: ChainId = ChainId {
    evm: 1,
    genesis: Hash([7; 32]),
};

fn key(index: u8) -> SecretKey {
    SecretKey::derive(&[index + 1; 32])
}

fn set() -> AuthoritySet {
    let authorities = (0..4).map(|index| Authority {
        public_key: key(index).public_key().to_bytes(),
        proof_of_possession: key(index).prove_possession(),
        fee_address: Address([index; 20]),
    });
    AuthoritySet::new(authorities.collect(), FaultModel::Byzantine).expect("a good set")
}

fn vote(kind: VoteKind, signer: u8) -> Vote {
    let target = VoteTarget {
        kind,
        height: Height(5),
        slot: Slot(9),
        hash: Hash([3; 32]),
    };
    Vote {
        target,
        signer,
        signature: key(signer).sign(&target.message(&CHAIN).0),
    }
}

/// The means of authority 3 that has heard the others' votes of both kinds.
fn shop() -> Workshop {
    let rng = Rng::derive(1, "mutator test");
    let mut shop = Workshop::new(Some((3, key(3))), CHAIN, FaultModel::Byzantine, 4, rng);
    for signer in 0..3 {
        shop.hear(&vote(VoteKind::Approval, signer));
        shop.hear(&vote(VoteKind::Confirmation, signer));
    }
    shop
}

fn genuine(kind: VoteKind) -> Certificate {
    let votes: Vec<_> = (0..3)
        .map(|signer| (signer, vote(kind, signer).signature))
        .collect();
    let target = vote(kind, 0).target;
    Certificate::aggregate(target, &votes, &set()).expect("three signatures")
}

fn is_valid(certificate: &Certificate) -> bool {
    let signers = &certificate.signers;
    signers.len() == 4
        && signers.count() >= 3
        && certificate.verify_signature(&set(), &CHAIN).is_ok()
}

#[test]
fn certificates_of_the_catalogue_are_as_valid_as_it_says() {
    for kind in [VoteKind::Approval, VoteKind::Confirmation] {
        let base = genuine(kind);
        assert!(is_valid(&base));
        for (name, tolerance, change) in CERTIFICATE {
            let altered = change(&base, &mut shop()).expect(name);
            assert_ne!(altered, base, "{name}");
            assert_eq!(
                is_valid(&altered),
                *tolerance == Tolerance::Valid,
                "{name} of {kind:?}"
            );
        }
    }
}

#[test]
fn votes_of_the_catalogue_are_valid_only_after_a_new_signature() {
    for (name, tolerance, change) in VOTE {
        let is_valid = |vote: &Vote| {
            set().key(vote.signer).is_some_and(|key| {
                let message = vote.target.message(&CHAIN);
                alys_types::bls::verify(&[key], &message.0, &vote.signature).is_ok()
            })
        };
        let mut shop = shop();
        let mut altered = vote(VoteKind::Approval, 3);
        change(&mut altered, &mut shop);
        assert!(!is_valid(&altered), "{name}");
        let signed = shop.sign(altered.target).expect("it has a key");
        let signed = Vote {
            signer: altered.signer,
            ..signed
        };
        if *tolerance == Tolerance::Valid {
            assert!(is_valid(&signed), "{name}");
        }
    }
}

#[test]
fn a_stranger_signs_nothing() {
    let rng = Rng::derive(1, "mutator test");
    let shop = Workshop::new(None, CHAIN, FaultModel::Byzantine, 4, rng);
    assert_eq!(shop.sign(vote(VoteKind::Approval, 0).target), None);
    assert!(
        shop.signatures(&vote(VoteKind::Approval, 0).target)
            .is_empty()
    );
}

#[test]
fn alterations_are_named_once() {
    let names: Vec<String> = catalogue().map(|(name, _)| name).collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    let expected = [
        "proposal.parent-certificate.signers.single.signed",
        "proposal.body.payload.base-fee.sealed",
        "proposal.body.peg-ins.bare",
        "confirmation.certificate.signers.repeated.signed",
        "finality.header.genesis-hash.bound",
        "approval.vote.signer.other.signed",
        "status-answer.held.approval",
    ];
    for name in expected {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}

#[test]
fn a_stride_visits_every_entry() {
    for length in 1..200 {
        let step = stride(length);
        let visited: BTreeSet<usize> = (0..length).map(|turn| turn * step % length).collect();
        assert_eq!(visited.len(), length);
    }
}

/// The proposal of authority 3 on a certified parent.
fn proposal() -> Proposal {
    let payload = ExecutionPayload {
        parent_hash: Hash([1; 32]),
        fee_recipient: Address([2; 20]),
        state_root: Hash([3; 32]),
        receipts_root: Hash([4; 32]),
        logs_bloom: [0; 256],
        prev_randao: Hash([5; 32]),
        block_number: 6,
        gas_limit: 30_000_000,
        gas_used: 21_000,
        timestamp: 10,
        extra_data: Vec::new(),
        base_fee_per_gas: [0; 32],
        block_hash: Hash([6; 32]),
        transactions: vec![vec![2, 1]],
        withdrawals: Vec::new(),
        blob_gas: Some(BlobGas { used: 0, excess: 0 }),
    };
    let body = Body::of(payload);
    let header = Header {
        version: 1,
        evm_chain_id: CHAIN.evm,
        genesis_hash: CHAIN.genesis,
        height: Height(6),
        slot: Slot(11),
        proposer: 3,
        parent_hash: Hash([3; 32]),
        parent_certificate: Some(genuine(VoteKind::Approval)),
        execution_hash: body.payload.block_hash,
        body_hash: body.hash(),
        set_hash: Hash([8; 32]),
        ledger_hash: Hash([9; 32]),
    };
    let vote = shop().sign(target_of(VoteKind::Proposal, &header));
    Proposal {
        block: Block { header, body },
        vote: vote.expect("it has a key"),
    }
}

#[test]
fn a_proposal_follows_its_altered_part_as_far_as_its_binding_says() {
    let mut mutator = Mutator {
        shop: shop(),
        judge: Judge::new(&WorldPlan::default()),
        heard: Heard::default(),
        own: None,
        turn: 0,
        cursors: BTreeMap::new(),
    };
    let base = proposal();
    let of_proposals = CATALOGUE.iter().filter(|one| one.kind == Kind::Proposal);
    let mut count = 0;
    for alteration in of_proposals {
        let name = alteration.name();
        let altered = mutator.alter_proposal(&base, *alteration);
        let altered = altered.unwrap_or_else(|| panic!("{name} changes nothing"));
        assert_ne!(altered, base, "{name}");
        let Proposal { block, vote } = &altered;
        let is_bound = vote.target == target_of(VoteKind::Proposal, &block.header)
            && vote.signer == block.header.proposer;
        let message = vote.target.message(&CHAIN);
        let is_signed =
            alys_types::bls::verify(&[&key(3).public_key()], &message.0, &vote.signature).is_ok();
        let has_body = block.header.body_hash == block.body.hash();
        match alteration.binding {
            // Only a part is altered: the header, the body or the vote.
            Binding::Bare => assert!(!(is_bound && is_signed && has_body), "{name}"),
            Binding::Bound => assert!(is_bound && !is_signed, "{name}"),
            Binding::Signed | Binding::Sealed => assert!(is_bound && is_signed, "{name}"),
        }
        if matches!(alteration.part, Part::Body(_)) {
            assert_eq!(has_body, alteration.binding != Binding::Bare, "{name}");
        }
        if alteration.binding == Binding::Sealed {
            assert_eq!(
                block.header.execution_hash, block.body.payload.block_hash,
                "{name}"
            );
        }
        count += 1;
    }
    assert!(count > 150, "{count}");
}
