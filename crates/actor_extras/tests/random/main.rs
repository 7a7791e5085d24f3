//! Random trees, actors, messages and failures: whatever is sent and whatever fails, the promises
//! hold.
//!
//! A plan is made from a seed, carried out, and its history judged. `cargo test` does so on tokio,
//! `cargo sim-test` in simulation, where the seed decides the schedule too: a run that failed fails
//! again. `ALYS_RANDOM_SEEDS` is how many seeds (1,000 in simulation, 50 on tokio),
//! `ALYS_RANDOM_FIRST` the first of them (1).
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod check;
#[path = "../../../actor_system/tests/common/errors.rs"]
mod errors;
mod history;
mod plan;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::{
    plan::{Plan, plans},
    world::{World, carry_out},
};

/// Steps to a smaller plan. On tokio a failure may be a matter of luck, and a failed run waits for
/// long.
const MAX_SHRINKS: u32 = if alys_runtime::is_simulated() {
    2_000
} else {
    10
};

/// Seeds without `ALYS_RANDOM_SEEDS`: a few seconds of either mode. The rarest of the bugs that
/// were planted to try the suite took a hundred.
const SEEDS: u64 = if alys_runtime::is_simulated() {
    1_000
} else {
    50
};

/// Plans whose trees could not be built.
static UNBUILT: AtomicU64 = AtomicU64::new(0);

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |value| value.parse().unwrap())
}

/// One run, judged. What is wrong with it.
async fn judged(name: String, plan: Plan, hear: fn(&Arc<World>)) -> Result<(), String> {
    let (seen, world) = match carry_out(name.clone(), &plan, hear).await {
        Ok(carried_out) => carried_out,
        // In simulation no time passes while a tree is built.
        Err(error) if alys_runtime::is_simulated() => return Err(error),
        Err(error) => {
            eprintln!("{name} says nothing: {error}");
            UNBUILT.fetch_add(1, Relaxed);
            errors::lines().clear();
            return Ok(());
        }
    };
    let mut book = world.history.book();
    logged(&name, seen.gave_up)
        .into_iter()
        .for_each(|error| book.complain(error));
    check::check(&plan, &seen, &mut book);
    if book.complaints.is_empty() {
        Ok(())
    } else {
        Err(book.complaints.join("\n"))
    }
}

#[cfg(not(madsim))]
fn run(seed: u64, plan: Plan) -> Result<(), String> {
    alys_runtime::block_on_main(async move {
        let judging = alys_runtime::spawn("run", judged(format!("r{seed}"), plan, |_| {}));
        judging.await.unwrap_or_else(|error| Err(error.to_string()))
    })
}

#[cfg(madsim)]
fn run(seed: u64, plan: Plan) -> Result<(), String> {
    use alys_runtime::sim;
    // What lives of a run is dropped with its world, whose sink holds the history.
    fn hear(world: &Arc<World>) {
        let world = Arc::downgrade(world);
        sim::World::current().add_sink(Box::new(move |event| {
            if let ("actor.state", Some(world)) = (event.kind, world.upgrade()) {
                let text = String::from_utf8_lossy(event.payload);
                let (path, state) = text.split_once('\0').unwrap();
                let state = alys_actor_system::State::ALL
                    .into_iter()
                    .find(|other| other.as_str() == state);
                world.history.note_state(path.to_owned(), state.unwrap());
            }
        }));
    }
    let finished = sim::try_run(sim::Options::new(seed), move |world| async move {
        let node = world.node("main", [10, 0, 0, 1].into(), std::future::pending);
        let judging = world.spawn_on(node, "run", judged(format!("r{seed}"), plan, hear));
        judging.await.unwrap_or_else(|error| Err(error.to_string()))
    });
    finished.result?
}

fn holds(seed: u64) -> Result<(), TestError<Plan>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: MAX_SHRINKS,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    runner.run(&plans(), |plan| {
        run(seed, plan).map_err(TestCaseError::fail)
    })
}

#[test]
fn the_promises_hold_for_random_plans() {
    errors::listen();
    let (first, seeds) = (
        from_env("ALYS_RANDOM_FIRST", 1),
        from_env("ALYS_RANDOM_SEEDS", SEEDS),
    );
    for seed in first..first + seeds {
        match holds(seed) {
            Ok(()) => {}
            Err(TestError::Fail(reason, plan)) => panic!("seed {seed}: {reason}\n{plan:?}"),
            Err(TestError::Abort(reason)) => panic!("seed {seed}: {reason}"),
        }
    }
    let unbuilt = UNBUILT.load(Relaxed);
    assert!(
        unbuilt <= seeds.div_ceil(10),
        "{unbuilt} of {seeds} plans say nothing"
    );
}

/// The errors since the last run, which was that of the system of this name: one run after the
/// other.
fn logged(name: &str, may_give_up: bool) -> Vec<String> {
    let lines = std::mem::take(&mut *errors::lines());
    let giving_up = format!("system={name} ");
    let is_fine =
        |line: &String| may_give_up && line.contains(&giving_up) && line.contains("gave up");
    lines
        .into_iter()
        .filter(|line| !is_fine(line))
        .map(|line| format!("logged: {line}"))
        .collect()
}
