//! A disk that can lose unsynced data at a power loss.
//!
//! A file consists of the content that its process sees, and of the durable content of the sectors
//! written since its last sync. A directory consists of the names that its process sees, the
//! durable names, and the ordered changes in between. At a power loss each unsynced sector of 512
//! bytes survives or is lost independently, so a write can be torn, and a prefix of each
//! directory's unsynced changes survives. A sector is never torn itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::time::Duration;

use super::disk_faults::{Damage, DiskFaults};
use super::process::Process;
use super::rng::Rng;

pub const SECTOR: usize = 512;

/// Share of rotten bits whose file is drawn regardless of its size, in parts per million.
const SMALL_FILE_PPM: u32 = 20_000;

/// The number of a file or directory on its disk.
pub type Inode = u64;

const ROOT: Inode = 0;

/// The disk of one machine.
pub struct Disk {
    content: Content,
    pub faults: DiskFaults,
    /// The effects of the faults.
    pub damage: Damage,
    /// Cost of operations since the last [`crate::disk::settle`].
    pub accrued: Duration,
    pub locks: BTreeMap<Inode, Process>,
    rng: Rng,
}

/// A copy of a disk, with the damage that its content has.
#[derive(Debug, Clone)]
pub struct Image {
    content: Content,
    damage: Damage,
}

impl Image {
    /// The content of a file, as processes see it; `None` if there is none.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        let mut inode = ROOT;
        for name in Disk::names_of(path).ok()? {
            let InodeData::Dir(dir) = self.content.inodes.get(&inode)? else {
                return None;
            };
            inode = *dir.live.get(&name)?;
        }
        match self.content.inodes.get(&inode)? {
            InodeData::File(file) => Some(&file.live),
            InodeData::Dir(_) => None,
        }
    }

    /// The effects of faults on the copied content.
    pub fn damage(&self) -> Damage {
        self.damage
    }
}

/// The content of a disk.
#[derive(Debug, Clone)]
struct Content {
    inodes: BTreeMap<Inode, InodeData>,
    next: Inode,
}

#[derive(Debug, Clone)]
enum InodeData {
    Dir(DirNode),
    File(FileNode),
}

#[derive(Debug, Clone, Default)]
struct DirNode {
    live: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
    pending: Vec<NameChange>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, Inode),
    Unlink(String),
    Rename(String, String),
}

#[derive(Debug, Clone, Default)]
struct FileNode {
    live: Vec<u8>,
    durable_len: usize,
    /// The durable content of sectors that were written since the last sync.
    dirty: BTreeMap<usize, [u8; SECTOR]>,
    /// The same for sectors whose sync failed. The kernel considers them clean, so a later
    /// successful sync does not make them durable.
    stuck: BTreeMap<usize, [u8; SECTOR]>,
    /// The previous content of the sectors that the last sync changed, which stale reads return.
    before: BTreeMap<usize, [u8; SECTOR]>,
    /// Open handles of the running process.
    open: u32,
}

/// The result of a directory look-up.
pub struct FoundDir {
    /// The deepest existing directory of the path.
    pub inode: Inode,
    /// Its parent, unless it is the root.
    pub parent: Option<Inode>,
    /// The missing names below it.
    pub missing: Vec<String>,
}

/// The effects of a power loss.
#[derive(Debug, Default, Clone, Copy)]
pub struct Losses {
    pub sectors_lost: u64,
    pub sectors_kept: u64,
    /// Files that lost some of their unsynced sectors and kept others.
    pub torn: u64,
    pub names_lost: u64,
}

impl DirNode {
    fn change(&mut self, change: NameChange) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }
}

fn apply(names: &mut BTreeMap<String, Inode>, change: &NameChange) {
    match change {
        NameChange::Link(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Unlink(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl FileNode {
    /// Saves the durable content of the sectors of `start..end` before they change.
    fn mark_dirty(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            if self.dirty.contains_key(&sector) {
                continue;
            }
            let before = match self.stuck.remove(&sector) {
                Some(durable) => durable,
                None => self.sector(sector),
            };
            self.dirty.insert(sector, before);
        }
    }

    fn sector(&self, sector: usize) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let start = sector * SECTOR;
        if let Some(live) = self.live.get(start..(start + SECTOR).min(self.live.len())) {
            bytes[..live.len()].copy_from_slice(live);
        }
        bytes
    }

    fn set_len(&mut self, len: usize) {
        let old_len = self.live.len();
        self.mark_dirty(len.min(old_len), len.max(old_len));
        self.live.resize(len, 0);
    }

    fn synced(&mut self) {
        if !self.dirty.is_empty() {
            self.before = std::mem::take(&mut self.dirty);
        }
        self.durable_len = self.live.len();
    }

    fn power_lost(&mut self, rng: &mut Rng, losses: &mut Losses) {
        let mut unsynced = std::mem::take(&mut self.stuck);
        unsynced.append(&mut self.dirty);
        let new_len = self.live.len();
        let keeps_len = new_len == self.durable_len || rng.chance(500_000);
        let len = if keeps_len { new_len } else { self.durable_len };
        let keep_ppm = [0, 250_000, 500_000, 750_000][rng.below(4) as usize];
        let mut lost = 0;
        let mut kept = 0;
        self.live.resize(len.max(new_len), 0);
        for (sector, durable) in unsynced {
            let start = sector * SECTOR;
            // A truncated sector that returns with the old length has its old content.
            if start < new_len && rng.chance(keep_ppm) {
                kept += 1;
                continue;
            }
            lost += 1;
            let end = (start + SECTOR).min(self.live.len());
            if let Some(bytes) = self.live.get_mut(start..end) {
                bytes.copy_from_slice(&durable[..bytes.len()]);
            }
        }
        self.live.resize(len, 0);
        self.durable_len = len;
        losses.sectors_lost += lost;
        losses.sectors_kept += kept;
        losses.torn += u64::from(lost > 0 && kept > 0);
    }
}

impl Content {
    fn new() -> Self {
        Self {
            inodes: BTreeMap::from([(ROOT, InodeData::Dir(DirNode::default()))]),
            next: ROOT + 1,
        }
    }

    fn dir(&mut self, inode: Inode) -> io::Result<&mut DirNode> {
        match self.inodes.get_mut(&inode) {
            Some(InodeData::Dir(dir)) => Ok(dir),
            Some(InodeData::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&mut self, inode: Inode) -> io::Result<&mut FileNode> {
        match self.inodes.get_mut(&inode) {
            Some(InodeData::File(file)) => Ok(file),
            Some(InodeData::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn add(&mut self, entry: InodeData) -> Inode {
        let inode = self.next;
        self.next += 1;
        self.inodes.insert(inode, entry);
        inode
    }

    fn power_lost(&mut self, rng: &mut Rng) -> Losses {
        let mut losses = Losses::default();
        for entry in self.inodes.values_mut() {
            match entry {
                InodeData::File(file) => file.power_lost(rng, &mut losses),
                InodeData::Dir(dir) => {
                    let pending = std::mem::take(&mut dir.pending);
                    let kept = rng.below(pending.len() as u64 + 1) as usize;
                    losses.names_lost += (pending.len() - kept) as u64;
                    for change in &pending[..kept] {
                        apply(&mut dir.durable, change);
                    }
                    dir.live = dir.durable.clone();
                }
            }
        }
        self.process_ended();
        losses
    }

    /// Drops unreachable files, because the process's handles are closed.
    fn process_ended(&mut self) {
        let mut reached = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            let Some(mut entry) = self.inodes.remove(&inode) else {
                continue;
            };
            match &mut entry {
                InodeData::File(file) => file.open = 0,
                InodeData::Dir(dir) => {
                    open.extend(dir.live.values().chain(dir.durable.values()));
                    // A pending link may become durable, though neither map has its name now.
                    open.extend(dir.pending.iter().filter_map(|change| match change {
                        NameChange::Link(_, inode) => Some(*inode),
                        NameChange::Unlink(_) | NameChange::Rename(..) => None,
                    }));
                }
            }
            reached.insert(inode, entry);
        }
        self.inodes = reached;
    }
}

impl Disk {
    pub fn new(rng: Rng) -> Self {
        Self {
            content: Content::new(),
            faults: DiskFaults::default(),
            damage: Damage::default(),
            accrued: Duration::ZERO,
            locks: BTreeMap::new(),
            rng,
        }
    }

    /// Bytes in all files, as processes see them.
    pub fn used(&self) -> u64 {
        let files = self.content.inodes.values().map(|entry| match entry {
            InodeData::File(file) => file.live.len() as u64,
            InodeData::Dir(_) => 0,
        });
        files.sum()
    }

    pub fn process_ended(&mut self) {
        self.locks.clear();
        self.accrued = Duration::ZERO;
        self.content.process_ended();
    }

    pub fn power_lost(&mut self) -> Losses {
        self.locks.clear();
        self.accrued = Duration::ZERO;
        self.content.power_lost(&mut self.rng)
    }

    pub fn image(&self) -> Image {
        Image {
            content: self.content.clone(),
            damage: self.damage,
        }
    }

    /// Puts a copy onto the disk, or empties it.
    pub fn restore(&mut self, image: Option<Image>) {
        let image = image.unwrap_or_else(|| Image {
            content: Content::new(),
            damage: Damage::default(),
        });
        self.content = image.content;
        self.damage = image.damage;
        // The copied content is durable.
        for entry in self.content.inodes.values_mut() {
            match entry {
                InodeData::Dir(dir) => {
                    dir.pending.clear();
                    dir.durable = dir.live.clone();
                }
                InodeData::File(file) => {
                    file.stuck.clear();
                    file.synced();
                }
            }
        }
        self.content.process_ended();
    }

    /// Flips `bits` bits in files, durably, and returns their number. Most files are drawn by size;
    /// a fiftieth is drawn regardless of it, so that small files are hit as well.
    pub fn rot(&mut self, bits: u32) -> u32 {
        let mut rotten = 0;
        let files: Vec<(Inode, u64)> = self
            .content
            .inodes
            .iter()
            .filter_map(|(inode, entry)| match entry {
                InodeData::File(file) if !file.live.is_empty() => {
                    Some((*inode, file.live.len() as u64))
                }
                InodeData::File(_) | InodeData::Dir(_) => None,
            })
            .collect();
        let bytes: u64 = files.iter().map(|(_, len)| len).sum();
        for _ in 0..bits {
            let any = self.rng.chance(SMALL_FILE_PPM);
            let mut at = self.rng.below(if any { files.len() as u64 } else { bytes });
            let chosen = files.iter().find(|(_, len)| {
                let size = if any { 1 } else { *len };
                let is_here = at < size;
                at = at.saturating_sub(size);
                is_here
            });
            let Some((inode, _)) = chosen else { break };
            let Ok(file) = self.content.file(*inode) else {
                break;
            };
            let at = self.rng.below(file.live.len() as u64) as usize;
            file.live[at] ^= 1 << self.rng.below(8);
            rotten += 1;
        }
        rotten
    }

    /// The components of `path` from the root.
    fn names_of(path: &Path) -> io::Result<Vec<String>> {
        path.components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .map(|part| match part {
                Component::Normal(name) => name.to_str().map(str::to_owned),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Finds the deepest existing directory of `path`.
    pub fn find_dir(&mut self, path: &Path) -> io::Result<FoundDir> {
        let names = Self::names_of(path)?;
        let mut found = FoundDir {
            inode: ROOT,
            parent: None,
            missing: Vec::new(),
        };
        for (depth, name) in names.iter().enumerate() {
            match self.content.dir(found.inode)?.live.get(name) {
                Some(inode) => {
                    found.parent = Some(found.inode);
                    found.inode = *inode;
                }
                None => {
                    found.missing = names[depth..].to_vec();
                    return Ok(found);
                }
            }
        }
        self.content.dir(found.inode)?;
        Ok(found)
    }

    pub fn lookup(&mut self, dir: Inode, name: &str) -> io::Result<Option<Inode>> {
        Ok(self.content.dir(dir)?.live.get(name).copied())
    }

    pub fn names(&mut self, dir: Inode) -> io::Result<Vec<String>> {
        Ok(self.content.dir(dir)?.live.keys().cloned().collect())
    }

    pub fn make_dir(&mut self, parent: Inode, name: &str) -> io::Result<Inode> {
        self.content.dir(parent)?;
        let inode = self.content.add(InodeData::Dir(DirNode::default()));
        self.content
            .dir(parent)?
            .change(NameChange::Link(name.to_owned(), inode));
        Ok(inode)
    }

    pub fn make_file(&mut self, parent: Inode, name: &str) -> io::Result<Inode> {
        self.content.dir(parent)?;
        let inode = self.content.add(InodeData::File(FileNode::default()));
        self.content
            .dir(parent)?
            .change(NameChange::Link(name.to_owned(), inode));
        Ok(inode)
    }

    pub fn rename(&mut self, dir: Inode, from: &str, to: &str) -> io::Result<()> {
        self.content
            .dir(dir)?
            .change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub fn unlink(&mut self, dir: Inode, name: &str) -> io::Result<()> {
        if let Some(inode) = self.lookup(dir, name)? {
            self.content.file(inode)?;
            self.content
                .dir(dir)?
                .change(NameChange::Unlink(name.to_owned()));
        }
        Ok(())
    }

    /// Makes the names of a directory durable, and drops closed files that thereby lose their last
    /// name.
    pub fn sync_dir(&mut self, inode: Inode) -> io::Result<()> {
        let dir = self.content.dir(inode)?;
        let mut before: Vec<Inode> = dir.durable.values().copied().collect();
        before.extend(dir.pending.drain(..).filter_map(|change| match change {
            NameChange::Link(_, inode) => Some(inode),
            NameChange::Unlink(_) | NameChange::Rename(..) => None,
        }));
        dir.durable = dir.live.clone();
        let after: std::collections::BTreeSet<Inode> = dir.live.values().copied().collect();
        for old in before.into_iter().filter(|inode| !after.contains(inode)) {
            if self.content.file(old).is_ok_and(|file| file.open == 0) {
                self.content.inodes.remove(&old);
            }
        }
        Ok(())
    }

    pub fn opened(&mut self, file: Inode) -> io::Result<()> {
        self.content.file(file)?.open += 1;
        Ok(())
    }

    pub fn closed(&mut self, file: Inode) {
        if let Ok(file) = self.content.file(file) {
            file.open = file.open.saturating_sub(1);
        }
    }

    pub fn content(&mut self, file: Inode) -> io::Result<&[u8]> {
        Ok(&self.content.file(file)?.live)
    }

    /// Reads a whole file. Stale reads do not apply, because such files are small and replaced as a
    /// whole.
    pub fn read_all(&mut self, file: Inode) -> io::Result<Vec<u8>> {
        Ok(self.content(file)?.to_vec())
    }

    /// Fills `buf` and returns true for a stale read.
    pub fn read(&mut self, file: Inode, offset: u64, buf: &mut [u8]) -> io::Result<bool> {
        let may_be_stale = self.faults.stale_reads > 0;
        let file = self.content.file(file)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buf.len());
        buf.copy_from_slice(
            file.live
                .get(start..end)
                .ok_or(io::ErrorKind::UnexpectedEof)?,
        );
        if !may_be_stale || buf.is_empty() {
            return Ok(false);
        }
        let mut is_stale = false;
        for (sector, before) in file.before.range(start / SECTOR..end.div_ceil(SECTOR)) {
            let first = (sector * SECTOR).max(start);
            let last = ((sector + 1) * SECTOR).min(end);
            let old = &before[first - sector * SECTOR..last - sector * SECTOR];
            let new = &mut buf[first - start..last - start];
            is_stale |= *new != *old;
            new.copy_from_slice(old);
        }
        if is_stale {
            self.faults.stale_reads -= 1;
            self.damage.stale_reads += 1;
        }
        Ok(is_stale)
    }

    /// The sector-aligned offset within the file to which a write of `taken` bytes at `offset` is
    /// misdirected, if a fault hits it.
    fn misdirect(&mut self, file: Inode, offset: usize, taken: usize) -> io::Result<Option<usize>> {
        let len = self.content.file(file)?.live.len();
        let places = len.saturating_sub(taken) / SECTOR;
        if self.faults.misdirected_writes == 0 || taken == 0 || places < 1 || offset >= len {
            return Ok(None);
        }
        // Draws from one place fewer, to exclude the write's own.
        let at = self.rng.below(places as u64) as usize;
        let at = if at * SECTOR >= offset / SECTOR * SECTOR {
            at + 1
        } else {
            at
        };
        self.faults.misdirected_writes -= 1;
        self.damage.misdirected_writes += 1;
        Ok(Some(at * SECTOR))
    }

    /// Writes as many bytes as there is space for, and returns their number.
    pub fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            // An empty write beyond the end does not extend the file.
            return Ok(0);
        }
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = offset
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let space = self.space();
        if let Some(elsewhere) = self.misdirect(file, offset, bytes.len())? {
            let file = self.content.file(file)?;
            let end = (elsewhere + bytes.len()).min(file.live.len());
            file.mark_dirty(elsewhere, end);
            file.live[elsewhere..end].copy_from_slice(&bytes[..end - elsewhere]);
            return Ok(bytes.len());
        }
        let file = self.content.file(file)?;
        let growth = end.saturating_sub(file.live.len()) as u64;
        if let Some(room) = &mut self.faults.room_to_write {
            if *room < bytes.len() as u64 {
                return Ok(0);
            }
            *room -= bytes.len() as u64;
        }
        let fits = if growth <= space {
            end
        } else {
            (file.live.len() + space as usize).max(offset.min(file.live.len()))
        };
        if offset > fits {
            return Ok(0);
        }
        if file.live.len() < fits {
            file.set_len(fits);
        }
        file.mark_dirty(offset, fits);
        let taken = fits - offset;
        file.live[offset..fits].copy_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Returns false when the space does not suffice.
    pub fn set_len(&mut self, file: Inode, len: u64) -> io::Result<bool> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let space = self.space();
        let file = self.content.file(file)?;
        if len.saturating_sub(file.live.len()) as u64 > space {
            return Ok(false);
        }
        file.set_len(len);
        Ok(true)
    }

    fn space(&self) -> u64 {
        match self.faults.capacity {
            Some(capacity) => capacity.saturating_sub(self.used()),
            None => u64::MAX,
        }
    }

    pub fn sync(&mut self, file: Inode) -> io::Result<()> {
        self.content.file(file)?.synced();
        Ok(())
    }

    /// A failed sync: the kernel clears the dirty marks nevertheless.
    pub fn sync_failed(&mut self, file: Inode) -> io::Result<()> {
        let file = self.content.file(file)?;
        let dirty = std::mem::take(&mut file.dirty);
        file.stuck.extend(dirty);
        Ok(())
    }
}
