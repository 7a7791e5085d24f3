//! The envelope that a handler sees.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alys_actor_system::{Addr, EnvelopeInfo, MessageId, Priority};
use alys_runtime::time;
use futures::FutureExt;

use crate::{doer::*, kit::*};

type Seen = Arc<Mutex<Vec<(String, EnvelopeInfo)>>>;

/// A job that records its envelope and tells the next actor.
fn tell_along(seen: &Seen, mut rest: Vec<Addr<Job>>) -> Job {
    let seen = seen.clone();
    run_in("tell", move |ctx| {
        async move {
            seen.lock()
                .unwrap()
                .push((ctx.path().to_owned(), ctx.envelope().unwrap()));
            if let Some(next) = rest.pop() {
                next.tell(tell_along(&seen, rest)).unwrap();
            }
            Ok(())
        }
        .boxed()
    })
}

/// A job that records its envelope and asks the next actor.
fn ask_along(seen: &Seen, mut rest: Vec<Addr<Job>>, reply: alys_actor_system::Reply<u64>) -> Job {
    let seen = seen.clone();
    run_in("ask", move |ctx| {
        async move {
            seen.lock()
                .unwrap()
                .push((ctx.path().to_owned(), ctx.envelope().unwrap()));
            let answer = match rest.pop() {
                Some(next) => {
                    next.ask(|reply| ask_along(&seen, rest, reply), LONG)
                        .await
                        .unwrap()
                        + 1
                }
                None => 0,
            };
            reply.send(answer);
            Ok(())
        }
        .boxed()
    })
}

#[test]
fn a_chain_of_messages_has_one_correlation_and_each_knows_its_sender() {
    supervised(0, |world, supervisor| async move {
        let [a, b, c] = ["a", "b", "c"].map(|name| doer(&supervisor, name, 8));
        let seen = Seen::default();
        a.addr.tell(note(1)).unwrap();
        a.addr
            .tell(tell_along(&seen, vec![c.addr.clone(), b.addr.clone()]))
            .unwrap();
        world
            .wait("the end of the chain", |_| seen.lock().unwrap().len() == 3)
            .await;
        let envelopes = seen.lock().unwrap().clone();
        let (_, first) = &envelopes[0];
        for ((path, envelope), (wanted, sender)) in envelopes.iter().zip([
            ("world/s/a", None),
            ("world/s/b", Some("world/s/a")),
            ("world/s/c", Some("world/s/b")),
        ]) {
            assert_eq!((&**path, envelope.sender.as_deref()), (wanted, sender));
            assert_eq!(envelope.correlation, first.id);
            assert_eq!((envelope.deadline, envelope.sent), (None, None));
            assert_eq!(
                (envelope.priority, envelope.waiting.len()),
                (Priority::Normal, 0)
            );
        }
        assert!(envelopes[1].1.id != first.id && envelopes[2].1.id != envelopes[1].1.id);
        assert!(first.id.to_string().ends_with("-2"), "{}", first.id);
        let (source, sequence) = first.id.parts();
        assert_eq!(MessageId::from_parts(source, sequence), first.id);
    });
}

#[test]
fn an_ask_carries_its_deadline_and_its_call_chain() {
    supervised(0, |world, supervisor| async move {
        let [a, b, c] = ["a", "b", "c"].map(|name| doer(&supervisor, name, 8));
        let seen = Seen::default();
        world.system.measure(true);
        let begun = time::now();
        let rest = vec![c.addr.clone(), b.addr.clone()];
        assert_eq!(
            a.addr
                .ask(|reply| ask_along(&seen, rest, reply), LONG)
                .await,
            Ok(2)
        );
        let envelopes = seen.lock().unwrap().clone();
        let waiting: Vec<Vec<&str>> = envelopes
            .iter()
            .map(|(_, envelope)| envelope.waiting.iter().map(|path| &**path).collect())
            .collect();
        assert_eq!(
            waiting,
            [vec![], vec!["world/s/a"], vec!["world/s/b", "world/s/a"]]
        );
        for (_, envelope) in &envelopes {
            let (deadline, sent) = (envelope.deadline.unwrap(), envelope.sent.unwrap());
            assert!(sent >= begun && sent <= time::now());
            assert!(deadline >= begun + LONG && deadline <= time::now() + LONG);
        }
    });
}

#[test]
fn messages_of_timers_and_tasks_begin_chains_of_their_own() {
    supervised(0, |world, supervisor| async move {
        let [a, b] = ["a", "b"].map(|name| doer(&supervisor, name, 8));
        let seen = Seen::default();
        let (held, to) = (seen.clone(), b.addr.clone());
        let starts = run_in("starts", move |ctx| {
            async move {
                ctx.send_after(
                    Duration::ZERO,
                    tell_along(&held, vec![to.clone()]).priority(Priority::High),
                );
                ctx.spawn("tells", async move {
                    to.tell(tell_along(&held, vec![]).priority(Priority::Low))
                        .unwrap();
                })
                .unwrap();
                Ok(())
            }
            .boxed()
        });
        a.addr.tell(starts).unwrap();
        world
            .wait("all three", |_| seen.lock().unwrap().len() == 3)
            .await;
        let envelopes = seen.lock().unwrap().clone();
        let timer = &envelopes
            .iter()
            .find(|(path, _)| path == "world/s/a")
            .unwrap()
            .1;
        assert_eq!(
            (timer.sender.as_deref(), timer.correlation),
            (None, timer.id)
        );
        assert_eq!(timer.priority, Priority::High);
        assert_eq!(timer.incarnation, 1);
        let at_b = |sender: Option<&str>| {
            let mut at_b = envelopes.iter().filter(|(path, _)| path == "world/s/b");
            at_b.find(|(_, envelope)| envelope.sender.as_deref() == sender)
                .unwrap()
                .1
                .clone()
        };
        let from_a = at_b(Some("world/s/a"));
        assert_eq!((from_a.correlation, from_a.incarnation), (timer.id, 1));
        let from_task = at_b(None);
        assert_eq!(from_task.incarnation, 0);
        assert_eq!(
            (from_task.correlation, from_task.priority),
            (from_task.id, Priority::Low)
        );
    });
}

#[test]
fn timers_of_two_incarnations_have_different_ids() {
    supervised(9, |world, supervisor| async move {
        let a = doer(&supervisor, "a", 8);
        let seen = Seen::default();
        for incarnation in 1..=2 {
            let held = seen.clone();
            let sets = run_in("sets", move |ctx| {
                ctx.send_after(Duration::ZERO, tell_along(&held, vec![]));
                async { Ok(()) }.boxed()
            });
            a.addr.tell(sets).unwrap();
            world
                .wait("the timer", |_| seen.lock().unwrap().len() == incarnation)
                .await;
            a.addr.tell(fails()).unwrap();
            // A failure during the shutdown would be reported.
            a.settled().await;
        }
        let envelopes = seen.lock().unwrap().clone();
        assert_ne!(envelopes[0].1.id, envelopes[1].1.id);
    });
}

#[test]
fn priorities_have_names() {
    let names: Vec<_> = Priority::ALL.map(|priority| priority.to_string()).into();
    assert_eq!(names, ["low", "normal", "high", "critical"]);
}
