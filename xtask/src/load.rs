//! Runs the measurement of a federation under load, a program beside the end-to-end tests.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, root};

/// The end of `cargo xtask load --help`.
pub const HELP: &str = "\
`--list` prints the names of the loads; docs/measurements.md describes them and the table. Measure
on an otherwise idle machine.";

/// Measures one load, or all. True when all rows pass.
///
/// # Errors
/// When cargo does not start.
pub fn run(load: Option<&str>, seconds: u32, json: bool, release: bool) -> Result<bool> {
    succeeds(command(load, seconds, json, release))
}

/// Prints the names of the loads. True if the program that lists them builds.
///
/// # Errors
/// When cargo does not start.
pub fn list(release: bool) -> Result<bool> {
    let mut command = program(release);
    command.arg("--list");
    succeeds(command)
}

fn succeeds(mut command: Command) -> Result<bool> {
    let status = command.status();
    Ok(status.context("cargo does not start")?.success())
}

fn command(load: Option<&str>, seconds: u32, json: bool, release: bool) -> Command {
    let mut command = program(release);
    command.args(["--seconds", &seconds.to_string()]);
    if json {
        command.arg("--json");
    }
    command.args(load);
    command
}

/// The program that makes and measures the loads, without arguments.
fn program(release: bool) -> Command {
    let profile = if release { "release" } else { "dev" };
    let mut command = cargo();
    command
        .current_dir(root())
        .args(["run", "--locked", "--quiet", "--profile", profile])
        .args(["-p", "alys-load", "--"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_program() {
        let arguments = |command: Command| -> Vec<String> {
            let arguments = command.get_args();
            arguments.map(|one| one.to_string_lossy().into()).collect()
        };
        let all = arguments(command(None, 60, false, false));
        assert_eq!(all[3..5], ["--profile", "dev"]);
        assert_eq!(all[all.len() - 3..], ["--", "--seconds", "60"]);
        let one = arguments(command(Some("held-bodies"), 5, true, true));
        assert_eq!(one[3..5], ["--profile", "release"]);
        assert_eq!(one[one.len() - 3..], ["5", "--json", "held-bodies"]);
    }
}
