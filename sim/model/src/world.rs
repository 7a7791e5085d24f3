//! Small networks of nodes that follow a [`Rule`], as a model for Stateright.
//!
//! Sent messages stay in a set. A node may act on any of them at any time, again, or never, which
//! covers loss, delay, reordering and duplication. Clocks play no part: any node may be in any slot
//! at any time, which is more than the drift allowance permits. Every schedule of leaders is an
//! initial state; empty slots are left out, so a leader may lead twice in a row. A faulty node has
//! no state: its signature is under every block, and its slots offer every block on a certified
//! parent.

use stateright::{Model, Property};

use crate::blocks::{Block, Blocks, GENESIS, MAX_SLOTS, Set, members, one};
use crate::rule::{Broken, Faults, Parent, Promises, Rule};

/// A world to check.
#[derive(Debug, Clone)]
pub struct World {
    /// Name in tables.
    pub name: &'static str,
    /// Number of nodes, the faulty ones included.
    pub nodes: usize,
    /// Number of nodes that sign anything.
    pub byzantine: usize,
    /// Number of nodes that send nothing.
    pub silent: usize,
    /// Number of slots without genesis's; at most [`MAX_SLOTS`].
    pub slots: u8,
    /// Nodes crash: writing and sending are separate steps then, and a crash may come between them.
    pub crashes: bool,
    /// Every message arrives in its slot: for properties about progress.
    pub calm: bool,
    /// States that are equal after renaming nodes count as one.
    pub symmetric: bool,
    /// The rule that nodes follow.
    pub rule: Rule,
    blocks: Blocks,
}

/// A node's latest approval and confirmation. Their slots are its promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    approval: Block,
    lock: Block,
}

/// The effect of a node's last decision that is not carried out yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pending {
    /// The vote is written, and not sent yet.
    Send,
    /// The vote is sent, and not written yet.
    Write,
}

/// A correct node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voter {
    /// The slots that the node leads, one bit each.
    leads: u8,
    memory: Memory,
    /// The part of the memory that survives a crash.
    disk: Memory,
    pending: Option<Pending>,
    /// Blocks whose approval was ever sent.
    approvals: Set,
    /// Blocks whose confirmation was ever sent.
    confirmations: Set,
}

/// A state of a world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The current slot of a calm world; 0 in others.
    slot: u8,
    /// The blocks that correct leaders proposed.
    proposed: Set,
    voters: Vec<Voter>,
}

/// A transition. Nodes are identified by their index in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A leader proposes a block and approves it.
    Propose(u8, Block),
    /// A node approves a block.
    Approve(u8, Block),
    /// A node confirms a block.
    Confirm(u8, Block),
    /// A node carries out the pending effect of its last decision.
    Finish(u8),
    /// A node crashes and restarts.
    Crash(u8),
    /// A node sends the latest votes on its disk again.
    Resend(u8),
    /// The next slot of a calm world begins.
    NextSlot,
}

impl World {
    /// A world of this many nodes and slots, with as many faulty nodes as it tolerates.
    pub fn new(name: &'static str, nodes: usize, faults: Faults, slots: u8) -> Self {
        let byzantine = if faults == Faults::Byzantine {
            faults.tolerated(nodes)
        } else {
            0
        };
        let crashes = faults == Faults::Crash;
        let slots = slots.min(MAX_SLOTS);
        Self {
            name,
            nodes,
            byzantine,
            silent: 0,
            slots,
            crashes,
            calm: false,
            symmetric: false,
            rule: Rule::of(nodes, faults),
            blocks: Blocks::new(slots),
        }
    }

    /// The same world with a mistake in the rule.
    pub fn with(self, broken: Broken) -> Self {
        Self {
            rule: self.rule.with(broken),
            ..self
        }
    }

    /// The same world with interchangeable nodes.
    pub fn symmetric(self) -> Self {
        Self {
            symmetric: true,
            ..self
        }
    }

    /// The same world with or without crashes.
    pub fn crashing(self, crashes: bool) -> Self {
        Self { crashes, ..self }
    }

    /// A world of this many nodes in which messages arrive in their slot, and the faulty nodes send
    /// nothing.
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
        self.nodes
            .saturating_sub(self.byzantine)
            .saturating_sub(self.silent)
    }

    /// All schedules of leaders up to renaming of nodes, as the slots of each correct node.
    fn schedules(&self) -> Vec<Vec<u8>> {
        let mut all = vec![vec![0; self.voters()]];
        let others = self.byzantine > 0 || self.silent > 0;
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
        block == GENESIS || self.rule.certifies(signers.saturating_add(self.byzantine))
    }

    fn is_final(&self, state: &State, block: Block) -> bool {
        let signers = state
            .voters
            .iter()
            .filter(|voter| voter.confirmations & one(block) != 0)
            .count();
        self.rule.certifies(signers.saturating_add(self.byzantine))
    }

    /// Blocks with a certificate, without genesis. Each was approved by a correct node, because
    /// faulty nodes alone are no quorum.
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

    /// True when a proposal of the block exists.
    fn exists(&self, state: &State, block: Block) -> bool {
        let info = self.blocks.info(block);
        let is_led = state
            .voters
            .iter()
            .any(|voter| voter.leads & (1 << info.slot) != 0);
        if is_led {
            return state.proposed & one(block) != 0;
        }
        self.byzantine > 0 && self.certified(state, info.parent)
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

    /// The block that a leader proposes; a leader that forgot its first block makes a second one.
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
        let voter = &state.voters[index];
        let node = index as u8;
        if voter.pending.is_some() {
            // The effects of one input are carried out before the next input is given.
            return steps.extend([Step::Finish(node), Step::Crash(node)]);
        }
        if voter.memory != voter.disk {
            steps.push(Step::Crash(node));
        }
        let Memory { approval, lock } = voter.disk;
        let is_unsent = (approval != GENESIS && voter.approvals & one(approval) == 0)
            || (lock != GENESIS && voter.confirmations & one(lock) == 0);
        if is_unsent {
            steps.push(Step::Resend(node));
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

    /// The steps of a calm world: the slot's leader proposes on the highest certified block, then
    /// all nodes approve and confirm, in any order, as the rule permits; then the next slot begins.
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

    /// Carries out the first effect of a decision, or both in a world without crashes.
    fn decide(&self, state: &mut State, node: u8, memory: Memory, step: Step) {
        let voter = &mut state.voters[usize::from(node)];
        voter.memory = memory;
        let is_late =
            self.rule.broken == Some(Broken::LockWrittenLate) && matches!(step, Step::Confirm(..));
        // A crash before the first effect is a step of the state before the decision.
        let pending = if is_late {
            self.send(state, node, memory);
            Pending::Write
        } else {
            self.write(state, node);
            Pending::Send
        };
        state.voters[usize::from(node)].pending = Some(pending);
        if !self.crashes {
            self.finish(state, node);
        }
    }

    fn finish(&self, state: &mut State, node: u8) {
        let voter = &mut state.voters[usize::from(node)];
        let memory = voter.memory;
        match voter.pending.take() {
            Some(Pending::Send) => self.send(state, node, memory),
            Some(Pending::Write) => self.write(state, node),
            None => {}
        }
    }

    fn write(&self, state: &mut State, node: u8) {
        let voter = &mut state.voters[usize::from(node)];
        if self.rule.broken != Some(Broken::NothingKept) {
            voter.disk = voter.memory;
        }
    }

    /// Sends the latest votes, and the own proposal if the latest approval is of one.
    fn send(&self, state: &mut State, node: u8, Memory { approval, lock }: Memory) {
        let voter = &mut state.voters[usize::from(node)];
        let clear = |block: Block| if block == GENESIS { 0 } else { one(block) };
        voter.approvals |= clear(approval);
        voter.confirmations |= clear(lock);
        if voter.leads & (1 << self.blocks.info(approval).slot) != 0 {
            state.proposed |= clear(approval);
        }
    }

    /// A step as a sentence.
    pub fn describe(&self, step: Step) -> String {
        let block = |block| format!("block {}", self.blocks.name(block));
        let node = |node: u8| format!("node {}", node.saturating_add(1));
        match step {
            Step::Propose(by, made) => {
                format!("{} proposes {} and approves it", node(by), block(made))
            }
            Step::Approve(by, approved) => format!("{} approves {}", node(by), block(approved)),
            Step::Confirm(by, confirmed) => format!("{} confirms {}", node(by), block(confirmed)),
            Step::Finish(by) => format!("{} carries out the pending effect", node(by)),
            Step::Crash(by) => format!("{} crashes and restarts", node(by)),
            Step::Resend(by) => format!("{} sends its latest votes again", node(by)),
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
            pending: None,
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
            Step::Propose(node, block) | Step::Approve(node, block) => {
                let approved = Memory {
                    approval: block,
                    ..memory(node)
                };
                self.decide(&mut state, node, approved, step);
            }
            Step::Confirm(node, block) => {
                let locked = Memory {
                    lock: block,
                    ..memory(node)
                };
                self.decide(&mut state, node, locked, step);
            }
            Step::Finish(node) => self.finish(&mut state, node),
            Step::Crash(node) => {
                let voter = &mut state.voters[usize::from(node)];
                voter.memory = voter.disk;
                voter.pending = None;
            }
            Step::Resend(node) => {
                let latest = state.voters[usize::from(node)].disk;
                self.send(&mut state, node, latest);
            }
            Step::NextSlot => state.slot = state.slot.saturating_add(1),
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
            // The lock has an effect: certified branches diverge, and one of them becomes final.
            all.push(Property::sometimes(BRANCHES_DIVERGE, |world, state| {
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
                VOTE_UNSENT,
                |_: &World, state: &State| {
                    state.voters.iter().any(|voter| {
                        let Memory { approval, lock } = voter.disk;
                        voter.pending.is_none()
                            && voter.approvals & one(approval) == 0
                            && (approval, lock) != (GENESIS, GENESIS)
                    })
                },
            ));
        }
        all
    }
}

/// Safety.
pub const NO_FORK: &str = "no two final blocks conflict";
/// Follows from `s > approved_slot`.
pub const ONE_CERTIFICATE: &str = "at most one certificate a slot";
/// The central step of the safety argument.
pub const NOTHING_BESIDE: &str = "blocks certified after a final block descend from it";
/// Follows from rule 3.4, which confirms certified blocks only.
pub const FINAL_IS_CERTIFIED: &str = "final blocks are certified";
/// The model is not vacuous.
pub const SOMETHING_FINAL: &str = "a block becomes final";
/// The lock is not vacuous.
pub const BRANCHES_DIVERGE: &str = "certified branches diverge and one becomes final";
/// Crashes are not vacuous.
pub const VOTE_UNSENT: &str = "a vote is written and lost in a crash";
/// Progress while messages arrive in their slot.
pub const EVERY_SLOT_FINAL: &str = "every slot of a live leader ends in a final block";
