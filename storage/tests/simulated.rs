//! The directory and engine of production on the simulated disk of the runtime: power losses at random operations,
//! syncs that fail, a full disk, and the same trace for the same seed.
#![cfg(madsim)]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::disk::Dir;
use alys_runtime::sim::{NodeId, Options, World, run, try_run};
use alys_runtime::time::sleep;
use alys_storage::{Batch, Durability, Engine, Error, Store, open};
use support::{History, Random, assert_same, batch, contents, counter};

const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// What a node's process told the world, and what it found at its starts.
#[derive(Debug)]
struct Told {
    history: History,
    durable: Option<u64>,
    tried: Option<u64>,
    starts: u64,
    /// How a write failed, but for the power.
    failures: Vec<String>,
}

type Shared = Arc<Mutex<Told>>;

fn open_store() -> Result<Store, Error> {
    let dir = Dir::open("/data/store").map_err(|error| Error::Io {
        operation: "open",
        reason: error.to_string(),
    })?;
    open(Engine::Redb, &dir)
}

/// Checks what is there against what was told, and goes on writing until something fails.
async fn process(seed: u64, told: Shared) {
    let Ok(store) = open_store() else { return };
    let last = {
        let mut told = told.lock().expect("told");
        // The world fences a dead process, whose checks would not mean anything.
        if !World::current().is_here_alive() {
            return;
        }
        let last = counter(&*store);
        assert!(
            last >= told.durable,
            "{:?} was durable, {last:?} is there",
            told.durable
        );
        assert!(
            last <= told.tried,
            "{:?} was tried, {last:?} is there",
            told.tried
        );
        let context = format!("seed {seed}, start {}", told.starts);
        assert_same(&contents(&*store), told.history.advance(last), &context);
        // Whoever reads acts on it, so what a start finds must not be lost later.
        told.durable = last;
        told.starts += 1;
        last
    };
    let mut random = Random::new(seed ^ last.unwrap_or(0));
    for index in last.map_or(0, |last| last + 1).. {
        let durability = if random.one_in(3) {
            Durability::Durable
        } else {
            Durability::Deferred
        };
        told.lock().expect("told").tried = Some(index);
        match store.write(batch(seed, index), durability) {
            Ok(()) if durability == Durability::Durable => {
                told.lock().expect("told").durable = Some(index)
            }
            Ok(()) => {}
            Err(error) => {
                if World::current().is_here_alive() {
                    told.lock().expect("told").failures.push(error.to_string());
                }
                return;
            }
        }
        sleep(Duration::from_millis(1 + random.below(20))).await;
    }
}

fn start(world: &World, seed: u64) -> (NodeId, Shared) {
    let told = Told {
        history: History::new(seed),
        durable: None,
        tried: None,
        starts: 0,
        failures: Vec::new(),
    };
    let told = Shared::new(Mutex::new(told));
    let shared = told.clone();
    (
        world.node("node", IP, move || process(seed, shared.clone())),
        told,
    )
}

/// Returns starts that found a database, and events.
fn power_losses(seed: u64, losses: u64) -> (u64, [u8; 32]) {
    let finished = try_run(Options::new(seed), move |world| async move {
        let mut random = Random::new(seed);
        let (node, told) = start(&world, seed);
        for _ in 0..losses {
            // At a random operation (also of opening and recovery), or from outside.
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
            // A kill in between loses nothing that was written.
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
        let told = told.lock().expect("told");
        assert!(told.failures.is_empty(), "{:?}", told.failures);
        assert!(told.durable.is_some());
        told.starts
    });
    let counters = finished.counters;
    assert!(
        counters
            .get("disk.sectors_lost")
            .is_some_and(|lost| *lost > 0),
        "nothing was ever lost: {counters:?}"
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

/// After a failed sync the system shows bytes that no later sync makes durable. What is acknowledged after reopening must
/// survive all the same.
#[test]
fn writes_acknowledged_after_a_failed_sync_survive_a_power_loss() {
    for seed in 0..40 {
        run(Options::new(seed), move |world| async move {
            let (node, told) = start(&world, seed);
            let mut random = Random::new(seed);
            for _ in 0..4 {
                sleep(Duration::from_millis(100 + random.below(100))).await;
                world.fail_syncs(node, 1 + random.below(3) as u32);
                // The process ends at the failure, and so does each that meets another one when it opens.
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
                !told.lock().expect("told").failures.is_empty(),
                "no sync failed"
            );
        });
    }
}

/// A kill may leave a write that nobody acknowledged. A start that reads it acts on it, so it must survive what comes next.
#[test]
fn what_a_start_after_a_kill_finds_survives_a_power_loss() {
    let mut beyond = 0;
    for seed in 0..60 {
        beyond += run(Options::new(seed), move |world| async move {
            let told = Told {
                history: History::new(seed),
                durable: None,
                tried: None,
                starts: 0,
                failures: vec![],
            };
            let told = Shared::new(Mutex::new(told));
            let shared = told.clone();
            // The first life writes, the later ones look only.
            let node = world.node("node", IP, move || {
                let told = shared.clone();
                async move {
                    if told.lock().expect("told").starts == 0 {
                        process(seed, told).await;
                    } else if let Ok(store) = open_store() {
                        let mut told = told.lock().expect("told");
                        let last = counter(&*store);
                        assert!(
                            last >= told.durable,
                            "{:?} was there, now {last:?}",
                            told.durable
                        );
                        told.durable = last;
                        told.starts += 1;
                    }
                }
            });
            let mut random = Random::new(seed);
            sleep(Duration::from_millis(100)).await;
            // The process dies with a sync that fails, which leaves an unacknowledged write in the system's memory.
            let acknowledged = told.lock().expect("told").durable;
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
            let told = told.lock().expect("told");
            assert!(told.starts > 2, "{told:?}");
            u64::from(told.durable > acknowledged)
        });
    }
    assert!(beyond > 0);
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    for seed in 0..10 {
        run(Options::new(seed), move |world| async move {
            let (node, told) = start(&world, seed);
            sleep(Duration::from_millis(100)).await;
            world.set_free_space(node, Some(10_000));
            while world.is_up(node) {
                sleep(Duration::from_millis(50)).await;
            }
            world.set_free_space(node, None);
            world.restart(node);
            sleep(Duration::from_millis(100)).await;
            assert!(world.is_up(node), "room again, and the store opens");
            assert_eq!(told.lock().expect("told").failures.len(), 1);
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
            // Nothing was made, so redb can have the directory.
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
