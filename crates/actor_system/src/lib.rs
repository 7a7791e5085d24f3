//! Actor runtime: bounded mailboxes, supervision and lifecycle. Independent of the blockchain.
//!
//! **Owns** the mailboxes, the tasks of actors, and the decisions about failures.
//!
//! An actor ([`AlysActor`]) is state with one task and one bounded mailbox. Senders hold its
//! address ([`Addr`]) and `tell`, `send` or `ask`. A factory creates the actor under a
//! [`Supervisor`], which restarts it after a failure; supervisors nest up to the root of a
//! [`System`].
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use alys_actor_system::{
//!     AlysActor, ChildSpec, Context, Message, Reply, Strategy, SupervisorSpec, System,
//! };
//!
//! struct Counter(u64);
//!
//! enum CounterMessage {
//!     Added(u64),
//!     GetTotal { reply: Reply<u64> },
//! }
//!
//! impl Message for CounterMessage {
//!     fn kind(&self) -> &'static str {
//!         match self {
//!             Self::Added(_) => "added",
//!             Self::GetTotal { .. } => "get_total",
//!         }
//!     }
//! }
//!
//! impl AlysActor for Counter {
//!     type Message = CounterMessage;
//!     type Error = Infallible;
//!     type Config = ();
//!     const NAME: &'static str = "Counter";
//!
//!     async fn handle(
//!         &mut self,
//!         msg: CounterMessage,
//!         _: &Context<Self>,
//!     ) -> Result<(), Infallible> {
//!         match msg {
//!             CounterMessage::Added(n) => self.0 += n,
//!             CounterMessage::GetTotal { reply } => {
//!                 reply.send(self.0);
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # alys_runtime::block_on_main(async {
//! let system = System::new("example");
//! let supervisor = system
//!     .supervisor(SupervisorSpec::new("counters", Strategy::OneForOne))
//!     .unwrap();
//! let counter = supervisor
//!     .start(ChildSpec::new("a"), 16, || async { Ok::<_, Infallible>(Counter(0)) })
//!     .unwrap();
//! counter.tell(CounterMessage::Added(2)).unwrap();
//! let total = counter
//!     .ask(|reply| CounterMessage::GetTotal { reply }, Duration::from_secs(1))
//!     .await;
//! assert_eq!(total, Ok(2));
//! assert!(system.shutdown(Duration::from_secs(1)).await.is_clean());
//! # });
//! ```
//!
//! **Promises**
//! - An accepted message is handled once, in the order of its sender, unless its handler failed (it
//!   is not retried), a stop's deadline interrupted the handler, or the actor terminated first.
//!   Each of these cases is counted.
//! - A panic or error in an actor or one of its tasks ends that incarnation only. The address stays
//!   valid, queued messages stay queued, and the tasks and timers of the incarnation end before the
//!   next one starts.
//! - An actor has at most one incarnation at a time, because one task creates them in sequence.
//! - A supervisor restarts children at most as often as its intensity allows. Beyond that it fails
//!   itself, and the failure propagates up to [`System::failed`].
//! - Mailboxes, children, tasks, timers, restarts and the duration of a stop are bounded.
//! - Lifecycle transitions are checked against the table of [`lifecycle`]; an illegal one is
//!   refused and logged.
//!
//! **Never** reads a wall clock, performs IO, starts a thread or blocks; never drops a message
//! without counting it; never panics because an actor did. It cannot interrupt code that computes
//! without awaiting; a stop reports such an actor as unresponsive.
//!
//! Trace events (simulation only): `actor` at the start of each handler (path, zero byte, kind),
//! `actor.state` for each lifecycle transition. Logs: WARN for each restart with its reason, ERROR
//! only when the root gives up or for a bug in this crate.

mod actor;
mod interceptor;
mod mailbox;
mod supervision;
mod system;
pub mod testkit;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use actor::{
    AlysActor, Context, Health,
    cell::{MAX_CHILDREN, MailboxSnapshot, Snapshot},
    config::{ConfigHandle, Kept},
    error::{Failure, IllegalTransition, LookupError, Phase, StartError, TooManyTasks, panic_text},
    extension::{Extension, SystemEvent},
    faults::{Fault, Faults, MAX_PLANNED, MAX_SEEN, Planned},
    incarnation::Batch,
    lifecycle::{self, State},
    orders::Abandoned,
    scope::{MAX_TASKS, MAX_TIMERS, Task, Timer},
};
pub use mailbox::{
    Limits, Slot, access,
    address::{Addr, Retry},
    backoff::Backoff,
    dead_letters::{DEAD_LETTERS_KEPT, DeadLetter, DeadLetters, Reason},
    envelope::{EnvelopeInfo, MessageId},
    error::{AskError, SendError, TellError},
    mailbox,
    message::{Message, Overflow, Priority, Receipt, Reply},
    queues::MAX_OVERTAKES,
    squeeze,
};
pub use supervision::{
    ChildSpec, Supervisor, SupervisorSpec,
    policy::{self, Breaker, Exhausted, Intensity, Restart, RestartDelay, Strategy},
};
pub use system::{ShutdownReport, System, metrics};

/// Locks a mutex and ignores poisoning, because code of actors never runs under it and cannot leave
/// its data half updated.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The instant `delay` after now, saturated as in [`later`].
fn after(delay: Duration) -> Instant {
    later(alys_runtime::time::now(), delay)
}

/// The instant `delay` after `begun`. The delay saturates at thirty years, because adding more may
/// overflow an instant.
fn later(begun: Instant, delay: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    begun + delay.min(FAR)
}

/// True if the tracing level is DEBUG or lower, at which each message gets a span. Costs one atomic
/// load.
fn spans_are_on() -> bool {
    tracing::level_filters::LevelFilter::current() >= tracing::level_filters::LevelFilter::DEBUG
}
