//! One suite for every backend, compared with the model in memory, and the errors for directories
//! that cannot be used.
//!
//! Runs in both worlds. Only redb on the tests' own disk runs in the simulated one.

mod support;

use std::sync::Arc;

#[cfg(not(madsim))]
use alys_runtime::disk::Dir;
use alys_storage::redb::{Existing, RedbOptions, RedbStore};
use alys_storage::{Batch, Direction, Durability, Error, KeyValue, MemoryStore, Store, Table};
#[cfg(not(madsim))]
use alys_storage::{Engine, open as open_once};
use proptest::prelude::*;
use support::{PowerDisk, PowerFile, TABLES};

/// A backend under test, which can be reopened.
trait Subject {
    fn open(&self) -> Store;
}

/// redb on the disk of the test kit.
struct OnPowerDisk(PowerDisk);

impl Subject for OnPowerDisk {
    fn open(&self) -> Store {
        let file: PowerFile = self.0.file();
        let store = RedbStore::open(
            file,
            "disk",
            RedbOptions {
                cache_bytes: 1 << 20,
            },
            Existing::Optional,
        );
        Arc::new(store.expect("open"))
    }
}

/// An engine in a directory of the runtime.
#[cfg(not(madsim))]
struct InDir {
    engine: Engine,
    dir: Dir,
}

#[cfg(not(madsim))]
impl Subject for InDir {
    fn open(&self) -> Store {
        on_files::open(self.engine, &self.dir).expect("open")
    }
}

/// An operation of the suite.
#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(usize, Vec<u8>, Option<Vec<u8>>)>, bool),
    Get(usize, Vec<u8>),
    Range(usize, Vec<u8>, Vec<u8>, bool, usize),
    /// Closes in an orderly way and reopens, which loses nothing, not even deferred writes.
    Reopen,
}

/// Few distinct keys, with shared prefixes, the empty key and extreme bytes.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(vec![0xff; 3]),
        Just(vec![0]),
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x7f, 0xff]), 1..4),
    ]
}

/// Mostly short, sometimes longer than a chunk of the sled backend.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (0..70_000usize, any::<u8>()).prop_map(|(length, fill)| vec![fill; length]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let change = (
        0..TABLES.len(),
        key(),
        prop::option::weighted(0.75, value()),
    );
    prop_oneof![
        5 => (prop::collection::vec(change, 0..10), any::<bool>())
            .prop_map(|(c, d)| Step::Write(c, d)),
        2 => (0..TABLES.len(), key()).prop_map(|(t, k)| Step::Get(t, k)),
        4 => (
            0..TABLES.len(),
            key(),
            key(),
            any::<bool>(),
            prop_oneof![0..4usize, Just(usize::MAX)],
        )
            .prop_map(|(t, a, b, f, l)| Step::Range(t, a, b, f, l)),
        1 => Just(Step::Reopen),
    ]
}

fn check(subject: &dyn Subject, steps: &[Step]) {
    let model = MemoryStore::new();
    let mut store = Some(subject.open());
    for (number, step) in steps.iter().enumerate() {
        let current = store.as_ref().expect("open");
        match step {
            Step::Write(changes, durable) => {
                let mut batch = Batch::new();
                for (table, key, value) in changes {
                    match value {
                        Some(value) => batch.put(TABLES[*table], key.clone(), value.clone()),
                        None => batch.delete(TABLES[*table], key.clone()),
                    };
                }
                let durability = if *durable {
                    Durability::Durable
                } else {
                    Durability::Deferred
                };
                model.write(batch.clone(), durability).expect("model");
                current.write(batch, durability).expect("write");
            }
            Step::Get(table, key) => {
                let wanted = model.get(TABLES[*table], key).expect("model");
                let found = current.get(TABLES[*table], key).expect("get");
                assert!(found == wanted, "step {number}: {step:?}");
            }
            Step::Range(table, start, end, forward, limit) => {
                let direction = if *forward {
                    Direction::Forward
                } else {
                    Direction::Backward
                };
                let wanted = model
                    .range(TABLES[*table], start, end, direction, *limit)
                    .expect("model");
                let found = current
                    .range(TABLES[*table], start, end, direction, *limit)
                    .expect("range");
                assert!(found == wanted, "step {number}: {step:?}");
            }
            Step::Reopen => {
                drop(store.take());
                store = Some(subject.open());
            }
        }
    }
    let found = support::contents(&**store.as_ref().expect("open"));
    support::assert_same(&found, &support::contents(&model), "at the end");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn redb_behaves_like_the_model(steps in steps(), seed in any::<u64>()) {
        check(&OnPowerDisk(PowerDisk::new(seed)), &steps);
    }
}

#[cfg(not(madsim))]
mod on_files {
    use std::time::{Duration, Instant};

    use super::*;

    /// Retries while the directory is in use: a child process that another test forks holds copies
    /// of all open files, with their locks, until it executes its own program.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for another process, in real time"
    )]
    pub fn open(engine: Engine, dir: &Dir) -> Result<Store, Error> {
        let since = Instant::now();
        loop {
            match open_once(engine, dir) {
                Err(Error::InUse { .. }) if since.elapsed() < Duration::from_secs(10) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    fn temporary() -> (tempfile::TempDir, Dir) {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = Dir::open(temporary.path().join("data")).expect("directory");
        (temporary, dir)
    }

    proptest! {
        #![proptest_config(config(24))]

        #[test]
        fn redb_on_files_behaves_like_the_model(steps in steps()) {
            let (_temporary, dir) = temporary();
            check(&InDir { engine: Engine::Redb, dir }, &steps);
        }

        #[test]
        fn sled_behaves_like_the_model(steps in steps()) {
            let (_temporary, dir) = temporary();
            check(&InDir { engine: Engine::Sled, dir }, &steps);
        }
    }

    #[test]
    fn sled_makes_no_blob_files() {
        let (temporary, dir) = temporary();
        let store = open(Engine::Sled, &dir).expect("open");
        // Leaves full of the longest chunks, rewritten many times, and a value of the maximum
        // length.
        for round in 0..30u8 {
            let mut batch = Batch::new();
            for key in 0..64u8 {
                batch.put(
                    TABLES[0],
                    vec![key],
                    vec![round; 16 * 1024 + usize::from(key)],
                );
            }
            store.write(batch, Durability::Durable).expect("write");
        }
        let mut batch = Batch::new();
        batch.put(
            TABLES[1],
            b"large",
            vec![7; alys_storage::kv::MAX_VALUE_BYTES],
        );
        store.write(batch, Durability::Durable).expect("write");
        assert_eq!(
            store.get(TABLES[0], &[63]).expect("get").map(|v| v.len()),
            Some(16 * 1024 + 63)
        );
        drop(store);
        let store = open(Engine::Sled, &dir).expect("open");
        let large = store.get(TABLES[1], b"large").expect("get").expect("large");
        assert!(large == vec![7; alys_storage::kv::MAX_VALUE_BYTES]);
        let blobs = std::fs::read_dir(temporary.path().join("data/sled/blobs"))
            .expect("blobs")
            .count();
        assert_eq!(blobs, 0);
    }

    #[test]
    fn a_directory_in_use_is_refused_until_it_is_free() {
        for engine in Engine::ALL {
            let (temporary, dir) = temporary();
            let store = open(engine, &dir).expect("open");
            let Err(Error::InUse { path }) = open_once(engine, &dir).map(drop) else {
                panic!("{engine}: a second open succeeded")
            };
            assert_eq!(path, temporary.path().join("data").display().to_string());
            drop(store);
            open(engine, &dir).expect("free again");
        }
    }

    #[test]
    fn a_directory_of_the_other_engine_is_refused_with_advice() {
        for (first, second) in [(Engine::Redb, Engine::Sled), (Engine::Sled, Engine::Redb)] {
            for marker_lost in [false, true] {
                let (temporary, dir) = temporary();
                drop(open(first, &dir).expect("open"));
                if marker_lost {
                    std::fs::remove_file(temporary.path().join("data/ENGINE")).expect("remove");
                }
                let error = open(second, &dir)
                    .map(drop)
                    .expect_err("the other engine's directory");
                assert!(matches!(&error, Error::WrongEngine { found, asked, .. }
                    if *found == first.name() && *asked == second.name()));
                assert!(
                    error
                        .to_string()
                        .contains(&format!("set the storage engine to {first}")),
                    "{error}"
                );
                drop(open(first, &dir).expect("its own engine still opens it"));
            }
        }
    }

    #[test]
    fn a_lost_database_is_an_error_and_not_a_new_one() {
        for (engine, file) in [
            (Engine::Redb, "data/store.redb"),
            (Engine::Sled, "data/sled/db"),
        ] {
            for remove in [true, false] {
                let (temporary, dir) = temporary();
                drop(open(engine, &dir).expect("open"));
                let path = temporary.path().join(file);
                if remove {
                    std::fs::remove_file(&path).expect("remove");
                } else {
                    std::fs::write(&path, b"").expect("empty");
                }
                let error = open(engine, &dir).map(drop).expect_err("lost contents");
                assert!(
                    matches!(&error, Error::Corrupt { reason } if reason.contains("data/s")),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn files_that_are_not_a_database_are_named_in_the_error() {
        for (engine, file) in [
            (Engine::Redb, "data/store.redb"),
            (Engine::Sled, "data/sled/db"),
        ] {
            let (temporary, dir) = temporary();
            drop(open(engine, &dir).expect("open"));
            let garbage: Vec<u8> = (0..200_000u32)
                .map(|at| (at * 7 + at / 251) as u8)
                .collect();
            std::fs::write(temporary.path().join(file), garbage).expect("garbage");
            let error = open(engine, &dir).map(drop).expect_err("garbage");
            assert!(
                matches!(&error, Error::Corrupt { reason } if reason.contains("data/s")),
                "{error}"
            );
        }
        let (temporary, dir) = temporary();
        drop(open(Engine::Redb, &dir).expect("open"));
        std::fs::write(temporary.path().join("data/ENGINE"), b"rocksdb\n").expect("marker");
        let error = open(Engine::Redb, &dir)
            .map(drop)
            .expect_err("unknown engine");
        assert!(
            matches!(&error, Error::Corrupt { reason } if reason.contains("data/ENGINE")),
            "{error}"
        );
    }

    const CHILD: &str = "ALYS_TEST_READ_ONLY_DIR";

    /// The child process of the test below, run as a user without write permission. Passes at once
    /// on its own.
    #[test]
    fn child_opens_read_only_directory() {
        let Ok(path) = std::env::var(CHILD) else {
            return;
        };
        for engine in Engine::ALL {
            let dir = Dir::open(format!("{path}/{engine}")).expect("directory");
            let error = open(engine, &dir)
                .map(drop)
                .expect_err("a read-only directory");
            assert!(matches!(&error, Error::ReadOnly { .. }), "{error:?}");
            assert!(
                error.to_string().contains(&path) && error.to_string().contains("make it writable"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_read_only_directory_is_refused_with_advice() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        use std::os::unix::process::CommandExt;
        let temporary = tempfile::tempdir().expect("temporary directory");
        let root = temporary.path();
        let allow = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .expect("permissions");
        };
        for engine in Engine::ALL {
            let path = root.join(engine.name());
            // One directory was in use before, the other one is new.
            let dir = Dir::open(&path).expect("directory");
            if engine == Engine::Redb {
                drop(open(engine, &dir).expect("open"));
                for name in ["LOCK", "ENGINE", "store.redb"] {
                    allow(&path.join(name), 0o444);
                }
            }
            allow(&path, 0o555);
        }
        allow(root, 0o755);
        // The superuser may write everywhere, so the child runs as the user nobody, who may not
        // enter the build directory.
        let binary = root.join("test-binary");
        std::fs::copy(std::env::current_exe().expect("own path"), &binary).expect("copy");
        let mut child = std::process::Command::new(&binary);
        child
            .args([
                "--exact",
                "on_files::child_opens_read_only_directory",
                "--nocapture",
            ])
            .env(CHILD, root);
        if std::fs::metadata("/proc/self").expect("proc").uid() == 0 {
            child.uid(65534).gid(65534).current_dir(root);
        }
        let output = child.output().expect("child");
        for engine in Engine::ALL {
            allow(&root.join(engine.name()), 0o755);
        }
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }

    /// A flipped bit in a cleanly closed file yields an error or the right value, never a panic or
    /// another value.
    #[test]
    fn flipped_bits_are_errors_or_harmless() {
        let (temporary, dir) = temporary();
        let store = open(Engine::Redb, &dir).expect("open");
        for index in 0..60 {
            store
                .write(support::batch(3, index), Durability::Durable)
                .expect("write");
        }
        drop(store);
        let intact = std::fs::read(temporary.path().join("data/store.redb")).expect("read");
        let model = support::model_at(3, Some(59));
        let mut random = support::Random::new(9);
        let mut refused = 0;
        let mut detected = 0;
        let mut missing = 0;
        let mut harmless = 0;
        for round in support::seeds(500) {
            let at = if round < 320 {
                round as usize
            } else {
                random.below(intact.len() as u64) as usize
            };
            let mut bytes = intact.clone();
            bytes[at] ^= 1 << random.below(8);
            let file = PowerDisk::with_contents(1, bytes).file();
            let opened = RedbStore::open(
                file,
                "flipped.redb",
                RedbOptions::default(),
                Existing::Required,
            );
            let store = match opened {
                Ok(store) => store,
                Err(Error::Corrupt { reason }) => {
                    assert!(reason.contains("flipped.redb"), "{reason}");
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("byte {at}: {error}"),
            };
            let mut outcome = &mut harmless;
            for ((table, key), value) in &model {
                match store.get(*table, key) {
                    Ok(Some(found)) => {
                        assert!(found == *value, "byte {at}: another value at {key:?}")
                    }
                    Ok(None) => outcome = &mut missing,
                    Err(Error::Corrupt { .. } | Error::Poisoned { .. } | Error::Io { .. }) => {
                        outcome = &mut detected;
                        break;
                    }
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
            *outcome += 1;
        }
        println!(
            "refused {refused}, detected {detected}, entries missing {missing}, harmless {harmless}"
        );
        assert!(refused > 0 && detected > 0 && harmless > 0);
    }
}

#[test]
fn a_batch_over_a_limit_is_refused_and_the_handle_stays_usable() {
    let store = OnPowerDisk(PowerDisk::new(1)).open();
    let table = Table("limits");
    let refused = |batch: Batch, wanted: &str| {
        match store.write(batch, Durability::Durable) {
            Err(Error::TooLarge { what, .. }) => assert_eq!(what, wanted),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.get(table, b"first").expect("get"), None);
    };
    let first = || {
        let mut batch = Batch::new();
        batch.put(table, b"first", b"1");
        batch
    };
    let mut long_key = first();
    long_key.put(table, vec![0; 1025], b"");
    refused(long_key, "key");
    let mut long_value = first();
    long_value.put(table, b"k", vec![0; alys_storage::kv::MAX_VALUE_BYTES + 1]);
    refused(long_value, "value");
    store.write(first(), Durability::Durable).expect("usable");
    assert_eq!(
        store.get(table, b"first").expect("get").as_deref(),
        Some(&b"1"[..])
    );
}

#[test]
fn a_handle_refuses_every_operation_after_a_failed_write() {
    let disk = PowerDisk::new(5);
    let store = OnPowerDisk(disk.clone()).open();
    store
        .write(support::batch(1, 0), Durability::Durable)
        .expect("write");
    disk.cut_after(0);
    let failed = store.write(support::batch(1, 1), Durability::Durable);
    assert!(
        matches!(
            failed,
            Err(Error::Io {
                operation: "write",
                ..
            })
        ),
        "{failed:?}"
    );
    assert!(matches!(
        store.get(support::META, support::COUNTER),
        Err(Error::Poisoned { .. })
    ));
    assert!(matches!(
        store.write(Batch::new(), Durability::Durable),
        Err(Error::Poisoned { .. })
    ));
    drop(store);
    disk.power_cycle();
    let store = OnPowerDisk(disk).open();
    let last = support::counter(&*store);
    assert!(last == Some(0) || last == Some(1), "{last:?}");
}
