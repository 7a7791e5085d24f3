//! A supervisor's task without its parent, so that a test controls the order of its inputs.

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::*;
use crate::{
    Context, Message, Strategy,
    actor::{AlysActor, orders::Line},
};

struct Work;

impl Message for Work {
    fn kind(&self) -> &'static str {
        "work"
    }
}

struct Counts(Arc<AtomicUsize>);

impl AlysActor for Counts {
    type Message = Work;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Counts";

    async fn handle(&mut self, _: Work, _: &Context<Self>) -> Result<(), Infallible> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// A supervisor that has not been started, and its task.
fn supervisor() -> (Supervisor, Arc<Cell>, SupervisorTask) {
    let cell = Arc::new(Cell::supervisor("s", &Cell::root("shop", Arc::default())));
    let (handle, make_task) = Supervisor::make(
        cell.clone(),
        Arc::default(),
        SupervisorSpec::new("s", Strategy::OneForOne),
        false,
    );
    let line = Line {
        child: 0,
        cell: cell.clone(),
        reports: mpsc::channel(8).0,
    };
    (handle, cell, make_task(line))
}

#[test]
fn a_drain_that_overtakes_the_first_start_waits_for_it() {
    alys_runtime::block_on_main(async {
        let (supervisor, cell, task) = supervisor();
        let handled = Arc::<AtomicUsize>::default();
        let counts = handled.clone();
        let addr = supervisor
            .start(ChildSpec::new("a"), 8, move || {
                ready(Ok::<_, Infallible>(Counts(counts.clone())))
            })
            .unwrap();
        addr.tell(Work).unwrap();
        alys_runtime::spawn("supervisor", task.run());
        // `join!` polls the drain first, so it is in the inbox before the start is ordered.
        let (report, ()) = futures::join!(
            supervisor.drain(&[0], after(Duration::from_secs(30))),
            async {
                time::sleep(Duration::from_millis(20)).await;
                let start = Start {
                    start_id: 1,
                    delay: Duration::ZERO,
                    is_open: false,
                    after: None,
                    started: None,
                };
                assert!(cell.control.order(Order::Start(start)));
            }
        );
        assert_eq!(
            (handled.load(Relaxed), report.stopped.len()),
            (1, 1),
            "{report:?}"
        );
        assert!(report.abandoned.is_empty(), "{report:?}");
    });
}

#[test]
fn a_drain_of_a_child_that_never_starts_ends_in_time() {
    alys_runtime::block_on_main(async {
        let (supervisor, _cell, task) = supervisor();
        let never = || ready(Ok::<_, Infallible>(Counts(Arc::default())));
        let addr = supervisor.start(ChildSpec::new("a"), 8, never).unwrap();
        addr.tell(Work).unwrap();
        alys_runtime::spawn("supervisor", task.run());
        let report = supervisor
            .drain(&[0], after(Duration::from_millis(50)))
            .await;
        assert_eq!(
            report.abandoned.first().map(|left| left.messages),
            Some(1),
            "{report:?}"
        );
    });
}

#[test]
fn a_drain_gives_up_on_a_supervisor_that_has_not_started() {
    alys_runtime::block_on_main(async {
        let (supervisor, cell, task) = supervisor();
        let delay = Duration::from_secs(3_600);
        let start = Start {
            start_id: 1,
            delay,
            is_open: false,
            after: None,
            started: None,
        };
        assert!(cell.control.order(Order::Start(start)));
        alys_runtime::spawn("supervisor", task.run());
        let drained = time::timeout(
            Duration::from_secs(60),
            supervisor.drain(&[0], after(Duration::ZERO)),
        )
        .await;
        assert!(drained.is_ok());
    });
}
