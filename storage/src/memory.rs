//! The backend without a disk: a sorted map in memory.
//!
//! Its entries are lost when it is dropped, so [`Durability`] has no meaning here. It serves tests,
//! and it is the model with which the conformance suite compares every other backend.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use crate::kv::{Batch, Direction, Durability, Error, KeyValue, Op, Table};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key-value store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    // Poisoning is ignored: nothing panics while a batch is applied, so no half of one can be
    // visible.
    tables: RwLock<BTreeMap<Table, Entries>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }
}

impl KeyValue for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tables
            .get(&table)
            .and_then(|entries| entries.get(key))
            .cloned())
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = tables.get(&table).filter(|_| start < end) else {
            return Ok(Vec::new());
        };
        let hits = entries.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match direction {
            Direction::Forward => hits.take(limit).map(owned).collect(),
            Direction::Backward => hits.rev().take(limit).map(owned).collect(),
        })
    }

    fn write(&self, batch: Batch, _durability: Durability) -> Result<(), Error> {
        batch.check_limits()?;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for op in batch.into_ops() {
            match op {
                Op::Put { table, key, value } => {
                    tables.entry(table).or_default().insert(key, value);
                }
                Op::Delete { table, key } => {
                    if let Some(entries) = tables.get_mut(&table) {
                        entries.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }
}
