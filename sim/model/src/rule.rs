//! Rules 3.1 to 3.4 (docs/protocol.md): permission to sign, as a function of earlier promises.

/// The fault model of a federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Faulty nodes stop and restart, and never lie.
    Crash,
    /// Faulty nodes behave arbitrarily.
    Byzantine,
}

impl Faults {
    /// Number of `nodes` that may be faulty.
    pub const fn tolerated(self, nodes: usize) -> usize {
        match self {
            Self::Crash => nodes.saturating_sub(1) / 2,
            Self::Byzantine => nodes.saturating_sub(1) / 3,
        }
    }
}

/// The promises that a node's signatures contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Promises {
    /// The highest slot of an approved block.
    pub approved: u64,
    /// The slot of the highest confirmed block.
    pub locked: u64,
}

impl Promises {
    /// The promises of a node that signed nothing, on a chain whose genesis is in this slot.
    pub const fn none(genesis_slot: u64) -> Self {
        Self {
            approved: genesis_slot,
            locked: genesis_slot,
        }
    }
}

/// The parent of a block, as far as the rule depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub slot: u64,
    /// A certificate of it can exist: a quorum approved it, or it is genesis.
    pub certified: bool,
}

/// The clause that a signature would violate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Rule 3.1: every slot has one leader.
    #[error("slot {slot} is led by another node")]
    NotLeader { slot: u64 },
    /// Rules 3.1 and 3.2: one approval a slot, in ascending slots.
    #[error("slot {slot} is not above slot {approved}, the highest approved")]
    NotAboveApproval { slot: u64, approved: u64 },
    /// Rule 3.2: the lock.
    #[error("the parent's slot {parent} is below slot {locked} of the lock")]
    ParentBelowLock { parent: u64, locked: u64 },
    /// Rule 3.1: the parent is certified.
    #[error("no quorum approved the parent, of slot {parent}")]
    ParentUncertified { parent: u64 },
    /// Rule 3.6: a block is of a later slot than its parent.
    #[error("slot {slot} is not above slot {parent} of the parent")]
    NotAboveParent { slot: u64, parent: u64 },
    /// Rule 3.4: a confirmed block is certified.
    #[error("no quorum approved the block of slot {slot}")]
    Uncertified { slot: u64 },
    /// Rule 3.4: locks ascend.
    #[error("slot {slot} is not above slot {locked} of the lock")]
    NotAboveLock { slot: u64, locked: u64 },
    /// Rule 3.4: no block below the highest approval is confirmed.
    #[error("slot {slot} is below slot {approved}, the highest approved")]
    BelowApproval { slot: u64, approved: u64 },
}

/// A mistake in the rule that an implementation could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// Rule 3.2 without the lock.
    ApproveIgnoresLock,
    /// Rule 3.4 without `B.slot >= approved_slot`.
    ConfirmIgnoresApproval,
    /// Promises are in memory only.
    NothingKept,
    /// A certificate is made of one vote less than a quorum.
    QuorumOneLess,
    /// A confirmation leaves before its lock is written.
    LockWrittenLate,
    /// Rule 3.2 without `s > approved_slot`.
    ApproveOldSlots,
}

impl Broken {
    /// All mistakes, with their names in reports.
    pub const ALL: [(&'static str, Self); 6] = [
        ("approve-ignores-lock", Self::ApproveIgnoresLock),
        ("confirm-ignores-approval", Self::ConfirmIgnoresApproval),
        ("nothing-kept", Self::NothingKept),
        ("quorum-one-less", Self::QuorumOneLess),
        ("lock-written-late", Self::LockWrittenLate),
        ("approve-old-slots", Self::ApproveOldSlots),
    ];
}

/// The rule, for a federation of a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Distinct signers that make a certificate.
    pub quorum: usize,
    /// The mistake in it, if any.
    pub broken: Option<Broken>,
}

impl Rule {
    /// The rule of a federation of `nodes` nodes.
    pub const fn of(nodes: usize, faults: Faults) -> Self {
        Self {
            quorum: nodes.saturating_sub(faults.tolerated(nodes)),
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

    /// True when this number of distinct signers makes a certificate (rules 3.3 and 3.5).
    pub fn certifies(&self, signers: usize) -> bool {
        let missing = usize::from(self.is(Broken::QuorumOneLess));
        signers >= self.quorum.saturating_sub(missing)
    }

    /// Rule 3.1: a node proposes a block of `slot`, and approves it in the same write.
    ///
    /// # Errors
    /// The clause that refuses the proposal.
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
        // The node knows the certificate of its lock, so the highest certified block is not below.
        stands_on(slot, parent)?;
        not_below_lock(before, parent)?;
        Ok(Promises {
            approved: slot,
            ..before
        })
    }

    /// Rule 3.2: a node approves a block of `slot`.
    ///
    /// # Errors
    /// The clause that refuses the approval.
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

    /// Rule 3.4: a node confirms a block of `slot`.
    ///
    /// # Errors
    /// The clause that refuses the confirmation.
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
    fn two_quorums_share_a_correct_node() {
        for nodes in 1..=15 {
            let crash = Rule::of(nodes, Faults::Crash).quorum;
            assert!(2 * crash > nodes, "two quorums of {nodes} share a node");
            let byzantine = Rule::of(nodes, Faults::Byzantine).quorum;
            let shared = 2 * byzantine - nodes;
            assert!(
                shared > Faults::Byzantine.tolerated(nodes),
                "one of the shared nodes is correct"
            );
            assert!(RULE.certifies(3) && !RULE.certifies(2));
        }
    }

    #[test]
    fn each_clause_refuses() {
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
    fn each_mistake_permits_a_refused_signature() {
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
