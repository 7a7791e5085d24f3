//! An execution client of another team as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::{Process, Rpc, World, ports};

/// For a start on a busy machine: EthereumJS takes 1.3 s on a quiet one, and has taken more than
/// 60 s beside builds.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The files and ports of a client before its start.
#[derive(Debug)]
pub struct Place {
    pub dir: PathBuf,
    pub secret: PathBuf,
    pub http_port: u16,
    pub engine_port: u16,
}

impl Place {
    /// A directory of its own with a JWT secret, and free ports.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn new(world: &World, name: &str) -> Result<Place> {
        let dir = world.dir().join(name);
        std::fs::create_dir_all(&dir)?;
        let secret = dir.join("jwt.hex");
        // Worthless: the port is on loopback and open as long as the test runs.
        std::fs::write(&secret, format!("{:064x}\n", std::process::id()))?;
        Ok(Place {
            dir,
            secret,
            http_port: ports::free(),
            engine_port: ports::free(),
        })
    }
}

/// A running client with a public JSON-RPC and an Engine API.
pub struct Client {
    process: Process,
    name: String,
    command: Command,
    place: Place,
}

impl Client {
    /// Starts a command and waits until its JSON-RPC answers.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start(world: &World, name: &str, command: Command, place: Place) -> Result<Client> {
        let client = Client {
            process: Process::start(world, name, &command)?,
            name: name.to_owned(),
            command,
            place,
        };
        client.wait_answer(world)?;
        Ok(client)
    }

    fn wait_answer(&self, world: &World) -> Result<()> {
        world.wait(&format!("{} to answer", self.name), START_TIMEOUT, || {
            self.rpc()
                .call("web3_clientVersion", json!([]))
                .map(|_| Some(()))
        })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its JSON-RPC.
    pub fn rpc(&self) -> Rpc {
        Rpc::on(self.place.http_port)
    }

    /// Its Engine API.
    pub fn engine_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.place.engine_port)
    }

    /// The file with its JWT secret.
    pub fn secret(&self) -> &Path {
        &self.place.secret
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// When it has exited already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again with the same files.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn restart(&mut self, world: &World) -> Result<()> {
        self.process = Process::start(world, &format!("{} again", self.name), &self.command)?;
        self.wait_answer(world)
    }

    /// Sends SIGTERM and waits for the exit.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, world: &World, limit: Duration) -> Result<ExitStatus> {
        self.process.signal("TERM")?;
        let ended = self.process.wait_end(world, limit);
        ended.with_context(|| format!("{} after SIGTERM", self.name))
    }
}

/// Kills and restarts the client of the node at `index`, which sends it the blocks that it missed,
/// or all of them if it forgot its chain. Returns when that node has proposed again.
///
/// # Errors
/// When a wait takes longer than `limit`.
pub fn restart_under_way(
    world: &World,
    client: &mut Client,
    nodes: &[Process],
    index: usize,
    limit: Duration,
) -> Result<()> {
    let other = &nodes[(index + 1) % nodes.len()];
    let name = client.name().to_owned();
    let height = other.written(|written| written.height());
    world.say(&format!("kill -9 {name} after final block {height}"));
    client.kill()?;
    other.wait_final(world, height + 6, limit)?;
    client.restart(world)?;
    let last = other.written(|written| written.finals.last().map(|(_, block)| block.clone()));
    let last = last.context("the other node has final blocks")?;
    nodes[index].wait_final(world, last.height, limit)?;
    let what = format!("a final block of authority {index}");
    other.wait(world, &what, limit, |written| {
        let mut finals = written.finals.iter().map(|(_, block)| block);
        finals
            .any(|block| block.proposer == index as u64 && block.slot > last.slot)
            .then_some(())
    })?;
    world.say(&format!("the node of {name} proposes again"));
    Ok(())
}
