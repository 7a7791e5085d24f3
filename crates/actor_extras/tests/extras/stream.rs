//! Streams attached to an actor as sources of messages.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use alys_actor_extras::{Bus, ContextExt};
use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, MAX_TASKS, Message, Reply, Strategy, Supervisor, Task,
};
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};

use crate::kit::*;

enum Read {
    Item(u64),
    End,
    Wait(Arc<Gate>),
    Panic,
    Abort(Reply<()>),
    Fill(Reply<usize>),
    Settle(Reply<()>),
}

impl Message for Read {
    fn kind(&self) -> &'static str {
        match self {
            Self::Item(_) => "item",
            Self::End => "end",
            Self::Wait(_) => "wait",
            Self::Panic => "panic",
            Self::Abort(_) => "abort",
            Self::Fill(_) => "fill",
            Self::Settle(_) => "settle",
        }
    }
}

/// The number noted at the end message of a stream.
const END: u64 = u64::MAX;

/// Attaches a stream made by `source` in each incarnation.
struct Reader {
    source: Arc<dyn Fn(u64) -> BoxStream<'static, u64> + Send + Sync>,
    diary: Arc<Diary>,
    attached: Option<Task>,
}

impl AlysActor for Reader {
    type Message = Read;
    type Error = Never;
    type Config = ();
    const NAME: &'static str = "Reader";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Never> {
        self.diary
            .write("reader", Event::Started(ctx.incarnation()));
        let stream = (self.source)(ctx.incarnation());
        self.attached = Some(
            ctx.attach_until_end("source", stream, Read::Item, Read::End)
                .unwrap(),
        );
        Ok(())
    }

    async fn handle(&mut self, msg: Read, ctx: &Context<Self>) -> Result<(), Never> {
        match msg {
            Read::Item(n) => self.diary.write("reader", Event::Noted(n)),
            Read::End => self.diary.write("reader", Event::Noted(END)),
            Read::Wait(gate) => gate.pass().await,
            Read::Panic => panic!("told to panic"),
            Read::Abort(reply) => {
                self.attached.take().unwrap().abort();
                reply.send(());
            }
            Read::Fill(reply) => {
                let more = || ctx.attach("one of many", stream::pending::<u64>(), Read::Item);
                reply.send((0..).take_while(|_| more().is_ok()).count());
            }
            Read::Settle(reply) => {
                reply.send(());
            }
        }
        Ok(())
    }
}

fn reader<S: Stream<Item = u64> + Send + 'static>(
    world: &World,
    capacity: usize,
    source: impl Fn(u64) -> S + Send + Sync + 'static,
) -> (Supervisor, Addr<Read>) {
    let supervisor = world.supervisor("s", Strategy::OneForOne, 9, None);
    let source: Arc<dyn Fn(u64) -> BoxStream<'static, u64> + Send + Sync> =
        Arc::new(move |n| source(n).boxed());
    let diary = world.diary.clone();
    let factory = move || {
        let (source, diary) = (source.clone(), diary.clone());
        async move {
            Ok::<_, Never>(Reader {
                source,
                diary,
                attached: None,
            })
        }
    };
    let addr = supervisor
        .start(ChildSpec::new("reader"), capacity, factory)
        .unwrap();
    (supervisor, addr)
}

/// Records the drop of the stream that holds it.
struct StreamGone(Arc<Diary>);

impl Drop for StreamGone {
    fn drop(&mut self) {
        self.0.write("reader", Event::TaskGone);
    }
}

/// A stream that yields `items` and then stays pending; its drop is recorded.
fn endless(
    items: std::ops::Range<u64>,
    diary: &Arc<Diary>,
) -> impl Stream<Item = u64> + Send + use<> {
    let gone = StreamGone(diary.clone());
    stream::iter(items).chain(stream::once(async move {
        let _gone = gone;
        pending().await
    }))
}

#[test]
fn items_come_in_order_and_the_end_after_the_last() {
    in_world(|world| async move {
        let (_, _addr) = reader(&world, 4, |_| stream::iter(0..50));
        world.diary.wait_for("reader", Event::Noted(END)).await;
        assert_eq!(
            world.diary.notes("reader"),
            (0..50).chain([END]).collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_stream_is_read_no_faster_than_the_actor_handles() {
    run(async {
        const CAPACITY: usize = 2;
        const ITEMS: u64 = 300;
        let world = World::new();
        let (produced, most) = (Arc::<AtomicU64>::default(), Arc::<Mutex<usize>>::default());
        let diary = world.diary.clone();
        let (count, record) = (produced.clone(), most.clone());
        let (_, addr) = reader(&world, CAPACITY, move |_| {
            let (count, record, diary) = (count.clone(), record.clone(), diary.clone());
            stream::iter(0..ITEMS).inspect(move |_| {
                let produced = count.fetch_add(1, SeqCst) + 1;
                let outstanding = produced as usize - diary.notes("reader").len();
                let mut most = record.lock().unwrap();
                *most = outstanding.max(*most);
            })
        });
        let gate = Arc::<Gate>::default();
        addr.send(Read::Wait(gate.clone())).await.unwrap();
        gate.reached().await;
        world
            .wait("a full mailbox", |_| addr.depth() == CAPACITY)
            .await;
        gate.open();
        world.diary.wait_for("reader", Event::Noted(END)).await;
        assert_eq!(world.diary.notes("reader").len() as u64, ITEMS + 1);
        // The full mailbox, one item held by the stream's task and one being handled.
        let most = *most.lock().unwrap();
        assert!(
            (CAPACITY..=CAPACITY + 2).contains(&most),
            "{most} items were out at once"
        );
        world.end().await;
    });
}

#[test]
fn a_stream_is_gone_before_the_next_incarnation_begins() {
    in_world(|world| async move {
        let diary = world.diary.clone();
        let (_, addr) = reader(&world, 4, move |life| {
            endless(life * 10..life * 10 + 2, &diary)
        });
        world.diary.wait_for("reader", Event::Noted(11)).await;
        addr.tell(Read::Panic).unwrap();
        world.diary.wait_for("reader", Event::Noted(21)).await;
        let expected = [
            Event::Started(1),
            Event::Noted(10),
            Event::Noted(11),
            Event::TaskGone,
            Event::Started(2),
            Event::Noted(20),
            Event::Noted(21),
        ];
        assert_eq!(world.diary.of("reader"), expected);
    });
}

#[test]
fn queued_items_of_a_stream_outlive_it() {
    in_world(|world| async move {
        let diary = world.diary.clone();
        let (_, addr) = reader(&world, 4, move |life| {
            endless(life * 10..life * 10 + 3, &diary)
        });
        world.diary.wait_for("reader", Event::Noted(12)).await;
        let gate = Arc::<Gate>::default();
        addr.tell(Read::Wait(gate.clone())).unwrap();
        gate.reached().await;
        addr.tell(Read::Panic).unwrap();
        addr.tell(Read::Item(1)).unwrap();
        gate.open();
        world.diary.wait_for("reader", Event::Noted(22)).await;
        assert_eq!(world.diary.notes("reader"), [10, 11, 12, 1, 20, 21, 22]);
    });
}

#[test]
fn an_aborted_stream_is_dropped_without_its_end_message() {
    in_world(|world| async move {
        let diary = world.diary.clone();
        let (_, addr) = reader(&world, 4, move |_| endless(0..2, &diary));
        world.diary.wait_for("reader", Event::Noted(1)).await;
        assert_eq!(addr.ask(Read::Abort, LONG).await, Ok(()));
        world.diary.wait_for("reader", Event::TaskGone).await;
        assert_eq!(addr.ask(Read::Settle, LONG).await, Ok(()));
        assert_eq!(world.diary.notes("reader"), [0, 1]);
        assert_eq!(world.child("s/reader").restarts, 0);
    });
}

#[test]
fn a_stream_that_panics_is_a_failure_of_the_actor() {
    in_world(|world| async move {
        let panics = |life| {
            stream::iter(0..3).map(move |n| {
                if life == 1 && n == 1 {
                    panic!("bad item")
                } else {
                    n
                }
            })
        };
        let (_, _addr) = reader(&world, 8, panics);
        world.diary.wait_for("reader", Event::Noted(END)).await;
        let child = world.child("s/reader");
        assert_eq!(
            child.last_error.as_deref(),
            Some("panic in task source: bad item")
        );
        assert_eq!(child.restarts, 1);
        let notes = world.diary.notes("reader");
        assert!(notes.ends_with(&[0, 1, 2, END]), "{notes:?}");
    });
}

#[test]
fn streams_of_an_incarnation_are_bounded() {
    in_world(|world| async move {
        let (_, addr) = reader(&world, 4, |_| stream::pending());
        assert_eq!(addr.ask(Read::Fill, LONG).await, Ok(MAX_TASKS - 1));
    });
}

#[test]
fn the_events_of_a_bus_can_be_read_at_the_actors_pace() {
    in_world(|world| async move {
        let bus = Bus::new();
        let events = bus.clone();
        // Each incarnation subscribes on its own; the stream has room for all events.
        let (_, addr) = reader(&world, 1, move |_| events.stream::<u64>(100).unwrap());
        world.diary.wait_for("reader", Event::Started(1)).await;
        assert_eq!(addr.ask(Read::Settle, LONG).await, Ok(()));
        for n in 0..50 {
            assert_eq!(bus.publish(n as u64).delivered, 1);
        }
        bus.close();
        world.diary.wait_for("reader", Event::Noted(END)).await;
        assert_eq!(
            world.diary.notes("reader"),
            (0..50).chain([END]).collect::<Vec<_>>()
        );
    });
}
