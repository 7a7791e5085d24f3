//! The system as data: its tree, its health, its figures.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use alys_actor_system::{ChildSpec, Health, Snapshot, Strategy, SupervisorSpec};
use futures::FutureExt;

use crate::{doer::*, kit::*};

#[test]
fn the_worst_health_is_seen_from_the_top() {
    run(async {
        let world = World::new();
        let outer = world.supervisor("outer", Strategy::OneForOne, 0, None);
        let inner = world.supervisor("inner", Strategy::OneForOne, 0, Some(&outer));
        let [a, b] = ["a", "b"].map(|name| doer(&inner, name, 8));
        a.settled().await;
        b.settled().await;
        assert_eq!(world.system.health(), Health::Healthy);
        for (of_a, of_b, of_inner) in [
            (
                Health::Degraded("slow"),
                Health::Healthy,
                Health::Degraded("slow"),
            ),
            (
                Health::Degraded("slow"),
                Health::Unhealthy("no peers"),
                Health::Degraded("slow"),
            ),
            (
                Health::Healthy,
                Health::Unhealthy("no peers"),
                Health::Degraded("no peers"),
            ),
            (Health::Healthy, Health::Healthy, Health::Healthy),
        ] {
            a.plan.set_health(of_a);
            b.plan.set_health(of_b);
            a.settled().await;
            b.settled().await;
            // The judgement comes after the answer.
            world
                .wait("the judgement", |snapshot| {
                    snapshot.find("outer/inner/a").unwrap().health == of_a
                        && snapshot.find("outer/inner/b").unwrap().health == of_b
                })
                .await;
            let snapshot = world.system.snapshot();
            assert_eq!(snapshot.find("outer/inner").unwrap().health, of_inner);
            assert_eq!(
                (snapshot.health, world.system.health()),
                (of_inner, of_inner)
            );
        }
        assert_eq!(
            Health::Degraded("x").worse(Health::Healthy),
            Health::Degraded("x")
        );
        world.end().await;
    });
}

#[test]
fn the_tree_is_data_that_can_be_written_as_json() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let doing = doer(&supervisor, "a", 8);
        doing.addr.tell(note(1)).unwrap();
        doing.settled().await;
        world
            .wait("the count", |snapshot| {
                snapshot
                    .find("s/a")
                    .unwrap()
                    .mailbox
                    .as_ref()
                    .unwrap()
                    .handled
                    == 2
            })
            .await;
        let json = serde_json::to_value(world.system.snapshot()).unwrap();
        assert_eq!(
            (&json["name"], &json["state"], &json["health"]),
            (&"world".into(), &"running".into(), &"healthy".into())
        );
        let a = &json["children"][0]["children"][0];
        assert_eq!(
            (&a["path"], &a["incarnation"], &a["restarts"]),
            (&"world/s/a".into(), &1.into(), &0.into())
        );
        assert_eq!(a["last_error"], serde_json::Value::Null);
        let mailbox = &a["mailbox"];
        assert_eq!(
            (
                &mailbox["capacity"],
                &mailbox["accepted"],
                &mailbox["handled"]
            ),
            (&8.into(), &2.into(), &2.into())
        );
        assert_eq!(
            mailbox["kinds"],
            serde_json::json!({ "note": 1, "answer": 1 })
        );
        doing.plan.set_health(Health::Degraded("slow"));
        doing.settled().await;
        world
            .wait("the judgement", |snapshot| {
                snapshot.health != Health::Healthy
            })
            .await;
        let json = serde_json::to_value(world.system.snapshot()).unwrap();
        assert_eq!(json["health"], serde_json::json!({ "degraded": "slow" }));
        let all: Vec<_> = world
            .system
            .snapshot()
            .all()
            .iter()
            .map(|node| node.name.clone())
            .collect();
        assert_eq!(all, ["world", "s", "a"]);
        assert!(world.system.snapshot().find("s/x").is_none());
        assert!(format!("{world:?} {supervisor:?}").contains("world/s"));
        world.end().await;
    });
}

#[test]
fn a_new_incarnation_is_as_healthy_as_it_says() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let doing = doer(&supervisor, "a", 8);
        doing.plan.set_health(Health::Unhealthy("x"));
        doing.settled().await;
        let health = |tree: &Snapshot| tree.find("s/a").unwrap().health;
        world
            .wait("the judgement", |tree| {
                health(tree) == Health::Unhealthy("x")
            })
            .await;
        // It fails before it judges itself again.
        doing.plan.set_health(Health::Healthy);
        doing.addr.tell(fails()).unwrap();
        doing.settled().await;
        assert_eq!(health(&world.system.snapshot()), Health::Healthy);
        world.end().await;
    });
}

/// The value of a sample, by its name and labels.
fn sample<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

#[test]
fn all_figures_can_be_read_as_openmetrics() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let doing = doer(&supervisor, "a", 8);
        doing.addr.tell(Job::new("keep", 5, Act::Keep)).unwrap();
        doing.addr.tell(fails()).unwrap();
        doing.settled().await;
        world
            .wait("the count", |snapshot| {
                snapshot
                    .find("s/a")
                    .unwrap()
                    .mailbox
                    .as_ref()
                    .unwrap()
                    .handled
                    == 2
            })
            .await;
        let text = world.system.metrics().await;
        for (name, value) in [
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="accepted"}"#,
                "3",
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="refused"}"#,
                "0",
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="coalesced"}"#,
                "0",
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="dropped"}"#,
                "0",
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="expired"}"#,
                "0",
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="redelivered"}"#,
                "0",
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="interrupted"}"#,
                "0",
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="abandoned"}"#,
                "0",
            ),
            (r#"alys_actor_restarts_total{actor="world/s/a"}"#, "1"),
            (r#"alys_actor_mailbox_depth{actor="world/s/a"}"#, "0"),
            (r#"alys_actor_mailbox_capacity{actor="world/s/a"}"#, "8"),
            (r#"alys_actor_running{actor="world/s/a"}"#, "1"),
            (r#"alys_actor_health{actor="world/s/a"}"#, "0"),
            (
                r#"alys_actor_handled_total{actor="world/s/a",kind="keep"}"#,
                "1",
            ),
            (
                r#"alys_actor_failed_total{actor="world/s/a",kind="fail"}"#,
                "1",
            ),
            (r#"alys_actor_timers_total{actor="world/s/a"}"#, "0"),
            (
                r#"alys_actor_dead_letters_total{actor="world/s/a",reason="killed"}"#,
                "1",
            ),
            (r#"doer_kept_total{actor="world/s/a"}"#, "5"),
        ] {
            assert_eq!(sample(&text, name), Some(value), "{name} in\n{text}");
        }
        assert!(
            !text.contains("alys_actor_handling_seconds"),
            "times are not measured unasked"
        );
        assert!(text.ends_with("# EOF\n"));
        world.end().await;
    });
}

#[test]
fn times_are_measured_while_that_is_wanted() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let before = doer(&supervisor, "before", 8);
        world.system.measure(true);
        let after = doer(&supervisor, "after", 8);
        for doing in [&before, &after] {
            let gate = doing.hold().await;
            doing.addr.tell(note(1)).unwrap();
            alys_runtime::time::sleep(Duration::from_millis(20)).await;
            gate.open();
            doing.settled().await;
        }
        world.system.measure(false);
        for doing in [&before, &after] {
            doing.addr.tell(note(2)).unwrap();
            doing.settled().await;
        }
        let text = world.system.metrics().await;
        for actor in ["before", "after"] {
            let labels = format!(r#"{{actor="world/s/{actor}",kind="note"}}"#);
            for family in ["wait", "handling"] {
                let count = sample(&text, &format!("alys_actor_{family}_seconds_count{labels}"));
                assert_eq!(count, Some("1"), "{text}");
            }
            let sum: f64 = sample(&text, &format!("alys_actor_wait_seconds_sum{labels}"))
                .unwrap()
                .parse()
                .unwrap();
            assert!(sum >= 0.02, "{sum}");
            let held = format!(r#"{{actor="world/s/{actor}",kind="wait"}}"#);
            let sum: f64 = sample(&text, &format!("alys_actor_handling_seconds_sum{held}"))
                .unwrap()
                .parse()
                .unwrap();
            assert!(sum >= 0.02, "{sum}");
        }
        world.end().await;
    });
}

#[test]
fn an_actor_that_cannot_say_its_figures_costs_nobody_else_theirs() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let [busy, broken, good] =
            ["busy", "broken", "good"].map(|name| doer(&supervisor, name, 8));
        let gate = busy.hold().await;
        broken.plan.metrics_panics.store(1, SeqCst);
        let text = world.system.metrics().await;
        assert!(!text.contains(r#"doer_kept_total{actor="world/s/busy"}"#));
        assert!(!text.contains(r#"doer_kept_total{actor="world/s/broken"}"#));
        assert_eq!(
            sample(&text, r#"doer_kept_total{actor="world/s/good"}"#),
            Some("0")
        );
        assert_eq!(
            sample(&text, r#"alys_actor_running{actor="world/s/busy"}"#),
            Some("1")
        );
        gate.open();
        busy.settled().await;
        broken.settled().await;
        good.settled().await;
        let text = world.system.metrics().await;
        for actor in ["busy", "broken", "good"] {
            assert_eq!(
                sample(
                    &text,
                    &format!(r#"doer_kept_total{{actor="world/s/{actor}"}}"#)
                ),
                Some("0"),
                "{actor}"
            );
        }
        assert_eq!(
            world.system.snapshot().find("s/broken").unwrap().restarts,
            0
        );
        world.end().await;
    });
}

#[test]
fn a_system_of_no_children_has_figures_and_ends() {
    run(async {
        let system = alys_actor_system::System::new("empty");
        assert_eq!(system.metrics().await, "# EOF\n");
        assert!(system.failed().now_or_never().is_none());
        system
            .root()
            .start(ChildSpec::new("a"), 8, || async {
                Err::<Worker, _>(NotMade)
            })
            .unwrap();
        let taken = system
            .supervisor(SupervisorSpec::new("a", Strategy::OneForOne))
            .unwrap_err();
        assert_eq!(taken.to_string(), "empty has a child named a already");
        let report = system.shutdown(LONG).await;
        assert_eq!(report.stopped, ["empty/a"]);
    });
}
