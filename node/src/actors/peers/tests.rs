//! The actor between probes in the places of network and chain.

use alys_actor_system::Fault;
use alys_actor_system::testkit::{Probe, TestSystem};
use alys_net::NodeKey;

use super::*;

const NAME: &str = "peers";

/// The actor, and what its neighbours see.
fn start(
    test: &TestSystem,
) -> (
    Addr<PeerMessage>,
    Probe<NetworkMessage>,
    Probe<ChainMessage>,
) {
    let (network, network_probe) = Probe::new(64);
    let (chain, chain_probe) = Probe::new(64);
    let peers = test.start(NAME, 64, move || {
        let actor = PeerActor::new(network.clone(), chain.clone(), None);
        async move { Ok::<_, std::convert::Infallible>(actor) }
    });
    (peers, network_probe, chain_probe)
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

/// The tag, the peer and the hashes of the next question about blocks.
async fn asked(network: &mut Probe<NetworkMessage>) -> (u64, PeerId, Vec<Hash>) {
    let question = network.find(|msg| match msg {
        NetworkMessage::Ask {
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
    question.await.expect("nothing is asked")
}

#[test]
fn a_block_that_one_peer_does_not_have_is_asked_of_the_next() {
    alys_runtime::block_on_main(async {
        let test = TestSystem::new();
        let (peers, mut network, _chain) = start(&test);
        let (one, hello) = connected(1);
        peers.tell(hello).expect("room");
        let (two, hello) = connected(2);
        peers.tell(hello).expect("room");
        let hash = Hash([7; 32]);
        peers.tell(PeerMessage::Fetch { hash }).expect("room");
        let (tag, first, hashes) = asked(&mut network).await;
        assert_eq!(hashes, [hash]);
        let nothing = Ok(Vec::<Block>::new().encode());
        peers
            .tell(PeerMessage::Answer {
                tag,
                peer: first,
                result: nothing,
            })
            .expect("room");
        // The wait begins when the answer is handled, a little later than it was told.
        alys_runtime::time::sleep(FETCH_AGAIN * 2).await;
        peers.tell(PeerMessage::Fetch { hash }).expect("room");
        let (_, second, hashes) = asked(&mut network).await;
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
fn who_is_connected_is_told_at_once_when_events_were_lost() {
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
            let (_, of, _) = asked(&mut network).await;
            assert_eq!(of, here, "it asks somebody who is gone");
        }
        test.end().await;
    });
}

#[test]
fn after_a_panic_it_asks_who_is_there_and_blames_nobody_for_an_old_answer() {
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
        let (old, ..) = asked(&mut network).await;

        test.faults().plan(&test.path(NAME), Fault::Panic);
        peers.tell(PeerMessage::NetworkRestarted).expect("room");
        let introduced = network
            .find(|msg| matches!(msg, NetworkMessage::Introduce).then_some(()))
            .await;
        assert_eq!(introduced, Some(()), "it does not ask who is connected");
        assert_eq!(test.restarts(NAME), 1);

        // The network introduces the peer again; what the last incarnation had asked is answered late, with rubbish.
        peers
            .tell(PeerMessage::Connected(vec![(peer, true)]))
            .expect("room");
        peers
            .tell(PeerMessage::Answer {
                tag: old,
                peer,
                result: Ok(vec![0xff; 3]),
            })
            .expect("room");
        peers
            .tell(PeerMessage::Fetch {
                hash: Hash([2; 32]),
            })
            .expect("room");
        let next = network.find(|msg| match msg {
            NetworkMessage::Ask {
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
            .expect("nothing is asked")
            .expect("a peer is punished for what nobody asked");
        assert_ne!(tag, old);
        test.end().await;
    });
}
