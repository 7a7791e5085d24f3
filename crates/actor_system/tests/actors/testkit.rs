//! The test kit, and the names and texts that other programs read.

use std::{convert::Infallible, time::Duration};

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Fault, MailboxSnapshot, Message, Reason, SendError, State,
    TellError, mailbox,
    testkit::{Probe, TestSystem, unaccounted},
};
use alys_runtime::block_on_main;

#[derive(Debug, PartialEq, Eq)]
struct Ping(u32);

impl Message for Ping {
    fn kind(&self) -> &'static str {
        "ping"
    }
}

/// Answers with the next number.
struct Echo(Addr<Ping>);

impl AlysActor for Echo {
    type Message = Ping;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Echo";

    async fn handle(&mut self, Ping(n): Ping, _: &Context<Self>) -> Result<(), Infallible> {
        // A dropped probe is not an error, because some tests drop it.
        let _taken_or_not = self.0.tell(Ping(n + 1));
        Ok(())
    }
}

fn echo(test: &TestSystem, name: &str, to: &Addr<Ping>) -> Addr<Ping> {
    let to = to.clone();
    test.start(name, 8, move || {
        let to = to.clone();
        async move { Ok::<_, Infallible>(Echo(to)) }
    })
}

#[test]
fn a_probe_receives_messages_and_a_snapshot_counts_restarts() {
    block_on_main(async {
        let test = TestSystem::default();
        let (neighbour, mut probe) = Probe::new(8);
        let echo = echo(&test, "echo", &neighbour);
        assert_eq!(probe.now(), None);
        assert_eq!(probe.next_timeout(Duration::from_millis(5)).await, None);
        for n in [1, 3, 5] {
            echo.send(Ping(n)).await.unwrap();
        }
        assert_eq!(
            probe.find(|Ping(n)| (n > 3).then_some(n)).await,
            Some(4),
            "the first above 3"
        );
        assert_eq!(probe.next().await, Some(Ping(6)));
        assert!(format!("{probe:?}").contains("waiting: 0"));

        test.faults().plan(&test.path("echo"), Fault::Panic);
        echo.send(Ping(7)).await.unwrap();
        echo.send(Ping(9)).await.unwrap();
        assert_eq!(probe.next().await, Some(Ping(10)), "7 died with its reader");
        assert_eq!(test.restarts("echo"), 1);
        // The probe receives the last message before the handler that sent it returns.
        let is_settled =
            |mailbox: &MailboxSnapshot| (mailbox.accepted, unaccounted(mailbox)) == (5, 0);
        test.until(|tree| {
            let actor = tree
                .find("actors/echo")
                .filter(|actor| actor.state == State::Running);
            actor
                .and_then(|actor| actor.mailbox.as_ref())
                .is_some_and(is_settled)
        })
        .await;
        assert!(test.end().await.is_clean());
    });
}

#[test]
fn a_taken_name_is_refused_and_an_unknown_one_fails_the_test() {
    block_on_main(async {
        let test = TestSystem::new();
        let (neighbour, _probe) = Probe::new(8);
        echo(&test, "echo", &neighbour);
        let to = neighbour.clone();
        let again = test.supervisor().start(ChildSpec::new("echo"), 8, move || {
            let to = to.clone();
            async move { Ok::<_, Infallible>(Echo(to)) }
        });
        assert!(again.is_err());
        let restarts =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test.restarts("nobody")));
        assert!(restarts.is_err(), "there is no such actor");
        assert!(test.end().await.is_clean());
    });
}

#[test]
fn a_refused_message_is_given_back_for_every_reason() {
    block_on_main(async {
        let (addr, slot) = mailbox::<Ping>(1);
        addr.tell(Ping(1)).unwrap();
        let full = addr.tell(Ping(2)).unwrap_err();
        assert!(full.is_full());
        assert_eq!(format!("{full:?} {full}"), "Full(..) mailbox full");
        assert_eq!(SendError::from(full).into_message(), Ping(2));
        drop(slot);
        let closed = addr.tell(Ping(3)).unwrap_err();
        assert_eq!(format!("{closed:?} {closed}"), "Closed(..) mailbox closed");
        let closed = SendError::from(closed);
        assert_eq!(format!("{closed:?} {closed}"), "Closed(..) mailbox closed");
        assert_eq!(closed.into_message(), Ping(3));
        let open = TellError::Unavailable(Ping(4));
        assert_eq!(
            format!("{open:?} {open}"),
            "Unavailable(..) circuit breaker open"
        );
        assert_eq!(SendError::from(open).into_message(), Ping(4));
        let cycle = SendError::Cycle {
            msg: Ping(5),
            cycle: "a asks b asks a".into(),
        };
        assert_eq!(
            format!("{cycle:?} {cycle}"),
            "Cycle(..) would close a cycle: a asks b asks a"
        );
        assert_eq!(cycle.into_message(), Ping(5));
    });
}

#[test]
fn reasons_have_the_names_that_dashboards_know() {
    let table = [
        (Reason::DroppedOldest, "dropped_oldest"),
        (Reason::DroppedNewest, "dropped_newest"),
        (Reason::Expired, "expired"),
        (Reason::Killed, "killed"),
        (Reason::Interrupted, "interrupted"),
        (Reason::Abandoned, "abandoned"),
        (Reason::Injected, "injected"),
    ];
    for (reason, name) in table {
        assert_eq!(reason.as_str(), name);
    }
}
