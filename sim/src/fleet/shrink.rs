//! Making a failing plan small: fewer faults, less time, fewer nodes and users, simpler links, while the same invariant
//! breaks.
//!
//! Delta debugging (Zeller and Hildebrandt, 2002): the faults are halved, quartered, and so on, until no single one can be
//! left out. Then everything else of the plan is tried in a simpler form, and the faults again, until a whole round changes
//! nothing. Whether a plan still fails is asked of the caller, who runs it; nothing here reads a clock or starts anything.
//! Each fault draws from a stream of its own, so that leaving one out does not change whom the others hit.

use crate::faults::Step;
use crate::params::{LinkPlan, NodeRef, WorkloadPlan, WorldPlan};
use crate::plan::Plan;

/// Rounds over all of a plan; each but the last makes it smaller.
pub const MAX_ROUNDS: usize = 12;
/// Durations are not made shorter than this.
const LEAST_MS: u64 = 50;

/// Runs plans, several at once, until one fails by the invariant that is looked for.
pub trait Lab {
    /// Which of these fails as wanted, the first in their order, and when it did, in simulated milliseconds. `None`: none of
    /// them; or there is no more time, and then it is asked nothing more.
    fn first_failing(&mut self, plans: &[Plan]) -> Option<(usize, u64)>;
    /// Whether the time that was given is over.
    fn is_over(&self) -> bool;
    /// Told of each plan that is smaller and fails.
    fn smaller(&mut self, plan: &Plan);
}

/// A plan that fails, and when.
#[derive(Debug, Clone)]
struct Failing {
    plan: Plan,
    at_ms: u64,
}

impl Failing {
    /// Goes over to the first of the plans that fails, if any does.
    fn take(&mut self, lab: &mut impl Lab, plans: Vec<Plan>) -> Option<usize> {
        let plans: Vec<Plan> = plans
            .into_iter()
            .map(Plan::without_late_steps)
            .filter(|plan| *plan != self.plan)
            .collect();
        if plans.is_empty() || lab.is_over() {
            return None;
        }
        let (index, at_ms) = lab.first_failing(&plans)?;
        self.plan = plans.get(index)?.clone();
        self.at_ms = at_ms;
        lab.smaller(&self.plan);
        Some(index)
    }
}

/// The smallest plan that is found. `plan` fails at `at_ms`. True when no single fault can be left out.
pub fn shrink(plan: &Plan, at_ms: u64, lab: &mut impl Lab) -> (Plan, bool) {
    let mut failing = Failing {
        plan: plan.clone(),
        at_ms,
    };
    for _ in 0..MAX_ROUNDS {
        let before = failing.plan.clone();
        fewer_steps(&mut failing, lab);
        less_time(&mut failing, lab);
        simpler_world(&mut failing, lab);
        simpler_steps(&mut failing, lab);
        if failing.plan == before || lab.is_over() {
            break;
        }
    }
    let is_minimal = is_one_minimal(&mut failing, lab);
    (failing.plan, is_minimal)
}

fn without(plan: &Plan, from: usize, to: usize) -> Plan {
    let mut plan = plan.clone();
    plan.steps.drain(from..to.min(plan.steps.len()));
    plan
}

/// Leaves out ever smaller parts of the faults.
fn fewer_steps(failing: &mut Failing, lab: &mut impl Lab) {
    let mut size = failing.plan.steps.len();
    while size > 0 && !lab.is_over() {
        let count = failing.plan.steps.len();
        let parts = (0..count)
            .step_by(size)
            .map(|from| without(&failing.plan, from, from + size))
            .collect();
        match failing.take(lab, parts) {
            Some(_) => size = size.min(failing.plan.steps.len()),
            None => size /= 2,
        }
    }
}

/// Asks once more for each fault that is left; true if none can go.
fn is_one_minimal(failing: &mut Failing, lab: &mut impl Lab) -> bool {
    while !lab.is_over() {
        let count = failing.plan.steps.len();
        let parts = (0..count)
            .map(|from| without(&failing.plan, from, from + 1))
            .collect();
        if failing.take(lab, parts).is_none() {
            return !lab.is_over();
        }
    }
    false
}

/// Ends the chaos earlier: at the failure, or, where it shows only after the chaos, ever sooner.
fn less_time(failing: &mut Failing, lab: &mut impl Lab) {
    loop {
        let until = failing.plan.until_ms;
        let slot = failing.plan.world.slot_ms;
        let whole = |ms: u64| ms.div_ceil(1_000) * 1_000;
        let ends = [
            whole(failing.at_ms + 1),
            whole(until / 2),
            whole(until * 3 / 4),
            until.saturating_sub(slot),
        ];
        let plans = ends
            .into_iter()
            .filter(|end| *end >= 2 * slot && *end < until)
            .map(|end| Plan {
                until_ms: end,
                ..failing.plan.clone()
            })
            .collect();
        if failing.take(lab, plans).is_none() {
            return;
        }
    }
}

fn simpler_world(failing: &mut Failing, lab: &mut impl Lab) {
    let changes: [fn(&mut Plan); 15] = [
        |plan| plan.workload.users = 0,
        |plan| {
            plan.workload = WorkloadPlan {
                users: plan.workload.users.min(1),
                ..WorkloadPlan::default()
            }
        },
        |plan| plan.world.buggify = false,
        |plan| plan.world.forger = None,
        |plan| plan.world.light_client = false,
        |plan| plan.world.greedy_peers = false,
        |plan| plan.world.silent_peers = false,
        |plan| plan.world.tcp_timeout = None,
        |plan| {
            plan.world
                .byzantine
                .truncate(plan.world.byzantine.len().saturating_sub(1))
        },
        |plan| plan.world.left_dead.clear(),
        |plan| plan.world.link = LinkPlan::default(),
        |plan| plan.world.link.loss_ppm = 0,
        |plan| plan.world.link.jitter_ms = 0,
        |plan| {
            let WorldPlan {
                slot_ms, drift_ms, ..
            } = WorldPlan::default();
            (plan.world.slot_ms, plan.world.drift_ms) = (slot_ms, drift_ms);
        },
        |plan| (plan.expect.min_final, plan.expect.losses) = (0, 0),
    ];
    for change in changes {
        let mut plan = failing.plan.clone();
        change(&mut plan);
        failing.take(lab, vec![plan]);
    }
    loop {
        let least = named(&failing.plan).max(1);
        let fewer = (least..failing.plan.world.nodes).map(|nodes| {
            let mut plan = failing.plan.clone();
            plan.world.nodes = nodes;
            plan
        });
        // A count that the plan does not allow is not a simpler plan.
        let fewer = fewer.filter(is_sound).collect();
        if failing.take(lab, fewer).is_none() {
            return;
        }
    }
}

/// The highest number of a node that the plan names.
fn named(plan: &Plan) -> u8 {
    let steps = plan
        .steps
        .iter()
        .flat_map(|step| &step.nodes)
        .filter_map(|node| match node {
            NodeRef::Number(number) => Some(*number),
            _ => None,
        });
    let bad = plan.world.byzantine.iter().map(|one| one.node);
    steps
        .chain(bad)
        .chain(plan.world.forger)
        .chain(plan.world.left_dead.iter().copied())
        .max()
        .unwrap_or(0)
}

/// Whether the plan could be read from a file.
fn is_sound(plan: &Plan) -> bool {
    crate::plan::format::parse("candidate.toml", &crate::plan::format::to_toml(plan)).is_ok()
}

/// Tries each fault shorter and on fewer nodes.
fn simpler_steps(failing: &mut Failing, lab: &mut impl Lab) {
    for index in 0..failing.plan.steps.len() {
        while !lab.is_over() {
            let Some(step) = failing.plan.steps.get(index) else {
                return;
            };
            let simpler = simpler(step).into_iter().map(|step| {
                let mut plan = failing.plan.clone();
                plan.steps[index] = step;
                plan
            });
            let simpler = simpler.filter(is_sound).collect();
            if failing.take(lab, simpler).is_none() {
                break;
            }
        }
    }
}

fn simpler(step: &Step) -> Vec<Step> {
    let mut all = Vec::new();
    if step.nodes.len() > 1 {
        all.extend((0..step.nodes.len()).map(|index| {
            let mut fewer = step.clone();
            fewer.nodes.remove(index);
            fewer
        }));
    }
    if let Some(ms) = step.for_ms.filter(|ms| *ms > LEAST_MS) {
        all.push(Step {
            for_ms: Some((ms / 2).max(LEAST_MS)),
            ..step.clone()
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Reset;
    use crate::params::When;

    /// Fails when all these faults are there, at so many milliseconds, with so many nodes and users.
    struct Model {
        culprits: Vec<u64>,
        at_ms: u64,
        least_nodes: u8,
        needs_users: bool,
        asked: usize,
        most: usize,
    }

    impl Model {
        fn fails(&self, plan: &Plan) -> bool {
            let has = |at: &u64| plan.steps.iter().any(|step| step.at == When::At(*at));
            self.culprits.iter().all(has)
                && plan.until_ms > self.at_ms
                && plan.world.nodes >= self.least_nodes
                && (plan.workload.users > 0 || !self.needs_users)
        }
    }

    impl Lab for Model {
        fn first_failing(&mut self, plans: &[Plan]) -> Option<(usize, u64)> {
            self.asked += plans.len();
            plans
                .iter()
                .position(|plan| self.fails(plan))
                .map(|index| (index, self.at_ms))
        }

        fn is_over(&self) -> bool {
            self.asked >= self.most
        }

        fn smaller(&mut self, plan: &Plan) {
            assert!(self.fails(plan));
        }
    }

    fn plan(steps: u64) -> Plan {
        let steps = (0..steps).map(|n| Step {
            at: When::At(1_000 * n),
            for_ms: Some(4_000),
            nodes: vec![NodeRef::All, NodeRef::Leader(0)],
            fault: Reset {}.into(),
        });
        let world = WorldPlan {
            nodes: 7,
            buggify: true,
            ..WorldPlan::default()
        };
        Plan {
            name: "big".into(),
            why: "a test".into(),
            world,
            steps: steps.collect(),
            until_ms: 60_000,
            ..Plan::default()
        }
    }

    #[test]
    fn what_is_left_is_what_it_takes() {
        for culprits in [
            vec![],
            vec![0],
            vec![19_000],
            vec![3_000, 4_000],
            vec![1_000, 17_000, 18_000, 20_000],
        ] {
            for (least_nodes, needs_users) in [(1, false), (4, true), (7, true)] {
                let at_ms = 20_500;
                let mut lab = Model {
                    culprits: culprits.clone(),
                    at_ms,
                    least_nodes,
                    needs_users,
                    asked: 0,
                    most: 5_000,
                };
                let (small, is_minimal) = shrink(&plan(40), at_ms, &mut lab);
                let left: Vec<String> =
                    small.steps.iter().map(|step| step.at.to_string()).collect();
                let expected: Vec<String> = culprits
                    .iter()
                    .map(|at| When::At(*at).to_string())
                    .collect();
                assert_eq!((left, is_minimal), (expected, true));
                assert_eq!(
                    (small.until_ms, small.world.nodes),
                    (21_000, least_nodes.max(1))
                );
                assert_eq!(
                    (small.workload.users, small.world.buggify),
                    (u8::from(needs_users), false)
                );
                let is_short = |step: &Step| step.nodes.len() == 1 && step.for_ms == Some(LEAST_MS);
                assert!(small.steps.iter().all(is_short), "{:?}", small.steps);
            }
        }
    }

    #[test]
    fn it_ends_when_the_time_is_over_with_a_plan_that_fails() {
        for most in 0..60 {
            let mut lab = Model {
                culprits: vec![5_000, 33_000],
                at_ms: 100,
                least_nodes: 4,
                needs_users: false,
                asked: 0,
                most,
            };
            let (small, _) = shrink(&plan(40), 100, &mut lab);
            assert!(lab.fails(&small), "after {most} runs");
            assert!(
                lab.asked < most + 45,
                "a batch is asked whole, and then nothing more"
            );
        }
    }
}
