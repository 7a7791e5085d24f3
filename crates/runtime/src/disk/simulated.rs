//! Directories and files on the node's simulated disk, whose rules are in `sim::disk`.

use std::io;
use std::path::{Path, PathBuf};

use super::{LOCK_FILE, TEMPORARY};
use crate::sim::disk::{Disk, Inode};
use crate::sim::state::WorldState;
use crate::sim::{NodeId, Process, World, here, try_with, with};

#[derive(Clone)]
pub struct Dir {
    process: Process,
    inode: Inode,
    path: PathBuf,
}

impl Dir {
    pub fn open(path: &Path) -> io::Result<Self> {
        let process = here();
        let found = inspect(process, |disk| disk.find_dir(path))?;
        let mut inode = found.inode;
        if let Some(parent) = found.parent {
            // Its creator may have been killed before the name was durable.
            sync_dir(process, parent, path)?;
        }
        for name in found.missing {
            let parent = inode;
            let detail = || format!("{name} for {}", path.display());
            inode = change(process, "disk.make_dir", name.as_bytes(), detail, |d| {
                d.make_dir(parent, &name)
            })?;
            sync_dir(process, parent, path)?;
        }
        Ok(Self {
            process,
            inode,
            path: path.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> io::Result<File> {
        let inode = match inspect(self.process, |disk| disk.lookup(self.inode, name))? {
            Some(inode) => inode,
            None => self.make_file(name)?,
        };
        // Also for an existing file, because its creator may have been killed before the name was
        // durable.
        sync_dir(self.process, self.inode, &self.path)?;
        inspect(self.process, |disk| disk.opened(inode))?;
        Ok(File {
            process: self.process,
            inode,
            path: self.path.join(name),
        })
    }

    fn make_file(&self, name: &str) -> io::Result<Inode> {
        let detail = || self.path.join(name).display().to_string();
        change(
            self.process,
            "disk.make_file",
            name.as_bytes(),
            detail,
            |d| d.make_file(self.inode, name),
        )
    }

    pub fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(inspect(self.process, |disk| disk.lookup(self.inode, name))?.is_some())
    }

    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match inspect(self.process, |disk| disk.lookup(self.inode, name))? {
            None => Ok(None),
            Some(inode) => read(self.process, |disk| disk.read_all(inode)).map(Some),
        }
    }

    pub fn write_atomic(&self, name: &str, bytes: &[u8], _private: bool) -> io::Result<()> {
        let temporary = format!("{name}{TEMPORARY}");
        self.unlink(&temporary)?;
        let inode = self.make_file(&temporary)?;
        let path = self.path.join(&temporary);
        write(self.process, inode, &path, 0, bytes)?;
        sync(self.process, inode, &path)?;
        let detail = || path.display().to_string();
        change(self.process, "disk.rename", name.as_bytes(), detail, |d| {
            d.rename(self.inode, &temporary, name)
        })?;
        sync_dir(self.process, self.inode, &self.path)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        if !self.exists(name)? {
            return Ok(());
        }
        let detail = || self.path.join(name).display().to_string();
        change(self.process, "disk.unlink", name.as_bytes(), detail, |d| {
            d.unlink(self.inode, name)
        })
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.unlink(name)?;
        sync_dir(self.process, self.inode, &self.path)
    }

    pub fn list(&self) -> io::Result<Vec<String>> {
        inspect(self.process, |disk| disk.names(self.inode))
    }

    pub fn lock(&self) -> io::Result<Lock> {
        self.file(LOCK_FILE)?;
        inspect(self.process, |disk| {
            if disk.locks.contains_key(&self.inode) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            disk.locks.insert(self.inode, self.process);
            Ok(Lock {
                process: self.process,
                inode: self.inode,
            })
        })
    }
}

pub struct File {
    process: Process,
    inode: Inode,
    path: PathBuf,
}

impl File {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if read(self.process, |disk| disk.read(self.inode, offset, buf))? {
            note_fault(self.process.node, "disk.stale_reads");
        }
        Ok(())
    }

    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write(self.process, self.inode, &self.path, offset, bytes)
    }

    pub fn len(&self) -> io::Result<u64> {
        inspect(self.process, |disk| {
            disk.content(self.inode).map(|bytes| bytes.len() as u64)
        })
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let detail = || format!("{} {len}", self.path.display());
        let fits = change(
            self.process,
            "disk.set_len",
            &len.to_le_bytes(),
            detail,
            |d| d.set_len(self.inode, len),
        )?;
        full_unless(self.process.node, fits)
    }

    pub fn sync(&self) -> io::Result<()> {
        sync(self.process, self.inode, &self.path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        try_with(|state| {
            if state.is_alive(self.process) {
                state.node(self.process.node).disk.closed(self.inode);
            }
        });
    }
}

/// The disk releases the lock when the process ends.
pub struct Lock {
    process: Process,
    inode: Inode,
}

impl Drop for Lock {
    fn drop(&mut self) {
        try_with(|state| {
            if state.is_alive(self.process) {
                state.node(self.process.node).disk.locks.remove(&self.inode);
            }
        });
    }
}

pub async fn settle() {
    const MIN_SLEEP: std::time::Duration = std::time::Duration::from_millis(1);
    let cost = with(|state| {
        let accrued = &mut state.node(here().node).disk.accrued;
        if *accrued >= MIN_SLEEP {
            std::mem::take(accrued)
        } else {
            std::time::Duration::ZERO
        }
    });
    if cost >= MIN_SLEEP {
        with(|state| state.count("disk.slow"));
        crate::time::sleep(cost).await;
    }
}

fn dead() -> io::Error {
    io::Error::other("the process that opened this is dead")
}

/// Accesses the disk without cost and without faults.
fn inspect<T>(process: Process, f: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
    with(|state| {
        if !state.is_alive(process) {
            return Err(dead());
        }
        f(&mut state.node(process.node).disk)
    })
}

fn read<T>(process: Process, f: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
    with(|state| {
        if !state.is_alive(process) {
            return Err(dead());
        }
        let disk = &mut state.node(process.node).disk;
        if disk.faults.failing_reads > 0 {
            disk.faults.failing_reads -= 1;
            disk.damage.failed_reads += 1;
            state.count("disk.read_failed");
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        f(disk)
    })
}

/// Performs a changing operation: it costs time, it is traced, and a planned power loss may occur
/// in its place.
fn change<T>(
    process: Process,
    kind: &'static str,
    payload: &[u8],
    detail: impl FnOnce() -> String,
    f: impl FnOnce(&mut Disk) -> io::Result<T>,
) -> io::Result<T> {
    let (loses_power, fails) = with(|state| {
        if !state.is_alive(process) {
            return Err(dead());
        }
        let disk = &mut state.node(process.node).disk;
        disk.accrued += disk.faults.slowness.per_operation;
        let loses_power = disk.faults.take_power_loss();
        let fails = disk.faults.take_failure();
        disk.damage.failed_writes += u64::from(fails && !loses_power);
        Ok((loses_power, fails))
    })?;
    if loses_power {
        with(|state| state.count("disk.power_off_at_operation"));
        World::current().power_off(process.node);
        return Err(dead());
    }
    if fails {
        note_fault(process.node, "disk.operation_failed");
        return Err(io::Error::from_raw_os_error(libc::EIO));
    }
    with(|state| {
        state.note(process.node, kind, payload, detail);
        f(&mut state.node(process.node).disk)
    })
}

fn write(process: Process, inode: Inode, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let detail = || format!("{} {} bytes at {offset}", path.display(), bytes.len());
    let (taken, is_misdirected) = change(process, "disk.write", bytes, detail, |disk| {
        if disk.faults.take_failing_write() {
            disk.damage.failed_writes += 1;
            return Ok((None, false));
        }
        let before = disk.damage.misdirected_writes;
        let taken = disk.write(inode, offset, bytes)?;
        Ok((Some(taken), disk.damage.misdirected_writes > before))
    })?;
    if is_misdirected {
        note_fault(process.node, "disk.misdirected");
    }
    match taken {
        Some(taken) => full_unless(process.node, taken == bytes.len()),
        None => {
            note_fault(process.node, "disk.write_failed");
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
}

fn full_unless(node: NodeId, fits: bool) -> io::Result<()> {
    if fits {
        return Ok(());
    }
    with(|state| state.node(node).disk.damage.without_space += 1);
    note_fault(node, "disk.full");
    Err(io::Error::from_raw_os_error(libc::ENOSPC))
}

/// Counts and records the effect of a disk fault.
fn note_fault(node: NodeId, kind: &'static str) {
    with(|state: &mut WorldState| {
        state.count(kind);
        state.note(node, kind, &[], String::new);
    });
}

/// Maximum extra duration of a sync in milliseconds, as on a shared disk.
const SLOW_SYNC_MS: u64 = 50;

fn sync(process: Process, inode: Inode, path: &Path) -> io::Result<()> {
    let detail = || path.display().to_string();
    let slow = crate::buggify_below!("runtime.disk.slow_sync", 100_000, SLOW_SYNC_MS).unwrap_or(0);
    let fails = change(process, "disk.sync", &[], detail, |disk| {
        disk.accrued += disk.faults.slowness.per_sync + std::time::Duration::from_millis(slow);
        let fails = disk.faults.take_failing_sync();
        if fails {
            disk.sync_failed(inode)?
        } else {
            disk.sync(inode)?
        }
        Ok(fails)
    })?;
    failed_if(process.node, fails)
}

fn sync_dir(process: Process, inode: Inode, path: &Path) -> io::Result<()> {
    let detail = || path.display().to_string();
    let fails = change(process, "disk.sync_dir", &[], detail, |disk| {
        disk.accrued += disk.faults.slowness.per_sync;
        let fails = disk.faults.take_failing_sync();
        if !fails {
            disk.sync_dir(inode)?;
        }
        Ok(fails)
    })?;
    failed_if(process.node, fails)
}

fn failed_if(node: NodeId, fails: bool) -> io::Result<()> {
    if !fails {
        return Ok(());
    }
    with(|state| state.node(node).disk.damage.failed_syncs += 1);
    note_fault(node, "disk.sync_failed");
    Err(io::Error::from_raw_os_error(libc::EIO))
}
