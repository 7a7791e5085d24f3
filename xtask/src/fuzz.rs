//! Runs the fuzz targets with libFuzzer.
//!
//! New inputs go to a corpus in the target directory of `fuzz/`; the committed corpus in
//! `fuzz/corpus` is read, and written on request only. A failed input is left in `fuzz/artifacts`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, root};

/// The end of `cargo xtask fuzz --help`.
pub const HELP: &str = "\
A failed input is kept in fuzz/artifacts/TARGET. Once the bug is fixed, move it to
fuzz/corpus/TARGET, which a test replays.";

/// The version that the arguments below belong to.
const CARGO_FUZZ: &str = "0.13.2";

/// Time for one input, after which libFuzzer reports it. Inputs take milliseconds; those with
/// minutes of simulated time take tenths of a second.
const INPUT_TIMEOUT_SECS: u64 = 20;
/// Memory after which libFuzzer reports an input. A run without findings stays below a quarter.
const MEMORY_LIMIT_MB: u64 = 2048;

/// The figures of one run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Figures {
    /// Executed inputs.
    executions: u64,
    /// Edges of the control flow that were reached.
    coverage: u64,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    target: String,
    has_passed: bool,
    figures: Figures,
    took: Duration,
}

/// Fuzzes `target`, or all targets, for `minutes` each, and prints a table. True without findings.
///
/// # Errors
/// When there is no such target, and when cargo-fuzz is missing or does not start.
pub fn run(target: Option<&str>, minutes: u32, keep: bool) -> Result<bool> {
    let targets = choose(targets(&root())?, target)?;
    check_tool()?;
    let mut table = Vec::with_capacity(targets.len());
    for target in targets {
        println!("\n=== {target}: {minutes} minute(s)");
        let started = Instant::now();
        let limit = format!("-max_total_time={}", 60 * u64::from(minutes));
        let (has_passed, figures) = fuzz(&target, &[&limit, "-print_final_stats=1"])?;
        if keep && has_passed {
            merge(&target)?;
        }
        let took = started.elapsed();
        table.push(Row {
            target,
            has_passed,
            figures,
            took,
        });
    }
    println!("\n{}", report(&table));
    Ok(table.iter().all(|row| row.has_passed))
}

/// The names of all targets: of the files in `fuzz/fuzz_targets`.
fn targets(root: &Path) -> Result<Vec<String>> {
    let directory = root.join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn choose(targets: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>> {
    let Some(wanted) = wanted else {
        return Ok(targets);
    };
    ensure!(
        targets.iter().any(|target| target == wanted),
        "no fuzz target is called {wanted:?}; there are: {}",
        targets.join(", ")
    );
    Ok(vec![wanted.to_owned()])
}

fn check_tool() -> Result<()> {
    let output = cargo().args(["fuzz", "--version"]).output();
    if !output.is_ok_and(|output| output.status.success()) {
        bail!("cargo-fuzz is missing: cargo install --locked cargo-fuzz@{CARGO_FUZZ}");
    }
    Ok(())
}

/// cargo-fuzz with a target and arguments for libFuzzer, in the simulated world.
fn command(target: &str, corpora: &[&Path], arguments: &[&str]) -> Command {
    let mut command = cargo();
    // No sanitizer: it would need a nightly compiler, and our crates have no unsafe code. Without
    // `--cfg fuzzing` the code is that of the tests which replay the corpora.
    command
        .current_dir(root())
        .args(["fuzz", "run", "--fuzz-dir", "fuzz"])
        .args(["--sanitizer", "none", "--no-cfg-fuzzing"])
        .args(["--target-dir", "fuzz/target", target])
        .args(corpora)
        .arg("--")
        .arg(format!("-timeout={INPUT_TIMEOUT_SECS}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MB}"))
        .args(arguments)
        .env("RUSTFLAGS", "--cfg madsim");
    command
}

/// Runs libFuzzer until its limit or the first finding. Its output passes through.
fn fuzz(target: &str, arguments: &[&str]) -> Result<(bool, Figures)> {
    let committed = root().join("fuzz/corpus").join(target);
    let found = root().join("fuzz/target/corpus").join(target);
    std::fs::create_dir_all(&found)
        .with_context(|| format!("{} cannot be created", found.display()))?;
    // libFuzzer writes to the first directory only.
    let mut command = command(target, &[&found, &committed], arguments);
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo does not start")?;
    let mut figures = Figures::default();
    let stderr = child.stderr.take().context("cargo has no output")?;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("the output of cargo cannot be read")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        figures.read(&line);
    }
    let status = child.wait().context("cargo does not end")?;
    Ok((status.success(), figures))
}

/// Adds the inputs that reach new code to the committed corpus.
fn merge(target: &str) -> Result<()> {
    let committed = root().join("fuzz/corpus").join(target);
    let found = root().join("fuzz/target/corpus").join(target);
    let status = command(target, &[&committed, &found], &["-merge=1"])
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "the corpora of {target} cannot be merged");
    Ok(())
}

impl Figures {
    /// Takes the figures of a line of libFuzzer: `#128 NEW cov: 1193 ft: ..`, and
    /// `stat::number_of_executed_units: 128`.
    fn read(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let field = match word {
                "cov:" => &mut self.coverage,
                "stat::number_of_executed_units:" => &mut self.executions,
                _ => continue,
            };
            if let Some(number) = words.next().and_then(|number| number.parse().ok()) {
                *field = number;
            }
        }
    }
}

fn report(table: &[Row]) -> String {
    let mut text = format!(
        "{:<16} {:<7} {:>11} {:>9} {:>9}\n",
        "target", "result", "executions", "coverage", "seconds"
    );
    for row in table {
        let result = if row.has_passed { "ok" } else { "FAILED" };
        text += &format!(
            "{:<16} {result:<7} {:>11} {:>9} {:>9.1}\n",
            row.target,
            row.figures.executions,
            row.figures.coverage,
            row.took.as_secs_f64()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_name() {
        let all = targets(&root()).expect("the directory is there");
        assert!(all.len() >= 10, "{all:?}");
        assert_eq!(choose(all.clone(), None).expect("all"), all);
        assert_eq!(choose(all.clone(), Some("chain")).expect("one"), ["chain"]);
        let error = choose(all, Some("chian")).expect_err("unknown").to_string();
        assert!(
            error.contains("\"chian\"") && error.contains("chain, "),
            "{error}"
        );
    }

    #[test]
    fn figures_are_the_last_ones_of_the_output() {
        let mut figures = Figures::default();
        for line in [
            "#2\tINITED cov: 1100 ft: 1101 corp: 1/1b exec/s: 0 rss: 40Mb",
            "#128\tNEW    cov: 1193 ft: 1301 corp: 2/9b lim: 4 exec/s: 0 rss: 41Mb",
            "a panic that says cov: nothing",
            "stat::number_of_executed_units: 128",
        ] {
            figures.read(line);
        }
        let expected = Figures {
            executions: 128,
            coverage: 1193,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn the_table_names_what_failed() {
        let row = |target: &str, has_passed| Row {
            target: target.to_owned(),
            has_passed,
            figures: Figures::default(),
            took: Duration::from_millis(1_500),
        };
        let text = report(&[row("chain", true), row("http", false)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("chain") && lines[1].contains("ok"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("http") && lines[2].contains("FAILED"),
            "{text}"
        );
    }
}
