//! `alys node`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_integrations::http::{Endpoint, JwtSecret, Login};
use alys_runtime::disk::Dir;
use alys_runtime::time::{self, Duration};
use alys_types::Address;
use alys_types::bls::SecretKey;
use clap::Args;

use super::{
    Failure, LogArgs, STOP_DEADLINE, init_log, metrics_refused, mining_refused, open_locked,
    operator_refused, stop_signal, unless_forced,
};
use crate::config::{self, Config, Mining, MiningOverrides, Overrides, Role};
use crate::files;
use crate::genesis::ChainFiles;
use crate::host::{Host, HostConfig};
use crate::keys::{self, KeysError, Purpose};
use crate::metrics::{MetricsServer, MetricsView};
use crate::mining::{MiningServer, Settings};
use crate::node::{NodeEvent, Observer};
use crate::operator::{Operated, OperatorServer};

/// Time without peers before the first warning. Peers of a running federation connect within
/// seconds.
const ALONE_WARNING: Duration = Duration::from_secs(15);
/// Longest time between two such warnings.
const MAX_ALONE_WARNING: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
#[command(after_help = "\
To set up a federation of n nodes:
  1. every member:   alys keys new --datadir DIR --fee-address 0x..
  2. one of them:    cat */authority.toml > authorities.toml
                     alys genesis new --out chain --authorities-file authorities.toml --chain-id ID
                     (--fund 0x..=1000 for a chain to try out: without it no account has coins)
  3. every member:   alys config example > chain/alys.toml, then set listen, bootnodes and execution
  4. every member:   alys node --config chain/alys.toml --datadir DIR
SIGINT or SIGTERM stops the node; a second one forces it.
Exit code 2: it did not start, and the message says why. Exit code 1: it ran and gave up.")]
pub struct NodeArgs {
    /// The configuration file; `alys config example` prints one. The options below override it.
    #[arg(long, value_name = "FILE", env = "ALYS_CONFIG")]
    config: PathBuf,
    /// Name in logs.
    #[arg(long, value_name = "NAME", env = "ALYS_NAME")]
    name: Option<String>,
    /// Directory of keys, blocks and votes.
    #[arg(long, value_name = "DIR", env = "ALYS_DATADIR")]
    datadir: Option<PathBuf>,
    /// Listen address for peers.
    #[arg(long, value_name = "IP:PORT", env = "ALYS_LISTEN", value_parser = config::parse_address)]
    listen: Option<SocketAddr>,
    /// Peers, separated by commas: ip:port or ip:port/p2p/ID.
    #[arg(
        long,
        value_name = "PEER",
        env = "ALYS_BOOTNODES",
        value_delimiter = ',',
        value_parser = config::parse_peer
    )]
    bootnodes: Vec<String>,
    /// Engine API of an execution client, in place of the one in the file and its pool_url.
    #[arg(long, value_name = "URL", env = "ALYS_EXECUTION_URL", value_parser = config::parse_url)]
    execution_url: Option<Endpoint>,
    /// Public JSON-RPC of the execution client, for one that serves its pool or its receipts only
    /// there, as Reth and EthereumJS.
    #[arg(long, value_name = "URL", env = "ALYS_POOL_URL", value_parser = config::parse_url)]
    pool_url: Option<Endpoint>,
    /// File with the secret that the execution client shares.
    #[arg(long, value_name = "FILE", env = "ALYS_JWT_SECRET")]
    jwt_secret: Option<PathBuf>,
    /// File with the password of the keystore; default: the environment variable ALYS_PASSWORD,
    /// which stays readable to the user of the process and to root, else a prompt.
    #[arg(long, value_name = "FILE", env = "ALYS_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// Serve /metrics (Prometheus), /health (200 while the node makes progress) and /ready (200
    /// while it is synced and votes) on this address. Off by default.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "ALYS_METRICS_ADDR",
        value_parser = config::parse_address
    )]
    metrics_addr: Option<SocketAddr>,
    /// Serve the operator's JSON-RPC, which `alys status` and `alys admin` use, on this address;
    /// default: a free port of this machine.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "ALYS_RPC_ADDR",
        value_parser = config::parse_address
    )]
    rpc_addr: Option<SocketAddr>,
    /// Serve the JSON-RPC of merged mining for pools and miners (createauxblock, submitauxblock) on
    /// this address, usually 127.0.0.1:3000. Off by default; see docs/mining.md.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "ALYS_MINING_ADDR",
        value_parser = config::parse_address,
        help_heading = "Merged mining"
    )]
    mining_addr: Option<SocketAddr>,
    /// Let other machines reach the mining address; without it, only addresses of this machine are
    /// accepted.
    #[arg(long, env = "ALYS_MINING_ALLOW_REMOTE", help_heading = "Merged mining")]
    mining_allow_remote: bool,
    /// EVM address that work pays if the miner names none; default: the authority's fee address.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "ALYS_MINING_FEE_ADDRESS",
        value_parser = config::parse_fee_address,
        help_heading = "Merged mining"
    )]
    mining_fee_address: Option<Address>,
    /// User that miners log in with (HTTP basic authentication).
    #[arg(
        long,
        value_name = "USER",
        env = "ALYS_MINING_USER",
        help_heading = "Merged mining"
    )]
    mining_user: Option<String>,
    /// File with the password of that user.
    #[arg(
        long,
        value_name = "FILE",
        env = "ALYS_MINING_PASSWORD_FILE",
        help_heading = "Merged mining"
    )]
    mining_password_file: Option<PathBuf>,
}

/// Runs one node until a signal stops it.
///
/// # Errors
/// The failure names the remedy.
pub async fn run(args: NodeArgs, log: &LogArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        name: args.name,
        datadir: args.datadir,
        listen: args.listen,
        bootnodes: args.bootnodes,
        execution_url: args.execution_url,
        pool_url: args.pool_url,
        jwt_secret: args.jwt_secret,
        password_file: args.password_file,
        metrics_addr: args.metrics_addr,
        rpc_addr: args.rpc_addr,
        mining: MiningOverrides {
            addr: args.mining_addr,
            allow_remote: args.mining_allow_remote,
            fee_address: args.mining_fee_address,
            user: args.mining_user,
            password_file: args.mining_password_file,
        },
    };
    let config = Config::load(&args.config, overrides).map_err(Failure::refused)?;
    init_log(
        log,
        config.log.format,
        config.log.filter.as_deref(),
        "info,libp2p=warn",
    )?;
    let chain =
        ChainFiles::load(&config.chain, &config.execution_genesis).map_err(Failure::refused)?;
    // Unlocked before the datadir is created, so that a wrong path leaves nothing behind.
    let key = unlock(&config.role)?;
    let metrics = match config.metrics_addr {
        Some(addr) => Some(MetricsServer::bind(addr).await.map_err(metrics_refused)?),
        None => None,
    };
    let mining = match &config.mining {
        Some(mining) => Some(bind_mining(mining).await?),
        None => None,
    };
    let (datadir, _lock) = open_locked(&config.datadir)?;
    let operator = OperatorServer::bind(config.rpc_addr, datadir.clone())
        .await
        .map_err(operator_refused)?;
    announce(&config, &chain, key.as_ref());
    let (name, genesis) = (config.name.clone(), chain.genesis.clone());
    let authority = key.as_ref().map(|key| key.public_key().to_bytes());
    let execution = config.execution.read_secret(read_secret)?;
    // Not earlier, because ctrl-c at the prompt for a password has to end the process at once.
    let mut stop = stop_signal().await;
    let starting = Host::start(HostConfig {
        name: config.name,
        chain,
        key,
        fee_address: config.fee_address,
        listen: config.listen,
        bootnodes: config.bootnodes,
        datadir,
        storage: config.storage,
        execution,
        observer: Some(observer()),
    });
    let host = alys_runtime::select! {
        started = starting => started.map_err(Failure::refused)?,
        _ = &mut stop => return Ok(()),
    };
    if let Some(server) = &metrics {
        server.monitors().add(host.monitor(None));
    }
    if let Some(server) = &mining {
        if authority.is_none() {
            tracing::info!(
                "this node is no authority: it passes proofs of work on to the authorities, which \
                 put them into blocks"
            );
        }
        server.serve(host.node().miners());
    }
    operator.serve(Operated {
        name,
        genesis,
        authority,
        peer_id: host.node().peer_id(),
        chain: host.node().chain(),
    });
    tracing::info!(
        peers_on = %host.node().listen_addr(),
        peer_id = %host.node().peer_id(),
        rpc_on = host.http_addr().map(tracing::field::display),
        metrics_on = metrics.as_ref().map(|server| tracing::field::display(server.local_addr())),
        mining_on = mining.as_ref().map(|server| tracing::field::display(server.local_addr())),
        operator_on = %operator.local_addr(),
        "started"
    );
    let broken = alys_runtime::select! {
        reason = host.node().failed() => Some(reason),
        signal = &mut stop => {
            tracing::info!(?signal, "stopping; another signal forces it");
            None
        }
        never = warn_while_alone(host.node().view()) => match never {},
    };
    if let Some(server) = mining {
        unless_forced(server.stop()).await;
    }
    let clean = unless_forced(host.stop(STOP_DEADLINE)).await;
    unless_forced(operator.stop()).await;
    if let Some(server) = metrics {
        unless_forced(server.stop()).await;
    }
    match broken {
        Some(reason) => Err(Failure::Broken(format!("the node gave up: {reason}"))),
        None => {
            tracing::info!(clean, "stopped");
            Ok(())
        }
    }
}

/// Opens the port of miners. It answers that the node is starting until it serves one.
async fn bind_mining(mining: &Mining) -> Result<MiningServer, Failure> {
    let Mining { addr, login, hosts } = mining;
    let login = match login {
        Some((user, file)) => Some(read_login(user, file)?),
        None => None,
    };
    if !addr.ip().is_loopback() && login.is_none() {
        tracing::warn!(
            %addr,
            "the mining address is open to other machines without a login: anyone who reaches it \
             can take work; set mining.user and mining.password_file, or admit your miners only \
             by a firewall"
        );
    }
    let settings = Settings {
        login,
        hosts: hosts.clone(),
    };
    let server = MiningServer::bind(*addr, settings).await;
    server.map_err(mining_refused)
}

pub(super) fn read_login(user: &str, file: &Path) -> Result<Login, Failure> {
    let refused = |error: String| Failure::Refused(format!("mining password: {error}"));
    let text = files::read_secret(file).map_err(|error| refused(error.to_string()))?;
    // The end of the line is not part of the password.
    let password = text.trim_end_matches(['\r', '\n']);
    Login::new(user, password).map_err(|error| refused(format!("{}: {error}", file.display())))
}

/// Warns while no peer is connected, at growing intervals: such a node looks healthy to wallets.
async fn warn_while_alone(view: MetricsView) -> Infallible {
    let mut delay = ALONE_WARNING;
    loop {
        time::sleep(delay).await;
        if view.is_alone() {
            tracing::warn!(
                "no peer is connected, so the node follows no chain: check bootnodes, listen and \
                 the firewall"
            );
            delay = delay.saturating_mul(2).min(MAX_ALONE_WARNING);
        } else {
            delay = ALONE_WARNING;
        }
    }
}

fn unlock(role: &Role) -> Result<Option<SecretKey>, Failure> {
    let Role::Validator {
        keystore,
        password_file,
    } = role
    else {
        return Ok(None);
    };
    let (parent, name) = files::split(keystore).map_err(Failure::refused)?;
    let missing = || KeysError::Missing {
        path: keystore.display().to_string(),
        datadir: parent.display().to_string(),
    };
    // Checked before the prompt for its password.
    if !keystore.exists() {
        return Err(Failure::refused(missing()));
    }
    let dir = Dir::open(parent).map_err(Failure::refused)?;
    let password = keys::password::obtain(password_file.as_deref(), Purpose::Unlock)
        .map_err(Failure::refused)?;
    keys::unlock(&dir, &name, &password)
        .map(Some)
        .map_err(Failure::refused)
}

fn read_secret(path: &Path) -> Result<JwtSecret, Failure> {
    let text = files::read_secret(path)
        .map_err(|error| Failure::Refused(format!("JWT secret: {error}")))?;
    JwtSecret::parse(&text)
        .map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))
}

fn announce(config: &Config, chain: &ChainFiles, key: Option<&SecretKey>) {
    let authority = key.map(|key| key.public_key().to_bytes());
    let index = authority
        .as_ref()
        .and_then(|key| chain.genesis.set().index_of(key));
    tracing::info!(
        name = config.name,
        version = env!("CARGO_PKG_VERSION"),
        genesis = %chain.genesis.hash(),
        chain_id = chain.genesis.spec().evm_chain_id,
        authority = index,
        datadir = %config.datadir.display(),
        "starting"
    );
    if let (Some(key), None) = (authority, index) {
        tracing::warn!(
            %key,
            "the key is not in the first federation: the node follows until a change adds it"
        );
    }
}

/// Logs events that no actor logs.
fn observer() -> Observer {
    Arc::new(|event| match event {
        NodeEvent::Peers { connected } => tracing::info!(connected, "peers"),
        NodeEvent::Finalized(_)
        | NodeEvent::PowFinal(_)
        | NodeEvent::Banned { .. }
        | NodeEvent::Evidence { .. }
        | NodeEvent::Notice(_)
        | NodeEvent::Peering(_)
        | NodeEvent::Restored { .. }
        | NodeEvent::Counts { .. }
        | NodeEvent::Signed { .. }
        | NodeEvent::VotesFor { .. }
        | NodeEvent::Proposed { .. }
        | NodeEvent::Head { .. } => {}
    })
}
