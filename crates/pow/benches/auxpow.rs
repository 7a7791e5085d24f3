//! Cost of reading and verifying proofs, beside the cost of the hashes that they need.
//!
//! `cargo bench -p alys-pow --bench auxpow`. Criterion measures each on its own; the table at the
//! end measures a proof and its hashes in turns, in one run, and prints ratios, which do not depend
//! on the load of the machine. Invalid proofs are as long as the valid one: a ratio below 1 says
//! that they are refused before the hashes.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

#[path = "../tests/drafts/mod.rs"]
mod drafts;

use std::hint::black_box;
use std::time::{Duration, Instant};

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
}

fn cases() -> Vec<Case> {
    let base = Draft {
        chain_siblings: vec![Hash([2; 32]); LEVELS],
        coinbase_siblings: vec![Hash([3; 32]); LEVELS],
        after_tag: vec![0; COINBASE_BYTES],
        ..Draft::default()
    };
    let no_magic = Draft {
        magic: Vec::new(),
        ..base.clone()
    };
    let not_mined = Draft {
        is_mined: false,
        ..base.clone()
    };
    let index = Draft {
        coinbase_index: 1,
        ..base.clone()
    };
    let merkle_root = Draft {
        merkle_root: Some(Hash::ZERO),
        ..base.clone()
    };
    let case = |name, draft: &Draft, broken| Case {
        name,
        bytes: draft.build().encode(),
        demand: draft.demand(),
        broken,
    };
    let mut cases = vec![
        case("valid", &base, None),
        case("coinbase index", &index, Some(Rule::CoinbaseIndex)),
        case("not mined", &not_mined, Some(Rule::Work)),
        case("no magic", &no_magic, Some(Rule::Magic)),
        case("wrong Merkle root", &merkle_root, Some(Rule::Inclusion)),
    ];
    let mut cut = case("cut off", &base, Some(Rule::Format));
    cut.bytes.pop();
    cases.push(cut);
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

/// The hashes of the valid proof: of its coinbase, its levels and its header.
fn hashes(coinbase: &[u8]) {
    black_box(sha256d(&[coinbase]));
    for _ in 0..2 * LEVELS {
        black_box(sha256d(&[black_box(&[1; 32]), &[2; 32]]));
    }
    black_box(sha256d(&[black_box(&[3; 80])]));
}

/// Medians of `works`, each run once a turn.
fn in_turns<const N: usize>(works: [&dyn Fn(); N]) -> [Duration; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..TURNS {
        for (work, times) in works.iter().zip(&mut times) {
            let start = Instant::now();
            work();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    })
}

fn table(cases: &[Case], coinbase: &[u8]) {
    println!("\np50 of {TURNS} turns; hashes: those of the valid proof alone");
    println!(
        "{:<18} {:>10} {:>10} {:>10} {:>9}",
        "", "all", "decoding", "hashes", "x hashes"
    );
    for case in cases {
        let [all, decoding, alone] =
            in_turns([&|| case.verify(), &|| case.decode(), &|| hashes(coinbase)]);
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{:<18} {:>7.1} us {:>7.1} us {:>7.1} us {:>9.3}",
            case.name,
            us(all),
            us(decoding),
            us(alone),
            us(all) / us(alone)
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
    group.bench_function("hashes alone", |b| b.iter(|| hashes(&coinbase)));
    group.finish();
    criterion.final_summary();
    // `cargo test --benches` runs each function once, without figures.
    if std::env::args().any(|argument| argument == "--bench") {
        table(&cases, &coinbase);
    }
}
