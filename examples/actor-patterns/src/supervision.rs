//! Reactions to a failure: the actors that restart, the delay of a restart, and the decision when
//! restarts do not help.

use std::time::Duration;

use alys_actor_extras::SystemExt;
use alys_actor_system::{
    Addr, AlysActor, AskError, Backoff, Breaker, ChildSpec, Context, Exhausted, Failure, Health,
    Intensity, Message, Reply, RestartDelay, Retry, StartError, Strategy, Supervisor,
    SupervisorSpec, System, SystemEvent, TellError,
};
use futures::StreamExt;

use crate::{Outcome, TIMEOUT, ms, shut_down, tolerant, wait_until};

/// Messages of a worker.
pub enum Job {
    GetIncarnation {
        reply: Reply<u64>,
    },
    /// Returns an error.
    Fail,
    Panic,
    /// Never ends.
    Hang,
}

impl Message for Job {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetIncarnation { .. } => "get_incarnation",
            Self::Fail => "fail",
            Self::Panic => "panic",
            Self::Hang => "hang",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("asked to fail")]
pub struct Failed;

struct Worker;

impl AlysActor for Worker {
    type Message = Job;
    type Error = Failed;
    type Config = ();
    const NAME: &'static str = "Worker";

    async fn handle(&mut self, job: Job, ctx: &Context<Self>) -> Result<(), Failed> {
        match job {
            Job::GetIncarnation { reply } => {
                reply.send(ctx.incarnation());
                Ok(())
            }
            Job::Fail => Err(Failed),
            Job::Panic => panic!("asked to panic"),
            Job::Hang => std::future::pending().await,
        }
    }
}

fn start(supervisor: &Supervisor, spec: ChildSpec) -> Result<Addr<Job>, StartError> {
    supervisor.start(spec, 16, || async { Ok::<_, Failed>(Worker) })
}

async fn incarnation(worker: &Addr<Job>) -> Result<u64, AskError> {
    let question = |reply| Job::GetIncarnation { reply };
    worker.ask(question, TIMEOUT).await
}

const fn at_most(restarts: usize) -> Intensity {
    Intensity {
        restarts,
        within: TIMEOUT,
    }
}

/// Runs the story.
pub async fn run() -> Outcome {
    strategies().await?;
    delays().await?;
    breaker().await?;
    watchdog().await?;
    degrade().await?;
    escalate().await
}

/// Of three workers the second one panics.
async fn strategies() -> Outcome {
    for (strategy, expected) in [
        (Strategy::OneForOne, [1, 2, 1]),
        (Strategy::OneForAll, [2, 2, 2]),
        (Strategy::RestForOne, [1, 2, 2]),
    ] {
        let system = System::new("strategies");
        let supervisor = system.supervisor(tolerant("s", strategy))?;
        let a = start(&supervisor, ChildSpec::new("a"))?;
        let b = start(&supervisor, ChildSpec::new("b"))?;
        let c = start(&supervisor, ChildSpec::new("c"))?;
        for worker in [&a, &b, &c] {
            incarnation(worker).await?;
        }
        b.tell(Job::Panic)?;
        // The address stays valid, and the question waits for the next incarnation.
        let of_b = incarnation(&b).await?;
        let seen = [incarnation(&a).await?, of_b, incarnation(&c).await?];
        assert_eq!(seen, expected, "{strategy:?}");
        println!("{strategy:?}: b panicked, and the incarnations of a, b, c are {seen:?}");
        shut_down(system).await?;
    }
    Ok(())
}

/// A worker fails three times in a row.
async fn delays() -> Outcome {
    let doubling = Backoff {
        initial: ms(2),
        max: ms(100),
        factor: 2.0,
        jitter: 0.0,
    };
    for (name, restart_delay, expected) in [
        ("immediate", RestartDelay::Immediate, [0, 0, 0]),
        ("delayed", RestartDelay::Delayed(ms(5)), [5, 5, 5]),
        ("backoff", RestartDelay::Backoff(doubling), [2, 4, 8]),
    ] {
        let system = System::new("delays");
        let mut events = system.bus().stream::<SystemEvent>(16)?;
        let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
        let worker = start(
            &supervisor,
            ChildSpec::new("w").restart_delay(restart_delay),
        )?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            worker.tell(Job::Fail)?;
            match events.next().await {
                Some(SystemEvent::Restarting { delay, .. }) => seen.push(delay),
                other => return Err(format!("{other:?} in place of a restart").into()),
            }
        }
        assert_eq!(seen, expected.map(ms), "{name}");
        println!("{name}: restarted after {seen:?}");
        shut_down(system).await?;
    }
    Ok(())
}

/// Two failures open the breaker: the mailbox then refuses messages at once.
async fn breaker() -> Outcome {
    let breaker = |open_for: Duration| {
        RestartDelay::CircuitBreaker(Breaker {
            failures: 2,
            within: TIMEOUT,
            open_for: Backoff {
                initial: open_for,
                max: open_for,
                factor: 1.0,
                jitter: 0.0,
            },
            proved_after: TIMEOUT,
        })
    };
    let system = System::new("breaker");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;

    let an_hour = breaker(Duration::from_secs(3600));
    let hour = start(&supervisor, ChildSpec::new("hour").restart_delay(an_hour))?;
    hour.tell(Job::Fail)?;
    hour.tell(Job::Fail)?;
    wait_until(&system, "open breaker", |_| {
        matches!(hour.tell(Job::Panic), Err(TellError::Unavailable(_)))
    })
    .await?;
    println!(
        "breaker open for an hour: the worker is unavailable, and its mailbox says so at once"
    );

    let moment = start(
        &supervisor,
        ChildSpec::new("moment").restart_delay(breaker(ms(20))),
    )?;
    moment.tell(Job::Fail)?;
    moment.tell(Job::Fail)?;
    wait_until(&system, "trial", |tree| {
        let worker = tree.find("s/moment");
        worker.is_some_and(|worker| worker.incarnation == 3)
    })
    .await?;
    let retry = Retry {
        attempts: 100,
        each: TIMEOUT,
        backoff: Backoff::default(),
    };
    let question = |reply| Job::GetIncarnation { reply };
    assert_eq!(moment.ask_retrying(question, retry).await?, 3);
    println!("breaker open for a moment: the third incarnation was tried, and answers");
    // The messages of the worker behind the open breaker are abandoned, and the report says so.
    let report = system.shutdown(TIMEOUT).await;
    println!("abandoned at shutdown: {} actors", report.abandoned.len());
    Ok(())
}

/// A handler that never ends is a failure like any other.
async fn watchdog() -> Outcome {
    let system = System::new("watchdog");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    let worker = start(&supervisor, ChildSpec::new("w").handle_timeout(ms(20)))?;
    worker.tell(Job::Hang)?;
    assert_eq!(incarnation(&worker).await?, 2);
    let tree = system.snapshot();
    let error = tree.find("s/w").and_then(|seen| seen.last_error.as_deref());
    assert_eq!(error, Some("hung while handling hang: not done after 20ms"));
    println!("watchdog: {error:?}; the second incarnation answers");
    shut_down(system).await
}

/// One restart is permitted: the second failure gives the worker up, and its siblings run on.
async fn degrade() -> Outcome {
    let system = System::new("degrade");
    let supervisor = system.supervisor(SupervisorSpec {
        intensity: at_most(1),
        exhausted: Exhausted::Degrade,
        ..tolerant("s", Strategy::OneForOne)
    })?;
    let hopeless = start(&supervisor, ChildSpec::new("hopeless"))?;
    let sibling = start(&supervisor, ChildSpec::new("sibling"))?;
    hopeless.tell(Job::Fail)?;
    hopeless.tell(Job::Fail)?;
    hopeless.closed().await;
    assert_eq!(incarnation(&sibling).await?, 1);
    let health = system.health();
    assert_eq!(health, Health::Degraded("failed for good"));
    println!("degraded: one worker is given up, its sibling answers, health is {health:?}");
    shut_down(system).await
}

/// With escalation the supervisor fails, and its own supervisor restarts it with all children. When
/// the root has no restarts left either, the process must end.
async fn escalate() -> Outcome {
    let system = System::with_root(SupervisorSpec {
        intensity: at_most(1),
        ..tolerant("escalate", Strategy::OneForAll)
    });
    let supervisor = system.supervisor(SupervisorSpec {
        intensity: at_most(0),
        ..tolerant("s", Strategy::OneForOne)
    })?;
    let a = start(&supervisor, ChildSpec::new("a"))?;
    let b = start(&supervisor, ChildSpec::new("b"))?;
    a.tell(Job::Fail)?;
    assert_eq!(incarnation(&a).await?, 2);
    assert_eq!(incarnation(&b).await?, 2);
    println!("escalated: a failed, and the root restarted its supervisor, with b");
    a.tell(Job::Panic)?;
    let failure = system.failed().await;
    assert!(matches!(failure, Failure::Escalated { .. }), "{failure:?}");
    println!("escalated to the root: {}", failure.chain());
    Ok(())
}
