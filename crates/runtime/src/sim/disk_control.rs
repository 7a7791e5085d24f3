//! Actions of the world on disks: faults, power losses, images.

use super::disk::{Image, Losses};
use super::disk_faults::{Damage, DiskFaults, Slowness};
use super::state::{WorldState, with};
use super::{NodeId, World};

impl WorldState {
    /// Applies a power loss to a machine's disk.
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
    /// Makes the node's next `n` syncs fail with EIO, including those of directories. Their data
    /// stays volatile even if a later sync succeeds.
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

    /// Directs the node's next `n` writes to another, sector-aligned offset of their file, and
    /// reports success. Writes to files of less than two sectors are exempt.
    pub fn misdirect_writes(&self, id: NodeId, n: u32) {
        with(|state| state.node(id).disk.faults.misdirected_writes = n);
    }

    /// Makes the node's next `n` reads of sectors that the last sync of their file changed return
    /// the content before it.
    pub fn make_reads_stale(&self, id: NodeId, n: u32) {
        with(|state| state.node(id).disk.faults.stale_reads = n);
    }

    /// The effects of faults on the node's disk since it was last wiped or restored.
    pub fn disk_damage(&self, id: NodeId) -> Damage {
        with(|state| state.node(id).disk.damage)
    }

    /// Limits the growth of the node's files to `bytes`; `None` removes the limit.
    pub fn set_free_space(&self, id: NodeId, bytes: Option<u64>) {
        with(|state| {
            let disk = &mut state.node(id).disk;
            disk.faults.capacity = bytes.map(|bytes| disk.used().saturating_add(bytes));
        });
    }

    /// Limits the bytes that the node may still write; `None` removes the limit. Overwriting counts
    /// as well, as on a copy-on-write file system, where a database that only overwrites can also
    /// run out of space.
    pub fn set_room_to_write(&self, id: NodeId, bytes: Option<u64>) {
        with(|state| state.node(id).disk.faults.room_to_write = bytes);
    }

    /// Sets the cost of the node's disk operations.
    pub fn set_slowness(&self, id: NodeId, slowness: Slowness) {
        with(|state| state.node(id).disk.faults.slowness = slowness);
    }

    /// Cuts the node's power in place of its `k`-th changing disk operation from now; 1 is the next
    /// one.
    pub fn power_off_at_operation(&self, id: NodeId, k: u64) {
        with(|state| state.node(id).disk.faults.power_loss_in = Some(k.max(1)));
    }

    /// Makes the node's `k`-th changing disk operation from now fail with EIO, without an effect; 1
    /// is the next one.
    pub fn fail_operation(&self, id: NodeId, k: u64) {
        with(|state| state.node(id).disk.faults.failure_in = Some(k.max(1)));
    }

    /// The pending faults of the node's disk, with the operations that are still to be hit.
    pub fn disk_faults(&self, id: NodeId) -> DiskFaults {
        with(|state| state.node(id).disk.faults)
    }

    /// Replaces the pending faults of the node's disk.
    pub fn set_disk_faults(&self, id: NodeId, faults: DiskFaults) {
        with(|state| state.node(id).disk.faults = faults);
    }

    /// Cancels all pending disk faults of the node. Their effects remain.
    pub fn heal_disk(&self, id: NodeId) {
        with(|state| state.node(id).disk.faults = DiskFaults::default());
    }

    /// A copy of the disk's content, as the node's process sees it, and of its damage.
    pub fn disk_image(&self, id: NodeId) -> Image {
        with(|state| state.node(id).disk.image())
    }

    /// Restores a copy onto the node's disk.
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
            state.count(kind);
            state.note(id, kind, &[], String::new);
        });
    }

    /// Flips `bits` random bits in the node's files, durably and silently. Returns the number of
    /// flipped bits.
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
