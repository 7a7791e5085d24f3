//! The default backend: redb on a [`Medium`], which is a file in production and a simulated disk in
//! the simulator.
//!
//! Owns one database file. redb has no threads and no clock, and reaches the disk through
//! [`Medium`] alone, so the simulator runs the production code. A durable write is a redb commit
//! with `Durability::Immediate`; a deferred one is a commit with `Durability::None`, which redb
//! keeps out of the file's roots until the next immediate commit. A power loss therefore takes
//! deferred writes from the newest backwards and never leaves a gap.
//!
//! redb verifies its own checksums during repair, not when it reads. Every value therefore carries
//! a CRC-32 over table, key and value, so that rotten or misplaced data is an [`Error::Corrupt`].
//! Every page that this process wrote or read must read the same again (`pages`), because redb
//! follows any pointer that it reads. redb also panics on some kinds of damage; each call is
//! guarded, and a panic becomes [`Error::Corrupt`] and poisons the handle.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use alys_runtime::buggify;
use alys_runtime::trace::reached;

use ::redb::{
    CommitError, Database, DatabaseError, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition, TableError, TransactionError, WriteTransaction,
};

use crate::interceptor;
use crate::kv::{Batch, Direction, Durability, Error, KeyValue, Op, Table};
use crate::pages::PageChecksums;

/// The file operations that redb needs. Offsets and lengths are in bytes.
#[expect(
    clippy::len_without_is_empty,
    reason = "reading a file's length is a system call that can fail"
)]
pub trait Medium: Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    /// Fills `out` from `offset`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Truncates or extends the file; new bytes read as zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns once all earlier writes survive a power loss.
    fn sync(&self) -> io::Result<()>;
}

/// Settings of the redb backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedbOptions {
    /// Size limit of redb's cache, which includes dirty pages.
    pub cache_bytes: usize,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// redb writes the magic number last when it creates a database.
const MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1A, 0x0A, 0xA9, 0x0D, 0x0A];
/// Bytes of the checksum that follows each value.
const CHECKSUM_BYTES: usize = 4;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A key-value store in one redb file.
pub struct RedbStore {
    /// `None` only while the handle is being dropped.
    database: Option<Database>,
    /// Name of the file in errors.
    name: String,
    /// Serialises writers. redb does so too, but the next writer must see a handle that its
    /// predecessor poisoned.
    writer: Mutex<()>,
    /// The first failure after which the state of the file is unknown.
    poison: OnceLock<String>,
    /// True while no durable write has followed the last deferred one.
    deferred: AtomicBool,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("name", &self.name)
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

/// Requirement on an existing database when one is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The database was opened successfully before, so an empty file or one without a header is a
    /// loss.
    Required,
    /// The database may be absent, or a crash may have interrupted its creation, which then starts
    /// over.
    Optional,
}

impl RedbStore {
    /// Opens or creates the database on `medium`; errors use `name` for it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the medium holds anything but a complete redb database.
    /// [`Existing::Optional`] also allows an empty medium and an interrupted creation.
    /// [`Error::Io`] when the medium fails.
    pub fn open(
        medium: impl Medium,
        name: impl Into<String>,
        options: RedbOptions,
        existing: Existing,
    ) -> Result<Self, Error> {
        let name = name.into();
        prepare(&medium, &name, existing)?;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Database::builder()
                .set_cache_size(options.cache_bytes)
                .create_with_backend(Backend {
                    medium,
                    pages: PageChecksums::default(),
                })
        }));
        let mut database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(from_database(error).into_error("open", &name)),
            Err(panic) => return Err(Failure::from_panic(&*panic).into_error("open", &name)),
        };
        if buggify!("storage.redb.compact_at_open") {
            match catch_unwind(AssertUnwindSafe(|| database.compact())) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return Err(Failure::Io(error.to_string()).into_error("open", &name));
                }
                Err(panic) => return Err(Failure::from_panic(&*panic).into_error("open", &name)),
            }
        }
        Ok(Self {
            database: Some(database),
            name,
            writer: Mutex::new(()),
            poison: OnceLock::new(),
            deferred: AtomicBool::new(false),
        })
    }

    /// Runs `work` unless the handle is poisoned. A panic in it poisons the handle; with
    /// `poisoning`, so does any failure.
    fn guarded<T>(
        &self,
        operation: &'static str,
        poisoning: bool,
        work: impl FnOnce(&Database) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        if let Some(cause) = self.poison.get() {
            return Err(Error::Poisoned {
                operation,
                cause: cause.clone(),
            });
        }
        let database = self
            .database
            .as_ref()
            .expect("only drop takes the database out");
        let (failure, poisoning) = match catch_unwind(AssertUnwindSafe(|| work(database))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failure)) => (failure, poisoning),
            Err(panic) => (Failure::from_panic(&*panic), true),
        };
        let error = failure.into_error(operation, &self.name);
        if poisoning {
            reached("state.store.poisoned");
            // Another thread may have poisoned the handle first; the first cause is kept.
            let _ = self.poison.set(error.to_string());
        }
        Err(error)
    }
}

impl KeyValue for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.guarded("read", false, |database| {
            let transaction = database.begin_read().map_err(from_transaction)?;
            let rows = match transaction.open_table(definition(table)) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(from_table(error)),
            };
            match rows.get(key).map_err(from_storage)? {
                Some(row) => open_value(table, key, row.value()).map(Some),
                None => Ok(None),
            }
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
        self.guarded("range", false, |database| {
            let transaction = database.begin_read().map_err(from_transaction)?;
            let rows = match transaction.open_table(definition(table)) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(from_table(error)),
            };
            let mut hits = rows.range::<&[u8]>(start..end).map_err(from_storage)?;
            let mut entries = Vec::new();
            while entries.len() < limit {
                let hit = match direction {
                    Direction::Forward => hits.next(),
                    Direction::Backward => hits.next_back(),
                };
                let Some(hit) = hit else { break };
                let (key, row) = hit.map_err(from_storage)?;
                let value = open_value(table, key.value(), row.value())?;
                entries.push((key.value().to_vec(), value));
            }
            Ok(entries)
        })
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        // A deferred write may be lost, so it may also be durable.
        let durability = if buggify!("storage.redb.durable_at_once") {
            Durability::Durable
        } else {
            durability
        };
        batch.check_limits()?;
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if durability == Durability::Deferred {
            if batch.is_empty() {
                return Ok(());
            }
            self.deferred.store(true, Ordering::Release);
        }
        self.guarded("write", true, |database| {
            commit(database, batch, durability)
        })?;
        if durability == Durability::Durable {
            self.deferred.store(false, Ordering::Release);
        }
        Ok(())
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        if self.deferred.load(Ordering::Acquire) && self.poison.get().is_none() {
            // An orderly shutdown makes deferred writes durable. Deferred writes may be lost, so a
            // failure is ignored.
            let _ = self.write(Batch::new(), Durability::Durable);
        }
        let database = self.database.take();
        // redb writes its header when it closes, and may panic on damage that it finds then.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(database)));
    }
}

/// Applies `batch` in one redb transaction.
///
/// When redb panics on damaged pages, the transaction is leaked: its destructor reads the same
/// pages, and a second panic would abort the process before the damage is reported. The panic
/// poisons the handle anyway.
fn commit(database: &Database, batch: Batch, durability: Durability) -> Result<(), Failure> {
    let mut transaction = ManuallyDrop::new(database.begin_write().map_err(from_transaction)?);
    let redb_durability = match durability {
        Durability::Durable => ::redb::Durability::Immediate,
        Durability::Deferred => ::redb::Durability::None,
    };
    transaction
        .set_durability(redb_durability)
        .map_err(|error| Failure::Io(error.to_string()))?;
    if buggify!("storage.redb.two_phase_commit") {
        transaction.set_two_phase_commit(true);
    }
    if buggify!("storage.redb.quick_repair") {
        transaction.set_quick_repair(true);
    }
    match catch_unwind(AssertUnwindSafe(|| fill(&transaction, batch))) {
        Ok(Ok(())) => ManuallyDrop::into_inner(transaction)
            .commit()
            .map_err(from_commit),
        Ok(Err(failure)) => {
            drop(ManuallyDrop::into_inner(transaction));
            Err(failure)
        }
        Err(panic) => resume_unwind(panic),
    }
}

/// Applies the operations of `batch`. The open tables are leaked on a panic, as the transaction is
/// in [`commit`].
fn fill(transaction: &WriteTransaction, batch: Batch) -> Result<(), Failure> {
    let mut open = ManuallyDrop::new(BTreeMap::new());
    let mut apply = |op: Op| -> Result<(), Failure> {
        let table = op.table();
        let rows = match open.entry(table) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(
                transaction
                    .open_table(definition(table))
                    .map_err(from_table)?,
            ),
        };
        match op {
            Op::Put { key, mut value, .. } => {
                let sum = checksum(table, &key, &value);
                value.extend_from_slice(&sum);
                rows.insert(key.as_slice(), value.as_slice())
                    .map_err(from_storage)?;
            }
            Op::Delete { key, .. } => {
                rows.remove(key.as_slice()).map_err(from_storage)?;
            }
        }
        Ok(())
    };
    let filled = batch.into_ops().into_iter().try_for_each(&mut apply);
    drop(ManuallyDrop::into_inner(open));
    filled
}

/// Checks the medium before redb opens it, because redb creates a database in an empty file, and
/// rejects a file without the magic number that an interrupted creation left.
fn prepare(medium: &impl Medium, name: &str, existing: Existing) -> Result<(), Error> {
    let io = |error: io::Error| from_io(error).into_error("open", name);
    let length = medium.len().map_err(io)?;
    if length == 0 {
        return match existing {
            Existing::Optional => Ok(()),
            Existing::Required => Err(Error::Corrupt {
                reason: format!("{name} is empty, its contents are lost"),
            }),
        };
    }
    let mut head = [0u8; MAGIC.len()];
    let read = usize::try_from(length).map_or(head.len(), |length| length.min(head.len()));
    medium.read_at(0, &mut head[..read]).map_err(io)?;
    if head == MAGIC {
        // A killed process may have left a complete transaction that was written and not synced.
        // The node acts on what it reads, so the transaction becomes durable first.
        return medium.sync().map_err(io);
    }
    let is_interrupted_creation = head
        .iter()
        .zip(MAGIC)
        .all(|(found, magic)| *found == 0 || *found == magic);
    if is_interrupted_creation && existing == Existing::Optional {
        reached("state.store.creation_cut_off");
        // The file was extended but has no magic number, so no write to it was ever acknowledged.
        medium.set_len(0).map_err(io)?;
        return medium.sync().map_err(io);
    }
    Err(Error::Corrupt {
        reason: format!("{name} is not a redb database: its first bytes are wrong"),
    })
}

fn definition(table: Table) -> Definition {
    TableDefinition::new(table.0)
}

fn checksum(table: Table, key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.0.as_bytes());
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// Verifies and strips the checksum of a stored value.
fn open_value(table: Table, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Failure> {
    if let Some(at) = stored.len().checked_sub(CHECKSUM_BYTES) {
        let (value, sum) = stored.split_at(at);
        if interceptor::checksum_matches(checksum(table, key, value) == sum) {
            return Ok(value.to_vec());
        }
    }
    reached("state.store.checksum_wrong");
    let Table(table) = table;
    let shown: String = key
        .iter()
        .take(40)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Err(Failure::Corrupt(format!(
        "the value at table {table} key {shown} does not match its checksum"
    )))
}

/// A failure before the operation and the file are known.
enum Failure {
    Io(String),
    Corrupt(String),
    InUse,
}

impl Failure {
    fn from_panic(panic: &(dyn Any + Send)) -> Self {
        Self::Corrupt(format!("redb panicked: {}", panic_text(panic)))
    }

    fn into_error(self, operation: &'static str, name: &str) -> Error {
        match self {
            Self::Io(reason) => Error::Io {
                operation,
                reason: format!("{name}: {reason}"),
            },
            Self::Corrupt(reason) => Error::Corrupt {
                reason: format!("{name}: {reason}"),
            },
            Self::InUse => Error::InUse {
                path: name.to_owned(),
            },
        }
    }
}

/// The message of a panic, or `"no message"`.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return text;
    }
    panic
        .downcast_ref::<String>()
        .map_or("no message", String::as_str)
}

fn from_io(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Failure::Corrupt(error.to_string())
        }
        _ => Failure::Io(error.to_string()),
    }
}

fn from_storage(error: StorageError) -> Failure {
    match error {
        StorageError::Io(error) => from_io(error),
        StorageError::Corrupted(reason) => Failure::Corrupt(reason),
        other => Failure::Io(other.to_string()),
    }
}

fn from_database(error: DatabaseError) -> Failure {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Failure::InUse,
        DatabaseError::Storage(error) => from_storage(error),
        other => Failure::Corrupt(other.to_string()),
    }
}

fn from_table(error: TableError) -> Failure {
    match error {
        TableError::Storage(error) => from_storage(error),
        other => Failure::Corrupt(other.to_string()),
    }
}

fn from_transaction(error: TransactionError) -> Failure {
    match error {
        TransactionError::Storage(error) => from_storage(error),
        other => Failure::Io(other.to_string()),
    }
}

fn from_commit(error: CommitError) -> Failure {
    match error {
        CommitError::Storage(error) => from_storage(error),
        other => Failure::Io(other.to_string()),
    }
}

/// A [`Medium`] behind redb's storage trait, with page checksums.
struct Backend<M> {
    medium: M,
    pages: PageChecksums,
}

impl<M> fmt::Debug for Backend<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl<M: Medium> StorageBackend for Backend<M> {
    fn len(&self) -> io::Result<u64> {
        self.medium.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.medium.read_at(offset, out)?;
        self.pages.verify(offset, out).map_err(|reason| {
            reached("state.store.page_wrong");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.medium.set_len(len)?;
        self.pages.truncate(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.medium.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.pages.invalidate(offset, data.len());
        self.medium.write_at(offset, data)?;
        self.pages.record(offset, data);
        Ok(())
    }
}
