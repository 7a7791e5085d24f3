//! Opening a directory with the configured engine.
//!
//! Owns the directory's layout: `LOCK`, `ENGINE` (which engine made it, written once the database was made durably),
//! and `store.redb` or `sled/`. An empty database in a directory with an `ENGINE` file is a loss and is refused; without
//! that file it is a creation that a crash cut off, and is made anew. `UNSYNCED` says that a sync failed: then the system
//! shows bytes that are not on the disk and takes them for written, so that no later sync would bring them there. Before
//! redb opens such a file, every byte of it is written again and synced.

use std::fmt;
use std::io;
use std::str::FromStr;

use alys_runtime::buggify;
use alys_runtime::disk::{Dir, File, Lock};
use alys_runtime::trace::reached;
use alys_types::mutant::{self, Mutant};
use serde::{Deserialize, Serialize};

use crate::kv::{Batch, Direction, Durability, Error, KeyValue, Store, Table};
use crate::redb::{Existing, Medium, RedbOptions, RedbStore};
use crate::sled::{SledOptions, SledStore};

/// Which engine stores the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The default, in production and in simulation.
    #[default]
    Redb,
    /// In production only.
    Sled,
}

impl Engine {
    /// Both engines.
    pub const ALL: [Engine; 2] = [Engine::Redb, Engine::Sled];

    /// The name in configurations and in the directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }

    /// What the engine's data is called in the directory.
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

/// A name that is no engine's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown storage engine {name:?}; known are redb and sled")]
pub struct UnknownEngine {
    /// What was given.
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

/// How to open a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The engine.
    pub engine: Engine,
    /// Most bytes that the engine keeps cached.
    pub cache_bytes: usize,
}

impl Options {
    /// The engine with its usual cache of 64 MiB.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            cache_bytes: RedbOptions::default().cache_bytes,
        }
    }
}

const MARKER: &str = "ENGINE";
const UNSYNCED: &str = "UNSYNCED";
/// How much is written again at a time.
const REWRITE_BYTES: usize = 1024 * 1024;
/// A cache that holds next to nothing, for the simulator.
const TINY_CACHE_BYTES: usize = 16 * 1024;

/// [`open_with`] and the usual options.
///
/// # Errors
/// As [`open_with`].
pub fn open(engine: Engine, dir: &Dir) -> Result<Store, Error> {
    open_with(Options::new(engine), dir)
}

/// Opens the store in `dir`, or makes it; the directory is locked as long as the store is in use.
///
/// # Errors
/// [`Error::InUse`], [`Error::ReadOnly`], [`Error::WrongEngine`], [`Error::NotInSimulation`], [`Error::Corrupt`] and
/// [`Error::Io`], each naming the path.
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
    let marked = read_marker(dir)?;
    let other = match engine {
        Engine::Redb => Engine::Sled,
        Engine::Sled => Engine::Redb,
    };
    let has = |engine: Engine| {
        dir.exists(engine.entry())
            .map_err(|error| from_io(dir, "open", &error))
    };
    if marked == Some(other) || (marked.is_none() && has(other)?) {
        let path = dir.path().display().to_string();
        return Err(Error::WrongEngine {
            path,
            found: other.name(),
            asked: engine.name(),
        });
    }
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
            settle_unsynced(&medium).map_err(|error| from_io(dir, "open", &error))?;
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
        let marker = format!("{engine}\n");
        dir.write_atomic(MARKER, marker.as_bytes())
            .map_err(|error| from_io(dir, "open", &error))?;
    }
    Ok(store)
}

fn read_marker(dir: &Dir) -> Result<Option<Engine>, Error> {
    let Some(bytes) = dir
        .read(MARKER)
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
            let path = dir.path().join(MARKER);
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

/// A file of the runtime as redb's medium; the directory remembers a sync that failed.
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
        if mutant::active(Mutant::SyncLeftOut) {
            return Ok(());
        }
        let again = if buggify!("storage.open.sync_twice") {
            self.file.sync()
        } else {
            Ok(())
        };
        again.and_then(|()| self.file.sync()).inspect_err(|_| {
            // Whether the name is synced does not matter: it is wanted as long as the system remembers the bytes, and is
            // forgotten with them. When even that fails, there is nothing left to tell it to.
            let _ = self.dir.file(UNSYNCED);
        })
    }
}

/// Brings what the system shows of the file to the disk, if a sync of it failed before.
fn settle_unsynced(medium: &FileMedium) -> io::Result<()> {
    if medium.dir.exists(UNSYNCED)? {
        reached("state.store.rewritten");
        tracing::warn!(dir = %medium.dir.path().display(), "a sync failed before; writing the database again");
    } else if !buggify!("storage.open.rewrite_anyway") {
        return Ok(());
    }
    let length = medium.len()?;
    let mut offset = 0;
    let step = if buggify!("storage.open.rewrite_in_small_steps") {
        REWRITE_BYTES / 64
    } else {
        REWRITE_BYTES
    };
    let mut buffer = vec![0; step];
    while offset < length {
        let take = usize::try_from(length - offset).map_or(step, |rest| rest.min(step));
        medium.read_at(offset, &mut buffer[..take])?;
        medium.write_at(offset, &buffer[..take])?;
        offset += take as u64;
    }
    medium.sync()?;
    medium.dir.remove(UNSYNCED)
}

/// A store and the lock of its directory, released after the store has closed.
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
