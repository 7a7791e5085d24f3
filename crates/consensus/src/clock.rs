//! Distrust of a wall clock that jumps (protocol section 3, "Clocks").

use std::collections::BTreeSet;

use alys_types::mutant::{self, Mutant};

use crate::input::Now;

/// Compares the wall clock with the monotonic one.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// wall - monotonic, as last trusted.
    trusted_ms: Option<i64>,
    allowance_ms: i64,
    jumped: bool,
    /// wall - monotonic, where it jumped to: what others confirm.
    jumped_to_ms: i64,
    confirmed_by: BTreeSet<u8>,
}

/// What a look at the clocks showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Jumped(i64),
    Trusted,
}

impl Watchdog {
    /// `trusted_ms` is what an earlier one of this process trusted; without it, the first look is trusted.
    pub(crate) fn new(allowance_ms: u64, trusted_ms: Option<i64>) -> Watchdog {
        Watchdog {
            trusted_ms,
            allowance_ms: allowance_ms as i64,
            jumped: false,
            jumped_to_ms: 0,
            confirmed_by: BTreeSet::new(),
        }
    }

    /// Wall minus monotonic clock, as last trusted.
    pub(crate) fn trusted_ms(&self) -> Option<i64> {
        self.trusted_ms
    }

    /// True while the node must not vote.
    pub(crate) fn distrusted(&self) -> bool {
        self.jumped
    }

    /// Looks at the clocks. A jump back to what was trusted ends the distrust. Slow drift moves what is trusted along:
    /// only jumps count, and drift is what NTP and the drift allowance are for.
    pub(crate) fn look(&mut self, now: Now) -> Option<Change> {
        let offset = now.wall_ms as i64 - now.mono_ms as i64;
        let trusted = *self.trusted_ms.get_or_insert(offset);
        let by = offset - trusted;
        if by.abs() > self.allowance_ms && !mutant::active(Mutant::ClockJumpIgnored) {
            let has_moved = (offset - self.jumped_to_ms).abs() > self.allowance_ms;
            if !self.jumped || has_moved {
                // What was said of another time says nothing of this one.
                self.jumped_to_ms = offset;
                self.confirmed_by.clear();
            }
            let is_new = !std::mem::replace(&mut self.jumped, true);
            return is_new.then_some(Change::Jumped(by));
        }
        self.trusted_ms = Some(offset);
        self.jumped.then(|| {
            self.jumped = false;
            Change::Trusted
        })
    }

    /// An authority signed something of the slot that the new time is in. `needed` of them are proof enough.
    pub(crate) fn confirm(&mut self, now: Now, signer: u8, needed: usize) -> Option<Change> {
        if !self.jumped {
            return None;
        }
        self.confirmed_by.insert(signer);
        (self.confirmed_by.len() >= needed).then(|| self.trust(now))
    }

    /// Trusts the clock as it is now.
    pub(crate) fn trust(&mut self, now: Now) -> Change {
        self.trusted_ms = Some(now.wall_ms as i64 - now.mono_ms as i64);
        self.jumped = false;
        self.confirmed_by.clear();
        Change::Trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall_ms: u64, mono_ms: u64) -> Now {
        Now { wall_ms, mono_ms }
    }

    #[test]
    fn a_jump_is_distrusted_until_it_is_taken_back_or_confirmed() {
        let mut dog = Watchdog::new(500, None);
        assert_eq!(dog.look(now(1_000_000, 0)), None);
        assert_eq!(
            dog.look(now(1_002_400, 2_000)),
            None,
            "drift within the allowance moves along"
        );
        assert_eq!(dog.look(now(1_010_000, 3_000)), Some(Change::Jumped(6_600)));
        assert!(dog.distrusted());
        assert_eq!(dog.look(now(1_010_100, 3_100)), None, "told once");
        assert_eq!(
            dog.look(now(1_003_500, 3_200)),
            Some(Change::Trusted),
            "taken back"
        );

        assert!(matches!(
            dog.look(now(2_000_000, 4_000)),
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
        assert_eq!(dog.look(now(2_001_000, 5_000)), None);

        assert!(matches!(
            dog.look(now(3_000_000, 6_000)),
            Some(Change::Jumped(_))
        ));
        assert_eq!(dog.confirm(now(3_000_000, 6_000), 1, 2), None);
        assert_eq!(
            dog.look(now(3_000_600, 6_100)),
            None,
            "within the allowance it is the same time"
        );
        assert_eq!(
            dog.look(now(4_000_000, 7_000)),
            None,
            "it is told of already"
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
    fn what_was_trusted_before_it_is_trusted_still() {
        let trusted = Some(1_000_000);
        // Where the wall clock is at its first look, and what that shows.
        let table = [
            (1_010_000, None),
            (1_010_400, None),
            (4_610_000, Some(Change::Jumped(3_600_000))),
            (400_000, Some(Change::Jumped(-610_000))),
        ];
        for (wall_ms, shown) in table {
            let mut dog = Watchdog::new(500, trusted);
            assert_eq!(dog.look(now(wall_ms, 10_000)), shown);
            assert_eq!(
                dog.trusted_ms() == trusted,
                wall_ms != 1_010_400,
                "{wall_ms}"
            );
        }
    }
}
