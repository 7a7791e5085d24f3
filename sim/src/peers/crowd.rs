//! Strangers that take the places for strangers: each connects to every node, shares no block and
//! sends nothing but its status, and dials again whenever a node closes its connection. Honest
//! authorities whose address a node does not have must find a place beside them.

use alys_net::{Command, Event, Refusal};
use alys_runtime::sim::World;

use crate::cluster::{Net, Shared};
use crate::peers::session::{self, Outsider};

/// Adds the machine of one stranger, by number from 0.
pub fn add(world: World, shared: &Shared, index: u8) {
    let shared = shared.clone();
    let ip = Net::Crowd.ip(index);
    world.node(&format!("crowd{}", index + 1), ip, move || {
        let shared = shared.clone();
        async move {
            let mut identity = [0xcd; 32];
            identity[0] = index;
            let config = session::config(&shared, identity, ip);
            let Some(mut stranger) = Outsider::join(&shared, config).await else {
                return;
            };
            while let Some(event) = stranger.next().await {
                if let Event::Request { id, .. } = event {
                    let response = Err(Refusal::Unavailable);
                    stranger.say(Command::Respond { id, response });
                }
            }
        }
    });
}
