//! Publishing and subscribing by type.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use alys_actor_extras::{
    Bus, MAX_NESTED_PUBLISHES, MAX_SUBSCRIPTIONS, Published, SubscribeError, SubscriptionSnapshot,
};
use alys_actor_system::{Addr, ChildSpec, Restart, Slot, Strategy, mailbox};
use alys_runtime::time;
use futures::{FutureExt, StreamExt};

use crate::kit::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Happened(u64);

/// Another type of event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Followed(u64);

fn noted(event: &Happened) -> Told {
    Told::Note(event.0)
}

/// Subscribers' mailboxes without a reader.
fn unread(count: usize, capacity: usize) -> Vec<(Addr<Told>, Slot<Told>)> {
    (0..count).map(|_| mailbox(capacity)).collect()
}

fn to(delivered: usize) -> Published {
    Published {
        delivered,
        ..Published::default()
    }
}

#[test]
fn an_event_reaches_its_subscribers_in_the_order_in_which_they_subscribed() {
    supervised(0, |world, supervisor| async move {
        let bus = Bus::new();
        let order = Arc::<Mutex<Vec<String>>>::default();
        for name in ["c", "a", "b"] {
            let addr = world.worker(&supervisor, name);
            let order = order.clone();
            let convert = move |event: &Happened| {
                order.lock().unwrap().push(format!("{name}{}", event.0));
                noted(event)
            };
            bus.subscribe(&addr, convert).unwrap().keep();
        }
        let never = |_: &Followed| -> Told { panic!("an event of another type") };
        bus.subscribe(&world.worker(&supervisor, "d"), never)
            .unwrap()
            .keep();
        assert_eq!(bus.publish(Happened(1)), to(3));
        assert_eq!(bus.clone().publish(Happened(2)), to(3));
        assert_eq!(*order.lock().unwrap(), ["c1", "a1", "b1", "c2", "a2", "b2"]);
        for name in ["a", "b", "c"] {
            world.diary.wait_for(name, Event::Noted(2)).await;
            assert_eq!(world.diary.notes(name), [1, 2]);
        }
        assert_eq!(world.diary.notes("d"), Vec::<u64>::new());
    });
}

#[test]
fn a_slow_subscriber_misses_events_that_the_others_get() {
    supervised(0, |world, supervisor| async move {
        let bus = Bus::new();
        let slow = world.worker_as(&supervisor, ChildSpec::new("slow"), 2);
        let quick = world.worker(&supervisor, "quick");
        let slow_subscription = bus.subscribe(&slow, noted).unwrap();
        let quick_subscription = bus.subscribe(&quick, noted).unwrap();
        let gate = Arc::<Gate>::default();
        slow.tell(Told::Wait(gate.clone())).unwrap();
        gate.reached().await;
        for n in 0..5 {
            let refused = usize::from(n >= 2);
            let published = bus.publish(Happened(n));
            assert_eq!(
                published,
                Published {
                    delivered: 2 - refused,
                    refused,
                    gone: 0
                },
                "{n}"
            );
        }
        gate.open();
        settled(&slow).await;
        settled(&quick).await;
        assert_eq!(world.diary.notes("slow"), [0, 1]);
        assert_eq!(world.diary.notes("quick"), [0, 1, 2, 3, 4]);
        assert_eq!(
            (slow_subscription.delivered(), slow_subscription.missed()),
            (2, 3)
        );
        assert_eq!(
            (quick_subscription.delivered(), quick_subscription.missed()),
            (5, 0)
        );
        let [topic] = &bus.snapshot()[..] else {
            panic!("one type was published")
        };
        assert!(topic.event.ends_with("Happened"), "{topic:?}");
        assert_eq!((topic.published, topic.missed), (5, 3));
        let to = std::any::type_name::<Told>();
        assert_eq!(
            topic.subscriptions,
            [
                SubscriptionSnapshot {
                    to,
                    delivered: 2,
                    missed: 3
                },
                SubscriptionSnapshot {
                    to,
                    delivered: 5,
                    missed: 0
                }
            ]
        );
        drop(slow_subscription);
        let [topic] = &bus.snapshot()[..] else {
            panic!("one type was published")
        };
        assert_eq!(
            (topic.subscriptions.len(), topic.missed),
            (1, 3),
            "what was missed stays counted"
        );
    });
}

#[test]
fn a_subscriber_that_restarts_keeps_its_subscription() {
    supervised(1, |world, supervisor| async move {
        let bus = Bus::new();
        let addr = world.worker(&supervisor, "a");
        bus.subscribe(&addr, noted).unwrap().keep();
        bus.publish(Happened(1));
        addr.tell(Told::Panic).unwrap();
        // The mailbox accepts the event even while the actor is restarting.
        assert_eq!(bus.publish(Happened(2)), to(1));
        world.diary.wait_for("a", Event::Started(2)).await;
        assert_eq!(bus.publish(Happened(3)), to(1));
        settled(&addr).await;
        assert_eq!(world.diary.notes("a"), [1, 2, 3]);
    });
}

#[test]
fn a_subscriber_that_has_ended_is_removed_and_counted_once() {
    supervised(0, |world, supervisor| async move {
        let bus = Bus::new();
        let ends = ChildSpec::new("ends").restart(Restart::Transient);
        let ends = world.worker_as(&supervisor, ends, 8);
        let stays = world.worker(&supervisor, "stays");
        let held = Arc::new(());
        let holds = held.clone();
        let convert = move |event: &Happened| {
            let _held = &holds;
            noted(event)
        };
        let subscription = bus.subscribe(&ends, convert).unwrap();
        bus.subscribe(&stays, noted).unwrap().keep();
        ends.tell(Told::End).unwrap();
        ends.closed().await;
        assert_eq!(
            bus.snapshot()[0].subscriptions.len(),
            1,
            "one that has ended is not shown"
        );
        assert_eq!(
            bus.publish(Happened(1)),
            Published {
                delivered: 1,
                refused: 0,
                gone: 1
            }
        );
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "what its conversion held is let go"
        );
        assert_eq!(bus.publish(Happened(2)), to(1));
        assert_eq!((subscription.delivered(), subscription.missed()), (0, 0));
    });
}

#[test]
fn a_subscription_lasts_as_long_as_its_handle_unless_it_is_kept() {
    run(async {
        let bus = Bus::new();
        let boxes = unread(3, 8);
        let dropped = bus.subscribe(&boxes[0].0, noted).unwrap();
        let ended = bus.subscribe(&boxes[1].0, noted).unwrap();
        bus.subscribe(&boxes[2].0, noted).unwrap().keep();
        assert_eq!(bus.publish(Happened(1)), to(3));
        drop(dropped);
        assert_eq!(bus.publish(Happened(2)), to(2));
        ended.unsubscribe();
        assert_eq!(bus.publish(Happened(3)), to(1));
        let depths: Vec<_> = boxes.iter().map(|(addr, _)| addr.depth()).collect();
        assert_eq!(depths, [1, 2, 3]);
    });
}

#[test]
fn the_events_of_each_publisher_arrive_in_its_order() {
    run(async {
        const PUBLISHERS: u64 = 3;
        const EVENTS: u64 = 100;
        let world = World::new();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let bus = Bus::new();
        let names = ["a", "b"];
        let addrs = names.map(|name| world.worker_as(&supervisor, ChildSpec::new(name), 1000));
        for addr in &addrs {
            bus.subscribe(addr, noted).unwrap().keep();
        }
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let bus = bus.clone();
                alys_runtime::spawn("publisher", async move {
                    for n in 0..EVENTS {
                        assert_eq!(bus.publish(Happened(publisher * 1000 + n)), to(2));
                        alys_runtime::yield_now().await;
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.unwrap();
        }
        for (name, addr) in names.into_iter().zip(&addrs) {
            settled(addr).await;
            let notes = world.diary.notes(name);
            assert_eq!(notes.len() as u64, PUBLISHERS * EVENTS);
            for publisher in 0..PUBLISHERS {
                let of_one: Vec<_> = notes
                    .iter()
                    .copied()
                    .filter(|n| n / 1000 == publisher)
                    .collect();
                assert_eq!(
                    of_one,
                    (0..EVENTS)
                        .map(|n| publisher * 1000 + n)
                        .collect::<Vec<_>>(),
                    "{name}"
                );
            }
        }
        world.end().await;
    });
}

#[test]
fn a_conversion_may_publish_subscribe_and_unsubscribe() {
    run(async {
        let bus = Bus::new();
        let boxes = unread(3, 8);
        let [first, second, third] = [0, 1, 2].map(|n| boxes[n].0.clone());
        bus.subscribe(&second, |event: &Followed| Told::Note(event.0))
            .unwrap()
            .keep();
        let victim = Arc::new(Mutex::new(None));
        let (inner, taken) = (bus.clone(), victim.clone());
        let convert = move |event: &Happened| {
            assert_eq!(inner.publish(Followed(event.0)), to(1));
            inner.subscribe(&third, noted).unwrap().keep();
            taken.lock().unwrap().take();
            noted(event)
        };
        bus.subscribe(&first, convert).unwrap().keep();
        *victim.lock().unwrap() = Some(bus.subscribe(&second, noted).unwrap());
        // The new subscriber gets the next event; the removed one does not get this one.
        assert_eq!(bus.publish(Happened(1)), to(1));
        assert_eq!(bus.publish(Happened(2)), to(2));
        let depths: Vec<_> = boxes.iter().map(|(addr, _)| addr.depth()).collect();
        assert_eq!(depths, [2, 2, 1]);
        bus.close();
    });
}

#[test]
fn conversions_that_publish_in_a_cycle_are_stopped() {
    run(async {
        let bus = Bus::new();
        let boxes = unread(1, 100);
        let inner = bus.clone();
        let convert = move |event: &Happened| {
            inner.publish(Happened(event.0 + 1));
            noted(event)
        };
        let subscription = bus.subscribe(&boxes[0].0, convert).unwrap();
        assert_eq!(bus.publish(Happened(0)), to(1));
        let nested = MAX_NESTED_PUBLISHES as u64;
        assert_eq!(
            (subscription.delivered(), subscription.missed()),
            (nested + 1, 1)
        );
        assert_eq!(
            bus.publish(Happened(0)),
            to(1),
            "the cycle left nothing behind"
        );
        assert_eq!(subscription.missed(), 2);
    });
}

#[test]
fn a_conversion_that_panics_costs_its_own_event_only() {
    run(async {
        let bus = Bus::new();
        let boxes = unread(2, 8);
        let convert = |event: &Happened| match event.0 {
            1 => panic!("told to panic in a conversion"),
            n => Told::Note(n),
        };
        let panics = bus.subscribe(&boxes[0].0, convert).unwrap();
        bus.subscribe(&boxes[1].0, noted).unwrap().keep();
        assert_eq!(
            bus.publish(Happened(1)),
            Published {
                delivered: 1,
                refused: 1,
                gone: 0
            }
        );
        assert_eq!(bus.publish(Happened(2)), to(2));
        assert_eq!((panics.delivered(), panics.missed()), (1, 1));
    });
}

#[test]
fn subscriptions_to_a_type_are_bounded_and_those_that_ended_make_room() {
    run(async {
        let bus = Bus::new();
        let mut boxes = unread(2, 1);
        for n in 0..MAX_SUBSCRIPTIONS {
            bus.subscribe(&boxes[usize::from(n == 7)].0, noted)
                .unwrap()
                .keep();
        }
        let event = std::any::type_name::<Happened>();
        let refused = SubscribeError::TooManySubscriptions {
            event,
            limit: MAX_SUBSCRIPTIONS,
        };
        assert_eq!(bus.subscribe(&boxes[0].0, noted).map(drop), Err(refused));
        assert_eq!(bus.stream::<Happened>(1).map(drop), Err(refused));
        let other = bus.subscribe(&boxes[0].0, |event: &Followed| Told::Note(event.0));
        assert!(other.is_ok(), "another type has its own bound");
        let (_, ended) = boxes.pop().unwrap();
        drop(ended);
        bus.subscribe(&boxes[0].0, noted).unwrap().keep();
        assert_eq!(bus.subscribe(&boxes[0].0, noted).map(drop), Err(refused));
    });
}

#[test]
fn a_stream_drops_the_oldest_for_the_newest_and_counts_it() {
    run(async {
        let bus = Bus::new();
        bus.publish(Happened(0));
        let mut stream = bus.stream::<Happened>(3).unwrap();
        for n in 1..=5 {
            assert_eq!(bus.publish(Happened(n)), to(1));
        }
        assert_eq!(stream.lagged(), 2);
        assert_eq!(stream.next().await, Some(Happened(3)));
        bus.publish(Happened(6));
        assert_eq!(stream.lagged(), 2);
        let [topic] = &bus.snapshot()[..] else {
            panic!("one type was published")
        };
        assert_eq!((topic.published, topic.missed), (7, 2));
        assert_eq!(
            topic.subscriptions,
            [SubscriptionSnapshot {
                to: "stream",
                delivered: 6,
                missed: 2
            }]
        );
        bus.close();
        assert_eq!(
            stream.collect::<Vec<_>>().await,
            [Happened(4), Happened(5), Happened(6)]
        );
    });
}

#[test]
fn a_stream_wakes_its_reader_and_ends_with_the_last_handle_of_the_bus() {
    run(async {
        let bus = Bus::new();
        let mut stream = bus.stream::<Happened>(1).unwrap();
        assert!(
            stream.next().now_or_never().is_none(),
            "nothing was published"
        );
        let read = Arc::<AtomicU64>::default();
        let (seen, lagged) = (read.clone(), alys_runtime::sync::oneshot::channel());
        let reader = alys_runtime::spawn("reader", async move {
            while let Some(event) = stream.next().await {
                seen.store(event.0, SeqCst);
            }
            let _ = lagged.0.send(stream.lagged());
        });
        for n in 1..=3 {
            bus.publish(Happened(n));
            let came = async {
                while read.load(SeqCst) != n {
                    alys_runtime::yield_now().await;
                }
            };
            time::timeout(LONG, came)
                .await
                .expect("the reader was not woken");
        }
        let other = bus.clone();
        drop(bus);
        assert_eq!(other.publish(Happened(4)), to(1), "a clone keeps it open");
        drop(other);
        time::timeout(LONG, reader)
            .await
            .expect("the stream did not end")
            .unwrap();
        assert_eq!(lagged.1.await, Ok(0));
    });
}

#[test]
fn a_dropped_stream_is_no_subscriber() {
    run(async {
        let bus = Bus::new();
        let stream = bus.stream::<Happened>(1).unwrap();
        assert_eq!(bus.publish(Happened(1)), to(1));
        drop(stream);
        assert_eq!(bus.publish(Happened(2)), Published::default());
    });
}

#[test]
fn a_closed_bus_takes_no_subscription_and_delivers_nothing() {
    run(async {
        let bus = Bus::new();
        let boxes = unread(1, 1);
        let subscription = bus.subscribe(&boxes[0].0, noted).unwrap();
        bus.close();
        assert_eq!(bus.publish(Happened(1)), Published::default());
        let closed = SubscribeError::Closed {
            event: std::any::type_name::<Happened>(),
        };
        assert_eq!(bus.subscribe(&boxes[0].0, noted).map(drop), Err(closed));
        assert_eq!(bus.stream::<Happened>(1).map(drop), Err(closed));
        assert_eq!(bus.snapshot(), []);
        assert_eq!(boxes[0].0.depth(), 0);
        drop(subscription);
    });
}

#[test]
fn destructors_of_dropped_events_and_conversions_may_use_the_bus() {
    /// Publishes in its destructor, as an event or the state of a conversion may.
    #[derive(Clone)]
    struct Loud(Bus, Arc<AtomicU64>);
    impl Drop for Loud {
        fn drop(&mut self) {
            self.0.publish(Followed(0));
            self.1.fetch_add(1, SeqCst);
        }
    }
    run(async {
        let bus = Bus::new();
        let dropped = Arc::<AtomicU64>::default();
        let boxes = unread(1, 8);
        let loud = Loud(bus.clone(), dropped.clone());
        let convert = move |event: &Happened| {
            let _held = &loud;
            noted(event)
        };
        drop(bus.subscribe(&boxes[0].0, convert).unwrap());
        assert_eq!(dropped.load(SeqCst), 1);

        let stream = bus.stream::<Loud>(1).unwrap();
        for _ in 0..3 {
            bus.publish(Loud(bus.clone(), dropped.clone()));
        }
        assert_eq!(
            dropped.load(SeqCst),
            1 + 3 + 2,
            "each published one, and two that lagged"
        );
        drop(stream);
        assert_eq!(dropped.load(SeqCst), 1 + 3 + 3);
        bus.close();
    });
}
