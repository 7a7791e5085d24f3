//! Recovery after the chaos: the choice of the authorities to restore (the core), and the demands
//! for progress and idle actors that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_runtime::sim::{Rng, World};
use alys_runtime::time;

use crate::cluster::{Living, now_ms};
use crate::invariants::{Judge, Violation, unrested};
use crate::params::{Ms, WorldPlan};
use crate::plan::Plan;
use crate::run::inspect;

/// Time within which each actor must be idle at least once.
const IDLE_TIMEOUT_MS: u64 = 10_000;
/// Time after the end of the faults within which all authorities are connected: 15 s until a silent
/// connection is noticed, 7 s until the next dial, and two attempts of a dial (4 s) and a handshake
/// (10 s), because the first one may meet the remains of the old connection. GUESSED.
const CONNECT_MS: u64 = 50_000;
/// The same for a connection that ended later without a fault, as far as its cause is known: two
/// dials at once, of which none stays. GUESSED.
const RECONNECT_MS: u64 = 10_000;
/// Interval between two checks of the mailboxes.
const MAILBOX_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Interval between two checks of the invariants.
const INVARIANT_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Rounds of leaders within which finality must advance, and within which each authority of the
/// core must propose a block that becomes final.
const PROGRESS_ROUNDS: u64 = 3;
/// Time for processes to start and to connect, in addition to the rounds.
const STARTUP_BUDGET_MS: u64 = 20_000;
/// Time for a user to give a transaction again to a client that lost its pool, and for its node to
/// repeat a broadcast twice: every 20 s, at most one message in 5 s.
const REPEATS_BUDGET_MS: u64 = 60_000;
/// Time for an AuxPowActor to give its proofs to the chain again, beside some rounds.
const WORK_BUDGET_MS: u64 = 10_000;
/// One run in this many restores every node; the others restore a bare quorum.
const FULL_RECOVERY_ONE_IN: u64 = 2;

/// Draws the authorities to restore, from 0: a bare quorum, or all of them. Authorities that are
/// Byzantine or that the plan leaves dead are never restored, because a quorum must suffice without
/// them. The `mute`, which lost their votes or may discover the loss when their disks are replaced,
/// do not count towards the quorum, but are restored in addition so that they catch up. A world
/// whose federation can change is restored whole, because the last set is not known beforehand.
pub fn core(world: &WorldPlan, mute: &BTreeSet<u8>, rng: &mut Rng) -> Vec<u8> {
    let may_live = |node: &u8| !world.left_dead.contains(&(node + 1)) && !world.is_byzantine(*node);
    let mut core: Vec<u8> = (0..world.nodes).filter(may_live).collect();
    if rng.below(FULL_RECOVERY_ONE_IN) == 0 || world.governance {
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

/// Slots of the calm stretch at the end: a window of blocks whose costs are counted, and some more.
const CALM_SLOTS: u64 = 14;

/// Waits until the run has settled, if it can, and for a calm stretch whose slots, costs and tables
/// the invariants judge.
pub async fn calm(world: World, judge: &Judge, slot_ms: u64) {
    let (can_settle, settled_ms) = {
        let oracles = judge.look();
        (oracles.calm.can_settle(), oracles.calm.settled_ms())
    };
    if can_settle {
        let until_ms = settled_ms.max(now_ms(world)) + CALM_SLOTS * slot_ms;
        wait(world, judge, until_ms, || false).await;
    }
}

/// The result of the demand for progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Finality advanced on every authority of the core.
    Made,
    /// Another invariant was violated meanwhile.
    Broken,
    /// The plan or its faults left too few authorities that can vote, so progress is not demanded.
    Unrecoverable,
}

/// True when a quorum of the core can vote, so that it must make progress. The decision depends on
/// the injected faults only, because a defective node could excuse itself by its own report.
pub fn can_recover(core: &[u8], mute: &BTreeSet<u8>, quorum: usize) -> bool {
    core.iter().filter(|node| !mute.contains(node)).count() >= quorum
}

/// The time limit of [`PROGRESS_ROUNDS`] rounds of leaders, including startup.
fn rounds_ms(world: &WorldPlan) -> u64 {
    PROGRESS_ROUNDS * u64::from(world.nodes) * world.slot_ms + STARTUP_BUDGET_MS
}

/// The time limit of the demanded progress: the plan's `within`, or else the rounds' limit.
pub fn within_ms(plan: &Plan) -> u64 {
    plan.expect
        .within
        .map_or(rounds_ms(&plan.world), |Ms(ms)| ms)
}

/// Demands that finality advances on every authority of the core within [`within_ms`], and that
/// every one of them that has its votes then proposes a block that becomes final.
///
/// # Errors
/// [`Violation::NoProgress`] or [`Violation::SilentLeader`].
pub async fn progress(
    world: World,
    judge: &Judge,
    plan: &Plan,
    core: &[u8],
    mute: &BTreeSet<u8>,
) -> Result<Progress, Violation> {
    let progress = plan.expect.progress;
    let within_ms = within_ms(plan);
    let rounds_ms = rounds_ms(&plan.world);
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
        let members = judge.look().sets.current();
        let voters: Vec<u8> = core.iter().copied().filter(|n| members.has(*n)).collect();
        if !can_recover(&voters, mute, members.quorum()) {
            return Ok(Progress::Unrecoverable);
        }
        return Err(Violation::NoProgress {
            node: node + 1,
            reached,
            needed,
            within_ms,
        });
    }
    let silent = silent(judge);
    let quiet = || {
        let oracles = judge.look();
        let sets = &oracles.sets;
        let leads = |node: &u8| {
            oracles
                .finality
                .blocks
                .range(top + 1..)
                .any(|(_, block)| sets.node_at(&block.hash, block.proposer) == *node)
        };
        let members = sets.current();
        core.iter()
            .find(|node| members.has(**node) && !silent.contains(node) && !leads(node))
            .copied()
    };
    // Every authority leads one slot of each round.
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

/// Demands that all authorities of the core are connected directly: each two of them, as both know.
///
/// # Errors
/// [`Violation::AuthoritiesApart`].
pub async fn connected(
    world: World,
    judge: &Judge,
    core: &[u8],
    healed_ms: u64,
) -> Result<(), Violation> {
    let apart = || judge.look().retold.apart(core);
    let until_ms = (healed_ms + CONNECT_MS).max(now_ms(world) + RECONNECT_MS);
    if wait(world, judge, until_ms, || apart().is_none()).await {
        return Ok(());
    }
    match apart() {
        None => Ok(()),
        Some((node, other)) => Err(Violation::AuthoritiesApart {
            node: node + 1,
            other: other + 1,
            within_ms: now_ms(world) - healed_ms,
        }),
    }
}

/// Demands that the transactions that loyal users gave to nodes of the core so far become final
/// within [`REPEATS_BUDGET_MS`] and some rounds of leaders.
///
/// # Errors
/// [`Violation::NotMined`].
pub async fn mined(
    world: World,
    judge: &Judge,
    plan: &WorldPlan,
    core: &[u8],
) -> Result<(), Violation> {
    let within_ms = rounds_ms(plan) + REPEATS_BUDGET_MS;
    let due = judge.look().handed.unmined(core);
    let open = || {
        let unmined = judge.look().handed.unmined(core);
        unmined.into_iter().find(|one| due.contains(one))
    };
    let until_ms = now_ms(world) + within_ms;
    if wait(world, judge, until_ms, || open().is_none()).await {
        return Ok(());
    }
    match open() {
        None => Ok(()),
        Some((hash, node)) => Err(Violation::NotMined {
            node: node + 1,
            transaction: hash.to_string(),
            within_ms,
        }),
    }
}

/// Demands that the sequences of proofs that nodes of the core accepted so far are carried by final
/// blocks, within [`WORK_BUDGET_MS`] and some rounds of leaders after the end of the faults.
///
/// # Errors
/// [`Violation::WorkNotCarried`].
pub async fn carried(
    world: World,
    judge: &Judge,
    plan: &WorldPlan,
    core: &[u8],
    healed_ms: u64,
) -> Result<(), Violation> {
    let Some(due) = judge.look().work.owed(core) else {
        return Ok(());
    };
    let (node, sequence) = due;
    let is_carried = || judge.look().work.sequence() >= sequence;
    let within_ms = rounds_ms(plan) + WORK_BUDGET_MS;
    let until_ms = now_ms(world).max(healed_ms) + within_ms;
    if wait(world, judge, until_ms, is_carried).await || is_carried() {
        return Ok(());
    }
    Err(Violation::WorkNotCarried {
        node: node + 1,
        sequence,
        within_ms,
    })
}

/// Demands that each actor of the core is idle once: its mailbox is empty, and every accepted
/// message is accounted for.
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
            Some((node, (actor, depth, unaccounted))) if after_ms > IDLE_TIMEOUT_MS => {
                return Err(Violation::NeverAtRest {
                    node: node + 1,
                    actor,
                    depth,
                    unaccounted,
                    after_ms,
                });
            }
            Some(_) => time::sleep(MAILBOX_POLL_INTERVAL).await,
        }
    }
}

/// Authorities that reported the loss of their votes.
fn silent(judge: &Judge) -> BTreeSet<u8> {
    let oracles = judge.look();
    let is_silent = oracles
        .summaries
        .iter()
        .filter(|(_, summary)| summary.votes.silent_until.is_some());
    is_silent.map(|(node, _)| *node).collect()
}

/// Waits until `until_ms`, or until `is_done` returns true. Returns true when an invariant was
/// violated meanwhile.
pub async fn wait(world: World, judge: &Judge, until_ms: u64, is_done: impl Fn() -> bool) -> bool {
    while now_ms(world) < until_ms && !is_done() {
        inspect::on_look(world);
        if judge.is_over() {
            return true;
        }
        time::sleep(INVARIANT_POLL_INTERVAL).await;
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
            assert_eq!(core, [0, 1, 2, 3], "a quorum needs every other authority");
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
