//! A peer that gossips forged certificates of blocks far ahead, a hundred in a second, and returns
//! with another identity. A node cannot know the authority set of such a block, so it cannot blame
//! the peer for sure; it must not believe the claim for long either, nor let other checks wait.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, Topic};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, time};
use alys_types::wire::Message;

use crate::cluster::{Net, Shared};
use crate::peers::session::{self, Outsider};
use crate::peers::vanisher::forge;

const IP: IpAddr = Net::CertificateFlooder.ip(0);
/// Lifetime of an identity: its forgeries cost a point each, so a ban takes a little over a second.
const LIFE: Duration = Duration::from_secs(3);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(200);
/// Interval between two certificates.
const PAUSE: Duration = Duration::from_millis(10);

/// Adds the peer's machine.
pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    session::add_returning(world, "certificates", IP, LIFE, REST, move || {
        let shared = shared.clone();
        async move { life(&shared).await }
    });
}

async fn life(shared: &Shared) {
    let incarnation = here().incarnation;
    let mut identity = [0xd9; 32];
    identity[..4].copy_from_slice(&incarnation.to_le_bytes());
    let config = session::config(shared, identity, IP);
    let Some(mut flooder) = Outsider::join(shared, config).await else {
        return;
    };
    let mut number = u64::from(incarnation) << 32;
    let mut is_heard = false;
    let mut sends_at = time::now() + PAUSE;
    loop {
        let event = select! {
            event = flooder.next() => event,
            () = time::sleep_until(sends_at) => {
                sends_at += PAUSE;
                if is_heard {
                    number += 1;
                    flooder.say(Command::Publish {
                        topic: Topic::Finality,
                        payload: forge(shared, number).encode(),
                    });
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::PeerSubscribed { .. }) => is_heard = true,
            Some(Event::Gossip { id, .. }) => flooder.say(Command::Judge {
                id,
                verdict: GossipVerdict::Ignore,
            }),
            Some(_) => {}
        }
    }
}
