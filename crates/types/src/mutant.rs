//! The switch of planted bugs in crates that do not use `alys_runtime::mutant` yet.
//!
//! Without the feature `mutants` [`active`] is a constant `false` and the compiler removes the
//! sites. The table of all planted bugs is the simulator's.

macro_rules! planted {
    ($($variant:ident $name:literal,)+) => {
        /// A planted bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($variant,)+
        }

        impl Mutant {
            /// The name in the simulator's table.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

planted! {
    ClockTrustedAnew "clock-trusted-anew",
    FetchNeverAgain "fetch-never-again",
    PeersNotIntroduced "peers-not-introduced",
    RequestsNotLimited "requests-not-limited",
    ChecksumIgnored "checksum-ignored",
    WriteDeferred "write-deferred",
    SyncLeftOut "sync-left-out",
    IndexBeforeBlock "index-before-block",
    FinalIndexGaps "final-index-gaps",
    LostBlocksNotSent "lost-blocks-not-sent",
    SyncingIsInvalid "syncing-is-invalid",
    NoAnswerIsValid "no-answer-is-valid",
    SyncingIsValid "syncing-is-valid",
    TokenKept "token-kept",
    StopWaitsForClient "stop-waits-for-client",
    DuplicatesRejected "duplicates-rejected",
    NeverDialsAgain "never-dials-again",
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    thread_local! {
        static ACTIVE: RefCell<Option<(&'static str, Arc<AtomicU64>)>> =
            const { RefCell::new(None) };
    }

    /// True when `mutant` is active in this thread; counts the site as reached.
    pub fn active(mutant: Mutant) -> bool {
        ACTIVE.with_borrow(|active| {
            let active = active.as_ref().filter(|(name, _)| *name == mutant.name());
            if let Some((_, reached)) = active {
                reached.fetch_add(1, Ordering::Relaxed);
            }
            active.is_some()
        })
    }

    /// Activates the bug of a name for this thread, or none.
    pub fn activate(bug: Option<(&'static str, Arc<AtomicU64>)>) {
        ACTIVE.set(bug);
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
