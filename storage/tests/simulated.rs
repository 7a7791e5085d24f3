//! Production's directory and engine on the runtime's simulated disk: power losses at random
//! operations, failed syncs, a full disk, and the same trace for the same seed.
#![cfg(madsim)]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::disk::Dir;
use alys_runtime::sim::{NodeId, Options, World, run, try_run};
use alys_runtime::time::sleep;
use alys_storage::{Batch, Durability, Engine, Error, Store, open};
use support::{Random, WriterLog, batch, counter, durability};

const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// The log of a node's process over all its incarnations.
#[derive(Debug)]
struct ProcessLog {
    writer: WriterLog,
    starts: u64,
    /// Failed writes, except those of a process that lost its power.
    failures: Vec<String>,
}

impl ProcessLog {
    fn new(seed: u64) -> SharedLog {
        Arc::new(Mutex::new(Self {
            writer: WriterLog::new(seed),
            starts: 0,
            failures: Vec::new(),
        }))
    }
}

type SharedLog = Arc<Mutex<ProcessLog>>;

fn open_store() -> Result<Store, Error> {
    let dir = Dir::open("/data/store").map_err(|error| Error::Io {
        operation: "open",
        reason: error.to_string(),
    })?;
    open(Engine::Redb, &dir)
}

/// Checks the contents of the store against the log, then writes batches until one fails.
async fn process(seed: u64, log: SharedLog) {
    let Ok(store) = open_store() else { return };
    let last = {
        let mut log = log.lock().expect("log");
        // The world fences a dead process, whose checks would prove nothing.
        if !World::current().is_here_alive() {
            return;
        }
        let context = format!("seed {seed}, start {}", log.starts);
        let last = log.writer.check(&*store, &context);
        // A node acts on the contents that it finds at a start, so they must not be lost later.
        log.writer.durable = last;
        log.starts += 1;
        last
    };
    let mut random = Random::new(seed ^ last.unwrap_or(0));
    for index in last.map_or(0, |last| last + 1).. {
        let durability = durability(&mut random);
        log.lock().expect("log").writer.attempted = Some(index);
        match store.write(batch(seed, index), durability) {
            Ok(()) if durability == Durability::Durable => {
                log.lock().expect("log").writer.durable = Some(index)
            }
            Ok(()) => {}
            Err(error) => {
                if World::current().is_here_alive() {
                    log.lock().expect("log").failures.push(error.to_string());
                }
                return;
            }
        }
        sleep(Duration::from_millis(1 + random.below(20))).await;
    }
}

fn start(world: &World, seed: u64) -> (NodeId, SharedLog) {
    let log = ProcessLog::new(seed);
    let shared = log.clone();
    let node = world.node("node", IP, move || process(seed, shared.clone()));
    (node, log)
}

/// Returns the number of starts that found a database, and the trace hash.
fn power_losses(seed: u64, losses: u64) -> (u64, [u8; 32]) {
    let finished = try_run(Options::new(seed), move |world| async move {
        let mut random = Random::new(seed);
        let (node, log) = start(&world, seed);
        for _ in 0..losses {
            // At a random operation, also one of opening and recovery, or at a random moment.
            if random.one_in(4) {
                sleep(Duration::from_millis(random.below(300))).await;
                world.power_off(node);
            } else {
                let most = if random.one_in(3) { 30 } else { 300 };
                world.power_off_at_operation(node, 1 + random.below(most));
                while world.is_up(node) {
                    sleep(Duration::from_millis(20)).await;
                }
            }
            // A kill in between loses no write.
            world.restart(node);
            if random.one_in(5) {
                sleep(Duration::from_millis(random.below(100))).await;
                world.kill(node);
                world.restart(node);
            }
        }
        sleep(Duration::from_millis(200)).await;
        world.power_off(node);
        world.restart(node);
        sleep(Duration::from_millis(200)).await;
        let log = log.lock().expect("log");
        assert!(log.failures.is_empty(), "{:?}", log.failures);
        assert!(log.writer.durable.is_some());
        log.starts
    });
    let counters = finished.counters;
    assert!(
        counters
            .get("disk.sectors_lost")
            .is_some_and(|lost| *lost > 0),
        "no sector was ever lost: {counters:?}"
    );
    assert!(
        counters
            .get("disk.unsynced_sectors_kept")
            .is_some_and(|kept| *kept > 0),
        "{counters:?}"
    );
    (finished.result.expect("the run"), finished.trace_hash)
}

#[test]
fn acknowledged_writes_survive_six_hundred_power_losses() {
    let starts: u64 = (0..12).map(|seed| power_losses(seed, 50).0).sum();
    assert!(starts > 400, "{starts} starts found a database");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| power_losses(seed, 8).1;
    println!("trace of seed 5: {:02x?}", hash(5));
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5), hash(6));
}

/// After a failed sync the kernel serves bytes that no later sync makes durable. Writes
/// acknowledged after reopening must survive nevertheless.
#[test]
fn writes_acknowledged_after_a_failed_sync_survive_a_power_loss() {
    for seed in 0..40 {
        run(Options::new(seed), move |world| async move {
            let (node, log) = start(&world, seed);
            let mut random = Random::new(seed);
            for _ in 0..4 {
                sleep(Duration::from_millis(100 + random.below(100))).await;
                world.fail_syncs(node, 1 + random.below(3) as u32);
                // The process ends at the failure, and its successors end when a sync of their
                // opening fails.
                sleep(Duration::from_millis(400)).await;
                for _ in 0..4 {
                    if !world.is_up(node) {
                        world.restart(node);
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                assert!(world.is_up(node));
                world.power_off(node);
                world.restart(node);
            }
            sleep(Duration::from_millis(100)).await;
            assert!(world.is_up(node));
            assert!(
                !log.lock().expect("log").failures.is_empty(),
                "no sync failed"
            );
        });
    }
}

/// A kill may leave an unacknowledged write. The next start reads it and acts on it, so it must
/// survive a power loss.
#[test]
fn contents_found_after_a_kill_survive_a_power_loss() {
    let mut beyond = 0;
    for seed in 0..60 {
        beyond += run(Options::new(seed), move |world| async move {
            let log = ProcessLog::new(seed);
            let shared = log.clone();
            // The first incarnation writes, the later ones only read.
            let node = world.node("node", IP, move || {
                let log = shared.clone();
                async move {
                    if log.lock().expect("log").starts == 0 {
                        process(seed, log).await;
                    } else if let Ok(store) = open_store() {
                        let mut log = log.lock().expect("log");
                        let last = counter(&*store);
                        let durable = log.writer.durable;
                        assert!(last >= durable, "{durable:?} was stored, now {last:?}");
                        log.writer.durable = last;
                        log.starts += 1;
                    }
                }
            });
            let mut random = Random::new(seed);
            sleep(Duration::from_millis(100)).await;
            // The process dies at a failed sync, which leaves an unacknowledged write in the page
            // cache.
            let acknowledged = log.lock().expect("log").writer.durable;
            let fails = random.one_in(2);
            if fails {
                world.fail_syncs(node, 1);
            }
            sleep(Duration::from_millis(random.below(200))).await;
            world.kill(node);
            for _ in 0..3 {
                world.restart(node);
                sleep(Duration::from_millis(50)).await;
                world.power_off(node);
            }
            let log = log.lock().expect("log");
            assert!(log.starts > 2, "{log:?}");
            u64::from(log.writer.durable > acknowledged)
        });
    }
    assert!(beyond > 0);
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    for seed in 0..10 {
        run(Options::new(seed), move |world| async move {
            let (node, log) = start(&world, seed);
            sleep(Duration::from_millis(100)).await;
            world.set_free_space(node, Some(10_000));
            while world.is_up(node) {
                sleep(Duration::from_millis(50)).await;
            }
            world.set_free_space(node, None);
            world.restart(node);
            sleep(Duration::from_millis(100)).await;
            assert!(world.is_up(node), "the store opens once there is space");
            assert_eq!(log.lock().expect("log").failures.len(), 1);
        });
    }
}

#[test]
fn sled_refuses_to_run_in_the_simulator() {
    run(Options::new(1), |world| async move {
        let node = world.node("node", IP, || async { std::future::pending().await });
        let opened = world.spawn_on(node, "open", async {
            let dir = Dir::open("/data/store").expect("directory");
            let error = open(Engine::Sled, &dir).map(drop).expect_err("sled");
            assert!(
                matches!(error, Error::NotInSimulation { engine: "sled" }),
                "{error}"
            );
            // sled left the directory untouched, so redb can use it.
            let store = open(Engine::Redb, &dir).expect("redb");
            store
                .write(Batch::new(), Durability::Durable)
                .expect("write");
            assert!(matches!(
                open(Engine::Redb, &dir).map(drop),
                Err(Error::InUse { .. })
            ));
        });
        opened.await.expect("task");
    });
}
