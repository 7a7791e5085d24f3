//! A peer that connects to every node, claims a height with a forged certificate in its status, and
//! is gone: it returns with another identity several times a second. Each status makes a node check
//! signatures, and none may excuse forged gossip or stop the sync.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::Command;
use alys_runtime::sim::{World, here};
use alys_types::bls::Signature;
use alys_types::spec::{HEADER_VERSION, empty_ledger_hash};
use alys_types::wire::{CertifiedHeader, Message, Status};
use alys_types::{Bitmap, Certificate, Hash, Header, Height, Slot, VoteKind};

use crate::cluster::{Net, Shared};
use crate::params::accounts::CHAIN_ID;
use crate::peers::mutator::target_of;
use crate::peers::session::{self, Outsider};

const IP: IpAddr = Net::Vanish.ip(0);
/// Lifetime of an identity: a handshake and a status on links of the default latency.
const LIFE: Duration = Duration::from_millis(150);
/// The height that is claimed.
const CLAIMED: u64 = 1_000_000;

/// Adds the peer's machine.
pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    session::add_returning(world, "vanish", IP, LIFE, LIFE / 4, move || {
        let shared = shared.clone();
        async move { life(&shared).await }
    });
}

async fn life(shared: &Shared) {
    let mut identity = [0xdb; 32];
    identity[..4].copy_from_slice(&here().incarnation.to_le_bytes());
    let config = session::config(shared, identity, IP);
    let Some(mut stranger) = Outsider::join(shared, config).await else {
        return;
    };
    let claimed = forge(shared, 0);
    let genesis = &shared.chain.genesis;
    let status = Status {
        genesis: genesis.hash(),
        fork_id: genesis.fork_id(claimed.header.height),
        head_height: claimed.header.height,
        head: claimed.header.execution_hash,
        highest: Some(claimed.clone()),
        finalized: Some(claimed),
        authority: None,
        slot: genesis.header().slot,
    };
    stranger.say(Command::SetStatus {
        status: status.encode(),
    });
    while stranger.next().await.is_some() {}
}

/// A certified header with all signers and no valid signature. Different numbers make different
/// headers.
pub(super) fn forge(shared: &Shared, number: u64) -> CertifiedHeader {
    let mut body_hash = [0xdb; 32];
    body_hash[..8].copy_from_slice(&number.to_le_bytes());
    let genesis = &shared.chain.genesis;
    let header = Header {
        version: HEADER_VERSION,
        evm_chain_id: CHAIN_ID,
        genesis_hash: genesis.hash(),
        height: Height(CLAIMED),
        slot: Slot(u64::MAX / 2),
        proposer: 0,
        parent_hash: Hash([0xdb; 32]),
        parent_certificate: None,
        execution_hash: Hash([0xdb; 32]),
        body_hash: Hash(body_hash),
        set_hash: genesis.set().hash(),
        ledger_hash: empty_ledger_hash(),
    };
    let target = target_of(VoteKind::Approval, &header);
    let authorities = genesis.set().len();
    let mut signers = Bitmap::empty(authorities);
    (0..authorities as u8).for_each(|index| signers.set(index));
    let signature = Signature([0xdb; 96]);
    CertifiedHeader {
        header,
        certificate: Certificate {
            target,
            signers,
            signature,
        },
    }
}
