//! The encoding of a proof: one for each proof, and limits before the work that they bound.

mod drafts;

use alys_pow::{AuxPow, FormatError, MAX_BYTES};
use drafts::Draft;
use proptest::prelude::*;

/// Namecoin testnet block 233281: the shortest real proof.
fn shortest() -> Vec<u8> {
    let mut lines = include_str!("vectors/blocks.txt").lines();
    let line = lines.find(|line| line.starts_with("namecoin-testnet"));
    let hex = line.and_then(|line| line.split(' ').next_back());
    hex::decode(hex.expect("a line")).expect("hex")
}

/// Bytes of a proof up to the coinbase's input count.
fn start(rest: &[u8]) -> Vec<u8> {
    [&[1, 0, 0, 0], rest].concat()
}

#[test]
fn bytes_that_are_no_proof_are_refused_with_the_place() {
    let good = shortest();
    assert!(AuxPow::decode(&good).is_ok());
    let cut_off = |field, offset, expected, found| FormatError::CutOff {
        field,
        offset,
        expected,
        found,
    };
    let count = |field, offset, count, room| FormatError::Count {
        field,
        offset,
        count,
        room,
    };
    let inputs = "the coinbase's inputs";
    let not_shortest = |value| FormatError::NotShortest {
        field: inputs,
        offset: 4,
        value,
    };
    let cut = &good[..good.len() - 1];
    let input = [&[0; 36][..], &[0], &[0; 4]].concat();
    let with_witness = |witness: &[u8]| start(&[&[0, 1, 1], &input[..], &[0], witness].concat());
    let witness = "a witness of the coinbase";
    for (name, bytes, expected) in [
        ("empty", vec![], cut_off("the coinbase's version", 0, 4, 0)),
        (
            "cut",
            cut.to_vec(),
            cut_off("the parent header", 134, 80, 79),
        ),
        (
            "longer",
            [good.as_slice(), &[0]].concat(),
            FormatError::TrailingBytes { found: 1 },
        ),
        (
            "too long",
            vec![0; MAX_BYTES + 1],
            FormatError::TooLong {
                found: MAX_BYTES + 1,
            },
        ),
        ("inputs", start(&[2, 0]), count(inputs, 4, 2, 1)),
        (
            "most inputs",
            start(&[0xff; 9]),
            count(inputs, 4, u64::MAX, 0),
        ),
        (
            "253 in three bytes",
            start(&[0xfd, 0xfc, 0]),
            not_shortest(252),
        ),
        (
            "in five",
            start(&[0xfe, 0xff, 0xff, 0, 0]),
            not_shortest(65_535),
        ),
        (
            "in nine",
            start(&[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            not_shortest(0xffff_ffff),
        ),
        (
            "flag",
            start(&[0, 2]),
            FormatError::WitnessFlag { found: 2 },
        ),
        ("no inputs", start(&[0, 1, 0]), FormatError::NoInputs),
        (
            // `bitcoin` would allocate 16 MB for these four million elements.
            "witness",
            with_witness(&[0xfe, 0, 0x09, 0x3d, 0]),
            count(witness, 49, 4_000_000, 0),
        ),
        (
            "no witness",
            with_witness(&[0, 0, 0, 0, 0]),
            FormatError::NoWitness,
        ),
    ] {
        assert_eq!(AuxPow::decode(&bytes), Err(expected), "{name}");
    }
}

#[test]
fn the_largest_proof_is_read() {
    let mut draft = Draft::default();
    let spare = MAX_BYTES - draft.build().encode().len();
    // The length of a long script takes four more bytes.
    draft
        .after_tag
        .resize(draft.after_tag.len() + spare - 4, 0x6a);
    let bytes = draft.build().encode();
    assert_eq!(bytes.len(), MAX_BYTES);
    assert!(AuxPow::decode(&bytes).is_ok());
    draft.after_tag.push(0);
    let bytes = draft.build().encode();
    let found = MAX_BYTES + 1;
    assert_eq!(AuxPow::decode(&bytes), Err(FormatError::TooLong { found }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_that_decode_encode_to_themselves(
        has_witness: bool,
        inputs in 1_usize..4,
        outputs in 0_usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop_oneof![4 => Just(0_usize), 1 => 1_usize..100],
    ) {
        let draft = Draft { has_witness, inputs, outputs, ..Draft::default() };
        let proof = draft.build();
        let mut bytes = proof.encode();
        prop_assert_eq!(AuxPow::decode(&bytes), Ok(proof));
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(proof) = AuxPow::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes);
        }
    }

    /// Malformed bytes stopped V1's nodes (S13).
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), witness: bool) {
        let head: &[u8] = if witness { &[1, 0, 0, 0, 0, 1, 1] } else { &[1, 0, 0, 0, 1] };
        let bytes = [head, &bytes].concat();
        if let Ok(proof) = AuxPow::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes);
        }
    }
}
