//! `alys dev`: a whole local network in one process.
//!
//! Owns the directory of the network ([`layout`]) and its output ([`report`]). Every validator is a
//! whole `alys node`, with its own keys, storage, embedded execution client and libp2p over
//! loopback. Guarantees that a stop is clean, that a second start continues the chain of the first,
//! and that a disagreement of validators is an error.

pub mod accounts;
pub mod layout;
pub mod report;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use alys_integrations::http::{Access, Endpoint};
use alys_runtime::disk::Dir;
use alys_runtime::signal::Shutdown;
use alys_runtime::sync::mpsc;
use alys_runtime::time::{self, Duration, Instant};
use alys_runtime::{JoinHandle, select};
use alys_types::Height;
use clap::Args;
use futures::future::{join_all, select_all};

use crate::actors::auxpow::PowFinal;
use crate::cli::{
    Failure, STOP_DEADLINE, metrics_refused, mining_refused, one_line, open_locked, stop_signal,
    unless_forced,
};
use crate::config;
use crate::config::Execution;
use crate::genesis::ExecutionFork;
use crate::host::{Host, HostConfig, HostError};
use crate::metrics::MetricsServer;
use crate::mining::miner::{self, MinerConfig, MinerEvent};
use crate::mining::{DEFAULT_PORT, MiningServer, Settings};
use crate::node::{FinalBlock, NodeEvent, Observer};
use layout::{Network, Wanted, loopback};
use report::{Ready, Report, Style};

/// The chain id of development networks.
pub const DEFAULT_CHAIN_ID: u64 = 121_212;

/// Hashes per second of the miner: a machine notices none of it, and a proof takes about as long as
/// the spacing of development chains once the difficulty has followed.
const MINER_RATE: u64 = 2;
/// Port of the metrics server unless it is taken.
const DEFAULT_METRICS_PORT: u16 = 9464;
/// Ports after the first one in which the other validators look for free ones; without one they
/// get any.
const SEARCHED_PORTS: u16 = 100;
/// Queued reports of final blocks. A slow terminal drops lines and never delays blocks.
const MAX_QUEUED_REPORTS: usize = 4096;
/// Slots without a final block before a warning.
const SILENT_SLOTS: u32 = 15;

#[derive(Debug, Args)]
#[command(after_help = "\
Every validator is a whole node: keys, storage, libp2p on loopback and an execution client. \
Accounts are those of Anvil
and Hardhat. The chain is kept: a second start with the same directory continues it; another \
--datadir is another chain.
To discard a chain, delete its directory.
Standard output has the block lines, standard error the log (--log-filter info shows more).")]
pub struct DevArgs {
    /// Number of validators, 1 to 15. Four tolerate one that fails or lies. [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=15))]
    validators: Option<u8>,
    /// Length of a slot in milliseconds, 1000 to 60000. [default: 2000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1000..=60_000))]
    slot_ms: Option<u64>,
    /// Directory of the network. [default: alys/dev in $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, value_name = "DIR", env = "ALYS_DEV_DATADIR")]
    datadir: Option<PathBuf>,
    /// Port for wallets and scripts, of the first validator's execution client; the others take the
    /// next free ones. 0 picks free ones.
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    http_port: u16,
    /// Address for wallets and scripts. Another than loopback lets the network in.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    http_addr: IpAddr,
    /// Names under which the address for wallets is reached, such as that of a container, separated
    /// by commas, or * for all. Addresses and localhost are always allowed.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    http_hosts: Vec<String>,
    /// Origins of web pages that may call it, such as "https://wallet.example", separated by
    /// commas, or * for all. Pages of this machine and browser extensions are always allowed.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    http_origins: Vec<String>,
    /// Serve /metrics (Prometheus), /health and /ready of all validators on this address; the label
    /// validator="0" and up tells them apart. [default: 127.0.0.1:9464, or a free port when that is
    /// taken]
    #[arg(long, value_name = "IP:PORT", value_parser = config::parse_address)]
    metrics_addr: Option<SocketAddr>,
    /// Serve the JSON-RPC of merged mining of the first validator on this address. [default:
    /// 127.0.0.1:3000, or a free port when that is taken]
    #[arg(long, value_name = "IP:PORT", value_parser = config::parse_address)]
    mining_addr: Option<SocketAddr>,
    /// Do not mine: blocks become final by proof of work only if another miner mines, such as `alys
    /// mine dev`.
    #[arg(long)]
    no_mining: bool,
    /// Print one JSON object a line: {"event":"ready"|"block"|"pow"|"stopped", ..}.
    #[arg(long)]
    json: bool,
    /// Execution rules. [default: cancun]
    #[arg(long, value_enum)]
    fork: Option<ExecutionFork>,
    /// EVM chain id. [default: 121212]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    chain_id: Option<u64>,
}

/// Runs the network until a signal stops it.
///
/// # Errors
/// The failure names the remedy.
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
    let metrics = bind_metrics(args.metrics_addr).await?;
    let mining = bind_mining(args.mining_addr).await?;
    let (reports, inbox) = mpsc::channel(MAX_QUEUED_REPORTS);
    let mut stop = stop_signal().await;
    let hosts = select! {
        hosts = start_all(&network, &args, reports) => hosts?,
        _ = &mut stop => return Ok(()),
    };
    for (index, host) in hosts.iter().enumerate() {
        metrics
            .monitors()
            .add(host.monitor(Some(index.to_string())));
    }
    if let Some(host) = hosts.first() {
        mining.serve(host.node().miners());
    }
    let miner = (!args.no_mining).then(|| start_miner(mining.local_addr()));
    let servers = Servers {
        metrics: metrics.local_addr(),
        mining: mining.local_addr(),
    };
    let ready = ready(&network, &dir, &hosts, servers).await;
    let ending = watch(&network, ready, &hosts, inbox, style, stop).await;
    if let Some(miner) = miner {
        miner.abort();
    }
    mining.stop().await;
    let clean = unless_forced(join_all(
        hosts.into_iter().map(|host| host.stop(STOP_DEADLINE)),
    ))
    .await;
    metrics.stop().await;
    if !clean.iter().all(|clean| *clean) {
        tracing::warn!("the stop took too long; the next start cleans up");
    }
    ending.finish(style, started)
}

/// The default directory, beside those of Reth and others.
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

/// The address that was asked for, or the default one and a free port in its place.
async fn bind_metrics(addr: Option<SocketAddr>) -> Result<MetricsServer, Failure> {
    if let Some(addr) = addr {
        return MetricsServer::bind(addr).await.map_err(metrics_refused);
    }
    match MetricsServer::bind(loopback(DEFAULT_METRICS_PORT)).await {
        Ok(server) => Ok(server),
        Err(_) => MetricsServer::bind(loopback(0))
            .await
            .map_err(metrics_refused),
    }
}

/// The address that was asked for, or the default one and a free port in its place.
async fn bind_mining(addr: Option<SocketAddr>) -> Result<MiningServer, Failure> {
    let bind = |addr| MiningServer::bind(addr, Settings::default());
    if let Some(addr) = addr {
        if !addr.ip().is_loopback() {
            tracing::warn!(%addr, "other machines can mine this network: the address has no login");
        }
        return bind(addr).await.map_err(mining_refused);
    }
    match bind(loopback(DEFAULT_PORT)).await {
        Ok(server) => Ok(server),
        Err(_) => bind(loopback(0)).await.map_err(mining_refused),
    }
}

/// Mines for the first validator's fee address, over its JSON-RPC like any other miner.
fn start_miner(addr: SocketAddr) -> JoinHandle<()> {
    let config = MinerConfig {
        endpoint: Endpoint::new(reachable(addr)),
        login: None,
        address: None,
        threads: 1,
        rate: Some(MINER_RATE),
    };
    let report = |event| match event {
        MinerEvent::Refused(reason) => tracing::info!(reason, "the miner's proof is refused"),
        event => tracing::debug!(?event, "miner"),
    };
    alys_runtime::spawn("dev-miner", async move {
        match miner::mine(config, report).await {}
    })
}

/// The address at which this machine reaches a server that listens on `addr`.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        return loopback(addr.port());
    }
    addr
}

/// Starts all validators. If one fails to start, the others are stopped.
async fn start_all(
    network: &Network,
    args: &DevArgs,
    reports: mpsc::Sender<Reported>,
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
            let report = match event {
                NodeEvent::Finalized(block) => Reported::Block(block.clone()),
                NodeEvent::PowFinal(range) => Reported::PowFinal(*range),
                _ => return,
            };
            if let Err(error) = reports.try_send(report) {
                tracing::debug!(%error, "a line is dropped: the reader is slow or gone");
            }
        });
        let host = Host::start(HostConfig {
            name: format!("validator-{index}"),
            chain: network.chain.clone(),
            key: Some(validator.key.clone()),
            fee_address: None,
            listen: loopback(network.remembered.peer_ports[index]),
            bootnodes: others.collect(),
            datadir: validator.dir.clone(),
            storage: alys_storage::Engine::default(),
            execution: Execution::Embedded {
                http: Some(http),
                engine: loopback(0),
                access: Access {
                    hosts: args.http_hosts.clone(),
                    origins: args.http_origins.clone(),
                },
                secret: None,
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

/// The first validator gets the requested port, and the others the next free ones. Those before
/// them are taken by the validators that have started.
async fn http_addr(args: &DevArgs, index: usize) -> SocketAddr {
    let addr = |port| SocketAddr::new(args.http_addr, port);
    let first = args.http_port;
    if index == 0 || first == 0 {
        return addr(first);
    }
    let last = first.saturating_add(SEARCHED_PORTS);
    for port in first.saturating_add(1)..=last {
        if layout::is_free(addr(port)).await {
            return addr(port);
        }
    }
    addr(0)
}

/// A line to print.
#[derive(Debug)]
enum Reported {
    Block(FinalBlock),
    PowFinal(PowFinal),
}

/// Addresses of the servers beside the validators.
struct Servers {
    metrics: SocketAddr,
    mining: SocketAddr,
}

/// Result of a run.
struct Ending {
    report: Report,
    /// The failure that ended it; `None` after a signal.
    broken: Option<String>,
    /// The reader of standard output is gone.
    is_output_closed: bool,
}

impl Ending {
    fn finish(self, style: Style, started: Instant) -> Result<(), Failure> {
        if !self.is_output_closed {
            let seconds = time::now().duration_since(started).as_secs();
            // The output may be closed by now.
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

/// Prints final blocks until a signal, a failure, or the end of the reader.
async fn watch(
    network: &Network,
    ready: Ready,
    hosts: &[Host],
    mut inbox: mpsc::Receiver<Reported>,
    style: Style,
    mut stop: impl Future<Output = Shutdown> + Unpin,
) -> Ending {
    let mut ending = Ending {
        report: Report::after(ready.height),
        broken: None,
        is_output_closed: false,
    };
    if ready.write(&mut io::stdout().lock(), style).is_err() {
        ending.is_output_closed = true;
        return ending;
    }
    let silence = Duration::from_millis(network.remembered.slot_ms).saturating_mul(SILENT_SLOTS);
    let mut failed = select_all(hosts.iter().map(|host| Box::pin(host.node().failed())));
    // The validators hold the senders. If all are gone, `failed` has the reason.
    let mut is_open = true;
    loop {
        let reported = select! {
            reported = time::timeout(silence, inbox.recv()), if is_open => reported,
            (reason, index, _) = &mut failed => {
                ending.broken = Some(format!("validator {index} gave up: {reason}"));
                return ending;
            }
            _ = &mut stop => {
                if style == Style::Text {
                    eprintln!("\nStopping; another signal forces it.");
                }
                return ending;
            }
        };
        match reported {
            Ok(Some(Reported::PowFinal(range))) => {
                let out = &mut io::stdout().lock();
                if ending.report.on_pow_final(&range)
                    && report::write_pow_final(out, style, &range).is_err()
                {
                    ending.is_output_closed = true;
                    return ending;
                }
            }
            Ok(Some(Reported::Block(block))) => match ending.report.on_final(&block) {
                Ok(true)
                    if report::write_block(&mut io::stdout().lock(), style, &block).is_err() =>
                {
                    ending.is_output_closed = true;
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
                let after = ending.report.height().0;
                let slots = SILENT_SLOTS;
                tracing::warn!(after, slots, "no final block for a while");
                confirm_clocks(hosts).await;
            }
        }
    }
}

/// Confirms the clocks of validators that wait for it: they share the clock of this machine, so
/// after its suspension no peer can confirm it.
async fn confirm_clocks(hosts: &[Host]) {
    // All at once, because one that does not answer takes seconds.
    let summaries = join_all(hosts.iter().map(|host| host.node().summary())).await;
    for (index, (host, summary)) in hosts.iter().zip(summaries).enumerate() {
        let waits = summary.is_some_and(|summary| !summary.clock_trusted);
        if waits && host.node().confirm_clock() {
            tracing::warn!(validator = index, "the clock of this machine is confirmed");
        }
    }
}

async fn ready(network: &Network, dir: &Dir, hosts: &[Host], servers: Servers) -> Ready {
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
        metrics_url: format!("http://{}/metrics", servers.metrics),
        mining_url: format!("http://{}", servers.mining),
        height: height.unwrap_or(Height(0)),
    }
}
