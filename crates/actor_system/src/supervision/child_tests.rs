//! A child's task without its supervisor, so that a test controls the sequence of its orders.

use std::{convert::Infallible, future::pending};

use alys_runtime::sync::{mpsc, oneshot};

use std::{sync::Arc, time::Duration};

use alys_runtime::time;

use crate::{
    actor::{
        AlysActor, Context,
        cell::Cell,
        lifecycle::State,
        orders::{Line, Order, Start, Stop, StopKind},
    },
    mailbox::{address::Addr, message::Message},
    supervision::{
        ChildSpec, Supervisor, SupervisorSpec, policy::Strategy, task::SupervisorTask,
        tree::TreeState,
    },
};

const LONG: Duration = Duration::from_secs(30);

/// Sends orders to its actor from within the handler, which never completes.
struct Hold(Arc<Cell>, Vec<Order>);

impl Message for Hold {
    fn kind(&self) -> &'static str {
        "hold"
    }
}

struct Held;

impl AlysActor for Held {
    type Message = Hold;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Held";

    async fn handle(
        &mut self,
        Hold(cell, orders): Hold,
        _: &Context<Self>,
    ) -> Result<(), Infallible> {
        // The handler queues the orders, so that the task finds all of them in one poll.
        for order in orders {
            assert!(cell.control.order(order));
        }
        pending().await
    }
}

type Started = oneshot::Receiver<()>;

fn start(start_id: u64) -> (Order, Started) {
    let (started, runs) = oneshot::channel();
    let start = Start {
        start_id,
        delay: Duration::ZERO,
        is_open: false,
        after: None,
        started: Some(started),
    };
    (Order::Start(start), runs)
}

fn stop() -> Order {
    let (done, _answer) = oneshot::channel();
    Order::Stop(Stop {
        until: time::now(),
        kind: StopKind::Pause,
        done,
    })
}

/// A child that receives these orders in its handler, and its supervisor.
fn held(orders: Vec<Order>) -> (Supervisor, SupervisorTask, Arc<Cell>, Addr<Hold>) {
    let cell = Arc::new(Cell::supervisor("s", &Cell::root("shop", Arc::default())));
    let (supervisor, make_task) = Supervisor::make(
        cell.clone(),
        Arc::<TreeState>::default(),
        SupervisorSpec::new("s", Strategy::OneForAll),
        false,
    );
    let mut task = make_task(Line {
        child: 0,
        cell: cell.clone(),
        reports: mpsc::channel(8).0,
    });
    let spec = ChildSpec::new("a").handle_timeout(None);
    let addr = supervisor
        .start(spec, 8, || async { Ok::<_, Infallible>(Held) })
        .unwrap();
    task.spawn_added();
    let child = cell.shared.directory.find("shop/s/a").unwrap().cell;
    addr.tell(Hold(child.clone(), orders)).unwrap();
    assert!(child.control.order(start(1).0));
    (supervisor, task, child, addr)
}

#[test]
fn a_start_that_follows_an_unanswered_stop_is_carried_out() {
    alys_runtime::block_on_main(async {
        let (order, runs) = start(2);
        let (_supervisor, _task, child, _addr) = held(vec![stop(), order]);
        assert_eq!(time::timeout(LONG, runs).await, Ok(Ok(())));
        assert_eq!(child.snapshot().incarnation, 2);
    });
}

#[test]
fn a_child_retired_after_an_unanswered_stop_ends() {
    alys_runtime::block_on_main(async {
        let (_supervisor, _task, child, addr) = held(vec![stop(), Order::Retire]);
        assert!(time::timeout(LONG, addr.closed()).await.is_ok());
        assert_eq!(child.state(), State::Stopped);
    });
}

#[test]
fn a_start_does_not_outlive_a_later_stop() {
    alys_runtime::block_on_main(async {
        let (order, runs) = start(2);
        let (_supervisor, _task, child, addr) = held(vec![stop(), order, stop(), Order::Retire]);
        assert!(time::timeout(LONG, addr.closed()).await.is_ok());
        assert!(runs.await.is_err());
        assert_eq!(child.snapshot().incarnation, 1);
    });
}
