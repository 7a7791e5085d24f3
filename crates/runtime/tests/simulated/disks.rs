//! The simulated disk: power losses, failed operations, silent damage.

use super::*;

#[test]
fn a_power_loss_keeps_synced_data_and_may_tear_unsynced_data() {
    const SECTORS: usize = 16;
    let mut lost = 0;
    let mut kept = 0;
    let mut torn = 0;
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
        assert_eq!(new + old, SECTORS, "no sector is torn");
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
fn an_atomic_write_is_atomic_at_a_power_loss_in_any_operation() {
    let mut old = 0;
    let mut new = 0;
    for seed in 0..20 {
        for k in 1..=8 {
            let content = two(seed, move |world, a, _| async move {
                let write = |bytes: &'static [u8]| async move {
                    // Opening takes one operation, writing six.
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
                    "it fails exactly at a power loss"
                );
                world.power_off(a);
                world.restart(a);
                let read = world.spawn_on(a, "read", async {
                    let dir = Dir::open("/data").expect("opened");
                    assert_eq!(dir.list().expect("listed"), ["f"], "no temporary file");
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
fn opening_makes_a_name_durable_that_a_killed_process_left_unsynced() {
    for seed in 0..10 {
        for made_before in ["/", "/x", "/x/y"] {
            two(seed, move |world, a, _| async move {
                let attempt = world.spawn_on(a, "make", async move {
                    Dir::open(made_before).expect("opened");
                    // The next name is created, but not durable.
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
fn every_sector_has_its_synced_or_its_newest_content_after_a_power_loss() {
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
                let mut synced = None;
                let mut live = Vec::new();
                let open = |f: Box<dyn FnOnce(disk::File) + Send>| {
                    let task = world.spawn_on(a, "use", async move {
                        f(Dir::open("/d").expect("opened").file("f").expect("opened"));
                    });
                    async move { task.await.expect("it ends") }
                };
                for _ in 0..rng.below(12) {
                    let at = rng.below(LEN) as usize;
                    let len = rng.below(LEN) as usize;
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
                    assert!(read == live, "a process reads its own writes");
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
                    "one of the two lengths"
                );
                for n in 0..content.len().div_ceil(512) {
                    let len = (content.len() - n * 512).min(512);
                    let found = sector_of(&content, n);
                    let old = sector_of(&synced, n);
                    let new = sector_of(&live, n);
                    assert!(
                        found[..len] == old[..len] || found[..len] == new[..len],
                        "sector {n} of seed {seed}"
                    );
                }
            }
        });
    }
}

#[test]
fn a_later_sync_does_not_make_the_writes_of_a_failed_one_durable() {
    let mut lost = 0;
    for seed in 0..20 {
        let survived = two(seed, |world, a, _| async move {
            world.fail_syncs(a, 1);
            let working = world.spawn_on(a, "write", async {
                // Creating the directory syncs first, and fails.
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
fn the_cost_of_a_slow_disk_is_slept_in_settle() {
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
fn one_operation_fails_without_an_effect() {
    two(1, |world, a, _| async move {
        world.fail_operation(a, 4);
        let task = world.spawn_on(a, "write", async {
            // Opening takes two operations, and the write of the file is the second one after it.
            let dir = Dir::open("/d").expect("opened");
            let first = dir.write_atomic("f", b"one").is_err();
            let content = dir.read("f").expect("read");
            let second = dir.write_atomic("f", b"two").is_ok();
            (first, content, second)
        });
        assert_eq!(task.await.expect("it ends"), (true, None, true));
        assert_eq!(world.disk_damage(a).failed_writes, 1);
        assert_eq!(world.disk_faults(a).failure_in, None);
    });
}

#[test]
fn disks_can_be_wiped_restored_and_corrupted() {
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
        assert_eq!(image.file("/d/f".as_ref()), Some(&[1; 64][..]));
        assert_eq!(image.file("/d/other".as_ref()), None);
        assert_eq!(image.file("/d".as_ref()), None, "a directory");
        assert!(!image.damage().is_any());
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
        let rotten = world.disk_image(a);
        world.wipe_disk(a);
        assert_eq!(read().await, None);
        assert_eq!(world.rot_disk(a, 1), 0);
        assert!(!world.disk_damage(a).is_any());
        world.restore_disk(a, rotten);
        assert_eq!(world.disk_damage(a).rotten_bits, 1, "of the copy");
    });
}

/// Runs `work` on a file of eight sectors of ones, which were twos before the last sync.
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
fn a_misdirected_write_reports_success_and_goes_to_another_offset() {
    let work = |file: alys_runtime::disk::File| {
        file.write_at(512, &[9; 512]).expect("success is reported");
        let mut content = [0; 8 * 512];
        file.read_at(0, &mut content).expect("readable");
        content
    };
    let (content, damage) = on_a_file(|world, a| world.misdirect_writes(a, 1), work);
    assert!(
        content[512..1024].iter().all(|byte| *byte == 1),
        "the target is unchanged"
    );
    assert_eq!(
        content.iter().filter(|byte| **byte == 9).count(),
        512,
        "written elsewhere"
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
fn the_counted_stale_reads_return_the_content_before_the_last_sync() {
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
fn a_failed_write_writes_nothing_and_a_disk_without_room_refuses_overwriting() {
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
