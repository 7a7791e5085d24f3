//! What must hold, judged from outside the nodes by arithmetic of our own.
//!
//! **Owns** what all nodes of a run have said, over all their lives. **Promises** that each broken invariant is a typed
//! [`Violation`], that the first one is kept, and that nothing is taken from a node but what it told its observer.
//! **Never** trusts a node's own judgement of a quorum, a leader or finality.

mod actors;
mod blocks;
mod clocks;
pub mod coverage;
mod executions;
mod explain;
mod finality;
mod headers;
mod ledger;
mod model;
mod rejoin;
mod votes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_actor_system::Snapshot;
use alys_consensus::Summary;
use alys_node::node::NodeEvent;
use alys_types::wire::{BlockRange, HeaderRange};
use alys_types::{Hash, VoteKind};
use serde::{Deserialize, Serialize};

pub use actors::{Actors, unrested};
pub use blocks::{Blocks, Proposed};
pub use clocks::Clocks;
pub use executions::Clients;
pub use explain::explain;
pub use finality::{Final, Finality};
pub use ledger::{Action, Due, Ledger, Receipt, Sent, Taken};
pub use model::Conformance;
pub use rejoin::{Loss, Rejoin};
pub use votes::Votes;

use crate::events::short;
use crate::params::WorldPlan;

/// A broken invariant. The word in `invariant` names it in reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "invariant", rename_all = "kebab-case")]
pub enum Violation {
    /// Two blocks are final at one height.
    TwoFinalBlocks {
        height: u64,
        first: String,
        first_node: u8,
        second: String,
        second_node: u8,
    },
    /// A node's finality went back, perhaps over a restart.
    FinalityWentBack { node: u8, from: u64, to: u64 },
    /// A node calls a block final for which no quorum has signed confirmations.
    FinalWithoutQuorum {
        node: u8,
        height: u64,
        hash: String,
        confirmations: usize,
        quorum: usize,
    },
    /// A quorum approved a block that cannot descend from one that a quorum had confirmed in an earlier slot.
    CertifiedBesideFinal {
        height: u64,
        confirmed: String,
        confirmed_slot: u64,
        approved: String,
        approved_slot: u64,
    },
    /// An authority signed two blocks with one kind of vote in one slot.
    SignedTwice {
        node: u8,
        kind: String,
        slot: u64,
        first: String,
        second: String,
    },
    /// An authority approved or proposed at a slot below one at which it had done so before.
    SignedBackwards {
        node: u8,
        kind: String,
        slot: u64,
        before: u64,
    },
    /// An authority confirmed a block below a slot that it had approved.
    ConfirmedBelowApproval { node: u8, slot: u64, approved: u64 },
    /// An authority approved a block whose parent is below the block that it had confirmed.
    ApprovedBelowLock {
        node: u8,
        slot: u64,
        parent_slot: u64,
        locked: u64,
    },
    /// An authority signed a proposal or an approval before the slot had come by its own clock.
    ApprovedOutOfSlot { node: u8, slot: u64, early_ms: u64 },
    /// An authority signed by a clock that had jumped, and that nobody had confirmed.
    VotedByJumpedClock { node: u8, slot: u64, by_ms: i64 },
    /// An authority approved a block that its own execution client has not executed.
    ApprovedUnexecuted { node: u8, height: u64, slot: u64 },
    /// An authority approved a block that breaks a rule of the protocol, or calls one final.
    ApprovedInvalid {
        node: u8,
        slot: u64,
        hash: String,
        what: String,
    },
    /// A node builds on a block, or calls it certified, that no quorum has approved.
    CertifiedWithoutQuorum {
        node: u8,
        slot: u64,
        hash: String,
        approvals: usize,
        quorum: usize,
    },
    /// The time of a block is not that of its slot.
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
    /// A node shut out another that does nothing wrong.
    HonestPeerBanned { node: u8, banned: u8 },
    /// A node answered a question for headers or blocks with something else.
    WrongHeaders { node: u8, height: u64, why: String },
    /// A node served more of one peer's questions than any protocol's rate allows.
    ServedTooMuch { node: u8, served: u64, allowed: u64 },
    /// A node signed what the model's rule forbids after what it signed before, or does not remember what it signed.
    NotATransition { node: u8, what: String, why: String },
    /// A node holds its vote state for lost, though no disk was.
    VotesLost { node: u8 },
    /// An authority that has lost its votes signed before a block of a slot after `until` was final to it; none: before it
    /// had noticed that its disk is empty.
    VotedWhileSilent {
        node: u8,
        kind: String,
        slot: u64,
        final_slot: u64,
        until: Option<u64>,
    },
    /// An authority that has lost its votes holds itself for fit to vote again before such a block was final to it.
    RejoinedEarly {
        node: u8,
        final_slot: u64,
        until: u64,
    },
    /// Fewer authorities noticed that their votes are lost than the scenario demands.
    LossUnnoticed { noticed: u64, needed: u64 },
    /// A node has evidence against an authority that did nothing wrong.
    WronglyAccused { node: u8, signer: u8, slot: u64 },
    /// An authority proposed in a slot of another.
    WrongLeader { node: u8, slot: u64 },
    /// One final block, two results of executing it.
    StateDiffers { node: u8, height: u64, what: String },
    /// After everything healed, a node's finality did not move as far as it must.
    NoProgress {
        node: u8,
        reached: u64,
        needed: u64,
        within_ms: u64,
    },
    /// Fewer final blocks than the scenario demands.
    TooFewBlocks { node: u8, reached: u64, needed: u64 },
    /// A node wrote an ERROR line.
    ErrorLine { node: String, line: String },
    /// A process ended by itself.
    ProcessEnded { node: String, reason: String },
    /// An execution client does not know a final block after everything healed.
    ExecutionBehind { node: u8, reached: u64, needed: u64 },
    /// A transaction that was seen in a final block is gone, or is in another one.
    AcknowledgedLost {
        node: u8,
        transaction: String,
        height: u64,
        found: String,
    },
    /// A transaction that every client refused, or that can never be valid, is in a final block.
    RefusedIsFinal {
        node: u8,
        transaction: String,
        height: u64,
        why: String,
    },
    /// An execution client took a transaction that it must refuse, or answered with another's hash.
    WronglyTaken {
        node: u8,
        transaction: String,
        why: String,
    },
    /// An account does not hold what the final transactions leave it.
    WrongBalance {
        node: u8,
        account: String,
        height: u64,
        expected: String,
        found: String,
    },
    /// An actor that was struck, or the tree that it is in, is not well again in time.
    ActorNotHealed {
        node: u8,
        actor: String,
        fault: String,
        state: String,
        health: String,
        after_ms: u64,
    },
    /// Long after an actor was struck and made anew, the finality of its node has not gone on, though nothing else is wrong.
    NotFinalAfterFault {
        node: u8,
        actor: String,
        fault: String,
        reached: u64,
    },
    /// The run did something that nothing inside of a simulation may do, see [`crate::run::sandbox`].
    Escaped { what: String },
    /// A message that a mailbox had taken is nowhere.
    MessageLost {
        node: u8,
        actor: String,
        messages: i64,
    },
    /// More waits in a mailbox than it may hold.
    QueueOverrun {
        node: u8,
        actor: String,
        depth: u64,
        capacity: u64,
    },
    /// After everything healed and users stopped, an actor's queue was not empty once, or a message that it took is nowhere.
    NeverAtRest {
        node: u8,
        actor: String,
        depth: u64,
        unaccounted: i64,
        after_ms: u64,
    },
    /// The process of a run held more memory than any run has reason to.
    MemoryUnbounded { mib: u64, limit_mib: u64 },
    /// A message overtook another of the same sender.
    OrderBroken {
        actor: String,
        sender: u8,
        number: u64,
        after: u64,
    },
    /// A question was not over when it had to be.
    AskLate {
        what: String,
        after_ms: u64,
        limit_ms: u64,
    },
    /// A part of a dead incarnation of an actor goes on beside the living one.
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
    /// A supervisor gave up before its policy is used up.
    GaveUpEarly {
        supervisor: String,
        percent_of_policy: u64,
    },
    /// After everything healed, no block of this authority became final for rounds.
    SilentLeader { node: u8, within_ms: u64 },
    /// A fresh execution client comes to another state by the final chain.
    ReplayDiffers { height: u64, what: String },
    /// At rest, a node and its execution client are at different heads.
    HeadsDiffer {
        node: u8,
        consensus: String,
        execution: String,
    },
    /// The canary: always.
    Canary,
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
    /// Blocks that were proposed.
    pub blocks: Blocks,
    /// Clocks of nodes.
    pub clocks: Clocks,
    /// Supervision trees of nodes.
    pub actors: Actors,
    /// What nodes last told their execution clients to be the head.
    pub heads: BTreeMap<u8, Hash>,
    /// The libp2p identities of authorities that do nothing wrong.
    pub honest: BTreeMap<String, u8>,
    /// The same, against the model.
    pub model: Conformance,
    /// Authorities without their votes.
    pub rejoin: Rejoin,
    /// Transactions.
    pub ledger: Ledger,
    /// The first violation.
    pub found: Option<Found>,
    /// What nodes said, by kind.
    pub heard: BTreeMap<&'static str, u64>,
    /// Nodes that are not judged: their disks lied to them, or were put back to what they were, so that they may have
    /// forgotten what they did. Those that have lost their votes, know it, and have waited until they may vote, are
    /// judged again.
    pub distrusted: BTreeSet<u8>,
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
            blocks: Blocks::new(plan),
            clocks: Clocks::new(plan),
            actors: Actors::default(),
            heads: BTreeMap::new(),
            honest: BTreeMap::new(),
            model: Conformance::new(plan),
            rejoin: Rejoin::default(),
            ledger: Ledger::default(),
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

    /// A node starts a new life.
    pub fn born(&mut self, node: u8) {
        if self.votes.is_byzantine(node) {
            return;
        }
        self.votes.pending.remove(&node);
        self.clocks.born(node);
        self.actors.born(node);
    }

    /// What this node says of itself is not judged from now on, and its votes may be any.
    pub fn distrust(&mut self, node: u8) {
        self.rejoin.forget(node);
        if self.distrusted.insert(node) {
            self.votes.distrust(node);
            self.model.distrust(node);
        }
    }

    /// Those who may have to be silent for a part of the run, by what was done to their disks.
    pub fn mute(&self) -> BTreeSet<u8> {
        self.votes
            .lost()
            .into_iter()
            .chain(self.distrusted.iter().copied())
            .collect()
    }

    /// The disk of a node was put back to what it was, while its process was down.
    pub fn put_back(&mut self, node: u8) {
        let lies = self.distrusted.contains(&node) && !self.rejoin.is_without(node);
        self.distrust(node);
        if !lies {
            self.rejoin.lose(node, Loss::PutBack);
        }
    }

    /// A new disk, an empty one, is in the place of one that had lied to a node, and this one does not.
    pub fn disk_replaced(&mut self, node: u8) {
        if self.distrusted.contains(&node) {
            self.rejoin.lose(node, Loss::Emptied);
        }
    }

    /// The disk of a node was emptied while its process was down. What it signs is held against what it signed before.
    pub fn lost_votes(&mut self, node: u8) {
        if !self.distrusted.contains(&node) {
            self.rejoin.lose(node, Loss::Emptied);
        }
        self.votes.lose(node);
        self.model.distrust(node);
        self.finality.forget(node);
    }

    /// A node says something; `node` counts from 0.
    pub fn observe(&mut self, at_ms: u64, node: u8, event: &NodeEvent) {
        if self.votes.is_byzantine(node) {
            self.observe_byzantine(at_ms, node, event);
            return;
        }
        let (kind, result) = match event {
            NodeEvent::Signed { target } => {
                let kind = match target.kind {
                    VoteKind::Proposal => "signed.proposal",
                    VoteKind::Approval => "signed.approval",
                    VoteKind::Confirmation => "signed.confirmation",
                };
                // A confirmation is of a block that is certified.
                let of_certified = match target.kind {
                    VoteKind::Confirmation => {
                        self.votes.certified(node, target.slot.0, target.hash)
                    }
                    VoteKind::Proposal => Ok(()),
                    VoteKind::Approval => self.blocks.approved(node, &target.hash),
                };
                if !self.votes.has_signed(node, target.kind, target.slot.0) {
                    let result = self
                        .rejoin
                        .signed(node, target, self.finality.slot_of(node));
                    self.note(at_ms, result);
                }
                // The sharper word comes first where several oracles object.
                let signed = self.votes.signed(node, target, &self.blocks);
                (
                    kind,
                    signed
                        .and(of_certified)
                        .and(self.model.signed(at_ms, node, target)),
                )
            }
            NodeEvent::VotesFor { block, parent } => {
                ("votes-for", self.model.votes_for(node, *block, *parent))
            }
            NodeEvent::Finalized(block) => {
                self.votes
                    .finalized(at_ms, node, block.height.0, block.hash);
                let result = self.finality.reported(node, block);
                (
                    "finalized",
                    result.and(self.blocks.approved(node, &block.hash)),
                )
            }
            NodeEvent::Proposed { hash, block, .. } => {
                let result = self.blocks.proposed(at_ms, node, *hash, block);
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
                    self.votes.certified(node, slot.0, *hash)
                } else {
                    Ok(())
                };
                ("head", certified.and(self.head(node, height.0, *hash)))
            }
            NodeEvent::Banned { peer } => {
                let banned = self.honest.get(peer).map(|banned| banned + 1);
                let result = banned.map(|banned| Violation::HonestPeerBanned {
                    node: node + 1,
                    banned,
                });
                ("banned", result.map_or(Ok(()), Err))
            }
            NodeEvent::Peers { .. } => ("peers", Ok(())),
            NodeEvent::Evidence { signer, slot } => {
                ("evidence", self.votes.accused(node, *signer, slot.0))
            }
            NodeEvent::Notice(_) => ("notice", Ok(())),
        };
        *self.heard.entry(kind).or_default() += 1;
        if !self.distrusted.contains(&node) {
            self.note(at_ms, result);
        }
    }

    /// A node that keeps to no rule says something: its signatures count, and its blocks may become final.
    fn observe_byzantine(&mut self, at_ms: u64, node: u8, event: &NodeEvent) {
        match event {
            NodeEvent::Signed { target } => {
                let result = self.votes.signed(node, target, &self.blocks);
                self.note(at_ms, result);
            }
            NodeEvent::Proposed { hash, block, .. } => {
                // Whatever is wrong with it, correct nodes judge.
                let _ = self.blocks.proposed(at_ms, node, *hash, block);
            }
            _ => {}
        }
    }

    fn head(&self, node: u8, height: u64, hash: Hash) -> Result<(), Violation> {
        let last = self.finality.of(node);
        match self.finality.blocks.get(&last) {
            Some(block) => self.blocks.head(node, (height, hash), (last, block.hash)),
            None => Ok(()),
        }
    }

    /// A node answered a question for headers, as (first height, count); `None`: with something that is none. Returns the
    /// height of the last one that is good.
    pub fn headers(
        &mut self,
        at_ms: u64,
        node: u8,
        asked: (u64, u64),
        range: Option<&HeaderRange>,
    ) -> u64 {
        *self.heard.entry("headers").or_default() +=
            range.map_or(0, |range| range.headers.len() as u64);
        if self.distrusted.contains(&node) {
            return 0;
        }
        let result = headers::answered(node, asked, range, &self.votes, &self.finality);
        let last = result.as_ref().copied().unwrap_or(0);
        self.note(at_ms, result.map(|_| ()));
        last
    }

    /// A node answered a question for blocks. Whatever its disk went through: what it passes on is right, or it passes
    /// nothing on.
    pub fn answered_blocks(
        &mut self,
        at_ms: u64,
        node: u8,
        asked: (u64, u64),
        range: Option<&BlockRange>,
    ) {
        *self.heard.entry("blocks").or_default() +=
            range.map_or(0, |range| range.blocks.len() as u64);
        let result = headers::answered_blocks(node, asked, range, &self.votes, &self.finality);
        self.note(at_ms, result);
    }

    /// What a node's clock shows at a true time, both in milliseconds since the epoch. To be told before what the node
    /// says at that moment.
    pub fn clock(
        &mut self,
        at_ms: u64,
        node: u8,
        wall_ms: u64,
        true_ms: u64,
        event: Option<&NodeEvent>,
    ) {
        if self.votes.is_byzantine(node) {
            return;
        }
        self.clocks.look(at_ms, node, wall_ms, true_ms);
        let Some(NodeEvent::Signed { target }) = event else {
            return;
        };
        if self.distrusted.contains(&node) {
            return;
        }
        let slot = target.slot.0;
        if target.kind == VoteKind::Confirmation || self.votes.has_signed(node, target.kind, slot) {
            return;
        }
        let needed = self.votes.quorum().saturating_sub(1);
        let votes = &self.votes;
        let others = |slot| {
            votes
                .signers_in(slot)
                .filter(|other| *other != node)
                .collect()
        };
        let result = self
            .clocks
            .signs(at_ms, (node, slot), wall_ms, needed, others);
        self.note(at_ms, result);
    }

    /// A node approves a block of another: its own execution client must have executed it. To be told before
    /// [`observe`](Self::observe).
    pub fn executed(&mut self, at_ms: u64, node: u8, event: &NodeEvent, clients: &Clients) {
        if self.votes.is_byzantine(node) {
            return;
        }
        let NodeEvent::Signed { target } = event else {
            return;
        };
        if self.distrusted.contains(&node) {
            return;
        }
        let is_new = target.kind == VoteKind::Approval
            && !self.votes.has_signed(node, target.kind, target.slot.0);
        let Some(proposed) = self.blocks.get(&target.hash).filter(|_| is_new) else {
            return;
        };
        let header = &proposed.block.header;
        // A leader approves what its client has just built.
        if header.proposer != node
            && clients.cannot_have_executed(node, header.execution_hash.into(), proposed.at_ms)
        {
            let (height, slot) = (header.height.0, header.slot.0);
            self.note(
                at_ms,
                Err(Violation::ApprovedUnexecuted {
                    node: node + 1,
                    height,
                    slot,
                }),
            );
        }
    }

    /// What a node's supervision tree looks like.
    pub fn tree(&mut self, at_ms: u64, node: u8, tree: &Snapshot) {
        if self.votes.is_byzantine(node) {
            return;
        }
        let result = self.actors.look(at_ms, node, tree);
        self.note(at_ms, result);
    }

    /// A node says where it stands. `asked` is when it was asked, in milliseconds, and how far its finality was then:
    /// meanwhile it may have gone on.
    pub fn stands(&mut self, at_ms: u64, node: u8, asked: (u64, u64), summary: Summary) {
        if self.votes.is_byzantine(node) {
            return;
        }
        let (until, final_slot) = (
            summary.votes.silent_until.map(|slot| slot.0),
            summary.finalized.slot.0,
        );
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
        let last = summary.finalized.hash;
        let result = self
            .finality
            .stands(node, asked.1, summary.final_height.0, last);
        self.note(at_ms, result);
        let result = self.votes.stands(asked.0, node, last);
        self.note(at_ms, result);
        if summary.highest_height.0 > 0 {
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
