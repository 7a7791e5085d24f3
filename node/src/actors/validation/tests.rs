//! Decoding of gossip, and the party to blame for messages that fail to decode or to check.

use alys_types::bls::Signature;
use alys_types::{Hash, Slot, VoteTarget};

use super::*;

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
        (decoded(Topic::Work, &[]), Blame::Sender),
        (decoded(Topic::Transactions, &[]), Blame::Us),
        (CheckError::RangeNotConsecutive, Blame::Sender),
        (CheckError::UnrequestedBlocks, Blame::Sender),
        (assumed, Blame::Nobody),
    ];
    for (error, blame) in table {
        assert_eq!(error.blame(), blame, "{error}");
    }
}
