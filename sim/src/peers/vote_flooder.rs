//! A peer with a stolen key that signs approvals of blocks that do not exist, hundreds in a second.
//! Each signature is valid, so no node can blame the peer; nodes must neither check nor forward
//! more than two in a slot.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, Topic};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, time};
use alys_types::wire::{Message, Proposal};
use alys_types::{Hash, Height, Slot, Vote, VoteKind, VoteTarget};

use crate::cluster::genesis::authority_key;
use crate::cluster::{Net, Shared};
use crate::peers::session::{self, Outsider};

const IP: IpAddr = Net::VoteFlooder.ip(0);
/// Lifetime of an identity. Its votes are valid, so a node bans it for their number only.
const LIFE: Duration = Duration::from_secs(12);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(500);
/// Interval between two rounds.
const PAUSE: Duration = Duration::from_millis(20);
/// Votes in a round: 300 in a second.
const AT_ONCE: u32 = 6;

/// Adds the peer's machine. `index` is the authority whose key is stolen, from 0.
pub fn add(world: World, shared: &Shared, index: u8) {
    let shared = shared.clone();
    session::add_returning(world, "votes", IP, LIFE, REST, move || {
        let shared = shared.clone();
        async move { life(&shared, index).await }
    });
}

async fn life(shared: &Shared, index: u8) {
    let incarnation = here().incarnation;
    let mut identity = [0xda; 32];
    identity[..4].copy_from_slice(&incarnation.to_le_bytes());
    let config = session::config(shared, identity, IP);
    let Some(mut flooder) = Outsider::join(shared, config).await else {
        return;
    };
    let key = authority_key(index);
    let chain_id = shared.chain.genesis.chain_id();
    // Height and slot of the latest proposal.
    let mut latest: Option<(Height, Slot)> = None;
    let mut number: u32 = 0;
    let mut sends_at = time::now() + PAUSE;
    loop {
        let event = select! {
            event = flooder.next() => event,
            () = time::sleep_until(sends_at) => {
                sends_at += PAUSE;
                let Some((height, slot)) = latest else {
                    continue;
                };
                for _ in 0..AT_ONCE {
                    number += 1;
                    let mut hash = [0xda; 32];
                    hash[..4].copy_from_slice(&incarnation.to_le_bytes());
                    hash[4..8].copy_from_slice(&number.to_le_bytes());
                    let target = VoteTarget {
                        kind: VoteKind::Approval,
                        height,
                        slot,
                        hash: Hash(hash),
                    };
                    let vote = Vote {
                        target,
                        signer: index,
                        signature: key.sign(&target.message(&chain_id).0),
                    };
                    flooder.say(Command::Publish {
                        topic: Topic::Approvals,
                        payload: vote.encode(),
                    });
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::Gossip {
                id, topic, payload, ..
            }) => {
                flooder.say(Command::Judge {
                    id,
                    verdict: GossipVerdict::Ignore,
                });
                if topic == Topic::Blocks
                    && let Ok(proposal) = Proposal::decode(&payload)
                {
                    let header = proposal.block.header;
                    latest = Some((header.height, header.slot));
                }
            }
            Some(_) => {}
        }
    }
}
