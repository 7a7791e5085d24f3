//! A machine that opens connections to every node and sends nothing on them, faster than they time
//! out. Nodes must keep places for other handshakes.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use alys_runtime::net::Stream;
use alys_runtime::sim::World;
use alys_runtime::time;

use crate::cluster::{Net, PEER_PORT, Shared, node_ip};

const IP: IpAddr = Net::Idle.ip(0);
/// Connections to each node and round: over thirty within the four seconds in which a handshake
/// times out, twice the places that a node has for handshakes of strangers.
const AT_ONCE: usize = 4;
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest time to connect; a stopped node answers nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
/// Open connections; the oldest is closed.
const MOST_HELD: usize = 1_024;

/// Adds the machine.
pub fn add(world: World, shared: &Shared) {
    let nodes = shared.nodes;
    world.node("idle", IP, move || async move { occupy(nodes).await });
}

async fn occupy(nodes: u8) {
    let mut held = VecDeque::new();
    loop {
        for node in 0..nodes {
            let socket = SocketAddr::new(node_ip(node), PEER_PORT);
            for _ in 0..AT_ONCE {
                let connected = time::timeout(CONNECT_TIMEOUT, Stream::connect(socket)).await;
                if let Ok(Ok(stream)) = connected {
                    held.push_back(stream);
                }
            }
        }
        while held.len() > MOST_HELD {
            held.pop_front();
        }
        time::sleep(PAUSE).await;
    }
}
