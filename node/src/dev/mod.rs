//! `alys dev`: a whole local network in one process.
//!
//! Owns the directory of the network ([`layout`]) and what is told of it ([`report`]). Every validator is what `alys node`
//! is, with its own keys, storage, embedded execution client and libp2p over loopback. Promises that a stop is clean, that
//! a second start goes on where the first stopped, and that validators that disagree are an error.

pub mod accounts;
pub mod layout;
pub mod report;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use alys_runtime::disk::Dir;
use alys_runtime::select;
use alys_runtime::signal::Shutdown;
use alys_runtime::sync::mpsc;
use alys_runtime::time::{self, Duration, Instant};
use alys_types::Height;
use clap::Args;
use futures::future::{join_all, select_all};

use crate::cli::{Failure, STOP_DEADLINE, one_line, open_locked, stop_wish, unless_forced};
use crate::genesis::ExecutionFork;
use crate::host::{Host, HostConfig, HostError, HostExecution};
use crate::node::{FinalBlock, NodeEvent, Observer};
use layout::{Network, Wanted, loopback};
use report::{Ready, Report, Style};

/// The chain id of Alys' development networks.
pub const DEFAULT_CHAIN_ID: u64 = 121_212;

/// Reports of validators that wait to be told; a slow terminal delays lines, not blocks.
const WAITING_REPORTS: usize = 4096;
/// Slots without a final block until that is worth a warning.
const SILENT_SLOTS: u32 = 15;

#[derive(Debug, Args)]
#[command(after_help = "\
Every validator is a whole node: keys, storage, libp2p on loopback and an execution client. Accounts are those of Anvil
and Hardhat. The chain is kept: a second start with the same directory goes on where the first stopped; another --datadir
is another chain. To throw one away, delete its directory.
Standard output has the block lines, standard error the log (--log-filter info shows more).")]
pub struct DevArgs {
    /// Number of validators, 1 to 15. Four tolerate one that fails or lies. [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=15))]
    validators: Option<u8>,
    /// Length of a slot in milliseconds, 1000 to 60000. [default: 2000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1000..=60_000))]
    slot_ms: Option<u64>,
    /// Where the network is kept. [default: alys/dev in $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, value_name = "DIR", env = "ALYS_DEV_DATADIR")]
    datadir: Option<PathBuf>,
    /// Port for wallets and scripts, of the first validator's execution client; the others take the next free ones. 0
    /// picks free ones.
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    http_port: u16,
    /// Address for wallets and scripts. Another than loopback lets the network in.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    http_addr: IpAddr,
    /// Print one JSON object a line: {"event":"ready"|"block"|"stopped", ..}.
    #[arg(long)]
    json: bool,
    /// Execution rules. [default: cancun]
    #[arg(long, value_enum)]
    fork: Option<ExecutionFork>,
    /// EVM chain id. [default: 121212]
    #[arg(long, value_name = "ID")]
    chain_id: Option<u64>,
}

/// Runs the network until it is asked to end.
///
/// # Errors
/// With what to do.
pub async fn run(args: DevArgs) -> Result<(), Failure> {
    let started = time::now();
    let style = if args.json { Style::Json } else { Style::Text };
    let path = match &args.datadir {
        Some(path) => path.clone(),
        None => default_datadir()?,
    };
    let (dir, _lock) = open_locked(&path)?;
    let wanted = Wanted {
        validators: args.validators,
        slot_ms: args.slot_ms,
        chain_id: args.chain_id,
        fork: args.fork,
    };
    let network = layout::open_or_make(&dir, wanted)
        .await
        .map_err(Failure::refused)?;
    let (reports, inbox) = mpsc::channel(WAITING_REPORTS);
    let mut stop = stop_wish().await;
    let hosts = select! {
        hosts = start_all(&network, &args, reports) => hosts?,
        _ = &mut stop => return Ok(()),
    };
    let ending = watch(&network, &dir, &hosts, inbox, style, stop).await;
    let clean = unless_forced(join_all(
        hosts.into_iter().map(|host| host.stop(STOP_DEADLINE)),
    ))
    .await;
    if !clean.iter().all(|clean| *clean) {
        tracing::warn!("the stop took too long; the next start cleans up");
    }
    ending.finish(style, started)
}

/// Where development networks are kept unless told otherwise: where Reth and others keep theirs.
fn default_datadir() -> Result<PathBuf, Failure> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = match variable("XDG_DATA_HOME") {
        Some(base) => Some(base),
        None if cfg!(target_os = "macos") => {
            variable("HOME").map(|home| home.join("Library/Application Support"))
        }
        None => variable("HOME").map(|home| home.join(".local/share")),
    };
    match base {
        Some(base) => Ok(base.join("alys").join("dev")),
        None => Err(Failure::Refused(
            "there is no home directory (HOME is not set): give --datadir".into(),
        )),
    }
}

/// Starts all validators; stops those that run when one does not start.
async fn start_all(
    network: &Network,
    args: &DevArgs,
    reports: mpsc::Sender<FinalBlock>,
) -> Result<Vec<Host>, Failure> {
    let mut hosts: Vec<Host> = Vec::with_capacity(network.validators.len());
    for (index, validator) in network.validators.iter().enumerate() {
        let http = http_addr(args, index).await;
        let ports = network.remembered.peer_ports.iter().enumerate();
        let others = ports
            .filter(|(other, _)| *other != index)
            .map(|(_, port)| loopback(*port).to_string());
        let reports = reports.clone();
        let observer: Observer = Arc::new(move |event| {
            if let NodeEvent::Finalized(block) = event
                && reports.try_send(block.clone()).is_err()
            {
                tracing::debug!(
                    height = block.height.0,
                    "a block line is left out: the reader is slow or gone"
                );
            }
        });
        let host = Host::start(HostConfig {
            name: format!("validator-{index}"),
            chain: network.chain.clone(),
            key: Some(validator.key.clone()),
            listen: loopback(network.remembered.peer_ports[index]),
            bootnodes: others.collect(),
            datadir: validator.dir.clone(),
            storage: alys_storage::Engine::default(),
            execution: HostExecution::Embedded {
                http: Some(http),
                engine: loopback(0),
                jwt_secret: None,
            },
            observer: Some(observer),
        });
        match host.await {
            Ok(host) => hosts.push(host),
            Err(error) => {
                join_all(hosts.into_iter().map(|host| host.stop(STOP_DEADLINE))).await;
                let advice = match &error {
                    HostError::PortInUse { addr, .. } if *addr == http => {
                        "; --http-port 0 picks a free one"
                    }
                    _ => "",
                };
                return Err(Failure::Refused(format!("{}{advice}", one_line(&error))));
            }
        }
    }
    Ok(hosts)
}

/// The first validator's address is what was asked for; the others come after it where that is free.
async fn http_addr(args: &DevArgs, index: usize) -> SocketAddr {
    let wanted = match args.http_port {
        0 => 0,
        port => port.checked_add(index as u16).unwrap_or(0),
    };
    let addr = SocketAddr::new(args.http_addr, wanted);
    if index == 0 || layout::is_free(addr).await {
        addr
    } else {
        SocketAddr::new(args.http_addr, 0)
    }
}

/// How a run ended.
struct Ending {
    report: Report,
    /// Why, unless it was asked to.
    broken: Option<String>,
    /// Nobody reads the lines any more.
    deaf: bool,
}

impl Ending {
    fn finish(self, style: Style, started: Instant) -> Result<(), Failure> {
        if !self.deaf {
            let seconds = time::now().duration_since(started).as_secs();
            // Whoever closed the output meanwhile does not want the line either.
            let _ = self
                .report
                .write_stopped(&mut io::stdout().lock(), style, seconds);
        }
        match self.broken {
            Some(reason) => Err(Failure::Broken(reason)),
            None => Ok(()),
        }
    }
}

/// Tells of the network until it is asked to end, breaks, or nobody listens.
async fn watch(
    network: &Network,
    dir: &Dir,
    hosts: &[Host],
    mut inbox: mpsc::Receiver<FinalBlock>,
    style: Style,
    mut stop: impl Future<Output = Shutdown> + Unpin,
) -> Ending {
    let ready = ready(network, dir, hosts).await;
    let mut ending = Ending {
        report: Report::after(ready.height),
        broken: None,
        deaf: false,
    };
    if ready.write(&mut io::stdout().lock(), style).is_err() {
        ending.deaf = true;
        return ending;
    }
    let patience = Duration::from_millis(network.remembered.slot_ms).saturating_mul(SILENT_SLOTS);
    let mut failed = select_all(hosts.iter().map(|host| Box::pin(host.node().failed())));
    // The validators hold the senders; should all be gone, one of them says below why it failed.
    let mut is_open = true;
    loop {
        let block = select! {
            block = time::timeout(patience, inbox.recv()), if is_open => block,
            (reason, index, _) = &mut failed => {
                ending.broken = Some(format!("validator {index} gave up: {reason}"));
                return ending;
            }
            _ = &mut stop => {
                if style == Style::Text {
                    eprintln!("\nStopping; once more forces it.");
                }
                return ending;
            }
        };
        match block {
            Ok(Some(block)) => match ending.report.on_final(&block) {
                Ok(true)
                    if report::write_block(&mut io::stdout().lock(), style, &block).is_err() =>
                {
                    ending.deaf = true;
                    return ending;
                }
                Ok(_) => {}
                Err(disagreement) => {
                    tracing::error!(%disagreement, "stopping the network");
                    ending.broken = Some(disagreement.to_string());
                    return ending;
                }
            },
            Ok(None) => is_open = false,
            Err(_) => {
                let (after, slots) = (ending.report.height().0, SILENT_SLOTS);
                tracing::warn!(after, slots, "no final block for a while");
            }
        }
    }
}

async fn ready(network: &Network, dir: &Dir, hosts: &[Host]) -> Ready {
    let height = match hosts.first() {
        Some(host) if !network.is_new => host
            .node()
            .summary()
            .await
            .map(|summary| summary.final_height),
        _ => None,
    };
    let remembered = &network.remembered;
    Ready {
        validators: hosts.len(),
        slot_ms: remembered.slot_ms,
        fork: format!("{:?}", remembered.fork).to_lowercase(),
        chain_id: remembered.chain_id,
        genesis_hash: network.chain.genesis.hash(),
        datadir: dir.path().display().to_string(),
        rpc_urls: hosts
            .iter()
            .filter_map(Host::http_addr)
            .map(|addr| format!("http://{addr}"))
            .collect(),
        height: height.unwrap_or(Height(0)),
    }
}
