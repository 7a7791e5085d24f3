//! The ChainActor with the state machine behind it, the ValidationActor and the storage: gossip,
//! status messages, ranges and bodies of peers, answers of the execution client, time, and steps of
//! the clock.
//!
//! The fuzzer has the keys of all authorities, more than the protocol tolerates: agreement between
//! nodes is not among the invariants here, but the promises of one node are. It signs one block of
//! a kind in a slot, its finality does not go back, and it publishes only messages that others
//! decode.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_actor_system::testkit::{Probe, TestSystem};
use alys_actor_system::{Addr, mailbox};
use alys_consensus::{PayloadRequest, Verdict};
use alys_net::{Command, GossipId, InboundId, Topic};
use alys_node::actors::auxpow::AuxPowMessage;
use alys_node::actors::chain::{ChainActor, ChainMessage, Clock, Handle, Mailboxes, Metrics};
use alys_node::actors::engine::EngineMessage;
use alys_node::actors::network::NetworkMessage;
use alys_node::actors::peers::PeerMessage;
use alys_node::actors::storage::{self, StorageActor};
use alys_node::actors::validation::{
    Gossip, GossipRef, Source, ValidationActor, ValidationMessage,
};
use alys_node::events::{NodeEvent, Observer};
use alys_peg::Additions;
use alys_runtime::disk::Dir;
use alys_runtime::sim::{World, here};
use alys_runtime::{clock, time::sleep};
use alys_storage::Engine;
use alys_types::wire::{
    AuthorityProof, BlockRange, CertifiedHeader, Confirmation, HeldVotes, Message as Wire,
    Proposal, Status, StatusAnswer,
};
use alys_types::{Certificate, Hash, Header, Height, Slot, Vote, VoteKind};

use super::{MAX_STEPS, end, peer, settle};
use crate::choices::Choices;
use crate::federation::{self, AUTHORITIES, Federation, SLOT_MS};
use crate::in_world;

/// Questions to the execution client that wait for an answer; older ones stay unanswered.
const MAX_QUESTIONS: usize = 64;
/// Longest pause between two steps.
const MAX_PAUSE_MS: u64 = 3 * SLOT_MS;
/// Largest step of the wall clock, in either direction: beyond the rejoin margin.
const MAX_STEP_MS: u64 = 20 * SLOT_MS;

pub fn run(data: &[u8]) {
    let data = data.to_vec();
    in_world(async move {
        let mut choices = Choices::new(&data);
        let me = (choices.byte() < 0xc0).then_some(0);
        let mut chain = Chain::start(me);
        settle().await;
        for _ in 0..MAX_STEPS {
            if choices.is_over() {
                break;
            }
            chain.step(&mut choices).await;
            settle().await;
            chain.drain();
        }
        chain.end().await;
    });
}

/// The promises of the node, as its observer sees them.
#[derive(Debug, Default)]
struct Seen {
    signed: BTreeMap<(VoteKind, Slot), Hash>,
    final_height: Height,
    violations: Vec<String>,
}

impl Seen {
    fn note(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::Signed { target } => {
                let first = self.signed.entry((target.kind, target.slot));
                if *first.or_insert(target.hash) != target.hash {
                    let violation = format!("two blocks signed in a slot, the second: {target:?}");
                    self.violations.push(violation);
                }
            }
            NodeEvent::Finalized(block) => {
                if block.height < self.final_height {
                    let violation = format!("finality went back to {}", block.height);
                    self.violations.push(violation);
                }
                self.final_height = block.height;
            }
            _ => {}
        }
    }
}

/// The actors, the mailboxes of their neighbours, and the federation that the fuzzer commands.
struct Chain {
    test: TestSystem,
    federation: Federation,
    chain: Addr<ChainMessage>,
    validation: Addr<ValidationMessage>,
    network: Probe<NetworkMessage>,
    engine: Probe<EngineMessage>,
    peers: Probe<PeerMessage>,
    _auxpow: Probe<AuxPowMessage>,
    questions: VecDeque<EngineMessage>,
    seen: Arc<Mutex<Seen>>,
    /// Numbers the messages and requests of peers.
    received: u32,
}

fn slot_now() -> Slot {
    Slot::at(clock::wall_ms(), SLOT_MS)
}

impl Chain {
    /// Starts an authority, or a full node.
    fn start(me: Option<u8>) -> Chain {
        let test = TestSystem::new();
        let federation = Federation::new(slot_now().saturating_sub(2));
        let config = federation.config(me);
        let key = me.map(|index| Arc::new(federation::key(index)));
        let genesis = federation.genesis().clone();
        let storage = test.start("storage", 64, move || {
            let genesis = genesis.clone();
            async move {
                let dir = Dir::open("/data").map_err(|error| alys_storage::Error::Io {
                    operation: "create directory",
                    reason: error.to_string(),
                })?;
                let metrics = storage::Metrics::default();
                let actor = StorageActor::open(&dir, Engine::Redb, &genesis, metrics)?;
                actor.create_votes(&genesis)?;
                Ok::<_, alys_storage::Error>(actor)
            }
        });
        let (chain, slot) = mailbox::<ChainMessage>(1024);
        let validation = {
            let (config, chain) = (config.clone(), chain.clone());
            test.start("validation", 1024, move || {
                let actor = ValidationActor::new(config.clone(), chain.clone(), Default::default());
                async move { Ok::<_, Infallible>(actor) }
            })
        };
        let (network, network_probe) = Probe::new(1024);
        let (engine, engine_probe) = Probe::new(1024);
        let (peers, peers_probe) = Probe::new(1024);
        let (auxpow, auxpow_probe) = Probe::new(1024);
        let mailboxes = Mailboxes {
            storage: storage::Handle(storage),
            engine,
            validation: validation.clone(),
            network,
            peers,
            auxpow,
        };
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let observer: Observer = {
            let seen = seen.clone();
            Arc::new(move |event: &NodeEvent| {
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(event);
            })
        };
        let clock = Clock::start();
        test.start("chain", slot, move || {
            ChainActor::restore(
                config.clone(),
                key.clone(),
                peer(0),
                mailboxes.clone(),
                Some(observer.clone()),
                clock.clone(),
                Metrics::default(),
            )
        });
        Chain {
            test,
            federation,
            chain,
            validation,
            network: network_probe,
            engine: engine_probe,
            peers: peers_probe,
            _auxpow: auxpow_probe,
            questions: VecDeque::new(),
            seen,
            received: 0,
        }
    }

    async fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(19) {
            0 | 1 => {
                let pause_ms = choices.number() % MAX_PAUSE_MS;
                sleep(Duration::from_millis(pause_ms)).await;
            }
            2 | 3 => {
                let slot = Slot(choices.near(slot_now().0));
                let block = self.federation.make(choices, slot);
                let proposal = Box::new(self.federation.proposal(block));
                self.gossip(choices, Topic::Blocks, Gossip::Proposal(proposal));
            }
            4 | 5 => {
                if let Some(header) = self.header(choices) {
                    let signer = signer(choices);
                    let vote = self.federation.vote(VoteKind::Approval, &header, signer);
                    self.gossip(choices, Topic::Approvals, Gossip::Approval(vote));
                }
            }
            6 | 7 => {
                if let Some(header) = self.header(choices) {
                    let signer = signer(choices);
                    let signers = choices.byte();
                    let confirmation = self.federation.confirmation(&header, signer, signers);
                    let confirmation = Gossip::Confirmation(Box::new(confirmation));
                    self.gossip(choices, Topic::Confirmations, confirmation);
                }
            }
            8 => {
                if let Some(certified) = self.certified(choices) {
                    let certificate = Gossip::Certificate(Box::new(certified));
                    self.gossip(choices, Topic::Finality, certificate);
                }
            }
            9 => self.status_answer(choices),
            10 => self.status_request(choices),
            11 => self.range(choices),
            12 => {
                let blocks = self.federation.block(choices).cloned();
                let (peer, blocks) = (peer(choices.byte()), blocks.into_iter().collect());
                self.tell(ChainMessage::BodiesReceived { peer, blocks });
            }
            13 => {
                let order = Box::new(self.federation.order(choices));
                self.tell(ChainMessage::Order(order));
            }
            14 => self.tell(match choices.below(7) {
                0 => ChainMessage::ExecutionRestarted,
                1 => ChainMessage::NetworkStarted,
                2 => ChainMessage::PeerListens,
                3 => ChainMessage::ChecksLost,
                4 => ChainMessage::ConfirmClock,
                5 => ChainMessage::Resume,
                _ => ChainMessage::NotStored {
                    hash: Hash(choices.array()),
                },
            }),
            15 => {
                let by_ms = choices.number() % (2 * MAX_STEP_MS);
                let by_ms = by_ms as i64 - MAX_STEP_MS as i64;
                World::current().step_clock(here().node, by_ms);
            }
            _ => self.answer(choices),
        }
    }

    /// Sends a message that must be taken, because every step is followed by a pause.
    fn tell(&self, message: ChainMessage) {
        assert!(self.chain.tell(message).is_ok(), "the mailbox is full");
    }

    fn header(&self, choices: &mut Choices<'_>) -> Option<Header> {
        let block = self.federation.block(choices)?;
        Some(block.header.clone())
    }

    fn certified(&mut self, choices: &mut Choices<'_>) -> Option<CertifiedHeader> {
        let header = self.header(choices)?;
        let kind = match choices.byte() % 4 {
            0 => VoteKind::Confirmation,
            1 if choices.byte() == 0xff => VoteKind::Proposal,
            _ => VoteKind::Approval,
        };
        Some(self.federation.certificate(kind, &header, choices.byte()))
    }

    fn source(&mut self, choices: &mut Choices<'_>, topic: Topic) -> Source {
        self.received += 1;
        let peer = peer(choices.byte());
        let id = GossipId::unknown(self.received, topic, peer);
        Source::gossip(peer, choices.flag(), GossipRef { topic, id })
    }

    /// Delivers gossip as bytes, sometimes damaged ones, to the ValidationActor.
    fn gossip(&mut self, choices: &mut Choices<'_>, topic: Topic, gossip: Gossip) {
        let source = self.source(choices, topic);
        let mut payload = match &gossip {
            Gossip::Proposal(proposal) => proposal.encode(),
            Gossip::Approval(vote) => vote.encode(),
            Gossip::Confirmation(confirmation) => confirmation.encode(),
            Gossip::Certificate(certified) => certified.encode(),
        };
        let how = choices.byte();
        if how >= 0xc0 {
            choices.damage(&mut payload);
        }
        let topic = if how == 0xff {
            choices.pick(&Topic::ALL).copied().unwrap_or(topic)
        } else {
            topic
        };
        let decode = ValidationMessage::Decode {
            source,
            topic,
            payload,
        };
        assert!(self.validation.tell(decode).is_ok(), "the mailbox is full");
    }

    fn status(&mut self, choices: &mut Choices<'_>) -> Status {
        let head = self.header(choices);
        let head_height = Height(choices.near(head.as_ref().map_or(0, |head| head.height.0)));
        Status {
            genesis: self.federation.genesis().hash(),
            fork_id: self.federation.genesis().fork_id(head_height),
            head_height,
            head: head.as_ref().map_or(Hash::ZERO, Header::hash),
            highest: self.certified(choices),
            finalized: self.certified(choices),
            authority: choices.flag().then(|| {
                let key = federation::key(signer(choices));
                let chain = self.federation.genesis().chain_id();
                // Now and then the proof of another peer.
                AuthorityProof::sign(&key, &chain, &peer(choices.byte()).to_bytes())
            }),
            slot: Slot(choices.near(slot_now().0)),
        }
    }

    /// The answer to a status request, with votes of the node that this peer claims to hold.
    fn status_answer(&mut self, choices: &mut Choices<'_>) {
        let status = self.status(choices);
        let mut held = HeldVotes::default();
        if let Some(header) = self.header(choices)
            && choices.flag()
        {
            let signer = if choices.byte() < 0xc0 { 0 } else { 1 };
            held.approval = Some(self.federation.vote(VoteKind::Approval, &header, signer));
            held.confirmation = choices.flag().then(|| {
                self.federation
                    .vote(VoteKind::Confirmation, &header, signer)
            });
        }
        let answer = Box::new(StatusAnswer { status, held });
        let peer = peer(choices.byte());
        self.tell(ChainMessage::StatusReceived {
            peer,
            is_known: choices.flag(),
            answer,
        });
    }

    fn status_request(&mut self, choices: &mut Choices<'_>) {
        let mut payload = self.status(choices).encode();
        if choices.byte() >= 0xc0 {
            choices.damage(&mut payload);
        }
        self.received += 1;
        let id = InboundId::unknown(self.received);
        let peer = peer(choices.byte());
        self.tell(ChainMessage::StatusRequested {
            id,
            peer,
            is_known: choices.flag(),
            payload,
        });
    }

    fn range(&mut self, choices: &mut Choices<'_>) {
        let first = choices.below(self.federation.blocks().len());
        let count = 1 + choices.below(8);
        let mut blocks: Vec<_> = self.federation.blocks().to_vec();
        blocks.drain(..first.min(blocks.len()));
        blocks.truncate(count);
        let last = blocks.last().map(|block| block.header.clone());
        let tip: Option<Certificate> = last.map(|last| {
            let signers = choices.byte();
            let certified = self
                .federation
                .certificate(VoteKind::Approval, &last, signers);
            certified.certificate
        });
        let finalized = choices.flag().then(|| self.certified(choices)).flatten();
        let range = Box::new(BlockRange {
            blocks,
            tip,
            finalized,
        });
        let peer = peer(choices.byte());
        self.tell(ChainMessage::RangeReceived { peer, range });
    }

    /// Answers the oldest question to the execution client.
    fn answer(&mut self, choices: &mut Choices<'_>) {
        match self.questions.pop_front() {
            Some(EngineMessage::Execute { hash, .. }) => {
                let verdict = match choices.byte() {
                    0xf0.. => Verdict::Invalid,
                    0xd0..0xf0 => Verdict::Unknown,
                    0..0xd0 => Verdict::Valid,
                };
                self.tell(ChainMessage::Executed { hash, verdict });
            }
            Some(EngineMessage::Build(request)) => {
                let PayloadRequest { slot, parent, .. } = request;
                let known = self.federation.header(&parent);
                let known = known.filter(|_| choices.byte() < 0xe0);
                let message = match known {
                    Some(header) => ChainMessage::Built {
                        slot,
                        parent,
                        payload: Box::new(federation::payload(header, slot, choices.byte())),
                    },
                    None => ChainMessage::BuildFailed { slot, parent },
                };
                self.tell(message);
            }
            Some(EngineMessage::Account { hash, .. }) => {
                let additions = (choices.byte() < 0xd0).then(Additions::default);
                self.tell(ChainMessage::Accounted { hash, additions });
            }
            Some(
                EngineMessage::Forkchoice { .. }
                | EngineMessage::ReceiptsReceived { .. }
                | EngineMessage::GetReceipts { .. }
                | EngineMessage::RetryForkchoice,
            )
            | None => {}
        }
    }

    /// Takes what the actor sent, and checks it.
    fn drain(&mut self) {
        while let Some(message) = self.network.now() {
            let NetworkMessage::Command(command) = message else {
                continue;
            };
            match *command {
                Command::Publish { topic, payload } => self.check_published(topic, &payload),
                Command::SetStatus { status } => {
                    Status::decode(&status).expect("a status of our own");
                }
                Command::Respond {
                    response: Ok(answer),
                    ..
                } => {
                    StatusAnswer::decode(&answer).expect("an answer of our own");
                }
                _ => {}
            }
        }
        while let Some(question) = self.engine.now() {
            if self.questions.len() == MAX_QUESTIONS {
                self.questions.pop_front();
            }
            if matches!(
                question,
                EngineMessage::Execute { .. } | EngineMessage::Build(_)
            ) {
                self.questions.push_back(question);
            }
        }
        while self.peers.now().is_some() {}
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(seen.violations.is_empty(), "{:?}", seen.violations);
    }

    /// Checks that other nodes decode a published message.
    fn check_published(&mut self, topic: Topic, payload: &[u8]) {
        assert!(payload.len() <= topic.max_payload(), "{topic:?}: too long");
        let kind = match topic {
            Topic::Blocks => {
                let proposal = Proposal::decode(payload).expect("a proposal of our own");
                let kind = proposal.vote.target.kind;
                self.federation.remember(proposal.block);
                Some((kind, VoteKind::Proposal))
            }
            Topic::Approvals => {
                let vote = Vote::decode(payload).expect("an approval of our own");
                Some((vote.target.kind, VoteKind::Approval))
            }
            Topic::Confirmations => {
                let decoded = Confirmation::decode(payload).expect("a confirmation of our own");
                Some((decoded.vote.target.kind, VoteKind::Confirmation))
            }
            Topic::Finality => {
                CertifiedHeader::decode(payload).expect("a certificate of our own");
                None
            }
            Topic::Work | Topic::Transactions => panic!("the chain publishes on {topic:?}"),
        };
        if let Some((found, expected)) = kind {
            assert_eq!(found, expected, "{topic:?}");
        }
    }

    async fn end(self) {
        let summary = Handle(self.chain.clone()).summary().await;
        let summary = summary.expect("the actor answers");
        let last_seen = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .final_height;
        assert!(
            summary.final_height >= last_seen,
            "{} after {last_seen}",
            summary.final_height
        );
        end(self.test, &["storage", "validation", "chain"]).await;
    }
}

/// An authority but the node itself, or now and then any number.
fn signer(choices: &mut Choices<'_>) -> u8 {
    match choices.byte() {
        0xf8.. => choices.byte(),
        byte => 1 + byte % (AUTHORITIES - 1),
    }
}
