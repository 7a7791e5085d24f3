//! Queues: the order of handling, and the policies for messages without room.

use std::{sync::Arc, time::Duration};

use alys_actor_system::{
    Addr, Limits, MAX_OVERTAKES, Overflow, Priority, Reason, Receipt, SendError, Strategy,
    TellError, mailbox,
};
use alys_runtime::time;
use futures::{future::join_all, poll};

use crate::{doer::*, kit::*};

fn full<T: std::fmt::Debug>(told: Result<Receipt, TellError<T>>) -> bool {
    told.is_err_and(|error| error.is_full())
}

/// The position in `notes` of each number.
fn places(notes: &[u64], of: impl Iterator<Item = u64>) -> Vec<usize> {
    of.map(|n| notes.iter().position(|noted| *noted == n).unwrap())
        .collect()
}

#[test]
fn urgent_messages_overtake_in_order_and_no_priority_starves() {
    supervised(0, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 256);
        let gate = doing.hold().await;
        for n in 0..20 {
            doing.addr.tell(note(n).priority(Priority::Low)).unwrap();
            doing.addr.tell(note(100 + n)).unwrap();
        }
        for n in 0..60 {
            doing
                .addr
                .tell(note(200 + n).priority(Priority::High))
                .unwrap();
        }
        doing.addr.tell_as(Priority::Critical, note(300)).unwrap();
        gate.open();
        world.handled("s/a", 102).await;
        let notes = doing.log.notes("a");
        assert_eq!(notes.len(), 101);
        for range in [0..20, 100..120, 200..260] {
            assert!(
                places(&notes, range.clone()).is_sorted(),
                "{range:?} out of order: {notes:?}"
            );
        }
        assert_eq!(notes[0], 300);
        let first_normal = places(&notes, 100..101)[0];
        let first_low = places(&notes, 0..1)[0];
        let patience = MAX_OVERTAKES as usize;
        assert!(
            first_normal > 10 && first_normal <= 2 * patience,
            "{notes:?}"
        );
        assert!(first_low > 10 && first_low <= 2 * patience + 2, "{notes:?}");
    });
}

#[test]
fn messages_prefetched_by_the_reader_can_be_overtaken() {
    supervised(0, |_, supervisor| async move {
        let doing = doer(&supervisor, "a", 256);
        let (gate, second) = (doing.hold().await, Arc::<Gate>::default());
        doing.addr.tell(wait(&second)).unwrap();
        for n in 0..5 {
            doing.addr.tell(note(n)).unwrap();
        }
        gate.open();
        second.reached().await;
        assert_eq!(doing.addr.depth(), 5);
        doing.addr.tell_as(Priority::High, note(9)).unwrap();
        second.open();
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [9, 0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_message_without_room_follows_its_overflow_policy() {
    supervised(0, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 2);
        let gate = doing.hold().await;
        doing.addr.tell(note(1)).unwrap();
        doing.addr.tell(note(2)).unwrap();
        let addr = &doing.addr;

        assert!(full(addr.tell(note(10))));
        assert!(full(addr.tell(note(10).overflow(Overflow::Fail))));
        let sent = addr.send(note(10).overflow(Overflow::Fail)).await;
        assert!(matches!(sent, Err(SendError::Full(job)) if job.n == 10));
        assert!(
            full(addr.tell(note(10).overflow(Overflow::DropOldest))),
            "nothing waits that may be dropped"
        );
        assert_eq!(
            addr.tell(note(11).overflow(Overflow::DropNewest)).unwrap(),
            Receipt::Dropped
        );
        assert_eq!(
            addr.send(note(12).overflow(Overflow::DropNewest))
                .await
                .unwrap(),
            Receipt::Dropped
        );
        let refused = world.mailbox("s/a").refused;
        assert_eq!(refused, 6);

        let letters = world.system.dead_letters();
        assert_eq!((letters.total(), letters.of(Reason::DroppedNewest)), (2, 2));
        assert_eq!(
            (&*letters.last[0].to, letters.last[0].kind),
            ("world/s/a", "note")
        );
        assert_eq!(letters.last[0].from, None);
        gate.open();
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [1, 2]);
    });
}

#[test]
fn drop_oldest_drops_the_oldest_droppable_message_that_is_not_more_urgent() {
    supervised(0, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 3);
        let gate = doing.hold().await;
        let droppable = |n| note(n).overflow(Overflow::DropOldest);
        doing.addr.tell(note(1)).unwrap();
        doing
            .addr
            .tell(droppable(2).priority(Priority::High))
            .unwrap();
        doing.addr.tell(droppable(3)).unwrap();
        assert_eq!(
            doing.addr.tell(droppable(4)).unwrap(),
            Receipt::QueuedForOldest
        );
        assert!(
            full(doing.addr.tell(droppable(5).priority(Priority::Low))),
            "it is less urgent than all"
        );
        assert_eq!(
            doing.addr.send(droppable(6)).await.unwrap(),
            Receipt::QueuedForOldest
        );
        let most = droppable(7).priority(Priority::Critical);
        assert_eq!(doing.addr.tell(most).unwrap(), Receipt::QueuedForOldest);
        assert_eq!(doing.addr.depth(), 3);
        gate.open();
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [7, 2, 1]);
        assert_eq!(world.system.dead_letters().of(Reason::DroppedOldest), 3);
    });
}

#[test]
fn a_send_with_backoff_makes_its_number_of_attempts() {
    supervised(0, |_, supervisor| async move {
        let doing = doer(&supervisor, "a", 1);
        let gate = doing.hold().await;
        doing.addr.tell(note(1)).unwrap();
        let (initial, max) = (Duration::from_millis(10), Duration::from_millis(20));
        let patient = |n, attempts| {
            note(n).overflow(Overflow::Backoff {
                initial,
                max,
                attempts,
            })
        };
        assert!(full(doing.addr.tell(patient(2, 9))), "a tell does not wait");
        let begun = time::now();
        let sent = doing.addr.send(patient(3, 3)).await;
        assert!(matches!(sent, Err(SendError::Full(job)) if job.n == 3));
        // Delays of 10 and 20 ms, each shortened by up to a fifth (jitter).
        assert!(time::now() - begun >= Duration::from_millis(24));
        let mut sent = Box::pin(doing.addr.send(patient(4, 1000)));
        assert!(poll!(&mut sent).is_pending());
        gate.open();
        assert_eq!(
            time::timeout(LONG, sent).await.unwrap().unwrap(),
            Receipt::Queued
        );
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [1, 4]);
    });
}

#[test]
fn messages_are_limited_in_bytes_and_one_always_fits() {
    supervised(0, |_, supervisor| async move {
        let doing = doer(
            &supervisor,
            "a",
            Limits {
                messages: 8,
                bytes: Some(100),
            },
        );
        let gate = doing.hold().await;
        doing.addr.tell(note(1).size(1000)).unwrap();
        assert!(full(doing.addr.tell(note(2).size(0))));
        gate.open();
        doing.settled().await;

        let gate = doing.hold().await;
        for n in 3..6 {
            doing.addr.tell(note(n).size(30)).unwrap();
        }
        doing.addr.tell(note(6).size(10)).unwrap();
        assert!(full(doing.addr.tell(note(7).size(1))));
        gate.open();
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [1, 3, 4, 5, 6]);
    });
}

#[test]
fn a_larger_message_drops_as_many_old_ones_as_it_needs() {
    supervised(0, |world, supervisor| async move {
        let doing = doer(
            &supervisor,
            "a",
            Limits {
                messages: 8,
                bytes: Some(100),
            },
        );
        let droppable = |n, size| note(n).overflow(Overflow::DropOldest).size(size);
        let gate = doing.hold().await;
        for n in 1..=4 {
            doing.addr.tell(droppable(n, 25)).unwrap();
        }
        assert_eq!(
            doing.addr.tell(droppable(5, 60)).unwrap(),
            Receipt::QueuedForOldest
        );
        assert_eq!(doing.addr.depth(), 2);
        // Nothing is dropped if that would not make enough room.
        doing.addr.tell(note(6).size(15)).unwrap();
        assert!(full(doing.addr.tell(droppable(7, 90))));
        gate.open();
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [4, 5, 6]);
        assert_eq!(world.system.dead_letters().of(Reason::DroppedOldest), 3);
    });
}

#[test]
fn waiting_senders_are_served_in_order_and_none_is_lost_when_others_give_up() {
    supervised(0, |_, supervisor| async move {
        let doing = doer(&supervisor, "a", 1);
        let (first, second) = (doing.hold().await, Arc::<Gate>::default());
        doing.addr.tell(wait(&second)).unwrap();
        let mut sends = Vec::new();
        for n in 0..8 {
            let mut send = Box::pin(doing.addr.send(note(n)));
            assert!(poll!(&mut send).is_pending());
            sends.push(send);
        }
        // Two senders give up: one in the middle of the queue, and one that has been granted room
        // but was not polled again.
        drop(sends.remove(3));
        first.open();
        second.reached().await;
        assert!(
            full(doing.addr.tell(note(99))),
            "the room is the first one's"
        );
        drop(sends.remove(0));
        second.open();
        for sent in time::timeout(LONG, join_all(sends)).await.unwrap() {
            assert_eq!(sent.unwrap(), Receipt::Queued);
        }
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [1, 2, 4, 5, 6, 7]);
    });
}

#[test]
fn a_large_waiting_message_is_not_overtaken_by_small_ones() {
    supervised(0, |_, supervisor| async move {
        let doing = doer(
            &supervisor,
            "a",
            Limits {
                messages: 8,
                bytes: Some(100),
            },
        );
        let gate = doing.hold().await;
        doing.addr.tell(note(1).size(60)).unwrap();
        let mut large = Box::pin(doing.addr.send(note(2).size(90)));
        assert!(poll!(&mut large).is_pending());
        assert!(
            full(doing.addr.tell(note(3).size(5))),
            "it would hold up the one that waits"
        );
        let mut small = Box::pin(doing.addr.send(note(4).size(5)));
        assert!(poll!(&mut small).is_pending());
        gate.open();
        let (large, small) = time::timeout(LONG, futures::future::join(large, small))
            .await
            .unwrap();
        assert!(large.is_ok() && small.is_ok());
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [1, 2, 4]);
    });
}

#[test]
fn a_mailbox_takes_messages_until_its_unused_slot_is_dropped() {
    run(async {
        let (addr, slot): (Addr<Job>, _) = mailbox(2);
        assert_eq!(
            format!("{addr:?}"),
            "Addr { path: \"(no actor yet)\", depth: 0, capacity: 2 }"
        );
        assert!(format!("{slot:?}").starts_with("Slot"));
        assert_eq!(addr.path(), None);
        addr.tell(note(1)).unwrap();
        // The mailbox accepts messages without an actor to wake.
        addr.tell(note(2)).unwrap();
        assert_eq!(
            addr.tell(note(3).overflow(Overflow::DropNewest)).unwrap(),
            Receipt::Dropped
        );
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let doing = doer(&supervisor, "a", slot);
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [1, 2]);
        assert_eq!(addr.path().as_deref(), Some("world/s/a"));
        world.end().await;

        let (addr, slot) = mailbox::<Job>(2);
        drop(slot);
        assert!(addr.is_closed());
        let told = addr.tell(note(1));
        assert!(matches!(told, Err(TellError::Closed(_))));
    });
}
