//! The key-value contract of every backend.
//!
//! A backend guarantees that a [`Batch`] is applied whole or not at all, that a
//! [`Durability::Durable`] write survives a power loss once [`KeyValue::write`] has returned, and
//! that writes become visible and survive in the order in which they were made.

use std::sync::Arc;

/// Longest key in bytes. Keys are hashes, heights and addresses, so a longer one is a bug.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value in bytes. A block has 8 MiB at most; contract code and indexes are far smaller.
pub const MAX_VALUE_BYTES: usize = 32 * 1024 * 1024;
/// Most bytes of keys and values in one batch, because an engine holds a batch in memory until it
/// is committed.
pub const MAX_BATCH_BYTES: usize = 256 * 1024 * 1024;

/// A named key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets `key` to `value`.
    Put {
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// Removes `key`, if it is present.
    Delete { table: Table, key: Vec<u8> },
}

impl Op {
    pub fn table(&self) -> Table {
        match self {
            Self::Put { table, .. } | Self::Delete { table, .. } => *table,
        }
    }
}

/// Changes that are applied together, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a put.
    pub fn put(
        &mut self,
        table: Table,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> &mut Self {
        self.ops.push(Op::Put {
            table,
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Appends a delete.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op::Delete {
            table,
            key: key.into(),
        });
        self
    }

    /// The changes, in the order in which they are applied.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Refuses a batch beyond [`MAX_KEY_BYTES`], [`MAX_VALUE_BYTES`] or [`MAX_BATCH_BYTES`]. Every
    /// backend calls this before it applies an operation.
    pub(crate) fn check_limits(&self) -> Result<(), Error> {
        let mut total = 0usize;
        for op in &self.ops {
            let (key, value) = match op {
                Op::Put { key, value, .. } => (key.len(), value.len()),
                Op::Delete { key, .. } => (key.len(), 0),
            };
            if key > MAX_KEY_BYTES {
                return Err(Error::TooLarge {
                    what: "key",
                    bytes: key,
                    limit: MAX_KEY_BYTES,
                });
            }
            if value > MAX_VALUE_BYTES {
                return Err(Error::TooLarge {
                    what: "value",
                    bytes: value,
                    limit: MAX_VALUE_BYTES,
                });
            }
            total = total.saturating_add(key).saturating_add(value);
        }
        if total > MAX_BATCH_BYTES {
            return Err(Error::TooLarge {
                what: "batch",
                bytes: total,
                limit: MAX_BATCH_BYTES,
            });
        }
        Ok(())
    }
}

impl FromIterator<Op> for Batch {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        Self {
            ops: ops.into_iter().collect(),
        }
    }
}

/// The guarantee that a write gives when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The write survives a power loss.
    Durable,
    /// The write survives a power loss once a later durable write has returned. Until then it may
    /// be lost, but only together with everything that was written after it.
    Deferred,
}

/// The order in which a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// A key-value engine.
pub trait KeyValue: Send + Sync {
    /// The value at `key`.
    ///
    /// It may come from a deferred write that is not durable yet, never from a durable write that
    /// is in progress.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// At most `limit` entries with `start <= key < end`, none when `start >= end`. The range is a
    /// snapshot: it contains a batch whole or not at all.
    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error>;

    /// Applies a batch whole or not at all; of several changes of one key the last one wins. An
    /// empty durable batch makes the deferred writes before it durable. Writers exclude each other.
    /// The call blocks on the disk.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error>;
}

/// A shared handle to an engine.
pub type Store = Arc<dyn KeyValue>;

/// A failure of the storage engine. After [`Error::Io`] or [`Error::Corrupt`] on a write the handle
/// must not be used again, because only reopening the database shows the state of the disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed, or the process is shutting down.
    #[error("storage {operation} failed: {reason}")]
    Io {
        operation: &'static str,
        reason: String,
    },
    /// Stored data is damaged or missing.
    #[error(
        "storage is corrupt: {reason}; check the disk, then start with an empty directory: the \
         node syncs the chain again, and an authority resumes voting once a later slot is final; \
         do not restore a backup, its votes are outdated"
    )]
    Corrupt { reason: String },
    /// Another process holds the lock of the directory.
    #[error("storage at {path} is in use by another process")]
    InUse { path: String },
    /// An earlier operation failed, so that only reopening shows the state of the disk.
    #[error(
        "storage refuses {operation}: the handle is unusable after an earlier failure ({cause}); \
         reopen it"
    )]
    Poisoned {
        operation: &'static str,
        cause: String,
    },
    /// The process may not write to the directory.
    #[error(
        "storage at {path} is not writable ({reason}); make it writable for this user or use \
         another directory"
    )]
    ReadOnly { path: String, reason: String },
    /// The directory was created by another engine.
    #[error(
        "storage at {path} was created by the engine {found}, but {asked} is configured; set the \
         storage engine to {found} or use an empty directory"
    )]
    WrongEngine {
        path: String,
        found: &'static str,
        asked: &'static str,
    },
    /// The engine starts threads, which the simulator does not allow.
    #[error("the storage engine {engine} cannot run in the simulator; use redb")]
    NotInSimulation { engine: &'static str },
    /// The block store was written with another layout.
    #[error(
        "storage has layout version {found}, this program reads version {wanted}: run the release \
         that wrote it, or make the chain again (`alys genesis new`) with empty data directories"
    )]
    Schema { found: u32, wanted: u32 },
    /// The block store belongs to another chain.
    #[error(
        "storage belongs to the chain with genesis {found}, not {wanted}; use the directory of \
         this chain"
    )]
    OtherChain { found: String, wanted: String },
    /// A key, a value or a batch exceeds its limit; a value of the block store is named by its
    /// table. Nothing was written and the handle stays usable.
    #[error("storage {what} of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        what: &'static str,
        bytes: usize,
        limit: usize,
    },
}
