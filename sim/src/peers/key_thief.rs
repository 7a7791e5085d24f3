//! A peer that has stolen an authority's key and forges finality: for each proposal that it
//! receives it publishes a finality certificate with only that authority's signature. Correct nodes
//! refuse the certificate and ban the peer, which returns with another identity.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, Topic};
use alys_runtime::sim::{World, here};
use alys_types::wire::{CertifiedHeader, Message, Proposal};
use alys_types::{Bitmap, Certificate, VoteKind};

use crate::cluster::genesis::authority_key;
use crate::cluster::{Net, Shared};
use crate::peers::mutator::target_of;
use crate::peers::session::{self, Outsider};

const IP: IpAddr = Net::Forger.ip(0);
/// Lifetime of an identity, shorter than a ban.
const LIFE: Duration = Duration::from_secs(8);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(500);

/// Adds the peer's machine. `index` is the authority whose key is stolen, from 0.
pub fn add(world: World, shared: &Shared, index: u8) {
    let shared = shared.clone();
    session::add_returning(world, "forger", IP, LIFE, REST, move || {
        let shared = shared.clone();
        async move { life(&shared, index).await }
    });
}

async fn life(shared: &Shared, index: u8) {
    let mut identity = [0xee; 32];
    identity[..4].copy_from_slice(&here().incarnation.to_le_bytes());
    let Some(mut forger) = Outsider::join(shared, session::config(shared, identity, IP)).await
    else {
        return;
    };
    while let Some(event) = forger.next().await {
        if let Event::Gossip {
            id, topic, payload, ..
        } = event
        {
            forger.say(Command::Judge {
                id,
                verdict: GossipVerdict::Accept,
            });
            if topic == Topic::Blocks
                && let Ok(proposal) = Proposal::decode(&payload)
            {
                let forged = forge(shared, index, proposal);
                forger.say(Command::Publish {
                    topic: Topic::Finality,
                    payload: forged.encode(),
                });
            }
        }
    }
}

fn forge(shared: &Shared, index: u8, proposal: Proposal) -> CertifiedHeader {
    let header = proposal.block.header;
    let target = target_of(VoteKind::Confirmation, &header);
    let mut signers = Bitmap::empty(shared.chain.genesis.set().len());
    signers.set(index);
    let signature = authority_key(index).sign(&target.message(&shared.chain.genesis.chain_id()).0);
    CertifiedHeader {
        header,
        certificate: Certificate {
            target,
            signers,
            signature,
        },
    }
}
