//! What must hold, judged from outside the nodes by arithmetic of our own.
//!
//! **Owns** what all nodes of a run have said, over all their lives. **Promises** that each broken invariant is a typed
//! [`Violation`], that the first one is kept, and that nothing is taken from a node but what it told its observer.
//! **Never** trusts a node's own judgement of a quorum, a leader or finality.

mod finality;
mod ledger;
mod votes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_consensus::Summary;
use alys_node::node::NodeEvent;
use alys_types::{Hash, VoteKind};
use serde::{Deserialize, Serialize};

pub use finality::{Final, Finality};
pub use ledger::{Action, Due, Ledger, Receipt, Sent};
pub use votes::Votes;

use crate::plan::WorldPlan;

/// A broken invariant. The word in `invariant` names it in reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "invariant", rename_all = "kebab-case")]
pub enum Violation {
    /// Two blocks are final at one height.
    TwoFinalBlocks { height: u64, first: String, first_node: u8, second: String, second_node: u8 },
    /// A node's finality went back, perhaps over a restart.
    FinalityWentBack { node: u8, from: u64, to: u64 },
    /// A node calls a block final for which no quorum has signed confirmations.
    FinalWithoutQuorum { node: u8, height: u64, hash: String, confirmations: usize, quorum: usize },
    /// A quorum approved a block that cannot descend from one that a quorum had confirmed in an earlier slot.
    CertifiedBesideFinal {
        height: u64,
        confirmed: String,
        confirmed_slot: u64,
        approved: String,
        approved_slot: u64,
    },
    /// An authority signed two blocks with one kind of vote in one slot.
    SignedTwice { node: u8, kind: String, slot: u64, first: String, second: String },
    /// An authority approved or proposed at a slot below one at which it had done so before.
    SignedBackwards { node: u8, kind: String, slot: u64, before: u64 },
    /// An authority confirmed a block below a slot that it had approved.
    ConfirmedBelowApproval { node: u8, slot: u64, approved: u64 },
    /// A node holds its vote state for lost, though no disk was.
    VotesLost { node: u8 },
    /// A node has evidence against an authority that did nothing wrong.
    WronglyAccused { node: u8, signer: u8, slot: u64 },
    /// An authority proposed in a slot of another.
    WrongLeader { node: u8, slot: u64 },
    /// One final block, two results of executing it.
    StateDiffers { node: u8, height: u64, what: String },
    /// After everything healed, a node's finality did not move as far as it must.
    NoProgress { node: u8, reached: u64, needed: u64, within_ms: u64 },
    /// Fewer final blocks than the scenario demands.
    TooFewBlocks { node: u8, reached: u64, needed: u64 },
    /// A node wrote an ERROR line.
    ErrorLine { node: String, line: String },
    /// A process ended by itself.
    ProcessEnded { node: String, reason: String },
    /// An execution client does not know a final block after everything healed.
    ExecutionBehind { node: u8, reached: u64, needed: u64 },
    /// A transaction that was seen in a final block is gone, or is in another one.
    AcknowledgedLost { node: u8, transaction: String, height: u64, found: String },
    /// An account does not hold what the final transactions leave it.
    WrongBalance { node: u8, account: String, height: u64, expected: String, found: String },
    /// An actor that was struck, or the tree that it is in, is not well again in time.
    ActorNotHealed { node: u8, actor: String, fault: String, state: String, health: String, after_ms: u64 },
    /// Long after an actor was struck and made anew, the finality of its node has not gone on, though nothing else is wrong.
    NotFinalAfterFault { node: u8, actor: String, fault: String, reached: u64 },
    /// The program panicked.
    Panicked { message: String },
    /// The run took longer than it may, or did not end in order.
    Hung { what: String },
}

impl Violation {
    /// The word in reports.
    pub fn name(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json["invariant"].as_str().unwrap_or("unknown").to_owned()
    }
}

/// A violation with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Simulated time from the start, in milliseconds.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub violation: Violation,
}

/// All oracles of a run.
#[derive(Debug)]
pub struct Oracles {
    /// Final blocks.
    pub finality: Finality,
    /// Signatures.
    pub votes: Votes,
    /// Transactions.
    pub ledger: Ledger,
    /// The first violation.
    pub found: Option<Found>,
    /// What nodes said, by kind.
    pub heard: BTreeMap<&'static str, u64>,
    /// Where nodes stand, as they last said.
    pub summaries: BTreeMap<u8, Summary>,
}

/// The oracles, shared by all observers of a run.
#[derive(Debug, Clone)]
pub struct Judge(Arc<Mutex<Oracles>>);

impl Judge {
    /// Oracles that have heard nothing.
    pub fn new(plan: &WorldPlan) -> Self {
        Self(Arc::new(Mutex::new(Oracles::new(plan))))
    }

    /// The oracles.
    pub fn look(&self) -> MutexGuard<'_, Oracles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was found outside of the oracles' own checks.
    pub fn accuse(&self, at_ms: u64, violation: Violation) {
        self.look().note(at_ms, Err(violation));
    }

    /// True when there is a violation.
    pub fn is_over(&self) -> bool {
        self.look().found.is_some()
    }
}

impl Oracles {
    /// Oracles that have heard nothing.
    pub fn new(plan: &WorldPlan) -> Self {
        Self {
            finality: Finality::default(),
            votes: Votes::new(plan),
            ledger: Ledger::default(),
            found: None,
            heard: BTreeMap::new(),
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

    /// A node starts a new life.
    pub fn born(&mut self, node: u8) {
        self.votes.pending.remove(&node);
    }

    /// The disk of a node was emptied, or put back to what it was, while its process was down.
    pub fn lost_votes(&mut self, node: u8, is_restored: bool) {
        self.votes.lose(node, is_restored);
        self.finality.forget(node);
    }

    /// A node says something; `node` counts from 0.
    pub fn observe(&mut self, at_ms: u64, node: u8, event: &NodeEvent) {
        if self.votes.is_byzantine(node) && !matches!(event, NodeEvent::Signed { .. }) {
            return;
        }
        let (kind, result) = match event {
            NodeEvent::Signed { target } => {
                let kind = match target.kind {
                    VoteKind::Proposal => "signed.proposal",
                    VoteKind::Approval => "signed.approval",
                    VoteKind::Confirmation => "signed.confirmation",
                };
                (kind, self.votes.signed(node, target))
            }
            NodeEvent::Finalized(block) => {
                self.votes.finalized(at_ms, node, block.height.0, block.hash);
                ("finalized", self.finality.reported(node, block))
            }
            NodeEvent::Proposed { .. } => ("proposed", Ok(())),
            NodeEvent::Head { .. } => ("head", Ok(())),
            NodeEvent::Peers { .. } => ("peers", Ok(())),
            NodeEvent::Evidence { signer, slot } => ("evidence", self.votes.accused(node, *signer, slot.0)),
            NodeEvent::Notice(_) => ("notice", Ok(())),
        };
        *self.heard.entry(kind).or_default() += 1;
        self.note(at_ms, result);
    }

    /// A node says where it stands. `asked` is when it was asked, in milliseconds, and how far its finality was then:
    /// meanwhile it may have gone on.
    pub fn stands(&mut self, at_ms: u64, node: u8, asked: (u64, u64), summary: Summary) {
        if self.votes.is_byzantine(node) {
            return;
        }
        let last = summary.finalized.hash;
        let result = self.finality.stands(node, asked.1, summary.final_height.0, last);
        self.note(at_ms, result);
        let result = self.votes.stands(asked.0, node, last);
        self.note(at_ms, result);
        let result = self.votes.silent(node, summary.votes.silent_until.is_some());
        self.note(at_ms, result);
        self.summaries.insert(node, summary);
    }
}

/// The first bytes of a hash, for people.
pub fn short(hash: &Hash) -> String {
    hash.0.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}
