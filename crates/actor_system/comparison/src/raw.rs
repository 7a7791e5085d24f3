//! Bare channels: a tokio task that reads a bounded mpsc channel, and a oneshot channel in each question.
//!
//! The floor. It has no supervision, no names, no figures, and no failure but the one that it catches itself.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::sync::{mpsc, oneshot};

use crate::{
    gear::{
        CAPACITY, Goals, Latch, Tally, WARM_UP_PART, bytes_each, go_round, histogram, latencies,
        on_workers, record,
    },
    measure::{Contender, Measure},
};

/// With a deadline each ask is put under `tokio::time::timeout`, so that its price can be seen alone.
pub struct Raw {
    pub has_deadline: bool,
}

const DEADLINE: Duration = Duration::from_secs(1);

enum Message {
    Note(u64),
    Ask {
        value: u64,
        reply: oneshot::Sender<u64>,
    },
    Token {
        hops: u64,
    },
    Fail,
}

#[derive(Clone)]
struct Worker {
    tally: Tally,
    latch: Arc<Latch>,
    next: Option<mpsc::Sender<Message>>,
    has_deadline: bool,
}

struct Failed;

impl Worker {
    fn new(has_deadline: bool) -> Self {
        Self {
            tally: Tally::new(&Goals::none()),
            latch: Latch::new(0),
            next: None,
            has_deadline,
        }
    }

    async fn handle(&mut self, msg: Message) -> Result<(), Failed> {
        match msg {
            Message::Note(value) => self.tally.note(value),
            Message::Ask { value, reply } => {
                let answer = match &self.next {
                    Some(next) => ask(next, value, self.has_deadline).await,
                    None => value + 1,
                };
                // The asker of these measures always waits.
                let _ = reply.send(answer);
            }
            Message::Token { hops: 0 } => self.latch.count_down(),
            Message::Token { hops } => {
                let next = self
                    .next
                    .as_ref()
                    .expect("an actor of a ring has a next one");
                let passed = next.try_send(Message::Token { hops: hops - 1 });
                assert!(passed.is_ok(), "all tokens fit into one mailbox");
            }
            Message::Fail => return Err(Failed),
        }
        Ok(())
    }

    async fn run(self, mut queue: mpsc::Receiver<Message>) {
        // An error makes it begin anew, with its first state: the least that can be called a restart.
        loop {
            let mut worker = self.clone();
            loop {
                let Some(msg) = queue.recv().await else {
                    return;
                };
                if worker.handle(msg).await.is_err() {
                    break;
                }
            }
        }
    }

    fn start(self) -> mpsc::Sender<Message> {
        let (sender, queue) = mpsc::channel(CAPACITY);
        tokio::spawn(self.run(queue));
        sender
    }
}

async fn ask(worker: &mpsc::Sender<Message>, value: u64, has_deadline: bool) -> u64 {
    let (reply, answer) = oneshot::channel();
    tell(worker, Message::Ask { value, reply }).await;
    let answer = if has_deadline {
        tokio::time::timeout(DEADLINE, answer)
            .await
            .expect("a second is enough")
    } else {
        answer.await
    };
    answer.expect("a worker answers")
}

async fn tell(worker: &mpsc::Sender<Message>, msg: Message) {
    assert!(
        worker.send(msg).await.is_ok(),
        "a worker runs as long as its sender lives"
    );
}

async fn spawn(actors: u64) -> Vec<mpsc::Sender<Message>> {
    let latch = Latch::new(actors);
    let mut senders = Vec::with_capacity(actors as usize);
    for _ in 0..actors {
        let worker = Worker {
            latch: latch.clone(),
            ..Worker::new(false)
        }
        .start();
        tell(&worker, Message::Token { hops: 0 }).await;
        senders.push(worker);
    }
    latch.wait().await;
    senders
}

impl Contender for Raw {
    fn takes(&self, measure: Measure) -> bool {
        !self.has_deadline
            || matches!(
                measure,
                Measure::Ask | Measure::AskMany | Measure::AskThrough
            )
    }

    fn tell(&self, senders: u64, each: u64) -> Duration {
        on_workers(async move {
            let warm = each / WARM_UP_PART;
            let goals = Goals::new(warm, senders * each);
            let worker = Worker {
                tally: Tally::new(&goals),
                ..Worker::new(false)
            }
            .start();
            for value in 0..warm {
                tell(&worker, Message::Note(value)).await;
            }
            goals.warm().await;
            let begun = Instant::now();
            for _ in 0..senders {
                let worker = worker.clone();
                tokio::spawn(async move {
                    for value in 0..each {
                        tell(&worker, Message::Note(value)).await;
                    }
                });
            }
            goals.done().await;
            begun.elapsed()
        })
    }

    fn ask(&self, asks: u64) -> Histogram<u64> {
        let has_deadline = self.has_deadline;
        on_workers(async move {
            let worker = &Worker::new(has_deadline).start();
            latencies(asks, |value| ask(worker, value, has_deadline)).await
        })
    }

    fn ask_at_once(&self, askers: u64, each: u64) -> Duration {
        let has_deadline = self.has_deadline;
        on_workers(async move {
            let worker = Worker::new(has_deadline).start();
            for value in 0..each / WARM_UP_PART {
                black_box(ask(&worker, value, has_deadline).await);
            }
            let latch = Latch::new(askers);
            let begun = Instant::now();
            for _ in 0..askers {
                let (worker, latch) = (worker.clone(), latch.clone());
                tokio::spawn(async move {
                    for value in 0..each {
                        black_box(ask(&worker, value, has_deadline).await);
                    }
                    latch.count_down();
                });
            }
            latch.wait().await;
            begun.elapsed()
        })
    }

    fn ask_through(&self, asks: u64) -> Histogram<u64> {
        let has_deadline = self.has_deadline;
        on_workers(async move {
            let last = Worker::new(has_deadline).start();
            let worker = &Worker {
                next: Some(last),
                ..Worker::new(has_deadline)
            }
            .start();
            latencies(asks, |value| ask(worker, value, has_deadline)).await
        })
    }

    fn ring(&self, actors: u64, tokens: u64, laps: u64) -> Duration {
        on_workers(async move {
            let latch = Latch::new(0);
            let (first, queue) = mpsc::channel(CAPACITY);
            let worker = |next| Worker {
                latch: latch.clone(),
                next: Some(next),
                ..Worker::new(false)
            };
            let mut next = first.clone();
            for _ in 1..actors {
                next = worker(next).start();
            }
            tokio::spawn(worker(next).run(queue));
            go_round(&latch, actors, tokens, laps, |hops| {
                assert!(
                    first.try_send(Message::Token { hops }).is_ok(),
                    "all tokens fit into one mailbox"
                );
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
            let worker = Worker {
                latch: latch.clone(),
                ..Worker::new(false)
            }
            .start();
            let mut restarts = histogram();
            for _ in 0..times {
                latch.close(1);
                let begun = Instant::now();
                tell(&worker, Message::Fail).await;
                tell(&worker, Message::Token { hops: 0 }).await;
                latch.wait().await;
                record(&mut restarts, begun.elapsed());
            }
            restarts
        })
    }
}
