//! Synchronous directories and files with the guarantees that the storage engine needs.
//!
//! Durable are a file's bytes after [`File::sync`], and a name once [`Dir::write_atomic`],
//! [`Dir::file`], [`Dir::sub`] or [`Dir::remove`] has returned. A power loss may remove everything
//! else completely or in part. Killing a process loses nothing.
//!
//! Calls block the thread on the disk. In simulation they take no time; the cost of a slow disk
//! accrues and is slept in [`settle`], which writers should await after each batch.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(not(madsim))]
#[path = "real.rs"]
mod imp;
#[cfg(madsim)]
#[path = "simulated.rs"]
pub(crate) mod imp;

/// The file that [`Dir::lock`] locks.
pub const LOCK_FILE: &str = "LOCK";

/// Suffix of the temporary files of [`Dir::write_atomic`], which [`Dir::list`] omits.
pub(crate) const TEMPORARY: &str = ".tmp~";

/// A directory. Clones refer to the same directory.
#[derive(Clone)]
pub struct Dir(imp::Dir);

impl Dir {
    /// Opens the directory at `path`. Creates it and its parents durably when they are missing.
    ///
    /// # Errors
    /// `InvalidInput` for an empty path, and errors of the system.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path of a directory is empty",
            ));
        }
        imp::Dir::open(path)
            .map(Self)
            .map_err(|e| at("open directory", path, e))
    }

    /// The subdirectory `name`, created durably when it is missing.
    ///
    /// # Errors
    /// `InvalidInput` unless `name` is a plain name, and errors of the system.
    pub fn sub(&self, name: &str) -> io::Result<Self> {
        Self::open(self.named(name)?)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Opens the file `name` for reading and writing. Creates it, durably and empty, when it is
    /// missing.
    ///
    /// # Errors
    /// `InvalidInput` unless `name` is a plain name, and errors of the system; also for the methods
    /// below.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let path = self.named(name)?;
        self.0
            .file(name)
            .map(File)
            .map_err(|e| at("open", &path, e))
    }

    /// True when a file or directory `name` exists.
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        let path = self.named(name)?;
        self.0.exists(name).map_err(|e| at("look for", &path, e))
    }

    /// The content of the file `name`; `None` when it does not exist.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.named(name)?;
        self.0.read(name).map_err(|e| at("read", &path, e))
    }

    /// Replaces the content of the file `name`. After a crash the file has either the old or the
    /// new content; once this has returned it has the new one. After an error it has either. Must
    /// not be called concurrently for one name.
    pub fn write_atomic(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.named(name)?;
        self.0
            .write_atomic(name, bytes, false)
            .map_err(|e| at("write", &path, e))
    }

    /// As [`write_atomic`](Self::write_atomic), with permissions for the owner only: for secrets.
    pub fn write_atomic_private(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.named(name)?;
        self.0
            .write_atomic(name, bytes, true)
            .map_err(|e| at("write", &path, e))
    }

    /// Removes the file `name` durably, if it exists.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.named(name)?;
        self.0.remove(name).map_err(|e| at("remove", &path, e))
    }

    /// The names of all files and subdirectories, sorted. Omits temporary files of an interrupted
    /// [`write_atomic`](Self::write_atomic), and names that are not UTF-8.
    pub fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.0.list().map_err(|e| at("list", self.path(), e))?;
        names.retain(|name| !name.ends_with(TEMPORARY));
        names.sort();
        Ok(names)
    }

    /// Locks the directory until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` when another process, or another component of this one, holds the lock.
    pub fn lock(&self) -> io::Result<Lock> {
        match self.0.lock() {
            Ok(lock) => Ok(Lock {
                path: self.path().to_owned(),
                _imp: lock,
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
        let is_plain = !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains(['/', '\\', '\0'])
            && !name.ends_with(TEMPORARY);
        if !is_plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is not a file name"),
            ));
        }
        Ok(self.path().join(name))
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dir").field(&self.path()).finish()
    }
}

/// An open file. Offsets are in bytes. It may be shared between threads, but concurrent writes must
/// not overlap.
pub struct File(imp::File);

impl File {
    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file is too short, and errors of the system.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }

    /// Writes all of `bytes` at `offset`, and extends the file with zeros as needed. Not durable
    /// before [`sync`](Self::sync).
    ///
    /// # Errors
    /// `StorageFull`, and other errors of the system, after which a part may have been written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    /// Length in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "reading a file's length is a system call that can fail"
    )]
    pub fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    /// Truncates the file, or extends it with zeros. Not durable before [`sync`](Self::sync).
    ///
    /// # Errors
    /// `StorageFull`, and other errors of the system.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// Returns once all earlier writes are durable.
    ///
    /// # Errors
    /// It is then unknown which writes are durable, and a second sync does not reveal it: stop and
    /// recover.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.0.path()).finish()
    }
}

/// A held lock of a directory, see [`Dir::lock`].
pub struct Lock {
    path: PathBuf,
    _imp: imp::Lock,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lock").field(&self.path).finish()
    }
}

/// Sleeps the time that the node's simulated disk has accrued since the last call. No effect in
/// production, where the calls themselves take the time.
pub async fn settle() {
    #[cfg(madsim)]
    imp::settle().await;
}

/// Adds the operation and the path to an IO error and keeps its kind.
fn at(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
