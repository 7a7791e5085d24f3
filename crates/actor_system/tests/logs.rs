//! Log levels: a restart and a supervisor that gives up are warnings with the reason, a root that
//! gives up is an error, and nothing else is logged at these levels.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    convert::Infallible,
    fmt::{Debug, Write},
    sync::Mutex,
    time::Duration,
};

use alys_actor_system::{
    AlysActor, Backoff, ChildSpec, Context, Intensity, Message, Strategy, SupervisorSpec, System,
};
use alys_runtime::time;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

static LINES: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("alys_actor_system")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        LINES
            .lock()
            .unwrap()
            .push((*event.metadata().level(), line.0));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

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
    tracing::subscriber::set_global_default(Lines).unwrap();
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
    let lines = LINES.lock().unwrap();
    let levels: Vec<_> = lines.iter().map(|(level, _)| *level).collect();
    assert_eq!(
        levels,
        [Level::WARN, Level::WARN, Level::ERROR],
        "{lines:?}"
    );
    for (line, parts) in lines.iter().zip([
        [
            "message=restart",
            "actor=world/s/a",
            "error while handling fail: told to fail",
        ],
        [
            "message=gave up",
            "actor=world/s",
            "error while handling fail: told to fail",
        ],
        [
            "message=gave up",
            "system=world",
            "error while handling fail: told to fail",
        ],
    ]) {
        assert!(
            parts.iter().all(|part| line.1.contains(part)),
            "{line:?} {parts:?}"
        );
    }
}
