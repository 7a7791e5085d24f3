//! Cost of durable writes, for each engine beside `fdatasync` of the same bytes, and of point
//! reads.
//!
//! `cargo bench -p alys-storage`. Criterion measures each case on its own. Because a disk's speed
//! drifts within minutes, the table at the end interleaves all cases in one run and prints ratios.
//! The files are in the target directory, on the disk of the checkout, because a temporary
//! directory is often in memory.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use alys_bench_kit::{median, percentile, timed, us};
use alys_runtime::disk::Dir;
use alys_storage::{Batch, Durability, Engine, Store, Table, open};
use criterion::Criterion;
use tempfile::TempDir;

const TABLE: Table = Table("bench");
const PUTS: u64 = 10;
const VALUE_BYTES: usize = 2048;
const READ_KEYS: u64 = 20_000;
const READ_BYTES: usize = 200;
const ROUNDS: usize = 300;

fn temporary() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("directory")
}

fn opened(engine: Engine) -> (TempDir, Store) {
    let temporary = temporary();
    let store = open(engine, &Dir::open(temporary.path()).expect("directory")).expect("open");
    (temporary, store)
}

/// Evenly spread keys, like hashes.
fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn batch(first: u64) -> Batch {
    let mut batch = Batch::new();
    for number in first..first + PUTS {
        batch.put(TABLE, key(number), vec![number as u8; VALUE_BYTES]);
    }
    batch
}

/// Writes batches of fresh keys.
struct Writer {
    store: Store,
    next: u64,
}

impl Writer {
    fn write(&mut self, durability: Durability) {
        self.store
            .write(batch(self.next), durability)
            .expect("write");
        self.next += PUTS;
    }
}

/// Appends the same bytes to a file and syncs: the lower bound for any engine.
struct Raw {
    file: File,
    at: u64,
}

impl Raw {
    fn write(&mut self) {
        let bytes = vec![self.at as u8; PUTS as usize * (VALUE_BYTES + 8)];
        self.file.write_all_at(&bytes, self.at).expect("write");
        self.file.sync_data().expect("sync");
        self.at += bytes.len() as u64;
    }
}

fn raw() -> (TempDir, Raw) {
    let temporary = temporary();
    let file = File::create(temporary.path().join("raw")).expect("file");
    (temporary, Raw { file, at: 0 })
}

fn filled(engine: Engine) -> (TempDir, Store) {
    let (temporary, store) = opened(engine);
    for first in (0..READ_KEYS).step_by(1000) {
        let mut batch = Batch::new();
        for number in first..first + 1000 {
            batch.put(TABLE, key(number), vec![number as u8; READ_BYTES]);
        }
        store.write(batch, Durability::Deferred).expect("write");
    }
    store
        .write(Batch::new(), Durability::Durable)
        .expect("write");
    (temporary, store)
}

fn with_criterion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable batch of 10 x 2 KiB");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(4));
    let (_dir, mut raw) = raw();
    group.bench_function("write + fdatasync", |bencher| bencher.iter(|| raw.write()));
    for engine in Engine::ALL {
        let (_dir, store) = opened(engine);
        let mut writer = Writer { store, next: 0 };
        group.bench_function(engine.name(), |bencher| {
            bencher.iter(|| writer.write(Durability::Durable))
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("point read of 200 bytes");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(2));
    for engine in Engine::ALL {
        let (_dir, store) = filled(engine);
        let mut number = 0;
        group.bench_function(engine.name(), |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % READ_KEYS;
                black_box(
                    store
                        .get(TABLE, &key(number))
                        .expect("read")
                        .expect("present"),
                )
            })
        });
    }
    group.finish();
}

fn interleaved() {
    let (_raw_dir, mut raw) = raw();
    let (_redb_dir, store) = opened(Engine::Redb);
    let mut redb = Writer { store, next: 0 };
    let (_sled_dir, store) = opened(Engine::Sled);
    let mut sled = Writer { store, next: 0 };
    let (_deferred_dir, store) = opened(Engine::Redb);
    let mut deferred = Writer { store, next: 0 };
    let mut rows: Vec<(&str, Vec<Duration>)> = [
        "write + fdatasync",
        "redb",
        "sled + fdatasync",
        "redb, deferred",
    ]
    .map(|name| (name, Vec::new()))
    .into();
    for _ in 0..ROUNDS {
        rows[0].1.push(timed(|| raw.write()));
        rows[1].1.push(timed(|| redb.write(Durability::Durable)));
        rows[2].1.push(timed(|| sled.write(Durability::Durable)));
        rows[3]
            .1
            .push(timed(|| deferred.write(Durability::Deferred)));
    }
    println!("\n{ROUNDS} durable batches of {PUTS} x {VALUE_BYTES} bytes each, interleaved:");
    println!(
        "{:<20} {:>10} {:>10} {:>10} {:>8} {:>8}",
        "", "p50", "p99", "mean", "p50 x", "mean x"
    );
    let mut baseline = None;
    for (name, times) in rows {
        let (p50, p99) = (us(median(&times)), us(percentile(&times, 99)));
        let mean = us(times.iter().sum::<Duration>()) / times.len() as f64;
        let (base_p50, base_mean) = *baseline.get_or_insert((p50, mean));
        println!(
            "{name:<20} {p50:>7.0} us {p99:>7.0} us {mean:>7.0} us {:>8.2} {:>8.2}",
            p50 / base_p50,
            mean / base_mean
        );
    }
}

/// Prints the time to open a database after an orderly close and after its process was killed.
fn reopening() {
    const MEBIBYTES: u64 = 256;
    let (dir, store) = opened(Engine::Redb);
    for number in 0..MEBIBYTES * 8 {
        let mut batch = Batch::new();
        for part in 0..8 {
            batch.put(TABLE, key(number * 8 + part), vec![part as u8; 16 * 1024]);
        }
        let durability = if number % 64 == 0 {
            Durability::Durable
        } else {
            Durability::Deferred
        };
        store.write(batch, durability).expect("write");
    }
    store
        .write(Batch::new(), Durability::Durable)
        .expect("write");
    // The files of an open database are those that a killed process leaves.
    let killed = temporary();
    for name in ["store.redb", "ENGINE"] {
        std::fs::copy(dir.path().join(name), killed.path().join(name)).expect("copy");
    }
    drop(store);
    println!("\nopening redb with {MEBIBYTES} MiB of values:");
    for (name, dir) in [("orderly close", &dir), ("killed", &killed)] {
        let dir = Dir::open(dir.path()).expect("directory");
        let time = timed(|| drop(open(Engine::Redb, &dir).expect("open")));
        println!("{name:<20} {:>7.0} ms", time.as_secs_f64() * 1e3);
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    with_criterion(&mut criterion);
    criterion.final_summary();
    // `cargo test --benches` runs each function once and prints no figures.
    if std::env::args().any(|argument| argument == "--bench") {
        interleaved();
        reopening();
    }
}
