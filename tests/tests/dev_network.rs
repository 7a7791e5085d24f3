//! `alys dev` as a newcomer and scripts use it.

use std::path::Path;
use std::time::Duration;

use alys_tests::federation::{Ledger, check_sound, text};
use alys_tests::process::{Stream, Written};
use alys_tests::rpc::number;
use alys_tests::{Process, Rpc, World, alys, npm, ports, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(120);
/// The default.
const SLOT: Duration = Duration::from_secs(2);
/// Slots in which blocks are counted.
const COUNTED: u64 = 20;
/// Slots of those that may have no block on a busy machine.
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
    let ready = process.wait_line(world, "\"event\":\"ready\"", PROGRESS_TIMEOUT)?;
    Ok((
        process,
        serde_json::from_str(&ready).context("the line that says ready")?,
    ))
}

/// Sends SIGINT, as Ctrl-C does. Returns the last line.
fn stop(world: &World, mut process: Process) -> Result<(Process, Value)> {
    process.signal("INT")?;
    let status = process.wait_end(world, STOP_TIMEOUT)?;
    ensure!(status.success(), "it stopped with {status}");
    check_sound("alys dev", &process)?;
    let out = process.text(Stream::Out);
    let last: Value = serde_json::from_str(out.lines().last().context("it has output")?)?;
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
            first.wait_final(world, 1, PROGRESS_TIMEOUT)?;
            let after = first.started().elapsed();
            world.say(&format!(
                "first final block {:.1} s after the start",
                after.as_secs_f64()
            ));
            ensure!(
                after <= PROGRESS_TIMEOUT,
                "the first final block came after {after:?}"
            );
            few_slots_are_missed(world, &first)?;
            rpc_agrees_with_the_lines(world, &first, &ready)?;
            let left = wallets_work(world, &first, &ready)?;

            let (first, stopped) = stop(world, first)?;
            world.say(&format!("Ctrl-C: {stopped}"));
            let height = stopped["height"].as_u64().context("height")?;
            let (second, again) = start(world, "alys dev again", &datadir, &[])?;
            world.say(&format!("the second start resumes at {}", again["height"]));
            ensure!(
                again["genesis_hash"] == ready["genesis_hash"],
                "a different chain: {again}"
            );
            let resumed = &again["height"];
            ensure!(
                resumed.as_u64() >= Some(height),
                "height {resumed} after {height}"
            );
            let rpc = Rpc::at(again["rpc_url"].as_str().context("rpc_url")?)?;
            ensure!(holds(&rpc, &left)?, "balance or contract are lost: {left}");
            second.wait_final(world, height + 3, PROGRESS_TIMEOUT)?;
            let (second, _) = stop(world, second)?;
            let mut ledger = Ledger::default();
            ledger.take("the first run", &first)?;
            ledger.take("the second run", &second)?;
            let next = height + 1;
            ensure!(
                ledger.block(next).is_some(),
                "final block {next} is missing"
            );
            Ok(())
        },
    );
}

fn few_slots_are_missed(world: &World, process: &Process) -> Result<()> {
    let last = |written: &Written| written.finals.last().map_or(0, |(_, block)| block.slot);
    let begin = process.written(last);
    let end = begin + COUNTED;
    let limit = SLOT * u32::try_from(COUNTED + 10)?;
    process.wait(world, "twenty slots", limit, |written| {
        (last(written) >= end).then_some(())
    })?;
    let slots: Vec<u64> = process.written(|written| {
        let slots = written.finals.iter().map(|(_, block)| block.slot);
        slots
            .filter(|slot| (begin + 1..=end).contains(slot))
            .collect()
    });
    let blocks = slots.len();
    world.say(&format!("{blocks} final blocks in {COUNTED} slots"));
    ensure!(
        blocks as u64 + MISSED >= COUNTED,
        "{blocks} blocks in {COUNTED} slots: {slots:?}"
    );
    Ok(())
}

/// The JSON-RPC of every validator knows the block of a line by its execution hash, calls it
/// safe, and has the other validators as peers.
fn rpc_agrees_with_the_lines(world: &World, process: &Process, ready: &Value) -> Result<()> {
    let line = process.written(|written| {
        let mut lines = written.lines.iter().rev();
        let line = lines.find(|line| line.text.contains("\"event\":\"block\""));
        line.map(|line| line.text.clone())
    });
    let line: Value = serde_json::from_str(&line.context("no block line")?)?;
    let height = line["height"].as_u64().context("height")?;
    for url in ready["rpc_urls"].as_array().context("rpc_urls")? {
        let rpc = Rpc::at(url.as_str().context("a URL")?)?;
        world.wait("the block to be safe", PROGRESS_TIMEOUT, || {
            let safe = number(&rpc.block("safe")?["number"])?;
            Ok((safe >= height).then_some(()))
        })?;
        let params = json!([line["execution_hash"], false]);
        let block = rpc.call("eth_getBlockByHash", params)?;
        ensure!(number(&block["number"])? == height, "{line}: {block}");
        let peers = rpc.call("net_peerCount", json!([]))?;
        ensure!(peers == "0x3", "{url} has {peers} peers");
        let syncing = rpc.call("eth_syncing", json!([]))?;
        ensure!(syncing == false, "{url}: eth_syncing is {syncing}");
    }
    Ok(())
}

/// Runs the scripts, and waits for the same state at all validators. Returns the state that must
/// survive a restart.
fn wallets_work(world: &World, process: &Process, ready: &Value) -> Result<Value> {
    let url = ready["rpc_url"].as_str().context("rpc_url")?;
    let chain_id = ready["chain_id"].to_string();
    let left = npm::script(world, "ethers.cjs", SCRIPT_TIMEOUT, [url, &chain_id])?;
    let left: Value = serde_json::from_str(&left).context("the last line of ethers.cjs")?;
    npm::script(world, "viem.cjs", SCRIPT_TIMEOUT, [url, &chain_id])?;
    let transactions: u64 = process.written(|written| {
        written
            .finals
            .iter()
            .map(|(_, block)| block.transactions)
            .sum()
    });
    // Seven of ethers.cjs, six of viem.cjs.
    ensure!(
        transactions == 13,
        "the block lines count {transactions} transactions"
    );

    let urls = ready["rpc_urls"].as_array().context("rpc_urls")?;
    ensure!(urls.len() == 4, "{urls:?}");
    for url in urls {
        let rpc = Rpc::at(url.as_str().context("a URL")?)?;
        world.wait(
            "the same state at every validator",
            PROGRESS_TIMEOUT,
            || Ok(holds(&rpc, &left)?.then_some(())),
        )?;
    }
    Ok(left)
}

/// True when the balance and the contract of the script are there.
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
fn alys_dev_prints_one_line_per_block() {
    scenario(
        "alys_dev_prints_one_line_per_block",
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
                process.wait_line(
                    world,
                    &format!("block {height:>6}  slot "),
                    PROGRESS_TIMEOUT,
                )?;
            }
            let shown = process.text(Stream::Out);
            for expected in [
                "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
                "Ctrl-C",
                &port,
            ] {
                ensure!(
                    shown.contains(expected),
                    "{expected} is not printed:\n{shown}"
                );
            }
            process.signal("INT")?;
            let status = process.wait_end(world, STOP_TIMEOUT)?;
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

/// A transfer of the first account on the default chain with nonce 1,000, which no block includes.
const QUEUED: &str = "\
    0xf8698203e885174876e8008252089470997970c51812dc3a010c7d01b50e0d17dc79c801808303\
    b31ba0810ea1acfc7b2f8005e7869109e8b673c7fb0df33282d40b10b8f922755818eda03c70a6ee\
    1e87a549c8be6a94cf2bebc768ea55036cee102e8826b65aaac0485b";
const QUEUED_HASH: &str = "0x09f9f4f1ee6f7659a24d24a9741dc932253fa8209f4a7bb5f5789ec54a166934";

fn rpc(ready: &Value) -> Result<Rpc> {
    Rpc::at(ready["rpc_url"].as_str().context("rpc_url")?)
}

/// Checks that the pool of the first validator still has the transaction.
fn check_queued(ready: &Value) -> Result<()> {
    let queued = rpc(ready)?.call("eth_getTransactionByHash", json!([QUEUED_HASH]))?;
    ensure!(queued["nonce"] == "0x3e8", "the pool was lost: {queued}");
    Ok(())
}

#[test]
fn a_dev_network_resumes_after_kill_9() {
    scenario(
        "a_dev_network_resumes_after_kill_9",
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
                if run == 1 {
                    let sent = rpc(&ready)?.call("eth_sendRawTransaction", json!([QUEUED]))?;
                    ensure!(sent == QUEUED_HASH, "{sent}");
                }
                check_queued(&ready)?;
                // The restarted network has every block that the killed one reported as final.
                process.wait_final(world, height + 4, PROGRESS_TIMEOUT)?;
                ensure!(ready["height"].as_u64() <= Some(height + 1), "{ready}");
                height = process.written(|written| written.height());
                world.say(&format!("kill -9 of run {run} at final block {height}"));
                process.kill()?;
                check_sound("alys dev", &process)?;
                ledger.take(&format!("run {run}"), &process)?;
            }
            let (process, ready) = start(world, "alys dev", &datadir, &[])?;
            check_queued(&ready)?;
            process.wait_final(world, height + 2, PROGRESS_TIMEOUT)?;
            let (process, _) = stop(world, process)?;
            let (last, ready) = start(world, "alys dev", &datadir, &[])?;
            check_queued(&ready)?;
            stop(world, last)?;
            ledger.take("the last run", &process)
        },
    );
}
