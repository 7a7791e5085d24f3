//! Processes and clocks: kill, restart, pause, stop.

use super::*;

#[test]
fn a_kill_loses_no_written_file_and_destructors_have_no_effect() {
    struct WritesOnDrop(disk::File);
    impl Drop for WritesOnDrop {
        fn drop(&mut self) {
            assert!(
                self.0.write_at(0, b"ghost").is_err(),
                "a dead process cannot write"
            );
            assert!(Dir::open("/ghost").is_err(), "nor open a directory");
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
fn a_mark_is_reported_inside_of_the_process_that_reached_it_and_may_end_it() {
    two(1, |world, a, _| async move {
        let reported = Arc::new(AtomicU64::new(0));
        let count = reported.clone();
        world.on_reached(Arc::new(move |node, mark| {
            assert_eq!((node, mark), (sim::here().node, "test.mark"));
            count.fetch_add(1, Ordering::SeqCst);
            World::current().kill(node);
        }));
        world.spawn_on(a, "mark", async {
            alys_runtime::trace::reached("test.mark");
            assert!(!World::current().is_here_alive());
            alys_runtime::trace::reached("test.mark");
        });
        time::sleep(SECOND).await;
        assert!(!world.is_up(a));
        assert_eq!(
            reported.load(Ordering::SeqCst),
            1,
            "a dead process reaches nothing"
        );
        assert_eq!(world.counters().get("test.mark"), Some(&1));
    });
}

#[test]
fn a_process_that_kills_itself_has_no_further_effect() {
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
                "no event"
            );
            alys_runtime::yield_now().await;
            unreachable!("a killed process stops at its next await");
        });
        let read = far.read(&mut [0]).await;
        assert!(matches!(&read, Ok(0)) || read.is_err(), "{read:?}");
        assert_ne!(events.load(Ordering::SeqCst), 0);
    });
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
fn the_kernel_of_a_paused_process_accepts_bytes() {
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
        near.write_u8(9).await.expect("the kernel accepts it");
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
fn a_restart_starts_the_process_and_a_stop_ends_it_gracefully() {
    sim::run(Options::new(1), |world| async move {
        let starts = Arc::new(AtomicU32::new(0));
        let ends = Arc::new(AtomicU32::new(0));
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
