//! Panics, errors, restarts, escalation.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use alys_actor_system::{ChildSpec, Failure, Restart, State, Strategy, TellError};
use alys_runtime::time;

use crate::kit::*;

/// Three notes, the killer in their midst, all in the queue before any is handled.
fn survives(killer: Told, reason: &'static str) {
    run(async move {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 1, None);
        let (addr, slot) = slot(8);
        for msg in [Told::Note(1), killer, Told::Note(2), Told::Note(3)] {
            addr.tell(msg).unwrap();
        }
        world.worker_as(&supervisor, ChildSpec::new("a"), slot, Arc::default());
        world.diary.wait_for("a", Event::Noted(3)).await;
        world.diary.wait_for("a", Event::Started(2)).await;
        settled(&addr).await;
        assert_eq!(world.diary.notes("a"), [1, 2, 3]);
        let starts = world.diary.of("a").iter().filter(|event| matches!(event, Event::Started(_))).count();
        assert_eq!(starts, 2, "a killer that came back would have used up the intensity");
        assert!(
            !world.diary.of("a").contains(&Event::Stopping),
            "a failed actor is not asked to stop orderly"
        );
        let child = world.system.snapshot().find("s/a").unwrap().clone();
        assert_eq!((child.state, child.restarts, child.incarnation), (State::Running, 1, 2));
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
    survives(Told::SpawnPanic, "panic in task panics: told to panic in a task");
}

#[test]
fn a_failing_start_is_retried() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 4, None);
        let faults = Arc::new(Faults {
            factory_errors: 1.into(),
            factory_panics: 1.into(),
            start_errors: 1.into(),
            start_panics: 1.into(),
            ..Faults::default()
        });
        let addr = world.worker_as(&supervisor, ChildSpec::new("a"), 8, faults);
        addr.tell(Told::Note(1)).unwrap();
        world.diary.wait_for("a", Event::Started(5)).await;
        settled(&addr).await;
        assert_eq!(world.diary.notes("a"), [1]);
        world.end().await;
    });
}

#[test]
fn panics_on_the_way_out_are_caught() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 2, None);
        let faults =
            Arc::new(Faults { drop_panics: 2.into(), stopping_panics: 2.into(), ..Faults::default() });
        let addr = world.worker_as(&supervisor, ChildSpec::new("a"), 8, faults);
        addr.tell(Told::Fail).unwrap();
        addr.tell(Told::End).unwrap();
        world.diary.wait_for("a", Event::Started(3)).await;
        let report = world.system.shutdown(LONG).await;
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        let failure = report.abandoned[0].failure.as_deref();
        assert_eq!(failure, Some("panic while stopping: told to panic while stopping"));
    });
}

#[test]
fn the_wait_before_a_restart_grows() {
    run(async {
        let world = World::new();
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
        world.end().await;
    });
}

#[test]
fn more_restarts_than_the_intensity_allows_fail_the_system_with_the_whole_reason() {
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
        let failure = time::timeout(LONG, world.system.failed()).await.expect("the root never gave up");
        let chain = failure.chain();
        assert!(chain.starts_with("world gave up: s failed again after 0 restarts within"), "{chain}");
        assert!(chain.contains("world/s gave up: a failed again after 2 restarts within 60s"), "{chain}");
        assert!(chain.ends_with("error while handling fail: told to fail"), "{chain}");
        let Failure::Escalated { child, .. } = failure else { panic!("{failure:?}") };
        assert_eq!(child, "s");

        let report = world.system.shutdown(LONG).await;
        assert!(world.diary.of("b").contains(&Event::Stopping));
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        assert_eq!((report.abandoned[0].actor.as_str(), report.abandoned[0].messages), ("world/s/a", 1));
        assert!(world.diary.notes("a").is_empty());
        assert_eq!(world.system.snapshot().state, State::Failed);
        // Asked again, it still says so.
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
        // Two failures use up lower, which uses up upper, which the root restarts.
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
        let restarts =
            ["", "upper", "upper/lower", "upper/lower/a"].map(|path| tree.find(path).unwrap().restarts);
        assert_eq!(restarts, [0, 1, 1, 2]);
        // The count of lower began anew.
        addr.tell(Told::Fail).unwrap();
        settled(&addr).await;
        world.end().await;
    });
}

#[test]
fn restart_policies_say_who_comes_back() {
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
            world.worker_as(&supervisor, ChildSpec::new("a").restart(restart), slot, Arc::default());
            if comes_back {
                settled(&addr).await;
                assert_eq!(world.diary.notes("a"), [1, 2]);
            } else {
                time::timeout(LONG, addr.closed()).await.expect("the mailbox stays open");
                let ended = if has_failed { State::Failed } else { State::Stopped };
                world.wait("its end", |tree| tree.find("s/a").is_some_and(|a| a.state == ended)).await;
                world
                    .wait("the count", |tree| {
                        tree.find("s/a").unwrap().mailbox.as_ref().unwrap().abandoned == 2
                    })
                    .await;
                assert!(world.diary.notes("a").is_empty());
                assert!(matches!(addr.tell(Told::Note(3)), Err(TellError::Closed(_))));
                // The name is free again.
                settled(&world.worker(&supervisor, "a")).await;
            }
            world.end().await;
        });
    }
}

#[test]
fn failures_in_a_row_count_anew_after_a_quiet_span() {
    run(async {
        let world = World::new();
        let supervisor = world
            .system
            .supervisor(alys_actor_system::SupervisorSpec {
                intensity: alys_actor_system::Intensity { restarts: 1, within: Duration::from_millis(50) },
                backoff: fast(),
                ..alys_actor_system::SupervisorSpec::new("s", Strategy::OneForOne)
            })
            .unwrap();
        let faults = Arc::<Faults>::default();
        let addr = world.worker_as(&supervisor, ChildSpec::new("a"), 8, faults.clone());
        for _ in 0..3 {
            addr.tell(Told::Fail).unwrap();
            settled(&addr).await;
            time::sleep(Duration::from_millis(60)).await;
        }
        assert_eq!(faults.start_errors.load(SeqCst), 0);
        assert_eq!(world.system.snapshot().find("s/a").unwrap().restarts, 3);
        world.end().await;
    });
}
