//! Files of the operating system.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{LOCK_FILE, TEMPORARY};

#[derive(Clone)]
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    pub fn open(path: &Path) -> io::Result<Self> {
        create(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        let inner = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        // Also for an existing file, because its creator may have been killed before the name was
        // durable.
        sync_dir(&self.path)?;
        Ok(File { inner, path })
    }

    pub fn exists(&self, name: &str) -> io::Result<bool> {
        self.path.join(name).try_exists()
    }

    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn write_atomic(&self, name: &str, bytes: &[u8], private: bool) -> io::Result<()> {
        let temporary = self.path.join(format!("{name}{TEMPORARY}"));
        // The mode applies to a new file only, so a temporary file of an interrupted call must be
        // removed.
        ignore_absence(fs::remove_file(&temporary))?;
        let mode = if private { 0o600 } else { 0o644 };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, self.path.join(name))?;
        sync_dir(&self.path)
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        ignore_absence(fs::remove_file(self.path.join(name)))?;
        sync_dir(&self.path)
    }

    pub fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    pub fn lock(&self) -> io::Result<Lock> {
        let file = self.file(LOCK_FILE)?.inner;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

pub struct File {
    inner: fs::File,
    path: PathBuf,
}

impl File {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }

    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all_at(bytes, offset)
    }

    pub fn len(&self) -> io::Result<u64> {
        self.inner.metadata().map(|m| m.len())
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    pub fn sync(&self) -> io::Result<()> {
        // fdatasync also makes the metadata durable that is needed to read the bytes, such as the
        // length.
        self.inner.sync_data()
    }
}

/// The system releases the lock when the file is closed or the process ends.
pub struct Lock {
    _file: fs::File,
}

/// Creates the directory and its parents. Syncing the parent makes a name durable.
fn create(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // The root has no name that could be lost.
        None => return Ok(()),
    };
    if path.is_dir() {
        // Its creator may have been killed before the name was durable. A parent that this user may
        // not read was not created by an Alys process.
        return match sync_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    create(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        created => created?,
    }
    sync_dir(parent)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn ignore_absence(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
