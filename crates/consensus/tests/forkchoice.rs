//! The fork choice after a start of the node or of its execution client (rule 3.10).

mod single;

use std::sync::Arc;

use alys_consensus::{Effect, Input, Stored, StoredBlock, Verdict};
use alys_types::{Hash, Header, VoteKind};
use single::{SLOT_MS, World};

/// A node with a chain of certified blocks, which are executed and not final; the headers of the
/// chain from genesis on; and the blocks as they are stored.
fn certified_chain(blocks: u64) -> (World, Vec<Header>, Vec<StoredBlock>) {
    let mut w = World::new();
    let mut headers = vec![w.genesis.header().clone()];
    let mut stored: Vec<StoredBlock> = Vec::new();
    for slot in 1..=blocks {
        w.at_slot(slot, 10);
        let certificate = stored.last().and_then(|s| s.certificate);
        let p = w.proposal(slot, headers.last().expect("genesis"), certificate, 0);
        let header = p.block.header.clone();
        stored.push(StoredBlock {
            header: header.clone(),
            block: Some(Arc::new(p.block.clone())),
            certificate: Some(w.certificate(VoteKind::Approval, &header)),
            additions: None,
        });
        w.give_proposal(p);
        w.executed(&header);
        w.give_certificate(VoteKind::Approval, &header);
        assert_eq!(w.state.summary().head, header.hash());
        headers.push(header);
    }
    (w, headers, stored)
}

/// The heads of the fork choices among effects.
fn heads(effects: &[Effect]) -> Vec<Hash> {
    effects
        .iter()
        .filter_map(|e| match e {
            Effect::Forkchoice { head, .. } => Some(head.0),
            _ => None,
        })
        .collect()
}

/// Answers the execution requests in `effects` and those that follow: VALID, except for the block
/// of `stop`, which gets the verdict there. Returns the heads of the fork choices.
fn answer(w: &mut World, mut effects: Vec<Effect>, stop: Option<(Hash, Verdict)>) -> Vec<Hash> {
    let mut found = Vec::new();
    loop {
        found.extend(heads(&effects));
        let asked = effects.iter().find_map(|e| match e {
            Effect::Execute { hash, .. } => Some(*hash),
            _ => None,
        });
        let Some(hash) = asked else {
            return found;
        };
        let verdict = stop
            .filter(|(at, _)| *at == hash)
            .map_or(Verdict::Valid, |(_, verdict)| verdict);
        effects = w.input(Input::Executed { hash, verdict });
    }
}

#[test]
fn a_client_that_lost_nothing_is_not_set_back_after_a_restart() {
    let (mut w, headers, _) = certified_chain(3);
    let highest = headers[3].hash();
    let effects = w.input(Input::ExecutionRestarted);
    assert_eq!(answer(&mut w, effects, None), [highest]);
    assert!(w.state.summary().synced);
    // Once more while the walk is under way.
    w.input(Input::ExecutionRestarted);
    w.executed(&headers[0]);
    let effects = w.input(Input::ExecutionRestarted);
    assert_eq!(answer(&mut w, effects, None), [highest]);
}

#[test]
fn a_client_that_lost_nothing_is_not_set_back_by_a_restart_of_the_node() {
    let (w, headers, blocks) = certified_chain(3);
    let mut w = World::restored(|_| Stored {
        votes: Some(w.state.summary().votes),
        blocks,
        ..Stored::default()
    });
    let effects = w.executed(&headers[1]);
    assert_eq!(answer(&mut w, effects, None), [headers[3].hash()]);
}

#[test]
fn a_client_that_does_not_follow_up_to_the_last_head_gets_the_one_that_it_has() {
    for verdict in [Verdict::Unknown, Verdict::Invalid] {
        let (mut w, headers, _) = certified_chain(3);
        let stop = Some((headers[2].hash(), verdict));
        let effects = w.input(Input::ExecutionRestarted);
        let found = answer(&mut w, effects, stop);
        assert_eq!(found, [headers[1].hash()], "{verdict:?}");
        // Asked again, it answers one after the other.
        w.wall_ms += SLOT_MS;
        w.mono_ms += SLOT_MS;
        let effects = w.input(Input::Tick);
        let found = answer(&mut w, effects, None);
        let rest = [headers[2].hash(), headers[3].hash()];
        assert_eq!(found, rest, "{verdict:?}");
    }
}

#[test]
fn a_long_walk_has_a_head_from_its_bound_on() {
    let (mut w, headers, _) = certified_chain(66);
    let effects = w.input(Input::ExecutionRestarted);
    let found = answer(&mut w, effects, None);
    let expected: Vec<Hash> = headers[64..].iter().map(Header::hash).collect();
    assert_eq!(found, expected);
}
