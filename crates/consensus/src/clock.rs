//! Distrust of a wall clock that jumps (rule 3.9, docs/protocol.md).

use std::collections::BTreeSet;

use crate::input::Now;
use crate::rules::{self, PlantedBug};

/// Compares the wall clock with the monotonic one.
#[derive(Debug)]
pub(crate) struct ClockWatchdog {
    /// Wall minus monotonic clock, as last trusted.
    trusted_ms: Option<i64>,
    allowance_ms: u64,
    /// The distrusted offset, while there is one.
    jump: Option<Jump>,
}

/// A jump of the wall clock that is not confirmed.
#[derive(Debug)]
struct Jump {
    /// Wall minus monotonic clock after the jump: the time that authorities confirm.
    to_ms: i64,
    /// Indices of the authorities that voted in the slot of the new time.
    confirmed_by: BTreeSet<u8>,
}

/// A change of the trust in the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Milliseconds by which it jumped, backwards if negative.
    Jumped(i64),
    Trusted,
}

impl ClockWatchdog {
    /// `trusted_ms` is the offset that an earlier watchdog of this process trusted; without it, the
    /// first reading is trusted.
    pub(crate) fn new(allowance_ms: u64, trusted_ms: Option<i64>) -> ClockWatchdog {
        ClockWatchdog {
            trusted_ms,
            allowance_ms,
            jump: None,
        }
    }

    /// Wall minus monotonic clock, as last trusted.
    pub(crate) fn trusted_ms(&self) -> Option<i64> {
        self.trusted_ms
    }

    /// False while the node must not vote.
    pub(crate) fn is_trusted(&self) -> bool {
        self.jump.is_none()
    }

    /// Compares the clocks. A jump back to the trusted offset ends the distrust. Slow drift moves
    /// the trusted offset along: NTP and the drift allowance take care of drift.
    pub(crate) fn observe(&mut self, now: Now, bug: &PlantedBug) -> Option<Change> {
        let offset = now.offset_ms();
        let trusted = *self.trusted_ms.get_or_insert(offset);
        let by_ms = offset.saturating_sub(trusted);
        if !rules::has_clock_jumped(by_ms, self.allowance_ms, bug) {
            self.trusted_ms = Some(offset);
            return self.jump.take().map(|_| Change::Trusted);
        }
        let is_new = self.jump.is_none();
        let has_moved =
            |jump: &Jump| offset.saturating_sub(jump.to_ms).unsigned_abs() > self.allowance_ms;
        if self.jump.as_ref().is_none_or(has_moved) {
            // Confirmations of another time do not confirm this one.
            self.jump = Some(Jump {
                to_ms: offset,
                confirmed_by: BTreeSet::new(),
            });
        }
        is_new.then_some(Change::Jumped(by_ms))
    }

    /// Counts a vote of authority `signer` for the slot that the new time is in. `needed`
    /// authorities confirm the clock.
    pub(crate) fn confirm(&mut self, now: Now, signer: u8, needed: usize) -> Option<Change> {
        let jump = self.jump.as_mut()?;
        jump.confirmed_by.insert(signer);
        (jump.confirmed_by.len() >= needed).then(|| self.trust(now))
    }

    /// Trusts the present offset of the wall clock.
    pub(crate) fn trust(&mut self, now: Now) -> Change {
        self.trusted_ms = Some(now.offset_ms());
        self.jump = None;
        Change::Trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall_ms: u64, mono_ms: u64) -> Now {
        Now { wall_ms, mono_ms }
    }

    fn observe(dog: &mut ClockWatchdog, now: Now) -> Option<Change> {
        dog.observe(now, &PlantedBug::default())
    }

    #[test]
    fn a_jump_is_distrusted_until_it_is_taken_back_or_confirmed() {
        let mut dog = ClockWatchdog::new(500, None);
        assert_eq!(observe(&mut dog, now(1_000_000, 0)), None);
        assert_eq!(
            observe(&mut dog, now(1_002_400, 2_000)),
            None,
            "drift within the allowance moves along"
        );
        assert_eq!(
            observe(&mut dog, now(1_010_000, 3_000)),
            Some(Change::Jumped(6_600))
        );
        assert!(!dog.is_trusted());
        assert_eq!(
            observe(&mut dog, now(1_010_100, 3_100)),
            None,
            "reported once"
        );
        assert_eq!(
            observe(&mut dog, now(1_003_500, 3_200)),
            Some(Change::Trusted),
            "taken back"
        );

        assert!(matches!(
            observe(&mut dog, now(2_000_000, 4_000)),
            Some(Change::Jumped(_))
        ));
        assert_eq!(dog.confirm(now(2_000_000, 4_000), 1, 2), None);
        assert_eq!(
            dog.confirm(now(2_000_000, 4_000), 1, 2),
            None,
            "one authority counts once"
        );
        assert_eq!(
            dog.confirm(now(2_000_000, 4_000), 2, 2),
            Some(Change::Trusted)
        );
        assert_eq!(observe(&mut dog, now(2_001_000, 5_000)), None);

        assert!(matches!(
            observe(&mut dog, now(3_000_000, 6_000)),
            Some(Change::Jumped(_))
        ));
        assert_eq!(dog.confirm(now(3_000_000, 6_000), 1, 2), None);
        assert_eq!(
            observe(&mut dog, now(3_000_600, 6_100)),
            None,
            "within the allowance it is the same time"
        );
        assert_eq!(
            observe(&mut dog, now(4_000_000, 7_000)),
            None,
            "reported already"
        );
        assert_eq!(
            dog.confirm(now(4_000_000, 7_000), 2, 2),
            None,
            "one of them confirmed another time"
        );
        assert_eq!(
            dog.confirm(now(4_000_000, 7_000), 1, 2),
            Some(Change::Trusted)
        );
    }

    #[test]
    fn an_offset_trusted_by_an_earlier_watchdog_stays_trusted() {
        let trusted = Some(1_000_000);
        // The wall clock at the first reading, and the change that is reported.
        let table = [
            (1_010_000, None),
            (1_010_400, None),
            (4_610_000, Some(Change::Jumped(3_600_000))),
            (400_000, Some(Change::Jumped(-610_000))),
        ];
        for (wall_ms, change) in table {
            let mut dog = ClockWatchdog::new(500, trusted);
            assert_eq!(observe(&mut dog, now(wall_ms, 10_000)), change);
            assert_eq!(
                dog.trusted_ms() == trusted,
                wall_ms != 1_010_400,
                "{wall_ms}"
            );
        }
    }
}
