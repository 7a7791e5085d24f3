//! The actor between probes of its neighbours, restored from a stub of the storage.

use std::sync::Arc;

use alys_actor_system::testkit::{Probe, TestSystem};
use alys_actor_system::{Addr, AlysActor, Context, Fault};
use alys_consensus::{Config, Stored, StoredBlock, VerifiedVote};
use alys_net::{Command, NodeKey, Topic};
use alys_types::bls::SecretKey;
use alys_types::spec::{
    AuxPowSpec, ChainSpec, GovernanceSpec, HEADER_VERSION, PegSpec, empty_ledger_hash,
};
use alys_types::{
    Authority, Certificate, FaultModel, Genesis, Hash, Header, Height, Slot, Vote, VoteKind,
    VoteTarget,
};

use super::*;
use crate::actors::engine::EngineMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::peers::PeerMessage;
use crate::actors::storage::{self, StorageMessage};
use crate::actors::validation::{Checked, Gossip, Job, Source, ValidationMessage};

const NAME: &str = "chain";
/// No test lasts until the next slot, in which the state machine rebroadcasts anyway.
const SLOT_MS: u64 = 1_000_000_000_000;

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
            StorageMessage::Blocks { .. }
            | StorageMessage::BlockRange { .. }
            | StorageMessage::HeaderRange { .. } => false,
        };
        Ok(())
    }
}

fn key(index: u8) -> SecretKey {
    SecretKey::derive(&[index + 1; 32])
}

fn genesis() -> Arc<Genesis> {
    let authorities = (0..4).map(|index| Authority {
        public_key: key(index).public_key().to_bytes(),
        proof_of_possession: key(index).prove_possession(),
        fee_address: alys_types::Address([index; 20]),
    });
    let spec = ChainSpec {
        evm_chain_id: 1,
        start_slot: Slot(0),
        slot_duration_ms: SLOT_MS,
        fault_model: FaultModel::Byzantine,
        drift_allowance_ms: 500,
        rejoin_margin: 3,
        execution_genesis_hash: Hash([9; 32]),
        authorities: authorities.collect(),
        governance: GovernanceSpec::default(),
        peg: PegSpec::default(),
        auxpow: AuxPowSpec::default(),
    };
    Arc::new(Genesis::new(spec).expect("a good spec"))
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
        .map(|index| (index, key(index).sign(&message.0)))
        .collect();
    let certificate =
        Certificate::aggregate(target, &votes, genesis.set()).expect("three are a quorum");
    let block = StoredBlock {
        header,
        block: None,
        certificate: Some(certificate),
    };
    Stored {
        blocks: vec![block],
        ..Stored::default()
    }
}

/// The actor of a full node, and the mailboxes of its neighbours.
struct Chain {
    test: TestSystem,
    actor: Addr<ChainMessage>,
    network: Probe<NetworkMessage>,
    validation: Probe<ValidationMessage>,
    _others: (Probe<EngineMessage>, Probe<PeerMessage>),
}

impl Chain {
    fn start() -> Chain {
        Chain::at(|_| {})
    }

    fn at(prepare: impl FnOnce(&Clock)) -> Chain {
        let test = TestSystem::new();
        let genesis = genesis();
        let stored = one_block(&genesis);
        let storage = test.start("storage", 64, move || {
            let store = StorageStub(stored.clone());
            async move { Ok::<_, std::convert::Infallible>(store) }
        });
        let (network, network_probe) = Probe::new(1024);
        let (engine, engine_probe) = Probe::new(1024);
        let (validation, validation_probe) = Probe::new(1024);
        let (peers, peers_probe) = Probe::new(1024);
        let mailboxes = Mailboxes {
            storage: storage::Handle(storage),
            engine,
            validation,
            network,
            peers,
        };
        let clock = Clock::start();
        prepare(&clock);
        let actor = test.start(NAME, 1024, move || {
            ChainActor::restore(
                Config::new(genesis.clone(), None),
                None,
                NodeKey::from_bytes([1; 32]).peer_id(),
                mailboxes.clone(),
                None,
                clock.clone(),
                Metrics::default(),
            )
        });
        let _others = (engine_probe, peers_probe);
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

/// Review A3: an authority that signs a vote for every hash occupies nobody.
#[test]
fn two_votes_of_a_signer_in_a_slot_are_checked_and_no_more() {
    alys_runtime::block_on_main(async {
        let mut chain = Chain::start();
        let genesis = genesis();
        let mut checked = 0;
        for mark in 0..9 {
            let target = VoteTarget {
                kind: VoteKind::Approval,
                height: Height(2),
                slot: Slot(2),
                hash: Hash([mark; 32]),
            };
            let signature = key(1).sign(&target.message(&genesis.chain_id()).0);
            let vote = Vote {
                target,
                signer: 1,
                signature,
            };
            let received = ChainMessage::GossipReceived {
                source: Source::LOCAL,
                gossip: Gossip::Approval(vote),
            };
            chain.actor.tell(received).expect("room");
            // The answer follows the message above.
            chain.is_silent().await;
            while let Some(message) = chain.validation.now() {
                let ValidationMessage::Check {
                    source,
                    job: Job::Vote { vote, set },
                    ..
                } = message
                else {
                    continue;
                };
                checked += 1;
                let vote = VerifiedVote::check(vote, &set, &genesis).expect("a valid vote");
                let answer = ChainMessage::Checked {
                    source,
                    checked: Box::new(Checked::Vote(vote)),
                };
                chain.actor.tell(answer).expect("room");
            }
        }
        assert_eq!(checked, 2);
        chain.test.end().await;
    });
}
