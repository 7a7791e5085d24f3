//! A failure during a shutdown is not a bug and is not logged as an error.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{sync::Arc, time::Duration};

use alys_actor_system::{
    AlysActor, Backoff, ChildSpec, Context, Message, Reply, Strategy, SupervisorSpec, System,
};
use alys_runtime::sync::Notify;
use tracing::level_filters::LevelFilter;

#[path = "common/errors.rs"]
mod errors;

enum Told {
    Fail,
    Ping(Reply<()>),
    /// Notifies the first and waits for the second.
    Wait(Arc<Notify>, Arc<Notify>),
}

impl Message for Told {
    fn kind(&self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Ping(_) => "ping",
            Self::Wait(..) => "wait",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
struct ToldToFail;

struct Worker;

impl AlysActor for Worker {
    type Message = Told;
    type Error = ToldToFail;
    type Config = ();
    const NAME: &'static str = "Worker";

    async fn handle(&mut self, told: Told, _: &Context<Self>) -> Result<(), ToldToFail> {
        match told {
            Told::Fail => return Err(ToldToFail),
            Told::Ping(reply) => drop(reply.send(())),
            Told::Wait(there, go_on) => {
                there.notify_one();
                go_on.notified().await;
            }
        }
        Ok(())
    }
}

#[test]
fn a_restart_during_a_shutdown_does_not_touch_a_stopped_sibling() {
    errors::listen(LevelFilter::ERROR);
    const LONG: Duration = Duration::from_secs(30);
    alys_runtime::block_on_main(async {
        let system = System::new("quiet");
        let together = SupervisorSpec {
            backoff: Backoff::NONE,
            ..SupervisorSpec::new("s", Strategy::OneForAll)
        };
        let supervisor = system.supervisor(together).unwrap();
        let other = system
            .supervisor(SupervisorSpec::new("t", Strategy::OneForOne))
            .unwrap();
        let make = || async { Ok::<_, ToldToFail>(Worker) };
        let a = supervisor.start(ChildSpec::new("a"), 8, make).unwrap();
        let b = supervisor
            .start(ChildSpec::new("b").depends_on("s/a"), 8, make)
            .unwrap();
        let c = other
            .start(ChildSpec::new("c").depends_on("s/a"), 8, make)
            .unwrap();
        let (there, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        c.tell(Told::Wait(there.clone(), go_on.clone())).unwrap();
        there.notified().await;
        let stopping = alys_runtime::spawn("shutdown", async move { system.shutdown(LONG).await });
        // a fails while the level of b and c is being stopped, which takes until c is released.
        b.closed().await;
        a.tell(Told::Fail).unwrap();
        assert_eq!(a.ask(Told::Ping, LONG).await, Ok(()));
        go_on.notify_one();
        let report = stopping.await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.levels, [vec!["quiet/s/b", "quiet/t/c"]]);
        assert_eq!(report.stopped.last().map(String::as_str), Some("quiet/s/a"));
    });
    assert_eq!(*errors::lines(), Vec::<String>::new());
}
