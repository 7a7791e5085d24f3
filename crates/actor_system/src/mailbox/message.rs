//! The message trait, and the reply to a question.

use std::{fmt, time::Duration};

use alys_runtime::sync::oneshot;

use crate::mailbox::current;

/// The messages of an actor, as one enum.
///
/// All methods but [`kind`](Self::kind) have defaults that fit most messages. They are called while
/// a mailbox is locked, so they must be cheap and must not send.
pub trait Message: Sized + Send + 'static {
    /// The name of the variant, for traces and metrics. Names must come from a fixed set, because
    /// each has its own counters.
    fn kind(&self) -> &'static str;

    /// Priority. Messages of one sender keep their order within a priority, not across priorities.
    fn priority(&self) -> Priority {
        Priority::Normal
    }

    /// Policy for a mailbox without room.
    fn overflow(&self) -> Overflow {
        Overflow::Block
    }

    /// Takes in a newer message of the same [`Overflow::Coalesce`] key, in the place of the older
    /// one.
    fn absorb(&mut self, newer: Self) {
        *self = newer;
    }

    /// A copy to be handled first by the next incarnation if handling this message fails, at most
    /// [`MAX_REDELIVERIES`](crate::MAX_REDELIVERIES) times. None, the default: the message that
    /// killed an actor does not come back.
    fn again(&self) -> Option<Self> {
        None
    }

    /// True if it is dropped instead of handled after its deadline, because its asker has given up.
    fn expires(&self) -> bool {
        true
    }

    /// Bytes that it holds in memory, for mailboxes with a limit on bytes.
    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// Priority of a message. A more urgent one overtakes queued ones, but a priority with queued
/// messages is served at least once in [`MAX_OVERTAKES`](crate::MAX_OVERTAKES) messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Handled when no other message is queued.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before the rest.
    High,
    /// Before everything: shutting down, losing a lock.
    Critical,
}

impl Priority {
    /// All, from the least urgent to the most.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];
}

/// Policy for a message that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// `send` waits for room; `tell` and `ask`, which never wait for it, give the message back.
    #[default]
    Block,
    /// It is given back, by `send` too.
    Fail,
    /// The oldest waiting message that says the same of itself, and is no more urgent, is dropped
    /// for it; several if it takes as many to keep within a limit of bytes. Given back if they
    /// would not make room.
    DropOldest,
    /// It is dropped.
    DropNewest,
    /// `send` tries again after growing waits, then gives the message back; `tell` and `ask` give
    /// it back.
    Backoff {
        /// Before the second try; doubled from try to try, less up to a fifth by chance.
        initial: Duration,
        /// No wait is longer.
        max: Duration,
        /// Tries, the first included.
        attempts: u32,
    },
    /// A waiting message with the same key takes it in ([`Message::absorb`]), whether there is room
    /// or not. Given back if there is neither room nor such a message.
    Coalesce(u64),
}

/// Outcome of a message that was accepted or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It waits for its turn.
    Queued,
    /// A waiting message took it in.
    Coalesced,
    /// It waits, and the oldest that could be was dropped for it.
    QueuedForOldest,
    /// It was dropped, as its own [`Overflow`] says.
    Dropped,
}

/// The way back to one asker. Dropping it tells the asker that there will be no answer.
#[derive(Debug)]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Answers. False if the asker has given up.
    pub fn send(self, answer: R) -> bool {
        if current::loses_replies() {
            return false;
        }
        self.0.send(answer).is_ok()
    }

    /// True if the asker has given up, so that the answer need not be computed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// A reply and the future of its answer, for questions that are not put through
    /// [`Addr::ask`](crate::Addr::ask).
    pub fn channel() -> (Self, oneshot::Receiver<R>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}
