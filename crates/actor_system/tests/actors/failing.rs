//! Panics, errors, restarts and escalation.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use alys_actor_system::{
    AlysActor, AskError, ChildSpec, Context, Failure, Health, Message, Reply, Restart,
    RestartDelay, State, Strategy, TellError,
};
use alys_runtime::time;
use tracing::level_filters::LevelFilter;

use crate::{doer, errors, kit::*};

/// Queues three notes with `killer` between them before the actor handles any.
fn survives(killer: Told, reason: &'static str) {
    run(async move {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 1, None);
        let (addr, slot) = slot(8);
        for msg in [Told::Note(1), killer, Told::Note(2), Told::Note(3)] {
            addr.tell(msg).unwrap();
        }
        world.worker_as(&supervisor, ChildSpec::new("a"), slot);
        world.diary.wait_for("a", Event::Noted(3)).await;
        world.diary.wait_for("a", Event::Started(2)).await;
        settled(&addr).await;
        assert_eq!(world.diary.notes("a"), [1, 2, 3]);
        let starts = world
            .diary
            .of("a")
            .iter()
            .filter(|event| matches!(event, Event::Started(_)))
            .count();
        assert_eq!(
            starts, 2,
            "a killer that came back would have used up the intensity"
        );
        assert!(
            !world.diary.of("a").contains(&Event::Stopping),
            "a failed actor is not asked to stop orderly"
        );
        let child = world.child("s/a");
        assert_eq!(
            (child.state, child.restarts, child.incarnation),
            (State::Running, 1, 2)
        );
        assert_eq!(child.last_error.as_deref(), Some(reason));
        world.end().await;
    });
}

#[test]
fn a_panic_costs_the_incarnation_and_the_message_but_not_the_queue() {
    survives(Told::Panic, "panic while handling panic: told to panic");
}

#[test]
fn an_error_costs_the_incarnation_and_the_message_but_not_the_queue() {
    survives(Told::Fail, "error while handling fail: told to fail");
}

#[test]
fn a_panic_in_a_task_costs_the_incarnation_but_not_the_queue() {
    survives(
        Told::SpawnPanic,
        "panic in task panics: told to panic in a task",
    );
}

#[test]
fn a_failing_start_is_retried() {
    supervised(4, |world, supervisor| async move {
        let faults = Arc::new(Faults {
            factory_errors: 1.into(),
            factory_panics: 1.into(),
            start_errors: 1.into(),
            start_panics: 1.into(),
            ..Faults::default()
        });
        let addr = world.faulty_worker(&supervisor, ChildSpec::new("a"), 8, faults);
        addr.tell(Told::Note(1)).unwrap();
        world.diary.wait_for("a", Event::Started(5)).await;
        settled(&addr).await;
        assert_eq!(world.diary.notes("a"), [1]);
    });
}

#[test]
fn panics_in_stopped_and_in_drop_are_caught() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 2, None);
        let faults = Arc::new(Faults {
            drop_panics: 2.into(),
            stopping_panics: 2.into(),
            ..Faults::default()
        });
        let addr = world.faulty_worker(&supervisor, ChildSpec::new("a"), 8, faults);
        addr.tell(Told::Fail).unwrap();
        addr.tell(Told::End).unwrap();
        world.diary.wait_for("a", Event::Started(3)).await;
        let report = world.system.shutdown(LONG).await;
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        let failure = report.abandoned[0].failure.as_deref();
        assert_eq!(
            failure,
            Some("panic while stopping: told to panic while stopping")
        );
    });
}

#[test]
fn the_restart_delay_grows() {
    in_world(|world| async move {
        let supervisor = world
            .system
            .supervisor(alys_actor_system::SupervisorSpec {
                intensity: restarts(3),
                backoff: alys_actor_system::Backoff {
                    initial: Duration::from_millis(20),
                    max: Duration::from_secs(1),
                    factor: 2.0,
                    jitter: 0.0,
                },
                ..alys_actor_system::SupervisorSpec::new("s", Strategy::OneForOne)
            })
            .unwrap();
        let addr = world.worker(&supervisor, "a");
        let begun = time::now();
        for _ in 0..3 {
            addr.tell(Told::Fail).unwrap();
        }
        world.diary.wait_for("a", Event::Started(4)).await;
        assert!(time::now() - begun >= Duration::from_millis(20 + 40 + 80));
    });
}

#[test]
fn more_restarts_than_the_intensity_allows_fail_the_system_with_the_chain_of_reasons() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 2, None);
        let addr = world.worker(&supervisor, "a");
        let other = world.worker(&supervisor, "b");
        settled(&other).await;
        for _ in 0..3 {
            addr.tell(Told::Fail).unwrap();
        }
        addr.tell(Told::Note(1)).unwrap();
        let failure = time::timeout(LONG, world.system.failed())
            .await
            .expect("the root never gave up");
        let chain = failure.chain();
        assert!(
            chain.starts_with("world gave up: s failed again after 0 restarts within"),
            "{chain}"
        );
        assert!(
            chain.contains("world/s gave up: a failed again after 2 restarts within 60s"),
            "{chain}"
        );
        assert!(
            chain.ends_with("error while handling fail: told to fail"),
            "{chain}"
        );
        let Failure::Escalated { child, .. } = failure else {
            panic!("{failure:?}")
        };
        assert_eq!(child, "s");

        let report = world.system.shutdown(LONG).await;
        assert!(world.diary.of("b").contains(&Event::Stopping));
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        assert_eq!(
            (
                report.abandoned[0].actor.as_str(),
                report.abandoned[0].messages
            ),
            ("world/s/a", 1)
        );
        assert!(world.diary.notes("a").is_empty());
        assert_eq!(world.system.snapshot().state, State::Failed);
        // A second call returns at once, too.
        world.system.failed().await;
    });
}

#[test]
fn a_supervisor_that_gave_up_is_restarted_by_its_parent_and_queues_survive() {
    run(async {
        let world = World::with_root(1);
        let upper = world.supervisor("upper", Strategy::OneForOne, 0, None);
        let lower = world.supervisor("lower", Strategy::OneForOne, 1, Some(&upper));
        let addr = world.worker(&lower, "a");
        let other = world.worker(&lower, "b");
        settled(&addr).await;
        settled(&other).await;
        // Two failures exceed the intensity of lower, whose failure exceeds that of upper, which
        // the root restarts.
        for msg in [Told::Fail, Told::Fail, Told::Note(1)] {
            addr.tell(msg).unwrap();
        }
        world.diary.wait_for("a", Event::Noted(1)).await;
        world.diary.wait_for("b", Event::Started(2)).await;
        settled(&other).await;
        world
            .wait("all running", |tree| {
                ["", "upper", "upper/lower", "upper/lower/a", "upper/lower/b"]
                    .iter()
                    .all(|path| tree.find(path).unwrap().state == State::Running)
            })
            .await;
        let tree = world.system.snapshot();
        let restarts = ["", "upper", "upper/lower", "upper/lower/a"]
            .map(|path| tree.find(path).unwrap().restarts);
        assert_eq!(restarts, [0, 1, 1, 2]);
        // The restarted lower counts from zero again.
        addr.tell(Told::Fail).unwrap();
        settled(&addr).await;
        world.end().await;
    });
}

#[test]
fn restart_policies_decide_which_children_restart() {
    for (restart, msg, comes_back) in [
        (Restart::Permanent, Told::Fail, true),
        (Restart::Permanent, Told::End, true),
        (Restart::Transient, Told::Fail, true),
        (Restart::Transient, Told::End, false),
        (Restart::Temporary, Told::Fail, false),
        (Restart::Temporary, Told::End, false),
    ] {
        run(async move {
            let has_failed = matches!(msg, Told::Fail);
            let world = World::new();
            let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
            let (addr, slot) = slot(8);
            for msg in [msg, Told::Note(1), Told::Note(2)] {
                addr.tell(msg).unwrap();
            }
            world.worker_as(&supervisor, ChildSpec::new("a").restart(restart), slot);
            if comes_back {
                settled(&addr).await;
                assert_eq!(world.diary.notes("a"), [1, 2]);
            } else {
                time::timeout(LONG, addr.closed())
                    .await
                    .expect("the mailbox stays open");
                let ended = if has_failed {
                    State::Failed
                } else {
                    State::Stopped
                };
                world
                    .wait("its end", |tree| {
                        tree.find("s/a").is_some_and(|a| a.state == ended)
                    })
                    .await;
                world
                    .wait("the count", |tree| {
                        tree.find("s/a")
                            .unwrap()
                            .mailbox
                            .as_ref()
                            .unwrap()
                            .abandoned
                            == 2
                    })
                    .await;
                assert!(world.diary.notes("a").is_empty());
                assert!(matches!(
                    addr.tell(Told::Note(3)),
                    Err(TellError::Closed(_))
                ));
                // The name is free again.
                settled(&world.worker(&supervisor, "a")).await;
            }
            world.end().await;
        });
    }
}

#[test]
fn consecutive_failures_are_forgotten_after_a_quiet_period() {
    in_world(|world| async move {
        let supervisor = world
            .system
            .supervisor(alys_actor_system::SupervisorSpec {
                intensity: alys_actor_system::Intensity {
                    restarts: 1,
                    within: Duration::from_millis(50),
                },
                backoff: fast(),
                ..alys_actor_system::SupervisorSpec::new("s", Strategy::OneForOne)
            })
            .unwrap();
        let faults = Arc::<Faults>::default();
        let addr = world.faulty_worker(&supervisor, ChildSpec::new("a"), 8, faults.clone());
        for _ in 0..3 {
            addr.tell(Told::Fail).unwrap();
            settled(&addr).await;
            time::sleep(Duration::from_millis(60)).await;
        }
        assert_eq!(faults.start_errors.load(SeqCst), 0);
        assert_eq!(world.child("s/a").restarts, 3);
    });
}

/// The method that panics once, other than hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brittle {
    Health,
    Memory,
    Expires,
}

struct Touch {
    panics: bool,
    brittle: Brittle,
    reply: Option<Reply<u64>>,
}

impl Message for Touch {
    fn kind(&self) -> &'static str {
        "touch"
    }
    fn expires(&self) -> bool {
        assert!(
            !(self.panics && self.brittle == Brittle::Expires),
            "told to panic"
        );
        true
    }
}

struct Glass {
    brittle: Brittle,
    is_touched: bool,
    incarnation: u64,
}

impl Glass {
    fn at(&self, brittle: Brittle) {
        assert!(
            !(self.is_touched && self.brittle == brittle),
            "told to panic"
        );
    }
}

impl AlysActor for Glass {
    type Message = Touch;
    type Error = Never;
    type Config = ();
    const NAME: &'static str = "Glass";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Never> {
        self.incarnation = ctx.incarnation();
        Ok(())
    }

    async fn handle(&mut self, touch: Touch, _: &Context<Self>) -> Result<(), Never> {
        self.is_touched = touch.panics;
        if let Some(reply) = touch.reply {
            reply.send(self.incarnation);
        }
        Ok(())
    }

    fn health_check(&self) -> Health {
        self.at(Brittle::Health);
        Health::Healthy
    }

    fn memory(&self) -> usize {
        self.at(Brittle::Memory);
        0
    }
}

fn glass(
    brittle: Brittle,
) -> impl FnMut() -> std::future::Ready<Result<Glass, Never>> + Send + 'static {
    move || {
        std::future::ready(Ok(Glass {
            brittle,
            is_touched: false,
            incarnation: 0,
        }))
    }
}

#[test]
fn panics_in_health_and_memory_are_failures() {
    let reason = "panic while judging itself: told to panic";
    for brittle in [Brittle::Health, Brittle::Memory] {
        supervised(1, move |world, supervisor| async move {
            let spec = ChildSpec::new("a").memory_budget(1 << 20);
            let addr = supervisor.start(spec, 8, glass(brittle)).unwrap();
            addr.tell(Touch {
                panics: true,
                brittle,
                reply: None,
            })
            .unwrap();
            let touch = |reply| Touch {
                panics: false,
                brittle,
                reply: Some(reply),
            };
            assert_eq!(addr.ask(touch, LONG).await, Ok(2), "{brittle:?}");
            let child = world.child("s/a");
            assert_eq!(
                (child.restarts, child.last_error.as_deref()),
                (1, Some(reason))
            );
            assert_eq!(child.mailbox.unwrap().failed, 0);
        });
    }
}

#[test]
fn an_actor_task_lost_to_a_panic_fails_the_system() {
    errors::listen(LevelFilter::ERROR);
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("lossy", Strategy::OneForOne, 1, None);
        let other = world.worker(&supervisor, "b");
        let brittle = Brittle::Expires;
        let addr = supervisor
            .start(ChildSpec::new("a"), 8, glass(brittle))
            .unwrap();
        // The deadline has passed at once, so the mailbox calls `expires` of the message.
        let late = addr.ask(
            |reply| Touch {
                panics: true,
                brittle,
                reply: Some(reply),
            },
            Duration::ZERO,
        );
        assert!(matches!(
            late.await,
            Err(AskError::Timeout { .. } | AskError::Dropped { .. })
        ));
        time::timeout(LONG, addr.closed())
            .await
            .expect("the mailbox stays open");
        let failure = time::timeout(LONG, world.system.failed())
            .await
            .expect("no failure is reported");
        assert_eq!(
            failure.chain(),
            "the task of world/lossy/a is lost: told to panic"
        );
        world
            .wait("its end", |tree| {
                tree.find("lossy/a")
                    .is_some_and(|a| a.state == State::Failed)
            })
            .await;
        // The other actor runs on, and the name is free.
        settled(&other).await;
        settled(&world.worker(&supervisor, "a")).await;
        world.end().await;
        let about: Vec<_> = errors::lines()
            .iter()
            .filter(|line| line.contains("world/lossy"))
            .cloned()
            .collect();
        assert_eq!(about.len(), 1, "{about:?}");
    });
}

#[test]
fn a_maximal_duration_is_no_limit() {
    supervised(9, |world, supervisor| async move {
        let max = Duration::MAX;
        let spec = ChildSpec {
            start_timeout: Some(max),
            stop_timeout: max,
            ..ChildSpec::new("a")
        };
        let slow = doer::doer_as(&supervisor, spec.handle_timeout(max), 8);
        let gate = slow.hold().await;
        time::sleep(Duration::from_millis(1)).await;
        gate.open();
        slow.settled().await;
        slow.addr.tell(doer::stop()).unwrap();
        slow.settled().await;
        let child = world.child("s/a");
        assert_eq!((child.restarts, child.last_error), (1, None));
    });
}

#[test]
fn a_temporary_child_does_not_affect_its_siblings() {
    use alys_actor_system::{Backoff, Breaker};
    let never = Backoff {
        initial: Duration::MAX,
        max: Duration::MAX,
        factor: 2.0,
        jitter: 0.0,
    };
    let breaker = Breaker {
        failures: 1,
        open_for: never,
        ..Breaker::default()
    };
    for pace in [
        RestartDelay::Delayed(Duration::MAX),
        RestartDelay::Backoff(never),
        RestartDelay::CircuitBreaker(breaker),
    ] {
        supervised(9, move |world, supervisor| async move {
            let other = world.worker(&supervisor, "b");
            let addr = world.worker_as(&supervisor, ChildSpec::new("a").restart_delay(pace), 8);
            addr.tell(Told::Fail).unwrap();
            world.reaches("s/a", State::Backoff).await;
            settled(&other).await;
            // The supervisor still handles failures of its children.
            other.tell(Told::Fail).unwrap();
            settled(&other).await;
        });
    }
}
