//! Faults that wait for a vote: they happen inside of the node, between the write of the vote and its leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_node::node::NodeEvent;
use alys_runtime::sim::NodeId;
use alys_runtime::sync::mpsc::{UnboundedSender, unbounded_channel};
use alys_runtime::{spawn, time};
use alys_types::{Hash, VoteKind};

use super::Faults;
use crate::machines::Authority;
use crate::plan::Vote;

/// How long after a signature what a node sends is held back: a vote leaves within a millisecond of being signed.
const HOLD_MS: u64 = 20;

/// What happens when somebody signs.
pub struct Reaction {
    /// Whose votes count.
    pub nodes: BTreeSet<u8>,
    /// Which votes.
    pub vote: Vote,
    /// What follows.
    pub what: React,
}

/// See [`crate::plan::Fault`].
pub enum React {
    /// What the node sends is late.
    Hold { ms: u64 },
    /// The node dies, once.
    Kill { power: bool, down_ms: u64, done: BTreeSet<u8> },
    /// Everybody dies when `count` of them have signed for one block, once.
    KillAll { count: u8, power: bool, down_ms: u64, signed: BTreeMap<Hash, BTreeSet<u8>>, is_done: bool },
}

/// What is to be done about a vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Hold back what the node sends.
    Hold { node: u8, ms: u64 },
    /// Take machines down for so long.
    Fell { machines: Vec<NodeId>, power: bool, down_ms: u64 },
}

impl Act {
    /// For the counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "held-vote",
            Self::Fell { machines, .. } if machines.len() == 1 => "killed-on-vote",
            Self::Fell { .. } => "killed-all-on-votes",
        }
    }

    /// When it is taken back, in milliseconds from now.
    fn lasts_ms(&self) -> u64 {
        match self {
            Self::Hold { .. } => HOLD_MS,
            Self::Fell { down_ms, .. } => *down_ms,
        }
    }
}

impl Reaction {
    /// Somebody has signed.
    pub fn on_vote(&mut self, authorities: &[Authority], node: u8, vote: Vote, hash: Hash) -> Option<Act> {
        if self.vote != vote || !self.nodes.contains(&node) {
            return None;
        }
        match &mut self.what {
            React::Hold { ms } => Some(Act::Hold { node, ms: *ms }),
            React::Kill { power, down_ms, done } => {
                let own = authorities.iter().find(|authority| authority.index == node)?;
                let (power, down_ms) = (*power, *down_ms);
                done.insert(node).then(|| Act::Fell { machines: vec![own.node], power, down_ms })
            }
            React::KillAll { count, power, down_ms, signed, is_done } => {
                let signers = signed.entry(hash).or_default();
                signers.insert(node);
                if *is_done || signers.len() < usize::from(*count) {
                    return None;
                }
                *is_done = true;
                let machines = authorities.iter().flat_map(|a| [a.client, a.node]).collect();
                Some(Act::Fell { machines, power: *power, down_ms: *down_ms })
            }
        }
    }
}

/// What nodes' observers call. It does nothing before it is connected.
#[derive(Clone, Default)]
pub struct Reactions(Arc<Mutex<Option<Connected>>>);

#[derive(Clone)]
struct Connected {
    faults: Faults,
    /// Acts to be taken back, outside of the node that signed: its tasks may be gone by then.
    acts: UnboundedSender<Act>,
}

impl Reactions {
    /// Connects the observers with the faults.
    pub fn connect(&self, faults: &Faults) {
        let (acts, mut receiver) = unbounded_channel::<Act>();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Connected { faults: faults.clone(), acts });
        let faults = faults.clone();
        spawn("reactions", async move {
            while let Some(act) = receiver.recv().await {
                let faults = faults.clone();
                spawn("reaction", async move {
                    time::sleep(Duration::from_millis(act.lasts_ms())).await;
                    faults.act(&act, false);
                });
            }
        });
    }

    /// A node says something, from inside of it.
    pub fn on_event(&self, node: u8, event: &NodeEvent) {
        let NodeEvent::Signed { target } = event else { return };
        let vote = match target.kind {
            VoteKind::Proposal => Vote::Proposal,
            VoteKind::Approval => Vote::Approval,
            VoteKind::Confirmation => Vote::Confirmation,
        };
        let connected = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Connected { faults, acts }) = connected else { return };
        for act in faults.on_vote(node, vote, target.hash) {
            faults.act(&act, true);
            // Without a receiver the run is over.
            let _ = acts.send(act);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorities() -> Vec<Authority> {
        (0..4)
            .map(|index| Authority { index, node: NodeId(10 + u32::from(index)), client: NodeId(20) })
            .collect()
    }

    #[test]
    fn a_node_dies_once_on_its_vote() {
        let what = React::Kill { power: true, down_ms: 7, done: BTreeSet::new() };
        let mut reaction = Reaction { nodes: BTreeSet::from([1, 2]), vote: Vote::Approval, what };
        let mut sign = |node, vote| reaction.on_vote(&authorities(), node, vote, Hash::ZERO);
        assert_eq!(sign(0, Vote::Approval), None, "not named");
        assert_eq!(sign(1, Vote::Proposal), None, "another kind");
        let fell = |machine| Some(Act::Fell { machines: vec![NodeId(machine)], power: true, down_ms: 7 });
        assert_eq!(sign(1, Vote::Approval), fell(11));
        assert_eq!(sign(1, Vote::Approval), None);
        assert_eq!(sign(2, Vote::Approval), fell(12));
    }

    #[test]
    fn everybody_dies_once_when_enough_have_signed_for_one_block() {
        let what =
            React::KillAll { count: 2, power: true, down_ms: 7, signed: BTreeMap::new(), is_done: false };
        let mut reaction = Reaction { nodes: (0..4).collect(), vote: Vote::Confirmation, what };
        let mut sign = |node, mark| {
            let act = reaction.on_vote(&authorities(), node, Vote::Confirmation, Hash([mark; 32]));
            act.map(|act| act.name())
        };
        assert_eq!(sign(0, 1), None);
        assert_eq!(sign(0, 1), None, "sent again");
        assert_eq!(sign(1, 2), None, "another block");
        assert_eq!(sign(2, 1), Some("killed-all-on-votes"));
        assert_eq!(sign(3, 1), None);
    }
}
