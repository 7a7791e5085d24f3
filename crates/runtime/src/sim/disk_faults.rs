//! What the world does to disks.

use std::time::Duration;

use super::disk::{Image, Losses};
use super::state::{State, with};
use super::{NodeId, World};

/// Faults that wait for the operations that they hit.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// This many syncs fail with EIO.
    pub failing_syncs: u32,
    /// This many reads fail with EIO.
    pub failing_reads: u32,
    /// This many writes fail with EIO, and write nothing.
    pub failing_writes: u32,
    /// This many writes end up at another place of their file, and are reported as done.
    pub misdirected_writes: u32,
    /// This many reads give what was there before the last sync.
    pub stale_reads: u32,
    /// The power goes in place of the last of this many changing operations.
    pub power_loss_in: Option<u64>,
    /// All files together cannot grow beyond this.
    pub capacity: Option<u64>,
    /// So many bytes may still be written, wherever: a disk that never overwrites what it holds.
    pub room_to_write: Option<u64>,
    pub slowness: Slowness,
}

/// What was done to the disk of a machine, and had an effect. It is kept until the disk is wiped or restored, whatever
/// heals, so that what the process says about its disk can be told from a bug.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bits that were turned over.
    pub rotten_bits: u64,
    /// Writes that ended up elsewhere.
    pub misdirected_writes: u64,
    /// Reads that gave what was there before.
    pub stale_reads: u64,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Writes that failed.
    pub failed_writes: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Operations for which there was no space.
    pub without_space: u64,
}

impl Damage {
    /// Whether anything was done.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Whether what is stored, or what the process made of it, may be wrong without an error having been told.
    pub fn is_silent(&self) -> bool {
        self.rotten_bits + self.misdirected_writes + self.stale_reads > 0
    }
}

impl Faults {
    /// Whether the write that is happening now fails.
    pub fn take_failing_write(&mut self) -> bool {
        let fails = self.failing_writes > 0;
        self.failing_writes = self.failing_writes.saturating_sub(1);
        fails
    }

    /// Whether the sync that is happening now fails.
    pub fn take_failing_sync(&mut self) -> bool {
        let fails = self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        fails
    }
}

/// What disk operations cost, slept in [`crate::disk::settle`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slowness {
    /// For each operation that changes something.
    pub per_operation: Duration,
    /// For each sync besides that.
    pub per_sync: Duration,
}

impl State {
    /// Lets the disk of a machine lose what was not synced.
    pub fn disk_power_lost(&mut self, id: NodeId) {
        let losses = self.node(id).disk.power_lost();
        let Losses {
            sectors_lost,
            sectors_kept,
            torn,
            names_lost,
        } = losses;
        self.count_n("disk.sectors_lost", sectors_lost);
        self.count_n("disk.unsynced_sectors_kept", sectors_kept);
        self.count_n("disk.torn_files", torn);
        self.count_n("disk.names_lost", names_lost);
        self.node(id).disk.faults.power_loss_in = None;
        let detail = format!("{losses:?}");
        self.note(id, "disk.power_lost", detail.as_bytes(), || detail.clone());
    }
}

impl World {
    /// Makes the node's next `n` syncs fail with EIO. What they should have made durable stays in doubt even if
    /// a later sync succeeds. Syncs of directories count as well.
    pub fn fail_syncs(&self, id: NodeId, n: u32) {
        with(|state| state.node(id).disk.faults.failing_syncs = n);
    }

    /// Makes the node's next `n` reads fail with EIO.
    pub fn fail_reads(&self, id: NodeId, n: u32) {
        with(|state| state.node(id).disk.faults.failing_reads = n);
    }

    /// Makes the node's next `n` writes fail with EIO. They write nothing.
    pub fn fail_writes(&self, id: NodeId, n: u32) {
        with(|state| state.node(id).disk.faults.failing_writes = n);
    }

    /// Has the node's next `n` writes end up at another place of their file, in the size of a sector at least, while the
    /// process is told that they are done. Writes to files of less than two sectors are spared.
    pub fn misdirect_writes(&self, id: NodeId, n: u32) {
        with(|state| state.node(id).disk.faults.misdirected_writes = n);
    }

    /// Has the node's next `n` reads, of those that touch what the last sync of their file changed, give what was there
    /// before it.
    pub fn make_reads_stale(&self, id: NodeId, n: u32) {
        with(|state| state.node(id).disk.faults.stale_reads = n);
    }

    /// What was done to the node's disk so far, since it was last wiped or restored.
    pub fn disk_damage(&self, id: NodeId) -> Damage {
        with(|state| state.node(id).disk.damage)
    }

    /// Leaves the node room for `bytes` more bytes, or for any number again.
    pub fn set_free_space(&self, id: NodeId, bytes: Option<u64>) {
        with(|state| {
            let disk = &mut state.node(id).disk;
            disk.faults.capacity = bytes.map(|bytes| disk.used().saturating_add(bytes));
        });
    }

    /// Lets the node write `bytes` more bytes, or any number again. Overwriting counts as well, as on a file system or a
    /// volume that writes what changes to another place: there a database that only ever overwrites meets a full disk too.
    pub fn set_room_to_write(&self, id: NodeId, bytes: Option<u64>) {
        with(|state| state.node(id).disk.faults.room_to_write = bytes);
    }

    /// What the node's disk operations cost from now on.
    pub fn set_slowness(&self, id: NodeId, slowness: Slowness) {
        with(|state| state.node(id).disk.faults.slowness = slowness);
    }

    /// Takes the node's power in place of its `k`-th changing disk operation from now; 1 is the next one.
    pub fn power_off_at_operation(&self, id: NodeId, k: u64) {
        with(|state| state.node(id).disk.faults.power_loss_in = Some(k.max(1)));
    }

    /// Cancels all disk faults of the node; what they did stays done.
    pub fn heal_disk(&self, id: NodeId) {
        with(|state| state.node(id).disk.faults = Faults::default());
    }

    /// A copy of what the node's process would find now.
    pub fn disk_image(&self, id: NodeId) -> Image {
        with(|state| state.node(id).disk.image())
    }

    /// Puts a copy back onto the node's disk.
    ///
    /// # Panics
    /// While the process runs.
    pub fn restore_disk(&self, id: NodeId, image: Image) {
        self.change_disk(id, "disk.restored", Some(image));
    }

    /// Empties the node's disk.
    ///
    /// # Panics
    /// While the process runs.
    pub fn wipe_disk(&self, id: NodeId) {
        self.change_disk(id, "disk.wiped", None);
    }

    fn change_disk(&self, id: NodeId, kind: &'static str, image: Option<Image>) {
        with(|state| {
            assert!(
                !state.node(id).is_up,
                "a disk is changed only while its process is down"
            );
            state.node(id).disk.restore(image);
            state.node(id).disk.damage = Damage::default();
            state.count(kind);
            state.note(id, kind, &[], String::new);
        });
    }

    /// Turns over `bits` random bits in the files of the node, durably and silently. Returns how many.
    pub fn rot_disk(&self, id: NodeId, bits: u32) -> u32 {
        with(|state| {
            let rotten = state.node(id).disk.rot(bits);
            state.node(id).disk.damage.rotten_bits += u64::from(rotten);
            state.count_n("disk.rotten_bits", u64::from(rotten));
            state.note(id, "disk.rot", &rotten.to_le_bytes(), || {
                format!("{rotten} bits")
            });
            rotten
        })
    }
}
