//! A client without a vote that follows the chain by its headers: it requests ranges from one node
//! after the other, and the invariants check the answers. Nodes serve this protocol to every peer;
//! no node of this repository requests it yet.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Event, PeerId, Protocol, RequestId};
use alys_runtime::sim::World;
use alys_runtime::{select, time};
use alys_types::Height;
use alys_types::wire::{HeaderRange, Message, RangeRequest};

use crate::cluster::{Net, Shared, now_ms};
use crate::peers::session::{self, Outsider};

const IP: IpAddr = Net::LightClient.ip(0);
/// Interval between two requests.
const PAUSE: Duration = Duration::from_millis(1_200);
/// Headers per request.
const COUNT: u64 = 24;
/// Known headers that each request includes again, so that the end of the known chain is compared
/// with another node's.
const OVERLAP: u64 = 4;

pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    world.node("light", IP, move || {
        let shared = shared.clone();
        async move { follow(&shared).await }
    });
}

async fn follow(shared: &Shared) {
    let world = World::current();
    let config = session::config(shared, [0xd1; 32], IP);
    let Some(mut client) = Outsider::join(shared, config).await else {
        return;
    };
    let mut peers: VecDeque<PeerId> = VecDeque::new();
    let mut asked: BTreeMap<RequestId, u64> = BTreeMap::new();
    let mut known = 0_u64;
    let mut asks_at = time::now() + PAUSE;
    loop {
        let event = select! {
            event = client.next() => event,
            () = time::sleep_until(asks_at) => {
                asks_at += PAUSE;
                let start = known.saturating_sub(OVERLAP) + 1;
                let request = RangeRequest { start: Height(start), count: COUNT };
                if let Some(peer) = peers.front().copied() {
                    peers.rotate_left(1);
                    if let Ok(id) = client.ask(peer, Protocol::HeadersByRange, request.encode()) {
                        asked.insert(id, start);
                    }
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::PeerConnected { peer, .. }) => peers.push_back(peer),
            Some(Event::PeerDisconnected { peer, .. }) => peers.retain(|known| *known != peer),
            Some(Event::Response { id, peer, result }) => {
                let (Some(start), Ok(payload)) = (asked.remove(&id), result) else {
                    continue;
                };
                let answer = HeaderRange::decode(&payload);
                let mut judge = shared.judge.look();
                let Some(node) = judge.honest.get(&peer.to_string()).copied() else {
                    continue;
                };
                let at_ms = now_ms(world);
                let range = (start, COUNT);
                known = known.max(judge.headers(at_ms, node, range, answer.as_ref().ok()));
            }
            Some(_) => {}
        }
    }
}
