//! The key-value contract that every backend keeps.
//!
//! Owns nothing: it is the seam between what Alys stores and the engine that stores it. A backend promises that a
//! [`Batch`] is applied whole or not at all, that a [`Durability::Durable`] write survives a power loss once
//! [`KeyValue::write`] has returned, and that writes become visible and survive in the order in which they were made.

use std::sync::Arc;

/// A named table (a key space of its own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets `key` to `value`.
    Put { table: Table, key: Vec<u8>, value: Vec<u8> },
    /// Removes `key`; nothing happens when it is absent.
    Delete { table: Table, key: Vec<u8> },
}

/// Changes that are applied together, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op::Put { table, key: key.into(), value: value.into() });
        self
    }

    /// Adds a delete.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op::Delete { table, key: key.into() });
        self
    }

    /// The changes, in the order in which they are applied.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// What a write promises when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power loss.
    Durable,
    /// It survives a power loss once a later durable write has returned; until then it may be lost, but only together
    /// with everything that was written after it.
    Deferred,
}

/// In which direction a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// A key-value engine.
pub trait KeyValue: Send + Sync {
    /// The value at `key`, if there is one.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// At most `limit` entries with `start <= key < end`.
    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error>;

    /// Applies a batch whole or not at all.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error>;
}

/// A shared handle of an engine.
pub type Store = Arc<dyn KeyValue>;

/// Why the engine did not answer. After [`Error::Io`] or [`Error::Corrupt`] on a write the handle must not be used
/// again: what is on the disk is known only after reopening.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed, or the process is being torn down.
    #[error("storage {operation} failed: {reason}")]
    Io { operation: &'static str, reason: String },
    /// What is stored cannot be read as what it should be.
    #[error("storage is corrupt: {reason}")]
    Corrupt { reason: String },
    /// Another process has the database open.
    #[error("storage at {path} is in use by another process")]
    InUse { path: String },
}
