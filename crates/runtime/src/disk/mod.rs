//! Directories and files, synchronous, with the promises that the storage engine needs and no others.
//!
//! What counts as written: a file's bytes after [`File::sync`]; a name after [`Dir::write_atomic`],
//! [`Dir::file`], [`Dir::sub`] or [`Dir::remove`] returned. Everything else may be gone, or half there, after a
//! power loss. A process that is killed loses nothing.
//!
//! Calls block the thread for as long as the disk takes. In simulation they take no time; a slow disk is
//! accrued instead and slept off in [`settle`], which whoever writes should await after each batch.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(not(madsim))]
#[path = "real.rs"]
mod half;
#[cfg(madsim)]
#[path = "simulated.rs"]
pub(crate) mod half;

/// The name of the file that [`Dir::lock`] locks.
pub const LOCK_FILE: &str = "LOCK";

/// The end of the names of files that [`Dir::write_atomic`] has not put in place yet. They are not listed.
pub(crate) const TEMPORARY: &str = ".tmp~";

/// A directory. Clones are the same directory.
#[derive(Clone)]
pub struct Dir(half::Dir);

impl Dir {
    /// Opens the directory at `path`, making it and its parents durably when they are missing.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for an empty path.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path of a directory is empty",
            ));
        }
        half::Dir::open(path)
            .map(Self)
            .map_err(|e| at("open directory", path, e))
    }

    /// The directory `name` in this one, made durably when it is missing.
    ///
    /// # Errors
    /// As [`open`](Self::open); `InvalidInput` if `name` is not a plain name.
    pub fn sub(&self, name: &str) -> io::Result<Self> {
        Self::open(self.named(name)?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Opens the file `name` for reading and writing, making it, durably and empty, when it is missing.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` if `name` is not a plain name.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let path = self.named(name)?;
        self.0
            .file(name)
            .map(File)
            .map_err(|e| at("open", &path, e))
    }

    /// Whether there is a file or directory `name`.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        let path = self.named(name)?;
        self.0.exists(name).map_err(|e| at("look for", &path, e))
    }

    /// The content of the file `name`, or `None` when it does not exist.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.named(name)?;
        self.0.read(name).map_err(|e| at("read", &path, e))
    }

    /// Makes `bytes` the content of the file `name`. After a crash at any moment the file is the old or the new
    /// one as a whole; once this has returned it is the new one. Not for two writers of one name at a time.
    ///
    /// # Errors
    /// As [`file`](Self::file); the file may be the old or the new one then.
    pub fn write_atomic(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.named(name)?;
        self.0
            .write_atomic(name, bytes, false)
            .map_err(|e| at("write", &path, e))
    }

    /// As [`write_atomic`](Self::write_atomic), and nobody but the owner may read the file: for secrets.
    ///
    /// # Errors
    /// As [`write_atomic`](Self::write_atomic).
    pub fn write_atomic_private(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.named(name)?;
        self.0
            .write_atomic(name, bytes, true)
            .map_err(|e| at("write", &path, e))
    }

    /// Removes the file `name` durably. Fine if it does not exist.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.named(name)?;
        self.0.remove(name).map_err(|e| at("remove", &path, e))
    }

    /// The names of the files and directories in it, sorted. Leaves out what an interrupted
    /// [`write_atomic`](Self::write_atomic) left behind, and names that are not UTF-8.
    ///
    /// # Errors
    /// What the system says.
    pub fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.0.list().map_err(|e| at("list", self.path(), e))?;
        names.retain(|name| !name.ends_with(TEMPORARY));
        names.sort();
        Ok(names)
    }

    /// Takes the directory for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` when another process, or another part of this one, has it.
    pub fn lock(&self) -> io::Result<Lock> {
        match self.0.lock() {
            Ok(lock) => Ok(Lock {
                path: self.path().to_owned(),
                _half: lock,
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!(
                    "{} is in use by another process (its {LOCK_FILE} is locked)",
                    self.path().display()
                ),
            )),
            Err(error) => Err(at("lock", self.path(), error)),
        }
    }

    fn named(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains(['/', '\\', '\0'])
            && !name.ends_with(TEMPORARY);
        match plain {
            true => Ok(self.path().join(name)),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is not a file name"),
            )),
        }
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dir").field(&self.path()).finish()
    }
}

/// An open file. Positions are bytes from its start. Sharing it between threads is fine; two overlapping writes
/// at a time are not.
pub struct File(half::File);

impl File {
    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before that; what else the system says.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }

    /// Writes all of `bytes` at `offset`, lengthening the file with zeros as needed. Not durable before
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// `StorageFull`, and what else the system says; a part may have been written then.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system says.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a file's length is asked of the system and can fail"
    )]
    pub fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    /// Cuts it off, or lengthens it with zeros. Not durable before [`sync`](Self::sync).
    ///
    /// # Errors
    /// `StorageFull`, and what else the system says.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// Returns when all writes before it are durable.
    ///
    /// # Errors
    /// Then it is unknown which writes are durable, and trying again does not tell: stop and recover.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.0.path()).finish()
    }
}

/// A locked directory, see [`Dir::lock`].
pub struct Lock {
    path: PathBuf,
    _half: half::Lock,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lock").field(&self.path).finish()
    }
}

/// Sleeps the time that this node's disk would have taken since the last call. Nothing in production, where the
/// calls themselves took it.
pub async fn settle() {
    #[cfg(madsim)]
    half::settle().await;
}

/// An I/O error that names what was tried and where, of the same kind.
fn at(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
