//! A peer that gossips altered messages, and sends odd requests: without a key, or as another
//! identity of an authority whose conduct is to forge. Nodes refuse its messages and ban it, so it
//! returns with a new identity.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, PeerId, Protocol, RequestId};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, time};
use alys_types::wire::{BlockRange, HeaderRange, Message};

use super::mutator::{self, SharedMutator};
use super::session::{self, Outsider};
use crate::cluster::{Net, Shared, now_ms};
use crate::invariants::{Forgery, Oracles};

/// Lifetime of an identity. A node bans it after a few refused messages.
const LIFE: Duration = Duration::from_millis(2_000);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(100);
/// Interval between two messages.
const PAUSE: Duration = Duration::from_millis(120);
/// One message in this many is a request.
const REQUEST_ONE_IN: u64 = 6;

/// A request whose answer is judged, and its range if it has one.
type Asked = (Forgery, Protocol, Option<(u64, u64)>);

/// Adds the machine of an authority's other identity (from 0), or of a stranger.
pub fn add(world: World, shared: &Shared, mutator: SharedMutator, index: Option<u8>) {
    let shared = shared.clone();
    let place = index.map_or(0, |index| index + 1);
    let ip = Net::Forgeries.ip(place);
    let name = index.map_or("forgeries".to_owned(), |index| {
        format!("puppet{}", index + 1)
    });
    session::add_returning(world, &name, ip, LIFE, REST, move || {
        let shared = shared.clone();
        let mutator = mutator.clone();
        async move { life(&shared, &mutator, place, ip).await }
    });
}

async fn life(shared: &Shared, mutator: &SharedMutator, place: u8, ip: IpAddr) {
    let mut identity = [0xd8; 32];
    identity[..4].copy_from_slice(&here().incarnation.to_le_bytes());
    identity[4] = place;
    let Some(mut peer) = Outsider::join(shared, session::config(shared, identity, ip)).await else {
        return;
    };
    let mut connected: BTreeSet<PeerId> = BTreeSet::new();
    let mut asked: BTreeMap<RequestId, Asked> = BTreeMap::new();
    let mut is_heard = false;
    let mut number: u64 = 0;
    let mut sends_at = time::now() + PAUSE;
    loop {
        let event = select! {
            event = peer.next() => event,
            () = time::sleep_until(sends_at) => {
                sends_at += PAUSE;
                if !is_heard {
                    continue;
                }
                number += 1;
                if number.is_multiple_of(REQUEST_ONE_IN) {
                    let of_turn = connected.iter().nth(number as usize % connected.len().max(1));
                    let (protocol, payload, forgery, range) = mutator::lock(mutator).request();
                    if let Some(node) = of_turn
                        && let Ok(id) = peer.ask(*node, protocol, payload)
                    {
                        asked.insert(id, (forgery, protocol, range));
                    }
                } else if let Some(forged) = mutator::lock(mutator).next_message() {
                    let mutator::Forged { topic, payload } = forged;
                    peer.say(Command::Publish { topic, payload });
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::PeerConnected { peer, .. }) => {
                connected.insert(peer);
            }
            Some(Event::PeerDisconnected { peer, .. }) => {
                connected.remove(&peer);
            }
            Some(Event::PeerSubscribed { .. }) => is_heard = true,
            Some(Event::Gossip {
                id, topic, payload, ..
            }) => {
                mutator::lock(mutator).hear(topic, &payload);
                let verdict = GossipVerdict::Ignore;
                peer.say(Command::Judge { id, verdict });
            }
            Some(Event::Response { id, peer, result }) => {
                if let Some(asked) = asked.remove(&id) {
                    let mut judge = shared.judge.look();
                    let node = judge.honest.get(&peer.to_string()).copied();
                    if let Some(node) = node {
                        answered(&mut judge, node, &asked, result.ok().as_deref());
                    }
                }
            }
            Some(_) => {}
        }
    }
}

/// Checks what a correct node, from 0, answers to an odd request. A refusal is always right.
fn answered(judge: &mut Oracles, node: u8, asked: &Asked, answer: Option<&[u8]>) {
    let (forgery, protocol, range) = asked;
    let Some(payload) = answer else {
        return judge.forgeries.refused(forgery);
    };
    let at_ms = now_ms(World::current());
    // Genesis has no certificate, so a range that begins with it is not judged.
    match (protocol, range) {
        (Protocol::BlocksByRange, Some(range)) if range.0 > 0 => {
            let answer = BlockRange::decode(payload);
            judge.answered_blocks(at_ms, node, *range, answer.as_ref().ok());
        }
        (Protocol::HeadersByRange, Some(range)) if range.0 > 0 => {
            let answer = HeaderRange::decode(payload);
            judge.headers(at_ms, node, *range, answer.as_ref().ok());
        }
        (Protocol::BlocksByRange | Protocol::HeadersByRange, _)
        | (Protocol::BlocksByHash | Protocol::Receipts | Protocol::Status, _) => {}
    }
}
