//! Plans drawn from seeds. Each seed enables a few kinds of faults, so that rare combinations get
//! their own runs. World, faults and workload draw from separate random streams.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use alys_node::wiring::table::ACTORS;
use alys_runtime::sim::Rng;
use alys_types::FaultModel;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, EnumAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use super::Plan;
use crate::faults::{
    self, Actor, ActorFail, ActorFailOften, Change, ChangeFederation, CrashAgain, Draw, Drawing,
    ExecutionRefuses, Fault, KnownName, Machine, Rot, Step, Stop, Wipe,
};
use crate::params::{
    Behaviour, Byzantine, Conduct, FirstStart, LimitsPlan, LinkPlan, MAX_DATA, MinerConduct,
    MinerPlan, Ms, NodeRef, POOL, Stranger, When, WorldPlan,
};

/// Faults drawn from the seed, in addition to the steps of the file: the `[swarm]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// Minimum number of faults.
    pub least: u8,
    /// Maximum number of faults.
    pub most: u8,
    /// Drawings to choose from; all of them by default.
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// Draws the world too: nodes, fault model, slots, links, a forger, nodes that stay down.
    /// Without a selection of `kinds`, some plans then also get a sequence of related faults.
    #[serde(default)]
    pub draw_world: bool,
}

impl Swarm {
    /// Checks the limits of the number of faults.
    ///
    /// # Errors
    /// A message that names both numbers.
    pub fn check(&self) -> Result<(), String> {
        if self.least > self.most || self.most > 100 {
            return Err(format!(
                "least must not exceed most, and most must not exceed 100: {} and {}",
                self.least, self.most
            ));
        }
        Ok(())
    }
}

/// A kind of fault or group of faults by name, one of the drawings of [`crate::faults`].
#[derive(Debug, Clone, Copy)]
pub struct Kind(&'static Drawing);

impl Kind {
    /// All kinds in order of their numbers. The generator draws by index, so the order is part of
    /// every seed's plan.
    pub fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<Kind>> = LazyLock::new(|| {
            let mut all: Vec<Kind> = faults::kinds()
                .flat_map(|kind| kind.drawings)
                .map(Kind)
                .collect();
            all.sort_by_key(|kind| kind.0.number);
            all
        });
        &ALL
    }

    /// Returns the kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().iter().find(|kind| kind.0.name == name).copied()
    }

    fn names() -> &'static [&'static str] {
        static NAMES: LazyLock<Vec<&'static str>> =
            LazyLock::new(|| Kind::all().iter().map(|kind| kind.0.name).collect());
        &NAMES
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Kind", Self::names(), KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a kind of trouble")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Kind, A::Error> {
        let (name, rest) = data.variant_seed(KnownName(Kind::names()))?;
        rest.unit_variant()?;
        Kind::named(name).ok_or_else(|| de::Error::unknown_variant(name, Kind::names()))
    }
}

impl JsonSchema for Kind {
    fn schema_name() -> Cow<'static, str> {
        "Kind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let kind = |kind: &Self| json!({ "const": kind.0.name, "description": kind.0.sentence });
        json_schema!({
            "description": "A drawing of the generator: one fault, or several related ones.",
            "oneOf": Self::all().iter().map(kind).collect::<Vec<_>>(),
        })
    }
}

/// Share of generated worlds with `buggify`, in parts per million; the others must work without it.
const BUGGIFY_PPM: u32 = 800_000;
/// One generated world in this many has small mailboxes.
const SMALL_MAILBOXES_ONE_IN: u64 = 3;
/// One generated world in this many has small limits.
const SMALL_LIMITS_ONE_IN: u64 = 3;
/// One generated world in this many changes its federation, if it tolerates a vacant seat.
const CHANGING_ONE_IN: u64 = 5;
/// One generated world in this many has strangers that attack.
const STRANGERS_ONE_IN: u64 = 12;
/// One generated world in this many has authorities that others do not know by address, if no other
/// peer needs a place and no message is lost on purpose.
const UNLISTED_ONE_IN: u64 = 2;
/// One generated world in this many has watchers.
const WATCHERS_ONE_IN: u64 = 4;
/// One generated world in this many has a loyal user.
const LOYAL_ONE_IN: u64 = 3;
/// One generated world in this many has a leader that alters orders, if no other node is faulty.
const ALTERED_ORDERS_ONE_IN: u64 = 12;
/// One generated world in this many has faults at first starts.
const FIRST_STARTS_ONE_IN: u64 = 6;
/// Changing disk operations of a first start, about.
const FIRST_OPERATIONS: u64 = 50;
/// The operations among them that write the vote state and remove the marker of the fresh key.
const VOTES_FROM: u64 = 31;
const VOTES_OPERATIONS: u64 = 10;
/// One generated world in this many has small queues of events.
const SMALL_QUEUES_ONE_IN: u64 = 5;
/// One generated world in this many has an execution client that refuses fork choices apart.
const REFUSALS_ONE_IN: u64 = 12;
/// One generated world in this many has miners.
const MINERS_ONE_IN: u64 = 2;
/// One generated world with miners in this many has a gate.
const GATE_ONE_IN: u64 = 2;
/// One generated world with miners in this many has a leader that alters proofs, if no other node
/// is faulty.
const ALTERED_WORK_ONE_IN: u64 = 4;
/// Slots before the first fault, in which nodes connect and the first blocks become final.
const CALM_SLOTS: u64 = 5;

/// Draws the plan of a seed.
pub fn draw(plan: &Plan, swarm: &Swarm, seed: u64) -> Plan {
    let mut plan = plan.clone();
    if swarm.draw_world {
        draw_world(&mut plan, &mut Rng::derive(seed, "plan world"));
        plan.world.buggify = Rng::derive(seed, "plan buggify").chance(BUGGIFY_PPM);
        draw_workload(&mut plan, &mut Rng::derive(seed, "plan workload"));
        let mut rng = Rng::derive(seed, "plan federation");
        draw_federation(&mut plan, &mut rng, swarm.kinds.is_empty());
    }
    if swarm.draw_world {
        // Their own streams, so that the rest of each seed's plan does not depend on these
        // drawings.
        draw_surroundings(&mut plan, &mut Rng::derive(seed, "plan surroundings"));
        draw_strangers(&mut plan, &mut Rng::derive(seed, "plan strangers"));
        draw_mailboxes(&mut plan, &mut Rng::derive(seed, "plan mailboxes"));
        draw_watchers(&mut plan, &mut Rng::derive(seed, "plan watchers"));
        draw_limits(&mut plan, &mut Rng::derive(seed, "plan limits"));
        draw_loyal(&mut plan, &mut Rng::derive(seed, "plan loyal"));
        let with_faults = swarm.kinds.is_empty();
        draw_rarities(
            &mut plan,
            &mut Rng::derive(seed, "plan rarities"),
            with_faults,
        );
        draw_queues(&mut plan, &mut Rng::derive(seed, "plan queues"));
        draw_addresses(&mut plan, &mut Rng::derive(seed, "plan addresses"));
        draw_altered_orders(
            &mut plan,
            &mut Rng::derive(seed, "plan altered orders"),
            with_faults,
        );
        draw_first_starts(&mut plan, &mut Rng::derive(seed, "plan first starts"));
        draw_refusals(
            &mut plan,
            &mut Rng::derive(seed, "plan refusals"),
            with_faults,
        );
    }
    if swarm.draw_world {
        draw_miners(&mut plan, &mut Rng::derive(seed, "plan miners"));
    }
    let mut rng = Rng::derive(seed, "plan faults");
    let known: &[Kind] = if swarm.kinds.is_empty() {
        Kind::all()
    } else {
        &swarm.kinds
    };
    // Few kinds per plan, because a mixture of all hides failures that a combination of a few
    // causes.
    let most = (known.len() as u64).min(6);
    let kinds: Vec<Kind> = (0..1 + rng.below(most))
        .map(|_| known[rng.below(known.len() as u64) as usize])
        .collect();
    let count = u64::from(swarm.least) + rng.below(u64::from(swarm.most - swarm.least) + 1);
    let slots = (plan.until_ms / plan.world.slot_ms).max(CALM_SLOTS + 2);
    for _ in 0..count {
        let kind = kinds[rng.below(kinds.len() as u64) as usize];
        let slot = CALM_SLOTS + rng.below(slots - CALM_SLOTS - 1);
        let mut draw = Draw::new(&plan.world, slot, &mut rng, &mut plan.steps);
        (kind.0.draw)(&mut draw);
    }
    plan.without_late_steps()
}

fn draw_world(plan: &mut Plan, rng: &mut Rng) {
    let world = &mut plan.world;
    let (nodes, fault_model) = match rng.below(10) {
        0..=5 => (4, FaultModel::Byzantine),
        6 | 7 => (3, FaultModel::Crash),
        8 => (5, FaultModel::Crash),
        _ => (7, FaultModel::Byzantine),
    };
    (world.nodes, world.fault_model) = (nodes, fault_model);
    world.slot_ms = [1_000, 1_000, 1_500, 2_000][rng.below(4) as usize];
    world.drift_ms = world.slot_ms / 4;
    // Keeps the number of slots constant for every slot length.
    plan.until_ms = plan.until_ms * world.slot_ms / 1_000;
    world.link = match rng.below(4) {
        0 => LinkPlan {
            latency_ms: 1,
            jitter_ms: 1,
            ..LinkPlan::default()
        },
        1 => LinkPlan {
            latency_ms: 40,
            jitter_ms: 30,
            ..LinkPlan::default()
        },
        2 => LinkPlan {
            loss_ppm: 3_000,
            ..LinkPlan::default()
        },
        _ => LinkPlan::default(),
    };
    let number = |rng: &mut Rng| 1 + rng.below(u64::from(nodes)) as u8;
    // Short enough for a node to rejoin within the run after it lost its vote state, long enough to
    // exceed the drift of clocks.
    world.rejoin_margin = 6 + rng.below(20);
    match rng.below(8) {
        0 if fault_model == FaultModel::Byzantine => world.forger = Some(number(rng)),
        1 => world.left_dead = vec![number(rng)],
        2..=4 if fault_model == FaultModel::Byzantine => {
            let first = number(rng);
            let count = 1 + rng.below(world.tolerated() as u64) as u8;
            world.byzantine = (0..count)
                .map(|turn| {
                    let conduct = Conduct::ALL[rng.below(Conduct::DRAWN as u64) as usize].0;
                    Byzantine {
                        node: 1 + (first - 1 + turn) % nodes,
                        conduct,
                    }
                })
                .collect();
        }
        _ => {}
    }
    plan.workload.users = rng.below(4) as u8;
    plan.workload.burst = 1 + rng.below(5) as u8;
    plan.workload.pause_ms = 200 + rng.below(1_500);
    plan.world.light_client = rng.below(6) == 0;
}

/// Draws candidates, and the replacement of an authority, in one of [`CHANGING_ONE_IN`] worlds, if
/// a federation with a vacant seat tolerates the faulty authorities. Without `with_faults` no
/// change is ordered, but the world is drawn the same.
fn draw_federation(plan: &mut Plan, rng: &mut Rng, with_faults: bool) {
    let is_changing = rng.below(CHANGING_ONE_IN) == 0;
    let candidates = 1 + rng.below(2) as u8;
    let world = WorldPlan {
        nodes: plan.world.nodes + candidates,
        candidates,
        governance: true,
        ..plan.world.clone()
    };
    let faulty = world.suspects().len() + world.left_dead.len();
    if !is_changing || faulty > world.tolerated() {
        return;
    }
    plan.world = world;
    // Early, so that the change takes effect before the end.
    let slot = CALM_SLOTS + rng.below(4);
    let mut draw = Draw::new(&plan.world, slot, rng, &mut plan.steps);
    if let Some(replace) = Kind::named("replaced-authority").filter(|_| with_faults) {
        (replace.0.draw)(&mut draw);
    }
}

/// Draws flooding and stalling peers, and the TCP timeout of machines.
fn draw_surroundings(plan: &mut Plan, rng: &mut Rng) {
    plan.world.greedy_peers = rng.below(20) == 0;
    // Below the nodes' own timeout for connections, so that this one expires first.
    plan.world.tcp_timeout = (rng.below(8) == 0).then(|| Ms(500 + rng.below(3_000)));
    plan.world.silent_peers = rng.below(20) == 0;
}

/// Draws small capacities of mailboxes, of about half of the actors, in one of
/// [`SMALL_MAILBOXES_ONE_IN`] worlds.
fn draw_mailboxes(plan: &mut Plan, rng: &mut Rng) {
    let is_small = rng.below(SMALL_MAILBOXES_ONE_IN) == 0;
    for actor in ACTORS.iter().filter(|_| is_small) {
        let least = actor.least_mailbox;
        let messages = [least, least + 1, 2 * least][rng.below(3) as usize];
        if rng.below(2) == 0 && messages < actor.mailbox {
            plan.world.mailboxes.insert(actor.name.to_owned(), messages);
        }
    }
}

/// Draws one or two watchers in one of [`WATCHERS_ONE_IN`] worlds.
fn draw_watchers(plan: &mut Plan, rng: &mut Rng) {
    if rng.below(WATCHERS_ONE_IN) == 0 {
        plan.workload.watchers = 1 + rng.below(2) as u8;
    }
}

/// Draws one small limit in one of [`SMALL_LIMITS_ONE_IN`] worlds, with users who meet it. A
/// Byzantine authority does not know the limit of ranges, so its answers would be too long.
fn draw_limits(plan: &mut Plan, rng: &mut Rng) {
    let is_small = rng.below(SMALL_LIMITS_ONE_IN) == 0;
    let drawn = rng.below(4);
    let uncertified = [4, 4, 6, 8][rng.below(4) as usize];
    if !is_small {
        return;
    }
    let limits = &mut plan.world.limits;
    match drawn {
        0 | 1 => limits.uncertified = Some(uncertified),
        2 => limits.pending = Some(*LimitsPlan::PENDING.start()),
        _ if plan.world.byzantine.is_empty() => {
            limits.range = Some(*LimitsPlan::RANGE.start());
            plan.workload.block_gas = LimitsPlan::RANGE_GAS;
            plan.workload.data = MAX_DATA;
            plan.workload.users = plan.workload.users.max(2);
        }
        _ => {}
    }
}

/// Draws a loyal user in one of [`LOYAL_ONE_IN`] worlds, and pools that users never fill, in which
/// its transactions stay.
fn draw_loyal(plan: &mut Plan, rng: &mut Rng) {
    if rng.below(LOYAL_ONE_IN) == 0 {
        let workload = &mut plan.workload;
        workload.loyal = 1;
        workload.users = workload.users.max(1);
        workload.pool = *POOL.end();
    }
}

/// Draws miners in one of [`MINERS_ONE_IN`] worlds: the first submits valid proofs. Some of these
/// worlds have a gate, which closes while faults cut the miners off, short ranges, or a leader that
/// alters proofs.
fn draw_miners(plan: &mut Plan, rng: &mut Rng) {
    if rng.below(MINERS_ONE_IN) != 0 {
        return;
    }
    let slot_ms = plan.world.slot_ms;
    let mut most = 0;
    for index in 0..1 + rng.below(3) {
        let conduct = loop {
            let conduct = MinerConduct::ALL[rng.below(MinerConduct::ALL.len() as u64) as usize];
            if index > 0 || conduct.is_valid() {
                break conduct;
            }
        };
        let slots = 1 + rng.below(8);
        if index == 0 {
            most = slots;
        }
        plan.workload.miners.push(MinerPlan {
            every: Ms(slots * slot_ms),
            silent_from: Some(Ms((4 + rng.below(8)) * slot_ms)),
            silent_for: Some(Ms((5 + rng.below(20)) * slot_ms)),
            ..MinerPlan::of(conduct)
        });
    }
    let has_gate = rng.below(GATE_ONE_IN) == 0;
    let gate = 3 * most + rng.below(20);
    if has_gate {
        plan.world.gate = gate;
    }
    let range = [gate as u32 + 2, WorldPlan::USUAL_RANGE][rng.below(2) as usize];
    plan.world.pow_range = (range < WorldPlan::USUAL_RANGE).then_some(range);
    let is_altered = rng.below(ALTERED_WORK_ONE_IN) == 0;
    let node = 1 + rng.below(u64::from(plan.world.nodes)) as u8;
    let world = &mut plan.world;
    let has_faulty = !world.suspects().is_empty() || !world.left_dead.is_empty();
    let may_be = world.fault_model == FaultModel::Byzantine && world.tolerated() > 0;
    let has_addresses = !world.unlisted.is_empty() || world.crowd > 0;
    if is_altered && may_be && !has_faulty && !has_addresses && !world.governance {
        let conduct = Conduct::AlterWork;
        world.byzantine = vec![Byzantine { node, conduct }];
    }
}

/// Draws an attack of strangers in one of [`STRANGERS_ONE_IN`] worlds. Dust fills the pool of the
/// client that receives it, in which users need room, so it is for scenarios only.
fn draw_strangers(plan: &mut Plan, rng: &mut Rng) {
    if rng.below(STRANGERS_ONE_IN) != 0 {
        return;
    }
    let stranger = Stranger::ALL[rng.below(Stranger::DRAWN as u64) as usize];
    let is_possible = match stranger {
        Stranger::Idle
        | Stranger::Vanish
        | Stranger::Certificates
        | Stranger::Forgeries
        | Stranger::OtherChain => true,
        Stranger::Dust | Stranger::HangUp | Stranger::OldFinality => false,
        Stranger::Votes => plan.world.forger.is_some(),
    };
    if is_possible {
        plan.world.strangers.push(stranger);
    }
}

/// Draws a small queue between the network and the node, and copies of messages, in one of
/// [`SMALL_QUEUES_ONE_IN`] worlds whose federation stays: more gossip would cost strangers their
/// places. Where messages find no room on purpose, a copy follows soon.
fn draw_queues(plan: &mut Plan, rng: &mut Rng) {
    let is_drawn = rng.below(SMALL_QUEUES_ONE_IN) == 0;
    let events = [4, 16, 64][rng.below(3) as usize];
    let again = Ms(1 + rng.below(150));
    if is_drawn && !plan.world.governance {
        plan.world.queued_events = Some(events);
        plan.world.publish_again = Some(again);
    }
}

/// Draws refusals of an execution client that are apart, in one of [`REFUSALS_ONE_IN`] worlds
/// without anything else that makes a node slow on purpose. Some end with the first call, others
/// with the last of a slot.
fn draw_refusals(plan: &mut Plan, rng: &mut Rng, with_faults: bool) {
    let is_drawn = rng.below(REFUSALS_ONE_IN) == 0;
    let node = NodeRef::Number(1 + rng.below(u64::from(plan.world.nodes)) as u8);
    let slots = plan.until_ms / plan.world.slot_ms;
    let mut slot = CALM_SLOTS + rng.below(4);
    if !is_drawn {
        return;
    }
    plan.world.buggify = false;
    if !with_faults {
        return;
    }
    while slot + 2 < slots {
        let count = 1 + rng.below(4) as u32;
        plan.steps.push(Step {
            at: When::Slot(slot, 0),
            for_ms: Some(plan.world.slot_ms),
            nodes: vec![node],
            fault: ExecutionRefuses { count }.into(),
        });
        slot += 2 + rng.below(3);
    }
}

/// Draws authorities that others do not know by address, and strangers that take all places. A
/// message that is lost on purpose, or finds a full mailbox, may cost such an authority its place
/// for a while; others without a proof of a key never get one.
fn draw_addresses(plan: &mut Plan, rng: &mut Rng) {
    let world = &mut plan.world;
    let nodes = u64::from(world.nodes);
    let is_drawn = rng.below(UNLISTED_ONE_IN) == 0;
    let first = rng.below(nodes);
    let count = 1 + rng.below(2);
    let crowd = [0, 4, 8][rng.below(3) as usize];
    let has_others = world.light_client || world.greedy_peers || world.silent_peers;
    let has_attackers = !world.strangers.is_empty() || !world.suspects().is_empty();
    let has_small_queues = !world.mailboxes.is_empty() || world.queued_events.is_some();
    let loses_messages = world.buggify || has_small_queues;
    if !is_drawn || has_others || has_attackers || loses_messages || world.governance {
        return;
    }
    let numbers = (0..count).map(|turn| 1 + (first + turn) % nodes);
    world.unlisted = numbers.map(|number| number as u8).collect();
    world.crowd = crowd;
    world.places = (crowd > 0).then_some(2);
}

/// Draws a Byzantine leader that alters the orders of governance, and an order for it, in one of
/// [`ALTERED_ORDERS_ONE_IN`] worlds: the smallest federation that tolerates it beside a vacant
/// seat, and a candidate. Without `with_faults` no change is ordered, but the world is drawn the
/// same.
fn draw_altered_orders(plan: &mut Plan, rng: &mut Rng, with_faults: bool) {
    let is_drawn = rng.below(ALTERED_ORDERS_ONE_IN) == 0;
    let node = 1 + rng.below(4) as u8;
    let is_told_alone = rng.below(2) == 0;
    let world = &mut plan.world;
    let has_addresses = !world.unlisted.is_empty() || world.crowd > 0;
    let has_faulty = !world.suspects().is_empty() || !world.left_dead.is_empty();
    let is_other = world.governance || world.fault_model != FaultModel::Byzantine;
    if !is_drawn || has_addresses || has_faulty || is_other || world.nodes != 4 {
        return;
    }
    (world.nodes, world.candidates, world.governance) = (6, 1, true);
    let conduct = Conduct::AlterOrders;
    world.byzantine = vec![Byzantine { node, conduct }];
    if with_faults {
        let nodes = if is_told_alone {
            vec![NodeRef::Number(node)]
        } else {
            vec![NodeRef::All]
        };
        let order = ChangeFederation {
            change: Change::Add,
            authority: 6,
            ahead: 8,
        };
        plan.steps.push(Step {
            at: When::Slot(CALM_SLOTS, 0),
            for_ms: Some(0),
            nodes,
            fault: order.into(),
        });
    }
}

/// Draws faults at the first starts of one or two nodes in one of [`FIRST_STARTS_ONE_IN`] worlds:
/// half of them while the vote state is written and the marker of the fresh key is removed.
fn draw_first_starts(plan: &mut Plan, rng: &mut Rng) {
    let is_drawn = rng.below(FIRST_STARTS_ONE_IN) == 0;
    let nodes = u64::from(plan.world.nodes);
    let first = rng.below(nodes);
    for turn in 0..1 + rng.below(2) {
        let operation = match rng.below(2) {
            0 => 1 + rng.below(FIRST_OPERATIONS),
            _ => VOTES_FROM + rng.below(VOTES_OPERATIONS),
        };
        let fails = rng.below(3) == 0;
        if is_drawn {
            plan.world.first_starts.push(FirstStart {
                node: 1 + ((first + turn) % nodes) as u8,
                operation,
                fails,
            });
        }
    }
}

/// Draws rare sequences of several faults on one node, which independent faults seldom produce.
/// Without `with_faults` the sequences are dropped, but the world is drawn the same.
fn draw_rarities(plan: &mut Plan, rng: &mut Rng, with_faults: bool) {
    let slot_ms = plan.world.slot_ms;
    let nodes = vec![NodeRef::Number(
        1 + rng.below(u64::from(plan.world.nodes)) as u8,
    )];
    let slots = (plan.until_ms / slot_ms)
        .saturating_sub(CALM_SLOTS + 10)
        .max(1);
    let slot = CALM_SLOTS + rng.below(slots);
    let mut push = |slot: u64, offset_ms: u64, for_ms: u64, fault: Fault| {
        if with_faults {
            plan.steps.push(Step {
                at: When::Slot(slot, offset_ms),
                for_ms: Some(for_ms),
                nodes: nodes.clone(),
                fault,
            });
        }
    };
    let machine = Machine::Node;
    match rng.below(24) {
        // A power failure while a new store is created.
        0 => {
            push(slot, 0, slot_ms / 2, Wipe { machine }.into());
            let again = CrashAgain {
                machine,
                power: true,
                within: Ms(slot_ms),
                operations: 2 + rng.below(8),
                times: 4,
            };
            push(slot, slot_ms / 4, 0, again.into());
        }
        // Stored blocks rot while the node is stopped, and flooding peers then read all of them.
        1 => {
            let bits = [8, 16, 32][rng.below(3) as usize];
            push(slot, 0, 2 * slot_ms, Stop::of_node().into());
            push(slot + 1, 0, 8 * slot_ms, Rot { machine, bits }.into());
            plan.world.greedy_peers = true;
        }
        // More consecutive failures than the breaker allows.
        2 => {
            for turn in 0..5 {
                let at_ms = turn * 1_800;
                let fail = ActorFail {
                    actor: Actor::Engine,
                    spread: Ms(0),
                };
                push(slot + at_ms / slot_ms, at_ms % slot_ms, 0, fail.into());
            }
        }
        // More failures than a supervisor tolerates, and another one after the restart of its tree.
        3 => {
            let actor = Actor::Storage;
            let every = Ms(3_200);
            for turn in 0..6 {
                let often = ActorFailOften { actor, every };
                push(CALM_SLOTS, 530 * turn, 16_000, often.into());
            }
            let fail = ActorFail {
                actor,
                spread: Ms(slot_ms),
            };
            push(CALM_SLOTS + 18_000 / slot_ms, 0, 0, fail.into());
        }
        _ => {}
    }
}

/// Draws the users' behaviours, the size of the pool and the gas limit of blocks.
fn draw_workload(plan: &mut Plan, rng: &mut Rng) {
    let workload = &mut plan.workload;
    workload.behaviours = match rng.below(3) {
        0 => (0..4)
            .map(|_| Behaviour::ALL[rng.below(Behaviour::ALL.len() as u64) as usize])
            .collect(),
        _ => Behaviour::usual(),
    };
    workload.pool = [32, 64, 64, 10_240][rng.below(4) as usize];
    workload.block_gas = [2_000_000, 30_000_000][rng.below(2) as usize];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::format;
    use std::collections::BTreeSet;

    fn mixed(seed: u64) -> Plan {
        format::load("mixed").expect("the file is there").plan(seed)
    }

    #[test]
    fn a_seed_is_a_plan() {
        for seed in 0..50 {
            assert_eq!(mixed(seed), mixed(seed));
        }
        let plans: Vec<Plan> = (0..50).map(mixed).collect();
        let different = plans
            .iter()
            .enumerate()
            .all(|(i, plan)| plans[..i].iter().all(|other| other != plan));
        assert!(different, "no two seeds give the same plan");
    }

    #[test]
    fn drawn_worlds_can_survive() {
        for seed in 0..500 {
            let plan = mixed(seed);
            let world = &plan.world;
            assert_eq!(format::check(&plan, None), Ok(()), "seed {seed}");
            assert!(
                world.left_dead.len() + world.suspects().len() <= world.tolerated(),
                "seed {seed}"
            );
            for step in &plan.steps {
                assert!(
                    step.for_ms.is_some() && !step.nodes.is_empty(),
                    "seed {seed}: {step}"
                );
                let When::Slot(slot, _) = step.at else {
                    panic!("seed {seed}: {step}")
                };
                assert!(slot >= CALM_SLOTS, "seed {seed}: {step}");
            }
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let scenario = format::load("mixed").expect("the file is there");
        // Lists all kinds explicitly, because an empty list also enables the rare sequences.
        let swarm = Swarm {
            kinds: Kind::all().to_vec(),
            ..scenario.swarm.expect("it is a swarm")
        };
        let plans = (0..500).map(|seed| draw(&scenario.plan, &swarm, seed));
        let drawn: BTreeSet<&str> = plans
            .flat_map(|plan| plan.steps.into_iter().map(|step| step.fault.name()))
            .collect();
        for kind in faults::kinds() {
            assert!(drawn.contains(kind.name), "{} is never drawn", kind.name);
        }
    }

    #[test]
    fn authorities_without_known_addresses_and_crowds_are_drawn() {
        let worlds = || (0..2_000).map(|seed| mixed(seed).world);
        assert!(worlds().any(|world| !world.unlisted.is_empty() && world.crowd == 0));
        assert!(worlds().any(|world| world.unlisted.len() == 2 && world.crowd > 0));
    }

    #[test]
    fn faults_at_first_starts_are_drawn() {
        let firsts: Vec<FirstStart> = (0..500)
            .flat_map(|seed| mixed(seed).world.first_starts)
            .collect();
        let is_of_votes = |first: &&FirstStart| (34..=39).contains(&first.operation);
        assert!(firsts.iter().filter(is_of_votes).any(|first| first.fails));
        assert!(firsts.iter().filter(is_of_votes).any(|first| !first.fails));
        assert!(firsts.iter().any(|first| first.operation < VOTES_FROM));
    }

    #[test]
    fn every_conduct_is_drawn() {
        let drawn: BTreeSet<Conduct> = (0..500)
            .flat_map(|seed| {
                mixed(seed)
                    .world
                    .byzantine
                    .into_iter()
                    .map(|one| one.conduct)
            })
            .collect();
        // Those of every world, and those of worlds with orders and with miners.
        assert_eq!(drawn.len(), Conduct::DRAWN + 2, "{drawn:?}");
    }

    #[test]
    fn every_conduct_of_miners_and_gates_are_drawn() {
        let plans: Vec<Plan> = (0..300).map(mixed).collect();
        let miners = plans.iter().flat_map(|plan| &plan.workload.miners);
        let drawn: BTreeSet<MinerConduct> = miners.map(|miner| miner.conduct).collect();
        assert_eq!(drawn.len(), MinerConduct::ALL.len(), "{drawn:?}");
        let has = |of: fn(&Plan) -> bool| plans.iter().filter(|plan| of(plan)).count();
        assert!(has(|plan| plan.workload.miners.is_empty()) > 100);
        assert!(has(|plan| plan.world.gate > 0) > 30);
        assert!(has(|plan| plan.world.pow_range.is_some()) > 30);
    }

    #[test]
    fn every_limit_is_drawn_small() {
        let worlds: Vec<WorldPlan> = (0..200).map(|seed| mixed(seed).world).collect();
        let has = |of: fn(&LimitsPlan) -> Option<usize>| {
            let small = worlds.iter().filter(|world| of(&world.limits).is_some());
            small.count()
        };
        assert!(has(|limits| limits.uncertified) > 10);
        assert!(has(|limits| limits.range) > 3);
        assert!(has(|limits| limits.pending) > 3);
    }

    #[test]
    fn small_queues_and_refusals_apart_are_drawn() {
        let plans: Vec<Plan> = (0..200).map(mixed).collect();
        let has_queues = |plan: &Plan| {
            let world = &plan.world;
            world.queued_events.is_some() && world.publish_again.is_some()
        };
        assert!(plans.iter().any(has_queues));
        let refusals = |plan: &Plan| {
            let names = plan.steps.iter().map(|step| step.fault.name());
            names.filter(|name| *name == "execution-refuses").count()
        };
        let is_refused_often = |plan: &Plan| !plan.world.buggify && refusals(plan) > 4;
        assert!(plans.iter().any(is_refused_often));
    }

    #[test]
    fn the_world_does_not_depend_on_the_faults() {
        let scenario = format::load("mixed").expect("the file is there");
        let swarm = scenario.swarm.expect("it is a swarm");
        let fewer = Swarm {
            kinds: Kind::named("reset").into_iter().collect(),
            most: 3,
            ..swarm.clone()
        };
        for seed in 0..50 {
            let all = draw(&scenario.plan, &swarm, seed);
            let few = draw(&scenario.plan, &fewer, seed);
            assert_eq!((all.world, all.workload), (few.world, few.workload));
        }
    }

    #[test]
    fn drawings_are_numbered_without_gaps_and_named_once() {
        let numbers: Vec<usize> = Kind::all().iter().map(|kind| kind.0.number).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
        let names: BTreeSet<&str> = Kind::names().iter().copied().collect();
        assert_eq!(names.len(), numbers.len());
    }
}
