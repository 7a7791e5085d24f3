//! A pool: the same actor several times behind one handle, which chooses who gets the next message.

use std::convert::Infallible;

use alys_actor_system::{
    AlysActor, Context, Message, Pool, PoolSpec, Reply, Routing, Strategy, Supervisor, System,
};

use crate::{Failed, Gate, LONG, Outcome, end, in_hand, patient};

/// What a cook understands.
#[derive(Clone)]
pub enum Order {
    /// Make this many dishes.
    Cook(u64),
    /// Wait until the gate opens.
    Wait(Gate),
    /// Drop everything.
    Panic,
}

/// An order, or a question, which cannot be cloned.
pub enum CookMessage {
    /// Do this.
    Do(Order),
    /// Who are you, and how many dishes have you made?
    Who { reply: Reply<(usize, u64)> },
}

impl Message for CookMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Do(Order::Cook(_)) => "cook",
            Self::Do(Order::Wait(_)) => "wait",
            Self::Do(Order::Panic) => "panic",
            Self::Who { .. } => "who",
        }
    }
}

struct Cook {
    number: usize,
    made: u64,
}

impl AlysActor for Cook {
    type Message = CookMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Cook";

    async fn handle(&mut self, msg: CookMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            CookMessage::Do(Order::Cook(dishes)) => self.made += dishes,
            CookMessage::Do(Order::Wait(gate)) => gate.pass().await,
            CookMessage::Do(Order::Panic) => panic!("a pan is on fire"),
            CookMessage::Who { reply } => {
                reply.send((self.number, self.made));
            }
        }
        Ok(())
    }
}

fn kitchen(
    supervisor: &Supervisor,
    name: &str,
    routing: Routing,
) -> Result<Pool<CookMessage>, Failed> {
    // The factory gets the number of the worker; each worker has its own clone of it.
    let spec = PoolSpec::new(name, 3, 16).routing(routing);
    Ok(supervisor.pool(spec, |number| async move {
        Ok::<_, Infallible>(Cook { number, made: 0 })
    })?)
}

/// What each cook has made.
async fn made(pool: &Pool<CookMessage>) -> Result<Vec<u64>, Failed> {
    let mut made = Vec::new();
    for addr in pool.addresses() {
        made.push(addr.ask(|reply| CookMessage::Who { reply }, LONG).await?.1);
    }
    Ok(made)
}

/// Tells the story.
pub async fn run() -> Outcome {
    let system = System::new("restaurant");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;

    let pool = kitchen(&supervisor, "turn", Routing::RoundRobin)?;
    for _ in 0..6 {
        pool.tell(CookMessage::Do(Order::Cook(1)))?;
    }
    let shares = made(&pool).await?;
    assert_eq!(shares, [2, 2, 2]);
    println!("round robin, six dishes: {shares:?}");

    let pool = kitchen(&supervisor, "least", Routing::LeastLoaded)?;
    let gate = Gate::closed();
    let slow = &pool.addresses()[0];
    slow.tell(CookMessage::Do(Order::Wait(gate.clone())))?;
    in_hand(&system, "s/least-0").await?;
    slow.tell(CookMessage::Do(Order::Cook(1)))?;
    // One waits at the first cook. Each of these is done before the next one comes, by one of the others.
    for _ in 0..4 {
        let (who, _) = pool.ask(|reply| CookMessage::Who { reply }, LONG).await?;
        assert_ne!(who, 0);
    }
    gate.open();
    assert_eq!(made(&pool).await?, [1, 0, 0]);
    println!("least loaded: while cook 0 is busy and has one order waiting, cooks 1 and 2 answer");

    let pool = kitchen(&supervisor, "key", Routing::ByKey)?;
    for table in ["a", "b", "c"] {
        let first = pool
            .ask_keyed(table, |reply| CookMessage::Who { reply }, LONG)
            .await?;
        let again = pool
            .ask_keyed(table, |reply| CookMessage::Who { reply }, LONG)
            .await?;
        assert_eq!(first.0, again.0);
    }
    println!("by key: each table has its own cook, every time");

    // One that fails is restarted under the pool's supervisor and keeps its place and its queue.
    pool.tell_keyed("a", CookMessage::Do(Order::Panic))?;
    let (cook, made_by) = pool
        .ask_keyed("a", |reply| CookMessage::Who { reply }, LONG)
        .await?;
    let restarts = system
        .snapshot()
        .find(&format!("s/key-{cook}"))
        .map(|seen| seen.restarts);
    assert_eq!((made_by, restarts), (0, Some(1)));
    println!("by key: table a's cook panicked, came back, and answers");

    let told: Vec<bool> = pool
        .addresses()
        .iter()
        .map(|addr| addr.tell(CookMessage::Do(Order::Cook(1))).is_ok())
        .collect();
    assert_eq!((told, made(&pool).await?), (vec![true; 3], vec![1, 1, 1]));
    println!("to all: each has made one more");
    end(system).await
}
