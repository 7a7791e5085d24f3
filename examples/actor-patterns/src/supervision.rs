//! What follows a failure: whom it takes along, how soon they come back, and who decides when it does not help.

use std::time::Duration;

use alys_actor_system::{
    Addr, AlysActor, Backoff, Breaker, ChildSpec, Context, Exhausted, Failure, Health, Intensity,
    Message, Pace, Reply, StartError, Strategy, Supervisor, SupervisorSpec, System, SystemEvent,
    TellError,
};
use futures::StreamExt;

use crate::{LONG, Outcome, end, ms, patient, until};

/// What a worker understands.
pub enum Job {
    /// Say which incarnation you are.
    GetLife { reply: Reply<u64> },
    /// Return an error.
    Fail,
    /// Panic.
    Panic,
    /// Never come back.
    Hang,
}

impl Message for Job {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetLife { .. } => "get_life",
            Self::Fail => "fail",
            Self::Panic => "panic",
            Self::Hang => "hang",
        }
    }
}

/// What a worker says that was told to fail.
#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
pub struct ToldToFail;

struct Worker;

impl AlysActor for Worker {
    type Message = Job;
    type Error = ToldToFail;
    type Config = ();
    const NAME: &'static str = "Worker";

    async fn handle(&mut self, job: Job, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        match job {
            Job::GetLife { reply } => {
                reply.send(ctx.incarnation());
                Ok(())
            }
            Job::Fail => Err(ToldToFail),
            Job::Panic => panic!("told to panic"),
            Job::Hang => std::future::pending().await,
        }
    }
}

fn worker(supervisor: &Supervisor, spec: ChildSpec) -> Result<Addr<Job>, StartError> {
    supervisor.start(spec, 16, || async { Ok::<_, ToldToFail>(Worker) })
}

async fn life(addr: &Addr<Job>) -> Result<u64, alys_actor_system::AskError> {
    addr.ask(|reply| Job::GetLife { reply }, LONG).await
}

/// Tells the story.
pub async fn run() -> Outcome {
    strategies().await?;
    paces().await?;
    breaker().await?;
    watchdog().await?;
    degrade().await?;
    escalate().await
}

/// Of three workers the middle one panics: which incarnations are there then?
async fn strategies() -> Outcome {
    for (strategy, lives) in [
        (Strategy::OneForOne, [1, 2, 1]),
        (Strategy::OneForAll, [2, 2, 2]),
        (Strategy::RestForOne, [1, 2, 2]),
    ] {
        let system = System::new("strategies");
        let supervisor = system.supervisor(patient("s", strategy))?;
        let [a, b, c] = ["a", "b", "c"].map(|name| worker(&supervisor, ChildSpec::new(name)));
        let (a, b, c) = (a?, b?, c?);
        for addr in [&a, &b, &c] {
            life(addr).await?;
        }
        b.tell(Job::Panic)?;
        // The address stays valid: the question waits until the next incarnation is there to answer it.
        let of_b = life(&b).await?;
        let seen = [life(&a).await?, of_b, life(&c).await?];
        assert_eq!(seen, lives, "{strategy:?}");
        println!("{strategy:?}: b panics, and the incarnations of a, b, c are {seen:?}");
        end(system).await?;
    }
    Ok(())
}

/// A worker fails three times in a row: how long is it down each time?
async fn paces() -> Outcome {
    let doubling = Backoff {
        initial: ms(2),
        max: ms(100),
        factor: 2.0,
        jitter: 0.0,
    };
    for (pace, delays) in [
        (Pace::Immediate, [0, 0, 0]),
        (Pace::Delayed(ms(5)), [5, 5, 5]),
        (Pace::Backoff(doubling), [2, 4, 8]),
    ] {
        let system = System::new("paces");
        let mut events = system.bus().stream::<SystemEvent>(16)?;
        let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
        let addr = worker(&supervisor, ChildSpec::new("w").pace(pace))?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            addr.tell(Job::Fail)?;
            match events.next().await {
                Some(SystemEvent::Restarting { delay, .. }) => seen.push(delay),
                other => return Err(format!("{other:?} in place of a restart").into()),
            }
        }
        assert_eq!(seen, delays.map(ms), "{pace:?}");
        println!("{}: down for {seen:?}", name_of(pace));
        end(system).await?;
    }
    Ok(())
}

fn name_of(pace: Pace) -> &'static str {
    match pace {
        Pace::Immediate => "Immediate",
        Pace::Delayed(_) => "Delayed",
        Pace::Backoff(_) => "Backoff",
        Pace::CircuitBreaker(_) => "CircuitBreaker",
    }
}

/// Two failures open the breaker: the mailbox refuses at once, in place of letting everybody wait.
async fn breaker() -> Outcome {
    let breaker = |open_for: Duration| {
        let open_for = Backoff {
            initial: open_for,
            max: open_for,
            factor: 1.0,
            jitter: 0.0,
        };
        Pace::CircuitBreaker(Breaker {
            failures: 2,
            within: LONG,
            open_for,
            proved_after: LONG,
        })
    };
    let system = System::new("breaker");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;

    let hour = worker(
        &supervisor,
        ChildSpec::new("hour").pace(breaker(Duration::from_secs(3600))),
    )?;
    hour.tell(Job::Fail)?;
    hour.tell(Job::Fail)?;
    until(&system, "an open breaker", |_| {
        matches!(hour.tell(Job::Panic), Err(TellError::Unavailable(_)))
    })
    .await?;
    println!("breaker open for an hour: told at once that the worker is unavailable");

    let moment = worker(&supervisor, ChildSpec::new("moment").pace(breaker(ms(20))))?;
    moment.tell(Job::Fail)?;
    moment.tell(Job::Fail)?;
    until(&system, "the trial", |tree| {
        tree.find("s/moment")
            .is_some_and(|seen| seen.incarnation == 3)
    })
    .await?;
    let retry = alys_actor_system::Retry {
        attempts: 100,
        each: LONG,
        backoff: Backoff::default(),
    };
    let seen = moment
        .ask_retrying(|reply| Job::GetLife { reply }, retry)
        .await?;
    assert_eq!(seen, 3);
    println!("breaker open for a moment: then the third incarnation was let try, and answers");
    // What the one with the hour did not handle is left undone, and the report says so.
    let report = system.shutdown(LONG).await;
    println!("shutdown leaves undone: {} actors", report.abandoned.len());
    Ok(())
}

/// A handler that never comes back is a failure like any other.
async fn watchdog() -> Outcome {
    let system = System::new("watchdog");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let addr = worker(&supervisor, ChildSpec::new("w").handle_within(ms(20)))?;
    addr.tell(Job::Hang)?;
    assert_eq!(life(&addr).await?, 2);
    let error = system
        .snapshot()
        .find("s/w")
        .and_then(|seen| seen.last_error.clone())
        .unwrap_or_default();
    assert_eq!(error, "hung while handling hang: not done after 20ms");
    println!("watchdog: {error}; the second incarnation answers");
    end(system).await
}

/// One restart is allowed. The second failure is one too many: the worker is given up, the rest goes on.
async fn degrade() -> Outcome {
    let system = System::new("degrade");
    let spec = SupervisorSpec {
        intensity: Intensity {
            restarts: 1,
            within: LONG,
        },
        exhausted: Exhausted::Degrade,
        ..patient("s", Strategy::OneForOne)
    };
    let supervisor = system.supervisor(spec)?;
    let (hopeless, other) = (
        worker(&supervisor, ChildSpec::new("hopeless"))?,
        worker(&supervisor, ChildSpec::new("other"))?,
    );
    hopeless.tell(Job::Fail)?;
    hopeless.tell(Job::Fail)?;
    hopeless.closed().await;
    assert_eq!(life(&other).await?, 1);
    assert_eq!(system.health(), Health::Degraded("failed for good"));
    println!(
        "degraded: one worker is given up, the other one answers, health is {:?}",
        system.health()
    );
    end(system).await
}

/// The same with escalation: the supervisor fails, the one above restarts it with all its children; and when
/// that has had enough too, it goes on up to the root, and the process must end.
async fn escalate() -> Outcome {
    let none = Intensity {
        restarts: 0,
        within: LONG,
    };
    let root = SupervisorSpec {
        intensity: Intensity {
            restarts: 1,
            within: LONG,
        },
        ..patient("escalate", Strategy::OneForAll)
    };
    let system = System::with_root(root);
    let supervisor = system.supervisor(SupervisorSpec {
        intensity: none,
        ..patient("s", Strategy::OneForOne)
    })?;
    let (a, b) = (
        worker(&supervisor, ChildSpec::new("a"))?,
        worker(&supervisor, ChildSpec::new("b"))?,
    );
    a.tell(Job::Fail)?;
    assert_eq!((life(&a).await?, life(&b).await?), (2, 2));
    println!("escalated: a failed, its supervisor was restarted by the root, and b with it");
    a.tell(Job::Panic)?;
    let failure = system.failed().await;
    assert!(matches!(failure, Failure::Escalated { .. }), "{failure:?}");
    println!("escalated to the top: {}", failure.chain());
    Ok(())
}
