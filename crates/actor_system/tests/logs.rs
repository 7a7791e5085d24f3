//! Log levels: a restart and a supervisor that gives up are warnings with the reason, a root that
//! gives up is an error, and nothing else is logged at these levels.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{convert::Infallible, time::Duration};

use alys_actor_system::{
    AlysActor, Backoff, ChildSpec, Context, Intensity, Message, Strategy, SupervisorSpec, System,
};
use alys_runtime::time;
use tracing::level_filters::LevelFilter;

#[path = "common/errors.rs"]
mod errors;

struct Fail;

impl Message for Fail {
    fn kind(&self) -> &'static str {
        "fail"
    }
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
struct ToldToFail;

struct Worker;

impl AlysActor for Worker {
    type Message = Fail;
    type Error = ToldToFail;
    type Config = ();
    const NAME: &'static str = "Worker";

    async fn handle(&mut self, _: Fail, _: &Context<Self>) -> Result<(), ToldToFail> {
        Err(ToldToFail)
    }
}

#[test]
fn restarts_are_warnings_and_a_root_that_gives_up_is_an_error() {
    errors::listen(LevelFilter::WARN);
    alys_runtime::block_on_main(async {
        let none = Intensity {
            restarts: 0,
            within: Duration::from_secs(60),
        };
        let system = System::with_root(SupervisorSpec {
            intensity: none,
            ..SupervisorSpec::new("world", Strategy::OneForAll)
        });
        let supervisor = system
            .supervisor(SupervisorSpec {
                intensity: Intensity {
                    restarts: 1,
                    ..none
                },
                backoff: Backoff::NONE,
                ..SupervisorSpec::new("s", Strategy::OneForOne)
            })
            .unwrap();
        let addr = supervisor
            .start(ChildSpec::new("a"), 4, || async {
                Ok::<_, Infallible>(Worker)
            })
            .unwrap();
        addr.tell(Fail).unwrap();
        addr.tell(Fail).unwrap();
        time::timeout(Duration::from_secs(30), system.failed())
            .await
            .unwrap();
        system.shutdown(Duration::from_secs(1)).await;
    });
    let lines = errors::lines();
    let reason = "error while handling fail: told to fail";
    let wanted = [
        ["WARN message=restart", "actor=world/s/a", reason],
        ["WARN message=gave up", "actor=world/s", reason],
        ["ERROR message=gave up", "system=world", reason],
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:?}");
    for (line, [start, subject, reason]) in lines.iter().zip(wanted) {
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(subject) && line.contains(reason), "{line}");
    }
}
