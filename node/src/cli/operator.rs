//! `alys status` and `alys admin`: the commands for a running node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alys_integrations::http::{CallError, ClientConfig, HttpClient};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Failure, one_line};
use crate::config;
use crate::files::{self, FileError};
use crate::operator::{ADDRESS_FILE, TOKEN_FILE};

/// The node that a command is for.
#[derive(Debug, Args)]
pub struct Target {
    /// The data directory of the running node.
    #[arg(long, value_name = "DIR", env = "ALYS_DATADIR")]
    datadir: PathBuf,
    /// Address of the node's JSON-RPC; default: the one that the node wrote to its data directory.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "ALYS_RPC_ADDR",
        value_parser = config::parse_address
    )]
    rpc_addr: Option<SocketAddr>,
}

/// `alys admin ..`
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Confirm that the clock of a validator's machine is right, so that the validator votes.
    ///
    /// For a validator whose log or /ready says that its wall clock is not confirmed: the clock
    /// jumped, or at the start it was far ahead of the last block, as it is after an outage of the
    /// federation. Peers whose clocks agree confirm it too. The command neither checks nor sets the
    /// clock: compare it with another source of time first, because a validator that votes by a
    /// clock that is ahead cannot vote again until that time has come. A validator that lost its
    /// votes stays silent for as long as /ready says.
    ConfirmClock(Target),
}

/// Prints the state of the running node as JSON.
///
/// # Errors
/// The failure names the remedy.
pub async fn status(target: Target) -> Result<(), Failure> {
    let status: Value = call(&target, "alys_status", ()).await?;
    println!("{status:#}");
    Ok(())
}

/// Changes the running node.
///
/// # Errors
/// The failure names the remedy.
pub async fn admin(command: AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::ConfirmClock(target) => {
            let token = read(&target.datadir, TOKEN_FILE)?;
            let _taken: bool = call(&target, "admin_confirmClock", (token,)).await?;
            eprintln!(
                "the node takes the confirmation; `alys status` shows clockTrusted: true once it \
                 has, and silent: false once it votes"
            );
            Ok(())
        }
    }
}

async fn call<R: DeserializeOwned>(
    target: &Target,
    method: &str,
    params: impl Serialize,
) -> Result<R, Failure> {
    let addr = match target.rpc_addr {
        Some(addr) => addr,
        None => {
            let text = read(&target.datadir, ADDRESS_FILE)?;
            config::parse_address(&text).map_err(Failure::Refused)?
        }
    };
    let client = HttpClient::new(ClientConfig::new(addr));
    let answer = client.call(method, params).await;
    answer.map_err(|error| failure(target, &error))
}

/// The failure of a call, which names the file of the address, because a node that was killed
/// leaves it.
fn failure(target: &Target, error: &CallError) -> Failure {
    let text = one_line(error);
    let file = target.datadir.join(ADDRESS_FILE);
    let shown = file.display();
    match (error, target.rpc_addr) {
        (CallError::Rpc { .. }, _) => Failure::Refused(text),
        (CallError::Connect { .. }, Some(_)) => {
            Failure::Refused(format!("{text}; does the node run?"))
        }
        (CallError::Connect { .. }, None) => Failure::Refused(format!(
            "{text}; {shown} names this address: if the node was killed, start `alys node`, which \
             replaces the file; if it runs in a container, run this command there"
        )),
        (_, Some(_)) => Failure::Broken(text),
        (_, None) => Failure::Broken(format!(
            "{text}; {shown} names this address: if the node was killed, another program may have \
             its port now; start `alys node`, which replaces the file"
        )),
    }
}

/// A file that the running node wrote to its data directory.
fn read(datadir: &Path, name: &str) -> Result<String, Failure> {
    let path = datadir.join(name);
    match files::read_text(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(FileError::Missing { path }) => Err(Failure::Refused(format!(
            "{} does not exist: start `alys node` with this data directory first",
            path.display()
        ))),
        Err(error) => Err(Failure::refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use alys_runtime::disk::Dir;
    use alys_runtime::net::Listener;

    use super::*;
    use crate::dev::layout::loopback;

    #[test]
    fn the_file_of_a_node_that_was_killed_is_named() {
        // Paths of the command line are not on the simulated disk.
        if alys_runtime::is_simulated() {
            return;
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let datadir = temporary.path().to_owned();
        alys_runtime::block_on_main(async move {
            let listener = Listener::bind(loopback(0)).await.expect("a free port");
            let addr = listener.local_addr();
            drop(listener);
            let path = datadir.join(ADDRESS_FILE);
            let dir = Dir::open(&datadir).expect("a directory");
            let written = dir.write_atomic(ADDRESS_FILE, format!("{addr}\n").as_bytes());
            written.expect("a writable directory");
            for (rpc_addr, is_named) in [(None, true), (Some(addr), false)] {
                let target = Target {
                    datadir: datadir.clone(),
                    rpc_addr,
                };
                let Err(Failure::Refused(text)) = status(target).await else {
                    panic!("an ended node answers");
                };
                assert!(text.contains(&addr.to_string()), "{text}");
                assert_eq!(
                    text.contains(&path.display().to_string()),
                    is_named,
                    "{text}"
                );
            }
        });
    }
}
