//! The addresses of all machines of a world, and the names and identities that go with them.

use std::net::{IpAddr, Ipv4Addr};

use alys_net::NodeKey;

/// The networks of a world: the third part of each address. All of them are here, for no two
/// machines may have one address.
#[derive(Debug, Clone, Copy)]
pub enum Net {
    /// Nodes.
    Nodes = 0,
    /// Their execution clients.
    Clients = 1,
    /// Users.
    Users = 2,
    /// Who stole a key.
    Forger = 3,
    /// Second nodes with an authority's key.
    TwinNodes = 4,
    /// Their execution clients.
    TwinClients = 5,
    /// Actors beside the nodes.
    Probe = 6,
    /// Who follows the chain without a vote.
    LightClient = 7,
    /// Who asks for more than nodes serve.
    Greedy = 8,
    /// Who answers no question.
    Silent = 9,
}

impl Net {
    /// The address of its `index`th machine, from 0.
    pub const fn ip(self, index: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, self as u8, index + 1))
    }
}

/// Where nodes talk to each other.
pub const PEER_PORT: u16 = 9000;
/// Where nodes talk to their execution clients.
pub const ENGINE_PORT: u16 = 8551;
/// Where users talk to execution clients.
pub const RPC_PORT: u16 = 8545;

/// One of the nodes that have an authority's key. All but twins have a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The authority, from 0.
    pub index: u8,
    /// Whether it is the second one.
    pub is_twin: bool,
}

impl Seat {
    /// The address of the node.
    pub fn node_ip(self) -> IpAddr {
        if self.is_twin {
            Net::TwinNodes
        } else {
            Net::Nodes
        }
        .ip(self.index)
    }

    /// The address of its execution client.
    pub fn client_ip(self) -> IpAddr {
        if self.is_twin {
            Net::TwinClients
        } else {
            Net::Clients
        }
        .ip(self.index)
    }

    /// The name of a machine of this kind.
    pub fn name(self, of: &str) -> String {
        format!(
            "{of}{}{}",
            self.index + 1,
            if self.is_twin { "twin" } else { "" }
        )
    }

    /// The libp2p identity: a twin has one of its own.
    pub fn identity(self) -> [u8; 32] {
        [if self.is_twin { 0xc0 } else { 0x80 } + self.index; 32]
    }
}

/// The address of an authority's node.
pub fn node_ip(index: u8) -> IpAddr {
    Seat {
        index,
        is_twin: false,
    }
    .node_ip()
}

/// The address of its execution client.
pub fn client_ip(index: u8) -> IpAddr {
    Seat {
        index,
        is_twin: false,
    }
    .client_ip()
}

/// An authority's libp2p identity.
pub fn peer_id(index: u8) -> String {
    NodeKey::from_bytes(
        Seat {
            index,
            is_twin: false,
        }
        .identity(),
    )
    .peer_id()
    .to_string()
}
