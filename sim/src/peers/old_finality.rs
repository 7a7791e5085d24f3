//! A peer that gossips finality certificates of blocks below the last final one, a hundred in a
//! second, and returns with another identity. Headers and signers are those of the chain, but for
//! the parent, which no node knows: a wrong signature costs no peer anything there, because the set
//! is a guess, and only the height tells a node that it has no use for the certificate. A node must
//! not spend a signature check on any.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, Topic};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, time};
use alys_types::wire::{CertifiedHeader, Confirmation, Message};
use alys_types::{Certificate, VoteKind};

use crate::cluster::{Net, Shared};
use crate::peers::mutator::target_of;
use crate::peers::session::{self, Outsider};

const IP: IpAddr = Net::OldFinality.ip(0);
/// Lifetime of an identity.
const LIFE: Duration = Duration::from_secs(12);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(200);
/// Interval between two certificates.
const PAUSE: Duration = Duration::from_millis(10);
/// Blocks by which an old block is below the highest one that this peer heard of: more than the
/// uncertified and unfinal blocks at the top of an undisturbed chain.
const DEPTH: u64 = 4;
/// Blocks that are kept.
const MOST_BLOCKS: usize = 32;

/// Adds the peer's machine.
pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    session::add_returning(world, "old-finality", IP, LIFE, REST, move || {
        let shared = shared.clone();
        async move { life(&shared).await }
    });
}

async fn life(shared: &Shared) {
    let incarnation = here().incarnation;
    let mut identity = [0xd4; 32];
    identity[..4].copy_from_slice(&incarnation.to_le_bytes());
    let config = session::config(shared, identity, IP);
    let Some(mut flooder) = Outsider::join(shared, config).await else {
        return;
    };
    let mut number = u64::from(incarnation) << 32;
    let mut known: Vec<CertifiedHeader> = Vec::new();
    let mut sends_at = time::now() + PAUSE;
    loop {
        let event = select! {
            event = flooder.next() => event,
            () = time::sleep_until(sends_at) => {
                sends_at += PAUSE;
                number += 1;
                if let Some(old) = pick_old(&known, number) {
                    shared.judge.look().count("old-finality");
                    flooder.say(Command::Publish {
                        topic: Topic::Finality,
                        payload: finality_of(old, number).encode(),
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
                if topic == Topic::Confirmations
                    && let Ok(Confirmation { certified, .. }) = Confirmation::decode(&payload)
                    && known.iter().all(|one| one.header != certified.header)
                {
                    known.push(certified);
                    if known.len() > MOST_BLOCKS {
                        known.remove(0);
                    }
                }
                flooder.say(Command::Judge {
                    id,
                    verdict: GossipVerdict::Ignore,
                });
            }
            Some(_) => {}
        }
    }
}

/// One of the blocks that are old, each in its turn.
fn pick_old(known: &[CertifiedHeader], number: u64) -> Option<&CertifiedHeader> {
    let top = known.iter().map(|one| one.header.height.0).max()?;
    let old = known
        .iter()
        .filter(|one| one.header.height.0 + DEPTH <= top);
    let old: Vec<_> = old.collect();
    let turn = number.checked_rem(old.len() as u64)?;
    old.get(turn as usize).copied()
}

/// A finality certificate of a block beside an old one, by the signers of its approvals. Different
/// numbers make different blocks; the signature is that of the approvals of the old one.
fn finality_of(old: &CertifiedHeader, number: u64) -> CertifiedHeader {
    let mut header = old.header.clone();
    header.parent_hash.0[..8].copy_from_slice(&number.to_le_bytes());
    CertifiedHeader {
        certificate: Certificate {
            target: target_of(VoteKind::Confirmation, &header),
            signers: old.certificate.signers,
            signature: old.certificate.signature,
        },
        header,
    }
}
