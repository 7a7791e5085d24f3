//! The simulator's pages in a real browser: of a run that passes, of one that fails, and of a sweep.

use std::fs;
use std::time::Duration;

use alys_tests::federation::text;
use alys_tests::{npm, scenario, simulator};
use anyhow::{Context, ensure};
use serde_json::Value;

/// A single simulated run on a busy machine.
const RUN: Duration = Duration::from_secs(240);
/// Until a seed finds the planted bug, and its page is written.
const SWEEP: Duration = Duration::from_secs(400);
/// The browser's part.
const BROWSER: Duration = Duration::from_secs(180);
/// Exit code of a sweep in which an invariant broke.
const FAILED: i32 = 1;
/// Most bytes of a page.
const MOST: u64 = 10_000_000;

#[test]
fn pages_of_runs_and_sweeps_open_and_answer() {
    simulator::binary().expect("the simulator builds");
    scenario(
        "pages_of_runs_and_sweeps_open_and_answer",
        Duration::from_secs(1200),
        |world| {
            npm::installed()?;
            let pages = world.dir().join("pages");
            fs::create_dir_all(&pages)?;
            let passing = pages.join("leader_crash-1.html");
            let args = ["run", "leader_crash", "--seed", "1", "--json"];
            let (code, plain) = simulator::run(world, RUN, args)?;
            ensure!(code == 0, "leader_crash seed 1 does not pass: {plain}");
            let (_, told) = simulator::run(
                world,
                RUN,
                args.into_iter().chain(["--report", text(&passing)?]),
            )?;
            let hash = |out: &str| -> anyhow::Result<String> {
                let outcome: Value = serde_json::from_str(out)?;
                Ok(outcome["trace_hash"]
                    .as_str()
                    .context("an outcome has a hash")?
                    .to_owned())
            };
            ensure!(
                hash(&plain)? == hash(&told)?,
                "a run that is recorded is another run"
            );

            let ledger = world.dir().join("ledger.jsonl");
            // One run at a time: the sweep stops at the first failure, so that exactly one run fails and it is the last.
            let sweep = [
                "sweep",
                "--mutant",
                "quorum-off-by-one",
                "--seeds",
                "1..60",
                "--stack",
                "fast",
                "--jobs",
                "1",
            ];
            let files = ["--ledger", text(&ledger)?, "--report", text(&pages)?];
            let (code, told) = simulator::run(world, SWEEP, sweep.into_iter().chain(files))?;
            ensure!(code == FAILED, "no seed finds the planted bug: {told}");
            let mut failing = None;
            for entry in fs::read_dir(&pages)? {
                let path = entry?.path();
                let bytes = fs::metadata(&path)?.len();
                ensure!(bytes < MOST, "{} has {bytes} bytes", path.display());
                if path.to_string_lossy().contains("quorum-off-by-one") {
                    failing = Some(path);
                }
            }
            let failing = failing.context("the sweep wrote no page about the seed that failed")?;
            let lines = fs::read_to_string(&ledger)?;
            let last: Value =
                serde_json::from_str(lines.lines().last().context("the ledger is empty")?)?;
            ensure!(last["verdict"] == "failed", "{last}");

            // They are for people to look at: outside of the test's directory, which is removed.
            let screenshots = alys_tests::alys::target_dir().join("screenshots");
            fs::create_dir_all(&screenshots)?;
            let chromium = simulator::chromium()?;
            let index = pages.join("index.html");
            let args =
                [&chromium, &passing, &failing, &index, &screenshots].map(|path| path.as_os_str());
            let told = npm::script(world, "pages.cjs", BROWSER, args)?;
            world.say(&format!("screenshots: {}", screenshots.display()));
            ensure!(told == "ok", "{told}");
            Ok(())
        },
    );
}
