//! The command line.
//!
//! Guarantees that a mistake of the caller ends in exit code 2 and one line on standard error that
//! names the mistake and its remedy, before anything is changed, and a later failure in exit code
//! 1. Results go to standard output, everything else to standard error.

mod chain;
mod keys;
mod mine;
mod node;
mod operator;

use std::error::Error;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::Poll;

use alys_integrations::http::ServeError;
use alys_runtime::disk::{Dir, Lock};
use alys_runtime::signal::{self, Shutdown};
use alys_runtime::time::{self, Duration};
use clap::{Args, Parser, Subcommand};

use crate::dev::DevArgs;
use crate::files;
use crate::operator::OperatorError;
use crate::telemetry::{self, LogFormat};

/// Time for the actors to stop.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Signals within this time after the first one are repetitions of it.
const REPEATED_SIGNAL: Duration = Duration::from_millis(500);

/// Alys: a merge-mined Bitcoin sidechain that runs the EVM.
#[derive(Debug, Parser)]
#[command(name = "alys", version, arg_required_else_help = true)]
#[command(
    after_help = "Start with `alys dev`: a whole network on this machine, with funded accounts."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// Log lines to show: a level, or levels by module as in RUST_LOG.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "ALYS_LOG_FILTER",
        help_heading = "Logs"
    )]
    log_filter: Option<String>,
    /// Format of log lines (they go to standard error).
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "ALYS_LOG_FORMAT",
        help_heading = "Logs"
    )]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole local network in this process, for development.
    Dev(DevArgs),
    /// Run one node: a validator of a federation, or a full node.
    Node(node::NodeArgs),
    /// Print the state of a running node as JSON.
    Status(operator::Target),
    /// Change a running node.
    #[command(subcommand)]
    Admin(operator::AdminCommand),
    /// Help for pools and miners.
    #[command(subcommand)]
    Mine(mine::MineCommand),
    /// Create and show a node's keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Create a new chain.
    #[command(subcommand)]
    Genesis(chain::GenesisCommand),
    /// Help with configuration files.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a configuration to start from, with every field explained.
    Example,
}

/// A failed command. The text is one line.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was changed: a mistake of the caller, or the machine lacks something. Exit code 2.
    Refused(String),
    /// It failed while it ran. Exit code 1.
    Broken(String),
}

impl Failure {
    /// A refusal with an error and its causes.
    pub fn refused(error: impl Error) -> Failure {
        Failure::Refused(one_line(&error))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match alys_runtime::block_on_main(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (text, code) = match failure {
                Failure::Refused(text) => (text, 2),
                Failure::Broken(text) => (text, 1),
            };
            eprintln!("error: {text}");
            ExitCode::from(code)
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let log = cli.log;
    match cli.command {
        Command::Dev(args) => {
            init_log(&log, None, None, "warn")?;
            crate::dev::run(args).await
        }
        Command::Node(args) => node::run(args, &log).await,
        Command::Status(target) => {
            init_log(&log, None, None, "warn")?;
            operator::status(target).await
        }
        Command::Admin(command) => {
            init_log(&log, None, None, "warn")?;
            operator::admin(command).await
        }
        Command::Mine(command) => mine::run(command, &log).await,
        Command::Keys(command) => {
            init_log(&log, None, None, "warn")?;
            keys::run(command)
        }
        Command::Genesis(command) => {
            init_log(&log, None, None, "warn")?;
            chain::run(command)
        }
        Command::Config(ConfigCommand::Example) => {
            print!("{}", crate::config::EXAMPLE);
            Ok(())
        }
    }
}

fn init_log(
    log: &LogArgs,
    format: Option<LogFormat>,
    filter: Option<&str>,
    default: &str,
) -> Result<(), Failure> {
    let format = log.log_format.or(format).unwrap_or_default();
    telemetry::init(format, log.log_filter.as_deref(), filter, default).map_err(Failure::refused)
}

/// The refusal of a metrics address.
pub(crate) fn metrics_refused(error: ServeError) -> Failure {
    bind_refused("--metrics-addr", error)
}

/// The refusal of a mining address.
pub(crate) fn mining_refused(error: ServeError) -> Failure {
    bind_refused("--mining-addr", error)
}

/// The refusal of the JSON-RPC for the operator.
fn operator_refused(error: OperatorError) -> Failure {
    match error {
        OperatorError::Serve(error) => bind_refused("--rpc-addr", error),
        error => Failure::refused(error),
    }
}

fn bind_refused(option: &str, error: ServeError) -> Failure {
    let ServeError::Bind { addr, source, .. } = error;
    let reason = match source.kind() {
        io::ErrorKind::AddrInUse => "another program uses this port".to_owned(),
        _ => source.to_string(),
    };
    Failure::Refused(format!(
        "{option}: cannot listen on {addr}: {reason}; stop that program, or use another address"
    ))
}

/// An error with its causes. A cause that the text contains already is not repeated.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

/// Opens a data directory and locks it for this process.
pub(crate) fn open_locked(path: &Path) -> Result<(Dir, Lock), Failure> {
    let open = || -> io::Result<(Dir, Lock)> {
        let dir = Dir::open(path)?;
        let lock = dir.lock()?;
        Ok((dir, lock))
    };
    open().map_err(|error| {
        let shown = path.display();
        Failure::Refused(match error.kind() {
            io::ErrorKind::WouldBlock => {
                format!(
                    "data directory {shown} is in use by another process: stop it, or use \
                    another --datadir"
                )
            }
            _ if files::is_read_only(&error) => format!(
                "data directory {shown} is not writable ({error}): make it writable for this \
                 user, or use another --datadir"
            ),
            _ if path.exists() && !path.is_dir() => {
                format!("data directory {shown} is a file: use another --datadir")
            }
            _ => format!("data directory {shown} cannot be used: {error}"),
        })
    })
}

/// Resolves at a signal to stop. Listens from now on: a signal before the first await is not lost.
pub(crate) async fn stop_signal() -> Pin<Box<dyn Future<Output = Shutdown> + Send>> {
    let mut stop = Box::pin(signal::shutdown());
    match futures::poll!(stop.as_mut()) {
        Poll::Ready(shutdown) => Box::pin(std::future::ready(shutdown)),
        Poll::Pending => stop,
    }
}

/// Runs `stopping`; another signal meanwhile ends the process at once.
pub(crate) async fn unless_forced<T>(stopping: impl Future<Output = T>) -> T {
    let once_more = async {
        // `timeout`, npm and others send a signal twice at once.
        time::sleep(REPEATED_SIGNAL).await;
        signal::shutdown().await
    };
    alys_runtime::select! {
        stopped = stopping => stopped,
        _ = once_more => {
            eprintln!("forced to stop; the chain on disk is complete up to the last block");
            std::process::exit(130)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn valid_commands_are_accepted() {
        for line in [
            "alys dev",
            "alys dev --validators 1 --slot-ms 1000 --datadir d --http-port 0 --json --fork \
             shanghai",
            "alys dev --metrics-addr 127.0.0.1:0",
            "alys node --config alys.toml --listen 127.0.0.1:0 --log-filter debug",
            "alys node --config alys.toml --metrics-addr 127.0.0.1:9464",
            "alys node --config alys.toml --rpc-addr 127.0.0.1:9545",
            "alys status --datadir d",
            "alys admin confirm-clock --datadir d --rpc-addr 127.0.0.1:9545",
            "alys --log-format json node --config alys.toml",
            "alys keys new --datadir d --password-file f --scrypt-n 2",
            "alys keys show --datadir d",
            "alys genesis new --out d --authorities-file a.toml --chain-id 7 --fault-model crash \
             --start-in 60",
            "alys mine explain - --chain-id 98 --bits 1d00ffff --json",
            "alys mine explain @proof.hex --commitment \
             0000000000000000000000000000000000000000000000000000000000000001",
            "alys mine dev",
            "alys mine dev --url http://127.0.0.1:3000 --threads 2 --rate 500 --user u \
             --password-file f --address 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "alys dev --no-mining --mining-addr 127.0.0.1:0",
            "alys node --config alys.toml --mining-addr 0.0.0.0:3000 --mining-allow-remote \
             --mining-user u --mining-password-file f --mining-fee-address \
             0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "alys config example",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }

    #[test]
    fn mistakes_are_refused_with_exit_code_2() {
        for (line, expected) in [
            ("alys", "Usage"),
            ("alys nod", "unrecognized subcommand"),
            ("alys node", "--config"),
            ("alys dev --validators 0", "1..=15"),
            ("alys dev --validators 16", "1..=15"),
            ("alys dev --slot-ms 10", "1000"),
            ("alys dev --chain-id 0", "1.."),
            (
                "alys genesis new --out d --authorities-file a --chain-id 0",
                "1..",
            ),
            ("alys node --config f --listen here", "is not ip:port"),
            ("alys node --config f --metrics-addr :9", "is not ip:port"),
            ("alys admin confirm-clock", "--datadir"),
            ("alys mine explain", "<HEX>"),
            ("alys mine dev --threads 0", "1..=64"),
            ("alys mine dev --rate 0", "1.."),
            ("alys mine dev --address bc1q", "is not an EVM address"),
            (
                "alys mine dev --url 127.0.0.1:3000",
                "http://127.0.0.1:3000",
            ),
            ("alys mine dev --user u", "--password-file"),
            ("alys mine explain 00 --bits 1d80ffff", "negative target"),
            (
                "alys mine explain 00 --commitment 00",
                "expected 64 hex digits",
            ),
            (
                "alys node --config f --execution-url https://1.2.3.4",
                "only http://",
            ),
            ("alys genesis new --out d --chain-id 7", "--authority"),
            (
                "alys genesis new --out d --chain-id 7 --authority a:b:c",
                "public key",
            ),
            (
                "alys genesis new --out d --chain-id 7 --authorities-file a --fund x",
                "ADDRESS=ETHER",
            ),
            (
                "alys genesis new --out d --chain-id 7 --authorities-file a --fault-model x",
                "byzantine",
            ),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert!(error.to_string().contains(expected), "{line}: {error}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_datadir_that_cannot_be_used_is_refused_with_the_reason() {
        // Paths of the command line are not on the simulated disk.
        if alys_runtime::is_simulated() {
            return;
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("data");
        let refusal = |path: &Path| match open_locked(path) {
            Err(Failure::Refused(text)) => text,
            other => panic!("{other:?}"),
        };
        let held = open_locked(&path).expect("an empty directory");
        assert!(refusal(&path).contains("in use by another process"));
        drop(held);
        assert!(open_locked(&path).is_ok());
        let file = path.join(alys_runtime::disk::LOCK_FILE);
        assert!(refusal(&file).contains("is a file"));
        // Not writable, not even for root.
        assert!(refusal(Path::new("/proc/alys")).contains("cannot be used"));
    }

    #[test]
    fn errors_are_one_line_without_repetitions() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner: {0}")]
        struct Inner(#[source] Innermost);
        #[derive(Debug, thiserror::Error)]
        #[error("inner\nmost")]
        struct Innermost;
        assert_eq!(
            one_line(&Outer(Inner(Innermost))),
            "outer: inner: inner most"
        );
    }
}
