//! Restart delays, circuit breakers, and the limits whose excess is a failure.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use alys_actor_system::{
    AskError, Backoff, Breaker, ChildSpec, Exhausted, Health, Reason, Restart, RestartDelay,
    SendError, Snapshot, State, Strategy, Supervisor, SupervisorSpec, SystemEvent, TellError,
};
use alys_runtime::time;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, poll};

use crate::{doer::*, kit::*};

const SHORT: Duration = Duration::from_millis(20);

fn events(world: &World) -> Arc<Events> {
    world.system.extension()
}

/// The delay of the next restart; true if it comes from an open breaker.
async fn restart(events: &Events) -> (Duration, bool) {
    match events.next().await {
        SystemEvent::Restarting {
            path,
            reason,
            delay,
            is_open,
        } => {
            assert_eq!(
                (&*path, &*reason),
                ("world/s/a", "error while handling fail: told to fail")
            );
            (delay, is_open)
        }
        other => panic!("{other:?}"),
    }
}

fn growing(initial: Duration) -> Backoff {
    Backoff {
        initial,
        max: initial * 3,
        factor: 2.0,
        jitter: 0.0,
    }
}

fn breaker(failures: usize, open_for: Duration) -> Breaker {
    Breaker {
        failures,
        within: LONG,
        open_for: growing(open_for),
        proved_after: LONG,
    }
}

#[test]
fn a_child_restarts_after_its_own_delay() {
    run(async {
        for (pace, delays) in [
            (RestartDelay::Immediate, [0, 0, 0]),
            (RestartDelay::Delayed(SHORT), [20, 20, 20]),
            (RestartDelay::Backoff(growing(SHORT)), [20, 40, 60]),
        ] {
            let world = World::new();
            let supervisor = world.supervisor("s", Strategy::OneForOne, 3, None);
            let events = events(&world);
            let doing = doer_as(&supervisor, ChildSpec::new("a").restart_delay(pace), 8);
            for delay in delays {
                let begun = time::now();
                doing.addr.tell(fails()).unwrap();
                assert_eq!(
                    restart(&events).await,
                    (Duration::from_millis(delay), false),
                    "{pace:?}"
                );
                doing.settled().await;
                assert!(time::now() - begun >= Duration::from_millis(delay));
            }
            world.end().await;
        }
    });
}

#[test]
fn an_open_breaker_refuses_askers_and_waiting_senders_at_once() {
    in_world(|world| async move {
        // The intensity is zero, because restarts by a breaker do not count towards it.
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let events = events(&world);
        let pace = RestartDelay::CircuitBreaker(breaker(3, LONG * 100));
        let doing = doer_as(&supervisor, ChildSpec::new("a").restart_delay(pace), 1);
        for _ in 0..2 {
            doing.addr.send(fails()).await.unwrap();
            assert_eq!(restart(&events).await, (Duration::ZERO, false));
            doing.settled().await;
        }
        let gate = doing.hold().await;
        doing.addr.tell(fails()).unwrap();
        let mut first = Box::pin(doing.addr.send(note(1)));
        let mut second = Box::pin(doing.addr.send(note(2)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        gate.open();
        assert_eq!(restart(&events).await, (LONG * 100, true));
        assert!(matches!(
            doing.addr.tell(note(3)),
            Err(TellError::Unavailable(_))
        ));
        for waited in [first, second] {
            let told = time::timeout(LONG, waited).await.unwrap();
            assert!(matches!(told, Err(SendError::Unavailable(_))), "{told:?}");
        }
        let asked = doing.addr.ask(answering(0), LONG).await;
        assert_eq!(asked, Err(AskError::Unavailable { kind: "answer" }));
        assert_eq!(
            asked.unwrap_err().to_string(),
            "answer: circuit breaker open"
        );
        world.reaches("s/a", State::Backoff).await;
        let child = world.child("s/a");
        assert_eq!(child.health, Health::Unhealthy("waits for a restart"));
        assert_eq!(
            world.system.health(),
            Health::Degraded("waits for a restart")
        );
    });
}

#[test]
fn an_opening_breaker_wakes_all_senders_that_wait_for_room() {
    supervised(0, |world, supervisor| async move {
        const CAPACITY: u64 = 8;
        const OPEN: Duration = Duration::from_secs(1);
        let events = events(&world);
        let pace = RestartDelay::CircuitBreaker(breaker(1, OPEN));
        let spec = ChildSpec::new("a").restart_delay(pace);
        let doing = doer_as(&supervisor, spec, CAPACITY as usize);
        let gate = doing.hold().await;
        doing.addr.tell(fails()).unwrap();
        for n in 1..CAPACITY {
            doing.addr.tell(note(n)).unwrap();
        }
        // Polled once, and again only when woken. The single place that the failing message leaves
        // admits none of them.
        let mut waiting: FuturesUnordered<_> = (0..3).map(|n| doing.addr.send(note(n))).collect();
        assert!(poll!(waiting.next()).is_pending());
        gate.open();
        assert_eq!(restart(&events).await, (OPEN, true));
        for _ in 0..3 {
            let told = time::timeout(LONG, waiting.next()).await.unwrap();
            assert!(
                matches!(told, Some(Err(SendError::Unavailable(_)))),
                "{told:?}"
            );
        }
        doing.log.wait_for("a", "7").await;
    });
}

#[test]
fn a_breaker_retries_and_stays_open_for_longer_each_time() {
    supervised(0, |world, supervisor| async move {
        let events = events(&world);
        let pace = RestartDelay::CircuitBreaker(breaker(1, SHORT));
        let doing = doer_as(&supervisor, ChildSpec::new("a").restart_delay(pace), 8);
        for delay in [20, 40, 60, 60] {
            send_when_open(&doing, fails).await;
            assert_eq!(restart(&events).await, (Duration::from_millis(delay), true));
        }
        send_when_open(&doing, || note(1)).await;
        doing.log.wait_for("a", "1").await;
    });
}

/// Sends as soon as the breaker is no longer open.
async fn send_when_open(doing: &Doing, make: impl Fn() -> Job) {
    while doing.addr.send(make()).await.is_err() {
        time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn an_opening_breaker_returns_the_room_granted_to_waiting_senders() {
    supervised(0, |world, supervisor| async move {
        let pace = RestartDelay::CircuitBreaker(breaker(1, Duration::from_secs(1)));
        let doing = doer_as(&supervisor, ChildSpec::new("a").restart_delay(pace), 1);
        let gate = doing.hold().await;
        doing.addr.tell(fails()).unwrap();
        // The sender is granted room when the failing message is taken out, but is not polled
        // before the breaker opens.
        let mut admitted = Box::pin(doing.addr.send(note(1)));
        assert!(poll!(&mut admitted).is_pending());
        gate.open();
        world
            .wait("the open breaker", |_| {
                matches!(doing.addr.tell(note(2)), Err(TellError::Unavailable(_)))
            })
            .await;
        assert!(matches!(admitted.await, Err(SendError::Unavailable(_))));
        send_when_open(&doing, || note(3)).await;
        doing.log.wait_for("a", "3").await;
        let gate = time::timeout(LONG, doing.hold()).await.unwrap();
        doing.addr.tell(note(4)).unwrap();
        gate.open();
        doing.log.wait_for("a", "4").await;
    });
}

#[test]
fn an_open_breaker_closes_the_mailbox_of_its_own_actor_and_of_no_sibling() {
    in_world(|world| async move {
        let supervisor = world.supervisor("s", Strategy::OneForAll, 0, None);
        let events = events(&world);
        let first = doer(&supervisor, "first", 8);
        let spec =
            ChildSpec::new("a").restart_delay(RestartDelay::CircuitBreaker(breaker(1, 5 * SHORT)));
        let doing = doer_in(&first.log, &supervisor, spec, 8);
        first.settled().await;
        doing.settled().await;
        // The breaker is open while the restart waits for the sibling to stop.
        let gate = first.hold().await;
        doing.addr.tell(fails()).unwrap();
        assert!(restart(&events).await.1);
        assert!(matches!(
            doing.addr.tell(note(1)),
            Err(TellError::Unavailable(_))
        ));
        gate.open();
        world.reaches("s/a", State::Backoff).await;
        assert!(matches!(
            doing.addr.tell(note(2)),
            Err(TellError::Unavailable(_))
        ));
        first.addr.tell(note(3)).unwrap();
        send_when_open(&doing, || note(4)).await;
        first.log.wait_for("first", "3").await;
        first.log.wait_for("a", "4").await;
    });
}

#[test]
fn a_shutdown_does_not_shorten_a_restart_delay() {
    run(async {
        let world = World::new();
        let backoff = Backoff {
            initial: LONG,
            max: LONG,
            factor: 1.0,
            jitter: 0.0,
        };
        let spec = SupervisorSpec {
            backoff,
            ..SupervisorSpec::new("s", Strategy::OneForAll)
        };
        let supervisor = world.system.supervisor(spec).unwrap();
        let first = doer(&supervisor, "first", 8);
        let [failed, last] = ["failed", "last"]
            .map(|name| doer_in(&first.log, &supervisor, ChildSpec::new(name), 8));
        for doing in [&first, &failed, &last] {
            doing.settled().await;
        }
        failed.addr.tell(fails()).unwrap();
        world.reaches("s/failed", State::Backoff).await;
        for doing in [&failed, &last] {
            doing.addr.tell(note(1)).unwrap();
        }
        let report = world.system.shutdown(LONG).await;
        // `last` has no delay of its own, so it starts and handles its queue.
        assert_eq!(
            (failed.log.notes("failed"), failed.log.notes("last")),
            (vec![], vec![1])
        );
        let left: Vec<_> = report
            .abandoned
            .iter()
            .map(|left| (&*left.actor, left.messages))
            .collect();
        assert_eq!(left, [("world/s/failed", 1)]);
    });
}

fn degrading(world: &World, name: &str, intensity: usize) -> Supervisor {
    let spec = SupervisorSpec {
        intensity: restarts(intensity),
        backoff: fast(),
        exhausted: Exhausted::Degrade,
        ..SupervisorSpec::new(name, Strategy::OneForOne)
    };
    world.system.supervisor(spec).unwrap()
}

#[test]
fn a_supervisor_that_degrades_gives_up_the_child_and_runs_on() {
    in_world(|world| async move {
        let supervisor = degrading(&world, "s", 1);
        let events = events(&world);
        let (a, b) = (doer(&supervisor, "a", 8), doer(&supervisor, "b", 8));
        b.settled().await;
        a.settled().await;
        assert_eq!(world.system.health(), Health::Healthy);
        a.addr.tell(fails()).unwrap();
        restart(&events).await;
        a.addr.send(fails()).await.unwrap();
        let given_up = events.next().await;
        assert_eq!(
            given_up,
            SystemEvent::GivenUp {
                path: "world/s/a".into()
            }
        );
        a.addr.closed().await;
        b.settled().await;
        world
            .wait("the end of a", |snapshot| {
                snapshot.find("s/a").unwrap().state == State::Failed
            })
            .await;
        assert_eq!(world.system.health(), Health::Degraded("failed for good"));
        assert!(world.system.failed().now_or_never().is_none());
    });
}

#[test]
fn a_supervisor_that_is_given_up_shows_as_failed() {
    in_world(|world| async move {
        let upper = degrading(&world, "upper", 0);
        let lower = world.supervisor("lower", Strategy::OneForOne, 0, Some(&upper));
        let events = events(&world);
        let (a, b) = (doer(&lower, "a", 8), doer(&upper, "b", 8));
        a.settled().await;
        a.addr.tell(fails()).unwrap();
        let given_up = events.next().await;
        assert_eq!(
            given_up,
            SystemEvent::GivenUp {
                path: "world/upper/lower".into()
            }
        );
        time::timeout(LONG, a.addr.closed())
            .await
            .expect("its child is there for ever");
        let failed = |tree: &Snapshot| tree.find("upper/lower").unwrap().state == State::Failed;
        world.wait("the end of lower", failed).await;
        b.settled().await;
        assert_eq!(world.system.health(), Health::Degraded("failed for good"));
    });
}

#[test]
fn a_temporary_child_is_given_up() {
    supervised(0, |world, supervisor| async move {
        let events = events(&world);
        let spec = ChildSpec::new("a").restart(Restart::Temporary);
        let doing = doer_as(&supervisor, spec, 8);
        doing.addr.tell(fails()).unwrap();
        let given_up = events.next().await;
        assert_eq!(
            given_up,
            SystemEvent::GivenUp {
                path: "world/s/a".into()
            }
        );
        doing.addr.closed().await;
    });
}

#[test]
fn a_handler_that_waits_too_long_is_cut_off_and_the_queue_is_kept() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let spec = ChildSpec::new("a").handle_timeout(SHORT);
        let doing = doer_as(&supervisor, spec, 8);
        doing.addr.tell(Job::new("hang", 0, Act::Hang)).unwrap();
        doing.addr.tell(note(1)).unwrap();
        doing.settled().await;
        let child = world.child("s/a");
        assert_eq!(
            child.last_error.as_deref(),
            Some("hung while handling hang: not done after 20ms")
        );
        assert_eq!((child.restarts, child.mailbox.unwrap().interrupted), (1, 1));
        assert_eq!(doing.log.notes("a"), [1]);
        assert_eq!(world.system.dead_letters().of(Reason::Interrupted), 1);
        world.end().await;

        // Without a limit no handler is cut off; with one, short waits add up.
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let free = doer_as(&supervisor, ChildSpec::new("a").handle_timeout(None), 8);
        let limited = ChildSpec::new("b").handle_timeout(SHORT);
        let limited = doer_as(&supervisor, limited, 8);
        let naps = || {
            run_in("naps", |_| {
                async {
                    for _ in 0..40 {
                        time::sleep(Duration::from_millis(1)).await;
                    }
                    Ok(())
                }
                .boxed()
            })
        };
        free.addr.tell(naps()).unwrap();
        limited.addr.tell(naps()).unwrap();
        free.settled().await;
        limited.settled().await;
        let snapshot = world.system.snapshot();
        assert_eq!(snapshot.find("s/a").unwrap().restarts, 0);
        assert_eq!(snapshot.find("s/b").unwrap().restarts, 1);
        world.end().await;
    });
}

#[test]
fn an_actor_over_its_memory_budget_fails() {
    supervised(9, |world, supervisor| async move {
        let spec = ChildSpec::new("a").memory_budget(500);
        let doing = doer_as(&supervisor, spec, 8);
        let holds = |bytes| {
            let plan = doing.plan.clone();
            Job::run("holds", async move {
                plan.memory.store(bytes, SeqCst);
                Ok(())
            })
        };
        doing.addr.tell(holds(492)).unwrap();
        doing.addr.tell(note(1)).unwrap();
        doing.log.wait_for("a", "1").await;
        doing.addr.tell(holds(501)).unwrap();
        doing.log.wait_for("a", "post_restart").await;
        let error = || world.child("s/a").last_error.clone().unwrap();
        assert_eq!(error(), "holds 501 bytes, 500 are allowed");

        doing.plan.memory.store(0, SeqCst);
        let gate = doing.hold().await;
        doing.addr.tell(note(3).size(300)).unwrap();
        doing.addr.tell(note(4).size(300)).unwrap();
        gate.open();
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [1, 3, 4]);
    });
}
