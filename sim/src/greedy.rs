//! A stranger who asks every node for more than nodes serve, as fast as it can. Nodes refuse what is too much and ban it in
//! the end; it comes back with another identity. Whatever it asks, the federation goes on.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, PeerId, Protocol, Service};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, spawn, time};
use alys_types::Height;
use alys_types::wire::{Message, RangeRequest};

use crate::machines::{Net, Shared};
use crate::outsider;

const IP: IpAddr = Net::Greedy.ip(0);
/// How long an identity is used: shorter than a ban.
const LIFE: Duration = Duration::from_secs(6);
/// Until the next identity.
const REST: Duration = Duration::from_millis(500);
/// How often it asks each node.
const PAUSE: Duration = Duration::from_millis(200);
/// Questions to each node at once: more a second than any protocol's rate.
const AT_ONCE: u32 = 16;
/// Blocks in each: they cost the simulation more than they cost the nodes.
const COUNT: u64 = 8;
/// Heights that it asks for, one range after the other.
const HEIGHTS: u64 = 40;
/// What its identities ask for, in turns.
const WANTED: [Protocol; 2] = [Protocol::BlocksByRange, Protocol::HeadersByRange];

/// Questions that wait for answers.
const MOST_QUESTIONS: usize = 1_024;

/// Adds the stranger's machine.
pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    let machine = world.node("greedy", IP, move || {
        let shared = shared.clone();
        async move {
            // Whatever goes wrong for it is of no interest; it is started again.
            let _ended = time::timeout(LIFE, life(&shared)).await;
        }
    });
    spawn("greedy", async move {
        loop {
            time::sleep(LIFE + REST).await;
            world.restart(machine);
        }
    });
}

async fn life(shared: &Shared) {
    let mut identity = [0xdd; 32];
    identity[..4].copy_from_slice(&here().incarnation.to_le_bytes());
    let mut config = outsider::config(shared, identity, IP);
    config.limits.max_outbound = MOST_QUESTIONS;
    let Ok((service, handle, mut events)) = Service::bind(config).await else { return };
    let status = outsider::status(shared);
    let say = |command| {
        // A full queue loses a question, no more.
        let _ = handle.try_send(command);
    };
    say(Command::SetStatus { status: status.encode() });
    let mut running = Box::pin(service.run());
    let mut peers: Vec<PeerId> = Vec::new();
    let (mut asks_at, mut turn) = (time::now() + PAUSE, 0);
    let protocol = WANTED[here().incarnation as usize % WANTED.len()];
    loop {
        let event = select! {
            _ = &mut running => return,
            event = events.next() => event,
            () = time::sleep_until(asks_at) => {
                asks_at += PAUSE;
                let request = RangeRequest { start: Height(1 + turn * COUNT % HEIGHTS), count: COUNT };
                turn += 1;
                for (peer, _) in peers.iter().flat_map(|peer| (0..AT_ONCE).map(move |at| (peer, at))) {
                    let _ = handle.request(*peer, protocol, request.encode());
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::PeerConnected { peer, .. }) => peers.push(peer),
            Some(Event::PeerDisconnected { peer, .. }) => peers.retain(|known| *known != peer),
            Some(Event::Request { id, protocol: Protocol::Status, .. }) => {
                say(Command::Respond { id, response: Ok(outsider::answer(&status)) });
            }
            Some(_) => {}
        }
    }
}
