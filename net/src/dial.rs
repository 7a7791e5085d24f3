//! The schedule of dials, with backoff. Pure; time and jitter are arguments.
//!
//! A known address is retried without end. Its backoff doubles up to a cap, and is reset only when
//! the peer is admitted, so that a peer which accepts and hangs up is not dialled in a loop. Of two
//! peers that know each other, the one with the larger id waits longer, so that they rarely dial at
//! the same moment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use libp2p::PeerId;

use crate::addr::PeerAddr;
use crate::interceptor;

/// Backoff between attempts, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialPolicy {
    /// Backoff after the first failure.
    pub initial_ms: u64,
    /// Longest backoff, without jitter.
    pub max_ms: u64,
    /// Added on the side with the larger peer id.
    pub larger_id_extra_ms: u64,
    /// Limit of known addresses.
    pub max_addresses: usize,
}

impl Default for DialPolicy {
    fn default() -> Self {
        Self {
            initial_ms: 250,
            max_ms: 5_000,
            larger_id_extra_ms: 400,
            max_addresses: 256,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialState {
    /// Due at that time, unless its peer is connected by then.
    Waiting {
        at_ms: u64,
    },
    Dialling,
    /// Our own address, recognised by a dial.
    Own,
}

#[derive(Debug)]
struct KnownAddress {
    peer: Option<PeerId>,
    state: DialState,
    failures: u32,
}

/// All known addresses with their dial state.
#[derive(Debug)]
pub struct Dialler {
    policy: DialPolicy,
    local: PeerId,
    addresses: BTreeMap<SocketAddr, KnownAddress>,
}

impl Dialler {
    /// Starts without addresses. `local` is the id of this node.
    pub fn new(policy: DialPolicy, local: PeerId) -> Self {
        Self {
            policy,
            local,
            addresses: BTreeMap::new(),
        }
    }

    /// Adds an address that is due at once; for a known one this ends its backoff. False when the
    /// limit is reached.
    pub fn add(&mut self, addr: PeerAddr, now_ms: u64) -> bool {
        if !self.addresses.contains_key(&addr.socket)
            && self.addresses.len() >= self.policy.max_addresses
        {
            return false;
        }
        let known = self.addresses.entry(addr.socket).or_insert(KnownAddress {
            peer: None,
            state: DialState::Waiting { at_ms: now_ms },
            failures: 0,
        });
        known.peer = addr.peer.or(known.peer);
        if let DialState::Waiting { at_ms } = &mut known.state {
            *at_ms = now_ms.min(*at_ms);
        }
        true
    }

    /// Takes the addresses that are due, sorted, as being dialled. `skip` is true for peers that
    /// are connected or banned; an address of unknown identity is always dialled.
    pub fn take_due(&mut self, now_ms: u64, skip: impl Fn(&PeerId) -> bool) -> Vec<PeerAddr> {
        let mut due = Vec::new();
        for (socket, known) in &mut self.addresses {
            let DialState::Waiting { at_ms } = known.state else {
                continue;
            };
            if now_ms < at_ms || known.peer.as_ref().is_some_and(&skip) {
                continue;
            }
            known.state = DialState::Dialling;
            due.push(PeerAddr {
                socket: *socket,
                peer: known.peer,
            });
        }
        due
    }

    /// The attempt failed. `jitter` is a random number that lengthens the backoff by up to a
    /// quarter.
    pub fn failed(&mut self, socket: &SocketAddr, now_ms: u64, jitter: u64) {
        if let Some(known) = self.addresses.get_mut(socket)
            && known.state == DialState::Dialling
        {
            known.state = DialState::Waiting {
                at_ms: now_ms + known.next_backoff(&self.policy, &self.local, jitter),
            };
        }
    }

    /// The attempt succeeded and the peer proved this identity.
    pub fn established(&mut self, socket: &SocketAddr, peer: PeerId, now_ms: u64) {
        if let Some(known) = self.addresses.get_mut(socket) {
            known.peer = Some(peer);
            known.state = DialState::Waiting { at_ms: now_ms };
            known.failures = interceptor::failures_after_connection(known.failures);
        }
    }

    /// The peer at the address proved this identity although the connection was refused.
    pub fn identified(&mut self, socket: &SocketAddr, peer: PeerId) {
        if let Some(known) = self.addresses.get_mut(socket) {
            known.peer = Some(peer);
        }
    }

    /// Excludes our own address from further dials.
    pub fn mark_own(&mut self, socket: &SocketAddr) {
        if let Some(known) = self.addresses.get_mut(socket) {
            known.state = DialState::Own;
        }
    }

    /// The peer was admitted, which resets the backoff of its addresses.
    pub fn admitted(&mut self, peer: &PeerId) {
        for known in of_peer(&mut self.addresses, *peer) {
            known.failures = 0;
        }
    }

    /// The connection has ended; the addresses of the peer are due after their next backoff.
    pub fn disconnected(&mut self, peer: &PeerId, now_ms: u64, jitter: u64) {
        for known in of_peer(&mut self.addresses, *peer) {
            if let DialState::Waiting { .. } = known.state {
                let at_ms = now_ms + known.next_backoff(&self.policy, &self.local, jitter);
                interceptor::schedule_redial(&mut known.state, at_ms);
            }
        }
    }

    /// The hosts of known addresses.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.keys().map(SocketAddr::ip)
    }

    /// The peers of known addresses, among them the members of the federation.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.addresses.values().filter_map(|known| known.peer)
    }
}

fn of_peer(
    addresses: &mut BTreeMap<SocketAddr, KnownAddress>,
    peer: PeerId,
) -> impl Iterator<Item = &mut KnownAddress> {
    addresses
        .values_mut()
        .filter(move |known| known.peer == Some(peer))
}

impl KnownAddress {
    fn next_backoff(&mut self, policy: &DialPolicy, local: &PeerId, jitter: u64) -> u64 {
        let wait = policy
            .initial_ms
            .saturating_mul(1 << self.failures.min(16))
            .min(policy.max_ms);
        self.failures = self.failures.saturating_add(1);
        let extra = match self.peer {
            Some(peer) if *local > peer => policy.larger_id_extra_ms,
            _ => 0,
        };
        wait + extra + jitter % (wait / 4 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::tests::peer;

    fn socket(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 9000))
    }

    fn dialler(local: PeerId) -> Dialler {
        Dialler::new(
            DialPolicy {
                max_addresses: 3,
                ..DialPolicy::default()
            },
            local,
        )
    }

    fn sorted_peers() -> (PeerId, PeerId) {
        let (a, b) = (peer(1), peer(2));
        if a < b { (a, b) } else { (b, a) }
    }

    #[test]
    fn an_address_is_redialled_without_end_and_the_backoff_is_capped() {
        let mut dialler = dialler(peer(9));
        dialler.add(
            PeerAddr {
                socket: socket(1),
                peer: None,
            },
            0,
        );
        let mut now = 0;
        for wait in [250, 500, 1000, 2000, 4000, 5000, 5000]
            .into_iter()
            .chain([5000; 50])
        {
            assert_eq!(dialler.take_due(now, |_| false).len(), 1, "at {now}");
            assert!(
                dialler.take_due(now, |_| false).is_empty(),
                "one attempt at a time"
            );
            dialler.failed(&socket(1), now, 0);
            assert!(
                dialler.take_due(now + wait - 1, |_| false).is_empty(),
                "before {wait}"
            );
            now += wait;
        }
    }

    #[test]
    fn only_admission_resets_the_backoff() {
        let (small, large) = sorted_peers();
        let mut dialler = dialler(small);
        let addr = PeerAddr {
            socket: socket(1),
            peer: Some(large),
        };
        dialler.add(addr.clone(), 0);
        for (at, admitted, next) in [
            (0, false, 250),
            (250, false, 750),
            (750, true, 1000),
            (1000, false, 1500),
        ] {
            assert_eq!(
                dialler.take_due(at, |_| false),
                vec![addr.clone()],
                "at {at}"
            );
            dialler.established(&socket(1), large, at);
            if admitted {
                dialler.admitted(&large);
            }
            dialler.disconnected(&large, at, 0);
            assert!(dialler.take_due(next - 1, |_| false).is_empty());
        }
    }

    #[test]
    fn the_larger_id_waits_longer() {
        let (small, large) = sorted_peers();
        for (local, remote, wait) in [(small, large, 250), (large, small, 650)] {
            let mut dialler = dialler(local);
            dialler.add(
                PeerAddr {
                    socket: socket(1),
                    peer: Some(remote),
                },
                0,
            );
            assert_eq!(dialler.take_due(0, |_| false).len(), 1);
            dialler.failed(&socket(1), 0, 0);
            assert!(dialler.take_due(wait - 1, |_| false).is_empty());
            assert_eq!(dialler.take_due(wait, |_| false).len(), 1);
        }
    }

    #[test]
    fn connected_own_and_surplus_addresses_are_not_dialled() {
        let mut dialler = dialler(peer(9));
        assert!(dialler.add(
            PeerAddr {
                socket: socket(1),
                peer: Some(peer(1))
            },
            0
        ));
        assert!(dialler.add(
            PeerAddr {
                socket: socket(2),
                peer: None
            },
            0
        ));
        assert!(dialler.add(
            PeerAddr {
                socket: socket(3),
                peer: Some(peer(3))
            },
            0
        ));
        assert!(
            !dialler.add(
                PeerAddr {
                    socket: socket(4),
                    peer: None
                },
                0
            ),
            "beyond the limit"
        );
        assert!(
            dialler.add(
                PeerAddr {
                    socket: socket(3),
                    peer: None
                },
                0
            ),
            "a known address does not count again"
        );
        let due = dialler.take_due(0, |p| *p == peer(1));
        assert_eq!(
            due.iter().map(|a| a.socket).collect::<Vec<_>>(),
            [socket(2), socket(3)]
        );
        assert_eq!(due[1].peer, Some(peer(3)), "the known identity is kept");
        dialler.mark_own(&socket(2));
        dialler.failed(&socket(2), 0, 0);
        assert!(dialler.take_due(u64::MAX, |p| *p != peer(9)).is_empty());
        dialler.identified(&socket(2), peer(2));
        assert_eq!(
            dialler.peers().collect::<Vec<_>>(),
            [peer(1), peer(2), peer(3)]
        );
    }

    #[test]
    fn adding_a_known_address_ends_its_backoff() {
        let mut dialler = dialler(peer(9));
        let addr = PeerAddr {
            socket: socket(1),
            peer: None,
        };
        dialler.add(addr.clone(), 0);
        dialler.take_due(0, |_| false);
        dialler.failed(&socket(1), 0, 7);
        assert!(dialler.take_due(1, |_| false).is_empty());
        dialler.add(addr.clone(), 1);
        assert_eq!(dialler.take_due(1, |_| false), vec![addr]);
    }
}
