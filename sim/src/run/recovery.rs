//! After the chaos: who is healed, what is demanded of them, and when nothing can be demanded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_runtime::sim::{Rng, World};
use alys_runtime::time;

use crate::cluster::{Living, now_ms};
use crate::invariants::{Judge, Violation, unrested};
use crate::params::{Ms, WorldPlan};
use crate::plan::Plan;
use crate::run::inspect;

/// Within which each actor comes to rest once.
const RESTS_MS: u64 = 10_000;
/// Between two looks at mailboxes.
const GLANCE: Duration = Duration::from_millis(10);
/// Between two looks at the oracles.
const LOOK: Duration = Duration::from_millis(100);
/// Rounds of leaders within which the core's chain goes on, and within which each of the core leads a block that becomes
/// final.
const ROUNDS: u64 = 3;
/// Time for processes to start and connections to be made, besides the rounds.
const SETTLES_MS: u64 = 20_000;
/// Of how many runs one heals everybody who does not stay dead by the plan; the others heal just enough.
const ALL_SHARE: u64 = 2;

/// Who is healed, from 0: a quorum that the seed draws, or everybody; never those who stay dead by the plan or keep to no
/// rule, who are no part of a quorum that suffices. Nor are the `mute`, who have lost their votes, or may find that out when
/// their disks are replaced: they come on top, to catch up.
pub fn core(world: &WorldPlan, mute: &BTreeSet<u8>, rng: &mut Rng) -> Vec<u8> {
    let may_live = |node: &u8| !world.left_dead.contains(&(node + 1)) && !world.is_byzantine(*node);
    let mut core: Vec<u8> = (0..world.nodes).filter(may_live).collect();
    if rng.below(ALL_SHARE) == 0 {
        return core;
    }
    let mut voters: Vec<u8> = core
        .iter()
        .copied()
        .filter(|node| !mute.contains(node))
        .collect();
    while voters.len() > world.quorum() {
        let dead = voters.remove(rng.below(voters.len() as u64) as usize);
        core.retain(|node| *node != dead);
    }
    core
}

/// How the demand for progress ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The core's chain goes on.
    Made,
    /// Another invariant broke meanwhile.
    Broken,
    /// By its plan or its faults, too few of the federation can vote: nothing can be demanded.
    Unrecoverable,
}

/// Whether so many of the core can vote that it must go on, by what was done to it: what its nodes say of themselves excuses
/// nobody.
pub fn can_recover(core: &[u8], mute: &BTreeSet<u8>, quorum: usize) -> bool {
    core.iter().filter(|node| !mute.contains(node)).count() >= quorum
}

/// Three rounds of leaders, after processes have started and connections been made.
fn rounds_ms(world: &WorldPlan) -> u64 {
    ROUNDS * u64::from(world.nodes) * world.slot_ms + SETTLES_MS
}

/// How long the progress that is demanded may take.
pub fn within_ms(plan: &Plan) -> u64 {
    plan.expect
        .within
        .map_or(rounds_ms(&plan.world), |Ms(ms)| ms)
}

/// Demands that finality moves on every node of the core within rounds, and that everybody of the core leads again.
///
/// # Errors
/// The violation.
pub async fn progress(
    world: World,
    judge: &Judge,
    plan: &Plan,
    core: &[u8],
    mute: &BTreeSet<u8>,
) -> Result<Progress, Violation> {
    let (progress, within_ms, rounds_ms) = (
        plan.expect.progress,
        within_ms(plan),
        rounds_ms(&plan.world),
    );
    let healed_ms = now_ms(world);
    let top = judge.look().finality.top();
    let needed = top + progress;
    let behind = || {
        let oracles = judge.look();
        let reached = core.iter().map(|node| (oracles.finality.of(*node), *node));
        reached.filter(|(reached, _)| *reached < needed).min()
    };
    if wait(world, judge, healed_ms + within_ms, || behind().is_none()).await {
        return Ok(Progress::Broken);
    }
    if let Some((reached, node)) = behind() {
        return match can_recover(core, mute, plan.world.quorum()) {
            true => Err(Violation::NoProgress {
                node: node + 1,
                reached,
                needed,
                within_ms,
            }),
            false => Ok(Progress::Unrecoverable),
        };
    }
    let silent = silent(judge);
    let quiet = || {
        let oracles = judge.look();
        let leads = |node: &u8| {
            oracles
                .finality
                .blocks
                .range(top + 1..)
                .any(|(_, block)| block.proposer == *node)
        };
        core.iter()
            .find(|node| !silent.contains(node) && !leads(node))
            .copied()
    };
    // Everybody had a turn in each round.
    if wait(world, judge, now_ms(world) + rounds_ms, || {
        quiet().is_none()
    })
    .await
    {
        return Ok(Progress::Broken);
    }
    match quiet() {
        None => Ok(Progress::Made),
        Some(node) => Err(Violation::SilentLeader {
            node: node + 1,
            within_ms: now_ms(world) - healed_ms,
        }),
    }
}

/// Demands that each actor of the core is idle once: nothing waits, and nothing that was taken is nowhere.
///
/// # Errors
/// [`Violation::NeverAtRest`].
pub async fn rest(
    world: World,
    judge: &Judge,
    living: &Living,
    core: &[u8],
) -> Result<(), Violation> {
    let begun_ms = now_ms(world);
    let mut rested: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    loop {
        let busy = core.iter().find_map(|node| {
            let busy = match living.find(*node) {
                Some(alive) => unrested(&alive.actors(), rested.entry(*node).or_default()),
                None => Some(("its process, which is down".to_owned(), 0, 0)),
            };
            busy.map(|busy| (*node, busy))
        });
        let after_ms = now_ms(world) - begun_ms;
        match busy {
            None => return Ok(()),
            Some(_) if judge.is_over() => return Ok(()),
            Some((node, (actor, depth, unaccounted))) if after_ms > RESTS_MS => {
                return Err(Violation::NeverAtRest {
                    node: node + 1,
                    actor,
                    depth,
                    unaccounted,
                    after_ms,
                });
            }
            Some(_) => time::sleep(GLANCE).await,
        }
    }
}

/// Those who have said that their votes are lost.
fn silent(judge: &Judge) -> BTreeSet<u8> {
    let oracles = judge.look();
    let is_silent = oracles
        .summaries
        .iter()
        .filter(|(_, summary)| summary.votes.silent_until.is_some());
    is_silent.map(|(node, _)| *node).collect()
}

/// Waits until a moment, or until something is done. True when an invariant broke meanwhile.
pub async fn wait(world: World, judge: &Judge, until_ms: u64, is_done: impl Fn() -> bool) -> bool {
    while now_ms(world) < until_ms && !is_done() {
        inspect::on_look(world);
        if judge.is_over() {
            return true;
        }
        time::sleep(LOOK).await;
    }
    judge.is_over()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_types::FaultModel;

    fn plan(nodes: u8, fault_model: FaultModel, left_dead: Vec<u8>) -> WorldPlan {
        let text = "why = \"a test\"\nuntil = \"10s\"";
        let plan = crate::plan::format::parse("test.toml", text)
            .expect("it is well-formed")
            .plan
            .world;
        WorldPlan {
            nodes,
            fault_model,
            left_dead,
            ..plan
        }
    }

    #[test]
    fn a_core_suffices_and_leaves_the_dead_alone() {
        let worlds = [
            plan(4, FaultModel::Byzantine, vec![]),
            plan(7, FaultModel::Byzantine, vec![3]),
            plan(5, FaultModel::Crash, vec![1, 5]),
        ];
        for world in worlds {
            let cores: BTreeSet<Vec<u8>> = (0..100)
                .map(|seed| core(&world, &BTreeSet::new(), &mut Rng::derive(seed, "test")))
                .collect();
            assert!(
                cores.len() > 1 || world.left_dead.len() == world.tolerated(),
                "they are drawn"
            );
            for core in cores {
                assert!(core.len() >= world.quorum());
                assert!(
                    core.iter()
                        .all(|node| !world.left_dead.contains(&(node + 1)))
                );
            }
        }
    }

    #[test]
    fn the_mute_come_on_top_of_a_core() {
        let world = plan(4, FaultModel::Byzantine, vec![]);
        for seed in 0..100 {
            let core = core(&world, &BTreeSet::from([2]), &mut Rng::derive(seed, "test"));
            assert_eq!(
                core,
                [0, 1, 2, 3],
                "all others are needed, and there is nobody to leave dead"
            );
        }
        let seven = plan(7, FaultModel::Byzantine, vec![]);
        for seed in 0..100 {
            let mute = BTreeSet::from([0, 6]);
            let core = core(&seven, &mute, &mut Rng::derive(seed, "test"));
            assert!(can_recover(&core, &mute, seven.quorum()), "{core:?}");
        }
    }

    #[test]
    fn what_cannot_recover_is_told_by_counting() {
        assert!(can_recover(&[0, 1, 2], &BTreeSet::new(), 3));
        assert!(!can_recover(&[0, 1, 2], &BTreeSet::from([1]), 3));
        assert!(can_recover(&[0, 1, 2, 3], &BTreeSet::from([1]), 3));
    }
}
