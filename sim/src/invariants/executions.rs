//! Execution clients as they are seen from outside: who has executed what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;
use alys_integrations::embedded::ExecutionObserver;

/// How long ago a client may have been seen that is taken to be there still.
const SEEN_MS: u64 = 1_000;

struct Seen {
    witness: ExecutionObserver,
    /// When its present life began, or its last one.
    born_ms: u64,
    /// When it was last known to run.
    up_ms: u64,
}

/// The execution clients of a run, by authority. Clones are the same.
#[derive(Clone, Default)]
pub struct Clients(Arc<Mutex<BTreeMap<u8, Seen>>>);

impl Clients {
    /// A client runs.
    pub fn born(&self, index: u8, at_ms: u64, witness: ExecutionObserver) {
        self.look().insert(
            index,
            Seen {
                witness,
                born_ms: at_ms,
                up_ms: at_ms,
            },
        );
    }

    /// A client runs still.
    pub fn is_up(&self, index: u8, at_ms: u64) {
        if let Some(seen) = self.look().get_mut(&index) {
            seen.up_ms = at_ms;
        }
    }

    /// Whether an authority's client cannot have executed a block that has been there since `proposed_ms`. What a client
    /// lost in a restart since then it may have executed before.
    pub fn cannot_have_executed(&self, index: u8, block: B256, proposed_ms: u64) -> bool {
        let clients = self.look();
        let Some(seen) = clients.get(&index) else {
            return false;
        };
        match seen.witness.has_executed(block) {
            Some(has) => !has && seen.born_ms < proposed_ms,
            None => seen.up_ms + SEEN_MS < proposed_ms,
        }
    }

    fn look(&self) -> MutexGuard<'_, BTreeMap<u8, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
