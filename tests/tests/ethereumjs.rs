//! A federation of `alys node` processes, all but one with EthereumJS as their execution client.
//! The other one has the embedded client, so that two independent clients agree on every state.

use std::time::{Duration, Instant};

use alys_tests::client::{Client, restart_under_way};
use alys_tests::federation::{Federation, Ledger, Setup, check_sound, text};
use alys_tests::npm;
use alys_tests::rpc::number;
use alys_tests::{Process, Rpc, World, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

const MEMBERS: usize = 4;
/// The member with the embedded client.
const EMBEDDED: usize = 0;
const BLOCKS: u64 = 100;
/// Three EthereumJS processes on two busy cores produce and execute a block within this time.
const SLOT_MS: u64 = 2000;
/// Rounds of transfers. In each, every execution client gets one transfer.
const ROUNDS: &str = "8";

const PROGRESS_TIMEOUT: Duration = Duration::from_secs(90);

#[test]
fn a_federation_of_processes_runs_on_ethereumjs() {
    let name = "a_federation_of_processes_runs_on_ethereumjs";
    scenario(name, Duration::from_secs(480), |world| {
        npm::installed()?;
        let setup = Setup {
            members: MEMBERS,
            slot_ms: SLOT_MS,
            ..Setup::default()
        };
        let federation = Federation::new(world, &setup)?;
        let mut clients = start_clients(world, &federation)?;
        let mut nodes = start_nodes(world, &federation, &clients)?;
        let started = Instant::now();
        for node in &nodes {
            node.wait_final(world, 3, PROGRESS_TIMEOUT)?;
        }

        let mut args: Vec<String> = vec![setup.chain_id.to_string(), ROUNDS.to_owned()];
        let all = rpcs(&federation, &clients);
        args.extend(all.iter().map(Rpc::url));
        let sent = npm::script(world, "transfers.cjs", Duration::from_secs(200), args)?;
        let sent: Value = serde_json::from_str(&sent)?;

        let last = clients.last_mut().context("there are clients")?;
        restart_under_way(world, last, &nodes, MEMBERS - 1, PROGRESS_TIMEOUT)?;
        for node in &nodes {
            node.wait_final(world, BLOCKS, Duration::from_secs(400))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        world.say(&format!(
            "{BLOCKS} final blocks in {} slots, {seconds:.0} s",
            slots(&nodes[0])
        ));

        check_blocks(&nodes, &sent)?;
        check_safe_blocks(world, &rpcs(&federation, &clients))?;
        for (index, node) in nodes.iter_mut().enumerate() {
            node.signal("TERM")?;
            let status = node.wait_end(world, Duration::from_secs(10))?;
            ensure!(status.success(), "node {index} stopped with {status}");
        }
        Ok(())
    });
}

fn start_clients(world: &World, federation: &Federation) -> Result<Vec<Client>> {
    let genesis = federation.dir().join("execution-genesis.json");
    let client = |index| npm::ethereumjs(world, &format!("ethereumjs-{index}"), &genesis);
    let clients = (EMBEDDED + 1..MEMBERS).map(client).collect::<Result<_>>()?;
    world.say("the execution clients answer");
    Ok(clients)
}

/// The public ports of all execution clients, the embedded one first.
fn rpcs(federation: &Federation, clients: &[Client]) -> Vec<Rpc> {
    let embedded = federation.rpc(EMBEDDED);
    let others = clients.iter().map(Client::rpc);
    std::iter::once(embedded).chain(others).collect()
}

/// Starts the nodes with their configuration files, which name the embedded client. Except for
/// [`EMBEDDED`], the arguments replace it by EthereumJS.
fn start_nodes(world: &World, federation: &Federation, clients: &[Client]) -> Result<Vec<Process>> {
    let start = |(index, client): (usize, &Client)| {
        let url = client.engine_url();
        // EthereumJS serves its pool and receipts on its public port only.
        let public = client.rpc().url();
        let args = [
            "--execution-url",
            &url,
            "--pool-url",
            &public,
            "--jwt-secret",
            text(client.secret())?,
        ];
        federation.start(world, index, &args)
    };
    let mut nodes = vec![federation.start(world, EMBEDDED, &[])?];
    for started in (EMBEDDED + 1..).zip(clients).map(start) {
        nodes.push(started?);
    }
    Ok(nodes)
}

/// Number of slots from the first final block to the final block at height [`BLOCKS`].
fn slots(node: &Process) -> u64 {
    node.written(|written| {
        let first = written.finals.first().map_or(0, |(_, block)| block.slot);
        let last = written
            .finals
            .iter()
            .find(|(_, block)| block.height >= BLOCKS);
        last.map_or(0, |(_, block)| block.slot + 1 - first)
    })
}

/// Checks that all nodes report the same final blocks and that these contain all transfers.
fn check_blocks(nodes: &[Process], sent: &Value) -> Result<()> {
    let mut ledger = Ledger::default();
    for (index, node) in nodes.iter().enumerate() {
        check_sound(&format!("node {index}"), node)?;
        ledger.take(&format!("node {index}"), node)?;
    }
    let mut transactions = 0;
    for height in 1..=BLOCKS {
        let block = ledger.block(height);
        let block = block.with_context(|| format!("no node reported final block {height}"))?;
        transactions += block.transactions;
    }
    ensure!(
        Some(transactions) == sent["transfers"].as_u64(),
        "{transactions} transactions in final blocks, expected {sent}"
    );
    Ok(())
}

/// Waits until the safe block of every execution client is at height [`BLOCKS`] or above, and
/// checks that all have the same block at that height.
fn check_safe_blocks(world: &World, clients: &[Rpc]) -> Result<()> {
    let mut seen = Vec::new();
    for rpc in clients {
        let what = format!("block {BLOCKS} to be safe");
        world.wait(&what, Duration::from_secs(30), || {
            let safe = number(&rpc.block("safe")?["number"])?;
            Ok((safe >= BLOCKS).then_some(()))
        })?;
        let block = rpc.block(&format!("{BLOCKS:#x}"))?;
        seen.push((block["hash"].clone(), block["stateRoot"].clone()));
    }
    ensure!(
        seen.iter().all(|block| *block == seen[0]),
        "the clients differ at execution block {BLOCKS}: {seen:?}"
    );
    Ok(())
}
