//! A federation of `alys node` processes, set up as operators do: keys, genesis, configurations.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::alys::{self, Final};
use crate::client::Client;
use crate::{Process, Rpc, World, ports};

/// Accounts funded at genesis: those of Anvil and Hardhat, whose keys are public.
pub const ACCOUNTS: [&str; 4] = [
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
];
/// The password of all keystores.
pub const PASSWORD: &str = "of a test";
/// For a start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Parameters of a federation.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The name of its directory in the test's.
    pub name: &'static str,
    pub members: usize,
    pub slot_ms: u64,
    pub chain_id: u64,
    /// Genesis balance of each of [`ACCOUNTS`].
    pub ether: u64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            name: "federation",
            members: 4,
            slot_ms: 2000,
            chain_id: 7_357,
            ether: 1000,
        }
    }
}

/// The files of a federation, and the ports of its members.
pub struct Federation {
    dir: PathBuf,
    members: Vec<Member>,
}

/// The files and ports of one member.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    /// Configuration with an embedded execution client.
    pub config: PathBuf,
    pub datadir: PathBuf,
    /// For libp2p.
    pub peer_port: u16,
    /// JSON-RPC of its embedded execution client.
    pub http_port: u16,
    /// Engine API of its embedded execution client.
    pub engine_port: u16,
}

impl Federation {
    /// Creates keys, genesis and configurations with the commands of `alys`.
    ///
    /// # Errors
    /// When a command fails.
    pub fn new(world: &World, setup: &Setup) -> Result<Federation> {
        let dir = world.dir().join(setup.name);
        fs::create_dir_all(&dir)?;
        let password = dir.join("password.txt");
        fs::write(&password, PASSWORD)?;
        let mut members = Vec::new();
        let mut authorities = String::new();
        for index in 0..setup.members {
            let member = Member {
                name: format!("{}-{index}", setup.name),
                config: dir.join(format!("node-{index}.toml")),
                datadir: dir.join(format!("node-{index}")),
                peer_port: ports::free(),
                http_port: ports::free(),
                engine_port: ports::free(),
            };
            let fee_address = format!("0x{:040x}", 0xfee0 + index);
            let shown = alys::run(
                world,
                [
                    "keys",
                    "new",
                    "--json",
                    "--datadir",
                    text(&member.datadir)?,
                    "--password-file",
                    text(&password)?,
                    "--fee-address",
                    &fee_address,
                    // Nothing depends on the cost of guessing a password here.
                    "--scrypt-n",
                    "2",
                ],
            )?;
            let shown: Value = serde_json::from_str(&shown).context("alys keys new --json")?;
            ensure!(shown["peer_id"].is_string(), "no peer id: {shown}");
            authorities += &fs::read_to_string(member.datadir.join("authority.toml"))?;
            members.push(member);
        }
        let authorities_file = dir.join("authorities.toml");
        fs::write(&authorities_file, authorities)?;
        let mut args: Vec<String> = vec![
            "genesis".into(),
            "new".into(),
            "--out".into(),
            text(&dir)?.into(),
        ];
        args.extend(["--authorities-file".into(), text(&authorities_file)?.into()]);
        args.extend(["--chain-id".into(), setup.chain_id.to_string()]);
        args.extend(["--slot-ms".into(), setup.slot_ms.to_string()]);
        for account in ACCOUNTS {
            args.extend(["--fund".into(), format!("{account}={}", setup.ether)]);
        }
        alys::run(world, args)?;
        let federation = Federation { dir, members };
        for member in &federation.members {
            fs::write(&member.config, federation.config(member))?;
        }
        Ok(federation)
    }

    fn config(&self, member: &Member) -> String {
        let others = self
            .members
            .iter()
            .filter(|other| other.name != member.name);
        let bootnodes: Vec<_> = others
            .map(|other| format!("\"127.0.0.1:{}\"", other.peer_port))
            .collect();
        format!(
            "name = \"{}\"\n\
             datadir = \"{}\"\n\
             listen = \"127.0.0.1:{}\"\n\
             bootnodes = [{}]\n\
             password_file = \"password.txt\"\n\n\
             [execution]\n\
             embedded = {{ http = \"127.0.0.1:{}\", engine = \"127.0.0.1:{}\" }}\n\n\
             [log]\n\
             format = \"json\"\n",
            member.name,
            member.datadir.display(),
            member.peer_port,
            bootnodes.join(", "),
            member.http_port,
            member.engine_port,
        )
    }

    /// The directory with `chain.toml`, `execution-genesis.json`, `password.txt` and those of the
    /// members.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// In the order of the federation.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// JSON-RPC of a member with an embedded execution client.
    pub fn rpc(&self, index: usize) -> Rpc {
        Rpc::on(self.members[index].http_port)
    }

    /// Writes another execution client into the configuration of a member, with the URL of its pool
    /// if the Engine API does not serve it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn use_client(&self, index: usize, client: &Client, pool: Option<&Rpc>) -> Result<()> {
        let config = &self.members[index].config;
        let mut chosen = format!(
            "url = \"{}\"\njwt_secret = \"{}\"",
            client.engine_url(),
            text(client.secret())?
        );
        if let Some(pool) = pool {
            chosen += &format!("\npool_url = \"{}\"", pool.url());
        }
        let before = fs::read_to_string(config)?;
        let lines = before.lines().map(|line| {
            if line.starts_with("embedded = ") {
                &chosen
            } else {
                line
            }
        });
        let after: String = lines.map(|line| format!("{line}\n")).collect();
        ensure!(after != before, "{} names no client", config.display());
        Ok(fs::write(config, after)?)
    }

    /// Starts a member with further arguments and waits until it runs.
    ///
    /// # Errors
    /// When it does not start in time.
    pub fn start(&self, world: &World, index: usize, more: &[&str]) -> Result<Process> {
        let process = self.spawn(world, index, more)?;
        process.wait_line(world, "\"message\":\"started\"", START_TIMEOUT)?;
        Ok(process)
    }

    /// Starts a member without waiting.
    ///
    /// # Errors
    /// When the program does not start.
    pub fn spawn(&self, world: &World, index: usize, more: &[&str]) -> Result<Process> {
        let member = &self.members[index];
        let mut args = vec!["node", "--config", text(&member.config)?];
        args.extend(more);
        Process::start(world, &member.name, &alys::command(world, args))
    }
}

/// A path as an argument.
///
/// # Errors
/// When it is not UTF-8.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The final blocks that all processes of a chain reported, over their restarts. Two at one height
/// are an error.
#[derive(Debug, Default)]
pub struct Ledger {
    blocks: BTreeMap<u64, (Final, String)>,
}

impl Ledger {
    /// Adds the final blocks of a process. Its heights must rise, because finality never goes back.
    ///
    /// # Errors
    /// When the process contradicts itself or another one.
    pub fn take(&mut self, name: &str, process: &Process) -> Result<()> {
        let finals: Vec<Final> = process.written(|written| {
            written
                .finals
                .iter()
                .map(|(_, block)| block.clone())
                .collect()
        });
        if let Some(pair) = finals
            .windows(2)
            .find(|pair| pair[1].height <= pair[0].height)
        {
            bail!(
                "{name}: final block {} came after {}",
                pair[1].height,
                pair[0].height
            );
        }
        for block in finals {
            let (first, by) = self
                .blocks
                .entry(block.height)
                .or_insert((block.clone(), name.to_owned()));
            ensure!(
                *first == block,
                "{by} has final block {first:?}, {name} has {block:?}"
            );
        }
        Ok(())
    }

    /// The final block of a height.
    pub fn block(&self, height: u64) -> Option<&Final> {
        self.blocks.get(&height).map(|(block, _)| block)
    }

    /// The number of heights.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True without any block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// Checks that a process neither panicked nor logged an ERROR.
///
/// # Errors
/// With the line.
pub fn check_sound(name: &str, process: &Process) -> Result<()> {
    let found = process.written(|written| {
        let bad = |text: &str| {
            text.contains("panicked at")
                || text.contains("\"level\":\"ERROR\"")
                || text.contains(" ERROR ")
        };
        written
            .lines
            .iter()
            .find(|line| bad(&line.text))
            .map(|line| line.text.clone())
    });
    match found {
        Some(line) => bail!("{name} logged: {line}"),
        None => Ok(()),
    }
}
