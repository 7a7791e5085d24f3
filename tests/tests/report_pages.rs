//! The simulator's pages in a real browser: a run that passes, a run that fails, a sweep.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_tests::federation::text;
use alys_tests::{World, npm, scenario, simulator};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One simulated run on a busy machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(240);
/// A sweep until a seed finds the planted bug, and the page of that run.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(400);
const BROWSER_TIMEOUT: Duration = Duration::from_secs(180);
/// Exit code of a sweep in which an invariant broke.
const FAILED: i32 = 1;
/// Size limit of a page.
const MAX_PAGE_BYTES: u64 = 10_000_000;
const PLANTED_BUG: &str = "quorum-off-by-one";

#[test]
fn pages_of_runs_and_sweeps_open_and_answer() {
    simulator::binary().expect("the simulator builds");
    let name = "pages_of_runs_and_sweeps_open_and_answer";
    scenario(name, Duration::from_secs(1200), |world| {
        npm::installed()?;
        let pages = world.dir().join("pages");
        fs::create_dir_all(&pages)?;
        let passing = passing_run(world, &pages)?;
        let failing = failing_sweep(world, &pages)?;

        // Outside of the test's directory, which is removed: people look at them.
        let screenshots = alys_tests::alys::target_dir().join("screenshots");
        fs::create_dir_all(&screenshots)?;
        let chromium = simulator::chromium()?;
        let index = pages.join("index.html");
        let args = [&chromium, &passing, &failing, &index, &screenshots];
        let args = args.map(|path| path.as_os_str());
        let answer = npm::script(world, "pages.cjs", BROWSER_TIMEOUT, args)?;
        world.say(&format!("screenshots: {}", screenshots.display()));
        ensure!(answer == "ok", "{answer}");
        Ok(())
    });
}

/// Runs one seed with and without a page. Recording does not change the run.
fn passing_run(world: &World, pages: &Path) -> Result<PathBuf> {
    let page = pages.join("leader_crash-1.html");
    let args = ["run", "leader_crash", "--seed", "1", "--json"];
    let (code, plain) = simulator::run(world, RUN_TIMEOUT, args)?;
    ensure!(code == 0, "leader_crash seed 1 does not pass: {plain}");
    let with_page = args.into_iter().chain(["--report", text(&page)?]);
    let (_, recorded) = simulator::run(world, RUN_TIMEOUT, with_page)?;
    let hash = |out: &str| -> Result<String> {
        let outcome: Value = serde_json::from_str(out)?;
        Ok(outcome["trace_hash"]
            .as_str()
            .context("an outcome has a hash")?
            .to_owned())
    };
    ensure!(
        hash(&plain)? == hash(&recorded)?,
        "recording changes the run"
    );
    Ok(page)
}

/// Sweeps until a planted bug is found. Returns the page of the run that found it.
fn failing_sweep(world: &World, pages: &Path) -> Result<PathBuf> {
    let ledger = world.dir().join("ledger.jsonl");
    let mut args = vec![
        "sweep",
        "--mutant",
        PLANTED_BUG,
        "--seeds",
        "1..60",
        "--stack",
        "fast",
    ];
    // One run at a time: the sweep stops at the first failure, so that exactly one run fails, and
    // is the last.
    args.extend(["--jobs", "1"]);
    args.extend(["--ledger", text(&ledger)?, "--report", text(pages)?]);
    let (code, out) = simulator::run(world, SWEEP_TIMEOUT, args)?;
    ensure!(code == FAILED, "no seed finds the planted bug: {out}");
    let lines = fs::read_to_string(&ledger)?;
    let last: Value = serde_json::from_str(lines.lines().last().context("the ledger is empty")?)?;
    ensure!(last["verdict"] == "failed", "{last}");
    let mut failing = Vec::new();
    for entry in fs::read_dir(pages)? {
        let path = entry?.path();
        let bytes = fs::metadata(&path)?.len();
        ensure!(
            bytes < MAX_PAGE_BYTES,
            "{} has {bytes} bytes",
            path.display()
        );
        if path.to_string_lossy().contains(PLANTED_BUG) {
            failing.push(path);
        }
    }
    ensure!(
        failing.len() == 1,
        "pages about the run that failed: {failing:?}"
    );
    Ok(failing.remove(0))
}
