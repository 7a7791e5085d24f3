//! The actor between probes of its neighbours, restored from a stub of the storage.

use std::sync::Arc;

use alys_actor_system::testkit::{Probe, TestSystem};
use alys_actor_system::{Addr, AlysActor, Context, Fault};
use alys_consensus::verify::VoteError;
use alys_consensus::{BlockRef, Config, Stored, StoredBlock, VerifiedVote, VoteState};
use alys_net::{Command, GossipId, GossipVerdict, NodeKey, PeerId, Topic};
use alys_types::forks::ForkMismatch;
use alys_types::spec::{HEADER_VERSION, empty_ledger_hash};
use alys_types::wire::{AuthorityProof, CertifiedHeader, HeldVotes, Status, StatusAnswer};
use alys_types::{Certificate, Genesis, Hash, Header, Height, Slot, Vote, VoteKind, VoteTarget};

use super::*;
use crate::actors::auxpow::AuxPowMessage;
use crate::actors::engine::EngineMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage::{self, StorageMessage};
use crate::actors::testbed::{self, authority_key};
use crate::actors::validation::{Checked, Gossip, GossipRef, Job, Source, ValidationMessage};

const NAME: &str = "chain";
/// No test lasts until the next slot, in which the state machine rebroadcasts anyway.
const SLOT_MS: u64 = 1_000_000_000_000;
/// As long for a test, and the clock is more than a hundred slots above the certified block.
const FAR_SLOT_MS: u64 = SLOT_MS / 100;

/// Answers every load with its content.
struct StorageStub(Stored);

impl AlysActor for StorageStub {
    type Message = StorageMessage;
    type Error = std::convert::Infallible;
    type Config = ();
    const NAME: &'static str = "StorageStub";

    async fn handle(&mut self, msg: StorageMessage, _: &Context<Self>) -> Result<(), Self::Error> {
        let _answered = match msg {
            StorageMessage::Load { reply } => reply.send(self.0.clone()),
            StorageMessage::Persist { reply, .. } => reply.send(()),
            StorageMessage::Block { reply, .. } => reply.send(None),
            StorageMessage::FinalBlock { reply, .. } => reply.send(None),
            StorageMessage::QueryBlock { .. }
            | StorageMessage::PutProof { .. }
            | StorageMessage::DeleteProofs { .. }
            | StorageMessage::LoadProofs { .. }
            | StorageMessage::Blocks { .. }
            | StorageMessage::BlockRange { .. }
            | StorageMessage::HeaderRange { .. } => false,
        };
        Ok(())
    }
}

fn genesis() -> Arc<Genesis> {
    testbed::genesis(4, SLOT_MS)
}

/// A store with one certified block.
fn one_block(genesis: &Genesis) -> Stored {
    let header = Header {
        version: HEADER_VERSION,
        evm_chain_id: 1,
        genesis_hash: genesis.hash(),
        height: genesis.header().height.next(),
        slot: Slot(1),
        proposer: 1,
        parent_hash: genesis.hash(),
        parent_certificate: None,
        execution_hash: Hash([1; 32]),
        body_hash: Hash([2; 32]),
        set_hash: genesis.set().hash(),
        ledger_hash: empty_ledger_hash(),
    };
    let target = VoteTarget {
        kind: VoteKind::Approval,
        height: header.height,
        slot: header.slot,
        hash: header.hash(),
    };
    let message = target.message(&genesis.chain_id());
    let votes: Vec<_> = (0..3)
        .map(|index| (index, authority_key(index).sign(&message.0)))
        .collect();
    let certificate =
        Certificate::aggregate(target, &votes, genesis.set()).expect("three are a quorum");
    let block = StoredBlock {
        header,
        block: None,
        certificate: Some(certificate),
        additions: None,
    };
    Stored {
        blocks: vec![block],
        ..Stored::default()
    }
}

fn approval(genesis: &Genesis, height: Height, slot: Slot, hash: Hash, signer: u8) -> Vote {
    let target = VoteTarget {
        kind: VoteKind::Approval,
        height,
        slot,
        hash,
    };
    Vote {
        target,
        signer,
        signature: authority_key(signer).sign(&target.message(&genesis.chain_id()).0),
    }
}

fn peer_id(number: u8) -> PeerId {
    NodeKey::from_bytes([number; 32]).peer_id()
}

/// Gossip on the topic of approvals.
fn gossip(peer: u8, is_known: bool, number: u32) -> Source {
    let (topic, peer) = (Topic::Approvals, peer_id(peer));
    let id = GossipId::unknown(number, topic, peer);
    Source::gossip(peer, is_known, GossipRef { topic, id })
}

/// The actor, and the mailboxes of its neighbours.
struct Chain {
    test: TestSystem,
    actor: Addr<ChainMessage>,
    network: Probe<NetworkMessage>,
    validation: Probe<ValidationMessage>,
    _others: (
        Probe<EngineMessage>,
        Probe<PeerMessage>,
        Probe<AuxPowMessage>,
    ),
}

impl Chain {
    fn start() -> Chain {
        Chain::at(|_| {})
    }

    fn at(prepare: impl FnOnce(&Clock)) -> Chain {
        Chain::launch(genesis(), false, prepare)
    }

    /// The node of authority 0, or a full node.
    fn launch(genesis: Arc<Genesis>, is_authority: bool, prepare: impl FnOnce(&Clock)) -> Chain {
        let test = TestSystem::new();
        let mut stored = one_block(&genesis);
        let own = is_authority.then(|| Arc::new(authority_key(0)));
        let me = own.as_ref().map(|key| key.public_key().to_bytes());
        // It remembers the approval in the certificate.
        stored.votes = is_authority.then(|| VoteState {
            approved_slot: Slot(1),
            ..VoteState::fresh(BlockRef {
                slot: genesis.header().slot,
                hash: genesis.hash(),
            })
        });
        let storage = test.start("storage", 64, move || {
            let store = StorageStub(stored.clone());
            async move { Ok::<_, std::convert::Infallible>(store) }
        });
        let (network, network_probe) = Probe::new(1024);
        let (engine, engine_probe) = Probe::new(1024);
        let (validation, validation_probe) = Probe::new(1024);
        let (peers, peers_probe) = Probe::new(1024);
        let (auxpow, auxpow_probe) = Probe::new(1024);
        let mailboxes = Mailboxes {
            storage: storage::Handle(storage),
            engine,
            validation,
            network,
            peers,
            auxpow,
        };
        let clock = Clock::start();
        prepare(&clock);
        let actor = test.start(NAME, 1024, move || {
            ChainActor::restore(
                Config::new(genesis.clone(), me),
                own.clone(),
                NodeKey::from_bytes([1; 32]).peer_id(),
                mailboxes.clone(),
                None,
                clock.clone(),
                Metrics::default(),
            )
        });
        let _others = (engine_probe, peers_probe, auxpow_probe);
        Chain {
            test,
            actor,
            network: network_probe,
            validation: validation_probe,
            _others,
        }
    }

    async fn is_silent(&self) -> bool {
        Handle(self.actor.clone())
            .summary()
            .await
            .expect("it runs")
            .silent
    }

    fn tell(&self, message: ChainMessage) {
        self.actor.tell(message).expect("room");
    }

    fn receive(&self, source: Source, vote: Vote) {
        let gossip = Gossip::Approval(vote);
        self.tell(ChainMessage::GossipReceived { source, gossip });
    }

    fn answer(&self, source: Source, checked: Checked) {
        let checked = Box::new(checked);
        self.tell(ChainMessage::Checked { source, checked });
    }

    /// Answers the check of a valid vote.
    fn answer_vote(&self, source: Source, job: Job, genesis: &Genesis) {
        let Job::Vote { vote, set } = job else {
            panic!("{job:?}");
        };
        let vote = VerifiedVote::check(vote, &set, genesis).expect("a valid vote");
        self.answer(source, Checked::Vote(vote));
    }

    /// The checks that the earlier messages caused; the last part of each is `is_set_known`.
    async fn checks(&mut self) -> Vec<(Source, Job, bool)> {
        // The actor answers after it has handled the earlier messages.
        self.is_silent().await;
        let mut checks = Vec::new();
        while let Some(message) = self.validation.now() {
            if let ValidationMessage::Check {
                source,
                job,
                is_set_known,
            } = message
            {
                checks.push((source, job, is_set_known));
            }
        }
        checks
    }

    /// The next verdict on gossip.
    async fn verdict(&mut self) -> GossipVerdict {
        let verdict = self.network.find(|message| match message {
            NetworkMessage::Judge { verdict, .. } => Some(verdict),
            _ => None,
        });
        verdict.await.expect("a verdict")
    }

    /// Peers for which the actor asked the network to keep a place, since the last call.
    async fn vouched(&mut self) -> Vec<PeerId> {
        self.is_silent().await;
        let mut vouched = Vec::new();
        while let Some(message) = self.network.now() {
            if let NetworkMessage::Command(command) = message
                && let Command::Vouch { peer, .. } = *command
            {
                vouched.push(peer);
            }
        }
        vouched
    }

    /// Waits until the highest certificate is broadcast.
    async fn rebroadcasts(&mut self) {
        let found = self.network.find(|msg| is_certificate(&msg).then_some(()));
        found.await.expect("a broadcast of the certificate");
    }
}

fn is_certificate(msg: &NetworkMessage) -> bool {
    match msg {
        NetworkMessage::Command(command) => {
            matches!(
                **command,
                Command::Publish {
                    topic: Topic::Finality,
                    ..
                }
            )
        }
        _ => false,
    }
}

#[test]
fn peers_that_reconnect_in_a_loop_cause_one_rebroadcast_per_interval() {
    alys_runtime::block_on_main(async {
        let mut chain = Chain::start();
        let begun = alys_runtime::time::now();
        let mut broadcasts = 0;
        for _ in 0..3 {
            for _ in 0..100 {
                chain.actor.tell(ChainMessage::PeerListens).expect("room");
            }
            chain.rebroadcasts().await;
            broadcasts += 1;
        }
        while let Some(msg) = chain.network.now() {
            broadcasts += u128::from(is_certificate(&msg));
        }
        let allowed = alys_runtime::time::now().duration_since(begun).as_millis() / 500 + 1;
        assert!(
            broadcasts <= allowed,
            "{broadcasts} broadcasts where {allowed} are allowed"
        );
        chain.test.end().await;
    });
}

#[test]
fn the_latest_certificate_is_rebroadcast_for_a_new_peer_at_the_next_tick() {
    alys_runtime::block_on_main(async {
        let mut chain = Chain::start();
        chain.actor.tell(ChainMessage::PeerListens).expect("room");
        chain.rebroadcasts().await;
        chain.test.end().await;
    });
}

#[test]
fn a_restart_of_the_actor_does_not_make_a_jumped_clock_trusted() {
    alys_runtime::block_on_main(async {
        let hour_ms = 3_600_000;
        // Distance of the trusted offset from the clock at the start, and whether the node is
        // silent.
        for (off_ms, silent) in [(None, false), (Some(0), false), (Some(hour_ms), true)] {
            let mut kept = None;
            let chain = Chain::at(|clock| {
                let now = clock.now();
                clock.keep(off_ms.map(|off| now.wall_ms as i64 - now.mono_ms as i64 - off));
                kept = Some(clock.clone());
            });
            let before = kept.as_ref().and_then(Clock::trusted_ms);
            assert_eq!(chain.is_silent().await, silent, "{off_ms:?}");
            chain
                .test
                .faults()
                .plan(&chain.test.path(NAME), Fault::Panic);
            chain.actor.tell(ChainMessage::PeerListens).expect("room");
            chain.test.until(|_| chain.test.restarts(NAME) == 1).await;
            assert_eq!(chain.is_silent().await, silent, "{off_ms:?}");
            let after = kept.as_ref().and_then(Clock::trusted_ms);
            assert!(
                after.is_some() && (!silent || after == before),
                "{before:?} {after:?}"
            );
            assert!(
                chain.actor.tell(ChainMessage::ConfirmClock).is_ok() && !chain.is_silent().await
            );
            chain.test.end().await;
        }
    });
}

/// An authority that signs a vote for every hash takes up no time of the federation. Its votes
/// arrive in bursts, before the answers to the first checks.
#[test]
fn two_votes_of_a_signer_in_a_slot_are_checked_and_no_more() {
    alys_runtime::block_on_main(async {
        let mut chain = Chain::start();
        let genesis = genesis();
        let burst = |chain: &Chain| {
            for mark in 0..9 {
                let vote = approval(&genesis, Height(2), Slot(2), Hash([mark; 32]), 1);
                chain.receive(gossip(1, true, u32::from(mark)), vote);
            }
        };
        burst(&chain);
        let mut checks = chain.checks().await;
        assert_eq!(checks.len(), 2);
        // A forgery uses up nothing.
        let (source, _, _) = checks.remove(0);
        let forged = VoteError::NoSuchSigner { signer: 9, of: 4 };
        chain.answer(source, Checked::Refused(forged.into()));
        burst(&chain);
        checks.extend(chain.checks().await);
        assert_eq!(checks.len(), 2);
        for (source, job, _) in checks {
            chain.answer_vote(source, job, &genesis);
        }
        burst(&chain);
        assert!(chain.checks().await.is_empty());
        chain.test.end().await;
    });
}

/// Peers that know the set may refuse a vote that is valid against an assumed one.
#[test]
fn a_vote_that_checks_against_an_assumed_set_is_counted_and_not_forwarded() {
    alys_runtime::block_on_main(async {
        let mut chain = Chain::start();
        let genesis = genesis();
        let known = one_block(&genesis).blocks[0].header.clone();
        let unknown = Header {
            height: Height(2),
            slot: Slot(2),
            ..known.clone()
        };
        let rows = [
            (known, true, GossipVerdict::Accept),
            (unknown, false, GossipVerdict::Ignore),
        ];
        for (header, is_known, expected) in rows {
            let vote = approval(&genesis, header.height, header.slot, header.hash(), 3);
            chain.receive(gossip(1, true, 0), vote);
            let (source, job, is_set_known) = chain.checks().await.remove(0);
            assert_eq!(is_set_known, is_known);
            chain.answer_vote(source, job, &genesis);
            assert_eq!(chain.verdict().await, expected);
            // A duplicate needs no check, and has the same verdict.
            chain.receive(gossip(1, true, 1), vote);
            assert_eq!(chain.verdict().await, expected);
            assert!(chain.checks().await.is_empty());
        }
        chain.test.end().await;
    });
}

/// A status with certificates that the chain does not know.
fn status(genesis: &Genesis, peer: u8, proof: Option<AuthorityProof>) -> Status {
    let certified = |kind| {
        let header = Header {
            height: Height(2),
            slot: Slot(2),
            execution_hash: Hash([peer; 32]),
            ..one_block(genesis).blocks[0].header.clone()
        };
        let target = VoteTarget {
            kind,
            height: header.height,
            slot: header.slot,
            hash: header.hash(),
        };
        let votes = [(
            1,
            authority_key(1).sign(&target.message(&genesis.chain_id()).0),
        )];
        let certificate = Certificate::aggregate(target, &votes, genesis.set());
        CertifiedHeader {
            header,
            certificate: certificate.expect("a vote"),
        }
    };
    Status {
        genesis: genesis.hash(),
        fork_id: genesis.fork_id(Height(2)),
        head_height: Height(2),
        head: Hash([peer; 32]),
        highest: Some(certified(VoteKind::Approval)),
        finalized: Some(certified(VoteKind::Confirmation)),
        authority: proof,
        slot: Slot::at(
            alys_runtime::clock::wall_ms(),
            genesis.spec().slot_duration_ms,
        ),
    }
}

fn proof(genesis: &Genesis, peer: u8) -> AuthorityProof {
    AuthorityProof::sign(
        &authority_key(peer),
        &genesis.chain_id(),
        &peer_id(peer).to_bytes(),
    )
}

/// A stranger that reconnects in a loop answers with a status each time.
#[test]
fn statuses_of_strangers_wait_for_each_other_and_foreign_votes_are_not_checked() {
    alys_runtime::block_on_main(async {
        let genesis = genesis();
        let mut chain = Chain::launch(genesis.clone(), true, |_| {});
        for (number, is_known) in (1..=100).map(|number| (number, number == 100)) {
            let held = HeldVotes {
                approval: Some(approval(&genesis, Height(2), Slot(2), Hash::ZERO, 1)),
                // Its own, and no later than those that it remembers.
                confirmation: Some(approval(&genesis, Height(1), Slot(1), Hash::ZERO, 0)),
            };
            let answer = StatusAnswer {
                status: status(&genesis, number, Some(proof(&genesis, 1))),
                held,
            };
            chain.tell(ChainMessage::StatusReceived {
                peer: peer_id(number),
                is_known,
                answer: Box::new(answer),
            });
            let (mut certificates, mut proofs) = (0, 0);
            for (source, job, _) in chain.checks().await {
                assert_eq!(source.peer, Some(peer_id(number)));
                assert_eq!(source.is_known, is_known, "peer {number}: {job:?}");
                match job {
                    Job::Certified { .. } => certificates += 1,
                    Job::Authority { .. } => proofs += 1,
                    other => panic!("peer {number}: {other:?}"),
                }
            }
            assert_eq!((certificates, proofs), (2, 1), "peer {number}");
        }
        // The vote that the node would have lost, and whose signature is checked against its key.
        let mut held = HeldVotes::default();
        let lost = approval(&genesis, Height(2), Slot(2), Hash::ZERO, 0);
        held.approval = Some(lost);
        let mut status = status(&genesis, 101, None);
        (status.highest, status.finalized) = (None, None);
        chain.tell(ChainMessage::StatusReceived {
            peer: peer_id(101),
            is_known: false,
            answer: Box::new(StatusAnswer { status, held }),
        });
        let checks = chain.checks().await;
        let [(source, Job::HeldVote { vote, .. }, true)] = &checks[..] else {
            panic!("{checks:?}");
        };
        assert_eq!((*vote, source.is_known), (lost, false));
        chain.test.end().await;
    });
}

/// A proof that was checked keeps a place for its peer and makes the peer's clock count; one that
/// was not checked does neither.
#[test]
fn an_authority_is_vouched_for_and_states_its_clock_once_its_proof_is_checked() {
    alys_runtime::block_on_main(async {
        let genesis = testbed::genesis(4, FAR_SLOT_MS);
        let mut chain = Chain::launch(genesis.clone(), true, |_| {});
        assert!(chain.is_silent().await, "the clock is far above the chain");
        let say = |chain: &Chain, number| {
            let mut status = status(&genesis, number, Some(proof(&genesis, number)));
            (status.highest, status.finalized) = (None, None);
            let held = HeldVotes::default();
            chain.tell(ChainMessage::StatusReceived {
                peer: peer_id(number),
                is_known: false,
                answer: Box::new(StatusAnswer { status, held }),
            });
        };
        // Two peers are all that the clock needs.
        let mut proofs = Vec::new();
        for number in [1, 2] {
            for _ in 0..3 {
                say(&chain, number);
                let mut checks = chain.checks().await;
                assert_eq!(checks.len(), 1, "{checks:?}");
                let (source, job, _) = checks.remove(0);
                let Job::Authority { peer, proof, set } = job else {
                    panic!("{job:?}");
                };
                let verified = proof.verify(&set, &genesis.chain_id(), &peer.to_bytes());
                assert_eq!((peer, verified), (peer_id(number), Ok(())));
                proofs.push((number, source, peer, proof.key));
            }
        }
        assert!(chain.is_silent().await, "no proof is checked");
        assert!(chain.vouched().await.is_empty());
        proofs.dedup_by_key(|(number, ..)| *number);
        for (number, source, peer, key) in proofs {
            chain.answer(source, Checked::Authority { peer, key });
            assert_eq!(chain.vouched().await, [peer_id(number)]);
            assert!(chain.is_silent().await, "a status follows the proof");
        }
        for (number, is_silent) in [(1, true), (1, true), (2, false)] {
            say(&chain, number);
            assert_eq!(chain.is_silent().await, is_silent, "after {number}");
        }
        assert!(chain.checks().await.is_empty(), "they are proven");
        // They are still strangers to the network, so it lost the command, which is repeated. The
        // simulator may lose that one too.
        let vouched = chain.vouched().await;
        if !alys_runtime::is_simulated() {
            assert_eq!(vouched, [1, 1, 2].map(peer_id));
        }
        chain.test.end().await;
    });
}

/// Rule 7.2: the network ends the connection of a peer with other upgrades, and nothing else of its
/// status counts.
#[test]
fn a_peer_with_another_fork_id_is_refused() {
    alys_runtime::block_on_main(async {
        let genesis = genesis();
        let mut chain = Chain::start();
        let peer = peer_id(7);
        let mut status = status(&genesis, 7, Some(proof(&genesis, 1)));
        status.fork_id.hash.0[0] ^= 1;
        let theirs = status.fork_id.hash;
        let held = HeldVotes::default();
        chain.tell(ChainMessage::StatusReceived {
            peer,
            is_known: true,
            answer: Box::new(StatusAnswer { status, held }),
        });
        assert!(chain.checks().await.is_empty());
        let mut refused = Vec::new();
        while let Some(message) = chain.network.now() {
            if let NetworkMessage::Command(command) = message
                && let Command::Refuse { peer, mismatch } = *command
            {
                refused.push((peer, mismatch));
            }
        }
        // The simulator may lose the command.
        if !alys_runtime::is_simulated() {
            assert_eq!(refused, [(peer, ForkMismatch::Unknown { theirs })]);
        }
        chain.test.end().await;
    });
}

/// The holder of a key may prove it under any number of peer ids.
#[test]
fn identities_of_a_key_displace_each_other_and_no_peer_of_another_key() {
    alys_runtime::block_on_main(async {
        let genesis = genesis();
        let mut chain = Chain::start();
        let of_others = std::iter::once((2, 2));
        for (number, index) in of_others.chain((101..=165).map(|number| (number, 1))) {
            let peer = peer_id(number);
            let key = authority_key(index).public_key().to_bytes();
            // The simulator may lose the command.
            for _ in 0..9 {
                chain.answer(Source::answer(peer), Checked::Authority { peer, key });
                if !chain.vouched().await.is_empty() {
                    break;
                }
            }
        }
        for (number, index, is_proven) in [
            (2, 2, true),
            (101, 1, false),
            (161, 1, false),
            (162, 1, true),
        ] {
            let peer = peer_id(number);
            let key = authority_key(index);
            let proof = AuthorityProof::sign(&key, &genesis.chain_id(), &peer.to_bytes());
            let mut status = status(&genesis, number, Some(proof));
            (status.highest, status.finalized) = (None, None);
            let held = HeldVotes::default();
            chain.tell(ChainMessage::StatusReceived {
                peer,
                is_known: is_proven,
                answer: Box::new(StatusAnswer { status, held }),
            });
            assert_eq!(chain.checks().await.is_empty(), is_proven, "peer {number}");
        }
        chain.test.end().await;
    });
}

#[test]
fn the_network_has_the_keys_of_the_set_and_no_peer_is_vouched_for_with_another_one() {
    alys_runtime::block_on_main(async {
        let genesis = genesis();
        let mut chain = Chain::start();
        let sent = chain.network.find(|message| match message {
            NetworkMessage::Command(command) => match *command {
                Command::SetAuthorities { keys } => Some(keys),
                _ => None,
            },
            _ => None,
        });
        let members = genesis.set().authorities().iter();
        let keys: Vec<_> = members.map(|member| member.public_key).collect();
        assert_eq!(sent.await, Some(keys));
        let peer = peer_id(2);
        // As if the authority had left the set during the check.
        let key = authority_key(9).public_key().to_bytes();
        chain.answer(Source::answer(peer), Checked::Authority { peer, key });
        assert!(chain.vouched().await.is_empty());
        chain.test.end().await;
    });
}
