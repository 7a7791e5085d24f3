//! Ours. The one file to adapt when the interface of `alys-actor-system` changes.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use alys_actor_system::{
    Addr, AlysActor, Backoff, ChildSpec, Context, Intensity, Message, Reply, Slot, Strategy,
    Supervisor, SupervisorSpec, System, mailbox,
};
use hdrhistogram::Histogram;

use crate::{
    gear::{
        CAPACITY, Goals, Latch, Tally, WARM_UP_PART, bytes_each, go_round, histogram, latencies,
        on_workers, record,
    },
    measure::Contender,
};

pub struct Alys;

/// Every ask has one: the interface demands it.
const DEADLINE: Duration = Duration::from_secs(1);

/// Children of one supervisor; more actors than this are spread over several.
const CHILDREN: u64 = 10_000;

enum Work {
    Note(u64),
    Ask { value: u64, reply: Reply<u64> },
    Token { hops: u64 },
    Fail,
}

impl Message for Work {
    fn kind(&self) -> &'static str {
        match self {
            Self::Note(_) => "note",
            Self::Ask { .. } => "ask",
            Self::Token { .. } => "token",
            Self::Fail => "fail",
        }
    }
}

#[derive(Clone)]
struct Worker {
    tally: Tally,
    latch: Arc<Latch>,
    next: Option<Addr<Work>>,
}

#[derive(Debug, thiserror::Error)]
#[error("asked to fail")]
struct Failed;

impl AlysActor for Worker {
    type Message = Work;
    type Error = Failed;
    type Config = ();
    const NAME: &'static str = "Worker";

    async fn handle(&mut self, msg: Work, _: &Context<Self>) -> Result<(), Failed> {
        match msg {
            Work::Note(value) => self.tally.note(value),
            Work::Ask { value, reply } => {
                let answer = match &self.next {
                    Some(next) => ask(next, value).await,
                    None => value + 1,
                };
                reply.send(answer);
            }
            Work::Token { hops: 0 } => self.latch.count_down(),
            Work::Token { hops } => {
                let next = self
                    .next
                    .as_ref()
                    .expect("an actor of a ring has a next one");
                put(next, Work::Token { hops: hops - 1 });
            }
            Work::Fail => return Err(Failed),
        }
        Ok(())
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

    fn factory(self) -> impl FnMut() -> Ready<Result<Self, Infallible>> + Send + 'static {
        move || ready(Ok(self.clone()))
    }

    fn start(
        self,
        supervisor: &Supervisor,
        name: impl Into<String>,
        slot: impl Into<Slot<Work>>,
    ) -> Addr<Work> {
        supervisor
            .start(ChildSpec::new(name), slot, self.factory())
            .expect("there is room for the child")
    }
}

async fn ask(worker: &Addr<Work>, value: u64) -> u64 {
    worker
        .ask(|reply| Work::Ask { value, reply }, DEADLINE)
        .await
        .expect("a second is enough")
}

async fn send(worker: &Addr<Work>, msg: Work) {
    assert!(
        worker.send(msg).await.is_ok(),
        "a worker runs as long as its system"
    );
}

fn put(worker: &Addr<Work>, msg: Work) {
    assert!(worker.tell(msg).is_ok(), "all tokens fit into one mailbox");
}

/// A supervisor that never gives up and never waits: how fast the framework restarts is measured, not how long
/// a policy tells it to wait.
fn supervisor(system: &System, name: impl Into<String>) -> Supervisor {
    let spec = SupervisorSpec {
        intensity: Intensity {
            restarts: usize::MAX,
            within: Duration::from_secs(60),
        },
        backoff: Backoff::NONE,
        ..SupervisorSpec::new(name, Strategy::OneForOne)
    };
    system.supervisor(spec).expect("the name is new")
}

/// Actors under supervisors of their own, each of which has handled a message.
async fn spawn(system: &System, batch: &str, actors: u64) -> Vec<Addr<Work>> {
    let latch = Latch::new(actors);
    let mut addresses = Vec::with_capacity(actors as usize);
    for part in 0..actors.div_ceil(CHILDREN) {
        let supervisor = supervisor(system, format!("{batch}-{part}"));
        for index in 0..CHILDREN.min(actors - part * CHILDREN) {
            let worker = Worker {
                latch: latch.clone(),
                ..Worker::new()
            };
            let worker = worker.start(&supervisor, index.to_string(), CAPACITY);
            put(&worker, Work::Token { hops: 0 });
            addresses.push(worker);
        }
    }
    latch.wait().await;
    addresses
}

impl Contender for Alys {
    fn tell(&self, senders: u64, each: u64) -> Duration {
        on_workers(async move {
            let warm = each / WARM_UP_PART;
            let goals = Goals::new(warm, senders * each);
            let system = System::new("comparison");
            let worker = Worker {
                tally: Tally::new(&goals),
                ..Worker::new()
            };
            let worker = worker.start(&supervisor(&system, "workers"), "worker", CAPACITY);
            for value in 0..warm {
                send(&worker, Work::Note(value)).await;
            }
            goals.warm().await;
            let begun = Instant::now();
            for _ in 0..senders {
                let worker = worker.clone();
                tokio::spawn(async move {
                    for value in 0..each {
                        send(&worker, Work::Note(value)).await;
                    }
                });
            }
            goals.done().await;
            begun.elapsed()
        })
    }

    fn ask(&self, asks: u64) -> Histogram<u64> {
        on_workers(async move {
            let system = System::new("comparison");
            let worker = &Worker::new().start(&supervisor(&system, "workers"), "worker", CAPACITY);
            latencies(asks, |value| ask(worker, value)).await
        })
    }

    fn ask_at_once(&self, askers: u64, each: u64) -> Duration {
        on_workers(async move {
            let system = System::new("comparison");
            let worker = Worker::new().start(&supervisor(&system, "workers"), "worker", CAPACITY);
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
            let system = System::new("comparison");
            let supervisor = supervisor(&system, "workers");
            let last = Worker::new().start(&supervisor, "last", CAPACITY);
            let worker = Worker {
                next: Some(last),
                ..Worker::new()
            };
            let worker = &worker.start(&supervisor, "first", CAPACITY);
            latencies(asks, |value| ask(worker, value)).await
        })
    }

    fn ring(&self, actors: u64, tokens: u64, laps: u64) -> Duration {
        on_workers(async move {
            let system = System::new("comparison");
            let supervisor = supervisor(&system, "ring");
            let latch = Latch::new(0);
            let worker = |next| Worker {
                latch: latch.clone(),
                next: Some(next),
                ..Worker::new()
            };
            let (first, slot) = mailbox(CAPACITY);
            let mut next = first.clone();
            for index in 1..actors {
                next = worker(next).start(&supervisor, index.to_string(), CAPACITY);
            }
            worker(next).start(&supervisor, "first", slot);
            go_round(&latch, actors, tokens, laps, |hops| {
                put(&first, Work::Token { hops })
            })
            .await
        })
    }

    fn spawn(&self, actors: u64) -> Duration {
        on_workers(async move {
            let system = System::new("comparison");
            let _warm = spawn(&system, "warm", actors / WARM_UP_PART).await;
            let begun = Instant::now();
            let _actors = spawn(&system, "measured", actors).await;
            begun.elapsed()
        })
    }

    fn memory(&self, actors: u64) -> f64 {
        on_workers(async move {
            let system = &System::new("comparison");
            let mut batch = 0;
            bytes_each(actors, |actors| {
                batch += 1;
                let name = format!("batch-{batch}");
                async move { spawn(system, &name, actors).await }
            })
            .await
        })
    }

    fn restart(&self, times: u64) -> Histogram<u64> {
        on_workers(async move {
            let system = System::new("comparison");
            let latch = Latch::new(0);
            let worker = Worker {
                latch: latch.clone(),
                ..Worker::new()
            };
            let worker = worker.start(&supervisor(&system, "workers"), "worker", CAPACITY);
            let mut restarts = histogram();
            for _ in 0..times {
                latch.close(1);
                let begun = Instant::now();
                // The next message waits in the mailbox over the restart.
                send(&worker, Work::Fail).await;
                send(&worker, Work::Token { hops: 0 }).await;
                latch.wait().await;
                record(&mut restarts, begun.elapsed());
            }
            restarts
        })
    }
}
