//! A world of many state machines on one random schedule: delay, loss, partitions, crashes in the
//! middle of effects, restarts from what was persisted, clocks that disagree, and authorities that
//! equivocate. Invariants are checked from outside.

mod adversary;
mod messages;
#[path = "../miner/mod.rs"]
mod miner;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alys_consensus::{
    BlockRef, Config, Effect, FederationRecord, HeldProof, Input, Notice, Now, PayloadRequest,
    PlantedBug, Record, State, Stored, StoredBlock, StoredLedger, Verdict, VoteState, WorkOffer,
};
use alys_peg::{Additions, Ledger};
use alys_types::bls::SecretKey;
use alys_types::hash::tagged;
use alys_types::spec::{ChainSpec, GovernanceSpec, vault_address};
use alys_types::wire::{CertifiedHeader, Confirmation, Proposal};
use alys_types::{
    Address, Authority, AuthoritySet, Block, Certificate, ExecutionPayload, FaultModel,
    FederationChange, Genesis, Hash, Header, Height, Order, OrderContent, SetChange, Slot, Vote,
    VoteKind, VoteTarget,
};

pub const SLOT_MS: u64 = 2000;
const START_MS: u64 = 1_700_000_000_000;

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub fault_model: FaultModel,
    /// Number of Byzantine nodes, the last ones.
    pub byzantine: usize,
    /// Slots with faults; after them all faults end.
    pub chaos_slots: u64,
    /// Slots after the faults within which finality must advance.
    pub calm_slots: u64,
    /// Name of the planted bug.
    pub mutant: Option<&'static str>,
    /// All correct nodes lose power right after one of them has locked.
    pub blackout_after_lock: bool,
    /// Federation changes are ordered, which remove and add an authority in turns.
    pub changes: bool,
    /// The gate: `max_blocks_without_pow`. With one, miners are steady, receipts are lost for some
    /// slots and execution layers restart.
    pub gate: u64,
    /// Decide in place of the seed until they are used up: the schedule of a fuzzer.
    pub choices: Vec<u8>,
}

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    TwoFinalBlocks {
        height: u64,
    },
    FinalityWentBack {
        node: usize,
    },
    SignedTwice {
        node: usize,
        kind: VoteKind,
        slot: u64,
    },
    NoProgress {
        final_height: u64,
    },
    Refused {
        node: usize,
        what: String,
    },
}

#[derive(Clone)]
enum Message {
    Proposal(Box<Proposal>),
    Approval(Vote),
    Confirmation(Box<Confirmation>),
    BareConfirmation(Vote),
    Certificate(Box<CertifiedHeader>),
    Body(Arc<Block>),
}

enum Event {
    Tick(usize),
    Deliver {
        to: usize,
        message: Message,
    },
    /// `life` here and below: that of the node, or of its execution layer, when it was asked.
    Executed {
        node: usize,
        hash: Hash,
        life: (u64, u64),
    },
    Built {
        node: usize,
        request: PayloadRequest,
        life: (u64, u64),
    },
    Own {
        node: usize,
        vote: Vote,
        life: u64,
    },
    Accounted {
        node: usize,
        hash: Hash,
        life: (u64, u64),
    },
    Mine {
        node: usize,
    },
    Mined {
        node: usize,
        proof: Arc<HeldProof>,
    },
    ExecutionRestart(usize),
    /// The execution layer has no receipts for this time, in milliseconds.
    LoseReceipts {
        node: usize,
        for_ms: u64,
    },
    Crash(usize),
    Restart(usize),
    Partition(u32),
    Blackout,
    Heal,
}

/// The disk of a node.
#[derive(Default, Clone)]
struct Disk {
    votes: Option<VoteState>,
    bodies: BTreeMap<Hash, Arc<Block>>,
    certified: BTreeMap<Hash, CertifiedHeader>,
    finalized: Option<(CertifiedHeader, FederationRecord)>,
    finals: BTreeMap<Height, Hash>,
    sets: BTreeMap<Hash, Vec<Authority>>,
    additions: BTreeMap<Hash, Additions>,
    /// The ledger after a final block, by height and hash.
    ledger: BTreeMap<Vec<u8>, Vec<u8>>,
    ledger_at: Option<(Height, Hash)>,
    /// Proofs of the node's miners that no final block carries.
    proofs: Vec<Arc<HeldProof>>,
}

struct Node {
    key: SecretKey,
    state: Option<State>,
    disk: Disk,
    skew_ms: i64,
    life: u64,
    /// Restarts of the execution layer.
    execution_life: u64,
    /// Time until which the execution layer has no receipts.
    receipts_from_ms: u64,
    offer: Option<Arc<WorkOffer>>,
    final_height: u64,
}

pub struct World {
    plan: Plan,
    genesis: Arc<Genesis>,
    config: Config,
    nodes: Vec<Node>,
    events: BTreeMap<(u64, u64), Event>,
    now_ms: u64,
    sequence: u64,
    random: u64,
    /// Bytes used of the plan's choices.
    used: usize,
    /// Bit i: node i is on the left side. 0: no partition.
    partition: u32,
    calm: bool,
    finals: BTreeMap<u64, Hash>,
    signed: BTreeSet<(usize, VoteKind, u64, Hash)>,
    signatures: Vec<Signed>,
    seen_by_adversary: BTreeMap<Hash, (Header, Option<Certificate>)>,
    adversary_voted: BTreeSet<(usize, Hash)>,
    violation: Option<Violation>,
    blackout_done: bool,
    governance: SecretKey,
    evidence: usize,
    /// Ledgers after the blocks that were proposed.
    ledgers: BTreeMap<Hash, Ledger>,
    /// Ranges that became final by proof of work: first height and end.
    ranges: BTreeMap<u64, (Height, Height)>,
}

/// The result of a run without a violation.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    pub final_height: u64,
    /// Distinct authority sets that decided on final blocks.
    pub sets: usize,
    /// Equivocations of the adversary that were reported.
    pub evidence: usize,
    /// Ranges that became final by proof of work.
    pub ranges: usize,
}

/// A signature of a node.
#[derive(Debug, Clone, Copy)]
pub struct Signed {
    pub at_ms: u64,
    pub node: usize,
    pub target: VoteTarget,
    /// The parent of the block; `None` where the node knows none.
    pub parent: Option<BlockRef>,
}

pub fn run(plan: &Plan) -> Result<Report, Violation> {
    World::new(plan.clone()).go()
}

/// As [`run`], with all signatures in their order.
pub fn run_recorded(plan: &Plan) -> (Result<Report, Violation>, Vec<Signed>) {
    let mut world = World::new(plan.clone());
    let result = world.go();
    (result, world.signatures)
}

fn secret(i: u8) -> SecretKey {
    SecretKey::derive_stand_in(&[i + 1; 32])
}

/// The fee addresses differ in worlds with a gate.
fn authority(key: &SecretKey, gate: u64) -> Authority {
    let own = key.public_key().to_bytes().0;
    Authority {
        public_key: key.public_key().to_bytes(),
        proof_of_possession: key.prove_possession(),
        fee_address: Address(std::array::from_fn(|i| if gate > 0 { own[i] } else { 7 })),
    }
}

impl World {
    fn new(plan: Plan) -> World {
        let keys: Vec<SecretKey> = (0..plan.nodes as u8).map(secret).collect();
        let governance = secret(200);
        let mut spec = ChainSpec {
            fault_model: plan.fault_model,
            drift_allowance_ms: 500,
            rejoin_margin: 20,
            governance: GovernanceSpec {
                threshold: 1,
                keys: vec![governance.public_key().to_bytes()],
            },
            ..ChainSpec::development(
                1337,
                Slot(START_MS / SLOT_MS - 1),
                SLOT_MS,
                Hash([9; 32]),
                keys.iter().map(|key| authority(key, plan.gate)).collect(),
            )
        };
        spec.auxpow.max_blocks_without_pow = plan.gate;
        let genesis = Arc::new(Genesis::new(spec).expect("a good spec"));
        let first = BlockRef {
            slot: genesis.header().slot,
            hash: genesis.hash(),
        };
        let mut config = Config::new(genesis.clone(), None);
        if let Some(name) = plan.mutant {
            config.planted_bug = PlantedBug::new(name, Arc::default());
        }
        let mut world = World {
            config,
            random: plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d,
            genesis,
            nodes: Vec::new(),
            events: BTreeMap::new(),
            now_ms: START_MS,
            sequence: 0,
            used: 0,
            partition: 0,
            calm: false,
            finals: BTreeMap::new(),
            signed: BTreeSet::new(),
            signatures: Vec::new(),
            seen_by_adversary: BTreeMap::new(),
            adversary_voted: BTreeSet::new(),
            violation: None,
            blackout_done: false,
            governance,
            evidence: 0,
            ledgers: BTreeMap::new(),
            ranges: BTreeMap::new(),
            plan,
        };
        for key in keys {
            let disk = Disk {
                votes: Some(VoteState::fresh(first)),
                ..Disk::default()
            };
            let skew_ms = world.below(400) as i64 - 200;
            world.nodes.push(Node {
                key,
                state: None,
                disk,
                skew_ms,
                life: 0,
                execution_life: 0,
                receipts_from_ms: 0,
                offer: None,
                final_height: 0,
            });
        }
        world
    }

    fn random(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        let drawn = self.chosen(n).unwrap_or_else(|| self.random());
        drawn % n.max(1)
    }

    /// The plan's next choice, of as few bytes as `n` needs.
    fn chosen(&mut self, n: u64) -> Option<u64> {
        let length = match n {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let end = self.used + length;
        let bytes = self.plan.choices.get(self.used..end)?;
        self.used = end;
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(bytes.iter().fold(0, append))
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    fn is_byzantine(&self, node: usize) -> bool {
        node >= self.plan.nodes - self.plan.byzantine
    }

    fn correct(&self) -> std::ops::Range<usize> {
        0..self.plan.nodes - self.plan.byzantine
    }

    fn at(&mut self, delay_ms: u64, event: Event) {
        self.sequence += 1;
        self.events
            .insert((self.now_ms + delay_ms, self.sequence), event);
    }

    fn clock(&self, node: usize) -> Now {
        let wall_ms = self.now_ms.saturating_add_signed(self.nodes[node].skew_ms);
        Now {
            wall_ms,
            mono_ms: self.now_ms - START_MS,
        }
    }

    fn go(&mut self) -> Result<Report, Violation> {
        for node in self.correct() {
            self.start(node);
        }
        for node in 0..self.plan.nodes {
            let delay = self.below(100);
            self.at(delay, Event::Tick(node));
        }
        let chaos_ms = self.plan.chaos_slots * SLOT_MS;
        if self.plan.gate > 0 {
            for node in self.correct() {
                self.at(2 * SLOT_MS, Event::Mine { node });
            }
            self.plan_lost_receipts(chaos_ms);
        }
        self.plan_chaos(chaos_ms);
        self.at(chaos_ms, Event::Heal);
        let end = START_MS + chaos_ms + self.plan.calm_slots * SLOT_MS;
        let mut final_at_heal = None;
        while let Some(((time, _), event)) = self.events.pop_first() {
            if time > end {
                break;
            }
            self.now_ms = time;
            if matches!(event, Event::Heal) {
                final_at_heal = self.finals.last_key_value().map(|(h, _)| *h).or(Some(0));
            }
            self.step(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        let final_height = self.finals.last_key_value().map_or(0, |(h, _)| *h);
        let everyone = self
            .correct()
            .all(|n| self.nodes[n].final_height + 3 >= final_height);
        if final_at_heal.is_none_or(|before| final_height < before + 3) || !everyone {
            self.explain();
            return Err(Violation::NoProgress { final_height });
        }
        let bodies = self
            .nodes
            .iter()
            .flat_map(|n| n.disk.finals.values().filter_map(|h| n.disk.bodies.get(h)));
        let sets: BTreeSet<Hash> = bodies.map(|b| b.header.set_hash).collect();
        Ok(Report {
            final_height,
            sets: sets.len(),
            evidence: self.evidence,
            ranges: self.ranges.len(),
        })
    }

    /// Prints the states of a run without progress, if `ALYS_EXPLAIN` is set.
    fn explain(&self) {
        if std::env::var_os("ALYS_EXPLAIN").is_none() {
            return;
        }
        for node in self.correct() {
            let now = self.clock(node);
            if let Some(state) = &self.nodes[node].state {
                println!(
                    "node {node} at slot {}: {:#?}",
                    state.slot_at(now),
                    state.summary()
                );
            }
        }
    }

    fn plan_chaos(&mut self, chaos_ms: u64) {
        let crashes = self.plan.chaos_slots / 6;
        for _ in 0..crashes {
            let node = self.below(self.correct().len() as u64) as usize;
            let at = self.below(chaos_ms);
            self.at(at, Event::Crash(node));
            let back = at + 50 + self.below(3 * SLOT_MS);
            self.at(back, Event::Restart(node));
        }
        for _ in 0..self.plan.chaos_slots / 8 {
            let at = self.below(chaos_ms);
            let sides = self.below(1 << self.plan.nodes) as u32;
            self.at(at, Event::Partition(sides));
            let back = at + self.below(4 * SLOT_MS);
            self.at(back, Event::Partition(0));
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Tick(node) => {
                let next = if self.calm { 100 } else { 60 + self.below(120) };
                self.at(next, Event::Tick(node));
                if self.is_byzantine(node) {
                    self.adversary_tick(node);
                } else {
                    self.order_changes(node);
                    self.input(node, Input::Tick);
                }
            }
            Event::Deliver { to, message } => self.receive(to, message),
            Event::Executed { node, hash, life } if self.lives(node) == life => {
                let is_unknown = !self.calm && self.chance(50);
                let verdict = if is_unknown {
                    Verdict::Unknown
                } else {
                    Verdict::Valid
                };
                self.input(node, Input::Executed { hash, verdict });
            }
            Event::Built {
                node,
                request,
                life,
            } if self.lives(node) == life => {
                let payload = Box::new(self.payload(&request, node as u64));
                self.input(
                    node,
                    Input::Built {
                        slot: request.slot,
                        parent: request.parent,
                        payload,
                    },
                );
            }
            Event::Own { node, vote, life } if self.nodes[node].life == life => {
                self.own(node, vote)
            }
            Event::Accounted { node, hash, life } if self.lives(node) == life => {
                self.account(node, hash);
            }
            Event::Mine { node } => self.mine(node),
            Event::Mined { node, proof } => self.submit(node, proof),
            Event::ExecutionRestart(node) => {
                self.nodes[node].execution_life += 1;
                self.input(node, Input::ExecutionRestarted);
            }
            Event::LoseReceipts { node, for_ms } => {
                self.nodes[node].receipts_from_ms = self.now_ms + for_ms;
            }
            Event::Executed { .. }
            | Event::Built { .. }
            | Event::Own { .. }
            | Event::Accounted { .. } => {}
            Event::Crash(node) => self.crash(node),
            Event::Restart(node) => self.start(node),
            Event::Partition(sides) => self.partition = if self.calm { 0 } else { sides },
            Event::Blackout => {
                for node in self.correct() {
                    self.crash(node);
                    let back = 100 + self.below(SLOT_MS);
                    self.at(back, Event::Restart(node));
                }
            }
            Event::Heal => {
                self.calm = true;
                self.partition = 0;
                for node in &mut self.nodes {
                    node.receipts_from_ms = 0;
                }
                for node in self.correct() {
                    self.start(node);
                }
            }
        }
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].state = None;
        self.nodes[node].life += 1;
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].state.is_some() {
            return;
        }
        let disk = self.nodes[node].disk.clone();
        let root = disk.finalized.as_ref().map(|(c, _)| c.header.clone());
        let mut window: Vec<Header> = disk
            .finals
            .values()
            .filter_map(|h| Some(disk.bodies.get(h)?.header.clone()))
            .collect();
        window.retain(|h| root.as_ref().is_some_and(|r| h.height < r.height));
        window.reverse();
        let known: BTreeSet<Hash> = disk
            .bodies
            .keys()
            .chain(disk.certified.keys())
            .copied()
            .collect();
        let blocks = known
            .into_iter()
            .map(|hash| StoredBlock {
                header: disk
                    .bodies
                    .get(&hash)
                    .map(|b| b.header.clone())
                    .unwrap_or_else(|| disk.certified[&hash].header.clone()),
                block: disk.bodies.get(&hash).cloned(),
                certificate: disk.certified.get(&hash).map(|c| c.certificate),
                additions: disk.additions.get(&hash).copied(),
            })
            .collect();
        let stored = Stored {
            votes: disk.votes,
            finalized: disk.finalized.clone(),
            window,
            blocks,
            sets: disk.sets.values().cloned().collect(),
            ledger: disk.ledger_at.map(|(height, hash)| StoredLedger {
                height,
                hash,
                entries: disk.ledger.clone().into_iter().collect(),
            }),
        };
        let config = Config {
            me: Some(self.nodes[node].key.public_key().to_bytes()),
            ..self.config.clone()
        };
        let (state, effects) = State::restore(config, stored, self.clock(node), None)
            .expect("what was stored restores");
        self.nodes[node].state = Some(state);
        self.carry_out(node, effects);
        self.input(node, Input::PeerConnected);
        for peer in self.correct().filter(|peer| *peer != node) {
            self.state_clock(node, peer);
            self.state_clock(peer, node);
        }
    }

    /// The status message of a connection states the slot that the clock of `from` is in.
    fn state_clock(&mut self, from: usize, to: usize) {
        if self.nodes[from].state.is_none() {
            return;
        }
        let authority = self.nodes[from].key.public_key().to_bytes();
        let slot = Slot::at(self.clock(from).wall_ms, SLOT_MS);
        self.input(to, Input::ClockStated { authority, slot });
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.clock(node);
        let Some(state) = self.nodes[node].state.as_mut() else {
            return;
        };
        let effects = state.handle(input, now);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            if self.nodes[node].state.is_none() {
                return;
            }
            if !self.calm && self.chance(2) {
                self.crash(node);
                let back = 50 + self.below(2 * SLOT_MS);
                return self.at(back, Event::Restart(node));
            }
            self.effect(node, effect);
        }
    }

    fn effect(&mut self, node: usize, effect: Effect) {
        let life = self.lives(node);
        match effect {
            Effect::Persist(record) => self.persist(node, *record),
            Effect::Broadcast(broadcast) => self.send(node, broadcast),
            Effect::Build(request) => {
                let delay = 1 + self.below(if self.calm { 20 } else { 200 });
                self.at(
                    delay,
                    Event::Built {
                        node,
                        request,
                        life,
                    },
                );
            }
            Effect::Execute { hash, block } => {
                let known = block.is_some()
                    || hash == self.genesis.hash()
                    || self.nodes[node].disk.bodies.contains_key(&hash);
                if !known {
                    self.violation = Some(Violation::Refused {
                        node,
                        what: "execute without a body".into(),
                    });
                }
                let delay = 1 + self.below(if self.calm { 20 } else { 300 });
                self.at(delay, Event::Executed { node, hash, life });
            }
            Effect::FetchBlock { hash } => {
                for peer in self.correct() {
                    if let Some(block) = self.nodes[peer].disk.bodies.get(&hash).cloned()
                        && peer != node
                    {
                        self.post(peer, node, Message::Body(block));
                    }
                }
            }
            Effect::Sync { .. } => self.serve_sync(node),
            Effect::Finalized(blocks, height) => self.on_final(node, &blocks, height),
            Effect::Evidence(_) => self.evidence += 1,
            Effect::Notice(Notice::ConflictingFinality { height, .. }) => {
                self.violation = Some(Violation::TwoFinalBlocks { height: height.0 });
            }
            Effect::Notice(Notice::LedgerDiverged { height }) => {
                let what = format!("the ledger diverged at {height}");
                self.violation = Some(Violation::Refused { node, what });
            }
            Effect::Account { hash, .. } => {
                let delay = 1 + self.below(if self.calm { 20 } else { 300 });
                self.at(delay, Event::Accounted { node, hash, life });
            }
            Effect::LoadFinal { height } => self.load_final(node, height),
            Effect::Work(offer) => self.on_work(node, offer),
            Effect::PowFinal(range) => self.on_pow_final(node, range),
            Effect::Notice(
                notice @ (Notice::UnfitProposal { .. } | Notice::OwnBlockInvalid { .. }),
            ) if self.plan.byzantine == 0 => {
                let what = format!("{notice:?}");
                self.violation = Some(Violation::Refused { node, what });
            }
            Effect::Notice(_) | Effect::Forkchoice { .. } | Effect::Trace(_) => {}
        }
    }

    fn persist(&mut self, node: usize, record: Record) {
        for block in &record.blocks {
            self.learn_ledger(block);
        }
        let disk = &mut self.nodes[node].disk;
        disk.additions.extend(record.additions);
        if let Some(ledger) = record.ledger {
            disk.ledger_at = Some((ledger.height, ledger.hash));
            for (key, value) in ledger.changes {
                match value {
                    Some(value) => disk.ledger.insert(key, value),
                    None => disk.ledger.remove(&key),
                };
            }
        }
        if let Some(votes) = record.votes {
            disk.votes = Some(votes);
        }
        for block in record.blocks {
            disk.bodies.insert(block.header.hash(), block);
        }
        for certified in record.certified {
            disk.certified
                .insert(certified.certificate.target.hash, certified);
        }
        for set in record.sets {
            let hash = AuthoritySet::new(set.clone(), self.plan.fault_model)
                .expect("checked before")
                .hash();
            disk.sets.insert(hash, set);
        }
        if let Some(finalization) = record.finalized {
            for (height, hash) in &finalization.chain {
                assert!(
                    disk.bodies.contains_key(hash),
                    "a final block's body is stored"
                );
                disk.finals.insert(*height, *hash);
            }
            for hash in &finalization.dropped {
                disk.bodies.remove(hash);
                disk.certified.remove(hash);
            }
            let federation = finalization.federation.expect("known when final");
            disk.finalized = Some((finalization.certified, federation));
        }
    }

    fn on_final(&mut self, node: usize, blocks: &[BlockRef], height: Height) {
        let first = height.0 + 1 - blocks.len() as u64;
        for (i, block) in blocks.iter().enumerate() {
            let at = first + i as u64;
            if *self.finals.entry(at).or_insert(block.hash) != block.hash {
                self.violation = Some(Violation::TwoFinalBlocks { height: at });
            }
        }
        // After a crash before the write a node may come to the same finality again, never to less
        // than it persisted.
        let persisted = self.nodes[node]
            .disk
            .finalized
            .as_ref()
            .map_or(0, |(c, _)| c.header.height.0);
        if height.0 < persisted {
            self.violation = Some(Violation::FinalityWentBack { node });
        }
        self.nodes[node].final_height = height.0;
    }

    fn sign(&mut self, node: usize, target: VoteTarget, signer: u8) -> Vote {
        let key = (node, target.kind, target.slot.0);
        let others = self
            .signed
            .range((key.0, key.1, key.2, Hash([0; 32]))..=(key.0, key.1, key.2, Hash([255; 32])))
            .any(|(_, _, _, h)| *h != target.hash);
        if others && !self.is_byzantine(node) {
            self.violation = Some(Violation::SignedTwice {
                node,
                kind: target.kind,
                slot: target.slot.0,
            });
        }
        self.signed
            .insert((node, target.kind, target.slot.0, target.hash));
        self.signatures.push(Signed {
            at_ms: self.now_ms - START_MS,
            node,
            target,
            parent: self.parent_of(node, &target.hash),
        });
        let signature = self.nodes[node]
            .key
            .sign(&target.message(&self.genesis.chain_id()).0);
        Vote {
            target,
            signer,
            signature,
        }
    }

    fn parent_of(&self, node: usize, hash: &Hash) -> Option<BlockRef> {
        let state = self.nodes[node].state.as_ref()?;
        let parent_hash = state.header(hash)?.parent_hash;
        let parent = state.header(&parent_hash)?;
        Some(BlockRef {
            slot: parent.slot,
            hash: parent_hash,
        })
    }

    fn payload(&self, request: &PayloadRequest, salt: u64) -> ExecutionPayload {
        let hash = tagged(
            "test/payload",
            &[
                &request.parent.0,
                &request.slot.0.to_le_bytes(),
                &salt.to_le_bytes(),
            ],
        );
        ExecutionPayload {
            parent_hash: request.parent_execution,
            fee_recipient: vault_address(),
            state_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            logs_bloom: [0; 256],
            prev_randao: request.prev_randao,
            block_number: self.height_of(&request.parent) + 1,
            gas_limit: 30_000_000,
            gas_used: 0,
            timestamp: request.timestamp,
            extra_data: salt.to_le_bytes().to_vec(),
            base_fee_per_gas: [0; 32],
            block_hash: hash,
            transactions: match request.slot.0 % 3 {
                0 => Vec::new(),
                _ => vec![vec![2]],
            },
            withdrawals: request.withdrawals.clone(),
            blob_gas: None,
        }
    }

    fn height_of(&self, hash: &Hash) -> u64 {
        if *hash == self.genesis.hash() {
            return 0;
        }
        let in_disks = self.nodes.iter().find_map(|n| {
            n.disk
                .bodies
                .get(hash)
                .map(|b| b.header.height.0)
                .or_else(|| n.disk.certified.get(hash).map(|c| c.header.height.0))
        });
        in_disks
            .or_else(|| self.seen_by_adversary.get(hash).map(|(h, _)| h.height.0))
            .unwrap_or(0)
    }

    // Federation changes.

    fn order_changes(&mut self, node: usize) {
        if !self.plan.changes || self.nodes[node].state.is_none() || !self.chance(30) {
            return;
        }
        let final_height = self.finals.last_key_value().map_or(0, |(h, _)| *h);
        let leaver = &self.nodes[0].key;
        // The authority leaves, and returns at the end of the list, in turns.
        let number = 1 + final_height / 16;
        let change = if number % 2 == 1 {
            FederationChange::Remove(leaver.public_key().to_bytes())
        } else {
            FederationChange::Add(authority(leaver, self.plan.gate))
        };
        let content = OrderContent::Federation(SetChange {
            change,
            effective_height: Height(number * 16),
        });
        let mut order = Order {
            number,
            content,
            signatures: Vec::new(),
        };
        let message = order.message(&self.genesis.hash());
        order.signatures.push((0, self.governance.sign(&message.0)));
        self.input(node, Input::Order(Box::new(order)));
    }
}
