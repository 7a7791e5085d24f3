//! Metadata of a message: its sender, its cause, its deadline, and the actors that wait for its
//! answer.

use std::{
    fmt,
    num::NonZeroU64,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use crate::mailbox::message::Priority;

/// Names one message within a system: the mailbox it was put into and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(NonZeroU64);

impl MessageId {
    /// Bits of the number within the mailbox: enough for a million messages a second for half a
    /// year.
    const SEQUENCE_BITS: u32 = 44;

    pub(crate) fn new(actor: u32, sequence: u64) -> Self {
        let sequence = sequence & ((1 << Self::SEQUENCE_BITS) - 1);
        let id = (u64::from(actor) << Self::SEQUENCE_BITS) | sequence;
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
    }

    /// The id as a number.
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

/// Metadata of the message that is handled, see [`Context::envelope`](crate::Context::envelope).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeInfo {
    /// This message.
    pub id: MessageId,
    /// The message from outside, or of a timer, that all this began with.
    pub correlation: MessageId,
    /// Path of the actor that sent it; none if it came from outside, or was sent by a task.
    pub sender: Option<Arc<str>>,
    /// Priority.
    pub priority: Priority,
    /// Time at which the asker gives up.
    pub deadline: Option<Instant>,
    /// Time at which it was sent, while times are measured.
    pub sent: Option<Instant>,
    /// Earlier incarnations that failed over it.
    pub attempt: u8,
    /// The actors that wait for the answer, each for the previous one; the first is the asker.
    pub waiting: Vec<Arc<str>>,
}

/// An actor that waits for an answer in its handler, and those that wait for that handler.
pub(crate) struct Link {
    /// Number of the actor.
    pub asker: u32,
    /// Kind of the message that the asker handles.
    pub kind: &'static str,
    pub parent: Option<Arc<Link>>,
    /// True once the asker has its answer or has given up.
    pub is_over: AtomicBool,
}

impl Link {
    pub fn chain(link: Option<&Arc<Self>>) -> impl Iterator<Item = &Self> {
        std::iter::successors(link.map(|link| &**link), |link| link.parent.as_deref())
    }
}

/// A message in its envelope.
pub(crate) struct Envelope<M> {
    pub msg: M,
    pub meta: Meta,
}

#[derive(Clone, Default)]
pub(crate) struct Meta {
    /// Number within the mailbox, from 1.
    pub sequence: u64,
    pub correlation: Option<MessageId>,
    /// Number of the actor that sent it; 0 for none.
    pub sender: u32,
    pub priority: Priority,
    pub attempt: u8,
    /// True if it may be dropped for a newer one.
    pub is_droppable: bool,
    /// True if it is in the mailbox's index of keys.
    pub has_key: bool,
    pub deadline: Option<Instant>,
    pub chain: Option<Arc<Link>>,
    /// Only while somebody looks: most messages are small.
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
