//! Patterns of the actor system: one a module, each a story that is told, and asserted, by its `run`.
//!
//! **Owns** nothing that others build on: it is there to be read, next to `docs/v2/actor-system-guide.md`.
//!
//! `cargo run -p alys-actor-patterns --example pool` tells one story; `cargo test -p alys-actor-patterns` checks
//! all of them, and compiles the code of the guide; `cargo sim-test -p alys-actor-patterns` checks them in the
//! simulated world.
//!
//! **Promises**
//! - A story that ends without an error is true: what it prints, it has asserted.
//! - It comes out the same every time, in both worlds, and ends by itself within two seconds.
//!
//! **Never** waits for time to pass where it can wait for what happens.

pub mod access;
pub mod backpressure;
pub mod configuration;
pub mod dependencies;
pub mod faults;
pub mod kept_state;
pub mod observing;
pub mod pool;
pub mod priorities;
pub mod pub_sub;
pub mod request_response;
pub mod start;
pub mod supervision;

use std::{error::Error, sync::Arc, time::Duration};

use alys_actor_system::{
    Backoff, Intensity, MailboxSnapshot, Snapshot, Strategy, SupervisorSpec, System,
};
use alys_runtime::{sync::Semaphore, time};

/// Why a story is not true.
pub type Failed = Box<dyn Error + Send + Sync>;

/// What a story comes to.
pub type Outcome = Result<(), Failed>;

/// Longer than anything takes that is going to happen at all.
pub const LONG: Duration = Duration::from_secs(30);

/// A duration in milliseconds.
pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A supervisor that restarts what failed after a millisecond, as often as a story needs it.
pub fn patient(name: &str, strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec {
        intensity: Intensity {
            restarts: 100,
            within: LONG,
        },
        backoff: Backoff {
            initial: ms(1),
            ..Backoff::NONE
        },
        ..SupervisorSpec::new(name, strategy)
    }
}

/// Waits until the tree looks as it should.
///
/// # Errors
/// It never did.
pub async fn until(
    system: &System,
    what: &str,
    is_so: impl Fn(&Snapshot) -> bool + Send,
) -> Outcome {
    let seen = time::timeout(LONG, async {
        while !is_so(&system.snapshot()) {
            time::sleep(ms(1)).await;
        }
    });
    seen.await
        .map_err(|_| format!("{what} never came: {:#?}", system.snapshot()).into())
}

/// The mailbox of an actor as it is now; an empty one if there is no such actor.
pub fn mailbox(tree: &Snapshot, path: &str) -> MailboxSnapshot {
    tree.find(path)
        .and_then(|actor| actor.mailbox.clone())
        .unwrap_or_default()
}

/// Waits until nothing waits in a mailbox any more: the last that was told is in the actor's hand, or done.
///
/// # Errors
/// It never came to that.
pub async fn in_hand(system: &System, path: &str) -> Outcome {
    until(system, "an empty mailbox", |tree| {
        mailbox(tree, path).depth == 0
    })
    .await
}

/// Ends a story: nothing may be left undone.
///
/// # Errors
/// Something was.
pub async fn end(system: System) -> Outcome {
    let report = system.shutdown(LONG).await;
    if report.is_clean() {
        Ok(())
    } else {
        Err(format!("left undone: {:?}", report.abandoned).into())
    }
}

/// Holds a handler up until somebody opens it: what a story needs to look at a full mailbox in peace.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Waits until it is open.
    pub async fn pass(&self) {
        // Nobody closes the semaphore itself, so that this ends only once there is a permit, which goes back.
        let _passed = self.0.acquire().await;
    }

    /// Lets all through who come, one after the other.
    pub fn open(&self) {
        self.0.add_permits(1);
    }
}

/// The code of the guide, compiled by `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/v2/actor-system-guide.md")]
mod guide {}
