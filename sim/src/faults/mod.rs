//! Carrying out the faults of a plan, and taking them back.
//!
//! Faults overlap, so what they do to a link or a machine is counted: a link works again when the last fault that blocks it
//! is over, a machine starts again when the last one that holds it down is. Disks
//! are taken away and replaced only as long as the protocol survives it; what would be too much is downgraded, and counted.

mod actors;
mod damage;
mod disk;
mod kinds;
mod network;
mod turns;
mod votes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_integrations::embedded::ExecutionFaultInjector;
use alys_runtime::sim::{Block, NodeId, Rng, Slowness, World};
use alys_runtime::{spawn, time};

pub use kinds::{Actor, Fault, Harm, Machine, Step, Strike, Vote, Way};
pub use network::link;
pub use votes::Reactions;

use crate::cluster::{Authority, Living, node_ip, now_ms};
use crate::events::{Announcement, FaultBegan};
use crate::invariants::Judge;
use crate::params::{Ms, NodeRef, SignedMs, Slots, WorldPlan};
use network::Links;
use votes::{Act, React, Reaction, Trigger};

/// How long operators take to look after their clocks, and how often they do it after the chaos.
const OPERATOR: Duration = Duration::from_secs(2);
const OPERATOR_TURNS: usize = 3;
/// How long a supervisor of the operating system waits until it starts a process again.
const RESPAWN: Duration = Duration::from_millis(1_000);

/// After everything has healed, processes may still speak of their damaged disks for so long, and end over them.
const EXCUSED_MS: u64 = 10_000;

/// Repeats gossip: implemented by the layer between a node and its network, of which faults know no more.
pub trait GossipRepeater: Send + Sync {
    /// From now on gossip that arrives at the node arrives again, up to so many milliseconds later; or no longer.
    fn duplicate(&self, ms: u64, on: bool);
    /// Nothing is repeated any more.
    fn heal(&self);
    /// How often the layer did what it does.
    fn counts(&self) -> BTreeMap<&'static str, u64>;
}

struct Inner {
    plan: WorldPlan,
    authorities: Vec<Authority>,
    /// By authority: repeats the gossip that arrives at its node.
    repeaters: BTreeMap<u8, Arc<dyn GossipRepeater>>,
    slots: Slots,
    rng: Rng,
    links: Links,
    /// How many faults hold a machine down.
    down: BTreeMap<NodeId, u32>,
    /// Machines of second nodes with the key of an authority.
    twins: BTreeSet<NodeId>,
    /// Machines whose disks were made to fail: what their processes say about it is expected.
    damaged: BTreeSet<NodeId>,
    /// Authorities that are faulty because their disks or clients lie.
    distrusted: BTreeSet<u8>,
    /// Nodes whose clients call payloads invalid.
    lied_to: BTreeSet<NodeId>,
    /// What is wrong with the clients, by authority.
    bends: Vec<ExecutionFaultInjector>,
    reactions: BTreeMap<u64, Reaction>,
    next_reaction: u64,
    counts: BTreeMap<&'static str, u64>,
    /// When an actor of a node was last struck, in milliseconds.
    struck_ms: BTreeMap<u8, u64>,
    /// How many faults make a process stand still, and when the last one of them was over.
    paused: BTreeMap<NodeId, u32>,
    resumed_ms: BTreeMap<NodeId, u64>,
    /// Whether the plan has no other faults than those of actors.
    only_actors: bool,
    /// Everything has healed: nothing breaks any more.
    is_healed: bool,
    /// When that was, in milliseconds; 0 before it.
    healed_ms: u64,
}

/// The faults of a run. Clones are the same.
#[derive(Clone)]
pub struct Faults {
    world: World,
    judge: Judge,
    living: Living,
    inner: Arc<Mutex<Inner>>,
}

impl Inner {
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
        let leader =
            |offset: i8| (slot.saturating_add_signed(i64::from(offset)) % u64::from(nodes)) as u8;
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
    pub fn new(
        world: World,
        plan: &WorldPlan,
        steps: &[Step],
        authorities: Vec<Authority>,
        repeaters: BTreeMap<u8, Arc<dyn GossipRepeater>>,
        slots: Slots,
        judge: Judge,
        living: Living,
        bends: Vec<ExecutionFaultInjector>,
    ) -> Self {
        let inner = Inner {
            plan: plan.clone(),
            authorities,
            repeaters,
            slots,
            rng: world.rng("faults"),
            links: Links::new(world, plan.nodes, plan.link.clone()),
            down: BTreeMap::new(),
            twins: BTreeSet::new(),
            damaged: BTreeSet::new(),
            distrusted: BTreeSet::new(),
            lied_to: BTreeSet::new(),
            bends,
            reactions: BTreeMap::new(),
            next_reaction: 0,
            counts: BTreeMap::new(),
            struck_ms: BTreeMap::new(),
            paused: BTreeMap::new(),
            resumed_ms: BTreeMap::new(),
            only_actors: steps.iter().all(|step| step.fault.strike().is_some()),
            is_healed: false,
            healed_ms: 0,
        };
        Self {
            world,
            judge,
            living,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn world(&self) -> World {
        self.world
    }

    fn judge(&self) -> &Judge {
        &self.judge
    }

    fn living(&self) -> &Living {
        &self.living
    }

    /// Counts that something happened.
    pub fn count(&self, what: &'static str) {
        *self.look().counts.entry(what).or_default() += 1;
    }

    fn look(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays the plan's step of this number: begins its fault at the planned time, and ends it.
    pub async fn play(self, number: u32, step: Step) {
        let now = self.world.now().as_millis() as u64;
        let at = self.look().slots.when(step.at);
        time::sleep(Duration::from_millis(at.saturating_sub(now))).await;
        let nodes = {
            let mut inner = self.look();
            if inner.is_healed {
                return;
            }
            if step.fault.strike().is_none() {
                *inner.counts.entry(step.fault.name()).or_default() += 1;
            }
            // Each step has a stream of its own: what one draws does not depend on which others there are.
            inner.rng = self.world.rng(&format!("step {step}"));
            inner.resolve(&step.nodes, at)
        };
        let machines = self.look().machines(&nodes, step.fault.machine());
        let began = Announcement::FaultBegan(FaultBegan {
            step: number,
            name: step.fault.name().to_owned(),
            category: step.fault.category(),
            values: step.fault.values_text(),
            nodes: nodes.iter().map(|node| node + 1).collect(),
            machines: machines.iter().map(|id| self.world.name(*id)).collect(),
            planned: step.at.to_string(),
            is_instant: step.fault.is_instant(),
        });
        began.announce(self.world);
        let reaction = self.change(&step.fault, &nodes, true, None);
        let Some(ms) = step.for_ms else { return };
        time::sleep(Duration::from_millis(ms)).await;
        if self.look().is_healed {
            return;
        }
        let ended = Announcement::FaultEnded {
            step: number,
            name: step.fault.name().to_owned(),
        };
        ended.announce(self.world);
        self.change(&step.fault, &nodes, false, reaction);
    }

    /// Begins a fault, or ends it. Returns the number of the reaction that it set up.
    fn change(
        &self,
        fault: &Fault,
        nodes: &BTreeSet<u8>,
        on: bool,
        reaction: Option<u64>,
    ) -> Option<u64> {
        let world = self.world;
        match fault {
            Fault::Partition { way, held } => {
                let kind = if *held { Block::Clog } else { Block::Cut };
                self.look().links.partition(nodes, *way, kind, on);
            }
            Fault::SlowLinks { .. }
            | Fault::LatencySpike { .. }
            | Fault::Loss { .. }
            | Fault::Reorder { .. }
            | Fault::Squeeze { .. } => {
                if let Some(quality) = fault.quality() {
                    let mut inner = self.look();
                    nodes
                        .iter()
                        .for_each(|node| inner.links.slow(*node, &quality, on));
                }
            }
            Fault::Clog { way } => self.look().links.clog(nodes, *way, on),
            Fault::Swizzle { spread } => self.swizzle(nodes, spread.0, on),
            Fault::HalfOpen {} if on => {
                let all = self.look().plan.nodes;
                for (node, other) in nodes
                    .iter()
                    .flat_map(|node| (0..all).map(move |other| (*node, other)))
                {
                    world.half_open(node_ip(node), node_ip(other));
                }
            }
            Fault::HalfOpen {} => {}
            Fault::Duplicate { delay } => {
                let repeaters = self.look().repeaters.clone();
                nodes
                    .iter()
                    .filter_map(|node| repeaters.get(node))
                    .for_each(|one| one.duplicate(delay.0, on));
            }
            Fault::ClockEdge { by, back } if on => self.step_over_an_edge(nodes, by.0, *back),
            Fault::ClockEdge { .. } => {}
            Fault::CrashAgain {
                machine,
                power,
                within,
                operations,
                times,
            } if on => {
                for machine in {
                    let inner = self.look();
                    inner.machines(nodes, *machine)
                } {
                    self.crash_again(machine, *power, within.0, *operations, *times);
                }
            }
            Fault::CrashAgain { .. } => {}
            Fault::KillAllAtHeight {
                blocks,
                power,
                down: Ms(down_ms),
            } => {
                let height = self.judge.look().finality.top() + blocks;
                let what = React::KillAllNow {
                    power: *power,
                    down_ms: *down_ms,
                    is_done: false,
                };
                return self.set_reaction(on, reaction, nodes, Trigger::Final(height), what);
            }
            Fault::Wipe { machine } if on => self.wipe(nodes, *machine),
            Fault::Wipe { machine } => {
                let machines = self.look().machines(nodes, *machine);
                machines.iter().for_each(|m| self.raise(*m));
            }
            Fault::Restore { machine, age, down } if on => {
                self.restore(nodes, *machine, age.0, down.0)
            }
            Fault::Restore { .. } => {}
            Fault::Reset {} if on => {
                let all = self.look().plan.nodes;
                for (node, other) in nodes
                    .iter()
                    .flat_map(|node| (0..all).map(move |other| (*node, other)))
                {
                    world.reset_connections(node_ip(node), node_ip(other));
                }
            }
            Fault::Reset {} => {}
            Fault::Kill { machine, power } => {
                let machines = self.look().machines(nodes, *machine);
                machines.iter().for_each(|m| {
                    if on {
                        self.fell(*m, *power)
                    } else {
                        self.raise(*m)
                    }
                });
            }
            Fault::Stop {} => {
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
                for machine in machines {
                    self.note_pause(machine, on);
                    if on {
                        world.pause(machine)
                    } else {
                        world.resume(machine)
                    }
                }
            }
            Fault::Clock { by: SignedMs(ms) } => {
                let machines = self.look().machines(nodes, Machine::Both);
                machines
                    .iter()
                    .for_each(|m| world.step_clock(*m, if on { *ms } else { -ms }));
            }
            Fault::Drift { ppm } => {
                let machines = self.look().machines(nodes, Machine::Both);
                machines
                    .iter()
                    .for_each(|m| world.set_clock_drift(*m, if on { *ppm } else { 0 }));
            }
            Fault::SlowDisk {
                machine,
                delay: Ms(ms),
            } => {
                let slow = Slowness {
                    per_sync: Duration::from_millis(*ms),
                    ..Slowness::default()
                };
                let machines = self.look().machines(nodes, *machine);
                machines.iter().for_each(|m| {
                    world.set_slowness(*m, if on { slow } else { Slowness::default() })
                });
            }
            Fault::FailSyncs { machine, count } => {
                let machines = self.look().machines(nodes, *machine);
                machines
                    .iter()
                    .for_each(|m| world.fail_syncs(*m, if on { *count } else { 0 }));
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
            Fault::Rot { .. }
            | Fault::MisdirectWrites { .. }
            | Fault::StaleReads { .. }
            | Fault::FailReads { .. }
            | Fault::FailWrites { .. }
            | Fault::FullDisk { .. }
            | Fault::ClientSyncing {}
            | Fault::ClientInvalid { .. }
            | Fault::ClientForgets { .. }
            | Fault::ClientLate { .. }
            | Fault::ClientTwice { .. }
            | Fault::ClientHangsUp { .. }
            | Fault::ClientClock { .. } => self.damage(fault, nodes, on),
            Fault::SlowClient { delay: Ms(ms) } => {
                let mut inner = self.look();
                nodes
                    .iter()
                    .for_each(|node| inner.links.slow_client(*node, *ms, on));
            }
            Fault::CutClient {} => {
                let mut inner = self.look();
                nodes
                    .iter()
                    .for_each(|node| inner.links.cut_client(*node, on));
            }
            Fault::HoldVotes {
                vote,
                delay: Ms(ms),
            } => {
                return self.set_reaction(
                    on,
                    reaction,
                    nodes,
                    Trigger::Vote(*vote),
                    React::Hold { ms: *ms },
                );
            }
            Fault::KillOnVote {
                vote,
                power,
                down: Ms(down_ms),
            } => {
                let what = React::Kill {
                    power: *power,
                    down_ms: *down_ms,
                    done: BTreeSet::new(),
                };
                return self.set_reaction(on, reaction, nodes, Trigger::Vote(*vote), what);
            }
            Fault::ActorPanic { .. }
            | Fault::ActorFail { .. }
            | Fault::ActorHang { .. }
            | Fault::ActorSlow { .. }
            | Fault::ActorLoseReply { .. } => {
                if let Some(strike) = fault.strike().filter(|_| on) {
                    self.strike(&strike, nodes.iter().copied());
                }
            }
            Fault::KillAllOnVotes {
                vote,
                count,
                power,
                down: Ms(down_ms),
            } => {
                let (count, power, down_ms) = (*count, *power, *down_ms);
                let what = React::KillAll {
                    count,
                    power,
                    down_ms,
                    signed: BTreeMap::new(),
                    is_done: false,
                };
                return self.set_reaction(on, reaction, nodes, Trigger::Vote(*vote), what);
            }
        }
        None
    }

    fn note_pause(&self, machine: NodeId, on: bool) {
        let mut inner = self.look();
        let count = inner.paused.entry(machine).or_default();
        *count = if on {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        inner.resumed_ms.insert(machine, now_ms(self.world));
    }

    fn set_reaction(
        &self,
        on: bool,
        number: Option<u64>,
        nodes: &BTreeSet<u8>,
        trigger: Trigger,
        what: React,
    ) -> Option<u64> {
        let mut inner = self.look();
        if !on {
            number.map(|number| inner.reactions.remove(&number));
            return None;
        }
        let number = inner.next_reaction;
        inner.next_reaction += 1;
        inner.reactions.insert(
            number,
            Reaction {
                nodes: nodes.clone(),
                trigger,
                what,
            },
        );
        Some(number)
    }

    /// Something happened on a node: what is to be done about it.
    fn react(&self, of: impl Fn(&mut Reaction, &[Authority]) -> Option<Act>) -> Vec<Act> {
        let mut inner = self.look();
        let Inner {
            reactions,
            authorities,
            counts,
            ..
        } = &mut *inner;
        let acts: Vec<Act> = reactions
            .values_mut()
            .filter_map(|reaction| of(reaction, authorities))
            .collect();
        for act in &acts {
            *counts.entry(act.name()).or_default() += 1;
        }
        acts
    }

    /// Does it, or takes it back.
    fn act(&self, act: &Act, on: bool) {
        match act {
            Act::Hold { node, ms } => {
                let mut inner = self.look();
                if !inner.is_healed {
                    inner.links.hold(*node, *ms, on);
                }
            }
            Act::Fell {
                machines, power, ..
            } => {
                machines.iter().for_each(|m| {
                    if on {
                        self.fell(*m, *power)
                    } else {
                        self.raise(*m)
                    }
                });
            }
        }
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
            let is_held = faults
                .look()
                .down
                .get(&machine)
                .is_some_and(|count| *count > 0);
            if !is_held && !faults.world.is_up(machine) {
                faults.replace_lying_disk(machine);
                faults.world.restart(machine);
            }
        });
    }

    /// Whether the disk of a machine was made to fail during the chaos, or its process does not keep to the rules anyway. Soon
    /// after everything has healed, that is no excuse any more.
    pub fn is_damaged(&self, machine: NodeId) -> bool {
        let inner = self.look();
        let of_byzantine = |a: &Authority| a.node == machine && inner.plan.is_byzantine(a.index);
        let is_sound = inner.is_healed && now_ms(self.world) > inner.healed_ms + EXCUSED_MS;
        let was_hit = self.world.disk_damage(machine).is_any() || inner.damaged.contains(&machine);
        was_hit && !is_sound
            || inner.twins.contains(&machine)
            || inner.authorities.iter().any(of_byzantine)
    }

    /// These do not come back when everything heals; from 0.
    pub fn leave_dead(&self, nodes: impl Iterator<Item = u8>) {
        let mut inner = self.look();
        let more: Vec<u8> = nodes
            .map(|node| node + 1)
            .filter(|n| !inner.plan.left_dead.contains(n))
            .collect();
        inner.plan.left_dead.extend(more);
    }

    /// Where fewer than q - 1 of the core may vote, nobody can confirm a clock that has jumped, and the protocol leaves it to
    /// the operators: they see that the clocks are right again, and say so to their nodes. Otherwise the nodes are on their own.
    pub async fn confirm_clocks(self, core: Vec<u8>) {
        for _ in 0..OPERATOR_TURNS {
            time::sleep(OPERATOR).await;
            let needed = self.look().plan.quorum().saturating_sub(1);
            let votes = |node: &&u8| {
                self.judge
                    .look()
                    .summaries
                    .get(*node)
                    .is_some_and(|said| !said.silent)
            };
            if core.iter().filter(votes).count() >= needed {
                continue;
            }
            self.count("operator.confirmed-clocks");
            let count = self.look().authorities.len() as u8;
            let nodes = (0..count).filter_map(|index| Some((index, self.living.find(index)?)));
            for (index, node) in nodes {
                // A chain that is too busy, or starts, is told the next time.
                if node.confirm_clock() {
                    self.judge.look().clocks.confirmed(index);
                }
            }
        }
    }

    /// The chaos is over: everything works again, but for the machines that stay dead.
    pub fn heal(&self) {
        let world = self.world;
        let (authorities, plan) = {
            let mut inner = self.look();
            inner.is_healed = true;
            inner.healed_ms = now_ms(world);
            inner.reactions.clear();
            inner.paused.clear();
            let now = now_ms(world);
            inner.resumed_ms.values_mut().for_each(|ms| *ms = now);
            inner.links.heal();
            inner.down.clear();
            (inner.authorities.clone(), inner.plan.clone())
        };
        self.living.heal();
        self.look()
            .repeaters
            .values()
            .for_each(|repeater| repeater.heal());
        self.heal_clients();
        for authority in &authorities {
            let stays_dead = plan.left_dead.contains(&(authority.index + 1));
            for machine in [authority.client, authority.node] {
                world.set_clock_drift(machine, 0);
                world.set_clock_offset(machine, 0);
                world.heal_disk(machine);
                world.resume(machine);
                if self.replace_lying_disk(machine) && machine == authority.node {
                    self.judge.look().disk_replaced(authority.index);
                }
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
        let inner = self.look();
        let mut counts = inner.counts.clone();
        for (what, times) in inner.repeaters.values().flat_map(|one| one.counts()) {
            *counts.entry(what).or_default() += times;
        }
        counts
    }
}
