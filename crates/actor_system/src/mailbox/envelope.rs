//! Metadata of a message: sender, correlation, deadline, and the actors that wait for its answer.

use std::{
    fmt,
    num::NonZeroU64,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use crate::mailbox::message::Priority;

/// Id of a message, unique within a system: the number of its mailbox and its sequence number
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(NonZeroU64);

impl MessageId {
    /// Bits of the sequence number. Messages use the numbers below 2^43, enough for a million
    /// messages a second for 100 days; the messages of timers use the rest.
    const SEQUENCE_BITS: u32 = 44;

    pub(crate) fn new(actor: u32, sequence: u64) -> Self {
        let sequence = sequence & ((1 << Self::SEQUENCE_BITS) - 1);
        let id = (u64::from(actor) << Self::SEQUENCE_BITS) | sequence;
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
    }

    /// The id as a number, never zero.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The id from its number; none for zero.
    pub fn from_u64(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.get();
        write!(
            f,
            "{}-{}",
            id >> Self::SEQUENCE_BITS,
            id & ((1 << Self::SEQUENCE_BITS) - 1)
        )
    }
}

/// Metadata of the message being handled, see [`Context::envelope`](crate::Context::envelope).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeInfo {
    /// Id of this message.
    pub id: MessageId,
    /// Id of the message from outside an actor, or of a timer, that started this chain of messages.
    pub correlation: MessageId,
    /// Path of the sending actor; none if the sender was a task or code outside of an actor.
    pub sender: Option<Arc<str>>,
    /// Priority with which it was queued.
    pub priority: Priority,
    /// Time at which the asker gives up; none for messages that are not questions.
    pub deadline: Option<Instant>,
    /// Time at which it was sent; none unless times are measured
    /// ([`System::measure`](crate::System::measure)).
    pub sent: Option<Instant>,
    /// Number of failed earlier attempts to handle it.
    pub attempt: u8,
    /// Paths of the actors that wait for the answer, directly (the first, the asker) or through the
    /// one before.
    pub waiting: Vec<Arc<str>>,
}

/// An actor whose handler waits for an answer, linked to the actors that wait for that handler.
pub(crate) struct Link {
    /// Number of the waiting actor.
    pub asker: u32,
    /// Kind of the message that the asker is handling.
    pub kind: &'static str,
    pub parent: Option<Arc<Link>>,
    /// True once the asker has its answer or stopped waiting.
    pub is_over: AtomicBool,
}

impl Link {
    pub fn chain(link: Option<&Arc<Self>>) -> impl Iterator<Item = &Self> {
        std::iter::successors(link.map(|link| &**link), |link| link.parent.as_deref())
    }
}

/// A message with its metadata.
pub(crate) struct Envelope<M> {
    pub msg: M,
    pub meta: Meta,
}

#[derive(Clone, Default)]
pub(crate) struct Meta {
    /// Sequence number within the mailbox, from 1.
    pub sequence: u64,
    pub correlation: Option<MessageId>,
    /// Number of the sending actor; 0 for none.
    pub sender: u32,
    pub priority: Priority,
    pub attempt: u8,
    /// True if its policy is `Overflow::DropOldest`.
    pub is_droppable: bool,
    /// True if the mailbox indexes it by its `Overflow::Coalesce` key.
    pub has_key: bool,
    pub deadline: Option<Instant>,
    pub chain: Option<Arc<Link>>,
    /// Set only while times are measured or spans are on; boxed to keep the envelope small.
    pub watched: Option<Box<Watched>>,
}

#[derive(Clone, Default)]
pub(crate) struct Watched {
    pub sent: Option<Instant>,
    pub span: Option<tracing::span::Id>,
}

impl Meta {
    pub fn sent(&self) -> Option<Instant> {
        self.watched.as_ref().and_then(|watched| watched.sent)
    }
}
