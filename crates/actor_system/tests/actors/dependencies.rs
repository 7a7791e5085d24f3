//! Dependencies: the order of starts and stops.

use std::{sync::Arc, time::Duration};

use alys_actor_system::{ChildSpec, Restart, StartError, State, Strategy};

use alys_runtime::time;
use futures::FutureExt;
use tracing::level_filters::LevelFilter;

use crate::{doer::*, errors, kit::*};

#[test]
fn a_dependent_starts_once_its_dependencies_run() {
    supervised(9, |world, supervisor| async move {
        let other = world.supervisor("t", Strategy::OneForOne, 9, None);
        let log = Arc::<Log>::default();
        let a = doer_in(&log, &supervisor, ChildSpec::new("a"), 8);
        let gate = Arc::<Gate>::default();
        // If a has started already, it fails once and waits at the gate in its second start.
        a.plan.at("started", Twist::Wait(gate.clone()));
        a.settled_or_held(&gate).await;
        let b = doer_in(&log, &other, ChildSpec::new("b").depends_on("s/a"), 8);
        b.addr.tell(note(1)).unwrap();
        let c = doer_in(
            &log,
            &other,
            ChildSpec::new("c").depends_on("s/a").depends_on("t/b"),
            8,
        );
        c.addr.tell(note(2)).unwrap();
        // Time in which b and c would start if they did not wait.
        time::sleep(Duration::from_millis(20)).await;
        assert!(
            log.of("b").is_empty() && log.of("c").is_empty(),
            "{:?}",
            log.all()
        );
        gate.open();
        log.wait_for("c", "2").await;
        // a may start again meanwhile, because of the failure that it was sent.
        let is_start = |(who, what): &(String, String)| what == "started" && who != "a";
        let order: Vec<_> = log
            .all()
            .into_iter()
            .filter(is_start)
            .map(|(who, _)| who)
            .collect();
        assert_eq!(order, ["b", "c"]);
    });
}

impl Doing {
    /// Sends a failure and waits until the actor is at the gate in a start.
    async fn settled_or_held(&self, gate: &Arc<Gate>) {
        // If the actor ran before the twist was planned, its next start takes the twist.
        let _taken_or_not_yet = self.addr.tell(fails());
        gate.reached().await;
    }
}

#[test]
fn an_actor_that_was_not_started_cannot_be_a_dependency() {
    supervised(0, |_, supervisor| async move {
        let spec = ChildSpec::new("a").depends_on("s/b");
        let error = supervisor
            .start_configured(spec, 0, 8, || async { Err::<Doer, _>(NotMade) })
            .unwrap_err();
        let unknown = StartError::UnknownDependency {
            actor: "world/s/a".into(),
            dependency: "s/b".into(),
        };
        assert_eq!(error, unknown);
        assert_eq!(
            error.to_string(),
            "world/s/a depends on s/b, which has not been started"
        );
        // The name is free again.
        doer(&supervisor, "a", 8).settled().await;
    });
}

#[test]
fn dependents_are_stopped_first_by_levels_across_supervisors() {
    run(async {
        let world = World::new();
        let first = world.supervisor("first", Strategy::OneForOne, 0, None);
        let second = world.supervisor("second", Strategy::RestForOne, 0, None);
        let log = Arc::<Log>::default();
        // By the order of start alone, the last child of the second supervisor would be stopped
        // first.
        let spec = |name: &str, needs: &[&str]| {
            needs
                .iter()
                .fold(ChildSpec::new(name), |spec, need| spec.depends_on(*need))
        };
        doer_in(&log, &second, spec("store", &[]), 8);
        doer_in(&log, &first, spec("chain", &["second/store"]), 8);
        doer_in(
            &log,
            &first,
            spec("rpc", &["first/chain", "second/store"]),
            8,
        );
        doer_in(&log, &second, spec("peg", &["first/chain"]), 8);
        let last = doer_in(&log, &second, spec("metrics", &[]), 8);
        last.settled().await;
        log.wait_for("rpc", "started").await;
        log.wait_for("peg", "started").await;
        let report = world.system.shutdown(LONG).await;
        assert!(report.is_clean());
        assert_eq!(
            report.levels,
            [
                vec!["world/first/rpc", "world/second/peg"],
                vec!["world/first/chain"]
            ]
        );
        assert_eq!(
            report.stopped[2..],
            [
                "world/first/chain",
                "world/second/metrics",
                "world/second/store"
            ]
        );
        let stops: Vec<_> = log
            .all()
            .into_iter()
            .filter(|(_, what)| what == "stopped")
            .map(|(who, _)| who)
            .collect();
        assert_eq!(stops[2..], ["chain", "metrics", "store"]);
        accounts_balance(&world.system);
        assert_eq!(
            world.system.shutdown(LONG).await.stopped,
            Vec::<String>::new()
        );
    });
}

#[test]
fn a_dependent_whose_dependencies_never_run_can_be_stopped() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
        let held = doer(&supervisor, "held", 8);
        let never = Arc::<Gate>::default();
        held.plan.at("started", Twist::Wait(never.clone()));
        held.settled_or_held(&never).await;
        let b = doer_in(
            &held.log,
            &supervisor,
            ChildSpec::new("b").depends_on("s/held"),
            8,
        );
        b.addr.tell(note(1)).unwrap();
        let report = world.system.shutdown(Duration::from_millis(400)).await;
        // b never runs, because its dependency hangs in its start: its message is reported, and the
        // dependency is cut off.
        assert!(held.log.notes("b").is_empty());
        let left: Vec<_> = report.abandoned.iter().map(|left| &*left.actor).collect();
        assert_eq!(left, ["world/s/b", "world/s/held"], "{report:?}");
        assert_eq!(report.abandoned[0].messages, 1);
        accounts_balance(&world.system);
    });
}

#[test]
fn a_dependent_of_an_ended_actor_is_still_restarted() {
    supervised(9, |world, supervisor| async move {
        let a = doer_as(
            &supervisor,
            ChildSpec::new("a").restart(Restart::Temporary),
            8,
        );
        let b = doer_in(
            &a.log,
            &supervisor,
            ChildSpec::new("b").depends_on("s/a"),
            8,
        );
        b.settled().await;
        a.addr.tell(fails()).unwrap();
        a.addr.closed().await;
        world
            .wait("the end of a", |snapshot| {
                snapshot.find("s/a").unwrap().state == State::Failed
            })
            .await;
        b.addr.tell(fails()).unwrap();
        b.settled().await;
    });
}

#[test]
fn a_child_stopped_before_its_first_start_runs_later() {
    in_world(|world| async move {
        let together = world.supervisor("s", Strategy::OneForAll, 9, None);
        let other = world.supervisor("t", Strategy::OneForOne, 9, None);
        let log = Arc::<Log>::default();
        let needed = doer_in(&log, &other, ChildSpec::new("needed"), 8);
        let gate = Arc::<Gate>::default();
        needed.plan.at("started", Twist::Wait(gate.clone()));
        needed.settled_or_held(&gate).await;
        let sibling = doer_in(&log, &together, ChildSpec::new("sibling"), 8);
        let waits = doer_in(
            &log,
            &together,
            ChildSpec::new("waits").depends_on("t/needed"),
            8,
        );
        let last = doer_in(
            &log,
            &other,
            ChildSpec::new("last").depends_on("s/waits"),
            8,
        );
        waits.addr.tell(note(1)).unwrap();
        last.addr.tell(note(2)).unwrap();
        sibling.settled().await;
        sibling.addr.tell(fails()).unwrap();
        sibling.settled().await;
        // The restart of its sibling stopped it while it waited.
        assert_eq!(world.child("s/waits").state, State::Stopped);
        assert!(log.of("waits").is_empty());
        gate.open();
        log.wait_for("waits", "1").await;
        log.wait_for("last", "2").await;
        let waits = world.child("s/waits");
        assert_eq!((waits.state, waits.incarnation), (State::Running, 1));
    });
}

/// A shutdown whose first level lasts until `failing` has been restarted with its siblings;
/// `dependent` has ended by then and must not start again.
fn restarts_without_the_drained(is_nested: bool) {
    errors::listen(LevelFilter::ERROR);
    run(async move {
        let world = World::new();
        let above = world.supervisor("above", Strategy::OneForAll, 9, None);
        let (below, path) = match is_nested {
            true => (
                world.supervisor("below", Strategy::OneForOne, 9, Some(&above)),
                "above/below/needed",
            ),
            false => (above.clone(), "above/needed"),
        };
        let other = world.supervisor("other", Strategy::OneForOne, 0, None);
        let log = Arc::<Log>::default();
        let failing = doer_in(&log, &above, ChildSpec::new("failing"), 8);
        doer_in(&log, &below, ChildSpec::new("needed"), 8);
        doer_in(
            &log,
            &below,
            ChildSpec::new("dependent").depends_on(path),
            8,
        );
        let held = doer_in(&log, &other, ChildSpec::new("held").depends_on(path), 8);
        let gate = Arc::<Gate>::default();
        held.plan.at("stopped", Twist::Wait(gate.clone()));
        held.settled().await;
        log.wait_for("dependent", "started").await;
        let starts = |name: &str| {
            log.of(name)
                .iter()
                .filter(|what| *what == "started")
                .count()
        };
        let meanwhile = async {
            log.wait_for("dependent", "stopped").await;
            gate.reached().await;
            failing.addr.tell(fails()).unwrap();
            world
                .wait("the restart", |_| {
                    starts("failing") == 2 && starts("needed") == 2
                })
                .await;
            gate.open();
        };
        let (report, ()) = alys_runtime::join!(world.system.shutdown(LONG), meanwhile);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(starts("dependent"), 1);
        // Filtered by a path of this test, because tests run in parallel.
        let about: Vec<_> = errors::lines()
            .iter()
            .filter(|line| line.contains("world/above"))
            .cloned()
            .collect();
        assert!(about.is_empty(), "{about:?}");
    });
}

#[test]
fn a_child_that_was_drained_is_not_stopped_again_with_its_siblings() {
    restarts_without_the_drained(false);
}

#[test]
fn a_child_that_was_drained_is_not_started_with_its_supervisor() {
    restarts_without_the_drained(true);
}

/// Shuts down a store with slow work and nine dependents, which are under the store's supervisor or
/// under another one.
fn store_has_the_time_of_those_that_are_drained(is_apart: bool) {
    run(async move {
        let world = World::new();
        let front = world.supervisor("front", Strategy::OneForOne, 0, None);
        let back = world.supervisor("back", Strategy::OneForOne, 0, None);
        let log = Arc::<Log>::default();
        let store = doer_in(&log, &back, ChildSpec::new("store"), 32);
        for n in 0..9 {
            let above = if is_apart { &front } else { &back };
            doer_in(
                &log,
                above,
                ChildSpec::new(format!("d{n}")).depends_on("back/store"),
                8,
            )
            .settled()
            .await;
        }
        for _ in 0..20 {
            let work = Duration::from_millis(20);
            store
                .addr
                .tell(run_in("work", move |_| time::sleep(work).map(Ok).boxed()))
                .unwrap();
        }
        let report = world.system.shutdown(Duration::from_secs(4)).await;
        assert!(report.is_clean(), "{report:?}");
        accounts_balance(&world.system);
    });
}

#[test]
fn a_dependency_gets_the_time_that_its_dependents_left() {
    store_has_the_time_of_those_that_are_drained(false);
}

#[test]
fn a_dependency_under_another_supervisor_gets_the_time_that_was_left() {
    store_has_the_time_of_those_that_are_drained(true);
}

#[test]
fn one_dependent_that_hangs_leaves_the_others_their_time() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let log = Arc::<Log>::default();
        doer_in(&log, &supervisor, ChildSpec::new("store"), 8);
        let [a, b] = ["a", "b"].map(|name| {
            let spec = ChildSpec::new(name).depends_on("s/store");
            doer_in(&log, &supervisor, spec, 8)
        });
        b.settled().await;
        let busy = b.hold().await;
        for n in 0..5 {
            b.addr.tell(note(n)).unwrap();
        }
        let _never_opened = a.hold().await;
        // b is released only after a was cut off, with its whole queue left.
        let meanwhile = async {
            world.reaches("s/a", State::Stopped).await;
            busy.open();
        };
        let (report, ()) =
            alys_runtime::join!(world.system.shutdown(Duration::from_secs(2)), meanwhile);
        let left: Vec<_> = report
            .abandoned
            .iter()
            .map(|left| (&*left.actor, left.handling))
            .collect();
        assert_eq!(left, [("world/s/a", Some("wait"))], "{report:?}");
        assert_eq!(log.notes("b"), [0, 1, 2, 3, 4]);
        accounts_balance(&world.system);
    });
}
