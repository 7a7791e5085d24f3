//! Cycles of actors that wait for each other are refused; waits without a cycle are not.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use alys_actor_system::{Addr, AskError, Reply, SendError, Supervisor};
use alys_runtime::{rand, time};
use futures::{FutureExt, future::join_all};

use crate::{doer::*, kit::*};

type Answer = Result<u64, AskError>;

fn doers(supervisor: &Supervisor, count: usize) -> Vec<Doing> {
    (0..count)
        .map(|n| doer(supervisor, &format!("p{n}"), 64))
        .collect()
}

/// A job that asks the first of `rest` to ask the next, and so on. The last one answers.
fn ask_along(mut rest: VecDeque<Addr<Job>>, reply: Reply<Answer>) -> Job {
    Job::run("ask", async move {
        let answer = match rest.pop_front() {
            Some(next) => {
                let asked = next.ask(|reply| ask_along(rest, reply), LONG).await;
                asked.and_then(|answer| answer)
            }
            None => Ok(0),
        };
        reply.send(answer);
        Ok(())
    })
}

/// All permutations of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let with_last = |order: Vec<usize>| {
        (0..count).map(move |at| {
            let mut order = order.clone();
            order.insert(at, count - 1);
            order
        })
    };
    shorter.into_iter().flat_map(with_last).collect()
}

#[test]
fn the_ask_that_closes_a_cycle_returns_the_whole_cycle_in_every_order() {
    supervised(0, |_, supervisor| async move {
        let doers = doers(&supervisor, 5);
        for count in 1..=5 {
            for order in orders(count) {
                let addr = |n: &usize| doers[*n].addr.clone();
                let rest = order[1..].iter().chain(&order[..1]).map(addr).collect();
                let answer = addr(&order[0])
                    .ask(|reply| ask_along(rest, reply), LONG)
                    .await
                    .unwrap();
                let error = answer.clone().unwrap_err();
                assert!(!error.may_pass());
                let path: Vec<_> = order
                    .iter()
                    .chain(&order[..1])
                    .map(|n| format!("world/s/p{n}"))
                    .collect();
                assert_eq!(cycle(answer), path.join(" -[ask]-> "));
                assert_eq!(
                    error.to_string(),
                    format!("ask would close a cycle: {}", path.join(" -[ask]-> "))
                );
            }
        }
    });
}

#[test]
fn a_cycle_that_begins_in_the_middle_of_a_chain_is_found() {
    supervised(0, |_, supervisor| async move {
        let doers = doers(&supervisor, 4);
        let rest = [1, 2, 3, 1]
            .iter()
            .map(|n| doers[*n].addr.clone())
            .collect();
        let answer = doers[0]
            .addr
            .ask(|reply| ask_along(rest, reply), LONG)
            .await
            .unwrap();
        assert_eq!(
            cycle(answer),
            "world/s/p1 -[ask]-> world/s/p2 -[ask]-> world/s/p3 -[ask]-> world/s/p1"
        );
    });
}

#[test]
fn two_actors_that_ask_each_other_do_not_hang_and_at_least_one_gets_an_error() {
    supervised(0, |_, supervisor| async move {
        let [a, b] = ["a", "b"].map(|name| doer(&supervisor, name, 8));
        for _ in 0..50 {
            let gates = [(); 2].map(|()| Arc::<Gate>::default());
            let asks = [(&a, &b, 0), (&b, &a, 1)].map(|(from, to, gate)| {
                let (to, gate) = (to.addr.clone(), gates[gate].clone());
                in_handler(&from.addr, async move {
                    gate.pass().await;
                    to.ask(answering(1), LONG).await
                })
            });
            let open = async {
                for gate in &gates {
                    gate.reached().await;
                }
                gates.iter().for_each(|gate| gate.open());
            };
            let (answers, ()) = futures::future::join(join_all(asks), open).await;
            let told = answers
                .iter()
                .filter(|answer| matches!(answer, Err(AskError::Cycle { .. })))
                .count();
            let answered = answers.iter().filter(|answer| **answer == Ok(1)).count();
            assert!(told >= 1 && told + answered == 2, "{answers:?}");
        }
    });
}

#[test]
fn an_ask_to_an_actor_that_waits_for_the_asker_is_a_cycle() {
    supervised(0, |world, supervisor| async move {
        let [a, b] = ["a", "b"].map(|name| doer(&supervisor, name, 8));
        // b handles another message while a waits for b, and asks a: both would wait for ever.
        let gate = Arc::<Gate>::default();
        let (held, to) = (gate.clone(), a.addr.clone());
        let asks = in_handler(&b.addr, async move {
            held.pass().await;
            to.ask(answering(1), LONG).await
        });
        let to = b.addr.clone();
        let waits = in_handler(&a.addr, async move { to.ask(answering(2), LONG).await });
        let open = async {
            gate.reached().await;
            // The question of a is queued at b.
            world.wait("the question", |_| b.addr.depth() == 1).await;
            gate.open();
        };
        let (asked, waited, ()) = futures::join!(asks, waits, open);
        assert_eq!(
            cycle(asked),
            "world/s/b -[answer]-> world/s/a -[answer]-> world/s/b"
        );
        assert_eq!(waited, Ok(2));
    });
}

#[test]
fn a_cycle_is_found_through_an_actor_that_forwards() {
    supervised(0, |_, supervisor| async move {
        let [a, b, c] = ["a", "b", "c"].map(|name| doer(&supervisor, name, 8));
        let (to_b, to_c, back) = (b.addr.clone(), c.addr.clone(), a.addr.clone());
        let answer: Answer = in_handler(&a.addr, async move {
            let make = |reply| {
                Job::run("passes_on", async move {
                    to_c.forward(ask_along([back].into(), reply)).unwrap();
                    Ok(())
                })
            };
            to_b.ask(make, LONG).await.unwrap()
        })
        .await;
        assert_eq!(
            cycle(answer),
            "world/s/a -[ask]-> world/s/c -[ask]-> world/s/a"
        );
    });
}

#[test]
fn an_actor_that_forwarded_a_question_may_ask_its_asker() {
    supervised(0, |world, supervisor| async move {
        let [a, b, c] = ["a", "b", "c"].map(|name| doer(&supervisor, name, 8));
        let gate = c.hold().await;
        let (to_b, to_c) = (b.addr.clone(), c.addr.clone());
        let waits = in_handler(&a.addr, async move {
            let make = |reply| {
                Job::run("passes_on", async move {
                    to_c.forward(Job::new("answer", 7, Act::Answer(reply)))
                        .unwrap();
                    Ok(())
                })
            };
            to_b.ask(make, LONG).await
        });
        let to = a.addr.clone();
        let asks = async {
            world
                .wait("the question at c", |_| c.addr.depth() == 1)
                .await;
            in_handler(&b.addr, async move { to.ask(answering(1), LONG).await }).await
        };
        let open = async {
            world
                .wait("the question at c", |_| c.addr.depth() == 1)
                .await;
            world
                .wait("the question at a", |_| a.addr.depth() == 1)
                .await;
            gate.open();
        };
        // If the question is refused, nothing is queued at a, so the gate is opened here too.
        let asks = asks.inspect(|_| gate.open());
        let (waited, asked, _) = futures::join!(
            waits,
            asks,
            futures::future::select(Box::pin(open), Box::pin(gate.opened()))
        );
        assert_eq!((waited, asked), (Ok(7), Ok(1)));
    });
}

#[test]
fn the_receiver_of_a_forwarded_question_may_not_ask_its_asker() {
    supervised(0, |world, supervisor| async move {
        let [a, b, c] = ["a", "b", "c"].map(|name| doer(&supervisor, name, 8));
        let gate = Arc::<Gate>::default();
        let (held, to_a) = (gate.clone(), a.addr.clone());
        let asks = in_handler(&c.addr, async move {
            held.pass().await;
            to_a.ask(answering(1), LONG).await
        });
        let (to_b, to_c) = (b.addr.clone(), c.addr.clone());
        let waits = in_handler(&a.addr, async move {
            let make = |reply| {
                Job::run("passes_on", async move {
                    to_c.forward(Job::new("answer", 7, Act::Answer(reply)))
                        .unwrap();
                    Ok(())
                })
            };
            to_b.ask(make, LONG).await
        });
        let open = async {
            gate.reached().await;
            world
                .wait("the question at c", |_| c.addr.depth() == 1)
                .await;
            gate.open();
        };
        let (asked, waited, ()) = futures::join!(asks, waits, open);
        assert_eq!(
            cycle(asked),
            "world/s/c -[answer]-> world/s/a -[answer]-> world/s/c"
        );
        assert_eq!(waited, Ok(7));

        // After a failed forward the asker still waits for the actor that has the question.
        let (to_b, to_c, back) = (b.addr.clone(), c.addr.clone(), a.addr.clone());
        let gate = c.hold().await;
        while c.addr.tell(note(1)).is_ok() {}
        let told = in_handler(&a.addr, async move {
            let make = |reply: Reply<Answer>| {
                Job::run("fails_to_pass_on", async move {
                    to_c.forward(note(2)).unwrap_err();
                    reply.send(back.ask(answering(1), LONG).await);
                    Ok(())
                })
            };
            to_b.ask(make, LONG).await.unwrap()
        })
        .await;
        assert_eq!(
            cycle(told),
            "world/s/a -[fails_to_pass_on]-> world/s/b -[answer]-> world/s/a"
        );
        gate.open();
    });
}

#[test]
fn a_question_is_not_forwarded_to_an_actor_that_waits_for_its_asker() {
    supervised(0, |world, supervisor| async move {
        let [a, b, c] = ["a", "b", "c"].map(|name| doer(&supervisor, name, 8));
        let gate = Arc::<Gate>::default();
        let (held, to_b, to_c, back) =
            (gate.clone(), b.addr.clone(), c.addr.clone(), a.addr.clone());
        // b forwards the question of a once c waits for a.
        let waits = in_handler(&a.addr, async move {
            let make = |reply: Reply<[String; 2]>| {
                Job::run("passes_on", async move {
                    held.pass().await;
                    let errors = [(to_c, "answer"), (back, "note")].map(|(to, kind)| {
                        let sent = to.forward(Job::new(kind, 7, Act::Note));
                        sent.unwrap_err().to_string()
                    });
                    reply.send(errors);
                    Ok(())
                })
            };
            to_b.ask(make, LONG).await
        });
        let to_a = a.addr.clone();
        let asks = in_handler(&c.addr, async move { to_a.ask(answering(1), LONG).await });
        let open = async {
            gate.reached().await;
            world
                .wait("the question at a", |_| a.addr.depth() == 1)
                .await;
            gate.open();
        };
        let (errors, asked, ()) = futures::join!(waits, asks, open);
        assert_eq!(
            errors.unwrap(),
            [
                "would close a cycle: world/s/a -[answer]-> world/s/c -[answer]-> world/s/a",
                "would close a cycle: world/s/a -[note]-> world/s/a"
            ]
        );
        assert_eq!(asked, Ok(1));
    });
}

#[test]
fn an_asker_that_has_given_up_is_in_no_cycle() {
    supervised(0, |_, supervisor| async move {
        let [a, b] = ["a", "b"].map(|name| doer(&supervisor, name, 8));
        // a asks b, gives up, and ends; b asks a in the handler of that question.
        let gate = Arc::<Gate>::default();
        let (reply, answer) = Reply::channel();
        let (held, to, back) = (gate.clone(), b.addr.clone(), a.addr.clone());
        let deadline = Duration::from_millis(5);
        let first: Answer = in_handler(&a.addr, async move {
            let make = |unused: Reply<u64>| {
                Job::run("asks_back", async move {
                    let _unused = unused;
                    held.pass().await;
                    reply.send(back.ask(answering(4), LONG).await);
                    Ok(())
                })
            };
            to.ask(make, deadline).await
        })
        .await;
        // On a slow machine the question may expire before its handler begins; then `answer` is
        // never sent.
        assert_eq!(
            first,
            Err(AskError::Timeout {
                kind: "asks_back",
                deadline
            })
        );
        gate.open();
        if let Ok(answer) = time::timeout(LONG, answer).await.unwrap() {
            assert_eq!(answer, Ok(4));
        }
    });
}

#[test]
fn an_asker_that_has_given_up_breaks_the_chain() {
    supervised(0, |world, supervisor| async move {
        let [a, b, c] = ["a", "b", "c"].map(|name| doer(&supervisor, name, 8));
        let (at_b, at_c) = (Arc::<Gate>::default(), Arc::<Gate>::default());
        let (reply, answer) = Reply::channel();
        // a waits for b; b asked c and gave up, but is still in its handler. c then asks a, which
        // can answer once b is done.
        let (held, back) = (at_c.clone(), a.addr.clone());
        let asks_a = move |unused: Reply<u64>| {
            Job::run("asks_a", async move {
                let _unused = unused;
                held.pass().await;
                reply.send(back.ask(answering(4), LONG).await);
                Ok(())
            })
        };
        let (held, reached, to_c) = (at_b.clone(), at_c.clone(), c.addr.clone());
        let asks_c = move |reply: Reply<u64>| {
            Job::run("asks_c", async move {
                let asks = to_c.ask(asks_a, LONG);
                futures::future::select(Box::pin(asks), Box::pin(reached.reached())).await;
                held.pass().await;
                reply.send(5);
                Ok(())
            })
        };
        let to_b = b.addr.clone();
        let waits = in_handler(&a.addr, async move { to_b.ask(asks_c, LONG).await });
        let opens = async {
            at_b.reached().await;
            at_c.open();
            let asked = async {
                world
                    .wait("the question at a", |_| a.addr.depth() == 1)
                    .await
            };
            let asked = futures::future::select(Box::pin(asked), answer).await;
            at_b.open();
            match asked {
                futures::future::Either::Left((_, answer)) => {
                    time::timeout(LONG, answer).await.unwrap().unwrap()
                }
                futures::future::Either::Right((answer, _)) => answer.unwrap(),
            }
        };
        let (waited, answered) = futures::join!(waits, opens);
        assert_eq!((waited, answered), (Ok(5), Ok(4)));
    });
}

#[test]
fn a_send_that_waits_for_room_can_close_a_cycle() {
    supervised(0, |_, supervisor| async move {
        let (a, b) = (doer(&supervisor, "a", 1), doer(&supervisor, "b", 8));
        let (to_b, back) = (b.addr.clone(), a.addr.clone());
        let sent: String = in_handler(&a.addr, async move {
            back.tell(note(1)).unwrap();
            let make = |reply: Reply<String>| {
                Job::run("sends", async move {
                    let sent = back.send(note(2)).await;
                    let text = sent.as_ref().unwrap_err().to_string();
                    match sent {
                        Err(SendError::Cycle { msg, .. }) => assert_eq!(msg.n, 2),
                        other => panic!("{other:?}"),
                    }
                    reply.send(text);
                    Ok(())
                })
            };
            to_b.ask(make, LONG).await.unwrap()
        })
        .await;
        let path = "world/s/a -[sends]-> world/s/b -[note]-> world/s/a";
        assert_eq!(sent, format!("would close a cycle: {path}"));
    });
}

#[test]
fn an_ask_in_a_task_does_not_make_its_actor_wait() {
    supervised(0, |_, supervisor| async move {
        let a = doer(&supervisor, "a", 8);
        let (reply, answer) = Reply::channel();
        let spawns = run_in("spawns", move |ctx| {
            async move {
                let own = ctx.address();
                ctx.spawn("asks", async move {
                    reply.send(own.ask(answering(6), LONG).await);
                })
                .unwrap();
                Ok(())
            }
            .boxed()
        });
        a.addr.tell(spawns).unwrap();
        assert_eq!(time::timeout(LONG, answer).await.unwrap(), Ok(Ok(6)));
    });
}

/// A job that asks up to two later actors, one after the other or both at once. The answer is the
/// number of questions refused because of a cycle.
fn ask_on(doers: Arc<Vec<Addr<Job>>>, at: usize, reply: Reply<u64>) -> Job {
    Job::run("ask_on", async move {
        let ask = |_: u64| {
            let further = doers.len() - at - 1;
            let doers = doers.clone();
            async move {
                if further == 0 {
                    return 0;
                }
                let to = at + 1 + usize::try_from(rand::u64() % further as u64).unwrap();
                let addr = doers[to].clone();
                match addr.ask(|reply| ask_on(doers, to, reply), LONG).await {
                    Ok(cycles) => cycles,
                    Err(AskError::Cycle { .. }) => 1,
                    Err(other) => panic!("{other:?}"),
                }
            }
        };
        let cycles = match rand::u64() % 3 {
            0 => ask(0).await,
            1 => ask(0).await + ask(1).await,
            _ => join_all([ask(0), ask(1)]).await.into_iter().sum(),
        };
        reply.send(cycles);
        Ok(())
    })
}

#[test]
fn a_check_for_a_cycle_is_no_wait() {
    supervised(0, |_, supervisor| async move {
        let [a, b] = ["a", "b"].map(|name| doer(&supervisor, name, 8));
        // Neither actor waits for the other while both check whether they could.
        let checks = [(&a, &b), (&b, &a)].map(|(from, to)| {
            let to = to.addr.clone();
            in_handler(&from.addr, async move {
                let mut cycles = 0;
                for _ in 0..20_000 {
                    cycles += u32::from(to.would_cycle());
                    alys_runtime::yield_now().await;
                }
                cycles
            })
        });
        assert_eq!(join_all(checks).await, [0, 0]);
    });
}

#[test]
fn asks_in_one_direction_close_no_cycle() {
    supervised(0, |_, supervisor| async move {
        let doers: Arc<Vec<_>> = Arc::new(
            doers(&supervisor, 7)
                .into_iter()
                .map(|doing| doing.addr)
                .collect(),
        );
        let roots = (0..30).map(|n| {
            let (doers, at) = (doers.clone(), n % 3);
            let addr = doers[at].clone();
            async move { addr.ask(|reply| ask_on(doers, at, reply), LONG).await }
        });
        assert_eq!(join_all(roots).await, vec![Ok(0); 30]);
    });
}
