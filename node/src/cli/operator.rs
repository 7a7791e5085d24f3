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
    /// Confirm that the wall clock is right, after it jumped or was far ahead of the chain.
    ///
    /// The node does not vote until its peers or this command confirm the clock. Check it first: a
    /// vote by a clock that is ahead silences the validator until that time.
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
            eprintln!("the node trusts its wall clock");
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
    client.call(method, params).await.map_err(|error| {
        let text = one_line(&error);
        match error {
            CallError::Connect { .. } => Failure::Refused(format!("{text}; does the node run?")),
            CallError::Rpc { .. } => Failure::Refused(text),
            _ => Failure::Broken(text),
        }
    })
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
