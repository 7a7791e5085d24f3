//! Reactions to events of nodes and to writes of their stores. They happen inside of the node:
//! after the write of a vote and before it is sent, or right after the write of a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_node::node::NodeEvent;
use alys_runtime::sim::NodeId;
use alys_runtime::sync::mpsc::{UnboundedSender, unbounded_channel};
use alys_runtime::{spawn, time};
use alys_types::{Hash, VoteKind};

use super::registry::Hit;
use super::votes::Vote;
use super::writes::Record;
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
    /// A node writes this record.
    Write(Record),
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
    /// The node is killed, once, after some writes.
    KillOnWrite {
        /// Writes that pass, by node.
        left: BTreeMap<u8, u64>,
        power: bool,
        roll_back: bool,
        /// The other nodes restart as well.
        peers: bool,
        down_ms: u64,
        done: BTreeSet<u8>,
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
    /// Take a node down for `down_ms` milliseconds, and some of the others.
    Crash {
        node: u8,
        machine: NodeId,
        peers: Vec<NodeId>,
        power: bool,
        /// Restore the disk of the node.
        roll_back: bool,
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
            Self::Crash { .. } => "killed-on-write",
        }
    }

    /// The duration in milliseconds, after which the action is undone.
    fn lasts_ms(&self) -> u64 {
        match self {
            Self::Hold { .. } => HOLD_MS,
            Self::TakeDown { down_ms, .. } | Self::Crash { down_ms, .. } => *down_ms,
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
            React::KillAllNow { .. } | React::KillOnWrite { .. } => None,
        }
    }

    /// Handles the write of a record.
    pub fn on_write(&mut self, authorities: &[Authority], node: u8, record: Record) -> Option<Act> {
        if self.trigger != Trigger::Write(record) {
            return None;
        }
        let React::KillOnWrite {
            left,
            power,
            roll_back,
            peers,
            down_ms,
            done,
        } = &mut self.what
        else {
            return None;
        };
        let left = left.get_mut(&node)?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let own = authorities.iter().find(|one| one.index == node)?;
        let others = authorities.iter().filter(|one| *peers && one.index != node);
        done.insert(node).then(|| Act::Crash {
            node,
            machine: own.node,
            peers: others.map(|one| one.node).collect(),
            power: *power,
            roll_back: *roll_back,
            down_ms: *down_ms,
        })
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
            Act::Crash {
                node,
                machine,
                peers,
                power,
                roll_back,
                ..
            } if on => {
                self.take_down(*machine, *power);
                peers.iter().for_each(|peer| self.take_down(*peer, false));
                if *roll_back {
                    self.roll_back(*node, *machine);
                }
            }
            Act::Crash { machine, peers, .. } => {
                self.bring_up(*machine);
                peers.iter().for_each(|peer| self.bring_up(*peer));
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

impl Connected {
    /// Carries out actions, and queues them to be undone.
    fn carry_out(&self, acts: Vec<Act>) {
        for act in acts {
            self.faults.act(&act, true);
            // A closed channel means that the run is over.
            let _ = self.acts.send(act);
        }
    }
}

impl Reactions {
    /// Connects the observers with the faults.
    pub fn connect(&self, faults: &Faults) {
        let (acts, mut receiver) = unbounded_channel::<Act>();
        *lock(&self.0) = Some(Connected {
            faults: faults.clone(),
            acts,
        });
        let reactions = self.clone();
        let on_mark = move |machine, mark: &'static str| reactions.on_mark(machine, mark);
        faults.world.on_reached(Arc::new(on_mark));
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

    /// Handles a coverage mark of a node, inside of that node.
    fn on_mark(&self, machine: NodeId, mark: &str) {
        let Some(record) = Record::of_mark(mark) else {
            return;
        };
        let Some(connected) = lock(&self.0).clone() else {
            return;
        };
        let faults = &connected.faults;
        let mut authorities = faults.authorities.iter();
        let Some(node) = authorities.find(|one| one.node == machine) else {
            return;
        };
        let node = node.index;
        connected.carry_out(faults.react(|reaction, all| reaction.on_write(all, node, record)));
    }

    /// Handles an event of a node, inside of that node.
    pub fn on_event(&self, node: u8, event: &NodeEvent) {
        if !matches!(event, NodeEvent::Signed { .. } | NodeEvent::Finalized(_)) {
            return;
        }
        let Some(connected) = lock(&self.0).clone() else {
            return;
        };
        let faults = &connected.faults;
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
        connected.carry_out(wanted);
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
    fn a_node_dies_once_after_the_writes_that_pass_and_its_peers_with_it() {
        let what = React::KillOnWrite {
            left: BTreeMap::from([(1, 1), (2, 0)]),
            power: true,
            roll_back: true,
            peers: true,
            down_ms: 7,
            done: BTreeSet::new(),
        };
        let mut reaction = Reaction {
            nodes: BTreeSet::from([1, 2]),
            trigger: Trigger::Write(Record::Votes),
            what,
        };
        let mut write = |node, record| reaction.on_write(&authorities(), node, record);
        assert_eq!(write(0, Record::Votes), None, "not named");
        assert_eq!(write(1, Record::Bodies), None, "another record");
        assert_eq!(write(1, Record::Votes), None, "it passes");
        let crash = |node: u8, peers: [u32; 3]| Act::Crash {
            node,
            machine: NodeId(10 + u32::from(node)),
            peers: peers.map(NodeId).to_vec(),
            power: true,
            roll_back: true,
            down_ms: 7,
        };
        assert_eq!(write(1, Record::Votes), Some(crash(1, [10, 12, 13])));
        assert_eq!(write(1, Record::Votes), None, "once");
        assert_eq!(write(2, Record::Votes), Some(crash(2, [10, 11, 13])));
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
