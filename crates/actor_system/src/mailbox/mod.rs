//! The bounded mailbox of an actor: the queue that senders share with the actor's task (`Mailbox`),
//! and the task's end of it (`Reader`).

pub mod access;
pub(crate) mod address;
pub(crate) mod backoff;
pub(crate) mod current;
pub(crate) mod dead_letters;
pub(crate) mod deadlines;
pub(crate) mod envelope;
pub(crate) mod error;
pub(crate) mod home;
pub(crate) mod message;
pub(crate) mod queues;
pub mod squeeze;
pub(crate) mod stats;
pub(crate) mod waits;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use alys_runtime::sync::Notify;

use crate::{
    interceptor, lock,
    mailbox::address::Addr,
    mailbox::dead_letters::Reason,
    mailbox::envelope::Envelope,
    mailbox::home::Home,
    mailbox::message::{Message, Overflow, Receipt},
    mailbox::queues::{NORMAL, PriorityQueues, Turns},
    mailbox::stats::Stats,
};

/// Maximum messages of normal priority that the reader moves into its buffer under one lock. One
/// lock for each message is slower.
const MAX_HELD: usize = 64;

/// Waiting senders are woken when the capacity divided by this number is free.
const SLACK_PART: usize = 4;

/// Capacity of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum queued messages; zero counts as one.
    pub messages: usize,
    /// Maximum sum of the sizes ([`Message::size`]) of queued messages, in bytes. `None` sets no
    /// limit. An empty mailbox accepts one message of any size.
    pub bytes: Option<usize>,
}

impl From<usize> for Limits {
    fn from(messages: usize) -> Self {
        Self {
            messages,
            bytes: None,
        }
    }
}

/// A mailbox without an actor. Its address accepts messages already; they stay queued until an
/// actor starts with the slot.
///
/// Dropping the slot closes the mailbox. A `usize` (messages) and [`Limits`] convert into a slot of
/// that capacity.
pub struct Slot<M: Message> {
    pub(crate) addr: Addr<M>,
    pub(crate) reader: Reader<M>,
}

/// Creates a mailbox before its actor, so that actors that send to each other can be given each
/// other's addresses before any of them starts.
pub fn mailbox<M: Message>(limits: impl Into<Limits>) -> (Addr<M>, Slot<M>) {
    let mailbox = Arc::new(Mailbox::new(limits.into()));
    let addr = Addr::new(mailbox.clone());
    (
        addr.clone(),
        Slot {
            addr,
            reader: Reader::new(mailbox),
        },
    )
}

impl<M: Message> From<usize> for Slot<M> {
    fn from(messages: usize) -> Self {
        mailbox(messages).1
    }
}

impl<M: Message> From<Limits> for Slot<M> {
    fn from(limits: Limits) -> Self {
        mailbox(limits).1
    }
}

impl<M: Message> fmt::Debug for Slot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// State that senders and the reader share.
pub(crate) struct Mailbox<M> {
    state: Mutex<State<M>>,
    /// Copies of the queue lengths (`queued` in total, `aside` outside the normal priority),
    /// readable without the lock.
    queued: AtomicUsize,
    aside: AtomicUsize,
    /// Messages in the reader's local buffer. Written by the reader only.
    held: AtomicUsize,
    /// Senders in `State::senders` or `State::admitted`.
    waiting: AtomicUsize,
    limits: Limits,
    is_closed: AtomicBool,
    /// True once waiters of `closed` may return. [`Reader::abandon`] counts the dropped messages
    /// first.
    is_announced: AtomicBool,
    /// True while the actor's circuit breaker is open.
    is_refusing: AtomicBool,
    /// True while the waiting and handling times of messages are measured.
    pub is_timed: AtomicBool,
    closed: Notify,
    pub stats: Arc<Stats>,
    /// The actor that reads the mailbox; unset until a supervisor starts it.
    home: OnceLock<Home>,
}

struct State<M> {
    queues: PriorityQueues<M>,
    sequence: u64,
    is_open: bool,
    reader: Option<Waker>,
    /// Senders that wait for room, in order of arrival.
    senders: VecDeque<Sender>,
    /// Senders that were woken and for which room is reserved: the ticket, and the size of the
    /// message in bytes.
    admitted: Vec<(u64, usize)>,
    next_ticket: u64,
}

/// A sender that waits for room.
struct Sender {
    ticket: u64,
    size: usize,
    waker: Waker,
}

/// The reason for refusing a message.
pub(crate) enum Refused {
    Full,
    Closed,
    Unavailable,
}

impl<M: Message> Mailbox<M> {
    fn new(limits: Limits) -> Self {
        let state = State {
            queues: PriorityQueues::default(),
            sequence: 0,
            is_open: true,
            reader: None,
            senders: VecDeque::new(),
            admitted: Vec::new(),
            next_ticket: 0,
        };
        Self {
            state: Mutex::new(state),
            queued: AtomicUsize::new(0),
            aside: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            limits: Limits {
                messages: limits.messages.max(1),
                ..limits
            },
            is_closed: AtomicBool::new(false),
            is_announced: AtomicBool::new(false),
            is_refusing: AtomicBool::new(false),
            is_timed: AtomicBool::new(false),
            closed: Notify::new(),
            stats: Arc::default(),
            home: OnceLock::new(),
        }
    }

    pub fn home(&self) -> Option<&Home> {
        self.home.get()
    }

    pub fn set_home(&self, home: Home) {
        let _already_there = self.home.set(home);
    }

    pub fn depth(&self) -> usize {
        self.queued.load(Relaxed) + self.held.load(Relaxed)
    }

    pub fn capacity(&self) -> usize {
        self.limits.messages
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    pub fn refuse(&self, is_refusing: bool) {
        self.is_refusing.store(is_refusing, Relaxed);
    }

    pub async fn closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.is_announced.load(Relaxed) {
                return;
            }
            closed.await;
        }
    }

    /// Enqueues a message. A sender that waited for room passes its `ticket`. A message that is
    /// dropped, this one or an older one, becomes a dead letter.
    pub fn push(
        &self,
        mut envelope: Envelope<M>,
        overflow: Overflow,
        ticket: Option<u64>,
    ) -> Result<Receipt, (Refused, M)> {
        if self.is_refusing.load(Relaxed) {
            if let Some(ticket) = ticket {
                self.leave(ticket);
            }
            return Err((Refused::Unavailable, envelope.msg));
        }
        let mut dropped = Vec::new();
        let mut receipt = Receipt::Queued;
        let mut state = lock(&self.state);
        if !state.is_open {
            return Err((Refused::Closed, envelope.msg));
        }
        let is_admitted = ticket.is_some_and(|ticket| state.give_up(ticket, &self.waiting));
        // A sender without a ticket must not take room while others wait, because a stream of small
        // messages would starve a first sender with a large one.
        let is_first = state.senders.is_empty();
        let size = envelope.msg.size();
        if !(is_admitted || is_first && self.has_room(&state, size)) {
            match overflow {
                Overflow::DropNewest => {
                    drop(state);
                    self.stats.refused.fetch_add(1, Relaxed);
                    self.record_dead_letter(Reason::DroppedNewest, &envelope);
                    return Ok(Receipt::Dropped);
                }
                Overflow::DropOldest => {
                    // Without a limit on bytes, dropping any one message makes room, so the
                    // droppable ones need not be counted.
                    let is_enough = self.limits.bytes.is_none() || {
                        let droppable = state.queues.droppable(envelope.meta.priority);
                        droppable.0 > 0 && self.has_room_without(&state, size, droppable)
                    };
                    if !is_enough {
                        return Err((Refused::Full, envelope.msg));
                    }
                    while let Some(oldest) = state.queues.drop_oldest(envelope.meta.priority) {
                        dropped.push(oldest);
                        if self.has_room(&state, size) {
                            break;
                        }
                    }
                    if dropped.is_empty() {
                        return Err((Refused::Full, envelope.msg));
                    }
                    receipt = Receipt::QueuedForOldest;
                }
                Overflow::Block | Overflow::Fail | Overflow::Backoff { .. } => {
                    if interceptor::drops_accepted_when_full() {
                        state.sequence += 1;
                        self.stats.accepted.store(state.sequence, Relaxed);
                        return Ok(Receipt::Queued);
                    }
                    // A simulation may act on a mark, so the lock is released before.
                    drop(state);
                    alys_runtime::trace::reached("state.actors.mailbox_full");
                    return Err((Refused::Full, envelope.msg));
                }
            }
        }
        state.sequence += 1;
        envelope.meta.sequence = state.sequence;
        state.queues.push(envelope, overflow);
        self.mirror(&state);
        self.stats.accepted.store(state.sequence, Relaxed);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        for dropped in dropped {
            self.stats.dropped.fetch_add(1, Relaxed);
            self.record_dead_letter(Reason::DroppedOldest, &dropped);
        }
        Ok(receipt)
    }

    pub fn record_dead_letter(&self, reason: Reason, envelope: &Envelope<M>) {
        if let Some(home) = self.home() {
            home.record_dead_letter(reason, envelope.msg.kind(), envelope.meta.sender);
        }
    }

    fn has_room(&self, state: &State<M>, size: usize) -> bool {
        self.has_room_without(state, size, (0, 0))
    }

    /// True if a message of `size` bytes fits after queued messages of this number and total size
    /// are dropped.
    fn has_room_without(
        &self,
        state: &State<M>,
        size: usize,
        (messages, bytes): (usize, usize),
    ) -> bool {
        let taken = state.queues.len() - messages + self.held.load(Relaxed) + state.admitted.len();
        let fits = self.limits.bytes.is_none_or(|limit| {
            let admitted: usize = state.admitted.iter().map(|(_, size)| size).sum();
            (state.queues.bytes() - bytes)
                .saturating_add(admitted)
                .saturating_add(size)
                <= limit
        });
        taken < self.limits.messages && (fits || taken == 0)
    }

    fn mirror(&self, state: &State<M>) {
        self.queued.store(state.queues.len(), Relaxed);
        self.aside.store(state.queues.aside(), Relaxed);
    }

    /// Sum of the sizes of the queued messages, in bytes, without those in the reader's buffer.
    pub fn bytes(&self) -> usize {
        lock(&self.state).queues.bytes()
    }

    /// Polls for room for a message of `size` bytes. Without room, queues the sender behind earlier
    /// ones and sets its ticket. Also ready when the mailbox is closed or refuses messages.
    pub fn poll_room(&self, ticket: &mut Option<u64>, size: usize, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if !state.is_open || self.is_refusing.load(Relaxed) {
            return Poll::Ready(());
        }
        let number = match *ticket {
            Some(number) if state.admitted.iter().any(|(other, _)| *other == number) => {
                return Poll::Ready(());
            }
            Some(number) => number,
            None => {
                if state.senders.is_empty() && self.has_room(&state, size) {
                    return Poll::Ready(());
                }
                state.next_ticket += 1;
                let number = state.next_ticket;
                *ticket = Some(number);
                number
            }
        };
        match state
            .senders
            .iter_mut()
            .find(|sender| sender.ticket == number)
        {
            Some(sender) => sender.waker.clone_from(cx.waker()),
            None => {
                self.waiting.fetch_add(1, Relaxed);
                state.senders.push_back(Sender {
                    ticket: number,
                    size,
                    waker: cx.waker().clone(),
                });
            }
        }
        Poll::Pending
    }

    /// Removes a waiting sender. If room was reserved for it, admits the senders that now fit.
    pub fn leave(&self, ticket: u64) {
        let mut state = lock(&self.state);
        let was_admitted = state.give_up(ticket, &self.waiting);
        let woken = if was_admitted {
            self.admit(&mut state)
        } else {
            Vec::new()
        };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// True if enough room is free to wake waiting senders. Without a limit on bytes they are woken
    /// in groups: one woken for a single place would wait again before the next place is free.
    fn has_slack(&self) -> bool {
        let slack = (self.limits.messages / SLACK_PART).max(1);
        self.limits.bytes.is_some() || self.depth() + slack <= self.limits.messages
    }

    /// Reserves room for the first waiting senders that fit, and returns their wakers.
    fn admit(&self, state: &mut State<M>) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(first) = state.senders.front()
            && self.has_room(state, first.size)
            && let Some(first) = state.senders.pop_front()
        {
            state.admitted.push((first.ticket, first.size));
            woken.push(first.waker);
        }
        woken
    }
}

impl<M> State<M> {
    /// Removes a waiting or admitted sender. Returns true if it was admitted.
    fn give_up(&mut self, ticket: u64, waiting: &AtomicUsize) -> bool {
        let admitted = self.admitted.len();
        let senders = self.senders.len();
        self.admitted.retain(|(other, _)| *other != ticket);
        let was_admitted = self.admitted.len() < admitted;
        if !was_admitted {
            self.senders.retain(|sender| sender.ticket != ticket);
        }
        if was_admitted || self.senders.len() < senders {
            waiting.fetch_sub(1, Relaxed);
        }
        was_admitted
    }
}

/// The operations of a mailbox that do not depend on the type of its messages.
pub(crate) trait View: Send + Sync {
    fn depth(&self) -> (usize, usize);
    fn refuse(&self, is_refusing: bool);
    fn set_timed(&self, is_timed: bool);
}

impl<M: Message> View for Mailbox<M> {
    fn depth(&self) -> (usize, usize) {
        (self.depth(), self.capacity())
    }
    fn refuse(&self, is_refusing: bool) {
        Mailbox::refuse(self, is_refusing);
        if is_refusing && !interceptor::breaker_forgets_senders() {
            // Waiting senders are woken, and fail when they retry.
            let senders = std::mem::take(&mut lock(&self.state).senders);
            self.waiting.fetch_sub(senders.len(), Relaxed);
            senders.into_iter().for_each(|sender| sender.waker.wake());
        }
    }
    fn set_timed(&self, is_timed: bool) {
        self.is_timed.store(is_timed, Relaxed);
    }
}

/// The only reader of a mailbox. Dropping it closes the mailbox and drops the queued messages.
pub(crate) struct Reader<M: Message> {
    pub mailbox: Arc<Mailbox<M>>,
    held: VecDeque<Envelope<M>>,
    turns: Turns,
    max_held: usize,
    /// Number of timer messages of all incarnations.
    timers: u64,
}

impl<M: Message> Reader<M> {
    fn new(mailbox: Arc<Mailbox<M>>) -> Self {
        let max_held = match mailbox.limits.bytes {
            None => (mailbox.limits.messages / 4).clamp(1, MAX_HELD),
            Some(_) => 1,
        };
        let max_held = if alys_runtime::buggify!("actors.mailbox.hold_one") {
            1
        } else {
            max_held
        };
        Self {
            mailbox,
            held: VecDeque::new(),
            turns: Turns::default(),
            max_held,
            timers: 0,
        }
    }

    /// Pops the next message by priority; `None` if the mailbox is empty.
    pub fn pop(&mut self) -> Option<Envelope<M>> {
        let mailbox = &*self.mailbox;
        // This check may miss a concurrent message. That is harmless, because `poll_ready` checks
        // again under the lock before the reader sleeps.
        if self.is_empty() {
            return None;
        }
        if mailbox.aside.load(Relaxed) == 0
            && let Some(envelope) = self.held.pop_front()
        {
            mailbox.held.store(self.held.len(), Relaxed);
            if mailbox.waiting.load(Relaxed) > 0 && mailbox.has_slack() {
                let woken = mailbox.admit(&mut lock(&mailbox.state));
                woken.into_iter().for_each(Waker::wake);
            }
            return Some(envelope);
        }
        let mut state = lock(&mailbox.state);
        let lane = state.queues.choose(&mut self.turns, self.held.len())?;
        let envelope = if lane == NORMAL && !self.held.is_empty() {
            self.held.pop_front()
        } else {
            let first = state.queues.pop(lane);
            if lane == NORMAL {
                while self.held.len() + 1 < self.max_held
                    && let Some(more) = state.queues.pop(NORMAL)
                {
                    self.held.push_back(more);
                }
            }
            first
        };
        mailbox.held.store(self.held.len(), Relaxed);
        mailbox.mirror(&state);
        let may_admit = !state.senders.is_empty() && mailbox.has_slack();
        let woken = if may_admit {
            mailbox.admit(&mut state)
        } else {
            Vec::new()
        };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        envelope
    }

    /// Sequence number of the next timer message. It counts over all incarnations, so that ids of
    /// messages do not repeat.
    pub fn next_timer(&mut self) -> u64 {
        self.timers += 1;
        self.timers
    }

    /// Ready when [`pop`](Self::pop) would return a message, or the mailbox is closed.
    pub fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.held.is_empty() {
            return Poll::Ready(());
        }
        let mut state = lock(&self.mailbox.state);
        if state.queues.len() > 0 || !state.is_open {
            return Poll::Ready(());
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Returns the reader's buffer, and popped but unhandled messages before it, to the front of
    /// their queues, in order.
    pub fn put_back(&mut self, envelopes: impl DoubleEndedIterator<Item = Envelope<M>>) {
        let mut state = lock(&self.mailbox.state);
        for envelope in std::mem::take(&mut self.held).into_iter().rev() {
            state.queues.put_back(envelope);
        }
        for envelope in envelopes.rev() {
            state.queues.put_back(envelope);
        }
        self.mailbox.held.store(0, Relaxed);
        self.mailbox.mirror(&state);
    }

    pub fn is_empty(&self) -> bool {
        self.mailbox.depth() == 0
    }

    /// Closes the mailbox to senders; queued messages can still be read.
    pub fn close(&mut self) {
        self.shut();
        self.announce();
    }

    fn shut(&mut self) {
        let mut state = lock(&self.mailbox.state);
        state.is_open = false;
        let senders = std::mem::take(&mut state.senders);
        self.mailbox.waiting.fetch_sub(senders.len(), Relaxed);
        // Stored before the senders are woken, because they read it.
        self.mailbox.is_closed.store(true, Relaxed);
        drop(state);
        senders.into_iter().for_each(|sender| sender.waker.wake());
    }

    fn announce(&self) {
        self.mailbox.is_announced.store(true, Relaxed);
        self.mailbox.closed.notify_waiters();
    }

    /// Closes the mailbox and drops the queued messages. Returns their number.
    pub fn abandon(&mut self) -> usize {
        self.shut();
        let mut left: Vec<_> = std::mem::take(&mut self.held).into();
        let mut state = lock(&self.mailbox.state);
        left.extend(state.queues.take_all());
        self.mailbox.held.store(0, Relaxed);
        self.mailbox.mirror(&state);
        drop(state);
        for envelope in &left {
            self.mailbox.record_dead_letter(Reason::Abandoned, envelope);
        }
        add(&self.mailbox.stats.abandoned, left.len() as u64);
        // Last, so that waiters of `closed` read final counts.
        self.announce();
        left.len()
    }
}

impl<M: Message> Drop for Reader<M> {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Adds to a counter that has a single writer, without an atomic read-modify-write.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}
