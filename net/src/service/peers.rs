//! Connections: dialling, the status handshake, liveness, punishment, farewell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use alys_runtime::{buggify, rand, trace};
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionError, ConnectionId, DialError};
use libp2p::{PeerId, identify, ping};

use super::Service;
use crate::addr::{PeerAddr, to_multiaddr, to_socket};
use crate::api::{Event, Gone};
use crate::behaviour::millis;
use crate::handshake::{Mismatch, judge_identify};
use crate::rate::TokenBucket;
use crate::scores::{Offence, Standing};
use crate::wire::{Protocol, Topic};

/// Until a refused or unanswered status request is tried again.
const STATUS_RETRY_MS: u64 = 1000;
/// A peer of another chain is disconnected so much later: by then it has learned the same about us, and says
/// so in its own log, instead of wondering why nobody talks to it.
const FAREWELL_MS: u64 = 1000;

/// A connected peer.
pub(super) struct Peer {
    connection: ConnectionId,
    addr: SocketAddr,
    outbound: bool,
    since_ms: u64,
    /// When it last showed a sign of life.
    heard_ms: u64,
    /// Its status was good, and the node knows of it.
    admitted: bool,
    /// When to ask for its status; `None` while asked or answered.
    status_due_ms: Option<u64>,
    /// Topics that it listens to.
    topics: BTreeSet<Topic>,
    /// The node was told that it listens.
    announced: bool,
    pub(super) gossip_rate: TokenBucket,
    pub(super) request_rates: BTreeMap<Protocol, TokenBucket>,
    /// Being disconnected, and why. Nothing it still says counts.
    pub(super) leaving: Option<Gone>,
    /// When a leaving peer is disconnected, if not at once.
    close_at_ms: Option<u64>,
}

impl Service {
    /// Learns an address, unless it is our own.
    pub(super) fn learn_address(&mut self, addr: PeerAddr) {
        let local = self.config.key.peer_id();
        if addr.peer == Some(local) || addr.socket == self.config.listen {
            return;
        }
        let now_ms = self.now_ms();
        if !self.dialler.add(addr.clone(), now_ms) {
            tracing::warn!(%addr, "too many addresses are known, this one is not dialled");
        }
        self.update_expected();
    }

    /// Tells the gate which peers have a known address.
    fn update_expected(&mut self) {
        self.swarm
            .behaviour_mut()
            .gate
            .set_expected(self.dialler.peers());
    }

    pub(super) fn dial_due(&mut self, now_ms: u64) {
        let (peers, scores) = (&self.peers, &self.scores);
        let due = self.dialler.due(now_ms, |peer| {
            peers.contains_key(peer) || scores.is_banned(peer, now_ms)
        });
        for PeerAddr { socket, peer } in due {
            let addr = to_multiaddr(socket);
            let opts = match peer {
                Some(peer) => DialOpts::peer_id(peer).addresses(vec![addr]).build(),
                None => DialOpts::unknown_peer_id().address(addr).build(),
            };
            let id = opts.connection_id();
            match self.swarm.dial(opts) {
                Ok(()) => {
                    self.dials.insert(id, socket);
                }
                Err(error) => {
                    tracing::debug!(%socket, %error, "cannot dial");
                    self.dialler.failed(&socket, now_ms, rand::u64());
                }
            }
        }
    }

    pub(super) fn on_dial_failed(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        let Some(socket) = self.dials.remove(&id) else {
            return;
        };
        tracing::debug!(%socket, %error, "dial failed");
        let now_ms = self.now_ms();
        match error {
            DialError::LocalPeerId { .. } => return self.dialler.own(&socket),
            DialError::WrongPeerId { obtained, .. } if self.strangers.insert(socket) => {
                tracing::warn!(%socket, expected = ?peer, found = %obtained, "another node answers at this address");
            }
            DialError::Denied { .. } => {
                // Refused by our own gate, but now we know whose address it is: a connected peer is not
                // dialled again, and an expected one finds a place next time.
                if let Some(peer) = peer {
                    self.dialler.identified(&socket, peer);
                    self.update_expected();
                }
            }
            _ => {}
        }
        self.dialler.failed(&socket, now_ms, rand::u64());
    }

    pub(super) fn on_established(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let now_ms = self.now_ms();
        if let Some(socket) = self.dials.remove(&connection) {
            self.dialler.established(&socket, id, now_ms);
            self.update_expected();
        }
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let addr = to_socket(endpoint.get_remote_address()).unwrap_or(unspecified);
        let limits = &self.config.limits;
        let bucket = |protocol: Protocol| {
            let (burst, per_second) = protocol.rate();
            (protocol, TokenBucket::new(burst, per_second, now_ms))
        };
        let peer = Peer {
            connection,
            addr,
            outbound: endpoint.is_dialer(),
            since_ms: now_ms,
            heard_ms: now_ms,
            admitted: false,
            status_due_ms: Some(now_ms),
            topics: BTreeSet::new(),
            announced: false,
            gossip_rate: TokenBucket::new(limits.gossip_burst, limits.gossip_per_second, now_ms),
            request_rates: Protocol::ALL.into_iter().map(bucket).collect(),
            leaving: None,
            close_at_ms: None,
        };
        tracing::debug!(peer = %id, %addr, outbound = peer.outbound, "connected");
        self.peers.insert(id, peer);
        self.send_due_status(id, now_ms);
    }

    pub(super) fn on_closed(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        cause: Option<&ConnectionError>,
    ) {
        if self
            .peers
            .get(&id)
            .is_none_or(|peer| peer.connection != connection)
        {
            return;
        }
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        tracing::debug!(peer = %id, cause = ?cause.map(ToString::to_string), "disconnected");
        let now_ms = self.now_ms();
        self.dialler.disconnected(&id, now_ms, rand::u64());
        self.requests.forget_peer(&id);
        if peer.admitted {
            trace::event("net.disconnected", &id.to_bytes());
            self.emit(Event::PeerDisconnected {
                peer: id,
                reason: peer.leaving.unwrap_or(Gone::Closed),
            });
        }
    }

    /// Notes a sign of life. False when the peer is gone or going, and what it says counts no more.
    pub(super) fn heard(&mut self, id: &PeerId) -> bool {
        let now_ms = self.now_ms();
        match self.peers.get_mut(id) {
            Some(peer) if peer.leaving.is_none() => {
                peer.heard_ms = now_ms;
                true
            }
            _ => false,
        }
    }

    /// Whether the peer has shown a sign of life since then.
    pub(super) fn was_alive_after(&self, id: &PeerId, ms: u64) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.heard_ms >= ms)
    }

    pub(super) fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => {
                tracing::trace!(peer = %event.peer, rtt_ms = millis(rtt), "pong");
                self.heard(&event.peer);
            }
            Err(error) => tracing::debug!(peer = %event.peer, %error, "ping failed"),
        }
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else {
            return;
        };
        if !self.heard(&peer_id) {
            return;
        }
        let protocols = info.protocols.iter().map(|protocol| protocol.as_ref());
        if let Err(mismatch) = judge_identify(&self.config.chain, &info.protocol_version, protocols)
        {
            self.wrong_chain(peer_id, mismatch);
        }
    }

    /// The peer's status names our chain.
    pub(super) fn admit(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.admitted || peer.leaving.is_some() {
            return;
        }
        peer.admitted = true;
        let expected = peer.outbound || self.dialler.peers().any(|known| known == id);
        let event = Event::PeerConnected {
            peer: id,
            addr: peer.addr,
            outbound: peer.outbound,
            expected,
        };
        self.dialler.admitted(&id);
        trace::event("net.connected", &id.to_bytes());
        self.emit(event);
        self.announce_listener(id);
    }

    /// The peer listens to one more topic, or to one less.
    pub(super) fn on_subscription(&mut self, id: PeerId, topic: Topic, listens: bool) {
        if !self.heard(&id) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            if listens {
                peer.topics.insert(topic)
            } else {
                peer.topics.remove(&topic)
            };
        }
        self.announce_listener(id);
    }

    fn announce_listener(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.admitted
            && !peer.announced
            && Topic::ALL.iter().all(|topic| peer.topics.contains(topic))
        {
            peer.announced = true;
            self.emit(Event::PeerListens { peer: id });
        }
    }

    /// Refuses a peer of another chain, for as long as nobody is likely to have reconfigured it.
    pub(super) fn wrong_chain(&mut self, id: PeerId, mismatch: Mismatch) {
        if self
            .peers
            .get(&id)
            .is_none_or(|peer| peer.leaving.is_some())
        {
            return;
        }
        tracing::warn!(peer = %id, %mismatch, "peer refused");
        let now_ms = self.now_ms();
        self.scores
            .ban(id, millis(self.config.timing.wrong_chain_ban), now_ms);
        self.emit(Event::WrongChain { peer: id, mismatch });
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.leaving = Some(Gone::WrongChain);
            peer.close_at_ms = Some(now_ms + FAREWELL_MS);
        }
    }

    /// Takes points off, and bans at the limit.
    pub(super) fn punish(&mut self, id: PeerId, offence: Offence) {
        let now_ms = self.now_ms();
        if self.scores.is_banned(&id, now_ms) {
            return;
        }
        match self.scores.report(id, offence, now_ms) {
            Standing::Tolerated { score } => {
                tracing::debug!(peer = %id, ?offence, score, "peer misbehaved");
            }
            Standing::Banned { until_ms } => {
                tracing::warn!(peer = %id, ?offence, for_ms = until_ms.saturating_sub(now_ms), "peer banned");
                trace::event("net.banned", &id.to_bytes());
                trace::reached("state.net.banned");
                self.emit(Event::Banned { peer: id, offence });
                self.disconnect(id, Gone::Banned);
            }
        }
    }

    /// Closes the connection, if there is one, and brings the gate up to date with the bans.
    pub(super) fn disconnect(&mut self, id: PeerId, reason: Gone) {
        let now_ms = self.now_ms();
        self.swarm
            .behaviour_mut()
            .gate
            .set_banned(self.scores.banned(now_ms));
        if let Some(peer) = self.peers.get_mut(&id)
            && (peer.leaving.is_none() || peer.close_at_ms.take().is_some())
        {
            peer.leaving = peer.leaving.or(Some(reason));
            // An error would mean that the connection has closed already; then its event is on the way.
            let _ = self.swarm.disconnect_peer_id(id);
        }
    }

    /// Liveness, deadlines of the handshake, status requests that are due.
    pub(super) fn look_after_peers(&mut self, now_ms: u64) {
        let timing = self.config.timing;
        let silence_ms = millis(timing.ping_interval).saturating_add(millis(timing.ping_timeout));
        let handshake_ms = millis(timing.handshake_timeout);
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            if peer.leaving.is_some() {
                if peer.close_at_ms.take_if(|at| *at <= now_ms).is_some() {
                    // As in `disconnect`: an error means that it has closed already.
                    let _ = self.swarm.disconnect_peer_id(id);
                }
                continue;
            }
            if now_ms.saturating_sub(peer.heard_ms) > silence_ms {
                trace::reached("state.net.silent");
                tracing::debug!(peer = %id, "no sign of life");
                self.disconnect(id, Gone::Silent);
            } else if !peer.admitted && now_ms.saturating_sub(peer.since_ms) > handshake_ms {
                trace::reached("state.net.no_status");
                tracing::debug!(peer = %id, "no status in time");
                self.punish(id, Offence::NoStatus);
                self.disconnect(id, Gone::Closed);
            } else {
                self.send_due_status(id, now_ms);
            }
        }
    }

    pub(super) fn send_due_status(&mut self, id: PeerId, now_ms: u64) {
        let (Some(status), Some(peer)) = (&self.status, self.peers.get_mut(&id)) else {
            return;
        };
        if peer.status_due_ms.is_some_and(|due| due <= now_ms) {
            peer.status_due_ms = None;
            let status = status.clone();
            self.send_own_status(id, &status);
        }
    }

    /// The status request was refused or lost: ask again soon.
    pub(super) fn retry_status(&mut self, id: &PeerId) {
        let now_ms = self.now_ms();
        if let Some(peer) = self.peers.get_mut(id) {
            let wait_ms = if buggify!("net.status.late_retry") {
                3 * STATUS_RETRY_MS
            } else {
                STATUS_RETRY_MS
            };
            peer.status_due_ms = Some(now_ms + wait_ms);
        }
    }
}
