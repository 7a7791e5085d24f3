//! `alys node` with the execution client of another team.

use std::time::{Duration, Instant};

use alys_tests::federation::{Federation, Ledger, Setup, check_sound, text};
use alys_tests::npm::{self, EthereumJs};
use alys_tests::rpc::number;
use alys_tests::scenario;
use anyhow::ensure;
use serde_json::Value;

const MEMBERS: usize = 4;
const BLOCKS: u64 = 100;
/// What four EthereumJS need for a block on two busy cores, with room to spare.
const SLOT_MS: u64 = 2000;
/// Of transfers, one to each execution client.
const ROUNDS: &str = "8";

#[test]
fn a_federation_of_processes_runs_on_ethereumjs() {
    scenario(
        "a_federation_of_processes_runs_on_ethereumjs",
        Duration::from_secs(480),
        |world| {
            npm::installed()?;
            let setup = Setup {
                members: MEMBERS,
                slot_ms: SLOT_MS,
                ..Setup::default()
            };
            let federation = Federation::new(world, &setup)?;
            let genesis = federation.dir().join("execution-genesis.json");
            let mut clients = Vec::new();
            for index in 0..MEMBERS {
                clients.push(EthereumJs::start(
                    world,
                    &format!("ethereumjs-{index}"),
                    &genesis,
                )?);
            }
            world.say("the execution clients answer");
            let mut nodes = Vec::new();
            for (index, client) in clients.iter().enumerate() {
                // The configuration is that of a node with an embedded client: nothing else changes.
                let (url, secret) = (client.engine_url(), text(client.secret())?);
                nodes.push(federation.start(
                    world,
                    index,
                    &["--execution-url", &url, "--jwt-secret", secret],
                )?);
            }
            let started = Instant::now();
            for node in &nodes {
                node.wait_final(world, 3, Duration::from_secs(60))?;
            }

            let mut args: Vec<String> = vec![setup.chain_id.to_string(), ROUNDS.to_owned()];
            args.extend(clients.iter().map(|client| client.rpc().url()));
            let left = npm::script(world, "transfers.cjs", Duration::from_secs(200), args)?;
            let left: Value = serde_json::from_str(&left)?;

            // An execution client that dies and comes back is sent what it missed.
            let height = nodes[0].written(|written| written.height());
            world.say(&format!("kill -9 ethereumjs-3 after final block {height}"));
            clients[3].kill()?;
            nodes[0].wait_final(world, height + 6, Duration::from_secs(90))?;
            clients[3].restart(world)?;
            let (height, slot) = nodes[0].written(|written| {
                written
                    .finals
                    .last()
                    .map_or((0, 0), |(_, block)| (block.height, block.slot))
            });
            nodes[3].wait_final(world, height, Duration::from_secs(90))?;
            nodes[0].wait(
                world,
                "a final block of authority 3",
                Duration::from_secs(90),
                |written| {
                    let mut finals = written.finals.iter().map(|(_, block)| block);
                    finals
                        .any(|block| block.proposer == 3 && block.slot > slot)
                        .then_some(())
                },
            )?;
            world.say("its node proposes again");

            for node in &nodes {
                node.wait_final(world, BLOCKS, Duration::from_secs(400))?;
            }
            let slots = nodes[0].written(|written| {
                let first = written.finals.first().map_or(0, |(_, block)| block.slot);
                let at = written
                    .finals
                    .iter()
                    .find(|(_, block)| block.height >= BLOCKS);
                at.map_or(0, |(_, block)| block.slot + 1 - first)
            });
            let seconds = started.elapsed().as_secs_f64();
            world.say(&format!(
                "{BLOCKS} final blocks in {slots} slots, {seconds:.0} s"
            ));

            let mut ledger = Ledger::default();
            for (index, node) in nodes.iter().enumerate() {
                check_sound(&format!("node {index}"), node)?;
                ledger.take(&format!("node {index}"), node)?;
            }
            let transactions: u64 = (1..=BLOCKS)
                .filter_map(|height| ledger.block(height))
                .map(|block| block.transactions)
                .sum();
            ensure!(
                Some(transactions) == left["transfers"].as_u64(),
                "{transactions} transactions, {left}"
            );
            for height in 1..=BLOCKS {
                ensure!(
                    ledger.block(height).is_some(),
                    "nobody told of final block {height}"
                );
            }
            // The execution clients have the same blocks, and call them safe once the nodes have told them.
            let mut seen = Vec::new();
            for client in &clients {
                let rpc = client.rpc();
                world.wait(
                    &format!("block {BLOCKS} to be safe"),
                    Duration::from_secs(30),
                    || {
                        let safe = number(&rpc.block("safe")?["number"])?;
                        Ok((safe >= BLOCKS).then_some(()))
                    },
                )?;
                let block = rpc.block(&format!("{BLOCKS:#x}"))?;
                seen.push((block["hash"].clone(), block["stateRoot"].clone()));
            }
            ensure!(
                seen.iter().all(|block| *block == seen[0]),
                "execution block {BLOCKS}: {seen:?}"
            );
            for (index, node) in nodes.iter_mut().enumerate() {
                node.signal("TERM")?;
                let status = node.wait_end(world, Duration::from_secs(10))?;
                ensure!(status.success(), "node {index} stopped with {status}");
            }
            Ok(())
        },
    );
}
