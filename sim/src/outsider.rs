//! Peers that are no authorities: what their network services are given, and what they say of themselves.

use std::net::{IpAddr, SocketAddr};

use alys_net::{ChainTag, Config, NodeKey, PeerAddr};
use alys_types::Height;
use alys_types::wire::{HeldVotes, Message, Status, StatusAnswer};

use crate::machines::{PEER_PORT, Shared, node_ip};

/// The status of somebody who has nothing but genesis.
pub fn status(shared: &Shared) -> Status {
    let genesis = &shared.chain.genesis;
    Status {
        genesis: genesis.hash(),
        fork_id: genesis.fork_id(),
        head_height: Height(0),
        head: genesis.hash(),
        highest: None,
        finalized: None,
        authority: None,
    }
}

/// Its answer to who asks for it.
pub fn answer(status: &Status) -> Vec<u8> {
    StatusAnswer { status: status.clone(), held: HeldVotes { approval: None, confirmation: None } }.encode()
}

/// What an outsider's network service needs: the chain, an identity, and all nodes as peers.
pub fn config(shared: &Shared, identity: [u8; 32], ip: IpAddr) -> Config {
    let genesis = &shared.chain.genesis;
    let chain = ChainTag { genesis: genesis.hash().0, fork: genesis.fork_id().0 };
    let peers = (0..shared.nodes)
        .map(|node| PeerAddr { socket: SocketAddr::new(node_ip(node), PEER_PORT), peer: None });
    Config::new(NodeKey::from_bytes(identity), chain, SocketAddr::new(ip, PEER_PORT), peers.collect())
}
