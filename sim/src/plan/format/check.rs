//! Semantic checks of a plan, shared by the reader, the generator and the minimization.

use alys_node::wiring::table::ACTORS;
use alys_types::FaultModel;
use alys_types::limits::{MAX_SLOT_DURATION_MS, MIN_SLOT_DURATION_MS};

use super::nearest;
use crate::faults::{Place, Step};
use crate::params::{
    BLOCK_GAS, LimitsPlan, MAX_DATA, MAX_MINERS, MAX_NODES, MAX_USERS, MinerPlan, Ms, NodeRef,
    POOL, Stranger, TCP_TIMEOUT_MS, WorkloadPlan, WorldPlan,
};
use crate::plan::generator::Swarm;
use crate::plan::{MAX_STEPS, Plan, mutants};

/// Longest rejoin margin in slots: a day of one-second slots.
const MAX_REJOIN_MARGIN: u64 = 86_400;
/// Disk operations of a first start; it has about 50.
const FIRST_OPERATIONS: std::ops::RangeInclusive<u64> = 1..=200;
/// Most strangers that take places. Each has a network service, which costs as much as a node's.
const MAX_CROWD: u8 = 64;
/// Longest time until the second copy of a message: the shortest slot.
const MAX_PUBLISH_AGAIN_MS: u64 = 1_000;

/// A step of the path to a value in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Key of a table.
    Word(&'static str),
    /// Index of an array.
    Index(usize),
}

/// The first error of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path to the invalid value.
    pub path: Vec<Part>,
    /// Description of the error.
    pub message: String,
    /// The most similar known word.
    pub meant: Option<String>,
}

fn problem<const N: usize>(path: [&'static str; N], message: String) -> Result<(), Problem> {
    Err(Problem {
        path: path.map(Part::Word).to_vec(),
        message,
        meant: None,
    })
}

/// Checks a plan, and the swarm that adds to it.
///
/// # Errors
/// The first [`Problem`] found.
pub fn check(plan: &Plan, swarm: Option<&Swarm>) -> Result<(), Problem> {
    if plan.why.trim().is_empty() {
        return problem(
            ["why"],
            "`why` says what the scenario is for; it is empty".to_owned(),
        );
    }
    if let Some(name) = &plan.mutant
        && mutants::find(name).is_none()
    {
        let path = vec![Part::Word("mutant")];
        let message = format!("no planted bug {name:?}; `cargo sim list --mutants` shows them");
        let meant = nearest(name, mutants::ALL.iter().map(|planted| planted.name));
        return Err(Problem {
            path,
            message,
            meant,
        });
    }
    check_world(&plan.world)?;
    check_workload(&plan.workload)?;
    check_miners(plan)?;
    if plan.world.limits.range.is_some() && plan.workload.block_gas > LimitsPlan::RANGE_GAS {
        let most = LimitsPlan::RANGE_GAS;
        let message = format!("block_gas: at most {most} with a limit of ranges");
        return problem(["workload", "block_gas"], message);
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let result = if index < MAX_STEPS {
            check_step(step, &plan.world).and(check_moment(step, plan))
        } else {
            Err(("fault", format!("more than {MAX_STEPS} steps")))
        };
        result.map_err(|(word, message)| {
            let path = vec![Part::Word("step"), Part::Index(index), Part::Word(word)];
            Problem {
                path,
                message,
                meant: None,
            }
        })?;
    }
    match swarm.map_or(Ok(()), Swarm::check) {
        Ok(()) => Ok(()),
        Err(message) => problem(["swarm"], message),
    }
}

fn check_workload(workload: &WorkloadPlan) -> Result<(), Problem> {
    let WorkloadPlan {
        users,
        watchers,
        behaviours,
        pool,
        block_gas,
        data,
        ..
    } = workload;
    if *users > MAX_USERS {
        return problem(["workload", "users"], format!("users: at most {MAX_USERS}"));
    }
    if *watchers > MAX_USERS {
        let message = format!("watchers: at most {MAX_USERS}");
        return problem(["workload", "watchers"], message);
    }
    if behaviours.is_empty() {
        let message = "behaviours: at least one; for no workload set users = 0".to_owned();
        return problem(["workload", "behaviours"], message);
    }
    if !POOL.contains(pool) {
        let message = format!(
            "pool: from {} to {} transactions, found {pool}",
            POOL.start(),
            POOL.end()
        );
        return problem(["workload", "pool"], message);
    }
    if !BLOCK_GAS.contains(block_gas) {
        let least = BLOCK_GAS.start();
        let most = BLOCK_GAS.end();
        return problem(
            ["workload", "block_gas"],
            format!("block_gas: from {least} to {most}, found {block_gas}"),
        );
    }
    if !(1..=MAX_DATA).contains(data) {
        let message = format!("data: from 1 to {MAX_DATA} bytes, found {data}");
        return problem(["workload", "data"], message);
    }
    Ok(())
}

fn check_miners(plan: &Plan) -> Result<(), Problem> {
    let Plan {
        world, workload, ..
    } = plan;
    let of_miners = |message: String| problem(["workload", "miners"], message);
    if workload.miners.len() > MAX_MINERS {
        return of_miners(format!("miners: at most {MAX_MINERS}"));
    }
    for miner in &workload.miners {
        let (least, most) = (MinerPlan::EVERY_MS.start(), MinerPlan::EVERY_MS.end());
        if !MinerPlan::EVERY_MS.contains(&miner.every.0) {
            let found = miner.every;
            return of_miners(format!("every: from {least}ms to {most}ms, found {found}"));
        }
        let is_node = |number: &u8| (1..=world.nodes).contains(number);
        if !miner.nodes.iter().all(is_node) {
            let nodes = world.nodes;
            return of_miners(format!("nodes: from 1 to {nodes}"));
        }
    }
    let range = world.max_range();
    if !(1..=WorldPlan::USUAL_RANGE).contains(&range) {
        let most = WorldPlan::USUAL_RANGE;
        let message = format!("pow_range: from 1 to {most} blocks, found {range}");
        return problem(["world", "pow_range"], message);
    }
    if world.gate > u64::from(range) || world.gate > 0 && !workload.is_mined() {
        let message = format!(
            "gate: at most the {range} blocks of a range, and with a miner of valid proofs"
        );
        return problem(["world", "gate"], message);
    }
    Ok(())
}

fn check_world(world: &WorldPlan) -> Result<(), Problem> {
    let WorldPlan {
        nodes,
        slot_ms,
        drift_ms,
        ..
    } = *world;
    let is_node = |number: &u8| (1..=nodes).contains(number);
    if !(1..=MAX_NODES).contains(&nodes) {
        return problem(
            ["world", "nodes"],
            format!("nodes: from 1 to {MAX_NODES}, found {nodes}"),
        );
    }
    let candidates = world.candidates;
    let least = if candidates > 0 || world.governance {
        2
    } else {
        1
    };
    if candidates > 0 && !world.governance || world.authorities() < least {
        let message = format!(
            "candidates: with governance only, and beside at least 2 of the {nodes} nodes, found \
             {candidates}"
        );
        return problem(["world", "candidates"], message);
    }
    if !(MIN_SLOT_DURATION_MS..=MAX_SLOT_DURATION_MS).contains(&slot_ms) {
        return problem(
            ["world", "slot"],
            format!("slot: from 1s to 60s, found {slot_ms}ms"),
        );
    }
    if drift_ms >= slot_ms {
        let message = format!("drift: below the slot of {slot_ms}ms, found {drift_ms}ms");
        return problem(["world", "drift"], message);
    }
    if let Some(forger) = &world.forger
        && (!is_node(forger) || world.fault_model != FaultModel::Byzantine)
    {
        let message = format!("forger: an authority from 1 to {nodes}, of a byzantine federation");
        return problem(["world", "forger"], message);
    }
    let strangers = &world.strangers;
    let is_repeated = |index: usize| strangers[..index].contains(&strangers[index]);
    if (0..strangers.len()).any(is_repeated)
        || strangers.contains(&Stranger::Votes) && world.forger.is_none()
    {
        let message = "strangers: each attack once, and votes with a forger only".to_owned();
        return problem(["world", "strangers"], message);
    }
    let unlisted = &world.unlisted;
    let is_repeated = |index: usize| unlisted[..index].contains(&unlisted[index]);
    if !unlisted.iter().all(is_node)
        || (0..unlisted.len()).any(is_repeated)
        || unlisted.len() >= usize::from(nodes)
    {
        let message = format!("unlisted: different nodes from 1 to {nodes}, and not all of them");
        return problem(["world", "unlisted"], message);
    }
    // A candidate, or a removed authority, is a stranger, and the crowd would take its place.
    if world.crowd > MAX_CROWD || world.crowd > 0 && world.governance {
        let message = format!("crowd: up to {MAX_CROWD} strangers, and without governance");
        return problem(["world", "crowd"], message);
    }
    if !(1..=MAX_REJOIN_MARGIN).contains(&world.rejoin_margin) {
        let message = format!("rejoin_margin: from 1 to {MAX_REJOIN_MARGIN} slots");
        return problem(["world", "rejoin_margin"], message);
    }
    check_mailboxes(world)?;
    check_limits(world)?;
    if world.queued_events == Some(0) {
        return problem(
            ["world", "queued_events"],
            "queued_events: from 1".to_owned(),
        );
    }
    if let Some(Ms(ms)) = world.publish_again
        && !(1..=MAX_PUBLISH_AGAIN_MS).contains(&ms)
    {
        let message = format!("publish_again: from 1ms to {MAX_PUBLISH_AGAIN_MS}ms, found {ms}ms");
        return problem(["world", "publish_again"], message);
    }
    if let Some(Ms(ms)) = world.tcp_timeout
        && !TCP_TIMEOUT_MS.contains(&ms)
    {
        let least = TCP_TIMEOUT_MS.start();
        let most = TCP_TIMEOUT_MS.end();
        let message = format!("tcp_timeout: from {least}ms to {most}ms, found {ms}ms");
        return problem(["world", "tcp_timeout"], message);
    }
    let mut named = world.byzantine.iter().map(|one| one.node);
    let is_twice = |number| {
        world
            .byzantine
            .iter()
            .filter(|one| one.node == number)
            .count()
            > 1
    };
    if !world.byzantine.is_empty() && world.fault_model != FaultModel::Byzantine
        || named.any(|number| !is_node(&number) || is_twice(number))
    {
        let message = format!(
            "byzantine: different authorities from 1 to {nodes}, of a byzantine federation"
        );
        return problem(["world", "byzantine"], message);
    }
    check_first_starts(world)?;
    let dead = &world.left_dead;
    let mut faulty = world.suspects();
    faulty.extend(dead.iter().map(|number| number.saturating_sub(1)));
    if faulty.len() > world.tolerated() || !dead.iter().all(is_node) {
        let word = if dead.is_empty() {
            "byzantine"
        } else {
            "left_dead"
        };
        let message = format!(
            "{word}: with the forger's at most {} of the {nodes} nodes, or the chain stalls",
            world.tolerated()
        );
        return problem(["world", word], message);
    }
    Ok(())
}

fn check_first_starts(world: &WorldPlan) -> Result<(), Problem> {
    let all = &world.first_starts;
    let is_repeated = |index: usize| {
        let mut earlier = all[..index].iter();
        earlier.any(|one| one.node == all[index].node)
    };
    if (0..all.len()).any(is_repeated)
        || !all.iter().all(|one| (1..=world.nodes).contains(&one.node))
        || !all
            .iter()
            .all(|one| FIRST_OPERATIONS.contains(&one.operation))
    {
        let message = format!(
            "first_starts: one for each of the {} nodes, of an operation from {} to {}",
            world.nodes,
            FIRST_OPERATIONS.start(),
            FIRST_OPERATIONS.end()
        );
        return problem(["world", "first_starts"], message);
    }
    Ok(())
}

fn check_mailboxes(world: &WorldPlan) -> Result<(), Problem> {
    for (name, messages) in &world.mailboxes {
        let Some(actor) = ACTORS.iter().find(|actor| actor.name == name) else {
            let message = format!("mailboxes: no actor {name:?}");
            let meant = nearest(name, ACTORS.iter().map(|actor| actor.name));
            return problem(["world", "mailboxes"], message)
                .map_err(|problem| Problem { meant, ..problem });
        };
        if !(actor.least_mailbox..=actor.mailbox).contains(messages) {
            let message = format!(
                "mailboxes: {name} from {} to {} messages, found {messages}",
                actor.least_mailbox, actor.mailbox
            );
            return problem(["world", "mailboxes"], message);
        }
    }
    Ok(())
}

fn check_limits(world: &WorldPlan) -> Result<(), Problem> {
    let LimitsPlan {
        uncertified,
        range,
        pending,
    } = world.limits;
    let table = [
        ("uncertified", uncertified, LimitsPlan::UNCERTIFIED),
        ("range", range, LimitsPlan::RANGE),
        ("pending", pending, LimitsPlan::PENDING),
    ];
    for (name, limit, valid) in table {
        if let Some(limit) = limit
            && !valid.contains(&limit)
        {
            let (least, most) = (valid.start(), valid.end());
            let message = format!("limits: {name} from {least} to {most}, found {limit}");
            return problem(["world", "limits"], message);
        }
    }
    Ok(())
}

fn check_moment(step: &Step, plan: &Plan) -> Result<(), (&'static str, String)> {
    if step.at.earliest_ms(plan.world.slot_ms) < plan.until_ms {
        return Ok(());
    }
    let message = format!(
        "at: before `until`, which is {}ms; this step would never begin",
        plan.until_ms
    );
    Err(("at", message))
}

fn check_step(step: &Step, world: &WorldPlan) -> Result<(), (&'static str, String)> {
    if step.nodes.is_empty() {
        return Err(("nodes", "nodes: at least one".to_owned()));
    }
    let outside = step
        .nodes
        .iter()
        .find(|node| matches!(node, NodeRef::Number(number) if *number > world.nodes));
    if let Some(outside) = outside {
        return Err((
            "nodes",
            format!(
                "nodes: there is no node {outside}, there are {}",
                world.nodes
            ),
        ));
    }
    step.fault.check(&Place {
        world,
        nodes: &step.nodes,
        for_ms: step.for_ms,
    })
}
