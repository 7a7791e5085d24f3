//! Bare channels: a tokio task that reads a bounded mpsc channel, and a oneshot channel for each
//! answer.
//!
//! The floor. It has no supervision, no names, no metrics, and handles no failure but its worker's
//! own error.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::{
    contender::{CAPACITY, Contender},
    measure::Scenario,
    worker::{Failed, Worker},
};

/// With `TIMEOUT` each answer is awaited under `tokio::time::timeout`, so that the price of a
/// deadline is seen alone.
pub struct Raw<const TIMEOUT: bool>;

const ASK_TIMEOUT: Duration = Duration::from_secs(1);

pub enum Work {
    Add(u64),
    Ask {
        value: u64,
        reply: oneshot::Sender<u64>,
    },
    Token {
        hops: u64,
    },
    SetNext(mpsc::Sender<Work>),
    Fail,
}

impl<const TIMEOUT: bool> Worker<Raw<TIMEOUT>> {
    async fn handle(&mut self, msg: Work) -> Result<(), Failed> {
        match msg {
            Work::Add(value) => self.tally.add(value),
            Work::Ask { value, reply } => {
                let answer = match &self.next {
                    Some(next) => Raw::<TIMEOUT>::ask(next, value).await,
                    None => value + 1,
                };
                // Every asker waits for its answer.
                let _ = reply.send(answer);
            }
            Work::Token { hops } => self.pass_on(hops),
            Work::SetNext(next) => self.next = Some(next),
            Work::Fail => return Err(Failed),
        }
        Ok(())
    }

    /// Handles messages until all senders are gone. An error resets the worker: the least that can
    /// be called a restart.
    async fn run(self, mut queue: mpsc::Receiver<Work>) {
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
}

async fn send(addr: &mpsc::Sender<Work>, msg: Work) {
    let sent = addr.send(msg).await;
    assert!(sent.is_ok(), "a worker runs as long as its sender lives");
}

fn try_send(addr: &mpsc::Sender<Work>, msg: Work) {
    assert!(
        addr.try_send(msg).is_ok(),
        "the message fits into the channel"
    );
}

impl<const TIMEOUT: bool> Contender for Raw<TIMEOUT> {
    type Addr = mpsc::Sender<Work>;
    type Relay = mpsc::Sender<Work>;
    type Supervised = mpsc::Sender<Work>;

    fn covers(scenario: Scenario) -> bool {
        let asks = matches!(
            scenario,
            Scenario::Ask { .. } | Scenario::AskAtOnce { .. } | Scenario::AskThrough { .. }
        );
        asks || !TIMEOUT
    }

    fn new() -> Self {
        Self
    }

    fn start(&mut self, worker: Worker<Self>) -> mpsc::Sender<Work> {
        let (addr, queue) = mpsc::channel(CAPACITY);
        tokio::spawn(worker.run(queue));
        addr
    }

    fn start_relay(&mut self, target: mpsc::Sender<Work>) -> mpsc::Sender<Work> {
        self.start(Worker::with_next(target))
    }

    async fn start_supervised(&mut self, worker: Worker<Self>) -> mpsc::Sender<Work> {
        self.start(worker)
    }

    async fn tell(addr: &mpsc::Sender<Work>, value: u64) {
        send(addr, Work::Add(value)).await;
    }

    async fn ask(addr: &mpsc::Sender<Work>, value: u64) -> u64 {
        let (reply, answer) = oneshot::channel();
        send(addr, Work::Ask { value, reply }).await;
        let answer = if TIMEOUT {
            let answer = tokio::time::timeout(ASK_TIMEOUT, answer).await;
            answer.expect("a second is enough")
        } else {
            answer.await
        };
        answer.expect("a worker answers")
    }

    async fn ask_relay(relay: &mpsc::Sender<Work>, value: u64) -> u64 {
        Self::ask(relay, value).await
    }

    fn pass(addr: &mpsc::Sender<Work>, hops: u64) {
        try_send(addr, Work::Token { hops });
    }

    fn set_next(addr: &mpsc::Sender<Work>, next: mpsc::Sender<Work>) {
        try_send(addr, Work::SetNext(next));
    }

    async fn fail(worker: &mut mpsc::Sender<Work>) {
        send(worker, Work::Fail).await;
        send(worker, Work::Token { hops: 0 }).await;
    }
}
