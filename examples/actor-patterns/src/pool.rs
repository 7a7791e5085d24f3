//! A pool: several actors of one kind behind one handle, which chooses the next message's receiver.

use std::convert::Infallible;

use alys_actor_extras::{Pool, PoolError, PoolSpec, Routing, SupervisorExt};
use alys_actor_system::{AlysActor, Context, Message, Reply, Strategy, Supervisor, System};

use crate::{Gate, Outcome, StoryError, TIMEOUT, shut_down, tolerant, wait_until_drained};

/// Messages of a cook.
pub enum CookMessage {
    Cook {
        dishes: u64,
    },
    /// Blocks the cook until the gate opens.
    Wait(Gate),
    Panic,
    /// Asks for the cook's number and its count of dishes.
    Report {
        reply: Reply<(usize, u64)>,
    },
}

impl Message for CookMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Cook { .. } => "cook",
            Self::Wait(_) => "wait",
            Self::Panic => "panic",
            Self::Report { .. } => "report",
        }
    }
}

struct Cook {
    number: usize,
    dishes: u64,
}

impl AlysActor for Cook {
    type Message = CookMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Cook";

    async fn handle(&mut self, msg: CookMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            CookMessage::Cook { dishes } => self.dishes += dishes,
            CookMessage::Wait(gate) => gate.pass().await,
            CookMessage::Panic => panic!("a pan is on fire"),
            CookMessage::Report { reply } => {
                reply.send((self.number, self.dishes));
            }
        }
        Ok(())
    }
}

fn start_pool(
    supervisor: &Supervisor,
    name: &str,
    routing: Routing,
) -> Result<Pool<CookMessage>, PoolError> {
    let spec = PoolSpec::new(name, 3, 16).routing(routing);
    // Each worker has its own clone of the factory, which gets the worker's number.
    supervisor.pool(spec, |number| async move {
        Ok::<_, Infallible>(Cook { number, dishes: 0 })
    })
}

fn report(reply: Reply<(usize, u64)>) -> CookMessage {
    CookMessage::Report { reply }
}

/// Dishes of each cook.
async fn dishes(pool: &Pool<CookMessage>) -> Result<Vec<u64>, StoryError> {
    let mut all = Vec::new();
    for addr in pool.addresses() {
        let (_, dishes) = addr.ask(report, TIMEOUT).await?;
        all.push(dishes);
    }
    Ok(all)
}

/// Runs the story.
pub async fn run() -> Outcome {
    let system = System::new("restaurant");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    round_robin(&supervisor).await?;
    least_loaded(&system, &supervisor).await?;
    by_key(&system, &supervisor).await?;
    shut_down(system).await
}

async fn round_robin(supervisor: &Supervisor) -> Outcome {
    let pool = start_pool(supervisor, "round", Routing::RoundRobin)?;
    for _ in 0..6 {
        pool.tell(CookMessage::Cook { dishes: 1 })?;
    }
    let shares = dishes(&pool).await?;
    assert_eq!(shares, [2, 2, 2]);
    println!("round robin, six dishes: {shares:?}");

    for addr in pool.addresses() {
        addr.tell(CookMessage::Cook { dishes: 1 })?;
    }
    assert_eq!(dishes(&pool).await?, [3, 3, 3]);
    println!("to all: each cook has made one more");
    Ok(())
}

async fn least_loaded(system: &System, supervisor: &Supervisor) -> Outcome {
    let pool = start_pool(supervisor, "least", Routing::LeastLoaded)?;
    let gate = Gate::closed();
    let busy = &pool.addresses()[0];
    busy.tell(CookMessage::Wait(gate.clone()))?;
    wait_until_drained(system, "s/least-0").await?;
    busy.tell(CookMessage::Cook { dishes: 1 })?;
    // Each of these is answered before the next one is sent.
    for _ in 0..4 {
        let (number, _) = pool.ask(report, TIMEOUT).await?;
        assert_ne!(number, 0);
    }
    gate.open();
    assert_eq!(dishes(&pool).await?, [1, 0, 0]);
    println!("least loaded: cooks 1 and 2 answer while cook 0 has a message queued");
    Ok(())
}

async fn by_key(system: &System, supervisor: &Supervisor) -> Outcome {
    let pool = start_pool(supervisor, "key", Routing::ByKey)?;
    for table in ["a", "b", "c"] {
        let (first, _) = pool.ask_keyed(table, report, TIMEOUT).await?;
        let (second, _) = pool.ask_keyed(table, report, TIMEOUT).await?;
        assert_eq!(first, second);
    }
    println!("by key: each table has the same cook every time");

    // A failed worker is restarted under the pool's supervisor, and keeps its place and its queue.
    pool.tell_keyed("a", CookMessage::Cook { dishes: 1 })?;
    pool.tell_keyed("a", CookMessage::Panic)?;
    let (number, dishes) = pool.ask_keyed("a", report, TIMEOUT).await?;
    let tree = system.snapshot();
    let restarts = tree
        .find(&format!("s/key-{number}"))
        .map(|cook| cook.restarts);
    assert_eq!(restarts, Some(1));
    assert_eq!(dishes, 0, "the next incarnation is a new cook");
    println!("by key: the cook of table a panicked, was restarted, and answers");
    Ok(())
}
