//! Exploring a world to the last state, and what that shows.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::world::{NO_FORK, World};

/// What exploring a world came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The world's name.
    pub world: &'static str,
    /// Different states.
    pub states: usize,
    /// Transitions that were followed.
    pub transitions: usize,
    /// Steps of the longest shortest way to a state.
    pub depth: usize,
    /// Real time.
    pub took: Duration,
    /// Whether every reachable state was seen: a search ends early when nothing is left to find.
    pub is_complete: bool,
    /// Each property: whether it holds.
    pub held: Vec<(&'static str, bool)>,
    /// For each property that does not hold: the shortest way there, in words.
    pub counterexamples: Vec<(&'static str, Vec<String>)>,
}

impl Report {
    /// Whether everything that should hold does.
    pub fn is_good(&self) -> bool {
        self.is_complete && self.held.iter().all(|(_, holds)| *holds)
    }

    /// Steps to the violation of a property, if it was violated.
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

/// The head of a table of reports.
pub const HEAD: &str =
    "| world | states | transitions | depth | seconds | properties |\n|---|---|---|---|---|---|";

/// Explores a world breadth first, on one thread, so that counterexamples are the shortest there are.
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
                .map(|step| world.tell(step))
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
