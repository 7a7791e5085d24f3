//! kameo. A message is a type of its own with a reply type, as its users write them; mailboxes are
//! bounded.

use std::time::Duration;

use kameo::{
    Actor,
    actor::{ActorRef, Spawn},
    error::Infallible,
    mailbox,
    message::{Context, Message},
    supervision::RestartPolicy,
};

use crate::{
    contender::{CAPACITY, Contender},
    worker::{Failed, Worker},
};

pub struct Kameo;

type Addr = ActorRef<Worker<Kameo>>;

struct Add(u64);
struct Ask(u64);
struct Token {
    hops: u64,
}
struct SetNext(Addr);
struct Fail;

impl Actor for Worker<Kameo> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(worker: Self, _: Addr) -> Result<Self, Infallible> {
        Ok(worker)
    }
}

impl Message<Add> for Worker<Kameo> {
    type Reply = ();

    async fn handle(&mut self, Add(value): Add, _: &mut Context<Self, ()>) {
        self.tally.add(value);
    }
}

impl Message<Ask> for Worker<Kameo> {
    type Reply = u64;

    async fn handle(&mut self, Ask(value): Ask, _: &mut Context<Self, u64>) -> u64 {
        match &self.next {
            Some(next) => Kameo::ask(next, value).await,
            None => value + 1,
        }
    }
}

impl Message<Token> for Worker<Kameo> {
    type Reply = ();

    async fn handle(&mut self, Token { hops }: Token, _: &mut Context<Self, ()>) {
        self.pass_on(hops);
    }
}

impl Message<SetNext> for Worker<Kameo> {
    type Reply = ();

    async fn handle(&mut self, SetNext(next): SetNext, _: &mut Context<Self, ()>) {
        self.next = Some(next);
    }
}

impl Message<Fail> for Worker<Kameo> {
    type Reply = Result<(), Failed>;

    async fn handle(&mut self, _: Fail, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Err(Failed)
    }
}

/// The parent of a supervised worker: kameo restarts a failed child behind the same address.
pub struct Parent;

impl Actor for Parent {
    type Args = ();
    type Error = Infallible;

    async fn on_start(_: (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl Contender for Kameo {
    type Addr = Addr;
    type Relay = Addr;
    /// With the parent, which must outlive it.
    type Supervised = (Addr, ActorRef<Parent>);

    fn new() -> Self {
        Self
    }

    fn start(&mut self, worker: Worker<Self>) -> Addr {
        Worker::spawn_with_mailbox(worker, mailbox::bounded(CAPACITY))
    }

    fn start_relay(&mut self, target: Addr) -> Addr {
        self.start(Worker::with_next(target))
    }

    async fn start_supervised(&mut self, worker: Worker<Self>) -> Self::Supervised {
        let parent = Parent::spawn(());
        let worker = Worker::supervise(&parent, worker)
            .restart_policy(RestartPolicy::Permanent)
            .restart_limit(u32::MAX, Duration::from_secs(60))
            .spawn_with_mailbox(mailbox::bounded(CAPACITY))
            .await;
        // Messages that arrive earlier are put aside, and lost if one of them fails.
        worker.wait_for_startup().await;
        (worker, parent)
    }

    async fn tell(addr: &Addr, value: u64) {
        let told = addr.tell(Add(value)).await;
        assert!(told.is_ok(), "a worker runs until it is stopped");
    }

    async fn ask(addr: &Addr, value: u64) -> u64 {
        addr.ask(Ask(value)).await.expect("a worker answers")
    }

    async fn ask_relay(relay: &Addr, value: u64) -> u64 {
        Self::ask(relay, value).await
    }

    fn pass(addr: &Addr, hops: u64) {
        let told = addr.tell(Token { hops }).try_send();
        assert!(told.is_ok(), "the token fits into the mailbox");
    }

    fn set_next(addr: &Addr, next: Addr) {
        let told = addr.tell(SetNext(next)).try_send();
        assert!(told.is_ok(), "the message fits into the mailbox");
    }

    async fn fail((worker, _): &mut Self::Supervised) {
        let failed = worker.tell(Fail).await;
        assert!(failed.is_ok(), "the address outlives the incarnation");
        let told = worker.tell(Token { hops: 0 }).await;
        assert!(told.is_ok(), "the address outlives the incarnation");
    }
}
