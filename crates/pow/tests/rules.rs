//! Each rule of a proof: the exact refusal, and its text for pool operators.

mod drafts;

use alys_pow::rules::{MAGIC, expected_slot};
use alys_pow::{
    AuxPow, Bits, Place, Question, Refusal, Rule, Status, Target, VerifiedAuxPow, explain, reversed,
};
use alys_types::Hash;
use drafts::{Draft, easy};

fn verify(draft: &Draft) -> Result<(), Refusal> {
    VerifiedAuxPow::new(draft.build(), draft.demand()).map(drop)
}

/// The refusal of a draft, and texts that it contains.
fn check_refused(name: &str, draft: &Draft, expected: Refusal, texts: &[&str]) {
    let refusal = verify(draft).expect_err(name);
    assert_eq!(refusal, expected, "{name}");
    let text = refusal.to_string();
    for part in texts {
        assert!(text.contains(part), "{name}: {part:?} is not in {text:?}");
    }
    let question = Question {
        chain_id: draft.chain_id,
        commitment: Some(draft.commitment),
        bits: Some(easy().to_bits()),
    };
    let explanation = explain(&draft.build().encode(), &question);
    let row = explanation.first_failure().expect("a failed row");
    assert_eq!(row.rule, refusal.rule().name(), "{name}");
    assert_eq!(row.expected, Some(refusal.expected()), "{name}");
    assert_eq!(row.found, Some(refusal.found()), "{name}");
}

fn place(script: usize, byte: usize) -> Place {
    Place {
        script,
        inputs: 1,
        byte,
    }
}

#[test]
fn proofs_as_pools_build_them_are_accepted() {
    let base = Draft::default();
    let drafts = [
        ("three levels, tag in the input", base.clone()),
        (
            "a chain alone",
            Draft {
                chain_siblings: Vec::new(),
                ..base.clone()
            },
        ),
        (
            "a coinbase alone",
            Draft {
                coinbase_siblings: Vec::new(),
                ..base.clone()
            },
        ),
        (
            "30 levels each",
            Draft {
                chain_siblings: vec![Hash([5; 32]); 30],
                coinbase_siblings: vec![Hash([6; 32]); 30],
                ..base.clone()
            },
        ),
        (
            "tag in an output",
            Draft {
                tag_script: 2,
                ..base.clone()
            },
        ),
        (
            "tag at the end of its script",
            Draft {
                after_tag: Vec::new(),
                ..base.clone()
            },
        ),
        (
            "no outputs",
            Draft {
                outputs: 0,
                ..base.clone()
            },
        ),
        (
            "a witness",
            Draft {
                has_witness: true,
                ..base.clone()
            },
        ),
        (
            "another chain's tag",
            Draft {
                others: vec![(1, b"RSKBLOCK:".to_vec())],
                ..base.clone()
            },
        ),
        (
            "the root a second time",
            Draft {
                before_tag: reversed(base.chain_branch().fold(base.commitment))
                    .0
                    .to_vec(),
                ..base.clone()
            },
        ),
        (
            "half a magic before it",
            Draft {
                before_tag: vec![0xfa, 0xbe],
                ..base.clone()
            },
        ),
    ];
    for (name, draft) in drafts {
        assert_eq!(verify(&draft), Ok(()), "{name}");
    }
}

/// Case M07: our tag in the input script, and in outputs Rootstock's tag, the witness commitment
/// and a note of the pool (rskj#1216).
#[test]
fn outputs_of_other_chains_are_beside_the_tag_and_a_second_magic_is_refused() {
    let op_return = |start: &[u8], bytes: u8| {
        let data = [start, &[0x5a; 32]].concat();
        [&[0x6a, bytes], data.as_slice()].concat()
    };
    let shape = Draft {
        outputs: 4,
        has_witness: true,
        others: vec![
            (2, op_return(b"RSKBLOCK:", 41)),
            (3, op_return(&[0xaa, 0x21, 0xa9, 0xed], 36)),
            (4, op_return(b"", 32)),
        ],
        ..Draft::default()
    };
    assert_eq!(verify(&shape), Ok(()));
    for place in 2..5 {
        let mut twice = shape.clone();
        let script = &mut twice.others[place - 2].1;
        script.extend(MAGIC);
        let refusal = Refusal::Magic {
            count: 2,
            first: Some(self::place(0, 4)),
            root: None,
        };
        let text = "found 2 of them, first in input 0 at byte 4";
        check_refused("a second magic", &twice, refusal, &[text]);
    }
}

#[test]
fn fields_that_cost_nothing_are_checked_first() {
    // Not mined: the work would be refused next.
    let base = Draft {
        is_mined: false,
        ..Draft::default()
    };
    check_refused(
        "index",
        &Draft {
            coinbase_index: 1,
            ..base.clone()
        },
        Refusal::CoinbaseIndex { found: 1 },
        &["\"coinbase index\"", "expected 0", "found 1"],
    );
    check_refused(
        "coinbase levels",
        &Draft {
            coinbase_siblings: vec![Hash::ZERO; 31],
            ..base.clone()
        },
        Refusal::CoinbaseLevels { found: 31 },
        &["at most 30 levels", "found 31 levels"],
    );
    check_refused(
        "chain levels",
        &Draft {
            chain_siblings: vec![Hash::ZERO; 31],
            ..base.clone()
        },
        Refusal::ChainLevels { found: 31 },
        &["at most 30 levels", "found 31 levels"],
    );
    for version in [21_212 << 16, 21_212 << 16 | 0xffff] {
        check_refused(
            "chain id",
            &Draft {
                version,
                ..base.clone()
            },
            Refusal::ParentChainId {
                chain_id: 21_212,
                version,
            },
            &[
                "another chain id than 21212",
                "found chain id 21212 of version 0x52dc",
            ],
        );
    }
    let proof = base.build();
    check_refused(
        "work",
        &base,
        Refusal::Work {
            target: easy(),
            hash: proof.parent_hash(),
        },
        &[
            "a hash up to 7fffff00",
            &hex::encode(reversed(proof.parent_hash()).0),
        ],
    );
}

/// A negative version has its chain id in the upper half like any other.
#[test]
fn chain_ids_of_negative_versions_are_compared() {
    let draft = Draft {
        chain_id: 0xd2dc,
        version: 0xd2dc_0001_u32.cast_signed(),
        ..Draft::default()
    };
    let expected = Refusal::ParentChainId {
        chain_id: 0xd2dc,
        version: draft.version,
    };
    check_refused(
        "negative",
        &draft,
        expected,
        &["found chain id 53980 of version 0xd2dc0001"],
    );
}

#[test]
fn the_magic_is_there_once() {
    let base = Draft::default();
    let missing = Draft {
        magic: Vec::new(),
        ..base.clone()
    };
    let root = Some((place(0, 4), true));
    check_refused(
        "Namecoin's form without a magic",
        &missing,
        Refusal::Magic {
            count: 0,
            first: None,
            root,
        },
        &[
            "fabe6d6d once",
            "found no magic",
            "our root is in input 0 at byte 4",
            "the right",
        ],
    );
    let internal = base.chain_branch().fold(base.commitment);
    check_refused(
        "reversed and without a magic",
        &Draft {
            root: Some(reversed(internal)),
            tag_script: 2,
            ..missing.clone()
        },
        Refusal::Magic {
            count: 0,
            first: None,
            root: Some((place(2, 4), false)),
        },
        &["our root is in output 1 at byte 4, in internal byte order"],
    );
    check_refused(
        "nothing of ours",
        &Draft {
            root: Some(Hash::ZERO),
            ..missing
        },
        Refusal::Magic {
            count: 0,
            first: None,
            root: None,
        },
        &["found no magic"],
    );
    for (name, draft) in [
        (
            "in an output",
            Draft {
                others: vec![(1, MAGIC.to_vec())],
                ..base.clone()
            },
        ),
        (
            "behind the tag",
            Draft {
                after_tag: MAGIC.to_vec(),
                ..base.clone()
            },
        ),
    ] {
        check_refused(
            name,
            &draft,
            Refusal::Magic {
                count: 2,
                first: Some(place(0, 4)),
                root: None,
            },
            &["found 2 of them, first in input 0 at byte 4"],
        );
    }
}

#[test]
fn the_tag_has_root_size_and_nonce() {
    let base = Draft {
        after_tag: Vec::new(),
        ..Draft::default()
    };
    for (cut, found) in [(1, 39), (8, 32), (40, 0)] {
        check_refused(
            "cut off",
            &Draft {
                cut,
                ..base.clone()
            },
            Refusal::Tag {
                magic: place(0, 4),
                found,
            },
            &[
                "40 bytes of root, size and nonce",
                "bytes after the magic in input 0 at byte 4",
            ],
        );
    }
    for found in [0, 4, 16, 0x0800_0000] {
        check_refused(
            "size",
            &Draft {
                size: Some(found),
                ..base.clone()
            },
            Refusal::Size {
                levels: 3,
                expected: 8,
                found,
            },
            &["expected 8, for 3 levels", &format!("found {found}")],
        );
    }
    let right = expected_slot(7, 21_212, 3);
    for found in [right ^ 1, right + 8, u32::MAX] {
        check_refused(
            "slot",
            &Draft {
                chain_index: Some(found),
                ..base.clone()
            },
            Refusal::Slot {
                chain_id: 21_212,
                nonce: 7,
                expected: right,
                found,
            },
            &["for chain id 21212 and nonce 7", &format!("found {found}")],
        );
    }
}

#[test]
fn the_root_is_that_of_our_work() {
    let base = Draft::default();
    let expected = base.chain_branch().fold(base.commitment);
    let found = reversed(expected);
    check_refused(
        "internal order",
        &Draft {
            root: Some(found),
            ..base.clone()
        },
        Refusal::Root { expected, found },
        &[
            "the root is in internal order: write it reversed",
            &hex::encode(expected.0),
            &hex::encode(found.0),
        ],
    );
    let found = base.commitment;
    check_refused(
        "the commitment in place of the root",
        &Draft {
            root: Some(found),
            ..base.clone()
        },
        Refusal::Root { expected, found },
        &["in internal order)"],
    );
    let root = Some(Hash([8; 32]));
    let draft = Draft {
        merkle_root: root,
        ..base
    };
    let proof = draft.build();
    let found = proof.coinbase_branch.fold(proof.coinbase_id());
    check_refused(
        "inclusion",
        &draft,
        Refusal::Inclusion {
            expected: Hash([8; 32]),
            found,
        },
        &[&"08".repeat(32)],
    );
}

/// The parent's work has to meet our target, not its own.
#[test]
fn harder_targets_need_more_work() {
    let draft = Draft::default();
    let proof = draft.build();
    let hash = proof.parent_hash();
    let at = alloy_primitives::U256::from_le_bytes(hash.0);
    let one = alloy_primitives::U256::from(1);
    for (value, is_met) in [(at, true), (at - one, false)] {
        let target = Target::new(value).expect("positive");
        let demand = alys_pow::Demand {
            target,
            ..draft.demand()
        };
        let expected = if is_met {
            Ok(())
        } else {
            Err(Refusal::Work { target, hash })
        };
        let verified = VerifiedAuxPow::new(proof.clone(), demand);
        assert_eq!(verified.map(drop), expected);
    }
}

struct Block {
    name: &'static str,
    chain_id: u16,
    bits: Bits,
    commitment: Hash,
    bytes: Vec<u8>,
}

fn real_blocks() -> impl Iterator<Item = Block> {
    let lines = include_str!("vectors/blocks.txt").lines();
    lines.filter(|line| !line.starts_with('#')).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        Block {
            name: words[0],
            chain_id: words[1].parse().expect("a chain id"),
            bits: words[2].parse().expect("bits"),
            commitment: reversed(words[3].parse().expect("a hash")),
            bytes: hex::decode(words[4]).expect("hex"),
        }
    })
}

/// Case M05: blocks of Namecoin and Dogecoin. The two of Namecoin have no magic, which Alys
/// requires (rule 4.2 names the first); Dogecoin's has all but sha256d work.
#[test]
fn blocks_of_other_chains_hold_all_rules_but_those_named() {
    let mut checked = 0;
    for block in real_blocks() {
        let proof = AuxPow::decode(&block.bytes).expect(block.name);
        assert_eq!(proof.encode(), block.bytes, "{}", block.name);
        let question = Question {
            chain_id: block.chain_id,
            commitment: Some(block.commitment),
            bits: Some(block.bits),
        };
        let explanation = explain(&block.bytes, &question);
        let of = |status| {
            let rows = explanation
                .rules
                .iter()
                .filter(move |row| row.status == status);
            rows.map(|row| row.rule).collect::<Vec<_>>()
        };
        let is_dogecoin = block.name.starts_with("dogecoin");
        let (failed, not_reached) = if is_dogecoin {
            (vec!["work"], vec![])
        } else {
            (
                vec!["magic"],
                vec!["tag", "tree size", "slot", "chain root"],
            )
        };
        assert_eq!(of(Status::Failed), failed, "{}", block.name);
        assert_eq!(of(Status::NotReached), not_reached, "{}", block.name);
        let demand = |target| alys_pow::Demand {
            chain_id: block.chain_id,
            commitment: block.commitment,
            target,
        };
        let easiest = Target::new(alloy_primitives::U256::MAX).expect("positive");
        let verified = VerifiedAuxPow::new(proof.clone(), demand(easiest));
        match verified {
            Ok(verified) => assert!(is_dogecoin && *verified.proof() == proof, "{}", block.name),
            Err(Refusal::Magic {
                count: 0,
                root: Some((place, true)),
                ..
            }) => {
                let at = if block.name.contains("19414") { 17 } else { 1 };
                assert!(!is_dogecoin && place.byte == at, "{}: {place}", block.name);
            }
            Err(refusal) => panic!("{}: {refusal}", block.name),
        }
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn slots_are_those_of_the_vectors() {
    let lines = include_str!("vectors/slots.txt").lines();
    let rows: Vec<Vec<u32>> = lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.split(' ')
                .map(|word| word.parse().expect("a number"))
                .collect()
        })
        .collect();
    assert_eq!(rows.len(), 96);
    for row in rows {
        let chain_id = row[0].try_into().expect("a chain id");
        assert_eq!(
            expected_slot(row[2], chain_id, row[1] as usize),
            row[3],
            "{row:?}"
        );
    }
}

#[test]
fn explanations_name_the_rules_that_are_not_reached() {
    let draft = Draft::default();
    let question = Question {
        chain_id: draft.chain_id,
        commitment: None,
        bits: None,
    };
    let explanation = explain(&draft.build().encode(), &question);
    let rules: Vec<_> = explanation.rules.iter().map(|row| row.rule).collect();
    assert_eq!(rules, Rule::ALL.map(Rule::name));
    let not_reached = explanation
        .rules
        .iter()
        .filter(|row| row.status == Status::NotReached);
    let notes: Vec<_> = not_reached
        .map(|row| (row.rule, row.note.as_deref()))
        .collect();
    let expected = [
        ("work", Some("no bits are given")),
        ("chain root", Some("no commitment is given")),
    ];
    assert_eq!(notes, expected);
    assert_eq!(explanation.first_failure(), None);

    let explanation = explain(b"\x01", &question);
    let failure = explanation.first_failure().expect("not a proof");
    let found = "the proof ends within the coinbase's version: expected 4 bytes at 0, found 1";
    assert_eq!(
        (failure.rule, failure.found.as_deref()),
        ("format", Some(found))
    );
    let json = serde_json::to_value(&explanation).expect("data");
    assert_eq!(json["rules"][0]["status"], "failed");
    assert_eq!(json["rules"][11]["status"], "not_reached");
    assert_eq!(json["rules"][11]["rule"], "coinbase inclusion");
}
