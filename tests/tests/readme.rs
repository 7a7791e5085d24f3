//! The README's federation: its commands, from the file itself, end with a chain whose accounts can
//! pay.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use alys_tests::federation::{PASSWORD, check_sound};
use alys_tests::process::Stream;
use alys_tests::{Process, Rpc, World, alys, ports, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(300);
/// For one command. Keystores are encrypted at full cost, which a debug build takes seconds for.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(120);
/// The section with the commands.
const SECTION: &str = "## A federation of your own";
/// The mark of a command that every member runs, in a directory of its own.
const OF_EACH_MEMBER: &str = "# each ";
/// The directory in the README. Two members suffice to show that peers connect.
const MEMBERS: [&str; 2] = ["v0", "v1"];
/// The account that the README funds.
const FUNDED: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

struct Ports {
    peers: u16,
    http: u16,
}

#[test]
fn the_readmes_federation_works_line_by_line() {
    scenario(
        "the_readmes_federation_works_line_by_line",
        LIMIT,
        |world| {
            let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
            let readme = fs::read_to_string(&readme).context("README.md")?;
            let ports = MEMBERS.map(|_| Ports {
                peers: ports::free(),
                http: ports::free(),
            });
            let mut nodes = Vec::new();
            for line in commands(&readme)? {
                let members = if line.contains(OF_EACH_MEMBER) {
                    MEMBERS.len()
                } else {
                    1
                };
                for (index, member) in MEMBERS.iter().enumerate().take(members) {
                    let line = line.replace(MEMBERS[0], member);
                    if line.starts_with("alys node ") {
                        let command = command(world, &format!("exec {line}"))?;
                        nodes.push(Process::start(world, member, &command)?);
                    } else {
                        run(world, &line)?;
                    }
                    if line.starts_with("alys config ") {
                        edit(
                            &world.dir().join(format!("chain/{member}.toml")),
                            &ports,
                            index,
                        )?;
                    }
                }
            }
            ensure!(nodes.len() == MEMBERS.len(), "the README starts no nodes");
            for (index, node) in nodes.iter().enumerate() {
                node.wait_final(world, 3, PROGRESS_TIMEOUT)?;
                check_state(&Rpc::on(ports[index].http))?;
                check_sound(MEMBERS[index], node)?;
            }
            Ok(())
        },
    );
}

/// The facts that a wallet reads from a member of a running federation.
fn check_state(rpc: &Rpc) -> Result<()> {
    let balance = rpc.balance(FUNDED)?;
    ensure!(balance == "0x3635c9adc5dea00000", "{FUNDED} has {balance}");
    let peers = rpc.call("net_peerCount", json!([]))?;
    ensure!(peers == "0x1", "{peers} peers");
    let syncing = rpc.call("eth_syncing", json!([]))?;
    ensure!(syncing == false, "eth_syncing is {syncing}");
    let number = |block: &serde_json::Value| alys_tests::rpc::number(&block["number"]);
    let safe = number(&rpc.block("safe")?)?;
    ensure!(safe >= 2, "{safe} is safe, the log says 3");
    let finalized = number(&rpc.block("finalized")?)?;
    ensure!(finalized == 0, "{finalized} is finalized, and nobody mines");
    let latest = number(&rpc.block("latest")?)?;
    let pending = number(&rpc.block("pending")?)?;
    ensure!(pending > latest, "pending {pending}, latest {latest}");
    Ok(())
}

/// The commands of the section's code block, without line continuations.
fn commands(readme: &str) -> Result<Vec<String>> {
    let (_, section) = readme.split_once(SECTION).context("no such section")?;
    let (_, block) = section.split_once("```sh\n").context("no commands")?;
    let (block, _) = block.split_once("```").context("no end of the commands")?;
    let block = block.replace("\\\n", "");
    Ok(block.lines().map(str::to_owned).collect())
}

fn command(world: &World, line: &str) -> Result<Command> {
    let mut command = alys::shell(world, line)?;
    command
        .env("ALYS_PASSWORD", PASSWORD)
        .env("ALYS_LOG_FORMAT", "json");
    Ok(command)
}

fn run(world: &World, line: &str) -> Result<()> {
    let mut process = Process::start(world, line, &command(world, line)?)?;
    let status = process.wait_end(world, COMMAND_TIMEOUT)?;
    ensure!(
        status.success(),
        "{line}: {status}: {}",
        process.text(Stream::Err)
    );
    Ok(())
}

/// The edit that the README leaves to the reader: free ports, and the other member as the peer.
fn edit(config: &Path, ports: &[Ports], index: usize) -> Result<()> {
    let mut text = fs::read_to_string(config)?;
    let others: Vec<String> = ports
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != index)
        .map(|(_, other)| format!("\"127.0.0.1:{}\"", other.peers))
        .collect();
    let own = &ports[index];
    for (from, to) in [
        (
            "listen = \"0.0.0.0:30333\"",
            format!("listen = \"127.0.0.1:{}\"", own.peers),
        ),
        (
            "bootnodes = [\"127.0.0.1:30334\", \"127.0.0.1:30335\"]",
            format!("bootnodes = [{}]", others.join(", ")),
        ),
        (
            "http = \"127.0.0.1:8545\"",
            format!("http = \"127.0.0.1:{}\"", own.http),
        ),
    ] {
        ensure!(text.contains(from), "the example has no {from}");
        text = text.replacen(from, &to, 1);
    }
    fs::write(config, text)?;
    Ok(())
}
