//! NetworkActor: runs the libp2p service and routes its events.
//!
//! Owns the network service of this incarnation. Passes transactions to the TxPoolActor, proofs of
//! work to the AuxPowActor and other gossip to the ValidationActor, has requests answered from the storage, the chain or the
//! execution client, and guarantees that the PeerActor eventually knows the connected peers. When a
//! receiver is overloaded, gossip is dropped and requests are refused as busy. Decodes requests for
//! blocks, and no other payload.

mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_actor_system::{Addr, AlysActor, Context, Health, Message};
use alys_net::{
    Command, Config, Event, GossipId, GossipVerdict, Handle as NetHandle, InboundId, PeerId,
    Protocol, Refusal, RequestError, RequestId, SendError, Service, SetupError, Sizes, Topic,
    Vouched,
};
use alys_runtime::{buggify, buggify_pause};
use alys_types::Hash;
use alys_types::bls::PublicKeyBytes;
use alys_types::wire::{Message as Wire, RangeRequest};

use crate::actors::auxpow::PeerProofs;
use crate::actors::chain::ChainMessage;
use crate::actors::engine::PeerReceipts;
use crate::actors::peers::PeerMessage;
use crate::actors::storage;
use crate::actors::tx_pool::TxPoolMessage;
use crate::actors::validation::{GossipRef, Source, ValidationMessage};
use crate::interceptor::NetworkInterceptor;

pub use metrics::Metrics;

/// Blocks by hash in one answer.
const MAX_BLOCKS_BY_HASH: usize = 64;

pub enum NetworkMessage {
    /// For the service.
    Command(Box<Command>),
    /// The verdict on a gossip message.
    Judge {
        gossip: GossipRef,
        verdict: GossipVerdict,
    },
    /// Request something from a peer; the PeerActor gets the answer with `tag`.
    Request {
        tag: u64,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    },
    /// From the service of `incarnation`. Events of an earlier one are outdated.
    Event {
        incarnation: u64,
        event: Box<Event>,
    },
    ServiceEnded {
        incarnation: u64,
    },
    /// A restarted PeerActor needs the connected peers.
    GetConnected,
}

impl Message for NetworkMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Judge { .. } => "judge",
            Self::Request { .. } => "request",
            Self::Event { .. } => "event",
            Self::ServiceEnded { .. } => "service_ended",
            Self::GetConnected => "get_connected",
        }
    }
}

/// A fault of the actor itself.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("the network service ended")]
    Ended,
    #[error(transparent)]
    Tasks(#[from] alys_actor_system::TooManyTasks),
}

pub struct NetworkActor {
    /// Moves into a task at the start.
    service: Option<(Service, alys_net::Events)>,
    handle: NetHandle,
    interceptor: NetworkInterceptor,
    mailboxes: Mailboxes,
    /// Tags of requests without an answer yet; the service answers each within its timeout.
    pending: BTreeMap<RequestId, u64>,
    /// A status for which the service had no room. It is retried at the next message, because the
    /// chain does not send it again.
    unsent_status: Option<Vec<u8>>,
    /// Keys of authorities for which the service had no room, retried likewise.
    unsent_authorities: Option<Vec<PublicKeyBytes>>,
    /// The connected peers, and whether each is expected; bounded by the limits of the service.
    connected: BTreeMap<PeerId, bool>,
    /// Peers that proved an authority's key, as the service has them.
    vouched: Vouched,
    /// The PeerActor had no room for an event about connections. All of them are sent at the next
    /// message. A bus of `alys-actor-extras` does not replace this flag, because a subscriber
    /// without room misses the event for good, and the PeerActor must learn the last state.
    is_peers_outdated: bool,
    /// True unless the node is the only authority.
    needs_peers: bool,
    /// The last sizes of the service's tables that the metrics have.
    sizes: Option<Sizes>,
    metrics: Metrics,
}

/// Addresses of the actors that the network sends to.
#[derive(Clone)]
pub struct Mailboxes {
    pub validation: Addr<ValidationMessage>,
    pub chain: Addr<ChainMessage>,
    pub peers: Addr<PeerMessage>,
    pub storage: storage::PeerReads,
    pub receipts: PeerReceipts,
    pub tx_pool: Addr<TxPoolMessage>,
    pub proofs: PeerProofs,
}

impl NetworkActor {
    /// Binds the port.
    pub async fn bind(
        config: Config,
        needs_peers: bool,
        mailboxes: Mailboxes,
        interceptor: NetworkInterceptor,
        metrics: Metrics,
    ) -> Result<NetworkActor, NetworkError> {
        let (service, handle, events) = Service::bind(config).await?;
        Ok(NetworkActor {
            service: Some((service, events)),
            handle,
            interceptor,
            mailboxes,
            pending: BTreeMap::new(),
            unsent_status: None,
            unsent_authorities: None,
            connected: BTreeMap::new(),
            vouched: Vouched::default(),
            is_peers_outdated: false,
            needs_peers,
            sizes: None,
            metrics,
        })
    }

    fn command(&mut self, command: Command) {
        let published = match &command {
            Command::Publish { topic, .. } => Some(*topic),
            _ => None,
        };
        let noted = match &command {
            Command::SetStatus { .. } | Command::SetAuthorities { .. } | Command::Vouch { .. } => {
                Some(command.clone())
            }
            _ => None,
        };
        let is_full = buggify!("node.network.full_service", 10_000);
        let sent = if is_full {
            Err(SendError::Full)
        } else {
            self.interceptor.try_send(&self.handle, command)
        };
        if let (Ok(()), Some(topic)) = (&sent, published) {
            self.metrics.on_published(topic);
        }
        match (sent, noted) {
            (Ok(()), None) => {}
            (Ok(()), Some(noted)) => self.on_sent(noted),
            (Err(SendError::Full), Some(Command::SetStatus { status })) => {
                self.unsent_status = Some(status);
            }
            (Err(SendError::Full), Some(Command::SetAuthorities { keys })) => {
                self.unsent_authorities = Some(keys);
            }
            // After a lost `Vouch` the peer stays a stranger, and the chain repeats the command at
            // the next status.
            (Err(error), _) => tracing::debug!(%error, "a command for the network is dropped"),
        }
    }

    /// Records a command that the service accepted. A newer status, and newer keys, replace those
    /// that were not sent.
    fn on_sent(&mut self, command: Command) {
        match command {
            Command::SetStatus { .. } => self.unsent_status = None,
            Command::SetAuthorities { keys } => {
                self.unsent_authorities = None;
                self.vouched.retain(&keys);
            }
            Command::Vouch { peer, key } => {
                self.vouched.insert(peer, key);
            }
            _ => {}
        }
    }

    fn count_entries(&mut self) {
        let tables = &self.metrics.tables;
        tables.set("requests", self.pending.len());
        tables.set("connected", self.connected.len());
        tables.set("reads", self.mailboxes.storage.running());
        let sizes = self.handle.sizes();
        if self.sizes.replace(sizes) == Some(sizes) {
            return;
        }
        let Sizes {
            connections,
            dials,
            bans,
            inbound_requests,
            outbound_requests,
            unread_answers,
            queued_events,
        } = sizes;
        tables.set("connections", connections);
        tables.set("dials", dials);
        tables.set("bans", bans);
        tables.set("inbound_requests", inbound_requests);
        tables.set("outbound_requests", outbound_requests);
        tables.set("unread_answers", unread_answers);
        tables.set("queued_events", queued_events);
    }

    fn judge(&mut self, gossip: GossipRef, verdict: GossipVerdict) {
        let GossipRef { topic, id } = gossip;
        self.metrics.on_verdict(topic, verdict);
        self.command(Command::Judge { id, verdict });
    }

    fn refuse_as_busy(&mut self, id: InboundId) {
        let response = Err(Refusal::Busy);
        self.command(Command::Respond { id, response });
    }

    fn request(&mut self, tag: u64, peer: PeerId, protocol: Protocol, payload: Vec<u8>) {
        match self.handle.request(peer, protocol, payload) {
            Ok(id) => {
                self.pending.insert(id, tag);
            }
            Err(error) => {
                tracing::debug!(%error, "a request is dropped");
                self.answer(tag, peer, Err(RequestError::TooMany { limit: 0 }));
            }
        }
    }

    /// True for peers with a known address and for authorities.
    fn is_known(&self, peer: &PeerId) -> bool {
        self.connected
            .get(peer)
            .is_some_and(|is_expected| *is_expected || self.vouched.contains(peer))
    }

    fn answer(&self, tag: u64, peer: PeerId, result: Result<Vec<u8>, RequestError>) {
        let answer = PeerMessage::Answer {
            tag,
            peer,
            is_known: self.is_known(&peer),
            result,
        };
        if self.mailboxes.peers.tell(answer).is_err() {
            tracing::debug!("the PeerActor is busy: an answer is dropped");
        }
    }

    fn on_event(&mut self, event: Event, ctx: &Context<Self>) {
        match event {
            Event::Gossip {
                id,
                from,
                topic,
                payload,
            } => self.on_gossip(id, from, topic, payload),
            Event::Request {
                id,
                peer,
                protocol,
                payload,
            } => self.on_request(id, peer, protocol, payload, ctx),
            Event::PeerSubscribed { peer } => {
                tracing::debug!(%peer, "a peer receives broadcasts");
                let message = ChainMessage::PeerListens;
                if self.mailboxes.chain.tell(message).is_err() {
                    tracing::debug!(
                        "the ChainActor is busy: it rebroadcasts its latest votes after the slot"
                    );
                }
            }
            Event::Response { id, peer, result } => {
                if let Some(tag) = self.pending.remove(&id)
                    && !buggify!("node.network.lost_answer", 20_000)
                {
                    self.answer(tag, peer, result);
                }
            }
            Event::PeerConnected {
                peer,
                addr,
                outbound,
                expected,
            } => {
                self.connected.insert(peer, expected);
                let expected = self.is_known(&peer);
                self.on_connection(Event::PeerConnected {
                    peer,
                    addr,
                    outbound,
                    expected,
                });
            }
            Event::PeerDisconnected { peer, .. } => {
                self.connected.remove(&peer);
                self.on_connection(event);
            }
            Event::Status { peer, status } => {
                let is_known = self.is_known(&peer);
                let message = PeerMessage::Status {
                    peer,
                    is_known,
                    status,
                };
                if self.mailboxes.peers.tell(message).is_err() {
                    tracing::debug!("the PeerActor is busy: a status is dropped");
                }
            }
            Event::WrongChain { .. } | Event::Banned { .. } => {
                self.tell_peers(event);
            }
        }
    }

    fn on_gossip(&mut self, id: GossipId, from: PeerId, topic: Topic, payload: Vec<u8>) {
        self.metrics.on_received(topic, payload.len());
        let gossip = GossipRef { topic, id };
        let is_known = self.is_known(&from);
        let source = Source::gossip(from, is_known, gossip.clone());
        let is_taken = match topic {
            Topic::Transactions => {
                let received = TxPoolMessage::Received { source, payload };
                self.mailboxes.tx_pool.tell(received).is_ok()
            }
            Topic::Work => self.mailboxes.proofs.pass(source, payload),
            Topic::Blocks | Topic::Approvals | Topic::Confirmations | Topic::Finality => {
                let decode = ValidationMessage::Decode {
                    source,
                    topic,
                    payload,
                };
                !buggify!("node.network.busy_gossip", 20_000)
                    && self.mailboxes.validation.tell(decode).is_ok()
            }
        };
        if !is_taken {
            self.judge(gossip, GossipVerdict::Ignore);
        }
    }

    fn on_request(
        &mut self,
        id: InboundId,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
        ctx: &Context<Self>,
    ) {
        if protocol == Protocol::Status {
            let request = ChainMessage::StatusRequested {
                id,
                peer,
                is_known: self.is_known(&peer),
                payload,
            };
            if self.mailboxes.chain.tell(request).is_err() {
                self.refuse_as_busy(id);
            }
            return;
        }
        if buggify!("node.network.refuse") {
            return self.refuse_as_busy(id);
        }
        let storage = self.mailboxes.storage.clone();
        let is_known = self.is_known(&peer);
        let Some(place) = storage.reserve(is_known) else {
            tracing::debug!(%peer, "too many requests are served");
            return self.refuse_as_busy(id);
        };
        let receipts = self.mailboxes.receipts.clone();
        let handle = self.handle.clone();
        let interceptor = self.interceptor.clone();
        let metrics = self.metrics.clone();
        let serving = ctx.spawn("serve", async move {
            let response = match protocol {
                Protocol::Receipts => {
                    serve_receipts(&storage, &place, &receipts, is_known, &payload).await
                }
                _ => serve(&storage, &place, protocol, &payload).await,
            };
            metrics.on_served(protocol, &response);
            let respond = Command::Respond { id, response };
            if let Err(error) = interceptor.send(&handle, respond).await {
                tracing::debug!(%error, "an answer is dropped");
            }
        });
        // Too many tasks are no fault of this actor: peers must not be able to end it.
        if let Err(error) = serving {
            tracing::debug!(%error, "a request is refused");
            self.refuse_as_busy(id);
        }
    }

    /// Events about connections are never repeated, so a lost one makes the PeerActor's list
    /// outdated.
    fn on_connection(&mut self, event: Event) {
        let is_full = buggify!("node.network.full_peers", 50_000);
        self.is_peers_outdated |= is_full || !self.tell_peers(event);
    }

    /// Returns false when the PeerActor did not take the event.
    fn tell_peers(&self, event: Event) -> bool {
        let message = PeerMessage::Event(Box::new(event));
        let is_taken = self.mailboxes.peers.tell(message).is_ok();
        if !is_taken {
            tracing::debug!("the PeerActor is busy: an event is dropped");
        }
        is_taken
    }

    fn send_connected(&mut self) {
        let connected = self.connected.keys();
        let connected = connected.map(|peer| (*peer, self.is_known(peer)));
        let message = PeerMessage::Connected(connected.collect());
        self.is_peers_outdated = self.mailboxes.peers.tell(message).is_err();
    }
}

impl AlysActor for NetworkActor {
    type Message = NetworkMessage;
    type Error = NetworkError;
    type Config = ();
    const NAME: &'static str = "NetworkActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), NetworkError> {
        let Some((service, mut events)) = self.service.take() else {
            return Ok(());
        };
        self.interceptor.started();
        let address = ctx.address();
        let incarnation = ctx.incarnation();
        let restarted = PeerMessage::NetworkRestarted;
        if incarnation > 1 && self.mailboxes.peers.tell(restarted).is_err() {
            tracing::debug!("the PeerActor is busy: it gets the connected peers later");
            self.is_peers_outdated = true;
        }
        ctx.spawn("service", service.run())?;
        let interceptor = self.interceptor.clone();
        ctx.spawn("events", async move {
            let deliver = |event: Event| {
                let address = address.clone();
                let event = Box::new(event);
                let message = NetworkMessage::Event { incarnation, event };
                async move { address.send(message).await.is_ok() }
            };
            while let Some(event) = events.next().await {
                if !interceptor.deliver(event, deliver).await {
                    return;
                }
            }
            let ended = NetworkMessage::ServiceEnded { incarnation };
            let _stopping = address.send(ended).await;
        })?;
        // The service greets no peer without a status. This wait for room ends, because the
        // ChainActor never waits for this actor.
        let started = ChainMessage::NetworkStarted;
        if self.mailboxes.chain.send(started).await.is_err() {
            tracing::debug!("the ChainActor is stopping");
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        msg: NetworkMessage,
        ctx: &Context<Self>,
    ) -> Result<(), NetworkError> {
        buggify_pause!("node.network.slow", 20_000, 50);
        if let Some(status) = self.unsent_status.take() {
            self.command(Command::SetStatus { status });
        }
        if let Some(keys) = self.unsent_authorities.take() {
            self.command(Command::SetAuthorities { keys });
        }
        if self.is_peers_outdated {
            self.send_connected();
        }
        match msg {
            NetworkMessage::Command(command) => self.command(*command),
            NetworkMessage::Judge { gossip, verdict } => self.judge(gossip, verdict),
            NetworkMessage::Request {
                tag,
                peer,
                protocol,
                payload,
            } => self.request(tag, peer, protocol, payload),
            NetworkMessage::Event { incarnation, event } if incarnation == ctx.incarnation() => {
                self.on_event(*event, ctx);
            }
            NetworkMessage::ServiceEnded { incarnation } if incarnation == ctx.incarnation() => {
                return Err(NetworkError::Ended);
            }
            NetworkMessage::Event { .. } | NetworkMessage::ServiceEnded { .. } => {
                tracing::debug!("an event of an earlier service is dropped");
            }
            NetworkMessage::GetConnected => self.send_connected(),
        }
        self.count_entries();
        Ok(())
    }

    async fn stopped(&mut self, _: &Context<Self>) {
        self.command(Command::Shutdown);
    }

    fn health_check(&self) -> Health {
        if self.needs_peers && self.connected.is_empty() {
            Health::Degraded("no peer is connected")
        } else {
            Health::Healthy
        }
    }
}

/// Answers a peer's request from the storage.
async fn serve(
    storage: &storage::PeerReads,
    place: &Arc<storage::Place>,
    protocol: Protocol,
    payload: &[u8],
) -> Result<Vec<u8>, Refusal> {
    buggify_pause!("node.network.slow_answer", 250_000, 500);
    let invalid = |_| Refusal::Invalid;
    let unavailable = |_| Refusal::Unavailable;
    match protocol {
        Protocol::Status | Protocol::Receipts => Err(Refusal::Invalid),
        Protocol::HeadersByRange => {
            let request = RangeRequest::decode(payload).map_err(invalid)?;
            let range = storage.header_range(place.clone(), request).await;
            Ok(range.map_err(unavailable)?.encode())
        }
        Protocol::BlocksByRange => {
            let request = RangeRequest::decode(payload).map_err(invalid)?;
            let range = storage.block_range(place.clone(), request).await;
            Ok(range.map_err(unavailable)?.encode())
        }
        Protocol::BlocksByHash => {
            let mut hashes = Vec::<Hash>::decode(payload).map_err(invalid)?;
            hashes.truncate(if buggify!("node.network.few_hashes") {
                1
            } else {
                MAX_BLOCKS_BY_HASH
            });
            let blocks = storage.blocks(place.clone(), hashes).await;
            Ok(blocks.map_err(unavailable)?.encode())
        }
    }
}

/// Answers a peer's request for the receipts of a block, from the execution client.
async fn serve_receipts(
    storage: &storage::PeerReads,
    place: &Arc<storage::Place>,
    receipts: &PeerReceipts,
    is_known: bool,
    payload: &[u8],
) -> Result<Vec<u8>, Refusal> {
    buggify_pause!("node.network.slow_answer", 250_000, 500);
    let hash = Hash::decode(payload).map_err(|_| Refusal::Invalid)?;
    let blocks = storage.blocks(place.clone(), vec![hash]).await;
    let blocks = blocks.map_err(|_| Refusal::Unavailable)?;
    let found = match blocks.first() {
        Some(block) => receipts.of_block(block, is_known).await,
        None => Ok(None),
    };
    let found = found.map_err(|error| {
        tracing::debug!(%error, "receipts are not served");
        Refusal::Busy
    })?;
    let answer = found.encode();
    if answer.len() > Protocol::Receipts.max_response() {
        return Err(Refusal::Unavailable);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use alys_actor_system::testkit::{Probe, TestSystem};
    use alys_actor_system::{Priority, Reply};
    use alys_net::{ChainTag, NodeKey};

    use super::*;
    use crate::actors::storage::StorageMessage;
    use crate::dev::layout::loopback;
    use crate::wiring::table;

    fn peer(number: u16) -> PeerId {
        let mut key = [1; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        NodeKey::from_bytes(key).peer_id()
    }

    /// Configuration of a service on a free port, without known addresses.
    fn config() -> Config {
        let chain_tag = ChainTag { genesis: [1; 32] };
        let key = NodeKey::from_bytes([1; 32]);
        Config::new(key, chain_tag, loopback(0), Vec::new())
    }

    /// Mailboxes of actors that handle nothing, and the probes that keep them open.
    fn mailboxes(storage: storage::PeerReads) -> (Mailboxes, impl Sized) {
        let (validation, validation_probe) = Probe::new(1);
        let (chain, chain_probe) = Probe::new(1);
        let (peers, peers_probe) = Probe::new(1);
        let (tx_pool, tx_pool_probe) = Probe::new(1);
        let (engine, engine_probe) = Probe::new(1);
        let (auxpow, auxpow_probe) = Probe::new(1);
        let mailboxes = Mailboxes {
            validation,
            chain,
            peers,
            storage,
            receipts: PeerReceipts::new(engine),
            tx_pool,
            proofs: PeerProofs::new(auxpow),
        };
        let probes = (
            validation_probe,
            chain_probe,
            peers_probe,
            tx_pool_probe,
            engine_probe,
            auxpow_probe,
        );
        (mailboxes, probes)
    }

    /// Strangers that disconnect at once and return with another identity, and then a known peer
    /// that does so. The network service has forgotten each request when the next one comes.
    #[test]
    fn requests_of_peers_that_vanish_leave_room_for_the_node_in_the_mailbox_of_the_storage() {
        alys_runtime::block_on_main(async {
            const REQUESTS: u16 = 300;
            let test = TestSystem::new();
            let config = config();
            // It serves nothing.
            let (storage, mut storage_probe) = Probe::new(table::STORAGE.least_mailbox);
            let reads = storage::PeerReads::new(storage.clone());
            let (mailboxes, _probes) = mailboxes(reads.clone());
            let actor = test.start("network", 1024, move || {
                NetworkActor::bind(
                    config.clone(),
                    false,
                    mailboxes.clone(),
                    NetworkInterceptor::default(),
                    Metrics::default(),
                )
            });
            let known = peer(REQUESTS);
            let connected = Event::PeerConnected {
                peer: known,
                addr: loopback(1),
                outbound: true,
                expected: true,
            };
            let request = |number: u16, peer| Event::Request {
                id: InboundId::unknown(number.into()),
                peer,
                protocol: Protocol::BlocksByHash,
                payload: vec![Hash([1; 32])].encode(),
            };
            let of_strangers = (0..REQUESTS).map(|number| request(number, peer(number)));
            let of_known = (REQUESTS..2 * REQUESTS).map(|number| request(number, known));
            let mut sent = 0;
            let rounds: [(Vec<Event>, usize); 2] = [
                (of_strangers.collect(), storage::MAX_PEER_READS / 2),
                (
                    std::iter::once(connected).chain(of_known).collect(),
                    storage::MAX_PEER_READS,
                ),
            ];
            for (events, expected) in rounds {
                for event in events {
                    let event = Box::new(event);
                    let incarnation = 1;
                    let message = NetworkMessage::Event { incarnation, event };
                    assert!(actor.send(message).await.is_ok());
                    sent += 1;
                }
                test.until(|snapshot| {
                    let network = snapshot.find("actors/network");
                    let mailbox = network.and_then(|actor| actor.mailbox.as_ref());
                    mailbox.is_some_and(|mailbox| mailbox.handled >= sent)
                })
                .await;
                assert_eq!(reads.running(), expected);
                test.until(|_| storage.depth() == expected).await;
            }
            // Questions of the chain and the engine, and those of their earlier incarnations.
            let own = table::STORAGE.least_mailbox - storage::MAX_PEER_READS;
            for _ in 0..own {
                let (reply, _) = Reply::channel();
                let load = StorageMessage::Load { reply };
                assert!(storage.tell_as(Priority::High, load).is_ok());
            }
            // The places are free once the reads are gone.
            let queued = std::iter::from_fn(|| storage_probe.now()).count();
            assert_eq!(queued, table::STORAGE.least_mailbox);
            test.until(|_| reads.running() == 0).await;
            test.end().await;
        });
    }

    #[test]
    fn messages_for_which_the_service_has_no_room_do_not_count_as_published() {
        alys_runtime::block_on_main(async {
            let mut config = config();
            config.limits.max_queued_commands = 2;
            let (storage, _storage) = Probe::new(1);
            let (mailboxes, _probes) = mailboxes(storage::PeerReads::new(storage));
            let metrics = Metrics::default();
            let interceptor = NetworkInterceptor::default();
            let bound =
                NetworkActor::bind(config, false, mailboxes, interceptor, metrics.clone()).await;
            // Its service does not run, so that it takes no command.
            let mut actor = bound.expect("a free port");
            for _ in 0..5 {
                actor.command(Command::Publish {
                    topic: Topic::Blocks,
                    payload: vec![7],
                });
            }
            assert_eq!(metrics.published(), 2);
        });
    }
}
