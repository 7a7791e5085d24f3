//! kameo. A message is a type of its own with a reply type, as its users write them; mailboxes are bounded.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kameo::{
    Actor,
    actor::{ActorRef, Spawn},
    error::Infallible,
    mailbox,
    message::{Context, Message},
    supervision::RestartPolicy,
};

use crate::{
    gear::{
        CAPACITY, Goals, Latch, Tally, WARM_UP_PART, bytes_each, go_round, histogram, latencies,
        on_workers, record,
    },
    measure::Contender,
};

pub struct Kameo;

struct Note(u64);
struct Ask(u64);
struct Token {
    hops: u64,
}
/// Only for rings, whose first actor is there before its next one.
struct Next(ActorRef<Worker>);
struct Fail;

#[derive(Clone)]
struct Worker {
    tally: Tally,
    latch: Arc<Latch>,
    next: Option<ActorRef<Worker>>,
}

#[derive(Debug, thiserror::Error)]
#[error("asked to fail")]
struct Failed;

impl Actor for Worker {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(worker: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(worker)
    }
}

impl Message<Note> for Worker {
    type Reply = ();

    async fn handle(&mut self, Note(value): Note, _: &mut Context<Self, ()>) {
        self.tally.note(value);
    }
}

impl Message<Ask> for Worker {
    type Reply = u64;

    async fn handle(&mut self, Ask(value): Ask, _: &mut Context<Self, u64>) -> u64 {
        match &self.next {
            Some(next) => ask(next, value).await,
            None => value + 1,
        }
    }
}

impl Message<Token> for Worker {
    type Reply = ();

    async fn handle(&mut self, Token { hops }: Token, _: &mut Context<Self, ()>) {
        if hops == 0 {
            self.latch.count_down();
        } else {
            put(
                self.next
                    .as_ref()
                    .expect("an actor of a ring has a next one"),
                Token { hops: hops - 1 },
            );
        }
    }
}

impl Message<Next> for Worker {
    type Reply = ();

    async fn handle(&mut self, Next(next): Next, _: &mut Context<Self, ()>) {
        self.next = Some(next);
    }
}

impl Message<Fail> for Worker {
    type Reply = Result<(), Failed>;

    async fn handle(&mut self, _: Fail, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Err(Failed)
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

    fn start(self) -> ActorRef<Self> {
        Self::spawn_with_mailbox(self, mailbox::bounded(CAPACITY))
    }
}

/// Supervises: its own supervision, which restarts the failed child behind the same address.
struct Keeper;

impl Actor for Keeper {
    type Args = ();
    type Error = Infallible;

    async fn on_start(_: (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

async fn ask(worker: &ActorRef<Worker>, value: u64) -> u64 {
    worker.ask(Ask(value)).await.expect("a worker answers")
}

async fn tell(worker: &ActorRef<Worker>, value: u64) {
    assert!(
        worker.tell(Note(value)).await.is_ok(),
        "a worker runs until it is stopped"
    );
}

fn put(worker: &ActorRef<Worker>, token: Token) {
    assert!(
        worker.tell(token).try_send().is_ok(),
        "all tokens fit into one mailbox"
    );
}

async fn spawn(actors: u64) -> Vec<ActorRef<Worker>> {
    let latch = Latch::new(actors);
    let mut workers = Vec::with_capacity(actors as usize);
    for _ in 0..actors {
        let worker = Worker {
            latch: latch.clone(),
            ..Worker::new()
        }
        .start();
        put(&worker, Token { hops: 0 });
        workers.push(worker);
    }
    latch.wait().await;
    workers
}

impl Contender for Kameo {
    fn tell(&self, senders: u64, each: u64) -> Duration {
        on_workers(async move {
            let warm = each / WARM_UP_PART;
            let goals = Goals::new(warm, senders * each);
            let worker = Worker {
                tally: Tally::new(&goals),
                ..Worker::new()
            }
            .start();
            for value in 0..warm {
                tell(&worker, value).await;
            }
            goals.warm().await;
            let begun = Instant::now();
            for _ in 0..senders {
                let worker = worker.clone();
                tokio::spawn(async move {
                    for value in 0..each {
                        tell(&worker, value).await;
                    }
                });
            }
            goals.done().await;
            begun.elapsed()
        })
    }

    fn ask(&self, asks: u64) -> Histogram<u64> {
        on_workers(async move {
            let worker = &Worker::new().start();
            latencies(asks, |value| ask(worker, value)).await
        })
    }

    fn ask_at_once(&self, askers: u64, each: u64) -> Duration {
        on_workers(async move {
            let worker = Worker::new().start();
            for value in 0..each / WARM_UP_PART {
                black_box(ask(&worker, value).await);
            }
            let latch = Latch::new(askers);
            let begun = Instant::now();
            for _ in 0..askers {
                let (worker, latch) = (worker.clone(), latch.clone());
                tokio::spawn(async move {
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
        on_workers(async move {
            let last = Worker::new().start();
            let worker = &Worker {
                next: Some(last),
                ..Worker::new()
            }
            .start();
            latencies(asks, |value| ask(worker, value)).await
        })
    }

    fn ring(&self, actors: u64, tokens: u64, laps: u64) -> Duration {
        on_workers(async move {
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
            assert!(
                first.tell(Next(next)).await.is_ok(),
                "a worker runs until it is stopped"
            );
            go_round(&latch, actors, tokens, laps, |hops| {
                put(&first, Token { hops })
            })
            .await
        })
    }

    fn spawn(&self, actors: u64) -> Duration {
        on_workers(async move {
            let _warm = spawn(actors / WARM_UP_PART).await;
            let begun = Instant::now();
            let _actors = spawn(actors).await;
            begun.elapsed()
        })
    }

    fn memory(&self, actors: u64) -> f64 {
        on_workers(async move { bytes_each(actors, spawn).await })
    }

    fn restart(&self, times: u64) -> Histogram<u64> {
        on_workers(async move {
            let latch = Latch::new(0);
            let keeper = Keeper::spawn(());
            let worker = Worker::supervise(
                &keeper,
                Worker {
                    latch: latch.clone(),
                    ..Worker::new()
                },
            )
            .restart_policy(RestartPolicy::Permanent)
            .restart_limit(u32::MAX, Duration::from_secs(60))
            .spawn_with_mailbox(mailbox::bounded(CAPACITY))
            .await;
            // What arrives before it has started is put aside, and lost if one of them fails.
            worker.wait_for_startup().await;
            let mut restarts = histogram();
            for _ in 0..times {
                latch.close(1);
                let begun = Instant::now();
                assert!(
                    worker.tell(Fail).await.is_ok(),
                    "the address outlives the incarnation"
                );
                assert!(
                    worker.tell(Token { hops: 0 }).await.is_ok(),
                    "the address outlives the incarnation"
                );
                latch.wait().await;
                record(&mut restarts, begun.elapsed());
            }
            restarts
        })
    }
}
