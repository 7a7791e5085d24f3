//! The configuration file of `alys node`: TOML, checked as a whole before anything starts.
//!
//! Guarantees that an error about an unknown word, a bad value or a contradiction names file and
//! line, and that a [`Config`] leaves no choice open. Paths are relative to the file. Command line
//! and environment override it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alys_integrations::http::{Access, Endpoint, JwtSecret};
use alys_net::PeerAddr;
use alys_storage::Engine;
use alys_types::Address;
use serde::{Deserialize, Deserializer};

use crate::files::{self, FileError};
use crate::keys;
use crate::mining::DEFAULT_PORT;
use crate::node::ExecutionEndpoint;
use crate::telemetry::LogFormat;
use crate::toml_text::{self, TomlError};

/// Most bootnodes: a federation of 15 with three addresses each.
const MAX_BOOTNODES: usize = 64;

/// The output of `alys config example`: all fields with comments and defaults.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name in logs.
    pub name: String,
    pub role: Role,
    /// Path of the chain spec.
    pub chain: PathBuf,
    pub execution_genesis: PathBuf,
    pub datadir: PathBuf,
    /// Listen address for peers.
    pub listen: SocketAddr,
    /// Peers to stay connected to.
    pub bootnodes: Vec<String>,
    /// Storage engine of chain and embedded execution client.
    pub storage: Engine,
    pub execution: Execution,
    /// Listen address of the metrics server; `None` for no server.
    pub metrics_addr: Option<SocketAddr>,
    /// Listen address of the operator's JSON-RPC.
    pub rpc_addr: SocketAddr,
    /// The JSON-RPC of miners; `None` for no such port.
    pub mining: Option<Mining>,
    /// Address of miners who name none; `None` for that of the authority.
    pub fee_address: Option<Address>,
    pub log: Log,
}

/// The JSON-RPC of miners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mining {
    pub addr: SocketAddr,
    /// User and the file with the password, asked of every caller.
    pub login: Option<(String, PathBuf)>,
    /// Names under which miners reach the port.
    pub hosts: Vec<String>,
}

/// Part of the node in the federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Signs with a key of the federation.
    Validator {
        /// The encrypted key.
        keystore: PathBuf,
        /// `None`: from the environment or a prompt.
        password_file: Option<PathBuf>,
    },
    /// Follows certificates.
    Full,
}

/// The execution client. A configuration has the path of the secret's file, a host the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution<Secret = PathBuf> {
    /// The embedded client, started and stopped with the node.
    Embedded {
        /// JSON-RPC for wallets; `None` for no such port.
        http: Option<SocketAddr>,
        /// The Engine API. Port 0 picks a free one.
        engine: SocketAddr,
        /// Web pages that may call the JSON-RPC.
        access: Access,
        /// `None`: a random secret.
        secret: Option<Secret>,
    },
    /// Another process.
    Remote(ExecutionEndpoint<Secret>),
}

/// Format and filter of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    pub format: Option<LogFormat>,
    /// As in `RUST_LOG`.
    pub filter: Option<String>,
}

/// Values of the command line and the environment, in place of those in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub name: Option<String>,
    pub datadir: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    /// Replace those of the file unless empty.
    pub bootnodes: Vec<String>,
    /// Replaces the execution client of the file, with its `pool_url`.
    pub execution_url: Option<Endpoint>,
    pub pool_url: Option<Endpoint>,
    pub jwt_secret: Option<PathBuf>,
    pub password_file: Option<PathBuf>,
    pub metrics_addr: Option<SocketAddr>,
    pub rpc_addr: Option<SocketAddr>,
    pub mining: MiningOverrides,
}

/// Values in place of those of `[mining]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MiningOverrides {
    /// Enables the port.
    pub addr: Option<SocketAddr>,
    pub allow_remote: bool,
    pub fee_address: Option<Address>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// Reason for which a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration: {0}; `alys config example` prints one to start from")]
    File(#[from] FileError),
    #[error("{0}")]
    Toml(#[from] TomlError),
    /// Two fields contradict each other, or one is missing.
    #[error("{file}: {field}: {problem}")]
    Field {
        file: String,
        field: &'static str,
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "default_name")]
    name: String,
    #[serde(default)]
    role: RoleName,
    #[serde(default = "default_chain")]
    chain: PathBuf,
    #[serde(default = "default_execution_genesis")]
    execution_genesis: PathBuf,
    datadir: PathBuf,
    #[serde(default = "default_listen", deserialize_with = "address")]
    listen: SocketAddr,
    #[serde(default, deserialize_with = "peers")]
    bootnodes: Vec<String>,
    #[serde(default)]
    storage: Engine,
    keystore: Option<PathBuf>,
    password_file: Option<PathBuf>,
    execution: ExecutionTable,
    #[serde(default, deserialize_with = "some_address")]
    metrics_addr: Option<SocketAddr>,
    #[serde(default = "any_port", deserialize_with = "address")]
    rpc_addr: SocketAddr,
    #[serde(default)]
    mining: MiningTable,
    #[serde(default)]
    log: LogTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MiningTable {
    enabled: bool,
    #[serde(deserialize_with = "address")]
    addr: SocketAddr,
    allow_remote: bool,
    #[serde(deserialize_with = "evm_address")]
    fee_address: Option<Address>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    hosts: Vec<String>,
}

impl Default for MiningTable {
    fn default() -> MiningTable {
        MiningTable {
            enabled: false,
            addr: SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)),
            allow_remote: false,
            fee_address: None,
            user: None,
            password_file: None,
            hosts: Vec::new(),
        }
    }
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    #[default]
    Validator,
    Full,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecutionTable {
    embedded: Option<EmbeddedTable>,
    #[serde(default, deserialize_with = "url")]
    url: Option<Endpoint>,
    jwt_secret: Option<PathBuf>,
    #[serde(default, deserialize_with = "url")]
    pool_url: Option<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedTable {
    #[serde(default, deserialize_with = "some_address")]
    http: Option<SocketAddr>,
    #[serde(default = "any_port", deserialize_with = "address")]
    engine: SocketAddr,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    origins: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LogTable {
    format: Option<LogFormat>,
    filter: Option<String>,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn load(path: &Path, overrides: Overrides) -> Result<Config, ConfigError> {
        let text = files::read_text(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&path.display().to_string(), &text, base, overrides)
    }

    /// Checks the text of a file whose paths are relative to `base`.
    ///
    /// # Errors
    /// [`ConfigError::Toml`] and [`ConfigError::Field`].
    pub fn parse(
        file: &str,
        text: &str,
        base: &Path,
        overrides: Overrides,
    ) -> Result<Config, ConfigError> {
        let read: File = toml_text::read(file, text)?;
        Self::check(read, base, overrides).map_err(|(field, problem)| ConfigError::Field {
            file: file.to_owned(),
            field,
            problem,
        })
    }

    fn check(read: File, base: &Path, overrides: Overrides) -> Result<Config, Problem> {
        let ExecutionTable {
            embedded,
            url,
            jwt_secret,
            pool_url,
        } = read.execution;
        let own_secret = jwt_secret.map(|secret| base.join(secret));
        let jwt_secret = overrides.jwt_secret.or(own_secret);
        // The pool of the file belongs to the client of the file.
        let (embedded, url, own_pool) = match overrides.execution_url {
            Some(url) => (None, Some(url), None),
            None => (embedded, url, pool_url),
        };
        let pool_url = overrides.pool_url.or(own_pool);
        let execution = Execution::check(embedded, url, jwt_secret, pool_url)?;
        let datadir = overrides.datadir.unwrap_or_else(|| base.join(read.datadir));
        let fee_address = overrides.mining.fee_address.or(read.mining.fee_address);
        let mining = Mining::check(read.mining, overrides.mining, base)?;
        let keystore = read.keystore.map(|keystore| base.join(keystore));
        let own_file = read.password_file.map(|password| base.join(password));
        let password_file = overrides.password_file.or(own_file);
        let bootnodes = if overrides.bootnodes.is_empty() {
            read.bootnodes
        } else {
            overrides.bootnodes
        };
        if bootnodes.len() > MAX_BOOTNODES {
            let problem = format!("at most {MAX_BOOTNODES}, found {}", bootnodes.len());
            return Err(("bootnodes", problem));
        }
        Ok(Config {
            name: overrides.name.unwrap_or(read.name),
            role: Role::check(read.role, keystore, password_file, &datadir)?,
            chain: base.join(read.chain),
            execution_genesis: base.join(read.execution_genesis),
            datadir,
            listen: overrides.listen.unwrap_or(read.listen),
            bootnodes,
            storage: read.storage,
            execution,
            metrics_addr: overrides.metrics_addr.or(read.metrics_addr),
            rpc_addr: overrides.rpc_addr.unwrap_or(read.rpc_addr),
            mining,
            fee_address,
            log: Log {
                format: read.log.format,
                filter: read.log.filter,
            },
        })
    }
}

/// A field and its mistake.
type Problem = (&'static str, String);

fn problem<T>(field: &'static str, problem: &str) -> Result<T, Problem> {
    Err((field, problem.to_owned()))
}

impl Role {
    fn check(
        name: RoleName,
        keystore: Option<PathBuf>,
        password_file: Option<PathBuf>,
        datadir: &Path,
    ) -> Result<Role, Problem> {
        match name {
            RoleName::Validator => Ok(Role::Validator {
                keystore: keystore.unwrap_or_else(|| datadir.join(keys::KEYSTORE)),
                password_file,
            }),
            RoleName::Full if keystore.is_some() => problem(
                "keystore",
                "a full node signs nothing; remove it, or set role = \"validator\"",
            ),
            RoleName::Full => Ok(Role::Full),
        }
    }
}

impl Mining {
    /// The port, if it is enabled. Any program that reaches it can take work and make the node
    /// check proofs, so that an address of the network needs a decision.
    fn check(
        table: MiningTable,
        overrides: MiningOverrides,
        base: &Path,
    ) -> Result<Option<Mining>, Problem> {
        if !table.enabled && overrides.addr.is_none() {
            return Ok(None);
        }
        let addr = overrides.addr.unwrap_or(table.addr);
        if !addr.ip().is_loopback() && !table.allow_remote && !overrides.allow_remote {
            let problem = format!(
                "{addr} is reached from other machines: set allow_remote = true, or give \
                 --mining-allow-remote, if that is intended, with user and password_file unless \
                 a firewall admits your miners only; for this machine alone use 127.0.0.1:{}",
                addr.port()
            );
            return Err(("mining.addr", problem));
        }
        let own_file = table.password_file.map(|file| base.join(file));
        let user = overrides.user.or(table.user);
        let password_file = overrides.password_file.or(own_file);
        let login = match (user, password_file) {
            (Some(user), Some(file)) => Some((user, file)),
            (None, None) => None,
            (Some(_), None) => {
                return problem(
                    "mining.password_file",
                    "missing: the file with the password of mining.user",
                );
            }
            (None, Some(_)) => {
                return problem(
                    "mining.user",
                    "missing: the user whose password is in mining.password_file",
                );
            }
        };
        Ok(Some(Mining {
            addr,
            login,
            hosts: table.hosts,
        }))
    }
}

impl Execution {
    /// Replaces the path of the secret by its content.
    ///
    /// # Errors
    /// That of `read`.
    pub fn read_secret<E>(
        self,
        read: impl FnOnce(&Path) -> Result<JwtSecret, E>,
    ) -> Result<Execution<JwtSecret>, E> {
        Ok(match self {
            Self::Embedded {
                http,
                engine,
                access,
                secret,
            } => Execution::Embedded {
                http,
                engine,
                access,
                secret: secret.as_deref().map(read).transpose()?,
            },
            Self::Remote(ExecutionEndpoint { url, secret, pool }) => {
                let secret = read(&secret)?;
                Execution::Remote(ExecutionEndpoint { url, secret, pool })
            }
        })
    }

    fn check(
        embedded: Option<EmbeddedTable>,
        url: Option<Endpoint>,
        jwt_secret: Option<PathBuf>,
        pool: Option<Endpoint>,
    ) -> Result<Execution, Problem> {
        if embedded.is_some() && pool.is_some() {
            return problem(
                "execution.pool_url",
                "the embedded execution client needs none; remove it",
            );
        }
        match (embedded, url, jwt_secret) {
            (Some(table), None, secret) => Ok(Execution::Embedded {
                http: table.http,
                engine: table.engine,
                access: Access {
                    hosts: table.hosts,
                    origins: table.origins,
                },
                secret,
            }),
            (None, Some(url), Some(secret)) => {
                Ok(Execution::Remote(ExecutionEndpoint { url, secret, pool }))
            }
            (None, Some(_), None) => problem(
                "execution.jwt_secret",
                "missing: the path of the file with the secret of the execution client",
            ),
            (Some(_), Some(_), _) => problem(
                "execution",
                "it has both embedded and url; the node uses one execution client",
            ),
            (None, None, _) => problem(
                "execution",
                "give embedded = { http = \"127.0.0.1:8545\" }, or url and jwt_secret of an \
                 execution client",
            ),
        }
    }
}

fn default_name() -> String {
    "alys".to_owned()
}

fn default_chain() -> PathBuf {
    crate::genesis::CHAIN_FILE.into()
}

fn default_execution_genesis() -> PathBuf {
    crate::genesis::EXECUTION_FILE.into()
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 30_333))
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Parses the EVM address of a fee.
///
/// # Errors
/// A sentence with an example.
pub fn parse_fee_address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not an EVM address, for example \
             0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        )
    })
}

/// Parses `ip:port`.
///
/// # Errors
/// A sentence with an example.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not ip:port, for example 127.0.0.1:8545"))
}

/// Checks the address of a bootnode. It stays text, because the network parses it again.
///
/// # Errors
/// A sentence about the accepted forms.
pub fn parse_peer(text: &str) -> Result<String, String> {
    match text.parse::<PeerAddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses the URL of an execution client.
///
/// # Errors
/// A sentence with an example.
pub fn parse_url(text: &str) -> Result<Endpoint, String> {
    text.parse()
        .map_err(|error| format!("{error}; for example http://127.0.0.1:8551"))
}

/// Parses the URL of a node's JSON-RPC of miners.
///
/// # Errors
/// A sentence with an example.
pub fn parse_mining_url(text: &str) -> Result<Endpoint, String> {
    text.parse()
        .map_err(|error| format!("{error}; for example http://127.0.0.1:{DEFAULT_PORT}"))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn some_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

fn evm_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_fee_address(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn peers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| parse_peer(text).map_err(serde::de::Error::custom))
        .collect()
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Endpoint>, D::Error> {
    parse_url(&String::deserialize(deserializer)?)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
