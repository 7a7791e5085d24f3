//! Connections: dialling, the status handshake, liveness, penalties and disconnection.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use alys_runtime::{buggify, rand, time, trace};
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionError, ConnectionId, DialError};
use libp2p::{PeerId, identify, ping};

use super::Service;
use crate::addr::{PeerAddr, to_multiaddr, to_socket};
use crate::api::{DisconnectReason, Event};
use crate::backlog::{Backlog, Meter};
use crate::behaviour::millis;
use crate::handshake::{Mismatch, check_identify};
use crate::interceptor;
use crate::scores::{Offence, Standing};
use crate::wire::Topic;

/// Delay before a refused or unanswered status request is repeated.
pub(super) const STATUS_RETRY_MS: u64 = 1000;
/// Delay before the status request is repeated after an answer that exceeded a budget. Longer,
/// because the repeated requests use up the budget that the peer grants this node.
pub(super) const STATUS_DROPPED_RETRY_MS: u64 = 5000;
/// Delay before a peer of another chain is disconnected, so that it detects the mismatch too and
/// logs the reason.
const WRONG_CHAIN_CLOSE_DELAY_MS: u64 = 1000;

/// A connected peer.
pub(super) struct Peer {
    connection: ConnectionId,
    addr: SocketAddr,
    outbound: bool,
    since_ms: u64,
    /// Time of its last activity.
    active_ms: u64,
    /// Its status named our chain, and [`Event::PeerConnected`] was emitted.
    admitted: bool,
    /// When to request its status; `None` while a request is outstanding or answered.
    status_due_ms: Option<u64>,
    /// Its subscriptions.
    topics: BTreeSet<Topic>,
    /// [`Event::PeerSubscribed`] was emitted.
    subscribed: bool,
    /// Measures its connection.
    meter: Option<Arc<Meter>>,
    /// The gossip that it has not read.
    pub(super) backlog: Backlog,
    /// Heartbeats in a row at which the queue of messages for it was full, and the last one.
    slow: (u32, u64),
    /// Set while the peer is being disconnected. Its messages are ignored then.
    pub(super) closing: Option<DisconnectReason>,
    /// When a closing peer is disconnected, if not at once.
    close_at_ms: Option<u64>,
}

impl Service {
    /// Adds a known address, unless it is our own.
    pub(super) fn add_address(&mut self, addr: PeerAddr) {
        let local = self.config.key.peer_id();
        if addr.peer == Some(local) || addr.socket == self.config.listen {
            return;
        }
        let now_ms = self.now_ms();
        if !self.dialler.add(addr.clone(), now_ms) {
            tracing::warn!(%addr, "the limit of known addresses is reached");
        }
        self.update_expected();
    }

    /// Updates the gate's sets of peers with a known address and of their hosts.
    fn update_expected(&mut self) {
        let gate = &mut self.swarm.behaviour_mut().gate;
        gate.set_expected(self.dialler.peers());
        gate.set_expected_hosts(self.dialler.hosts());
    }

    pub(super) fn dial_due(&mut self, now_ms: u64) {
        let due = self.dialler.take_due(now_ms, |peer| {
            self.peers.contains_key(peer) || self.scores.is_banned(peer, now_ms)
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
            DialError::LocalPeerId { .. } => return self.dialler.mark_own(&socket),
            DialError::WrongPeerId { obtained, .. } if self.warned_addresses.insert(socket) => {
                let expected = peer;
                let found = obtained;
                tracing::warn!(%socket, ?expected, %found, "another node answers at this address");
            }
            DialError::Denied { .. } => {
                // Our own gate refused the connection, but the identity is known now: a connected
                // peer is not dialled again, and an expected one is admitted next time.
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
        let peer = Peer {
            connection,
            addr,
            outbound: endpoint.is_dialer(),
            since_ms: now_ms,
            active_ms: now_ms,
            admitted: false,
            status_due_ms: Some(now_ms),
            topics: BTreeSet::new(),
            subscribed: false,
            meter: self.meters.get(&addr),
            backlog: Backlog::default(),
            slow: (0, now_ms),
            closing: None,
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
        trace::event("net.closed", &id.to_bytes());
        let now_ms = self.now_ms();
        self.dialler.disconnected(&id, now_ms, rand::u64());
        self.requests.forget_peer(&id);
        if peer.admitted {
            trace::event("net.disconnected", &id.to_bytes());
            self.emit(Event::PeerDisconnected {
                peer: id,
                reason: peer.closing.unwrap_or(DisconnectReason::Closed),
            });
        }
    }

    /// Records activity of the peer. False when it is disconnected or closing, and its messages
    /// must be ignored.
    pub(super) fn note_activity(&mut self, id: &PeerId) -> bool {
        let now_ms = self.now_ms();
        match self.peers.get_mut(id) {
            Some(peer) if peer.closing.is_none() => {
                peer.active_ms = now_ms;
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn was_active_since(&self, id: &PeerId, ms: u64) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.active_ms >= ms)
    }

    pub(super) fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => {
                tracing::trace!(peer = %event.peer, rtt_ms = millis(rtt), "pong");
                self.note_activity(&event.peer);
            }
            Err(error) => tracing::debug!(peer = %event.peer, %error, "ping failed"),
        }
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else {
            return;
        };
        if !self.note_activity(&peer_id) {
            return;
        }
        let protocols = info.protocols.iter().map(|protocol| protocol.as_ref());
        if let Err(mismatch) = check_identify(&self.config.chain, &info.protocol_version, protocols)
        {
            self.refuse_wrong_chain(peer_id, mismatch);
        }
    }

    /// Admits a peer whose status names our chain.
    pub(super) fn admit(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.admitted || peer.closing.is_some() {
            return;
        }
        peer.admitted = true;
        let expected = peer.outbound || self.swarm.behaviour().gate.is_expected(&id);
        let event = Event::PeerConnected {
            peer: id,
            addr: peer.addr,
            outbound: peer.outbound,
            expected,
        };
        self.dialler.admitted(&id);
        trace::event("net.connected", &id.to_bytes());
        if self.scores.was_banned(&id) {
            trace::reached("state.net.returned_after_ban");
        }
        self.emit(event);
        self.report_subscribed(id);
    }

    /// The peer has subscribed to a topic, or unsubscribed from it.
    pub(super) fn on_subscription(&mut self, id: PeerId, topic: Topic, is_subscribed: bool) {
        if !self.note_activity(&id) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            if is_subscribed {
                peer.topics.insert(topic);
            } else {
                peer.topics.remove(&topic);
            }
        }
        self.report_subscribed(id);
    }

    /// Emits [`Event::PeerSubscribed`] once an admitted peer has subscribed to all topics.
    fn report_subscribed(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.admitted
            && !peer.subscribed
            && Topic::ALL.iter().all(|topic| peer.topics.contains(topic))
        {
            peer.subscribed = true;
            self.emit(Event::PeerSubscribed { peer: id });
        }
    }

    /// Bans a peer of another chain for [`crate::Timing::wrong_chain_ban`], after which its
    /// operator may have reconfigured it.
    pub(super) fn refuse_wrong_chain(&mut self, id: PeerId, mismatch: Mismatch) {
        if self
            .peers
            .get(&id)
            .is_none_or(|peer| peer.closing.is_some())
        {
            return;
        }
        if let Some(left_out) = self.lines.peer_refused.admit(time::now()) {
            tracing::warn!(peer = %id, %mismatch, left_out, "peer refused");
        } else {
            tracing::debug!(peer = %id, %mismatch, "peer refused");
        }
        let now_ms = self.now_ms();
        self.scores
            .ban(id, millis(self.config.timing.wrong_chain_ban), now_ms);
        self.emit(Event::WrongChain { peer: id, mismatch });
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.closing = Some(DisconnectReason::WrongChain);
            trace::event("net.closing", &id.to_bytes());
            peer.close_at_ms = Some(now_ms + WRONG_CHAIN_CLOSE_DELAY_MS);
        }
    }

    /// Charges the peer with an offence, and disconnects it when that leads to a ban.
    pub(super) fn penalize(&mut self, id: PeerId, offence: Offence) {
        let now_ms = self.now_ms();
        if self.scores.is_banned(&id, now_ms) {
            return;
        }
        if offence.is_soft() && interceptor::is_spared(self.is_known(&id)) {
            tracing::debug!(peer = %id, ?offence, "a known peer is throttled");
            return;
        }
        match self.scores.report(id, offence, now_ms) {
            Standing::Tolerated { score } => {
                tracing::debug!(peer = %id, ?offence, score, "peer misbehaved");
            }
            Standing::Banned { until_ms } => {
                let for_ms = until_ms.saturating_sub(now_ms);
                if let Some(left_out) = self.lines.peer_banned.admit(time::now()) {
                    tracing::warn!(peer = %id, ?offence, for_ms, left_out, "peer banned");
                } else {
                    tracing::debug!(peer = %id, ?offence, for_ms, "peer banned");
                }
                trace::event("net.banned", &id.to_bytes());
                trace::reached("state.net.banned");
                self.emit(Event::Banned { peer: id, offence });
                self.disconnect(id, DisconnectReason::Banned);
            }
        }
    }

    /// True for peers with a known address and authorities, which are never banned for load.
    pub(super) fn is_known(&self, id: &PeerId) -> bool {
        self.swarm.behaviour().gate.is_known(id)
    }

    /// Disconnects the peers that do not read their gossip.
    pub(super) fn check_backlogs(&mut self) {
        let limit = self.config.limits.max_unread_bytes;
        let mut slow = Vec::new();
        for (id, peer) in &mut self.peers {
            let Some(meter) = &peer.meter else {
                continue;
            };
            let (written, is_waiting) = meter.read();
            let unread = peer.backlog.observe(written, is_waiting);
            if unread > limit && peer.closing.is_none() {
                slow.push((*id, unread));
            }
        }
        for (id, unread) in slow {
            trace::reached("state.net.slow_reader");
            tracing::debug!(peer = %id, unread, limit, "peer does not read");
            self.disconnect(id, DisconnectReason::SlowReader);
        }
    }

    /// Disconnects a peer whose queue is full for several heartbeats in a row: it keeps the memory
    /// of its messages as long as it stays, and receives no others.
    pub(super) fn on_slow_peer(&mut self, id: PeerId) {
        let now_ms = self.now_ms();
        let longest_gap_ms = 3 * millis(self.config.timing.heartbeat);
        let limit = self.config.limits.max_slow_heartbeats;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (count, last_ms) = peer.slow;
        let is_in_a_row = now_ms.saturating_sub(last_ms) <= longest_gap_ms;
        let count = if is_in_a_row { count + 1 } else { 1 };
        peer.slow = (count, now_ms);
        tracing::debug!(peer = %id, count, "peer is too slow for its messages");
        if count >= limit {
            trace::reached("state.net.slow_reader");
            self.disconnect(id, DisconnectReason::SlowReader);
        }
    }

    /// Updates the gate's bans and closes the peer's connection, if there is one.
    pub(super) fn disconnect(&mut self, id: PeerId, reason: DisconnectReason) {
        let now_ms = self.now_ms();
        self.swarm
            .behaviour_mut()
            .gate
            .set_banned(self.scores.banned(now_ms));
        if let Some(peer) = self.peers.get_mut(&id)
            && (peer.closing.is_none() || peer.close_at_ms.take().is_some())
        {
            peer.closing = peer.closing.or(Some(reason));
            trace::event("net.closing", &id.to_bytes());
            // An error means that the connection has already closed, and its event follows.
            let _ = self.swarm.disconnect_peer_id(id);
        }
    }

    /// Checks the liveness and the handshake deadline of every peer, and sends due status requests.
    pub(super) fn check_peers(&mut self, now_ms: u64) {
        for id in self.swarm.behaviour_mut().gate.take_unproven() {
            tracing::debug!(peer = %id, "all places are taken");
            self.disconnect(id, DisconnectReason::Full);
        }
        let timing = self.config.timing;
        let silence_ms = millis(timing.ping_interval).saturating_add(millis(timing.ping_timeout));
        let handshake_ms = millis(timing.handshake_timeout);
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            if peer.closing.is_some() {
                if peer.close_at_ms.take_if(|at| *at <= now_ms).is_some() {
                    // As in `disconnect`, an error means that the connection has already closed.
                    let _ = self.swarm.disconnect_peer_id(id);
                }
                continue;
            }
            if now_ms.saturating_sub(peer.active_ms) > silence_ms {
                trace::reached("state.net.silent");
                tracing::debug!(peer = %id, "peer is silent");
                self.disconnect(id, DisconnectReason::Silent);
            } else if !peer.admitted && now_ms.saturating_sub(peer.since_ms) > handshake_ms {
                trace::reached("state.net.no_status");
                tracing::debug!(peer = %id, "no status in time");
                self.penalize(id, Offence::NoStatus);
                self.disconnect(id, DisconnectReason::Closed);
            } else {
                self.send_due_status(id, now_ms);
            }
        }
    }

    pub(super) fn send_due_status(&mut self, id: PeerId, now_ms: u64) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.status_due_ms.is_some_and(|due| due <= now_ms)
            && let Some(status) = self.status.clone()
        {
            peer.status_due_ms = None;
            self.send_own_status(id, &status);
        }
    }

    /// Schedules another status request after one that was refused or lost, or whose answer was
    /// dropped.
    pub(super) fn retry_status(&mut self, id: &PeerId, delay_ms: u64) {
        let now_ms = self.now_ms();
        if let Some(peer) = self.peers.get_mut(id) {
            let wait_ms = if buggify!("net.status.late_retry") {
                3 * delay_ms
            } else {
                delay_ms
            };
            peer.status_due_ms = Some(now_ms + wait_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::tests::peer;
    use crate::tests::config;
    use alys_runtime::log_limit::MAX_LINES;

    /// A stranger returns with another identity after each ban.
    #[test]
    fn a_few_bans_are_logged_for_the_operator_and_the_others_counted() {
        alys_runtime::block_on_main(async {
            let bound = Service::bind(config(1, vec![])).await;
            let (mut service, _handle, _events) = bound.expect("a free port");
            for number in 0..100 {
                service.penalize(peer(number), Offence::Hostile);
            }
            let expected = 100 - u64::from(MAX_LINES);
            assert_eq!(service.lines.peer_banned.left_out(), expected);
        });
    }
}
