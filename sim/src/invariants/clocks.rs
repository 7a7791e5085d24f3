//! Clocks of the nodes: no vote before its slot has begun, none while the clock has jumped, and
//! none by a clock that was far ahead at the start and is not confirmed.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::params::WorldPlan;

/// A vote within this time after a clock moved is not judged, because the node may have decided on
/// it before the move. Longer than any handler of the node runs.
const GRACE_MS: u64 = 5_000;
/// Slots beyond the rejoin margin at which a clock is far ahead: the head of the chain, from which
/// the node counts the margin, may be a slot ahead of the true time, and clocks drift.
const FAR_SLOTS: u64 = 3;
/// Slots by which the clocks of nodes that confirm each other may differ: those of the rule, and
/// one for their drift since.
const SHARED_SLOTS: u64 = 3;
/// Largest change of the offset between two observations that drift alone explains.
const SLACK_MS: i64 = 100;

/// Offsets of a clock that is not trusted that are told apart. A clock that jumps more often is
/// judged as if it had stayed at the last of them.
const MOST_STAYS: usize = 16;

/// An offset at which a clock stays between two jumps, while it is not trusted.
#[derive(Debug, Clone, Copy)]
struct Stay {
    /// Offset from the true time, in milliseconds.
    offset_ms: i64,
    /// Time of the jump that led to it for the first time.
    since_ms: u64,
    /// The last jump that led to it, in milliseconds.
    by_ms: i64,
}

/// Offset of a node's wall clock from the true time, since the node started.
#[derive(Debug, Clone)]
struct Clock {
    /// Offset when the clock was last trusted, in milliseconds; positive means ahead.
    trusted_ms: i64,
    /// Offset at the last observation, in milliseconds.
    last_ms: i64,
    /// Time since which the offset is too far from `trusted_ms`.
    jumped_ms: Option<u64>,
    /// Time of the last change that drift does not explain.
    moved_ms: Option<u64>,
    /// The offsets since `jumped_ms`, each once, in the order of their first times.
    stays: Vec<Stay>,
    /// The index of the present one.
    stay: usize,
    /// Peers or the operator may have confirmed the clock since the node started.
    is_confirmed: bool,
}

impl Clock {
    /// Trusts the present offset.
    fn trust(&mut self) {
        self.trusted_ms = self.last_ms;
        self.jumped_ms = None;
        self.stays.clear();
        self.stay = 0;
    }

    /// Records the present offset of a clock that is not trusted; `moved_ms` is the change since
    /// the last observation, if drift does not explain it. A return to within `limit_ms` of an
    /// earlier offset is no new one, because the node may have had that one confirmed.
    fn stays_at(&mut self, at_ms: u64, moved_ms: Option<i64>, limit_ms: i64) {
        let offset_ms = self.last_ms;
        match moved_ms {
            Some(by_ms) => {
                let is_near = |stay: &Stay| (offset_ms - stay.offset_ms).abs() <= limit_ms;
                if let Some(known) = self.stays.iter().position(is_near) {
                    self.stay = known;
                } else if self.stays.len() < MOST_STAYS {
                    self.stay = self.stays.len();
                    self.stays.push(Stay {
                        offset_ms,
                        since_ms: at_ms,
                        by_ms,
                    });
                }
            }
            // Drift moves the offset along.
            None => match self.stays.get_mut(self.stay) {
                Some(stay) => stay.offset_ms = offset_ms,
                None => self.stays.push(Stay {
                    offset_ms,
                    since_ms: at_ms,
                    by_ms: 0,
                }),
            },
        }
    }
}

/// All clocks of a run.
#[derive(Debug)]
pub struct Clocks {
    slot_ms: u64,
    drift_ms: u64,
    rejoin_margin: u64,
    nodes: BTreeMap<u8, Clock>,
}

impl Clocks {
    pub fn new(plan: &WorldPlan) -> Self {
        Self {
            slot_ms: plan.slot_ms,
            drift_ms: plan.drift_ms,
            rejoin_margin: plan.rejoin_margin,
            nodes: BTreeMap::new(),
        }
    }

    /// Forgets a node's clock because a restarted node trusts its clock.
    pub fn born(&mut self, node: u8) {
        self.nodes.remove(&node);
    }

    /// Records a node's clock against the true time, both in milliseconds since the epoch.
    pub fn look(&mut self, at_ms: u64, node: u8, wall_ms: u64, true_ms: u64) {
        let ahead = wall_ms as i64 - true_ms as i64;
        let clock = self.nodes.entry(node).or_insert(Clock {
            trusted_ms: ahead,
            last_ms: ahead,
            jumped_ms: None,
            moved_ms: None,
            stays: Vec::new(),
            stay: 0,
            is_confirmed: false,
        });
        let by_ms = ahead - clock.last_ms;
        let has_moved = by_ms.abs() > SLACK_MS;
        if has_moved {
            clock.moved_ms = Some(at_ms);
        }
        clock.last_ms = ahead;
        // Twice the drift, because near the limit the node may have judged an earlier or later
        // reading.
        let limit_ms = 2 * self.drift_ms as i64 + SLACK_MS;
        if (ahead - clock.trusted_ms).abs() > limit_ms {
            clock.jumped_ms.get_or_insert(at_ms);
            clock.stays_at(at_ms, has_moved.then_some(by_ms), limit_ms);
        } else {
            clock.trust();
        }
    }

    /// Returns true if the node's clock shows the true time, give or take the allowed drift.
    pub fn is_right(&self, node: u8) -> bool {
        let clock = self.nodes.get(&node);
        clock.is_none_or(|clock| clock.last_ms.unsigned_abs() <= self.drift_ms)
    }

    /// The allowed drift in milliseconds.
    pub fn drift_ms(&self) -> u64 {
        self.drift_ms
    }

    /// Trusts a node's clock because its operator confirmed it.
    pub fn confirmed(&mut self, node: u8) {
        if let Some(clock) = self.nodes.get_mut(&node) {
            clock.trust();
            clock.is_confirmed = true;
        }
    }

    /// The number of other nodes whose clocks show the same time.
    fn agreeing(&self, node: u8) -> usize {
        let Some(own) = self.nodes.get(&node) else {
            return 0;
        };
        let shared_ms = SHARED_SLOTS * self.slot_ms;
        let is_same = |other: &Clock| other.last_ms.abs_diff(own.last_ms) <= shared_ms;
        let others = self.nodes.iter().filter(|(other, _)| **other != node);
        others.filter(|(_, clock)| is_same(clock)).count()
    }

    /// Checks the first signature of a proposal or an approval. `others` returns the other
    /// authorities that signed any vote in a slot; `needed` of them, in the slots that the clock
    /// has shown since its jump, confirm the clock.
    ///
    /// # Errors
    /// [`Violation::ApprovedOutOfSlot`], [`Violation::VotedByJumpedClock`],
    /// [`Violation::VotedByUnconfirmedJump`] or [`Violation::VotedByUnconfirmedClock`].
    pub fn signs(
        &mut self,
        at_ms: u64,
        (node, slot): (u8, u64),
        wall_ms: u64,
        needed: usize,
        others: impl Fn(u64) -> BTreeSet<u8>,
    ) -> Result<(), Violation> {
        let is_shared = self.agreeing(node) >= needed;
        let far_ms = (self.rejoin_margin + FAR_SLOTS).saturating_mul(self.slot_ms);
        let Some(clock) = self.nodes.get_mut(&node) else {
            return Ok(());
        };
        clock.is_confirmed |= is_shared;
        if clock.moved_ms.is_some_and(|moved| at_ms < moved + GRACE_MS) {
            return Ok(());
        }
        let start_ms = slot * self.slot_ms;
        if wall_ms + self.drift_ms < start_ms {
            let early_ms = start_ms - wall_ms;
            return Err(Violation::ApprovedOutOfSlot {
                node: node + 1,
                slot,
                early_ms,
            });
        }
        let Some(jumped_ms) = clock.jumped_ms else {
            let ahead_ms = u64::try_from(clock.last_ms).unwrap_or(0);
            if ahead_ms > far_ms && !clock.is_confirmed {
                return Err(Violation::VotedByUnconfirmedClock {
                    node: node + 1,
                    slot,
                    ahead_ms,
                });
            }
            return Ok(());
        };
        // Votes of any slot shown since the jump to the present offset may have confirmed the
        // clock, and none that an earlier offset showed.
        let again = clock.stays.get(clock.stay).copied();
        let again = again.filter(|_| clock.stay > 0);
        let since_ms = again.map_or(jumped_ms, |stay| stay.since_ms);
        let first_ms = wall_ms.saturating_sub(at_ms.saturating_sub(since_ms) + self.drift_ms);
        let shown = first_ms / self.slot_ms..=(wall_ms + self.drift_ms) / self.slot_ms;
        let peers = shown.flat_map(others).collect::<BTreeSet<u8>>().len();
        let by_ms = clock.last_ms - clock.trusted_ms;
        // A clock that went back shows slots that already have votes, and late messages confirm it.
        let went_back = by_ms < 0 || again.is_some_and(|stay| stay.by_ms < 0);
        if peers >= needed || went_back {
            clock.trust();
            clock.is_confirmed = true;
            return Ok(());
        }
        if let Some(stay) = again {
            return Err(Violation::VotedByUnconfirmedJump {
                node: node + 1,
                slot,
                by_ms: stay.by_ms,
                peers: peers as u64,
                needed: needed as u64,
            });
        }
        Err(Violation::VotedByJumpedClock {
            node: node + 1,
            slot,
            by_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::tests::plan;
    use super::*;

    #[test]
    fn votes_before_the_slot_or_on_a_jumped_clock_are_found() {
        let mut clocks = Clocks::new(&plan());
        clocks.look(0, 0, 100_000, 100_000);
        let no_votes = |_: u64| BTreeSet::new();
        assert_eq!(clocks.signs(0, (0, 100), 100_000, 2, no_votes), Ok(()));
        assert_eq!(
            clocks.signs(0, (0, 101), 100_800, 2, no_votes),
            Ok(()),
            "within the allowance"
        );
        let early = Violation::ApprovedOutOfSlot {
            node: 1,
            slot: 102,
            early_ms: 1_200,
        };
        assert_eq!(clocks.signs(0, (0, 102), 100_800, 2, no_votes), Err(early));
        clocks.look(1_000, 0, 108_000, 101_000);
        assert_eq!(
            clocks.signs(2_000, (0, 109), 109_000, 2, no_votes),
            Ok(()),
            "possibly decided before the jump"
        );
        clocks.look(7_000, 0, 114_000, 107_000);
        let jumped = Violation::VotedByJumpedClock {
            node: 1,
            slot: 114,
            by_ms: 7_000,
        };
        assert_eq!(
            clocks.signs(7_000, (0, 114), 114_000, 2, no_votes),
            Err(jumped)
        );
        let same = |_| BTreeSet::from([3]);
        let jumped = Violation::VotedByJumpedClock {
            node: 1,
            slot: 114,
            by_ms: 7_000,
        };
        assert_eq!(
            clocks.signs(7_000, (0, 114), 114_000, 2, same),
            Err(jumped),
            "one other, in each slot"
        );
        let two = |slot| BTreeSet::from([1 + (slot % 2) as u8]);
        assert_eq!(
            clocks.signs(7_000, (0, 114), 114_000, 2, two),
            Ok(()),
            "two others, one slot each"
        );
        assert_eq!(
            clocks.signs(7_500, (0, 114), 114_500, 2, no_votes),
            Ok(()),
            "the clock is trusted now"
        );
        clocks.look(7_600, 0, 134_600, 107_600);
        clocks.look(13_000, 0, 140_000, 113_000);
        clocks.confirmed(0);
        assert_eq!(
            clocks.signs(13_000, (0, 140), 140_000, 2, no_votes),
            Ok(()),
            "confirmed by the operator"
        );
        clocks.born(0);
        clocks.look(8_000, 0, 300_000, 108_000);
        assert_eq!(
            clocks.signs(8_000, (0, 300), 300_000, 2, no_votes),
            Ok(()),
            "a restarted node trusts its clock"
        );
    }

    #[test]
    fn a_second_jump_needs_confirmations_of_its_own() {
        // The offset of the second jump, the others that vote in the slots shown after it, and
        // the end of the verdict's name.
        let table = [
            (20_000, &[2u8][..], Some("unconfirmed-jump")),
            (20_000, &[2, 3], None),
            (-20_000, &[2], None),
            (7_100, &[2], None),
        ];
        for (offset, voters, expected) in table {
            let mut clocks = Clocks::new(&plan());
            let wall = |at: u64, offset: i64| (100_000 + at as i64 + offset) as u64;
            clocks.look(0, 0, wall(0, 0), 100_000);
            clocks.look(1_000, 0, wall(1_000, 7_000), 101_000);
            clocks.look(20_000, 0, wall(20_000, offset), 120_000);
            // The authority 1 voted while the first offset was shown, for 19 s.
            let second = wall(20_000, offset) / 1_000;
            let others = |slot: u64| match slot {
                108..=127 if slot < second => BTreeSet::from([1]),
                _ if slot >= second => voters.iter().copied().collect(),
                _ => BTreeSet::new(),
            };
            let now = wall(30_000, offset);
            clocks.look(30_000, 0, now, 130_000);
            let signed = clocks.signs(30_000, (0, now / 1_000), now, 2, others);
            let found = signed.err().map(|violation| violation.name());
            let is_expected = match (&found, expected) {
                (Some(name), Some(end)) => name.ends_with(end),
                (None, None) => true,
                _ => false,
            };
            assert!(is_expected, "{offset} {voters:?}: {found:?}");
        }
    }

    #[test]
    fn votes_of_a_clock_far_ahead_at_the_start_need_a_confirmation() {
        let no_votes = |_: u64| BTreeSet::new();
        let far = 1_000 * (plan().rejoin_margin + FAR_SLOTS) + 1;
        let far_ms = far as i64;
        // The clocks of two others, ahead of the true time, and whether they agree.
        for (others, is_confirmed) in [([0, 0], false), ([far_ms, 0], false), ([far_ms; 2], true)] {
            let mut clocks = Clocks::new(&plan());
            let wall_ms = 100_000 + far;
            clocks.look(0, 0, wall_ms, 100_000);
            for (node, ahead) in (1..).zip(others) {
                clocks.look(0, node, (100_000 + ahead) as u64, 100_000);
            }
            let signed = clocks.signs(0, (0, wall_ms / 1_000), wall_ms, 2, no_votes);
            assert_eq!(signed.is_ok(), is_confirmed, "{others:?}: {signed:?}");
            clocks.confirmed(0);
            let signed = clocks.signs(0, (0, wall_ms / 1_000), wall_ms, 2, no_votes);
            assert_eq!(signed, Ok(()), "the operator confirms it");
        }
    }
}
