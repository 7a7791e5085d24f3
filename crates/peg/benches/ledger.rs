//! Cost of a block on ledgers of different sizes, and of reading the ledger hash.
//!
//! `cargo bench -p alys-peg --bench ledger`. Criterion measures each on its own; the table at the
//! end measures all sizes in turns, in one run, and prints ratios, which do not depend on the load
//! of the machine. A change costs one path of the tree, whose length grows with the logarithm of
//! the number of entries: the hashes of such a path stand beside it.

use std::hint::black_box;
use std::time::Duration;

use alloy_primitives::U256;
use alys_bench_kit::{in_turns, us};
use alys_peg::{Additions, Ledger, Uncovered};
use alys_types::bls::SecretKey;
use alys_types::hash::{tagged, tags};
use alys_types::spec::ChainSpec;
use alys_types::{Address, Authority, AuxPowHeader, Genesis, Hash, Header, Height, Slot, codec};
use criterion::{BenchmarkId, Criterion};

const SIZES: [u64; 3] = [100, 10_000, 1_000_000];
/// Blocks of a range with proof of work: a minute of slots of 2 s.
const COVERED: u64 = 30;
const TURNS: usize = 300;

/// A ledger with a number of blocks, and the next one.
struct World {
    genesis: Genesis,
    entries: u64,
    ledger: Ledger,
    header: Header,
    proof: AuxPowHeader,
}

fn block_hash(height: u64) -> Hash {
    tagged("bench", &[&height.to_le_bytes()])
}

fn tips() -> Additions {
    Additions {
        tips: U256::from(1_000_000_000_u64),
    }
}

fn genesis() -> Genesis {
    let key = SecretKey::derive(&[1; 32]);
    let authority = Authority {
        public_key: key.public_key().to_bytes(),
        proof_of_possession: key.prove_possession(),
        fee_address: Address([1; 20]),
    };
    let spec = ChainSpec::development(1, Slot(1), 2_000, Hash([9; 32]), vec![authority]);
    Genesis::new(spec).expect("a good spec")
}

impl World {
    fn new(entries: u64) -> World {
        let genesis = genesis();
        let stored = (1..=entries).map(|height| {
            let block = Uncovered {
                hash: block_hash(height),
                execution_hash: block_hash(height),
                tips: tips().tips,
            };
            let key = [b"block/".as_slice(), &height.to_be_bytes()].concat();
            (key, codec::encode(&block))
        });
        let ledger = Ledger::from_entries(stored).expect("entries of blocks");
        let height = Height(entries + 1);
        let header = Header {
            height,
            slot: Slot(height.0 + 1),
            parent_hash: block_hash(entries),
            ledger_hash: ledger.root(),
            ..genesis.header().clone()
        };
        let proof = AuxPowHeader {
            range_start: block_hash(1),
            range_end: block_hash(COVERED),
            bits: genesis.spec().auxpow.anchor_bits,
            chain_id: genesis.spec().auxpow.chain_id,
            sequence: 1,
            auxpow: Vec::new(),
            miner: Address([2; 20]),
        };
        World {
            genesis,
            entries,
            ledger,
            header,
            proof,
        }
    }

    /// The effects of the next block, and the ledger hash after it.
    fn apply(&self, proof: Option<&AuxPowHeader>) {
        let set = self.genesis.set();
        let applied = self
            .ledger
            .apply(&self.genesis, set, &self.header, proof, &tips());
        let (ledger, changes) = applied.expect("applies");
        black_box((ledger.root(), changes));
    }

    fn root(&self) {
        black_box(black_box(&self.ledger).root());
    }

    /// The hashes of a change: of its leaf, and of the branches above it in a tree of this size.
    fn hashes(&self) {
        let levels = u64::BITS - self.entries.leading_zeros();
        black_box(tagged("bench", &[black_box(&[1; 96])]));
        for _ in 0..levels {
            black_box(tagged(tags::NODE, &[black_box(&[1; 32]), &[2; 32]]));
        }
    }
}

fn with_criterion(criterion: &mut Criterion, worlds: &[World]) {
    let mut group = criterion.benchmark_group("ledger");
    group.measurement_time(Duration::from_secs(2));
    for world in worlds {
        let id = |name| BenchmarkId::new(name, world.entries);
        group.bench_function(id("block"), |b| b.iter(|| world.apply(None)));
        group.bench_function(id("block with a proof"), |b| {
            b.iter(|| world.apply(Some(&world.proof)))
        });
        group.bench_function(id("root"), |b| b.iter(|| world.root()));
    }
    group.finish();
}

/// One row of each work: its time at each size, and in relation to the smallest.
fn table([small, middle, large]: &[World; 3]) {
    println!("\np50 of {TURNS} turns; a proof covers {COVERED} blocks");
    print!("{:<20}", "entries");
    for entries in SIZES {
        print!(" {entries:>12}");
    }
    println!(" {:>9} {:>9}", "x small", "x small");
    let row = |name: &str, [small, middle, large]: [Duration; 3]| {
        let ratio = |time| us(time) / us(small).max(f64::MIN_POSITIVE);
        println!(
            "{name:<20} {:>9.2} us {:>9.2} us {:>9.2} us {:>9.2} {:>9.2}",
            us(small),
            us(middle),
            us(large),
            ratio(middle),
            ratio(large)
        );
    };
    let of =
        |work: fn(&World)| in_turns(TURNS, [&|| work(small), &|| work(middle), &|| work(large)]);
    row("block", of(|world| world.apply(None)));
    row(
        "block with a proof",
        of(|world| world.apply(Some(&world.proof))),
    );
    row("hashes of a path", of(World::hashes));
    // A root takes less time than a look at the clock.
    row(
        "1,000 roots",
        of(|world| (0..1_000).for_each(|_| world.root())),
    );
}

fn main() {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let mut criterion = Criterion::default().configure_from_args();
    // `cargo test --benches` runs each function once, without figures.
    let worlds = SIZES.map(|entries| World::new(if is_measured { entries } else { 100 }));
    let shown = if is_measured {
        &worlds[..]
    } else {
        &worlds[..1]
    };
    with_criterion(&mut criterion, shown);
    criterion.final_summary();
    if is_measured {
        table(&worlds);
    }
}
