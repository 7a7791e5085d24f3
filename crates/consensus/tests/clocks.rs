//! The clock of a node: jumps, a clock that is ahead at the start, and confirmations by peers (rule
//! 3.9, docs/protocol.md).

mod single;

use alys_consensus::{Effect, Input, Notice, VoteState};
use alys_types::bls::SecretKey;
use alys_types::{Slot, VoteKind};
use single::{FIRST, SLOT_MS, World, approvals, notices};

#[test]
fn a_jumping_wall_clock_silences_a_node_until_the_operator_confirms() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    w.wall_ms += 4 * SLOT_MS; // The monotonic clock stays.
    let effects = w.input(Input::Tick);
    assert!(matches!(
        notices(&effects)[..],
        [Notice::ClockJumped { by_ms: 8000 }]
    ));
    let p = w.proposal(5, &genesis, None, 0);
    assert!(!w.approves(&p));
    let effects = w.input(Input::ClockConfirmed);
    assert!(notices(&effects).contains(&Notice::ClockTrusted));
    assert_eq!(approvals(&w.input(Input::Tick)), 1, "its slot still lasts");
}

#[test]
fn authorities_that_vote_in_the_new_slot_confirm_a_clock() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    w.wall_ms += 4 * SLOT_MS;
    w.input(Input::Tick);
    let p = w.proposal(5, &genesis, None, 0);
    w.give_proposal(p.clone());
    w.executed(&p.block.header);
    let first = w.vote(0, VoteKind::Approval, &p.block.header);
    assert!(notices(&w.give_vote(first)).is_empty(), "one is not enough");
    let second = w.vote(1, VoteKind::Approval, &p.block.header);
    assert!(
        notices(&w.give_vote(second)).contains(&Notice::ClockTrusted),
        "q - 1 are"
    );
}

#[test]
fn an_own_vote_does_not_confirm_the_own_clock() {
    // The signers of the votes in the slot of the new time, and the number of them at which the
    // clock is trusted; the node itself is authority 3, and q - 1 are two.
    for (signers, trusted_at) in [
        (&[3, 0][..], None),
        (&[0, 3], None),
        (&[3, 0, 1], Some(3)),
        (&[0, 3, 1], Some(3)),
        (&[0, 1], Some(2)),
    ] {
        let mut w = World::new();
        let genesis = w.genesis.header().clone();
        w.at_slot(1, 10);
        // As after a write of the own approval that lasted while the clock jumped.
        w.wall_ms += SLOT_MS - 100;
        w.input(Input::Tick);
        let p = w.proposal(1, &genesis, None, 0);
        let confirms = |signer: &usize| {
            let vote = w.vote(*signer, VoteKind::Approval, &p.block.header);
            notices(&w.give_vote(vote)).contains(&Notice::ClockTrusted)
        };
        let found = signers.iter().map(confirms).position(|is_last| is_last);
        assert_eq!(found.map(|index| index + 1), trusted_at, "{signers:?}");
        let is_trusted = w.state.summary().clock_trusted;
        assert_eq!(is_trusted, trusted_at.is_some(), "{signers:?}");
    }
}

#[test]
fn a_clock_far_ahead_of_the_chain_at_the_start_signs_nothing_until_peers_agree() {
    let builds = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Build(_)));
    // Slots by which the clock is ahead at the start, with a rejoin margin of 3, and whether the
    // node waits for its peers.
    for (ahead, waits) in [(1, false), (3, false), (4, true), (20_000, true)] {
        let mut w = World::new();
        w.wall_ms = (FIRST + ahead) * SLOT_MS;
        w.restart(None);
        let unconfirmed = |notice: &Notice| matches!(notice, Notice::ClockUnconfirmed { .. });
        let told = notices(&w.start).iter().any(unconfirmed);
        assert_eq!((told, w.state.summary().silent), (waits, waits), "{ahead}");
        assert_eq!(w.state.trusted_clock_ms().is_none(), waits, "{ahead}");
        // The next slot that authority 3, the node itself, leads.
        let mut later = FIRST + ahead + 1..;
        let lead = later.find(|slot| slot % 4 == 3).expect("one of four");
        let effects = w.at_slot(lead - FIRST, 10);
        assert_eq!(builds(&effects), !waits, "{ahead}");
        if !waits {
            continue;
        }
        // Of its own clock, of an unknown key, of another time, twice by one authority.
        let says = |w: &World, index: usize, slot: u64| Input::ClockStated {
            authority: w.keys[index].public_key().to_bytes(),
            slot: Slot(slot),
        };
        let stranger = SecretKey::derive_stand_in(&[77; 32]).public_key();
        let from_stranger = Input::ClockStated {
            authority: stranger.to_bytes(),
            slot: Slot(lead),
        };
        for input in [
            says(&w, 3, lead),
            from_stranger,
            says(&w, 1, lead - 3),
            says(&w, 2, lead + 3),
            says(&w, 0, lead),
            says(&w, 0, lead),
        ] {
            assert!(notices(&w.input(input)).is_empty(), "{ahead}");
        }
        let agreed = says(&w, 1, lead + 2);
        let effects = w.input(agreed);
        assert!(
            notices(&effects).contains(&Notice::ClockTrusted),
            "q - 1 do"
        );
        assert!(
            builds(&w.input(Input::Tick)),
            "{ahead}: its slot still lasts"
        );
    }
}

#[test]
fn a_node_that_approved_by_a_clock_that_was_ahead_says_so_once() {
    let approved = Slot(FIRST + 100);
    let mut w = World::with(|fresh| {
        Some(VoteState {
            approved_slot: approved,
            ..fresh
        })
    });
    let slot = Slot(FIRST + 1);
    assert_eq!(
        notices(&w.start),
        [Notice::ApprovedAhead { approved, slot }]
    );
    assert!(notices(&w.at_slot(2, 10)).is_empty());
}
