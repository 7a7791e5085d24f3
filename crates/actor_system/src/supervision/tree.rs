//! State that the supervisors of a system share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use alys_runtime::sync::Notify;

use crate::{
    actor::{cell::Cell, error::Failure},
    lock,
    supervision::Supervisor,
};

#[derive(Default)]
pub(crate) struct TreeState {
    reason: Mutex<Option<Failure>>,
    failed: Notify,
    /// Actors with dependencies, by path.
    dependents: Mutex<BTreeMap<Arc<str>, Dependent>>,
}

/// An actor with dependencies. A shutdown stops it before them.
#[derive(Clone)]
pub(crate) struct Dependent {
    pub cell: Arc<Cell>,
    pub depends_on: Vec<Arc<str>>,
    pub supervisor: Supervisor,
    pub child: u64,
}

impl TreeState {
    /// Records the failure of the system. Only the first reason is kept.
    pub fn fail(&self, reason: Failure) {
        lock(&self.reason).get_or_insert(reason);
        self.failed.notify_waiters();
    }

    #[cfg(test)]
    pub fn has_failed(&self) -> bool {
        lock(&self.reason).is_some()
    }

    /// Waits until the system has failed.
    pub async fn failure(&self) -> Failure {
        loop {
            let failed = self.failed.notified();
            if let Some(reason) = lock(&self.reason).clone() {
                return reason;
            }
            failed.await;
        }
    }

    pub fn add_dependent(&self, dependent: Dependent) {
        let path = dependent.cell.path.clone();
        let replaced = lock(&self.dependents).insert(path, dependent);
        drop(replaced);
    }

    /// The dependents that have not terminated.
    pub fn dependents(&self) -> Vec<Dependent> {
        let dependents: Vec<_> = lock(&self.dependents).values().cloned().collect();
        dependents
            .into_iter()
            .filter(|dependent| {
                let cell = &dependent.cell;
                let known = cell.shared.directory.find(&cell.path);
                known.is_some_and(|entry| entry.cell.number == cell.number)
            })
            .collect()
    }

    /// Drops the dependents, because their supervisor handles keep parts of the system alive.
    pub fn forget_dependents(&self) {
        let forgotten = std::mem::take(&mut *lock(&self.dependents));
        drop(forgotten);
    }
}
