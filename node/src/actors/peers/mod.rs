//! PeerActor: the connected peers, and requests for missing blocks.
//!
//! Owns the list of peers and the sync plan (decided by `alys-sync-planner`). Guarantees that
//! missing blocks are requested, one range and a few single blocks at a time, until the chain has
//! them, and receipts that the execution client lost. Never checks blocks: the chain does, and a
//! peer pays for invalid ones. Receipts reach the engine only under the root that it named.

mod metrics;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_net::{Command, Event, Offence, PeerId, Protocol, RequestError};
use alys_runtime::log_limit::LogLimit;
use alys_runtime::trace::reached;
use alys_runtime::{buggify, buggify_pause};
use alys_sync_planner::{Goal, Planner, RANGE_TIMEOUT_MS};
use alys_types::wire::{BlockRange, BlockReceipts, Message as Wire, RangeRequest, StatusAnswer};
use alys_types::{Block, Hash};

use crate::actors::chain::ChainMessage;
use crate::actors::engine::{self, EngineMessage};
use crate::actors::network::NetworkMessage;
use crate::actors::validation::CheckError;
use crate::events::{Ending, NodeEvent, Notice, Observer, PeerEvent, Wanted};
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
/// Receipts fetched at once. Each answer has up to 4 MiB, and a client that was killed lacks those
/// of the last few blocks.
const MAX_RECEIPT_FETCHES: usize = 4;
/// Time after which a request without an answer is given up: the network answers within ten
/// seconds, unless this actor had no room for the answer. As long as the planner waits for a range.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(RANGE_TIMEOUT_MS);

pub enum PeerMessage {
    /// From the network.
    Event(Box<Event>),
    /// From the network: all connected peers and whether each is expected, after single events were
    /// lost.
    Connected(Vec<(PeerId, bool)>),
    /// From the network: the status of a new connection. `is_known` is true for peers with a known
    /// address and for authorities.
    Status {
        peer: PeerId,
        is_known: bool,
        status: Vec<u8>,
    },
    /// From the network: the answer to [`NetworkMessage::Request`].
    Answer {
        tag: u64,
        peer: PeerId,
        is_known: bool,
        result: Result<Vec<u8>, RequestError>,
    },
    /// From the chain: heights that are missing.
    SyncTo(Goal),
    /// From the chain: a certified block lacks its body.
    Fetch { hash: Hash },
    /// From the engine: the execution client lacks the receipts of a block with this receipts root.
    FetchReceipts { hash: Hash, root: Hash },
    /// From the chain: request the statuses of all peers, and send them this one.
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
            Self::Status { .. } => "status",
            Self::Answer { .. } => "answer",
            Self::SyncTo(_) => "sync_to",
            Self::Fetch { .. } => "fetch",
            Self::FetchReceipts { .. } => "fetch_receipts",
            Self::AskStatus { .. } => "ask_status",
            Self::RangeTaken { .. } => "range_taken",
            Self::Misbehaved { .. } => "misbehaved",
            Self::RangeLost => "range_lost",
            Self::NetworkRestarted => "network_restarted",
            Self::Plan => "plan",
        }
    }
}

/// Requests for statuses: one for each peer, strangers and authorities. With the other requests
/// they stay below the limit of the network, 256.
const MAX_STATUSES: usize = 128;
/// Requests without an answer: one range, five fetches of each of [`MAX_FETCHES`] blocks and
/// [`MAX_RECEIPT_FETCHES`] receipts, since the network answers within five times [`FETCH_TIMEOUT`],
/// and statuses. Beyond the limit the oldest request is given up.
const MAX_PENDING: usize = 1 + 5 * (MAX_FETCHES + MAX_RECEIPT_FETCHES) + MAX_STATUSES;

/// A request without an answer yet.
struct Pending {
    peer: PeerId,
    wanted: Wanted,
    /// Time at which the request is given up.
    until: Instant,
}

pub struct PeerActor {
    network: Addr<NetworkMessage>,
    chain: Addr<ChainMessage>,
    engine: Addr<EngineMessage>,
    observer: Option<Observer>,
    planner: Planner<PeerId>,
    pending: BTreeMap<u64, Pending>,
    next_tag: u64,
    /// Blocks fetched by hash, each with the time from which another peer may be asked.
    fetching: BTreeMap<Hash, Instant>,
    /// Blocks whose receipts are fetched, likewise.
    fetching_receipts: BTreeMap<Hash, Instant>,
    /// Number of fetches so far, which spreads them over the peers.
    fetches: u64,
    started: Instant,
    /// Limits the lines about invalid answers, because strangers can send any number of them.
    misbehaviour_lines: LogLimit,
    metrics: Metrics,
}

impl PeerActor {
    pub fn new(
        network: Addr<NetworkMessage>,
        chain: Addr<ChainMessage>,
        engine: Addr<EngineMessage>,
        observer: Option<Observer>,
        metrics: Metrics,
    ) -> PeerActor {
        PeerActor {
            network,
            chain,
            engine,
            observer,
            planner: Planner::default(),
            pending: BTreeMap::new(),
            next_tag: 0,
            fetching: BTreeMap::new(),
            fetching_receipts: BTreeMap::new(),
            fetches: 0,
            started: alys_runtime::time::now(),
            misbehaviour_lines: LogLimit::default(),
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

    fn request(&mut self, peer: PeerId, protocol: Protocol, payload: Vec<u8>, wanted: Wanted) {
        self.next_tag += 1;
        let tag = self.next_tag;
        self.report(PeerEvent::Requested { tag, peer, wanted });
        let request = NetworkMessage::Request {
            tag,
            peer,
            protocol,
            payload,
        };
        if self.network.tell(request).is_ok() {
            self.metrics.requests.inc();
            let until = alys_runtime::time::now() + REQUEST_TIMEOUT;
            let pending = Pending {
                peer,
                wanted,
                until,
            };
            self.pending.insert(tag, pending);
            if self.pending.len() > MAX_PENDING
                && let Some((tag, _)) = self.pending.pop_first()
            {
                self.end(tag, Ending::GivenUp);
            }
            return;
        }
        self.end(tag, Ending::NotSent);
        if let Wanted::Range { .. } = wanted {
            let now = self.now_ms();
            self.planner.range_failed(&peer, now);
        }
    }

    /// Gives up requests that will get no answer, because the answer found the mailbox full. The
    /// planner gives up ranges itself, and the chain repeats the other requests.
    fn expire(&mut self) {
        let now = alys_runtime::time::now();
        if interceptor::requests_expire() {
            let overdue = self.pending.extract_if(.., |_, one| one.until <= now);
            let overdue: Vec<u64> = overdue.map(|(tag, _)| tag).collect();
            for tag in overdue {
                self.end(tag, Ending::GivenUp);
            }
        }
        if interceptor::fetches_expire() {
            self.fetching.retain(|_, until| now < *until);
            self.fetching_receipts.retain(|_, until| now < *until);
        }
    }

    fn count_entries(&self) {
        let tables = &self.metrics.tables;
        tables.set("requests", self.pending.len());
        tables.set("fetches", self.fetching.len());
        tables.set("receipt_fetches", self.fetching_receipts.len());
        tables.set("peers", self.planner.peers().count());
        tables.set("remembered_peers", self.planner.remembered());
    }

    fn end(&self, tag: u64, ending: Ending) {
        self.report(PeerEvent::Ended { tag, ending });
    }

    /// Requests the next range of the plan, if one is due.
    fn request_range(&mut self) {
        let now = self.now_ms();
        if let Some(peer) = self.planner.expire_range(now) {
            self.report(PeerEvent::RangeOverdue { peer });
        }
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
            let wanted = Wanted::Range {
                start: request.start,
                count,
            };
            self.request(request.peer, Protocol::BlocksByRange, payload, wanted);
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
            Wanted::Block { hash },
        );
    }

    /// Requests the receipts of a block from the peer whose turn it is. The engine repeats the
    /// request while it lacks them, so one peer after another is asked.
    fn fetch_receipts(&mut self, hash: Hash, root: Hash) {
        let now = alys_runtime::time::now();
        if interceptor::fetches_expire() {
            self.fetching_receipts.retain(|_, until| now < *until);
        }
        let fetching = &self.fetching_receipts;
        if fetching.contains_key(&hash) || fetching.len() >= MAX_RECEIPT_FETCHES {
            return;
        }
        let now_ms = self.now_ms();
        let Some(peer) = self.planner.peer_for_block(self.fetches, now_ms) else {
            return;
        };
        self.fetches += 1;
        self.fetching_receipts.insert(hash, now + FETCH_TIMEOUT);
        let wanted = Wanted::Receipts { hash, root };
        self.request(peer, Protocol::Receipts, hash.encode(), wanted);
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
                self.connect(peer, expected);
                self.report_count();
            }
            Event::PeerDisconnected { peer, reason } => {
                tracing::debug!(%peer, ?reason, "disconnected");
                self.disconnect(peer);
                self.report_count();
            }
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
            | Event::Status { .. }
            | Event::PeerSubscribed { .. }
            | Event::Response { .. } => {}
        }
        self.request_range();
    }

    fn on_status(&mut self, peer: PeerId, is_known: bool, status: &[u8]) -> Ending {
        match StatusAnswer::decode(status) {
            Ok(answer) => {
                let answer = Box::new(answer);
                if self.tell_chain(ChainMessage::StatusReceived {
                    peer,
                    is_known,
                    answer,
                }) {
                    Ending::Answered
                } else {
                    Ending::Failed
                }
            }
            Err(error) => {
                self.report_misbehaviour(peer, &error.into());
                Ending::Unusable
            }
        }
    }

    /// Requests the statuses of all peers but those that have not answered the last request.
    fn ask_status(&mut self, status: &[u8]) {
        let open = self.pending.values();
        let asked: BTreeSet<PeerId> = open
            .filter(|pending| pending.wanted == Wanted::Status)
            .map(|pending| pending.peer)
            .collect();
        let peers = self.planner.peers().copied();
        let due: Vec<PeerId> = peers.filter(|peer| !asked.contains(peer)).collect();
        for peer in due {
            self.request(peer, Protocol::Status, status.to_vec(), Wanted::Status);
        }
    }

    fn connect(&mut self, peer: PeerId, is_expected: bool) {
        self.report(PeerEvent::Connected { peer, is_expected });
        self.planner.connected(peer, is_expected);
    }

    fn disconnect(&mut self, peer: PeerId) {
        self.report(PeerEvent::Disconnected { peer });
        let now = self.now_ms();
        self.planner.disconnected(&peer, now);
    }

    fn on_connected(&mut self, connected: &[(PeerId, bool)]) {
        let gone = self
            .planner
            .peers()
            .filter(|peer| connected.iter().all(|(there, _)| there != *peer))
            .filter(|_| interceptor::forgets_gone_peers());
        for peer in gone.copied().collect::<Vec<_>>() {
            self.disconnect(peer);
        }
        for (peer, expected) in connected {
            self.connect(*peer, *expected);
        }
        self.report_count();
        self.request_range();
    }

    fn on_answer(
        &mut self,
        tag: u64,
        peer: PeerId,
        is_known: bool,
        result: Result<Vec<u8>, RequestError>,
    ) {
        if result.is_err() {
            self.metrics.failed_requests.inc();
        }
        let Some(Pending { wanted, .. }) = self.pending.remove(&tag) else {
            // The answer to a request of an earlier incarnation, or to one that was given up.
            return;
        };
        let ending = match wanted {
            Wanted::Range { .. } => self.on_range(peer, result),
            Wanted::Status => match result {
                Ok(status) => self.on_status(peer, is_known, &status),
                Err(error) => {
                    tracing::debug!(%peer, %error, "a request for a status failed");
                    Ending::Failed
                }
            },
            Wanted::Block { hash } => {
                self.retry_after(hash, FETCH_RETRY_DELAY);
                self.on_block(peer, hash, result)
            }
            Wanted::Receipts { hash, root } => {
                let from = alys_runtime::time::now() + FETCH_RETRY_DELAY;
                self.fetching_receipts
                    .entry(hash)
                    .and_modify(|at| *at = from);
                self.on_receipts(peer, hash, root, result)
            }
        };
        self.end(tag, ending);
    }

    fn on_range(&mut self, peer: PeerId, result: Result<Vec<u8>, RequestError>) -> Ending {
        let now = self.now_ms();
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a request for a range failed");
                self.planner.range_failed(&peer, now);
                return Ending::Failed;
            }
        };
        match BlockRange::decode(&bytes) {
            Ok(range) => {
                let range = Box::new(range);
                if self.tell_chain(ChainMessage::RangeReceived { peer, range }) {
                    return Ending::Answered;
                }
                self.planner.range_failed(&peer, now);
                Ending::Failed
            }
            Err(error) => {
                self.planner.range_failed(&peer, now);
                self.report_misbehaviour(peer, &error.into());
                Ending::Unusable
            }
        }
    }

    fn on_block(
        &mut self,
        peer: PeerId,
        hash: Hash,
        result: Result<Vec<u8>, RequestError>,
    ) -> Ending {
        let now = self.now_ms();
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a request for a block failed");
                if interceptor::failed_blocks_count() {
                    self.planner.block_timed_out(&peer, now);
                }
                return Ending::Failed;
            }
        };
        match Vec::<Block>::decode(&bytes) {
            Ok(blocks) if blocks.is_empty() => {
                self.planner.block_missing(&peer, now);
                Ending::Missing
            }
            Ok(blocks) if blocks.iter().all(|block| block.header.hash() == hash) => {
                self.planner.block_received(&peer);
                if self.tell_chain(ChainMessage::BodiesReceived { peer, blocks }) {
                    Ending::Answered
                } else {
                    Ending::Failed
                }
            }
            Ok(_) => {
                self.report_misbehaviour(peer, &CheckError::UnrequestedBlocks);
                Ending::Unusable
            }
            Err(error) => {
                self.report_misbehaviour(peer, &error.into());
                Ending::Unusable
            }
        }
    }

    fn on_receipts(
        &mut self,
        peer: PeerId,
        hash: Hash,
        root: Hash,
        result: Result<Vec<u8>, RequestError>,
    ) -> Ending {
        let now = self.now_ms();
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a request for receipts failed");
                if interceptor::failed_blocks_count() {
                    self.planner.block_timed_out(&peer, now);
                }
                return Ending::Failed;
            }
        };
        match Option::<BlockReceipts>::decode(&bytes) {
            Ok(None) => {
                self.planner.block_missing(&peer, now);
                Ending::Missing
            }
            Ok(Some(encoded)) => match engine::checked_receipts(&encoded, root) {
                Some(receipts) => {
                    self.planner.block_received(&peer);
                    let received = EngineMessage::ReceiptsReceived { hash, receipts };
                    if self.engine.tell(received).is_ok() {
                        reached("state.peers.receipts");
                        Ending::Answered
                    } else {
                        Ending::Failed
                    }
                }
                None => {
                    let error = CheckError::FalseReceipts { block: hash, root };
                    self.report_misbehaviour(peer, &error);
                    Ending::Unusable
                }
            },
            Err(error) => {
                self.report_misbehaviour(peer, &error.into());
                Ending::Unusable
            }
        }
    }

    /// Delays the next fetch of a block that is still missing.
    fn retry_after(&mut self, hash: Hash, delay: Duration) {
        let from = alys_runtime::time::now() + delay;
        self.fetching.entry(hash).and_modify(|at| *at = from);
    }

    fn report_misbehaviour(&mut self, peer: PeerId, error: &CheckError) {
        if let Some(left_out) = self.misbehaviour_lines.admit(alys_runtime::time::now()) {
            tracing::warn!(%peer, reason = %error, left_out, "a peer sent an invalid answer");
        } else {
            tracing::debug!(%peer, reason = %error, "a peer sent an invalid answer");
        }
        self.metrics.misbehaviour.inc();
        let offence = Offence::InvalidResponse;
        self.command(Command::Report { peer, offence });
    }

    fn report_count(&self) {
        let connected = self.planner.peers().count();
        self.metrics.connected.set(connected as i64);
        self.observe(NodeEvent::Peers { connected });
    }

    fn report(&self, event: PeerEvent) {
        self.observe(NodeEvent::Peering(event));
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
        let incarnation = ctx.incarnation();
        self.next_tag = incarnation << 32;
        self.report(PeerEvent::Started { incarnation });
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
            PeerMessage::Status {
                peer,
                is_known,
                status,
            } => {
                self.on_status(peer, is_known, &status);
                self.request_range();
            }
            PeerMessage::Answer {
                tag,
                peer,
                is_known,
                result,
            } => {
                self.on_answer(tag, peer, is_known, result);
                self.request_range();
            }
            PeerMessage::SyncTo(goal) => {
                let Goal {
                    final_height,
                    highest,
                    to,
                } = goal;
                self.report(PeerEvent::Goal {
                    final_height,
                    highest,
                    to,
                });
                self.planner.set_goal(goal);
                self.request_range();
            }
            PeerMessage::Fetch { hash } => self.fetch(hash),
            PeerMessage::FetchReceipts { hash, root } => self.fetch_receipts(hash, root),
            PeerMessage::AskStatus { status } => self.ask_status(&status),
            PeerMessage::RangeTaken { peer, has_progress } => {
                self.report(PeerEvent::RangeTaken { peer, has_progress });
                let now = self.now_ms();
                self.planner.range_imported(&peer, has_progress, now);
            }
            PeerMessage::Misbehaved { peer, error } => {
                self.report(PeerEvent::Misbehaved { peer });
                let now = self.now_ms();
                self.planner.range_failed(&peer, now);
                self.report_misbehaviour(peer, &error);
            }
            PeerMessage::RangeLost => {
                self.report(PeerEvent::RangeLost);
                if interceptor::reports_lost_range() {
                    self.planner.range_dropped();
                }
                self.request_range();
            }
            PeerMessage::NetworkRestarted => {
                self.report(PeerEvent::NetworkRestarted);
                // The chain sends its goal again in the next slot.
                self.planner = Planner::default();
                self.pending.clear();
                self.fetching.clear();
                self.fetching_receipts.clear();
                self.report_count();
            }
            PeerMessage::Plan => {
                self.expire();
                self.request_range();
                self.report(PeerEvent::Planned);
                self.count_entries();
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
