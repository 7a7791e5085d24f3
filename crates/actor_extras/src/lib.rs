//! Pools, groups, a bus, streams and a gateway, built on the public API of `alys-actor-system`.
//!
//! **Owns** the choice of a pool's worker, the subscriptions of a bus, and the frames of a gateway:
//!
//! | module | purpose | entry |
//! |---|---|---|
//! | pool | identical workers behind one handle | [`SupervisorExt::pool`] |
//! | group | several actors of one message type, addressed together | [`Group`] |
//! | bus | publish and subscribe by the type of the event | [`SystemExt::bus`], [`ContextExt::bus`] |
//! | stream | a stream as a source of messages for an actor | [`ContextExt::attach`] |
//! | [`gateway`] | messages from another process, as bytes | [`gateway::Gateway`] |
//!
//! **Promises**
//! - Everything is bounded: workers, members, subscriptions, buffers, frames.
//! - An actor that is full, slow or gone costs the others nothing; its loss is counted or returned.
//!
//! **Never** waits where the name does not say so, and is never in the hot path of the core, which
//! does not know this crate.

mod bus;
pub mod gateway;
mod group;
mod pool;
mod stream;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use bus::{
    Bus, Event, EventStream, MAX_NESTED_PUBLISHES, MAX_SUBSCRIPTIONS, Published, SubscribeError,
    Subscription, SubscriptionSnapshot, SystemExt, TopicSnapshot,
};
pub use group::{ByMember, Group, JoinError, MAX_MEMBERS};
pub use pool::{MAX_POOL, Pool, PoolError, PoolSpec, Routing, SupervisorExt};
pub use stream::ContextExt;

/// Locks data that no foreign code changes, so that a panic elsewhere leaves it valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
