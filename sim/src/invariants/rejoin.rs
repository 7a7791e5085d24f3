//! Authorities that lost their votes (rule 3.8): they sign nothing until a block of a slot after
//! every slot that they may have signed is final, and are judged as before from then on.

use std::collections::BTreeMap;

use alys_types::VoteTarget;

use super::Violation;

/// Cause of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The disk is empty, so the authority knows of the loss from its start.
    Emptied,
    /// The disk is in an older state. The authority learns of the loss from peers that hold its
    /// later votes, and is not judged until then.
    PutBack,
}

#[derive(Debug)]
struct Without {
    loss: Loss,
    /// Slot after which the authority may vote again, raised to the highest slot that it had
    /// signed; `None` until the authority reports the loss.
    until: Option<u64>,
}

/// Authorities that lost their votes and have not resumed voting.
#[derive(Debug, Default)]
pub struct Rejoin {
    without: BTreeMap<u8, Without>,
    noticed: u64,
}

impl Rejoin {
    /// Records that an authority lost its votes; a second loss replaces the first.
    pub fn lose(&mut self, node: u8, loss: Loss) {
        self.without.insert(node, Without { loss, until: None });
    }

    /// Drops the loss of an authority because the authority is not judged from now on.
    pub fn forget(&mut self, node: u8) {
        self.without.remove(&node);
    }

    /// Returns true if the authority lost its votes and has not resumed voting.
    pub fn is_without(&self, node: u8) -> bool {
        self.without.contains_key(&node)
    }

    /// Returns the number of losses that the affected authorities reported.
    pub fn noticed(&self) -> u64 {
        self.noticed
    }

    /// Checks a signature that the authority had not made before; `final_slot` is the slot of its
    /// last final block.
    ///
    /// # Errors
    /// [`Violation::VotedWhileSilent`].
    pub fn signed(&self, node: u8, target: &VoteTarget, final_slot: u64) -> Result<(), Violation> {
        let Some(Without { loss, until }) = self.without.get(&node) else {
            return Ok(());
        };
        let may_sign = match until {
            Some(until) => final_slot > *until,
            None => *loss == Loss::PutBack,
        };
        if !may_sign {
            return Err(Violation::VotedWhileSilent {
                node: node + 1,
                kind: format!("{:?}", target.kind).to_lowercase(),
                slot: target.slot.0,
                final_slot,
                until: *until,
            });
        }
        Ok(())
    }

    /// Checks the silence in an authority's summary; `final_slot` is the slot of its last final
    /// block and `highest` the last slot in which it signed. Returns the slot that it waited for,
    /// if the authority has just resumed voting.
    ///
    /// # Errors
    /// [`Violation::RejoinedEarly`], [`Violation::RejoinedLate`] or [`Violation::LossIgnored`].
    pub fn stands(
        &mut self,
        node: u8,
        silent_until: Option<u64>,
        final_slot: u64,
        highest: u64,
    ) -> Result<Option<u64>, Violation> {
        // The silence ends in the write that makes the block final.
        if let Some(until) = silent_until.filter(|until| final_slot > *until) {
            return Err(Violation::RejoinedLate {
                node: node + 1,
                final_slot,
                until,
            });
        }
        let Some(without) = self.without.get_mut(&node) else {
            return Ok(None);
        };
        match (without.until, silent_until) {
            (None, Some(until)) => {
                self.noticed += 1;
                without.until = Some(until.max(highest));
                Ok(None)
            }
            // The authority raises the slot when its peers show it a vote of a later one.
            (Some(before), Some(until)) => {
                without.until = Some(until.max(before));
                Ok(None)
            }
            // A node knows from its start that its store has no votes.
            (None, None) if without.loss == Loss::Emptied => {
                Err(Violation::LossIgnored { node: node + 1 })
            }
            (None, None) => Ok(None),
            (Some(until), None) if final_slot > until => {
                self.without.remove(&node);
                Ok(Some(until))
            }
            (Some(until), None) => Err(Violation::RejoinedEarly {
                node: node + 1,
                final_slot,
                until,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_types::{Hash, Height, Slot, VoteKind};

    fn vote(slot: u64) -> VoteTarget {
        VoteTarget {
            kind: VoteKind::Approval,
            height: Height(9),
            slot: Slot(slot),
            hash: Hash([7; 32]),
        }
    }

    #[test]
    fn an_authority_with_an_empty_disk_signs_nothing_until_its_slot_is_final() {
        let mut rejoin = Rejoin::default();
        assert_eq!(rejoin.signed(2, &vote(50), 40), Ok(()), "nothing is lost");
        rejoin.lose(2, Loss::Emptied);
        let early = rejoin.signed(2, &vote(50), 40);
        assert!(matches!(
            early,
            Err(Violation::VotedWhileSilent {
                node: 3,
                slot: 50,
                until: None,
                ..
            })
        ));
        assert_eq!(rejoin.stands(2, Some(60), 40, 45), Ok(None));
        assert!(
            rejoin.signed(2, &vote(61), 60).is_err(),
            "the slot itself is not enough"
        );
        assert_eq!(
            rejoin.signed(2, &vote(62), 61),
            Ok(()),
            "it may sign before its next summary"
        );
        assert_eq!(rejoin.stands(2, None, 61, 45), Ok(Some(60)));
        assert!(!rejoin.is_without(2));
        assert_eq!(
            rejoin.signed(2, &vote(63), 0),
            Ok(()),
            "it is judged as before the loss"
        );
    }

    #[test]
    fn an_authority_with_a_restored_disk_is_judged_once_it_notices() {
        let mut rejoin = Rejoin::default();
        rejoin.lose(0, Loss::PutBack);
        assert_eq!(rejoin.signed(0, &vote(50), 40), Ok(()));
        assert_eq!(rejoin.stands(0, None, 40, 45), Ok(None));
        assert_eq!(rejoin.stands(0, Some(60), 40, 50), Ok(None));
        assert!(rejoin.signed(0, &vote(51), 41).is_err());
        assert_eq!(rejoin.noticed(), 1);
        rejoin.lose(0, Loss::PutBack);
        assert_eq!(
            rejoin.signed(0, &vote(51), 41),
            Ok(()),
            "restored again, it may have forgotten the loss too"
        );
    }

    #[test]
    fn a_late_rejoin_and_an_ignored_loss_are_found() {
        let mut rejoin = Rejoin::default();
        assert_eq!(rejoin.stands(1, Some(60), 60, 45), Ok(None));
        let late = Err(Violation::RejoinedLate {
            node: 2,
            final_slot: 61,
            until: 60,
        });
        assert_eq!(rejoin.stands(1, Some(60), 61, 45), late);
        rejoin.lose(1, Loss::Emptied);
        let ignored = Err(Violation::LossIgnored { node: 2 });
        assert_eq!(rejoin.stands(1, None, 40, 45), ignored);
        rejoin.lose(1, Loss::PutBack);
        assert_eq!(rejoin.stands(1, None, 40, 45), Ok(None), "unknown to it");
    }

    #[test]
    fn an_early_rejoin_is_found() {
        let mut rejoin = Rejoin::default();
        rejoin.lose(1, Loss::Emptied);
        assert_eq!(rejoin.stands(1, Some(60), 40, 45), Ok(None));
        assert_eq!(
            rejoin.stands(1, Some(64), 40, 45),
            Ok(None),
            "its peers showed it a vote of a later slot"
        );
        let early = Err(Violation::RejoinedEarly {
            node: 2,
            final_slot: 62,
            until: 64,
        });
        assert_eq!(rejoin.stands(1, None, 62, 45), early);
        assert_eq!(
            rejoin.stands(1, None, 65, 66),
            Ok(Some(64)),
            "later votes do not raise the slot"
        );
        rejoin.lose(1, Loss::Emptied);
        assert_eq!(
            rejoin.stands(1, Some(20), 15, 66),
            Ok(None),
            "its clock is behind what it had signed"
        );
        let early = Err(Violation::RejoinedEarly {
            node: 2,
            final_slot: 65,
            until: 66,
        });
        assert_eq!(rejoin.stands(1, None, 65, 66), early);
        assert_eq!(rejoin.stands(1, None, 67, 66), Ok(Some(66)));
    }
}
