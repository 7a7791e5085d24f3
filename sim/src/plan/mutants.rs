//! The table of planted bugs, and the invariants that must find them.
//!
//! A planted bug is a realistic mistake behind a switch: a value in the configuration of
//! `alys-consensus` for its rules, and [`alys_runtime::mutant`] with a name of this table
//! elsewhere. No production build has the switches. Each bug declares in advance the invariant of
//! the simulator that must find it, and the scenario to search.
//!
//! The table keeps the bugs apart by their [`Origin`], because bugs by the authors of the
//! invariants measure only the mistakes that they thought of.

use serde::Serialize;

/// The knowledge with which a bug was planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Its author knew the simulator's invariants and scenarios.
    InView,
    /// Its author had not read the simulator; invariants may have been built against it since.
    Blind,
    /// No mistake that an observer can tell from correct code, or one without a consequence. The
    /// table argues it, and no run may find it.
    Harmless,
}

impl Origin {
    /// All origins, in the order of the table.
    pub const ALL: [Self; 3] = [Self::InView, Self::Blind, Self::Harmless];

    /// The heading of its rows.
    pub const fn title(self) -> &'static str {
        match self {
            Self::InView => "Planted with the simulator in view",
            Self::Blind => "Planted blind",
            Self::Harmless => "Equivalent or harmless",
        }
    }
}

/// A planted bug and the invariants expected to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planted {
    /// Name on command lines and at the bug's sites in the code.
    pub name: &'static str,
    /// The broken part of the node.
    pub area: &'static str,
    /// The mistake, as a sentence.
    pub broken: &'static str,
    /// Names of the invariants that must find the bug. There is more than one only if the schedule
    /// decides which consequence comes first.
    pub found_by: &'static [&'static str],
    /// Scenario to search.
    pub scenario: &'static str,
    pub origin: Origin,
    /// The reason for which nothing can find a harmless bug; empty for the others.
    pub argument: &'static str,
}

/// A canary that always violates an invariant.
pub const ALWAYS_FAILS: &str = "canary-always-fails";
/// A canary that makes two runs of one seed differ.
pub const LEAKS: &str = "canary-leaks";

macro_rules! origin {
    () => {
        (Origin::InView, "")
    };
    (blind) => {
        (Origin::Blind, "")
    };
    (harmless $argument:literal) => {
        (Origin::Harmless, $argument)
    };
}

/// Rows: `"name", "area", "scenario": "The mistake." => "invariant", "another";`. A bug that was
/// planted blind has `[blind]` in front of its invariants, a harmless one
/// `[harmless "The argument."]` in place of them.
macro_rules! planted {
    ($(
        $name:literal, $area:literal, $scenario:literal:
            $broken:literal
            $([$($origin:tt)+])?
            $(=> $($found_by:literal),+)?;
    )+) => {
        /// All planted bugs.
        pub const ALL: &[Planted] = &[$(Planted {
            name: $name,
            area: $area,
            broken: $broken,
            found_by: &[$($($found_by),+)?],
            scenario: $scenario,
            origin: origin!($($($origin)+)?).0,
            argument: origin!($($($origin)+)?).1,
        }),+];
    };
}

planted! {
    "approve-ignores-lock", "votes", "deaf_leader":
        "A block is approved whose parent is below the lock (rule 3.2)."
        => "approved-below-lock";
    "confirm-ignores-approval", "votes", "late_confirmations":
        "A block is confirmed though a later slot was approved (rule 3.4)."
        => "confirmed-below-approval";
    "approved-slot-not-persisted", "votes", "leader_again":
        "The highest slot approved is not written: a restart sets it back."
        => "signed-twice", "votes-lost", "not-a-transition";
    "approved-slot-compared", "votes", "leader_again":
        "A node proposes and approves in a slot that it approved before: `<` in place of `<=`."
        => "signed-twice";
    "lock-not-persisted", "votes", "lost_lock":
        "The lock is not written: after a restart the node is locked on genesis."
        => "approved-below-lock", "votes-lost", "not-a-transition";
    "confirmation-before-write", "votes", "lost_lock":
        "A confirmation is sent before the lock is on disk."
        => "approved-below-lock", "votes-lost", "not-a-transition";
    "proposal-before-write", "votes", "leader_again":
        "A proposal and its approval are sent before they are on disk."
        => "signed-twice", "votes-lost", "not-a-transition";
    "votes-not-persisted", "votes", "leader_again":
        "No vote state is written."
        => "votes-lost", "signed-twice", "not-a-transition";
    "rejoins-at-once", "votes", "wiped_disk":
        "A node that lost its vote state votes again at the next final block, without the margin."
        => "voted-while-silent", "rejoined-early";
    "votes-while-silent", "votes", "wiped_disk":
        "A node that lost its vote state reports the loss, and keeps voting."
        => "voted-while-silent";
    "held-vote-ignored", "votes", "restored_disk":
        "A node ignores own votes that its peers hold and that it does not know."
        => "loss-unnoticed";
    "certificate-not-persisted", "certificates", "certificate_kept":
        "The certificate is not written with the lock."
        => "no-progress", "wrong-parent";
    "highest-not-restored", "certificates", "certificate_kept":
        "A node that starts takes its last final block for the highest certified one."
        => "no-progress", "wrong-parent";
    "quorum-off-by-one", "certificates", "steady":
        "A quorum is one vote too small."
        => "certified-without-quorum", "final-without-quorum";
    "quorum-unchecked", "certificates", "stolen_key":
        "The number of signers of a certificate is not checked."
        => "certified-without-quorum", "final-without-quorum";
    "parent-certificate-unchecked", "certificates", "forged_fields":
        "The certificate of its parent in a proposal is not verified."
        => "forgery-accepted", "forgery-voted-for";
    "approvals-finalize", "certificates", "late_confirmations":
        "A certificate of approvals makes a block final."
        => "final-without-quorum";
    "kinds-mixed", "certificates", "late_confirmations":
        "An approval counts as a confirmation too."
        => "final-without-quorum";
    "evidence-by-height", "certificates", "majority_partition":
        "Two approvals of one height count as equivocation, in different slots too."
        => "wrongly-accused";
    "leader-by-height", "consensus", "leader_crash":
        "The leader follows from the height in place of the slot."
        => "wrong-leader";
    "randao-unchecked", "consensus", "payload_that_does_not_execute":
        "The `prev_randao` of a payload is not checked."
        => "approved-invalid";
    "own-block-unchecked", "consensus", "blocks_that_others_refuse":
        "A leader signs what its execution client built without applying the rules of validity."
        => "approved-invalid";
    "void-change-takes-effect", "consensus", "late_orders_are_void":
        "A change of the federation takes effect though its block was not shown final."
        => "approved-invalid";
    "change-under-way-ignored", "consensus", "authorities_come_and_go":
        "A change of the federation is carried while another one is under way."
        => "approved-invalid";
    "bits-unchecked", "work", "altered_work":
        "The bits of a proof are not compared with the schedule."
        => "forgery-voted-for", "approved-invalid";
    "bits-from-anchor", "work", "steady_mining":
        "The bits follow from those of the spec in place of those of the proof before."
        => "approved-invalid", "wrong-work", "forgery-voted-for";
    "work-unchecked", "work", "altered_work":
        "The proof in a block is not verified: neither its commitment nor its work."
        => "forgery-voted-for", "approved-invalid";
    "sequence-unchecked", "work", "altered_work":
        "The sequence of a proof is not compared with that of the one before."
        => "forgery-voted-for", "approved-invalid";
    "range-start-unchecked", "work", "altered_work":
        "A range may start at another block than the child of the end of the one before."
        => "forgery-voted-for", "approved-invalid";
    "range-end-not-final", "work", "altered_work":
        "A range may end at a block that no certificate in the body shows final."
        => "forgery-voted-for", "approved-invalid";
    "withdrawals-unchecked", "work", "other_withdrawals":
        "The withdrawals of a payload are not compared with the fees that the ledger gives."
        => "approved-invalid";
    "ledger-hash-unchecked", "work", "altered_work":
        "The ledger hash of a header is not compared with the ledger after its parent."
        => "forgery-voted-for", "approved-invalid";
    "remainder-lost", "work", "steady_mining":
        "The remainder of the fees of one proof is missing in those of the next one."
        => "approved-invalid";
    "tips-twice", "work", "steady_mining":
        "The tips of a block enter the ledger twice."
        => "approved-invalid";
    "gate-open", "work", "gate_closes_and_reopens":
        "Blocks without a proof are approved though the gate is closed."
        => "approved-past-gate";
    "proofs-not-restored", "work", "a_proof_survives_alone":
        "The proofs that a node accepted before its restart are not read from its store."
        => "work-not-carried";
    "proofs-not-gossiped", "work", "one_node_mines":
        "A node does not send the proofs of its miners to other nodes."
        => "too-few-ranges";
    "local-timestamp", "consensus", "late_leader":
        "The timestamp of a block is its leader's clock, and is not checked."
        => "wrong-timestamp";
    "clock-jump-ignored", "consensus", "skewed_clocks":
        "A jump of the wall clock is ignored."
        => "voted-by-jumped-clock";
    "own-vote-confirms-clock", "consensus", "own_vote_after_a_jump":
        "The node's own vote counts as a confirmation of its clock."
        => "voted-by-jumped-clock";
    "confirmations-outlive-jump", "consensus", "clock_jumps_twice":
        "Confirmations of a clock count on after it has jumped again."
        => "voted-by-unconfirmed-jump";
    "far-clock-trusted", "consensus", "clock_ahead_at_boot":
        "A clock that is far ahead of the chain at the start is trusted without a confirmation."
        => "voted-by-unconfirmed-clock";
    "clock-trusted-after-restart", "consensus", "jumped_clock_and_a_restart":
        "The ChainActor trusts the present clock after each restart."
        => "voted-by-jumped-clock";
    "approves-out-of-slot", "consensus", "early_clock":
        "A proposal is approved at any time."
        => "approved-out-of-slot";
    "early-proposal-dropped", "consensus", "early_leader":
        "A proposal that arrives before its slot, within the drift allowance, is dropped."
        => "too-few-blocks";
    "fetched-not-written", "sync", "catching_up":
        "The body of a certified block that a peer sent counts as stored and is not written."
        => "error-line";
    "fetch-never-again", "sync", "mixed":
        "A block that was requested by hash once is never requested again."
        => "silent-leader", "no-progress", "table-not-shrunk";
    "request-kept", "sync", "mixed":
        "A request whose answer was lost inside of the node is never given up."
        => "request-overdue", "table-not-shrunk";
    "failed-block-forgiven", "sync", "mixed":
        "A peer that does not send a block that was requested by hash keeps its rank."
        => "wrong-request";
    "slot-start-unscheduled", "consensus", "steady":
        "The ChainActor wakes once a second, and not at the start of each slot."
        => "block-late", "too-few-blocks";
    "peers-not-introduced", "sync", "peers_are_known_after_a_restart":
        "The PeerActor does not get the connected peers when it restarts."
        => "no-progress", "too-few-blocks", "not-told-again";
    "backoff-ends-with-connection", "network", "peers_that_hang_up":
        "An established connection ends the backoff of its address before the peer is admitted."
        => "dialled-too-often";
    "old-finality-checked", "network", "old_finality":
        "The signatures of finality certificates below the last final block are checked."
        => "too-costly";
    "requests-not-limited", "network", "strangers_ask_too_much":
        "The requests of a peer are not limited."
        => "served-too-much";
    "checksum-ignored", "storage", "a_rotten_block_is_not_passed_on":
        "The checksum of a record is not checked when it is read."
        => "wrong-headers", "honest-peer-blamed";
    "write-deferred", "storage", "rolling_restarts":
        "Records are committed without durability."
        => "finality-went-back", "head-beside-final", "signed-twice", "votes-lost",
            "not-a-transition", "wrong-parent";
    "sync-left-out", "storage", "rolling_restarts":
        "The database's file is never synced."
        => "process-ended", "finality-went-back", "signed-twice", "votes-lost",
            "not-a-transition", "wrong-parent", "wrong-store";
    "index-before-block", "storage", "power_at_writes":
        "The index of blocks is written before the blocks, in a write of its own."
        => "no-progress", "process-ended", "wrong-store";
    "final-index-gaps", "storage", "gaps_in_finality":
        "When several blocks become final at once, only the last one is put into the index."
        => "error-line", "wrong-store";
    "lost-blocks-not-sent", "execution", "one_execution_client_lost_blocks":
        "Blocks that the execution client lost are not sent again."
        => "execution-behind", "no-progress", "silent-leader", "block-late";
    "syncing-is-invalid", "execution", "one_execution_client_lost_blocks":
        "SYNCING counts as INVALID."
        => "error-line";
    "no-answer-is-valid", "execution", "no_execution_client":
        "An execution client that does not answer counts as VALID."
        => "approved-unexecuted";
    "syncing-is-valid", "execution", "one_execution_client_lost_blocks":
        "SYNCING counts as VALID."
        => "approved-unexecuted";
    "base-fee-slow", "execution", "arithmetic":
        "All execution clients change the base fee by a sixteenth at most, in place of an eighth."
        => "wrong-execution";
    "estimate-too-low", "execution", "estimates":
        "An estimate of gas is the highest amount found that does not suffice."
        => "state-differs";
    "any-replacement", "execution", "arithmetic":
        "The pool of an execution client takes a replacement that does not raise the fees."
        => "wrongly-taken";
    "log-index-per-receipt", "execution", "arithmetic":
        "The indexes of logs in the answers of an execution client start at 0 in each receipt."
        => "wrong-execution";
    "token-kept", "execution", "steady":
        "The token for the execution client is reused for two minutes, longer than it is valid."
        => "too-few-blocks", "block-late";
    "stop-waits-for-execution", "execution", "stop_without_execution_client":
        "A node that stops waits for its execution client with the usual timeouts."
        => "process-ended";
    "duplicates-rejected", "network", "mixed":
        "A known vote is rejected, which costs the peer that forwarded it."
        => "honest-peer-blamed", "honest-peer-banned";
    "known-peer-banned-for-load", "network", "votes_without_end":
        "A peer with a known address is banned when it sends more than its budget."
        => "honest-peer-banned";
    "votes-not-screened", "network", "votes_without_end":
        "The signature of each vote is checked, whatever its signer has signed in that slot."
        => "too-costly";
    "never-dials-again", "network", "majority_partition":
        "The address of a lost peer is not dialled again."
        => "no-progress", "authorities-apart";
    "mailbox-overtakes", "mailboxes", "steady":
        "A message overtakes the one before it when others are queued."
        => "order-broken";
    "full-drops-accepted", "mailboxes", "steady":
        "A message to a full mailbox is accepted and dropped."
        => "message-lost";
    "restart-loses-waiting", "mailboxes", "every_actor_heals":
        "The first queued message is lost when an actor restarts."
        => "message-lost";
    "dropped-reply-unnoticed", "mailboxes", "steady":
        "The caller of an actor that dies during an ask gets no answer before the deadline."
        => "ask-late";
    "ask-never-ends", "mailboxes", "steady":
        "The deadline of an ask is not watched."
        => "ask-late";
    "cycle-unseen", "mailboxes", "steady":
        "Two actors that ask each other in their handlers are not refused."
        => "ask-late";
    "hang-unnoticed", "supervision", "every_actor_heals":
        "A handler that never ends is not detected."
        => "actor-not-healed";
    "gives-up-at-once", "supervision", "every_actor_heals":
        "A supervisor gives up at the first failure."
        => "error-line", "gave-up-early";
    "never-gives-up", "supervision", "steady":
        "A supervisor restarts a child without end."
        => "restarts-beyond-policy";
    "breaker-forgets-senders", "supervision", "steady":
        "Senders that wait for room are not refused when a circuit breaker opens."
        => "ask-late";
    "breaker-stays-open", "supervision", "engines_fail":
        "A circuit breaker that has opened never closes."
        => "no-progress", "not-final-after-fault";
    "dead-incarnation-lives", "supervision", "steady":
        "The tasks of a failed incarnation continue."
        => "two-incarnations";
    "timers-outlive-incarnation", "supervision", "every_actor_heals":
        "The pending timers of a failed incarnation go on in the next one."
        => "incarnations-crossed";
    "vouched-after-network-restart", "network", "told_again":
        "Authorities that proved their key to an earlier network service count as vouched for to \
         the new one."
        [blind] => "not-told-again";
    "engine-restart-not-told", "execution", "told_again":
        "A restarted EngineActor does not report its start: the ChainActor awaits lost answers."
        => "not-told-again", "too-few-blocks", "no-progress", "block-late";
    "newest-blocks-dropped", "consensus", "proposals_without_a_quorum":
        "Of more uncertified blocks than a node keeps, those of the highest slots are dropped."
        [blind] => "no-progress", "too-few-blocks", "not-resent";
    "late-block-dropped", "consensus", "a_leader_alone":
        "A block of the chain that is older than all uncertified ones that a node keeps is dropped \
         as it arrives."
        => "block-late", "no-progress", "too-few-blocks";
    "range-limit-late", "sync", "ranges_of_large_blocks":
        "The bytes of an answer with blocks are compared before a block is added to it."
        [blind] => "error-line", "no-progress";
    "refused-charge-returned", "execution", "callers_with_large_requests":
        "A charge that the budget of a port refused is given back though it was never taken."
        [blind] => "budget-wrong";
    "restart-log-kept", "supervision", "a_group_gives_up_once":
        "A supervisor that was restarted still counts the restarts before it gave up."
        [blind] => "gave-up-early", "process-ended", "error-line";
    "range-one-block-too-long", "sync", "catching_up_over_changes":
        "A range that ends one block after a change of the federation is not cut, and its tip is \
         checked against the old set."
        [blind] => "honest-peer-blamed";
    "untaken-broadcast-counted", "network", "a_full_node_hands_over":
        "Transactions count as broadcast although the NetworkActor had no room for the message."
        [blind] => "not-broadcast", "not-mined";
    "untaken-vouch-counted", "network", "authorities_prove_again":
        "A peer counts as vouched for although the NetworkActor had no room for the command."
        [blind] => "not-told-again";
    "dropped-bodies-kept", "storage", "dropped_blocks_leave_no_rows":
        "The bodies of blocks beside the final chain are not deleted, and nothing refers to them."
        [blind] => "wrong-store";
    "marker-removed-first", "storage", "first_starts":
        "The marker of a fresh key is removed before its vote state is created: a crash between the \
         two leaves neither."
        [blind] => "votes-lost";
    "order-height-unsigned", "federation", "altered_orders":
        "Signers and nodes leave the effective height out of the signed message of an order."
        [blind] => "approved-invalid", "forgery-voted-for";
    "finality-flag-kept", "consensus", "sent_again_in_each_slot":
        "After the first final block, nothing is sent again after a slot without one (rule 3.7)."
        [blind] => "not-resent";
    "dropped-copies-remembered", "network", "copies_after_a_full_queue":
        "Gossip that finds no room in the queue of events counts as seen: copies are ignored."
        [blind] => "copy-ignored";
    "refused-status-forgotten", "network", "copies_after_a_full_queue":
        "A status request of the handshake that the peer refused is not repeated on its connection."
        [blind] => "status-not-repeated";
    "retry-flag-kept", "execution", "refusals_apart":
        "The timer of a fork choice that the client follows meanwhile counts as pending for ever."
        [blind] => "forkchoice-not-repeated";
    "gone-peers-kept", "sync", "lost_connection_events":
        "The list of connections that repairs lost events adds peers, and removes none."
        [blind] => "peers-differ";
    "canary-always-fails", "canary", "steady":
        "No mistake: an invariant that is always violated. If the first seed does not find it, \
         the simulator is broken."
        => "canary";
    "canary-leaks", "canary", "steady":
        "The process id enters the trace: two runs of one seed must differ."
        => "differs";
    "reward-tips-unsorted", "execution", "bids":
        "The percentiles of `eth_feeHistory` follow the order of the block, and not the tips."
        [blind] => "state-differs";
    "reward-gas-cumulative", "execution", "bids":
        "A transaction counts in the percentiles of `eth_feeHistory` with the gas of its block up \
         to it."
        [blind] => "state-differs";
    "rank-by-named-tip", "execution", "bids":
        "A leader ranks transactions by the tip that they name, a legacy one by its whole price."
        [blind] => "wrong-order";
    "empty-account-written", "execution", "empty_accounts":
        "An account that did not exist and stays empty enters the state."
        [blind] => "wrong-execution";
    "left-rows-kept", "execution", "pool_after_reorganisations":
        "The journal of the pool never forgets in memory the transactions that left."
        [blind] => "wrong-pool";
    "filter-skips-replacement", "execution", "filters_through_reorganisations":
        "After a reorganisation, a filter leaves out the logs of blocks at the replaced heights."
        [blind] => "filter-differs";
    "filter-ages", "execution", "filters_for_minutes":
        "A poll does not renew a filter: it is lost five minutes after its installation."
        [blind] => "filter-lost";
    "early-proof-on-time", "work", "steady_mining":
        "A proof that comes early counts as one on time: the bits ease and never harden."
        [blind] => "wrong-work";
    "last-tips-unpaid", "work", "steady_mining":
        "The tips of the last block of a range are not paid."
        [blind] => "approved-invalid";
    "staleness-outlives-finality", "work", "accepted_proofs_survive":
        "Work that is found stale by a certified proof stays so when an earlier one becomes final."
        [blind] => "work-not-carried";
    "newest-work-displaced", "work", "steady_mining":
        "An address with too many works loses the newest one."
        [blind] => "too-few-ranges";
    "slot-of-chains-unchecked", "work", "altered_work":
        "A branch of chains may have another slot than that of the chain."
        [blind] => "approved-invalid", "forgery-voted-for";
    "failed-tips-left-out", "work", "steady_mining":
        "Tips of failed transactions are left out."
        [blind] => "approved-invalid";
    "receipts-place-kept", "execution", "receipts_of_peers":
        "A peer's read of receipts that fails keeps its place."
        [blind] => "no-progress", "too-few-blocks";
    "first-change-kept", "work", "carrying_leaders_crash":
        "Of several changes of an entry in one write, the first one is kept."
        [blind] => "wrong-store";
    "final-question-kept", "work", "execution_clients_lose_blocks_of_ranges":
        "The question about receipts of a final block is not asked again after a restart."
        [blind] => "no-progress", "silent-leader";
    "bits-of-offer-kept", "work", "gate_closes_and_reopens":
        "An offer counts as the present one though its bits changed."
        [blind] => "no-work", "wrong-work";
    "pause-in-milliseconds", "execution", "payload_that_does_not_execute":
        "The pause after an invalid answer is in slots where milliseconds are expected."
        [blind] => "too-costly";
    "last-ban-kept", "network", "bans_end":
        "The gate learns of bans only while there are any: the last one does not end."
        [blind] => "honest-peer-banned", "no-progress";
    "bucket-forgets-fractions", "network", "catching_up":
        "A token bucket forgets the milliseconds between two of its uses."
        [blind] => "honest-peer-blamed", "request-overdue";
    "lost-range-not-reported", "sync", "several_nodes_heal":
        "A range that is dropped after its arrival is not reported to the planner."
        [blind] => "request-overdue", "peers-differ";
    "overtaken-forgotten", "actors", "small_mailboxes":
        "A message of one priority ends the counts of those that overtook the others."
        [blind] => "order-broken", "request-overdue";
    "bloom-of-last-receipt", "execution", "arithmetic":
        "The bloom of a block is that of its last receipt."
        [blind] => "wrong-execution";
    "safe-as-finalized", "execution", "arithmetic":
        "The tag `finalized` names the safe block."
        [blind] => "heads-differ", "state-differs";
    "replaced-cost-kept", "execution", "bids":
        "The cost of a replaced transaction stays in the sum of its sender."
        [blind] => "wrong-pool", "state-differs";
    "proof-write-deferred", "storage", "accepted_proofs_survive":
        "An accepted proof of work is written without durability."
        [blind] => "work-not-carried";
    "former-authority-kept", "network", "authorities_come_and_go":
        "A peer whose key left the set counts as an authority still."
        [blind] => "authorities-apart";
}

/// Returns the bug of this name.
pub fn find(name: &str) -> Option<&'static Planted> {
    ALL.iter().find(|planted| planted.name == name)
}

impl Planted {
    /// Returns true for a canary, which tests the simulator instead of the node.
    pub fn is_canary(&self) -> bool {
        [ALWAYS_FAILS, LEAKS].contains(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_for_command_lines() {
        let names: BTreeSet<&str> = ALL.iter().map(|planted| planted.name).collect();
        assert_eq!(names.len(), ALL.len());
        let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.iter().all(|name| is_plain(name)), "{names:?}");
        assert!(find(ALWAYS_FAILS).is_some_and(Planted::is_canary));
        assert!(find(LEAKS).is_some_and(Planted::is_canary));
    }

    #[test]
    fn harmless_bugs_are_argued_and_others_have_invariants() {
        for planted in ALL {
            let is_harmless = planted.origin == Origin::Harmless;
            assert_eq!(is_harmless, planted.found_by.is_empty(), "{}", planted.name);
            assert_eq!(
                is_harmless,
                !planted.argument.is_empty(),
                "{}",
                planted.name
            );
        }
    }

    #[test]
    fn each_form_of_a_row_is_parsed() {
        mod rows {
            use super::super::{Origin, Planted};
            planted! {
                "one", "area", "steady": "A mistake." => "no-progress", "canary";
                "two", "area", "steady": "A mistake." [blind] => "no-progress";
                "three", "area", "steady": "A mistake." [harmless "No reader."];
            }
        }
        let of = |planted: &Planted| (planted.origin, planted.found_by.len(), planted.argument);
        let found: Vec<_> = rows::ALL.iter().map(of).collect();
        let expected = [
            (Origin::InView, 2, ""),
            (Origin::Blind, 1, ""),
            (Origin::Harmless, 0, "No reader."),
        ];
        assert_eq!(found, expected);
    }
}
