//! Tests of the command lines in workflows and deployment files, and of contradictory ones.

use super::*;

/// Extracts the command lines of the simulator from a text, one per line, as arguments after the
/// program's name.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let commands = lines.filter_map(|line| {
        let (_, command) = line
            .split_once("alys-sim ")
            .or_else(|| line.split_once("cargo sim "))?;
        let command = command.split(" #").next().unwrap_or_default();
        let command = command
            .replace("${{ matrix.shard }}", "0")
            .replace("$JOB_COMPLETION_INDEX", "0");
        let command = command
            .replace("$SHARDS", "8")
            .replace("$MINUTES", "60")
            .replace("$FROM", "100001");
        let known = ["sweep", "merge", "report", "run"];
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        known.contains(&words.first()?.as_str()).then_some(words)
    });
    commands.collect()
}

#[test]
fn the_commands_of_workflow_and_job_are_understood() {
    let texts = [
        (include_str!("../../../.github/workflows/sim.yml"), 4),
        (include_str!("../../../deploy/k8s/sim-job.yaml"), 1),
        (include_str!("../../../deploy/k8s/README.md"), 2),
    ];
    for (text, least) in texts {
        let commands = commands(text);
        assert!(commands.len() >= least, "{commands:?}");
        for words in commands {
            let parsed =
                Cli::try_parse_from(std::iter::once("alys-sim".to_owned()).chain(words.clone()));
            assert!(parsed.is_ok(), "{words:?}: {:?}", parsed.err());
        }
    }
}

#[test]
fn command_lines_that_contradict_themselves_are_refused() {
    Cli::command().debug_assert();
    let good = [
        "sweep --preset night --minutes 5 --shard 3/8",
        "sweep --preset change --from 7",
        "sweep --preset change --from random",
        "sweep --preset written --mutant quorum-off-by-one",
        "--from random",
        "--from 9",
        "report steady -o x.html",
        "report --ledger l",
    ];
    let bad = [
        "sweep --preset night --seeds 1..5",
        "sweep --preset night --scenario steady",
        "sweep --preset dusk",
        "sweep --from 7",
        "sweep --preset change --from soon",
        "--from 7 sweep",
        "sweep --shard 8/8",
        "report",
        "report steady --ledger l",
        "report steady --messages 5s..1s",
        "run steady --messages 1s..5s",
        "merge a b",
    ];
    let parse = |line: &str| Cli::try_parse_from(std::iter::once("x").chain(line.split(' ')));
    for line in good {
        assert!(parse(line).is_ok(), "{line}");
    }
    for line in bad {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn an_interrupted_command_has_its_own_exit_code() {
    let ended_early = || Err(anyhow::anyhow!("the run ended without an outcome"));
    assert_eq!(exit_code(ended_early(), true), INTERRUPTED);
    assert_eq!(exit_code(ended_early(), false), WRONG);
    for code in [PASSED, FAILED] {
        assert_eq!(exit_code(Ok(code), true), code, "the command has decided");
    }
}
