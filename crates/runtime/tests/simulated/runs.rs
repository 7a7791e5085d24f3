//! Determinism, the trace, and the result of a run.

use super::*;

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

/// A busy world: two nodes that communicate, write to disk, draw random numbers and suffer faults.
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
                    // Not `biased`, because tokio's order of polling the branches must follow the
                    // seed as well.
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
    finished.result.expect("the run succeeds");
    finished.trace_hash
}

/// Runs one seed in a process of its own, because tokio's `select!` draws from a process-wide
/// counter.
fn busy_in_a_process(seed: u64) -> String {
    let output = std::process::Command::new(std::env::current_exe().expect("it runs"))
        .args([
            "--exact",
            "runs::prints_the_hash_of_a_seed",
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
fn the_seed_determines_the_run() {
    let one = busy_in_a_process(1);
    assert_eq!(one, busy_in_a_process(1));
    assert_ne!(one, busy_in_a_process(2));
}

#[test]
fn events_are_reported_to_sinks_and_faults_counted() {
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
fn a_failed_run_returns_the_message() {
    let panics = sim::try_run(Options::new(1), |_| async {
        assert!(time::now().elapsed() > SECOND, "time limit exceeded: no")
    });
    assert_eq!(panics.result, Err("time limit exceeded: no".to_owned()));
    assert!(!panics.is_out_of_time, "the text of a panic does not count");
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
    assert!(endless.is_out_of_time);
    let error: Result<std::convert::Infallible, String> = endless.result;
    assert!(error.expect_err("it never ends").contains("time limit"));
    let in_a_node = sim::try_run(Options::new(1), |world| async move {
        world.node("a", ip(1), || async { panic!("in a node") });
        time::sleep(SECOND).await;
    });
    assert_eq!(in_a_node.result, Err("in a node".to_owned()));
}
