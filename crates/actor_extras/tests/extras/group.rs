//! Groups: several actors behind one handle.

use std::{sync::Arc, time::Duration};

use alys_actor_extras::{ByMember, Group, JoinError, MAX_MEMBERS};
use alys_actor_system::{AskError, ChildSpec, Message, Restart, TellError, mailbox};

use crate::kit::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ping(u64);

impl Message for Ping {
    fn kind(&self) -> &'static str {
        "ping"
    }
}

/// Member names with their outcomes, in order.
fn names<T>(outcomes: ByMember<T>) -> Vec<(String, T)> {
    outcomes
        .into_iter()
        .map(|(name, outcome)| (name.to_string(), outcome))
        .collect()
}

#[test]
fn a_broadcast_reaches_every_member_in_spite_of_refusals() {
    run(async {
        let (quick, _quick) = mailbox(8);
        let (full, _full) = mailbox(1);
        let (ended, slot) = mailbox(8);
        drop(slot);
        full.tell(Ping(0)).unwrap();
        let mut group = Group::new();
        for (name, addr) in [("full", &full), ("ended", &ended), ("quick", &quick)] {
            group.join(name, addr.clone()).unwrap();
        }
        let told = names(group.broadcast(Ping(1)));
        let [
            (first, Err(TellError::Full(Ping(1)))),
            (second, Err(TellError::Closed(Ping(1)))),
            (third, Ok(())),
        ] = &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!(
            [first, second, third],
            ["full", "ended", "quick"],
            "in the order of joining"
        );
        assert_eq!((quick.depth(), full.depth()), (1, 1));
        assert_eq!(group.remove_ended(), [Arc::from("ended")]);
        assert_eq!(
            group.members().map(|(name, _)| name).collect::<Vec<_>>(),
            ["full", "quick"]
        );
    });
}

#[test]
fn each_member_gets_the_message_made_for_its_place() {
    supervised(0, |world, supervisor| async move {
        let mut group = Group::default();
        for name in ["c", "a", "b"] {
            group.join(name, world.worker(&supervisor, name)).unwrap();
        }
        let told = group.broadcast_with(|place| Told::Note(place as u64 * 10));
        assert!(told.iter().all(|(_, told)| told.is_ok()), "{told:?}");
        for (name, noted) in [("c", 0), ("a", 10), ("b", 20)] {
            world.diary.wait_for(name, Event::Noted(noted)).await;
            assert_eq!(world.diary.notes(name), [noted]);
        }
    });
}

#[test]
fn all_are_asked_at_once_and_a_slow_one_costs_no_other_its_answer() {
    supervised(0, |world, supervisor| async move {
        let slow = world.worker(&supervisor, "slow");
        let ends = ChildSpec::new("ends").restart(Restart::Transient);
        let ends = world.worker_as(&supervisor, ends, 8);
        let mut group = Group::new();
        group.join("slow", slow.clone()).unwrap();
        group.join("ends", ends.clone()).unwrap();
        group
            .join("quick", world.worker(&supervisor, "quick"))
            .unwrap();
        ends.tell(Told::End).unwrap();
        ends.closed().await;
        let gate = Arc::<Gate>::default();
        slow.tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        let deadline = Duration::from_millis(50);
        let answers = names(
            group
                .ask_all(|reply| Told::Echo { n: 7, reply }, deadline)
                .await,
        );
        let expected = [
            (
                "slow",
                Err(AskError::Timeout {
                    kind: "echo",
                    deadline,
                }),
            ),
            ("ends", Err(AskError::Closed { kind: "echo" })),
            ("quick", Ok(7)),
        ];
        assert_eq!(
            answers,
            expected.map(|(name, answer)| (name.to_owned(), answer))
        );

        gate.open();
        let gates = [Arc::<Gate>::default(), Arc::default()];
        for (gate, name) in gates.iter().zip(["slow", "quick"]) {
            group
                .get(name)
                .unwrap()
                .send(Told::Wait(gate.clone()))
                .await
                .unwrap();
            gate.reached().await;
        }
        let asking = group.ask_all(|reply| Told::Echo { n: 8, reply }, LONG);
        let opening = async {
            let depth = |name| group.get(name).unwrap().depth();
            world
                .wait("a question to both", |_| {
                    depth("slow") == 1 && depth("quick") == 1
                })
                .await;
            gates.iter().for_each(|gate| gate.open());
        };
        let (answers, ()) = futures::join!(asking, opening);
        let answered = answers
            .iter()
            .filter(|(_, answer)| *answer == Ok(8))
            .count();
        assert_eq!(answered, 2, "{answers:?}");
    });
}

#[test]
fn names_are_unique_and_members_bounded() {
    let (addr, _slot) = mailbox::<Ping>(1);
    let mut group = Group::new();
    assert!(group.is_empty());
    for n in 0..MAX_MEMBERS {
        group.join(n.to_string(), addr.clone()).unwrap();
    }
    assert_eq!(
        group.join("7", addr.clone()),
        Err(JoinError::NameTaken { name: "7".into() })
    );
    let too_many = JoinError::TooManyMembers { limit: MAX_MEMBERS };
    assert_eq!(group.join("one more", addr.clone()), Err(too_many));
    let before = group.clone();
    assert!(group.leave("7").is_some());
    assert!(group.leave("7").is_none() && group.get("7").is_none());
    group.join("7", addr).unwrap();
    assert_eq!((group.len(), before.len()), (MAX_MEMBERS, MAX_MEMBERS));
    assert_eq!(
        group.members().last().map(|(name, _)| name),
        Some("7"),
        "who comes back is the last"
    );
    assert_eq!(
        before.members().nth(7).map(|(name, _)| name),
        Some("7"),
        "a clone has the members of its moment"
    );
}
