//! The PeerActor with the planner: events of the network, goals of the chain, and answers of peers,
//! right, wrong, late or never. Requests go to connected peers and stay within the limits of the
//! protocol.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use alloy_consensus::proofs::calculate_receipt_root;
use alloy_consensus::{Receipt, ReceiptEnvelope, TxType};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::Log;
use alys_actor_system::Addr;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_net::{DisconnectReason, Event, Offence, PeerId, Protocol, RequestError};
use alys_node::actors::chain::ChainMessage;
use alys_node::actors::engine::EngineMessage;
use alys_node::actors::network::NetworkMessage;
use alys_node::actors::peers::{Metrics, PeerActor, PeerMessage};
use alys_node::actors::validation::CheckError;
use alys_runtime::time::sleep;
use alys_sync_planner::Goal;
use alys_types::limits::MAX_RANGE_BLOCKS;
use alys_types::wire::{
    BlockRange, BlockReceipts, HeldVotes, Message as Wire, RangeRequest, Status, StatusAnswer,
};
use alys_types::{Block, Hash, Height, Slot, VoteKind};

use super::{MAX_STEPS, end, peer, settle};
use crate::choices::Choices;
use crate::federation::Federation;
use crate::in_world;

/// Longest pause between two steps: several timeouts of requests.
const MAX_PAUSE_MS: u64 = 10_000;
/// Requests that wait for an answer; older ones stay unanswered.
const MAX_REQUESTS: usize = 64;

pub fn run(data: &[u8]) {
    let data = data.to_vec();
    in_world(async move {
        let mut choices = Choices::new(&data);
        let mut peers = Peers::start();
        for _ in 0..MAX_STEPS {
            if choices.is_over() {
                break;
            }
            peers.step(&mut choices).await;
            settle().await;
            peers.drain();
        }
        end(peers.test, &["peers"]).await;
    });
}

struct Request {
    tag: u64,
    peer: PeerId,
    protocol: Protocol,
    payload: Vec<u8>,
}

struct Peers {
    test: TestSystem,
    actor: Addr<PeerMessage>,
    network: Probe<NetworkMessage>,
    chain: Probe<ChainMessage>,
    engine: Probe<EngineMessage>,
    federation: Federation,
    connected: BTreeSet<PeerId>,
    requests: VecDeque<Request>,
}

impl Peers {
    fn start() -> Peers {
        let test = TestSystem::new();
        let (network, network_probe) = Probe::new(1024);
        let (chain, chain_probe) = Probe::new(1024);
        let (engine, engine_probe) = Probe::new(1024);
        let actor = test.start("peers", 1024, move || {
            let metrics = Metrics::default();
            let actor = PeerActor::new(
                network.clone(),
                chain.clone(),
                engine.clone(),
                None,
                metrics,
            );
            async move { Ok::<_, Infallible>(actor) }
        });
        Peers {
            test,
            actor,
            network: network_probe,
            chain: chain_probe,
            engine: engine_probe,
            federation: Federation::new(Slot(850_000_000)),
            connected: BTreeSet::new(),
            requests: VecDeque::new(),
        }
    }

    fn tell(&self, message: PeerMessage) {
        assert!(self.actor.tell(message).is_ok(), "the mailbox is full");
    }

    fn event(&self, event: Event) {
        self.tell(PeerMessage::Event(Box::new(event)));
    }

    async fn step(&mut self, choices: &mut Choices<'_>) {
        let peer = peer(choices.byte());
        match choices.below(15) {
            0 => {
                let pause_ms = choices.number() % MAX_PAUSE_MS;
                sleep(Duration::from_millis(pause_ms)).await;
            }
            1 | 2 => {
                self.connected.insert(peer);
                self.event(Event::PeerConnected {
                    peer,
                    addr: super::LOCAL,
                    outbound: choices.flag(),
                    expected: choices.flag(),
                });
            }
            3 => {
                self.connected.remove(&peer);
                let reason = DisconnectReason::Closed;
                self.event(Event::PeerDisconnected { peer, reason });
            }
            4 => {
                let status = self.status(choices);
                self.tell(PeerMessage::Status {
                    peer,
                    is_known: choices.flag(),
                    status,
                });
            }
            5 => {
                let offence = Offence::GossipFlood;
                self.event(Event::Banned { peer, offence });
            }
            6 | 7 => {
                let final_height = choices.near(0);
                let highest = choices.near(final_height);
                self.tell(PeerMessage::SyncTo(Goal {
                    final_height: Height(final_height),
                    highest: Height(highest),
                    to: Height(choices.near(highest)),
                }));
            }
            8 => {
                let known = self.federation.block(choices);
                let hash = known.map_or(Hash([7; 32]), |block| block.header.hash());
                if choices.byte().is_multiple_of(4) {
                    let root = receipts_root();
                    self.tell(PeerMessage::FetchReceipts { hash, root });
                } else {
                    self.tell(PeerMessage::Fetch { hash });
                }
            }
            9 => self.tell(PeerMessage::RangeTaken {
                peer,
                has_progress: choices.flag(),
            }),
            10 => self.tell(match choices.byte() % 3 {
                0 => PeerMessage::RangeLost,
                1 => PeerMessage::Plan,
                _ => PeerMessage::Misbehaved {
                    peer,
                    error: CheckError::UnrequestedBlocks,
                },
            }),
            11 if choices.byte() >= 0xc0 => {
                self.connected.clear();
                self.tell(PeerMessage::NetworkRestarted);
            }
            11 => {
                let list: Vec<_> = (0..4)
                    .map(|index| (super::peer(index), choices.flag()))
                    .collect();
                let list: Vec<_> = list.into_iter().filter(|_| choices.flag()).collect();
                self.connected = list.iter().map(|(peer, _)| *peer).collect();
                self.tell(PeerMessage::Connected(list));
            }
            12 => {
                let status = self.own_status(choices).encode();
                self.tell(PeerMessage::AskStatus { status });
            }
            _ => self.answer(choices),
        }
    }

    fn own_status(&self, choices: &mut Choices<'_>) -> Status {
        let genesis = self.federation.genesis();
        let head_height = Height(choices.near(0));
        Status {
            genesis: genesis.hash(),
            fork_id: genesis.fork_id(head_height),
            head_height,
            head: Hash(choices.array()),
            highest: None,
            finalized: None,
            authority: None,
            slot: Slot(choices.near(850_000_000)),
        }
    }

    /// A status answer, sometimes damaged.
    fn status(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let status = self.own_status(choices);
        let held = HeldVotes::default();
        let mut bytes = StatusAnswer { status, held }.encode();
        if choices.flag() {
            choices.damage(&mut bytes);
        }
        bytes
    }

    /// Answers a request: with what it asks for, with something else, or with an error.
    fn answer(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(self.requests.len());
        let Some(request) = self.requests.remove(at) else {
            return;
        };
        let Request {
            tag,
            peer,
            protocol,
            payload,
        } = request;
        let mut answer = match protocol {
            Protocol::BlocksByRange => {
                let asked = RangeRequest::decode(&payload).map_or(0, |asked| asked.count);
                let count = choices.near(asked.min(4)) % 9;
                self.blocks(choices, count).encode()
            }
            Protocol::BlocksByHash => {
                let count = choices.byte() % 3;
                self.blocks(choices, count.into()).blocks.encode()
            }
            Protocol::Receipts => match choices.byte() % 4 {
                0 => None,
                1 => Some(BlockReceipts(vec![choices.bytes(64)])),
                2 => Some(BlockReceipts(Vec::new())),
                _ => Some(BlockReceipts(vec![receipt().encoded_2718()])),
            }
            .encode(),
            Protocol::Status => self.status(choices),
            Protocol::HeadersByRange => Vec::new(),
        };
        let result = match choices.byte() {
            0xf0.. => Err(RequestError::Timeout),
            0xe0..0xf0 => Err(RequestError::Disconnected),
            0xc0..0xe0 => {
                choices.damage(&mut answer);
                Ok(answer)
            }
            0..0xc0 => Ok(answer),
        };
        // Now and then from another peer, or for a request of an earlier incarnation.
        let tag = if choices.byte() == 0xff {
            choices.number()
        } else {
            tag
        };
        let peer = if choices.byte() == 0xff {
            super::peer(choices.byte())
        } else {
            peer
        };
        self.tell(PeerMessage::Answer {
            tag,
            peer,
            is_known: choices.flag(),
            result,
        });
    }

    fn blocks(&mut self, choices: &mut Choices<'_>, count: u64) -> BlockRange {
        let slot = Slot(choices.near(850_000_001));
        let blocks: Vec<Block> = (0..count)
            .map(|at| self.federation.make(choices, slot.saturating_add(at)))
            .collect();
        let tip = blocks.last().map(|last| {
            let certified =
                self.federation
                    .certificate(VoteKind::Approval, &last.header, choices.byte());
            certified.certificate
        });
        BlockRange {
            blocks,
            tip,
            finalized: None,
        }
    }

    /// Takes what the actor sent, and checks it.
    fn drain(&mut self) {
        while let Some(message) = self.network.now() {
            let NetworkMessage::Request {
                tag,
                peer,
                protocol,
                payload,
            } = message
            else {
                continue;
            };
            assert!(self.connected.contains(&peer), "{peer} is not connected");
            assert!(payload.len() <= protocol.max_request(), "{protocol:?}");
            match protocol {
                Protocol::BlocksByRange => {
                    let asked = RangeRequest::decode(&payload).expect("a request of our own");
                    let is_allowed = (1..=MAX_RANGE_BLOCKS).contains(&asked.count);
                    assert!(is_allowed, "{asked:?}");
                }
                Protocol::BlocksByHash => {
                    let hashes = Vec::<Hash>::decode(&payload).expect("a request of our own");
                    assert_eq!(hashes.len(), 1);
                }
                Protocol::Receipts => {
                    Hash::decode(&payload).expect("a request of our own");
                }
                Protocol::Status => {
                    Status::decode(&payload).expect("a status of our own");
                }
                Protocol::HeadersByRange => panic!("{protocol:?} is asked"),
            }
            if self.requests.len() == MAX_REQUESTS {
                self.requests.pop_front();
            }
            self.requests.push_back(Request {
                tag,
                peer,
                protocol,
                payload,
            });
        }
        while self.chain.now().is_some() {}
        while let Some(message) = self.engine.now() {
            let EngineMessage::ReceiptsReceived { receipts, .. } = message else {
                panic!("the PeerActor commands the engine");
            };
            assert_eq!(
                receipts,
                [receipt()],
                "other receipts than those of the root"
            );
        }
    }
}

/// The only receipt of the blocks that the engine asks for.
fn receipt() -> ReceiptEnvelope {
    ReceiptEnvelope::from_typed(TxType::Eip1559, Receipt::<Log>::default())
}

fn receipts_root() -> Hash {
    calculate_receipt_root(&[receipt()]).into()
}
