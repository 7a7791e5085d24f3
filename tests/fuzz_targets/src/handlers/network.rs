//! The NetworkActor with a real service: events of peers, and commands of the other actors in any
//! order and state. The PeerActor eventually knows the connected peers, and gossip reaches the
//! actor of its topic.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::Addr;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_net::{
    ChainTag, Command, Config, DisconnectReason, Event, GossipId, GossipVerdict, InboundId,
    NodeKey, Offence, PeerId, Protocol, Refusal, RequestError, RequestId, Topic,
};
use alys_node::actors::auxpow::{AuxPowMessage, PeerProofs};
use alys_node::actors::chain::ChainMessage;
use alys_node::actors::engine::{EngineMessage, PeerReceipts};
use alys_node::actors::network::{Mailboxes, Metrics, NetworkActor, NetworkMessage};
use alys_node::actors::peers::PeerMessage;
use alys_node::actors::storage;
use alys_node::actors::tx_pool::TxPoolMessage;
use alys_node::actors::validation::{GossipRef, ValidationMessage};
use alys_node::interceptor::NetworkInterceptor;
use alys_runtime::time::sleep;
use alys_types::bls::PublicKeyBytes;
use alys_types::forks::ForkMismatch;
use alys_types::wire::{Message as Wire, RangeRequest};
use alys_types::{Height, Slot};

use super::{LOCAL, MAX_STEPS, StoredBlocks, end, peer, settle};
use crate::choices::Choices;
use crate::federation::Federation;
use crate::in_world;

/// Bytes of a drawn payload: more than a vote, less than a block.
const MAX_PAYLOAD: usize = 512;
/// Longest pause between two steps.
const MAX_PAUSE_MS: u64 = 2_000;

pub fn run(data: &[u8]) {
    let data = data.to_vec();
    in_world(async move {
        let mut choices = Choices::new(&data);
        let mut network = Network::start(&mut choices);
        settle().await;
        for _ in 0..MAX_STEPS {
            if choices.is_over() {
                break;
            }
            network.step(&mut choices).await;
            settle().await;
            network.drain();
        }
        network.end().await;
    });
}

struct Network {
    test: TestSystem,
    actor: Addr<NetworkMessage>,
    validation: Probe<ValidationMessage>,
    chain: Probe<ChainMessage>,
    peers: Probe<PeerMessage>,
    tx_pool: Probe<TxPoolMessage>,
    engine: Probe<EngineMessage>,
    auxpow: Probe<AuxPowMessage>,
    /// The connections by the events so far, and those reported to the PeerActor.
    connected: BTreeSet<PeerId>,
    reported: BTreeSet<PeerId>,
    /// Numbers messages and requests.
    received: u32,
}

impl Network {
    fn start(choices: &mut Choices<'_>) -> Network {
        let test = TestSystem::new();
        let mut federation = Federation::new(Slot(850_000_000));
        let block = federation.make(choices, Slot(850_000_001));
        let stored: BTreeMap<_, _> = [(block.header.hash(), Arc::new(block))].into();
        let storage = test.start("storage", 64, move || {
            let stored = StoredBlocks(stored.clone());
            async move { Ok::<_, Infallible>(stored) }
        });
        // Small, so that a few messages fill them.
        let (validation, validation_probe) = Probe::new(2);
        let (chain, chain_probe) = Probe::new(2);
        let (peers, peers_probe) = Probe::new(2);
        let (tx_pool, tx_pool_probe) = Probe::new(2);
        let (engine, engine_probe) = Probe::new(2);
        let (auxpow, auxpow_probe) = Probe::new(2);
        let mailboxes = Mailboxes {
            validation,
            chain,
            peers,
            storage: storage::PeerReads::new(storage),
            receipts: PeerReceipts::new(engine),
            tx_pool,
            proofs: PeerProofs::new(auxpow),
        };
        let genesis = federation.genesis().hash().0;
        let chain_tag = ChainTag { genesis };
        let key = NodeKey::from_bytes([9; 32]);
        let config = Config::new(key, chain_tag, LOCAL, Vec::new());
        let actor = test.start("network", 1024, move || {
            NetworkActor::bind(
                config.clone(),
                true,
                mailboxes.clone(),
                NetworkInterceptor::default(),
                Metrics::default(),
            )
        });
        Network {
            test,
            actor,
            validation: validation_probe,
            chain: chain_probe,
            peers: peers_probe,
            tx_pool: tx_pool_probe,
            engine: engine_probe,
            auxpow: auxpow_probe,
            connected: BTreeSet::new(),
            reported: BTreeSet::new(),
            received: 0,
        }
    }

    fn tell(&self, message: NetworkMessage) {
        assert!(self.actor.tell(message).is_ok(), "the mailbox is full");
    }

    fn event(&self, event: Event) {
        self.tell(NetworkMessage::Event {
            incarnation: 1,
            event: Box::new(event),
        });
    }

    fn command(&self, command: Command) {
        self.tell(NetworkMessage::Command(Box::new(command)));
    }

    async fn step(&mut self, choices: &mut Choices<'_>) {
        let peer = peer(choices.byte());
        self.received += 1;
        let number = self.received;
        match choices.below(18) {
            0 => {
                let pause_ms = choices.number() % MAX_PAUSE_MS;
                sleep(Duration::from_millis(pause_ms)).await;
            }
            1..=3 => {
                let topic = topic(choices);
                self.event(Event::Gossip {
                    id: GossipId::unknown(number, topic, peer),
                    from: peer,
                    topic,
                    payload: choices.bytes(MAX_PAYLOAD),
                });
            }
            4 | 5 => self.event(Event::Request {
                id: InboundId::unknown(number),
                peer,
                protocol: protocol(choices),
                payload: request(choices),
            }),
            6 => self.event(Event::Response {
                id: RequestId::unknown(number),
                peer,
                result: Err(RequestError::Timeout),
            }),
            7 => self.event(Event::Status {
                peer,
                status: choices.bytes(MAX_PAYLOAD),
            }),
            8 | 9 => {
                self.connected.insert(peer);
                self.event(Event::PeerConnected {
                    peer,
                    addr: LOCAL,
                    outbound: choices.flag(),
                    expected: choices.flag(),
                });
            }
            10 => {
                self.connected.remove(&peer);
                let reason = DisconnectReason::Silent;
                self.event(Event::PeerDisconnected { peer, reason });
            }
            11 => self.event(Event::PeerSubscribed { peer }),
            12 => {
                let offence = Offence::Hostile;
                self.event(Event::Banned { peer, offence });
            }
            13 => self.tell(NetworkMessage::Request {
                tag: choices.number(),
                peer,
                protocol: protocol(choices),
                payload: request(choices),
            }),
            14 => self.command(Command::Publish {
                topic: topic(choices),
                payload: choices.bytes(MAX_PAYLOAD),
            }),
            15 => self.command(match choices.byte() % 7 {
                0 => Command::SetStatus {
                    status: choices.bytes(MAX_PAYLOAD),
                },
                1 => Command::Report {
                    peer,
                    offence: Offence::InvalidGossip,
                },
                2 => Command::Ban {
                    peer,
                    duration: Duration::from_millis(choices.number() % MAX_PAUSE_MS),
                },
                3 => Command::Vouch {
                    peer,
                    key: PublicKeyBytes([choices.byte() % 4; 48]),
                },
                4 => Command::SetAuthorities {
                    keys: vec![PublicKeyBytes([choices.byte() % 4; 48])],
                },
                5 => Command::Refuse {
                    peer,
                    mismatch: ForkMismatch::Outdated { ours: Height(1) },
                },
                _ => Command::Pardon { peer },
            }),
            16 => {
                let id = InboundId::unknown(number);
                let response = if choices.flag() {
                    Ok(choices.bytes(MAX_PAYLOAD))
                } else {
                    Err(Refusal::Busy)
                };
                self.command(Command::Respond { id, response });
            }
            _ => match choices.byte() % 3 {
                0 => self.tell(NetworkMessage::GetConnected),
                // Of a service before the restart: without effect.
                1 => self.tell(NetworkMessage::ServiceEnded { incarnation: 0 }),
                _ => {
                    let topic = topic(choices);
                    let id = GossipId::unknown(number, topic, peer);
                    let verdicts = [
                        GossipVerdict::Accept,
                        GossipVerdict::Ignore,
                        GossipVerdict::Reject,
                    ];
                    let verdict = choices.pick(&verdicts).copied();
                    self.tell(NetworkMessage::Judge {
                        gossip: GossipRef { topic, id },
                        verdict: verdict.unwrap_or(GossipVerdict::Ignore),
                    });
                }
            },
        }
    }

    fn drain(&mut self) {
        while let Some(message) = self.validation.now() {
            if let ValidationMessage::Decode { topic, .. } = message {
                assert!(!matches!(topic, Topic::Transactions | Topic::Work));
            }
        }
        while self.tx_pool.now().is_some() {}
        while self.engine.now().is_some() {}
        while self.auxpow.now().is_some() {}
        while self.chain.now().is_some() {}
        while let Some(message) = self.peers.now() {
            match message {
                PeerMessage::Connected(list) => {
                    self.reported = list.into_iter().map(|(peer, _)| peer).collect();
                }
                PeerMessage::Event(event) => match *event {
                    Event::PeerConnected { peer, .. } => {
                        self.reported.insert(peer);
                    }
                    Event::PeerDisconnected { peer, .. } => {
                        self.reported.remove(&peer);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// With room again, and one more message, the PeerActor has the connections.
    async fn end(mut self) {
        for _ in 0..2 {
            self.tell(NetworkMessage::GetConnected);
            settle().await;
            self.drain();
        }
        assert_eq!(self.reported, self.connected);
        end(self.test, &["network"]).await;
    }
}

fn topic(choices: &mut Choices<'_>) -> Topic {
    let topic = choices.pick(&Topic::ALL).copied();
    topic.unwrap_or(Topic::Blocks)
}

fn protocol(choices: &mut Choices<'_>) -> Protocol {
    let protocol = choices.pick(&Protocol::ALL).copied();
    protocol.unwrap_or(Protocol::Status)
}

/// A request for a range, or any bytes.
fn request(choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.flag() {
        return choices.bytes(MAX_PAYLOAD);
    }
    let request = RangeRequest {
        start: alys_types::Height(choices.near(1)),
        count: choices.near(2),
    };
    request.encode()
}
