//! Simulated links and streams: partitions, losses, resets, bandwidth.

use super::*;

#[test]
fn tcp_timeouts_are_configurable() {
    two(1, |world, a, b| async move {
        let timeouts = sim::TcpTimeouts {
            connect: SECOND,
            send: 3 * SECOND,
        };
        world.set_tcp_timeouts(timeouts);
        let (mut near, _far) = connect(world, a, b).await;
        world.partition(ip(1), ip(2));
        near.write_all(b"lost")
            .await
            .expect("there is room in the buffer");
        let start = time::now();
        let error = near.read_exact(&mut [0; 5]).await.expect_err("timed out");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= timeouts.send - MS && start.elapsed() < timeouts.send + SECOND);
        let start = time::now();
        let connecting = world.spawn_on(a, "connect", Stream::connect((ip(2), 9).into()));
        assert_eq!(
            connecting
                .await
                .expect("it ends")
                .expect_err("no answer")
                .kind(),
            ErrorKind::TimedOut
        );
        assert!(start.elapsed() >= timeouts.connect && start.elapsed() < timeouts.connect + MS);
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
        let error = near.read_exact(&mut buf).await.expect_err("timed out");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= USER_TIMEOUT - MS && start.elapsed() < USER_TIMEOUT + SECOND);
        assert_eq!(
            near.write_all(b"x").await.expect_err("dead").kind(),
            ErrorKind::TimedOut
        );
        // The acknowledgement of "hello" was lost, so the other sender has timed out as well.
        let error = far.read_exact(&mut buf).await.expect_err("timed out");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(world.counters().get("link.user_timeout"), Some(&2));
    });
}

#[test]
fn a_reader_does_not_notice_a_partition() {
    two(1, |world, a, b| async move {
        let (mut near, far) = connect(world, a, b).await;
        world.partition(ip(1), ip(2));
        let waited = time::timeout(600 * SECOND, near.read_u8()).await;
        assert!(waited.is_err(), "half-open for ever: {waited:?}");
        drop(far);
    });
}

#[test]
fn a_healed_link_delivers_within_a_second_and_in_order() {
    for seed in 0..30 {
        for block in [Block::Cut, Block::Clog] {
            two(seed, move |world, a, b| async move {
                let (mut near, mut far) = connect(world, a, b).await;
                let sent: Vec<u8> = (0..200).collect();
                // A part is in flight when the link is blocked.
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
                    .expect("the part that arrived before");
                world.heal(ip(1), ip(2));
                let start = time::now();
                let mut rest = vec![0; 150];
                far.read_exact(&mut rest).await.expect("all of it");
                assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
                received.append(&mut rest);
                assert_eq!(received, sent);
                far.write_all(b"ok").await.expect("writable");
                near.read_u16().await.expect("received");
            });
        }
    }
}

#[test]
fn connecting_over_a_partition_times_out_and_succeeds_after_healing() {
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
        assert_eq!(result.expect_err("no answer").kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= sim::CONNECT_TIMEOUT);
        let connecting = world.spawn_on(a, "connect", Stream::connect(addr));
        time::sleep(5 * SECOND).await;
        world.heal_both(ip(1), ip(2));
        let healed = time::now();
        connecting.await.expect("it ends").expect("connected");
        assert!(healed.elapsed() < 1_100 * MS, "{:?}", healed.elapsed());
        // The kernel of a dead process refuses; a machine without power does not answer.
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
fn a_kill_closes_or_resets_connections_at_once() {
    let mut ends = 0;
    let mut resets = 0;
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
fn connections_to_a_machine_without_power_are_reset_after_its_restart() {
    two(1, |world, a, b| async move {
        let (mut near, _far) = connect(world, a, b).await;
        world.power_off(b);
        assert!(
            time::timeout(60 * SECOND, near.read_u8()).await.is_err(),
            "silence"
        );
        near.write_all(b"are you there?")
            .await
            .expect("there is room in the buffer");
        assert!(
            time::timeout(5 * SECOND, near.read_u8()).await.is_err(),
            "still silence"
        );
        world.restart(b);
        let start = time::now();
        let error = near.read_u8().await.expect_err("it has no such connection");
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
            "half-open"
        );
        far.write_all(b"x").await.expect("half-open");
        assert_eq!(
            far.read_u8().await.expect_err("reset").kind(),
            ErrorKind::ConnectionReset
        );
        drop((near, far));
        assert_eq!(world.connections(), 0, "no connection is left");

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

/// Sends a counted sequence in both directions between two nodes while `disturb` runs. Checks that
/// the received bytes are a prefix of the sent ones, and returns their numbers.
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
fn every_byte_arrives_once_and_in_order_in_spite_of_short_outages() {
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
                    // Shorter than a sender's timeout.
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
fn a_broken_connection_has_delivered_a_prefix() {
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
            assert_eq!(world.connections(), 0, "no connection is left");
            received
        });
        broken += u32::from(received != [400_000; 2]);
    }
    assert!(broken >= 90, "{broken} of 100 were broken");
}

#[test]
fn an_idle_network_costs_nothing() {
    two(1, |world, a, b| async move {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let (near, far) = connect(world, a, b).await;
            for (node, mut stream) in [(a, near), (b, far)] {
                streams.push(world.spawn_on(node, "idle", async move {
                    // HTTP/2 flushes at every poll.
                    alys_runtime::select! {
                        read = stream.read_u8() => drop(read),
                        () = async { pending::<()>().await } => {}
                    }
                }));
            }
        }
        time::sleep(SECOND).await;
        let events = world.events();
        let polls = world.polls();
        time::sleep(10_000 * SECOND).await;
        assert_eq!((world.events(), world.polls()), (events, polls));
        assert!(streams.iter().all(|stream| !stream.is_finished()));
    });
}
