//! What all parts of one system share.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use crate::{
    actor::cell::Cell,
    actor::faults::Faults,
    bus::Bus,
    lock,
    mailbox::access::Access,
    mailbox::dead_letters::{Graveyard, Reason},
    mailbox::deadlines::Deadlines,
    system::Verdict,
};

#[derive(Default)]
pub(crate) struct Shared {
    numbers: AtomicU32,
    pub graveyard: Graveyard,
    pub registry: Registry,
    pub bus: Bus,
    pub access: OnceLock<Access>,
    pub faults: OnceLock<Arc<Faults>>,
    pub is_timed: AtomicBool,
    pub verdict: Verdict,
    pub deadlines: Arc<Deadlines>,
}

impl Shared {
    pub fn next_number(&self) -> u32 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    pub fn bury(&self, to: &Cell, reason: Reason, kind: &'static str, from: u32) {
        let from = self.registry.path(from);
        self.graveyard.bury(&to.path, from, kind, reason);
    }
}

/// The actors that have not ended for good, by path, type and number.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_path: BTreeMap<Arc<str>, Entry>,
    paths: BTreeMap<u32, Arc<str>>,
}

/// One actor.
#[derive(Clone)]
pub(crate) struct Entry {
    pub cell: Arc<Cell>,
    pub actor: TypeId,
    /// Its full address, and the handle of its configuration.
    pub addr: Arc<dyn Any + Send + Sync>,
    pub config: Arc<dyn Any + Send + Sync>,
    /// Those that must run before it, and stop after it.
    pub depends_on: Vec<Arc<str>>,
    pub supervisor: crate::supervision::Supervisor,
    pub child: u64,
}

impl Registry {
    pub fn insert(&self, entry: Entry) {
        let mut entries = lock(&self.0);
        entries
            .paths
            .insert(entry.cell.number, entry.cell.path.clone());
        entries.by_path.insert(entry.cell.path.clone(), entry);
    }

    pub fn remove(&self, cell: &Arc<Cell>) {
        let mut entries = lock(&self.0);
        entries.paths.remove(&cell.number);
        let is_it = entries
            .by_path
            .get(&cell.path)
            .is_some_and(|entry| Arc::ptr_eq(&entry.cell, cell));
        let removed = if is_it {
            entries.by_path.remove(&cell.path)
        } else {
            None
        };
        drop(entries);
        // Its destructors may be anything: not under the lock.
        drop(removed);
    }

    pub fn path(&self, number: u32) -> Option<Arc<str>> {
        if number == 0 {
            return None;
        }
        lock(&self.0).paths.get(&number).cloned()
    }

    pub fn find(&self, path: &str) -> Option<Entry> {
        lock(&self.0).by_path.get(path).cloned()
    }

    pub fn all(&self) -> Vec<Entry> {
        lock(&self.0).by_path.values().cloned().collect()
    }
}
