//! Opens a data directory with the configured engine.
//!
//! Owns the layout of the directory: `LOCK`, `ENGINE` (the engine's name, written once the database
//! exists durably), and `store.redb` or `sled/`. An empty database beside an `ENGINE` file is a
//! loss and is refused. Without that file a crash interrupted the creation, which starts over.
//!
//! `UNSYNCED` marks a failed sync. The kernel then reports the dirty pages as clean, so reads
//! return bytes that are not on the disk and no later sync writes them. Before redb opens such a
//! file, this module rewrites every byte and syncs.

use std::fmt;
use std::io;
use std::str::FromStr;

use alys_runtime::buggify;
use alys_runtime::disk::{Dir, File, Lock};
use alys_runtime::trace::reached;
use serde::{Deserialize, Serialize};

use crate::interceptor;
use crate::kv::{Batch, Direction, Durability, Error, KeyValue, Store, Table};
use crate::redb::{Existing, Medium, RedbOptions, RedbStore};
use crate::sled::{SledOptions, SledStore};

/// A storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The default; runs in production and in the simulator.
    #[default]
    Redb,
    /// Runs in production only.
    Sled,
}

impl Engine {
    pub const ALL: [Engine; 2] = [Engine::Redb, Engine::Sled];

    /// The name in configurations and in the directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }

    /// The file or directory that holds the engine's data.
    const fn entry(self) -> &'static str {
        match self {
            Self::Redb => "store.redb",
            Self::Sled => "sled",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The configured name belongs to no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown storage engine {name:?}; use redb or sled")]
pub struct UnknownEngine {
    pub name: String,
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.name() == name)
            .ok_or_else(|| UnknownEngine {
                name: name.to_owned(),
            })
    }
}

/// Settings of [`open_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub engine: Engine,
    /// Size limit of the engine's cache.
    pub cache_bytes: usize,
}

impl Options {
    /// Uses the default cache size of 64 MiB.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            cache_bytes: RedbOptions::default().cache_bytes,
        }
    }
}

const ENGINE_FILE: &str = "ENGINE";
const UNSYNCED_FILE: &str = "UNSYNCED";
/// Bytes per step when a file is rewritten after a failed sync.
const REWRITE_BYTES: usize = 1024 * 1024;
/// Cache size that makes the simulator reach the disk for almost every page.
const TINY_CACHE_BYTES: usize = 16 * 1024;

/// [`open_with`] the default options.
pub fn open(engine: Engine, dir: &Dir) -> Result<Store, Error> {
    open_with(Options::new(engine), dir)
}

/// Opens the store in `dir`, or creates it. The directory stays locked until the store is dropped.
///
/// # Errors
/// [`Error::InUse`], [`Error::ReadOnly`], [`Error::WrongEngine`], [`Error::NotInSimulation`],
/// [`Error::Corrupt`] and [`Error::Io`], each naming the path.
pub fn open_with(options: Options, dir: &Dir) -> Result<Store, Error> {
    let Options {
        engine,
        cache_bytes,
    } = options;
    let cache_bytes = if buggify!("storage.open.tiny_cache") {
        TINY_CACHE_BYTES
    } else {
        cache_bytes
    };
    if engine == Engine::Sled && alys_runtime::is_simulated() {
        return Err(Error::NotInSimulation {
            engine: engine.name(),
        });
    }
    let lock = dir.lock().map_err(|error| from_io(dir, "lock", &error))?;
    let marked = read_engine_file(dir)?;
    refuse_other_engine(dir, marked, engine)?;
    let existing = if marked.is_some() {
        Existing::Required
    } else {
        Existing::Optional
    };
    let store: Store = match engine {
        Engine::Redb => {
            let file = dir
                .file(engine.entry())
                .map_err(|error| from_io(dir, "open", &error))?;
            let name = dir.path().join(engine.entry()).display().to_string();
            let medium = FileMedium {
                file,
                dir: dir.clone(),
            };
            rewrite_unsynced(&medium).map_err(|error| from_io(dir, "open", &error))?;
            let store = RedbStore::open(medium, name, RedbOptions { cache_bytes }, existing)?;
            std::sync::Arc::new(Locked { store, _lock: lock })
        }
        Engine::Sled => {
            let sub = dir
                .sub(engine.entry())
                .map_err(|error| from_io(dir, "open", &error))?;
            let store = SledStore::open(
                &sub,
                SledOptions {
                    cache_bytes: cache_bytes as u64,
                },
                existing,
            )?;
            std::sync::Arc::new(Locked { store, _lock: lock })
        }
    };
    if marked.is_none() {
        dir.write_atomic(ENGINE_FILE, format!("{engine}\n").as_bytes())
            .map_err(|error| from_io(dir, "open", &error))?;
    }
    Ok(store)
}

/// Refuses a directory that names the other engine or, without an `ENGINE` file, holds its data.
fn refuse_other_engine(dir: &Dir, marked: Option<Engine>, engine: Engine) -> Result<(), Error> {
    let other = match engine {
        Engine::Redb => Engine::Sled,
        Engine::Sled => Engine::Redb,
    };
    let is_other = match marked {
        Some(marked) => marked == other,
        None => dir
            .exists(other.entry())
            .map_err(|error| from_io(dir, "open", &error))?,
    };
    if !is_other {
        return Ok(());
    }
    Err(Error::WrongEngine {
        path: dir.path().display().to_string(),
        found: other.name(),
        asked: engine.name(),
    })
}

fn read_engine_file(dir: &Dir) -> Result<Option<Engine>, Error> {
    let Some(bytes) = dir
        .read(ENGINE_FILE)
        .map_err(|error| from_io(dir, "open", &error))?
    else {
        return Ok(None);
    };
    match std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
    {
        Some(engine) => Ok(Some(engine)),
        None => {
            let path = dir.path().join(ENGINE_FILE);
            Err(Error::Corrupt {
                reason: format!("{} does not name a storage engine", path.display()),
            })
        }
    }
}

fn from_io(dir: &Dir, operation: &'static str, error: &io::Error) -> Error {
    let path = dir.path().display().to_string();
    match error.kind() {
        io::ErrorKind::WouldBlock => Error::InUse { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly {
            path,
            reason: error.to_string(),
        },
        // The runtime's errors name the path.
        _ => Error::Io {
            operation,
            reason: error.to_string(),
        },
    }
}

/// A file of the runtime as redb's medium. A failed sync leaves a marker in the directory.
struct FileMedium {
    file: File,
    dir: Dir,
}

impl Medium for FileMedium {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        interceptor::sync(|| self.sync_file())
    }
}

impl FileMedium {
    fn sync_file(&self) -> io::Result<()> {
        let first = if buggify!("storage.open.sync_twice") {
            self.file.sync()
        } else {
            Ok(())
        };
        first.and_then(|()| self.file.sync()).inspect_err(|_| {
            // The marker's own durability does not matter: it is needed only while the kernel
            // caches the unsynced bytes, and a power loss drops both. A failure to create it is
            // ignored because the sync error is reported anyway.
            let _ = self.dir.file(UNSYNCED_FILE);
        })
    }
}

/// Writes the visible contents of the file to the disk again, if an earlier sync of it failed.
fn rewrite_unsynced(medium: &FileMedium) -> io::Result<()> {
    if medium.dir.exists(UNSYNCED_FILE)? {
        reached("state.store.rewritten");
        let dir = medium.dir.path().display();
        tracing::warn!(%dir, "an earlier sync of the database failed; rewriting it");
    } else if !buggify!("storage.open.rewrite_anyway") {
        return Ok(());
    }
    let length = medium.len()?;
    let step = if buggify!("storage.open.rewrite_in_small_steps") {
        REWRITE_BYTES / 64
    } else {
        REWRITE_BYTES
    };
    let mut buffer = vec![0; step];
    let mut offset = 0;
    while offset < length {
        let take = usize::try_from(length - offset).map_or(step, |rest| rest.min(step));
        medium.read_at(offset, &mut buffer[..take])?;
        medium.write_at(offset, &buffer[..take])?;
        offset += take as u64;
    }
    medium.sync()?;
    medium.dir.remove(UNSYNCED_FILE)
}

/// A store with the lock of its directory. Fields drop in order, so the lock is released after the
/// store has closed.
struct Locked<S> {
    store: S,
    _lock: Lock,
}

impl<S: KeyValue> KeyValue for Locked<S> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.store.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        self.store.range(table, start, end, direction, limit)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        self.store.write(batch, durability)
    }
}
