//! Messages, the bounded queue in front of an actor, and the address that outlives its incarnations.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use alys_runtime::{
    sync::{mpsc, oneshot},
    time,
};

use crate::{
    error::{AskError, SendError, TellError},
    lock,
};

/// What an actor understands: one enum an actor.
pub trait Message: Send + 'static {
    /// The name of the variant, for traces and figures. Names must come from a fixed set: they are counted one
    /// by one.
    fn kind(&self) -> &'static str;
}

/// A mailbox that no actor reads yet: the address can be handed out, and messages wait.
///
/// Dropping the slot closes the mailbox. A `usize` becomes a slot of that capacity where one is asked for.
pub struct Slot<M: Message> {
    pub(crate) addr: Addr<M>,
    pub(crate) queue: mpsc::Receiver<M>,
}

/// A mailbox for up to `capacity` messages (at least one), before there is an actor to read it: actors that
/// refer to each other in a circle are all given their addresses first and started then.
pub fn mailbox<M: Message>(capacity: usize) -> (Addr<M>, Slot<M>) {
    let (sender, queue) = mpsc::channel(capacity.max(1));
    let addr = Addr { sender, stats: Arc::default() };
    (addr.clone(), Slot { addr, queue })
}

impl<M: Message> From<usize> for Slot<M> {
    fn from(capacity: usize) -> Self {
        mailbox(capacity).1
    }
}

impl<M: Message> fmt::Debug for Slot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// Where to send messages to an actor. Cheap to clone; stays valid over restarts; closed once the actor has
/// ended for good.
///
/// Messages of one sender through one address are handled in the order in which they were taken.
pub struct Addr<M: Message> {
    sender: mpsc::Sender<M>,
    pub(crate) stats: Arc<Stats>,
}

impl<M: Message> Addr<M> {
    /// Puts a message into the mailbox, without waiting.
    ///
    /// # Errors
    /// The message is given back if there is no room, or the actor has ended for good.
    pub fn tell(&self, msg: M) -> Result<(), TellError<M>> {
        self.sender.try_send(msg).map_err(|error| match error {
            mpsc::error::TrySendError::Full(msg) => {
                self.stats.dropped.fetch_add(1, Relaxed);
                TellError::Full(msg)
            }
            mpsc::error::TrySendError::Closed(msg) => TellError::Closed(msg),
        })
    }

    /// Puts a message into the mailbox and waits for room as long as it takes: the sender is slowed to the
    /// receiver's pace. Not taken if the future is dropped before it is ready.
    ///
    /// # Errors
    /// The message is given back if the actor ends for good before there is room.
    pub async fn send(&self, msg: M) -> Result<(), SendError<M>> {
        self.sender.send(msg).await.map_err(|error| SendError(error.0))
    }

    /// Asks a question and waits up to `deadline` for the answer. `make` puts the reply into the message.
    ///
    /// # Errors
    /// A question that found no room is not queued. After a timeout the question may still be handled; its
    /// answer goes nowhere.
    pub async fn ask<R: Send + 'static>(
        &self,
        make: impl FnOnce(Reply<R>) -> M,
        deadline: Duration,
    ) -> Result<R, AskError> {
        let (reply, answer) = oneshot::channel();
        let msg = make(Reply(reply));
        let kind = msg.kind();
        self.tell(msg).map_err(|error| match error {
            TellError::Full(_) => AskError::Full { kind },
            TellError::Closed(_) => AskError::Closed { kind },
        })?;
        match time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::Dropped { kind }),
            Err(_) => Err(AskError::Timeout { kind, deadline }),
        }
    }

    /// Messages waiting now.
    pub fn depth(&self) -> usize {
        self.capacity().saturating_sub(self.sender.capacity())
    }

    /// Messages that may wait at most.
    pub fn capacity(&self) -> usize {
        self.sender.max_capacity()
    }

    /// Whether the actor has ended for good.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the actor has ended for good.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.sender.closed()
    }
}

impl<M: Message> Clone for Addr<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), stats: self.stats.clone() }
    }
}

impl<M: Message> fmt::Debug for Addr<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addr").field("depth", &self.depth()).field("capacity", &self.capacity()).finish()
    }
}

/// The way back to one asker. Dropping it tells the asker that there will be no answer.
#[derive(Debug)]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Answers. False if nobody waits any more.
    pub fn send(self, answer: R) -> bool {
        self.0.send(answer).is_ok()
    }

    /// Whether nobody waits any more, so that the work for the answer can be saved.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// A reply and the future of its answer, for questions that are not put through [`Addr::ask`].
    pub fn channel() -> (Self, oneshot::Receiver<R>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

/// Counts of one mailbox and its actor, over all incarnations.
#[derive(Default)]
pub(crate) struct Stats {
    pub handled: AtomicU64,
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
    pub abandoned: AtomicU64,
    pub interrupted: AtomicU64,
    pub kinds: Mutex<BTreeMap<&'static str, u64>>,
}

impl Stats {
    pub fn count(&self, kind: &'static str) {
        self.handled.fetch_add(1, Relaxed);
        *lock(&self.kinds).entry(kind).or_default() += 1;
    }
}
