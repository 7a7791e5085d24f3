//! Explores a world to the last state, and reports which properties hold.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::world::{NO_FORK, World};

/// The result of exploring a world.
#[derive(Debug, Clone)]
pub struct Report {
    pub world: &'static str,
    /// Distinct states.
    pub states: usize,
    /// Transitions that were explored.
    pub transitions: usize,
    /// Length of the longest of the shortest paths to a state.
    pub depth: usize,
    /// Wall-clock time.
    pub took: Duration,
    /// True when every reachable state was explored; a search ends early when every property has an
    /// example or a counterexample.
    pub is_complete: bool,
    /// Each property, and true if it holds.
    pub held: Vec<(&'static str, bool)>,
    /// Each property that does not hold, with the shortest sequence of steps to a violation.
    pub counterexamples: Vec<(&'static str, Vec<String>)>,
}

impl Report {
    /// True when every property holds in every state.
    pub fn is_good(&self) -> bool {
        self.is_complete && self.held.iter().all(|(_, holds)| *holds)
    }

    /// Number of steps to the violation of a property, if it is violated.
    pub fn steps_to(&self, property: &str) -> Option<usize> {
        self.counterexamples
            .iter()
            .find(|(name, _)| *name == property)
            .map(|(_, steps)| steps.len())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            world,
            states,
            transitions,
            depth,
            took,
            ..
        } = self;
        let verdict = if self.is_good() { "all hold" } else { "FAILS" };
        let seconds = took.as_secs_f64();
        write!(
            f,
            "| {world} | {states} | {transitions} | {depth} | {seconds:.1} | {verdict} |"
        )
    }
}

/// The header of a table of reports.
pub const HEAD: &str =
    "| world | states | transitions | depth | seconds | properties |\n|---|---|---|---|---|---|";

/// Explores a world breadth first, on one thread, so that counterexamples are the shortest
/// possible.
pub fn check(world: &World) -> Report {
    explore(world, HasDiscoveries::All)
}

/// Explores a world until two final blocks conflict, or to the last state.
pub fn check_broken(world: &World) -> Report {
    explore(world, HasDiscoveries::AllOf(BTreeSet::from([NO_FORK])))
}

/// Explores a world until any property is violated.
pub fn first_violation(world: &World) -> Report {
    explore(world, HasDiscoveries::AnyFailures)
}

fn explore(world: &World, until: HasDiscoveries) -> Report {
    let began = Instant::now();
    let checker = world
        .clone()
        .checker()
        .threads(1)
        .finish_when(until)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    let mut held = Vec::new();
    let mut counterexamples = Vec::new();
    for property in world.properties() {
        let discovery = found.get(property.name);
        let wants_example = property.expectation == Expectation::Sometimes;
        held.push((property.name, discovery.is_some() == wants_example));
        if let Some(path) = discovery.filter(|_| !wants_example) {
            let steps = path
                .clone()
                .into_actions()
                .into_iter()
                .map(|step| world.describe(step))
                .collect();
            counterexamples.push((property.name, steps));
        }
    }
    Report {
        world: world.name,
        states: checker.unique_state_count(),
        transitions: checker.state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        is_complete: found.len() < world.properties().len(),
        held,
        counterexamples,
    }
}
