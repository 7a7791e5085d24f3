//! ractor: its mailboxes are unbounded, so a tell never waits. Asks are made without a timeout,
//! which ractor leaves to the caller.

use ractor::{
    Actor, ActorProcessingErr, ActorRef, ActorRuntime, RpcReplyPort, SupervisionEvent, call,
};
use tokio::sync::mpsc;

use crate::{
    contender::Contender,
    worker::{Failed, Worker},
};

pub struct Ractor;

pub enum Work {
    Add(u64),
    Ask {
        value: u64,
        reply: RpcReplyPort<u64>,
    },
    Token {
        hops: u64,
    },
    SetNext(ActorRef<Work>),
    Fail,
}

/// The type with the handlers, which ractor separates from the state of the actor.
struct Handler;

impl Actor for Handler {
    type Msg = Work;
    type State = Worker<Ractor>;
    type Arguments = Worker<Ractor>;

    async fn pre_start(
        &self,
        _: ActorRef<Work>,
        worker: Worker<Ractor>,
    ) -> Result<Worker<Ractor>, ActorProcessingErr> {
        Ok(worker)
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        msg: Work,
        worker: &mut Worker<Ractor>,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Work::Add(value) => worker.tally.add(value),
            Work::Ask { value, reply } => {
                let answer = match &worker.next {
                    Some(next) => Ractor::ask(next, value).await,
                    None => value + 1,
                };
                reply.send(answer)?;
            }
            Work::Token { hops } => worker.pass_on(hops),
            Work::SetNext(next) => worker.next = Some(next),
            Work::Fail => return Err(Failed.into()),
        }
        Ok(())
    }
}

/// ractor reports the failure of a worker to its supervisor, which has to start another. The new
/// worker has a new address and an empty mailbox, so the supervisor sends the address to the
/// benchmark.
struct Supervisor;

struct Supervision {
    worker: Worker<Ractor>,
    addresses: mpsc::UnboundedSender<ActorRef<Work>>,
}

impl Supervision {
    async fn start_worker(&self, me: &ActorRef<()>) -> Result<(), ActorProcessingErr> {
        let worker = self.worker.clone();
        let (addr, _) = Actor::spawn_linked(None, Handler, worker, me.get_cell()).await?;
        Ok(self.addresses.send(addr)?)
    }
}

impl Actor for Supervisor {
    type Msg = ();
    type State = Supervision;
    type Arguments = Supervision;

    async fn pre_start(
        &self,
        me: ActorRef<()>,
        state: Supervision,
    ) -> Result<Supervision, ActorProcessingErr> {
        state.start_worker(&me).await?;
        Ok(state)
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        state: &mut Supervision,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) | SupervisionEvent::ActorTerminated(..) = event {
            state.start_worker(&me).await?;
        }
        Ok(())
    }
}

/// A worker, and the receiver of the addresses of its replacements.
pub struct Supervised {
    worker: ActorRef<Work>,
    addresses: mpsc::UnboundedReceiver<ActorRef<Work>>,
}

fn cast(addr: &ActorRef<Work>, msg: Work) {
    addr.cast(msg).expect("a worker runs until it is stopped");
}

impl Contender for Ractor {
    type Addr = ActorRef<Work>;
    type Relay = ActorRef<Work>;
    type Supervised = Supervised;

    fn new() -> Self {
        Self
    }

    /// Starts the actor without waiting until it runs, the cheapest start that ractor has.
    fn start(&mut self, worker: Worker<Self>) -> ActorRef<Work> {
        let started = ActorRuntime::spawn_instant(None, Handler, worker);
        started
            .expect("an unnamed actor collides with no registered name")
            .0
    }

    fn start_relay(&mut self, target: ActorRef<Work>) -> ActorRef<Work> {
        self.start(Worker::with_next(target))
    }

    async fn start_supervised(&mut self, worker: Worker<Self>) -> Supervised {
        let (sender, mut addresses) = mpsc::unbounded_channel();
        let state = Supervision {
            worker,
            addresses: sender,
        };
        let started = Actor::spawn(None, Supervisor, state).await;
        started.expect("the supervisor starts");
        let worker = addresses.recv().await;
        Supervised {
            worker: worker.expect("the supervisor has started a worker"),
            addresses,
        }
    }

    async fn tell(addr: &ActorRef<Work>, value: u64) {
        cast(addr, Work::Add(value));
    }

    async fn ask(addr: &ActorRef<Work>, value: u64) -> u64 {
        call!(addr, |reply| Work::Ask { value, reply }).expect("a worker answers")
    }

    async fn ask_relay(relay: &ActorRef<Work>, value: u64) -> u64 {
        Self::ask(relay, value).await
    }

    fn pass(addr: &ActorRef<Work>, hops: u64) {
        cast(addr, Work::Token { hops });
    }

    fn set_next(addr: &ActorRef<Work>, next: ActorRef<Work>) {
        cast(addr, Work::SetNext(next));
    }

    async fn fail(supervised: &mut Supervised) {
        cast(&supervised.worker, Work::Fail);
        let worker = supervised.addresses.recv().await;
        supervised.worker = worker.expect("the supervisor starts another worker");
        cast(&supervised.worker, Work::Token { hops: 0 });
    }
}
