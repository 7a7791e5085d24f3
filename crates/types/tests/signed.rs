//! Signed and hashed structures: a single altered field is refused. Tests of valid messages do
//! not notice a field that the signed bytes omit, because signers and verifiers omit it alike.
//!
//! The alterations are made in the canonical encoding, one byte after the other, so that a new
//! field is covered without a new row.

use alys_types::bls::{self, PublicKeyBytes, SecretKey, Signature};
use alys_types::limits::MAX_BLOCK_BYTES;
use alys_types::peg::{BurnId, Payment, PayoutVersion};
use alys_types::vote::ChainId;
use alys_types::wire::{AuthorityProof, HeldVotes, Proposal};
use alys_types::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CHAIN: ChainId = ChainId {
    evm: 121_212,
    genesis: Hash([1; 32]),
};

fn key(index: u8) -> SecretKey {
    SecretKey::derive(&[index + 1; 32])
}

/// All values whose encoding differs from that of `value` in one byte.
fn altered<T: Serialize + DeserializeOwned>(value: &T) -> Vec<T> {
    let bytes = codec::encode(value);
    let alter = |at: usize| {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        codec::decode(&altered, MAX_BLOCK_BYTES).ok()
    };
    (0..bytes.len()).filter_map(alter).collect()
}

fn target(kind: VoteKind, header: &Header) -> VoteTarget {
    VoteTarget {
        kind,
        height: header.height,
        slot: header.slot,
        hash: header.hash(),
    }
}

fn vote(target: VoteTarget, signer: u8) -> Vote {
    Vote {
        target,
        signer,
        signature: key(signer).sign(&target.message(&CHAIN).0),
    }
}

/// True if the authority of this vote signed its target.
fn is_valid(vote: &Vote, chain: &ChainId) -> bool {
    let public = key(vote.signer).public_key();
    bls::verify(&[&public], &vote.target.message(chain).0, &vote.signature).is_ok()
}

fn order() -> Order {
    Order {
        number: 3,
        content: OrderContent::Federation(SetChange {
            change: FederationChange::Add(Authority {
                public_key: PublicKeyBytes([4; 48]),
                proof_of_possession: Signature([5; 96]),
                fee_address: Address([6; 20]),
            }),
            effective_height: Height(70),
        }),
        signatures: Vec::new(),
    }
}

fn payout_version() -> PayoutVersion {
    PayoutVersion {
        payout: 48,
        version: 49,
        payments: vec![Payment {
            burn: BurnId {
                transaction: Hash([50; 32]),
                log: 51,
            },
            part: 52,
        }],
        transaction: vec![30],
    }
}

/// A body in which each list has an entry, and each option a value.
fn body() -> Body {
    let payload = ExecutionPayload {
        parent_hash: Hash([1; 32]),
        fee_recipient: Address([2; 20]),
        state_root: Hash([3; 32]),
        receipts_root: Hash([4; 32]),
        logs_bloom: [5; 256],
        prev_randao: Hash([6; 32]),
        block_number: 7,
        gas_limit: 8,
        gas_used: 9,
        timestamp: 10,
        extra_data: vec![11],
        base_fee_per_gas: [12; 32],
        block_hash: Hash([13; 32]),
        transactions: vec![vec![14]],
        withdrawals: vec![Withdrawal {
            index: 15,
            validator_index: 16,
            address: Address([17; 20]),
            amount_gwei: 18,
        }],
        blob_gas: Some(BlobGas {
            used: 19,
            excess: 20,
        }),
    };
    Body {
        withdrawal_kinds: vec![WithdrawalKind::Fee],
        peg_ins: vec![PegIn {
            txid: Hash([21; 32]),
            vout: 22,
            amount: Sats(23),
            script_epoch: 24,
            address: Address([25; 20]),
            bitcoin_block: Hash([26; 32]),
        }],
        settlements: vec![Settlement {
            payout: 27,
            txid: Hash([28; 32]),
            bitcoin_block: Hash([29; 32]),
        }],
        payout_proposal: Some(PayoutProposal {
            payout: Some(payout_version()),
            sweep: Some(payout_version()),
            versions: vec![payout_version()],
        }),
        auxpow: Some(AuxPowHeader {
            range_start: Hash([31; 32]),
            range_end: Hash([32; 32]),
            bits: 33,
            chain_id: 34,
            sequence: 35,
            auxpow: vec![36],
            miner: Address([37; 20]),
        }),
        orders: vec![Order {
            signatures: vec![(1, Signature([38; 96]))],
            ..order()
        }],
        finality: vec![certificate()],
        fee_estimate: Some(FeeRate(39)),
        ..Body::of(payload)
    }
}

fn certificate() -> Certificate {
    let mut signers = Bitmap::empty(4);
    signers.set(0);
    signers.set(2);
    Certificate {
        target: VoteTarget {
            kind: VoteKind::Approval,
            height: Height(41),
            slot: Slot(42),
            hash: Hash([43; 32]),
        },
        signers,
        signature: Signature([44; 96]),
    }
}

fn header(body: &Body) -> Header {
    Header {
        version: 1,
        evm_chain_id: CHAIN.evm,
        genesis_hash: CHAIN.genesis,
        height: Height(42),
        slot: Slot(43),
        proposer: 1,
        parent_hash: Hash([45; 32]),
        parent_certificate: Some(certificate()),
        execution_hash: body.payload.block_hash,
        body_hash: body.hash(),
        set_hash: Hash([46; 32]),
        ledger_hash: Hash([47; 32]),
    }
}

#[test]
fn a_vote_with_any_altered_field_is_refused() {
    let header = header(&body());
    for kind in [
        VoteKind::Proposal,
        VoteKind::Approval,
        VoteKind::Confirmation,
    ] {
        let vote = vote(target(kind, &header), 1);
        assert!(is_valid(&vote, &CHAIN));
        let all = altered(&vote);
        assert!(all.len() > 100, "the fields decode one by one");
        for (number, altered) in all.iter().enumerate() {
            assert!(
                !is_valid(altered, &CHAIN),
                "alteration {number}: {altered:?}"
            );
        }
        for chain in altered_chains() {
            assert!(!is_valid(&vote, &chain), "{chain:?}");
        }
    }
}

/// Chains with another value in one byte.
fn altered_chains() -> Vec<ChainId> {
    let all = altered(&CHAIN);
    assert_eq!(all.len(), 40);
    all
}

#[test]
fn held_votes_with_any_altered_field_are_refused() {
    let header = header(&body());
    let held = HeldVotes {
        approval: Some(vote(target(VoteKind::Approval, &header), 1)),
        confirmation: Some(vote(target(VoteKind::Confirmation, &header), 1)),
    };
    let is_valid = |held: &HeldVotes| {
        let votes = [held.approval, held.confirmation];
        votes.iter().flatten().all(|vote| is_valid(vote, &CHAIN))
            && votes.iter().all(Option::is_some)
    };
    assert!(is_valid(&held));
    for (number, altered) in altered(&held).iter().enumerate() {
        assert!(!is_valid(altered), "alteration {number}");
    }
}

#[test]
fn a_header_and_a_body_with_any_altered_field_have_other_hashes() {
    let body = body();
    let header = header(&body);
    let bodies = altered(&body);
    assert!(bodies.len() > 1_000, "the fields decode one by one");
    for (number, altered) in bodies.iter().enumerate() {
        assert_ne!(altered.hash(), header.body_hash, "alteration {number}");
    }
    let headers = altered(&header);
    assert!(headers.len() > 300, "the fields decode one by one");
    for (number, altered) in headers.iter().enumerate() {
        assert_ne!(altered.hash(), header.hash(), "alteration {number}");
    }
}

#[test]
fn a_proposal_with_any_altered_field_is_refused() {
    let body = body();
    let header = header(&body);
    let proposal = Proposal {
        vote: vote(target(VoteKind::Proposal, &header), header.proposer),
        block: Block { header, body },
    };
    // The comparisons of a receiver, the slowest one last.
    let is_valid = |proposal: &Proposal| {
        let header = &proposal.block.header;
        proposal.block.body.hash() == header.body_hash
            && proposal.vote.target == target(VoteKind::Proposal, header)
            && proposal.vote.signer == header.proposer
            && is_valid(&proposal.vote, &CHAIN)
    };
    assert!(is_valid(&proposal));
    for (number, altered) in altered(&proposal).iter().enumerate() {
        assert!(!is_valid(altered), "alteration {number}");
    }
}

#[test]
fn an_order_with_any_altered_field_is_refused() {
    let mut order = order();
    let signed = order.message(&CHAIN.genesis);
    order.signatures = vec![(0, key(0).sign(&signed.0))];
    let is_valid = |order: &Order, genesis: &Hash| {
        let [(signer, signature)] = order.signatures[..] else {
            return false;
        };
        let public = key(signer).public_key();
        bls::verify(&[&public], &order.message(genesis).0, &signature).is_ok()
    };
    assert!(is_valid(&order, &CHAIN.genesis));
    let all = altered(&order);
    assert!(all.len() > 250, "the fields decode one by one");
    for (number, altered) in all.iter().enumerate() {
        assert!(!is_valid(altered, &CHAIN.genesis), "alteration {number}");
    }
    let removal = Order {
        content: OrderContent::Federation(SetChange {
            change: FederationChange::Remove(PublicKeyBytes([4; 48])),
            effective_height: Height(70),
        }),
        ..order.clone()
    };
    assert!(!is_valid(&removal, &CHAIN.genesis));
    for genesis in altered(&CHAIN.genesis) {
        assert!(!is_valid(&order, &genesis), "{genesis}");
    }
}

#[test]
fn a_proof_of_an_authority_with_any_altered_field_is_refused() {
    let authorities = (0..2).map(|index| Authority {
        public_key: key(index).public_key().to_bytes(),
        proof_of_possession: key(index).prove_possession(),
        fee_address: Address([index; 20]),
    });
    let set = AuthoritySet::new(authorities.collect(), FaultModel::Byzantine);
    let set = set.expect("a good set");
    let peer = [7; 38];
    let proof = AuthorityProof::sign(&key(1), &CHAIN, &peer);
    assert_eq!(proof.verify(&set, &CHAIN, &peer), Ok(()));
    for (number, altered) in altered(&proof).iter().enumerate() {
        let found = altered.verify(&set, &CHAIN, &peer);
        assert!(found.is_err(), "alteration {number}");
    }
    for chain in altered_chains() {
        assert!(proof.verify(&set, &chain, &peer).is_err(), "{chain:?}");
    }
    for at in 0..peer.len() {
        let mut other = peer;
        other[at] ^= 1;
        assert!(proof.verify(&set, &CHAIN, &other).is_err(), "byte {at}");
        assert!(proof.verify(&set, &CHAIN, &peer[..at]).is_err(), "{at}");
    }
}
