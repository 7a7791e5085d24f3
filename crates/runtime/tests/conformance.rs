//! The guarantees of the seam, checked by the same code on both implementations.
//!
//! In simulation each check runs on many seeds, with two machines and a slow, lossy link between
//! them; in production it runs once, over the loopback interface and a temporary directory.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use alys_runtime::disk::Dir;
use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::{Listener, Stream};
use alys_runtime::sync::oneshot;
use alys_runtime::{clock, disk, rand, spawn, time};

const MS: Duration = Duration::from_millis(1);

/// Runs a check on the compiled implementation.
fn check<F>(check: impl Fn() -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    #[cfg(not(madsim))]
    alys_runtime::block_on_main(check());
    #[cfg(madsim)]
    {
        let check = Arc::new(check);
        for seed in 0..20 {
            let check = check.clone();
            simulated::run(seed, move |world, client, _| async move {
                world
                    .spawn_on(client, "check", check())
                    .await
                    .expect("the check ends");
            });
        }
    }
}

/// Runs a server and a client, in simulation on machines of their own.
fn check_streams<S, C>(
    server: impl Fn(Listener) -> S + Send + Sync + 'static,
    client: impl Fn(SocketAddr) -> C + Send + Sync + 'static,
) where
    S: Future<Output = ()> + Send + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    #[cfg(not(madsim))]
    alys_runtime::block_on_main(async move {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into())
            .await
            .expect("a free port");
        let addr = listener.local_addr();
        let serving = spawn("server", server(listener));
        client(addr).await;
        serving.await.expect("the server ends");
    });
    #[cfg(madsim)]
    {
        let (server, client) = (Arc::new(server), Arc::new(client));
        for seed in 0..20 {
            let (server, client) = (server.clone(), client.clone());
            simulated::run(seed, move |world, near, far| async move {
                let (send_addr, addr) = oneshot::channel();
                let ip = world.ip(far);
                let serving = world.spawn_on(far, "server", async move {
                    let listener = Listener::bind(([0, 0, 0, 0], 0).into())
                        .await
                        .expect("a free port");
                    let _ = send_addr.send(SocketAddr::new(ip, listener.local_addr().port()));
                    server(listener).await;
                });
                let addr = addr.await.expect("the server listens");
                world
                    .spawn_on(near, "client", client(addr))
                    .await
                    .expect("the client ends");
                serving.await.expect("the server ends");
            });
        }
    }
}

#[cfg(madsim)]
mod simulated {
    use super::*;
    use alys_runtime::sim::{Link, NodeId, Options, World};

    /// Two machines with a bad link that breaks no connection.
    pub fn run<F>(seed: u64, drive: impl FnOnce(World, NodeId, NodeId) -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        alys_runtime::sim::run(Options::new(seed), move |world| {
            world.set_default_link(Link {
                loss_ppm: 5_000,
                partial_ppm: 300_000,
                window: if seed.is_multiple_of(2) {
                    70_000
                } else {
                    300_000
                },
                ..Link::default()
            });
            let near = world.node("near", [10, 0, 0, 1].into(), std::future::pending);
            let far = world.node("far", [10, 0, 0, 2].into(), std::future::pending);
            drive(world, near, far)
        });
    }
}

/// An empty directory that is removed at the end.
struct Scratch {
    dir: Dir,
    #[cfg(not(madsim))]
    _guard: tempfile::TempDir,
}

fn scratch() -> Scratch {
    #[cfg(not(madsim))]
    {
        let guard = tempfile::tempdir().expect("a temporary directory");
        let dir = Dir::open(guard.path().join("a/b")).expect("it can be opened");
        Scratch { dir, _guard: guard }
    }
    #[cfg(madsim)]
    Scratch {
        dir: Dir::open("/data/a/b").expect("it can be opened"),
    }
}

/// Bytes that reveal missing, duplicate or reordered ones.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

#[test]
fn a_stream_keeps_order_and_echoes() {
    check_streams(
        |listener| async move {
            let (mut stream, peer) = listener.accept().await.expect("a connection");
            assert_eq!(stream.peer_addr(), peer);
            let mut buf = [0; 1000];
            loop {
                let n = stream.read(&mut buf).await.expect("readable");
                if n == 0 {
                    break;
                }
                stream.write_all(&buf[..n]).await.expect("writable");
            }
            stream.shutdown().await.expect("an end can be sent");
        },
        |addr| async move {
            let stream = Stream::connect(addr).await.expect("connected");
            assert_eq!(stream.peer_addr(), addr);
            assert_ne!(stream.local_addr().port(), 0);
            let (mut read, mut write) = alys_runtime::io::split(stream);
            let sent = pattern(50_000);
            let sending = sent.clone();
            let writer = spawn("writer", async move {
                for part in sending.chunks(777) {
                    write.write_all(part).await.expect("writable");
                }
                write.shutdown().await.expect("an end can be sent");
            });
            let mut received = Vec::new();
            read.read_to_end(&mut received)
                .await
                .expect("readable to the end");
            assert!(received == sent, "what came back is what was sent");
            writer.await.expect("the writer ends");
        },
    );
}

#[test]
fn a_writer_blocks_while_the_reader_does_not_read() {
    // Exceeds the system's buffers and the largest simulated window.
    const LEN: usize = if cfg!(madsim) { 2 << 20 } else { 32 << 20 };
    check_streams(
        |listener| async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            time::sleep(300 * MS).await;
            let mut received = Vec::new();
            stream
                .read_to_end(&mut received)
                .await
                .expect("readable to the end");
            assert!(received == pattern(LEN), "all of it arrived in order");
        },
        |addr| async move {
            let sent = pattern(LEN);
            let started = time::now();
            let mut stream = Stream::connect(addr).await.expect("connected");
            stream.write_all(&sent).await.expect("writable");
            assert!(
                started.elapsed() >= 300 * MS,
                "so much does not fit into buffers"
            );
            stream.shutdown().await.expect("an end can be sent");
        },
    );
}

#[test]
fn a_shutdown_of_one_direction_leaves_the_other_open() {
    check_streams(
        |listener| async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = Vec::new();
            stream
                .read_to_end(&mut asked)
                .await
                .expect("readable to the end");
            stream
                .write_all(&asked.repeat(2))
                .await
                .expect("still writable");
        },
        |addr| async move {
            let mut stream = Stream::connect(addr).await.expect("connected");
            stream.write_all(b"half").await.expect("writable");
            stream.shutdown().await.expect("an end can be sent");
            let refused = stream
                .write_all(b"more")
                .await
                .expect_err("it said that it had ended");
            assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
            let mut answer = Vec::new();
            stream
                .read_to_end(&mut answer)
                .await
                .expect("readable to the end");
            assert_eq!(answer, b"halfhalf");
        },
    );
}

#[test]
fn a_dropped_stream_delivers_written_bytes() {
    check_streams(
        |listener| async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut received = Vec::new();
            stream
                .read_to_end(&mut received)
                .await
                .expect("readable to the end");
            assert!(received == pattern(40_000), "all of it arrived");
        },
        |addr| async move {
            let mut stream = Stream::connect(addr).await.expect("connected");
            stream.write_all(&pattern(40_000)).await.expect("writable");
        },
    );
}

#[test]
fn writing_to_a_closed_peer_fails_eventually() {
    check_streams(
        |listener| async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            drop(stream);
        },
        |addr| async move {
            let mut stream = Stream::connect(addr).await.expect("connected");
            let writing = async {
                loop {
                    if let Err(error) = stream.write_all(&[7; 100]).await {
                        return error.kind();
                    }
                    time::sleep(10 * MS).await;
                }
            };
            let kind = time::timeout(Duration::from_secs(10), writing)
                .await
                .expect("an error comes");
            assert!(
                matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                "{kind:?}"
            );
        },
    );
}

#[test]
fn unread_input_resets_the_connection_when_it_is_dropped() {
    check_streams(
        |listener| async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut first = [0];
            stream.read_exact(&mut first).await.expect("readable");
            // The remaining bytes have arrived by now.
            time::sleep(3_000 * MS).await;
        },
        |addr| async move {
            let mut stream = Stream::connect(addr).await.expect("connected");
            stream.write_all(&[1; 100]).await.expect("writable");
            let mut buf = [0];
            let error = stream.read(&mut buf).await.expect_err("not a regular end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        },
    );
}

#[test]
fn connecting_to_a_port_without_a_listener_is_refused() {
    check_streams(
        |listener| async move { drop(listener) },
        |addr| async move {
            // A server that is still closing may accept the connection and end it without a byte.
            time::sleep(1_000 * MS).await;
            let error = Stream::connect(addr).await.expect_err("no listener");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        },
    );
}

#[test]
fn many_connections_are_all_served() {
    const N: u32 = 50;
    check_streams(
        |listener| async move {
            let mut serving = Vec::new();
            for _ in 0..N {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                serving.push(spawn("serve", async move {
                    let n = stream.read_u32().await.expect("a number");
                    stream.write_u32(n + 1).await.expect("writable");
                    n
                }));
            }
            let mut numbers = Vec::new();
            for task in serving {
                numbers.push(task.await.expect("served"));
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..N).collect::<Vec<_>>());
        },
        |addr| async move {
            let asking: Vec<_> = (0..N)
                .map(|n| {
                    spawn("ask", async move {
                        let mut stream = Stream::connect(addr).await.expect("connected");
                        stream.write_u32(n).await.expect("writable");
                        assert_eq!(stream.read_u32().await.expect("an answer"), n + 1);
                    })
                })
                .collect();
            for task in asking {
                task.await.expect("answered");
            }
        },
    );
}

#[test]
fn a_port_belongs_to_one_listener_until_it_is_dropped() {
    check(|| async {
        let first = Listener::bind(([127, 0, 0, 1], 0).into())
            .await
            .expect("a free port");
        let addr = first.local_addr();
        assert_ne!(addr.port(), 0);
        let error = Listener::bind(addr).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(first);
        Listener::bind(addr).await.expect("free again");
        let error = Listener::bind(([203, 0, 113, 7], 0).into())
            .await
            .expect_err("not ours");
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    });
}

#[test]
fn timers_fire_in_order_and_never_early() {
    check(|| async {
        let started = time::now();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks: Vec<_> = [30u32, 10, 20]
            .into_iter()
            .map(|ms| {
                let order = order.clone();
                spawn("timer", async move {
                    time::sleep(ms * 10 * MS).await;
                    order.lock().expect("not poisoned").push(ms);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it ends");
        }
        assert_eq!(*order.lock().expect("not poisoned"), [10, 20, 30]);
        assert!(started.elapsed() >= 300 * MS);
    });
}

#[test]
fn a_timer_can_be_reset_and_polled_repeatedly() {
    check(|| async {
        let started = time::now();
        let mut sleep = time::sleep(Duration::from_secs(3600));
        for _ in 0..1000 {
            alys_runtime::select! {
                biased;
                () = &mut sleep => panic!("an hour has not passed"),
                () = std::future::ready(()) => {}
            }
        }
        assert!(!sleep.is_elapsed());
        sleep.reset(started + 50 * MS);
        assert_eq!(sleep.deadline(), started + 50 * MS);
        (&mut sleep).await;
        assert!(sleep.is_elapsed() && started.elapsed() >= 50 * MS);
        assert!(started.elapsed() < Duration::from_secs(60));
        time::sleep_until(started).await;
    });
}

#[test]
fn a_timeout_ends_only_futures_that_take_too_long() {
    check(|| async {
        let started = time::now();
        let elapsed = time::timeout(50 * MS, std::future::pending::<()>())
            .await
            .expect_err("never ready");
        assert_eq!(elapsed.after, 50 * MS);
        assert!(started.elapsed() >= 50 * MS);
        assert_eq!(time::timeout(Duration::MAX, async { 7 }).await, Ok(7));
        assert_eq!(time::timeout(Duration::ZERO, async { 8 }).await, Ok(8));
    });
}

#[test]
fn an_interval_keeps_its_schedule_and_skips_missed_ticks() {
    check(|| async {
        let started = time::now();
        let mut interval = time::interval(20 * MS);
        for n in 1..=3 {
            interval.tick().await;
            assert!(started.elapsed() >= n * 20 * MS);
        }
        time::sleep(200 * MS).await;
        let resumed = time::now();
        interval.tick().await;
        interval.tick().await;
        interval.tick().await;
        assert!(
            resumed.elapsed() >= 20 * MS,
            "only one missed tick comes at once"
        );
    });
}

struct CountsDrop(Arc<AtomicU32>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_aborted_task_runs_its_destructors_and_reports_the_abort() {
    check(|| async {
        let drops = Arc::new(AtomicU32::new(0));
        let guard = CountsDrop(drops.clone());
        let task = spawn("stuck", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        alys_runtime::yield_now().await;
        assert!(!task.is_finished());
        task.abort();
        let error = task.await.expect_err("aborted");
        assert_eq!(error, alys_runtime::JoinError::Aborted { name: "stuck" });
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_task_continues_when_its_handle_is_dropped() {
    check(|| async {
        let (done, is_done) = oneshot::channel();
        drop(spawn("free", async move {
            time::sleep(20 * MS).await;
            let _ = done.send(5);
        }));
        assert_eq!(is_done.await, Ok(5));
        let task = spawn("value", async { 6 });
        assert_eq!(task.await, Ok(6));
    });
}

#[test]
fn blocking_and_parallel_work_return_results_in_order() {
    check(|| async {
        assert_eq!(alys_runtime::blocking(|| 3), 3);
        let squares = alys_runtime::par_map(0..1000u64, |n| n * n);
        assert_eq!(squares, (0..1000).map(|n| n * n).collect::<Vec<u64>>());
    });
}

#[test]
fn offloaded_work_returns_its_result_in_both_lanes() {
    check(|| async {
        for lane in [alys_runtime::Lane::Short, alys_runtime::Lane::Long] {
            let results: Vec<_> = (0..8u64)
                .map(|n| spawn("caller", alys_runtime::offload(lane, move || n * n)))
                .collect();
            for (n, result) in (0..8u64).zip(results) {
                assert_eq!(result.await.expect("no panic"), Ok(n * n));
            }
        }
    });
}

/// Counts its polls.
struct Counted<F>(F, Arc<AtomicU32>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll(cx)
    }
}

#[test]
fn repeated_polls_of_a_timer_cause_no_further_wake_ups() {
    check(|| async {
        let polls = Arc::new(AtomicU32::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        // Room for all pokes: on a busy machine the timer may end before the last of them.
        let (poke, mut poked) = alys_runtime::sync::mpsc::channel::<()>(30);
        let counted = Counted(
            Box::pin(async move {
                let mut sleep = time::sleep(100 * MS);
                loop {
                    alys_runtime::select! {
                        biased;
                        () = &mut sleep => break,
                        Some(()) = poked.recv() => {}
                    }
                }
                over.store(true, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }),
            polls.clone(),
        );
        let task = spawn("waiter", counted);
        for _ in 0..30 {
            poke.try_send(()).expect("there is room for all");
            alys_runtime::yield_now().await;
        }
        time::sleep(200 * MS).await;
        let ended = time::timeout(20_000 * MS, async {
            while !is_over.load(Ordering::SeqCst) {
                time::sleep(10 * MS).await;
            }
        });
        assert!(ended.await.is_ok());
        let polled = polls.load(Ordering::SeqCst);
        assert!(
            polled <= 33,
            "{polled} polls for 30 pokes, a start and an end"
        );
        task.abort();
    });
}

#[test]
fn random_bytes_differ_and_random_numbers_stay_in_bounds() {
    check(|| async {
        let mut bytes = [0; 100];
        rand::fill(&mut bytes);
        assert!(bytes.iter().any(|byte| *byte != 0));
        assert_ne!(rand::u64(), rand::u64());
        let mut seen = [false; 6];
        for _ in 0..1000 {
            seen[rand::below(6) as usize] = true;
        }
        assert_eq!(seen, [true; 6]);
        assert_eq!((rand::below(0), rand::below(1)), (0, 0));
    });
}

#[test]
fn the_wall_clock_advances_with_the_monotonic_one() {
    check(|| async {
        let (wall, start) = (clock::wall_ms(), time::now());
        assert!(wall > 1_600_000_000_000, "{wall} is after 2020");
        time::sleep(100 * MS).await;
        let (passed, elapsed) = (clock::wall_ms() - wall, start.elapsed().as_millis() as u64);
        assert!(
            passed.abs_diff(elapsed) <= 50,
            "{passed} ms on the wall, {elapsed} ms elapsed"
        );
    });
}

#[test]
fn files_read_back_as_written() {
    check(|| async {
        let scratch = scratch();
        let file = scratch.dir.file("data").expect("opened");
        file.write_at(50, b"").expect("nothing written");
        assert_eq!(file.len().expect("a length"), 0);
        file.write_at(1000, b"hello").expect("written");
        file.write_at(2, b"abc").expect("written");
        assert_eq!(file.len().expect("a length"), 1005);
        let mut buf = [9; 7];
        file.read_at(0, &mut buf).expect("read");
        assert_eq!(&buf, b"\0\0abc\0\0");
        file.read_at(998, &mut buf).expect("read");
        assert_eq!(&buf, b"\0\0hello");
        let error = file.read_at(999, &mut buf).expect_err("past the end");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        file.set_len(3).expect("cut");
        file.set_len(6).expect("lengthened");
        file.sync().expect("synced");
        assert_eq!(
            scratch.dir.read("data").expect("read"),
            Some(b"\0\0a\0\0\0".to_vec())
        );
        drop(file);
        let again = scratch.dir.file("data").expect("opened again");
        assert_eq!(again.len().expect("a length"), 6);
        disk::settle().await;
    });
}

#[test]
fn directories_list_their_names() {
    check(|| async {
        let Scratch { dir, .. } = &scratch();
        assert_eq!(dir.list().expect("listed"), Vec::<String>::new());
        dir.write_atomic("b", b"1").expect("written");
        dir.write_atomic("b", b"two").expect("written again");
        dir.write_atomic_private("a", b"secret").expect("written");
        dir.sub("c")
            .expect("made")
            .write_atomic("x", b"")
            .expect("written");
        assert_eq!(dir.list().expect("listed"), ["a", "b", "c"]);
        assert_eq!(dir.read("b").expect("read"), Some(b"two".to_vec()));
        assert_eq!(dir.read("missing").expect("read"), None);
        assert!(dir.exists("c").expect("looked") && !dir.exists("d").expect("looked"));
        assert_eq!(
            dir.sub("c").expect("opened").read("x").expect("read"),
            Some(Vec::new())
        );
        dir.remove("b").expect("removed");
        dir.remove("b").expect("removing nothing is fine");
        assert_eq!(dir.list().expect("listed"), ["a", "c"]);
        let other = Dir::open(dir.path()).expect("the same by its path");
        assert_eq!(other.list().expect("listed"), ["a", "c"]);
        for name in ["", ".", "..", "a/b", "x.tmp~"] {
            assert_eq!(
                dir.file(name).expect_err("not a name").kind(),
                ErrorKind::InvalidInput,
                "{name:?}"
            );
        }
        assert!(dir.file("c").is_err(), "a directory is not a file");
    });
}

#[test]
fn a_directory_has_one_lock() {
    check(|| async {
        let Scratch { dir, .. } = &scratch();
        let lock = dir.lock().expect("locked");
        let error = dir.lock().expect_err("held");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().contains("in use"), "{error}");
        drop(lock);
        dir.lock().expect("free again");
    });
}

#[cfg(not(madsim))]
#[test]
fn private_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let Scratch { dir, .. } = &scratch();
    dir.write_atomic_private("key", b"secret").expect("written");
    let mode = std::fs::metadata(dir.path().join("key"))
        .expect("it exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Signals a child process, as an operator does.
#[cfg(not(madsim))]
#[test]
fn both_signals_request_a_shutdown() {
    use alys_runtime::signal::{Shutdown, shutdown};
    use std::io::{BufRead, BufReader};

    if std::env::var_os("WAITS_FOR_SIGNAL").is_some() {
        let ended_by = alys_runtime::block_on_main(async {
            let mut waiting = Box::pin(shutdown());
            assert!(futures::poll!(&mut waiting).is_pending());
            println!("\nREADY");
            waiting.await
        });
        println!("\nENDED={ended_by:?}");
        return;
    }
    for (signal, expected) in [
        ("-INT", Shutdown::Interrupt),
        ("-TERM", Shutdown::Terminate),
    ] {
        let mut child = std::process::Command::new(std::env::current_exe().expect("it runs"))
            .args([
                "--exact",
                "both_signals_request_a_shutdown",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("WAITS_FOR_SIGNAL", "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"))
            .lines()
            .map_while(Result::ok);
        assert!(lines.any(|line| line == "READY"));
        let sent = std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
        assert!(lines.any(|line| line == format!("ENDED={expected:?}")));
        assert!(
            child.wait().expect("it ends").success(),
            "it ended by itself"
        );
    }
}
