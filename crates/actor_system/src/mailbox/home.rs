//! The identity of a mailbox's actor, and the tables by which a system resolves actor numbers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    lock,
    mailbox::{
        dead_letters::{DeadLetterLog, Reason},
        deadlines::Deadlines,
        waits::WaitGraph,
    },
};

/// Tables shared by the senders and mailboxes of one system. Envelopes carry actor numbers, which
/// these tables resolve to paths.
#[derive(Default)]
pub(crate) struct MessageTables {
    numbers: AtomicU64,
    /// Paths of the actors that have not terminated.
    paths: Mutex<BTreeMap<u64, Arc<str>>>,
    pub dead_letters: DeadLetterLog,
    pub deadlines: Arc<Deadlines>,
    pub waits: WaitGraph,
}

impl MessageTables {
    /// An unused actor number, from 1.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    pub fn insert(&self, number: u64, path: Arc<str>) {
        lock(&self.paths).insert(number, path);
    }

    pub fn remove(&self, number: u64) {
        lock(&self.paths).remove(&number);
        self.waits.remove(number);
    }

    pub fn path(&self, number: u64) -> Option<Arc<str>> {
        if number == 0 {
            return None;
        }
        lock(&self.paths).get(&number).cloned()
    }
}

/// The actor that reads a mailbox.
pub(crate) struct Home {
    pub number: u64,
    pub path: Arc<str>,
    pub tables: Arc<MessageTables>,
}

impl Home {
    pub fn record_dead_letter(&self, reason: Reason, kind: &'static str, from: u64) {
        let from = self.tables.path(from);
        self.tables
            .dead_letters
            .record(&self.path, from, kind, reason);
    }
}
