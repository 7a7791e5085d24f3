//! ractor. Mailboxes are unbounded, so that a tell never waits. Asks go without a timeout, which it allows.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use ractor::{
    Actor, ActorProcessingErr, ActorRef, ActorRuntime, RpcReplyPort, SupervisionEvent, call,
};
use tokio::sync::mpsc;

use crate::{
    gear::{
        Goals, Latch, Tally, WARM_UP_PART, bytes_each, go_round, histogram, latencies, on_workers,
        record,
    },
    measure::Contender,
};

pub struct Ractor;

enum Message {
    Note(u64),
    Ask {
        value: u64,
        reply: RpcReplyPort<u64>,
    },
    Token {
        hops: u64,
    },
    /// Only for rings, whose first actor is there before its next one.
    Next(ActorRef<Message>),
    Fail,
}

struct Worker;

#[derive(Clone)]
struct State {
    tally: Tally,
    latch: Arc<Latch>,
    next: Option<ActorRef<Message>>,
}

impl State {
    fn new() -> Self {
        Self {
            tally: Tally::new(&Goals::none()),
            latch: Latch::new(0),
            next: None,
        }
    }

    /// Does not wait until it has started: the cheapest way that there is.
    fn start(self) -> ActorRef<Message> {
        ActorRuntime::spawn_instant(None, Worker, self)
            .expect("without a name there is none to be taken")
            .0
    }
}

#[derive(Debug, thiserror::Error)]
#[error("asked to fail")]
struct Failed;

impl Actor for Worker {
    type Msg = Message;
    type State = State;
    type Arguments = State;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        state: State,
    ) -> Result<State, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        msg: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Message::Note(value) => state.tally.note(value),
            Message::Ask { value, reply } => {
                let answer = match &state.next {
                    Some(next) => ask(next, value).await,
                    None => value + 1,
                };
                reply.send(answer)?;
            }
            Message::Token { hops: 0 } => state.latch.count_down(),
            Message::Token { hops } => {
                let next = state
                    .next
                    .as_ref()
                    .expect("an actor of a ring has a next one");
                next.cast(Message::Token { hops: hops - 1 })?;
            }
            Message::Next(next) => state.next = Some(next),
            Message::Fail => return Err(Failed.into()),
        }
        Ok(())
    }
}

/// ractor tells a supervisor what happened and leaves the rest to it. The new actor has a new address and an
/// empty mailbox; who talks to it has to be told, here through a channel.
struct Keeper;

struct Post {
    news: mpsc::UnboundedSender<ActorRef<Message>>,
    latch: Arc<Latch>,
}

impl Actor for Keeper {
    type Msg = ();
    type State = Post;
    type Arguments = Post;

    async fn pre_start(&self, me: ActorRef<()>, post: Post) -> Result<Post, ActorProcessingErr> {
        self.make(&me, &post).await?;
        Ok(post)
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        post: &mut Post,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) | SupervisionEvent::ActorTerminated(..) = event {
            self.make(&me, post).await?;
        }
        Ok(())
    }
}

impl Keeper {
    async fn make(&self, me: &ActorRef<()>, post: &Post) -> Result<(), ActorProcessingErr> {
        let (worker, _) = Actor::spawn_linked(
            None,
            Worker,
            State {
                latch: post.latch.clone(),
                ..State::new()
            },
            me.get_cell(),
        )
        .await?;
        Ok(post.news.send(worker)?)
    }
}

async fn ask(worker: &ActorRef<Message>, value: u64) -> u64 {
    call!(worker, |reply| Message::Ask { value, reply }).expect("a worker answers")
}

fn tell(worker: &ActorRef<Message>, msg: Message) {
    worker.cast(msg).expect("a worker runs until it is stopped");
}

async fn spawn(actors: u64) -> Vec<ActorRef<Message>> {
    let latch = Latch::new(actors);
    let mut workers = Vec::with_capacity(actors as usize);
    for _ in 0..actors {
        let worker = State {
            latch: latch.clone(),
            ..State::new()
        }
        .start();
        tell(&worker, Message::Token { hops: 0 });
        workers.push(worker);
    }
    latch.wait().await;
    workers
}

impl Contender for Ractor {
    fn tell(&self, senders: u64, each: u64) -> Duration {
        on_workers(async move {
            let warm = each / WARM_UP_PART;
            let goals = Goals::new(warm, senders * each);
            let worker = State {
                tally: Tally::new(&goals),
                ..State::new()
            }
            .start();
            for value in 0..warm {
                tell(&worker, Message::Note(value));
            }
            goals.warm().await;
            let begun = Instant::now();
            for _ in 0..senders {
                let worker = worker.clone();
                tokio::spawn(async move {
                    for value in 0..each {
                        tell(&worker, Message::Note(value));
                    }
                });
            }
            goals.done().await;
            begun.elapsed()
        })
    }

    fn ask(&self, asks: u64) -> Histogram<u64> {
        on_workers(async move {
            let worker = &State::new().start();
            latencies(asks, |value| ask(worker, value)).await
        })
    }

    fn ask_at_once(&self, askers: u64, each: u64) -> Duration {
        on_workers(async move {
            let worker = State::new().start();
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
            let last = State::new().start();
            let worker = &State {
                next: Some(last),
                ..State::new()
            }
            .start();
            latencies(asks, |value| ask(worker, value)).await
        })
    }

    fn ring(&self, actors: u64, tokens: u64, laps: u64) -> Duration {
        on_workers(async move {
            let latch = Latch::new(0);
            let worker = |next| {
                State {
                    latch: latch.clone(),
                    next,
                    ..State::new()
                }
                .start()
            };
            let first = worker(None);
            let mut next = first.clone();
            for _ in 1..actors {
                next = worker(Some(next));
            }
            tell(&first, Message::Next(next));
            go_round(&latch, actors, tokens, laps, |hops| {
                tell(&first, Message::Token { hops })
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
            let (news, mut heard) = mpsc::unbounded_channel();
            let _keeper = Actor::spawn(
                None,
                Keeper,
                Post {
                    news,
                    latch: latch.clone(),
                },
            )
            .await
            .expect("the supervisor starts");
            let mut worker = heard
                .recv()
                .await
                .expect("the supervisor has started a worker");
            let mut restarts = histogram();
            for _ in 0..times {
                latch.close(1);
                let begun = Instant::now();
                tell(&worker, Message::Fail);
                worker = heard
                    .recv()
                    .await
                    .expect("the supervisor starts another worker");
                tell(&worker, Message::Token { hops: 0 });
                latch.wait().await;
                record(&mut restarts, begun.elapsed());
            }
            restarts
        })
    }
}
