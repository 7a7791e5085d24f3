//! Patterns of the actor system: one a module, each a story that its `run` prints and asserts.
//!
//! **Owns** nothing that other crates build on: it is read beside `docs/v2/actor-system-guide.md`.
//!
//! `cargo run -p alys-actor-patterns --example pool` runs one story; `cargo test -p
//! alys-actor-patterns` checks all of them and compiles the code of the guide; `cargo sim-test -p
//! alys-actor-patterns` checks them in the simulated world.
//!
//! **Promises**
//! - A story prints nothing that it has not asserted.
//! - It has the same outcome every time, in both worlds, and ends within two seconds.
//!
//! **Never** waits for time to pass where it can wait for an event.

pub mod access;
pub mod dependencies;
pub mod faults;
pub mod mailboxes;
pub mod observing;
pub mod pool;
pub mod pub_sub;
pub mod request_response;
pub mod start;
pub mod state_over_restarts;
pub mod supervision;

use std::{error::Error, sync::Arc, time::Duration};

use alys_actor_system::{
    Backoff, Intensity, MailboxSnapshot, Snapshot, Strategy, SupervisorSpec, System,
};
use alys_runtime::{sync::Semaphore, time};

/// The reason why a story ended early.
pub type StoryError = Box<dyn Error + Send + Sync>;

pub type Outcome = Result<(), StoryError>;

/// Longer than any step of a story takes.
pub const TIMEOUT: Duration = Duration::from_secs(30);

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A supervisor that restarts a failed child after a millisecond, as often as a story needs it.
pub fn tolerant(name: &str, strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec {
        intensity: Intensity {
            restarts: 100,
            within: TIMEOUT,
        },
        backoff: Backoff {
            initial: ms(1),
            ..Backoff::NONE
        },
        ..SupervisorSpec::new(name, strategy)
    }
}

/// Polls the supervision tree until the condition holds.
///
/// # Errors
/// It did not hold within [`TIMEOUT`].
pub async fn wait_until(
    system: &System,
    condition: &str,
    holds: impl Fn(&Snapshot) -> bool + Send,
) -> Outcome {
    let polled = time::timeout(TIMEOUT, async {
        while !holds(&system.snapshot()) {
            time::sleep(ms(1)).await;
        }
    });
    let timed_out = |_| format!("no {condition} in {:#?}", system.snapshot());
    Ok(polled.await.map_err(timed_out)?)
}

/// The mailbox of an actor; an empty one if there is no such actor.
pub fn mailbox(tree: &Snapshot, path: &str) -> MailboxSnapshot {
    let actor = tree.find(path);
    let mailbox = actor.and_then(|actor| actor.mailbox.clone());
    mailbox.unwrap_or_default()
}

/// Waits until a mailbox is empty: the actor handles its last message, or has handled it.
///
/// # Errors
/// It was not empty within [`TIMEOUT`].
pub async fn wait_until_drained(system: &System, path: &str) -> Outcome {
    let is_empty = |tree: &Snapshot| mailbox(tree, path).depth == 0;
    wait_until(system, "empty mailbox", is_empty).await
}

/// Shuts a story's system down.
///
/// # Errors
/// The shutdown abandoned work.
pub async fn shut_down(system: System) -> Outcome {
    let report = system.shutdown(TIMEOUT).await;
    if report.is_clean() {
        Ok(())
    } else {
        Err(format!("abandoned: {:?}", report.abandoned).into())
    }
}

/// Blocks a handler until it is opened, so that a story can fill the mailbox meanwhile.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Waits until the gate is open.
    pub async fn pass(&self) {
        // The semaphore is never closed, so this ends with a permit, which is returned at once.
        let _permit = self.0.acquire().await;
    }

    pub fn open(&self) {
        self.0.add_permits(1);
    }
}

/// The code of the guide, compiled by `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/v2/actor-system-guide.md")]
mod guide {}
