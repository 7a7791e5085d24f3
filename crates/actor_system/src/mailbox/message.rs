//! The message trait, overflow policies, priorities, and the reply to a question.

use std::{fmt, time::Duration};

use alys_runtime::sync::oneshot;

use crate::mailbox::current;

/// Message type of an actor, usually an enum.
///
/// All methods but [`kind`](Self::kind) have defaults that suit most messages. They must be cheap
/// and must not send, because they may run while a mailbox is locked.
pub trait Message: Sized + Send + 'static {
    /// Name of the variant, for traces and metrics. The first 32 names an actor handles have their
    /// own counters; further ones share one.
    fn kind(&self) -> &'static str;

    /// Priority. Messages of one sender keep their order within a priority, not across priorities.
    /// Defaults to [`Priority::Normal`].
    fn priority(&self) -> Priority {
        Priority::Normal
    }

    /// Policy for a full mailbox. Defaults to [`Overflow::Block`].
    fn overflow(&self) -> Overflow {
        Overflow::Block
    }

    /// True if the message is dropped instead of handled after its deadline, because its asker has
    /// given up. Defaults to true.
    fn expires(&self) -> bool {
        true
    }

    /// Size in bytes that counts towards a mailbox limit on bytes and a memory budget. The default
    /// is the size of the type, without heap memory.
    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// Priority of a message. More urgent messages overtake less urgent ones, but no priority starves:
/// one with queued messages is served after about [`MAX_OVERTAKES`](crate::MAX_OVERTAKES)
/// overtaking messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Handled after all other priorities, starvation aside.
    Low,
    /// Default.
    #[default]
    Normal,
    /// Before normal messages.
    High,
    /// Before all others, for messages such as a shutdown or the loss of a lock.
    Critical,
}

impl Priority {
    /// All priorities, least urgent first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];
}

/// Policy for a message that finds its mailbox full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// `send` waits for room; `tell` and `ask` never wait and return an error.
    #[default]
    Block,
    /// `send`, `tell` and `ask` return an error.
    Fail,
    /// Drops the oldest queued message that also has this policy and is not more urgent; several if
    /// a limit on bytes requires it. Returns an error if that would not make room.
    DropOldest,
    /// Drops the message itself.
    DropNewest,
    /// `send` retries after growing delays, then returns an error; `tell` and `ask` return one
    /// immediately.
    Backoff {
        /// Delay before the second attempt. It doubles at each attempt, and a random fifth at most
        /// is subtracted.
        initial: Duration,
        /// Maximum delay.
        max: Duration,
        /// Maximum attempts, the first included; zero counts as one.
        attempts: u32,
    },
}

/// Outcome of a message that was accepted or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The message is queued.
    Queued,
    /// The message is queued, and one or more older ones were dropped for it.
    QueuedForOldest,
    /// The message was dropped under [`Overflow::DropNewest`].
    Dropped,
}

/// Channel for the answer to one asker. Dropping it fails the question with
/// [`AskError::Dropped`](crate::AskError::Dropped).
#[derive(Debug)]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Sends the answer. False if the asker has given up.
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

    /// Creates a reply and the receiver of its answer, for questions that are not sent with
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
