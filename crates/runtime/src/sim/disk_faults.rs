//! Faults of disks and their effects.

use std::time::Duration;

/// Pending faults. Counts are numbers of operations that are still to be hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Syncs that fail with EIO.
    pub failing_syncs: u32,
    /// Reads that fail with EIO.
    pub failing_reads: u32,
    /// Writes that fail with EIO and write nothing.
    pub failing_writes: u32,
    /// Writes that go to another offset of their file and report success.
    pub misdirected_writes: u32,
    /// Reads that return the content before the last sync.
    pub stale_reads: u32,
    /// Changing operations until the power is cut in place of the last one.
    pub power_loss_in: Option<u64>,
    /// Changing operations until the last one fails with EIO, without an effect.
    pub failure_in: Option<u64>,
    /// Limit of the total size of all files.
    pub capacity: Option<u64>,
    /// Bytes that may still be written at any offset, as on a copy-on-write volume.
    pub room_to_write: Option<u64>,
    /// Cost of operations.
    pub slowness: Slowness,
}

/// The effects of faults on a disk. They are kept until the disk is wiped, or restored from a copy,
/// which has the damage of its own time. They outlast the faults, so that a process's report of a
/// bad disk can be distinguished from a bug.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Flipped bits.
    pub rotten_bits: u64,
    pub misdirected_writes: u64,
    pub stale_reads: u64,
    pub failed_reads: u64,
    pub failed_writes: u64,
    pub failed_syncs: u64,
    /// Operations that failed for lack of space.
    pub without_space: u64,
}

impl Damage {
    /// True when any fault had an effect.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// True when data may be wrong without a reported error.
    pub fn is_silent(&self) -> bool {
        self.rotten_bits + self.misdirected_writes + self.stale_reads > 0
    }
}

/// Counts down to the operation that a fault hits. True if it is the current one, which ends the
/// fault.
fn is_due(left: &mut Option<u64>) -> bool {
    *left = left.map(|left| left.saturating_sub(1));
    let is_due = *left == Some(0);
    if is_due {
        *left = None;
    }
    is_due
}

impl DiskFaults {
    /// True when the power is cut in place of the current changing operation.
    pub(crate) fn take_power_loss(&mut self) -> bool {
        is_due(&mut self.power_loss_in)
    }

    /// True when the current changing operation fails.
    pub(crate) fn take_failure(&mut self) -> bool {
        is_due(&mut self.failure_in)
    }

    /// True when the current write fails.
    pub(crate) fn take_failing_write(&mut self) -> bool {
        let fails = self.failing_writes > 0;
        self.failing_writes = self.failing_writes.saturating_sub(1);
        fails
    }

    /// True when the current sync fails.
    pub(crate) fn take_failing_sync(&mut self) -> bool {
        let fails = self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        fails
    }
}

/// The cost of disk operations, slept in [`crate::disk::settle`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slowness {
    /// Cost of each changing operation.
    pub per_operation: Duration,
    /// Additional cost of each sync.
    pub per_sync: Duration,
}
