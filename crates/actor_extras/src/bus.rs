//! Publish and subscribe by event type.
//!
//! An actor subscribes its address with a conversion from the event to one of its messages; other
//! code reads an [`EventStream`]. Publishing never waits: a subscriber without room misses the
//! event, which is counted.
//!
//! **Promises**
//! - Subscribers receive an event in the order in which they subscribed, and the events of one
//!   publisher in the order of publication. Events of concurrent publishers may reach two
//!   subscribers in different orders.
//! - No lock is held while a conversion, a clone or a destructor runs, so these may publish,
//!   subscribe and unsubscribe. An event published by a conversion reaches its subscribers before
//!   the event being converted reaches later ones.
//! - A panic of a conversion costs only its own subscription the event.
//!
//! A conversion that holds the bus is a reference cycle; only [`Bus::close`] or the end of the
//! subscription releases such a bus.

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

/// Maximum subscriptions of one event type, streams included, because each publish visits all of
/// them.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// Maximum depth of publishes from within conversions of other publishes. Deeper ones are refused,
/// because a cycle of conversions would overflow the stack.
pub const MAX_NESTED_PUBLISHES: usize = 8;

/// An event that can be published. Implemented for all eligible types.
pub trait Event: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Event for T {}

/// Outcome of one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Subscribers that accepted the event, including streams that dropped an older event for it.
    pub delivered: usize,
    /// Subscribers that missed the event, because of a full mailbox or another refusal, a panic of
    /// the conversion, or publishes nested too deeply.
    pub refused: usize,
    /// Subscribers that were found terminated and removed.
    pub gone: usize,
}

/// Error of [`Bus::subscribe`] and [`Bus::stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The event type already has the maximum number of subscriptions.
    #[error("{event} has {limit} subscriptions already")]
    TooManySubscriptions {
        /// Name of the event type.
        event: &'static str,
        /// [`MAX_SUBSCRIPTIONS`].
        limit: usize,
    },
    /// [`Bus::close`] was called.
    #[error("the bus is closed: no subscription to {event}")]
    Closed {
        /// Name of the event type.
        event: &'static str,
    },
}

/// Snapshot of one event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSnapshot {
    /// Name of the event type.
    pub event: &'static str,
    /// Number of events published.
    pub published: u64,
    /// Number of missed deliveries, including those of subscriptions that have ended.
    pub missed: u64,
    /// Current subscriptions, in the order in which they subscribed.
    pub subscriptions: Vec<SubscriptionSnapshot>,
}

/// Snapshot of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionSnapshot {
    /// Name of the message type that events are converted to; `stream` for an [`EventStream`].
    pub to: &'static str,
    /// Number of accepted events.
    pub delivered: u64,
    /// Number of missed events; for a stream, those dropped unread.
    pub missed: u64,
}

/// An event bus. Cheap to clone; all clones share one bus, which closes when the last is dropped.
#[derive(Clone, Default)]
pub struct Bus {
    topics: Arc<Mutex<Topics>>,
}

/// One topic per event type, so their number is bounded by the program. Sorted by name first,
/// because the order of a `TypeId` differs between builds.
#[derive(Default)]
struct Topics {
    topics: BTreeMap<(&'static str, TypeId), Arc<dyn AnyTopic>>,
    is_closed: bool,
}

impl Bus {
    /// Creates a bus that is independent of any system.
    pub fn new() -> Self {
        Self::default()
    }

    /// Converts each later event of type `E` to a message and tells it to `addr`. The conversion
    /// must be quick, because it runs within the publish. The subscription belongs to the address,
    /// not the incarnation: it survives restarts, and ends when the actor terminates or the handle
    /// is dropped.
    ///
    /// An actor that subscribes itself at each start must keep the handle in its state; otherwise
    /// it is subscribed twice after a restart.
    ///
    /// # Errors
    /// [`SubscribeError`] if the type has [`MAX_SUBSCRIPTIONS`] subscriptions, or the bus is
    /// closed.
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

    /// Streams the later events of type `E`. At most `capacity` events (zero counts as one) are
    /// buffered; beyond that the oldest is dropped and counted.
    ///
    /// # Errors
    /// [`SubscribeError`] if the type has [`MAX_SUBSCRIPTIONS`] subscriptions, or the bus is
    /// closed.
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

    /// Delivers an event to all subscribers of its type, without waiting. Has no effect on a closed
    /// bus.
    pub fn publish<E: Event>(&self, event: E) -> Published {
        match self.open_topic::<E>() {
            Ok(topic) => topic.publish(&event),
            Err(_) => Published::default(),
        }
    }

    /// Snapshot of all event types that were published or subscribed to, sorted by name. It is not
    /// atomic.
    pub fn snapshot(&self) -> Vec<TopicSnapshot> {
        let topics: Vec<_> = lock(&self.topics).topics.values().cloned().collect();
        topics.iter().map(|topic| topic.snapshot()).collect()
    }

    /// Closes the bus and ends all subscriptions. Streams end once their buffered events are read.
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

/// The bus of a system publishes each [`SystemEvent`], and closes when the system ends.
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
    /// The system's bus, for publish and subscribe by event type.
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

/// Handle of a subscription, which ends when the handle is dropped. An event that another thread is
/// publishing at that time may still arrive.
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription {
    topic: Weak<dyn AnyTopic>,
    tally: Arc<Tally>,
}

impl Subscription {
    /// Ends the subscription, like dropping the handle.
    pub fn unsubscribe(self) {
        drop(self);
    }

    /// Detaches the handle: the subscription lasts until the actor terminates or the bus closes.
    pub fn keep(mut self) {
        // With a dangling topic, drop has no effect.
        self.topic = Weak::<Topic<()>>::new();
    }

    /// Number of accepted events so far.
    pub fn delivered(&self) -> u64 {
        self.tally.delivered.load(Relaxed)
    }

    /// Number of missed events so far.
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

/// Stream of the events of one type. It ends when the bus is closed or dropped, after its buffered
/// events.
pub struct EventStream<E: Event> {
    buffer: Arc<Buffer<E>>,
    subscription: Subscription,
}

impl<E: Event> EventStream<E> {
    /// Number of events dropped unread so far, because the reader was slower than the publishers.
    pub fn lagged(&self) -> u64 {
        self.subscription.missed()
    }
}

impl<E: Event> Stream for EventStream<E> {
    type Item = E;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        // Registered before the check, so that an event in between wakes the reader.
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

/// The subscribers of one event type.
struct Topic<E> {
    /// Copy on write, so that a publish visits the subscribers as of its start without the lock.
    subscribers: Mutex<Arc<[Arc<Subscriber<E>>]>>,
    published: AtomicU64,
    missed: AtomicU64,
}

/// A topic, independent of its event type.
trait AnyTopic: Any + Send + Sync {
    /// Removes the subscribers whose subscription has ended.
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
        // Subscribers that terminated since the last publish still take room, so they are removed
        // first.
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
                "refused: conversions publish in a cycle"
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
                // Of several concurrent publishers that find the subscriber terminated, one counts
                // it.
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
        // Dropped after the lock is released, because destructors of conversions are foreign code.
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

/// State that a subscription and its handle share. It does not hold the sink, because a stream must
/// end with its topic.
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

    /// Ends the subscription. True at the first call.
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

/// Delivers an event and catches panics, because conversions and clones are foreign code.
fn take<E>(sink: &dyn Sink<E>, event: &E) -> Taken {
    catch_unwind(AssertUnwindSafe(|| sink.take(event))).unwrap_or_else(|panic| {
        let event = type_name::<E>();
        let panic = panic_text(&*panic);
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

/// Buffer of a stream's unread events.
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

    /// Always false, because the reader ends the subscription by dropping its handle.
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
    /// Depth of nested publishes on this thread.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// Guard of one nesting level of publishes on this thread.
struct Nested;

impl Nested {
    /// Enters a level. None beyond [`MAX_NESTED_PUBLISHES`].
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
