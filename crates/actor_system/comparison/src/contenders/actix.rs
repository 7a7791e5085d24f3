//! actix. Actors live on one thread each and never move: the `System`'s own, or an `Arbiter`'s.
//!
//! Most of its users run actors that talk to each other on one thread, and so does this: it is the
//! fastest that actix has, and it uses one core where the others use two. With the receiver on an
//! arbiter it is nearer to the others. A tell is `do_send`, which ignores the mailbox's bound,
//! because the only send that waits for room waits for the answer too.

use std::future::Future;

use actix::{
    Actor, ActorContext, Arbiter, Context, Handler, Message, ResponseFuture, Supervised,
    Supervisor, System,
};

use crate::{
    contender::{CAPACITY, Contender},
    measure::Scenario,
    worker::{Milestones, Tally, Worker},
};

/// With `ARBITER`, workers run on threads of their own; without, on the thread of the scenario.
pub struct Actix<const ARBITER: bool>;

type Addr<const ARBITER: bool> = actix::Addr<Worker<Actix<ARBITER>>>;

#[derive(Message)]
#[rtype(result = "()")]
struct Add(u64);

#[derive(Message)]
#[rtype(result = "u64")]
struct Ask(u64);

#[derive(Message)]
#[rtype(result = "()")]
struct Token {
    hops: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
struct SetNext<const ARBITER: bool>(Addr<ARBITER>);

#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

impl<const ARBITER: bool> Actor for Worker<Actix<ARBITER>> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(CAPACITY);
    }
}

impl<const ARBITER: bool> Supervised for Worker<Actix<ARBITER>> {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // actix keeps the actor itself over a restart, and its users reset it here.
        self.tally = Tally::new(&Milestones::unreachable());
    }
}

impl<const ARBITER: bool> Handler<Add> for Worker<Actix<ARBITER>> {
    type Result = ();

    fn handle(&mut self, Add(value): Add, _: &mut Context<Self>) {
        self.tally.add(value);
    }
}

impl<const ARBITER: bool> Handler<Ask> for Worker<Actix<ARBITER>> {
    type Result = u64;

    fn handle(&mut self, Ask(value): Ask, _: &mut Context<Self>) -> u64 {
        value + 1
    }
}

impl<const ARBITER: bool> Handler<Token> for Worker<Actix<ARBITER>> {
    type Result = ();

    fn handle(&mut self, Token { hops }: Token, _: &mut Context<Self>) {
        self.pass_on(hops);
    }
}

impl<const ARBITER: bool> Handler<SetNext<ARBITER>> for Worker<Actix<ARBITER>> {
    type Result = ();

    fn handle(&mut self, SetNext(next): SetNext<ARBITER>, _: &mut Context<Self>) {
        self.next = Some(next);
    }
}

impl<const ARBITER: bool> Handler<Fail> for Worker<Actix<ARBITER>> {
    type Result = ();

    fn handle(&mut self, _: Fail, ctx: &mut Context<Self>) {
        // Handlers cannot fail: an actor that has to, stops.
        ctx.stop();
    }
}

/// Asks a worker. A type of its own, so that only its asks pay for a boxed future.
pub struct Relay<const ARBITER: bool>(Addr<ARBITER>);

impl<const ARBITER: bool> Actor for Relay<ARBITER> {
    type Context = Context<Self>;
}

impl<const ARBITER: bool> Handler<Ask> for Relay<ARBITER> {
    type Result = ResponseFuture<u64>;

    fn handle(&mut self, Ask(value): Ask, _: &mut Context<Self>) -> ResponseFuture<u64> {
        let target = self.0.clone();
        Box::pin(async move { Actix::<ARBITER>::ask(&target, value).await })
    }
}

impl<const ARBITER: bool> Contender for Actix<ARBITER> {
    type Addr = Addr<ARBITER>;
    type Relay = actix::Addr<Relay<ARBITER>>;
    type Supervised = Addr<ARBITER>;

    fn covers(scenario: Scenario) -> bool {
        let one_receiver = matches!(
            scenario,
            Scenario::Tell { .. } | Scenario::Ask { .. } | Scenario::AskAtOnce { .. }
        );
        one_receiver || !ARBITER
    }

    /// Runs `scenario` on the system's thread, which also runs the actors that are not given to an
    /// arbiter.
    fn block_on<F>(scenario: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        System::new().block_on(async {
            let task = actix::spawn(scenario);
            task.await.expect("a scenario that panicked has no result")
        })
    }

    fn spawn_sender(sender: impl Future<Output = ()> + Send + 'static) {
        actix::spawn(sender);
    }

    fn new() -> Self {
        Self
    }

    fn start(&mut self, worker: Worker<Self>) -> Addr<ARBITER> {
        if ARBITER {
            Worker::start_in_arbiter(&Arbiter::new().handle(), |_| worker)
        } else {
            worker.start()
        }
    }

    fn start_relay(&mut self, target: Addr<ARBITER>) -> actix::Addr<Relay<ARBITER>> {
        Relay(target).start()
    }

    async fn start_supervised(&mut self, worker: Worker<Self>) -> Addr<ARBITER> {
        Supervisor::start(|_| worker)
    }

    async fn tell(addr: &Addr<ARBITER>, value: u64) {
        addr.do_send(Add(value));
    }

    async fn ask(addr: &Addr<ARBITER>, value: u64) -> u64 {
        addr.send(Ask(value)).await.expect("a worker answers")
    }

    async fn ask_relay(relay: &actix::Addr<Relay<ARBITER>>, value: u64) -> u64 {
        relay.send(Ask(value)).await.expect("a relay answers")
    }

    fn pass(addr: &Addr<ARBITER>, hops: u64) {
        addr.do_send(Token { hops });
    }

    fn set_next(addr: &Addr<ARBITER>, next: Addr<ARBITER>) {
        addr.do_send(SetNext(next));
    }

    async fn fail(worker: &mut Addr<ARBITER>) {
        worker.do_send(Fail);
        worker.do_send(Token { hops: 0 });
    }
}
