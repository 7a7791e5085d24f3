//! Planted bugs, so that tests and sweeps can show that they would be found.
//!
//! Without the feature `mutants` [`active`] is a constant `false` and the compiler removes the
//! sites. With it, one bug can be switched on for the current thread. A production binary is built
//! without the feature.
//!
//! Each bug names beforehand the invariant of the simulator that must find it, and the scenario in
//! which it is looked for. Crates that know nothing of the chain have their sites behind the switch
//! of `alys-runtime`, by the same names.

/// A planted bug, with what is expected of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planted {
    /// As on command lines, and in the sites outside of this crate's reach.
    pub name: &'static str,
    /// The switch.
    pub mutant: Mutant,
    /// The part of the node that is broken.
    pub area: &'static str,
    /// What is broken.
    pub broken: &'static str,
    /// The invariant that must find it, as the simulator's reports name it; further ones only where
    /// the schedule decides which of the bug's consequences comes first.
    pub found_by: &'static [&'static str],
    /// The scenario in which it is looked for.
    pub scenario: &'static str,
}

macro_rules! planted {
    ($($variant:ident, $name:literal, $area:literal, $broken:literal, [$($found_by:literal),+], $scenario:literal;)+) => {
        /// A planted bug. The doc line says what is broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $(#[doc = $broken] $variant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Planted] = &[
                $(Planted {
                    name: $name,
                    mutant: Mutant::$variant,
                    area: $area,
                    broken: $broken,
                    found_by: &[$($found_by),+],
                    scenario: $scenario,
                },)+
            ];
        }
    };
}

planted! {
    ApproveIgnoresLock, "approve-ignores-lock", "votes",
        "A block is approved whose parent is below the block that the node is locked on (rule 2).",
        ["approved-below-lock"], "deaf_leader";
    ConfirmIgnoresApproval, "confirm-ignores-approval", "votes",
        "A block is confirmed though the node has approved in a later slot (rule 4).",
        ["confirmed-below-approval"], "late_confirmations";
    ApprovedSlotNotPersisted, "approved-slot-not-persisted", "votes",
        "The highest slot approved is not written: after a restart it is what it was at the start of the chain.",
        ["signed-twice", "votes-lost", "not-a-transition"], "leader_again";
    ApprovedSlotCompared, "approved-slot-compared", "votes",
        "A node proposes and approves in a slot in which it has done so: `<` where `<=` stands.",
        ["signed-twice"], "leader_again";
    LockNotPersisted, "lock-not-persisted", "votes",
        "The lock is not written: after a restart the node is locked on genesis.",
        ["approved-below-lock", "votes-lost", "not-a-transition"], "lost_lock";
    ConfirmationBeforeWrite, "confirmation-before-write", "votes",
        "A confirmation leaves before the lock is on the disk.",
        ["approved-below-lock", "not-a-transition"], "lost_lock";
    ProposalBeforeWrite, "proposal-before-write", "votes",
        "A proposal and its approval leave before they are on the disk.",
        ["signed-twice", "not-a-transition"], "leader_again";
    VotesNotPersisted, "votes-not-persisted", "votes",
        "No vote state is written at all.",
        ["votes-lost", "signed-twice", "not-a-transition"], "leader_again";
    RejoinsAtOnce, "rejoins-at-once", "votes",
        "A node that has lost its votes votes again at the next final block, whatever its margin.",
        ["voted-while-silent", "rejoined-early"], "wiped_disk";
    VotesWhileSilent, "votes-while-silent", "votes",
        "A node that has lost its votes says so, and goes on voting.",
        ["voted-while-silent"], "wiped_disk";
    HeldVoteIgnored, "held-vote-ignored", "votes",
        "A node does not care that its peers hold votes of its own that it does not know.",
        ["loss-unnoticed"], "restored_disk";
    CertificateNotPersisted, "certificate-not-persisted", "certificates",
        "The certificate is not written with the lock.",
        ["no-progress"], "certificate_kept";
    HighestNotRestored, "highest-not-restored", "certificates",
        "A node that starts takes its last final block for the highest certified one.",
        ["no-progress"], "certificate_kept";
    QuorumOffByOne, "quorum-off-by-one", "certificates",
        "A certificate is made of one vote less than a quorum.",
        ["certified-without-quorum", "final-without-quorum"], "steady";
    QuorumUnchecked, "quorum-unchecked", "certificates",
        "Certificates are accepted whatever their number of signers.",
        ["certified-without-quorum", "final-without-quorum"], "stolen_key";
    ApprovalsFinalize, "approvals-finalize", "certificates",
        "A certificate of approvals is taken for one of confirmations.",
        ["final-without-quorum"], "late_confirmations";
    KindsMixed, "kinds-mixed", "certificates",
        "An approval counts as a confirmation too.",
        ["final-without-quorum"], "late_confirmations";
    EvidenceByHeight, "evidence-by-height", "certificates",
        "Two approvals of one height are held for a contradiction, whatever their slots.",
        ["wrongly-accused"], "majority_partition";
    LeaderByHeight, "leader-by-height", "consensus",
        "The leader is computed from the height in place of the slot.",
        ["wrong-leader"], "leader_crash";
    RandaoUnchecked, "randao-unchecked", "consensus",
        "A block is approved whatever its payload gives contracts for randomness.",
        ["approved-invalid"], "payload_that_does_not_execute";
    LocalTimestamp, "local-timestamp", "consensus",
        "The time of a block is its leader's clock, and nobody checks it.",
        ["wrong-timestamp"], "late_leader";
    ClockJumpIgnored, "clock-jump-ignored", "consensus",
        "A wall clock that jumps is believed.",
        ["voted-by-jumped-clock"], "skewed_clocks";
    ClockTrustedAnew, "clock-trusted-anew", "consensus",
        "The actor that votes trusts whatever clock it finds when it is made anew.",
        ["voted-by-jumped-clock"], "jumped_clock_and_a_restart";
    ApprovesOutOfSlot, "approves-out-of-slot", "consensus",
        "A proposal is approved whatever the time is.",
        ["approved-out-of-slot"], "early_clock";
    EarlyProposalDropped, "early-proposal-dropped", "consensus",
        "A proposal that comes before its slot, by a clock that is ahead within the allowance, is dropped.",
        ["too-few-blocks"], "early_leader";
    FetchedNotWritten, "fetched-not-written", "sync",
        "The body of a certified block that a peer sent is taken for stored and not written.",
        ["error-line"], "catching_up";
    FetchNeverAgain, "fetch-never-again", "sync",
        "A block that was asked for by its hash once is never asked for again.",
        ["silent-leader", "no-progress"], "mixed";
    PeersNotIntroduced, "peers-not-introduced", "sync",
        "Who is connected is not told to the actor that asks for blocks when it begins anew.",
        ["too-few-blocks"], "peers_are_known_after_a_restart";
    RequestsNotLimited, "requests-not-limited", "network",
        "A peer is served however often it asks.",
        ["served-too-much"], "strangers_ask_too_much";
    ChecksumIgnored, "checksum-ignored", "storage",
        "What is read is believed, whatever its checksum says.",
        ["wrong-headers"], "a_rotten_block_is_not_passed_on";
    WriteDeferred, "write-deferred", "storage",
        "Records are committed without durability.",
        ["finality-went-back", "head-beside-final", "signed-twice", "not-a-transition"], "rolling_restarts";
    SyncLeftOut, "sync-left-out", "storage",
        "The database's file is never synced.",
        ["process-ended", "finality-went-back", "signed-twice", "not-a-transition"], "rolling_restarts";
    IndexBeforeBlock, "index-before-block", "storage",
        "The list of blocks is written before the blocks, in a write of its own.",
        ["no-progress", "process-ended"], "power_at_writes";
    FinalIndexGaps, "final-index-gaps", "storage",
        "When several blocks become final at once, only the last of them is put into the index.",
        ["error-line"], "gaps_in_finality";
    LostBlocksNotSent, "lost-blocks-not-sent", "execution",
        "Blocks that the execution client lost are not sent again.",
        ["execution-behind", "no-progress", "silent-leader"], "one_client_lost_blocks";
    SyncingIsInvalid, "syncing-is-invalid", "execution",
        "SYNCING is taken for INVALID.",
        ["error-line"], "one_client_lost_blocks";
    NoAnswerIsValid, "no-answer-is-valid", "execution",
        "An execution client that does not answer is taken to have said VALID.",
        ["approved-unexecuted"], "no_client";
    SyncingIsValid, "syncing-is-valid", "execution",
        "SYNCING is taken for VALID.",
        ["approved-unexecuted"], "one_client_lost_blocks";
    TokenKept, "token-kept", "execution",
        "The token for the execution client is kept for two minutes, which is longer than it is good for.",
        ["too-few-blocks"], "steady";
    StopWaitsForClient, "stop-waits-for-client", "execution",
        "A node that is stopped waits for answers of its execution client as long as at any other time.",
        ["process-ended"], "stop_without_client";
    DuplicatesRejected, "duplicates-rejected", "network",
        "A vote that is known already is rejected, which costs the peer that passed it on.",
        ["honest-peer-banned"], "mixed";
    NeverDialsAgain, "never-dials-again", "network",
        "The address of a peer that was lost is not dialled again.",
        ["no-progress"], "majority_partition";
    MailboxOvertakes, "mailbox-overtakes", "mailboxes",
        "A message overtakes the one before it when others wait.",
        ["order-broken"], "steady";
    FullDropsAccepted, "full-drops-accepted", "mailboxes",
        "A message that finds no room is said to be taken, and dropped.",
        ["message-lost"], "steady";
    RestartLosesWaiting, "restart-loses-waiting", "mailboxes",
        "The first message that waits is lost when an actor is made anew.",
        ["message-lost"], "every_actor_heals";
    DroppedReplyUnnoticed, "dropped-reply-unnoticed", "mailboxes",
        "Who asks an actor that dies over the question waits for the whole deadline.",
        ["ask-late"], "steady";
    AskNeverEnds, "ask-never-ends", "mailboxes",
        "The deadline of a question is not watched.",
        ["ask-late"], "steady";
    CycleUnseen, "cycle-unseen", "mailboxes",
        "Two actors that ask each other in their handlers are not told.",
        ["ask-late"], "steady";
    HangUnnoticed, "hang-unnoticed", "supervision",
        "A handler that never ends is not noticed.",
        ["actor-not-healed"], "every_actor_heals";
    GivesUpAtOnce, "gives-up-at-once", "supervision",
        "A supervisor gives up at the first failure.",
        ["error-line", "gave-up-early"], "every_actor_heals";
    NeverGivesUp, "never-gives-up", "supervision",
        "A supervisor restarts a child without end.",
        ["restarts-beyond-policy"], "steady";
    BreakerStaysOpen, "breaker-stays-open", "supervision",
        "A circuit breaker that has opened never closes.",
        ["no-progress", "not-final-after-fault"], "engines_fail";
    DeadIncarnationLives, "dead-incarnation-lives", "supervision",
        "The tasks of a failed incarnation go on.",
        ["two-incarnations"], "steady";
    CanaryAlwaysFails, "canary-always-fails", "canary",
        "Nothing: an invariant that is always broken. If it is not found at the first seed, the simulator is broken.",
        ["canary"], "steady";
    CanaryLeaks, "canary-leaks", "canary",
        "The number of the process goes into the trace. `cargo sim check --mutant canary-leaks` must see two runs differ.",
        ["differs"], "steady";
}

impl Mutant {
    /// What is known of it.
    pub fn planted(self) -> &'static Planted {
        let found = Self::ALL.iter().find(|planted| planted.mutant == self);
        found.expect("the list is made with the type")
    }

    /// Whether it tests the simulator itself, not the node.
    pub fn is_canary(self) -> bool {
        matches!(self, Self::CanaryAlwaysFails | Self::CanaryLeaks)
    }
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
        static REACHED: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
    }

    /// True when `mutant` is switched on in this thread.
    pub fn active(mutant: Mutant) -> bool {
        let is_active = ACTIVE.get() == Some(mutant);
        if is_active {
            REACHED.with_borrow(|reached| {
                if let Some(reached) = reached {
                    reached.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        is_active
    }

    /// Switches one bug on, or all off, for this thread.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
        REACHED.set(None);
    }

    /// Has `reached` count how often a site of the active bug is come by in this thread.
    pub fn count_in(reached: Arc<AtomicU64>) {
        REACHED.set(Some(reached));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_for_command_lines() {
        let names: BTreeSet<&str> = Mutant::ALL.iter().map(|planted| planted.name).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.iter().all(|name| is_plain(name)), "{names:?}");
        assert!(
            Mutant::ALL
                .iter()
                .all(|planted| planted.mutant.planted() == planted)
        );
    }
}
