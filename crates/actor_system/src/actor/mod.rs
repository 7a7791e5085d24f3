//! The actor trait, and the [`Context`] that the system passes to its hooks.

pub(crate) mod cell;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod error;
pub(crate) mod extension;
pub(crate) mod faults;
pub(crate) mod frame;
pub(crate) mod incarnation;
pub mod lifecycle;
pub(crate) mod orders;
pub(crate) mod scope;
pub(crate) mod shared;
pub(crate) mod task;

use std::{any::TypeId, future::Future, sync::Arc, time::Duration};

use crate::{
    actor::cell::Cell,
    actor::config::ConfigCell,
    actor::error::{Failure, LookupError, TooManyTasks},
    actor::extension::Extension,
    actor::incarnation::Batch,
    actor::scope::{Scope, Task, Timer, Timers},
    actor::shared::{Entry, Shared},
    mailbox::address::Addr,
    mailbox::current,
    mailbox::envelope::{EnvelopeInfo, Link},
    mailbox::message::Message,
};

/// An actor: it handles one message at a time and has exclusive access to its state.
///
/// Every hook runs in the actor's task. A panic or an error in any of them ends the incarnation,
/// and the supervisor decides about a restart. The mailbox and its queued messages are kept; the
/// message being handled is lost.
///
/// The factory creates an incarnation, whose hooks then run in this order:
/// [`pre_start`](Self::pre_start), [`post_restart`](Self::post_restart) if it is not the first,
/// [`started`](Self::started), its messages, and then either [`pre_stop`](Self::pre_stop) and
/// [`stopped`](Self::stopped), or [`pre_restart`](Self::pre_restart) after a failure. No further
/// hook runs after a failed start, or after a failure or a cancelled handler during a stop.
pub trait AlysActor: Sized + Send + 'static {
    /// Messages that the actor handles, as one enum.
    type Message: Message;
    /// Faults of our own, which end the incarnation. A fault of a peer or an external system is an
    /// outcome to handle, not an error.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Configuration that can be replaced while the actor runs ([`Context::config`]); `()` for
    /// none.
    type Config: Send + Sync + 'static;
    /// Name of the actor type, such as `ChainActor`. The name of an instance is in its
    /// [`ChildSpec`](crate::ChildSpec).
    const NAME: &'static str;
    /// Maximum messages of one [`handle_batch`](Self::handle_batch). With 1, the default,
    /// [`handle`](Self::handle) is called for each message instead.
    const BATCH: usize = 1;

    /// First hook: acquires resources.
    fn pre_start(
        &mut self,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Runs after `pre_start` of an incarnation that follows a failed or stopped one.
    fn post_restart(
        &mut self,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Last hook before the first message. Actors that depend on this one start after it.
    fn started(
        &mut self,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Handles one message.
    fn handle(
        &mut self,
        msg: Self::Message,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Handles up to [`BATCH`](Self::BATCH) queued messages together, for actors that profit from
    /// batching, such as a database that syncs once per batch. Messages left in the batch return to
    /// the mailbox, also after a failure; those of timers are due again immediately, and are lost
    /// after a failure.
    fn handle_batch(
        &mut self,
        batch: &mut Batch<Self::Message>,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async move {
            while let Some(msg) = batch.take() {
                self.handle(msg, ctx).await?;
            }
            Ok(())
        }
    }

    /// Runs between messages after the configuration was replaced; [`Context::config`] returns the
    /// new one.
    fn reconfigured(
        &mut self,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Last hook of an incarnation that failed while running. It can save state for the next one
    /// ([`Kept`](crate::Kept)). After a panic the state may be inconsistent.
    fn pre_restart(
        &mut self,
        failure: &Failure,
        ctx: &Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (failure, ctx);
        async {}
    }

    /// First hook of a stop. If the actor stops permanently, queued messages are handled after it.
    fn pre_stop(&mut self, ctx: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }

    /// Last hook of a stop, after the last message. Does not run after a failure.
    fn stopped(&mut self, ctx: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }

    /// The actor's own assessment of its health. It must be cheap, because it runs after each
    /// message.
    fn health_check(&self) -> Health {
        Health::Healthy
    }

    /// Memory of the actor's state in bytes, for children with a
    /// [`memory_budget`](crate::ChildSpec::memory_budget). It must be cheap, because it runs after
    /// each message of such a child.
    fn memory(&self) -> usize {
        0
    }
}

/// Health of an actor or supervisor. The text of a variant is its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Fully functional.
    #[default]
    Healthy,
    /// Partly functional.
    Degraded(&'static str),
    /// Not functional.
    Unhealthy(&'static str),
}

impl Health {
    /// Returns the worse of the two; `self` if they are equally bad.
    pub fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() {
            other
        } else {
            self
        }
    }

    /// The effect on a supervisor's health of a child with this one: an unhealthy child degrades
    /// it.
    pub(crate) fn seen_from_above(self) -> Self {
        match self {
            Self::Unhealthy(why) => Self::Degraded(why),
            other => other,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded(_) => 1,
            Self::Unhealthy(_) => 2,
        }
    }
}

/// The interface of one incarnation to the system. Its tasks and timers end with the incarnation.
pub struct Context<A: AlysActor> {
    pub(crate) addr: Addr<A::Message>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) incarnation: u64,
    pub(crate) scope: Arc<Scope>,
    pub(crate) timers: Arc<Timers<A::Message>>,
    pub(crate) config: Arc<ConfigCell<A::Config>>,
}

impl<A: AlysActor> Context<A> {
    /// The actor's own address, which stays valid across restarts.
    pub fn address(&self) -> Addr<A::Message> {
        self.addr.clone()
    }

    /// Full path of the actor: system, supervisors and name, joined by slashes.
    pub fn path(&self) -> &str {
        &self.cell.path
    }

    /// Number of this incarnation: 1 for the first, incremented at each restart.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The current configuration.
    pub fn config(&self) -> Arc<A::Config> {
        self.config.get()
    }

    /// Metadata of the message being handled; none in tasks and in hooks other than `handle` and
    /// `handle_batch`.
    pub fn envelope(&self) -> Option<EnvelopeInfo> {
        current::with(|frame| {
            let meta = &frame.meta;
            EnvelopeInfo {
                id: frame.id,
                correlation: frame.correlation,
                sender: self.shared().tables.path(meta.sender),
                priority: meta.priority,
                deadline: meta.deadline,
                sent: meta.sent(),
                incarnation: meta.incarnation,
                waiting: Link::chain(meta.chain.as_deref())
                    .filter_map(|link| self.shared().tables.path(link.asker))
                    .collect(),
            }
        })
    }

    /// Looks up an actor of the same system by its path below the system (`"storage/store"`). Under
    /// [access rules](crate::access) the address is restricted to the messages that this actor's
    /// role may send to the target's.
    ///
    /// # Errors
    /// [`LookupError`] if there is no such actor, its message type is not `M`, or no access rule
    /// allows this actor to send to it.
    pub fn find<M: Message>(&self, path: &str) -> Result<Addr<M>, LookupError> {
        find(self.shared(), &self.cell, path)
    }

    /// The system's extension of type `T`, created at its first use.
    pub fn extension<T: Extension>(&self) -> Arc<T> {
        self.shared().extensions.get()
    }

    /// Spawns a task that runs beside the actor. It is aborted when the incarnation ends, and ends
    /// before the next one starts. Its panic is a failure of the actor.
    ///
    /// # Errors
    /// [`TooManyTasks`] if [`MAX_TASKS`](crate::MAX_TASKS) tasks of this incarnation are running.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> Result<Task, TooManyTasks>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.scope.spawn(name, task)
    }

    /// Delivers `msg` to this incarnation after `delay`, without using room in the mailbox; due
    /// timers and queued messages alternate. The message never reaches a later incarnation. A
    /// message that a batch does not take is due again immediately. A stop cancels all timers whose
    /// message is not being handled. Dropping the [`Timer`] does not cancel it.
    ///
    /// Setting more than [`MAX_TIMERS`](crate::MAX_TIMERS) pending timers fails the actor.
    pub fn send_after(&self, delay: Duration, msg: A::Message) -> Timer {
        Timers::set(&self.timers, self.incarnation, delay, msg)
    }

    /// Stops the actor after the current message, without a failure. A
    /// [permanent](crate::Restart::Permanent) actor is restarted and keeps its queue; for others
    /// the mailbox closes, and queued messages are dropped and counted as abandoned.
    pub fn stop(&self) {
        self.scope.request_stop();
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.cell.shared
    }
}

/// Looks up an actor on behalf of another, under the access rules.
pub(crate) fn find<M: Message>(
    shared: &Shared,
    asker: &Cell,
    path: &str,
) -> Result<Addr<M>, LookupError> {
    let system = asker.path.split('/').next().unwrap_or_default();
    let full = format!("{system}/{path}");
    let (addr, target) = find_unchecked::<M>(shared, &full)?;
    let Some(access) = shared.access.get() else {
        return Ok(addr);
    };
    match (&asker.role, &target.role) {
        (Some(from), Some(to)) => match access.grant(from, to, &full) {
            Ok(grant) => Ok(addr.granted(grant)),
            Err(denied) => Err(LookupError::Denied {
                path: full,
                reason: denied.to_string(),
            }),
        },
        // The rules apply between roles. An actor without a role is unrestricted, like the code
        // that constructs the system.
        (None, _) | (_, None) => Ok(addr),
    }
}

/// Looks up an actor by its full path, without access rules.
pub(crate) fn find_unchecked<M: Message>(
    shared: &Shared,
    full: &str,
) -> Result<(Addr<M>, Arc<Cell>), LookupError> {
    let path = || full.to_owned();
    let entry = shared.directory.find(full);
    let entry = entry.ok_or_else(|| LookupError::Unknown { path: path() })?;
    let addr = entry.addr.downcast_ref::<Addr<M>>().cloned();
    let addr = addr.ok_or_else(|| LookupError::OtherMessage { path: path() })?;
    Ok((addr, entry.cell))
}

/// Addresses of all actors of type `A`, sorted by path.
pub(crate) fn find_all<A: AlysActor>(shared: &Shared) -> Vec<Addr<A::Message>> {
    let entries = shared.directory.of_type(TypeId::of::<A>());
    let addr = |entry: &Entry| entry.addr.downcast_ref::<Addr<A::Message>>().cloned();
    entries.iter().filter_map(addr).collect()
}
