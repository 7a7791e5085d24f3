//! Faults: the table of all kinds ([`registry`]), one file of kinds for each subject, and their
//! common state.
//!
//! **Owns** the execution of a plan's steps, from the beginning of each to its end. **Guarantees**
//! that faults can overlap: their effects on a link or a machine are counted, so a link works again
//! when the last fault that blocks it ends, and a machine starts again when the last fault that
//! holds it down ends. **Guarantees** that the protocol can survive the faults: a fault that would
//! take the last quorum or the last good copy is replaced by a lesser one, and counted as
//! `downgraded`. **Never** changes a node except through the interception points that it offers to
//! a simulation.

mod actors;
mod clocks;
mod contention;
mod disk;
mod draw;
mod execution;
mod federation;
mod first_starts;
mod link_state;
mod network;
mod paths;
mod process;
mod reactions;
mod registry;
mod settings;
mod strikes;
#[cfg(test)]
mod testbed;
mod votes;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_integrations::embedded::ExecutionFaultInjector;
use alys_runtime::sim::{NodeId, World};
use alys_runtime::time;

pub use actors::{Actor, ActorFail};
pub use contention::ActorFailOften;
pub use disk::{Rot, Wipe};
pub use draw::{Draw, Drawing};
pub use execution::ExecutionRefuses;
pub use federation::{Change, ChangeFederation};
pub use link_state::link;
pub use network::{Reset, Way};
pub use paths::Class;
pub use process::{CrashAgain, Machine, Stop};
pub use reactions::Reactions;
pub use registry::{Entry, Fault, KnownName, Place, SUBJECTS, Step, WrongValue, kinds};
pub use votes::Vote;

use crate::cluster::{Authority, Governance, Living, now_ms};
use crate::events::{Announcement, FaultBegan, FaultCategory};
use crate::invariants::Judge;
use crate::params::{NodeRef, Slots, WorldPlan};
use disk::Trust;
use federation::Orders;
use link_state::Links;
use paths::CutLinks;
use process::Processes;
use reactions::Reaction;
use registry::{Draws, Hit};
use settings::Settings;
use writes::Images;

/// Interval between two rounds of [`Faults::confirm_clocks`] after the chaos, and their number.
const OPERATOR_INTERVAL: Duration = Duration::from_secs(2);
const OPERATOR_TURNS: usize = 3;

/// Repeats and loses messages. The interceptor between a node and its network implements it
/// (`peers/interceptor.rs`); faults know nothing else of that interceptor.
pub trait GossipRepeater: Send + Sync {
    /// Starts or stops repeating each gossip message that arrives at the node, up to `ms`
    /// milliseconds later.
    fn duplicate(&self, ms: u64, on: bool);
    /// Starts or stops the loss of messages of this class, or of those among them that arrived
    /// before (`repeats`).
    fn lose(&self, class: Class, repeats: bool, on: bool);
    /// Stops all repetition and loss.
    fn heal(&self);
    /// The counters of the interceptor's actions.
    fn counts(&self) -> BTreeMap<&'static str, u64>;
}

/// The faults of a run. Clones share their state.
#[derive(Clone)]
pub struct Faults(Arc<Inner>);

/// The state of all faults, with a lock for each subject. No lock is held during a call into
/// another part of the simulator.
pub struct Inner {
    world: World,
    judge: Judge,
    living: Living,
    plan: WorldPlan,
    authorities: Vec<Authority>,
    slots: Slots,
    /// The steps of the plan.
    steps: Vec<Step>,
    /// True if the plan has only faults of actors.
    only_actors: bool,
    /// The repeaters of the gossip that arrives at each authority's node.
    repeaters: BTreeMap<u8, Arc<dyn GossipRepeater>>,
    /// The fault injectors of the execution clients, by authority.
    execution_faults: Vec<ExecutionFaultInjector>,
    /// `None` if the federation cannot change.
    governance: Option<Governance>,
    /// Number of steps that have begun.
    begun: Mutex<u64>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    recovery: Mutex<Recovery>,
    links: Mutex<Links>,
    processes: Mutex<Processes>,
    trust: Mutex<Trust>,
    /// Settings of machines that active steps have made.
    settings: Mutex<Settings>,
    /// Active reactions, by the number of their step.
    reactions: Mutex<BTreeMap<u64, Reaction>>,
    /// Numbers of active steps, for tasks that act until their step ends.
    active: Mutex<BTreeSet<u64>>,
    /// Links that active steps cut.
    cut_links: Mutex<CutLinks>,
    /// Disks to which nodes are rolled back when they crash.
    images: Mutex<Images>,
    /// Orders of governance that are not carried out yet.
    orders: Mutex<Orders>,
    /// Time of the last strike at an actor of each node, in milliseconds.
    struck_ms: Mutex<BTreeMap<u8, u64>>,
}

/// The end of the chaos.
#[derive(Debug, Default)]
struct Recovery {
    /// The time at which everything healed, in milliseconds; no fault acts after it.
    healed_ms: Option<u64>,
    /// Authorities, from 0, that stay down.
    left_dead: BTreeSet<u8>,
}

impl std::ops::Deref for Faults {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// True for a fault whose effects may outlast its step until everything heals: votes that a disk
/// lost, a clock without confirmation, messages of an actor that are still to be hit, an order of
/// governance that no block carries yet.
fn is_lasting(fault: &Fault) -> bool {
    match fault.category() {
        FaultCategory::Time
        | FaultCategory::Disk
        | FaultCategory::Actor
        | FaultCategory::Federation => true,
        FaultCategory::Network | FaultCategory::Process | FaultCategory::Execution => false,
    }
}

/// Locks a part of the state. Poison is ignored because a panic has ended the run already.
fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The input of [`Faults::new`].
pub struct Setup<'a> {
    /// The network of the run.
    pub plan: &'a WorldPlan,
    pub steps: &'a [Step],
    /// The machines of all authorities.
    pub authorities: Vec<Authority>,
    /// The repeaters of the gossip that arrives at each authority's node.
    pub repeaters: BTreeMap<u8, Arc<dyn GossipRepeater>>,
    /// The fault injectors of the execution clients, by authority.
    pub execution_faults: Vec<ExecutionFaultInjector>,
    pub governance: Option<Governance>,
    /// Number of miners.
    pub miners: u8,
    pub slots: Slots,
    pub judge: Judge,
    /// The running nodes.
    pub living: Living,
}

impl Faults {
    /// Creates the state without any active fault.
    pub fn new(world: World, setup: Setup<'_>) -> Self {
        let plan = setup.plan.clone();
        let left_dead = plan.left_dead.iter().map(|number| number.saturating_sub(1));
        let recovery = Recovery {
            healed_ms: None,
            left_dead: left_dead.collect(),
        };
        Self(Arc::new(Inner {
            world,
            judge: setup.judge,
            living: setup.living,
            authorities: setup.authorities,
            slots: setup.slots,
            steps: setup.steps.to_vec(),
            only_actors: setup.steps.iter().all(|step| step.fault.is_strike()),
            repeaters: setup.repeaters,
            execution_faults: setup.execution_faults,
            governance: setup.governance,
            begun: Mutex::new(0),
            counts: Mutex::default(),
            recovery: Mutex::new(recovery),
            links: Mutex::new(Links::new(
                world,
                plan.nodes,
                setup.miners,
                plan.link.clone(),
            )),
            processes: Mutex::default(),
            trust: Mutex::default(),
            settings: Mutex::default(),
            reactions: Mutex::default(),
            active: Mutex::default(),
            cut_links: Mutex::default(),
            images: Mutex::default(),
            orders: Mutex::default(),
            struck_ms: Mutex::default(),
            plan,
        }))
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.links)
    }

    fn is_healed(&self) -> bool {
        lock(&self.recovery).healed_ms.is_some()
    }

    /// Increments the counter `what`.
    pub fn count(&self, what: &'static str) {
        *lock(&self.counts).entry(what).or_default() += 1;
    }

    /// The authorities that a step hits.
    fn authorities(&self, hit: &Hit) -> Vec<Authority> {
        let all = self.authorities.iter();
        all.filter(|a| hit.nodes.contains(&a.index))
            .copied()
            .collect()
    }

    /// The fault injector of the execution client on this machine.
    fn execution_faults_of(&self, machine: NodeId) -> Option<&ExecutionFaultInjector> {
        let authority = self
            .authorities
            .iter()
            .find(|one| one.execution == machine)?;
        self.execution_faults.get(usize::from(authority.index))
    }

    /// The machines that a step hits.
    fn machines(&self, hit: &Hit, machine: Machine) -> Vec<NodeId> {
        let authorities = self.authorities(hit);
        authorities.iter().flat_map(|one| machine.of(one)).collect()
    }

    /// Waits until `ms` of the simulated clock. False if everything has healed by then.
    async fn wait_until(&self, ms: u64) -> bool {
        let now = now_ms(self.world);
        time::sleep(Duration::from_millis(ms.saturating_sub(now))).await;
        !self.is_healed()
    }

    /// Waits for `ms` on the simulated clock. False if everything has healed by then.
    pub async fn wait(&self, ms: u64) -> bool {
        self.wait_until(now_ms(self.world) + ms).await
    }

    /// Excludes the machines of a twin authority's second node from all expectations.
    pub fn add_twin(&self, twin: Authority) {
        lock(&self.trust).twins.extend(twin.machines());
    }

    /// Cuts the link between two machines, or reconnects them.
    pub fn cut_pair(&self, a: IpAddr, b: IpAddr, on: bool) {
        self.links().cut_pair(a, b, on);
    }

    /// Executes step `number` of the plan: begins its fault at the planned time, and ends it.
    pub async fn play(self, number: u32, step: Step) {
        let now = now_ms(self.world);
        let at = self.slots.when(step.at);
        time::sleep(Duration::from_millis(at.saturating_sub(now))).await;
        if self.is_healed() {
            return;
        }
        // A strike is counted when it hits.
        if !step.fault.is_strike() {
            self.count(step.fault.name());
        }
        let draws = self.draws(number, &step);
        let hit = Hit {
            nodes: self.resolve(&step.nodes, at, &draws),
            number: self.next_number(),
            draws,
        };
        let machines = self.machines(&hit, step.fault.machine());
        let began = Announcement::FaultBegan(FaultBegan {
            step: number,
            name: step.fault.name().to_owned(),
            category: step.fault.category(),
            values: step.fault.values_text(),
            nodes: hit.nodes.iter().map(|node| node + 1).collect(),
            machines: machines.iter().map(|id| self.world.name(*id)).collect(),
            planned: step.at.to_string(),
            is_instant: step.fault.is_instant(),
        });
        began.announce(self.world);
        let is_lasting = is_lasting(&step.fault);
        let begun_ms = now_ms(self.world);
        self.judge
            .look()
            .calm
            .fault_began(begun_ms, number, is_lasting);
        self.judge
            .look()
            .repairs
            .fault_began(begun_ms, number, step.fault.name(), &hit.nodes);
        step.fault.begin(&self, &hit);
        if step.fault.is_instant() {
            self.judge.look().calm.fault_ended(begun_ms, number);
            self.judge.look().repairs.fault_ended(begun_ms, number);
        }
        let Some(ms) = step.for_ms else { return };
        time::sleep(Duration::from_millis(ms)).await;
        if self.is_healed() {
            return;
        }
        let ended = Announcement::FaultEnded {
            step: number,
            name: step.fault.name().to_owned(),
        };
        ended.announce(self.world);
        step.fault.end(&self, &hit);
        let ended_ms = now_ms(self.world);
        self.judge.look().calm.fault_ended(ended_ms, number);
        self.judge.look().repairs.fault_ended(ended_ms, number);
    }

    /// The random stream of a step. It depends on the seed and the step only, and not on the step's
    /// place in the plan, so that a plan without some steps leaves the draws of the others as they
    /// are. Equal steps have different streams, by their order.
    fn draws(&self, number: u32, step: &Step) -> Draws {
        let earlier = self.steps.iter().take((number as usize).saturating_sub(1));
        let equal = earlier.filter(|other| *other == step).count();
        let label = match equal {
            0 => format!("step {step}"),
            _ => format!("step {step}, again {equal}"),
        };
        Draws::new(self.world.rng(&label))
    }

    fn next_number(&self) -> u64 {
        let mut begun = lock(&self.begun);
        *begun += 1;
        *begun
    }

    /// Resolves the targets of a step that begins now.
    fn resolve(&self, named: &[NodeRef], now_ms: u64, draws: &Draws) -> BTreeSet<u8> {
        let nodes = self.plan.nodes;
        let slot = self.slots.at(now_ms);
        let mut chosen = BTreeSet::new();
        for name in named {
            match name {
                NodeRef::Number(number) => {
                    chosen.insert((number - 1).min(nodes - 1));
                }
                NodeRef::Leader(offset) => {
                    let slot = slot.saturating_add_signed(i64::from(*offset));
                    let members = self.judge.look().sets.current();
                    chosen.insert(members.leader(slot));
                }
                NodeRef::All => chosen.extend(0..nodes),
                NodeRef::Any | NodeRef::Others => {}
            }
        }
        for _ in named.iter().filter(|name| **name == NodeRef::Any) {
            let free: Vec<u8> = (0..nodes).filter(|node| !chosen.contains(node)).collect();
            if let Some(node) = free.get(draws.below(free.len() as u64) as usize) {
                chosen.insert(*node);
            }
        }
        if named.contains(&NodeRef::Others) {
            (0..nodes).filter(|node| !chosen.contains(node)).collect()
        } else {
            chosen
        }
    }

    /// Marks authorities, from 0, that stay down when everything heals.
    pub fn leave_dead(&self, nodes: impl Iterator<Item = u8>) {
        lock(&self.recovery).left_dead.extend(nodes);
    }

    /// Confirms the clocks of all nodes, as operators do, while fewer than q - 1 of the core may
    /// vote. With fewer voters no node can confirm a clock that has jumped, so the protocol leaves
    /// the confirmation to the operators. With enough voters the nodes recover without help.
    pub async fn confirm_clocks(self, core: Vec<u8>) {
        for _ in 0..OPERATOR_TURNS {
            time::sleep(OPERATOR_INTERVAL).await;
            let members = self.judge.look().sets.current();
            let needed = members.quorum().saturating_sub(1);
            let votes = |node: &&u8| {
                let judge = self.judge.look();
                let said = judge.summaries.get(*node);
                members.has(**node) && said.is_some_and(|said| !said.silent)
            };
            if core.iter().filter(votes).count() >= needed {
                continue;
            }
            self.count("operator.confirmed-clocks");
            for index in 0..self.authorities.len() as u8 {
                // A node that is busy or starting gets the confirmation in the next round.
                let node = self.living.find(index);
                if node.is_some_and(|node| node.confirm_clock()) {
                    self.judge.look().clocks.confirmed(index);
                }
            }
        }
    }

    /// Ends the chaos: repairs everything except the machines that stay down.
    pub fn heal(&self) {
        let now = now_ms(self.world);
        lock(&self.recovery).healed_ms = Some(now);
        lock(&self.reactions).clear();
        lock(&self.orders).clear();
        lock(&self.images).clear();
        lock(&self.active).clear();
        lock(&self.cut_links).clear();
        lock(&self.settings).clear();
        lock(&self.processes).heal(now);
        self.links().heal();
        self.living.heal();
        for repeater in self.repeaters.values() {
            repeater.heal();
        }
        self.heal_execution();
        for authority in &self.authorities {
            let stays_dead = lock(&self.recovery).left_dead.contains(&authority.index);
            for machine in authority.machines() {
                self.heal_machine(authority, machine, stays_dead);
            }
        }
    }

    fn heal_machine(&self, authority: &Authority, machine: NodeId, stays_dead: bool) {
        let world = self.world;
        world.set_clock_drift(machine, 0);
        world.set_clock_offset(machine, 0);
        world.heal_disk(machine);
        world.resume(machine);
        if self.replace_lying_disk(machine) && machine == authority.node {
            self.judge.look().disk_replaced(authority.index);
        }
        if stays_dead {
            lock(&self.processes).keep_down(machine);
            world.kill(machine);
        } else if !world.is_up(machine) {
            self.restart(machine);
        }
    }

    /// The counters of all kinds of faults, including those of the repeaters.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = lock(&self.counts).clone();
        for (what, times) in self.repeaters.values().flat_map(|one| one.counts()) {
            *counts.entry(what).or_default() += times;
        }
        counts
    }
}
