//! Carrying out the faults of a plan, and taking them back.
//!
//! Faults overlap, so what they do to a link or a machine is counted: a link works again when the last fault that blocks it
//! is over, a machine starts again when the last one that holds it down is. No disk is ever lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_node::node::NodeEvent;
use alys_runtime::sim::{Block, Link, NodeId, Rng, Slowness, World};
use alys_runtime::{spawn, time};
use alys_types::{Hash, VoteKind};

use crate::machines::{Authority, client_ip, node_ip};
use crate::plan::{Fault, LinkPlan, Machine, NodeRef, Step, Vote, Way, When, WorldPlan};

/// How long a supervisor of the operating system waits until it starts a process again.
const RESPAWN: Duration = Duration::from_millis(1_000);

/// How long after a signature what a node sends is held back: a vote leaves within a millisecond of being signed.
const HOLD_MS: u64 = 20;

/// The slots of a run.
#[derive(Debug, Clone, Copy)]
pub struct Slots {
    /// True wall clock at the start.
    pub start_ms: u64,
    /// Length.
    pub slot_ms: u64,
}

impl Slots {
    /// The slot at so many milliseconds after the start, by the true clock.
    pub fn at(&self, ms: u64) -> u64 {
        (self.start_ms + ms) / self.slot_ms
    }

    /// When a moment of a plan comes, in milliseconds after the start.
    pub fn when(&self, when: When) -> u64 {
        match when {
            When::At(ms) => ms,
            When::Slot(slot, ms) => (self.at(0) + slot) * self.slot_ms + ms - self.start_ms,
        }
    }
}

/// Blocks of links, counted by cause.
#[derive(Debug, Default)]
struct Blocks(BTreeMap<(IpAddr, IpAddr), (u32, u32)>);

impl Blocks {
    fn change(&mut self, world: World, way: (IpAddr, IpAddr), kind: Block, on: bool) {
        let (cuts, clogs) = self.0.entry(way).or_default();
        let count = if kind == Block::Cut { &mut *cuts } else { &mut *clogs };
        *count = if on { *count + 1 } else { count.saturating_sub(1) };
        match (*cuts, *clogs) {
            (0, 0) => world.heal(way.0, way.1),
            (0, _) => world.block(way.0, way.1, Block::Clog),
            _ => world.block(way.0, way.1, Block::Cut),
        }
    }
}

struct Inner {
    plan: WorldPlan,
    authorities: Vec<Authority>,
    slots: Slots,
    rng: Rng,
    blocks: Blocks,
    /// Qualities that faults give to the links of a node.
    slow: BTreeMap<u8, Vec<LinkPlan>>,
    /// Milliseconds by which what a node sends at present is held back, by fault.
    held: BTreeMap<u8, Vec<u64>>,
    /// Milliseconds that faults add to the link to a node's execution client.
    slow_client: BTreeMap<u8, u64>,
    /// How many faults hold a machine down.
    down: BTreeMap<NodeId, u32>,
    /// Machines whose disks were made to fail: what their processes say about it is expected.
    damaged: BTreeSet<NodeId>,
    reactions: BTreeMap<u64, Reaction>,
    next_reaction: u64,
    counts: BTreeMap<&'static str, u64>,
    /// Everything has healed: nothing breaks any more.
    is_healed: bool,
}

/// What happens when somebody signs.
struct Reaction {
    nodes: BTreeSet<u8>,
    vote: Vote,
    what: React,
}

enum React {
    Hold { ms: u64 },
    Kill { power: bool, down_ms: u64, done: BTreeSet<u8> },
    KillAll { count: u8, power: bool, down_ms: u64, signed: BTreeMap<Hash, BTreeSet<u8>> },
}

/// What a reaction leaves to be done later, outside of the node that signed.
enum Later {
    Release { node: u8, held_ms: u64 },
    Revive { machines: Vec<NodeId>, ms: u64 },
}

/// The faults of a run. Clones are the same.
#[derive(Clone)]
pub struct Faults {
    world: World,
    inner: Arc<Mutex<Inner>>,
}

/// What nodes' observers call; filled in once the machines exist.
#[derive(Clone, Default)]
pub struct Reactions {
    faults: Arc<Mutex<Option<Faults>>>,
    later: Arc<Mutex<Option<alys_runtime::sync::mpsc::UnboundedSender<(u64, Box<dyn FnOnce() + Send>)>>>>,
}

impl Reactions {
    /// A node says something, from inside of it.
    pub fn on_event(&self, world: World, node: u8, event: &NodeEvent) {
        let NodeEvent::Signed { target } = event else { return };
        let kind = match target.kind {
            VoteKind::Proposal => Vote::Proposal,
            VoteKind::Approval => Vote::Approval,
            VoteKind::Confirmation => Vote::Confirmation,
        };
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(faults) = faults else { return };
        for later in faults.react(world, node, kind, target.hash) {
            let (ms, faults) = match &later {
                Later::Release { .. } => (HOLD_MS, faults.clone()),
                Later::Revive { ms, .. } => (*ms, faults.clone()),
            };
            let act: Box<dyn FnOnce() + Send> = Box::new(move || match later {
                Later::Release { node, held_ms } => faults.look().hold(world, node, held_ms, false),
                Later::Revive { machines, .. } => machines.iter().for_each(|machine| faults.raise(*machine)),
            });
            if let Some(sender) = &*self.later.lock().unwrap_or_else(PoisonError::into_inner) {
                // Without a receiver the run is over.
                let _ = sender.send((ms, act));
            }
        }
    }

    /// Connects the observers with the faults.
    pub fn connect(&self, faults: &Faults) {
        let (sender, mut receiver) =
            alys_runtime::sync::mpsc::unbounded_channel::<(u64, Box<dyn FnOnce() + Send>)>();
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Some(faults.clone());
        *self.later.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        spawn("reactions", async move {
            while let Some((ms, act)) = receiver.recv().await {
                spawn("reaction", async move {
                    time::sleep(Duration::from_millis(ms)).await;
                    act();
                });
            }
        });
    }
}

impl Inner {
    fn others(&self, node: u8) -> impl Iterator<Item = u8> + use<> {
        (0..self.plan.nodes).filter(move |other| *other != node)
    }

    /// What the node sends from now on is late; what is under way keeps its time.
    fn hold(&mut self, world: World, node: u8, ms: u64, on: bool) {
        if self.is_healed {
            return;
        }
        let held = self.held.entry(node).or_default();
        match held.iter().position(|other| *other == ms) {
            Some(at) if !on => drop(held.remove(at)),
            _ => held.push(ms),
        }
        self.set_links(world, node);
    }

    fn partition(&mut self, world: World, nodes: &BTreeSet<u8>, way: Way, kind: Block, on: bool) {
        for inside in nodes {
            for outside in (0..self.plan.nodes).filter(|other| !nodes.contains(other)) {
                let (inside, outside) = (node_ip(*inside), node_ip(outside));
                if way != Way::In {
                    self.blocks.change(world, (inside, outside), kind, on);
                }
                if way != Way::Out {
                    self.blocks.change(world, (outside, inside), kind, on);
                }
            }
        }
    }

    /// Sets the links of a node to what the faults at present make of them.
    fn set_links(&self, world: World, node: u8) {
        for other in self.others(node) {
            let worst = [node, other]
                .iter()
                .flat_map(|end| self.slow.get(end).into_iter().flatten())
                .fold(self.plan.link.clone(), |a, b| worse(&a, b));
            for (from, to) in [(node, other), (other, node)] {
                let held = self.held.get(&from).and_then(|held| held.iter().max().copied()).unwrap_or(0);
                let quality = LinkPlan { latency_ms: worst.latency_ms + held, ..worst.clone() };
                world.set_link(node_ip(from), node_ip(to), link(&quality));
            }
        }
        let local = client_link(self.slow_client.get(&node).copied().unwrap_or(0));
        world.set_link(node_ip(node), client_ip(node), local.clone());
        world.set_link(client_ip(node), node_ip(node), local);
    }

    fn machines(&self, nodes: &BTreeSet<u8>, machine: Machine) -> Vec<NodeId> {
        let named = self.authorities.iter().filter(|a| nodes.contains(&a.index));
        named
            .flat_map(|a| match machine {
                Machine::Node => vec![a.node],
                Machine::Client => vec![a.client],
                Machine::Both => vec![a.client, a.node],
            })
            .collect()
    }

    /// Whom a step hits, now.
    fn resolve(&mut self, named: &[NodeRef], now_ms: u64) -> BTreeSet<u8> {
        let nodes = self.plan.nodes;
        let slot = self.slots.at(now_ms);
        let leader = |offset: i8| (slot.saturating_add_signed(i64::from(offset)) % u64::from(nodes)) as u8;
        let mut chosen = BTreeSet::new();
        for name in named {
            match name {
                NodeRef::Number(number) => {
                    chosen.insert((number - 1).min(nodes - 1));
                }
                NodeRef::Leader(offset) => {
                    chosen.insert(leader(*offset));
                }
                NodeRef::All => chosen.extend(0..nodes),
                NodeRef::Any | NodeRef::Others => {}
            }
        }
        for _ in named.iter().filter(|name| **name == NodeRef::Any) {
            let free: Vec<u8> = (0..nodes).filter(|node| !chosen.contains(node)).collect();
            if let Some(node) = free.get(self.rng.below(free.len() as u64) as usize) {
                chosen.insert(*node);
            }
        }
        match named.contains(&NodeRef::Others) {
            true => (0..nodes).filter(|node| !chosen.contains(node)).collect(),
            false => chosen,
        }
    }
}

impl Faults {
    /// No faults yet.
    pub fn new(world: World, plan: &WorldPlan, authorities: Vec<Authority>, slots: Slots) -> Self {
        let inner = Inner {
            plan: plan.clone(),
            authorities,
            slots,
            rng: world.rng("faults"),
            blocks: Blocks::default(),
            slow: BTreeMap::new(),
            held: BTreeMap::new(),
            slow_client: BTreeMap::new(),
            down: BTreeMap::new(),
            damaged: BTreeSet::new(),
            reactions: BTreeMap::new(),
            next_reaction: 0,
            counts: BTreeMap::new(),
            is_healed: false,
        };
        for node in 0..plan.nodes {
            inner.set_links(world, node);
        }
        Self { world, inner: Arc::new(Mutex::new(inner)) }
    }

    fn look(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays a step: waits for its moment, breaks things, waits, mends them.
    pub async fn play(self, step: Step) {
        let now = self.world.now().as_millis() as u64;
        let at = self.look().slots.when(step.at);
        time::sleep(Duration::from_millis(at.saturating_sub(now))).await;
        let nodes = {
            let mut inner = self.look();
            if inner.is_healed {
                return;
            }
            *inner.counts.entry(step.fault.name()).or_default() += 1;
            inner.resolve(&step.nodes, at)
        };
        let numbers: Vec<String> = nodes.iter().map(|node| (node + 1).to_string()).collect();
        let detail = format!("{:?} on {} ({})", step.fault, numbers.join(","), step.at);
        self.world.note("fault.begins", detail.as_bytes(), &detail);
        let reaction = self.change(&step.fault, &nodes, true, None);
        let Some(ms) = step.for_ms else { return };
        time::sleep(Duration::from_millis(ms)).await;
        if self.look().is_healed {
            return;
        }
        self.world.note("fault.ends", detail.as_bytes(), &detail);
        self.change(&step.fault, &nodes, false, reaction);
    }

    /// Begins a fault, or ends it. Returns the number of the reaction that it set up.
    fn change(&self, fault: &Fault, nodes: &BTreeSet<u8>, on: bool, reaction: Option<u64>) -> Option<u64> {
        let world = self.world;
        match fault {
            Fault::Partition { way, held } => {
                let kind = if *held { Block::Clog } else { Block::Cut };
                self.look().partition(world, nodes, *way, kind, on);
            }
            Fault::SlowLinks(quality) => {
                let mut inner = self.look();
                for node in nodes {
                    let slow = inner.slow.entry(*node).or_default();
                    match slow.iter().position(|other| other == quality) {
                        Some(at) if !on => drop(slow.remove(at)),
                        _ => slow.push(quality.clone()),
                    }
                    inner.set_links(world, *node);
                }
            }
            Fault::Reset if on => {
                let inner = self.look();
                for (node, other) in nodes.iter().flat_map(|n| inner.others(*n).map(move |o| (*n, o))) {
                    world.reset_connections(node_ip(node), node_ip(other));
                }
            }
            Fault::Reset => {}
            Fault::Kill { machine, power } => {
                let machines = self.look().machines(nodes, *machine);
                machines.iter().for_each(|m| if on { self.fell(*m, *power) } else { self.raise(*m) });
            }
            Fault::Stop => {
                let machines = self.look().machines(nodes, Machine::Node);
                for machine in machines {
                    match on {
                        true => {
                            *self.look().down.entry(machine).or_default() += 1;
                            world.stop(machine);
                        }
                        false => self.raise(machine),
                    }
                }
            }
            Fault::Pause { machine } => {
                let machines = self.look().machines(nodes, *machine);
                machines.iter().for_each(|m| if on { world.pause(*m) } else { world.resume(*m) });
            }
            Fault::Clock { ms } => {
                let machines = self.look().machines(nodes, Machine::Both);
                machines.iter().for_each(|m| world.step_clock(*m, if on { *ms } else { -ms }));
            }
            Fault::Drift { ppm } => {
                let machines = self.look().machines(nodes, Machine::Both);
                machines.iter().for_each(|m| world.set_clock_drift(*m, if on { *ppm } else { 0 }));
            }
            Fault::SlowDisk { machine, ms } => {
                let slow = Slowness { per_sync: Duration::from_millis(*ms), ..Slowness::default() };
                let machines = self.look().machines(nodes, *machine);
                machines
                    .iter()
                    .for_each(|m| world.set_slowness(*m, if on { slow } else { Slowness::default() }));
            }
            Fault::FailSyncs { machine, count } => {
                let machines = self.look().machines(nodes, *machine);
                self.look().damaged.extend(&machines);
                machines.iter().for_each(|m| world.fail_syncs(*m, if on { *count } else { 0 }));
            }
            Fault::PowerAtOperation { machine, operation } => {
                let machines = self.look().machines(nodes, *machine);
                for machine in machines {
                    match on {
                        true => {
                            *self.look().down.entry(machine).or_default() += 1;
                            world.power_off_at_operation(machine, *operation);
                        }
                        false => {
                            // The operation may never have come: then nothing happened.
                            world.heal_disk(machine);
                            self.raise(machine);
                        }
                    }
                }
            }
            Fault::SlowClient { ms } => {
                let mut inner = self.look();
                for node in nodes {
                    let slow = inner.slow_client.entry(*node).or_default();
                    *slow = if on { *slow + ms } else { slow.saturating_sub(*ms) };
                    inner.set_links(world, *node);
                }
            }
            Fault::CutClient => {
                let mut inner = self.look();
                for node in nodes {
                    for way in [(node_ip(*node), client_ip(*node)), (client_ip(*node), node_ip(*node))] {
                        inner.blocks.change(world, way, Block::Cut, on);
                    }
                }
            }
            Fault::HoldVotes { vote, ms } => {
                return self.set_reaction(on, reaction, nodes, *vote, React::Hold { ms: *ms });
            }
            Fault::KillOnVote { vote, power, down_ms } => {
                let what = React::Kill { power: *power, down_ms: *down_ms, done: BTreeSet::new() };
                return self.set_reaction(on, reaction, nodes, *vote, what);
            }
            Fault::KillAllOnVotes { vote, count, power, down_ms } => {
                let (count, power, down_ms) = (*count, *power, *down_ms);
                let what = React::KillAll { count, power, down_ms, signed: BTreeMap::new() };
                return self.set_reaction(on, reaction, nodes, *vote, what);
            }
        }
        None
    }

    fn set_reaction(
        &self,
        on: bool,
        number: Option<u64>,
        nodes: &BTreeSet<u8>,
        vote: Vote,
        what: React,
    ) -> Option<u64> {
        let mut inner = self.look();
        if !on {
            number.map(|number| inner.reactions.remove(&number));
            return None;
        }
        let number = inner.next_reaction;
        inner.next_reaction += 1;
        inner.reactions.insert(number, Reaction { nodes: nodes.clone(), vote, what });
        Some(number)
    }

    /// Somebody has signed. Acts at once, so that the vote does not leave before.
    fn react(&self, world: World, node: u8, vote: Vote, hash: Hash) -> Vec<Later> {
        let mut inner = self.look();
        let Inner { reactions, authorities, .. } = &mut *inner;
        let mut later = Vec::new();
        let mut fell: Vec<(NodeId, bool)> = Vec::new();
        let mut counts = Vec::new();
        for reaction in reactions.values_mut() {
            if reaction.vote != vote || !reaction.nodes.contains(&node) {
                continue;
            }
            match &mut reaction.what {
                React::Hold { ms } => {
                    counts.push("held-vote");
                    later.push(Later::Release { node, held_ms: *ms });
                }
                React::Kill { power, down_ms, done } => {
                    if done.insert(node) {
                        counts.push("killed-on-vote");
                        let machine = authorities[usize::from(node)].node;
                        fell.push((machine, *power));
                        later.push(Later::Revive { machines: vec![machine], ms: *down_ms });
                    }
                }
                React::KillAll { count, power, down_ms, signed } => {
                    let signers = signed.entry(hash).or_default();
                    let before = signers.len();
                    signers.insert(node);
                    if before < usize::from(*count) && signers.len() == usize::from(*count) {
                        counts.push("killed-all-on-votes");
                        let machines: Vec<NodeId> =
                            authorities.iter().flat_map(|a| [a.client, a.node]).collect();
                        fell.extend(machines.iter().map(|machine| (*machine, *power)));
                        later.push(Later::Revive { machines, ms: *down_ms });
                        // Once is enough.
                        *count = u8::MAX;
                    }
                }
            }
        }
        for count in counts {
            *inner.counts.entry(count).or_default() += 1;
        }
        for held in &later {
            if let Later::Release { node, held_ms } = held {
                inner.hold(world, *node, *held_ms, true);
            }
        }
        drop(inner);
        fell.into_iter().for_each(|(machine, power)| self.fell(machine, power));
        later
    }

    /// Takes a machine down until as many [`Faults::raise`] as faults that hold it down.
    fn fell(&self, machine: NodeId, power: bool) {
        *self.look().down.entry(machine).or_default() += 1;
        match power {
            true => self.world.power_off(machine),
            false => self.world.kill(machine),
        };
    }

    fn raise(&self, machine: NodeId) {
        let mut inner = self.look();
        let count = inner.down.entry(machine).or_default();
        *count = count.saturating_sub(1);
        let is_free = *count == 0 && !inner.is_healed;
        drop(inner);
        if is_free && !self.world.is_up(machine) {
            self.world.restart(machine);
        }
    }

    /// A process has ended by itself: whoever runs it starts it again.
    pub fn respawn(&self, machine: NodeId) {
        let faults = self.clone();
        spawn("respawn", async move {
            time::sleep(RESPAWN).await;
            let is_held = faults.look().down.get(&machine).is_some_and(|count| *count > 0);
            if !is_held && !faults.world.is_up(machine) {
                faults.world.restart(machine);
            }
        });
    }

    /// Whether the disk of a machine was made to fail at some time.
    pub fn is_damaged(&self, machine: NodeId) -> bool {
        self.look().damaged.contains(&machine)
    }

    /// The chaos is over: everything works again, but for the machines that stay dead.
    pub fn heal(&self) {
        let world = self.world;
        let (authorities, plan) = {
            let mut inner = self.look();
            inner.is_healed = true;
            inner.reactions.clear();
            inner.blocks = Blocks::default();
            inner.slow.clear();
            inner.slow_client.clear();
            inner.held.clear();
            inner.down.clear();
            (inner.authorities.clone(), inner.plan.clone())
        };
        world.heal_all();
        for authority in &authorities {
            self.look().set_links(world, authority.index);
            let stays_dead = plan.left_dead.contains(&(authority.index + 1));
            for machine in [authority.client, authority.node] {
                world.set_clock_drift(machine, 0);
                world.set_clock_offset(machine, 0);
                world.heal_disk(machine);
                world.resume(machine);
                match stays_dead {
                    true => {
                        self.look().down.insert(machine, 1);
                        world.kill(machine);
                    }
                    false if !world.is_up(machine) => world.restart(machine),
                    false => {}
                }
            }
        }
    }

    /// How often each kind of fault began.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.look().counts.clone()
    }
}

/// The runtime's link of this quality.
pub fn link(plan: &LinkPlan) -> Link {
    Link {
        latency: Duration::from_millis(plan.latency_ms),
        jitter: Duration::from_millis(plan.jitter_ms),
        loss_ppm: plan.loss_ppm,
        bytes_per_second: plan.kbytes_per_s * 1_000,
        ..Link::default()
    }
}

/// From a node to its own client: the same rack.
fn client_link(slower_by_ms: u64) -> Link {
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
        loss_ppm: a.loss_ppm.max(b.loss_ppm),
        kbytes_per_s: least(a.kbytes_per_s, b.kbytes_per_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_slot_is_the_first_that_begins_after_the_start() {
        let slots = Slots { start_ms: 10_300, slot_ms: 1_000 };
        assert_eq!((slots.at(0), slots.at(699), slots.at(700)), (10, 10, 11));
        assert_eq!(slots.when(When::At(12)), 12);
        assert_eq!(slots.when(When::Slot(1, 0)), 700);
        assert_eq!(slots.when(When::Slot(3, 250)), 2_950);
        let aligned = Slots { start_ms: 10_000, slot_ms: 1_000 };
        assert_eq!(
            aligned.when(When::Slot(1, 0)),
            1_000,
            "the slot that begins with the start counts as begun before"
        );
    }

    #[test]
    fn of_two_qualities_the_worse_of_each_counts() {
        let a = LinkPlan { latency_ms: 1, jitter_ms: 9, loss_ppm: 0, kbytes_per_s: 0 };
        let b = LinkPlan { latency_ms: 5, jitter_ms: 2, loss_ppm: 7, kbytes_per_s: 50 };
        let both = LinkPlan { latency_ms: 5, jitter_ms: 9, loss_ppm: 7, kbytes_per_s: 50 };
        assert_eq!(worse(&a, &b), both);
        assert_eq!(worse(&b, &LinkPlan { kbytes_per_s: 10, ..a }).kbytes_per_s, 10);
    }
}
