//! The rules one by one, on a single node that receives every message.

mod single;

use std::sync::Arc;

use alys_consensus::{
    Broadcast, CertifiedBlock, Effect, Input, Notice, Verdict, VerifiedBody, VerifiedProposal,
    VerifiedVote, VoteState,
};
use alys_types::limits::{MAX_BLOCK_BYTES, MAX_GAS_LIMIT};
use alys_types::wire::{CertifiedHeader, Proposal};
use alys_types::{
    Address, BlobGas, Block, Certificate, ExecutionPayload, Hash, Header, Slot, VoteKind,
};
use single::{FIRST, SLOT_MS, World, approvals, confirmations, finals, notices};

#[test]
fn a_block_is_approved_confirmed_and_final() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let p = w.proposal(1, &genesis, None, 0);
    let header = p.block.header.clone();
    let mut effects = w.give_proposal(p);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Execute { block: Some(_), .. })),
        "{effects:?}"
    );
    effects = w.executed(&header);
    let order: Vec<&str> = effects
        .iter()
        .map(|e| match e {
            Effect::Persist(record) if record.votes.is_some() && record.blocks.len() == 1 => {
                "persist votes with body"
            }
            Effect::Broadcast(Broadcast::Approval { .. }) => "approve",
            _ => "other",
        })
        .filter(|e| *e != "other")
        .collect();
    assert_eq!(
        order,
        ["persist votes with body", "approve"],
        "persist, then send"
    );
    for i in 0..3 {
        let vote = w.vote(i, VoteKind::Approval, &header);
        effects = w.give_vote(vote);
    }
    let is_locking = |e: &Effect| {
        let Effect::Persist(record) = e else {
            return false;
        };
        let locked = record.votes.map(|votes| votes.locked.hash);
        locked == Some(header.hash()) && record.certified.len() == 1
    };
    let persisted = effects.iter().position(is_locking);
    let sent = effects
        .iter()
        .position(|e| matches!(e, Effect::Broadcast(Broadcast::Confirmation { .. })));
    assert!(
        persisted < sent && persisted.is_some(),
        "lock, header and certificate are on the disk first: {effects:?}"
    );
    for i in 0..3 {
        let vote = w.vote(i, VoteKind::Confirmation, &header);
        effects = w.give_vote(vote);
    }
    assert_eq!(finals(&effects), 1);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Broadcast(Broadcast::Certificate(_)))),
        "the finality certificate is sent"
    );
}

#[test]
fn a_slot_is_approved_once_and_only_while_it_lasts() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let early = w.proposal(2, &genesis, None, 0);
    w.at_slot(1, 10);
    assert!(!w.approves(&early), "early proposals are held");
    assert_eq!(approvals(&w.at_slot(1, SLOT_MS - 501)), 0);
    assert_eq!(
        approvals(&w.at_slot(1, SLOT_MS - 499)),
        1,
        "within the drift allowance of their slot"
    );
    let second = w.proposal(2, &genesis, None, 1);
    let mut effects = w.give_proposal(second.clone());
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Evidence(_))),
        "two proposals of a slot are evidence"
    );
    effects.extend(w.executed(&second.block.header));
    assert_eq!(approvals(&effects), 0, "one approval a slot");
    let late = w.proposal(3, &genesis, None, 0);
    w.at_slot(4, 501);
    assert!(!w.approves(&late), "the slot and its allowance are over");
}

#[test]
fn an_execution_client_that_is_not_sure_is_asked_again_within_the_slot() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let p = w.proposal(1, &genesis, None, 0);
    let hash = p.block.header.hash();
    w.give_proposal(p);
    let effects = w.input(Input::Executed {
        hash,
        verdict: Verdict::Unknown,
    });
    assert_eq!(approvals(&effects), 0);
    let effects = w.at_slot(1, 300);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Execute { hash: h, .. } if *h == hash))
    );
    let effects = w.input(Input::Executed {
        hash,
        verdict: Verdict::Invalid,
    });
    assert_eq!(approvals(&effects), 0, "invalid is never approved");
    assert_eq!(approvals(&w.at_slot(1, 600)), 0);
}

#[test]
fn a_locked_node_refuses_a_branch_below_its_lock() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    assert!(w.approves(&a));
    let effects = w.give_certificate(VoteKind::Approval, &a.block.header);
    assert_eq!(confirmations(&effects), 1, "locked on a");
    w.at_slot(2, 10);
    let beside = w.proposal(2, &genesis, None, 0);
    assert!(!w.approves(&beside), "the parent's slot is below the lock");
    w.at_slot(3, 10);
    let certificate = w.certificate(VoteKind::Approval, &a.block.header);
    let on_a = w.proposal(3, &a.block.header, Some(certificate), 0);
    // Authority 3 leads slot FIRST + 3 itself: the proposal is its own key's, but an approval is an
    // approval.
    assert!(w.approves(&on_a), "a child of the locked block is fine");
}

#[test]
fn a_certificate_below_the_last_approval_is_not_confirmed() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    assert!(w.approves(&a));
    w.at_slot(2, 10);
    let b = w.proposal(2, &genesis, None, 0);
    assert!(w.approves(&b), "no block is locked yet");
    let effects = w.give_certificate(VoteKind::Approval, &a.block.header);
    assert_eq!(
        confirmations(&effects),
        0,
        "a's slot is below the highest approved"
    );
}

#[test]
fn votes_that_arrive_before_their_block_are_buffered() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    for i in 0..3 {
        let vote = w.vote(i, VoteKind::Approval, &a.block.header);
        assert_eq!(confirmations(&w.give_vote(vote)), 0);
    }
    assert_eq!(
        confirmations(&w.give_proposal(a)),
        1,
        "the buffered votes make the certificate"
    );
}

#[test]
fn votes_of_decided_slots_are_not_kept() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let lost = w.proposal(1, &genesis, None, 1);
    w.at_slot(2, 10);
    let a = w.proposal(2, &genesis, None, 0);
    let vote = w.vote(0, VoteKind::Approval, &lost.block.header);
    w.give_vote(vote);
    assert_eq!(w.state.sizes().buffered_votes, 1);
    assert!(w.approves(&a));
    w.give_certificate(VoteKind::Approval, &a.block.header);
    let effects = w.give_certificate(VoteKind::Confirmation, &a.block.header);
    assert_eq!(finals(&effects), 1);
    assert_eq!(w.state.sizes().buffered_votes, 0);
}

#[test]
fn lost_votes_silence_a_node_until_a_later_slot_is_final() {
    let mut w = World::with(|_| None);
    let silent = Slot(FIRST + 1 + 3);
    assert!(
        notices(&w.start).contains(&Notice::VotesLost {
            silent_until: Some(silent)
        }),
        "{:?}",
        w.start
    );
    let mut parent = w.genesis.header().clone();
    let mut certificate = None;
    for slot in 1..=6 {
        w.at_slot(slot, 10);
        let p = w.proposal(slot, &parent, certificate, 0);
        let header = p.block.header.clone();
        let has_approved = w.approves(&p);
        let mut effects = w.give_certificate(VoteKind::Approval, &header);
        assert_eq!(
            has_approved || confirmations(&effects) > 0,
            slot > 5,
            "slot {slot}"
        );
        effects = w.give_certificate(VoteKind::Confirmation, &header);
        assert_eq!(finals(&effects), 1, "a silent node follows");
        assert_eq!(
            notices(&effects).contains(&Notice::VotesRegained),
            slot == 5,
            "slot {slot}"
        );
        certificate = Some(w.certificate(VoteKind::Approval, &header));
        parent = header;
    }
}

#[test]
fn a_later_vote_of_ours_held_by_a_peer_is_a_loss() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let p = w.proposal(1, &genesis, None, 0);
    let held = w.vote(3, VoteKind::Approval, &p.block.header);
    let held = VerifiedVote::check(held, w.genesis.set(), &w.genesis).expect("verifies");
    let others = w.vote(2, VoteKind::Approval, &p.block.header);
    let others = VerifiedVote::check(others, w.genesis.set(), &w.genesis).expect("verifies");
    assert!(
        notices(&w.input(Input::HeldVote(others))).is_empty(),
        "a vote of another authority is no loss"
    );
    let effects = w.input(Input::HeldVote(held));
    let slot = Slot(FIRST + 1);
    assert!(matches!(
        notices(&effects)[..],
        [Notice::UnknownVote { slot: found }, Notice::VotesLost { .. }] if found == slot
    ));
    assert!(effects.iter().any(
        |e| matches!(e, Effect::Persist(r) if r.votes.is_some_and(|v| v.silent_until.is_some()))
    ));
}

/// The vote state of the last record among effects.
fn written_votes(effects: &[Effect]) -> Option<VoteState> {
    effects.iter().rev().find_map(|e| match e {
        Effect::Persist(record) => record.votes,
        _ => None,
    })
}

/// Gives these slots final blocks, the first on `parent`, and moves the clock there if it is
/// behind; returns the last block, its certificate, and the slots with which the node votes again.
fn final_chain(
    w: &mut World,
    slots: std::ops::RangeInclusive<u64>,
    parent: (Header, Option<Certificate>),
) -> ((Header, Option<Certificate>), Vec<u64>) {
    let (mut parent, mut certificate) = parent;
    let mut regained = Vec::new();
    for slot in slots {
        if w.wall_ms < (FIRST + slot) * SLOT_MS {
            w.at_slot(slot, 10);
        }
        let p = w.proposal(slot, &parent, certificate, 0);
        let header = p.block.header.clone();
        let mut effects = w.give_proposal(p);
        effects.extend(w.executed(&header));
        effects.extend(w.give_certificate(VoteKind::Approval, &header));
        assert_eq!(approvals(&effects) + confirmations(&effects), 0, "{slot}");
        let effects = w.give_certificate(VoteKind::Confirmation, &header);
        assert_eq!(finals(&effects), 1, "a silent node follows");
        if notices(&effects).contains(&Notice::VotesRegained) {
            regained.push(slot);
        }
        certificate = Some(w.certificate(VoteKind::Approval, &header));
        parent = header;
    }
    ((parent, certificate), regained)
}

#[test]
fn votes_lost_under_a_clock_that_is_ahead_silence_a_node_from_the_trusted_time_on() {
    let lost = |silent_until| Notice::VotesLost { silent_until };
    for is_disk_empty in [true, false] {
        let mut w = World::new();
        let fresh = w.state.summary().votes;
        let genesis = w.genesis.header().clone();
        w.wall_ms += 20_000 * SLOT_MS;
        w.restart_with((!is_disk_empty).then_some(fresh), None);
        let effects = if is_disk_empty {
            std::mem::take(&mut w.start)
        } else {
            let first = w.proposal(1, &genesis, None, 0).block.header;
            let held = w.vote(3, VoteKind::Approval, &first);
            let held = VerifiedVote::check(held, w.genesis.set(), &w.genesis).expect("verifies");
            w.input(Input::HeldVote(held))
        };
        assert!(notices(&effects).contains(&lost(None)), "{effects:?}");
        let written = written_votes(&effects).expect("the loss is written");
        w.restart_with(Some(written), None);
        assert!(w.state.summary().silent && w.state.awaits_clock());
        assert!(!w.state.summary().clock_trusted);
        let earliest = Some(Slot(FIRST + 3));
        assert_eq!(w.state.summary().votes.silent_until, earliest);
        // Old blocks, which say nothing about the slots of the lost votes.
        let (parent, regained) = final_chain(&mut w, 1..=5, (genesis, None));
        assert!(regained.is_empty(), "{regained:?}");

        // The clock is put right. The chain stands since slot 5, so that peers confirm the time.
        w.wall_ms = (FIRST + 20) * SLOT_MS + 10;
        assert!(written_votes(&w.input(Input::Tick)).is_none());
        let says = |w: &World, index: usize| Input::ClockStated {
            authority: w.keys[index].public_key().to_bytes(),
            slot: Slot(FIRST + 20),
        };
        let mut effects = w.input(says(&w, 0));
        effects.extend(w.input(says(&w, 1)));
        let until = Some(Slot(FIRST + 20 + 3));
        assert_eq!(notices(&effects), [Notice::ClockTrusted, lost(until)]);
        assert!(w.state.summary().clock_trusted);
        let written = written_votes(&effects).expect("the end is written");
        assert_eq!(written.silent_until, until);
        assert_eq!(w.state.summary().votes, written);

        let (parent, regained) = final_chain(&mut w, 20..=24, parent);
        assert_eq!(regained, [24]);
        w.at_slot(25, 10);
        let p = w.proposal(25, &parent.0, parent.1, 0);
        assert!(w.approves(&p));
    }
}

/// A certificate with the node's own signature.
fn with_own_signature(w: &World, kind: VoteKind, header: &Header) -> Certificate {
    let votes: Vec<_> = (1..4)
        .map(|i| (i as u8, w.vote(i, kind, header).signature))
        .collect();
    let target = w.vote(1, kind, header).target;
    Certificate::aggregate(target, &votes, w.genesis.set()).expect("three are a quorum")
}

#[test]
fn a_later_vote_of_ours_in_a_certificate_is_a_loss() {
    let is_lost = |effects: &[Effect]| {
        matches!(
            notices(effects)[..],
            [Notice::UnknownVote { .. }, Notice::VotesLost { .. }]
        )
    };
    for kind in [VoteKind::Approval, VoteKind::Confirmation] {
        let mut w = World::new();
        let genesis = w.genesis.header().clone();
        let first = w.proposal(1, &genesis, None, 0).block.header;
        assert!(notices(&w.give_certificate(kind, &first)).is_empty());
        let second = w.proposal(2, &genesis, None, 1).block.header;
        let certified = CertifiedHeader {
            certificate: with_own_signature(&w, kind, &second),
            header: second.clone(),
        };
        let set = w.state.set_for(&second);
        let block = CertifiedBlock::check(certified, &set, &w.config).expect("certified");
        let effects = w.input(Input::Certified(block));
        assert!(is_lost(&effects), "{kind:?}: {effects:?}");
        assert_eq!(confirmations(&effects), 0, "{kind:?}: silent at once");
    }
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let first = w.proposal(1, &genesis, None, 0).block.header;
    assert!(notices(&w.give_certificate(VoteKind::Approval, &first)).is_empty());
    let other = CertifiedHeader {
        certificate: with_own_signature(&w, VoteKind::Approval, &first),
        header: first.clone(),
    };
    let set = w.state.set_for(&first);
    let block = CertifiedBlock::check(other, &set, &w.config).expect("certified");
    let effects = w.input(Input::Certified(block));
    assert!(is_lost(&effects), "of a block that has a certificate");
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let first = w.proposal(1, &genesis, None, 0);
    let header = first.block.header.clone();
    w.give_proposal(first);
    let certificate = with_own_signature(&w, VoteKind::Approval, &header);
    let child = w.proposal(2, &header, Some(certificate), 0);
    assert!(is_lost(&w.give_proposal(child)), "the certificate inside");
    let mut w = World::new();
    w.at_slot(1, 10);
    let genesis = w.genesis.header().clone();
    let p = w.proposal(1, &genesis, None, 0);
    assert!(w.approves(&p));
    let certificate = with_own_signature(&w, VoteKind::Approval, &p.block.header);
    let child = w.proposal(2, &p.block.header, Some(certificate), 0);
    assert!(
        notices(&w.give_proposal(child)).is_empty(),
        "a vote that the state knows is no loss"
    );
}

#[test]
fn conflicting_finality_is_reported_and_not_followed() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    w.approves(&a);
    w.give_certificate(VoteKind::Approval, &a.block.header);
    assert_eq!(
        finals(&w.give_certificate(VoteKind::Confirmation, &a.block.header)),
        1
    );
    let b = w.proposal(2, &genesis, None, 7);
    let effects = w.give_certificate(VoteKind::Confirmation, &b.block.header);
    assert!(
        matches!(notices(&effects)[..], [Notice::ConflictingFinality { .. }]),
        "{effects:?}"
    );
    assert_eq!(w.state.summary().finalized.hash, a.block.header.hash());
}

#[test]
fn a_certified_block_that_does_not_connect_starts_a_sync_and_stops_proposals() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    let certificate = w.certificate(VoteKind::Approval, &a.block.header);
    let b = w.proposal(2, &a.block.header, Some(certificate), 0);
    let effects = w.give_certificate(VoteKind::Approval, &b.block.header);
    assert!(matches!(effects[..], [Effect::Sync { .. }]), "{effects:?}");
    assert_eq!(
        w.state.sync_gap().map(|(f, h, t)| (f.0, h.0, t.0)),
        Some((0, 0, 2))
    );
    let effects = w.at_slot(3, 600);
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Build(_))),
        "a leader that is behind stays silent"
    );
    for block in [a.block, b.block.clone()] {
        let body = VerifiedBody::check(Arc::new(block)).expect("belongs");
        w.input(Input::Body(body));
    }
    w.give_certificate(VoteKind::Approval, &b.block.header);
    assert_eq!(w.state.sync_gap(), None);
    assert_eq!(w.state.summary().highest.hash, b.block.header.hash());
}

/// A forged proposal of the largest size costs its receiver one signature check and no hash of its
/// body.
#[test]
fn a_forged_signature_is_refused_before_the_body_is_hashed() {
    let w = World::new();
    let genesis = w.genesis.header().clone();
    let mut p = w.proposal(1, &genesis, None, 0);
    p.block.body.payload.timestamp += 1;
    p.vote.signature = w.vote(0, VoteKind::Confirmation, &p.block.header).signature;
    let context = w
        .state
        .proposal_context(&genesis.hash())
        .expect("genesis is known");
    let error = VerifiedProposal::check(p, &context, &w.config).expect_err("it is forged");
    assert!(
        matches!(error, alys_consensus::verify::ProposalError::Vote(_)),
        "{error}"
    );
}

/// In V1 any authority proposed in any slot, and no rule bound `fee_recipient` (S12).
#[test]
fn invalid_proposals_are_refused_with_the_rule_named() {
    let w = World::new();
    let genesis = w.genesis.header().clone();
    let check = |change: fn(&mut Proposal), expected: &str| {
        let mut p = w.proposal(1, &genesis, None, 0);
        change(&mut p);
        // The leader of the slot signs again, so that only one rule is broken.
        p.block.header.body_hash = p.block.body.hash();
        let leader = w.genesis.set().leader(p.block.header.slot);
        if !expected.contains("vote") {
            p.vote = w.vote(usize::from(leader), VoteKind::Proposal, &p.block.header);
        }
        let context = w
            .state
            .proposal_context(&genesis.hash())
            .expect("genesis is known");
        let error = VerifiedProposal::check(p, &context, &w.config)
            .expect_err(expected)
            .to_string();
        assert!(error.contains(expected), "{error:?} names {expected:?}");
    };
    check(|p| p.block.header.version = 2, "version");
    check(|p| p.block.header.evm_chain_id = 2, "another chain");
    check(|p| p.block.header.height.0 = 2, "height");
    check(|p| p.block.header.slot = Slot(FIRST), "slot");
    check(|p| p.block.header.proposer ^= 1, "leader");
    check(|p| p.block.body.payload.timestamp += 1, "timestamp");
    check(
        |p| p.block.body.payload.fee_recipient = Address::default(),
        "fee_recipient",
    );
    check(
        |p| p.block.body.payload.prev_randao = Hash::ZERO,
        "prev_randao",
    );
    check(|p| p.block.body.payload.block_number = 9, "block_number");
    check(
        |p| p.block.body.payload.parent_hash = Hash::ZERO,
        "parent_hash",
    );
    check(
        |p| p.block.body.payload.extra_data = vec![0; 33],
        "extra data",
    );
    check(
        |p| p.block.body.payload.gas_limit = MAX_GAS_LIMIT + 1,
        "gas_limit",
    );
    check(
        |p| p.block.body.payload.blob_gas = Some(BlobGas { used: 1, excess: 0 }),
        "blob_gas_used",
    );
    check(
        |p| p.block.body.payload.transactions = vec![vec![2], vec![3]],
        "transaction 1",
    );
    check(
        |p| p.block.body.payload.transactions = vec![Vec::new()],
        "transaction 0",
    );
    check(
        |p| p.block.body.payload.transactions = vec![vec![2; MAX_BLOCK_BYTES]],
        "encoded bytes",
    );
    check(|p| p.vote.target.kind = VoteKind::Approval, "vote");
    check(|p| p.vote.signer ^= 1, "vote");
}

/// The requests for payloads, by their demand for an empty one.
fn requests(effects: &[Effect]) -> Vec<bool> {
    effects
        .iter()
        .filter_map(|e| match e {
            Effect::Build(request) => Some(request.is_empty),
            _ => None,
        })
        .collect()
}

/// The execution layer's payload for a slot of the node on genesis, changed.
fn build(w: &mut World, slot: u64, change: fn(&mut ExecutionPayload)) -> Vec<Effect> {
    let genesis = w.genesis.header().clone();
    let mut payload = w.proposal(slot, &genesis, None, 0).block.body.payload;
    change(&mut payload);
    w.input(Input::Built {
        slot: Slot(FIRST + slot),
        parent: genesis.hash(),
        payload: Box::new(payload),
    })
}

/// The blocks that the node proposes.
fn proposed(effects: &[Effect]) -> Vec<Arc<Block>> {
    effects
        .iter()
        .filter_map(|e| match e {
            Effect::Broadcast(Broadcast::Proposal { block, .. }) => Some(block.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_leader_neither_writes_nor_signs_what_others_refuse() {
    let table: [(&str, fn(&mut ExecutionPayload)); 8] = [
        ("gas limit", |p| p.gas_limit = MAX_GAS_LIMIT + 1),
        ("blobs", |p| {
            let used = 131_072;
            p.blob_gas = Some(BlobGas { used, excess: 0 });
        }),
        ("blob transaction", |p| p.transactions = vec![vec![3, 0]]),
        ("foreign type", |p| p.transactions = vec![vec![4, 0]]),
        ("no transaction", |p| p.transactions = vec![vec![0x80]]),
        ("size", |p| p.transactions = vec![vec![2; MAX_BLOCK_BYTES]]),
        ("extra data", |p| p.extra_data = vec![0; 33]),
        ("timestamp", |p| p.timestamp += 1),
    ];
    for (row, change) in table {
        let mut w = World::new();
        assert_eq!(requests(&w.at_slot(3, 600)), [false], "{row}");
        let effects = build(&mut w, 3, change);
        assert!(
            matches!(
                effects[..],
                [
                    Effect::Notice(Notice::OwnBlockInvalid { .. }),
                    Effect::Build(_)
                ]
            ),
            "{row}: {effects:?}"
        );
        assert_eq!(requests(&effects), [true], "{row}: without transactions");
        let effects = build(&mut w, 3, |_| {});
        assert_eq!(proposed(&effects).len(), 1, "{row}");
        assert_eq!(approvals(&effects), 1, "{row}");
        assert_eq!(
            requests(&w.at_slot(7, 600)),
            [false],
            "{row}: in the next own slot"
        );
    }
}

#[test]
fn a_leader_whose_empty_payload_is_refused_leaves_its_slot() {
    let mut w = World::new();
    w.at_slot(3, 600);
    for asks_again in [true, false] {
        let effects = build(&mut w, 3, |p| p.gas_limit = MAX_GAS_LIMIT + 1);
        assert_eq!(notices(&effects).len(), 1);
        assert_eq!(requests(&effects).len(), usize::from(asks_again));
    }
    assert!(requests(&w.at_slot(3, 900)).is_empty());
    assert_eq!(requests(&w.at_slot(7, 600)), [false]);
    let effects = build(&mut w, 7, |_| {});
    assert_eq!(
        proposed(&effects).len(),
        1,
        "the client's settings are right now"
    );
}

#[test]
fn a_leader_without_certificates_proposes_without_transactions() {
    let mut w = World::new();
    for (slot, is_empty) in [(3, false), (7, false), (11, true)] {
        assert_eq!(requests(&w.at_slot(slot, 600)), [is_empty], "slot {slot}");
        let blocks = proposed(&build(&mut w, slot, |_| {}));
        assert_eq!(blocks.len(), 1, "slot {slot}");
        if slot == 11 {
            w.give_certificate(VoteKind::Approval, &blocks[0].header);
            w.executed(&blocks[0].header);
        }
    }
    assert_eq!(requests(&w.at_slot(15, 600)), [false], "one is certified");
}

#[test]
fn a_leader_whose_payloads_come_too_late_proposes_without_transactions() {
    let mut w = World::new();
    let parent = w.genesis.header().hash();
    let fails = |w: &mut World, slot: u64, parent: Hash| {
        let slot = Slot(FIRST + slot);
        w.input(Input::BuildFailed { slot, parent });
    };
    assert_eq!(requests(&w.at_slot(3, 600)), [false]);
    fails(&mut w, 3, parent);
    assert_eq!(requests(&w.at_slot(7, 600)), [false], "one failed");
    w.at_slot(8, 10);
    let late = build(&mut w, 7, |_| {});
    assert!(proposed(&late).is_empty(), "the slot is over");
    assert_eq!(
        requests(&w.at_slot(11, 600)),
        [true],
        "none came in two turns"
    );
    let blocks = proposed(&build(&mut w, 11, |payload| payload.transactions.clear()));
    w.give_certificate(VoteKind::Approval, &blocks[0].header);
    w.executed(&blocks[0].header);
    let parent = blocks[0].header.hash();
    assert_eq!(requests(&w.at_slot(15, 600)), [false], "one is certified");
    fails(&mut w, 15, parent);
    assert_eq!(
        requests(&w.at_slot(19, 600)),
        [true],
        "one more failure is enough"
    );
}

#[test]
fn a_certified_block_that_the_client_calls_invalid_is_asked_about_again() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let p = w.proposal(1, &genesis, None, 0);
    let header = p.block.header.clone();
    let hash = header.hash();
    let invalid = || Input::Executed {
        hash,
        verdict: Verdict::Invalid,
    };
    let asks = |effects: &[Effect]| {
        effects
            .iter()
            .filter(|e| matches!(e, Effect::Execute { hash: h, .. } if *h == hash))
            .count()
    };
    w.give_proposal(p);
    assert!(
        notices(&w.input(invalid())).is_empty(),
        "it is not certified"
    );
    let effects = w.give_certificate(VoteKind::Approval, &header);
    assert_eq!(
        notices(&effects),
        [Notice::CertifiedInvalid { hash }],
        "the operator knows, though the answer came before the certificate"
    );
    assert!(w.state.disputes_certified());
    assert_eq!(asks(&effects), 0);
    assert_eq!(asks(&w.at_slot(2, 0)), 0, "less than a slot has passed");
    assert_eq!(asks(&w.at_slot(2, 10)), 1);
    assert!(notices(&w.input(invalid())).is_empty(), "known already");
    assert_eq!(asks(&w.at_slot(4, 0)), 0, "the pause doubles");
    assert_eq!(asks(&w.at_slot(4, 10)), 1);
    w.input(invalid());
    // After a reconnect the client is asked at once.
    w.input(Input::ExecutionRestarted);
    let effects = w.executed(&genesis);
    assert_eq!(asks(&effects), 1);
    let effects = w.executed(&header);
    assert_eq!(notices(&effects), [Notice::CertifiedValid { hash }]);
    assert!(w.state.summary().synced && !w.state.disputes_certified());
}

#[test]
fn an_uncertified_block_that_the_client_calls_invalid_is_not_asked_about_again() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let p = w.proposal(1, &genesis, None, 0);
    let hash = p.block.header.hash();
    w.give_proposal(p);
    w.input(Input::Executed {
        hash,
        verdict: Verdict::Invalid,
    });
    let mut effects = w.input(Input::ExecutionRestarted);
    effects.extend(w.executed(&genesis));
    effects.extend(w.at_slot(1, 1500));
    assert!(
        !effects
            .iter()
            .any(|e| matches!(e, Effect::Execute { hash: h, .. } if *h == hash)),
        "{effects:?}"
    );
}
