//! PeerActor: the connected peers, and requests for missing blocks.
//!
//! Owns the list of peers and the sync plan (decided by `alys-sync-planner`). Guarantees that
//! missing blocks are requested, one range and a few single blocks at a time, until the chain has
//! them. Never checks blocks: the chain does, and a peer pays for invalid ones.

mod metrics;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_net::{Command, Event, Offence, PeerId, Protocol, RequestError};
use alys_runtime::{buggify, buggify_pause};
use alys_sync_planner::{Goal, Planner};
use alys_types::wire::{BlockRange, Message as Wire, RangeRequest, StatusAnswer};
use alys_types::{Block, Hash};

use crate::actors::chain::ChainMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::validation::CheckError;
use crate::events::{NodeEvent, Notice, Observer};
use crate::interceptor;

pub use metrics::Metrics;

/// Interval at which the plan is checked without a message.
const PLAN_INTERVAL: Duration = Duration::from_millis(500);
/// Time for the answer to a fetch by hash, before another peer is asked.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before another peer is asked for a block that one lacks. With [`MAX_FETCHES`] it keeps the
/// rate of requests within the limits of peers.
const FETCH_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Blocks fetched by hash at once.
const MAX_FETCHES: usize = 16;

pub enum PeerMessage {
    /// From the network.
    Event(Box<Event>),
    /// From the network: all connected peers and whether each is expected, after single events were
    /// lost.
    Connected(Vec<(PeerId, bool)>),
    /// From the network: the answer to [`NetworkMessage::Request`].
    Answer {
        tag: u64,
        peer: PeerId,
        result: Result<Vec<u8>, RequestError>,
    },
    /// From the chain: heights that are missing.
    SyncTo(Goal),
    /// From the chain: a certified block lacks its body.
    Fetch { hash: Hash },
    /// From the chain: ask all peers for their statuses, with this one of our own.
    AskStatus { status: Vec<u8> },
    /// From the chain: a range is imported.
    RangeTaken { peer: PeerId, has_progress: bool },
    /// From the chain: a peer's answer is invalid, by the peer's own fault.
    Misbehaved { peer: PeerId, error: CheckError },
    /// From the chain: a restart inside of this node lost a requested range.
    RangeLost,
    /// From the network: all connections and requests are gone.
    NetworkRestarted,
    /// The actor's own timer.
    Plan,
}

impl Message for PeerMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Event(_) => "event",
            Self::Connected(_) => "connected",
            Self::Answer { .. } => "answer",
            Self::SyncTo(_) => "sync_to",
            Self::Fetch { .. } => "fetch",
            Self::AskStatus { .. } => "ask_status",
            Self::RangeTaken { .. } => "range_taken",
            Self::Misbehaved { .. } => "misbehaved",
            Self::RangeLost => "range_lost",
            Self::NetworkRestarted => "network_restarted",
            Self::Plan => "plan",
        }
    }
}

/// Requests without an answer: one range, and the fetches of the time in which the network answers
/// a request, five times [`FETCH_TIMEOUT`].
const MAX_PENDING: usize = 1 + 8 * MAX_FETCHES;

/// A request without an answer yet.
enum Pending {
    Range,
    Status,
    Block(Hash),
}

pub struct PeerActor {
    network: Addr<NetworkMessage>,
    chain: Addr<ChainMessage>,
    observer: Option<Observer>,
    planner: Planner<PeerId>,
    pending: BTreeMap<u64, Pending>,
    next_tag: u64,
    /// Blocks fetched by hash, each with the time from which another peer may be asked.
    fetching: BTreeMap<Hash, Instant>,
    /// Number of fetches so far, which spreads them over the peers.
    fetches: u64,
    started: Instant,
    metrics: Metrics,
}

impl PeerActor {
    pub fn new(
        network: Addr<NetworkMessage>,
        chain: Addr<ChainMessage>,
        observer: Option<Observer>,
        metrics: Metrics,
    ) -> PeerActor {
        PeerActor {
            network,
            chain,
            observer,
            planner: Planner::default(),
            pending: BTreeMap::new(),
            next_tag: 0,
            fetching: BTreeMap::new(),
            fetches: 0,
            started: alys_runtime::time::now(),
            metrics,
        }
    }

    fn now_ms(&self) -> u64 {
        alys_runtime::time::now()
            .duration_since(self.started)
            .as_millis() as u64
    }

    fn command(&self, command: Command) -> bool {
        self.network
            .tell(NetworkMessage::Command(Box::new(command)))
            .is_ok()
    }

    fn tell_chain(&self, message: ChainMessage) -> bool {
        if buggify!("node.peers.busy_chain", 20_000) {
            return false;
        }
        self.chain.tell(message).is_ok()
    }

    fn request(&mut self, peer: PeerId, protocol: Protocol, payload: Vec<u8>, pending: Pending) {
        self.next_tag += 1;
        let tag = self.next_tag;
        let request = NetworkMessage::Request {
            tag,
            peer,
            protocol,
            payload,
        };
        if self.network.tell(request).is_ok() {
            self.metrics.requests.inc();
            self.pending.insert(tag, pending);
            // An answer that found the mailbox full never comes.
            if self.pending.len() > MAX_PENDING {
                self.pending.pop_first();
            }
        } else if let Pending::Range = pending {
            let now = self.now_ms();
            self.planner.range_failed(&peer, now);
        }
    }

    /// Requests the next range of the plan, if one is due.
    fn request_range(&mut self) {
        let now = self.now_ms();
        if let Some(request) = self.planner.next_range(now) {
            tracing::debug!(
                peer = %request.peer,
                start = %request.start,
                count = request.count,
                "requesting blocks"
            );
            let count = if buggify!("node.peers.small_range") {
                1
            } else {
                request.count
            };
            let payload = RangeRequest {
                start: request.start,
                count,
            }
            .encode();
            self.request(
                request.peer,
                Protocol::BlocksByRange,
                payload,
                Pending::Range,
            );
        }
    }

    fn fetch(&mut self, hash: Hash) {
        let now = alys_runtime::time::now();
        if interceptor::fetches_expire() {
            self.fetching.retain(|_, until| now < *until);
        }
        let limit = if buggify!("node.peers.few_fetches") {
            1
        } else {
            MAX_FETCHES
        };
        if self.fetching.contains_key(&hash) || self.fetching.len() >= limit {
            return;
        }
        let now_ms = self.now_ms();
        let Some(peer) = self.planner.peer_for_block(self.fetches, now_ms) else {
            return;
        };
        self.fetches += 1;
        let fetch_timeout = if buggify!("node.peers.patient_fetch") {
            2 * FETCH_TIMEOUT
        } else {
            FETCH_TIMEOUT
        };
        self.fetching.insert(hash, now + fetch_timeout);
        self.request(
            peer,
            Protocol::BlocksByHash,
            vec![hash].encode(),
            Pending::Block(hash),
        );
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::PeerConnected {
                peer,
                addr,
                outbound,
                expected,
            } => {
                tracing::debug!(%peer, %addr, outbound, expected, "connected");
                self.metrics.connections.inc();
                self.planner.connected(peer, expected);
                self.report_count();
            }
            Event::PeerDisconnected { peer, reason } => {
                tracing::debug!(%peer, ?reason, "disconnected");
                let now = self.now_ms();
                self.planner.disconnected(&peer, now);
                self.report_count();
            }
            Event::Status { peer, status } => self.on_status(peer, &status),
            // The network logs refused and banned peers itself.
            Event::WrongChain { peer, mismatch } => {
                self.metrics.refused.inc();
                self.observe(NodeEvent::Notice(Notice::PeerRefused { peer, mismatch }));
            }
            Event::Banned { peer, .. } => {
                self.metrics.banned.inc();
                let peer = peer.to_string();
                self.observe(NodeEvent::Banned { peer });
            }
            Event::Gossip { .. }
            | Event::Request { .. }
            | Event::PeerSubscribed { .. }
            | Event::Response { .. } => {}
        }
        self.request_range();
    }

    fn on_status(&self, peer: PeerId, status: &[u8]) {
        match StatusAnswer::decode(status) {
            Ok(answer) => {
                self.tell_chain(ChainMessage::StatusReceived {
                    peer,
                    answer: Box::new(answer),
                });
            }
            Err(error) => self.report_misbehaviour(peer, &error.into()),
        }
    }

    fn ask_status(&mut self, status: &[u8]) {
        let peers: Vec<PeerId> = self.planner.peers().copied().collect();
        for peer in peers {
            let pending = Pending::Status;
            self.request(peer, Protocol::Status, status.to_vec(), pending);
        }
    }

    fn on_connected(&mut self, connected: &[(PeerId, bool)]) {
        let now = self.now_ms();
        let gone = self
            .planner
            .peers()
            .filter(|peer| connected.iter().all(|(there, _)| there != *peer));
        for peer in gone.copied().collect::<Vec<_>>() {
            self.planner.disconnected(&peer, now);
        }
        for (peer, expected) in connected {
            self.planner.connected(*peer, *expected);
        }
        self.report_count();
        self.request_range();
    }

    fn on_answer(&mut self, tag: u64, peer: PeerId, result: Result<Vec<u8>, RequestError>) {
        if result.is_err() {
            self.metrics.failed_requests.inc();
        }
        match self.pending.remove(&tag) {
            Some(Pending::Range) => self.on_range(peer, result),
            Some(Pending::Status) => match result {
                Ok(status) => self.on_status(peer, &status),
                Err(error) => tracing::debug!(%peer, %error, "a request for a status failed"),
            },
            Some(Pending::Block(hash)) => {
                self.retry_after(hash, FETCH_RETRY_DELAY);
                self.on_block(peer, hash, result);
            }
            // The answer to a request of an earlier incarnation.
            None => {}
        }
    }

    fn on_range(&mut self, peer: PeerId, result: Result<Vec<u8>, RequestError>) {
        let now = self.now_ms();
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a request for a range failed");
                return self.planner.range_failed(&peer, now);
            }
        };
        match BlockRange::decode(&bytes) {
            Ok(range) => {
                let range = Box::new(range);
                if !self.tell_chain(ChainMessage::RangeReceived { peer, range }) {
                    self.planner.range_failed(&peer, now);
                }
            }
            Err(error) => {
                self.planner.range_failed(&peer, now);
                self.report_misbehaviour(peer, &error.into());
            }
        }
    }

    fn on_block(&mut self, peer: PeerId, hash: Hash, result: Result<Vec<u8>, RequestError>) {
        let now = self.now_ms();
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a request for a block failed");
                return self.planner.block_timed_out(&peer, now);
            }
        };
        match Vec::<Block>::decode(&bytes) {
            Ok(blocks) if blocks.is_empty() => self.planner.block_missing(&peer, now),
            Ok(blocks) if blocks.iter().all(|block| block.header.hash() == hash) => {
                self.planner.block_received(&peer);
                self.tell_chain(ChainMessage::BodiesReceived { peer, blocks });
            }
            Ok(_) => self.report_misbehaviour(peer, &CheckError::UnrequestedBlocks),
            Err(error) => self.report_misbehaviour(peer, &error.into()),
        }
    }

    /// Delays the next fetch of a block that is still missing.
    fn retry_after(&mut self, hash: Hash, delay: Duration) {
        let from = alys_runtime::time::now() + delay;
        self.fetching.entry(hash).and_modify(|at| *at = from);
    }

    fn report_misbehaviour(&self, peer: PeerId, error: &CheckError) {
        tracing::warn!(%peer, reason = %error, "a peer sent an invalid answer");
        self.metrics.misbehaviour.inc();
        let offence = Offence::InvalidResponse;
        self.command(Command::Report { peer, offence });
    }

    fn report_count(&self) {
        let connected = self.planner.peers().count();
        self.metrics.connected.set(connected as i64);
        self.observe(NodeEvent::Peers { connected });
    }

    fn observe(&self, event: NodeEvent) {
        if let Some(observer) = &self.observer {
            observer(&event);
        }
    }
}

impl AlysActor for PeerActor {
    type Message = PeerMessage;
    type Error = std::convert::Infallible;
    type Config = ();
    const NAME: &'static str = "PeerActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Self::Error> {
        // Answers to requests of an earlier incarnation may still arrive, so no tag is used twice.
        self.next_tag = ctx.incarnation() << 32;
        if ctx.incarnation() > 1 && interceptor::requests_connected_peers() {
            // An earlier incarnation received the events of these connections. This wait for room
            // ends, because the NetworkActor never waits for this actor.
            let request = NetworkMessage::GetConnected;
            if self.network.send(request).await.is_err() {
                tracing::debug!("the network is down and has no connections");
            }
        }
        ctx.send_after(PLAN_INTERVAL, PeerMessage::Plan);
        Ok(())
    }

    async fn handle(&mut self, msg: PeerMessage, ctx: &Context<Self>) -> Result<(), Self::Error> {
        buggify_pause!("node.peers.slow", 50_000, 100);
        match msg {
            PeerMessage::Event(event) => self.on_event(*event),
            PeerMessage::Connected(connected) => self.on_connected(&connected),
            PeerMessage::Answer { tag, peer, result } => {
                self.on_answer(tag, peer, result);
                self.request_range();
            }
            PeerMessage::SyncTo(goal) => {
                self.planner.set_goal(goal);
                self.request_range();
            }
            PeerMessage::Fetch { hash } => self.fetch(hash),
            PeerMessage::AskStatus { status } => self.ask_status(&status),
            PeerMessage::RangeTaken { peer, has_progress } => {
                let now = self.now_ms();
                self.planner.range_imported(&peer, has_progress, now);
            }
            PeerMessage::Misbehaved { peer, error } => {
                let now = self.now_ms();
                self.planner.range_failed(&peer, now);
                self.report_misbehaviour(peer, &error);
            }
            PeerMessage::RangeLost => {
                self.planner.range_dropped();
                self.request_range();
            }
            PeerMessage::NetworkRestarted => {
                // The chain sends its goal again in the next slot.
                self.planner = Planner::default();
                self.pending.clear();
                self.fetching.clear();
                self.report_count();
            }
            PeerMessage::Plan => {
                self.request_range();
                let delay = if buggify!("node.peers.late_look") {
                    3 * PLAN_INTERVAL
                } else {
                    PLAN_INTERVAL
                };
                ctx.send_after(delay, PeerMessage::Plan);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
