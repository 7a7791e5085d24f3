//! A shutdown before all actors have started: no actor runs without its dependencies.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    convert::Infallible,
    future::{Future, pending, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Message, Reason, Strategy, Supervisor, SupervisorSpec,
    System,
};
use alys_runtime::sync::Notify;

struct Work;

impl Message for Work {
    fn kind(&self) -> &'static str {
        "work"
    }
}

type Diary = Arc<Mutex<Vec<String>>>;

struct Part(&'static str, Diary);

impl AlysActor for Part {
    type Message = Work;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Part";

    async fn started(&mut self, _: &Context<Self>) -> Result<(), Infallible> {
        self.1.lock().unwrap().push(format!("{} runs", self.0));
        Ok(())
    }

    async fn handle(&mut self, _: Work, _: &Context<Self>) -> Result<(), Infallible> {
        self.1.lock().unwrap().push(format!("{} works", self.0));
        Ok(())
    }
}

/// Starts an actor whose factory completes after `wait`.
fn part<W: Future<Output = ()> + Send + 'static>(
    supervisor: &Supervisor,
    spec: ChildSpec,
    name: &'static str,
    diary: &Diary,
    wait: impl Fn() -> W + Send + 'static,
) -> Addr<Work> {
    let diary = diary.clone();
    let factory = move || {
        let (wait, diary) = (wait(), diary.clone());
        async move {
            wait.await;
            Ok::<_, Infallible>(Part(name, diary))
        }
    };
    supervisor.start(spec, 8, factory).unwrap()
}

#[test]
fn an_actor_whose_dependency_never_runs_is_not_started() {
    alys_runtime::block_on_main(async {
        let diary = Diary::default();
        let system = System::new("shop");
        let supervisor = system
            .supervisor(SupervisorSpec::new("s", Strategy::OneForOne))
            .unwrap();
        part(
            &supervisor,
            ChildSpec::new("store"),
            "store",
            &diary,
            pending,
        );
        let front = ChildSpec::new("front").depends_on("s/store");
        let front = part(&supervisor, front, "front", &diary, || ready(()));
        front.tell(Work).unwrap();
        let report = system.shutdown(Duration::from_millis(100)).await;
        assert_eq!(*diary.lock().unwrap(), Vec::<String>::new());
        let left = report
            .abandoned
            .iter()
            .find(|left| left.actor == "shop/s/front")
            .unwrap();
        assert_eq!(
            (left.messages, left.handling, left.unresponsive),
            (1, None, false)
        );
        assert_eq!(system.dead_letters().of(Reason::Abandoned), 1);
    });
}

#[test]
fn an_actor_handles_its_queue_once_its_dependency_runs() {
    alys_runtime::block_on_main(async {
        let diary = Diary::default();
        let system = System::new("shop");
        let supervisor = system
            .supervisor(SupervisorSpec::new("s", Strategy::OneForOne))
            .unwrap();
        let gate = Arc::<Notify>::default();
        let held = gate.clone();
        part(
            &supervisor,
            ChildSpec::new("store"),
            "store",
            &diary,
            move || {
                let held = held.clone();
                async move { held.notified().await }
            },
        );
        let front = ChildSpec::new("front").depends_on("s/store");
        let front = part(&supervisor, front, "front", &diary, || ready(()));
        front.tell(Work).unwrap();
        // The shutdown is polled first, so it has begun when the gate opens.
        let (report, ()) = futures::join!(system.shutdown(Duration::from_secs(30)), async {
            gate.notify_one()
        });
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(
            *diary.lock().unwrap(),
            ["store runs", "front runs", "front works"]
        );
    });
}
