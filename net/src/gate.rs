//! Admission of connections: bans, limits, one connection per peer. It is the first behaviour of
//! the swarm, so that no other behaviour sees a refused connection.
//!
//! A second connection to a connected peer is never accepted beside the first. gossipsub announces
//! its subscriptions on the first connection only; if that were closed in favour of the second, the
//! peer might never learn them. Therefore either the first stays and the second is refused, or both
//! end and the peers redial.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};

use alys_types::bls::PublicKeyBytes;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::addr::to_socket;
use crate::handshakes::{PendingHandshakes, Places, Upgrades};
use crate::interceptor;
use crate::vouched::Vouched;

/// The direction of a connection: inbound when the peer dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// The decision between two connections to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The first stays, the second is refused.
    KeepFirst,
    /// The first is closed and the second refused; each side redials after its backoff.
    DropBoth,
}

/// Decides between two connections to one peer: the first, established `age_ms` ago, and a second
/// one. The two sides may see them in opposite orders.
///
/// - Young connections in opposite directions are simultaneous dials. The one dialled by the
///   smaller peer id stays.
/// - A peer that dials while we consider it connected has lost its end of the first (it crashed, or
///   the link broke), so the first is dead although our socket is open.
/// - Our own second dial, to an address that we did not know to be this peer's, leaves the first
///   alone.
pub(crate) fn resolve(
    local: &PeerId,
    remote: &PeerId,
    first: Direction,
    age_ms: u64,
    second: Direction,
    crossing_ms: u64,
) -> Resolution {
    let crossing = first != second && age_ms < crossing_ms;
    let first_preferred = (first == Direction::Outbound) == (local < remote);
    let keeps_first = if crossing {
        first_preferred
    } else {
        second == Direction::Outbound
    };
    if keeps_first {
        Resolution::KeepFirst
    } else {
        Resolution::DropBoth
    }
}

/// The reason for a refused connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectionRefusal {
    #[error("the peer is banned")]
    Banned,
    #[error("the peer is connected already")]
    Duplicate,
    #[error("{limit} peers are connected")]
    Full { limit: usize },
    #[error("the node is shutting down")]
    Closed,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct GateLimits {
    pub(crate) max_peers: usize,
    pub(crate) max_proving: usize,
    pub(crate) proving_ms: u64,
    pub(crate) places: Places,
    pub(crate) crossing_ms: u64,
}

struct Connection {
    id: ConnectionId,
    direction: Direction,
    since_ms: u64,
    place: Place,
}

/// The place of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Within `max_peers`, or of a known peer.
    Own,
    /// Beyond `max_peers`: the connection ends unless its peer is vouched for in time.
    Proving,
    /// Lost to a newer connection, and not closed yet.
    Lost,
}

pub(crate) struct Gate {
    local: PeerId,
    limits: GateLimits,
    /// The monotonic clock, in milliseconds.
    clock: Box<dyn Fn() -> u64 + Send>,
    banned: BTreeSet<PeerId>,
    /// Peers with a known address, which do not count towards `max_peers`.
    expected: BTreeSet<PeerId>,
    /// Peers that proved an authority's key. They do not count either.
    vouched: Vouched,
    /// Hosts of known addresses, whose handshakes have places of their own.
    expected_hosts: BTreeSet<IpAddr>,
    connected: BTreeMap<PeerId, Connection>,
    pending_inbound: PendingHandshakes,
    /// Ends handshakes that lost their place.
    upgrades: Upgrades,
    closed: bool,
    to_close: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

impl Gate {
    pub(crate) fn new(
        local: PeerId,
        limits: GateLimits,
        clock: Box<dyn Fn() -> u64 + Send>,
        upgrades: Upgrades,
    ) -> Self {
        Self {
            local,
            limits,
            clock,
            banned: BTreeSet::new(),
            expected: BTreeSet::new(),
            vouched: Vouched::default(),
            expected_hosts: BTreeSet::new(),
            connected: BTreeMap::new(),
            pending_inbound: PendingHandshakes::new(limits.places),
            upgrades,
            closed: false,
            to_close: VecDeque::new(),
            waker: None,
        }
    }

    /// Replaces the set of banned peers.
    pub(crate) fn set_banned(&mut self, banned: impl Iterator<Item = PeerId>) {
        self.banned = banned.collect();
    }

    /// Replaces the set of peers with a known address. Those that are connected beyond `max_peers`
    /// no longer have to prove themselves.
    pub(crate) fn set_expected(&mut self, expected: impl Iterator<Item = PeerId>) {
        self.expected = expected.collect();
        for (peer, connection) in &mut self.connected {
            if connection.place == Place::Proving && self.expected.contains(peer) {
                connection.place = Place::Own;
            }
        }
    }

    /// Replaces the set of hosts of known addresses.
    pub(crate) fn set_expected_hosts(&mut self, hosts: impl Iterator<Item = IpAddr>) {
        self.expected_hosts = hosts.map(|host| host.to_canonical()).collect();
    }

    /// The peer has proven this authority's key.
    pub(crate) fn vouch(&mut self, peer: PeerId, key: PublicKeyBytes) {
        let left = self.vouched.insert(peer, key);
        if let Some(connection) = self.connected.get_mut(&peer) {
            connection.place = Place::Own;
        }
        self.demote(left);
    }

    /// Forgets the peers that proved another key than these.
    pub(crate) fn set_authorities(&mut self, keys: &[PublicKeyBytes]) {
        if interceptor::forgets_former_authorities() {
            let removed = self.vouched.retain(keys);
            self.demote(removed);
        }
    }

    /// Peers that no longer count as authorities stay connected if there are places for strangers,
    /// see [`Self::take_unproven`].
    fn demote(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            let is_known = self.is_known(&peer);
            if let Some(connection) = self.connected.get_mut(&peer)
                && connection.place == Place::Own
                && !is_known
            {
                connection.place = Place::Proving;
            }
        }
    }

    /// True for peers with a known address.
    pub(crate) fn is_expected(&self, peer: &PeerId) -> bool {
        self.expected.contains(peer)
    }

    /// True for peers with a known address and authorities, which always have a place.
    pub(crate) fn is_known(&self, peer: &PeerId) -> bool {
        self.is_expected(peer) || self.vouched.contains(peer)
    }

    /// Connected peers whose time to prove that they are authorities is over. They stay as
    /// strangers if there is a place by now.
    pub(crate) fn take_unproven(&mut self) -> Vec<PeerId> {
        let now_ms = (self.clock)();
        let proving_ms = self.limits.proving_ms;
        let mut free = self.limits.max_peers.saturating_sub(self.strangers());
        let mut unproven = Vec::new();
        for (peer, connection) in &mut self.connected {
            let is_over = now_ms.saturating_sub(connection.since_ms) > proving_ms;
            if connection.place != Place::Proving || !is_over {
                continue;
            }
            if free > 0 {
                free -= 1;
                connection.place = Place::Own;
            } else {
                connection.place = Place::Lost;
                unproven.push(*peer);
            }
        }
        unproven
    }

    /// Connected peers that count towards `max_peers`.
    fn strangers(&self) -> usize {
        self.connected
            .iter()
            .filter(|(peer, connection)| connection.place == Place::Own && !self.is_known(peer))
            .count()
    }

    /// Makes room for one more connection that has yet to prove itself. False if there is none.
    fn make_room_to_prove(&mut self) -> bool {
        let proving = self
            .connected
            .iter_mut()
            .filter(|(_, connection)| connection.place == Place::Proving);
        let proving: Vec<_> = proving.collect();
        if proving.len() < self.limits.max_proving {
            return true;
        }
        let oldest = proving
            .into_iter()
            .min_by_key(|(_, connection)| connection.since_ms);
        let Some((peer, connection)) = oldest else {
            return false;
        };
        connection.place = Place::Lost;
        self.to_close.push_back((*peer, connection.id));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    /// Refuses all further connections.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    fn check(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        direction: Direction,
    ) -> Result<(), ConnectionRefusal> {
        self.pending_inbound.remove(id);
        if self.closed {
            return Err(ConnectionRefusal::Closed);
        }
        if self.banned.contains(&peer) {
            return Err(ConnectionRefusal::Banned);
        }
        let now_ms = (self.clock)();
        if let Some(first) = self.connected.get(&peer) {
            let age_ms = now_ms.saturating_sub(first.since_ms);
            let crossing_ms = self.limits.crossing_ms;
            match resolve(
                &self.local,
                &peer,
                first.direction,
                age_ms,
                direction,
                crossing_ms,
            ) {
                Resolution::KeepFirst => {}
                Resolution::DropBoth => {
                    self.to_close.push_back((peer, first.id));
                    if let Some(waker) = self.waker.take() {
                        waker.wake();
                    }
                }
            }
            return Err(ConnectionRefusal::Duplicate);
        }
        let limit = self.limits.max_peers;
        let place = if self.is_known(&peer) || self.strangers() < limit {
            Place::Own
        } else if self.make_room_to_prove() {
            Place::Proving
        } else {
            return Err(ConnectionRefusal::Full { limit });
        };
        self.connected.insert(
            peer,
            Connection {
                id,
                direction,
                since_ms: now_ms,
                place,
            },
        );
        Ok(())
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.closed {
            return Err(ConnectionDenied::new(ConnectionRefusal::Closed));
        }
        let unspecified = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let socket = to_socket(remote).unwrap_or(unspecified);
        let is_known = self.expected_hosts.contains(&socket.ip().to_canonical());
        if let Some(replaced) = self.pending_inbound.admit(id, socket, is_known) {
            alys_runtime::trace::reached("state.net.handshake_replaced");
            self.upgrades.abort(&replaced);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(id, peer, Direction::Inbound)
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(id, peer, Direction::Outbound)
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(failure) => {
                self.pending_inbound.remove(failure.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if self
                    .connected
                    .get(&closed.peer_id)
                    .is_some_and(|c| c.id == closed.connection_id)
                {
                    self.connected.remove(&closed.peer_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        if let Some((peer_id, id)) = self.to_close.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(id),
            });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Direction::{Inbound, Outbound};
    use super::Resolution::{DropBoth, KeepFirst};
    use super::*;
    use crate::addr::tests::peer;
    use crate::vouched::MAX_VOUCHED;

    #[test]
    fn two_connections_are_resolved_by_the_table() {
        let (a, b) = (peer(1), peer(2));
        let (small, large) = if a < b { (a, b) } else { (b, a) };
        // (local id, first, its age, second, resolution) with a crossing window of 3000 ms
        let table = [
            (small, Outbound, 0, Inbound, KeepFirst),
            (small, Inbound, 0, Outbound, DropBoth),
            (large, Inbound, 2999, Outbound, KeepFirst),
            (large, Outbound, 2999, Inbound, DropBoth),
            // The peer dials again because it has lost the first.
            (small, Outbound, 3000, Inbound, DropBoth),
            (large, Inbound, 0, Inbound, DropBoth),
            (small, Inbound, 60_000, Inbound, DropBoth),
            // This node dials a second address of a connected peer.
            (small, Inbound, 3000, Outbound, KeepFirst),
            (large, Outbound, 0, Outbound, KeepFirst),
        ];
        for (row, (local, first, age, second, expected)) in table.into_iter().enumerate() {
            let remote = if local == small { large } else { small };
            assert_eq!(
                resolve(&local, &remote, first, age, second, 3000),
                expected,
                "row {row}"
            );
        }
    }

    #[test]
    fn the_two_sides_never_keep_different_connections() {
        let (a, b) = (peer(1), peer(2));
        // A connection is outbound on one side and inbound on the other. A side keeps its first
        // connection only if the smaller id dialled it, so two sides that keep one keep the same.
        for first_of_a in [Inbound, Outbound] {
            let second = if first_of_a == Inbound {
                Outbound
            } else {
                Inbound
            };
            if resolve(&a, &b, first_of_a, 0, second, 3000) == KeepFirst {
                let same_seen_by_b = second;
                let other = first_of_a;
                assert_eq!(resolve(&b, &a, same_seen_by_b, 0, other, 3000), KeepFirst);
                assert_eq!(resolve(&b, &a, other, 0, same_seen_by_b, 3000), DropBoth);
            }
        }
    }

    fn gate(max_peers: usize) -> Gate {
        let limits = GateLimits {
            max_peers,
            max_proving: 0,
            proving_ms: 1000,
            places: Places {
                strangers: 2,
                known: 1,
            },
            crossing_ms: 3000,
        };
        Gate::new(peer(0), limits, Box::new(|| 0), Upgrades::default())
    }

    fn key(n: u8) -> PublicKeyBytes {
        PublicKeyBytes([n; 48])
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn bans_limits_and_closing_are_enforced() {
        let mut gate = gate(1);
        gate.set_banned([peer(1)].into_iter());
        gate.set_expected([peer(4)].into_iter());
        assert_eq!(
            gate.check(id(1), peer(1), Inbound),
            Err(ConnectionRefusal::Banned)
        );
        assert_eq!(gate.check(id(2), peer(2), Inbound), Ok(()));
        assert_eq!(
            gate.check(id(3), peer(3), Inbound),
            Err(ConnectionRefusal::Full { limit: 1 })
        );
        assert_eq!(
            gate.check(id(4), peer(4), Inbound),
            Ok(()),
            "a known peer may exceed the limit"
        );
        assert_eq!(
            gate.check(id(5), peer(2), Inbound),
            Err(ConnectionRefusal::Duplicate)
        );
        gate.set_banned([].into_iter());
        gate.close();
        assert_eq!(
            gate.check(id(6), peer(1), Inbound),
            Err(ConnectionRefusal::Closed)
        );
    }

    #[test]
    fn authorities_prove_themselves_beyond_the_limit() {
        let now_ms = Arc::new(AtomicU64::new(0));
        let clock = now_ms.clone();
        let limits = GateLimits {
            max_peers: 1,
            max_proving: 2,
            proving_ms: 1000,
            places: Places {
                strangers: 9,
                known: 9,
            },
            crossing_ms: 3000,
        };
        let clock = Box::new(move || clock.load(Ordering::Relaxed));
        let mut gate = Gate::new(peer(0), limits, clock, Upgrades::default());
        for n in 1..=3 {
            now_ms.store(n, Ordering::Relaxed);
            let number = u32::try_from(n).expect("small");
            assert_eq!(
                gate.check(id(number as usize), peer(number), Inbound),
                Ok(())
            );
        }
        assert!(gate.to_close.is_empty());
        gate.vouch(peer(3), key(1));
        assert!(gate.is_known(&peer(3)) && !gate.is_known(&peer(2)));
        // The authority no longer needs a place, and a newer stranger takes the last free one.
        assert_eq!(gate.check(id(4), peer(4), Inbound), Ok(()));
        assert!(gate.to_close.is_empty());
        assert_eq!(gate.check(id(5), peer(5), Inbound), Ok(()));
        assert_eq!(gate.to_close, [(peer(2), id(2))], "the oldest makes room");
        gate.connected.remove(&peer(2));
        assert!(gate.take_unproven().is_empty(), "their time is not over");
        now_ms.store(2000, Ordering::Relaxed);
        let mut expected = vec![peer(4), peer(5)];
        expected.sort();
        assert_eq!(gate.take_unproven(), expected);
        // A remembered authority is admitted at once.
        gate.connected.clear();
        assert_eq!(gate.check(id(6), peer(6), Inbound), Ok(()));
        assert_eq!(gate.check(id(7), peer(3), Inbound), Ok(()));
        assert_eq!(gate.strangers(), 1);
    }

    #[test]
    fn a_peer_whose_address_becomes_known_keeps_its_place() {
        let mut gate = gate(1);
        gate.limits.max_proving = 1;
        assert_eq!(gate.check(id(1), peer(1), Inbound), Ok(()));
        assert_eq!(gate.check(id(2), peer(2), Inbound), Ok(()));
        gate.set_expected([peer(2)].into_iter());
        assert_eq!(gate.check(id(3), peer(3), Inbound), Ok(()));
        assert!(gate.to_close.is_empty(), "it makes no room for a stranger");
        gate.clock = Box::new(|| 2000);
        assert_eq!(gate.take_unproven(), [peer(3)]);
    }

    #[test]
    fn vouched_peers_are_bounded() {
        let mut gate = gate(1);
        for n in 0..=(MAX_VOUCHED as u8) {
            gate.vouch(peer(n.into()), key(n));
        }
        assert_eq!(gate.vouched.entries(), MAX_VOUCHED);
        assert!(!gate.is_known(&peer(0)) && gate.is_known(&peer(1)));
    }

    #[test]
    fn identities_of_a_key_displace_each_other_and_no_peer_of_another_key() {
        let mut gate = gate(1);
        gate.vouch(peer(0), key(0));
        for n in 1..=65 {
            gate.vouch(peer(n), key(1));
        }
        let known = (0..=65).filter(|n| gate.is_known(&peer(*n)));
        assert_eq!(known.collect::<Vec<_>>(), [0, 62, 63, 64, 65]);
        // A peer that proves its key again is no further one.
        gate.vouch(peer(62), key(1));
        assert!(gate.is_known(&peer(63)));
        gate.vouch(peer(66), key(1));
        assert!(gate.is_known(&peer(62)) && !gate.is_known(&peer(63)));
    }

    #[test]
    fn a_peer_whose_key_left_the_set_is_a_stranger() {
        let mut gate = gate(1);
        gate.limits.max_proving = 1;
        gate.set_expected([peer(4)].into_iter());
        assert_eq!(gate.check(id(1), peer(1), Inbound), Ok(()));
        for n in 2..=4 {
            gate.vouch(peer(n.into()), key(n));
            assert_eq!(gate.check(id(n.into()), peer(n.into()), Inbound), Ok(()));
        }
        gate.set_authorities(&[key(3)]);
        assert!(!gate.is_known(&peer(2)) && gate.is_known(&peer(3)));
        assert!(gate.is_known(&peer(4)), "its address is known");
        gate.clock = Box::new(|| 2000);
        assert_eq!(gate.take_unproven(), [peer(2)]);
    }

    #[test]
    fn a_displaced_identity_keeps_a_place_of_strangers_at_most() {
        for (max_peers, unproven) in [(0, vec![peer(1)]), (1, vec![])] {
            let mut gate = gate(max_peers);
            gate.limits.max_proving = 1;
            gate.vouch(peer(1), key(1));
            assert_eq!(gate.check(id(1), peer(1), Inbound), Ok(()));
            for n in 2..=5 {
                gate.vouch(peer(n), key(1));
            }
            gate.clock = Box::new(|| 2000);
            assert_eq!(gate.take_unproven(), unproven, "{max_peers}");
        }
    }

    #[test]
    fn handshakes_beyond_the_places_replace_the_oldest() {
        let mut gate = gate(9);
        gate.set_expected_hosts(["10.0.9.9".parse().expect("an address")].into_iter());
        let addr = Multiaddr::empty();
        // (address, places taken)
        let table = [
            ("/ip4/10.0.0.1/tcp/1", 1),
            ("/ip4/10.0.0.1/tcp/2", 2),
            ("/ip4/10.0.0.1/tcp/3", 2),
            ("/ip4/10.0.9.9/tcp/1", 3),
            ("/ip4/10.0.9.9/tcp/2", 3),
        ];
        for (row, (remote, taken)) in table.into_iter().enumerate() {
            let remote = remote.parse().expect("an address");
            let admitted = gate.handle_pending_inbound_connection(id(row), &addr, &remote);
            assert!(
                admitted.is_ok(),
                "row {row}: a new connection always gets a place"
            );
            assert_eq!(gate.pending_inbound.len(), taken, "row {row}");
        }
        assert_eq!(gate.check(id(2), peer(1), Inbound), Ok(()));
        assert_eq!(gate.pending_inbound.len(), 2);
    }
}
