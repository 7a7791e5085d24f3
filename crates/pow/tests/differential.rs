//! Generated and mutated proofs, judged by `bitcoin-dogecoin` too. Its rules are Dogecoin's: each
//! difference has a rule that explains it, and any other fails the test.
//!
//! `ALYS_SEEDS=100000 cargo test -p alys-pow --test differential` makes the run long.

mod drafts;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use alys_pow::rules::MAGIC;
use alys_pow::{
    AuxPow, Demand, FormatError, Question, Rule, Status, VerifiedAuxPow, explain, reversed,
};
use alys_types::Hash;
use dogecoin::BlockHash;
use dogecoin::consensus::deserialize;
use dogecoin::dogecoin::auxpow::AuxPow as Judged;
use dogecoin::dogecoin::auxpow::AuxPowCoinbaseScriptValidationError as Script;
use dogecoin::dogecoin::auxpow::AuxPowValidationError as Error;
use dogecoin::hashes::Hash as _;
use drafts::{Draft, EASY_BITS};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Proofs of a run: `ALYS_SEEDS`, or as many as reach every class of differences.
fn cases() -> u32 {
    let number = std::env::var("ALYS_SEEDS").ok();
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(2000)
}

/// A change of a draft that keeps the rest of the proof consistent.
#[derive(Debug, Clone)]
enum Change {
    CoinbaseIndex(u32),
    ChainIndex(u32),
    Size(u32),
    Nonce(u32),
    InternalOrder,
    OtherRoot,
    NoMagic,
    LateRoot,
    SecondMagic(Index),
    RootBefore,
    Cut(usize),
    OwnParent,
    NegativeParent,
    OtherMerkleRoot,
    MoveTag(Index),
    LongChainBranch,
    LongCoinbaseBranch,
    NotMined,
}

fn change() -> impl Strategy<Value = Change> {
    use Change::*;
    prop_oneof![
        prop_oneof![Just(1), any::<u32>()].prop_map(CoinbaseIndex),
        prop_oneof![0_u32..8, any::<u32>()].prop_map(ChainIndex),
        (0_u32..40).prop_map(|bits| Size(1_u32.checked_shl(bits).unwrap_or(3))),
        any::<u32>().prop_map(Nonce),
        Just(InternalOrder),
        Just(OtherRoot),
        Just(NoMagic),
        Just(LateRoot),
        any::<Index>().prop_map(SecondMagic),
        Just(RootBefore),
        (1_usize..41).prop_map(Cut),
        Just(OwnParent),
        Just(NegativeParent),
        Just(OtherMerkleRoot),
        any::<Index>().prop_map(MoveTag),
        Just(LongChainBranch),
        Just(LongCoinbaseBranch),
        Just(NotMined),
    ]
}

fn apply(draft: &mut Draft, change: &Change) {
    let scripts = draft.inputs + draft.outputs;
    let root = draft.chain_branch().fold(draft.commitment);
    match change {
        Change::CoinbaseIndex(index) => draft.coinbase_index = *index,
        Change::ChainIndex(index) => draft.chain_index = Some(*index),
        Change::Size(size) => draft.size = Some(*size),
        Change::Nonce(nonce) => draft.nonce = *nonce,
        Change::InternalOrder => draft.root = Some(reversed(root)),
        Change::OtherRoot => draft.root = Some(Hash([0x55; 32])),
        Change::NoMagic => draft.magic = Vec::new(),
        Change::LateRoot => {
            draft.magic = Vec::new();
            draft.before_tag = vec![0x66; 21];
        }
        Change::SecondMagic(place) => match place.index(scripts) {
            place if place == draft.tag_script => draft.before_tag.extend(MAGIC),
            place => draft.others = vec![(place, MAGIC.to_vec())],
        },
        Change::RootBefore => draft.before_tag = reversed(root).0.to_vec(),
        Change::Cut(cut) => {
            draft.cut = *cut.min(&40);
            draft.after_tag = Vec::new();
        }
        Change::OwnParent => draft.version = i32::from(draft.chain_id) << 16 | 4,
        Change::NegativeParent => {
            draft.chain_id |= 0x8000;
            draft.version = i32::from(draft.chain_id) << 16;
        }
        Change::OtherMerkleRoot => draft.merkle_root = Some(Hash([0x77; 32])),
        Change::MoveTag(place) => draft.tag_script = place.index(scripts),
        Change::LongChainBranch => draft.chain_siblings.resize(31, Hash::ZERO),
        Change::LongCoinbaseBranch => draft.coinbase_siblings.resize(31, Hash::ZERO),
        Change::NotMined => draft.is_mined = false,
    }
}

/// A proof with its changes, of the draft and of its bytes.
type Case = (Draft, Vec<Change>, Vec<(Index, u8)>);

fn case() -> impl Strategy<Value = Case> {
    let hashes = |most| vec(any::<[u8; 32]>().prop_map(Hash), 0..most);
    let chain = (
        prop_oneof![Just(21_212_u16), 0_u16..0x8000],
        any::<[u8; 32]>(),
        any::<u32>(),
    );
    let coinbase = (
        1_usize..3,
        0_usize..4,
        vec(any::<u8>(), 0..30),
        vec(any::<u8>(), 0..30),
    );
    let draft = (chain, hashes(9), hashes(14), coinbase, any::<bool>());
    let draft = draft.prop_map(
        |(chain, chain_siblings, coinbase_siblings, coinbase, witness)| {
            let (chain_id, commitment, nonce) = chain;
            let (inputs, outputs, before_tag, after_tag) = coinbase;
            Draft {
                chain_id,
                commitment: Hash(commitment),
                chain_siblings,
                coinbase_siblings,
                nonce,
                inputs,
                outputs,
                before_tag,
                after_tag,
                has_witness: witness,
                ..Draft::default()
            }
        },
    );
    let bytes = vec((any::<Index>(), any::<u8>()), 1..3);
    let bytes = prop_oneof![3 => Just(Vec::new()), 1 => bytes];
    (draft, vec(change(), 0..3), bytes)
}

/// Scripts of the judge's coinbase that contain the magic, each as often as it does.
fn magics(judged: &Judged) -> Vec<usize> {
    let tx = &judged.coinbase_tx;
    let inputs = tx.input.iter().map(|input| input.script_sig.as_bytes());
    let scripts = inputs.chain(
        tx.output
            .iter()
            .map(|output| output.script_pubkey.as_bytes()),
    );
    let count = |script: &[u8]| {
        let text = hex::encode(script);
        text.match_indices("fabe6d6d")
            .filter(|(at, _)| at % 2 == 0)
            .count()
    };
    let counted = scripts.enumerate();
    counted
        .flat_map(|(place, script)| std::iter::repeat_n(place, count(script)))
        .collect()
}

/// The judge's verdict for the rules that fail here, or the reason for which it may differ.
fn predict(
    failed: &BTreeSet<&str>,
    judged: &Judged,
    root: Hash,
) -> Result<Result<(), Error>, &'static str> {
    let fails = |rule: Rule| failed.contains(rule.name());
    let same = |error| Ok(Err(error));
    let script = |error| Ok(Err(Error::InvalidAuxPowCoinbaseScript(error)));
    if fails(Rule::CoinbaseIndex) {
        return same(Error::AuxPowNotFromCoinbase);
    }
    if fails(Rule::ParentChainId) {
        if judged.parent_block_header.version.to_consensus() < 0 {
            return Err("it reads the chain id of a negative version as negative");
        }
        return same(Error::ParentHasSameChainId);
    }
    if fails(Rule::ChainLevels) {
        return same(Error::ChainMerkleBranchTooLong);
    }
    if fails(Rule::CoinbaseLevels) {
        return Err("it has no bound of the coinbase branch");
    }
    if fails(Rule::Inclusion) {
        return same(Error::InvalidCoinbaseMerkleProof);
    }
    let magics = magics(judged);
    assert_eq!(fails(Rule::Magic), magics.len() != 1, "{magics:?}");
    match magics[..] {
        [] => return Err("it accepts a root without magic in the first 20 bytes"),
        [0] => {}
        [_] => return Err("it reads the first input's script only"),
        [..] if magics.iter().filter(|place| **place == 0).count() == 1 => {
            return Err("it does not count magics of other scripts");
        }
        [..] => return Err("it looks for the root before it counts"),
    }
    let bytes = hex::encode(judged.coinbase_tx.input[0].script_sig.as_bytes());
    let root = hex::encode(reversed(root).0);
    let tag = bytes.find("fabe6d6d").map(|at| at + 8);
    if bytes.find(&root).is_some_and(|at| Some(at) != tag) {
        return Err("it reads the first occurrence of the root");
    }
    if fails(Rule::Tag) && tag == bytes.find(&root) {
        return script(Script::MissingMerkleSizeAndNonce);
    }
    if fails(Rule::Tag) || fails(Rule::Root) {
        return script(Script::MissingMerkleRoot);
    }
    if fails(Rule::Size) {
        return script(Script::MerkleSizeMismatch);
    }
    if fails(Rule::Slot) {
        return script(Script::InvalidChainIndex);
    }
    Ok(Ok(()))
}

/// Compares both verdicts about a proof. Returns the class of the case.
fn compare(bytes: &[u8], demand: Demand) -> String {
    let judged = deserialize::<Judged>(bytes);
    let proof = match (AuxPow::decode(bytes), &judged) {
        (Ok(proof), Ok(_)) => proof,
        (Err(_), Err(_)) => return "neither decodes".to_owned(),
        (Err(FormatError::NoInputs), Ok(judged)) => {
            assert!(judged.coinbase_tx.input.is_empty());
            return "neither accepts a coinbase without inputs".to_owned();
        }
        (ours, judged) => panic!("{ours:?}, judge: {judged:?}"),
    };
    let judged = judged.expect("decoded above");
    let question = Question {
        chain_id: demand.chain_id,
        commitment: Some(demand.commitment),
        bits: Some(demand.target.to_bits()),
    };
    let explanation = explain(bytes, &question);
    let verified = VerifiedAuxPow::new(proof.clone(), demand);
    let refused = verified.as_ref().err().map(|refusal| refusal.rule().name());
    let first = explanation.first_failure().map(|row| row.rule);
    assert_eq!(refused, first, "verification and explanation differ");

    let failed = explanation
        .rules
        .iter()
        .filter(|row| row.status == Status::Failed);
    let failed: BTreeSet<&str> = failed.map(|row| row.rule).collect();
    let bits = bitcoin::CompactTarget::from_consensus(EASY_BITS);
    let has_work = bitcoin::Target::from_compact(bits).is_met_by(proof.parent.block_hash());
    assert_eq!(has_work, !failed.contains(Rule::Work.name()), "work");

    let child = BlockHash::from_byte_array(demand.commitment.0);
    let verdict = judged.check(child, demand.chain_id.into(), true);
    // `fold` would cost as much as a remote branch is long.
    let is_short = !failed.contains(Rule::ChainLevels.name());
    let root = if is_short {
        proof.chain_branch.fold(demand.commitment)
    } else {
        Hash::ZERO
    };
    match predict(&failed, &judged, root) {
        Ok(expected) => {
            assert_eq!(verdict, expected, "{failed:?}");
            match verdict {
                Ok(()) if has_work => "both accept".to_owned(),
                Ok(()) => "it has no rule of work".to_owned(),
                Err(error) => format!("both refuse: {error}"),
            }
        }
        Err(reason) => format!(
            "{reason}: {}",
            if verdict.is_ok() {
                "accepts"
            } else {
                "refuses"
            }
        ),
    }
}

#[test]
fn an_independent_judge_agrees_but_for_the_named_rules() {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases())
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let classes = RefCell::new(BTreeMap::<String, u64>::new());
    let result = runner.run(&case(), |(mut draft, changes, flips)| {
        for change in &changes {
            apply(&mut draft, change);
        }
        let mut bytes = draft.build().encode();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let class = compare(&bytes, draft.demand());
        *classes.borrow_mut().entry(class).or_default() += 1;
        Ok(())
    });
    let classes = classes.into_inner();
    for (class, count) in &classes {
        println!("{count:>7} {class}");
    }
    if let Err(error) = result {
        panic!("{error}");
    }
    // Every rule of both and every difference has been at work.
    for class in [
        "both accept",
        "both refuse: Aux POW does not originate",
        "both refuse: Chain ID duplicated",
        "both refuse: Aux POW blockchain merkle branch too long",
        "both refuse: Aux POW coinbase transaction has invalid merkle proof",
        "both refuse: Aux POW missing blockchain merkle root",
        "both refuse: Aux POW missing blockchain merkle tree size",
        "both refuse: Aux POW merkle blockchain branch size",
        "both refuse: Aux POW blockchain index",
        "neither decodes",
        "it has no rule of work",
        "it has no bound of the coinbase branch: accepts",
        "it reads the chain id of a negative version as negative: accepts",
        "it accepts a root without magic in the first 20 bytes: accepts",
        "it reads the first input's script only: refuses",
        "it does not count magics of other scripts: accepts",
        "it reads the first occurrence of the root: refuses",
        "it looks for the root before it counts: refuses",
    ] {
        assert!(
            classes.keys().any(|found| found.starts_with(class)),
            "{class}"
        );
    }
}
