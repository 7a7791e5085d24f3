//! The key-value contract that every backend keeps.
//!
//! Owns nothing: it is the seam between what Alys stores and the engine that stores it. A backend promises that a
//! [`Batch`] is applied whole or not at all, that a [`Durability::Durable`] write survives a power loss once
//! [`KeyValue::write`] has returned, and that writes become visible and survive in the order in which they were made.

use std::sync::Arc;

/// Longest key in bytes: keys are hashes, heights and addresses; what is longer is a mistake.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value in bytes: a block is 8 MiB at most, contract code and indexes are far smaller.
pub const MAX_VALUE_BYTES: usize = 32 * 1024 * 1024;
/// Most bytes (keys and values) in one batch, because an engine holds a batch in memory until it is committed.
pub const MAX_BATCH_BYTES: usize = 256 * 1024 * 1024;

/// A named table (a key space of its own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets `key` to `value`.
    Put {
        table: Table,
        key: Vec<u8>,
        value: Vec<u8>,
    },
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

    /// Adds a delete.
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

    /// The changes, by value.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Refuses a batch beyond [`MAX_KEY_BYTES`], [`MAX_VALUE_BYTES`] or [`MAX_BATCH_BYTES`]. Every backend asks this
    /// before it applies anything.
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
    ///
    /// What is read may have been written by a deferred write that is not durable yet, never by a durable write that
    /// is still under way.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// At most `limit` entries with `start <= key < end`, none when `start >= end`. A range is read from one state of the
    /// database: a batch is in it whole or not at all.
    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error>;

    /// Applies a batch whole or not at all; of several changes of one key the last counts. An empty durable batch makes
    /// durable what was deferred before it. Writers wait for each other. The call blocks for the disk.
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
    Io {
        operation: &'static str,
        reason: String,
    },
    /// What is stored cannot be read as what it should be.
    #[error(
        "storage is corrupt: {reason}; check the disk, then start with an empty directory: the chain is fetched \
         again, and an authority votes again once a later slot is final; an older copy must not be put back, it has forgotten votes"
    )]
    Corrupt { reason: String },
    /// Another process has the database open.
    #[error("storage at {path} is in use by another process")]
    InUse { path: String },
    /// An earlier operation failed, so that only a reopened handle knows what is on the disk.
    #[error(
        "storage refuses {operation}: the handle is unusable after an earlier failure ({cause}); reopen it"
    )]
    Poisoned {
        operation: &'static str,
        cause: String,
    },
    /// The directory cannot be written to.
    #[error(
        "storage at {path} is not writable ({reason}); make it writable for this user or use another directory"
    )]
    ReadOnly { path: String, reason: String },
    /// The directory was made by another engine.
    #[error(
        "storage at {path} was made by the engine {found}, but {asked} is configured; set the storage engine to {found} \
         or use an empty directory"
    )]
    WrongEngine {
        path: String,
        found: &'static str,
        asked: &'static str,
    },
    /// The engine starts threads of its own, which the simulator does not allow.
    #[error("the storage engine {engine} cannot run in the simulator; use redb")]
    NotInSimulation { engine: &'static str },
    /// The block store was written with another layout.
    #[error(
        "storage has layout version {found}, this program reads version {wanted}; use the program that wrote it, or \
         sync into an empty directory"
    )]
    Schema { found: u32, wanted: u32 },
    /// The block store belongs to another chain.
    #[error(
        "storage belongs to the chain with genesis {found}, not {wanted}; use the directory of this chain"
    )]
    OtherChain { found: String, wanted: String },
    /// A key, a value or a batch is beyond its limit; nothing was written and the handle stays usable.
    #[error("storage {what} of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        what: &'static str,
        bytes: usize,
        limit: usize,
    },
}
