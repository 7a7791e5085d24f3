//! The actor trait, and the [`Context`] through which an actor acts.

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

/// Something that handles one message at a time and owns its state alone.
///
/// Every hook runs inside the actor's own task. A panic or an error in any of them ends this
/// incarnation, and the supervisor decides what follows; the mailbox and what waits in it stay, but
/// for the message that was being handled.
///
/// An incarnation is made by the factory and then sees: [`pre_start`](Self::pre_start),
/// [`post_restart`](Self::post_restart) if it is not the first, [`started`](Self::started), its
/// messages, and then either [`pre_stop`](Self::pre_stop) and [`stopped`](Self::stopped), or
/// [`pre_restart`](Self::pre_restart). One that fails while a stop waits for it sees no more of
/// these, nor does one that is cut off because the stop's time is up, nor one whose start failed.
pub trait AlysActor: Sized + Send + 'static {
    /// The enum of its messages.
    type Message: Message;
    /// Faults of ours, which end the incarnation. A mistake of a peer or of the outside world is an
    /// outcome to be handled and no error.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Configuration that can be replaced while it runs ([`Context::config`]); `()` for none.
    type Config: Send + Sync + 'static;
    /// Name of the type of actor, such as `ChainActor`. The name of one instance is in its
    /// [`ChildSpec`](crate::ChildSpec).
    const NAME: &'static str;
    /// Messages that [`handle_batch`](Self::handle_batch) is given at once, at most.
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

    /// One message.
    fn handle(
        &mut self,
        msg: Self::Message,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Up to [`BATCH`](Self::BATCH) messages that wait together, for actors that do better with
    /// many at once: a database that syncs once for all of them. What it does not take out of the
    /// batch goes back to the mailbox, also when it fails; a timer's message goes back to the
    /// timers, and ends with them when it fails.
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

    /// The configuration was replaced; it is in the context. Called between messages.
    fn reconfigured(
        &mut self,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Last hook of an incarnation that failed while it ran: it can save state for the next one
    /// ([`Kept`](crate::Kept)). After a panic the state may be half changed.
    fn pre_restart(
        &mut self,
        failure: &Failure,
        ctx: &Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (failure, ctx);
        async {}
    }

    /// A stop was ordered; queued messages are handled after this hook.
    fn pre_stop(&mut self, ctx: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }

    /// After the last message, when the actor is stopped, but not when it failed.
    fn stopped(&mut self, ctx: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }

    /// Health as the actor judges it. Called after each message, so it must be cheap.
    fn health_check(&self) -> Health {
        Health::Healthy
    }

    /// Bytes that its state holds in memory, for children with a
    /// [`memory_budget`](crate::ChildSpec::memory_budget). Asked after each message then, so it
    /// must be cheap.
    fn memory(&self) -> usize {
        0
    }
}

/// An actor's own judgement of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Does all that it promises.
    #[default]
    Healthy,
    /// Does a part of it.
    Degraded(&'static str),
    /// Does nothing useful.
    Unhealthy(&'static str),
}

impl Health {
    /// The worse of the two; the first of two that are equally bad.
    pub fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() {
            other
        } else {
            self
        }
    }

    /// The health of a supervisor with such a child: an unhealthy child degrades it.
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

/// One incarnation's view of the system. Everything made through it ends with the incarnation.
pub struct Context<A: AlysActor> {
    pub(crate) addr: Addr<A::Message>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) incarnation: u64,
    pub(crate) scope: Arc<Scope>,
    pub(crate) timers: Arc<Timers<A::Message>>,
    pub(crate) config: Arc<ConfigCell<A::Config>>,
}

impl<A: AlysActor> Context<A> {
    /// The actor's own address. It stays valid over restarts.
    pub fn address(&self) -> Addr<A::Message> {
        self.addr.clone()
    }

    /// System, supervisors and name, joined by slashes.
    pub fn path(&self) -> &str {
        &self.cell.path
    }

    /// 1 for the first incarnation, one more after each restart.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<A::Config> {
        self.config.get()
    }

    /// Metadata of the message that is handled; none in other hooks than `handle` and
    /// `handle_batch`, and in tasks.
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
                attempt: meta.attempt,
                waiting: Link::chain(meta.chain.as_ref())
                    .filter_map(|link| self.shared().tables.path(link.asker))
                    .collect(),
            }
        })
    }

    /// The address of another actor of the system, by its path below the system
    /// (`"storage/store"`). If the system has rules about [who may send what](crate::access), it is
    /// good for what this actor's role may send to that one's.
    ///
    /// # Errors
    /// There is no such actor, it understands other messages, or this actor may not send it
    /// anything.
    pub fn find<M: Message>(&self, path: &str) -> Result<Addr<M>, LookupError> {
        find(self.shared(), &self.cell, path)
    }

    /// The system's extension of this type, created at the first use.
    pub fn extension<T: Extension>(&self) -> Arc<T> {
        self.shared().extensions.get()
    }

    /// Runs a task beside the actor. It is aborted when the incarnation ends, and gone before the
    /// next one begins; its panic counts as a failure of the actor.
    ///
    /// # Errors
    /// No more than [`MAX_TASKS`](crate::MAX_TASKS) at once.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> Result<Task, TooManyTasks>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.scope.spawn(name, task)
    }

    /// Hands `msg` to this incarnation after `delay`, whether or not there is room in the mailbox:
    /// timers that are due and what waits there take turns. It never reaches a later incarnation,
    /// and one that a batch does not take is due again at once. A stop ends all that are not in
    /// hand. Dropping the [`Timer`] does not cancel it.
    ///
    /// More than [`MAX_TIMERS`](crate::MAX_TIMERS) at once are a failure of the actor.
    pub fn send_after(&self, delay: Duration, msg: A::Message) -> Timer {
        Timers::set(&self.timers, delay, msg)
    }

    /// Ends the actor after the current message, without a failure. An actor that must always run
    /// is restarted and keeps its queue; otherwise the mailbox closes, and what waits in it is
    /// dropped and counted as abandoned.
    pub fn stop(&self) {
        self.scope.request_stop();
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.cell.shared
    }
}

/// Looks an actor up on behalf of another.
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
        // The rules are about roles: an actor without one is as free as the code that constructs
        // the system.
        (None, _) | (_, None) => Ok(addr),
    }
}

/// Looks an actor up by its full path.
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

/// The addresses of all actors of a type, by path.
pub(crate) fn find_all<A: AlysActor>(shared: &Shared) -> Vec<Addr<A::Message>> {
    let entries = shared.directory.of_type(TypeId::of::<A>());
    let addr = |entry: &Entry| entry.addr.downcast_ref::<Addr<A::Message>>().cloned();
    entries.iter().filter_map(addr).collect()
}
