//! Places of incoming connections in their handshake: a pure table that decides, and the handles
//! that end the connections which lose their place.
//!
//! A connection takes a place before it has sent a byte, so places are shared by subnet: a new
//! connection always gets one, and the subnet with the most of them loses its oldest. A flood from
//! one subnet therefore replaces its own connections only. The hosts of known addresses have places
//! of their own, which no other host can take.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Transport};

use crate::addr::to_socket;

/// Places of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// For addresses that are not known.
    pub(crate) strangers: usize,
    /// For the hosts of known addresses.
    pub(crate) known: usize,
}

/// The part of an address that one party usually controls: a /24 of IPv4, a /64 of IPv6; of a known
/// address the whole host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Subnet(IpAddr);

impl Subnet {
    fn of(ip: IpAddr, is_known: bool) -> Self {
        let ip = ip.to_canonical();
        if is_known {
            return Self(ip);
        }
        Self(match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

#[derive(Debug)]
struct Pending {
    id: ConnectionId,
    socket: SocketAddr,
    subnet: Subnet,
}

/// The connections in their handshake, the oldest first.
#[derive(Debug)]
pub(crate) struct PendingHandshakes {
    places: Places,
    strangers: VecDeque<Pending>,
    known: VecDeque<Pending>,
}

impl PendingHandshakes {
    pub(crate) fn new(places: Places) -> Self {
        Self {
            places,
            strangers: VecDeque::new(),
            known: VecDeque::new(),
        }
    }

    /// Gives the connection a place. Returns the address of the connection that loses its own, if
    /// none was free.
    pub(crate) fn admit(
        &mut self,
        id: ConnectionId,
        socket: SocketAddr,
        is_known: bool,
    ) -> Option<SocketAddr> {
        let (pending, limit) = if is_known {
            (&mut self.known, self.places.known)
        } else {
            (&mut self.strangers, self.places.strangers)
        };
        let subnet = Subnet::of(socket.ip(), is_known);
        pending.push_back(Pending { id, socket, subnet });
        if pending.len() <= limit {
            return None;
        }
        let mut counts: BTreeMap<Subnet, usize> = BTreeMap::new();
        for pending in pending.iter() {
            *counts.entry(pending.subnet).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or_default();
        let oldest = pending
            .iter()
            .position(|pending| counts.get(&pending.subnet) == Some(&most))?;
        pending.remove(oldest).map(|pending| pending.socket)
    }

    /// The handshake has ended.
    pub(crate) fn remove(&mut self, id: ConnectionId) {
        self.strangers.retain(|pending| pending.id != id);
        self.known.retain(|pending| pending.id != id);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.strangers.len() + self.known.len()
    }
}

/// Handles of the incoming connections in their handshake, by remote address. Shared between the
/// transport, which registers them, and the gate, which ends them. Bounded by the places, because
/// the gate ends a connection for each one beyond.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upgrades(Arc<Mutex<Handles>>);

#[derive(Debug, Default)]
struct Handles {
    by_socket: BTreeMap<SocketAddr, (u64, AbortHandle)>,
    last: u64,
}

impl Upgrades {
    fn lock(&self) -> MutexGuard<'_, Handles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection of this address, if it is still in its handshake.
    pub(crate) fn abort(&self, socket: &SocketAddr) {
        if let Some((_, handle)) = self.lock().by_socket.remove(socket) {
            handle.abort();
        }
    }

    fn register(&self, socket: SocketAddr, handle: AbortHandle) -> Registered {
        let mut handles = self.lock();
        handles.last = handles.last.wrapping_add(1);
        let number = handles.last;
        handles.by_socket.insert(socket, (number, handle));
        Registered {
            upgrades: self.clone(),
            socket,
            number,
        }
    }

    /// Registers the incoming connections of `transport`, so that [`Self::abort`] can end them.
    pub(crate) fn guard(
        &self,
        transport: Boxed<(PeerId, StreamMuxerBox)>,
    ) -> Boxed<(PeerId, StreamMuxerBox)> {
        GuardedTransport {
            inner: transport,
            upgrades: self.clone(),
        }
        .boxed()
    }
}

/// Removes its handle when the handshake ends.
struct Registered {
    upgrades: Upgrades,
    socket: SocketAddr,
    /// Distinguishes the connection from a later one of the same address.
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut handles = self.upgrades.lock();
        let current = handles.by_socket.get(&self.socket);
        if current.is_some_and(|(number, _)| *number == self.number) {
            handles.by_socket.remove(&self.socket);
        }
    }
}

type Output = (PeerId, StreamMuxerBox);
type Upgrade = BoxFuture<'static, io::Result<Output>>;

struct GuardedTransport {
    inner: Boxed<Output>,
    upgrades: Upgrades,
}

impl GuardedTransport {
    fn guard_upgrade(&self, from: Option<SocketAddr>, upgrade: Upgrade) -> Upgrade {
        let (handle, registration) = AbortHandle::new_pair();
        let registered = from.map(|socket| self.upgrades.register(socket, handle));
        async move {
            let outcome = Abortable::new(upgrade, registration).await;
            drop(registered);
            outcome.unwrap_or_else(|Aborted| {
                let reason = "a newer connection took the place of this handshake";
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
            })
        }
        .boxed()
    }
}

impl Transport for GuardedTransport {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = <Boxed<Output> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(addr, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Upgrade, io::Error>> {
        let event = futures::ready!(Transport::poll(Pin::new(&mut self.inner), cx));
        let from = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => to_socket(send_back_addr),
            _ => None,
        };
        Poll::Ready(event.map_upgrade(|upgrade| self.guard_upgrade(from, upgrade)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_subnet_with_the_most_places_loses_its_oldest() {
        // (address, is it known, the address that loses its place), with 3 places each
        let table = [
            ("10.0.0.1:1", false, None),
            ("10.0.1.1:1", false, None),
            ("10.0.1.2:1", false, None),
            // Another subnet than the flood's: the flood pays.
            ("10.0.2.1:1", false, Some("10.0.1.1:1")),
            // All subnets have one place: the oldest pays.
            ("10.0.3.1:1", false, Some("10.0.0.1:1")),
            // A flood from one subnet replaces its own.
            ("10.0.3.2:1", false, Some("10.0.3.1:1")),
            ("10.0.3.3:1", false, Some("10.0.3.2:1")),
            ("[2001:db8::1]:1", false, Some("10.0.1.2:1")),
            ("[2001:db8::2]:1", false, Some("[2001:db8::1]:1")),
            ("[::ffff:10.0.3.9]:1", false, Some("10.0.3.3:1")),
            // Known hosts have places of their own, by host.
            ("10.0.3.1:2", true, None),
            ("10.0.3.2:2", true, None),
            ("10.0.3.2:3", true, None),
            ("10.0.3.4:2", true, Some("10.0.3.2:2")),
            ("10.0.3.4:3", true, Some("10.0.3.4:2")),
        ];
        let mut pending = PendingHandshakes::new(Places {
            strangers: 3,
            known: 3,
        });
        for (row, (addr, is_known, expected)) in table.into_iter().enumerate() {
            let expected = expected.map(socket);
            let lost = pending.admit(id(row), socket(addr), is_known);
            assert_eq!(lost, expected, "row {row}");
        }
        assert_eq!(pending.len(), 6);
        for n in 0..table.len() {
            pending.remove(id(n));
        }
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn thousands_of_silent_connections_from_one_subnet_leave_an_honest_one_alone() {
        let mut pending = PendingHandshakes::new(Places {
            strangers: 16,
            known: 16,
        });
        let honest = socket("192.0.2.7:4000");
        assert_eq!(pending.admit(id(0), honest, false), None);
        for n in 1..5000usize {
            let flood = SocketAddr::from(([10, 0, 0, (n % 250) as u8], 1000 + (n % 60_000) as u16));
            assert_ne!(pending.admit(id(n), flood, false), Some(honest), "{n}");
        }
        assert_eq!(pending.len(), 16);
    }

    #[test]
    fn a_handle_belongs_to_one_handshake() {
        let upgrades = Upgrades::default();
        let addr = socket("10.0.0.1:1");
        let (first, _) = AbortHandle::new_pair();
        let (second, _) = AbortHandle::new_pair();
        let earlier = upgrades.register(addr, first.clone());
        let later = upgrades.register(addr, second.clone());
        drop(earlier);
        upgrades.abort(&addr);
        assert!(!first.is_aborted() && second.is_aborted());
        drop(later);
        assert!(upgrades.lock().by_socket.is_empty());
    }
}
