//! actix. Actors live on one thread each and never move: the `System`'s own, or an `Arbiter`'s.
//!
//! Most of its users run all that talks to each other on one thread, and so does this: it is the fastest that
//! actix has, and it uses one core whatever the others use. With the receiver apart in an arbiter it is nearer
//! to what the others do. A tell is `do_send`, which ignores the mailbox's bound; the only send that waits for
//! room waits for the answer too.

use std::{
    future::Future,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, Addr, Arbiter, Context, Handler, Message, ResponseFuture, Supervised,
    Supervisor, System,
};
use hdrhistogram::Histogram;

use crate::{
    gear::{
        CAPACITY, Goals, Latch, Tally, WARM_UP_PART, bytes_each, go_round, histogram, latencies,
        record,
    },
    measure::{Contender, Measure},
};

/// With the receiver on an arbiter's thread, or all on one.
pub struct Actix {
    pub is_apart: bool,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Note(u64);

#[derive(Message)]
#[rtype(result = "u64")]
struct Ask(u64);

#[derive(Message)]
#[rtype(result = "()")]
struct Token {
    hops: u64,
}

/// Only for rings, whose first actor is there before its next one.
#[derive(Message)]
#[rtype(result = "()")]
struct Next(Addr<Worker>);

#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

/// Answers asks at once.
struct Worker {
    tally: Tally,
    latch: Arc<Latch>,
    next: Option<Addr<Worker>>,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(CAPACITY);
    }
}

impl Supervised for Worker {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // actix keeps the actor itself over a restart; its users reset what is to be reset here.
        self.tally = Tally::new(&Goals::none());
    }
}

impl Handler<Note> for Worker {
    type Result = ();

    fn handle(&mut self, Note(value): Note, _: &mut Context<Self>) {
        self.tally.note(value);
    }
}

impl Handler<Ask> for Worker {
    type Result = u64;

    fn handle(&mut self, Ask(value): Ask, _: &mut Context<Self>) -> u64 {
        value + 1
    }
}

impl Handler<Token> for Worker {
    type Result = ();

    fn handle(&mut self, Token { hops }: Token, _: &mut Context<Self>) {
        if hops == 0 {
            self.latch.count_down();
        } else {
            let next = self
                .next
                .as_ref()
                .expect("an actor of a ring has a next one");
            next.do_send(Token { hops: hops - 1 });
        }
    }
}

impl Handler<Next> for Worker {
    type Result = ();

    fn handle(&mut self, Next(next): Next, _: &mut Context<Self>) {
        self.next = Some(next);
    }
}

impl Handler<Fail> for Worker {
    type Result = ();

    fn handle(&mut self, _: Fail, ctx: &mut Context<Self>) {
        // Handlers cannot fail: an actor that has to, stops.
        ctx.stop();
    }
}

/// Asks another one. A type of its own, so that only this one pays for a boxed future.
struct Relay(Addr<Worker>);

impl Actor for Relay {
    type Context = Context<Self>;
}

impl Handler<Ask> for Relay {
    type Result = ResponseFuture<u64>;

    fn handle(&mut self, Ask(value): Ask, _: &mut Context<Self>) -> ResponseFuture<u64> {
        let worker = self.0.clone();
        Box::pin(async move { ask(&worker, value).await })
    }
}

impl Worker {
    fn new() -> Self {
        Self {
            tally: Tally::new(&Goals::none()),
            latch: Latch::new(0),
            next: None,
        }
    }
}

/// Runs `driver` on the system's thread, which also runs the actors that are not given to an arbiter.
fn on_system<F>(driver: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    System::new().block_on(async {
        actix::spawn(driver)
            .await
            .expect("a measure that panicked has no result")
    })
}

async fn ask(worker: &Addr<Worker>, value: u64) -> u64 {
    worker.send(Ask(value)).await.expect("a worker answers")
}

async fn spawn(actors: u64) -> Vec<Addr<Worker>> {
    let latch = Latch::new(actors);
    let mut workers = Vec::with_capacity(actors as usize);
    for _ in 0..actors {
        let worker = Worker {
            latch: latch.clone(),
            ..Worker::new()
        }
        .start();
        worker.do_send(Token { hops: 0 });
        workers.push(worker);
    }
    latch.wait().await;
    workers
}

impl Actix {
    fn starter(&self) -> fn(Worker) -> Addr<Worker> {
        if self.is_apart {
            |worker| Worker::start_in_arbiter(&Arbiter::new().handle(), |_| worker)
        } else {
            Worker::start
        }
    }
}

impl Contender for Actix {
    fn takes(&self, measure: Measure) -> bool {
        !self.is_apart
            || matches!(
                measure,
                Measure::Tell | Measure::TellMany | Measure::Ask | Measure::AskMany
            )
    }

    fn tell(&self, senders: u64, each: u64) -> Duration {
        let start = self.starter();
        on_system(async move {
            let warm = each / WARM_UP_PART;
            let goals = Goals::new(warm, senders * each);
            let worker = start(Worker {
                tally: Tally::new(&goals),
                ..Worker::new()
            });
            for value in 0..warm {
                worker.do_send(Note(value));
            }
            goals.warm().await;
            let begun = Instant::now();
            for _ in 0..senders {
                let worker = worker.clone();
                actix::spawn(async move {
                    for value in 0..each {
                        worker.do_send(Note(value));
                    }
                });
            }
            goals.done().await;
            begun.elapsed()
        })
    }

    fn ask(&self, asks: u64) -> Histogram<u64> {
        let start = self.starter();
        on_system(async move {
            let worker = &start(Worker::new());
            latencies(asks, |value| ask(worker, value)).await
        })
    }

    fn ask_at_once(&self, askers: u64, each: u64) -> Duration {
        let start = self.starter();
        on_system(async move {
            let worker = start(Worker::new());
            for value in 0..each / WARM_UP_PART {
                black_box(ask(&worker, value).await);
            }
            let latch = Latch::new(askers);
            let begun = Instant::now();
            for _ in 0..askers {
                let (worker, latch) = (worker.clone(), latch.clone());
                actix::spawn(async move {
                    for value in 0..each {
                        black_box(ask(&worker, value).await);
                    }
                    latch.count_down();
                });
            }
            latch.wait().await;
            begun.elapsed()
        })
    }

    fn ask_through(&self, asks: u64) -> Histogram<u64> {
        on_system(async move {
            let relay = &Relay(Worker::new().start()).start();
            latencies(asks, |value| async move {
                relay.send(Ask(value)).await.expect("a relay answers")
            })
            .await
        })
    }

    fn ring(&self, actors: u64, tokens: u64, laps: u64) -> Duration {
        on_system(async move {
            let latch = Latch::new(0);
            let worker = |next| {
                Worker {
                    latch: latch.clone(),
                    next,
                    ..Worker::new()
                }
                .start()
            };
            let first = worker(None);
            let mut next = first.clone();
            for _ in 1..actors {
                next = worker(Some(next));
            }
            first.do_send(Next(next));
            go_round(&latch, actors, tokens, laps, |hops| {
                first.do_send(Token { hops })
            })
            .await
        })
    }

    fn spawn(&self, actors: u64) -> Duration {
        on_system(async move {
            let _warm = spawn(actors / WARM_UP_PART).await;
            let begun = Instant::now();
            let _actors = spawn(actors).await;
            begun.elapsed()
        })
    }

    fn memory(&self, actors: u64) -> f64 {
        on_system(async move { bytes_each(actors, spawn).await })
    }

    fn restart(&self, times: u64) -> Histogram<u64> {
        on_system(async move {
            let latch = Latch::new(0);
            let of_worker = latch.clone();
            let worker = Supervisor::start(|_| Worker {
                latch: of_worker,
                ..Worker::new()
            });
            let mut restarts = histogram();
            for _ in 0..times {
                latch.close(1);
                let begun = Instant::now();
                worker.do_send(Fail);
                worker.do_send(Token { hops: 0 });
                latch.wait().await;
                record(&mut restarts, begun.elapsed());
            }
            restarts
        })
    }
}
