//! Reactions to events of nodes. They happen inside of the node, after the write of a vote and
//! before it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_node::node::NodeEvent;
use alys_runtime::sim::NodeId;
use alys_runtime::sync::mpsc::{UnboundedSender, unbounded_channel};
use alys_runtime::{spawn, time};
use alys_types::{Hash, VoteKind};

use super::registry::Hit;
use super::votes::Vote;
use super::{Faults, lock};
use crate::cluster::Authority;

/// Time after a signature during which the node's messages are delayed. A vote is sent within a
/// millisecond of its signature.
const HOLD_MS: u64 = 20;

/// The event that a reaction waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A node signs a vote of this kind.
    Vote(Vote),
    /// A block of this height or above becomes final on a node.
    Final(u64),
}

/// An effect that follows when nodes sign votes or blocks become final.
pub struct Reaction {
    /// The nodes whose events count.
    pub nodes: BTreeSet<u8>,
    /// The events that count.
    pub trigger: Trigger,
    /// The effect.
    pub what: React,
}

/// The effect of a reaction.
pub enum React {
    /// The node's messages are delayed.
    Hold { ms: u64 },
    /// The node is killed, once.
    Kill {
        power: bool,
        down_ms: u64,
        done: BTreeSet<u8>,
    },
    /// All machines are taken down, once, when `count` nodes have signed for one block.
    KillAll {
        count: u8,
        power: bool,
        down_ms: u64,
        signed: BTreeMap<Hash, BTreeSet<u8>>,
        is_done: bool,
    },
    /// All machines are taken down, once.
    KillAllNow {
        power: bool,
        down_ms: u64,
        is_done: bool,
    },
}

/// An action that a reaction requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Delay the messages that the node sends.
    Hold { node: u8, ms: u64 },
    /// Take the machines down for `down_ms` milliseconds.
    TakeDown {
        machines: Vec<NodeId>,
        power: bool,
        down_ms: u64,
    },
}

impl Act {
    /// The name of the counter.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "held-vote",
            Self::TakeDown { machines, .. } if machines.len() == 1 => "killed-on-vote",
            Self::TakeDown { .. } => "killed-all-on-votes",
        }
    }

    /// The duration in milliseconds, after which the action is undone.
    fn lasts_ms(&self) -> u64 {
        match self {
            Self::Hold { .. } => HOLD_MS,
            Self::TakeDown { down_ms, .. } => *down_ms,
        }
    }
}

impl Reaction {
    /// Handles a signed vote.
    pub fn on_vote(
        &mut self,
        authorities: &[Authority],
        node: u8,
        vote: Vote,
        hash: Hash,
    ) -> Option<Act> {
        if self.trigger != Trigger::Vote(vote) || !self.nodes.contains(&node) {
            return None;
        }
        match &mut self.what {
            React::Hold { ms } => Some(Act::Hold { node, ms: *ms }),
            React::Kill {
                power,
                down_ms,
                done,
            } => {
                let own = authorities
                    .iter()
                    .find(|authority| authority.index == node)?;
                let power = *power;
                let down_ms = *down_ms;
                done.insert(node).then(|| Act::TakeDown {
                    machines: vec![own.node],
                    power,
                    down_ms,
                })
            }
            React::KillAll {
                count,
                power,
                down_ms,
                signed,
                is_done,
            } => {
                let signers = signed.entry(hash).or_default();
                signers.insert(node);
                if *is_done || signers.len() < usize::from(*count) {
                    return None;
                }
                *is_done = true;
                let machines = authorities.iter().flat_map(Authority::machines).collect();
                Some(Act::TakeDown {
                    machines,
                    power: *power,
                    down_ms: *down_ms,
                })
            }
            React::KillAllNow { .. } => None,
        }
    }

    /// Handles a block that became final on a node.
    pub fn on_final(&mut self, authorities: &[Authority], node: u8, height: u64) -> Option<Act> {
        let Trigger::Final(wanted) = self.trigger else {
            return None;
        };
        let React::KillAllNow {
            power,
            down_ms,
            is_done,
        } = &mut self.what
        else {
            return None;
        };
        if *is_done || height < wanted || !self.nodes.contains(&node) {
            return None;
        }
        *is_done = true;
        let machines = authorities.iter().flat_map(Authority::machines).collect();
        Some(Act::TakeDown {
            machines,
            power: *power,
            down_ms: *down_ms,
        })
    }
}

impl Faults {
    /// Adds a reaction that lasts as long as its step.
    pub(super) fn react_to(&self, hit: &Hit, trigger: Trigger, what: React) {
        let reaction = Reaction {
            nodes: hit.nodes.clone(),
            trigger,
            what,
        };
        lock(&self.reactions).insert(hit.number, reaction);
    }

    /// Removes the reaction of a step that ends.
    pub(super) fn forget_reaction(&self, hit: &Hit) {
        lock(&self.reactions).remove(&hit.number);
    }

    /// Collects and counts the actions that all reactions require after an event.
    fn react(&self, of: impl Fn(&mut Reaction, &[Authority]) -> Option<Act>) -> Vec<Act> {
        let mut reactions = lock(&self.reactions);
        let acts = reactions
            .values_mut()
            .filter_map(|one| of(one, &self.authorities));
        let acts: Vec<Act> = acts.collect();
        for act in &acts {
            self.count(act.name());
        }
        acts
    }

    /// Executes an action (`on`), or undoes it.
    fn act(&self, act: &Act, on: bool) {
        match act {
            Act::Hold { node, ms } => {
                if !self.is_healed() {
                    self.links().hold(*node, *ms, on);
                }
            }
            Act::TakeDown {
                machines, power, ..
            } => {
                for machine in machines {
                    if on {
                        self.take_down(*machine, *power);
                    } else {
                        self.bring_up(*machine);
                    }
                }
            }
        }
    }
}

/// The entry point of the nodes' observers. It does nothing before it is connected.
#[derive(Clone, Default)]
pub struct Reactions(Arc<Mutex<Option<Connected>>>);

#[derive(Clone)]
struct Connected {
    faults: Faults,
    /// Actions to be undone later, outside of the node that signed, whose tasks may have ended by
    /// then.
    acts: UnboundedSender<Act>,
}

impl Reactions {
    /// Connects the observers with the faults.
    pub fn connect(&self, faults: &Faults) {
        let (acts, mut receiver) = unbounded_channel::<Act>();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Connected {
            faults: faults.clone(),
            acts,
        });
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

    /// Handles an event of a node, inside of that node.
    pub fn on_event(&self, node: u8, event: &NodeEvent) {
        if !matches!(event, NodeEvent::Signed { .. } | NodeEvent::Finalized(_)) {
            return;
        }
        let connected = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(Connected { faults, acts }) = connected else {
            return;
        };
        let wanted = match event {
            NodeEvent::Signed { target } => {
                let vote = match target.kind {
                    VoteKind::Proposal => Vote::Proposal,
                    VoteKind::Approval => Vote::Approval,
                    VoteKind::Confirmation => Vote::Confirmation,
                };
                faults.react(|reaction, all| reaction.on_vote(all, node, vote, target.hash))
            }
            NodeEvent::Finalized(block) => {
                faults.react(|reaction, all| reaction.on_final(all, node, block.height.0))
            }
            _ => Vec::new(),
        };
        for act in wanted {
            faults.act(&act, true);
            // A closed channel means that the run is over.
            let _ = acts.send(act);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorities() -> Vec<Authority> {
        (0..4)
            .map(|index| Authority {
                index,
                node: NodeId(10 + u32::from(index)),
                execution: NodeId(20),
            })
            .collect()
    }

    #[test]
    fn a_node_dies_once_on_its_vote() {
        let what = React::Kill {
            power: true,
            down_ms: 7,
            done: BTreeSet::new(),
        };
        let mut reaction = Reaction {
            nodes: BTreeSet::from([1, 2]),
            trigger: Trigger::Vote(Vote::Approval),
            what,
        };
        let mut sign = |node, vote| reaction.on_vote(&authorities(), node, vote, Hash::ZERO);
        assert_eq!(sign(0, Vote::Approval), None, "not named");
        assert_eq!(sign(1, Vote::Proposal), None, "another kind");
        let fell = |machine| {
            Some(Act::TakeDown {
                machines: vec![NodeId(machine)],
                power: true,
                down_ms: 7,
            })
        };
        assert_eq!(sign(1, Vote::Approval), fell(11));
        assert_eq!(sign(1, Vote::Approval), None);
        assert_eq!(sign(2, Vote::Approval), fell(12));
    }

    #[test]
    fn everybody_dies_once_when_enough_have_signed_for_one_block() {
        let what = React::KillAll {
            count: 2,
            power: true,
            down_ms: 7,
            signed: BTreeMap::new(),
            is_done: false,
        };
        let mut reaction = Reaction {
            nodes: (0..4).collect(),
            trigger: Trigger::Vote(Vote::Confirmation),
            what,
        };
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

    #[test]
    fn everybody_dies_once_when_a_height_is_final_anywhere() {
        let what = React::KillAllNow {
            power: true,
            down_ms: 7,
            is_done: false,
        };
        let mut reaction = Reaction {
            nodes: (0..3).collect(),
            trigger: Trigger::Final(5),
            what,
        };
        assert_eq!(
            reaction.on_vote(&authorities(), 0, Vote::Approval, Hash::ZERO),
            None
        );
        assert_eq!(reaction.on_final(&authorities(), 0, 4), None, "too low");
        assert_eq!(reaction.on_final(&authorities(), 3, 5), None, "not named");
        let act = reaction.on_final(&authorities(), 2, 6);
        assert!(
            matches!(act, Some(Act::TakeDown { machines, .. }) if machines.len() == 8),
            "heights are skipped"
        );
        assert_eq!(reaction.on_final(&authorities(), 1, 6), None, "once");
    }
}
