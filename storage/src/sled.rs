//! The alternative backend: sled, on files of the operating system only.
//!
//! Owns one directory. sled starts threads, so [`SledStore::open`] refuses to run in the simulator.
//!
//! sled's `flush` ends in `sync_file_range`, which flushes neither the device's cache nor the
//! file's length, and sled never syncs the blob files that hold large items. Therefore `fdatasync`
//! of the log follows each durable write, and values are split into chunks below the size for which
//! sled creates blob files. One guarantee stays weaker than redb's: sled reuses a segment of the
//! log once its contents were rewritten and flushed in sled's own way, so a device that reorders
//! its cache at a power loss could lose older data. See `docs/adr/0001-storage-engine.md`.
//!
//! All tables share one sled tree, because sled's batches are atomic within a tree; the key begins
//! with the table.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use alys_runtime::disk::{Dir, File};

use crate::kv::{Batch, Direction, Durability, Error, KeyValue, Op, Table};
use crate::redb::{Existing, panic_text};

/// Settings of the sled backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledOptions {
    /// Size limit of sled's cache.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// sled writes an item longer than a quarter of this to a blob file, which it never syncs.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// Longest chunk of a value. A leaf is split at about 30 items, so it stays below a quarter of
/// [`SEGMENT_BYTES`].
const CHUNK_BYTES: usize = 16 * 1024;

/// Attempts to lock the directory while an earlier handle of this process closes: 5 s with
/// [`LOCK_RETRY_INTERVAL`].
const LOCK_ATTEMPTS: u32 = 500;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// First byte of a tree key whose value is a head: a whole value, or the number of its chunks.
const HEADS: u8 = 0;
/// First byte of a tree key whose value is a chunk.
const CHUNKS: u8 = 1;
/// A key written at creation. sled truncates a damaged log, and the absence of this key reveals
/// that it was cut to nothing.
const CREATED: &[u8] = &[0xff];

/// First byte of a head that holds the value itself.
const INLINE: u8 = 0;
/// First byte of a head that holds the number of chunks, four bytes, big-endian.
const CHUNKED: u8 = 1;

/// A key-value store in one sled directory.
pub struct SledStore {
    database: ::sled::Db,
    /// A second handle to the log, for `fdatasync`.
    log: File,
    name: String,
    /// Held by readers, and exclusively by a writer until its write is durable, because sled
    /// exposes single entries of a batch and entries that are not durable yet.
    access: RwLock<()>,
    poison: OnceLock<String>,
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore")
            .field("name", &self.name)
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens or creates the database in `dir`.
    ///
    /// # Errors
    /// [`Error::NotInSimulation`] in the simulator, [`Error::Corrupt`] when the directory holds
    /// other data or lost its contents, [`Error::InUse`] when another handle has it open.
    pub fn open(dir: &Dir, options: SledOptions, existing: Existing) -> Result<Self, Error> {
        if alys_runtime::is_simulated() {
            return Err(Error::NotInSimulation { engine: "sled" });
        }
        let name = dir.path().display().to_string();
        let mut attempts = 0;
        let database = loop {
            let opened = catch_unwind(AssertUnwindSafe(|| {
                ::sled::Config::new()
                    .path(dir.path())
                    .segment_size(SEGMENT_BYTES)
                    .cache_capacity(options.cache_bytes)
                    .flush_every_ms(None)
                    .open()
            }));
            match opened.map(|opened| opened.map_err(|error| map_error("open", &name, error))) {
                Ok(Ok(database)) => break database,
                Ok(Err(Error::InUse { .. })) if attempts < LOCK_ATTEMPTS => attempts += 1,
                Ok(Err(error)) => return Err(error),
                Err(panic) => {
                    return Err(corrupt(
                        &name,
                        format!("sled panicked: {}", panic_text(&*panic)),
                    ));
                }
            }
            // A dropped handle keeps the file locked until sled's threads have ended, and sled does
            // not report that.
            #[expect(clippy::disallowed_methods, reason = "sled is never simulated")]
            std::thread::sleep(LOCK_RETRY_INTERVAL);
        };
        let log = dir
            .file("db")
            .map_err(|error| io_error("open", &name, &error))?;
        let store = Self {
            database,
            log,
            name,
            access: RwLock::new(()),
            poison: OnceLock::new(),
        };
        store.check_created(existing)?;
        Ok(store)
    }

    /// Writes [`CREATED`] into a new database, and refuses an existing one that has lost it.
    fn check_created(&self, existing: Existing) -> Result<(), Error> {
        self.guarded("open", true, |database| {
            if database
                .get(CREATED)
                .map_err(|error| map_error("open", &self.name, error))?
                .is_some()
            {
                // A killed process may have left unsynced writes. They become durable before the
                // node acts on them.
                return self.make_durable();
            }
            if existing == Existing::Required {
                return Err(corrupt(
                    &self.name,
                    "the log is empty, its contents are lost".to_owned(),
                ));
            }
            database
                .insert(CREATED, &[])
                .map_err(|error| map_error("open", &self.name, error))?;
            self.make_durable()
        })
    }

    /// Flushes all earlier writes out of sled and out of the device's cache.
    fn make_durable(&self) -> Result<(), Error> {
        self.database
            .flush()
            .map_err(|error| map_error("flush", &self.name, error))?;
        self.log
            .sync()
            .map_err(|error| io_error("flush", &self.name, &error))
    }

    /// Runs `work` unless the handle is poisoned. A panic in it poisons the handle; with
    /// `poisoning`, so does any failure.
    fn guarded<T>(
        &self,
        operation: &'static str,
        poisoning: bool,
        work: impl FnOnce(&::sled::Db) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(cause) = self.poison.get() {
            return Err(Error::Poisoned {
                operation,
                cause: cause.clone(),
            });
        }
        let (error, poisoning) = match catch_unwind(AssertUnwindSafe(|| work(&self.database))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => (error, poisoning),
            Err(panic) => (
                corrupt(
                    &self.name,
                    format!("sled panicked: {}", panic_text(&*panic)),
                ),
                true,
            ),
        };
        if poisoning {
            // Another thread may have poisoned the handle first; the first cause is kept.
            let _ = self.poison.set(error.to_string());
        }
        Err(error)
    }

    /// The value of a head, assembled from its chunks.
    fn value(&self, table: Table, key: &[u8], head: &[u8]) -> Result<Vec<u8>, Error> {
        let broken = || {
            corrupt(
                &self.name,
                format!("a value of table {} is incomplete", table.0),
            )
        };
        match head.split_first() {
            Some((&INLINE, value)) => Ok(value.to_vec()),
            Some((&CHUNKED, count)) => {
                let count = u32::from_be_bytes(count.try_into().map_err(|_| broken())?);
                let mut value = Vec::new();
                for index in 0..count {
                    let chunk = self.database.get(chunk_key(table, key, index));
                    let chunk = chunk.map_err(|error| map_error("read", &self.name, error))?;
                    value.extend_from_slice(&chunk.ok_or_else(broken)?);
                }
                Ok(value)
            }
            _ => Err(broken()),
        }
    }

    /// Adds the removal of the stored chunks of `key` to `batch`.
    fn remove_chunks(
        &self,
        batch: &mut ::sled::Batch,
        table: Table,
        key: &[u8],
    ) -> Result<(), Error> {
        let head = self
            .database
            .get(head_key(table, key))
            .map_err(|error| map_error("write", &self.name, error))?;
        if let Some((&CHUNKED, count)) = head.as_deref().and_then(<[u8]>::split_first) {
            let count = count.try_into().map(u32::from_be_bytes).unwrap_or(0);
            for index in 0..count {
                batch.remove(chunk_key(table, key, index));
            }
        }
        Ok(())
    }
}

impl KeyValue for SledStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
        self.guarded("read", false, |database| {
            let head = database
                .get(head_key(table, key))
                .map_err(|error| map_error("read", &self.name, error))?;
            head.map(|head| self.value(table, key, &head)).transpose()
        })
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
        self.guarded("range", false, |database| {
            let prefix = head_key(table, b"").len();
            let mut hits = database.range(head_key(table, start)..head_key(table, end));
            let mut entries = Vec::new();
            while entries.len() < limit {
                let hit = match direction {
                    Direction::Forward => hits.next(),
                    Direction::Backward => hits.next_back(),
                };
                let Some(hit) = hit else { break };
                let (key, head) = hit.map_err(|error| map_error("range", &self.name, error))?;
                let key = key[prefix..].to_vec();
                let value = self.value(table, &key, &head)?;
                entries.push((key, value));
            }
            Ok(entries)
        })
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        batch.check_limits()?;
        let _exclusive = self.access.write().unwrap_or_else(PoisonError::into_inner);
        self.guarded("write", true, |database| {
            // Only the last change of a key is applied, because an earlier one would leave chunks
            // behind.
            let mut last = std::collections::BTreeMap::new();
            for op in batch.into_ops() {
                match op {
                    Op::Put { table, key, value } => last.insert((table, key), Some(value)),
                    Op::Delete { table, key } => last.insert((table, key), None),
                };
            }
            let mut changes = ::sled::Batch::default();
            for ((table, key), value) in last {
                self.remove_chunks(&mut changes, table, &key)?;
                match value {
                    Some(value) => put(&mut changes, table, &key, &value),
                    None => changes.remove(head_key(table, &key)),
                }
            }
            database
                .apply_batch(changes)
                .map_err(|error| map_error("write", &self.name, error))?;
            match durability {
                Durability::Durable => self.make_durable(),
                Durability::Deferred => Ok(()),
            }
        })
    }
}

fn put(batch: &mut ::sled::Batch, table: Table, key: &[u8], value: &[u8]) {
    let mut head = Vec::new();
    if value.len() <= CHUNK_BYTES {
        head.push(INLINE);
        head.extend_from_slice(value);
    } else {
        let mut count = 0u32;
        for chunk in value.chunks(CHUNK_BYTES) {
            batch.insert(chunk_key(table, key, count), chunk);
            count += 1;
        }
        head.push(CHUNKED);
        head.extend_from_slice(&count.to_be_bytes());
    }
    batch.insert(head_key(table, key), head);
}

fn head_key(table: Table, key: &[u8]) -> Vec<u8> {
    tree_key(HEADS, table, key)
}

/// `tree_key || index`. The index always has four bytes, so chunk keys of different keys differ.
fn chunk_key(table: Table, key: &[u8], index: u32) -> Vec<u8> {
    let mut chunk = tree_key(CHUNKS, table, key);
    chunk.extend_from_slice(&index.to_be_bytes());
    chunk
}

/// `space || table || 0 || key`: sorted by table, then key. Table names hold no zero byte.
fn tree_key(space: u8, Table(table): Table, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(table.len() + key.len() + 6);
    bytes.push(space);
    bytes.extend_from_slice(table.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key);
    bytes
}

fn corrupt(name: &str, reason: String) -> Error {
    Error::Corrupt {
        reason: format!("{name}: {reason}"),
    }
}

fn io_error(operation: &'static str, name: &str, error: &io::Error) -> Error {
    Error::Io {
        operation,
        reason: format!("{name}: {error}"),
    }
}

fn map_error(operation: &'static str, name: &str, error: ::sled::Error) -> Error {
    match error {
        ::sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            Error::InUse {
                path: name.to_owned(),
            }
        }
        ::sled::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            corrupt(name, error.to_string())
        }
        ::sled::Error::Io(error) => io_error(operation, name, &error),
        other => corrupt(name, other.to_string()),
    }
}
