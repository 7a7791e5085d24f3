//! Observation of a system: its tree, its health and its metrics.

use std::{collections::BTreeSet, time::Duration};

use alys_actor_system::{
    AlysActor, ChildSpec, Context, Fault, Health, Message, Planned, Snapshot, State, Strategy,
    SupervisorSpec,
    metrics::prometheus_client::metrics::{counter::Counter, family::Family},
    testkit::{TestSystem, sample},
};
use alys_runtime::time;
use futures::FutureExt;

use crate::{doer::*, kit::*};

#[test]
fn a_supervisor_is_degraded_while_a_child_is_not_healthy() {
    in_world(|world| async move {
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
            // `health_check` runs after the answer was sent.
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
    });
}

#[test]
fn a_system_is_degraded_by_an_unhealthy_actor_and_unhealthy_once_it_has_failed() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let doing = doer(&supervisor, "a", 8);
        doing.plan.set_health(Health::Unhealthy("no peers"));
        doing.settled().await;
        world
            .wait("the judgement", |tree| tree.health != Health::Healthy)
            .await;
        assert_eq!(world.system.health(), Health::Degraded("no peers"));
        doing.addr.tell(fails()).unwrap();
        time::timeout(LONG, world.system.failed()).await.unwrap();
        world
            .wait("the end", |tree| tree.state == State::Failed)
            .await;
        assert_eq!(world.system.health(), Health::Unhealthy("failed for good"));
    });
}

#[test]
fn a_snapshot_serializes_to_json() {
    supervised(0, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 8);
        doing.addr.tell(note(1)).unwrap();
        doing.settled().await;
        world.handled("s/a", 2).await;
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
    });
}

#[test]
fn a_new_incarnation_starts_with_its_own_health() {
    supervised(9, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 8);
        doing.plan.set_health(Health::Unhealthy("x"));
        doing.settled().await;
        let health = |tree: &Snapshot| tree.find("s/a").unwrap().health;
        world
            .wait("the judgement", |tree| {
                health(tree) == Health::Unhealthy("x")
            })
            .await;
        // The actor fails before `health_check` runs again.
        doing.plan.set_health(Health::Healthy);
        doing.addr.tell(fails()).unwrap();
        doing.settled().await;
        assert_eq!(health(&world.system.snapshot()), Health::Healthy);
    });
}

#[test]
fn each_actor_has_the_same_metric_families() {
    supervised(9, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 8);
        doing.addr.tell(Job::new("keep", 5, Act::Keep)).unwrap();
        doing.addr.tell(fails()).unwrap();
        doing.settled().await;
        world.handled("s/a", 2).await;
        let text = world.system.metrics().encode().unwrap();
        for (series, value) in [
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="accepted"}"#,
                3.0,
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="refused"}"#,
                0.0,
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="dropped"}"#,
                0.0,
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="expired"}"#,
                0.0,
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="interrupted"}"#,
                0.0,
            ),
            (
                r#"alys_actor_messages_total{actor="world/s/a",outcome="abandoned"}"#,
                0.0,
            ),
            (r#"alys_actor_restarts_total{actor="world/s/a"}"#, 1.0),
            (r#"alys_actor_mailbox_messages{actor="world/s/a"}"#, 0.0),
            (
                r#"alys_actor_mailbox_capacity_messages{actor="world/s/a"}"#,
                8.0,
            ),
            (r#"alys_actor_running{actor="world/s/a"}"#, 1.0),
            (r#"alys_actor_health{actor="world/s/a"}"#, 0.0),
            (
                r#"alys_actor_handled_messages_total{actor="world/s/a",kind="keep"}"#,
                1.0,
            ),
            (
                r#"alys_actor_failed_messages_total{actor="world/s/a",kind="fail"}"#,
                1.0,
            ),
            (r#"alys_actor_timers_total{actor="world/s/a"}"#, 0.0),
            (
                r#"alys_actor_dead_letters_total{actor="world/s/a",reason="killed"}"#,
                1.0,
            ),
        ] {
            assert_eq!(sample(&text, series), Some(value), "{series} in\n{text}");
        }
        assert!(
            !text.contains("alys_actor_handling_seconds"),
            "times are measured only on demand"
        );
    });
}

#[test]
fn the_text_names_each_family_once_before_its_samples() {
    supervised(9, |world, supervisor| async move {
        world.system.measure(true);
        for name in ["a", "b"] {
            let doing = doer(&supervisor, name, 8);
            doing.addr.tell(fails()).unwrap();
            doing.settled().await;
        }
        let text = world.system.metrics().encode().unwrap();
        let mut families = BTreeSet::new();
        let mut family = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap();
                assert!(families.insert(family), "{family} twice in\n{text}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                assert!(
                    kind.starts_with(family),
                    "{line} after the help of {family}"
                );
            } else {
                let series = line.split(['{', ' ']).next().unwrap();
                let suffix = series.strip_prefix(family);
                assert!(
                    matches!(suffix, Some("" | "_bucket" | "_sum" | "_count")),
                    "{line} in {family}"
                );
            }
        }
        assert_eq!(families.len(), 12);
    });
}

#[test]
fn kinds_beyond_the_limit_share_one_series() {
    supervised(9, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 8);
        for n in 0..200 {
            let kind = Box::leak(format!("kind{n}").into_boxed_str());
            doing.addr.send(Job::new(kind, n, Act::Note)).await.unwrap();
        }
        doing.settled().await;
        let text = world.system.metrics().encode().unwrap();
        let handled = "alys_actor_handled_messages_total{";
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with(handled))
                .count(),
            33
        );
    });
}

#[test]
fn times_are_measured_only_while_enabled() {
    supervised(9, |world, supervisor| async move {
        let before = doer(&supervisor, "before", 8);
        world.system.measure(true);
        let after = doer(&supervisor, "after", 8);
        for doing in [&before, &after] {
            let gate = doing.hold().await;
            doing.addr.tell(note(1)).unwrap();
            time::sleep(Duration::from_millis(20)).await;
            gate.open();
            doing.settled().await;
        }
        world.system.measure(false);
        for doing in [&before, &after] {
            doing.addr.tell(note(2)).unwrap();
            doing.settled().await;
        }
        let text = world.system.metrics().encode().unwrap();
        for actor in ["before", "after"] {
            let value = |family: &str, kind: &str| {
                sample(
                    &text,
                    &format!(r#"{family}{{actor="world/s/{actor}",kind="{kind}"}}"#),
                )
            };
            assert_eq!(
                value("alys_actor_wait_seconds_count", "note"),
                Some(1.0),
                "{text}"
            );
            assert_eq!(
                value("alys_actor_handling_seconds_count", "note"),
                Some(1.0),
                "{text}"
            );
            assert!(value("alys_actor_wait_seconds_sum", "note").unwrap() >= 0.02);
            assert!(value("alys_actor_handling_seconds_sum", "wait").unwrap() >= 0.02);
        }
    });
}

#[test]
fn registered_metrics_outlive_the_incarnations_that_update_them() {
    run(async {
        let test = TestSystem::new();
        let litres = Family::<[(&str, &str); 1], Counter>::default();
        test.system().metrics().register(|registry| {
            registry.register("alys_pump_litres", "Litres moved", litres.clone());
        });
        for name in ["near", "far"] {
            let moved = litres.get_or_create_owned(&[("pump", name)]);
            let pump = test.start(name, 8, move || {
                let moved = moved.clone();
                async move { Ok::<_, NotMade>(Pump(moved)) }
            });
            let second = Planned::from(Fault::Panic).after(1);
            test.faults().plan(&test.path(name), second);
            pump.tell(Pumped(1)).unwrap();
            pump.tell(Pumped(100)).unwrap();
            pump.send(Pumped(2)).await.unwrap();
            let moved = format!(r#"alys_pump_litres_total{{pump="{name}"}}"#);
            test.until(|_| test.metric(&moved) == Some(3.0)).await;
            assert_eq!(test.restarts(name), 1);
        }
        test.end().await;
    });
}

struct Pumped(u64);

impl Message for Pumped {
    fn kind(&self) -> &'static str {
        "pumped"
    }
}

struct Pump(Counter);

impl AlysActor for Pump {
    type Message = Pumped;
    type Error = NotMade;
    type Config = ();
    const NAME: &'static str = "Pump";

    async fn handle(&mut self, Pumped(litres): Pumped, _: &Context<Self>) -> Result<(), NotMade> {
        self.0.inc_by(litres);
        Ok(())
    }
}

#[test]
fn a_system_without_children_has_no_metrics_and_ends() {
    run(async {
        let system = alys_actor_system::System::new("empty");
        assert_eq!(system.metrics().encode().unwrap(), "");
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
