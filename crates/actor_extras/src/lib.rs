//! Actor pools, groups, an event bus, streams and a gateway, built on the public API of
//! `alys-actor-system`.
//!
//! **Owns** the routing of pools, the subscriptions of a bus, and the frame format of a gateway:
//!
//! | module | purpose | entry |
//! |---|---|---|
//! | pool | identical workers behind one handle | [`SupervisorExt::pool`] |
//! | group | broadcast to several actors with one message type | [`Group`] |
//! | bus | publish and subscribe by event type | [`SystemExt::bus`], [`ContextExt::bus`] |
//! | stream | a stream as a source of messages for an actor | [`ContextExt::attach`] |
//! | [`gateway`] | messages from another process, as bytes | [`gateway::Gateway`] |
//!
//! **Promises**
//! - Workers, members, subscriptions, buffers and frames are bounded.
//! - A full, slow or terminated actor does not affect the others; a message it misses is counted or
//!   returned.
//!
//! **Never** waits except in `async` functions, and never runs in the hot path of the core, which
//! does not depend on this crate.

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

/// Locks a mutex and ignores poisoning, because foreign code never runs under it and cannot leave
/// its data half updated.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
