//! Tests of the desk: hand-out, submission, staleness, bounds.

use alys_pow::Template;
use alys_runtime::time;
use alys_types::Slot;
use alys_types::hash::tagged;
use alys_types::wire::WorkProof;

use super::*;

/// Half of all hashes meet it.
const EASY: u32 = 0x207f_ffff;
/// No hash meets it.
const HARD: u32 = 0x0101_0000;
const CHAIN_ID: u16 = 21_212;
const FEE: Address = Address([0xfe; 20]);

fn block(height: u64) -> Hash {
    tagged("test", &[&height.to_be_bytes()])
}

fn address(number: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Address(bytes)
}

fn offer(sequence: u64, first: u64, last: u64, bits: u32) -> Option<Arc<WorkOffer>> {
    Some(Arc::new(WorkOffer {
        sequence,
        first: Height(first),
        range: (first..=last).map(block).collect(),
        bits,
        final_sequence: 0,
        final_end: Height(0),
    }))
}

fn carried(sequence: u64, first: u64, end: u64) -> PowFinal {
    PowFinal {
        sequence,
        first: Height(first),
        end: Height(end),
        end_hash: block(end),
        miner: address(1),
        carrier: alys_consensus::BlockRef {
            slot: Slot(end + 5),
            hash: Hash([9; 32]),
        },
    }
}

fn desk() -> Desk {
    Desk::new(Hash([1; 32]), CHAIN_ID, Some(FEE))
}

/// A desk with work over blocks 1 to 3.
fn open_desk() -> Desk {
    let mut desk = desk();
    let changes = desk.on_work(offer(1, 1, 3, EASY));
    assert_eq!(changes, Ok(Changes::default()));
    desk
}

fn create(desk: &mut Desk, number: u64) -> Work {
    desk.create(Some(address(number)), time::now())
        .expect("there is work")
        .work
}

/// Bytes of a proof of the work.
fn mined(work: &Work, extra: u64) -> Vec<u8> {
    let easy = Bits::new(EASY).expect("canonical").target();
    let mut template = Template::new(work.commitment, 1_700_000_000, extra);
    let (proof, _) = template.grind(easy, 1_000);
    proof.expect("half of all hashes meet it").encode()
}

fn submit(desk: &mut Desk, work: &Work, bytes: &[u8]) -> Submission {
    desk.submit(work.commitment, bytes, time::now())
}

/// Submits a proof that is accepted, and returns its key and those that it displaces.
fn accept(desk: &mut Desk, work: &Work) -> (Hash, Vec<Hash>) {
    match submit(desk, work, &mined(work, 0)) {
        Submission::Accepted(Accepted::New { key, displaced, .. }) => (key, displaced),
        other => panic!("{other:?}"),
    }
}

fn with_clock(test: impl FnOnce() + Send + 'static) {
    alys_runtime::block_on_main(async move { test() });
}

#[test]
fn there_is_no_work_before_the_chain_reports_it() {
    with_clock(|| {
        let now = time::now();
        let mut desk = desk();
        assert_eq!(desk.create(None, now), Err(NoWork::Starting));
        assert_eq!(desk.on_work(None), Ok(Changes::default()));
        assert_eq!(desk.create(None, now), Err(NoWork::Covered));
        for (bad, expected) in [
            (offer(1, 2, 1, EASY), "at least one block"),
            (offer(1, 1, 4_097, EASY), "at most 4096 blocks, found 4097"),
            (offer(1, 1, 3, 0), "target zero"),
        ] {
            let error = desk.on_work(bad).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(desk.create(None, now), Err(NoWork::Covered));
        }
        let mut nobody = Desk::new(Hash([1; 32]), CHAIN_ID, None);
        assert!(nobody.on_work(offer(1, 1, 3, EASY)).is_ok());
        assert_eq!(nobody.create(None, now), Err(NoWork::NoAddress));
        assert!(nobody.create(Some(FEE), now).is_ok());
        assert_eq!(nobody.sizes().addresses, 1);
    });
}

#[test]
fn an_offer_and_an_address_have_one_hash() {
    with_clock(|| {
        let now = time::now();
        let mut desk = open_desk();
        let handed = desk.create(None, now).expect("there is work");
        assert_eq!((handed.first, handed.last), (Height(1), Height(3)));
        let bundle = handed.work.bundle;
        assert_eq!((bundle.miner, bundle.count), (FEE, 3));
        let same = Bundle::new(Hash([1; 32]), CHAIN_ID, 1, &[1, 2, 3].map(block), FEE);
        assert_eq!(same, Ok(bundle));
        assert_eq!(desk.create(None, now), Ok(handed));
        assert_eq!(desk.create(Some(FEE), now), Ok(handed));
        assert_ne!(create(&mut desk, 1).commitment, handed.work.commitment);
        assert_eq!(desk.sizes().works, 2);
        // Easier bits of the next slot: the same hash with another target.
        assert!(desk.on_work(offer(1, 1, 3, 0x1d00_ffff)).is_ok());
        let eased = desk.create(None, now).expect("there is work").work;
        assert_eq!(eased.commitment, handed.work.commitment);
        assert_eq!(eased.bits.get(), 0x1d00_ffff);
        // A longer range replaces it for new requests.
        assert!(desk.on_work(offer(1, 1, 4, EASY)).is_ok());
        let longer = desk.create(None, now).expect("there is work");
        assert_eq!(longer.last, Height(4));
        assert_ne!(longer.work.commitment, handed.work.commitment);
    });
}

#[test]
fn proofs_are_accepted_repeated_refused_and_corrected() {
    with_clock(|| {
        let mut desk = open_desk();
        let work = create(&mut desk, 1);
        let bytes = mined(&work, 0);
        for (bad, rule) in [
            (Vec::new(), "format"),
            (bytes[..bytes.len() - 1].to_vec(), "format"),
            (mined(&create(&mut desk, 2), 0), "chain root"),
        ] {
            let refused = match submit(&mut desk, &work, &bad) {
                Submission::Refused(refused) => refused,
                other => panic!("{rule}: {other:?}"),
            };
            assert_eq!((refused.rule, refused.commitment), (rule, work.commitment));
        }
        let accepted = submit(&mut desk, &work, &bytes);
        let Submission::Accepted(Accepted::New {
            key,
            proof,
            displaced,
        }) = accepted
        else {
            panic!("{accepted:?}");
        };
        assert_eq!((key, displaced), (work.commitment, Vec::new()));
        let expected = HeldProof {
            sequence: 1,
            range_start: block(1),
            range_end: block(3),
            count: 3,
            miner: address(1),
            auxpow: bytes.clone(),
            work: AuxPow::decode(&bytes).expect("a proof").parent_hash(),
        };
        assert_eq!(*proof, expected);
        let again = Submission::Accepted(Accepted::Again);
        assert_eq!(submit(&mut desk, &work, &bytes), again);
        assert_eq!(submit(&mut desk, &work, &mined(&work, 7)), again);
        let bad = submit(&mut desk, &work, &bytes[1..]);
        assert!(matches!(bad, Submission::Refused(_)), "{bad:?}");
        // Also after the work was asked for again.
        assert_eq!(create(&mut desk, 1).commitment, work.commitment);
        assert_eq!(submit(&mut desk, &work, &bytes), again);
        assert_eq!(desk.held(), [proof]);
    });
}

#[test]
fn unknown_and_reversed_hashes_are_told_apart() {
    with_clock(|| {
        let now = time::now();
        let mut desk = open_desk();
        let work = create(&mut desk, 1);
        let bytes = mined(&work, 0);
        for (key, is_reversed) in [(Hash([5; 32]), false), (reversed(work.commitment), true)] {
            let unknown = Submission::Unknown { is_reversed };
            assert_eq!(desk.submit(key, &bytes, now), unknown);
        }
    });
}

/// Bits handed out, bits of the present offer, whether the proof is accepted.
#[test]
fn the_easier_target_of_then_and_now_counts() {
    with_clock(|| {
        for (then, now, is_accepted) in [
            (EASY, HARD, true),
            (HARD, EASY, true),
            (EASY, EASY, true),
            (HARD, HARD, false),
        ] {
            let mut desk = desk();
            assert!(desk.on_work(offer(1, 1, 3, then)).is_ok());
            let work = create(&mut desk, 1);
            assert!(desk.on_work(offer(1, 1, 3, now)).is_ok());
            let submission = submit(&mut desk, &work, &mined(&work, 0));
            let found = matches!(submission, Submission::Accepted(_));
            assert_eq!(found, is_accepted, "{then:x} {now:x}: {submission:?}");
        }
        // The offer of another number says nothing about this one.
        let mut desk = desk();
        assert!(desk.on_work(offer(1, 1, 3, HARD)).is_ok());
        let work = create(&mut desk, 1);
        assert!(desk.on_work(offer(2, 4, 5, EASY)).is_ok());
        let refused = submit(&mut desk, &work, &mined(&work, 0));
        assert!(matches!(refused, Submission::Refused(_)), "{refused:?}");
    });
}

#[test]
fn older_work_of_a_number_stays_until_a_final_block_carries_it() {
    with_clock(|| {
        let now = time::now();
        let mut desk = open_desk();
        let old = create(&mut desk, 1);
        let lost = create(&mut desk, 2);
        assert!(desk.on_work(offer(1, 1, 5, EASY)).is_ok());
        let (old_key, _) = accept(&mut desk, &old);
        let longer = create(&mut desk, 3);
        let (longer_key, _) = accept(&mut desk, &longer);
        assert_eq!(desk.queued().map(|proof| proof.count), Some(5));

        // The head carries the number, not final yet.
        assert!(desk.on_work(offer(2, 6, 6, EASY)).is_ok());
        let next = create(&mut desk, 1);
        let mut deleted = desk.on_final(carried(1, 1, 5));
        deleted.sort();
        let mut expected = vec![old_key, longer_key];
        expected.sort();
        assert_eq!(deleted, expected);
        assert!(desk.on_final(carried(1, 1, 5)).is_empty(), "a repetition");
        assert_eq!(desk.queued(), None);
        let stale = desk.submit(lost.commitment, &mined(&lost, 0), now);
        let Submission::Stale(stale) = stale else {
            panic!("{stale:?}");
        };
        assert_eq!(stale.why, Staleness::Carried { last: 1 });
        let text = stale.to_string();
        assert!(text.contains("a final block carries proof 1"), "{text}");
        // One that was accepted before is answered as accepted.
        let again = Submission::Accepted(Accepted::Again);
        assert_eq!(submit(&mut desk, &old, &mined(&old, 0)), again);
        accept(&mut desk, &next);

        // Work of the proof before the last one is forgotten.
        assert_eq!(desk.on_final(carried(2, 6, 6)).len(), 1);
        let unknown = Submission::Unknown { is_reversed: false };
        assert_eq!(submit(&mut desk, &lost, &mined(&lost, 0)), unknown);
    });
}

/// V1 handed out work of a branch that had lost until its restart (S2).
#[test]
fn work_over_a_range_of_another_branch_is_stale() {
    with_clock(|| {
        let mut desk = open_desk();
        // A block that does not become final carries proof 1 up to block 3.
        assert!(desk.on_work(offer(2, 4, 6, EASY)).is_ok());
        let lost = create(&mut desk, 1);
        let (held, _) = accept(&mut desk, &lost);
        let open = create(&mut desk, 2);
        // Another one that ends at block 2 becomes final.
        assert!(desk.on_final(carried(1, 1, 2)).is_empty());
        let changes = desk.on_work(offer(2, 3, 6, EASY)).expect("an offer");
        assert_eq!(changes.delete, [held]);
        assert!(changes.send.is_empty());
        let stale = submit(&mut desk, &open, &mined(&open, 0));
        let Submission::Stale(stale) = stale else {
            panic!("{stale:?}");
        };
        assert_eq!(stale.why, Staleness::OtherRange);
        let right = create(&mut desk, 2);
        accept(&mut desk, &right);
    });
}

#[test]
fn held_proofs_are_sent_again_with_each_offer_of_their_number() {
    with_clock(|| {
        let mut desk = open_desk();
        let work = create(&mut desk, 1);
        accept(&mut desk, &work);
        let held = desk.held();
        for (offered, sent) in [
            (offer(1, 1, 4, EASY), held.clone()),
            (offer(1, 1, 4, HARD), held.clone()),
            (offer(2, 5, 5, EASY), Vec::new()),
            (None, Vec::new()),
            (offer(1, 1, 5, EASY), held),
        ] {
            let changes = desk.on_work(offered).expect("an offer");
            assert_eq!(changes.send, sent);
        }
    });
}

#[test]
fn the_state_of_work_is_told_until_its_proof_is_final() {
    with_clock(|| {
        let mut desk = open_desk();
        let work = create(&mut desk, 1);
        let lost = create(&mut desk, 2);
        let state = |desk: &Desk, work: &Work| desk.status(&work.commitment).map(|s| s.state);
        assert_eq!(state(&desk, &work), Some(WorkState::Open));
        assert_eq!(desk.status(&Hash([7; 32])), None);
        accept(&mut desk, &work);
        assert_eq!(state(&desk, &work), Some(WorkState::Accepted));
        let last = carried(1, 1, 3);
        desk.on_final(last);
        let status = WorkStatus {
            sequence: 1,
            start: block(1),
            end: block(3),
            count: 3,
            miner: address(1),
            state: WorkState::Final(last),
        };
        assert_eq!(desk.status(&work.commitment), Some(status));
        let stale = WorkState::Stale(Staleness::Carried { last: 1 });
        assert_eq!(state(&desk, &lost), Some(stale));
        // After the next proof too.
        desk.on_final(carried(2, 4, 5));
        assert_eq!(desk.status(&work.commitment), Some(status));
        assert_eq!(desk.status(&lost.commitment), None);

        // A proof that an earlier run accepted.
        let mut before = open_desk();
        let work = create(&mut before, 1);
        accept(&mut before, &work);
        let mut after = desk_of(&before);
        assert_eq!(state(&after, &work), Some(WorkState::Accepted));
        after.on_final(last);
        assert_eq!(state(&after, &work), Some(WorkState::Final(last)));
        for sequence in 2..=MAX_CARRIED as u64 + 9 {
            let status = WorkStatus { sequence, ..status };
            after.carried.push_back((block(sequence), status));
        }
        after.on_final(carried(200, 201, 202));
        assert_eq!(after.carried.len(), MAX_CARRIED);
    });
}

/// A desk that restored the proofs of another one.
fn desk_of(before: &Desk) -> Desk {
    let mut after = desk();
    for (key, held) in &before.held {
        after.restore(*key, (*held.proof).clone(), held.is_own);
    }
    after
}

#[test]
fn a_restored_proof_is_held_and_its_repetition_accepted() {
    with_clock(|| {
        let mut before = open_desk();
        let work = create(&mut before, 1);
        accept(&mut before, &work);
        let proof = before.held().remove(0);
        let mut after = desk();
        after.restore(work.commitment, (*proof).clone(), true);
        assert_eq!(after.queued(), Some(proof.clone()));
        let again = Submission::Accepted(Accepted::Again);
        assert_eq!(submit(&mut after, &work, &proof.auxpow), again);
        let unknown = Submission::Unknown { is_reversed: false };
        assert_eq!(submit(&mut after, &work, &mined(&work, 9)), unknown);
        let changes = after.on_work(offer(1, 1, 3, EASY)).expect("an offer");
        assert_eq!(changes.send, [proof]);
        assert_eq!(after.on_final(carried(1, 1, 3)), [work.commitment]);
    });
}

#[test]
fn an_address_keeps_its_last_64_works() {
    with_clock(|| {
        let mut desk = desk();
        let mut works = Vec::new();
        for last in 1..=70 {
            assert!(desk.on_work(offer(1, 1, last, EASY)).is_ok());
            works.push(create(&mut desk, 1));
        }
        assert_eq!(desk.sizes().works, MAX_WORKS_PER_ADDRESS);
        for (index, work) in works.iter().enumerate() {
            let known = !matches!(submit(&mut desk, work, &[]), Submission::Unknown { .. });
            assert_eq!(known, index >= 6, "work {index}");
        }
        // A request for old work makes it the youngest.
        assert!(desk.on_work(offer(1, 1, 7, EASY)).is_ok());
        create(&mut desk, 1);
        assert!(desk.on_work(offer(1, 1, 71, EASY)).is_ok());
        create(&mut desk, 1);
        let kept = submit(&mut desk, &works[6], &[]);
        assert!(matches!(kept, Submission::Refused(_)), "{kept:?}");
        let lost = submit(&mut desk, &works[7], &[]);
        assert!(matches!(lost, Submission::Unknown { .. }), "{lost:?}");
    });
}

#[test]
fn a_full_table_displaces_the_greediest_and_never_the_new_or_the_proven() {
    with_clock(|| {
        let mut desk = open_desk();
        let of_fee = desk.create(None, time::now()).expect("work").work;
        let proven = create(&mut desk, 1);
        accept(&mut desk, &proven);
        let quiet = create(&mut desk, 2);
        // The greedy one has two, all others one.
        let greedy = create(&mut desk, 3);
        assert!(desk.on_work(offer(1, 1, 4, EASY)).is_ok());
        let greedy_too = create(&mut desk, 3);
        let mut number = 1_000;
        while desk.sizes().works < MAX_WORKS {
            create(&mut desk, number);
            number += 1;
        }
        let is_known = |desk: &mut Desk, work: &Work| {
            !matches!(submit(desk, work, &[]), Submission::Unknown { .. })
        };
        create(&mut desk, number);
        assert!(!is_known(&mut desk, &greedy), "the oldest of the greediest");
        assert!(is_known(&mut desk, &greedy_too));
        // With one each, the work that was asked for longest ago leaves.
        assert!(is_known(&mut desk, &quiet));
        for more in 1..=MAX_WORKS as u64 {
            let new = create(&mut desk, number + more);
            assert!(is_known(&mut desk, &new));
            assert_eq!(desk.sizes().works, MAX_WORKS);
        }
        assert!(!is_known(&mut desk, &quiet));
        assert!(is_known(&mut desk, &of_fee) && is_known(&mut desk, &proven));

        // Stale work leaves first, also that of protected addresses.
        desk.on_final(carried(1, 1, 3));
        assert!(desk.on_work(offer(2, 4, 5, EASY)).is_ok());
        let next = create(&mut desk, 2);
        assert!(is_known(&mut desk, &next));
        assert!(!is_known(&mut desk, &of_fee));
    });
}

#[test]
fn protected_addresses_fill_half_of_the_table_at_most() {
    const { assert!((MAX_PROVEN + 1) * MAX_WORKS_PER_ADDRESS <= MAX_WORKS / 2) };
    with_clock(|| {
        let mut desk = open_desk();
        for number in 0..2 * MAX_PROVEN as u64 {
            desk.prove(address(number));
        }
        assert_eq!(desk.proven.len(), MAX_PROVEN);
        assert!(!desk.is_protected(&address(0)));
        assert!(desk.is_protected(&address(2 * MAX_PROVEN as u64 - 1)));
        assert!(desk.is_protected(&FEE));
    });
}

#[test]
fn the_longest_ranges_are_held_when_there_are_too_many() {
    with_clock(|| {
        let mut desk = desk();
        assert!(desk.on_work(offer(1, 1, 9, EASY)).is_ok());
        let longest = create(&mut desk, 1);
        let (longest_key, _) = accept(&mut desk, &longest);
        assert!(desk.on_work(offer(1, 1, 5, EASY)).is_ok());
        let mut keys = Vec::new();
        for number in 2..=MAX_HELD as u64 {
            let work = create(&mut desk, number);
            keys.push(accept(&mut desk, &work).0);
        }
        assert_eq!(desk.sizes().held, MAX_HELD);
        // As short as the shortest ones, and later.
        let late = create(&mut desk, 500);
        let superseded = submit(&mut desk, &late, &mined(&late, 0));
        assert_eq!(superseded, Submission::Accepted(Accepted::Superseded));
        let again = Submission::Accepted(Accepted::Again);
        assert_eq!(submit(&mut desk, &late, &mined(&late, 0)), again);
        assert!(desk.on_work(offer(1, 1, 6, EASY)).is_ok());
        let longer = create(&mut desk, 500);
        let (_, displaced) = accept(&mut desk, &longer);
        assert_eq!(Some(displaced), keys.last().map(|key| vec![*key]));
        assert_eq!(desk.sizes().held, MAX_HELD);
        assert_eq!(desk.queued().map(|proof| proof.count), Some(9));
        assert!(desk.held.contains_key(&longest_key));
    });
}

/// The message about a proof over blocks 1 to `last` for a miner, as another node sends it.
fn gossip(number: u64, last: u64) -> WorkProof {
    let mut other = desk();
    assert!(other.on_work(offer(1, 1, last, EASY)).is_ok());
    let work = create(&mut other, number);
    accept(&mut other, &work);
    let (key, message) = other.to_publish().expect("it is of an own miner");
    assert_eq!(key, work.commitment);
    message
}

#[test]
fn proofs_of_peers_over_a_prefix_of_the_offer_are_held_and_not_published() {
    with_clock(|| {
        let mut desk = desk();
        let message = gossip(1, 3);
        let unused = Gossiped::Unused;
        assert_eq!(
            desk.on_gossip(message.clone()),
            unused(Unused::OtherSequence)
        );
        assert!(desk.on_work(offer(1, 1, 2, EASY)).is_ok());
        let early = desk.on_gossip(message.clone());
        assert_eq!(
            early,
            unused(Unused::OtherRange),
            "its end is not final here"
        );
        assert!(desk.on_work(offer(1, 1, 5, EASY)).is_ok());
        let Gossiped::New {
            key,
            proof,
            displaced,
        } = desk.on_gossip(message.clone())
        else {
            panic!("a good proof");
        };
        assert_eq!((proof.count, displaced.len()), (3, 0));
        assert_eq!(desk.queued(), Some(proof));
        assert_eq!(desk.on_gossip(message.clone()), unused(Unused::Known));
        assert_eq!(desk.to_publish(), None, "its own node repeats it");
        // Its miner comes to this node as well.
        assert!(desk.on_work(offer(1, 1, 3, EASY)).is_ok());
        let work = create(&mut desk, 1);
        assert_eq!((work.commitment, accept(&mut desk, &work).0), (key, key));
        assert!(desk.to_publish().is_some());
        assert_eq!(desk.sizes().held, 1);
        // A block carries proof 1.
        assert!(desk.on_work(offer(2, 4, 5, EASY)).is_ok());
        assert_eq!(desk.to_publish(), None);
        assert_eq!(desk.on_gossip(message), unused(Unused::OtherSequence));
    });
}

#[test]
fn each_flaw_of_a_gossiped_proof_has_its_verdict() {
    with_clock(|| {
        let good = gossip(1, 3);
        let altered = |alter: &dyn Fn(&mut WorkProof)| {
            let mut message = good.clone();
            alter(&mut message);
            open_desk().on_gossip(message)
        };
        let unused = [
            (altered(&|proof| proof.sequence = 2), Unused::OtherSequence),
            (
                altered(&|proof| proof.range_start = block(2)),
                Unused::OtherRange,
            ),
            (
                altered(&|proof| proof.range_end = block(2)),
                Unused::OtherRange,
            ),
            (altered(&|proof| proof.count = 2), Unused::OtherRange),
            (altered(&|proof| proof.count = u32::MAX), Unused::OtherRange),
        ];
        for (row, (found, expected)) in unused.into_iter().enumerate() {
            assert_eq!(found, Gossiped::Unused(expected), "row {row}");
        }
        let refused = [
            (altered(&|proof| proof.count = 0), "at least one block"),
            (altered(&|proof| proof.auxpow.clear()), "AuxPoW"),
            (altered(&|proof| proof.auxpow.push(0)), "AuxPoW"),
            // Another address has another commitment.
            (altered(&|proof| proof.miner = address(2)), "found"),
        ];
        for (found, expected) in refused {
            let Gossiped::Refused(error) = found else {
                panic!("{expected}: {found:?}");
            };
            assert!(error.to_string().contains(expected), "{error}");
        }
        let mut strict = desk();
        assert!(strict.on_work(offer(1, 1, 3, 0x1d00_ffff)).is_ok());
        let weak = strict.on_gossip(good);
        assert_eq!(
            weak,
            Gossiped::Unused(Unused::Work),
            "no fault: bits ease with time"
        );
    });
}

#[test]
fn proofs_of_peers_displace_each_other_and_none_of_own_miners() {
    with_clock(|| {
        let mut desk = desk();
        assert!(desk.on_work(offer(1, 1, 3, EASY)).is_ok());
        let own = MAX_HELD - MAX_HELD_OF_PEERS;
        for number in 0..own as u64 {
            let work = create(&mut desk, number);
            assert!(accept(&mut desk, &work).1.is_empty());
        }
        assert!(desk.on_work(offer(1, 1, 9, EASY)).is_ok());
        let mut of_peers = Vec::new();
        for number in 0..MAX_HELD_OF_PEERS as u64 {
            let Gossiped::New { key, displaced, .. } = desk.on_gossip(gossip(1_000 + number, 5))
            else {
                panic!("there is room");
            };
            assert!(displaced.is_empty());
            of_peers.push(key);
        }
        let short = desk.on_gossip(gossip(2_000, 4));
        assert_eq!(short, Gossiped::Unused(Unused::Superseded));
        let Gossiped::New { key, displaced, .. } = desk.on_gossip(gossip(2_000, 6)) else {
            panic!("it is longer than others");
        };
        assert_eq!(
            Some(&displaced[..]),
            of_peers.last().map(std::slice::from_ref)
        );
        // Own proofs displace those of peers, the longest last.
        assert!(desk.on_work(offer(1, 1, 2, EASY)).is_ok());
        for number in 0..MAX_HELD_OF_PEERS as u64 {
            let work = create(&mut desk, 100 + number);
            let (_, displaced) = accept(&mut desk, &work);
            assert_eq!(displaced.len(), 1);
            let is_last = number + 1 == MAX_HELD_OF_PEERS as u64;
            assert_eq!(displaced == [key], is_last, "{number}");
        }
        assert_eq!(desk.sizes().held, MAX_HELD);
        assert!(desk.held.values().all(|held| held.is_own));
        assert!(desk.on_work(offer(1, 1, 9, EASY)).is_ok());
        let late = desk.on_gossip(gossip(3_000, 9));
        assert_eq!(late, Gossiped::Unused(Unused::Superseded));
    });
}

/// The chain does not repeat the last final proof after a restart of the node.
#[test]
fn the_first_offer_after_a_restart_drops_proofs_that_final_blocks_made_useless() {
    with_clock(|| {
        let mut before = open_desk();
        let work = create(&mut before, 1);
        let (old, _) = accept(&mut before, &work);
        assert!(before.on_work(offer(2, 4, 6, EASY)).is_ok());
        let work = create(&mut before, 1);
        let (open, _) = accept(&mut before, &work);
        let mut after = desk_of(&before);
        let mut first = offer(3, 7, 9, EASY).expect("an offer");
        // A block that is not final carries proof 2.
        let fields = Arc::make_mut(&mut first);
        (fields.final_sequence, fields.final_end) = (1, Height(3));
        let changes = after.on_work(Some(first)).expect("an offer");
        assert_eq!(changes.delete, [old]);
        assert_eq!(after.queued().map(|proof| proof.sequence), Some(2));
        assert!(after.held.contains_key(&open));
        assert_eq!(after.last_sequence(), 1);
        assert_eq!(after.last_final(), None);
    });
}
