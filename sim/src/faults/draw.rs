//! The drawing of faults by the generator ([`crate::plan::generator`]).

use alys_runtime::sim::Rng;

use super::actors::Actor;
use super::{Fault, Machine, Step};
use crate::params::{Ms, NodeRef, When, WorldPlan};

/// A random drawing of the generator: one fault, or several that belong together.
#[derive(Debug)]
pub struct Drawing {
    /// Its position in the list of all drawings. A new drawing takes the number after the highest
    /// one; the test `drawings_are_numbered_without_gaps_and_named_once` prints all numbers when
    /// one is missing or doubled. The generator draws by position, so a new drawing changes the
    /// plans of most seeds, and failing seeds that were written down no longer replay.
    pub number: usize,
    /// Its name in the `kinds` of a `[swarm]` table.
    pub name: &'static str,
    /// Its sentence in the schema.
    pub sentence: &'static str,
    /// Adds its steps to a plan.
    pub draw: fn(&mut Draw<'_>),
}

/// Builds a [`Drawing`] in a constant.
pub(super) const fn drawing(
    number: usize,
    name: &'static str,
    sentence: &'static str,
    draw: fn(&mut Draw<'_>),
) -> Drawing {
    Drawing {
        number,
        name,
        sentence,
        draw,
    }
}

/// The moment, the targets and the duration that were drawn for a drawing, and the random stream
/// for everything else.
///
/// The order of the draws from the stream determines the plan of every seed.
#[derive(Debug)]
pub struct Draw<'a> {
    pub world: &'a WorldPlan,
    /// The slot of the first fault.
    pub slot: u64,
    /// A moment in that slot.
    pub moment: When,
    /// The targets: a leader, or any node.
    pub someone: Vec<NodeRef>,
    /// The duration, from one slot to eight.
    pub lasts_ms: u64,
    rng: &'a mut Rng,
    steps: &'a mut Vec<Step>,
}

impl<'a> Draw<'a> {
    /// Draws the values that are common to all drawings.
    pub fn new(
        world: &'a WorldPlan,
        slot: u64,
        rng: &'a mut Rng,
        steps: &'a mut Vec<Step>,
    ) -> Self {
        let mut draw = Self {
            world,
            slot,
            moment: When::Slot(slot, rng.below(world.slot_ms)),
            someone: Vec::new(),
            lasts_ms: 0,
            rng,
            steps,
        };
        draw.someone = draw.someone_else();
        draw.lasts_ms = draw.between(world.slot_ms, 8 * world.slot_ms);
        draw
    }

    /// Adds a step.
    pub fn push(&mut self, at: When, for_ms: u64, nodes: Vec<NodeRef>, fault: impl Into<Fault>) {
        self.steps.push(Step {
            at,
            for_ms: Some(for_ms),
            nodes,
            fault: fault.into(),
        });
    }

    /// Adds a step at the drawn moment, for the drawn duration, on the drawn targets.
    pub fn push_as_drawn(&mut self, fault: impl Into<Fault>) {
        self.push_on(self.someone.clone(), fault);
    }

    /// Adds a step at the drawn moment and for the drawn duration.
    pub fn push_on(&mut self, nodes: Vec<NodeRef>, fault: impl Into<Fault>) {
        self.push(self.moment, self.lasts_ms, nodes, fault);
    }

    /// Adds a step at the drawn moment on the drawn targets.
    pub fn push_for(&mut self, for_ms: u64, fault: impl Into<Fault>) {
        self.push(self.moment, for_ms, self.someone.clone(), fault);
    }

    /// The length of a slot in milliseconds.
    pub fn slot_ms(&self) -> u64 {
        self.world.slot_ms
    }

    /// The moment `offset_ms` after the start of the drawn slot.
    pub fn at(&self, offset_ms: u64) -> When {
        When::Slot(self.slot, offset_ms)
    }

    /// Draws a number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.rng.below(limit)
    }

    /// Draws a number from a closed range.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.rng.below(most - least + 1)
    }

    /// Draws a duration from a closed range of milliseconds.
    pub fn ms_between(&mut self, least: u64, most: u64) -> Ms {
        Ms(self.between(least, most))
    }

    /// Draws a number of repetitions from a closed range.
    pub fn count(&mut self, least: u32, most: u32) -> u32 {
        self.between(least.into(), most.into()) as u32
    }

    /// Draws the sign of a number.
    pub fn sign(&mut self, value: u64) -> i64 {
        let value = value as i64;
        if self.flip() { value } else { -value }
    }

    /// Draws one of several values.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.rng.below(values.len() as u64) as usize]
    }

    /// Draws a boolean; both values are equally likely.
    pub fn flip(&mut self) -> bool {
        self.rng.below(2) == 0
    }

    /// All nodes, or the drawn targets; both are equally likely.
    pub fn all_or_someone(&mut self) -> Vec<NodeRef> {
        if self.flip() {
            vec![NodeRef::All]
        } else {
            self.someone.clone()
        }
    }

    /// Draws new targets: a leader, or any node.
    pub fn someone_else(&mut self) -> Vec<NodeRef> {
        vec![match self.rng.below(4) {
            0 => NodeRef::Leader(0),
            1 => NodeRef::Leader(1),
            _ => NodeRef::Any,
        }]
    }

    /// Draws a node by its number, so that several steps can hit the same one.
    pub fn numbered(&mut self) -> Vec<NodeRef> {
        let number = 1 + self.rng.below(u64::from(self.world.nodes)) as u8;
        vec![NodeRef::Number(number)]
    }

    /// Draws a machine of an authority, or all of them.
    pub fn machine(&mut self) -> Machine {
        self.pick(&Machine::CHOICES)
    }

    /// Draws a named actor in two of three cases, otherwise any.
    pub fn actor(&mut self) -> Actor {
        match self.rng.below(3) {
            0 => Actor::Any,
            _ => self.pick(&Actor::ALL),
        }
    }
}
