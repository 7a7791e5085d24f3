//! Random supervision trees, actors, messages and failures, checked against the guarantees of the
//! crate.
//!
//! Each seed yields a plan, which is executed and its history checked: on tokio by `cargo test`, in
//! simulation by `cargo sim-test`. In simulation the seed also decides the schedule, so a failure
//! is reproducible. `ALYS_RANDOM_SEEDS` is the number of seeds (default: 1,000 in simulation, 50 on
//! tokio), `ALYS_RANDOM_FIRST` the first seed (default: 1).
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
use tracing::level_filters::LevelFilter;

use crate::{
    plan::{Plan, plans},
    world::{World, carry_out},
};

/// Limit of shrinking steps. It is low on tokio, where a failure may not repeat and a failed run
/// waits long.
const MAX_SHRINKS: u32 = if alys_runtime::is_simulated() {
    2_000
} else {
    10
};

/// Default number of seeds, a few seconds in either mode. Of the bugs planted to test this suite,
/// the rarest needed a hundred seeds.
const SEEDS: u64 = if alys_runtime::is_simulated() {
    1_000
} else {
    50
};

/// Number of plans whose trees could not be built.
static UNBUILT: AtomicU64 = AtomicU64::new(0);

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |value| value.parse().unwrap())
}

/// Executes a plan and checks the run. An error lists the complaints.
async fn judged(name: String, plan: Plan, hear: fn(&Arc<World>)) -> Result<(), String> {
    let (seen, world) = match carry_out(name.clone(), &plan, hear).await {
        Ok(carried_out) => carried_out,
        // In simulation every tree can be built, because no time passes meanwhile.
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
    // A weak reference, because the simulated world owns the sink and would keep the history alive.
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
fn random_plans_satisfy_every_property() {
    errors::listen(LevelFilter::ERROR);
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

/// The errors logged since the last call that the system of this name does not explain. Runs must
/// not overlap.
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
