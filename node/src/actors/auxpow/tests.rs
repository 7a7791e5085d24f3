//! The actor between a stub of the storage and a probe of the chain.

use alys_actor_system::Fault;
use alys_net::{GossipId, NodeKey};
use alys_types::Authority;
use alys_types::spec::vault_address;

use super::desk::NoWork;
use super::kit::{Disk, EASY, Kit, NAME, block_hash, mined};
use super::*;
use crate::actors::testbed::{authority_key, genesis};
use crate::actors::validation::GossipRef;

async fn accepted(kit: &Kit) -> Hash {
    let handed = kit.miners.desk.create(None).await.expect("an answer");
    let work = handed.expect("there is work").work;
    let submission = kit
        .miners
        .desk
        .submit(work.commitment, mined(work.commitment))
        .await;
    let submission = submission.expect("an answer");
    assert!(
        matches!(submission, Submission::Accepted(Accepted::New { .. })),
        "{submission:?}"
    );
    work.commitment
}

#[test]
fn an_accepted_proof_is_durable_and_reaches_the_chain_until_it_is_carried() {
    alys_runtime::block_on_main(async {
        let disk = Disk::default();
        let mut kit = Kit::start(&disk);
        let early = kit.miners.desk.create(None).await.expect("an answer");
        assert_eq!(early, Err(NoWork::Starting));
        kit.offer(1, 1, 3, EASY);
        let key = accepted(&kit).await;
        assert!(disk.with(|content| content.proofs.contains_key(&key)));
        assert_eq!(kit.sent(), [1]);

        kit.offer(1, 1, 4, EASY);
        kit.tell(AuxPowMessage::Resend);
        let queue = kit.miners.desk.queue().await.expect("an answer");
        assert_eq!(
            (queue.held, queue.next.map(|next| next.count)),
            (1, Some(3))
        );
        assert_eq!(kit.sent(), [1, 1], "at a new offer, and after an interval");

        kit.report_final(1, 1, 3);
        let queue = kit.miners.desk.queue().await.expect("an answer");
        assert_eq!((queue.held, queue.next), (0, None));
        assert_eq!(
            queue.last_final.map(|last| last.end_hash),
            Some(block_hash(3))
        );
        assert!(disk.with(|content| content.proofs.is_empty()));
        kit.test.end().await;
    });
}

/// V1 lost its queued proof with a restart (S22).
#[test]
fn a_new_incarnation_restores_its_proofs_and_asks_for_the_work() {
    alys_runtime::block_on_main(async {
        let disk = Disk::default();
        let mut kit = Kit::start(&disk);
        kit.offer(1, 1, 3, EASY);
        let key = accepted(&kit).await;
        kit.sent();
        let path = kit.test.path(NAME);
        assert!(kit.test.faults().plan(&path, Fault::Panic));
        assert!(kit.miners.desk.queue().await.is_err());
        let started = kit
            .chain
            .find(|message| matches!(message, ChainMessage::AuxPowStarted).then_some(()));
        assert_eq!(started.await, Some(()));
        kit.offer(1, 1, 4, EASY);
        let queue = kit.miners.desk.queue().await.expect("an answer");
        let next = queue.next.expect("the proof is restored");
        assert_eq!(kit.sent(), [1]);
        let again = kit.miners.desk.submit(key, next.auxpow.clone()).await;
        assert_eq!(again.ok(), Some(Submission::Accepted(Accepted::Again)));
        kit.test.end().await;
    });
}

#[test]
fn a_stored_proof_that_does_not_decode_is_left_out() {
    alys_runtime::block_on_main(async {
        let disk = Disk::default();
        disk.with(|content| content.proofs.insert(Hash([1; 32]), vec![1, 2, 3]));
        let kit = Kit::start(&disk);
        let queue = kit.miners.desk.queue().await.expect("an answer");
        assert_eq!(queue, Queue::default());
        kit.test.end().await;
    });
}

#[test]
fn the_largest_proof_has_room_in_the_storage() {
    let proof = HeldProof {
        sequence: u64::MAX,
        range_start: Hash([1; 32]),
        range_end: Hash([2; 32]),
        count: u32::MAX,
        miner: Address([3; 20]),
        auxpow: vec![4; alys_pow::MAX_BYTES],
        work: Hash([5; 32]),
    };
    assert!(codec::encode(&proof).len() <= MAX_HELD_PROOF_BYTES);
}

#[test]
fn the_default_address_is_the_configured_one_or_that_of_the_authority() {
    let genesis = genesis(2, 2_000);
    let own = authority_key(1).public_key().to_bytes();
    let other = authority_key(9).public_key().to_bytes();
    let configured = Some(Address([0xaa; 20]));
    let of_authority = Some(Address([1; 20]));
    for (given, key, expected) in [
        (configured, Some(&own), configured),
        (configured, None, configured),
        (None, Some(&own), of_authority),
        (None, Some(&other), None),
        (None, None, None),
    ] {
        assert_eq!(default_address(given, &genesis, key), expected, "{given:?}");
    }
    // An authority without an address has the vault's.
    let mut spec = genesis.spec().clone();
    let without = |authority: &mut Authority| authority.fee_address = vault_address();
    spec.authorities.iter_mut().for_each(without);
    let genesis = Genesis::without_bounds(spec).expect("good keys");
    assert_eq!(default_address(None, &genesis, Some(&own)), None);
}

/// Proofs that the actor published, and its verdicts, so far.
fn published(kit: &mut Kit) -> (Vec<WorkProof>, Vec<GossipVerdict>) {
    let (mut proofs, mut verdicts) = (Vec::new(), Vec::new());
    while let Some(message) = kit.network.now() {
        match message {
            NetworkMessage::Command(command) => {
                if let Command::Publish { topic, payload } = *command {
                    assert_eq!(topic, Topic::Work);
                    proofs.push(WorkProof::decode(&payload).expect("its own encoding"));
                }
            }
            NetworkMessage::Judge { verdict, .. } => verdicts.push(verdict),
            _ => panic!("it sends nothing else"),
        }
    }
    (proofs, verdicts)
}

#[test]
fn a_proof_goes_to_peers_once_durable_and_in_each_slot_until_a_block_carries_it() {
    alys_runtime::block_on_main(async {
        let disk = Disk::default();
        let mut kit = Kit::start(&disk);
        kit.offer(1, 1, 3, EASY);
        let begun = time::now();
        let key = accepted(&kit).await;
        assert!(disk.with(|content| content.proofs.contains_key(&key)));
        let (proofs, _) = published(&mut kit);
        assert_eq!(
            proofs.iter().map(|proof| proof.count).collect::<Vec<_>>(),
            [3]
        );
        // A second one in the same slot waits for the next.
        kit.offer(1, 1, 4, EASY);
        accepted(&kit).await;
        let (early, _) = published(&mut kit);
        let spent = time::now().saturating_duration_since(begun);
        assert!(early.is_empty() || spent >= PUBLISH_INTERVAL, "{spent:?}");
        alys_runtime::time::sleep(5 * RESEND_INTERVAL / 2).await;
        let (proofs, _) = published(&mut kit);
        assert!((1..=2).contains(&proofs.len()), "{} proofs", proofs.len());
        assert!(proofs.iter().all(|proof| proof.count == 4), "the longest");
        // A block carries one of its number.
        kit.offer(2, 5, 6, EASY);
        kit.miners.desk.queue().await.expect("an answer");
        published(&mut kit);
        alys_runtime::time::sleep(5 * RESEND_INTERVAL / 4).await;
        assert!(published(&mut kit).0.is_empty());
        kit.test.end().await;
    });
}

#[test]
fn a_proof_of_a_peer_is_judged_held_and_restored_as_one_of_a_peer() {
    alys_runtime::block_on_main(async {
        let mut first = Kit::start(&Disk::default());
        first.offer(1, 1, 3, EASY);
        accepted(&first).await;
        let (proofs, _) = published(&mut first);
        first.test.end().await;

        let disk = Disk::default();
        let mut kit = Kit::start(&disk);
        let peers = PeerProofs::new(kit.actor.clone());
        let peer = NodeKey::from_bytes([5; 32]).peer_id();
        let mut number = 0;
        let mut pass = |payload: Vec<u8>, is_known| {
            number += 1;
            let topic = Topic::Work;
            let id = GossipId::unknown(number, topic, peer);
            peers.pass(
                Source::gossip(peer, is_known, GossipRef { topic, id }),
                payload,
            )
        };
        let payload = proofs[0].encode();
        assert!(pass(payload.clone(), false), "there is no work yet");
        kit.miners.desk.queue().await.expect("an answer");
        kit.test.until(|_| kit.actor.depth() == 0).await;
        kit.offer(1, 1, 4, EASY);
        assert!(pass(payload.clone(), false));
        assert!(pass(payload[1..].to_vec(), true));
        assert!(pass(payload.clone(), true), "it is known now");
        kit.test.until(|_| kit.actor.depth() == 0).await;
        let queue = kit.miners.desk.queue().await.expect("an answer");
        assert_eq!(queue.held, 1);
        let (published_own, verdicts) = published(&mut kit);
        assert!(published_own.is_empty());
        let expected = [
            GossipVerdict::Ignore,
            GossipVerdict::Accept,
            GossipVerdict::Reject,
            GossipVerdict::Ignore,
        ];
        assert_eq!(verdicts, expected);
        let sent = kit.sent();
        assert!(!sent.is_empty() && sent.iter().all(|sequence| *sequence == 1));
        assert_eq!(disk.with(|content| content.proofs.len()), 1);
        kit.test.end().await;

        let mut again = Kit::start(&disk);
        again.offer(1, 1, 4, EASY);
        let queue = again.miners.desk.queue().await.expect("an answer");
        assert_eq!(queue.held, 1);
        alys_runtime::time::sleep(5 * RESEND_INTERVAL / 4).await;
        assert!(published(&mut again).0.is_empty());
        again.test.end().await;
    });
}

#[test]
fn proofs_of_strangers_leave_room_for_those_of_known_peers() {
    alys_runtime::block_on_main(async {
        let (auxpow, mut probe) = alys_actor_system::testkit::Probe::new(64);
        let peers = PeerProofs::new(auxpow);
        let peer = NodeKey::from_bytes([5; 32]).peer_id();
        let pass = |is_known| {
            let topic = Topic::Work;
            let id = GossipId::unknown(1, topic, peer);
            let source = Source::gossip(peer, is_known, GossipRef { topic, id });
            peers.pass(source, Vec::new())
        };
        let taken = |is_known| (0..2 * MAX_GOSSIPED).filter(|_| pass(is_known)).count();
        let of_strangers = taken(false);
        assert_eq!(of_strangers + taken(true), MAX_GOSSIPED);
        assert!(of_strangers < MAX_GOSSIPED / 2);
        while probe.now().is_some() {}
        assert_eq!(
            taken(false),
            of_strangers,
            "handled messages leave their places"
        );
    });
}
