//! Minimization of a failing plan: fewer faults, less time, fewer nodes and users and simpler
//! links, while the same invariant breaks.
//!
//! The algorithm is delta debugging (Zeller and Hildebrandt, 2002): it removes halves of the
//! faults, then quarters, and so on, until no single fault can be removed. It then simplifies the
//! rest of the plan and repeats both steps until a whole round changes nothing. The caller runs the
//! candidates through [`Lab`]; this module reads no clock and starts nothing. Each fault draws from
//! its own random stream, so removing one does not change the targets of the others.

use crate::faults::Step;
use crate::params::{LimitsPlan, LinkPlan, NodeRef, WorkloadPlan, WorldPlan};
use crate::plan::Plan;

/// Most rounds over a whole plan; each but the last makes it smaller.
pub const MAX_ROUNDS: usize = 12;
/// Shortest duration of a fault in milliseconds.
const LEAST_MS: u64 = 50;

/// Runs candidate plans, several at once.
pub trait Lab {
    /// Returns the index of the first plan that fails by the expected invariant, and the simulated
    /// time of the failure in milliseconds. `None` if no plan fails, or the time is over; the
    /// caller then stops.
    fn first_failing(&mut self, plans: &[Plan]) -> Option<(usize, u64)>;
    /// Returns true once the time for the whole search is over.
    fn is_over(&self) -> bool;
    /// Reports a smaller plan that fails.
    fn smaller(&mut self, plan: &Plan);
}

/// A failing plan, and the simulated time of its failure.
#[derive(Debug, Clone)]
struct Failing {
    plan: Plan,
    at_ms: u64,
}

impl Failing {
    /// Replaces the plan by the first of `plans` that fails, and returns its index.
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

/// Returns the smallest failing plan found, and true if no single fault can be removed from it.
/// `plan` must fail at `at_ms`.
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

/// Removes parts of the faults, in parts of decreasing size.
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

/// Removes single faults until no further one can go; returns false if the time is over before.
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

/// Ends the chaos earlier: right after the failure, or, if the failure follows the chaos, in
/// smaller steps.
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
    let changes: [fn(&mut Plan); 27] = [
        |plan| plan.workload.users = 0,
        |plan| plan.workload.watchers = 0,
        |plan| plan.workload.watchers = plan.workload.watchers.min(1),
        |plan| {
            plan.workload = WorkloadPlan {
                users: plan.workload.users.min(1),
                watchers: plan.workload.watchers,
                ..WorkloadPlan::default()
            }
        },
        |plan| plan.world.buggify = false,
        |plan| plan.world.strangers.clear(),
        |plan| plan.world.forger = None,
        |plan| plan.world.light_client = false,
        |plan| plan.world.greedy_peers = false,
        |plan| plan.world.silent_peers = false,
        |plan| (plan.world.crowd, plan.world.places) = (0, None),
        |plan| plan.world.unlisted.clear(),
        |plan| plan.world.queued_events = None,
        |plan| plan.world.publish_again = None,
        |plan| plan.world.tcp_timeout = None,
        |plan| {
            plan.world
                .byzantine
                .truncate(plan.world.byzantine.len().saturating_sub(1))
        },
        |plan| plan.world.left_dead.clear(),
        |plan| plan.world.first_starts.clear(),
        |plan| plan.world.mailboxes.clear(),
        |plan| plan.world.limits = LimitsPlan::default(),
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
        |plan| {
            let expect = &mut plan.expect;
            (expect.changes, expect.void, expect.checks) = (0, None, None);
        },
        |plan| {
            let is_changed = |step: &Step| step.fault.name() == "change-federation";
            if !plan.steps.iter().any(is_changed) {
                (plan.world.governance, plan.world.candidates) = (false, 0);
            }
        },
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
        // Skips node counts that are invalid for the plan.
        let fewer = fewer.filter(is_sound).collect();
        if failing.take(lab, fewer).is_none() {
            return;
        }
    }
}

/// Returns the highest node number that the plan names.
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

/// Returns true if the plan, written as a file, is valid.
fn is_sound(plan: &Plan) -> bool {
    crate::plan::format::parse("candidate.toml", &crate::plan::format::to_toml(plan)).is_ok()
}

/// Shortens each fault, and removes some of its nodes.
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
    use crate::plan::Expect;

    /// Fails if all culprits are among the faults, the chaos lasts beyond `at_ms`, and there are
    /// enough nodes and, if needed, users.
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
            expect: Expect {
                checks: Some(20),
                ..Expect::default()
            },
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
                assert_eq!(small.expect, Expect::default());
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
