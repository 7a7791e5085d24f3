//! CI as a list of named steps: each a command with a purpose, run in order and timed. The steps of
//! the simulated world have a build directory of their own, and use the time that the others leave.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{binaries, cargo, root, tidy};

/// Crates, besides [`SIMULATORS`], whose tests run in the simulated world too. Pure crates behave
/// the same in both worlds.
const SIMULATED: &[&str] = &[
    "alys-runtime",
    "alys-actor-system",
    "alys-actor-extras",
    "alys-actor-patterns",
    "alys-storage",
    "alys-net",
    "alys-integrations",
    "alys-node",
];

/// The simulator and the crate that uses it: their tests need its optimised build.
const SIMULATORS: &str = "-p alys-sim -p alys-fuzz-targets";

/// The alias `cargo sim`, spelled out for `--locked`.
const SIMULATOR: &str =
    "run --locked --config .cargo/sim.toml --quiet -p alys-sim --bin alys-sim --";

const CLIPPY: &str = "clippy --locked --workspace --all-targets -- -D warnings";

/// The step whose processes keep slots of real time: it has the machine for itself.
const ALONE: &str = "e2e";

/// The checks of cargo-deny that need no network. Its database of advisories does.
const DENY: &str = "deny --locked check bans licenses sources";

/// Benches: package and target.
const BENCHES: &[(&str, &str)] = &[
    ("alys-consensus", "certificates"),
    ("alys-pow", "auxpow"),
    ("alys-peg", "ledger"),
    ("alys-storage", "writes"),
    ("alys-node", "pipeline"),
];

/// A command with a name.
#[derive(Debug)]
pub struct Step {
    /// The name for `--only` and `--skip`.
    pub name: &'static str,
    /// Its purpose.
    pub about: &'static str,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Tidy,
    Format,
    Cargo(Invocation),
    /// Test binaries side by side, built by this `cargo test`.
    Tests(Invocation),
}

/// A command of cargo in one of the two worlds.
#[derive(Debug)]
struct Invocation {
    arguments: Vec<OsString>,
    simulated: bool,
}

/// The steps that decide whether a change lands: in each world cheap checks first, then its build
/// before the steps that use it.
pub fn ci() -> Vec<Step> {
    // The model's checker enables features of dependencies that the node does not use: with it, the
    // step `e2e` would build them again for the node.
    let tests = "test --locked --workspace --exclude alys-tests --exclude alys-model";
    let simulated_tests = format!(
        "test --locked --config .cargo/sim.toml --config .cargo/sim-test.toml {}",
        simulated_packages()
    );
    let mutants =
        format!("{SIMULATOR} mutants --only canary-always-fails,canary-leaks --seeds 1 --jobs 1");
    vec![
        Step {
            name: "tidy",
            about: "the rules of the house",
            action: Action::Tidy,
        },
        format_step(),
        step("deny", "licences, sources and bans of dependencies", DENY),
        step("clippy", "clippy over the workspace", CLIPPY),
        simulated(
            "clippy-sim",
            "clippy in the simulated world",
            &format!(
                "clippy --locked --config .cargo/sim.toml {SIMULATORS} {} -- -D warnings",
                simulated_packages()
            ),
        ),
        step(
            "build",
            "tests and binaries, on tokio",
            &format!("{tests} --no-run"),
        ),
        Step {
            name: "test",
            about: "unit and integration tests, on tokio",
            action: Action::Tests(Invocation::new(tests, false)),
        },
        step(
            "doc-test",
            "examples in the documentation",
            &format!("{tests} --doc"),
        ),
        step(
            "model",
            "the model of agreement and its checker",
            "test --locked -p alys-model",
        ),
        simulated(
            "sim-build",
            "tests of the crates, in the simulated world",
            &format!("{simulated_tests} --no-run"),
        ),
        Step {
            name: "sim-test",
            about: "tests of the crates inside the simulated world",
            action: Action::Tests(Invocation::new(&simulated_tests, true)),
        },
        simulated(
            "sim-self",
            "the simulator, optimised, its tests, and the replay of the fuzz corpora",
            &format!("test --locked --config .cargo/sim.toml {SIMULATORS} --lib --bins --tests"),
        ),
        step(
            ALONE,
            "processes and independent clients",
            "test --locked -p alys-tests",
        ),
        simulated(
            "sim",
            "each scenario once on the fast stack, then random worlds until three minutes have \
             passed",
            &format!("{SIMULATOR} sweep --preset smoke --stack fast --every --minutes 3"),
        ),
        simulated(
            "sim-full",
            "random worlds on the full stack",
            &format!("{SIMULATOR} sweep --seeds 1..9 --stack full"),
        ),
        simulated(
            "sim-canaries",
            "the simulator reports a planted failure and an escape",
            &mutants,
        ),
        simulated(
            "sim-twice",
            "a seed gives the same run in two processes",
            &format!("{SIMULATOR} check --seeds 1..4"),
        ),
    ]
}

/// Formatting and clippy, a part of [`ci`].
pub fn lint() -> Vec<Step> {
    let is_lint = |step: &Step| matches!(step.name, "fmt" | "clippy" | "clippy-sim");
    ci().into_iter().filter(is_lint).collect()
}

/// The benches whose name contains `filter`, with arguments for criterion.
///
/// # Errors
/// When no bench has such a name.
pub fn benches(filter: Option<&str>, arguments: &[String]) -> Result<Vec<Step>> {
    let chosen = BENCHES
        .iter()
        .filter(|(_, name)| filter.is_none_or(|filter| name.contains(filter)));
    let steps: Vec<Step> = chosen
        .map(|(package, name)| {
            let mut command: Vec<OsString> =
                ["bench", "--locked", "-p", package, "--bench", name, "--"]
                    .map(OsString::from)
                    .into();
            command.extend(arguments.iter().map(OsString::from));
            Step {
                name,
                about: package,
                action: Action::Cargo(Invocation {
                    arguments: command,
                    simulated: false,
                }),
            }
        })
        .collect();
    ensure!(
        !steps.is_empty(),
        "no such bench; there are: {}",
        names(BENCHES.iter().map(|(_, name)| *name))
    );
    Ok(steps)
}

/// The steps of `only`, or all without `skip`, in their own order.
///
/// # Errors
/// When a name is unknown.
pub fn select(steps: Vec<Step>, only: &[String], skip: &[String]) -> Result<Vec<Step>> {
    for name in only.iter().chain(skip) {
        if !steps.iter().any(|step| step.name == name) {
            bail!(
                "no step is called {name:?}; there are: {}",
                names(steps.iter().map(|step| step.name))
            );
        }
    }
    let wanted = |step: &Step| {
        let named = |list: &[String]| list.iter().any(|name| name == step.name);
        (only.is_empty() || named(only)) && !named(skip)
    };
    Ok(steps.into_iter().filter(wanted).collect())
}

/// The steps of CI, for `--help`.
pub fn help() -> String {
    let mut text = String::from("Steps:\n");
    for step in ci() {
        text += &format!("  {:<12} {}\n", step.name, step.about);
    }
    text
}

/// The name, result and duration of a step.
type Row = (&'static str, bool, Duration);

/// Runs all steps, also after a failure, and prints a table. True when all passed. Steps of CI of
/// both worlds run side by side, see [`beside`], and [`ALONE`] when these have ended.
///
/// # Errors
/// When a program does not start.
pub fn run(steps: Vec<Step>) -> Result<bool> {
    let started = Instant::now();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (alone, steps): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|step| step.name == ALONE);
    let (simulated, real): (Vec<Step>, Vec<Step>) = steps
        .into_iter()
        .partition(|step| step.action.is_simulated());
    let mut table = if cores > 1 && !simulated.is_empty() && !real.is_empty() {
        thread::scope(|scope| -> Result<Vec<Row>> {
            let others = scope.spawn(|| rows(&simulated, beside));
            let mut table = rows(&real, in_front)?;
            let others = others.join();
            table.extend(others.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok(table)
        })?
    } else {
        let mut table = rows(&real, in_front)?;
        table.extend(rows(&simulated, in_front)?);
        table
    };
    table.extend(rows(&alone, in_front)?);
    println!("\n{}", report(&table, started.elapsed()));
    Ok(table.iter().all(|(_, passed, _)| *passed))
}

/// Runs steps one after the other.
fn rows(steps: &[Step], run: impl Fn(&Step) -> Result<bool>) -> Result<Vec<Row>> {
    let timed = |step: &Step| -> Result<Row> {
        let started = Instant::now();
        let passed = run(step).with_context(|| format!("step {}", step.name))?;
        Ok((step.name, passed, started.elapsed()))
    };
    steps.iter().map(timed).collect()
}

fn in_front(step: &Step) -> Result<bool> {
    println!("\n=== {}: {}", step.name, step.about);
    step.action.run()
}

/// Runs a step of CI in a process of the lowest priority, and prints its output when it has ended.
/// It gets the time in which the other steps wait: for timers, for processes, for the last crate of
/// a build. Simulated time does not depend on the time that a process gets.
fn beside(step: &Step) -> Result<bool> {
    let (mut output, child_output) = std::io::pipe().context("a pipe")?;
    // A step may replace the file of this program; the link still leads to the running one.
    let mut program = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    if !program.exists() {
        program = std::env::current_exe().context("the path of this program")?;
    }
    let mut command = Command::new("nice");
    command
        .args(["-n", "19"])
        .arg(program)
        .args(["ci", "--only", step.name])
        .stdin(Stdio::null())
        .stdout(child_output.try_clone().context("a pipe")?)
        .stderr(child_output);
    let mut child = command.spawn().context("nice does not start")?;
    // The command holds the end of the pipe that the child writes.
    drop(command);
    let mut text = Vec::new();
    output.read_to_end(&mut text).context("the output")?;
    let passed = child.wait().context("the result")?.success();
    std::io::stdout().lock().write_all(&text)?;
    Ok(passed)
}

/// The table of steps with results and durations, and the duration of all.
fn report(table: &[Row], total: Duration) -> String {
    let mut text = format!("{:<12} {:<7} {:>9}\n", "step", "result", "seconds");
    for (name, passed, took) in table {
        let result = if *passed { "ok" } else { "FAILED" };
        text += &format!("{name:<12} {result:<7} {:>9.1}\n", took.as_secs_f64());
    }
    text + &format!("{:<12} {:<7} {:>9.1}", "total", "", total.as_secs_f64())
}

impl Action {
    fn is_simulated(&self) -> bool {
        match self {
            Action::Tidy | Action::Format => false,
            Action::Cargo(invocation) | Action::Tests(invocation) => invocation.simulated,
        }
    }

    fn run(&self) -> Result<bool> {
        match self {
            Action::Tidy => {
                let findings = tidy::check(&root())?;
                findings.iter().for_each(|finding| eprintln!("{finding}"));
                Ok(findings.is_empty())
            }
            Action::Format => format(),
            Action::Cargo(invocation) => {
                let status = invocation.command().status();
                Ok(status.context("cargo does not start")?.success())
            }
            Action::Tests(invocation) => binaries::run(invocation.command()),
        }
    }
}

impl Invocation {
    fn new(command: &str, simulated: bool) -> Self {
        Self {
            arguments: command.split_whitespace().map(OsString::from).collect(),
            simulated,
        }
    }

    fn command(&self) -> Command {
        let mut command = cargo();
        command.current_dir(root()).args(&self.arguments);
        if self.simulated {
            // Both variables override `.cargo/sim.toml`: the build would be of the other world, in
            // its directory.
            command.env_remove("RUSTFLAGS");
            if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
                command.env("CARGO_TARGET_DIR", Path::new(&target).join("sim"));
            }
        }
        command
    }
}

/// rustfmt by file, because `cargo fmt` follows modules and misses a file that no module names.
fn format() -> Result<bool> {
    let root = root();
    let files = tidy::tracked(&root)?;
    let files: Vec<&String> = files.iter().filter(|path| path.ends_with(".rs")).collect();
    let mut unformatted = BTreeSet::new();
    // Far below the limit on the length of a command line.
    for chunk in files.chunks(200) {
        let mut command = Command::new("rustfmt");
        let command = command
            .current_dir(&root)
            .args(["--check", "-l", "--edition", "2024"])
            .args(chunk);
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .context("rustfmt does not start")?;
        // With `-l` rustfmt lists files, and it follows modules: a file may be listed twice.
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        unformatted.extend(listed.lines().map(str::to_owned));
        ensure!(
            output.status.success() || !listed.is_empty(),
            "rustfmt: {}",
            output.status
        );
    }
    for path in &unformatted {
        let path = Path::new(path)
            .strip_prefix(&root)
            .unwrap_or(Path::new(path))
            .display();
        eprintln!("{path}: not formatted; run `rustfmt --edition 2024 {path}`");
    }
    Ok(unformatted.is_empty())
}

fn format_step() -> Step {
    Step {
        name: "fmt",
        about: "rustfmt over all tracked Rust files",
        action: Action::Format,
    }
}

/// The simulated crates and their targets as arguments of cargo. Doc-tests are not among them:
/// rustdoc does not get the simulation's cfg.
fn simulated_packages() -> String {
    let packages: String = SIMULATED
        .iter()
        .map(|package| format!(" -p {package}"))
        .collect();
    format!("--lib --bins --tests{packages}")
}

fn step(name: &'static str, about: &'static str, command: &str) -> Step {
    Step {
        name,
        about,
        action: Action::Cargo(Invocation::new(command, false)),
    }
}

fn simulated(name: &'static str, about: &'static str, command: &str) -> Step {
    Step {
        name,
        about,
        action: Action::Cargo(Invocation::new(command, true)),
    }
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_in_their_own_order() {
        let chosen = |only: &[&str], skip: &[&str]| {
            let own = |names: &[&str]| {
                names
                    .iter()
                    .map(|name| name.to_string())
                    .collect::<Vec<_>>()
            };
            select(ci(), &own(only), &own(skip))
                .map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>())
        };
        assert_eq!(
            chosen(&["fmt", "tidy"], &[]).expect("known"),
            ["tidy", "fmt"]
        );
        let skipped = [
            "sim",
            "sim-full",
            "sim-canaries",
            "sim-twice",
            "e2e",
            "deny",
        ];
        let rest = chosen(&[], &skipped).expect("known");
        let expected = [
            "tidy",
            "fmt",
            "clippy",
            "clippy-sim",
            "build",
            "test",
            "doc-test",
            "model",
            "sim-build",
            "sim-test",
            "sim-self",
        ];
        assert_eq!(rest, expected);
        assert_eq!(chosen(&[], &[]).expect("known").len(), ci().len());
        let error = chosen(&["tests"], &[]).expect_err("unknown").to_string();
        assert!(
            error.contains("\"tests\"") && error.contains("sim-test"),
            "{error}"
        );
    }

    #[test]
    fn steps_of_the_simulated_world_are_told_from_the_others() {
        let simulated = ci().into_iter().filter(|step| step.action.is_simulated());
        let names: Vec<&str> = simulated.map(|step| step.name).collect();
        let expected = [
            "clippy-sim",
            "sim-build",
            "sim-test",
            "sim-self",
            "sim",
            "sim-full",
            "sim-canaries",
            "sim-twice",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn lint_is_a_part_of_ci() {
        let names: Vec<&str> = lint().iter().map(|step| step.name).collect();
        assert_eq!(names, ["fmt", "clippy", "clippy-sim"]);
    }

    #[test]
    fn benches_are_chosen_by_a_part_of_their_name() {
        assert_eq!(benches(None, &[]).expect("all").len(), BENCHES.len());
        let chosen = benches(Some("cert"), &["--quick".to_owned()]).expect("one");
        assert_eq!(chosen.len(), 1);
        let Action::Cargo(Invocation { arguments, .. }) = &chosen[0].action else {
            panic!("a command")
        };
        assert_eq!(arguments.last().expect("some"), "--quick");
        assert!(benches(Some("nothing"), &[]).is_err());
    }

    #[test]
    fn the_table_names_what_failed() {
        let table = [
            ("tidy", true, Duration::from_millis(1_500)),
            ("test", false, Duration::from_millis(500)),
        ];
        let text = report(&table, Duration::from_millis(1_700));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("tidy") && lines[1].contains("ok"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("test") && lines[2].contains("FAILED"),
            "{text}"
        );
        assert!(
            lines[3].starts_with("total") && lines[3].ends_with("1.7"),
            "{text}"
        );
    }
}
