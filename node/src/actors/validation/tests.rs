//! Decoding of gossip, and the party to blame for messages that fail to decode or to check.

use alys_actor_system::mailbox;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_net::NodeKey;
use alys_types::bls::Signature;
use alys_types::vote::Bitmap;
use alys_types::{Hash, Header, Slot, spec};

use super::*;
use crate::actors::testbed::{self, authority_key};

fn vote(kind: VoteKind) -> Vote {
    Vote {
        target: VoteTarget {
            kind,
            height: Height(1),
            slot: Slot(1),
            hash: Hash([1; 32]),
        },
        signer: 0,
        signature: Signature([0; 96]),
    }
}

#[test]
fn a_vote_is_decoded_on_the_topic_of_its_kind_only() {
    let approval = vote(VoteKind::Approval).encode();
    assert!(matches!(
        decode(Topic::Approvals, &approval),
        Ok(Gossip::Approval(decoded)) if decoded == vote(VoteKind::Approval)
    ));
    let confirmation = decode(Topic::Approvals, &vote(VoteKind::Confirmation).encode());
    let expected = CheckError::VoteKind {
        expected: VoteKind::Approval,
        found: VoteKind::Confirmation,
    };
    assert_eq!(confirmation.err(), Some(expected));
}

#[test]
fn the_party_at_fault_is_known() {
    let decoded = |topic, payload: &[u8]| decode(topic, payload).expect_err("a refusal");
    let malformed = decoded(Topic::Blocks, &[0xff; 3]);
    let assumed = CheckError::AssumedSet {
        error: Box::new(malformed.clone()),
        claimed: Some(Height(7)),
    };
    assert_eq!(assumed.claimed_height(), Some(Height(7)));
    assert_eq!(malformed.claimed_height(), None);
    let table = [
        (malformed, Blame::Sender),
        (decoded(Topic::Finality, &[]), Blame::Sender),
        (decoded(Topic::Confirmations, &[1]), Blame::Sender),
        (decoded(Topic::Work, &[]), Blame::Us),
        (decoded(Topic::Transactions, &[]), Blame::Us),
        (CheckError::RangeNotConsecutive, Blame::Sender),
        (CheckError::UnrequestedBlocks, Blame::Sender),
        (assumed, Blame::Nobody),
    ];
    for (error, blame) in table {
        assert_eq!(error.blame(), blame, "{error}");
    }
}

/// A header at height and slot 1, with a certificate of its approvals.
fn certified() -> CertifiedHeader {
    let header = Header {
        version: spec::HEADER_VERSION,
        evm_chain_id: 1,
        genesis_hash: Hash([9; 32]),
        height: Height(1),
        slot: Slot(1),
        proposer: 1,
        parent_hash: Hash([9; 32]),
        parent_certificate: None,
        execution_hash: Hash([2; 32]),
        body_hash: Hash([3; 32]),
        set_hash: Hash([4; 32]),
        ledger_hash: Hash([5; 32]),
    };
    let target = VoteTarget {
        hash: header.hash(),
        ..vote(VoteKind::Approval).target
    };
    let certificate = Certificate {
        target,
        signers: Bitmap::empty(4),
        signature: Signature([0; 96]),
    };
    CertifiedHeader {
        header,
        certificate,
    }
}

/// Otherwise any vote beside a good certificate would be checked and forwarded.
#[test]
fn the_parts_of_a_message_agree_before_a_signature_is_checked() {
    let good = certified();
    let confirmation = |certified: CertifiedHeader, change: fn(&mut Vote)| {
        let target = VoteTarget {
            kind: VoteKind::Confirmation,
            ..good.certificate.target
        };
        let mut vote = Vote {
            target,
            ..vote(VoteKind::Confirmation)
        };
        change(&mut vote);
        let encoded = Confirmation { vote, certified }.encode();
        decode(Topic::Confirmations, &encoded).err()
    };
    assert_eq!(confirmation(good.clone(), |_| {}), None);
    let of_other = Some(CheckError::ConfirmationOfOther);
    let changes: [fn(&mut Vote); 3] = [
        |vote| vote.target.hash = Hash([7; 32]),
        |vote| vote.target.slot = Slot(2),
        |vote| vote.target.height = Height(2),
    ];
    for change in changes {
        assert_eq!(confirmation(good.clone(), change), of_other);
    }
    let mut of_confirmations = good.clone();
    of_confirmations.certificate.target.kind = VoteKind::Confirmation;
    let kind = CheckError::ConfirmationCertificateKind {
        found: VoteKind::Confirmation,
    };
    assert_eq!(confirmation(of_confirmations, |_| {}), Some(kind));
    let mut other = good.clone();
    other.header.slot = Slot(2);
    let of_header = Some(CheckError::Certified(CertifiedError::OtherBlock));
    assert_eq!(confirmation(other.clone(), |_| {}), of_header);
    assert_eq!(decode(Topic::Finality, &other.encode()).err(), of_header);
    assert_eq!(decode(Topic::Finality, &good.encode()).err(), None);
}

/// Known peers do not wait for strangers, whose messages have a bounded queue.
#[test]
fn a_known_peer_is_answered_before_the_strangers_that_came_first() {
    is_answered_before_strangers(false);
}

/// An authority without a known address is a stranger until its proof is checked.
#[test]
fn the_proof_of_a_stranger_is_checked_before_the_strangers_that_came_first() {
    is_answered_before_strangers(true);
}

/// Sends the proof of a stranger, or a vote of a known peer, after many votes of strangers.
fn is_answered_before_strangers(is_proof: bool) {
    // A check takes no time in simulation, so that strangers need no pause.
    if alys_runtime::is_simulated() {
        return;
    }
    alys_runtime::block_on_main(async move {
        // Twice as many as the queue takes; a few are checked meanwhile.
        const STRANGERS: usize = 2 * strangers::MAX_QUEUED;
        let genesis = testbed::genesis(1, 2_000);
        let mut vote = vote(VoteKind::Approval);
        let message = vote.target.message(&genesis.chain_id());
        vote.signature = authority_key(0).sign(&message.0);
        let set = Arc::new(genesis.set().clone());
        let check = |is_known| {
            let peer = NodeKey::from_bytes([u8::from(is_known); 32]).peer_id();
            let set = set.clone();
            ValidationMessage::Check {
                source: Source::status(peer, is_known),
                job: Job::Vote { vote, set },
                is_set_known: true,
            }
        };
        // All messages are there before the actor starts.
        let (to, slot) = mailbox(STRANGERS + 1);
        for _ in 0..STRANGERS {
            to.tell(check(false)).expect("room");
        }
        let last = if is_proof {
            let peer = NodeKey::from_bytes([2; 32]).peer_id();
            let chain_id = genesis.chain_id();
            let proof = AuthorityProof::sign(&authority_key(0), &chain_id, &peer.to_bytes());
            let set = set.clone();
            ValidationMessage::Check {
                source: Source::status(peer, false),
                job: Job::Authority { peer, proof, set },
                is_set_known: true,
            }
        } else {
            check(true)
        };
        to.tell(last).expect("room");
        let (chain, mut answers) = Probe::new(STRANGERS + 1);
        let test = TestSystem::new();
        let config = Config::new(genesis.clone(), None);
        let _actor = test.start("validation", slot, move || {
            let actor = ValidationActor::new(config.clone(), chain.clone(), Metrics::default());
            async move { Ok::<_, std::convert::Infallible>(actor) }
        });
        let (mut refused, mut checked_before) = (0, 0);
        loop {
            let answer = answers.next().await.expect("an answer");
            let ChainMessage::Checked { source, checked } = answer else {
                panic!("another answer");
            };
            match *checked {
                Checked::Vote(_) if source.is_known => break,
                Checked::Authority { .. } => break,
                Checked::Vote(_) => checked_before += 1,
                Checked::Refused(CheckError::TooManyStrangers { limit }) => {
                    assert_eq!((source.is_known, limit), (false, strangers::MAX_QUEUED));
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        // The queue was full when the last message came.
        assert!(refused > 0, "{checked_before} checked");
        assert!(
            checked_before < strangers::MAX_QUEUED / 2,
            "{checked_before} checked and {refused} refused"
        );
        test.end().await;
    });
}
