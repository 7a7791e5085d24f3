//! Merged mining of a development network: by a pool of other people's code, by `alys mine dev`,
//! and by the network itself.

use std::path::Path;
use std::time::Duration;

use alys_tests::federation::{check_sound, text};
use alys_tests::process::Stream;
use alys_tests::rpc::number;
use alys_tests::{Process, Rpc, World, alys, npm, ports, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(300);
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(90);
/// No account of the network.
const POOL: &str = "0x1234567890AbcdEF1234567890aBcdef12345678";
const MINER: &str = "0x00000000000000000000000000000000000000aa";

fn start(world: &World, datadir: &Path, more: &[&str]) -> Result<(Process, Value)> {
    let port = ports::free().to_string();
    let mut args = vec!["dev", "--json", "--datadir", text(datadir)?];
    args.extend(["--http-port", &port, "--mining-addr", "127.0.0.1:0"]);
    args.extend(more);
    let process = Process::start(world, "alys dev", &alys::command(world, args))?;
    let ready = process.wait_line(world, "\"event\":\"ready\"", PROGRESS_TIMEOUT)?;
    Ok((process, serde_json::from_str(&ready).context("ready")?))
}

fn stop(world: &World, mut process: Process) -> Result<()> {
    process.signal("INT")?;
    let status = process.wait_end(world, STOP_TIMEOUT)?;
    ensure!(status.success(), "it stopped with {status}");
    check_sound("alys dev", &process)
}

/// The line about the proof with this number.
fn wait_pow(world: &World, process: &Process, sequence: u64) -> Result<Value> {
    let start = format!("{{\"event\":\"pow\",\"sequence\":{sequence},");
    let line = process.wait_line(world, &start, PROGRESS_TIMEOUT)?;
    Ok(serde_json::from_str(&line)?)
}

/// Mines a proof with the script and waits until its range is final.
fn pool_mines(world: &World, process: &Process, url: &str, key: &str, place: &str) -> Result<u64> {
    let submitted = npm::script(world, "miner.cjs", SCRIPT_TIMEOUT, [url, POOL, key, place])?;
    let submitted: Value = serde_json::from_str(&submitted).context("the last line")?;
    let sequence = submitted["sequence"].as_u64().context("sequence")?;
    let range = wait_pow(world, process, sequence)?;
    ensure!(range["miner"] == POOL.to_lowercase(), "{range}");
    ensure!(range["first"] == submitted["first"], "{range}, {submitted}");
    ensure!(range["end"] == submitted["height"], "{range}, {submitted}");
    range["end"].as_u64().context("end")
}

#[test]
fn ranges_become_final_by_the_work_of_a_pool_and_of_miners() {
    let name = "ranges_become_final_by_the_work_of_a_pool_and_of_miners";
    scenario(name, LIMIT, |world| {
        npm::installed()?;
        let datadir = world.dir().join("dev");
        let options = ["--validators", "1", "--slot-ms", "1000", "--no-mining"];
        let (network, ready) = start(world, &datadir, &options)?;
        let url = ready["mining_url"].as_str().context("mining_url")?;
        let mining = Rpc::at(url)?;
        let wallet = Rpc::at(ready["rpc_url"].as_str().context("rpc_url")?)?;

        // One pool reads only `target`, the other only `_target`.
        pool_mines(world, &network, url, "target", "input")?;
        let end = pool_mines(world, &network, url, "_target", "output")?;
        world.wait("the range to be finalized", PROGRESS_TIMEOUT, || {
            let finalized = number(&wallet.block("finalized")?["number"])?;
            Ok((finalized >= end).then_some(()))
        })?;
        let queued = mining.call("getqueuedpow", json!([]))?;
        ensure!(queued == Value::Null, "a final block carries it: {queued}");
        let block = mining.call("getblockbyheight", json!([end]))?;
        ensure!(block["final"] == true, "{block}");

        let args = [
            "mine",
            "dev",
            "--url",
            url,
            "--address",
            MINER,
            "--rate",
            "20",
        ];
        let mut miner = Process::start(world, "alys mine dev", &alys::command(world, args))?;
        let range = wait_pow(world, &network, 3)?;
        ensure!(range["miner"] == MINER, "{range}");
        miner.signal("INT")?;
        let status = miner.wait_end(world, STOP_TIMEOUT)?;
        let shown = miner.text(Stream::Err);
        ensure!(status.success(), "{status}: {shown}");
        ensure!(shown.contains("accepted: proof of work up to"), "{shown}");
        ensure!(shown.contains("stopped after"), "{shown}");
        stop(world, network)?;

        // The network mines by itself, and continues the numbers.
        let (network, _) = start(world, &datadir, &[])?;
        wait_pow(world, &network, 5)?;
        stop(world, network)
    });
}
