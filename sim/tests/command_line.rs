//! Tests of the simulator through its command line: exit codes, replays, determinism across
//! processes, and the detection of a planted bug.
#![cfg(madsim)]

use std::io::Read;
use std::process::{Command, Output};

use alys_sim::faults::Actor;

fn sim(args: &[&str]) -> Output {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_alys-sim"));
    command
        .args(args)
        .current_dir(root)
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn outcome(args: &[&str]) -> serde_json::Value {
    let output = sim(args);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

#[test]
fn a_calm_network_makes_a_block_a_slot_and_does_the_same_again() {
    let run = || {
        let mut outcome = outcome(&["run", "scenarios/steady.toml", "--seed", "3", "--json"]);
        for measured in ["wall_ms", "peak_kib"] {
            outcome[measured] = 0.into();
        }
        outcome
    };
    let first = run();
    assert!(first["found"].is_null(), "{first}");
    assert!(first["final_height"].as_u64() >= Some(30), "{first}");
    assert!(
        first["counters"]["transactions.final"].as_u64() >= Some(20),
        "{first}"
    );
    assert_eq!(run(), first, "another process does the same");
}

#[test]
fn every_actor_of_a_node_is_struck_and_heals_without_a_restart_of_the_process() {
    let outcome = outcome(&["run", "every_actor_heals", "--seed", "5", "--json"]);
    assert!(outcome["found"].is_null(), "{outcome}");
    let count = |name: &str| {
        outcome["counters"][format!("fault.{name}")]
            .as_u64()
            .unwrap_or(0)
    };
    let actors = Actor::ALL.len() as u64;
    let harms = ["panic", "hang", "slow", "lose-reply"];
    for actor in Actor::ALL {
        let strikes = harms.len() as u64;
        assert_eq!(count(actor.struck()), strikes, "{actor}: {outcome}");
    }
    for harm in harms {
        assert_eq!(count(&format!("actor-{harm}")), actors, "{harm}: {outcome}");
    }
    let strikes = actors * harms.len() as u64;
    assert_eq!(count("actor.healed"), strikes, "{outcome}");
    assert!(
        (2_000..=5_000).contains(&count("actor.longest-ms")),
        "a hang is cut off after seconds: {outcome}"
    );
}

#[test]
fn a_planted_bug_is_found_by_the_invariant_that_it_breaks_and_replays() {
    let args = [
        "run",
        "deaf_leader",
        "--seed",
        "1",
        "--mutant",
        "approve-ignores-lock",
        "--json",
    ];
    let output = sim(&args);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        found["found"]["invariant"], "approved-below-lock",
        "{found}"
    );
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
            "again: cargo sim run scenarios/deaf_leader.toml --seed 1 --stack full --mutant \
             approve-ignores-lock"
        ),
        "{told}"
    );
    assert!(
        told.contains("approve-ignores-lock: found by approved-below-lock at seed 1, after 1 runs"),
        "{told}"
    );
}

#[test]
fn what_failed_before_a_sweep_was_resumed_is_not_forgotten() {
    let ledger = std::env::temp_dir().join(format!("alys-resumed-{}.jsonl", std::process::id()));
    let ledger = ledger.to_str().expect("a path of ASCII");
    let _ = std::fs::remove_file(ledger);
    let args = [
        "sweep",
        "--scenario",
        "steady",
        "--seeds",
        "1..2",
        "--stack",
        "fast",
        "--ledger",
        ledger,
    ];
    let args = [&args[..], &["--mutant", "canary-always-fails"]].concat();
    let first = sim(&args);
    assert_eq!(first.status.code(), Some(1), "{}", text(&first));
    let again = sim(&args);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    let told = text(&again);
    assert!(told.contains("1 were there already"), "{told}");
    assert!(told.contains("steady seed 1 had failed"), "{told}");
    assert!(
        told.contains("found before, the ledger has the run"),
        "{told}"
    );
    let coverage = sim(&["coverage", "--ledger", ledger]);
    assert!(
        text(&coverage).contains("left out: 1 runs"),
        "{}",
        text(&coverage)
    );
    std::fs::remove_file(ledger).expect("it is there");
}

#[test]
fn every_kind_of_fault_has_its_effects() {
    let output = sim(&[
        "coverage",
        "--scenario",
        "every_fault",
        "--seeds",
        "1..3",
        "--json",
    ]);
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(told["failed"], serde_json::json!([]), "{}", text(&output));
    assert!(told["missing"]["fault"].is_null(), "{}", told["missing"]);
    // Power losses decide at random about these.
    let rare = [
        "disk.names_lost",
        "disk.torn_files",
        "disk.unsynced_sectors_kept",
    ];
    let missing = told["missing"]["effect"].as_array();
    for name in missing.into_iter().flatten() {
        assert!(rare.iter().any(|rare| name == rare), "{name}");
    }
}

#[test]
fn running_twice_fails_when_an_invariant_breaks_the_same_way_twice() {
    let output = sim(&[
        "check",
        "--scenario",
        "steady",
        "--seeds",
        "1..2",
        "--mutant",
        "canary-always-fails",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("1 seeds run twice: 0 differ"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_sweep_that_misses_a_planted_bug_says_whether_its_code_ran() {
    let sweep = |scenario: &str| {
        let mutant = ["--mutant", "votes-while-silent"];
        let seeds = ["--seeds", "1..2", "--stack", "fast", "--jobs", "1"];
        let args = [&["sweep", "--scenario", scenario][..], &seeds, &mutant].concat();
        sim(&args)
    };
    let output = sweep("steady");
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let told = text(&output);
    assert!(
        told.contains("votes-while-silent: NOT FOUND in 1 runs") && told.contains("its code was"),
        "{told}"
    );
    let output = sweep("wiped_disk");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

#[test]
fn a_shard_that_has_no_run_of_some_scenarios_ends() {
    let args = [
        "sweep",
        "--preset",
        "smoke",
        "--every",
        "--shard",
        "0/1000",
        "--minutes",
        "0",
        "--jobs",
        "1",
    ];
    let output = sim(&args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("0 runs, 0 failed"),
        "{}",
        text(&output)
    );
}

#[test]
fn mistakes_on_the_command_line_are_told() {
    let table: [(&[&str], &str); 5] = [
        (&["run", "stedy"], "did you mean `steady`?"),
        (&["sweep", "--seeds", "9..3"], "seeds are a range as 1..200"),
        (
            &["sweep", "--mutant", "votes-not-persistd"],
            "did you mean votes-not-persisted?",
        ),
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
    assert!(
        guide.contains("hold-votes") && guide.contains("two-final-blocks"),
        "{guide}"
    );
    assert!(
        guide.contains("machine is node, execution or all;"),
        "{guide}"
    );
    let plan = text(&sim(&["describe", "mixed", "--seed", "7"]));
    assert!(plan.contains("chaos until"), "{plan}");
    assert_ne!(plan, text(&sim(&["describe", "mixed", "--seed", "8"])));
}

#[test]
fn what_leaves_the_simulation_is_stopped_by_the_kernel_and_told_with_its_stack() {
    let one = |more: &[&str]| {
        let output = sim(&[&["one", "scenarios/steady.toml", "--stack", "fast"], more].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(last)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    };
    let clean = one(&[]);
    assert!(clean["found"].is_null(), "{clean}");
    if clean["counters"]["trap.armed"] == 0 {
        println!("this kernel does not let a process hold itself: nothing is stopped here");
        return;
    }
    let table = [
        ("clock", &["clock_gettime"][..]),
        ("counter", &["time-stamp counter"]),
        ("random", &["getrandom"]),
        ("file", &["openat"]),
        ("socket", &["socket"]),
        ("sleep", &["nanosleep"]),
        ("poll", &["ppoll"]),
        ("futex", &["futex with a timeout"]),
        ("thread", &["clone3"]),
    ];
    for (canary, words) in table {
        if canary == "counter" && !cfg!(target_arch = "x86_64") {
            continue;
        }
        let outcome = one(&["--canary", canary]);
        let found = outcome["found"].to_string();
        assert!(
            words.iter().any(|word| found.contains(word)),
            "{canary}: {outcome}"
        );
        assert_eq!(outcome["found"]["invariant"], "escaped", "{canary}");
        assert!(
            found.contains("sim/src/run/mod.rs"),
            "{canary}: no stack: {found}"
        );
    }
}

#[test]
fn commands_that_are_interrupted_exit_with_their_own_code() {
    let table: [&[&str]; 2] = [
        &["bisect", "steady", "--stack", "fast", "--tries", "1000"],
        &["replay", "steady", "--stack", "fast"],
    ];
    for args in table {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alys-sim"));
        command
            .args(args)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // The first line of output shows that the handler is installed and a run has begun.
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let errors = writer.try_clone().expect("a copy of its end");
        let mut child = command
            .stdout(writer)
            .stderr(errors)
            .spawn()
            .expect("the program starts");
        drop(command);
        reader.read_exact(&mut [0]).expect("it prints something");
        let id = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status();
        assert!(sent.expect("kill is there").success());
        std::io::copy(&mut reader, &mut std::io::sink()).expect("the rest is read");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "{args:?}");
    }
}

#[test]
fn the_first_event_in_which_two_runs_differ_is_named() {
    let leak = [
        "bisect",
        "steady",
        "--stack",
        "fast",
        "--mutant",
        "canary-leaks",
        "--json",
    ];
    let output = sim(&leak);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&answer["one"]["kind"], &answer["other"]["kind"]),
        (&"canary".into(), &"canary".into()),
        "{answer}"
    );
    assert_ne!(answer["one"]["payload"], answer["other"]["payload"]);
    let output = sim(&["bisect", "steady", "--stack", "fast", "--tries", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("no difference found"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_run_is_looked_into_without_being_changed() {
    let said = |args: &[&str]| {
        text(&sim(
            &[&["replay", "steady", "--stack", "fast"], args].concat()
        ))
    };
    let events = said(&[
        "--kind",
        "said",
        "--machine",
        "node2",
        "--from",
        "5s",
        "--until",
        "9s",
    ]);
    let (shown, state) = events.split_once("after").expect("both are printed");
    assert!(shown.lines().count() > 5, "{events}");
    for line in shown.lines().filter(|line| line.contains(" ms node")) {
        assert!(line.contains("node2") && line.contains("said"), "{line}");
    }
    assert!(
        state.contains("node2.actors.chain/engine.state") && !state.contains("node1."),
        "{state}"
    );
    let changed = said(&["--diff", "5s..9s", "--machine", "node3"]);
    assert!(
        changed.contains("node3.said.final_height") && changed.contains("->"),
        "{changed}"
    );
    let late = said(&["--until", "30min"]);
    assert!(late.contains("ended before the moment"), "{late}");
    let wrong = said(&["--diff", "9s..5s"]);
    assert!(wrong.contains("10s..12.5s"), "{wrong}");
}

#[test]
fn a_failing_plan_is_made_small_and_fails_by_itself() {
    let dir = std::env::temp_dir().join(format!("alys-shrunk-{}", std::process::id()));
    let file = dir.join("small.toml").display().to_string();
    let bug = ["--mutant", "approve-ignores-lock"];
    let shrink = [
        &[
            "shrink",
            "deaf_leader",
            "--stack",
            "fast",
            "--minutes",
            "2",
            "--json",
            "-o",
            &file,
        ],
        &bug[..],
    ]
    .concat();
    let output = sim(&shrink);
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(answer["invariant"], "approved-below-lock");
    assert!(
        answer["faults"].as_u64() <= answer["faults_before"].as_u64(),
        "{answer}"
    );
    // The file contains the stack, the seed and the planted bug.
    let again = outcome(&["run", &file, "--json"]);
    assert_eq!(
        again["found"]["invariant"], "approved-below-lock",
        "{again}"
    );
    let nothing = sim(&["shrink", "steady", "--stack", "fast"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(
        text(&nothing).contains("nothing to shrink"),
        "{}",
        text(&nothing)
    );
    std::fs::remove_dir_all(dir).expect("it was made");
}
