//! Planted bugs, so that tests and sweeps can show that they would be found.
//!
//! Without the feature `mutants` [`active`] is a constant `false` and the compiler removes the sites. With it, one bug
//! can be switched on for the current thread. A production binary is built without the feature.

/// A planted bug. The doc line says which rule it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// Rule 2 without `P.slot >= locked.slot`.
    ApproveIgnoresLock,
    /// Rule 4 without `B.slot >= approved_slot`.
    ConfirmIgnoresApproval,
    /// `approved_slot` is not written.
    ApprovedSlotNotPersisted,
    /// `locked` is not written.
    LockNotPersisted,
    /// The certificate is not written with the lock.
    CertificateNotPersisted,
    /// No vote state is written at all.
    VotesNotPersisted,
    /// A certificate is made of one vote less than a quorum.
    QuorumOffByOne,
    /// Certificates are accepted whatever their number of signers.
    QuorumUnchecked,
}

impl Mutant {
    /// All of them, with the name used on command lines.
    pub const ALL: &'static [(&'static str, Mutant)] = &[
        ("approve-ignores-lock", Mutant::ApproveIgnoresLock),
        ("confirm-ignores-approval", Mutant::ConfirmIgnoresApproval),
        ("approved-slot-not-persisted", Mutant::ApprovedSlotNotPersisted),
        ("lock-not-persisted", Mutant::LockNotPersisted),
        ("certificate-not-persisted", Mutant::CertificateNotPersisted),
        ("votes-not-persisted", Mutant::VotesNotPersisted),
        ("quorum-off-by-one", Mutant::QuorumOffByOne),
        ("quorum-unchecked", Mutant::QuorumUnchecked),
    ];
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// True when `mutant` is switched on in this thread.
    pub fn active(mutant: Mutant) -> bool {
        ACTIVE.with(|a| a.get() == Some(mutant))
    }

    /// Switches one bug on, or all off, for this thread.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.with(|a| a.set(mutant));
    }
}

#[cfg(not(feature = "mutants"))]
mod switch {
    /// Always false: this build has no planted bugs.
    pub const fn active(_: super::Mutant) -> bool {
        false
    }
}

pub use switch::*;
