//! The other backend: sled, on files of the operating system only.
//!
//! Owns one directory. sled starts threads, so it cannot run in the simulator and [`SledStore::open`] says so.
//!
//! sled's own `flush` ends in `sync_file_range`, which flushes neither the device's cache nor the file's length, and it
//! never syncs the blob files in which it puts large items. So: a durable write is followed by `fdatasync` of the log,
//! and values are kept in chunks so small that sled makes no blob files. What remains weaker than redb is sled's order
//! *inside* the log: it reuses a segment once its contents were rewritten and flushed its own way, so a device that
//! reorders its cache at a power loss could lose older data. See `docs/adr/0001-storage-engine.md`.
//!
//! All tables live in one sled tree, because a batch over one tree is atomic there and the key says which table it is.

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
    /// Most bytes that sled keeps cached.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// sled writes what is longer than a quarter of this to a blob file, which it never syncs.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// Longest piece of a value. A leaf holds up to about 30 items before it is split, so it stays under a quarter of
/// [`SEGMENT_BYTES`].
const CHUNK_BYTES: usize = 16 * 1024;

/// How often, and after what pause, an open waits for an earlier handle of this process to let go: 5 s in all.
const CLOSING_ATTEMPTS: u32 = 500;
const CLOSING_PAUSE: Duration = Duration::from_millis(10);

/// First byte of a key in the tree: what is behind it.
const HEADS: u8 = 0;
const CHUNKS: u8 = 1;
/// A key that is there from creation on. sled takes a damaged log for a shorter one; without this key it was cut to
/// nothing.
const CREATED: &[u8] = &[0xff];

/// First byte of a head.
const INLINE: u8 = 0;
const CHUNKED: u8 = 1;

/// A key-value store in one sled directory.
pub struct SledStore {
    database: ::sled::Db,
    /// The log again, through a handle of our own, for `fdatasync`.
    log: File,
    name: String,
    /// Readers share it, a writer has it alone until its write is durable: sled shows single entries of a batch, and
    /// entries that are not durable yet.
    turn: RwLock<()>,
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
    /// Opens the database in `dir`, or makes it.
    ///
    /// # Errors
    /// [`Error::NotInSimulation`] in the simulator, [`Error::Corrupt`] when the directory holds something else or lost
    /// its contents, [`Error::InUse`] when it is open elsewhere.
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
                Ok(Err(Error::InUse { .. })) if attempts < CLOSING_ATTEMPTS => attempts += 1,
                Ok(Err(error)) => return Err(error),
                Err(panic) => {
                    return Err(corrupt(
                        &name,
                        format!("sled panicked: {}", panic_text(&*panic)),
                    ));
                }
            }
            // A handle that was dropped lets go of its file only when sled's own threads are done with it, and sled
            // says nothing when they are. This is production only, so no simulated time is slept away.
            #[expect(clippy::disallowed_methods, reason = "sled is never simulated")]
            std::thread::sleep(CLOSING_PAUSE);
        };
        let log = dir
            .file("db")
            .map_err(|error| io_error("open", &name, &error))?;
        let store = Self {
            database,
            log,
            name,
            turn: RwLock::new(()),
            poison: OnceLock::new(),
        };
        store.check_created(existing)?;
        Ok(store)
    }

    fn check_created(&self, existing: Existing) -> Result<(), Error> {
        self.guarded("open", true, |database| {
            if database
                .get(CREATED)
                .map_err(|error| map_error("open", &self.name, error))?
                .is_some()
            {
                // What a killed process left unsynced becomes durable before anybody acts on it.
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

    /// Everything written so far, through sled and through the device's cache.
    fn make_durable(&self) -> Result<(), Error> {
        self.database
            .flush()
            .map_err(|error| map_error("flush", &self.name, error))?;
        self.log
            .sync()
            .map_err(|error| io_error("flush", &self.name, &error))
    }

    /// Runs `work` unless the handle is poisoned; a panic in it poisons the handle, and so does any failure when
    /// `poisoning` is set.
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
            // Someone else may have poisoned the handle meanwhile; the first cause stands.
            let _ = self.poison.set(error.to_string());
        }
        Err(error)
    }

    /// The value that `head` stands for.
    fn value(&self, table: Table, key: &[u8], head: &[u8]) -> Result<Vec<u8>, Error> {
        let broken = || {
            corrupt(
                &self.name,
                format!("a value of table {} is not whole", table.0),
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

    /// Adds the removal of the chunks that `key` has now.
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
        let _shared = self.turn.read().unwrap_or_else(PoisonError::into_inner);
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
        let _shared = self.turn.read().unwrap_or_else(PoisonError::into_inner);
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
        let _alone = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        self.guarded("write", true, |database| {
            // Only the last change of a key counts; earlier ones must leave no chunks behind.
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

/// Chunk keys of different keys differ: of equal length they differ in the key, and the index is always four bytes.
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
