//! Publish and subscribe by type: publishers do not know the subscribers.
//!
//! An actor subscribes its address with a conversion from the event to one of its messages;
//! anything else reads an [`EventStream`]. Publishing never waits: a subscriber without room misses
//! the event, and that is counted.
//!
//! **Promises**
//! - Subscribers get an event in the order in which they subscribed, and the events of one
//!   publisher in the order in which it published them. Two publishers at once may reach two
//!   subscribers in different orders.
//! - No lock is held while a conversion, a clone or a destructor runs: they may publish, subscribe
//!   and unsubscribe. What a conversion publishes reaches its subscribers before the event that is
//!   being converted reaches those after it.
//! - A conversion that panics misses the event; nobody else does.
//!
//! A conversion that holds the bus keeps it alive for as long as it is subscribed: such a bus ends
//! by [`Bus::close`].

use std::{
    any::{Any, TypeId, type_name},
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};

use alys_actor_system::{Addr, Extension, Message, System, SystemEvent, TellError, panic_text};

use crate::lock;

/// Subscriptions, streams included, that one type of event may have at once: every one of them is
/// visited by every publish.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// Publishes inside the conversion of another publish, inside the conversion of another. One more
/// is refused: conversions that publish in a circle would otherwise use up the stack.
pub const MAX_NESTED_PUBLISHES: usize = 8;

/// An event that can be published: any value that can be cloned for several subscribers.
pub trait Event: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Event for T {}

/// Outcome of one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Subscribers that have it. A stream that gave up an older event for it is among them.
    pub delivered: usize,
    /// Subscribers that missed it: no room, a conversion that panicked, or publishes nested too
    /// deeply.
    pub refused: usize,
    /// Subscribers that were found to have ended for good, and were removed.
    pub gone: usize,
}

/// Reason for which there is no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// As many subscriptions as one type may have.
    #[error("{event} has {limit} subscriptions already")]
    TooManySubscriptions {
        /// Name of the event's type.
        event: &'static str,
        /// [`MAX_SUBSCRIPTIONS`].
        limit: usize,
    },
    /// [`Bus::close`] was called.
    #[error("the bus is closed: no subscription to {event}")]
    Closed {
        /// Name of the event's type.
        event: &'static str,
    },
}

/// State of one type of event at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSnapshot {
    /// Name of the event's type.
    pub event: &'static str,
    /// Events published so far.
    pub published: u64,
    /// Events missed so far, one for each subscriber that missed one, ended subscribers included.
    pub missed: u64,
    /// The current subscriptions, in the order in which they subscribed.
    pub subscriptions: Vec<SubscriptionSnapshot>,
}

/// State of a subscription at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionSnapshot {
    /// Name of the type of message that events are converted to; `stream` for an [`EventStream`].
    pub to: &'static str,
    /// Events that it took.
    pub delivered: u64,
    /// Events that it missed; for a stream, those that lagged.
    pub missed: u64,
}

/// A bus for events. Cheap to clone; all clones are the same bus, which ends with the last of them.
#[derive(Clone, Default)]
pub struct Bus {
    topics: Arc<Mutex<Topics>>,
}

/// One topic a type: as many as the program has types that it publishes. By name first, so that the
/// order is the same in every build.
#[derive(Default)]
struct Topics {
    topics: BTreeMap<(&'static str, TypeId), Arc<dyn AnyTopic>>,
    is_closed: bool,
}

impl Bus {
    /// A bus of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Converts each event of type `E` from now on to a message and tells it to `addr`. The
    /// conversion runs inside the publish, so it must be quick. The subscription is the address's,
    /// not the incarnation's: it stays over restarts, and ends with the actor or the handle.
    ///
    /// An actor that subscribes itself at each start must keep the handle in its state, so that it
    /// is not subscribed twice after a restart.
    ///
    /// # Errors
    /// Too many subscriptions to this type, or a closed bus.
    pub fn subscribe<E: Event, M: Message>(
        &self,
        addr: &Addr<M>,
        convert: impl Fn(&E) -> M + Send + Sync + 'static,
    ) -> Result<Subscription, SubscribeError> {
        let sink = ToActor {
            addr: addr.clone(),
            convert,
        };
        self.open_topic::<E>()?
            .subscribe(Arc::new(Tally::new(type_name::<M>())), Box::new(sink))
    }

    /// The events of type `E` from now on. Up to `capacity` (at least one) wait to be read; then
    /// the oldest is dropped for the newest, and counted.
    ///
    /// # Errors
    /// Too many subscriptions to this type, or a closed bus.
    pub fn stream<E: Event>(&self, capacity: usize) -> Result<EventStream<E>, SubscribeError> {
        let buffer = Arc::new(Buffer::new(capacity.max(1)));
        let tally = Arc::new(Tally::new("stream"));
        let sink = ToStream {
            buffer: buffer.clone(),
        };
        let subscription = self.open_topic::<E>()?.subscribe(tally, Box::new(sink))?;
        Ok(EventStream {
            buffer,
            subscription,
        })
    }

    /// Hands an event to everybody who subscribed to its type, without waiting. On a closed bus
    /// nothing happens.
    pub fn publish<E: Event>(&self, event: E) -> Published {
        match self.open_topic::<E>() {
            Ok(topic) => topic.publish(&event),
            Err(_) => Published::default(),
        }
    }

    /// Every type that was ever published or subscribed to, by name. Each number is true at its own
    /// moment.
    pub fn snapshot(&self) -> Vec<TopicSnapshot> {
        let topics: Vec<_> = lock(&self.topics).topics.values().cloned().collect();
        topics.iter().map(|topic| topic.snapshot()).collect()
    }

    /// Ends every subscription. Streams end once what waits in them is read.
    pub fn close(&self) {
        let ended = {
            let mut topics = lock(&self.topics);
            topics.is_closed = true;
            mem::take(&mut topics.topics)
        };
        drop(ended);
    }

    fn open_topic<E: Event>(&self) -> Result<Arc<Topic<E>>, SubscribeError> {
        let event = type_name::<E>();
        let topic = {
            let mut topics = lock(&self.topics);
            if topics.is_closed {
                return Err(SubscribeError::Closed { event });
            }
            let new = || Arc::new(Topic::<E>::default()) as Arc<dyn AnyTopic>;
            topics
                .topics
                .entry((event, TypeId::of::<E>()))
                .or_insert_with(new)
                .clone()
        };
        let topic: Arc<dyn Any + Send + Sync> = topic;
        Ok(topic
            .downcast()
            .expect("a topic is kept under the type of its events"))
    }
}

/// The bus of a system publishes each [`SystemEvent`], and is closed when the system ends.
impl Extension for Bus {
    fn on_event(&self, event: &SystemEvent) {
        self.publish(event.clone());
    }

    fn on_end(&self) {
        self.close();
    }
}

/// Methods that this crate adds to a [`System`].
pub trait SystemExt {
    /// The system's bus, on which events are published and subscribed to by their type.
    fn bus(&self) -> Bus;
}

impl SystemExt for System {
    fn bus(&self) -> Bus {
        Bus::clone(&self.extension::<Bus>())
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("topics", &lock(&self.topics).topics.len())
            .finish_non_exhaustive()
    }
}

/// A subscription, which ends when it is dropped: later events do not arrive, while one that
/// another thread is publishing right now still may.
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription {
    topic: Weak<dyn AnyTopic>,
    tally: Arc<Tally>,
}

impl Subscription {
    /// Ends it, as dropping it does.
    pub fn unsubscribe(self) {
        drop(self);
    }

    /// Lets it last as long as the actor and the bus do.
    pub fn keep(mut self) {
        // A subscription of no topic has nothing to end when it is dropped.
        self.topic = Weak::<Topic<()>>::new();
    }

    /// Events that it took so far.
    pub fn delivered(&self) -> u64 {
        self.tally.delivered.load(Relaxed)
    }

    /// Events that it missed so far.
    pub fn missed(&self) -> u64 {
        self.tally.missed.load(Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(topic) = self.topic.upgrade() {
            self.tally.end();
            topic.sweep();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("counts", &self.tally.snapshot())
            .finish_non_exhaustive()
    }
}

/// The events of one type. Ends when the bus is closed or dropped, after what waited in it was
/// read.
pub struct EventStream<E: Event> {
    buffer: Arc<Buffer<E>>,
    subscription: Subscription,
}

impl<E: Event> EventStream<E> {
    /// Events so far that were dropped unread because the reader was slower than the publishers.
    pub fn lagged(&self) -> u64 {
        self.subscription.missed()
    }
}

impl<E: Event> Stream for EventStream<E> {
    type Item = E;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        // Registered before the look, so that an event in between wakes the reader.
        self.buffer.reader.register(cx.waker());
        let mut waiting = lock(&self.buffer.waiting);
        match waiting.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if waiting.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<E: Event> fmt::Debug for EventStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}

/// The subscribers of one type of event.
struct Topic<E> {
    /// Copied when it changes, so that a publish visits the subscribers of its begin without the
    /// lock.
    subscribers: Mutex<Arc<[Arc<Subscriber<E>>]>>,
    published: AtomicU64,
    missed: AtomicU64,
}

/// A topic of whatever type.
trait AnyTopic: Any + Send + Sync {
    /// Removes the subscribers that have ended.
    fn sweep(&self);
    fn snapshot(&self) -> TopicSnapshot;
}

struct Subscriber<E> {
    tally: Arc<Tally>,
    sink: Box<dyn Sink<E>>,
}

impl<E> Default for Topic<E> {
    fn default() -> Self {
        Self {
            subscribers: Mutex::new(Arc::from([])),
            published: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }
}

impl<E: Event> Topic<E> {
    fn subscribe(
        self: Arc<Self>,
        tally: Arc<Tally>,
        sink: Box<dyn Sink<E>>,
    ) -> Result<Subscription, SubscribeError> {
        let subscriber = Arc::new(Subscriber {
            tally: tally.clone(),
            sink,
        });
        // A subscriber that has ended since the last publish is only found here.
        if self.listeners().len() >= MAX_SUBSCRIPTIONS {
            self.find_the_gone();
        }
        let before = {
            let mut subscribers = lock(&self.subscribers);
            if subscribers.len() >= MAX_SUBSCRIPTIONS {
                let event = type_name::<E>();
                return Err(SubscribeError::TooManySubscriptions {
                    event,
                    limit: MAX_SUBSCRIPTIONS,
                });
            }
            let after = subscribers.iter().cloned().chain([subscriber]).collect();
            mem::replace(&mut *subscribers, after)
        };
        drop(before);
        let topic: Arc<dyn AnyTopic> = self;
        Ok(Subscription {
            topic: Arc::downgrade(&topic),
            tally,
        })
    }

    fn publish(&self, event: &E) -> Published {
        self.published.fetch_add(1, Relaxed);
        let nested = Nested::enter();
        if nested.is_none() {
            tracing::warn!(
                event = type_name::<E>(),
                "refused: conversions publish in a circle"
            );
        }
        let mut published = Published::default();
        for subscriber in &*self.listeners() {
            let Subscriber { tally, sink } = &**subscriber;
            if tally.has_ended() {
                continue;
            }
            let taken = if nested.is_some() {
                take(&**sink, event)
            } else {
                Taken::Refused
            };
            match taken {
                Taken::Whole | Taken::InsteadOfAnOlder => {
                    published.delivered += 1;
                    tally.delivered.fetch_add(1, Relaxed);
                }
                Taken::Refused => published.refused += 1,
                // Of two publishers that find it at once, one counts it.
                Taken::Gone => published.gone += usize::from(tally.end()),
            }
            if matches!(taken, Taken::InsteadOfAnOlder | Taken::Refused) {
                tally.missed.fetch_add(1, Relaxed);
                self.missed.fetch_add(1, Relaxed);
            }
        }
        if published.gone > 0 {
            self.sweep();
        }
        published
    }

    fn find_the_gone(&self) {
        for subscriber in &*self.listeners() {
            if subscriber.sink.is_gone() {
                subscriber.tally.end();
            }
        }
        self.sweep();
    }

    fn listeners(&self) -> Arc<[Arc<Subscriber<E>>]> {
        lock(&self.subscribers).clone()
    }
}

impl<E: Event> AnyTopic for Topic<E> {
    fn sweep(&self) {
        let before = {
            let mut subscribers = lock(&self.subscribers);
            let left = subscribers
                .iter()
                .filter(|s| !s.tally.has_ended())
                .cloned()
                .collect();
            mem::replace(&mut *subscribers, left)
        };
        // Destructors of conversions run here, after the lock.
        drop(before);
    }

    fn snapshot(&self) -> TopicSnapshot {
        let listeners = self.listeners();
        let live = listeners
            .iter()
            .filter(|s| !s.tally.has_ended() && !s.sink.is_gone());
        TopicSnapshot {
            event: type_name::<E>(),
            published: self.published.load(Relaxed),
            missed: self.missed.load(Relaxed),
            subscriptions: live.map(|s| s.tally.snapshot()).collect(),
        }
    }
}

/// State that a subscription and its handle share. It does not keep the sink alive: a stream ends
/// when its topic does.
struct Tally {
    to: &'static str,
    is_ended: AtomicBool,
    delivered: AtomicU64,
    missed: AtomicU64,
}

impl Tally {
    fn new(to: &'static str) -> Self {
        let delivered = AtomicU64::new(0);
        let missed = AtomicU64::new(0);
        Self {
            to,
            is_ended: AtomicBool::new(false),
            delivered,
            missed,
        }
    }

    /// True the first time.
    fn end(&self) -> bool {
        !self.is_ended.swap(true, Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.is_ended.load(Relaxed)
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        let delivered = self.delivered.load(Relaxed);
        let missed = self.missed.load(Relaxed);
        SubscriptionSnapshot {
            to: self.to,
            delivered,
            missed,
        }
    }
}

/// Destination of the events of a subscription.
trait Sink<E>: Send + Sync {
    fn take(&self, event: &E) -> Taken;
    fn is_gone(&self) -> bool;
}

#[derive(Clone, Copy)]
enum Taken {
    Whole,
    InsteadOfAnOlder,
    Refused,
    Gone,
}

/// Conversions and clones are foreign code: a panic in one of them costs its own subscription one
/// event.
fn take<E>(sink: &dyn Sink<E>, event: &E) -> Taken {
    catch_unwind(AssertUnwindSafe(|| sink.take(event))).unwrap_or_else(|panic| {
        let (event, panic) = (type_name::<E>(), panic_text(&*panic));
        tracing::warn!(event, panic, "a subscriber panicked over an event");
        Taken::Refused
    })
}

struct ToActor<M: Message, F> {
    addr: Addr<M>,
    convert: F,
}

impl<E, M: Message, F: Fn(&E) -> M + Send + Sync> Sink<E> for ToActor<M, F> {
    fn take(&self, event: &E) -> Taken {
        if self.addr.is_closed() {
            return Taken::Gone;
        }
        match self.addr.tell((self.convert)(event)) {
            Ok(_) => Taken::Whole,
            Err(TellError::Closed(_)) => Taken::Gone,
            Err(_) => Taken::Refused,
        }
    }

    fn is_gone(&self) -> bool {
        self.addr.is_closed()
    }
}

/// Unread events of a stream.
struct Buffer<E> {
    capacity: usize,
    waiting: Mutex<Waiting<E>>,
    reader: AtomicWaker,
}

struct Waiting<E> {
    events: VecDeque<E>,
    is_closed: bool,
}

impl<E> Buffer<E> {
    fn new(capacity: usize) -> Self {
        let waiting = Mutex::new(Waiting {
            events: VecDeque::new(),
            is_closed: false,
        });
        Self {
            capacity,
            waiting,
            reader: AtomicWaker::new(),
        }
    }
}

struct ToStream<E> {
    buffer: Arc<Buffer<E>>,
}

impl<E: Event> Sink<E> for ToStream<E> {
    fn take(&self, event: &E) -> Taken {
        let event = event.clone();
        let oldest = {
            let mut waiting = lock(&self.buffer.waiting);
            let is_full = waiting.events.len() == self.buffer.capacity;
            let oldest = if is_full {
                waiting.events.pop_front()
            } else {
                None
            };
            waiting.events.push_back(event);
            oldest
        };
        self.buffer.reader.wake();
        if oldest.is_some() {
            Taken::InsteadOfAnOlder
        } else {
            Taken::Whole
        }
    }

    /// Its handle, which the reader holds, ends it.
    fn is_gone(&self) -> bool {
        false
    }
}

impl<E> Drop for ToStream<E> {
    fn drop(&mut self) {
        lock(&self.buffer.waiting).is_closed = true;
        self.buffer.reader.wake();
    }
}

thread_local! {
    /// Publishes that run on this thread now, one inside the other.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// One of the publishes that run on this thread.
struct Nested;

impl Nested {
    /// None if it is one too many.
    fn enter() -> Option<Self> {
        let running = RUNNING.get();
        (running <= MAX_NESTED_PUBLISHES).then(|| {
            RUNNING.set(running + 1);
            Self
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        RUNNING.set(RUNNING.get() - 1);
    }
}
