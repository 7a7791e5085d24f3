//! NetworkActor: the libp2p service and who gets to hear what comes from it.
//!
//! Owns the network service of this incarnation. Promises that gossip reaches the validation, requests are answered
//! from the storage or the chain, and who is connected reaches the PeerActor, sooner or later; when one of them is
//! busy, gossip is dropped and requests are refused. Never looks into payloads beyond what serving them needs.

use std::collections::BTreeMap;

use alys_actor_system::{Addr, AlysActor, Context, Message};
use alys_net::{
    Command, Config, Event, Handle as NetHandle, PeerId, Protocol, Refusal, RequestError,
    RequestId, SendError, Service, SetupError, Topic, Verdict,
};
use alys_runtime::{buggify, buggify_pause};
use alys_types::Hash;
use alys_types::wire::{Message as Wire, RangeRequest};

use crate::actors::chain::ChainMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage;
use crate::actors::tx_pool::TxPoolMessage;
use crate::actors::validation::{Source, ValidationMessage};
use crate::bending::Bending;

/// Blocks by hash in one request.
const MAX_BLOCKS_BY_HASH: usize = 64;

/// What the network is told.
pub enum NetworkMessage {
    /// For the service.
    Command(Box<Command>),
    /// Ask a peer; the PeerActor gets the answer under its tag.
    Ask {
        tag: u64,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    },
    /// From the service of this incarnation. What that of an earlier one left in the mailbox is no longer true.
    Event { incarnation: u64, event: Box<Event> },
    /// The service of this incarnation ended.
    ServiceEnded { incarnation: u64 },
    /// A PeerActor that has just begun asks who is connected.
    Introduce,
}

impl Message for NetworkMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Ask { .. } => "ask",
            Self::Event { .. } => "event",
            Self::ServiceEnded { .. } => "service_ended",
            Self::Introduce => "introduce",
        }
    }
}

/// A fault of the network actor itself.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("the network service ended")]
    Ended,
    #[error(transparent)]
    Tasks(#[from] alys_actor_system::TooManyTasks),
}

/// The actor.
pub struct NetworkActor {
    service: Option<(Service, alys_net::Events)>,
    handle: NetHandle,
    bending: Bending,
    validation: Addr<ValidationMessage>,
    chain: Addr<ChainMessage>,
    peers: Addr<PeerMessage>,
    storage: storage::Handle,
    tx_pool: Addr<TxPoolMessage>,
    /// Requests that wait for an answer; the service answers each, in time.
    asked: BTreeMap<RequestId, u64>,
    /// What the service had no room for, and is told at the next message: nobody else would say it again.
    owed_status: Option<Vec<u8>>,
    /// Who is connected, and whether it is expected: as many as the service allows.
    connected: BTreeMap<PeerId, bool>,
    /// The PeerActor had no room for who came or went, and is told at the next message.
    owes_peers: bool,
}

/// Whom the network talks to.
#[derive(Clone)]
pub struct Doors {
    pub validation: Addr<ValidationMessage>,
    pub chain: Addr<ChainMessage>,
    pub peers: Addr<PeerMessage>,
    pub storage: storage::Handle,
    pub tx_pool: Addr<TxPoolMessage>,
}

impl NetworkActor {
    /// Binds the port.
    pub async fn bind(
        config: Config,
        doors: Doors,
        bending: Bending,
    ) -> Result<NetworkActor, NetworkError> {
        let (service, handle, events) = Service::bind(config).await?;
        let Doors {
            validation,
            chain,
            peers,
            storage,
            tx_pool,
        } = doors;
        let (asked, connected) = (BTreeMap::new(), BTreeMap::new());
        let service = Some((service, events));
        Ok(NetworkActor {
            service,
            handle,
            bending,
            validation,
            chain,
            peers,
            storage,
            tx_pool,
            asked,
            owed_status: None,
            connected,
            owes_peers: false,
        })
    }

    /// Where it listens, and who it is.
    pub fn handle(&self) -> &NetHandle {
        &self.handle
    }

    fn command(&mut self, command: Command) {
        let status = match &command {
            Command::SetStatus { status } => Some(status.clone()),
            _ => None,
        };
        let is_full = buggify!("node.network.full_service", 10_000);
        let sent = if is_full {
            Err(SendError::Full)
        } else {
            self.bending.try_send(&self.handle, command)
        };
        match (sent, status) {
            (Ok(()), None) => {}
            // The newest is what counts.
            (Ok(()), Some(_)) => self.owed_status = None,
            (Err(SendError::Full), Some(status)) => self.owed_status = Some(status),
            (Err(error), _) => tracing::debug!(%error, "a command for the network is dropped"),
        }
    }

    fn ask(&mut self, tag: u64, peer: PeerId, protocol: Protocol, payload: Vec<u8>) {
        match self.handle.request(peer, protocol, payload) {
            Ok(id) => {
                self.asked.insert(id, tag);
            }
            Err(error) => {
                tracing::debug!(%error, "a request is dropped");
                self.answer(tag, peer, Err(RequestError::TooMany { limit: 0 }));
            }
        }
    }

    fn answer(&self, tag: u64, peer: PeerId, result: Result<Vec<u8>, RequestError>) {
        if self
            .peers
            .tell(PeerMessage::Answer { tag, peer, result })
            .is_err()
        {
            tracing::debug!("the peer actor is busy: an answer is dropped");
        }
    }

    fn on_event(&mut self, event: Event, ctx: &Context<Self>) -> Result<(), NetworkError> {
        match event {
            Event::Gossip {
                id,
                from,
                topic: Topic::Transactions,
                payload,
            } => {
                let source = Source {
                    peer: Some(from),
                    gossip: Some(id.clone()),
                };
                if self
                    .tx_pool
                    .tell(TxPoolMessage::Received { source, payload })
                    .is_err()
                {
                    self.command(Command::Judge {
                        id,
                        verdict: Verdict::Ignore,
                    });
                }
            }
            Event::Gossip {
                id,
                from,
                topic,
                payload,
            } => {
                let source = Source {
                    peer: Some(from),
                    gossip: Some(id.clone()),
                };
                let is_busy = buggify!("node.network.busy_gossip", 20_000);
                if is_busy
                    || self
                        .validation
                        .tell(ValidationMessage::Decode {
                            source,
                            topic,
                            payload,
                        })
                        .is_err()
                {
                    self.command(Command::Judge {
                        id,
                        verdict: Verdict::Ignore,
                    });
                }
            }
            Event::Request {
                id,
                peer,
                protocol: Protocol::Status,
                payload,
            } => {
                if self
                    .chain
                    .tell(ChainMessage::StatusAsked { id, peer, payload })
                    .is_err()
                {
                    self.command(Command::Respond {
                        id,
                        response: Err(Refusal::Busy),
                    });
                }
            }
            Event::Request { id, .. } if buggify!("node.network.refuse") => {
                self.command(Command::Respond {
                    id,
                    response: Err(Refusal::Busy),
                });
            }
            Event::Request {
                id,
                protocol,
                payload,
                ..
            } => {
                let (storage, handle) = (self.storage.clone(), self.handle.clone());
                let bending = self.bending.clone();
                let serving = ctx.spawn("serve", async move {
                    let response = serve(&storage, protocol, &payload).await;
                    if let Err(error) = bending
                        .send(&handle, Command::Respond { id, response })
                        .await
                    {
                        tracing::debug!(%error, "an answer is dropped");
                    }
                });
                if let Err(error) = serving {
                    // Nobody who asks may end this actor.
                    tracing::debug!(%error, "a request is refused");
                    self.command(Command::Respond {
                        id,
                        response: Err(Refusal::Busy),
                    });
                }
            }
            Event::PeerListens { peer } => {
                tracing::debug!(%peer, "listens");
                if self.chain.tell(ChainMessage::PeerListens).is_err() {
                    tracing::debug!(
                        "the chain is busy: the latest votes are re-sent after the slot"
                    );
                }
            }
            Event::Response { id, peer, result } => {
                // Answers are lost where the peer actor is busy, too.
                if let Some(tag) = self.asked.remove(&id)
                    && !buggify!("node.network.lost_answer", 20_000)
                {
                    self.answer(tag, peer, result);
                }
            }
            event @ (Event::PeerConnected { peer, .. } | Event::PeerDisconnected { peer, .. }) => {
                match event {
                    Event::PeerConnected { expected, .. } => self.connected.insert(peer, expected),
                    _ => self.connected.remove(&peer),
                };
                // No later event says it again.
                let is_full = buggify!("node.network.full_peers", 50_000);
                self.owes_peers |= is_full || !self.tell_peers(event);
            }
            event => {
                self.tell_peers(event);
            }
        }
        Ok(())
    }

    /// Whether there was room.
    fn tell_peers(&self, event: Event) -> bool {
        let is_told = self.peers.tell(PeerMessage::Event(Box::new(event))).is_ok();
        if !is_told {
            tracing::debug!("the peer actor is busy: an event is dropped");
        }
        is_told
    }

    fn introduce(&mut self) {
        let connected = self
            .connected
            .iter()
            .map(|(peer, expected)| (*peer, *expected))
            .collect();
        self.owes_peers = self.peers.tell(PeerMessage::Connected(connected)).is_err();
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
        let (address, incarnation) = (ctx.address(), ctx.incarnation());
        if incarnation > 1 && self.peers.tell(PeerMessage::NetworkRestarted).is_err() {
            tracing::debug!("the peer actor has no room: it is told who is connected when it has");
            self.owes_peers = true;
        }
        ctx.spawn("service", service.run())?;
        let bending = self.bending.clone();
        ctx.spawn("events", async move {
            let tell = |event: Event| {
                let (address, event) = (address.clone(), Box::new(event));
                async move {
                    address
                        .send(NetworkMessage::Event { incarnation, event })
                        .await
                        .is_ok()
                }
            };
            while let Some(event) = events.next().await {
                if !bending.arrive(event, tell).await {
                    return;
                }
            }
            let _closed = address
                .send(NetworkMessage::ServiceEnded { incarnation })
                .await;
        })?;
        // Without a status no peer is greeted. The chain never waits for this actor, so waiting for room ends.
        if self.chain.send(ChainMessage::NetworkStarted).await.is_err() {
            tracing::debug!("the chain is stopping");
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        msg: NetworkMessage,
        ctx: &Context<Self>,
    ) -> Result<(), NetworkError> {
        buggify_pause!("node.network.slow", 20_000, 50);
        if let Some(status) = self.owed_status.take() {
            self.command(Command::SetStatus { status });
        }
        if self.owes_peers {
            self.introduce();
        }
        match msg {
            NetworkMessage::Command(command) => self.command(*command),
            NetworkMessage::Ask {
                tag,
                peer,
                protocol,
                payload,
            } => self.ask(tag, peer, protocol, payload),
            NetworkMessage::Event { incarnation, event } if incarnation == ctx.incarnation() => {
                self.on_event(*event, ctx)?;
            }
            NetworkMessage::ServiceEnded { incarnation } if incarnation == ctx.incarnation() => {
                return Err(NetworkError::Ended);
            }
            NetworkMessage::Event { .. } | NetworkMessage::ServiceEnded { .. } => {
                tracing::debug!("left by an earlier service: dropped");
            }
            NetworkMessage::Introduce => self.introduce(),
        }
        Ok(())
    }

    async fn stopped(&mut self, _: &Context<Self>) {
        self.command(Command::Shutdown);
    }
}

/// Answers a request from the storage.
async fn serve(
    storage: &storage::Handle,
    protocol: Protocol,
    payload: &[u8],
) -> Result<Vec<u8>, Refusal> {
    buggify_pause!("node.network.slow_answer", 250_000, 500);
    let unavailable = |_| Refusal::Unavailable;
    match protocol {
        Protocol::Status => Err(Refusal::Invalid),
        Protocol::HeadersByRange => {
            let request = RangeRequest::decode(payload).map_err(|_| Refusal::Invalid)?;
            storage
                .header_range(request)
                .await
                .map(|r| r.encode())
                .map_err(unavailable)
        }
        Protocol::BlocksByRange => {
            let request = RangeRequest::decode(payload).map_err(|_| Refusal::Invalid)?;
            storage
                .block_range(request)
                .await
                .map(|r| r.encode())
                .map_err(unavailable)
        }
        Protocol::BlocksByHash => {
            let mut hashes = Vec::<Hash>::decode(payload).map_err(|_| Refusal::Invalid)?;
            hashes.truncate(if buggify!("node.network.few_hashes") {
                1
            } else {
                MAX_BLOCKS_BY_HASH
            });
            storage
                .blocks(hashes)
                .await
                .map(|blocks| blocks.encode())
                .map_err(unavailable)
        }
    }
}
