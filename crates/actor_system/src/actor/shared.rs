//! State that all actors of a system share.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
};

use crate::{
    actor::{cell::Cell, extension::Extensions, faults::Faults},
    lock,
    mailbox::{access::Access, home::MessageTables},
};

#[derive(Default)]
pub(crate) struct Shared {
    pub tables: Arc<MessageTables>,
    pub directory: Directory,
    pub access: OnceLock<Access>,
    pub faults: OnceLock<Arc<Faults>>,
    pub is_timed: AtomicBool,
    pub extensions: Extensions,
}

impl Shared {
    /// Registers an actor by path, type and number.
    pub fn insert(&self, entry: Entry) {
        let cell = &entry.cell;
        self.tables.insert(cell.number, cell.path.clone());
        lock(&self.directory.0).insert(cell.path.clone(), entry);
    }

    /// Removes an actor that has terminated.
    pub fn remove(&self, cell: &Cell) {
        self.tables.remove(cell.number);
        let mut entries = lock(&self.directory.0);
        let is_it = entries
            .get(&cell.path)
            .is_some_and(|entry| entry.cell.number == cell.number);
        let removed = if is_it {
            entries.remove(&cell.path)
        } else {
            None
        };
        drop(entries);
        // Dropped after the lock is released, because the destructor of a configuration is foreign
        // code.
        drop(removed);
    }
}

/// The actors that have not terminated, by path.
#[derive(Default)]
pub(crate) struct Directory(Mutex<BTreeMap<Arc<str>, Entry>>);

/// Registration of one actor.
#[derive(Clone)]
pub(crate) struct Entry {
    pub cell: Arc<Cell>,
    pub actor: TypeId,
    /// Type-erased `Addr`, without a grant; `config` is the type-erased `ConfigHandle`.
    pub addr: Arc<dyn Any + Send + Sync>,
    pub config: Arc<dyn Any + Send + Sync>,
}

impl Directory {
    pub fn find(&self, path: &str) -> Option<Entry> {
        lock(&self.0).get(path).cloned()
    }

    /// The actors of one type, sorted by path.
    pub fn of_type(&self, actor: TypeId) -> Vec<Entry> {
        let entries = lock(&self.0);
        let of_type = entries.values().filter(|entry| entry.actor == actor);
        of_type.cloned().collect()
    }
}
