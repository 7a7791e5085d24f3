//! The addresses of all machines of a world, with their names and identities.

use std::net::{IpAddr, Ipv4Addr};

use alys_net::NodeKey;

use crate::params::MachineRole;

/// The networks of a world: the third byte of each address. They are in one list because no two
/// machines may share an address.
#[derive(Debug, Clone, Copy)]
pub enum Net {
    Nodes = 0,
    Execution = 1,
    Users = 2,
    /// The peer with a stolen key.
    Forger = 3,
    /// Second nodes with an authority's key.
    TwinNodes = 4,
    /// Execution clients of the twin nodes.
    TwinExecution = 5,
    /// Actors beside the nodes.
    Probe = 6,
    /// The light client.
    LightClient = 7,
    /// The peer that floods nodes with requests.
    Greedy = 8,
    /// The peers that answer no request.
    Silent = 9,
    /// The machine that opens connections and sends nothing.
    Idle = 10,
    /// The peer that gossips dust.
    Dust = 11,
    /// The peer that comes and goes.
    Vanish = 12,
    /// The peer that signs votes with a stolen key.
    VoteFlooder = 13,
    /// The peer that forges certificates of blocks far ahead.
    CertificateFlooder = 14,
    /// The other identities of forging authorities, and the stranger that forges.
    Forgeries = 15,
    /// The peer that replays messages of another chain.
    OtherChain = 16,
    /// The miners.
    Miners = 17,
    /// The peers that accept connections and close them.
    HangUp = 18,
    /// The peer that gossips old finality certificates.
    OldFinality = 19,
    /// The strangers that take places.
    Crowd = 24,
}

impl Net {
    /// The address of the network's machine `index`, from 0.
    pub const fn ip(self, index: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, self as u8, index + 1))
    }
}

/// Port of the nodes' peer-to-peer connections.
pub const PEER_PORT: u16 = 9000;
/// Port of an execution client's Engine API.
pub const ENGINE_PORT: u16 = 8551;
/// Port of an execution client's public JSON-RPC API.
pub const RPC_PORT: u16 = 8545;

/// Port of a node's mining RPC.
pub const MINING_PORT: u16 = 3000;

/// One of the nodes with an authority's key. Every authority has one, a twin authority two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The authority, from 0.
    pub index: u8,
    /// True for the second node of a twin authority.
    pub is_twin: bool,
}

impl Seat {
    /// The address of its machine of this role.
    pub fn ip(self, role: MachineRole) -> IpAddr {
        let net = match (role, self.is_twin) {
            (MachineRole::Node, false) => Net::Nodes,
            (MachineRole::Node, true) => Net::TwinNodes,
            (MachineRole::Execution, false) => Net::Execution,
            (MachineRole::Execution, true) => Net::TwinExecution,
        };
        net.ip(self.index)
    }

    /// The name of its machine of this role.
    pub fn name(self, role: MachineRole) -> String {
        format!(
            "{}{}{}",
            role.word(),
            self.index + 1,
            if self.is_twin { "twin" } else { "" }
        )
    }

    /// The secret of the libp2p identity; a twin has its own.
    pub fn identity(self) -> [u8; 32] {
        [if self.is_twin { 0xc0 } else { 0x80 } + self.index; 32]
    }
}

/// The address of a machine of an authority's first seat.
pub fn machine_ip(index: u8, role: MachineRole) -> IpAddr {
    Seat {
        index,
        is_twin: false,
    }
    .ip(role)
}

/// The address of the first node of an authority.
pub fn node_ip(index: u8) -> IpAddr {
    machine_ip(index, MachineRole::Node)
}

/// The libp2p peer id of an authority's first node.
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
