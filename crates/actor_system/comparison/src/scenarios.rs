//! The scenarios, each written once for all contenders.

use std::{
    future::Future,
    hint::black_box,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{
    contender::Contender,
    measure::Scenario,
    worker::{Latch, Milestones, Tally, Worker},
};

/// One part in this many of the work is done once more before the clock starts.
const WARM_UP_PART: u64 = 10;

/// Time for freed memory and ending tasks to settle before live bytes are read.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Runs a scenario once, in this process. One value for each row of its measure.
pub fn run<C: Contender>(scenario: Scenario) -> Vec<f64> {
    match scenario {
        Scenario::Tell { senders, each } => {
            vec![per_second(senders * each, C::block_on(tell::<C>(senders, each))) / 1e6]
        }
        Scenario::Ask { asks } => micros(&C::block_on(ask::<C>(asks)), &[0.5, 0.99, 0.999]),
        Scenario::AskAtOnce { askers, each } => {
            vec![per_second(askers * each, C::block_on(ask_at_once::<C>(askers, each))) / 1e6]
        }
        Scenario::AskThrough { asks } => micros(&C::block_on(ask_through::<C>(asks)), &[0.5, 0.99]),
        Scenario::Ring {
            actors,
            tokens,
            laps,
        } => {
            vec![C::block_on(ring::<C>(actors, tokens, laps)).as_secs_f64() * 1e3]
        }
        Scenario::Spawn { actors } => {
            vec![per_second(actors, C::block_on(spawn::<C>(actors))) / 1e3]
        }
        Scenario::Memory { actors } => {
            crate::ALLOCATOR.count();
            vec![C::block_on(memory::<C>(actors))]
        }
        Scenario::Restart { times } => micros(&C::block_on(restart::<C>(times)), &[0.5, 0.99]),
    }
}

/// Time until one actor has handled `each` messages from each of the senders.
async fn tell<C: Contender>(senders: u64, each: u64) -> Duration {
    let warm_up = each / WARM_UP_PART;
    let milestones = Milestones::new(warm_up, senders * each);
    let mut contender = C::new();
    let worker = contender.start(Worker {
        tally: Tally::new(&milestones),
        ..Worker::new()
    });
    for value in 0..warm_up {
        C::tell(&worker, value).await;
    }
    milestones.warm().await;
    let started = Instant::now();
    for _ in 0..senders {
        let worker = worker.clone();
        C::spawn_sender(async move {
            for value in 0..each {
                C::tell(&worker, value).await;
            }
        });
    }
    milestones.done().await;
    started.elapsed()
}

/// Latencies of one asker's asks, one after the other.
async fn ask<C: Contender>(asks: u64) -> Histogram<u64> {
    let mut contender = C::new();
    let worker = contender.start(Worker::new());
    latencies(asks, |value| C::ask(&worker, value)).await
}

/// Latencies of asks to an actor that asks another one in its handler.
async fn ask_through<C: Contender>(asks: u64) -> Histogram<u64> {
    let mut contender = C::new();
    let last = contender.start(Worker::new());
    let relay = contender.start_relay(last);
    latencies(asks, |value| C::ask_relay(&relay, value)).await
}

/// Time that several askers take for `each` asks of one actor.
async fn ask_at_once<C: Contender>(askers: u64, each: u64) -> Duration {
    let mut contender = C::new();
    let worker = contender.start(Worker::new());
    for value in 0..each / WARM_UP_PART {
        black_box(C::ask(&worker, value).await);
    }
    let latch = Latch::new(askers);
    let started = Instant::now();
    for _ in 0..askers {
        let worker = worker.clone();
        let latch = latch.clone();
        C::spawn_sender(async move {
            for value in 0..each {
                black_box(C::ask(&worker, value).await);
            }
            latch.count_down();
        });
    }
    latch.wait().await;
    started.elapsed()
}

/// Time that `tokens` take for `laps` of a ring of actors, after one token has gone some laps to
/// warm up.
async fn ring<C: Contender>(actors: u64, tokens: u64, laps: u64) -> Duration {
    let latch = Latch::new(1);
    let mut contender = C::new();
    let mut start = |next| {
        contender.start(Worker {
            latch: latch.clone(),
            next,
            ..Worker::new()
        })
    };
    let first = start(None);
    let mut next = first.clone();
    for _ in 1..actors {
        next = start(Some(next));
    }
    C::set_next(&first, next);
    C::pass(&first, actors * (laps / WARM_UP_PART));
    latch.wait().await;
    latch.close(tokens);
    let started = Instant::now();
    for _ in 0..tokens {
        C::pass(&first, actors * laps);
    }
    latch.wait().await;
    started.elapsed()
}

/// Time until new actors have handled a message each.
async fn spawn<C: Contender>(actors: u64) -> Duration {
    let mut contender = C::new();
    let _warm_up = start_batch(&mut contender, actors / WARM_UP_PART).await;
    let started = Instant::now();
    let _measured = start_batch(&mut contender, actors).await;
    started.elapsed()
}

/// Live heap bytes of an idle actor. A tenth of the actors is started before the first reading, so
/// that one-time allocations of the framework are not counted.
async fn memory<C: Contender>(actors: u64) -> f64 {
    let mut contender = C::new();
    let _warm_up = start_batch(&mut contender, actors / WARM_UP_PART).await;
    tokio::time::sleep(SETTLE_TIME).await;
    let before = crate::ALLOCATOR.live();
    let _measured = start_batch(&mut contender, actors).await;
    tokio::time::sleep(SETTLE_TIME).await;
    let after = crate::ALLOCATOR.live();
    (after - before) as f64 / actors as f64
}

/// Latencies from the message that makes a supervised actor fail until its next incarnation has
/// handled one.
async fn restart<C: Contender>(times: u64) -> Histogram<u64> {
    let latch = Latch::new(0);
    let mut contender = C::new();
    let worker = Worker {
        latch: latch.clone(),
        ..Worker::new()
    };
    let mut worker = contender.start_supervised(worker).await;
    let mut restarts = histogram();
    for _ in 0..times {
        latch.close(1);
        let started = Instant::now();
        C::fail(&mut worker).await;
        latch.wait().await;
        record(&mut restarts, started.elapsed());
    }
    restarts
}

/// Starts actors, and returns once each has handled a message.
async fn start_batch<C: Contender>(contender: &mut C, actors: u64) -> Vec<C::Addr> {
    contender.begin_batch();
    let latch = Latch::new(actors);
    let mut workers = Vec::with_capacity(actors as usize);
    for _ in 0..actors {
        let worker = contender.start(Worker {
            latch: latch.clone(),
            ..Worker::new()
        });
        C::pass(&worker, 0);
        workers.push(worker);
    }
    latch.wait().await;
    workers
}

/// Latencies of asks, one after the other, after a warm-up.
async fn latencies<F, Fut>(asks: u64, mut ask: F) -> Histogram<u64>
where
    F: FnMut(u64) -> Fut,
    Fut: Future<Output = u64>,
{
    for value in 0..asks / WARM_UP_PART {
        black_box(ask(value).await);
    }
    let mut histogram = histogram();
    let mut started = Instant::now();
    for value in 0..asks {
        let answer = ask(value).await;
        let ended = Instant::now();
        assert_eq!(answer, value + 1, "the answer belongs to this ask");
        record(&mut histogram, ended - started);
        started = ended;
    }
    histogram
}

/// A histogram of nanoseconds, exact to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are within the histogram's bounds")
}

fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    let recorded = histogram.record(nanos);
    recorded.expect("a histogram that resizes itself takes every value");
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

fn micros(histogram: &Histogram<u64>, quantiles: &[f64]) -> Vec<f64> {
    let value = |quantile: &f64| histogram.value_at_quantile(*quantile) as f64 / 1e3;
    quantiles.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use crate::{contender::COLUMNS, measure::Scenario};

    #[test]
    fn every_contender_finishes_every_scenario_that_it_covers() {
        let few = [
            Scenario::Tell {
                senders: 2,
                each: 100,
            },
            Scenario::Ask { asks: 100 },
            Scenario::AskAtOnce {
                askers: 2,
                each: 100,
            },
            Scenario::AskThrough { asks: 100 },
            Scenario::Ring {
                actors: 10,
                tokens: 3,
                laps: 10,
            },
            Scenario::Spawn { actors: 10 },
            Scenario::Memory { actors: 10 },
            Scenario::Restart { times: 10 },
        ];
        for column in &COLUMNS {
            for scenario in few
                .into_iter()
                .filter(|scenario| (column.covers)(*scenario))
            {
                let values = (column.run)(scenario);
                let all_positive = values.iter().all(|value| *value > 0.0);
                assert!(all_positive, "{} {scenario:?}: {values:?}", column.name);
            }
        }
    }
}
