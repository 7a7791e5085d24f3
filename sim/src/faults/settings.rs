//! Settings of machines that last as long as the steps that make them.
//!
//! Several active steps can make one setting at the same time. The strongest of them is in force,
//! and when a step ends, its setting ends and those of the others stay. Settings that count
//! operations ("the next three syncs fail") lapse together: an operation that is hit counts for
//! every step that wanted to hit it.

use std::collections::BTreeMap;
use std::time::Duration;

use alys_integrations::embedded::{BuildFault, ExecutionFaults, ReceiptsFault};
use alys_runtime::sim::{DiskFaults, NodeId, Slowness};

use super::registry::Hit;
use super::{Faults, Machine, lock};

/// A setting of a machine. Its value is a number; see each variant for the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setting {
    /// Microseconds per second that the clock gains.
    ClockDrift,
    /// Milliseconds that each sync takes longer.
    SyncDelay,
    /// Syncs that fail.
    FailingSyncs,
    /// Reads that fail.
    FailingReads,
    /// Writes that fail.
    FailingWrites,
    /// Writes that go to another place.
    MisdirectedWrites,
    /// Reads that return earlier content.
    StaleReads,
    /// Bytes that can still be written.
    RoomToWrite,
    /// Changing disk operations until the power is cut.
    PowerLoss,
    /// The execution client is syncing; the value is 1.
    ExecutionSyncing,
    /// Payloads that the execution client calls invalid.
    InvalidPayloads,
    /// Fork choices that the execution client forgets.
    ForgottenForkchoices,
    /// Fork choices that the execution client refuses.
    RefusedForkchoices,
    /// Milliseconds by which the execution client's answers are late.
    AnswerDelay,
    /// Calls that the execution client executes twice.
    RepeatedCalls,
    /// Answers of the execution client that are lost.
    LostAnswers,
    /// The fault of payloads that the execution client builds, see [`of_build`].
    SpoiledBuilds,
    /// The fault of the receipts of the execution client: 1 for lost ones, 2 for false ones.
    SpoiledReceipts,
}

/// The part of a simulation that has a setting.
enum Device {
    Clock,
    Disk,
    Execution,
}

impl Setting {
    /// All settings.
    #[cfg(test)]
    pub(super) const ALL: [Self; 18] = [
        Self::ClockDrift,
        Self::SyncDelay,
        Self::FailingSyncs,
        Self::FailingReads,
        Self::FailingWrites,
        Self::MisdirectedWrites,
        Self::StaleReads,
        Self::RoomToWrite,
        Self::PowerLoss,
        Self::ExecutionSyncing,
        Self::InvalidPayloads,
        Self::ForgottenForkchoices,
        Self::RefusedForkchoices,
        Self::AnswerDelay,
        Self::RepeatedCalls,
        Self::LostAnswers,
        Self::SpoiledBuilds,
        Self::SpoiledReceipts,
    ];

    const fn device(self) -> Device {
        match self {
            Self::ClockDrift => Device::Clock,
            Self::SyncDelay
            | Self::FailingSyncs
            | Self::FailingReads
            | Self::FailingWrites
            | Self::MisdirectedWrites
            | Self::StaleReads
            | Self::RoomToWrite
            | Self::PowerLoss => Device::Disk,
            Self::ExecutionSyncing
            | Self::InvalidPayloads
            | Self::ForgottenForkchoices
            | Self::RefusedForkchoices
            | Self::AnswerDelay
            | Self::RepeatedCalls
            | Self::LostAnswers
            | Self::SpoiledBuilds
            | Self::SpoiledReceipts => Device::Execution,
        }
    }

    /// The strongest of several values; of equally strong ones the latest. A limit is the stronger
    /// the lower it is.
    fn strongest(self, values: impl Iterator<Item = i64>) -> Option<i64> {
        match self {
            Self::RoomToWrite | Self::PowerLoss => values.min(),
            _ => values.max_by_key(|value| value.unsigned_abs()),
        }
    }

    /// The value that is left on a disk; `None` without one.
    fn on_disk(self, disk: &DiskFaults) -> Option<i64> {
        match self {
            Self::SyncDelay => Some(ms(disk.slowness.per_sync)),
            Self::FailingSyncs => Some(disk.failing_syncs.into()),
            Self::FailingReads => Some(disk.failing_reads.into()),
            Self::FailingWrites => Some(disk.failing_writes.into()),
            Self::MisdirectedWrites => Some(disk.misdirected_writes.into()),
            Self::StaleReads => Some(disk.stale_reads.into()),
            Self::RoomToWrite => disk.room_to_write.map(u64::cast_signed),
            Self::PowerLoss => disk.power_loss_in.map(u64::cast_signed),
            _ => None,
        }
    }

    fn set_on_disk(self, disk: &mut DiskFaults, value: Option<i64>) {
        match self {
            Self::SyncDelay => {
                disk.slowness = Slowness {
                    per_sync: duration(value),
                    ..disk.slowness
                };
            }
            Self::FailingSyncs => disk.failing_syncs = count(value),
            Self::FailingReads => disk.failing_reads = count(value),
            Self::FailingWrites => disk.failing_writes = count(value),
            Self::MisdirectedWrites => disk.misdirected_writes = count(value),
            Self::StaleReads => disk.stale_reads = count(value),
            Self::RoomToWrite => disk.room_to_write = value.map(i64::cast_unsigned),
            Self::PowerLoss => disk.power_loss_in = value.map(i64::cast_unsigned),
            _ => {}
        }
    }

    /// The value that is left on an execution client; `None` without one.
    fn on_execution(self, execution: &ExecutionFaults) -> Option<i64> {
        match self {
            Self::ExecutionSyncing => Some(execution.is_syncing.into()),
            Self::InvalidPayloads => Some(execution.invalid_payloads.into()),
            Self::ForgottenForkchoices => Some(execution.forgotten_forkchoices.into()),
            Self::RefusedForkchoices => Some(execution.refused_forkchoices.into()),
            Self::AnswerDelay => Some(ms(execution.answer_delay)),
            Self::RepeatedCalls => Some(execution.repeated_calls.into()),
            Self::LostAnswers => Some(execution.lost_answers.into()),
            Self::SpoiledBuilds => Some(execution.build.map_or(0, of_build)),
            Self::SpoiledReceipts => Some(execution.receipts.map_or(0, of_receipts)),
            _ => None,
        }
    }

    fn set_on_execution(self, execution: &mut ExecutionFaults, value: Option<i64>) {
        match self {
            Self::ExecutionSyncing => execution.is_syncing = value.is_some(),
            Self::InvalidPayloads => execution.invalid_payloads = count(value),
            Self::ForgottenForkchoices => execution.forgotten_forkchoices = count(value),
            Self::RefusedForkchoices => execution.refused_forkchoices = count(value),
            Self::AnswerDelay => execution.answer_delay = duration(value),
            Self::RepeatedCalls => execution.repeated_calls = count(value),
            Self::LostAnswers => execution.lost_answers = count(value),
            Self::SpoiledBuilds => execution.build = value.and_then(build_fault),
            Self::SpoiledReceipts => execution.receipts = value.and_then(receipts_fault),
            _ => {}
        }
    }
}

/// The faults of builds. Of several active ones, the last in this list is in force.
const BUILD_FAULTS: [BuildFault; 5] = [
    BuildFault::Blobs,
    BuildFault::ForeignType,
    BuildFault::Oversize,
    BuildFault::GasLimit,
    BuildFault::Withdrawals,
];

/// The value of a fault of builds: its position in [`BUILD_FAULTS`], from 1.
pub(super) fn of_build(fault: BuildFault) -> i64 {
    let found = (1..).zip(BUILD_FAULTS).find(|(_, one)| *one == fault);
    found.map_or(0, |(value, _)| value)
}

fn build_fault(value: i64) -> Option<BuildFault> {
    let found = (1..).zip(BUILD_FAULTS).find(|(one, _)| *one == value);
    found.map(|(_, fault)| fault)
}

/// The value of a fault of receipts.
pub(super) fn of_receipts(fault: ReceiptsFault) -> i64 {
    match fault {
        ReceiptsFault::Lost => 1,
        ReceiptsFault::False => 2,
    }
}

fn receipts_fault(value: i64) -> Option<ReceiptsFault> {
    let all = [ReceiptsFault::Lost, ReceiptsFault::False];
    all.into_iter().find(|fault| of_receipts(*fault) == value)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(ms: Option<i64>) -> Duration {
    Duration::from_millis(ms.map_or(0, i64::unsigned_abs))
}

fn count(value: Option<i64>) -> u32 {
    value.map_or(0, |value| u32::try_from(value).unwrap_or(u32::MAX))
}

/// The values of one setting of one machine.
#[derive(Debug, Default)]
struct Values {
    /// The remaining value of each active step, by step number.
    by_step: BTreeMap<u64, i64>,
    /// The value that was put into force last.
    in_force: Option<i64>,
}

impl Values {
    /// Takes the operations that were hit since the last change off all values; `left` is what the
    /// machine has left of the value in force.
    fn lapse(&mut self, left: Option<i64>) {
        let Some(in_force) = self.in_force else {
            return;
        };
        let Some(left) = left else {
            // The machine has carried the setting out.
            self.by_step.clear();
            return;
        };
        let hit = in_force - left;
        if hit > 0 {
            let values = self.by_step.values_mut();
            values.for_each(|value| *value = (*value - hit).max(0));
        }
    }
}

/// The settings of all machines that active steps have made.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<(NodeId, Setting), Values>);

impl Settings {
    /// Forgets all settings, when everything heals.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Faults {
    /// Makes a setting of a machine for as long as the step is active, or ends the step's setting
    /// (`None`).
    pub(super) fn set(&self, hit: &Hit, machine: NodeId, setting: Setting, value: Option<i64>) {
        let left = self.setting(machine, setting);
        let mut settings = lock(&self.settings);
        let values = settings.0.entry((machine, setting)).or_default();
        values.lapse(left);
        match value {
            Some(value) => drop(values.by_step.insert(hit.number, value)),
            None => drop(values.by_step.remove(&hit.number)),
        }
        let strongest = setting.strongest(values.by_step.values().copied());
        values.in_force = strongest;
        drop(settings);
        self.put_in_force(machine, setting, strongest);
    }

    /// As [`Self::set`], on the machines that the step hits.
    pub(super) fn set_all(
        &self,
        hit: &Hit,
        machine: Machine,
        setting: Setting,
        value: Option<i64>,
    ) {
        for machine in self.machines(hit, machine) {
            self.set(hit, machine, setting, value);
        }
    }

    /// The value of a setting that is left on a machine.
    pub(super) fn setting(&self, machine: NodeId, setting: Setting) -> Option<i64> {
        match setting.device() {
            Device::Clock => Some(self.world.clock_drift(machine)),
            Device::Disk => setting.on_disk(&self.world.disk_faults(machine)),
            Device::Execution => {
                let injector = self.execution_faults_of(machine)?;
                let faults = injector.lock();
                setting.on_execution(&faults)
            }
        }
    }

    fn put_in_force(&self, machine: NodeId, setting: Setting, value: Option<i64>) {
        match setting.device() {
            Device::Clock => self.world.set_clock_drift(machine, value.unwrap_or(0)),
            Device::Disk => {
                let mut disk = self.world.disk_faults(machine);
                setting.set_on_disk(&mut disk, value);
                self.world.set_disk_faults(machine, disk);
            }
            Device::Execution => {
                if let Some(injector) = self.execution_faults_of(machine) {
                    setting.set_on_execution(&mut injector.lock(), value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_of_several_values_is_in_force() {
        let strongest =
            |setting: Setting, values: &[i64]| setting.strongest(values.iter().copied());
        assert_eq!(strongest(Setting::ClockDrift, &[10, -30, 20]), Some(-30));
        assert_eq!(
            strongest(Setting::ClockDrift, &[-30, 30]),
            Some(30),
            "the latest"
        );
        assert_eq!(strongest(Setting::FailingSyncs, &[1, 3, 2]), Some(3));
        assert_eq!(strongest(Setting::RoomToWrite, &[512, 0, 64]), Some(0));
        assert_eq!(strongest(Setting::PowerLoss, &[]), None);
    }

    #[test]
    fn every_fault_of_builds_has_a_value() {
        for (value, fault) in (1..).zip(BUILD_FAULTS) {
            assert_eq!(of_build(fault), value);
            assert_eq!(build_fault(value), Some(fault));
        }
        assert_eq!(build_fault(0), None);
    }

    #[test]
    fn an_operation_that_is_hit_counts_for_every_step() {
        let values = |left, machine_left| {
            let mut values = Values {
                by_step: BTreeMap::from([(1, 2), (2, 5)]),
                in_force: Some(left),
            };
            values.lapse(machine_left);
            values.by_step.into_values().collect::<Vec<i64>>()
        };
        assert_eq!(values(5, Some(5)), [2, 5]);
        assert_eq!(values(5, Some(4)), [1, 4]);
        assert_eq!(values(5, Some(2)), [0, 2]);
        assert!(values(2, None).is_empty(), "the power was cut");
    }
}
