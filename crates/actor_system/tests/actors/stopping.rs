//! Orderly shutdown.

use std::{sync::Arc, time::Duration};

use alys_actor_system::{
    Abandoned, ChildSpec, StartError, State, Strategy, SupervisorSpec, TellError,
};
use alys_runtime::time;

use crate::kit::*;

#[test]
fn shutdown_handles_accepted_messages_and_stops_in_reverse_order() {
    run(async {
        let world = World::new();
        let upper = world.supervisor("upper", Strategy::OneForOne, 1, None);
        let lower = world.supervisor("lower", Strategy::OneForOne, 1, Some(&upper));
        let addrs = [("a", &upper), ("b", &lower), ("c", &lower), ("d", &upper)]
            .map(|(name, supervisor)| world.worker(supervisor, name));
        for addr in &addrs {
            for n in 0..50 {
                addr.tell(Told::Note(n)).unwrap();
            }
        }
        let report = world.system.shutdown(LONG).await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(
            report.stopped,
            [
                "world/upper/d",
                "world/upper/a",
                "world/upper/lower/c",
                "world/upper/lower/b"
            ],
            "lower was started before a and d"
        );
        for (name, addr) in ["a", "b", "c", "d"].into_iter().zip(&addrs) {
            assert_eq!(world.diary.notes(name), (0..50).collect::<Vec<_>>());
            assert_eq!(world.diary.of(name).last(), Some(&Event::Dropped));
            assert!(world.diary.of(name).contains(&Event::Stopping));
            assert!(addr.is_closed());
            assert!(matches!(
                addr.tell(Told::Note(1)),
                Err(TellError::Closed(_))
            ));
        }
        let tree = world.system.snapshot();
        for path in ["", "upper", "upper/lower", "upper/a", "upper/lower/b"] {
            assert_eq!(tree.find(path).unwrap().state, State::Stopped, "{path}");
        }
        let again = world.system.shutdown(LONG).await;
        assert_eq!((again.stopped.len(), again.is_clean()), (0, true));
        let late = world
            .system
            .supervisor(SupervisorSpec::new("late", Strategy::OneForOne));
        assert_eq!(
            late.unwrap_err(),
            StartError::ShutDown {
                supervisor: "world".to_owned()
            }
        );
    });
}

#[test]
fn an_actor_that_hangs_costs_its_own_share_of_the_time_and_is_reported() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 1, None);
        let names = ["a", "b", "hung", "d"];
        let addrs = names.map(|name| world.worker(&supervisor, name));
        let gate = Arc::<Gate>::default();
        addrs[2].tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        for addr in &addrs {
            addr.tell(Told::Note(1)).unwrap();
        }
        let deadline = Duration::from_millis(400);
        let report = world.system.shutdown(deadline).await;
        assert_eq!(
            report.abandoned,
            [Abandoned {
                actor: "world/s/hung".to_owned(),
                messages: 1,
                handling: Some("wait"),
                ..Abandoned::default()
            }]
        );
        assert!(report.took < deadline, "{report:?}");
        for name in ["a", "b", "d"] {
            assert_eq!(world.diary.notes(name), [1], "{name}");
            assert!(world.diary.of(name).contains(&Event::Stopping), "{name}");
        }
        assert!(
            !world.diary.of("hung").contains(&Event::Stopping),
            "it was cut off in the middle of a message"
        );
        assert!(world.diary.of("hung").contains(&Event::Dropped));
    });
}

#[test]
fn a_failure_during_the_drain_is_reported_and_not_restarted() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let (addr, slot) = slot(8);
        let gate = Arc::<Gate>::default();
        for msg in [
            Told::Wait(gate.clone()),
            Told::Panic,
            Told::Note(1),
            Told::Note(2),
        ] {
            addr.tell(msg).unwrap();
        }
        world.worker_as(&supervisor, ChildSpec::new("a"), slot);
        gate.reached().await;
        let shutdown = world.system.shutdown(LONG);
        let opener = async {
            time::timeout(LONG, addr.closed()).await.ok();
        };
        // The stop arrives while the actor is at the gate, so the other messages belong to the
        // drain.
        let opened = async {
            world
                .wait("the stop", |tree| {
                    tree.find("s").unwrap().state != State::Running
                })
                .await;
            gate.open();
        };
        let (report, (), ()) = alys_runtime::join!(shutdown, opened, opener);
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        assert_eq!(report.abandoned[0].messages, 2);
        assert_eq!(
            report.abandoned[0].failure.as_deref(),
            Some("panic while handling panic: told to panic")
        );
        assert_eq!(world.diary.of("a"), [Event::Started(1), Event::Dropped]);
    });
}

#[test]
fn an_actor_that_waits_to_be_restarted_is_stopped_and_its_queue_reported() {
    run(async {
        let world = World::new();
        let supervisor = world
            .system
            .supervisor(SupervisorSpec {
                backoff: alys_actor_system::Backoff {
                    initial: LONG,
                    max: LONG,
                    factor: 1.0,
                    jitter: 0.0,
                },
                ..SupervisorSpec::new("s", Strategy::OneForOne)
            })
            .unwrap();
        let addr = world.worker(&supervisor, "a");
        addr.tell(Told::Fail).unwrap();
        addr.tell(Told::Note(1)).unwrap();
        world.reaches("s/a", State::Backoff).await;
        let report = world.system.shutdown(LONG).await;
        assert!(report.took < LONG / 2);
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        assert_eq!(report.abandoned[0].messages, 1);
        assert_eq!(world.child("s/a").state, State::Stopped);
    });
}

#[test]
fn a_shutdown_releases_senders_that_wait_for_room() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 1, None);
        let addr = world.worker_as(&supervisor, ChildSpec::new("a"), 1);
        addr.tell(Told::Hang).unwrap();
        let waiting = addr.clone();
        let sender = alys_runtime::spawn("sender", async move {
            let mut taken = 0;
            while waiting.send(Told::Note(taken)).await.is_ok() {
                taken += 1;
            }
            taken
        });
        world
            .wait("a full mailbox", |tree| {
                tree.find("s/a").unwrap().mailbox.as_ref().unwrap().depth == 1
            })
            .await;
        let report = world.system.shutdown(Duration::from_millis(50)).await;
        let taken = time::timeout(LONG, sender)
            .await
            .expect("the sender still waits")
            .unwrap();
        assert_eq!(report.abandoned.len(), 1);
        assert_eq!(
            (
                report.abandoned[0].handling,
                report.abandoned[0].messages as u64
            ),
            (Some("hang"), taken)
        );
    });
}

#[test]
fn a_shutdown_does_not_wait_for_a_restart_in_progress() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForAll, 1, None);
        let addrs = ["a", "hung", "c"].map(|name| {
            world.worker_as(
                &supervisor,
                ChildSpec {
                    stop_timeout: LONG,
                    ..ChildSpec::new(name)
                },
                8,
            )
        });
        let gate = Arc::<Gate>::default();
        addrs[1].tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        addrs[2].tell(Told::Fail).unwrap();
        // Children are stopped in reverse order, so once c is stopped the supervisor waits for
        // `hung`.
        world.reaches("s/c", State::Stopped).await;
        addrs[0].tell(Told::Note(1)).unwrap();
        let report = world.system.shutdown(Duration::from_millis(300)).await;
        assert!(report.took < LONG / 10, "{report:?}");
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        assert_eq!(
            (
                report.abandoned[0].actor.as_str(),
                report.abandoned[0].handling
            ),
            ("world/s/hung", Some("wait"))
        );
        assert_eq!(world.diary.notes("a"), [1]);
        let tree = world.system.snapshot();
        assert_eq!(tree.find("s").unwrap().state, State::Stopped);
        assert_eq!(tree.find("s/c").unwrap().restarts, 0);
    });
}

#[test]
fn a_shutdown_does_not_wait_for_a_restart_from_above_either() {
    run(async {
        let world = World::with_root(1);
        let lower = world.supervisor("lower", Strategy::OneForOne, 0, None);
        let spec = ChildSpec {
            stop_timeout: LONG,
            ..ChildSpec::new("hung")
        };
        let hung = world.worker_as(&lower, spec, 8);
        let last = world.worker(&lower, "last");
        let other = world.supervisor("other", Strategy::OneForOne, 0, None);
        let fails = world.worker(&other, "fails");
        let gate = Arc::<Gate>::default();
        hung.tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        settled(&last).await;
        fails.tell(Told::Fail).unwrap();
        // Children are stopped in reverse order, so once `last` is stopped the lower supervisor
        // waits for `hung`.
        world.reaches("lower/last", State::Stopped).await;
        let report = world.system.shutdown(Duration::from_millis(300)).await;
        assert!(report.took < LONG / 10, "{report:?}");
        assert_eq!(report.abandoned.len(), 1, "{report:?}");
        let left = &report.abandoned[0];
        assert_eq!(
            (&*left.actor, left.handling),
            ("world/lower/hung", Some("wait"))
        );
        assert_eq!(world.child("lower").state, State::Stopped);
    });
}

#[test]
fn an_actor_that_waits_for_its_turn_to_start_still_drains_its_queue() {
    run(async {
        let world = World::new();
        let upper = world.supervisor("upper", Strategy::OneForAll, 1, None);
        let gate = Arc::<Gate>::default();
        let faults = Arc::new(Faults {
            second_start: Some(gate.clone()),
            ..Faults::default()
        });
        let first = world.faulty_worker(&upper, ChildSpec::new("first"), 8, faults);
        let second = world.worker(&upper, "second");
        let lower = world.supervisor("lower", Strategy::OneForOne, 1, Some(&upper));
        let third = world.worker(&lower, "third");
        for addr in [&first, &second, &third] {
            settled(addr).await;
        }
        first.tell(Told::Fail).unwrap();
        gate.reached().await;
        second.tell(Told::Note(2)).unwrap();
        third.tell(Told::Note(3)).unwrap();
        let report = world.system.shutdown(Duration::from_millis(200)).await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(
            (world.diary.notes("second"), world.diary.notes("third")),
            (vec![2], vec![3])
        );
        assert_eq!(world.child("upper/first").state, State::Stopped);
    });
}
