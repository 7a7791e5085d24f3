//! The invariants of proof of work, on chains whose proofs a miner made.

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256, keccak256};
use alys_types::bls::{SecretKey, Signature};
use alys_types::{
    Authority, AuxPowHeader, Bitmap, Block, Body, Certificate, ChainSpec, ExecutionPayload,
    Genesis, Header, Height, Slot, VoteKind, VoteTarget, Withdrawal, WithdrawalKind,
};

use super::*;
use crate::invariants::{
    Action, Commitment, Facts, Finality, Oracles, Sent, Taken, Told, Violation, target,
};
use crate::params::WorldPlan;
use crate::params::transactions::Form;

const START: u64 = 1_000;
const ANCHOR: u32 = 0x200f_ffff;
const MINER: Address = Address([0xd0; 20]);
/// The tips of a block: 21,000 gas at 1 gwei and 7 wei.
const TIPS: u64 = 21_000 * 1_000_000_007;

fn fee_address(index: u8) -> Address {
    Address([0xf0 + index; 20])
}

fn genesis(gate: u64) -> Genesis {
    let authorities = (0..4).map(|index| {
        let key = SecretKey::derive(&[index + 1; 32]);
        Authority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address: fee_address(index),
        }
    });
    let authorities = authorities.collect();
    let mut spec = ChainSpec::development(1, Slot(START), 1_000, Hash([9; 32]), authorities);
    spec.auxpow.anchor_bits = ANCHOR;
    spec.auxpow.max_range = 8;
    spec.auxpow.max_blocks_without_pow = gate;
    Genesis::new(spec).expect("a good spec")
}

/// The hash of a block whose header commits to its body.
fn hash_of(block: &Block) -> Hash {
    let mut header = block.header.clone();
    header.body_hash = block.body.hash();
    header.hash()
}

/// A chain under the invariants.
struct World {
    genesis: Genesis,
    oracles: Oracles,
    /// From genesis on.
    hashes: Vec<Hash>,
    slot: u64,
}

/// The proof that a block carries, by heights.
#[derive(Clone)]
struct Carry {
    first: usize,
    end: usize,
    sequence: u64,
    /// Bits in the header, and those that the work meets.
    bits: u32,
    work_bits: u32,
    chain_id: u16,
    /// Height of the block of the certificate.
    shown: Option<usize>,
    pays: Vec<(Address, u64)>,
    first_index: u64,
    validator: u64,
    /// The miner in the header, if it is not the one of the proof.
    named: Address,
}

impl Carry {
    /// The first proof, over blocks 1 and 2.
    fn first() -> Carry {
        Carry {
            first: 1,
            end: 2,
            sequence: 1,
            bits: ANCHOR,
            work_bits: ANCHOR,
            chain_id: 21_212,
            shown: Some(2),
            pays: vec![(MINER, 33_600), (fee_address(1), 8_400)],
            first_index: 0,
            validator: 0,
            named: MINER,
        }
    }
}

impl World {
    fn new(gate: u64) -> World {
        let genesis = genesis(gate);
        let mut oracles = Oracles::new(&WorldPlan::default());
        let fees = (0..4).map(fee_address).collect();
        oracles.work.register(&genesis, false, fees);
        World {
            hashes: vec![genesis.hash()],
            genesis,
            oracles,
            slot: START,
        }
    }

    fn height(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// A child of the last block, `slots` later, with a transaction that leaves [`TIPS`].
    fn block(&mut self, slots: u64) -> Block {
        let height = self.height();
        let transaction = height.to_le_bytes().to_vec();
        let sent = Sent {
            user: 0,
            nonce: height,
            action: Action::Transfer { wei: 1 },
            form: Form::DynamicFee,
            gas_limit: 21_000,
            size: 8,
            taken: Taken::Yes,
            cap: 50_000_000_000,
            tip: 1_000_000_007,
        };
        let hash: B256 = keccak256(&transaction);
        self.oracles.ledger.sent.insert(hash, sent);
        let payload = ExecutionPayload {
            parent_hash: Hash::ZERO,
            fee_recipient: Address([0; 20]),
            state_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            logs_bloom: [0; 256],
            prev_randao: Hash::ZERO,
            block_number: height,
            gas_limit: 30_000_000,
            gas_used: 21_000,
            timestamp: self.slot + slots,
            extra_data: Vec::new(),
            base_fee_per_gas: U256::from(7).to_be_bytes(),
            block_hash: Hash([height as u8; 32]),
            transactions: vec![transaction],
            withdrawals: Vec::new(),
            blob_gas: None,
        };
        let parent = self.hashes[self.hashes.len() - 1];
        let header = Header {
            version: 1,
            evm_chain_id: 1,
            genesis_hash: self.genesis.hash(),
            height: Height(height),
            slot: Slot(self.slot + slots),
            proposer: 0,
            parent_hash: parent,
            parent_certificate: None,
            execution_hash: payload.block_hash,
            body_hash: Hash::ZERO,
            set_hash: Hash::ZERO,
            ledger_hash: self.oracles.work.ledger_hash(&parent).expect("known"),
        };
        Block {
            header,
            body: Body::of(payload),
        }
    }

    /// A child that carries a proof.
    fn carrier(&mut self, slots: u64, carry: &Carry) -> Block {
        let mut block = self.block(slots);
        let range = &self.hashes[carry.first..=carry.end];
        let commitment = Commitment {
            genesis: self.genesis.hash(),
            chain_id: carry.chain_id,
            sequence: carry.sequence,
            range,
            miner: MINER,
        };
        let work = Work {
            commitment: commitment.hash().expect("a range"),
            chain_id: carry.chain_id,
            target: target(carry.work_bits),
        };
        // Harder targets than the bits, where the work has to miss them.
        let mut rng = Rng::derive(7, "carrier");
        let proof = flaws::valid(&work, Shape::PLAIN, 1 << 20, &mut rng).expect("easy");
        block.body.auxpow = Some(AuxPowHeader {
            range_start: range[0],
            range_end: range[range.len() - 1],
            bits: carry.bits,
            chain_id: carry.chain_id,
            sequence: carry.sequence,
            auxpow: hex::decode(proof.auxpow).expect("hex"),
            miner: carry.named,
        });
        block.body.finality = carry
            .shown
            .into_iter()
            .map(|at| self.finality(at))
            .collect();
        let pays = (carry.first_index..).zip(&carry.pays);
        block.body.payload.withdrawals = pays
            .map(|(index, (address, amount_gwei))| Withdrawal {
                index,
                validator_index: carry.validator,
                address: *address,
                amount_gwei: *amount_gwei,
            })
            .collect();
        block.body.withdrawal_kinds = vec![WithdrawalKind::Fee; carry.pays.len()];
        block
    }

    fn finality(&self, height: usize) -> Certificate {
        Certificate {
            target: VoteTarget {
                kind: VoteKind::Confirmation,
                height: Height(height as u64),
                slot: Slot(START),
                hash: self.hashes[height],
            },
            signers: Bitmap::empty(4),
            signature: Signature([1; 96]),
        }
    }

    /// The rule that a block breaks.
    fn judge(&mut self, block: &Block) -> Option<String> {
        let hash = hash_of(block);
        let facts = Facts {
            members: self.oracles.sets.of(&hash),
            sent: &self.oracles.ledger.sent,
            is_confirmed: &|_| true,
        };
        self.oracles.work.learn(hash, block, &facts);
        match self.oracles.work.approved(0, 1, &hash) {
            Ok(()) => None,
            Err(Violation::ApprovedInvalid { what, .. }) => Some(what),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Appends a block that must be right.
    fn push(&mut self, block: &Block) -> Hash {
        assert_eq!(self.judge(block), None, "height {}", self.height());
        let hash = hash_of(block);
        assert!(self.oracles.work.end_after(&hash).is_some());
        self.slot = block.header.slot.0;
        self.hashes.push(hash);
        hash
    }

    /// A chain of blocks without proofs, a second apart.
    fn grow(&mut self, blocks: u64) {
        for _ in 0..blocks {
            let block = self.block(1);
            self.push(&block);
        }
    }

    fn entry(&self, key: &[u8]) -> Option<Vec<u8>> {
        let last = self.hashes[self.hashes.len() - 1];
        self.oracles.work.entries(&last)?.remove(key)
    }
}

/// Three blocks, and the seconds until a fourth one is as late as the spacing.
fn three() -> (World, u64) {
    let mut world = World::new(0);
    world.grow(3);
    (world, 17)
}

#[test]
fn a_chain_with_two_proofs_is_right_to_the_wei() {
    let (mut world, late) = three();
    let block = world.carrier(late, &Carry::first());
    let carrier = world.push(&block);
    // 42,000.000294 gwei, less 33,600 and 8,400.
    let left = U256::from(2 * TIPS) - U256::from(42_000_000_000_000_u64);
    assert_eq!(left, U256::from(294_000));
    let remainder = |left: u64| Some(U256::from(left).to_be_bytes::<32>().to_vec());
    assert_eq!(world.entry(b"remainder"), remainder(294_000));
    assert_eq!(
        world.entry(b"withdrawal"),
        Some(vec![2, 0, 0, 0, 0, 0, 0, 0])
    );
    let unpaid = U256::from(2 * TIPS) + left;
    assert_eq!(world.oracles.work.unpaid_after(&carrier), Some(unpaid));
    // A half life later than the spacing: the target doubles.
    let second = Carry {
        first: 3,
        end: 3,
        sequence: 2,
        bits: 0x201f_fffe,
        work_bits: ANCHOR,
        shown: Some(4),
        pays: vec![(MINER, 16_800), (fee_address(2), 4_200)],
        first_index: 2,
        ..Carry::first()
    };
    let block = world.carrier(620, &second);
    let carrier = world.push(&block);
    assert_eq!(world.entry(b"remainder"), remainder(441_000));
    assert_eq!(world.oracles.work.end_after(&carrier), Some(3));
    assert!(world.entry(b"block/\0\0\0\0\0\0\0\x03").is_none());
    assert!(world.entry(b"block/\0\0\0\0\0\0\0\x04").is_some());
    world.grow(2);
}

#[test]
fn each_altered_part_of_a_proof_breaks_its_rule() {
    type Change = fn(&mut Carry);
    let table: [(&str, Change); 18] = [
        ("its sequence is 1", |carry| carry.sequence = 2),
        ("its sequence is 1", |carry| carry.sequence = 0),
        ("chain id of the spec", |carry| carry.chain_id = 21_213),
        ("starts at the child", |carry| carry.first = 2),
        ("starts at the child", |carry| carry.first = 0),
        ("shows the end of its range final", |carry| carry.end = 3),
        ("shows the end of its range final", |carry| {
            carry.shown = None
        }),
        ("shows the end of its range final", |carry| {
            carry.shown = Some(1)
        }),
        ("its bits are", |carry| {
            carry.bits = 0x207f_ffff;
            carry.work_bits = 0x207f_ffff;
        }),
        ("its bits are", |carry| {
            carry.bits = 0x2007_ffff;
            carry.work_bits = 0x2007_ffff;
        }),
        ("the root of the commitment", |carry| {
            carry.named = Address([1; 20]);
        }),
        ("its withdrawals are", |carry| carry.pays[0].1 += 1),
        ("its withdrawals are", |carry| {
            carry.pays[1].0 = fee_address(2)
        }),
        ("its withdrawals are", |carry| carry.pays.reverse()),
        ("its withdrawals are", |carry| carry.pays.truncate(1)),
        ("its withdrawals are", |carry| carry.pays.push((MINER, 1))),
        ("its withdrawals are", |carry| carry.first_index = 1),
        ("its withdrawals are", |carry| carry.validator = 1),
    ];
    for (expected, change) in table {
        let (mut world, late) = three();
        let mut carry = Carry::first();
        change(&mut carry);
        let block = world.carrier(late, &carry);
        let broken = world.judge(&block).expect(expected);
        assert!(broken.contains(expected), "{broken}");
    }
}

#[test]
fn other_altered_parts_of_a_block_break_their_rules() {
    type Change = fn(&mut Block);
    let table: [(&str, Change); 6] = [
        ("its ledger hash", |block| {
            block.header.ledger_hash.0[3] ^= 1
        }),
        ("its withdrawals are of fees", |block| {
            block.body.withdrawal_kinds[0] = WithdrawalKind::PegIn;
        }),
        ("serves a purpose", |block| {
            block.body.finality.push(block.body.finality[0]);
        }),
        ("the magic once", |block| {
            let proof = block.body.auxpow.as_mut().expect("carried");
            proof.auxpow.reverse();
        }),
        ("its work meets its bits", |block| {
            let proof = block.body.auxpow.as_mut().expect("carried");
            // The nonce of the parent header.
            let last = proof.auxpow.len() - 1;
            proof.auxpow[last] ^= 0x55;
        }),
        ("its withdrawals are", |block| block.body.auxpow = None),
    ];
    for (expected, change) in table {
        let (mut world, late) = three();
        let mut block = world.carrier(late, &Carry::first());
        change(&mut block);
        let broken = world.judge(&block).expect(expected);
        let is_named = broken.contains(expected) || broken.contains("the format of Namecoin");
        assert!(is_named, "{broken}");
    }
    let (mut world, _) = three();
    let mut block = world.block(1);
    block.body.finality = vec![world.finality(2)];
    let broken = world
        .judge(&block)
        .expect("a certificate without a purpose");
    assert!(broken.contains("serves a purpose"), "{broken}");
}

#[test]
fn a_range_has_a_longest_length() {
    let mut world = World::new(0);
    world.grow(10);
    let nine = Carry {
        end: 9,
        shown: Some(9),
        ..Carry::first()
    };
    let block = world.carrier(10, &nine);
    let broken = world.judge(&block).expect("nine blocks");
    assert!(broken.contains("as many blocks"), "{broken}");
    let eight = Carry {
        end: 8,
        pays: vec![(MINER, 134_400), (fee_address(1), 33_600)],
        ..nine
    };
    let block = world.carrier(10, &eight);
    world.push(&block);
}

#[test]
fn the_gate_counts_from_the_end_of_the_last_range_to_the_last_final_block() {
    let mut world = World::new(2);
    world.grow(3);
    let block = world.block(1);
    let at = |height: u64| (height, world.hashes[height as usize]);
    let judged = |block: &Block, last| world.oracles.work.gate(0, 4, block, last);
    assert_eq!(judged(&block, at(1)), Ok(()));
    let past = Violation::ApprovedPastGate {
        node: 1,
        slot: 4,
        final_height: 2,
        end: 0,
        gate: 2,
    };
    assert_eq!(judged(&block, at(2)), Err(past));
    assert_eq!(judged(&block, (2, Hash([7; 32]))), Ok(()), "another branch");
    let mut proven = block.clone();
    let carrier = world.carrier(17, &Carry::first());
    proven.body.auxpow = carrier.body.auxpow;
    assert_eq!(
        world.oracles.work.gate(0, 4, &proven, (3, world.hashes[3])),
        Ok(())
    );
}

#[test]
fn ranges_that_nodes_report_are_those_of_final_blocks() {
    let (mut world, late) = three();
    let block = world.carrier(late, &Carry::first());
    let carrier = world.push(&block);
    let told = Told {
        sequence: 1,
        first: 1,
        end: 2,
        end_hash: world.hashes[2],
        miner: MINER,
        carrier,
    };
    let mut report = |told: &Told, final_height: u64| {
        let is_final = |height: u64, _: &Hash| height <= final_height;
        world.oracles.work.pow_final(0, told, is_final)
    };
    assert!(
        matches!(report(&told, 3), Err(Violation::WrongPowFinality { .. })),
        "its carrier is not final"
    );
    assert_eq!(report(&told, 4), Ok(()));
    assert_eq!(report(&told, 4), Ok(()), "again after a restart");
    for wrong in [
        Told { first: 2, ..told },
        Told { end: 3, ..told },
        Told {
            miner: Address([1; 20]),
            ..told
        },
    ] {
        let found = report(&wrong, 4);
        assert!(
            matches!(found, Err(Violation::WrongPowFinality { .. })),
            "{found:?}"
        );
    }
    let back = Told {
        sequence: 0,
        ..told
    };
    let found = report(&back, 4);
    assert!(matches!(
        found,
        Err(Violation::PowFinalityWentBack { from: 1, to: 0, .. })
    ));
}

#[test]
fn work_is_over_final_blocks_and_pays_who_asked() {
    let (mut world, _) = three();
    let mut finality = Finality::default();
    let known: BTreeMap<u64, Hash> = (1..).zip(world.hashes[1..].iter().copied()).collect();
    for (height, hash) in &known {
        let block = alys_node::node::FinalBlock {
            height: Height(*height),
            slot: Slot(START + height),
            hash: *hash,
            proposer: 0,
            execution_hash: Hash::ZERO,
            state_root: Hash::ZERO,
            transactions: 1,
            gas_used: 21_000,
            after_ms: 0,
        };
        finality.reported(0, &block).expect("one chain");
    }
    let genesis = world.genesis.hash();
    let offer = |range: &[Hash], sequence| Offer {
        miner: MINER,
        commitment: Commitment {
            genesis,
            chain_id: 21_212,
            sequence,
            range,
            miner: MINER,
        }
        .hash()
        .expect("a range"),
        bits: ANCHOR,
    };
    let hashes = world.hashes.clone();
    let mut ask = |offer: &Offer, now| world.oracles.work.offered(0, offer, now, 1, &finality);
    for end in 1..=3 {
        let place = Place {
            sequence: 1,
            end: end as u64,
        };
        let good = offer(&hashes[1..=end], 1);
        assert_eq!(ask(&good, Some(START + 20)), Ok(Some(place)));
    }
    let good = offer(&hashes[1..=3], 1);
    let table = [
        (offer(&hashes[2..=3], 1), "a gap"),
        (offer(&hashes[1..=3], 2), "another sequence"),
        (
            Offer {
                miner: Address([1; 20]),
                ..good
            },
            "another address",
        ),
        (
            Offer {
                bits: 0x207f_ffff,
                ..good
            },
            "easier than in the next slots",
        ),
        (
            Offer {
                bits: 0x1d00_ffff,
                ..good
            },
            "harder than at once",
        ),
    ];
    for (wrong, what) in table {
        let found = ask(&wrong, Some(START + 20));
        assert!(
            matches!(found, Err(Violation::WrongWork { .. })),
            "{what}: {found:?}"
        );
    }
    let easy = Offer {
        bits: 0x207f_ffff,
        ..good
    };
    assert!(ask(&easy, None).is_ok(), "its clock is wrong");
}

#[test]
fn verdicts_are_compared_with_what_the_miner_did() {
    let mut work = crate::invariants::Work::default();
    let place = Some(Place {
        sequence: 3,
        end: 9,
    });
    let refused = Verdict::Refused("rule 4.2".to_owned());
    let stale = Verdict::Stale("stale".to_owned());
    for (flaw, verdict, is_right) in [
        (None, &Verdict::Accepted, true),
        (None, &refused, false),
        (None, &stale, true),
        (Some("root"), &Verdict::Accepted, false),
        (Some("root"), &refused, true),
        (Some("root"), &Verdict::None, true),
    ] {
        let found = work.submitted(5_000, 1, place, flaw, verdict);
        assert_eq!(found.is_ok(), is_right, "{flaw:?} {verdict:?}: {found:?}");
    }
    assert_eq!(work.owed(&[0, 1]), Some((1, 3)));
    assert_eq!(work.owed(&[0]), None);
    let late = |at_ms, since_ms| work.overdue(at_ms, since_ms, |_| true).is_err();
    assert!(!late(47_000, 0) && late(47_001, 0));
    assert!(!late(60_000, 20_000) && late(62_001, 20_000));
    assert_eq!(work.overdue(90_000, 0, |_| false), Ok(()), "it never leads");
    work.forget(1);
    assert_eq!(work.owed(&[1]), None, "its disk was emptied");
}
