//! When to dial which address. Pure; time and jitter are arguments.
//!
//! A known address is never given up: the wait doubles up to a cap and stays there. It starts over only once
//! the peer has been admitted, so that one that accepts and hangs up is not dialled in a loop. Where both
//! sides know each other, the one with the larger peer id waits a little longer, so that they rarely dial at
//! the same moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use libp2p::PeerId;

use crate::addr::PeerAddr;
use crate::interceptor;

/// How long to wait between attempts, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialPolicy {
    /// Wait after the first failure.
    pub initial_ms: u64,
    /// Longest wait, jitter not counted.
    pub max_ms: u64,
    /// What the side with the larger peer id adds.
    pub larger_id_extra_ms: u64,
    /// Most addresses known.
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
    /// To be dialled at that time, unless its peer is connected by then.
    Waiting {
        at_ms: u64,
    },
    Dialling,
    /// Our own address, met while dialling.
    Own,
}

#[derive(Debug)]
struct Entry {
    peer: Option<PeerId>,
    state: DialState,
    failures: u32,
}

/// All known addresses and the state of dialling them.
#[derive(Debug)]
pub struct Dialler {
    policy: DialPolicy,
    local: PeerId,
    entries: BTreeMap<SocketAddr, Entry>,
}

impl Dialler {
    /// Knows no address yet. `local` is our own id.
    pub fn new(policy: DialPolicy, local: PeerId) -> Self {
        Self {
            policy,
            local,
            entries: BTreeMap::new(),
        }
    }

    /// Learns an address, to be dialled at once. False when there is no room for it. A known address is
    /// dialled again without waiting for its backoff to end.
    pub fn add(&mut self, addr: PeerAddr, now_ms: u64) -> bool {
        if !self.entries.contains_key(&addr.socket)
            && self.entries.len() >= self.policy.max_addresses
        {
            return false;
        }
        let entry = self.entries.entry(addr.socket).or_insert(Entry {
            peer: None,
            state: DialState::Waiting { at_ms: now_ms },
            failures: 0,
        });
        entry.peer = addr.peer.or(entry.peer);
        if let DialState::Waiting { at_ms } = &mut entry.state {
            *at_ms = now_ms.min(*at_ms);
        }
        true
    }

    /// The addresses to dial now, in order. `skip` names peers that are connected or banned; an address
    /// whose peer is not known yet is dialled to find out.
    pub fn due(&mut self, now_ms: u64, skip: impl Fn(&PeerId) -> bool) -> Vec<PeerAddr> {
        let mut due = Vec::new();
        for (socket, entry) in &mut self.entries {
            let DialState::Waiting { at_ms } = entry.state else {
                continue;
            };
            if now_ms < at_ms || entry.peer.as_ref().is_some_and(&skip) {
                continue;
            }
            entry.state = DialState::Dialling;
            due.push(PeerAddr {
                socket: *socket,
                peer: entry.peer,
            });
        }
        due
    }

    /// The attempt failed. `jitter` is a random number; a quarter of the wait is drawn from it.
    pub fn failed(&mut self, socket: &SocketAddr, now_ms: u64, jitter: u64) {
        let (policy, local) = (self.policy, self.local);
        if let Some(entry) = self.entries.get_mut(socket)
            && entry.state == DialState::Dialling
        {
            entry.state = DialState::Waiting {
                at_ms: now_ms + entry.next_wait(&policy, &local, jitter),
            };
        }
    }

    /// The attempt succeeded and the peer has shown this identity.
    pub fn established(&mut self, socket: &SocketAddr, peer: PeerId, now_ms: u64) {
        if let Some(entry) = self.entries.get_mut(socket) {
            entry.peer = Some(peer);
            entry.state = DialState::Waiting { at_ms: now_ms };
        }
    }

    /// The attempt failed, or will be said to have, but whose address it is was found out.
    pub fn identified(&mut self, socket: &SocketAddr, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(socket) {
            entry.peer = Some(peer);
        }
    }

    /// The address is our own: never again.
    pub fn own(&mut self, socket: &SocketAddr) {
        if let Some(entry) = self.entries.get_mut(socket) {
            entry.state = DialState::Own;
        }
    }

    /// The peer was admitted: the next wait is the shortest again.
    pub fn admitted(&mut self, peer: &PeerId) {
        for entry in self
            .entries
            .values_mut()
            .filter(|entry| entry.peer.as_ref() == Some(peer))
        {
            entry.failures = 0;
        }
    }

    /// The peer is gone: its addresses wait their turn again.
    pub fn disconnected(&mut self, peer: &PeerId, now_ms: u64, jitter: u64) {
        let (policy, local) = (self.policy, self.local);
        for entry in self
            .entries
            .values_mut()
            .filter(|entry| entry.peer.as_ref() == Some(peer))
        {
            if let DialState::Waiting { .. } = entry.state {
                let at_ms = now_ms + entry.next_wait(&policy, &local, jitter);
                interceptor::schedule_redial(&mut entry.state, at_ms);
            }
        }
    }

    /// The peers whose addresses are known, as those of the federation's members are.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.entries.values().filter_map(|entry| entry.peer)
    }
}

impl Entry {
    fn next_wait(&mut self, policy: &DialPolicy, local: &PeerId, jitter: u64) -> u64 {
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
    fn an_address_is_dialled_for_ever_with_a_capped_wait() {
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
            assert_eq!(dialler.due(now, |_| false).len(), 1, "at {now}");
            assert!(
                dialler.due(now, |_| false).is_empty(),
                "one attempt at a time"
            );
            dialler.failed(&socket(1), now, 0);
            assert!(
                dialler.due(now + wait - 1, |_| false).is_empty(),
                "before {wait}"
            );
            now += wait;
        }
    }

    #[test]
    fn the_wait_starts_over_after_admission_only() {
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
            assert_eq!(dialler.due(at, |_| false), vec![addr.clone()], "at {at}");
            dialler.established(&socket(1), large, at);
            if admitted {
                dialler.admitted(&large);
            }
            dialler.disconnected(&large, at, 0);
            assert!(dialler.due(next - 1, |_| false).is_empty());
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
            assert_eq!(dialler.due(0, |_| false).len(), 1);
            dialler.failed(&socket(1), 0, 0);
            assert!(dialler.due(wait - 1, |_| false).is_empty());
            assert_eq!(dialler.due(wait, |_| false).len(), 1);
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
            "there is a limit"
        );
        assert!(
            dialler.add(
                PeerAddr {
                    socket: socket(3),
                    peer: None
                },
                0
            ),
            "a known one is no surplus"
        );
        let due = dialler.due(0, |p| *p == peer(1));
        assert_eq!(
            due.iter().map(|a| a.socket).collect::<Vec<_>>(),
            [socket(2), socket(3)]
        );
        assert_eq!(
            due[1].peer,
            Some(peer(3)),
            "a known identity is not forgotten"
        );
        dialler.own(&socket(2));
        dialler.failed(&socket(2), 0, 0);
        assert!(dialler.due(u64::MAX, |p| *p != peer(9)).is_empty());
        dialler.identified(&socket(2), peer(2));
        assert_eq!(
            dialler.peers().collect::<Vec<_>>(),
            [peer(1), peer(2), peer(3)]
        );
    }

    #[test]
    fn adding_a_known_address_dials_it_now() {
        let mut dialler = dialler(peer(9));
        let addr = PeerAddr {
            socket: socket(1),
            peer: None,
        };
        dialler.add(addr.clone(), 0);
        dialler.due(0, |_| false);
        dialler.failed(&socket(1), 0, 7);
        assert!(dialler.due(1, |_| false).is_empty());
        dialler.add(addr.clone(), 1);
        assert_eq!(dialler.due(1, |_| false), vec![addr]);
    }
}
