//! Cost of reading and verifying proofs, beside the cost of the hashes that they need.
//!
//! `cargo bench -p alys-pow --bench auxpow`. Criterion measures each on its own; the table at the
//! end measures a proof and its hashes in turns, in one run, and prints ratios, which do not depend
//! on the load of the machine. There is an invalid proof for each rule, as long as the valid one,
//! with the hashes that the rules before and itself need: a rule without any refuses for the cost
//! of decoding.

#[path = "../tests/drafts/mod.rs"]
mod drafts;

use std::hint::black_box;
use std::time::Duration;

use alys_bench_kit::{in_turns, us};
use alys_pow::{AuxPow, Demand, Refusal, Rule, VerifiedAuxPow, sha256d};
use alys_types::Hash;
use criterion::Criterion;
use drafts::Draft;

/// The most levels that a branch may have.
const LEVELS: usize = 30;
/// More than any coinbase of a pool; Bitcoin's largest blocks pay a few thousand miners.
const COINBASE_BYTES: usize = 100_000;
const TURNS: usize = 200;

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    demand: Demand,
    /// The rule that the proof breaks.
    broken: Option<Rule>,
    hashes: Hashes,
}

/// The hashes of the rules of a proof, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hashes {
    None,
    /// The hash of the parent's header.
    Header,
    /// Also the levels of the chain branch.
    Chain,
    /// Also the coinbase and the levels of its branch.
    All,
}

impl Hashes {
    fn compute(self, coinbase: &[u8]) {
        let levels = |count| {
            for _ in 0..count {
                black_box(sha256d(&[black_box(&[1; 32]), &[2; 32]]));
            }
        };
        if self >= Hashes::Header {
            black_box(sha256d(&[black_box(&[3; 80])]));
        }
        if self >= Hashes::Chain {
            levels(LEVELS);
        }
        if self == Hashes::All {
            black_box(sha256d(&[coinbase]));
            levels(LEVELS);
        }
    }
}

/// A valid proof, and one for each rule, in the order of the rules.
fn cases() -> Vec<Case> {
    let base = Draft {
        chain_siblings: vec![Hash([2; 32]); LEVELS],
        coinbase_siblings: vec![Hash([3; 32]); LEVELS],
        before_tag: vec![0; COINBASE_BYTES],
        after_tag: Vec::new(),
        ..Draft::default()
    };
    let case = |name, broken, hashes, change: fn(&mut Draft)| {
        let mut draft = base.clone();
        change(&mut draft);
        Case {
            name,
            bytes: draft.build().encode(),
            demand: draft.demand(),
            broken,
            hashes,
        }
    };
    let broken = |rule: Rule, hashes, change| case(rule.name(), Some(rule), hashes, change);
    let mut cases = vec![
        case("valid", None, Hashes::All, |_| {}),
        case("format", Some(Rule::Format), Hashes::None, |_| {}),
        broken(Rule::CoinbaseIndex, Hashes::None, |draft| {
            draft.coinbase_index = 1;
        }),
        broken(Rule::CoinbaseLevels, Hashes::None, |draft| {
            draft.coinbase_siblings.push(Hash::ZERO);
        }),
        broken(Rule::ChainLevels, Hashes::None, |draft| {
            draft.chain_siblings.push(Hash::ZERO);
        }),
        broken(Rule::ParentChainId, Hashes::None, |draft| {
            draft.version = i32::from(draft.chain_id) << 16;
        }),
        broken(Rule::Work, Hashes::Header, |draft| draft.is_mined = false),
        // The note of this refusal looks for the root of the chain branch.
        broken(Rule::Magic, Hashes::Chain, |draft| draft.magic.clear()),
        broken(Rule::Tag, Hashes::Header, |draft| draft.cut = 1),
        broken(Rule::Size, Hashes::Header, |draft| draft.size = Some(3)),
        broken(Rule::Slot, Hashes::Header, |draft| {
            draft.chain_index = Some(draft.chain_branch().index ^ 1);
        }),
        broken(Rule::Root, Hashes::Chain, |draft| {
            draft.root = Some(Hash([5; 32]));
        }),
        broken(Rule::Inclusion, Hashes::All, |draft| {
            draft.merkle_root = Some(Hash::ZERO);
        }),
    ];
    cases[1].bytes.pop();
    cases
}

impl Case {
    /// Reads and verifies the proof, as a node does.
    fn verify(&self) {
        let Ok(proof) = AuxPow::decode(&self.bytes) else {
            assert_eq!(self.broken, Some(Rule::Format), "{}", self.name);
            return;
        };
        let verified = black_box(VerifiedAuxPow::new(proof, self.demand));
        let broken = verified.err().as_ref().map(Refusal::rule);
        assert_eq!(broken, self.broken, "{}", self.name);
    }

    fn decode(&self) {
        let _ = black_box(AuxPow::decode(&self.bytes));
    }
}

fn table(cases: &[Case], coinbase: &[u8]) {
    println!(
        "\np50 of {TURNS} turns; own: the hashes until the refusal; valid: those of the valid proof"
    );
    println!(
        "{:<18} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8}",
        "", "all", "decoding", "own", "valid", "x own", "x valid"
    );
    for case in cases {
        let [all, decoding, own, valid] = in_turns(
            TURNS,
            [
                &|| case.verify(),
                &|| case.decode(),
                &|| case.hashes.compute(coinbase),
                &|| Hashes::All.compute(coinbase),
            ],
        );
        let of_own = match case.hashes {
            Hashes::None => "-".to_owned(),
            _ => format!("{:.2}", us(all) / us(own)),
        };
        println!(
            "{:<18} {:>7.1} us {:>7.1} us {:>7.1} us {:>7.1} us {of_own:>8} {:>8.3}",
            case.name,
            us(all),
            us(decoding),
            us(own),
            us(valid),
            us(all) / us(valid)
        );
    }
}

fn main() {
    let cases = cases();
    let coinbase = vec![7; COINBASE_BYTES];
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("auxpow");
    group.measurement_time(Duration::from_secs(2));
    for case in &cases {
        group.bench_function(case.name, |b| b.iter(|| case.verify()));
    }
    group.bench_function("hashes alone", |b| {
        b.iter(|| Hashes::All.compute(&coinbase));
    });
    group.finish();
    criterion.final_summary();
    // `cargo test --benches` runs each function once, without figures.
    if std::env::args().any(|argument| argument == "--bench") {
        table(&cases, &coinbase);
    }
}
