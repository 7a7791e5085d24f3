use std::collections::BTreeSet;

use super::*;
use crate::invariants::{check_proof, compact, target};

const CHAIN_ID: u16 = 21_212;
/// One hash in 16 meets it.
const BITS: u32 = 0x200f_ffff;

fn work() -> Work {
    let mut commitment = [0; 32];
    for (number, byte) in (0x31..).zip(&mut commitment) {
        *byte = number;
    }
    Work {
        commitment: Hash(commitment),
        chain_id: CHAIN_ID,
        target: target(BITS),
    }
}

fn rng() -> Rng {
    Rng::derive(1, "miner")
}

fn judged(submission: &Submission) -> Result<(), &'static str> {
    let bytes = hex::decode(&submission.auxpow).map_err(|_| "it is hex")?;
    check_proof(&bytes, work().commitment, CHAIN_ID, work().target)
}

#[test]
fn a_proof_of_every_shape_is_valid() {
    let mut rng = rng();
    let mut shapes = vec![Shape::PLAIN];
    for levels in [0, 1, 4, 30] {
        for flags in 0..8 {
            shapes.push(Shape {
                coinbase_levels: levels,
                chain_levels: 30 - levels,
                is_in_output: flags & 1 > 0,
                has_other_tags: flags & 2 > 0,
                has_witness: flags & 4 > 0,
            });
        }
    }
    for shape in shapes {
        let text = format!("{shape:?}");
        let submission = flaws::valid(&work(), shape, MOST_HASHES, &mut rng).expect("easy");
        assert_eq!(judged(&submission), Ok(()), "{text}");
        assert_eq!(submission.hash, work().hash());
    }
}

#[test]
fn every_flaw_is_one() {
    let mut rng = rng();
    let mut rules = BTreeSet::new();
    for flaw in Flaw::ALL {
        for _ in 0..8 {
            let submission = flaws::flawed(&work(), flaw, MOST_HASHES, &mut rng).expect("easy");
            let broken = judged(&submission);
            let is_of_hash = submission.hash != work().hash();
            assert!(broken.is_err() || is_of_hash, "{flaw:?}");
            rules.extend(broken.err());
        }
    }
    // Each rule of proofs is broken by some flaw; nothing else breaks the format.
    assert_eq!(rules.len(), 13, "{rules:?}");
    let words: BTreeSet<&str> = Flaw::ALL.iter().map(|flaw| flaw.word()).collect();
    assert_eq!(words.len(), Flaw::ALL.len());
}

#[test]
fn a_flaw_alone_breaks_its_rule() {
    let table = [
        (Flaw::NoMagic, "the magic once"),
        (Flaw::TwoMagics, "the magic once"),
        (Flaw::RootOrder, "the root of the commitment"),
        (Flaw::TagCutOff, "follow the magic"),
        (Flaw::Size, "size of its branch"),
        (Flaw::Slot, "in its slot"),
        (Flaw::Root, "the root of the commitment"),
        (Flaw::ChainLevels, "at most 30 levels"),
        (Flaw::CoinbaseLevels, "at most 30 levels"),
        (Flaw::CoinbaseIndex, "transaction 0"),
        (Flaw::MerkleOrder, "its parent has the coinbase"),
        (Flaw::Inclusion, "its parent has the coinbase"),
        (Flaw::OwnParent, "of another chain"),
        (Flaw::Work, "its work meets its bits"),
        (Flaw::WorkOrder, "its work meets its bits"),
        (Flaw::OtherWork, "the root of the commitment"),
        (Flaw::OtherChain, "the root of the commitment"),
        (Flaw::TooLong, "512 KiB"),
        (Flaw::Trailing, "the format"),
    ];
    let mut rng = rng();
    for (flaw, expected) in table {
        let submission = flaws::flawed(&work(), flaw, MOST_HASHES, &mut rng).expect("easy");
        let broken = judged(&submission).expect_err(expected);
        assert!(broken.contains(expected), "{flaw:?}: {broken}");
    }
}

#[test]
fn answers_with_work_are_read_by_either_name() {
    let mut hash = work().commitment.0;
    hash.reverse();
    let little_endian = hex::encode(work().target.to_le_bytes::<32>());
    let answer = json!({
        "hash": hex::encode(hash),
        "chainid": CHAIN_ID,
        "bits": format!("{BITS:08x}"),
        "target": little_endian,
        "_target": little_endian,
    });
    for name in ["target", "_target"] {
        assert_eq!(read(&answer, name), Ok((work(), BITS)));
    }
    let big_endian = hex::encode(work().target.to_be_bytes::<32>());
    for (field, value) in [
        ("target", json!(big_endian)),
        ("target", json!(null)),
        ("bits", json!("1d00ffff")),
        ("bits", json!("xyz")),
        ("hash", json!("00")),
        ("chainid", json!(1 << 16)),
    ] {
        let mut other = answer.clone();
        other[field] = value;
        assert!(read(&other, "target").is_err(), "{field}: {other}");
    }
    assert_eq!(compact(work().target), BITS);
}
