//! A stream as a source of messages for one incarnation of an actor.

use std::pin::pin;

use futures::{Stream, StreamExt};

use alys_actor_system::{AlysActor, Context, Task, TooManyTasks};

use crate::bus::Bus;

/// Methods that this crate adds to the [`Context`] of an actor.
pub trait ContextExt<A: AlysActor> {
    /// The system's bus, for publish and subscribe by event type.
    fn bus(&self) -> Bus;

    /// Sends each item of `stream`, converted to a message, to the actor's own mailbox, in order.
    /// With [`Overflow::Block`](alys_actor_system::Overflow::Block), the default, the stream slows
    /// to the pace of the actor and at most one item is in flight; other messages follow their own
    /// overflow policy. A message that is refused, for example while the circuit breaker is open,
    /// ends the task and drops the stream.
    ///
    /// The stream is dropped when the incarnation ends, before the next one starts, which must
    /// attach its own; messages already queued stay queued. Aborting the task drops the stream
    /// earlier. A panic of the stream or the conversion is a failure of the actor.
    ///
    /// # Errors
    /// [`TooManyTasks`] if the incarnation has [`MAX_TASKS`](alys_actor_system::MAX_TASKS) tasks,
    /// streams included. The stream is dropped unread.
    fn attach<S>(
        &self,
        name: &'static str,
        stream: S,
        convert: impl FnMut(S::Item) -> A::Message + Send + 'static,
    ) -> Result<Task, TooManyTasks>
    where
        S: Stream + Send + 'static;

    /// Same as [`ContextExt::attach`], and sends `on_end` after the last item when the stream ends.
    /// `on_end` is not sent if the stream is dropped earlier.
    ///
    /// # Errors
    /// Same as [`ContextExt::attach`].
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
            // The error is ignored, because an actor with a closed mailbox has terminated and needs
            // no message.
            let _ = addr.send(on_end).await;
        }
    })
}
