//! A peer that requests more from every node than nodes serve, as fast as it can. Nodes refuse the
//! excess and eventually ban the peer, which returns with another identity. Finality must continue
//! meanwhile, and the invariants check every answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Event, PeerId, Protocol, RequestId};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, time};
use alys_types::Height;
use alys_types::wire::{BlockRange, HeaderRange, Message, RangeRequest};

use crate::cluster::{Net, Shared, now_ms};
use crate::invariants::Violation;
use crate::peers::session::{self, Outsider};

const IP: IpAddr = Net::Greedy.ip(0);
/// Lifetime of an identity, shorter than a ban.
const LIFE: Duration = Duration::from_secs(6);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(500);
/// Interval between two rounds of requests to each node.
const PAUSE: Duration = Duration::from_millis(100);
/// Requests per node and round: as many as a node processes at once for one peer, and per second
/// more than the rate limit of any protocol.
const AT_ONCE: u32 = 8;
/// Blocks per request; few, because blocks cost the simulation more than the nodes.
const COUNT: u64 = 8;
/// Heights that the requests cycle through, one range after the other.
const HEIGHTS: u64 = 40;
/// The protocols that successive identities use, in turn.
const WANTED: [Protocol; 2] = [Protocol::BlocksByRange, Protocol::HeadersByRange];

/// Burst and rate per second that the rate limits of these protocols allow one peer.
const SERVED_AT_ONCE: u64 = 64;
const SERVED_A_SECOND: u64 = 32;
/// Limit of pending requests.
const MOST_QUESTIONS: usize = 1_024;

/// Adds the peer's machine.
pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    session::add_returning(world, "greedy", IP, LIFE, REST, move || {
        let shared = shared.clone();
        async move { life(&shared).await }
    });
}

async fn life(shared: &Shared) {
    let mut identity = [0xdd; 32];
    identity[..4].copy_from_slice(&here().incarnation.to_le_bytes());
    let mut config = session::config(shared, identity, IP);
    config.limits.max_outbound = MOST_QUESTIONS;
    let Some(mut stranger) = Outsider::join(shared, config).await else {
        return;
    };
    // By connected peer: the time of the connection, and the number of answers since.
    let mut peers: BTreeMap<PeerId, (time::Instant, u64)> = BTreeMap::new();
    let mut asked: BTreeMap<RequestId, u64> = BTreeMap::new();
    let mut asks_at = time::now() + PAUSE;
    let mut turn = 0;
    let protocol = WANTED[here().incarnation as usize % WANTED.len()];
    loop {
        let event = select! {
            event = stranger.next() => event,
            () = time::sleep_until(asks_at) => {
                asks_at += PAUSE;
                let start = 1 + turn * COUNT % HEIGHTS;
                let request = RangeRequest { start: Height(start), count: COUNT }.encode();
                turn += 1;
                let asks = peers.keys().flat_map(|peer| (0..AT_ONCE).map(move |_| *peer));
                for peer in asks {
                    if let Ok(id) = stranger.ask(peer, protocol, request.clone()) {
                        asked.insert(id, start);
                    }
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::PeerConnected { peer, .. }) => {
                peers.insert(peer, (time::now(), 0));
            }
            Some(Event::PeerDisconnected { peer, .. }) => {
                peers.remove(&peer);
            }
            Some(Event::Response { id, peer, result }) => {
                let (Some(start), Ok(payload)) = (asked.remove(&id), result) else {
                    continue;
                };
                let mut judge = shared.judge.look();
                let Some(node) = judge.honest.get(&peer.to_string()).copied() else {
                    continue;
                };
                let at_ms = now_ms(World::current());
                let range = (start, COUNT);
                match protocol {
                    Protocol::BlocksByRange => {
                        let answer = BlockRange::decode(&payload);
                        judge.answered_blocks(at_ms, node, range, answer.as_ref().ok());
                    }
                    _ => {
                        let answer = HeaderRange::decode(&payload);
                        judge.headers(at_ms, node, range, answer.as_ref().ok());
                    }
                }
                drop(judge);
                let Some((since, served)) = peers.get_mut(&peer) else {
                    continue;
                };
                *served += 1;
                // One more for the second in progress, and one for answers in flight.
                let seconds = since.elapsed().as_secs() + 2;
                let served = *served;
                let allowed = SERVED_AT_ONCE + SERVED_A_SECOND * seconds;
                if served > allowed {
                    let violation = Violation::ServedTooMuch {
                        node: node + 1,
                        served,
                        allowed,
                    };
                    shared.judge.accuse(at_ms, violation);
                }
            }
            Some(_) => {}
        }
    }
}
