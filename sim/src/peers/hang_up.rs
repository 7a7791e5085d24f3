//! Two machines at addresses that every node dials. They accept connections and close them at once:
//! one before the handshake, the other after it, when the node requests its status. A node must
//! dial them ever more rarely, because neither connection led to a peer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use alys_net::{Event, Service};
use alys_runtime::net::Listener;
use alys_runtime::sim::World;
use alys_runtime::{select, time};

use crate::cluster::{Net, PEER_PORT, Shared, node_ip, now_ms};
use crate::params::{Stranger, WorldPlan};
use crate::peers::session;

/// The machine that closes before the handshake, and the one that closes after it.
const IPS: [IpAddr; 2] = [Net::HangUp.ip(0), Net::HangUp.ip(1)];
/// Pause after a failed accept or bind.
const PAUSE: Duration = Duration::from_millis(10);

/// The addresses that nodes dial, if the world has these machines.
pub fn addresses(plan: &WorldPlan) -> Vec<SocketAddr> {
    let is_there = plan.strangers.contains(&Stranger::HangUp);
    let ips = IPS.into_iter().filter(|_| is_there);
    ips.map(|ip| SocketAddr::new(ip, PEER_PORT)).collect()
}

/// Adds the machines.
pub fn add(world: World, shared: &Shared) {
    let [before, after] = IPS;
    let for_before = shared.clone();
    world.node("hangup1", before, move || {
        let shared = for_before.clone();
        async move { close_before_handshake(&shared).await }
    });
    let for_after = shared.clone();
    world.node("hangup2", after, move || {
        let shared = for_after.clone();
        async move { close_after_handshakes(&shared).await }
    });
}

async fn close_before_handshake(shared: &Shared) {
    let Ok(listener) = Listener::bind(SocketAddr::new(IPS[0], PEER_PORT)).await else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                drop(stream);
                let node = (0..shared.nodes).find(|node| node_ip(*node) == from.ip());
                dialled(shared, node, 0);
            }
            Err(_) => time::sleep(PAUSE).await,
        }
    }
}

async fn close_after_handshakes(shared: &Shared) {
    loop {
        close_after_handshake(shared).await;
    }
}

/// Waits for one established connection, and closes it with all others.
async fn close_after_handshake(shared: &Shared) {
    let mut config = session::config(shared, [0xd6; 32], IPS[1]);
    config.peers.clear();
    let Ok((service, _handle, mut events)) = Service::bind(config).await else {
        return time::sleep(PAUSE).await;
    };
    let mut running = Box::pin(service.run());
    loop {
        let event = select! {
            () = &mut running => return,
            event = events.next() => event,
        };
        // The first message on a connection is a request for the status.
        let peer = match event {
            None => return,
            Some(Event::Request { peer, .. }) => peer,
            Some(_) => continue,
        };
        let node = shared.judge.look().honest.get(&peer.to_string()).copied();
        return dialled(shared, node, 1);
    }
}

fn dialled(shared: &Shared, node: Option<u8>, machine: u8) {
    if let Some(node) = node {
        let at_ms = now_ms(World::current());
        shared.judge.look().dialled(at_ms, node, machine);
    }
}
