//! Execution clients, observed from outside: the blocks that each one has executed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;
use alys_integrations::embedded::ExecutionObserver;

/// An execution client observed within this time still counts as running, because it is observed at
/// intervals.
const SEEN_MS: u64 = 1_000;

struct Seen {
    witness: ExecutionObserver,
    /// Start of the present process, or of the last one if none runs.
    born_ms: u64,
    /// Last time at which the execution client was observed running.
    up_ms: u64,
}

/// The execution clients of a run by authority; clones share them.
#[derive(Clone, Default)]
pub struct ExecutionClients(Arc<Mutex<BTreeMap<u8, Seen>>>);

impl ExecutionClients {
    /// Records that an execution client started.
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

    /// Records that an execution client is still running.
    pub fn is_up(&self, index: u8, at_ms: u64) {
        if let Some(seen) = self.look().get_mut(&index) {
            seen.up_ms = at_ms;
        }
    }

    /// Returns true if an authority's execution client cannot have executed a block proposed at
    /// `proposed_ms`. An execution client that restarted since then may have executed the block
    /// before and lost it.
    pub fn cannot_have_executed(&self, index: u8, block: B256, proposed_ms: u64) -> bool {
        let all = self.look();
        let Some(seen) = all.get(&index) else {
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
