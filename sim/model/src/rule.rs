//! When a node may sign what: rules 1 to 4 of section 3, as a function of what it promised before.

/// What a federation tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Nodes stop and start again, and lie never.
    Crash,
    /// Faulty nodes do as they please.
    Byzantine,
}

impl Faults {
    /// How many of so many nodes may be faulty.
    pub const fn tolerated(self, nodes: usize) -> usize {
        match self {
            Self::Crash => nodes.saturating_sub(1) / 2,
            Self::Byzantine => nodes.saturating_sub(1) / 3,
        }
    }
}

/// What a node has bound itself to by its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Promises {
    /// The highest slot that it approved a block of.
    pub approved: u64,
    /// The slot of the highest block that it confirmed.
    pub locked: u64,
}

impl Promises {
    /// The promises of a node that has signed nothing, on a chain whose genesis is in this slot.
    pub const fn none(genesis_slot: u64) -> Self {
        Self {
            approved: genesis_slot,
            locked: genesis_slot,
        }
    }
}

/// What a block stands on, as far as the rule looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its slot.
    pub slot: u64,
    /// Whether a certificate of it can exist: a quorum has approved it, or it is genesis.
    pub certified: bool,
}

/// Why a signature is against the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Rule 1: every slot has one leader.
    #[error("slot {slot} is led by another")]
    NotLeader { slot: u64 },
    /// Rules 1 and 2: one approval a slot, and never backwards.
    #[error("slot {slot} is not above slot {approved}, which it approved")]
    NotAboveApproval { slot: u64, approved: u64 },
    /// Rule 2, the lock.
    #[error("the parent's slot {parent} is below slot {locked}, on which it is locked")]
    ParentBelowLock { parent: u64, locked: u64 },
    /// A block stands on a certified one of a lower slot.
    #[error("no quorum approved the parent, of slot {parent}")]
    ParentUncertified { parent: u64 },
    /// A block is of a later slot than its parent.
    #[error("slot {slot} is not above slot {parent} of the parent")]
    NotAboveParent { slot: u64, parent: u64 },
    /// Rule 4: what is confirmed is certified.
    #[error("no quorum approved the block of slot {slot}")]
    Uncertified { slot: u64 },
    /// Rule 4: locks go upwards.
    #[error("slot {slot} is not above slot {locked}, on which it is locked")]
    NotAboveLock { slot: u64, locked: u64 },
    /// Rule 4: nothing below the last approval is confirmed.
    #[error("slot {slot} is below slot {approved}, which it approved")]
    BelowApproval { slot: u64, approved: u64 },
}

/// A way in which the rule can be wrong. Each is a mistake that an implementation could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// Rule 2 without the lock.
    ApproveIgnoresLock,
    /// Rule 4 without `B.slot >= approved_slot`.
    ConfirmIgnoresApproval,
    /// Promises are in memory only.
    NothingKept,
    /// A certificate is made of one vote less than a quorum.
    QuorumOneLess,
    /// A confirmation leaves before its lock is written.
    LockWrittenLate,
    /// Rule 2 without `s > approved_slot`.
    ApproveOldSlots,
}

impl Broken {
    /// All of them, with their words on the command line.
    pub const ALL: [(&'static str, Self); 6] = [
        ("approve-ignores-lock", Self::ApproveIgnoresLock),
        ("confirm-ignores-approval", Self::ConfirmIgnoresApproval),
        ("nothing-kept", Self::NothingKept),
        ("quorum-one-less", Self::QuorumOneLess),
        ("lock-written-late", Self::LockWrittenLate),
        ("approve-old-slots", Self::ApproveOldSlots),
    ];
}

/// The rule, for a federation of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Distinct signers that make a certificate.
    pub quorum: usize,
    /// What is wrong with it; `None`: nothing.
    pub broken: Option<Broken>,
}

impl Rule {
    /// The rule of a federation of so many nodes.
    pub const fn of(nodes: usize, faults: Faults) -> Self {
        Self {
            quorum: nodes - faults.tolerated(nodes),
            broken: None,
        }
    }

    /// The same with a mistake.
    pub const fn with(self, broken: Broken) -> Self {
        Self {
            broken: Some(broken),
            ..self
        }
    }

    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// Whether so many distinct signers make a certificate (rules 3 and 5).
    pub fn certifies(&self, signers: usize) -> bool {
        signers >= self.quorum - usize::from(self.is(Broken::QuorumOneLess))
    }

    /// Rule 1: a node proposes a block of `slot`, and approves it in the same breath.
    ///
    /// # Errors
    /// Why it may not.
    pub fn propose(
        &self,
        before: Promises,
        slot: u64,
        is_leader: bool,
        parent: Parent,
    ) -> Result<Promises, Refusal> {
        if !is_leader {
            return Err(Refusal::NotLeader { slot });
        }
        if slot <= before.approved {
            return Err(Refusal::NotAboveApproval {
                slot,
                approved: before.approved,
            });
        }
        // It knows the certificate of what it is locked on, so what it takes for the highest is not below.
        stands_on(slot, parent)?;
        not_below_lock(before, parent)?;
        Ok(Promises {
            approved: slot,
            ..before
        })
    }

    /// Rule 2: a node approves a block of `slot`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn approve(
        &self,
        before: Promises,
        slot: u64,
        parent: Parent,
    ) -> Result<Promises, Refusal> {
        if slot <= before.approved && !self.is(Broken::ApproveOldSlots) {
            return Err(Refusal::NotAboveApproval {
                slot,
                approved: before.approved,
            });
        }
        stands_on(slot, parent)?;
        if !self.is(Broken::ApproveIgnoresLock) {
            not_below_lock(before, parent)?;
        }
        Ok(Promises {
            approved: slot,
            ..before
        })
    }

    /// Rule 4: a node confirms a block of `slot`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn confirm(
        &self,
        before: Promises,
        slot: u64,
        certified: bool,
    ) -> Result<Promises, Refusal> {
        if !certified {
            return Err(Refusal::Uncertified { slot });
        }
        if slot <= before.locked {
            return Err(Refusal::NotAboveLock {
                slot,
                locked: before.locked,
            });
        }
        if slot < before.approved && !self.is(Broken::ConfirmIgnoresApproval) {
            return Err(Refusal::BelowApproval {
                slot,
                approved: before.approved,
            });
        }
        Ok(Promises {
            locked: slot,
            ..before
        })
    }
}

fn stands_on(slot: u64, parent: Parent) -> Result<(), Refusal> {
    if !parent.certified {
        return Err(Refusal::ParentUncertified {
            parent: parent.slot,
        });
    }
    if slot <= parent.slot {
        return Err(Refusal::NotAboveParent {
            slot,
            parent: parent.slot,
        });
    }
    Ok(())
}

fn not_below_lock(before: Promises, parent: Parent) -> Result<(), Refusal> {
    if parent.slot < before.locked {
        return Err(Refusal::ParentBelowLock {
            parent: parent.slot,
            locked: before.locked,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule::of(4, Faults::Byzantine);

    fn on(slot: u64) -> Parent {
        Parent {
            slot,
            certified: true,
        }
    }

    #[test]
    fn quorums_overlap_in_somebody_correct() {
        for nodes in 1..=15 {
            let crash = Rule::of(nodes, Faults::Crash).quorum;
            assert!(2 * crash > nodes, "two quorums of {nodes} share a node");
            let byzantine = Rule::of(nodes, Faults::Byzantine).quorum;
            let shared = 2 * byzantine - nodes;
            assert!(
                shared > Faults::Byzantine.tolerated(nodes),
                "and one of them is correct"
            );
            assert!(RULE.certifies(3) && !RULE.certifies(2));
        }
    }

    #[test]
    fn each_clause_refuses_what_it_is_there_for() {
        let before = Promises {
            approved: 10,
            locked: 8,
        };
        let bare = Parent {
            slot: 9,
            certified: false,
        };
        let cases = [
            (
                RULE.approve(before, 11, on(8)),
                Ok(Promises {
                    approved: 11,
                    locked: 8,
                }),
            ),
            (
                RULE.approve(before, 10, on(8)),
                Err(Refusal::NotAboveApproval {
                    slot: 10,
                    approved: 10,
                }),
            ),
            (
                RULE.approve(before, 11, on(7)),
                Err(Refusal::ParentBelowLock {
                    parent: 7,
                    locked: 8,
                }),
            ),
            (
                RULE.approve(before, 11, bare),
                Err(Refusal::ParentUncertified { parent: 9 }),
            ),
            (
                RULE.approve(before, 11, on(11)),
                Err(Refusal::NotAboveParent {
                    slot: 11,
                    parent: 11,
                }),
            ),
            (
                RULE.propose(before, 11, true, on(9)),
                Ok(Promises {
                    approved: 11,
                    locked: 8,
                }),
            ),
            (
                RULE.propose(before, 11, false, on(9)),
                Err(Refusal::NotLeader { slot: 11 }),
            ),
            (
                RULE.propose(before, 10, true, on(9)),
                Err(Refusal::NotAboveApproval {
                    slot: 10,
                    approved: 10,
                }),
            ),
            (
                RULE.propose(before, 11, true, on(7)),
                Err(Refusal::ParentBelowLock {
                    parent: 7,
                    locked: 8,
                }),
            ),
            (
                RULE.confirm(before, 10, true),
                Ok(Promises {
                    approved: 10,
                    locked: 10,
                }),
            ),
            (
                RULE.confirm(before, 10, false),
                Err(Refusal::Uncertified { slot: 10 }),
            ),
            (
                RULE.confirm(before, 8, true),
                Err(Refusal::NotAboveLock { slot: 8, locked: 8 }),
            ),
            (
                RULE.confirm(before, 9, true),
                Err(Refusal::BelowApproval {
                    slot: 9,
                    approved: 10,
                }),
            ),
        ];
        for (index, (found, expected)) in cases.into_iter().enumerate() {
            assert_eq!(found, expected, "case {index}");
        }
    }

    #[test]
    fn each_mistake_allows_what_the_rule_refuses() {
        let before = Promises {
            approved: 10,
            locked: 8,
        };
        assert!(
            RULE.with(Broken::ApproveIgnoresLock)
                .approve(before, 11, on(7))
                .is_ok()
        );
        assert!(
            RULE.with(Broken::ApproveOldSlots)
                .approve(before, 10, on(8))
                .is_ok()
        );
        assert!(
            RULE.with(Broken::ConfirmIgnoresApproval)
                .confirm(before, 9, true)
                .is_ok()
        );
        assert!(RULE.with(Broken::QuorumOneLess).certifies(2));
    }
}
