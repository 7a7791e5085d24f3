//! Admission of connections: bans, limits, one connection per peer. It is the first behaviour of
//! the swarm, so that no other behaviour sees a refused connection.
//!
//! A second connection to a connected peer is never accepted beside the first. gossipsub announces
//! its subscriptions on the first connection only; if that were closed in favour of the second, the
//! peer might never learn them. Therefore either the first stays and the second is refused, or both
//! end and the peers redial.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

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
    #[error("{limit} incoming connections are in their handshake")]
    Pending { limit: usize },
    #[error("the node is shutting down")]
    Closed,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct GateLimits {
    pub(crate) max_peers: usize,
    pub(crate) max_pending_inbound: usize,
    pub(crate) crossing_ms: u64,
}

struct Connection {
    id: ConnectionId,
    direction: Direction,
    since_ms: u64,
}

pub(crate) struct Gate {
    local: PeerId,
    limits: GateLimits,
    /// The monotonic clock, in milliseconds.
    clock: Box<dyn Fn() -> u64 + Send>,
    banned: BTreeSet<PeerId>,
    /// Peers with a known address, which may exceed `max_peers`.
    expected: BTreeSet<PeerId>,
    connected: BTreeMap<PeerId, Connection>,
    pending_inbound: BTreeSet<ConnectionId>,
    closed: bool,
    to_close: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

impl Gate {
    pub(crate) fn new(
        local: PeerId,
        limits: GateLimits,
        clock: Box<dyn Fn() -> u64 + Send>,
    ) -> Self {
        Self {
            local,
            limits,
            clock,
            banned: BTreeSet::new(),
            expected: BTreeSet::new(),
            connected: BTreeMap::new(),
            pending_inbound: BTreeSet::new(),
            closed: false,
            to_close: VecDeque::new(),
            waker: None,
        }
    }

    /// Replaces the set of banned peers.
    pub(crate) fn set_banned(&mut self, banned: impl Iterator<Item = PeerId>) {
        self.banned = banned.collect();
    }

    /// Replaces the set of peers with a known address.
    pub(crate) fn set_expected(&mut self, expected: impl Iterator<Item = PeerId>) {
        self.expected = expected.collect();
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
        self.pending_inbound.remove(&id);
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
        if self.connected.len() >= limit && !self.expected.contains(&peer) {
            return Err(ConnectionRefusal::Full { limit });
        }
        self.connected.insert(
            peer,
            Connection {
                id,
                direction,
                since_ms: now_ms,
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
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let limit = self.limits.max_pending_inbound;
        if self.closed {
            return Err(ConnectionDenied::new(ConnectionRefusal::Closed));
        }
        if self.pending_inbound.len() >= limit {
            return Err(ConnectionDenied::new(ConnectionRefusal::Pending { limit }));
        }
        self.pending_inbound.insert(id);
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
                self.pending_inbound.remove(&failure.connection_id);
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
    use super::Direction::{Inbound, Outbound};
    use super::Resolution::{DropBoth, KeepFirst};
    use super::*;
    use crate::addr::tests::peer;

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
            max_pending_inbound: 2,
            crossing_ms: 3000,
        };
        Gate::new(peer(0), limits, Box::new(|| 0))
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
    fn concurrent_handshakes_are_limited() {
        let mut gate = gate(9);
        let addr = Multiaddr::empty();
        for (n, taken) in [(1, true), (2, true), (3, false)] {
            assert_eq!(
                gate.handle_pending_inbound_connection(id(n), &addr, &addr)
                    .is_ok(),
                taken
            );
        }
        assert_eq!(gate.check(id(1), peer(1), Inbound), Ok(()));
        assert!(
            gate.handle_pending_inbound_connection(id(4), &addr, &addr)
                .is_ok()
        );
    }
}
