//! Defences against hostile or late peers, slow clocks and restarts.

mod single;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alys_consensus::{
    BlockRef, CertifiedBlock, Config, Effect, Input, MAX_UNCERTIFIED, Notice, Now, Record, State,
    Stored, StoredBlock, VerifiedBody, VerifiedVote, VoteState,
};
use alys_types::bls::SecretKey;
use alys_types::wire::{CertifiedHeader, Proposal};
use alys_types::{
    AuthoritySet, Bitmap, Block, Certificate, FaultModel, Hash, Header, Height, Slot, Vote,
    VoteKind, VoteTarget,
};
use single::{FIRST, SLOT_MS, World, approvals, confirmations, finals, genesis, notices};

/// More uncertified blocks than a node keeps.
const MANY: u64 = 70;

fn builds(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Build(_)))
}

fn records(effects: &[Effect]) -> impl Iterator<Item = &Record> {
    effects.iter().filter_map(|e| {
        if let Effect::Persist(record) = e {
            Some(&**record)
        } else {
            None
        }
    })
}

/// The contents of a store after these effects, while no block is final.
fn stored(fresh: VoteState, effects: &[Effect]) -> Stored {
    let mut blocks: BTreeMap<Hash, StoredBlock> = BTreeMap::new();
    let mut votes = Some(fresh);
    for record in records(effects) {
        votes = record.votes.or(votes);
        for block in &record.blocks {
            let header = block.header.clone();
            let entry = blocks.entry(header.hash()).or_insert(StoredBlock {
                header,
                block: None,
                certificate: None,
                additions: None,
            });
            entry.block = Some(block.clone());
        }
        for certified in &record.certified {
            let header = certified.header.clone();
            let entry = blocks.entry(header.hash()).or_insert(StoredBlock {
                header,
                block: None,
                certificate: None,
                additions: None,
            });
            entry.certificate = Some(certified.certificate);
        }
    }
    Stored {
        votes,
        blocks: blocks.into_values().collect(),
        ..Stored::default()
    }
}

/// Two blocks, of slots 1 and 2, the second on the first.
fn two_blocks(w: &World) -> (Proposal, Proposal) {
    let first = w.proposal(1, w.genesis.header(), None, 0);
    let certificate = w.certificate(VoteKind::Approval, &first.block.header);
    let second = w.proposal(2, &first.block.header, Some(certificate), 0);
    (first, second)
}

/// [`two_blocks`] and one of slot 4 on the second.
fn three_blocks(w: &World) -> [Proposal; 3] {
    let (first, second) = two_blocks(w);
    let certificate = w.certificate(VoteKind::Approval, &second.block.header);
    let third = w.proposal(4, &second.block.header, Some(certificate), 0);
    [first, second, third]
}

fn give_body(w: &mut World, block: &Block) -> Vec<Effect> {
    let body = VerifiedBody::check(Arc::new(block.clone())).expect("belongs");
    w.input(Input::Body(body))
}

/// Makes a block of slot 5 on genesis executed and final.
fn final_at_slot_5(w: &mut World) -> Header {
    w.at_slot(5, 10);
    let p = w.proposal(5, &w.genesis.header().clone(), None, 5);
    let header = p.block.header.clone();
    w.give_proposal(p);
    w.executed(&header);
    w.give_certificate(VoteKind::Approval, &header);
    assert_eq!(
        finals(&w.give_certificate(VoteKind::Confirmation, &header)),
        1
    );
    header
}

#[test]
fn a_certified_branch_beside_finality_does_not_silence_leaders() {
    let mut w = World::new();
    let (_, lost) = two_blocks(&w);
    final_at_slot_5(&mut w);
    // Higher than the final block and of a lower slot: it can never connect.
    let effects = w.give_certificate(VoteKind::Approval, &lost.block.header);
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Sync { .. })),
        "{effects:?}"
    );
    assert_eq!(w.state.sync_gap(), None);
    assert!(builds(&w.at_slot(7, 600)), "authority 3 leads slot 7");
}

#[test]
fn a_sync_target_is_dropped_when_a_higher_slot_is_certified() {
    let mut w = World::new();
    let (_, lost) = two_blocks(&w);
    w.at_slot(3, 10);
    w.give_certificate(VoteKind::Approval, &lost.block.header);
    assert!(w.state.sync_gap().is_some());
    assert!(
        !builds(&w.at_slot(3, 600)),
        "a leader that lacks the highest certified block stays silent"
    );
    final_at_slot_5(&mut w);
    assert_eq!(w.state.sync_gap(), None);
    assert!(builds(&w.at_slot(7, 600)));
}

#[test]
fn a_sync_target_is_certified_as_soon_as_its_parent_is_known() {
    let mut w = World::new();
    let (first, second) = two_blocks(&w);
    w.at_slot(2, 10);
    w.give_certificate(VoteKind::Approval, &second.block.header);
    let certified = w.state.highest_certified().map(|c| c.header.hash());
    assert_eq!(
        certified,
        Some(second.block.header.hash()),
        "the highest certificate is the one that is rebroadcast"
    );
    let effects = give_body(&mut w, &first.block);
    assert_eq!(w.state.summary().highest.hash, second.block.header.hash());
    assert_eq!(w.state.sync_gap(), None);
    assert!(confirmations(&effects) >= 1);
}

#[test]
fn proposals_of_far_slots_do_not_push_out_the_present_one() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(2, 10);
    for i in 1..=MANY {
        let far = w.proposal(4 * i + 1, &genesis, None, 0);
        w.give_proposal(far);
    }
    let present = w.proposal(2, &genesis, None, 0);
    assert!(w.approves(&present));
}

#[test]
fn a_late_certified_block_is_kept_beside_many_uncertified_ones() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let missed = w.proposal(1, &genesis, None, 0).block.header;
    for slot in 2..=MANY {
        w.at_slot(slot, 10);
        let uncertified = w.proposal(slot, &genesis, None, 0);
        w.give_proposal(uncertified);
    }
    w.give_certificate(VoteKind::Approval, &missed);
    assert_eq!(w.state.summary().highest.hash, missed.hash());
}

#[test]
fn the_oldest_uncertified_blocks_give_way() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    for slot in 1..=MANY {
        w.at_slot(slot, 10);
        let uncertified = w.proposal(slot, &genesis, None, 0);
        w.give_proposal(uncertified);
    }
    assert!(w.state.summary().entries <= MAX_UNCERTIFIED + 1);
    let newest = w.proposal(MANY, &genesis, None, 0).block.header;
    assert_eq!(approvals(&w.executed(&newest)), 1);
}

#[test]
fn approved_blocks_that_gave_way_leave_the_store_with_finality() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let mut stored = Vec::new();
    for slot in 1..=MANY {
        w.at_slot(slot, 10);
        let proposal = w.proposal(slot, &genesis, None, 0);
        let header = proposal.block.header.clone();
        w.give_proposal(proposal);
        stored.extend((approvals(&w.executed(&header)) == 1).then_some(header));
    }
    let last = stored.pop().expect("approved");
    assert!(stored.len() > MAX_UNCERTIFIED, "{}", stored.len());
    w.give_certificate(VoteKind::Approval, &last);
    let effects = w.give_certificate(VoteKind::Confirmation, &last);
    let finality = records(&effects).find_map(|record| record.finalized.as_ref());
    let dropped = finality.map(|finality| finality.dropped.iter().copied());
    let dropped: BTreeSet<Hash> = dropped.into_iter().flatten().collect();
    assert_eq!(dropped, stored.iter().map(Header::hash).collect());
}

#[test]
fn a_leader_that_equivocates_without_end_does_not_push_out_others() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(2, 10);
    let present = w.proposal(2, &genesis, None, 0);
    w.give_proposal(present.clone());
    let mut evidence = 0;
    for salt in 0..MANY as u8 {
        let early = w.proposal(4, &genesis, None, salt);
        let effects = w.give_proposal(early);
        evidence += effects
            .iter()
            .filter(|e| matches!(e, Effect::Evidence(_)))
            .count();
    }
    assert_eq!(evidence, 1);
    assert!(
        w.state.summary().entries <= 4,
        "two of a slot are kept: {}",
        w.state.summary().entries
    );
    assert_eq!(approvals(&w.executed(&present.block.header)), 1);
}

#[test]
fn no_block_is_final_without_its_body() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let p = w.proposal(1, &genesis, None, 0);
    let header = p.block.header.clone();
    w.give_proposal(p.clone());
    // It is not certified in time; its body is dropped.
    w.at_slot(12, 10);
    assert!(!w.state.has_body(&header.hash()));
    let mut effects = w.give_certificate(VoteKind::Approval, &header);
    effects.extend(w.give_certificate(VoteKind::Confirmation, &header));
    assert_eq!(finals(&effects), 0);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::FetchBlock { hash } if *hash == header.hash())),
        "{effects:?}"
    );
    effects = give_body(&mut w, &p.block);
    effects.extend(w.at_slot(12, 110));
    let kept = records(&effects).position(|r| r.blocks.iter().any(|b| b.header == header));
    let done = records(&effects).position(|r| r.finalized.is_some());
    assert!(kept.is_some() && kept <= done, "{kept:?} {done:?}");
    assert_eq!(finals(&effects), 1);
}

#[test]
fn the_execution_layer_learns_final_blocks_as_safe() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    w.approves(&a);
    let forkchoice = |effects: &[Effect]| {
        effects.iter().rev().find_map(|e| match e {
            Effect::Forkchoice {
                head,
                safe,
                finalized,
            } => Some((head.1, *safe, *finalized)),
            _ => None,
        })
    };
    let (first, own) = (genesis.execution_hash, a.block.header.execution_hash);
    let certified = w.give_certificate(VoteKind::Approval, &a.block.header);
    assert_eq!(forkchoice(&certified), Some((own, first, first)));
    let confirmed = w.give_certificate(VoteKind::Confirmation, &a.block.header);
    // No proof of work made a block final.
    assert_eq!(forkchoice(&confirmed), Some((own, own, first)));
}

fn vote_at(w: &World, signer: u8, slot: u64, hash: Hash) -> Vote {
    let target = VoteTarget {
        kind: VoteKind::Approval,
        height: Height(u64::MAX),
        slot: Slot(slot),
        hash,
    };
    let signature = w.keys[usize::from(signer)].sign(&target.message(&w.genesis.chain_id()).0);
    Vote {
        target,
        signer,
        signature,
    }
}

#[test]
fn absurd_slots_neither_panic_nor_hide_equivocation() {
    let mut w = World::new();
    w.at_slot(1, 10);
    for slot in [
        u64::MAX,
        u64::MAX / SLOT_MS,
        u64::MAX / SLOT_MS + 1,
        FIRST + 1_000_000,
    ] {
        let vote = vote_at(&w, 1, slot, Hash([1; 32]));
        w.give_vote(vote);
    }
    let genesis = w.genesis.header().clone();
    for slot in [u64::MAX - FIRST, u64::MAX / SLOT_MS - FIRST] {
        let p = w.proposal(slot, &genesis, None, 0);
        w.give_proposal(p);
        w.at_slot(2, 10);
    }
    let one = w.give_vote(vote_at(&w, 1, FIRST + 2, Hash([2; 32])));
    let two = w.give_vote(vote_at(&w, 1, FIRST + 2, Hash([3; 32])));
    assert!(
        one.is_empty() && two.iter().any(|e| matches!(e, Effect::Evidence(_))),
        "{two:?}"
    );
}

#[test]
fn a_clock_that_is_slow_within_the_allowance_does_not_prolong_the_silence_after_a_loss() {
    let mut w = World::with(|_| None);
    let mut parent = w.genesis.header().clone();
    let mut certificate = None;
    let mut regained = None;
    for slot in 2..=8 {
        // The certificate arrives before its slot begins by the local clock.
        w.at_slot(slot - 1, SLOT_MS - 150);
        let p = w.proposal(slot, &parent, certificate, 0);
        let header = p.block.header.clone();
        w.give_proposal(p);
        w.executed(&header);
        w.give_certificate(VoteKind::Approval, &header);
        let effects = w.give_certificate(VoteKind::Confirmation, &header);
        if notices(&effects).contains(&Notice::VotesRegained) {
            regained = regained.or(Some(slot));
        }
        certificate = Some(w.certificate(VoteKind::Approval, &header));
        parent = header;
    }
    assert_eq!(regained, Some(5), "silent until slot 4");
}

#[test]
fn a_header_alone_does_not_choose_the_set_of_its_children() {
    // An authority that was the whole federation once, and is one of four now.
    let elder = SecretKey::derive_stand_in(&[2; 32]);
    let mut w = World::restored(|fresh| {
        let set = genesis(&[SecretKey::derive_stand_in(&[2; 32])])
            .set()
            .authorities()
            .to_vec();
        Stored {
            votes: Some(fresh),
            sets: vec![set],
            ..Stored::default()
        }
    });
    let old = Arc::new(
        AuthoritySet::new(
            genesis(&[elder]).set().authorities().to_vec(),
            FaultModel::Byzantine,
        )
        .expect("a good set"),
    );
    w.at_slot(1, 10);
    let mut forged = w.proposal(1, &w.genesis.header().clone(), None, 0).block;
    forged.header.set_hash = old.hash();
    give_body(&mut w, &forged);
    let parent = forged.header;
    let target = |kind, header: &Header| VoteTarget {
        kind,
        height: header.height,
        slot: header.slot,
        hash: header.hash(),
    };
    let mut signers = Bitmap::empty(4);
    (0..3).for_each(|i| signers.set(i));
    let signature = w.keys[1].sign(b"anything");
    let made_up = Certificate {
        target: target(VoteKind::Approval, &parent),
        signers,
        signature,
    };
    let child = w.proposal(2, &parent, Some(made_up), 0).block.header;
    let approval = target(VoteKind::Approval, &child);
    let signature = w.keys[1].sign(&approval.message(&w.genesis.chain_id()).0);
    let certificate =
        Certificate::aggregate(approval, &[(0, signature)], &old).expect("the old set's quorum");
    let set = w.state.set_for(&child);
    let certified = CertifiedHeader {
        header: child,
        certificate,
    };
    let mut effects = Vec::new();
    if let Ok(block) = CertifiedBlock::check(certified, &set, &w.config) {
        effects = w.input(Input::Certified(block));
    }
    assert_eq!(
        confirmations(&effects),
        0,
        "a forged certificate does not lock"
    );
    assert_eq!(w.state.summary().highest.hash, w.genesis.hash());
}

#[test]
fn the_chain_below_a_lock_is_written_with_it() {
    let mut w = World::new();
    w.at_slot(4, 10);
    let blocks = three_blocks(&w);
    // As in a range of blocks: bodies first, then the certificate of the last one.
    let mut effects: Vec<Effect> = blocks
        .iter()
        .flat_map(|p| give_body(&mut w, &p.block))
        .collect();
    effects.extend(w.give_certificate(VoteKind::Approval, &blocks[2].block.header));
    assert!(confirmations(&effects) > 0);
    let w = World::restored(|fresh| stored(fresh, &effects));
    let summary = w.state.summary();
    assert_eq!(summary.votes.locked.hash, blocks[2].block.header.hash());
    assert_eq!(
        summary.highest, summary.votes.locked,
        "the locked block is restored"
    );
    assert!(
        blocks
            .iter()
            .all(|p| w.state.has_body(&p.block.header.hash()))
    );
}

#[test]
fn a_leader_that_cannot_reach_its_lock_does_not_propose_below_it() {
    let first_life = World::new();
    let (first, second) = two_blocks(&first_life);
    let header = second.block.header.clone();
    let certificate = first_life.certificate(VoteKind::Approval, &header);
    let locked = BlockRef {
        slot: header.slot,
        hash: header.hash(),
    };
    let block = StoredBlock {
        header,
        block: None,
        certificate: Some(certificate),
        additions: None,
    };
    let mut w = World::restored(|fresh| Stored {
        votes: Some(VoteState { locked, ..fresh }),
        blocks: vec![block],
        ..Stored::default()
    });
    assert!(!builds(&w.at_slot(3, 600)), "authority 3 leads slot 3");
    assert!(
        w.state.sync_gap().is_some(),
        "the missing range is requested"
    );
    give_body(&mut w, &first.block);
    assert_eq!(w.state.summary().highest, locked);
}

#[test]
fn a_federation_of_one_trusts_its_clock_by_itself() {
    let key = SecretKey::derive_stand_in(&[1; 32]);
    let genesis = genesis(std::slice::from_ref(&key));
    let first = BlockRef {
        slot: Slot(FIRST),
        hash: genesis.hash(),
    };
    let stored = Stored {
        votes: Some(VoteState::fresh(first)),
        ..Stored::default()
    };
    let config = Config::new(genesis, Some(key.public_key().to_bytes()));
    let start = Now {
        wall_ms: FIRST * SLOT_MS,
        mono_ms: 0,
    };
    let (mut state, _) = State::restore(config, stored, start, None).expect("restores");
    let effects = state.handle(
        Input::Tick,
        Now {
            wall_ms: start.wall_ms + 3_600_000,
            mono_ms: 10,
        },
    );
    assert!(
        notices(&effects).contains(&Notice::ClockTrusted),
        "q - 1 = 0 peers confirm: {effects:?}"
    );
    assert!(!state.summary().silent);
}

#[test]
fn a_restart_does_not_make_a_clock_that_jumped_trusted() {
    // The wall clock is in the first slot, an hour after the offset trusted in this process.
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let jumped = Some((w.wall_ms - w.mono_ms) as i64 - 3_600_000);
    w.restart(jumped);
    assert!(matches!(
        notices(&w.start)[..],
        [Notice::ClockJumped { by_ms: 3_600_000 }]
    ));
    let p = w.proposal(1, &genesis, None, 0);
    assert!(!w.approves(&p));
    assert!(!builds(&w.at_slot(3, 10)), "authority 3 leads slot 3");
    assert_eq!(
        w.state.trusted_clock_ms(),
        jumped,
        "the next incarnation gets the trusted offset"
    );
    let effects = w.input(Input::ClockConfirmed);
    assert!(notices(&effects).contains(&Notice::ClockTrusted));
    assert!(builds(&w.input(Input::Tick)), "its slot still lasts");
    assert_ne!(w.state.trusted_clock_ms(), jumped);

    // A new process trusts its first reading.
    let mut w = World::new();
    w.restart(None);
    assert!(notices(&w.start).is_empty());
    assert!(w.approves(&w.proposal(1, &genesis, None, 0)));
}

#[test]
fn a_repeated_vote_is_buffered_once() {
    let mut w = World::new();
    w.at_slot(1, 10);
    let genesis = w.genesis.header().clone();
    let a = w.proposal(1, &genesis, None, 0);
    for _ in 0..20 {
        let vote = w.vote(0, VoteKind::Confirmation, &a.block.header);
        w.give_vote(vote);
    }
    for i in 0..3 {
        let vote = w.vote(i, VoteKind::Approval, &a.block.header);
        w.give_vote(vote);
    }
    assert_eq!(
        confirmations(&w.give_proposal(a)),
        1,
        "the approvals found room"
    );
}

#[test]
fn a_held_vote_of_an_unknown_set_is_no_loss() {
    let mut w = World::new();
    let vote = vote_at(&w, 2, FIRST + 3, Hash([5; 32]));
    let vote = VerifiedVote::check(vote, w.genesis.set(), &w.genesis).expect("verifies");
    assert!(w.input(Input::HeldVote(vote)).is_empty());
}
