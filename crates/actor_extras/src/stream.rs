//! A stream as a source of messages for one incarnation of an actor.

use std::pin::pin;

use futures::{Stream, StreamExt};

use alys_actor_system::{AlysActor, Context, Task, TooManyTasks};

use crate::bus::Bus;

/// Methods that this crate adds to the [`Context`] of an actor.
pub trait ContextExt<A: AlysActor> {
    /// The system's bus, on which events are published and subscribed to by their type.
    fn bus(&self) -> Bus;

    /// Puts each item of `stream`, converted to a message, into the actor's own mailbox, in order.
    /// A message that waits for room ([`Overflow::Block`](alys_actor_system::Overflow::Block), the
    /// default) slows the stream to the pace of the actor, with one item in flight at most; other
    /// messages follow their own overflow. A message that is given back, as any is while a circuit
    /// breaker is open, ends the task and the stream with it.
    ///
    /// The stream is dropped when the incarnation ends, before the next one begins, which attaches
    /// its own; messages that are queued by then stay queued. Aborting the task drops the stream
    /// earlier. A stream or conversion that panics is a failure of the actor.
    ///
    /// # Errors
    /// No more than [`MAX_TASKS`](alys_actor_system::MAX_TASKS) at once, streams included. The
    /// stream is dropped unread.
    fn attach<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static;

    /// The same, and `on_end` after the last item when the stream has ended by itself.
    ///
    /// # Errors
    /// As [`ContextExt::attach`].
    fn attach_until_end<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
        on_end: A::Message,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static;
}

impl<A: AlysActor> ContextExt<A> for Context<A> {
    fn bus(&self) -> Bus {
        Bus::clone(&self.extension::<Bus>())
    }

    fn attach<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static,
    {
        read(self, name, stream, convert, None)
    }

    fn attach_until_end<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
        on_end: A::Message,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static,
    {
        read(self, name, stream, convert, Some(on_end))
    }
}

/// Sends the items of a stream to the actor in a task of its own.
fn read<A: AlysActor, S>(
    ctx: &Context<A>,
    name: &'static str,
    stream: S,
    convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
    on_end: Option<A::Message>,
) -> Result<Task, TooManyTasks>
where
    S: Stream + Send + 'static,
{
    let addr = ctx.address();
    ctx.spawn(name, async move {
        let mut messages = pin!(stream.map(convert));
        while let Some(msg) = messages.next().await {
            if addr.send(msg).await.is_err() {
                return;
            }
        }
        if let Some(on_end) = on_end {
            // A closed mailbox belongs to an actor that has ended for good and needs no message.
            let _ = addr.send(on_end).await;
        }
    })
}
