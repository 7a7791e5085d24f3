//! `alys dev` as a newcomer and a newcomer's scripts use it.

use std::path::Path;
use std::time::Duration;

use alys_tests::federation::{Ledger, check_sound, text};
use alys_tests::process::Stream;
use alys_tests::{Process, Rpc, World, alys, npm, ports, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const FIRST_FINAL: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
const SCRIPT: Duration = Duration::from_secs(120);
/// Of the default settings.
const SLOT: Duration = Duration::from_secs(2);
/// Slots that are counted, and of those, how many may have no block while the machine does something else.
const COUNTED: u64 = 20;
const MISSED: u64 = 2;

fn start(world: &World, name: &str, datadir: &Path, more: &[&str]) -> Result<(Process, Value)> {
    let port = ports::free().to_string();
    let mut args = vec![
        "dev",
        "--json",
        "--datadir",
        text(datadir)?,
        "--http-port",
        &port,
    ];
    args.extend(more);
    let process = Process::start(world, name, &alys::command(world, args))?;
    let ready = process.wait_line(world, "\"event\":\"ready\"", FIRST_FINAL)?;
    Ok((
        process,
        serde_json::from_str(&ready).context("the line about the start")?,
    ))
}

/// Ctrl-C. Returns the last line.
fn stop(world: &World, mut process: Process) -> Result<(Process, Value)> {
    process.signal("INT")?;
    let status = process.wait_end(world, STOP)?;
    ensure!(status.success(), "it stopped with {status}");
    check_sound("alys dev", &process)?;
    let out = process.text(Stream::Out);
    let last: Value = serde_json::from_str(out.lines().last().context("it wrote something")?)?;
    ensure!(last["event"] == "stopped", "the last line is {last}");
    Ok((process, last))
}

#[test]
fn alys_dev_serves_wallets() {
    scenario(
        "alys_dev_serves_wallets",
        Duration::from_secs(400),
        |world| {
            npm::installed()?;
            let datadir = world.dir().join("dev");
            let (first, ready) = start(world, "alys dev", &datadir, &["--validators", "4"])?;
            first.wait_final(world, 1, FIRST_FINAL)?;
            let after = first.started().elapsed();
            world.say(&format!(
                "first final block {:.1} s after the start",
                after.as_secs_f64()
            ));
            ensure!(
                after <= FIRST_FINAL,
                "the first final block came after {after:?}"
            );

            let begin = first
                .written(|written| written.finals.last().map(|(_, block)| block.slot))
                .unwrap_or(0);
            let limit = SLOT * u32::try_from(COUNTED + 10)?;
            let end = begin + COUNTED;
            first.wait(world, "twenty slots", limit, |written| {
                let last = written.finals.last().map_or(0, |(_, block)| block.slot);
                (last >= end).then_some(())
            })?;
            let slots: Vec<u64> = first.written(|written| {
                let slots = written.finals.iter().map(|(_, block)| block.slot);
                slots
                    .filter(|slot| (begin + 1..=end).contains(slot))
                    .collect()
            });
            world.say(&format!("{} final blocks in {COUNTED} slots", slots.len()));
            ensure!(
                slots.len() as u64 + MISSED >= COUNTED,
                "{} blocks in {COUNTED} slots: {slots:?}",
                slots.len()
            );

            let url = ready["rpc_url"].as_str().context("rpc_url")?;
            let chain_id = ready["chain_id"].to_string();
            let left = npm::script(world, "ethers.cjs", SCRIPT, [url, &chain_id])?;
            let left: Value = serde_json::from_str(&left).context("what ethers.cjs leaves")?;
            npm::script(world, "viem.cjs", SCRIPT, [url, &chain_id])?;
            let transactions: u64 = first.written(|written| {
                written
                    .finals
                    .iter()
                    .map(|(_, block)| block.transactions)
                    .sum()
            });
            // Of the scripts: seven and six.
            ensure!(
                transactions == 13,
                "the block lines count {transactions} transactions"
            );

            // All four execution clients have the same chain.
            let urls = ready["rpc_urls"].as_array().context("rpc_urls")?;
            ensure!(urls.len() == 4, "{urls:?}");
            for url in urls {
                let rpc = Rpc::at(url.as_str().context("a URL")?)?;
                world.wait(
                    "the same state at every validator",
                    Duration::from_secs(30),
                    || Ok(holds(&rpc, &left)?.then_some(())),
                )?;
            }

            let (first, stopped) = stop(world, first)?;
            world.say(&format!("Ctrl-C: {stopped}"));
            let height = stopped["height"].as_u64().context("height")?;

            let (second, again) = start(world, "alys dev again", &datadir, &[])?;
            world.say(&format!(
                "the second start goes on after {}",
                again["height"]
            ));
            ensure!(
                again["genesis_hash"] == ready["genesis_hash"],
                "another chain: {again}"
            );
            ensure!(
                again["height"].as_u64() >= Some(height),
                "height {} after {height}",
                again["height"]
            );
            let rpc = Rpc::at(again["rpc_url"].as_str().context("rpc_url")?)?;
            ensure!(holds(&rpc, &left)?, "balance or contract are lost: {left}");
            second.wait_final(world, height + 3, FIRST_FINAL)?;
            let (second, _) = stop(world, second)?;
            let mut ledger = Ledger::default();
            ledger.take("the first run", &first)?;
            ledger.take("the second run", &second)?;
            ensure!(
                ledger.block(height + 1).is_some(),
                "final block {} is left out",
                height + 1
            );
            Ok(())
        },
    );
}

/// Whether what the script left is there.
fn holds(rpc: &Rpc, left: &Value) -> Result<bool> {
    let quantity = |hex: String| u128::from_str_radix(hex.trim_start_matches("0x"), 16);
    let balance = quantity(rpc.balance(left["recipient"].as_str().context("recipient")?)?)?;
    // total()
    let call = json!([{ "to": left["contract"], "data": "0x2ddbd13a" }, "latest"]);
    let total = rpc.call("eth_call", call)?;
    let total = total
        .as_str()
        .filter(|total| *total != "0x")
        .map_or(Ok(0), |total| quantity(total.into()))?;
    Ok(left["balance"] == balance.to_string() && left["total"] == total.to_string())
}

#[test]
fn alys_dev_shows_people_one_line_per_block() {
    scenario(
        "alys_dev_shows_people_one_line_per_block",
        Duration::from_secs(90),
        |world| {
            let datadir = world.dir().join("dev");
            let port = ports::free().to_string();
            let args = [
                "dev",
                "--validators",
                "1",
                "--slot-ms",
                "1000",
                "--datadir",
                text(&datadir)?,
            ];
            let mut command = alys::command(world, args);
            command.args(["--http-port", &port]);
            let mut process = Process::start(world, "alys dev", &command)?;
            for height in 1..=4 {
                process.wait_line(world, &format!("block {height:>6}  slot "), FIRST_FINAL)?;
            }
            let shown = process.text(Stream::Out);
            for expected in [
                "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
                "Ctrl-C",
                &port,
            ] {
                ensure!(
                    shown.contains(expected),
                    "{expected} is not shown:\n{shown}"
                );
            }
            process.signal("INT")?;
            let status = process.wait_end(world, STOP)?;
            ensure!(status.success(), "it stopped with {status}");
            let shown = process.text(Stream::Out);
            ensure!(
                shown
                    .lines()
                    .last()
                    .is_some_and(|line| line.starts_with("Stopped at final block")),
                "{shown}"
            );
            check_sound("alys dev", &process)
        },
    );
}

#[test]
fn a_dev_network_goes_on_after_kill_9() {
    scenario(
        "a_dev_network_goes_on_after_kill_9",
        Duration::from_secs(150),
        |world| {
            let datadir = world.dir().join("dev");
            let mut ledger = Ledger::default();
            let mut height = 0;
            for run in 1..=3 {
                let more: &[&str] = if run == 1 {
                    &["--slot-ms", "1000"]
                } else {
                    &[]
                };
                let (mut process, ready) = start(world, "alys dev", &datadir, more)?;
                // What one of them told as final is found again, by all of them together.
                process.wait_final(world, height + 4, FIRST_FINAL)?;
                ensure!(ready["height"].as_u64() <= Some(height + 1), "{ready}");
                height = process.written(|written| written.height());
                world.say(&format!("kill -9 of run {run} at final block {height}"));
                process.kill()?;
                check_sound("alys dev", &process)?;
                ledger.take(&format!("run {run}"), &process)?;
            }
            let (process, _) = start(world, "alys dev", &datadir, &[])?;
            process.wait_final(world, height + 2, FIRST_FINAL)?;
            let (process, _) = stop(world, process)?;
            ledger.take("the last run", &process)
        },
    );
}
