//! Invariants of a run, checked outside the nodes by independent arithmetic.
//!
//! **Owns** the reports of all nodes of a run, across restarts. **Guarantees** that each broken
//! invariant is a typed [`Violation`], that the first one is kept, and that reports of a node's
//! observer are the only input from a node. **Never** trusts a node's own judgement of a quorum, a
//! leader or finality.

// Long, because the violations are one type, and each report of a node passes through one place.

mod absence;
mod accusations;
mod actors;
mod arithmetic;
mod blame;
mod blocks;
mod budgets;
mod calm;
mod choices;
mod clocks;
pub mod coverage;
mod dials;
mod emissions;
mod executions;
mod explain;
mod fees;
mod filters;
mod finality;
mod forgeries;
mod handed;
mod headers;
mod ledger;
mod model;
mod order;
mod orders;
mod outside;
mod pools;
mod quorums;
mod rejoin;
mod repairs;
mod requests;
mod retold;
mod sets;
mod stores;
mod votes;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_actor_system::Snapshot;
use alys_consensus::Summary;
use alys_node::metrics::Footprint;
use alys_node::node::NodeEvent;
use alys_types::{Hash, VoteKind};
use serde::{Deserialize, Serialize};

pub use absence::is_absent;
pub use accusations::Accusations;
pub use actors::{Actors, unrested};
pub use arithmetic::{base_fee, logger_call, next_base_fee};
pub use blocks::{Blocks, Proposed};
pub use calm::Calm;
pub use choices::Choices;
pub use clocks::Clocks;
pub use dials::Dials;
pub use emissions::{COUNTER_TOPIC, Emissions, Emitted};
pub use executions::ExecutionClients;
pub use explain::{explain, names};
pub use fees::{Sampled, rewards, suggested_tip, tips};
pub use filters::{ToldBlocks, ToldLog, ToldLogs, same_logs};
pub use finality::{Final, Finality};
pub use forgeries::{Forgeries, Forgery, Tolerance};
pub use handed::Handed;
pub use ledger::{Action, Answered, Asked, Due, Ledger, Receipt, Sent, Taken};
pub use model::Conformance;
pub use orders::Keys;
pub use pools::{journal_is_exact, pool_survives};
pub use quorums::Quorums;
pub use rejoin::{Loss, Rejoin};
pub use repairs::Repairs;
pub use requests::Requests;
pub use retold::Retold;
pub use sets::{Changes, Members, Sets};
pub use stores::{MOST_COPIES, Rows, Stores};
pub use votes::Votes;
pub use work::{
    Basis, Commitment, Facts, Offer, Place, Told, Verdict, Work, check_proof, compact, target,
};

use crate::events::short;
use crate::params::WorldPlan;

/// A broken invariant; the serialized tag `invariant` names it in reports. Nodes in the fields
/// count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "invariant", rename_all = "kebab-case")]
pub enum Violation {
    /// Two different blocks are final at one height.
    TwoFinalBlocks {
        height: u64,
        first: String,
        first_node: u8,
        second: String,
        second_node: u8,
    },
    /// A node reported a lower final height than before, possibly after a restart.
    FinalityWentBack { node: u8, from: u64, to: u64 },
    /// A node reported a block as final although fewer than a quorum signed confirmations of it.
    FinalWithoutQuorum {
        node: u8,
        height: u64,
        hash: String,
        confirmations: usize,
        quorum: usize,
    },
    /// A quorum approved a block that cannot descend from a block that a quorum confirmed in an
    /// earlier slot.
    CertifiedBesideFinal {
        height: u64,
        confirmed: String,
        confirmed_slot: u64,
        approved: String,
        approved_slot: u64,
    },
    /// An authority signed two blocks with the same kind of vote in one slot.
    SignedTwice {
        node: u8,
        kind: String,
        slot: u64,
        first: String,
        second: String,
    },
    /// An authority signed a vote in a slot below that of its previous vote of the same kind.
    SignedBackwards {
        node: u8,
        kind: String,
        slot: u64,
        before: u64,
    },
    /// An authority confirmed a block of a slot below one in which it had approved a conflicting
    /// block.
    ConfirmedBelowApproval { node: u8, slot: u64, approved: u64 },
    /// A node signed a vote for a block whose federation it does not belong to.
    SignedOutsideSet { node: u8, kind: String, slot: u64 },
    /// Fewer changes of the federation took effect than the scenario demands.
    TooFewChanges { reached: u64, needed: u64 },
    /// Another number of changes of the federation are void than the scenario says.
    WrongVoidChanges { found: u64, expected: u64 },
    /// An authority approved a block whose parent is below its lock.
    ApprovedBelowLock {
        node: u8,
        slot: u64,
        parent_slot: u64,
        locked: u64,
    },
    /// An authority signed a proposal or an approval before the slot began on its own clock.
    ApprovedOutOfSlot { node: u8, slot: u64, early_ms: u64 },
    /// An authority signed while its clock had jumped and neither peers nor its operator had
    /// confirmed the new time.
    VotedByJumpedClock { node: u8, slot: u64, by_ms: i64 },
    /// An authority signed by a clock that had jumped again, and fewer than `needed` other
    /// authorities voted in the slots that it showed since the last jump, of `by_ms`.
    VotedByUnconfirmedJump {
        node: u8,
        slot: u64,
        by_ms: i64,
        peers: u64,
        needed: u64,
    },
    /// An authority voted by a clock that was far ahead when it started and was not confirmed.
    VotedByUnconfirmedClock { node: u8, slot: u64, ahead_ms: u64 },
    /// An authority approved a block that its own execution client has not executed.
    ApprovedUnexecuted { node: u8, height: u64, slot: u64 },
    /// An authority approved or finalized a block that breaks a rule of the protocol; `what` names
    /// the rule.
    ApprovedInvalid {
        node: u8,
        slot: u64,
        hash: String,
        what: String,
    },
    /// A node built on a block, or reported it as certified, without a quorum of approvals.
    CertifiedWithoutQuorum {
        node: u8,
        slot: u64,
        hash: String,
        approvals: usize,
        quorum: usize,
    },
    /// A node counted a quorum of votes for a block that it had approved, and the block is not
    /// certified or final on it; `reached` is the highest slot that is.
    QuorumIgnored {
        node: u8,
        kind: String,
        slot: u64,
        reached: u64,
    },
    /// The timestamp of a block differs from that of its slot; both are in seconds since the epoch.
    WrongTimestamp {
        node: u8,
        slot: u64,
        found: u64,
        expected: u64,
    },
    /// A node's head does not descend from its last final block.
    HeadBesideFinal {
        node: u8,
        height: u64,
        head: String,
        final_height: u64,
        last: String,
    },
    /// A node banned a peer that follows the protocol.
    HonestPeerBanned { node: u8, banned: u8 },
    /// A node reported an offence of a peer that follows the protocol, or rejected gossip that it
    /// forwarded.
    HonestPeerBlamed { node: u8, blamed: u8, why: String },
    /// A node answered a request for headers or blocks with anything but a certified piece of the
    /// chain.
    WrongHeaders { node: u8, height: u64, why: String },
    /// A node served more requests of one peer than the rate limits of all protocols together
    /// allow.
    ServedTooMuch { node: u8, served: u64, allowed: u64 },
    /// A node signed a vote that the model forbids after its earlier votes, or remembers less than
    /// it signed.
    NotATransition { node: u8, what: String, why: String },
    /// A node reports its vote state as lost although its disk lost nothing.
    VotesLost { node: u8 },
    /// An authority that lost its votes signed before a block of a slot after `until` was final on
    /// it. `until` is `None` while the authority has not yet reported that its disk is empty.
    VotedWhileSilent {
        node: u8,
        kind: String,
        slot: u64,
        final_slot: u64,
        until: Option<u64>,
    },
    /// An authority that lost its votes resumed voting before a block of a slot after `until` was
    /// final on it.
    RejoinedEarly {
        node: u8,
        final_slot: u64,
        until: u64,
    },
    /// An authority remains silent although a block of a slot after `until` is final on it.
    RejoinedLate {
        node: u8,
        final_slot: u64,
        until: u64,
    },
    /// An authority whose disk was emptied runs and does not report its votes as lost.
    LossIgnored { node: u8 },
    /// Fewer authorities reported the loss of their votes than the scenario demands.
    LossUnnoticed { noticed: u64, needed: u64 },
    /// A node holds evidence against an authority that follows the protocol.
    WronglyAccused { node: u8, signer: u8, slot: u64 },
    /// A node counted contradicting votes of an authority and holds no evidence.
    NotAccused { node: u8, signer: u8, slot: u64 },
    /// An authority proposed in a slot that another authority leads.
    WrongLeader { node: u8, slot: u64 },
    /// Two answers about one final state differ, or the execution gave another result than
    /// expected.
    StateDiffers { node: u8, height: u64, what: String },
    /// A node's finality did not advance as far as it must after the faults ended.
    NoProgress {
        node: u8,
        reached: u64,
        needed: u64,
        within_ms: u64,
    },
    /// In a calm stretch, a slot has no block that was final on the node in time.
    BlockLate { node: u8, slot: u64, limit_ms: u64 },
    /// In a calm stretch, a node may not vote.
    SilentInCalm { node: u8 },
    /// Blocks cost a node more than their budget: in a calm stretch, or more signature checks than
    /// the scenario allows, where `blocks` counts the slots of the chaos.
    TooCostly {
        node: u8,
        what: String,
        blocks: u64,
        found: u64,
        budget: u64,
    },
    /// In a calm stretch without users, a table has more entries than the state of the node
    /// justifies.
    TableNotShrunk {
        node: u8,
        table: String,
        found: u64,
        limit: u64,
    },
    /// The bytes in use of a port's budget are not those of the requests and answers in progress.
    BudgetWrong {
        node: u8,
        port: String,
        left: u64,
        limit: u64,
        charges: u64,
    },
    /// In a calm stretch, an authority is not connected to a node, or its PeerActor does not know
    /// all connected peers.
    PeersMissing {
        node: u8,
        connected: u64,
        known: u64,
        authorities: u64,
    },
    /// An actor, or the network service of a node, lacks a fact that it must get after a restart.
    NotToldAgain { node: u8, what: String },
    /// A node did not send its certificates, or its latest approval, again after slots without a
    /// new final block.
    NotResent {
        node: u8,
        what: String,
        after_ms: u64,
        limit_ms: u64,
    },
    /// A node did not repeat a fork choice that its execution client refused or did not follow.
    ForkchoiceNotRepeated { node: u8, late_ms: u64 },
    /// A node did not repeat a status request that failed, though the connection lasts.
    StatusNotRepeated {
        node: u8,
        after_ms: u64,
        limit_ms: u64,
    },
    /// A node ignored gossip as a repeat, and had taken no copy within the window.
    CopyIgnored { node: u8, window_ms: u64 },
    /// The PeerActor of a node has other peers than its network service.
    PeersDiffer {
        node: u8,
        connected: u64,
        known: u64,
        limit_ms: u64,
    },
    /// After the faults ended, two honest authorities are not connected; `node` lacks `other`.
    AuthoritiesApart { node: u8, other: u8, within_ms: u64 },
    /// A leader built on another block than the highest certified one that it knew; all slots.
    WrongParent {
        node: u8,
        slot: u64,
        parent_slot: u64,
        known: u64,
    },
    /// A node finalized fewer blocks than the scenario demands.
    TooFewBlocks { node: u8, reached: u64, needed: u64 },
    /// A node logged a line at level ERROR.
    ErrorLine { node: String, line: String },
    /// A process exited without being stopped by the simulator.
    ProcessEnded { node: String, reason: String },
    /// An execution client lacks a final block after the faults ended.
    ExecutionBehind { node: u8, reached: u64, needed: u64 },
    /// A transaction seen in a final block is missing, or is in another block.
    AcknowledgedLost {
        node: u8,
        transaction: String,
        height: u64,
        found: String,
    },
    /// A node did not broadcast a transaction that its execution client took.
    NotBroadcast {
        node: u8,
        transaction: String,
        within_ms: u64,
    },
    /// A transaction that a user gave to a node is not in a final block, long after all faults
    /// ended.
    NotMined {
        node: u8,
        transaction: String,
        within_ms: u64,
    },
    /// A final block contains a transaction that every execution client refused, or that can never
    /// be valid.
    RefusedIsFinal {
        node: u8,
        transaction: String,
        height: u64,
        why: String,
    },
    /// An execution client accepted a transaction that it must refuse, or answered with the hash of
    /// another transaction.
    WronglyTaken {
        node: u8,
        transaction: String,
        why: String,
    },
    /// An account's balance, nonce or counter differs from the result of the final transactions.
    WrongBalance {
        node: u8,
        account: String,
        height: u64,
        expected: String,
        found: String,
    },
    /// A leader's block has its transactions in another order than by the tips that they leave.
    WrongOrder { node: u8, slot: u64, what: String },
    /// The journal of an execution client's pool has a row that it deleted, or an orderly stop
    /// loses a transaction of the pool.
    WrongPool { node: u8, what: String },
    /// A final block or a receipt differs from the arithmetic of fees, gas and logs.
    WrongExecution { node: u8, height: u64, what: String },
    /// The changes that a filter of an execution client reported, or the logs of a range, are not
    /// those of its chain.
    FilterDiffers { node: u8, what: String },
    /// An execution client lost a filter that was in use, without a restart. The times are those
    /// since the last poll and since the installation.
    FilterLost { node: u8, idle_ms: u64, age_ms: u64 },
    /// An actor with an injected fault, or the supervision tree around it, did not recover in time.
    ActorNotHealed {
        node: u8,
        actor: String,
        fault: String,
        state: String,
        health: String,
        after_ms: u64,
    },
    /// A node's finality did not advance after an injected actor fault, although the actor
    /// restarted and no other fault is active.
    NotFinalAfterFault {
        node: u8,
        actor: String,
        fault: String,
        reached: u64,
    },
    /// The run used the real clock, randomness, disk, network or threads, see
    /// [`crate::run::sandbox`].
    Escaped { what: String },
    /// A message that a mailbox accepted is unaccounted for.
    MessageLost {
        node: u8,
        actor: String,
        messages: i64,
    },
    /// A mailbox holds more messages than its capacity.
    QueueOverrun {
        node: u8,
        actor: String,
        depth: u64,
        capacity: u64,
    },
    /// An actor's mailbox was never observed empty after the faults and the workload ended, or a
    /// message that it accepted is unaccounted for.
    NeverAtRest {
        node: u8,
        actor: String,
        depth: u64,
        unaccounted: i64,
        after_ms: u64,
    },
    /// The process of a run used more memory than its limit.
    MemoryUnbounded { mib: u64, limit_mib: u64 },
    /// Two messages of one sender were handled out of order.
    OrderBroken {
        actor: String,
        sender: u8,
        number: u64,
        after: u64,
    },
    /// An ask ended later than its time limit.
    AskLate {
        what: String,
        after_ms: u64,
        limit_ms: u64,
    },
    /// An ask ended with a timeout before its time limit.
    AskEarly {
        what: String,
        after_ms: u64,
        limit_ms: u64,
    },
    /// A node dialled an address at which no peer answers more often than its backoff permits: the
    /// last of `dials` may come `least_ms` after the first.
    DialledTooOften {
        node: u8,
        dials: u64,
        within_ms: u64,
        least_ms: u64,
    },
    /// A request to a peer was neither answered nor given up by its deadline.
    RequestOverdue {
        node: u8,
        what: String,
        after_ms: u64,
        limit_ms: u64,
    },
    /// A request went to another peer, or for other blocks, than follows from the events that the
    /// node had reported.
    WrongRequest { node: u8, what: String },
    /// An actor dealt with a timer or a request of an earlier incarnation, or `what` is unknown to
    /// the living one.
    IncarnationsCrossed {
        node: u8,
        actor: String,
        what: String,
        living: u64,
    },
    /// A task of a dead incarnation of an actor still runs beside the living incarnation.
    TwoIncarnations {
        actor: String,
        dead: u64,
        living: u64,
    },
    /// A supervisor restarted its children more often than its policy allows.
    RestartsBeyondPolicy {
        supervisor: String,
        restarts: u64,
        limit: u64,
    },
    /// A supervisor gave up before its restart policy was exhausted.
    GaveUpEarly {
        supervisor: String,
        percent_of_policy: u64,
    },
    /// An authority had none of its blocks finalized for several rounds after the faults ended.
    SilentLeader { node: u8, within_ms: u64 },
    /// A fresh execution client that replays the final chain reaches another state.
    ReplayDiffers { height: u64, what: String },
    /// A node and its execution client have different heads while the run is at rest.
    HeadsDiffer {
        node: u8,
        consensus: String,
        execution: String,
    },
    /// A correct node accepted, and so forwards, a message that breaks a rule which every node
    /// checks; `what` names the altered type and field, or the other chain.
    ForgeryAccepted { node: u8, what: String },
    /// A correct authority voted for a block that an adversary had altered.
    ForgeryVotedFor {
        node: u8,
        slot: u64,
        hash: String,
        what: String,
    },
    /// A node takes a peer for an authority that did not prove its key on this chain.
    ImpostorVouched { node: u8, peer: String },
    /// A row of a node's block store belongs to no block that is final or may become final, or a
    /// row of the final chain is missing.
    WrongStore { node: u8, what: String },
    /// A node reported a lower range as the last one that is final by proof of work than before.
    PowFinalityWentBack { node: u8, from: u64, to: u64 },
    /// A node reported another range as final by proof of work than that of a final block.
    WrongPowFinality {
        node: u8,
        sequence: u64,
        what: String,
    },
    /// An authority approved a block without a proof although the gate was closed: from `end`, the
    /// end of the last range, to the last final block there are at least `gate` blocks.
    ApprovedPastGate {
        node: u8,
        slot: u64,
        final_height: u64,
        end: u64,
        gate: u64,
    },
    /// A node has no work for miners although final blocks are not covered by a proof.
    NoWork {
        node: u8,
        why: String,
        within_ms: u64,
    },
    /// A node handed out work that is of no range of final blocks, pays another address, or has
    /// other bits than those of the next slots.
    WrongWork { node: u8, what: String },
    /// A node accepted a proof that a miner had spoiled.
    WorkWronglyTaken { node: u8, flaw: String },
    /// A node refused a valid proof.
    WorkWronglyRefused { node: u8, why: String },
    /// A proof that a node accepted, or another one of its sequence, is in no final block long
    /// after all faults ended.
    WorkNotCarried {
        node: u8,
        sequence: u64,
        within_ms: u64,
    },
    /// Fewer ranges are final by proof of work than the scenario demands.
    TooFewRanges { reached: u64, needed: u64 },
    /// The canary: a planted bug that every run must report.
    Canary,
    /// The program panicked.
    Panicked { message: String },
    /// The run exceeded its time limit, or did not end in order.
    Hung { what: String },
}

impl Violation {
    /// Returns the kebab-case tag that names the violation in reports.
    pub fn name(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json["invariant"].as_str().unwrap_or("unknown").to_owned()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Simulated time from the start, in milliseconds.
    pub at_ms: u64,
    #[serde(flatten)]
    pub violation: Violation,
}

/// The invariants of a run and the reports that they need.
#[derive(Debug)]
pub struct Oracles {
    /// The federation of each block.
    pub sets: Sets,
    /// Uniqueness and monotonicity of final blocks.
    pub finality: Finality,
    /// Rules that the signatures of authorities must follow.
    pub votes: Votes,
    /// Proposed blocks, including those that lost.
    pub blocks: Blocks,
    /// Evidence that must follow from counted votes.
    pub accusations: Accusations,
    /// Certificates that must follow from counted votes.
    pub quorums: Quorums,
    /// Calm stretches, and the demands in them.
    pub calm: Calm,
    /// The parents of the leaders' blocks.
    pub choices: Choices,
    /// Offsets of the nodes' clocks.
    pub clocks: Clocks,
    /// Dials to addresses at which no peer answers.
    pub dials: Dials,
    /// Mailboxes and restarts in the nodes' supervision trees.
    pub actors: Actors,
    /// The head that each node last set on its execution client.
    pub heads: BTreeMap<u8, Hash>,
    /// The libp2p identities of authorities that follow the protocol, with their index from 0.
    pub honest: BTreeMap<String, u8>,
    /// The identities that no node may ban, with their index from 0: the same, and those of
    /// authorities that only send too much.
    pub spared: BTreeMap<String, u8>,
    /// The same signatures, checked against the model.
    pub model: Conformance,
    /// Authorities that lost their votes and have not resumed voting.
    pub rejoin: Rejoin,
    /// Retransmissions and retries.
    pub repairs: Repairs,
    /// Requests of the nodes to their peers.
    pub requests: Requests,
    /// Facts that actors send again after restarts, and the connections of authorities.
    pub retold: Retold,
    /// Transactions and the account balances that follow from them.
    pub ledger: Ledger,
    /// The logs of each block.
    pub emissions: Emissions,
    /// The number of starts of each authority's execution client.
    pub execution_starts: BTreeMap<u8, u64>,
    /// Transactions that a user gave to a single node.
    pub handed: Handed,
    /// Messages that adversaries made.
    pub forgeries: Forgeries,
    /// Rows of the nodes' block stores.
    pub stores: Stores,
    /// Proof of work and fees.
    pub work: Work,
    /// The most signature checks of one process of each correct node.
    pub checks: BTreeMap<u8, u64>,
    /// The final height that every living node had when the chaos ended.
    pub least_final: Option<u64>,
    /// The ranges that were final by proof of work when the chaos ended.
    pub least_ranges: u64,
    /// The first violation.
    pub found: Option<Found>,
    /// Number of reports by kind.
    pub heard: BTreeMap<&'static str, u64>,
    /// Nodes that are not judged because a lying or restored disk may have made them forget what
    /// they signed. A node that noticed its loss and waited until it may vote is judged again.
    pub distrusted: BTreeSet<u8>,
    /// The last summary of each node.
    pub summaries: BTreeMap<u8, Summary>,
}

/// The invariants of a run behind a lock; clones share them.
#[derive(Debug, Clone)]
pub struct Judge(Arc<Mutex<Oracles>>);

impl Judge {
    pub fn new(plan: &WorldPlan) -> Self {
        Self(Arc::new(Mutex::new(Oracles::new(plan))))
    }

    /// Locks the invariants. A poisoned lock is taken over because the first violation must survive
    /// a panic.
    pub fn look(&self) -> MutexGuard<'_, Oracles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a violation that was found outside the invariants' own checks.
    pub fn accuse(&self, at_ms: u64, violation: Violation) {
        self.look().note(at_ms, Err(violation));
    }

    /// Returns true if a violation was found.
    pub fn is_over(&self) -> bool {
        self.look().found.is_some()
    }
}

impl Oracles {
    pub fn new(plan: &WorldPlan) -> Self {
        let sets = Sets::new(plan);
        Self {
            finality: Finality::default(),
            votes: Votes::new(plan).sharing(&sets),
            blocks: Blocks::new(plan).sharing(&sets),
            accusations: Accusations::default(),
            quorums: Quorums::new(plan),
            calm: Calm::new(plan),
            choices: Choices::default(),
            clocks: Clocks::new(plan),
            dials: Dials::new(plan.buggify),
            actors: Actors::default(),
            heads: BTreeMap::new(),
            honest: BTreeMap::new(),
            spared: BTreeMap::new(),
            model: Conformance::new(plan).sharing(&sets),
            sets,
            rejoin: Rejoin::default(),
            repairs: Repairs::new(plan),
            requests: Requests::new(plan.buggify),
            retold: Retold::new(plan),
            ledger: Ledger::default(),
            emissions: Emissions::default(),
            execution_starts: BTreeMap::new(),
            handed: Handed::default(),
            forgeries: Forgeries::default(),
            stores: Stores::default(),
            work: Work::default(),
            checks: BTreeMap::new(),
            least_final: None,
            least_ranges: 0,
            found: None,
            heard: BTreeMap::new(),
            distrusted: BTreeSet::new(),
            summaries: BTreeMap::new(),
        }
    }

    fn note(&mut self, at_ms: u64, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.found.is_none()
        {
            self.found = Some(Found { at_ms, violation });
        }
    }

    /// Counts an act of a peer.
    pub fn count(&mut self, what: &'static str) {
        *self.heard.entry(what).or_default() += 1;
    }

    /// Resets the state of one process because a node restarts.
    pub fn born(&mut self, node: u8) {
        if self.votes.is_byzantine(node) {
            return;
        }
        self.votes.pending.remove(&node);
        self.clocks.born(node);
        self.actors.born(node);
        self.requests.born(node);
        self.retold.born(node);
        self.accusations.restored(node);
        self.quorums.restored(node);
    }

    /// Records that the process of an authority's execution client starts, without the filters of
    /// the one before.
    pub fn execution_born(&mut self, node: u8) {
        *self.execution_starts.entry(node).or_default() += 1;
    }

    /// Stops judging a node's reports, because its disk lied or was restored; its signature may now
    /// be on any block.
    pub fn distrust(&mut self, node: u8) {
        self.rejoin.forget(node);
        self.choices.forget(node);
        self.work.forget(node);
        if self.distrusted.insert(node) {
            self.votes.distrust(node);
            self.model.distrust(node);
        }
    }

    /// Returns the nodes that may have to stay silent for part of the run, because their disk lied,
    /// was emptied or was restored.
    pub fn mute(&self) -> BTreeSet<u8> {
        self.votes
            .lost()
            .into_iter()
            .chain(self.distrusted.iter().copied())
            .collect()
    }

    /// Records that a node's disk was restored to an older state while its process was down.
    pub fn put_back(&mut self, node: u8) {
        let lies = self.distrusted.contains(&node) && !self.rejoin.is_without(node);
        self.distrust(node);
        if !lies {
            self.rejoin.lose(node, Loss::PutBack);
        }
    }

    /// Records that a lying disk was replaced by an empty, reliable one; the node's rejoin is
    /// judged from now on.
    pub fn disk_replaced(&mut self, node: u8) {
        if self.distrusted.contains(&node) {
            self.rejoin.lose(node, Loss::Emptied);
        }
    }

    /// Records that a node's disk was emptied while its process was down. New votes of the node are
    /// still compared with its old ones.
    pub fn lost_votes(&mut self, node: u8) {
        if !self.distrusted.contains(&node) {
            self.rejoin.lose(node, Loss::Emptied);
        }
        self.votes.lose(node);
        self.work.forget(node);
        self.model.distrust(node);
        self.finality.forget(node);
        self.choices.forget(node);
    }

    /// Checks an event that a node reported; `node` counts from 0.
    pub fn observe(&mut self, at_ms: u64, node: u8, event: &NodeEvent) {
        if self.votes.is_byzantine(node) {
            self.observe_byzantine(at_ms, node, event);
            return;
        }
        self.repairs.observe(at_ms, node, event);
        let (kind, result) = match event {
            NodeEvent::Signed { target } => {
                let kind = match target.kind {
                    VoteKind::Proposal => "signed.proposal",
                    VoteKind::Approval => "signed.approval",
                    VoteKind::Confirmation => "signed.confirmation",
                };
                // A confirmation requires a certified block.
                let of_certified = match target.kind {
                    VoteKind::Confirmation => {
                        self.choices.certified(at_ms, node, target.slot.0);
                        self.votes.certified(node, target.slot.0, target.hash)
                    }
                    VoteKind::Proposal => Ok(()),
                    VoteKind::Approval => self.approved(node, target),
                };
                if !self.votes.has_signed(node, target.kind, target.slot.0) {
                    let result = self
                        .rejoin
                        .signed(node, target, self.finality.slot_of(node));
                    self.note(at_ms, result);
                }
                self.quorums.signed(at_ms, node, target);
                // The more specific violation comes first because only one is kept.
                let for_forged = self.forgeries.signed(node, target);
                let signed = self.votes.signed(node, target, &self.blocks);
                (
                    kind,
                    for_forged
                        .and(signed)
                        .and(of_certified)
                        .and(self.model.signed(at_ms, node, target)),
                )
            }
            NodeEvent::VotesFor { block, parent } => {
                self.sets.learn_parent(block.hash, parent.hash);
                ("votes-for", self.model.votes_for(node, *block, *parent))
            }
            NodeEvent::Finalized(block) => {
                self.calm.finalized(at_ms, node, block.slot.0);
                self.votes
                    .finalized(at_ms, node, block.height.0, block.hash);
                let result = self.finality.reported(node, block);
                if result.is_ok() {
                    self.sets.finalized(block.height.0, &block.hash);
                    self.work.finalized(block.height.0, &block.hash);
                }
                (
                    "finalized",
                    result
                        .and(self.blocks.approved(node, &block.hash))
                        .and(self.work.approved(node, block.slot.0, &block.hash))
                        .and(self.blocks.executed(node, &block.hash)),
                )
            }
            NodeEvent::Proposed { hash, block, .. } => {
                self.emissions.proposed(block);
                let is_new = self.blocks.get(hash).is_none();
                let result = self.learn(at_ms, node, *hash, block);
                if is_new {
                    let slot = block.header.slot.0;
                    let transactions = &block.body.payload.transactions;
                    self.calm.proposed(slot, transactions);
                    self.handed.proposed(transactions);
                    let result = self.parent_is_right(node, hash, slot);
                    self.note(at_ms, result);
                    let payload = &block.body.payload;
                    let choices = order::by_tip(node, slot, payload, &self.ledger.sent);
                    if matches!(choices, Ok(choices) if choices > 0) {
                        self.ledger.coverage.count("model.order");
                    }
                    self.note(at_ms, choices.map(|_| ()));
                }
                let parent = block
                    .header
                    .parent_certificate
                    .map(|_| block.header.parent_hash);
                let parent_slot = self.blocks.parent_slot(hash).unwrap_or(0);
                let on = parent.map_or(Ok(()), |parent| {
                    self.votes.certified(node, parent_slot, parent)
                });
                ("proposed", result.and(on))
            }
            NodeEvent::Head { height, slot, hash } => {
                self.heads.insert(node, *hash);
                let certified = if height.0 > 0 {
                    self.choices.certified(at_ms, node, slot.0);
                    self.votes.certified(node, slot.0, *hash)
                } else {
                    Ok(())
                };
                ("head", certified.and(self.head(node, height.0, *hash)))
            }
            NodeEvent::Banned { peer } => {
                let banned = self.spared.get(peer).map(|banned| banned + 1);
                let result = banned.map(|banned| Violation::HonestPeerBanned {
                    node: node + 1,
                    banned,
                });
                ("banned", result.map_or(Ok(()), Err))
            }
            NodeEvent::Peers { .. } => ("peers", Ok(())),
            NodeEvent::Restored { incarnation } => {
                self.retold.chain_restored(node, *incarnation);
                self.accusations.restored(node);
                self.quorums.restored(node);
                ("restored", Ok(()))
            }
            NodeEvent::Counts {
                target,
                signer,
                set_hash,
            } => {
                let now = self.calm.slot_at(at_ms);
                let is_right = self.clocks.is_right(node);
                let distance = target.slot.0.abs_diff(now);
                let is_recent = is_right && distance <= quorums::RECENT_SLOTS;
                self.quorums
                    .counts(at_ms, node, target, *signer, *set_hash, is_recent);
                let is_near = is_right && distance <= accusations::NEAR_SLOTS;
                let all = &mut self.accusations;
                (
                    "counts",
                    all.counts(node, target, *signer, *set_hash, is_near),
                )
            }
            NodeEvent::Evidence { signer, slot } => {
                self.accusations.accuses(node, *signer, slot.0);
                ("evidence", self.votes.accused(node, *signer, slot.0))
            }
            NodeEvent::PowFinal(range) => ("pow-final", self.pow_final(node, range)),
            NodeEvent::Notice(_) => ("notice", Ok(())),
            NodeEvent::Peering(event) => ("peering", self.requests.report(at_ms, node, event)),
        };
        *self.heard.entry(kind).or_default() += 1;
        if !self.distrusted.contains(&node) {
            self.note(at_ms, result);
        }
    }

    /// Records an event of a Byzantine node, because its signatures count towards quorums and its
    /// blocks may become final.
    fn observe_byzantine(&mut self, at_ms: u64, node: u8, event: &NodeEvent) {
        match event {
            NodeEvent::Signed { target } => {
                let result = self.votes.signed(node, target, &self.blocks);
                self.note(at_ms, result);
            }
            NodeEvent::Proposed { hash, block, .. } => {
                self.emissions.proposed(block);
                // The result is ignored because correct nodes must reject an invalid block.
                let _ = self.learn(at_ms, node, *hash, block);
                self.handed.proposed(&block.body.payload.transactions);
            }
            _ => {}
        }
    }

    /// Checks the parent of a new block, unless the node's clock is wrong or its disk lied: the
    /// start of the slot is unknown then, or the node may have forgotten certificates that it
    /// reported.
    fn parent_is_right(&self, node: u8, hash: &Hash, slot: u64) -> Result<(), Violation> {
        let is_judged = !self.distrusted.contains(&node) && self.clocks.is_right(node);
        match self.blocks.parent_slot(hash).filter(|_| is_judged) {
            Some(parent_slot) => {
                let before_ms = self.calm.before_ms(slot, 2 * self.clocks.drift_ms());
                self.choices.proposed(node, before_ms, slot, parent_slot)
            }
            None => Ok(()),
        }
    }

    fn head(&self, node: u8, height: u64, hash: Hash) -> Result<(), Violation> {
        let last = self.finality.of(node);
        match self.finality.blocks.get(&last) {
            Some(block) => self.blocks.head(node, (height, hash), (last, block.hash)),
            None => Ok(()),
        }
    }

    /// Checks a snapshot of a node's supervision tree.
    pub fn tree(&mut self, at_ms: u64, node: u8, tree: &Snapshot) {
        if self.votes.is_byzantine(node) {
            return;
        }
        let result = self.actors.look(at_ms, node, tree);
        self.note(at_ms, result);
        let result = self.retold.look(node, tree);
        self.note(at_ms, result);
        let result = self.repairs.look(at_ms, node);
        self.note(at_ms, result);
    }

    /// Checks the sizes of a node's tables and its work.
    pub fn footprint(&mut self, at_ms: u64, node: u8, footprint: &Footprint) {
        if self.votes.is_byzantine(node) || self.distrusted.contains(&node) {
            return;
        }
        let checks = self.checks.entry(node).or_default();
        *checks = footprint.costs.checks.max(*checks);
        let height = self.finality.of(node);
        let result = self.calm.footprint(at_ms, node, height, footprint);
        self.note(at_ms, result);
    }

    /// Checks a node's summary. `asked` is the time of the request in milliseconds and the node's
    /// final height at that time; the node may have advanced since.
    pub fn stands(&mut self, at_ms: u64, node: u8, asked: (u64, u64), summary: Summary) {
        if self.votes.is_byzantine(node) {
            return;
        }
        if self.is_gate_near() {
            self.calm.shut(at_ms);
        }
        let result = self.carried(at_ms);
        self.note(at_ms, result);
        let result = self.calm.look(at_ms);
        self.note(at_ms, result);
        let since_ms = self.calm.undisturbed_since_ms();
        let result = self.handed.look(at_ms, since_ms);
        self.note(at_ms, result);
        let result = self.calm.stands(at_ms, node, &summary);
        self.note(at_ms, result);
        if summary.silent {
            self.repairs.silent(node);
        }
        let accused = self.accusations.stands(node);
        let until = summary.votes.silent_until.map(|slot| slot.0);
        let final_slot = summary.finalized.slot.0;
        match self
            .rejoin
            .stands(node, until, final_slot, self.votes.last_slot(node))
        {
            Ok(Some(waited_for)) => {
                self.distrusted.remove(&node);
                self.model.trust(node, waited_for);
            }
            Ok(None) => {}
            Err(violation) => self.note(at_ms, Err(violation)),
        }
        if self.distrusted.contains(&node) {
            self.summaries.insert(node, summary);
            return;
        }
        self.note(at_ms, accused);
        let last = summary.finalized.hash;
        let result = self
            .finality
            .stands(node, asked.1, summary.final_height.0, last);
        self.note(at_ms, result);
        let result = self.work.stands(node, summary.pow_final_height.0);
        self.note(at_ms, result);
        let result = self.votes.stands(asked.0, node, last);
        self.note(at_ms, result);
        let result = self.quorums.stands(asked.0, node, &summary);
        self.note(at_ms, result);
        if summary.highest_height.0 > 0 {
            let slot = summary.highest.slot.0;
            self.choices.certified(at_ms, node, slot);
            let result = self
                .votes
                .certified(node, summary.highest.slot.0, summary.highest.hash);
            self.note(at_ms, result);
        }
        let result = self.model.stands(asked.0, node, &summary.votes);
        self.note(at_ms, result);
        let result = self
            .votes
            .silent(node, summary.votes.silent_until.is_some());
        self.note(at_ms, result);
        self.summaries.insert(node, summary);
    }
}
