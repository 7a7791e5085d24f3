//! A federation of `alys node` processes on this machine, set up as its operators would: keys, genesis, configurations.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::alys::{self, Final};
use crate::{Process, Rpc, World, ports};

/// Accounts that are funded at genesis: those of Anvil and Hardhat, whose keys everybody knows.
pub const ACCOUNTS: [&str; 4] = [
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
];
/// Of the keystores.
pub const PASSWORD: &str = "of a test";
/// How long a node may take to start, on a machine that does other things too.
const START: Duration = Duration::from_secs(30);

/// What a federation is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Of its directory, in the test's.
    pub name: &'static str,
    pub members: usize,
    pub slot_ms: u64,
    pub chain_id: u64,
    /// What each of [`ACCOUNTS`] has at genesis.
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

/// A member: what its operator has.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    /// Configuration with an embedded execution client.
    pub config: PathBuf,
    pub datadir: PathBuf,
    /// Where it listens for the others.
    pub peer_port: u16,
    /// Where its embedded execution client serves wallets.
    pub http_port: u16,
    /// Where its embedded execution client has the Engine API.
    pub engine_port: u16,
}

impl Federation {
    /// Makes keys, genesis and configurations by the commands for it.
    ///
    /// # Errors
    /// When one of them refuses.
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
                    // Trying a password may be cheap in a test.
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

    /// Directory with `chain.toml`, `execution-genesis.json`, `password.txt` and the members'.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// In the order of the federation.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The wallets' port of a member with an embedded execution client.
    pub fn rpc(&self, index: usize) -> Rpc {
        Rpc::on(self.members[index].http_port)
    }

    /// Starts a member, with more arguments for `alys node` perhaps.
    ///
    /// # Errors
    /// When it does not start within a while.
    pub fn start(&self, world: &World, index: usize, more: &[&str]) -> Result<Process> {
        let process = self.spawn(world, index, more)?;
        process.wait_line(world, "\"message\":\"started\"", START)?;
        Ok(process)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// When it cannot be run.
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
/// When it is no text.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not text", path.display()))
}

/// The final blocks of all processes of a chain, over their restarts: one a height, or it is an error.
#[derive(Debug, Default)]
pub struct Ledger {
    blocks: BTreeMap<u64, (Final, String)>,
}

impl Ledger {
    /// Takes everything that a process told so far. Its heights must rise: finality never goes back.
    ///
    /// # Errors
    /// When it contradicts itself or another.
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

    /// How many heights are known.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// No process of ours ever panics or finds a bug in itself.
///
/// # Errors
/// With the line that says so.
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
        Some(line) => bail!("{name} says: {line}"),
        None => Ok(()),
    }
}
