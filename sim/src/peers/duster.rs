//! A peer that gossips dust to one node: transfers that pay less than any base fee, one in each
//! message. The pool of the node's execution client takes them, no block ever does, and they cost
//! nothing. A node that forwarded them one for one would be banned by its own federation.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, Topic};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, time};
use alys_types::wire::{Message, Transactions};

use crate::cluster::{Net, Shared};
use crate::params::accounts::{DUST_USER, sink_address, user_key};
use crate::params::transactions::Form;
use crate::peers::session::{self, Outsider};
use crate::workload::sign::{Draft, Fees};

const IP: IpAddr = Net::Dust.ip(0);
/// Lifetime of an identity, shorter than a ban.
const LIFE: Duration = Duration::from_secs(4);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(200);
/// Interval between two rounds.
const PAUSE: Duration = Duration::from_millis(20);
/// Messages in a round: 1,000 in a second, as many as an embedded client takes.
const AT_ONCE: u64 = 20;
/// One wei, below every base fee.
const FEES: Fees = Fees { cap: 1, tip: 1 };

/// Adds the peer's machine.
pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    session::add_returning(world, "dust", IP, LIFE, REST, move || {
        let shared = shared.clone();
        async move { life(&shared).await }
    });
}

async fn life(shared: &Shared) {
    let incarnation = here().incarnation;
    let mut identity = [0xdc; 32];
    identity[..4].copy_from_slice(&incarnation.to_le_bytes());
    let mut config = session::config(shared, identity, IP);
    config.peers.truncate(1);
    let Some(mut stranger) = Outsider::join(shared, config).await else {
        return;
    };
    let key = user_key(DUST_USER);
    let rounds = (LIFE.as_millis() / PAUSE.as_millis()) as u64;
    let mut nonce = u64::from(incarnation) * rounds * AT_ONCE;
    let mut is_heard = false;
    let mut sends_at = time::now() + PAUSE;
    loop {
        let event = select! {
            event = stranger.next() => event,
            () = time::sleep_until(sends_at) => {
                sends_at += PAUSE;
                let messages = if is_heard { AT_ONCE } else { 0 };
                for _ in 0..messages {
                    let draft = Draft::new(Form::DynamicFee, nonce, FEES, sink_address(0));
                    let transaction = draft.sign(&key).bytes.to_vec();
                    nonce += 1;
                    stranger.say(Command::Publish {
                        topic: Topic::Transactions,
                        payload: Transactions(vec![transaction]).encode(),
                    });
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::PeerSubscribed { .. }) => is_heard = true,
            Some(Event::Gossip { id, .. }) => stranger.say(Command::Judge {
                id,
                verdict: GossipVerdict::Ignore,
            }),
            Some(_) => {}
        }
    }
}
