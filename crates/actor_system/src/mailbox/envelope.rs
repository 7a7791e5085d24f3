//! Metadata of a message: sender, correlation, deadline, and the actors that wait for its answer.

use std::{
    fmt,
    num::NonZeroU64,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::mailbox::message::Priority;

/// Id of a message, unique within a system: a source of messages and the sequence number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    source: NonZeroU64,
    sequence: u64,
}

/// Origin of an actor's message. Each numbers its messages from 1, over all incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Origin {
    #[default]
    Mailbox,
    Timer,
}

impl MessageId {
    /// An actor has two sources, twice its number for the mailbox and the next one for timers.
    /// Actor numbers stay below 2^63: at one actor a nanosecond that takes 292 years.
    pub(crate) fn new(actor: u64, origin: Origin, sequence: u64) -> Self {
        let source = actor << 1 | u64::from(origin == Origin::Timer);
        Self::from_parts(NonZeroU64::new(source).unwrap_or(NonZeroU64::MIN), sequence)
    }

    /// The id of a message from another process, from its [parts](Self::parts).
    pub fn from_parts(source: NonZeroU64, sequence: u64) -> Self {
        Self { source, sequence }
    }

    /// The number of the source, and the sequence number there.
    pub fn parts(self) -> (NonZeroU64, u64) {
        (self.source, self.sequence)
    }
}

impl fmt::Display for MessageId {
    /// Formats the number of the actor and the sequence number, such as `7-12`; `7-t3` for timers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.get();
        let timer = if source & 1 == 1 { "t" } else { "" };
        write!(f, "{}-{timer}{}", source >> 1, self.sequence)
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
    /// The incarnation of the sender that sent it, or that set the timer; 0 if the sender was a
    /// task or code outside of an actor.
    pub incarnation: u64,
    /// Paths of the actors that wait for the answer, directly (the first, the asker) or through the
    /// one before.
    pub waiting: Vec<Arc<str>>,
}

/// An actor whose handler waits for an answer, linked to the actors that wait for that handler.
pub(crate) struct Link {
    /// Number of the waiting actor.
    pub asker: u64,
    /// Kind of the message that the asker is handling.
    pub kind: &'static str,
    pub parent: Option<Arc<Link>>,
    /// True once the asker has its answer or stopped waiting.
    pub is_over: AtomicBool,
}

impl Link {
    pub fn chain(link: Option<&Self>) -> impl Iterator<Item = &Self> {
        std::iter::successors(link, |link| link.parent.as_deref())
    }
}

/// A message with its metadata.
pub(crate) struct Envelope<M> {
    pub msg: M,
    pub meta: Meta,
}

#[derive(Clone, Default)]
pub(crate) struct Meta {
    /// Sequence number among the messages of the same origin, from 1.
    pub sequence: u64,
    pub origin: Origin,
    pub correlation: Option<MessageId>,
    /// Number of the sending actor; 0 for none.
    pub sender: u64,
    /// Incarnation of the sending actor, or of this actor when it set the timer; 0 for none.
    pub incarnation: u64,
    pub priority: Priority,
    /// True if its policy is `Overflow::DropOldest`.
    pub is_droppable: bool,
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
    /// Id of the message in the mailbox or timers of `actor`.
    pub fn id(&self, actor: u64) -> MessageId {
        MessageId::new(actor, self.origin, self.sequence)
    }

    pub fn sent(&self) -> Option<Instant> {
        self.watched.as_ref().and_then(|watched| watched.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_distant_actors_and_of_timers_differ() {
        let id = |actor, sequence| MessageId::new(actor, Origin::Mailbox, sequence);
        let ids = [
            id(1, 0),
            id((1 << 20) + 1, 0),
            id(1 << 32, 0),
            id(1, (1 << 43) + 1),
            id(1, 1 << 44),
            id(1, u64::MAX),
            MessageId::new(1, Origin::Timer, 0),
            MessageId::new(1, Origin::Timer, 1),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{id}");
        }
    }

    #[test]
    fn an_id_names_its_actor_and_origin() {
        assert_eq!(MessageId::new(7, Origin::Mailbox, 12).to_string(), "7-12");
        assert_eq!(MessageId::new(7, Origin::Timer, 3).to_string(), "7-t3");
    }
}
