//! Each clause of the rules refuses its violation, and the planted bug of a clause permits it.

use std::sync::Arc;

use alys_types::bls::SecretKey;
use alys_types::{
    Address, Authority, Bitmap, Certificate, ChainSpec, Genesis, Hash, Height, Slot, VoteKind,
    VoteTarget,
};

use super::*;
use crate::config::Config;
use crate::input::{BlockRef, Broadcast, Latest, Now, Record, VoteState};

const SLOT_MS: u64 = 2_000;
const SOUND: PlantedBug = PlantedBug::NONE;

fn bug(name: &'static str) -> PlantedBug {
    PlantedBug::new(name, Arc::default())
}

fn spec() -> ChainSpec {
    let authority = |i: u8| {
        let key = SecretKey::derive_stand_in(&[i + 1; 32]);
        Authority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address: Address([1; 20]),
        }
    };
    ChainSpec {
        drift_allowance_ms: 500,
        rejoin_margin: 3,
        ..ChainSpec::development(
            1,
            Slot(1),
            SLOT_MS,
            Hash([9; 32]),
            (0..4).map(authority).collect(),
        )
    }
}

fn block(slot: u64) -> BlockRef {
    BlockRef {
        slot: Slot(slot),
        hash: Hash([slot as u8; 32]),
    }
}

/// Approved slot 10, locked on slot 8.
fn votes() -> VoteState {
    VoteState {
        approved_slot: Slot(10),
        locked: block(8),
        latest: Latest::default(),
        silent_until: None,
    }
}

fn target(kind: VoteKind, slot: u64) -> VoteTarget {
    VoteTarget {
        kind,
        height: Height(5),
        slot: Slot(slot),
        hash: block(slot).hash,
    }
}

fn in_slot(slot: u64) -> Now {
    Now {
        wall_ms: slot * SLOT_MS,
        mono_ms: 0,
    }
}

#[test]
fn each_clause_of_an_approval_refuses() {
    let spec = spec();
    let good = Candidate {
        slot: Slot(11),
        parent: Slot(8),
        is_proposed: true,
        is_valid: true,
    };
    let unproposed = Candidate {
        is_proposed: false,
        ..good
    };
    let invalid = Candidate {
        is_valid: false,
        ..good
    };
    let again = Candidate {
        slot: Slot(10),
        ..good
    };
    let below_lock = Candidate {
        parent: Slot(7),
        ..good
    };
    let slot = Slot(11);
    let used = Refusal::SlotAlreadyApproved {
        slot: Slot(10),
        approved: Slot(10),
    };
    let below = Refusal::ParentBelowLock {
        parent: Slot(7),
        locked: Slot(8),
    };
    let late = Refusal::OutOfSlot {
        slot,
        current: Slot(13),
    };
    let cases = [
        (good, 11, Ok(())),
        (unproposed, 11, Err(Refusal::NotProposed { slot })),
        (invalid, 11, Err(Refusal::NotValid { slot })),
        (again, 10, Err(used)),
        (below_lock, 11, Err(below)),
        (good, 13, Err(late)),
    ];
    for (candidate, now, expected) in cases {
        let found = may_approve(&votes(), &candidate, &spec, in_slot(now), &SOUND);
        assert_eq!(found, expected, "{candidate:?} in slot {now}");
    }
    let broken = [
        ("approved-slot-compared", again, 10),
        ("approve-ignores-lock", below_lock, 11),
        ("approves-out-of-slot", good, 13),
    ];
    for (name, candidate, now) in broken {
        let found = may_approve(&votes(), &candidate, &spec, in_slot(now), &bug(name));
        assert_eq!(found, Ok(()), "{name}");
    }
}

#[test]
fn each_clause_of_a_proposal_refuses() {
    let good = Proposing {
        slot: Slot(11),
        leader: 3,
        index: Some(3),
        parent: block(9),
        is_certified: true,
        is_behind: false,
        is_executed: true,
    };
    let slot = Slot(11);
    let parent = block(9).hash;
    let cases: [(Proposing, Result<u8, Refusal>); 9] = [
        (good, Ok(3)),
        (
            Proposing {
                index: None,
                ..good
            },
            Err(Refusal::NotAnAuthority { slot }),
        ),
        (
            Proposing {
                index: Some(1),
                ..good
            },
            Err(Refusal::NotTheLeader { slot, leader: 3 }),
        ),
        (
            Proposing {
                slot: Slot(10),
                ..good
            },
            Err(Refusal::SlotAlreadyApproved {
                slot: Slot(10),
                approved: Slot(10),
            }),
        ),
        (
            Proposing {
                parent: block(11),
                ..good
            },
            Err(Refusal::SlotNotAfterParent { slot, parent: slot }),
        ),
        (
            Proposing {
                parent: block(7),
                ..good
            },
            Err(Refusal::ParentBelowLock {
                parent: Slot(7),
                locked: Slot(8),
            }),
        ),
        (
            Proposing {
                is_certified: false,
                ..good
            },
            Err(Refusal::ParentUncertified { parent }),
        ),
        (
            Proposing {
                is_behind: true,
                ..good
            },
            Err(Refusal::BehindCertificate { parent }),
        ),
        (
            Proposing {
                is_executed: false,
                ..good
            },
            Err(Refusal::ParentNotExecuted { parent }),
        ),
    ];
    for (proposing, expected) in cases {
        assert_eq!(may_propose(&votes(), &proposing, &SOUND), expected);
    }
}

#[test]
fn each_clause_of_a_confirmation_refuses() {
    let below = Refusal::BelowApproval {
        slot: Slot(9),
        approved: Slot(10),
    };
    let not_above = Refusal::NotAboveLock {
        slot: Slot(8),
        locked: Slot(8),
    };
    let cases = [(10, Ok(())), (9, Err(below)), (8, Err(not_above))];
    for (slot, expected) in cases {
        assert_eq!(may_confirm(&votes(), Slot(slot), &SOUND), expected);
    }
    let ignores = bug("confirm-ignores-approval");
    assert_eq!(may_confirm(&votes(), Slot(9), &ignores), Ok(()));
}

#[test]
fn a_node_is_silent_after_a_loss_and_while_its_clock_is_distrusted() {
    let lost = VoteState {
        silent_until: Some(Slot(20)),
        ..votes()
    };
    let until = Slot(20);
    let cases = [
        (votes(), true, Ok(())),
        (votes(), false, Err(Refusal::ClockDistrusted)),
        (lost, true, Err(Refusal::VotesLost { until })),
    ];
    for (votes, is_clock_trusted, expected) in cases {
        assert_eq!(may_vote(&votes, is_clock_trusted, &SOUND), expected);
    }
    assert!(!is_rejoining(&lost, Slot(20), &SOUND) && is_rejoining(&lost, Slot(21), &SOUND));
    let mut endless = votes();
    lose_votes(&mut endless);
    assert!(is_silence_endless(&endless) && !is_silence_endless(&lost));
    assert!(may_vote(&endless, true, &SOUND).is_err());
    assert!(!is_rejoining(&endless, Slot(u64::MAX), &SOUND));
    let held = [
        (VoteKind::Approval, 10, false),
        (VoteKind::Approval, 11, true),
        (VoteKind::Confirmation, 8, false),
        (VoteKind::Confirmation, 9, true),
    ];
    for (kind, slot, is_lost) in held {
        let found = is_lost_vote(&votes(), &target(kind, slot), &SOUND);
        assert_eq!(found, is_lost, "{kind:?} of slot {slot}");
    }
}

#[test]
fn a_clock_is_confirmed_by_peers_and_at_one_time() {
    let genesis = Genesis::new(spec()).expect("a good spec");
    let newest = genesis.set();
    let key = |index: usize| &newest.authorities()[index].public_key;
    let stranger = SecretKey::derive_stand_in(&[9; 32]).public_key().to_bytes();
    for (voter, expected) in [(key(2), Some(2)), (key(3), None), (&stranger, None)] {
        let found = confirming_peer(voter, Some(key(3)), newest, &SOUND);
        assert_eq!(found, expected);
    }
    let own = bug("own-vote-confirms-clock");
    let found = confirming_peer(key(3), Some(key(3)), newest, &own);
    assert_eq!(found, Some(3));

    let outlives = bug("confirmations-outlive-jump");
    for (moved_ms, is_other) in [(500, false), (501, true)] {
        assert_eq!(is_other_time(moved_ms, 500, &SOUND), is_other);
        assert!(!is_other_time(moved_ms, 500, &outlives));
    }
}

#[test]
fn certificates_need_a_quorum_of_their_set_and_kind() {
    let genesis = Arc::new(Genesis::new(spec()).expect("a good spec"));
    let chain = genesis.chain_id();
    let set = genesis.set().clone();
    let config = Config::new(genesis, None);
    let approval = target(VoteKind::Approval, 9);
    let sign = |i: u8| {
        (
            i,
            SecretKey::derive_stand_in(&[i + 1; 32]).sign(&approval.message(&chain).0),
        )
    };
    let two = [sign(0), sign(1)];
    let three = [sign(0), sign(1), sign(3)];
    assert_eq!(aggregate(approval, &two.into(), &set, &SOUND), None);
    assert!(aggregate(approval, &two.into(), &set, &bug("quorum-off-by-one")).is_some());
    let good = aggregate(approval, &three.into(), &set, &SOUND).expect("a quorum");
    assert_eq!(check_certificate(&good, &set, &config), Ok(()));

    let small = Certificate::aggregate(approval, &two, &set).expect("two signatures");
    let mut of_proposals = good;
    of_proposals.target.kind = VoteKind::Proposal;
    let mut other_kind = good;
    other_kind.target.kind = VoteKind::Confirmation;
    let mut wider = good;
    wider.signers = Bitmap::empty(5);
    [0, 1, 3].into_iter().for_each(|i| wider.signers.set(i));
    let no_quorum = CertificateError::Quorum {
        needed: 3,
        found: 2,
    };
    let other_size = CertificateError::Bitmap {
        expected: 4,
        found: 5,
    };
    let mismatch = CertificateError::Signature(alys_types::bls::Error::Mismatch);
    let cases = [
        (small, no_quorum),
        (of_proposals, CertificateError::Kind),
        (wider, other_size),
        (other_kind, mismatch),
    ];
    for (certificate, expected) in cases {
        assert_eq!(
            check_certificate(&certificate, &set, &config),
            Err(expected)
        );
    }
    let unchecked = Config {
        planted_bug: bug("quorum-unchecked"),
        ..config
    };
    assert_eq!(check_certificate(&small, &set, &unchecked), Ok(()));
}

#[test]
fn the_pause_after_an_invalid_answer_doubles_within_its_bound() {
    let slots = [
        (0, 1),
        (1, 1),
        (2, 2),
        (3, 4),
        (4, 8),
        (5, 8),
        (64, 8),
        (u32::MAX, 8),
    ];
    for (answers, slots) in slots {
        assert_eq!(
            pause_after_invalid(answers, SLOT_MS, &SOUND),
            slots * SLOT_MS,
            "{answers}"
        );
    }
}

fn approval_record(votes: VoteState) -> (Record, Vec<Broadcast>) {
    let approval = target(VoteKind::Approval, 11);
    let record = Record {
        votes: Some(votes),
        ..Record::default()
    };
    let message = Broadcast::Approval {
        target: approval,
        signer: 0,
    };
    (record, vec![message])
}

#[test]
#[should_panic(expected = "assertion")]
fn an_approval_that_the_record_does_not_hold_stops_the_node() {
    let (record, messages) = approval_record(votes());
    persist_then_broadcast(record, messages, &SOUND);
}

#[test]
#[should_panic(expected = "was not written")]
fn a_promise_that_was_not_written_stops_the_node() {
    let later = VoteState {
        approved_slot: Slot(11),
        ..votes()
    };
    assert_written(&later, &votes(), &SOUND);
}
