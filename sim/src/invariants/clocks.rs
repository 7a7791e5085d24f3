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

/// Offset of a node's wall clock from the true time, since the node started.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Offset when the clock was last trusted, in milliseconds; positive means ahead.
    trusted_ms: i64,
    /// Offset at the last observation, in milliseconds.
    last_ms: i64,
    /// Time since which the offset is too far from `trusted_ms`.
    jumped_ms: Option<u64>,
    /// Time of the last change that drift does not explain.
    moved_ms: Option<u64>,
    /// Peers or the operator may have confirmed the clock since the node started.
    is_confirmed: bool,
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
            is_confirmed: false,
        });
        if (ahead - clock.last_ms).abs() > SLACK_MS {
            clock.moved_ms = Some(at_ms);
        }
        clock.last_ms = ahead;
        // Twice the drift, because near the limit the node may have judged an earlier or later
        // reading.
        if (ahead - clock.trusted_ms).abs() > 2 * self.drift_ms as i64 + SLACK_MS {
            clock.jumped_ms.get_or_insert(at_ms);
        } else {
            clock.jumped_ms = None;
            clock.trusted_ms = ahead;
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
            clock.trusted_ms = clock.last_ms;
            clock.jumped_ms = None;
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
    /// [`Violation::ApprovedOutOfSlot`], [`Violation::VotedByJumpedClock`] or
    /// [`Violation::VotedByUnconfirmedClock`].
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
        // Votes of any slot shown since the jump may have confirmed the clock.
        let first_ms = wall_ms.saturating_sub(at_ms.saturating_sub(jumped_ms) + self.drift_ms);
        let shown = first_ms / self.slot_ms..=(wall_ms + self.drift_ms) / self.slot_ms;
        let is_backed = shown.flat_map(others).collect::<BTreeSet<u8>>().len() >= needed;
        let by_ms = clock.last_ms - clock.trusted_ms;
        // A clock that went back shows slots that already have votes, and late messages confirm it.
        if is_backed || by_ms < 0 {
            clock.trusted_ms = clock.last_ms;
            clock.jumped_ms = None;
            clock.is_confirmed = true;
            return Ok(());
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
