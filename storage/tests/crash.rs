//! Crash tests: processes killed while they write to real files, and disks that lose power.
#![cfg_attr(
    not(madsim),
    expect(
        clippy::disallowed_methods,
        reason = "processes are killed in real time"
    )
)]

mod support;

use std::collections::BTreeMap;

use alys_storage::redb::{Existing, RedbOptions, RedbStore};
use alys_storage::{Batch, Durability, Error, KeyValue};
use support::{PowerDisk, Random, WriterLog, batch, counter, durability, seeds};

/// Takes one disk through many power losses, during creation, opening, recovery and writing of a
/// database. Returns how often a batch that was never acknowledged survived, which is allowed.
fn lose_power(seed: u64, losses: u64) -> u64 {
    let mut random = Random::new(seed);
    let disk = PowerDisk::new(random.next());
    let mut log = WriterLog::new(seed);
    let mut opened_once = false;
    let mut survivors = 0;
    while disk.losses() < losses {
        let context = format!("seed {seed}, after {} power losses", disk.losses());
        // Usually allows some batches; sometimes cuts the power while the database is opened or
        // created.
        disk.cut_after(if random.one_in(4) {
            random.below(25)
        } else {
            20 + random.below(400)
        });
        let existing = if opened_once {
            Existing::Required
        } else {
            Existing::Optional
        };
        let options = RedbOptions {
            cache_bytes: 256 * 1024,
        };
        let store = match RedbStore::open(disk.file(), "disk", options, existing) {
            Ok(store) => store,
            Err(error) => {
                assert!(
                    !disk.is_powered(),
                    "{context}: cannot be opened with the power on: {error}"
                );
                disk.power_cycle();
                continue;
            }
        };
        opened_once = true;
        if disk.is_powered() {
            // The comparison reads the whole database, so the power stays on until it is done.
            disk.cut_after(u64::MAX);
            let last = log.check(&store, &context);
            survivors += u64::from(last > log.durable);
            disk.cut_after(random.below(400));
            let mut index = last.map_or(0, |last| last + 1);
            // Contents found after a crash are durable, because they were read from the disk.
            log.durable = last;
            log.attempted = last;
            loop {
                let durability = durability(&mut random);
                log.attempted = Some(index);
                match store.write(batch(seed, index), durability) {
                    Ok(()) if durability == Durability::Durable => log.durable = Some(index),
                    Ok(()) => {}
                    Err(Error::Io { .. }) => break,
                    Err(error) => panic!("{context}: {error}"),
                }
                index += 1;
            }
        }
        // Destructors also run after the power is cut, and must not change the disk.
        if random.one_in(2) {
            drop(store);
            disk.power_cycle();
        } else {
            disk.power_cycle();
            drop(store);
        }
    }
    let context = format!("seed {seed}, at the end");
    let store = RedbStore::open(
        disk.file(),
        "disk",
        RedbOptions::default(),
        Existing::Required,
    )
    .expect("open");
    log.check(&store, &context);
    survivors
}

#[test]
fn acknowledged_writes_survive_power_losses() {
    let survivors: BTreeMap<u64, u64> =
        seeds(20).map(|seed| (seed, lose_power(seed, 50))).collect();
    assert!(
        survivors.values().any(|count| *count > 0),
        "the disk never keeps unsynced writes: {survivors:?}"
    );
}

/// Without syncs the disk must lose acknowledged writes; otherwise the tests above would prove
/// nothing.
#[test]
fn a_medium_that_ignores_syncs_loses_acknowledged_writes() {
    struct IgnoresSyncs(support::PowerFile);
    impl alys_storage::redb::Medium for IgnoresSyncs {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read_at(offset, out)
        }
        fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write_at(offset, data)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync(&self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lost = (0..20).filter(|seed| {
        let disk = PowerDisk::new(*seed);
        let open =
            |medium| RedbStore::open(medium, "disk", RedbOptions::default(), Existing::Optional);
        let store = open(IgnoresSyncs(disk.file())).expect("open");
        for index in 0..5 {
            store
                .write(batch(*seed, index), Durability::Durable)
                .expect("write");
        }
        disk.power_cycle();
        drop(store);
        match open(IgnoresSyncs(disk.file())) {
            Ok(store) => {
                store
                    .get(support::META, support::COUNTER)
                    .map_or(true, |last| last.is_none())
                    || counter(&store) < Some(4)
            }
            Err(_) => true,
        }
    });
    assert!(lost.count() > 10);
}

/// A deferred write becomes durable with the next durable one, even an empty one.
#[test]
fn an_empty_durable_write_makes_deferred_writes_durable() {
    for seed in 0..20 {
        let disk = PowerDisk::new(seed);
        let open = || {
            RedbStore::open(
                disk.file(),
                "disk",
                RedbOptions::default(),
                Existing::Optional,
            )
            .expect("open")
        };
        let store = open();
        for index in 0..4 {
            store
                .write(batch(seed, index), Durability::Deferred)
                .expect("write");
        }
        store
            .write(Batch::new(), Durability::Durable)
            .expect("write");
        disk.power_cycle();
        drop(store);
        assert_eq!(counter(&open()), Some(3));
    }
}

#[cfg(not(madsim))]
mod killed {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use alys_runtime::disk::Dir;
    use alys_storage::{Engine, open};

    use super::*;

    const DIR: &str = "ALYS_TEST_CRASH_DIR";
    const ENGINE: &str = "ALYS_TEST_CRASH_ENGINE";
    const SEED: &str = "ALYS_TEST_CRASH_SEED";

    /// The child process of the tests below: continues the workload of the store and reports each
    /// durable write that returned, until it is killed. Passes at once on its own.
    #[test]
    fn child_writes_until_it_is_killed() {
        let Ok(path) = std::env::var(DIR) else { return };
        let engine: Engine = std::env::var(ENGINE)
            .expect("engine")
            .parse()
            .expect("engine");
        let seed: u64 = std::env::var(SEED).expect("seed").parse().expect("seed");
        let store = open(engine, &Dir::open(path).expect("directory")).expect("open");
        let first = counter(&*store).map_or(0, |last| last + 1);
        let mut random = Random::new(seed ^ first);
        let mut out = std::io::stderr();
        for index in first.. {
            let durability = durability(&mut random);
            store.write(batch(seed, index), durability).expect("write");
            if durability == Durability::Durable {
                out.write_all(&index.to_be_bytes()).expect("report");
            }
        }
    }

    fn kill_repeatedly(engine: Engine) {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let path = temporary.path().join("data");
        let seed = 77;
        let mut random = Random::new(engine as u64 + 1);
        let mut log = WriterLog::new(seed);
        log.attempted = Some(u64::MAX);
        for round in seeds(10) {
            let mut child = Command::new(std::env::current_exe().expect("own path"))
                .args([
                    "--exact",
                    "killed::child_writes_until_it_is_killed",
                    "--nocapture",
                ])
                .env(DIR, &path)
                .env(ENGINE, engine.name())
                .env(SEED, seed.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("child");
            let mut pipe = child.stderr.take().expect("piped");
            let mut reports = Vec::new();
            if random.one_in(5) {
                // Kills it while it may still be opening the store.
                std::thread::sleep(Duration::from_millis(random.below(60)));
            } else {
                // Kills it during a write, after some that were reported.
                reports = vec![0; 8 * (1 + random.below(40) as usize)];
                pipe.read_exact(&mut reports).expect("the child writes");
                std::thread::sleep(Duration::from_micros(random.below(3000)));
            }
            child.kill().expect("SIGKILL");
            pipe.read_to_end(&mut reports).expect("reports");
            child.wait().expect("wait");
            assert!(
                reports.len() % 8 == 0,
                "the child printed: {}",
                String::from_utf8_lossy(&reports)
            );
            if let Some(report) = reports.chunks(8).next_back() {
                log.durable = Some(u64::from_be_bytes(report.try_into().expect("eight bytes")));
            }
            let store =
                open(engine, &Dir::open(&path).expect("directory")).expect("open after a kill");
            log.durable = log.check(&*store, &format!("{engine}, round {round}"));
        }
    }

    #[test]
    fn redb_keeps_acknowledged_writes_when_its_process_is_killed() {
        kill_repeatedly(Engine::Redb);
    }

    #[test]
    fn sled_keeps_acknowledged_writes_when_its_process_is_killed() {
        kill_repeatedly(Engine::Sled);
    }
}
