//! PeerActor: who is connected, and catching up with them.
//!
//! Owns the list of peers and the plan of what to fetch from whom (decided by `alys-sync-planner`). Promises that what
//! the chain wants is asked for, one range and a few single blocks at a time, until the chain no longer wants it. Never
//! checks what comes: that goes to the chain, and what turns out wrong costs the peer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_net::{Command, Event, Offence, PeerId, Protocol, RequestError};
use alys_runtime::{buggify, buggify_pause};
use alys_sync_planner::{Goal, Planner};
use alys_types::mutant::{self, Mutant};
use alys_types::wire::{BlockRange, Message as Wire, RangeRequest, StatusAnswer};
use alys_types::{Block, Hash};

use crate::actors::chain::ChainMessage;
use crate::actors::network::NetworkMessage;
use crate::node::{NodeEvent, Observer};

/// How often the plan is looked at when nothing happens.
const LOOK: Duration = Duration::from_millis(500);
/// How long a block asked for by hash may be under way before another peer is asked.
const FETCH_PATIENCE: Duration = Duration::from_secs(2);
/// How soon another peer is asked when one does not have it. With [`MAX_FETCHES`] this keeps within what peers allow.
const FETCH_AGAIN: Duration = Duration::from_millis(500);
/// Blocks asked for by hash at once.
const MAX_FETCHES: usize = 16;

/// What the peer actor is told.
pub enum PeerMessage {
    /// From the network.
    Event(Box<Event>),
    /// From the network: everybody who is connected and whether it is expected, when it could not be told one by one.
    Connected(Vec<(PeerId, bool)>),
    /// From the network: the answer to [`NetworkMessage::Ask`].
    Answer {
        tag: u64,
        peer: PeerId,
        result: Result<Vec<u8>, RequestError>,
    },
    /// From the chain: what is missing.
    Wanted(Goal),
    /// From the chain: a certified block lacks its body.
    Fetch { hash: Hash },
    /// From the chain: what came of a range.
    RangeTaken { peer: PeerId, progress: bool },
    /// From the chain: a peer sent something wrong.
    Misbehaved { peer: PeerId, reason: String },
    /// From the chain: a range that was asked for is lost on its way through the node, and nobody's fault.
    RangeLost,
    /// From the network: nobody is connected any more, and nothing is under way.
    NetworkRestarted,
    /// The timer.
    Look,
}

impl Message for PeerMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Event(_) => "event",
            Self::Connected(_) => "connected",
            Self::Answer { .. } => "answer",
            Self::Wanted(_) => "wanted",
            Self::Fetch { .. } => "fetch",
            Self::RangeTaken { .. } => "range_taken",
            Self::Misbehaved { .. } => "misbehaved",
            Self::RangeLost => "range_lost",
            Self::NetworkRestarted => "network_restarted",
            Self::Look => "look",
        }
    }
}

enum Asked {
    Range,
    Blocks(Vec<Hash>),
}

/// The actor.
pub struct PeerActor {
    network: Addr<NetworkMessage>,
    chain: Addr<ChainMessage>,
    observer: Option<Observer>,
    planner: Planner<PeerId>,
    asked: BTreeMap<u64, Asked>,
    next_tag: u64,
    /// Blocks asked for by hash, and when they may be asked for again.
    fetching: BTreeMap<Hash, Instant>,
    /// Blocks asked for by hash so far.
    fetches: u64,
    started: Instant,
}

impl PeerActor {
    pub fn new(
        network: Addr<NetworkMessage>,
        chain: Addr<ChainMessage>,
        observer: Option<Observer>,
    ) -> PeerActor {
        PeerActor {
            network,
            chain,
            observer,
            planner: Planner::default(),
            asked: BTreeMap::new(),
            next_tag: 0,
            fetching: BTreeMap::new(),
            fetches: 0,
            started: alys_runtime::time::now(),
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

    fn ask(&mut self, peer: PeerId, protocol: Protocol, payload: Vec<u8>, asked: Asked) {
        self.next_tag += 1;
        let tag = self.next_tag;
        if self
            .network
            .tell(NetworkMessage::Ask {
                tag,
                peer,
                protocol,
                payload,
            })
            .is_ok()
        {
            self.asked.insert(tag, asked);
        } else if let Asked::Range = asked {
            let now = self.now_ms();
            self.planner.failed(&peer, now);
        }
    }

    fn look(&mut self) {
        let now = self.now_ms();
        if let Some(request) = self.planner.next(now) {
            tracing::debug!(peer = %request.peer, start = %request.start, count = request.count, "asking for blocks");
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
            self.ask(request.peer, Protocol::BlocksByRange, payload, Asked::Range);
        }
    }

    fn fetch(&mut self, hash: Hash) {
        let now = alys_runtime::time::now();
        if !mutant::active(Mutant::FetchNeverAgain) {
            self.fetching.retain(|_, until| now < *until);
        }
        let most = if buggify!("node.peers.few_fetches") {
            1
        } else {
            MAX_FETCHES
        };
        if self.fetching.contains_key(&hash) || self.fetching.len() >= most {
            return;
        }
        let now_ms = self.now_ms();
        let Some(peer) = self.planner.any(self.fetches, now_ms) else {
            return;
        };
        self.fetches += 1;
        let patience = if buggify!("node.peers.patient_fetch") {
            2 * FETCH_PATIENCE
        } else {
            FETCH_PATIENCE
        };
        self.fetching.insert(hash, now + patience);
        self.ask(
            peer,
            Protocol::BlocksByHash,
            vec![hash].encode(),
            Asked::Blocks(vec![hash]),
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
                self.planner.connected(peer, expected);
                self.count();
            }
            Event::PeerDisconnected { peer, reason } => {
                tracing::debug!(%peer, ?reason, "disconnected");
                let now = self.now_ms();
                self.planner.disconnected(&peer, now);
                self.count();
            }
            Event::Status { peer, status } => match StatusAnswer::decode(&status) {
                Ok(answer) => {
                    self.tell_chain(ChainMessage::StatusAnswer {
                        peer,
                        answer: Box::new(answer),
                    });
                }
                Err(error) => self.misbehaved(peer, &error.to_string()),
            },
            // The network has warned of refused and banned peers already.
            Event::WrongChain { peer, mismatch } => {
                self.observe(NodeEvent::Notice(format!(
                    "peer {peer} refused: {mismatch}"
                )));
            }
            Event::Banned { peer, .. } => self.observe(NodeEvent::Banned {
                peer: peer.to_string(),
            }),
            Event::Gossip { .. }
            | Event::Request { .. }
            | Event::PeerListens { .. }
            | Event::Response { .. } => {}
        }
        self.look();
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
        self.count();
        self.look();
    }

    fn on_answer(&mut self, tag: u64, peer: PeerId, result: Result<Vec<u8>, RequestError>) {
        let Some(asked) = self.asked.remove(&tag) else {
            return;
        };
        let now = self.now_ms();
        match (asked, result) {
            (Asked::Range, Ok(bytes)) => match BlockRange::decode(&bytes) {
                Ok(range) => {
                    if !self.tell_chain(ChainMessage::Range {
                        peer,
                        range: Box::new(range),
                    }) {
                        self.planner.failed(&peer, now);
                    }
                }
                Err(error) => {
                    self.planner.failed(&peer, now);
                    self.misbehaved(peer, &error.to_string());
                }
            },
            (Asked::Blocks(hashes), Ok(bytes)) => {
                self.not_before(&hashes, FETCH_AGAIN);
                match Vec::<Block>::decode(&bytes) {
                    Ok(blocks) if blocks.iter().all(|b| hashes.contains(&b.header.hash())) => {
                        if blocks.is_empty() {
                            self.planner.lacks(&peer, now);
                        } else {
                            self.planner.gave(&peer);
                            self.tell_chain(ChainMessage::Bodies { peer, blocks });
                        }
                    }
                    Ok(_) => self.misbehaved(peer, "blocks that were not asked for"),
                    Err(error) => self.misbehaved(peer, &error.to_string()),
                }
            }
            (Asked::Range, Err(error)) => {
                tracing::debug!(%peer, %error, "no range");
                self.planner.failed(&peer, now);
            }
            (Asked::Blocks(hashes), Err(error)) => {
                tracing::debug!(%peer, %error, "no blocks");
                self.planner.silent(&peer, now);
                self.not_before(&hashes, FETCH_AGAIN);
            }
        }
    }

    /// Another peer is asked for these no sooner than after `wait`, if they are wanted still.
    fn not_before(&mut self, hashes: &[Hash], wait: Duration) {
        let until = alys_runtime::time::now() + wait;
        for hash in hashes {
            self.fetching.entry(*hash).and_modify(|at| *at = until);
        }
    }

    fn misbehaved(&self, peer: PeerId, reason: &str) {
        tracing::warn!(%peer, reason, "a peer sent something wrong");
        self.command(Command::Report {
            peer,
            offence: Offence::InvalidResponse,
        });
    }

    fn count(&self) {
        self.observe(NodeEvent::Peers {
            connected: self.planner.peers().count(),
        });
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
        // Answers to what an earlier incarnation asked may still come: no tag is used twice.
        self.next_tag = ctx.incarnation() << 32;
        if ctx.incarnation() > 1 && !mutant::active(Mutant::PeersNotIntroduced) {
            // Whoever is connected was told to an earlier one. The network never waits for this actor, so waiting for
            // room ends; when its breaker is open it comes back with nobody connected.
            if self.network.send(NetworkMessage::Introduce).await.is_err() {
                tracing::debug!("the network is down: its peers are told when they connect");
            }
        }
        ctx.send_after(LOOK, PeerMessage::Look);
        Ok(())
    }

    async fn handle(&mut self, msg: PeerMessage, ctx: &Context<Self>) -> Result<(), Self::Error> {
        buggify_pause!("node.peers.slow", 50_000, 100);
        match msg {
            PeerMessage::Event(event) => self.on_event(*event),
            PeerMessage::Connected(connected) => self.on_connected(&connected),
            PeerMessage::Answer { tag, peer, result } => {
                self.on_answer(tag, peer, result);
                self.look();
            }
            PeerMessage::Wanted(goal) => {
                self.planner.want(goal);
                self.look();
            }
            PeerMessage::Fetch { hash } => self.fetch(hash),
            PeerMessage::RangeTaken { peer, progress } => {
                let now = self.now_ms();
                self.planner.taken(&peer, progress, now);
            }
            PeerMessage::Misbehaved { peer, reason } => {
                let now = self.now_ms();
                self.planner.failed(&peer, now);
                self.misbehaved(peer, &reason);
            }
            PeerMessage::RangeLost => {
                self.planner.lost();
                self.look();
            }
            PeerMessage::NetworkRestarted => {
                // What is wanted is told again at the next slot.
                self.planner = Planner::default();
                self.asked.clear();
                self.fetching.clear();
                self.count();
            }
            PeerMessage::Look => {
                self.look();
                let wait = if buggify!("node.peers.late_look") {
                    3 * LOOK
                } else {
                    LOOK
                };
                ctx.send_after(wait, PeerMessage::Look);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
