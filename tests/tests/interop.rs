//! A federation of `alys node` processes on three implementations of the execution client: ethrex,
//! EthereumJS, and the embedded one. Ignored unless `cargo xtask interop` runs it, because ethrex
//! takes many minutes to build.

use std::time::Duration;

use alys_tests::alys::Final;
use alys_tests::client::{Client, restart_under_way};
use alys_tests::federation::{Federation, Ledger, Setup, check_sound};
use alys_tests::rpc::number;
use alys_tests::{Process, Rpc, World, ethrex, npm, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The members with these clients; those of the other members are embedded.
const ETHREX: usize = 0;
const ETHEREUMJS: usize = 1;
const MEMBERS: usize = 4;
/// On two otherwise idle cores a block full of large transactions is proposed, executed and
/// approved within this time.
const SLOT_MS: u64 = 3000;
/// The variable with other milliseconds, for a busy machine.
const SLOT_VARIABLE: &str = "ALYS_INTEROP_SLOT_MS";
/// Rounds of transfers. In each, every client gets one transfer.
const ROUNDS: u64 = 3;
/// Turns in a row that each authority must use while the pools hold what no block may have. More
/// than two, so that every authority proposes on blocks of every client.
const TURNS: usize = 3;

/// A wait for some blocks, in slots: most need ten. Missed slots prolong it.
const PROGRESS_SLOTS: u32 = 40;
/// The wait for a run of slots without a missed one, in slots. The run starts again after each slot
/// that a busy machine misses.
const TURNS_SLOTS: u32 = 80;

/// Above the patience of a script for one wait, because its error names the transaction.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(900);

/// Lines of a node that has refused something of its client or of its peers.
const COMPLAINTS: [&str; 3] = [
    "peer banned",
    "nothing is proposed from the payload",
    "considers the certified block",
];

#[test]
#[ignore = "needs ethrex: cargo xtask interop"]
fn a_federation_runs_on_three_execution_clients() {
    let name = "a_federation_runs_on_three_execution_clients";
    scenario(name, Duration::from_secs(2400), |world| {
        npm::installed()?;
        let setup = Setup {
            members: MEMBERS,
            slot_ms: slot_ms()?,
            ..Setup::default()
        };
        let slot = Duration::from_millis(setup.slot_ms);
        let progress = slot * PROGRESS_SLOTS;
        let federation = Federation::new(world, &setup)?;
        let genesis = federation.dir().join("execution-genesis.json");
        let mut ethrex = ethrex::start(world, "ethrex", &genesis)?;
        let mut ethereumjs = npm::ethereumjs(world, "ethereumjs", &genesis)?;
        world.say("the execution clients answer");
        // Both serve their pools on their public ports only, and EthereumJS its receipts.
        federation.use_client(ETHREX, &ethrex, Some(&ethrex.rpc()))?;
        federation.use_client(ETHEREUMJS, &ethereumjs, Some(&ethereumjs.rpc()))?;
        let start = |index| federation.start(world, index, &[]);
        let mut nodes: Vec<Process> = (0..MEMBERS).map(start).collect::<Result<_>>()?;
        for node in &nodes {
            node.wait_final(world, 3, progress)?;
        }
        let rpcs = [
            ethrex.rpc(),
            ethereumjs.rpc(),
            federation.rpc(2),
            federation.rpc(3),
        ];

        let mut sent = transfers(world, &setup, &rpcs)?;
        // Its chain is in memory, so that the node sends it all blocks again.
        restart_under_way(world, &mut ethrex, &nodes, ETHREX, progress)?;
        sent += transfers(world, &setup, &rpcs)?;
        sent += pools(world, &setup, &rpcs)?;
        // The blob transaction is still in the pool of ethrex.
        all_propose(world, &nodes, slot * TURNS_SLOTS)?;

        let end = check_blocks(&nodes, sent)?;
        check_safe_blocks(world, &rpcs, end)?;
        for (index, node) in nodes.iter_mut().enumerate() {
            node.signal("TERM")?;
            let status = node.wait_end(world, Duration::from_secs(10))?;
            ensure!(status.success(), "node {index} stopped with {status}");
        }
        stop(world, &mut ethrex)?;
        stop(world, &mut ethereumjs)
    });
}

/// The duration of a slot in milliseconds.
fn slot_ms() -> Result<u64> {
    let Ok(text) = std::env::var(SLOT_VARIABLE) else {
        return Ok(SLOT_MS);
    };
    let slot = text.parse();
    slot.with_context(|| format!("{SLOT_VARIABLE} = {text}: no number of milliseconds"))
}

/// Sends transfers through every client, which must be the same at all of them. Returns their
/// number.
fn transfers(world: &World, setup: &Setup, rpcs: &[Rpc]) -> Result<u64> {
    let mut args = vec![setup.chain_id.to_string(), ROUNDS.to_string()];
    args.extend(rpcs.iter().map(Rpc::url));
    let sent = npm::script(world, "transfers.cjs", SCRIPT_TIMEOUT, args)?;
    let sent: Value = serde_json::from_str(&sent)?;
    let count = sent["transfers"].as_u64();
    count.with_context(|| format!("transfers.cjs: {sent}"))
}

/// Fills the pools of ethrex and EthereumJS with a blob transaction and large ones. Returns the
/// number of those that blocks must have.
fn pools(world: &World, setup: &Setup, rpcs: &[Rpc]) -> Result<u64> {
    let mut args = vec![setup.chain_id.to_string()];
    args.extend(rpcs.iter().map(Rpc::url));
    let sent = npm::script(world, "pools.cjs", SCRIPT_TIMEOUT, args)?;
    let sent: Value = serde_json::from_str(&sent)?;
    let count = sent["transactions"].as_u64();
    count.with_context(|| format!("pools.cjs: {sent}"))
}

/// Waits until every authority has used several turns in a row, without a slot missed between them.
fn all_propose(world: &World, nodes: &[Process], limit: Duration) -> Result<()> {
    let observer = &nodes[MEMBERS - 1];
    let start = observer.written(|written| written.finals.len());
    let what = format!("{TURNS} turns in a row of each authority");
    let (blocks, slots) = observer.wait(world, &what, limit, |written| {
        let new: Vec<_> = written.finals[start..]
            .iter()
            .map(|(_, block)| block)
            .collect();
        let is_gap = |pair: &[&Final]| pair[1].slot != pair[0].slot + 1;
        let gap = new.windows(2).rposition(is_gap);
        let row = &new[gap.map_or(0, |gap| gap + 1)..];
        let turns = |authority| {
            let own = row.iter().filter(|block| block.proposer == authority);
            own.count()
        };
        let all = (0..MEMBERS as u64).all(|authority| turns(authority) >= TURNS);
        let (first, last) = (new.first()?, new.last()?);
        all.then(|| (new.len(), last.slot + 1 - first.slot))
    })?;
    world.say(&format!(
        "{blocks} final blocks in {slots} slots, at the end {TURNS} turns in a row of each \
         authority"
    ));
    Ok(())
}

/// Checks that all nodes report the same final blocks without a complaint, and that the blocks have
/// that many transactions. Returns the height that all of them have reached.
fn check_blocks(nodes: &[Process], expected: u64) -> Result<u64> {
    let mut ledger = Ledger::default();
    for (index, node) in nodes.iter().enumerate() {
        let name = format!("node {index}");
        check_sound(&name, node)?;
        for complaint in COMPLAINTS {
            let found = node.written(|written| written.find(complaint).cloned());
            if let Some(line) = found {
                anyhow::bail!("{name}: {}", line.text);
            }
        }
        ledger.take(&name, node)?;
    }
    let heights = nodes.iter().map(|node| node.written(|w| w.height()));
    let end = heights.min().context("there are nodes")?;
    let mut transactions = 0;
    for height in 1..=end {
        let block = ledger.block(height);
        let block = block.with_context(|| format!("no node reported final block {height}"))?;
        transactions += block.transactions;
    }
    ensure!(
        transactions == expected,
        "{transactions} transactions in final blocks, expected {expected}"
    );
    Ok(end)
}

/// Waits until block `height` is safe at every client, and checks that it is the same one.
fn check_safe_blocks(world: &World, rpcs: &[Rpc], height: u64) -> Result<()> {
    let mut seen = Vec::new();
    for rpc in rpcs {
        let what = format!("block {height} to be safe");
        world.wait(&what, Duration::from_secs(30), || {
            let safe = number(&rpc.block("safe")?["number"])?;
            Ok((safe >= height).then_some(()))
        })?;
        let block = rpc.block(&format!("{height:#x}"))?;
        seen.push((block["hash"].clone(), block["stateRoot"].clone()));
    }
    ensure!(
        seen.iter().all(|block| *block == seen[0]),
        "the clients differ at execution block {height}: {seen:?}"
    );
    Ok(())
}

fn stop(world: &World, client: &mut Client) -> Result<()> {
    let status = client.stop(world, Duration::from_secs(20))?;
    ensure!(status.success(), "{} stopped with {status}", client.name());
    Ok(())
}
