//! Ours. The one file to adapt when the interface of `alys-actor-system` changes.

use std::{convert::Infallible, future::ready, time::Duration};

use alys_actor_system::{
    Addr, AlysActor, Backoff, ChildSpec, Context, Intensity, Message, Reply, Strategy, Supervisor,
    SupervisorSpec, System,
};

use crate::{
    contender::{CAPACITY, Contender},
    worker::{Failed, Worker},
};

/// The interface demands a deadline for each ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Alys {
    system: System,
    supervisor: Supervisor,
    batches: u64,
    /// Workers of the current batch.
    started: u64,
}

pub enum Work {
    Add(u64),
    Ask { value: u64, reply: Reply<u64> },
    Token { hops: u64 },
    SetNext(Addr<Work>),
    Fail,
}

impl Message for Work {
    fn kind(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Ask { .. } => "ask",
            Self::Token { .. } => "token",
            Self::SetNext(_) => "set_next",
            Self::Fail => "fail",
        }
    }
}

impl AlysActor for Worker<Alys> {
    type Message = Work;
    type Error = Failed;
    type Config = ();
    const NAME: &'static str = "Worker";

    async fn handle(&mut self, msg: Work, _: &Context<Self>) -> Result<(), Failed> {
        match msg {
            Work::Add(value) => self.tally.add(value),
            Work::Ask { value, reply } => {
                let answer = match &self.next {
                    Some(next) => Alys::ask(next, value).await,
                    None => value + 1,
                };
                reply.send(answer);
            }
            Work::Token { hops } => self.pass_on(hops),
            Work::SetNext(next) => self.next = Some(next),
            Work::Fail => return Err(Failed),
        }
        Ok(())
    }
}

/// A supervisor that restarts without delay and without limit: the framework's speed is measured,
/// not the delay of a policy.
fn supervisor(system: &System, batch: u64) -> Supervisor {
    let spec = SupervisorSpec {
        intensity: Intensity {
            restarts: usize::MAX,
            within: Duration::from_secs(60),
        },
        backoff: Backoff::NONE,
        ..SupervisorSpec::new(format!("workers-{batch}"), Strategy::OneForOne)
    };
    system.supervisor(spec).expect("the name is new")
}

async fn send(addr: &Addr<Work>, msg: Work) {
    let sent = addr.send(msg).await;
    assert!(sent.is_ok(), "a worker runs as long as its system");
}

fn tell(addr: &Addr<Work>, msg: Work) {
    assert!(addr.tell(msg).is_ok(), "the message fits into the mailbox");
}

impl Contender for Alys {
    type Addr = Addr<Work>;
    type Relay = Addr<Work>;
    type Supervised = Addr<Work>;

    fn new() -> Self {
        let system = System::new("comparison");
        Self {
            supervisor: supervisor(&system, 0),
            system,
            batches: 0,
            started: 0,
        }
    }

    fn begin_batch(&mut self) {
        self.batches += 1;
        self.started = 0;
        self.supervisor = supervisor(&self.system, self.batches);
    }

    fn start(&mut self, worker: Worker<Self>) -> Addr<Work> {
        let spec = ChildSpec::new(self.started.to_string());
        self.started += 1;
        let factory = move || ready(Ok::<_, Infallible>(worker.clone()));
        let started = self.supervisor.start(spec, CAPACITY, factory);
        started.expect("a supervisor has room for a batch")
    }

    fn start_relay(&mut self, target: Addr<Work>) -> Addr<Work> {
        self.start(Worker::with_next(target))
    }

    async fn start_supervised(&mut self, worker: Worker<Self>) -> Addr<Work> {
        self.start(worker)
    }

    async fn tell(addr: &Addr<Work>, value: u64) {
        send(addr, Work::Add(value)).await;
    }

    async fn ask(addr: &Addr<Work>, value: u64) -> u64 {
        let answer = addr.ask(|reply| Work::Ask { value, reply }, ASK_TIMEOUT);
        answer.await.expect("a second is enough")
    }

    async fn ask_relay(relay: &Addr<Work>, value: u64) -> u64 {
        Self::ask(relay, value).await
    }

    fn pass(addr: &Addr<Work>, hops: u64) {
        tell(addr, Work::Token { hops });
    }

    fn set_next(addr: &Addr<Work>, next: Addr<Work>) {
        tell(addr, Work::SetNext(next));
    }

    async fn fail(worker: &mut Addr<Work>) {
        // The token waits in the mailbox until the restart.
        send(worker, Work::Fail).await;
        send(worker, Work::Token { hops: 0 }).await;
    }
}
