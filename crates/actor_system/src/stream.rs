//! A stream as a source of messages for one incarnation of an actor.

use std::pin::pin;

use futures::{Stream, StreamExt};

use crate::{
    actor::scope::Task,
    actor::{AlysActor, Context},
    error::TooManyTasks,
};

impl<A: AlysActor> Context<A> {
    /// Puts each item of `stream`, converted to a message, into the actor's own mailbox, in order. What waits for
    /// room ([`Overflow::Block`](crate::Overflow::Block), the default) has the stream read at the actor's pace, with
    /// one item in hand at most; other messages become what their overflow says. One that is given back, as any
    /// message is while a circuit breaker is open, ends the task, and the stream with it.
    ///
    /// The stream is dropped when the incarnation ends, before the next one begins, which attaches its own; what
    /// is in the mailbox by then stays there like any other message. Aborting the task drops the stream earlier.
    /// A stream or conversion that panics is a failure of the actor.
    ///
    /// # Errors
    /// No more than [`MAX_TASKS`](crate::MAX_TASKS) at once, streams included. The stream is dropped unread.
    pub fn attach<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static,
    {
        self.forward(name, stream, convert, None)
    }

    /// The same, and `on_end` after the last item when the stream has ended by itself.
    ///
    /// # Errors
    /// As [`Context::attach`].
    pub fn attach_until_end<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
        on_end: A::Message,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static,
    {
        self.forward(name, stream, convert, Some(on_end))
    }

    fn forward<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
        on_end: Option<A::Message>,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static,
    {
        let addr = self.address();
        self.spawn(name, async move {
            let mut messages = pin!(stream.map(convert));
            while let Some(msg) = messages.next().await {
                if addr.send(msg).await.is_err() {
                    return;
                }
            }
            if let Some(on_end) = on_end {
                // A closed mailbox belongs to an actor that has ended for good: there is nobody to tell.
                let _ = addr.send(on_end).await;
            }
        })
    }
}
