//! Distrust of a wall clock that jumps, or that is far ahead of the chain at the start of a process
//! (rule 3.9, docs/protocol.md).

use std::collections::BTreeSet;

use crate::input::Now;
use crate::rules::{self, PlantedBug};

/// Compares the wall clock with the monotonic one.
#[derive(Debug)]
pub(crate) struct ClockWatchdog {
    /// Wall minus monotonic clock, as last trusted. `None` from the start of a process until the
    /// chain, peers or the operator confirm the clock.
    trusted_ms: Option<i64>,
    allowance_ms: u64,
    /// The distrusted offset, while there is one.
    doubt: Option<Doubt>,
}

/// An offset of the wall clock that is not confirmed.
#[derive(Debug)]
struct Doubt {
    /// Wall minus monotonic clock: the time that authorities confirm.
    offset_ms: i64,
    /// Indices of the authorities that voted in the slot of this time.
    confirmed_by: BTreeSet<u8>,
    /// Indices of the authorities that stated this time.
    stated_by: BTreeSet<u8>,
}

/// A change of the trust in the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Milliseconds by which it jumped, backwards if negative.
    Jumped(i64),
    /// At the start of a process it is far ahead of the chain.
    Unconfirmed,
    Trusted,
}

impl ClockWatchdog {
    /// `trusted_ms` is the offset that an earlier watchdog of this process trusted; without it, a
    /// reading near the chain is trusted, and any other after a confirmation.
    pub(crate) fn new(allowance_ms: u64, trusted_ms: Option<i64>) -> ClockWatchdog {
        ClockWatchdog {
            trusted_ms,
            allowance_ms,
            doubt: None,
        }
    }

    /// Wall minus monotonic clock, as last trusted.
    pub(crate) fn trusted_ms(&self) -> Option<i64> {
        self.trusted_ms
    }

    /// False while the node must not vote.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted_ms.is_some() && self.doubt.is_none()
    }

    /// True once the clock was trusted in this process: from then on only jumps are distrusted.
    pub(crate) fn is_confirmed_at_start(&self) -> bool {
        self.trusted_ms.is_some()
    }

    /// Compares the clocks. A jump back to the trusted offset ends the distrust. Slow drift moves
    /// the trusted offset along: NTP and the drift allowance take care of drift.
    ///
    /// `is_near_chain` counts until a reading is trusted: true when the wall clock is not far ahead
    /// of the highest certified slot.
    pub(crate) fn observe(
        &mut self,
        now: Now,
        is_near_chain: bool,
        bug: &PlantedBug,
    ) -> Option<Change> {
        let offset = now.offset_ms();
        let Some(trusted) = self.trusted_ms else {
            if is_near_chain {
                self.trusted_ms = Some(offset);
                return self.doubt.take().map(|_| Change::Trusted);
            }
            // Nothing was signed by this clock, so setting it is not reported as a jump.
            return self.distrust(offset, bug).then_some(Change::Unconfirmed);
        };
        let by_ms = offset.saturating_sub(trusted);
        if !rules::has_clock_jumped(by_ms, self.allowance_ms, bug) {
            self.trusted_ms = Some(offset);
            return self.doubt.take().map(|_| Change::Trusted);
        }
        self.distrust(offset, bug).then_some(Change::Jumped(by_ms))
    }

    /// Records the offset that confirmations refer to. Returns true if there was no doubt before.
    fn distrust(&mut self, offset: i64, bug: &PlantedBug) -> bool {
        let is_new = self.doubt.is_none();
        let has_moved = |doubt: &Doubt| {
            let moved_ms = offset.saturating_sub(doubt.offset_ms).unsigned_abs();
            rules::is_other_time(moved_ms, self.allowance_ms, bug)
        };
        if self.doubt.as_ref().is_none_or(has_moved) {
            // Confirmations of another time do not confirm this one.
            self.doubt = Some(Doubt {
                offset_ms: offset,
                confirmed_by: BTreeSet::new(),
                stated_by: BTreeSet::new(),
            });
        }
        is_new
    }

    /// Counts a vote of authority `signer` for the slot that the new time is in. `needed`
    /// authorities confirm the clock.
    pub(crate) fn confirm(&mut self, now: Now, signer: u8, needed: usize) -> Option<Change> {
        let doubt = self.doubt.as_mut()?;
        doubt.confirmed_by.insert(signer);
        (doubt.confirmed_by.len() >= needed).then(|| self.trust(now))
    }

    /// Counts the statement of an authority that its clock shows this time. Statements confirm a
    /// clock at the start of a process only: they are not of the moment of a jump.
    pub(crate) fn count_statement(
        &mut self,
        now: Now,
        authority: u8,
        needed: usize,
    ) -> Option<Change> {
        if self.is_confirmed_at_start() {
            return None;
        }
        let doubt = self.doubt.as_mut()?;
        doubt.stated_by.insert(authority);
        (doubt.stated_by.len() >= needed).then(|| self.trust(now))
    }

    /// Trusts the present offset of the wall clock.
    pub(crate) fn trust(&mut self, now: Now) -> Change {
        self.trusted_ms = Some(now.offset_ms());
        self.doubt = None;
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
        dog.observe(now, true, &PlantedBug::default())
    }

    /// An observation while the clock is far ahead of the chain.
    fn observe_far(dog: &mut ClockWatchdog, now: Now) -> Option<Change> {
        dog.observe(now, false, &PlantedBug::default())
    }

    #[test]
    fn a_clock_far_ahead_of_the_chain_at_the_start_is_trusted_after_a_confirmation() {
        let start = now(9_000_000, 0);
        let later = now(9_000_100, 100);
        // The ways to confirm it, the number of events that each needs, and the last event.
        type Event = fn(&mut ClockWatchdog, Now, u8) -> Option<Change>;
        let table: [(&str, u8, Event); 4] = [
            ("statements", 2, |dog, now, index| {
                dog.count_statement(now, index, 2)
            }),
            ("votes", 2, |dog, now, index| dog.confirm(now, index, 2)),
            ("the operator", 1, |dog, now, _| Some(dog.trust(now))),
            ("the chain", 1, |dog, now, _| observe(dog, now)),
        ];
        for (what, needed, event) in table {
            let mut dog = ClockWatchdog::new(500, None);
            let first = observe_far(&mut dog, start);
            assert_eq!(first, Some(Change::Unconfirmed), "{what}");
            assert_eq!(observe_far(&mut dog, later), None, "{what}: reported once");
            assert!(!dog.is_trusted() && dog.trusted_ms().is_none(), "{what}");
            for index in 1..needed {
                assert_eq!(event(&mut dog, later, index), None, "{what}");
                assert_eq!(event(&mut dog, later, index), None, "{what}: counts once");
            }
            let last = event(&mut dog, later, needed);
            assert_eq!(last, Some(Change::Trusted), "{what}");
            assert!(dog.is_trusted(), "{what}");
            assert_eq!(
                observe_far(&mut dog, now(9_060_000, 60_000)),
                None,
                "{what}: a chain that stands is no reason to distrust a clock again"
            );
        }
    }

    #[test]
    fn a_clock_that_is_set_before_it_is_trusted_needs_confirmations_of_the_new_time() {
        let mut dog = ClockWatchdog::new(500, None);
        observe_far(&mut dog, now(9_000_000, 0));
        assert_eq!(dog.count_statement(now(9_000_000, 0), 1, 2), None);
        assert_eq!(
            observe_far(&mut dog, now(8_000_000, 100)),
            None,
            "reported already"
        );
        assert_eq!(
            dog.count_statement(now(8_000_000, 100), 2, 2),
            None,
            "of the new time"
        );
        assert_eq!(
            dog.count_statement(now(8_000_000, 100), 3, 2),
            Some(Change::Trusted)
        );
        let jumped = observe_far(&mut dog, now(9_000_000, 200));
        assert!(matches!(jumped, Some(Change::Jumped(_))), "{jumped:?}");
        assert_eq!(
            dog.count_statement(now(9_000_000, 200), 1, 1),
            None,
            "statements do not confirm a jump"
        );
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
