//! Small networks of nodes that follow a [`Rule`], as a model for Stateright.
//!
//! What was sent stays in a set. A node may act on any of it at any time, again, or never: that is loss, delay, reordering
//! and duplication at once, and what a node does not know is what it has not acted on. Clocks play no part: any node may
//! be in any slot at any time, which is more than the drift allowance permits. Every schedule of leaders is a first state
//! (slots between those of the world, in which nothing happens, are left out, so a leader may come twice in a row). A faulty
//! node has no state: its signature is on everything, and its slots offer every block that stands on a certified one.

use stateright::{Model, Property};

use crate::blocks::{Block, Blocks, GENESIS, MAX_SLOTS, Set, members, one};
use crate::rule::{Broken, Faults, Parent, Promises, Rule};

/// A world to check.
#[derive(Debug, Clone)]
pub struct World {
    /// Its name in tables.
    pub name: &'static str,
    /// Nodes in all.
    pub nodes: usize,
    /// Of them: those that may sign anything.
    pub byzantine: usize,
    /// Of them: those that never say anything.
    pub silent: usize,
    /// Slots, genesis' left out; at most [`MAX_SLOTS`].
    pub slots: u8,
    /// Whether nodes crash: writing and sending are two steps then, and a crash comes between any two.
    pub crashes: bool,
    /// Whether everything arrives in its slot: for the properties that need luck.
    pub calm: bool,
    /// Whether states that differ only in which node is which count as one.
    pub symmetric: bool,
    /// What nodes follow.
    pub rule: Rule,
    blocks: Blocks,
}

/// What a node remembers: its latest approval and confirmation. Their slots are its promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    approval: Block,
    lock: Block,
}

/// What a node still has to carry out of its last decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owed {
    /// It is written, and not yet sent.
    Say,
    /// It is sent, and not yet written.
    Write,
}

/// A correct node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voter {
    /// The slots that it leads, a bit each.
    leads: u8,
    memory: Memory,
    /// What a crash leaves.
    disk: Memory,
    owed: Option<Owed>,
    /// What it sent, in all its lives.
    approvals: Set,
    confirmations: Set,
}

/// A world at a moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The present slot of a calm world; 0 elsewhere.
    slot: u8,
    /// The blocks that correct leaders proposed.
    proposed: Set,
    voters: Vec<Voter>,
}

/// What can happen. Nodes are told by their place in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A leader makes a block and approves it.
    Propose(u8, Block),
    /// A node approves a block.
    Approve(u8, Block),
    /// A node confirms a block.
    Confirm(u8, Block),
    /// A node carries out the rest of its last decision.
    Finish(u8),
    /// A node crashes and is back.
    Crash(u8),
    /// A node sends its latest votes again, from its disk.
    Repeat(u8),
    /// A calm world's next slot begins.
    NextSlot,
}

impl World {
    /// A world of this many nodes and slots in which everything arrives in time or not at all, whose faulty nodes are as
    /// many as it tolerates.
    pub fn new(name: &'static str, nodes: usize, faults: Faults, slots: u8) -> Self {
        let byzantine = if faults == Faults::Byzantine {
            faults.tolerated(nodes)
        } else {
            0
        };
        let crashes = faults == Faults::Crash;
        let slots = slots.min(MAX_SLOTS);
        let (silent, calm, symmetric, rule) = (0, false, false, Rule::of(nodes, faults));
        Self {
            name,
            nodes,
            byzantine,
            silent,
            slots,
            crashes,
            calm,
            symmetric,
            rule,
            blocks: Blocks::new(slots),
        }
    }

    /// The same with a mistake in the rule.
    pub fn with(self, broken: Broken) -> Self {
        Self {
            rule: self.rule.with(broken),
            ..self
        }
    }

    /// The same, nodes counted as interchangeable.
    pub fn symmetric(self) -> Self {
        Self {
            symmetric: true,
            ..self
        }
    }

    /// The same, with or without crashes.
    pub fn crashing(self, crashes: bool) -> Self {
        Self { crashes, ..self }
    }

    /// A world of this many nodes in which messages arrive in their slot, and those that may be faulty say nothing.
    pub fn calm(name: &'static str, nodes: usize, faults: Faults, slots: u8) -> Self {
        let silent = faults.tolerated(nodes);
        Self {
            silent,
            byzantine: 0,
            crashes: false,
            calm: true,
            ..Self::new(name, nodes, faults, slots)
        }
    }

    fn voters(&self) -> usize {
        self.nodes - self.byzantine - self.silent
    }

    /// All schedules of leaders, but those that are others with the nodes renamed: the slots of each correct node.
    fn schedules(&self) -> Vec<Vec<u8>> {
        let mut all = vec![vec![0; self.voters()]];
        let others = self.byzantine + self.silent > 0;
        for slot in 1..=self.slots {
            let mut longer = Vec::new();
            for schedule in all {
                let fresh = schedule.iter().position(|leads| *leads == 0);
                let known = (0..schedule.len()).filter(|node| schedule[*node] != 0);
                for leader in known.chain(fresh) {
                    let mut next = schedule.clone();
                    next[leader] |= 1 << slot;
                    longer.push(next);
                }
                if others {
                    longer.push(schedule);
                }
            }
            all = longer;
        }
        all
    }

    fn certified(&self, state: &State, block: Block) -> bool {
        let signers = state
            .voters
            .iter()
            .filter(|voter| voter.approvals & one(block) != 0)
            .count();
        block == GENESIS || self.rule.certifies(signers + self.byzantine)
    }

    fn is_final(&self, state: &State, block: Block) -> bool {
        let signers = state
            .voters
            .iter()
            .filter(|voter| voter.confirmations & one(block) != 0)
            .count();
        self.rule.certifies(signers + self.byzantine)
    }

    /// Blocks with a certificate, genesis left out. Only what somebody correct approved can have one; where the faulty are
    /// a quorum by themselves there is nothing to check.
    fn all_certified(&self, state: &State) -> Vec<Block> {
        let approved = state
            .voters
            .iter()
            .fold(0, |all, voter| all | voter.approvals);
        members(approved)
            .filter(|block| self.certified(state, *block))
            .collect()
    }

    fn all_final(&self, state: &State) -> Vec<Block> {
        let confirmed = state
            .voters
            .iter()
            .fold(0, |all, voter| all | voter.confirmations);
        members(confirmed)
            .filter(|block| self.is_final(state, *block))
            .collect()
    }

    /// Whether a proposal of the block is there to be approved.
    fn exists(&self, state: &State, block: Block) -> bool {
        let info = self.blocks.info(block);
        let is_led = state
            .voters
            .iter()
            .any(|voter| voter.leads & (1 << info.slot) != 0);
        match is_led {
            true => state.proposed & one(block) != 0,
            false => self.byzantine > 0 && self.certified(state, info.parent),
        }
    }

    fn slot(&self, block: Block) -> u64 {
        u64::from(self.blocks.info(block).slot)
    }

    fn promises(&self, memory: Memory) -> Promises {
        Promises {
            approved: self.slot(memory.approval),
            locked: self.slot(memory.lock),
        }
    }

    fn parent(&self, state: &State, parent: Block) -> Parent {
        Parent {
            slot: self.slot(parent),
            certified: self.certified(state, parent),
        }
    }

    /// The block that a leader would make now; a leader that forgot its first makes a second.
    fn next_block(&self, state: &State, slot: u8, parent: Block) -> Option<Block> {
        [false, true]
            .into_iter()
            .filter_map(|is_second| self.blocks.find(slot, parent, is_second))
            .find(|block| state.proposed & one(*block) == 0)
    }

    fn may_propose(&self, state: &State, voter: &Voter, slot: u8, parent: Block) -> bool {
        let leads = voter.leads & (1 << slot) != 0;
        let parent = self.parent(state, parent);
        self.rule
            .propose(self.promises(voter.memory), u64::from(slot), leads, parent)
            .is_ok()
    }

    fn may_approve(&self, state: &State, voter: &Voter, block: Block) -> bool {
        let info = self.blocks.info(block);
        self.exists(state, block)
            && voter.memory.approval != block
            && self
                .rule
                .approve(
                    self.promises(voter.memory),
                    u64::from(info.slot),
                    self.parent(state, info.parent),
                )
                .is_ok()
    }

    fn may_confirm(&self, state: &State, voter: &Voter, block: Block) -> bool {
        let certified = self.certified(state, block);
        self.rule
            .confirm(self.promises(voter.memory), self.slot(block), certified)
            .is_ok()
    }

    fn steps_of(&self, state: &State, index: usize, steps: &mut Vec<Step>) {
        let (voter, node) = (&state.voters[index], index as u8);
        if voter.owed.is_some() {
            // One input at a time: nothing else is looked at before its effects are carried out.
            return steps.extend([Step::Finish(node), Step::Crash(node)]);
        }
        if voter.memory != voter.disk {
            steps.push(Step::Crash(node));
        }
        let Memory { approval, lock } = voter.disk;
        let unsaid = (approval != GENESIS && voter.approvals & one(approval) == 0)
            || (lock != GENESIS && voter.confirmations & one(lock) == 0);
        if unsaid {
            steps.push(Step::Repeat(node));
        }
        for slot in (1..=self.slots).filter(|slot| voter.leads & (1 << slot) != 0) {
            for parent in std::iter::once(GENESIS).chain(self.all_certified(state)) {
                if self.may_propose(state, voter, slot, parent)
                    && let Some(block) = self.next_block(state, slot, parent)
                {
                    steps.push(Step::Propose(node, block));
                }
            }
        }
        let blocks = || self.blocks.all();
        steps.extend(
            blocks()
                .filter(|b| self.may_approve(state, voter, *b))
                .map(|block| Step::Approve(node, block)),
        );
        let certified = self.all_certified(state).into_iter();
        steps.extend(
            certified
                .filter(|b| self.may_confirm(state, voter, *b))
                .map(|block| Step::Confirm(node, block)),
        );
    }

    /// The steps of a calm world: the slot's leader proposes on the highest certified block, everybody who may approves,
    /// everybody who may confirms, in any order of nodes; then the next slot begins.
    fn calm_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let voters = || state.voters.iter().enumerate();
        let highest = self
            .all_certified(state)
            .into_iter()
            .max_by_key(|b| self.slot(*b))
            .unwrap_or(GENESIS);
        for (index, voter) in voters() {
            if self.may_propose(state, voter, state.slot, highest)
                && let Some(block) = self.next_block(state, state.slot, highest)
            {
                return steps.push(Step::Propose(index as u8, block));
            }
        }
        let of_slot = || {
            self.blocks
                .all()
                .filter(|block| self.blocks.info(*block).slot == state.slot)
        };
        for (index, voter) in voters() {
            let may = of_slot().filter(|block| self.may_approve(state, voter, *block));
            steps.extend(may.map(|block| Step::Approve(index as u8, block)));
            let may = of_slot().filter(|block| self.may_confirm(state, voter, *block));
            steps.extend(may.map(|block| Step::Confirm(index as u8, block)));
        }
        if steps.is_empty() && state.slot < self.slots {
            steps.push(Step::NextSlot);
        }
    }

    /// A node has decided on a vote: the first of its two effects, or both where there are no crashes.
    fn decide(&self, state: &mut State, node: u8, memory: Memory, step: Step) {
        let voter = &mut state.voters[usize::from(node)];
        voter.memory = memory;
        let late =
            self.rule.broken == Some(Broken::LockWrittenLate) && matches!(step, Step::Confirm(..));
        let owed = if late { Owed::Write } else { Owed::Say };
        // A crash before the first effect leaves nothing of the decision, as if it had not been made.
        match owed {
            Owed::Say => self.write(state, node),
            Owed::Write => self.say(state, node, memory),
        }
        state.voters[usize::from(node)].owed = Some(owed);
        if !self.crashes {
            self.finish(state, node);
        }
    }

    fn finish(&self, state: &mut State, node: u8) {
        let voter = &mut state.voters[usize::from(node)];
        let memory = voter.memory;
        match voter.owed.take() {
            Some(Owed::Say) => self.say(state, node, memory),
            Some(Owed::Write) => self.write(state, node),
            None => {}
        }
    }

    fn write(&self, state: &mut State, node: u8) {
        let voter = &mut state.voters[usize::from(node)];
        if self.rule.broken != Some(Broken::NothingKept) {
            voter.disk = voter.memory;
        }
    }

    /// The latest votes go out, with the own proposal that the latest approval may be about.
    fn say(&self, state: &mut State, node: u8, Memory { approval, lock }: Memory) {
        let voter = &mut state.voters[usize::from(node)];
        let clear = |block: Block| if block == GENESIS { 0 } else { one(block) };
        voter.approvals |= clear(approval);
        voter.confirmations |= clear(lock);
        if voter.leads & (1 << self.blocks.info(approval).slot) != 0 {
            state.proposed |= clear(approval);
        }
    }

    /// A step in words.
    pub fn tell(&self, step: Step) -> String {
        let block = |block| format!("block {}", self.blocks.name(block));
        let node = |node: u8| format!("node {}", node + 1);
        match step {
            Step::Propose(by, made) => {
                format!("{} proposes {} and approves it", node(by), block(made))
            }
            Step::Approve(by, what) => format!("{} approves {}", node(by), block(what)),
            Step::Confirm(by, what) => format!("{} confirms {}", node(by), block(what)),
            Step::Finish(by) => format!("{} carries out the rest", node(by)),
            Step::Crash(by) => format!("{} crashes and is back", node(by)),
            Step::Repeat(by) => format!("{} repeats its latest votes", node(by)),
            Step::NextSlot => "the next slot begins".to_owned(),
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let fresh = Memory {
            approval: GENESIS,
            lock: GENESIS,
        };
        let voter = |leads| Voter {
            leads,
            memory: fresh,
            disk: fresh,
            owed: None,
            approvals: 0,
            confirmations: 0,
        };
        let state = |schedule: Vec<u8>| {
            let mut voters: Vec<Voter> = schedule.into_iter().map(voter).collect();
            if self.symmetric {
                voters.sort();
            }
            State {
                slot: u8::from(self.calm),
                proposed: 0,
                voters,
            }
        };
        self.schedules().into_iter().map(state).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if self.calm {
            return self.calm_steps(state, steps);
        }
        for index in 0..state.voters.len() {
            self.steps_of(state, index, steps);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        let memory = |node: u8| before.voters[usize::from(node)].memory;
        match step {
            Step::Propose(node, block) => {
                // Nobody else proposes here, so that it was decided on need not be told from that it was sent.
                self.decide(
                    &mut state,
                    node,
                    Memory {
                        approval: block,
                        ..memory(node)
                    },
                    step,
                );
            }
            Step::Approve(node, block) => {
                self.decide(
                    &mut state,
                    node,
                    Memory {
                        approval: block,
                        ..memory(node)
                    },
                    step,
                );
            }
            Step::Confirm(node, block) => {
                self.decide(
                    &mut state,
                    node,
                    Memory {
                        lock: block,
                        ..memory(node)
                    },
                    step,
                );
            }
            Step::Finish(node) => self.finish(&mut state, node),
            Step::Crash(node) => {
                let voter = &mut state.voters[usize::from(node)];
                (voter.memory, voter.owed) = (voter.disk, None);
            }
            Step::Repeat(node) => {
                let latest = state.voters[usize::from(node)].disk;
                self.say(&mut state, node, latest);
            }
            Step::NextSlot => state.slot += 1,
        }
        if self.symmetric {
            state.voters.sort();
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let safe = [
            Property::<Self>::always(NO_FORK, |world, state| {
                let all = world.all_final(state);
                all.iter()
                    .all(|a| all.iter().all(|b| a > b || world.blocks.descends(*b, *a)))
            }),
            Property::always(ONE_CERTIFICATE, |world, state| {
                let slots: Vec<u64> = world
                    .all_certified(state)
                    .into_iter()
                    .map(|b| world.slot(b))
                    .collect();
                slots
                    .iter()
                    .enumerate()
                    .all(|(index, slot)| !slots[..index].contains(slot))
            }),
            Property::always(NOTHING_BESIDE, |world, state| {
                let certified = world.all_certified(state);
                world.all_final(state).iter().all(|f| {
                    certified
                        .iter()
                        .all(|c| world.slot(*c) <= world.slot(*f) || world.blocks.descends(*c, *f))
                })
            }),
            Property::always(FINAL_IS_CERTIFIED, |world, state| {
                world
                    .all_final(state)
                    .iter()
                    .all(|block| world.certified(state, *block))
            }),
        ];
        let mut all: Vec<Property<Self>> = safe.into_iter().collect();
        all.push(Property::sometimes(SOMETHING_FINAL, |world, state| {
            !world.all_final(state).is_empty()
        }));
        if self.calm {
            all.push(Property::eventually(EVERY_SLOT_FINAL, |world, state| {
                let done = world.all_final(state);
                (1..=world.slots)
                    .filter(|slot| {
                        state
                            .voters
                            .iter()
                            .any(|voter| voter.leads & (1 << slot) != 0)
                    })
                    .all(|slot| {
                        done.iter()
                            .any(|block| world.blocks.info(*block).slot == slot)
                    })
            }));
        } else {
            // The locks are not there for nothing: certified branches do part, and one of them becomes final.
            all.push(Property::sometimes(BRANCHES_PART, |world, state| {
                let certified = world.all_certified(state);
                !world.all_final(state).is_empty()
                    && certified.iter().any(|a| {
                        certified
                            .iter()
                            .any(|b| b > a && !world.blocks.descends(*b, *a))
                    })
            }));
        }
        if self.crashes {
            all.push(Property::sometimes(
                VOTE_UNSAID,
                |_: &World, state: &State| {
                    state.voters.iter().any(|voter| {
                        let Memory { approval, lock } = voter.disk;
                        voter.owed.is_none()
                            && voter.approvals & one(approval) == 0
                            && (approval, lock) != (GENESIS, GENESIS)
                    })
                },
            ));
        }
        all
    }
}

/// The point of it all.
pub const NO_FORK: &str = "no two final blocks conflict";
/// What `s > approved_slot` gives.
pub const ONE_CERTIFICATE: &str = "at most one certificate a slot";
/// The heart of the argument.
pub const NOTHING_BESIDE: &str = "what is certified after a final block descends from it";
/// What is confirmed was certified.
pub const FINAL_IS_CERTIFIED: &str = "what is final is certified";
/// The model is not vacuous.
pub const SOMETHING_FINAL: &str = "a block becomes final";
/// Nor is the lock.
pub const BRANCHES_PART: &str = "certified branches part and one becomes final";
/// Nor are the crashes.
pub const VOTE_UNSAID: &str = "a vote is written and lost in a crash";
/// Progress, when messages arrive in their slot.
pub const EVERY_SLOT_FINAL: &str = "every slot of a live leader ends in a final block";
