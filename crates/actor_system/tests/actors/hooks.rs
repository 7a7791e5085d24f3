//! The hooks of an actor, its configuration and its kept state.

use std::{sync::Arc, time::Duration};

use alys_actor_system::{ChildSpec, ConfigHandle, LookupError, Restart, State, Strategy};
use futures::FutureExt;

use crate::{doer::*, kit::*};

const SHORT: Duration = Duration::from_millis(30);

fn last_error(world: &World) -> String {
    world.child("s/a").last_error.clone().unwrap_or_default()
}

#[test]
fn hooks_run_in_order_over_start_restart_and_stop() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let doing = doer(&supervisor, "a", 8);
        doing.addr.tell(note(1)).unwrap();
        doing.addr.tell(fails()).unwrap();
        doing.addr.tell(note(2)).unwrap();
        doing.addr.tell(panics()).unwrap();
        let gate = doing.hold().await;
        doing.addr.tell(note(3)).unwrap();
        let log = doing.log.clone();
        let stopping = alys_runtime::spawn("shutdown", async move { world.end().await });
        gate.open();
        stopping.await.unwrap();
        let lines = log.of("a");
        assert_eq!(lines[..3], ["pre_start", "started", "1"]);
        assert_eq!(
            lines[3],
            "pre_restart: error while handling fail: told to fail"
        );
        assert_eq!(lines[4..8], ["pre_start", "post_restart", "started", "2"]);
        assert_eq!(
            lines[8],
            "pre_restart: panic while handling panic: told to panic"
        );
        assert_eq!(lines[9..12], ["pre_start", "post_restart", "started"]);
        // The stop may arrive before or after the note is handled, so the order is not checked.
        let mut end = lines[12..].to_vec();
        assert_eq!(end.pop().as_deref(), Some("stopped"));
        end.sort();
        assert_eq!(end, ["3", "pre_stop"]);
    });
}

#[test]
fn an_actor_that_stops_itself_runs_its_hooks_and_a_permanent_one_restarts() {
    supervised(9, |world, supervisor| async move {
        let log = Arc::<Log>::default();
        let doing = doer_in(&log, &supervisor, ChildSpec::new("a"), 8);
        doing.addr.tell(stop()).unwrap();
        doing.settled().await;
        assert_eq!(
            log.of("a"),
            [
                "pre_start",
                "started",
                "pre_stop",
                "stopped",
                "pre_start",
                "post_restart",
                "started"
            ]
        );
        // A hook that hangs is cut off; a hook that panics fails the actor, which is restarted and
        // stopped again.
        for (name, twist, hook, restarts) in [
            ("b", Twist::Hang, "stopped", 0),
            ("c", Twist::Panic, "pre_stop", 1),
            ("d", Twist::Panic, "stopped", 1),
        ] {
            let spec = ChildSpec {
                stop_timeout: SHORT,
                ..ChildSpec::new(name).restart(Restart::Transient)
            };
            let doing = doer_in(&log, &supervisor, spec, 8);
            doing.plan.at(hook, twist);
            doing.addr.tell(stop()).unwrap();
            if restarts > 0 {
                log.wait_for(name, "post_restart").await;
                doing.addr.tell(stop()).unwrap();
            }
            doing.addr.closed().await;
            assert_eq!(
                world
                    .system
                    .snapshot()
                    .find(&format!("s/{name}"))
                    .unwrap()
                    .restarts,
                restarts
            );
        }
    });
}

#[test]
fn pre_restart_is_limited_in_time_and_its_failure_is_not_counted() {
    supervised(9, |world, supervisor| async move {
        let spec = ChildSpec {
            stop_timeout: SHORT,
            ..ChildSpec::new("a")
        };
        let doing = doer_as(&supervisor, spec, 8);
        doing.plan.at("pre_restart", Twist::Hang);
        doing.plan.at("pre_restart", Twist::Panic);
        doing.addr.tell(fails()).unwrap();
        doing.addr.tell(fails()).unwrap();
        doing.settled().await;
        let child = world.child("s/a");
        assert_eq!((child.restarts, child.state), (2, State::Running));
        assert_eq!(
            child.last_error.as_deref(),
            Some("error while handling fail: told to fail")
        );
    });
}

#[test]
fn a_start_that_fails_or_takes_too_long_is_retried() {
    supervised(99, |world, supervisor| async move {
        let spec = ChildSpec {
            start_timeout: Some(SHORT),
            ..ChildSpec::new("a")
        };
        let doing = doer_as(&supervisor, spec, 8);
        doing.settled().await;
        for (hook, twist, error) in [
            (
                "factory",
                Twist::Hang,
                "hung while creating: not done after 30ms",
            ),
            (
                "factory",
                Twist::Panic,
                "panic while creating: told to panic in factory",
            ),
            (
                "pre_start",
                Twist::Hang,
                "hung while starting: not done after 30ms",
            ),
            (
                "pre_start",
                Twist::Panic,
                "panic while starting: told to panic in pre_start",
            ),
            (
                "post_restart",
                Twist::Fail,
                "error while starting: told to fail",
            ),
            ("started", Twist::Fail, "error while starting: told to fail"),
        ] {
            let before = world.child("s/a").restarts;
            doing.plan.at(hook, twist);
            doing.addr.tell(stop()).unwrap();
            doing.settled().await;
            assert_eq!(last_error(&world), error);
            assert_eq!(world.child("s/a").restarts, before + 2);
        }
    });
}

#[test]
fn reconfigured_runs_between_messages() {
    supervised(9, |world, supervisor| async move {
        let spec = ChildSpec::new("a").handle_timeout(SHORT * 10);
        let doing = doer_as(&supervisor, spec, 8);
        doing.settled().await;
        let gate = doing.hold().await;
        let found: ConfigHandle<u64> = world.system.config("s/a").unwrap();
        doing.addr.tell(note(7)).unwrap();
        doing.config.replace(1);
        found.clone().replace(2);
        assert_eq!((*found.get(), *doing.config.get()), (2, 2));
        gate.open();
        doing.settled().await;
        assert_eq!(doing.log.of("a")[2..], ["config 2", "7"]);

        assert!(format!("{found:?}").contains("world/s/a"));
        let full = |path: &str| format!("world/{path}");
        let wrong = world.system.config::<String>("s/a").unwrap_err();
        assert_eq!(wrong, LookupError::OtherConfig { path: full("s/a") });
        assert_eq!(wrong.to_string(), "world/s/a has another configuration");
        let none = world.system.config::<u64>("s/x").unwrap_err();
        assert_eq!(none, LookupError::Unknown { path: full("s/x") });
    });
}

#[test]
fn a_failing_reconfiguration_fails_the_actor_and_keeps_the_configuration() {
    supervised(9, |world, supervisor| async move {
        let spec = ChildSpec::new("a").handle_timeout(SHORT);
        let doing = doer_as(&supervisor, spec, 8);
        doing.settled().await;
        for (config, twist, error) in [
            (
                3,
                Twist::Fail,
                "error while taking a new configuration: told to fail",
            ),
            (
                4,
                Twist::Hang,
                "hung while taking a new configuration: not done after 30ms",
            ),
            (
                5,
                Twist::Panic,
                "panic while taking a new configuration: told to panic in reconfigured",
            ),
        ] {
            doing.plan.at("reconfigured", twist);
            doing.config.replace(config);
            world
                .wait("the failure", |_| last_error(&world) == error)
                .await;
            let read = doing.addr.ask(
                |reply| {
                    run_in("read", |ctx| {
                        async move {
                            reply.send(*ctx.config());
                            Ok(())
                        }
                        .boxed()
                    })
                },
                LONG,
            );
            assert_eq!(read.await, Ok(config));
        }
    });
}

#[test]
fn kept_state_survives_a_restart() {
    supervised(9, |_, supervisor| async move {
        let doing = doer(&supervisor, "a", 8);
        doing.addr.tell(Job::new("keep", 5, Act::Keep)).unwrap();
        doing.addr.tell(panics()).unwrap();
        doing.addr.tell(Job::new("keep", 2, Act::Keep)).unwrap();
        doing.settled().await;
        assert_eq!(doing.kept.load(), 7);
        assert_eq!(format!("{:?}", doing.kept), "Kept(7)");
    });
}
