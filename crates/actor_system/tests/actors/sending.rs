//! Mailboxes, addresses, asks and timers.

use std::{sync::Arc, time::Duration};

use alys_actor_system::{AskError, ChildSpec, Restart, Snapshot, TellError};
use alys_runtime::time;

use crate::kit::*;

#[test]
fn messages_of_a_sender_are_handled_in_its_order() {
    supervised(0, |world, supervisor| async move {
        let addr = world.worker_as(&supervisor, ChildSpec::new("a"), 4);
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let addr = addr.clone();
                alys_runtime::spawn("sender", async move {
                    for n in 0..100 {
                        addr.send(Told::Note(sender * 1000 + n)).await.unwrap();
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        settled(&addr).await;
        let notes = world.diary.notes("a");
        assert_eq!(notes.len(), 300);
        for sender in 0..3 {
            let of_sender: Vec<_> = notes
                .iter()
                .copied()
                .filter(|n| n / 1000 == sender)
                .collect();
            assert_eq!(
                of_sender,
                (0..100).map(|n| sender * 1000 + n).collect::<Vec<_>>()
            );
        }
    });
}

#[test]
fn messages_can_be_sent_before_their_actor_starts() {
    supervised(0, |world, supervisor| async move {
        let (addr, slot) = slot(4);
        addr.tell(Told::Note(1)).unwrap();
        assert_eq!((addr.depth(), addr.capacity()), (1, 4));
        let same = world.worker_as(&supervisor, ChildSpec::new("a"), slot);
        same.tell(Told::Note(2)).unwrap();
        settled(&addr).await;
        assert_eq!(world.diary.notes("a"), [1, 2]);
        assert_eq!(addr.depth(), 0);
    });
}

#[test]
fn a_slot_that_is_never_started_closes_its_mailbox() {
    run(async {
        let (addr, slot) = slot(4);
        drop(slot);
        assert!(addr.is_closed());
        addr.closed().await;
        assert!(matches!(
            addr.tell(Told::Note(7)),
            Err(TellError::Closed(Told::Note(7)))
        ));
    });
}

#[test]
fn a_full_mailbox_returns_tells_and_makes_sends_wait() {
    supervised(0, |world, supervisor| async move {
        let addr = world.worker_as(&supervisor, ChildSpec::new("a"), 2);
        let gate = Arc::<Gate>::default();
        addr.tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        addr.tell(Told::Note(1)).unwrap();
        addr.tell(Told::Note(2)).unwrap();
        assert_eq!(addr.depth(), 2);
        let refused = addr.tell(Told::Note(3)).unwrap_err();
        assert!(refused.is_full());
        assert!(matches!(refused.into_message(), Told::Note(3)));
        let asked = addr.ask(|reply| Told::Echo { n: 0, reply }, LONG).await;
        assert_eq!(asked, Err(AskError::Full { kind: "echo" }));
        let sent = time::timeout(Duration::from_millis(20), addr.send(Told::Note(4))).await;
        assert!(sent.is_err(), "there was no room");

        let waiting = addr.clone();
        let sender =
            alys_runtime::spawn("sender", async move { waiting.send(Told::Note(5)).await });
        gate.open();
        sender.await.unwrap().unwrap();
        settled(&addr).await;
        assert_eq!(world.diary.notes("a"), [1, 2, 5]);
        let mailbox = |tree: &Snapshot| tree.find("s/a").unwrap().mailbox.clone().unwrap();
        // A message is counted after its handler returns, which is after the answer.
        world
            .wait("the count", |tree| mailbox(tree).handled == 5)
            .await;
        let mailbox = mailbox(&world.system.snapshot());
        assert_eq!(
            (mailbox.refused, mailbox.capacity, mailbox.depth),
            (2, 2, 0)
        );
        assert_eq!((mailbox.accepted, mailbox.handled), (5, 5));
        assert_eq!(
            mailbox.kinds.into_iter().collect::<Vec<_>>(),
            [("echo", 1), ("note", 3), ("wait", 1)]
        );
    });
}

#[test]
fn every_ask_ends_with_an_answer_or_an_error() {
    supervised(9, |world, supervisor| async move {
        let addr = world.worker_as(
            &supervisor,
            ChildSpec::new("a").restart(Restart::Transient),
            8,
        );
        assert_eq!(
            addr.ask(|reply| Told::Echo { n: 7, reply }, LONG).await,
            Ok(7)
        );
        let forgotten = addr.ask(|reply| Told::Forget { reply }, LONG).await;
        assert_eq!(forgotten, Err(AskError::Dropped { kind: "forget" }));

        let gate = Arc::<Gate>::default();
        addr.tell(Told::Wait(gate.clone())).unwrap();
        let deadline = Duration::from_millis(20);
        let begun = time::now();
        let late = addr.ask(|reply| Told::Echo { n: 8, reply }, deadline).await;
        assert_eq!(
            late,
            Err(AskError::Timeout {
                kind: "echo",
                deadline
            })
        );
        assert!(time::now() - begun >= deadline);
        gate.open();

        addr.tell(Told::End).unwrap();
        let unanswered = addr.ask(|reply| Told::Echo { n: 9, reply }, LONG).await;
        assert!(
            matches!(
                unanswered,
                Err(AskError::Dropped { .. } | AskError::Closed { .. })
            ),
            "{unanswered:?}"
        );
        addr.closed().await;
        let closed = addr.ask(|reply| Told::Echo { n: 9, reply }, LONG).await;
        assert_eq!(closed, Err(AskError::Closed { kind: "echo" }));
    });
}

#[test]
fn timers_fire_in_order_with_a_full_mailbox_and_can_be_cancelled() {
    supervised(0, |world, supervisor| async move {
        let addr = world.worker_as(&supervisor, ChildSpec::new("a"), 8);
        // Far apart: a timer counts from the moment at which the actor sets it, and a busy machine
        // may pause the actor between two of them.
        for (ms, note) in [(900, 3), (300, 1), (600, 2)] {
            addr.tell(Told::After(Duration::from_millis(ms), note))
                .unwrap();
        }
        world.diary.wait_for("a", Event::Noted(3)).await;
        assert_eq!(world.diary.notes("a"), [1, 2, 3]);

        addr.tell(Told::AfterCancelled(10)).unwrap();
        addr.tell(Told::After(Duration::from_millis(20), 12))
            .unwrap();
        world.diary.wait_for("a", Event::Noted(12)).await;
        assert_eq!(world.diary.notes("a"), [1, 2, 3, 11, 12]);

        let gate = Arc::<Gate>::default();
        addr.tell(Told::After(Duration::from_millis(1), 20))
            .unwrap();
        addr.tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        while addr.tell(Told::Note(30)).is_ok() {}
        time::sleep(Duration::from_millis(5)).await;
        gate.open();
        settled(&addr).await;
        let position = |n| {
            world
                .diary
                .notes("a")
                .iter()
                .rposition(|noted| *noted == n)
                .unwrap()
        };
        assert!(
            position(20) < position(30),
            "the timer waited behind the mailbox"
        );
    });
}

#[test]
fn a_timer_that_sets_itself_again_does_not_starve_the_mailbox() {
    use alys_actor_system::{AlysActor, Context, Message, Reply};

    enum Msg {
        Again,
        Asked(Reply<u32>),
    }
    impl Message for Msg {
        fn kind(&self) -> &'static str {
            match self {
                Self::Again => "again",
                Self::Asked(_) => "asked",
            }
        }
    }
    struct Busy(u32);
    impl AlysActor for Busy {
        type Message = Msg;
        type Error = Never;
        type Config = ();
        const NAME: &'static str = "Busy";
        async fn handle(&mut self, msg: Msg, ctx: &Context<Self>) -> Result<(), Never> {
            match msg {
                Msg::Again => {
                    self.0 += 1;
                    ctx.send_after(Duration::ZERO, Msg::Again);
                }
                Msg::Asked(reply) => {
                    reply.send(self.0);
                }
            }
            Ok(())
        }
    }
    supervised(0, |_, supervisor| async move {
        let addr = supervisor
            .start(ChildSpec::new("busy"), 4, || async {
                Ok::<_, Never>(Busy(0))
            })
            .unwrap();
        addr.tell(Msg::Again).unwrap();
        let first = addr.ask(Msg::Asked, LONG).await.unwrap();
        let second = addr.ask(Msg::Asked, LONG).await.unwrap();
        let third = addr.ask(Msg::Asked, LONG).await.unwrap();
        assert!(
            first <= second && second < third + 1 && third > 0,
            "{first} {second} {third}"
        );
    });
}
