//! The quality and the blocks of all links, as the active faults define them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use alys_runtime::sim::{Block, Link, World};

use super::network::Way;
use crate::cluster::{Net, machine_ip, node_ip};
use crate::params::{LinkPlan, MachineRole};

/// All links of a world. Effects are counted or kept for each fault, because faults overlap.
pub struct Links {
    world: World,
    nodes: u8,
    /// The quality without faults.
    base: LinkPlan,
    /// Numbers of faults that cut and that clog each direction.
    blocks: BTreeMap<(IpAddr, IpAddr), (u32, u32)>,
    /// Qualities that faults impose on the links of a node.
    slow: BTreeMap<u8, Vec<LinkPlan>>,
    /// Milliseconds by which faults delay the messages that a node sends.
    held: BTreeMap<u8, Vec<u64>>,
    /// Milliseconds that faults add to the latency between a node and a machine beside it.
    slow_local: BTreeMap<(u8, MachineRole), u64>,
    /// Number of miners.
    miners: u8,
    /// Qualities that faults impose on the links between a node and the miners.
    slow_miners: BTreeMap<u8, Vec<LinkPlan>>,
}

impl Links {
    /// Creates the links without faults.
    pub fn new(world: World, nodes: u8, miners: u8, base: LinkPlan) -> Self {
        let links = Self {
            world,
            nodes,
            base,
            blocks: BTreeMap::new(),
            slow: BTreeMap::new(),
            held: BTreeMap::new(),
            slow_local: BTreeMap::new(),
            miners,
            slow_miners: BTreeMap::new(),
        };
        links.set_all();
        links
    }

    /// Removes the effects of all faults.
    pub fn heal(&mut self) {
        self.blocks.clear();
        self.slow.clear();
        self.held.clear();
        self.slow_local.clear();
        self.slow_miners.clear();
        self.world.heal_all();
        self.set_all();
    }

    /// Blocks messages between the named nodes and the other nodes, or unblocks them.
    pub fn partition(&mut self, nodes: &BTreeSet<u8>, way: Way, kind: Block, on: bool) {
        for inside in nodes {
            for outside in (0..self.nodes).filter(|other| !nodes.contains(other)) {
                let inside = node_ip(*inside);
                let outside = node_ip(outside);
                if way != Way::In {
                    self.block((inside, outside), kind, on);
                }
                if way != Way::Out {
                    self.block((outside, inside), kind, on);
                }
            }
        }
    }

    /// Clogs the links between the named nodes and all other nodes, or releases them.
    pub fn clog(&mut self, nodes: &BTreeSet<u8>, way: Way, on: bool) {
        for inside in nodes {
            for other in (0..self.nodes).filter(|other| other != inside) {
                let inside = node_ip(*inside);
                let other = node_ip(other);
                if way != Way::In {
                    self.block((inside, other), Block::Clog, on);
                }
                if way != Way::Out {
                    self.block((other, inside), Block::Clog, on);
                }
            }
        }
    }

    /// Cuts the link between two machines, or reconnects them.
    pub fn cut_pair(&mut self, a: IpAddr, b: IpAddr, on: bool) {
        self.block((a, b), Block::Cut, on);
        self.block((b, a), Block::Cut, on);
    }

    /// Cuts the link between a node and its authority's machine of this role, or reconnects them.
    pub fn cut_local(&mut self, node: u8, role: MachineRole, on: bool) {
        self.cut_pair(node_ip(node), machine_ip(node, role), on);
    }

    /// Cuts the links between a node and all miners, or reconnects them.
    pub fn cut_miners(&mut self, node: u8, on: bool) {
        for miner in 0..self.miners {
            self.cut_pair(node_ip(node), Net::Miners.ip(miner), on);
        }
    }

    /// Imposes this quality on the links between a node and all miners where it is worse than
    /// theirs, or removes it.
    pub fn slow_miners(&mut self, node: u8, quality: &LinkPlan, on: bool) {
        change(self.slow_miners.entry(node).or_default(), quality, on);
        self.set(node);
    }

    fn block(&mut self, way: (IpAddr, IpAddr), kind: Block, on: bool) {
        let (cuts, clogs) = self.blocks.entry(way).or_default();
        let count = if kind == Block::Cut {
            &mut *cuts
        } else {
            &mut *clogs
        };
        *count = if on {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        match (*cuts, *clogs) {
            (0, 0) => self.world.heal(way.0, way.1),
            (0, _) => self.world.block(way.0, way.1, Block::Clog),
            _ => self.world.block(way.0, way.1, Block::Cut),
        }
    }

    /// Imposes this quality on all links of a node where it is worse than theirs, or removes it.
    pub fn slow(&mut self, node: u8, quality: &LinkPlan, on: bool) {
        change(self.slow.entry(node).or_default(), quality, on);
        self.set(node);
    }

    /// Delays the messages that the node sends from now on; messages in flight are not affected.
    pub fn hold(&mut self, node: u8, ms: u64, on: bool) {
        change(self.held.entry(node).or_default(), &ms, on);
        self.set(node);
    }

    /// Adds latency between a node and its authority's machine of this role, or removes it.
    pub fn slow_local(&mut self, node: u8, role: MachineRole, ms: u64, on: bool) {
        let slow = self.slow_local.entry((node, role)).or_default();
        *slow = if on {
            *slow + ms
        } else {
            slow.saturating_sub(ms)
        };
        self.set(node);
    }

    fn set_all(&self) {
        (0..self.nodes).for_each(|node| self.set(node));
    }

    fn set(&self, node: u8) {
        for other in (0..self.nodes).filter(|other| *other != node) {
            let worst = [node, other]
                .iter()
                .flat_map(|end| self.slow.get(end).into_iter().flatten())
                .fold(self.base.clone(), |a, b| worse(&a, b));
            for (from, to) in [(node, other), (other, node)] {
                let held = self
                    .held
                    .get(&from)
                    .and_then(|held| held.iter().max().copied())
                    .unwrap_or(0);
                let quality = LinkPlan {
                    latency_ms: worst.latency_ms + held,
                    ..worst.clone()
                };
                self.world
                    .set_link(node_ip(from), node_ip(to), link(&quality));
            }
        }
        let slow = self.slow_miners.get(&node).into_iter().flatten();
        let of_miners = slow.fold(self.base.clone(), |a, b| worse(&a, b));
        for miner in 0..self.miners {
            let miner = Net::Miners.ip(miner);
            self.world.set_link(node_ip(node), miner, link(&of_miners));
            self.world.set_link(miner, node_ip(node), link(&of_miners));
        }
        for role in MachineRole::beside_node() {
            let slower_by_ms = self.slow_local.get(&(node, role)).copied().unwrap_or(0);
            let local = local_link(slower_by_ms);
            let machine = machine_ip(node, role);
            self.world.set_link(node_ip(node), machine, local.clone());
            self.world.set_link(machine, node_ip(node), local);
        }
    }
}

/// Adds `one` to the list, or removes one occurrence of it.
fn change<T: PartialEq + Clone>(all: &mut Vec<T>, one: &T, on: bool) {
    match all.iter().position(|other| other == one) {
        Some(at) if !on => drop(all.remove(at)),
        _ if on => all.push(one.clone()),
        _ => {}
    }
}

/// Converts a plan's quality to the runtime's.
pub fn link(plan: &LinkPlan) -> Link {
    Link {
        latency: Duration::from_millis(plan.latency_ms),
        jitter: Duration::from_millis(plan.jitter_ms),
        tail_ppm: plan.tail_ppm,
        tail: Duration::from_millis(plan.tail_ms),
        loss_ppm: plan.loss_ppm,
        bytes_per_second: plan.kbytes_per_s * 1_000,
        ..Link::default()
    }
}

/// The link between two machines of an authority, which are in the same rack.
fn local_link(slower_by_ms: u64) -> Link {
    Link {
        latency: Duration::from_micros(200) + Duration::from_millis(slower_by_ms),
        jitter: Duration::from_micros(300),
        tail_ppm: 0,
        bytes_per_second: 0,
        ..Link::default()
    }
}

fn worse(a: &LinkPlan, b: &LinkPlan) -> LinkPlan {
    let least = |a: u64, b: u64| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
    LinkPlan {
        latency_ms: a.latency_ms.max(b.latency_ms),
        jitter_ms: a.jitter_ms.max(b.jitter_ms),
        tail_ppm: a.tail_ppm.max(b.tail_ppm),
        tail_ms: a.tail_ms.max(b.tail_ms),
        loss_ppm: a.loss_ppm.max(b.loss_ppm),
        kbytes_per_s: least(a.kbytes_per_s, b.kbytes_per_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_qualities_the_worse_of_each_counts() {
        let a = LinkPlan {
            latency_ms: 1,
            jitter_ms: 9,
            tail_ms: 80,
            ..LinkPlan::PERFECT
        };
        let b = LinkPlan {
            latency_ms: 5,
            jitter_ms: 2,
            loss_ppm: 7,
            kbytes_per_s: 50,
            ..LinkPlan::PERFECT
        };
        let both = LinkPlan {
            jitter_ms: 9,
            tail_ms: 80,
            ..b.clone()
        };
        assert_eq!(worse(&a, &b), both);
        assert_eq!(
            worse(
                &b,
                &LinkPlan {
                    kbytes_per_s: 10,
                    ..a
                }
            )
            .kbytes_per_s,
            10
        );
    }

    #[test]
    fn the_same_twice_is_taken_away_twice() {
        let mut all = Vec::new();
        change(&mut all, &5, true);
        change(&mut all, &5, true);
        change(&mut all, &5, false);
        assert_eq!(all, [5]);
        change(&mut all, &6, false);
        change(&mut all, &5, false);
        assert!(all.is_empty());
    }
}
