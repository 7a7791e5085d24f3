//! Restart strategies, and the tasks and timers of an incarnation.

use std::{sync::Arc, time::Duration};

use alys_actor_system::{ChildSpec, State, Strategy};
use alys_runtime::time;

use crate::kit::*;

fn takes_along(strategy: Strategy, moves: &'static [&'static str], starts: [u64; 3]) {
    run(async move {
        let world = World::new();
        let supervisor = world.supervisor("s", strategy, 3, None);
        let addrs = ["a", "b", "c"].map(|name| world.worker(&supervisor, name));
        for addr in &addrs {
            settled(addr).await;
        }
        let gate = Arc::<Gate>::default();
        addrs[0].tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        addrs[0].tell(Told::Note(1)).unwrap();
        let before = world.diary.all().len();
        addrs[1].tell(Told::Panic).unwrap();
        addrs[1].tell(Told::Note(2)).unwrap();
        addrs[2].tell(Told::Note(3)).unwrap();
        gate.open();
        for (name, n) in [("a", 1), ("b", 2), ("c", 3)] {
            world.diary.wait_for(name, Event::Noted(n)).await;
        }
        for ((name, started), addr) in ["a", "b", "c"].into_iter().zip(starts).zip(&addrs) {
            world.diary.wait_for(name, Event::Started(started)).await;
            settled(addr).await;
        }
        assert_eq!(world.diary.moves(before), moves);
        let own = ["s/a", "s/b", "s/c"].map(|path| world.child(path).failures);
        assert_eq!(own, [0, 1, 0], "siblings were restarted and did not fail");
        for (name, n) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(world.diary.notes(name), [n], "{name}");
        }
        world.end().await;
    });
}

#[test]
fn one_for_one_restarts_the_failed_child_only() {
    takes_along(Strategy::OneForOne, &["b+2"], [1, 2, 1]);
}

#[test]
fn one_for_all_stops_all_in_reverse_and_starts_them_in_order() {
    takes_along(
        Strategy::OneForAll,
        &["c-", "a-", "a+2", "b+2", "c+2"],
        [2, 2, 2],
    );
}

#[test]
fn rest_for_one_does_not_restart_earlier_siblings() {
    takes_along(Strategy::RestForOne, &["c-", "b+2", "c+2"], [1, 2, 2]);
}

#[test]
fn a_sibling_that_does_not_stop_in_time_loses_its_message_and_is_restarted() {
    in_world(|world| async move {
        let supervisor = world.supervisor("s", Strategy::OneForAll, 3, None);
        let hung = ChildSpec {
            stop_timeout: Duration::from_millis(20),
            ..ChildSpec::new("hung")
        };
        let hung = world.worker_as(&supervisor, hung, 8);
        let other = world.worker(&supervisor, "other");
        let gate = Arc::<Gate>::default();
        hung.tell(Told::Wait(gate.clone())).unwrap();
        hung.tell(Told::Note(1)).unwrap();
        gate.reached().await;
        other.tell(Told::Fail).unwrap();
        world.diary.wait_for("hung", Event::Noted(1)).await;
        let mailbox = world.mailbox("s/hung");
        assert_eq!(
            (mailbox.interrupted, mailbox.failed, mailbox.abandoned),
            (1, 0, 0)
        );
    });
}

#[test]
fn two_siblings_that_fail_at_once_are_restarted_once_together() {
    in_world(|world| async move {
        let supervisor = world.supervisor("s", Strategy::OneForAll, 2, None);
        let addrs = ["a", "b"].map(|name| world.worker(&supervisor, name));
        let gate = Arc::<Gate>::default();
        for addr in &addrs {
            addr.tell(Told::Wait(gate.clone())).unwrap();
            addr.tell(Told::Panic).unwrap();
            addr.tell(Told::Note(1)).unwrap();
        }
        gate.open();
        for (name, addr) in ["a", "b"].into_iter().zip(&addrs) {
            world.diary.wait_for(name, Event::Noted(1)).await;
            settled(addr).await;
        }
        let tree = world.system.snapshot();
        for name in ["s/a", "s/b"] {
            let restarts = tree.find(name).unwrap().restarts;
            assert!((1..=2).contains(&restarts), "{name}: {restarts}");
        }
    });
}

#[test]
fn tasks_end_before_the_next_incarnation_begins() {
    supervised(5, |world, supervisor| async move {
        let addr = world.worker(&supervisor, "a");
        for msg in [
            Told::SpawnForever,
            Told::SpawnForever,
            Told::Panic,
            Told::SpawnForever,
            Told::End,
        ] {
            addr.tell(msg).unwrap();
        }
        world.diary.wait_for("a", Event::Started(3)).await;
        let lives: Vec<_> = world
            .diary
            .of("a")
            .into_iter()
            .filter(|event| *event != Event::Dropped && *event != Event::Stopping)
            .collect();
        use Event::{Started, TaskGone};
        assert_eq!(
            lives,
            [
                Started(1),
                TaskGone,
                TaskGone,
                Started(2),
                TaskGone,
                Started(3)
            ]
        );
    });
}

#[test]
fn timers_do_not_reach_the_next_incarnation() {
    supervised(5, |world, supervisor| async move {
        let addr = world.worker(&supervisor, "a");
        for msg in [
            Told::After(Duration::from_millis(10), 1),
            Told::Panic,
            Told::After(Duration::from_millis(30), 2),
        ] {
            addr.tell(msg).unwrap();
        }
        world.diary.wait_for("a", Event::Noted(2)).await;
        assert_eq!(world.diary.notes("a"), [2]);
        let mailbox = world.mailbox("s/a");
        assert_eq!((mailbox.timers, mailbox.crossed), (1, 0));
    });
}

#[test]
fn an_actor_has_one_incarnation_at_a_time() {
    run(async {
        let world = World::with_root(100);
        let supervisor = world.supervisor("s", Strategy::OneForAll, 3, None);
        let addrs = ["a", "b", "c"].map(|name| world.worker(&supervisor, name));
        // The factory of a worker asserts that no other incarnation is alive; its panic would be
        // the last error.
        for round in 0..30 {
            for (place, addr) in addrs.iter().enumerate() {
                let msg = match (round + place) % 4 {
                    0 => Told::Panic,
                    1 => Told::Fail,
                    2 => Told::SpawnPanic,
                    _ => Told::SpawnForever,
                };
                addr.send(msg).await.unwrap();
            }
        }
        for addr in &addrs {
            settled(addr).await;
        }
        let tree = world.system.snapshot();
        for name in ["s/a", "s/b", "s/c"] {
            let child = tree.find(name).unwrap();
            let error = child.last_error.clone().unwrap();
            assert!(error.contains("told to"), "{error}");
            assert!(child.restarts >= 7, "{}", child.restarts);
        }
        world.system.shutdown(LONG).await;
    });
}

#[test]
fn actors_can_hold_each_others_addresses_in_a_cycle() {
    use alys_actor_system::{Addr, AlysActor, Context, Message, Reply, mailbox};

    struct Ball {
        bounces: u32,
        reply: Reply<u32>,
    }
    impl Message for Ball {
        fn kind(&self) -> &'static str {
            "ball"
        }
    }
    struct Player(Addr<Ball>);
    impl AlysActor for Player {
        type Message = Ball;
        type Error = Never;
        type Config = ();
        const NAME: &'static str = "Player";
        async fn handle(&mut self, ball: Ball, _: &Context<Self>) -> Result<(), Never> {
            if ball.bounces == 10 {
                ball.reply.send(ball.bounces);
            } else {
                self.0
                    .tell(Ball {
                        bounces: ball.bounces + 1,
                        ..ball
                    })
                    .unwrap();
            }
            Ok(())
        }
    }
    supervised(0, |_, supervisor| async move {
        let (left, left_slot) = mailbox(1);
        let (right, right_slot) = mailbox(1);
        let to_left = left.clone();
        let made = move |addr: &Addr<Ball>| Ok::<_, Never>(Player(addr.clone()));
        supervisor
            .start(ChildSpec::new("left"), left_slot, move || {
                std::future::ready(made(&right))
            })
            .unwrap();
        supervisor
            .start(ChildSpec::new("right"), right_slot, move || {
                std::future::ready(made(&to_left))
            })
            .unwrap();
        assert_eq!(
            left.ask(|reply| Ball { bounces: 0, reply }, LONG).await,
            Ok(10)
        );
    });
}

#[test]
fn a_snapshot_shows_the_tree() {
    in_world(|world| async move {
        let upper = world.supervisor("upper", Strategy::OneForOne, 1, None);
        let lower = world.supervisor("lower", Strategy::RestForOne, 1, Some(&upper));
        let addr = world.worker(&lower, "a");
        settled(&addr).await;
        // A message is counted after its handler returns, which is after the answer.
        world.handled("upper/lower/a", 1).await;
        let tree = world.system.snapshot();
        assert_eq!(
            tree.find("upper/lower/a").unwrap().path,
            "world/upper/lower/a"
        );
        assert_eq!(tree.find("upper/lower").unwrap().mailbox, None);
        assert_eq!(tree.find("upper/nobody"), None);
        let child = tree.find("upper/lower/a").unwrap();
        assert_eq!(
            (
                child.state,
                child.incarnation,
                child.restarts,
                child.failures,
                &child.last_error
            ),
            (State::Running, 1, 0, 0, &None)
        );
    });
}

#[test]
fn a_dropped_system_leaves_nothing_behind() {
    run(async {
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 1, None);
        let addr = world.worker(&supervisor, "a");
        addr.tell(Told::SpawnForever).unwrap();
        settled(&addr).await;
        drop(world.system);
        world.diary.wait_for("a", Event::Dropped).await;
        world.diary.wait_for("a", Event::TaskGone).await;
        time::timeout(LONG, addr.closed())
            .await
            .expect("the mailbox stays open");
    });
}
