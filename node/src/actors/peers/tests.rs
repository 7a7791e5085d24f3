//! The actor between probes of the NetworkActor and the ChainActor.

use std::sync::{Arc, Mutex};

use alloy_consensus::proofs::calculate_receipt_root;
use alloy_consensus::{Receipt, ReceiptEnvelope, TxType};
use alloy_eips::eip2718::Encodable2718;
use alys_actor_system::Fault;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_net::NodeKey;
use alys_types::wire::{HeldVotes, Status};
use alys_types::{ForkId, Height, Slot};

use super::*;

const NAME: &str = "peers";

/// The actor, and the mailboxes of its neighbours.
fn start(
    test: &TestSystem,
) -> (
    Addr<PeerMessage>,
    Probe<NetworkMessage>,
    Probe<ChainMessage>,
) {
    let (peers, network, chain, _) = start_with_engine(test);
    (peers, network, chain)
}

fn start_with_engine(
    test: &TestSystem,
) -> (
    Addr<PeerMessage>,
    Probe<NetworkMessage>,
    Probe<ChainMessage>,
    Probe<EngineMessage>,
) {
    let (network, network_probe) = Probe::new(64);
    let (chain, chain_probe) = Probe::new(64);
    let (engine, engine_probe) = Probe::new(64);
    let peers = test.start(NAME, 64, move || {
        let actor = PeerActor::new(
            network.clone(),
            chain.clone(),
            engine.clone(),
            None,
            Metrics::default(),
        );
        async move { Ok::<_, std::convert::Infallible>(actor) }
    });
    (peers, network_probe, chain_probe, engine_probe)
}

/// The address of an engine that is gone.
fn no_engine() -> Addr<EngineMessage> {
    Probe::new(1).0
}

fn connected(key: u8) -> (PeerId, PeerMessage) {
    let peer = NodeKey::from_bytes([key; 32]).peer_id();
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    (
        peer,
        PeerMessage::Event(Box::new(Event::PeerConnected {
            peer,
            addr,
            outbound: true,
            expected: true,
        })),
    )
}

/// Tag, peer and hashes of the next request for blocks.
async fn next_request(network: &mut Probe<NetworkMessage>) -> (u64, PeerId, Vec<Hash>) {
    let request = network.find(|msg| match msg {
        NetworkMessage::Request {
            tag,
            peer,
            protocol: Protocol::BlocksByHash,
            payload,
        } => Some((
            tag,
            peer,
            Vec::<Hash>::decode(&payload).expect("a list of hashes"),
        )),
        _ => None,
    });
    request.await.expect("a request")
}

/// Sender of the next status that the chain gets, whether it is known, and its slot.
async fn next_status(chain: &mut Probe<ChainMessage>) -> Option<(PeerId, bool, Slot)> {
    let received = chain.find(|msg| match msg {
        ChainMessage::StatusReceived {
            peer,
            is_known,
            answer,
        } => Some((peer, is_known, answer.status.slot)),
        _ => None,
    });
    received.await
}

#[test]
fn a_block_that_one_peer_lacks_is_requested_from_the_next() {
    alys_runtime::block_on_main(async {
        let test = TestSystem::new();
        let (peers, mut network, _chain) = start(&test);
        let (one, hello) = connected(1);
        peers.tell(hello).expect("room");
        let (two, hello) = connected(2);
        peers.tell(hello).expect("room");
        let hash = Hash([7; 32]);
        peers.tell(PeerMessage::Fetch { hash }).expect("room");
        let (tag, first, hashes) = next_request(&mut network).await;
        assert_eq!(hashes, [hash]);
        let nothing = Ok(Vec::<Block>::new().encode());
        peers
            .tell(PeerMessage::Answer {
                tag,
                peer: first,
                is_known: true,
                result: nothing,
            })
            .expect("room");
        // The delay starts when the answer is handled.
        alys_runtime::time::sleep(FETCH_RETRY_DELAY * 2).await;
        peers.tell(PeerMessage::Fetch { hash }).expect("room");
        let (_, second, hashes) = next_request(&mut network).await;
        assert_eq!(hashes, [hash]);
        assert_eq!(
            [first, second]
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>(),
            [one, two].into()
        );
        test.end().await;
    });
}

#[test]
fn all_peers_are_asked_for_their_statuses_and_the_chain_gets_the_answers() {
    alys_runtime::block_on_main(async {
        let test = TestSystem::new();
        let (peers, mut network, mut chain) = start(&test);
        let (one, hello) = connected(1);
        peers.tell(hello).expect("room");
        let (two, hello) = connected(2);
        peers.tell(hello).expect("room");
        let status = vec![7];
        peers.tell(PeerMessage::AskStatus { status }).expect("room");
        let theirs = StatusAnswer {
            status: Status {
                genesis: Hash([1; 32]),
                fork_id: ForkId {
                    hash: Hash([2; 32]),
                    next: None,
                },
                head_height: Height(0),
                head: Hash([1; 32]),
                highest: None,
                finalized: None,
                authority: None,
                slot: Slot(9),
            },
            held: HeldVotes::default(),
        };
        let mut asked = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let request = network.find(|msg| match msg {
                NetworkMessage::Request {
                    tag,
                    peer,
                    protocol: Protocol::Status,
                    payload,
                } => Some((tag, peer, payload)),
                _ => None,
            });
            let (tag, peer, payload) = request.await.expect("a request");
            assert_eq!(payload, [7], "our own status");
            asked.insert(peer);
            let result = Ok(theirs.encode());
            let is_known = peer == one;
            peers
                .tell(PeerMessage::Answer {
                    tag,
                    peer,
                    is_known,
                    result,
                })
                .expect("room");
            assert_eq!(
                next_status(&mut chain).await,
                Some((peer, is_known, Slot(9)))
            );
        }
        // The status of a new connection goes the same way.
        for (peer, is_known) in [(one, true), (two, false)] {
            peers
                .tell(PeerMessage::Status {
                    peer,
                    is_known,
                    status: theirs.encode(),
                })
                .expect("room");
            assert_eq!(
                next_status(&mut chain).await,
                Some((peer, is_known, Slot(9)))
            );
        }
        assert_eq!(asked, [one, two].into());
        test.end().await;
    });
}

/// The chain repeats its request every two seconds, and the network waits ten for an answer.
#[test]
fn a_peer_that_owes_its_status_is_not_asked_again() {
    alys_runtime::block_on_main(async {
        let test = TestSystem::new();
        let (peers, mut network, _chain) = start(&test);
        let (peer, hello) = connected(1);
        peers.tell(hello).expect("room");
        for _ in 0..2 {
            for _ in 0..2 {
                let status = vec![7];
                peers.tell(PeerMessage::AskStatus { status }).expect("room");
            }
            // The actor handles its messages in order, so its report follows the requests.
            let error = CheckError::UnrequestedBlocks;
            peers
                .tell(PeerMessage::Misbehaved { peer, error })
                .expect("room");
            let mut tags = Vec::new();
            let reported = network.find(|msg| match msg {
                NetworkMessage::Request {
                    tag,
                    protocol: Protocol::Status,
                    ..
                } => {
                    tags.push(tag);
                    None
                }
                NetworkMessage::Command(command) => {
                    matches!(*command, Command::Report { .. }).then_some(())
                }
                _ => None,
            });
            assert_eq!(reported.await, Some(()));
            let [tag] = tags[..] else {
                panic!("{tags:?}");
            };
            // After the answer, here an error, the next request follows.
            let result = Err(RequestError::Timeout);
            let is_known = true;
            peers
                .tell(PeerMessage::Answer {
                    tag,
                    peer,
                    is_known,
                    result,
                })
                .expect("room");
        }
        test.end().await;
    });
}

#[test]
fn a_request_without_an_answer_is_given_up() {
    alys_runtime::block_on_main(async {
        let (network, _network) = Probe::new(64);
        let (chain, _chain) = Probe::new(64);
        let endings = Arc::new(Mutex::new(Vec::new()));
        let seen = endings.clone();
        let observer: Observer = Arc::new(move |event: &NodeEvent| {
            if let NodeEvent::Peering(PeerEvent::Ended { tag, ending }) = event {
                seen.lock().expect("no panic").push((*tag, *ending));
            }
        });
        let mut actor = PeerActor::new(
            network,
            chain,
            no_engine(),
            Some(observer),
            Metrics::default(),
        );
        let now = alys_runtime::time::now();
        let hash = Hash([1; 32]);
        let peer = NodeKey::from_bytes([1; 32]).peer_id();
        let pending = |wanted, until| Pending {
            peer,
            wanted,
            until,
        };
        actor
            .pending
            .insert(7, pending(Wanted::Block { hash }, now));
        let later = now + REQUEST_TIMEOUT;
        actor.pending.insert(8, pending(Wanted::Status, later));
        actor.fetching.insert(hash, now);
        actor.expire();
        let ended = endings.lock().expect("no panic").clone();
        assert_eq!(ended, [(7, Ending::GivenUp)]);
        assert_eq!(actor.pending.keys().copied().collect::<Vec<_>>(), [8]);
        assert!(actor.fetching.is_empty());
    });
}

#[test]
fn a_block_is_not_requested_again_before_the_retry_delay_after_any_answer() {
    alys_runtime::block_on_main(async {
        let hash = Hash([1; 32]);
        let peer = NodeKey::from_bytes([1; 32]).peer_id();
        let answers = [
            Err(RequestError::Timeout),
            Ok(Vec::<Block>::new().encode()),
            Ok(vec![1]),
        ];
        for answer in answers {
            let (network, _network) = Probe::new(64);
            let (chain, _chain) = Probe::new(64);
            let mut actor = PeerActor::new(network, chain, no_engine(), None, Metrics::default());
            actor.connect(peer, true);
            actor.fetch(hash);
            let tags: Vec<u64> = actor.pending.keys().copied().collect();
            let [tag] = tags[..] else {
                panic!("{tags:?}");
            };
            let before = alys_runtime::time::now();
            actor.on_answer(tag, peer, true, answer.clone());
            let after = alys_runtime::time::now();
            let until = actor.fetching.get(&hash).copied().expect("delayed");
            assert!(until >= before + FETCH_RETRY_DELAY, "{answer:?}");
            assert!(until <= after + FETCH_RETRY_DELAY, "{answer:?}");
            actor.fetch(hash);
            assert!(actor.pending.is_empty(), "{answer:?}");
            // The delay is over.
            actor.fetching.insert(hash, before);
            actor.fetch(hash);
            assert_eq!(actor.pending.len(), 1, "{answer:?}");
        }
    });
}

#[test]
fn a_list_of_connections_replaces_lost_events() {
    alys_runtime::block_on_main(async {
        let test = TestSystem::new();
        let (peers, mut network, _chain) = start(&test);
        let (_gone, hello) = connected(1);
        peers.tell(hello).expect("room");
        let (here, _lost) = connected(2);
        peers
            .tell(PeerMessage::Connected(vec![(here, true)]))
            .expect("room");
        for at in 1..4 {
            peers
                .tell(PeerMessage::Fetch {
                    hash: Hash([at; 32]),
                })
                .expect("room");
            let (_, of, _) = next_request(&mut network).await;
            assert_eq!(of, here, "a request to a disconnected peer");
        }
        test.end().await;
    });
}

#[test]
fn after_a_panic_it_requests_the_connections_and_ignores_answers_to_old_requests() {
    alys_runtime::block_on_main(async {
        let test = TestSystem::new();
        let (peers, mut network, _chain) = start(&test);
        let (peer, hello) = connected(1);
        peers.tell(hello).expect("room");
        peers
            .tell(PeerMessage::Fetch {
                hash: Hash([1; 32]),
            })
            .expect("room");
        let (old, ..) = next_request(&mut network).await;

        test.faults().plan(&test.path(NAME), Fault::Panic);
        peers.tell(PeerMessage::NetworkRestarted).expect("room");
        let requested = network
            .find(|msg| matches!(msg, NetworkMessage::GetConnected).then_some(()))
            .await;
        assert_eq!(requested, Some(()), "no request for the connections");
        assert_eq!(test.restarts(NAME), 1);

        // The list of connections arrives, and a malformed answer to a request of the last
        // incarnation.
        peers
            .tell(PeerMessage::Connected(vec![(peer, true)]))
            .expect("room");
        peers
            .tell(PeerMessage::Answer {
                tag: old,
                peer,
                is_known: true,
                result: Ok(vec![0xff; 3]),
            })
            .expect("room");
        peers
            .tell(PeerMessage::Fetch {
                hash: Hash([2; 32]),
            })
            .expect("room");
        let next = network.find(|msg| match msg {
            NetworkMessage::Request {
                tag,
                protocol: Protocol::BlocksByHash,
                ..
            } => Some(Ok(tag)),
            NetworkMessage::Command(command) if matches!(*command, Command::Report { .. }) => {
                Some(Err(command))
            }
            _ => None,
        });
        let tag = next
            .await
            .expect("a request")
            .expect("no report about the peer");
        assert_ne!(tag, old);
        test.end().await;
    });
}

#[test]
fn a_few_invalid_answers_are_logged_for_the_operator_and_the_others_counted() {
    alys_runtime::block_on_main(async {
        let (network, _network) = Probe::new(1);
        let (chain, _chain) = Probe::new(1);
        let mut actor = PeerActor::new(network, chain, no_engine(), None, Metrics::default());
        for number in 0..100 {
            let peer = NodeKey::from_bytes([number; 32]).peer_id();
            actor.report_misbehaviour(peer, &CheckError::UnrequestedBlocks);
        }
        let expected = 100 - u64::from(alys_runtime::log_limit::MAX_LINES);
        assert_eq!(actor.misbehaviour_lines.left_out(), expected);
    });
}

/// A receipt with this cumulative gas.
fn receipt(gas: u64) -> ReceiptEnvelope {
    let receipt = Receipt {
        status: true.into(),
        cumulative_gas_used: gas,
        logs: Vec::new(),
    };
    ReceiptEnvelope::from_typed(TxType::Eip1559, receipt)
}

/// Rule 7.2 (docs/protocol.md): a false answer costs the peer that gave it and no other.
#[test]
fn receipts_are_requested_from_one_peer_after_another_until_one_has_them() {
    alys_runtime::block_on_main(async {
        let test = TestSystem::new();
        let (peers, mut network, _chain, mut engine) = start_with_engine(&test);
        for key in 1..=3 {
            peers.tell(connected(key).1).expect("room");
        }
        let right = vec![receipt(21_000), receipt(50_000)];
        let root = Hash::from(calculate_receipt_root(&right));
        let encode = |receipts: &[ReceiptEnvelope]| {
            let encoded = receipts.iter().map(Encodable2718::encoded_2718);
            Some(BlockReceipts(encoded.collect())).encode()
        };
        let hash = Hash([7; 32]);
        let answers = [
            Option::<BlockReceipts>::None.encode(),
            encode(&right[1..]),
            encode(&right),
        ];
        let mut asked = BTreeSet::new();
        let mut reported = Vec::new();
        for (turn, answer) in answers.into_iter().enumerate() {
            peers
                .tell(PeerMessage::FetchReceipts { hash, root })
                .expect("room");
            let (tag, peer) = loop {
                match network.next().await.expect("a request") {
                    NetworkMessage::Request {
                        tag,
                        peer,
                        protocol: Protocol::Receipts,
                        payload,
                    } => {
                        assert_eq!(Hash::decode(&payload), Ok(hash));
                        break (tag, peer);
                    }
                    NetworkMessage::Command(command) => {
                        if let Command::Report { peer, offence } = *command {
                            reported.push((peer, offence));
                        }
                    }
                    _ => {}
                }
            };
            asked.insert(peer);
            assert_eq!(engine.now().map(|_| ()), None, "turn {turn}");
            peers
                .tell(PeerMessage::Answer {
                    tag,
                    peer,
                    is_known: true,
                    result: Ok(answer),
                })
                .expect("room");
            // The delay starts when the answer is handled.
            alys_runtime::time::sleep(FETCH_RETRY_DELAY * 2).await;
            if turn == 1 {
                let report = network.find(|message| match message {
                    NetworkMessage::Command(command) => match *command {
                        Command::Report { peer, offence } => Some((peer, offence)),
                        _ => None,
                    },
                    _ => None,
                });
                let report = report.await.expect("a report");
                assert_eq!(report, (peer, Offence::InvalidResponse));
            }
        }
        assert_eq!(reported, []);
        assert!(asked.len() > 1, "{asked:?}");
        let received = engine.next().await;
        let Some(EngineMessage::ReceiptsReceived { hash: of, receipts }) = received else {
            panic!("no receipts");
        };
        assert_eq!((of, receipts), (hash, right));
        test.end().await;
    });
}
