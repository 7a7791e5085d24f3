//! What an actor is, and what it may do through its [`Context`].

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    error::TooManyTasks,
    mailbox::{Addr, Message},
    scope::{Scope, Task, Timer, Timers},
};

/// Something that handles one message at a time and owns its state alone.
///
/// Every hook runs inside the actor's own task. A panic or an error in any of them ends this incarnation, and
/// the supervisor decides what follows; the mailbox and what waits in it stay, but for the message that was
/// being handled.
pub trait AlysActor: Sized + Send + 'static {
    /// The enum of its messages.
    type Message: Message;
    /// Faults of ours, which end the incarnation. What a peer or the world got wrong is no error but an outcome
    /// to be handled.
    type Error: std::error::Error + Send + Sync + 'static;
    /// What it is, as in the seeds: `ChainActor`. The name of one instance is in its
    /// [`ChildSpec`](crate::ChildSpec).
    const NAME: &'static str;

    /// Before the first message of each incarnation.
    fn started(&mut self, ctx: &Context<Self>) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// One message.
    fn handle(
        &mut self,
        msg: Self::Message,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// After the last message, when the actor is stopped, but not when it failed.
    fn stopping(&mut self, ctx: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }

    /// How it judges itself. Asked after each message, so it must be cheap.
    fn health(&self) -> Health {
        Health::Healthy
    }
}

/// An actor's own judgement of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Does all that it promises.
    #[default]
    Healthy,
    /// Does a part of it.
    Degraded(&'static str),
    /// Does nothing useful.
    Unhealthy(&'static str),
}

/// One incarnation's view of the system. Everything made through it ends with the incarnation.
pub struct Context<A: AlysActor> {
    pub(crate) addr: Addr<A::Message>,
    pub(crate) path: Arc<str>,
    pub(crate) incarnation: u64,
    pub(crate) scope: Arc<Scope>,
    pub(crate) timers: Arc<Timers<A::Message>>,
}

impl<A: AlysActor> Context<A> {
    /// The actor's own address. It stays valid over restarts.
    pub fn address(&self) -> Addr<A::Message> {
        self.addr.clone()
    }

    /// System, supervisors and name, joined by slashes.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// 1 for the first incarnation, one more after each restart.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Runs a task beside the actor. It is aborted when the incarnation ends, and gone before the next one
    /// begins; its panic counts as a failure of the actor.
    ///
    /// # Errors
    /// No more than [`MAX_TASKS`](crate::MAX_TASKS) at once.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> Result<Task, TooManyTasks>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.scope.spawn(name, task)
    }

    /// Hands `msg` to this incarnation after `delay`, ahead of what waits in the mailbox and whether or not
    /// there is room in it. It never reaches a later incarnation. Dropping the [`Timer`] does not cancel it.
    ///
    /// More than [`MAX_TIMERS`](crate::MAX_TIMERS) at once are a failure of the actor.
    pub fn send_after(&self, delay: Duration, msg: A::Message) -> Timer {
        Timers::set(&self.timers, delay, msg)
    }

    /// Ends the actor after the current message, without a failure. An actor that must always run is restarted
    /// and keeps its queue; otherwise the mailbox closes, and what waits in it is dropped and counted as
    /// abandoned.
    pub fn stop(&self) {
        self.scope.request_stop();
    }
}
