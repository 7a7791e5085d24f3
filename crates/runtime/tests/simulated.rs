//! What only the simulated half can show: faults, and that the seed decides everything.
#![cfg(madsim)]
// Long, because it is the list of what the simulated half promises, one test each, over a few shared helpers.

use std::future::{Future, pending};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::disk::Dir;
use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::{Listener, Stream};
use alys_runtime::sim::{self, Block, Link, NodeId, Options, Slowness, USER_TIMEOUT, World};
use alys_runtime::sync::oneshot;
use alys_runtime::{clock, disk, rand, signal, spawn, time};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 7000;

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// Runs a world with two idle machines.
fn two<T, F>(seed: u64, drive: impl FnOnce(World, NodeId, NodeId) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    sim::run(Options::new(seed), move |world| {
        let a = world.node("a", ip(1), pending);
        let b = world.node("b", ip(2), pending);
        drive(world, a, b)
    })
}

/// Connects `a` to `b`; returns the two ends, which belong to their nodes.
async fn connect(world: World, a: NodeId, b: NodeId) -> (Stream, Stream) {
    let addr = SocketAddr::new(world.ip(b), PORT);
    let (listening, is_listening) = oneshot::channel();
    let taking = world.spawn_on(b, "take", async move {
        let listener = Listener::bind(addr).await.expect("a free port");
        let _ = listening.send(());
        listener.accept().await.expect("a connection").0
    });
    is_listening.await.expect("it listens");
    let near = world
        .spawn_on(a, "connect", Stream::connect(addr))
        .await
        .expect("it ends")
        .expect("connected");
    (near, taking.await.expect("taken"))
}

#[test]
fn a_killed_process_loses_no_written_file_and_its_destructors_change_nothing() {
    struct WritesOnDrop(disk::File);
    impl Drop for WritesOnDrop {
        fn drop(&mut self) {
            assert!(
                self.0.write_at(0, b"ghost").is_err(),
                "a dead process cannot write"
            );
            assert!(Dir::open("/ghost").is_err(), "nor open anything");
        }
    }
    for seed in 0..20 {
        two(seed, |world, a, _| async move {
            world.spawn_on(a, "write", async {
                let dir = Dir::open("/data").expect("opened");
                let _lock = dir.lock().expect("locked");
                let file = WritesOnDrop(dir.file("f").expect("opened"));
                file.0.write_at(0, b"alive").expect("written");
                pending::<()>().await;
            });
            time::sleep(SECOND).await;
            assert!(world.kill(a) && !world.is_up(a) && !world.kill(a));
            world.restart(a);
            let content = world.spawn_on(a, "read", async {
                let dir = Dir::open("/data").expect("opened");
                let _lock = dir.lock().expect("the dead process's lock is gone");
                assert!(!dir.exists("../ghost").unwrap_or(false));
                dir.read("f").expect("read")
            });
            assert_eq!(content.await, Ok(Some(b"alive".to_vec())));
            time::sleep(SECOND).await;
        });
    }
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_may_tear_what_was_not() {
    const SECTORS: usize = 16;
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..60 {
        let content = two(seed, |world, a, _| async move {
            let writing = world.spawn_on(a, "write", async {
                let dir = Dir::open("/data").expect("opened");
                let file = dir.file("f").expect("opened");
                file.write_at(0, &[1; 512 * SECTORS]).expect("written");
                file.sync().expect("synced");
                file.write_at(0, &[2; 512 * SECTORS]).expect("written");
                dir.write_atomic("atomic", b"whole").expect("written");
                assert_eq!(dir.read("f").expect("read"), Some(vec![2; 512 * SECTORS]));
            });
            writing.await.expect("written");
            assert!(world.power_off(a) && !world.power_off(a));
            world.restart(a);
            let reading = world.spawn_on(a, "read", async {
                let dir = Dir::open("/data").expect("opened");
                assert_eq!(dir.read("atomic").expect("read"), Some(b"whole".to_vec()));
                dir.read("f").expect("read").expect("the name was durable")
            });
            reading.await.expect("read")
        });
        assert_eq!(content.len(), 512 * SECTORS);
        let new = content
            .chunks(512)
            .filter(|sector| sector.iter().all(|byte| *byte == 2))
            .count();
        let old = content
            .chunks(512)
            .filter(|sector| sector.iter().all(|byte| *byte == 1))
            .count();
        assert_eq!(new + old, SECTORS, "no sector is a mixture");
        lost += old;
        kept += new;
        torn += usize::from(new > 0 && old > 0);
    }
    assert!(
        lost > 0 && kept > 0 && torn > 5,
        "lost {lost}, kept {kept}, torn {torn}"
    );
}

#[test]
fn an_atomic_write_is_whole_at_whatever_operation_the_power_goes() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..20 {
        for k in 1..=8 {
            let content = two(seed, move |world, a, _| async move {
                let write = |bytes: &'static [u8]| async move {
                    // Opening is one operation, writing is six.
                    Dir::open("/data").and_then(|dir| dir.write_atomic("f", bytes))
                };
                world
                    .spawn_on(a, "write", write(b"old"))
                    .await
                    .expect("it ends")
                    .expect("written");
                world.power_off_at_operation(a, k);
                let written = world.spawn_on(a, "write", async move {
                    let written = write(b"new").await;
                    alys_runtime::yield_now().await;
                    written.is_ok()
                });
                let is_written = written.await == Ok(true);
                assert_eq!(
                    is_written,
                    world.is_up(a),
                    "it fails exactly when the power went"
                );
                world.power_off(a);
                world.restart(a);
                let read = world.spawn_on(a, "read", async {
                    let dir = Dir::open("/data").expect("opened");
                    assert_eq!(
                        dir.list().expect("listed"),
                        ["f"],
                        "no traces of the attempt"
                    );
                    dir.read("f").expect("read").expect("there is always one")
                });
                (is_written, read.await.expect("read"))
            });
            match content {
                (_, bytes) if bytes == b"new" => new += 1,
                (false, bytes) if bytes == b"old" => old += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(old > 10 && new > 10, "old {old}, new {new}");
}

#[test]
fn a_name_is_durable_even_if_its_maker_was_killed_before_its_sync() {
    for seed in 0..10 {
        for made_before in ["/", "/x", "/x/y"] {
            two(seed, move |world, a, _| async move {
                let attempt = world.spawn_on(a, "make", async move {
                    Dir::open(made_before).expect("opened");
                    // The next name is made, but not durable.
                    World::current().fail_syncs(sim::here().node, 1);
                    match made_before {
                        "/x/y" => Dir::open(made_before)
                            .and_then(|dir| dir.file("f"))
                            .is_err(),
                        _ => Dir::open("/x/y").is_err(),
                    }
                });
                assert_eq!(attempt.await, Ok(true));
                world.kill(a);
                world.restart(a);
                let write = world.spawn_on(a, "write", async {
                    let file = Dir::open("/x/y")
                        .expect("opened")
                        .file("f")
                        .expect("opened");
                    file.write_at(0, b"data").expect("written");
                    file.sync().expect("synced");
                });
                write.await.expect("it ends");
                world.power_off(a);
                world.restart(a);
                let read = world.spawn_on(a, "read", async {
                    Dir::open("/x/y").and_then(|d| d.read("f"))
                });
                assert_eq!(
                    read.await.expect("it ends").expect("read"),
                    Some(b"data".to_vec())
                );
            });
        }
    }
}

#[test]
fn whatever_is_done_to_a_file_its_sectors_are_the_synced_or_the_newest_ones() {
    const LEN: u64 = 4_000;
    let sector_of = |bytes: &[u8], n: usize| {
        let mut sector = [0; 512];
        let part = bytes.get(n * 512..).unwrap_or(&[]);
        let part = &part[..part.len().min(512)];
        sector[..part.len()].copy_from_slice(part);
        sector
    };
    for seed in 0..200 {
        two(seed, move |world, a, _| async move {
            let mut rng = world.rng("operations");
            for _ in 0..5 {
                let (mut synced, mut live) = (None, Vec::new());
                let open = |f: Box<dyn FnOnce(disk::File) + Send>| {
                    let task = world.spawn_on(a, "use", async move {
                        f(Dir::open("/d").expect("opened").file("f").expect("opened"));
                    });
                    async move { task.await.expect("it ends") }
                };
                for _ in 0..rng.below(12) {
                    let (at, len) = (rng.below(LEN) as usize, rng.below(LEN) as usize);
                    let read = Arc::new(Mutex::new(Vec::new()));
                    let content = read.clone();
                    let kind = rng.below(if synced.is_none() { 1 } else { 6 });
                    let byte = rng.below(256) as u8;
                    open(Box::new(move |file| {
                        match kind {
                            0 => file.sync().expect("synced"),
                            1 => file.set_len(len as u64).expect("room"),
                            _ => file.write_at(at as u64, &vec![byte; len]).expect("written"),
                        }
                        let mut bytes = vec![0; file.len().expect("a length") as usize];
                        file.read_at(0, &mut bytes).expect("read");
                        *content.lock().expect("not poisoned") = bytes;
                    }))
                    .await;
                    let read = std::mem::take(&mut *read.lock().expect("not poisoned"));
                    match kind {
                        0 => synced = Some(read.clone()),
                        1 => live.resize(len, 0),
                        _ if len > 0 => {
                            live.resize(live.len().max(at + len), 0);
                            live[at..at + len].fill(byte);
                        }
                        _ => {}
                    }
                    if synced.is_some() && kind == 0 {
                        live.clone_from(&read);
                    }
                    assert!(read == live, "a process sees what it wrote");
                }
                world.power_off(a);
                world.restart(a);
                let Some(synced) = synced else { continue };
                let read = world.spawn_on(a, "read", async {
                    Dir::open("/d").and_then(|d| d.read("f"))
                });
                let content = read
                    .await
                    .expect("it ends")
                    .expect("read")
                    .expect("it was synced");
                assert!(
                    [synced.len(), live.len()].contains(&content.len()),
                    "a length that was"
                );
                for n in 0..content.len().div_ceil(512) {
                    let len = (content.len() - n * 512).min(512);
                    let (is, was, new) = (
                        sector_of(&content, n),
                        sector_of(&synced, n),
                        sector_of(&live, n),
                    );
                    assert!(
                        is[..len] == was[..len] || is[..len] == new[..len],
                        "sector {n} of seed {seed}"
                    );
                }
            }
        });
    }
}

#[test]
fn a_process_can_be_killed_from_within_and_does_nothing_more() {
    two(1, |world, a, b| async move {
        let (mut near, mut far) = connect(world, a, b).await;
        let events = Arc::new(AtomicU64::new(0));
        let seen = events.clone();
        world.spawn_on(a, "crash", async move {
            World::current().kill(sim::here().node);
            assert!(!World::current().is_here_alive());
            seen.store(World::current().events(), Ordering::SeqCst);
            alys_runtime::trace::event("ghost", &[]);
            assert!(near.write_all(b"ghost").await.is_err());
            assert!(Dir::open("/ghost").is_err());
            assert!(Listener::bind(SocketAddr::new(ip(1), PORT)).await.is_err());
            assert!(Stream::connect(SocketAddr::new(ip(2), PORT)).await.is_err());
            assert_eq!(
                World::current().events(),
                seen.load(Ordering::SeqCst),
                "none of it is an event"
            );
            alys_runtime::yield_now().await;
            unreachable!("a killed process goes no further than its next await");
        });
        let read = far.read(&mut [0]).await;
        assert!(matches!(&read, Ok(0)) || read.is_err(), "{read:?}");
        assert_ne!(events.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn the_shims_follow_the_seed_and_the_virtual_clock() {
    let draw = |seed| {
        two(seed, |_, _, _| async {
            let mut bytes = [0; 16];
            getrandom::getrandom(&mut bytes).expect("it answers");
            let start = time::now();
            let mut delay = futures_timer::Delay::new(100 * SECOND);
            assert!(futures::poll!(&mut delay).is_pending());
            delay.reset(1_000 * SECOND);
            delay.await;
            assert!(start.elapsed() >= 1_000 * SECOND && start.elapsed() < 1_001 * SECOND);
            bytes
        })
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn a_failed_sync_leaves_its_writes_in_doubt_for_good() {
    let mut lost = 0;
    for seed in 0..20 {
        let survived = two(seed, |world, a, _| async move {
            world.fail_syncs(a, 1);
            let working = world.spawn_on(a, "write", async {
                // Making the directory is the first sync, which fails.
                assert!(Dir::open("/data").is_err());
                let file = Dir::open("/data")
                    .expect("opened")
                    .file("f")
                    .expect("opened");
                file.set_len(1024).expect("room");
                file.sync().expect("synced");
                World::current().fail_syncs(World::current().find("a").expect("a"), 1);
                file.write_at(0, &[1; 512]).expect("written");
                assert!(file.sync().is_err());
                file.write_at(512, &[2; 512]).expect("written");
                file.sync().expect("succeeds again");
            });
            working.await.expect("it ends");
            world.power_off(a);
            world.restart(a);
            let read = world.spawn_on(a, "read", async {
                Dir::open("/data").expect("opened").read("f")
            });
            let content = read
                .await
                .expect("it ends")
                .expect("read")
                .expect("it exists");
            assert_eq!(content[512..], [2; 512], "the sync that succeeded holds");
            assert_eq!(world.counters().get("disk.sync_failed"), Some(&2));
            content[..512] == [1; 512]
        });
        lost += u32::from(!survived);
    }
    assert!(lost > 5, "lost {lost} of 20");
}

#[test]
fn a_full_disk_and_failing_reads_are_errors() {
    two(1, |world, a, _| async move {
        let run = |f: fn(disk::File)| {
            let task = world.spawn_on(a, "use", async move {
                f(Dir::open("/data")
                    .expect("opened")
                    .file("f")
                    .expect("opened"));
            });
            async move { task.await.expect("it ends") }
        };
        run(|file| file.write_at(0, &[1; 100]).expect("room")).await;
        world.set_free_space(a, Some(50));
        run(|file| {
            file.write_at(50, &[2; 100])
                .expect("50 overwritten, 50 new");
            let error = file.write_at(150, &[3; 1]).expect_err("full");
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            assert_eq!(
                file.set_len(151).expect_err("full").kind(),
                ErrorKind::StorageFull
            );
            assert_eq!(file.len().expect("a length"), 150);
        })
        .await;
        world.fail_reads(a, 1);
        run(|file| {
            assert!(file.read_at(0, &mut [0]).is_err());
            file.read_at(0, &mut [0]).expect("only one fails");
        })
        .await;
        world.heal_disk(a);
        run(|file| file.write_at(150, &[3; 100]).expect("room again")).await;
        assert_eq!(world.counters().get("disk.full"), Some(&2));
    });
}

#[test]
fn a_slow_disk_takes_its_time_in_settle() {
    two(1, |world, a, _| async move {
        world.set_slowness(
            a,
            Slowness {
                per_operation: MS,
                per_sync: 500 * MS,
            },
        );
        let took = world.spawn_on(a, "write", async {
            let file = Dir::open("/d").expect("opened").file("f").expect("opened");
            disk::settle().await;
            let start = time::now();
            file.write_at(0, b"x").expect("written");
            file.sync().expect("synced");
            assert_eq!(
                start.elapsed().as_millis(),
                0,
                "the call itself takes no time"
            );
            disk::settle().await;
            start.elapsed()
        });
        let took = took.await.expect("it ends");
        assert!(took >= 502 * MS && took < 510 * MS, "{took:?}");
    });
}

#[test]
fn a_disk_can_be_wiped_restored_and_rot() {
    two(1, |world, a, _| async move {
        let write = |byte: u8| {
            let task = world.spawn_on(a, "write", async move {
                Dir::open("/d").and_then(|dir| dir.write_atomic("f", &[byte; 64]))
            });
            async move { task.await.expect("it ends").expect("written") }
        };
        let read = move || {
            world.restart(a);
            let task = world.spawn_on(a, "read", async {
                Dir::open("/d").and_then(|dir| dir.read("f"))
            });
            async move {
                let content = task.await.expect("it ends").expect("readable");
                world.power_off(a);
                content
            }
        };
        write(1).await;
        let image = world.disk_image(a);
        write(2).await;
        assert_eq!(read().await, Some(vec![2; 64]));
        world.restore_disk(a, image);
        assert_eq!(read().await, Some(vec![1; 64]));
        assert_eq!(world.rot_disk(a, 1), 1);
        let rotten = read().await.expect("there");
        assert_eq!(
            rotten
                .iter()
                .map(|byte| (byte ^ 1).count_ones())
                .sum::<u32>(),
            1
        );
        world.wipe_disk(a);
        assert_eq!(read().await, None);
        assert_eq!(world.rot_disk(a, 1), 0);
    });
}

#[test]
fn impatient_machines_give_up_sooner() {
    two(1, |world, a, b| async move {
        let patience = sim::Patience {
            connect: SECOND,
            send: 3 * SECOND,
        };
        world.set_patience(patience);
        let (mut near, _far) = connect(world, a, b).await;
        world.partition(ip(1), ip(2));
        near.write_all(b"lost")
            .await
            .expect("there is room in the buffer");
        let start = time::now();
        let error = near.read_exact(&mut [0; 5]).await.expect_err("given up");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= patience.send - MS && start.elapsed() < patience.send + SECOND);
        let start = time::now();
        let nobody = world.spawn_on(a, "connect", Stream::connect((ip(2), 9).into()));
        assert_eq!(
            nobody
                .await
                .expect("it ends")
                .expect_err("no answer")
                .kind(),
            ErrorKind::TimedOut
        );
        assert!(start.elapsed() >= patience.connect && start.elapsed() < patience.connect + MS);
    });
}

#[test]
fn a_one_way_partition_stops_one_direction_and_times_out_the_sender_only() {
    two(1, |world, a, b| async move {
        let (mut near, mut far) = connect(world, a, b).await;
        world.block(ip(1), ip(2), Block::Cut);
        assert!(world.is_blocked(ip(1), ip(2)) && !world.is_blocked(ip(2), ip(1)));
        far.write_all(b"hello").await.expect("writable");
        let mut buf = [0; 5];
        near.read_exact(&mut buf)
            .await
            .expect("this direction works");
        near.write_all(b"lost")
            .await
            .expect("there is room in the buffer");
        let start = time::now();
        let error = near.read_exact(&mut buf).await.expect_err("given up");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= USER_TIMEOUT - MS && start.elapsed() < USER_TIMEOUT + SECOND);
        assert_eq!(
            near.write_all(b"x").await.expect_err("dead").kind(),
            ErrorKind::TimedOut
        );
        // The acknowledgement of "hello" never came through, so that end has given up as well.
        let error = far.read_exact(&mut buf).await.expect_err("given up");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(world.counters().get("link.user_timeout"), Some(&2));
    });
}

#[test]
fn a_reader_never_learns_of_a_partition_by_itself() {
    two(1, |world, a, b| async move {
        let (mut near, far) = connect(world, a, b).await;
        world.partition(ip(1), ip(2));
        let waited = time::timeout(600 * SECOND, near.read_u8()).await;
        assert!(waited.is_err(), "half-open for ever: {waited:?}");
        drop(far);
    });
}

#[test]
fn a_healed_link_goes_on_within_a_second_and_in_order() {
    for seed in 0..30 {
        for block in [Block::Cut, Block::Clog] {
            two(seed, move |world, a, b| async move {
                let (mut near, mut far) = connect(world, a, b).await;
                let sent: Vec<u8> = (0..200).collect();
                // Some of it is under way when the link goes.
                for byte in &sent[..100] {
                    near.write_u8(*byte).await.expect("writable");
                    time::sleep(MS).await;
                }
                world.block(ip(1), ip(2), block);
                near.write_all(&sent[100..]).await.expect("writable");
                time::sleep(20 * SECOND).await;
                let mut received = vec![0; 50];
                far.read_exact(&mut received)
                    .await
                    .expect("what had arrived before");
                world.heal(ip(1), ip(2));
                let start = time::now();
                let mut rest = vec![0; 150];
                far.read_exact(&mut rest).await.expect("all of it");
                assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
                received.append(&mut rest);
                assert_eq!(received, sent);
                far.write_all(b"ok").await.expect("the other way as well");
                near.read_u16().await.expect("received");
            });
        }
    }
}

#[test]
fn connecting_over_a_partition_times_out_and_goes_through_after_a_heal() {
    two(1, |world, a, b| async move {
        let addr = SocketAddr::new(ip(2), PORT);
        world.spawn_on(b, "listen", async move {
            let listener = Listener::bind(addr).await.expect("a free port");
            loop {
                drop(listener.accept().await);
            }
        });
        time::sleep(SECOND).await;
        world.partition(ip(1), ip(2));
        let start = time::now();
        let result = world
            .spawn_on(a, "connect", Stream::connect(addr))
            .await
            .expect("it ends");
        assert_eq!(
            result.expect_err("nobody answers").kind(),
            ErrorKind::TimedOut
        );
        assert!(start.elapsed() >= sim::CONNECT_TIMEOUT);
        let connecting = world.spawn_on(a, "connect", Stream::connect(addr));
        time::sleep(5 * SECOND).await;
        world.heal_both(ip(1), ip(2));
        let healed = time::now();
        connecting.await.expect("it ends").expect("connected");
        assert!(healed.elapsed() < 1_100 * MS, "{:?}", healed.elapsed());
        // A machine that is on refuses for a dead process; one without power is silent.
        world.kill(b);
        let result = world
            .spawn_on(a, "connect", Stream::connect(addr))
            .await
            .expect("it ends");
        assert_eq!(
            result.expect_err("refused").kind(),
            ErrorKind::ConnectionRefused
        );
        world.power_off(b);
        let result = world
            .spawn_on(a, "connect", Stream::connect(addr))
            .await
            .expect("it ends");
        assert_eq!(result.expect_err("silent").kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn the_peer_of_a_killed_process_learns_of_it_at_once() {
    let (mut ends, mut resets) = (0, 0);
    for seed in 0..20 {
        let result = two(seed, |world, a, b| async move {
            let (mut near, _far) = connect(world, a, b).await;
            world.kill(b);
            let start = time::now();
            let result = near.read(&mut [0]).await;
            assert!(start.elapsed() < SECOND);
            result
        });
        match result {
            Ok(n) => ends += u32::from(n == 0),
            Err(error) => resets += u32::from(error.kind() == ErrorKind::ConnectionReset),
        }
    }
    assert!(
        ends > 0 && resets > 0 && ends + resets == 20,
        "{ends} ends, {resets} resets"
    );
}

#[test]
fn the_peer_of_a_machine_without_power_learns_of_it_from_its_next_life() {
    two(1, |world, a, b| async move {
        let (mut near, _far) = connect(world, a, b).await;
        world.power_off(b);
        assert!(
            time::timeout(60 * SECOND, near.read_u8()).await.is_err(),
            "no word of it"
        );
        near.write_all(b"are you there?")
            .await
            .expect("there is room in the buffer");
        assert!(
            time::timeout(5 * SECOND, near.read_u8()).await.is_err(),
            "still none"
        );
        world.restart(b);
        let start = time::now();
        let error = near
            .read_u8()
            .await
            .expect_err("it knows nothing of the connection");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    });
}

#[test]
fn connections_can_be_reset_and_left_half_open() {
    two(1, |world, a, b| async move {
        let (mut near, mut far) = connect(world, a, b).await;
        assert_eq!(world.half_open(ip(1), ip(2)), 1);
        assert_eq!(
            near.read_u8().await.expect_err("gone").kind(),
            ErrorKind::ConnectionReset
        );
        assert!(
            time::timeout(60 * SECOND, far.read_u8()).await.is_err(),
            "nobody told it"
        );
        far.write_all(b"x").await.expect("it does not know");
        assert_eq!(
            far.read_u8().await.expect_err("now it does").kind(),
            ErrorKind::ConnectionReset
        );
        drop((near, far));
        assert_eq!(world.connections(), 0, "nothing is left behind");

        let (mut near, mut far) = connect(world, a, b).await;
        assert_eq!(world.reset_connections(ip(2), ip(1)), 1);
        assert_eq!(
            near.read_u8().await.expect_err("reset").kind(),
            ErrorKind::ConnectionReset
        );
        assert_eq!(
            far.write_u8(1).await.expect_err("reset").kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn bandwidth_and_latency_are_those_of_the_link() {
    two(1, |world, a, b| async move {
        let (mut near, mut far) = connect(world, a, b).await;
        let fixed = Link {
            latency: 50 * MS,
            jitter: Duration::ZERO,
            tail_ppm: 0,
            bytes_per_second: 100_000,
            window: 64 << 10,
            ..Link::default()
        };
        world.set_link(ip(1), ip(2), fixed);
        let start = time::now();
        near.write_u8(1).await.expect("writable");
        far.read_u8().await.expect("readable");
        assert!(
            start.elapsed() >= 50 * MS && start.elapsed() < 53 * MS,
            "{:?}",
            start.elapsed()
        );
        let start = time::now();
        let sending = world.spawn_on(a, "send", async move {
            near.write_all(&[7; 1_000_000]).await.expect("writable");
            (time::now(), near)
        });
        let mut buf = vec![0; 1_000_000];
        far.read_exact(&mut buf).await.expect("readable");
        let took = start.elapsed();
        assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
        let (sent_at, _near) = sending.await.expect("sent");
        assert!(
            sent_at - start >= 9 * SECOND,
            "the writer had to wait for the link"
        );
        assert!(world.counters().contains_key("link.backpressure"));
        world.reset_link(ip(1), ip(2));
        assert_eq!(world.link(ip(1), ip(2)), Link::default());
    });
}

#[test]
fn losses_delay_and_never_reorder() {
    two(3, |world, a, b| async move {
        world.set_default_link(Link {
            loss_ppm: 100_000,
            ..Link::default()
        });
        let (mut near, mut far) = connect(world, a, b).await;
        let sending = world.spawn_on(a, "send", async move {
            for n in 0..500u32 {
                near.write_u32(n).await.expect("writable");
                time::sleep(5 * MS).await;
            }
            near
        });
        let start = time::now();
        for n in 0..500 {
            assert_eq!(far.read_u32().await.expect("readable"), n);
        }
        assert!(start.elapsed() < 60 * SECOND);
        assert!(world.counters()["link.loss"] > 20);
        drop(sending.await);
    });
}

/// Sends a counted sequence both ways between two nodes while `disturb` does its work, and returns how much came
/// through in each direction. Whatever happens, it must be a beginning of what was sent.
async fn exchange<F: Future<Output = ()>>(
    world: World,
    a: NodeId,
    b: NodeId,
    disturb: F,
) -> [usize; 2] {
    const BYTES: usize = 400_000;
    let byte_at = |n: usize| (n % 251) as u8;
    let received = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let (near, far) = connect(world, a, b).await;
    let mut tasks = Vec::new();
    for (node, stream, received) in [
        (a, near, received[0].clone()),
        (b, far, received[1].clone()),
    ] {
        let (mut read, mut write) = alys_runtime::io::split(stream);
        tasks.push(world.spawn_on(node, "send", async move {
            let bytes: Vec<u8> = (0..BYTES).map(byte_at).collect();
            for part in bytes.chunks(5_000) {
                if write.write_all(part).await.is_err() {
                    return;
                }
                time::sleep(300 * MS).await;
            }
            let _ = write.shutdown().await;
        }));
        tasks.push(world.spawn_on(node, "receive", async move {
            let mut buf = [0; 3_000];
            while let Ok(n) = read.read(&mut buf).await {
                if n == 0 {
                    break;
                }
                let before = received.fetch_add(n as u64, Ordering::SeqCst) as usize;
                for (i, byte) in buf[..n].iter().enumerate() {
                    assert_eq!(*byte, byte_at(before + i), "at {}", before + i);
                }
            }
        }));
    }
    disturb.await;
    let polls = world.polls();
    for task in tasks {
        let _ = time::timeout(200 * SECOND, task).await;
    }
    assert!(
        world.polls() - polls < 20_000,
        "{} polls for some hundred segments",
        world.polls() - polls
    );
    received.map(|received| received.load(Ordering::SeqCst) as usize)
}

#[test]
fn whatever_short_outages_do_every_byte_arrives_once_and_in_order() {
    for seed in 0..60 {
        two(seed, |world, a, b| async move {
            let mut rng = world.rng("outages");
            world.set_default_link(Link {
                loss_ppm: 20_000,
                window: 30_000,
                ..Link::default()
            });
            let disturb = async {
                for _ in 0..20 {
                    let (from, to) = if rng.chance(500_000) {
                        (ip(1), ip(2))
                    } else {
                        (ip(2), ip(1))
                    };
                    let block = if rng.chance(500_000) {
                        Block::Cut
                    } else {
                        Block::Clog
                    };
                    match rng.below(4) {
                        0 => world.block(from, to, block),
                        1 => {
                            world.block(from, to, block);
                            world.block(to, from, block);
                        }
                        2 => world.pause(b),
                        _ => {}
                    }
                    time::sleep(rng.duration(5 * SECOND)).await;
                    // Never so long that a sender gives up.
                    world.heal_all();
                    world.resume(b);
                    time::sleep(rng.duration(2 * SECOND)).await;
                }
            };
            assert_eq!(exchange(world, a, b, disturb).await, [400_000; 2]);
            assert_eq!(world.connections(), 0);
        });
    }
}

#[test]
fn whatever_breaks_a_connection_what_came_through_is_a_beginning() {
    let mut broken = 0;
    for seed in 0..100 {
        let received = two(seed, move |world, a, b| async move {
            let mut rng = world.rng("breaks");
            let disturb = async {
                time::sleep(rng.duration(10 * SECOND)).await;
                match seed % 5 {
                    0 => drop(world.reset_connections(ip(1), ip(2))),
                    1 => drop(world.half_open(ip(2), ip(1))),
                    2 => drop(world.kill(b)),
                    3 => drop(world.power_off(b)),
                    _ => world.block(ip(1), ip(2), Block::Cut),
                }
                time::sleep(rng.duration(40 * SECOND)).await;
                world.heal_all();
                world.restart(b);
            };
            let received = exchange(world, a, b, disturb).await;
            assert_eq!(world.connections(), 0, "nothing is left behind");
            received
        });
        broken += u32::from(received != [400_000; 2]);
    }
    assert!(broken >= 90, "{broken} of 100 were cut short");
}

#[test]
fn each_node_has_its_own_wall_clock() {
    two(1, |world, a, b| async move {
        let read = move |node| world.spawn_on(node, "clock", async { clock::wall_ms() });
        let truth = world.wall_ms(NodeId::WORLD);
        assert_eq!(read(a).await, Ok(truth));
        world.set_clock_offset(a, -5_000);
        world.set_clock_drift(b, 100_000);
        assert_eq!(read(a).await.map(|wall| truth - wall), Ok(5_000));
        time::sleep(100 * SECOND).await;
        let truth = world.wall_ms(NodeId::WORLD);
        assert_eq!(world.wall_ms(a), truth - 5_000);
        let ahead = read(b).await.expect("read") - truth;
        assert!(
            (10_000..10_010).contains(&ahead),
            "a tenth of 100 s, but {ahead} ms"
        );
        world.step_clock(b, -10_000);
        let ahead = world.wall_ms(b) - truth;
        assert!(ahead < 10, "{ahead}");
        world.restart(a);
        assert_eq!(
            read(a).await.map(|wall| truth - wall),
            Ok(5_000),
            "a restart does not set the clock"
        );
    });
    let epoch = |seed| {
        two(
            seed,
            |world, _, _| async move { world.wall_ms(NodeId::WORLD) },
        )
    };
    assert_ne!(epoch(1), epoch(2));
    assert_eq!(epoch(1), epoch(1));
}

#[test]
fn a_paused_process_stands_still_while_its_kernel_goes_on() {
    two(1, |world, a, b| async move {
        let ticks = Arc::new(AtomicU64::new(0));
        let counted = ticks.clone();
        world.spawn_on(b, "tick", async move {
            let mut interval = time::interval(SECOND);
            loop {
                interval.tick().await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (mut near, far) = connect(world, a, b).await;
        let echo = world.spawn_on(b, "echo", async move {
            let mut far = far;
            far.read_u8().await.expect("readable")
        });
        world.pause(b);
        near.write_u8(9).await.expect("the kernel takes it");
        let before = ticks.load(Ordering::SeqCst);
        time::sleep(100 * SECOND).await;
        assert!(!echo.is_finished() && ticks.load(Ordering::SeqCst) == before);
        world.resume(b);
        assert_eq!(echo.await, Ok(9));
        time::sleep(3_500 * MS).await;
        let ticked = ticks.load(Ordering::SeqCst) - before;
        assert!((3..=5).contains(&ticked), "{ticked}");
    });
}

#[test]
fn a_restart_runs_the_process_again_and_a_stop_lets_it_end() {
    sim::run(Options::new(1), |world| async move {
        let (starts, ends) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (started, ended) = (starts.clone(), ends.clone());
        let a = world.node("a", ip(1), move || {
            let (started, ended) = (started.clone(), ended.clone());
            async move {
                started.fetch_add(1, Ordering::SeqCst);
                spawn("helper", pending::<()>());
                signal::shutdown().await;
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
        let counts = || (starts.load(Ordering::SeqCst), ends.load(Ordering::SeqCst));
        time::sleep(SECOND).await;
        assert_eq!(counts(), (1, 0));
        world.restart(a);
        time::sleep(SECOND).await;
        assert_eq!(counts(), (2, 0));
        world.stop(a);
        time::sleep(SECOND).await;
        assert_eq!(counts(), (2, 1));
        assert!(!world.is_up(a));
        world.restart(a);
        time::sleep(SECOND).await;
        assert_eq!(counts(), (3, 1));
        assert!(world.is_up(a));
    });
}

/// A busy little world: two nodes that talk, write, draw and are disturbed.
fn busy(seed: u64) -> [u8; 32] {
    let finished = sim::try_run(Options::new(seed), |world| async move {
        let addr = SocketAddr::new(ip(2), PORT);
        let server = world.node("server", ip(2), move || async move {
            let listener = Listener::bind(addr).await.expect("a free port");
            let dir = Dir::open("/data").expect("opened");
            while let Ok((mut stream, _)) = listener.accept().await {
                let dir = dir.clone();
                spawn("serve", async move {
                    while let Ok(n) = stream.read_u64().await {
                        if dir.write_atomic("n", &n.to_le_bytes()).is_err()
                            || stream.write_u64(n).await.is_err()
                        {
                            break;
                        }
                    }
                });
            }
        });
        world.node("client", ip(1), move || async move {
            loop {
                let Ok(mut stream) = Stream::connect(addr).await else {
                    time::sleep(100 * MS).await;
                    continue;
                };
                loop {
                    let n = rand::u64();
                    alys_runtime::trace::event("ask", &n.to_le_bytes());
                    let asked = async {
                        stream.write_u64(n).await?;
                        stream.read_u64().await
                    };
                    // Unbiased on purpose: the order in which tokio looks at the branches is part of the seed.
                    let answered = alys_runtime::select! {
                        answer = asked => answer.is_ok(),
                        () = time::sleep(SECOND) => false,
                    };
                    if !answered {
                        break;
                    }
                    time::sleep(10 * MS).await;
                }
            }
        });
        for round in 0..10 {
            time::sleep(3 * SECOND).await;
            match round % 3 {
                0 => world.partition(ip(1), ip(2)),
                1 => world.heal_all(),
                _ => {
                    world.power_off(server);
                    world.restart(server);
                }
            }
        }
        assert!(world.events() > 1_000, "{} events", world.events());
    });
    finished.result.expect("the world holds");
    finished.trace_hash
}

/// Runs this test binary again for one seed, because tokio's `select!` draws from a counter of the process.
fn busy_in_a_process(seed: u64) -> String {
    let output = std::process::Command::new(std::env::current_exe().expect("it runs"))
        .args([
            "--exact",
            "prints_the_hash_of_a_seed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("BUSY_SEED", seed.to_string())
        .output()
        .expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, hash) = text
        .split_once("HASH=")
        .unwrap_or_else(|| panic!("no hash in {text}"));
    hash[..64].to_owned()
}

#[test]
fn prints_the_hash_of_a_seed() {
    let seed = std::env::var("BUSY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let hash: String = busy(seed)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_ne!(hash, "0".repeat(64));
    println!("HASH={hash}");
}

#[test]
fn the_seed_decides_everything() {
    let (one, again, two) = (
        busy_in_a_process(1),
        busy_in_a_process(1),
        busy_in_a_process(2),
    );
    assert_eq!(one, again);
    assert_ne!(one, two);
}

#[test]
fn an_idle_network_costs_nothing() {
    two(1, |world, a, b| async move {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let (near, far) = connect(world, a, b).await;
            for (node, mut stream) in [(a, near), (b, far)] {
                streams.push(world.spawn_on(node, "idle", async move {
                    // What HTTP/2 does: flush whenever it is polled.
                    alys_runtime::select! {
                        read = stream.read_u8() => drop(read),
                        () = async { pending::<()>().await } => {}
                    }
                }));
            }
        }
        time::sleep(SECOND).await;
        let (events, polls) = (world.events(), world.polls());
        time::sleep(10_000 * SECOND).await;
        assert_eq!((world.events(), world.polls()), (events, polls));
        assert!(streams.iter().all(|stream| !stream.is_finished()));
    });
}

#[test]
fn what_happened_is_reported_to_the_sink_and_counted() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let finished = sim::try_run(Options::new(1), move |world| async move {
        world.add_sink(Box::new(move |event| {
            sink.lock().expect("not poisoned").push((
                event.at,
                event.node,
                event.kind,
                event.detail.clone(),
            ));
        }));
        let a = world.node("a", ip(1), pending);
        let b = world.node("b", ip(2), pending);
        let (mut near, mut far) = connect(world, a, b).await;
        near.write_all(b"abc").await.expect("writable");
        far.read_exact(&mut [0; 3]).await.expect("readable");
        world.note("oracle", &[1], "all is well");
        world.kill(a);
    });
    finished.result.expect("it ends");
    let seen = seen.lock().expect("not poisoned");
    let kinds: Vec<&str> = seen.iter().map(|event| event.2).collect();
    for kind in [
        "node.start",
        "net.listen",
        "net.connect",
        "net.send",
        "net.receive",
        "oracle",
        "node.kill",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    assert!(seen.is_sorted_by_key(|event| event.0));
    assert_eq!(seen.len() as u64, finished.events);
    assert_eq!(finished.counters.get("node.kill"), Some(&1));
}

#[test]
fn a_run_that_fails_says_why() {
    let panics = sim::try_run(Options::new(1), |_| async {
        assert!(time::now().elapsed() > SECOND, "too soon")
    });
    assert_eq!(panics.result, Err("too soon".to_owned()));
    let stuck = sim::try_run(Options::new(1), |_| pending::<()>());
    assert!(
        stuck
            .result
            .expect_err("it never ends")
            .contains("block forever")
    );
    let limit = Options {
        time_limit: 10 * SECOND,
        ..Options::new(1)
    };
    let endless = sim::try_run(limit, |_| async {
        loop {
            time::sleep(SECOND).await;
        }
    });
    let error: Result<std::convert::Infallible, String> = endless.result;
    assert!(error.expect_err("it never ends").contains("time limit"));
    let in_a_node = sim::try_run(Options::new(1), |world| async move {
        world.node("a", ip(1), || async { panic!("in a node") });
        time::sleep(SECOND).await;
    });
    assert_eq!(in_a_node.result, Err("in a node".to_owned()));
}

/// Asks two sites on two nodes, so often.
fn fired(
    seed: u64,
    share_ppm: Option<u32>,
) -> (
    Vec<[bool; 4]>,
    std::collections::BTreeMap<&'static str, u64>,
) {
    const ROUNDS: usize = 400;
    let finished = sim::try_run(Options::new(seed), move |world| async move {
        world.set_buggify(share_ppm);
        let ask = || async {
            let mut asked = Vec::new();
            for _ in 0..ROUNDS {
                let read = alys_runtime::buggify!("runtime.net.short_read");
                let write = alys_runtime::buggify!("runtime.net.short_write", 10_000);
                asked.push((read, write));
            }
            asked
        };
        let a = world.node("a", ip(1), std::future::pending);
        let b = world.node("b", ip(2), std::future::pending);
        let (a, b) = (
            world.spawn_on(a, "ask", ask()),
            world.spawn_on(b, "ask", ask()),
        );
        let (a, b) = (a.await.expect("it ends"), b.await.expect("it ends"));
        a.into_iter()
            .zip(b)
            .map(|((a, b), (c, d))| [a, b, c, d])
            .collect::<Vec<_>>()
    });
    (finished.result.expect("nothing panics"), finished.counters)
}

#[test]
fn a_site_that_is_on_fires_as_often_as_it_says_and_one_that_is_off_never() {
    let (all, counters) = fired(1, Some(1_000_000));
    let count = |at: usize| all.iter().filter(|asked| asked[at]).count();
    for (often, seldom) in [(0, 1), (2, 3)] {
        assert!(
            (60..140).contains(&count(often)),
            "a quarter of 400: {}",
            count(often)
        );
        assert!(count(seldom) < 20, "a hundredth of 400: {}", count(seldom));
    }
    assert_eq!(counters["site.runtime.net.short_read.on"], 1);
    assert_eq!(
        counters["site.runtime.net.short_read.fired"] as usize,
        count(0) + count(2)
    );
    assert_ne!(
        all.iter().map(|asked| asked[0]).collect::<Vec<_>>(),
        all.iter().map(|asked| asked[2]).collect::<Vec<_>>(),
        "each node has a stream of its own"
    );
    assert_eq!(
        fired(1, Some(1_000_000)),
        (all, counters),
        "the seed decides"
    );

    for share in [None, Some(0)] {
        let (none, counters) = fired(1, share);
        assert!(none.iter().flatten().all(|fires| !fires));
        assert!(!counters.keys().any(|name| name.starts_with("site.")));
    }
}

#[test]
fn about_a_quarter_of_the_sites_is_on_in_a_run_and_another_one_in_the_next() {
    let on = |seed| -> Vec<&'static str> {
        let (_, counters) = fired(seed, Some(sim::USUAL_SHARE_PPM));
        counters
            .into_keys()
            .filter(|name| name.ends_with(".on"))
            .collect()
    };
    let (runs, sites) = (20, alys_runtime::buggify::SITES.len());
    let drawn: Vec<_> = (1..=runs).map(on).collect();
    let total: usize = drawn.iter().map(Vec::len).sum();
    let expected = sites * runs as usize / 4;
    assert!(
        (expected * 8 / 10..expected * 12 / 10).contains(&total),
        "{total} of {expected}"
    );
    assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_spared_machine_and_the_world_itself_do_nothing_unusual() {
    sim::run(Options::new(1), |world| async move {
        world.set_buggify(Some(1_000_000));
        let spared = world.node("spared", ip(1), std::future::pending);
        world.exempt_from_buggify(spared);
        let fires = || alys_runtime::buggify!("runtime.net.short_read", 1_000_000);
        assert!(
            !world
                .spawn_on(spared, "ask", async move { fires() })
                .await
                .expect("it ends")
        );
        assert!(!fires(), "this is the world");
        let other = world.node("other", ip(2), std::future::pending);
        assert!(
            world
                .spawn_on(other, "ask", async move { fires() })
                .await
                .expect("it ends")
        );
        world.set_buggify(None);
        assert!(
            !world
                .spawn_on(other, "ask", async move { fires() })
                .await
                .expect("it ends")
        );
    });
}

/// Runs `work` on a file of eight sectors of ones that were twos before the last sync.
fn on_a_file<T, F>(
    prepare: impl FnOnce(World, NodeId) + Send + 'static,
    work: F,
) -> (T, sim::Damage)
where
    T: Send + 'static,
    F: FnOnce(alys_runtime::disk::File) -> T + Send + 'static,
{
    two(1, |world, a, _| async move {
        let open = || {
            Dir::open("/d")
                .and_then(|dir| dir.file("f"))
                .expect("it opens")
        };
        let written = world.spawn_on(a, "write", async move {
            let file = open();
            for byte in [2, 1] {
                file.write_at(0, &[byte; 8 * 512]).expect("written");
                file.sync().expect("synced");
            }
        });
        written.await.expect("it ends");
        assert!(!world.disk_damage(a).is_any());
        prepare(world, a);
        let worked = world
            .spawn_on(a, "work", async move { work(open()) })
            .await
            .expect("it ends");
        (worked, world.disk_damage(a))
    })
}

#[test]
fn a_misdirected_write_is_reported_as_done_and_is_elsewhere() {
    let work = |file: alys_runtime::disk::File| {
        file.write_at(512, &[9; 512]).expect("told that it is done");
        let mut content = [0; 8 * 512];
        file.read_at(0, &mut content).expect("readable");
        content
    };
    let (content, damage) = on_a_file(|world, a| world.misdirect_writes(a, 1), work);
    assert!(
        content[512..1024].iter().all(|byte| *byte == 1),
        "not where it should be"
    );
    assert_eq!(
        content.iter().filter(|byte| **byte == 9).count(),
        512,
        "but somewhere"
    );
    assert_eq!(
        damage,
        sim::Damage {
            misdirected_writes: 1,
            ..Default::default()
        }
    );
    assert!(damage.is_silent());
}

#[test]
fn a_stale_read_gives_what_was_there_before_the_last_sync_as_often_as_it_is_told_to() {
    let work = |file: alys_runtime::disk::File| {
        let read = || {
            let mut content = [0; 700];
            file.read_at(300, &mut content).expect("readable");
            content
        };
        [read(), read()]
    };
    let ([first, second], damage) = on_a_file(|world, a| world.make_reads_stale(a, 1), work);
    assert_eq!((first, second), ([2; 700], [1; 700]));
    assert_eq!(
        damage,
        sim::Damage {
            stale_reads: 1,
            ..Default::default()
        }
    );
}

#[test]
fn a_failed_write_writes_nothing_and_a_disk_without_room_takes_nothing_not_even_over_old_bytes() {
    let work = |file: alys_runtime::disk::File| {
        let failed = file.write_at(0, &[7; 512]).expect_err("fails").kind();
        let first = file.write_at(0, &[8; 512]).is_ok();
        let full = file.write_at(512, &[8; 512]).expect_err("no room").kind();
        let mut content = [0; 1024];
        file.read_at(0, &mut content).expect("readable");
        (failed, first, full, content)
    };
    let prepare = |world: World, a| {
        world.fail_writes(a, 1);
        world.set_room_to_write(a, Some(600));
    };
    let ((failed, first, full, content), damage) = on_a_file(prepare, work);
    assert!(failed != ErrorKind::StorageFull && first && full == ErrorKind::StorageFull);
    assert!(content[..512].iter().all(|b| *b == 8) && content[512..].iter().all(|b| *b == 1));
    assert_eq!(
        damage,
        sim::Damage {
            failed_writes: 1,
            without_space: 1,
            ..Default::default()
        }
    );
    assert!(damage.is_any() && !damage.is_silent());
}
