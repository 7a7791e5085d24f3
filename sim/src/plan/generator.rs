//! Plans drawn from seeds. Each seed switches on some kinds of faults and leaves the others out, so that rare combinations
//! get runs of their own; world, faults and workload draw from separate streams.

use alys_runtime::sim::Rng;
use alys_types::FaultModel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::faults::{Actor, Fault, Machine, Step, Vote, Way};
use crate::params::Behaviour;
use crate::params::{Byzantine, Conduct, LinkPlan, Ms, NodeRef, SignedMs, When};
use crate::plan::Plan;

/// What is drawn besides the steps of the file: the `[swarm]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// Least number of faults.
    pub least: u8,
    /// Most.
    pub most: u8,
    /// The kinds to choose from; all when absent.
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// Whether the world is drawn too: nodes, fault model, slots, links, a forger, nodes that stay dead. With all kinds to
    /// choose from, some plans then get a few faults more that belong together.
    #[serde(default)]
    pub draw_world: bool,
}

impl Swarm {
    /// Whether the numbers make sense.
    pub fn check(&self) -> Result<(), String> {
        if self.least > self.most || self.most > 100 {
            return Err(format!(
                "least must be at most most, and most at most 100: {} and {}",
                self.least, self.most
            ));
        }
        Ok(())
    }
}

/// Declares the kinds once, and lists them.
macro_rules! kinds {
    ($(#[$meta:meta])* pub enum Kind { $($(#[$doc:meta])* $kind:ident,)* }) => {
        $(#[$meta])*
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];
        }
    };
}

kinds! {
    /// A kind of trouble, as the generator knows it: one fault, or several that belong together.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    pub enum Kind {
        /// Fewer nodes than a quorum needs are cut off.
        MinorityPartition,
        /// No side has a quorum.
        MajorityPartition,
        /// A node hears nothing, or is not heard.
        OneWayPartition,
        /// The leader dies in its slot and is back in it.
        LeaderRestart,
        /// The leader and an approver die in one slot and are back in it.
        LeaderAndApprover,
        /// A node's machine loses its power for seconds.
        PowerLoss,
        /// Everybody loses power, one after the other.
        RollingPowerLoss,
        /// Links of some nodes are slow.
        SlowLinks,
        /// A clock is off by less than the drift allowance.
        SkewedClock,
        /// A clock steps by more than the drift allowance.
        SteppedClock,
        /// A clock drifts.
        Drift,
        /// Approvals are late.
        HeldApprovals,
        /// Confirmations are late.
        HeldConfirmations,
        /// The next leader does not learn of a certificate, and confirmations are late (S1).
        DeafLeader,
        /// An execution client's process dies.
        ClientCrash,
        /// An execution client's machine loses its power (S28).
        ClientPowerLoss,
        /// An execution client answers late.
        SlowClient,
        /// An execution client cannot be reached.
        CutClient,
        /// Syncs take long.
        SlowDisk,
        /// Syncs fail.
        FailingSyncs,
        /// The power goes in the middle of writing.
        PowerAtOperation,
        /// Connections are reset.
        Reset,
        /// A process stands still.
        Pause,
        /// A process is stopped in order.
        Stop,
        /// Nodes die as they vote.
        KillOnVote,
        /// Everybody loses power right after locking.
        AllPowerLost,
        /// Actors panic or fail.
        ActorCrash,
        /// Actors hang.
        ActorHang,
        /// Actors are slow.
        ActorSlow,
        /// Answers of actors are lost.
        LostReplies,
        /// Some of what is sent takes much longer.
        LatencySpike,
        /// Much is lost and sent again.
        Loss,
        /// What arrives within a window does so in any order.
        Reorder,
        /// Links are narrow.
        Squeeze,
        /// What nodes send or are sent is held back.
        Clog,
        /// Nodes are clogged one by one and released in another order.
        Swizzle,
        /// Nodes forget their connections.
        HalfOpen,
        /// Gossip arrives twice.
        DuplicateGossip,
        /// A clock steps over the edge of a slot and back.
        ClockEdge,
        /// A process dies while it recovers.
        CrashAgain,
        /// Everybody dies at one height.
        AllAtHeight,
        /// A disk is emptied.
        WipedDisk,
        /// A disk is emptied, and the clock is far behind at the start after it.
        StaleClockAfterWipe,
        /// A disk is put back to what it was.
        RestoredDisk,
        /// What a disk holds rots.
        RottenDisk,
        /// Writes end up elsewhere.
        MisdirectedWrites,
        /// Reads give what was there before.
        StaleReads,
        /// Reads fail.
        FailingReads,
        /// Writes fail.
        FailingWrites,
        /// A disk is full.
        FullDisk,
        /// An execution client is syncing.
        SyncingClient,
        /// An execution client calls valid payloads invalid.
        LyingClient,
        /// An execution client forgets fork choices.
        ForgetfulClient,
        /// An execution client takes long over its answers.
        LateClient,
        /// An execution client is asked twice, or hangs up.
        HangingUp,
        /// An execution client's clock is far off.
        ClientClock,
    }
}

/// Longest drawn wait of a slow actor: below what any of them may take over a message, so that it is slow and no more.
const MOST_SLOW_MS: u64 = 1_200;
/// How many of the drawn worlds have sites of `buggify` switched on, in a million: some have to be as usual.
const BUGGIFY_PPM: u32 = 800_000;
/// Slots in which nothing happens yet: nodes connect, and there are final blocks to lose.
const CALM_SLOTS: u64 = 5;

/// The plan of a seed.
pub fn draw(plan: &Plan, swarm: &Swarm, seed: u64) -> Plan {
    let mut plan = plan.clone();
    if swarm.draw_world {
        draw_world(&mut plan, &mut Rng::derive(seed, "plan world"));
        plan.world.buggify = Rng::derive(seed, "plan buggify").chance(BUGGIFY_PPM);
        draw_workload(&mut plan, &mut Rng::derive(seed, "plan workload"));
    }
    if swarm.draw_world {
        // From streams of their own: what they add leaves the rest of each seed's plan as it is.
        draw_surroundings(&mut plan, &mut Rng::derive(seed, "plan surroundings"));
        let with_faults = swarm.kinds.is_empty();
        draw_rarities(
            &mut plan,
            &mut Rng::derive(seed, "plan rarities"),
            with_faults,
        );
    }
    let mut rng = Rng::derive(seed, "plan faults");
    let known: &[Kind] = if swarm.kinds.is_empty() {
        Kind::ALL
    } else {
        &swarm.kinds
    };
    // Few kinds at a time: combinations of few show what the mixture of all hides.
    let most = (known.len() as u64).min(6);
    let kinds: Vec<Kind> = (0..1 + rng.below(most))
        .map(|_| known[rng.below(known.len() as u64) as usize])
        .collect();
    let count = u64::from(swarm.least) + rng.below(u64::from(swarm.most - swarm.least) + 1);
    let slots = (plan.until_ms / plan.world.slot_ms).max(CALM_SLOTS + 2);
    for _ in 0..count {
        let kind = kinds[rng.below(kinds.len() as u64) as usize];
        let slot = CALM_SLOTS + rng.below(slots - CALM_SLOTS - 1);
        let mut draw = Draw {
            plan: &mut plan,
            rng: &mut rng,
            slot,
        };
        draw.add(kind);
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
    // As many slots whatever their length.
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
    // Short enough that who loses its vote state votes again in this run, long enough for clocks to be apart.
    world.rejoin_margin = 6 + rng.below(20);
    match rng.below(8) {
        0 if fault_model == FaultModel::Byzantine => world.forger = Some(number(rng)),
        1 => world.left_dead = vec![number(rng)],
        2..=4 if fault_model == FaultModel::Byzantine => {
            let first = number(rng);
            let count = 1 + rng.below(world.tolerated() as u64) as u8;
            world.byzantine = (0..count)
                .map(|turn| {
                    let conduct = Conduct::ALL[rng.below(Conduct::ALL.len() as u64) as usize].0;
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

/// Strangers, and what machines do with silence.
fn draw_surroundings(plan: &mut Plan, rng: &mut Rng) {
    plan.world.greedy_peers = rng.below(20) == 0;
    // Below what nodes wait themselves for a connection.
    plan.world.tcp_timeout = (rng.below(8) == 0).then(|| Ms(500 + rng.below(3_000)));
    plan.world.silent_peers = rng.below(20) == 0;
}

/// What takes several faults of one node in a certain order, which the rest of the plan seldom has. The world is drawn the
/// same without the faults.
fn draw_rarities(plan: &mut Plan, rng: &mut Rng, with_faults: bool) {
    let slot_ms = plan.world.slot_ms;
    let nodes = vec![NodeRef::Number(
        1 + rng.below(u64::from(plan.world.nodes)) as u8,
    )];
    let slots = (plan.until_ms / slot_ms)
        .saturating_sub(CALM_SLOTS + 10)
        .max(1);
    let slot = CALM_SLOTS + rng.below(slots);
    let mut push = |slot: u64, offset: u64, for_ms: u64, fault| {
        let at = When::Slot(slot, offset);
        if with_faults {
            plan.steps.push(Step {
                at,
                for_ms: Some(for_ms),
                nodes: nodes.clone(),
                fault,
            });
        }
    };
    let machine = Machine::Node;
    match rng.below(24) {
        // The power goes while a new store is made.
        0 => {
            push(slot, 0, slot_ms / 2, Fault::Wipe { machine });
            let (within, operations) = (Ms(slot_ms), 2 + rng.below(8));
            let fault = Fault::CrashAgain {
                machine,
                power: true,
                within,
                operations,
                times: 4,
            };
            push(slot, slot_ms / 4, 0, fault);
        }
        // What is stored rots while nobody reads it, and somebody reads it all.
        1 => {
            let bits = [8, 16, 32][rng.below(3) as usize];
            push(slot, 0, 2 * slot_ms, Fault::Stop {});
            push(slot + 1, 0, 8 * slot_ms, Fault::Rot { machine, bits });
            plan.world.greedy_peers = true;
        }
        // More failures in a row than a breaker takes.
        2 => {
            for turn in 0..5 {
                let at = turn * 1_800;
                let fault = Fault::ActorFail {
                    actor: Actor::Engine,
                    spread: Ms(0),
                };
                push(slot + at / slot_ms, at % slot_ms, 0, fault);
            }
        }
        _ => {}
    }
}

/// Which behaviours users have, as often as chance has it, and how much room blocks and pools give them.
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

struct Draw<'a> {
    plan: &'a mut Plan,
    rng: &'a mut Rng,
    slot: u64,
}

impl Draw<'_> {
    fn push(&mut self, at: When, for_ms: u64, nodes: Vec<NodeRef>, fault: Fault) {
        self.plan.steps.push(Step {
            at,
            for_ms: Some(for_ms),
            nodes,
            fault,
        });
    }

    /// Somewhere in the slot.
    fn moment(&mut self) -> When {
        When::Slot(self.slot, self.rng.below(self.plan.world.slot_ms))
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.rng.below(most - least + 1)
    }

    fn slots(&mut self, least: u64, most: u64) -> u64 {
        let slot_ms = self.plan.world.slot_ms;
        self.between(least * slot_ms, most * slot_ms)
    }

    fn someone(&mut self) -> Vec<NodeRef> {
        match self.rng.below(4) {
            0 => vec![NodeRef::Leader(0)],
            1 => vec![NodeRef::Leader(1)],
            _ => vec![NodeRef::Any],
        }
    }

    fn machine(&mut self) -> Machine {
        [Machine::Node, Machine::Client, Machine::Both][self.rng.below(3) as usize]
    }

    fn flip(&mut self) -> bool {
        self.rng.below(2) == 0
    }

    fn add(&mut self, kind: Kind) {
        let slot_ms = self.plan.world.slot_ms;
        let tolerated = self.plan.world.tolerated();
        let moment = self.moment();
        let someone = self.someone();
        let some = self.slots(1, 8);
        match kind {
            Kind::MinorityPartition => {
                let nodes = vec![NodeRef::Any; tolerated.max(1)];
                let held = self.flip();
                self.push(
                    moment,
                    some,
                    nodes,
                    Fault::Partition {
                        way: Way::Both,
                        held,
                    },
                );
            }
            Kind::MajorityPartition => {
                let nodes =
                    vec![NodeRef::Any; (tolerated + 1).min(usize::from(self.plan.world.nodes) - 1)];
                let held = self.flip();
                self.push(
                    moment,
                    some,
                    nodes,
                    Fault::Partition {
                        way: Way::Both,
                        held,
                    },
                );
            }
            Kind::OneWayPartition => {
                let (way, held) = (if self.flip() { Way::In } else { Way::Out }, self.flip());
                self.push(moment, some, someone, Fault::Partition { way, held });
            }
            Kind::LeaderRestart => {
                let (at, down) = (self.between(0, slot_ms / 2), self.between(10, slot_ms / 2));
                let power = self.flip();
                let fault = Fault::Kill {
                    machine: Machine::Node,
                    power,
                };
                self.push(
                    When::Slot(self.slot, at),
                    down,
                    vec![NodeRef::Leader(0)],
                    fault,
                );
            }
            Kind::LeaderAndApprover => {
                let at = self.between(0, slot_ms / 2);
                for nodes in [vec![NodeRef::Leader(0)], vec![NodeRef::Leader(1)]] {
                    let (later, down) = (self.between(0, 100), self.between(10, slot_ms / 3));
                    let power = self.flip();
                    let fault = Fault::Kill {
                        machine: Machine::Node,
                        power,
                    };
                    self.push(When::Slot(self.slot, at + later), down, nodes, fault);
                }
            }
            Kind::PowerLoss => {
                let machine = self.machine();
                self.push(
                    moment,
                    some,
                    someone,
                    Fault::Kill {
                        machine,
                        power: true,
                    },
                );
            }
            Kind::RollingPowerLoss => {
                let machine = self.machine();
                for number in 1..=self.plan.world.nodes {
                    let down = self.between(100, 2 * slot_ms);
                    let at = When::Slot(self.slot + 2 * u64::from(number), self.rng.below(slot_ms));
                    self.push(
                        at,
                        down,
                        vec![NodeRef::Number(number)],
                        Fault::Kill {
                            machine,
                            power: true,
                        },
                    );
                }
            }
            Kind::SlowLinks => {
                let quality = Fault::SlowLinks {
                    delay: Ms(self.between(20, slot_ms / 2)),
                    jitter: Ms(self.between(0, slot_ms / 2)),
                    loss_ppm: [0, 0, 20_000, 100_000][self.rng.below(4) as usize],
                    kbytes_per_s: [0, 50, 500][self.rng.below(3) as usize],
                };
                self.push(moment, some, someone, quality);
            }
            Kind::SkewedClock => {
                let most = self.plan.world.drift_ms * 9 / 10;
                let ms = self.between(1, most) as i64;
                let ms = if self.flip() { ms } else { -ms };
                self.push(moment, some, someone, Fault::Clock { by: SignedMs(ms) });
            }
            Kind::SteppedClock => {
                let ms = self.between(self.plan.world.drift_ms, 5 * slot_ms) as i64;
                let ms = if self.flip() { ms } else { -ms };
                self.push(moment, some, someone, Fault::Clock { by: SignedMs(ms) });
            }
            Kind::Drift => {
                let ppm = self.between(0, 40_000) as i64 - 20_000;
                self.push(moment, some, someone, Fault::Drift { ppm });
            }
            Kind::HeldApprovals => {
                let fault = Fault::HoldVotes {
                    vote: Vote::Approval,
                    delay: Ms(self.between(50, 2 * slot_ms)),
                };
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, some, nodes, fault);
            }
            Kind::HeldConfirmations => {
                let fault = Fault::HoldVotes {
                    vote: Vote::Confirmation,
                    delay: Ms(self.between(50, 2 * slot_ms)),
                };
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, some, nodes, fault);
            }
            Kind::DeafLeader => self.add_deaf_leader(),
            Kind::ClientCrash | Kind::ClientPowerLoss => {
                let power = kind == Kind::ClientPowerLoss;
                let down = self.between(10, 3 * slot_ms);
                self.push(
                    moment,
                    down,
                    someone,
                    Fault::Kill {
                        machine: Machine::Client,
                        power,
                    },
                );
            }
            Kind::SlowClient => {
                let delay = Ms(self.between(5, slot_ms / 2));
                self.push(moment, some, someone, Fault::SlowClient { delay });
            }
            Kind::CutClient => self.push(moment, some, someone, Fault::CutClient {}),
            Kind::SlowDisk => {
                let (machine, delay) = (self.machine(), Ms(self.between(1, slot_ms / 3)));
                self.push(moment, some, someone, Fault::SlowDisk { machine, delay });
            }
            Kind::FailingSyncs => {
                let (machine, count) = (self.machine(), self.between(1, 4) as u32);
                self.push(moment, some, someone, Fault::FailSyncs { machine, count });
            }
            Kind::PowerAtOperation => {
                let (machine, operation) = (self.machine(), self.between(1, 60));
                self.push(
                    moment,
                    some,
                    someone,
                    Fault::PowerAtOperation { machine, operation },
                );
            }
            Kind::Reset => self.push(moment, 0, someone, Fault::Reset {}),
            Kind::Pause => {
                let machine = self.machine();
                let stall = self.between(50, 3 * slot_ms);
                self.push(moment, stall, someone, Fault::Pause { machine });
            }
            Kind::Stop => self.push(moment, some, someone, Fault::Stop {}),
            Kind::KillOnVote => {
                let vote = [Vote::Proposal, Vote::Approval, Vote::Confirmation]
                    [self.rng.below(3) as usize];
                let fault = Fault::KillOnVote {
                    vote,
                    power: self.flip(),
                    down: Ms(self.between(5, slot_ms)),
                };
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, some, nodes, fault);
            }
            Kind::ActorCrash => {
                let panics = self.flip();
                self.add_strikes(|actor, spread| match panics {
                    true => Fault::ActorPanic { actor, spread },
                    false => Fault::ActorFail { actor, spread },
                });
            }
            Kind::ActorHang => self.add_strikes(|actor, spread| Fault::ActorHang { actor, spread }),
            Kind::ActorSlow => {
                let (delay, count) = (Ms(self.between(1, MOST_SLOW_MS)), self.between(1, 5) as u32);
                self.add_strikes(|actor, spread| Fault::ActorSlow {
                    actor,
                    spread,
                    delay,
                    count,
                });
            }
            Kind::LostReplies => {
                let count = self.between(1, 5) as u32;
                self.add_strikes(|actor, spread| Fault::ActorLoseReply {
                    actor,
                    spread,
                    count,
                });
            }
            Kind::LatencySpike => {
                let delay = Ms(self.between(50, 2 * slot_ms));
                let share_ppm = self.between(1_000, 200_000) as u32;
                self.push(
                    moment,
                    some,
                    someone,
                    Fault::LatencySpike { delay, share_ppm },
                );
            }
            Kind::Loss => {
                let ppm = self.between(1_000, 300_000) as u32;
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, some, nodes, Fault::Loss { ppm });
            }
            Kind::Reorder => {
                let window = Ms(self.between(20, slot_ms));
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, some, nodes, Fault::Reorder { window });
            }
            Kind::Squeeze => {
                let kbytes_per_s = self.between(5, 200);
                self.push(moment, some, someone, Fault::Squeeze { kbytes_per_s });
            }
            Kind::Clog => {
                let way = [Way::In, Way::Out, Way::Both][self.rng.below(3) as usize];
                let nodes = if self.flip() {
                    vec![NodeRef::Any, NodeRef::Any]
                } else {
                    someone
                };
                self.push(moment, some, nodes, Fault::Clog { way });
            }
            Kind::Swizzle => {
                let spread = Ms(self.between(slot_ms / 2, 4 * slot_ms));
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    vec![NodeRef::Any; tolerated + 1]
                };
                self.push(moment, spread.0 + some, nodes, Fault::Swizzle { spread });
            }
            Kind::HalfOpen => {
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, 0, nodes, Fault::HalfOpen {});
            }
            Kind::DuplicateGossip => {
                let delay = Ms(self.between(10, 3 * slot_ms));
                self.push(moment, some, vec![NodeRef::All], Fault::Duplicate { delay });
            }
            Kind::ClockEdge => {
                let most = [self.plan.world.drift_ms, slot_ms][self.rng.below(2) as usize].max(20);
                let (by, back) = (Ms(self.between(10, most)), self.flip());
                let nodes = if self.flip() {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, 0, nodes, Fault::ClockEdge { by, back });
            }
            Kind::CrashAgain => {
                let (machine, power) = (self.machine(), self.flip());
                let within = Ms(self.between(20, 2 * slot_ms));
                let (operations, times) = (self.between(0, 60), self.between(1, 4) as u32);
                let fault = Fault::CrashAgain {
                    machine,
                    power,
                    within,
                    operations,
                    times,
                };
                self.push(moment, 0, someone, fault);
            }
            Kind::AllAtHeight => {
                let (blocks, power) = (self.between(1, 3), self.flip());
                let down = Ms(self.between(10, 2 * slot_ms));
                let fault = Fault::KillAllAtHeight {
                    blocks,
                    power,
                    down,
                };
                self.push(moment, 8 * slot_ms, vec![NodeRef::All], fault);
            }
            Kind::WipedDisk => {
                let machine = self.machine();
                self.push(moment, some, someone, Fault::Wipe { machine });
            }
            Kind::StaleClockAfterWipe => {
                // By number: both must hit the same one. The clock steps while the process is down.
                let nodes = vec![NodeRef::Number(
                    1 + self.rng.below(u64::from(self.plan.world.nodes)) as u8,
                )];
                let (offset, behind) = (
                    self.rng.below(slot_ms),
                    self.between(5 * slot_ms, 40 * slot_ms),
                );
                let down = self.between(slot_ms, 4 * slot_ms);
                let (gone, late) = (
                    When::Slot(self.slot, offset),
                    When::Slot(self.slot, offset + down / 2),
                );
                self.push(
                    gone,
                    down,
                    nodes.clone(),
                    Fault::Wipe {
                        machine: Machine::Node,
                    },
                );
                let by = SignedMs(-(behind as i64));
                self.push(late, down / 2 + some, nodes, Fault::Clock { by });
            }
            Kind::RestoredDisk => {
                let (machine, age) = (self.machine(), Ms(self.between(slot_ms / 2, 6 * slot_ms)));
                let down = Ms(self.between(10, 2 * slot_ms));
                self.push(moment, 0, someone, Fault::Restore { machine, age, down });
            }
            Kind::RottenDisk => {
                let (machine, bits) = (
                    self.machine(),
                    [1, 10, 100, 10_000][self.rng.below(4) as usize],
                );
                self.add_lie(some, Fault::Rot { machine, bits }, machine);
            }
            Kind::MisdirectedWrites => {
                let (machine, count) = (self.machine(), self.between(1, 20) as u32);
                self.add_lie(some, Fault::MisdirectWrites { machine, count }, machine);
            }
            Kind::StaleReads => {
                let (machine, count) = (self.machine(), self.between(1, 20) as u32);
                self.add_lie(some, Fault::StaleReads { machine, count }, machine);
            }
            Kind::FailingReads => {
                let (machine, count) = (self.machine(), self.between(1, 10) as u32);
                self.add_lie(some, Fault::FailReads { machine, count }, machine);
            }
            Kind::FailingWrites => {
                let (machine, count) = (self.machine(), self.between(1, 10) as u32);
                self.push(moment, some, someone, Fault::FailWrites { machine, count });
            }
            Kind::FullDisk => {
                let (machine, free_kbytes) =
                    (self.machine(), [0, 4, 64, 512][self.rng.below(4) as usize]);
                self.push(
                    moment,
                    some,
                    someone,
                    Fault::FullDisk {
                        machine,
                        free_kbytes,
                    },
                );
            }
            Kind::SyncingClient => {
                let nodes = if self.rng.below(4) == 0 {
                    vec![NodeRef::All]
                } else {
                    someone
                };
                self.push(moment, some, nodes, Fault::ClientSyncing {});
            }
            Kind::LyingClient => {
                let count = self.between(1, 5) as u32;
                self.push(moment, some, someone, Fault::ClientInvalid { count });
            }
            Kind::ForgetfulClient => {
                let count = self.between(1, 20) as u32;
                self.push(moment, some, someone, Fault::ClientForgets { count });
            }
            Kind::LateClient => {
                let delay = Ms(self.between(50, 3_000));
                self.push(moment, some, someone, Fault::ClientLate { delay });
            }
            Kind::HangingUp => {
                let (twice, count) = (self.flip(), self.between(1, 20) as u32);
                let fault = if twice {
                    Fault::ClientTwice { count }
                } else {
                    Fault::ClientHangsUp { count }
                };
                self.push(moment, some, someone, fault);
            }
            Kind::ClientClock => {
                let ms = self.between(50_000, 300_000) as i64;
                let by = SignedMs(if self.flip() { ms } else { -ms });
                self.push(moment, some, someone, Fault::ClientClock { by });
            }
            Kind::AllPowerLost => {
                let world = &self.plan.world;
                let counts = [1, world.quorum() as u64 - 1, world.quorum() as u64];
                let count = counts[self.rng.below(3) as usize].max(1) as u8;
                let vote = if self.rng.below(4) == 0 {
                    Vote::Approval
                } else {
                    Vote::Confirmation
                };
                let down = Ms(self.between(10, 2 * slot_ms));
                let fault = Fault::KillAllOnVotes {
                    vote,
                    count,
                    power: true,
                    down,
                };
                self.push(moment, slot_ms * 4, vec![NodeRef::All], fault);
            }
        }
    }

    /// A fault of a disk, and a restart in the midst of it: a process that runs has most of what it reads in memory.
    fn add_lie(&mut self, for_ms: u64, fault: Fault, machine: Machine) {
        let slot_ms = self.plan.world.slot_ms;
        let number = 1 + self.rng.below(u64::from(self.plan.world.nodes)) as u8;
        let (at, later) = (self.rng.below(slot_ms), self.between(1, for_ms.max(1)));
        self.push(
            When::Slot(self.slot, at),
            for_ms + slot_ms,
            vec![NodeRef::Number(number)],
            fault,
        );
        if self.flip() {
            let kill = Fault::Kill {
                machine,
                power: self.flip(),
            };
            let (slots, rest) = (later / slot_ms, later % slot_ms);
            let down = self.between(10, slot_ms);
            self.push(
                When::Slot(self.slot + slots, at.max(rest)),
                down,
                vec![NodeRef::Number(number)],
                kill,
            );
        }
    }

    /// One to three strikes, some seconds apart: a node heals in between, most often.
    fn add_strikes(&mut self, fault: impl Fn(Actor, Ms) -> Fault) {
        let slot_ms = self.plan.world.slot_ms;
        for turn in 0..self.between(1, 3) {
            let actor = match self.rng.below(3) {
                0 => Actor::Any,
                _ => Actor::ALL[self.rng.below(Actor::ALL.len() as u64) as usize],
            };
            let nodes = if self.rng.below(4) == 0 {
                vec![NodeRef::All]
            } else {
                self.someone()
            };
            let at = When::Slot(self.slot + 6 * turn, self.rng.below(slot_ms));
            self.push(at, 0, nodes, fault(actor, Ms(2 * slot_ms)));
        }
    }

    /// S1: in one slot everybody but the next leader certifies and confirms a block; confirmations are held back, and the
    /// next leader, who knows nothing of it, proposes beside it while the lock is all that speaks against approving.
    fn add_deaf_leader(&mut self) {
        let slot_ms = self.plan.world.slot_ms;
        let start = When::Slot(self.slot, 0);
        let deaf = slot_ms * 2 - self.between(0, slot_ms / 4);
        let way = Fault::Partition {
            way: Way::In,
            held: true,
        };
        self.push(start, deaf, vec![NodeRef::Leader(1)], way);
        let hold = Fault::HoldVotes {
            vote: Vote::Confirmation,
            delay: Ms(self.between(slot_ms, slot_ms * 3 / 2)),
        };
        self.push(start, slot_ms - 1, vec![NodeRef::All], hold);
        if self.flip() {
            // The lock must survive on the disk, too.
            let (at, down) = (
                self.between(slot_ms / 3, slot_ms * 3 / 4),
                self.between(5, slot_ms / 4),
            );
            let fault = Fault::Kill {
                machine: Machine::Node,
                power: self.flip(),
            };
            self.push(
                When::Slot(self.slot, at),
                down,
                vec![NodeRef::Leader(0), NodeRef::Leader(2)],
                fault,
            );
        }
    }
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
        // Without the rarities, which have some kinds too.
        let swarm = Swarm {
            kinds: Kind::ALL.to_vec(),
            ..scenario.swarm.expect("it is a swarm")
        };
        let plans = (0..500).map(|seed| draw(&scenario.plan, &swarm, seed));
        let drawn: BTreeSet<&str> = plans
            .flat_map(|plan| plan.steps.into_iter().map(|step| step.fault.name()))
            .collect();
        for (name, _) in Fault::KINDS {
            assert!(drawn.contains(name), "{name} is never drawn");
        }
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
        assert_eq!(drawn.len(), Conduct::ALL.len(), "{drawn:?}");
    }

    #[test]
    fn the_world_does_not_depend_on_the_faults() {
        let scenario = format::load("mixed").expect("the file is there");
        let swarm = scenario.swarm.expect("it is a swarm");
        let fewer = Swarm {
            kinds: vec![Kind::Reset],
            most: 3,
            ..swarm.clone()
        };
        for seed in 0..50 {
            let (all, few) = (
                draw(&scenario.plan, &swarm, seed),
                draw(&scenario.plan, &fewer, seed),
            );
            assert_eq!((all.world, all.workload), (few.world, few.workload));
        }
    }
}
