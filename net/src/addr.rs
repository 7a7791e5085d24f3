//! Identity and address of a peer: node keys, the text form `ip:port[/p2p/<id>]`, and multiaddrs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId};

/// The node's ed25519 network key. The caller stores the bytes; a node with other bytes is another
/// peer.
#[derive(Clone)]
pub struct NodeKey(Keypair);

impl NodeKey {
    /// Any 32 bytes are a valid ed25519 secret.
    pub fn from_bytes(mut secret: [u8; 32]) -> Self {
        Self(
            Keypair::ed25519_from_bytes(&mut secret)
                .expect("any 32 bytes are a valid ed25519 secret"),
        )
    }

    /// The libp2p id, derived from the public key.
    pub fn peer_id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.0
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.peer_id())
    }
}

/// An address to dial, with the identity expected there if it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddr {
    /// IP address and TCP port.
    pub socket: SocketAddr,
    /// The expected identity. A peer with another one is refused.
    pub peer: Option<PeerId>,
}

/// A peer address that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// Neither `ip:port` nor `/ip4/../tcp/..`.
    #[error(
        "{text:?} is no peer address: expected ip:port, ip:port/p2p/ID or /ip4/IP/tcp/PORT[/p2p/ID]"
    )]
    Unreadable {
        /// The text, shortened.
        text: String,
    },
    /// The text after `/p2p/` is not a peer id.
    #[error("{text:?} does not name a valid peer id after /p2p/")]
    PeerId {
        /// The text, shortened.
        text: String,
    },
}

impl FromStr for PeerAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let shown = || text.chars().take(128).collect::<String>();
        let unreadable = || AddrError::Unreadable { text: shown() };
        let (socket, id) = match text.split_once("/p2p/") {
            Some((socket, id)) => (socket, Some(id)),
            None => (text, None),
        };
        let peer = id
            .map(|id| PeerId::from_str(id).map_err(|_| AddrError::PeerId { text: shown() }))
            .transpose()?;
        let socket = if socket.starts_with('/') {
            let multiaddr = Multiaddr::from_str(socket).map_err(|_| unreadable())?;
            to_socket(&multiaddr).ok_or_else(unreadable)?
        } else {
            socket.parse().map_err(|_| unreadable())?
        };
        Ok(Self { socket, peer })
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.socket)?;
        match self.peer {
            Some(peer) => write!(f, "/p2p/{peer}"),
            None => Ok(()),
        }
    }
}

/// `/ip4|ip6/../tcp/..`
pub(crate) fn to_multiaddr(socket: SocketAddr) -> Multiaddr {
    let ip = match socket.ip() {
        IpAddr::V4(ip) => Part::Ip4(ip),
        IpAddr::V6(ip) => Part::Ip6(ip),
    };
    Multiaddr::empty().with(ip).with(Part::Tcp(socket.port()))
}

/// The TCP socket of a multiaddr of exactly the form `/ip4|ip6/../tcp/..[/p2p/..]`.
pub(crate) fn to_socket(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Part::Ip4(ip) => IpAddr::V4(ip),
        Part::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Part::Tcp(port) = parts.next()? else {
        return None;
    };
    match parts.next() {
        None | Some(Part::P2p(_)) if parts.next().is_none() => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A peer id derived from `n`.
    pub(crate) fn peer(n: u32) -> PeerId {
        let mut secret = [7; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        NodeKey::from_bytes(secret).peer_id()
    }

    #[test]
    fn addresses_round_trip() {
        let id = peer(1);
        let v4 = SocketAddr::from(([127, 0, 0, 1], 9000));
        let table = [
            ("127.0.0.1:9000".to_string(), v4, None),
            (format!("127.0.0.1:9000/p2p/{id}"), v4, Some(id)),
            ("/ip4/127.0.0.1/tcp/9000".to_string(), v4, None),
            (format!("/ip4/127.0.0.1/tcp/9000/p2p/{id}"), v4, Some(id)),
            (
                format!("[::1]:1/p2p/{id}"),
                SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], 1)),
                Some(id),
            ),
        ];
        for (text, socket, peer) in table {
            let addr: PeerAddr = text.parse().expect(&text);
            assert_eq!(addr, PeerAddr { socket, peer }, "{text}");
            assert_eq!(
                addr.to_string().parse::<PeerAddr>(),
                Ok(addr.clone()),
                "{text}"
            );
            assert_eq!(to_socket(&to_multiaddr(socket)), Some(socket));
        }
    }

    #[test]
    fn malformed_addresses_are_refused_with_the_reason() {
        for text in [
            "",
            "localhost:1",
            "1.2.3.4",
            "1.2.3.4:70000",
            "/ip4/1.2.3.4",
            "/dns4/x/tcp/1",
            "/ip4/1.2.3.4/tcp/1/ws",
        ] {
            assert!(
                matches!(text.parse::<PeerAddr>(), Err(AddrError::Unreadable { .. })),
                "{text}"
            );
        }
        for text in ["1.2.3.4:1/p2p/", "1.2.3.4:1/p2p/nobody"] {
            assert!(
                matches!(text.parse::<PeerAddr>(), Err(AddrError::PeerId { .. })),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,200}") {
            let _ = text.parse::<PeerAddr>();
        }
    }
}
