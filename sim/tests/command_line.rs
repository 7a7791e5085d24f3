//! The simulator as people and CI use it: exit codes, replays, determinism over processes, and a planted bug that it finds.
#![cfg(madsim)]

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_alys-sim"));
    command.args(args).current_dir(root).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn outcome(args: &[&str]) -> serde_json::Value {
    let output = sim(args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

#[test]
fn a_calm_network_makes_a_block_a_slot_and_does_the_same_again() {
    let run = || {
        let mut outcome = outcome(&["run", "scenarios/steady.toml", "--seed", "3", "--json"]);
        outcome["wall_ms"] = 0.into();
        outcome
    };
    let first = run();
    assert!(first["found"].is_null(), "{first}");
    assert!(first["final_height"].as_u64() >= Some(30), "{first}");
    assert!(first["counters"]["transactions.final"].as_u64() >= Some(20), "{first}");
    assert_eq!(run(), first, "another process does the same");
}

#[test]
fn every_actor_of_a_node_is_struck_and_heals_without_a_restart_of_the_process() {
    let outcome = outcome(&["run", "every_actor_heals", "--seed", "5", "--json"]);
    assert!(outcome["found"].is_null(), "{outcome}");
    let count = |name: &str| outcome["counters"][format!("fault.{name}")].as_u64().unwrap_or(0);
    for actor in ["store", "validation", "engine", "agreement", "tx_pool", "service", "peers"] {
        assert_eq!(count(&format!("actor.struck.{actor}")), 4, "{actor}: {outcome}");
    }
    for harm in ["panic", "hang", "slow", "lose-reply"] {
        assert_eq!(count(&format!("actor-{harm}")), 7, "{harm}: {outcome}");
    }
    assert_eq!(count("actor.healed"), 28, "{outcome}");
    assert!(
        (2_000..=5_000).contains(&count("actor.longest-ms")),
        "a hang is cut off after seconds: {outcome}"
    );
}

#[test]
fn a_planted_bug_is_found_by_the_invariant_that_it_breaks_and_replays() {
    let args = ["run", "deaf_leader", "--seed", "1", "--mutant", "approve-ignores-lock", "--json"];
    let output = sim(&args);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["found"]["invariant"], "certified-beside-final", "{found}");
    assert_eq!(outcome(&args)["trace_hash"], found["trace_hash"]);
    let args = [
        "sweep",
        "--scenario",
        "deaf_leader",
        "--seeds",
        "1..9",
        "--jobs",
        "1",
        "--mutant",
        "approve-ignores-lock",
    ];
    let sweep = sim(&args);
    assert_eq!(sweep.status.code(), Some(1), "{}", text(&sweep));
    let told = text(&sweep);
    assert!(
        told.contains(
            "again: cargo sim run scenarios/deaf_leader.toml --seed 1 --mutant approve-ignores-lock"
        ),
        "{told}"
    );
    assert!(
        told.contains("approve-ignores-lock: found by certified-beside-final at seed 1, after 1 runs"),
        "{told}"
    );
}

#[test]
fn mistakes_on_the_command_line_are_told() {
    let table: [(&[&str], &str); 5] = [
        (&["run", "stedy"], "did you mean `steady`?"),
        (&["sweep", "--seeds", "9..3"], "seeds are a range as 1..200"),
        (&["sweep", "--mutant", "votes-not-persistd"], "did you mean votes-not-persisted?"),
        (&["run", "scenarios/none.toml"], "scenarios/none.toml"),
        (&["swep"], "similar subcommand exists: 'sweep'"),
    ];
    for (args, expected) in table {
        let output = sim(args);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(expected), "{args:?}: {told}");
    }
}

#[test]
fn scenarios_are_listed_and_described() {
    let list = text(&sim(&["list"]));
    assert!(list.contains("steady") && list.contains("covers"), "{list}");
    let guide = text(&sim(&["describe"]));
    assert!(guide.contains("hold-votes") && guide.contains("two-final-blocks"), "{guide}");
    let plan = text(&sim(&["describe", "mixed", "--seed", "7"]));
    assert!(plan.contains("chaos until"), "{plan}");
    assert_ne!(plan, text(&sim(&["describe", "mixed", "--seed", "8"])));
}
